"""A study so small that it runs in seconds: eight sounds, an untrained network, three brains of 210 voxels."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import BrainmapWarning

SHAPE = (6, 7, 5)
RATE = 16_000
N_SAMPLES = 2_400
WORDS = ("cat", "dog", "tree", "yes")
RUNS = (1, 2, 3)
COMMAND = ["brainmap", "run", "study.toml"]
REGIONS = {1: "left-a", 2: "right-a", 3: "belt"}

STUDY = """\
schema = 1

[study]
name = "tiny"
out = "out"
seed = 0
simulated = true

[stimuli]
table = "stimuli.tsv"

[[network]]
name = "net"
checkpoint = "net.safetensors"
layers = ["conv1", "conv3", "output"]

[[brain]]
participants = ["01", "02"]
files = "sub-{participant}/betas_run-{run}+tlrc.HEAD"
mask = "sub-{participant}/mask+tlrc.HEAD"
rois = { image = "rois.nii.gz", table = "rois.tsv" }
space = "MNI152Lin"

[[brain]]
participants = ["03"]
files = "sub-{participant}/betas_run-{run}.nii.gz"
mask = "sub-{participant}/mask.nii.gz"
rois = { image = "rois.nii.gz", table = "rois.tsv" }
space = "MNI152Lin"

[rsa]
dissimilarity = "crossnobis"
measure = "rho-a"
inference = { splits = 4 }

[searchlight]
radius_mm = 6.0

[explain]
maximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }
"""


@dataclass(frozen=True)
class TinyStudy:
    """A study in a folder, with what a test needs to change in it."""

    folder: Path

    @property
    def file(self) -> Path:
        """The study file."""
        return self.folder / "study.toml"

    @property
    def out(self) -> Path:
        """Where its results go."""
        return self.folder / "out"

    @property
    def command(self) -> list[str]:
        """The command line that its results say they came from."""
        return COMMAND

    def edit(self, *changes: tuple[str, str]) -> TinyStudy:
        """Replace text of the study file; the text must be there."""
        text = self.file.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.file.write_text(text)
        return self

    def betas(self, participant: str, run: int) -> Path:
        """The image of a run (AFNI: its BRIK)."""
        afni = self.folder / f"sub-{participant}" / f"betas_run-{run}+tlrc.BRIK"
        return afni if afni.exists() else self.folder / f"sub-{participant}" / f"betas_run-{run}.nii.gz"

    def files(self) -> dict[str, bytes]:
        """Every result by name."""
        found = (p for p in sorted(self.out.rglob("*")) if p.is_file())
        return {p.relative_to(self.out).as_posix(): p.read_bytes() for p in found}

    def run(self, *participants: str, jobs: int = 1, page: bool = False, overwrite: bool = False) -> set[str]:
        """Run the study and give the stages that were computed; the page is a stand-in unless asked for."""
        import brainmap.viz.page.write
        from brainmap.study.run import Context, run_study
        from brainmap.study.settings.study import load_study

        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)  # an untrained network has units that never speak
            context = Context(load_study(self.file), threads=jobs, overwrite=overwrite)
            patch.setattr(sys, "argv", COMMAND)  # it is kept in every file
            if not page:
                patch.setattr(brainmap.viz.page.write, "write_report", _stand_in)
            before = self._closed()
            run_study(context, participants=participants)
        return {stage for stage, then in self._closed().items() if before.get(stage) != then}

    def _closed(self) -> dict[str, int]:
        """When each stage was last computed."""
        return {p.stem: p.stat().st_mtime_ns for p in (self.out / ".brainmap").glob("*.json")}


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Compile kernels before the tests, where there are many; few tests compile what they need."""
    gc.freeze()  # modules and tests stay, and the collector need not walk over them again and again
    if len(getattr(session, "items", ())) > 1000 and not session.config.option.collectonly:
        from tests.kernels import compile_kernels

        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
        compile_kernels(int(worker.removeprefix("gw")))


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The rules of axe-core, which are fetched from npm and not kept."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm to fetch axe-core")
    try:
        subprocess.run([npm, "pack", "axe-core@4"], cwd=folder, check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"npm cannot fetch axe-core: {error}")
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        file = packed.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode("utf-8")


