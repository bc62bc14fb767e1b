"""Compute Kendall's tau between many pairs of rankings (Knight 1966, doi:10.1080/01621459.1966.10480879).

The number of discordant pairs is the number of inversions that merge sort counts, so one comparison costs O(n log n).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.compiled import njit
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.types import Floats


def compute_kendall(models: Floats, data: Floats, *, variant: str) -> Floats:
    """Compute tau-a or tau-b of each row of `models` with each row of `data`, `(n_models, n_data)`.

    With C concordant and D discordant pairs, tau-a = (C - D) / n_pairs and
    tau-b = (C - D) / sqrt((n_pairs - ties_x) (n_pairs - ties_y)). tau-b of a constant row is NaN, and tau-a is 0.
    """
    x, y = _double_ranks(models), _double_ranks(data)
    order = np.argsort(x, axis=1, kind="stable")
    n = x.shape[1]
    pairs = n * (n - 1) // 2
    tied_x, tied_y = _count_tied_pairs(x), _count_tied_pairs(y)
    disordered, tied_both = _count_discordant_pairs(x, y, order)
    balance = pairs - tied_x[:, None] - tied_y + tied_both - 2 * disordered
    if variant == "tau-a":
        return np.asarray(balance / pairs)
    free = np.sqrt(pairs - tied_x)[:, None] * np.sqrt(pairs - tied_y)
    return np.asarray(balance / np.where(free > 0, free, np.nan))


def _double_ranks(rows: Floats) -> NDArray[np.int64]:
    """Compute twice the tie-averaged ranks, which are integers."""
    return np.rint(2 * rank_rows(rows)).astype(np.int64)


def _count_tied_pairs(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    counts = [np.bincount(row) for row in ranks]
    return np.array([(c * (c - 1) // 2).sum() for c in counts], dtype=np.int64)


@njit(cache=True, nogil=True)
def _count_discordant_pairs(
    x: NDArray[np.int64], y: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # pragma: no cover - compiled
    """Count discordant pairs and pairs tied in both rows, for each row of x with each row of y."""
    n = x.shape[1]
    discordant = np.zeros((len(x), len(y)), dtype=np.int64)
    tied_both = np.zeros((len(x), len(y)), dtype=np.int64)
    a, b = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for i in range(len(x)):
        for j in range(len(y)):
            for k in range(n):
                a[k] = y[j, order[i, k]]
            start = 0
            while start < n:  # within a tie of x, y is sorted so that it adds no inversion
                stop = start + 1
                while stop < n and x[i, order[i, stop]] == x[i, order[i, start]]:
                    stop += 1
                if stop - start > 1:
                    _count_inversions(a[start:stop], b)
                    same = 1
                    for k in range(start + 1, stop):
                        same = same + 1 if a[k] == a[k - 1] else 1
                        tied_both[i, j] += same - 1
                start = stop
            discordant[i, j] = _count_inversions(a, b)
    return discordant, tied_both


@njit(cache=True, nogil=True)
def _count_inversions(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:  # pragma: no cover - compiled
    """Sort `a` by merge sort with the buffer `b`, and count the inversions."""
    n, count, width = len(a), 0, 1
    while width < n:
        for left in range(0, n, 2 * width):
            middle, right = min(left + width, n), min(left + 2 * width, n)
            i, j = left, middle
            for k in range(left, right):
                if i < middle and (j >= right or a[i] <= a[j]):
                    b[k] = a[i]
                    i += 1
                else:
                    b[k] = a[j]
                    j += 1
                    count += middle - i
        for k in range(n):
            a[k] = b[k]
        width *= 2
    return count
