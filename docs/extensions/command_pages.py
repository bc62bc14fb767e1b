"""Write the command reference from the commands themselves: what `--help` says of each, and one example."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "commands.toml"
GROUPS = {
    "": "Studies and networks",
    "features": "What a network hears: features",
    "rsa": "Betas, RDMs, tests and maps: rsa",
    "viz": "Figures: viz",
}


def load_root() -> Any:
    """Load every command of brainmap as click sees it."""
    import typer

    from brainmap import cli

    cli.load_commands()
    return typer.main.get_command(cli.app)


def list_commands() -> Iterator[tuple[str, Any]]:
    """List all commands with their words after `brainmap`, as in `rsa rdm`."""
    for name, command in load_root().commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {word}", one) for word, one in inner.items())


def read_examples() -> dict[str, dict[str, str]]:
    """Read the example of each command: `run` is what to type, `says` what it does."""
    return tomllib.loads(EXAMPLES.read_text(encoding="utf-8"))


def escape(text: str) -> str:
    """Escape what reStructuredText would take for markup, undo typer's own escapes, and keep code between backticks."""
    parts = " ".join(text.replace("\\[", "[").split()).split("`")
    escaped = [re.sub(r"([\\*`|_])", r"\\\1", part) for part in parts]
    escaped[1::2] = [f"``{part}``" for part in parts[1::2]]
    return "".join(escaped)


def describe_param(param: Any, context: Any) -> list[str]:
    """Describe an argument or an option in reStructuredText, with the words of `--help`."""
    found = param.get_help_record(context)
    if found is None:  # it is hidden
        return []
    names, words = found
    if param.param_type_name == "argument":
        return [f"``{names}``", f"   {escape(words)}", ""]
    return [f".. option:: {names.replace(' / ', ', ')}", "", f"   {escape(words)}", ""]


def describe_command(name: str, command: Any, example: dict[str, str]) -> str:
    """Write the page of a command."""
    title = f"brainmap {name}"
    context = command.make_context(title, [], resilient_parsing=True)
    usage = command.get_usage(context).removeprefix("Usage: ")
    about = (command.help or "").split("\n\n")
    lines = [title, "=" * len(title), "", escape(about[0]), ""]
    lines += [line for part in about[1:] for line in (escape(part), "")]
    lines += [".. code-block:: text", "", f"   {' '.join(usage.split())}", ""]
    lines += ["Example", "-------", "", example["says"], "", ".. code-block:: console", ""]
    lines += [f"   {line}" for line in example["run"].strip().splitlines()] + [""]
    shown = [param for param in command.params if param.name != "help"]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    options = [param for param in shown if param.param_type_name == "option"]
    if arguments:
        lines += ["Arguments", "---------", ""] + [
            line for param in arguments for line in describe_param(param, context)
        ]
    if options:
        lines += ["Options", "-------", "", f".. program:: {title}", ""]
        lines += [line for param in options for line in describe_param(param, context)]
    return "\n".join(lines)


def write_index(names: dict[str, str]) -> str:
    """Write the page that lists all commands by group."""
    title = "Command reference"
    lines = [title, "=" * len(title), "", "What ``--help`` says of each command, with one example.", ""]
    for group, heading in GROUPS.items():
        members = sorted(name for name in names if (name.split()[0] if " " in name else "") == group)
        lines += [heading, "-" * len(heading), ""]
        for name in members:
            lines += [f":doc:`brainmap {name} <{name.replace(' ', '-')}>`", f"   {names[name]}", ""]
        lines += [".. toctree::", "   :hidden:", "", *[f"   {name.replace(' ', '-')}" for name in members], ""]
    return "\n".join(lines)


def list_pages() -> Iterator[tuple[str, str]]:
    """List all pages of the command reference: name and text."""
    examples, names = read_examples(), {}
    for name, command in list_commands():
        names[name] = escape((command.help or "").split("\n\n")[0])
        yield f"{name.replace(' ', '-')}.rst", describe_command(name, command, examples[name])
    yield "index.rst", write_index(names)


def write_pages(app: Any, _config: Any) -> None:
    """Write all pages before Sphinx looks for documents."""
    from api_pages import replace_if_changed

    for name, text in list_pages():
        replace_if_changed(Path(app.srcdir) / "commands" / name, text)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", write_pages)
    return {"parallel_read_safe": True}
