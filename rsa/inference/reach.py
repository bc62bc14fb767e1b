"""Determine what a correction can find, given the smallest p that the participants or relabelings allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ALPHA = 0.05
_SAME = 1e-9


def describe_fdr_reach(p: ArrayLike, smallest_p: ArrayLike, *, alpha: float = ALPHA) -> str:
    """Explain in words why the false discovery rate finds nothing among these p; empty if there is no limit.

    Parameters
    ----------
    p : array_like
        Uncorrected p; NaN is ignored.
    smallest_p : float, or array_like of the shape of p
        The smallest p that each test can reach, which differs where tests differ in participants; 0 where there is
        none.
    alpha : float

    Examples
    --------
    >>> describe_fdr_reach([1 / 16] * 3, 1 / 16)
    'no p is under 0.0625, so that fdr can find nothing'
    >>> describe_fdr_reach([1 / 32, 0.5, 0.2, 0.8], 1 / 32)
    'no p is under 0.0312, so that fdr finds at least 3 of the 4 tests (75 %) together or none; here none'
    >>> describe_fdr_reach([0.5, 0.2], [1 / 256, 1 / 16])  # one test has participants enough
    ''
    """
    values = np.asarray(p, dtype=np.float64)
    tested = ~np.isnan(values)
    reach = np.sort(np.broadcast_to(np.asarray(smallest_p, dtype=np.float64), values.shape)[tested])
    n = len(reach)
    if not n or not reach[0] > 0:
        return ""
    level = alpha * np.arange(1, n + 1) / n * (1 + _SAME)
    possible = np.flatnonzero(reach <= level)  # k tests can be found together if k of them can reach the k-th level
    if not len(possible):
        return f"no p is under {reach[0]:.3g}, so that fdr can find nothing"
    needed = int(possible[0]) + 1
    if needed == 1 or (np.sort(values[tested]) <= level).any():
        return ""
    return (
        f"no p is under {reach[0]:.3g}, so that fdr finds at least {needed:,} of the {n:,} tests "
        f"({100 * needed / n:.0f} %) together or none; here none"
    )
