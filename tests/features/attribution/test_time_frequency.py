"""Relevance over time and frequency: what is relevant is conserved, placed where it was planted, and heard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.attribution.audible import hear_relevance
from brainmap.features.attribution.time_frequency import attenuate, make_mask, spread_over_frequency
from brainmap.features.sounds.files import sounds_from_array

RATE, N = 16_000, 8_000


def two_tones(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A low tone, then a high one; and a gradient that looks for the high one alone."""
    time = np.arange(N) / RATE
    low = np.sin(2 * np.pi * 400 * time) * (time < 0.25)
    high = np.sin(2 * np.pi * 3000 * time) * (time >= 0.25)
    noise = 0.01 * np.random.default_rng(seed).standard_normal(N)
    return low + high + noise, np.sin(2 * np.pi * 3000 * time)


def test_relevance_of_grains_sums_to_that_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    for n in (777, 8_000):
        x, g = rng.standard_normal((2, n))
        found = spread_over_frequency(x, x * g, rate=RATE)
        assert found.lost == pytest.approx(0, abs=0.01 * np.abs(x * g).sum())
        assert found.values.sum() + found.lost == pytest.approx((x * g).sum())


def test_a_grain_is_as_relevant_as_the_output_changes_without_it() -> None:
    rng = np.random.default_rng(1)
    x, g = rng.standard_normal((2, 4_000))
    found = spread_over_frequency(x, x * g, rate=RATE)
    for frequency, frame in ((3, 10), (0, 5), (200, 20)):
        mask = np.ones_like(found.values)
        mask[frequency, frame] = 0
        without = attenuate(x, mask, rate=RATE).astype(float)
        assert found.values[frequency, frame] == pytest.approx(((x - without) * g).sum(), rel=0.05, abs=2e-3)


def test_relevance_lies_at_the_tone_that_counts() -> None:
    sound, gradient = two_tones()
    found = spread_over_frequency(sound, sound * gradient, rate=RATE)
    band = (found.hertz > 2_800) & (found.hertz < 3_200)
    later = found.seconds > 0.25
    assert found.values[np.ix_(band, later)].sum() > 0.9 * found.values.sum()


def test_what_does_not_count_is_attenuated() -> None:
    sound, gradient = two_tones()
    mask = make_mask(sound, sound * gradient, rate=RATE, by_grain=True, floor_db=-40)
    heard = attenuate(sound, mask, rate=RATE)
    power = [np.mean(part[200:3_800] ** 2) for part in (sound[:4_000], heard[:4_000], sound[4_000:], heard[4_000:])]
    assert 10 * np.log10(power[1] / power[0]) < -10
    assert 10 * np.log10(power[3] / power[2]) > -3
    in_time = make_mask(sound, np.r_[np.zeros(4_000), np.ones(4_000)], rate=RATE)
    assert np.ptp(in_time, axis=0).max() == 0  # no frequency is told from another
    with pytest.raises(InputError, match="nowhere positive"):
        make_mask(sound, -np.abs(sound), rate=RATE)


def test_recordings_are_heard_by_the_class_that_is_explained() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(1, 8, 31), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(32, 3)).eval()
    sound, _ = two_tones()
    sounds = sounds_from_array(np.stack([sound, sound[::-1]])[:, None], rate=RATE, items=["a", "b"])
    found = features.attribute(net, sounds, method="input-x-gradient", classes="all")
    assert found.products
    waves, names = hear_relevance(sounds, found)
    assert waves.shape == (6, 1, N)
    assert names[:2] == (("a", "0"), ("a", "1"))
    assert (np.abs(waves).max(axis=2) <= 1.2 * np.abs(sound).max()).all()
    assert not features.attribute(net, sounds, method="saliency").products
    assert features.attribute(net, sounds, method="lrp", rules="epsilon").products
    with pytest.raises(InputError, match="sounds of the maps"):
        hear_relevance(sounds.take([1, 0]), found)
