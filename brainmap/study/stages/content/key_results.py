"""Say the key results of a study in a figure and a sentence each; every sentence names its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from brainmap.study.settings.hypotheses import HYPOTHESES
from brainmap.study.stages.content.answers import ACOUSTIC, KeyResult, Tables, is_ahead
from brainmap.study.stages.content.maps import count_best
from brainmap.study.stages.generality import THESE_SOUNDS
from brainmap.study.stages.group_maps import SIGNIFICANT
from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import NetworkMaps

_MODEL = f"model_{HYPOTHESES}"  # column of the best hypothesis in answers
MOST = 3  # networks with a figure of their own; the table of answers has all


def collect_key_results(
    tables: Tables,
    answers: pd.DataFrame | None,
    networks: Sequence[str],
    maps: Mapping[str, NetworkMaps],
    *,
    measure: str,
    planted_from: str,
    removed: str = "",
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
    removed : str
        Names of the models that were partialled out of the scores; empty for none.
    """
    results = _count_recovered(tables, planted_from)
    if answers is not None:
        beyond = f" beyond {removed}" if removed else ""
        results += _count_explained(tables, answers, networks, beyond)
        results += _count_supposed(tables, beyond)
        results += _compare_best(answers)
        results += _compare_hypotheses(answers)
        results += _name_highest(answers, measure, beyond)
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


def _count_explained(tables: Tables, answers: pd.DataFrame, networks: Sequence[str], beyond: str) -> list[KeyResult]:
    statistics = tables["statistics"]
    assert statistics is not None
    over = "corrected over all layers and regions"
    if "test" in statistics and (statistics["test"] == THESE_SOUNDS).all():
        over += f" ({THESE_SOUNDS})"
    total = answers["roi"].nunique()
    if len(networks) > MOST:
        n = answers.loc[answers["explains"] & answers["network"].isin(networks), "roi"].nunique()
        said = f"regions where some layer of one of {len(networks)} networks is significant{beyond}, {over}"
        return [(f"{n} of {total}", said)]
    return [
        (
            f"{mine.loc[mine['explains'], 'roi'].nunique()} of {total}",
            f"regions where some layer of {network} is significant{beyond}, {over}",
        )
        for network in networks
        if len(mine := answers[answers["network"] == network])
    ]


def _compare_hypotheses(answers: pd.DataFrame) -> list[KeyResult]:
    """Count the regions whose best network is ahead of all hypotheses, and those where it is behind one."""
    best = answers[answers["best"]]
    if f"over_{HYPOTHESES}" not in best or not len(best):
        return []
    over, p = best[f"over_{HYPOTHESES}"], best[f"p_{HYPOTHESES}"]
    told = p <= SIGNIFICANT
    lost = best[told & (over < 0)]
    said = f"of these regions where the best network is ahead of the best hypothesis; behind it in {len(lost)}"
    if len(lost):
        named = [f"{model} in {roi}" for model, roi in zip(lost[_MODEL], lost["roi"], strict=True)]
        said += f": {', '.join(named[:MOST])}" + (f" and {len(named) - MOST} more" if named[MOST:] else "")
    return [(f"{(told & (over > 0)).sum()} of {len(best)}", said)]


def list_opponents(answers: pd.DataFrame) -> list[str]:
    """List what networks are compared with in a table of answers, as "untrained" or "acoustic"."""
    return [str(c).removeprefix("over_") for c in answers if str(c).startswith("over_") and c != "over_best"]


def _count_supposed(tables: Tables, beyond: str) -> list[KeyResult]:
    """Count the regions where some hypothesis is significant, and name the highest of each."""
    statistics = tables["statistics"]
    assert statistics is not None
    ours = statistics[statistics["network"] == HYPOTHESES]
    if not len(ours) or "p_corrected" not in ours:
        return []
    told = ours[ours["p_corrected"] <= SIGNIFICANT].sort_values("mean", ascending=False, kind="stable")
    best = told.drop_duplicates("roi")
    named = [f"{row['layer']} in {row['roi']}" for row in best.to_dict("records")]
    said = f"regions where some hypothesis is significant{beyond}, corrected"
    if named:
        said += f": {', '.join(named[:MOST])}" + (f" and {len(named) - MOST} more" if named[MOST:] else "")
    return [(f"{len(best)} of {ours['roi'].nunique()}", said)]


def _compare_best(answers: pd.DataFrame) -> list[KeyResult]:
    """Count the regions whose best network is ahead of all its controls and of the acoustic models."""
    best = answers[answers["best"]]
    opponents = [what for what in list_opponents(answers) if what != HYPOTHESES]  # to be level with one is no flaw
    if not opponents or not len(best):
        return []
    rows = best.to_dict("records")
    ahead = sum(all(is_ahead(row, what) for what in opponents if pd.notna(row[f"over_{what}"])) for row in rows)
    names = [f"its {what} control" for what in opponents if what != ACOUSTIC]
    names += ["the acoustic models"] if ACOUSTIC in opponents else []
    said = f"of these regions where the best network is ahead of {' and '.join(names)}, best layer against best layer"
    return [(f"{ahead} of {len(best)}", said)]


def _name_highest(answers: pd.DataFrame, measure: str, beyond: str) -> list[KeyResult]:
    best = answers[answers["best"]]
    if not len(best):
        said = f"of the networks has a significant layer in a region{beyond}"
        return [("none", f"{said} (p < {format_decimals(SIGNIFICANT)}, corrected)")]
    top = best.sort_values("score", ascending=False, kind="stable").iloc[0]
    how = " on sounds that did not choose the layer" if top["held_out"] else ""
    said = f"highest {measure}{how}: {top['layer']} of {top['network']} in {top['roi']}{beyond}"
    if pd.notna(top["ceiling_lower"]):
        said += f" (noise ceiling {format_decimals(top['ceiling_lower'])} to {format_decimals(top['ceiling_upper'])})"
    return [(format_decimals(top["score"]), said)]


def _count_voxels(network: str, maps: NetworkMaps) -> list[KeyResult]:
    """Count significant voxels by their best layer."""
    counts = count_best(maps)
    extent = "voxels" if maps.mesh is None else "vertices"
    total = int(counts.sum())
    some = "hypothesis" if network == HYPOTHESES else f"layer of {network}"
    said = f"{extent} where some {some} is significant (p < .05, corrected; {THESE_SOUNDS})"
    if total:
        shown = [f"{layer} ({n:,})" for layer, n in counts[counts > 0].items()]
        said += (
            f", by their best {'hypothesis' if network == HYPOTHESES else 'layer'}: "
            + ", ".join(shown[:4])
            + (f" and {len(shown) - 4} more" if shown[4:] else "")
        )
    return [(f"{total:,}", said)]
