"""Compile the kernel for the noise ceilings of many neighborhoods, from the RDMs of all participants."""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit
from brainmap.rsa.comparison.rank_kernels import _REACH, _rank_rows
from brainmap.rsa.searchlights.kernels import CENTERED, PLAIN, WHITE, _scale_values


@njit(nogil=True, cache=True)
def _scale_rdm(values, ranked, norm, pairs, rows, keys, starts, padded, space, out):  # type: ignore[no-untyped-def]
    """Fill `out` with an RDM on the scale of the measure (ranks are centered), and return its length, 0 if constant."""
    n = values.size
    if ranked:
        _rank_rows(values, keys, starts, padded, keys[n:], space, out)
        for p in range(n):
            out[p] -= 0.5 * (n + 1)
        return np.sqrt(np.dot(out, out))
    out[:] = values
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
def compute_ceilings(rdms, pairs, ranked, norm, lower, upper):  # type: ignore[no-untyped-def]
    """Compute the ceilings of every neighborhood with RDMs of at least two participants; others are not changed.

    Parameters
    ----------
    rdms : float64 (n_participants, n_neighborhoods, n_pairs)
        The RDMs; NaN where a participant has none.
    pairs : int32 (n_pairs, 2)
        The items of each pair.
    ranked, norm : bool, int
        As in `brainmap.rsa.searchlights.kernels.score_patches`.
    lower, upper : float64 (n_neighborhoods,)
        Output arrays.
    """
    people, n = rdms.shape[0], rdms.shape[2]
    own, lengths = np.empty((people, n)), np.empty(people)
    total, pooled, scale, whole, space = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    keys, starts = np.empty(2 * n, np.int32), np.empty(2 * n + 2, np.int32)
    padded = np.empty(n + 2 * _REACH)
    padded[:_REACH], padded[n + _REACH :] = -np.inf, np.inf
    rows, more = np.empty(pairs.max() + 1), np.empty(pairs.max() + 1)
    for here in range(rdms.shape[1]):
        m = 0
        total[:] = 0.0
        for s in range(people):
            if np.isnan(rdms[s, here, 0]):
                continue
            lengths[m] = _scale_rdm(rdms[s, here], ranked, norm, pairs, rows, keys, starts, padded, space, own[m])
            if not ranked and lengths[m] > 0.0:
                for p in range(n):
                    own[m, p] /= lengths[m]
                lengths[m] = 1.0
            if ranked or lengths[m] > 0.0:
                total += own[m]
                m += 1
        if m < 2:
            continue
        best = _scale_rdm(total, ranked, norm, pairs, rows, keys, starts, padded, space, whole)
        sums, counts = np.zeros(2), np.zeros(2)
        for s in range(m):
            for side in range(2):
                if side == 0:
                    for p in range(n):
                        pooled[p] = total[p] - own[s, p]
                    length = _scale_rdm(pooled, ranked, norm, pairs, rows, keys, starts, padded, space, scale)
                    score = _multiply_rdms(scale, own[s], norm, pairs, rows, more)
                else:  # the pool of all is the same for every participant
                    length, score = best, _multiply_rdms(whole, own[s], norm, pairs, rows, more)
                if norm == PLAIN:
                    score *= 12.0 / (float(n) ** 3 - n)
                elif length > 0.0 and lengths[s] > 0.0:
                    score /= length * lengths[s]
                else:
                    score = np.nan
                if not np.isnan(score):
                    sums[side] += score
                    counts[side] += 1
        lower[here] = sums[0] / counts[0] if counts[0] > 0 else np.nan
        upper[here] = sums[1] / counts[1] if counts[1] > 0 else np.nan
