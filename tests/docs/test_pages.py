"""Every console block of README, CONTRIBUTING, docs and guides is typed as it stands, in the folder its reader has."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.docs import folders
from tests.docs.blocks import EXAMPLES, PAGES, ROOT, list_blocks, list_steps, read_code
from tests.docs.shell import Shell

DEMO = "brainmap demo demo-study --quick"  # .ci/run types it, with what the wheel installed


def type_page(page: str, folder: Path, shell: Shell) -> None:
    """Do what a page says, in one shell."""
    lines = [line for line in list_steps(ROOT / page) if line != DEMO]
    assert lines
    wrong = shell.run(lines, folder)
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def folder(words: Path, tmp_path: Path) -> Path:
    """A copy of the words, which a page may change."""
    return Path(shutil.copytree(words, tmp_path / "words"))


@pytest.mark.slow
def test_rdms_tests_and_maps(folder: Path, shell: Shell) -> None:
    assert shell.run(folders.MAPS, folder) == []
    folders.add_candidates(folder)
    type_page("docs/statistics.md", folder, shell)


@pytest.mark.slow
def test_encoding_models(folder: Path, shell: Shell) -> None:
    folders.add_stories(folder)
    assert shell.run(folders.ENCODERS, folder) == []
    type_page("docs/encoding.md", folder, shell)


@pytest.mark.slow
def test_the_brain_side(folder: Path, shell: Shell) -> None:
    folders.add_bold(folder)
    type_page("docs/brain.md", folder, shell)


@pytest.mark.slow
def test_what_the_network_hears(tmp_path: Path, shell: Shell) -> None:
    folders.write_few_words(tmp_path)
    type_page("docs/hearing.md", tmp_path, shell)


@pytest.mark.slow
def test_anybody_s_network(tmp_path: Path, shell: Shell) -> None:
    folders.write_network(tmp_path)
    folders.write_others(tmp_path)
    table = folders.choose_words(3)
    folders.write_sounds(tmp_path, table[table["condition"].isin(["cat", "dog", "tree", "bed"])])
    type_page("docs/networks.md", tmp_path, shell)
    assert (tmp_path / "cam.png").stat().st_size > 5_000


@pytest.mark.slow
def test_many_cores_and_machines(tiny_study: Any, shell: Shell) -> None:
    pytest.importorskip("distributed")
    tiny_study.edit(('out = "out"', 'out = "derivatives/brainmap"'))
    type_page("docs/cluster.md", tiny_study.folder, shell)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/guides/first-study.md"])
def test_a_first_study(page: str, tmp_path: Path, shell: Shell) -> None:
    folders.write_study(tmp_path, afni=page == "README.md")
    folders.write_classes(tmp_path / "speech_commands", ("cat", "dog", "tree", "bed"))
    type_page(page, tmp_path, shell)
    assert (tmp_path / "derivatives" / "brainmap" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/index.md", "CONTRIBUTING.md"])
def test_short_pages(page: str, tmp_path: Path, shell: Shell) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").symlink_to("/bin/true")  # this is it
    type_page(page, tmp_path, shell)


def test_no_page_with_a_console_block_is_left_out() -> None:
    text = Path(__file__).read_text(encoding="utf-8") + (Path(__file__).parent / "test_guides.py").read_text("utf-8")
    pages = [page for page in PAGES if list_blocks(page, "console")]
    assert len(pages) >= 10
    assert [page for page in pages if str(page.relative_to(ROOT)) not in text] == []


def test_the_demo_that_pages_show_is_the_one_that_runs_from_the_wheel() -> None:
    assert f"/{DEMO}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace('/bin/brainmap"', "/brainmap")
    shown = {line for page in PAGES for line in list_steps(page) if line.startswith("brainmap demo")}
    assert shown == {DEMO} == {EXAMPLES["demo"]["run"].removeprefix("$ ")}


def test_mistakes_that_pages_print_are_those_that_brainmap_says() -> None:
    blocks = [block for page in PAGES for block in list_blocks(page, "console")]
    printed = [line for block in blocks for line in re.findall(r"^(?:brainmap|note): (\S.*)$", block, re.M)]
    parts = [part.strip() for line in printed for part in re.split(r"\d+|\(.*?\)|[:;,]", line)]
    assert len(printed) >= 3
    code = read_code()
    assert [part for part in parts if len(part) > 12 and part not in code] == []
