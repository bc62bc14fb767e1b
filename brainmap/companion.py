"""Run a module of brainmap in a second process beside this one; what they say to each other are pickled values."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from typing import Any, BinaryIO


class Companion(ABC):
    """Hold a second process, and a thread of this one that talks to it.

    A process that fails or is killed leaves its work to this one, where an error is raised as if there were no other.

    Parameters
    ----------
    module : str
        The module that it runs, which begins with `open_line`.
    **environment
        Variables that it has beside those of this process.
    """

    def __init__(self, module: str, **environment: str) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, **environment},
        )
        self._thread = threading.Thread(target=self._talk_until_it_ends, daemon=True)
        self._thread.start()

    @abstractmethod
    def _talk(self) -> None:
        """Talk to the process, in the thread."""

    def _talk_until_it_ends(self) -> None:
        with contextlib.suppress(OSError, EOFError, pickle.PickleError, AttributeError, TypeError):
            self._talk()

    def _say(self, content: bytes | memoryview) -> None:
        """Send a pickled value."""
        asked = self._process.stdin
        assert asked is not None
        asked.write(content)
        asked.flush()

    def _hear(self) -> Any:
        """Return the next value that the process says."""
        told = self._process.stdout
        assert told is not None
        return pickle.load(told)

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._thread.join()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what it was not told yet cannot be told
                if pipe is not None:
                    pipe.close()


def open_line() -> tuple[BinaryIO, BinaryIO]:
    """Return where a second process hears and where it answers; what a library prints goes to where errors go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return asked, told
