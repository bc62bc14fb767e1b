"""RDMs against rsatoolbox, between runs, with missing and constant patterns, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rsatoolbox.data.dataset import Dataset
from rsatoolbox.rdm.calc import calc_rdm
from rsatoolbox.rdm.calc_unbalanced import calc_rdm_unbalanced
from rsatoolbox.rdm.rdms import RDMs, load_rdm

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.rdm.alignment import align_vectors, find_pair_positions, list_labels, stack_rdms
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.rsa.rdm.files import load_rdms, save_rdms

WORDS = ["b10", "b9", "b1", "tree", "cat", "b2"]  # sorted by label, b10 comes before b9


class Features:
    """The smallest thing that is a feature set."""

    def __init__(self, layers: dict[str, np.ndarray], items: Sequence[str], conditions: Sequence[str]) -> None:
        self._layers, self.items, self.conditions = layers, items, conditions
        self.layers = list(layers)

    def __getitem__(self, layer: str) -> np.ndarray:
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)


def make_dataset(rng: np.random.Generator, *, n_runs: int = 4, tokens: int = 2) -> Dataset:
    """Every token of every word once a run, each run in an order of its own."""
    n_voxels = 25
    stimuli = [f"{word}-{k}" for word in WORDS for k in range(tokens)]
    signal = rng.normal(size=(len(stimuli), n_voxels))
    rows, names, runs = [], [], []
    for run in range(n_runs):
        for k in rng.permutation(len(stimuli)):
            rows.append(signal[k] + rng.normal(size=n_voxels) + 3)
            names.append(stimuli[k])
            runs.append(float(run))
    return Dataset(
        np.array(rows),
        descriptors={"participant": "01"},
        obs_descriptors={"stimulus_id": names, "condition": [n.split("-")[0] for n in names], "run": runs},
        channel_descriptors={"voxel": list(range(n_voxels)), "roi": ["HG"] * 10 + ["STG"] * 12 + [""] * 3},
    )


def spd(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.linalg.inv(np.cov(rng.normal(size=(n, 4 * n))))


def by_label(rdms: Any, like: RDMs) -> np.ndarray:
    return align_vectors(rdms, like)


@pytest.mark.parametrize("level", ["stimulus", "condition"])
@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean", "mahalanobis", "crossnobis"])
def test_equals_rsatoolbox_whatever_the_order_of_labels(dissimilarity: Any, level: Any) -> None:
    rng = np.random.default_rng(0)
    data = make_dataset(rng)
    label = {"stimulus": "stimulus_id", "condition": "condition"}[level]
    precision = spd(rng, 25) if dissimilarity in ("mahalanobis", "crossnobis") else None
    runs: Any = "between" if dissimilarity == "crossnobis" else "average"
    ours = compute_rdms(data, dissimilarity=dissimilarity, items=level, runs=runs, noise_precision=precision)
    theirs = calc_rdm(
        data,
        method=dissimilarity,
        descriptor=label,
        noise=precision,
        cv_descriptor="run" if dissimilarity == "crossnobis" else None,
    )
    np.testing.assert_allclose(ours.dissimilarities, by_label(theirs, ours), atol=1e-10, rtol=0)


@pytest.mark.parametrize("dissimilarity", ["euclidean", "correlation"])
def test_a_layer_equals_rsatoolbox(dissimilarity: Any) -> None:
    x = np.random.default_rng(1).normal(size=(6, 40))
    ours = compute_rdms(Features({"conv1": x}, WORDS, WORDS), dissimilarity=dissimilarity)
    theirs = calc_rdm(
        Dataset(x, obs_descriptors={"stimulus_id": WORDS}), method=dissimilarity, descriptor="stimulus_id"
    )
    np.testing.assert_allclose(ours.dissimilarities, by_label(theirs, ours), atol=1e-10, rtol=0)


def test_cosine_equals_scipy() -> None:
    from scipy.spatial.distance import pdist

    x = np.random.default_rng(2).normal(size=(7, 9)) + 1
    np.testing.assert_allclose(compute_dissimilarities(x, dissimilarity="cosine"), pdist(x, "cosine"), atol=1e-12)


def test_crossnobis_with_a_precision_a_run_equals_rsatoolbox() -> None:
    rng = np.random.default_rng(3)
    data = make_dataset(rng, n_runs=3)
    precision = np.stack([spd(rng, 25) for _ in range(3)])
    listed: Any = list(precision)
    ours = compute_rdms(data, dissimilarity="crossnobis", noise_precision=precision)
    theirs = calc_rdm(data, method="crossnobis", descriptor="stimulus_id", cv_descriptor="run", noise=listed)
    np.testing.assert_allclose(ours.dissimilarities, by_label(theirs, ours), atol=1e-10)


def test_crossnobis_of_runs_that_lack_items_takes_the_runs_that_both_have() -> None:
    """rsatoolbox's unbalanced one averages inner products over other runs: no oracle but for complete items."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4, 6, 12))
    x[0, 1] = x[2, 1] = x[3, 5] = np.nan
    run, item = np.nonzero(~np.isnan(x[..., 0]))
    data = Dataset(x[run, item], obs_descriptors={"stimulus_id": item.astype(str), "run": run.astype(float)})
    theirs = calc_rdm_unbalanced(data, method="crossnobis", descriptor="stimulus_id", cv_descriptor="run")
    ours = compute_rdms(data, dissimilarity="crossnobis", descriptors={"network": "none"})
    i, j = np.triu_indices(6, 1)
    whole = ~np.isin(i, (1, 5)) & ~np.isin(j, (1, 5))
    np.testing.assert_allclose(ours.dissimilarities[:, whole], by_label(theirs, ours)[:, whole], atol=1e-10)
    np.testing.assert_allclose(ours.dissimilarities[0], compute_dissimilarities(x, dissimilarity="crossnobis"))
    np.testing.assert_array_equal(np.isnan(ours.dissimilarities[0]), (i == 1) & (j == 5))  # share run 1 alone
    x[1:, 4] = np.nan  # now seen in one run alone: its pairs are NaN, the others keep their values
    expected = np.where((i == 4) | (j == 4), np.nan, ours.dissimilarities[0])
    np.testing.assert_allclose(compute_dissimilarities(x, dissimilarity="crossnobis"), expected)


