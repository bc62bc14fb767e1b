"""Describe each participant of a study: how much its geometry agrees with the others', and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainmap.rsa.comparison.ranks import rank_by_sorting
from brainmap.study.results.context import Context
from brainmap.study.stages.content.maps import LazyMaps, list_layers
from brainmap.study.stages.explain import choose_explained
from brainmap.study.stages.group_maps import find_common_map, find_common_space
from brainmap.study.stages.spaces import is_drawn
from brainmap.study.stages.surfaces import load_map
from brainmap.types import Floats, RDMs
from brainmap.viz.page.content import PeopleContent, Person

FAR = 3.0
"""Robust standard deviations below the median from which on a participant is an outlier."""


def tabulate_people(
    context: Context, brains: RDMs, scores: pd.DataFrame, counts: pd.DataFrame, answers: pd.DataFrame | None
) -> pd.DataFrame:
    """Build a table with a row for each participant, those that agree least with the others first.

    Parameters
    ----------
    context : Context
    brains : rsatoolbox RDMs
        RDMs of all participants and regions.
    scores : DataFrame
        participant, network, layer, roi, score.
    counts : DataFrame
        participant, roi, and numbers of voxels that were used and left out.
    answers : DataFrame, optional
        The best layers of all networks in all regions.

    Returns
    -------
    DataFrame
        participant, agreement (Spearman correlation of the participant's RDM with the mean ranks of the others', mean
        over the regions of `keep_agreed_regions`; of several participants), lowest_region (of these, where it is
        lowest), outlier (nobody is one where participants agree in no region), reliability (of RDMs over runs, mean
        over regions, where runs were compared), best_layers_score (mean over regions of the score of the region's best
        layer), voxels (used, of the mask), left_out (voxels of the mask that were not used).
    """
    found = {
        "reliability": _read_reliability(context),
        "best_layers_score": average_best(scores, answers),
        **count_voxels(counts),
    }
    return arrange_people(compare_people(brains), found)


def arrange_people(agreement: pd.DataFrame, found: Mapping[str, pd.Series[Any]]) -> pd.DataFrame:
    """Arrange what is known of participants in a table, those that agree least with the others first.

    Parameters
    ----------
    agreement : DataFrame
        Agreement of each participant (rows) with the others in each region (columns), which may be none; that of one
        participant is not used.
    found : mapping of column to Series
        Further columns by participant; empty ones are left out.

    Returns
    -------
    DataFrame
        participant, agreement, lowest_region and outlier (of several participants), and the further columns.

    Examples
    --------
    >>> agreement = pd.DataFrame({"HG": [0.5, 0.3], "PT": [0.6, 0.4]}, index=["01", "02"])
    >>> arrange_people(agreement, {"voxels": pd.Series({"01": 9, "02": 8})})["participant"].tolist()
    ['02', '01']
    """
    table = pd.DataFrame({"participant": agreement.index})
    if len(agreement) > 1 and len(agreement.columns):
        agreed = keep_agreed_regions(agreement)
        shown = agreement if agreed.empty else agreed
        table["agreement"] = shown.mean(axis=1).to_numpy()
        table["lowest_region"] = shown.fillna(np.inf).idxmin(axis=1).to_numpy()
        table["outlier"] = [False] * len(table) if agreed.empty else find_outliers(agreed.mean(axis=1).to_numpy())
    for name, values in found.items():
        if len(values):
            table[name] = table["participant"].map(values)
    return table.sort_values("agreement", kind="stable") if "agreement" in table else table


def describe_people(
    context: Context, brains: RDMs, counts: pd.DataFrame, table: pd.DataFrame, answers: pd.DataFrame | None
) -> PeopleContent:
    """Collect what the page shows of each participant, in the order of the table of participants.

    Parameters
    ----------
    context : Context
    brains : rsatoolbox RDMs
        RDMs of all participants and regions.
    counts : DataFrame
        participant, roi, and numbers of voxels that were used and left out.
    table : DataFrame
        As from `tabulate_people`.
    answers : DataFrame, optional
        The best layers of all networks in all regions; the maps are those of the layer with the highest score.

    Returns
    -------
    PeopleContent
    """
    agreement, reliability = compare_people(brains), _join_reliability(context)
    owners = _list_owners(brains)
    squares, order = brains.get_matrices(), _order_items(context, brains)
    persons = []
    for row in table.to_dict("records"):
        label = str(row["participant"])
        mine = {roi: squares[k][np.ix_(order, order)] for k, (who, roi) in enumerate(owners) if who == label}
        voxels = select_person(counts, label)
        regions = pd.DataFrame({"roi": list(dict.fromkeys([*voxels.index, *mine]))})
        if len(agreement) > 1:
            regions = regions.join(agreement.T[[label]].rename(columns={label: "agreement"}), on="roi")
        if reliability is not None:
            regions = regions.join(select_person(reliability, label)[["reliability"]], on="roi")
        regions = regions.join(voxels, on="roi")
        outlier, own = bool(row.get("outlier", False)), float(row.get("agreement", np.nan))
        persons.append(Person(label=label, outlier=outlier, agreement=own, regions=regions, rdms=mine))
    shown, maps = _find_person_maps(context, answers)
    return PeopleContent(persons=persons, maps=maps, shown=shown)


def select_person(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the rows of a participant by region."""
    mine = table[table["participant"].astype(str) == label].drop(columns="participant")
    return mine.set_index(mine["roi"].astype(str)).drop(columns="roi")


