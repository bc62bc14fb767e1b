"""A results folder cannot reach outside of itself, changed results are noticed, and a full disk is one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from brainmap.errors import InputError, RunError
from brainmap.places import refuse_links_out, remove, resolve_inside
from brainmap.record import Ledger, atomic, content_key, write_table
from brainmap.study.results.context import Context

OUTSIDE = [
    "../victim",
    "/etc/passwd",
    "a/../../victim",
    "..",
    ".",
    "",
    "link/a",
    "link",
    "C:/x",
    "..\\victim",
    "a\0b",
    "loop",
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "a").write_text("precious")
    folder = tmp_path / "out"
    (folder / ".brainmap").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "victim")
    (folder / "loop").symlink_to(folder / "loop")
    return folder


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("sealed", [True, False])
def test_names_that_leave_the_folder_are_refused_before_anything_is_removed(out: Path, name: str, sealed: bool) -> None:
    (out / "own.tsv").write_text("x")
    files = {"own.tsv": [99, "0"], name: [1, "0"]}
    digest = content_key("description", "x", files) if sealed else None
    entry = {"stage": "description", "key": "x", "files": files, "digest": digest}
    (out / ".brainmap" / "description.json").write_text(json.dumps(entry))
    study: Any = SimpleNamespace(out=out, settings=SimpleNamespace(study=SimpleNamespace(simulated=False, seed=0)))
    with pytest.raises(InputError, match="lies outside of"):
        Context(study).run_stage("description", "new", list)
    assert (out.parent / "victim" / "a").read_text() == "precious"
    assert (out / "own.tsv").exists()


def test_a_folder_that_is_itself_a_link_is_fine_and_links_out_of_it_are_not(out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leads out of"):
        refuse_links_out(out)
    (out / "link").unlink()
    (out / "loop").unlink()
    (out / "same").symlink_to(out / ".brainmap")
    (tmp_path / "other").symlink_to(out)
    refuse_links_out(tmp_path / "other")
    assert resolve_inside(tmp_path / "other", "a/b") == tmp_path / "other" / "a" / "b"


def test_removing_a_link_leaves_what_it_leads_to(out: Path) -> None:
    remove(out / "link")
    assert not (out / "link").is_symlink()
    assert (out.parent / "victim" / "a").exists()


def same_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"X")


def same_size_in_folder(path: Path) -> None:
    same_size(path / "c" / "0")


def exchanged(path: Path) -> None:
    first, second = path / "c" / "0", path / "c" / "1"
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


@pytest.mark.parametrize(
    ("name", "change"), [("a.tsv", same_size), ("array", same_size_in_folder), ("array", exchanged)]
)
def test_changed_bytes_are_noticed_with_their_old_time(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    (tmp_path / "a.tsv").write_text("content")
    (tmp_path / "array" / "c").mkdir(parents=True)
    for k in range(2):
        (tmp_path / "array" / "c" / str(k)).write_text(f"chunk {k}")
    ledger = Ledger(tmp_path)
    ledger.close("s", "k", [tmp_path / "a.tsv", tmp_path / "array"])
    assert ledger.is_done("s", "k")
    assert ledger.damaged("s", verify=True) == []
    every = [tmp_path / name, *(tmp_path / name).rglob("*")]
    times = {p: p.stat() for p in every}
    change(tmp_path / name)
    for path, then in times.items():
        os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert ledger.damaged("s") == ledger.damaged("s", verify=True) == [tmp_path / name]
    assert not ledger.is_done("s", "k")


def test_a_copied_folder_is_still_done(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.tsv").write_text("content")
    Ledger(tmp_path / "one").close("s", "k", [tmp_path / "one" / "a.tsv"])
    for how in (shutil.copy, shutil.copy2):
        shutil.copytree(tmp_path / "one", tmp_path / how.__name__, copy_function=how)
        assert Ledger(tmp_path / how.__name__).is_done("s", "k")


def test_an_entry_whose_list_of_files_was_changed_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("content")
    ledger = Ledger(tmp_path)
    ledger.close("s/../t", "k", [tmp_path / "a.tsv"])
    assert ledger.stages() == ["s/../t"]
    (path,) = (tmp_path / ".brainmap").iterdir()
    assert ledger.is_done("s/../t", "k")
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "files": {}}))
    assert not ledger.is_done("s/../t", "k")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_folder_and_the_file_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import pandas as pd

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(RunError, match=r"no room is left in .*, while scores.tsv .* the same command again") as said:
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "scores.tsv", columns={"a": "a"})
    assert str(tmp_path) in str(said.value)
    assert list(tmp_path.iterdir()) == []


def test_images_have_their_own_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nibabel as nib
    import numpy as np

    from brainmap.rsa.images import nifti as _nifti
    from brainmap.rsa.images.files import save_image

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_nifti, "build_image_for_file", full)
    with pytest.raises(RunError, match=r"while a\.nii\.gz was being written"):
        save_image(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_hdf5_says_in_words_only_that_a_disk_is_full(tmp_path: Path) -> None:
    def fails() -> None:
        with atomic(tmp_path / "a.h5"):
            raise RuntimeError("unable to flush (errno = 28, error message = 'No space left on device')")

    with pytest.raises(RunError, match=r"while a\.h5"):
        fails()


def test_other_failures_keep_their_kind(tmp_path: Path) -> None:
    def fails() -> None:
        with atomic(tmp_path / "a.h5"):
            raise PermissionError(errno.EACCES, "denied")

    with pytest.raises(PermissionError):
        fails()
