"""Color scores of the brain, in volumes and on surfaces alike."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.viz.labels import format_decimals
from brainmap.viz.style import MUTED, SOFT, get_colormap, strip_axes


def choose_score_colors(signed: bool) -> Colormap:
    """Return the colormap of scores, starting where colors are visible on gray."""
    return get_colormap("signed") if signed else ListedColormap(get_colormap("score")(np.linspace(0.22, 1, 256)))


def choose_limits(
    values: NDArray[np.floating], threshold: float | None, vmax: float | None, signed: bool
) -> tuple[float, Normalize]:
    """Return the lowest value that is shown, by default a third of the top, and the scale of the colors."""
    top = vmax if vmax is not None else float(np.nanmax(np.abs(values) if signed else values))
    top = top if top > 0 else 1.0
    least = threshold if threshold is not None else top / 3
    least = least if 0 <= least < top else 0.0
    return least, Normalize(-top if signed else least, top)


def paint_scores(values: NDArray[np.floating], limits: tuple[float, Normalize], signed: bool) -> NDArray[np.float64]:
    """Return the color `(..., 4)` of each value, transparent where a value is missing or too low to be shown."""
    least, norm = limits
    painted: NDArray[np.float64] = choose_score_colors(signed)(norm(np.nan_to_num(values)))
    painted[..., 3] = np.isfinite(values) & ((np.abs(values) if signed else values) >= max(least, 1e-9))
    return painted


def draw_color_bar(
    figure: Figure, norm: Normalize, label: str, signed: bool, *, at: tuple[float, float, float, float], below: float
) -> None:
    """Draw a color bar with its ends, and the name of the quantity below it; the lower end is the lowest value shown.

    `at` is the rectangle of the bar in the figure, `below` the distance of the name in heights of the bar.
    """
    axes = strip_axes(figure.add_axes(at))
    shades = choose_score_colors(signed)(np.linspace(0, 1, 256))[:, None]
    axes.imshow(shades, origin="lower", aspect="auto", extent=(0, 1, 0, 1))
    for height, value in ((0, float(norm.vmin or 0)), (1, float(norm.vmax or 1))):
        axes.text(1.3, height, format_decimals(value), color=SOFT, fontsize=8, va="center")
    axes.text(0.5, -below, label, transform=axes.transAxes, color=MUTED, fontsize=8, ha="center", va="top")