def _order_items(context: Context, brains: RDMs) -> list[int]:
    """Order the items of RDMs by condition, then by the table of sounds."""
    found = brains.pattern_descriptors
    conditions = list(dict.fromkeys(context.stimuli.values()))
    sounds = {item: k for k, item in enumerate(context.stimuli)}
    if "stimulus_id" not in found:
        names = [str(name) for name in found["condition"]]
        return sorted(range(len(names)), key=lambda k: conditions.index(names[k]))
    items = [str(name) for name in found["stimulus_id"]]
    return sorted(range(len(items)), key=lambda k: (conditions.index(context.stimuli[items[k]]), sounds[items[k]]))


def _find_person_maps(context: Context, answers: pd.DataFrame | None) -> tuple[str, LazyMaps]:
    """Find each participant's map of the layer with the highest score, where brains lie in one space in volumes."""
    people, version = list(context.study.participants()), choose_explained(context)
    if context.study.settings.searchlight is None or people[0].brain.on_surface:
        return "", LazyMaps({}, load_map)
    space = find_common_space(context, people)
    if space is None or not is_drawn(space):
        return "", LazyMaps({}, load_map)
    layer = list_layers(context, version)[-1]
    if answers is not None:
        mine = answers[answers["network"] == version.name].sort_values("score", ascending=False, kind="stable")
        layer = str(mine["layer"].iloc[0]) if len(mine) else layer
    paths = {person.label: find_common_map(context, person, version, layer) for person in people}
    return f"{layer} of {version.name}", LazyMaps({who: path for who, path in paths.items() if path.exists()}, load_map)


def _list_owners(brains: RDMs) -> list[tuple[str, str]]:
    """List the participant and the region of each RDM."""
    found = brains.rdm_descriptors
    return [(str(who), str(roi)) for who, roi in zip(found["participant"], found["roi"], strict=True)]


def compare_people(brains: RDMs) -> pd.DataFrame:
    """Compute how much each participant (rows) agrees with the others in each region (columns)."""
    owners = _list_owners(brains)
    rois = np.array([roi for _, roi in owners])
    people = np.array([who for who, _ in owners])
    vectors = np.asarray(brains.dissimilarities, dtype=np.float64)
    parts = [
        pd.Series(compute_agreement(vectors[rois == roi]), index=people[rois == roi], name=roi)
        for roi in dict.fromkeys(rois)
    ]
    return pd.concat(parts, axis=1)


def compute_agreement(vectors: Floats) -> Floats:
    """Correlate the ranks of each RDM `(n_rdms, n_pairs)` with the mean ranks of the others; NaN pairs are left out.

    Examples
    --------
    >>> compute_agreement(np.array([[1.0, 2, 3], [1, 2, 4], [3, 2, 1]])).round(2)
    array([ 0.,  0., -1.])
    """
    there = np.isfinite(vectors).all(axis=0)
    if len(vectors) < 2 or there.sum() < 3:
        return np.full(len(vectors), np.nan)
    ranks = rank_by_sorting(vectors[:, there])
    others = (ranks.sum(axis=0) - ranks) / (len(ranks) - 1)
    a, b = (one - one.mean(axis=1, keepdims=True) for one in (ranks, others))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(scale > 0, scale, np.inf))


def keep_agreed_regions(agreement: pd.DataFrame) -> pd.DataFrame:
    """Keep the regions (columns) where the mean agreement of participants (rows) is two standard errors above 0.

    Elsewhere RDMs hold noise alone, and to agree with nobody is no sign of a bad participant.

    Examples
    --------
    >>> table = pd.DataFrame({"HG": [0.8, 0.7, 0.9, 0.1], "noise": [0.3, 0.2, -0.9, 0.1]})
    >>> list(keep_agreed_regions(table))
    ['HG']
    """
    least = 2 * agreement.std(axis=0) / np.sqrt(agreement.notna().sum(axis=0))
    kept: pd.DataFrame = agreement.loc[:, agreement.mean(axis=0) > least]
    return kept


def find_outliers(values: Floats) -> list[bool]:
    """Tell which values lie far below the median, by the median absolute deviation; none of fewer than five.

    Examples
    --------
    >>> find_outliers(np.array([0.5, 0.52, 0.49, 0.51, 0.1]))
    [False, False, False, False, True]
    """
    away = values - np.nanmedian(values)
    spread = 1.4826 * float(np.nanmedian(np.abs(away)))
    return [bool(len(values) > 4 and one < -FAR * max(spread, 1e-3)) for one in away]


def _join_reliability(context: Context) -> pd.DataFrame | None:
    """Read how well each participant's RDMs repeat over runs; None where runs were not compared."""
    found = context.read_person_tables("reliability.tsv", desc="rois")
    return pd.concat(found) if found else None


def _read_reliability(context: Context) -> pd.Series[float]:
    """Average the reliability of each participant's RDMs over regions."""
    found = _join_reliability(context)
    return pd.Series(dtype=float) if found is None else found.groupby("participant")["reliability"].mean()


def average_best(scores: pd.DataFrame, answers: pd.DataFrame | None) -> pd.Series[float]:
    """Average each participant's scores of the best layers over the regions that have one."""
    if answers is None or not answers["best"].any():
        return pd.Series(dtype=float)
    best = answers.loc[answers["best"], ["roi", "network", "layer"]]
    mine = scores.assign(roi=scores["roi"].astype(str)).merge(best, on=["roi", "network", "layer"])
    return mine.groupby("participant")["score"].mean()


def count_voxels(counts: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Return the voxels that were used of each participant's mask, and those left out; the first row is the mask."""
    if not {"voxels", "kept"} <= set(counts):
        return {}
    whole = counts.groupby("participant", sort=False)[["voxels", "kept"]].first()
    return {"voxels": whole["kept"], "left_out": whole["voxels"] - whole["kept"]}
