"""Distances from products of different runs, of each pair of items over exactly the runs that both have.

Were a distance put together from inner products that are means over different pairs of runs, whatever changes from run
to run in all patterns alike (a response that wanes, an offset) would enter it; differences within a run are free of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CALL = 50_000  # multiplications that a product of small matrices costs beside its own
_PASS = 8  # multiplications of a matrix product that one number read from memory takes the time of


def paired_distances(first: Floats, second: Floats | None = None, *, symmetric: bool = True) -> Floats:
    """Condensed distances: the mean over ordered pairs of different runs m, l that both items have of
    (first_i - first_j)_m' (second_i - second_j)_l.

    Parameters
    ----------
    first, second : array (n_runs, n_items, n_units)
        Rows of NaN are missing. Without a second, the factors are the same.
    symmetric : bool
        Whether first_m' second_l is the transpose of first_l' second_m, as with one precision for all runs.

    Returns
    -------
    array (n_items * (n_items - 1) / 2,)
        NaN where two items share fewer than two runs.
    """
    there = ~np.isnan(first.sum(axis=-1))
    one = _free_of_shared(first, there)
    other = one if second is None else _free_of_shared(second, there)
    sets, which = np.unique(there, axis=1, return_inverse=True)
    by_pairs, by_sets = _costs(there, sets, which.ravel(), first.shape[-1], sides=1 if symmetric else 2)
    if by_sets <= by_pairs:
        return _by_sets(one, other, sets, which.ravel(), symmetric=symmetric)

    def products(m: int, n: int, items: NDArray[np.intp]) -> Iterator[Floats]:
        yield one[m, items] @ other[n, items].T
        if not symmetric:
            yield one[n, items] @ other[m, items].T

    return _mean_over_run_pairs(there, products)


def weighted_distances(x: Floats, metric: Callable[[int, int], Floats]) -> Floats:
    """As `paired_distances`, where each pair of runs m < l has weights `metric(m, l)` (n_units, n_units) of its own."""
    there = ~np.isnan(x.sum(axis=-1))
    free = _free_of_shared(x, there)

    def products(m: int, n: int, items: NDArray[np.intp]) -> Iterator[Floats]:
        yield free[m, items] @ metric(m, n) @ free[n, items].T

    return _mean_over_run_pairs(there, products)


def _free_of_shared(x: Floats, there: NDArray[np.bool_]) -> Floats:
    """Each run's patterns less the first that it has, missing ones 0: differences stay, and keep their digits."""
    free = np.where(there[..., None], x, 0.0)
    for run, present in zip(free, there, strict=True):
        if present.any():
            run -= run[int(np.argmax(present))].copy()
            run[~present] = 0.0
    return free


def _costs(
    there: NDArray[np.bool_], sets: NDArray[np.bool_], which: NDArray[np.intp], n_units: int, *, sides: int
) -> tuple[float, float]:
    """About how long both forms take, in multiplications of a matrix product."""
    shared = there.astype(float) @ there.T.astype(float)
    of_runs = shared[np.triu_indices(len(there), 1)]
    by_pairs = float((sides * (of_runs**2 + 2 * _PASS * of_runs) * n_units + _CALL).sum())
    size = np.bincount(which).astype(float)
    common = sets.T.astype(float) @ sets.astype(float)
    a, b = np.triu_indices(len(size))
    n, apart = common[a, b], a != b
    products = (n + 1) * size[a] * size[b] * np.where(apart, sides, 1)
    by_sets = float(((products + _PASS * 2 * n * (size[a] + size[b])) * n_units + _CALL * (n + 1)).sum())
    return by_pairs, by_sets


def _mean_over_run_pairs(
    there: NDArray[np.bool_], products: Callable[[int, int, NDArray[np.intp]], Iterator[Floats]]
) -> Floats:
    """From the inner products of the items that both runs of a pair have, pair by pair."""
    n_runs, n_items = there.shape
    total, count = np.zeros((2, n_items, n_items))
    for m in range(n_runs):
        for n in range(m + 1, n_runs):
            items = np.flatnonzero(there[m] & there[n])
            if len(items) < 2:
                continue
            block = np.ix_(items, items)
            for kernel in products(m, n, items):
                own = np.diagonal(kernel)
                total[block] += own[:, None] + own - kernel - kernel.T
                count[block] += 1.0
    i, j = np.triu_indices(n_items, 1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1.0), np.nan)[i, j])


def _by_sets(
    one: Floats, other: Floats, sets: NDArray[np.bool_], which: NDArray[np.intp], *, symmetric: bool
) -> Floats:
    """Items with the same runs are taken together: of two such sets the sum over pairs of the shared runs is the
    product of the sums over runs less the products within runs.
    """
    n_items, n_sets = one.shape[1], sets.shape[1]
    order = np.argsort(which, kind="stable")
    if n_sets > 1:
        one, other = one[:, order], (one if other is one else other)[:, order]
    edges = np.searchsorted(which[order], np.arange(n_sets + 1))
    found = np.full((n_items, n_items), np.nan)
    for a in range(n_sets):
        for b in range(a, n_sets):
            runs = np.flatnonzero(sets[:, a] & sets[:, b])
            left, right = slice(edges[a], edges[a + 1]), slice(edges[b], edges[b + 1])
            if len(runs) < 2 or (a == b and edges[a + 1] - edges[a] < 2):
                continue
            block = _of_two_sets(one, other, runs, (left, right), symmetric) / (len(runs) * (len(runs) - 1))
            found[np.ix_(order[left], order[right])] = block
            found[np.ix_(order[right], order[left])] = block.T
    return np.asarray(found[np.triu_indices(n_items, 1)])


def _of_two_sets(
    one: Floats, other: Floats, runs: NDArray[np.intp], sides: tuple[slice, slice], symmetric: bool
) -> Floats:
    """The sums over ordered pairs of these runs `(n_left, n_right)`."""

    def summed(x: Floats, side: slice) -> Floats:
        total = x[runs[0], side].copy()
        for run in runs[1:]:
            total += x[run, side]
        return total

    def across(left: slice, right: slice) -> Floats:
        total = sums[left.start][0] @ sums[right.start][1].T
        for run in runs:
            total -= one[run, left] @ other[run, right].T
        return total

    def own(side: slice) -> Floats:
        total = np.einsum("iu,iu->i", *sums[side.start])
        for run in runs:
            total -= np.einsum("iu,iu->i", one[run, side], other[run, side])
        return np.asarray(total)

    left, right = sides
    sums = {}
    for side in {left.start: left, right.start: right}.values():
        mine = summed(one, side)
        sums[side.start] = (mine, mine if other is one else summed(other, side))
    kernel = across(left, right)
    if left == right:
        diagonal = np.diagonal(kernel)
        return np.asarray(diagonal[:, None] + diagonal - kernel - kernel.T)
    return np.asarray(own(left)[:, None] + own(right) - kernel - (kernel if symmetric else across(right, left).T))
