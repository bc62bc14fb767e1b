"""rsa.encode: planted layers are found, items are matched by label, and what cannot be right is refused."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.data.dataset import Dataset

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.counts import COUNT_COLUMNS, warn_of_participants


def encode(*args, **given):
    """Encode without the warnings that every study of noise has (alphas at an end)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "encoding: ", BrainmapWarning)
        return rsa.encode(*args, **given)


def best_layer(scores, by):
    """The layer with the highest mean r of each voxel or region."""
    table = scores.groupby([by, "layer"], sort=False)["r"].mean().unstack(sort=False)
    return table.idxmax(axis=1)


PLANTED = ("conv2", "conv4", "conv7")


@pytest.fixture
def planted(world):
    """40 voxels of each of three of eight layers that resemble their neighbors, and 40 voxels of noise; 192 sounds."""

    def make(reliability, seed=0):
        rng = np.random.default_rng(seed)
        acts = world.features(rng, n_items=192, n_units=60, layers=[f"conv{k}" for k in range(1, 9)])
        for before, name in pairwise(acts.layers):
            acts.arrays[name] = 0.7 * acts.arrays[before] + 0.7 * acts.arrays[name]
        signal = np.concatenate([world.plant(rng, acts[name], 40) for name in PLANTED], axis=1)
        data = world.responses(rng, signal, acts.items, reliability=reliability)
        noise = rng.normal(size=(len(data.measurements), 40))
        channels = {"roi": np.repeat([*PLANTED, "noise"], 40), "voxel": np.arange(160)}
        obs = {key: list(value) for key, value in data.obs_descriptors.items() if key != "index"}
        return acts, Dataset(np.hstack([data.measurements, noise]), obs_descriptors=obs, channel_descriptors=channels)

    return make


@pytest.mark.parametrize(("reliability", "exact", "near"), [(0.5, 0.95, 0.98), (0.2, 0.65, 0.8)])
def test_planted_layers_are_found_in_every_region_and_in_most_voxels(planted, reliability, exact, near):
    acts, data = planted(reliability)
    fit = encode(acts, data)
    scores = fit.scores[fit.scores["roi"] != "noise"]
    assert best_layer(scores, "roi").to_dict() == {name: name for name in PLANTED}
    found = best_layer(scores, "voxel").map({name: k for k, name in enumerate(acts.layers, start=1)}).to_numpy()
    off = np.abs(found - np.repeat([2, 4, 7], 40))
    assert (off == 0).mean() >= exact
    assert (off <= 1).mean() >= near
    noise = fit.scores.query("roi == 'noise'").groupby("layer")["r"].mean()
    assert noise.abs().max() < 0.05


def test_corrected_scores_recover_the_correlation_with_the_signal(planted):
    acts, data = planted(0.5)
    fit = encode(acts, data, targets="voxel", layers=["conv2"])
    rows = fit.scores.query("roi == 'conv2'")
    noiseless = rows["r"].mean() / np.sqrt(0.5)
    assert rows["reliability"].mean() == pytest.approx(0.5, abs=0.05)
    assert rows["r_corrected"].mean() == pytest.approx(noiseless, abs=0.08)
    np.testing.assert_allclose(rows["r_corrected"], rows["r"] / np.sqrt(rows["reliability"]))
    np.testing.assert_allclose(rows["r2_corrected"], rows["r2"] / rows["reliability"])


def test_items_are_matched_by_label_in_whatever_order_they_come(world):
    rng = np.random.default_rng(1)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, world.plant(rng, acts["conv1"], 6), acts.items)
    order = rng.permutation(60)
    one = encode(acts, data).scores
    two = encode(acts.take(order), data).scores
    rows = rng.permutation(120)
    obs = {key: np.asarray(data.obs_descriptors[key])[rows] for key in ("stimulus_id", "condition", "run")}
    three = encode(acts, Dataset(data.measurements[rows], obs_descriptors=obs)).scores
    np.testing.assert_allclose(two["r"], one["r"], atol=1e-9)
    np.testing.assert_allclose(three["r"], one["r"], atol=1e-9)


def test_sounds_on_one_side_only_or_twice_are_named(world):
    rng = np.random.default_rng(2)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, rng.normal(size=(60, 3)), acts.items)
    with pytest.raises(InputError, match="'sound059' only in the responses"):
        encode(acts.take(np.arange(59)), data)
    fewer = world.responses(rng, rng.normal(size=(58, 3)), acts.items[2:])
    with pytest.raises(InputError, match="'sound000', 'sound001' only in the features"):
        encode(acts, fewer)
    with pytest.raises(InputError, match="'sound003' more than once"):
        encode(acts.take([*range(60), 3]), data)


