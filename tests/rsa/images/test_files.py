"""Images through the one door: NIfTI in every stored form, saved whole, on one grid, taken by nilearn."""

from __future__ import annotations

import gzip
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainmap import rsa
from brainmap.errors import BrainmapError, BrainmapWarning, InputError

DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
AFFINE = np.array([[-3.0, 0.2, 0, 71], [0.1, 3.5, 0.3, -90], [0, -0.2, 4, 12], [0, 0, 0, 1]])


def nibabel_load(path: str | Path) -> Any:
    return nib.load(path)


def stored(folder: Path, values: Any, name: str = "x.nii", kind: Any = nib.Nifti1Image, **header: Any) -> Path:
    """A NIfTI file as another program writes it, some header fields overwritten afterwards."""
    image = kind(values, AFFINE, dtype=values.dtype)
    image.set_qform(None, 0)
    path = folder / name
    nib.save(image, path)
    if header:
        content = bytearray(path.read_bytes())
        fields = nib.Nifti1Header(bytes(content[:348]), check=False)
        for field, value in header.items():
            fields[field] = value
        content[:348] = fields.binaryblock
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nii.bz2"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "i8", "f4", "f8", ">i2", ">f4", ">f8"])
def test_reads_the_float32_nearest_to_what_nibabel_reads(tmp_path: Path, kind: Any, name: str, dtype: str) -> None:
    values = np.random.default_rng(1).normal(scale=30, size=(5, 4, 3, 2)).astype(dtype)
    image = rsa.load_image(stored(tmp_path, values, name, kind))
    np.testing.assert_array_equal(image.get_fdata(), nibabel_load(tmp_path / name).get_fdata().astype("f4"))
    np.testing.assert_array_equal(image.affine, nibabel_load(tmp_path / name).affine)
    assert image.get_data_dtype() == np.dtype("=f4")


def test_scaled_integers_are_scaled_in_double_precision(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-30000, 30000, (5, 4, 3)).astype("i2")
    path = stored(tmp_path, values, scl_slope=1.7e-5, scl_inter=-3.3)
    slope, inter = np.float32(1.7e-5).astype(float), np.float32(-3.3).astype(float)
    np.testing.assert_array_equal(rsa.load_image(path).get_fdata(), (values * slope + inter).astype("f4"))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 4, 1), (5, 4, 1)),
        ((5, 4, 1, 6), (5, 4, 1, 6)),
        ((5, 4, 3, 1), (5, 4, 3)),
        ((5, 4, 3, 1, 2), (5, 4, 3, 2)),
        ((5, 4, 3, 1, 1), (5, 4, 3)),
        ((5, 4), (5, 4, 1)),
    ],
)
def test_singleton_axes_after_the_third_are_dropped(tmp_path: Path, shape: Any, expected: Any) -> None:
    values = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    path = stored(tmp_path, values)
    image = rsa.load_image(path)
    assert image.shape == rsa.image_info(path).shape == expected
    np.testing.assert_array_equal(image.get_fdata(), values.reshape(expected))


def test_selectors_work_on_nifti_and_on_real_file_names_with_brackets(tmp_path: Path) -> None:
    values = np.arange(120, dtype="f4").reshape(5, 4, 3, 2)
    path = stored(tmp_path, values)
    np.testing.assert_array_equal(rsa.load_image(f"{path}[1]").get_fdata(), values[..., 1])
    np.testing.assert_array_equal(rsa.load_image(f"{path}[1]<5..30>").get_fdata().sum(), 5 + 7 + sum(range(9, 31, 2)))
    odd = Path(shutil.copyfile(path, tmp_path / "run[1].nii"))
    assert rsa.load_image(odd).shape == (5, 4, 3, 2)


