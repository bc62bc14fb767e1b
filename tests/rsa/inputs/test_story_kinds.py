"""Time courses of stories from volumes, surfaces, arrays and tables of regions: the same data give the same numbers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.inputs.story_sources import count_story_voxels
from brainmap.rsa.patterns.region_tables import load_column_rois
from brainmap.rsa.surface.data import SurfaceData, save_surface

T_R, SCANS, LEFT, RIGHT = 1.5, 30, 7, 5
STORIES = ("alice", "fox", "wolf")
REGIONS = np.array([1] * 4 + [0] * 3 + [2] * 5)
NAMES = ("left-A1", "right-STG")


def write_series(folder: Path) -> dict[str, list[np.ndarray]]:
    """Write two runs of three stories in every kind of file; return what they hold, `(n_scans, n_voxels)` each."""
    rng, found = np.random.default_rng(0), {}
    nib.save(nib.Nifti1Image(np.ones((LEFT + RIGHT, 1, 1), "f4"), np.eye(4)), folder / "mask.nii.gz")
    labels = nib.Nifti1Image(REGIONS.astype("i2")[:, None, None], np.eye(4))
    nib.save(labels, folder / "rois.nii.gz")
    pd.DataFrame({"index": [1, 2], "name": NAMES}).to_csv(folder / "rois.tsv", sep="\t", index=False)
    named = pd.DataFrame({"roi": ["", *NAMES]}).loc[REGIONS]
    named.to_csv(folder / "voxels.tsv", sep="\t", index=False)
    tables = {"left": {0: "???", 1: "A1"}, "right": {0: "???", 2: "STG"}}
    flat = REGIONS.astype("f4")[:, None]
    save_surface(SurfaceData(flat[:LEFT], flat[LEFT:], ("regions",), tables), folder / "rois_{hemi}.label.gii")
    for story in STORIES:
        for run in (1, 2):
            x = (100 + rng.normal(size=(SCANS, LEFT + RIGHT))).astype("f4")
            x[:, 5] = 7.0  # constant: outside of the brain
            found.setdefault(story, []).append(x)
            base = folder / f"{story}_run-{run}"
            image = nib.Nifti1Image(x.T[:, None, None], np.eye(4))
            image.header.set_zooms((1, 1, 1, T_R))
            image.header.set_xyzt_units("mm", "sec")
            nib.save(image, f"{base}_bold.nii.gz")
            save_surface(SurfaceData(x.T[:LEFT], x.T[LEFT:]), f"{base}_hemi-{{hemi}}_bold.func.gii")
            for side in "LR":
                Path(f"{base}_hemi-{side}_bold.json").write_text(json.dumps({"RepetitionTime": T_R, "StartTime": 0.75}))
            np.save(f"{base}_bold.npy", x)
            means = pd.DataFrame({"time": T_R * np.arange(SCANS), "right-STG": x[:, REGIONS == 2].mean(axis=1)})
            means["left-A1"] = x[:, REGIONS == 1].mean(axis=1, dtype=np.float64)
            means.to_csv(f"{base}_timeseries.tsv", sep="\t", index=False)
            write_cifti(Path(f"{base}_bold.dtseries.nii"), x)
    return found


def write_cifti(path: Path, x: np.ndarray) -> None:
    """Write a dense series of both hemispheres, without a vertex of the medial wall, and of one subcortical voxel."""
    axis = nib.cifti2.BrainModelAxis
    kept = np.setdiff1d(np.arange(LEFT), [5])
    models = (
        axis.from_surface(kept, LEFT, "CIFTI_STRUCTURE_CORTEX_LEFT")
        + axis.from_surface(np.arange(RIGHT), RIGHT, "CIFTI_STRUCTURE_CORTEX_RIGHT")
        + axis.from_mask(np.ones((1, 1, 1), bool), "CIFTI_STRUCTURE_THALAMUS_LEFT", affine=np.eye(4))
    )
    values = np.concatenate([x[:, kept], x[:, LEFT:], x[:, :1]], axis=1)
    nib.save(nib.Cifti2Image(values, (nib.cifti2.SeriesAxis(0, T_R, len(x)), models)), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("kinds")
    write_series(where)
    return where


def load(folder: Path, kind: str, targets: str = "voxel") -> rsa.Stories:
    """Read all stories of one kind of file."""
    ending = {
        "nifti": "bold.nii.gz",
        "gifti": "hemi-{hemi}_bold.func.gii",
        "cifti": "bold.dtseries.nii",
        "array": "bold.npy",
        "table": "timeseries.tsv",
    }[kind]
    pattern, mask, t_r = f"{folder}/{{sound}}_run-{{run}}_{ending}", None, None
    first = pattern.replace("{sound}", "alice").replace("{run}", "1")
    if kind == "nifti":
        mask = str(folder / "mask.nii.gz")
        rois = rsa.load_rois(str(folder / "rois.nii.gz"), table=str(folder / "rois.tsv"), minimum_voxels=1)
    elif kind in ("gifti", "cifti"):
        rois = rsa.load_surface_rois(f"{folder}/rois_{{hemi}}.label.gii", minimum_vertices=1)
    elif kind == "array":
        rois, t_r = rsa.load_voxel_rois(folder / "voxels.tsv"), T_R
    else:
        rois, t_r = load_column_rois(first, names=NAMES), T_R
    return rsa.load_stories(pattern, STORIES, mask=mask, rois=rois, targets=targets, t_r=t_r)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gifti", "cifti", "array", "table"])
def test_means_of_regions_are_those_of_volumes(folder: Path, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        wanted, found = load(folder, "nifti", "roi"), load(folder, kind, "roi")
    assert found.t_r == T_R
    assert found.slice_time_ref == (0.5 if kind == "gifti" else 0.0)  # the sidecars of GIFTI say so
    assert found.targets["roi"].tolist() == list(NAMES)
    assert found.counts.set_index("roi").loc["left-A1", "kept"] == (1 if kind == "table" else 4)
    for story in STORIES:
        for one, other in zip(found.responses[story], wanted.responses[story], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("kind", ["gifti", "cifti"])
def test_vertices_keep_their_place_and_what_lies_beside_the_cortex_is_told_once(folder: Path, kind: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BrainmapWarning)
        found = load(folder, kind)
    told = [note for note in caught if "subcortical" in str(note.message)]
    assert len(told) == (1 if kind == "cifti" else 0)
    wanted = load(folder, "nifti")
    np.testing.assert_array_equal(found.responses["wolf"][1], wanted.responses["wolf"][1])
    assert found.mesh == (LEFT, RIGHT)
    assert found.targets["vertex"].tolist() == [0, 1, 2, 3, 4, 6, 0, 1, 2, 3, 4]
    assert found.targets["hemisphere"].tolist() == ["left"] * 6 + ["right"] * 5
    row = found.counts.set_index("roi").loc["mask"]
    assert (row["dropped_constant"], row["dropped_nan"]) == ((1, 0) if kind == "gifti" else (0, 1))


def test_scores_of_vertices_are_drawn_on_their_mesh(folder: Path) -> None:
    from brainmap.rsa.encoding.maps import map_encoding
    from tests.rsa.encoding.test_stories import Windows

    rng = np.random.default_rng(1)
    acts = Windows({name: rng.normal(size=(int(SCANS * T_R / 0.5), 3)) for name in STORIES})
    data = load(folder, "gifti")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        fit = rsa.encode_stories(acts, data.responses, **data.settings, high_pass=None, delays=[3.0])
    (drawn,) = map_encoding(fit).values()
    assert isinstance(drawn, SurfaceData)
    assert drawn.sizes == (LEFT, RIGHT)
    assert np.isnan(drawn.left[5, 0])
    np.testing.assert_allclose(drawn.right[:, 0], fit.scores["r"].to_numpy()[6:], rtol=1e-6)


def test_files_that_do_not_fit_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    pattern = f"{folder}/{{sound}}_run-1_timeseries.tsv"
    with pytest.raises(InputError, match=r"expected the time between scans, which .*timeseries.tsv does not tell"):
        rsa.load_stories(pattern, STORIES)
    with pytest.raises(InputError, match=r"mask: expected none, since .* has no grid, got one"):
        rsa.load_stories(pattern, STORIES, t_r=T_R, mask=str(folder / "mask.nii.gz"))
    with pytest.raises(InputError, match=r"ROI: expected .*right-STG.*, got 'STG'"):
        load_column_rois(folder / "wolf_run-1_timeseries.tsv", names=["STG"])
    for name, text in (("alice", "A\tB\n1\t2\n2\t1\n3\t3\n"), ("fox", "B\tA\n1\t2\n2\t1\n3\t3\n")):
        (tmp_path / f"{name}.tsv").write_text(text)
    with pytest.raises(InputError, match=r"fox.tsv: expected the columns of .*alice.tsv, got others: 'their order'"):
        rsa.load_stories(f"{tmp_path}/{{sound}}.tsv", ["alice", "fox"], t_r=T_R)
    (tmp_path / "fox.tsv").write_text("1\t2\n2\t1\n")
    with pytest.raises(InputError, match="expected the names of regions in the first line, got '1', '2'"):
        rsa.load_stories(f"{tmp_path}/{{sound}}.tsv", ["fox"], t_r=T_R)
    (tmp_path / "fox.tsv").write_text("A\tB\n2\tloud\n")
    with pytest.raises(InputError, match="expected numbers in the column 'B', got 'loud'"):
        rsa.load_stories(f"{tmp_path}/{{sound}}.tsv", ["fox"], t_r=T_R)
    gifti = f"{folder}/{{sound}}_run-1_hemi-{{hemi}}_bold.func.gii"
    small = rsa.load_surface_rois(SurfaceData(np.ones((3, 1), "f4"), np.ones((5, 1), "f4")), minimum_vertices=1)
    with pytest.raises(InputError, match=r"ROIs: expected 12 vertices, as .* has, got 8; use one mesh for both"):
        rsa.load_stories(gifti, STORIES, rois=small)
    with pytest.raises(InputError, match=r"mask: expected data on the surface .* got .*mask.nii.gz"):
        rsa.load_stories(gifti, STORIES, mask=str(folder / "mask.nii.gz"))
    cut = SurfaceData(np.ones((LEFT, 4), "f4"), np.ones((RIGHT, 4), "f4"))
    save_surface(cut, tmp_path / "alice_hemi-{hemi}.func.gii")
    save_surface(
        SurfaceData(cut.left[:, :3], cut.right[:0, :3]), tmp_path / "alice_hemi-{hemi}.func.gii", overwrite=True
    )
    with pytest.raises(InputError, match="expected as many scans in both hemispheres, got 3 and 4; was one cut off"):
        rsa.load_stories(f"{tmp_path}/{{sound}}_hemi-{{hemi}}.func.gii", ["alice"], t_r=T_R)


def test_voxels_are_counted_from_headers_as_they_are_read(folder: Path) -> None:
    def count(name: str, **given: object) -> int:
        asked = {"mask": None, "rois": None, "key": None} | given
        return count_story_voxels(str(folder / name), **asked)  # type: ignore[arg-type]

    assert count("fox_run-1_bold.nii.gz", mask=str(folder / "mask.nii.gz")) == 12
    assert count("fox_run-1_hemi-{hemi}_bold.func.gii") == count("fox_run-1_bold.dtseries.nii") == 12
    assert count("fox_run-1_hemi-{hemi}_bold.func.gii", mask=f"{folder}/rois_{{hemi}}.label.gii") == 9
    assert count("fox_run-1_bold.npy", rois=rsa.load_voxel_rois(folder / "voxels.tsv")) == 12
    assert count("fox_run-1_timeseries.tsv") == 3
    few = rsa.load_voxel_rois(pd.DataFrame({"roi": ["a", "a", "b"]}))
    with pytest.raises(InputError, match="expected scans x 3 voxels, as the voxel table has, got 12"):
        count("fox_run-1_bold.npy", rois=few)
