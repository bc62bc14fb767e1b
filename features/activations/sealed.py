"""Store arrays on disk in a way that reveals damage.

Every chunk ends in its CRC-32C, which zarr checks when it reads the chunk. A finished array also keeps the checksums of
all its chunks, so that a missing or exchanged chunk is noticed, and a digest of its own metadata and its place in the
store. A group keeps a digest of its attributes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError, is_scarce_memory
from brainmap.record import content_key

if TYPE_CHECKING:
    import zarr

_CODECS = ["bytes", "zstd", "crc32c"]
_TYPES = ("float16", "float32", "float64")
_MOST = 40_000  # the highest factor by which zstd compresses zeros
_SUM = 4  # size of a checksum in bytes


class StoredArray:
    """Wrap a finished zarr array so that a damaged chunk raises an `InputError`.

    It is read when it is sliced or given to `numpy.asarray`.
    """

    def __init__(self, array: zarr.Array[Any], where: str) -> None:
        self._array, self._where = array, where

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array, name)

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, selection: Any) -> Any:
        try:
            return self._array[selection]
        except (ValueError, RuntimeError, OSError, EOFError) as error:
            if is_scarce_memory(error):  # nothing is wrong with the store
                raise
            raise InputError(_describe_damage(self._where, str(error))) from None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        values: NDArray[Any] = np.asarray(self[...])
        return values if dtype is None else values.astype(dtype, copy=False)


def make_compressors() -> tuple[Any, ...]:
    """Make the codecs of chunks on disk; this level is twice as fast as the usual one, and 3 % larger."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    return ZstdCodec(level=1), Crc32cCodec()


def is_array(found: object) -> TypeGuard[zarr.Array[Any]]:
    """Tell whether what lies in a store is an array."""
    import zarr

    return isinstance(found, zarr.Array)


def find_folder(root: zarr.Group) -> Path | None:
    """Return the folder of a store, or None for a store in memory, which cannot be damaged."""
    import zarr

    store = root.store_path.store
    return Path(store.root) / root.path if isinstance(store, zarr.storage.LocalStore) else None


def check_group(folder: Path) -> dict[str, Any]:
    """Read the attributes of a group.

    Raises
    ------
    InputError
        Its metadata is not that of a plain group of zarr v3.
    """
    about = _read_json(folder / "zarr.json", folder)
    attributes = about.pop("attributes", {})
    if about.pop("consolidated_metadata", None) is not None or about != {"zarr_format": 3, "node_type": "group"}:
        refuse(folder, "it is no plain group of zarr v3")
    return attributes if isinstance(attributes, dict) else refuse(folder, "it has no attributes")


def refuse(where: object, why: str) -> NoReturn:
    """Raise the `InputError` of a damaged store."""
    raise InputError(_describe_damage(where, why))


def _describe_damage(where: object, why: str) -> str:
    return f"store: {where} is damaged ({why}), or was written by an earlier brainmap; remove it and make it again"


def seal(array: zarr.Array[Any], folder: Path, attributes: Mapping[str, Any]) -> None:
    """Mark an array as complete, with the checksums of its chunks and a digest of its metadata, in one write."""
    sums = [_sum_of(folder / array.path / name) for name in _list_chunks(array.shape, array.chunks)]
    new = {**attributes, "chunks": sums, "complete": True}
    about = _read_json(folder / array.path / "zarr.json", array.path)
    about["attributes"] = json.loads(json.dumps({**about["attributes"], **new}))
    array.update_attributes({**new, "digest": _hash_chunks(array.path, about)})


def check_array(folder: Path, path: str) -> bool:
    """Tell whether an array of a store was finished.

    Raises
    ------
    InputError
        The array was finished and has been damaged since: its metadata, or a chunk that is missing, exchanged or
        resized.
    """
    where = folder / path
    if not (where / "zarr.json").is_file():
        return False
    about = _read_json(where / "zarr.json", where)
    attributes = about.get("attributes")
    if not isinstance(attributes, dict):
        refuse(where, "it has no attributes")
    if "complete" not in attributes and "digest" not in attributes:
        return False
    if attributes.get("complete") is not True or attributes.get("digest") != _hash_chunks(path, about):
        refuse(where, "its metadata changed")
    with catch_bad_metadata(where):
        shape, chunks = tuple(about["shape"]), tuple(about["chunk_grid"]["configuration"]["chunk_shape"])
        plain = (
            about["node_type"] == "array"
            and about["data_type"] in _TYPES
            and len(shape) == len(chunks) > 0
            and all(type(n) is int and n > 0 for n in (*shape, *chunks))
            and shape[1:] == chunks[1:]
            and [codec["name"] for codec in about["codecs"]] == _CODECS
            and not about["storage_transformers"]
        )
    if not plain:
        refuse(where, "its metadata is not as brainmap writes it")
    _check_chunks(where, shape, chunks, np.dtype(about["data_type"]).itemsize, attributes.get("chunks"))
    return True


def _check_chunks(where: Path, shape: tuple[int, ...], chunks: tuple[int, ...], item: int, sums: Any) -> None:
    size = item
    for n in chunks:
        size *= n  # Python's integers do not overflow
    if not isinstance(sums, list) or len(sums) != -(-shape[0] // chunks[0]):
        refuse(where, "it has another number of chunks than its shape wants")
    for name, said in zip(_list_chunks(shape, chunks), sums, strict=True):
        file = where / name
        if not file.is_file():
            refuse(where, f"the chunk {name} is missing")
        if size > _MOST * file.stat().st_size + 4096:
            refuse(where, f"the chunk {name} is too small to hold {size} bytes")
        if _sum_of(file) != said:
            refuse(where, f"the chunk {name} changed")


def _list_chunks(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[str]:
    """List the names of the chunks, which differ only in their first index because each chunk holds whole rows."""
    rest = "/0" * (len(shape) - 1)
    return (f"c/{k}{rest}" for k in range(-(-shape[0] // chunks[0])))


def _sum_of(file: Path) -> int:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _SUM))
        return int.from_bytes(opened.read(), "little")


def _hash_chunks(path: str, about: Mapping[str, Any]) -> str:
    attributes = {name: value for name, value in about["attributes"].items() if name != "digest"}
    text = json.dumps([path, {**about, "attributes": attributes}], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def seal_group(group: zarr.Group, attributes: Mapping[str, Any]) -> None:
    """Store attributes of a group with their digest."""
    group.update_attributes({**attributes, "digest": content_key(group.path, attributes)})


def group_attributes(root: zarr.Group, kind: str) -> dict[str, Any]:
    """Read the attributes of a group of a store; they are empty where there is no such group.

    Raises
    ------
    InputError
        The attributes are not as they were written.
    """
    import zarr

    folder = find_folder(root)
    if folder is None:
        group = root.get(kind)
        return dict(group.attrs) if isinstance(group, zarr.Group) else {}
    if not (folder / kind).is_dir():
        return {}
    attributes = check_group(folder / kind)
    digest = attributes.pop("digest", None)
    if attributes and digest != content_key(kind, attributes):
        refuse(folder / kind, "its metadata changed")
    return attributes


def _read_json(file: Path, where: object) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        refuse(where, f"{file.name} cannot be read")
    return found if isinstance(found, dict) else refuse(where, f"{file.name} holds no object")


@contextmanager
def catch_bad_metadata(where: object) -> Iterator[None]:
    """Turn errors from missing or mistyped values in metadata into one line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        refuse(where, f"{type(error).__name__}: {error}")
