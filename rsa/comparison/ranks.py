"""Compute tie-averaged ranks; the compiled kernels for many values are loaded when they are needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

_MANY = 10_000  # number of values from which compiled code is faster, in spite of its loading time
_HUGE = 1e300  # differences of larger numbers overflow


def rank_rows(rows: NDArray[np.floating]) -> Floats:
    """Compute tie-averaged ranks 1 .. n along each row, as `scipy.stats.rankdata`; NaN in a row with a NaN.

    Examples
    --------
    >>> rank_rows(np.array([[0.3, 0.1, 0.3]]))
    array([[2.5, 1. , 2.5]])
    """
    values: Floats = np.asarray(rows, dtype=np.float64)
    if values.size >= _MANY and values.min() > -_HUGE and values.max() < _HUGE:  # the kernel needs finite values
        from brainmap.rsa.comparison.rank_kernels import rank_by_buckets

        return np.asarray(rank_by_buckets(np.ascontiguousarray(values)))
    return rank_by_sorting(values)


def rank_by_sorting(rows: Floats) -> Floats:
    """Compute the ranks of `rank_rows` without compiled code, which takes a second to load.

    Examples
    --------
    >>> rank_by_sorting(np.array([[0.3, 0.1, 0.3], [3.0, 2.0, 1.0]]))
    array([[2.5, 1. , 2.5],
           [3. , 2. , 1. ]])
    """
    if not rows.size:
        return rows.copy()
    n = rows.shape[1]
    order = np.argsort(rows, axis=1)
    in_order = np.take_along_axis(rows, order, axis=1)
    begins = np.ones(rows.shape, dtype=bool)
    begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    starts = np.flatnonzero(begins)  # of equal values, in all rows one after the other
    stops = np.append(starts[1:], rows.size)
    means = 0.5 * (starts + stops + 1) - starts // n * n
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, means[np.cumsum(begins).reshape(rows.shape) - 1], axis=1)
    ranks[np.isnan(in_order[:, -1])] = np.nan
    return ranks
