"""AFNI datasets: read as AFNI's own converter reads them, written as AFNI writes them, refused in one line."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainmap import rsa
from brainmap.errors import BrainmapError, BrainmapWarning, InputError
from brainmap.rsa.images.afni import parse_head

DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "afni"
written_by_afni = pytest.mark.skipif(not DATA.is_dir(), reason=f"no files written by AFNI in {DATA}")
NAMES = [
    "atlas+orig",
    "f_asl+orig",
    "f_rai+orig",
    "gz_f+orig",
    "mixed+orig",
    "msb_f+orig",
    "oblique+orig",
    "s_bucket+orig",
    "s_fac+orig",
    "ts_s+orig",
    "ttest+orig",
    "v_mni+tlrc",
    "v_tlrc+tlrc",
]


def nibabel_load(path: str | Path) -> Any:
    return nib.load(path)


def head_of(name: str | Path) -> dict[str, Any]:
    return parse_head(Path(f"{name}.HEAD").read_bytes().decode("latin-1"), str(name))


def copy(name: str, folder: Path, new: str = "x+orig") -> Path:
    """A dataset written by AFNI under another name, as one that may be changed."""
    for file in DATA.glob(f"{name}.*"):
        target = folder / f"{new}{file.name.removeprefix(name)}"
        shutil.copyfile(file, target)
    return folder / new


def edit(head: Path, old: str, new: str) -> None:
    text = head.read_bytes().decode("latin-1")
    assert old in text
    head.write_bytes(text.replace(old, new).encode("latin-1"))


def small(n: int | None = None, dtype: str = "f4", affine: Any = None) -> nib.Nifti1Image:
    """An image of a few voxels whose values all differ."""
    shape = (4, 3, 2) if n is None else (4, 3, 2, n)
    values = (np.arange(np.prod(shape)).reshape(shape) * (1.37 if dtype == "f4" else 1)).astype(dtype)
    return nib.Nifti1Image(values, np.diag([2.0, 3, 4, 1]) if affine is None else affine)


@written_by_afni
@pytest.mark.parametrize("name", NAMES)
def test_reads_what_afni_itself_converts_to_nifti(name: str) -> None:
    theirs = nibabel_load(DATA / f"nii_{name}.nii")
    image = rsa.load_image(DATA / name)
    expected = np.squeeze(theirs.get_fdata())
    np.testing.assert_allclose(image.get_fdata(), expected, rtol=2e-7, atol=1e-12)
    np.testing.assert_allclose(image.affine, theirs.affine, atol=1e-6)
    assert image.get_data_dtype() == np.dtype("=f4")
    assert isinstance(image, nib.Nifti1Image)
    ours, converted = rsa.image_info(DATA / name), rsa.image_info(DATA / f"nii_{name}.nii")
    for field in ("labels", "stats", "label_table", "space", "t_r", "history"):
        assert getattr(ours, field) == getattr(converted, field), field
    np.testing.assert_array_equal(rsa.load_image(DATA / f"nii_{name}.nii").get_fdata(), expected.astype("f4"))


@written_by_afni
@pytest.mark.parametrize("name", ["f_rai+orig", "f_asl+orig", "gz_f+orig", "msb_f+orig", "v_mni+tlrc"])
def test_every_storage_puts_each_value_at_its_place_in_space(name: str) -> None:
    image = rsa.load_image(DATA / name)
    here = np.indices(image.shape).reshape(3, -1)
    base = nibabel_load(DATA / "nii_f_rai+orig.nii").affine
    ijk = nib.affines.apply_affine(np.linalg.inv(base) @ image.affine, here.T)
    np.testing.assert_allclose(image.get_fdata().ravel(), ijk @ [1, 10, 100] + 0.125, atol=1e-3)


@written_by_afni
def test_labels_statistics_time_and_tables_are_read() -> None:
    bucket, ttest, series, atlas = (
        rsa.image_info(DATA / n) for n in ("s_bucket+orig", "ttest+orig", "ts_s+orig", "atlas+orig")
    )
    assert rsa.sub_brick_labels(DATA / "s_bucket+orig") == ["Full_Fstat", "word yes#0_Coef", "word yes#0_Tstat"]
    assert bucket.stats == (rsa.Stat("Ftest", (3, 120)), None, rsa.Stat("Ttest", (120,)))
    assert [str(s) for s in ttest.stats] == ["None", "Ttest(4)", "None", "Ttest(2)", "None", "Ttest(2)"]
    assert (bucket.t_r, series.t_r, series.shape) == (None, 1.5, (7, 6, 5, 8))
    assert atlas.label_table == {0: "Unknown", 1: "L_A1_ROI", 2: "R_A1_ROI", 300: "L belt (lateral)"}
    assert bucket.history.splitlines()[-1].endswith("-substatpar 2 fitt 120 s_bucket+orig")
    assert len(bucket.history.splitlines()) == 6
    assert (rsa.image_info(DATA / "v_mni+tlrc").space, rsa.image_info(DATA / "v_mni+tlrc").view) == ("MNI", "tlrc")
    t = 1.5 * np.arange(8)  # 3dcalc's t is seconds
    np.testing.assert_allclose(rsa.load_image(DATA / "ts_s+orig").get_fdata()[3, 2, 1], (123 + t) / 33, atol=3e-4)


@written_by_afni
def test_any_spelling_of_a_name_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy("gz_f+orig", tmp_path, "x+orig")
    copy("f_rai+orig", tmp_path, "plain")
    expected = rsa.load_image(DATA / "f_rai+orig").get_fdata()
    monkeypatch.chdir(tmp_path)
    for name in ("x+orig", "x+orig.", "x+orig.HEAD", "x+orig.BRIK", "x+orig.BRIK.gz", "plain.HEAD", "plain.BRIK"):
        np.testing.assert_array_equal(rsa.load_image(name).get_fdata(), expected)
        np.testing.assert_array_equal(rsa.load_image(tmp_path / name).get_fdata(), expected)


@written_by_afni
@pytest.mark.parametrize(
    ("selector", "indices"),
    [
        ("[3]", [3]),
        ("[0..4]", [0, 1, 2, 3, 4]),
        ("[0,2,5]", [0, 2, 5]),
        ("[1..$]", [1, 2, 3, 4, 5]),
        ("[$]", [5]),
        ("[4..0(2)]", [4, 2, 0]),
        ("[2-4]", [2, 3, 4]),
        ("[wordy_Tstat]", [3]),
        ("[noise_mean,0]", [4, 0]),
        ("[wordy-noise_mean]", [0]),
        ("[wordy_mean..noise_mean]", [2, 3, 4]),
        ("'[1,1]'", [1, 1]),
    ],
)
def test_sub_brick_selectors_select_as_in_afni(selector: str, indices: list[int]) -> None:
    whole = rsa.load_image(DATA / "ttest+orig")
    name = f"{DATA / 'ttest+orig'}{selector}"
    image = rsa.load_image(name)
    np.testing.assert_array_equal(image.get_fdata(), np.squeeze(whole.get_fdata()[..., indices]))
    labels = rsa.sub_brick_labels(DATA / "ttest+orig")
    assert rsa.sub_brick_labels(name) == [labels[i] for i in indices] == rsa.sub_brick_labels(image)
    assert rsa.image_info(image).stats == tuple(rsa.image_info(DATA / "ttest+orig").stats[i] for i in indices)
    assert rsa.image_info(name).shape == image.shape


@written_by_afni
def test_value_ranges_keep_what_they_name_and_zero_the_rest() -> None:
    whole = rsa.load_image(DATA / "atlas+orig").get_fdata()
    for text, kept in {"<1..2>": [1, 2], "<300>": [300], "<R_A1_ROI>": [2], "[0]<2..300>": [2, 300]}.items():
        found = rsa.load_image(f"{DATA / 'atlas+orig'}{text}").get_fdata()
        np.testing.assert_array_equal(found, np.where(np.isin(whole, kept), whole, 0))
    with pytest.raises(InputError, match=r"<300\.\.2>.*'L_A1_ROI'"):
        rsa.load_image(f"{DATA / 'atlas+orig'}<300..2>")


@written_by_afni
def test_milliseconds_become_seconds_and_a_chosen_volume_has_no_repetition_time(tmp_path: Path) -> None:
    name = copy("ts_s+orig", tmp_path)
    edit(name.with_suffix(".HEAD"), " 8 0 77002", " 8 0 77001")
    edit(name.with_suffix(".HEAD"), "            1.5  ", "           1500  ")
    assert rsa.image_info(name).t_r == 1.5
    assert rsa.image_info(f"{name}[2..5]").t_r == 1.5
    assert rsa.image_info(f"{name}[2]").t_r is None
    assert rsa.image_info(f"{name}[0..$(2)]").t_r is None


@written_by_afni
def test_a_text_with_a_blank_line_and_quotes_is_read(tmp_path: Path) -> None:
    name = copy("f_rai+orig", tmp_path)
    text = head_of(name)["HISTORY_NOTE"]
    note = "one\n\ntype = integer-attribute 'quoted' \u00e9\n"
    stored = note.encode().decode("latin-1")  # a character a byte, as the count counts
    edit(name.with_suffix(".HEAD"), f"count = {len(text) + 1}\n'{text}~", f"count = {len(stored) + 1}\n'{stored}~")
    with pytest.raises(nib.spatialimages.HeaderDataError):
        nibabel_load(f"{name}.HEAD")
    assert rsa.image_info(name).history == note
    np.testing.assert_array_equal(rsa.load_image(name).get_fdata(), rsa.load_image(DATA / "f_rai+orig").get_fdata())


def test_written_datasets_come_back_from_nibabel_and_from_here(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    oblique = np.eye(4)
    oblique[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [2, 3, 4]
    oblique[:3, 3] = [-71.2345678, 33.3, 5]
    image = small(3, affine=oblique)
    labels, stats = ["a b", "b#0_Tstat", "c>d"], [None, "Ttest(23)", rsa.Stat("Ftest", (2, 40))]
    for name in ("x+tlrc", "y+tlrc.BRIK.gz"):
        history = "a 'b'\n\"c\""
        head = rsa.save_image(image, tmp_path / name, labels=labels, stats=stats, space="MNI", history=history)
        assert head == tmp_path / f"{name[:6]}.HEAD"
        theirs = nibabel_load(head)
        np.testing.assert_array_equal(theirs.get_fdata(), image.get_fdata())
        np.testing.assert_allclose(theirs.affine, oblique, rtol=1e-8, atol=1e-8)
        assert theirs.header.get_volume_labels()[:3] == labels
        assert theirs.header.get_space() == "MNI"
        ours = rsa.load_image(head)
        np.testing.assert_array_equal(ours.get_fdata(), image.get_fdata())
        info = rsa.image_info(head)
        assert (info.labels, info.space, info.view) == (tuple(labels), "MNI", "tlrc")
        assert info.stats == (None, rsa.Stat("Ttest", (23,)), rsa.Stat("Ftest", (2, 40)))
        assert info.history == history


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "f4", ">f4", "f8", "i8"])
def test_written_types_are_those_afni_knows(tmp_path: Path, dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    head = rsa.save_image(nib.Nifti1Image(values, np.eye(4), dtype=dtype), tmp_path / "x+orig")
    expected = {"u1": 0, "i2": 1, ">i2": 1}.get(dtype, 3)
    assert head_of(tmp_path / "x+orig")["BRICK_TYPES"] == (expected,)
    np.testing.assert_array_equal(np.squeeze(nibabel_load(head).get_fdata()), values)


def test_every_orientation_is_written_consistently(tmp_path: Path) -> None:
    for axes, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        affine = np.zeros((4, 4))
        affine[list(axes), range(3)] = np.multiply(signs, [2, 3, 4])
        affine[:, 3] = [-5, 7, 11, 1]
        head = rsa.save_image(small(affine=affine), tmp_path / "x+orig", overwrite=True)
        # The reader warns where ORIENT_SPECIFIC, ORIGIN and DELTA contradict the matrix; warnings fail tests here.
        np.testing.assert_array_equal(rsa.load_image(head).affine, affine)
        edit(head, "name = IJK_TO_DICOM", "name = SOMETHING_ELSE")
        np.testing.assert_array_equal(rsa.load_image(head).affine, affine)


@written_by_afni
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("mixed+orig", "v_tlrc+tlrc")])
def test_a_written_head_agrees_with_the_one_afni_wrote(tmp_path: Path, name: str) -> None:
    rsa.save_image(rsa.load_image(DATA / name), tmp_path / name)
    ours, theirs = head_of(tmp_path / name), head_of(DATA / name)
    same = (
        "ORIENT_SPECIFIC",
        "ORIGIN",
        "DELTA",
        "IJK_TO_DICOM",
        "IJK_TO_DICOM_REAL",
        "DATASET_RANK",
        "DATASET_DIMENSIONS",
        "TEMPLATE_SPACE",
        "BYTEORDER_STRING",
        "HISTORY_NOTE",
        "BRICK_LABS",
        "BRICK_STATAUX",
        "BRICK_STATSYM",
        "BRICK_STATS",
        "TAXIS_NUMS",
        "TAXIS_FLOATS",
        "VALUE_LABEL_DTABLE",
    )
    for key in same:
        if key in ("BRICK_LABS", "BYTEORDER_STRING") and (key not in theirs or name == "msb_f+orig"):
            continue
        if isinstance(ours.get(key), tuple):
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6, err_msg=key)
        else:
            assert ours.get(key) == theirs.get(key), key
    assert ours["SCENE_DATA"][0] == theirs["SCENE_DATA"][0]
    if name != "oblique+orig":  # to3d made that one, as anatomy
        assert ours["TYPESTRING"] == theirs["TYPESTRING"]
        assert ours["SCENE_DATA"][2] == theirs["SCENE_DATA"][2]


@written_by_afni
@pytest.mark.parametrize("name", ["s_bucket+orig", "atlas+orig", "v_mni+tlrc", "ts_s+orig", "ttest+orig"])
def test_the_nifti_extension_says_what_afnis_own_says(tmp_path: Path, name: str) -> None:
    file = rsa.save_image(rsa.load_image(DATA / name), tmp_path / "x.nii")
    ours, theirs = nibabel_load(file).header, nibabel_load(DATA / f"nii_{name}.nii").header
    assert (int(ours["sform_code"]), int(ours["qform_code"])) == (int(theirs["sform_code"]), int(theirs["qform_code"]))

    def attributes(header: Any) -> dict[str, Any]:
        content = bytes(header.extensions[0].get_content()).rstrip(b"\0").decode()
        root = ET.fromstring(content)
        assert root.tag == "AFNI_attributes"
        found: dict[str, Any] = {}
        for element in root:
            text = str(element.text).strip()
            if element.get("ni_type") == "String":
                found[str(element.get("atr_name"))] = text.strip('"').rstrip("~")
            else:
                assert int(str(element.get("ni_dimen"))) == len(text.split())
                found[str(element.get("atr_name"))] = tuple(map(float, text.split()))
        return found

    said, expected = attributes(ours), attributes(theirs)
    for key in ("TEMPLATE_SPACE", "HISTORY_NOTE", "BRICK_LABS", "BRICK_STATAUX", "BRICK_STATSYM"):
        assert said.get(key, "") == expected.get(key, "") or (key == "BRICK_LABS" and key not in expected), key
    table = said.get("VALUE_LABEL_DTABLE", "")
    assert table.split() == expected.get("VALUE_LABEL_DTABLE", "").split()


def test_time_series_keep_their_repetition_time(tmp_path: Path) -> None:
    image = small(5)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((2, 3, 4, 2200))
    for name in ("x+orig", "x.nii.gz"):
        rsa.save_image(image, tmp_path / name)
        assert rsa.image_info(tmp_path / name).t_r == 2.2
    assert head_of(tmp_path / "x+orig")["TAXIS_FLOATS"][1] == 2.2


def _truncated(folder: Path) -> str:
    brik = folder / "x+orig.BRIK"
    brik.write_bytes(brik.read_bytes()[:100])
    return r"x\+orig.BRIK is truncated: expected 840 bytes, got 100"


def _no_brik(folder: Path) -> str:
    (folder / "x+orig.BRIK").unlink()
    return r"no x\+orig.BRIK beside it"


def _two_briks(folder: Path) -> str:
    (folder / "x+orig.BRIK.gz").write_bytes(gzip.compress((folder / "x+orig.BRIK").read_bytes()))
    return r"one name stands for two files, x\+orig.BRIK and x\+orig.BRIK.gz"


def _damaged_gz(folder: Path) -> str:
    packed = bytearray(gzip.compress((folder / "x+orig.BRIK").read_bytes()))
    (folder / "x+orig.BRIK").unlink()
    packed[len(packed) // 2] ^= 255
    (folder / "x+orig.BRIK.gz").write_bytes(packed)
    return r"x\+orig.BRIK.gz: damaged compressed data"


def _cut_gz(folder: Path) -> str:
    packed = gzip.compress((folder / "x+orig.BRIK").read_bytes())
    (folder / "x+orig.BRIK").unlink()
    (folder / "x+orig.BRIK.gz").write_bytes(packed[:-12])
    return r"x\+orig.BRIK.gz: damaged compressed data"


def _short_gz(folder: Path) -> str:
    packed = gzip.compress((folder / "x+orig.BRIK").read_bytes()[:-4])
    (folder / "x+orig.BRIK").unlink()
    (folder / "x+orig.BRIK.gz").write_bytes(packed)
    return r"x\+orig.BRIK.gz is truncated: expected 840 bytes, got 836"


def _long(folder: Path) -> str:
    (folder / "x+orig.BRIK").write_bytes((folder / "x+orig.BRIK").read_bytes() + b"1234")
    return r"longer than its header says: expected 840 bytes, got 844"


def _complex(folder: Path) -> str:
    edit(folder / "x+orig.HEAD", "name = BRICK_TYPES\ncount = 1\n 3", "name = BRICK_TYPES\ncount = 1\n 5")
    return "expected sub-bricks of byte, short or float, got complex"


def _zero_affine(folder: Path) -> str:
    for name in ("DELTA", "IJK_TO_DICOM", "IJK_TO_DICOM_REAL"):
        edit(folder / "x+orig.HEAD", f"name  = {name}\n", f"name  = X{name}\n")
    zeros = "\ntype = float-attribute\nname = DELTA\ncount = 3\n 2 0 4\n"
    with (folder / "x+orig.HEAD").open("a") as head:
        head.write(zeros)
    return "no coordinate system"


def _nan_affine(folder: Path) -> str:
    edit(folder / "x+orig.HEAD", "            5.5  ", "            nan  ")
    return "should hold at least .* finite numbers"


def _no_grid(folder: Path) -> str:
    edit(folder / "x+orig.HEAD", "name = DATASET_DIMENSIONS", "name = DATASET_DIMENSION")
    return "DATASET_DIMENSIONS should hold at least 3"


def _huge_grid(folder: Path) -> str:
    edit(folder / "x+orig.HEAD", " 7 6 5 0 0", " 70000000 60000 50000 0 0")
    return "truncated: expected 840000000000000000 bytes, got 840"


def _negative_factor(folder: Path) -> str:
    edit(folder / "x+orig.HEAD", "FACS\ncount = 1\n              0", "FACS\ncount = 1\n             -2")
    return "BRICK_FLOAT_FACS holds -2.0"


def _wrong_count(folder: Path) -> str:
    edit(folder / "x+orig.HEAD", "name = TEMPLATE_SPACE\ncount = 5", "name = TEMPLATE_SPACE\ncount = 7")
    return "7 characters of TEMPLATE_SPACE"


@written_by_afni
@pytest.mark.parametrize(
    "spoil",
    [
        _truncated, _no_brik, _two_briks, _damaged_gz, _cut_gz, _short_gz, _long, _complex, _zero_affine, _nan_affine,
        _no_grid, _huge_grid, _negative_factor, _wrong_count,
    ],
)  # fmt: skip
def test_a_broken_dataset_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    name = copy("f_rai+orig", tmp_path)
    message = spoil(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        rsa.load_image(name)
    assert "\n" not in str(raised.value)


@written_by_afni
@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("[7]", r"expected a sub-brick from 0 to 2 \('Full_Fstat', 'word yes#0_Coef', .*got 7"),
        ("[word]", r"no sub-brick is called 'word'; the labels are 'Full_Fstat', .*'word yes#0_Tstat'"),
        ("[full_fstat]", "no sub-brick is called"),
        ("[0..9]", "got 9$"),
        ("[]", "no sub-brick is called ''"),
        ("[1..]", "no sub-brick is called"),
        ("[0..2(0)]", "no sub-brick is called"),
        ("[-1]", "no sub-brick is called"),
        ("<a..b>", "expected a value range <lo..hi>"),
        ("<1..2..3>", "expected a value range <lo..hi>"),
        ("<nan>", "expected a value range <lo..hi>"),
    ],
)
def test_a_selector_that_selects_nothing_says_what_there_is(selector: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rsa.load_image(f"{DATA / 's_bucket+orig'}{selector}")


@written_by_afni
def test_one_label_on_two_sub_bricks_cannot_select() -> None:
    with pytest.raises(InputError, match=r"3 sub-bricks are labelled '#0' \(0, 1, 2\)"):
        rsa.load_image(f"{DATA / 'mixed+orig'}[#0]")


@written_by_afni
def test_a_missing_name_suggests_the_nearest(tmp_path: Path) -> None:
    copy("f_rai+orig", tmp_path, "stats.s1+orig")
    with pytest.raises(InputError, match=r"no file .*stats.s2\+orig.HEAD; did you mean 'stats.s1\+orig.HEAD'"):
        rsa.load_image(tmp_path / "stats.s2+orig")
    with pytest.raises(InputError, match="does not exist"):
        rsa.load_image(tmp_path / "nowhere" / "x+orig")


@written_by_afni
def test_what_contradicts_itself_is_said(tmp_path: Path) -> None:
    copy("v_mni+tlrc", tmp_path, "x+orig")
    with pytest.warns(BrainmapWarning, match=r"name says \+orig, its header \+tlrc"):
        rsa.load_image(tmp_path / "x+orig")
    name = copy("s_fac+orig", tmp_path, "y+orig")
    edit(name.with_suffix(".HEAD"), "BRICK_FLOAT_FACS", "BRICK_FLOAT_FACE")
    with pytest.warns(BrainmapWarning, match=r"sub-brick 0: the values lie in .*, the header says"):
        rsa.load_image(name)
    name = copy("f_rai+orig", tmp_path, "z+orig")
    edit(name.with_suffix(".HEAD"), "            5.5           8.25", "            6.5           8.25")
    with pytest.warns(BrainmapWarning, match="IJK_TO_DICOM_REAL contradicts"):
        rsa.load_image(name)


def test_writing_never_replaces_unasked_and_leaves_no_stale_brik(tmp_path: Path) -> None:
    rsa.save_image(small(), tmp_path / "x+orig.BRIK.gz")
    for name in ("x+orig", "x+orig.HEAD", "x+orig.BRIK.gz"):
        with pytest.raises(InputError, match="overwrite=True"):
            rsa.save_image(small(), tmp_path / name)
    rsa.save_image(small(2), tmp_path / "x+orig", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x+orig.BRIK", "x+orig.HEAD"]
    assert rsa.load_image(tmp_path / "x+orig").shape == (4, 3, 2, 2)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("x.HEAD", {}, r"expected a name with a view, .*x\+orig.HEAD or .*x\+tlrc.HEAD"),
        ("x+tlrc", {}, r"expected a name of view \+orig, as the space is ORIG, got .*\(view \+tlrc\)"),
        ("x+orig", {"space": "MNI"}, r"expected a name of view \+tlrc, as the space is MNI, got .*\(view \+orig\)"),
        ("x+orig", {"labels": ["a", "b"]}, "each of 1 sub-bricks, got 2"),
        ("x+orig", {"labels": ["a~b"]}, "which AFNI can keep, got 'a~b'"),
        ("x+orig", {"stats": []}, "each of 1 sub-bricks, got 0"),
        ("x+orig", {"stats": ["T(3)"]}, "expected one of 'Correl', 'Ttest'"),
        ("x+orig", {"stats": ["Ttest"]}, r"expected a text like 'Ttest\(24\)'"),
        ("x+orig", {"stats": ["Ftest(3)"]}, "Ftest: expected 2 parameters, got 1"),
        ("no/x+orig", {}, "folder that exists, got .*no;"),
    ],
)
def test_what_afni_could_not_read_is_not_written(
    tmp_path: Path, name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        rsa.save_image(small(), f"{tmp_path}/{name}", **settings)
    assert list(tmp_path.iterdir()) == []


@written_by_afni
@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["f_rai+orig", "s_bucket+orig", "ts_s+orig", "oblique+orig", "atlas+orig", "v_mni+tlrc"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_a_flipped_byte_in_a_head_is_refused_said_or_read_right(
    tmp_path_factory: pytest.TempPathFactory, name: str, flips: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    view = name.split("+")[1]
    changed = copy(name, folder, f"x+{view}")
    head = Path(f"{changed}.HEAD")
    content = bytearray(head.read_bytes())
    for place, flip in flips:
        content[int(place * len(content))] ^= flip
    head.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            image = rsa.load_image(changed)
        except BrainmapError:
            return
    original = rsa.load_image(DATA / name)
    if any(issubclass(w.category, BrainmapWarning) for w in said) or _same(image, original):
        return
    # What is left are numbers that were changed to others that fit as well; another reader must see the same ones.
    theirs = nibabel_load(head)
    assert _same(image, nib.Nifti1Image(np.squeeze(theirs.get_fdata()).astype("f4"), theirs.affine))


def _same(one: nib.Nifti1Image, other: nib.Nifti1Image) -> bool:
    if one.shape != other.shape or not np.allclose(one.affine, other.affine, atol=1e-6):
        return False
    return np.allclose(one.get_fdata(), other.get_fdata(), rtol=1e-6, equal_nan=True)
