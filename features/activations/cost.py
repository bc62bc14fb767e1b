"""Say what an extraction costs before it starts: windows, layers, bytes and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.progress import log


def say_cost(
    hear: Callable[[], Mapping[str, NDArray[Any]]], about: Mapping[str, Any], *, done: int, threads: int
) -> None:
    """Log how many windows are left, and how long they take and how much they hold, as measured with one batch.

    Parameters
    ----------
    hear : callable
        Runs one batch, and returns the activations `(n_batch, ...)` of each layer.
    about : mapping
        `items`, all windows, and `dtype`, the type on disk.
    done : int
        Windows that an earlier run has written.
    threads : int
        Batches that run side by side.
    """
    hear()  # the first batch also starts threads and fills caches
    began = time.monotonic()
    rows = hear()
    each = (time.monotonic() - began) / len(next(iter(rows.values())))
    n_items = len(about["items"])
    left = n_items - done
    size = n_items * sum(int(np.prod(one.shape[1:])) for one in rows.values()) * np.dtype(about["dtype"]).itemsize
    log.info(
        "activations: %s%d windows in %d layers, %s at most on disk, about %s",
        f"{done} of {n_items} windows are there from an earlier run; now " if done else "",
        left,
        len(rows),
        format_bytes(size),
        format_seconds(each * left / threads),
    )


def format_bytes(n: float) -> str:
    """Write a number of bytes in two digits.

    Examples
    --------
    >>> format_bytes(27_400_000), format_bytes(3_100)
    ('27 MB', '3.1 kB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.2g} {unit}" if n < 99.5 else f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.2g} TB"


def format_seconds(seconds: float) -> str:
    """Write a time in the unit that a reader would take.

    Examples
    --------
    >>> format_seconds(42.4), format_seconds(250), format_seconds(9000)
    ('42 s', '4 min', '2.5 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
