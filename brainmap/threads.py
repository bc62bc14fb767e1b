"""Limit the threads that libraries start, where the caller's own threads use all cores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock


class _Limited:
    """Count the blocks in which BLAS is limited, of all threads of this process."""

    def __init__(self) -> None:
        self.lock, self.depth, self.n_modules, self.stack = Lock(), 0, 0, ExitStack()

    def enter(self) -> None:
        """Limit the libraries that are loaded; within another block only those that were loaded since."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

        with self.lock:
            if not self.depth or self.n_modules != len(sys.modules):  # a look at all libraries takes milliseconds
                self.stack.enter_context(threadpool_limits(1, user_api="blas"))
                self.n_modules = len(sys.modules)
            self.depth += 1

    def leave(self) -> None:
        """Restore all libraries when the last block ends."""
        with self.lock:
            self.depth -= 1
            if not self.depth:
                self.stack.close()


_LIMITED = _Limited()


@contextmanager
def limit_blas() -> Iterator[None]:
    """Limit BLAS to one thread in a `with` block, since the threads of the caller already use all cores.

    BLAS belongs to the whole process. Blocks of several threads may overlap; the last one that ends restores it.
    """
    _LIMITED.enter()
    try:
        yield
    finally:
        _LIMITED.leave()
