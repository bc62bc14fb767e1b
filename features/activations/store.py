"""Store arrays of features as one zarr v3 array per layer, so that an interrupted run never looks complete.

An array lies under `<kind>/<layer>/<key>`, is NaN where nothing was written yet, and gets its `complete` attribute
last. Its key is a hash of the content, so that a changed input leads to another array. Later damage is noticed (see
`brainmap.features.activations.sealed`). The name of a layer is escaped by `brainmap.names.file_name`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError, RunError
from brainmap.features.activations.sealed import (
    StoredArray,
    check_array,
    check_group,
    find_folder,
    group_attributes,
    is_array,
    make_compressors,
    refuse,
    seal,
    seal_group,
)
from brainmap.names import file_name
from brainmap.places import room_for
from brainmap.progress import log
from brainmap.record import PARTIAL, clear_unfinished, content_key

if TYPE_CHECKING:
    import zarr
    from torch import nn
    from zarr import Group as Group

    from brainmap.features.sounds.batches import Sounds

_CHUNK_BYTES = 1 << 20
RESUMED_ROWS = 256  # rows of a chunk of windows, so that a run that is killed loses little


def hash_weights(model: nn.Module) -> str:
    """Hash all parameters, buffers and settings of the modules (ELU and ReLU have the same weights)."""
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__} {model!r}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def hash_sounds(sounds: Sounds, *, batch_size: int = 32) -> str:
    """Hash the waveforms themselves; their names and batching do not matter.

    Examples
    --------
    >>> x = np.ones((3, 1, 8), np.float32)
    >>> hash_sounds(x, batch_size=1) == hash_sounds(x) != hash_sounds(2 * x)
    True
    """
    from brainmap.features.sounds.batches import iterate_tensors  # imports torch

    known = getattr(sounds, "digest", None)  # `Sounds` caches its own digest
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for number, batch in enumerate(iterate_tensors(sounds, batch_size)):
        if number == 0:
            digest.update(str(tuple(batch.shape[1:])).encode())
        digest.update(np.ascontiguousarray(batch.numpy()).tobytes())
    return digest.hexdigest()


def open_store(path: str | Path | None, *, create: bool = True) -> zarr.Group:
    """Open or create a store; without a path it lies in memory.

    Raises
    ------
    InputError
        The path is a file, holds something else or is damaged, or does not exist and must not be created.
    """
    import zarr

    if path is None:
        return zarr.create_group(store=zarr.storage.MemoryStore(), zarr_format=3)
    path = Path(path)
    if path.is_file():
        raise InputError(f"store: expected a folder for zarr arrays, got the file {path}; give another name")
    if create and path.is_dir():
        clear_unfinished(path)
    # a process that was killed while it created the store leaves a partial file and no metadata
    held = path.is_dir() and any(PARTIAL.fullmatch(file.name) is None for file in path.iterdir())
    if held and not (path / "zarr.json").is_file():
        raise InputError(f"store: the folder {path} holds something else than zarr arrays; give another name")
    if not create and not (path / "zarr.json").is_file():
        raise InputError(f"store: no zarr arrays at {path}; extract them first")
    if (path / "zarr.json").is_file():
        check_group(path)
    return zarr.open_group(path, mode="a" if create else "r", zarr_format=3, use_consolidated=False)


def find_array(root: zarr.Group, kind: str, layer: str, key: str) -> StoredArray | None:
    """Find the array with that key, if it was written completely.

    Raises
    ------
    InputError
        The array was written and has been damaged since.
    """
    path, folder = _join_path(kind, layer, key), find_folder(root)
    if folder is not None and not check_array(folder, path):
        return None
    array = root.get(path)
    if not is_array(array) or array.attrs.get("complete") is not True:
        return None
    return StoredArray(array, path if folder is None else str(folder / path))


def is_kept(root: zarr.Group, kind: str, layer: str, key: str) -> bool:
    """Tell whether the array with that key exists; a damaged one counts as missing, with a warning."""
    try:
        return find_array(root, kind, layer, key) is not None
    except InputError as error:
        log.warning("note: %s; it is computed again", str(error).partition("),")[0] + ")")
        return False


def find_start(root: zarr.Group, where: Sequence[tuple[str, str, str]], *, n_items: int, batch: int) -> int:
    """Return the row from which unfinished arrays `(kind, layer, key)` are continued; 0 where one has to begin.

    Rows before it lie in whole chunks, and it is the first one of a batch, so that the numbers are those of one run.
    """
    found, step = n_items - 1, batch
    for one in where:
        written, rows = _count_written(root, _join_path(*one), n_items)
        found, step = min(found, written), math.lcm(step, rows)
    return found // step * step


def _count_written(root: zarr.Group, path: str, n_items: int) -> tuple[int, int]:
    """Return the rows of an unfinished array that were written without a gap, and the rows of a chunk."""
    folder = find_folder(root)
    if folder is None or not (folder / path / "zarr.json").is_file():
        return 0, 1
    try:
        array = root[path]
    except (ValueError, KeyError, OSError):
        return 0, 1
    if not is_array(array) or array.shape[0] != n_items:
        return 0, 1
    rows, rest = array.chunks[0], "/0" * (array.ndim - 1)
    whole = 0
    while (whole + 1) * rows <= n_items and (folder / path / f"c/{whole}{rest}").is_file():
        whole += 1
    while whole and not _is_readable(array, (whole - 1) * rows, whole * rows):
        whole -= 1  # the last one may be cut short, which its checksum tells
    return whole * rows, rows


def _is_readable(array: zarr.Array[Any], start: int, stop: int) -> bool:
    try:
        array[start:stop]
    except (ValueError, RuntimeError, OSError):
        return False
    return True


def note(root: zarr.Group, kind: str, layer: str, key: str, attributes: Mapping[str, Any]) -> None:
    """Add attributes to a complete array, unless it has them already."""
    array, folder = root.get(_join_path(kind, layer, key)), find_folder(root)
    if not is_array(array) or all(array.attrs.get(k) == v for k, v in attributes.items()):
        return
    if folder is None:
        array.update_attributes(dict(attributes))
    else:
        seal(array, folder, attributes)


def _join_path(kind: str, layer: str, key: str) -> str:
    if re.fullmatch(r"[0-9A-Za-z]+", key) is None:
        refuse(f"{kind} of {layer}", f"its key is {key!r}")
    return f"{kind}/{file_name(layer)}/{key}"


def is_finite(values: NDArray[Any]) -> bool:
    """Tell whether all numbers are finite; a sum is quicker than a look at each of them, and may overflow.

    Examples
    --------
    >>> is_finite(np.array([3e38, 3e38], np.float32)), is_finite(np.array([1.0, np.inf, -np.inf]))
    (True, False)
    """
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


class ArrayWriter:
    """Write one array row by row, a whole chunk at a time, and mark it complete at the end.

    Parameters
    ----------
    root : zarr.Group
    where : (kind, layer, key)
        An array that lies there is replaced, whether complete or not.
    shape : (n_items, ...)
    dtype : str
    attributes : mapping
        JSON values: the ids of the items and the attributes that explain the numbers.
    dimensions : sequence of str, optional
        Names of the axes after the items, for programs that read zarr (xarray does).
    most_rows : int
        Largest number of rows of a chunk, a power of 2; 0 for as many as a chunk holds.
    start : int
        Rows that lie there from an unfinished run (`find_start`), after which this one continues.
    """

    def __init__(
        self,
        root: zarr.Group,
        where: tuple[str, str, str],
        *,
        shape: tuple[int, ...],
        dtype: str,
        attributes: Mapping[str, Any],
        dimensions: Sequence[str] = (),
        most_rows: int = 0,
        start: int = 0,
    ) -> None:
        row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        self._rows = max(1, min(shape[0], _CHUNK_BYTES // max(row_bytes, 1)))
        if most_rows:
            self._rows = min(most_rows, 1 << (self._rows.bit_length() - 1))
        self._folder, self._path = find_folder(root), _join_path(*where)
        self._buffer: NDArray[Any] | None = None  # many small arrays would scatter the heap, which then grows
        self._held, self._done = 0, start
        with self._count_room():
            kept = root[self._path] if start else None
            self.array: zarr.Array[Any] = (
                kept
                if is_array(kept)
                else root.create_array(
                    self._path,
                    shape=shape,
                    chunks=(self._rows, *shape[1:]),
                    dtype=dtype,
                    fill_value=np.nan,
                    dimension_names=("item", *_make_distinct(dimensions, len(shape) - 1)),
                    attributes=dict(attributes),
                    overwrite=True,
                    compressors=None if self._folder is None else make_compressors(),
                    config={"write_empty_chunks": True},  # so that a missing chunk always means that it was lost
                )
            )

    def write(self, rows: NDArray[Any]) -> None:
        """Take the next rows."""
        while len(rows):
            if not self._held and len(rows) >= self._rows:
                whole = len(rows) // self._rows * self._rows
                self._flush(rows[:whole])
                rows = rows[whole:]
                continue
            if self._buffer is None:
                self._buffer = np.empty((self._rows, *self.array.shape[1:]), self.array.dtype)
            taken = rows[: self._rows - self._held]
            self._buffer[self._held : self._held + len(taken)] = taken
            self._held += len(taken)
            rows = rows[len(taken) :]
            if self._held == self._rows:
                self._flush_buffer()

    def finish(self) -> zarr.Array[Any]:
        """Write what is left and mark the array complete.

        Raises
        ------
        RunError
            Fewer or more rows came than there are items.
        """
        self._flush_buffer()
        if self._done != self.array.shape[0]:
            wanted = self.array.shape[0]
            raise RunError(f"store: {self._done} rows came for {wanted} items; the sounds changed meanwhile")
        with self._count_room():
            if self._folder is None:
                self.array.update_attributes({"complete": True})
            else:
                seal(self.array, self._folder, {})
        return self.array

    def _flush_buffer(self) -> None:
        if self._buffer is not None:
            self._flush(self._buffer[: self._held])
        self._buffer, self._held = None, 0  # a store in memory may hold the buffer itself

    def _flush(self, rows: NDArray[Any]) -> None:
        with self._count_room():
            self.array[self._done : self._done + len(rows)] = rows
        self._done += len(rows)

    def _count_room(self) -> AbstractContextManager[None]:
        return nullcontext() if self._folder is None else room_for(self._path, self._folder)


def _make_distinct(names: Sequence[str], n: int) -> tuple[str, ...]:
    """Return n names of axes that differ from one another.

    Examples
    --------
    >>> _make_distinct(["unit", "token", "token"], 3), _make_distinct([], 1)
    (('unit', 'token_1', 'token_2'), ('axis_0',))
    """
    given = list(names) if len(names) == n else ["axis"] * n
    plain = [name if given.count(name) == 1 and name != "axis" else "" for name in given]
    return tuple(name or f"{given[k]}_{k}" for k, name in enumerate(plain))


def set_current(root: zarr.Group, kind: str, keys: Mapping[str, str], *, network: str) -> None:
    """Record which array of each layer is the latest, in the order of the layers, and the name of the network."""
    folder = find_folder(root)
    try:
        group_attributes(root, kind)
    except InputError:
        if folder is not None:
            (folder / kind / "zarr.json").unlink(missing_ok=True)  # it is created again
    current = [[layer, key] for layer, key in keys.items()]
    with nullcontext() if folder is None else room_for(kind, folder):
        seal_group(root.require_group(kind), {"current": current, "network": network})


def list_arrays(root: zarr.Group, kind: str) -> dict[str, str]:
    """List the layers that have a latest array of a kind, with its key.

    Raises
    ------
    InputError
        The list is damaged.
    """
    listed = group_attributes(root, kind).get("current", [])
    if not isinstance(listed, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in listed
    ):
        refuse(f"{kind} of {root.store_path}", "its list of arrays is none")
    return dict(listed)


def get_current_arrays(root: zarr.Group, kind: str) -> dict[str, StoredArray]:
    """Return the latest array of each layer.

    Raises
    ------
    InputError
        Nothing of this kind is stored, or it is unfinished or damaged.
    """
    listed = list_arrays(root, kind)
    if "current" not in group_attributes(root, kind):
        folder = find_folder(root)
        held = [] if folder is None else sorted(p.name for p in folder.iterdir() if p.is_dir())
        path = str(root.store_path).removeprefix("file://")
        raise InputError(f"store: {path} holds no finished {kind}; it holds {list_some(held) if held else 'nothing'}")
    arrays = {}
    for layer, key in listed.items():
        found = find_array(root, kind, layer, key)
        if found is None:
            raise InputError(f"store: {kind} of {layer} in {root.store_path} are incomplete; run them again")
        arrays[layer] = found
    return arrays


def keep_array(
    root: zarr.Group,
    where: tuple[str, str],
    values: NDArray[Any],
    attributes: Mapping[str, Any],
    *,
    network: str,
    dimensions: Sequence[str] = (),
) -> None:
    """Write an array that is there as a whole, under its content's key, and make it the latest of its layer.

    Parameters
    ----------
    root : zarr.Group
    where : (kind, layer)
    values : array (n_items, ...)
        Kept as float32.
    attributes : mapping
        JSON values that explain it.
    network : str
    dimensions : sequence of str, optional
        Names of the axes after the items.
    """
    kind, layer = where
    key = content_key(kind, layer, attributes, values)
    if not is_kept(root, kind, layer, key):
        writer = ArrayWriter(
            root, (kind, layer, key), shape=values.shape, dtype="float32", attributes=attributes, dimensions=dimensions
        )
        writer.write(values)
        writer.finish()
    current = {name: kept for name, kept in list_arrays(root, kind).items() if name != layer}  # the latest comes last
    set_current(root, kind, {**current, layer: key}, network=network)
