"""A network that does not understand its sounds: the wrong rate, names in another order and silent files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn

import brainmap.data
from brainmap.errors import InputError
from brainmap.features.evaluation.understanding import check_understanding
from brainmap.features.networks.calls import describe_other_order
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.description import load_checkpoint
from brainmap.features.sounds.files import Sounds, load_sounds

DATA = Path(brainmap.data.__file__).parent
NET = DATA / "networks" / "ch32.safetensors"
CLASSES = load_checkpoint(NET).classes


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return load_network(NET)


def words(rate: int = 16_000, seconds: float = 1.0) -> Sounds:
    """Two voices of each of 16 words."""
    sounds = load_sounds(DATA / "words" / "stimuli.tsv", rate=rate, seconds=seconds)
    table = pd.DataFrame({"condition": sounds.conditions})
    first = table.groupby("condition", sort=False).head(2).index
    chosen = [k for k in first if sounds.conditions[k] in CLASSES]
    assert len(chosen) == 2 * len(CLASSES)
    return sounds.take(chosen)


def test_the_shipped_network_knows_its_words(model: nn.Module) -> None:
    calls, logits = check_understanding("ch32", model, words(), CLASSES)
    assert calls.right > 28
    assert not calls.near_chance
    assert calls.causes == ()
    assert logits.shape == (32, 16)
    assert "likely" not in calls.line()


@pytest.mark.slow
def test_the_wrong_rate_is_found(model: nn.Module) -> None:
    calls, _ = check_understanding("ch32", model, words(rate=8_000, seconds=2.0), CLASSES)
    assert calls.right < 16  # and yet more than by chance, since the network has learned words at several speeds
    (cause,) = calls.causes
    assert cause.startswith("with a rate of 16000 Hz it would call ")
    assert cause.endswith("the rate, 8000 Hz, of the network or of the files is likely wrong")
    assert cause in calls.line()


@pytest.mark.slow
def test_files_whose_header_says_the_wrong_rate_are_found(model: nn.Module, tmp_path: Path) -> None:
    sounds = words()
    paths = [tmp_path / f"{k}.wav" for k in range(len(sounds))]
    for path, source in zip(paths, sounds.table["path"], strict=True):
        wave, rate = soundfile.read(source)
        soundfile.write(path, wave, rate // 2)
    slow = load_sounds(sounds.table.assign(path=[str(path) for path in paths]))
    calls, _ = check_understanding("ch32", model, slow, CLASSES)
    (cause,) = calls.causes
    assert cause.startswith("with a rate of 8000 Hz it would call ")


def test_names_in_another_order_are_found(model: nn.Module) -> None:
    swapped = (*CLASSES[1:], CLASSES[0])
    calls, _ = check_understanding("ch32", model, words(), swapped)
    assert calls.near_chance
    (cause,) = calls.causes
    assert f"({', '.join(CLASSES[:8])}, ...)" in cause
    assert "the order of class names is likely wrong" in cause


def test_silent_files_are_found(model: nn.Module, tmp_path: Path) -> None:
    sounds = words()
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    silent = load_sounds(sounds.table.assign(path=str(tmp_path / "silent.wav")))
    calls, _ = check_understanding("ch32", model, silent, CLASSES)
    assert calls.near_chance
    assert calls.causes[0].startswith("32 of 32 sounds are silent (")
    assert len(calls.causes) == 1


def test_two_names_that_are_swapped_among_many_are_found() -> None:
    names = list("abcdefgh")
    true = names * 12
    rng = np.random.default_rng(0)
    heard = [one if rng.random() < 0.7 else str(rng.choice(names)) for one in true]
    logits = np.eye(8)[[names.index(one) for one in heard]]
    assert describe_other_order(logits, true, names, rng=rng) == ""  # mistakes are no other order
    swapped = [names[k] for k in (1, 0, 3, 2, 4, 5, 6, 7)]
    assert "(a, b, c, d, e, f, g, h) it would call 68 of 96" in describe_other_order(logits, true, swapped, rng=rng)


def test_a_network_that_guesses_is_given_no_cause_more_often_than_said() -> None:
    rng = np.random.default_rng(1)
    names = list("abcdef")
    given = sum(
        bool(describe_other_order(rng.normal(size=(36, 6)), names * 6, names, rng=rng, shuffles=99)) for _ in range(200)
    )
    assert given / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
def test_an_untrained_network_has_no_better_rate() -> None:
    from brainmap.features.networks.zoo import build_network

    torch.manual_seed(0)
    calls, _ = check_understanding("net", build_network("ch32", n_classes=16, n_samples=16_000), words(), CLASSES)
    assert calls.near_chance
    assert calls.causes == ()
    assert "check the rate and level of the sounds and the order of its class names" in calls.line()


def test_as_many_names_as_outputs_are_wanted(model: nn.Module) -> None:
    with pytest.raises(InputError, match=r"one output for each of 15 class names, got outputs of shape \(16,\)"):
        check_understanding("ch32", model, words(), CLASSES[:15])