def test_a_missing_repetition_is_left_out_and_an_item_without_any_is_refused(world):
    rng = np.random.default_rng(3)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, world.plant(rng, acts["conv1"], 4), acts.items, n_runs=3)
    data.measurements[5] = np.nan
    fit = encode(acts, data)
    np.testing.assert_allclose(fit.responses.mean[5], data.measurements[[65, 125]].mean(axis=0))
    assert np.isfinite(fit.scores["r_corrected"]).all()
    data.measurements[[65, 125]] = np.nan
    with pytest.raises(InputError, match="got none to 'sound005'"):
        encode(acts, data)
    data.measurements[7, 1] = np.nan
    with pytest.raises(InputError, match="NaN in some voxels only"):
        encode(acts, data)


def test_folds_by_stimulus_leak_the_word_and_folds_by_condition_do_not(world):
    rng = np.random.default_rng(4)
    words = np.repeat([f"word{k:02d}" for k in range(24)], 8)
    acts = world.features(rng, n_items=192, layers=("identity",), n_units=24, conditions=words)
    word = np.repeat(np.eye(24), 8, axis=0)
    acts.arrays["identity"] = word + 0.01 * rng.normal(size=word.shape)  # tells words apart, and nothing else
    signal = np.repeat(rng.normal(size=(24, 300)), 8, axis=0)  # one response a word, unrelated to any feature
    data = world.responses(rng, signal, acts.items, conditions=list(words))
    honest = encode(acts, data).scores["r"].mean()
    with pytest.warns(BrainmapWarning, match="separate the tokens of 24 conditions"):
        leaking = rsa.encode(acts, data, groups="stimulus").scores["r"].mean()
    assert abs(honest) < 0.05
    assert leaking > 0.4


def test_folds_by_run_are_refused_where_runs_share_sounds(world):
    rng = np.random.default_rng(5)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, rng.normal(size=(60, 3)), acts.items)
    with pytest.raises(InputError, match="occur in one run each, got 60 in several"):
        encode(acts, data, groups="run")
    obs = {"stimulus_id": acts.items, "run": [str(k % 4) for k in range(60)]}
    fit = encode(acts, Dataset(rng.normal(size=(60, 3)), obs_descriptors=obs), groups="run", folds=4)
    runs = np.arange(60) % 4
    assert all(len(set(runs[fit.folds.fold == k])) == 1 for k in range(4))
    assert fit.scores["r_corrected"].isna().all()
    assert fit.counts["unknown_reliability"].tolist() == [3]


def test_few_items_and_small_folds_are_refused(world):
    rng = np.random.default_rng(6)
    acts = world.features(rng, n_items=32, layers=("conv1",))
    data = world.responses(rng, rng.normal(size=(32, 3)), acts.items)
    with pytest.raises(InputError, match="expected at least 40 items, got 32"):
        encode(acts, data)
    with pytest.raises(InputError, match="at least 8 items in each of 5 test folds, got 6"):
        encode(acts, data, few_items=True)
    assert encode(acts, data, few_items=True, folds=4).folds.n_folds == 4


def test_tokens_of_a_condition_are_averaged_on_both_sides(world):
    rng = np.random.default_rng(7)
    words = np.repeat([f"word{k:02d}" for k in range(40)], 2)
    acts = world.features(rng, n_items=80, layers=("conv1",), conditions=words)
    data = world.responses(rng, rng.normal(size=(80, 3)), acts.items, conditions=list(words))
    fit = encode(acts, data, items="condition")
    assert fit.items == tuple(dict.fromkeys(words))
    np.testing.assert_allclose(fit.spaces[0].whole(), acts["conv1"].reshape(40, 2, -1).mean(axis=1))
    np.testing.assert_allclose(fit.responses.values[0], data.measurements[:80].reshape(40, 2, -1).mean(axis=1))
    of_words = world.responses(rng, rng.normal(size=(40, 3)), list(dict.fromkeys(words)))
    assert encode(acts, of_words, items="condition").items == fit.items
    with pytest.raises(InputError, match="the responses name conditions: take items='condition'"):
        encode(acts, of_words)


def test_constant_voxels_and_constant_predictions_have_no_score_and_are_counted(world):
    rng = np.random.default_rng(8)
    acts = world.features(rng, n_items=60, layers=("conv1", "rare"))
    acts.arrays["rare"] = np.zeros((60, 1))
    fold_of = encode({"x": acts["conv1"]}, data_of(acts, rng), descriptors={"stimulus_id": acts.items}).folds.fold
    acts.arrays["rare"][np.flatnonzero(fold_of == 0)] = rng.normal(size=((fold_of == 0).sum(), 1))
    data = data_of(acts, rng)
    data.measurements[:, 1] = 3.0
    with pytest.warns(BrainmapWarning) as told:
        fit = rsa.encode(acts, data)
    assert fit.counts["constant"].tolist() == [1, 1]
    assert fit.counts["constant_predictions"].tolist() == [0, 3]
    assert fit.scores["r"].isna().tolist() == [False, True, False, False, True, True, True, True]
    said = " ".join(str(one.message) for one in told)
    assert "1 of 4 targets are constant" in said
    assert "3 targets have a constant prediction in a fold (no r) in 'rare'" in said


