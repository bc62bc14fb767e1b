"""RDMs against rsatoolbox over random shapes, ties, labels, missing patterns and unbalanced runs; and what both refuse.

Its `poisson_cv` gives the last fold only: the oracle there is the mean over folds, written out.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from rsatoolbox.data.dataset import Dataset
from rsatoolbox.rdm.calc import calc_rdm
from rsatoolbox.rdm.calc_unbalanced import calc_rdm_unbalanced

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.rdm.alignment import align_vectors
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(["normal", "ties", "offset", "rates"])
SHARED = ["correlation", "euclidean", "mahalanobis", "crossnobis", "poisson"]


def values(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Patterns as they come: with ties, riding on an offset, or rates."""
    if kind == "ties":
        whole: np.ndarray = rng.integers(0, 3, size=shape) + 0.25 * np.eye(*shape[-2:])  # none is constant
        return whole
    x = rng.normal(size=shape)
    found: np.ndarray = {"normal": x, "offset": x + 40, "rates": rng.gamma(1.5, size=shape)}[kind]
    return found


def names(rng: np.random.Generator, n: int) -> list[str]:
    """Labels whose order as text is not that of their numbers, in any order."""
    return [f"b{k}" for k in rng.permutation(n) + 1]


def dataset(
    rng: np.random.Generator, n_items: int, n_units: int, n_runs: int, kind: str, *, again: bool = True
) -> Dataset:
    """Each item once a run, or with `again` up to three times, runs in orders of their own."""
    labels = names(rng, n_items)
    times = rng.integers(1, 4, size=(n_runs, n_items)) if again else np.ones((n_runs, n_items), int)
    rows = [(k, run) for run in range(n_runs) for k in range(n_items) for _ in range(times[run, k])]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    return Dataset(
        values(rng, (len(rows), n_units), kind),
        obs_descriptors={"stimulus_id": [labels[k] for k, _ in rows], "run": [float(run) for _, run in rows]},
    )


