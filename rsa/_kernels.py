"""Compiled kernels: representational similarity of many small patches of voxels, all models in one pass.

A patch is a row of voxel indices, so the mathematics never knows where it came from (a sphere, a disc).
Kernels are `nogil` and single-threaded: threads are the caller's, over chunks of patches.
"""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit

CORRELATION, COSINE, EUCLIDEAN = 0, 1, 2
PLAIN, CENTERED, RAW, WHITE, WHITE_CENTERED = range(5)

# Sums may be reordered and vectorized; NaN never reaches these loops, infinity may (the padding of `_rank`).
_FAST = {"reassoc", "contract", "nsz", "arcp", "nnan"}
# How far from its place in order a value may lie after bucketing; larger buckets are ordered by themselves.
_REACH = 4
_LARGE = 32
# A pattern whose variance is this small against its mean square is constant but for rounding.
_CONSTANT = 1e-26
_TINY = 1e-290
# What centering leaves of equal numbers is rounding: this much of their size.
_EQUAL = 1e-13


@njit(nogil=True, cache=True, fastmath=_FAST)
def _gather(patterns, patch, buffer):  # type: ignore[no-untyped-def]
    """Copy a patch's voxels to `buffer` (n_runs, n_voxels, n_items)."""
    for k in range(patch.size):
        voxel = patch[k]
        for m in range(patterns.shape[1]):
            for i in range(patterns.shape[2]):
                buffer[m, k, i] = patterns[voxel, m, i]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _standardize(x, present, center, mean, scale, floor):  # type: ignore[no-untyped-def]
    """Scale each column of `x` (n_voxels, n_items) to unit length, centered if asked.

    A missing item's column is zero and stays so; False when another one is constant.
    """
    n, items = x.shape
    for i in range(items):
        mean[i] = scale[i] = 0.0
    if center:
        for k in range(n):
            for i in range(items):
                mean[i] += x[k, i]
                scale[i] += x[k, i] * x[k, i]
    for i in range(items):
        mean[i] /= n
        floor[i] = scale[i] * _CONSTANT
        scale[i] = 0.0
    for k in range(n):
        for i in range(items):
            x[k, i] -= mean[i]
            scale[i] += x[k, i] * x[k, i]
    sound = True
    for i in range(items):
        if scale[i] > floor[i]:
            scale[i] = 1.0 / np.sqrt(scale[i])
        else:
            scale[i] = 0.0
            sound = sound and not present[i]
    for k in range(n):
        for i in range(items):
            x[k, i] *= scale[i]
    return sound


@njit(nogil=True, cache=True, fastmath=_FAST)
def _products(x, later, weight, gram):  # type: ignore[no-untyped-def]
    """Inner products of items (n_items, n_items): between runs only where there are two or more.

    The sum over runs m < l of X_m' X_l is one matrix product of the runs with the sums of the runs after
    them; `weight` is 1 over the ordered pairs of runs that a pair of items has.
    """
    runs, n, items = x.shape
    if runs == 1:
        flat = x.reshape(n, items)
        np.dot(flat.T, flat, gram)
        return
    for k in range(n):
        for i in range(items):
            later[runs - 2, k, i] = x[runs - 1, k, i]
    for m in range(runs - 2, 0, -1):
        for k in range(n):
            for i in range(items):
                later[m - 1, k, i] = later[m, k, i] + x[m, k, i]
    first = x[: runs - 1].reshape((runs - 1) * n, items)
    np.dot(first.T, later.reshape((runs - 1) * n, items), gram)
    for i in range(items):
        for j in range(i, items):
            gram[i, j] = (gram[i, j] + gram[j, i]) * weight[i, j]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _distances(gram, factor, own, out):  # type: ignore[no-untyped-def]
    """Upper triangle of `factor` (G_ii + G_jj - 2 G_ij)."""
    items = gram.shape[0]
    for i in range(items):
        own[i] = gram[i, i] * factor
    start = 0
    for i in range(items - 1):
        ahead = items - 1 - i
        for j in range(ahead):
            out[start + j] = own[i] + own[i + 1 + j] - 2.0 * factor * gram[i, i + 1 + j]
        start += ahead


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _take(values, kept, out):  # type: ignore[no-untyped-def]
    """Copy the kept values and give the sum of their sizes: not finite when one of them is not."""
    total = 0.0
    for p in range(kept.size):
        out[p] = values[kept[p]]
        total += abs(out[p])
    return total


@njit(nogil=True, cache=True, fastmath=_FAST)
def _extent(values):  # type: ignore[no-untyped-def]
    low, high = values[0], values[0]
    for p in range(values.size):
        low = values[p] if values[p] < low else low
        high = values[p] if values[p] > high else high
    return low, high


@njit(nogil=True, cache=True, fastmath=_FAST)
def _order_near(values, ranks):  # type: ignore[no-untyped-def]
    """Tie-averaged ranks of values (padded at both ends) that lie at most `_REACH` from their place."""
    for p in range(ranks.size):
        v = values[p + _REACH]
        twice = 2 * p + 2
        for step in range(1, _REACH + 1):
            after, before = values[p + _REACH + step], values[p + _REACH - step]
            twice += int(after < v) + int(after <= v)
            twice -= int(before > v) + int(before >= v)
        ranks[p] = 0.5 * twice


