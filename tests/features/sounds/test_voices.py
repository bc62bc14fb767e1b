"""Changing who speaks: formants, pitch and durations move by the factor asked for, and the other two stay."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from brainmap.features.sounds.voices import change_tempo, change_voice, move_formants

RATE = 16_000


def vowel(pitch: float = 120.0, formant: float = 1_500.0, seconds: float = 0.6) -> NDArray[np.float32]:
    """Harmonics of `pitch` under one resonance at `formant`, each with its own phase."""
    t = np.arange(round(seconds * RATE)) / RATE
    rng = np.random.default_rng(0)
    hertz = np.arange(pitch, 7_000, pitch)
    heights = np.exp(-0.5 * ((hertz - formant) / 350) ** 2) + 0.01
    parts = heights[:, None] * np.cos(2 * np.pi * hertz[:, None] * t + rng.uniform(0, 2 * np.pi, (len(hertz), 1)))
    return np.asarray(0.1 * parts.sum(axis=0), dtype=np.float32)


def find_pitch(sound: NDArray[np.float32]) -> float:
    middle = sound[len(sound) // 2 - 2_000 : len(sound) // 2 + 2_000].astype(float)
    similar = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    lags = np.arange(RATE // 320, RATE // 60)
    return float(RATE / lags[np.argmax(similar[lags])])


def find_formant(sound: NDArray[np.float32]) -> float:
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    strong = power > 0.02 * power.max()
    return float(np.sum(hertz[strong] * power[strong]) / np.sum(power[strong]))


@pytest.mark.parametrize("factor", [0.82, 1.22])
def test_formants_move_and_pitch_and_duration_stay(factor: float) -> None:
    sound = vowel()
    heard = move_formants(sound, factor, rate=RATE)
    assert heard.shape == sound.shape
    assert find_formant(heard) / find_formant(sound) == pytest.approx(factor, rel=0.04)
    assert find_pitch(heard) == pytest.approx(find_pitch(sound), rel=0.01)


def test_a_factor_of_one_is_the_sound_itself() -> None:
    sound = vowel()
    np.testing.assert_allclose(move_formants(sound, 1.0, rate=RATE), sound, atol=1e-5)


@pytest.mark.parametrize("factor", [0.65, 1.4])
def test_durations_change_and_pitch_and_formants_stay(factor: float) -> None:
    sound = vowel()
    heard = change_tempo(sound, np.array([factor]), rate=RATE)
    assert len(heard) / len(sound) == pytest.approx(factor, abs=0.05)
    assert find_pitch(heard) == pytest.approx(find_pitch(sound), rel=0.01)
    assert find_formant(heard) == pytest.approx(find_formant(sound), rel=0.03)
    middle = slice(len(heard) // 4, -len(heard) // 4)
    assert np.std(heard[middle]) == pytest.approx(np.std(sound), rel=0.15)  # pieces are joined in phase


def test_a_tempo_that_changes_stretches_one_end_and_not_the_other() -> None:
    low, high = vowel(100, 600, 0.4), vowel(100, 3_000, 0.4)
    heard = change_tempo(np.concatenate([low, high]), np.array([1.6, 1.6, 0.7, 0.7]), rate=RATE)
    frames = heard[: len(heard) // 320 * 320].reshape(-1, 320) * np.hanning(320)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    is_low = power[:, :30].sum(axis=1) > power[:, 30:].sum(axis=1)  # below and above 1.5 kHz
    assert is_low.sum() / (~is_low).sum() == pytest.approx(1.48 / 0.82, rel=0.15)  # means of the factors over halves


@pytest.mark.parametrize("pitch", [0.7, 1.4])
def test_pitch_moves_alone(pitch: float) -> None:
    sound = vowel(140.0)
    heard = change_voice(sound, rate=RATE, pitch=pitch)
    assert find_pitch(heard) / find_pitch(sound) == pytest.approx(pitch, rel=0.02)
    assert find_formant(heard) == pytest.approx(find_formant(sound), rel=0.06)
    assert len(heard) == pytest.approx(len(sound), rel=0.05)


def test_silence_clicks_and_other_rates_survive() -> None:
    click = np.zeros(3_000, np.float32)
    click[1_500] = 0.5
    for sound in (np.zeros(3_000, np.float32), click, click[1_499:1_503], click[:0]):
        for rate in (8_000, 16_000, 44_100):
            heard = change_voice(sound, rate=rate, formants=1.2, pitch=1.3, durations=np.array([0.7, 1.3]))
            assert np.isfinite(heard).all()
            assert heard.dtype == np.float32
