"""Compile kernels with numba's `njit`, with a cache that never runs code of an older version of the files.

numba checks the file of a kernel to decide whether compiled code is valid, but not the files of the kernels that it
calls. The cache is therefore in a folder named by a digest of all files with kernels.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba import config, njit as numba_njit

from brainmap.caches import find_user_cache, open_versioned_folder

__all__ = ["njit"]

_SETTINGS: Any = config  # numba sets its variables by name, which type checkers cannot see


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function with `numba.njit`; with `cache=True` its code is cached for these versions of all kernels.

    Parameters
    ----------
    **options
        Options of `numba.njit`.

    Returns
    -------
    callable
        A decorator; it is typed as loosely as numba's own, since kernels carry no annotations.
    """

    def compile_kernel(function: Callable[..., Any]) -> Any:
        before = _SETTINGS.CACHE_DIR
        _SETTINGS.CACHE_DIR = str(_cache_folder())  # numba reads it when it decorates a function
        try:
            return numba_njit(**options)(function)
        finally:
            _SETTINGS.CACHE_DIR = before

    return compile_kernel


@functools.cache
def _cache_folder() -> Path:
    """Create the folder for the present kernels."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(chosen) / "brainmap" if chosen else find_user_cache("kernels")
    return open_versioned_folder(base, _digest_kernels())


def _digest_kernels() -> str:
    """Compute a digest of the names and contents of all modules of the package that import `njit`."""
    digest = hashlib.sha256()
    for name, content in _kernel_files(Path(__file__).parent):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _kernel_files(package: Path) -> Iterator[tuple[str, bytes]]:
    for folder, inner, files in os.walk(package, followlinks=True):
        inner.sort()
        for file in sorted(name for name in files if name.endswith(".py")):
            content = (path := Path(folder, file)).read_bytes()
            if b"import njit" in content or path == Path(__file__):
                yield path.relative_to(package).as_posix(), content