def find_serious(page: Any, axe: str) -> list[tuple[str, list[str]]]:
    """List what axe-core finds serious or critical on a page in a browser, with everything on it opened."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 15
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def _stand_in(content: object, path: Path, **how: object) -> Path:
    path.write_text("the page")
    return path


def sound_ids() -> list[str]:
    """Ids of the sounds, two a word."""
    return [f"{word}_{voice}" for word in WORDS for voice in ("anna", "ben")]


def affine() -> np.ndarray:
    """3 mm voxels, left to right as RAS."""
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = -9.0
    return matrix


def write_sounds(folder: Path) -> None:
    """Noises of different colors, and their table."""
    import soundfile

    (folder / "sounds").mkdir()
    rng = np.random.default_rng(7)
    for k, name in enumerate(sound_ids()):
        slope = np.linspace(-1, 1, len(WORDS))[k // 2]
        spectrum = np.fft.rfft(rng.normal(size=N_SAMPLES)) * np.arange(1, N_SAMPLES // 2 + 2) ** slope
        spectrum[0] = 0  # a sound has no offset, which would be noted
        wave = np.fft.irfft(spectrum, N_SAMPLES)
        soundfile.write(folder / "sounds" / f"{name}.wav", 0.3 * wave / np.abs(wave).max(), RATE)
    table = pd.DataFrame({"stimulus_id": sound_ids()})
    table["condition"] = [name.split("_")[0] for name in sound_ids()]
    table["path"] = [f"sounds/{name}.wav" for name in sound_ids()]
    table.to_csv(folder / "stimuli.tsv", sep="\t", index=False)


def write_checkpoint(path: Path, seed: int = 0) -> None:
    """An untrained network that says how it is fed."""
    import torch

    from brainmap.features.networks.checkpoints import save_checkpoint
    from brainmap.features.networks.description import Checkpoint
    from brainmap.features.networks.zoo import build_network

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_network("ch32", n_classes=len(WORDS), n_samples=N_SAMPLES)
    about = Checkpoint(architecture="ch32", classes=WORDS, rate=RATE, n_samples=N_SAMPLES)
    save_checkpoint(model, path, about)


def write_brain(folder: Path, participant: str, *, afni: bool, seed: int = 0) -> None:
    """Three runs of betas in random order, and a mask without the last slice."""
    from brainmap.rsa.images.files import save_image

    own = folder / f"sub-{participant}"
    own.mkdir(exist_ok=True)
    rng = np.random.default_rng([seed, int(participant)])
    shared = np.random.default_rng(3).normal(size=(*SHAPE, len(sound_ids())))
    for run in RUNS:
        order = rng.permutation(len(sound_ids()))
        values = (shared + rng.normal(size=shared.shape))[..., order].astype(np.float32)
        name = f"betas_run-{run}+tlrc.HEAD" if afni else f"betas_run-{run}.nii.gz"
        labels = [sound_ids()[k] for k in order]
        save_image(nib.Nifti1Image(values, affine()), own / name, labels=labels, space="MNI", overwrite=True)
    mask = np.ones(SHAPE, np.uint8)
    mask[..., -1] = 0
    name = "mask+tlrc.HEAD" if afni else "mask.nii.gz"
    save_image(nib.Nifti1Image(mask, affine()), own / name, space="MNI", overwrite=True)


def write_rois(folder: Path) -> None:
    """Three regions and their table."""
    from brainmap.rsa.images.files import save_image

    labels = np.zeros(SHAPE, np.int16)
    labels[:2, :, :4], labels[4:, :, :4], labels[2:4, :4, :4] = 1, 2, 3
    save_image(nib.Nifti1Image(labels, affine()), folder / "rois.nii.gz", space="MNI", overwrite=True)
    pd.DataFrame({"index": REGIONS.keys(), "name": REGIONS.values()}).to_csv(folder / "rois.tsv", sep="\t", index=False)


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of settings and answers for the session, so that those of the person who runs the tests play no part."""
    answers = tmp_path_factory.mktemp("answers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        patch.setattr("brainmap.answers._open_folder", lambda: answers)
        yield


@pytest.fixture(scope="session")
def tiny_inputs(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """The inputs of the tiny study, to be copied and never changed."""
    folder = tmp_path_factory.mktemp("tiny")
    write_sounds(folder)
    write_checkpoint(folder / "net.safetensors")
    for participant, afni in (("01", True), ("02", True), ("03", False)):
        write_brain(folder, participant, afni=afni)
    write_rois(folder)
    (folder / "study.toml").write_text(STUDY)
    return TinyStudy(folder)


@pytest.fixture
def tiny_study(tiny_inputs: TinyStudy, tmp_path: Path) -> TinyStudy:
    """A copy of the tiny study that a test may change."""
    shutil.copytree(tiny_inputs.folder, tmp_path / "study")
    return TinyStudy(tmp_path / "study")


@pytest.fixture(scope="session")
def tiny_results(tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """The tiny study, run; to be copied and never changed."""
    folder = tmp_path_factory.mktemp("run") / "study"
    shutil.copytree(tiny_inputs.folder, folder)
    TinyStudy(folder).run()
    return TinyStudy(folder)


@pytest.fixture
def finished(tiny_results: TinyStudy, tmp_path: Path) -> TinyStudy:
    """A copy of the tiny study with its results; times of files are kept."""
    shutil.copytree(tiny_results.folder, tmp_path / "study", copy_function=shutil.copy2)
    return TinyStudy(tmp_path / "study")


@pytest.fixture
def write_inputs() -> dict[str, Callable[..., None]]:
    """The writers, for tests that replace an input."""
    return {"brain": write_brain, "checkpoint": write_checkpoint}


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def _count_commands(app: Any) -> int:
    return len(app.registered_commands) + sum(_count_commands(group.typer_instance) for group in app.registered_groups)


@pytest.fixture(scope="session", autouse=True)
def commands_built_once() -> Iterator[None]:
    """Build the commands of an app again only after some were added to it; Typer does it at every call (0.1 s)."""
    import typer.main

    build, built = typer.main.get_command, dict[tuple[Any, int], Any]()

    def look_up(app: Any) -> Any:
        key = app, _count_commands(app)
        if key not in built:
            built[key] = build(app)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", look_up)
        yield


@pytest.fixture
def brainmap_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Answer]]:
    """`brainmap` in this process, as the shell calls it; logging and warnings are given back."""
    from brainmap.cli import main

    log = logging.getLogger("brainmap")
    before = log.handlers[:], log.level

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["brainmap", *map(str, words)])
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # as a program's; `python -m pytest` has one
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield run
    log.handlers[:], log.level = before


@pytest.fixture
def lines_of(brainmap_command: Callable[..., Answer]) -> Callable[..., tuple[int, list[str], list[str]]]:
    """As `brainmap_command`: exit code, lines of stdout, lines of stderr."""

    def call(*words: object) -> tuple[int, list[str], list[str]]:
        answer = brainmap_command(*words)
        return answer.code, answer.out.splitlines(), answer.err.splitlines()

    return call
