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
from brainmap.study.parallel.beside import Beside, explain_beside, start_spare
from brainmap.study.results.context import Context
from brainmap.study.results.notices import ELSEWHERE, collect_notices
from brainmap.study.run import run_study
from brainmap.study.settings.study import load_study
from brainmap.study.stages import costs
from brainmap.study.stages.explain import (
    _take_patterns,
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
    monkeypatch.setattr(costs, "ENOUGH_STEPS", 1)
    monkeypatch.setattr(beside, "count_threads", lambda *_: 2)
    monkeypatch.setattr(beside, "find_available_memory", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", COMMAND)
    monkeypatch.setattr(brainmap.viz.page.write, "write_report", lambda _, path, **__: _write_stand_in(path))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Beside]:
    """The processes that were started."""
    found: list[Beside] = []
    begin = Beside.begin

    def noted(self: Beside, context: Context, *, early: bool) -> None:
        begin(self, context, early=early)
        assert early  # no participant is compared yet
        found.append(self)

    monkeypatch.setattr(Beside, "begin", noted)
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
def test_patterns_of_layers_that_this_process_found_are_those_of_the_other(
    tiny_study: Any, tiny_results: Any, started: list[Beside], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    give = Beside.give

    def noted(self: Beside, patterns: dict[Any, Any]) -> None:
        given.extend(layer for layer, *_ in patterns)
        give(self, patterns)

    monkeypatch.setattr(Beside, "give", noted)
    monkeypatch.setattr(Beside, "climbs_classes", property(lambda _: True, lambda *_: None), raising=False)
    context = Context(load_study(tiny_study.file))
    run_study(context)
    assert len(started) == 1
    assert given
    assert "output" not in given
    assert set(context.computed) >= STAGES
    assert tiny_study.files() == tiny_results.files()


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
        one = Beside()
        one.begin(context, early=False)
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
        assert str(_take_patterns(context, "output", range(2), 0)) == "pattern 0"
        assert _take_patterns(context, "output", range(2), 0) is None  # they are taken once
        assert _take_patterns(context, "output", range(1), 0) is None
    assert lines == ["pattern 1 is odd"]


def test_there_is_none_where_it_would_not_save_time(tiny_study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "Beside", _refuse)
    context = Context(load_study(tiny_study.file))
    for alone in (replace(context, threads=2), replace(context, shared=True), replace(context, backend="dask")):
        with explain_beside(alone) as found:
            assert found is None
    for module, name, value in (
        (beside, "count_threads", lambda *_: 1),
        (beside, "find_available_memory", lambda: 1 << 30),
        (costs, "ENOUGH_STEPS", 5),  # two classes in two steps
    ):
        with monkeypatch.context() as scarce:
            scarce.setattr(module, name, value)
            with explain_beside(context) as found:
                assert found is None
    with pytest.raises(AssertionError, match="a process"), explain_beside(context):
        pass


@pytest.mark.usefixtures("unheard")
def test_a_process_that_was_started_before_is_taken(
    tiny_study: Any, monkeypatch: pytest.MonkeyPatch, started: list[Beside]
) -> None:
    with start_spare() as spare:
        assert spare is not None
        monkeypatch.setattr(beside, "Beside", _refuse)
        with explain_beside(Context(load_study(tiny_study.file)), spare) as found:
            assert found is spare
            assert started == [spare]
            assert spare.is_running
        assert spare.is_running  # it ends with the block in which it was started
    assert not spare.is_running


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("a process")


def test_a_system_that_refuses_another_process_has_none(tiny_study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    context = Context(load_study(tiny_study.file))
    monkeypatch.setattr("subprocess.Popen", refuse)
    with explain_beside(context) as found:
        assert found is None


def test_warnings_of_another_process_are_no_notices_of_this_one() -> None:
    log = logging.getLogger("brainmap")
    with collect_notices() as lines:
        log.warning("note: heard elsewhere", extra={ELSEWHERE: True})
        log.warning("note: heard here")
    assert lines == ["heard here"]
