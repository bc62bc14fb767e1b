"""Explain layers in a second process, while this one compares brains, maps noise ceilings and draws a first page.

What explains layers needs only the network, its sounds and the best layers; patterns of classes do not even need these,
and are found while participants are compared. All is computed by the same code with the same settings, into the same
ledger, so that results are equal. A process that fails or is killed leaves its stages to this one, where an error is
raised as if there were no second process.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from brainmap.checks import count_threads
from brainmap.errors import BrainmapWarning
from brainmap.resources import find_available_memory
from brainmap.rsa.images.files import get_grid_tolerance, grid_tolerance
from brainmap.study.results.context import Context
from brainmap.study.results.notices import ELSEWHERE
from brainmap.study.stages.explain import Explaining, choose_explained, find_class_patterns, plan_explain
from brainmap.study.stages.networks import Loaded, class_names, load_heard_network
from brainmap.study.stages.participants import yield_people
from brainmap.threads import limit_blas

log = logging.getLogger("brainmap")
STAGE = "explain_maximization"
_ENOUGH = 2000  # steps of patterns of classes, below which a second process saves less than its imports take
_MEMORY = 3 << 30  # bytes that must be available for it


class Beside:
    """Hold a process that computes stages beside this one, once `compute` names them.

    Parameters
    ----------
    context : Context
    early : bool
        Whether it begins with the patterns of classes, on one thread, before stages are named.
    """

    def __init__(self, context: Context, *, early: bool = False) -> None:
        self._context = context
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
        self._send((sys.argv, log.getEffectiveLevel(), get_grid_tolerance(), context.to_send(), early))

    def compute(self, stages: Sequence[Explaining]) -> None:
        """Let it compute stages: it plans them by itself, and computes those of the same names and keys."""
        self._send({one.name: one.key for one in stages})

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

    def _send(self, value: object) -> None:
        asked = self._process.stdin  # it stays open, because the process ends with this one
        assert asked is not None
        with contextlib.suppress(OSError):  # it has ended
            asked.write(pickle.dumps(value))
            asked.flush()

    def _listen(self) -> None:
        """Hear what the process says until it ends."""
        told = self._process.stdout
        assert told is not None
        try:
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
def explain_beside(context: Context, loaded: Mapping[str, Loaded]) -> Iterator[Beside | None]:
    """Explain layers beside what is done within the block, where this saves time; it ends with the block.

    There is no second process where few steps are left or the layers were explained before, where the number of threads
    was asked for, where networks run on a GPU or results are shared with other processes, where memory is scarce, or
    where the system refuses one.
    """
    memory = find_available_memory()
    alone = (
        _count_steps(context, loaded) < _ENOUGH
        or (not context.overwrite and STAGE in context.ledger.stages())
        or context.shared
        or context.backend != "threads"
        or context.threads is not None
        or count_threads(None, "explain") < 2
        or context.device != "cpu"
        or (memory is not None and memory < _MEMORY)
    )
    try:
        beside = None if alone else Beside(context, early=any(not one.scored for one in yield_people(context)))
    except OSError:
        beside = None
    try:
        yield beside
    finally:
        if beside is not None:
            beside.end()


def _count_steps(context: Context, loaded: Mapping[str, Loaded]) -> int:
    """Count the steps of the patterns of named classes."""
    settings = context.study.settings.explain
    if settings is None:
        return 0
    names, asked = class_names(loaded[choose_explained(context).network.name]) or (), settings.maximization
    return asked.steps * (len(names) if asked.classes == "all" else min(asked.classes, len(names)))


class _Teller(logging.Handler):
    """Tell the asking process what is logged; warnings only once stages are computed, which keep them."""

    keeps = False

    def emit(self, record: logging.LogRecord) -> None:
        if self.keeps or record.levelno < logging.WARNING:
            _tell("log", (record.levelno, "%s", record.getMessage()))


_TELLER = _Teller()


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


def _hear(pipe: Any, stages: SimpleQueue[dict[str, str]]) -> None:
    """Hear which stages are wanted, and end this process as soon as the one that asked is gone."""
    with contextlib.suppress(Exception):
        while True:
            stages.put(pickle.load(pipe))
    os._exit(1)


def _show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if _TELLER.keeps and issubclass(category, BrainmapWarning):
        _tell("warning", str(message))


def _compute(context: Context, early: bool, stages: SimpleQueue[dict[str, str]]) -> None:
    version = choose_explained(context)
    loaded = load_heard_network(replace(context, overwrite=False), version.network)  # type: ignore[arg-type]
    if early:
        find_class_patterns(replace(context, threads=1), loaded)  # the other core belongs to the participants
    wanted = stages.get()
    _TELLER.keeps = True
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
        sys.argv, level, tolerance, context, early = pickle.load(asked)
        stages: SimpleQueue[dict[str, str]] = SimpleQueue()
        threading.Thread(target=_hear, args=(asked, stages), daemon=True).start()
        log.setLevel(level)
        log.addHandler(_TELLER)
        log.propagate = False
        warnings.showwarning = _show
        with grid_tolerance(tolerance), limit_blas():
            _compute(context, early, stages)


if __name__ == "__main__":
    main()
