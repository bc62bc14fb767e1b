"""Compile kernels with numba's `njit`, with a cache that never runs code of an older version of the files.

numba checks the file of a kernel to decide whether compiled code is valid, but not the files of the kernels that it
calls. The cache is therefore in a folder named by a digest of all files with kernels.

A kernel with `fastmath` that other kernels call has `forceinline=True` too. Otherwise each caller holds a copy of its
own, with sums in another order, and the process that compiles the callers runs a different copy from those that read
the cache.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit as numba_njit

from brainmap.caches import find_user_cache, open_versioned_folder, yield_files

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
    digest, package = hashlib.sha256(), Path(__file__).parent
    for path in yield_files(package, (".py",)):
        content = path.read_bytes()
        if b"import njit" in content or path == Path(__file__):
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
