"""Dissimilarities of patterns as arrays: within one set of patterns, or between independent runs.

Everything is a kernel first (inner products of patterns) and distances after, so that a run costs one matrix
product and nothing is looped over pairs of runs.

Shapes: patterns are `(n_items, n_units)`, or `(n_runs, n_items, n_units)` for between-run products; a missing
pattern is a row of NaN. Condensed vectors hold the upper triangle row by row: `n_items * (n_items - 1) / 2`.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import one_of
from brainmap.errors import InputError

Dissimilarity = Literal["correlation", "euclidean", "crossnobis", "mahalanobis", "cosine"]
DISSIMILARITIES: tuple[Dissimilarity, ...] = get_args(Dissimilarity)

Floats = NDArray[np.float64]


def dissimilarities(
    patterns: NDArray[np.floating],
    *,
    dissimilarity: Dissimilarity = "correlation",
    precision: NDArray[np.floating] | None = None,
) -> Floats:
    """Condensed dissimilarities of all pairs of patterns.

    Parameters
    ----------
    patterns : array (n_items, n_units) or (n_runs, n_items, n_units)
        With three axes only products of *different* runs are used, so noise that two patterns share because
        they were measured in the same run cannot make them look alike. A row of NaN is a missing pattern.
    dissimilarity : {"correlation", "euclidean", "crossnobis", "mahalanobis", "cosine"}
        euclidean, mahalanobis and crossnobis are squared and divided by n_units, as in rsatoolbox.
    precision : array (n_units, n_units) or (n_runs, n_units, n_units), optional
        Noise precision for mahalanobis and crossnobis. With one a run, a pair of runs uses the inverse of
        the mean of its two covariances.

    Returns
    -------
    array (n_items * (n_items - 1) / 2,)
        NaN where a pair has no pattern, or no two independent runs.

    Raises
    ------
    InputError
        Unknown dissimilarity; crossnobis of a single run; a precision that does not fit or is not used.

    Notes
    -----
    Between runs, with G_ij the mean over ordered pairs of runs m != l of x_i^m' S^-1 x_j^l (/ n_units):
    d_ij = G_ii + G_jj - 2 G_ij. For correlation each run's pattern is first centered over units and scaled
    to unit length (for cosine only scaled), and d_ij = (G_ii + G_jj) / 2 - G_ij. Were both factors of the
    same run, this would be exactly 1 - r. Between runs it is unbiased by noise that runs do not share: pure
    noise gives 0 on average, whatever its order in time, while 1 - r within a run makes neighbors in time
    look alike. Single values may be negative and are kept. As each pattern is scaled together with its
    noise, distances of noisy patterns are shrunk by their reliability.

    References
    ----------
    Walther et al. 2016, doi:10.1016/j.neuroimage.2015.12.012 (crossnobis); Alink et al. 2015,
    doi:10.1101/032391, and Cai et al. 2019, doi:10.1371/journal.pcbi.1006299 (geometry made by order).

    Examples
    --------
    >>> dissimilarities(np.array([[0.0, 1, 2], [2.0, 1, 0], [0.0, 2, 4]])).round(6)
    array([2., 0., 2.])
    """
    one_of(dissimilarity, DISSIMILARITIES, "dissimilarity")
    x = np.asarray(patterns, dtype=np.float64)
    precision = _checked_precision(precision, dissimilarity, x)
    if x.ndim == 2 and dissimilarity == "crossnobis":
        raise InputError("crossnobis: found one set of patterns, wanted two runs or more; fit one beta a run "
                         "(AFNI: -stim_times_IM, or a fit per run), or choose 'euclidean' or 'correlation'")
    angular = dissimilarity in ("correlation", "cosine")
    if angular:
        x = unit_length(x, center=dissimilarity == "correlation")
    i, j = np.triu_indices(x.shape[-2], 1)
    if x.ndim == 3:
        kernel = between_run_kernel(x, precision)
    else:
        kernel = (x if precision is None else x @ precision) @ x.T
    if angular and x.ndim == 2:
        return np.asarray(1.0 - kernel[i, j])
    own = np.diagonal(kernel)
    distance = own[i] + own[j] - 2.0 * kernel[i, j]
    return np.asarray(distance / 2.0 if angular else distance / x.shape[-1])


def between_run_kernel(x: Floats, precision: Floats | None = None) -> Floats:
    """Mean inner products of patterns over ordered pairs of different runs: `(n_items, n_items)`.

    `x` is `(n_runs, n_items, n_units)`; rows of NaN are left out. The sum over pairs of different runs is
    the product of the sums less the products within runs: the cost grows with the runs, not with their pairs.
    """
    whole = ~np.isnan(x.sum(axis=-1))
    filled = np.where(whole[..., None], x, 0.0)
    present = whole.astype(np.float64)
    if precision is not None and precision.ndim == 3:
        total = _pairwise_precisions(filled, precision)
    else:
        summed = filled.sum(axis=0)
        total = (summed if precision is None else summed @ precision) @ summed.T
        for run in filled:
            total -= (run if precision is None else run @ precision) @ run.T
    n_present = present.sum(axis=0)
    count = np.outer(n_present, n_present) - present.T @ present
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _pairwise_precisions(filled: Floats, precision: Floats) -> Floats:
    """The sum over ordered pairs of runs when each run has a noise precision of its own."""
    covariance = np.linalg.inv(precision)
    total = np.zeros((filled.shape[1], filled.shape[1]))
    for m in range(len(filled)):
        for n in range(m + 1, len(filled)):
            product = filled[m] @ np.linalg.inv((covariance[m] + covariance[n]) / 2.0) @ filled[n].T
            total += product + product.T
    return total


def unit_length(x: NDArray[np.floating], *, center: bool) -> Floats:
    """Patterns scaled to unit length, centered first if asked; a constant (or zero) one becomes NaN.

    Examples
    --------
    >>> unit_length(np.array([[3.0, 3.0], [1.0, 3.0]]), center=True).round(3)
    array([[   nan,    nan],
           [-0.707,  0.707]])
    """
    x = np.asarray(x, dtype=np.float64)
    # What centering leaves of a constant is rounding of its size, never exactly zero for all sizes.
    floor = 1e-13 * np.sqrt(np.einsum("...u,...u->...", x, x))
    if center:
        x = x - x.mean(axis=-1, keepdims=True)
    length = np.sqrt(np.einsum("...u,...u->...", x, x))
    usable = length > (floor if center else 0.0)
    return x / np.where(usable, length, np.nan)[..., None]


def _checked_precision(
    precision: NDArray[np.floating] | None, dissimilarity: Dissimilarity, x: Floats
) -> Floats | None:
    if precision is None:
        if dissimilarity == "mahalanobis":
            raise InputError("mahalanobis: found no noise precision; give one, or choose 'euclidean'")
        return None
    if dissimilarity not in ("mahalanobis", "crossnobis"):
        raise InputError(f"{dissimilarity}: takes no noise precision; leave it out, or choose 'crossnobis'")
    matrix: Floats = np.asarray(precision, dtype=np.float64)
    n_units = x.shape[-1]
    shapes = [(n_units, n_units)] + [(len(x), n_units, n_units)] * (x.ndim == 3)
    if matrix.shape not in shapes:
        raise InputError(f"noise precision: found shape {matrix.shape}, wanted ({n_units}, {n_units}) "
                         "or one such matrix a run; compute it from the same voxels as the patterns")
    return matrix