def data_of(acts, rng):
    return Dataset(
        rng.normal(size=(120, 4)),
        obs_descriptors={"stimulus_id": acts.items * 2, "run": np.repeat(["1", "2"], 60)},
    )


def test_the_table_has_a_row_for_each_layer_and_voxel_and_the_named_columns(world):
    rng = np.random.default_rng(16)
    acts = world.features(rng, n_items=60, layers=("conv1", "conv2"))
    data = world.responses(rng, rng.normal(size=(60, 3)), acts.items, roi=["A", "", "B"])
    scores = encode({"net": acts}, data).scores
    wanted = ["network", "layer", "roi", "voxel", "r", "r_corrected", "r2", "r2_corrected", "reliability", "alpha"]
    assert list(scores) == wanted
    rows = [("net", layer, roi, k) for layer in acts.layers for k, roi in enumerate(("A", "", "B"))]
    assert list(scores[wanted[:4]].itertuples(index=False, name=None)) == rows


@pytest.mark.parametrize("floor", [0.0, 0.6])
def test_voxels_at_or_below_the_floor_of_reliability_have_no_corrected_score_and_are_counted(world, floor):
    rng = np.random.default_rng(17)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, world.plant(rng, acts["conv1"], 4), acts.items, reliability=0.8)
    data.measurements[:60, 3] = rng.normal(size=60) - data.measurements[60:, 3]  # opposite: a reliability below 0
    with pytest.warns(BrainmapWarning) as told:
        fit = rsa.encode(acts, data, reliability_floor=floor)
    lost = (fit.scores["reliability"] <= floor).to_numpy()
    assert lost[3]
    assert fit.scores["r_corrected"].isna().tolist() == lost.tolist() == fit.scores["r2_corrected"].isna().tolist()
    assert fit.scores["r"].notna().all()
    assert fit.counts["unreliable"].tolist() == [lost.sum()]
    assert any(
        f"{lost.sum()} of 4 targets have a reliability at or below the floor" in str(one.message) for one in told
    )


def test_repetitions_inside_a_run_are_averaged_and_give_no_reliability(world):
    rng = np.random.default_rng(18)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    values = rng.normal(size=(240, 3))
    obs = {"stimulus_id": acts.items * 4, "run": np.repeat(["1", "1", "2", "2"], 60)}
    fit = encode(acts, Dataset(values, obs_descriptors=obs))
    halves = values.reshape(2, 2, 60, 3).mean(axis=1)
    np.testing.assert_allclose(fit.responses.values, halves)
    r = [np.corrcoef(halves[0, :, v], halves[1, :, v])[0, 1] for v in range(3)]
    np.testing.assert_allclose(fit.scores["reliability"], [2 * x / (1 + x) for x in r])
    once = encode(acts, Dataset(values[:120], obs_descriptors={key: list(v)[:120] for key, v in obs.items()}))
    assert once.scores["reliability"].isna().all()


def test_alphas_at_the_ends_of_their_range_are_counted_and_warned_of(world):
    rng = np.random.default_rng(9)
    acts = world.features(rng, n_items=60, layers=("conv1",), n_units=5)
    data = world.responses(rng, world.plant(rng, acts["conv1"], 6), acts.items, reliability=0.99)
    with pytest.warns(BrainmapWarning, match=r"the smallest alpha is the best one in up to 100% .* try smaller"):
        fit = rsa.encode(acts, data, alphas=[1e4, 1e5])
    assert fit.counts["lowest_alpha"].tolist() == [1.0]
    np.testing.assert_allclose(fit.scores["alpha"], 1e4)
    noise = world.responses(rng, rng.normal(size=(60, 6)), acts.items)
    with pytest.warns(BrainmapWarning, match=r"the largest alpha is the best one .* try larger ones \(targets without"):
        fit = rsa.encode(acts, noise, alphas=[1e-4, 1e-3])
    assert fit.counts["highest_alpha"][0] > 0.9


def test_means_of_regions_are_predicted_in_place_of_voxels(world):
    rng = np.random.default_rng(10)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, rng.normal(size=(60, 6)), acts.items, roi=["A", "A", "B", "", "B", "B"])
    fit = encode(acts, data, targets="roi")
    assert fit.scores["roi"].tolist() == ["A", "B"]
    assert fit.scores["voxel"].isna().all()
    np.testing.assert_allclose(fit.responses.values[0, :, 1], data.measurements[:60, [2, 4, 5]].mean(axis=1))


