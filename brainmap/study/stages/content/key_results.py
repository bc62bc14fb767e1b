"""Say the key results of a study in a figure and a sentence each; every sentence names its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from brainmap.study.stages.content.answers import ACOUSTIC, KeyResult, Tables, is_ahead
from brainmap.study.stages.content.maps import count_best
from brainmap.study.stages.generality import THESE_SOUNDS
from brainmap.study.stages.group_maps import SIGNIFICANT
from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import NetworkMaps

MOST = 3  # networks with a figure of their own; the table of answers has all


def collect_key_results(
    tables: Tables,
    answers: pd.DataFrame | None,
    networks: Sequence[str],
    maps: Mapping[str, NetworkMaps],
    *,
    measure: str,
    planted_from: str,
) -> list[KeyResult]:
    """Collect the key results.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        The group's tables.
    answers : DataFrame, optional
        The best layers of every network in every region, from `tabulate_answers`.
    networks : sequence of str
        The networks that are compared, without their controls; several seeds are one network.
    maps : mapping of network to its searchlight maps
    measure : str
        Name of the scores.
    planted_from : str
        The network whose layers a simulation planted.
    """
    results = _count_recovered(tables, planted_from)
    if answers is not None:
        results += _count_explained(tables, answers, networks)
        results += _compare_best(answers)
        results += _name_highest(answers, measure)
    return results + [one for network, its in list(maps.items())[:MOST] for one in _count_voxels(network, its)]


def _count_recovered(tables: Tables, source: str) -> list[KeyResult]:
    """Count the planted layers that were recovered, of those regions where some layer was planted."""
    recovery = tables["recovery"]
    if recovery is None:
        return []
    planted = recovery[recovery["planted"].notna()]
    within = int((planted["recovered"].notna() & (planted["distance"] <= 1)).sum())
    exact = int((planted["recovered"] == planted["planted"]).sum())
    return [
        (
            f"{within} of {len(planted)}",
            f"planted regions where a layer of {source} is significant, the planted one or its neighbor",
        ),
        (f"{exact} of {len(planted)}", f"planted layers of {source} recovered exactly"),
    ]


def _count_explained(tables: Tables, answers: pd.DataFrame, networks: Sequence[str]) -> list[KeyResult]:
    statistics = tables["statistics"]
    assert statistics is not None
    over = "corrected over all layers and regions"
    if "test" in statistics and (statistics["test"] == THESE_SOUNDS).all():
        over += f" ({THESE_SOUNDS})"
    total = answers["roi"].nunique()
    if len(networks) > MOST:
        n = answers.loc[answers["explains"] & answers["network"].isin(networks), "roi"].nunique()
        return [(f"{n} of {total}", f"regions that some layer of one of {len(networks)} networks explains, {over}")]
    return [
        (
            f"{mine.loc[mine['explains'], 'roi'].nunique()} of {total}",
            f"regions that some layer of {network} explains, {over}",
        )
        for network in networks
        if len(mine := answers[answers["network"] == network])
    ]


def list_opponents(answers: pd.DataFrame) -> list[str]:
    """List what networks are compared with in a table of answers, as "untrained" or "acoustic"."""
    return [str(c).removeprefix("over_") for c in answers if str(c).startswith("over_") and c != "over_best"]


def _compare_best(answers: pd.DataFrame) -> list[KeyResult]:
    """Count the regions whose best network is ahead of all its controls and of the acoustic models."""
    best = answers[answers["best"]]
    opponents = list_opponents(answers)
    if not opponents or not len(best):
        return []
    rows = best.to_dict("records")
    ahead = sum(all(is_ahead(row, what) for what in opponents if pd.notna(row[f"over_{what}"])) for row in rows)
    names = [f"its {what} control" for what in opponents if what != ACOUSTIC]
    names += ["the acoustic models"] if ACOUSTIC in opponents else []
    said = f"of these regions where the best network is ahead of {' and '.join(names)}, best layer against best layer"
    return [(f"{ahead} of {len(best)}", said)]


def _name_highest(answers: pd.DataFrame, measure: str) -> list[KeyResult]:
    best = answers[answers["best"]]
    if not len(best):
        return [("none", f"of the networks explains a region (p < {format_decimals(SIGNIFICANT)}, corrected)")]
    top = best.sort_values("score", ascending=False, kind="stable").iloc[0]
    how = " on sounds that did not choose the layer" if top["held_out"] else ""
    said = f"highest {measure}{how}: {top['layer']} of {top['network']} in {top['roi']}"
    if pd.notna(top["ceiling_lower"]):
        said += f" (noise ceiling {format_decimals(top['ceiling_lower'])} to {format_decimals(top['ceiling_upper'])})"
    return [(format_decimals(top["score"]), said)]


def _count_voxels(network: str, maps: NetworkMaps) -> list[KeyResult]:
    """Count significant voxels by their best layer."""
    counts = count_best(maps)
    extent = "voxels" if maps.mesh is None else "vertices"
    total = int(counts.sum())
    said = f"{extent} where some layer of {network} is significant (p < .05, corrected; {THESE_SOUNDS})"
    if total:
        shown = [f"{layer} {n:,}" for layer, n in counts[counts > 0].items()]
        said += ", by their best layer: " + ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if shown[4:] else "")
    return [(f"{total:,}", said)]
