"""brainmap features maximize, metamers, saturation, compare-patterns."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn

from brainmap.features import (
    Checkpoint,
    MaximizationSettings,
    build_network,
    load_sounds,
    maximize_activation,
    save_checkpoint,
)
from brainmap.features.maximization.decoder import DecoderDescription, SpeechDecoder, save_decoder
from brainmap.features.representations.files import get_stored_network, open_maximizations, save_maximization
from tests.features.networks.folders import make_folder

WORDS = ("cat", "dog", "tree", "yes")


@pytest.fixture
def given(tiny_inputs):
    return ("--checkpoint", tiny_inputs.folder / "net.safetensors", "--sounds", tiny_inputs.folder / "stimuli.tsv")


def test_presets_and_what_is_said_beside_them(given, tmp_path, brainmap_command):
    wav, figure = tmp_path / "wav", tmp_path / "a.png"
    answer = brainmap_command(
        "features",
        "maximize",
        *given,
        "--preset",
        "source",
        "--steps",
        2,
        "--lp",
        0.5,
        "--units",
        "dog",
        "--judges",
        "none",
        "--out",
        tmp_path / "a.zarr",
        "--wav",
        wav,
        "--figure",
        figure,
    )
    assert answer.code == 0, answer.err
    said = json.loads((wav / "output_quality.json").read_text())["Parameters"]
    assert (said["parameterization"], said["step_size"], said["steps"], said["lp"]) == ("pixels", 2.0, 2, 0.5)
    assert figure.read_bytes().startswith(b"\x89PNG")
    wrong = brainmap_command("features", "maximize", *given, "--lp-power", 0.5, "--out", tmp_path / "b.zarr")
    assert wrong.code == 2
    assert "lp_power" in wrong.err


def test_direction_from_conditions(given, tmp_path, brainmap_command):
    out = tmp_path / "a.zarr"
    words = ("features", "maximize", *given, "--layer", "conv2", "--steps", 2, "--out", out)
    assert brainmap_command(*words, "--toward", "dog", "--away", "yes").code == 0
    assert open_maximizations(out)["conv2"].labels == ("dog-yes",)
    assert "toward" in brainmap_command(*words, "--away", "yes", "--overwrite").err
    assert "got 'dogg'; did you mean 'dog'?" in brainmap_command(*words, "--toward", "dogg", "--overwrite").err


def test_decoder_of_another_length_is_refused_in_one_line(given, tmp_path, brainmap_command):
    answer = brainmap_command("features", "maximize", *given, "--decoder", "words", "--out", tmp_path / "a.zarr")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "(1, 16000)" in answer.err
    assert "(1, 2400)" in answer.err


def test_metamers_leave_sounds_table_and_picture(given, tmp_path, brainmap_command):
    wav, figure = tmp_path / "wav", tmp_path / "m.png"
    words = ("features", "metamers", *given, "--layer", "conv1", "--steps", 2, "--out", tmp_path / "m.zarr")
    answer = brainmap_command(*words, "--wav", wav, "--figure", figure, "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    table = pd.read_csv(wav / "conv1_metamers.tsv", sep="\t")
    assert [row["item"] for row in rows] == table["item"].tolist()
    assert soundfile.info(wav / f"conv1_{rows[0]['item']}_metamer.wav").frames == 2400
    assert figure.stat().st_size > 5000
    again = brainmap_command(*words)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert "expected ids or rows of the 8 sounds" in brainmap_command(*words, "--items", "nobody", "--overwrite").err


def test_saturation_is_a_picture_and_numbers(given, tmp_path, brainmap_command):
    figure = tmp_path / "s.png"
    answer = brainmap_command(
        "features", "saturation", *given, "--units", "dog", "--steps", 3, "--figure", figure, "--json"
    )
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)[0]["class_name"] == "dog"
    assert figure.stat().st_size > 5000


@pytest.mark.slow
def test_patterns_of_two_stores_are_compared(given, tmp_path, brainmap_command):
    stores = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    words = ("features", "maximize", *given, "--steps", 1, "--judges", "none")
    for seed, store in enumerate(stores):
        assert brainmap_command(*words, "--seed", seed, "--out", store).code == 0
    figure, table = tmp_path / "c.png", tmp_path / "c.tsv"
    answer = brainmap_command("features", "compare-patterns", *stores, "--figure", figure, "--table", table, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["pairs"][0]["one"] == "a"
    assert len(found["patterns"]) == len(pd.read_csv(table, sep="\t"))
    assert np.isfinite(found["pairs"][0]["same_class"])
    assert figure.stat().st_size > 5000
    named = brainmap_command(*words, "--name", "other", "--out", stores[1], "--overwrite")
    assert named.code == 0, named.err
    pairs = json.loads(brainmap_command("features", "compare-patterns", *stores, "--json").out)["pairs"]
    assert (pairs[0]["one"], pairs[0]["other"]) == ("net", "other")  # two networks go by their names
    alone = brainmap_command("features", "compare-patterns", stores[0])
    assert alone.code == 2
    assert "at least two networks" in alone.err


def test_patterns_are_judged_by_named_networks(given, tiny_inputs, tmp_path, brainmap_command):
    other = tmp_path / "other.safetensors"
    torch.manual_seed(5)
    net = build_network("ch32", n_classes=len(WORDS), n_samples=2_400)
    save_checkpoint(net, other, Checkpoint(architecture="ch32", classes=WORDS, n_samples=2_400))
    words = ("features", "maximize", *given, "--steps", 1, "--units", "dog,cat", "--out", tmp_path / "a.zarr")
    mine = tiny_inputs.folder / "net.safetensors"
    answer = brainmap_command(*words, "--judges", f"{mine},{other}", "--wav", tmp_path / "wav")
    assert answer.code == 0, answer.err
    assert "'net' took part in the ascent and cannot judge" in answer.out
    table = pd.read_csv(tmp_path / "wav" / "output_quality.tsv", sep="\t", keep_default_na=False)
    assert set(table["transfer"]) <= {0, 1}
    assert table[["random_transfer", "noise_transfer", "best_random"]].notna().all(axis=None)
    sidecar = json.loads((tmp_path / "wav" / "output_quality.json").read_text())
    assert "took no part in the ascent" in sidecar["Columns"]["transfer"] if "Columns" in sidecar else True
    for given_too, said in (
        (("--layer", "conv1", "--judges", str(other)), "patterns of classes"),
        (("--judges", str(mine)), "no network is left"),
        (("--preset", "source", "--prior", "audio"), "leave one of them out"),
        (("--prior", "audio", "--decoder", "words"), "takes no decoder"),
    ):
        wrong = brainmap_command(*words, *given_too, "--overwrite")
        assert wrong.code == 2
        assert said in wrong.err


def test_priors_are_compared_by_one_command(given, tiny_inputs, tmp_path, brainmap_command):
    other = tmp_path / "other.safetensors"
    torch.manual_seed(5)
    net = build_network("ch32", n_classes=len(WORDS), n_samples=2_400)
    save_checkpoint(net, other, Checkpoint(architecture="ch32", classes=WORDS, n_samples=2_400))
    words = ("features", "compare-priors", *given, "--judges", other, "--steps", 1, "--classes", "dog,cat")
    answer = brainmap_command(
        *words, "--decoder", "none", "--out", tmp_path / "p.tsv", "--figure", tmp_path / "p.png", "--json"
    )
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    assert list(table["pattern"]) == [row["pattern"] for row in json.loads(answer.out)]
    assert {"other", "transfer", "voiced"} <= set(table.columns)
    assert (tmp_path / "p.png").stat().st_size > 5000
    wrong = brainmap_command(*words, "--out", tmp_path / "q.tsv")
    assert "give a decoder of that rate and length" in wrong.err


def test_the_mean_of_two_networks_is_climbed_and_a_third_judges(given, tmp_path, brainmap_command):
    for seed, name in ((5, "also"), (6, "judge"), (7, "other")):
        torch.manual_seed(seed)
        classes = (*WORDS[1:], WORDS[0]) if name == "also" else WORDS if name == "judge" else ("a", "b", "c", "d")
        net = build_network("ch32", n_classes=len(WORDS), n_samples=2_400)
        about = Checkpoint(architecture="ch32", classes=classes, n_samples=2_400)
        save_checkpoint(net, tmp_path / f"{name}.safetensors", about)
    words = ("features", "maximize", *given, "--steps", 1, "--units", "dog", "--out", tmp_path / "a.zarr")
    judges = f"{tmp_path / 'judge.safetensors'},{tmp_path / 'also.safetensors'}"
    answer = brainmap_command(*words, "--also", tmp_path / "also.safetensors", "--judges", judges)
    assert answer.code == 0, answer.err
    assert "'also' took part in the ascent" in answer.out
    assert get_stored_network(tmp_path / "a.zarr", "am") == "net+also"
    wrong = brainmap_command(*words, "--also", tmp_path / "other.safetensors", "--overwrite")
    assert "networks of the same classes" in wrong.err


@pytest.mark.slow
def test_a_decoder_is_trained_on_a_folder(given, tmp_path, brainmap_command):
    rng = np.random.default_rng(0)
    for k in range(20):
        folder = tmp_path / "sounds" / ("low", "high")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{k}.wav", 0.1 * rng.standard_normal(2_400), 16_000)
    words = ("features", "train-decoder", tmp_path / "sounds", "--seconds", 0.15, "--steps", 2, "--out")
    answer = brainmap_command(*words, tmp_path / "d.safetensors", "--note", "noises")
    assert answer.code == 0, answer.err
    assert "trained on 18 sounds; on 2 others" in answer.out
    words = ("features", "maximize", *given, "--decoder", tmp_path / "d.safetensors", "--steps", 1, "--judges", "none")
    answer = brainmap_command(*words, "--units", "dog", "--out", tmp_path / "a.zarr")
    assert answer.code == 0, answer.err
    assert open_maximizations(tmp_path / "a.zarr")["output"].prior == "decoder"
    few = brainmap_command("features", "train-decoder", given[3], "--out", tmp_path / "e.safetensors")
    assert "at least 20 sounds" in few.err


def test_controversial_sounds_are_a_folder_of_stimuli(given, tmp_path, brainmap_command):
    torch.manual_seed(5)
    net = build_network("ch32", n_classes=len(WORDS), n_samples=2_400)
    other = tmp_path / "other.safetensors"
    save_checkpoint(net, other, Checkpoint(architecture="ch32", classes=WORDS, n_samples=2_400))
    words = ("features", "controversial", *given, "--other", other, "-n", 2, "--output", "dog")
    answer = brainmap_command(*words, "--out", tmp_path / "stimuli", "--json")
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "stimuli" / "stimuli.tsv", sep="\t")
    assert table["controversy"].is_monotonic_decreasing
    assert all((tmp_path / "stimuli" / name).is_file() for name in table["path"])
    again = brainmap_command(*words, "--out", tmp_path / "stimuli")
    assert "name another folder" in again.err


def test_controversial_sounds_can_be_synthesized(given, tmp_path, brainmap_command):
    torch.manual_seed(5)
    net = build_network("ch32", n_classes=len(WORDS), n_samples=2_400)
    other, decoder = tmp_path / "other.safetensors", tmp_path / "decoder.safetensors"
    save_checkpoint(net, other, Checkpoint(architecture="ch32", classes=WORDS, n_samples=2_400))
    save_decoder(SpeechDecoder(DecoderDescription(n_samples=2_400, n_latent=4, width=8, bands=8)), decoder)
    words = ("features", "controversial", *given, "--other", other, "--synthesize", "-n", 2)
    answer = brainmap_command(*words, "--decoder", decoder, "--draws", 6, "--steps", 3, "--out", tmp_path / "made")
    assert answer.code == 0, answer.err
    assert "2 sounds synthesized from 6 random ones" in answer.out
    table = pd.read_csv(tmp_path / "made" / "stimuli.tsv", sep="\t")
    assert table["origin"].tolist() == ["synthesized"] * 2
    assert (table["worst"] <= table["controversy"]).all()
    assert table["natural"].between(0, 1).all()
    heard = load_sounds(tmp_path / "made" / "stimuli.tsv", seconds=0.15, level="none")
    np.testing.assert_allclose(np.sqrt((heard.waveforms**2).mean(axis=(1, 2))), 0.05, rtol=0.01)
    refused = brainmap_command(*words, "--output", "dog", "--out", tmp_path / "again")
    assert "takes neither --output nor --per-condition" in refused.err


def test_patterns_by_a_second_prior_become_an_rdm(tmp_path, brainmap_command):
    net, store = build_network("ch32", n_classes=4, n_samples=4800).eval(), tmp_path / "a.zarr"
    decoder = nn.Sequential(nn.Linear(3, 4800), nn.Unflatten(1, (1, 4800)))
    for beside, by in ((False, {"decoder": decoder, "latent": 3}), (True, {})):
        settings = MaximizationSettings(steps=1, parameterization="decoder" if by else "auto")
        am = maximize_activation(net, settings=settings, length=4800, class_names=WORDS, **by)
        assert am.prior == ("audio" if beside else "decoder")
        save_maximization(am, store, beside=beside)
    words = ("rsa", "rdm", "--patterns", store, "--out", tmp_path / "a.h5")
    assert "name one" in brainmap_command(*words).err
    answer = brainmap_command(*words, "--layers", "output (audio prior)")
    assert answer.code == 0, answer.err
    assert (tmp_path / "a.h5").stat().st_size > 0


def test_a_weight_for_latents_needs_a_decoder(given, tmp_path, brainmap_command):
    words = ("features", "maximize", *given, "--latent-l2", 1, "--out", tmp_path / "a.zarr")
    answer = brainmap_command(*words)
    assert answer.code == 2
    assert "latent_l2: there is no decoder" in answer.err


def test_spectrograms_of_a_network_are_no_sounds(tmp_path, brainmap_command):
    words = [tmp_path / "words.tsv"]
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(0).standard_normal(8000) * 0.1, 16_000)
    words[0].write_text("stimulus_id\tcondition\tpath\none\tone\tone.wav\ntwo\ttwo\ttwo.wav\n")
    folder = make_folder(tmp_path, "whisper")
    given = ("--checkpoint", folder, "--sounds", words[0], "--layer", "conv2", "--units", "0", "--steps", 1)
    answer = brainmap_command("features", "maximize", *given, "--out", tmp_path / "a.zarr", "--wav", tmp_path / "wav")
    assert answer.code == 2
    assert "--wav: gradients of the network end at its own spectrograms" in answer.err
    assert not (tmp_path / "wav").exists()
