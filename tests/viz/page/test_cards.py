"""Cards of class activation maps: what they show of waveforms, of pictures and of frames inside a network."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.image import imread

from brainmap.viz.page.cards import describe_cam_cards, make_cam_cards

RATE = 8000


def make_sounds() -> Any:
    time = np.arange(RATE) / RATE
    waves = 0.1 * np.stack([np.sin(2 * np.pi * hertz * time) for hertz in (1000, 2500)])
    return SimpleNamespace(
        waveforms=waves[:, None].astype(np.float32), rate=RATE, n_samples=RATE, conditions=["low", "high"]
    )


def read_image(card: Any) -> Any:
    return imread(io.BytesIO(base64.b64decode(card.spectrogram.split(",")[1])))[..., :3]


def test_a_map_over_frames_lies_below_the_spectrogram_of_its_sound() -> None:
    maps = np.zeros((2, 2, 4, 5), np.float32)
    maps[0, 0, 0, 0] = 1.0  # the lowest frequency and the first frame speak for the class
    maps[1, 1, 3, 4] = -1.0
    cams = SimpleNamespace(maps=maps, class_names=["low", "high"])
    sounds = make_sounds()
    low, high = make_cam_cards(sounds, cams)
    assert (low.label, low.seconds, low.paths) == ("low", "1 s", ())
    image, other = read_image(low), read_image(high)
    spectrogram, below = image[:64], image[-32:]
    dark = spectrogram.sum(axis=2).mean(axis=1)
    assert int(other[:64].sum(axis=2).mean(axis=1).argmin()) < int(dark.argmin()), "2,500 Hz lies above 1,000 Hz"
    assert below[-1, 0, 0] > below[-1, 0, 2], "orange at the bottom left"
    assert np.ptp(below[:8]) < 0.02, "nothing at the top"
    assert other[-32, -1, 2] > other[-32, -1, 0], "blue at the top right"
    (name, place), *_ = [mark for mark in low.marks if mark[0] == "1"]
    row = float(place.rstrip("%")) / 100 * len(image)
    assert abs(row - int(dark.argmin())) < 3, f"the mark {name} lies at its row of the whole picture"
    assert "below it" in describe_cam_cards(sounds, cams)


def test_waveforms_are_called_waveforms() -> None:
    cams = SimpleNamespace(maps=np.zeros((2, 2, RATE), np.float32), class_names=["low", "high"])
    assert describe_cam_cards(make_sounds(), cams).startswith("Each waveform is a sound")
    assert all(card.paths for card in make_cam_cards(make_sounds(), cams))
