"""What the demo needs: spoken words and trained networks; `README.md` beside this file says where each came from."""

from __future__ import annotations

import hashlib
from pathlib import Path

if __name__ != "brainmap.data":
    raise ImportError("import brainmap.data, not data")

SHIPPED = ("networks/*.safetensors", "words/*.flac", "words/*.tsv")
CHECKSUMS = "checksums.tsv"


def folder() -> Path:
    """Return the folder of the shipped words and networks on this machine."""
    return Path(__file__).resolve().parent


def checksums() -> dict[str, str]:
    """SHA-256 of every shipped file as it lies on this disk, by its name below the data folder."""
    files = sorted(path for pattern in SHIPPED for path in folder().glob(pattern))
    return {f.relative_to(folder()).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def recorded_checksums() -> dict[str, str]:
    """SHA-256 of every shipped file as `checksums.tsv` has it."""
    lines = (folder() / CHECKSUMS).read_text(encoding="utf-8").splitlines()[1:]
    return dict(line.split("\t") for line in lines)


def record_checksums() -> Path:
    """Write `checksums.tsv` anew, after words or networks were made again."""
    path = folder() / CHECKSUMS
    rows = [f"{name}\t{digest}" for name, digest in checksums().items()]
    path.write_text("\n".join(["path\tsha256", *rows]) + "\n", encoding="utf-8")
    return path
