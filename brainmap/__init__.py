"""Relate audio networks to the brain, from sounds and a checkpoint to RSA maps and a page of results.

    from brainmap import features, rsa, viz

Importing brainmap loads neither torch nor nilearn; a room loads what it needs at its first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "features", "rsa", "viz"]


def __getattr__(name: str) -> Any:
    if name in ("features", "rsa", "viz"):
        return importlib.import_module(f"brainmap.{name}")
    raise AttributeError(f"module 'brainmap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
