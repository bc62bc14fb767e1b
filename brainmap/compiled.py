"""Compile kernels with numba's `njit`, with a cache that never runs code of an older version of the files.

numba checks the file of a kernel to decide whether compiled code is valid, but not the files of the kernels that it
calls. The cache is therefore in a folder named by a digest of all files with kernels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba import config, njit as numba_njit

__all__ = ["njit"]

_SETTINGS: Any = config  # numba sets its variables by name, which type checkers cannot see

_UNUSED_DAYS = 30.0  # after this time, compiled code of other versions is removed


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
    """Create the folder for the present kernels, and remove folders of other versions that are unused for a month."""
    base = _writable_base()
    folder = base / _digest_kernels()
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    with contextlib.suppress(OSError):
        os.utime(folder)
        for other in base.iterdir():
            if other != folder and now - other.stat().st_mtime > _UNUSED_DAYS * 86_400:
                shutil.rmtree(other, ignore_errors=True)
    return folder


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


def _writable_base() -> Path:
    """Find a folder for compiled code: `NUMBA_CACHE_DIR`, the user's cache, or a temporary folder.

    Its contents are executed, so a temporary folder must belong to this user.
    """
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen) / "brainmap"
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brainmap" / "kernels"
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            return base
    own = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"brainmap-kernels-{own}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != own):
        folder = Path(tempfile.mkdtemp(prefix="brainmap-kernels-"))
    return folder
