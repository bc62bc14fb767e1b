"""How many sounds a network calls by their condition, and when that is no better than chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from brainmap.features.networks.calls import count_calls

NAMES = list("abcdefgh")


def logits_of(called: list[str]) -> np.ndarray:
    return np.eye(len(NAMES))[[NAMES.index(one) for one in called]]


def test_a_network_that_knows_its_words_is_counted_and_not_warned_of() -> None:
    true = NAMES * 3
    called = true[:11] + [NAMES[(NAMES.index(one) + 1) % 8] for one in true[11:]]
    found = count_calls("net", logits_of(called), true, NAMES)
    assert (found.right, found.n) == (11, 24)
    assert found.chance == pytest.approx(3.0, abs=0.2)
    assert found.p == pytest.approx(binom.sf(10, 24, found.chance / 24))
    assert not found.near_chance
    assert found.line().startswith("network net calls 11 of 24 sounds by their condition (chance 3")


def test_names_in_another_order_and_one_answer_for_all_are_near_chance() -> None:
    true = NAMES * 3
    turned = count_calls("net", logits_of(true), true, NAMES[1:] + NAMES[:1])
    assert turned.right == 0
    assert "near chance" in turned.line()
    assert "order of its class names" in turned.line()
    unequal = ["a"] * 20 + NAMES[1:5]
    always = count_calls("net", logits_of(["a"] * 24), unequal, NAMES)
    assert always.right == 20  # and yet it knows nothing
    assert always.chance == pytest.approx(20.0)
    assert always.near_chance


def test_warnings_of_guesses_come_at_the_level_of_the_test() -> None:
    rng = np.random.default_rng(0)
    true = NAMES * 6
    quiet = sum(not count_calls("net", rng.normal(size=(48, 8)), true, NAMES).near_chance for _ in range(400))
    assert quiet / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_conditions_that_are_no_classes_are_said() -> None:
    some = count_calls("net", logits_of(["a", "b", "c"]), ["a", "b", "dog"], NAMES)
    assert (some.right, some.n, some.strange) == (2, 2, ("dog",))
    assert "1 conditions are no classes of it ('dog')" in some.line()
    none = count_calls("net", logits_of(["a"]), ["dog"], NAMES)
    assert none.line() == (
        "network net: no condition of the sounds is one of its classes ('dog'), so what it calls them cannot be checked"
    )
