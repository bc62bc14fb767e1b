"""Plot where networks attend in sounds: to words, to voiced and unvoiced sound, and where an encoding model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.attention.words import average_by_word
from brainmap.features.attribution.results import find_own_class
from brainmap.features.sounds.inputs import get_waveforms
from brainmap.viz.features.sounds import (
    add_hertz_ticks,
    average_in_bins,
    choose_items,
    draw_spectrogram,
    map_scale,
    read_waves,
)
from brainmap.viz.features.spectrograms import add_seconds
from brainmap.viz.style import (
    ACCENT,
    HAIRLINE,
    INK,
    MUTED,
    SOFT,
    WARM,
    add_color_bar,
    add_headline,
    get_colormap,
    make_axes,
    strip_axes,
    with_style,
)

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
    chosen = choose_items(found, items, _MOST, "plot_encoder_maps")
    if [str(item) for item in sounds.items] != list(found.items):
        raise InputError("plot_encoder_maps: expected the sounds of the maps, in their order, got others")
    n = len(found.regions)
    figure, grid = make_axes((0.9 + 2.5 * len(chosen), 1.05 + 1.0 * (n + 1)), n + 1, len(chosen), sharex="col")
    followed, found = found.follow_energy()["r_energy"], found.average_in_steps()
    maps, energy = found.less_mean, found.energy_less_mean
    limits = np.maximum(np.quantile(np.abs(maps), 0.995, axis=(0, 2)), 1e-12)
    for column, item in enumerate(chosen):
        one = sounds.take([item])
        wave, rate = read_waves(get_waveforms(one), "plot_encoder_maps")[0], float(one.rate)
        hertz = draw_spectrogram(grid[0, column], wave, rate)
        grid[0, column].set_title(str(found.items[item]), fontsize=8.5, pad=2)
        if column == 0:
            add_hertz_ticks(grid[0, 0], hertz, "frequency [Hz]")
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
    axes.spines[["top", "right", "left"]].set_visible(False)


def average_attention(sounds: Any, cams: Any, *, bins: int = 24) -> NDArray[np.float64]:
    """Average the maps of class j on the sounds of class i in time bins `(n_classes, n_classes, bins)`; NaN if none.

    Two-dimensional maps are averaged over height.
    """
    own = find_own_class(sounds.conditions, cams.class_names)
    courses = [np.asarray(one, dtype=np.float32) for one in cams.maps]
    binned = [average_in_bins(c.mean(axis=-2) if c.ndim == 3 else c, bins) for c in courses]
    return average_by_word(np.stack(binned), own)


@with_style
def plot_target_attention(sounds: Any, cams: Any, *, bins: int = 24, title: str = "") -> Figure:
    """Plot every class's mean map over the sounds of every word: rows are spoken words, columns are classes.

    A warm diagonal on a pale ground means that only the spoken class finds evidence for itself. A cell that is warm in
    one part shows when in the word that evidence occurs.

    Parameters
    ----------
    sounds : object with `conditions`, and `rate` [Hz] where the maps lie over samples
        Sounds as `features.load_sounds` returns them.
    cams : object with `maps` (n, n_classes, t) or (n, n_classes, h, w), signed, and `class_names`
        Maps as `features.class_activation_maps` returns them.
    bins : int
        Time steps per cell; time runs from left to right within each cell.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a condition is not one of the classes.
    """
    mean = average_attention(sounds, cams, bins=bins)
    names = [str(c) for c in cams.class_names]
    n, _, steps = mean.shape
    limit = map_scale(np.nan_to_num(mean))
    figure, [[axes]] = make_axes((8.4, 0.9 + 0.32 * n))
    image = strip_axes(axes).imshow(
        mean.reshape(n, n * steps),
        cmap=get_colormap("signed"),
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        extent=(0, n, n, 0),
        interpolation="nearest",
    )
    axes.hlines(range(1, n), 0, n, color="white", lw=2)
    axes.vlines(range(1, n), 0, n, color="white", lw=2)
    for at in range(n):
        if np.isfinite(mean[at]).any():
            axes.plot([at, at + 1, at + 1, at, at], [at, at, at + 1, at + 1, at], color=INK, lw=1.1, clip_on=False)
        else:
            axes.text(n / 2, at + 0.5, "no sound", ha="center", va="center", fontsize=7, color=MUTED)
    axes.set_xticks(np.arange(n) + 0.5, names, rotation=90)
    axes.set_yticks(np.arange(n) + 0.5, names)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_xlabel(f"map of the class (time runs to the right in each cell{_find_duration(sounds, cams)})", color=SOFT)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("class of the sound", color=SOFT)
    bar = add_color_bar(figure, image, axes, "evidence for the class", shrink=0.5, aspect=16, pad=0.02)
    bar.set_ticks([-limit, 0, limit], labels=["against", "0", "for"])
    if title:
        axes.set_title(title)
    return figure


def _find_duration(sounds: Any, cams: Any) -> str:
    """Return the duration that a cell spans, if maps lie over the samples of the sounds."""
    length, rate = np.shape(cams.maps)[-1], getattr(sounds, "rate", None)
    return f", 0 to {length / rate:g} s" if rate and getattr(sounds, "n_samples", None) == length else ""


@with_style
def plot_cover(cover: Any, *, title: str = "") -> Figure:
    """Plot how much of each word its own class covers, compared with the other classes, and the whole matrix.

    The left panel has one row per word: its own class (filled) and the mean of all other classes (open), joined by a
    line; words are sorted by the difference. The right panel shows the mean cover of every class (columns) on every
    word (rows). A dark diagonal on a pale ground means that attention is spread over the word for the spoken class and
    for no other class.

    Parameters
    ----------
    cover : object with `table`, `matrix`, `class_names`, `own`, `others`, `p`, `n_words`, `measure`, `method`, `layer`
        Result of `features.attention_cover`.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    table = cover.table.dropna(subset=["difference"]).sort_values("difference")
    names, n = [str(c) for c in cover.class_names], len(cover.class_names)
    figure, [[left, right]] = make_axes((9.2, 1.5 + 0.24 * max(n, 6)), 1, 2, width_ratios=[1, 1.15])
    _draw_pairs(left, table)
    for value, color in ((cover.own, WARM), (cover.others, ACCENT)):
        left.axvline(value, color=color, lw=1, ls=(0, (4, 3)), zorder=0)
    what = "share of the input covered" + (" (entropy)" if cover.measure == "entropy" else " (area)")
    left.set_xlabel(what)
    test = "sign flips" if n <= 20 else "random sign flips"
    left.set_title(
        f"own {cover.own:.2f}, others {cover.others:.2f} (p = {cover.p:.2g}, {test} over {cover.n_words} words)",
        fontsize=8.5,
    )
    top = float(np.nanmax(cover.matrix)) or 1.0
    image = strip_axes(right).imshow(
        cover.matrix, cmap=get_colormap("score"), vmin=0, vmax=top, interpolation="nearest"
    )
    right.set_xticks(np.arange(n), names, rotation=90)
    right.set_yticks(np.arange(n), names)
    right.tick_params(length=0)
    right.set_xlabel("map of the class", color=SOFT)
    right.set_ylabel("class of the sound", color=SOFT)
    add_color_bar(figure, image, right, what, shrink=0.7, aspect=18, pad=0.02)
    return add_headline(figure, title or f"Whose attention covers the word? {cover.method} at {cover.layer}")


def _draw_pairs(axes: Axes, table: Any) -> None:
    rows = np.arange(len(table))
    axes.hlines(rows, table["others"], table["own"], color="#c9d0d6", lw=2, zorder=1)
    axes.scatter(table["own"], rows, s=28, color=WARM, zorder=3, label="its own class")
    axes.scatter(
        table["others"], rows, s=26, facecolor="white", edgecolor=ACCENT, lw=1.3, zorder=2, label="all other classes"
    )
    axes.set_yticks(rows, list(table["word"]))
    axes.set_ylim(-1.7, len(table) - 0.3)  # the lowest row holds the legend
    axes.set_xlim(0, max(1.0, float(table[["own", "others"]].max().max()) * 1.02))
    axes.grid(axis="x", color="#eceff1", lw=0.7)
    axes.legend(
        loc="lower center", ncols=2, fontsize=7.5, facecolor="white", edgecolor="none", framealpha=1, handletextpad=0.2
    )
