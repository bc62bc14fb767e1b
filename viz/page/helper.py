"""Draw figures in a second process, which imports what draws while this one reads what is drawn.

matplotlib draws one figure at a time in a process, so that the figures of a page would keep one core busy and leave the
others idle. The helper draws with the same code, settings and content, and gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import threading
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import matplotlib as mpl
import numpy as np

from brainmap.companion import Companion, open_line
from brainmap.viz.page.drawings import Drawing, render


class Helper(Companion):
    """Hold a process that draws figures beside this one; it ends with the block, and draws nothing without a task.

    Figures are handed over by `offer`, in whose order the helper draws them. `take` gives back the last one that is not
    drawn yet, so that this process and the helper meet in the middle. A helper that fails or is killed leaves its
    figures to this process, where an error is raised as if there were no helper.
    """

    def __init__(self) -> None:
        every = dict.items(mpl.rcParams)  # asking for the backend would import one
        self._settings = {key: value for key, value in every if "backend" not in key}
        self._waiting: deque[Drawing] = deque()
        self._changed = threading.Condition()
        self._ended = False
        super().__init__(__name__, OPENBLAS_NUM_THREADS="1")

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
        self.end()

    def _next(self) -> Drawing | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting and not self._ended else None

    def _talk(self) -> None:
        """Hand figures over, one after another, as long as the helper answers."""
        self._say(_pickle(self._settings))
        while (drawing := self._next()) is not None:
            self._say(_pickle((drawing.plot, drawing.painted)))
            drawing.rendered = self._hear()


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


def _pickle(value: object) -> memoryview:
    out = io.BytesIO()
    _Pickler(out, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return out.getbuffer()


def main() -> None:
    """Draw what is asked for until the asking process ends."""
    asked, told = open_line()
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
