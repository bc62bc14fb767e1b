"""Determine the runs that each pair of items shares, and how the kernels of a searchlight sum over them.

A matrix product gives all pairs of items at once over one set of runs. Pairs that share other runs need another
product, or are summed item by item, whichever is cheaper.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

_ROW = 6.0  # cost of one multiplication of a sum item by item, in multiplications of a matrix product
_MOST_SETS = 32


class SharedRuns(NamedTuple):
    """Hold what a kernel needs to know about the runs of each pair of items.

    Attributes
    ----------
    there : ndarray (n_runs, n_items)
        1 where a run has an item, else 0.
    sets : ndarray of bool (n_sets, n_runs)
        The sets of runs over which matrix products are taken.
    of_pair : ndarray of int32 (n_pairs,)
        The set of each pair of items; -1 where the pair is summed item by item, or has no distance.
    inverse : ndarray (n_pairs,)
        1 / (number of ordered pairs of different runs that both items have), 1 for a single run; 0 if there are none.
    rows : ndarray of int64 (n_rows,)
        The items that are compared with all others item by item.
    """

    there: Floats
    sets: NDArray[np.bool_]
    of_pair: NDArray[np.int32]
    inverse: Floats
    rows: NDArray[np.int64]


def find_shared_runs(present: NDArray[np.bool_]) -> SharedRuns:
    """Determine the shared runs from the presence of items in runs, `(n_runs, n_items)`.

    Pairs have a distance if their `inverse` is above 0.

    Examples
    --------
    >>> found = find_shared_runs(np.array([[True, True, True], [True, True, True], [True, True, False]]))
    >>> found.inverse.round(2).tolist(), found.of_pair.tolist(), found.sets.tolist()
    ([0.17, 0.5, 0.5], [1, 0, 0], [[True, True, False], [True, True, True]])
    """
    n_runs, n_items = present.shape
    i, j = np.triu_indices(n_items, 1)
    there = present.astype(np.float64)
    both = present[:, i] & present[:, j]
    n = both.sum(axis=0)
    needed = np.flatnonzero(n > (1 if n_runs > 1 else 0))
    count = n * (n - 1.0) if n_runs > 1 else n.astype(float)
    inverse = np.where(count > 0, 1.0 / np.maximum(count, 1.0), 0.0)
    of_pair = np.full(len(i), -1, dtype=np.int32)
    if not len(needed):
        return SharedRuns(there, np.ones((1, n_runs), bool), of_pair, inverse, np.zeros(0, np.int64))
    sets, which = np.unique(both[:, needed], axis=1, return_inverse=True)
    order = np.argsort(-np.bincount(which.ravel()), kind="stable")
    place = np.argsort(order)[which.ravel()]
    best, rows = 1, np.zeros(0, np.int64)
    least = np.inf
    for k in range(1, min(sets.shape[1], _MOST_SETS) + 1):
        left = np.zeros((n_items, n_items), bool)
        late = needed[place >= k]
        left[i[late], j[late]] = left[j[late], i[late]] = True
        cover = _cover_pairs(left)
        cost = k * max(n_runs - 1, 1) * n_items**2 + _ROW * len(cover) * n_runs * n_items
        if cost < least:
            least, best, rows = cost, k, cover
    of_pair[needed] = np.where(place < best, place, -1)
    return SharedRuns(there, np.ascontiguousarray(sets[:, order[:best]].T), of_pair, inverse, rows)


def _cover_pairs(left: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Find a small set of items that covers every remaining pair."""
    rows = []
    while left.any():
        most = int(left.sum(axis=0).argmax())
        rows.append(most)
        left[most] = left[:, most] = False
    return np.array(sorted(rows), dtype=np.int64)
