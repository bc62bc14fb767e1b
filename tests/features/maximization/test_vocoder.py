"""Patterns by a noise vocoder: what they are made of, what they can follow, and what they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.maximization.metamers import match_activation
from brainmap.features.maximization.priors import compute_speech_spectrum
from brainmap.features.maximization.vocoder import NoiseVocoder

RATE = 8000
LENGTH = 4000
VOCODER = MaximizationSettings(parameterization="noise-vocoder", jitter_ms=0, steps=40)


class LoudBand(nn.Module):
    """Each output is the share of the power that lies in one of two bands, in the first or the second half."""

    def forward(self, x: Tensor) -> Tensor:
        power = torch.stft(x[:, 0], 256, 64, window=torch.hann_window(256), return_complex=True).abs().square()
        low, high = power[:, 16:32], power[:, 64:96]  # 500 to 1000 Hz, 2000 to 3000 Hz
        half = power.shape[2] // 2
        parts = [band[..., part].sum((1, 2)) for band in (low, high) for part in (slice(half), slice(half, None))]
        found: Tensor = torch.stack(parts, dim=1) / power.sum((1, 2))[:, None]
        return found


class Template(nn.Module):
    """The output is the product with one waveform: nothing but fine structure."""

    def __init__(self) -> None:
        super().__init__()
        self.wave: Tensor
        self.register_buffer("wave", torch.randn(LENGTH, 1, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] @ self.wave


def grow(model: nn.Module, settings: MaximizationSettings = VOCODER, **how: Any) -> Any:
    return maximize_activation(model, settings=settings, rate=RATE, length=LENGTH, rng=np.random.default_rng(1), **how)


def test_flat_envelopes_give_noise_with_the_spectrum() -> None:
    scale = compute_speech_spectrum(LENGTH, RATE)
    prior = NoiseVocoder(scale, (1, LENGTH), rate=RATE, level=None, peak=None)
    noises = prior.draw_noises(np.random.default_rng(0), 60)
    made = prior.decode(torch.zeros(60, *prior.free), noises).numpy()[:, 0]
    power = (np.abs(np.fft.rfft(made)) ** 2).mean(0)
    for low, high in ((100, 300), (400, 800), (1000, 2000), (2500, 3900)):
        part = slice(*(round(edge * LENGTH / RATE) for edge in (low, high)))
        decibel = 10 * np.log10(power[part].mean() / power.mean() / (scale[part] ** 2).mean() * (scale**2).mean())
        assert abs(decibel) < 0.7, (low, high)


def test_a_parameter_raises_its_band_at_its_time() -> None:
    prior = NoiseVocoder(np.ones(LENGTH // 2 + 1), (1, LENGTH), rate=RATE, level=None, peak=None)
    free = torch.zeros(1, *prior.free)
    free[0, 0, 7, 3] = 50.0  # 40 dB
    made = prior.decode(free).numpy()[0, 0].astype(float)
    assert abs(int(np.abs(made).argmax()) - 3 * 0.05 * RATE) < 0.05 * RATE
    loud = np.abs(np.fft.rfft(made[800:1600]))
    center = np.fft.rfftfreq(800, 1 / RATE)[loud.argmax()]
    number = 21.4 * np.log10(1 + 0.00437 * np.array([center, RATE / 2]))
    assert abs(number[0] / number[1] * (prior.free[1] - 1) - 7) < 1


def test_the_ascent_finds_when_and_where_a_unit_listens() -> None:
    am = grow(LoudBand())
    assert am.settings.parameterization == "noise-vocoder"
    shares = LoudBand()(torch.tensor(am.patterns)).numpy()
    assert (shares.argmax(1) == np.arange(4)).all()
    assert (np.diag(shares) > 0.8).all()
    assert (am.trace[-1] > am.trace[0] + 0.3).all()


def test_no_pattern_can_lean_on_fine_structure() -> None:
    wave = grow(Template(), MaximizationSettings(parameterization="spectrum", jitter_ms=0, steps=40))
    noise = grow(Template())
    assert np.abs(noise.trace[-10:]).mean() < 0.1 * wave.trace[-1].mean()


def test_a_pattern_does_not_depend_on_its_company() -> None:
    together = grow(LoudBand())
    for size in (1, 3):
        alone = grow(LoudBand(), MaximizationSettings(**{**vars(VOCODER), "micro_batch": size}), units=[3, 1])
        np.testing.assert_allclose(alone.patterns, together.patterns[[3, 1]], atol=1e-4)


def test_the_best_random_pattern_is_the_one_whose_noise_was_heard() -> None:
    settings = MaximizationSettings(**{**vars(VOCODER), "steps": 1, "draws": 30})
    am = grow(Template(), settings)
    assert am.random is not None
    assert am.quality["best_random"].item() == pytest.approx(float(Template()(torch.tensor(am.random))), rel=1e-4)
    one = grow(Template(), MaximizationSettings(**{**vars(settings), "draws": 1}))
    assert am.quality["best_random"].item() > one.quality["best_random"].item()


def test_nothing_lies_outside_a_band() -> None:
    am = grow(LoudBand(), MaximizationSettings(**{**vars(VOCODER), "low_hz": 600, "high_hz": 2500}))
    power = np.abs(np.fft.rfft(am.patterns[:, 0])) ** 2
    frequency = np.fft.rfftfreq(LENGTH, 1 / RATE)
    assert power[:, (frequency < 600) | (frequency > 2500)].sum() < 1e-6 * power.sum()


def test_units_that_hear_a_whole_sound_get_it_by_default() -> None:
    net = nn.Sequential(nn.Conv1d(1, 3, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2))
    few = MaximizationSettings(steps=2)
    kinds = {layer: grow(net, few, layer=layer).settings.parameterization for layer in ("0", "4")}
    assert kinds == {"0": "spectrum", "4": "noise-vocoder"}
    short = maximize_activation(net, settings=few, rate=RATE, length=800, rng=np.random.default_rng(0))
    assert short.settings.parameterization == "spectrum"


def test_what_it_cannot_make_is_refused() -> None:
    with pytest.raises(InputError, match=r"waveforms of 0\.25 s or more, got shape \(1, 800\) at 8000 Hz"):
        maximize_activation(LoudBand(), settings=VOCODER, rate=RATE, length=800, rng=np.random.default_rng(0))
    sounds = np.random.default_rng(0).standard_normal((2, 1, LENGTH)).astype(np.float32)
    with pytest.raises(InputError, match="'noise-vocoder' cannot become any sound"):
        match_activation(Template(), sounds, layer="output", settings=VOCODER, rate=RATE)


class Moment(nn.Module):
    """The outputs hear one millisecond, and the mean of the samples there."""

    def forward(self, x: Tensor) -> Tensor:
        short = x[:, 0, 1000:1008]
        return torch.stack([short.square().sum(1), short.mean(1)], dim=1)


@pytest.mark.parametrize("parameters", [3000.0, -3000.0])
def test_parameters_that_run_away_end_in_a_sound(parameters: float) -> None:
    prior = NoiseVocoder(np.ones(LENGTH // 2 + 1), (1, LENGTH), rate=RATE, level=0.1, peak=1.0)
    free = torch.zeros(1, *prior.free)
    free[0, 0, 5, 4] = parameters
    made = prior.decode(free)
    assert made.isfinite().all()
    assert float(made.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-3)


def test_a_unit_that_hears_one_moment_gets_a_sound_that_can_be_heard() -> None:
    am = grow(Moment(), MaximizationSettings(**{**vars(VOCODER), "steps": 200}))
    level = np.sqrt((am.patterns**2).mean((1, 2)))
    assert (level > 0.9 * level.max()).all()
    power = np.abs(np.fft.rfft(am.patterns[:, 0])) ** 2
    assert power[:, : round(50 * LENGTH / RATE)].sum() < 1e-6 * power.sum()
    assert (am.trace[-1] > am.trace[0]).all()
