"""Make the rows of voxels whose products neighborhoods sum, each once, and keep only those that are in use.

Centers that are scored one after the other share most of their voxels, in this thread and in the others. The rows of
all voxels lie at fixed places of one range of addresses. A block of them gets memory when it is first needed, and gives
it back when no group of neighborhoods that is under way needs it any more.
"""

from __future__ import annotations

import mmap
import sys
import threading
import weakref
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

MOST_KEPT = 2**25  # bytes of rows of which nothing is given back: 32 MB
_BLOCK = 1024  # number of voxels whose rows are made at a time
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE: addresses may be more than the memory there is
_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
_GIVE_BACK: int = getattr(mmap, "MADV_DONTNEED", -1)  # -1 where the system does not give memory back


class Rows:
    """Hold the rows of all voxels, made when they are needed.

    Parameters
    ----------
    make : callable
        Makes the rows `(n, n_rows, n_items)` of voxels `(n,)`.
    n_voxels : int
    shape : (n_rows, n_items)
    """

    def __init__(self, make: Callable[[NDArray[np.intp]], Floats], n_voxels: int, shape: tuple[int, int]) -> None:
        self.make, self.lock = make, threading.RLock()  # a range may be released while another is taken
        n_bytes = n_voxels * shape[0] * shape[1] * 8
        self.memory = _map_memory(n_bytes) if n_bytes > MOST_KEPT else None
        whole = np.empty(n_bytes // 8) if self.memory is None else np.frombuffer(self.memory)
        self.rows = whole[: n_bytes // 8].reshape(n_voxels, *shape)
        self.power = np.zeros(n_voxels)
        n_blocks = -(-n_voxels // _BLOCK)
        self.made = np.zeros(n_blocks, dtype=bool)
        self.users = np.zeros(n_blocks, dtype=np.int64)

    def take(self, first: int, last: int) -> tuple[Floats, Floats]:
        """Return the rows of the voxels first .. last - 1 and their sums of squares; they stay while they are used."""
        start, stop = first // _BLOCK, -(-last // _BLOCK)
        with self.lock:
            self.users[start:stop] += 1
            self._give_back()
            for block in range(start, stop):
                if not self.made[block]:
                    part = slice(block * _BLOCK, min((block + 1) * _BLOCK, len(self.rows)))
                    self.rows[part] = self.make(np.arange(part.start, part.stop))
                    np.einsum("vri,vri->v", self.rows[part], self.rows[part], out=self.power[part])
                    self.made[block] = True
        rows = self.rows[first:last]
        weakref.finalize(rows, self._release, start, stop).atexit = False
        return rows, self.power[first:last]

    def take_some(self, voxels: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return a copy of the rows of a few voxels in increasing order, and their sums of squares."""
        if self.memory is None:
            first = int(voxels[0])
            rows, power = self.take(first, int(voxels[-1]) + 1)
            return rows[voxels - first], power[voxels - first]
        rows = self.make(voxels)
        return rows, np.einsum("vri,vri->v", rows, rows)

    def _release(self, start: int, stop: int) -> None:
        with self.lock:
            self.users[start:stop] -= 1

    def _give_back(self) -> None:
        """Give back the memory of blocks that nobody uses; what comes next uses most of those before it."""
        if self.memory is None:
            return
        left = np.flatnonzero(self.made & (self.users == 0))
        for run in np.split(left, np.flatnonzero(np.diff(left) != 1) + 1) if len(left) else ():
            width = self.rows.strides[0] * _BLOCK  # a multiple of 8 kB, so that no page holds parts of two blocks
            start, stop = int(run[0]) * width, min((int(run[-1]) + 1) * width, self.rows.nbytes)
            self.memory.madvise(_GIVE_BACK, start, stop - start)
            self.made[run] = False


def rows_of_runs(x: Floats) -> Floats:
    """Return rows of each voxel whose products sum to those of different runs, `(n_voxels, n_runs, n_items)`.

    With orthonormal contrasts c_k over the n runs, the first the sum of the runs divided by sqrt(n), the sum over runs
    m != l of x_m x_l' is (n - 1) c_0 c_0' minus the sum over k >= 1 of c_k c_k'. The first row is sqrt(n - 1) c_0.

    Examples
    --------
    >>> x = np.array([[[1.0, 2.0], [3.0, 5.0]]])
    >>> rows = rows_of_runs(x)[0]
    >>> (np.outer(rows[0], rows[0]) - np.outer(rows[1], rows[1])).round(9).tolist()
    [[6.0, 11.0], [11.0, 20.0]]
    """
    n = x.shape[1]
    contrasts = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0].T
    contrasts[0] = np.sqrt((n - 1) / n)
    return np.asarray(np.matmul(contrasts, x))


def rows_of_weights(x: Floats, weights: Floats) -> Floats:
    """Return rows of each voxel whose products sum to the weighted ones of different runs.

    With s the sum of the runs and u the sum of w_m x_m, the symmetric part of the sum over m of w_m x_m (s - x_m)' is
    (u s' + s u') / 2 minus the sum of w_m x_m x_m', and (u s' + s u') / 2 = a a' - b b' for a, b = (u / f + f s) / 2,
    (u / f - f s) / 2 with any factor f. The root of the mean weight gives both terms the same size.

    Parameters
    ----------
    x : ndarray (n_voxels, n_runs, n_items)
    weights : ndarray (n_voxels, n_runs)

    Returns
    -------
    ndarray (n_voxels, n_runs + 2, n_items)
        The first row has a positive product, all others a negative one.
    """
    f = np.sqrt(weights.mean(axis=1))[:, None]
    total, weighted = f * x.sum(axis=1), np.matmul(weights[:, None], x)[:, 0] / f
    rows = np.empty((len(x), x.shape[1] + 2, x.shape[2]))
    rows[:, 0], rows[:, 1] = (weighted + total) / 2.0, (weighted - total) / 2.0
    np.multiply(x, np.sqrt(weights)[:, :, None], out=rows[:, 2:])
    return rows


def _map_memory(n_bytes: int) -> mmap.mmap | None:
    """Map addresses that get memory when they are written to; None where the system does not give it back."""
    if _GIVE_BACK < 0 or not _PRIVATE:
        return None
    try:
        return mmap.mmap(-1, n_bytes, flags=_PRIVATE | _NO_RESERVE)
    except OSError:  # an address space that is limited
        return None
