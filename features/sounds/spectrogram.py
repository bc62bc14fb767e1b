"""Compute spectrograms for 2-D networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges
from brainmap.errors import InputError
from brainmap.types import MelScaling

RATE = 16_000
MELS = 64
HOP = 125  # samples between the frames of a spectrogram
WINDOW = 512  # samples
_AT_ONCE = 256  # frames, so that their transforms fit into the cache

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
    sounds = np.asarray(waveforms, dtype=np.float32)
    if sounds.ndim != 3 or sounds.shape[1] != 1 or sounds.shape[2] < window:
        raise InputError(f"log-mel: expected sounds (n, 1, n_samples) of {window} samples or more, got {sounds.shape}")
    check_choice(scaling, get_args(MelScaling), "log-mel: scaling")
    size = window if fft is None else fft
    bands = compute_mel_filters(rate=rate, n_mels=n_mels, fft=size, fmin=fmin, fmax=fmax)
    spectra = _transform(sounds, hop=hop, window=window, fft=size)
    return scale_power(bands @ cut_frames(np.square(np.abs(spectra)), frames or sounds.shape[2] // hop), scaling)


def _transform(sounds: NDArray[np.float32], *, hop: int, window: int, fft: int) -> NDArray[np.complex64]:
    """Compute short-time Fourier transforms (n, 1, fft // 2 + 1, n_frames), equal to those of librosa to the last bit.

    librosa itself compiles two dozen kernels when it is first used, which takes half a minute.
    """
    weights = np.zeros(fft)
    before = (fft - window) // 2
    turn = np.linspace(-np.pi, np.pi, window + 1)[:-1]
    weights[before : before + window] = 0.5 + 0.5 * np.cos(turn)  # a periodic Hann window
    padded = np.pad(sounds, [(0, 0), (0, 0), (fft // 2, fft // 2)])
    frames = np.moveaxis(sliding_window_view(padded, fft, axis=-1)[..., ::hop, :], -1, -2)
    shape = (*sounds.shape[:2], fft // 2 + 1, frames.shape[-1])
    found = np.zeros(shape, dtype=np.complex64, order="F")  # the order decides in which way a product is summed
    for row in range(len(sounds)):
        for at in range(0, shape[-1], _AT_ONCE):
            some = slice(at, at + _AT_ONCE)
            found[row, ..., some] = scipy.fft.rfft(weights[:, None] * frames[row, ..., some], axis=-2)
    return found


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
    highest = rate / 2 if fmax is None else fmax
    check_ranges(
        "log-mel",
        (f"0 <= fmin < fmax <= {rate / 2:g} Hz, half the rate", (fmin, highest), 0 <= fmin < highest <= rate / 2),
    )
    centers = _space_mels(n_mels + 2, fmin, highest)
    ramps = np.subtract.outer(centers, np.fft.rfftfreq(n=fft, d=1.0 / rate))
    widths = np.diff(centers)
    rising, falling = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    gains: NDArray[np.float32] = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    gains *= (2.0 / (centers[2:] - centers[:-2]))[:, None]
    empty = int((gains.max(axis=1) == 0).sum())
    if empty:
        raise InputError(
            f"log-mel: expected bands that hold a frequency each, got {empty} of {n_mels} that hold none of a "
            f"transform of {fft} samples; take fewer bands, or a longer window or transform"
        )
    return gains


def _space_mels(n: int, fmin: float, fmax: float) -> NDArray[np.float64]:
    """Compute `n` frequencies [Hz] evenly spaced in Slaney's mel: linear below 1000 Hz, and logarithmic above."""
    knee, per_mel, step = 1000.0, 200.0 / 3, np.log(6.4) / 27.0
    low, high = (f / per_mel if f < knee else knee / per_mel + np.log(f / knee) / step for f in (fmin, fmax))
    mels = np.linspace(low, high, n)
    above = mels >= knee / per_mel
    hertz = per_mel * mels
    hertz[above] = knee * np.exp(step * (mels[above] - knee / per_mel))
    return hertz


def compute_mel_centers(*, rate: int, n_mels: int, fmin: float, fmax: float | None) -> NDArray[np.float64]:
    """Compute the center [Hz] of each mel band."""
    return _space_mels(n_mels + 2, fmin, rate / 2 if fmax is None else fmax)[1:-1]


_SCALES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "log": (lambda power: np.log(power + FLOORS["log"]), lambda x: np.maximum(np.exp(x) - FLOORS["log"], 0.0)),
    "log10": (lambda power: np.log10(np.maximum(power, FLOORS["log10"])), lambda x: 10**x),
    "db": (lambda power: 10 * np.log10(np.maximum(power, FLOORS["db"])), lambda x: 10 ** (x / 10)),
    "power": (lambda power: power, lambda x: np.maximum(x, 0.0)),
    "amplitude": (np.sqrt, lambda x: np.maximum(x, 0.0) ** 2),
}
"""How the power of bands is scaled, and how it is computed back."""


def scale_power(power: NDArray[np.floating], scaling: MelScaling) -> NDArray[np.float32]:
    """Scale the power of bands as `log_mel` describes.

    Examples
    --------
    >>> scale_power(np.array([1.0, 100.0]), "db").tolist()
    [0.0, 20.0]
    """
    scale, _ = _SCALES[scaling]
    return np.asarray(scale(power), dtype=np.float32)


def compute_power(scaled: NDArray[np.floating], scaling: MelScaling) -> NDArray[np.float64]:
    """Compute the power of bands out of their scaled values, 0 where these lie below silence.

    Examples
    --------
    >>> compute_power(scale_power(np.array([1.0, 100.0]), "log"), "log").round(4).tolist()
    [1.0, 100.0]
    """
    _, invert = _SCALES[scaling]
    return np.asarray(invert(np.asarray(scaled, dtype=np.float64)))
