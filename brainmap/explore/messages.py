"""Define what the server and its computing process say to each other: a header of JSON and a body of bytes."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

COMMANDS = (
    "describe",
    "network",
    "sound",
    "audio",
    "scores",
    "map",
    "strips",
    "unit",
    "neighbors",
    "embedding",
    "favorites",
    "tuning",
    "pattern",
    "crop",
    "patternsound",
    "brain",
    "brainmap",
    "background",
    "mesh",
    "voxel",
    "vertex",
    "region",
    "rdms",
    "gates",
    "wanted",
    "wantedsound",
)
"""What a page may ask for; each is a function of `brainmap.explore.commands`."""
JSON = "application/json"
_LENGTHS = struct.Struct(">II")


def pack_message(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Write a message as bytes.

    Examples
    --------
    >>> import io
    >>> read_message(io.BytesIO(pack_message({"id": 1}, b"two")))
    ({'id': 1}, b'two')
    """
    head = json.dumps(header).encode()
    return _LENGTHS.pack(len(head), len(body)) + head + body


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Read the next message; None where the stream has ended."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    n_head, n_body = _LENGTHS.unpack(lengths)
    head, body = stream.read(n_head), stream.read(n_body)
    return (json.loads(head), body) if len(head) == n_head and len(body) == n_body else None


async def receive_message(stream: asyncio.StreamReader) -> tuple[dict[str, Any], bytes] | None:
    """Read the next message of another process; None where that has ended."""
    try:
        n_head, n_body = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        return json.loads(await stream.readexactly(n_head)), await stream.readexactly(n_body)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def encode_json(value: Any) -> bytes:
    """Write a value as JSON: arrays as base64 of their bytes (little-endian), numbers that are not finite as null.

    Examples
    --------
    >>> encode_json({"score": float("nan"), "names": ("a", "b")})
    b'{"score":null,"names":["a","b"]}'
    """
    return json.dumps(_make_plain(value), separators=(",", ":"), allow_nan=False).encode()


def _make_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _make_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tobytes") and hasattr(value, "shape"):
        if value.shape == ():
            return _make_plain(value.item())
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        data = base64.b64encode(little.tobytes()).decode()
        return {"dtype": value.dtype.name, "shape": list(value.shape), "base64": data}
    return value
