"""Commands that compute nothing import nothing that computes, each in a process of its own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from brainmap import answers
from tests.conftest import Answer, TinyStudy
from tests.features.networks.folders import make_folder

HEAVY = (
    "torch",
    "transformers",
    "rsatoolbox",
    "nilearn",
    "numba",
    "zarr",
    "sklearn",
    "himalaya",
    "matplotlib",
    "jinja2",
    "scipy.stats",
    "scipy.signal",
    "scipy.spatial",
)
PROGRAM = f"""
import sys
from brainmap.cli import main
code = 0
try:
    main()
except SystemExit as ended:
    code = ended.code or 0
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def run_apart(cache: Path, *words: object, code: int = 0) -> tuple[str, list[str]]:
    """What a command prints in a process with its own cache, and the heavy modules that it imported."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    given = [sys.executable, "-c", PROGRAM, *map(str, words)]
    done = subprocess.run(given, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done.stderr
    return done.stdout, ast.literal_eval(done.stderr.splitlines()[-1])


@pytest.mark.slow
def test_check_and_a_second_run_import_no_torch(finished: TinyStudy, tmp_path: Path) -> None:
    new, loaded = run_apart(tmp_path / "cache", "check", finished.file)
    assert "torch" in loaded
    kept, loaded = run_apart(tmp_path / "cache", "check", finished.file)
    assert loaded == []
    assert without_estimate(kept) == without_estimate(new)
    before = finished.files()
    run_apart(tmp_path / "cache", "run", finished.file)
    _, loaded = run_apart(tmp_path / "cache", "run", finished.file)
    assert loaded == []
    assert finished.files() == before


@pytest.mark.slow
def test_a_page_that_is_written_again_imports_only_what_draws(finished: TinyStudy, tmp_path: Path) -> None:
    run_apart(tmp_path / "cache", "report", finished.file)
    before = finished.files()
    _, loaded = run_apart(tmp_path / "cache", "report", finished.file)
    assert set(loaded) == {"zarr", "matplotlib", "jinja2"}
    assert finished.files().keys() == before.keys()


@pytest.mark.slow
def test_what_a_network_calls_the_sounds_is_found_once(tiny_study: TinyStudy, tmp_path: Path) -> None:
    new, loaded = run_apart(tmp_path / "cache", "check", tiny_study.file)
    assert "torch" in loaded
    assert "near chance" in new  # the network is not trained
    kept, loaded = run_apart(tmp_path / "cache", "check", tiny_study.file)
    assert loaded == []
    assert without_estimate(kept) == without_estimate(new)
    table = tiny_study.folder / "stimuli.tsv"
    table.write_text(table.read_text().replace("\tcat\t", "\tdog\t"))  # other conditions are another question
    other, loaded = run_apart(tmp_path / "cache", "check", tiny_study.file)
    assert "torch" in loaded
    assert other != kept


def test_sounds_are_read_without_torch() -> None:
    reads = (
        "import sys, brainmap.features.sounds.files, brainmap.features.sounds.windows; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", reads], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def without_estimate(said: str) -> list[str]:
    """The lines of a check that do not depend on what else the machine does."""
    return [line for line in said.splitlines() if not line.startswith("estimate:")]


@pytest.mark.slow
def test_a_kept_check_finds_what_a_new_one_finds(finished: TinyStudy, tmp_path: Path) -> None:
    run_apart(tmp_path / "cache", "check", finished.file)
    finished.edit(('layers = ["conv1", "conv3", "output"]', 'layers = ["conv1", "conf3", "output"]'))
    for _ in range(2):  # a refusal is not kept
        _, loaded = run_apart(tmp_path / "cache", "check", finished.file, code=2)
        assert "torch" in loaded
    finished.edit(('"conf3"', '"conv3"'))
    (finished.folder / "net.safetensors").write_bytes(b"no network")
    run_apart(tmp_path / "cache", "check", finished.file, code=2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that this process shares with those of `run_apart`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = answers.open_versioned_folder(answers.find_user_cache("answers"), answers._name_version())
    monkeypatch.setattr(answers, "_open_folder", lambda: folder)
    return tmp_path / "cache"


def test_layers_of_a_folder_seen_before_come_without_torch_and_transformers(
    cache: Path, tmp_path: Path, brainmap_command: Callable[..., Answer]
) -> None:
    words = ("features", "layers", "--checkpoint", make_folder(tmp_path, "wav2vec2-class"))
    new = brainmap_command(*words)
    assert new.code == 0, new.err
    kept, loaded = run_apart(cache, *words)
    assert loaded == []
    assert kept == new.out


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--every", "--json")])
def test_layers_that_another_process_listed_come_without_torch_and_transformers(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    words = ("features", "layers", "--checkpoint", make_folder(tmp_path, "wav2vec2-class"), *options)
    new, loaded = run_apart(tmp_path / "cache", *words)
    assert {"torch", "transformers"} <= set(loaded)
    kept, loaded = run_apart(tmp_path / "cache", *words)
    assert loaded == []
    assert kept == new
