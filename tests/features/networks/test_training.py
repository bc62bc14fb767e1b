"""Training: the same seed the same weights, also after a kill; the best epoch; no shared speakers; augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.errors import BrainmapWarning, InputError, RunError
from brainmap.features.networks import training
from brainmap.features.networks.checkpoints import load_network, save_checkpoint
from brainmap.features.networks.description import load_checkpoint
from brainmap.features.networks.training import (
    TrainingSettings,
    evaluate_model,
    evaluate_network,
    train_network,
)
from brainmap.features.sounds.augmentation import Augmentation, augment, choose_augmentation
from brainmap.features.sounds.files import load_sounds, sounds_from_array
from brainmap.features.sounds.parts import split_sounds

RATE = 16_000
TINY = TrainingSettings(network="ch32", variant="do+bn", epochs=3, batch_size=4, seconds=0.15, learning_rate=5e-3)
PLAIN = Augmentation(
    speed=(1, 1),
    reverberation=0,
    equalizer=0,
    low_pass=(8_000, 8_000),
    high_pass=(1e-6, 1e-6),
    noise=0,
    gain=0,
    shift=False,
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two 'words' (a low and a high tone in noise) by eight speakers, with lists."""
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    t = np.arange(2_400) / RATE
    for word, hertz in (("low", 300.0), ("high", 2_000.0)):
        (folder / word).mkdir()
        for speaker in range(8):
            sound = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.8, 1.2) * t) + 0.05 * rng.standard_normal(2_400)
            soundfile.write(folder / word / f"s{speaker}_nohash_0.wav", sound, RATE)
    for part, speaker in (("validation", 6), ("testing", 7)):
        (folder / f"{part}_list.txt").write_text("".join(f"{w}/s{speaker}_nohash_0.wav\n" for w in ("low", "high")))
    return folder


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_network(path).state_dict())


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.fixture(scope="module")
def trained(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "a.safetensors"
    train_network(words, out, settings=TINY)
    return out


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    words: Path, trained: Path, tmp_path: Path
) -> None:
    torch.manual_seed(77)  # what torch's own state was does not matter
    state = torch.get_rng_state()
    train_network(words, tmp_path / "b.safetensors", settings=TINY)
    assert torch.equal(torch.get_rng_state(), state)
    train_network(words, tmp_path / "c.safetensors", settings=replace(TINY, seed=1))
    assert same(weights(trained), weights(tmp_path / "b.safetensors"))
    assert not same(weights(trained), weights(tmp_path / "c.safetensors"))


class Killed(BaseException):
    """Stands for a kill in mid-step."""


