"""Compute distances from products of different runs, for each pair of items over exactly the runs that both have.

If a distance were combined from inner products averaged over different pairs of runs, changes that all patterns of a
run share (an offset, a decaying response) would affect it. Differences of patterns within a run do not contain them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

_Side = tuple[slice, NDArray[np.bool_]]  # consecutive items, and the runs that they have
_CALL = 50_000  # overhead of a product of small matrices, in multiplications
_PASS = 8  # cost of reading one number from memory, in multiplications of a matrix product


def compute_paired_distances(first: Floats, second: Floats | None = None, *, symmetric: bool = True) -> Floats:
    """Compute condensed distances as the mean of products of different runs.

    d_ij is the mean of (first_i - first_j)_m' (second_i - second_j)_l over the ordered pairs of different runs m, l
    that both items have.

    Parameters
    ----------
    first, second : array (n_runs, n_items, n_units)
        Rows of NaN are missing. Without `second`, both factors are `first`.
    symmetric : bool
        Whether first_m' second_l is the transpose of first_l' second_m, as with one precision for all runs.

    Returns
    -------
    array (n_items * (n_items - 1) / 2,)
        A value is NaN where two items share fewer than two runs.
    """
    there = ~np.isnan(first.sum(axis=-1))
    if there.all():
        sets, which, order = there[:, :1], np.zeros(there.shape[1], np.intp), None
    else:
        sets, which = np.unique(there, axis=1, return_inverse=True)
        which = which.ravel()
        order = np.argsort(which, kind="stable")
    by_pairs, by_sets = _estimate_costs(there, sets, which, first.shape[-1], sides=1 if symmetric else 2)
    if by_sets <= by_pairs:
        one = _subtract_first_present(first, there, order)
        other = one if second is None else _subtract_first_present(second, there, order)
        return _average_by_sets(one, other, sets, which, order, symmetric=symmetric)
    one = _subtract_first_present(first, there)
    other = one if second is None else _subtract_first_present(second, there)

    def products(m: int, n: int, items: NDArray[np.intp]) -> Iterator[Floats]:
        yield one[m, items] @ other[n, items].T
        if not symmetric:
            yield one[n, items] @ other[m, items].T

    return _average_over_run_pairs(there, products)


def compute_weighted_distances(x: Floats, metric: Callable[[int, int], Floats]) -> Floats:
    """Compute paired distances with separate weights `metric(m, l)` (n_units, n_units) per pair of runs m < l."""
    there = ~np.isnan(x.sum(axis=-1))
    free = _subtract_first_present(x, there)

    def products(m: int, n: int, items: NDArray[np.intp]) -> Iterator[Floats]:
        yield free[m, items] @ metric(m, n) @ free[n, items].T

    return _average_over_run_pairs(there, products)


def _subtract_first_present(x: Floats, there: NDArray[np.bool_], order: NDArray[np.intp] | None = None) -> Floats:
    """Subtract from each run's patterns the first one that is present, to keep the precision of their differences.

    Missing patterns become 0, and the items are reordered if `order` is given.
    """
    shared = x[np.arange(len(x)), there.argmax(axis=1)][:, None]
    if order is None:
        free = x - shared
    else:
        free, there = x[:, order], there[:, order]
        free -= shared
    if not there.all():
        free[~there] = 0.0
    return np.asarray(free)


def _estimate_costs(
    there: NDArray[np.bool_], sets: NDArray[np.bool_], which: NDArray[np.intp], n_units: int, *, sides: int
) -> tuple[float, float]:
    """Estimate the cost of both algorithms (by pairs of runs, by sets of runs), in multiplications."""
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


def _average_over_run_pairs(
    there: NDArray[np.bool_], products: Callable[[int, int, NDArray[np.intp]], Iterator[Floats]]
) -> Floats:
    """Average distances over pairs of runs, from the inner products of the items that both runs of a pair have."""
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


def _average_by_sets(
    one: Floats,
    other: Floats,
    sets: NDArray[np.bool_],
    which: NDArray[np.intp],
    order: NDArray[np.intp] | None,
    *,
    symmetric: bool,
) -> Floats:
    """Average distances over pairs of runs, for sets of consecutive items that have the same runs.

    For two such sets, the sum over pairs of different shared runs equals the product of the sums over these runs minus
    the sum of the products within each run.
    """
    n_items, n_sets = one.shape[1], sets.shape[1]
    sums = _Sums(one, other)
    if order is None:
        order = np.arange(n_items)
    edges = np.searchsorted(which[order], np.arange(n_sets + 1))
    found = np.full((n_items, n_items), np.nan)
    for a in range(n_sets):
        for b in range(a, n_sets):
            shared = sets[:, a] & sets[:, b]
            left, right = slice(edges[a], edges[a + 1]), slice(edges[b], edges[b + 1])
            n = int(shared.sum())
            if n < 2 or (a == b and edges[a + 1] - edges[a] < 2):
                continue
            if a == b:
                kernel = sums.across(shared, (left, shared), (left, shared))
                own = np.diagonal(kernel)
                block = own[:, None] + own - kernel - kernel.T
            else:
                one_side, other_side = (left, sets[:, a]), (right, sets[:, b])
                kernel = sums.across(shared, one_side, other_side)
                back = kernel if symmetric else sums.across(shared, other_side, one_side).T
                own = sums.own(shared, *one_side)[:, None] + sums.own(shared, *other_side)
                block = own - kernel - back
            block = block / (n * (n - 1))
            found[np.ix_(order[left], order[right])] = block
            if a != b:
                found[np.ix_(order[right], order[left])] = block.T
    return np.asarray(found[np.triu_indices(n_items, 1)])


class _Sums:
    """Compute sums over runs of patterns, which are 0 where they are missing, and of their products."""

    def __init__(self, one: Floats, other: Floats) -> None:
        self.factors = one, other
        total = one.sum(axis=0)
        self.totals = total, (total if other is one else other.sum(axis=0))
        self.powers: Floats | None = None

    def across(self, shared: NDArray[np.bool_], one: _Side, other: _Side) -> Floats:
        """Sum the products of different runs between the items of two sets, `(n_one, n_other)`."""
        x, y = self.factors
        total = self._sum_runs(0, shared, *one) @ self._sum_runs(1, shared, *other).T
        for run in np.flatnonzero(shared):
            total -= x[run, one[0]] @ y[run, other[0]].T
        return np.asarray(total)

    def own(self, shared: NDArray[np.bool_], items: slice, runs: NDArray[np.bool_]) -> Floats:
        """Sum the products of different runs of each item with itself."""
        if self.powers is None:
            self.powers = np.einsum("riu,riu->ri", *self.factors)
        first, second = (self._sum_runs(k, shared, items, runs) for k in (0, 1))
        return np.asarray(np.einsum("iu,iu->i", first, second) - self.powers[shared, items].sum(axis=0))

    def _sum_runs(self, factor: int, shared: NDArray[np.bool_], items: slice, runs: NDArray[np.bool_]) -> Floats:
        """Sum patterns over the shared runs, starting from the sum over all runs that the items have."""
        total: Floats = self.totals[factor][items]
        for run in np.flatnonzero(runs & ~shared):
            total = total - self.factors[factor][run, items]
        return total