def test_several_networks_share_items_and_folds(world):
    rng = np.random.default_rng(11)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, world.plant(rng, acts["conv1"], 4), acts.items)
    other = acts.take(rng.permutation(60))
    fit = encode({"trained": acts, "same": other}, data)
    trained, same = (fit.scores.query(f"network == '{name}'")["r"].to_numpy() for name in ("trained", "same"))
    np.testing.assert_allclose(trained, same, atol=1e-9)
    with pytest.raises(InputError, match="name the network"):
        fit.weights("conv1")
    np.testing.assert_allclose(fit.weights("conv1", "same").weights, fit.weights("conv1", "trained").weights, atol=1e-9)


def test_predictions_are_those_that_were_scored(world):
    rng = np.random.default_rng(12)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    data = world.responses(rng, world.plant(rng, acts["conv1"], 4), acts.items)
    fit = encode(acts, data)
    predicted, y, fold = fit.predictions("conv1"), fit.responses.mean, fit.folds.fold
    r = [[np.corrcoef(predicted[fold == k, v], y[fold == k, v])[0, 1] for v in range(4)] for k in range(5)]
    np.testing.assert_allclose(fit.scores["r"], np.mean(r, axis=0), atol=1e-12)
    np.testing.assert_allclose(fit.fold_scores[0], r, atol=1e-12)


def test_predictions_put_together_over_folds_correlate_below_0_where_folds_do_not(world):
    rng = np.random.default_rng(13)
    acts = world.features(rng, n_items=96, layers=("conv1",))
    data = world.responses(rng, rng.normal(size=(96, 200)), acts.items)
    fit = encode(acts, data, folds=8)
    predicted, y = fit.predictions("conv1"), fit.responses.mean
    together = np.mean([np.corrcoef(predicted[:, v], y[:, v])[0, 1] for v in range(200)])
    assert together < -0.1
    assert abs(fit.scores["r"].mean()) < 0.03


def test_correction_for_both_sides_is_larger_and_follows_its_formula(world):
    rng = np.random.default_rng(14)
    acts = world.features(rng, n_items=160, layers=("conv1",), n_units=20)
    data = world.responses(rng, world.plant(rng, acts["conv1"], 30), acts.items, reliability=0.6, n_runs=3)
    fit = encode(acts, data, prediction_reliability=True)
    rows = fit.scores
    assert (rows["r_corrected_both"] >= rows["r_corrected"]).mean() > 0.95
    assert rows["r_corrected_both"].mean() == pytest.approx(1.0, abs=0.05)
    single = world.responses(rng, rng.normal(size=(160, 2)), acts.items, n_runs=1)
    with pytest.raises(InputError, match="needs two runs or more"):
        encode(acts, single, prediction_reliability=True)


def test_arrays_need_labels_and_conditions_must_agree(world):
    rng = np.random.default_rng(15)
    acts = world.features(rng, n_items=60, layers=("conv1",), conditions=[f"w{k // 2}" for k in range(60)])
    data = world.responses(rng, rng.normal(size=(60, 2)), acts.items, conditions=[f"v{k // 2}" for k in range(60)])
    with pytest.raises(InputError, match="arrays have no labels"):
        encode({"conv1": acts["conv1"]}, data)
    with pytest.raises(InputError, match="'sound000' has the condition 'v0' in the responses and 'w0'"):
        encode(acts, data)
    same = world.responses(rng, rng.normal(size=(60, 2)), acts.items)
    with pytest.raises(InputError, match="did you mean 'conv1'"):
        encode(acts, same, layers=["cnv1"])


def test_what_holds_in_several_participants_is_said_once():
    row = dict.fromkeys(COUNT_COLUMNS, 0) | {"layer": "conv1", "targets": 9}
    each = {name: pd.DataFrame([row | {"unreliable": count}]) for name, count in (("01", 0), ("02", 3), ("03", 1))}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_participants(each)
    assert [str(one.message) for one in caught] == [
        "encoding: sub-02: 3 of 9 targets have a reliability at or below the floor: no corrected score; "
        "likewise in 'sub-03'"
    ]


def test_layers_that_are_fitted_side_by_side_have_the_same_scores(world) -> None:
    rng = np.random.default_rng(12)
    acts = world.features(rng, layers=("conv1", "conv2", "conv3"))
    data = world.responses(rng, world.plant(rng, acts["conv2"], 6), acts.items)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        one, three = (rsa.encode(acts, data, threads=count, prediction_reliability=True) for count in (1, 3))
    pd.testing.assert_frame_equal(one.scores, three.scores, rtol=1e-10)
    pd.testing.assert_frame_equal(one.counts, three.counts)
    np.testing.assert_allclose(one.fold_scores, three.fold_scores, rtol=1e-10)
    with pytest.raises(InputError, match="encode: expected 1 thread or more, got threads=0"):
        rsa.encode(acts, data, threads=0)
