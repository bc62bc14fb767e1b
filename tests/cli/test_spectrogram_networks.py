"""A network on spectrograms goes through every command, and its maps and figures have frequency and time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from brainmap import features
from brainmap.features.representations.files import open_attributions, open_cams, open_maximizations

RATE = 16_000
SECONDS = 0.5


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Two 'words', a low tone early and a high tone late, by eight speakers."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    t = np.arange(int(SECONDS * RATE)) / RATE
    for word, hertz, onset in (("low", 400.0, 0.05), ("high", 3_000.0, 0.3)):
        (folder / word).mkdir()
        for speaker in range(8):
            gate = (t >= onset) & (t < onset + 0.15)
            tone = 0.3 * gate * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * t)
            sound = tone + 0.003 * rng.standard_normal(t.size)
            soundfile.write(folder / word / f"s{speaker}_nohash_0.wav", sound, RATE)
    for part, speaker in (("validation", 6), ("testing", 7)):
        (folder / f"{part}_list.txt").write_text("".join(f"{w}/s{speaker}_nohash_0.wav\n" for w in ("low", "high")))
    return folder


@pytest.fixture(scope="module")
def trained(tones, tmp_path_factory):
    """`base-2d` with a pooled head, trained on the tones; the checkpoint says how it is fed."""
    from brainmap.features.networks.training import TrainingSettings, train_network

    out = tmp_path_factory.mktemp("net") / "square.safetensors"
    settings = TrainingSettings(
        network="base-2d", variant="bn", head="gap", epochs=4, batch_size=4, seconds=SECONDS, augmentation=None
    )
    assert train_network(tones, out, settings=settings).accuracy == 1.0
    return out


@pytest.fixture
def given(trained, tones):
    return ("--checkpoint", trained, "--sounds", tones)


@pytest.mark.slow
def test_a_spectrogram_network_trains_and_evaluates_from_the_shell(tones, tmp_path, brainmap_command):
    out = tmp_path / "net.safetensors"
    words = ("train", tones, "--network", "base-2d", "--head", "gap", "--epochs", 1, "--batch-size", 4, "--out", out)
    answer = brainmap_command(*words)
    assert answer.code == 0, answer.err
    assert features.load_checkpoint(out).front_end.describe() == "log-mel"
    again = brainmap_command("evaluate", tones, "--checkpoint", out, "--json")
    assert json.loads(again.out)["n"] == 16


def test_what_a_command_feeds_is_the_front_end_of_the_sounds(given, trained, tones, tmp_path, brainmap_command):
    from brainmap.features.sounds.spectrogram import log_mel

    out = tmp_path / "a.zarr"
    assert brainmap_command("features", "activations", *given, "--layers", "conv2,output", "--out", out).code == 0
    model = features.load_network(trained)
    waves = features.load_checkpoint(trained).load_sounds(tones).waveforms
    with features.open_activations(out) as found, torch.no_grad():
        mine = model(torch.from_numpy(log_mel(waves)))
        torch.testing.assert_close(torch.tensor(found["output"][:]), mine, rtol=1e-4, atol=1e-4)


def test_occlusion_and_lime_find_planted_evidence_in_frequency_and_time(tones):
    """The logit is the power between 1 and 2 kHz from 0.1 to 0.2 s: no other window or segment may count."""
    sounds = features.load_sounds(
        tones, rate=RATE, seconds=SECONDS, front_end=features.read_front_end("log-mel,mels=32,hop_ms=10")
    ).take([0, 8])
    hertz = sounds.front_end.hertz(RATE)
    weight = np.zeros((2, 32, 50), np.float32)
    band = (hertz >= 1000) & (hertz < 2000)
    weight[0, band, 10:20], weight[1, band, 10:20] = 1.0, -1.0
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 50, 2, bias=False))
    model[1].weight.data = torch.from_numpy(weight.reshape(2, -1))
    given = {"classes": [0], "rng": np.random.default_rng(0)}
    found = features.attribute(model, sounds, method="occlusion", bands=[500, 1000, 2000, 4000], window_ms=100, **given)
    maps = found.maps[:, 0, 0]
    assert (maps[:, :, :5] == 0).all()
    assert (maps[:, :, 25:] == 0).all()  # windows of 10 frames, half a window apart
    assert (maps[:, ~band] == 0).all()
    assert (np.abs(maps[:, band, 10:20]) > 1).all()
    silent = sounds.front_end.compute(np.zeros((1, 1, 8000)), rate=RATE)
    wanted = (next(sounds.batches(2)) - silent)[:, 0][:, band, 10:20].sum(axis=(1, 2))
    place = found.windows.tolist().index([[int(band.argmax()), int(32 - band[::-1].argmax())], [10, 20]])
    np.testing.assert_allclose(found.effects[:, 0, place, 0], wanted, rtol=1e-4)
    lime = features.attribute(model, sounds, method="lime", segments=5, frequency_segments=4, samples=400, **given)
    strength = np.abs(lime.effects[:, 0, :, 0])
    overlap = [weight[0, low:high, start:stop].any() for (low, high), (start, stop) in lime.windows]
    assert strength[:, ~np.array(overlap)].max() < 0.05 * strength.max()
    assert (lime.fidelity > 0.99).all()


def test_a_figure_of_attributions_lies_over_the_spectrogram(given, tmp_path, brainmap_command):
    out, figure = tmp_path / "a.zarr", tmp_path / "a.png"
    words = (
        "features",
        "attribute",
        *given,
        "--method",
        "saliency,occlusion",
        "--bands",
        "octave",
        "--classes",
        "true",
    )
    answer = brainmap_command(*words, "--window-ms", 250, "--out", out, "--figure", figure)
    assert answer.code == 0, answer.err
    assert open_attributions(out, method="occlusion").attributions.maps.shape == (16, 1, 1, 64, 64)
    assert figure.stat().st_size > 10_000


def test_cam_and_its_figure_are_two_dimensional(given, tmp_path, brainmap_command):
    out, figure = tmp_path / "a.zarr", tmp_path / "cam.png"
    words = ("features", "cam", *given, "--method", "cam", "--layer", "pool5", "--out", out)
    answer = brainmap_command(*words, "--figure", figure)
    assert answer.code == 0, answer.err
    cams = open_cams(out).cams
    assert cams.maps.shape == (16, 2, 64, 64)
    assert figure.stat().st_size > 10_000


@pytest.mark.slow
def test_maximizing_patterns_are_pictures_and_become_sounds(given, trained, tmp_path, brainmap_command):
    out, wav, figure = tmp_path / "a.zarr", tmp_path / "wav", tmp_path / "am.png"
    answer = brainmap_command(
        "features",
        "maximize",
        *given,
        "--units",
        "low,high",
        "--steps",
        60,
        "--out",
        out,
        "--wav",
        wav,
        "--figure",
        figure,
    )
    assert answer.code == 0, answer.err
    kept = open_maximizations(out)["output"]
    assert kept.patterns.shape == (2, 1, 64, 64)
    assert kept.axes is not None
    assert kept.axes.front_end.describe() == "log-mel"
    assert (kept.quality["confidence"] > 0.9).all()
    heard = [soundfile.read(wav / f"output_{name}.wav") for name in ("low", "high")]
    assert [rate for _, rate in heard] == [RATE, RATE]
    model = features.load_network(trained)
    taken = kept.axes.front_end
    with torch.no_grad():
        for place, name in enumerate(kept.labels):  # what is heard drives its own class more than the other one does
            logits = torch.stack(
                [model(torch.from_numpy(taken.compute(w[None, None], rate=RATE)))[0] for w, _ in heard]
            )
            column = features.load_checkpoint(trained).classes.index(name)
            assert logits[place, column] > logits[1 - place, column]


@pytest.mark.parametrize(
    "words",
    [
        ("metamers", "--layer", "conv2", "--steps", 3, "--items", "low/s0_nohash_0", "--out", "m.zarr"),
        ("exemplars", "--layer", "conv3", "--units", "0,1"),
        ("filters",),
        ("neighbors", "--layers", "conv2,output", "--k", 3),
        ("tuning", "--layers", "conv2", "--per-step", 2, "--levels", 0),
        ("saturation", "--units", "low,high", "--steps", 3),
        ("localize", "--plant", 0.5, "--method", "grad-cam"),
        ("attention",),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.slow
def test_every_command_draws_the_network(words, given, tmp_path, monkeypatch, brainmap_command):
    monkeypatch.chdir(tmp_path)
    answer = brainmap_command("features", words[0], *given, *words[1:], "--figure", "a.png")
    assert answer.code == 0, answer.err
    assert (tmp_path / "a.png").stat().st_size > 5_000


def test_tones_find_the_bands_of_units(given, tmp_path, brainmap_command):
    answer = brainmap_command(
        "features", "tuning", *given, "--layers", "output", "--per-step", 3, "--levels", 0, "--json"
    )
    assert answer.code == 0, answer.err
    best = {row["unit"]: row["best_hz"] for row in json.loads(answer.out)}
    assert len(best) == 2


def test_exemplars_say_when_and_at_which_bands(given, tmp_path, brainmap_command):
    out = tmp_path / "a.tsv"
    answer = brainmap_command("features", "exemplars", *given, "--layer", "conv2", "--units", "0", "--out", out)
    assert answer.code == 0, answer.err
    table = out.read_text().splitlines()
    first = dict(zip(table[0].split("\t"), table[1].split("\t"), strict=True))
    band, frame = map(int, first["start"].split(","))
    assert float(first["start_s"]) == pytest.approx(frame / 128)
    assert -20 < band < 64


def test_a_picture_of_filters_is_the_weights_of_the_first_layer(trained, tones):
    model, sounds = features.load_network(trained), features.load_checkpoint(trained).load_sounds(tones)
    found = features.picture_filters(model, sounds)
    state = model.state_dict()
    gain = state["norm1.weight"] / torch.sqrt(state["norm1.running_var"] + 1e-5)
    wanted = state["conv1.weight"][:, 0] * gain[:, None, None]
    np.testing.assert_allclose(found.kernels, wanted.numpy(), rtol=1e-4, atol=1e-6)
    assert found.frame_rate == 128
    ripples = np.zeros((2, 8, 8))
    bands, frames = np.mgrid[:8, :8]
    ripples[0], ripples[1] = np.cos(2 * np.pi * (bands + frames) / 8), np.cos(2 * np.pi * (bands - frames) / 8)
    made = features.PictureFilters(layer="a", kernels=ripples, offsets=np.zeros(2), axes=None, frame_rate=128.0)
    assert made.table["rate_hz"].tolist() == [16, 16]
    assert made.table["scale"].tolist() == [0.125, 0.125]
    assert sorted(made.table["direction"]) == ["down", "up"]
