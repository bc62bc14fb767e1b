"""Let one process at a time compute a result, among processes and machines that share a folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.record import HOST, name_unfinished
from brainmap.resources import is_running

ALIVE = 5.0  # s between two updates by the holder of a claim
ABANDONED = 60.0  # s without an update, after which another process takes it over


@contextmanager
def hold_file(path: Path, what: str, *, alive: float = ALIVE, abandoned: float = ABANDONED) -> Iterator[None]:
    """Hold the file `path` while a block runs, after waiting for any live process that holds it.

    A file that is created exclusively is a lock on every file system of clusters. Its holder touches it regularly; a
    holder that was killed does not, and loses the claim (at once on the same machine).

    Parameters
    ----------
    path : Path
    what : str
        Description of the computation, for those who wait.
    alive, abandoned : float [s]
        Time between updates, and time without one after which the claim is taken over.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, hold_file(Path(folder) / "networks.claim", "networks"):
    ...     [p.name for p in Path(folder).iterdir()]
    ['networks.claim']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    said = False
    while not _create_claim(path):
        if _is_abandoned(path, abandoned):
            _take_away(path)
            continue
        if not said:
            log.info("%s: another process computes it (%s); waiting", what, " ".join(_read_holder(path)) or "it begins")
            said = True
        time.sleep(min(alive, 0.5))
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(alive):
            with contextlib.suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def _create_claim(path: Path) -> bool:
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(f"{HOST} {os.getpid()}")
    return True


def _read_holder(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split()
    except FileNotFoundError:
        return []
    except IsADirectoryError:
        raise InputError(f"results: expected a file {path}, got a folder; remove it") from None


def _is_abandoned(path: Path, after: float) -> bool:
    holder = _read_holder(path)
    if len(holder) == 2 and holder[0] == HOST and holder[1].isdecimal():
        return not is_running(int(holder[1]))
    beside = name_unfinished(path)  # the file system's clock may differ from this machine's
    beside.touch()
    try:
        return beside.stat().st_mtime - path.stat().st_mtime > after
    except FileNotFoundError:
        return False
    finally:
        beside.unlink(missing_ok=True)


def _take_away(path: Path) -> None:
    """Remove an abandoned claim; of several processes that try, one succeeds."""
    aside = name_unfinished(path)
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        aside.unlink()
