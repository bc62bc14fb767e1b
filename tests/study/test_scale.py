"""One study on threads, on Dask workers and as a job array: the same numbers, whoever is killed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import brainmap.rsa.searchlights.volume as searchlight_module
from brainmap.errors import BrainmapWarning, InputError
from brainmap.study.parallel.dask import connect_dask, warn_of_strangers
from brainmap.study.parallel.shares import Share
from brainmap.study.results.claims import hold_file
from brainmap.study.stages.costs import COMPILING

SILENT = ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", "")
Lines = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that the tiny study has several a participant."""
    monkeypatch.setattr(searchlight_module, "CHUNK", 64)


def maps(out: Path) -> dict[str, bytes]:
    """The values of every map and table, by name; what they say of the command that made them is left out."""
    found = {}
    for path in sorted(out.rglob("*_statmap.nii.gz")):
        found[path.name] = np.asarray(nib.load(path).dataobj).tobytes()
    for path in sorted([*out.glob("sub-*/**/*.tsv"), *out.glob("group/*.tsv")]):
        found[path.relative_to(out).as_posix()] = path.read_bytes()
    return found


def differing(one: Path, other: Path) -> list[str]:
    """The maps and tables that are not the same, or only in one."""
    first, second = maps(one), maps(other)
    assert len(first) > 15
    return sorted(name for name in first | second if first.get(name) != second.get(name))


