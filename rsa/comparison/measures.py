"""Compare RDMs: many models with many data RDMs in one call, aligned by label.

Each measure first transforms every vector of dissimilarities (to ranks, unit length or whitened) and then computes one
matrix product. The exceptions are Kendall's tau, which counts pairs, and bures, which rotates geometries.

The matrix of inner products about the centroid, G = X X', determines a geometry. For G = X X' and H = Y Y',
tr((G^1/2 H G^1/2)^1/2) is the sum of the singular values of X'Y, the largest tr(X'Y) over rotations (Procrustes).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import BrainmapWarning, InputError
from brainmap.groups import group_pairs
from brainmap.rsa.comparison.bures import compute_bures
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.rdm.alignment import align_vectors, check_items, count_items_of_pairs
from brainmap.rsa.rdm.dissimilarity import scale_to_unit_length
from brainmap.types import Floats, Measure, RDMs

SCORE_COLUMNS = {
    "participant": "label of the participant",
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "time": "center of the window of the sound [s]",
    "roi": "region of interest",
    "score": "similarity of the model's and the region's RDM, in the measure named below",
}

MEASURES: tuple[Measure, ...] = get_args(Measure)
RANKED = ("spearman", "rho-a", "tau-a", "tau-b")
ALIASES: dict[str, Measure] = {"corr": "pearson", "kendall": "tau-b"}  # the names rsatoolbox uses
LARGEST_COVARIANCE = 8000
"""Largest number of pairs for which the full covariance is computed (half a gigabyte)."""
_SINGULAR = 1e-12  # a covariance is singular if its smallest eigenvalue is below this share of the largest


def compare_rdms(
    model_rdms: RDMs,
    data_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    sigma_k: NDArray[np.floating] | None = None,
    descriptor: str | None = None,
) -> Floats:
    """Compute the similarity of each model RDM to each data RDM.

    Parameters
    ----------
    model_rdms, data_rdms : rsatoolbox RDMs
        RDMs of the same level and over the same items, in any order; items are matched by label. RDMs made by
        rsatoolbox need no level; their items may be matched by `descriptor`.
    measure : {"spearman", "rho-a", "tau-a", "tau-b", "pearson", "cosine", "corr_cov", "cosine_cov", "bures"}
        Use rho-a or tau-a for models with ties (categories), since spearman favors these. "corr" means pearson. bures
        is for squared distances: it is the agreement of two geometries after the best rotation, from 0 to 1.
    sigma_k : array (n_items,) or (n_items, n_items), optional
        Covariance of the patterns for the whitened measures, with items as in `data_rdms`; the default is the identity.
        It may be singular along the mean of all items, as after demeaning, but along no other direction.
    descriptor : str, optional
        The descriptor by which items are matched; by default the one that both sides have.

    Returns
    -------
    array (n_models, n_data)
        Pairs of items that are NaN are left out for that model and data RDM only, before ranks are computed. The result
        is NaN where a measure is not defined (an RDM has no variance), which a `BrainmapWarning` counts.

    Raises
    ------
    InputError
        The RDMs differ in level or items, there are fewer than three items, dissimilarities are infinite, the measure
        is unknown, the covariance does not fit or is singular, or single pairs are missing for bures.

    References
    ----------
    Nili et al. 2014, doi:10.1371/journal.pcbi.1003553; Schütt et al. 2023, doi:10.7554/eLife.82566 (rho-a);
    Diedrichsen et al. 2021, doi:10.51628/001c.27664 (whitened measures); Harvey et al. 2023,
    doi:10.48550/arXiv.2311.11436 (bures).

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> x = np.random.default_rng(0).normal(size=(5, 30))
    >>> one = compute_rdms(x, descriptors={"stimulus_id": list("abcde")})
    >>> two = compute_rdms(x[::-1], descriptors={"stimulus_id": list("edcba")})
    >>> compare_rdms(one, two, measure="spearman").round(6)
    array([[1.]])
    """
    check_items(data_rdms, "compare")
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"), descriptor=descriptor)
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    return compare_vectors(models, data, measure=measure, sigma_k=sigma_k)


def compare_vectors(
    models: NDArray[np.floating],
    data: NDArray[np.floating],
    *,
    measure: Measure | str = "rho-a",
    sigma_k: NDArray[np.floating] | None = None,
) -> Floats:
    """Compare condensed vectors `(n_models, n_pairs)` and `(n_data, n_pairs)` with the same order of pairs.

    Parameters
    ----------
    models : array (n_models, n_pairs)
    data : array (n_data, n_pairs)
    measure, sigma_k
        As in `brainmap.rsa.compare_rdms`.

    Returns
    -------
    array (n_models, n_data)

    Raises
    ------
    InputError
        The numbers of pairs differ, a dissimilarity is infinite, or `brainmap.rsa.compare_rdms` would refuse it.

    Examples
    --------
    >>> data = np.array([[1.0, 2, 4], [3.0, 2, np.nan]])
    >>> compare_vectors(np.array([[1.0, 2, 3]]), data, measure="cosine").round(4)
    array([[0.9915, 0.8682]])
    """
    measure = find_measure(measure)
    models, data = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (models, data))
    if models.shape[1] != data.shape[1]:
        raise InputError(
            f"compare: expected equal numbers of pairs, got {models.shape[1]} in models and {data.shape[1]} in data; "
            "use the same items"
        )
    for name, side in (("models", models), ("data", data)):
        if np.isinf(side).any():
            raise InputError(
                f"compare: expected numbers, or NaN for what is missing, got {np.isinf(side).sum()} infinite "
                f"dissimilarities in the {name}"
            )
    result = np.full((len(models), len(data)), np.nan)
    for rows, in_models in group_by_missing(models):
        for columns, in_data in group_by_missing(data):
            use = in_models & in_data
            if use.sum() > 1:
                x = models if len(rows) == len(models) else models[rows]
                y = data if len(columns) == len(data) else data[columns]
                result[np.ix_(rows, columns)] = _compare_rows(x, y, use, measure, sigma_k)
    undefined = int(np.isnan(result).sum())
    if undefined:
        warnings.warn(
            f"compare: {measure} is not defined for {undefined} of {result.size} comparisons (all dissimilarities are "
            "equal or missing); they are NaN",
            BrainmapWarning,
            stacklevel=2,
        )
    return result


def find_measure(measure: str) -> Measure:
    """Return the measure with that name or alias.

    Examples
    --------
    >>> find_measure("corr")
    'pearson'
    """
    return cast(Measure, check_choice(ALIASES.get(measure, measure), MEASURES, "measure"))


def group_by_missing(vectors: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Yield the rows that have the same present pairs, and the mask of these pairs."""
    present = ~np.isnan(vectors)
    groups = group_pairs((pairs.tobytes(), k) for k, pairs in enumerate(np.packbits(present, axis=1)))
    for rows in groups.values():
        yield np.array(rows), present[rows[0]]


