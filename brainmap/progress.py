"""Show the progress of long work: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Protocol

log = logging.getLogger("brainmap")


class Progress(Protocol):
    """Receive the number of finished steps of long work."""

    def advance(self, steps: int = 1, note: str = "") -> None: ...


_LEAST = 3  # steps after the first one that are needed to estimate the speed
_SHARE, _LONG = 0.1, 30.0  # share of the work, or seconds, after which the speed is likely to be stable
_SHORT = 2.0  # s


class _Clock:
    """Estimate the time left from the speed of this run, once enough steps are done.

    The first step does not count, because it includes imports, compilation and the start of all threads.
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.before = total, done, done
        self.first: tuple[float, int] | None = None

    def advance(self, steps: int) -> None:
        """Count finished steps."""
        self.done += steps
        if self.first is None:
            self.first = time.monotonic(), self.done

    def left(self) -> float | None:
        """Return the seconds left, or None while too few steps are done."""
        if self.first is None:
            return None
        elapsed, steps = time.monotonic() - self.first[0], self.done - self.first[1]
        share = (self.done - self.before) / max(1, self.total - self.before)
        if steps < _LEAST or elapsed < _SHORT or (share < _SHARE and elapsed < _LONG):
            return None
        return elapsed / steps * max(0, self.total - self.done)


class _Lines:
    """Write plain log lines, at most one every `every` seconds, with the time left once it can be estimated."""

    def __init__(self, description: str, total: int, every: float, done: int) -> None:
        self.description, self.total, self.every = description, total, every
        self.clock = _Clock(total, done)
        self.last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.clock.advance(steps)
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        left = self.clock.left()
        about = "" if left is None or self.clock.done >= self.total else f", about {float(f'{left:.2g}'):.0f} s left"
        more = f" ({note})" if note else ""
        log.info("%s: %d of %d%s%s", self.description, self.clock.done, self.total, about, more)


class _Bar:
    """Show the progress as one row of a display."""

    def __init__(self, display: Any, description: str, total: int, done: int) -> None:
        self.display, self.clock = display, _Clock(total, done)
        self.task = display.add_task(description, total=total, completed=done, note="", clock=self.clock)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.clock.advance(steps)
        self.display.update(self.task, advance=steps, note=note)

    def remove(self) -> None:
        self.display.remove_task(self.task)


class _Told:
    """Tell a program that follows the work."""

    def __init__(self, told: Callable[[str, int, int], None], description: str, total: int, done: int) -> None:
        self.told, self.description, self.total, self.done = told, description, total, done
        told(description, done, total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.told(self.description, self.done, self.total)


_follower: ContextVar[Callable[[str, int, int], None] | None] = ContextVar("follower", default=None)


@contextmanager
def follow_progress(told: Callable[[str, int, int], None]) -> Iterator[None]:
    """Call `told(description, done, total)` at the beginning and after each step of long work inside the block.

    Bars and lines are then not shown. An exception that `told` raises ends the work.

    Examples
    --------
    >>> with follow_progress(lambda *said: print(said)), progress("counting", total=2) as step:
    ...     step.advance()
    ('counting', 0, 2)
    ('counting', 1, 2)
    """
    token = _follower.set(told)
    try:
        yield
    finally:
        _follower.reset(token)


# A terminal has one live display, so work inside other work adds a row to it.
_shown: ContextVar[Any] = ContextVar("shown", default=None)


def _make_display() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as RichProgress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """Show the time left, once it can be estimated."""

        max_refresh = 0.5  # s

        def render(self, task: Task) -> Text:
            """Render the time as h:mm:ss."""
            left = task.fields["clock"].left()
            text = "-:--:--" if left is None else str(timedelta(seconds=round(left)))
            return Text(text, style="progress.remaining")

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(),
        TextColumn("{task.fields[note]}"),
        console=Console(file=sys.stderr),
        transient=True,
    )


@contextmanager
def progress(description: str, total: int, every: float = 3.0, *, done: int = 0) -> Iterator[Progress]:
    """Show the progress of long work: a bar if stderr is a terminal, else a log line every `every` seconds.

    `done` is the number of steps that an earlier run has finished. Work inside other work has its own bar below.

    Examples
    --------
    >>> with progress("counting", total=3) as step:
    ...     for _ in range(3):
    ...         step.advance()
    """
    told = _follower.get()
    if told is not None:
        yield _Told(told, description, total, done)
        return
    if not sys.stderr.isatty():
        yield _Lines(description, total, every, done)
        return
    outer = _shown.get()
    if outer is not None:
        row = _Bar(outer, description, total, done)
        try:
            yield row
        finally:
            row.remove()
        return
    with _make_display() as display:
        token = _shown.set(display)
        try:
            yield _Bar(display, description, total, done)
        finally:
            _shown.reset(token)


@contextmanager
def heartbeat(description: str, every: float = 5.0) -> Iterator[None]:
    """Log that work goes on whenever nothing else was logged for `every` seconds.

    Examples
    --------
    >>> with heartbeat("thinking"):
    ...     pass
    """
    if sys.stderr.isatty():  # there, bars show that work goes on
        log.info("%s ...", description)
        yield
        return
    heard, stop, start = _Heard(), threading.Event(), time.monotonic()

    def beat() -> None:
        while not stop.wait(every / 10):
            if time.monotonic() - heard.last >= every:
                log.info("%s: going on, %.0f s", description, time.monotonic() - start)

    thread = threading.Thread(target=beat, daemon=True)
    log.addHandler(heard)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        log.removeHandler(heard)


class _Heard(logging.Handler):
    """Remember when a line was last logged."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.last = time.monotonic()
