"""Choose the networks that a study compares by their best layers: each with its controls, baselines and other networks.

All other pairs, such as the controls of two networks, answer no question of a study, and would only make the correction
over pairs more severe.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

import numpy as np
import pandas as pd

from brainmap.rsa.inference.best_layers import BEST
from brainmap.rsa.inference.scores import correct_p
from brainmap.study.settings.study import StudySettings
from brainmap.types import Correction

FAMILY = (
    "each network was compared with each of its controls, with the acoustic models and with every other network, in "
    "every region: {} tests"
)


def list_comparisons(settings: StudySettings, known: Collection[str]) -> list[tuple[str, str]]:
    """List the pairs of networks that a study compares, of those known: trained networks come first in each pair."""
    names = [network.name for network in settings.network]
    pairs = [
        (network.name, f"{network.name}-{control}") for network in settings.network for control in network.controls
    ]
    pairs += combinations(names, 2)
    if settings.baselines is not None:
        pairs += [(name, settings.baselines.name) for name in names]
    return [pair for pair in pairs if set(pair) <= set(known)]


def keep_comparisons(best: pd.DataFrame, settings: StudySettings, correction: Correction) -> pd.DataFrame:
    """Keep those pairs of best layers that a study compares, in their order, and correct p over them.

    Parameters
    ----------
    best : DataFrame
        A row per pair of networks and region: model, other ("<network> best layer"), roi, p, p_corrected.
    settings : StudySettings
    correction : {"fdr", "bonferroni", "none"}
    """
    ends = f" {BEST}"
    sides = [best[side].astype(str).str.removesuffix(ends) for side in ("model", "other")]
    order = {pair: k for k, pair in enumerate(list_comparisons(settings, {*sides[0], *sides[1]}))}
    place = np.array([order.get(pair, -1) for pair in zip(*sides, strict=True)], dtype=np.intp)
    rows = np.flatnonzero(place >= 0)
    kept = best.iloc[rows[np.argsort(place[rows], kind="stable")]].reset_index(drop=True)
    return kept.assign(p_corrected=correct_p(kept["p"], correction))
