"""Read groups of untrusted HDF5 files: no external data, and no more memory than the size of the file allows for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

ABSENT = "absent"


_FILTERS = {1: 1100.0, 2: 1.0, 3: 1.0, 32000: 100.0}  # highest compression ratio of deflate, shuffle, checksum, lzf

_DEEPEST = 4


class Refused(ValueError):
    """State why a file is refused."""


def check_heaps(file: Path) -> None:
    """Check the heaps in which HDF5 stores strings, since its library loops forever on a damaged heap.

    Raises
    ------
    Refused
        An object in a heap extends beyond the heap.
    """
    content = file.read_bytes()
    start = content.find(b"GCOL")
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        at = start + 16
        while at + 16 <= min(end, len(content)):
            used, length = content[at : at + 2] != b"\0\0", int.from_bytes(content[at + 8 : at + 16], "little")
            step = 16 + -(-length // 8) * 8 if used else length
            if step < 16 or at + step > end:
                raise Refused("a heap of texts is damaged")
            at += step
        start = content.find(b"GCOL", start + 4)


def read_group(group: Any, size: int) -> dict[str, Any]:
    """Read the attributes, datasets and groups of a group, in a file of `size` bytes.

    Raises
    ------
    Refused
        A link is soft or external, a group contains itself, data lie in other files, data claim more bytes than the
        file can hold, or data have a type that descriptors never have.
    """
    return _read_members(group, size, set(), 0)


def _read_members(group: Any, size: int, seen: set[int], depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise Refused(f"groups lie deeper than {_DEEPEST} in each other")
    found: dict[str, Any] = {key: _read_attribute(group, key) for key in group.attrs}
    for key in group:
        if type(group.get(key, getlink=True)) is not h5py.HardLink:
            raise Refused(f"{key!r} is a link to somewhere else")
        value = group[key]
        address = h5py.h5o.get_info(value.id).addr
        if address in seen:
            raise Refused(f"{key!r} is there twice, or holds itself")
        seen.add(address)
        if isinstance(value, h5py.Group):
            found[key] = _read_members(value, size, seen, depth + 1)
        elif not isinstance(value, h5py.Dataset):
            raise Refused(f"{key!r} is neither data nor a group")
        elif value.shape is not None:
            found[key] = _read_values(value, key, size)
    return found


def _read_attribute(group: Any, key: str) -> Any:
    kind = group.attrs.get_id(key)
    if kind.dtype.kind not in "fiubSUO" or kind.get_storage_size() > 1 << 20:
        raise Refused(f"attribute {key!r} is of {kind.dtype}")
    value = group.attrs[key]
    return value.astype(str) if isinstance(value, np.ndarray) and value.dtype.kind == "O" else value


def _read_values(dataset: Any, key: str, size: int) -> NDArray[Any]:
    """Read the values of a dataset and decode text, after checking that the claimed size fits the file."""
    made = dataset.id.get_create_plist()
    kind = dataset.dtype
    if made.get_external_count() or dataset.is_virtual:
        raise Refused(f"{key!r} lies in another file")
    if kind.kind not in "fiubS" and h5py.check_string_dtype(kind) is None:
        raise Refused(f"{key!r} is of {kind}, expected numbers or text")
    filters = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
    if not all(code in _FILTERS for code in filters):
        raise Refused(f"{key!r} is compressed in a way that is not known")
    claimed = int(kind.itemsize)
    for n in dataset.shape:
        claimed *= int(n)
    stored = min(int(dataset.id.get_storage_size()), size)
    most = stored * float(np.prod([_FILTERS[code] for code in filters]))
    if claimed > most:
        raise Refused(f"{key!r} claims {claimed} bytes where the file holds {stored}")
    array = dataset.asstr()[()] if kind.kind == "O" else dataset[()]
    array = np.asarray(array, dtype=str) if kind.kind == "O" else array
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if ABSENT in dataset.attrs:
        array = array.astype(object)
        array[_read_attribute(dataset, ABSENT)] = None
    return np.asarray(array) if isinstance(array, np.ndarray) else array
