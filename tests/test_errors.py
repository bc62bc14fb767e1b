"""Messages stay readable whatever they echo."""

from __future__ import annotations

import pickle

import pytest

from brainmap.errors import InputError, RunError

LONG = ["a" * 10_000, "a " * 5_000, "it's " * 2_000, list(range(5_000)), dict.fromkeys(range(900))]


@pytest.mark.parametrize("value", LONG)
def test_values_are_cut_to_200_characters_and_keep_both_ends(value: object) -> None:
    said = str(InputError(f"layer: expected one of 'conv1', 'conv2', got {value!r}"))
    assert len(said) <= 200 + len("layer: expected one of 'conv1', 'conv2', got ")
    assert said.startswith("layer: expected one of 'conv1', 'conv2', got ")
    assert repr(value)[:40] in said


def test_the_words_of_a_message_are_not_cut_nor_what_follows_an_apostrophe() -> None:
    said = f"the participants' scores {'and so on ' * 60}are not the network's, 'a' nor 'b'\nsecond line"
    assert str(RunError(said)) == said
    assert str(pickle.loads(pickle.dumps(InputError(said)))) == said
