"""Plot attributions: how moments and frequency bands affect a class, by several methods or painted over a sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.checks import list_some, refuse_some
from brainmap.errors import InputError
from brainmap.viz.features.sounds import (
    add_hertz_ticks,
    average_in_bins,
    choose_items,
    draw_spectrogram,
    draw_wave,
    find_envelope,
    read_waves,
)
from brainmap.viz.features.spectrograms import (
    add_kilohertz_ticks,
    add_second_ticks,
    add_seconds,
    draw_input,
    draw_map,
    get_input,
    has_pictures,
    make_picture,
)
from brainmap.viz.style import (
    INK,
    add_color_bar,
    add_headline,
    get_colormap,
    make_axes,
    strip_axes,
    with_style,
)

Span = tuple[NDArray[np.floating], NDArray[np.floating]]

_BINS = 320
_LOWEST = 60.0  # Hz, as in the spectrogram


def find_map_rows(sounds: Any, found: Any, chosen: Sequence[int], what: str) -> list[int]:
    """Return the rows of an attribution that belong to the chosen sounds, by their ids."""
    ids = list(found.items)
    wanted = [str(sounds.items[i]) for i in chosen]
    missing = [name for name in wanted if name not in ids]
    refuse_some(missing, f"{what}: {found.method} has no maps of ", f"; it has {list_some(ids, 4)}", most=4)
    return [ids.index(name) for name in wanted]


def place_map(found: Any, row: int, condition: str) -> int:
    """Choose which map of an item to show: that of its own class, else that of the class with the largest logit."""
    names = found.names(row)
    if condition in names:
        return int(names.index(condition))
    return int(np.argmax(found.logits[row, found.targets[row]]))


def _choose_map(found: Any, row: int, condition: str) -> NDArray[np.float32]:
    """Return the map (c, t) or (c, h, w) of an item to show."""
    return np.asarray(found.maps[row, place_map(found, row, condition)], dtype=np.float32)


def _compose_heading(found: Any, row: int, condition: str) -> str:
    name = found.names(row)[place_map(found, row, condition)]
    return condition if name == condition else f"{condition}, map of “{name}”"


def _fill_by_sign(axes: Axes, span: Span, limit: float, *, signed: bool) -> None:
    """Fill the span between the lowest and highest value in each bin, orange above zero and blue below."""
    low, high = span
    time = np.linspace(0, 1, len(low))
    axes.axhline(0, color="#d3d9de", lw=0.6, zorder=0)
    for values, tone in ((np.maximum(high, 0), 0.86), (np.minimum(low, 0), 0.14)):
        axes.fill_between(time, 0, values, color=get_colormap("signed")(tone), lw=0, step="mid")
    strip_axes(axes).set(xlim=(0, 1), ylim=((-1.05 if signed else -0.05) * limit, 1.05 * limit))


def _name_row(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, color=INK, labelpad=8)


@with_style
def plot_attribution(
    sounds: Any, results: Sequence[Any], *, items: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """Plot sounds over the maps of several methods, one column per sound and one row per method.

    Orange is evidence for the class, blue is evidence against it. All sounds of a row share one scale and can be
    compared; each row has its own scale, because methods differ in units. Each panel shows the lowest and highest
    value of the map in each of 320 time bins; the largest 1 % of values are clipped.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t), `rate` [Hz], `items`, `conditions`
        Sounds as `features.load_sounds` returns them.
    results : sequence of objects with `maps`, `items`, `names`, `targets`, `logits`, `method`
        Results of `features.attribute` for the same sounds. If there are several classes, the sound's own is shown.
    items : sequence of int, optional
        Rows of `sounds` to show; by default the first three.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there are no attributions, the maps belong to inputs other than waveforms, or a sound has no map.
    """
    results = list(results)
    if results and all(has_pictures(sounds, found.maps) for found in results):
        return _plot_attributed_pictures(sounds, results, items, title)
    if not results or any(np.ndim(found.maps) != 4 for found in results):
        raise InputError("plot_attribution: expected attributions of waveforms, with maps (n_items, n_classes, c, t)")
    chosen = choose_items(sounds, items, 3, "plot_attribution")
    audio = read_waves(sounds, "plot_attribution")
    seconds = audio.shape[1] / sounds.rate
    words = [str(sounds.conditions[i]) for i in chosen]
    heights = [0.55, 1.3, *[0.8] * len(results)]
    size = (1.5 + 2.75 * len(chosen), 1.9 + 0.62 * len(results))
    figure, grid = make_axes(size, len(heights), len(chosen), height_ratios=heights)
    for column, (item, word) in enumerate(zip(chosen, words, strict=True)):
        draw_wave(grid[0, column], audio[item])
        hertz = draw_spectrogram(grid[1, column], audio[item], float(sounds.rate))
        row = find_map_rows(sounds, results[0], [item], "plot_attribution")[0]
        grid[0, column].set_title(_compose_heading(results[0], row, word), fontsize=9)
        if column == 0:
            add_hertz_ticks(grid[1, 0], hertz)
            _name_row(grid[0, 0], "waveform")
            _name_row(grid[1, 0], "spectrogram [Hz]")
    for line, found in enumerate(results, start=2):
        rows = find_map_rows(sounds, found, chosen, "plot_attribution")
        courses = [_choose_map(found, row, word).sum(0) for row, word in zip(rows, words, strict=True)]
        spans = [find_envelope(course, _BINS) for course in courses]
        limit = max(float(np.quantile(np.abs(spans), 0.99)), 1e-30)
        for axes, span in zip(grid[line], spans, strict=True):
            _fill_by_sign(axes, span, limit, signed=any(low.min() < 0 for low, _ in spans))
        _name_row(grid[line, 0], found.method)
    for axes in grid[-1]:
        add_seconds(axes, seconds, width=1.0)
    return add_headline(figure, title)


def _plot_attributed_pictures(sounds: Any, results: Sequence[Any], items: Sequence[int] | None, title: str) -> Figure:
    """Plot spectrograms, and below them the map of each method over them."""
    chosen = choose_items(sounds, items, 3, "plot_attribution")
    words = [str(sounds.conditions[i]) for i in chosen]
    drawn = [get_input(sounds, item) for item in chosen]
    n_lines = 1 + len(results)
    figure, grid = make_axes((1.2 + 2.6 * len(chosen), 0.7 + 1.55 * n_lines), n_lines, len(chosen))
    first = find_map_rows(sounds, results[0], chosen, "plot_attribution")
    for axes, (picture, about), row, word in zip(grid[0], drawn, first, words, strict=True):
        draw_input(axes, picture, about)
        axes.set_title(_compose_heading(results[0], row, word), fontsize=9)
    _name_row(grid[0, 0], "input")
    for line, found in enumerate(results, start=1):
        rows = find_map_rows(sounds, found, chosen, "plot_attribution")
        maps = [
            make_picture(_choose_map(found, row, word), about)
            for row, word, (_, about) in zip(rows, words, drawn, strict=True)
        ]
        limit = max(float(np.quantile(np.abs(maps), 0.99)), 1e-30)
        for axes, (picture, about), values in zip(grid[line], drawn, maps, strict=True):
            draw_map(axes, picture, values, about, limit)
        _name_row(grid[line, 0], found.method)
    for axes in grid[:, -1]:
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        add_kilohertz_ticks(axes, drawn[-1][0].shape[0], drawn[-1][1])
    for axes in grid[-1]:
        add_second_ticks(axes, drawn[0][0].shape[1], drawn[0][1])
    return add_headline(figure, title)


@with_style
def plot_occlusion(sounds: Any, found: Any, *, items: Sequence[int] | None = None, title: str = "") -> Figure:
    """Plot the drop of a logit when a frequency band is removed for a moment, below the spectrogram of the sound.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t), `rate` [Hz], `items`, `conditions`
        Sounds as `features.load_sounds` returns them.
    found : object with `maps` (n_items, n_classes, n_bands, t) and `bands` (n_bands, 2) [Hz]
        Result of `features.attribute(..., method="occlusion", bands=...)`.
    items : sequence of int, optional
        Rows of `sounds` to show; by default the first three.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        All maps share one color scale.

    Raises
    ------
    InputError
        If the attributions have no bands, or a sound has no map.
    """
    if getattr(found, "bands", None) is None:
        raise InputError(
            "plot_occlusion: expected attributions with bands, got none; use method='occlusion', bands='mel'"
        )
    chosen = choose_items(sounds, items, 3, "plot_occlusion")
    rows = find_map_rows(sounds, found, chosen, "plot_occlusion")
    audio, rate = read_waves(sounds, "plot_occlusion"), float(sounds.rate)
    words = [str(sounds.conditions[i]) for i in chosen]
    maps = [average_in_bins(_choose_map(found, row, word), _BINS) for row, word in zip(rows, words, strict=True)]
    limit = float(np.quantile(np.abs(maps), 0.995)) or 1.0
    seconds, edges = audio.shape[1] / rate, np.maximum(np.append(found.bands[:, 0], found.bands[-1, 1]), _LOWEST)
    figure, grid = make_axes((1.4 + 2.75 * len(chosen), 4.0), 2, len(chosen))
    for column, (item, word) in enumerate(zip(chosen, words, strict=True)):
        above, below = grid[:, column]
        hertz = draw_spectrogram(above, audio[item], rate)
        above.set_title(_compose_heading(found, rows[column], word), fontsize=9)
        height = np.log(edges / hertz[0]) / np.log(hertz[-1] / hertz[0])
        drawn = below.pcolormesh(
            np.linspace(0, seconds, maps[column].shape[1] + 1),
            height,
            maps[column],
            cmap=get_colormap("signed"),
            vmin=-limit,
            vmax=limit,
            rasterized=True,
        )
        strip_axes(below).set(xlim=(0, seconds), ylim=(0, 1))
        add_seconds(below, seconds)
    for axes in grid[:, 0]:
        add_hertz_ticks(axes, hertz)
        axes.set_ylabel("frequency [Hz]", fontsize=8)
    bar = add_color_bar(figure, drawn, grid[1], "logit lost without it", fontsize=8, shrink=0.9, aspect=14, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    return add_headline(figure, title)
