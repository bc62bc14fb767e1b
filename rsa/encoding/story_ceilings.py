"""Compare the time courses of participants: how well one is predicted by the others, a ceiling without repetitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainmap.checks import check_enough
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.group import check_same_models
from brainmap.rsa.encoding.permutations import average_regions
from brainmap.rsa.encoding.scores import correlate
from brainmap.types import Floats

STORY_CEILING_COLUMNS = {
    "roi": "region of interest",
    "lower": "correlation of a participant's time course with the mean of the others, within test folds, mean over "
    "folds and participants",
    "upper": "the same with the mean of all participants, which holds the participant too",
    "n": "participants",
}
LISTENER_COLUMNS = {
    "participant": "participant label",
    "roi": "region of interest",
    "agreement": "correlation of the participant's time course with the mean of the others, within test folds, mean "
    "over folds",
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
    regions, lower, upper = _correlate_with_others(fits)
    low, high = (each.mean(axis=(0, 1)) for each in (lower, upper))
    return pd.DataFrame({"roi": regions, "lower": low, "upper": high, "n": len(fits)})


def compare_listeners(fits: Sequence[Encoding]) -> pd.DataFrame:
    """Correlate the time courses of each participant with the mean of the others.

    Parameters
    ----------
    fits : sequence of Encoding
        As for `story_ceilings`, whose lower ceiling is the mean of these correlations.

    Returns
    -------
    DataFrame
        `participant`, `roi`, `agreement`.

    Raises
    ------
    InputError
        As in `story_ceilings`.

    References
    ----------
    Hasson et al. 2004, doi:10.1126/science.1089506
    """
    regions, lower, _ = _correlate_with_others(fits)
    rows = [
        (fit.participant, roi, float(value))
        for fit, own in zip(fits, lower.mean(axis=1), strict=True)
        for roi, value in zip(regions, own, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(LISTENER_COLUMNS))


def _correlate_with_others(fits: Sequence[Encoding]) -> tuple[list[str], Floats, Floats]:
    """Correlate time courses with the mean of the others, and of all, `(n_participants, n_folds, n_regions)`."""
    check_enough(len(fits), 2, "story ceilings", "participants", "; use repetitions")
    regions = check_same_models(fits)
    fold = fits[0].folds.fold
    courses = np.stack(
        [average_regions(fit.responses.mean, fit.responses.targets["roi"].to_numpy(), regions) for fit in fits]
    )
    rest = (courses.sum(axis=0) - courses) / (len(fits) - 1)
    whole = np.broadcast_to(courses.mean(axis=0), courses.shape)
    lower, upper = (
        np.array(
            [
                [correlate(x[fold == k], y[fold == k]) for k in np.unique(fold)]
                for x, y in zip(courses, other, strict=True)
            ]
        )
        for other in (rest, whole)
    )
    return list(regions), lower, upper