@njit(nogil=True, cache=True, fastmath=_FAST)
def _order_bucket(values, start, ranks):  # type: ignore[no-untyped-def]
    """Tie-averaged ranks within one bucket, counted from `start`."""
    n = values.size
    if n <= _LARGE:
        for p in range(n):
            twice = 2 * start + 1
            for other in values:
                twice += int(other < values[p]) + int(other <= values[p])
            ranks[p] = 0.5 * twice
        return
    order = np.empty(n, np.int64)
    for p in range(n):
        order[p] = p
    gap = 1
    while 3 * gap + 1 < n:
        gap = 3 * gap + 1
    while gap > 0:  # Shell's sort: numba's own takes seconds to compile, and few buckets ever come here
        for p in range(gap, n):
            moved, q = order[p], p
            while q >= gap and values[order[q - gap]] > values[moved]:
                order[q] = order[q - gap]
                q -= gap
            order[q] = moved
        gap //= 3
    first = 0
    while first < n:
        last = first
        while last + 1 < n and values[order[last + 1]] == values[order[first]]:
            last += 1
        for p in range(first, last + 1):
            ranks[order[p]] = start + 0.5 * (first + last) + 1.0
        first = last + 1


@njit(nogil=True, cache=True, fastmath=_FAST)
def _rank(values, keys, starts, sorted_values, source, sorted_ranks, out):  # type: ignore[no-untyped-def]
    """Tie-averaged ranks from 1, as `scipy.stats.rankdata`, by buckets of equal width.

    Counting puts each value into its bucket; within a bucket a few comparisons finish the order.
    """
    n, buckets = values.size, starts.size - 2
    low, high = _extent(values)
    # values that hardly differ share one bucket: their scale would be infinite, and their keys no index
    scale = (buckets - 1) / (high - low) if high - low > _TINY else 0.0
    for b in range(buckets + 2):
        starts[b] = 0
    for i in range(n):
        keys[i] = np.int32((values[i] - low) * scale)
    for i in range(n):
        starts[keys[i] + 2] += 1
    total, n_large = np.int32(0), 0
    for b in range(2, buckets + 2):
        # `out` is free until the end: it keeps the buckets that need more than a few steps
        if starts[b] > _REACH + 1:
            out[n_large] = b - 2
            n_large += 1
        total += starts[b]
        starts[b] = total
    for i in range(n):
        place = starts[keys[i] + 1]
        starts[keys[i] + 1] = place + 1
        sorted_values[place + _REACH] = values[i]
        source[place] = i
    _order_near(sorted_values, sorted_ranks)
    for k in range(n_large):
        bucket = int(out[k])
        begin, end = starts[bucket], starts[bucket + 1]
        _order_bucket(sorted_values[begin + _REACH : end + _REACH], begin, sorted_ranks[begin:end])
    for p in range(n):
        out[source[p]] = sorted_ranks[p]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _length(values, norm):  # type: ignore[no-untyped-def]
    """What a product with a model is divided by: 1, the length, or the length about the mean; 0 for none."""
    if norm == PLAIN:
        return 1.0
    mean, power = 0.0, 0.0
    for p in range(values.size):
        mean += values[p]
        power += values[p] * values[p]
    mean = mean / values.size if norm == CENTERED else 0.0
    total = 0.0
    for p in range(values.size):
        total += (values[p] - mean) * (values[p] - mean)
    return np.sqrt(total) if total > _CONSTANT * power else 0.0


@njit(nogil=True, cache=True)
def _scaled(values, norm, pairs, rows):  # type: ignore[no-untyped-def]
    """Bring values in place to where their products with models are scores, but for the length it gives.

    1 for PLAIN; 0 where nothing varies. `rows` (n_items,) is free space for whitened lengths, and `pairs` the two items
    of each value: with H the matrix that takes means away, the squared whitened length of dissimilarities D (a
    matrix) is ||H D H||^2 / 4, found from their squares and row sums alone.
    """
    if norm == WHITE_CENTERED:
        mean, most, apart = values.mean(), 0.0, 0.0
        for p in range(values.size):
            most = max(most, abs(values[p]))
            values[p] -= mean
            apart = max(apart, abs(values[p]))
        if apart <= _EQUAL * most:
            return 0.0
    elif norm != WHITE:
        return _length(values, norm)
    power, total, squares = 0.0, 0.0, 0.0
    rows[:] = 0.0
    for p in range(values.size):
        power += values[p] * values[p]
        rows[pairs[p, 0]] += values[p]
        rows[pairs[p, 1]] += values[p]
    for i in range(rows.size):
        total += rows[i]
        squares += rows[i] * rows[i]
    squared = 2.0 * power - 2.0 * squares / rows.size + (total / rows.size) ** 2
    return 0.5 * np.sqrt(squared) if squared > _CONSTANT * power else 0.0


