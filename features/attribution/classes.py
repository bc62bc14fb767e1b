"""Choose the classes whose logits are explained."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex, cast

import numpy as np
import torch
from torch import Tensor

from brainmap.checks import check_choice, list_some, suggest_word
from brainmap.errors import InputError

_UNSURE = 1e-6  # the second largest probability of a network that is not sure


@dataclass(frozen=True)
class Classes:
    """Hold classes by name, and their columns among the logits."""

    names: tuple[str, ...]
    columns: list[int]


def choose_classes(logits: Tensor, classes: str | int | Sequence[str | int], names: Sequence[str] | None) -> Classes:
    """Resolve the classes asked for to names and positions, given logits (n_items, n_classes).

    Raises
    ------
    InputError
        Probabilities instead of logits, a number of names that differs from that of the outputs, or an unknown class.
    """
    if logits.ndim != 2:
        raise InputError(
            f"network: expected logits (n_items, n_classes), got {tuple(logits.shape)}; let it return logits"
        )
    n = logits.shape[1]
    if n > 1 and bool((logits >= 0).all()) and torch.allclose(logits.sum(1), logits.new_ones(len(logits))):
        raise InputError("network gives probabilities, whose gradients vanish where it is sure; give logits")
    if n > 1 and bool((logits <= 0).all()) and _are_log_probabilities(logits):
        raise InputError("network gives log-probabilities of a log-softmax that cannot be taken off; give logits")
    known = [str(i) for i in range(n)] if names is None else [str(name) for name in names]
    if len(known) != n:
        raise InputError(f"class_names: expected a name for each of the {n} outputs, got {len(known)}")
    columns = [_find_column(wanted, known) for wanted in _list_classes(classes, known)]
    return Classes(tuple(known[c] for c in columns), columns)


def find_true_classes(conditions: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find the class of each sound, which is its condition.

    Raises
    ------
    InputError
        The network does not know a condition.

    Examples
    --------
    >>> find_true_classes(["b", "a", "b"], ["a", "b"])
    [1, 0, 1]
    """
    strange = [condition for condition in dict.fromkeys(conditions) if condition not in names]
    if strange:
        raise InputError(
            f"classes: 'true', but the network knows no {list_some(strange, 4)}{suggest_word(strange[0], names)}; it "
            f"knows {list_some(names, 24)}; use classes='predicted'"
        )
    return [names.index(condition) for condition in conditions]


def _are_log_probabilities(logits: Tensor) -> bool:
    """Tell whether values of zero or less are logarithms of probabilities.

    Logits such as (-1100, 0) look like those of a network that is sure of every sound, and count as logits.
    """
    shares = logits.double().exp()
    unsure = shares.topk(2).values[:, 1] > _UNSURE
    return bool(unsure.any()) and torch.allclose(shares.sum(1), shares.new_ones(len(shares)), atol=1e-5)


def _list_classes(classes: str | int | Sequence[str | int], known: Sequence[str]) -> Sequence[str | int]:
    """Return the classes as a sequence; one name or position stands for itself."""
    if isinstance(classes, str):
        return known if classes == "all" else [classes]
    try:
        wanted = list(cast("Sequence[str | int]", classes))
    except TypeError:
        return [cast(int, classes)]
    if not wanted:
        raise InputError("classes: expected 'all' or at least one class, got none")
    return wanted


def _find_column(wanted: object, known: Sequence[str]) -> int:
    if isinstance(wanted, str):
        return known.index(check_choice(wanted, known, "classes"))
    try:
        column = -1 if isinstance(wanted, bool | np.bool_) else operator.index(cast(SupportsIndex, wanted))
    except TypeError:
        column = -1
    if not 0 <= column < len(known):
        raise InputError(
            f"classes: expected names, or numbers from 0 to {len(known) - 1}, got {wanted!r:.80}; there are "
            f"{list_some(known, 24)}"
        )
    return column
