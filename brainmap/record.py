"""Write results: whole files or none, tables with sidecars, and a ledger of what is already computed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

from brainmap import __version__
from brainmap.errors import InputError
from brainmap.names import file_name, names_in
from brainmap.places import resolve_inside, room_for
from brainmap.resources import is_running

HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:24] or "host"
_UNFINISHED = re.compile(r"\.(?P<host>[A-Za-z0-9]+)-(?P<pid>\d+)\..+")
_STALE = 86_400.0  # [s]; older unfinished files of other machines count as abandoned
PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")  # the name of a chunk while zarr writes it
_WRITING = 60.0  # [s]; older chunks count as abandoned, since writing takes milliseconds
PACKAGES = ("torch", "numpy", "scipy", "numba", "nibabel", "nilearn", "rsatoolbox", "zarr", "pandas", "soxr")


def name_unfinished(path: Path) -> Path:
    """Return the temporary name beside `path` of a file that is being written; its suffix still tells the format."""
    return path.with_name(f".{HOST}-{os.getpid()}.{path.name}")


def clear_unfinished(folder: Path) -> int:
    """Remove partial files of killed processes below a folder, and return their number.

    Files of running processes, recent files of other machines, and zarr's chunks of the last minute (which name no
    process) are kept.
    """
    removed = 0
    for path in folder.rglob("*.partial"):
        with contextlib.suppress(FileNotFoundError):
            if PARTIAL.fullmatch(path.name) and time.time() - path.stat().st_mtime > _WRITING:
                path.unlink()
                removed += 1
    for path in folder.rglob(".*-*.*"):
        match = _UNFINISHED.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        with contextlib.suppress(FileNotFoundError):  # another process may finish or clear it meanwhile
            old = time.time() - path.stat().st_mtime > _STALE
            if (match["host"] == HOST and not is_running(int(match["pid"]))) or old:
                path.unlink()
                removed += 1
    return removed


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces it if the block succeeds and is removed if it fails.

    Raises
    ------
    InputError
        If the folder cannot be created, or `path` is a folder.
    RunError
        If the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic(Path(folder) / "a.txt") as beside:
    ...         _ = beside.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    try:
        with room_for(path.name, path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output: {path} cannot be written ({error.strerror}: {error.filename})") from None
    if path.is_dir():
        raise InputError(f"output: expected the name of a file, got the folder {path}; name a file in it")
    beside = name_unfinished(path)
    try:
        with room_for(path.name, path.parent):
            yield beside
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """Compute the SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(*parts: object) -> str:
    """Compute the SHA-256 of plain values, dataclasses, arrays and nestings of them; equal content gives equal keys.

    Examples
    --------
    >>> content_key({"a": 1, "b": [2.0]}) == content_key({"b": [2.0], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(_convert_to_plain(parts), sort_keys=True).encode()).hexdigest()


_PLAIN = (str, int, float, bool, type(None))


def _convert_to_plain(value: Any) -> Any:
    if type(value) in _PLAIN:  # most values are names of items
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:  # the bytes of an object array are addresses
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if is_dataclass(value) and not isinstance(value, type):
        return _convert_to_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _convert_to_plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _convert_to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_convert_to_plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value


@cache
def versions() -> dict[str, str]:
    """Return the versions of brainmap, Python and the packages that numbers depend on."""
    return {"brainmap": __version__, "python": platform.python_version(), **find_versions(PACKAGES)}


def find_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def command_line() -> str:
    """Return how this program was called, without the folder of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write indented JSON, with NaN and infinity as null."""
    with atomic(path) as beside:
        text = json.dumps(_replace_nan(_convert_to_plain(content)), indent=2, ensure_ascii=False, allow_nan=False)
        beside.write_text(f"{text}\n", encoding="utf-8")
    return Path(path)


def _replace_nan(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _replace_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_replace_nan(v) for v in value]
    return value


def write_table(
    table: pd.DataFrame, path: str | Path, *, columns: Mapping[str, str], about: Mapping[str, Any] | None = None
) -> Path:
    """Write a TSV (NaN as n/a, as in BIDS), and beside it a JSON that describes each column and its unit.

    Raises
    ------
    KeyError
        If a column of the table is not described, which is a programming error.
    """
    path = Path(path)
    sidecar = {name: {"Description": columns[name]} for name in map(str, table.columns)}
    with atomic(path) as beside:
        table.to_csv(beside, sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    write_json(path.with_suffix(".json"), {**sidecar, **(about or {})})
    return path


@dataclass(frozen=True)
class Ledger:
    """Record for each stage of a study the key of what it was computed from, and the files that it wrote.

    A stage counts as done only if its key is the same and its files are unchanged. The record is not trusted: names in
    it that lead out of the folder are refused before anything is read or removed.
    """

    folder: Path  # the study's output folder
    simulated: bool = False
    seed: int = 0

    def place(self, stage: str, ending: str) -> Path:
        """Return the path of the ledger's own file for a stage."""
        return self.folder / ".brainmap" / f"{file_name(stage)}{ending}"

    def _entry(self, stage: str) -> Path:
        return self.place(stage, ".json")

    def is_done(self, stage: str, key: str) -> bool:
        """Tell whether the stage was computed from the same content, and its files are unchanged."""
        return self.read(stage)["key"] == key and not self.damaged(stage)

    def stages(self) -> list[str]:
        """List all stages with an entry."""
        return sorted((names_in(p.stem) or (p.stem,))[0] for p in (self.folder / ".brainmap").glob("*.json"))

    def files(self, stage: str) -> list[Path]:
        """Return the files that a stage wrote, from its entry."""
        return [self.folder / name for name in self.read(stage)["files"]]

    def damaged(self, stage: str, *, verify: bool = False) -> list[Path]:
        """List the files of a stage that are missing, or whose size or content has changed.

        The content is read only of files that were changed in any way since the stage was closed, by their change time,
        which the owner of a file cannot set back; with `verify` it is read of all files.
        """
        files = self.read(stage)["files"]
        if not files:
            return []
        closed = -1 if verify else self._entry(stage).stat().st_mtime_ns
        return [path for name, said in files.items() if _has_changed(path := self.folder / name, said, closed)]

    def open(self, stage: str) -> None:
        """Record that a stage is being computed; until it is closed, its files do not count as results."""
        if self._entry(stage).exists():
            self._write(stage, None, self.read(stage)["files"])

    def read(self, stage: str) -> dict[str, Any]:
        """Return the key and the files of a stage; None and no files if there is no entry or a damaged one.

        Raises
        ------
        InputError
            If a name leads out of the folder, or the record is not a file or cannot be read.
        """
        try:
            found = json.loads(self._entry(stage).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):  # ValueError: the file is not JSON, or not text
            found = None
        except OSError as error:
            got = "a folder" if isinstance(error, IsADirectoryError) else f"none ({error.strerror})"
            raise InputError(f"results: expected a file {self._entry(stage)}, got {got}; remove it") from None
        files = found.get("files") if isinstance(found, dict) else None
        for name in files if isinstance(files, dict) else ():
            resolve_inside(self.folder, name)
        if not isinstance(found, dict) or found.get("digest") != content_key(stage, found.get("key"), files):
            return {"key": None, "files": {}}
        return {"key": found["key"], "files": files}

    def close(self, stage: str, key: str, files: list[Path]) -> None:
        """Record that a stage is done."""
        self._write(
            stage, key, {f.relative_to(self.folder).as_posix(): [_measure_size(f), content_digest(f)] for f in files}
        )

    def _write(self, stage: str, key: str | None, files: Mapping[str, list[Any]]) -> None:
        digest = content_key(stage, key, files)
        write_json(self._entry(stage), {"stage": stage, "key": key, "files": files, "digest": digest})

    def provenance(self, *, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
        """Build the content that every sidecar has: command, versions, seed, parameters, SHA-256 of the inputs."""
        about = {
            "GeneratedBy": {"Name": "brainmap", "Version": __version__, "CommandLine": command_line()},
            "Versions": versions(),
            "Seed": self.seed,
            "Parameters": dict(parameters),
            "InputsSHA256": dict(inputs),
        }
        return {"Simulated": True, **about} if self.simulated else about


def content_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, or of the names and contents of all files of a folder (a zarr array)."""
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and not PARTIAL.fullmatch(p.name)):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _has_changed(path: Path, said: Any, closed: int) -> bool:
    """Tell whether a result differs from what was written; only files changed after `closed` [ns] are read."""
    if not path.exists() or not isinstance(said, list) or len(said) != 2 or _measure_size(path) != said[0]:
        return True
    return _is_touched(path, closed) and content_digest(path) != said[1]


def _is_touched(path: Path, closed: int) -> bool:
    """Tell whether the content, name or times of a file or folder changed after `closed` [ns]."""
    every = [path, *path.rglob("*")] if path.is_dir() else [path]
    return any(max(found.st_mtime_ns, found.st_ctime_ns) > closed for found in map(Path.stat, every))


def _measure_size(path: Path) -> int:
    """Compute the size of a file, or of all files of a folder (a zarr array), in bytes."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not PARTIAL.fullmatch(p.name))
    return path.stat().st_size
