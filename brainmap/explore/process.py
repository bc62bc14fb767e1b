"""Run the computing process of the explorer: read questions from stdin, and answer them one after another.

It ends when stdin does and takes the sounds that were sent with it, so that nothing is left where the server was
killed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from brainmap.companion import open_line
from brainmap.errors import BrainmapError, InputError, is_scarce_memory
from brainmap.explore.messages import JSON, encode_json, pack_message, read_message
from brainmap.explore.notes import collect_notes
from brainmap.progress import follow_progress, log

_OFTEN = 0.2  # s between two times that memory is given back while a job runs, so that its parts do not add up


class StoppedError(Exception):
    """Report that the page no longer wants what is computed."""


class Line:
    """Hold both ends of the line to the server.

    What a library prints goes to the terminal, since it would be no message.
    """

    def __init__(self) -> None:
        self.questions: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.unwanted: set[int] = set()
        self._in, self._out = open_line()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self._lock = threading.Lock()
        self._folder = ""  # of the sounds that were sent

    def listen(self) -> None:
        """Read messages until the server ends, and then end this process whatever it does."""
        while (message := read_message(self._in)) is not None:
            header, _ = message
            if "stop" in header:
                self.unwanted.add(int(header["stop"]))
            elif "folder" in header:
                self._folder = header["folder"]
            else:
                self.questions.put(header)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(0)

    def say(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send a message to the server."""
        with self._lock:
            self._out.write(pack_message(header, body))
            self._out.flush()


def main() -> None:
    """Answer questions until the server ends."""
    line = Line()
    threading.Thread(target=line.listen, daemon=True).start()
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.WARNING)
    opening = line.questions.get()["opening"]
    try:
        from brainmap.explore.commands import run_command
        from brainmap.explore.sources import open_source

        source = open_source(**opening)
    except BrainmapError as error:
        line.say({"failed": str(error)})
        return
    line.say({"ready": True})
    working = threading.Event()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        threading.Thread(target=_give_memory_back, args=(working, partial(trim, 0)), daemon=True).start()
    while True:
        question = line.questions.get()
        working.set()
        line.say(*_answer(line, question, partial(run_command, source, question["command"], question["arguments"])))
        working.clear()


def _give_memory_back(working: threading.Event, trim: Callable[[], object]) -> None:
    """Have the C library return what is free to the system while a job runs, and once behind it (glibc)."""
    while working.wait():
        time.sleep(_OFTEN)
        trim()


def _answer(line: Line, question: dict[str, Any], compute: Callable[[], Any]) -> tuple[dict[str, Any], bytes]:
    """Compute an answer; a mistake of the user's has status 422, a failed computation 500."""
    number = int(question["id"])

    def told(label: str, done: int, total: int) -> None:
        if number in line.unwanted:
            raise StoppedError
        line.say({"id": number, "label": label, "done": done, "total": total})

    try:
        with follow_progress(told), collect_notes() as notes:
            found = compute()
        if isinstance(found, tuple):
            return {"id": number, "media": found[1]}, found[0]
        noted = list(dict.fromkeys([*found.get("notes", ()), *notes]))
        return {"id": number, "media": JSON}, encode_json({**found, "notes": noted})
    except StoppedError:
        return {"id": number, "error": "Stopped.", "status": 410}, b""
    except InputError as error:
        return {"id": number, "error": str(error), "status": 422}, b""
    except BrainmapError as error:
        return {"id": number, "error": str(error), "status": 500}, b""
    except Exception as error:
        if is_scarce_memory(error):
            said = "There is not enough memory for this; close other programs, or take a smaller network."
        else:
            traceback.print_exc()
            said = f"{type(error).__name__}: {error} (the terminal has the details)"
        return {"id": number, "error": said, "status": 500}, b""
    finally:
        line.unwanted.discard(number)


if __name__ == "__main__":
    main()
