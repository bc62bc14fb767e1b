"""Keep the process that decodes and computes: one job at a time, with progress, that can be stopped and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from brainmap.explore.messages import JSON, pack_message, receive_message
from brainmap.progress import log

PATIENCE = 1.0  # s in which a job that is stopped may end by itself; then its process is killed
SUPERSEDED = 204  # the status of a job that gave its turn to a newer one, for which nobody waits
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "2000000", "MALLOC_TRIM_THRESHOLD_": "8388608"}
"""Have glibc give large tensors back to the system, which saves 200 MB after activations of all sounds."""
_MOST_DEATHS = 3  # deaths in a row before the process was ready once


class AskError(Exception):
    """Report why a job gave no result, with the HTTP status that says so."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(eq=False)
class Job:
    """Hold one question of a page.

    Attributes
    ----------
    slot : str
        Place on a page that the answer fills; a newer question for the same place takes this one's turn.
    done, total, label
        Progress, as the computing process says it; total is 0 where nothing was said.
    """

    id: int
    command: str
    arguments: Mapping[str, Any]
    slot: str
    answer: asyncio.Future[tuple[bytes, str]]
    since: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    label: str = ""
    stopped: int = 0  # status to give where the job was stopped

    def fail(self, message: str, status: int) -> None:
        """End the job without a result."""
        if not self.answer.done():
            self.answer.set_exception(AskError(message, status))


class Worker:
    """Keep one computing process, and start another where it ends.

    Parameters
    ----------
    opening : mapping
        What is explored, as `brainmap.explore.sources.open_source` takes it.

    Attributes
    ----------
    folder : str
        Folder of the sounds that were sent; the process removes it where the server is killed.
    """

    def __init__(self, opening: Mapping[str, Any]) -> None:
        self.opening = dict(opening)
        self.folder = ""
        self.state = "loading"
        self.problem = ""
        self._numbers = itertools.count(1)
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._killers: set[asyncio.Task[None]] = set()
        self._deaths = 0

    @property
    def process_id(self) -> int | None:
        """Return the number of the computing process."""
        return None if self._process is None else self._process.pid

    def remember_upload(self, path: str, name: str) -> None:
        """Have a process that replaces this one know a sound that was sent."""
        self.opening.setdefault("uploads", []).append((path, name))

    def start(self) -> None:
        """Start the process, and replace it whenever it ends."""
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End the process, and with it all jobs."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for job in (*self._waiting, *filter(None, [self._running])):
            job.fail("The explorer is closing.", 503)

    async def ask(self, command: str, arguments: Mapping[str, Any], *, slot: str = "") -> tuple[bytes, str]:
        """Compute a command, and return its body and media type.

        Raises
        ------
        AskError
            The command was refused, failed, was stopped, or gave its turn to a newer one for the same slot.
        """
        if self.state == "failed":
            raise AskError(self.problem, 500)
        if slot:
            for job in [job for job in self._waiting if job.slot == slot]:
                self._waiting.remove(job)
                job.fail("A newer question has taken the turn of this one.", SUPERSEDED)
            if self._running is not None and self._running.slot == slot:
                self._tell_to_stop(self._running, SUPERSEDED)
        answer: asyncio.Future[tuple[bytes, str]] = asyncio.get_running_loop().create_future()
        job = Job(next(self._numbers), command, arguments, slot, answer)
        self._waiting.append(job)
        self._send_next()
        return await answer

    def stop(self, number: int) -> bool:
        """Stop a job; where it does not end at once, its process is killed and replaced. Tell whether there is one."""
        for job in list(self._waiting):
            if job.id == number:
                self._waiting.remove(job)
                job.fail("Stopped.", 410)
                return True
        if self._running is None or self._running.id != number:
            return False
        self._tell_to_stop(self._running, 410)
        task = asyncio.create_task(self._kill_after(self._running, PATIENCE))
        self._killers.add(task)
        task.add_done_callback(self._killers.discard)
        return True

    def describe(self) -> dict[str, Any]:
        """Describe the state of the process and its jobs, as plain values."""
        jobs = [*filter(None, [self._running]), *self._waiting]
        now = time.monotonic()
        return {
            "state": self.state,
            "problem": self.problem,
            "jobs": [
                {
                    "id": job.id,
                    "command": job.command,
                    "slot": job.slot,
                    "running": job is self._running,
                    "seconds": round(now - job.since, 1),
                    "done": job.done,
                    "total": job.total,
                    "label": job.label,
                }
                for job in jobs
            ],
        }

    def _tell_to_stop(self, job: Job, status: int) -> None:
        job.stopped = status
        self._write({"stop": job.id})

    async def _kill_after(self, job: Job, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._running is job and self._process is not None:
            log.info("explore: %s did not stop by itself; the computing process is replaced", job.command)
            self._process.kill()

    def _write(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(pack_message(header, body))

    def _send_next(self) -> None:
        if self.state == "ready" and self._running is None and self._waiting:
            self._running = job = self._waiting.popleft()
            self._write({"id": job.id, "command": job.command, "arguments": dict(job.arguments)})

    async def _keep(self) -> None:
        try:
            while self.state != "failed":
                await self._live_once()
        finally:
            await self._end_process()

    async def _live_once(self) -> None:
        """Start a process, and pass on what it says until it ends."""
        self.state = "loading"
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "brainmap.explore.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=ENVIRONMENT | os.environ | {"MPLBACKEND": "agg"},
            start_new_session=True,  # Ctrl-C in the terminal is for the server, which ends this process
        )
        self._write({"folder": self.folder})
        self._write({"opening": self.opening})
        assert process.stdout is not None
        while (message := await receive_message(process.stdout)) is not None:
            self._take(*message)
        await process.wait()
        job, self._running = self._running, None
        if self.state == "loading":
            self._deaths += 1
        if job is not None:
            how = "Stopped." if job.stopped else "The computing process ended, perhaps for want of memory; ask again."
            job.fail(how, job.stopped or 500)
        if self._deaths >= _MOST_DEATHS and self.state != "failed":
            self._give_up("The computing process does not start; the terminal says why.")

    def _take(self, header: dict[str, Any], body: bytes) -> None:
        """Take a message of the process."""
        if "ready" in header:
            self.state, self._deaths = "ready", 0
        elif "failed" in header:
            self._give_up(str(header["failed"]))
        job = self._running
        if job is None or header.get("id") != job.id:
            self._send_next()
            return
        if "total" in header:
            job.done, job.total, job.label = header["done"], header["total"], header["label"]
            return
        self._running = None
        if job.stopped:
            job.fail("Stopped.", job.stopped)
        elif "error" in header:
            job.fail(str(header["error"]), int(header["status"]))
        elif not job.answer.done():
            job.answer.set_result((body, str(header.get("media", JSON))))
        self._send_next()

    def _give_up(self, why: str) -> None:
        self.state, self.problem = "failed", why
        for job in self._waiting:
            job.fail(why, 500)
        self._waiting.clear()

    async def _end_process(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
