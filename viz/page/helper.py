"""Draw figures in a second process, which imports what draws while this one reads what is drawn.

matplotlib draws one figure at a time in a process, so that the figures of a page would keep one core busy and leave the
others idle. The helper draws with the same code, settings and content, and gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

import matplotlib as mpl
import numpy as np

from brainmap.viz.page.drawings import Drawing, render


class Helper:
    """Hold a process that draws figures beside this one; it ends with the block, and draws nothing without a task.

    Figures are handed over by `offer`, in whose order the helper draws them. `take` gives back the last one that is not
    drawn yet, so that this process and the helper meet in the middle. A helper that fails or is killed leaves its
    figures to this process, where an error is raised as if there were no helper.
    """

    def __init__(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        )
        every = dict.items(mpl.rcParams)  # asking for the backend would import one
        self._settings = {key: value for key, value in every if "backend" not in key}
        self._waiting: deque[Drawing] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._hand_over, daemon=True)
        self._thread.start()

    def offer(self, drawing: Drawing) -> None:
        """Hand over a figure to be drawn by whoever is free first."""
        with self._changed:
            self._waiting.append(drawing)
            self._changed.notify()

    def take(self) -> Drawing | None:
        """Take back the last figure that the helper has not begun; None where there is none."""
        with self._changed:
            return self._waiting.pop() if self._waiting else None

    def finish(self) -> None:
        """Wait for the figure that the helper draws."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.finish()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what it was not told yet cannot be told
                if pipe is not None:
                    pipe.close()

    def _next(self) -> Drawing | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting and not self._ended else None

    def _hand_over(self) -> None:
        """Hand figures over, one after another, as long as the helper answers."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        try:
            _send(asked, self._settings)
            while (drawing := self._next()) is not None:
                _send(asked, (drawing.plot, drawing.painted))
                drawing.rendered = pickle.load(told)
        except (OSError, EOFError, pickle.PickleError, AttributeError, TypeError):
            pass  # this process draws what is left, and raises what is wrong with a figure


def start_helper() -> AbstractContextManager[Helper | None]:
    """Start a helper; there is none where the system refuses another process."""
    try:
        return Helper()
    except OSError:
        return nullcontext()


class _Pickler(pickle.Pickler):
    """Send an image as its values and its place, which is all that figures show; its own way changes their type."""

    def reducer_override(self, value: Any) -> Any:
        if hasattr(value, "dataobj") and hasattr(value, "affine") and not isinstance(value, type):
            return _build_image, (type(value), np.asarray(value.dataobj), np.asarray(value.affine))
        return NotImplemented


def _build_image(kind: type[Any], values: Any, affine: Any) -> Any:
    return kind(values, affine)


def _send(pipe: BinaryIO | Any, value: object) -> None:
    out = io.BytesIO()
    _Pickler(out, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    pipe.write(out.getbuffer())
    pipe.flush()


def main() -> None:
    """Draw what is asked for until the asking process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints would be no answer
    with contextlib.suppress(Exception):  # whoever asked then draws the figure, and raises what is wrong with it
        import brainmap.viz.rsa.profiles  # while there is nothing to draw
        import brainmap.viz.rsa.rdms
        import brainmap.viz.rsa.volume  # noqa: F401

        dict.update(mpl.rcParams, pickle.load(asked))
        while True:
            plot, painted = pickle.load(asked)
            pickle.dump(render(plot, painted=painted), told, protocol=pickle.HIGHEST_PROTOCOL)
            told.flush()


if __name__ == "__main__":
    main()
