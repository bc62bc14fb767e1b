"""Check arguments and files, with one wording for all folders of the package."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

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
