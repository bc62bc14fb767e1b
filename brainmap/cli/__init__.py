"""The command line: parse, one library call, print."""

from __future__ import annotations


def main() -> None:
    """Entry point of `brainmap`."""
    raise SystemExit("the command line comes with the first study")
