"""Tell what the axes of a network's input mean, and bring maps and spectrograms back to the time of the sound.

Tell what the axes of a network's input mean, and bring maps over it back to the time of the sound.

Make sounds out of log-mel spectrograms: the power between the bands is fitted, and phases are guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.sounds.front_ends import WAVEFORM, FrontEnd, read_front_end
from brainmap.features.sounds.spectrogram import compute_mel_filters, compute_power


@dataclass(frozen=True, kw_only=True)
class InputAxes:
    """Describe the axes of the input of a network that was computed out of sounds.

    Attributes
    ----------
    front_end : FrontEnd
    rate : int [Hz]
        Rate of the sounds.
    n_samples : int [samples]
        Length of the sounds.
    """

    front_end: FrontEnd
    rate: int
    n_samples: int

    @property
    def is_waveform(self) -> bool:
        """Tell whether the input is the waveform itself."""
        return self.front_end.is_waveform

    @property
    def time_axis(self) -> int:
        """Return the axis of the input that holds time."""
        return self.front_end.time_axis

    def rate_of(self, n_frames: int) -> float:
        """Compute samples or frames per second, for an input of so many along its axis of time."""
        if self.is_waveform:
            return float(self.rate)
        return self.front_end.frame_rate(self.rate, n_samples=self.n_samples, n_frames=n_frames)

    def hertz(self) -> NDArray[np.float64] | None:
        """Compute the center of each band [Hz], where bands have frequencies."""
        return self.front_end.hertz(self.rate)

    def picture(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Arrange the values of one item as a picture `(bands, frames)`."""
        return self.front_end.picture(values)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a store."""
        return {"input": self.front_end.settings(), "rate": self.rate, "n_samples": self.n_samples}

    @classmethod
    def of_dict(cls, about: Mapping[str, Any] | None) -> InputAxes | None:
        """Read what `as_dict` gave; None stays None.

        Examples
        --------
        >>> axes = InputAxes(front_end=read_front_end("log-mel"), rate=16_000, n_samples=16_000)
        >>> InputAxes.of_dict(axes.as_dict()) == axes
        True
        """
        if about is None:
            return None
        return cls(front_end=read_front_end(about["input"]), rate=int(about["rate"]), n_samples=int(about["n_samples"]))


def describe_input(sounds: Any) -> InputAxes | None:
    """Describe the input that a network gets of sounds; None for an array, which says nothing.

    Examples
    --------
    >>> describe_input(np.zeros((2, 1, 8))) is None
    True
    """
    rate, n_samples = getattr(sounds, "rate", None), getattr(sounds, "n_samples", None)
    if rate is None or n_samples is None:
        return None
    return InputAxes(front_end=getattr(sounds, "front_end", WAVEFORM), rate=int(rate), n_samples=int(n_samples))


def compute_input_rate(sounds: Any, shape: tuple[int, ...]) -> float | None:
    """Compute samples or frames per second of the input of a shape `(c, t)` or `(c, h, w)`; None for an array."""
    axes = describe_input(sounds)
    if axes is None:
        known = getattr(sounds, "rate", None)
        return None if known is None else float(known)
    return axes.rate_of(shape[axes.time_axis])


def resolve_rate(sounds: Any, rate: int | None, what: str) -> int:
    """Return the rate that sounds say, or that which is given for an array [Hz].

    Raises
    ------
    InputError
        Neither says it, both differ, or it is not above 0.

    Examples
    --------
    >>> resolve_rate(np.zeros((1, 1, 8)), 8000, "tuning")
    8000
    """
    said = getattr(sounds, "rate", None)
    known = said if rate is None else rate
    if known is None:
        raise InputError(f"{what}: an array says nothing of its rate; give rate= [Hz]")
    if known <= 0 or said not in (None, known):
        raise InputError(f"{what}: expected a rate of {said or 'more than 0'} Hz, got {rate} Hz")
    return int(known)


def get_waveforms(sounds: Any) -> Any:
    """Return sounds as waveforms, without their front end; arrays stay as they are."""
    axes = describe_input(sounds)
    return sounds if axes is None or axes.is_waveform else replace(sounds, front_end=WAVEFORM)


def read_padded(sounds: Any) -> Any:
    """Return all waveforms at once, with zeros after the end of sounds of own lengths; arrays stay as they are."""
    padded = getattr(sounds, "padded", None)
    return getattr(sounds, "waveforms", sounds) if padded is None else padded


def get_silence(sounds: Any) -> NDArray[np.float32]:
    """Return what a network gets of silence, `(c, h, w)` or `(c, t)`; 0 for waveforms and arrays."""
    axes = describe_input(sounds)
    if axes is None or axes.is_waveform:
        return np.zeros((), np.float32)
    silence = np.zeros((1, 1, axes.n_samples), np.float32)
    return np.asarray(axes.front_end.compute(silence, rate=axes.rate)[0])


def compute_time_courses(maps: NDArray[np.floating], axes: InputAxes | None) -> NDArray[np.floating]:
    """Bring maps over an input to the samples of the sounds: bands are summed, frames interpolated.

    Each frame's value is spread over its samples, so that the sum of a course is that of the map; between the centers
    of frames the course is interpolated linearly.

    Parameters
    ----------
    maps : ndarray (..., t) or (..., h, w)
    axes : InputAxes, optional
        None, or waveforms: the maps are returned as they are.

    Returns
    -------
    ndarray (..., n_samples)

    Examples
    --------
    >>> axes = InputAxes(front_end=read_front_end("log-mel,mels=2"), rate=16_000, n_samples=16_000)
    >>> compute_time_courses(np.ones((3, 2, 128)), axes).shape
    (3, 16000)
    """
    if axes is None or axes.is_waveform or maps.shape[-1] == axes.n_samples:
        return maps
    over_time = np.moveaxis(maps, axes.time_axis, -1).sum(axis=-2)
    frames, per_second = over_time.shape[-1], axes.rate_of(over_time.shape[-1])
    step = axes.rate / per_second  # samples
    place = np.clip(np.arange(axes.n_samples) / step, 0, frames - 1)
    low = np.minimum(place.astype(np.intp), max(frames - 2, 0))
    high = np.minimum(low + 1, frames - 1)
    share = place - low
    return np.asarray((over_time[..., low] * (1 - share) + over_time[..., high] * share) / step)


def check_invertible(axes: InputAxes | None, shape: tuple[int, ...]) -> None:
    """Refuse inputs `(c, h, w)` of which no sound can be made.

    Raises
    ------
    InputError
        The input is no whole log-mel spectrogram.
    """
    kind = "an array" if axes is None else axes.front_end.kind
    if axes is None or axes.front_end.kind != "log-mel":
        raise InputError(f"save_wav: expected waveforms or log-mel spectrograms, got {kind}; leave WAV files out")
    bands = shape[-2] if axes.time_axis == -1 else shape[-1]
    if len(shape) == 3 and (shape[0] != 1 or bands != axes.front_end.mels):
        raise InputError(
            f"save_wav: expected {axes.front_end.mels} mel bands, got patterns of shape {shape}, a part of them; leave "
            "WAV files out, or take extent = 'full'"
        )


def make_waveforms(patterns: NDArray[np.float32], axes: InputAxes | None, rate: int) -> tuple[NDArray[np.float32], int]:
    """Return patterns as waveforms `(n, 1, t)` and their rate [Hz], which for pictures is not the `rate` of frames.

    Raises
    ------
    InputError
        As `invert_pictures` raises it.
    """
    if axes is None or patterns.ndim != 4:
        return patterns, rate
    return invert_pictures(patterns, axes), axes.rate


def invert_pictures(pictures: NDArray[np.floating], axes: InputAxes, *, iterations: int = 32) -> NDArray[np.float32]:
    """Compute waveforms `(n, 1, t)` out of log-mel spectrograms `(n, 1, h, w)`.

    The power of each frequency is the nonnegative least-squares solution for the bands; phases come from the fast
    Griffin-Lim algorithm, whose start is fixed. Sounds are scaled down where they exceed full scale.

    Parameters
    ----------
    pictures : ndarray (n, 1, h, w)
    axes : InputAxes
    iterations : int
        Of the Griffin-Lim algorithm.

    Raises
    ------
    InputError
        The pictures are no whole log-mel spectrograms.

    References
    ----------
    Perraudin N, Balazs P, Sondergaard PL (2013): doi:10.1109/WASPAA.2013.6701851
    """
    import librosa

    check_invertible(axes, pictures.shape[1:])
    taken, rate = axes.front_end, axes.rate
    size = taken.fft or taken.window(rate)
    filters = compute_mel_filters(rate=rate, n_mels=taken.mels, fft=size, fmin=taken.fmin, fmax=taken.fmax)
    waves = []
    for one in pictures:
        power = compute_power(axes.picture(one), taken.scaling)
        spectrum = librosa.util.nnls(filters, power.astype(np.float32))
        wave = librosa.griffinlim(
            np.sqrt(spectrum),
            n_iter=iterations,
            hop_length=taken.hop(rate),
            win_length=taken.window(rate),
            n_fft=size,
            random_state=0,
        )
        waves.append(wave / max(1.0, float(np.abs(wave).max())))
    return np.stack(waves)[:, None].astype(np.float32)
