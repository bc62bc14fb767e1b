"""What the tests of the explorer share: a tone, a running server, and waiting for what another process does."""

from __future__ import annotations

import io
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile


def flac(seconds: float = 0.15, rate: int = 16_000, hertz: float = 440.0) -> bytes:
    """A tone as FLAC."""
    out = io.BytesIO()
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(out, wave, rate, format="FLAC")
    return out.getvalue()


@dataclass(frozen=True)
class Running:
    """`brainmap explore` as its own process."""

    process: subprocess.Popen[str]
    address: str
    folder: Path  # of its temporary files

    @property
    def base(self) -> str:
        """The address without the token."""
        return self.address.split("/?")[0]

    def list_children(self) -> list[int]:
        """The processes that it started: the one that computes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in path.read_text().split()]


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def is_listening(address: str) -> bool:
    """Whether a server answers there."""
    host, port = address.split("//")[1].split("/")[0].split(":")
    with socket.socket() as one:
        return one.connect_ex((host, int(port))) == 0


def open_page(address: str) -> bytes:
    """What the first address gives."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(address) as answer:
        found: bytes = answer.read()
        return found
