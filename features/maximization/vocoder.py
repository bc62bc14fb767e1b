"""A prior of envelopes: patterns are noise in bands of hearing, whose envelopes alone are optimized.

Words are understood from the envelopes of a few bands of noise (Shannon et al. 1995), but a network can be driven by
fine structure that no other network responds to. Here every step of the ascent draws other noise, so that only what
the envelopes say counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from brainmap.errors import InputError
from brainmap.features.maximization.priors import LOWEST_HZ, Prior
from brainmap.features.sounds.cochlea import convert_to_erb

SHORTEST = 0.25  # s; a shorter pattern has no course of time to speak of
_BAND_ERB = 2.0  # distance of the bands
_FRAME = 0.05  # s, distance of the points between which envelopes are interpolated
_POOL = 4.0  # s of noise beyond the length of a pattern, from which every step draws
_STEP_DB = 0.8  # of an envelope, for a change of 1 of a free parameter
_REACH_DB = 30.0  # limit of an envelope on both sides; without it a unit that answers one moment alone ends in inf
_START_DB = 10.0  # standard deviation of an envelope at the start


class NoiseVocoder(Prior):
    """Turn free parameters, the envelopes of bands, into noise with these envelopes.

    Bands overlap, with centers 2 ERB apart from 0 Hz to half the rate; with flat envelopes they add up to noise with
    the amplitudes `scale`. Nothing lies below 50 Hz. Envelopes are interpolated linearly between points that lie 50 ms
    apart. A free parameter of 1 raises its point by 0.8 dB, and less the farther it is from 0, so that no point lies
    more than 30 dB above or below its band's mean; at the start points vary by 10 dB, about as those of speech do.

    Parameters
    ----------
    scale : ndarray (t // 2 + 1,)
        Amplitude of each Fourier bin of a pattern; those that are 0 stay empty.
    shape : sequence of int
        `(c, t)` of one pattern.
    rate : float [Hz]
    level, peak, gain, device
        As for `Prior`.

    Raises
    ------
    InputError
        The pattern is no waveform of a quarter of a second or more.

    References
    ----------
    Shannon et al. (1995), doi:10.1126/science.270.5234.303; Glasberg and Moore (1990),
    doi:10.1016/0378-5955(90)90170-T (width of the bands)

    Examples
    --------
    >>> prior = NoiseVocoder(np.ones(4001), (1, 8000), rate=8000, level=0.1, peak=None)
    >>> prior.start(np.random.default_rng(0)).shape  # bands, points in time
    (1, 15, 21)
    """

    def __init__(
        self,
        scale: NDArray[np.float64],
        shape: Sequence[int],
        *,
        rate: float,
        level: float | None,
        peak: float | None,
        gain: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(shape) != 2 or shape[-1] < SHORTEST * rate:
            raise InputError(
                f"parameterization 'noise-vocoder': expected patterns that are waveforms of {SHORTEST} s or more, got "
                f"shape {tuple(shape)} at {rate:g} Hz; take 'spectrum', or give a length"
            )
        super().__init__(None, shape, level=level, peak=peak, gain=gain, device=device)
        length = shape[-1]
        scale = np.where(np.arange(len(scale)) * rate / length < LOWEST_HZ, 0.0, scale)
        bands = _make_noise(scale, length + round(_POOL * rate), rate)
        self.noise = torch.as_tensor(bands, dtype=torch.float32, device=device)
        self.places = round(_POOL * rate)
        self.free = (shape[0], len(bands), 1 + round(length / rate / _FRAME))
        self.inside = torch.as_tensor(scale > 0, device=device)

    def start(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw the envelopes of one pattern."""
        return rng.standard_normal(self.free, dtype=np.float32) * np.float32(_START_DB / _STEP_DB)

    def draw_noises(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """Draw where the noise of each of `n` patterns begins."""
        return rng.integers(0, self.places, n)

    def _decode_raw(self, parameters: Tensor, noises: NDArray[np.integer] | None) -> Tensor:
        n, length = len(parameters), self.shape[-1]
        if noises is None:
            noises = np.arange(n) * (self.places // n)
        decibel = _REACH_DB * (parameters * (_STEP_DB / _REACH_DB)).tanh()
        points = (decibel * (np.log(10) / 20)).exp()
        envelopes = functional.interpolate(points.flatten(0, 1), size=length, mode="linear", align_corners=True)
        noise = torch.stack([self.noise[:, at : at + length] for at in noises.tolist()])
        made: Tensor = (envelopes.reshape(n, -1, *noise.shape[1:]) * noise[:, None]).sum(2)
        inside: Tensor = torch.fft.irfft(torch.fft.rfft(made) * self.inside, n=length)
        return inside  # an envelope that changes widens its band


def _make_noise(scale: NDArray[np.float64], length: int, rate: float) -> NDArray[np.float64]:
    """Make noise of a long-term spectrum in bands (n_bands, length), of mean square 1 together."""
    frequency = np.fft.rfftfreq(length, 1 / rate)
    heard = convert_to_erb(frequency)
    centers = np.linspace(0, heard[-1], 1 + round(heard[-1] / _BAND_ERB))
    share = np.stack([np.interp(heard, centers, one) for one in np.eye(len(centers))])
    amplitude = np.interp(frequency, np.linspace(0, rate / 2, len(scale)), scale)
    white = np.fft.rfft(np.random.default_rng(0).standard_normal(length))
    bands = np.fft.irfft(white * amplitude * share, n=length)
    unit: NDArray[np.float64] = bands / np.sqrt(np.mean(bands.sum(0) ** 2))
    return unit
