"""Results of a study that changed behind its back are noticed, named, and made again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from brainmap.cli import app, load_commands
from brainmap.errors import InputError
from brainmap.study.results.context import check_output, verify_results
from brainmap.study.run import Context
from brainmap.study.settings.study import load_study


def change_and_keep_the_time(path: Path) -> None:
    then, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))


def test_verify_reads_every_result_and_a_run_makes_the_changed_one_again(finished: Any) -> None:
    context = Context(load_study(finished.file))
    assert verify_results(context) > 20
    table = next((finished.out / "sub-01").rglob("*_scores.tsv"))
    right = table.read_bytes()
    chunk = next(p for p in (finished.out / "features").rglob("c/0/*") if p.is_file())
    for path in (table, chunk):
        change_and_keep_the_time(path)
    with pytest.raises(InputError) as said:
        verify_results(context)
    lines = str(said.value).splitlines()
    assert len(lines) == 2
    assert any(str(table) in line for line in lines)
    load_commands()
    told = CliRunner().invoke(app, ["check", str(finished.file), "--verify"])
    assert isinstance(told.exception, InputError)
    assert {"network-net", "sub-01_rois"} <= finished.run()
    assert table.read_bytes() == right
    assert verify_results(context) > 20


def test_a_link_out_of_the_results_is_refused_before_anything_is_written(finished: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (finished.out / "sub-09").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of"):
        check_output(Context(load_study(finished.file)))


@pytest.mark.parametrize(
    ("command", "name"),
    [(["check", "--verify"], "group_rois.json"), (["run"], "network-net.json"), (["run"], "")],
)
def test_a_folder_in_place_of_a_record_is_one_line(finished: Any, command: list[str], name: str) -> None:
    record = finished.out / ".brainmap" / name if name else finished.out / ".brainmap"
    if name:
        record.unlink()
        (record / "x").mkdir(parents=True)
    else:
        shutil.rmtree(record)
        record.write_text("")
    load_commands()
    told = CliRunner().invoke(app, [command[0], str(finished.file), *command[1:]])
    assert isinstance(told.exception, InputError), told.exception
    assert len(str(told.exception).splitlines()) == 1
    assert ".brainmap" in str(told.exception)
