"""Permutation of sounds: equal to fitting again, calibrated on noise and on unrelated reliable responses, powerful."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.data.dataset import Dataset

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.folds import Folds
from brainmap.rsa.encoding.permutations import Null, Refit, draw_orders, tabulate_p


def encode(*args, **given):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "encoding: ", BrainmapWarning)
        return rsa.encode(*args, **given)


def reorder(data, order):
    """Give the responses of each sound to another sound, in all runs."""
    n = len(order)
    obs = {key: list(data.obs_descriptors[key]) for key in ("stimulus_id", "condition", "run")}
    values = data.measurements.reshape(-1, n, data.n_channel)[:, order].reshape(len(data.measurements), -1)
    return Dataset(values, obs_descriptors=obs)


def test_scores_of_a_permutation_are_those_of_encoding_permuted_responses(world):
    rng = np.random.default_rng(0)
    acts = world.features(rng, n_items=60, layers=("wide", "narrow"))
    acts.arrays["wide"] = rng.normal(size=(60, 200))
    data = world.responses(rng, world.plant(rng, acts["wide"], 5), acts.items)
    fit = encode(acts, data)
    order = rng.permutation(60)
    orders = np.stack([np.arange(60), order])
    for k, space in enumerate(fit.spaces):
        refit = Refit.of(space, fit.folds, fit.settings)
        found = np.concatenate(list(refit.yield_scores(fit.responses.mean, orders)))
        np.testing.assert_allclose(found[0], fit.scores["r"][5 * k : 5 * k + 5], atol=1e-10)
        again = encode(acts, reorder(data, order), layers=[space.layer])
        np.testing.assert_allclose(found[1], again.scores["r"], atol=1e-10)


@pytest.mark.slow
def test_noise_voxels_pass_at_the_nominal_level_and_planted_ones_are_found(world):
    rng = np.random.default_rng(1)
    acts = world.features(rng, n_items=96, layers=("conv1", "conv2"))
    planted = world.plant(rng, acts["conv1"], 30)
    signal = np.concatenate([planted, rng.normal(size=(96, 200))], axis=1)
    data = world.responses(rng, signal, acts.items, reliability=0.5)
    fit = encode(acts, data, inner_folds=3, alphas=np.logspace(1, 5, 5))
    with pytest.warns(BrainmapWarning, match="take more permutations"):
        table = rsa.encoding_test(fit, permutations=199, rng=rng)
    null = table[(table["voxel"] >= 30) | (table["layer"] == "conv2")]
    assert (null["p"] <= 0.05).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(null))
    found = table[(table["voxel"] < 30) & (table["layer"] == "conv1")]
    assert (found["p"] == 1 / 200).mean() > 0.9
    family = rsa.encoding_test(fit, permutations=199, correction="max", rng=rng)
    assert (family["p_corrected"] >= family["p"]).all()
    assert (family.loc[null.index, "p_corrected"] <= 0.05).sum() <= 2
    assert (family.loc[found.index, "p_corrected"] <= 0.05).mean() > 0.7


def test_whole_conditions_are_exchanged_where_sounds_are_tokens(world):
    rng = np.random.default_rng(2)
    words = np.repeat([f"word{k:02d}" for k in range(24)], 2)
    acts = world.features(rng, n_items=48, layers=("conv1",), conditions=words)
    data = world.responses(rng, rng.normal(size=(48, 2)), acts.items, conditions=list(words))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        fits = [rsa.encode(acts, data, groups=groups) for groups in ("condition", "stimulus")]
    for fit in fits:
        orders, told = draw_orders(fit.items, fit.responses.conditions, fit.folds, permutations=20, rng=rng)
        assert "24 whole conditions exchanged" in told
        assert all(len(set(words[order[words == word]])) == 1 for order in orders for word in set(words))
        assert (orders[0] == np.arange(48)).all()


def test_groups_of_the_user_are_exchanged_whole_unless_they_divide_conditions():
    rng = np.random.default_rng(9)
    items = [f"s{k:02d}" for k in range(48)]
    group = np.repeat(np.arange(12), 4)
    folds = Folds(group % 3, group, "groups of the user")
    orders, told = draw_orders(items, items, folds, permutations=50, rng=rng)
    assert "12 whole conditions exchanged" in told
    assert all(len(set(group[order[group == g]])) == 1 for order in orders for g in range(12))
    words = [f"w{k % 6}" for k in range(48)]  # each word is in several groups, as speakers say every word
    orders, _ = draw_orders(items, words, folds, permutations=50, rng=rng)
    assert all(len({words[k] for k in order[::6]}) == 1 for order in orders)
    unequal = Folds(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1]), "groups of the user")
    with pytest.warns(BrainmapWarning, match=r"only 6 relabelings .* no p is under 0.17"):
        draw_orders(items[:4], items[:4], unequal, permutations=9, rng=rng)
    runs = Folds(np.arange(48) % 4, np.arange(48) % 4, "run")
    orders, told = draw_orders(items, items, runs, permutations=9, rng=rng)
    assert told == "stimuli exchanged within runs"
    assert all((order % 4 == np.arange(48) % 4).all() for order in orders)


def test_a_model_of_words_alone_is_not_significant_where_responses_tell_words_apart(world):
    """Tokens of a word resemble each other in both; exchanging single sounds would call that a relation."""
    rejected = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        words = np.repeat([f"word{k:02d}" for k in range(16)], 3)
        acts = world.features(rng, n_items=48, layers=("conv1",), conditions=words)
        acts.arrays["conv1"] = np.repeat(rng.normal(size=(16, 20)), 3, axis=0) + 0.3 * rng.normal(size=(48, 20))
        signal = np.repeat(rng.normal(size=(16, 1)), 3, axis=0)
        data = world.responses(rng, signal, acts.items, conditions=list(words), reliability=0.8)
        fit = encode(acts, data, inner_folds=3, alphas=np.logspace(0, 4, 5))
        rejected += int(rsa.encoding_test(fit, permutations=39, rng=rng)["p"][0] <= 0.05)
    assert rejected / 40 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 40)


def unrelated_study(world, rng, *, n_items, n_participants=8):
    """Participants share reliable responses in two regions, to which the features are unrelated."""
    acts = world.features(rng, n_items=n_items, layers=("conv1",), n_units=20)
    shared = rng.normal(size=(n_items, 2))
    fits = []
    for who in range(n_participants):
        data = world.responses(rng, shared, acts.items, reliability=0.8, roi=["A", "B"])
        data.descriptors["participant"] = f"{who:02d}"
        fits.append(encode(acts, data, inner_folds=3, alphas=np.logspace(0, 4, 5)))
    return fits


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [48, 165])
def test_shared_permutations_are_calibrated_on_responses_that_participants_share(world, n_items):
    permuted, flipped = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        fits = unrelated_study(world, rng, n_items=n_items)
        permuted += rsa.encoding_group_test(fits, permutations=99, rng=rng)["p"].tolist()
        flipped += rsa.encoding_statistics(fits, rng=rng)["p"].tolist()
    rate, of_flips = (np.mean(np.array(p) <= 0.05) for p in (permuted, flipped))
    assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(permuted))
    assert of_flips > 0.12  # why sign flips say "these sounds only"


def test_over_participants_permutations_are_shared_by_sound_and_find_what_is_planted(world):
    rng = np.random.default_rng(3)
    acts = world.features(rng, n_items=60, layers=("conv1", "conv2"))
    signal = np.concatenate([world.plant(rng, acts["conv1"], 3), rng.normal(size=(60, 3))], axis=1)
    fits = []
    for who in range(4):
        data = world.responses(rng, signal, acts.items, reliability=0.4, roi=["A"] * 3 + ["B"] * 3)
        data.descriptors["participant"] = str(who)
        rows = rng.permutation(120) if who else np.arange(120)
        obs = {key: np.asarray(data.obs_descriptors[key])[rows] for key in ("stimulus_id", "condition", "run")}
        data = Dataset(data.measurements[rows], dict(data.descriptors), obs, dict(data.channel_descriptors))
        fits.append(encode(acts, data, alphas=np.logspace(1, 5, 5)))
    table = rsa.encoding_group_test(fits, permutations=199, rng=np.random.default_rng(4)).set_index(["layer", "roi"])
    assert table.loc[("conv1", "A"), "p_corrected"] == 1 / 200
    assert table["p"].drop(("conv1", "A")).min() > 0.02
    means = [fit.scores.groupby(["layer", "roi"], sort=False)["r"].mean() for fit in fits]
    np.testing.assert_allclose(table["r"], np.mean(means, axis=0), atol=1e-10)
    flips = rsa.encoding_statistics(fits, rng=rng)
    assert set(flips["generalizes"]) == {"these sounds only"}
    assert "these sounds only" in flips.attrs["note"]
    pairs = rsa.encoding_statistics(fits, differences=True, rng=rng)
    assert pairs[["model", "other"]].drop_duplicates().to_numpy().tolist() == [["conv1", "conv2"]]


def test_participants_with_other_folds_or_sounds_are_refused(world):
    rng = np.random.default_rng(5)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = [world.responses(rng, rng.normal(size=(60, 2)), acts.items) for _ in range(2)]
    one = encode(acts, data[0])
    with pytest.raises(InputError, match="scores are compared only where folds are equal"):
        rsa.encoding_group_test([one, encode(acts, data[1], folds=6)])
    fewer = world.responses(rng, rng.normal(size=(50, 2)), acts.items[:50])
    with pytest.raises(InputError, match="expected the sounds of 1 in 2"):
        rsa.encoding_group_test([one, encode(acts.take(np.arange(50)), fewer)])
    with pytest.raises(InputError, match="at least 1 permutation"):
        rsa.encoding_test(one, permutations=0)


def test_blocks_of_orders_are_summarized_as_all_at_once():
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(50, 7)).round(1)
    scores[:, 2] = np.nan
    null = Null.of([scores[:1], scores[1:20], scores[20:]])
    np.testing.assert_array_equal(null.hits, (scores >= scores[0] - 1e-10).sum(axis=0))
    table = tabulate_p(pd.DataFrame({"roi": list("abcdefg")}), null, "max", "x")
    highest = np.nanmax(scores, axis=1)
    wanted = (highest[:, None] >= scores[0] - 1e-10).mean(axis=0)
    np.testing.assert_allclose(table["p_corrected"], np.where(np.isnan(scores[0]), np.nan, wanted))


def test_a_voxel_without_a_score_has_no_p(world):
    rng = np.random.default_rng(6)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, rng.normal(size=(60, 3)), acts.items)
    data.measurements[:, 1] = 2.0
    table = rsa.encoding_test(encode(acts, data), permutations=19, correction="max", rng=rng)
    assert table["p"].isna().tolist() == [False, True, False]
    assert table["p_corrected"].isna().tolist() == [False, True, False]