@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean", "cosine"])
def test_between_runs_equals_a_loop_over_pairs_of_runs(dissimilarity: Any) -> None:
    x = np.random.default_rng(5).normal(size=(3, 5, 8)) + 0.5
    unit = x - x.mean(2, keepdims=True) if dissimilarity == "correlation" else x
    if dissimilarity != "euclidean":
        unit = unit / np.linalg.norm(unit, axis=2, keepdims=True)
    pairs = [(m, n) for m in range(3) for n in range(3) if m != n]
    scale = x.shape[2] if dissimilarity == "euclidean" else 2
    expected = [
        np.mean([(unit[m, i] - unit[m, j]) @ (unit[n, i] - unit[n, j]) for m, n in pairs]) / scale
        for i in range(5)
        for j in range(i + 1, 5)
    ]
    np.testing.assert_allclose(compute_dissimilarities(x, dissimilarity=dissimilarity), expected, atol=1e-12)


def test_the_correlation_distance_between_runs_is_the_formula_of_the_documents() -> None:
    """(r_ii + r_jj) / 2 - r_ij from numpy's correlations, over the runs that both items have; not from products."""
    x = np.random.default_rng(11).normal(size=(4, 5, 9)) * 3 + 7
    x[1, 2] = x[3, 2] = x[3, 4] = np.nan
    expected = []
    for i, j in zip(*np.triu_indices(5, 1), strict=True):
        runs = [m for m in range(4) if np.isfinite(x[m, [i, j]]).all()]
        pairs = [(m, n) for m in runs for n in runs if m != n]

        def r(a: int, b: int, pairs: list[tuple[int, int]] = pairs) -> float:
            return float(np.mean([np.corrcoef(x[m, a], x[n, b])[0, 1] for m, n in pairs]))

        expected.append((r(i, i) + r(j, j)) / 2 - r(i, j))
    np.testing.assert_allclose(compute_dissimilarities(x), expected, atol=1e-12)


