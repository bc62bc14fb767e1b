"""Examples of the gallery are short, and run as they stand."""

from __future__ import annotations

import ast
import os
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brainmap import rsa

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "docs" / "gallery"
DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", ROOT.parent / "shared" / "data"))
SCRIPTS = sorted(GALLERY.glob("plot_*.py"))
NIGHTLY = {  # examples of one to five minutes of processor time, and what takes it
    "plot_01_demo_page": "a whole study",
    "plot_13_region_to_sound": "three networks on 192 words, permutations that fit again, and two ascents",
}


def mark(script: Path) -> list[pytest.MarkDecorator]:
    """Examples of the nightly list run every night (`make test-nightly`), the others in .ci/run."""
    return [pytest.mark.slow, *([pytest.mark.nightly] if script.stem in NIGHTLY else [])]


def test_there_are_twelve_examples_of_at_most_eighty_lines_with_a_title_and_steps() -> None:
    assert len(SCRIPTS) >= 12
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        about = (ast.get_docstring(ast.parse(text)) or "").splitlines()
        assert text.count("\n") <= 80, script.name
        assert set(about[1]) == {"="}, script.name
        assert len(about[1]) >= len(about[0]), script.name
        assert text.count("# %%") >= 2, script.name


def count_seconds() -> float:
    """Seconds of processor time of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("script", [pytest.param(s, marks=mark(s), id=s.stem) for s in SCRIPTS])
def test_an_example_runs(script: Path) -> None:
    """It runs as a user would run it, without Sphinx: about a minute, or five on the nightly list.

    Processors that others use take up to twice the seconds of an idle one, of the processor's own time, too.
    """
    env = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = count_seconds()
    done = subprocess.run(
        [sys.executable, script.name], cwd=GALLERY, env=env, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert count_seconds() - before < 2 * (300 if script.stem in NIGHTLY else 60)


def test_the_nightly_list_names_examples() -> None:
    assert set(NIGHTLY) <= {script.stem for script in SCRIPTS}


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "haxby").is_dir(), reason=f"needs the data of Haxby et al. at {DATA / 'haxby'}")
def test_the_committed_result_of_haxby_is_what_the_data_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINMAP_TEST_DATA", str(DATA))
    found = runpy.run_path(str(GALLERY / "plot_03_haxby.py"))
    committed = rsa.read_model_rdms(GALLERY / "haxby_rdm.tsv", layout="square")
    np.testing.assert_allclose(committed.dissimilarities, found["rdms"].dissimilarities, atol=1e-4)
    assert found["identified"] == pytest.approx(0.982, abs=5e-4)
