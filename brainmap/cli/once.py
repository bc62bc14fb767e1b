"""Parse the words of the command line: an option of one value is given once, files in the order of their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.progress import log

_Function = TypeVar("_Function", bound=Callable[..., Any])

RENAMED = {
    "betas": {"--noise": "--noise-model"},
    "ceiling": {"--precision": "--noise-per"},
    "searchlight": {"--precision": "--noise-per"},
    "train": {"--augmentation": "--augment=channel", "--no-augmentation": "--augment=none"},
}
"""The new name of each old option, by command; brainmap 0.2 takes the old ones no longer."""


def refuse_mistakes(command: Any, ctx: Any, args: Sequence[str]) -> None:
    """Refuse a misspelt choice, and an option of one value that is given twice: the last would count.

    Raises
    ------
    InputError
    """
    given, _, order = command.make_parser(ctx).parse_args(args=list(args))
    once = [param for param in order if param.param_type_name == "option" and not param.multiple]
    twice = next((param for k, param in enumerate(once) if param in once[:k]), None)
    if twice is not None:
        names = " or ".join(twice.opts)
        raise InputError(f"{names}: expected once, got {once.count(twice)} times; leave out all but one")
    for param in once:
        choices = _list_choices(param.type_descriptor.annotation)
        if choices:
            check_choice(given[param.name], choices, param.opts[0])


def _list_choices(annotation: Any) -> tuple[str, ...]:
    """Return the choices of a `Literal`, also of one that allows None; empty for another type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(_list_choices, get_args(annotation))), ())


class OnceCommand(TyperCommand):
    """Parse a command that takes each option of one value once, and lists of files in numeric order."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            args = _spread_words(self, _replace_old_options(args, RENAMED.get(str(self.name), {})))
            refuse_mistakes(self, ctx, args)
            _refuse_bare_word(self, ctx, args)
        rest = super().parse_args(ctx, args)
        for param in self.params:
            value = ctx.params.get(str(param.name))
            if isinstance(value, list | tuple):
                ctx.params[str(param.name)] = type(value)(sort_by_number(_expand_values(value, param), param.opts[0]))
        return rest


class OnceGroup(TyperGroup):
    """Parse a group of commands whose own options are given once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            refuse_mistakes(self, ctx, args)
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """Collect commands that take each option of one value once."""

    def __init__(self, **given: Any) -> None:
        super().__init__(cls=OnceGroup, context_settings={"help_option_names": ["-h", "--help"]}, **given)

    def command(self, name: str | None = None, **given: Any) -> Callable[[_Function], _Function]:
        """Add a command, as `typer.Typer.command` does."""
        return super().command(name, cls=OnceCommand, **given)


def _replace_old_options(args: list[str], new: Mapping[str, str]) -> list[str]:
    """Replace old names of options by the new ones, with a note about each.

    Raises
    ------
    InputError
        An option is given under both names.
    """
    end = args.index("--") if "--" in args else len(args)
    found, given = list(args), {word.split("=", 1)[0] for word in args[:end]}
    for at, word in enumerate(args[:end]):
        name, *value = word.split("=", 1)
        if name in new:
            if new[name] in given:
                raise InputError(f"expected one of {new[name]} and its old name {name}, got both; leave {name} out")
            found[at] = "=".join([new[name], *value])
            log.warning("note: %s is now called %s; brainmap 0.2 will refuse the old name", name, new[name])
    return found


def _refuse_bare_word(command: TyperCommand, ctx: Any, args: Sequence[str]) -> None:
    """Refuse a first word that stands where the option belongs that is missing, as in `features layers FOLDER`.

    Raises
    ------
    InputError
        The command takes no arguments, and lacks one option.
    """
    if not args or args[0].startswith("-") or any(one.param_type_name == "argument" for one in command.params):
        return
    given = {word.split("=", 1)[0] for word in args}
    missing = [one.opts[0] for one in command.params if one.required and not given.intersection(one.opts)]
    if len(missing) == 1 and not given & {"-h", "--help"}:
        raise InputError(
            f"{ctx.info_name}: expected {missing[0]}, got {args[0]!r} without an option; say {missing[0]} {args[0]}"
        )


def _spread_words(command: TyperCommand, args: Sequence[str]) -> list[str]:
    """Words that follow an option of several values (whose metavar ends in dots) belong to it, as a shell spreads them.

    `--residuals a b` becomes `--residuals a --residuals b`: else `b` would be one of the other files.
    """
    several = {
        name
        for param in command.params
        for name in param.opts
        if (param.metavar or "").endswith("...") and param.param_type_name == "option"
    }
    found: list[str] = []
    option = None
    for at, word in enumerate(args):
        if word == "--":
            return [*found, *args[at:]]
        if word.startswith("-"):
            option = word if word in several else None
        elif option is not None and found[-1] != option:
            found.append(option)
        found.append(word)
    return found


def _expand_values(values: Sequence[Any], param: Any) -> list[Any]:
    """Expand quoted patterns to files; placeholders in names are filled by the command."""
    from brainmap.cli.runs import expand_patterns

    patterns = [str(value) for value in values if re.search(r"[*?]", str(value)) and not re.search(r"[{=]", str(value))]
    if not patterns:
        return list(values)
    option = param.opts[0] if param.param_type_name == "option" else str(param.metavar or param.name).upper()
    return [type(values[0])(name) for name in expand_patterns([str(value) for value in values], option)]


def sort_by_number(files: Sequence[Any], option: str) -> list[Any]:
    """Files that a shell has sorted as text (run-1, run-10, run-2), in the order of their numbers; others as given.

    Examples
    --------
    >>> sort_by_number(["conv1", "conv10", "conv2"], "--layer")
    ['conv1', 'conv10', 'conv2']
    """
    from brainmap.rsa.inputs.runs import make_natural_key

    words = [str(file) for file in files]
    order = sorted(words, key=make_natural_key)
    as_text = (sorted(words), sorted(words, key=lambda word: re.sub(r"[^a-z0-9/]", "", word.lower())))  # C, en_US
    if words not in as_text or words == order or not all(map(_is_file, words)):
        return list(files)
    log.info("note: %s: files are taken in numeric order, %s before %s", option, *_find_moved_pair(order, words))
    return sorted(files, key=lambda file: make_natural_key(str(file)))


def _find_moved_pair(order: Sequence[str], words: Sequence[str]) -> tuple[str, str]:
    """Return the first two names whose order changes when they are sorted by number."""
    at = next(k for k, (one, other) in enumerate(zip(order, words, strict=True)) if one != other)
    return Path(order[at]).name, Path(words[at]).name


def _is_file(word: str) -> bool:
    """Tell whether a word names a file, an AFNI dataset, or files put side by side with `+`."""
    name = re.sub(r"[\[<].*$", "", word)
    whole = (name, f"{name}.HEAD", f"{name}HEAD")
    return any(Path(one).exists() for one in whole) or all(Path(part).is_file() for part in name.split("+"))
