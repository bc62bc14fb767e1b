"""Compile kernels that compare the RDMs of many small patches of voxels with all models in one pass.

A patch is a row of voxel indices, so the kernels do not depend on its shape (a sphere, a disc). Kernels are `nogil` and
single-threaded; the caller runs them in threads over chunks of patches.
"""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit
from brainmap.rsa.comparison.rank_kernels import _FAST, _REACH, _rank_rows
from brainmap.rsa.searchlights.sliding_kernels import slide, write_angles, write_squared_distances

CORRELATION, COSINE, EUCLIDEAN = 0, 1, 2
PLAIN, CENTERED, RAW, WHITE, WHITE_CENTERED = range(5)
GEOMETRY: dict[str, int] = {
    "correlation": CORRELATION,
    "cosine": COSINE,
    "euclidean": EUCLIDEAN,
    "crossnobis": EUCLIDEAN,
}
NORM: dict[str, int] = {
    "spearman": CENTERED,
    "rho-a": PLAIN,
    "pearson": CENTERED,
    "cosine": RAW,
    "corr_cov": WHITE_CENTERED,
    "cosine_cov": WHITE,
}

# A pattern is constant up to rounding if its variance is below this share of its mean square.
_CONSTANT = 1e-26
# Centering equal numbers leaves rounding errors of this share of their size.
_EQUAL = 1e-13
# Number of neighborhoods whose products with the models are one product of matrices, which reads the models once.
_TOGETHER = 4


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _gather_patterns(patterns, patch, buffer):  # type: ignore[no-untyped-def]
    """Copy the patterns of a patch to `buffer` (n_runs, n_voxels, n_items)."""
    for k in range(patch.size):
        voxel = patch[k]
        for m in range(patterns.shape[1]):
            for i in range(patterns.shape[2]):
                buffer[m, k, i] = patterns[voxel, m, i]


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _standardize_columns(x, there, center, mean, scale, floor):  # type: ignore[no-untyped-def]
    """Scale each column of `x` (n_voxels, n_items) to unit length, after centering if `center`.

    The column of a missing item stays zero. Return False if the column of another item is constant.
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
            sound = sound and not there[i] > 0.0
    for k in range(n):
        for i in range(items):
            x[k, i] *= scale[i]
    return sound


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _multiply_items(x, weights, chosen, later, gram):  # type: ignore[no-untyped-def]
    """Compute the inner products of items (n_items, n_items), between the chosen runs if there are two or more.

    The sum over runs m < l of X_m' X_l is one matrix product of the runs with the sums of the later runs. If each run
    has its own weights, it is a product of the runs with the weighted sums of all other runs.
    """
    runs, n, items = x.shape
    if runs == 1:
        flat = x.reshape(n, items)
        np.dot(flat.T, flat, gram)
        return
    weighted = weights.shape[0] > 0
    blocks = runs if weighted else runs - 1
    total = later[runs]
    total[:] = 0.0
    for m in range(runs - 1, -1, -1):
        if not weighted and m < runs - 1:
            for k in range(n):
                for i in range(items):
                    later[m, k, i] = total[k, i] if chosen[m] else 0.0
        if chosen[m]:
            for k in range(n):
                for i in range(items):
                    total[k, i] += x[m, k, i]
    if weighted:
        for m in range(runs):
            for k in range(n):
                w = weights[k, m] if chosen[m] else 0.0
                for i in range(items):
                    later[m, k, i] = w * (total[k, i] - x[m, k, i])
    first = x[:blocks].reshape(blocks * n, items)
    np.dot(first.T, later[:blocks].reshape(blocks * n, items), gram)


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _write_distances(gram, factor, which, shared, own, out):  # type: ignore[no-untyped-def]
    """Write `factor` (G_ii + G_jj - G_ij - G_ji) for the pairs that share this set of runs; for all if it is first."""
    items = gram.shape[0]
    for i in range(items):
        own[i] = gram[i, i]
    start = 0
    for i in range(items - 1):
        ahead = items - 1 - i
        for j in range(ahead):
            if which == 0 or shared.of_pair[start + j] == which:
                value = own[i] + own[i + 1 + j] - gram[i, i + 1 + j] - gram[i + 1 + j, i]
                out[start + j] = factor * shared.inverse[start + j] * value
        start += ahead


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _compute_rows(x, weights, factor, shared, sums, out):  # type: ignore[no-untyped-def]
    """Compute the distances of the pairs that are not covered by a matrix product.

    With D_m the difference of two items in run m, 0 unless both are present, and weights w_m, the sum over runs of
    w_m D_m (sum D - D_m) equals sum D sum wD - sum wD^2.
    """
    runs, n, items = x.shape
    weighted = weights.shape[0] > 0
    for i in shared.rows:
        sums[3] = 0.0
        for k in range(n):
            sums[:3] = 0.0
            for m in range(runs):
                if not shared.there[m, i] > 0.0:
                    continue
                w, own = weights[k, m] if weighted else 1.0, x[m, k, i]
                for j in range(items):
                    d = shared.there[m, j] * own - x[m, k, j]
                    sums[0, j] += d
                    sums[1, j] += w * d
                    sums[2, j] += w * d * d
            for j in range(items):
                sums[3, j] += sums[0, j] * sums[1, j] - sums[2, j]
        for j in range(items):
            low, high = min(i, j), max(i, j)
            p = low * items - low * (low + 1) // 2 + high - low - 1
            if low < high and shared.of_pair[p] < 0:
                out[p] = factor * shared.inverse[p] * sums[3, j]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"}, forceinline=True)
def _take_kept(values, kept, out):  # type: ignore[no-untyped-def]
    """Copy the kept values and return the sum of their absolute values, which is not finite if one of them is not."""
    total = 0.0
    if kept.size == values.size:  # all, in their order
        for p in range(kept.size):
            out[p] = values[p]
            total += abs(values[p])
        return total
    for p in range(kept.size):
        out[p] = values[kept[p]]
        total += abs(out[p])
    return total


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _measure_divisor(values, norm):  # type: ignore[no-untyped-def]
    """Return the divisor of a product with a model: 1, the length, or the centered length; 0 if constant."""
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
def _scale_values(values, norm, pairs, rows):  # type: ignore[no-untyped-def]
    """Scale values in place so that products with models, divided by the returned length, are the scores.

    The returned length is 1 for PLAIN and 0 if the values are constant. `rows` (n_items,) is a buffer for whitened
    lengths, and `pairs` holds the two items of each value. With H the centering matrix, the squared whitened length of
    dissimilarities D (a matrix) is ||H D H||^2 / 4, which is computed from their squares and row sums.
    """
    if norm == WHITE_CENTERED:
        mean, most, apart = 0.0, 0.0, 0.0
        for p in range(values.size):
            mean += values[p]
        mean /= values.size
        for p in range(values.size):
            most = max(most, abs(values[p]))
            values[p] -= mean
            apart = max(apart, abs(values[p]))
        if apart <= _EQUAL * most:
            return 0.0
    elif norm != WHITE:
        return _measure_divisor(values, norm)
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
def _compute_rdm(given, patch, geometry, buffers, out):  # type: ignore[no-untyped-def]
    """Compute the condensed RDM of a patch; return False if a pattern is constant."""
    patterns, weights, shared, parts, power = given
    space, later_space, own_weights, small, gram, sums, before, state = buffers
    n, items = patch.size, patterns.shape[2]
    if power.size > 0:
        slide(patterns, power, patch, before, state, space, later_space, gram, sums)
        if geometry == EUCLIDEAN:
            n_products = max(shared.there.shape[0] * (shared.there.shape[0] - 1), 1)  # the same for all pairs
            write_squared_distances(gram, 1.0 / (n * n_products), out)
            return True
        if write_angles(gram, sums, n, shared.there[0], geometry == CORRELATION, small[0], out):
            return True
        state[0] = 0.0  # compute this patch directly, and the next one anew
    runs = patterns.shape[1]
    x = space[: runs * n * items].reshape(runs, n, items)
    later = later_space[: (runs + 1) * n * items].reshape(runs + 1, n, items)
    _gather_patterns(patterns, patch, x)
    here = own_weights[:0]
    if weights.shape[0] > 0:
        here = own_weights[:n]
        for k in range(n):
            for m in range(runs):
                here[k, m] = weights[patch[k], m]
    if geometry != EUCLIDEAN:
        each = n // parts
        for m in range(runs):
            for part in range(parts):
                piece = x[m, part * each : (part + 1) * each]
                if not _standardize_columns(
                    piece, shared.there[m], geometry == CORRELATION, small[0], small[1], small[2]
                ):
                    return False
    factor = 1.0 / n if geometry == EUCLIDEAN else 0.5
    scale = 2.0 * factor if runs > 1 and weights.shape[0] == 0 else factor
    for which in range(shared.sets.shape[0]):
        _multiply_items(x, here, shared.sets[which], later, gram)
        _write_distances(gram, scale, which, shared, small[0], out)
    if shared.rows.size > 0:
        _compute_rows(x, here, factor, shared, small, out)
    return True


@njit(nogil=True, cache=True)
def _make_buffers(patterns, most):  # type: ignore[no-untyped-def]
    """Allocate what `_compute_rdm` works in, for patches of at most `most` voxels."""
    runs, items = patterns.shape[1], patterns.shape[2]
    space, later_space = np.empty(runs * most * items), np.empty((runs + 1) * most * items)
    small, gram, sums = np.empty((4, items)), np.empty((items, items)), np.empty(items)
    return space, later_space, np.empty((most, runs)), small, gram, sums, np.empty(most, np.int32), np.zeros(3)


@njit(nogil=True, cache=True)
def _list_members(row, patch):  # type: ignore[no-untyped-def]
    """Return the voxels of a patch without the padding of -1."""
    n = 0
    for k in range(row.size):
        if row[k] >= 0:
            patch[n] = row[k]
            n += 1
    return patch[:n]


@njit(nogil=True, cache=True)
def compute_patch_rdms(given, patches, kept, geometry, minimum, rdms):  # type: ignore[no-untyped-def]
    """Compute the RDM of every patch; rows of `rdms` (n_patches, n_kept) of patches without an RDM are not changed.

    Parameters are those of `score_patches`.
    """
    items, most = given[0].shape[2], patches.shape[1]
    buffers, found = _make_buffers(given[0], most), np.empty(items * (items - 1) // 2)
    patch, distances = np.empty(most, np.int32), np.empty(kept.size)
    for row in range(patches.shape[0]):
        near = _list_members(patches[row], patch)
        if near.size < minimum:
            continue
        if not _compute_rdm(given, near, geometry, buffers, found):
            continue
        if np.isfinite(_take_kept(found, kept, distances)):
            for p in range(kept.size):
                rdms[row, p] = distances[p]


@njit(nogil=True, cache=True)
def _write_scores(held, models, lengths, places, n_held, products, scores):  # type: ignore[no-untyped-def]
    """Write the products of the RDMs that are held with all models, divided by their lengths."""
    np.dot(held, models.T, products)
    for row in range(n_held):
        for k in range(products.shape[1]):
            scores[places[row], k] = products[row, k] / lengths[row]


@njit(nogil=True, cache=True)
def score_patches(  # type: ignore[no-untyped-def]
    given, patches, kept, pairs, models, geometry, ranked, norm, minimum, scores, ranks
):
    """Score every patch of voxels against every model; `scores` of patches without a score are not changed.

    Parameters
    ----------
    given : tuple of float64 (n_voxels, n_runs, n_items), float64 (n_voxels or 0, n_runs), SharedRuns, int, float64
        Patterns in C order, with between-run products if n_runs > 1 (a missing item is zero in all voxels of its run);
        optional weights of each run's products with all other runs; the runs that pairs of items share; the number of
        parts of equal size in which the voxels of a patch are standardized; and, if the patterns are rows whose
        products are updated from patch to patch (`slide`), the sum of squares of each voxel, else nothing.
    patches : int32 (n_patches, n_most)
        Voxel indices in increasing order, padded with -1 anywhere.
    kept : int64 (n_kept,)
        Condensed indices of the pairs that the models have.
    pairs : int32 (n_kept, 2)
        The items of these pairs, numbered over the items that occur.
    models : float64 (n_models, n_kept)
        Model vectors, already ranked, centered and scaled for the measure.
    geometry, ranked, norm : int, bool, int
        The dissimilarity, whether ranks are compared, and the divisor of the products.
    minimum : int
        Smallest number of voxels of a patch.
    scores : float64 (n_patches, n_models)
        Output array.
    ranks : int16 or int32 (n_patches or 0, n_kept)
        Output array, where ranks are compared and wanted: those of each patch, as `rank_patch_rdms` writes them.
    """
    items, most, n_kept = given[0].shape[2], patches.shape[1], kept.size
    buffers, found = _make_buffers(given[0], most), np.empty(items * (items - 1) // 2)
    patch, distances, keys = np.empty(most, np.int32), np.empty(n_kept), np.empty(n_kept, np.int32)
    starts, rows = np.empty(2 * n_kept + 2, np.int32), np.empty(pairs[n_kept - 1, 1] + 1)
    padded, sorted_ranks = np.empty(n_kept + 2 * _REACH), np.empty(n_kept)
    held, products = np.zeros((_TOGETHER, n_kept)), np.empty((_TOGETHER, len(models)))
    lengths, places, n_held = np.empty(_TOGETHER), np.empty(_TOGETHER, np.int64), 0
    padded[:_REACH], padded[n_kept + _REACH :] = -np.inf, np.inf
    for row in range(patches.shape[0]):
        near = _list_members(patches[row], patch)
        if near.size < minimum:
            continue
        if not _compute_rdm(given, near, geometry, buffers, found):
            continue
        # the following loops have no checks, so values that overflowed must not reach them
        values = held[n_held]
        if not np.isfinite(_take_kept(found, kept, distances if ranked else values)):
            values[:] = 0.0
            continue
        if ranked:
            _rank_rows(distances, keys, starts, padded, sorted_ranks, values)
            if ranks.shape[0] > 0:
                for p in range(n_kept):
                    ranks[row, p] = int(2.0 * values[p]) - (n_kept + 1)
        lengths[n_held] = _scale_values(values, norm, pairs, rows)
        if lengths[n_held] > 0.0:
            places[n_held] = row
            n_held += 1
        if n_held == _TOGETHER:
            _write_scores(held, models, lengths, places, n_held, products, scores)
            n_held = 0
    _write_scores(held, models, lengths, places, n_held, products, scores)
