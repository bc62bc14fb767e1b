"""Define two kinds of errors: wrong input by the user (exit code 2) and a run that failed (exit code 1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 200  # largest number of characters of a value that a message repeats
_VALUES = re.compile(
    r"""(?<!\w)'(?:[^'\\\n]|\\.)*'(?!\w)|(?<!\w)"(?:[^"\\\n]|\\.)*"(?!\w)"""  # strings as `repr` writes them
    r"""|\[[^\[\]\n]*\]|\{[^{}\n]*\}|\S+"""  # lists, mappings, and long words
)


class BrainmapError(Exception):
    """Report an error that brainmap raises on purpose; its message says what was expected, what was found, what to do.

    Values in the message, which may come from any file, are cut to 200 characters.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(_VALUES.sub(_shorten, str(message)))


def _shorten(found: re.Match[str]) -> str:
    """Return a value without its middle, since its beginning tells the kind and the end of a path tells the file."""
    text = found[0]
    return text if len(text) <= _LONGEST else f"{text[:120]}…{text[-79:]}"


class InputError(BrainmapError):
    """Report wrong input by the user: a file, a label, a setting, a shape."""

    exit_code = 2


@contextmanager
def name_place(where: str) -> Iterator[None]:
    """Put a place before each line of an `InputError` that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None


class RunError(BrainmapError):
    """Report a computation that failed although its input was valid."""

    exit_code = 1


class BrainmapWarning(UserWarning):
    """Warn about something that changes numbers and is allowed, but must be reported."""


_OF_MEMORY = ("allocate memory", "bad_alloc", "start new thread", "failed to map segment", "out of memory")


def is_scarce_memory(error: BaseException | None) -> bool:
    """Tell whether memory was exhausted; torch, threads and shared libraries report this only in their messages.

    A library that cannot be loaded may hide the reason, which is then the cause of its own error.
    """
    if error is None:
        return False
    said = isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OF_MEMORY)
    return said or is_scarce_memory(error.__cause__ or error.__context__)
