"""Check arguments and files, with one wording for all folders of the package."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Sequence, Sized
from pathlib import Path
from typing import Any, get_args

from brainmap.errors import InputError

MISSING = frozenset(
    {"", "n/a", "N/A", "NaN", "nan", "NA", "<NA>", "None", "NaT"}
)  # "no", "na" and "null" count as words


def suggest_word(word: str, choices: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for a misspelt word, or nothing; upper and lower case count as the same.

    Examples
    --------
    >>> suggest_word("sperman", ["spearman", "pearson"])
    "; did you mean 'spearman'?"
    >>> suggest_word("word", ["Word", "run"])
    "; did you mean 'Word'?"
    >>> suggest_word("zzz", ["spearman"])
    ''
    """
    by_lower: dict[str, str] = {}
    for choice in choices:
        by_lower.setdefault(choice.lower(), choice)
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


def check_choice(value: str, choices: Sequence[str], what: str) -> str:
    """Return `value` if it is one of `choices`, else raise an `InputError` that lists them.

    Examples
    --------
    >>> check_choice("rms", ["rms", "peak"], "level")
    'rms'
    >>> check_choice("rsm", ["rms", "peak"], "level")
    Traceback (most recent call last):
    brainmap.errors.InputError: level: expected one of 'rms', 'peak', got 'rsm'; did you mean 'rms'?
    """
    if value not in choices:
        hint = suggest_word(str(value), choices)
        raise InputError(f"{what}: expected one of {list_some(choices, 24)}, got {value!r}{hint}")
    return value


def check_each(values: Iterable[str], choices: Sequence[str], what: str) -> None:
    """Refuse the first of several values that is none of `choices`, as `check_choice` does.

    Examples
    --------
    >>> check_each(["conv1", "fc"], ["conv1", "fc"], "layer")
    >>> check_each(["conv1", "fc3"], ["conv1", "fc"], "layer")
    Traceback (most recent call last):
    brainmap.errors.InputError: layer: expected one of 'conv1', 'fc', got 'fc3'; did you mean 'fc'?
    """
    for value in values:
        check_choice(value, choices, what)


def check_literals(*settings: tuple[str, Any, str]) -> None:
    """Refuse the first setting (value, its `Literal` type, its name in the message) whose value the type does not list.

    Examples
    --------
    >>> from typing import Literal
    >>> check_literals(("rms", Literal["rms", "peak"], "level"), ("mid", Literal["start", "center"], "align"))
    Traceback (most recent call last):
    brainmap.errors.InputError: align: expected one of 'start', 'center', got 'mid'
    """
    for value, kind, what in settings:
        check_choice(value, get_args(kind), what)


def check_file(path: str | Path, what: str) -> Path:
    """Return the path if it is a file, else raise an `InputError` that names the nearest one beside it."""
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{what}: expected a file, got the folder {path}; name a file in it")
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    if not path.parent.is_dir():
        hint = f"; the folder {str(path.parent)!r} does not exist"
    else:
        hint = suggest_word(path.name, beside) or "; check its name"
    raise InputError(f"{what}: no file {path}{hint}")


def list_some(names: Iterable[object], most: int = 8) -> str:
    """Write a list for a message, cut to a readable length.

    Examples
    --------
    >>> list_some(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    listed = [repr(n) if isinstance(n, str) else str(n) for n in names]
    if len(listed) <= most:
        return ", ".join(listed)
    return f"{', '.join(listed[:most])} and {len(listed) - most} more"


def refuse_some(found: Iterable[object], before: str, after: str = "", *, most: int = 8) -> None:
    """Refuse what was found, if anything was: the message lists it between the two texts.

    Raises
    ------
    InputError
        If there is any.

    Examples
    --------
    >>> refuse_some([], "unknown layers ")
    >>> refuse_some(["conv9"], "unknown layers ", "; name others")
    Traceback (most recent call last):
    brainmap.errors.InputError: unknown layers 'conv9'; name others
    """
    listed = list(found)
    if listed:
        raise InputError(f"{before}{list_some(listed, most)}{after}")


def check_enough(count: float, least: int, who: str, what: str, hint: str = "") -> None:
    """Refuse fewer of something than are needed.

    Parameters
    ----------
    count, least : int
        How many there are, and how many are needed.
    who, what : str
        The function or part that needs them, and their name in the message.
    hint : str
        What the message says after the count.

    Raises
    ------
    InputError
        If there are fewer.

    Examples
    --------
    >>> check_enough(2, 2, "bootstrap", "resamples")
    >>> check_enough(1, 2, "bootstrap", "resamples", "; take more")
    Traceback (most recent call last):
    brainmap.errors.InputError: bootstrap: expected at least 2 resamples, got 1; take more
    """
    if count < least:
        raise InputError(f"{who}: expected at least {least} {what}, got {count:g}{hint}")


def check_one_each(values: Sized, n: int, who: str, what: str, hint: str = "") -> None:
    """Refuse more or fewer values than things that they belong to.

    Parameters
    ----------
    values : sequence
    n : int
        How many values are expected.
    who, what : str
        The argument, and in the message what each value belongs to.
    hint : str
        What the message says after the number of values.

    Raises
    ------
    InputError
        If there are not as many.

    Examples
    --------
    >>> check_one_each(["cat", "dog"], 2, "class_names", "outputs")
    >>> check_one_each(["cat"], 2, "class_names", "outputs")
    Traceback (most recent call last):
    brainmap.errors.InputError: class_names: expected one for each of 2 outputs, got 1
    """
    if len(values) != n:
        raise InputError(f"{who}: expected one for each of {n} {what}, got {len(values)}{hint}")


def check_ranges(who: str, *settings: tuple[str, object, bool]) -> None:
    """Refuse the first setting (the range that is expected, its value, whether it lies within) that is out of range.

    Parameters
    ----------
    who : str
        The function or part that takes the settings.
    *settings : tuples (str, object, bool)

    Raises
    ------
    InputError
        If there is any.

    Examples
    --------
    >>> check_ranges("tuning", ("1 repeat or more", 3, 3 >= 1), ("a height between 0 and 1", 2.0, 0 < 2.0 < 1))
    Traceback (most recent call last):
    brainmap.errors.InputError: tuning: expected a height between 0 and 1, got 2.0
    """
    for expected, value, within in settings:
        if not within:
            raise InputError(f"{who}: expected {expected}, got {value}")


def count_threads(threads: int | None, what: str) -> int:
    """Return how many threads (or processes) are asked for, by default the cores this process may use.

    Raises
    ------
    InputError
        If it is fewer than one.

    Examples
    --------
    >>> count_threads(2, "searchlight")
    2
    """
    if threads is not None and threads < 1:
        raise InputError(f"{what}: expected 1 thread or more, got threads={threads}; leave it out to use every core")
    if threads is not None:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gather_problems(problems: list[str], check: Callable[[], object], where: str = "") -> None:
    """Call a check, and add each line of its `InputError` to the problems, behind a place."""
    try:
        check()
    except InputError as error:
        problems += [f"{where}{line}" for line in str(error).splitlines()]
