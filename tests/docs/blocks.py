"""Commands as the documents show them: read from Markdown, and from the examples of the command reference."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES: dict[str, dict[str, str]] = tomllib.loads((ROOT / "docs" / "commands.toml").read_text(encoding="utf-8"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
]


def list_blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def join_lines(block: str) -> list[str]:
    """What is typed in a console block: lines after `$`, with those that a backslash continues; not what is printed."""
    whole = re.sub(r"\\\n\s*", "", block)
    return [line[2:] for line in whole.splitlines() if line.startswith("$ ")]


def list_typed(page: Path) -> list[str]:
    """Everything that a page says to type."""
    typed = [line for block in list_blocks(page, "console") for line in join_lines(block)]
    return typed + [
        line for block in list_blocks(page, "bash") for line in block.splitlines() if line.startswith("brainmap ")
    ]


def list_calls(lines: list[str]) -> Iterator[list[str]]:
    """The words of each call of brainmap in lines of a shell, with the page's own variables filled in."""
    variables: dict[str, str] = {}
    for line in lines:
        if found := re.fullmatch(r'([A-Z]+)="(.*)"', line.strip()):
            variables[found[1]] = found[2]
            continue
        for name, text in variables.items():
            line = re.sub(rf"\${name}\b", text, line)
        line = re.sub(r"\$\{?\w+\}?", "1", line)  # a loop's, or the system's
        try:
            words = shlex.split(re.sub(r"\s&(?=\s|$)", " ; ", line), comments=True)
        except ValueError:  # a text over several lines, which is no call of brainmap
            assert not line.startswith("brainmap ")
            continue
        call: list[str] | None = None
        for word in [*words, ";"]:
            end = word in (";", "|", "&&", "||", "do", "done") or word.startswith((">", "2>"))
            if call is not None and (end or word.endswith(";")):
                yield [*call, *([word[:-1]] if not end else [])]
                call = None
            elif call is not None:
                call.append(word)
            elif word == "brainmap":
                call = []


def find_command(root: Any, words: list[str]) -> tuple[str, Any, list[str]]:
    """The command that words name, and its arguments; options of brainmap itself come first."""
    words = list(words)
    while words and words[0].startswith("-"):
        del words[: 2 if words[0] == "--grid-tolerance" else 1]
    name, *rest = words or ["--help"]
    command = root.commands.get(name)
    if command is not None and getattr(command, "commands", None) is not None:
        group, (word, *rest) = command, rest or ["--help"]
        return f"{name} {word}", group.commands.get(word), rest
    return name, command, rest
