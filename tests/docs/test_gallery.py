"""Examples of the gallery are short, and run as they stand."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "docs" / "gallery"
SCRIPTS = sorted(GALLERY.glob("plot_*.py"))


def test_there_are_twelve_examples_of_at_most_eighty_lines_with_a_title_and_steps() -> None:
    assert len(SCRIPTS) >= 12
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        about = (ast.get_docstring(ast.parse(text)) or "").splitlines()
        assert text.count("\n") <= 80, script.name
        assert set(about[1]) == {"="}, script.name
        assert len(about[1]) >= len(about[0]), script.name
        assert text.count("# %%") >= 2, script.name


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs(script: Path) -> None:
    """It runs as a user would run it, without Sphinx, in at most five minutes of processor time."""
    env = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, script.name], cwd=GALLERY, env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - begin < 600
