"""Compile max pooling over adjacent windows, also of one channel behind filters, and its gradient.

Usual sizes of windows and filters are constants, so that the compiler unrolls them and vectorizes over samples, which
is 7 times faster for windows and twice as fast for filters.
"""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit

_FRAMES = 1024  # windows that are filtered before they are pooled


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


@njit(nogil=True, inline="always")
def _filter_row(values, weight, bias, width, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        total = bias
        for tap in range(width):
            total += weight[tap] * values[i + tap]
        out[i] = total


@njit(nogil=True, inline="always")
def _filter_row_back(gradient, weight, width, out):  # type: ignore[no-untyped-def]
    """Add to `out` (t + width - 1,); `gradient` has width - 1 zeros on both sides."""
    for i in range(out.size):
        total = out[i]
        for tap in range(width):
            total += weight[tap] * gradient[i + width - 1 - tap]
        out[i] = total


@njit(nogil=True, cache=True)
def filter_pool(padded, weight, bias, size, gated, out, place):  # type: ignore[no-untyped-def]
    """Filter sounds of one channel, and pool as `pool` does, filter by filter, so that no map lies in memory.

    `padded` is (n, t + k - 1), `weight` (c, k), `bias` (c,); `out` and `place` are (n, c, t // size). Stretches of a
    row that stay in the first cache are filtered and pooled in turn.
    """
    n_filters, width = weight.shape
    frames = out.shape[2]
    row = np.empty(_FRAMES * size, np.float32)
    for item in range(padded.shape[0]):
        for channel in range(n_filters):
            taps, offset = weight[channel], bias[channel]
            for first in range(0, frames, _FRAMES):
                last = min(first + _FRAMES, frames)
                part = row[: (last - first) * size]
                heard = padded[item, first * size :]
                if width == 3:
                    _filter_row(heard, taps, offset, 3, part)
                elif width == 5:
                    _filter_row(heard, taps, offset, 5, part)
                else:
                    part[:] = offset
                    for tap in range(width):
                        factor, moved = taps[tap], heard[tap : tap + part.size]
                        for i in range(part.size):
                            part[i] += factor * moved[i]
                if size == 2:
                    _pool_row(part, 2, gated, out[item, channel, first:last], place[item, channel, first:last])
                elif size == 3:
                    _pool_row(part, 3, gated, out[item, channel, first:last], place[item, channel, first:last])
                elif size == 4:
                    _pool_row(part, 4, gated, out[item, channel, first:last], place[item, channel, first:last])
                else:
                    _pool_row(part, size, gated, out[item, channel, first:last], place[item, channel, first:last])


@njit(nogil=True, cache=True)
def spread_filtered(gradient, place, weight, size, out):  # type: ignore[no-untyped-def]
    """Compute the gradient `out` (n, t + k - 1) of `padded`, from that of the result of `filter_pool`."""
    n_filters, width = weight.shape
    n_samples = out.shape[1] - width + 1
    held = np.zeros(n_samples + 2 * (width - 1), np.float32)
    row = held[width - 1 : width - 1 + n_samples]
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
            if width == 3:
                _filter_row_back(held, weight[channel], 3, out[item])
            elif width == 5:
                _filter_row_back(held, weight[channel], 5, out[item])
            else:
                for tap in range(width):
                    factor, moved = weight[channel, tap], out[item, tap : tap + row.size]
                    for i in range(row.size):
                        moved[i] += factor * row[i]
