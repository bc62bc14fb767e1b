"""Where arrays of features live: one zarr v3 array a layer, and a kill never leaves a believable half.

An array lies under `<kind>/<layer>/<key>`, is NaN where nothing was written yet, and gets its `complete`
attribute last. Its key is a hash of content, so that an array is exactly what is asked for or another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import some
from brainmap.errors import InputError, RunError
from brainmap.features.running import Sounds, tensors
from brainmap.record import content_key

_CHUNK_BYTES = 1 << 20


def weights_digest(model: nn.Module) -> str:
    """A hash of all parameters, buffers and settings of the modules (ELU and ReLU have the same weights)."""
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__} {model!r}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def sounds_digest(sounds: Sounds, *, batch_size: int = 32) -> str:
    """A hash of the waveforms themselves; names do not matter, nor how they are batched.

    Examples
    --------
    >>> x = np.ones((3, 1, 8), np.float32)
    >>> sounds_digest(x, batch_size=1) == sounds_digest(x) != sounds_digest(2 * x)
    True
    """
    known = getattr(sounds, "digest", None)  # `Sounds` keeps its own
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for number, batch in enumerate(tensors(sounds, batch_size)):
        if number == 0:
            digest.update(str(tuple(batch.shape[1:])).encode())
        digest.update(np.ascontiguousarray(batch.numpy()).tobytes())
    return digest.hexdigest()


def open_store(path: str | Path | None, *, create: bool = True) -> zarr.Group:
    """Open a store, or make one; without a path it lies in memory.

    Raises
    ------
    InputError
        The path is a file, a folder of something else, or absent when it may not be made.
    """
    if path is None:
        return zarr.create_group(store=zarr.storage.MemoryStore(), zarr_format=3)
    path = Path(path)
    if path.is_file():
        raise InputError(f"store: {path} is a file, wanted a folder for zarr arrays; give another name")
    if path.is_dir() and any(path.iterdir()) and not (path / "zarr.json").is_file():
        raise InputError(f"store: the folder {path} holds something else than zarr arrays; give another name")
    if not create and not (path / "zarr.json").is_file():
        raise InputError(f"store: no zarr arrays at {path}; extract them first")
    return zarr.open_group(path, mode="a" if create else "r", zarr_format=3)


def find_array(root: zarr.Group, kind: str, layer: str, key: str) -> zarr.Array[Any] | None:
    """The array of that content, if all of it was written."""
    array = root.get(f"{kind}/{layer}/{key}")
    return array if isinstance(array, zarr.Array) and array.attrs.get("complete") is True else None


class ArrayWriter:
    """Writes one array row by row, a whole chunk at a time, and calls it complete at the end.

    Parameters
    ----------
    root : zarr.Group
    where : (kind, layer, key)
        What lies there, complete or not, is replaced.
    shape : (n_items, ...)
    dtype : str
    attributes : mapping
        JSON values: the ids of the items and whatever explains the numbers.
    """

    def __init__(
        self,
        root: zarr.Group,
        where: tuple[str, str, str],
        *,
        shape: tuple[int, ...],
        dtype: str,
        attributes: Mapping[str, Any],
    ) -> None:
        row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        self._rows = max(1, min(shape[0], _CHUNK_BYTES // max(row_bytes, 1)))
        self.array = root.create_array(
            "/".join(where),
            shape=shape,
            chunks=(self._rows, *shape[1:]),
            dtype=dtype,
            fill_value=np.nan,
            attributes=dict(attributes),
            overwrite=True,
        )
        self._pending: list[NDArray[Any]] = []
        self._done = 0

    def write(self, rows: NDArray[Any]) -> None:
        """Take the next rows."""
        self._pending.append(rows)
        while (held := sum(map(len, self._pending))) >= self._rows:
            joined = np.concatenate(self._pending) if len(self._pending) > 1 else self._pending[0]
            whole = held // self._rows * self._rows
            self._flush(joined[:whole])
            self._pending = [joined[whole:]] if whole < held else []

    def finish(self) -> zarr.Array[Any]:
        """Write what is left and mark the array complete.

        Raises
        ------
        RunError
            Fewer or more rows came than there are items.
        """
        for rows in self._pending:
            self._flush(rows)
        self._pending = []
        if self._done != self.array.shape[0]:
            wanted = self.array.shape[0]
            raise RunError(f"store: {self._done} rows came for {wanted} items; the sounds changed meanwhile")
        self.array.attrs["complete"] = True
        return self.array

    def _flush(self, rows: NDArray[Any]) -> None:
        self.array[self._done : self._done + len(rows)] = rows
        self._done += len(rows)


def set_current(root: zarr.Group, kind: str, keys: Mapping[str, str], *, network: str) -> None:
    """Say which array of each layer is the latest, in the order of the layers, and whose they are."""
    current = [[layer, key] for layer, key in keys.items()]
    root.require_group(kind).update_attributes({"current": current, "network": network})


def current_arrays(root: zarr.Group, kind: str) -> dict[str, zarr.Array[Any]]:
    """The latest array of each layer.

    Raises
    ------
    InputError
        Nothing of this kind, or not finished.
    """
    group = root.get(kind)
    listed = group.attrs.get("current") if isinstance(group, zarr.Group) else None
    if not isinstance(listed, list):
        held = sorted(name for name, _ in root.groups())
        path = str(root.store_path).removeprefix("file://")
        raise InputError(f"store: {path} holds no finished {kind}; it holds {some(held) if held else 'nothing'}")
    arrays = {}
    for layer, key in listed:
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
    """
    kind, layer = where
    key = content_key(kind, layer, attributes, values)
    if find_array(root, kind, layer, key) is None:
        writer = ArrayWriter(root, (kind, layer, key), shape=values.shape, dtype="float32", attributes=attributes)
        writer.write(values)
        writer.finish()
    group = root.get(kind)
    listed: Any = group.attrs.get("current", []) if isinstance(group, zarr.Group) else []
    current = {name: kept for name, kept in listed if name != layer}  # the latest comes last
    set_current(root, kind, {**current, layer: key}, network=network)
