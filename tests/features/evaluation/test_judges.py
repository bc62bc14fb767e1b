"""Patterns judged by other networks, by real examples, and beside two baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.evaluation.judges import (
    NOISE_COLUMNS,
    Judge,
    judge_class_noise,
    judge_maximization,
    judge_patterns,
    load_judges,
    make_class_noise,
    measure_voiced,
)
from brainmap.features.evaluation.priors import compare_priors
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.networks.checkpoints import save_checkpoint
from brainmap.features.networks.description import Checkpoint
from brainmap.features.networks.refeeding import feed_waveforms
from brainmap.features.networks.zoo import build_network
from brainmap.features.sounds.files import Sounds, load_sounds, sounds_from_array

RATE = 16_000
N = 3_200


class Bands(nn.Module):
    """Two classes by hand: energy below, or above, a frequency [bins]."""

    def __init__(self, edge: int, swapped: bool = False) -> None:
        super().__init__()
        self.edge, self.swapped = edge, swapped
        self.register_buffer("known", torch.tensor([float(edge), float(swapped)]))

    def forward(self, sounds: Tensor) -> Tensor:
        power = torch.fft.rfft(sounds[:, 0]).abs().square()
        both = torch.stack([power[:, : self.edge].sum(1), power[:, self.edge :].sum(1)], 1)
        return (both.flip(1) if self.swapped else both) + 1e-9


def make_judge(name: str, model: nn.Module, classes: tuple[str, ...] = ("low", "high"), rate: int = RATE) -> Judge:
    length = round(N / RATE * rate)
    return Judge(
        name=name, model=model, checkpoint=Checkpoint(architecture="", classes=classes, rate=rate, n_samples=length)
    )


def tones(*hertz: float, rate: int = RATE, n: int = N) -> np.ndarray:
    time = np.arange(n) / rate
    return np.stack([0.1 * np.sin(2 * np.pi * f * time) for f in hertz])[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def real() -> Sounds:
    rng = np.random.default_rng(0)
    waves = np.concatenate([tones(150, 200, 250, 3000, 3500, 4000)]) + 0.001 * rng.standard_normal((6, 1, N))
    return sounds_from_array(waves.astype(np.float32), rate=RATE, conditions=["low"] * 3 + ["high"] * 3)


def test_a_judge_at_its_own_rate_hears_the_same_sound() -> None:
    edge = round(1000 * N / RATE)
    judges = [
        make_judge("good", Bands(edge)),
        make_judge("wrong", Bands(edge, swapped=True)),
        make_judge("slow", Bands(edge), rate=8_000),  # bins of the same width, as the length is the same in seconds
        make_judge("stranger", Bands(edge), classes=("up", "down")),
        make_judge("half", Bands(edge), classes=("low", "other")),
    ]
    found = judge_patterns(tones(200, 3000), ["low", "high"], rate=RATE, judges=judges)
    np.testing.assert_array_equal(found.recognized, [[1, 0, 1, np.nan, 1], [1, 0, 1, np.nan, np.nan]])
    np.testing.assert_allclose(found.transfer, [3 / 4, 2 / 3])
    assert np.isnan(found.real_correlation).all()
    with pytest.raises(InputError, match="know none of the classes 'x'"):
        judge_patterns(tones(200), ["x"], rate=RATE, judges=judges)


def test_waveforms_in_memory_are_fed_as_their_files_are(tmp_path) -> None:
    rng = np.random.default_rng(1)
    wave = (0.2 * rng.standard_normal((1, 1, 5_000))).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave[0, 0], 22_050, subtype="FLOAT")
    for about in (
        Checkpoint(architecture="ch32", level="rms", n_samples=2_000),
        Checkpoint(architecture="ch32", level="peak", n_samples=8_000, align="center"),
        Checkpoint(architecture="base-2d", level="none", n_samples=16_000),
    ):
        by_file = about.load_sounds(tmp_path / "a.wav")
        in_memory = feed_waveforms(wave, about, rate=22_050)
        np.testing.assert_allclose(in_memory.waveforms, by_file.waveforms, atol=1e-6)
        one, other = (next(iter(sounds.batches(1))) for sounds in (in_memory, by_file))
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_correlation_is_with_the_other_examples_of_the_class(real) -> None:
    from brainmap.features.sounds.files import RMS_LEVEL
    from brainmap.features.sounds.spectrogram import log_mel

    labels = list(real.conditions)
    found = judge_patterns(real.waveforms, labels, rate=RATE, judges=[], sounds=real, rows=np.arange(6))
    leveled = real.waveforms * (RMS_LEVEL / np.sqrt((real.waveforms**2).mean(axis=2, keepdims=True)))
    ears = log_mel(leveled, rate=RATE, n_mels=40).reshape(6, -1)
    expected = [
        np.corrcoef(ears[i], ears[[k for k in block if k != i]].mean(0))[0, 1]
        for block in ([0, 1, 2], [3, 4, 5])
        for i in block
    ]
    np.testing.assert_allclose(found.real_correlation, expected, atol=1e-3)  # 16 bits
    swapped = judge_patterns(real.waveforms, labels[::-1], rate=RATE, judges=[], sounds=real)
    assert (swapped.real_correlation < found.real_correlation).all()


def test_noise_of_a_class_has_its_spectrum(real) -> None:
    noise = make_class_noise(real, "high", (1, N), n=40, rng=np.random.default_rng(0))
    power = (np.abs(np.fft.rfft(noise[:, 0])) ** 2).mean(0)
    mine = (np.abs(np.fft.rfft(real.waveforms[3:, 0])) ** 2).mean(0)
    hertz = np.fft.rfftfreq(N, 1 / RATE)
    for low, high in ((0, 1000), (2500, 4500), (5000, 8000)):
        band = (hertz >= low) & (hertz < high)
        assert power[band].sum() / power.sum() == pytest.approx(mine[band].sum() / mine.sum(), abs=0.05)
    assert abs(np.corrcoef(noise[:, 0])[0, 1:].mean()) < 0.25  # noises differ in their phases
    with pytest.raises(InputError, match="no sound is of the condition 'mid'"):
        make_class_noise(real, "mid", (1, N), rng=np.random.default_rng(0))


def test_voiced_share_counts_sounding_frames() -> None:
    rng = np.random.default_rng(0)
    tone = tones(120, n=8_000)
    half = tone.copy()
    half[..., 4_000:] = 0.07 * rng.standard_normal(4_000)
    quiet = tone.copy()
    quiet[..., 4_000:] = 0
    shares = measure_voiced(np.concatenate([tone, half, quiet]), RATE)
    assert shares[0] > 0.95
    assert shares[1] == pytest.approx(0.5, abs=0.1)
    assert shares[2] > 0.9


def test_best_random_pattern_is_what_an_exhaustive_search_finds(real) -> None:
    edge = round(1000 * N / RATE)
    settings = MaximizationSettings(steps=1, draws=20, micro_batch=7)
    model = Linear(edge)
    am = maximize_activation(model, settings=settings, sounds=real, class_names=["low", "high"])
    assert am.random is not None
    whole = maximize_activation(model, settings=MaximizationSettings(steps=1, draws=20, micro_batch=20), sounds=real)
    np.testing.assert_allclose(am.random, whole.random, atol=1e-6)
    with torch.no_grad():
        reached = model(torch.tensor(am.random)).diagonal().numpy()
    np.testing.assert_allclose(am.quality["best_random"], reached, rtol=1e-2)
    maps = maximize_activation(
        build_network("ch32"), layer="conv1", units=[0], settings=MaximizationSettings(steps=1, draws=2)
    )
    assert maps.random is None
    assert any("no random patterns" in note for note in maps.notes)


class Linear(nn.Module):
    """Two logits that are linear in the sound: its component along a low and a high tone."""

    def __init__(self, edge: int) -> None:
        super().__init__()
        self.last = nn.Linear(N, 2, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor(tones(200, 3000)[:, 0]))

    def forward(self, sounds: Tensor) -> Tensor:
        found: Tensor = self.last(sounds.flatten(1))
        return found


def test_judged_quality_tells_what_others_say_and_the_baselines(real) -> None:
    edge = round(1000 * N / RATE)
    judges = [make_judge("good", Bands(edge)), make_judge("wrong", Bands(edge, swapped=True))]
    settings = MaximizationSettings(steps=40, draws=5, jitter_ms=0.0)
    am = maximize_activation(Linear(edge), settings=settings, sounds=real, class_names=["low", "high"])
    judged = judge_maximization(am, judges, sounds=real)
    table = judged.quality
    assert list(table["recognized_by"]) == ["good", "good"]
    np.testing.assert_allclose(table["transfer"], 0.5)
    np.testing.assert_allclose(table["noise_transfer"], 0.5)  # each noise has the spectrum of its class
    assert table[["real_correlation", "voiced", "random_transfer", "noise_real_correlation"]].notna().all(axis=None)
    assert any("judged by 'good', 'wrong'" in note for note in judged.notes)
    noise = table[list(NOISE_COLUMNS)].to_numpy().T
    again = judge_maximization(am, judges, sounds=real, noise=noise + 1)
    np.testing.assert_array_equal(again.quality[list(NOISE_COLUMNS)].to_numpy().T, noise + 1)
    one_by_one = np.random.default_rng(0)  # as if each class were judged by itself, from the same random numbers
    for at, name in enumerate(["low", "high"]):
        own = judge_class_noise([name], judges, sounds=real, length=N, rng=one_by_one)
        np.testing.assert_allclose(own[:, 0], noise[:, at], rtol=1e-6)
    assert np.isnan(judge_class_noise(["mid"], judges, sounds=real, length=N, rng=one_by_one)).all()
    alone = judge_maximization(am, judges[1:], sounds=real)
    assert (alone.quality["transfer"] == 0).all()
    assert any("recognized by no other network" in note for note in alone.notes)
    bare = maximize_activation(Linear(edge), settings=MaximizationSettings(steps=1), sounds=real)
    with pytest.raises(InputError, match="patterns of classes"):
        judge_maximization(bare, judges)


def test_the_climbed_network_does_not_judge_itself(tmp_path) -> None:
    torch.manual_seed(0)
    nets = [build_network("ch32", n_classes=2) for _ in range(2)]
    about = Checkpoint(architecture="ch32", classes=("low", "high"))
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for net, path in zip(nets, paths, strict=True):
        save_checkpoint(net, path, about)
    judges, notes = load_judges(paths, climbed=nets[0])
    assert [judge.name for judge in judges] == ["b"]
    assert "'a' took part in the ascent" in notes[0]
    with pytest.raises(InputError, match="no network is left"):
        load_judges(paths[:1], climbed=nets[0])
    save_checkpoint(nets[1], tmp_path / "c.safetensors", Checkpoint(architecture="ch32"))
    with pytest.raises(InputError):
        load_judges([tmp_path / "c.safetensors"])


def test_priors_are_compared_in_one_table(real) -> None:
    edge = round(1000 * N / RATE)
    judges = [make_judge("good", Bands(edge)), make_judge("wrong", Bands(edge, swapped=True))]
    about = Checkpoint(architecture="", classes=("low", "high"), n_samples=N)
    found = compare_priors(Linear(edge), real, checkpoint=about, judges=judges, steps=30, seeds=2, noises=3)
    table = found.table.set_index("pattern")
    assert list(table.index) == ["real sounds", "class noise", "source study", "audio prior", "best random noise"]
    assert list(table["n"]) == [6, 6, 4, 4, 4]
    margins = table["margin"].dropna()
    assert list(margins.index) == ["audio prior"]
    assert margins.iloc[0] == table.loc["audio prior", "transfer"] - table.loc["best random noise", "transfer"]
    np.testing.assert_allclose(table.loc[["real sounds", "class noise"], "good"], 1)
    np.testing.assert_allclose(table.loc[["real sounds", "class noise"], "transfer"], 0.5)
    assert table.loc["source study", "own"] == 1
    assert isinstance(found.by_class, pd.DataFrame)
    assert set(found.by_class["class_name"]) == {"low", "high"}
    with pytest.raises(InputError, match="got 'mid'"):
        compare_priors(Linear(edge), real, checkpoint=about, judges=judges, classes=["mid"])


@pytest.mark.slow
def test_words_of_the_decoder_are_recognized_by_networks_that_were_not_climbed() -> None:
    from brainmap.data import folder
    from brainmap.features.maximization.decoder import load_decoder
    from brainmap.features.networks.checkpoints import load_network
    from brainmap.features.networks.description import read_description

    path = folder() / "networks" / "ch32.safetensors"
    model, about = load_network(path), read_description(path)
    assert about is not None
    judges, _ = load_judges(climbed=model)
    sounds = load_sounds(folder() / "words" / "stimuli.tsv")
    words = ["zero", "six", "cat", "house"]
    found = compare_priors(
        model, sounds, checkpoint=about, judges=judges, classes=words, decoder=load_decoder(), steps=60
    )
    table = found.table.set_index("pattern")
    assert table.loc["real sounds", "transfer"] > 0.85
    assert table.loc["decoder prior", "transfer"] >= 0.9
    assert table.loc["audio prior", "transfer"] >= 0.5 > table.loc["best random noise", "transfer"]
    assert table.loc["decoder prior", "voiced"] > 0.6 > table.loc["class noise", "voiced"]


def test_neither_patterns_nor_judgements_depend_on_the_number_of_threads(real) -> None:
    edge = round(1000 * N / RATE)
    judges = [make_judge("good", Bands(edge)), make_judge("wrong", Bands(edge, swapped=True))]
    settings = MaximizationSettings(steps=2, draws=21, jitter_ms=0.0, micro_batch=4, seeds=2)
    found = []
    for threads in (1, 3):
        given: Any = {"settings": settings, "sounds": real, "class_names": ["low", "high"]}
        am = maximize_activation(Linear(edge), rng=np.random.default_rng(1), threads=threads, **given)
        found.append(judge_maximization(am, judges, sounds=real, rng=np.random.default_rng(2), threads=threads))
    one, other = found
    assert one.random is not None
    assert np.array_equal(one.random, other.random)
    assert np.array_equal(one.by_seed, other.by_seed)
    pd.testing.assert_frame_equal(one.quality, other.quality, check_exact=True)
