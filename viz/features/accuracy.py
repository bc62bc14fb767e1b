"""Plot the accuracy table: which words each architecture and variant takes for which others."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.viz.style import (
    INK,
    SOFT,
    add_color_bar,
    add_headline,
    get_colormap,
    make_axes,
    strip_axes,
    with_style,
)


@with_style
def plot_accuracy(found: Any, *, title: str = "") -> Figure:
    """Plot the confusion matrices of an accuracy table, architectures by variants.

    Parameters
    ----------
    found : AccuracyTable
        Result of `features.train_accuracy_table`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Rows of a matrix are the classes of the sounds, columns those that were called, and colors the share of a row;
        above each are the accuracy on the testing part and its 95 % interval.

    Notes
    -----
    A dark diagonal is a good network. A dark column is a class that the network calls whatever it hears, which is what
    networks do that have learned nothing.
    """
    table = found.table
    networks, variants = list(dict.fromkeys(table["network"])), list(dict.fromkeys(table["variant"]))
    words = list(next(iter(found.confusions.values())).index)
    side = max(1.5, 0.13 * len(words))
    shape = (len(networks), len(variants))
    width, height = (side + 0.25) * shape[1] + 1.7, (side + 0.45) * shape[0] + 1.2
    figure, grid = make_axes((width, height), *shape)
    shades: Any = None
    for row, network in enumerate(networks):
        for column, variant in enumerate(variants):
            axes = grid[row, column]
            one = table[(table["network"] == network) & (table["variant"] == variant)]
            if one.empty:
                axes.set_axis_off()
                continue
            shades = _draw_matrix(axes, found.confusions[f"{network} {variant}"].to_numpy(float))
            (cell,) = one.itertuples()
            said = f"{variant}  {cell.accuracy:.1%}  ({100 * cell.low:.0f} to {100 * cell.high:.0f})"
            axes.set_title(said, fontsize=8, color=INK)
            if column == 0:
                axes.set_yticks(range(len(words)), words, fontsize=6)
                axes.set_ylabel(f"{network}\n{cell.parameters:,} parameters\n\nclass", fontsize=8, color=SOFT)
            if row == len(networks) - 1:
                axes.set_xticks(range(len(words)), words, fontsize=6, rotation=90)
                axes.set_xlabel("called", fontsize=8, color=SOFT)
    add_color_bar(
        figure,
        shades,
        grid,
        "share of the sounds of a class",
        fontsize=8,
        shrink=min(1.0, 2.2 / height),
        aspect=18,
        pad=0.015,
    )
    return add_headline(figure, title or f"Accuracy on {int(table['n'].iloc[0]):,} sounds of the testing part")


def _draw_matrix(axes: Axes, counts: np.ndarray) -> Any:
    spoken = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, spoken, out=np.full_like(counts, np.nan), where=spoken > 0)  # blank: no such sound
    image = axes.imshow(shares, cmap=get_colormap("sound"), vmin=0, vmax=1)
    strip_axes(axes)
    return image
