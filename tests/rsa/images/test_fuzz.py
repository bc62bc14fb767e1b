"""Damaged files of every kind: an error in one line, a warning, or the numbers the file really holds; never more.

A wrong silent result is an image of another shape, place or value than the same bytes give another reader: what
contradicts itself (sizes, counts, types, offsets, affines) must be refused or said, while a digit that became another
valid digit is a file that says something else, and every reader must then agree on what.
"""

from __future__ import annotations

import gzip
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainmap import rsa
from brainmap.errors import BrainmapError, BrainmapWarning
from brainmap.rsa.glm.afni import read_design
from brainmap.rsa.images.afni import parse_head, parse_label_table

DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "afni"
written_by_afni = pytest.mark.skipif(not DATA.is_dir(), reason=f"no files written by AFNI in {DATA}")
fuzzed = settings(max_examples=120, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ["f_rai+orig", "s_bucket+orig", "ts_s+orig", "oblique+orig", "atlas+orig", "v_mni+tlrc", "mixed+orig"]

places = st.floats(0, 1, exclude_max=True)
flip = st.tuples(st.just("flip"), places, st.integers(1, 255))
write = st.tuples(st.just("write"), places, st.sampled_from(b"0123456789-+.e~'\n\0\xff "))
cut = st.tuples(st.just("cut"), places, st.sampled_from([1, 2, 4, 30, 200]))
insert = st.tuples(st.just("insert"), places, st.sampled_from([1, 2, 8]))
end = st.tuples(st.just("end"), places, st.just(0))
damages = st.lists(st.one_of(flip, flip, write, cut, insert, end), min_size=1, max_size=3)


def damaged(content: bytes, how: list[tuple[str, float, int]]) -> bytes:
    """The bytes after each damage in turn."""
    changed = bytearray(content)
    for kind, place, what in how:
        at = int(place * len(changed))
        if kind == "end":
            del changed[at:]
        elif kind == "cut":
            del changed[at : at + what]
        elif kind == "insert":
            changed[at:at] = bytes(range(7, 7 + what))
        elif at < len(changed):
            changed[at] = changed[at] ^ what if kind == "flip" else what
    return bytes(changed)


@contextmanager
def listening() -> Iterator[list[Any]]:
    """Warnings that are ours; any other one is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BrainmapWarning)
        yield caught


def read(path: str | Path) -> tuple[nib.Nifti1Image | None, bool]:
    """The image, None where it is refused in one line; and whether something was said."""
    with listening() as said:
        try:
            return rsa.load_image(path), bool(said)
        except BrainmapError as error:
            assert "\n" not in str(error)  # noqa: PT017
            return None, True


def same(one: Any, other: Any) -> bool:
    if one.shape != other.shape or not np.allclose(one.affine, other.affine, atol=1e-4):
        return False
    return np.allclose(one.get_fdata(), other.get_fdata(), rtol=1e-4, equal_nan=True)


def agrees(image: Any, original: Any, path: Path) -> bool:
    """Whether the numbers are those of the whole file, or those that nibabel finds in the damaged one."""
    assert np.isfinite(image.affine).all()
    if same(image, original):
        return True
    theirs: Any = nib.load(path)
    values = theirs.get_fdata().astype("f4")
    return same(image, nib.Nifti1Image(values.reshape(image.shape), theirs.affine))


@written_by_afni
@fuzzed
@given(name=st.sampled_from(NAMES), how=damages)
def test_a_damaged_head_is_refused_said_or_read_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, name: str, how: list[tuple[str, float, int]]
) -> None:
    folder, view = tmp_path_factory.mktemp("head"), name.split("+")[1]
    for file in DATA.glob(f"{name}.*"):
        shutil.copyfile(file, folder / f"x+{view}{file.name.removeprefix(name)}")
    head = folder / f"x+{view}.HEAD"
    head.write_bytes(damaged(head.read_bytes(), how))
    image, said = read(folder / f"x+{view}")
    assert image is None or said or agrees(image, rsa.load_image(DATA / name), head)


@written_by_afni
@fuzzed
@given(name=st.sampled_from(NAMES), how=damages, packed=st.booleans())
def test_a_damaged_nifti_header_with_its_extension_is_refused_said_or_read_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, name: str, how: list[tuple[str, float, int]], packed: bool
) -> None:
    folder = tmp_path_factory.mktemp("nifti")
    content = (DATA / f"nii_{name}.nii").read_bytes()
    start = int(np.frombuffer(content[108:112], "<f4")[0])
    content = damaged(content[:start], how) + content[start:]
    path = folder / ("x.nii.gz" if packed else "x.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    image, said = read(path)
    assert image is None or said or agrees(image, rsa.load_image(DATA / f"nii_{name}.nii"), path)


@written_by_afni
@fuzzed
@given(how=damages)
def test_a_damaged_gzip_stream_is_refused_or_read_right(
    tmp_path_factory: pytest.TempPathFactory, how: list[tuple[str, float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("gz")
    shutil.copyfile(DATA / "gz_f+orig.HEAD", folder / "x+orig.HEAD")
    brik = damaged((DATA / "gz_f+orig.BRIK.gz").read_bytes(), how)
    (folder / "x+orig.BRIK.gz").write_bytes(brik)
    image, _ = read(folder / "x+orig")
    assert image is None or same(image, rsa.load_image(DATA / "gz_f+orig"))


@fuzzed
@given(dimensions=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=8, max_size=8), bits=st.integers(0, 2**15 - 1))
def test_any_dimensions_and_type_end_quickly_and_without_much_memory(
    tmp_path_factory: pytest.TempPathFactory, dimensions: list[int], bits: int
) -> None:
    path = tmp_path_factory.mktemp("dim") / "x.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), "f4"), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[40:56] = np.array(dimensions, "<i2").tobytes()
    content[70:72] = np.array(bits, "<i2").tobytes()
    path.write_bytes(bytes(content))
    image, said = read(path)
    assert image is None or said


@pytest.mark.parametrize(
    "reader",
    [
        lambda path: parse_head(path.read_bytes().decode("latin-1"), "x.HEAD"),
        lambda path: parse_label_table(path.read_text(encoding="latin-1")),
        read_design,
        lambda path: rsa.load_surface({"left": path}),
        rsa.load_image,
    ],
    ids=["HEAD", "label table", "design", "surface", "image"],
)
@settings(max_examples=40, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400))
def test_bytes_of_nothing_are_refused(
    tmp_path_factory: pytest.TempPathFactory, reader: Callable[[Path], Any], content: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.func.nii"
    path.write_bytes(content)
    try:
        reader(path)
    except BrainmapError as error:
        assert "\n" not in str(error)  # noqa: PT017  # not every reader refuses all of them


@fuzzed
@given(name=st.text(max_size=30))
def test_any_text_for_a_name_is_a_file_or_one_line(name: str) -> None:
    with listening():
        try:
            rsa.load_image(name)
        except BrainmapError as error:
            said = str(error).replace(name, "").replace(str(Path(name)), "")  # a name may hold what it likes
            assert "\n" not in said
