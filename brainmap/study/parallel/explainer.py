"""Explain layers in the second process that `beside` starts: hear what is asked, compute it, and say what is done."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import sys
import threading
import warnings
from dataclasses import replace
from importlib import import_module
from queue import SimpleQueue
from typing import Any

from brainmap.checks import count_threads
from brainmap.companion import open_line
from brainmap.errors import BrainmapWarning
from brainmap.progress import log
from brainmap.resources import collect_less
from brainmap.rsa.images.files import grid_tolerance
from brainmap.study.results.context import Context
from brainmap.study.stages.explain import choose_explained, find_class_patterns, plan_explain
from brainmap.study.stages.networks import load_heard_network
from brainmap.threads import limit_blas

_NEEDED = (  # imported while a study is still being written
    "brainmap.features.activations.store",
    "brainmap.features.attribution.cam",
    "brainmap.features.evaluation.judges",
    "brainmap.features.maximization.decoder",
    "brainmap.features.maximization.maximize",
    "brainmap.features.networks.checkpoints",
    "brainmap.features.representations.files",
)


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


def _hear(pipe: Any, context: Context, stages: SimpleQueue[dict[str, str]]) -> None:
    """Hear which stages are wanted and patterns of layers; end this process as soon as the one that asked is gone."""
    with contextlib.suppress(Exception):
        while True:
            kind, value = pickle.load(pipe)
            if kind == "patterns":
                context.patterns.update(value)
            else:
                stages.put(value)
    os._exit(1)


def _show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if _TELLER.keeps and issubclass(category, BrainmapWarning):
        _tell("warning", str(message))


def _compute(context: Context, early: bool, stages: SimpleQueue[dict[str, str]]) -> None:
    version = choose_explained(context)
    loaded = load_heard_network(replace(context, overwrite=False), version.network)  # type: ignore[arg-type]
    if early:
        cores = count_threads(None, "explain")
        find_class_patterns(replace(context, threads=max(1, cores // 2)), loaded)  # the others belong to participants
        _tell("classes", None)
    wanted = stages.get()
    _TELLER.keeps = True
    for one in plan_explain(context, {version.network.name: loaded}):
        if wanted.get(one.name) == one.key:
            context.run_stage(one.name, one.key, one.compute)
            _tell("done", one.name)


@collect_less()
def main() -> None:
    """Compute what is asked for."""
    asked, told = open_line()
    _OUT.append(told)
    sys.stderr = _Lines(os.fdopen(os.dup(2), "wb", buffering=0), write_through=True)
    with contextlib.suppress(Exception):  # whoever asked then computes the stage, and raises what is wrong with it
        for module in _NEEDED:
            import_module(module)
        sys.argv, level, tolerance, context, early = pickle.load(asked)
        stages: SimpleQueue[dict[str, str]] = SimpleQueue()
        threading.Thread(target=_hear, args=(asked, context, stages), daemon=True).start()
        log.setLevel(level)
        log.addHandler(_TELLER)
        log.propagate = False
        warnings.showwarning = _show
        with grid_tolerance(tolerance), limit_blas():
            _compute(context, early, stages)


if __name__ == "__main__":
    main()
