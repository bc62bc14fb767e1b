"""Compute statistics over participants: tests of scores, and noise ceilings of responses to stories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.group import check_same_models
from brainmap.rsa.encoding.permutations import average_regions
from brainmap.rsa.encoding.scores import correlate
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
    if len(fits) < 2:
        raise InputError(f"encoding_statistics: expected 2 participants or more, got {len(fits)}")
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


STORY_CEILING_COLUMNS = {
    "roi": "region of interest",
    "lower": "correlation of a participant's time course with the mean of the others, within test folds, mean over "
    "folds and participants",
    "upper": "the same with the mean of all participants, which holds the participant too",
    "n": "participants",
}


def story_ceilings(fits: Sequence[Encoding]) -> pd.DataFrame:
    """Estimate what a model of what participants share can reach, from the time courses of the other participants.

    It is a ceiling between participants: responses of a participant alone, however reliable, are above it, and a model
    that is fitted to each participant may exceed it. The time course of a region is the mean over its targets.

    Parameters
    ----------
    fits : sequence of Encoding
        One for each participant, with the same stories, folds and layers.

    Returns
    -------
    DataFrame
        `roi`, `lower`, `upper`, `n`.

    Raises
    ------
    InputError
        There are fewer than two participants, or they differ in stories, folds, layers or regions.

    References
    ----------
    Nili et al. 2014, doi:10.1371/journal.pcbi.1003553, for RDMs; Hasson et al. 2004, doi:10.1126/science.1089506
    """
    if len(fits) < 2:
        raise InputError(f"story ceilings: expected 2 participants or more, got {len(fits)}; use repetitions")
    regions = check_same_models(fits)
    fold = fits[0].folds.fold
    courses = np.stack(
        [average_regions(fit.responses.mean, fit.responses.targets["roi"].to_numpy(), regions) for fit in fits]
    )
    rest = (courses.sum(axis=0) - courses) / (len(fits) - 1)
    whole = np.broadcast_to(courses.mean(axis=0), courses.shape)
    lower, upper = (
        np.mean(
            [
                [correlate(x[fold == k], y[fold == k]) for k in np.unique(fold)]
                for x, y in zip(courses, other, strict=True)
            ],
            axis=(0, 1),
        )
        for other in (rest, whole)
    )
    return pd.DataFrame({"roi": regions, "lower": lower, "upper": upper, "n": len(fits)})
