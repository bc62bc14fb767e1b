"""CIFTI files are read as the same numbers at the same vertices as GIFTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa import SurfaceData

N = 30  # vertices of a hemisphere
WALL = (3, 4, 17)  # vertices of the medial wall, which CIFTI leaves out
WORDS = ("cat", "dog", "tree", "yes")
KEPT = [k for k in range(N) if k not in WALL]


def write_cifti(path: Path, left: np.ndarray, right: np.ndarray, axis: Any, *, subcortex: int = 0) -> Path:
    """Write maps `(n_vertices, n_maps)` without the medial wall, the right hemisphere first, as nibabel does."""
    side = {}
    for name in ("CORTEX_RIGHT", "CORTEX_LEFT"):
        side[name] = nib.cifti2.BrainModelAxis.from_surface(KEPT, N, f"CIFTI_STRUCTURE_{name}")
    models = side["CORTEX_RIGHT"] + side["CORTEX_LEFT"]
    rows = np.concatenate([right[KEPT], left[KEPT]]).T
    if subcortex:
        mask = np.zeros((2, 2, subcortex), bool)
        mask[0, 0] = True
        models = models + nib.cifti2.BrainModelAxis.from_mask(mask, "THALAMUS_LEFT", np.eye(4))
        rows = np.concatenate([rows, np.full((len(rows), subcortex), 99.0)], axis=1)
    nib.save(nib.Cifti2Image(rows.astype("f4"), (axis, models)), path)
    return path


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    left, right = np.random.default_rng(5).normal(size=(2, N, 4)).astype("f4")
    left[list(WALL)] = right[list(WALL)] = np.nan
    return left, right


def test_maps_lie_at_the_vertices_that_the_file_names(sides: Any, tmp_path: Path) -> None:
    left, right = sides
    data = rsa.load_surface(write_cifti(tmp_path / "x.dscalar.nii", left, right, nib.cifti2.ScalarAxis(WORDS)))
    assert data.labels == WORDS
    assert data.sizes == (N, N)
    np.testing.assert_array_equal(data.left, left)
    np.testing.assert_array_equal(data.right, right)
    series = nib.cifti2.SeriesAxis(0, 2.0, 4)
    with pytest.warns(BrainmapWarning, match="5 voxels of subcortical structures are left out"):
        data = rsa.load_surface(write_cifti(tmp_path / "x.dtseries.nii", left, right, series, subcortex=5))
    assert data.labels == ("#0", "#1", "#2", "#3")
    np.testing.assert_array_equal(data.values, np.concatenate([left, right]))


def test_roi_rsa_gives_the_numbers_of_gifti(tmp_path: Path, brainmap_command: Any) -> None:
    rng = np.random.default_rng(6)
    names: dict[str, list[Path]] = {"cifti": [], "gifti": []}
    for run in (1, 2, 3):
        left, right = rng.normal(size=(2, N, 4)).astype("f4")
        left[list(WALL)] = right[list(WALL)] = np.nan
        axis = nib.cifti2.ScalarAxis(WORDS)
        names["cifti"].append(write_cifti(tmp_path / f"run-{run}.dscalar.nii", left, right, axis))
        names["gifti"].append(tmp_path / f"run-{run}_hemi-{{hemi}}.func.gii")
        rsa.save_surface(SurfaceData(left, right, WORDS), names["gifti"][-1])
    labels = np.repeat([1.0, 2.0], N // 2)[:, None].astype("f4")
    table = {1: "up", 2: "down"}
    cut = labels.copy()
    cut[list(WALL)] = 0
    gifti_rois = tmp_path / "aparc_hemi-{hemi}.label.gii"
    rsa.save_surface(SurfaceData(cut, cut, ("aparc",), {"left": table, "right": table}), gifti_rois)
    colors = {0: ("???", (0.0, 0.0, 0.0, 0.0)), **{k: (name, (1.0, 0.0, 0.0, 1.0)) for k, name in table.items()}}
    axis = nib.cifti2.LabelAxis(["aparc"], [colors])
    rois = {"cifti": write_cifti(tmp_path / "aparc.dlabel.nii", labels, labels, axis), "gifti": gifti_rois}
    assert rsa.load_surface_rois(str(rois["cifti"])).sizes == rsa.load_surface_rois(str(gifti_rois)).sizes
    for kind, files in names.items():
        out = tmp_path / f"{kind}.h5"
        answer = brainmap_command("rsa", "rdm", "--betas", *files, "--rois", rois[kind], "--out", out)
        assert answer.code == 0, answer.err
    found, wanted = (rsa.load_rdms(tmp_path / f"{kind}.h5") for kind in names)
    assert list(found.rdm_descriptors["roi"]) == list(wanted.rdm_descriptors["roi"])
    assert set(found.rdm_descriptors["roi"]) == {"left-up", "left-down", "right-up", "right-down"}
    np.testing.assert_allclose(found.dissimilarities, wanted.dissimilarities, rtol=1e-12)


def test_what_is_no_dense_cifti_file_is_refused(sides: Any, tmp_path: Path) -> None:
    left, right = sides
    whole = write_cifti(tmp_path / "x.dscalar.nii", left, right, nib.cifti2.ScalarAxis(WORDS)).read_bytes()
    for n in (100, len(whole) // 2):
        (tmp_path / "cut.dscalar.nii").write_bytes(whole[:n])
        with pytest.raises(InputError, match="damaged CIFTI"):
            rsa.load_surface(tmp_path / "cut.dscalar.nii")
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2, 3), "f4"), np.eye(4)), tmp_path / "volume.dscalar.nii")
    with pytest.raises(InputError, match="expected a CIFTI file of maps at vertices"):
        rsa.load_surface(tmp_path / "volume.dscalar.nii")
    mask = np.ones((2, 2, 2), bool)
    models = nib.cifti2.BrainModelAxis.from_mask(mask, "THALAMUS_LEFT", np.eye(4))
    scalars = nib.cifti2.ScalarAxis(["a"])
    nib.save(nib.Cifti2Image(np.ones((1, 8), "f4"), (scalars, models)), tmp_path / "deep.dscalar.nii")
    with pytest.raises(InputError, match="got subcortical voxels only"):
        rsa.load_surface(tmp_path / "deep.dscalar.nii")
    with pytest.raises(InputError, match=r"none\.dscalar\.nii"):
        rsa.load_surface(tmp_path / "none.dscalar.nii")


def test_one_hemisphere_alone_is_read(tmp_path: Path) -> None:
    models = nib.cifti2.BrainModelAxis.from_surface(KEPT, N, "CIFTI_STRUCTURE_CORTEX_RIGHT")
    rows = np.arange(len(KEPT), dtype="f4")[None]
    nib.save(nib.Cifti2Image(rows, (nib.cifti2.ScalarAxis(["a"]), models)), tmp_path / "r.dscalar.nii")
    data = rsa.load_surface(tmp_path / "r.dscalar.nii")
    assert data.sizes == (0, N)
    np.testing.assert_array_equal(data.right[KEPT, 0], rows[0])
