"""Read and prepare patterns in blocks of units, so that arrays on disk are never loaded as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.types import Floats

SLAB_BYTES = 256 << 20
"""Upper limit of what is read from an array on disk at once, in addition to the memory for decoding."""
DECODED_BYTES = 64 << 20
"""Upper limit of what is decoded at once from an array stored in chunks, unless one chunk is larger."""
BLOCK_BYTES = 32 << 20
"""Size of the block that is processed at once."""


class Blocks:
    """Iterate over patterns `(n_items, n_units)` in blocks of units, averaged over tokens and optionally z-scored.

    Iteration yields `(block, sums)`: a float64 array `(n_items, k)`, which must not be modified, and its row sums.

    Parameters
    ----------
    array : array-like (n_observations, ...)
        An array in memory, or on disk anything with `shape` and `dtype` that is read when sliced (a zarr array, a
        memmap). All axes but the first are units.
    what : str
        The name of the array in messages.
    average : callable
        A function that maps observations `(n_observations, k)` to items `(n_items, k)`.
    zscore : bool
        Whether each unit is z-scored over the items; `dropped` then counts the units that are constant.

    Raises
    ------
    InputError
        The array has no units, no numbers or infinite values; or, once all blocks are read, a pattern is NaN in some
        units only.
    """

    def __init__(self, array: Any, what: str, *, average: Callable[[Floats], Floats], zscore: bool = False) -> None:
        self.array, self.what, self.average, self.zscore = check_numeric(array, what), what, average, zscore
        self.shape = (self.array.shape[0], math.prod(self.array.shape[1:]))
        self.dropped = 0

    def __iter__(self) -> Iterator[tuple[Floats, Floats]]:
        n, n_units = self.shape
        width = max(64, BLOCK_BYTES // (8 * max(n, 1)))
        holes: NDArray[np.int64] = np.zeros(n, np.int64)
        self.dropped = 0
        for slab in yield_slabs(self.array, self.what):
            for start in range(0, slab.shape[1], width):
                raw = np.asarray(slab[:, start : start + width], dtype=np.float64)
                sums = self._sum_rows(raw, holes)
                ready = self.average(raw)
                if self.zscore:
                    ready, constant = zscore_units(ready)
                    self.dropped += constant
                yield ready, sums if ready is raw else _sum_units(ready)
                del raw, ready
            del slab  # free the memory before the next slab is read
        torn = int(((holes > 0) & (holes < n_units)).sum())
        if torn:
            raise InputError(
                f"compute_rdms: {torn} patterns of {self.what} are NaN in some units only; leave those units out (a "
                "missing pattern is NaN in all units)"
            )
        if self.dropped == n_units:
            raise InputError(f"compute_rdms: all {n_units} units of {self.what} are constant over items")

    def whole(self) -> Floats:
        """Return all units at once."""
        return np.concatenate([block for block, _ in self], axis=1)

    def _sum_rows(self, raw: Floats, holes: NDArray[np.int64]) -> Floats:
        sums = _sum_units(raw)
        odd = np.flatnonzero(~np.isfinite(sums))
        if len(odd):
            if np.isinf(raw[odd]).any():
                raise InputError(f"compute_rdms: {self.what} holds infinite values; find where they come from")
            holes[odd] += np.isnan(raw[odd]).sum(axis=1)
        return sums


def check_numeric(array: Any, what: str, who: str = "compute_rdms") -> Any:
    """Check that an array, in memory or read when sliced, is `(n_items, ...)` with at least one unit, and return it.

    Raises
    ------
    InputError
        The array has another shape, or does not hold real numbers.
    """
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        array = np.asarray(array)
    shape = tuple(array.shape)
    if not shape or math.prod(shape[1:]) == 0:
        raise InputError(f"{who}: expected shape (n_items, n_units) of {what}, got {shape}")
    if np.dtype(array.dtype).kind not in "fiub":
        raise InputError(f"{who}: expected real numbers in {what}, got {array.dtype}")
    return array


def yield_slabs(array: Any, what: str) -> Iterator[NDArray[Any]]:
    """Yield the units of an array `(n_items, ...)` in parts `(n_items, k)`; all at once if it is in memory."""
    n, shape = array.shape[0], tuple(array.shape[1:])
    if type(array) is np.ndarray:
        yield array.reshape(n, -1)
        return
    parts = list(_yield_parts(shape, max(1, SLAB_BYTES // (max(n, 1) * np.dtype(array.dtype).itemsize))))
    if len(parts) == 1:
        yield _read_units(array, parts[0]).reshape(n, -1)
        return
    with progress(f"reading {what}", total=len(parts)) as step:
        for part in parts:
            yield _read_units(array, part).reshape(n, -1)
            step.advance()


def count_rows_at_once(array: Any, most_bytes: int) -> int:
    """Return how many items to read at once, so that whole chunks of about `most_bytes` are decoded."""
    row_bytes = max(1, math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize)
    chunks = getattr(array, "chunks", None)
    chunk = max(1, int(chunks[0])) if chunks else 1
    return int(max(1, most_bytes // row_bytes // chunk) * chunk)


def zscore_units(x: Floats) -> tuple[Floats, int]:
    """Z-score each unit over items (population SD) within each run; drop and count units that are constant in any run.

    Shapes are `(n_items, n_units)` or `(n_runs, n_items, n_units)`. Rows of NaN are missing and stay NaN.
    """
    present = ~np.isnan(x[..., :1])
    filled = x if present.all() else np.where(present, x, 0.0)
    n = np.maximum(present.sum(axis=-2, keepdims=True), 1)
    centered = filled - filled.sum(axis=-2, keepdims=True) / n
    if filled is not x:
        centered[~present[..., 0]] = 0.0
    sd = np.sqrt(np.einsum("...iu,...iu->...u", centered, centered)[..., None, :] / n)
    size = np.maximum(filled.max(axis=-2, keepdims=True), -filled.min(axis=-2, keepdims=True))
    varies = (sd > 1e-13 * size).reshape(-1, x.shape[-1]).all(axis=0)
    if not varies.all():
        centered, sd = centered[..., varies], sd[..., varies]
    centered /= sd
    if filled is not x:
        centered[~present[..., 0]] = np.nan
    return centered, int((~varies).sum())


def _yield_parts(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Yield slices of the axes of units, each with at most `most` units where that is possible.

    >>> [part for part in _yield_parts((2, 5), 3)][0]
    (slice(0, 1, None), slice(0, 3, None))
    """
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    step = max(1, most // inner)
    for start in range(0, shape[0], step):
        here = slice(start, min(start + step, shape[0]))
        for rest in _yield_parts(shape[1:], most) if inner > most else [tuple(slice(0, k) for k in shape[1:])]:
            yield here, *rest


def _read_units(array: Any, part: tuple[slice, ...]) -> NDArray[Any]:
    """Read a part of the units for all items, a few chunks at a time, since stores decode whole chunks."""
    n = array.shape[0]
    out = np.empty((n, *(s.stop - s.start for s in part)), array.dtype)
    rows = count_rows_at_once(array, DECODED_BYTES)
    for start in range(0, n, rows):
        out[start : start + rows] = array[(slice(start, min(start + rows, n)), *part)]
    return out


def _sum_units(x: Floats) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):  # the caller looks for NaN and infinity in the sums
        return np.asarray(x @ np.ones(x.shape[1]))