def test_between_runs_of_the_same_run_twice_is_one_minus_r() -> None:
    x = np.random.default_rng(6).normal(size=(5, 30))
    np.testing.assert_allclose(compute_dissimilarities(np.stack([x, x])), compute_dissimilarities(x), atol=1e-12)


def test_noise_in_table_order_makes_a_geometry_within_runs_and_none_between() -> None:
    """Cai 2019: neighbors in time share noise; all runs have one order here, as a table has."""
    rng = np.random.default_rng(7)
    i, j = np.triu_indices(16, 1)
    lag = (j - i).astype(float)[None]
    within, between = [], []
    for _ in range(30):
        noise = rng.normal(size=(4, 16, 60))
        for k in range(1, 16):
            noise[:, k] = 0.5 * noise[:, k - 1] + np.sqrt(0.75) * noise[:, k]
        within.append(compute_dissimilarities(noise.mean(0)))
        between.append(compute_dissimilarities(noise))
    near_is_alike = compare_vectors(lag, np.array(within), measure="rho-a")[0]
    free = compare_vectors(lag, np.array(between), measure="rho-a")[0]
    assert (near_is_alike > 0.1).all()
    assert abs(free.mean()) < 3 * free.std() / np.sqrt(30)
    assert abs(np.mean(between)) < 0.005
    assert (np.array(between) < 0).mean() > 0.3, "negative values are kept"


def test_tokens_are_averaged_before_the_rdm_and_within_runs() -> None:
    data = make_dataset(np.random.default_rng(8), tokens=3)
    rdms = compute_rdms(data, items="condition", dissimilarity="euclidean")
    words = np.array(data.obs_descriptors["condition"])
    runs = np.array(data.obs_descriptors["run"])
    means = np.array(
        [[data.measurements[(words == w) & (runs == r)].mean(0) for w in list_labels(rdms)] for r in range(4)]
    )
    np.testing.assert_allclose(rdms.dissimilarities[0], compute_dissimilarities(means, dissimilarity="euclidean"))
    assert "stimulus_id" not in rdms.pattern_descriptors
    assert rdms.descriptors["level"] == "condition"


def test_a_missing_token_leaves_the_mean_to_the_others() -> None:
    x = np.random.default_rng(9).normal(size=(6, 10))
    labels = {"stimulus_id": list("abcdef"), "condition": ["x", "x", "y", "y", "z", "z"]}
    with_hole = x.copy()
    with_hole[1] = np.nan
    expected = compute_dissimilarities(np.array([x[0], x[2:4].mean(0), x[4:].mean(0)]))
    rdms = compute_rdms(with_hole, items="condition", descriptors=labels)
    np.testing.assert_allclose(rdms.dissimilarities[0], expected)


def test_rois_and_layers_are_named_and_independent_of_each_other() -> None:
    data = make_dataset(np.random.default_rng(10))
    both = compute_rdms(data, rois="all")
    assert both.rdm_descriptors["roi"] == ["HG", "STG"]
    assert both.rdm_descriptors["participant"] == ["01", "01"]
    alone = compute_rdms(data, rois=["STG"])
    np.testing.assert_array_equal(alone.dissimilarities[0], both.dissimilarities[1])
    x = np.random.default_rng(11).normal(size=(6, 4, 5))
    features = Features({"conv1": x, "fc": x[:, 0]}, WORDS, WORDS)
    rdms = compute_rdms(features, layers=["fc"], descriptors={"network": "ch32"})
    assert (rdms.rdm_descriptors["layer"], rdms.rdm_descriptors["network"]) == (["fc"], ["ch32"])
    np.testing.assert_allclose(compute_rdms(features).dissimilarities[0], compute_dissimilarities(x.reshape(6, 20)))


