"""numba, told where it may keep compiled code: kernels import `njit` from here, so that none is compiled twice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def _find_cache() -> None:
    """Let numba keep compiled code where it may write, where neither this folder nor home will do.

    What lies there is run: the folder is this user's own.
    """
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(p, os.W_OK) for p in (Path(__file__).parent, Path.home())):
        return
    own = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"brainmap-numba-{own}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != own:
        folder = Path(tempfile.mkdtemp(prefix="brainmap-numba-"))
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


_find_cache()  # numba reads the variable when it is imported

from numba import njit  # noqa: E402

__all__ = ["njit"]
