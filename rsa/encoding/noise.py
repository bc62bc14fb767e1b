"""Estimate the reliability of responses over repetitions, and correct scores for noise."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from brainmap.rsa.encoding.scores import correlate
from brainmap.types import Floats

_LEAST = 3  # fewest items that two runs share


def extrapolate_reliability(r: Floats, n_repetitions: float) -> Floats:
    """Return the reliability of the mean of n repetitions, n r / (1 + (n - 1) r), from that of one (Spearman-Brown).

    References
    ----------
    Spearman 1910, doi:10.1111/j.2044-8295.1910.tb00206.x

    Examples
    --------
    >>> extrapolate_reliability(np.array([0.5, 0.0]), 2).round(3).tolist()
    [0.667, 0.0]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(n_repetitions * r / (1 + (n_repetitions - 1) * r))


def measure_reliability(values: Floats) -> Floats:
    """Estimate the reliability of each target's mean over repetitions `(n_targets,)`.

    Responses of two runs to the items that both have are correlated; the mean over all pairs of runs, weighted by the
    number of shared items, is the reliability of one repetition. Spearman-Brown extends it to the mean number of
    repetitions of an item. It is NaN if no two runs share 3 items, or if a target is constant in a run.

    Parameters
    ----------
    values : ndarray (n_runs, n_items, n_targets)
        NaN where an item was not presented in a run.

    Examples
    --------
    >>> once = np.arange(6.0)[:, None]
    >>> measure_reliability(np.stack([once, once])).tolist()
    [1.0]
    """
    present = ~np.isnan(values[:, :, 0])
    total, weight = np.zeros(values.shape[2]), 0
    for one, other in combinations(range(len(values)), 2):
        both = present[one] & present[other]
        n = int(both.sum())
        if n < _LEAST:
            continue
        r = correlate(values[one, both], values[other, both])
        total, weight = total + n * r, weight + n
    if not weight:
        return np.full(values.shape[2], np.nan)
    return extrapolate_reliability(total / weight, float(present.sum(axis=0).mean()))


def measure_prediction_reliability(predicted: Floats, folds: NDArray[np.intp]) -> Floats:
    """Estimate the reliability of predictions `(n_targets,)` from models that were fitted to one run each.

    Within each fold, predictions of two models are correlated; the mean over folds and pairs of runs is extended to
    all runs by Spearman-Brown.

    Parameters
    ----------
    predicted : ndarray (n_runs, n_items, n_targets)
    folds : int array (n_items,)
        The fold in which each item was predicted.
    """
    found = [
        correlate(predicted[one][folds == fold], predicted[other][folds == fold])
        for one, other in combinations(range(len(predicted)), 2)
        for fold in np.unique(folds)
    ]
    return extrapolate_reliability(np.mean(found, axis=0), len(predicted))


def correct_for_noise(r: Floats, reliability: Floats, floor: float = 0.0) -> Floats:
    """Divide r by the square root of the reliability; NaN where the reliability is at or below the floor, or unknown.

    Corrected values may exceed 1, since both r and the reliability are estimates.

    Examples
    --------
    >>> correct_for_noise(np.array([0.3, 0.3]), np.array([0.36, -0.1])).round(3).tolist()
    [0.5, nan]
    """
    usable = reliability > floor
    return np.where(usable, r / np.sqrt(np.where(usable, reliability, 1.0)), np.nan)


def correct_r2_for_noise(r2: Floats, reliability: Floats, floor: float = 0.0) -> Floats:
    """Divide R2 by the reliability, the share of variance that is not noise; NaN where `correct_for_noise` is.

    Examples
    --------
    >>> correct_r2_for_noise(np.array([0.09, 0.09]), np.array([0.36, -0.1])).tolist()
    [0.25, nan]
    """
    usable = reliability > floor
    return np.where(usable, r2 / np.where(usable, reliability, 1.0), np.nan)


def measure_explainable_variance(values: Floats) -> Floats:
    """Estimate the share of the variance of one repetition that repeats, `(n_targets,)`, without bias.

    It is the mean covariance of two runs over the items that both have, divided by the mean of their variances. For n
    complete repetitions of unit variance this is ev - (1 - ev) / (n - 1), where ev is the variance of their mean. It is
    NaN where no two runs share 3 items.

    Parameters
    ----------
    values : ndarray (n_runs, n_items, n_targets)
        NaN where an item was not presented in a run.

    References
    ----------
    Hsu et al. 2004, doi:10.1088/0954-898X_15_2_002; Schoppe et al. 2016, doi:10.3389/fncom.2016.00010

    Examples
    --------
    >>> once = np.arange(6.0)[:, None]
    >>> measure_explainable_variance(np.stack([once, once + 1])).tolist()
    [1.0]
    """
    present = ~np.isnan(values[:, :, 0])
    shared, whole = np.zeros(values.shape[2]), np.zeros(values.shape[2])
    for one, other in combinations(range(len(values)), 2):
        both = present[one] & present[other]
        if both.sum() >= _LEAST:
            x, y = (values[run, both] - values[run, both].mean(axis=0) for run in (one, other))
            shared += (x * y).sum(axis=0)
            whole += (np.square(x).sum(axis=0) + np.square(y).sum(axis=0)) / 2
    return np.asarray(np.where(whole > 0, shared / np.where(whole > 0, whole, 1.0), np.nan))
