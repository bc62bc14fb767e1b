"""One place for the progress of long work: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

log = logging.getLogger("brainmap")
T = TypeVar("T")


class Progress(Protocol):
    """What long work calls when a piece is done."""

    def advance(self, steps: int = 1, note: str = "") -> None: ...


class _Lines:
    """Plain log lines, at most one in `every` seconds, with the time left."""

    def __init__(self, description: str, total: int, every: float) -> None:
        self.description, self.total, self.every = description, total, every
        self.done = 0
        self.start = self.last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        left = (now - self.start) / self.done * (self.total - self.done) if self.done else float("nan")
        log.info("%s: %d of %d, about %.0f s left%s", self.description, self.done, self.total, left,
                 f" ({note})" if note else "")


class _Bar:
    def __init__(self, description: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            console=Console(file=sys.stderr), transient=True,
        )
        self.task = self.bar.add_task(description, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.bar.update(self.task, advance=steps, note=note)


@contextmanager
def progress(description: str, total: int, every: float = 5.0) -> Iterator[Progress]:
    """Show how far long work is: a bar where stderr is a terminal, else a log line each `every` seconds.

    Examples
    --------
    >>> with progress("counting", total=3) as step:
    ...     for _ in range(3):
    ...         step.advance()
    """
    if not sys.stderr.isatty():
        yield _Lines(description, total, every)
        return
    shown = _Bar(description, total)
    with shown.bar:
        yield shown


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Go through `items` and show how far it is."""
    with progress(description, total) as step:
        for item in items:
            yield item
            step.advance()
