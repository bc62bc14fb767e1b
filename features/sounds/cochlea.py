"""Simulate a cochlea (half-cosine filters of constant ERB width, envelopes, compression) and modulation filters."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from brainmap.errors import InputError

RATES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # Hz
SCALES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # cycles per octave; 0 stands for all frequencies together
COMPRESSION = 0.3
ENVELOPE_HZ = 200
LOWEST_HZ = 50.0
PER_OCTAVE = 12  # channels per octave before the modulation filters


def convert_to_erb(hertz: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Convert frequencies [Hz] to ERB numbers, in steps of the ear's equivalent rectangular bandwidth.

    The ERB number is 1000 / (24.7 * 4.37) ln(1 + 4.37 f / 1000), the integral of 1 / ERB(f) with
    ERB(f) = 24.7 (1 + 4.37 f / 1000); it is often written with rounded factors, 21.4 log10(1 + 0.00437 f).

    References
    ----------
    Glasberg BR, Moore BCJ (1990): doi:10.1016/0378-5955(90)90170-T

    Examples
    --------
    >>> float(convert_to_erb(1000.0).round(2))
    15.57
    """
    return np.asarray(1000 / (24.7 * 4.37) * np.log(1 + 4.37 * np.asarray(hertz, dtype=float) / 1000))


