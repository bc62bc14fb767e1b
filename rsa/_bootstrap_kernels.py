"""Compiled kernel of the bootstrap: ranks of values that occur as often as their weights say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.compiled import njit

Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def weighted_ranks(
    values: Floats, order: NDArray[np.intp], weights: Floats
) -> Floats:  # pragma: no cover - compiled
    """Tie-averaged ranks of each row, entry p counted `weights[p]` times, less the mean rank.

    `order` sorts each row; with equal orders a resample needs one pass and no sorting. Ranks of entries of
    weight 0 mean nothing.
    """
    n = values.shape[1]
    ranks = np.empty(values.shape)
    middle = 0.5 * (weights.sum() + 1.0)
    for row in range(values.shape[0]):
        below, start = 0.0, 0
        while start < n:
            value, tied, stop = values[row, order[row, start]], 0.0, start
            while stop < n and values[row, order[row, stop]] == value:
                tied += weights[order[row, stop]]
                stop += 1
            rank = below + 0.5 * (tied + 1.0) - middle
            for p in range(start, stop):
                ranks[row, order[row, p]] = rank
            below += tied
            start = stop
    return ranks


@njit(cache=True, nogil=True)
def weighted_ranks_of_different(
    order: NDArray[np.intp], weights: Floats
) -> Floats:  # pragma: no cover - compiled
    """`weighted_ranks` of rows whose values all differ: their order says everything."""
    n = order.shape[1]
    ranks = np.empty(order.shape)
    middle = 0.5 * (weights.sum() + 1.0)
    for row in range(order.shape[0]):
        below = 0.5 - middle
        for k in range(n):
            place = order[row, k]
            weight = weights[place]
            ranks[row, place] = below + 0.5 * weight
            below += weight
    return ranks
