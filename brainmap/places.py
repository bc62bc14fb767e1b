"""Restrict results to their folder, and report when the disk has no room for them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from brainmap.errors import BrainmapError, InputError, RunError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID = ("no space left on device", "disk quota exceeded", "errno = 28", "errno = 122")


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the path of a file named in a results folder; the name is not trusted, since anybody may have written it.

    Parameters
    ----------
    folder : path
    name : str
        Relative to the folder, with `/`.

    Raises
    ------
    InputError
        If the name is absolute, contains `..`, or leaves the folder through a link.

    Examples
    --------
    >>> resolve_inside(Path("/tmp"), "../etc/passwd")
    Traceback (most recent call last):
    brainmap.errors.InputError: results: '../etc/passwd' lies outside of /tmp, where nothing is read or removed; ...
    """
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)
    plain = bool(parts) and ".." not in windows.parts and not windows.drive and not windows.root and "\0" not in name
    path = folder / name
    if not plain or not _is_below(path, folder):
        raise InputError(
            f"results: {name!r} lies outside of {folder}, where nothing is read or removed; a record in "
            f"{folder / '.brainmap'} names it, so this folder was not written by brainmap alone: name another folder"
        )
    return path


def _is_below(path: Path, folder: Path) -> bool:
    try:
        real, root = path.resolve(), folder.resolve()
    except (OSError, RuntimeError):  # the links form a loop
        return False
    return real != root and real.is_relative_to(root)


def refuse_links_out(folder: Path) -> None:
    """Refuse a results folder that contains a link to a place outside; the folder itself may be a link.

    Raises
    ------
    InputError
        If there is such a link; the message names it.
    """
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where) / name
            if path.is_symlink() and not _is_below(path, folder):
                raise InputError(
                    f"results: {path} is a link that leads out of {folder}, where nothing is written or "
                    "removed; take it away, or make the whole folder a link"
                )


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def room_for(what: object, folder: Path) -> Iterator[None]:
    """Turn the failure of a full disk into one line that names the folder and what was being written.

    Parameters
    ----------
    what : object
        What is written while the block runs.
    folder : path

    Raises
    ------
    RunError
        If there was no room for it.
    """
    try:
        yield
    except BrainmapError:
        raise
    except Exception as error:
        if not _is_full(error, folder):
            raise
        raise RunError(
            f"output: no room is left in {folder}, or a quota is used up, while {what} was being written; make room "
            "and run the same command again: what is complete is kept"
        ) from error


def _is_full(error: Exception, folder: Path) -> bool:
    """Tell whether a failure means a full disk; HDF5 reports it only in its message, and libsndfile not at all."""
    if getattr(error, "errno", None) in _FULL or any(words in str(error).lower() for words in _SAID):
        return True
    place = next((p for p in (folder, *folder.parents) if p.is_dir()), Path())
    return isinstance(error, RuntimeError | OSError) and shutil.disk_usage(place).free == 0
