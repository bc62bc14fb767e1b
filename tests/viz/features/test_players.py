"""Sounds show themselves as players: the bytes are those of the sound, under its name."""

from __future__ import annotations

import base64
import io
import re
import wave
from types import SimpleNamespace

import numpy as np
import pytest

from brainmap import viz
from brainmap.errors import InputError

RATE = 8_000
TONE = np.sin(2 * np.pi * 500 * np.arange(RATE // 4) / RATE)


def decode(page: str) -> list[np.ndarray]:
    """The samples of every player of a page."""
    found = []
    for text in re.findall(r"data:audio/wav;base64,([^\"]+)", page):
        with wave.open(io.BytesIO(base64.b64decode(text))) as file:
            assert (file.getnchannels(), file.getframerate()) == (1, RATE)
            found.append(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767)
    return found


def test_players_hold_the_sounds_with_equal_peaks() -> None:
    players = viz.play_sounds(np.stack([0.1 * TONE, -0.5 * TONE])[:, None], rate=RATE, labels=["a<b", "c"])
    first, second = decode(players._repr_html_())
    np.testing.assert_allclose(first, 0.7 * TONE / np.abs(TONE).max(), atol=1e-4)
    np.testing.assert_allclose(second, -first, atol=1e-4)
    assert "a&lt;b" in players._repr_html_()
    assert "a<b" not in players._repr_html_()


def test_names_and_rates_come_from_what_is_played() -> None:
    sounds = SimpleNamespace(waveforms=np.stack([TONE, TONE, TONE])[:, None], rate=RATE, items=("x", "y", "z"))
    players = viz.play_sounds(sounds, items=[2, 0], rate=1)
    assert (players.labels, players.rate, players.waves.shape) == (("z", "x"), RATE, (2, RATE // 4))
    patterns = SimpleNamespace(patterns=TONE[None, None], rate=RATE, units=(3,), labels=("conv1-3",))
    assert viz.play_sounds(patterns).labels == ("conv1-3",)


def test_what_cannot_be_played_is_refused() -> None:
    for wrong, message in (
        ({}, "expected a rate beside an array, got none"),
        ({"rate": RATE, "items": [1]}, "expected items from 0 to 0, got 1"),
        ({"rate": RATE, "labels": ["a", "b"]}, "expected 1 labels, one a sound, got 2"),
    ):
        with pytest.raises(InputError, match=message):
            viz.play_sounds(TONE, **wrong)
    with pytest.raises(InputError, match="expected sounds"):
        viz.play_sounds(np.zeros((1, 1, 8, 8)), rate=RATE)


def test_figures_show_themselves_with_their_title_as_description() -> None:
    figure = viz.plot_sound(TONE, rate=RATE, title='a "tone"')
    assert isinstance(figure, viz.Picture)
    page = figure._repr_html_()
    (content,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert 'alt="a &quot;tone&quot;"' in page
    width = re.findall(r"width: (\d+)px", page)
    assert width == [str(round(96 * figure.get_figwidth()))]