def test_a_missing_item_is_nan_for_its_own_rdm_only() -> None:
    x = np.random.default_rng(12).normal(size=(6, 20))
    hole = x.copy()
    hole[2] = np.nan
    rdms = compute_rdms(Features({"whole": x, "holed": hole}, WORDS, WORDS), units="zscore")
    i, j = np.triu_indices(6, 1)
    assert not np.isnan(rdms.dissimilarities[0]).any()
    np.testing.assert_array_equal(np.isnan(rdms.dissimilarities[1]), (i == 2) | (j == 2))


def test_a_missing_run_is_left_out_for_that_item() -> None:
    data = make_dataset(np.random.default_rng(13), n_runs=3, tokens=1)
    names, runs = np.array(data.obs_descriptors["stimulus_id"]), np.array(data.obs_descriptors["run"])
    data.measurements[(names == "cat-0") & (runs < 1)] = np.nan
    data.measurements[(names == "tree-0") & (runs < 2)] = np.nan
    rdms = compute_rdms(data)
    i, j = np.triu_indices(6, 1)
    tree = list_labels(rdms).index("tree-0")
    np.testing.assert_array_equal(np.isnan(rdms.dissimilarities[0]), (i == tree) | (j == tree))


def test_zscored_units_are_standard_and_constant_ones_dropped_and_counted() -> None:
    rng = np.random.default_rng(14)
    x = rng.normal(size=(6, 30)) * rng.uniform(0.1, 90, size=30) + 7
    x[:, [3, 8]] = 0.1
    with pytest.warns(BrainmapWarning, match="constant units are dropped before z-scoring: 2 in conv1"):
        rdms = compute_rdms(Features({"conv1": x}, WORDS, WORDS), units="zscore", dissimilarity="euclidean")
    z = np.delete(x, [3, 8], axis=1)
    z = (z - z.mean(0)) / z.std(0)
    np.testing.assert_allclose(rdms.dissimilarities[0], compute_dissimilarities(z, dissimilarity="euclidean"))


