"""Write the pages of the API reference: every public name of a folder, room by room, from its stub `__init__.pyi`."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "features": "What a network hears: sounds, networks, activations, maximizing patterns, maps and what units prefer.",
    "rsa": "The brain and its geometry: images, patterns, RDMs, comparisons, tests, searchlights and encoding models.",
    "viz": "Figures of all of it, and the page of a study. Every figure is a matplotlib `Figure`.",
}
TITLES = {
    "glm": "From BOLD to betas",
    "rdm": "RDMs",
    "page": "The page",
    "features": "Figures of networks and sounds",
    "rsa": "Figures of RDMs and brains",
    "style": "What every figure is",
}
_DOI = re.compile(r"(?<![`\w/])doi:(10\.\d{4,9}/[^\s,;`]+[^\s,;.`)])")


def list_names(folder: str) -> dict[str, list[str]]:
    """List the public names of a folder by the room that defines them, in the order of its stub."""
    stub = ast.parse((ROOT / folder / "__init__.pyi").read_text(encoding="utf-8"))
    rooms: dict[str, list[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            rooms.setdefault(node.module.split(".")[0], []).extend(alias.name for alias in node.names)
    return rooms


def find_kind(folder: str, name: str) -> str:
    """Tell whether a public name is a class, a function or a value."""
    found = getattr(importlib.import_module(f"brainmap.{folder}"), name)
    return "class" if isinstance(found, type) else "function" if callable(found) else "data"


def describe_value(folder: str, name: str) -> str:
    """Return the text that follows a value in the module that defines it."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for one, following in itertools.pairwise(body):
            target = one.target if isinstance(one, ast.AnnAssign) else None
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(target, ast.Name) and target.id == name and isinstance(text, ast.Constant):
                return " ".join(str(text.value).split())
    raise LookupError(f"no text follows {folder}.{name}")


def write_folder(folder: str) -> str:
    """Write the page of a folder: a section for each room with its paragraph and a table of its names."""
    title = f"brainmap.{folder}"
    lines = [title, "=" * len(title), "", FOLDERS[folder], "", f".. currentmodule:: brainmap.{folder}", ""]
    for room, names in list_names(folder).items():
        heading = TITLES.get(room, room.capitalize())
        about = importlib.import_module(f"brainmap.{folder}.{room}").__doc__ or ""
        lines += [heading, "-" * len(heading), "", " ".join(about.split()), ""]
        for kind in ("function", "class"):
            chosen = sorted(name for name in names if find_kind(folder, name) == kind)
            if chosen:
                lines += [
                    ".. autosummary::",
                    "   :nosignatures:",
                    "   :toctree: generated",
                    f"   :template: autosummary/{kind}.rst",
                    "",
                ]
                lines += [f"   {name}" for name in chosen] + [""]
        for name in names:
            if find_kind(folder, name) == "data":
                lines += [f".. py:data:: {name}", "", f"   {describe_value(folder, name)}", ""]
    return "\n".join(lines)


def write_index() -> str:
    """Write the page that leads to the folders."""
    lines = ["API reference", "=============", ""]
    lines += [
        "Every public name, with shapes, units, errors and sources, from three folders:",
        "",
    ]
    lines += [".. code-block:: python", "", "   from brainmap import features, rsa, viz", ""]
    lines += [f":doc:`brainmap.{name} <{name}>`\n   {about}\n" for name, about in FOLDERS.items()]
    return "\n".join([*lines, ".. toctree::", "   :hidden:", "", *[f"   {name}" for name in FOLDERS], ""])


def list_pages() -> Iterator[tuple[str, str]]:
    """List all pages of the reference: name and text."""
    yield "index.rst", write_index()
    for folder in FOLDERS:
        yield f"{folder}.rst", write_folder(folder)


def replace_if_changed(path: Path, text: str) -> None:
    """Write a page unless it is there already, so that what did not change is not built again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def link_sources(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Turn each DOI of a docstring into a link, and keep a vertical bar what it is: |x| is no substitution."""
    in_code = False
    for at, line in enumerate(lines):
        in_code = line.strip().startswith((">>>", "...")) or (in_code and bool(line.strip()))
        if in_code:
            continue
        parts = _DOI.sub(r"`doi:\1 <https://doi.org/\1>`__", line).split("`")
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[at] = "`".join(parts)


def write_pages(app: Any, _config: Any) -> None:
    """Write all pages before Sphinx looks for documents."""
    for name, text in list_pages():
        replace_if_changed(Path(app.srcdir) / "reference" / name, text)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("config-inited", write_pages)
    app.connect("autodoc-process-docstring", link_sources, priority=400)
    return {"parallel_read_safe": True}
