"""Results on disk: whole files or none, tables with sidecars, and a ledger that knows what is already computed."""

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
from collections.abc import Iterator, Mapping
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
from brainmap.places import inside, room_for

HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:24] or "host"
_UNFINISHED = re.compile(r"\.(?P<host>[A-Za-z0-9]+)-(?P<pid>\d+)\..+")
_STALE = 86_400.0  # seconds after which an unfinished file of another machine is taken for abandoned
PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")  # what zarr calls a chunk while it writes it
_WRITING = 60.0  # seconds after which such a chunk, which takes milliseconds to write, is taken for abandoned
PACKAGES = ("torch", "numpy", "scipy", "numba", "nibabel", "nilearn", "rsatoolbox", "zarr", "pandas", "soxr")


def unfinished(path: Path) -> Path:
    """The name beside `path` that a file has while it is written; its suffix still says the format."""
    return path.with_name(f".{HOST}-{os.getpid()}.{path.name}")


def clear_unfinished(folder: Path) -> int:
    """Remove what killed processes left half written below a folder; give their number.

    Files of processes that live, recent ones of other machines, and zarr's chunks of the last minute, which name no
    process, are left alone.
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
            if (match["host"] == HOST and not lives(int(match["pid"]))) or old:
                path.unlink()
                removed += 1
    return removed


def lives(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes its place when the block ends well, and is gone when it does not.

    Raises
    ------
    InputError
        The folder cannot be made, or `path` is a folder.
    RunError
        The disk is full.

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
        raise InputError(f"output: {path} is a folder, wanted the name of a file")
    beside = unfinished(path)
    try:
        with room_for(path.name, path.parent):
            yield beside
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(*parts: object) -> str:
    """SHA-256 of plain values, dataclasses, arrays and nestings of them: equal content, equal key.

    Examples
    --------
    >>> content_key({"a": 1, "b": [2.0]}) == content_key({"b": [2.0], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(_plain(parts), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:  # the bytes of objects are addresses
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value


@cache
def versions() -> dict[str, str]:
    """Versions of brainmap, Python and the packages that numbers depend on."""
    found = {"brainmap": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """Return how this program was called, without the folder of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write JSON for people: indented, NaN and infinity as null."""
    with atomic(path) as beside:
        text = json.dumps(_without_nan(_plain(content)), indent=2, ensure_ascii=False, allow_nan=False)
        beside.write_text(f"{text}\n", encoding="utf-8")
    return Path(path)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return value


def write_table(
    table: pd.DataFrame, path: str | Path, *, columns: Mapping[str, str], about: Mapping[str, Any] | None = None
) -> Path:
    """Write a TSV (NaN as n/a, as BIDS wants) and beside it a JSON that says what each column is and its unit.

    Raises
    ------
    KeyError
        A column of the table is not described: a programming error, found in tests.
    """
    path = Path(path)
    sidecar = {name: {"Description": columns[name]} for name in map(str, table.columns)}
    with atomic(path) as beside:
        table.to_csv(beside, sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    write_json(path.with_suffix(".json"), {**sidecar, **(about or {})})
    return path


@dataclass(frozen=True)
class Ledger:
    """What a study has computed so far: for each stage the key of what it was computed from, and the files it wrote.

    A stage counts as done only when its key is the same and its files are there as they were written. The record may
    come from anybody: names in it that lead out of the folder are refused before anything is read or removed.
    """

    folder: Path  # the study's output folder
    simulated: bool = False
    seed: int = 0

    def place(self, stage: str, ending: str) -> Path:
        """A file of the ledger's own that belongs to a stage."""
        return self.folder / ".brainmap" / f"{file_name(stage)}{ending}"

    def _entry(self, stage: str) -> Path:
        return self.place(stage, ".json")

    def is_done(self, stage: str, key: str) -> bool:
        """Whether the stage was computed from the same content, and its files still stand."""
        return self.read(stage)["key"] == key and not self.damaged(stage)

    def stages(self) -> list[str]:
        """Every stage that has an entry."""
        return sorted((names_in(p.stem) or (p.stem,))[0] for p in (self.folder / ".brainmap").glob("*.json"))

    def files(self, stage: str) -> list[Path]:
        """Return the files that a stage wrote, by its entry."""
        return [self.folder / name for name in self.read(stage)["files"]]

    def damaged(self, stage: str, *, verify: bool = False) -> list[Path]:
        """What a stage wrote and is gone, of another size or of another content.

        Content is read of files that were touched since, by the time of their last change of any kind, which the
        owner of a file cannot set back; with `verify`, of all.
        """
        files = self.read(stage)["files"]
        if not files:
            return []
        closed = -1 if verify else self._entry(stage).stat().st_mtime_ns
        return [path for name, said in files.items() if _differs(path := self.folder / name, said, closed)]

    def open(self, stage: str) -> None:
        """Write down that a stage is being computed: until it is closed, its files are not believed."""
        if self._entry(stage).exists():
            self._write(stage, None, self.read(stage)["files"])

    def read(self, stage: str) -> dict[str, Any]:
        """The key and the files of a stage; neither where there is no entry, or a damaged one.

        Raises
        ------
        InputError
            A name of a file that leads out of the folder, or a record that is no file or may not be read.
        """
        try:
            found = json.loads(self._entry(stage).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):  # ValueError: not JSON, or not even text
            found = None
        except OSError as error:
            got = "a folder" if isinstance(error, IsADirectoryError) else f"none ({error.strerror})"
            raise InputError(f"results: expected a file {self._entry(stage)}, got {got}; remove it") from None
        files = found.get("files") if isinstance(found, dict) else None
        for name in files if isinstance(files, dict) else ():
            inside(self.folder, name)
        if not isinstance(found, dict) or found.get("digest") != content_key(stage, found.get("key"), files):
            return {"key": None, "files": {}}
        return {"key": found["key"], "files": files}

    def close(self, stage: str, key: str, files: list[Path]) -> None:
        """Write down that a stage is done."""
        self._write(stage, key, {f.relative_to(self.folder).as_posix(): [_size(f), content_digest(f)] for f in files})

    def _write(self, stage: str, key: str | None, files: Mapping[str, list[Any]]) -> None:
        digest = content_key(stage, key, files)
        write_json(self._entry(stage), {"stage": stage, "key": key, "files": files, "digest": digest})

    def provenance(self, *, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
        """What every sidecar carries: command, versions, seed, parameters, SHA-256 of the inputs."""
        about = {
            "GeneratedBy": {"Name": "brainmap", "Version": __version__, "CommandLine": command_line()},
            "Versions": versions(),
            "Seed": self.seed,
            "Parameters": dict(parameters),
            "InputsSHA256": dict(inputs),
        }
        return {"Simulated": True, **about} if self.simulated else about


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder (a zarr array)."""
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and not PARTIAL.fullmatch(p.name)):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _differs(path: Path, said: Any, closed: int) -> bool:
    """Whether a result is not as it was written; only what was touched after `closed` [ns] is read for it."""
    if not path.exists() or not isinstance(said, list) or len(said) != 2 or _size(path) != said[0]:
        return True
    return _touched(path, closed) and content_digest(path) != said[1]


def _touched(path: Path, closed: int) -> bool:
    """Whether anything of a file or folder was changed after `closed` [ns]: its content, its name or its times."""
    every = [path, *path.rglob("*")] if path.is_dir() else [path]
    return any(max(found.st_mtime_ns, found.st_ctime_ns) > closed for found in map(Path.stat, every))


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder (a zarr array)."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not PARTIAL.fullmatch(p.name))
    return path.stat().st_size
