"""Map where in a sound an encoding model reads: its prediction, frame by frame, beside the sound's energy.

BOLD cannot say when in a sound a region responded. An encoding model on time averages can say which moments its
prediction comes from: pooling and weights are linear, so that the prediction is the mean over frames p of the map
m_p = w (A_p - center), plus b (the class activation map of Zhou et al. 2016, for a response in place of a class). Maps
follow loud moments whatever the region prefers, and the beginning and end of all sounds. They are therefore shown less
their mean over the sounds, and beside the course of the energy, which tells what any map of loudness would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_each, list_some
from brainmap.errors import InputError
from brainmap.features.layers.inputs import fit_sounds
from brainmap.features.layers.layer import PLACES, TIME, Layer
from brainmap.features.layers.pooling import pool
from brainmap.features.layers.running import evaluating
from brainmap.features.networks.readout import ReadoutNetwork
from brainmap.features.sounds.batches import get_labels, iterate_tensors
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.inputs import describe_input, get_waveforms
from brainmap.progress import progress

Array = NDArray[np.float64]
LOWEST_DB = -60.0  # of full scale: what is softer counts as silence, which would else decide every correlation
STEP_S = 0.01  # s; tables and figures have the mean of frames that are closer
COLUMNS = {
    "stimulus_id": "sound",
    "region": "region of the encoding model",
    "time": f"center of the frame, or of {1000 * STEP_S:g} ms of them [s]",
    "map": "weighted units of the frame; mean over time + intercept = predicted response",
    "map_less_mean": "map less its mean over the sounds at that time",
    "energy": "level of the sound in that time [dB of full scale]",
    "energy_less_mean": "level less its mean over the sounds at that time [dB]",
}


@dataclass(frozen=True, kw_only=True)
class EncoderMaps:
    """Hold where in each sound an encoding model reads.

    Attributes
    ----------
    maps : ndarray (n_items, n_regions, n_frames)
        In units of the responses; mean over frames + `intercept` = `predictions`.
    predictions : ndarray (n_items, n_regions)
    intercept : ndarray (n_regions,)
    energy : ndarray (n_items, n_frames) [dB of full scale]
        Level of the sound in the time of each frame.
    mean_map, mean_energy : ndarray (n_regions, n_frames), (n_frames,)
        Their means over all sounds that were mapped.
    seconds : ndarray (n_frames,) [s]
        Center of each frame.
    items, regions : tuple of str
    layer : str
    """

    maps: Array = field(repr=False)
    predictions: Array = field(repr=False)
    intercept: Array = field(repr=False)
    energy: Array = field(repr=False)
    mean_map: Array = field(repr=False)
    mean_energy: Array = field(repr=False)
    seconds: Array = field(repr=False)
    items: tuple[str, ...] = field(repr=False)
    regions: tuple[str, ...]
    layer: str

    @property
    def less_mean(self) -> Array:
        """Return the maps less their mean over all sounds at each frame `(n_items, n_regions, n_frames)`."""
        return np.asarray(self.maps - self.mean_map)

    @property
    def energy_less_mean(self) -> Array:
        """Return the level less its mean over all sounds at each frame `(n_items, n_frames)` [dB]."""
        return np.asarray(self.energy - self.mean_energy)

    def take(self, rows: Sequence[int]) -> EncoderMaps:
        """Select sounds; the means stay those of all."""
        index = np.asarray(rows, dtype=np.intp)
        items = tuple(self.items[k] for k in index)
        return replace(
            self, maps=self.maps[index], predictions=self.predictions[index], energy=self.energy[index], items=items
        )

    def average_in_steps(self, seconds: float = STEP_S) -> EncoderMaps:
        """Average frames that are closer than some time [s] over steps of that time; others stay as they are.

        Maps of early layers follow every period of a sound. The last step may have fewer frames.
        """
        apart = float(np.diff(self.seconds).mean()) if len(self.seconds) > 1 else seconds
        size = max(1, round(seconds / apart))
        starts = np.arange(0, len(self.seconds), size)
        sizes = np.diff(np.r_[starts, len(self.seconds)])

        def average(values: Array) -> Array:
            return np.asarray(np.add.reduceat(values, starts, axis=-1) / sizes)

        return replace(
            self,
            maps=average(self.maps),
            energy=average(self.energy),
            mean_map=average(self.mean_map),
            mean_energy=average(self.mean_energy),
            seconds=average(self.seconds),
        )

    def compare_with(self, course: Array) -> Array:
        """Correlate maps less their mean with a course `(n_items, n_frames)`, also less its mean, over frames.

        Returns
        -------
        ndarray (n_items, n_regions)
            NaN where either is constant.
        """
        other = course - course.mean(axis=1, keepdims=True)
        own = self.less_mean
        own = own - own.mean(axis=2, keepdims=True)
        product = np.einsum("irp,ip->ir", own, other)
        size = np.sqrt((own**2).sum(axis=2) * (other**2).sum(axis=1)[:, None])
        return np.where(size > 0, product / np.where(size > 0, size, 1.0), np.nan)

    def follow_energy(self) -> pd.DataFrame:
        """Tell for each region how much its maps follow the energy, in steps of 10 ms or more.

        Returns
        -------
        DataFrame
            `region`, `r_energy`: correlation over time of map and level, both less their mean; mean over sounds.
        """
        steps = self.average_in_steps()
        r = steps.compare_with(steps.energy_less_mean)
        there = np.isfinite(r)
        mean = np.where(there, r, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        return pd.DataFrame({"region": self.regions, "r_energy": np.where(there.any(axis=0), mean, np.nan)})


def map_encoder(
    model: nn.Module,
    sounds: Sounds,
    *,
    regions: Sequence[str] | None = None,
    batch_size: int = 8,
    device: str = "cpu",
) -> EncoderMaps:
    """Map where in each sound an encoding model that is a network reads.

    Parameters
    ----------
    model : torch.nn.Module
        Made by `readout_network` with `pooling="mean"`.
    sounds : Sounds
        Sounds of one length, with their rate.
    regions : sequence of str, optional
        Outputs of the model; all by default.
    batch_size : int
    device : str

    Returns
    -------
    EncoderMaps

    Raises
    ------
    InputError
        A network that is no encoding model, or not on time averages; an unknown region, by nearest name; sounds
        without a rate or of several lengths.

    References
    ----------
    Zhou et al. 2016, doi:10.1109/CVPR.2016.319

    Examples
    --------
    >>> from brainmap.features import readout_network
    >>> from brainmap.features.sounds.files import sounds_from_array
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5, stride=5), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).eval()
    >>> sounds = sounds_from_array(np.random.default_rng(0).standard_normal((3, 1, 10)), rate=1000)
    >>> parts = {"weights": np.ones((2, 1)), "mean": np.zeros(2), "sd": np.ones(2), "intercept": 0.5}
    >>> found = map_encoder(readout_network(net, sounds, layer="0", names=["A1"], **parts), sounds)
    >>> found.seconds.tolist()
    [0.002, 0.007]
    >>> bool(np.allclose(found.maps.mean(axis=2) + found.intercept, found.predictions, atol=1e-6))
    True
    """
    if not isinstance(model, ReadoutNetwork):
        raise InputError("map_encoder: expected an encoding model that is a network; make one with readout_network")
    if model.pooling != "mean":
        raise InputError(
            f"map_encoder: expected an encoding model on time averages, got pooling {model.pooling!r}, whose "
            "prediction is no mean over time; extract activations with pooling='mean'"
        )
    if not isinstance(sounds, Sounds) or sounds.own_lengths:
        raise InputError("map_encoder: expected sounds of one length with their rate; take them of load_sounds")
    names = model.classes if regions is None else tuple(regions)
    check_each(names, model.classes, "map_encoder: region")
    given, rows = fit_sounds(model, sounds), [model.classes.index(name) for name in names]
    items, _ = get_labels(given)
    maps, predictions = [], []
    lengths: tuple[int, ...] = ()
    with evaluating(model, device), torch.no_grad(), progress("encoder maps", len(items)) as step:
        weight, bias = (part.double()[rows] for part in (model.readout.weight, model.readout.bias))
        for batch in iterate_tensors(given, batch_size, device=device):
            lengths = tuple(batch.shape[2:])
            courses = _list_courses(model, batch).double() - model.center.double()
            maps.append(torch.einsum("npu,ru->nrp", courses, weight).cpu().numpy())
            predictions.append(model(batch)[:, rows].double().cpu().numpy())
            step.advance(len(batch))
        intercept = bias.cpu().numpy()
    every = np.concatenate(maps)
    seconds, width = _place_frames(model.layer, sounds, lengths, every.shape[2])
    energy = measure_levels(get_waveforms(sounds).waveforms[:, 0], seconds, width=width, rate=sounds.rate)
    return EncoderMaps(
        maps=every,
        predictions=np.concatenate(predictions),
        intercept=intercept,
        energy=energy,
        mean_map=every.mean(axis=0),
        mean_energy=energy.mean(axis=0),
        seconds=seconds,
        items=tuple(items),
        regions=names,
        layer=model.layer.name,
    )


def _list_courses(model: ReadoutNetwork, batch: Tensor) -> Tensor:
    """Return the units of the encoding model in each frame `(n, n_frames, n_units)`."""
    layer = model.activations(batch)
    names = model.layer.positions
    times = [k for k, name in enumerate(names) if name == TIME] or [k for k, name in enumerate(names) if name == PLACES]
    if len(times) != 1 or len(names) != layer.ndim - 2:
        raise InputError(
            f"map_encoder: the positions of layer {model.layer.name!r} ({list_some(names) or 'none'}) are no course "
            "of time; fit a layer whose frames follow each other"
        )
    at = times[0]
    frames = layer.movedim(2 + at, 1)
    left = tuple(name for k, name in enumerate(names) if k != at)
    units = pool(frames.flatten(0, 1), "mean", positions=left, pool_frequency=model.pool_frequency)
    return units.reshape(*frames.shape[:2], -1)


def _place_frames(layer: Layer, sounds: Sounds, lengths: Sequence[int], n: int) -> tuple[Array, float]:
    """Return the centers of the frames of a layer [s], and the time between them [s].

    Where they are not known, frames are taken to divide the sound evenly.
    """
    axes = describe_input(sounds)
    assert axes is not None
    at = axes.time_axis if len(lengths) > 1 else -1
    _, stride, center = layer.along(at)
    if stride and center is not None:
        rate = axes.rate_of(lengths[at])
        return np.asarray((center + stride * np.arange(n)) / rate, dtype=np.float64), float(stride / rate)
    whole = axes.n_samples / axes.rate
    return (np.arange(n) + 0.5) * whole / n, whole / n


def measure_levels(waves: NDArray[np.floating], seconds: Array, *, width: float, rate: float) -> Array:
    """Measure the level of waveforms `(n, t)` around each of `seconds`, `(n, n_frames)` [dB of full scale].

    Parameters
    ----------
    waves : ndarray (n, t)
    seconds : ndarray (n_frames,) [s]
    width : float [s]
        Length of the stretch around each of them, at least one sample.
    rate : float [Hz]

    Examples
    --------
    >>> measure_levels(np.array([[1.0, 1.0, 0.1, 0.1]]), np.array([0.001, 0.003]), width=0.002, rate=1000).tolist()
    [[0.0, -20.0]]
    """
    power = np.cumsum(np.pad(np.square(waves, dtype=np.float64), ((0, 0), (1, 0))), axis=1)
    n = waves.shape[1]
    low = np.clip(np.round((seconds - width / 2) * rate).astype(np.intp), 0, n - 1)
    high = np.clip(np.round((seconds + width / 2) * rate).astype(np.intp), low + 1, n)
    mean = np.maximum(power[:, high] - power[:, low], 0.0) / (high - low)
    return np.asarray(np.maximum(10 * np.log10(np.maximum(mean, 1e-30)), LOWEST_DB).round(9))


def tabulate_maps(found: EncoderMaps) -> pd.DataFrame:
    """Tabulate maps as one row per sound, region and stretch of time, as `COLUMNS` describes."""
    steps = found.average_in_steps()
    maps, less, seconds = steps.maps, steps.less_mean, steps.seconds
    energy, quieter = steps.energy[:, None], steps.energy_less_mean[:, None]
    n, k, t = maps.shape
    return pd.DataFrame(
        {
            "stimulus_id": np.repeat(np.array(found.items, dtype=object), k * t),
            "region": np.tile(np.repeat(np.array(found.regions, dtype=object), t), n),
            "time": np.tile(seconds, n * k),
            "map": maps.ravel(),
            "map_less_mean": less.ravel(),
            "energy": np.broadcast_to(energy, maps.shape).ravel(),
            "energy_less_mean": np.broadcast_to(quieter, maps.shape).ravel(),
        }
    )
