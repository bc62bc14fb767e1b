"""Read features for RDMs and encoding models from stores of features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import types
from brainmap.checks import check_choice, list_some
from brainmap.cli.options import split_names
from brainmap.errors import InputError

Networks = Annotated[
    list[str],
    typer.Option(
        "--activations",
        metavar="FILE...",
        help="Activations, a .zarr of `brainmap features activations`, or name=FILE for several networks.",
    ),
]
Segment = Annotated[
    float | None,
    typer.Option(help="Join the windows of stories to segments of so many s, of which the RDMs are, as in 10."),
]


def join_asked(acts: Any, segment: float | None) -> Any:
    """Join the windows of activations to segments, where these are asked for."""
    if segment is None:
        return acts
    from brainmap.rsa.encoding.segments import join_windows

    return join_windows(acts, segment)


def load_features(
    store: Path, kind: str, *, layers: str, sounds: Path | None, space: types.PatternSpace, classes: str
) -> Any:
    """Read activations, maximizing patterns, class activation maps or attributions of a store as a feature set.

    Raises
    ------
    InputError
        Nothing of that kind, or several (layers of patterns and maps, methods of attributions) and none named.
    """
    from brainmap.features.activations.stored import open_activations
    from brainmap.features.representations.features import map_features, pattern_features

    if kind == "activations":
        return open_activations(store)
    if kind == "patterns":
        from brainmap.features.representations.files import open_maximizations

        kept = open_maximizations(store)
        if layers == "all" and len(kept) > 1:
            raise InputError(
                f"--layers: expected one layer for an RDM, got patterns of {list_some(kept)} in {store}; name one"
            )
        layer = next(iter(kept)) if layers == "all" else check_choice(layers, list(kept), "--layers")
        return pattern_features(kept[layer], space=space)
    if kind == "cams":
        from brainmap.features.representations.files import open_cams

        stored = open_cams(store, layer=_choose_layer(store, "cam", layers))
        maps: Any = stored.cams
        rate, align = stored.rate, stored.align
    else:
        from brainmap.features.representations.files import open_attributions

        kept_maps = open_attributions(store, method=_choose_layer(store, "attribution", layers))
        maps, align = kept_maps.attributions, kept_maps.align
        if maps.rate is None:
            raise InputError(f"--attributions: {store} was made of arrays without a rate; make it of sounds")
        rate = round(maps.rate)
    heard = None if sounds is None else _load_waveforms(sounds, maps, rate=rate, align=align)
    return map_features(maps, rate=rate, classes=classes, sounds=heard, align="none" if heard is None else "onset")


def _choose_layer(store: Path, kind: str, layers: str) -> str | None:
    """Return the requested layer (for attributions, the method), or None for the only one in the store."""
    from brainmap.features.representations.files import list_stored_layers

    held = list_stored_layers(store, kind)
    if layers != "all":
        return layers
    if len(held) > 1:
        raise InputError(f"--layers: expected one {kind} for an RDM, got {list_some(held)} in {store}; name one")
    return None


def _load_waveforms(path: Path, maps: Any, *, rate: int, align: types.Align) -> Any:
    import numpy as np

    from brainmap.features.sounds.files import load_sounds

    found = load_sounds(path, rate=rate, seconds=maps.maps.shape[-1] / rate, align=align)
    place = {item: row for row, item in enumerate(found.items)}
    missing = [item for item in maps.items if item not in place]
    if missing:
        raise InputError(f"--sounds: {path} lacks {missing[0]!r}, of which there is a map; give the table of the maps")
    return np.asarray(found.take([place[item] for item in maps.items]).waveforms)


def open_networks(given: Sequence[str], layers: str) -> dict[str, Any]:
    """Open stores of activations by the name of their network, and check the names of layers.

    Raises
    ------
    InputError
        Two networks have one name, or a network lacks a layer.
    """
    from brainmap.features.activations.stored import open_activations

    found: dict[str, Any] = {}
    for one in given:
        name, store = _split_network(one)
        acts = open_activations(store)
        name = name or acts.network or store.stem
        if name in found:
            raise InputError(f"--activations: expected networks of different names, got {name!r} twice; say name=FILE")
        found[name] = acts
        for layer in () if layers == "all" else split_names(layers):
            check_choice(layer, list(acts.layers), f"--layers: layer of {name}")
    return found


def _split_network(one: str) -> tuple[str, Path]:
    """Part name=FILE; the name is empty where there is none."""
    name, sign, rest = one.partition("=")
    return (name, Path(rest)) if sign and not Path(one).exists() else ("", Path(one))


def list_stores(activations: Sequence[str]) -> list[Path]:
    """List the stores that a command read."""
    return [_split_network(one)[1] for one in activations]
