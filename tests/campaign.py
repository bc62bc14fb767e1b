"""What the tests of the campaign share: their sizes, their table, and a limit on time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

MUTATIONS = int(os.environ.get("BRAINMAP_CAMPAIGN_MUTATIONS", "500"))  # of each format
KILLS = int(os.environ.get("BRAINMAP_CAMPAIGN_KILLS", "6"))  # of each command
_TABLE = os.environ.get("BRAINMAP_CAMPAIGN_TABLE")


def record(what: str, **counts: float) -> None:
    """Add a row to the table that `make campaign` prints."""
    if _TABLE:
        with Path(_TABLE).open("a", encoding="utf-8") as file:
            file.write(f"{what:<34} " + ", ".join(f"{value:g} {name}" for name, value in counts.items()) + "\n")


class TooLong(BaseException):
    """Something hangs; no `except Exception` swallows it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TooLong` where the block takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
