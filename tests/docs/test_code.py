"""Python in the documents is Python, and names functions, arguments and results that exist."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainmap import features, rsa, viz
from tests.docs.blocks import PAGES, list_blocks

ROOMS = {"features": features, "rsa": rsa, "viz": viz}


def list_mistakes(code: str) -> Iterator[str]:
    """What code takes from a room that it does not offer, and arguments that a function does not take."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ROOMS:
            if node.attr not in ROOMS[node.value.id].__all__:
                yield f"no {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).partition(".")[0] in ROOMS:
            room, _, name = ast.unparse(node.func).partition(".")
            found = getattr(ROOMS[room], name, None)
            if not callable(found):
                continue
            takes = inspect.signature(found).parameters
            free = any(one.kind is one.VAR_KEYWORD for one in takes.values())
            given = [word.arg for word in node.keywords if word.arg is not None]
            yield from (f"{room}.{name} takes no {word}" for word in given if word not in takes and not free)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_documents_names_what_is_there(page: Path) -> None:
    blocks = [block for block in list_blocks(page, "python") if "dask_jobqueue" not in block]
    assert [said for block in blocks for said in list_mistakes(block)] == []


def test_code_that_names_what_is_not_there_would_be_found() -> None:
    code = "rsa.compute_rdm(x)\nrsa.compute_rdms(x, dissimilarities='correlation')\nviz.plot_rdm(y)"
    assert sorted(list_mistakes(code)) == ["no rsa.compute_rdm", "rsa.compute_rdms takes no dissimilarities"]
