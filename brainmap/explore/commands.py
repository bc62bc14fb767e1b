"""Answer the questions of a page by name; every argument comes as text from an address, and is checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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

Answer: TypeAlias = dict[str, Any] | tuple[bytes, str]
COLORS = ("brainmap", "RdBu_r", "PuOr_r", "PiYG", "coolwarm", "seismic")
"""Diverging color maps for signed maps: zero is their middle."""
NIFTI = "application/gzip"
_STEPS = 256


@dataclass(frozen=True)
class Question:
    """Hold what a page asks of what is explored, and find what its arguments name.

    Raises
    ------
    InputError
        An argument is missing, or names nothing.
    """

    source: Source
    arguments: Mapping[str, str]

    def need(self, name: str) -> str:
        """Return an argument that must be there."""
        if not self.arguments.get(name):
            raise InputError(f"{name}: expected one, got none; choose it")
        return self.arguments[name]

    def need_number(self, name: str) -> int:
        """Return an argument that is a whole number."""
        text = self.need(name)
        if not text.isdecimal():
            raise InputError(f"{name}: expected a whole number, got {text!r}")
        return int(text)

    @property
    def heard(self) -> tuple[Source, Heard]:
        """Return the network, behind what is explored."""
        return self.source, self.source.network(self.need("network"))

    @property
    def sound(self) -> tuple[Source, Heard, str]:
        """Return the network and the name of the sound, behind what is explored."""
        return *self.heard, self.need("sound")

    @property
    def unit(self) -> dict[str, Any]:
        """Return the layer and the number of the unit, by name."""
        return {"layer": self.need("layer"), "unit": self.need_number("unit")}

    @property
    def person(self) -> str:
        """Return the label of the participant; empty for the group."""
        return self.arguments.get("person", "")

    @property
    def brains(self) -> Brains:
        """Return the results of the study in the brain; they stay open while the explorer runs."""
        from brainmap.explore.brains import Brains

        if self.source.context is None:
            raise InputError("brain: a network and sounds have none; explore the results of a study")
        if self.source.brains is None:
            self.source.brains = Brains(self.source.context)
        found: Brains = self.source.brains
        return found

    @property
    def maps(self) -> Maps:
        """Return the maps of the participant, or of the group; refuse the question where there are none."""
        found = self.brains.maps(self.person)
        if found.why_none:
            raise InputError(f"maps: there are none to see, because {found.why_none}")
        return found


def run_command(source: Source, command: str, arguments: Mapping[str, str]) -> Answer:
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
    found = ANSWERS[command](Question(source, arguments))
    if isinstance(found, dict) and source.memory.noted:
        return {**found, "notes": [*found.get("notes", ()), *source.memory.noted]}
    return found


def _describe(question: Question) -> Answer:
    source = question.source
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


def _describe_network(question: Question) -> Answer:
    _, heard = question.heard
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


def _play(question: Question) -> Answer:
    source, heard, key = question.sound
    sounds = source.sound(heard, key)
    return _encode_sound(sounds.waveforms[0, 0], sounds.rate)


def _encode_sound(wave: NDArray[np.floating[Any]], rate: int) -> Answer:
    return encode_wav(wave, rate), "audio/wav"


def _score(question: Question) -> Answer:
    source, heard, key = question.sound
    return {"classes": list(heard.classes), "logits": compute_class_scores(source, heard, key)}


def _map(question: Question) -> Answer:
    return compute_maps(
        *question.sound,
        method=question.need("method"),
        layer=question.arguments.get("layer") or "last-conv",
        classes=[name for name in question.need("classes").split("\n") if name],
        rules=question.arguments.get("rules", ""),
    )


def _receive(question: Question) -> Answer:
    path, name, seconds = (question.arguments[key] for key in ("path", "name", "seconds"))
    return question.source.receive(Path(path), name, float(seconds))


def _brain_map(question: Question) -> Answer:
    network, layer, stat = (question.need(name) for name in ("network", "layer", "stat"))
    model = question.brains.find_model(network, layer)
    found = question.maps.read_map(*model, stat)
    return (found, NIFTI) if isinstance(found, bytes) else found


def _voxel(question: Question) -> Answer:
    text = question.need("mm")
    try:
        place = [float(part) for part in text.split(",")]
    except ValueError:
        place = []
    if len(place) != 3 or not np.isfinite(place).all():
        raise InputError(f"mm: expected x,y,z in mm, got {text!r}")
    return question.maps.read_voxel(place)


def _rdms(question: Question) -> Answer:
    region, network, layer = (question.need(name) for name in ("region", "network", "layer"))
    return question.brains.read_rdms(region, network, layer, question.person)


def _gates(question: Question) -> Answer:
    from brainmap.explore.wanted import read_gates

    gates = read_gates(question.source, question.need("region"))
    return {"gates": [{**asdict(gate), "passed": gate.passed} for gate in gates]}


def _wanted(question: Question) -> Answer:
    from brainmap.explore.wanted import describe_wanted

    return describe_wanted(question.source, question.need("region"), question.need("network"))


def _play_wanted(question: Question) -> Answer:
    from brainmap.explore.wanted import read_wanted

    return _encode_sound(*read_wanted(question.source, question.need("region"), question.need("network")))


ANSWERS: dict[str, Callable[[Question], Answer]] = {
    "describe": _describe,
    "network": _describe_network,
    "sound": lambda asked: describe_sound(*asked.sound),
    "audio": _play,
    "scores": _score,
    "map": _map,
    "strips": lambda asked: compute_strips(*asked.sound),
    "unit": lambda asked: describe_unit(*asked.sound, **asked.unit),
    "neighbors": lambda asked: find_neighbors(*asked.sound, layer=asked.need("layer")),
    "embedding": lambda asked: embed_sounds(*asked.heard, layer=asked.need("layer"), method=asked.need("method")),
    "favorites": lambda asked: find_favorites(*asked.heard, **asked.unit),
    "tuning": lambda asked: measure_unit(*asked.heard, **asked.unit, stimulus=asked.need("stimulus")),
    "pattern": lambda asked: find_pattern(*asked.heard, **asked.unit),
    "crop": lambda asked: _encode_sound(*read_crop(*asked.heard, **asked.unit, rank=asked.need_number("rank"))),
    "patternsound": lambda asked: _encode_sound(*read_pattern(*asked.heard, **asked.unit)),
    "receive": _receive,
    "brain": lambda asked: asked.brains.describe(asked.person),
    "brainmap": _brain_map,
    "background": lambda asked: (asked.maps.read_background(), NIFTI),
    "mesh": lambda asked: asked.maps.read_mesh(),
    "voxel": _voxel,
    "vertex": lambda asked: asked.maps.read_vertex(asked.need("vertex")),
    "region": lambda asked: asked.brains.read_region(asked.need("region"), asked.person),
    "rdms": _rdms,
    "gates": _gates,
    "wanted": _wanted,
    "wantedsound": _play_wanted,
}
"""The answer to each question, by its name."""
