"""Choose the networks that a study compares by their best layers: each with its controls, baselines and other networks.

Several seeds of a network are compared as one network, in RSA and in encoding models.

All other pairs, such as the controls of two networks, answer no question of a study, and would only make the correction
over pairs more severe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from brainmap.rsa.inference.best_layers import BEST
from brainmap.rsa.inference.scores import correct_p
from brainmap.study.settings.hypotheses import HYPOTHESES
from brainmap.study.settings.study import StudySettings
from brainmap.types import Correction

_FAMILY = (
    "each network was compared with each of its controls, with the acoustic models{} and with every other network, in "
    "every region: {} tests"
)


def describe_family(best: pd.DataFrame) -> str:
    """Say which pairs of networks were compared by their best layers, and in how many tests."""
    sides = [best[side].astype(str) for side in ("model", "other")]
    there = any(side.str.startswith(f"{HYPOTHESES} ").any() for side in sides)
    return _FAMILY.format(", with the hypotheses" if there else "", len(best))


def list_seeds(settings: StudySettings) -> dict[str, list[str]]:
    """List the seeds of networks that have several, by the name of the whole, and those of controls that all have."""
    found: dict[str, list[str]] = {}
    for whole in dict.fromkeys(network.seed_of for network in settings.network if network.seed_of):
        own = [network for network in settings.network if network.seed_of == whole]
        found[whole] = [network.name for network in own]
        for control in own[0].controls:
            if all(control in network.controls for network in own):
                found[f"{whole}-{control}"] = [f"{network.name}-{control}" for network in own]
    return found


def list_wholes(settings: StudySettings) -> dict[str, list[str]]:
    """List the networks that a study compares, with the names of their controls; several seeds are one network."""
    seeds, found = list_seeds(settings), dict[str, list[str]]()
    for network in settings.network:
        main = network.seed_of or network.name
        own = [f"{main}-{control}" for control in network.controls]
        found.setdefault(main, [name for name in own if not network.seed_of or name in seeds])
    return found


def list_comparisons(settings: StudySettings, known: Collection[str]) -> list[tuple[str, str]]:
    """List the pairs of networks that a study compares, of those known: trained networks come first in each pair.

    Several seeds of a network are one network here, so that the seeds are not compared on their own.
    """
    wholes = list_wholes(settings)
    pairs = [(main, control) for main, controls in wholes.items() for control in controls]
    pairs += combinations(wholes, 2)
    if settings.baselines is not None:
        pairs += [(name, settings.baselines.name) for name in wholes]
    if settings.hypothesis:
        pairs += [(name, HYPOTHESES) for name in wholes]
    return [pair for pair in pairs if set(pair) <= set(known)]


def add_seeds(scores: pd.DataFrame, seeds: Mapping[str, Sequence[str]], *, value: str = "score") -> pd.DataFrame:
    """Add to the scores of participants the means over the seeds of a network.

    Parameters
    ----------
    scores : DataFrame
        A row per network and whatever else the columns tell (layer, roi, participant), with a value.
    seeds : mapping of str to sequence of str
        As from `list_seeds`.
    value : str
        The column of the values.

    Examples
    --------
    >>> row = {"network": ["a1", "a2"], "layer": "fc", "roi": "A1", "participant": "01", "score": [0.1, 0.3]}
    >>> add_seeds(pd.DataFrame(row), {"a": ["a1", "a2"]})[["network", "score"]].values.tolist()
    [['a1', 0.1], ['a2', 0.3], ['a', 0.2]]
    """
    row = [str(column) for column in scores if column != value]
    whole = [scores[scores["network"].isin(own)].assign(network=name) for name, own in seeds.items()]
    means = [one.groupby(row, sort=False, as_index=False, dropna=False)[[value]].mean() for one in whole]
    return pd.concat([scores, *means], ignore_index=True)


def keep_comparisons(best: pd.DataFrame, settings: StudySettings, correction: Correction) -> pd.DataFrame:
    """Keep those pairs of best layers that a study compares, in their order, and correct p over them.

    Pairs whose networks come the other way round are turned.

    Parameters
    ----------
    best : DataFrame
        A row per pair of networks and region: model, other ("<network> best layer"), roi, difference, p, p_corrected.
    settings : StudySettings
    correction : {"fdr", "bonferroni", "none"}
    """
    ends = f" {BEST}"
    sides = [best[side].astype(str).str.removesuffix(ends) for side in ("model", "other")]
    order = {pair: k for k, pair in enumerate(list_comparisons(settings, {*sides[0], *sides[1]}))}
    pairs = list(zip(*sides, strict=True))
    turned = np.array([(b, a) in order for a, b in pairs], dtype=bool)
    place = np.array([order.get(pair, order.get(pair[::-1], -1)) for pair in pairs], dtype=np.intp)
    best = best.assign(
        model=best["model"].where(~turned, best["other"]), other=best["other"].where(~turned, best["model"])
    )
    best = best.assign(**{name: best[name].where(~turned, -best[name]) for name in ("difference", "t") if name in best})
    rows = np.flatnonzero(place >= 0)
    kept = best.iloc[rows[np.argsort(place[rows], kind="stable")]].reset_index(drop=True)
    return kept.assign(p_corrected=correct_p(kept["p"], correction))


TEST_COLUMNS = {
    "test": "test that p and p_corrected are of: sounds relabeled, bootstrap, or a test over participants, which takes "
    "the sounds as fixed (these sounds only)",
    "p_these_sounds": "p over participants, uncorrected: of these sounds only, which are taken as fixed",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
    "smallest_p_these_sounds": "smallest p that so many participants can reach",
}


_BESIDE = {
    "standard_error": "standard_error",
    "p_these_sounds": "p",
    "p_these_sounds_corrected": "p_corrected",
    "smallest_p_these_sounds": "smallest_p",
}


def add_test_beside(table: pd.DataFrame, beside: pd.DataFrame | None) -> pd.DataFrame:
    """Add the columns of a test over participants, which takes the sounds as fixed; NaN where there is none."""
    return table.assign(**{new: np.nan if beside is None else beside[old].to_numpy() for new, old in _BESIDE.items()})


def describe_test_beside(note: str, beside: pd.DataFrame | None) -> str:
    """Describe a test, and that over participants beside it."""
    return note if beside is None else f"{note}; beside it, {beside.attrs['note']}"