@pytest.fixture
def chunked(tiny_study: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny study without explanations, in its folder."""
    monkeypatch.chdir(tiny_study.folder)
    return tiny_study.edit(SILENT)


def run_chunk(study: Any, *shares: str) -> None:
    from brainmap.study.run import Context, run_chunk as run
    from brainmap.study.settings.study import load_study

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        for share in shares:
            run(Context(load_study(study.file), threads=1), share)


def merge(study: Any) -> None:
    from brainmap.study.run import Context, merge_study
    from brainmap.study.settings.study import load_study

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        merge_study(Context(load_study(study.file), threads=1))


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    import brainmap.viz.page.write

    def page(content: object, path: Path, *, figures: Path, memory: Path, **how: object) -> Path:
        path.write_text("the page")
        return path

    monkeypatch.setattr(brainmap.viz.page.write, "write_report", page)


@pytest.mark.bits
def test_shares_in_any_order_and_their_merge_are_the_whole_run(chunked: Any, tiny_results: Any) -> None:
    run_chunk(chunked, "3/3", "1/3")
    with pytest.raises(InputError, match=r"merge: \d+ of 12 chunks are missing") as told:
        merge(chunked)
    assert str(told.value).splitlines()[1:] == ["  brainmap run study.toml --chunk 2/3"]
    written = {p: p.stat().st_mtime_ns for p in chunked.out.rglob("*.npz")}
    assert len(written) == 6
    run_chunk(chunked, "1/3", "2/3")
    assert {p for p, then in written.items() if p.stat().st_mtime_ns != then} == set()
    merge(chunked)
    assert differing(chunked.out, tiny_results.out) == []
    assert not (chunked.out / ".brainmap" / "chunks").exists()
    assert list(chunked.out.rglob("*.claim")) == []


def test_a_file_of_another_study_is_refused_by_name(chunked: Any) -> None:
    from brainmap.study.results.pieces import Piece, read_piece, save_piece

    run_chunk(chunked, "1/2", "2/2")
    files = sorted(chunked.out.rglob("*.npz"))
    held = read_piece(files[5])
    assert held is not None
    start, stop = map(int, files[5].stem.split("-"))
    save_piece(Piece("02", start, stop, files[5].parent, "another study's key"), held)
    with pytest.raises(InputError) as told:
        merge(chunked)
    name = files[5].relative_to(chunked.folder).as_posix()
    assert str(told.value) == (
        f"merge: {name} belongs to another study, or to this one before its inputs changed; remove it, and: "
        "brainmap run study.toml --chunk 2/2"
    )
    files[5].unlink()
    stranger = files[0].with_name("00009999-00010000.npz")
    shutil.copyfile(files[0], stranger)
    with pytest.raises(InputError, match=r"merge: .*00009999-00010000\.npz does not belong to this study; remove it$"):
        merge(chunked)
    stranger.unlink()
    with pytest.raises(InputError, match="1 of 12 chunks are missing"):
        merge(chunked)
    files[7].write_bytes(b"half a file")
    with pytest.raises(InputError, match="2 of 12 chunks are missing"):
        merge(chunked)


def test_chunks_of_inputs_that_changed_are_computed_again(chunked: Any, caplog: pytest.LogCaptureFixture) -> None:
    run_chunk(chunked, "1/1")
    chunked.edit(("radius_mm = 6.0", "radius_mm = 7.0"))
    with pytest.raises(InputError, match=r"before its inputs changed; remove it, and: brainmap run .* --chunk 1/1"):
        merge(chunked)
    with caplog.at_level("INFO", logger="brainmap"):
        run_chunk(chunked, "1/1")
    assert "3 chunks were computed from other inputs" in caplog.text


@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
def test_every_unit_is_in_one_share(of: int) -> None:
    units = list(range(23))
    shares = [Share(place, of).take(units) for place in range(1, of + 1)]
    assert [unit for share in shares for unit in share] == units
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("words", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", ""])
def test_a_share_that_is_none_is_one_line(chunked: Any, lines_of: Lines, words: str) -> None:
    code, _, said = lines_of("run", "study.toml", "--chunk", words)
    assert code == 2
    assert said == [f"brainmap: --chunk: expected i/N with i from 1 to N, got {words!r}; write it as in 3/20"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run", "--chunk", "1/2", "--participant", "01"), "--chunk divides all participants into shares"),
        (("run", "--chunk", "1/2", "--overwrite"), "--chunk computes what is missing"),
        (("run", "--dask-scheduler", "tcp://127.0.0.1:1"), "--dask-scheduler: expected --backend dask"),
        (("run", "--backend", "dusk"), "expected one of 'threads', 'dask', got 'dusk'; did you mean 'dask'?"),
        (("merge",), "merge: "),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    chunked: Any, lines_of: Lines, words: tuple[str, ...], line: str
) -> None:
    code, _, said = lines_of(words[0], "study.toml", *words[1:])
    assert code == 2
    assert len(said) == 1
    assert line in said[0]
    assert not chunked.out.exists()


def test_a_share_of_nothing_is_no_mistake(chunked: Any, lines_of: Lines) -> None:
    code, _, said = lines_of("run", "study.toml", "--chunk", "1/99")
    assert code == 0
    assert said == ["chunk 1/99 is empty: the study has fewer chunks"]


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(InputError, match=r"Dask is not installed; pip install 'brainmap\[cluster\]'"),
        connect_dask(None),
    ):
        pass


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:8786", "node7:8786", "tcp://0.0.0.0:8786", "ws://node7:80"])
def test_an_address_of_the_network_without_tls_is_warned_of(address: str) -> None:
    with pytest.warns(BrainmapWarning, match="without TLS: whoever reaches this port can run programs as you"):
        warn_of_strangers(address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "localhost:8786", "tcp://[::1]:8786", "tls://node7:8786"])
def test_loopback_and_tls_are_not(address: str) -> None:
    warn_of_strangers(address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "smoke://127.0.0.1:9", "tls://127.0.0.1:9"])
def test_an_address_that_does_not_answer_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("brainmap.study.parallel.dask.ANSWER", 0.5)
    with pytest.raises(InputError) as told, connect_dask(address):
        pass
    assert str(told.value).startswith(f"--dask-scheduler: {address}: ")
    assert "\n" not in str(told.value)


def test_a_claim_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    inside, most = [0], [0]

    def work(_: int) -> None:
        with hold_file(tmp_path / "a.claim", "a", alive=0.01):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(12)))
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("holder", ["{host} 999999999", "elsewhere 1", ""])
def test_a_claim_of_a_killed_process_is_taken_over(tmp_path: Path, holder: str) -> None:
    from brainmap.record import HOST

    path = tmp_path / "a.claim"
    path.write_text(holder.format(host=HOST))
    os.utime(path, (1.0, 1.0))
    with hold_file(path, "a"):
        assert path.read_text() == f"{HOST} {os.getpid()}"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a Dask scheduler with two workers, threads of this process."""
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster:
            yield cluster.scheduler_address


def on_dask(study: Any, address: str, share: str = "") -> None:
    from brainmap.study.run import Context, run_chunk, run_study
    from brainmap.study.settings.study import load_study

    context = Context(load_study(study.file), backend="dask", scheduler=address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_chunk(context, share) if share else run_study(context)


@pytest.mark.bits
@pytest.mark.slow
def test_dask_workers_compute_what_threads_compute(
    chunked: Any, tiny_results: Any, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import brainmap.study.parallel.dask as cluster

    run_chunk(chunked, "1/2")  # what is there is not computed again
    sent: list[Any] = []
    submit = cluster._submit_pieces

    def counted(client: Any, work: Any) -> Any:
        running = submit(client, work)
        sent.extend(running.values())
        return running

    monkeypatch.setattr(cluster, "_submit_pieces", counted)
    on_dask(chunked, scheduler)
    assert len(sent) == 5
    assert differing(chunked.out, tiny_results.out) == []
    on_dask(chunked, scheduler)
    assert len(sent) == 5


def test_workers_take_grids_for_one_as_far_apart_as_the_study_says(chunked: Any, scheduler: str) -> None:
    path = chunked.folder / "sub-03" / "mask.nii.gz"
    mask = nib.load(path)
    affine = mask.affine.copy()
    affine[0, 3] += 0.06  # of voxels of 3 mm
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), affine), path)
    with pytest.raises(InputError, match="apart"):
        on_dask(chunked, scheduler, "1/1")
    chunked.edit(("[study]\n", "[study]\ngrid_tolerance = 0.05\n"))
    on_dask(chunked, scheduler, "1/1")


