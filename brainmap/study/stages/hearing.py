"""Find out what networks make of the first sounds; nothing is run again that was found out before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError, name_place
from brainmap.features.layers.layer import Layer, place_units, restore_layer
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.reading import check_sound
from brainmap.references import first_line
from brainmap.rsa.rdm.dissimilarity import PRIOR
from brainmap.rsa.rdm.sources import build_array_source
from brainmap.study.results.context import Context
from brainmap.study.settings.study import Baselines, Network
from brainmap.study.stages.networks import Loaded, load_baselines
from brainmap.types import Level

_FEW = 8  # sounds of which RDMs are tried


def choose_first(sounds: Sounds) -> Sounds:
    """Return the first sound; of sounds that keep their own lengths the shortest, which a network may not take, then
    the longest.
    """
    if not sounds.own_lengths:
        return sounds.take([0])
    lengths = [n_frames / rate for rate, n_frames in map(check_sound, map(Path, sounds.table["path"]))]
    return sounds.take([int(np.argmin(lengths)), int(np.argmax(lengths))])


def find_layers(
    loaded: Loaded, first: Sounds, asked: str | Sequence[str], *, refused: str
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Run a sound through a network, and return its layers and those that are asked for, as `choose_layers` does.

    Parameters
    ----------
    loaded : Loaded
    first : Sounds
        One sound.
    asked : str or sequence of str
        As `[network] layers`.
    refused : str
        The message where the network refuses the sound, with {shape} of what it is given and {why}.

    Raises
    ------
    InputError
        The network refuses the sound, or lacks a layer.
    """

    def hear() -> dict[str, Any]:
        import torch

        from brainmap.features.layers.running import evaluating, explain_refusal
        from brainmap.features.layers.selection import choose_layers
        from brainmap.features.sounds.batches import iterate_tensors

        given = next(iterate_tensors(first, 1))
        with evaluating(loaded.model), torch.no_grad():
            try:
                loaded.model(given.clone())
            except Exception as error:  # a user's network may raise anything
                why = explain_refusal(loaded.model, given) or first_line(error)
                raise InputError(refused.format(shape=tuple(given.shape), why=why)) from None
        listed, chosen = choose_layers(loaded.model, first, asked)
        return {"listed": [asdict(layer) for layer in listed], "chosen": [asdict(layer) for layer in chosen]}

    found = loaded.keep("layers", [first.digest, asked], hear)
    return tuple(map(restore_layer, found["listed"])), tuple(map(restore_layer, found["chosen"]))


