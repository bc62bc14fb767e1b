"""Nearest neighbors: scikit-learn's, without the item itself, and how often they share its condition."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.sounds.files import sounds_from_array
from brainmap.features.units.nearest_sounds import NEIGHBOR_COLUMNS, PRECISION_COLUMNS

WORDS = ("cat", "dog", "owl")


def clouds(n: int = 300, spread: float = 0.1) -> tuple[np.ndarray, list[str]]:
    """Points around one center a word."""
    rng = np.random.default_rng(0)
    words = [WORDS[i % 3] for i in range(n)]
    centers = rng.normal(size=(3, 20))
    return centers[np.arange(n) % 3] + spread * rng.normal(size=(n, 20)), words


class Set:
    """A feature set of two layers."""

    layers = ("far", "near")

    def __init__(self, n: int = 12) -> None:
        self.near, words = clouds(n)
        self.far = np.random.default_rng(1).normal(size=(n, 2, 30))
        self.items, self.conditions = tuple(f"s{i}" for i in range(n)), tuple(words)

    def __getitem__(self, layer: str) -> np.ndarray:
        return {"near": self.near, "far": self.far}[layer]

    def __iter__(self):
        return iter(self.layers)


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_neighbors_and_distances_are_those_of_scikit_learn(metric) -> None:
    points, words = clouds()
    found = features.nearest_neighbors(points, k=4, metric=metric, conditions=words)
    oracle = NearestNeighbors(n_neighbors=5, metric=metric, algorithm="brute").fit(points)
    distance, index = oracle.kneighbors(points)
    table = found.table
    assert table["neighbor"].astype(int).tolist() == index[:, 1:].ravel().tolist()
    np.testing.assert_allclose(table["distance"], distance[:, 1:].ravel(), atol=1e-10)
    assert not (table["item"] == table["neighbor"]).any()
    assert list(table) == list(NEIGHBOR_COLUMNS)


def test_planted_clouds_are_pure_and_noise_is_at_chance() -> None:
    data = Set(60)
    found = features.nearest_neighbors(data, k=5)
    overall = found.precision[found.precision["condition"] == "all"].set_index("space")
    assert overall.loc["near", ["precision", "first"]].tolist() == [1.0, 1.0]
    assert overall.loc["near", "chance"] == pytest.approx(19 / 59)
    assert abs(overall.loc["far", "precision"] - 19 / 59) < 0.12
    assert list(found.precision) == list(PRECISION_COLUMNS)


def test_layers_stand_beside_the_waveforms() -> None:
    data = Set()
    waves = np.random.default_rng(2).normal(size=(12, 1, 64)).astype(np.float32)
    sounds = sounds_from_array(waves, rate=8000, items=list(data.items), conditions=list(data.conditions))
    found = features.nearest_neighbors(data, sounds, layers=["near"], k=2)
    assert found.spaces == ("waveform", "near")
    mine = found.table[(found.table["space"] == "waveform") & (found.table["item"] == "s0")]
    alike = np.corrcoef(waves[:, 0])[0]
    assert mine["distance"].iloc[0] == pytest.approx(1 - np.sort(alike)[-2])


def test_precision_by_condition_is_a_count_and_the_mean_is_over_items() -> None:
    points = np.array([[0.0], [1.0], [2.0], [50.0], [51.0]])
    found = features.nearest_neighbors(points, k=1, metric="euclidean", conditions=["a", "a", "b", "b", "b"])
    table = found.precision.set_index("condition")
    assert table.loc["a", "precision"] == 1.0  # ties: 1 is as far from 0 as from 2, and 0 comes first
    assert table.loc["b", "precision"] == pytest.approx(2 / 3)
    assert table.loc["all", "precision"] == pytest.approx(4 / 5)
    assert table.loc["a", "chance"] == pytest.approx(1 / 4)
    assert table.loc["all", "chance"] == pytest.approx((2 * 1 / 4 + 3 * 2 / 4) / 5)


def test_a_condition_of_one_item_is_named_and_left_out_of_the_mean() -> None:
    points, words = clouds(9)
    with pytest.warns(BrainmapWarning, match="'alone' have one item each"):
        found = features.nearest_neighbors(points, k=2, conditions=["alone", *words[1:]])
    table = found.precision.set_index("condition")
    assert np.isnan(table.loc["alone", "precision"])
    rest = table.drop(index=["alone", "all"])
    assert table.loc["all", "precision"] == pytest.approx(np.average(rest["precision"], weights=rest["n_items"]))


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (None, {"k": 12}, "expected k from 1 to 11 for 12 items, got 12"),
        (None, {"k": 0}, "expected k from 1 to 11"),
        (None, {"metric": "corelation"}, "did you mean 'correlation'"),
        (None, {"layers": "naer"}, "did you mean 'near'"),
        (np.nan, {}, "near of item 's3' holds NaN"),
        (1.0, {}, "near is constant for items 's3'"),
        (None, {"sounds": np.zeros((3, 1, 20))}, "3 sounds for 12 items"),
        (None, {"sounds": sounds_from_array(np.ones((12, 1, 20)), rate=8000)}, "not the items of the features"),
    ],
)
def test_a_mistake_is_one_line(change, options, said) -> None:
    data = Set()
    if change is not None:
        data.near[3] = change
    sounds = options.pop("sounds", None) if "sounds" in options else None
    with pytest.raises(InputError, match=said) as caught:
        features.nearest_neighbors(data, sounds, **options)
    assert "\n" not in str(caught.value)


def test_conditions_of_an_array_must_fit() -> None:
    with pytest.raises(InputError, match="conditions: expected one for each of 3 items, got 2"):
        features.nearest_neighbors(np.eye(3), k=1, conditions=["a", "b"])
