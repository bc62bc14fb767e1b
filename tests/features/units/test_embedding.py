"""Embeddings: principal components of numpy, t-SNE that keeps planted neighborhoods, and what cannot be embedded."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError


def clouds(n: int = 30, units: int = 12) -> tuple[np.ndarray, list[str]]:
    """Three clouds far apart."""
    rng = np.random.default_rng(0)
    centers = 8 * rng.normal(size=(3, units))
    return centers[np.arange(n) % 3] + rng.normal(size=(n, units)), ["abc"[i % 3] for i in range(n)]


@pytest.mark.parametrize("units", ["zscore", "raw"])
def test_principal_components_are_those_of_a_singular_value_decomposition(units) -> None:
    values, words = clouds()
    found = features.embed(values, layer="here", n_components=3, units=units, conditions=words)
    centered = values - values.mean(axis=0)
    if units == "zscore":
        centered = centered / values.std(axis=0)
    left, size, _ = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points), np.abs(left[:, :3] * size[:3]), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.explained, (size**2 / (size**2).sum())[:3])
    assert found.trustworthiness == pytest.approx(trustworthiness(centered, found.points, n_neighbors=5))
    assert found.axes[0] == f"component 1 ({found.explained[0]:.0%} of variance)"
    assert list(found.table) == ["layer", "item", "condition", "x1", "x2", "x3"]


def test_tsne_keeps_neighborhoods_repeats_by_seed_and_has_no_units() -> None:
    values, words = clouds()
    options = {"layer": "here", "method": "tsne", "perplexity": 5.0, "conditions": words}
    one, again, other = (features.embed(values, rng=np.random.default_rng(s), **options) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.points, again.points)
    assert one.explained is None
    assert one.axes == ("t-SNE 1 (no units)", "t-SNE 2 (no units)")
    for found in (one, other):
        assert found.trustworthiness > 0.85
        near = features.nearest_neighbors(found.points, k=3, metric="euclidean", conditions=words).precision
        assert near["precision"].iloc[-1] == 1.0


def test_permuting_the_items_permutes_the_points() -> None:
    values, _ = clouds()
    order = np.random.default_rng(3).permutation(len(values))
    one, other = features.embed(values, layer="x"), features.embed(values[order], layer="x")
    np.testing.assert_allclose(one.points[order], other.points, atol=1e-8)


def test_units_that_never_change_are_left_out_and_said() -> None:
    values, _ = clouds()
    still = np.concatenate([values, np.full((30, 2), 7.0)], axis=1)
    with pytest.warns(BrainmapWarning, match="2 of 14 units of 'x' never change"):
        found = features.embed(still, layer="x")
    assert found.constant == 2
    np.testing.assert_allclose(found.points, features.embed(values, layer="x").points)


class Set:
    """A feature set of one layer that kept its time."""

    items, conditions, layers = tuple("pqrstuvw"), tuple("aabbccdd"), ("conv",)
    values = np.random.default_rng(0).normal(size=(8, 3, 4))

    def __getitem__(self, layer: str) -> np.ndarray:
        return self.values

    def __iter__(self):
        return iter(self.layers)


def test_layers_of_a_feature_set_keep_their_items_and_conditions() -> None:
    found = features.embed(Set(), layer="conv", n_neighbors=2)
    assert (found.items, found.conditions) == (Set.items, Set.conditions)
    np.testing.assert_allclose(found.points, features.embed(Set.values.reshape(8, 12), layer="x", n_neighbors=2).points)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "cnov"}, "did you mean 'conv'"),
        ({"method": "tnse"}, "did you mean 'tsne'"),
        ({"units": "zsocre"}, "did you mean 'zscore'"),
        (
            {"method": "tsne", "perplexity": 8.0, "n_neighbors": 2},
            "below 8 for 8 items, got 8",
        ),
        ({"n_components": 8, "n_neighbors": 2}, "components of 8 items x 12 units of .*got 8"),
        ({"n_components": 0}, "expected 1 to 7"),
        ({"n_neighbors": 4}, "below 4"),
    ],
)
def test_a_mistake_is_one_line(options, said) -> None:
    with pytest.raises(InputError, match=said) as caught:
        features.embed(Set(), **{"layer": "conv", **options})
    assert "\n" not in str(caught.value)


def test_nothing_to_embed_is_said() -> None:
    with pytest.raises(InputError, match="is the same for all items"):
        features.embed(np.ones((8, 4)), layer="x", n_neighbors=2)
    bad = np.random.default_rng(0).normal(size=(8, 4))
    bad[5, 1] = np.inf
    with pytest.raises(InputError, match="items '5' of 'x' hold NaN or infinite"):
        features.embed(bad, layer="x", n_neighbors=2)
    with pytest.raises(InputError, match="conditions: expected one for each of 8 items, got 1"):
        features.embed(bad, layer="x", conditions=["a"])