def test_nilearn_takes_the_image_everywhere(tmp_path: Path) -> None:
    from nilearn import image as ni
    from nilearn.maskers import NiftiLabelsMasker, NiftiMasker

    rng = np.random.default_rng(0)
    path = tmp_path / "x+orig"
    rsa.save_image(nib.Nifti1Image(rng.normal(size=(6, 5, 4, 3)).astype("f4"), np.diag([3.0, 3, 3, 1])), path)
    brain = rsa.load_image(path)
    mask = rsa.load_image(nib.Nifti1Image(np.ones((6, 5, 4), "u1"), brain.affine))
    regions = rsa.load_image(nib.Nifti1Image(np.arange(120, dtype="i2").reshape(6, 5, 4) // 40, brain.affine))
    rows = NiftiMasker(mask, standardize=None).fit().transform(brain)
    np.testing.assert_allclose(rows, brain.get_fdata().reshape(-1, 3).T, rtol=1e-6)
    assert NiftiLabelsMasker(regions, standardize=None).fit().transform(brain).shape == (3, 2)
    np.testing.assert_allclose(ni.math_img("2 * i", i=brain).get_fdata(), 2 * brain.get_fdata())
    assert ni.binarize_img(brain, threshold=0.0, two_sided=False, copy_header=True).shape == brain.shape
    assert ni.mean_img(brain, copy_header=True).shape == (6, 5, 4)
    assert ni.resample_to_img(
        ni.index_img(brain, 0), mask, interpolation="nearest", force_resample=True, copy_header=True
    ).shape == (6, 5, 4)


def test_labels_follow_the_image_they_describe_and_no_other(tmp_path: Path) -> None:
    from nilearn.image import index_img

    image = nib.Nifti1Image(np.arange(24, dtype="f4").reshape(2, 3, 2, 2), np.diag([2.0, 2, 2, 1]))
    path = rsa.save_image(image, tmp_path / "x.nii.gz", labels=["yes", "no"], stats=["Ttest(9)", None], space="MNI")
    brain = rsa.load_image(path)
    assert rsa.sub_brick_labels(brain) == rsa.sub_brick_labels(path) == ["yes", "no"]
    assert rsa.sub_brick_labels(rsa.load_image(brain)) == ["yes", "no"]
    again = rsa.save_image(brain, tmp_path / "again.nii")
    assert rsa.image_info(again).stats == (rsa.Stat("Ttest", (9,)), None)
    swapped = index_img(brain, [1, 0])
    assert rsa.sub_brick_labels(swapped) == ["#0", "#1"]
    assert rsa.image_info(swapped).space == "MNI"
    nib.save(index_img(brain, slice(0, 1)), tmp_path / "cut.nii")
    assert rsa.sub_brick_labels(tmp_path / "cut.nii") == ["#0"]
    assert rsa.sub_brick_labels(nibabel_load(path)) == ["yes", "no"]


@pytest.mark.parametrize(
    ("space", "code", "view"),
    [
        ("MNI", 4, "tlrc"),
        ("MNI_2009c_asym", 4, "tlrc"),
        ("TT_N27", 3, "tlrc"),
        ("TLRC", 3, "tlrc"),
        ("ORIG", 1, "orig"),
        ("HaskinsPeds", 5, "tlrc"),
        ("MNI_ANAT", 2, "orig"),
    ],
)
def test_spaces_get_the_codes_and_views_that_afni_gives_them(tmp_path: Path, space: str, code: int, view: str) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), "f4"), AFFINE)
    path = rsa.save_image(image, tmp_path / "x.nii", space=space)
    header = nibabel_load(path).header
    assert int(header["sform_code"]) == code
    info = rsa.image_info(path)
    assert (info.space, info.view) == (space, view)


def test_saving_keeps_values_types_and_affine_and_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for dtype in ("u1", "i2", "f4"):
        values = rng.normal(scale=90, size=(4, 3, 2, 2)).astype(dtype)
        image = nib.Nifti1Image(values, AFFINE)
        one, two = (rsa.save_image(image, tmp_path / f"{dtype}{i}.nii.gz", history="made") for i in range(2))
        assert one.read_bytes() == two.read_bytes()
        theirs = nibabel_load(one)
        assert theirs.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asanyarray(theirs.dataobj), values)
        np.testing.assert_allclose(theirs.affine, AFFINE, rtol=1e-6)
        assert rsa.image_info(one).history == "made"


def test_one_statistic_is_also_said_in_nifti_s_own_words(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), "f4"), AFFINE)
    path = rsa.save_image(image, tmp_path / "t.nii", stats=["Ttest(23)"])
    assert nibabel_load(path).header.get_intent()[:2] == ("t test", (23.0,))
    theirs = nib.Nifti1Image(np.zeros((2, 2, 2), "f4"), AFFINE)
    theirs.header.set_intent("f test", (2, 40))
    nib.save(theirs, tmp_path / "f.nii")
    assert rsa.image_info(tmp_path / "f.nii").stats == (rsa.Stat("Ftest", (2, 40)),)


