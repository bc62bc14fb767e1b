"""Progress on a terminal: bars inside bars share one display, and leave none behind."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest

from brainmap import progress as progress_module
from brainmap.progress import progress


class Terminal(io.StringIO):
    """Takes what is shown, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error from here on: called in the test itself, as pytest sets its own before each phase."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    return made


def test_work_inside_work_takes_a_row_of_the_same_display(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with progress("outer", total=2) as outer:
        display = progress_module._shown.get()
        for _ in range(2):
            with progress("inner", total=3):
                assert [task.description for task in display.tasks] == ["outer", "inner"]
            outer.advance()
        assert [(task.description, task.completed) for task in display.tasks] == [("outer", 2)]
    assert progress_module._shown.get() is None
    assert "outer" in shown.getvalue()


def test_an_error_inside_leaves_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    with pytest.raises(ValueError, match="broken"), progress("outer", total=2), progress("inner", total=2):
        raise ValueError("broken")
    assert progress_module._shown.get() is None
    with progress("again", total=1) as step:
        step.advance()


class Time:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def lines(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    moments: list[float],
    *,
    total: int,
    done: int = 0,
) -> list[str]:
    """The lines of work whose steps end at these moments [s]."""
    clock = Time()
    monkeypatch.setattr(progress_module, "time", clock)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="brainmap"), progress("work", total=total, done=done) as step:
        for moment in moments:
            clock.now = moment
            step.advance()
    return [record.getMessage() for record in caplog.records]


def left(line: str) -> float | None:
    found = re.search(r"about (\d+) s left", line)
    return None if found is None else float(found[1])


def test_the_time_left_is_told_once_it_means_something_and_is_right(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # two threads finish in pairs, 10 s a pair, and the first pair also imports for 20 s
    moments = [30.0 + 10 * (k // 2) + 0.1 * (k % 2) for k in range(24)]
    said = lines(monkeypatch, caplog, moments, total=24)
    assert said[0] == "work: 1 of 24"
    told = {float(moments[int(re.findall(r"(\d+) of", line)[0]) - 1]): left(line) for line in said}
    assert any(left is not None for left in told.values())
    for moment, seconds in told.items():
        if seconds is not None:
            assert abs(seconds - (moments[-1] - moment)) <= 0.25 * (moments[-1] - moment) + 6


def test_the_time_left_waits_for_a_tenth_or_half_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = lines(monkeypatch, caplog, [4.0 * k for k in range(1, 40)], total=1000)
    first = next(k for k, line in enumerate(said) if left(line) is not None)
    assert said[first].startswith("work: 9 of 1000")  # 32 s after the first
    assert left(said[first]) == 4000  # 3964, to two digits
    assert [left(line) for line in lines(monkeypatch, caplog, [5.0, 10.0, 15.0], total=3)] == [None] * 3
    again = lines(monkeypatch, caplog, [5.0 * k for k in range(1, 11)], total=100, done=90)  # 90 were done before
    assert [left(line) for line in again][:5] == [None, None, None, 30, 25]


def test_a_bar_shows_no_time_before_it_means_something(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, clock = terminal(monkeypatch), Time()
    monkeypatch.setattr(progress_module, "time", clock)
    with progress("outer", total=10) as step:
        display = progress_module._shown.get()
        for k in range(1, 6):
            clock.now = 10.0 * k
            step.advance()
            text = display.columns[4].render(display.tasks[0]).plain
            assert text == ["-:--:--", "-:--:--", "-:--:--", "0:01:00", "0:00:50"][k - 1]
    assert "outer" in shown.getvalue()
