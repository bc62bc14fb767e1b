"""Regions from label images, masks and coordinates: sizes, names, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.regions.centers import sphere_rois
from brainmap.rsa.regions.labels import load_rois
from brainmap.rsa.regions.rois import AUDITORY_CENTERS, Rois, load_mask

AFFINE = np.array([[-2.0, 0, 0, 8], [0, 3, 0, -9], [0, 0, 4, -8], [0, 0, 0, 1]])
TABLE = pd.DataFrame({"index": [1, 2, 7], "name": ["L_A1", "R_A1", "belt"]})
DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
needs_afni = pytest.mark.skipif(
    not (DATA / "afni").is_dir(), reason="files written by AFNI are not here (see BRAINMAP_TEST_DATA)"
)


def image(values: np.ndarray, *, affine: np.ndarray = AFFINE, code: int = 1) -> nib.Nifti1Image:
    made = nib.Nifti1Image(values, affine)
    made.set_sform(affine, code)
    made.set_qform(affine, code)
    return made


def labels() -> np.ndarray:
    values = np.zeros((8, 7, 6), np.int16)
    values[:2], values[2:4], values[6:] = 1, 2, 7
    return values


def test_regions_take_names_from_the_table_by_index_and_not_by_position(tmp_path: Path) -> None:
    path = tmp_path / "rois.tsv"
    TABLE.iloc[::-1].to_csv(path, sep="\t", index=False)
    nib.save(image(labels()), tmp_path / "rois.nii.gz")
    rois = load_rois(tmp_path / "rois.nii.gz", table=path)
    assert rois.names == ("L_A1", "R_A1", "belt")
    assert rois.sizes == {"L_A1": 84, "R_A1": 84, "belt": 84}
    np.testing.assert_array_equal(rois["belt"], labels() == 7)
    assert set(np.unique(rois.labels)) == {0, 1, 2, 3}


def test_saving_regions_and_reading_them_again_changes_nothing(tmp_path: Path) -> None:
    rois = load_rois(image(labels()), table=TABLE)
    nib.save(rois.image(), tmp_path / "again.nii.gz")
    again = load_rois(tmp_path / "again.nii.gz", table=rois.table())
    assert again.names == rois.names
    assert again.space == rois.space == "ORIG"
    np.testing.assert_array_equal(again.labels, rois.labels)
    np.testing.assert_array_equal(again.affine, rois.affine)


def test_names_that_are_missing_words_for_pandas_stay_names(tmp_path: Path) -> None:
    path = tmp_path / "rois.tsv"
    path.write_text("index\tname\n1\tNA\n2\tnull\n7\tno\n")
    assert load_rois(image(labels()), table=path).names == ("NA", "null", "no")


def test_a_label_that_the_table_lacks_is_named_with_its_voxels() -> None:
    with pytest.raises(InputError, match=r"label 7 \(84 voxels\) is not in the table"):
        load_rois(image(labels()), table=TABLE[:2])


def test_table_entries_without_voxels_are_said_and_kept_apart() -> None:
    values = labels()
    values[values == 2] = 0
    with pytest.warns(BrainmapWarning, match="1 region of the table has no voxel in the image: 'R_A1'"):
        rois = load_rois(image(values), table=TABLE)
    assert rois.names == ("L_A1", "belt")
    assert rois.absent == ("R_A1",)
    with pytest.raises(InputError, match="'R_A1' is in the table but has no voxel"):
        load_rois(image(values), table=TABLE, names=["R_A1"])


def test_chosen_names_come_in_the_order_asked_for() -> None:
    rois = load_rois(image(labels()), table=TABLE, names=["belt", "L_A1"])
    assert rois.names == ("belt", "L_A1")
    np.testing.assert_array_equal(rois["belt"], labels() == 7)
    with pytest.raises(InputError, match="did you mean 'belt'"):
        load_rois(image(labels()), table=TABLE, names=["blet"])


def test_pooled_hemispheres_are_the_union_of_left_and_right() -> None:
    rois = load_rois(image(labels()), table=TABLE, hemispheres="pooled")
    assert rois.names == ("A1", "belt")
    np.testing.assert_array_equal(rois["A1"], np.isin(labels(), (1, 2)))


def test_pooling_refuses_two_of_the_same_side() -> None:
    table = pd.DataFrame({"index": [1, 2, 7], "name": ["L_A1", "lh_A1", "belt"]})
    with pytest.raises(InputError, match="expected one left and one right"):
        load_rois(image(labels()), table=table, hemispheres="pooled")


def test_a_mask_cuts_regions_and_says_when_nothing_is_left() -> None:
    inside = np.ones(labels().shape, np.uint8)
    inside[1] = 0
    assert load_rois(image(labels()), table=TABLE, mask=image(inside)).sizes["L_A1"] == 42
    inside[:2] = 0
    with pytest.raises(InputError, match="'L_A1': all of its 84 voxels lie outside the mask"):
        load_rois(image(labels()), table=TABLE, mask=image(inside))


def test_one_mask_a_region_gives_the_same_as_a_label_image() -> None:
    masks = {name: image((labels() == k).astype(np.uint8)) for k, name in TABLE.itertuples(index=False)}
    by_mask, by_label = load_rois(masks), load_rois(image(labels()), table=TABLE)
    assert by_mask.names == by_label.names
    np.testing.assert_array_equal(by_mask.labels, by_label.labels)


def test_masks_that_overlap_are_refused() -> None:
    first = image((labels() > 0).astype(np.uint8))
    with pytest.raises(InputError, match="'a' and 'b' share 84 voxels"):
        load_rois({"a": first, "b": image((labels() == 7).astype(np.uint8))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v + 0.5, "voxels with other values .*probability map"),
        (lambda v: np.where(v == 7, np.nan, v), "got 84 voxels with other values"),
        (lambda v: -v, "252 voxels with other values"),
        (lambda v: v * 0, "holds no label"),
        (lambda v: np.stack([v, v], axis=-1), "expected one volume"),
    ],
)
def test_images_that_are_no_labels_are_refused(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_rois(image(change(labels().astype(np.float32))), table=TABLE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("index\tlabel\n1\ta\n", "expected a column 'name', got 'index', 'label'"),
        ("index\tname\nx\ta\n", "a whole number from 0 as the index of 'a', got 'x'"),
        ("index\tname\n1\ta\n1\tb\n", "index 1 is given to both 'a' and 'b'"),
        ("index\tname\n1\ta\n2\ta\n7\tb\n", "name 'a' is given to more than one index"),
        ("index\tname\n1\ta\textra\n", "as many fields in each row"),
        ("", "expected a tab-separated table"),
    ],
)
def test_tables_that_are_no_region_tables_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "rois.tsv").write_text(rows)
    with pytest.raises(InputError, match=message):
        load_rois(image(labels()), table=tmp_path / "rois.tsv")


def test_a_region_below_the_minimum_size_is_refused() -> None:
    with pytest.raises(InputError, match="'L_A1': expected at least 100 voxels, got 84"):
        load_rois(image(labels()), table=TABLE, minimum_voxels=100)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 3, 3), np.uint8), "holds no voxel"),
        (np.full((3, 3, 3), np.nan, np.float32), "27 voxels that are NaN"),
        (np.full((3, 3, 3), 0.4, np.float32), "threshold it first"),
        (np.ones((3, 3, 3, 2), np.uint8), "expected one volume"),
    ],
)
def test_masks_that_are_no_masks_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_mask(image(values))


def sphere(affine: np.ndarray, shape: tuple[int, ...], point: tuple[float, ...], radius: float) -> np.ndarray:
    """Voxel by voxel, the slow way."""
    inside = np.zeros(shape, bool)
    for index in np.ndindex(shape):
        where = affine[:3, :3] @ index + affine[:3, 3]
        inside[index] = np.sqrt(sum((a - b) ** 2 for a, b in zip(where, point, strict=True))) <= radius + 1e-3
    return inside


@pytest.mark.parametrize("oblique", [False, True])
def test_a_sphere_holds_the_voxels_within_its_radius_in_mm(oblique: bool) -> None:
    affine = AFFINE.copy()
    if oblique:
        turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
        affine[:3] = turn @ affine[:3]
    point = tuple(nib.affines.apply_affine(affine, [4.2, 3, 2.3]))
    rois = sphere_rois({"a": point}, radius_mm=6.0, reference=image(labels(), affine=affine), space="ORIG")
    np.testing.assert_array_equal(rois["a"], sphere(affine, (8, 7, 6), point, 6.0))


def test_rai_coordinates_are_lpi_with_the_signs_of_x_and_y_turned() -> None:
    grid = image(labels())
    lpi = sphere_rois({"a": (2, -3, 4)}, radius_mm=5, reference=grid, space="ORIG")
    rai = sphere_rois({"a": (-2, 3, 4)}, radius_mm=5, reference=grid, space="ORIG", orientation="RAI")
    np.testing.assert_array_equal(lpi.labels, rai.labels)
    assert lpi.sizes["a"] > 3


def test_spheres_that_touch_are_refused_or_shared_by_distance() -> None:
    centers = {"a": (0.0, 0.0, 0.0), "b": (4.0, 0.0, 0.0)}
    with pytest.raises(InputError, match=r"'a' and 'b' share \d+ voxels at 5 mm"):
        sphere_rois(centers, radius_mm=5, reference=image(labels()), space="ORIG")
    rois = sphere_rois(centers, radius_mm=5, reference=image(labels()), space="ORIG", overlap="nearest")
    for index in np.argwhere(rois.labels > 0):
        where = nib.affines.apply_affine(AFFINE, index)
        distances = [np.linalg.norm(where - np.array(c)) for c in centers.values()]
        assert distances[rois.labels[tuple(index)] - 1] == min(distances)


@pytest.mark.parametrize(
    ("space", "code", "fits"),
    [
        ("MNI", 4, True),
        ("MNI152NLin2009cAsym", 4, True),
        ("TT_N27", 4, False),
        ("MNI", 3, False),
        ("MNI", 1, False),
        ("TLRC", 3, True),
        ("ORIG", 1, True),
        ("ORIG", 4, False),
        ("MNI", 2, True),
    ],
)
def test_coordinates_and_image_must_be_in_one_space(space: str, code: int, fits: bool) -> None:
    grid = image(labels(), code=code)
    if fits:
        assert len(sphere_rois({"a": (0, 0, 0)}, radius_mm=5, reference=grid, space=space)) == 1
        return
    with pytest.raises(InputError, match=f"coordinates are in {space}, but the reference image is in"):
        sphere_rois({"a": (0, 0, 0)}, radius_mm=5, reference=grid, space=space)
    said = sphere_rois({"a": (0, 0, 0)}, radius_mm=5, reference=grid, space=space, reference_space=space)
    assert said.space == space


@pytest.mark.parametrize(
    ("centers", "message"),
    [
        ({}, "expected at least one center"),
        ({"far": (90, 0, 0)}, "'far'.*outside the image"),
        ({"a": (1, 2)}, "three coordinates"),
        ({"between": (1.0, 1.5, 2.0)}, "'between': expected at least 1 voxels, got 0"),
    ],
)
def test_centers_that_make_no_sphere_are_refused(centers: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sphere_rois(centers, radius_mm=0.5, reference=image(labels()), space="ORIG")


def test_auditory_centers_lie_in_the_mni_brain_left_and_right() -> None:
    from nilearn.datasets import load_mni152_brain_mask

    mask = load_mni152_brain_mask(resolution=4)
    rois = sphere_rois(AUDITORY_CENTERS, radius_mm=8, reference=mask, space="MNI", mask=mask)
    assert len(rois) == 6
    for name, size in rois.sizes.items():
        x = nib.affines.apply_affine(mask.affine, np.argwhere(rois[name]))[:, 0]
        assert (x < 0).all() if name.startswith("left") else (x > 0).all()
        assert size > 15


@needs_afni
@pytest.mark.parametrize("name", ["atlas+orig", "nii_atlas+orig.nii"])
def test_the_label_table_inside_an_afni_image_names_its_regions(name: str) -> None:
    rois = load_rois(DATA / "afni" / name)
    # The file was made by 3dcalc: 1 where i < 2, 2 where i > 4, 300 where i = 3 (RAI grid, 7 x 6 x 5).
    assert rois.sizes == {"L_A1_ROI": 60, "R_A1_ROI": 60, "L belt (lateral)": 30}
    assert load_rois(DATA / "afni" / name, hemispheres="pooled").sizes["A1_ROI"] == 120
    x = {n: nib.affines.apply_affine(rois.affine, np.argwhere(rois[n]))[:, 0].mean() for n in rois.names}
    # i grows from right to left on a RAI grid, so the label of the lowest i lies at the largest x.
    assert x["L_A1_ROI"] > x["L belt (lateral)"] > x["R_A1_ROI"]


def test_an_unknown_region_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'left'"):
        Rois(("left", "right"), np.zeros((1, 1, 1), np.int32), np.eye(4))["leftt"]
