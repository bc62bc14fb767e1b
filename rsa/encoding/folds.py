"""Divide items into folds that keep whole groups together, so that no test item has a relative in training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.groups import group_pairs
from brainmap.types import FoldGroups

Places = NDArray[np.intp]
Groups = FoldGroups | Mapping[str, str]

LEAST_TESTED = 8  # items of a test fold; within-fold correlations of fewer are mostly noise
LEAST_ITEMS = 40


@dataclass(frozen=True, eq=False)
class Folds:
    """Hold the fold and the group of each item.

    Attributes
    ----------
    fold : int array (n_items,)
        The fold in which each item is tested, from 0.
    group : int array (n_items,)
        The group of each item; all items of a group are in one fold.
    by : str
        What the groups are, in words.
    block : int
        Neighboring items of a group that tests exchange together; 0 where items have no order.
    """

    fold: Places
    group: Places
    by: str
    block: int = 0

    @property
    def n_folds(self) -> int:
        """Return the number of folds."""
        return int(self.fold.max()) + 1

    def name_folds(self, items: Sequence[str]) -> dict[str, int]:
        """Return the fold, from 0, in which each item is tested, by name; sidecars of tables hold it."""
        return dict(zip(items, self.fold.tolist(), strict=True))

    @property
    def members(self) -> list[Places]:
        """The items of each group."""
        return [np.flatnonzero(self.group == k) for k in range(int(self.group.max()) + 1)]

    def split(self, fold: int) -> tuple[Places, Places]:
        """Return the places of the training items and of the test items of a fold."""
        tested = self.fold == fold
        return np.flatnonzero(~tested), np.flatnonzero(tested)


def group_items(
    items: Sequence[str],
    conditions: Sequence[str],
    runs_of: Mapping[str, Sequence[str]],
    groups: Groups,
) -> tuple[Places, str]:
    """Return the group of each item `(n_items,)`, and what the groups are in words.

    Parameters
    ----------
    items, conditions : sequences of str (n_items,)
    runs_of : mapping of str to sequence of str
        The runs in which each item was presented.
    groups : {"condition", "stimulus", "run"} or mapping of str to str
        "condition" keeps all items of a condition together; others that separate them are taken with a warning. "run"
        is possible where no item occurs in two runs. A mapping gives the group of each item.

    Raises
    ------
    InputError
        The name is unknown, an item has no group, or an item occurs in several runs.

    Examples
    --------
    >>> group_items(["cat1", "cat2", "dog1"], ["cat", "cat", "dog"], {}, "condition")
    (array([0, 0, 1]), 'condition')
    """
    if isinstance(groups, str):
        check_choice(groups, get_args(FoldGroups), "groups")
    if isinstance(groups, Mapping):
        refuse_some(
            [item for item in items if item not in groups],
            f"groups: expected a group for each of {len(items)} items, got none for ",
        )
        names, by = [str(groups[item]) for item in items], "groups of the user"
    elif groups == "run":
        shared = [item for item in items if len(set(runs_of.get(item, ()))) != 1]
        if shared:
            raise InputError(
                f"groups: folds by run need sounds that occur in one run each, got {len(shared)} in several "
                f"({list_some(shared, 3)}), which would be in training and test; take groups='condition'"
            )
        names, by = [runs_of[item][0] for item in items], "run"
    elif groups == "stimulus":
        names, by = list(items), "stimulus"
    else:
        names, by = list(conditions), "condition"
    _warn_of_divided(names, conditions, by)
    known = {name: k for k, name in enumerate(sorted(set(names)))}
    return np.array([known[name] for name in names], dtype=np.intp), by


def find_divided(groups: Iterable[object], conditions: Iterable[str]) -> list[str]:
    """Return the conditions whose tokens are in several groups.

    Examples
    --------
    >>> find_divided([0, 1, 1], ["cat", "cat", "dog"])
    ['cat']
    """
    of_condition = group_pairs(zip(conditions, groups, strict=True))
    return [condition for condition, own in of_condition.items() if len(set(own)) > 1]


def _warn_of_divided(groups: Sequence[str], conditions: Sequence[str], by: str) -> None:
    """Warn of conditions whose tokens are in several groups, and thus in training and test."""
    divided = find_divided(groups, conditions)
    if divided:
        warnings.warn(
            f"folds by {by} separate the tokens of {len(divided)} conditions ({list_some(divided, 3)}), so that a "
            "layer that only tells the conditions apart predicts well; groups='condition' tests new conditions",
            BrainmapWarning,
            stacklevel=5,
        )


def make_fold_rng(seed: int = 0) -> np.random.Generator:
    """Return the random numbers that draw folds: a study, `rsa encode` and `encode` have equal folds for one seed."""
    return np.random.default_rng(np.random.SeedSequence([seed, *b"encoding"]))


def make_folds(
    group: Places,
    by: str,
    *,
    n_folds: int,
    rng: np.random.Generator,
    few_items: bool = False,
) -> Folds:
    """Divide groups into folds of nearly equal numbers of items.

    Groups are shuffled, and the largest come first, each into the fold with the fewest items. Groups are numbered by
    name, so that the same items have the same folds in every participant, in whatever order they come.

    Raises
    ------
    InputError
        There are fewer than 40 items (without `few_items`), fewer groups than folds, or a fold of fewer than 8 items.

    Examples
    --------
    >>> folds = make_folds(np.arange(40), "stimulus", n_folds=5, rng=np.random.default_rng(0))
    >>> np.bincount(folds.fold).tolist()
    [8, 8, 8, 8, 8]
    """
    n_items, n_groups = len(group), int(group.max()) + 1
    if n_items < LEAST_ITEMS and not few_items:
        raise InputError(
            f"encoding: expected at least {LEAST_ITEMS} items, got {n_items}; predictions of so few are mostly noise, "
            "say few_items=True (--few-items) to go on"
        )
    check_enough(n_folds, 2, "encoding", "folds")
    if n_groups < n_folds:
        raise InputError(
            f"encoding: expected at least one {by} for each of {n_folds} folds, got {n_groups}; take fewer folds, or "
            "other groups"
        )
    fold = deal_groups(group, n_folds, rng)
    smallest = int(np.bincount(fold, minlength=n_folds).min())
    if smallest < LEAST_TESTED:
        raise InputError(
            f"encoding: expected at least {LEAST_TESTED} items in each of {n_folds} test folds, got {smallest} "
            f"({n_items} items in {n_groups} groups by {by}); take fewer folds"
        )
    return Folds(fold, group, by)


def yield_inner_splits(group: Places, n_folds: int) -> list[tuple[Places, Places]]:
    """Return training and validation places among training items, with whole groups in one fold.

    There are at most as many folds as groups, so that a large number leaves out one group at a time.
    """
    names, own = np.unique(group, return_inverse=True)
    check_enough(len(names), 2, "encoding", "groups to choose alphas among", "; take more groups")
    fold = deal_groups(own.reshape(-1), min(n_folds, len(names)), np.random.default_rng(0))
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(int(fold.max()) + 1)]


def deal_groups(group: Places, n_folds: int, rng: np.random.Generator | None = None) -> Places:
    """Deal whole groups to the folds, the largest first, each to the fold with the fewest items; return each item's.

    Groups of one size are dealt in random order, or without `rng` in their own.
    """
    sizes = np.bincount(group)
    order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, of_group = np.zeros(n_folds, np.intp), np.empty(len(sizes), np.intp)
    for name in order:
        of_group[name] = np.argmin(filled)
        filled[of_group[name]] += sizes[name]
    return np.asarray(of_group[group])
