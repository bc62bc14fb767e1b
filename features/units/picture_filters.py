"""Analyze first-layer filters of networks on spectrograms: patterns of frequency and time, and their modulations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from brainmap.errors import InputError
from brainmap.features.layers.layer import Layer
from brainmap.features.sounds.batches import Sounds, iterate_tensors
from brainmap.features.sounds.inputs import InputAxes, describe_input
from brainmap.features.units.filters import DEAD, compute_linear_response

_BINS = 64  # of the transform along each axis

PICTURE_FILTER_COLUMNS = {
    "layer": "layer of the network",
    "unit": "unit of the layer, from 0",
    "rate_hz": "temporal modulation of the largest gain [Hz]; n/a without frames per second",
    "scale": "spectral modulation of the largest gain [cycles per band]",
    "direction": "up or down: where the frequency moves at that modulation; none where it does not",
    "separability": "share of the energy that one course of time times one profile of frequency holds",
    "norm": "root of the sum of squared weights",
    "shape": "filter, or dead (the filter is zero)",
    "offset": "response to an input of zeros, before the nonlinearity",
}


@dataclass(frozen=True, kw_only=True)
class PictureFilters:
    """Hold the filters of a layer that is linear up to its nonlinearity, over frequency and time.

    Attributes
    ----------
    layer : str
    kernels : ndarray float64 (n_units, n_bands, n_frames)
        Weights of each unit on the part of the spectrogram that it sees, the lowest band and the first frame first.
    offsets : ndarray float64 (n_units,)
        Response of each unit to an input of zeros, before the nonlinearity.
    axes : InputAxes, optional
        What the axes of the input mean, where the sounds say it.
    frame_rate : float or None [Hz]
        Frames per second.
    """

    layer: str
    kernels: NDArray[np.float64] = field(repr=False)
    offsets: NDArray[np.float64] = field(repr=False)
    axes: InputAxes | None
    frame_rate: float | None

    @cached_property
    def table(self) -> pd.DataFrame:
        """Build a table with one row per unit, in the order of units: see `PICTURE_FILTER_COLUMNS`."""
        norms = np.sqrt(np.square(self.kernels).sum(axis=(1, 2)))
        dead = norms <= DEAD * norms.max()
        gains = np.abs(np.fft.fft2(self.kernels, (_BINS, _BINS)))[:, :, : _BINS // 2 + 1]
        best = gains.reshape(len(gains), -1).argmax(axis=1)
        scale = np.fft.fftfreq(_BINS)[best // gains.shape[2]]
        rate = np.fft.rfftfreq(_BINS)[best % gains.shape[2]] * (self.frame_rate or np.nan)
        energy = np.square(np.linalg.svd(self.kernels, compute_uv=False))
        turn = np.where((rate == 0) | (np.abs(scale) == 0.5), 0, np.sign(scale))
        table = pd.DataFrame(
            {
                "layer": self.layer,
                "unit": np.arange(len(norms)),
                "rate_hz": rate,
                "scale": np.abs(scale),
                "direction": [{1: "down", -1: "up"}.get(int(one), "none") for one in turn],
                "separability": energy[:, 0] / np.maximum(energy.sum(axis=1), 1e-300),
                "norm": norms,
                "shape": np.where(dead, "dead", "filter"),
                "offset": self.offsets,
            }
        )
        table.loc[dead, ["rate_hz", "scale", "separability"]] = np.nan
        table.loc[dead, "direction"] = "none"
        return table

    @property
    def order(self) -> NDArray[np.intp]:
        """Order units by temporal and then spectral modulation, low to high; dead units come last."""
        table = self.table
        return np.lexsort((table["scale"].to_numpy(), table["rate_hz"].to_numpy(), table["shape"] == "dead"))


def picture_filters(model: nn.Module, sounds: Sounds, *, layer: str = "first", device: str = "cpu") -> PictureFilters:
    """Compute the filters of the first layer of a network on spectrograms, including the normalization behind it.

    Parameters
    ----------
    model : torch.nn.Module
        It runs in eval mode; afterwards each module is back in the mode that it had.
    sounds : Sounds, array or Tensor (n, c, h, w)
        Only the shape and the axes of the first one are used.
    layer : str
        "first", or the name of any layer without a nonlinearity before it.
    device : str

    Returns
    -------
    PictureFilters
        Channels of the input are summed.

    Raises
    ------
    InputError
        Waveforms, an unknown layer, or a layer that is not linear up to its nonlinearity.
    RunError
        A gradient is not finite.

    References
    ----------
    Chi T, Ru P, Shamma SA (2005): doi:10.1121/1.1945807

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU())
    >>> picture_filters(net, np.zeros((1, 1, 20, 30), np.float32)).kernels.shape
    (2, 3, 3)
    """
    example, axes = next(iterate_tensors(sounds, 1)), describe_input(sounds)
    if example.ndim != 4:
        raise InputError(f"filters: expected spectrograms (n, c, h, w), got inputs of shape {tuple(example.shape)}")
    place, gradients, offsets = compute_linear_response(model, sounds, example, layer=layer, device=device)
    pictures = _cut_receptive_field(gradients.sum(axis=1), place)
    if axes is not None and axes.time_axis == -2:
        pictures = pictures.swapaxes(1, 2)
    rate = None if axes is None else axes.rate_of(example.shape[axes.time_axis])
    return PictureFilters(layer=place.name, kernels=pictures, offsets=offsets, axes=axes, frame_rate=rate)


def _cut_receptive_field(kernels: NDArray[np.float64], layer: Layer) -> NDArray[np.float64]:
    """Cut the receptive field of the middle position out of gradients over the whole input."""
    sizes, strides, centers = layer.receptive_field, layer.stride, layer.center
    if not (isinstance(sizes, tuple) and isinstance(strides, tuple) and isinstance(centers, tuple)):
        return kernels
    where: list[slice] = [slice(None)]
    for size, stride, center, length in zip(sizes, strides, centers, layer.shape[1:], strict=True):
        start = round(center + length // 2 * stride - (size - 1) / 2)
        where.append(slice(max(0, start), max(0, start) + size))
    return kernels[tuple(where)]
