"""Test the relation of one participant's RDM to model RDMs by permuting the conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough
from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import (
    compare_vectors,
    convert_to_factors,
    find_measure,
    group_by_missing,
)
from brainmap.rsa.inference.exchange import Exchange, describe_unreachable, limit_relabelings, place_pairs
from brainmap.rsa.inference.resampling import check_varied
from brainmap.rsa.rdm.alignment import align_vectors, find_pair_positions, list_rdm_names
from brainmap.types import Alternative, Floats, Level, Measure, RDMs

PERMUTATION_COLUMNS = {
    "model": "model",
    "participant": "label of the participant",
    "roi": "region of interest",
    "score": "score with the true labels of the conditions",
    "p": "share of relabelings whose score is as high",
    "p_corrected": "corrected over the models of that region and participant, by the highest score of each relabeling",
    "n": "relabelings",
    "enumerated": "whether these are all that differ",
    "distinct": "different RDMs that relabeling the model can give",
    "smallest_p": "smallest p that these relabelings can reach",
}

Order = NDArray[np.intp]

# Scores of two relabelings that differ only by rounding must count as equal.
_TIE = 1e-10
_SIDES: dict[str, Callable[[Floats], Floats]] = {"greater": np.asarray, "less": np.negative, "two-sided": np.abs}
_BLOCK = 4_000_000  # number of values of relabeled models in memory at once


def permutation_test(
    model_rdms: RDMs,
    data_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    permutations: int = 10_000,
    alternative: Alternative = "greater",
    by: Level = "condition",
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test each model against one participant's RDM by relabeling its conditions.

    Under the null hypothesis the conditions are exchangeable: any relabeling of the model is as good as the true one.
    Each data RDM (one participant, one ROI) is tested separately, so one participant is enough, and the result holds
    for that participant. Where several stimuli share a condition, whole conditions are exchanged unless `by` says
    otherwise (`brainmap.rsa.inference.exchange.Exchange`). `brainmap.rsa.relabeling_test` relabels jointly for all
    participants.

    Parameters
    ----------
    model_rdms, data_rdms : rsatoolbox RDMs
        RDMs of the same level and items, matched by label. A condition without any pair in a data RDM is left out of
        that test.
    measure : str
        As in `brainmap.rsa.compare_rdms`.
    permutations : int
        All distinct relabelings are enumerated if there are at most this many, or, from 1,000 on, at most 40,320 (those
        of 8 items); else this many are drawn.
    alternative : {"greater", "less", "two-sided"}
    by : {"condition", "stimulus"}
        What is exchanged where several stimuli share a condition, as in `brainmap.rsa.relabeling_test`.
    rng : numpy Generator, optional
        Used only when relabelings are drawn.

    Returns
    -------
    DataFrame
        One row per model and data RDM: model, roi and participant if the data have them, score, p,
        p_corrected (family-wise over the models of that data RDM, by the largest score under each relabeling), n
        (relabelings used), enumerated, distinct (number of different RDMs that relabelings of the model can give),
        smallest_p (the smallest p that is possible). `attrs["note"]` describes the test in words.

    Raises
    ------
    InputError
        There are fewer than three conditions, single pairs are missing, the items differ, an RDM is constant, or
        `permutations` is below 1.

    Notes
    -----
    p is count / n if relabelings are enumerated (the true labels are one of them), else (count + 1) / (n + 1).
    Exchanging conditions that all models treat alike changes nothing, so only distinct relabelings are enumerated: a
    model that separates one of 8 conditions from the others has 8 relabelings, and its p cannot be below .125.

    References
    ----------
    Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008; Nichols and Holmes 2002, doi:10.1002/hbm.1058 (largest
    statistic); Phipson and Smyth 2010, doi:10.2202/1544-6115.1585 (drawn permutations).

    Examples
    --------
    >>> from rsatoolbox.rdm.rdms import RDMs
    >>> i, j = np.triu_indices(8, 1)
    >>> items = {"stimulus_id": list("abcdefgh")}
    >>> apart = RDMs(((i == 0) != (j == 0)).astype(float)[None], pattern_descriptors=items)
    >>> table = permutation_test(apart, apart)
    >>> table[["p", "n", "distinct", "smallest_p"]].values.tolist()
    [[0.125, 8.0, 8.0, 0.125]]
    """
    check_choice(alternative, get_args(Alternative), "alternative")
    named = find_measure(measure)
    check_enough(permutations, 1, "permutation_test", "permutation")
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"))
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    check_enough(data_rdms.n_cond, 3, "permutation_test", "conditions", "; a p under .05 needs 4")
    check_varied(data, range(1, len(data) + 1), "permutation_test: data RDMs")
    names, rng = list_rdm_names(model_rdms), rng or np.random.default_rng()
    tables = []
    for rows, there in group_by_missing(data):
        items = _find_present(models, there, data_rdms.n_cond)
        use = find_pair_positions(items, data_rdms.n_cond)
        tested = _test_models(
            models[:, use],
            data[np.ix_(rows, use)],
            measure=named,
            names=names,
            alternative=alternative,
            permutations=permutations,
            rng=rng,
            exchange=Exchange.of(data_rdms, items, by=by),
        )
        tested["data"] = rows[tested["data"]]
        tables.append(tested)
    table = pd.concat(tables).sort_values(["data", "order"], ignore_index=True).drop(columns="order")
    at, exchanged = table.pop("data").to_numpy(), list(dict.fromkeys(table.pop("exchanged")))
    for key in ("participant", "roi"):
        if key in data_rdms.rdm_descriptors:
            table.insert(1, key, [str(data_rdms.rdm_descriptors[key][k]) for k in at])
    table.attrs["note"] = _describe_permutation(table, alternative, exchanged)
    return table


