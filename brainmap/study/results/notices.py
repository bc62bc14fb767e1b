"""Keep the warnings of each stage beside its ledger, so that the page tells them whenever a stage was computed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from brainmap.errors import BrainmapWarning
from brainmap.progress import log
from brainmap.record import Ledger, atomic

ENDING = ".warnings"
CHECK = "check"
"""The name under which the notes of the check are kept."""
ELSEWHERE = "brainmap_elsewhere"
"""An attribute of what is logged here for another process, which keeps its own warnings."""


class _Listener(logging.Handler):
    """Collect the messages of warnings, each once."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, ELSEWHERE):
            self.add(record.getMessage().removeprefix("note: "))

    def add(self, line: str) -> None:
        """Keep a message on one line."""
        said = " ".join(line.split())
        if said and said not in self.lines:
            self.lines.append(said)


@contextmanager
def collect_notices(level: int = logging.WARNING) -> Iterator[list[str]]:
    """Collect what brainmap warns of, by its log or as a `BrainmapWarning`; both are shown as they are otherwise.

    Lines of the log count from a level on.

    Examples
    --------
    >>> with collect_notices() as lines, warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", BrainmapWarning)
    ...     logging.getLogger("brainmap").warning("two regions are left out")
    >>> lines
    ['two regions are left out']
    """
    listener, before = _Listener(level), warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, BrainmapWarning):
            listener.add(str(message))
        before(message, category, *place, **more)

    log.addHandler(listener)
    warnings.showwarning = show
    try:
        yield listener.lines
    finally:
        log.removeHandler(listener)
        if warnings.showwarning is show:
            warnings.showwarning = before


def keep_notices(ledger: Ledger, stage: str, lines: Sequence[str]) -> None:
    """Write the warnings of a stage; without any, nothing is left of earlier ones."""
    path = ledger.place(stage, ENDING)
    if not lines:
        path.unlink(missing_ok=True)
        return
    if list(lines) == read_notices(ledger, stage):  # a run with nothing to do touches no file
        return
    with atomic(path) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_notices(ledger: Ledger, stage: str) -> list[str]:
    """Read the warnings of a stage; empty where there were none."""
    path = ledger.place(stage, ENDING)
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
