"""Test scores of encoding models over participants, with the sounds taken as fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from brainmap.checks import check_enough
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.group import check_same_models
from brainmap.rsa.encoding.permutations import average_regions
from brainmap.rsa.inference.differences import score_differences
from brainmap.rsa.inference.scores import score_statistics
from brainmap.types import Correction, EncodingScore, Floats, Test


def encoding_statistics(
    fits: Sequence[Encoding],
    *,
    differences: bool = False,
    test: Test = "sign-flip",
    correction: Correction = "fdr",
    permutations: int = 5000,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test the mean r of each layer and region over participants, or differences of layers, for these sounds only.

    Participants are drawn, sounds are not: on responses that participants share, unrelated features are significant far
    more often than alpha says. Use `encoding_group_test` for a relation to the features, and `encoding_network_test`
    for differences between networks; report what this function finds as about these sounds only.

    Parameters
    ----------
    fits : sequence of Encoding
        One for each participant, with the same sounds, folds, layers and regions.
    differences : bool
        Test each pair of layers of all networks, two-sided, in place of each layer against 0.
    test, correction, permutations, rng
        As in `brainmap.rsa.score_statistics`.

    Returns
    -------
    DataFrame
        As from `brainmap.rsa.score_statistics` or `brainmap.rsa.score_differences`, with the models named by network
        and layer, and the column `generalizes`, which is "these sounds only". Scores are uncorrected r.

    Raises
    ------
    InputError
        There are fewer than two participants, or they differ in sounds, folds, layers or regions.
    """
    check_enough(len(fits), 2, "encoding_statistics", "participants")
    regions = check_same_models(fits)
    names = [space.name for space in fits[0].spaces]
    scores = average_over_regions(fits, regions)
    labels = {"model": names, "roi": regions}
    compute = score_differences if differences else score_statistics
    table = compute(scores, test=test, correction=correction, labels=labels, permutations=permutations, rng=rng)
    note = table.attrs.get("note", "")
    table = table.assign(generalizes="these sounds only")
    table.attrs["note"] = note
    return table


def average_over_regions(
    fits: Sequence[Encoding],
    regions: Sequence[str],
    score: EncodingScore | Literal["reliability", "explainable_variance"] = "r",
) -> Floats:
    """Return the mean score over the voxels of each region `(n_layers, n_regions, n_participants)`, NaN left out."""
    found = np.full((len(fits[0].spaces), len(regions), len(fits)), np.nan)
    for who, fit in enumerate(fits):
        values = fit.scores[score].to_numpy().reshape(len(fit.spaces), -1)
        roi = fit.responses.targets["roi"].to_numpy()
        found[:, :, who] = average_regions(values, roi, regions)
    return found
