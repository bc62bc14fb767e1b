"""Compile the kernel of the sign-flip test."""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit

_RUN = 1024  # number of places per block


@njit(nogil=True, cache=True)
def compute_t_of_flips(signs, unit, out):  # type: ignore[no-untyped-def]
    """Compute the one-sample t of unit-length scores `unit` (n, n_places) under sign patterns `signs` (n_flips, n).

    Each block of places stays in the cache for all flips. The scores of a place must not all have the same absolute
    value, since t would be infinite for some flip.
    """
    n, places = unit.shape
    for start in range(0, places, _RUN):
        stop = min(start + _RUN, places)
        for row in range(signs.shape[0]):
            sums = out[row, start:stop]
            sums[:] = 0.0
            for i in range(n):
                sign, scores = signs[row, i], unit[i, start:stop]
                for k in range(sums.size):
                    sums[k] += sign * scores[k]
            for k in range(sums.size):
                sums[k] *= np.sqrt((n - 1) / (n - sums[k] * sums[k]))
