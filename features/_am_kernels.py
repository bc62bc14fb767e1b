"""Compiled max pooling over windows side by side, and its gradient."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def pool(values, size, gated, out, place):  # type: ignore[no-untyped-def]
    """Maximum of each window and the place of the first of them; NaN wins.

    `values` (n, t), `out` and `place` (n, t // size). Where `gated`, a maximum that is not above 0 is 0, and its
    place is `size`: none.
    """
    for row in range(values.shape[0]):
        for i in range(out.shape[1]):
            best, at = values[row, i * size], 0
            for j in range(1, size):
                value = values[row, i * size + j]
                higher = value > best or value != value
                at = j if higher else at
                best = value if higher else best
            silent = gated and best <= 0
            out[row, i] = np.float32(0) if silent else best
            place[row, i] = size if silent else at


@njit(nogil=True, cache=True)
def spread(gradient, place, size, out):  # type: ignore[no-untyped-def]
    """The gradient of each window (n, t // size) at the place of its maximum; 0 elsewhere in `out` (n, t)."""
    for row in range(gradient.shape[0]):
        out[row] = 0
        for i in range(gradient.shape[1]):
            at = place[row, i]
            out[row, i * size + min(at, size - 1)] = gradient[row, i] if at < size else np.float32(0)