def _find_present(models: Floats, there: NDArray[np.bool_], n_items: int) -> Order:
    """Return the items that the models and this data RDM have; refuse single missing pairs."""
    i, j = np.triu_indices(n_items, 1)
    sound = there & ~np.isnan(models).any(axis=0)
    has = np.bincount(np.r_[i[sound], j[sound]], minlength=n_items) > 0
    items = np.flatnonzero(has)
    if len(items) < 3:
        raise InputError(
            f"permutation_test: expected at least 3 conditions that models and data share, got {len(items)}; leave "
            "out the RDMs that lack more"
        )
    missing = int((~sound & has[i] & has[j]).sum())
    if missing:
        raise InputError(
            f"permutation_test: {missing} single pairs of conditions are missing, and a relabeling would "
            "move them; leave out whole conditions"
        )
    return items


def _test_models(
    models: Floats,
    data: Floats,
    *,
    measure: Measure,
    names: tuple[str, ...],
    alternative: Alternative,
    permutations: int,
    rng: np.random.Generator,
    exchange: Exchange,
) -> pd.DataFrame:
    """Test all models on the data RDMs that have the same conditions."""
    check_varied(models, names, "permutation_test: models")
    n_items = exchange.n_items
    if exchange.tokens:
        orders, enumerated = exchange.orders(limit_relabelings(exchange.count, permutations), rng)
        orders = orders if enumerated else orders[1:]  # the true labels are counted below
    else:
        classes = _find_alike(models, n_items)
        count = _count_relabelings(classes)
        enumerated = count <= limit_relabelings(count, permutations)
        orders = (
            np.array(list(_yield_arrangements(classes, n_items)))
            if enumerated
            else rng.permuted(np.tile(np.arange(n_items), (permutations, 1)), axis=1)
        )
    sign = _SIDES[alternative]
    observed = sign(compare_vectors(models, data, measure=measure))
    hits, family = np.zeros(observed.shape), np.zeros(observed.shape)
    for null in _yield_null(models, data, orders, measure):
        null = sign(null)
        hits += (null >= observed - _TIE).sum(axis=0)
        family += (null.max(axis=1)[:, None] >= observed - _TIE).sum(axis=0)
    extra, n = (0 if enumerated else 1), len(orders)
    distinct = [
        _count_distinct_exchanges(model, orders, enumerated, exchange)
        if exchange.tokens
        else _count_distinct(model[None], n_items, permutations)
        for model in models
    ]
    shape = observed.shape
    smallest = [max(1 / count, 1 / (n + extra)) for count in distinct]
    return pd.DataFrame(
        {
            "model": np.repeat(names, shape[1]),
            "score": compare_vectors(models, data, measure=measure).ravel(),
            "p": ((hits + extra) / (n + extra)).ravel(),
            "p_corrected": ((family + extra) / (n + extra)).ravel(),
            "n": n,
            "enumerated": enumerated,
            "distinct": np.repeat(np.array(distinct), shape[1]),
            "smallest_p": np.repeat(smallest, shape[1]),
            "data": np.tile(np.arange(shape[1]), shape[0]),
            "order": np.repeat(np.arange(shape[0]), shape[1]),
            "exchanged": exchange.words,
        }
    )