def test_a_failed_save_leaves_nothing_and_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), "f4"), AFFINE)
    for name in ("x.nii.gz", "x+orig"):
        path = rsa.save_image(image, tmp_path / name)
        before = path.read_bytes()
        with pytest.raises(InputError, match="exists; overwrite it"):
            rsa.save_image(image, tmp_path / name)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", _disk_full)
            with pytest.raises(OSError, match="disk full"):
                rsa.save_image(image, tmp_path / name, overwrite=True)
        assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x+orig.BRIK", "x+orig.HEAD", "x.nii.gz"]


def _disk_full(*_: object) -> None:
    raise OSError("disk full")


@pytest.mark.skipif(not (DATA / "haxby").is_dir(), reason=f"no Haxby data in {DATA}")
def test_a_slice_of_real_bold_written_as_brik_gives_the_same_distances_bit_for_bit(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        bold = rsa.load_image(DATA / "haxby" / "bold.nii.gz")
        mask = rsa.load_image(DATA / "haxby" / "mask.nii.gz").get_fdata() > 0
    assert bold.shape == (40, 20, 1, 1452)
    again = rsa.load_image(rsa.save_image(bold, tmp_path / "bold+orig"))
    np.testing.assert_array_equal(again.affine, bold.affine)

    def distances(image: Any) -> Any:
        rows = image.get_fdata(dtype=np.float32)[mask].T[:80]
        return np.corrcoef(rows)

    np.testing.assert_array_equal(distances(again), distances(bold))


def _flip(affine: Any) -> Any:
    return np.diag([-1.0, 1, 1, 1]) @ affine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"magic": b"ni1"}, "got b'ni1'"),
        ({"datatype": 32, "bitpix": 64}, "complex"),
        ({"datatype": 128, "bitpix": 24}, "RGB"),
        ({"datatype": 77}, "datatype is 77"),
        ({"bitpix": 16}, "bitpix says 16"),
        ({"vox_offset": 100}, "vox_offset is 100"),
        ({"dim": [3, 5, 4, 9, 1, 1, 1, 1]}, "truncated: expected 1072 bytes, got 592"),
        ({"dim": [3, 5, 4, 2, 1, 1, 1, 1]}, "longer than its header says"),
        ({"dim": [3, 5, 4, -3, 1, 1, 1, 1]}, "dim is"),
        ({"dim": [5, 5, 2, 2, 1, 3, 1, 1]}, None),
        ({"dim": [5, 5, 2, 1, 2, 3, 1, 1]}, "expected at most one axis after x, y, z"),
        ({"srow_x": [0, 0, 0, 0]}, "no coordinate system"),
        ({"srow_y": [np.nan, 1, 1, 1]}, "no coordinate system"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 3}, "qform is invalid"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "scl_inter is nan"),
    ],
)
def test_a_broken_header_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    path = stored(tmp_path, np.arange(60, dtype="f4").reshape(5, 4, 3), **change)
    if message is None:
        assert rsa.load_image(path).shape == (5, 2, 2, 3)
        return
    with pytest.raises(InputError, match=message) as raised:
        rsa.load_image(path)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_images_are_refused_by_name(tmp_path: Path) -> None:
    path = stored(tmp_path, np.zeros((2, 2, 2), "f4"))
    packed = gzip.compress(path.read_bytes())
    (tmp_path / "mask.nii").write_bytes(packed)
    (tmp_path / "y.nii.gz").write_bytes(path.read_bytes())
    (tmp_path / "cut.nii.gz").write_bytes(packed[:-9])
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "x.mgz").write_bytes(packed)
    for name, message in {
        "mask.nii": r"gzip data, so name it .nii.gz",
        "y.nii.gz": "damaged compressed data",
        "cut.nii.gz": "damaged compressed data",
        "empty.nii": "neither NIfTI-1 nor NIfTI-2",
        "x.mgz": "expected a file that ends in .nii",
        "nask.nii": r"no file .*nask.nii; did you mean 'mask.nii'",
        "": "got the folder",
        "a" * 300: "cannot be read",
    }.items():
        with pytest.raises(InputError, match=message):
            rsa.load_image(tmp_path / name)


