"""A process that has imported everything once and forks a child for each command: a kill costs no import.

`Forge` is what tests use; the file is also the program that it starts. Programs talk in lines of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 900.0  # [s] after which a command hangs; a demo takes 30 s, and minutes beside other work


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal), what it printed, and its seconds."""

    code: int
    said: str
    seconds: float

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return self.said.rstrip().rpartition("\n")[2]

    def is_clear(self) -> bool:
        """Whether it ended well, or with exit code 1 or 2 and a last line that is no traceback."""
        return self.code == 0 or (
            self.code in (1, 2) and "Traceback" not in self.said and self.last.startswith("brainmap: ")
        )


class Forge:
    """Runs `brainmap` commands in children of a process that has everything imported; libraries take `threads`."""

    def __init__(self, threads: int = 1) -> None:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        env = {
            **os.environ,
            **counts,
            "MPLBACKEND": "agg",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "COLUMNS": "200",
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self._answer()

    def warm(self, folder: Path, *words: object) -> None:
        """Run a command in the process itself, so that compiled kernels and all modules are there for its children."""
        self._ask(do="warm", folder=str(folder), words=[str(w) for w in words])

    def start(self, folder: Path, *words: object, more_bytes: int | None = None) -> int:
        """Start `brainmap WORDS` in a folder and give the child's number; `more_bytes` of memory it may yet take."""
        log = folder.parent / f"{folder.name}.{time.monotonic_ns()}.log"
        return int(
            self._ask(
                do="start", folder=str(folder), words=[str(w) for w in words], log=str(log), more_bytes=more_bytes
            )["pid"]
        )

    def wait(self, child: int, *, seconds: float = LONGEST) -> Ended:
        """Wait for a child and kill it after so many seconds."""
        return Ended(**self._ask(do="wait", pid=child, seconds=seconds))

    def run(self, folder: Path, *words: object, seconds: float = LONGEST, more_bytes: int | None = None) -> Ended:
        """Start a command and wait for it."""
        return self.wait(self.start(folder, *words, more_bytes=more_bytes), seconds=seconds)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the forking process is gone"
        found: dict[str, Any] = json.loads(line)
        return found


def _command(question: dict[str, Any]) -> int:
    """Run a command here and give its exit code."""
    from brainmap.cli import main

    os.chdir(question["folder"])
    sys.argv = ["brainmap", *question["words"]]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _stand_in(content: object, path: Path, **how: object) -> Path:
    """A page without figures, which take longer than all the rest of a tiny study."""
    path.write_text("the page")
    return path


def _child(question: dict[str, Any]) -> None:
    """Become the command; never return."""
    import resource

    log = os.open(question["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((null, 0), (log, 1), (log, 2)):
        os.dup2(here, there)
    code = 1
    try:
        if question["more_bytes"] is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + question["more_bytes"]
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        code = _command(question)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited(pid: int, seconds: float, since: float) -> int:
    """The exit code of a child, killed when its time is over."""
    import signal

    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - since >= seconds:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.005)


def serve() -> None:
    """Import, then answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import brainmap.cli
    import brainmap.features.networks.training
    import brainmap.study.demo
    import brainmap.viz.page.write

    brainmap.cli.load_commands()
    brainmap.viz.page.write.write_report = _stand_in
    started: dict[int, tuple[float, str]] = {}

    def answer(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer(ready=True)
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "start":
            pid = os.fork()
            if pid == 0:
                _child(question)
            started[pid] = time.monotonic(), question["log"]
            answer(pid=pid)
        elif question["do"] == "warm":
            answer(code=_command(question))
        else:
            began, log = started.pop(question["pid"])
            code = _waited(question["pid"], question["seconds"], time.monotonic())
            answer(code=code, said=Path(log).read_text(errors="replace"), seconds=time.monotonic() - began)


if __name__ == "__main__":
    serve()
