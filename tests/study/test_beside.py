"""Layers are explained in a second process with the results of one, and its failure costs nothing but time."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import brainmap.viz.page.write
from brainmap.errors import BrainmapWarning
from brainmap.study.parallel import beside
from brainmap.study.parallel.beside import Beside, explain_beside
from brainmap.study.results.context import Context
from brainmap.study.results.notices import ELSEWHERE, collect_notices
from brainmap.study.run import run_study
from brainmap.study.settings.study import load_study
from brainmap.study.stages.explain import (
    _take_class_patterns,
    choose_class_priors,
    find_class_patterns,
    plan_explain,
)
from brainmap.study.stages.networks import load_heard_network, run_networks
from tests.conftest import COMMAND

STAGES = {"explain_cam", "explain_maximization"}


@pytest.fixture(autouse=True)
def two_idle_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine where a second process is worth its imports; its answers are kept in a folder of the test."""
    monkeypatch.setattr(beside, "_ENOUGH", 1)
    monkeypatch.setattr(beside, "count_threads", lambda *_: 2)
    monkeypatch.setattr(beside, "find_available_memory", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", COMMAND)
    monkeypatch.setattr(brainmap.viz.page.write, "write_report", lambda _, path, **__: _write_stand_in(path))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Beside]:
    """The processes that were started."""
    found: list[Beside] = []
    begin = Beside.__init__

    def noted(self: Beside, *given: Any, **how: Any) -> None:
        begin(self, *given, **how)
        assert how == {"early": True}  # no participant is compared yet
        found.append(self)

    monkeypatch.setattr(Beside, "__init__", noted)
    return found


@pytest.fixture
def unheard() -> Iterator[None]:
    """An untrained network has units that never speak."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        yield


def _write_stand_in(path: Path) -> Path:
    path.write_text("the page")
    return path


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.usefixtures("unheard")
def test_results_of_a_second_process_are_those_of_one(
    tiny_study: Any, tiny_results: Any, started: list[Beside], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("computed in this process")

    for name in ("_compute_cams", "_maximize_network"):
        monkeypatch.setattr(f"brainmap.study.stages.explain.{name}", refuse)
    context = Context(load_study(tiny_study.file))
    run_study(context)
    assert len(started) == 1
    assert set(context.computed) >= STAGES
    assert not STAGES & set(context.idle)
    assert tiny_study.files() == tiny_results.files()
    run_study(again := Context(load_study(tiny_study.file)))
    assert len(started) == 1  # nothing is left to explain
    assert set(again.idle) >= STAGES


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.usefixtures("unheard")
def test_a_process_that_is_killed_leaves_its_stages_to_this_one(
    tiny_study: Any, tiny_results: Any, started: list[Beside], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Beside.finish

    def killed(self: Beside) -> None:
        self._process.kill()
        finish(self)

    monkeypatch.setattr(Beside, "finish", killed)
    context = Context(load_study(tiny_study.file))
    run_study(context)
    assert len(started) == 1
    assert set(context.computed) >= STAGES
    assert tiny_study.files() == tiny_results.files()


@pytest.mark.slow
@pytest.mark.usefixtures("unheard")
def test_it_ends_with_this_process_and_says_what_it_does(tiny_study: Any, caplog: pytest.LogCaptureFixture) -> None:
    tiny_study.edit(("steps = 2", "steps = 1000000"))
    context = Context(load_study(tiny_study.file))
    with caplog.at_level(logging.INFO, logger="brainmap"):
        plan = plan_explain(context, run_networks(context))
        one = Beside(context)
        one.compute(plan)
        assert one._process.stdin is not None
        while one.is_running and "maximizing" not in caplog.text:
            one._thread.join(0.1)
        one._process.stdin.close()  # as the system does when this process is killed
        assert one._process.wait(20) == 1
        one.end()
    assert "explain: cam: done in" in caplog.text
    assert one._done == ["explain_cam"]


def test_patterns_of_classes_that_were_found_early_are_taken_with_their_warnings(
    tiny_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(load_study(tiny_study.file))
    loaded = load_heard_network(context, context.study.settings.network[0])
    found: list[str] = []

    def climb(*given: Any, **how: Any) -> str:
        found.append(f"pattern {len(found)}")
        log.warning("note: pattern %d is odd", len(found))
        return found[-1]

    log = logging.getLogger("brainmap")
    monkeypatch.setattr("brainmap.features.maximization.maximize.maximize_activation", climb)
    find_class_patterns(context, loaded)
    assert len(found) == len(choose_class_priors(context, loaded)) > 0
    with collect_notices() as lines:
        assert str(_take_class_patterns(context, range(2), 0)) == "pattern 0"
        assert _take_class_patterns(context, range(2), 0) is None  # they are taken once
        assert _take_class_patterns(context, range(1), 0) is None
    assert lines == ["pattern 1 is odd"]


def test_there_is_none_where_it_would_not_save_time(tiny_study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "Beside", _refuse)
    monkeypatch.setattr(beside, "yield_people", lambda _: iter(()))
    context = Context(load_study(tiny_study.file))
    loaded = {"net": load_heard_network(context, context.study.settings.network[0])}
    for alone in (replace(context, threads=2), replace(context, shared=True), replace(context, backend="dask")):
        with explain_beside(alone, loaded) as found:
            assert found is None
    for name, value in (
        ("count_threads", lambda *_: 1),
        ("find_available_memory", lambda: 1 << 30),
        ("_ENOUGH", 5),  # two classes in two steps
    ):
        with monkeypatch.context() as scarce:
            scarce.setattr(beside, name, value)
            with explain_beside(context, loaded) as found:
                assert found is None
    with pytest.raises(AssertionError, match="a process"), explain_beside(context, loaded):
        pass


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("a process")


def test_a_system_that_refuses_another_process_has_none(tiny_study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    context = Context(load_study(tiny_study.file))
    loaded = {"net": load_heard_network(context, context.study.settings.network[0])}
    monkeypatch.setattr(beside, "yield_people", lambda _: iter(()))
    monkeypatch.setattr("subprocess.Popen", refuse)
    with explain_beside(context, loaded) as found:
        assert found is None


def test_warnings_of_another_process_are_no_notices_of_this_one() -> None:
    log = logging.getLogger("brainmap")
    with collect_notices() as lines:
        log.warning("note: heard elsewhere", extra={ELSEWHERE: True})
        log.warning("note: heard here")
    assert lines == ["heard here"]
