"""Compute what a sound is near to: its neighbors in a layer and as a waveform, and all sounds in a plane."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import BrainmapWarning, InputError
from brainmap.explore.sources import FEW, UPLOAD, Heard, Source
from brainmap.features.activations.extract import extract_activations
from brainmap.features.activations.stored import Activations, open_activations
from brainmap.features.representations.files import list_stored_layers
from brainmap.features.units.nearest_sounds import nearest_neighbors
from brainmap.record import content_key
from brainmap.types import EmbeddingMethod

if TYPE_CHECKING:
    from brainmap.features.units.embedding import Embedding

NEIGHBORS = 6

_MOST_SAMPLES = 60_000_000
"""Samples of all sounds together, above which waveforms are not compared."""


def find_neighbors(source: Source, heard: Heard, key: str, *, layer: str) -> dict[str, Any]:
    """Find the sounds nearest to one in a layer, and those nearest as waveforms, by correlation."""
    heard.layer(layer)
    features = _gather_features(source, heard)
    if layer not in features.layers:
        raise InputError(f"neighbors: the results hold no activations of {layer!r}; choose one of {features.layers}")
    k = min(NEIGHBORS, len(source.items) - 1 + key.startswith(UPLOAD))
    if k < 1:
        raise InputError("neighbors: expected several sounds, got one; explore a table or folder of sounds")
    values = np.asarray(features[layer][:], dtype=np.float32).reshape(len(source.items), -1)
    own = None
    if key.startswith(UPLOAD):
        mine = extract_activations(
            heard.model,
            source.sound(heard, key),
            layers=[layer],
            pooling=features.pooling,  # type: ignore[arg-type]
            device=source.device,
            units_axis=getattr(getattr(heard.version, "network", None), "units_axis", None),
            pool_frequency=bool(getattr(getattr(heard.version, "network", None), "pool_frequency", False)),
        )
        own = np.asarray(mine[layer][:], dtype=np.float32).reshape(1, -1)
    found: dict[str, Any] = {"pooling": features.pooling, "layer": _rank_neighbors(source, key, values, own, k)}
    n_samples = len(heard.sounds) * heard.sounds.n_samples
    if heard.sounds.own_lengths or n_samples > _MOST_SAMPLES:
        why = "sounds have several lengths" if heard.sounds.own_lengths else "there are too many of them"
        return {**found, "waveform": [], "notes": [f"waveforms are not compared, because {why}"]}
    own = source.sound(heard, key).waveforms[:, 0] if key.startswith(UPLOAD) else None
    return {**found, "waveform": _rank_neighbors(source, key, heard.sounds.waveforms[:, 0], own, k)}


def _gather_features(source: Source, heard: Heard) -> Activations:
    """Return the activations of all sounds: those of the study where it has them, or else means over time."""

    def compute() -> Activations:
        if source.context is not None and heard.version is not None:
            from brainmap.study.stages.networks import store_path

            path = store_path(source.context, heard.version)
            if list_stored_layers(path, "activations"):
                kept = open_activations(path)
                if list(kept.items) == list(source.items):
                    return kept
        return extract_activations(heard.model, heard.sounds, pooling="mean", batch_size=FEW, device=source.device)

    return source.memory.remember(content_key("features", heard.digest, heard.sounds.digest), compute)


def _rank_neighbors(
    source: Source, key: str, values: NDArray[np.float32], own: NDArray[np.float32] | None, k: int
) -> list[dict[str, Any]]:
    """Rank the sounds by their distance to one of them, or to another one whose values are `own` `(1, n_units)`."""
    ids, words = list(source.items), list(source.conditions)
    if own is not None:
        values, ids, words = np.concatenate([values, own]), [*ids, key], [*words, key]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # of conditions with one sound; only distances are shown
        table = nearest_neighbors(values, k=k, conditions=words).table
    mine = table[table["item"] == str(ids.index(key))]
    places = [int(one) for one in mine["neighbor"]]
    return [
        {"id": ids[at], "condition": words[at], "distance": float(far), "same": words[at] == words[ids.index(key)]}
        for at, far in zip(places, mine["distance"], strict=True)
    ]


def embed_sounds(source: Source, heard: Heard, *, layer: str, method: str) -> dict[str, Any]:
    """Place all sounds in a plane by their activations in a layer, z-scored over sounds."""
    from brainmap.features.units.embedding import embed

    check_choice(method, get_args(EmbeddingMethod), "method")
    features = _gather_features(source, heard)
    check_choice(layer, list(features.layers), "layer")

    def compute() -> Embedding:
        perplexity = min(30.0, (len(source.items) - 1) / 3)
        return embed(features, layer=layer, method=method, perplexity=perplexity)  # type: ignore[arg-type]

    key = content_key("embedding", heard.digest, heard.sounds.digest, layer, method, features.pooling)
    found = source.memory.remember(key, compute)
    return {
        "points": found.points.astype(np.float32),
        "items": list(found.items),
        "conditions": list(found.conditions),
        "axes": list(found.axes),
        "pooling": features.pooling,
        "trustworthiness": found.trustworthiness,
        "n_neighbors": found.n_neighbors,
        "perplexity": found.perplexity,
    }
