"""Describe what is wrong with a study file: the line, what is expected there, what it has, and the nearest name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from brainmap.checks import suggest_word
from brainmap.groups import group_pairs

Location = tuple[int | str, ...]

_EXPECTED = {
    "bool": "true or false",
    "dict": "a table",
    "finite_number": "a finite number",
    "float": "a number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of {ge} or more",
    "int": "a whole number",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of {le} or less",
    "list": "a list",
    "literal_error": "{expected}",
    "model": "a table",
    "string": "a text in quotes",
    "string_pattern_mismatch": "letters, digits, '_', '.' and '-', with a letter or digit first",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "too_long": "a list of at most {max_length} entries",
    "too_short": "a list of {min_length} or more entries",
    "tuple": "a list",
}
"""What is expected, by pydantic's type of error or the first word of it; the places are filled from its context."""

_HEADER = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def describe_problems(
    problems: Sequence[ErrorDetails], text: str, content: Mapping[str, Any], model: type[BaseModel]
) -> Iterator[str]:
    """Describe in one line each what pydantic found wrong with a study file.

    Parameters
    ----------
    problems : sequence of ErrorDetails
    text : str
        The study file.
    content : mapping
        What pydantic was given.
    model : type of BaseModel
        The model of the whole file.
    """
    places = group_pairs((_place_in(content, problem), problem) for problem in problems)
    for place, here in places.items():
        inside = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        if inside and here[0]["type"] == "too_short":
            continue  # an entry that fails also makes its list "too short", which is no further problem
        line = find_line(text, place)
        yield f"{f', line {line}' if line else ''}: {_describe_place(place, here, model)}"


def _place_in(content: Any, problem: ErrorDetails) -> Location:
    """Find the place of a problem in the file: pydantic also names the types that a value was tried as."""
    found: list[int | str] = []
    for part in problem["loc"]:
        has = isinstance(content, dict) and part in content
        if has or (isinstance(content, list) and isinstance(part, int)):
            content = content[part]
            found.append(part)
    return (*found, problem["loc"][-1]) if problem["type"] == "missing" else tuple(found)


def _describe_place(place: Location, problems: Sequence[ErrorDetails], model: type[BaseModel]) -> str:
    """Describe the problems of one place; a value that fits none of several types has one for each of them."""
    first, names = problems[0], [part for part in place if isinstance(part, str)]
    if first["type"] == "value_error":
        return f"{_format_section(names)}{first['msg'].removeprefix('Value error, ')}"
    where, key = _format_section(names[:-1]), names[-1] if names else "the file"
    if first["type"] == "missing":
        named = f"[[{key}]]" if _takes_tables(model, names) else f"the key {key!r}"
        return f"{where}lacks {named}; add it"
    if first["type"] == "extra_forbidden":
        keys = sorted(_list_keys(model, names[:-1]))
        return f"{where}unknown key {key!r}: expected one of {', '.join(keys)}{_suggest_key(key, keys, model, names)}"
    expected = " or ".join(dict.fromkeys(map(_name_expected, problems)))
    value = first["input"]
    words = re.findall(r"'([^']+)'", "".join(_name_expected(p) for p in problems if p["type"] == "literal_error"))
    hint = suggest_word(value, words) if isinstance(value, str) else ""
    if isinstance(value, dict) and place == (key,) and {"list_type", "tuple_type"} & {p["type"] for p in problems}:
        hint = f"; write [[{key}]] in place of [{key}], once for each entry"
    return f"{where}{key}: expected {expected}, got {_format_value(value)}{hint}"


def _suggest_key(key: str, keys: Sequence[str], model: type[BaseModel], place: Sequence[str]) -> str:
    """Suggest the nearest key; a list of tables with its brackets, since a table of one pair is something else."""
    hint = suggest_word(key, keys)
    for name in keys:
        if hint == f"; did you mean {name!r}?" and _takes_tables(model, [*place[:-1], name]):
            return f"; did you mean [[{'.'.join([*place[:-1], name])}]], once for each entry?"
    return hint


def _takes_tables(model: Any, place: Sequence[str]) -> bool:
    """Tell whether a place of the study file takes a list of tables, each written below [[...]]."""
    for part in place[:-1]:
        fields = getattr(model, "model_fields", {})
        model = _find_model(fields[part].annotation) if part in fields else None
    field = getattr(model, "model_fields", {}).get(place[-1]) if place else None
    if field is None or get_origin(field.annotation) is not tuple:
        return False
    inside = _find_model(field.annotation)
    return isinstance(inside, type) and issubclass(inside, BaseModel)


def _format_section(names: Sequence[str]) -> str:
    return f"[{'.'.join(names)}] " if names else ""


def _name_expected(problem: ErrorDetails) -> str:
    """Name what is expected where a problem is."""
    kind = problem["type"]
    words = _EXPECTED.get(kind) or _EXPECTED.get(kind.split("_")[0])
    return words.format(**problem.get("ctx", {})) if words else problem["msg"].removeprefix("Input should be ")


def _format_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "a table"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _list_keys(model: Any, place: Sequence[str]) -> list[str]:
    """List the keys that exist at a place of the study file."""
    for part in place:
        fields = getattr(model, "model_fields", {})
        model = _find_model(fields[part].annotation) if part in fields else None
    fields = getattr(model, "model_fields", {})
    return [f.alias or name for name, f in fields.items()]


def _find_model(annotation: Any) -> Any:
    if get_origin(annotation) in (tuple, Union, UnionType):
        return next((_find_model(a) for a in get_args(annotation) if a is not type(None)), None)
    return annotation


def find_line(text: str, place: Sequence[int | str]) -> int | None:
    """Find the number of the line of a setting, or else of the table that it belongs to.

    Parameters
    ----------
    text : str
        A valid TOML file.
    place : sequence of str and int
        Names of tables and keys; numbers are positions in arrays of tables, from 0.

    Returns
    -------
    int or None
        None where neither the key nor a table around it stands in the file.

    Examples
    --------
    >>> find_line('[[brain]]\\nkind = "betas"\\n[[brain]]\\nkind = "bold"', ("brain", 1, "kind"))
    4
    >>> find_line('[rsa]\\ninference = { tset = "t" }', ("rsa", "inference", "tset"))
    2
    """
    lines, counts = text.splitlines(), dict[Location, int]()
    table: Location = ()
    best: tuple[int, int | None] = 0, None
    for number, line in enumerate(lines, start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if not (header or key) or not _is_complete(lines[: number - 1]):
            continue
        if header:
            table = _find_table_place(_split_name(header[2]), counts, is_entry=bool(header[1]))
        here = table if header else (*table, *_split_name(key[1] if key else ""))
        if header and here[:-1] == tuple(place) and here[-1] == 0:  # a list of tables begins where its first one does
            here = tuple(place)
        if here == tuple(place[: len(here)]) and len(here) > best[0]:
            best = len(here), number
    return best[1]


def _split_name(name: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", name)]


def _find_table_place(names: Sequence[str], counts: dict[Location, int], *, is_entry: bool) -> Location:
    """Return the place of a table, with the positions of the arrays of tables around it."""
    place: Location = ()
    for k, name in enumerate(names):
        place = (*place, name)
        if is_entry and k == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _is_complete(lines: Sequence[str]) -> bool:
    """Tell whether lines end outside of texts and lists of several lines."""
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True
