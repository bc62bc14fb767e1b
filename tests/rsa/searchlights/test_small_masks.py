"""Masks of one voxel or one line, and spheres larger than the brain."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.types import SearchlightDissimilarity

NAMES = [f"s{k}" for k in range(6)]


def search(
    shape: tuple[int, int, int], dissimilarity: SearchlightDissimilarity, *, radius_mm: float, minimum: int = 2
) -> tuple[Any, Any, Any]:
    """Scores of spheres in a box of 2 mm, patterns (2, 6, n) and the model."""
    rng, n = np.random.default_rng(0), int(np.prod(shape))
    data = rng.normal(size=(2, 6, n))
    model = rsa.compute_rdms(rng.normal(size=(6, 30)), descriptors={"stimulus_id": NAMES, "layer": "conv1"})
    mask = nib.Nifti1Image(np.ones(shape, np.float32), np.diag([2.0, 2, 2, 1]))
    maps = rsa.searchlight(
        data, model, mask=mask, labels=NAMES, radius_mm=radius_mm, dissimilarity=dissimilarity, measure="pearson",
        minimum_voxels=minimum, threads=1,
    )  # fmt: skip
    return maps, data, model


@pytest.mark.parametrize("dissimilarity", ["crossnobis", "euclidean", "correlation"])
def test_a_sphere_larger_than_the_brain_holds_all_of_it(dissimilarity: SearchlightDissimilarity) -> None:
    maps, data, model = search((3, 3, 3), dissimilarity, radius_mm=500.0)
    described = {"stimulus_id": NAMES * 2, "run": ["1"] * 6 + ["2"] * 6}
    from rsatoolbox.data import Dataset

    whole = rsa.compute_rdms(Dataset(data.reshape(12, -1), obs_descriptors=described), dissimilarity=dissimilarity)
    oracle = rsa.compare_rdms(model, whole, measure="pearson")[0, 0]
    np.testing.assert_allclose(maps.array[0], oracle, rtol=1e-9)
    assert (maps.counts == 27).all()


def test_a_line_of_voxels_has_spheres_of_its_neighbors() -> None:
    maps, _, _ = search((1, 1, 7), "correlation", radius_mm=4.0)
    assert maps.counts.tolist() == [3, 4, 5, 5, 5, 4, 3]
    assert np.isfinite(maps.array).all()


@pytest.mark.parametrize("radius_mm", [4.0, 500.0])
def test_one_voxel_is_refused_with_what_its_sphere_holds(radius_mm: float) -> None:
    with pytest.raises(InputError, match=r"a sphere of .* mm holds 1 voxels, fewer than minimum_voxels=2"):
        search((1, 1, 1), "correlation", radius_mm=radius_mm)
