"""Limit the threads that libraries start, where the caller's own threads use all cores."""

from __future__ import annotations

from typing import Any


def limit_blas() -> Any:
    """Limit BLAS to one thread in a `with` block, since the threads of the caller already use all cores."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

    return threadpool_limits(1, user_api="blas")