def test_values_that_float32_cannot_hold_are_refused(tmp_path: Path) -> None:
    values = np.full((2, 2, 2), 16777217, "i8")
    path = stored(tmp_path, values)
    with pytest.raises(InputError, match="16777217 has no exact float32"):
        rsa.load_image(path)
    with pytest.raises(InputError, match="no exact float32"):
        rsa.load_image(nib.Nifti1Image(values, AFFINE, dtype="i8"))
    with pytest.raises(InputError, match="no exact float32"):
        rsa.save_image(nib.Nifti1Image(values, AFFINE, dtype="i8"), tmp_path / "y.nii")
    with pytest.raises(InputError, match=r"beyond 3.4e38"):
        rsa.load_image(stored(tmp_path, np.full((2, 2, 2), 1e39)))
    held = np.array([np.nan, np.inf, -np.inf, 1e38] * 2).reshape(2, 2, 2)
    np.testing.assert_array_equal(rsa.load_image(stored(tmp_path, held)).get_fdata(), held.astype("f4"))


def test_disagreeing_transforms_are_said(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((5, 4, 3), "f4"), np.diag([2.0, 2, 2, 1]))
    image.set_sform(np.diag([2.0, 2, 2, 1]), 1)
    image.set_qform(np.diag([-2.0, 2, 2, 1]), 1)
    nib.save(image, tmp_path / "x.nii")
    with pytest.warns(BrainmapWarning, match=r"disagree by up to 20 mm and are mirror images \(left/right\)"):
        rsa.load_image(tmp_path / "x.nii")
    plain = stored(tmp_path, np.zeros((5, 4, 3), "f4"), sform_code=0)
    with pytest.warns(BrainmapWarning, match="neither sform nor qform"):
        rsa.load_image(plain)
    odd = stored(tmp_path, np.zeros((5, 4, 3), "f4"), sform_code=260)
    with pytest.warns(BrainmapWarning, match="sform code 260"):
        rsa.load_image(odd)
    microns = stored(tmp_path, np.zeros((5, 4, 3), "f4"), xyzt_units=3)
    with pytest.warns(BrainmapWarning, match="micrometers"):
        np.testing.assert_allclose(rsa.load_image(microns).affine[:3], AFFINE[:3] / 1000, rtol=1e-6)


def test_a_zero_qfac_means_one_as_the_standard_says(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((5, 4, 3), "f4"), None)
    image.set_qform(np.diag([2.0, 3, 4, 1]), 1)
    nib.save(image, tmp_path / "x.nii")
    content = bytearray((tmp_path / "x.nii").read_bytes())
    content[76:80] = bytes(4)
    (tmp_path / "x.nii").write_bytes(content)
    np.testing.assert_allclose(rsa.load_image(tmp_path / "x.nii").affine, np.diag([2.0, 3, 4, 1]))


def test_grids_that_differ_are_an_error_with_its_numbers() -> None:
    one = nib.Nifti1Image(np.zeros((5, 4, 3), "f4"), AFFINE)
    rsa.check_same_grid(one, nib.Nifti1Image(np.zeros((5, 4, 3, 7), "f4"), AFFINE + 1e-5))
    moved = AFFINE.copy()
    moved[0, 3] += 1.5
    with pytest.raises(InputError, match=r"mask: grid \(5, 4, 3\) differs from the run's grid \(5, 4, 3\), .* 1.5 mm"):
        rsa.check_same_grid(nib.Nifti1Image(np.zeros((5, 4, 3), "f4"), moved), one, what="mask", wanted="run")
    with pytest.raises(InputError, match=r"\(5, 4, 2\) differs from .*\(5, 4, 3\), their affines are the same; re"):
        rsa.check_same_grid(nib.Nifti1Image(np.zeros((5, 4, 2), "f4"), AFFINE), one)
    with pytest.raises(InputError, match="mirrored, left/right"):
        rsa.check_same_grid(nib.Nifti1Image(np.zeros((5, 4, 3), "f4"), _flip(AFFINE)), one)


