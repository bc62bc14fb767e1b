"""Compile the kernel that whitens the patterns of many small patches of voxels, each by its noise covariance.

As in `brainmap.rsa.searchlights.kernels`, kernels are `nogil` and single-threaded, and a patch is a row of voxel
indices.
"""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit

# Number of rows that are eliminated together: with fewer, matrix products are too small; with more, too many steps are
# done row by row.
BLOCK = 24
# The covariance is singular if the earlier voxels predict a voxel up to this share of its variance.
_SINGULAR = 1e-12
# Sums may be reordered and vectorized; NaN may occur and must stop the computation of a root.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _invert_root(block, inverse, variance):  # type: ignore[no-untyped-def]
    """Compute the inverse of the lower Cholesky root of `block`, which is overwritten; return False if singular.

    `variance` holds the variance of each row before the rows above were eliminated.
    """
    n = block.shape[0]
    for k in range(n):
        if not block[k, k] > _SINGULAR * variance[k]:
            return False
        scale = 1.0 / np.sqrt(block[k, k])
        for j in range(k, n):
            block[k, j] *= scale
        for i in range(k + 1, n):
            for j in range(i, n):
                block[i, j] -= block[k, i] * block[k, j]
    for i in range(n):
        for j in range(n):
            inverse[i, j] = 0.0
        inverse[i, i] = 1.0
        for k in range(i):
            for j in range(k + 1):
                inverse[i, j] -= block[k, i] * inverse[k, j]
        for j in range(i + 1):
            inverse[i, j] /= block[i, i]
    return True


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _gather_covariance(covariance, kept, ridge, patch, out):  # type: ignore[no-untyped-def]
    """Write the shrunk covariance of a patch's voxels to `out` (n_voxels, n_voxels)."""
    for i in range(patch.size):
        for j in range(patch.size):
            out[i, j] = kept * covariance[patch[i], patch[j]]
        out[i, i] += ridge[patch[i]]


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _whiten_patch(one, other, patterns, patch, done, space):  # type: ignore[no-untyped-def]
    """Fill `done` (n_voxels, n_voxels + n_columns) with [root', root^-1 x]; return False if there is no root.

    The root is that of the mean of two covariances. Blocks of rows of [covariance, x] are eliminated by matrix
    products, with one right-hand side for both. The entries of the root below its diagonal are undefined.
    """
    n, width = done.shape
    variance = np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        rows = space[: size * width].reshape(size, width)
        for i in range(size):
            for j in range(start):
                rows[i, j] = 0.0
            for j in range(start, n):
                rows[i, j] = 0.5 * (one[start + i, j] + other[start + i, j])
            variance[i] = rows[i, start + i]
            for c in range(width - n):
                rows[i, n + c] = patterns[patch[start + i], c]
        rest = space[size * width :]
        if start > 0:
            before = rest[: size * start].reshape(size, start)
            for k in range(start):
                for i in range(size):
                    before[i, k] = done[k, start + i]
            product = rest[size * start : size * (start + width)].reshape(size, width)
            np.dot(before, done[:start], product)
            for i in range(size):
                for j in range(width):
                    rows[i, j] -= product[i, j]
        block = rest[: size * size].reshape(size, size)
        inverse = rest[size * size : 2 * size * size].reshape(size, size)
        for i in range(size):
            for j in range(size):
                block[i, j] = rows[i, start + j]
        if not _invert_root(block, inverse, variance):
            return False
        np.dot(inverse, rows, done[start : start + size])
    return True


@njit(nogil=True, cache=True)
def whiten_patches(patterns, patches, covariance, kept, ridge, pairs, minimum, white, found):  # type: ignore[no-untyped-def]
    """Whiten the patterns of each patch by the noise covariance of its voxels.

    Parameters
    ----------
    patterns : float64 (n_sets, n_voxels, n_columns)
        Columns are runs x items; each set is whitened by its own covariance.
    patches : int32 (n_patches, n_most)
        Voxel indices, padded with -1.
    covariance : float64 (n_covariances, n_voxels, n_voxels)
        Sample covariances of the noise, before shrinkage.
    kept : float64 (n_covariances, n_patches)
        The factor by which shrinkage multiplies a covariance.
    ridge : float64 (n_covariances, n_patches, n_voxels)
        The amount that shrinkage adds to the variance of each voxel.
    pairs : int64 (n_sets, 2)
        The two covariances whose mean whitens a set.
    minimum : int
        Smallest number of voxels of a patch.
    white : float64 (n_patches * n_sets * n_most, n_columns)
        Output array of whitened patterns, patch by patch and set by set.
    found : int32 (n_patches, n_sets * n_most)
        Output array of the rows of `white` that belong to each patch; all -1 if it has too few voxels.

    Returns
    -------
    int
        Number of patches with a singular covariance, which have no rows either.
    """
    most, columns, n_sets = patches.shape[1], patterns.shape[2], patterns.shape[0]
    patch, own_space = np.empty(most, np.int32), np.empty(len(covariance) * most * most)
    done_space = np.empty(most * (most + columns))
    space = np.empty(BLOCK * (2 * (most + columns) + max(most, 2 * BLOCK)))
    n_singular, filled = 0, 0
    for row in range(patches.shape[0]):
        n = 0
        for k in range(most):
            if patches[row, k] >= 0:
                patch[n] = patches[row, k]
                n += 1
        found[row] = -1
        if n < minimum:
            continue
        done = done_space[: n * (n + columns)].reshape(n, n + columns)
        own = own_space[: len(covariance) * n * n].reshape(len(covariance), n, n)
        for k in range(len(covariance)):
            _gather_covariance(covariance[k], kept[k, row], ridge[k, row], patch[:n], own[k])
        begin, sound = filled, True
        for s in range(n_sets):
            if not _whiten_patch(own[pairs[s, 0]], own[pairs[s, 1]], patterns[s], patch[:n], done, space):
                sound = False
                break
            for i in range(n):
                for c in range(columns):
                    white[filled, c] = done[i, n + c]
                filled += 1
        if sound:
            for k in range(filled - begin):
                found[row, k] = begin + k
        else:
            filled = begin
            n_singular += 1
    return n_singular
