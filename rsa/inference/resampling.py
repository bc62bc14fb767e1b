"""Compute scores and noise ceilings of resampled conditions and participants.

A resample of conditions is represented by integer weights on pairs of conditions: the weight of pair (i, j) is the
number of times that i was drawn times the number of times that j was drawn, and pairs of a condition with itself are
left out. Where items are tokens of conditions, a condition is drawn with all of its tokens: pairs of its own tokens
are weighted by the count of the condition, and pairs between two copies of it are left out. A resample of participants
is represented by integer weights on their RDMs. Hence nothing is copied, and a resample is one weighted matrix product.

Shapes: models `(n_models, n_pairs)`, data `(n_participants, n_pairs)`, both condensed over `n_conditions`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import refuse_some
from brainmap.errors import BrainmapWarning
from brainmap.progress import progress
from brainmap.rsa.comparison.ceilings import average_defined, pool_others
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.rdm.alignment import count_items_of_pairs, find_pair_positions
from brainmap.rsa.rdm.dissimilarity import scale_to_unit_length
from brainmap.types import Floats, Measure

Draw = NDArray[np.intp]
Ceiling = Callable[[Draw], tuple[float, float]]

FEWEST = 3
"""Smallest number of different conditions in a resample that is scored, as in rsatoolbox."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Hold the scores of one resample of conditions.

    Attributes
    ----------
    scores : array (n_models, n_participants)
        A score is NaN where a model and a participant share fewer than two pairs, and 0 where one of them is constant.
    ceiling : callable
        A function of the count of each participant that returns the lower and upper noise ceiling.
    n_flat : int
        Number of scores that are 0 because a model or a participant is constant in this sample.
    """

    scores: Floats
    ceiling: Ceiling
    n_flat: int


Sampler = Callable[[Draw | None], Sample]


def resample(
    models: Floats,
    data: Floats,
    *,
    measure: Measure,
    participants: Draw | None,
    conditions: Draw | None,
    units: Draw | None = None,
) -> tuple[Floats, int]:
    """Compute each model's mean score in every resample, with lower and upper ceiling in the last two columns.

    Parameters
    ----------
    models : array (n_models, n_pairs)
    data : array (n_participants, n_pairs) or (n_regions, n_participants, n_pairs)
        RDMs of participants; several regions have the same ones, and share the work on each resample.
    measure : str
    participants : int array (n, n_participants) or None
        The participants that were drawn; None takes each participant once.
    conditions : int array (n, n_conditions) or None
    units : int array (n_items,), optional
        The condition of each item, where items are tokens of conditions; by default each item is a condition.

    Returns
    -------
    array (n_kinds, n, n_models + 2), with a first axis of regions if there are several
        If both are drawn, there are three kinds from the same draws: over both, over participants alone, over
        conditions alone. Resamples with fewer than three different conditions are NaN, and so are the ceilings of
        several regions.
    int
        Number of resamples in which a model or RDM was constant and scored 0.
    """
    *regions, n_people, n_pairs = data.shape
    take = make_sampler(models, data.reshape(-1, n_pairs), measure, units)
    whole, everyone = take(None), np.ones(n_people, dtype=np.intp)
    drawn = participants if participants is not None else conditions
    assert drawn is not None
    twofold = participants is not None and conditions is not None
    found = np.full((*regions, 3 if twofold else 1, len(drawn), len(models) + 2), np.nan)
    n_flat = 0
    with progress("bootstrap", len(drawn)) as step:
        for b in range(len(drawn)):
            counts = everyone if participants is None else np.bincount(participants[b], minlength=n_people)
            kinds: list[tuple[Sample, Draw]] = []
            if conditions is None:
                kinds = [(whole, counts)]
            elif len(np.unique(conditions[b])) >= FEWEST:
                here = take(conditions[b])
                n_flat += here.n_flat > 0
                kinds = [(here, counts), *([(whole, counts), (here, everyone)] if twofold else [])]
            for kind, (sample, often) in enumerate(kinds):
                found[..., kind, b, :] = _build_row(sample, often, regions)
            step.advance()
    return found, n_flat


def make_sampler(models: Floats, data: Floats, measure: Measure, units: Draw | None = None) -> Sampler:
    """Return a function that scores a resample of conditions.

    It uses weighted products if all RDMs lack the same pairs and the measure allows it, else explicit resamples.
    """
    missing = np.isnan(np.vstack([models, data]))
    units = np.arange(count_items_of_pairs(models.shape[1])) if units is None else units
    if can_weigh(measure) and (missing == missing[0]).all():
        return _Weighted(models, data, measure, units, ~missing[0])
    return partial(_score_sample, models, data, measure, units)


def can_weigh(measure: Measure) -> bool:
    """Tell whether weights on pairs can express a resample in this measure."""
    return measure in ("pearson", "cosine", "spearman", "rho-a")


def check_varied(vectors: Floats, names: Iterable[object], what: str, *, allow_equal: bool = False) -> None:
    """Refuse RDMs whose dissimilarities are all equal or missing; `allow_equal` (cosine) accepts equal ones above 0."""
    missing = np.isnan(vectors)
    low = np.where(missing, np.inf, vectors).min(axis=1)
    high = np.where(missing, -np.inf, vectors).max(axis=1)
    refuse_some(
        [name for name, a, b in zip(names, low, high, strict=True) if not (b > a or (allow_equal and a == b != 0))],
        f"{what} ",
        ": all dissimilarities are equal or missing; leave them out",
    )


def _build_row(sample: Sample, counts: Draw, regions: Sequence[int]) -> Floats:
    scores = sample.scores.reshape(-1, *regions, len(counts))
    row = np.full((*regions, len(scores) + 2), np.nan)
    there = np.isfinite(scores) @ counts
    row[..., :-2] = (np.nan_to_num(scores) @ counts / np.where(there > 0, there, np.nan)).T
    if len(counts) > 1 and not regions:
        row[-2:] = sample.ceiling(counts)
    return row


class _Weighted:
    """Score resamples by Pearson, cosine, spearman and rho-a with weights on pairs."""

    def __init__(self, models: Floats, data: Floats, measure: Measure, units: Draw, use: NDArray[np.bool_]) -> None:
        vectors = np.vstack([models, data])[:, use]
        self.n_models, self.n_units, self.measure = len(models), int(units.max()) + 1, measure
        self.i, self.j = (units[side[use]] for side in np.triu_indices(len(units), 1))
        self.within = self.i == self.j
        self.ranked = measure in ("spearman", "rho-a")
        # vectors are scaled once, so that sums of squares under any weights keep their precision
        self.vectors = vectors if self.ranked else scale_to_unit_length(vectors, center=measure == "pearson")
        self.order, self.tied = None, True
        if self.ranked:
            self.order = np.argsort(vectors, axis=1)
            self.tied = bool((np.diff(np.take_along_axis(vectors, self.order, axis=1), axis=1) == 0).any())

    def __call__(self, conditions: Draw | None) -> Sample:
        often = np.ones(self.n_units) if conditions is None else np.bincount(conditions, minlength=self.n_units) * 1.0
        weights = np.where(self.within, often[self.i], often[self.i] * often[self.j])
        use = np.flatnonzero(weights)
        if self.order is not None:
            from brainmap.rsa.comparison.rank_kernels import rank_untied_with_weights, rank_with_weights

            ranks = (
                rank_with_weights(self.vectors, self.order, weights)
                if self.tied
                else rank_untied_with_weights(self.order, weights)
            )
            x, weights = ranks[:, use], weights[use]
        else:
            x, weights = self.vectors[:, use], weights[use]
            x = _center_weighted(x, weights) if self.measure == "pearson" else x
        models, data = x[: self.n_models], x[self.n_models :]
        weighted = data * weights
        length = np.sqrt(np.einsum("ij,ij,j->i", x, x, weights))
        n = weights.sum()
        # rho-a divides by the length that ranks without ties would have
        by = np.full(len(x), np.sqrt((n**3 - n) / 12.0)) if self.measure == "rho-a" else length
        by = np.where(by > 0, by, np.inf)
        scores = models @ weighted.T / by[: self.n_models, None] / by[self.n_models :]
        flat = 0 if self.measure == "rho-a" else int(np.isinf(by).sum())
        if self.ranked:
            return Sample(scores, partial(_compute_ceiling_of_ranks, data, weights, self.measure == "rho-a"), flat)
        gram = weighted @ data.T / by[self.n_models :, None] / by[self.n_models :]
        return Sample(scores, partial(_compute_ceiling_of_products, gram), flat)


def _center_weighted(x: Floats, weights: Floats) -> Floats:
    """Subtract the weighted mean; rows that are constant up to rounding become 0."""
    result: Floats = x - (x @ weights / weights.sum())[:, None]
    result[np.abs(result).max(axis=1) <= 1e-13 * np.abs(x).max(axis=1)] = 0.0
    return result


def _compute_ceiling_of_products(gram: Floats, counts: Draw) -> tuple[float, float]:
    """Compute the lower and upper ceiling from the inner products of unit-length RDMs.

    Means are over the different participants drawn; the lower ceiling leaves out all copies of a participant.
    """
    drawn = np.flatnonzero(counts)
    often, gram = counts[drawn] * 1.0, gram[np.ix_(drawn, drawn)]
    with_pool = gram @ often
    total = float(often @ with_pool)
    upper = float(np.mean(with_pool / np.sqrt(total))) if total > 0 else np.nan
    if len(drawn) == 1:
        return upper, upper
    own = np.diag(gram)
    power = total - 2 * often * with_pool + often**2 * own
    lower = (with_pool - often * own) / np.sqrt(np.where(power > 0, power, np.nan))
    return float(np.mean(lower)), upper


def _compute_ceiling_of_ranks(ranks: Floats, weights: Floats, rho_a: bool, counts: Draw) -> tuple[float, float]:
    """Compute the lower and upper ceiling from centered ranks; pooled ranks are ranked again."""
    from brainmap.rsa.comparison.rank_kernels import rank_with_weights

    drawn = np.flatnonzero(counts)
    often, ranks = counts[drawn, None] * 1.0, ranks[drawn]
    total = (often * ranks).sum(axis=0)
    pooled = total[None] if len(drawn) == 1 else np.vstack([total, total - often * ranks])
    pooled = rank_with_weights(pooled, np.argsort(pooled, axis=1), weights)
    weighted = ranks * weights
    products = pooled @ weighted.T
    n = weights.sum()
    if rho_a:
        products *= 12.0 / (n**3 - n)
    else:
        length, own = (np.sqrt(np.einsum("ij,ij,j->i", x, x, weights)) for x in (pooled, ranks))
        by = np.outer(length, own)
        products = products / np.where(by > 0, by, np.inf)
    upper = float(products[0].mean())
    return (upper if len(drawn) == 1 else float(np.diag(products[1:]).mean())), upper


def _score_sample(models: Floats, data: Floats, measure: Measure, units: Draw, conditions: Draw | None) -> Sample:
    """Score an explicit resample, for measures that weights cannot express and RDMs that lack different pairs."""
    x, y = models, data
    if conditions is not None:
        x, y = (expand_draws(side, conditions, measure, units) for side in (x, y))
    scores = score_vectors(x, y, measure)
    enough = (np.isfinite(x) * 1.0) @ (np.isfinite(y) * 1.0).T > 1
    flat = np.isnan(scores) & enough
    return Sample(np.where(flat, 0.0, scores), partial(compute_ceiling_of_any, y, measure), int(flat.sum()))


def expand_draws(vectors: Floats, conditions: Draw, measure: Measure, units: Draw | None = None) -> Floats:
    """Expand RDMs to the conditions that were drawn, without pairs of a condition with its own copy."""
    units = np.arange(count_items_of_pairs(vectors.shape[1])) if units is None else units
    members = [np.flatnonzero(units == unit) for unit in np.sort(conditions)]
    drawn, copy = np.concatenate(members), np.repeat(np.arange(len(members)), [len(m) for m in members])
    a, b = np.triu_indices(len(drawn), 1)
    itself = (units[drawn[a]] == units[drawn[b]]) & (copy[a] != copy[b])
    # a pair of an item with itself has no position in the vector and is among those left out
    places = find_pair_positions(drawn, len(units))
    if measure.endswith("cov"):  # whitening needs the items of each pair, so all pairs are kept
        return np.where(itself, np.nan, vectors[:, places])
    return np.asarray(vectors[:, places[~itself]])


def compute_ceiling_of_any(data: Floats, measure: Measure, counts: Draw) -> tuple[float, float]:
    """Compute the lower and upper ceiling of RDMs with given counts; no RDM is compared with a pool of its copies."""
    drawn = np.flatnonzero(counts)
    rows = np.repeat(drawn, counts[drawn])
    upper = average_defined(score_vectors(pool_others(data[rows], measure)[0][None], data[drawn], measure)[0])
    if len(drawn) == 1:
        return upper, upper
    lower = [
        score_vectors(pool_others(data[rows[rows != one]], measure)[0][None], data[[one]], measure)[0, 0]
        for one in drawn
    ]
    return average_defined(np.array(lower)), upper


def score_vectors(x: Floats, y: Floats, measure: Measure) -> Floats:
    """Compute scores without warnings about undefined values, which the caller counts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "compare: .* is not defined", BrainmapWarning)  # counted by `Sample`
        return compare_vectors(x, y, measure=measure)
