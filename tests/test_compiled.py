"""Compiled kernels are never older than the kernels that they call, and have the same bits from the cache."""

from __future__ import annotations

import ast
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


def list_kernels(path: Path) -> list[ast.FunctionDef]:
    """The functions of a module that have a decorator `njit(...)`."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and any("njit(" in ast.unparse(one) for one in node.decorator_list)
    ]


def test_kernels_whose_sums_may_be_reordered_are_part_of_the_kernels_that_call_them() -> None:
    package = Path(brainmap.compiled.__file__).parent
    kernels = [one for path in brainmap.caches.yield_files(package, (".py",)) for one in list_kernels(path)]
    called = {
        node.func.id
        for one in kernels
        for node in ast.walk(one)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    loose = {one.name: ast.unparse(one.decorator_list[0]) for one in kernels if one.name in called}
    loose = {name: text for name, text in loose.items() if "fastmath" in text}
    assert len(loose) >= 15, "expected the kernels of the searchlight"
    assert [name for name, text in loose.items() if "forceinline=True" not in text] == []


CEILINGS = """
import numpy as np
from brainmap.rsa.searchlights.ceiling_kernels import compute_ceilings
from brainmap.rsa.searchlights.kernels import NORM
rdms, pairs = np.random.default_rng(0).random((5, 200, 36)), np.stack(np.triu_indices(9, 1), 1).astype(np.int32)
lower, upper = np.full((2, 200), np.nan)
compute_ceilings(rdms, pairs, NORM["pearson"], lower, upper)
print(lower.tobytes().hex(), upper.tobytes().hex(), sum(compute_ceilings.stats.cache_hits.values()))
"""


@pytest.mark.slow
@pytest.mark.bits
def test_a_kernel_computes_the_same_bits_when_it_is_compiled_and_when_it_is_read_from_the_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", CEILINGS], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    compiled, cached = (one.stdout.split() for one in said)
    assert (compiled[2], cached[2]) == ("0", "1")
    assert compiled[:2] == cached[:2]
