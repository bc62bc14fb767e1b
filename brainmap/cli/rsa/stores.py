"""Read features for RDMs from a store of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainmap import types
from brainmap.checks import one_of, some
from brainmap.errors import InputError


def load_features(
    store: Path, kind: str, *, layers: str, sounds: Path | None, space: types.PatternSpace, classes: str
) -> Any:
    """Read activations, maximizing patterns, class activation maps or attributions of a store as a feature set.

    Raises
    ------
    InputError
        Nothing of that kind, or several (layers of patterns and maps, methods of attributions) and none named.
    """
    from brainmap.features.activations.extract import open_activations
    from brainmap.features.representations.features import map_features, pattern_features

    if kind == "activations":
        return open_activations(store)
    if kind == "patterns":
        from brainmap.features.representations.files import open_maximizations

        kept = open_maximizations(store)
        if layers == "all" and len(kept) > 1:
            raise InputError(
                f"--layers: expected one layer for an RDM, got patterns of {some(kept)} in {store}; name one"
            )
        layer = next(iter(kept)) if layers == "all" else one_of(layers, list(kept), "--layers")
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
        raise InputError(f"--layers: expected one {kind} for an RDM, got {some(held)} in {store}; name one")
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