def scale_vectors(
    vectors: Floats, measure: Measure, *, use: NDArray[np.bool_], sigma_k: Floats | None = None
) -> Floats:
    """Transform vectors without missing pairs to the scale of the measure, on which they can be averaged.

    Ranks are centered, other vectors are scaled to unit length (whitened length for whitened measures, unit trace of
    the inner products for bures). `use` is a mask of the pairs of the full RDM that the vectors hold.
    """
    if measure in RANKED:
        ranks = rank_rows(vectors)
        ranks -= (vectors.shape[1] + 1) / 2.0
        return ranks
    if measure in ("pearson", "cosine"):
        return scale_to_unit_length(vectors, center=measure == "pearson")
    if measure == "bures":
        # the trace of each RDM's inner products about the centroid
        size = vectors.sum(axis=1, keepdims=True) / count_items_of_pairs(vectors.shape[1])
        return vectors / np.where(size > 0, size, np.nan)
    centered = _center_rows(vectors) if measure == "corr_cov" else vectors
    length = np.linalg.norm(whiten_vectors(centered, use, sigma_k), axis=1, keepdims=True)
    return centered / np.where(length > 0, length, np.nan)


def convert_to_factors(vectors: Floats, measure: Measure) -> Floats:
    """Return vectors whose inner products are the scores, for "pearson", "cosine", "spearman" or "rho-a".

    The vectors that are given lack no pairs. A relabeling of the items only reorders those that are returned.

    Examples
    --------
    >>> x = convert_to_factors(np.array([[1.0, 2.0, 4.0], [1.0, 4.0, 2.0]]), "spearman")
    >>> float((x[0] @ x[1]).round(3))
    0.5
    """
    n = float(vectors.shape[1])
    scaled = scale_vectors(vectors, measure, use=np.ones(vectors.shape[1], dtype=bool))
    if measure == "spearman":
        return scale_to_unit_length(scaled, center=False)
    return scaled * np.sqrt(12.0 / (n**3 - n)) if measure == "rho-a" else scaled


def _compare_rows(
    models: Floats,
    data: Floats,
    use: NDArray[np.bool_],
    measure: Measure,
    sigma_k: NDArray[np.floating] | None,
) -> Floats:
    x, y = (models, data) if use.all() else (models[:, use], data[:, use])
    if measure in ("tau-a", "tau-b"):
        from brainmap.rsa.comparison.kendall import compute_kendall

        return np.asarray(compute_kendall(x, y, variant=measure))
    if measure == "bures":
        return compute_bures(x, y)
    sigma = None if sigma_k is None else np.asarray(sigma_k, dtype=np.float64)
    if measure in ("corr_cov", "cosine_cov"):
        if measure == "corr_cov":
            x, y = _center_rows(x), _center_rows(y)
        x, y = whiten_vectors(x, use, sigma), whiten_vectors(y, use, sigma)
    else:
        x, y = scale_vectors(x, measure, use=use), scale_vectors(y, measure, use=use)
    if measure == "rho-a":
        n = float(x.shape[1])
        return np.asarray(x @ y.T * (12.0 / (n**3 - n)))
    products = x @ y.T
    if measure not in ("pearson", "cosine"):
        products /= np.outer(_measure_length(x), _measure_length(y))
    return np.asarray(products)


