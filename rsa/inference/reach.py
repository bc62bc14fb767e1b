"""Determine what a correction can find, given the smallest p that the participants or relabelings allow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

ALPHA = 0.05
_SAME = 1e-9


def fdr_needs(smallest_p: float, n_tests: int, *, alpha: float = ALPHA) -> int:
    """Compute the smallest number of significant tests that the Benjamini-Hochberg method can find, if it finds any.

    k tests are significant if their p are at most alpha k / n_tests, so k >= smallest_p n_tests / alpha.

    Examples
    --------
    >>> fdr_needs(1 / 256, 30_000)  # 8 participants, a map of 30,000 voxels: 8 %
    2344
    """
    return max(1, math.ceil(smallest_p * n_tests / alpha * (1 - _SAME)))


def fdr_reach(p: ArrayLike, smallest_p: float, *, alpha: float = ALPHA) -> str:
    """Explain in words why the false discovery rate finds nothing among these p; empty if there is no limit.

    Parameters
    ----------
    p : array_like
        Uncorrected p; NaN is ignored.
    smallest_p : float
        The smallest p that the test can reach; 0 if there is no such limit.
    alpha : float

    Examples
    --------
    >>> fdr_reach([1 / 16] * 3, 1 / 16)
    'no p is under 0.0625, so that fdr can find nothing'
    >>> fdr_reach([1 / 32, 0.5, 0.2, 0.8], 1 / 32)
    'no p is under 0.0312, so that fdr finds at least 3 of the 4 tests (62 %) together or none; here none'
    """
    values = np.asarray(p, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values) or smallest_p <= 0:
        return ""
    if smallest_p > alpha:
        return f"no p is under {smallest_p:.3g}, so that fdr can find nothing"
    needed = fdr_needs(smallest_p, len(values), alpha=alpha)
    found = np.sort(values) <= alpha * np.arange(1, len(values) + 1) / len(values) * (1 + _SAME)
    if needed == 1 or found.any():
        return ""
    return (
        f"no p is under {smallest_p:.3g}, so that fdr finds at least {needed:,} of the {len(values):,} tests "
        f"({100 * smallest_p / alpha:.0f} %) together or none; here none"
    )
