"""Every command has an example, and every call in the documents is one that brainmap takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from brainmap import cli
from brainmap.checks import check_enough, check_one_each
from brainmap.cli import once
from brainmap.errors import InputError
from tests.docs.blocks import EXAMPLES, PAGES, ROOT, find_command, join_lines, list_calls, list_typed, read_code

PLACES = {"COMMAND", "STUDY", "..."}  # words that stand for others


@pytest.fixture(scope="module")
def root() -> Any:
    cli.load_commands()
    return typer.main.get_command(cli.app)


def every_command(root: Any) -> Iterator[str]:
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        yield from [name] if inner is None else [f"{name} {word}" for word in inner]


def refuse_options(root: Any, call: list[str]) -> str:
    """Why a call would be refused before any file is read; empty if it would not be."""
    name, command, words = find_command(root, call)
    if command is None:
        return f"no command {name!r}"
    try:
        command.make_context(name, words)
    except Exception as error:
        return f"{' '.join(call)}: {getattr(error, 'message', error)}"
    return ""


def test_every_command_has_an_example_that_calls_it(root: Any) -> None:
    assert sorted(EXAMPLES) == sorted(every_command(root))
    for name, example in EXAMPLES.items():
        calls = [find_command(root, call)[0] for call in list_calls(join_lines(example["run"]))]
        assert name in calls
        assert example["says"].endswith(".")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_calls_in_documents_name_commands_and_options_that_exist(
    page: Path, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "_expand_values", lambda values, param: list(values))  # the files are not here
    calls = [call for call in list_calls(list_typed(page)) if not PLACES & set(call)]
    assert [said for call in calls if (said := refuse_options(root, call))] == []


def test_examples_name_options_that_exist(root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "_expand_values", lambda values, param: list(values))
    calls = [call for example in EXAMPLES.values() for call in list_calls(join_lines(example["run"]))]
    assert len(calls) >= len(EXAMPLES)
    assert [said for call in calls if (said := refuse_options(root, call))] == []


def test_a_wrong_option_would_be_found(root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no command 'rsa rdn'" in refuse_options(root, ["rsa", "rdn"])
    assert "--betaz" in refuse_options(root, ["rsa", "rdm", "--betaz", "x"])
    assert list(list_calls(['N="--checkpoint a b"', "cd x && brainmap run $N; brainmap check s.toml & sleep 3"])) == [
        ["run", "--checkpoint", "a", "b"],
        ["check", "s.toml"],
    ]


def test_messages_of_the_troubleshooting_page_are_those_that_brainmap_says() -> None:
    code = read_code()
    assert '3, "patterns", "conditions for an RDM"' in code  # these two are put together when they are said
    assert '"patterns: labels", f"volumes of' in code
    for call in (
        lambda: check_enough(2, 3, "patterns", "conditions for an RDM"),
        lambda: check_one_each([], 4, "patterns: labels", "volumes of x"),
    ):
        with pytest.raises(InputError) as said:
            call()
        code += str(said.value)
    lost = []
    for page in ("troubleshooting.md", "results.md"):
        for cell in re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "guides" / page).read_text(encoding="utf-8"), re.M):
            for message in re.findall(r"`([^`]+)`", cell):
                parts = [part.strip(" ;:'") for part in message.split("...")]
                found = [part for part in parts if len(part) > 5]
                assert found, message
                lost += [
                    part
                    for part in found
                    if part.replace("{participant}", "{{participant}}") not in code and part not in code
                ]
    assert lost == []
