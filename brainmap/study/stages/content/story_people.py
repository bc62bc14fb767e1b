"""Describe each participant of a study of stories: agreement with the others, scores by region, and voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainmap.study.results.context import Context
from brainmap.study.stages.content.people import arrange_people, average_best, count_voxels, select_person
from brainmap.study.stages.group_maps import SIGNIFICANT
from brainmap.viz.page.content import PeopleContent, Person

_OWN = ["participant", "roi"]


def read_agreement(context: Context, labels: Sequence[str]) -> pd.DataFrame:
    """Read how well the time courses of each participant (rows) agree with the others in each region (columns).

    It has no columns where there is one participant, or an earlier version wrote the results.
    """
    found = context.read_group_table("stories_participants")
    if found is None:
        return pd.DataFrame(index=list(labels))
    found = found.assign(participant=found["participant"].astype(str))
    regions = list(dict.fromkeys(found["roi"]))
    wide: pd.DataFrame = found.pivot(index="participant", columns="roi", values="agreement")
    return wide.reindex(index=list(labels), columns=regions)


def tabulate_story_people(
    agreement: pd.DataFrame,
    scores: pd.DataFrame,
    reliability: pd.DataFrame,
    best: pd.DataFrame,
    counts: pd.DataFrame,
) -> pd.DataFrame:
    """Build a table with a row for each participant, those that agree least with the others first.

    Parameters
    ----------
    agreement : DataFrame
        As from `read_agreement`.
    scores : DataFrame
        participant, network, layer, roi, score (r).
    reliability : DataFrame
        participant, roi, reliability (of time courses over repetitions, NaN without any).
    best : DataFrame
        As from `select_best`, of all networks.
    counts : DataFrame
        participant, roi, and numbers of voxels that were used and left out.

    Returns
    -------
    DataFrame
        participant; agreement (correlation of time courses with the mean of the others, mean over the regions of
        `keep_agreed_regions`), lowest_region and outlier, as in `arrange_people`; reliability (mean over regions);
        best_layers_score (mean over regions of the r of the layer that is best over participants); best_network (of
        several, the one whose best layers have the highest mean r in this participant); voxels, left_out.
    """
    whole = best.sort_values("mean", ascending=False, kind="stable").drop_duplicates("roi")
    return arrange_people(
        agreement,
        {
            "reliability": reliability.groupby("participant")["reliability"].mean().dropna(),
            "best_layers_score": average_best(scores, whole),
            "best_network": _choose_networks(scores, best),
            **count_voxels(counts),
        },
    )


def select_best(statistics: pd.DataFrame, networks: Sequence[str]) -> pd.DataFrame:
    """Select the layer of each network with the highest mean r, in regions that some layer predicts, or else in all.

    Examples
    --------
    >>> rows = [("a", "x", "HG", 0.3, 0.01), ("a", "y", "HG", 0.4, 0.01), ("a", "x", "V1", 0.1, 0.7)]
    >>> table = pd.DataFrame(rows, columns=["network", "layer", "roi", "mean", "p_corrected"])
    >>> select_best(table, ["a"])[["roi", "layer"]].values.tolist()
    [['HG', 'y']]
    """
    mine = statistics[statistics["network"].isin(networks) & statistics["mean"].notna()]
    predicted = set(mine.loc[mine["p_corrected"] <= SIGNIFICANT, "roi"])
    kept = mine[mine["roi"].isin(predicted)] if predicted else mine
    ranked = kept.sort_values("mean", ascending=False, kind="stable")
    return ranked.drop_duplicates(["network", "roi"]).sort_index().assign(best=True)


def _choose_networks(scores: pd.DataFrame, best: pd.DataFrame) -> pd.Series[Any]:
    """Choose the network of each participant whose best layers have the highest mean r; none where there is one."""
    networks = list(dict.fromkeys(best["network"]))
    if len(networks) < 2:
        return pd.Series(dtype=object)
    means = {name: average_best(scores, best[best["network"] == name]) for name in networks}
    return pd.DataFrame(means).dropna(how="all").idxmax(axis=1)


def describe_story_people(
    agreement: pd.DataFrame,
    scores: pd.DataFrame,
    reliability: pd.DataFrame,
    counts: pd.DataFrame,
    table: pd.DataFrame,
) -> PeopleContent:
    """Collect what the page shows of each participant, in the order of the table of participants.

    `scores` are those of the networks alone. Each region has the layer with the highest r in this participant.
    """
    ranked = scores.sort_values("score", ascending=False, kind="stable")
    best = ranked.drop_duplicates(_OWN).rename(columns={"score": "r"})
    told = ["network", "layer", "r"] if best["network"].nunique() > 1 else ["layer", "r"]
    persons = []
    for row in table.to_dict("records"):
        label = str(row["participant"])
        voxels, mine = select_person(counts, label), select_person(best, label)[told]
        regions = pd.DataFrame({"roi": list(dict.fromkeys([*voxels.index, *mine.index]))})
        if len(agreement) > 1 and len(agreement.columns):
            regions = regions.join(agreement.loc[[label]].T.set_axis(["agreement"], axis=1), on="roi")
        regions = regions.join(mine, on="roi").join(select_person(reliability, label), on="roi").join(voxels, on="roi")
        outlier, known = bool(row.get("outlier", False)), float(row.get("agreement", np.nan))
        persons.append(Person(label=label, outlier=outlier, agreement=known, regions=regions))
    return PeopleContent(persons=persons)
