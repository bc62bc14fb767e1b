"""Analyze first-layer filters: frequency responses, best frequencies, bandwidths.

A first layer is linear up to its nonlinearity, whatever its operations are: convolution, stride, dilation, a frozen
normalization. Each unit is therefore one filter, the gradient of its response, and scales a sine wave of frequency f by
the filter's gain at f. For deeper layers, which are not linear, `measure_tuning` measures responses to sounds instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_one_each, check_ranges
from brainmap.errors import InputError, RunError
from brainmap.features.layers.ear import tap
from brainmap.features.layers.layer import Layer
from brainmap.features.layers.listing import list_layers
from brainmap.features.layers.running import evaluating, forward, get_device
from brainmap.features.layers.selection import find_layer
from brainmap.features.sounds.batches import Sounds, iterate_tensors
from brainmap.features.sounds.inputs import describe_input, resolve_rate

HALF_POWER = float(np.sqrt(0.5))  # amplitude at half power: -3 dB
_GRID = 4097
DEAD = 1e-6  # share of the largest value


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Hold the filters of a layer that is linear up to its nonlinearity.

    Attributes
    ----------
    layer : str
    kernels : ndarray float64 (n_units, n_taps)
        Weights of each unit on the samples of its receptive field, including the normalization, first sample first.
    offsets : ndarray float64 (n_units,)
        Response of each unit to silence, before the nonlinearity.
    rate : int [Hz]
    stride : int [samples]
        Step between frames. It does not change the filter, but frequencies above `rate / stride / 2` Hz are aliased.
    """

    layer: str
    kernels: NDArray[np.float64] = field(repr=False)
    offsets: NDArray[np.float64] = field(repr=False)
    rate: int
    stride: int

    def gain(self, frequencies: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the gain of each filter for sine waves, `(n_units, n_frequencies)`.

        The gain at f is |sum_t k_t exp(-2 pi i f t / rate)| for the kernel k.

        Parameters
        ----------
        frequencies : ndarray (n_frequencies,) [Hz]
        """
        taps = np.arange(self.kernels.shape[1]) / self.rate
        waves = np.exp(-2j * np.pi * np.asarray(frequencies, dtype=np.float64)[:, None] * taps)
        return np.asarray(np.abs(self.kernels @ waves.T))

    @cached_property
    def table(self) -> pd.DataFrame:
        """Build a table with one row per unit, in the order of units: see `FILTER_COLUMNS`."""
        hertz = np.linspace(0, self.rate / 2, _GRID)
        gains = self.gain(hertz)
        table = find_passbands(gains, hertz, height=HALF_POWER)
        dead = gains.max(axis=1) <= DEAD * gains.max()
        table.loc[dead, [c for c in table.columns if c != "shape"]] = np.nan
        table.loc[dead, "shape"] = "dead"
        table.insert(0, "layer", self.layer)
        table.insert(1, "unit", np.arange(len(table)))
        return table.assign(offset=self.offsets)

    @property
    def order(self) -> NDArray[np.intp]:
        """Order units by best frequency, low to high; dead units come last."""
        return np.argsort(self.table["best_hz"].to_numpy(), kind="stable")


FILTER_COLUMNS = {
    "layer": "layer of the network",
    "unit": "unit of the layer, from 0",
    "best_hz": "frequency of the largest gain [Hz]",
    "peak": "that gain: amplitude out over amplitude in",
    "low_hz": "lower edge of the band around it, where the gain is 3 dB less [Hz]; the lowest frequency if none",
    "high_hz": "upper edge of the band [Hz]; the highest frequency if none",
    "bandwidth_hz": "distance of the edges [Hz]",
    "octaves": "distance of the edges [octaves]; n/a for a band that begins at 0 Hz",
    "q": "best_hz over bandwidth_hz",
    "bands": "how many separate bands lie within 3 dB of the largest gain",
    "shape": "band-pass, low-pass or high-pass (one edge is missing), flat (both are), dead (the filter is zero)",
    "offset": "response to silence, before the nonlinearity",
}


def find_passbands(
    curves: NDArray[np.floating], frequencies: NDArray[np.floating], *, height: float = HALF_POWER
) -> pd.DataFrame:
    """Find the band around the highest point of each curve over frequency.

    Edges lie where the curve falls below `height` times its peak, by linear interpolation between the given
    frequencies. Where a band reaches the end of the frequencies, its edge is that end, and `shape` shows this.

    Parameters
    ----------
    curves : ndarray (n_units, n_frequencies)
    frequencies : ndarray (n_frequencies,) [Hz]
        Ascending.
    height : float
        0.707, half the power, for amplitudes; 0.5 for half height.

    Returns
    -------
    DataFrame
        `best_hz`, `peak`, `low_hz`, `high_hz`, `bandwidth_hz`, `octaves`, `q`, `bands`, `shape`; a curve without
        positive values has no band, and its shape is "none".

    Examples
    --------
    >>> find_passbands(np.array([[0, 0, 1, 0, 0]]), np.arange(1, 6) * 100, height=0.5)[["best_hz", "low_hz", "high_hz"]]
       best_hz  low_hz  high_hz
    0    300.0   250.0    350.0
    """
    hertz = np.asarray(frequencies, dtype=np.float64)
    rows = [_find_passband(np.asarray(curve, dtype=np.float64), hertz, height) for curve in curves]
    table = pd.DataFrame(rows, columns=["best_hz", "peak", "low_hz", "high_hz", "bands", "shape"])
    width = table["high_hz"] - table["low_hz"]
    table.insert(4, "bandwidth_hz", width)
    table.insert(5, "octaves", np.log2(table["high_hz"] / table["low_hz"].where(table["low_hz"] > 0)))
    table.insert(6, "q", table["best_hz"] / width.where(width > 0))
    return table


def _find_passband(
    curve: NDArray[np.float64], hertz: NDArray[np.float64], height: float
) -> tuple[float, float, float, float, float, str]:
    best = int(curve.argmax())
    peak = float(curve[best])
    if not peak > 0:
        return np.nan, peak, np.nan, np.nan, np.nan, "none"
    inside = curve >= height * peak
    bands = int(inside[0]) + int((inside[1:] & ~inside[:-1]).sum())
    below, above = np.flatnonzero(~inside[:best]), np.flatnonzero(~inside[best:])
    low, high = float(hertz[0]), float(hertz[-1])
    if len(below):
        at = int(below[-1])
        low = float(np.interp(height * peak, curve[at : at + 2], hertz[at : at + 2]))
    if len(above):
        at = best + int(above[0])
        high = float(np.interp(height * peak, curve[[at, at - 1]], hertz[[at, at - 1]]))
    shape = {(True, True): "band-pass", (False, True): "low-pass", (True, False): "high-pass"}
    return float(hertz[best]), peak, low, high, bands, shape.get((bool(len(below)), bool(len(above))), "flat")


def layer_filters(
    model: nn.Module, sounds: Sounds, *, layer: str = "first", rate: int | None = None, device: str = "cpu"
) -> Filters:
    """Compute the filters of a network's first layer, including the normalization that follows it.

    Parameters
    ----------
    model : torch.nn.Module
        It runs in eval mode; afterwards each module is back in the mode that it had.
    sounds : Sounds, array or Tensor (n, 1, t)
        Only the length and the rate are used.
    layer : str
        "first", or the name of any layer without a nonlinearity before it.
    rate : int, optional [Hz]
        Rate of sounds that do not carry theirs.
    device : str

    Returns
    -------
    Filters

    Raises
    ------
    InputError
        An unknown layer; a layer that is not linear up to its nonlinearity; inputs that are not waveforms of one
        channel.
    RunError
        A gradient is not finite.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3, stride=2), nn.ReLU())
    >>> _ = net[0].weight.data.copy_(torch.tensor([[[1.0, 1.0, 1.0]], [[-1.0, 2.0, -1.0]]]))
    >>> layer_filters(net, np.zeros((1, 1, 20)), rate=8000).table["shape"].tolist()
    ['low-pass', 'high-pass']
    """
    axes = describe_input(sounds)
    if axes is not None and not axes.is_waveform:
        raise InputError(
            f"filters: expected a network on waveforms, got one on {axes.front_end.kind}, whose filters are patterns "
            "of frequency and time; take picture_filters"
        )
    example, rate = get_waveform(sounds, rate, "filters")
    place, gradients, offsets = compute_linear_response(model, sounds, example, layer=layer, device=device)
    kernels = gradients[:, 0]
    size = place.receptive_field
    if isinstance(size, int) and isinstance(place.center, int | float) and isinstance(place.stride, int):
        middle = place.shape[1] // 2 if len(place.shape) > 1 else 0
        start = max(0, round(place.center + middle * place.stride - (size - 1) / 2))
        kernels = kernels[:, start : start + size]
    stride = place.stride if isinstance(place.stride, int) and place.stride else 1
    return Filters(layer=place.name, kernels=kernels, offsets=offsets, rate=rate, stride=stride)


def compute_linear_response(
    model: nn.Module, sounds: Sounds, example: torch.Tensor, *, layer: str, device: str
) -> tuple[Layer, NDArray[np.float64], NDArray[np.float64]]:
    """Compute how a layer's middle position responds to each sample of an input like `example`.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor
    example : Tensor (1, ...)
    layer : str
        "first", or the name of any layer without a nonlinearity before it.
    device : str

    Returns
    -------
    layer : Layer
    gradients : ndarray (n_units, ...)
    offsets : ndarray (n_units,)
        Response to zeros.

    Raises
    ------
    InputError
        An unknown layer, or one that is not linear up to its nonlinearity or gives no filters of such inputs.
    RunError
        A gradient is not finite.
    """
    with evaluating(model, device):
        listed = list_layers(model, sounds)
        place = find_linear_layer(model, listed, layer)
        zero = torch.zeros_like(example, device=get_device(model))
        gradients, offsets = _compute_middle_gradients(model, place, zero)
        linear = is_additive(model, place, zero)
    if not (np.isfinite(gradients).all() and np.isfinite(offsets).all()):
        raise RunError(f"filters: the gradient of layer {place.name!r} is not finite; look at its weights")
    if not linear:
        raise InputError(
            f"filters: layer {place.name!r} is not linear up to its nonlinearity, so its units are no filters; name "
            f"{listed[0].name!r}, or measure its tuning with tones (measure_tuning)"
        )
    return place, gradients, offsets


def _compute_middle_gradients(
    model: nn.Module, layer: Layer, example: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute gradients `(n_units, ...)` of a layer's middle position, and its value `(n_units,)`."""
    given = example.clone().requires_grad_()
    rows: list[Any] = []
    with torch.enable_grad(), tap(model, layer.name, stage="before", gradient=True) as heard:
        forward(model, given)
        if example.ndim == 3 and len(layer.shape) > 2:
            raise InputError(
                f"filters: layer {layer.name!r} gives {layer.shape}, as behind a spectrogram, so its "
                "units are no filters of the waveform; measure its tuning with tones (measure_tuning)"
            )
        values = layer.arranged(heard[layer.name], 1)[0]
        while values.ndim > 1:
            values = values[:, values.shape[1] // 2]
        for value in values:
            (row,) = torch.autograd.grad(value, given, retain_graph=True, allow_unused=True)
            if row is None:
                raise InputError(
                    f"filters: no gradient leads from layer {layer.name!r} to the sounds (a forward pass "
                    "under no_grad?); measure its tuning with tones (measure_tuning)"
                )
            rows.append(row[0].double().cpu().numpy())
    return np.stack(rows), values.detach().double().cpu().numpy()


def get_waveform(sounds: Sounds, rate: int | None, what: str) -> tuple[torch.Tensor, int]:
    """Return the first sound `(1, 1, t)` and the rate [Hz], where frequencies are defined.

    Raises
    ------
    InputError
        Several channels, 2-D inputs, no rate, or a rate that differs from that of the sounds.
    """
    example = next(iterate_tensors(sounds, 1))
    if example.ndim != 3 or example.shape[1] != 1:
        raise InputError(
            f"{what}: expected waveforms (1, t), got inputs of shape {tuple(example.shape[1:])}, in which a tone has "
            "no place"
        )
    return example, resolve_rate(sounds, rate, what)


def find_linear_layer(model: nn.Module, listed: tuple[Layer, ...], name: str) -> Layer:
    """Find a layer by the name of its module; a convolution at the end is listed as the output."""
    convs = [one for one, module in model.named_modules() if isinstance(module, nn.modules.conv._ConvNd)]
    unlisted = [one for one in convs if one not in {layer.name for layer in listed}]
    if listed[-1].is_convolution and len(unlisted) == 1:
        listed = (*listed[:-1], replace(listed[-1], name=unlisted[0]))
    found = listed[0] if name == "first" else find_layer(listed, name, "filters")
    if found.is_convolution:
        return found
    raise InputError(f"filters: layer {found.name!r} is no convolution; its units have no frequency response")


def is_additive(model: nn.Module, layer: Layer, zero: torch.Tensor) -> bool:
    """Tell whether the response of a layer to a sum of sounds is the sum of its responses, up to a constant."""
    one, other = 0.1 * torch.randn((2, *zero.shape), generator=torch.Generator().manual_seed(0)).to(zero)
    said = []
    with torch.no_grad(), tap(model, layer.name, stage="before") as heard:
        for wave in (zero, one, other, one + other):
            forward(model, wave)
            said.append(heard[layer.name].double())
    constant, first, second, both = said
    off = (both - first - second + constant).abs().max()
    return bool(off <= 1e-4 * (both - constant).abs().max())


@dataclass(frozen=True, kw_only=True)
class Spectra:
    """Hold smoothed spectra of sounds, such as the patterns that maximize units.

    Attributes
    ----------
    labels : tuple of str
    frequencies : ndarray (n_frequencies,) [Hz]
        Frequencies evenly spaced in octaves.
    level_db : ndarray (n_sounds, n_frequencies) [dB]
        Power per Hz relative to that of the loudest frequency; NaN for silence.
    table : DataFrame
        `label`, and the columns of `find_passbands` of the power at half height; in the order of the sounds.
    """

    labels: tuple[str, ...]
    frequencies: NDArray[np.float64] = field(repr=False)
    level_db: NDArray[np.float64] = field(repr=False)
    table: pd.DataFrame = field(repr=False)

    @property
    def order(self) -> NDArray[np.intp]:
        """Order sounds by the frequency of their highest peak, low to high; silence comes last."""
        return np.argsort(self.table["best_hz"].to_numpy(), kind="stable")


def pattern_spectra(
    patterns: Any,
    *,
    rate: int | None = None,
    labels: Sequence[str] | None = None,
    lowest_hz: float = 50.0,
    per_octave: int = 12,
    smoothing: float = 1 / 6,
) -> Spectra:
    """Compute spectra of maximizing patterns, which can be sorted by their peaks.

    Parameters
    ----------
    patterns : Maximization, StoredPatterns, Sounds or ndarray (n, 1, t)
    rate : int, optional [Hz]
        Rate; it must be given for an array.
    labels : sequence of str, optional
        By default the labels of the patterns, or their positions.
    lowest_hz : float [Hz]
    per_octave : int
        Number of frequencies per octave.
    smoothing : float [octaves]
        Width of the band over which power is averaged.

    Returns
    -------
    Spectra

    Raises
    ------
    InputError
        Input that is not waveforms of one channel, no rate, labels that differ in number, no frequency below half the
        rate.

    Examples
    --------
    >>> time = np.arange(8000) / 8000
    >>> tones = np.stack([np.sin(2 * np.pi * hertz * time) for hertz in (1000, 200)])[:, None]
    >>> pattern_spectra(tones, rate=8000).order.tolist()
    [1, 0]
    """
    waves = getattr(patterns, "patterns", getattr(patterns, "waveforms", patterns))
    example, rate = get_waveform(waves, rate or getattr(patterns, "rate", None), "spectra")
    check_ranges(
        "spectra",
        (f"a lowest frequency from 0 to {rate / 2:g} Hz", lowest_hz, 0 < lowest_hz < rate / 2),
        ("per_octave of 1 or more", per_octave, per_octave >= 1),
        ("a smoothing above 0", smoothing, smoothing > 0),
    )
    names = list(labels or getattr(patterns, "labels", None) or map(str, range(len(waves))))
    check_one_each(names, len(waves), "spectra: labels", "sounds")
    half = 2 ** (smoothing / 2)
    size = max(example.shape[2], int(np.ceil(rate / (lowest_hz * (half - 1 / half) / 4))))  # at least 4 bins a band
    power = np.abs(np.fft.rfft(np.asarray(waves, dtype=np.float64)[:, 0], size)) ** 2
    hertz = lowest_hz * 2.0 ** (np.arange(int(np.log2(rate / 2 / half / lowest_hz) * per_octave) + 1) / per_octave)
    first, last = (np.searchsorted(np.fft.rfftfreq(size, 1 / rate), hertz * edge) for edge in (1 / half, half))
    total = np.cumsum(np.pad(power, ((0, 0), (1, 0))), axis=1)
    smooth = (total[:, last] - total[:, first]) / (last - first)
    table = find_passbands(smooth, hertz, height=0.5)
    table.insert(0, "label", names)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = 10 * np.log10(smooth / smooth.max(axis=1, keepdims=True))
    return Spectra(labels=tuple(names), frequencies=hertz, level_db=level, table=table)
