"""`brainmap explore` as people start and end it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
from brainmap.explore.uploads import remove_remains
from tests.explore.running import Running, flac, is_listening, open_page, wait_until


def words_of(opening: dict[str, Any]) -> list[str]:
    return ["--checkpoint", opening["checkpoints"][0], "--sounds", opening["sounds"]]


def test_it_listens_on_this_machine_only_and_ctrl_c_ends_it_cleanly(
    opening: dict[str, Any], run_explorer: Callable[..., Running]
) -> None:
    running = run_explorer(*words_of(opening))
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", running.address)
    assert b"<title>net " in open_page(running.address)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(running.base)
    outside = [a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    port = int(running.base.rpartition(":")[2])
    for address in {a for a in outside if not a.startswith("127.")}:
        with socket.socket() as one:
            assert one.connect_ex((address, port)) != 0
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=10) == 0
    assert not is_listening(running.address)


def test_ctrl_c_in_the_midst_of_jobs_ends_it_without_a_traceback(
    opening: dict[str, Any], run_explorer: Callable[..., Running]
) -> None:
    running = run_explorer(*words_of(opening))
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(running.address)
    answers: list[int] = []

    def ask(sound: str) -> None:
        try:
            with opener.open(f"{running.base}/api/map?network=net&sound={sound}&method=lime&classes=cat") as answer:
                answers.append(answer.status)
        except urllib.error.HTTPError as error:
            answers.append(error.status or 0)
            error.close()

    threads = [threading.Thread(target=ask, args=(f"{name}_anna",)) for name in ("cat", "dog", "tree", "yes")]
    for thread in threads:
        thread.start()

    def count_jobs() -> int:
        with opener.open(f"{running.base}/api/state") as state:
            return len(json.load(state)["jobs"])

    wait_until(lambda: count_jobs() == 4)
    running.process.send_signal(signal.SIGINT)
    for thread in threads:
        thread.join()
    assert running.process.wait(timeout=10) == 0
    assert answers == [503] * 4
    assert (running.folder / "stderr").read_text() == ""


def test_a_server_that_is_killed_leaves_no_process(
    opening: dict[str, Any], run_explorer: Callable[..., Running]
) -> None:
    running = run_explorer(*words_of(opening))
    open_page(running.address)

    wait_until(lambda: bool(running.list_children()))
    (child,) = running.list_children()
    running.process.kill()
    running.process.wait()
    wait_until(lambda: not is_alive(child))


def test_a_server_that_is_killed_leaves_no_sound_behind(
    opening: dict[str, Any], run_explorer: Callable[..., Running]
) -> None:
    running = run_explorer(*words_of(opening))
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(running.address)
    sent = urllib.request.Request(f"{running.base}/api/upload?name=x", data=flac())
    assert opener.open(sent).status == 200
    (folder,) = running.folder.glob("brainmap-explore-*")
    assert len(list(folder.iterdir())) == 1
    running.process.kill()
    running.process.wait()
    wait_until(lambda: not folder.exists())


def test_folders_of_explorers_that_are_gone_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {"dead": f"brainmap-explore-{gone.pid}-x", "alive": f"brainmap-explore-{os.getpid()}-x", "other": "other-1"}
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "sound").write_bytes(b"sound")
    remove_remains()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names["alive"], names["other"]])


def is_alive(process: int | str) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_port_in_use_is_refused_in_one_line(
    opening: dict[str, Any], lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, said = lines_of("explore", *words_of(opening), "--no-browser", "--port", taken.getsockname()[1])
    assert code == 2
    assert len(said) == 1
    assert "name another, or 0 for a free one" in said[0]


@pytest.mark.slow
def test_100_megabytes_are_refused_while_they_are_sent(
    opening: dict[str, Any], run_explorer: Callable[..., Running]
) -> None:
    running = run_explorer(*words_of(opening))
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(running.address)
    before = memory_of(running.process.pid)
    for headers in ({}, {"Transfer-Encoding": "chunked"}):
        body = (bytes(1_000_000) for _ in range(100)) if headers else bytes(100_000_000)
        with pytest.raises(urllib.error.HTTPError, match="413") as refused:
            opener.open(urllib.request.Request(f"{running.base}/api/upload?name=x", data=body, headers=headers))
        assert b"larger than 50 MB" in refused.value.read()
        refused.value.close()
    assert memory_of(running.process.pid) - before < 50_000


def memory_of(process: int) -> int:
    """Memory of a process, in kB."""
    with open(f"/proc/{process}/status", encoding="ascii") as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "got neither"),
        (["out", "--checkpoint", "a.pt"], "got both"),
        (["--checkpoint", "a.pt"], "--sounds"),
        (["--checkpoint", "no-such.pt", "--sounds", "."], "no-such.pt"),
        (["no-such-folder"], "no-such-folder"),
        (["out", "--rate", "16000"], "--rate"),
    ],
)
def test_mistakes_are_said_before_anything_is_served(
    lines_of: Callable[..., tuple[int, list[str], list[str]]], words: list[str], said: str
) -> None:
    code, _, lines = lines_of("explore", *words, "--no-browser")
    assert code == 2
    assert len(lines) == 1
    assert said in lines[0]
