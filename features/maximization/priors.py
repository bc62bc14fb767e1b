"""Define priors of activation maximization: how a pattern is parameterized, leveled and penalized."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.types import Parameterization

# 1/f is constant below this: a pattern with all its power at 1 Hz, held at a level, never converges
LOWEST_HZ = 50.0

# Long-term average spectrum of speech, third-octave bands [dB], all languages (Byrne et al. 1994, Table II)
_SPEECH_HZ = (
    63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3150, 4000, 5000,
    6300, 8000, 10000, 12500, 16000,
)  # fmt: skip
_SPEECH_DB = (
    38.6, 43.5, 54.4, 57.7, 56.8, 60.2, 60.3, 59.0, 62.1, 62.1, 60.5, 56.8, 53.7, 53.0, 52.0, 48.7, 48.1,
    46.8, 45.6, 44.5, 44.3, 43.7, 43.4, 41.3, 40.7,
)  # fmt: skip


def compute_mean_spectrum(waveforms: NDArray[np.floating], shape: Sequence[int]) -> NDArray[np.float64]:
    """Compute the root mean square amplitude spectrum of sounds, at the frequencies of a pattern of another length.

    Parameters
    ----------
    waveforms : ndarray (n, c, t) or (n, c, h, w)
    shape : sequence of int
        Shape of a pattern without its channels: `(t,)` or `(h, w)`.

    Returns
    -------
    ndarray (t // 2 + 1,) or (h, w // 2 + 1)
        Amplitude of each bin of `rfftn`, scaled to mean square 1. Along every axis, sounds longer than the pattern are
        cut into Hann windows of its length (Welch), and shorter ones are padded with zeros.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 8 * np.arange(64) / 64)[None, None]
    >>> int(compute_mean_spectrum(tone, (64,)).argmax())
    8
    """
    sounds = np.asarray(waveforms, dtype=np.float64)
    for axis, size in enumerate(shape, start=-len(shape)):
        if sounds.shape[axis] > size:
            sounds = _cut_windows(sounds, size, axis)
    axes = tuple(range(-len(shape), 0))
    transform = np.fft.rfftn(sounds, s=tuple(shape), axes=axes)
    power = (np.abs(transform) ** 2).mean(axis=tuple(range(sounds.ndim - len(axes))))
    amplitude: NDArray[np.float64] = np.sqrt(power / power.mean()) if power.any() else power
    return amplitude


def _cut_windows(sounds: NDArray[np.float64], length: int, axis: int) -> NDArray[np.float64]:
    """Cut one axis into half-overlapping Hann windows, at most about 200 per sound, along a new first axis."""
    hop = max(1, length // 2, (sounds.shape[axis] - length) // 200)
    cut = np.lib.stride_tricks.sliding_window_view(sounds, length, axis=axis)  # the window is the last axis
    starts = np.moveaxis(cut, axis - 1, 0)[::hop]
    return np.moveaxis(starts * np.hanning(length + 2)[1:-1], -1, axis)


def compute_speech_spectrum(n: int, rate: float) -> NDArray[np.float64]:
    """Compute the amplitude of speech at the bins of an `rfft` of `n` samples, which is used where no sounds are given.

    References
    ----------
    Byrne et al. (1994), doi:10.1121/1.410152

    Examples
    --------
    >>> amplitude = compute_speech_spectrum(16_000, 16_000)
    >>> bool(amplitude[500] > 5 * amplitude[4000])
    True
    """
    frequency = np.fft.rfftfreq(n, 1 / rate)
    # a band level covers a third of an octave, whose width is .232 of its center
    density = np.array(_SPEECH_DB) - 10 * np.log10(0.232 * np.array(_SPEECH_HZ))
    decibel = np.interp(np.log(np.maximum(frequency, 1.0)), np.log(_SPEECH_HZ), density)
    decibel = decibel - 24.0 * np.log2(63.0 / np.clip(frequency, 1.0, 63.0))  # decreases below 63 Hz
    power = 10 ** (decibel / 10)
    power[0] = 0.0
    amplitude: NDArray[np.float64] = np.sqrt(power / power.mean())
    return amplitude


def compute_fourier_scale(
    kind: Parameterization,
    shape: Sequence[int],
    *,
    rate: float,
    waveforms: NDArray[np.floating] | None = None,
    band: tuple[float | None, float | None] = (None, None),
) -> NDArray[np.float64] | None:
    """Compute the amplitude of every bin of the parameterization; None for plain samples without band limits.

    `band` (low, high) [Hz] sets everything outside to zero.
    """
    scale = np.ones((*shape[:-1], shape[-1] // 2 + 1))
    if kind == "spectrum" and waveforms is not None:
        scale = compute_mean_spectrum(waveforms, shape)
    elif kind == "spectrum" and len(shape) == 1:
        scale = compute_speech_spectrum(shape[0], rate)
    elif kind == "spectrum":
        raise InputError(
            "activation maximization: parameterization 'spectrum' of a 2-D input needs sounds; give sounds="
        )
    elif kind == "1/f":
        scale = 1 / np.maximum(_compute_radius(shape), max(LOWEST_HZ / rate, 1 / max(shape)))
    inside = mark_band(shape, rate, band)
    if inside is None:
        return None if kind == "pixels" else _scale_to_unit(scale)
    return _scale_to_unit(np.where(inside, scale, 0.0))


def mark_band(shape: Sequence[int], rate: float, band: tuple[float | None, float | None]) -> NDArray[np.bool_] | None:
    """Mark the bins of an `rfft` of a pattern in the band (low, high) [Hz], limits included; None without limits.

    Raises
    ------
    InputError
        The pattern is 2-D, a limit lies above half the rate, or the band lies between two bins.

    Examples
    --------
    >>> mark_band((8,), 8000, (1000, 2500)).tolist()
    [False, True, True, False, False]
    """
    low, high = band
    if low is None and high is None:
        return None
    if len(shape) != 1:
        raise InputError(
            f"activation maximization: a band in Hz needs a waveform (c, t), the pattern is 2-D {tuple(shape)}; "
            "leave low_hz and high_hz out, or maximize through a front end that makes the spectrogram"
        )
    beyond = [limit for limit in (low, high) if limit is not None and limit > rate / 2]
    if beyond:
        raise InputError(
            f"activation maximization: band limit {beyond[0]:g} Hz lies above {rate / 2:g} Hz, half the rate, where "
            "no frequency is; lower it or leave it out"
        )
    frequency = np.fft.rfftfreq(shape[0], 1 / rate)
    inside: NDArray[np.bool_] = (frequency >= (low or 0.0)) & (frequency <= (np.inf if high is None else high))
    if not inside.any():
        raise InputError(
            f"activation maximization: no frequency of a pattern of {shape[0]} samples at {rate:g} Hz lies "
            f"in the band {low} to {high} Hz; widen it, or make the pattern longer"
        )
    return inside


def _scale_to_unit(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = scale / np.sqrt(np.mean(scale**2))
    return unit


def compute_color_mixing(pictures: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute how independent channels are mixed so that they correlate as the channels of pictures do.

    Gradient ascent on channels that are free of each other gives colors that no picture has. Where the parameters are
    decorrelated, and the mixing is the square root of the channels' covariance, it moves along the colors of pictures.

    Parameters
    ----------
    pictures : ndarray (n, c, h, w)

    Returns
    -------
    ndarray (c, c)
        Symmetric, scaled so that the mean square over channels stays.

    References
    ----------
    Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007

    Examples
    --------
    >>> gray = np.random.default_rng(0).standard_normal((5, 1, 8, 8)) * np.ones((1, 3, 1, 1))
    >>> compute_color_mixing(gray).round(2).tolist()
    [[0.58, 0.58, 0.58], [0.58, 0.58, 0.58], [0.58, 0.58, 0.58]]
    """
    channels = np.moveaxis(np.asarray(pictures, dtype=np.float64), 1, 0).reshape(pictures.shape[1], -1)
    covariance = np.atleast_2d(np.cov(channels, bias=True))
    power = np.trace(covariance) / len(covariance)
    if power <= 0:
        return np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance / power)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T)


