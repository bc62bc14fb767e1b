"""Compile max pooling over adjacent windows, also of one channel behind filters, and its gradient.

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


@njit(nogil=True, cache=True)
def filter_pool(padded, weight, bias, size, gated, out, place):  # type: ignore[no-untyped-def]
    """Filter sounds of one channel, and pool as `pool` does, filter by filter, so that no map lies in memory.

    `padded` is (n, t + k - 1), `weight` (c, k), `bias` (c,); `out` and `place` are (n, c, t // size).
    """
    n_filters, width = weight.shape
    row = np.empty(padded.shape[1] - width + 1, np.float32)
    for item in range(padded.shape[0]):
        for channel in range(n_filters):
            row[:] = bias[channel]
            for tap in range(width):
                factor, moved = weight[channel, tap], padded[item, tap : tap + row.size]
                for i in range(row.size):
                    row[i] += factor * moved[i]
            if size == 2:
                _pool_row(row, 2, gated, out[item, channel], place[item, channel])
            elif size == 3:
                _pool_row(row, 3, gated, out[item, channel], place[item, channel])
            elif size == 4:
                _pool_row(row, 4, gated, out[item, channel], place[item, channel])
            else:
                _pool_row(row, size, gated, out[item, channel], place[item, channel])


@njit(nogil=True, cache=True)
def spread_filtered(gradient, place, weight, size, out):  # type: ignore[no-untyped-def]
    """Compute the gradient `out` (n, t + k - 1) of `padded`, from that of the result of `filter_pool`."""
    n_filters, width = weight.shape
    row = np.empty(out.shape[1] - width + 1, np.float32)
    for item in range(gradient.shape[0]):
        out[item] = 0
        for channel in range(n_filters):
            if size == 2:
                _spread_row(gradient[item, channel], place[item, channel], 2, row)
            elif size == 3:
                _spread_row(gradient[item, channel], place[item, channel], 3, row)
            elif size == 4:
                _spread_row(gradient[item, channel], place[item, channel], 4, row)
            else:
                _spread_row(gradient[item, channel], place[item, channel], size, row)
            for tap in range(width):
                factor, moved = weight[channel, tap], out[item, tap : tap + row.size]
                for i in range(row.size):
                    moved[i] += factor * row[i]
