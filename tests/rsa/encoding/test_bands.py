"""Banded ridge: one band is ridge, orthogonal bands part as planted, what a baseline explains is unique to nobody."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from himalaya.backend import get_backend
from himalaya.ridge import solve_group_ridge_random_search
from sklearn.linear_model import Ridge

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.bands import BandSettings, build_band_kernels, draw_weights, fit_bands
from brainmap.rsa.encoding.folds import make_folds, yield_inner_splits
from brainmap.rsa.encoding.responses import FeatureSpace

ALPHAS = np.logspace(-3, 3, 7)


def standardize(x):
    return (x - x.mean(0)) / x.std(0)


def bands_of(world, rng, n_items, **arrays):
    acts = world.features(rng, n_items=n_items, layers=())
    acts.arrays.update(arrays)
    return acts


def test_one_band_is_ridge_regression(world):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 25))
    acts = bands_of(world, rng, 80, only=x)
    data = world.responses(rng, world.plant(rng, x, 6), acts.items)
    fit = rsa.encode_bands(acts, data, alphas=ALPHAS, n_iter=5, seeds=(0,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        ridge = rsa.encode(acts, data, alphas=ALPHAS * 25)  # kernels of bands are divided by the number of units
    np.testing.assert_allclose(fit.scores["r"], ridge.scores["r"], atol=1e-8)
    np.testing.assert_allclose(fit.scores["joint"], ridge.scores["r2"], atol=1e-8)
    np.testing.assert_allclose(fit.scores["product"], fit.scores["joint"], atol=1e-10)
    np.testing.assert_allclose(fit.scores["unique"], fit.scores["joint"], atol=1e-10)


def test_predictions_equal_scikit_learn_with_equal_weights_and_group_ridge_with_drawn_ones():
    rng = np.random.default_rng(1)
    xs = [rng.normal(size=(60, 8)), rng.normal(size=(60, 30))]
    y = xs[0] @ rng.normal(size=(8, 5)) + 3 * rng.normal(size=(60, 5))
    folds = make_folds(np.arange(60), "stimulus", n_folds=5, rng=rng)
    one_each = tuple(np.array([k]) for k in range(60))
    kernels = build_band_kernels([[FeatureSpace("", str(k), x, one_each)] for k, x in enumerate(xs)], folds)[0]
    train, test = folds.split(0)
    inner = yield_inner_splits(folds.group[train], 5)
    scaled = [(x - x[train].mean(0)) / x[train].std(0) / np.sqrt(x.shape[1]) for x in xs]

    settings = BandSettings(alphas=np.array([0.5]), n_iter=1, seeds=(0,))
    parts = fit_bands(kernels, y, train, test, inner=inner, settings=settings, seed=0)
    both = np.hstack(scaled) * np.sqrt(0.5)
    model = Ridge(alpha=0.5).fit(both[train], y[train])
    np.testing.assert_allclose(parts.sum(0) + y[train].mean(0), model.predict(both[test]), atol=1e-8)

    settings = BandSettings(alphas=ALPHAS, n_iter=12, seeds=(3,))
    parts = fit_bands(kernels, y, train, test, inner=inner, settings=settings, seed=3)
    _, weights, _, intercept = solve_group_ridge_random_search(
        [x[train] for x in scaled],
        y[train],
        n_iter=draw_weights(2, 12, 3),
        alphas=ALPHAS,
        cv=inner,
        fit_intercept=True,
        return_weights=True,
        progress_bar=False,
    )
    np.testing.assert_allclose(
        parts.sum(0) + y[train].mean(0), np.hstack(scaled)[test] @ weights + intercept, atol=1e-8
    )


@pytest.mark.slow
def test_orthogonal_bands_part_as_planted_and_shares_sum_to_joint(world):
    rng = np.random.default_rng(2)
    n = 200
    basis = np.linalg.qr(np.hstack([np.ones((n, 1)), rng.normal(size=(n, 20))]))[0][:, 1:21] * np.sqrt(n)
    one, two = basis[:, :10], basis[:, 10:]
    signal = np.sqrt(0.6) * one @ np.full((10, 1), 1 / np.sqrt(10)) + np.sqrt(0.3) * two @ np.full(
        (10, 1), 1 / np.sqrt(10)
    )
    signal = np.tile(signal, (1, 40)) + np.sqrt(0.1) * rng.normal(size=(n, 40))
    acts = bands_of(world, rng, n, one=one, two=two, idle=rng.normal(size=(n, 10)))
    data = world.responses(rng, signal, acts.items, reliability=0.999, n_runs=1)
    fit = rsa.encode_bands(acts, data, alphas=ALPHAS, n_iter=6, seeds=(0,), rng=np.random.default_rng(0))
    found = fit.scores.groupby("band", sort=False)[["joint", "unique", "product"]].mean()
    np.testing.assert_allclose(found["product"], [0.6, 0.3, 0.0], atol=0.06)
    np.testing.assert_allclose(found["unique"], [0.6, 0.3, 0.0], atol=0.06)
    shares = fit.scores["product"].to_numpy().reshape(3, -1).sum(axis=0)
    np.testing.assert_allclose(shares, fit.scores["joint"][:40], atol=1e-10)
    assert set(fit.preference()["band"]) == {"one"}


@pytest.mark.slow
def test_a_network_adds_nothing_where_the_baseline_explains_everything(world):
    rng = np.random.default_rng(3)
    n = 200
    baseline = rng.normal(size=(n, 15))
    network = np.hstack([baseline @ rng.normal(size=(15, 30)) / 4 + 0.5 * rng.normal(size=(n, 30))])
    acts = bands_of(world, rng, n, baseline=baseline, network=network)
    data = world.responses(rng, world.plant(rng, baseline, 60), acts.items, reliability=0.5)
    fit = rsa.encode_bands(acts, data, n_iter=15, seeds=(0,), rng=np.random.default_rng(0))
    unique = fit.scores.set_index("band")["unique"]
    error = unique["network"].std(ddof=1) / np.sqrt(60)
    assert abs(unique["network"].mean()) <= 2 * error + 0.003
    assert unique["baseline"].mean() > 0.05
    alone = rsa.encode_bands(acts, data, layers=["network"], n_iter=1, seeds=(0,))
    assert alone.scores["joint"].mean() > 0.2  # which alone would look like evidence for the network


def test_several_feature_sets_are_a_band_each(world):
    rng = np.random.default_rng(4)
    net, sound = world.features(rng, n_items=60), world.features(rng, n_items=60, layers=("modulation",))
    data = world.responses(rng, world.plant(rng, net["conv1"], 3), net.items)
    fit = rsa.encode_bands({"network": net, "acoustic": sound}, data, n_iter=2, seeds=(0,))
    assert fit.bands == ("network", "acoustic")
    assert [[space.layer for space in band] for band in fit.spaces] == [["conv1", "conv2", "conv3"], ["modulation"]]
    assert fit.scores["joint_spread"].isna().all()


def test_seeds_repeat_and_their_spread_is_told(world):
    rng = np.random.default_rng(5)
    acts = world.features(rng, n_items=60, layers=("conv1", "conv2"))
    data = world.responses(rng, world.plant(rng, acts["conv1"], 4), acts.items)
    given = {"n_iter": 4, "seeds": (0, 1, 2)}
    one, two = (rsa.encode_bands(acts, data, **given).scores for _ in range(2))
    np.testing.assert_array_equal(one["joint"], two["joint"])
    assert (one["product_spread"] > 0).all()
    assert get_backend().name == "numpy"
    with pytest.raises(InputError, match="at least one seed"):
        rsa.encode_bands(acts, data, seeds=())


def test_noise_has_no_preference_where_the_joint_test_masks_it(world):
    rng = np.random.default_rng(6)
    acts = world.features(rng, n_items=96, layers=("one", "two"))
    signal = np.hstack([world.plant(rng, acts["two"], 4), rng.normal(size=(96, 20))])
    fit = rsa.encode_bands(acts, world.responses(rng, signal, acts.items, reliability=0.7), n_iter=6, seeds=(0,))
    tested = fit.test(permutations=99, correction="max", rng=rng)
    band = fit.preference(tested)["band"]
    assert band[:4].tolist() == ["two"] * 4
    assert band[4:].notna().sum() <= 2
    assert fit.preference()["band"][4:].notna().sum() > 2
