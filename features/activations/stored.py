"""Read the activations of a store; arrays are read from disk when they are used.

Cut sounds into windows where activations are asked for windows, and describe the time of every item of a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, list_some
from brainmap.errors import InputError
from brainmap.features.activations import store as stores
from brainmap.features.activations.sealed import StoredArray, catch_bad_metadata, group_attributes, refuse
from brainmap.features.layers.layer import PLACES, TIME, Layer
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.files import Sounds as LabelledSounds, sounds_from_array
from brainmap.features.sounds.windows import Windows, cut_windows
from brainmap.progress import log
from brainmap.types import LastWindow


def cut_asked_windows(
    sounds: Sounds, *, window: float | None, hop: float | None, last: LastWindow, rate: float | None
) -> Sounds:
    """Return sounds as they are where no window is asked for, and their windows otherwise.

    Raises
    ------
    InputError
        A hop without a window; sounds that are no waveforms, or an array without its rate.
    """
    if window is None:
        if hop is not None or last != "drop":
            raise InputError("window: expected one with hop or last, got none; give the length of a window in seconds")
        return sounds
    if isinstance(sounds, Windows):
        raise InputError("window: expected sounds, got windows of sounds; leave out window and hop")
    if not isinstance(sounds, LabelledSounds):
        shape = tuple(getattr(sounds, "shape", ()))
        if len(shape) != 3 or shape[1] != 1 or rate is None:
            raise InputError(
                f"window: expected sounds of `load_sounds`, or waveforms (n, 1, t) and their rate, got "
                f"{type(sounds).__name__} of shape {shape} at {rate} Hz; give those"
            )
        sounds = sounds_from_array(np.asarray(sounds), rate=round(rate), items=[str(k) for k in range(shape[0])])
    return cut_windows(sounds, window=window, hop=hop, last=last)


def get_window_columns(sounds: Sounds) -> dict[str, list[Any]]:
    """Return the sound, onset [s] and duration [s] of every window, for the store; nothing for whole sounds."""
    if not isinstance(sounds, Windows):
        return {}
    return {name: sounds.table[name].tolist() for name in ("sound", "onset", "duration")}


def make_item_table(about: Mapping[str, Any]) -> pd.DataFrame:
    """Make the table of the items of a store; a whole sound begins at 0, and its duration is not known."""
    items = about["items"]
    whole = {"sound": items, "onset": np.zeros(len(items)), "duration": np.full(len(items), np.nan)}
    columns = about.get("windows") or whole
    return pd.DataFrame({"stimulus_id": items, "condition": about["conditions"], **columns})


def say_wide_layers(layers: Iterable[Layer], sounds: Sounds) -> None:
    """Name the layers whose units see more than a window, and so padding beyond it."""
    if not isinstance(sounds, Windows):
        return
    wide = []
    for layer in layers:
        seen, step, _ = layer.along()
        if seen is not None and step and seen > sounds.n_samples:
            wide.append((seen / sounds.rate, layer.name))
    if wide:
        log.warning(
            "note: units of %s see more than a window of %g s, and the network's padding beyond it; a window of %.3g s "
            "holds all that they see",
            list_some([f"{name} ({seconds:.3g} s)" for seconds, name in wide], 4),
            sounds.n_samples / sounds.rate,
            max(wide)[0],
        )


def note_times(root: stores.Group, keys: Mapping[str, str], layers: Mapping[str, Layer], *, rate: float | None) -> None:
    """Store with each array the times of its frames, where these are known."""
    if rate is None:
        return
    for name, layer in layers.items():
        if not {TIME, PLACES} & set(layer.positions):
            continue
        _, step, first = layer.along(layer.positions.index(TIME) if TIME in layer.positions else -1)
        if step and first is not None and len(layer.shape) > 1:  # with a step of 0 each unit sees the whole sound
            time = {"first": first / rate, "step": step / rate}
            stores.note(root, "activations", name, keys[name], {"time": time})


def skip_windows(sounds: Sounds, start: int) -> Sounds:
    """Return the windows from one on; sounds that are no windows are returned as they are."""
    return sounds.take(np.arange(start, len(sounds))) if start and isinstance(sounds, Windows) else sounds


KIND = "activations"


@dataclass(frozen=True)
class Activations:
    """Hold the activations of the same items in several layers; this is a `brainmap.types.FeatureSet`.

    `acts["conv3"]` is a zarr array `(n_items, n_units)`, or `(n_items, channels, frames)` where time was kept. It is
    read from disk when it is sliced or given to `numpy.asarray`.

    Attributes
    ----------
    items, conditions : tuple of str
        Stimulus ids, and the word or category of each.
    layers : tuple of str
    network, pooling, stage : str
    reductions : mapping of str to mapping
        For each layer that was reduced: settings, number of units before, dimensions, explained variance of PCA.
    table : DataFrame
        One row per item: `stimulus_id`, `condition`, `sound`, and `onset` and `duration` [s] in it. Where sounds were
        not cut into windows, items are sounds, onsets are 0 and durations NaN.
    """

    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    layers: tuple[str, ...]
    network: str
    pooling: str
    stage: str
    reductions: Mapping[str, Mapping[str, Any]] = field(repr=False)
    table: pd.DataFrame = field(repr=False)
    _arrays: Mapping[str, StoredArray] = field(repr=False)

    def __getitem__(self, layer: str) -> NDArray[np.floating[Any]]:
        return cast(NDArray[np.floating[Any]], self._arrays[check_choice(layer, self.layers, "activations: layer")])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def frame_times(self, layer: str) -> NDArray[np.float64] | None:
        """Return the center of each frame of a layer [s] from the onset of its item; None where time was not kept.

        Raises
        ------
        InputError
            No such layer.
        """
        array = cast("StoredArray", self[layer])
        when: Any = array.attrs.get("time")
        if self.pooling != "none" or not when:
            return None
        names = list(array.metadata.dimension_names)
        n_frames = array.shape[names.index(TIME) if TIME in names else -1]
        return cast("NDArray[np.float64]", when["first"] + when["step"] * np.arange(n_frames))

    def to_xarray(self, layer: str) -> Any:
        """Return a layer as an `xarray.DataArray` with named axes, items, conditions and frame times [s].

        Raises
        ------
        InputError
            No such layer, or xarray is not installed.
        """
        try:
            import xarray
        except ImportError:
            raise InputError("activations: xarray is not installed; pip install xarray") from None
        array = cast("StoredArray", self[layer])
        dims = tuple(array.metadata.dimension_names)
        coords: dict[str, Any] = {"item": list(self.items), "condition": ("item", list(self.conditions))}
        if "time" in dims and (times := self.frame_times(layer)) is not None:
            coords["time"] = ("time", times, {"units": "s"})
        return xarray.DataArray(np.asarray(array), dims=dims, coords=coords, name=layer)

    def __enter__(self) -> Activations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; arrays that were already read stay valid."""
        for array in self._arrays.values():
            array.store.close()


def open_activations(path: str | Path) -> Activations:
    """Open the activations that `extract_activations` stored last.

    Parameters
    ----------
    path : path
        The store (a `.zarr` folder).

    Returns
    -------
    Activations
        Arrays are read from the store when they are used.

    Raises
    ------
    InputError
        No store there, or an unfinished one.
    """
    return read_store(stores.open_store(path, create=False))


def read_store(root: stores.Group) -> Activations:
    """Return the current activations of a store."""
    arrays = stores.get_current_arrays(root, KIND)
    if not arrays:
        refuse(root.store_path, "it lists no layer")
    about = next(iter(arrays.values())).attrs
    with catch_bad_metadata(root.store_path):
        return Activations(
            items=tuple(cast(list[str], about["items"])),
            conditions=tuple(cast(list[str], about["conditions"])),
            layers=tuple(arrays),
            network=str(group_attributes(root, KIND)["network"]),
            pooling=str(about["pooling"]),
            stage=str(about["stage"]),
            reductions={
                k: cast(dict[str, Any], x.attrs["reduced"]) for k, x in arrays.items() if x.attrs.get("reduced")
            },
            table=make_item_table(about),
            _arrays=arrays,
        )
