"""Results on disk: whole files or none, equal keys for equal content, a ledger that believes only what it finds."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainmap import progress as progress_module, record
from brainmap.checks import check_choice, check_file, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.record import Ledger, atomic, content_key, file_digest, write_json, write_table


@dataclass(frozen=True)
class Settings:
    radius: float
    names: tuple[str, ...] = ("a", "b")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as beside:
        assert beside.parent == path.parent
        assert beside.suffix == ".txt"
        beside.write_text("first")
        assert not path.exists()

    def killed() -> None:
        with atomic(path) as beside:
            beside.write_text("second, but killed in")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_places_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, said in [(tmp_path / "file" / "a.txt", "cannot be written"), (tmp_path, "got the folder")]:
        with pytest.raises(InputError, match=said) as found, atomic(path) as beside:
            beside.write_text("")
        assert "\n" not in str(found.value)


def test_equal_content_has_an_equal_key_and_other_content_another() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert content_key(array.T, {"b": 1, "a": None}) == content_key(array.T.copy(), {"a": None, "b": 1})
    assert content_key(Settings(2.0)) == content_key(Settings(np.float64(2.0)))  # type: ignore[arg-type]
    assert content_key({"x", "y", "z"}) == content_key({"z", "y", "x"})
    names = [np.array([f"w{i}" for i in range(3)], dtype=object) for _ in range(2)]
    assert content_key(names[0]) == content_key(names[1])  # not the addresses of the strings
    values = ("a", 1, 2.5, True, None, np.float64(0.1), np.str_("b"), [np.float32(1.5), ("c", {"d"})], {1: "e"})
    before = "6ba76e5a4b71ac3b821cf40ee7caae4b623166e7bcfdae39b73c695d0b461c50"  # results of earlier versions stay
    assert content_key(*values, np.arange(3), Path("g"), float("nan")) == before
    keys = [
        content_key(v)
        for v in (
            array,
            array.astype(np.float32),
            array.T,
            array + 1,
            Settings(2.0),
            Settings(2.5),
            "1",
            1,
            1.5,
            None,
            True,
        )
    ]
    assert len(set(keys)) == len(keys)


def test_json_is_for_any_reader(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"x": [np.float32("nan"), float("inf"), np.int64(3)], "ä": Path("b/c")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"x": [None, None, 3], "ä": "b/c"}
    assert "ä" in path.read_bytes().decode("utf-8")


def test_a_table_has_a_sidecar_for_every_column_or_is_not_written(tmp_path: Path) -> None:
    table = pd.DataFrame({"roi": ["left", "right"], "score": [0.25, np.nan]})
    path = write_table(table, tmp_path / "t.tsv", columns={"roi": "region", "score": "rho-a"}, about={"Seed": 3})
    assert path.read_text() == "roi\tscore\nleft\t0.25\nright\tn/a\n"
    sidecar = json.loads((tmp_path / "t.json").read_text())
    assert sidecar == {"roi": {"Description": "region"}, "score": {"Description": "rho-a"}, "Seed": 3}
    with pytest.raises(KeyError):
        write_table(table, tmp_path / "u.tsv", columns={"roi": "region"})
    assert not (tmp_path / "u.tsv").exists()


def test_a_stage_is_done_only_with_its_key_and_its_files(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, seed=3)
    result = tmp_path / "group" / "a.tsv"
    result.parent.mkdir()
    result.write_text("one")
    assert not ledger.is_done("group", "k1")
    ledger.close("group", "k1", [result])
    assert ledger.is_done("group", "k1")
    assert Ledger(tmp_path).is_done("group", "k1")
    assert not ledger.is_done("group", "k2")
    assert not ledger.is_done("network", "k1")
    result.write_text("cut")
    result.write_text("o")
    assert not ledger.is_done("group", "k1")
    result.unlink()
    assert not ledger.is_done("group", "k1")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00"])
def test_a_damaged_ledger_means_to_compute_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".brainmap").mkdir()
    (tmp_path / ".brainmap" / "group.json").write_bytes(content)
    assert not Ledger(tmp_path).is_done("group", "k1")


def test_provenance_says_simulated_and_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    digest = file_digest(tmp_path / "a")
    assert digest == hashlib.sha256(b"content").hexdigest()
    about = Ledger(tmp_path, simulated=True, seed=5).provenance(parameters={"p": 1}, inputs={"a": digest})
    assert about["Simulated"] is True
    assert about["Seed"] == 5
    assert about["Versions"]["torch"]
    assert "Simulated" not in Ledger(tmp_path).provenance(parameters={}, inputs={})


@pytest.mark.parametrize(
    ("word", "choices", "wanted"),
    [
        ("spearmann", ["spearman", "pearson"], "'spearman'"),
        ("WORD", ["Word"], "'Word'"),
        ("T1W", ["T1w", "T2w"], "'T1w'"),
    ],
)
def test_suggestions_take_upper_and_lower_case_as_the_same(word: str, choices: list[str], wanted: str) -> None:
    assert suggest_word(word, choices) == f"; did you mean {wanted}?"
    assert suggest_word("zzz", choices) == ""


def test_choices_and_lists_read_well() -> None:
    with pytest.raises(InputError, match="expected one of 'rms', 'peak', got 'Rms'; did you mean 'rms'"):
        check_choice("Rms", ["rms", "peak"], "level")
    assert list_some(range(10), most=2) == "0, 1 and 8 more"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "Mask.nii.gz").write_text("")
    with pytest.raises(InputError, match=r"did you mean 'Mask\.nii\.gz'"):
        check_file(tmp_path / "mask.nii.gz", "mask")
    with pytest.raises(InputError, match="does not exist"):
        check_file(tmp_path / "no" / "mask.nii.gz", "mask")
    with pytest.raises(InputError, match="got the folder"):
        check_file(tmp_path, "mask")


def test_a_log_says_how_far_it_is_with_a_note(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(float(t) for t in range(100))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "brainmap"), progress("training", total=100, every=0.5, done=90) as step:
        step.advance(note="loss 1")
    assert caplog.messages == ["training: 91 of 100 (loss 1)"]


def test_what_a_dead_process_left_is_cleared_and_what_others_write_is_not(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    mine = record.name_unfinished(tmp_path / "sub" / "a.tsv")
    mine.parent.mkdir()
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}.", f"-{int(ended.stdout)}."))
    other, old = (mine.with_name(f".elsewhere-{int(ended.stdout)}.{name}") for name in ("b.tsv", "c.tsv"))
    innocent = mine.with_name(".a-1")
    chunk, writing = (mine.with_name(f"zarr.{letter * 32}.partial") for letter in "ab")  # as zarr names them
    for path in (mine, dead, other, old, innocent, chunk, writing):
        path.write_text("half")
    os.utime(old, (0, 0))
    os.utime(chunk, (0, 0))
    before = record.content_digest(mine.parent)
    assert record.clear_unfinished(tmp_path) == 3
    assert {p.name for p in mine.parent.iterdir()} == {mine.name, other.name, innocent.name, writing.name}
    assert record.content_digest(mine.parent) != before  # files of ours are part of a folder
    whole = record.content_digest(mine.parent)
    writing.unlink()
    assert record.content_digest(mine.parent) == whole  # a chunk that was never finished is not
