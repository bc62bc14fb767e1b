"""Test model RDMs by relabeling the stimuli jointly for all participants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa.comparison.measures import convert_to_factors, find_measure, scale_vectors
from brainmap.rsa.inference.exchange import (
    ALPHA,
    Exchange,
    Places,
    describe_unreachable,
    limit_relabelings,
    place_pairs,
)
from brainmap.rsa.inference.resampling import score_vectors
from brainmap.rsa.inference.seeds import Seeds, average_rows, list_rows
from brainmap.rsa.inference.sign_flips import cut_slices, place_tested
from brainmap.rsa.rdm.alignment import align_vectors
from brainmap.types import Floats, Level, Measure, RDMs, UpperAlternative

RELABELING_COLUMNS = {
    "model": "model",
    "roi": "region of interest",
    "mean": "mean score over participants, by the measure that relabelings are compared by",
    "chance": "its mean over the relabelings of the sounds, by the same measure",
    "statistic": "mean less chance, in standard deviations over the relabelings",
    "p": "share of relabelings with a statistic as high, uncorrected",
    "p_corrected": "corrected over all rows, by the highest statistic of each relabeling",
    "n": "participants",
    "smallest_p": "smallest p that relabelings of this model can reach",
}

NEAR: dict[str, Measure] = {"tau-a": "rho-a", "tau-b": "spearman"}
"""Fast substitutes for the measures that count pairs of pairs: they are as valid in a relabeling test."""

# Scores of two relabelings that differ only by rounding count as equal.
_TIE = 1e-9
_BLOCK = 4_000_000  # number of values of relabeled RDMs in memory at once


def relabeling_test(
    model_rdms: RDMs,
    data_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    permutations: int = 2000,
    alternative: UpperAlternative = "greater",
    by: Level = "condition",
    rng: np.random.Generator | None = None,
    seeds: Seeds | None = None,
) -> pd.DataFrame:
    """Test each model's mean score in each region by relabeling the items, jointly for all participants.

    Under the null hypothesis a model's geometry is unrelated to the stimuli that the participants heard, so that any
    other assignment of its items to the stimuli is as good. A geometry that all participants share and that no model
    explains does not raise the rate of false positives, however reliable it is. Unlike tests over participants, this
    test does not treat the stimuli as fixed.

    Parameters
    ----------
    model_rdms, data_rdms : rsatoolbox RDMs
        RDMs of the same level and items, matched by label. The data have one RDM per participant and region (RDM
        descriptor `roi`; without it all belong to one region). A single participant is enough.
    measure : str
        As in `brainmap.rsa.compare_rdms`. Relabelings are compared by rho-a in place of tau-a and by Spearman in place
        of tau-b, which would take hours; the test is valid for any statistic. bures is slow, and so are data with
        missing pairs, unless all lack the same ones and relabelings keep them (pairs of windows of one story).
    permutations : int
        All relabelings are enumerated if there are at most this many, or, from 1,000 on, at most 40,320 (those of 8
        items; not by bures, which is slow); else this many are drawn.
    alternative : {"greater", "two-sided"}
    by : {"condition", "stimulus"}
        What is exchanged where several stimuli share a condition: whole conditions, or single stimuli. The first asks
        for likeness beyond that both sides tell the conditions apart. The second asks for likeness of any kind, and
        takes that for evidence; a hypothesis about the conditions themselves needs it, as no exchange of whole
        conditions changes it.
    rng : numpy Generator, optional
        Used only when relabelings are drawn.
    seeds : mapping of str to sequence of str, optional
        Networks that were trained several times, each with the names (RDM descriptor `network`) of its trainings. Each
        of their layers is one more model, whose score is the mean over the seeds in every relabeling.

    Returns
    -------
    DataFrame
        One row per model and region: model, roi, mean (score over participants), chance (its mean over the
        relabelings), statistic (mean minus chance, in standard deviations over the relabelings), p, p_corrected
        (family-wise over all rows, by the largest statistic of each relabeling), n (participants), smallest_p (the
        smallest p that this model can reach). p of a model that is constant or lacks a pair is NaN. `attrs["note"]`
        describes the test in words, including a substitute for the measure; `attrs["relabelings"]` and
        `attrs["enumerated"]` give the number of relabelings and whether all were enumerated.

    Raises
    ------
    InputError
        There are fewer than three items, the items differ, no participant has an RDM, `permutations` is below 1,
        seeds of a network are unknown or differ in their layers, or single windows of stories would be exchanged.

    Notes
    -----
    Where several stimuli share a condition, whole conditions are exchanged by default (`Exchange`). The true labels are
    among the relabelings, and p = count / n. Statistics are standardized by their mean and standard deviation over the
    relabelings, z = (score - chance) / sd, so that regions of different reliability and models of different spread
    contribute equally to the maximum.

    References
    ----------
    Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008; Nichols and Holmes 2002, doi:10.1002/hbm.1058 (largest
    statistic); Phipson and Smyth 2010, doi:10.2202/1544-6115.1585 (drawn permutations).

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    >>> truth = rng.normal(size=(8, 20))
    >>> models = stack_rdms([compute_rdms(x, descriptors={**items, "layer": name})
    ...                      for name, x in (("conv1", truth), ("conv2", rng.normal(size=(8, 20))))])
    >>> brains = stack_rdms([compute_rdms(truth + rng.normal(size=(8, 20)), descriptors=items) for _ in range(6)])
    >>> found = relabeling_test(models, brains, permutations=999, rng=rng)
    >>> found["p_corrected"].tolist()[0], found.attrs["note"][:38]
    (0.001, 'relabeling test (8 stimuli exchanged),')
    """
    check_choice(alternative, get_args(UpperAlternative), "alternative")
    asked = find_measure(measure)
    named = NEAR.get(asked, asked)
    check_enough(permutations, 1, "relabeling_test", "permutation")
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"))
    check_enough(data_rdms.n_cond, 3, "relabeling_test", "items")
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    rows = list_rows(model_rdms, seeds)
    rois = [str(roi) for roi in data_rdms.rdm_descriptors.get("roi", ["all voxels"] * len(data))]
    regions = list(dict.fromkeys(rois))
    of_region = np.array([regions.index(roi) for roi in rois])
    tested, there = _find_varied(models) & ~np.isnan(models).any(axis=1), _find_varied(data)
    if not tested.any() or not there.any():
        raise InputError(
            "relabeling_test: every model, or every participant's RDM, is constant or lacks pairs; "
            "nothing is left to test"
        )
    exchange = Exchange.of(data_rdms, by=by)
    most = permutations if named == "bures" else limit_relabelings(exchange.count, permutations)
    orders, enumerated = exchange.orders(most, rng or np.random.default_rng())
    scores = compute_relabeled_means(models[tested], data[there], of_region[there], len(regions), orders, measure=named)
    place = np.cumsum(tested) - 1  # among the tested models
    whole = np.array([tested[own].all() for own in rows.places])
    places = [place[own].tolist() for own, there in zip(rows.places, whole, strict=True) if there]
    scores = average_rows(scores, places, axis=1)
    p, p_corrected, statistic, chance = _count_p(scores, two_sided=alternative == "two-sided")
    shape = (len(rows.names), len(regions))
    columns = {"mean": scores[0], "chance": chance, "statistic": statistic, "p": p, "p_corrected": p_corrected}
    same = [_find_same(model, orders) for model in models[tested]]
    smallest = np.full(len(rows.names), np.nan)
    smallest[whole] = [np.all([same[k] for k in own], axis=0).mean() for own in places]
    n = np.bincount(of_region[there], minlength=len(regions))
    table = pd.DataFrame(
        {
            "model": np.repeat(rows.names, shape[1]),
            "roi": np.tile(regions, shape[0]),
            **{key: place_tested(values, whole).ravel() for key, values in columns.items()},
            "n": np.tile(n, shape[0]),
            "smallest_p": np.repeat(smallest, shape[1]),
        }
    )
    table.attrs |= {
        "note": _describe_relabeling(exchange, orders, enumerated, alternative, int((~tested).sum()), smallest[whole])
        + (f"; {substitute_words(asked)}" if substitute_words(asked) else ""),
        "relabelings": len(orders),
        "enumerated": enumerated,
    }
    return table


def substitute_words(measure: Measure | str) -> str:
    """Describe in words the measure that replaces this one in relabelings; empty where none does.

    Examples
    --------
    >>> substitute_words("tau-a"), substitute_words("pearson")
    ('relabelings are compared by rho-a in place of tau-a, which is slow', '')
    """
    asked = find_measure(measure)
    return f"relabelings are compared by {NEAR[asked]} in place of {asked}, which is slow" if asked in NEAR else ""


def compute_relabeled_means(
    models: Floats, data: Floats, of_region: Places, n_regions: int, orders: Places, *, measure: Measure
) -> Floats:
    """Compute mean scores over participants `(n_orders, n_models, n_regions)` under each relabeling of the models.

    `models` `(n_models, n_pairs)` have no missing pairs, `data` `(n_data, n_pairs)` may have some. `of_region`
    `(n_data,)` holds the index of the region of each data RDM.
    """
    total = np.zeros((len(orders), len(models), n_regions))
    count = np.zeros((len(models), n_regions))
    missing = np.isnan(data)
    lost = missing[0] if _stay_missing(missing, orders, measure) else np.zeros(data.shape[1], bool)
    whole = ~missing[:, ~lost].any(axis=1) & (measure != "bures")
    if whole.any():
        x, y = (_convert_to_factors(side[:, ~lost], measure) for side in (models, data[whole]))
        renumbered = np.cumsum(~lost) - 1
        # summed over participants, inner products equal the inner product with the summed vectors
        pooled = np.zeros((n_regions, x.shape[1]))
        np.add.at(pooled, of_region[whole], y)
        count += np.bincount(of_region[whole], minlength=n_regions)
        for part in _split_orders(len(orders), pooled.size):
            # relabeling the models equals the inverse relabeling of the data, and there are fewer data vectors
            places = place_pairs(np.argsort(orders[part], axis=1), diagonal=measure.endswith("_cov"))
            places = renumbered[places[:, ~lost]] if lost.any() else places
            for region, vector in enumerate(pooled):
                total[part, :, region] += vector[places] @ x.T
    if not whole.all():
        rest, of_rest = data[~whole], of_region[~whole]
        with progress("relabeling", len(orders)) as shown:
            for part in _split_orders(len(orders), models.size):
                places = place_pairs(orders[part])
                moved = models[:, places].reshape(-1, models.shape[1])
                scores = np.nan_to_num(score_vectors(moved, rest, measure)).reshape(len(models), len(places), len(rest))
                for k, region in enumerate(of_rest):
                    total[part, :, region] += scores[:, :, k].T
                shown.advance(len(places))
        count += np.bincount(of_rest, minlength=n_regions)
    return total / np.where(count > 0, count, np.nan)


def _stay_missing(missing: NDArray[np.bool_], orders: Places, measure: Measure) -> bool:
    """Tell whether all data lack the same pairs, and relabelings exchange these among themselves.

    So they do for pairs of windows of one story, which then count as if they did not exist.
    """
    if not missing.any() or (missing != missing[0]).any() or measure == "bures" or measure.endswith("_cov"):
        return False
    parts = _split_orders(len(orders), missing.shape[1])
    return all(bool((missing[0][place_pairs(orders[part])] == missing[0]).all()) for part in parts)


def _convert_to_factors(vectors: Floats, measure: Measure) -> Floats:
    """Return vectors whose inner products are the scores, and which a relabeling of items only reorders."""
    if measure.endswith("_cov"):  # of unit whitened length
        return _compute_inner_products(scale_vectors(vectors, measure, use=np.ones(vectors.shape[1], dtype=bool)))
    return convert_to_factors(vectors, measure)


def _compute_inner_products(vectors: Floats) -> Floats:
    """Compute centered inner products of items `(n, n_items (n_items + 1) / 2)`, whose dot products are whitened.

    This holds for patterns with the identity as covariance, which does not change when items are reordered.
    """
    from scipy.spatial.distance import squareform

    square = np.array([squareform(vector, checks=False) for vector in vectors])
    products = -0.5 * (
        square
        - square.mean(axis=1, keepdims=True)
        - square.mean(axis=2, keepdims=True)
        + square.mean(axis=(1, 2), keepdims=True)
    )
    a, b = np.triu_indices(square.shape[1])
    return np.asarray(products[:, a, b] * np.where(a == b, 1.0, np.sqrt(2.0)))


def _count_p(scores: Floats, *, two_sided: bool) -> tuple[Floats, Floats, Floats, Floats]:
    """Compute p, p corrected by the largest statistic, the statistic of the true labels (the first row), and chance."""
    chance, spread = scores.mean(axis=0), scores.std(axis=0)
    moves = spread > _TIE * (1 + np.abs(chance))
    z = (scores - chance) / np.where(moves, spread, np.nan)
    z[:, ~moves] = np.where(np.isnan(chance[~moves]), np.nan, 0.0)  # no relabeling changes it: no evidence
    size = np.abs(z) if two_sided else z
    reached = size >= size[0] - _TIE * (1 + np.abs(size[0]))
    p = np.where(np.isnan(z[0]), np.nan, reached.mean(axis=0))
    largest = np.nanmax(size.reshape(len(size), -1), axis=1)
    family = (largest[:, None, None] >= size[0] - _TIE * (1 + np.abs(size[0]))).mean(axis=0)
    return p, np.where(np.isnan(z[0]), np.nan, family), z[0], chance


def _find_same(model: Floats, orders: Places) -> NDArray[np.bool_]:
    """Find the relabelings that leave a model unchanged `(n_orders,)`."""
    if len(np.unique(model)) == len(model):  # without ties only the true labels do
        return np.asarray((orders == orders[0]).all(axis=1))
    parts = _split_orders(len(orders), len(model))
    return np.concatenate([(model[place_pairs(orders[part])] == model).all(axis=1) for part in parts])


def _find_varied(vectors: Floats) -> NDArray[np.bool_]:
    missing = np.isnan(vectors)
    low, high = (np.where(missing, fill, vectors) for fill in (np.inf, -np.inf))
    return np.asarray(high.max(axis=1) > low.min(axis=1))


def _split_orders(n: int, size: int) -> Iterator[slice]:
    return cut_slices(n, max(1, _BLOCK // max(size, 1)))


def _describe_relabeling(
    exchange: Exchange, orders: Places, enumerated: bool, alternative: str, n_left: int, smallest: Floats
) -> str:
    side = "one-sided" if alternative == "greater" else "two-sided"
    n = len(orders) if enumerated else len(orders) - 1
    reach = float(smallest.max())
    warn = "; no data can make that significant at .05" if smallest.min() > ALPHA else ""
    if exchange.tokens and not exchange.in_time:
        warn += describe_unreachable(smallest)
    left = f"; {n_left} models are constant or lack pairs and are not tested" if n_left else ""
    return (
        f"relabeling test ({exchange.words}), jointly for all participants, {side}, {n:,} relabelings "
        f"{'enumerated' if enumerated else 'drawn'}, family-wise over models and regions by the largest statistic; "
        f"the smallest p it can reach is {reach:.3g}{warn}{left}"
    )