def spd(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.asarray(np.linalg.inv(np.cov(rng.normal(size=(n, 4 * n + 4)))).reshape(n, n))


def agree(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours.dissimilarities, align_vectors(theirs, ours), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dissimilarity", SHARED)
@few
@given(seed=seeds, n_items=st.integers(3, 9), n_units=st.integers(2, 14), n_runs=st.integers(2, 4), kind=kinds)
def test_balanced_designs_equal_rsatoolbox(
    dissimilarity: Any, seed: int, n_items: int, n_units: int, n_runs: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    if dissimilarity == "poisson" and kind != "ties":
        kind = "rates"
    if dissimilarity == "correlation":
        n_units += 2  # of two units all correlations are 1 or -1, and rounding decides
    data = dataset(rng, n_items, n_units, n_runs, kind, again=False)
    precision = spd(rng, n_units) if dissimilarity in ("mahalanobis", "crossnobis") else None
    between = dissimilarity == "crossnobis"
    prior = {"prior_lambda": float(rng.uniform(0.1, 2)), "prior_weight": float(rng.uniform(0.05, 1))}
    theirs = calc_rdm(
        data,
        method=dissimilarity,
        descriptor="stimulus_id",
        noise=precision,
        cv_descriptor="run" if between else None,
        **prior,
    )
    runs: Any = "between" if between else "average"
    agree(compute_rdms(data, dissimilarity=dissimilarity, noise_precision=precision, runs=runs, **prior), theirs)


@few
@given(seed=seeds, n_items=st.integers(3, 7), n_units=st.integers(2, 9), n_runs=st.integers(2, 5))
def test_crossnobis_with_a_precision_a_run_equals_rsatoolbox(
    seed: int, n_items: int, n_units: int, n_runs: int
) -> None:
    rng = np.random.default_rng(seed)
    data = dataset(rng, n_items, n_units, n_runs, "normal")
    precision = [spd(rng, n_units) for _ in range(n_runs)]
    listed: Any = precision
    theirs = calc_rdm(data, method="crossnobis", descriptor="stimulus_id", cv_descriptor="run", noise=listed)
    agree(compute_rdms(data, dissimilarity="crossnobis", noise_precision=np.stack(precision)), theirs)


def with_gaps(rng: np.random.Generator, n_runs: int, n_items: int, share: float) -> tuple[np.ndarray, ...]:
    """Runs and items that are there; two runs have every item, so that every pair of items has two."""
    there = rng.random((n_runs, n_items)) < share
    there[:2] = True
    return np.nonzero(there)


@few
@given(seed=seeds, n_items=st.integers(3, 8), n_units=st.integers(2, 9), n_runs=st.integers(2, 5))
def test_crossnobis_of_runs_that_lack_items_is_the_mean_over_pairs_of_runs_that_both_have(
    seed: int, n_items: int, n_units: int, n_runs: int
) -> None:
    """rsatoolbox's unbalanced one takes other runs for each part of a distance; the items with all runs agree."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_runs, n_items, n_units))
    run, item = with_gaps(rng, n_runs, n_items, 0.8)
    labels = names(rng, n_items)
    described = {"stimulus_id": [labels[k] for k in item], "run": run.astype(float)}
    data = Dataset(x[run, item], obs_descriptors=described)
    theirs = calc_rdm_unbalanced(data, method="crossnobis", descriptor="stimulus_id", cv_descriptor="run")
    ours = compute_rdms(data, dissimilarity="crossnobis")
    order = [labels.index(label) for label in ours.pattern_descriptors["stimulus_id"]]
    wanted = over_run_pairs(x[:, order], x[:, order], run, np.argsort(order)[item]) / n_units
    np.testing.assert_allclose(ours.dissimilarities[0], wanted, rtol=1e-10, atol=1e-12)
    i, j = np.triu_indices(n_items, 1)
    whole = np.bincount(item, minlength=n_items)[order] == n_runs
    both = whole[i] & whole[j]
    np.testing.assert_allclose(wanted[both], align_vectors(theirs, ours)[0, both], rtol=1e-10, atol=1e-10)


def over_run_pairs(one: np.ndarray, other: np.ndarray, run: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Products of differences of patterns, mean over ordered pairs of different runs that two items have."""
    found = []
    for i, j in zip(*np.triu_indices(one.shape[1], 1), strict=True):
        both = sorted(set(run[item == i]) & set(run[item == j]))
        found.append(
            np.mean([(one[m, i] - one[m, j]) @ (other[n, i] - other[n, j]) for m in both for n in both if m != n])
        )
    return np.array(found)


@few
@given(seed=seeds, n_items=st.integers(3, 6), n_runs=st.integers(2, 5), share=st.floats(0.5, 1.0))
def test_poisson_cv_takes_products_of_different_runs_alone(seed: int, n_items: int, n_runs: int, share: float) -> None:
    """Where runs lack items, rsatoolbox leaves products of runs with themselves over, which noise biases."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(1.5, size=(n_runs, n_items, 4))
    run, item = with_gaps(rng, n_runs, n_items, share)
    data = Dataset(x[run, item], obs_descriptors={"stimulus_id": item.astype(str), "run": run.astype(float)})
    rates = (x + 0.1) / 1.1
    wanted = over_run_pairs(rates, np.log(rates), run, item) / 4
    found = compute_rdms(data, dissimilarity="poisson_cv")
    np.testing.assert_allclose(found.dissimilarities[0], wanted, rtol=1e-10, atol=1e-12)
    if share == 1.0:
        theirs = calc_rdm_unbalanced(data, method="poisson_cv", descriptor="stimulus_id", cv_descriptor="run")
        agree(found, theirs)


def folds(x: np.ndarray, strength: float, weight: float) -> np.ndarray:
    """Cross-validated symmetrized Kullback-Leibler divergence of each left-out run against the mean of the others."""
    rates = (x + strength * weight) / (1 + weight)
    i, j = np.triu_indices(x.shape[1], 1)
    found = []
    for run in range(len(x)):
        train, test = np.delete(rates, run, axis=0).mean(axis=0), np.log(rates[run])
        found.append(((train[i] - train[j]) * (test[i] - test[j])).mean(axis=1))
    return np.array(found)


@few
@given(seed=seeds, n_items=st.integers(3, 8), n_units=st.integers(1, 9), n_runs=st.integers(2, 5))
def test_poisson_cv_is_the_mean_over_folds_of_which_rsatoolbox_gives_the_last(
    seed: int, n_items: int, n_units: int, n_runs: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.poisson(3.0, size=(n_runs, n_items, n_units)).astype(float)
    strength, weight = rng.uniform(0.1, 2, size=2)
    wanted = folds(x, strength, weight)
    settled = {"prior_lambda": float(strength), "prior_weight": float(weight)}
    found = compute_dissimilarities(x, dissimilarity="poisson_cv", **settled)
    np.testing.assert_allclose(found, wanted.mean(axis=0), rtol=1e-10, atol=1e-12)
    labels = [f"{k}" for k in range(n_items)]
    data = Dataset(
        x.reshape(-1, n_units),
        obs_descriptors={"stimulus_id": labels * n_runs, "run": np.repeat(np.arange(n_runs), n_items).astype(float)},
    )
    theirs = calc_rdm(data, method="poisson_cv", descriptor="stimulus_id", cv_descriptor="run", **settled)
    np.testing.assert_allclose(theirs.dissimilarities[0], wanted[-1], rtol=1e-10, atol=1e-12)


def test_poisson_cv_of_noise_averages_to_zero_and_poisson_does_not() -> None:
    x = np.random.default_rng(0).poisson(4.0, size=(300, 4, 5, 30)).astype(float)
    cross = np.array([compute_dissimilarities(one, dissimilarity="poisson_cv") for one in x]).mean(axis=1)
    plain = np.array([compute_dissimilarities(one.mean(axis=0), dissimilarity="poisson") for one in x]).mean(axis=1)
    assert abs(cross.mean()) < 3 * cross.std(ddof=1) / np.sqrt(len(x))
    assert plain.mean() > 20 * plain.std(ddof=1) / np.sqrt(len(x))


@pytest.mark.parametrize("dissimilarity", [*SHARED, "cosine", "poisson_cv"])
@few
@given(seed=seeds, n_items=st.integers(4, 8), n_units=st.integers(4, 9))
def test_a_missing_pattern_costs_its_own_pairs_only(dissimilarity: Any, seed: int, n_items: int, n_units: int) -> None:
    rng = np.random.default_rng(seed)
    x = values(rng, (3, n_items, n_units), "rates")
    if dissimilarity not in ("crossnobis", "poisson_cv"):
        x = x[0]
    precision = spd(rng, n_units) if dissimilarity in ("mahalanobis", "crossnobis") else None
    whole = compute_dissimilarities(x, dissimilarity=dissimilarity, precision=precision)
    gone = int(rng.integers(n_items))
    x[..., gone, :] = np.nan
    found = compute_dissimilarities(x, dissimilarity=dissimilarity, precision=precision)
    i, j = np.triu_indices(n_items, 1)
    np.testing.assert_allclose(found, np.where((i == gone) | (j == gone), np.nan, whole), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dissimilarity", SHARED)
@few
@given(seed=seeds, n_items=st.integers(3, 8))
def test_the_order_of_rows_does_not_matter(dissimilarity: Any, seed: int, n_items: int) -> None:
    rng = np.random.default_rng(seed)
    data = dataset(rng, n_items, 6, 3, "rates")
    precision = spd(rng, 6) if dissimilarity in ("mahalanobis", "crossnobis") else None
    order = rng.permutation(data.n_obs)
    turned = Dataset(
        data.measurements[order],
        obs_descriptors={key: np.asarray(column)[order] for key, column in data.obs_descriptors.items()},
    )
    given_: dict[str, Any] = {"dissimilarity": dissimilarity, "noise_precision": precision}
    agree(compute_rdms(data, **given_), compute_rdms(turned, **given_))


@few
@given(seed=seeds, n_items=st.integers(3, 12), n_units=st.integers(1, 6))
def test_equal_distances_of_whole_numbers_stay_equal(seed: int, n_items: int, n_units: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size=(n_items, n_units)) + float(rng.integers(0, 1000))
    i, j = np.triu_indices(n_items, 1)
    exact = ((x[i] - x[j]) ** 2).sum(axis=1) / n_units
    np.testing.assert_array_equal(compute_dissimilarities(x, dissimilarity="euclidean"), exact)


@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine"])
@few
@given(seed=seeds, level=st.floats(-1e8, 1e8), n_units=st.integers(3, 400))
def test_constant_patterns_are_nan_and_counted_never_an_error(
    dissimilarity: Any, seed: int, level: float, n_units: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(5, n_units))
    x[2] = level if dissimilarity == "correlation" else 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rdms = compute_rdms(x, dissimilarity=dissimilarity, descriptors={"stimulus_id": list("abcde")})
    assert [w.category for w in caught] == [BrainmapWarning]
    assert "1 in array ('c')" in str(caught[0].message)
    i, j = np.triu_indices(5, 1)
    np.testing.assert_array_equal(np.isnan(rdms.dissimilarities[0]), (i == 2) | (j == 2))


LABELS = {"stimulus_id": list("abcd")}
NEGATIVE = np.random.default_rng(1).normal(size=(4, 6))


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (NEGATIVE, {"dissimilarity": "poisson"}, r"poisson: expected rates or counts, got negative values \(least -"),
        (
            np.abs(NEGATIVE),
            {"dissimilarity": "poisson", "units": "zscore"},
            "poisson: expected rates or counts, got negative values",
        ),
        (np.eye(4), {"dissimilarity": "poisson", "prior_weight": 0.0}, "got some of 0 without a prior"),
        (np.eye(4), {"dissimilarity": "poisson", "prior_lambda": -1.0}, "prior_lambda of 0 or more, got -1.0"),
        (NEGATIVE, {"dissimilarity": "poisson_cv"}, "poisson_cv: expected patterns of two runs or more, got one set"),
        (NEGATIVE, {"dissimilarity": "crossnobis"}, "crossnobis: expected patterns of two runs or more, got one set"),
        (NEGATIVE, {"dissimilarity": "mahalanobis"}, "mahalanobis: expected a noise precision, got none"),
        (
            NEGATIVE,
            {"dissimilarity": "mahalanobis", "noise_precision": np.eye(5)},
            r"expected shape \(6, 6\) .* got \(5, 5\)",
        ),
        (np.zeros((4, 0)), {}, r"expected shape \(n_items, n_units\) .* got \(4, 0\)"),
        (np.float64(3.0), {}, r"expected shape .* got \(\)"),
        (np.array([["x"] * 3] * 4), {}, "expected real numbers .* got <U1"),
        (NEGATIVE[:2], {"descriptors": {"stimulus_id": ["a", "b"]}}, "expected at least 3 items, got 2"),
    ],
)
def test_bad_patterns_are_refused_in_one_line(data: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        compute_rdms(data, **{"descriptors": LABELS, **arguments})
    assert "\n" not in str(refusal.value)


def test_patterns_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected patterns of shape \(n_items, n_units\) or .* got \(3,\)"):
        compute_dissimilarities(np.zeros(3))


@pytest.mark.parametrize("per_run", [False, True])
def test_a_singular_noise_precision_is_refused_not_inverted(per_run: bool) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 4, 6))
    root = rng.normal(size=(6, 2))
    flat = root @ root.T  # of rank 2
    if per_run:
        with pytest.raises(InputError, match="is singular and has no inverse; shrink"):
            compute_dissimilarities(x, dissimilarity="crossnobis", precision=np.stack([np.eye(6), flat, np.eye(6)]))
    with pytest.raises(InputError, match="NaN or infinite entries"):
        compute_dissimilarities(x, dissimilarity="crossnobis", precision=np.full((6, 6), np.nan))
