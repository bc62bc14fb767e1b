"""Show the brain beside sound: for each region the sounds that it answered most, and one it is predicted to want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.viz.features.attention import draw_course
from brainmap.viz.features.evaluation import draw_values
from brainmap.viz.features.sounds import (
    add_hertz_ticks,
    draw_spectrogram,
    read_waves,
)
from brainmap.viz.features.spectrograms import add_seconds
from brainmap.viz.rsa.volume import draw_glass
from brainmap.viz.style import SOFT, Picture, with_style


@dataclass(frozen=True, kw_only=True)
class RealSound:
    """Hold a real sound that a region answered, and where in it the encoding model reads.

    Attributes
    ----------
    name : str
    wave : array (t,)
    rate : float [Hz]
    measured, judged : float [SD over sounds]
        Response in the half of the data that did not choose it, and mean prediction of the judges; NaN where unknown.
    seconds, course, energy : arrays (n_frames,), optional
        Time [s], the map less its mean over the sounds, and the level less its mean [dB].
    """

    name: str
    wave: NDArray[np.floating]
    rate: float
    measured: float
    judged: float
    seconds: NDArray[np.floating] | None = None
    course: NDArray[np.floating] | None = None
    energy: NDArray[np.floating] | None = None


@dataclass(frozen=True, kw_only=True)
class RegionPanel:
    """Hold a region with the sound that it is predicted to want, and the real sounds that it answered most.

    Attributes
    ----------
    roi, layer : str
    predicted : array (t,)
        The predicted sound.
    rate : float [Hz]
    wav : Path
    values : mapping of str to object
        A row of the table of predicted sounds: `predicted`, `judged`, `best_real`, `best_random`, `judges`,
        `judged_on`, `r`, `p_corrected`, ...
    real : sequence of RealSound
        From the highest response on.
    """

    roi: str
    layer: str
    predicted: NDArray[np.floating]
    rate: float
    wav: Path
    values: Any
    real: Sequence[RealSound]


@with_style
def plot_brain_beside_sound(panels: Sequence[RegionPanel], *, regions: Any = None) -> Figure:
    """Plot each region, the real sound that it answered most, where in it the model reads, and the predicted sound.

    Parameters
    ----------
    panels : sequence of RegionPanel
    regions : Rois, optional
        The regions on a template, to be drawn beside their sounds.

    Returns
    -------
    matplotlib.figure.Figure
    """
    glass = regions is not None
    left = 0.29 if glass else 0.15
    figure = Picture(figsize=(10.4 if glass else 9.2, 1.75 * len(panels)))
    parts = np.atleast_1d(np.array(figure.subfigures(len(panels), 1), dtype=object))
    wide = (0.985 - left - 0.115) / 3 - 0.04
    for part, one in zip(parts, panels, strict=True):
        part.text(0.004, 0.92, one.roi, fontsize=10, fontweight="bold", va="top")
        part.text(0.004, 0.79, f"{one.layer}, r = {one.values['r']:.2f}", fontsize=7.5, color=SOFT, va="top")
        if glass and one.roi in regions.names:
            _draw_glass_region(part.add_axes((0.0, 0.14, 0.25, 0.58)), regions, one.roi)
        _draw_real(part, (left, wide), one.real[0])
        sound = part.add_axes((left + wide + 0.075, 0.24, wide, 0.62))
        add_hertz_ticks(sound, draw_spectrogram(sound, read_waves(one.predicted, "page")[0], one.rate))
        add_seconds(sound, one.predicted.size / one.rate)
        sound.set_title("predicted sound", fontsize=8, loc="left", pad=3)
        sound.set_ylabel("frequency\n[Hz]", fontsize=7, color=SOFT, labelpad=1)
        start = left + 2 * (wide + 0.045) + 0.1
        bars = part.add_axes((start, 0.28, 0.985 - start, 0.58))
        draw_values(bars, one.values)
        bars.set_xlabel("predicted response [SD over real sounds]", fontsize=7, color=SOFT)
    return figure


def _draw_real(part: Any, at: tuple[float, float], sound: RealSound) -> None:
    left, wide = at
    course = sound.course is not None
    above = part.add_axes((left, 0.51 if course else 0.24, wide, 0.35 if course else 0.62))
    wave = read_waves(sound.wave, "page")[0]
    add_hertz_ticks(above, draw_spectrogram(above, wave, sound.rate), "frequency\n[Hz]", labelpad=1)
    above.set_title(f"answered most: {sound.name}", fontsize=8, loc="left", pad=3)
    below = above
    if sound.course is not None and sound.seconds is not None and sound.energy is not None:
        below = part.add_axes((left, 0.24, wide, 0.25))
        limit = max(float(np.quantile(np.abs(sound.course), 0.99)), 1e-12)
        draw_course(below, sound.seconds, sound.course, sound.energy, limit)
        below.set_xlim(0, sound.wave.size / sound.rate)
    below.tick_params(axis="x", labelbottom=True)
    add_seconds(below, sound.wave.size / sound.rate)


def _draw_glass_region(axes: Axes, regions: Any, name: str) -> None:
    labels = (np.asarray(regions.labels) == list(regions.names).index(name) + 1).astype(np.float32)
    draw_glass(axes, (labels, np.linalg.inv(regions.affine)), (0.5, Normalize(0.0, 1.0)), small=True)