def test_what_fails_on_a_worker_is_one_line(chunked: Any, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainmap.errors import RunError
    from brainmap.rsa.searchlights.volume import SearchlightPlan

    def broken(self: object, start: int, stop: int) -> None:
        raise ZeroDivisionError(f"at {start}")

    monkeypatch.setattr(SearchlightPlan, "score", broken)
    with pytest.raises(RunError, match="failed on a worker: ZeroDivisionError: at ") as told:
        on_dask(chunked, scheduler, "1/1")
    assert "\n" not in str(told.value)


def test_dead_workers_and_a_scheduler_that_is_gone_are_one_line(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    from types import SimpleNamespace

    from brainmap.errors import RunError
    from brainmap.study.parallel.dask import _read_result
    from brainmap.study.results.pieces import Piece

    piece = Piece("02", 1024, 2048, tmp_path, "key")
    killed = distributed.KilledWorker("a task", SimpleNamespace(address="tcp://127.0.0.1:1"), 3)
    with pytest.raises(RunError, match=r"^searchlight: sub-02 spheres 1025-2048 killed the 4 workers that tried"):
        _read_result(SimpleNamespace(status="error", exception=lambda: killed), piece)
    with pytest.raises(
        RunError, match=r"^searchlight: the Dask scheduler does not answer any more \(lost\); .* are kept, .*$"
    ):
        _read_result(SimpleNamespace(status="lost"), piece)
    with pytest.raises(InputError, match=r"^no such mask$"):
        _read_result(SimpleNamespace(status="error", exception=lambda: InputError("no such mask")), piece)


def test_what_the_scheduler_reads_loads_nothing_heavy() -> None:
    heavy = "('torch', 'nilearn', 'numba')"
    code = f"import sys, brainmap.study.parallel.worker; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_workers_of_other_versions_are_refused() -> None:
    from brainmap.record import versions
    from brainmap.study.parallel.worker import check_versions

    check_versions(versions())
    with pytest.raises(InputError, match=r"a worker has numba .* \(expected 0\.1\); install the same versions"):
        check_versions({**versions(), "numba": "0.1"})


KILLED = """
import os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.argv = {argv!r}
import brainmap.rsa.searchlights.volume
import brainmap.viz.page.write
from brainmap.study.run import Context, run_study
from brainmap.study.settings.study import load_study

brainmap.rsa.searchlights.volume.CHUNK = 64
replace, left = Path.replace, [2]

def counted(self, target):
    if "/chunks/sub-02" in str(target):
        left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = counted
run_study(Context(load_study({study!r}), threads=1))
"""


@pytest.mark.slow
def test_a_searchlight_killed_half_way_goes_on_with_the_pieces_it_has(chunked: Any, tiny_results: Any) -> None:
    script = KILLED.format(argv=chunked.command, study=str(chunked.file))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    kept = {p: p.stat().st_mtime_ns for p in chunked.out.rglob("*.npz") if not p.name.startswith(".")}
    assert len(kept) == 2
    computed: list[tuple[int, int]] = []
    score = searchlight_module.SearchlightPlan.score

    def counted(self: Any, start: int, stop: int) -> Any:
        computed.append((start, stop))
        return score(self, start, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searchlight_module.SearchlightPlan, "score", counted)
        chunked.run()
    assert len(computed) == 1 + 3
    assert differing(chunked.out, tiny_results.out) == []
    assert list(chunked.out.rglob("*.npz")) == []


@pytest.mark.slow
def test_a_study_killed_at_random_moments_ends_as_one_that_was_not(
    tiny_inputs: Any, tiny_results: Any, tmp_path: Path
) -> None:
    whole = _seconds_of_a_run(tiny_inputs, tmp_path / "whole")
    rng = np.random.default_rng(0)
    shutil.copytree(tiny_inputs.folder, tmp_path / "study")
    study = type(tiny_inputs)(tmp_path / "study").edit(SILENT)
    killed = 0
    for moment in np.sort(rng.uniform(0.1, 0.9, size=6)) * whole:  # a run that ends leaves nothing to kill
        process = _start(study.folder)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 3
    assert _start(study.folder).wait() == 0
    assert differing(study.out, tiny_results.out) == []
    assert [p.name for p in study.out.rglob(".*-*.*")] == []  # nothing half written is left over
    assert not (study.out / ".brainmap" / "chunks").exists()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "brainmap", "--quiet", "run", "study.toml", "--jobs", "1", "--device", "cpu"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _seconds_of_a_run(inputs: Any, folder: Path) -> float:
    shutil.copytree(inputs.folder, folder)
    study, start = type(inputs)(folder).edit(SILENT), time.monotonic()
    assert _start(study.folder).wait() == 0
    return time.monotonic() - start


@pytest.mark.slow
def test_the_demo_on_two_dask_workers_one_of_them_killed_is_the_demo_on_threads(tmp_path: Path) -> None:
    """The commands are those of docs/cluster.md: a scheduler and two workers as processes of their own."""
    pytest.importorskip("distributed")
    here, there = tmp_path / "threads", tmp_path / "dask"
    small_demo(here)
    shutil.copytree(here, there)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert _start(here).wait() == 0
    took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    said = _estimate_seconds(here / "study.toml")
    assert said / 3 < took < 3 * (said + COMPILING)
    with dask_processes(tmp_path) as (address, workers):
        command = [
            sys.executable,
            "-m",
            "brainmap",
            "run",
            "study.toml",
            "--device",
            "cpu",
            "--backend",
            "dask",
            "--dask-scheduler",
            address,
        ]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=there, stdout=log, stderr=log)
            chunks = there / "derivatives" / "brainmap" / ".brainmap" / "chunks"
            while process.poll() is None and len(list(chunks.rglob("[0-9]*.npz"))) < 10:
                time.sleep(0.05)
            assert process.poll() is None, (tmp_path / "log").read_text()
            workers[0].kill()
            assert process.wait() == 0, (tmp_path / "log").read_text()
    assert "about" in (tmp_path / "log").read_text()  # progress with the time left
    assert differing(here / "derivatives" / "brainmap", there / "derivatives" / "brainmap") == []


def _estimate_seconds(file: Path) -> float:
    """The processor time that the check of a study estimates."""
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.costs import estimate, measure_speed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        measure = check_study(Context(load_study(file))).measure
    assert measure is not None
    return estimate(measure(), cores=1, speed=measure_speed()).cpu_seconds


def small_demo(folder: Path) -> None:
    """The quick demo with four participants and without what its layers hear."""
    from brainmap.study.demo import DemoSettings, write_demo

    study = write_demo(folder, replace(DemoSettings.quick(), participants=4))
    head, _, rest = study.read_text().partition("[explain]")
    study.write_text(head + "[truth]" + rest.partition("[truth]")[2])


@contextmanager
def dask_processes(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers without nannies; their address, and the workers to kill."""
    file, started = folder / "scheduler.json", []

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    try:
        start(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--dashboard-address",
            "127.0.0.1:0",
            "--scheduler-file",
            str(file),
        )
        while not file.exists():
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        yield (
            address,
            [start("worker", address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1") for _ in range(2)],
        )
    finally:
        for process in started:
            process.kill()
            process.wait()
