"""Explain layers in a second process, while this one maps noise ceilings and draws a first page.

What explains layers needs only the network, its sounds and the best layers. It is computed by the same code with the
same settings, into the same ledger, so that results are equal. A process that fails or is killed leaves its stages to
this one, where an error is raised as if there were no second process.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from brainmap.checks import count_threads
from brainmap.errors import BrainmapWarning
from brainmap.resources import find_available_memory
from brainmap.rsa.images.files import get_grid_tolerance, grid_tolerance
from brainmap.study.results.context import Context
from brainmap.study.results.notices import ELSEWHERE
from brainmap.study.stages.explain import Explaining, choose_explained, plan_explain
from brainmap.threads import limit_blas

log = logging.getLogger("brainmap")
_ENOUGH = 2000  # steps of patterns, below which a second process saves less than its imports take
_MEMORY = 3 << 30  # bytes that must be available for it


class Beside:
    """Hold a process that computes stages beside this one; it ends with the block at the latest.

    Parameters
    ----------
    context : Context
    stages : sequence of Explaining
        What it computes; it plans the stages by itself, and computes those of the same names and keys.
    """

    def __init__(self, context: Context, stages: Sequence[Explaining]) -> None:
        self._context, self._stages = context, {one.name: one.key for one in stages}
        self._done: list[str] = []
        self._warned: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Tell whether the process is still computing."""
        return self._thread.is_alive()

    def finish(self) -> None:
        """Wait for the process, warn as it did, and count what it computed as computed by this run."""
        self._thread.join()
        for line in self._warned:
            warnings.warn(line, BrainmapWarning, stacklevel=3)
        self._warned.clear()
        self._context.computed.extend(self._done)
        self._done.clear()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._thread.join()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what it was not told yet cannot be told
                if pipe is not None:
                    pipe.close()

    def _listen(self) -> None:
        """Tell the process what to do, and hear what it says until it ends."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        try:
            given = sys.argv, log.getEffectiveLevel(), get_grid_tolerance(), self._context.to_send(), self._stages
            asked.write(pickle.dumps(given))
            asked.flush()  # it stays open, because the process ends with this one
            while True:
                kind, value = pickle.load(told)
                if kind == "log":
                    log.log(*value, extra={ELSEWHERE: True})
                elif kind == "warning":
                    self._warned.append(value)
                else:
                    self._done.append(value)
        except (OSError, EOFError, pickle.PickleError, AttributeError, TypeError):
            pass  # it has ended; this process computes what is left, and raises what is wrong with it


@contextmanager
def explain_beside(context: Context, stages: Sequence[Explaining]) -> Iterator[Beside | None]:
    """Compute stages that explain layers beside what is done within the block, where this saves time.

    There is no second process where the number of threads was asked for, where networks run on a GPU or results are
    shared with other processes, where memory is scarce, or where the system refuses one.
    """
    left = [one for one in stages if not context.is_done(one.name, one.key)]
    memory = find_available_memory()
    alone = (
        sum(one.steps for one in left) < _ENOUGH
        or context.shared
        or context.backend != "threads"
        or context.threads is not None
        or count_threads(None, "explain") < 2
        or context.device != "cpu"
        or (memory is not None and memory < _MEMORY)
    )
    try:
        beside = None if alone else Beside(context, left)
    except OSError:
        beside = None
    try:
        yield beside
    finally:
        if beside is not None:
            beside.end()


class _Teller(logging.Handler):
    """Tell the asking process every line that is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell("log", (record.levelno, "%s", record.getMessage()))


class _Lines(io.TextIOWrapper):
    """Write to where errors go, on which the asking process alone may draw bars."""

    def isatty(self) -> bool:
        return False


_TELLING = threading.Lock()
_OUT: list[Any] = []


def _tell(kind: str, value: object) -> None:
    with _TELLING:
        pickle.dump((kind, value), _OUT[0], protocol=pickle.HIGHEST_PROTOCOL)
        _OUT[0].flush()


def _end_with(pipe: Any) -> None:
    """End this process as soon as the one that asked is gone."""
    with contextlib.suppress(OSError):
        pipe.read(1)
    os._exit(1)


def _show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, BrainmapWarning):
        _tell("warning", str(message))


def _compute(context: Context, wanted: dict[str, str]) -> None:
    from brainmap.study.stages.networks import load_heard_network

    version = choose_explained(context)
    loaded = load_heard_network(replace(context, overwrite=False), version.network)  # type: ignore[arg-type]
    for one in plan_explain(context, {version.network.name: loaded}):
        if wanted.get(one.name) == one.key:
            context.run_stage(one.name, one.key, one.compute)
            _tell("done", one.name)


def main() -> None:
    """Compute what is asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = os.fdopen(os.dup(0), "rb")
    _OUT.append(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what a library prints would be no answer
    sys.stderr = _Lines(os.fdopen(os.dup(2), "wb", buffering=0), write_through=True)
    with contextlib.suppress(Exception):  # whoever asked then computes the stage, and raises what is wrong with it
        sys.argv, level, tolerance, context, wanted = pickle.load(asked)
        threading.Thread(target=_end_with, args=(asked,), daemon=True).start()
        log.setLevel(level)
        log.addHandler(_Teller())
        log.propagate = False
        warnings.showwarning = _show
        with grid_tolerance(tolerance), limit_blas():
            _compute(context, wanted)


if __name__ == "__main__":
    main()
