"""Score predictions within each test fold, estimate the reliability of responses, and correct scores for noise.

Correlations over several folds at once would be biased: the training mean of a fold is low where its test responses are
high, so that predictions of several folds, put together, correlate negatively with responses even where nothing is
predicted.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.types import Floats

CONSTANT = 1e-12  # values that vary by less than this share of their mean are constant


def center(x: Floats) -> tuple[Floats, Floats]:
    """Subtract the mean over items `(n_items, n_targets)`; also return the sums of squares, 0 for constant targets."""
    mean = x.mean(axis=0)
    centered = x - mean
    squares = np.einsum("iv,iv->v", centered, centered)
    return centered, np.where(squares > CONSTANT**2 * len(x) * mean**2, squares, 0.0)


def correlate(x: Floats, y: Floats) -> Floats:
    """Correlate two sets of values over items `(n_items, n_targets)`; NaN where one of them is constant."""
    (x, xx), (y, yy) = center(x), center(y)
    scale = np.sqrt(xx * yy)
    return np.asarray(np.einsum("iv,iv->v", x, y) / np.where(scale > 0, scale, np.nan))


def score_fold(predicted: Floats, responses: Floats) -> tuple[Floats, Floats]:
    """Return r and R2 `(n_targets,)` of predictions of the items of one test fold `(n_items, n_targets)`.

    Both are about the means within the fold: R2 = 1 - sum((y - p)^2) / sum(y^2) of responses y and predictions p that
    are centered on their means over the items of the fold. r is NaN where predictions or responses are constant, R2
    where responses are.
    """
    (p, pp), (y, yy) = center(predicted), center(responses)
    py, scale = np.einsum("iv,iv->v", p, y), np.sqrt(yy * pp)
    r, r2 = py / np.where(scale > 0, scale, np.nan), (2 * py - pp) / np.where(yy > 0, yy, np.nan)
    return r, r2


def measure_influence(predicted: Floats, responses: Floats) -> Floats:
    """Return how much each item of a test fold moves its r `(n_items, n_targets)`; the sum over items is 0.

    It is the influence function of the correlation, z_p z_y - r (z_p^2 + z_y^2) / 2 of the z-scores of predictions and
    responses, divided by n, times sqrt(n / (n - 2)), so that the sum of squares estimates the variance of r of a given
    model. NaN where r is.

    References
    ----------
    Devlin, Gnanadesikan and Kettenring 1975, doi:10.1093/biomet/62.3.531

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=(4000, 1))
    >>> p = 0.6 * y + 0.8 * rng.normal(size=y.shape)
    >>> bool(np.isclose(np.square(measure_influence(p, y)).sum(), (1 - 0.36) ** 2 / 4000, rtol=0.1))
    True
    """
    (p, pp), (y, yy), n = center(predicted), center(responses), len(predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, y = p * np.sqrt(n / pp), y * np.sqrt(n / yy)
    r = (p * y).mean(axis=0)
    return np.asarray((p * y - r / 2 * (p**2 + y**2)) / n * np.sqrt(n / max(n - 2, 1)))


def is_constant(x: Floats) -> NDArray[np.bool_]:
    """Tell which targets do not vary over items `(n_items, n_targets)`."""
    return np.asarray(center(x)[1] == 0)


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


LEAST_LAYERS = 4  # of fewer, few orders exist


def correlate_profiles(one: NDArray[np.floating], other: NDArray[np.floating]) -> Floats:
    """Compute the rank correlation of two layer profiles within each region, for each participant.

    A profile is the scores of a network's layers in one region of one participant, as RSA or encoding models give them.
    1 means that both order the layers alike, whatever their scales.

    Parameters
    ----------
    one, other : array (n_layers, n_regions, n_participants)
        The scores of the two analyses. Layers that lack either score are left out.

    Returns
    -------
    ndarray (n_regions, n_participants)
        Spearman correlations over layers; NaN where fewer than 4 layers have both scores, or all scores are equal.

    Raises
    ------
    InputError
        The shapes differ.

    Examples
    --------
    >>> one = np.array([0.1, 0.2, 0.4, 0.3])[:, None, None]
    >>> correlate_profiles(one, one**3).round(6).tolist()
    [[1.0]]
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if x.shape != y.shape or x.ndim != 3:
        raise InputError(
            "correlate_profiles: expected two arrays (n_layers, n_regions, n_participants) of one shape, got "
            f"{x.shape} and {y.shape}; give scores of the same layers, regions and participants"
        )
    found = np.full(x.shape[1:], np.nan)
    for place in np.ndindex(*found.shape):
        a, b = x[:, *place], y[:, *place]
        there = np.isfinite(a) & np.isfinite(b)
        if there.sum() >= LEAST_LAYERS:
            ranks = np.stack([pd.Series(values[there]).rank().to_numpy() for values in (a, b)])
            found[place] = correlate(ranks[0][:, None], ranks[1][:, None])[0]
    return found
