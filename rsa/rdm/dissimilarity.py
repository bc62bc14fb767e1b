"""Compute dissimilarities of patterns given as arrays, within one set of patterns or between independent runs.

Within one set, `brainmap.rsa.rdm.dissimilarity` sums inner products of patterns and then computes distances from them.
Between runs, `brainmap.rsa.rdm.run_pairs` uses for each pair of items the runs that both items have.

Shapes: patterns are `(n_items, n_units)`, or `(n_runs, n_items, n_units)` for between-run products; a missing
pattern is a row of NaN. Condensed vectors hold the upper triangle row by row: `n_items * (n_items - 1) / 2`.

Inner products are sums over units, so each block is processed once while it is in the processor's cache, and the
patterns may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.rsa.rdm.one_pass import CONSTANT, Blocks, compute_in_one_pass, compute_log_rates
from brainmap.rsa.rdm.run_pairs import compute_paired_distances, compute_weighted_distances
from brainmap.types import Dissimilarity, Floats

DISSIMILARITIES: tuple[Dissimilarity, ...] = get_args(Dissimilarity)
CROSS_VALIDATED = ("crossnobis", "poisson_cv")
WHITENED = ("crossnobis", "mahalanobis")  # those that take a noise precision
PRIOR = (1.0, 0.1)
"""Lambda and weight of the prior of poisson rates, as in rsatoolbox."""


def compute_dissimilarities(
    patterns: NDArray[np.floating],
    *,
    dissimilarity: Dissimilarity = "correlation",
    precision: NDArray[np.floating] | None = None,
    prior_lambda: float = PRIOR[0],
    prior_weight: float = PRIOR[1],
) -> Floats:
    """Compute the condensed dissimilarities of all pairs of patterns.

    Parameters
    ----------
    patterns : array (n_items, n_units) or (n_runs, n_items, n_units)
        With three axes only products of *different* runs are used, so that noise that two patterns share because
        they were measured in the same run cannot make them similar. A row of NaN is a missing pattern.
    dissimilarity : {"correlation", "euclidean", "crossnobis", "mahalanobis", "cosine", "poisson", "poisson_cv"}
        All but correlation and cosine are divided by n_units, as in rsatoolbox; euclidean, mahalanobis and
        crossnobis are squared. crossnobis is the between-run form of euclidean (mahalanobis with a precision) and
        poisson_cv that of poisson; both refuse a single set of patterns.
    precision : array (n_units, n_units) or (n_runs, n_units, n_units), optional
        Noise precision for mahalanobis and crossnobis, from other data than the patterns (residuals of the GLM). A
        precision from the patterns' own deviations biases products of different runs; `noise_precision` from runs
        avoids this. With one precision per run, a pair of runs uses the inverse of the mean of its two covariances, as
        in rsatoolbox.
    prior_lambda, prior_weight : float
        The prior of poisson: rates are `(x + lambda * weight) / (1 + weight)`.

    Returns
    -------
    array (n_items * (n_items - 1) / 2,)
        A value is NaN where a pattern of the pair is missing, or the pair has fewer than two independent runs.

    Raises
    ------
    InputError
        The dissimilarity is unknown; crossnobis or poisson_cv has a single run; the precision does not fit, is not
        used, or has no inverse where one is needed; or poisson has negative values.

    Notes
    -----
    Between runs d_ij is the mean over ordered pairs of runs m != l of (x_i - x_j)_m' S^-1 (x_i - x_j)_l (/ n_units),
    over exactly the runs that have both items; with fewer than two it is NaN. Hence an offset or a decaying response
    that all patterns of a run share has no effect, even where items lack runs. For correlation each run's pattern is
    first centered over units and scaled to unit length (for cosine only scaled), and the mean is halved. With r_ab, the
    mean over these pairs of runs of the correlation of pattern a in run m with pattern b in run l, this is
    d_ij = (r_ii + r_jj) / 2 - r_ij. If both factors came from the same run, it would be exactly 1 - r. Between runs,
    noise that the runs do not share causes no bias: pure noise gives 0 on average, whatever its order in time, whereas
    1 - r within a run makes patterns that are neighbors in time similar. Single values may be negative and are kept.
    As each pattern is scaled together with its noise, distances of noisy patterns are shrunk by their reliability.

    Poisson is the symmetrized Kullback-Leibler divergence of Poisson rates, (x_i - x_j)'(log x_i - log x_j) / n_units;
    between runs one factor comes from run m and the other from run l, which equals the mean over all leave-one-run-out
    folds.

    References
    ----------
    Walther et al. 2016, doi:10.1016/j.neuroimage.2015.12.012 (crossnobis); Alink et al. 2015,
    doi:10.1101/032391, and Cai et al. 2019, doi:10.1371/journal.pcbi.1006299 (geometry made by order);
    Schütt et al. 2023, doi:10.7554/eLife.82566 (poisson).

    Examples
    --------
    >>> compute_dissimilarities(np.array([[0.0, 1, 2], [2.0, 1, 0], [0.0, 2, 4]])).round(6)
    array([2., 0., 2.])
    """
    x = np.asarray(patterns, dtype=np.float64)
    if x.ndim not in (2, 3):
        raise InputError(
            "dissimilarities: expected patterns of shape (n_items, n_units) or (n_runs, n_items, n_units), got "
            f"{x.shape}"
        )
    prior = (prior_lambda, prior_weight)
    if x.ndim == 3:
        return compute_between_runs(x, dissimilarity, precision=precision, prior=prior)[0]
    return compute_within([(x, x.sum(axis=1))], dissimilarity, precision=precision, prior=prior)[0]


def compute_within(
    blocks: Blocks, dissimilarity: Dissimilarity, *, precision: NDArray[np.floating] | None, prior: tuple[float, float]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute the condensed dissimilarities of one set of patterns in blocks of units, and flag constant patterns.

    The second value flags the patterns that are constant (for cosine: zero). Only a noise precision needs all units in
    memory at once.

    Raises
    ------
    InputError
        The same cases as in `compute_dissimilarities`.
    """
    check_choice(dissimilarity, DISSIMILARITIES, "dissimilarity")
    if dissimilarity in CROSS_VALIDATED:
        simpler = "'poisson'" if dissimilarity == "poisson_cv" else "'euclidean' or 'correlation'"
        raise InputError(
            f"{dissimilarity}: expected patterns of two runs or more, got one set; fit one beta per run (AFNI: "
            f"-stim_times_IM, or a fit per run), or choose {simpler}"
        )
    if precision is None and dissimilarity != "mahalanobis":
        return compute_in_one_pass(blocks, dissimilarity, prior=prior)
    x = np.concatenate([block for block, _ in blocks], axis=1)
    metric = _check_precision(precision, dissimilarity, x)
    kernel = (x if metric is None else x @ metric) @ x.T
    return _convert_kernel(kernel, x.shape[1]), np.zeros(len(x), bool)


