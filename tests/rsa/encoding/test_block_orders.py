"""Permutations of blocks within stories: what they keep, and their false positives on slow noise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.encode import fit_encoding
from brainmap.rsa.encoding.fits import EncodingSettings, build_designs, fit_folds
from brainmap.rsa.encoding.folds import Folds
from brainmap.rsa.encoding.permutations import Refit, draw_block_orders
from brainmap.rsa.encoding.responses import FeatureSpace, Responses
from brainmap.rsa.encoding.ridge import Design, FactoredErrors, build_error_operator, measure_losses
from brainmap.rsa.encoding.scans import delay_features, zscore
from brainmap.rsa.encoding.scores import score_fold

T_R = 2.0


def fold_stories(n: int, scans: int, block: int = 10) -> Folds:
    group = np.repeat(np.arange(n), scans)
    return Folds(group, group, "story", block=block)


def test_blocks_stay_whole_and_inside_their_story() -> None:
    folds = fold_stories(3, 47)
    orders, words = draw_block_orders(folds, permutations=50, rng=np.random.default_rng(0))
    assert words == "blocks of 10 scans or more exchanged within each story"
    np.testing.assert_array_equal(orders[0], np.arange(141))
    for row in orders[1:]:
        np.testing.assert_array_equal(folds.group[row], folds.group)
        np.testing.assert_array_equal(np.sort(row), np.arange(141))
        for k in range(3):
            own = row[47 * k : 47 * (k + 1)] - 47 * k
            cuts = np.flatnonzero(np.diff(own) % 47 != 1) + 1  # a story is a ring: its rotation cuts nothing
            assert np.diff([0, *cuts, 47]).min() >= 10
    assert len({tuple(row) for row in orders}) == 51


def test_neighbors_are_parted_in_some_permutations_wherever_they_lie() -> None:
    orders, _ = draw_block_orders(fold_stories(1, 40), permutations=400, rng=np.random.default_rng(1))
    together = np.array([[(row[1:][row[:-1] == k] == k + 1).any() for k in range(39)] for row in orders[1:]])
    assert together.mean(axis=0).max() < 1
    assert together.mean(axis=0).min() > 0.5


def test_stories_of_one_block_are_refused() -> None:
    with pytest.raises(InputError, match=r"two blocks of 10 scans or more in each story, got fewer in 'story 1 \(19"):
        draw_block_orders(fold_stories(2, 19), permutations=5, rng=np.random.default_rng(0))


def test_factored_errors_are_those_of_the_operator() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(400, 6)), rng.normal(size=(400, 9))
    y[:, 0] = 1.0
    alphas = np.logspace(-2, 5, 8)
    train = np.arange(400)
    splits = [(np.flatnonzero(train % 4 != k), np.flatnonzero(train % 4 == k)) for k in range(4)]
    factored = list(build_error_operator(Design(x, kernel=False), train, splits, alphas))
    assert all(isinstance(one, FactoredErrors) for one in factored)
    wanted = np.zeros((8, 9))
    for inner, held in splits:
        mean, sd = x[inner].mean(axis=0), y[inner].mean(axis=0)
        for k, alpha in enumerate(alphas):
            z = x[inner] - mean
            weights = np.linalg.solve(z.T @ z + alpha * np.eye(6), z.T @ (y[inner] - sd))
            wanted[k] += np.square(y[held] - sd - (x[held] - mean) @ weights).mean(axis=0) / 4
    np.testing.assert_allclose(measure_losses(factored, y), wanted, rtol=1e-10, atol=1e-12)


def smooth(rng: np.random.Generator, n: int, columns: int) -> NDArray[Any]:
    """Noise as of BOLD: autoregressive (.6 from scan to scan of 2 s) with a slow part."""
    x = rng.normal(size=(n + 50, columns))
    slow = rng.normal(size=(n + 50, columns))
    for k in range(1, len(x)):
        x[k] += 0.6 * x[k - 1]
        slow[k] += 0.95 * slow[k - 1]
    return x[50:] + 0.4 * slow[50:]


def clean(x: NDArray[Any]) -> NDArray[Any]:
    """Remove drifts as `encode_stories` does."""
    n = len(x)
    drifts = np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(int(2 * n * T_R / 120) + 1)))
    return zscore(x - drifts @ np.linalg.lstsq(drifts, x, rcond=None)[0])


@pytest.mark.slow
def test_noise_is_significant_no_more_often_than_alpha_says() -> None:
    p, single = [], []
    for seed in range(40):
        rng = np.random.default_rng([3, seed])
        stories, scans, voxels = 5, 120, 8
        x = [delay_features(zscore(smooth(rng, scans, 5)), [1, 2, 3, 4]) for _ in range(stories)]
        y = np.concatenate([clean(smooth(rng, scans, voxels)) for _ in range(stories)])
        space = FeatureSpace("net", "conv", np.concatenate(x), tuple(np.arange(stories * scans)[:, None]))
        import pandas as pd

        targets = pd.DataFrame({"roi": "", "voxel": np.arange(voxels)})
        names = tuple(f"{k}" for k in range(len(y)))
        responses = Responses(y[None], names, names, ("1",), targets)
        for block, found in ((10, p), (1, single)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BrainmapWarning)
                fit = fit_encoding(
                    [space],
                    responses,
                    fold_stories(stories, scans, block),
                    EncodingSettings(alphas=np.logspace(0, 6, 5)),
                )
                found += rsa.encoding_test(fit, permutations=99, correction="none", rng=rng)["p"].tolist()
    # voxels of one simulation share features, so that a simulation counts as one observation
    rate = np.mean(np.reshape(p, (40, -1)) <= 0.05, axis=1)
    assert rate.mean() <= 0.05 + 2 * rate.std(ddof=1) / np.sqrt(40)
    assert np.mean(np.array(single) <= 0.05) > 0.1  # single scans are exchanged too freely


def test_products_within_stories_give_the_scores_of_factors_in_each_fold() -> None:
    rng = np.random.default_rng(11)
    sizes = (60, 75, 50, 90, 66)
    group = np.repeat(np.arange(5), sizes)
    fold = np.array([0, 1, 2, 0, 1])[group]  # folds of two stories, which come in another order
    x, folds = rng.normal(size=(len(group), 20)) * rng.uniform(0.1, 9, 20) + 3, Folds(fold, group, "story", block=10)
    x[:, 3] = 4.0  # a constant unit
    y = x[:, :6] @ rng.normal(size=(6, 5)) + 8 * rng.normal(size=(len(group), 5)) + 1
    y[group == 0, 1] = 2.0  # constant in a story alone
    y[fold == 2, 2] = 5.0  # constant in a whole test fold: no score
    space = FeatureSpace("net", "conv1", x, tuple(np.arange(len(x))[:, None]))
    for components in (None, 7):
        settings = EncodingSettings(alphas=np.logspace(-1, 6, 9), inner_folds=3, components=components)
        fast = Refit.of(space, folds, settings)
        assert fast.stories is not None
        designs, _ = build_designs(space, [folds.split(k)[0] for k in range(3)], settings)
        slow = Refit.from_designs(designs, folds, settings)
        for one, other in zip(fast.score_folds(y), slow.score_folds(y), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
        assert np.isnan(fast.score_folds(y)[0][2, 2])
        both = [refit.measure_influence(y) for refit in (fast, slow)]
        np.testing.assert_allclose(*both, rtol=1e-8, atol=1e-12)
        predicted = fit_folds(space, y, folds, settings).predicted
        r = [score_fold(predicted[test], y[test])[0] for _, test in map(folds.split, range(3))]
        np.testing.assert_allclose(fast.score_folds(y)[0], r, rtol=1e-9, atol=1e-12)
    x[fold == 1] = x[fold == 1][0]  # constant units in a test fold predict a constant: no score
    flat = Refit.of(space, folds, EncodingSettings(alphas=np.logspace(-1, 6, 9), inner_folds=3)).score_folds(y)[0]
    assert np.isnan(flat[1]).all()
