"""Find the sound that a region is predicted to want, as the study does for its page, and let others judge it.

The study holds the scores alone, whose test is the gate; the sound is computed when it is asked for, by the functions
of the stage that makes the sounds of the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.explore.looking import describe_wave, take_wave
from brainmap.explore.sources import FEW, Source
from brainmap.features.evaluation.regions import CHANCE, RegionSounds
from brainmap.record import content_key
from brainmap.study.stages.encoding import yield_encoded
from brainmap.study.stages.networks import Version, load_heard_network
from brainmap.study.stages.region_encoders import RegionSearch


@dataclass(frozen=True)
class Gate:
    """Hold what the study says of the best encoding model of a network in a region.

    Attributes
    ----------
    layer : str
        The layer with the highest r over the group.
    r, p : float
        p by the highest r of all layers and regions in each permutation.
    """

    network: str
    layer: str
    r: float
    p: float

    @property
    def passed(self) -> bool:
        """Tell whether the region is predicted better than by chance."""
        return self.p <= CHANCE


def read_gates(source: Source, region: str) -> list[Gate]:
    """Read from the study's tables the best layer of each trained network in a region.

    Raises
    ------
    InputError
        The study has no encoding models, or they are not fitted yet.
    """
    context = source.context
    if context is None or context.study.settings.encoding is None:
        raise InputError("encoding: the study fits no encoding models; add [encoding] to its file, and run it")
    table = context.read_group_table("encoding")
    if table is None:
        raise InputError("encoding: the encoding models of the study are not fitted yet; run it: brainmap run")
    check_choice(region, list(dict.fromkeys(map(str, table["roi"]))), "region of the encoding models")
    mine = table[table["roi"].astype(str) == region]
    found = []
    for network in context.study.settings.network:
        rows = mine[(mine["network"] == network.name) & mine["mean"].notna()]
        if len(rows):
            best = rows.iloc[int(rows["mean"].argmax())]
            p = float(best["p_corrected"]) if pd.notna(best["p_corrected"]) else 1.0
            found.append(Gate(network.name, str(best["layer"]), float(best["mean"]), p))
    return found


def find_wanted(source: Source, region: str, network: str) -> tuple[RegionSounds, Gate]:
    """Find the sound that a region is predicted to want, through the best layer of a network; kept by content.

    Raises
    ------
    InputError
        No encoding model of the network, one that is no better than chance, features that no network can be cut of, or
        no network that could judge.
    """
    gates = {gate.network: gate for gate in read_gates(source, region)}
    gate = gates[check_choice(network, list(gates), "network")]
    if not gate.passed:
        raise InputError(
            f"wanted: the encoding models of {network!r} predict {region!r} no better than chance (best at "
            f"{gate.layer}, r = {gate.r:.3f}, p = {gate.p:.3g} by the maximum over layers and regions), so no sound "
            "can be said to drive it; choose another region or network"
        )
    context = source.context
    assert context is not None  # it has gates
    fitted = [context.ledger.read(one.stage)["key"] for one in yield_encoded(context)]
    key = content_key("wanted", fitted, region, gate.network, gate.layer, context.study.settings.study.seed)
    return source.memory.remember(key, lambda: _search_region(source, gate, region)), gate


def _search_region(source: Source, gate: Gate, region: str) -> RegionSounds:
    context = source.context
    assert context is not None  # it has gates
    loaded = {network.name: load_heard_network(context, network) for network in context.study.settings.network}
    climbed = next(one for one in context.study.settings.network if one.name == gate.network)
    search = RegionSearch.prepare(context, loaded, Version(climbed, ""))
    judges = search.judge([region])[region] if region in search.data.regions else []
    if not judges:
        raise InputError(
            f"wanted: no other network predicts {region!r} in the data that the climbed model has not seen, so that "
            "nothing could judge its sound; choose another region, or add another [[network]] to the study"
        )
    row = {"roi": region, "layer": gate.layer, "mean": gate.r, "p_corrected": gate.p}
    return search.climb(row, judges, compiled=False, micro_batch=FEW // 2)[1]


def describe_wanted(source: Source, region: str, network: str) -> dict[str, Any]:
    """Describe the sound that a region is predicted to want, and what the models predict for it."""
    found, gate = find_wanted(source, region, network)
    wave, rate = _get_wave(found)
    row = {str(name): value for name, value in found.table.iloc[0].items()}
    best = row.pop("best_real_sound")
    return {
        **row,
        "region": region,
        "network": gate.network,
        "layer": gate.layer,
        "r": gate.r,
        "p": gate.p,
        "prior": found.am.prior,
        "real": {"id": best, "condition": source.conditions[list(source.items).index(best)]},
        "sound": describe_wave(wave, rate),
        "notes": list(found.notes),
    }


def read_wanted(source: Source, region: str, network: str) -> tuple[NDArray[np.float32], int]:
    """Return the sound that a region is predicted to want, and its rate [Hz]."""
    return _get_wave(find_wanted(source, region, network)[0])


def _get_wave(found: RegionSounds) -> tuple[NDArray[np.float32], int]:
    return take_wave(found.am, "wanted: what the region is predicted to want")