def convert_from_erb(number: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Convert ERB numbers to frequencies [Hz]."""
    return np.asarray((np.exp(np.asarray(number, dtype=float) * 24.7 * 4.37 / 1000) - 1) * 1000 / 4.37)


def compute_erb_centers(n: int, *, rate: float) -> NDArray[np.float64]:
    """Compute `n` centers [Hz] that are evenly spaced in ERB numbers between 50 Hz and half the rate, ends left out."""
    return convert_from_erb(np.linspace(convert_to_erb(LOWEST_HZ), convert_to_erb(rate / 2), n + 2)[1:-1])


def compute_octave_centers(*, rate: float) -> NDArray[np.float64]:
    """Compute centers [Hz], 12 per octave, from 100 Hz up to a semitone below half the rate."""
    n = int(np.floor(np.log2(rate / 2 / 100.0) * PER_OCTAVE))
    return 100.0 * 2 ** (np.arange(n) / PER_OCTAVE)


def compute_filter_gains(
    centers: NDArray[np.floating], n_samples: int, *, rate: float, width: float
) -> NDArray[np.float32]:
    """Compute the gain of half-cosine filters at the frequencies of `rfft`, `(n_filters, n_samples // 2 + 1)`.

    Filters extend `width` ERB numbers to each side; where their spacing equals `width`, their squared gains sum to 1.

    References
    ----------
    McDermott JH, Simoncelli EP (2011): doi:10.1016/j.neuron.2011.06.032
    """
    away = np.abs(convert_to_erb(np.fft.rfftfreq(n_samples, 1 / rate)) - convert_to_erb(centers)[:, None]) / width
    return np.where(away < 1, np.cos(np.pi / 2 * away), 0).astype(np.float32)


@cache
def _cache_gains(n_filters: int | None, n_samples: int, rate: int) -> NDArray[np.float32]:
    if n_filters is None:
        return compute_filter_gains(compute_octave_centers(rate=rate), n_samples, rate=rate, width=1.0)
    spacing = float(convert_to_erb(rate / 2) - convert_to_erb(LOWEST_HZ)) / (n_filters + 1)
    return compute_filter_gains(compute_erb_centers(n_filters, rate=rate), n_samples, rate=rate, width=spacing)


def compute_subband_envelopes(
    waves: NDArray[np.floating], *, rate: int, n_filters: int | None = 30
) -> NDArray[np.float32]:
    """Compute Hilbert envelopes of cochlear subbands to the power 0.3, at 200 Hz.

    Parameters
    ----------
    waves : array (n, t)
    rate : int [Hz]
    n_filters : int or None
        Number of filters, evenly spaced in ERB numbers; None gives 12 per octave from 100 Hz, one ERB wide to each
        side.

    Returns
    -------
    ndarray float32 (n, n_filters, t * 200 / rate)

    References
    ----------
    McDermott JH, Simoncelli EP (2011): doi:10.1016/j.neuron.2011.06.032
    """

    n_samples = waves.shape[1]
    gains = _cache_gains(n_filters, n_samples, rate)
    spectra = scipy.fft.rfft(np.asarray(waves, dtype=np.float32), axis=1)
    spectra[:, 1:] *= 2  # an analytic signal has no negative frequencies
    if n_samples % 2 == 0:
        spectra[:, -1] /= 2
    out = []
    for spectrum in spectra:
        analytic = np.zeros((len(gains), n_samples), np.complex64)
        analytic[:, : gains.shape[1]] = gains * spectrum
        out.append(_resample_envelope(np.abs(scipy.fft.ifft(analytic, axis=1)) ** COMPRESSION, rate))
    return np.stack(out)


def _resample_envelope(envelope: NDArray[np.floating], rate: int) -> NDArray[np.float32]:
    from scipy.signal import resample_poly  # slow to import

    common = np.gcd(ENVELOPE_HZ, rate)
    slow = resample_poly(envelope, ENVELOPE_HZ // common, rate // common, axis=-1, padtype="line")
    return np.asarray(np.maximum(slow, 0), dtype=np.float32)


def compute_waveform_envelope(waves: NDArray[np.floating], *, rate: int) -> NDArray[np.float32]:
    """Compute the Hilbert envelope of the whole sound at 200 Hz, `(n, 1, t * 200 / rate)`."""
    from scipy.signal import hilbert

    return _resample_envelope(np.abs(hilbert(waves, axis=1))[:, None], rate)


def compute_modulation_filters(
    n_channels: int, n_frames: int, *, per_octave: float = PER_OCTAVE, frames_hz: float = ENVELOPE_HZ
) -> NDArray[np.float32]:
    """Compute the gains of modulation filters over the 2-D spectrum of a time-frequency representation.

    The filters are Gaussian over the logarithm of rate and scale and an octave wide at half power; scale 0 covers all
    scales below the lowest. Downward sweeps (falling frequency) and upward sweeps lie in different quadrants.

    Returns
    -------
    ndarray float32 (2, n_rates, n_scales, n_channels, n_frames)
        The first axis is downward, upward; the last two are the frequencies of `fft2`.

    References
    ----------
    Chi T, Ru P, Shamma SA (2005): doi:10.1121/1.1945807; Singh NC, Theunissen FE (2003): doi:10.1121/1.1624067
    """
    scale, rate = np.fft.fftfreq(n_channels, 1 / per_octave)[:, None], np.fft.fftfreq(n_frames, 1 / frames_hz)[None]

    def around(center: float, at: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(divide="ignore"):
            octaves = np.log2(np.abs(at) / center)
        return np.asarray(np.exp(-np.log(2) / 2 * (octaves / 0.5) ** 2))

    lowest = min(s for s in SCALES if s)
    rates = np.stack([around(r, rate) for r in RATES])
    scales = np.stack(
        [
            around(s, scale) if s else np.where(np.abs(scale) < lowest / 2, 1.0, around(lowest / 2, scale))
            for s in SCALES
        ]
    )
    product = np.sign(scale) * np.sign(rate)
    # modulations without a direction, such as the same course at all frequencies, are shared by both
    direction = np.stack(
        [
            np.where(product > 0, 1.0, np.where(product == 0, np.sqrt(0.5), 0)),
            np.where(product < 0, 1.0, np.where(product == 0, np.sqrt(0.5), 0)),
        ]
    )
    gains = direction[:, None, None] * rates[None, :, None] * scales[None, None]
    return np.asarray(gains, dtype=np.float32)


@cache
def _cache_modulation_gains(n_channels: int, n_frames: int) -> NDArray[np.float32]:
    gains = compute_modulation_filters(n_channels, n_frames)
    return gains.reshape(-1, n_channels * n_frames)


def compute_modulation_spectrum(waves: NDArray[np.floating], *, rate: int) -> NDArray[np.float32]:
    """Compute the RMS of each modulation filter's output over time and frequency, on subband envelopes, 12 per octave.

    Parameters
    ----------
    waves : array (n, t)
    rate : int [Hz]

    Returns
    -------
    ndarray float32 (n, 2, n_rates, n_scales)
        The axes are downward and upward, `RATES` [Hz], `SCALES` [cycles per octave].

    Raises
    ------
    InputError
        Sounds shorter than one cycle of the slowest rate.

    References
    ----------
    Chi T, Ru P, Shamma SA (2005): doi:10.1121/1.1945807
    """
    if waves.shape[1] < rate / RATES[0]:
        raise InputError(
            f"modulation: expected sounds of {1000 / RATES[0]:g} ms or more, one cycle of the slowest rate, got "
            f"{1000 * waves.shape[1] / rate:.3g} ms"
        )
    envelopes = compute_subband_envelopes(waves, rate=rate, n_filters=None)
    envelopes -= envelopes.mean(axis=2, keepdims=True)
    shape = envelopes.shape[1:]
    power = np.abs(scipy.fft.fft2(envelopes)).reshape(len(waves), -1) ** 2 / np.prod(shape) ** 2
    gains = _cache_modulation_gains(*shape)
    rms = np.sqrt(power @ np.square(gains).T)
    return np.asarray(rms.reshape(len(waves), 2, len(RATES), len(SCALES)))
