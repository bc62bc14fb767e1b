"""Messages stay readable whatever they echo."""

from __future__ import annotations

import pickle

import pytest

from brainmap.errors import InputError, RunError, is_scarce_memory

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


def test_scarce_memory_is_known_by_its_words_and_by_its_cause() -> None:
    hidden = OSError("Could not find/load shared object file 'libllvmlite.so'")
    hidden.__cause__ = OSError("libllvmlite.so: failed to map segment from shared object")
    for error in (MemoryError(), RuntimeError("can't start new thread"), hidden):
        assert is_scarce_memory(error)
    for error in (OSError("No space left on device"), RuntimeError("shapes differ"), None):
        assert not is_scarce_memory(error)
