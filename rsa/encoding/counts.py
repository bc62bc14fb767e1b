"""Count targets without a score and alphas at the ends of their range, and warn of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import BrainmapWarning
from brainmap.rsa.encoding.fits import Fitted
from brainmap.rsa.encoding.folds import Places
from brainmap.rsa.encoding.responses import FeatureSpace
from brainmap.rsa.encoding.scores import is_constant
from brainmap.types import Floats

COUNT_COLUMNS = {
    "network": "network",
    "layer": "layer",
    "targets": "voxels, or regions",
    "constant": "targets without r: constant over the items of a test fold",
    "constant_predictions": "targets without r: their prediction is constant in a test fold",
    "unreliable": "targets without a corrected score: reliability at or below the floor",
    "unknown_reliability": "targets without a corrected score: no repetitions in two runs",
    "constant_units": "units without a weight: constant over the training items of a fold",
    "lowest_alpha": "share of targets and folds in which the smallest alpha is best",
    "highest_alpha": "share of targets and folds in which the largest alpha is best",
}


_AT_THE_EDGE = 0.1  # share of targets whose best alpha is an end of the range, from which this is warned of


def count_layer(
    space: FeatureSpace,
    fitted: Fitted,
    predicted: Floats,
    y: Floats,
    *,
    reliability: Floats,
    fold: Places,
    n_alphas: int,
    floor: float,
) -> dict[str, Any]:
    """Count what has no score, and alphas at the ends of their range."""
    tests = [np.flatnonzero(fold == k) for k in np.unique(fold)]
    flat = np.any([is_constant(y[test]) for test in tests], axis=0)
    idle = np.any([is_constant(predicted[test]) for test in tests], axis=0) & ~flat
    best = fitted.best[:, : y.shape[1]]
    return {
        "network": space.network,
        "layer": space.layer,
        "targets": y.shape[1],
        "constant": int(flat.sum()),
        "constant_predictions": int(idle.sum()),
        "unreliable": int((reliability <= floor).sum()),
        "unknown_reliability": int(np.isnan(reliability).sum()),
        "constant_units": fitted.constant_units,
        "lowest_alpha": float((best == 0).mean()),
        "highest_alpha": float((best == n_alphas - 1).mean()),
    }


def warn_of_counts(counts: pd.DataFrame) -> None:
    """Warn of targets without scores, units that are constant, and alphas at the ends of their range."""
    for words in describe_counts(counts).values():
        warnings.warn(f"encoding: {words}", BrainmapWarning, stacklevel=4)


def warn_of_participants(counts: Mapping[str, pd.DataFrame]) -> None:
    """Warn once of what holds in several participants, with their number and the words of the first.

    Examples
    --------
    >>> row = dict.fromkeys(COUNT_COLUMNS, 0) | {"layer": "conv1", "targets": 3, "unknown_reliability": 3}
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_participants({"01": pd.DataFrame([row]), "02": pd.DataFrame([row])})
    >>> [str(one.message) for one in caught]
    ['encoding: sub-01: there are no repetitions over runs, hence no reliability and no corrected score; so in all 2']
    """
    found: dict[str, dict[str, str]] = {}
    for participant, own in counts.items():
        for kind, words in describe_counts(own).items():
            found.setdefault(kind, {})[participant] = words
    for each in found.values():
        first, words = next(iter(each.items()))
        others = list_some([f"sub-{name}" for name in list(each)[1:]], 3)
        alike = f"; so in all {len(each)}" if len(each) == len(counts) else f"; likewise in {others}" if others else ""
        told = f"encoding: sub-{first}: {words}" + (alike if len(counts) > 1 else "")
        warnings.warn(told, BrainmapWarning, stacklevel=2)


def describe_counts(counts: pd.DataFrame) -> dict[str, str]:
    """Describe what users should know of the counts of a participant, by what it is."""
    first = counts.iloc[0]
    told = {}
    if first["constant"]:
        told["constant"] = (
            f"{first['constant']} of {first['targets']} targets are constant over the items of a fold: no r"
        )
    for key, words in (
        ("constant_predictions", "targets have a constant prediction in a fold (no r)"),
        ("constant_units", "units are constant over training items and have no weight"),
    ):
        rows = counts[counts[key] > 0]
        if len(rows):
            told[key] = f"up to {rows[key].max()} {words} in {list_some(rows['layer'], 3)}"
    if first["unreliable"]:
        told["unreliable"] = (
            f"{first['unreliable']} of {first['targets']} targets have a reliability at or below the floor: no "
            "corrected score"
        )
    if first["unknown_reliability"] == first["targets"]:
        told["unknown"] = "there are no repetitions over runs, hence no reliability and no corrected score"
    for key, end, way in (("lowest_alpha", "smallest", "smaller"), ("highest_alpha", "largest", "larger")):
        rows = counts[counts[key] > _AT_THE_EDGE]
        if len(rows):
            told[key] = (
                f"the {end} alpha is the best one in up to {rows[key].max():.0%} of targets and folds "
                f"({list_some(rows['layer'], 3)}); try {way} ones"
                + (" (targets without signal take the largest)" if way == "larger" else "")
            )
    return told
