"""Plot what a network hears in a recording without a label: its highest classes, their scores, and the map of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import softmax

from brainmap.errors import InputError
from brainmap.types import ScoreKind
from brainmap.viz.features.sounds import choose_items, draw_cam, draw_spectrogram, draw_wave, read_waves
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
    ACCENT,
    INK,
    MUTED,
    SOFT,
    WARM,
    Picture,
    add_headline,
    get_colormap,
    strip_axes,
    with_style,
)

_LONGEST = 22  # characters of the name of an output
_PER_LINE = 6  # maps of one sound beside each other


def compute_shares(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the softmax of logits (n_items, n_classes).

    Examples
    --------
    >>> compute_shares(np.log([[1.0, 3.0]])).round(2).tolist()
    [[0.25, 0.75]]
    """
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64), axis=1))


@with_style
def plot_class_maps(
    sounds: Any,
    cams: Any,
    *,
    items: Sequence[int] | None = None,
    most: int | None = 5,
    scores: ScoreKind = "probability",
    title: str = "",
) -> Figure:
    """Plot each sound with the maps of its highest classes, from the highest on, and their probabilities.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t), `rate` [Hz], `items`
        Sounds as `features.load_sounds` returns them; their conditions need not be classes.
    cams : object with `maps` (n, n_classes, t) or (n, n_classes, h, w), `logits`, `class_names`
        Maps of all classes, as `features.class_activation_maps` returns them.
    items : sequence of int, optional
        Rows to show; by default the first three.
    most : int, optional
        Number of classes of each sound; None shows all, in the order of the network's outputs.
    scores : {"probability", "value"}
        Softmax of the outputs, or their values where they are not classes that exclude each other.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Maps share one color scale, so that a map of a class that is not heard is pale.

    Raises
    ------
    InputError
        If a row does not exist, or positions of the maps are tokens, which are no places in time.

    References
    ----------
    Zhou B et al. (2016), figure 4: doi:10.1109/CVPR.2016.319
    """
    chosen = choose_items(cams, items, 3, "plot_class_maps")
    if getattr(cams, "positions", ())[-1:] == ("token",):
        raise InputError("plot_class_maps: the positions of the maps are tokens, of which none is a place in time")
    shares = compute_shares(cams.logits) if scores == "probability" else np.asarray(cams.logits, dtype=np.float64)
    n_classes = len(cams.class_names)
    shown = n_classes if most is None else min(most, n_classes)
    order = [np.arange(n_classes) if most is None else np.argsort(-shares[i], kind="stable")[:shown] for i in chosen]
    columns = min(shown, _PER_LINE)
    lines = -(-shown // columns)
    maps = [np.asarray(cams.maps[i], dtype=np.float32)[which] for i, which in zip(chosen, order, strict=True)]
    limit = float(np.quantile(np.abs(np.stack(maps)), 0.98)) or 1.0
    tall = 0.95 if np.ndim(cams.maps) == 3 else 1.35
    figure = Picture(
        figsize=(1.9 + 1.75 * (columns + 1), 0.75 + (tall + 0.28) * lines * len(chosen)), layout="constrained"
    )
    grid = figure.add_gridspec(lines * len(chosen), columns + 2, width_ratios=[0.9, *[1] * (columns + 1)])
    for row, (item, which, values) in enumerate(zip(chosen, order, maps, strict=True)):
        first = row * lines
        bars = figure.add_subplot(grid[first : first + lines, 0])
        draw_scores(bars, shares[item][which], [cams.class_names[k] for k in which], scores)
        sound = figure.add_subplot(grid[first, 1])
        _draw_input_alone(sound, sounds, cams, item)
        sound.set_title(str(cams.items[item]), fontsize=8.5, pad=2)
        for at, (column, course) in enumerate(zip(which, values, strict=True)):
            axes = figure.add_subplot(grid[first + at // columns, 2 + at % columns])
            _draw_one(axes, sounds, cams, item, course, limit)
            axes.set_title(
                f"{cams.class_names[column]}  {format_score(shares[item, column], scores)}", fontsize=8.5, pad=2
            )
            if row == len(chosen) - 1 and at + columns >= len(which):
                _add_time(axes, sounds, cams)
    figure.supxlabel(f"orange: evidence for it, blue: against it; numbers: {scores}", fontsize=8, color=SOFT)
    return add_headline(figure, title)


def format_score(value: float, scores: ScoreKind) -> str:
    """Write a probability with two decimals, or a value with two digits.

    Examples
    --------
    >>> format_score(0.0012, "probability"), format_score(0.5, "probability"), format_score(12.34, "value")
    ('< .01', '.50', '12')
    """
    if scores == "value":
        return f"{value:.2g}"
    return "< .01" if value < 0.005 else f"{value:.2f}".removeprefix("0")


def draw_scores(
    axes: Axes, values: NDArray[np.float64], names: Sequence[str], scores: ScoreKind, *, marked: str | None = None
) -> None:
    """Draw the probability or the value of outputs as bars, one below the other; one of them may be marked."""
    colors = [WARM if name == marked else ACCENT for name in names]
    axes.barh(range(len(names)), values, color=colors, height=0.62)
    short = [name if len(name) <= _LONGEST else f"…{name[-_LONGEST:]}" for name in map(str, names)]
    axes.set_yticks(range(len(names)), short, fontsize=7.5 if len(names) <= 8 else 6.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    if scores == "probability":
        axes.set(xlim=(0, 1), xticks=[0, 1])
    else:
        axes.locator_params(axis="x", nbins=3)
    axes.set_xlabel(scores, fontsize=7, color=SOFT)
    axes.tick_params(axis="x", labelsize=6.5, length=1.5, colors=MUTED)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_input_alone(axes: Axes, sounds: Any, cams: Any, item: int) -> None:
    if np.ndim(cams.maps) == 4 and has_pictures(sounds, cams.maps[:, :, None]):
        picture, about = get_input(sounds, item)
        draw_input(axes, picture, about)
        add_kilohertz_ticks(axes, picture.shape[0], about)
    elif np.ndim(cams.maps) == 4:
        draw_spectrogram(axes, read_waves(sounds, "plot_class_maps")[item], float(sounds.rate))
    else:
        draw_wave(axes, read_waves(sounds, "plot_class_maps")[item], color=INK)


def _draw_one(axes: Axes, sounds: Any, cams: Any, item: int, course: NDArray[np.float32], limit: float) -> None:
    if course.ndim == 1:
        draw_cam(axes, read_waves(sounds, "plot_class_maps")[item], course, limit)
    elif has_pictures(sounds, cams.maps[:, :, None]):
        picture, about = get_input(sounds, item)
        draw_map(axes, picture, make_picture(course, about), about, limit)
    else:
        axes.imshow(
            course,
            origin="lower",
            aspect="auto",
            cmap=get_colormap("signed"),
            norm=Normalize(-limit, limit),
            interpolation="nearest",
        )
        strip_axes(axes)


def _add_time(axes: Axes, sounds: Any, cams: Any) -> None:
    """Mark the beginning and the end of the sound below a map."""
    if np.ndim(cams.maps) == 4 and has_pictures(sounds, cams.maps[:, :, None]):
        picture, about = get_input(sounds, 0)
        add_second_ticks(axes, picture.shape[1], about)
        return
    add_seconds(axes, read_waves(sounds, "plot_class_maps").shape[1] / sounds.rate, width=axes.get_xlim()[1])
