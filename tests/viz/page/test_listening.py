"""The section of the brain beside sound: its figure and its cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from brainmap.viz.page.listening import RealSound, RegionPanel, plot_brain_beside_sound
from brainmap.viz.page.region_cards import make_region_cards

RATE = 8000


def make_panel(folder: Path, judged: float, **course: Any) -> RegionPanel:
    wave = np.random.default_rng(0).standard_normal(RATE // 2).astype(np.float32)
    soundfile.write(folder / "predicted.wav", 0.1 * wave, RATE)
    real = [
        RealSound(name="rain", wave=wave, rate=RATE, measured=1.25, judged=-0.04, **course),
        RealSound(name="wind", wave=wave, rate=RATE, measured=float("nan"), judged=-1.26),
    ]
    values = {"judged": judged, "best_real": 1.0, "best_random": 0.2, "predicted": 4.0, "r": 0.5}
    return RegionPanel(
        roi="left-A1", layer="conv3", predicted=wave, rate=RATE, wav=folder / "predicted.wav", values=values, real=real
    )


def test_cards_have_the_numbers_of_judges_and_say_where_these_do_not_confirm(tmp_path: Path) -> None:
    seconds = np.linspace(0.01, 0.49, 25)
    course = {"seconds": seconds, "course": np.where(seconds < 0.25, -1.0, 1.0), "energy": 0 * seconds}
    predicted, first, second = make_region_cards(make_panel(tmp_path, -0.4, **course))
    assert predicted.words == "judged −0.4 SD, the best real sound 1.0: the judges do not confirm it"
    assert first.words == "measured 1.2 SD; judged 0.0"
    assert second.words == "judged −1.3"  # the data could not be halved
    assert all(card.audio.startswith("data:audio/wav") for card in (predicted, first, second))
    fills = [fill for _, fill in first.paths]
    assert len(fills) > 1  # the map's colors
    assert len(second.paths) == 1
    assert make_region_cards(make_panel(tmp_path, 1.4))[0].words == "judged 1.4 SD, the best real sound 1.0"


def test_every_picture_has_axes_of_time_and_frequency(tmp_path: Path) -> None:
    seconds = np.linspace(0.01, 0.49, 25)
    course = {"seconds": seconds, "course": np.sin(9 * seconds), "energy": 9 * np.cos(9 * seconds)}
    figure = plot_brain_beside_sound([make_panel(tmp_path, 1.4, **course), make_panel(tmp_path, 0.4)])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles.count("answered most: rain") == 2
    assert titles.count("predicted sound") == 2
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels.count("time [s]") == 4
    spectrograms = [axes for axes in figure.axes if axes.images]
    assert len(spectrograms) == 4
    assert all([text.get_text() for text in axes.get_yticklabels()] == ["100", "1k", "4k"] for axes in spectrograms)


def test_regions_on_a_template_are_shown_in_the_head(tmp_path: Path) -> None:
    from brainmap.rsa.regions.rois import Rois

    labels = np.zeros((20, 24, 20), np.int32)
    labels[4:6, 12:14, 8:11] = 1
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = (-80, -110, -70)
    panels = [make_panel(tmp_path, 1.4)]
    alone = plot_brain_beside_sound(panels)
    figure = plot_brain_beside_sound(panels, regions=Rois(names=("left-A1",), labels=labels, affine=affine))
    assert len(figure.axes) == len(alone.axes) + 1
    other = plot_brain_beside_sound(panels, regions=Rois(names=("STG",), labels=labels, affine=affine))
    assert len(other.axes) == len(alone.axes)  # a region that the first participant lacks has no place
