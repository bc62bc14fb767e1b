"""Bring relevance from the samples of a sound to moments and frequencies, and let it be heard.

A sound is the sum of the grains of its short-time Fourier transform. Where a map is a product of the samples and a
gradient, as input times gradient, integrated gradients, and LRP by the rules epsilon and z give it, its share of each
grain follows exactly: the inverse transform is one more linear layer in front of the network (Vielhaben et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from brainmap.errors import InputError

WINDOW_S, HOP_S = 0.032, 0.008

_ROOM = 1e-6  # samples that are smaller than this, relative to the RMS, pass on less than their relevance


@dataclass(frozen=True)
class TimeFrequencyMap:
    """Hold relevance over frequencies and moments.

    Attributes
    ----------
    values : ndarray (n_bins, n_frames)
        Signed; their sum is that of the map but for `lost`.
    hertz : ndarray (n_bins,) [Hz]
    seconds : ndarray (n_frames,) [s]
        Centers of the frames.
    lost : float
        Relevance of nearly silent samples that has no grain to go to.
    """

    values: NDArray[np.float64]
    hertz: NDArray[np.float64]
    seconds: NDArray[np.float64]
    lost: float


def _make_transform(rate: float):  # type: ignore[no-untyped-def]
    from scipy.signal import ShortTimeFFT  # slow to import
    from scipy.signal.windows import hann

    size = 2 ** round(np.log2(max(WINDOW_S * rate, 8)))
    hop = max(1, size // 4)
    return ShortTimeFFT(hann(size, sym=False), hop=hop, fs=rate, scale_to=None)


def spread_over_frequency(
    sound: NDArray[np.floating], course: NDArray[np.floating], *, rate: float
) -> TimeFrequencyMap:
    """Compute the relevance of every grain of the short-time Fourier transform of a sound.

    Parameters
    ----------
    sound : ndarray (t,)
    course : ndarray (t,)
        Relevance of every sample, which must be a product of the sample and a gradient.
    rate : float [Hz]

    Returns
    -------
    TimeFrequencyMap

    Raises
    ------
    InputError
        Sound and map have other lengths or are no waveforms.

    References
    ----------
    Vielhaben J, Lapuschkin S, Montavon G, Samek W (2024), doi:10.1016/j.patcog.2024.110309

    Examples
    --------
    >>> time = np.arange(1600) / 16_000
    >>> tone = np.sin(2 * np.pi * 1000 * time)
    >>> found = spread_over_frequency(tone, tone * tone, rate=16_000)
    >>> float(found.hertz[found.values.sum(axis=1).argmax()])
    1000.0
    """
    x, r = np.asarray(sound, dtype=np.float64), np.asarray(course, dtype=np.float64)
    if x.ndim != 1 or x.shape != r.shape:
        raise InputError(f"relevance: expected a sound (t,) and a map (t,), got {x.shape} and {r.shape}")
    room = (_ROOM * np.sqrt(np.mean(x**2))) ** 2
    gradient = r * x / (x**2 + room) if room > 0 else np.zeros_like(r)
    transform = _make_transform(rate)
    grains = transform.stft(x)
    # x = sum over grains of their inverse transforms, so that sum(x * gradient) is a sum over grains
    own = _transform_back_adjoint(transform, gradient)
    values = (grains.conj() * own).real
    seconds = transform.t(len(x))
    return TimeFrequencyMap(values, transform.f, seconds, float(r.sum() - values.sum()))


def _transform_back_adjoint(transform, gradient: NDArray[np.float64]) -> NDArray[np.complex128]:  # type: ignore[no-untyped-def]
    """Compute the gradient with respect to the grains, given that with respect to the samples."""
    from scipy.signal import ShortTimeFFT

    dual = ShortTimeFFT(transform.dual_win, hop=transform.hop, fs=transform.fs, scale_to=None)
    found = dual.stft(gradient)
    size = transform.mfft
    found /= size
    found[1 : (size + 1) // 2] *= 2  # a bin of the half spectrum stands for two
    return np.asarray(found)


def attenuate(
    sound: NDArray[np.floating],
    mask: NDArray[np.floating],
    *,
    rate: float,
) -> NDArray[np.float32]:
    """Multiply the short-time Fourier transform of a sound (t,) by gains (n_bins, n_frames), and transform it back.

    Examples
    --------
    >>> sound = np.sin(np.arange(2000) / 5)
    >>> transform = spread_over_frequency(sound, sound, rate=16_000)
    >>> bool(np.allclose(attenuate(sound, np.ones_like(transform.values), rate=16_000), sound, atol=1e-6))
    True
    """
    x = np.asarray(sound, dtype=np.float64)
    transform = _make_transform(rate)
    made = transform.istft(transform.stft(x) * mask, k1=len(x))
    return np.asarray(made, dtype=np.float32)


def make_mask(
    sound: NDArray[np.floating],
    relevance: NDArray[np.floating],
    *,
    rate: float,
    hertz: NDArray[np.floating] | None = None,
    by_grain: bool = False,
    floor_db: float = -30.0,
) -> NDArray[np.float64]:
    """Make gains (n_bins, n_frames) of a sound from relevance: 1 where it is high, `floor_db` where there is none.

    Parameters
    ----------
    sound : ndarray (t,)
    relevance : ndarray (t,) or (n_bands, n_frames)
        Relevance of samples, or of the bands and frames of a spectrogram (or of bands and samples).
    rate : float [Hz]
    hertz : ndarray (n_bands,), optional [Hz]
        Center of every band, where there are bands.
    by_grain : bool
        Spread the relevance of samples over frequencies (`spread_over_frequency`); otherwise a moment counts or does
        not, in all frequencies alike.
    floor_db : float [dB]
        Gain where the relevance is zero or negative.

    Raises
    ------
    InputError
        The map is nowhere positive, has bands without frequencies, or does not fit the sound.
    """
    transform = _make_transform(rate)
    shape = transform.stft(np.asarray(sound, dtype=np.float64)).shape
    seconds = transform.t(len(sound))
    values = np.asarray(relevance, dtype=np.float64)
    if values.ndim == 1 and by_grain:
        found = spread_over_frequency(sound, values, rate=rate).values
        found = gaussian_filter(found, (2.0, 1.5))
    elif values.ndim == 1:
        smooth = gaussian_filter(values, 0.01 * rate)
        course = np.interp(seconds, (np.arange(len(values)) + 0.5) / rate, smooth, left=0.0, right=0.0)
        found = np.broadcast_to(course, shape)
    else:
        if hertz is None or len(hertz) != len(values):
            raise InputError(f"relevance: expected the frequency of each of {len(values)} bands; give hertz")
        at = (np.arange(values.shape[1]) + 0.5) * len(sound) / rate / values.shape[1]
        in_time = np.stack([np.interp(seconds, at, row, left=0.0, right=0.0) for row in values])
        found = np.stack([np.interp(transform.f, hertz, column) for column in in_time.T], axis=1)
        found = gaussian_filter(found, (1.0, 1.0))
    positive = np.maximum(found, 0.0)
    if not positive.any():
        raise InputError("relevance: the map is nowhere positive, so that nothing would be left of the sound")
    top = np.quantile(positive[positive > 0], 0.9)
    share = np.clip(positive / top, 0, 1) ** 0.5
    low = 10 ** (floor_db / 20)
    return np.asarray(low + (1 - low) * share)
