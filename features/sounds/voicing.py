"""Classify frames of sounds as voiced, unvoiced or silent, by the autocorrelation of short frames.

A frame is voiced where its autocorrelation, divided by that of its window (Boersma 1993), has a high peak at a lag
within the range of voices, and silent where its level lies far below that of the loudest frame of the same clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges
from brainmap.errors import InputError
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors, number_batches
from brainmap.features.sounds.inputs import get_waveforms, read_padded, resolve_rate
from brainmap.types import VoicingKind

KINDS: tuple[VoicingKind, ...] = ("silent", "unvoiced", "voiced")

FLOOR_DB = -120.0
_OCTAVE_COST = 0.05  # a lower octave must be that much more periodic, as multiples of a period are periods
_CLIPS_AT_ONCE = 8  # so that the data stay in the cache


@dataclass(frozen=True, eq=False)
class Voicing:
    """Hold the kind of sound of each frame of each clip.

    Attributes
    ----------
    kinds : ndarray int8 (n_items, n_frames)
        Indices into `names`.
    times : ndarray (n_frames,) [s]
        Centers of the frames; frame i represents the samples from `i * hop` to `(i + 1) * hop`.
    f0 : ndarray float32 (n_items, n_frames) [Hz]
        Fundamental frequency; NaN where the frame is not voiced.
    strength : ndarray float32 (n_items, n_frames)
        Height of the highest autocorrelation peak, 0 (no period) to 1 (periodic).
    energy : ndarray float32 (n_items, n_frames) [dB]
        Level of the samples that a frame represents, relative to the loudest frame of its clip; at least -120.
    items, conditions : tuple of str
    rate : int [Hz]
    n_samples, hop : int [samples]
        Length of a clip, and the step between frames.
    """

    kinds: NDArray[np.int8] = field(repr=False)
    times: NDArray[np.float64] = field(repr=False)
    f0: NDArray[np.float32] = field(repr=False)
    strength: NDArray[np.float32] = field(repr=False)
    energy: NDArray[np.float32] = field(repr=False)
    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    rate: int
    n_samples: int
    hop: int

    @property
    def names(self) -> tuple[VoicingKind, ...]:
        """Name the values in `kinds`: silent, unvoiced, voiced."""
        return KINDS

    def of(self, kind: VoicingKind) -> NDArray[np.bool_]:
        """Mark the frames of one kind, `(n_items, n_frames)`.

        Raises
        ------
        InputError
            There is no such kind.
        """
        return np.asarray(self.kinds == KINDS.index(check_choice(kind, KINDS, "kind")))


def find_voicing(
    sounds: Sounds,
    *,
    rate: int | None = None,
    frame_ms: float = 40.0,
    hop_ms: float = 10.0,
    lowest_hz: float = 60.0,
    highest_hz: float = 500.0,
    threshold: float = 0.5,
    silence_db: float = -35.0,
) -> Voicing:
    """Classify frames of sounds as voiced, unvoiced or silent.

    Parameters
    ----------
    sounds : Sounds, array or Tensor (n_items, 1, t)
        Waveforms.
    rate : int, optional [Hz]
        Sampling rate; it must be given for an array, and `Sounds` carry theirs.
    frame_ms : float [ms]
        Length of the Hann window, in which two periods of the lowest voice must fit.
    hop_ms : float [ms]
        Step between frames.
    lowest_hz, highest_hz : float [Hz]
        Range of voices.
    threshold : float
        Autocorrelation above which a frame is voiced; a single frame that differs from both neighbors takes their kind.
    silence_db : float [dB]
        Frames this far below the loudest frame of their clip are silent.

    Returns
    -------
    Voicing

    Raises
    ------
    InputError
        The sounds are not waveforms, have no rate or are not finite; clips are shorter than a frame; a frame is too
        short for the lowest voice; a setting is out of its range.

    References
    ----------
    Boersma P (1993), Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
    sampled sound. IFA Proceedings 17, 97-110.

    Examples
    --------
    >>> t = np.arange(8000) / 16_000
    >>> found = find_voicing(np.sin(2 * np.pi * 125 * t)[None, None], rate=16_000)
    >>> found.names[found.kinds[0, 25]], float(found.f0[0, 25].round(1))
    ('voiced', 125.0)
    """
    sounds = get_waveforms(sounds)
    rate = resolve_rate(sounds, rate, "voicing")
    window = _Window.of(rate, frame_ms, hop_ms, (lowest_hz, highest_hz))
    check_ranges(
        "voicing",
        ("as threshold a correlation between 0 and 1", threshold, 0 < threshold < 1),
        ("as silence_db decibels below the loudest frame, as in -35", silence_db, FLOOR_DB < silence_db < 0),
    )
    items, conditions = get_labels(sounds)
    parts = [window.analyze(clips, silence_db) for clips in _iterate_clips(sounds, items, window)]
    energy, strength, f0 = (np.concatenate(part) for part in zip(*parts, strict=True))
    voiced = scipy.ndimage.median_filter((strength > threshold).astype(np.int8), size=(1, 3), mode="nearest")
    kinds = np.where(energy < silence_db, 0, 1 + voiced).astype(np.int8)
    return Voicing(
        kinds=kinds,
        times=(np.arange(kinds.shape[1]) + 0.5) * window.hop / rate,
        f0=np.where(kinds == KINDS.index("voiced"), f0, np.float32(np.nan)),
        strength=strength,
        energy=energy,
        items=items,
        conditions=conditions,
        rate=rate,
        n_samples=int(getattr(sounds, "n_samples", 0) or next(iterate_tensors(sounds, 1)).shape[-1]),
        hop=window.hop,
    )


def _iterate_clips(sounds: Sounds, items: Sequence[str], window: _Window) -> Iterator[NDArray[np.float32]]:
    """Yield waveforms `(n, t)`, some clips at a time."""
    # silence follows those that keep their own lengths, so that all have as many frames
    given = read_padded(sounds) if getattr(sounds, "own_lengths", False) else sounds
    for done, batch in number_batches(iterate_tensors(given, _CLIPS_AT_ONCE)):
        if batch.ndim != 3 or batch.shape[1] != 1:
            raise InputError(f"voicing: expected waveforms (1, t), got sounds of shape {tuple(batch.shape[1:])}")
        clips = np.asarray(batch[:, 0].cpu())
        if clips.shape[1] < window.size:
            raise InputError(f"voicing: clips of {clips.shape[1]} samples are shorter than a frame of {window.size}")
        bad = np.flatnonzero(~np.isfinite(clips).all(axis=1))
        if len(bad):
            raise InputError(f"voicing: item {items[done + bad[0]]!r} holds NaN or infinite samples")
        yield clips


@dataclass(frozen=True)
class _Window:
    """Describe an analysis window and the lags of its autocorrelation."""

    rate: int
    hop: int  # samples
    shortest: int  # lag [samples]
    longest: int
    weights: NDArray[np.float32]
    correction: NDArray[np.float32]  # correction of the autocorrelation at each lag

    @classmethod
    def of(cls, rate: int, frame_ms: float, hop_ms: float, hertz: tuple[float, float]) -> _Window:
        size, hop = round(frame_ms * rate / 1000), round(hop_ms * rate / 1000)
        lowest, highest = hertz
        if not 0 < lowest < highest <= rate / 4:
            raise InputError(
                f"voicing: expected voices with 0 < lowest < highest <= {rate / 4:g} Hz, got {lowest:g} to "
                f"{highest:g} Hz"
            )
        if frame_ms < 2000 / lowest:
            raise InputError(
                f"frame_ms: {frame_ms:g} ms hold less than two periods of {lowest:g} Hz; give at least "
                f"{np.ceil(2000 / lowest):g} ms or a higher lowest_hz"
            )
        if not 1 <= hop <= size:
            raise InputError(f"hop_ms: expected a hop from one sample to one frame ({frame_ms:g} ms), got {hop_ms:g}")
        weights = np.hanning(size + 2)[1:-1].astype(np.float32)
        longest = int(np.ceil(rate / lowest))
        own = np.correlate(weights, weights, "full")[size - 1 :][: longest + 2]
        return cls(rate, hop, int(rate // highest), longest, weights, own[0] / own)

    @property
    def size(self) -> int:
        return len(self.weights)

    def analyze(self, clips: NDArray[np.float32], silence_db: float) -> tuple[NDArray[np.float32], ...]:
        """Compute level [dB], periodicity and frequency [Hz] of every frame of clips `(n, t)`, each `(n, n_frames)`."""
        n_frames = clips.shape[1] // self.hop
        spans = clips[:, : n_frames * self.hop].reshape(len(clips), n_frames, self.hop)
        power = np.square(spans).mean(axis=2)
        loudest = power.max(axis=1, keepdims=True)
        level = 10 * np.log10(np.maximum(power / np.where(loudest > 0, loudest, 1), 10 ** (FLOOR_DB / 10)))
        sounding = level >= silence_db
        padded = np.pad(clips, ((0, 0), ((self.size - self.hop) // 2, self.size)))
        frames = sliding_window_view(padded, self.size, axis=1)[:, :: self.hop][:, :n_frames][sounding]
        strength, hertz = np.zeros_like(level), np.full_like(level, np.nan)
        if len(frames):
            strength[sounding], hertz[sounding] = self._find_peak(self._autocorrelate(frames))
        return level, strength, hertz

    def _autocorrelate(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the autocorrelation of frames `(n, size)` at lags from 0, corrected for the window."""
        frames -= frames.mean(axis=1, keepdims=True)
        frames *= self.weights
        long_enough = scipy.fft.next_fast_len(self.size + self.longest + 2, real=True)  # avoids wrapping
        spectrum = scipy.fft.rfft(frames, long_enough, axis=1)
        likeness = scipy.fft.irfft(spectrum.real**2 + spectrum.imag**2, long_enough, axis=1)[:, : self.longest + 2]
        return np.asarray(likeness * self.correction / np.maximum(likeness[:, :1], 1e-30), dtype=np.float32)

    def _find_peak(self, likeness: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Find height and frequency [Hz] of the highest peak by parabolic interpolation; 0 and NaN without a peak."""
        lags = np.arange(self.shortest, self.longest + 1)
        left, here, right = (likeness[:, lags[0] + shift : lags[-1] + 1 + shift] for shift in (-1, 0, 1))
        cost = (_OCTAVE_COST * np.log2(lags / lags[0])).astype(np.float32)
        at = np.where((here >= left) & (here > right), here - cost, -np.inf).argmax(axis=1)
        rows = np.arange(len(at))
        a, b, c = left[rows, at], here[rows, at], right[rows, at]
        is_peak = (b >= a) & (b > c)
        offset = np.where(is_peak, (c - a) / np.where(is_peak, 2 * (2 * b - a - c), 1), 0)
        height = np.where(is_peak, np.clip(b + (c - a) * offset / 4, 0, 1), 0)
        return height, np.where(is_peak, self.rate / (lags[at] + offset), np.nan)
