"""What can go wrong, in two kinds: the user's input (exit code 2) and a run that failed (exit code 1)."""

from __future__ import annotations


class BrainmapError(Exception):
    """Base of every error brainmap raises on purpose; its message says what, found, wanted, do."""

    exit_code = 1


class InputError(BrainmapError):
    """Something the user gave is wrong: a file, a label, a setting, a shape."""

    exit_code = 2


class RunError(BrainmapError):
    """The input was fine and the computation still failed."""

    exit_code = 1


class BrainmapWarning(UserWarning):
    """Something that changes numbers and is allowed: counted and said, not refused."""
