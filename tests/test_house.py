"""Habits of the house: sizes, docstrings, pinned versions, documents that agree with each other and with the disk."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import brainmap

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("brainmap", "features", "rsa", "viz", "data")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[Path, str]]:
    """Every module of the library once, relative to the root, with its text."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if not any(parent.is_symlink() for parent in file.parents):
                yield file.relative_to(ROOT), file.read_text(encoding="utf-8")


def functions() -> Iterator[tuple[str, Function]]:
    """Functions and methods with a name that leads to them."""
    for file, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Function):
                yield f"{file}:{node.lineno} {node.name}", node


def test_modules_and_functions_stay_readable() -> None:
    long = [f"{file}: {text.count(chr(10))} lines" for file, text in sources() if text.count("\n") > 480]
    for name, node in functions():
        length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1  # a signature may be a list of options
        statement = node.body[0]
        if ast.get_docstring(node) is not None:  # a long docstring does no harm
            length -= (statement.end_lineno or statement.lineno) - statement.lineno + 1
        if length > 80:
            long.append(f"{name}: {length} lines")
    assert long == []


def test_benchmarks_and_scripts_import_what_there_is() -> None:
    wrong: list[str] = []
    for file in sorted(path for folder in ("benchmarks", "docs", "data") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "brainmap":
                module = importlib.import_module(node.module or "")
                for name in (alias.name for alias in node.names):
                    there = hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}") is not None
                    wrong += [] if there else [f"{file.relative_to(ROOT)}: {node.module} has no {name}"]
    assert wrong == []


def test_public_functions_say_what_they_do_and_take_at_most_five_positional_arguments() -> None:
    wrong: list[str] = []
    for file, text in sources():
        for node in ast.parse(text).body:
            if not isinstance(node, Function) or node.name.startswith("_"):
                continue
            decorators = {ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list}
            if "overload" in decorators:
                continue
            if ast.get_docstring(node) is None:
                wrong.append(f"{file}:{node.lineno} {node.name}: no docstring")
            # typer makes options of a command's arguments; compiled kernels take no keywords
            free = file.parts[:2] == ("brainmap", "cli") or "njit" in decorators
            if len(node.args.args) + len(node.args.posonlyargs) > 5 and not free:
                wrong.append(f"{file}:{node.lineno} {node.name}: more than five positional arguments")
    assert wrong == []


def canonical(name: str) -> str:
    """A distribution's name as installers compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_everything_that_is_asked_for_and_nothing_of_one_machine() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)] == []
    pinned = {canonical(line.split("==")[0]) for line in lines}
    assert len(pinned) == len(lines)
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["test"], *extras["dev"]]
    names = {canonical(re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]) for requirement in asked}
    assert names - pinned == {"brainmap"}
    assert "torch==2.13.0" in lines


def test_every_document_tells_the_same_version() -> None:
    assert PROJECT["version"] == brainmap.__version__
    assert f"\nversion: {brainmap.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {brainmap.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_study_file_of_the_readme_is_one_that_brainmap_takes(tmp_path: Path) -> None:
    from brainmap.study.settings.study import load_study

    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "study.toml").write_text(text)
    settings = load_study(tmp_path / "study.toml").settings
    assert settings.network[0].controls == ("untrained",)
    assert len(settings.brain[0].participants) == 8


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_whole_study_files_of_the_guides_are_ones_that_brainmap_takes(page: Path, tmp_path: Path) -> None:
    from brainmap.study.settings.study import load_study

    for text in re.findall(r"```toml\n(schema.*?)```", page.read_text(encoding="utf-8"), re.S):
        (tmp_path / "study.toml").write_text(text)
        assert load_study(tmp_path / "study.toml").settings.brain


@pytest.mark.slow
def test_the_example_in_python_runs_on_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainmap.study.demo import DemoSettings, write_demo

    page = ROOT / "docs" / "guides" / "python.md"
    (text,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    write_demo("demo-study", DemoSettings(participants=2, bold=False))
    names: dict[str, Any] = {}
    exec(compile(text, page.name, "exec"), names)
    layers, rois = (names["layers"].rdm_descriptors["layer"], names["regions"].rdm_descriptors["roi"])
    assert names["scores"].shape == (len(layers), len(rois))
    found = {roi: layers[k] for roi, k in zip(rois, names["scores"].argmax(axis=0), strict=True)}
    assert abs(int(found["left-heschl"].removeprefix("conv")) - 2) <= 1
    assert {p.name for p in tmp_path.iterdir()} >= {"conv4+tlrc.HEAD", "conv4+tlrc.BRIK", "conv4.png", "cam.png", "am"}
