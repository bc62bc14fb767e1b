"""What can go wrong, in two kinds: the user's input (exit code 2) and a run that failed (exit code 1)."""

from __future__ import annotations

import re

_LONGEST = 200  # characters of a value that a message echoes
_VALUES = re.compile(
    r"""(?<!\w)'(?:[^'\\\n]|\\.)*'(?!\w)|(?<!\w)"(?:[^"\\\n]|\\.)*"(?!\w)"""  # as repr writes texts
    r"""|\[[^\[\]\n]*\]|\{[^{}\n]*\}|\S+"""  # lists, mappings, and words without an end
)


class BrainmapError(Exception):
    """Base of every error brainmap raises on purpose; its message says what, found, wanted, do.

    Values that a message echoes, which may come from a file of any kind, are cut to 200 characters.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(_VALUES.sub(_shortened, str(message)))


def _shortened(found: re.Match[str]) -> str:
    """A value with its middle left out: beginnings say what it is, and ends of paths which file."""
    text = found[0]
    return text if len(text) <= _LONGEST else f"{text[:120]}…{text[-79:]}"


class InputError(BrainmapError):
    """Something the user gave is wrong: a file, a label, a setting, a shape."""

    exit_code = 2


class RunError(BrainmapError):
    """The input was fine and the computation still failed."""

    exit_code = 1


class BrainmapWarning(UserWarning):
    """Something that changes numbers and is allowed: counted and said, not refused."""
