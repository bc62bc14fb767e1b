"""Comparison of RDMs: against rsatoolbox and scipy, by label, with ties and missing pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings, strategies as st
from rsatoolbox.rdm.compare import compare as rsatoolbox_compare
from rsatoolbox.rdm.rdms import RDMs

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import MEASURES, compare_rdms, compare_vectors
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.inference.scores import score_statistics
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.types import Measure

THEIR_NAME = {"pearson": "corr", "tau-b": "kendall"}
OF_PAIRS = [measure for measure in MEASURES if measure != "bures"]  # a geometry needs every pair


def theirs(models: Any, data: Any, measure: str) -> np.ndarray:
    return np.asarray(rsatoolbox_compare(models, data, method=THEIR_NAME.get(measure, measure)))


def tied_vectors(rng: np.random.Generator, n: int, n_items: int = 9) -> np.ndarray:
    """Positive dissimilarities with a few ties, as rounding or categories give."""
    return rng.gamma(2.0, size=(n, n_items * (n_items - 1) // 2)).round(1) + 0.1


@pytest.mark.parametrize("measure", OF_PAIRS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(4, 12), missing=st.booleans())
def test_every_measure_equals_rsatoolbox(measure: Measure, seed: int, n_items: int, missing: bool) -> None:
    rng = np.random.default_rng(seed)
    models, data = tied_vectors(rng, 3, n_items), tied_vectors(rng, 4, n_items)
    if missing:  # rsatoolbox wants the same pairs missing on both sides
        gone = rng.choice(models.shape[1], size=2, replace=False)
        models[:, gone] = data[:, gone] = np.nan
    np.testing.assert_allclose(
        compare_vectors(models, data, measure=measure), theirs(models, data, measure), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("measure", ["corr_cov", "cosine_cov"])
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_whitened_measures_equal_solving_with_the_covariance_of_dissimilarities(measure: Measure, kind: Any) -> None:
    rng = np.random.default_rng(0)
    n_items = 8
    models, data = tied_vectors(rng, 3, n_items), tied_vectors(rng, 2, n_items)
    sigma = np.cov(rng.normal(size=(n_items, 20)))
    sigma = np.diag(np.diag(sigma)) if kind == "diagonal" else sigma
    i, j = np.triu_indices(n_items, 1)
    contrasts = np.eye(n_items)[i] - np.eye(n_items)[j]
    inverse = np.linalg.inv((contrasts @ sigma @ contrasts.T) ** 2)
    x, y = (v - v.mean(1, keepdims=True) if measure == "corr_cov" else v for v in (models, data))
    expected = x @ inverse @ y.T / np.sqrt(np.outer(np.diag(x @ inverse @ x.T), np.diag(y @ inverse @ y.T)))
    found = compare_vectors(models, data, measure=measure, sigma_k=sigma)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    if kind == "diagonal":
        np.testing.assert_allclose(compare_vectors(models, data, measure=measure, sigma_k=np.diag(sigma)), expected)
    else:  # rsatoolbox solves this case by conjugate gradients, to about 1e-5
        theirs_k = rsatoolbox_compare(RDMs(models), RDMs(data), method=measure, sigma_k=sigma)
        np.testing.assert_allclose(found, theirs_k, atol=1e-4)


def test_a_covariance_singular_along_what_all_items_share_is_fine_and_any_other_is_refused() -> None:
    """Patterns less their mean over items have a singular covariance, and the dissimilarities never see it."""
    rng = np.random.default_rng(12)
    models, data = tied_vectors(rng, 2, 6), tied_vectors(rng, 2, 6)
    patterns = rng.normal(size=(6, 40))
    whole, demeaned = np.cov(patterns), np.cov(patterns - patterns.mean(axis=0))
    assert np.linalg.eigvalsh(demeaned)[0] < 1e-12
    found, wanted = (compare_vectors(models, data, measure="corr_cov", sigma_k=s) for s in (demeaned, whole))
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    few = np.cov(rng.normal(size=(6, 3)))  # cholesky takes it, by rounding
    for sigma in (few, np.zeros((6, 6))):
        with pytest.raises(InputError, match=r"got a singular one .* shrink it"):
            compare_vectors(models, data, measure="cosine_cov", sigma_k=sigma)
    for broken in (np.where(np.eye(6) > 0, np.nan, 0.0), np.triu(np.ones((6, 6)))):
        with pytest.raises(InputError, match="expected a covariance"):
            compare_vectors(models, data, measure="corr_cov", sigma_k=broken)
    holed = np.where(np.arange(15) == 4, np.nan, data)
    with pytest.raises(InputError, match="got a singular one"):
        compare_vectors(models, holed, measure="corr_cov", sigma_k=few)


def test_whitening_without_an_item_equals_leaving_the_item_out() -> None:
    rng = np.random.default_rng(1)
    models, data = tied_vectors(rng, 2, 7), tied_vectors(rng, 2, 7)
    sigma = np.cov(rng.normal(size=(7, 20)))
    i, j = np.triu_indices(7, 1)
    rest = (i != 3) & (j != 3)
    expected = compare_vectors(
        models[:, rest], data[:, rest], measure="corr_cov", sigma_k=np.delete(np.delete(sigma, 3, 0), 3, 1)
    )
    holed = np.where(rest, data, np.nan)
    np.testing.assert_allclose(compare_vectors(models, holed, measure="corr_cov", sigma_k=sigma), expected)


@pytest.mark.parametrize("measure", OF_PAIRS)
def test_missing_pairs_are_left_out_for_their_own_rdm_only(measure: Measure) -> None:
    rng = np.random.default_rng(2)
    models, data = tied_vectors(rng, 3), tied_vectors(rng, 4)
    whole = compare_vectors(models, data, measure=measure)
    holed, gone = data.copy(), [0, 5, 11]
    holed[2, gone] = np.nan
    found = compare_vectors(models, holed, measure=measure)
    np.testing.assert_allclose(found[:, [0, 1, 3]], whole[:, [0, 1, 3]], atol=1e-14)
    keep = np.setdiff1d(np.arange(36), gone)
    if not measure.endswith("cov"):
        np.testing.assert_allclose(found[:, 2], theirs(models[:, keep], data[2:3, keep], measure)[:, 0], atol=1e-10)
    # the same pairs missing in a model instead
    models[1, gone] = np.nan
    assert compare_vectors(models, data, measure=measure)[0, 0] == pytest.approx(whole[0, 0], abs=1e-14)


def test_items_are_matched_by_label_where_sorting_puts_b10_before_b9() -> None:
    rng = np.random.default_rng(3)
    words = [f"b{k}" for k in range(1, 13)]
    x = rng.normal(size=(12, 30))
    model = compute_rdms(x, descriptors={"stimulus_id": words})
    by_name = np.argsort(words)
    brain = compute_rdms(x[by_name], descriptors={"stimulus_id": [words[k] for k in by_name]})
    assert compare_rdms(model, brain, measure="rho-a")[0, 0] == pytest.approx(1.0)
    by_position = compare_vectors(model.dissimilarities, brain.dissimilarities, measure="rho-a")
    assert by_position[0, 0] < 0.8, "the trap is real"


def test_other_levels_and_other_items_are_refused_and_named() -> None:
    x = np.random.default_rng(4).normal(size=(6, 9))
    labels = {"stimulus_id": list("abcdef"), "condition": ["x", "x", "y", "y", "z", "z"]}
    stimuli, words = compute_rdms(x, descriptors=labels), compute_rdms(x, items="condition", descriptors=labels)
    with pytest.raises(InputError, match="RDMs: expected one level, got models over 3 conditions, data over 6 stimuli"):
        compare_rdms(words, stimuli)
    others = compute_rdms(x, descriptors={"stimulus_id": list("abcdeg")})
    with pytest.raises(InputError, match="the two sides differ; only in models: 'g'; only in data: 'f'"):
        compare_rdms(others, stimuli)
    bare = RDMs(stimuli.dissimilarities)
    with pytest.raises(InputError, match="the models have none, the data have 'stimulus_id', 'condition'"):
        compare_rdms(bare, stimuli)
    stimuli.pattern_descriptors["stimulus_id"] = list("abcdee")
    with pytest.raises(InputError, match="'e' occur more than once"):
        compare_rdms(stimuli, stimuli)


def test_a_misspelt_measure_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"expected one of 'spearman'.* did you mean 'spearman'"):
        compare_vectors(np.ones((1, 3)), np.ones((1, 3)), measure="sperman")
    x = tied_vectors(np.random.default_rng(5), 1, 4)
    np.testing.assert_array_equal(compare_vectors(x, 2 * x, measure="corr"), compare_vectors(x, x, measure="pearson"))
    with pytest.raises(InputError, match="singular"):
        compare_vectors(x, x, measure="corr_cov", sigma_k=np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"expected shape \(4, 4\) .* got \(3, 3\)"):
        compare_vectors(x, x, measure="corr_cov", sigma_k=np.eye(3))


@pytest.mark.parametrize("measure", ["pearson", "spearman", "tau-b", "corr_cov"])
def test_an_rdm_without_variance_is_nan_and_counted(measure: Measure) -> None:
    x = tied_vectors(np.random.default_rng(6), 2, 5)
    flat = np.vstack([x[:1], np.full((1, 10), 0.1)])
    with pytest.warns(BrainmapWarning, match="not defined for 2 of 4 comparisons"):
        found = compare_vectors(flat, x, measure=measure)
    np.testing.assert_array_equal(np.isnan(found), [[False, False], [True, True]])


def test_spearman_favors_a_tied_category_model_and_rho_a_does_not() -> None:
    """A model that only knows categories cannot beat the true geometry, of which it is a coarse copy."""
    rng = np.random.default_rng(7)
    truth = np.sort(rng.normal(size=(1, 66)))
    category = (truth > np.median(truth)).astype(float)
    data = truth + 1.2 * rng.normal(size=(200, 66))
    spearman = compare_vectors(np.vstack([truth, category]), data, measure="spearman").mean(1)
    rho_a = compare_vectors(np.vstack([truth, category]), data, measure="rho-a").mean(1)
    assert rho_a[0] == pytest.approx(spearman[0]), "no ties, no difference"
    assert rho_a[1] < 0.9 * spearman[1]
    broken = category + 1e-6 * rng.permuted(np.tile(np.arange(66), (3000, 1)), axis=1)
    random_order = compare_vectors(broken, data[:1], measure="spearman")
    one = compare_vectors(category, data[:1], measure="rho-a")[0, 0]
    assert one == pytest.approx(np.mean(random_order), abs=0.01), "rho-a is Spearman's mean over broken ties"


_VALUES = st.one_of(st.integers(-3, 3), st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))


@given(st.lists(st.lists(_VALUES, min_size=5, max_size=5), min_size=1, max_size=4))
def test_ranks_equal_scipy_with_any_ties_and_what_is_not_finite(rows: Any) -> None:
    np.testing.assert_array_equal(rank_rows(np.array(rows, float)), scipy.stats.rankdata(rows, axis=1))


def test_crossnobis_of_noise_scores_nothing_on_average() -> None:
    rng = np.random.default_rng(8)
    model = compute_dissimilarities(rng.normal(size=(10, 20)))[None]
    data = np.array(
        [compute_dissimilarities(rng.normal(size=(4, 10, 30)), dissimilarity="crossnobis") for _ in range(200)]
    )
    scores = compare_vectors(model, data, measure="cosine")[0]
    assert abs(data.mean()) < 4 * data.mean(1).std() / np.sqrt(200)
    assert abs(scores.mean()) < 4 * scores.std() / np.sqrt(200)


def squared(points: np.ndarray) -> np.ndarray:
    """Condensed squared distances of each set of points `(n_sets, n_items, n_dimensions)`."""
    i, j = np.triu_indices(points.shape[1], 1)
    return np.asarray(((points[:, i] - points[:, j]) ** 2).sum(axis=2))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(3, 9), dimensions=st.integers(2, 12))
def test_bures_equals_rsatoolbox_and_the_best_rotation(seed: int, n_items: int, dimensions: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n_items, dimensions)), rng.normal(size=(3, n_items, dimensions))
    found = compare_vectors(squared(x), squared(y), measure="bures")
    # roots of eigenvalues that are 0 but for rounding leave rsatoolbox 1e-8 of error
    np.testing.assert_allclose(found, theirs(squared(x), squared(y), "bures"), atol=1e-7)
    a, b = (p - p.mean(axis=1, keepdims=True) for p in (x, y))
    for k, m in np.ndindex(found.shape):
        _, overlap = scipy.linalg.orthogonal_procrustes(a[k], b[m])
        assert found[k, m] == pytest.approx(overlap / np.linalg.norm(a[k]) / np.linalg.norm(b[m]), abs=1e-9)


def test_bures_leaves_out_missing_items_and_refuses_missing_pairs() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2, 7, 5)), rng.normal(size=(3, 7, 5))
    i, j = np.triu_indices(7, 1)
    data = squared(y)
    data[1, (i == 2) | (j == 2)] = np.nan
    found = compare_vectors(squared(x), data, measure="bures")
    without = compare_vectors(squared(np.delete(x, 2, 1)), squared(np.delete(y, 2, 1)), measure="bures")
    whole = compare_vectors(squared(x), squared(y), measure="bures")
    np.testing.assert_allclose(found, np.column_stack([whole[:, 0], without[:, 1], whole[:, 2]]), atol=1e-12)
    data[1], data[2, 4] = data[0], np.nan
    with pytest.raises(InputError, match="single pairs of items are missing"):
        compare_vectors(squared(x), data, measure="bures")


def test_bures_of_what_no_points_have_takes_the_nearest_and_says_so() -> None:
    bent = np.array([[1.0, 9.0, 1.0]])  # no triangle: 3 > 1 + 1
    flat = np.array([[1.0, 4.0, 1.0]])
    with pytest.warns(BrainmapWarning, match="bures: 1 of 2 RDMs are not squared distances of any points"):
        one = compare_vectors(bent, flat, measure="bures")
    with pytest.warns(BrainmapWarning, match="bures: 1 of 2"):
        other = compare_vectors(flat, bent, measure="bures")
    np.testing.assert_allclose(one, other.T, atol=1e-12)
    assert one[0, 0] == pytest.approx(1.0), "on a line too, once its negative axis is gone"
    with pytest.warns(BrainmapWarning, match="not defined for 1 of 1"):
        assert np.isnan(compare_vectors(np.zeros((1, 3)), flat, measure="bures")).all()
    with pytest.raises(InputError, match="bures is above 0 for any two RDMs"):
        score_statistics(np.array([[0.5, 0.6, 0.7]]), measure="bures")


def test_two_items_and_infinite_dissimilarities_are_refused() -> None:
    two = RDMs(np.ones((1, 1)), pattern_descriptors={"stimulus_id": ["a", "b"]})
    with pytest.raises(InputError, match="compare: expected at least 3 items in RDMs, got 2"):
        compare_rdms(two, two)
    with pytest.raises(InputError, match="got 1 infinite dissimilarities in the data"):
        compare_vectors(np.ones((1, 3)), np.array([[1.0, np.inf, 2.0]]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 5000), scale=st.sampled_from([1e-300, 1e-3, 1.0, 1e200]))
def test_compiled_ranks_of_many_values_equal_scipy(seed: int, levels: int, scale: float) -> None:
    rows = np.random.default_rng(seed).integers(-levels, levels + 1, size=(5, 2100)) * scale
    rows[1] **= 3 if scale == 1e-3 else 1  # most in one bucket
    np.testing.assert_array_equal(rank_rows(rows), scipy.stats.rankdata(rows, axis=1))


def test_ranks_of_many_values_take_infinity() -> None:
    rows = np.random.default_rng(10).normal(size=(5, 2100))
    rows[0, 3], rows[2, 7] = np.inf, -np.inf
    np.testing.assert_array_equal(rank_rows(rows), scipy.stats.rankdata(rows, axis=1))
