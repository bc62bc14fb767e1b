"""Collect what the library says while it computes, so that a page can show it beside the result."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from brainmap.errors import BrainmapWarning
from brainmap.progress import log
from brainmap.study.results.notices import collect_notices


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
    level = log.level
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(record=True), collect_notices(logging.INFO) as notes:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", BrainmapWarning)
            yield notes
    finally:
        log.setLevel(level)
