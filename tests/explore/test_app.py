"""The application with its computing process: answers, uploads, jobs that are stopped, a process that dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from brainmap.explore.app import ASSETS, Limits, find_niivue, make_app
from brainmap.explore.worker import Worker
from tests.explore.running import flac, wait_until


class Explorer:
    """The application and its computing process, as a page sees them."""

    def __init__(self, opening: dict[str, Any]) -> None:
        self.worker = Worker(opening)
        limits = Limits(megabytes=0.2, seconds=2.0)
        app = make_app(self.worker, title="<img src=x onerror=alert(1)>", token="t", port=1, limits=limits)
        self.client = TestClient(app, base_url="http://127.0.0.1:1")

    def ask(self, command: str, **given: Any) -> Any:
        return self.client.get(f"/api/{command}", params=given)

    def send(self, body: bytes, name: str = "a.flac") -> Any:
        return self.client.post("/api/upload", params={"name": name}, content=body)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/api/state").json()
        return found


@pytest.fixture(scope="module")
def explorer(opening: dict[str, Any]) -> Iterator[Explorer]:
    made = Explorer(opening)
    with made.client:
        assert made.client.get("/?token=t").status_code == 200
        yield made


SOUND = {"network": "net", "sound": "cat_anna"}


def test_the_page_is_there_at_once_and_names_are_text(explorer: Explorer) -> None:
    page = explorer.client.get("/").text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img" not in page
    assert 'style="' not in page  # the policy allows no styles in the page


def test_every_asset_is_served_as_what_it_is_and_nothing_else(explorer: Explorer) -> None:
    for path in ASSETS.iterdir():
        found = explorer.client.get(f"/assets/{path.name}")
        assert found.status_code == (404 if path.suffix == ".html" else 200), path.name
    assert explorer.client.get("/assets/main.js").headers["content-type"].startswith("text/javascript")
    for name in ("..%2Fapp.py", "%2Fetc%2Fpasswd", "none.js", "page.html"):
        assert explorer.client.get(f"/assets/{name}").status_code == 404, name


def test_niivue_is_the_copy_of_nilearn(explorer: Explorer) -> None:
    path = find_niivue()
    assert path is not None
    assert explorer.client.get("/assets/niivue.js").content == path.read_bytes()


def test_questions_are_answered_by_the_computing_process(explorer: Explorer) -> None:
    about = explorer.ask("describe").json()
    assert about["networks"] == ["net"]
    assert [one["id"] for one in about["sounds"]][:2] == ["cat_anna", "cat_ben"]
    assert explorer.ask("audio", **SOUND).content[:4] == b"RIFF"


@pytest.mark.parametrize(
    ("command", "given", "status", "words"),
    [
        ("no-such", {}, 404, "no-such"),
        ("receive", {"path": "/etc/passwd"}, 404, "receive"),
        ("sound", {"network": "net"}, 422, "sound: expected one, got none"),
        ("sound", {"network": "nat", "sound": "cat_anna"}, 422, "did you mean 'net'?"),
        ("sound", {"network": "net", "sound": "cat_ana"}, 422, "did you mean 'cat_anna'?"),
        ("sound", {"network": "net", "sound": "upload:00"}, 422, "drop it again"),
        ("map", {**SOUND, "method": "grad-kam", "classes": "cat"}, 422, "did you mean 'grad-cam'?"),
        ("map", {**SOUND, "method": "grad-cam", "classes": "cow"}, 422, "class"),
        ("unit", {**SOUND, "layer": "conv1", "unit": "99"}, 422, "unit: expected 0 to 31"),
        ("unit", {**SOUND, "layer": "conv1", "unit": "-1"}, 422, "whole number"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    explorer: Explorer, command: str, given: dict[str, str], status: int, words: str
) -> None:
    found = explorer.ask(command, **given)
    assert found.status_code == status
    assert words in found.json()["error"]


def test_a_sound_that_is_sent_is_heard_and_kept_outside_of_the_results(
    explorer: Explorer, opening: dict[str, Any]
) -> None:
    before = sorted(Path(opening["sounds"]).parent.rglob("*"))
    found = explorer.send(flac(), "<b>tone</b>.flac").json()
    assert found["name"] == "<b>tone</b>.flac"
    assert found["seconds"] == pytest.approx(0.15)
    scores = explorer.ask("scores", network="net", sound=found["sound"]).json()
    assert scores["logits"]["shape"] == [4]
    assert explorer.send(flac()).json()["sound"] == found["sound"]  # by content
    assert sorted(Path(opening["sounds"]).parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 422, "a.flac"),
        (b"no sound at all", 422, "a.flac"),
        (flac()[:400], 422, "a.flac"),
        (flac(seconds=3.0), 422, "at most 2 s"),
        (bytes(300_000), 413, "larger than 0.2 MB"),
    ],
)
def test_a_corrupt_long_or_large_upload_is_refused_and_not_kept(
    explorer: Explorer, body: bytes, status: int, words: str
) -> None:
    found = explorer.send(body)
    assert found.status_code == status
    assert words in found.json()["error"]
    assert "/tmp" not in found.json()["error"]
    assert explorer.ask("describe").status_code == 200


def test_an_upload_that_hides_its_size_is_counted(explorer: Explorer) -> None:
    found = explorer.client.post("/api/upload", content=iter([bytes(150_000), bytes(150_000)]))
    assert found.status_code == 413


def test_a_job_is_stopped_and_the_process_goes_on(explorer: Explorer) -> None:
    slow = {**SOUND, "method": "lime", "classes": "cat"}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(explorer.ask, "map", **slow, slot="a")
        wait_until(lambda: any(job["running"] and job["command"] == "map" for job in explorer.state["jobs"]))
        number = next(job["id"] for job in explorer.state["jobs"] if job["command"] == "map")
        assert explorer.client.post("/api/stop", params={"job": number}).json() == {"stopped": True}
        assert asked.result(timeout=30).status_code == 410
    assert explorer.client.post("/api/stop", params={"job": number}).json() == {"stopped": False}
    assert explorer.ask("describe").status_code == 200


def test_a_newer_question_for_a_place_takes_the_turn_of_an_older_one(explorer: Explorer) -> None:
    slow = {**SOUND, "method": "lime", "classes": "dog"}
    with ThreadPoolExecutor(1) as pool:
        older = pool.submit(explorer.ask, "map", **slow, slot="b")
        wait_until(lambda: any(job["running"] and job["slot"] == "b" for job in explorer.state["jobs"]))
        newer = explorer.ask("map", **{**SOUND, "method": "grad-cam", "classes": "cat"}, slot="b")
        assert older.result(timeout=30).status_code == 204
    assert newer.status_code == 200


def test_two_tabs_at_once_get_their_own_answers(explorer: Explorer) -> None:
    sounds = [one["id"] for one in explorer.ask("describe").json()["sounds"]] * 3
    gate = threading.Barrier(4)

    def ask(sound: str, first: bool) -> str:
        if first:
            gate.wait()
        return str(explorer.ask("scores", network="net", sound=sound).json()["logits"]["base64"])

    alone = {sound: ask(sound, False) for sound in sounds[:8]}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, sounds, [k < 4 for k in range(len(sounds))]))
    assert found == [alone[sound] for sound in sounds]


def test_a_process_that_is_killed_is_replaced_and_still_knows_what_was_sent(explorer: Explorer) -> None:
    sent = explorer.send(flac(hertz=880.0)).json()["sound"]
    slow = {**SOUND, "method": "lime", "classes": "tree"}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(explorer.ask, "map", **slow)
        wait_until(lambda: any(job["running"] and job["command"] == "map" for job in explorer.state["jobs"]))
        killed = explorer.worker.process_id
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        found = asked.result(timeout=30)
    assert found.status_code == 500
    assert "ask again" in found.json()["error"]
    wait_until(lambda: explorer.worker.process_id != killed)
    assert explorer.ask("scores", network="net", sound=sent).status_code == 200


@pytest.mark.slow
def test_what_cannot_be_opened_is_said_to_every_page(opening: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    made = Explorer({**opening, "checkpoints": [str(tmp_path / "broken.safetensors")]})
    with made.client:
        made.client.get("/?token=t")
        found = made.ask("describe")
        assert found.status_code == 500
        assert "broken.safetensors" in found.json()["error"]
        assert made.state["state"] == "failed"


@pytest.mark.slow
def test_nothing_is_left_running_or_lying_about(opening: dict[str, Any]) -> None:
    made = Explorer(opening)
    with made.client:
        made.client.get("/?token=t")
        made.send(flac())
        process = made.worker.process_id
        assert process is not None
        folder = Path(made.worker.opening["uploads"][0][0]).parent
        assert folder.is_dir()
    assert not folder.exists()
    end = time.monotonic() + 5
    while time.monotonic() < end and Path(f"/proc/{process}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{process}").exists()