def _compute_radius(shape: Sequence[int]) -> NDArray[np.float64]:
    """Compute the distance of every `rfftn` bin from zero frequency [cycles per sample]."""
    axes = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    radius: NDArray[np.float64] = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    return radius


class Prior:
    """Turn free parameters, initially white noise, into the input of the network.

    Parameters
    ----------
    scale : ndarray or None
        Amplitude of each Fourier bin; with None the parameters are the samples themselves.
    shape : sequence of int
        `(c, t)` or `(c, h, w)` of one pattern.
    level : float or None
        Root mean square of every pattern; None leaves it free.
    peak : float or None
        Patterns beyond it are scaled down (never clipped).
    gain : float
        Root mean square of a start whose level is free.
    center : float
        Value to which the pattern is added at last: level and peak are those of its deviations.
    mixing : ndarray (c, c), optional
        Channels of the pattern as sums of independent ones, as `compute_color_mixing` gives it.
    """

    def __init__(
        self,
        scale: NDArray[np.float64] | None,
        shape: Sequence[int],
        *,
        level: float | None,
        peak: float | None,
        gain: float = 1.0,
        center: float = 0.0,
        mixing: NDArray[np.float64] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape, self.level, self.peak, self.gain, self.center = tuple(shape), level, peak, gain, center
        self.scale, self.mixing = (
            None if one is None else torch.as_tensor(one, dtype=torch.float32, device=device) for one in (scale, mixing)
        )

    def start(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw the free parameters of one pattern: white noise of variance 1."""
        if self.scale is None:
            return rng.standard_normal(self.shape, dtype=np.float32)
        # the noise is drawn as samples, so that bins without an imaginary part (0 Hz, Nyquist) get none
        axes = tuple(range(1, len(self.shape)))
        noise = np.fft.rfftn(rng.standard_normal(self.shape), axes=axes, norm="ortho")
        return np.stack([noise.real, noise.imag], axis=-1).astype(np.float32)

    def draw_noises(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """Draw which noise each of `n` patterns is made of, where a prior makes patterns of noise."""
        return np.zeros(n, dtype=np.int64)

    def decode(self, parameters: Tensor, noises: NDArray[np.integer] | None = None) -> Tensor:
        """Turn parameters `(b, ...)` into patterns `(b, c, t)` at the level and within the peak.

        `noises` (b,), as drawn by `draw_noises`, are by default different ones for each pattern.
        """
        raw = self._decode_raw(parameters, noises)
        if self.level is not None:
            raw = raw * (self.level / compute_rms(raw).clamp_min(1e-12))
        elif self.gain != 1.0:
            raw = raw * self.gain
        if self.peak is not None:
            highest = raw.abs().flatten(1).amax(1).clamp_min(1e-12)
            raw = raw * _reshape_rows(self.peak / highest, raw).clamp_max(1.0)
        return raw + self.center if self.center else raw

    def _decode_raw(self, parameters: Tensor, noises: NDArray[np.integer] | None) -> Tensor:
        if self.scale is None:
            return parameters
        axes = tuple(range(2, len(self.shape) + 1))
        spectrum = torch.view_as_complex(parameters) * self.scale
        raw: Tensor = torch.fft.irfftn(spectrum, s=self.shape[1:], dim=axes, norm="ortho")
        return raw if self.mixing is None else torch.einsum("dc,bc...->bd...", self.mixing, raw)


class LatentPrior(Prior):
    """Decode patterns from free parameters that are latents `(b, *latent)`, standard normal at the start.

    Parameters
    ----------
    decoder : torch.nn.Module
        The decoder in eval mode, on its device.
    latent : tuple of int
        Shape of one latent.
    inside : ndarray of bool, optional
        Bins of the patterns' transform that are kept.

    Raises
    ------
    InputError
        The decoder refuses such latents, or gives sounds of another shape.
    """

    def __init__(
        self,
        decoder: nn.Module,
        latent: tuple[int, ...],
        shape: Sequence[int],
        *,
        level: float | None,
        peak: float | None,
        inside: NDArray[np.bool_] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(None, shape, level=level, peak=peak, device=device)
        self.decoder, self.latent = decoder, latent
        self.inside = None if inside is None else torch.as_tensor(inside, device=device)
        with torch.no_grad():
            try:
                made = decoder(torch.zeros(1, *latent, device=device))
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise InputError(f"decoder: refuses latents {latent}: {said}; give latent=, what it takes") from error
        found = tuple(made.shape[1:]) if isinstance(made, Tensor) else type(made).__name__
        if found != self.shape:
            raise InputError(
                f"decoder: gives sounds of shape {found} from latents {latent}, the network takes {self.shape}; give a "
                "decoder of that length (and channels), or length="
            )

    def start(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw one latent from the standard normal, its distribution in the decoder's training."""
        return rng.standard_normal(self.latent, dtype=np.float32)

    def _decode_raw(self, parameters: Tensor, noises: NDArray[np.integer] | None) -> Tensor:
        made: Tensor = self.decoder(parameters)
        if self.inside is not None:
            made = torch.fft.irfft(torch.fft.rfft(made) * self.inside, n=made.shape[-1])
        return made


def _reshape_rows(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def compute_rms(values: Tensor) -> Tensor:
    """Compute the root mean square of every row, in a shape that broadcasts against `values`."""
    return _reshape_rows(values.flatten(1).square().mean(1).sqrt(), values)


def normalize_gradient(gradient: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Divide every row of a gradient by its root mean square r (by `floor`, where that is higher); return also r.

    A gradient of 1e-25 is normalized too, although its square underflows in float32.
    """
    highest = _reshape_rows(gradient.abs().flatten(1).amax(1), gradient)
    scaled = gradient / highest.clamp_min(1e-37)
    size = highest * compute_rms(scaled)
    return scaled * (highest / size.clamp_min(max(floor, 1e-37))), size


def compute_penalty(patterns: Tensor, settings: MaximizationSettings) -> Tensor | None:
    """Sum weighted mean |x|, mean x^2, (mean |x|^p)^(1/p), mean |x[t + 1] - x[t]|; None where all weights are 0."""
    terms = []
    if settings.l1:
        terms.append(settings.l1 * patterns.abs().flatten(1).mean(1))
    if settings.l2:
        terms.append(settings.l2 * patterns.square().flatten(1).mean(1))
    if settings.lp:
        terms.append(settings.lp * compute_power_mean(patterns, settings.lp_power))
    if settings.total_variation:
        steps = [patterns.diff(dim=d).abs().flatten(1).mean(1) for d in range(2, patterns.ndim)]
        terms.append(settings.total_variation * torch.stack(steps).sum(0))
    return torch.stack(terms).sum(0) if terms else None


def compute_power_mean(patterns: Tensor, power: float) -> Tensor:
    """Compute (mean |x|^p)^(1/p) of every pattern; a large p does not overflow.

    Examples
    --------
    >>> round(compute_power_mean(torch.tensor([[3.0, -4.0]]), 2).item() ** 2, 3)
    12.5
    """
    size = patterns.abs().flatten(1)
    highest = size.detach().amax(1, keepdim=True).clamp_min(1e-12)
    return highest[:, 0] * (size / highest).pow(power).mean(1).clamp_min(1e-30).pow(1 / power)
