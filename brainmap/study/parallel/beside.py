"""Explain layers in a second process, while this one compares brains, maps noise ceilings and draws a first page.

What explains layers needs only the network, its sounds and the best layers; patterns of classes do not even need these,
and are found while activations are extracted and participants are compared. All is computed by the same code with the
same settings, into the same ledger, so that results are equal. A process that fails or is killed leaves its stages to
this one, where an error is raised as if there were no second process.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from brainmap.checks import count_threads
from brainmap.companion import Companion
from brainmap.errors import BrainmapWarning
from brainmap.progress import log
from brainmap.resources import find_available_memory

if TYPE_CHECKING:  # a process is started before these are imported, which takes seconds
    from brainmap.study.results.context import Context
    from brainmap.study.stages.explain import Explaining

STAGE = "explain_maximization"
_MEMORY = 3 << 30  # bytes that must be available for it
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}  # of glibc


class Beside(Companion):
    """Hold a process that computes stages beside this one, once it knows the study and `compute` names them.

    It imports what it needs while it waits. Its allocator keeps the memory that is freed: each step of an ascent
    allocates the maps of the network again, and pages that were given back to the system are cleared before they are
    given again.
    """

    def __init__(self) -> None:
        self.climbs_classes = False
        """Whether it still finds patterns of classes; patterns of layers are then welcome."""
        self._computed: list[str] = []
        self._done: list[str] = []
        self._warned: list[str] = []
        super().__init__("brainmap.study.parallel.explainer", **_KEEP_MEMORY)

    def begin(self, context: Context, *, early: bool) -> None:
        """Tell it the study; `early`, it begins with the patterns of classes, on half of the cores."""
        from brainmap.rsa.images.files import get_grid_tolerance

        self._computed, self.climbs_classes = context.computed, early
        self._send((sys.argv, log.getEffectiveLevel(), get_grid_tolerance(), context.to_send(), early))

    def compute(self, stages: Sequence[Explaining]) -> None:
        """Let it compute stages: it plans them by itself, and computes those of the same names and keys."""
        self._send(("stages", {one.name: one.key for one in stages}))

    def give(self, patterns: dict[Any, Any]) -> None:
        """Give it patterns of layers, which it then need not find."""
        self._send(("patterns", dict(patterns)))

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
        self._computed.extend(self._done)
        self._done.clear()

    def _send(self, value: object) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self._say(pickle.dumps(value))

    def _talk(self) -> None:
        """Hear what the process says; its line stays open, because it ends with this one."""
        from brainmap.study.results.notices import ELSEWHERE

        while True:
            kind, value = self._hear()
            if kind == "log":
                log.log(*value, extra={ELSEWHERE: True})
            elif kind == "warning":
                self._warned.append(value)
            elif kind == "classes":
                self.climbs_classes = False
            else:
                self._done.append(value)


@contextmanager
def start_spare() -> Iterator[Beside | None]:
    """Start a second process that imports what it needs before there is a study; it ends with the block.

    There is none where there is one core, memory is scarce, or the system refuses one.
    """
    memory = find_available_memory()
    alone = count_threads(None, "explain") < 2 or (memory is not None and memory < _MEMORY)
    try:
        spare = None if alone else Beside()
    except OSError:
        spare = None
    try:
        yield spare
    finally:
        if spare is not None:
            spare.end()


@contextmanager
def explain_beside(context: Context, spare: Beside | None = None) -> Iterator[Beside | None]:
    """Explain layers beside what is done within the block, where this saves time; it ends with the block.

    There is no second process where few steps are left or the layers were explained before, where the number of threads
    was asked for, where networks run on a GPU or results are shared with other processes, where memory is scarce, or
    where the system refuses one. It begins with the patterns of classes where participants are not compared yet. One
    that was started before, a `spare`, is taken.
    """
    from brainmap.study.stages.costs import ENOUGH_STEPS
    from brainmap.study.stages.explain import count_class_steps

    done = () if context.overwrite else context.ledger.stages()
    alone = (
        context.study.settings.explain is None
        or STAGE in done
        or context.shared
        or context.backend != "threads"
        or context.threads is not None
        or context.device != "cpu"
        or count_class_steps(context) < ENOUGH_STEPS
    )
    early = any(f"sub-{person.label}_rois" not in done for person in context.study.participants())
    with nullcontext() if alone else start_spare() if spare is None else nullcontext(spare) as beside:
        if beside is not None:
            beside.begin(context, early=early)
        yield beside
