"""Choose the best layer of each region by encoding models, on halves of the sounds, and average over participants."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.rsa.encoding.best_layers import best_encoding_layers
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.positions import POSITION_COLUMNS as TESTED, position_test
from brainmap.study.results.context import Context
from brainmap.study.stages.inference import make_rng

log = logging.getLogger("brainmap")
POSITION_COLUMNS = {"network": "network, or a control of it", **TESTED}
BEST_COLUMNS = {
    "network": "network, or a control of it",
    "roi": "region of interest",
    "layer": "layer that is best in most participants; of equals, the earlier one",
    "participants_share": "share of participants in which it is the best",
    "r": "r of the layers that were chosen on one half of the sounds, on the other half: median over splits, mean over "
    "participants",
    "standard_error": "of that mean, over participants",
    "position": "place of the chosen layers, from 0 (first) to 1 (last), mean over splits and participants",
    "position_standard_error": "of that mean, over participants",
    "n": "participants with r above 0, whose positions are averaged",
    "splits": "splits into halves",
}


@dataclass(frozen=True)
class GroupBestLayers:
    """Hold the best layers as means over participants, and those of each participant (of each seed of a network).

    `splits` are the positions that each half of the sounds chooses, in each participant.
    """

    table: pd.DataFrame
    splits: pd.DataFrame


def choose_best_layers(
    context: Context,
    fits: Sequence[Encoding],
    networks: Sequence[str],
    *,
    splits: int,
    seeds: Mapping[str, Sequence[str]] | None = None,
) -> GroupBestLayers | None:
    """Choose the best layers of networks within each participant, and average; None where sounds are too few to halve.

    Networks of one layer are left out. The layers of several seeds of a network are chosen in each seed.
    """
    counts = pd.Series([space.network for space in fits[0].spaces]).value_counts()
    wanted = [name for name in networks if counts.get(name, 0) > 1]
    if not wanted:
        return None
    seeds = seeds or {}
    found: list[pd.DataFrame] = []
    halves: list[pd.DataFrame] = []
    for who, fit in enumerate(fits):
        mine = replace(fit, spaces=tuple(space for space in fit.spaces if space.network in wanted))
        try:
            best = best_encoding_layers(mine, splits=splits, rng=make_rng(context, "encoding halves"))
        except InputError as error:
            log.warning("group: best layers of encoding models are not chosen: %s", error)
            return None
        for table, kept in ((best.regions, found), (best.splits, halves)):
            own = table.assign(participant=who)
            kept += [own, *(own[own["network"].isin(members)].assign(network=name) for name, members in seeds.items())]
    rows = pd.concat(found, ignore_index=True)
    rows["network"] = pd.Categorical(rows["network"], [name for name in networks if name in set(rows["network"])])
    table = pd.DataFrame(
        [
            {"network": network, "roi": roi, **_average(own, _list_layers(fits[0], str(network), seeds))}
            for (network, roi), own in rows.groupby(["network", "roi"], sort=False, observed=True)
        ]
    )
    return GroupBestLayers(table, pd.concat(halves, ignore_index=True))


def compare_positions(context: Context, best: GroupBestLayers) -> pd.DataFrame | None:
    """Test within each network whether positions differ between regions; None for one region or participant."""
    inference, rows, found = context.study.settings.rsa.inference, best.splits, []
    regions = list(dict.fromkeys(rows["roi"]))
    if len(regions) < 2 or rows["participant"].nunique() < 2:
        return None
    for network in dict.fromkeys(best.table["network"]):
        own, people = rows[rows["network"] == network], sorted(rows["participant"].unique())
        mean = own.pivot_table(values="position", index=["roi", "participant"], columns="split", dropna=False)
        wanted = pd.MultiIndex.from_product([regions, people])
        tested = position_test(
            mean.reindex(wanted).to_numpy().reshape(len(regions), len(people), -1),
            regions,
            test=inference.test,
            correction="fdr" if inference.correction == "max-t" else inference.correction,
            rng=make_rng(context, "encoding positions"),
        )
        found.append(tested.assign(network=network))
    table = pd.concat(found, ignore_index=True)
    table.attrs["note"] = found[0].attrs.get("note", "")
    return table


def _list_layers(fit: Encoding, network: str, seeds: Mapping[str, Sequence[str]]) -> list[str]:
    member = seeds.get(network, [network])[0]
    return [space.layer for space in fit.spaces if space.network == member]


def _average(rows: pd.DataFrame, layers: Sequence[str]) -> dict[str, object]:
    """Average the best layers of a network in a region over participants, and over seeds within each."""
    votes = [int((rows["layer"] == layer).sum()) for layer in layers]
    own = rows.groupby("participant")[["r", "position"]].mean()
    return {
        "layer": layers[int(np.argmax(votes))],
        "participants_share": max(votes) / len(rows),
        "r": own["r"].mean(),
        "standard_error": own["r"].sem(),
        "position": own["position"].mean(),
        "position_standard_error": own["position"].sem(),
        "n": int(own["position"].notna().sum()),
        "splits": int(rows["splits"].iloc[0]),
    }
