"""Find the stretches of real sounds that activate a unit most.

A crop is exactly the receptive field of the frame with the highest activation; where the field reaches beyond the
sound, the crop is zero and the table reports the share. Sounds are read in batches and only the best frames are kept,
so that memory does not grow with the number of sounds.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_choice, check_one_each, check_ranges, list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError, RunError
from brainmap.features.layers.crops import Fields, make_pair
from brainmap.features.layers.ear import tap
from brainmap.features.layers.layer import OUTPUT, Layer
from brainmap.features.layers.listing import list_layers
from brainmap.features.layers.running import evaluating, forward
from brainmap.features.layers.selection import find_layer, select_layers
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors, number_batches
from brainmap.features.sounds.inputs import InputAxes, describe_input
from brainmap.features.sounds.writing import write_sounds
from brainmap.groups import group_pairs
from brainmap.progress import progress
from brainmap.types import Stage


@dataclass(frozen=True, kw_only=True)
class Exemplars:
    """Hold the stretches of sounds that activate the units of a layer most.

    Attributes
    ----------
    layer : str
    units : tuple of int
    labels : tuple of str
        A name for each unit: the class, or the number.
    table : DataFrame
        One row per crop, by unit and rank: see `EXEMPLAR_COLUMNS`. A unit that no sound activates has no row.
    crops : ndarray float32 (n_rows, c, t) or (n_rows, c, h, w)
        The receptive field of each row of `table`, zero beyond the sound.
    dead : tuple of int
        Units that no sound activates: never above zero after a nonlinearity, or constant.
    rate : int or None [Hz]
    axes : InputAxes, optional
        What the axes of the input mean, where the sounds say it.
    """

    layer: str
    units: tuple[int, ...]
    labels: tuple[str, ...] = field(repr=False)
    table: pd.DataFrame = field(repr=False)
    crops: NDArray[np.float32] = field(repr=False)
    dead: tuple[int, ...]
    rate: int | None
    axes: InputAxes | None = None

    def of(self, unit: int) -> NDArray[np.float32]:
        """Return the crops of one unit, best first.

        Raises
        ------
        InputError
            The unit was not asked for, or no sound activates it.
        """
        if unit not in self.units:
            raise InputError(
                f"exemplars: unit {unit} of {self.layer} was not asked for; there are {list_some(self.units)}"
            )
        if unit in self.dead:
            raise InputError(f"exemplars: no sound drives unit {unit} of {self.layer}; it has no exemplar")
        return self.crops[(self.table["unit"] == unit).to_numpy()]

    def save_wav(self, folder: str | Path, *, seconds: float | None = None) -> list[Path]:
        """Write every crop as a 16-bit WAV, scaled down where it exceeds full scale.

        Parameters
        ----------
        folder : path
        seconds : float, optional [s]
            Repeat shorter crops until they last that long (the crop of an early layer alone is only a click).

        Returns
        -------
        list of Path
            `<layer>_<unit or class>_<rank>_<item>.wav`, in the order of the table.

        Raises
        ------
        InputError
            The crops are not one channel of samples, or their rate is not known.
        """
        if self.crops.ndim != 3 or self.crops.shape[1] != 1 or self.rate is None:
            raise InputError(
                f"save_wav: expected crops (1, t) at a known rate, got {self.crops.shape[1:]} at {self.rate} Hz"
            )
        within = self.crops / np.maximum(np.abs(self.crops).max(axis=2, keepdims=True), 1.0)
        names = [(self.layer, str(row.label), str(row.rank), str(row.item)) for row in self.table.itertuples()]
        return write_sounds(within, folder, names, rate=self.rate, seconds=seconds)


EXEMPLAR_COLUMNS = {
    "layer": "layer of the network",
    "unit": "unit of the layer, from 0",
    "label": "class, or the unit's number",
    "rank": "1 is the strongest; equal values: the earlier sound, then the earlier frame",
    "item": "stimulus id",
    "condition": "its word or category",
    "value": "activation of the unit",
    "frame": "frame of the layer (2-D: row,column); 0 for units that see the whole input",
    "start": "first sample of the receptive field (2-D: row,column); negative before the sound",
    "stop": "sample after its last one",
    "start_s": "start [s]",
    "end_s": "stop [s]",
    "outside": "share of the receptive field that lies beyond the sound, zero in the crop",
}


def find_exemplars(
    model: nn.Module,
    sounds: Sounds,
    *,
    layer: str,
    units: int | Sequence[int] | Literal["all"] = "all",
    k: int = 9,
    per_sound: int = 1,
    inside: bool = False,
    own_class: bool = False,
    class_names: Sequence[str] | None = None,
    stage: Stage = "after",
    rate: int | None = None,
    batch_size: int = 16,
    device: str = "cpu",
) -> Exemplars:
    """Find the stretches of sounds that activate each unit of a layer most.

    Parameters
    ----------
    model : torch.nn.Module
        It runs in eval mode; afterwards each module is back in the mode that it had.
    sounds : Sounds, array or Tensor (n, c, t) or (n, c, h, w)
    layer : str
        A layer's name, "last-conv", or "output", whose units are classes and see the whole sound.
    units : sequence of int or "all"
    k : int
        Number of crops per unit.
    per_sound : int
        Largest number of crops from one sound; they begin at least half a receptive field apart.
    inside : bool
        Use only frames whose receptive field lies within the sound. A crop that reaches beyond it does not give the
        same activation by itself, because padding inside the network is not the same as silence.
    own_class : bool
        For the output: use only sounds of the unit's own class; this needs `class_names`.
    class_names : sequence of str, optional
        Class names in the order of the network's outputs.
    stage : {"after", "before"}
        Record before or after the nonlinearity.
    rate : int, optional [Hz]
        Rate of an array; without it times are in samples only.
    batch_size : int
    device : str

    Returns
    -------
    Exemplars

    Raises
    ------
    InputError
        An unknown layer, a unit out of range, a layer whose receptive field is not known, no frame inside the sound,
        a class without sounds.
    RunError
        An activation is not finite.

    Warns
    -----
    BrainmapWarning
        No sound activates some units.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 1, 3, bias=False), nn.ReLU())
    >>> _ = net[0].weight.data.fill_(1.0)
    >>> sound = np.zeros((1, 1, 20), np.float32)
    >>> sound[0, 0, 7:10] = 1.0
    >>> find_exemplars(net, sound, layer="output", k=1).table[["value", "start", "stop"]]
       value  start  stop
    0    3.0      7    10
    """
    check_ranges("exemplars", ("k of 1 or more", k, k >= 1), ("per_sound of 1 or more", per_sound, per_sound >= 1))
    items, conditions = get_labels(sounds)
    with evaluating(model, device), torch.no_grad():
        found = _find_layer(model, sounds, layer)
        fields = _FieldsByItem(sounds, found, inside=inside)
        chosen = _choose_units(units, found)
        names = _name_units(chosen, found, class_names)
        own = np.array([[name == word for name in names] for word in conditions]) if own_class else None
        _check_classes(own, names, found, class_names)
        best = _Best(len(chosen), k, positive=stage == "after" and found.name != OUTPUT)
        with tap(model, found.name, stage=stage) as heard, progress(f"exemplars of {found.name}", len(items)) as step:
            for done, batch in number_batches(iterate_tensors(sounds, batch_size, device=device)):
                forward(model, batch)
                arranged = found.arranged(heard[found.name], len(batch))
                grid = tuple(arranged.shape[2:])
                values = arranged[:, list(chosen)].float().cpu().numpy().reshape(len(batch), len(chosen), -1)
                finite = np.isfinite(values).all(axis=(1, 2))
                if not finite.all():
                    bad = items[done + int(finite.argmin())]
                    raise RunError(f"exemplars: layer {found.name!r} is not finite for item {bad!r}; look at the sound")
                best.hear(values)
                mine = True if own is None else own[done : done + len(batch)]
                own_fields = fields.find(tuple(batch.shape[2:]), grid, done, len(batch))
                for top, frames in own_fields.iterate_tops(values, per_sound):
                    best.add(np.where(mine, top, -np.inf), frames, done)
                step.advance(len(batch))
    dead = tuple(unit for unit, lives in zip(chosen, best.driven, strict=True) if not lives)
    if dead:
        warnings.warn(
            f"exemplars: no sound drives units {list_some(dead)} of {found.name}", BrainmapWarning, stacklevel=2
        )
    axes, known = describe_input(sounds), getattr(sounds, "rate", None) or rate
    hertz = known if axes is None or known is None else axes.rate_of(fields.length[axes.time_axis])
    ranked = best.rank()
    time_axis = -1 if axes is None else axes.time_axis
    if len(fields.length) > 1 and (axes is None or axes.is_waveform):
        hertz = None  # nobody says which axis holds time
    table = _tabulate_exemplars(ranked, found, (chosen, names), (items, conditions), fields, hertz, time_axis)
    crops = _read_crops(sounds, ranked, fields, batch_size)
    return Exemplars(
        layer=found.name,
        units=chosen,
        labels=tuple(names),
        table=table,
        crops=crops,
        dead=dead,
        rate=None if known is None else int(known),
        axes=axes,
    )


class _FieldsByItem:
    """Find the receptive fields of a layer in each sound; sounds that keep their own lengths have several.

    Attributes
    ----------
    length : tuple of int [samples]
        Length of the first sound.
    """

    def __init__(self, sounds: Sounds, layer: Layer, *, inside: bool) -> None:
        self.layer, self.inside = layer, inside
        self.length: tuple[int, ...] = tuple(next(iterate_tensors(sounds, 1)).shape[2:])
        self._known: dict[tuple[int, ...], Fields] = {self.length: Fields.of(layer, self.length, inside=inside)}
        self._lengths: dict[int, tuple[int, ...]] = {}

    @property
    def size(self) -> tuple[int, ...]:
        """Return the largest size of a field along each axis."""
        return tuple(max(sizes) for sizes in zip(*(one.size for one in self._known.values()), strict=True))

    def find(self, length: tuple[int, ...], grid: tuple[int, ...], first: int, n: int) -> Fields:
        """Find the fields in `n` sounds of a length, the first of which has the number `first`."""
        self._lengths.update(dict.fromkeys(range(first, first + n), length))
        if length not in self._known:
            self._known[length] = Fields.of(self._fit_layer(length), length, inside=self.inside, grid=grid)
        return self._known[length]

    def _fit_layer(self, length: tuple[int, ...]) -> Layer:
        """Return the layer as it is in a sound of another length: a field that is all of a sound is all of any."""
        whole = self.layer.whole or (False,) * len(length)
        sizes = [
            n if sees_all else size
            for size, sees_all, n in zip(make_pair(self.layer.receptive_field or 0), whole, length, strict=True)
        ]
        centers = [
            (n - 1) / 2 if sees_all and not stride else center
            for sees_all, n, stride, center in zip(
                whole, length, make_pair(self.layer.stride or 0), make_pair(self.layer.center or 0), strict=True
            )
        ]
        one = len(length) == 1
        return replace(
            self.layer,
            receptive_field=round(sizes[0]) if one else tuple(map(round, sizes)),
            center=centers[0] if one else tuple(centers),
        )

    def of(self, item: int) -> Fields:
        """Return the fields in a sound that was heard."""
        return self._known[self._lengths[item]]


class _Best:
    """Keep the k highest values of each unit so far, with their sounds and frames; equal values keep their order."""

    def __init__(self, n_units: int, k: int, *, positive: bool) -> None:
        self.values = np.full((n_units, k), -np.inf)
        self.items, self.frames = np.zeros((2, n_units, k), np.intp)
        self.low, self.high = np.full(n_units, np.inf), np.full(n_units, -np.inf)
        self.positive = positive

    def hear(self, values: NDArray[np.float32]) -> None:
        """Record the range of each unit."""
        self.low = np.minimum(self.low, values.min(axis=(0, 2)))
        self.high = np.maximum(self.high, values.max(axis=(0, 2)))

    def add(self, values: NDArray[np.floating], frames: NDArray[np.intp], first: int) -> None:
        """Add a value `(b, n_units)` of each sound, the first of which has the number `first`."""
        items = np.broadcast_to(np.arange(first, first + len(values)), values.T.shape)
        joined = np.concatenate([self.values, values.T], axis=1)
        numbers = np.concatenate([self.items, items], axis=1), np.concatenate([self.frames, frames.T], axis=1)
        order = np.lexsort((numbers[1], numbers[0], -joined), axis=1)[:, : self.values.shape[1]]
        self.values, self.items, self.frames = (np.take_along_axis(a, order, axis=1) for a in (joined, *numbers))

    @property
    def driven(self) -> NDArray[np.bool_]:
        """Mark the units that some sound activates."""
        changes = self.high > self.low
        return np.asarray(changes & (self.high > 0) if self.positive else changes)

    def rank(self) -> list[tuple[int, int, int, int, float]]:
        """List position of the unit, rank, sound, frame and value of every exemplar."""
        keep = np.isfinite(self.values) & self.driven[:, None]
        if self.positive:
            keep &= self.values > 0
        return [
            (int(u), int(r), int(self.items[u, r]), int(self.frames[u, r]), float(self.values[u, r]))
            for u, r in np.argwhere(keep)
        ]


def _find_layer(model: nn.Module, sounds: Sounds, name: str) -> Layer:
    listed = list_layers(model, sounds)
    if name != "last-conv":
        return find_layer(listed, name, "exemplars")
    return find_layer(listed, select_layers(model, sounds, name)[0], "exemplars")


def _choose_units(units: int | Sequence[int] | Literal["all"], layer: Layer) -> tuple[int, ...]:
    n = layer.shape[0]
    if isinstance(units, str):
        check_choice(units, ["all"], "exemplars: units")
        return tuple(range(n))
    chosen = tuple(dict.fromkeys(int(u) for u in np.atleast_1d(units)))
    outside = [u for u in chosen if not 0 <= u < n]
    if outside or not chosen:
        raise InputError(
            f"exemplars: expected units from 0 to {n - 1} of {layer.name!r}, got {list_some(outside or chosen)}"
        )
    return chosen


def _name_units(units: Sequence[int], layer: Layer, class_names: Sequence[str] | None) -> list[str]:
    if layer.name != OUTPUT or class_names is None:
        return [str(unit) for unit in units]
    check_one_each(class_names, layer.shape[0], "exemplars: class_names", "outputs")
    return [str(class_names[unit]) for unit in units]


def _check_classes(
    own: NDArray[np.bool_] | None, names: Sequence[str], layer: Layer, class_names: Sequence[str] | None
) -> None:
    if own is None:
        return
    if layer.name != OUTPUT or class_names is None:
        raise InputError("exemplars: own_class is about the units of 'output' and needs class_names")
    absent = [name for at, name in enumerate(names) if not own[:, at].any()]
    refuse_some(absent, "exemplars: no sounds of the classes ", "; add some, or leave out own_class")


def _tabulate_exemplars(
    ranked: Sequence[tuple[int, int, int, int, float]],
    layer: Layer,
    units: tuple[Sequence[int], Sequence[str]],
    sounds: tuple[Sequence[str], Sequence[str]],
    fields: _FieldsByItem,
    rate: float | None,
    time_axis: int,
) -> pd.DataFrame:
    rows = []
    for unit, rank, item, frame, value in ranked:
        own = fields.of(item)
        start = own.starts[frame]
        places = [np.array(np.unravel_index(frame, own.grid)), start, start + own.size]
        at, begin, end = (int(p[0]) if len(p) == 1 else ",".join(map(str, p.tolist())) for p in places)
        seconds = [float(p[time_axis]) / rate if rate else np.nan for p in places[1:]]
        rows.append(
            (
                layer.name,
                units[0][unit],
                units[1][unit],
                rank + 1,
                sounds[0][item],
                sounds[1][item],
                value,
                at,
                begin,
                end,
                *seconds,
                own.outside(frame),
            )
        )
    return pd.DataFrame(rows, columns=list(EXEMPLAR_COLUMNS))


def _read_crops(
    sounds: Sounds, ranked: Sequence[tuple[int, int, int, int, float]], fields: _FieldsByItem, batch_size: int
) -> NDArray[np.float32]:
    """Read the sounds again and cut out the exemplars; those of shorter fields end in zeros."""
    rows = group_pairs((item, row) for row, (_, _, item, _, _) in enumerate(ranked))
    crops = np.zeros((len(ranked), next(iterate_tensors(sounds, 1)).shape[1], *fields.size), np.float32)
    for first, batch in number_batches(iterate_tensors(sounds, batch_size)):
        for at in range(len(batch)):
            for row in rows.get(first + at, ()):
                crop = fields.of(first + at).crop(batch[at].numpy(), ranked[row][3])
                crops[row][(slice(None), *(slice(n) for n in crop.shape[1:]))] = crop
    return crops
