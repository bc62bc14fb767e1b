"""Limit the threads that libraries start, where the caller's own threads use all cores."""

from __future__ import annotations

import sys
from contextlib import ContextDecorator, ExitStack
from threading import Lock
from typing import Any


class _Limited(ContextDecorator):
    """Count the blocks in which BLAS is limited, of all threads of this process."""

    def __init__(self) -> None:
        self.lock, self.depth, self.n_modules, self.stack = Lock(), 0, 0, ExitStack()
        self.libraries: Any = None

    def __enter__(self) -> None:
        """Limit the libraries that are loaded; within another block only those that were loaded since."""
        with self.lock:
            loaded = self.n_modules != len(sys.modules)
            if loaded:  # a look at all libraries takes milliseconds
                from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped, unused-ignore]

                self.libraries = ThreadpoolController()
                self.n_modules = len(sys.modules)
            if loaded or not self.depth:
                self.stack.enter_context(self.libraries.limit(limits=1, user_api="blas"))
            self.depth += 1

    def __exit__(self, *_: object) -> None:
        """Restore all libraries when the last block ends."""
        with self.lock:
            self.depth -= 1
            if not self.depth:
                self.stack.close()


_LIMITED = _Limited()


def limit_blas() -> _Limited:
    """Limit BLAS to one thread in a `with` block, or in a function, since the caller's threads already use all cores.

    BLAS belongs to the whole process. Blocks of several threads may overlap; the last one that ends restores it.
    """
    return _LIMITED
