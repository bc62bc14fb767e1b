"""Compute dissimilarities within one set of patterns in one pass over blocks of units.

Inner products are sums over units, so each block is processed once while it is in the processor's cache, and the
patterns may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_ranges
from brainmap.errors import InputError
from brainmap.types import Floats

Blocks = Iterable[tuple[Floats, Floats]]  # patterns (n_items, k), and the sum of each over its k units
CONSTANT = 1e-13
"""A pattern counts as constant if its length after centering is below this share of its length before."""

_MOST_CANCELLED = 0.99  # share of a pattern's power that lies in its mean, above which products lose two digits


def compute_in_one_pass(
    blocks: Blocks, dissimilarity: str, *, prior: tuple[float, float]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute the condensed dissimilarities of one set of patterns, and flag those that are constant (cosine: zero).

    Parameters
    ----------
    blocks : iterable of (array (n_items, k), array (n_items,))
        All units of the patterns, in blocks of any width, with the sum of each row. The dissimilarities of a missing
        pattern (NaN) are NaN.
    dissimilarity : {"correlation", "cosine", "euclidean", "poisson"}
    prior : (lambda, weight)
        The prior of poisson.

    Raises
    ------
    InputError
        There are no units, or rates of poisson are negative, or zero without a prior.
    """
    products = _Products(dissimilarity, prior)
    for block, sums in blocks:
        if block.shape[1]:
            products.add(block, sums)
    return products.distances()


def compute_log_rates(x: Floats, prior: tuple[float, float]) -> tuple[Floats, Floats]:
    """Compute Poisson rates `(x + lambda * weight) / (1 + weight)` and their logarithms; NaN stays NaN.

    Raises
    ------
    InputError
        A value is negative, a value is zero without a prior, or the prior is negative.
    """
    strength, weight = prior
    check_ranges(
        "poisson",
        ("prior_lambda of 0 or more", strength, strength >= 0),
        ("prior_weight of 0 or more", weight, weight >= 0),
    )
    least = float(np.nanmin(x, initial=np.inf))
    if least < 0:
        raise InputError(
            f"poisson: expected rates or counts, got negative values (least {least:.4g}); take patterns that are "
            "neither z-scored nor centered, or choose 'euclidean'"
        )
    rates = (x + strength * weight) / (1 + weight)
    if least + strength * weight <= 0:
        raise InputError(
            "poisson: expected rates above 0, got some of 0 without a prior; set prior_lambda and prior_weight above 0"
        )
    return rates, np.log(rates)


class _Products:
    """Accumulate inner products of patterns over blocks of units."""

    def __init__(self, dissimilarity: str, prior: tuple[float, float]) -> None:
        self.dissimilarity, self.prior = dissimilarity, prior
        self.total: Floats = np.zeros((0, 0))
        self.missing: NDArray[np.bool_] = np.zeros(0, bool)
        self.means: list[Floats] = []
        self.sizes: list[int] = []
        self._center_first = False

    def add(self, given: Floats, sums: Floats) -> None:
        """Add the next block of units of all patterns."""
        x = given
        if not self.sizes:
            self.total, self.missing = np.zeros((len(x), len(x))), np.zeros(len(x), bool)
        absent = np.isnan(sums)
        if absent.any():
            self.missing |= absent
            x, sums = np.where(absent[:, None], 0.0, x), np.where(absent, 0.0, sums)
        self.sizes.append(x.shape[1])
        if self.dissimilarity == "correlation":
            self.total += self._multiply_centered(x, sums / x.shape[1])
        elif self.dissimilarity == "cosine":
            self.total += x @ x.T
        elif self.dissimilarity == "euclidean":
            x = _subtract_one_pattern(x, absent)
            self.total += x @ x.T
        else:
            rates, logs = (np.where(absent[:, None], 0.0, y) for y in compute_log_rates(given, self.prior))
            self.total += _subtract_one_pattern(rates, absent) @ _subtract_one_pattern(logs, absent).T

    def _multiply_centered(self, x: Floats, mean: Floats) -> Floats:
        """Compute the products of patterns minus their means over this block, and keep the means.

        Subtracting the means from the products costs nothing and is precise enough unless patterns have a large
        offset. In that case this block and all later ones are centered first, which costs a copy.
        """
        n = x.shape[1]
        if not self._center_first:
            products: Floats = x @ x.T
            self._center_first = bool((n * mean**2 > _MOST_CANCELLED * np.diagonal(products)).any())
        if self._center_first:
            mean = x.mean(axis=1)  # pairwise sums, which are more exact
            x = x - mean[:, None]
            products = x @ x.T
        else:
            products -= np.outer(n * mean, mean)
        self.means.append(mean)
        return products

    def distances(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Compute the dissimilarity of each pair from the accumulated products, and flag constant patterns."""
        n_units = sum(self.sizes)
        if n_units == 0:
            raise InputError("dissimilarities: expected patterns of at least one unit, got none")
        i, j = np.triu_indices(len(self.total), 1)
        gram, undirected = self.total, np.zeros(len(self.total), bool)
        if self.dissimilarity in ("correlation", "cosine"):
            length, undirected = self._compute_lengths(gram)
            vector = 1.0 - gram[i, j] / (length[i] * length[j])
        else:
            own = np.diagonal(gram)
            vector = (own[i] + own[j] - gram[i, j] - gram[j, i]) / n_units
        vector[self.missing[i] | self.missing[j]] = np.nan
        return vector, undirected & ~self.missing

    def _compute_lengths(self, gram: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Compute the length of each pattern, NaN if constant; correlation adds the variation of the block means."""
        floor = np.zeros(len(gram))
        if self.dissimilarity == "correlation":
            means, sizes = np.array(self.means), np.array(self.sizes, float)[:, None]
            mean = (sizes * means).sum(axis=0) / sizes.sum()
            between = (means - mean) * np.sqrt(sizes)
            gram += between.T @ between
            floor = CONSTANT**2 * (np.diagonal(gram) + sizes.sum() * mean**2)
        power = np.diagonal(gram)
        undirected = ~(power > floor)
        return np.sqrt(np.where(undirected, np.nan, power)), undirected


def _subtract_one_pattern(x: Floats, absent: NDArray[np.bool_]) -> Floats:
    """Subtract one of the patterns from all if they share a large common pattern.

    Differences do not change, and their products keep more digits. Patterns without a large common part are returned
    as they are. One of the patterns is subtracted rather than the mean, so that small integers stay exact and equal
    distances of category models stay equal.
    """
    there = np.flatnonzero(~absent)
    if not len(there):
        return x
    shared = x.sum(axis=0)
    if shared @ shared < _MOST_CANCELLED * len(there) * np.einsum("iu,iu->", x, x):
        return x
    free: Floats = x - x[there[0]]
    free[absent] = 0.0
    return free
