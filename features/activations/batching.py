"""Choose how many sounds a batch holds, and say what an extraction costs before it starts.

Choose how many sounds a batch holds, from the sizes of a network's activations.

Say what an extraction costs before it starts: windows, layers, bytes and time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.features.layers.layer import Layer
from brainmap.progress import log
from brainmap.resources import format_bytes, format_seconds, require_memory
from brainmap.types import Pooling


def check_memory(layers: Sequence[Layer], about: Mapping[str, Any], pooling: Pooling) -> None:
    """Refuse activations of all items that are kept in memory where there is none for them.

    Parameters
    ----------
    layers : sequence of Layer
    about : mapping
        `items`, and `dtype` of what is kept; `reduction`, where dimensions are reduced.
    pooling : str

    Raises
    ------
    InputError
        Less memory is available.
    """
    if "reduction" in about:
        return
    n = sum(math.prod(layer.shape if pooling in ("none", "flatten") else layer.shape[:1]) for layer in layers)
    kept = ", with time kept" if pooling in ("none", "flatten") else ""
    require_memory(
        float(len(about["items"])) * n * np.dtype(about["dtype"]).itemsize,
        what=f"activations: {len(about['items']):,} items in {len(layers)} layers{kept}",
        do="give a store on disk (store=), pool over time (pooling='mean'), or name fewer layers",
    )


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


"""Above 32 MiB, glibc maps memory anew for every tensor and gives it back, which takes longer than many layers."""
