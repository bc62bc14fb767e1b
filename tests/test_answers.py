"""Answers are kept for as long as everything that they depend on is the same, and a kept one equals a new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brainmap import answers
from brainmap.answers import digest_files, keep_answer
from brainmap.errors import BrainmapWarning, InputError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of answers of this test alone."""
    monkeypatch.setattr(answers, "_open_folder", lambda: tmp_path)
    return tmp_path


def counted(value: object) -> tuple[Callable[[], Any], list[int]]:
    """What computes a value, and how often it did."""
    calls: list[int] = []

    def compute() -> object:
        calls.append(1)
        return value

    return compute, calls


def test_an_answer_is_computed_once_and_a_kept_one_equals_a_new_one() -> None:
    compute, calls = counted({"shape": (1, 2), "size": None, "far": float("inf")})
    new = keep_answer("layers", "key", compute)
    assert new == {"shape": [1, 2], "size": None, "far": float("inf")}
    assert keep_answer("layers", "key", compute) == new
    assert len(calls) == 1


def test_another_key_or_question_is_another_answer() -> None:
    compute, calls = counted(1)
    for kind, key in (("layers", "a"), ("layers", "b"), ("digest", "a")):
        keep_answer(kind, key, compute)
    assert len(calls) == 3


def test_a_damaged_answer_is_computed_again(folder: Path) -> None:
    compute, calls = counted("yes")
    keep_answer("layers", "key", compute)
    (file,) = folder.iterdir()
    for damage in (b"", b"{}", b"\xff", file.read_bytes().replace(b'"key": "key"', b'"key": "other"')):
        file.write_bytes(damage)
        assert keep_answer("layers", "key", compute) == "yes"
    assert len(calls) == 5


def test_warnings_are_given_again_with_a_kept_answer() -> None:
    def compute() -> int:
        warnings.warn("a prefix was taken off", BrainmapWarning, stacklevel=1)
        return 1

    for _ in range(2):
        with pytest.warns(BrainmapWarning, match="a prefix was taken off") as caught:
            assert keep_answer("network", "key", compute) == 1
        assert len(caught) == 1


def test_an_error_is_not_kept(folder: Path) -> None:
    def refuse() -> None:
        raise InputError("no such layer")

    for _ in range(2):
        with pytest.raises(InputError, match="no such layer"):
            keep_answer("layers", "key", refuse)
    assert not list(folder.iterdir())


def test_what_must_not_be_kept_is_computed_each_time(folder: Path) -> None:
    compute, calls = counted({"code": True})
    for _ in range(2):
        assert keep_answer("network", "key", compute, unless=lambda answer: answer["code"]) == {"code": True}
    assert len(calls) == 2
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_costs_the_answer_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    monkeypatch.setattr(answers, "_open_folder", lambda: folder / "file" / "below")
    compute, calls = counted(3)
    assert [keep_answer("layers", "key", compute) for _ in range(2)] == [3, 3]
    assert len(calls) == 2


@pytest.mark.parametrize("changed", ["_list_versions", "_digest_package"])
def test_other_code_or_other_versions_have_their_own_answers(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers._name_version()
    assert answers._name_version() == before
    monkeypatch.setattr(answers, changed, lambda: "other")
    assert answers._name_version() != before


def test_the_code_is_every_module_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brainmap" / "features").mkdir(parents=True)
    module = tmp_path / "brainmap" / "features" / "listing.py"
    module.write_text("a = 1")
    monkeypatch.setattr(answers, "__file__", str(tmp_path / "brainmap" / "answers.py"))
    before = answers._digest_package()
    assert answers._digest_package() == before
    module.write_text("a = 2")
    assert answers._digest_package() != before


def test_versions_include_what_networks_run_on() -> None:
    assert {"brainmap", "torch", "transformers", "safetensors"} <= set(answers._list_versions())


def test_a_digest_of_files_tells_contents_and_names(tmp_path: Path) -> None:
    names = [tmp_path / "a", tmp_path / "b"]
    for name in names:
        name.write_bytes(b"same")
    before = digest_files(names)
    assert digest_files(names[::-1]) != before
    names[1].write_bytes(b"sama")
    assert digest_files(names) != before
