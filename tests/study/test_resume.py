"""What is computed again when an input changes, and what a killed run leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ROIS = {f"sub-0{k}_rois" for k in (1, 2, 3)}
LIGHTS = {f"sub-0{k}_searchlight" for k in (1, 2, 3)}
GROUP = {"group_rois", "group_maps"}
CEILINGS = {"group_ceilings"}
HEARD = {"explain_cam", "explain_maximization"}
PAGE = {"report"}
NETWORK = {"network-net"}
# The best layers, and with them the channels to maximize, may change with the brain's data, and need not.
MAY = {"explain_maximization"}


def a_sound(study: Any) -> None:
    import soundfile

    path = study.folder / "sounds" / "cat_anna.wav"
    wave, rate = soundfile.read(path)
    soundfile.write(path, wave[::-1], rate)


def a_condition(study: Any) -> None:
    path = study.folder / "stimuli.tsv"
    path.write_text(path.read_text().replace("\tyes\t", "\tyeah\t"))


def one_beta(study: Any) -> None:
    path = study.betas("01", 1)
    values = np.fromfile(path, np.float32)
    values[:100] *= -1
    values.tofile(path)


def region_names(study: Any) -> None:
    path = study.folder / "rois.tsv"
    path.write_text(path.read_text().replace("belt", "parabelt"))


def setting(old: str, new: str) -> Callable[[Any], None]:
    return lambda study: study.edit((old, new))


CHANGES = [
    ("a sound", a_sound, NETWORK | ROIS | LIGHTS | GROUP | HEARD | PAGE),
    # The maps come out byte by byte the same, so nothing is left to do for their group test.
    ("a condition's name", a_condition, NETWORK | ROIS | LIGHTS | CEILINGS | {"group_rois", "explain_cam"} | PAGE),
    ("one participant's betas", one_beta, {"sub-01_rois", "sub-01_searchlight"} | GROUP | CEILINGS | PAGE),
    ("the regions", region_names, ROIS | GROUP | PAGE),
    (
        "network dissimilarity",
        setting("layers = [", 'dissimilarity = "cosine"\nlayers = ['),
        NETWORK | ROIS | LIGHTS | GROUP | PAGE,
    ),
    ("searchlight radius", setting("radius_mm = 6.0", "radius_mm = 7.0"), LIGHTS | CEILINGS | {"group_maps"} | PAGE),
    (
        "searchlight measure",
        setting("radius_mm = 6.0", 'radius_mm = 6.0\nmeasure = "pearson"'),
        LIGHTS | CEILINGS | {"group_maps", "maps"} | PAGE,
    ),
    ("rsa measure", setting('measure = "rho-a"', 'measure = "spearman"'), ROIS | {"group_rois"} | PAGE),
    (
        "rsa dissimilarity",
        setting('dissimilarity = "crossnobis"', 'dissimilarity = "correlation"'),
        ROIS | {"group_rois"} | PAGE,
    ),
    ("correction", setting("splits = 4", 'splits = 4, correction = "bonferroni"'), {"group_rois"} | PAGE),
    ("maximization steps", setting("steps = 2", "steps = 3"), {"explain_maximization"} | PAGE),
    ("cam method", setting("[explain]", '[explain]\ncam = { method = "hires-cam" }'), {"explain_cam"} | PAGE),
    ("seed", setting("seed = 0", "seed = 1"), {"group_rois", "explain_maximization"} | PAGE),
    ("question", setting("seed = 0", 'seed = 0\nquestion = "Why?"'), PAGE),
]


@pytest.mark.parametrize(("change", "expected"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
@pytest.mark.slow
def test_a_change_computes_what_depends_on_it_and_nothing_else(
    finished: Any, change: Callable[[Any], None], expected: set[str]
) -> None:
    change(finished)
    computed = finished.run()
    assert computed - MAY == expected - MAY
    assert expected <= computed
    if not expected & (ROIS | NETWORK | {"group_rois", "explain_maximization"}):
        assert computed == expected  # nothing the best layers depend on
    assert finished.run() == set()


@pytest.mark.slow
def test_other_weights_compute_everything_again(finished: Any, write_inputs: Any) -> None:
    write_inputs["checkpoint"](finished.folder / "net.safetensors", seed=1)
    assert finished.run() == NETWORK | ROIS | LIGHTS | GROUP | HEARD | PAGE


def test_touched_and_moved_inputs_compute_nothing(finished: Any) -> None:
    for path in finished.folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(finished.out):
            os.utime(path)
    shutil.move(finished.folder / "net.safetensors", finished.folder / "renamed.safetensors")
    finished.edit(("net.safetensors", "renamed.safetensors"))
    times = {p: p.stat().st_mtime_ns for p in finished.out.rglob("*")}
    assert finished.run() <= PAGE  # which shows the study's settings
    assert {p for p, then in times.items() if p.stat().st_mtime_ns != then and p.is_file()} <= {
        finished.out / "report.html",
        finished.out / ".brainmap" / "report.json",
    }


def test_a_second_run_changes_no_file_and_is_quick(finished: Any) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.out.rglob("*")}
    start = time.process_time()
    assert finished.run() == set()
    assert time.process_time() - start < 5
    assert {p: p.stat().st_mtime_ns for p in finished.out.rglob("*")} == before


@pytest.mark.parametrize(
    ("pattern", "stage"),
    [
        ("sub-02/func/*_scores.tsv", "sub-02_rois"),
        ("sub-02/func/*conv3_stat-spearman_statmap.nii.gz", "sub-02_searchlight"),
        ("rdms/*_rdms.h5", "network-net"),
        ("features/*.zarr/activations/conv1/*/c/0/0", "network-net"),
        ("features/*.zarr/am/output/*/zarr.json", "explain_maximization"),
        ("features/*_maximization/output_cat.wav", "explain_maximization"),
        ("group/statistics.json", "group_rois"),
        ("group/*conv1_stat-t_statmap.nii.gz", "group_maps"),
        ("dataset_description.json", "description"),
        ("maps.tsv", "maps"),
        ("report.html", "report"),
    ],
)
@pytest.mark.parametrize("how", ["deleted", "truncated"])
@pytest.mark.slow
def test_a_result_that_is_gone_or_cut_is_made_again(finished: Any, pattern: str, stage: str, how: str) -> None:
    before = finished.files()
    (path,) = finished.out.glob(pattern)
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3])
    assert finished.run() == {stage}
    assert finished.files() == before


@pytest.mark.slow
def test_what_the_study_writes_no_more_is_removed(finished: Any) -> None:
    finished.edit(('layers = ["conv1", "conv3", "output"]', 'layers = ["conv1", "output"]'))
    finished.run()
    left = [name for name in finished.files() if "conv3" in name]
    assert [name for name in left if not name.endswith("conv3/zarr.json")] == []  # an empty group of the store
    slugs = (finished.out / "maps.tsv").read_text()
    assert "conv1" in slugs
    assert "conv3" not in slugs


@pytest.mark.slow
def test_overwrite_computes_every_stage_and_gives_the_same_files(finished: Any) -> None:
    before = finished.files()
    computed = finished.run(overwrite=True)
    assert computed == NETWORK | ROIS | LIGHTS | GROUP | CEILINGS | HEARD | PAGE | {"description", "maps"}
    assert finished.files() == before


KILLED = """
import os, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.argv = {argv!r}
import brainmap.viz.page.write
from brainmap.study.run import Context, run_study
from brainmap.study.settings.study import load_study

