"""Compute spectrograms for 2-D networks."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.types import MelScaling

RATE = 16_000
MELS = 64
HOP = 125  # samples between the frames of a spectrogram
WINDOW = 512  # samples

FLOORS: dict[str, float] = {"log": 1e-6, "log10": 1e-10, "db": 1e-10, "power": 0.0, "amplitude": 0.0}
"""Power below which a band counts as silent; 16-bit audio is silent below 1e-6."""


def log_mel(
    waveforms: NDArray[np.floating],
    *,
    rate: int = RATE,
    n_mels: int = MELS,
    hop: int = HOP,
    window: int = WINDOW,
    fft: int | None = None,
    fmin: float = 0.0,
    fmax: float | None = None,
    scaling: MelScaling = "log",
    frames: int | None = None,
) -> NDArray[np.float32]:
    """Compute log-mel spectrograms, by default as `build_network("base-2d")` takes them.

    Parameters
    ----------
    waveforms : ndarray (n, 1, n_samples)
    rate : int [Hz]
    n_mels : int
        Number of bands, evenly spaced in mel (Slaney's scale, filters of equal area, as in librosa); the lowest comes
        first.
    hop, window : int [samples]
        Step between frames, and the length of a Hann window; frame i is centered at sample i * hop, and the sound is
        silent before its first sample.
    fft : int, optional [samples]
        Length of the Fourier transform, at least the window; by default the window.
    fmin, fmax : float [Hz]
        Edges of the lowest and of the highest band; by default 0 and half the rate.
    scaling : {"log", "log10", "db", "power", "amplitude"}
        With the power p in a band: ln(p + 1e-6), log10(max(p, 1e-10)), 10 log10(max(p, 1e-10)), p, or sqrt(p).
    frames : int, optional
        Number of frames, at most one more than the default, n_samples // hop.

    Returns
    -------
    ndarray float32 (n, 1, n_mels, frames)

    Raises
    ------
    InputError
        Another shape, sounds shorter than a window, frequencies outside 0 to half the rate, so many bands that some
        hold no frequency, or more frames than there are.

    Examples
    --------
    >>> log_mel(np.zeros((2, 1, 16_000), np.float32)).shape
    (2, 1, 64, 128)
    """
    import librosa

    sounds = np.asarray(waveforms, dtype=np.float32)
    if sounds.ndim != 3 or sounds.shape[1] != 1 or sounds.shape[2] < window:
        raise InputError(f"log-mel: expected sounds (n, 1, n_samples) of {window} samples or more, got {sounds.shape}")
    check_choice(scaling, get_args(MelScaling), "log-mel: scaling")
    size = window if fft is None else fft
    bands = compute_mel_filters(rate=rate, n_mels=n_mels, fft=size, fmin=fmin, fmax=fmax)
    spectra = librosa.stft(sounds, n_fft=size, hop_length=hop, win_length=window, center=True)
    return scale_power(bands @ cut_frames(np.square(np.abs(spectra)), frames or sounds.shape[2] // hop), scaling)


def cut_frames(found: NDArray[np.floating], frames: int) -> NDArray[np.floating]:
    """Keep the first frames of a spectrogram `(..., n_frames)`.

    Raises
    ------
    InputError
        There are fewer.
    """
    if not 1 <= frames <= found.shape[-1]:
        raise InputError(
            f"input: expected at most {found.shape[-1]} frames, which the sounds give, got frames {frames}; give "
            "longer sounds (seconds) or fewer frames"
        )
    return found[..., :frames]


def compute_mel_filters(*, rate: int, n_mels: int, fft: int, fmin: float, fmax: float | None) -> NDArray[np.float32]:
    """Compute the gains (n_mels, fft // 2 + 1) of mel bands at the frequencies of a Fourier transform.

    Raises
    ------
    InputError
        Frequencies outside 0 to half the rate, or bands that hold no frequency.
    """
    import warnings

    import librosa

    highest = rate / 2 if fmax is None else fmax
    if not 0 <= fmin < highest <= rate / 2:
        raise InputError(
            f"log-mel: expected rising frequencies from 0 to half the rate, {rate / 2:g} Hz, got fmin {fmin:g} and "
            f"fmax {highest:g} Hz"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an error says more
        gains = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=n_mels, fmin=fmin, fmax=highest)
    empty = int((gains.max(axis=1) == 0).sum())
    if empty:
        raise InputError(
            f"log-mel: expected bands that hold a frequency each, got {empty} of {n_mels} that hold none of a "
            f"transform of {fft} samples; take fewer bands, or a longer window or transform"
        )
    return np.asarray(gains, dtype=np.float32)


def compute_mel_centers(*, rate: int, n_mels: int, fmin: float, fmax: float | None) -> NDArray[np.float64]:
    """Compute the center [Hz] of each mel band."""
    import librosa

    edges = librosa.mel_frequencies(n_mels=n_mels + 2, fmin=fmin, fmax=rate / 2 if fmax is None else fmax)
    return np.asarray(edges[1:-1], dtype=np.float64)


def scale_power(power: NDArray[np.floating], scaling: MelScaling) -> NDArray[np.float32]:
    """Scale the power of bands as `log_mel` describes.

    Examples
    --------
    >>> scale_power(np.array([1.0, 100.0]), "db").tolist()
    [0.0, 20.0]
    """
    floor = FLOORS[scaling]
    if scaling == "log":
        return np.asarray(np.log(power + floor), dtype=np.float32)
    if scaling in ("log10", "db"):
        return np.asarray((10 if scaling == "db" else 1) * np.log10(np.maximum(power, floor)), dtype=np.float32)
    return np.asarray(np.sqrt(power) if scaling == "amplitude" else power, dtype=np.float32)


def compute_power(scaled: NDArray[np.floating], scaling: MelScaling) -> NDArray[np.float64]:
    """Compute the power of bands out of their scaled values, 0 where these lie below silence.

    Examples
    --------
    >>> compute_power(scale_power(np.array([1.0, 100.0]), "log"), "log").round(4).tolist()
    [1.0, 100.0]
    """
    values = np.asarray(scaled, dtype=np.float64)
    if scaling == "log":
        return np.maximum(np.exp(values) - FLOORS["log"], 0.0)
    if scaling in ("log10", "db"):
        return np.asarray(10 ** (values / (10 if scaling == "db" else 1)))
    return np.maximum(values, 0.0) ** (2 if scaling == "amplitude" else 1)
