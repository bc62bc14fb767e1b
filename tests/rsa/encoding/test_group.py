"""Differences between networks: the best layer is chosen on training sounds, and the test keeps its level."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.folds import yield_inner_splits
from brainmap.rsa.encoding.group import compare_with_zero, permute_group
from brainmap.rsa.encoding.permuted import permute_network
from brainmap.rsa.encoding.scores import correlate, measure_influence

ALPHAS = np.logspace(0, 4, 5)


def encode(*args, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # alphas at an end of so few
        return rsa.encode(*args, **{"alphas": ALPHAS, "inner_folds": 3, **given})


def study_of(world, rng, signal, *, n_participants, layers, reliability=0.8, regions=None):
    """Models of participants who share a signal `(n_items, n_targets)`, of two networks."""
    n = len(signal)
    acts = {name: world.features(rng, n_items=n, layers=own, n_units=20) for name, own in layers.items()}
    items = next(iter(acts.values())).items
    regions = [f"roi{k}" for k in range(signal.shape[1])] if regions is None else regions
    fits = []
    for who in range(n_participants):
        data = world.responses(rng, signal, items, reliability=reliability, roi=regions)
        data.descriptors["participant"] = f"{who:02d}"
        fits.append((acts, data))
    return fits


def ridge(x, y, alpha):
    """Predictions of z-scored features by the normal equations."""

    def predict(test):
        sd = np.where(x.std(0) > 0, x.std(0), 1)
        z, zt = (x - x.mean(0)) / sd, (test - x.mean(0)) / sd
        return zt @ np.linalg.solve(z.T @ z + alpha * np.eye(z.shape[1]), z.T @ (y - y.mean(0))) + y.mean(0)

    return predict


def best_by_brute_force(fit, network):
    """In each fold, the layer with the smallest error of inner folds, refitted and scored on the test fold."""
    y, found = fit.responses.mean, []
    for k in range(fit.folds.n_folds):
        train, test = fit.folds.split(k)
        inner = yield_inner_splits(fit.folds.group[train], 3)
        options = []
        for space in fit.spaces:
            if space.network == network:
                x = space.whole()
                sd = np.where(x[train].std(0) > 0, x[train].std(0), 1)
                x = (x - x[train].mean(0)) / sd  # units are scaled by all training items of the fold
                for alpha in ALPHAS:
                    error = []
                    for a, b in inner:
                        center = x[train][a].mean(0)
                        z, zt = x[train][a] - center, x[train][b] - center
                        ya = y[train][a]
                        w = np.linalg.solve(z.T @ z + alpha * np.eye(z.shape[1]), z.T @ (ya - ya.mean(0)))
                        error.append(np.mean((zt @ w + ya.mean(0) - y[train][b]) ** 2))
                    options.append((np.mean(error), alpha, space))
        _, alpha, space = min(options, key=lambda one: one[0])
        x = space.whole()
        found.append(np.corrcoef(ridge(x[train], y[train], alpha)(x[test])[:, 0], y[test][:, 0])[0, 1])
    return np.mean(found)


def test_the_best_layer_is_chosen_among_training_sounds(world):
    rng = np.random.default_rng(0)
    layers = {"one": ("conv1", "conv2"), "other": ("a", "b", "c")}
    ((acts, _),) = study_of(world, rng, rng.normal(size=(60, 1)), n_participants=1, layers=layers)
    signal = world.plant(rng, acts["one"]["conv2"], 1) + world.plant(rng, acts["one"]["conv1"], 1)
    fit = encode(acts, world.responses(rng, signal, acts["one"].items, reliability=0.5, roi=["A"]))
    for network in layers:
        own = permute_network(fit, network, np.arange(60)[None], ["A"])
        assert own.best[0, 0] == pytest.approx(best_by_brute_force(fit, network), abs=1e-8)
    mine = fit.scores.set_index(["network", "layer"])["r"]
    assert own.layers[0, :, 0] == pytest.approx(mine["other"].to_numpy(), abs=1e-10)


def test_the_network_that_is_planted_is_ahead_and_pairs_are_those_asked_for(world):
    rng = np.random.default_rng(1)
    layers = {"one": ("conv1", "conv2"), "other": ("a", "b")}
    found = study_of(world, rng, rng.normal(size=(60, 2)), n_participants=3, layers=layers)
    signal = np.concatenate([world.plant(rng, found[0][0]["one"]["conv2"], 1), rng.normal(size=(60, 1))], axis=1)
    fits = []
    for k, (acts, _) in enumerate(found):
        data = world.responses(rng, signal, acts["one"].items, reliability=0.6, roi=["A", "B"])
        data.descriptors["participant"] = str(k)
        fits.append(encode(acts, data))
    table = rsa.encoding_network_test(fits, permutations=99, rng=np.random.default_rng(2)).set_index("roi")
    assert table.loc["A", "p_unrelated"] == 1 / 100
    assert table.loc["A", "p_corrected"] < 0.05
    assert table.loc["A", "difference"] > 0.3
    assert table.loc["B", "p"] > 0.05
    assert (table["p"] == table[["p_unrelated", "p_equal"]].max(axis=1)).all()
    assert "family-wise by the largest difference over 2 tests; and a t test over 60 units" in table.attrs["note"]
    assert "; these sounds only, since networks that predict equally well" in table.attrs["note"]
    turned = rsa.encoding_network_test(
        fits, pairs=[("other", "one")], permutations=99, rng=np.random.default_rng(2)
    ).set_index("roi")
    np.testing.assert_allclose(turned["difference"], -table["difference"])
    np.testing.assert_array_equal(turned["p"], table["p"])
    null = permute_group(fits, permutations=9, rng=np.random.default_rng(2))
    np.testing.assert_allclose(null.own.mean(axis=2)[0], table["r"])
    with pytest.raises(InputError, match="did you mean 'one'"):
        rsa.encoding_network_test(fits, pairs=[("on", "other")])


def test_the_variance_of_a_difference_is_that_over_draws_of_sounds():
    """Of two models that are not fitted: without overlapping training, the p of a t test over sounds."""
    p = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        y, n = rng.normal(size=(40, 1)), 40
        one, other = (y + rng.normal(size=y.shape) for _ in range(2))
        moved = measure_influence(one, y) - measure_influence(other, y)
        difference = correlate(one, y) - correlate(other, y)
        p += compare_with_zero(difference, moved[None] / np.sqrt(1 + n / (n - 1)), n_folds=n).tolist()
    assert 0.03 < np.mean(np.array(p) <= 0.05) < 0.08
    assert compare_with_zero(np.zeros(1), np.zeros((1, 9, 1)), n_folds=5).tolist() == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [48, 165])
@pytest.mark.parametrize("related", [False, True], ids=["unrelated", "equally related"])
def test_differences_between_networks_keep_their_level(world, n_items, related):
    """On reliable responses that participants share: unrelated to both networks, or as much to the one as the other."""
    p, over_participants = [], []
    for seed in range(100):
        rng = np.random.default_rng([seed, n_items])
        layers = {"one": ("conv1",), "other": ("conv1",)}
        signal = rng.normal(size=(n_items, 10))
        made = study_of(world, rng, signal, n_participants=4, layers=layers)
        if related:
            both = [np.asarray(made[0][0][name]["conv1"], float) for name in layers]
            w = rng.normal(size=(both[0].shape[1], 10))
            planted = sum(((x - x.mean(0)) / x.std(0)) @ w for x in both)
            signal = signal + planted / planted.std(0)
        fits = []
        for k, (acts, _) in enumerate(made):
            data = world.responses(rng, signal, acts["one"].items, reliability=0.8, roi=[f"r{j}" for j in range(10)])
            data.descriptors["participant"] = str(k)
            fits.append(encode(acts, data))
        null = permute_group(fits, permutations=99, rng=rng)
        p += null.test_networks(correction="none")["p"].tolist()
        own = null.own[0] - null.own[1]
        t = own.mean(axis=1) / (own.std(axis=1, ddof=1) / 2)
        over_participants += (np.abs(t) > 3.18).tolist()
    assert np.mean(np.array(p) <= 0.05) <= 0.06
    assert np.mean(over_participants) > 0.12  # why tests over participants say "these sounds only"