def _yield_null(models: Floats, data: Floats, orders: Order, measure: Measure) -> Iterator[Floats]:
    """Yield scores `(n_relabelings, n_models, n_data)` of relabeled models, one block at a time.

    A relabeling only reorders pairs, so ranks, means and lengths do not change and only inner products are recomputed;
    tau and whitened measures are computed in full.
    """
    products = measure in ("pearson", "cosine", "spearman", "rho-a")
    x, y = (convert_to_factors(side, measure) if products else side for side in (models, data))
    step = max(1, _BLOCK // models.size)
    for start in range(0, len(orders), step):
        places = np.array([find_pair_positions(order, orders.shape[1]) for order in orders[start : start + step]])
        moved = x[:, places].transpose(1, 0, 2).reshape(-1, x.shape[1])
        scores = moved @ y.T if products else compare_vectors(moved, y, measure=measure)
        yield scores.reshape(len(places), len(models), len(data))


def _find_alike(models: Floats, n_items: int) -> list[Order]:
    """Return classes of items that every model treats alike: swapping two of a class changes no dissimilarity."""
    from scipy.spatial.distance import squareform

    square = np.array([squareform(model, checks=False) for model in models])
    classes: list[list[int]] = []
    for item in range(n_items):
        for members in classes:
            others = np.setdiff1d(np.arange(n_items), [item, members[0]])
            if (square[:, item, others] == square[:, members[0], others]).all():
                members.append(item)
                break
        else:
            classes.append([item])
    return [np.array(members) for members in classes]


def _count_relabelings(classes: list[Order]) -> int:
    """Count the ways to assign the positions of the items to the classes."""
    total = math.factorial(sum(len(members) for members in classes))
    for members in classes:
        total //= math.factorial(len(members))
    return total


def _yield_arrangements(classes: list[Order], n_items: int) -> Iterator[Order]:
    """Yield one order of the items for each way to assign their positions to the classes."""

    def place(free: tuple[int, ...], left: list[Order], order: Order) -> Iterator[Order]:
        if not left:
            yield order.copy()
            return
        for chosen in combinations(free, len(left[0])):
            order[list(chosen)] = left[0]
            yield from place(tuple(k for k in free if k not in chosen), left[1:], order)

    yield from place(tuple(range(n_items)), classes, np.empty(n_items, dtype=np.intp))


def _count_distinct(model: Floats, n_items: int, most: int) -> float:
    """Count the different RDMs that relabelings of one model give; by classes alone if there are more than `most`.

    Classes that are interchangeable (two categories of the same size) reduce the number further, which only the
    enumeration takes into account.
    """
    classes = _find_alike(model, n_items)
    total = _count_relabelings(classes)
    if total > limit_relabelings(total, most):
        return float(min(total, 10**300))  # 171! has no float
    if len(np.unique(model)) == model.size:
        return float(total)  # no two relabelings of an RDM without ties are the same
    moved = model[0, place_pairs(np.array(list(_yield_arrangements(classes, n_items))))]
    return float(len(np.unique(moved, axis=0)))


def _count_distinct_exchanges(model: Floats, orders: Order, enumerated: bool, exchange: Exchange) -> float:
    """Count the different RDMs of a model under the exchange of whole conditions; an upper bound if they are drawn."""
    if not enumerated:
        return float(min(exchange.count, 10**300))
    return float(len(np.unique(model[place_pairs(orders)], axis=0)))


def _describe_permutation(table: pd.DataFrame, alternative: str, exchanged: list[str]) -> str:
    how = "enumerated" if table["enumerated"].all() else "drawn"
    alternative = "two-sided" if alternative == "two-sided" else f"one-sided, {alternative}"
    reach = float(table["smallest_p"].max())
    warn = "; no data can make that significant at .05" if reach > 0.05 else ""
    if any("whole conditions" in words for words in exchanged):
        warn += describe_unreachable(table.groupby("model", sort=False)["smallest_p"].max().to_numpy())
    return (
        f"condition permutation ({alternative}; {' or '.join(exchanged)}), {table['n'].max()} relabelings {how}, "
        f"p_corrected family-wise over models; the smallest p it can reach is {reach:.3g}{warn}"
    )
