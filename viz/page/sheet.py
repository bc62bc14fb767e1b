"""Plot the network beside the brain: the preferred sound of a layer, if there is one, and its brain map, in one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from brainmap.errors import InputError
from brainmap.viz.features.sounds import (
    add_hertz_ticks,
    draw_cam,
    draw_spectrogram,
    draw_wave,
    get_accent,
    map_scale,
    read_waves,
)
from brainmap.viz.features.spectrograms import draw_input
from brainmap.viz.rsa.panels import choose_limits
from brainmap.viz.rsa.volume import draw_glass, read_volume
from brainmap.viz.style import INK, MUTED, SOFT, Picture, with_style

_WITH_SOUNDS, _ALONE = (0.4, 1.85), (0.16, 2.4)  # where brain maps begin, of the width; height of a row [inches]


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """Hold one layer of a sheet: its brain map and, if available, its pattern or a sound with its activation map.

    Attributes
    ----------
    layer : str
        Name of the layer.
    image : Nifti1Image
        Brain map of the layer.
    pattern : array `(t,)` or `(bands, frames)`, optional
        A sound or spectrogram that maximizes a unit of the layer.
    rate : float [Hz]
        Sampling rate of the sounds.
    unit : str
        The unit that the pattern maximizes, such as "channel 5".
    sound, course : arrays `(t,)`, optional
        A real sound, and the layer's activation map over it; they are drawn under the pattern.
    word : str
        Name of the sound.
    where : str
        A line of text on the brain side, such as "best in left Heschl, .31".
    """

    layer: str
    image: Any
    pattern: Any = None
    rate: float = 16_000.0
    unit: str = ""
    sound: Any = None
    course: Any = None
    word: str = ""
    where: str = ""


@with_style
def plot_sheet(rows: Sequence[SheetRow], *, layers: Sequence[str] = (), vmax: float | None = None) -> Figure:
    """Plot the preferred sound of each layer (left) beside its brain map (right), one row per layer.

    Where no layer has a sound, maps reach to the names of the layers.

    Parameters
    ----------
    rows : sequence of SheetRow
        The layers, from shallow to deep.
    layers : sequence of str
        All layers of the network by depth, which determines their colors; by default those of `rows`.
    vmax : float, optional
        Top of the brain's color scale; by default each row has its own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there are no rows.
    """
    if not rows:
        raise InputError("plot_sheet: expected at least one SheetRow, got none")
    names = list(layers) or [row.layer for row in rows]
    left, height = _WITH_SOUNDS if are_heard(rows) else _ALONE
    figure = Picture(figsize=(10, height * len(rows)))
    parts = np.atleast_1d(np.array(figure.subfigures(len(rows), 1), dtype=object))
    for part, row in zip(parts, rows, strict=True):
        _draw_row(part, row, get_accent(row.layer, names), vmax, left)
    return figure


def are_heard(rows: Iterable[SheetRow]) -> bool:
    """Tell whether some row has a pattern or a sound; where none has, maps take their place."""
    return any(row.pattern is not None or row.sound is not None for row in rows)


def find_top(images: Iterable[Any]) -> float:
    """Return the highest value of maps, for one color scale of all; 1 where no value is positive."""
    tops = [float(np.nanmax(np.asarray(image.dataobj))) for image in images]
    return max((top for top in tops if top > 0), default=1.0)


def _draw_row(part: SubFigure, row: SheetRow, color: str, vmax: float | None, left: float) -> None:
    """Draw a row whose brain map begins at `left`, a share of its width."""
    part.add_artist(Rectangle((0.0, 0.1), 0.006, 0.8, color=color, lw=0, transform=part.transSubfigure))
    part.text(0.016, 0.9, row.layer, fontsize=12, fontweight="bold", color=INK, va="top")
    part.text(0.016, 0.745, "\n".join(wrap(row.unit, 18)), fontsize=8.5, color=SOFT, va="top")
    part.text(0.016, 0.1, "\n".join(wrap(row.where, 18)), fontsize=8.5, color=SOFT, va="bottom", linespacing=1.35)
    both = row.pattern is not None and row.sound is not None
    if row.pattern is not None and np.ndim(row.pattern) == 2:
        draw_input(part.add_axes((0.15, 0.34 if both else 0.08, 0.22, 0.58 if both else 0.84)), row.pattern, None)
    elif row.pattern is not None:
        wave = read_waves(row.pattern, "plot_sheet")[0]
        draw_wave(part.add_axes((0.15, 0.72, 0.22, 0.2)), wave, color=color)
        sound = part.add_axes((0.15, 0.34 if both else 0.13, 0.22, 0.36 if both else 0.57))
        add_hertz_ticks(sound, draw_spectrogram(sound, wave, row.rate), "Hz", labelpad=1)
        if not both:
            seconds = wave.size / row.rate
            sound.set_xticks([0, seconds], ["0", f"{seconds:.2g} s"], fontsize=6.5)
    if row.sound is not None and row.course is not None:
        axes = part.add_axes((0.15, 0.04, 0.22, 0.26) if both else (0.15, 0.25, 0.22, 0.5))
        draw_cam(
            axes, read_waves(row.sound, "plot_sheet")[0], np.asarray(row.course), map_scale(np.asarray(row.course))
        )
        axes.text(1, 0.98, f"“{row.word}”", fontsize=8, color=MUTED, ha="right", va="top", transform=axes.transAxes)
    volume = read_volume(row.image, "plot_sheet")
    draw_glass(part.add_axes((left, 0.02, 1 - left, 0.96)), volume, choose_limits(volume[0], None, vmax, False))
