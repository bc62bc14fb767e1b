"""Plot relevance over sounds as the demonstrations of LRP show it: the input painted, and the scores of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.checks import check_choice, suggest_word
from brainmap.errors import InputError
from brainmap.types import RelevanceView, ScoreKind
from brainmap.viz.features.attribution import find_map_rows, place_map
from brainmap.viz.features.class_maps import compute_shares, draw_scores
from brainmap.viz.features.sounds import (
    add_hertz_ticks,
    choose_items,
    compute_log_spectrogram,
    find_envelope,
    read_waves,
)
from brainmap.viz.features.spectrograms import (
    add_kilohertz_ticks,
    add_second_ticks,
    add_seconds,
    draw_map,
    get_input,
    has_pictures,
    make_picture,
)
from brainmap.viz.style import add_headline, get_colormap, make_axes, strip_axes, with_style

_CLIP = 0.99  # share of the values within the color scale

_BARS = 5

_WAVE_BINS = 900


@with_style
def plot_relevance(
    sounds: Any,
    found: Any,
    *,
    items: Sequence[int] | None = None,
    view: RelevanceView = "waveform",
    colormap: str | None = None,
    scores: ScoreKind = "probability",
    title: str = "",
) -> Figure:
    """Plot sounds painted with the relevance of their samples, and beside each the scores of its highest classes.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t), `rate` [Hz], `items`, `conditions`
        Sounds as `features.load_sounds` returns them.
    found : object with `maps`, `items`, `names`, `targets`, `logits`, `class_names`, `method`
        Result of `features.attribute` for the same sounds. If there are several classes, the sound's own is shown.
    items : sequence of int, optional
        Rows of `sounds` to show; by default all of them, at most 12.
    view : {"waveform", "spectrogram"}
        The waveform in the color of its relevance, or the spectrogram with it: in time alone, or over time and
        frequency where the maps are products of samples and gradients (input times gradient, integrated gradients, and
        LRP by the rules epsilon and z).
    colormap : str, optional
        A diverging colormap of matplotlib, such as "seismic"; by default blue to orange.
    scores : {"probability", "value"}
        Softmax of the outputs, or their values where they are not classes that exclude each other.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Each sound has its own color scale; how many samples lie beyond it is said above the sound.

    Raises
    ------
    InputError
        If a sound has no map, there is no such row, or matplotlib has no such colormap.

    References
    ----------
    Bach S et al. (2015): doi:10.1371/journal.pone.0130140
    """
    check_choice(view, ("waveform", "spectrogram"), "view")
    colors = _find_colormap(colormap)
    chosen = choose_items(sounds, items, 12, "plot_relevance")
    pictures = has_pictures(sounds, found.maps)
    if not pictures and np.ndim(found.maps) != 4:
        raise InputError("plot_relevance: expected maps of waveforms (n_items, n_classes, c, t) or of spectrograms")
    rows = find_map_rows(sounds, found, chosen, "plot_relevance")
    tall = 1.55 if pictures or view == "spectrogram" else 1.15
    figure, grid = make_axes((9.2, 0.75 + tall * len(chosen)), len(chosen), 2, width_ratios=[4.2, 1])
    for line, (item, row) in enumerate(zip(chosen, rows, strict=True)):
        axes, bars = grid[line]
        at = place_map(found, row, str(sounds.conditions[item]))
        values = np.asarray(found.maps[row, at], dtype=np.float64)
        limit = max(float(np.quantile(np.abs(values), _CLIP)), 1e-30)
        beyond, n = int((np.abs(values) > limit).sum()), values.size
        if pictures:
            picture, about = get_input(sounds, item)
            draw_map(axes, picture, make_picture(values, about), about, limit)
            add_kilohertz_ticks(axes, picture.shape[0], about)
            if line == len(chosen) - 1:
                add_second_ticks(axes, picture.shape[1], about)
        else:
            wave = read_waves(sounds, "plot_relevance")[item]
            limit, beyond, n = _paint(
                axes, wave, values, bool(getattr(found, "products", False)), float(sounds.rate), view, colors
            )
            if line == len(chosen) - 1:
                add_seconds(axes, wave.size / float(sounds.rate), width=axes.get_xlim()[1])
        name = found.names(row)[at]
        axes.set_title(
            f"{sounds.items[item]}: relevance for “{name}”  ({beyond:,} of {n:,} values beyond the color scale, "
            f"{limit:.2g})",
            fontsize=8,
            loc="left",
        )
        _draw_highest(bars, found, row, name, scores)
    return add_headline(figure, title)


def _find_colormap(name: str | None) -> Colormap:
    if name is None:
        return get_colormap("signed")
    if name not in colormaps:
        hint = suggest_word(name, list(colormaps))
        raise InputError(f"colormap: matplotlib has none named {name!r}{hint}; take one that diverges, as 'seismic'")
    return colormaps[name]


def _paint(
    axes: Axes,
    wave: NDArray[np.float32],
    values: NDArray[np.float64],
    products: bool,
    rate: float,
    view: RelevanceView,
    colors: Colormap,
) -> tuple[float, int, int]:
    """Paint a waveform or its spectrogram; return the limit of the color scale, the values beyond it, and all."""
    course = values.sum(axis=0) if values.ndim > 1 else values
    limit = max(float(np.quantile(np.abs(course), _CLIP)), 1e-30)
    beyond = int((np.abs(course) > limit).sum())
    if view == "waveform":
        _draw_painted_wave(axes, wave, course, limit, colors)
        return limit, beyond, course.size
    loud, hertz = compute_log_spectrogram(wave, rate=rate)
    seconds = wave.size / rate
    extent = (0, seconds, 0, 1)
    axes.imshow(loud, origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=2.2, extent=extent)
    shown = _compute_shown(wave, course, products, rate, hertz)
    top = max(float(np.quantile(np.abs(shown), _CLIP)), 1e-30)
    axes.imshow(
        shown,
        origin="lower",
        aspect="auto",
        cmap=colors,
        norm=Normalize(-top, top),
        alpha=0.85 * np.clip(np.abs(shown) / top, 0, 1) ** 0.6,
        extent=extent,
        interpolation="bilinear",
    )
    strip_axes(axes)
    add_hertz_ticks(axes, hertz, "frequency [Hz]")
    return top, int((np.abs(shown) > top).sum()), shown.size


def _compute_shown(
    wave: NDArray[np.float32], course: NDArray[np.float64], products: bool, rate: float, hertz: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the relevance at the frequencies of a log spectrogram; in time alone, where a map has no frequencies."""
    from brainmap.features.attribution.time_frequency import spread_over_frequency

    if not products:
        bins = np.add.reduceat(course, np.linspace(0, len(course), 200, endpoint=False).astype(int))
        return np.broadcast_to(bins, (len(hertz), len(bins)))
    found = spread_over_frequency(wave, course, rate=rate)
    edges = np.sqrt(hertz[:-1] * hertz[1:])
    starts = np.minimum(np.searchsorted(found.hertz, np.r_[hertz[0], edges]), len(found.hertz) - 1)
    ends = np.maximum(np.r_[starts[1:], len(found.hertz)], starts + 1)
    inside = (found.seconds >= 0) & (found.seconds <= wave.size / rate)
    return np.stack([found.values[a:b, inside].mean(axis=0) for a, b in zip(starts, ends, strict=True)])


