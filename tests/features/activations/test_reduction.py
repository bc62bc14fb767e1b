import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from torch import nn

from brainmap import features
from brainmap.errors import InputError, RunError
from brainmap.features.activations.reduction import (
    IncrementalPCA,
    Reduction,
    SparseProjection,
    compute_projection_dimensions,
)

Array = NDArray[np.float32]


def rows(n: int, units: int, *, decay: float = 0.0, seed: int = 0) -> Array:
    """Rows whose directions grow weaker by the given power."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.standard_normal((units, units)))[0]
    strength = np.arange(1, units + 1) ** -decay
    return np.asarray((rng.standard_normal((n, units)) * strength) @ turned + 3, np.float32)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv1d(1, 40, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(40, 4, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * 28, 3),
        ).eval()


@pytest.fixture
def sounds() -> Array:
    return np.random.default_rng(0).standard_normal((23, 1, 60), np.float32)


@pytest.mark.parametrize("tolerance", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("n", [2, 192, 5000])
def test_dimensions_are_those_of_sklearn(n: int, tolerance: float) -> None:
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    assert compute_projection_dimensions(n, tolerance=tolerance) == johnson_lindenstrauss_min_dim(n, eps=tolerance)


@pytest.mark.parametrize("density", [None, 1 / 3])
def test_a_projection_has_the_entries_and_keeps_the_distances_as_sklearns_does(density: float | None) -> None:
    from sklearn.random_projection import SparseRandomProjection

    n_units, dimensions = 5000, 600
    ours = SparseProjection(n_units, dimensions, density=density, rng=np.random.default_rng(0))
    theirs = SparseRandomProjection(dimensions, density=density or "auto", random_state=0)
    x = rows(20, 50, decay=0.5) @ np.random.default_rng(1).standard_normal((50, n_units)).astype(np.float32)
    peer = theirs.fit_transform(x)
    assert set(np.unique(abs(ours.matrix.data)).round(6)) == set(np.unique(abs(theirs.components_.data)).round(6))
    expected = n_units * dimensions * theirs.density_
    assert abs(ours.matrix.nnz - expected) < 5 * np.sqrt(expected)
    assert abs(ours.matrix.nnz - theirs.components_.nnz) < 7 * np.sqrt(expected)
    assert abs(ours.matrix.data.sum() / ours.matrix.data.max()) < 5 * np.sqrt(ours.matrix.nnz)
    distances = pdist(x, "sqeuclidean")
    error = {
        name: abs(pdist(z, "sqeuclidean") / distances - 1)
        for name, z in {"ours": ours.transform(x), "theirs": peer}.items()
    }
    assert error["ours"].max() < 0.3  # six standard errors of sqrt(2 / 600), as for a normal projection
    assert error["ours"].mean() < 1.5 * error["theirs"].mean() + 0.01


def test_a_projection_within_its_tolerance_by_the_lemma_of_johnson_and_lindenstrauss() -> None:
    x = np.random.default_rng(0).standard_normal((12, 9000), np.float32)
    dimensions = compute_projection_dimensions(12, tolerance=0.2)
    z = SparseProjection(9000, dimensions, rng=np.random.default_rng(0)).transform(x)
    assert abs(pdist(z, "sqeuclidean") / pdist(x, "sqeuclidean") - 1).max() < 0.2


def test_a_projection_never_makes_a_dense_matrix() -> None:
    tracemalloc.start()
    found = SparseProjection(400_000, 2000, rng=np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.matrix.nnz == pytest.approx(2000 * np.sqrt(400_000), rel=0.02)
    assert peak < 400_000 * 2000 * 4 / 25


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_incremental_pca_is_the_full_one_where_all_its_directions_fit(batch: int) -> None:
    x = rows(90, 12, decay=0.7)
    found = IncrementalPCA(6)
    for start in range(0, len(x), batch):
        found.fit(x[start : start + batch])
    found.finish()
    u, s, _ = np.linalg.svd(x - x.mean(0, dtype=float), full_matrices=False)
    np.testing.assert_allclose(abs(found.transform(x)), abs(u[:, :6] * s[:6]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.explained_variance_ratio, s[:6] ** 2 / (s**2).sum(), rtol=1e-6)
    assert (found.components[np.arange(6), abs(found.components).argmax(1)] > 0).all()


def test_incremental_pca_of_wide_rows_is_near_the_full_one_and_as_near_as_sklearns() -> None:
    from sklearn.decomposition import PCA, IncrementalPCA as Peer

    x = rows(300, 400, decay=1.0)
    found, peer = IncrementalPCA(20), Peer(20)
    for start in range(0, 300, 50):
        found.fit(x[start : start + 50])
        peer.partial_fit(x[start : start + 50])
    found.finish()
    full = PCA(20, svd_solver="full").fit(x)
    truth = pdist(full.transform(x))
    ours, theirs = (abs(pdist(z) / truth - 1).max() for z in (found.transform(x), peer.transform(x)))
    assert ours < 0.005
    assert ours < theirs
    np.testing.assert_allclose(found.explained_variance_ratio, full.explained_variance_ratio_, rtol=0.02)


def test_extraction_reduces_wide_layers_and_keeps_narrow_ones(sounds: Array) -> None:
    net = network()
    whole = features.extract_activations(net, sounds, pooling="flatten")
    for reduction in (Reduction(dimensions=100), Reduction(kind="pca", dimensions=20)):
        acts = features.extract_activations(net, sounds, pooling="flatten", reduce=reduction, batch_size=5)
        shapes = {layer: acts[layer].shape for layer in acts}
        assert shapes == {"0": (23, reduction.dimensions), "3": (23, reduction.dimensions), "output": (23, 3)}
        assert set(acts.reductions) == {"0", "3"}
        assert acts.reductions["0"]["units"] == 2400
        np.testing.assert_allclose(acts["output"][:], whole["output"][:], rtol=1e-4, atol=1e-6)
    pca = acts.reductions["3"]["explained_variance_ratio"]
    assert len(pca) == 20
    assert sum(pca) > 0.9


def test_pca_over_all_items_keeps_every_distance(sounds: Array) -> None:
    net = network()
    whole = np.asarray(features.extract_activations(net, sounds, layers="0", pooling="flatten")["0"])
    acts = features.extract_activations(
        net, sounds, layers="0", pooling="none", reduce=Reduction(kind="pca", dimensions=22), batch_size=6
    )
    np.testing.assert_allclose(pdist(np.asarray(acts["0"])), pdist(whole), rtol=1e-4)


def test_a_projection_depends_on_the_seed_and_layer_but_not_on_batches_or_other_sounds(sounds: Array) -> None:
    net = network()

    def first(batch: int, given: Array = sounds, seed: int = 0) -> Array:
        settings = Reduction(dimensions=30, seed=seed)
        given_to = {"layers": "0", "pooling": "flatten", "batch_size": batch}
        acts = features.extract_activations(net, given, reduce=settings, **given_to)  # type: ignore[arg-type]
        return np.asarray(acts["0"])

    np.testing.assert_allclose(first(4), first(23), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first(4, sounds[5:9]), first(23)[5:9], rtol=1e-4, atol=1e-5)
    assert abs(first(23, seed=1) - first(23)).max() > 0.1


def test_a_reduced_layer_is_another_array_in_the_store(sounds: Array, tmp_path: Path) -> None:
    net, where = network(), tmp_path / "a.zarr"
    plain = np.asarray(features.extract_activations(net, sounds, layers="0", pooling="flatten", store=where)["0"])
    settings = Reduction(dimensions=30)
    for _ in range(2):
        acts = features.extract_activations(
            net, sounds, layers="0", pooling="flatten", reduce=settings, store=where, dtype="float16"
        )
        assert acts["0"].shape == (23, 30)
        assert acts["0"].dtype == np.float16
    again = features.extract_activations(net, sounds, layers="0", pooling="flatten", store=where)
    np.testing.assert_array_equal(np.asarray(again["0"]), plain)
    assert not again.reductions


def test_an_item_that_is_not_finite_is_told_before_it_spoils_the_fit(sounds: Array) -> None:
    sounds[9, 0, 3] = np.inf
    net = network().train()
    with pytest.raises(RunError, match="layer '0' is not finite for item '9'"):
        features.extract_activations(net, sounds, pooling="flatten", reduce=Reduction(kind="pca", dimensions=5))
    assert net.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "pcs"}, "did you mean 'pca'"),
        ({"dimensions": 0}, "expected dimensions of at least 1, got 0"),
        ({"tolerance": 1.0}, "tolerance above 0 and below 1, got 1.0"),
        ({"density": 2.0}, "density above 0 and at most 1, got 2.0"),
        ({"seed": -1}, "seed of 0 or more, got -1"),
        ({"kind": "pca"}, "50 principal components of 23 sounds; ask for at most 23"),
    ],
)
def test_a_mistake_gets_one_line(sounds: Array, given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        features.extract_activations(
            network(),
            sounds,
            pooling="flatten",
            reduce=Reduction(**given),  # type: ignore[arg-type]
        )
    assert "\n" not in str(caught.value)