@njit(nogil=True, cache=True)
def _rdm(patterns, present, weight, patch, geometry, space, later_space, small, gram, out):  # type: ignore[no-untyped-def]
    """The condensed RDM of a patch; False where a pattern is constant."""
    runs, n, items = patterns.shape[1], patch.size, patterns.shape[2]
    x = space[: runs * n * items].reshape(runs, n, items)
    later = later_space[: max(runs - 1, 1) * n * items].reshape(max(runs - 1, 1), n, items)
    _gather(patterns, patch, x)
    if geometry != EUCLIDEAN:
        for m in range(runs):
            if not _standardize(x[m], present[m], geometry == CORRELATION, small[0], small[1], small[2]):
                return False
    _products(x, later, weight, gram)
    _distances(gram, 1.0 / n if geometry == EUCLIDEAN else 0.5, small[0], out)
    return True


@njit(nogil=True, cache=True)
def _members(row, patch):  # type: ignore[no-untyped-def]
    """The voxels of a patch, without the places that hold none."""
    n = 0
    for k in range(row.size):
        if row[k] >= 0:
            patch[n] = row[k]
            n += 1
    return patch[:n]


@njit(nogil=True, cache=True)
def patch_rdms(patterns, present, weight, patches, kept, geometry, minimum, rdms):  # type: ignore[no-untyped-def]
    """The RDM of every patch; `rdms` (n_patches, n_kept) of a patch without one stay as they are.

    Parameters are those of `score_patches`.
    """
    runs, items, most = patterns.shape[1], patterns.shape[2], patches.shape[1]
    space, later_space = np.empty(runs * most * items), np.empty(max(runs - 1, 1) * most * items)
    small, gram, found = np.empty((3, items)), np.empty((items, items)), np.empty(items * (items - 1) // 2)
    patch, distances = np.empty(most, np.int32), np.empty(kept.size)
    for row in range(patches.shape[0]):
        near = _members(patches[row], patch)
        if near.size < minimum:
            continue
        if not _rdm(patterns, present, weight, near, geometry, space, later_space, small, gram, found):
            continue
        if np.isfinite(_take(found, kept, distances)):
            rdms[row] = distances


@njit(nogil=True, cache=True)
def score_patches(  # type: ignore[no-untyped-def]
    patterns, present, weight, patches, kept, pairs, models, geometry, ranked, norm, minimum, scores
):
    """Score every patch of voxels against every model; `scores` of a patch without a score stay as they are.

    Parameters
    ----------
    patterns : float64 (n_voxels, n_runs, n_items), C order
        Between-run products are taken when n_runs > 1. A missing item is zero in all voxels of its run.
    present : bool (n_runs, n_items)
        Which items are not missing.
    weight : float64 (n_items, n_items)
        1 over the ordered pairs of different runs that hold both items.
    patches : int32 (n_patches, n_most)
        Voxel indices; -1 is no voxel.
    kept : int64 (n_kept,)
        Condensed indices of the pairs that the models have.
    pairs : int32 (n_kept, 2)
        The items of these pairs, counted over items that have any.
    models : float64 (n_models, n_kept)
        Ranked, centered, scaled already, as the measure wants.
    geometry, ranked, norm : int, bool, int
        Dissimilarity; whether ranks are compared; what a product is divided by.
    minimum : int
        Voxels a patch must have.
    scores : float64 (n_patches, n_models)
        Filled here.
    """
    runs, items, most = patterns.shape[1], patterns.shape[2], patches.shape[1]
    n_kept = kept.size
    space, later_space = np.empty(runs * most * items), np.empty(max(runs - 1, 1) * most * items)
    small, gram, found = np.empty((3, items)), np.empty((items, items)), np.empty(items * (items - 1) // 2)
    patch, distances, products = np.empty(most, np.int32), np.empty(n_kept), np.empty(len(models))
    keys, source = np.empty(n_kept, np.int32), np.empty(n_kept, np.int32)
    starts, rows = np.empty(2 * n_kept + 2, np.int32), np.empty(pairs.max() + 1)
    padded, sorted_ranks, ranks = np.empty(n_kept + 2 * _REACH), np.empty(n_kept), np.empty(n_kept)
    padded[:_REACH], padded[n_kept + _REACH :] = -np.inf, np.inf
    for row in range(patches.shape[0]):
        near = _members(patches[row], patch)
        if near.size < minimum:
            continue
        if not _rdm(patterns, present, weight, near, geometry, space, later_space, small, gram, found):
            continue
        # beyond the loops that follow lies no check: a value that overflowed must not reach them
        if not np.isfinite(_take(found, kept, distances)):
            continue
        values = distances
        if ranked:
            _rank(distances, keys, starts, padded, source, sorted_ranks, ranks)
            values = ranks
        length = _scaled(values, norm, pairs, rows)
        if length > 0.0:
            np.dot(models, values, products)
            for k in range(products.size):
                scores[row, k] = products[k] / length
