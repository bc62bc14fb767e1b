"""Reliability of RDMs between halves of runs and of participants."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from rsatoolbox.data.dataset import Dataset
from rsatoolbox.rdm.rdms import RDMs
from scipy.stats import spearmanr

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities


def geometry(rng: np.random.Generator, n_items: int, n_voxels: int) -> np.ndarray:
    """Patterns of two dimensions, so that their distances differ much."""
    return np.asarray(rng.normal(size=(n_items, 2)) @ rng.normal(size=(2, n_voxels)))


def patterns(rng: np.random.Generator, n_runs: int, *, noise: float = 1.0, n_items: int = 8, n_voxels: int = 60) -> Any:
    """Two ROIs, the first with a geometry and the second of noise."""
    half = n_voxels // 2
    truth = np.concatenate([geometry(rng, n_items, half), np.zeros((n_items, half))], axis=1)
    x = np.concatenate([truth + noise * rng.normal(size=truth.shape) for _ in range(n_runs)])
    return Dataset(
        x,
        descriptors={"participant": "01"},
        obs_descriptors={
            "stimulus_id": [f"s{k}" for k in range(n_items)] * n_runs,
            "run": np.repeat([f"r{k}" for k in range(n_runs)], n_items),
        },
        channel_descriptors={"roi": np.repeat(["HG", "V1"], n_voxels // 2)},
    )


@pytest.mark.parametrize(("n_runs", "n_splits"), [(4, 3), (5, 10), (2, 1), (3, 3)])
def test_halves_of_runs_are_compared_in_every_way_there_is(n_runs: int, n_splits: int) -> None:
    data = patterns(np.random.default_rng(0), n_runs)
    found: Any = rsa.rdm_reliability(data, rois="all", measure="spearman").set_index("roi")
    x = data.measurements[:, :30].reshape(n_runs, 8, 30)
    scores = []
    for first in combinations(range(n_runs), n_runs // 2):
        if n_runs % 2 == 0 and 0 not in first:
            continue
        halves = [x[list(first)], x[[k for k in range(n_runs) if k not in first]]]
        a, b = (compute_dissimilarities(half if n_runs >= 4 else half.mean(axis=0)) for half in halves)
        scores.append(spearmanr(a, b).statistic)
    assert found.loc["HG", ["over", "n", "splits", "enumerated"]].tolist() == ["runs", n_runs, n_splits, True]
    assert found.loc["HG", "halves"] == pytest.approx(np.mean(scores))
    assert found.loc["HG", "reliability"] == pytest.approx(2 * np.mean(scores) / (1 + np.mean(scores)))
    assert found["participant"].tolist() == ["01", "01"]


def test_a_geometry_repeats_and_noise_does_not() -> None:
    """With independent noise of known size the corrected value tells how well twice the runs would repeat."""
    rng = np.random.default_rng(1)
    found: Any = rsa.rdm_reliability(
        patterns(rng, 8, noise=2.0), rois="all", dissimilarity="crossnobis", measure="pearson", rng=rng
    ).set_index("roi")
    assert found.loc["HG", "reliability"] > 0.8 > 0.5 > abs(found.loc["V1", "reliability"])
    truths, whole, halves = [], [], []
    for _ in range(60):
        truth = geometry(rng, 12, 20)
        one, two = (
            compute_dissimilarities(truth + rng.normal(size=(8, 12, 20)) * 2.5, dissimilarity="crossnobis")
            for _ in range(2)
        )
        data = Dataset(
            np.concatenate(list(truth + rng.normal(size=(8, 12, 20)) * 2.5)),
            obs_descriptors={"stimulus_id": [f"s{k}" for k in range(12)] * 8, "run": np.repeat(np.arange(8), 12)},
        )
        row = rsa.rdm_reliability(data, dissimilarity="crossnobis", measure="pearson", splits=5, rng=rng).iloc[0]
        truths.append(row["reliability"])
        halves.append(row["halves"])
        whole.append(compare_vectors(one, two, measure="pearson")[0, 0])
    assert np.mean(truths) == pytest.approx(np.mean(whole), abs=0.04)
    assert np.mean(halves) < np.mean(whole) - 0.05


def test_a_precision_of_each_run_goes_with_its_run() -> None:
    rng = np.random.default_rng(2)
    data = patterns(rng, 4)
    roots = rng.normal(size=(4, 60, 80))
    precision = np.linalg.inv(roots @ roots.transpose(0, 2, 1) / 80)
    settings: Any = {"dissimilarity": "crossnobis", "measure": "pearson"}
    found = rsa.rdm_reliability(data, noise_precision=precision, **settings)
    x = data.measurements.reshape(4, 8, 60)
    scores = [
        compare_vectors(
            *(
                compute_dissimilarities(x[half], dissimilarity="crossnobis", precision=precision[half])
                for half in (list(first), [k for k in range(4) if k not in first])
            ),
            measure="pearson",
        )[0, 0]
        for first in ((0, 1), (0, 2), (0, 3))
    ]
    assert found["halves"][0] == pytest.approx(np.mean(scores))
    per_roi = rsa.rdm_reliability(data, rois=["HG"], noise_precision={"HG": precision[:, :30, :30]}, **settings)
    assert np.isfinite(per_roi["halves"]).all()


def test_halves_of_participants_are_pooled_on_the_scale_of_the_measure() -> None:
    rng = np.random.default_rng(3)
    truth = geometry(rng, 8, 30)
    x = np.array([compute_dissimilarities(truth + rng.normal(size=(8, 30))) for _ in range(4)]) * np.array(
        [[1], [9], [2], [5]]
    )
    x = np.vstack([x, rng.random((4, 28))])
    rdms = RDMs(
        x,
        rdm_descriptors={"roi": ["HG"] * 4 + ["V1"] * 4},
        pattern_descriptors={"stimulus_id": [f"s{k}" for k in range(8)]},
    )
    found: Any = rsa.rdm_reliability(rdms, measure="cosine").set_index("roi")
    unit = x[:4] / np.linalg.norm(x[:4], axis=1, keepdims=True)
    scores = [
        compare_vectors(unit[[0, k]].mean(0), unit[[m for m in (1, 2, 3) if m != k]].mean(0), measure="cosine")
        for k in (1, 2, 3)
    ]
    assert found.loc["HG", "halves"] == pytest.approx(np.mean(scores))
    assert found.loc["HG", ["over", "n", "splits"]].tolist() == ["participants", 4, 3]
    found = rsa.rdm_reliability(rdms, measure="spearman").set_index("roi")
    assert found.loc["HG", "reliability"] > 0.8 > 0.6 > abs(found.loc["V1", "reliability"])
    drawn = rsa.rdm_reliability(rdms, splits=2, rng=np.random.default_rng(0))
    assert not drawn["enumerated"].any()
    again = rsa.rdm_reliability(rdms, splits=2, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(drawn["halves"], again["halves"])


def test_bad_input_is_named() -> None:
    data = patterns(np.random.default_rng(4), 3)
    one = RDMs(np.ones((1, 28)), pattern_descriptors={"stimulus_id": [f"s{k}" for k in range(8)]})
    for given, settings, words in [
        (patterns(np.random.default_rng(4), 1), {}, "expected at least 2 runs with patterns, got 1"),
        (data, {"dissimilarity": "crossnobis"}, "expected at least 4 runs, .* got 3"),
        (data, {"measure": "bures"}, "bures similarity of halves"),
        (data, {"splits": 0}, "at least 1 split, got 0"),
        (one, {}, "expected an RDM of 'all voxels' from at least 2 participants, got 1"),
        (one, {"rois": "all"}, "'rois' is for patterns, but these are RDMs"),
        (one, {"noise_precision": np.eye(3)}, "'noise_precision' is for patterns"),
    ]:
        with pytest.raises(InputError, match=words):
            rsa.rdm_reliability(given, **settings)  # type: ignore[arg-type]
    apart = Dataset(
        data.measurements[:16],
        obs_descriptors={
            "stimulus_id": [f"s{k}" for k in range(8)] + [f"t{k}" for k in range(8)],
            "run": np.repeat(["1", "2"], 8),
        },
    )
    with pytest.raises(InputError, match="expected at least 3 items in both halves of the runs, got 0"):
        rsa.rdm_reliability(apart)


def test_items_that_one_half_lacks_are_left_out_of_that_halving() -> None:
    data = patterns(np.random.default_rng(5), 2)
    lacking = Dataset(data.measurements[:-1], obs_descriptors={k: v[:-1] for k, v in data.obs_descriptors.items()})
    without = np.array(data.obs_descriptors["stimulus_id"]) != "s7"
    rest = Dataset(
        data.measurements[without], obs_descriptors={k: np.array(v)[without] for k, v in data.obs_descriptors.items()}
    )
    found, wanted = (rsa.rdm_reliability(one)["halves"] for one in (lacking, rest))
    np.testing.assert_allclose(found, wanted)
