"""What is explored, and `brainmap explore` as its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brainmap.explore.sources import Source, open_source
from tests.explore.running import Running


@pytest.fixture(scope="session")
def opening(tiny_inputs: Any) -> dict[str, Any]:
    """The network and the sounds of the tiny study, without the study."""
    return {
        "checkpoints": [str(tiny_inputs.folder / "net.safetensors")],
        "sounds": str(tiny_inputs.folder / "stimuli.tsv"),
    }


@pytest.fixture(scope="session")
def source(opening: dict[str, Any]) -> Source:
    """What the computing process holds."""
    return open_source(**opening)


def _run_explorers() -> Iterator[Callable[..., Running]]:
    """Start `brainmap explore` on a free port, and end what is left running."""
    started: list[subprocess.Popen[str]] = []
    folder = tempfile.TemporaryDirectory()  # a server that a test kills leaves what was sent to it

    def run(*words: object) -> Running:
        command = [sys.executable, "-m", "brainmap", "explore", *map(str, words), "--port", "0", "--no-browser"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"TMPDIR": folder.name},
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line, line
        return Running(process, line.split()[-1])

    yield run
    for process in started:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    folder.cleanup()


run_explorer = pytest.fixture(_run_explorers)
start_explorer = pytest.fixture(scope="module")(_run_explorers)