def test_a_constant_pattern_is_nan_and_counted() -> None:
    x = np.random.default_rng(15).normal(size=(6, 30))
    x[4] = 0.1
    with pytest.warns(BrainmapWarning, match=r"1 in conv1 \('cat'\)"):
        rdms = compute_rdms(Features({"conv1": x}, WORDS, WORDS))
    i, j = np.triu_indices(6, 1)
    np.testing.assert_array_equal(np.isnan(rdms.dissimilarities[0]), (i == 4) | (j == 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dissimilarity": "corelation"}, "did you mean 'correlation'"),
        ({"items": "word"}, "items: expected one of"),
        ({"rois": ["HGG"]}, "roi: expected one of 'HG', 'STG'"),
        ({"dissimilarity": "crossnobis", "runs": "average"}, "-stim_times_IM"),
        ({"dissimilarity": "mahalanobis"}, "expected a noise precision, got none"),
        ({"dissimilarity": "correlation", "noise_precision": np.eye(25)}, "takes no noise precision"),
        ({"dissimilarity": "crossnobis", "noise_precision": np.eye(7)}, r"expected shape \(25, 25\) .* got \(7, 7\)"),
        ({"dissimilarity": "crossnobis", "rois": "all", "noise_precision": {"HG": np.eye(10)}}, "'STG'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(arguments: Any, message: Any) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        compute_rdms(make_dataset(np.random.default_rng(16)), **arguments)
    assert "\n" not in str(refusal.value)


def test_bad_data_are_refused_in_one_line() -> None:
    x = np.random.default_rng(17).normal(size=(6, 5))
    with pytest.raises(InputError, match="at least 3"):
        compute_rdms(x[:2], descriptors={"stimulus_id": ["a", "b"]})
    with pytest.raises(InputError, match="labels"):
        compute_rdms(x)
    with pytest.raises(InputError, match=r"labels .* one for each of 6 patterns, got 3"):
        compute_rdms(x, descriptors={"stimulus_id": ["a", "b", "c"]})
    with pytest.raises(InputError, match="items='condition'"):
        compute_rdms(x, descriptors={"condition": WORDS})
    with pytest.raises(InputError, match="'cat' and 'tree'"):
        compute_rdms(
            x,
            descriptors={
                "stimulus_id": ["a", "a", "b", "c", "d", "e"],
                "condition": ["cat", "tree", "b", "c", "d", "e"],
            },
        )
    torn = x.copy()
    torn[1, 2] = np.nan
    with pytest.raises(InputError, match="1 patterns of array are NaN in some units only"):
        compute_rdms(torn, descriptors={"stimulus_id": WORDS})
    with pytest.raises(InputError, match="infinite"):
        compute_rdms(np.where(x > 1, np.inf, x), descriptors={"stimulus_id": WORDS})
    one_run = make_dataset(np.random.default_rng(18), n_runs=1)
    with pytest.raises(InputError, match="crossnobis: expected patterns of two runs or more, got one set"):
        compute_rdms(one_run, dissimilarity="crossnobis")


def test_stacked_rdms_are_aligned_by_label_and_inputs_kept() -> None:
    x = np.random.default_rng(19).normal(size=(6, 30))
    one = compute_rdms(x, descriptors={"stimulus_id": WORDS, "participant": "01"})
    order = [3, 0, 5, 1, 4, 2]
    two = compute_rdms(x[order], descriptors={"stimulus_id": [WORDS[k] for k in order], "participant": "02"})
    before = two.dissimilarities.copy()
    both = stack_rdms([one, two])
    np.testing.assert_allclose(both.dissimilarities[1], both.dissimilarities[0])
    np.testing.assert_array_equal(two.dissimilarities, before)
    with pytest.raises(InputError, match="the two sides differ; only in these RDMs: 'x'; only in the first: 'b2'"):
        stack_rdms([one, compute_rdms(x, descriptors={"stimulus_id": [*WORDS[:5], "x"], "participant": "3"})])


def test_pair_positions_follow_scipys_condensed_order() -> None:
    from scipy.spatial.distance import squareform

    matrix = squareform(np.arange(15.0))
    order = np.array([4, 0, 3])
    part = squareform(matrix[np.ix_(order, order)])
    np.testing.assert_array_equal(part, np.arange(15.0)[find_pair_positions(order, 6)])


def test_saved_rdms_come_back_equal_here_and_in_rsatoolbox(tmp_path: Path) -> None:
    rdms = compute_rdms(make_dataset(np.random.default_rng(20)), rois="all")
    path = save_rdms(rdms, tmp_path / "brain.hdf5")
    for back in (load_rdms(path), load_rdm(str(path))):
        np.testing.assert_array_equal(back.dissimilarities, rdms.dissimilarities)
        assert list_labels(back) == list_labels(rdms)
        assert list(back.rdm_descriptors["roi"]) == ["HG", "STG"]
        assert back.descriptors["level"] == "stimulus"
    assert [p.name for p in tmp_path.iterdir()] == ["brain.hdf5"], "nothing is left beside it"


def test_labels_of_any_alphabet_survive_the_file(tmp_path: Path) -> None:
    x = np.random.default_rng(21).normal(size=(3, 5))
    rdms = compute_rdms(x, descriptors={"stimulus_id": ["Bär", "猫", "cat"]})
    assert list_labels(load_rdms(save_rdms(rdms, tmp_path / "x.hdf5"))) == ["Bär", "猫", "cat"]


def test_a_file_that_is_no_rdms_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.hdf5").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match="no HDF5 file"):
        load_rdms(tmp_path / "x.hdf5")
    with pytest.raises(InputError, match=r"no file .*y\.hdf5.* did you mean"):
        load_rdms(tmp_path / "y.hdf5")
