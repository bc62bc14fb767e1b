"""Commands run as the documents show them: the examples of the command reference, one after the other, and pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from brainmap import data
from brainmap.study.demo import DemoSettings, write_demo
from tests.docs.blocks import EXAMPLES, ROOT, join_lines, list_blocks

pytestmark = pytest.mark.slow
ELSEWHERE = {
    "demo": "the wheel's demo runs in .ci/run",
    "explore": "it serves until it is stopped; its own tests ask it",
    "rsa encode-stories": "the demo has no stories; its own tests run it",
    "rsa rdm-stories": "the demo has no stories; its own tests run it",
}
WORDS = ("cat", "dog", "tree", "bed")


def run_lines(lines: Sequence[str], folder: Path, *, stop: bool = True) -> list[str]:
    """Type lines into one shell, which stops at the first that fails; return what went wrong."""
    script = "\n".join(["shopt -s expand_aliases", "set -eo pipefail" if stop else "", *lines])
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "agg",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=1500)
    return [] if done.returncode == 0 else [*lines, done.stdout[-2000:], done.stderr[-2000:]]


def write_network(folder: Path) -> None:
    """The network of docs/networks.md: its code as the page has it, and its weights."""
    (code,) = [
        block for block in list_blocks(ROOT / "docs" / "networks.md", "python") if block.startswith("# mynets.py")
    ]
    (folder / "mynets.py").write_text(code)
    names: dict[str, object] = {}
    exec(code, names)
    torch.manual_seed(0)
    torch.save(names["build"]().state_dict(), folder / "mine.pt")  # type: ignore[operator]


def write_classes(folder: Path) -> None:
    """A folder with a folder of recordings for each class, named as in Speech Commands."""
    table = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
    for row in table.itertuples():
        home = folder / str(row.condition)
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(data.folder() / "words" / str(row.path), home / f"{row.voice}_nohash_0.flac")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the examples are typed: the quick demo, one participant of it as BOLD too."""
    folder = tmp_path_factory.mktemp("examples") / "demo-study"
    write_demo(folder, replace(DemoSettings.quick(), bold=True))
    write_network(folder)
    write_classes(folder / "speech_commands")
    return folder


def test_the_examples_of_all_commands_run_one_after_the_other(demo: Path) -> None:
    wrong = []
    for name, example in EXAMPLES.items():
        if name not in ELSEWHERE:
            wrong += run_lines(join_lines(example["run"]), demo)
    assert wrong == []
    ran = [example for name, example in EXAMPLES.items() if name not in ELSEWHERE]
    named = {word for example in ran for word in re.findall(r"(?:--out|--figure|--wav) '?([\w.-]+)'?", example["run"])}
    files = {file for file in named if "{" not in file and "$" not in file}
    assert [file for file in sorted(files) if not any(demo.glob(f"{file}*"))] == []


def write_few_words(folder: Path) -> None:
    """data/ as docs/hearing.md names it, with three of the twelve voices, which is quicker."""
    (folder / "data").mkdir()
    (folder / "data" / "networks").symlink_to(data.folder() / "networks")
    shutil.copytree(data.folder() / "words", folder / "data" / "words")
    table = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
    few = table[table["voice"].isin(["v01", "v02", "v03"])]
    few.to_csv(folder / "data" / "words" / "stimuli.tsv", sep="\t", index=False)


def test_the_commands_of_what_the_network_hears_run(tmp_path: Path) -> None:
    """docs/hearing.md is typed in a folder that holds data/."""
    write_few_words(tmp_path)
    story = [soundfile.read(file)[0] for file in sorted((data.folder() / "words").glob("six_*.flac"))]
    soundfile.write(tmp_path / "story.flac", np.concatenate(story), 16_000)
    soundfile.write(tmp_path / "some.wav", story[0], 16_000)
    page = ROOT / "docs" / "hearing.md"
    lines = [line for block in list_blocks(page, "console") for line in join_lines(block)]
    skip = ("compare-patterns", "compare-priors")  # their stores take a quarter of an hour each
    chosen = [make_short(line) for line in lines if not any(word in line for word in skip)]
    assert run_lines(chosen, tmp_path) == []


def make_short(line: str) -> str:
    """The same command with fewer steps where it takes minutes, and fewer sounds where a quarter of them is at hand."""
    if re.search(r"features (maximize|metamers|saturation)", line):
        return f"{line.split('#')[0]} --steps 10"
    return line.replace("-n 16 --per-condition 2", "-n 4") if "features controversial" in line else line


def test_the_log_mel_network_of_the_page_on_networks_goes_from_code_to_maps(demo: Path, tmp_path: Path) -> None:
    write_network(tmp_path)
    shutil.copytree(demo / "sounds", tmp_path / "sounds")
    table = pd.read_csv(demo / "stimuli.tsv", sep="\t")
    table[table["condition"].isin(WORDS)].to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    steps = page[: page.index("In a study file two networks")]
    lines = [line for block in re.findall(r"```console\n(.*?)```", steps, re.S) for line in join_lines(block)]
    assert len(lines) == 5
    assert run_lines(lines, tmp_path) == []
    assert (tmp_path / "cam.png").stat().st_size > 5_000
