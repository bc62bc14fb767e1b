"""Collect what the library says while it computes, so that a page can show it beside the result."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from brainmap.errors import BrainmapWarning

log = logging.getLogger("brainmap")


class _Kept(logging.Handler):
    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.INFO)
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self.notes.append(record.getMessage().removeprefix("note: "))


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Collect the warnings and log lines of brainmap in a block.

    Examples
    --------
    >>> with collect_notes() as notes:
    ...     warnings.warn("one sound is silent", BrainmapWarning)
    ...     log.warning("note: the softmax is taken off")
    >>> sorted(notes)
    ['one sound is silent', 'the softmax is taken off']
    """
    notes: list[str] = []
    handler, level = _Kept(notes), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", BrainmapWarning)
            yield notes
        notes += [str(one.message) for one in caught]
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
