"""numba, told where it may keep compiled code: kernels import `njit` from here, so that none is compiled twice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def _find_cache() -> None:
    """Let numba keep compiled code where it may write, where neither this folder nor home will do."""
    if not any(os.access(folder, os.W_OK) for folder in (Path(__file__).parent, Path.home())):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / "brainmap-numba"))


_find_cache()  # numba reads the variable when it is imported

from numba import njit  # noqa: E402

__all__ = ["njit"]
