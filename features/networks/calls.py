"""Compare the classes that a network predicts with the conditions of the sounds; a wrong rate or level shows here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from brainmap.checks import list_some

_LIMIT = 0.05
NEAR_CHANCE = "that is near chance"
"""What the line of a network near chance says."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Count the sounds that a network classifies as their condition.

    Attributes
    ----------
    network : str
    right, n : int
        Correctly classified sounds, and sounds whose condition is a class of the network.
    chance : float
        Expected number of correct sounds by chance, the larger of two: a uniform guess among all classes, and a guess
        with the frequencies at which this network predicts the classes.
    p : float
        One-sided binomial test of `right` against chance; NaN without sounds.
    strange : tuple of str
        Conditions that are not classes of the network.
    causes : tuple of str
        What is likely wrong, each as a clause.
    """

    network: str
    right: int
    n: int
    chance: float
    p: float
    strange: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()

    @property
    def near_chance(self) -> bool:
        """Tell whether the count does not differ from chance."""
        return self.n > 0 and not self.p <= _LIMIT

    def line(self) -> str:
        """Describe the count in words, with a warning where it is near chance."""
        if not self.n:
            return (
                f"network {self.network}: no condition of the sounds is one of its classes "
                f"({list_some(self.strange, 4)}), so what it calls them cannot be checked"
            )
        of = f"{self.right} of {self.n} sounds by their condition (chance {self.chance:.3g})"
        said = f"network {self.network} calls {of}"
        if self.strange:
            said += f"; {len(self.strange)} conditions are no classes of it ({list_some(self.strange, 4)})"
        if self.near_chance:
            likely = "; ".join(self.causes) or (
                "check the rate and level of the sounds and the order of its class names"
            )
            said += f"; {NEAR_CHANCE} (binomial test, p = {self.p:.2f}): {likely}"
        elif self.causes:
            said += f"; {'; '.join(self.causes)}"
        return said


def count_calls(
    network: str, logits: NDArray[np.floating], conditions: Sequence[str], class_names: Sequence[str]
) -> Calls:
    """Count the sounds whose largest logit is that of their condition.

    Parameters
    ----------
    network : str
    logits : ndarray (n_items, n_classes)
    conditions : sequence of str
        The condition of each item.
    class_names : sequence of str
        Class names in the order of the logits.

    Examples
    --------
    >>> count_calls("net", np.eye(3)[[0, 1, 2, 0]], ["a", "b", "c", "b"], ["a", "b", "c"]).line()[:70]
    'network net calls 3 of 4 sounds by their condition (chance 1.33); that'
    """
    names = [str(name) for name in class_names]
    strange = tuple(dict.fromkeys(one for one in conditions if one not in names))
    rows = np.array([k for k, one in enumerate(conditions) if one in names], dtype=np.intp)
    if not len(rows):
        return Calls(network=network, right=0, n=0, chance=0.0, p=float("nan"), strange=strange)
    true = np.array([names.index(conditions[k]) for k in rows])
    called = np.asarray(logits)[rows].argmax(axis=1)
    n, k = len(rows), len(names)
    both = float(np.bincount(true, minlength=k) @ np.bincount(called, minlength=k)) / n**2
    chance = min(max(1 / k, both), 1.0)
    right = int((true == called).sum())
    p = _compute_p(right, n, chance)
    return Calls(network=network, right=right, n=n, chance=chance * n, p=p, strange=strange)


def _compute_p(right: int, n: int, chance: float) -> float:
    """Compute the probability of `right` or more of n by chance, without the slow import of `scipy.stats`."""
    return float(scipy.special.bdtrc(right - 1, n, chance)) if right else 1.0


def is_better(before: NDArray[np.bool_], after: NDArray[np.bool_], *, trials: int = 1) -> bool:
    """Tell whether more sounds are correct after a change than before, by a sign test corrected for several trials.

    Examples
    --------
    >>> is_better(np.zeros(8, bool), np.ones(8, bool)), is_better(np.zeros(8, bool), np.arange(8) < 2)
    (True, False)
    """
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if not gained:
        return False
    return _compute_p(gained, gained + lost, 0.5) * trials <= _LIMIT


def describe_other_order(
    logits: NDArray[np.floating],
    conditions: Sequence[str],
    class_names: Sequence[str],
    *,
    rng: np.random.Generator,
    shuffles: int = 499,
) -> str:
    """Describe the order of class names by which a network would know the sounds; empty where there is none.

    The assignment of names to outputs with the most correct sounds is compared with that of shuffled conditions, so
    that a network that guesses is given an order in at most 5 % of cases, and with the order as it is, by a sign test
    that is corrected for every pair of names.

    Parameters
    ----------
    logits : ndarray (n_items, n_classes)
    conditions : sequence of str
    class_names : sequence of str
    rng : numpy.random.Generator
    shuffles : int

    Examples
    --------
    >>> calls = np.eye(3)[[1, 2, 0] * 6]
    >>> describe_other_order(calls, ["a", "b", "c"] * 6, ["a", "b", "c"], rng=np.random.default_rng(0))
    'with its class names in another order (c, a, b) it would call 18 of 18: the order of class names is likely wrong'
    """
    names = [str(name) for name in class_names]
    rows = np.array([k for k, one in enumerate(conditions) if one in names], dtype=np.intp)
    if not len(rows):
        return ""
    true = np.array([names.index(conditions[k]) for k in rows])
    called = np.asarray(logits)[rows].argmax(axis=1)
    order = _find_best_order(called, true, len(names))
    right = order[called] == true
    if not is_better(called == true, right, trials=len(names) * (len(names) - 1) // 2):
        return ""
    null = []
    for _ in range(shuffles):
        shuffled = rng.permutation(true)
        null.append(np.sum(_find_best_order(called, shuffled, len(names))[called] == shuffled))
    if (1 + np.sum(np.array(null) >= right.sum())) / (1 + shuffles) > _LIMIT:
        return ""
    shown = ", ".join(names[k] for k in order[:8]) + (", ..." if len(names) > 8 else "")
    return (
        f"with its class names in another order ({shown}) it would call {right.sum()} of {len(rows)}: the order of "
        "class names is likely wrong"
    )


def _find_best_order(called: NDArray[np.intp], true: NDArray[np.intp], n_classes: int) -> NDArray[np.intp]:
    """Find the class that each output stands for so that the most sounds are correct."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    counts = np.bincount(called * n_classes + true, minlength=n_classes**2).reshape(n_classes, n_classes)
    _, classes = linear_sum_assignment(counts, maximize=True)
    return np.asarray(classes, dtype=np.intp)