def _measure_length(x: Floats) -> Floats:
    """Compute the length of each row; NaN where it is 0."""
    length = np.sqrt(np.einsum("ij,ij->i", x, x))
    return np.where(length > 0, length, np.nan)


def _center_rows(x: Floats) -> Floats:
    """Subtract the mean of each row; rows that are constant up to rounding become 0."""
    result: Floats = x - x.mean(axis=1, keepdims=True)
    result[np.abs(result).max(axis=1) <= 1e-13 * np.abs(x).max(axis=1)] = 0.0
    return result


def whiten_vectors(vectors: Floats, use: NDArray[np.bool_], sigma_k: Floats | None = None) -> Floats:
    """Whiten vectors, so that their dot product is the inner product under the inverse covariance of dissimilarities.

    The covariance of the dissimilarities is V = (C S C')**2 elementwise, with C the contrasts of pairs and S the
    covariance of patterns. x' V^-1 x is the smallest squared norm of L^-1 M L^-T (S = L L') over all symmetric M
    with these dissimilarities. The minimum is found by projecting L^-1 (-D/2) L^-T orthogonally to L^-1 1, so that no
    matrix of n_pairs x n_pairs is needed.
    """
    n_items = count_items_of_pairs(len(use))
    sigma = _get_covariance(sigma_k, n_items)
    i, j = np.triu_indices(n_items, 1)
    items = np.union1d(i[use], j[use])
    i, j = np.searchsorted(items, i[use]), np.searchsorted(items, j[use])
    sigma = _regularize_covariance(sigma[np.ix_(items, items)])
    if len(i) < len(items) * (len(items) - 1) // 2:  # single pairs are missing rather than whole items
        return _whiten_by_covariance(vectors, i, j, sigma)
    root = np.linalg.inv(np.linalg.cholesky(sigma))
    along = root.sum(axis=1)
    root = root - np.outer(along, along @ root) / (along @ along)
    a, b = np.triu_indices(len(items))
    weight = np.where(a == b, 1.0, np.sqrt(2.0))
    result, matrix = np.empty((len(vectors), len(a))), np.zeros(sigma.shape)
    for k, vector in enumerate(vectors):
        matrix[i, j] = matrix[j, i] = -0.5 * vector
        result[k] = (root @ matrix @ root.T)[a, b] * weight
    return result


def _whiten_by_covariance(vectors: Floats, i: NDArray[np.intp], j: NDArray[np.intp], sigma: Floats) -> Floats:
    from scipy.linalg import cholesky, solve_triangular

    if len(i) > LARGEST_COVARIANCE:
        raise InputError(
            f"whitened measure: expected at most {LARGEST_COVARIANCE} pairs where single pairs are missing, got "
            f"{len(i)}; leave out whole items, or choose another measure"
        )
    crossed = sigma[np.ix_(i, i)] - sigma[np.ix_(i, j)] - sigma[np.ix_(j, i)] + sigma[np.ix_(j, j)]
    root = cholesky(crossed**2, lower=True)
    return np.asarray(solve_triangular(root, vectors.T, lower=True).T)


def _get_covariance(sigma_k: Floats | None, n_items: int) -> Floats:
    if sigma_k is None:
        return np.eye(n_items)
    sigma = np.diag(sigma_k) if sigma_k.ndim == 1 else sigma_k
    if sigma.shape != (n_items, n_items):
        raise InputError(f"sigma_k: expected shape {(n_items, n_items)} or its diagonal, got {sigma_k.shape}")
    if not np.isfinite(sigma).all() or np.abs(sigma - sigma.T).max() > 1e-8 * np.abs(sigma).max():
        raise InputError("sigma_k: expected a covariance, got NaN, infinity or a matrix that is not symmetric")
    return sigma


def _regularize_covariance(sigma: Floats) -> Floats:
    """Add variance that all items share, which does not affect dissimilarities, to make the covariance invertible."""
    sigma = sigma + np.trace(sigma) / len(sigma)
    values = np.linalg.eigvalsh(sigma)
    if not values[0] > _SINGULAR * values[-1]:
        raise InputError(
            f"sigma_k: expected a covariance that can be inverted, got a singular one (eigenvalues {values[0]:.1e} to "
            f"{values[-1]:.1e}); shrink it, or leave it out"
        )
    return sigma


def arrange_scores(scores: Floats, data: RDMs) -> tuple[Floats, list[str]]:
    """Arrange scores `(n_models, n_rdms)` as `(n_models, n_rois, n_participants)`, and return the names of the regions.

    A region that a participant lacks is NaN. RDMs that name no region are of "all voxels", and those that name no
    participant are one participant each.
    """
    rois = [str(roi) for roi in data.rdm_descriptors.get("roi", ["all voxels"] * data.n_rdm)]
    people = [str(who) for who in data.rdm_descriptors.get("participant", range(data.n_rdm))]
    names, columns = list(dict.fromkeys(rois)), list(dict.fromkeys(people))
    cube = np.full((len(scores), len(names), len(columns)), np.nan)
    for k, (roi, who) in enumerate(zip(rois, people, strict=True)):
        cube[:, names.index(roi), columns.index(who)] = scores[:, k]
    return cube, names