replace = Path.replace

def page(content, path, *, figures, memory):
    path.write_text("the page")
    return path

def run_and_die(place, left):
    def count_and_replace(self, target):
        nonlocal left
        left -= place in str(target)
        if left < 0:
            os.kill(os.getpid(), 9)
        return replace(self, target)

    Path.replace = count_and_replace
    run_study(Context(load_study({study!r}), threads=1))

brainmap.viz.page.write.write_report = page
for place, left in {points!r}:
    child = os.fork()  # what is imported once serves every run
    if child == 0:
        run_and_die(place, left)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

POINTS = [("/out/rdms", 0), ("/out/sub-02", 9), ("/out/group", 5)]  # while writing the n-th file of this folder


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tiny_study: Any, tiny_results: Any) -> None:
    script = KILLED.format(argv=tiny_study.command, points=POINTS, study=str(tiny_study.file))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * len(POINTS), ended.stderr
    computed = tiny_study.run()
    assert "network-net" not in computed  # what was whole is kept
    assert "sub-01_rois" not in computed
    assert tiny_study.files() == tiny_results.files()  # nothing half written is left over either


def test_a_result_edited_to_the_same_size_is_computed_again(finished: Any) -> None:
    (path,) = finished.out.glob("sub-01/func/*_scores.tsv")
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert finished.run() == {"sub-01_rois"}
    assert path.read_bytes() == content
    path.touch()  # touched, not changed
    assert finished.run() == set()


DRAWS = (
    "matplotlib",
    "PIL",
    "jinja2",
    "rsatoolbox",
    "numba",
    "nilearn",
    "librosa",
    "scipy.stats",
    "sklearn",
    "himalaya",
)


@pytest.mark.slow
def test_a_run_with_nothing_to_do_imports_nothing_that_computes_or_draws(finished: Any) -> None:
    finished.run()  # the copied files are younger than their record
    code = (
        f"import sys; sys.argv = ['brainmap', 'run', {str(finished.file)!r}]\nfrom brainmap.cli import main\n"
        f"try: main()\nexcept SystemExit: pass\nprint([name for name in {DRAWS!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "stages need nothing" in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
