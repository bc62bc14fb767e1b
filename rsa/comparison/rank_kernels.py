"""Compile kernels that rank many rows by bucket sorting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.compiled import njit
from brainmap.types import Floats

# Sums may be reordered and vectorized; NaN never reaches these loops, but infinity may (the padding of `_rank_rows`).
_FAST = {"reassoc", "contract", "nsz", "arcp", "nnan"}
# Largest distance of a value from its sorted position after bucketing; larger buckets are sorted separately.
_REACH = 4
_LARGE = 32
_TINY = 1e-290


@njit(cache=True, nogil=True)
def rank_by_buckets(rows: Floats) -> Floats:  # pragma: no cover - compiled
    """Compute tie-averaged ranks from 1 along each row of finite numbers."""
    n = rows.shape[1]
    keys, starts = np.empty(n, np.int32), np.empty(2 * n + 2, np.int32)
    padded, in_order, ranks = np.empty(n + 2 * _REACH), np.empty(n), np.empty(rows.shape)
    padded[:_REACH], padded[n + _REACH :] = -np.inf, np.inf
    for k in range(len(rows)):
        _rank_rows(rows[k], keys, starts, padded, in_order, ranks[k])
    return ranks


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _find_extent(values):  # type: ignore[no-untyped-def]
    low, high = values[0], values[0]
    for p in range(values.size):
        low = values[p] if values[p] < low else low
        high = values[p] if values[p] > high else high
    return low, high


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _order_near(values, ranks):  # type: ignore[no-untyped-def]
    """Compute tie-averaged ranks of values (padded at both ends) at most `_REACH` from their sorted positions."""
    for p in range(ranks.size):
        v = values[p + _REACH]
        twice = 2 * p + 2
        for step in range(1, _REACH + 1):
            after, before = values[p + _REACH + step], values[p + _REACH - step]
            twice += int(after < v) + int(after <= v)
            twice -= int(before > v) + int(before >= v)
        ranks[p] = 0.5 * twice


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _order_bucket(values, start, ranks):  # type: ignore[no-untyped-def]
    """Compute tie-averaged ranks within one bucket, counted from `start`."""
    n = values.size
    if n <= _LARGE:
        for p in range(n):
            twice = 2 * start + 1
            for other in values:
                twice += int(other < values[p]) + int(other <= values[p])
            ranks[p] = 0.5 * twice
        return
    order = np.empty(n, np.int64)
    for p in range(n):
        order[p] = p
    gap = 1
    while 3 * gap + 1 < n:
        gap = 3 * gap + 1
    while gap > 0:  # Shell's sort, since numba's own sort takes seconds to compile and few buckets need it
        for p in range(gap, n):
            moved, q = order[p], p
            while q >= gap and values[order[q - gap]] > values[moved]:
                order[q] = order[q - gap]
                q -= gap
            order[q] = moved
        gap //= 3
    first = 0
    while first < n:
        last = first
        while last + 1 < n and values[order[last + 1]] == values[order[first]]:
            last += 1
        for p in range(first, last + 1):
            ranks[order[p]] = start + 0.5 * (first + last) + 1.0
        first = last + 1


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _rank_rows(values, keys, starts, sorted_values, sorted_ranks, out):  # type: ignore[no-untyped-def]
    """Compute tie-averaged ranks from 1, as `scipy.stats.rankdata`, by buckets of equal width.

    A counting sort assigns each value to its bucket; within a bucket a few comparisons complete the order.
    """
    n, buckets = values.size, starts.size - 2
    low, high = _find_extent(values)
    # values that hardly differ share one bucket, since an infinite scale would give invalid keys
    scale = (buckets - 1) / (high - low) if high - low > _TINY else 0.0
    for b in range(buckets + 2):
        starts[b] = 0
    for i in range(n):
        keys[i] = np.int32((values[i] - low) * scale)
    for i in range(n):
        starts[keys[i] + 2] += 1
    total, n_large = np.int32(0), 0
    for b in range(2, buckets + 2):
        # `out` is unused until the end and stores the buckets that need more than a few steps
        if starts[b] > _REACH + 1:
            out[n_large] = b - 2
            n_large += 1
        total += starts[b]
        starts[b] = total
    for i in range(n):
        place = starts[keys[i] + 1]
        starts[keys[i] + 1] = place + 1
        sorted_values[place + _REACH] = values[i]
        keys[i] = place
    _order_near(sorted_values, sorted_ranks)
    for k in range(n_large):
        bucket = int(out[k])
        begin, end = starts[bucket], starts[bucket + 1]
        _order_bucket(sorted_values[begin + _REACH : end + _REACH], begin, sorted_ranks[begin:end])
    for i in range(n):
        out[i] = sorted_ranks[keys[i]]


@njit(cache=True, nogil=True)
def rank_with_weights(
    values: Floats, order: NDArray[np.intp], weights: Floats
) -> Floats:  # pragma: no cover - compiled
    """Compute centered tie-averaged ranks of each row, where entry p is counted `weights[p]` times.

    `order` sorts each row; since it does not depend on the weights, a resample needs one pass and no sorting. Ranks of
    entries with weight 0 are undefined.
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
def rank_untied_with_weights(order: NDArray[np.intp], weights: Floats) -> Floats:  # pragma: no cover - compiled
    """Compute `rank_with_weights` of rows without ties, for which the order is sufficient."""
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
