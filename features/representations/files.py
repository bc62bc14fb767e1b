"""Read and write activation-maximization patterns, class activation maps and attributions in the activations' store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.features.activations import store as stores
from brainmap.features.activations.sealed import catch_bad_metadata, group_attributes
from brainmap.features.attribution.results import Attributions, ClassActivationMaps
from brainmap.features.sounds.inputs import InputAxes
from brainmap.types import Align, PatternPrior

if TYPE_CHECKING:
    from brainmap.features.maximization.maximize import Maximization


@dataclass(frozen=True, kw_only=True)
class StoredPatterns:
    """Hold the maximizing patterns of one layer as stored.

    Attributes
    ----------
    layer : str
    labels : tuple of str
        A name for each pattern: the class, or layer and unit.
    units : tuple of int
    patterns : ndarray float32 (n_units, c, t) or (n_units, c, h, w)
    rate : int [Hz]
    quality : DataFrame
        One row per unit.
    wavs : tuple of str
        Names of their WAV files, where they were written.
    axes : InputAxes, optional
        What the axes of the input mean.
    prior : {"audio", "decoder", "none"}
        What held the patterns to sounds.
    """

    layer: str
    labels: tuple[str, ...]
    units: tuple[int, ...]
    patterns: NDArray[np.float32] = field(repr=False)
    rate: int
    quality: pd.DataFrame = field(repr=False)
    wavs: tuple[str, ...] = field(default=(), repr=False)
    axes: InputAxes | None = None
    prior: PatternPrior = "audio"


def list_stored_layers(path: str | Path, kind: str) -> tuple[str, ...]:
    """List the layers of which a store holds finished arrays of a kind; without a store the list is empty.

    Parameters
    ----------
    path : path
    kind : {"activations", "am", "cam", "attribution"}
        Attributions are listed by their method.

    Examples
    --------
    >>> list_stored_layers("no-such-store.zarr", "am")
    ()
    """
    if not Path(path).exists():
        return ()
    return tuple(stores.list_arrays(stores.open_store(path), kind))


def get_stored_network(path: str | Path, kind: str) -> str | None:
    """Return the name of the network whose arrays of a kind a store holds; None where there are none.

    Examples
    --------
    >>> get_stored_network("no-such-store.zarr", "am") is None
    True
    """
    name = group_attributes(stores.open_store(path), kind).get("network") if Path(path).exists() else None
    return None if name is None else str(name)


def save_maximization(
    am: Maximization, path: str | Path, *, network: str = "network", wavs: Sequence[str] = (), beside: bool = False
) -> str:
    """Store maximizing patterns, with the names of their WAV files; patterns of other layers stay.

    Patterns `beside` those of the same layer by another prior are stored as `<layer> (<prior> prior)`. Return the name
    under which they are stored.
    """
    name = name_beside(am.layer, am.prior) if beside else am.layer
    attributes = {
        "labels": list(am.labels),
        "units": list(am.units),
        "rate": am.rate,
        "dead": list(am.dead),
        "notes": list(am.notes),
        "quality": json.loads(am.quality.to_json(orient="split")),
        "wavs": list(wavs),
        "axes": None if am.axes is None else am.axes.as_dict(),
        "layer": am.layer,
        "prior": am.prior,
    }
    axes = _name_axes(am.patterns, "channel")
    stores.keep_array(stores.open_store(path), ("am", name), am.patterns, attributes, network=network, dimensions=axes)
    return name


def name_beside(layer: str, prior: PatternPrior) -> str:
    """Name patterns of a layer that are stored beside those by its main prior.

    Examples
    --------
    >>> name_beside("output", "audio")
    'output (audio prior)'
    """
    return f"{layer} ({prior} prior)"


def open_maximizations(path: str | Path) -> dict[str, StoredPatterns]:
    """Open the maximizing patterns of each layer in a store; a layer's patterns by a second prior have their own name.

    Raises
    ------
    InputError
        The store does not exist, or holds no patterns.
    """
    found = {}
    for name, array in stores.get_current_arrays(stores.open_store(path, create=False), "am").items():
        about: Mapping[str, Any] = array.attrs
        patterns = np.asarray(array[:], dtype=np.float32)
        with catch_bad_metadata(path):
            found[name] = StoredPatterns(
                layer=str(about.get("layer", name)),
                labels=tuple(about["labels"]),
                units=tuple(about["units"]),
                patterns=patterns,
                rate=int(about["rate"]),
                quality=pd.DataFrame(about["quality"]["data"], columns=about["quality"]["columns"]),
                wavs=tuple(about.get("wavs", ())),
                axes=InputAxes.of_dict(about.get("axes")),
                prior=cast(PatternPrior, about.get("prior", "audio")),
            )
    return found


def save_cams(
    cams: ClassActivationMaps,
    path: str | Path,
    *,
    rate: int,
    align: str = "start",
    network: str = "network",
    axes: InputAxes | None = None,
) -> None:
    """Store class activation maps, with the rate [Hz] and alignment of their sounds and the input of their network."""
    attributes = {
        "items": list(cams.items),
        "conditions": list(cams.conditions),
        "class_names": list(cams.class_names),
        "method": cams.method,
        "layer": cams.layer,
        "rate": rate,
        "align": align,
        "positions": list(cams.positions),
        "axes": None if axes is None else axes.as_dict(),
    }
    root = stores.open_store(path)
    names = ("class", *cams.positions) if cams.positions else _name_axes(cams.maps, "class")
    stores.keep_array(root, ("cam", cams.layer), cams.maps, attributes, network=network, dimensions=names)
    about = ("cam_logits", cams.layer)
    stores.keep_array(root, about, cams.logits, attributes, network=network, dimensions=("class",))


def _name_axes(values: NDArray[Any], *before: str) -> tuple[str, ...]:
    """Name the axes of maps or patterns after the items; frequency and time, or time alone, come last."""
    n_left = values.ndim - 1 - len(before)
    return (*before, *("frequency", "time")[2 - n_left :])


@dataclass(frozen=True, kw_only=True)
class StoredCams:
    """Hold class activation maps as stored, and the settings with which their sounds are read.

    `axes` describe the input of their network, where the store says it.
    """

    cams: ClassActivationMaps
    rate: int
    align: Align
    axes: InputAxes | None = None


def _open_maps(
    path: str | Path, kind: str, name: str | None, what: str
) -> tuple[stores.Group, str, NDArray[np.float32], Mapping[str, Any]]:
    """Read the maps of a name, by default the latest, and what is said of them."""
    root = stores.open_store(path, create=False)
    arrays = stores.get_current_arrays(root, kind)
    chosen = list(arrays)[-1] if name is None else check_choice(name, list(arrays), what)
    return root, chosen, np.asarray(arrays[chosen][:], dtype=np.float32), arrays[chosen].attrs


def open_cams(path: str | Path, *, layer: str | None = None) -> StoredCams:
    """Open the class activation maps of a layer, by default the latest; logits are NaN where only maps were stored.

    Raises
    ------
    InputError
        The store does not exist, or holds no maps or none of that layer.
    """
    root, name, maps, about = _open_maps(path, "cam", layer, "layer of class activation maps")
    logits = np.full(maps.shape[:2], np.nan, np.float32)
    if name in stores.list_arrays(root, "cam_logits"):
        logits = np.asarray(stores.get_current_arrays(root, "cam_logits")[name][:], dtype=np.float32)
    with catch_bad_metadata(path):
        cams = ClassActivationMaps(
            maps=maps,
            items=tuple(about["items"]),
            conditions=tuple(about["conditions"]),
            class_names=tuple(about["class_names"]),
            method=str(about["method"]),
            layer=str(about["layer"]),
            logits=logits,
            positions=tuple(about.get("positions", ())),
        )
        axes = InputAxes.of_dict(about.get("axes"))
        return StoredCams(cams=cams, rate=int(about["rate"]), align=cast(Align, about.get("align", "start")), axes=axes)


_PARTS = ("logits", "delta", "fidelity", "effects")


def save_attributions(found: Attributions, path: str | Path, *, align: str = "start", network: str = "network") -> None:
    """Store attributions, with the alignment of their sounds; attributions by other methods stay."""
    root = stores.open_store(path)
    keys = {}
    for part in _PARTS:
        values = getattr(found, part)
        if values is not None:
            kind = f"attribution_{part}"
            stores.keep_array(root, (kind, found.method), values, {"items": list(found.items)}, network=network)
            keys[part] = stores.get_current_arrays(root, kind)[found.method].basename
    attributes = {
        "items": list(found.items),
        "conditions": list(found.conditions),
        "class_names": list(found.class_names),
        "targets": found.targets.tolist(),
        "method": found.method,
        "layer": found.layer,
        "rate": found.rate,
        "align": align,
        "windows": None if found.windows is None else found.windows.tolist(),
        "bands": None if found.bands is None else found.bands.tolist(),
        "products": found.products,
        "parts": keys,  # the arrays that belong to these maps, whatever is written later
    }
    about, axes = ("attribution", found.method), _name_axes(found.maps, "class", "channel")
    stores.keep_array(root, about, found.maps, attributes, network=network, dimensions=axes)


@dataclass(frozen=True, kw_only=True)
class StoredAttributions:
    """Hold attributions as stored, and the settings with which their sounds are read."""

    attributions: Attributions
    align: Align


def open_attributions(path: str | Path, *, method: str | None = None) -> StoredAttributions:
    """Open the attributions by a method, by default the latest.

    Raises
    ------
    InputError
        The store does not exist, or holds no attributions or none by that method.
    """
    root, name, maps, about = _open_maps(path, "attribution", method, "method of attribution")
    parts = {}
    with catch_bad_metadata(path):
        keys = {str(part): str(key) for part, key in about["parts"].items() if part in _PARTS}
    for part, key in keys.items():
        array = stores.find_array(root, f"attribution_{part}", name, key)
        if array is None:
            raise InputError(f"store: attribution_{part} of {name} in {path} is incomplete; run it again")
        parts[part] = np.asarray(array[:], dtype=np.float32)
    with catch_bad_metadata(path):
        found = Attributions(
            **parts,
            maps=maps,
            items=tuple(about["items"]),
            conditions=tuple(about["conditions"]),
            class_names=tuple(about["class_names"]),
            targets=np.asarray(about["targets"], dtype=np.intp),
            method=name,
            layer=about["layer"],
            rate=about["rate"],
            windows=None if about["windows"] is None else np.asarray(about["windows"], dtype=np.intp),
            bands=None if about["bands"] is None else np.asarray(about["bands"], dtype=float),
            products=bool(about.get("products", False)),
        )
    return StoredAttributions(attributions=found, align=cast(Align, about.get("align", "start")))
