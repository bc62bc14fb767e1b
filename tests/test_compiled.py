"""Compiled kernels are never older than the kernels that they call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import brainmap.caches
import brainmap.compiled

CALLEE = "from brainmap.compiled import njit\n\n@njit(cache=True)\ndef inner(x):\n    return x + {}\n"
CALLER = """from brainmap.callee import inner
from brainmap.compiled import njit

@njit(cache=True)
def outer(x):
    return 10 * inner(x)
"""


def answer(folder: Path) -> tuple[str, int]:
    """What the kernel of a copied package says in a fresh process, and how often it was read from the cache."""
    code = "from brainmap.caller import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, hits = done.stdout.split()
    return number, int(hits)


@pytest.mark.slow
def test_a_kernel_whose_callee_changed_in_another_file_is_compiled_again(tmp_path: Path) -> None:
    package = tmp_path / "brainmap"
    package.mkdir()
    (package / "__init__.py").touch()
    for module in (brainmap.compiled, brainmap.caches):
        shutil.copy(str(module.__file__), package)
    (package / "caller.py").write_text(CALLER)
    (package / "callee.py").write_text(CALLEE.format(1))
    assert answer(tmp_path) == ("20", 0)
    assert answer(tmp_path) == ("20", 1)
    (package / "callee.py").write_text(CALLEE.format(2))
    assert answer(tmp_path) == ("30", 0)
