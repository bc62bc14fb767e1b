"""Test the shares of a variance partition against 0."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.rsa.comparison.partition import Partition
from brainmap.rsa.inference.scores import score_statistics
from brainmap.types import Alternative, Correction, Test, Tested


def partition_statistics(
    partition: Partition,
    *,
    shares: Tested = "only",
    test: Test = "signed-rank",
    correction: Correction = "fdr",
    alternative: Alternative = "greater",
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test shares of a variance partition against 0 over participants, corrected over all tested shares and ROIs.

    Parameters
    ----------
    partition : Partition
        With weights from other participants (`validation="participants"`).
    shares : {"only", "all"}
        "only": the unique share of each set. "all": common shares too. A common share may be above 0 for a set that is
        unrelated to the data, if it correlates with a set that is related: if a and b have the correlation r, and a
        explains the data, then "a + b" is r^2 times what a explains. A common share shows that models are similar, not
        that the brain represents both.
    test, correction, alternative, rng
        As in `brainmap.rsa.score_statistics`.

    Returns
    -------
    DataFrame
        One row per share and ROI: sets, roi, mean, standard_error, statistic, p, p_corrected, n, smallest_p, and
        suppressed_by, which names the negative common shares of an "only" share (see `Partition.suppression`).

    Raises
    ------
    InputError
        The shares were fit and scored on the same RDM, so that they exceed 0 by chance alone.
    """
    check_choice(shares, get_args(Tested), "shares")
    if partition.validation != "participants":
        raise InputError(
            "partition_statistics: shares that are fit and scored on the same RDM exceed 0 by chance alone; partition "
            "with validation='participants'"
        )
    rois = list(dict.fromkeys(partition.data["roi"]))
    people = list(dict.fromkeys(partition.data["participant"]))
    scores = np.full((len(partition.subsets), len(rois), len(people)), np.nan)
    where = partition.data["roi"].map(rois.index), partition.data["participant"].map(people.index)
    scores[:, where[0].to_numpy(), where[1].to_numpy()] = partition.shares
    tested = [k for k, one in enumerate(partition.subsets) if shares == "all" or len(one) == 1]
    labels = {"sets": [partition.names[k] for k in tested], "roi": rois}
    table = score_statistics(
        scores[tested], test=test, correction=correction, alternative=alternative, labels=labels, rng=rng
    )
    if shares == "all":
        table.attrs["note"] += "; a common share is above 0 for a set unrelated to the data that is like a related one"
    return table.assign(suppressed_by=partition._flag_suppressed(table))
