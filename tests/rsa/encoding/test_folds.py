"""Folds keep groups together, are of nearly equal size, and depend on labels and not on their order."""

from __future__ import annotations

import numpy as np
import pytest

from brainmap.errors import InputError
from brainmap.rsa.encoding.folds import group_items, make_folds, yield_inner_splits


def test_groups_are_never_divided_and_folds_are_of_nearly_equal_size():
    group = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 7, size=30))
    folds = make_folds(group, "condition", n_folds=5, rng=np.random.default_rng(0))
    assert all(len(set(folds.fold[group == g])) == 1 for g in range(30))
    sizes = np.bincount(folds.fold)
    assert sizes.max() - sizes.min() <= 2
    for k in range(5):
        train, test = folds.split(k)
        assert sorted([*train, *test]) == list(range(len(group)))
        assert not set(group[train]) & set(group[test])


def test_inner_splits_hold_each_training_item_once_and_whole_groups():
    group = np.repeat(np.arange(12), 4)
    splits = yield_inner_splits(group, 5)
    assert sorted(np.concatenate([held for _, held in splits])) == list(range(48))
    assert all(not set(group[inner]) & set(group[held]) for inner, held in splits)
    one_at_a_time = yield_inner_splits(group, 1000)
    assert len(one_at_a_time) == 12
    assert all(len(set(group[held])) == 1 for _, held in one_at_a_time)
    with pytest.raises(InputError, match="at least 2 groups"):
        yield_inner_splits(np.zeros(9, int), 5)


def test_the_same_items_have_the_same_folds_in_whatever_order_they_come():
    names = [f"s{k}" for k in range(60)]
    order = np.random.default_rng(1).permutation(60)
    folds = []
    for labels in (names, [names[k] for k in order]):
        group, by = group_items(labels, labels, {}, "condition")
        made = make_folds(group, by, n_folds=5, rng=np.random.default_rng(0))
        folds.append(dict(zip(labels, made.fold.tolist(), strict=True)))
    assert folds[0] == folds[1]


def test_groups_of_the_user_need_every_item():
    names = ["a", "b", "c"]
    group, by = group_items(names, names, {}, {"a": "x", "b": "y", "c": "x"})
    assert (group.tolist(), by) == ([0, 1, 0], "groups of the user")
    with pytest.raises(InputError, match="got none for 'c'"):
        group_items(names, names, {}, {"a": "x", "b": "y"})
    with pytest.raises(InputError, match="did you mean 'condition'"):
        group_items(names, names, {}, "conditions")


def test_more_folds_than_groups_are_refused():
    with pytest.raises(InputError, match="at least one condition for each of 5 folds, got 4"):
        make_folds(np.repeat(np.arange(4), 20), "condition", n_folds=5, rng=np.random.default_rng(0))
