"""Read the activations of a store; arrays are read from disk when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.activations import store as stores
from brainmap.features.activations.sealed import StoredArray, catch_bad_metadata, group_attributes, refuse
from brainmap.features.activations.windowed import make_item_table
from brainmap.features.layers.layer import TIME

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
        if layer not in self._arrays:
            hint = suggest_word(str(layer), self.layers)
            raise InputError(f"activations: no layer {layer!r}{hint}; there are {list_some(self.layers, 24)}")
        return cast(NDArray[np.floating[Any]], self._arrays[layer])

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
