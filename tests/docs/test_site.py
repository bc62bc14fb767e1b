"""The site builds without a warning, has a page for everything, loads nothing from elsewhere; its links lead on."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from brainmap import features, rsa, viz
from tests.docs.blocks import EXAMPLES, ROOT
from tests.docs.shell import Shell
from tests.docs.test_workflows import read_yaml


def test_building_without_the_extra_says_the_one_command_to_type(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "lacks = lambda name, package=None: None if name in ('sphinx', 'numpydoc') else found(name, package)\n"
        "importlib.util.find_spec = lacks\n"
    )
    command = [sys.executable, str(ROOT / "docs" / "build.py")]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("docs: expected the extras docs and transformers, got no sphinx, numpydoc; type: ")
    assert line.endswith(" -m pip install -c constraints.txt -e '.[docs,transformers]'")


class Page(HTMLParser):
    """The links, the marks and what a page loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.marks: set[str] = set()
        self.loads: set[str] = set()
        self.without_words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.marks |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag in ("script", "img", "audio", "iframe") and "src" in given:
            self.loads.add(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.add(given["href"])
        if tag == "img" and "alt" not in given:  # an empty one says that the title beside it is enough
            self.without_words.append(given.get("src", "")[:60])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once for all workers: two builds at a time write the same pages of the reference."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    out = shared / "site" / "html"
    with (shared / "site.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (out / "index.html").is_file():
            command = [sys.executable, str(ROOT / "docs" / "build.py"), "--without-gallery", "--out", str(out)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
            assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.mark.slow
def test_every_public_name_and_every_command_has_a_page(site: Path) -> None:
    lost = []
    for room in (features, rsa, viz):
        page = Page((site / "reference" / f"{room.__name__.split('.')[-1]}.html").read_text(encoding="utf-8"))
        for name in (f"{room.__name__}.{word}" for word in dir(room)):
            if not (site / "reference" / "generated" / f"{name}.html").is_file() and name not in page.marks:
                lost.append(name)
    assert lost == []
    assert [name for name in EXAMPLES if not (site / "commands" / f"{name.replace(' ', '-')}.html").is_file()] == []


@pytest.mark.slow
def test_no_link_leads_nowhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    files = [file for file in site.rglob("*.html") if "_static" not in file.parts]  # templates of the theme
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in files}
    assert len(pages) > 250
    broken, foreign = [], []
    for file, page in pages.items():
        for link in page.links | page.loads:
            parts = urlsplit(link)
            if link in page.loads and (parts.scheme in ("http", "https") or parts.netloc):
                foreign.append(f"{file.name}: {link}")
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].marks
            ):
                broken.append(f"{file.relative_to(site)}: {link}")
    assert sorted(set(broken)) == []
    assert sorted(set(foreign)) == []


@pytest.mark.slow
def test_every_picture_has_a_description(site: Path) -> None:
    files = [file for file in site.rglob("*.html") if "_static" not in file.parts]
    pages = [Page(file.read_text(encoding="utf-8")) for file in files]
    assert sorted({source for page in pages for source in page.without_words}) == []


@pytest.mark.slow
def test_read_the_docs_serves_what_make_docs_built(site: Path, shell: Shell, tmp_path: Path) -> None:
    """Its commands are typed one after the other in a clone; the site stands for what `make docs` builds."""
    (tmp_path / "docs" / "_build").mkdir(parents=True)
    (tmp_path / "docs" / "_build" / "html").symlink_to(site)
    commands = read_yaml(ROOT / ".readthedocs.yaml")["build"]["commands"]
    assert shell.run([f"READTHEDOCS_OUTPUT={tmp_path}/output", *commands], tmp_path) == []
    assert (tmp_path / "output" / "html" / "index.html").read_bytes() == (site / "index.html").read_bytes()