def _draw_painted_wave(
    axes: Axes, wave: NDArray[np.float32], course: NDArray[np.float64], limit: float, colors: Colormap
) -> None:
    """Draw a waveform whose color in each bin is that of its largest relevance."""
    low, high = find_envelope(wave, _WAVE_BINS)
    bottom, top = find_envelope(course, _WAVE_BINS)
    largest = np.where(top >= -bottom, top, bottom)
    size = max(float(np.abs(wave).max()), 1e-12)
    at = np.linspace(0, 1, len(low))
    room = 0.012
    lines = np.stack([np.column_stack([at, low / size - room]), np.column_stack([at, high / size + room])], axis=1)
    shade = colors(Normalize(-limit, limit)(largest)) * [0.94, 0.94, 0.94, 1]
    axes.add_collection(LineCollection(list(lines), colors=shade, linewidths=0.9))
    strip_axes(axes).set(xlim=(0, 1), ylim=(-1.08, 1.08))
    axes.set_facecolor("#f4f5f6")


def _draw_highest(axes: Axes, found: Any, row: int, name: str, scores: ScoreKind) -> None:
    """Draw the scores of the highest outputs; that of the map is marked, and always there."""
    logits = np.asarray(found.logits[row], dtype=np.float64)
    values = compute_shares(logits[None])[0] if scores == "probability" else logits
    names = [str(one) for one in found.class_names]
    order = list(np.argsort(-values, kind="stable")[:_BARS])
    if name in names and names.index(name) not in order:
        order[-1] = names.index(name)
    draw_scores(axes, values[order], [names[k] for k in order], scores, marked=name)
