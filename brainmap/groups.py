"""Collect values that belong together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def group_pairs(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Collect the values of each key; keys are in the order in which they come first.

    Examples
    --------
    >>> group_pairs([("cat", 1), ("dog", 2), ("cat", 3)])
    {'cat': [1, 3], 'dog': [2]}
    """
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
