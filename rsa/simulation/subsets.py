"""Search the subset of items whose pairs tell two RDMs apart best, by greedy addition and by exchanges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import refuse_some
from brainmap.errors import InputError
from brainmap.types import Balance, Floats

LEAST = 4  # items; three have three pairs, whose correlation says little
Indices: TypeAlias = NDArray[np.intp]
Criterion: TypeAlias = "Callable[[Moments], Floats]"

_SEEDED = 3  # items drawn at random, from which a search begins

_GAIN = 1e-10  # smaller gains of an exchange are rounding error

_CONSTANT = 1e-9  # RDMs with a smaller product of standard deviations are constant over the pairs

_PRODUCTS = ((0, 0), (1, 1), (0, 1))  # A A, B B, A B


class Groups(NamedTuple):
    """Hold the group of each candidate, and the number of items to choose from each group (one without balance)."""

    of: Indices
    quota: Indices


class Moments(NamedTuple):
    """Hold moments of two RDMs over pairs, as in the notes of `choose_items`; r is 1 where one of them is constant."""

    sd_a: Floats
    sd_b: Floats
    r: Floats
    g: Floats


def share_items(n: int, conditions: Sequence[str], n_candidates: int, balance: Balance) -> Groups:
    """Share the items out over conditions."""
    if balance == "none":
        return Groups(np.zeros(n_candidates, dtype=np.intp), np.array([n]))
    if not conditions:
        raise InputError(
            "choose_items: expected RDMs with the descriptor 'condition' for balance='condition', got none; compute "
            "RDMs of stimuli with conditions, or choose balance='none'"
        )
    known, of, sizes = np.unique(conditions, return_inverse=True, return_counts=True)
    each, over = divmod(n, len(known))
    if over or not each:
        near = [k * len(known) for k in (each, each + 1) if LEAST <= k * len(known) < n_candidates]
        advice = f"choose {' or '.join(map(str, near))}, or" if near else "choose"
        raise InputError(
            f"choose_items: expected n that is a multiple of the {len(known)} conditions for balance='condition', got "
            f"{n}; {advice} balance='none'"
        )
    refuse_some(
        [f"{name} ({size})" for name, size in zip(known, sizes, strict=True) if size < each],
        f"choose_items: expected {each} candidates or more of each condition for n={n}, got fewer of ",
        "; choose fewer items, add candidates, or choose balance='none'",
    )
    return Groups(of, np.full(len(known), each))


def build_terms(vectors: Floats, n_items: int, names: Sequence[str]) -> Floats:
    """Build the matrices A, B, A^2, B^2 and A B of standardized RDMs, `(5, n_items, n_items)` with diagonals of 0."""
    for name, vector in zip(names, vectors, strict=True):
        if not np.isfinite(vector).all():
            raise InputError(
                f"choose_items: the RDM of {name!r} has {np.count_nonzero(~np.isfinite(vector))} missing pairs; leave "
                "out the items that lack them"
            )
        if vector.std() <= 1e-9 * np.abs(vector).max():
            raise InputError(
                f"choose_items: all items are equally far apart in {name!r}, so that no choice can tell it apart; "
                "choose another layer"
            )
    a, b = (vectors - vectors.mean(axis=1, keepdims=True)) / vectors.std(axis=1, keepdims=True)
    terms = np.zeros((5, n_items, n_items))
    i, j = np.triu_indices(n_items, 1)
    terms[:, i, j] = terms[:, j, i] = np.stack([a, b, a * a, b * b, a * b])
    return terms


def compute_moments(sums: Floats, squares: Floats, n: int) -> Moments:
    """Compute moments of n items from the sums of the five terms over pairs, and the squares of the sums of rows.

    `squares` has the sums over items of R_A R_A, R_B R_B and R_A R_B, where R are the sums of the rows of A and B.
    """
    n_pairs = n * (n - 1) // 2
    a, b, aa, bb, ab = sums / n_pairs
    sd_a, sd_b = np.sqrt(np.maximum(aa - a * a, 0.0)), np.sqrt(np.maximum(bb - b * b, 0.0))
    varies = sd_a * sd_b > _CONSTANT
    u, v = np.where(varies, sd_a, 1.0), np.where(varies, sd_b, 1.0)
    r = np.clip(np.where(varies, (ab - a * b) / (u * v), 1.0), -1.0, 1.0)
    own_a, own_b, both = squares - n * (n - 1) ** 2 * np.stack([a * a, b * b, a * b])
    g = np.maximum(own_a / u**2 + own_b / v**2 - 2 * both / (u * v), 0.0) / (4 * n_pairs)
    return Moments(sd_a, sd_b, r, np.where(varies, g, 0.0))


def compute_d(moments: Moments) -> Floats:
    """Compute d, the criterion of `choose_items`; it is 0 where one of the RDMs is constant."""
    unlike = 1 - moments.r
    length = np.sqrt(unlike + moments.g)
    return np.asarray(np.minimum(moments.sd_a, moments.sd_b) * unlike / np.where(length > 0, length, 1.0))


def compute_unlikeness(moments: Moments) -> Floats:
    """Compute the criterion of the least correlated RDMs, with which `choose_items` compares its own."""
    return np.asarray(-moments.r)


def _multiply_rows(x: Floats, y: Floats) -> Floats:
    """Sum over items, the axis 1 of arrays `(2, n_items, ...)`, the products A A, B B and A B."""
    return np.stack([(x[k] * y[m]).sum(axis=0) for k, m in _PRODUCTS])


def measure_items(terms: Floats, items: Indices) -> Moments:
    """Compute the moments over the pairs of items."""
    rows = terms[:, items[:, None], items].sum(axis=2)
    return compute_moments(rows.sum(axis=1) / 2, _multiply_rows(rows[:2], rows[:2]), len(items))


def draw_items(groups: Groups, rng: np.random.Generator) -> Indices:
    """Draw items at random with the quota of each group."""
    drawn = [rng.choice(np.flatnonzero(groups.of == k), size, replace=False) for k, size in enumerate(groups.quota)]
    return np.sort(np.concatenate(drawn))


def search_items(terms: Floats, groups: Groups, criterion: Criterion, rng: np.random.Generator) -> Indices:
    """Search the items with the largest criterion from a random start: add the best ones, then exchange."""
    start = rng.permutation(draw_items(groups, rng))[:_SEEDED]
    chosen = _exchange_items(terms, groups, criterion, _add_items(terms, groups, criterion, start))
    return np.sort(chosen)


def _add_items(terms: Floats, groups: Groups, criterion: Criterion, start: Indices) -> Indices:
    """Add the best item, one by one, until every group has its quota."""
    chosen = start
    left = groups.quota - np.bincount(groups.of[start], minlength=len(groups.quota))
    while left.any():
        rows = terms[:, :, chosen].sum(axis=2)
        total = rows[:, chosen].sum(axis=1) / 2
        longer = rows[:2, chosen, None] + terms[:2, chosen]  # sums of the chosen rows with each candidate added
        squares = _multiply_rows(longer, longer) + _multiply_rows(rows[:2, None], rows[:2, None])
        values = criterion(compute_moments(total[:, None] + rows, squares, len(chosen) + 1))
        free = left[groups.of] > 0
        free[chosen] = False
        best = int(np.where(free, values, -np.inf).argmax())
        chosen = np.append(chosen, best)
        left[groups.of[best]] -= 1
    return chosen


def _exchange_items(terms: Floats, groups: Groups, criterion: Criterion, chosen: Indices) -> Indices:
    """Make the best exchange of a chosen item for another one of its group as long as the criterion grows."""
    chosen, best = chosen.copy(), float(criterion(measure_items(terms, chosen)))
    while True:
        others = np.setdiff1d(np.arange(len(groups.of)), chosen)
        values = criterion(measure_exchanges(terms, chosen, others))
        values = np.where(groups.of[chosen][:, None] == groups.of[others], values, -np.inf)
        out, into = np.unravel_index(values.argmax(), values.shape)
        if not values[out, into] > best + _GAIN:
            return chosen
        chosen[out], best = others[into], float(values[out, into])


def measure_exchanges(terms: Floats, chosen: Indices, others: Indices) -> Moments:
    """Compute the moments after each exchange of a chosen item o for another item j, `(n_chosen, n_others)`.

    The sum of the row of item i becomes R_i - X_io + X_ij. The products of these sums, over the items i that stay, are
    products of the matrices (R_i - X_io) and X_ij.
    """
    rows, joined = terms[:, :, chosen].sum(axis=2), terms[:, chosen[:, None], others]
    total = rows[:, chosen].sum(axis=1) / 2
    sums = (total[:, None] - rows[:, chosen])[:, :, None] + rows[:, None, others] - joined
    stay = rows[:2, chosen, None] - terms[:2, chosen[:, None], chosen]  # (2, i, o)
    stay[:, np.arange(len(chosen)), np.arange(len(chosen))] = 0.0
    come, new = joined[:2], rows[:2, None, others] - joined[:2]  # (2, i, j), (2, o, j)
    squares = _multiply_rows(stay, stay)[:, :, None] + _multiply_rows(come, come)[:, None, :]
    for k, (x, y) in enumerate(_PRODUCTS):
        squares[k] += stay[x].T @ come[y] + stay[y].T @ come[x] - come[x] * come[y] + new[x] * new[y]
    return compute_moments(sums, squares, len(chosen))
