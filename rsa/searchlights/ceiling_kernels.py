"""Compile the kernel for the noise ceilings of many neighborhoods, from the RDMs of all participants."""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit
from brainmap.rsa.comparison.rank_kernels import _FAST, _REACH, _rank_rows
from brainmap.rsa.searchlights.kernels import (
    CENTERED,
    PLAIN,
    WHITE,
    _compute_rdm,
    _list_members,
    _make_buffers,
    _scale_values,
    _take_kept,
)


@njit(nogil=True, cache=True)
def rank_patch_rdms(given, patches, kept, geometry, minimum, ranks, there):  # type: ignore[no-untyped-def]
    """Rank the RDM of every patch; rows of patches without an RDM are not changed.

    Parameters
    ----------
    given, patches, kept, geometry, minimum
        As in `brainmap.rsa.searchlights.kernels.score_patches`.
    ranks : int16 or int32 (n_patches, n_kept)
        Output array: twice the distance of each tie-averaged rank from the mean rank, an integer.
    there : bool (n_patches,)
        Output array: True for patches with an RDM.
    """
    items, most, n = given[0].shape[2], patches.shape[1], kept.size
    buffers, found = _make_buffers(given[0], most), np.empty(items * (items - 1) // 2)
    patch, distances, own, space = np.empty(most, np.int32), np.empty(n), np.empty(n), np.empty(n)
    keys, starts = np.empty(n, np.int32), np.empty(2 * n + 2, np.int32)
    padded = np.empty(n + 2 * _REACH)
    padded[:_REACH], padded[n + _REACH :] = -np.inf, np.inf
    for row in range(patches.shape[0]):
        near = _list_members(patches[row], patch)
        if near.size < minimum:
            continue
        if not _compute_rdm(given, near, geometry, buffers, found):
            continue
        if not np.isfinite(_take_kept(found, kept, distances)):
            continue
        _rank_rows(distances, keys, starts, padded, space, own)
        for p in range(n):
            ranks[row, p] = int(2.0 * own[p]) - (n + 1)
        there[row] = True


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _rank_integers(values, table, out):  # type: ignore[no-untyped-def]
    """Write the doubled and centered ranks of integers, and return the sum of their squares.

    Each integer is counted in `table`: where c values are equal and b smaller, twice their mean rank is 2 b + c + 1.
    """
    n = values.size
    low, high, mixed = values[0], values[0], 0
    for p in range(n):
        value = values[p]
        low = value if value < low else low
        high = value if value > high else high
        mixed |= value ^ values[0]
    shift = 1 - (mixed & 1)  # sums of ranks without ties are all even, or all odd
    bins = ((high - low) >> shift) + 1
    for v in range(bins):
        table[v] = 0
    for p in range(n):
        out[p] = (values[p] - low) >> shift
        table[out[p]] += 1
    below = 0
    for v in range(bins):
        count = table[v]
        table[v] = 2 * below + count - n
        below += count
    power = 0.0
    for p in range(n):
        rank = table[out[p]]
        out[p] = rank
        power += float(rank) * float(rank)
    return power


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _multiply_integers(one, other):  # type: ignore[no-untyped-def]
    product = 0.0
    for p in range(one.size):
        product += float(one[p]) * float(other[p])
    return product


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _subtract(one, other, out):  # type: ignore[no-untyped-def]
    for p in range(one.size):
        out[p] = one[p] - other[p]


@njit(nogil=True, cache=True, fastmath=_FAST, forceinline=True)
def _add_ranks(ranks, total):  # type: ignore[no-untyped-def]
    """Add ranks to their total, and return the sum of their squares."""
    power = 0.0
    for p in range(ranks.size):
        total[p] += ranks[p]
        power += float(ranks[p]) * float(ranks[p])
    return power


@njit(nogil=True, cache=True)
def compute_ranked_ceilings(ranks, there, norm, lower, upper):  # type: ignore[no-untyped-def]
    """Compute the ceilings of every neighborhood with ranked RDMs of two participants or more; others do not change.

    All sums are of integers, or of their quarters, and exact.

    Parameters
    ----------
    ranks : int16 or int32 (n_participants, n_neighborhoods, n_pairs)
        As `rank_patch_rdms` writes them.
    there : bool (n_participants, n_neighborhoods)
        Whether a participant has an RDM.
    norm : int
        PLAIN for rho-a, CENTERED for Spearman's correlation.
    lower, upper : float64 (n_neighborhoods,)
        Output arrays.
    """
    people, n = ranks.shape[0], ranks.shape[2]
    total, pooled, whole, mine = (
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
    )
    table, powers = np.empty(2 * people * n + 1, np.int32), np.empty(people)
    for here in range(ranks.shape[1]):
        m = 0
        total[:] = 0
        for s in range(people):
            if there[s, here]:
                powers[s] = _add_ranks(ranks[s, here], total)
                m += 1
        if m < 2:
            continue
        best = _rank_integers(total, table, whole)
        sums, counts = np.zeros(2), np.zeros(2)
        for s in range(people):
            if not there[s, here]:
                continue
            _subtract(total, ranks[s, here], pooled)
            for side in range(2):
                if side == 0:
                    power = _rank_integers(pooled, table, mine)
                    score = 0.25 * _multiply_integers(mine, ranks[s, here])
                else:  # the pool of all is the same for every participant
                    power, score = best, 0.25 * _multiply_integers(whole, ranks[s, here])
                if norm == PLAIN:
                    score *= 12.0 / (float(n) ** 3 - n)
                elif power > 0.0 and powers[s] > 0.0:
                    score /= np.sqrt(0.25 * power) * np.sqrt(0.25 * powers[s])
                else:
                    continue
                sums[side] += score
                counts[side] += 1
        lower[here] = sums[0] / counts[0] if counts[0] > 0 else np.nan
        upper[here] = sums[1] / counts[1] if counts[1] > 0 else np.nan


@njit(nogil=True, cache=True)
def _scale_rdm(values, norm, pairs, rows, out):  # type: ignore[no-untyped-def]
    """Fill `out` with an RDM on the scale of the measure, and return its length, 0 if constant."""
    n = values.size
    for p in range(n):
        out[p] = values[p]
    length = _scale_values(out, norm, pairs, rows)
    if norm < WHITE:  # only the length is known so far
        mean = out.mean() if norm == CENTERED else 0.0
        for p in range(n):
            out[p] -= mean
    return length


@njit(nogil=True, cache=True)
def _multiply_rdms(one, other, norm, pairs, rows, more):  # type: ignore[no-untyped-def]
    """Compute the inner product of two RDMs, plain or under the inverse covariance of dissimilarities."""
    plain = np.dot(one, other)
    if norm < WHITE:
        return plain
    rows[:], more[:] = 0.0, 0.0
    for p in range(one.size):
        rows[pairs[p, 0]] += one[p]
        rows[pairs[p, 1]] += one[p]
        more[pairs[p, 0]] += other[p]
        more[pairs[p, 1]] += other[p]
    n = rows.size
    return 0.25 * (2.0 * plain - 2.0 * np.dot(rows, more) / n + rows.sum() * more.sum() / n**2)


@njit(nogil=True, cache=True)
def compute_ceilings(rdms, pairs, norm, lower, upper):  # type: ignore[no-untyped-def]
    """Compute the ceilings of every neighborhood with RDMs of at least two participants; others are not changed.

    Parameters
    ----------
    rdms : float64 (n_participants, n_neighborhoods, n_pairs)
        The RDMs; NaN where a participant has none.
    pairs : int32 (n_pairs, 2)
        The items of each pair.
    norm : int
        As in `brainmap.rsa.searchlights.kernels.score_patches`, for measures that are not ranked.
    lower, upper : float64 (n_neighborhoods,)
        Output arrays.
    """
    people, n = rdms.shape[0], rdms.shape[2]
    own, total, pooled, scale, whole = np.empty((people, n)), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    rows, more = np.empty(pairs.max() + 1), np.empty(pairs.max() + 1)
    for here in range(rdms.shape[1]):
        m = 0
        total[:] = 0.0
        for s in range(people):
            if np.isnan(rdms[s, here, 0]):
                continue
            length = _scale_rdm(rdms[s, here], norm, pairs, rows, own[m])
            if length > 0.0:
                for p in range(n):
                    own[m, p] /= length
                total += own[m]
                m += 1
        if m < 2:
            continue
        best = _scale_rdm(total, norm, pairs, rows, whole)
        sums, counts = np.zeros(2), np.zeros(2)
        for s in range(m):
            for side in range(2):
                if side == 0:
                    for p in range(n):
                        pooled[p] = total[p] - own[s, p]
                    length = _scale_rdm(pooled, norm, pairs, rows, scale)
                    score = _multiply_rdms(scale, own[s], norm, pairs, rows, more)
                else:  # the pool of all is the same for every participant
                    length, score = best, _multiply_rdms(whole, own[s], norm, pairs, rows, more)
                if length > 0.0 and not np.isnan(score / length):
                    sums[side] += score / length
                    counts[side] += 1
        lower[here] = sums[0] / counts[0] if counts[0] > 0 else np.nan
        upper[here] = sums[1] / counts[1] if counts[1] > 0 else np.nan
