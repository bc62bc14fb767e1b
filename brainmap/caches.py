"""Find the user's cache, where brainmap keeps what it can compute again: compiled kernels, and answers on networks."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_UNUSED_DAYS = 30.0  # after this time, what was kept for other versions is removed


def yield_files(package: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of a package with some endings, always in the same order, also of folders that are linked."""
    for folder, inner, names in os.walk(package, followlinks=True):
        inner.sort()
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(endings))


def find_user_cache(kind: str) -> Path:
    """Find a folder for what is kept of a kind: in the user's cache, or else a temporary folder.

    What it holds is believed, and kernels are executed, so a temporary folder must belong to this user.

    Parameters
    ----------
    kind : str
        "kernels" or "answers".
    """
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brainmap" / kind
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            return base
    own = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"brainmap-{kind}-{own}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != own):
        folder = Path(tempfile.mkdtemp(prefix=f"brainmap-{kind}-"))
    return folder


def open_versioned_folder(base: Path, version: str) -> Path:
    """Create the folder of a version in a cache, and remove those of other versions that are unused for a month."""
    folder = base / version
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    with contextlib.suppress(OSError):
        os.utime(folder)
        for other in base.iterdir():
            if other != folder and now - other.stat().st_mtime > _UNUSED_DAYS * 86_400:
                shutil.rmtree(other, ignore_errors=True)
    return folder
