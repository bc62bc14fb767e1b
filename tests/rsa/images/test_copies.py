"""Images with equal data are found whatever their names and headers say, and unlike images are hardly read."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.rsa.images import copies
from brainmap.rsa.images.copies import find_copies


def write(path: Path, seed: int, *, labels: tuple[str, str] = ("a", "b"), side: int = 6) -> Path:
    values = np.random.default_rng(seed).normal(size=(side, side, side, 2)).astype("f4")
    values[: side // 2] = 0
    return rsa.save_image(nib.Nifti1Image(values, np.eye(4)), path, labels=labels, space="MNI")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", "+tlrc.HEAD"])
def test_equal_values_under_other_labels_are_copies(tmp_path: Path, ending: str) -> None:
    files = [write(tmp_path / f"r{k}{ending}", seed) for k, seed in enumerate((0, 1))]
    files.append(write(tmp_path / f"r2{ending}", 0, labels=("a longer label", "d")))
    assert find_copies(files) == [[0, 2]]


def test_copies_links_and_gifti_are_found_and_damaged_files_are_none(tmp_path: Path) -> None:
    first = write(tmp_path / "a.nii.gz", 0)
    shutil.copy(first, tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").symlink_to(first)
    (tmp_path / "bad.nii.gz").write_bytes(first.read_bytes()[:-20])
    for name in ("one.func.gii", "two.func.gii"):
        (tmp_path / name).write_bytes(b"<GIFTI>" * 40)
    (tmp_path / "three.func.gii").write_bytes(b"<GIFTj>" * 40)
    names = ["a.nii.gz", "bad.nii.gz", "one.func.gii", "b.nii.gz", "c.nii.gz", "two.func.gii", "three.func.gii"]
    assert find_copies([tmp_path / name for name in names]) == [[0, 3, 4], [2, 5]]


def test_other_sub_bricks_of_one_file_are_no_copies(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", 0)
    assert find_copies([f"{path}[0]", f"{path}[1]", f"{path}[0]"]) == [[0, 2]]


def test_images_that_differ_in_their_last_value_alone_are_no_copies(tmp_path: Path) -> None:
    values = np.zeros((150, 150, 120), "f4")  # 10 MB: more than every beginning that is compared
    for name in ("a", "b", "c"):
        values[-1, -1, -1] = name == "c"
        rsa.save_image(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii.gz")
    assert find_copies([tmp_path / f"{name}.nii.gz" for name in ("a", "b", "c")]) == [[0, 1]]


def test_unlike_images_are_not_read_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(tmp_path / f"{k}.nii.gz", k, side=60) for k in range(3)]
    asked: list[int | None] = []
    plain = copies._hash_beginning

    def count(where: dict[int, copies._Data], k: int, *, most: int | None) -> bytes:
        asked.append(most)
        return plain(where, k, most=most)

    monkeypatch.setattr(copies, "_hash_beginning", count)
    assert find_copies(files) == []
    assert asked == [copies._BEGINNINGS[0]] * 3
