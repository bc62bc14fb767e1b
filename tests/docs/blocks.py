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
    """What is typed in a console block: what follows `$ ` to the end of its quotes; not what is printed."""
    typed: list[str] = []
    going_on = False
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        if going_on:
            typed[-1] += f"\n{line}"
        elif line.startswith("$ "):
            typed.append(line[2:])
        else:
            continue
        going_on = is_open(typed[-1])
    return typed


def is_open(line: str) -> bool:
    """Whether a quote of a line is not closed."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def list_steps(page: Path) -> Iterator[str]:
    """What a reader of a page does, in lines of a shell: types what it says, and saves the files that it shows.

    A study file is saved as study.toml, and code whose first comment names a file under that name. A block that prints
    a line of `brainmap: ` shows a mistake, and is not typed.
    """
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        named = re.match(r"(?:#!.*\n)?# ([\w.-]+\.\w+)\n", text)
        if language == "console":
            yield from join_lines(text) if "\nbrainmap: " not in text else ()
        elif named or text.startswith("schema = "):
            name = named[1] if named else "study.toml"
            yield f"cat > {name} <<'END OF {name}'\n{text}END OF {name}"


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
        words = shlex.split(re.sub(r"\s&(?=\s|$)", " ; ", line), comments=True)
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


def read_code() -> str:
    """The code of all folders; literals that stand one after the other are one."""
    files = [file for name in ("brainmap", "features", "rsa", "viz") for file in sorted((ROOT / name).rglob("*.py"))]
    return re.sub(r"\"\s*\n\s*f?\"", "", "".join(file.read_text(encoding="utf-8") for file in files))


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