def compute_between_runs(
    x: Floats,
    dissimilarity: Dissimilarity,
    *,
    precision: NDArray[np.floating] | None,
    prior: tuple[float, float],
    weights: Iterable[Floats] | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute the condensed dissimilarities of `(n_runs, n_items, n_units)` from products of different runs only.

    The second value flags the patterns that are constant (for cosine: zero) in some run. In place of one precision,
    each run may have its own `weights` from `RunNoise`, `(n_units, n_units)` or a diagonal `(n_units,)`, which apply to
    its products with all other runs.

    Raises
    ------
    InputError
        The same cases as in `compute_dissimilarities`.
    """
    check_choice(dissimilarity, DISSIMILARITIES, "dissimilarity")
    if weights is not None:
        weighted = np.stack([run @ own if own.ndim == 2 else run * own for run, own in zip(x, weights, strict=True)])
        return compute_paired_distances(weighted, x, symmetric=False) / x.shape[-1], np.zeros(x.shape[1], bool)
    metric = _check_precision(precision, dissimilarity, x)
    undirected: NDArray[np.bool_] = np.zeros(x.shape[1], bool)
    if dissimilarity in ("correlation", "cosine"):
        unit = scale_to_unit_length(x, center=dissimilarity == "correlation")
        undirected = np.any(np.isnan(unit[..., 0]) & ~np.isnan(x[..., 0]), axis=0)
        return compute_paired_distances(unit) / 2.0, undirected
    if dissimilarity in ("poisson", "poisson_cv"):
        rates, logs = compute_log_rates(x, prior)
        found = compute_paired_distances(rates, logs, symmetric=False)
    elif metric is None:
        found = compute_paired_distances(x)
    elif metric.ndim == 2:
        found = compute_paired_distances(x @ metric, x)
    else:
        covariance = _invert_symmetric(metric)
        found = compute_weighted_distances(x, lambda m, n: _invert_symmetric((covariance[m] + covariance[n]) / 2.0))
    return found / x.shape[-1], undirected


def _convert_kernel(kernel: Floats, scale: float) -> Floats:
    i, j = np.triu_indices(len(kernel), 1)
    own = np.diagonal(kernel)
    return np.asarray((own[i] + own[j] - kernel[i, j] - kernel[j, i]) / scale)


def _invert_symmetric(matrix: Floats) -> Floats:
    """Invert one or several symmetric matrices; refuse those that are singular up to rounding."""
    try:
        inverse = np.linalg.inv(matrix)
        condition = np.linalg.norm(matrix, 1, axis=(-2, -1)) * np.linalg.norm(inverse, 1, axis=(-2, -1))
        lost = bool(np.any(condition > 1e14))
    except np.linalg.LinAlgError:
        lost = True
    if lost:
        raise InputError(
            "noise precision: the covariance is singular and has no inverse; shrink it (method='shrinkage'), or take "
            "fewer voxels"
        )
    return np.asarray(inverse)


def scale_to_unit_length(x: NDArray[np.floating], *, center: bool) -> Floats:
    """Scale patterns to unit length, after centering if `center`; constant (or zero) patterns become NaN.

    Examples
    --------
    >>> scale_to_unit_length(np.array([[3.0, 3.0], [1.0, 3.0]]), center=True).round(3)
    array([[   nan,    nan],
           [-0.707,  0.707]])
    """
    x = np.asarray(x, dtype=np.float64)
    # Centering a constant pattern leaves rounding errors in proportion to its size, and not always exactly zero.
    floor = CONSTANT * np.sqrt(np.einsum("...u,...u->...", x, x))
    if center:
        x = x - x.mean(axis=-1, keepdims=True)
    length = np.sqrt(np.einsum("...u,...u->...", x, x))
    usable = length > (floor if center else 0.0)
    return x / np.where(usable, length, np.nan)[..., None]


def _check_precision(precision: NDArray[np.floating] | None, dissimilarity: Dissimilarity, x: Floats) -> Floats | None:
    if precision is None:
        if dissimilarity == "mahalanobis":
            raise InputError("mahalanobis: expected a noise precision, got none; give one, or choose 'euclidean'")
        return None
    if dissimilarity not in WHITENED:
        raise InputError(
            f"{dissimilarity}: this dissimilarity takes no noise precision; leave it out, or choose 'crossnobis'"
        )
    matrix: Floats = np.asarray(precision, dtype=np.float64)
    if matrix.ndim > 1 and matrix.shape[-1] == matrix.shape[-2]:
        matrix = (matrix + np.swapaxes(matrix, -1, -2)) / 2.0  # the antisymmetric part cancels in distances
    if not np.isfinite(matrix).all():
        raise InputError(
            "noise precision: it holds NaN or infinite entries, because its covariance is singular or holds NaN; "
            "shrink the covariance (method='shrinkage'), or leave those voxels out"
        )
    n_units = x.shape[-1]
    shapes = [(n_units, n_units)] + [(len(x), n_units, n_units)] * (x.ndim == 3)
    if matrix.shape not in shapes:
        raise InputError(
            f"noise precision: expected shape ({n_units}, {n_units}) or one such matrix per run, got {matrix.shape}; "
            "compute it from the same voxels as the patterns"
        )
    return matrix
