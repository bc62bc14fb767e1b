"""Progress on a terminal: bars inside bars share one display, and leave none behind."""

from __future__ import annotations

import io
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
