"""What the races share: contenders run in turn, so that a busy moment hits all of them, and progress is said."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from brainmap.progress import progress

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def cpu_seconds(work: Callable[[], T]) -> tuple[float, T]:
    """CPU time of one run, and what it gave."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def in_turn(
    contenders: Mapping[K, Callable[[], Any]],
    rounds: int,
    *,
    fewer: Mapping[K, int] | None = None,
    clock: Callable[[], float] = time.process_time,
) -> dict[K, list[float]]:
    """CPU times of each contender, round by round; a slow peer may run in `fewer` rounds.

    Of several threads some spin while they wait, so that their time is that of another clock.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    most = {name: min(rounds, (fewer or {}).get(name, rounds)) for name in contenders}
    times: dict[K, list[float]] = {name: [] for name in contenders}
    with progress("race", total=sum(most.values())) as step:
        for turn in range(rounds):
            for name, work in contenders.items():
                if turn < most[name]:
                    start = clock()
                    work()
                    times[name].append(clock() - start)
                    step.advance(note=" ".join(map(str, name)) if isinstance(name, tuple) else str(name))
    return times
