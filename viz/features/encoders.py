"""Plot where in sounds an encoding model reads: its map over time, beside the course of the energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.viz.features.sounds import add_hertz_ticks, draw_spectrogram, read_waves
from brainmap.viz.style import HAIRLINE, MUTED, SOFT, Picture, add_headline, get_colormap, with_style

_MOST = 4  # sounds beside each other
_ENERGY = 20.0  # dB above and below the mean over the sounds that a course has room for


@with_style
def plot_encoder_maps(sounds: Any, found: Any, *, items: Sequence[int] | None = None, title: str = "") -> Figure:
    """Plot sounds, and below each the map of every region less its mean over the sounds, beside the energy.

    Parameters
    ----------
    sounds : Sounds
        The sounds of the maps, in their order.
    found : EncoderMaps
        Result of `features.map_encoder`.
    items : sequence of int, optional
        Rows to show; by default the first four.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Orange: moments that raise the predicted response more than the same moment of other sounds; blue: less. The
        gray line is the level of the sound less its mean over the sounds; where the map follows it, loudness alone
        would explain the map. Frames closer than 10 ms are averaged. All maps of a region have one scale.

    Raises
    ------
    InputError
        If a row does not exist, or the sounds are not those of the maps.
    """
    chosen = list(range(min(_MOST, len(found.items)))) if items is None else list(items)
    if not chosen or not all(0 <= k < len(found.items) for k in chosen):
        raise InputError(f"plot_encoder_maps: expected items from 0 to {len(found.items) - 1}, got {chosen}")
    if [str(item) for item in sounds.items] != list(found.items):
        raise InputError("plot_encoder_maps: expected the sounds of the maps, in their order, got others")
    n = len(found.regions)
    figure = Picture(figsize=(0.9 + 2.5 * len(chosen), 1.05 + 1.0 * (n + 1)), layout="constrained")
    grid = figure.subplots(n + 1, len(chosen), squeeze=False, sharex="col")
    followed, found = found.follow_energy()["r_energy"], found.average_in_steps()
    maps, energy = found.less_mean, found.energy_less_mean
    limits = np.maximum(np.quantile(np.abs(maps), 0.995, axis=(0, 2)), 1e-12)
    for column, item in enumerate(chosen):
        one = sounds.take([item])
        wave, rate = read_waves(_get_audio(one), "plot_encoder_maps")[0], float(one.rate)
        hertz = draw_spectrogram(grid[0, column], wave, rate)
        grid[0, column].set_title(str(found.items[item]), fontsize=8.5, pad=2)
        if column == 0:
            add_hertz_ticks(grid[0, 0], hertz)
            grid[0, 0].set_ylabel("frequency [Hz]", fontsize=7, color=SOFT)
        for row in range(n):
            axes = grid[row + 1, column]
            draw_course(axes, found.seconds, maps[item, row], energy[item], limits[row])
            if column == 0:
                axes.set_ylabel(found.regions[row], fontsize=8, color=SOFT)
            if column == len(chosen) - 1:
                said = f"follows\nenergy: r = {round(followed[row], 2) + 0.0:.2f}"
                axes.annotate(
                    said,
                    (1.02, 0.5),
                    xycoords="axes fraction",
                    fontsize=7,
                    color=MUTED,
                    va="center",
                    annotation_clip=False,
                )
        add_seconds(grid[-1, column], wave.size / rate)
    return add_headline(figure, title)


def _get_audio(sounds: Any) -> Any:
    from brainmap.features.sounds.inputs import get_waveforms

    return get_waveforms(sounds).waveforms


def add_seconds(axes: Axes, seconds: float, *, label: bool = True) -> None:
    """Mark the time below an axis of a whole sound."""
    at = np.linspace(0, seconds, 3)
    axes.set_xticks(at, [f"{s:.3g}" for s in at], fontsize=6.5)
    axes.tick_params(axis="x", length=1.5, pad=1.5, colors=MUTED, labelbottom=True)
    if label:
        axes.set_xlabel("time [s]", fontsize=7.5, color=SOFT)


def draw_course(
    axes: Axes, seconds: NDArray[np.floating], course: NDArray[np.floating], energy: NDArray[np.floating], limit: float
) -> None:
    """Draw a map over time as an area, orange above zero and blue below, with the course of the energy as a line.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    seconds : ndarray (n_frames,) [s]
    course : ndarray (n_frames,)
        The map less its mean over the sounds.
    energy : ndarray (n_frames,) [dB]
        Level of the sound less its mean over the sounds; 20 dB above and below have room.
    limit : float
        Value of the map at the top of the axes.
    """
    shown = np.clip(course / limit, -1, 1)
    colors = get_colormap("signed")
    axes.axhline(0, color=HAIRLINE, lw=0.8, zorder=0)
    axes.fill_between(seconds, 0, np.maximum(shown, 0), color=colors(0.82), lw=0)
    axes.fill_between(seconds, 0, np.minimum(shown, 0), color=colors(0.18), lw=0)
    axes.plot(seconds, np.clip(energy / _ENERGY, -1, 1), color=MUTED, lw=0.9)
    axes.set(ylim=(-1.05, 1.05), yticks=[])
    axes.tick_params(axis="x", length=0, labelbottom=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
