"""Choose the best layer of each region by encoding models, on halves of the sounds, and average over participants.

Compare networks by encoding models: layers with controls and baselines, networks with networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.rsa.encoding.best_layers import best_encoding_layers
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.group import NETWORK_TEST_COLUMNS, GroupNull
from brainmap.rsa.encoding.positions import POSITION_COLUMNS as TESTED, position_test
from brainmap.rsa.inference.differences import score_differences
from brainmap.study.results.context import Context, make_rng
from brainmap.study.stages.comparisons import add_test_beside, describe_test_beside
from brainmap.types import Floats

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


PARTICIPANTS = {
    "p_these_sounds": "p over participants, uncorrected: of these sounds only, which are taken as fixed",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
    "smallest_p_these_sounds": "smallest p that so many participants can reach",
}
_TESTS = ("p", "p_corrected", "p_unrelated", "p_equal", "n", "permutations", "smallest_p")
LAYER_COLUMNS = {
    "network": "network",
    "layer": "layer",
    "other_network": "a control of the network, or the acoustic baselines",
    "other_layer": "the same layer of the control, or an acoustic model",
    "roi": "region of interest",
    "difference": "mean r of the layer less that of the other, over participants",
    "standard_error": "of that difference, over participants",
    **{key: NETWORK_TEST_COLUMNS[key] for key in _TESTS},
    **PARTICIPANTS,
}
NETWORK_COLUMNS = {
    **{key: text for key, text in NETWORK_TEST_COLUMNS.items() if key not in _TESTS},
    "standard_error": "of that difference, over participants",
    **{key: NETWORK_TEST_COLUMNS[key] for key in _TESTS},
    **PARTICIPANTS,
}


def list_pairs(context: Context, rows: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """List the layers of networks that are compared: with the same layer of controls, and with acoustic models."""
    settings, places = context.study.settings, {row: k for k, row in enumerate(rows)}
    baselines = None if settings.baselines is None else settings.baselines.name
    acoustic = [k for (network, _), k in places.items() if network == baselines]
    controls = {network.name: network.controls for network in settings.network}
    controls |= {n.seed_of: n.controls for n in settings.network if n.seed_of}
    found: list[tuple[int, int]] = []
    for (network, layer), k in places.items():
        if network in controls:
            own = (places.get((f"{network}-{control}", layer)) for control in controls[network])
            found += [(k, other) for other in (*own, *acoustic) if other is not None]
    return found


def compare_layers(
    context: Context, null: GroupNull, r: Floats, pairs: Sequence[tuple[int, int]]
) -> tuple[pd.DataFrame, str]:
    """Test layers against their controls and the acoustic models, by permutations; beside it, over participants."""
    return _add_participants(context, null.test_layer_pairs(pairs), r, pairs, null.regions, "encoding differences")


def compare_networks(context: Context, null: GroupNull, pairs: Sequence[tuple[str, str]]) -> tuple[pd.DataFrame, str]:
    """Test networks against each other by their best layers, by permutations; beside it, over participants."""
    places = [(null.networks.index(one), null.networks.index(other)) for one, other in pairs]
    return _add_participants(context, null.test_networks(pairs), null.own, places, null.regions, "encoding networks")


def _add_participants(
    context: Context,
    table: pd.DataFrame,
    scores: Floats,
    pairs: Sequence[tuple[int, int]],
    regions: Sequence[str],
    seed: str,
) -> tuple[pd.DataFrame, str]:
    """Add the test over participants of the same pairs of scores `(n_models, n_regions, n_participants)`."""
    inference, beside = context.study.settings.rsa.inference, None
    if scores.shape[-1] > 1:
        beside = score_differences(
            scores,
            test=inference.test,
            correction=inference.correction,
            labels={"model": [str(k) for k in range(len(scores))], "roi": list(regions)},
            pairs=pairs,
            rng=make_rng(context, seed),
        )
    return add_test_beside(table, beside), describe_test_beside(str(table.attrs["note"]), beside)
