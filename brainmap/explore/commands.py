"""Answer the questions of a page by name; every argument comes as text from an address, and is checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from brainmap import __version__
from brainmap.errors import InputError
from brainmap.explore.looking import (
    CAMS,
    compute_class_scores,
    compute_maps,
    compute_strips,
    describe_sound,
    describe_unit,
)
from brainmap.explore.relations import embed_sounds, find_neighbors
from brainmap.explore.sources import Heard, Source
from brainmap.explore.units import find_favorites, find_pattern, measure_unit, read_crop, read_pattern
from brainmap.features.attribution.lrp import COMPOSITES
from brainmap.features.attribution.methods import METHODS
from brainmap.viz.features.players import encode_wav

if TYPE_CHECKING:
    from brainmap.explore.brains import Brains
    from brainmap.explore.maps import Maps

Arguments: TypeAlias = Mapping[str, str]
Answer: TypeAlias = dict[str, Any] | tuple[bytes, str]
COLORS = ("brainmap", "RdBu_r", "PuOr_r", "PiYG", "coolwarm", "seismic")
"""Diverging color maps for signed maps: zero is their middle."""
NIFTI = "application/gzip"
_STEPS = 256


def run_command(source: Source, command: str, arguments: Arguments) -> Answer:
    """Answer one question.

    Parameters
    ----------
    source : Source
    command : str
        A key of `ANSWERS`.
    arguments : mapping of str to str

    Returns
    -------
    dict, or tuple of bytes and str
        Plain values and arrays, or a file with its media type.

    Raises
    ------
    InputError
        An argument is missing, or names nothing.
    """
    source.memory.noted.clear()
    found = ANSWERS[command](source, arguments)
    if isinstance(found, dict) and source.memory.noted:
        return {**found, "notes": [*found.get("notes", ()), *source.memory.noted]}
    return found


def _need(arguments: Arguments, name: str) -> str:
    if not arguments.get(name):
        raise InputError(f"{name}: expected one, got none; choose it")
    return arguments[name]


def _need_number(arguments: Arguments, name: str) -> int:
    text = _need(arguments, name)
    if not text.isdecimal():
        raise InputError(f"{name}: expected a whole number, got {text!r}")
    return int(text)


def _get_both(source: Source, arguments: Arguments) -> tuple[Heard, str]:
    return source.network(_need(arguments, "network")), _need(arguments, "sound")


def _describe(source: Source, _: Arguments) -> Answer:
    return {
        "version": __version__,
        "title": source.title,
        "question": source.question,
        "simulated": source.simulated,
        "brain": source.context is not None,
        "networks": list(source.loaders),
        "sounds": [{"id": i, "condition": c} for i, c in zip(source.items, source.conditions, strict=True)],
        "cams": list(CAMS),
        "attributions": list(METHODS),
        "rules": list(COMPOSITES),
        "colors": _read_colors(),
    }


def _read_colors() -> dict[str, Any]:
    """Read the color maps of the menu, `(256, 3)` each, and those of spectrograms and activations."""
    import matplotlib as mpl

    from brainmap.viz.style import get_colormap

    along = np.linspace(0, 1, _STEPS)
    maps = {"brainmap": get_colormap("signed")} | {name: mpl.colormaps[name] for name in COLORS[1:]}
    maps |= {"sound": get_colormap("sound"), "score": get_colormap("score"), "activation": mpl.colormaps["magma"]}
    return {name: (one(along)[:, :3] * 255).round().astype(np.uint8) for name, one in maps.items()}


def _describe_network(source: Source, arguments: Arguments) -> Answer:
    heard = source.network(_need(arguments, "network"))
    fed = heard.checkpoint
    return {
        "name": heard.name,
        "classes": list(heard.classes),
        "classes_are_named": heard.given_names is not None,
        "rate": fed.rate,
        "seconds": fed.n_samples / fed.rate or None,
        "own_lengths": fed.own_lengths,
        "input": fed.front_end.describe(),
        "without": heard.output.without,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "units": int(layer.shape[0]),
                "shape": list(layer.shape),
                "mappable": len(layer.shape) > 1 and layer.is_convolution,
                "known": bool(layer.order),
            }
            for layer in heard.layers
        ],
    }


def _describe_sound(source: Source, arguments: Arguments) -> Answer:
    return describe_sound(source, *_get_both(source, arguments))


def _play(source: Source, arguments: Arguments) -> Answer:
    heard, key = _get_both(source, arguments)
    sounds = source.sound(heard, key)
    return encode_wav(sounds.waveforms[0, 0], sounds.rate), "audio/wav"


def _score(source: Source, arguments: Arguments) -> Answer:
    heard, key = _get_both(source, arguments)
    return {"classes": list(heard.classes), "logits": compute_class_scores(source, heard, key)}


def _map(source: Source, arguments: Arguments) -> Answer:
    heard, key = _get_both(source, arguments)
    method = _need(arguments, "method")
    layer = arguments.get("layer") or "last-conv"
    classes = [name for name in _need(arguments, "classes").split("\n") if name]
    return compute_maps(
        source, heard, key, method=method, layer=layer, classes=classes, rules=arguments.get("rules", "")
    )


def _strips(source: Source, arguments: Arguments) -> Answer:
    return compute_strips(source, *_get_both(source, arguments))


def _unit(source: Source, arguments: Arguments) -> Answer:
    heard, key = _get_both(source, arguments)
    return describe_unit(source, heard, key, **_get_unit(arguments))


def _get_unit(arguments: Arguments) -> dict[str, Any]:
    return {"layer": _need(arguments, "layer"), "unit": _need_number(arguments, "unit")}


def _neighbors(source: Source, arguments: Arguments) -> Answer:
    return find_neighbors(source, *_get_both(source, arguments), layer=_need(arguments, "layer"))


def _embed(source: Source, arguments: Arguments) -> Answer:
    heard = source.network(_need(arguments, "network"))
    return embed_sounds(source, heard, layer=_need(arguments, "layer"), method=_need(arguments, "method"))


def _favorites(source: Source, arguments: Arguments) -> Answer:
    return find_favorites(source, source.network(_need(arguments, "network")), **_get_unit(arguments))


def _tuning(source: Source, arguments: Arguments) -> Answer:
    heard = source.network(_need(arguments, "network"))
    return measure_unit(source, heard, **_get_unit(arguments), stimulus=_need(arguments, "stimulus"))


def _pattern(source: Source, arguments: Arguments) -> Answer:
    return find_pattern(source, source.network(_need(arguments, "network")), **_get_unit(arguments))


def _play_crop(source: Source, arguments: Arguments) -> Answer:
    heard, rank = source.network(_need(arguments, "network")), _need_number(arguments, "rank")
    return encode_wav(*read_crop(source, heard, **_get_unit(arguments), rank=rank)), "audio/wav"


def _play_pattern(source: Source, arguments: Arguments) -> Answer:
    heard = source.network(_need(arguments, "network"))
    return encode_wav(*read_pattern(source, heard, **_get_unit(arguments))), "audio/wav"


def _receive(source: Source, arguments: Arguments) -> Answer:
    return source.receive(Path(arguments["path"]), arguments["name"], float(arguments["seconds"]))


def _get_brains(source: Source) -> Brains:
    """Return the results of the study in the brain; they stay open while the explorer runs.

    Raises
    ------
    InputError
        No study is explored.
    """
    from brainmap.explore.brains import Brains

    if source.context is None:
        raise InputError("brain: a network and sounds have none; explore the results of a study")
    if source.brains is None:
        source.brains = Brains(source.context)
    found: Brains = source.brains
    return found


def _brain(source: Source, arguments: Arguments) -> Answer:
    return _get_brains(source).describe(arguments.get("person", ""))


def _get_maps(source: Source, arguments: Arguments) -> Maps:
    return _get_brains(source).maps(arguments.get("person", ""))


def _brain_map(source: Source, arguments: Arguments) -> Answer:
    network, layer, stat = (_need(arguments, name) for name in ("network", "layer", "stat"))
    model = _get_brains(source).find_model(network, layer)
    found = _get_maps(source, arguments).read_map(*model, stat)
    return (found, NIFTI) if isinstance(found, bytes) else found


def _background(source: Source, arguments: Arguments) -> Answer:
    return _get_maps(source, arguments).read_background(), NIFTI


def _mesh(source: Source, arguments: Arguments) -> Answer:
    return _get_maps(source, arguments).read_mesh()


def _voxel(source: Source, arguments: Arguments) -> Answer:
    text = _need(arguments, "mm")
    try:
        place = [float(part) for part in text.split(",")]
    except ValueError:
        place = []
    if len(place) != 3 or not np.isfinite(place).all():
        raise InputError(f"mm: expected x,y,z in mm, got {text!r}")
    return _get_maps(source, arguments).read_voxel(place)


def _vertex(source: Source, arguments: Arguments) -> Answer:
    return _get_maps(source, arguments).read_vertex(_need(arguments, "vertex"))


def _region(source: Source, arguments: Arguments) -> Answer:
    return _get_brains(source).read_region(_need(arguments, "region"), arguments.get("person", ""))


def _rdms(source: Source, arguments: Arguments) -> Answer:
    region, network, layer = (_need(arguments, name) for name in ("region", "network", "layer"))
    return _get_brains(source).read_rdms(region, network, layer, arguments.get("person", ""))


def _gates(source: Source, arguments: Arguments) -> Answer:
    from brainmap.explore.wanted import read_gates

    gates = read_gates(source, _need(arguments, "region"))
    return {"gates": [{**asdict(gate), "passed": gate.passed} for gate in gates]}


def _wanted(source: Source, arguments: Arguments) -> Answer:
    from brainmap.explore.wanted import describe_wanted

    return describe_wanted(source, _need(arguments, "region"), _need(arguments, "network"))


def _play_wanted(source: Source, arguments: Arguments) -> Answer:
    from brainmap.explore.wanted import read_wanted

    return encode_wav(*read_wanted(source, _need(arguments, "region"), _need(arguments, "network"))), "audio/wav"


ANSWERS: dict[str, Callable[[Source, Arguments], Answer]] = {
    "describe": _describe,
    "network": _describe_network,
    "sound": _describe_sound,
    "audio": _play,
    "scores": _score,
    "map": _map,
    "strips": _strips,
    "unit": _unit,
    "neighbors": _neighbors,
    "embedding": _embed,
    "favorites": _favorites,
    "tuning": _tuning,
    "pattern": _pattern,
    "crop": _play_crop,
    "patternsound": _play_pattern,
    "receive": _receive,
    "brain": _brain,
    "brainmap": _brain_map,
    "background": _background,
    "mesh": _mesh,
    "voxel": _voxel,
    "vertex": _vertex,
    "region": _region,
    "rdms": _rdms,
    "gates": _gates,
    "wanted": _wanted,
    "wantedsound": _play_wanted,
}
