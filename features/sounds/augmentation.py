"""Augment sounds as a listener may receive them: another voice, room, equalizer, band limits, position, noise, gain.

A network trained on synthetic voices alone recognized 41 % of human digits. A room, a telephone's band and noise make
up most of the difference, so they are on by default in training. `VOICE` also changes who speaks.

Change who speaks: the length of the vocal tract, the pitch and the tempo of a word, each without the others. A word
that is played faster has higher formants, a higher pitch and a shorter duration all at once, as no two people differ.
Here the spectral envelope (smoothed in the cepstrum) moves along frequency while the harmonics stay, and pieces of a
waveform are joined where they are most similar (WSOLA), so that durations change while pitch and formants stay.

References
----------
Verhelst W, Roelands M (1993). An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
modification of speech. ICASSP, doi:10.1109/ICASSP.1993.319366
Jaitly N, Hinton GE (2013). Vocal tract length perturbation (VTLP) improves speech recognition. ICML Workshop on Deep
Learning for Audio, Speech and Language.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
import scipy.fft
from numpy.typing import NDArray

from brainmap.features.sounds.voices import change_voice, play_faster
from brainmap.types import Augment


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Hold the ranges from which each training sound draws its values, uniformly unless a comment says otherwise.

    Formants, pitch and durations of 1 leave the voice as it is, and then nothing is drawn for them.
    """

    speed: tuple[float, float] = (0.8, 1.3)  # factor, log-uniform; formants move too; long sounds are cut
    reverberation: float = 0.5  # share of sounds in a room
    reverberation_time: tuple[float, float] = (0.1, 0.7)  # s, decay by 60 dB
    equalizer: float = 8.0  # dB, largest boost or cut of a band
    low_pass: tuple[float, float] = (3_200.0, 8_000.0)  # Hz, for half of the sounds
    high_pass: tuple[float, float] = (40.0, 350.0)  # Hz
    noise: float = 0.8  # share of sounds with noise
    snr: tuple[float, float] = (3.0, 35.0)  # dB
    gain: float = 6.0  # dB, up or down
    shift: bool = True  # the sound lies anywhere it fits
    formants: tuple[float, float] = (1.0, 1.0)  # factor, log-uniform: the vocal tract is shorter by it
    pitch: tuple[float, float] = (1.0, 1.0)  # factor, log-uniform; formants and durations stay
    durations: tuple[float, float] = (1.0, 1.0)  # factor, log-uniform at each of five places of the word


VOICE = Augmentation(
    speed=(0.9, 1.15), gain=12.0, formants=(0.82, 1.22), pitch=(0.7, 1.45), durations=(0.65, 1.35)
)  # the ranges of men, women and children, of slow and fast speech


def choose_augmentation(name: Augment) -> Augmentation | None:
    """Return what a name of `--augment` stands for: `voice`, `channel` (the default of `Augmentation`) or `none`."""
    return {"voice": VOICE, "channel": Augmentation(), "none": None}[name]


def augment(
    sound: NDArray[np.float32], *, rate: int, settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Augment a sound `(n_samples,)`, zero-padded or not, at random, while its length and about its level stay."""
    n = len(sound)
    sounding = np.flatnonzero(sound)
    if not len(sounding):
        return sound
    word = _change_speaker(sound[sounding[0] : sounding[-1] + 1], rate, settings, rng)[:n]
    level = np.sqrt(np.mean(word**2))
    size = scipy.fft.next_fast_len(2 * n, real=True)
    spectrum = scipy.fft.rfft(word, size) * _draw_channel(size, rate, settings, rng)
    heard: NDArray[np.float32] = scipy.fft.irfft(spectrum, size)[:n].astype(np.float32)
    spare = n - len(word)
    if settings.shift and spare > 0:
        start = int(rng.integers(0, spare + 1))
        heard = np.concatenate([np.zeros(start, np.float32), heard[: n - start]])
    heard *= level / max(float(np.sqrt(np.sum(heard**2) / len(word))), 1e-12)
    if rng.random() < settings.noise:
        heard = heard + _draw_noise(size, n, level, rate, settings, rng)
    return (heard * 10 ** (rng.uniform(-settings.gain, settings.gain) / 20)).astype(np.float32)


def _change_speaker(
    word: NDArray[np.float32], rate: int, settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    word = play_faster(word, _draw_factor(settings.speed, rng))
    ranges = (settings.formants, settings.pitch, settings.durations)
    if all(low == high == 1 for low, high in ranges):
        return word
    formants, pitch = (_draw_factor(between, rng) for between in ranges[:2])
    low, high = np.log(settings.durations)
    durations = np.exp(rng.uniform(low, high, size=5))
    return change_voice(word, rate=rate, formants=formants, pitch=pitch, durations=durations)


def _draw_factor(between: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = np.log(between)
    return float(np.exp(rng.uniform(low, high)))


def _draw_channel(
    size: int, rate: int, settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.complexfloating]:
    """Draw the transfer function of room, equalizer and band limits, `(size // 2 + 1,)`."""
    hertz = scipy.fft.rfftfreq(size, 1 / rate)
    bands = np.geomspace(60, rate / 2, 8)
    decibels = np.interp(np.log(np.maximum(hertz, 30)), np.log(bands), rng.uniform(-1, 1, 8) * settings.equalizer)
    response: NDArray[np.floating] = 10 ** (decibels / 20)
    response *= 1 / np.sqrt(1 + (rng.uniform(*settings.high_pass) / np.maximum(hertz, 1)) ** 4)
    if rng.random() < 0.5:
        response *= 1 / np.sqrt(1 + (hertz / rng.uniform(*settings.low_pass)) ** 16)
    if rng.random() >= settings.reverberation:
        return response.astype(np.complex64)
    seconds = rng.uniform(*settings.reverberation_time)
    length = min(int(seconds * rate), size // 2)
    tail = rng.standard_normal(length).astype(np.float32) * np.exp(-6.9 * np.arange(length) / (seconds * rate))
    tail *= 10 ** (-rng.uniform(0, 15) / 20) / np.sqrt(np.sum(tail**2))  # direct sound 0 to 15 dB above the room
    tail[0] += 1
    return np.asarray(response * scipy.fft.rfft(tail, size), dtype=np.complex64)


def _draw_noise(
    size: int, n: int, level: float, rate: int, settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw noise whose spectrum falls with a random slope, from white to brown."""
    slope = rng.uniform(0, 1)
    hertz = np.maximum(scipy.fft.rfftfreq(n, 1 / rate), 50)
    white = scipy.fft.rfft(rng.standard_normal(n).astype(np.float32))
    noise: NDArray[np.float32] = scipy.fft.irfft(white * hertz**-slope, n).astype(np.float32)
    wanted = level * 10 ** (-rng.uniform(*settings.snr) / 20)
    return noise * np.float32(wanted / np.sqrt(np.mean(noise**2)))
