"""Runs and participants with equal data are findings of the check, and nothing is computed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from brainmap.errors import InputError
from brainmap.study.run import Context, check_study, run_study
from brainmap.study.settings.study import load_study


def find_problems(study: Any) -> tuple[str, ...]:
    return check_study(Context(load_study(study.file))).problems


def list_briks(study: Any, label: str) -> list[Path]:
    return sorted((study.folder / f"sub-{label}").glob("betas_run-*.BRIK*"))


def test_a_run_that_is_a_copy_of_another_is_a_finding(tiny_study: Any) -> None:
    first, second, *_ = list_briks(tiny_study, "02")
    shutil.copy(first, second)
    (line,) = find_problems(tiny_study)
    assert line.startswith("participant 02: run 1 and run 2 have equal data ('betas_run-1+tlrc.HEAD', 'betas_run-2+")
    assert line.endswith("give each its own data, or leave the copies out")
    with pytest.raises(InputError, match="run 1 and run 2 have equal data"):
        run_study(Context(load_study(tiny_study.file)))
    assert not list((tiny_study.folder / "derivatives").rglob("*scores.tsv"))


def test_a_participant_who_has_a_run_of_another_is_a_finding(tiny_study: Any) -> None:
    shutil.copy(list_briks(tiny_study, "01")[0], list_briks(tiny_study, "02")[1])
    (line,) = find_problems(tiny_study)
    assert line.startswith("participants 01 (run 1) and 02 (run 2) have equal data")
