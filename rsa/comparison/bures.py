"""Compute the Bures similarity, the agreement of two configurations of points after the best rotation.

The matrix of inner products about the centroid, G = X X', determines a geometry. For G = X X' and H = Y Y',
tr((G^1/2 H G^1/2)^1/2) is the sum of the singular values of X'Y, the largest tr(X'Y) over rotations (Procrustes).
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.rdm.alignment import count_items_of_pairs
from brainmap.types import Floats

# Negative eigenvalues below this share of the largest one count as rounding errors.
_ROUNDING = 1e-10


def compute_bures(models: Floats, data: Floats) -> Floats:
    """Compute the Bures similarity of condensed RDMs of squared distances, `(n_models, n_data)`, between 0 and 1.

    For G and H the matrices of inner products about the centroid, it is tr((G^1/2 H G^1/2)^1/2) / sqrt(tr G tr H).
    RDMs that are not Euclidean (crossnobis and ranks may have inner products with negative eigenvalues) are replaced by
    the nearest Euclidean ones, which a `BrainmapWarning` counts. An RDM whose distances are all 0 gives NaN.

    Examples
    --------
    >>> line, triangle = np.array([[1.0, 4.0, 1.0]]), np.ones((1, 3))
    >>> compute_bures(line, np.vstack([line, 9 * line, triangle])).round(4)
    array([[1.    , 1.    , 0.7071]])
    """
    x, bent = _compute_configurations(models)
    y, also = _compute_configurations(data)
    n_bent = int(bent.sum() + also.sum())
    if n_bent:
        warnings.warn(
            f"bures: {n_bent} of {len(x) + len(y)} RDMs are not squared distances of any points (they have negative "
            "eigenvalues); the nearest RDMs that are were compared",
            BrainmapWarning,
            stacklevel=3,
        )
    result = np.empty((len(x), len(y)))
    for k, one in enumerate(x):
        result[k] = np.linalg.svd(one.T @ y, compute_uv=False).sum(axis=1)
    size = [np.sqrt(np.einsum("kij,kij->k", side, side)) for side in (x, y)]
    length = np.outer(*size)
    return np.asarray(np.minimum(result / np.where(length > 0, length, np.nan), 1.0))


def _compute_configurations(vectors: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute points `(n_rdms, n_items, n_items)` with these squared distances, and flag non-Euclidean RDMs."""
    n = count_items_of_pairs(vectors.shape[1])
    if n * (n - 1) // 2 != vectors.shape[1]:
        raise InputError(
            "bures: single pairs of items are missing, and a geometry needs every pair; leave out whole "
            "items, or choose another measure"
        )
    i, j = np.triu_indices(n, 1)
    gram = np.zeros((len(vectors), n, n))
    gram[:, i, j] = gram[:, j, i] = -0.5 * vectors
    gram -= gram.mean(axis=1, keepdims=True)
    gram -= gram.mean(axis=2, keepdims=True)
    values, axes = np.linalg.eigh(gram)
    largest = np.abs(values).max(axis=1)
    bent = values[:, 0] < -_ROUNDING * largest
    values[values < _ROUNDING * largest[:, None]] = 0.0
    return axes * np.sqrt(values)[:, None, :], np.asarray(bent)
