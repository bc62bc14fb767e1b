"""Kernels are compiled once a machine: a later process reads them from disk, wherever the first one may write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from brainmap.compiled import njit

ROOT = Path(__file__).parents[2]

CHILD = """
import gc, sys
sys.path.insert(0, "benchmarks")
from first_call import CALLS
make, how = CALLS[sys.argv[1]]
make(**how)()
from numba.core.dispatcher import Dispatcher
ours = [d for d in gc.get_objects() if isinstance(d, Dispatcher) and d.__module__.startswith("brainmap.")]
print(*(f"{d.__name__}:{sum(d.stats.cache_hits.values())}:{sum(d.stats.cache_misses.values())}" for d in ours))
"""


def in_a_process(name: str, cache: Path) -> tuple[int, int]:
    """Kernels that were read from the cache, and compiled."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    said = subprocess.run(
        [sys.executable, "-c", CHILD, name], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    counts = [(int(hits), int(misses)) for hits, misses in re.findall(r":(\d+):(\d+)", said)]
    return sum(hits for hits, _ in counts), sum(misses for _, misses in counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["searchlight", "searchlight noise per sphere", "compare tau-a", "bootstrap spearman", "group tfce", "discs exact"],
)
def test_a_second_process_compiles_nothing(name: str, tmp_path: Path) -> None:
    hits, misses = in_a_process(name, tmp_path)
    assert hits == 0
    assert misses > 0
    hits, misses = in_a_process(name, tmp_path)
    assert hits > 0
    assert misses == 0


def test_numba_is_told_where_it_may_write_before_it_is_imported() -> None:
    """Every kernel takes `njit` from the module that says so."""
    found = [
        str(file.relative_to(ROOT))
        for folder in ("brainmap", "features", "rsa", "viz")
        for file in (ROOT / folder).glob("*.py")
        if re.search(r"^\s*(from numba import|import numba\b)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]
    assert found == ["brainmap/compiled.py"]
    assert njit(cache=True) is not None