def test_resampling_equals_nilearn_and_keeps_labels_whole() -> None:
    from nilearn.image import resample_to_img
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.normal(size=(9, 8, 7, 2)).astype("f4"), AFFINE)
    target = AFFINE.copy()
    target[:3, :3] = Rotation.from_euler("xyz", [5, -4, 8], degrees=True).as_matrix() @ AFFINE[:3, :3] * 0.8
    reference = nib.Nifti1Image(np.zeros((10, 9, 8), "f4"), target)
    ours = rsa.resample(image, reference, interpolation="continuous")
    theirs = resample_to_img(image, reference, interpolation="continuous", force_resample=True, copy_header=True)
    inside = np.ones((10, 9, 8), dtype=bool)
    inside[0, 0, 0] = False  # the first voxels of both grids coincide, so that rounding decides whether it is outside
    np.testing.assert_allclose(ours.get_fdata()[inside], theirs.get_fdata()[inside], atol=1e-5)
    assert np.count_nonzero(theirs.get_fdata()) > 1000
    rsa.check_same_grid(ours, reference)
    labels = nib.Nifti1Image(rng.integers(0, 4, (9, 8, 7)).astype("i2"), AFFINE)
    again = rsa.resample(labels, labels, interpolation="label")
    np.testing.assert_array_equal(again.get_fdata(), labels.get_fdata())
    theirs = resample_to_img(labels, reference, interpolation="nearest", force_resample=True, copy_header=True)
    assert np.mean(rsa.resample(labels, reference, interpolation="label").get_fdata() == theirs.get_fdata()) > 0.99


def test_what_resampling_would_spoil_is_refused_or_said() -> None:
    image = nib.Nifti1Image(np.zeros((5, 4, 3), "f4"), AFFINE)
    holes = nib.Nifti1Image(np.full((5, 4, 3), np.nan, "f4"), AFFINE)
    with pytest.raises(InputError, match="60 values are NaN"):
        rsa.resample(holes, image, interpolation="continuous")
    with pytest.raises(InputError, match="expected integers for the interpolation 'label'"):
        rsa.resample(nib.Nifti1Image(np.full((5, 4, 3), 0.5, "f4"), AFFINE), image, interpolation="label")
    with pytest.raises(InputError, match="expected one of 'continuous', 'label'"):
        rsa.resample(image, image, interpolation="linear")  # type: ignore[arg-type]
    values = np.zeros((5, 4, 3), "i2")
    values[0, 0, 0] = 3
    coarse = AFFINE.copy()
    coarse[:3, :3] *= 2
    coarse[:3, 3] += AFFINE[:3, :3] @ [1, 1, 1]
    with pytest.warns(BrainmapWarning, match="labels '3' have no voxel"):
        rsa.resample(
            nib.Nifti1Image(values, AFFINE), nib.Nifti1Image(np.zeros((2, 2, 1), "f4"), coarse), interpolation="label"
        )


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    rng = np.random.default_rng(0)
    files = {
        "float": stored(folder, rng.normal(size=(4, 3, 2)).astype("f4"), "float.nii"),
        "int": stored(folder, rng.integers(0, 99, (4, 3, 2, 2)).astype("i2"), "int.nii", scl_slope=0.5, scl_inter=1),
        "two": stored(folder, rng.normal(size=(4, 3, 2)), "two.nii", nib.Nifti2Image),
    }
    image = nib.Nifti1Image(rng.normal(size=(4, 3, 2)).astype("f4"), AFFINE)
    files["ours"] = rsa.save_image(image, folder / "ours.nii", labels=["a"], stats=["Ttest(3)"], space="MNI")
    files["packed"] = rsa.save_image(image, folder / "packed.nii.gz", labels=["a"])
    return files


@settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["float", "int", "two", "ours", "packed"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_a_flipped_byte_in_a_nifti_header_is_refused_said_or_read_right(
    originals: dict[str, Path], tmp_path: Path, name: str, flips: list[tuple[float, int]]
) -> None:
    file = originals[name]
    content = bytearray(file.read_bytes())
    whole = len(content) if name == "packed" else len(content) - 24 * 4
    for place, flip in flips:
        content[int(place * whole)] ^= flip
    changed = tmp_path / file.name
    changed.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            image = rsa.load_image(changed)
        except BrainmapError:
            return
    if any(issubclass(w.category, BrainmapWarning) for w in said) or _same(image, rsa.load_image(file)):
        return
    assert name != "packed"
    # Numbers changed to others that fit as well: another reader must see the same ones.
    theirs = nibabel_load(changed)
    with np.errstate(over="ignore", invalid="ignore"):
        assert _same(image, nib.Nifti1Image(theirs.get_fdata().reshape(image.shape).astype("f4"), theirs.affine))


def _same(one: Any, other: Any) -> bool:
    if one.shape != other.shape or not np.allclose(one.affine, other.affine, rtol=1e-5, atol=1e-5):
        return False
    return np.allclose(one.get_fdata(), other.get_fdata(), rtol=1e-5, atol=1e-7, equal_nan=True)


def test_a_statistic_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4))
    with pytest.raises(InputError, match=r"expected a statistic like .*, got \('Ttest', 20\)"):
        rsa.save_image(image, tmp_path / "x.nii", stats=[("Ttest", 20)])  # type: ignore[list-item]


def test_grids_less_than_a_hundredth_of_a_voxel_apart_are_one_and_the_tolerance_is_an_option() -> None:
    def shifted(mm: float) -> nib.Nifti1Image:
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        affine[0, 3] = mm
        return nib.Nifti1Image(np.zeros((4, 4, 4), "f4"), affine)

    rsa.check_same_grid(shifted(5e-4), shifted(0))  # rounding of headers: nothing is said
    with pytest.warns(BrainmapWarning, match="less than 0.01 of a voxel apart count as equal"):
        rsa.check_same_grid(shifted(0.029), shifted(0))
    with pytest.raises(InputError, match=r"corners up to 0\.031 mm apart"):
        rsa.check_same_grid(shifted(0.031), shifted(0))
    with rsa.grid_tolerance(0.02), pytest.warns(BrainmapWarning, match="less than 0.02"):
        rsa.check_same_grid(shifted(0.031), shifted(0))
    with rsa.grid_tolerance(0), pytest.raises(InputError, match="apart"):
        rsa.check_same_grid(shifted(0.029), shifted(0))
    with pytest.raises(InputError, match="apart"):
        rsa.check_same_grid(shifted(0.031), shifted(0))
    with pytest.raises(InputError, match=r"got 0\.5"), rsa.grid_tolerance(0.5):
        pass


def test_images_are_taken_by_their_paths_and_other_types_are_refused_by_name(tmp_path: Path) -> None:
    fine = nib.Nifti1Image(np.arange(64.0).reshape(4, 4, 4).astype(np.float32), np.eye(4))
    coarse = nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    paths = [rsa.save_image(image, tmp_path / f"{k}.nii.gz") for k, image in enumerate((fine, coarse))]
    wanted = rsa.resample(fine, coarse, interpolation="continuous").get_fdata()
    for image, reference in ((str(paths[0]), str(paths[1])), (paths[0], coarse), (fine, paths[1])):
        found = rsa.resample(image, reference, interpolation="continuous").get_fdata()
        np.testing.assert_allclose(found, wanted)
    rsa.check_same_grid(paths[0], fine)
    with pytest.raises(InputError, match=r"atlas: grid \(2, 2, 2\) differs"):
        rsa.check_same_grid(str(paths[1]), paths[0], what="atlas")
    again = rsa.save_image(paths[0], tmp_path / "again.nii.gz")
    np.testing.assert_array_equal(rsa.load_image(again).dataobj, fine.dataobj)
    values: Any = np.ones((4, 4, 4))
    for call, what in (
        (lambda: rsa.resample(values, fine, interpolation="label"), "resample: image"),
        (lambda: rsa.resample(fine, None, interpolation="label"), "resample: reference"),  # type: ignore[arg-type]
        (lambda: rsa.load_image(values), "image"),
        (lambda: rsa.image_info(values), "image"),
        (lambda: rsa.check_same_grid(values, fine, what="mask"), "mask"),
        (lambda: rsa.save_image(values, tmp_path / "x.nii"), "save_image"),
    ):
        with pytest.raises(InputError, match=rf"^{what}: expected a path or an image \(Nifti1Image\), got "):
            call()
