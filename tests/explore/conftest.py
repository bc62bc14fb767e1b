"""What is explored, and `brainmap explore` as its own process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from brainmap.explore.sources import Source, open_source
from tests.conftest import TinyStudy
from tests.explore.running import Running
from tests.study.encoding_inputs import SMALL, write_study
from tests.study.runs import run as run_file
from tests.study.test_surface import BRAIN, write_surface


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
    folder = tempfile.TemporaryDirectory()

    def run(*words: object) -> Running:
        command = [sys.executable, "-m", "brainmap", "explore", *map(str, words), "--port", "0", "--no-browser"]
        with (Path(folder.name) / "stderr").open("a") as stderr:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
                env=os.environ | {"TMPDIR": folder.name},
            )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line, line
        return Running(process, line.split()[-1], Path(folder.name))

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


def _copy_without_explanations(inputs: TinyStudy, folder: Path) -> TinyStudy:
    shutil.copytree(inputs.folder, folder)
    study = TinyStudy(folder)
    text = study.file.read_text()
    study.file.write_text(text[: text.index("[explain]")])
    return study


@pytest.fixture(scope="session")
def surface_results(tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """The tiny study with its brains on two small balls, run; to be read only."""
    study = _copy_without_explanations(tiny_inputs, tmp_path_factory.mktemp("cortex") / "study")
    text = study.file.read_text()
    text = text[: text.index("[[brain]]")] + BRAIN + text[text.index("[rsa]") + len("[rsa]") :]
    study.file.write_text(text)
    study.edit(("radius_mm = 6.0", 'radius_mm = 18.0\nmesh = "{hemi}.mid.surf.gii"'))
    sounds = pd.read_csv(study.folder / "stimuli.tsv", sep="\t")["stimulus_id"].tolist()
    write_surface(study.folder, sounds)
    study.run()
    return study


@pytest.fixture(scope="session")
def native_results(tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """The tiny study whose participants share no space, run; to be read only."""
    study = _copy_without_explanations(tiny_inputs, tmp_path_factory.mktemp("native") / "study")
    study.edit(('space = "MNI152Lin"', 'space = "native"'))
    study.run()
    return study


@pytest.fixture(scope="session")
def encoding_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file with encoding models of two networks, planted in two of three regions, run; to be read only."""
    file = write_study(tmp_path_factory.mktemp("encoding"), sounds=40, people=2, changes=SMALL)
    run_file(file)
    return file
