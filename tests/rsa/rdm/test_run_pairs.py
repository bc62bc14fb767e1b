"""Between-run dissimilarities where runs lack items, and noise that runs tell of themselves: loops over pairs of runs
are the oracle, and simulations that know the truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rsatoolbox.data.dataset import Dataset
from rsatoolbox.data.noise import prec_from_residuals
from scipy import stats

from brainmap.errors import InputError
from brainmap.rsa import RunNoise, compare_vectors, compute_rdms, noise_precision, normalize_patterns, rdm_reliability
from brainmap.rsa.rdm import run_pairs as _run_pairs
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities, scale_to_unit_length

Metric = Callable[[int, int], np.ndarray]


def loop(one: np.ndarray, other: np.ndarray, metric: Metric | None = None) -> np.ndarray:
    """Each pair of items by itself, over the ordered pairs of different runs that both have."""
    found = []
    for i, j in itertools.combinations(range(one.shape[1]), 2):
        runs = [m for m in range(len(one)) if np.isfinite(one[m, [i, j]]).all()]
        products = [
            (one[m, i] - one[m, j])
            @ (np.eye(one.shape[2]) if metric is None else metric(m, n))
            @ (other[n, i] - other[n, j])
            for m in runs
            for n in runs
            if m != n
        ]
        found.append(np.mean(products) if products else np.nan)
    return np.array(found)


def of_runs(x: np.ndarray) -> Dataset:
    """Patterns `(n_runs, n_items, n_voxels)`, without the rows that are NaN."""
    run, item = np.nonzero(~np.isnan(x[..., 0]))
    described = {"stimulus_id": [f"s{k:02d}" for k in item], "run": [f"r{k}" for k in run]}
    return Dataset(x[run, item], obs_descriptors=described)


def lacking(rng: np.random.Generator, n_runs: int, share: float, shape: tuple[int, int] = (7, 9)) -> np.ndarray:
    x = 3 + rng.normal(size=(n_runs, *shape))
    x[rng.random((n_runs, shape[0])) < share] = np.nan
    return np.asarray(x)


def covariance(rng: np.random.Generator, n: int) -> np.ndarray:
    root = rng.normal(size=(n, 2 * n))
    return np.asarray(root @ root.T / n)


@pytest.mark.parametrize("form", ["by run pairs", "by sets of runs", "the cheaper"])
@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("n_runs", [2, 3, 8])
def test_every_between_run_measure_is_the_loop_over_the_runs_that_two_items_share(
    n_runs: int, share: float, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form != "the cheaper":
        monkeypatch.setattr(
            _run_pairs, "_estimate_costs", lambda *_, **__: (0, 1) if form == "by run pairs" else (1, 0)
        )
    rng = np.random.default_rng(n_runs)
    x = lacking(rng, n_runs, share)
    n = x.shape[-1]
    one = covariance(rng, n)
    each = np.stack([covariance(rng, n) for _ in range(n_runs)])
    inverse = np.linalg.inv(each)
    rates = (np.abs(x) + 0.1) / 1.1
    unit = {name: scale_to_unit_length(x, center=name == "correlation") for name in ("correlation", "cosine")}
    cases: list[tuple[np.ndarray, np.ndarray]] = [
        (compute_dissimilarities(x, dissimilarity="crossnobis"), loop(x, x) / n),
        (compute_dissimilarities(x, dissimilarity="euclidean"), loop(x, x) / n),
        *((compute_dissimilarities(x, dissimilarity=name), loop(u, u) / 2) for name, u in unit.items()),  # type: ignore[arg-type]
        *(
            (compute_dissimilarities(np.abs(x), dissimilarity=name), loop(rates, np.log(rates)) / n)  # type: ignore[arg-type]
            for name in ("poisson", "poisson_cv")
        ),
        *(
            (compute_dissimilarities(x, dissimilarity=name, precision=one), loop(x, x, lambda *_: one) / n)  # type: ignore[arg-type]
            for name in ("crossnobis", "mahalanobis")
        ),
        (
            compute_dissimilarities(x, dissimilarity="crossnobis", precision=inverse),
            loop(x, x, lambda m, n: np.linalg.inv((each[m] + each[n]) / 2)) / n,
        ),
    ]
    for found, wanted in cases:
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_items_that_are_the_same_in_every_run_have_no_distance_whatever_runs_they_lack() -> None:
    rng = np.random.default_rng(0)
    response = 3 * rng.normal(size=9)
    x = np.array([1, 1, 1.3, 0.7, 1.1])[:, None, None] * response * np.ones((5, 6, 1))
    x[2:, 0], x[:2, 1], x[4, 2:4] = np.nan, np.nan, np.nan
    found = compute_dissimilarities(x, dissimilarity="crossnobis")
    np.testing.assert_array_equal(np.isnan(found), [True] + 14 * [False])  # the first two share no run
    np.testing.assert_array_equal(found[1:], 0.0)


@pytest.mark.parametrize("noise", [None, "shrinkage", "diag"])
def test_a_pattern_added_to_each_whole_run_changes_nothing(noise: Any) -> None:
    rng = np.random.default_rng(1)
    x = lacking(rng, 5, 0.15)
    more = x + 100 * rng.normal(size=(5, 1, 9))
    found = []
    for patterns in (x, more):
        data = of_runs(patterns)
        given_ = None if noise is None else noise_precision(of_runs(x), method=noise)
        found.append(compute_rdms(data, dissimilarity="crossnobis", noise_precision=given_).dissimilarities[0])
    np.testing.assert_allclose(*found, atol=1e-10)


@pytest.mark.parametrize("method", ["diag", "shrinkage", "shrinkage-eye", "full"])
@pytest.mark.parametrize("share", [0.0, 0.15])
def test_a_run_is_weighted_by_what_the_other_runs_tell(share: float, method: Any) -> None:
    rng = np.random.default_rng(2)
    x = lacking(rng, 6, share, (8, 5)) @ np.linalg.cholesky(covariance(rng, 5)).T
    weights = []
    for m in range(6):
        others = np.delete(x, m, axis=0)
        rest = (others - np.nanmean(others, axis=0))[~np.isnan(others[..., 0])]
        dof = len(rest) - int((~np.isnan(others[..., 0])).any(axis=0).sum())
        theirs = {"shrinkage": "shrinkage_diag", "shrinkage-eye": "shrinkage_eye"}.get(method, method)
        weights.append(prec_from_residuals(rest, dof=dof, method=theirs))
    noise = noise_precision(of_runs(x), method=method)
    for dissimilarity in ("crossnobis", "mahalanobis"):
        found = compute_rdms(of_runs(x), dissimilarity=dissimilarity, noise_precision=noise)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            found.dissimilarities[0], loop(x, x, lambda m, _: weights[m]) / 5, rtol=1e-10, atol=1e-12
        )


def test_the_word_runs_takes_the_noise_of_each_region_from_its_own_voxels() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 6, 10))
    data = of_runs(x)
    data.channel_descriptors["roi"] = np.array(["A"] * 4 + ["B"] * 6)
    rdms = compute_rdms(data, dissimilarity="crossnobis", rois="all", noise_precision="runs")
    for k, part in enumerate((x[..., :4], x[..., 4:])):
        one = compute_rdms(of_runs(part), dissimilarity="crossnobis", noise_precision=noise_precision(of_runs(part)))
        np.testing.assert_allclose(rdms.dissimilarities[k], one.dissimilarities[0])
    settings: Any = {"dissimilarity": "crossnobis", "rois": "all", "measure": "pearson"}
    found = rdm_reliability(data, noise_precision="runs", **settings)
    scores = []
    for first in ([0, 1], [0, 2], [0, 3]):
        halves = [
            compute_rdms(
                data.subset_obs("run", [f"r{m}" for m in half]),
                dissimilarity="crossnobis",
                rois=["A"],
                noise_precision=noise_precision(of_runs(x[..., :4])),
            ).dissimilarities
            for half in (first, [m for m in range(4) if m not in first])
        ]
        scores.append(compare_vectors(*halves, measure="pearson")[0, 0])
    assert found["halves"][0] == pytest.approx(np.mean(scores))


def test_noise_of_two_runs_is_refused_with_the_ways_out() -> None:
    x = np.random.default_rng(4).normal(size=(2, 6, 5))
    for method in ("diag", "shrinkage"):
        with pytest.raises(InputError, match=r"expected 3 runs or more, .* got 2.*residuals.*noise = 'none'"):
            noise_precision(of_runs(x), method=method)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected 3 runs or more, .* got 2"):
        compute_rdms(of_runs(x), dissimilarity="crossnobis", noise_precision="runs")


def test_noise_of_runs_is_no_matrix_and_fits_its_own_patterns_alone() -> None:
    x = np.random.default_rng(5).normal(size=(4, 6, 5))
    noise = noise_precision(of_runs(x))
    with pytest.raises(InputError, match="no single matrix"):
        np.linalg.inv(noise)  # type: ignore[call-overload]
    for patterns, words in ((x[..., :4], "expected the noise of 4 units"), (np.concatenate([x, x[:1]]), "got 'r4'")):
        with pytest.raises(InputError, match=words):
            compute_rdms(of_runs(patterns), dissimilarity="crossnobis", noise_precision=noise)
    with pytest.raises(InputError, match="takes no noise precision"):
        compute_rdms(of_runs(x), noise_precision=noise)
    averaged = compute_rdms(of_runs(x), dissimilarity="mahalanobis", runs="average", noise_precision=noise)
    given_ = compute_rdms(of_runs(x), dissimilarity="mahalanobis", runs="average", noise_precision=noise.pooled())
    np.testing.assert_array_equal(averaged.dissimilarities, given_.dissimilarities)
    apart = np.full((6, 9, 5), np.nan)
    for m, items in enumerate([(0, 1, 2), (0, 1, 3), (2, 3, 4), (4, 5, 6), (5, 6, 7), (7, 8, 8)]):
        apart[m, list(items)] = np.random.default_rng(m).normal(size=(3, 5))
    assert isinstance(noise_precision(of_runs(apart)), RunNoise)
    lonely = np.full((3, 4, 5), np.nan)
    lonely[0], lonely[1, 0], lonely[2, 1] = x[0, :4], x[1, 0], x[2, 1]
    with pytest.raises(InputError, match="got 0 from the patterns without run r0"):
        noise_precision(of_runs(lonely))


def test_voxels_divided_by_the_noise_of_all_runs_make_no_between_run_products() -> None:
    data = normalize_patterns(of_runs(np.random.default_rng(6).normal(size=(4, 6, 5))), "noise-runs")
    for dissimilarity in ("crossnobis", "correlation"):
        with pytest.raises(InputError, match=r"'noise-runs'.*method='diag'.*average"):
            compute_rdms(data, dissimilarity=dissimilarity)  # type: ignore[arg-type]
    assert np.isfinite(compute_rdms(data, runs="average").dissimilarities).all()


@pytest.mark.slow
def test_a_response_that_wanes_in_a_run_that_half_of_the_items_lack_makes_no_geometry() -> None:
    rng = np.random.default_rng(7)
    n_items, n_people, n_studies = 16, 10, 60
    i, j = np.triu_indices(n_items, 1)
    rare = np.arange(n_items) < 8
    model = (rare[i] != rare[j]).astype(float)
    p = []
    for _ in range(n_studies):
        scores = []
        for _ in range(n_people):
            x = rng.normal(size=60) * np.array([1, 1, 1, 0.85])[:, None, None] + rng.normal(size=(4, n_items, 60))
            x[3, rare] = np.nan
            scores.append(compare_vectors(model, compute_dissimilarities(x, dissimilarity="crossnobis"))[0, 0])
        p.append(stats.ttest_1samp(scores, 0, alternative="greater").pvalue)
    assert np.mean(np.array(p) <= 0.05) <= 0.10


@pytest.mark.slow
@pytest.mark.parametrize("method", ["diag", "shrinkage"])
@pytest.mark.parametrize("n_runs", [3, 4, 5, 8])
def test_pure_noise_has_no_distance_on_average_when_its_weights_leave_each_run_out(n_runs: int, method: Any) -> None:
    """With the precision of all runs the same patterns are further apart than noise could make them."""
    rng = np.random.default_rng(n_runs)
    mixing = np.linalg.cholesky(covariance(rng, 20))
    means, biased = [], []
    for _ in range(150):
        x = rng.normal(size=(n_runs, 10, 20)) @ mixing.T
        noise = noise_precision(of_runs(x), method=method)
        means.append(compute_rdms(of_runs(x), dissimilarity="crossnobis", noise_precision=noise).dissimilarities.mean())
        biased.append(compute_dissimilarities(x, dissimilarity="crossnobis", precision=noise.pooled()).mean())
    assert abs(np.mean(means)) < 4 * stats.sem(means)
    if n_runs == 3 or method == "shrinkage":
        assert np.mean(biased) > 4 * stats.sem(biased)


@pytest.mark.slow
@pytest.mark.parametrize("n_runs", [3, 4, 8])
@pytest.mark.parametrize("model", ["all alike", "noisy items"])
def test_noise_makes_no_score_of_crossnobis_whose_weights_leave_each_run_out(model: str, n_runs: int) -> None:
    """Cosine against 0 of a model that says nothing; and rho-a of which items have twice the noise."""
    rng = np.random.default_rng(n_runs)
    n_items, n_people, n_studies = 12, 8, 60
    i, j = np.triu_indices(n_items, 1)
    noisy = np.arange(n_items) < 6
    scale = np.where(noisy, 2.0, 1.0)[:, None] if model == "noisy items" else 1.0
    wanted = noisy[i].astype(float) + noisy[j] if model == "noisy items" else 1.0 + rng.random(len(i))
    measure: Any = "rho-a" if model == "noisy items" else "cosine"
    p = []
    for _ in range(n_studies):
        scores = []
        for _ in range(n_people):
            data = of_runs(scale * rng.normal(size=(n_runs, n_items, 15)))
            rdm = compute_rdms(data, dissimilarity="crossnobis", noise_precision="runs")
            scores.append(compare_vectors(wanted, rdm.dissimilarities[0], measure=measure)[0, 0])
        p.append(stats.ttest_1samp(scores, 0, alternative="greater").pvalue)
    assert np.mean(np.array(p) <= 0.05) <= 0.10


def test_noise_of_one_degree_of_freedom_that_shrinkage_leaves_singular_is_refused() -> None:
    x = np.random.default_rng(3).normal(size=(3, 3, 2))
    x[[0, 0, 1], [0, 1, 1]] = np.nan
    labels = {"stimulus_id": np.tile(["a", "b", "c"], 3), "run": np.repeat(["1", "2", "3"], 3)}
    data = Dataset(x.reshape(9, 2), obs_descriptors=labels)
    with pytest.raises(InputError, match="1 degrees of freedom is singular"):
        compute_rdms(data, dissimilarity="crossnobis", noise_precision="runs")
