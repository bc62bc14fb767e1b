"""Plot what layers say of conditions: units of every layer, sounds as points, and acoustic models of one sound."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.viz.style import (
    MUTED,
    SOFT,
    add_color_bar,
    add_headline,
    get_colormap,
    make_grid,
    strip_axes,
    with_style,
)


def sort_by_condition(values: NDArray[np.floating], conditions: list[str]) -> tuple[NDArray[np.float64], list[str]]:
    """Z-score the condition means of units `(n_items, n_units)`, sorted by the condition they prefer.

    Returns
    -------
    scores, names : array `(n_conditions, n_units)` and list of str
        Units with constant activation are left out.

    Examples
    --------
    >>> scores, names = sort_by_condition(np.array([[0.0, 3.0, 1.0], [2.0, 1.0, 1.0]]), ["a", "b"])
    >>> scores.tolist(), names
    ([[1.0, -1.0], [-1.0, 1.0]], ['a', 'b'])
    """
    names = list(dict.fromkeys(conditions))
    rows = np.asarray(conditions)
    flat = np.asarray(values, dtype=float).reshape(len(values), -1)
    means = np.stack([flat[rows == name].mean(axis=0) for name in names])
    spread = means.std(axis=0)
    alive = spread > 1e-12 * np.maximum(np.abs(means).max(axis=0), 1e-30)
    scores = (means[:, alive] - means[:, alive].mean(axis=0)) / spread[alive]
    best = scores.argmax(axis=0)
    return scores[:, np.lexsort((-scores.max(axis=0), best))], names


@with_style
def plot_activations(acts: Any, *, columns: int = 3, most: int = 2000, title: str = "") -> Figure:
    """Plot mean activation of every layer's units for every condition, z-scored over conditions.

    Units (from left to right) are sorted by the condition they prefer. A layer whose units distinguish the conditions
    shows a warm staircase on a pale ground; broad bands are units that respond to what many conditions share, such as
    their loudness.

    Parameters
    ----------
    acts : object with `layers`, `conditions`, `network` and arrays `acts[layer]` (n_items, ...)
        Activations as `features.extract_activations` returns them.
    columns : int
        Layers per row.
    most : int
        Largest number of units shown per layer; they are evenly spaced if the layer has more.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there is only one condition.
    """
    conditions = [str(c) for c in acts.conditions]
    n = len(set(conditions))
    if n < 2:
        raise InputError(f"plot_activations: expected two conditions or more to compare, got {n}")
    layers = list(acts.layers)
    height = 0.51 + 0.085 * min(max(n, 6), 30)
    figure, grid = make_grid(len(layers), columns, panel=(2.9, height), margin=(0.9, 0.7))
    for axes, layer in zip(grid.ravel(), layers, strict=False):
        values = np.asarray(acts[layer]).reshape(len(conditions), -1)
        units = values.shape[1]
        if units > most:
            values = values[:, np.linspace(0, units - 1, most).astype(int)]
        scores, names = sort_by_condition(values, conditions)
        image = strip_axes(axes).imshow(
            scores, cmap=get_colormap("signed"), vmin=-3, vmax=3, aspect="auto", interpolation="nearest"
        )
        dead = values.shape[1] - scores.shape[1]
        axes.set_title(f"{layer}  ", fontsize=8.5, loc="left", pad=2)
        axes.set_title(
            f"{units} units" + (f", {dead} never differ" if dead else ""),
            fontsize=7,
            loc="right",
            pad=2,
            color=MUTED,
            fontweight="normal",
        )
    if n <= 24:
        for axes in grid[:, 0]:
            axes.set_yticks(range(n), names, fontsize=max(4.5, min(6.5, 70 / n)))
            axes.tick_params(length=0)
    add_color_bar(figure, image, grid, "mean activation, z-scored over conditions", shrink=0.6, aspect=24, pad=0.015)
    figure.supxlabel("units, sorted by the condition they prefer", fontsize=8.5, color=SOFT)
    return add_headline(figure, title or f"{acts.network}: what every layer says to every condition")