def place_layers(network: Network, chosen: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers with the axis of units that the study gives.

    Raises
    ------
    InputError
        The axis of some layers is neither known nor given; one line for each.
    """
    placed = tuple(place_units(chosen, network.units_axis).values())
    lost = [] if network.pooling in ("none", "flatten") else [layer for layer in placed if not layer.order]
    if (lost and len(lost) == len(placed)) or network.layers != "all":
        _refuse([str(layer.report_unknown_axes((1, *layer.shape), 1)) for layer in lost])
    return tuple(layer for layer in placed if layer not in lost)


def check_rdms(loaded: Loaded, layers: Sequence[Layer], items: Level) -> None:
    """Refuse layers whose RDM would be NaN, or the same for every pair, by name.

    RDMs of a few sounds are computed, and where these look like that, RDMs of all sounds.

    Raises
    ------
    InputError
        One line for each such layer.
    """
    network, sounds = loaded.settings, loaded.sounds
    assert isinstance(network, Network)

    def hear() -> list[str]:
        labels = sounds.items if items == "stimulus" else sounds.conditions
        rows = [labels.index(one) for one in dict.fromkeys(labels)]
        few = [rows[int(k)] for k in np.unique(np.linspace(0, len(rows) - 1, _FEW).astype(int))]
        doubted = _find_bad_rdms(loaded, layers, sounds.take(few), items)
        again = [layer for layer in layers if layer.name in doubted]
        return list(_find_bad_rdms(loaded, again, sounds, items).values()) if again else []

    read = {"pooling", "pool_frequency", "units_axis", "dissimilarity", "units"}
    asked = [network.model_dump(include=read), items, [layer.name for layer in layers]]
    _refuse(loaded.keep("rdms", [sounds.digest, sounds.items, sounds.conditions, asked], hear))


def _find_bad_rdms(loaded: Loaded, layers: Sequence[Layer], sounds: Sounds, items: Level) -> dict[str, str]:
    """Say of each layer whose RDM is NaN, or the same for every pair, why."""
    bad = {}
    for layer, rows in _hear_layers(loaded, layers, sounds).items():
        why = _judge_rdm(loaded.settings, rows, sounds, items)
        if why:
            what = f"layer {layer.name!r} ({layer.kind}) with {rows.shape[1]:,} unit{'s' * (rows.shape[1] > 1)}"
            bad[layer.name] = f"expected dissimilarities in the RDM of {what}, got {why}; leave the layer out"
    return bad


def _judge_rdm(network: Network | Baselines, rows: NDArray[np.float64], sounds: Sounds, items: Level) -> str:
    """Say what is wrong with the RDM of a layer `(n_items, n_units)`; nothing where it can be compared."""
    zscore = network.units != "none"
    if (rows == rows[0]).all():
        return "the same values for every sound"
    labels: dict[str, Any] = {"stimulus_id": sounds.items, "condition": sounds.conditions}
    source = build_array_source(rows, items=items, zscore=zscore, descriptors=labels)
    try:
        with np.errstate(all="ignore"):
            found, _, _ = source.vector(network.dissimilarity, zscore=zscore, precision=None, prior=PRIOR)
    except InputError as error:
        return f"none ({str(error).removeprefix('compute_rdms: ')})"
    there = found[np.isfinite(found)]
    if not len(there):
        single = rows.shape[1] == 1
        why = f"{network.dissimilarity} needs two units or more" if single else "all patterns are constant"
        return f"NaN for every pair ({why})"
    return f"{there[0]:.3g} for every pair" if there.min() == there.max() else ""


def _hear_layers(loaded: Loaded, layers: Sequence[Layer], sounds: Sounds) -> dict[Layer, NDArray[np.float64]]:
    """Run sounds through a network one by one, and return the pooled rows of its layers, `(n_items, n_units)`."""
    import torch

    from brainmap.features.layers.ear import tap
    from brainmap.features.layers.inputs import fit_sounds
    from brainmap.features.layers.pooling import pool_layer
    from brainmap.features.layers.running import evaluating, forward
    from brainmap.features.sounds.batches import iterate_tensors

    model, network = loaded.model, loaded.settings
    assert isinstance(network, Network)
    rows: dict[Layer, list[NDArray[np.float64]]] = {layer: [] for layer in layers}
    with evaluating(model), torch.no_grad(), tap(model, [layer.name for layer in layers]) as heard:
        for batch in iterate_tensors(fit_sounds(model, sounds), 1):
            forward(model, batch)
            for layer, kept in rows.items():
                pooled = pool_layer(
                    model,
                    layer,
                    heard[layer.name],
                    batch,
                    pooling="flatten" if network.pooling == "none" else network.pooling,
                    pool_frequency=network.pool_frequency,
                )
                kept.append(pooled[0].double().numpy())
    return {layer: np.stack(kept) for layer, kept in rows.items()}


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise InputError("\n".join(problems))


def check_baselines(context: Context, take: Callable[[Loaded], Sounds]) -> None:
    """Refuse acoustic models that do not take a sound, which `take` takes from those that they hear.

    Raises
    ------
    InputError
    """
    baselines = context.study.settings.baselines
    if baselines is None:
        return
    try:
        loaded = load_baselines(context, baselines)
    except InputError:
        return  # it comes from the first network or the sounds, and is listed there

    def hear() -> bool:
        import torch

        loaded.model(torch.from_numpy(first.waveforms.copy()))
        return True

    with name_place("[baselines]"):
        first = take(loaded)
        loaded.keep("acoustic", first.digest, hear)
