"""The house: rooms at top level linked into the package, a wheel that holds them all, and doors that open cheaply."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("features", "rsa", "viz")
LINKS = (*ROOMS, "data")
HEAVY = ("torch", "nilearn", "nibabel", "librosa", "numba", "rsatoolbox", "scipy", "pandas", "matplotlib")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]


def git(*words: str) -> str:
    """What a git command prints, in the checkout that these tests belong to."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tracked() -> list[Path]:
    """Files of the project, relative to its root: what git knows and what it would not ignore."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    files = [Path(name) for name in names if name]
    return [f for f in files if (ROOT / f).is_symlink() or (ROOT / f).is_file()]


def folder_of(package: str) -> Path:
    """Where the modules of a package lie, relative to the root."""
    for top, folder in SETUPTOOLS["package-dir"].items():
        if package == top or package.startswith(f"{top}."):
            return Path(folder, *package.removeprefix(top).split("."))
    return Path(*package.split("."))


def modules() -> Iterator[tuple[str, Path]]:
    """Every module: its package and its file."""
    for package in SETUPTOOLS["packages"]:
        for file in sorted((ROOT / folder_of(package)).glob("*.py")):
            yield package, file


def test_pyproject_lists_every_package_on_disk() -> None:
    found = set()
    for folder, _, files in os.walk(ROOT / "brainmap", followlinks=True):
        if "__init__.py" in files:
            found.add(".".join(Path(folder).relative_to(ROOT).parts))
    assert set(SETUPTOOLS["packages"]) == found


@pytest.mark.parametrize("room", LINKS)
def test_a_room_is_linked_into_the_package_by_a_relative_link_that_git_tracks(room: str) -> None:
    entry = git("ls-files", "--stage", f"brainmap/{room}")
    assert entry.startswith("120000 "), f"git does not track brainmap/{room} as a link"
    assert (ROOT / "brainmap" / room).readlink() == Path("..", room)
    assert SETUPTOOLS["package-dir"][f"brainmap.{room}"] == room


def test_every_file_in_a_room_that_is_no_module_is_package_data() -> None:
    """A template or a word that no pattern names would be missing from the wheel alone."""
    patterns = {folder_of(p): globs for p, globs in SETUPTOOLS["package-data"].items()}
    left_out = []
    for file in tracked():
        if file.suffix == ".py" or (ROOT / file).is_symlink() or file.parts[0] not in ("brainmap", *LINKS):
            continue
        inside = {file.relative_to(room): globs for room, globs in patterns.items() if file.is_relative_to(room)}
        if not any(fnmatch.fnmatch(str(name), glob) for name, globs in inside.items() for glob in globs):
            left_out.append(str(file))
    assert left_out == []


@pytest.mark.slow
def test_the_wheel_holds_every_module_template_style_word_and_network(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for file in tracked():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, source / file, follow_symlinks=False)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {f"{p.replace('.', '/')}/{file.name}" for p, file in modules()}
    for package, globs in SETUPTOOLS["package-data"].items():
        folder = folder_of(package)
        for glob in globs:
            found = (ROOT / folder).glob(glob)
            wanted |= {f"{package.replace('.', '/')}/{file.relative_to(ROOT / folder)}" for file in found}
    assert held == wanted
    for part in (".mplstyle", "templates/", "data/words/stimuli.tsv", "data/networks/ch32.safetensors", "py.typed"):
        assert any(part in name for name in held), part
    assert wheel.stat().st_size < 16e6


@pytest.mark.parametrize("room", LINKS)
def test_a_room_refuses_to_be_imported_by_its_bare_name(room: str) -> None:
    spec = importlib.util.spec_from_file_location(room, ROOT / room / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ImportError, match=f"import brainmap.{room}, not {room}"):
        spec.loader.exec_module(module)


def loaded_after(code: str) -> set[str]:
    """Which heavy libraries a fresh process has loaded after some code."""
    report = f"import sys; print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_the_doors_open_without_loading_anything_heavy() -> None:
    assert loaded_after("from brainmap import features, rsa, viz; dir(features), dir(rsa), dir(viz)") == set()


def test_help_of_every_command_loads_nothing_heavy() -> None:
    code = """
import sys, typer
from brainmap import cli
sys.argv = ["brainmap", "--help"]
try:
    cli.main()
except SystemExit as done:
    assert done.code == 0

def show(command, words):
    try:
        command.main([*words[1:], "--help"], prog_name=words[0])
    except SystemExit as done:
        assert done.code == 0, words

def walk(command, words):
    for name, inner in getattr(command, "commands", {}).items():
        show(root, [*words, name])
        walk(inner, [*words, name])

cli.load_commands()
root = typer.main.get_command(cli.app)
assert set(root.commands) >= {"demo", "init", "check", "run", "report", "networks", "train", "evaluate"}
walk(root, ["brainmap"])
"""
    assert loaded_after(code) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_front_door_resolves_and_is_known_to_type_checkers(room: str) -> None:
    door = importlib.import_module(f"brainmap.{room}")
    assert sorted(door.__all__) == dir(door)
    for name in door.__all__:
        assert getattr(door, name) is not None
    stub = ast.parse((ROOT / room / "__init__.pyi").read_text(encoding="utf-8"))
    listed = [alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(listed) == sorted(dir(door)), "every name is listed once, and nothing else is offered"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = door.no_such_name


def test_no_function_shares_the_name_of_a_module_beside_it_or_looks_like_a_test() -> None:
    siblings: dict[str, set[str]] = {}
    for package, file in modules():
        siblings.setdefault(package, set()).add(file.stem)
    wrong = []
    for package, file in modules():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                at_a_door = package.removeprefix("brainmap.") in ROOMS  # there the function would hide the module
                if node.name.startswith("test_") or (at_a_door and node.name in siblings[package]):
                    wrong.append(f"{package}.{file.stem}.{node.name}")
    assert wrong == []
