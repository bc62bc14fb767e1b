"""Damage to files, for tests: what disks, transfers and strangers do to bytes, as functions of a seeded generator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

_JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    1.5,
    float("nan"),
    "",
    "x",
    "../..",
    "/etc",
    "\x00",
    [],
    {},
    [[]],
    {"a": {}},
)


def flip_bits(data: bytes, rng: Random) -> bytes:
    """One to eight bits are turned."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: Random) -> bytes:
    """The end is missing, or all."""
    return data[: rng.randrange(len(data))]


def swap_blocks(data: bytes, rng: Random) -> bytes:
    """Two blocks of equal length are exchanged."""
    size = rng.randint(1, max(1, min(4096, len(data) // 2)))
    first, second = sorted(rng.randrange(len(data) - size + 1) for _ in range(2))
    if second - first < size:
        return zero_span(data, rng)
    return (
        data[:first]
        + data[second : second + size]
        + data[first + size : second]
        + data[first : first + size]
        + data[second + size :]
    )


def zero_span(data: bytes, rng: Random) -> bytes:
    """A span is zeros."""
    start = rng.randrange(len(data))
    size = rng.randint(1, min(4096, len(data) - start))
    return data[:start] + bytes(size) + data[start + size :]


def insert_bytes(data: bytes, rng: Random) -> bytes:
    """Foreign bytes stand between, so that all behind is shifted."""
    where = rng.randrange(len(data) + 1)
    return data[:where] + rng.randbytes(rng.randint(1, 64)) + data[where:]


def replace_json_value(data: bytes, rng: Random) -> bytes:
    """One value of a JSON text is another, or one key is gone; other bytes get a flipped bit."""
    try:
        content = json.loads(data)
    except ValueError:
        return flip_bits(data, rng)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in pairs:
            places.append((value, key))
            walk(inner)

    walk(content)
    if not places:
        return flip_bits(data, rng)
    holder, key = rng.choice(places)
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(_JSON_VALUES)
    return json.dumps(content).encode()


KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "flip": flip_bits,
    "truncate": truncate,
    "swap": swap_blocks,
    "zero": zero_span,
    "insert": insert_bytes,
    "json": replace_json_value,
}


def mutate(data: bytes, rng: Random, kinds: tuple[str, ...] = tuple(KINDS)) -> bytes:
    """Bytes with one damage of a random kind; never the same bytes.

    Parameters
    ----------
    data : bytes
        At least two.
    rng : random.Random
    kinds : tuple of str
        Those of `KINDS` that are wanted.
    """
    while True:
        changed = KINDS[rng.choice(kinds)](data, rng)
        if changed != data:
            return changed


def mutate_folder(folder: Path, rng: Random, kinds: tuple[str, ...] = tuple(KINDS)) -> str:
    """Damage one file below a folder in place, remove it, or exchange it with another; give what was done."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 1)
    one = rng.choice(files)
    what = rng.choice(("bytes", "bytes", "bytes", "remove", "exchange"))
    if what == "remove":
        one.unlink()
    elif what == "exchange":
        other = rng.choice(files)
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
        what = f"exchange with {other.relative_to(folder)}" if first != second else "nothing"
    else:
        one.write_bytes(mutate(one.read_bytes(), rng, kinds))
    return f"{one.relative_to(folder)}: {what}"


def copy_of(path: Path, to: Path) -> Path:
    """A fresh copy of a file or folder, in place of what was there."""
    if to.is_dir():
        shutil.rmtree(to)
    to.unlink(missing_ok=True)
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copyfile(path, to)
    return to
