"""Count targets without a score and alphas at the ends of their range, and warn of them."""

from __future__ import annotations

import warnings
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
    first = counts.iloc[0]
    told = []
    if first["constant"]:
        told.append(f"{first['constant']} of {first['targets']} targets are constant over the items of a fold: no r")
    for key, words in (
        ("constant_predictions", "targets have a constant prediction in a fold (no r)"),
        ("constant_units", "units are constant over training items and have no weight"),
    ):
        rows = counts[counts[key] > 0]
        told += [f"up to {rows[key].max()} {words} in {list_some(rows['layer'], 3)}"] if len(rows) else []
    if first["unreliable"]:
        told.append(
            f"{first['unreliable']} of {first['targets']} targets have a reliability at or below the floor: no "
            "corrected score"
        )
    if first["unknown_reliability"] == first["targets"]:
        told.append("there are no repetitions over runs, hence no reliability and no corrected score")
    for key, end, way in (("lowest_alpha", "smallest", "smaller"), ("highest_alpha", "largest", "larger")):
        rows = counts[counts[key] > _AT_THE_EDGE]
        if len(rows):
            told.append(
                f"the {end} alpha is the best one in up to {rows[key].max():.0%} of targets and folds "
                f"({list_some(rows['layer'], 3)}); try {way} ones"
                + (" (targets without signal take the largest)" if way == "larger" else "")
            )
    for words in told:
        warnings.warn(f"encoding: {words}", BrainmapWarning, stacklevel=4)
