"""Draw the input of 2-D networks and maps over it: frequency in kHz upward, time in s to the right."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from brainmap.features.sounds.inputs import InputAxes, describe_input
from brainmap.viz.style import MUTED, SOFT, get_colormap, strip_axes

_MARKS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # kHz
_APART = 0.09  # of the height, between two marks


def get_input(sounds: Any, item: int) -> tuple[NDArray[np.float32], InputAxes | None]:
    """Return one item as a picture `(bands, frames)` as its network takes it, and its axes."""
    axes = describe_input(sounds)
    if axes is None:
        values = np.asarray(sounds[item], dtype=np.float32)
        return np.asarray(values.sum(axis=0) if values.ndim == 3 else values), None
    values = next(iter(sounds.take([item]).batches(1)))[0]
    return np.asarray(axes.picture(values), dtype=np.float32), axes


def make_picture(values: NDArray[np.floating], axes: InputAxes | None) -> NDArray[np.floating]:
    """Arrange values over an input, `(c, h, w)` or `(h, w)`, as a picture `(bands, frames)`."""
    whole = values if values.ndim == 3 else values[None]
    return np.asarray(whole.sum(axis=0) if axes is None else axes.picture(whole))


def has_pictures(sounds: Any, maps: Any) -> bool:
    """Tell whether maps `(n, k, ...)` lie over a 2-D input: over rows and columns, or over channels that are bands."""
    axes = describe_input(sounds)
    return np.ndim(maps) == 5 if axes is None else not axes.is_waveform


def compute_extent(shape: tuple[int, int], axes: InputAxes | None) -> tuple[float, float, float, float]:
    """Return where a picture of so many bands and frames lies: its left and right edge [s], its bottom and its top."""
    bands, frames = shape
    step = 1.0 if axes is None else 1 / axes.rate_of(frames)
    return (-0.5 * step, (frames - 0.5) * step, -0.5, bands - 0.5)


def draw_input(axes: Axes, picture: NDArray[np.floating], about: InputAxes | None, *, strength: float = 1.0) -> None:
    """Draw the input of a network, dark where it is large; the lowest 1 % of values are white."""
    low, high = np.nanquantile(picture, [0.01, 1.0])
    span = max(float(high - low), 1e-12)
    axes.imshow(
        picture,
        origin="lower",
        aspect="auto",
        cmap=get_colormap("sound"),
        vmin=low,
        vmax=low + span / strength,
        extent=compute_extent((picture.shape[0], picture.shape[1]), about),
        interpolation="nearest",
    )
    strip_axes(axes)


def draw_map(
    axes: Axes, picture: NDArray[np.floating], values: NDArray[np.floating], about: InputAxes | None, limit: float
) -> AxesImage:
    """Draw a signed map over the input: color and opacity grow with the size of its values up to `limit`."""
    draw_input(axes, picture, about, strength=0.45)
    opacity = np.clip(np.abs(values) / limit, 0, 1) ** 0.6
    shown = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap=get_colormap("signed"),
        norm=Normalize(-limit, limit),
        alpha=0.85 * opacity,
        extent=compute_extent((values.shape[0], values.shape[1]), about),
        interpolation="nearest",
    )
    axes.set_xlim(*axes.get_xlim())
    return shown


def add_kilohertz_ticks(axes: Axes, bands: int, about: InputAxes | None, *, first: int = 0, label: bool = True) -> None:
    """Mark frequencies at the height of their bands, `first` being the lowest one drawn.

    Bands are numbered where they have no frequencies, or where a part of them has no place among them.
    """
    hertz = None if about is None else about.hertz()
    if hertz is not None and not first and len(hertz) != bands:
        hertz = None
    if hertz is None:
        at = np.unique(np.linspace(0, bands - 1, 3).round().astype(int))
        axes.set_yticks(at, [str(first + k) for k in at], fontsize=6.5)
        name = "row" if about is None else "band"
    else:
        at_marks: list[float] = []
        texts: list[str] = []
        for mark in _MARKS:
            place = float(np.interp(1000 * mark, hertz, np.arange(len(hertz)), left=np.nan, right=np.nan)) - first
            apart = not at_marks or place - at_marks[-1] >= _APART * bands
            if np.isfinite(place) and -0.5 <= place <= bands - 0.5 and apart:
                at_marks.append(place)
                texts.append(f"{mark:g}")
        if not at_marks:  # a few bands between two marks
            middle = np.interp(first + (bands - 1) / 2, np.arange(len(hertz)), hertz)
            at_marks, texts = [(bands - 1) / 2], [f"{middle / 1000:.2g}"]
        axes.set_yticks(at_marks, texts, fontsize=6.5)
        name = "frequency [kHz]"
    axes.tick_params(axis="y", length=1.5, pad=1.5, colors=MUTED)
    if label:
        axes.set_ylabel(name, fontsize=7.5, color=SOFT)


def add_second_ticks(axes: Axes, frames: int, about: InputAxes | None, *, label: bool = True) -> None:
    """Mark the time below a picture of so many frames."""
    length, name = (float(frames), "column") if about is None else (frames / about.rate_of(frames), "time [s]")
    add_seconds(axes, length, label=name if label else "")


def add_seconds(axes: Axes, seconds: float, *, width: float | None = None, label: str = "time [s]") -> None:
    """Mark the time below axes that show a whole sound; they are `width` wide (by default, a unit is a second)."""
    shares = np.linspace(0, 1, 3)
    at = shares * (seconds if width is None else width)
    axes.set_xticks(at, [f"{s:.3g}" for s in shares * seconds], fontsize=6.5)
    axes.tick_params(axis="x", length=1.5, pad=1.5, colors=MUTED, labelbottom=True)  # hidden labels are not listed
    first, _, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")  # keeps the labels of neighboring panels apart
    last.set_horizontalalignment("right")
    axes.set_xlabel(label, fontsize=7.5, color=SOFT)