@pytest.mark.parametrize("dies_at", [2, 5])
def test_a_killed_training_goes_on_to_the_same_weights(
    words: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    out = tmp_path / "a.safetensors"
    steps = 0
    learning_rate = training.Training._compute_learning_rate

    def dies(self: training.Training) -> float:
        nonlocal steps
        steps += 1
        if steps == dies_at + 1:
            raise Killed
        return learning_rate(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "save_every", 2)
        patch.setattr(training.Training, "_compute_learning_rate", dies)
        with pytest.raises(Killed):
            train_network(words, out, settings=TINY)
        assert (tmp_path / "a.resume.pt").exists()
        assert not out.exists()
    seen = 0

    def counts(self: training.Training) -> float:
        nonlocal seen
        seen += 1
        return learning_rate(self)

    monkeypatch.setattr(training.Training, "_compute_learning_rate", counts)
    train_network(words, out, settings=TINY)
    assert seen == 9 - {2: 2, 5: 5}[dies_at]  # step 5 is the second of epoch 2, both saved
    assert same(weights(out), weights(trained))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_best_validation_epoch_is_kept(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation accuracy is made to be best in the second of three epochs; the weights must be those of its end."""
    seen: list[dict[str, torch.Tensor]] = []
    evaluate = training.evaluate_model

    def scripted(model: nn.Module, sounds: object, *args: object, **kwargs: object) -> training.Evaluation:
        found = evaluate(model, sounds, *args, **kwargs)  # type: ignore[arg-type]
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return replace(found, accuracy={1: 0.2, 2: 0.9, 3: 0.5}.get(len(seen), 0.0))

    monkeypatch.setattr(training, "evaluate_model", scripted)
    train_network(words, tmp_path / "a.safetensors", settings=TINY)
    assert same(weights(tmp_path / "a.safetensors"), seen[1])
    assert not same(seen[1], seen[2])
    about = load_checkpoint(tmp_path / "a.safetensors").training
    assert about is not None
    assert about["best_epoch"] == 2
    assert [h["validation_accuracy"] for h in about["history"]] == [0.2, 0.9, 0.5]


def test_training_learns_and_the_checkpoint_knows_how_it_was_fed(words: Path, tmp_path: Path) -> None:
    settings = replace(TINY, variant="bn", epochs=4, augmentation=None)
    found = train_network(words, tmp_path / "a.safetensors", settings=settings)
    stored = load_checkpoint(tmp_path / "a.safetensors")
    assert (stored.classes, stored.rate, stored.n_samples, stored.level) == (("high", "low"), RATE, 2_400, "rms")
    assert stored.training is not None
    assert stored.training["history"][-1]["loss"] < 0.5 * stored.training["history"][0]["loss"]
    again = evaluate_network(words, tmp_path / "a.safetensors", part="testing")
    assert (again.accuracy, again.n) == (found.accuracy, 2)
    assert stored.training["test_accuracy"] == found.accuracy


def test_kernel_dropout_and_activation_reach_the_network_and_its_file(words: Path, tmp_path: Path) -> None:
    settings = replace(TINY, epochs=1, kernel=9, dropout=0.2, activation="elu")
    run = training.Training(*training.read_parts(words, settings), settings, tmp_path / "a.safetensors")
    assert run.model.conv1.kernel_size == (9,)
    assert isinstance(run.model.act1, nn.ELU)
    assert run.model.dropout.p == 0.2
    run.finish()
    stored = load_checkpoint(tmp_path / "a.safetensors")
    assert (stored.kernel, stored.dropout, stored.activation) == (9, 0.2, "elu")
    model = load_network(tmp_path / "a.safetensors")
    assert (model.conv1.kernel_size, model.dropout.p, model.training) == ((9,), 0.2, False)


def test_a_training_goes_on_from_the_weights_of_a_checkpoint(words: Path, trained: Path, tmp_path: Path) -> None:
    """At a learning rate of nearly nothing its weights are those of the start."""
    slow = replace(TINY, epochs=1, learning_rate=1e-12, augmentation=None)
    train_network(words, tmp_path / "a.safetensors", settings=replace(slow, start_from=str(trained)))
    started = weights(tmp_path / "a.safetensors")
    for name, value in weights(trained).items():
        if not any(word in name for word in ("running", "num_batches")):  # of batch normalization, which go on
            torch.testing.assert_close(started[name], value, atol=1e-6, rtol=0)
    about = load_checkpoint(tmp_path / "a.safetensors").training
    assert about is not None
    assert about["start_from"] == str(trained)
    for more, said in [
        ({"network": "ch64"}, "architecture 'ch64'.*got 'ch32'"),
        ({"kernel": 7}, "kernel 7 .*got None"),
        ({"variant": "do"}, "batch normalization"),
    ]:
        with pytest.raises(InputError, match=said):
            train_network(words, tmp_path / "b.safetensors", settings=replace(slow, start_from=str(trained), **more))


def test_base_2d_trains_on_the_spectrogram_that_is_asked_for(words: Path, tmp_path: Path, brainmap_command) -> None:
    asked = "log-mel,mels=32,hop_ms=20.0,window_ms=40.0"
    out = tmp_path / "picture.safetensors"
    plain = ("--network", "base-2d", "--head", "gap", "--epochs", 1, "--augment", "none")
    answer = brainmap_command("train", words, "--out", out, *plain, "--input", asked)
    assert answer.code == 0, answer.err
    about = load_checkpoint(out)
    assert about.front_end.describe() == asked
    assert about.input_shape()[:2] == (1, 32)
    sounds = about.load_sounds(words)
    given = next(sounds.batches(2))
    assert given.shape[1:] == about.input_shape()
    with torch.no_grad():
        assert load_network(out)(torch.as_tensor(given)).shape == (2, len(about.classes))
    answer = brainmap_command(
        "train", words, "--out", tmp_path / "no.safetensors", "--input", asked, "--no-augmentation"
    )
    assert answer.code == 2
    assert "note: --no-augmentation is now called --augment=none" in answer.err
    assert "expected the input waveform for 'ch32'" in answer.err


def test_bad_beginnings_are_refused_before_any_training(words: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    for settings, said in [
        (replace(TINY, epochs=0), "expected epochs of 1 or more, .*got 0"),
        (replace(TINY, batch_size=0), "expected batch_size of .*got 0"),
        (replace(TINY, learning_rate=-1.0), "learning_rate"),
        (replace(TINY, seed=-1), "seed"),
        (replace(TINY, device="cuda:77"), "device"),
        (replace(TINY, network="ch23"), "did you mean 'ch32'"),
        (replace(TINY, seconds=0.05), "longer sounds"),
        (replace(TINY, variant="bn", dropout=0.5), "variant with dropout .*got 'bn'"),
        (replace(TINY, dropout=1.0), "dropout from 0 to below 1"),
        (replace(TINY, kernel=4), "odd kernel"),
    ]:
        with pytest.raises(InputError, match=said) as found:
            train_network(words, out, settings=settings)
        assert "\n" not in str(found.value)
    with pytest.raises(InputError, match="exists"):
        train_network(words, trained, settings=TINY)
    with pytest.raises(InputError, match="safetensors"):
        train_network(words, tmp_path / "a.pt", settings=TINY)
    assert not list(tmp_path.iterdir())


def test_a_word_that_only_one_part_has_is_refused(words: Path, tmp_path: Path) -> None:
    for word in ("low", "high", "rare"):
        (tmp_path / word).mkdir()
        for s in range(3):
            (tmp_path / word / f"s{s}_nohash_0.wav").write_bytes((words / "low" / "s0_nohash_0.wav").read_bytes())
    (tmp_path / "validation_list.txt").write_text("low/s1_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("".join(f"rare/s{s}_nohash_0.wav\n" for s in range(3)))
    with pytest.warns(BrainmapWarning, match="speakers"), pytest.raises(InputError, match=r"testing part.*'rare'"):
        train_network(tmp_path, tmp_path / "a.safetensors", settings=TINY)


def test_a_resume_file_of_another_training_or_damaged_is_refused(words: Path, tmp_path: Path) -> None:
    state = tmp_path / "a.resume.pt"
    torch.save({"key": "another"}, state)
    with pytest.raises(InputError, match="other settings"):
        train_network(words, tmp_path / "a.safetensors", settings=TINY)
    state.write_bytes(b"half a file")
    with pytest.raises(InputError, match="cannot be read"):
        train_network(words, tmp_path / "a.safetensors", settings=TINY)


def test_a_loss_that_is_not_finite_stops_the_run(words: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="lower the learning rate"):
        train_network(words, tmp_path / "a.safetensors", settings=replace(TINY, variant="plain", learning_rate=1e20))


def _table(folder: Path, names: list[str], **columns: list[str]) -> Path:
    for name in names:
        soundfile.write(folder / f"{name}.wav", np.full(200, 0.1), RATE)
    rows = {"stimulus_id": names, "condition": ["w"] * len(names), "path": [f"{n}.wav" for n in names], **columns}
    pd.DataFrame(rows).to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    return folder / "stimuli.tsv"


@pytest.mark.parametrize("column", [None, "speaker", "voice"])
def test_a_split_by_hash_puts_no_speaker_into_two_parts(tmp_path: Path, column: str | None) -> None:
    speakers = [f"p{i}" for i in range(60) for _ in range(4)]
    names = [f"{s}_nohash_{k}" if column is None else f"{k}{s}" for k, s in enumerate(speakers)]
    path = _table(tmp_path, names, **({} if column is None else {column: speakers}))
    parts = split_sounds(load_sounds(path), path)
    heard = {
        part: {i.split("_nohash_")[0] if column is None else "p" + i.split("p")[1] for i in sounds.items}
        for part, sounds in parts.items()
    }
    assert sum(len(s) for s in parts.values()) == 240
    assert sum(len(h) for h in heard.values()) == 60
    assert 0.6 < len(parts["training"]) / 240 < 0.95


def test_files_that_name_no_speaker_are_said(tmp_path: Path) -> None:
    path = _table(tmp_path, [f"x{i}" for i in range(60)])
    with pytest.warns(BrainmapWarning, match="who speaks"):
        split_sounds(load_sounds(path), path)


class _Calls(nn.Module):
    """Says of each sound the class its first sample names."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(x[:, 0, 0].long(), 3).float()


def test_accuracy_and_confusion_equal_a_hand_count() -> None:
    spoken = ["a", "a", "a", "b", "b"]
    called = [0, 0, 1, 1, 2]
    waves = np.zeros((5, 1, 4))
    waves[:, 0, 0] = called
    sounds = sounds_from_array(waves, rate=RATE, conditions=spoken)
    model = _Calls().train()
    found = evaluate_model(model, sounds, ("a", "b", "c"), batch_size=2)
    assert found.accuracy == 3 / 5
    assert found.n == 5
    wanted = pd.DataFrame([[2, 1, 0], [0, 1, 1], [0, 0, 0]], index=list("abc"), columns=list("abc"))
    np.testing.assert_array_equal(found.confusion.to_numpy(), wanted.to_numpy())
    assert list(found.confusion.index) == list(found.confusion.columns) == ["a", "b", "c"]
    assert model.training
    with pytest.raises(InputError, match=r"'b'.*does not know.*a, c"):
        evaluate_model(model, sounds, ("a", "c"))
    with pytest.raises(InputError, match=r"4 classes, got .3"):
        evaluate_model(model, sounds, ("a", "b", "c", "d"))


def test_evaluate_names_words_the_network_does_not_know(words: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "s0.wav").write_bytes((words / "low" / "s0_nohash_0.wav").read_bytes())
    with pytest.raises(InputError, match=r"'house'.*high, low"):
        evaluate_network(tmp_path, trained)
    with pytest.raises(InputError, match="part"):
        evaluate_network(words, trained, part="test")
    foreign = tmp_path / "f.pth"
    torch.save(load_network(trained).state_dict(), foreign)
    with pytest.raises(InputError, match="no brainmap metadata"):
        evaluate_network(words, foreign)


def tone(hertz: float, n: int = 8_000, pad: int = 8_000) -> NDArray[np.float32]:
    return np.concatenate([0.3 * np.sin(2 * np.pi * hertz * (np.arange(n) + 0.5) / RATE), np.zeros(pad)]).astype(
        np.float32
    )


def rms(sound: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


@pytest.mark.parametrize("seed", range(12))
def test_augmented_sounds_keep_length_and_are_finite_and_repeatable(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    sound = (0.05 * rng.standard_normal(int(rng.integers(200, 16_000)))).astype(np.float32)
    given = sound.copy()
    one, two = (augment(sound, rate=RATE, settings=Augmentation(), rng=np.random.default_rng(seed)) for _ in range(2))
    other = augment(sound, rate=RATE, settings=Augmentation(), rng=np.random.default_rng(seed + 1))
    assert one.shape == sound.shape
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(sound, given)
    assert not np.array_equal(one, other)


def test_nothing_to_do_leaves_the_sound_and_silence_and_clicks_survive() -> None:
    rng = np.random.default_rng(0)
    sound = tone(500)
    np.testing.assert_allclose(augment(sound, rate=RATE, settings=PLAIN, rng=rng)[:7_990], sound[:7_990], atol=2e-3)
    assert not augment(np.zeros(100, np.float32), rate=RATE, settings=Augmentation(), rng=rng).any()
    click = np.zeros(1_000, np.float32)
    click[500] = 0.5
    assert np.isfinite(augment(click, rate=RATE, settings=Augmentation(), rng=rng)).all()


def test_voices_change_only_where_they_are_asked_for_and_levels_by_12_db() -> None:
    sound = tone(500)
    other = replace(PLAIN, formants=(1.2, 1.2), pitch=(0.8, 0.8), durations=(0.75, 0.75))
    heard = augment(sound, rate=RATE, settings=other, rng=np.random.default_rng(0))
    sounding = np.flatnonzero(np.abs(heard) > 5e-3)
    assert sounding[-1] - sounding[0] == pytest.approx(0.75 * 8_000, rel=0.08)
    spectrum = np.abs(np.fft.rfft(heard[:5_000] * np.hanning(5_000), 64_000))
    assert spectrum.argmax() * RATE / 64_000 == pytest.approx(400, rel=0.02)
    assert choose_augmentation("none") is None
    assert choose_augmentation("channel") == Augmentation()
    voice = choose_augmentation("voice")
    assert voice is not None
    assert voice.gain == 12.0
    assert all(low < 0.9 < 1.1 < high for low, high in (voice.formants, voice.pitch, voice.durations))


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_moves_the_frequency_of_a_tone_and_its_length(factor: float) -> None:
    settings = replace(PLAIN, speed=(factor, factor))
    found = augment(tone(500), rate=RATE, settings=settings, rng=np.random.default_rng(0))
    sounding = np.flatnonzero(np.abs(found) > 1e-3)
    assert sounding[-1] + 1 == pytest.approx(8_000 / factor, abs=20)
    spectrum = np.abs(np.fft.rfft(found[:6_000] * np.hanning(6_000), 64_000))
    assert spectrum.argmax() * RATE / 64_000 == pytest.approx(500 * factor, abs=1)


def test_band_limits_remove_highs_and_lows() -> None:
    rng = np.random.default_rng(0)
    both = tone(1_000) + tone(7_000) + tone(60)

    def power(sound: NDArray[np.float32], hertz: float) -> float:
        spectrum = np.abs(np.fft.rfft(sound[:8_000] * np.hanning(8_000)))
        return float(spectrum[round(hertz / 2)])

    settings = replace(PLAIN, low_pass=(3_200, 3_200), high_pass=(350, 350))
    found = [augment(both, rate=RATE, settings=settings, rng=rng) for _ in range(12)]
    lows = [power(f, 60) / power(f, 1_000) for f in found]
    highs = [power(f, 7_000) / power(f, 1_000) for f in found]
    assert max(lows) < 0.06
    assert min(highs) < 0.01  # of half of the sounds
    assert max(highs) > 0.9
    assert 2 <= sum(h < 0.01 for h in highs) <= 10


@pytest.mark.parametrize("snr", [3.0, 20.0])
def test_noise_has_the_ratio_asked_for(snr: float) -> None:
    sound = tone(500)
    settings = replace(PLAIN, noise=1.0, snr=(snr, snr))
    for seed in range(4):
        found = augment(sound, rate=RATE, settings=settings, rng=np.random.default_rng(seed))
        noise = found - augment(sound, rate=RATE, settings=PLAIN, rng=np.random.default_rng(seed))
        assert 20 * np.log10(rms(sound[:8_000]) / rms(noise)) == pytest.approx(snr, abs=0.1)


def test_gain_stays_within_its_range_and_the_level_is_kept_without_it() -> None:
    sound = tone(500, pad=0)
    rng = np.random.default_rng(0)
    gains = [
        20 * np.log10(rms(augment(sound, rate=RATE, settings=replace(PLAIN, gain=6.0), rng=rng)) / rms(sound))
        for _ in range(40)
    ]
    assert -6.01 < min(gains) < -4
    assert 4 < max(gains) < 6.01
    shaped = replace(PLAIN, equalizer=8.0, reverberation=1.0, low_pass=(3_200, 8_000), high_pass=(40, 350))
    for _ in range(5):
        assert rms(augment(sound, rate=RATE, settings=shaped, rng=rng)) == pytest.approx(rms(sound), rel=1e-3)


def test_shift_moves_the_word_and_never_loses_any_of_it() -> None:
    sound = tone(500)
    rng = np.random.default_rng(0)
    starts = []
    for _ in range(60):
        found = augment(sound, rate=RATE, settings=replace(PLAIN, shift=True), rng=rng)
        sounding = np.flatnonzero(np.abs(found) > 5e-3)
        starts.append(sounding[0])
        assert sounding[-1] - sounding[0] > 7_900
        assert float(np.sum(found**2)) == pytest.approx(float(np.sum(sound**2)), rel=1e-2)
    assert min(starts) < 500
    assert max(starts) > 7_500


def test_a_room_rings_on_after_the_word() -> None:
    settings = replace(PLAIN, reverberation=1.0, reverberation_time=(0.5, 0.5))
    found = augment(tone(500), rate=RATE, settings=settings, rng=np.random.default_rng(0))
    after, later = rms(found[8_200:9_000]), rms(found[13_000:13_800])
    decay = 20 * np.log10(after / later)
    assert decay == pytest.approx(60 * (4_800 / RATE) / 0.5, abs=8)  # 60 dB in half a second


def test_a_saved_network_evaluates_as_the_network_itself(words: Path, trained: Path, tmp_path: Path) -> None:
    model = load_network(trained)
    stored = load_checkpoint(trained)
    path = save_checkpoint(model, tmp_path / "again.safetensors", stored)
    pd.testing.assert_frame_equal(evaluate_network(words, path).confusion, evaluate_network(words, trained).confusion)
