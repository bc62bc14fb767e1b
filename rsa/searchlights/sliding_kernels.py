"""Compile kernels that update the inner products of a neighborhood from those of the neighborhood before it.

Consecutive neighborhoods share most of their voxels, so the products of the voxels that are new are added, and those of
the voxels that are gone are subtracted. The inner products K (n_items, n_items) of a neighborhood are a sum over its
voxels of p p' minus n n', with rows p and n of each voxel (`rows_of_runs` and `rows_of_weights` in `rows`).

Rounding errors stay behind when a voxel leaves. If the sum of squares falls far below its largest value since the last
full sum (an artifact has left), or if fewer than half of the voxels are shared, the products are summed anew.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.extending import get_cython_function_address

from brainmap.compiled import njit
from brainmap.rsa.comparison.rank_kernels import _FAST

_FALL = 1e-3  # below this share of the largest sum of squares, the products are summed anew
_CANCELED = 1e-9  # a variance below this share of the mean square is computed from centered patterns instead

# numba calls BLAS's product of a matrix with itself by its address, and its compiled code knows it by this name.
llvm.add_symbol("brainmap_dsyrk", get_cython_function_address("scipy.linalg.cython_blas", "dsyrk"))
_dsyrk: Any = types.ExternalFunction("brainmap_dsyrk", types.void(*[types.voidptr] * 10))


@njit(nogil=True, cache=True)
def _add_products(rows, n, sign, gram, sizes, factors):  # type: ignore[no-untyped-def]
    """Add `sign` times the product of the first `n` rows with themselves to the upper triangle of `gram`."""
    if n == 0:
        return
    letters = np.empty(2, np.uint8)
    letters[0], letters[1] = 76, 78  # "L" of BLAS is the upper triangle in C order, "N" is not transposed
    sizes[0], sizes[1] = gram.shape[0], n
    factors[0], factors[1] = sign, 1.0
    _dsyrk(
        letters.ctypes,
        letters[1:].ctypes,
        sizes.ctypes,
        sizes[1:].ctypes,
        factors.ctypes,
        rows.ctypes,
        sizes.ctypes,
        factors[1:].ctypes,
        gram.ctypes,
        sizes.ctypes,
    )


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _put_voxel(rows, positive, negative, n_positive, n_negative):  # type: ignore[no-untyped-def]
    """Append the first row of a voxel to `positive` and its other rows to `negative`."""
    items = rows.shape[1]
    for i in range(items):
        positive[n_positive, i] = rows[0, i]
    for r in range(1, rows.shape[0]):
        for i in range(items):
            negative[n_negative + r - 1, i] = rows[r, i]


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _move_sums(row, sign, sums):  # type: ignore[no-untyped-def]
    for i in range(sums.size):
        sums[i] += sign * row[i]


@njit(nogil=True, cache=True)
def _count_shared(before, n_before, patch):  # type: ignore[no-untyped-def]
    """Count the voxels in both sorted lists."""
    shared, a, b = 0, 0, 0
    while a < n_before and b < patch.size:
        if before[a] == patch[b]:
            shared, a, b = shared + 1, a + 1, b + 1
        elif before[a] < patch[b]:
            a += 1
        else:
            b += 1
    return shared


@njit(nogil=True, cache=True)
def slide(rows, power, patch, before, state, plus, minus, gram, sums):  # type: ignore[no-untyped-def]
    """Update `gram` and `sums` to the voxels of `patch`.

    Parameters
    ----------
    rows : float64 (n_voxels, n_rows, n_items)
        The first row of each voxel has a positive product, all others a negative one.
    power : float64 (n_voxels,)
        The sum of squares of each voxel's rows.
    patch : int32 (n_patch,)
        In increasing order.
    before : int32 (n_most,)
        The voxels of the last patch; replaced by those of this one.
    state : float64 (3,)
        The number of voxels in `before`, their sum of squares, and its largest value since the last full sum.
    plus, minus : float64
        Buffers of `n_most * n_rows * n_items` numbers.
    gram, sums : float64 (n_items, n_items), (n_items,)
        The products in the upper triangle, and the sums of the first rows.
    """
    n_rows, items = rows.shape[1], rows.shape[2]
    n_before = int(state[0])
    shared = _count_shared(before, n_before, patch)
    entering, leaving = patch.size - shared, n_before - shared
    total = 0.0
    for k in range(patch.size):
        total += power[patch[k]]
    anew = n_before == 0 or entering + leaving >= patch.size or not total > _FALL * state[2]
    if anew:
        gram[:] = 0.0
        sums[:] = 0.0
        n_before, entering, leaving, state[2] = 0, patch.size, 0, 0.0
    state[0], state[1], state[2] = patch.size, total, max(state[2], total)
    sizes, factors = np.empty(2, np.int32), np.empty(2)
    more = n_rows - 1
    n_plus, n_minus = entering + leaving * more, leaving + entering * more
    above = plus[: n_plus * items].reshape(n_plus, items)
    below = minus[: n_minus * items].reshape(n_minus, items)
    # the first rows of entering voxels and the other rows of leaving ones are added; the others are subtracted
    p, n, q, o = 0, 0, entering, leaving
    a, b = 0, 0
    while a < n_before or b < patch.size:
        if b == patch.size or (a < n_before and before[a] < patch[b]):
            voxel = rows[before[a]]
            _put_voxel(voxel, below, above, n, q)
            _move_sums(voxel[0], -1.0, sums)
            n, q, a = n + 1, q + more, a + 1
        elif a == n_before or patch[b] < before[a]:
            voxel = rows[patch[b]]
            _put_voxel(voxel, above, below, p, o)
            _move_sums(voxel[0], 1.0, sums)
            p, o, b = p + 1, o + more, b + 1
        else:
            a, b = a + 1, b + 1
    for k in range(patch.size):
        before[k] = patch[k]
    _add_products(above, n_plus, 1.0, gram, sizes, factors)
    _add_products(below, n_minus, -1.0, gram, sizes, factors)


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def write_squared_distances(gram, factor, out):  # type: ignore[no-untyped-def]
    """Write `factor` (K_ii + K_jj - 2 K_ij) of all pairs, from the upper triangle of K."""
    items = gram.shape[0]
    start = 0
    for i in range(items - 1):
        ahead, own = items - 1 - i, gram[i, i]
        for j in range(ahead):
            out[start + j] = factor * (own + gram[i + 1 + j, i + 1 + j] - 2.0 * gram[i, i + 1 + j])
        start += ahead


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def write_angles(gram, sums, n, there, centered, scale, out):  # type: ignore[no-untyped-def]
    """Write 1 minus the correlation (or cosine) of all pairs; return False if a variance is lost in rounding.

    The variance of item i is K_ii - s_i^2 / n with the sum s_i over the voxels, and 0 up to rounding if the pattern is
    constant. `scale` (n_items,) is a buffer.
    """
    items = gram.shape[0]
    for i in range(items):
        mean = sums[i] * sums[i] / n if centered else 0.0
        spread = gram[i, i] - mean
        if there[i] > 0.0:
            if not spread > _CANCELED * gram[i, i]:
                return False
            scale[i] = 1.0 / np.sqrt(spread)
        else:
            scale[i] = 0.0
    start = 0
    for i in range(items - 1):
        ahead, own = items - 1 - i, scale[i]
        mean = sums[i] / n if centered else 0.0
        for j in range(ahead):
            covariance = gram[i, i + 1 + j] - mean * sums[i + 1 + j]
            out[start + j] = 1.0 - covariance * own * scale[i + 1 + j]
        start += ahead
    return True
