"""Compiled ranks of many rows, by the buckets of the searchlight's kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.compiled import njit
from brainmap.rsa.searchlights.kernels import _REACH, _rank

Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def bucket_ranks(rows: Floats) -> Floats:  # pragma: no cover - compiled
    """Tie-averaged ranks from 1 along each row of finite numbers."""
    n = rows.shape[1]
    keys, source, starts = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(2 * n + 2, np.int32)
    padded, in_order, ranks = np.empty(n + 2 * _REACH), np.empty(n), np.empty(rows.shape)
    padded[:_REACH], padded[n + _REACH :] = -np.inf, np.inf
    for k in range(len(rows)):
        _rank(rows[k], keys, starts, padded, source, in_order, ranks[k])
    return ranks
