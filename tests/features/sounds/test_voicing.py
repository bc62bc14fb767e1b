"""Voicing against planted sounds and librosa's pYIN, and its test against maps whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from torch import nn

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attention.voiced import check_resolution
from brainmap.features.layers.layer import Layer
from brainmap.features.sounds.files import Sounds, load_sounds, sounds_from_array
from brainmap.features.sounds.voicing import KINDS, Voicing, find_voicing

Array = NDArray[np.float32]
RATE = 16_000
WORDS = Path(__file__).resolve().parents[3] / "data" / "words"


def pulses(hertz: float, n: int) -> Array:
    """A pulse train through a resonance, much like a vowel."""
    train = np.zeros(n, np.float32)
    train[(np.arange(0, n * hertz / RATE) * RATE / hertz).astype(int)[:-1]] = 1
    t = np.arange(160) / RATE
    return np.asarray(np.convolve(train, np.exp(-300 * t) * np.sin(2 * np.pi * 700 * t))[:n], dtype=np.float32)


def utterances(n: int = 12, seed: int = 0) -> Sounds:
    """Clips of 0.6 s: silence, noise, a loud vowel, noise again, silence; of lengths that differ."""
    rng = np.random.default_rng(seed)
    clips = np.zeros((n, 1, 9600), np.float32)
    for clip in clips[:, 0]:
        a, b, c, d = np.cumsum(rng.integers(900, 2400, 4))
        clip[a:b] = 0.1 * rng.standard_normal(b - a)
        clip[b:c] = 2 * pulses(rng.uniform(90, 200), int(c - b)) * np.hanning(c - b)
        clip[c:d] = 0.05 * rng.standard_normal(d - c)
    return sounds_from_array(clips, rate=RATE, conditions=[("ash", "oak")[k % 2] for k in range(n)])


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    return utterances()


@pytest.fixture(scope="module")
def told(sounds: Sounds) -> Voicing:
    return find_voicing(sounds)


def spread(frames: NDArray[Any], told: Voicing) -> Array:
    """Frames held over their samples."""
    return np.repeat(frames, told.hop, axis=1).astype(np.float32)


def smooth_noise(sounds: Sounds, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((len(sounds), sounds.n_samples), np.float32)
    return np.asarray(gaussian_filter1d(noise, 400, axis=1))


@pytest.mark.parametrize("hertz", [70.0, 123.0, 180.0, 333.0, 470.0])
@pytest.mark.parametrize("wave", ["sine", "pulses"])
def test_periodic_sound_is_voiced_at_its_frequency(hertz: float, wave: str) -> None:
    x = np.sin(2 * np.pi * hertz * np.arange(8000) / RATE) if wave == "sine" else pulses(hertz, 8000)
    found = find_voicing(np.asarray(x)[None, None], rate=RATE)
    inner = slice(3, -3)
    assert (found.kinds[0, inner] == KINDS.index("voiced")).all()
    np.testing.assert_allclose(found.f0[0, inner], hertz, rtol=0.01)


def test_noise_is_unvoiced_and_zeros_are_silent() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.standard_normal(RATE), np.zeros(RATE)])[:, None]
    found = find_voicing(x, rate=RATE)
    assert (found.of("unvoiced")[0]).mean() > 0.98
    assert found.of("silent")[1].all()
    assert np.isnan(found.f0[1]).all()


def test_a_burst_is_cut_out_of_silence_at_its_edges() -> None:
    x = np.zeros((1, 1, RATE))
    x[0, 0, 4000:11040] = np.sin(2 * np.pi * 150 * np.arange(7040) / RATE)
    found = find_voicing(x, rate=RATE)
    heard = np.flatnonzero(found.of("voiced")[0]) * found.hop
    assert heard.tolist() == list(range(4000, 11040, found.hop))
    assert not found.of("unvoiced").any()


@pytest.mark.parametrize("gain", [1e-3, 30.0])
def test_gain_changes_nothing_and_items_do_not_meet(sounds: Sounds, told: Voicing, gain: float) -> None:
    again = find_voicing(gain * sounds.waveforms[::-1], rate=RATE)
    np.testing.assert_array_equal(again.kinds, told.kinds[::-1])
    np.testing.assert_allclose(again.f0, told.f0[::-1], rtol=1e-3)


@pytest.mark.slow
def test_frames_agree_with_pyin() -> None:
    librosa = pytest.importorskip("librosa")
    words = load_sounds(WORDS)
    words = words.take(np.arange(0, len(words), 9))
    found = find_voicing(words)
    agreement, off = [], []
    for k, wave in enumerate(words.waveforms[:, 0]):
        shifted = np.r_[wave[80:], np.zeros(80, np.float32)]  # its frames are centered at multiples of the hop
        f0, voiced, _ = librosa.pyin(shifted, fmin=65, fmax=500, sr=RATE, frame_length=640, hop_length=160)
        both = found.of("voiced")[k] & voiced[:100]
        agreement.append((found.of("voiced")[k] == voiced[:100]).mean())
        off.append(np.abs(found.f0[k][both] / f0[:100][both] - 1))
    assert np.mean(agreement) >= 0.95
    assert np.median(agreement) >= 0.97
    assert (np.concatenate(off) < 0.05).mean() > 0.97


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": None}, "an array says nothing of its rate"),
        ({"frame_ms": 20.0}, "20 ms hold less than two periods of 60 Hz; give at least 34 ms"),
        ({"hop_ms": 60.0}, "got 60"),
        ({"lowest_hz": 500.0}, "0 < lowest < highest"),
        ({"threshold": 1.0}, "got 1.0"),
        ({"silence_db": 10.0}, "decibels below the loudest"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_voicing(np.ones((1, 1, 8000)), **{"rate": RATE, **given})


def test_what_is_no_waveform_is_refused(sounds: Sounds) -> None:
    with pytest.raises(InputError, match="expected waveforms"):
        find_voicing(np.ones((1, 1, 8, 8)), rate=RATE)
    with pytest.raises(InputError, match="expected waveforms"):
        find_voicing(np.ones((1, 2, 8000)), rate=RATE)
    with pytest.raises(InputError, match="shorter than a frame of 640"):
        find_voicing(np.ones((1, 1, 600)), rate=RATE)
    with pytest.raises(InputError, match="'1' holds NaN"):
        find_voicing(np.array([0.0, np.nan])[:, None, None] * np.ones(8000), rate=RATE)
    with pytest.raises(InputError, match="expected a rate of 16000 Hz, got 8000 Hz"):
        find_voicing(sounds, rate=8000)


def test_shares_are_those_of_the_definition(told: Voicing) -> None:
    maps = smooth_noise(utterances(), 5)
    found = features.voiced_attention(maps, told, energy=False, permutations=99)
    for k, clip in found.clips.iterrows():
        mass = np.maximum(maps[k].astype(float), 0).reshape(-1, told.hop).mean(axis=1)
        sounding, unvoiced = told.kinds[k] > 0, told.kinds[k] == 1
        assert clip["share"] == pytest.approx(mass[unvoiced].sum() / mass[sounding].sum())
        assert clip["expected"] == pytest.approx(unvoiced.sum() / sounding.sum())
        assert clip["silent_share"] == pytest.approx(mass[~sounding].sum() / mass.sum())
        shifted = [
            np.roll(mass[sounding], s) @ unvoiced[sounding] / mass[sounding].sum() - clip["expected"]
            for s in range(sounding.sum())
        ]
        assert clip["p"] == pytest.approx(np.mean(np.abs(shifted) >= abs(clip["effect"]) - 1e-12))


def test_a_map_that_follows_unvoiced_sound_is_found_with_or_without_energy(told: Voicing) -> None:
    maps = 0.1 + spread(told.of("unvoiced"), told)
    for energy in (True, False):
        found = features.voiced_attention(maps, told, energy=energy, rng=np.random.default_rng(0))
        assert found.effect > 0.05
        assert found.p < 0.001
        assert (found.words["p_corrected"] < 0.01).all()
        against = features.voiced_attention(maps, told, energy=energy, kind="voiced")
        assert against.effect == pytest.approx(-found.effect)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_map_that_follows_energy_counts_for_nothing_once_energy_is_known(
    sounds: Sounds, told: Voicing, power: float
) -> None:
    maps = uniform_filter1d(np.abs(sounds.waveforms[:, 0]), 320, axis=1) ** power
    raw = features.voiced_attention(maps, told, energy=False)
    known = features.voiced_attention(maps, told, energy=True)
    assert raw.effect < -0.1
    assert raw.p < 0.01
    assert abs(known.effect) < 0.1 * abs(raw.effect)
    assert known.p > 0.2
    assert not (known.words["p_corrected"] < 0.05).any()


def test_silence_is_apart_and_can_be_asked_for(told: Voicing) -> None:
    maps = spread(np.where(told.of("silent"), 1.0, 0.5), told)
    unvoiced = features.voiced_attention(maps, told, energy=False)
    assert unvoiced.effect == pytest.approx(0, abs=1e-9)
    assert unvoiced.p == 1
    silent = features.voiced_attention(maps, told, kind="silent")
    assert silent.effect > 0.1
    assert silent.p < 0.01
    assert not silent.energy


@pytest.mark.slow
@pytest.mark.parametrize("energy", [True, False])
def test_false_positives_are_as_rare_as_claimed(energy: bool) -> None:
    sounds = utterances(8)
    told = find_voicing(sounds)
    p, p_clips = [], []
    for seed in range(300):
        found = features.voiced_attention(
            np.abs(smooth_noise(sounds, seed)), told, energy=energy, permutations=199, rng=np.random.default_rng(seed)
        )
        p.append(found.p)
        p_clips += list(found.clips["p"])
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09
    assert 0.02 <= np.mean(np.array(p_clips) < 0.05) <= 0.09


def test_maps_of_classes_give_the_said_class(sounds: Sounds, told: Voicing) -> None:
    own = smooth_noise(sounds, 1)
    both = np.stack([np.where(k % 2 == c, own[k], -1) for k in range(len(own)) for c in (0, 1)])
    cams = features.ClassActivationMaps(
        both.reshape(len(own), 2, -1).astype(np.float32),
        tuple(sounds.items),
        tuple(sounds.conditions),
        ("ash", "oak"),
        "layer-cam",
        "conv1",
        np.zeros((len(own), 2), np.float32),
    )
    found = features.voiced_attention(cams, told)
    assert found.source == "layer-cam at conv1"
    assert found.effect == features.voiced_attention(own, told).effect
    other = find_voicing(sounds.take(np.arange(12)[::-1]))
    with pytest.raises(InputError, match="give the same sounds"):
        features.voiced_attention(cams, other)


def test_clips_that_tell_nothing_are_counted(told: Voicing) -> None:
    maps = np.abs(smooth_noise(utterances(), 2))
    maps[3] = -1
    with pytest.warns(BrainmapWarning, match="1 of 12 clips are left out"):
        found = features.voiced_attention(maps, told)
    assert np.isnan(found.clips["effect"][3])
    assert found.words["n"].sum() == 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m[:, ::300],
            "expected one value for each sample .9600. or frame of voicing .*, got 32 .one in 18.8 ms.",
        ),
        (lambda m: m[:5], "expected a course for each of the 12 clips"),
        (lambda m: -np.abs(m), "expected positive values, got none"),
        (lambda m: np.where(np.arange(m.shape[1]) == 5, np.nan, m), "is not finite"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(
    told: Voicing, change: Callable[[Array], Array], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        features.voiced_attention(change(smooth_noise(utterances(), 0)), told)


def test_words_without_unvoiced_sound_are_refused() -> None:
    t = np.arange(8000) / RATE
    tones = find_voicing(np.sin(2 * np.pi * 150 * t)[None, None], rate=RATE)
    with pytest.raises(InputError, match="fewer than 3 unvoiced"):
        features.voiced_attention(np.ones((1, 8000)), tones)


def layer(step: int, size: int) -> Layer:
    return Layer("conv8", "Conv1d", (64, 7), size, step, 0.0, 10)


def test_a_layer_too_coarse_for_voicing_is_refused_with_its_numbers() -> None:
    with pytest.raises(InputError, match=r"got 137 ms .a frame sees 956\.7 ms"):
        check_resolution(layer(2187, 15307), rate=RATE)
    with pytest.warns(BrainmapWarning, match=r"sees 106\.2 ms of sound"):
        check_resolution(layer(243, 1699), rate=RATE)
    check_resolution(layer(27, 187), rate=RATE)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv1d(1, 4, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool1d(8),
            nn.Conv1d(4, 4, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool1d(100),
            nn.Conv1d(4, 4, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48, 2),
        ).train()


def test_a_network_is_heard_and_left_as_it_was(sounds: Sounds) -> None:
    net = network()
    found = features.attention_to_voicing(net, sounds, layer="3", class_names=["oak", "ash"], permutations=99)
    cams = features.class_activation_maps(net, sounds, method="layer-cam", layer="3", class_names=["oak", "ash"])
    same = features.voiced_attention(cams, find_voicing(sounds), permutations=99)
    assert found.source == "layer-cam at 3"
    np.testing.assert_allclose(found.mass, same.mass, rtol=1e-4, atol=1e-9)
    lost = features.attention_to_voicing(
        net, sounds, method="occlusion", class_names=["oak", "ash"], window_ms=40, permutations=99
    )
    assert lost.source == "occlusion"
    for bad, message in (
        ({"layer": "6"}, "got 50 ms"),
        ({"method": "occlusion", "window_ms": 100.0}, "expected at most 60 ms .*got 100 ms"),
        ({"layer": "3", "class_names": ["elm", "fir"]}, "are none of the classes"),
    ):
        with pytest.raises(InputError, match=message):
            features.attention_to_voicing(net, sounds, **{"class_names": ["oak", "ash"], **bad})  # type: ignore[arg-type]
    assert all(module.training for module in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    with pytest.raises(InputError, match="expected sounds with their words"):
        features.attention_to_voicing(net, sounds.waveforms)  # type: ignore[arg-type]


def test_the_command_leaves_a_table_and_a_picture(tmp_path: Path, brainmap_command: Callable[..., Any]) -> None:
    import json

    from brainmap.features.networks.checkpoints import save_checkpoint
    from brainmap.features.networks.description import Checkpoint
    from brainmap.features.networks.zoo import build_network
    from brainmap.features.sounds.files import load_sounds as load

    words = load(WORDS)
    words = words.take([k for k, c in enumerate(words.conditions) if c in ("six", "cat")][:6])
    words.table.to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    names = ("cat", "six")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(
            build_network("ch32", n_classes=2),
            tmp_path / "net.safetensors",
            Checkpoint(architecture="ch32", classes=names, rate=RATE, n_samples=RATE),
        )
    base = ("features", "voicing", "--checkpoint", tmp_path / "net.safetensors", "--sounds", tmp_path / "stimuli.tsv")
    table, figure = tmp_path / "words.tsv", tmp_path / "voicing.png"
    done = brainmap_command(*base, "--out", table, "--figure", figure, "--permutations", 99, "--json")
    assert done.code == 0, done.err
    assert {row["word"] for row in json.loads(done.out)} == set(names)
    assert figure.stat().st_size > 20_000
    assert json.loads(table.with_suffix(".json").read_text())["AllWords"]["P"] <= 1
    again = brainmap_command(*base, "--out", table)
    assert again.code == 2
    assert "exists; say --overwrite" in again.err
    coarse = brainmap_command(*base, "--layer", "conv8")
    assert coarse.code == 2
    assert "take an earlier layer, or the method occlusion" in coarse.err


def test_a_picture_wants_maps_of_its_sounds(sounds: Sounds, told: Voicing) -> None:
    from brainmap.viz import plot_voiced_attention

    found = features.voiced_attention(smooth_noise(sounds, 0), told, permutations=99)
    figure = plot_voiced_attention(sounds, found, title="planted")
    assert len(figure.axes) == 4 * 2 + 1
    with pytest.raises(InputError, match="expected 12 sounds, one per map, got 5"):
        plot_voiced_attention(SimpleNamespace(waveforms=sounds.waveforms[:5]), found)
