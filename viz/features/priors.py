"""Plot which networks recognize patterns by several priors."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.viz.style import INK, MUTED, SOFT, add_headline, get_colormap, make_axes, strip_axes, with_style


@with_style
def plot_prior_comparison(found: Any, *, title: str = "") -> Figure:
    """Plot the share of sounds that each network calls by their class, for each kind of pattern.

    Parameters
    ----------
    found : PriorComparison
        Result of `features.compare_priors`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Rows are kinds of sounds, columns networks. The column beside them is their mean without the network of the
        ascent, of which each dot on the right shows the classes.
    """
    table, judges = found.table, list(found.judges)
    columns = ["own", *judges, "transfer", "real_correlation", "voiced"]
    headings = ["climbed", *judges, "mean of\nthe others", "correlation\nwith real", "frames\nvoiced"]
    n = len(table)
    width = 0.78 * len(columns)
    figure, [[cells, dots]] = make_axes((3.2 + width + 2.4, 1.5 + 0.44 * n), 1, 2, width_ratios=[width, 2.4])
    values = table[columns].to_numpy(dtype=float)
    cells.imshow(np.ma.masked_invalid(values), cmap=get_colormap("sound"), vmin=0, vmax=1, aspect="auto", alpha=0.75)
    for row in range(n):
        for column in range(len(columns)):
            one = values[row, column]
            text = "-" if np.isnan(one) else f"{one:.2f}".removeprefix("0") if 0 <= one < 1 else f"{one:.2f}"
            cells.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if one > 0.6 else INK)
    for edge in (0.5, len(judges) + 0.5, len(judges) + 1.5):
        cells.axvline(edge, color="white", lw=3)
    strip_axes(cells)
    cells.set_xticks(range(len(columns)), headings, fontsize=8)
    cells.xaxis.tick_top()
    cells.set_yticks(range(n), [f"{r.pattern} (n = {r.n})" for r in table.itertuples()], fontsize=8.5)
    cells.tick_params(length=0)
    _draw_classes(dots, found)
    return add_headline(figure, title)


def _draw_classes(axes: Axes, found: Any) -> None:
    kinds = list(found.table["pattern"])
    for row, kind in enumerate(kinds):
        mine = found.by_class.loc[found.by_class["pattern"] == kind, "transfer"].to_numpy(dtype=float)
        axes.scatter(mine, row + np.linspace(-0.25, 0.25, len(mine)), s=12, color=MUTED, alpha=0.6, lw=0)
        if np.isfinite(mine).any():
            axes.plot([np.nanmean(mine)] * 2, [row - 0.32, row + 0.32], color=INK, lw=2)
    axes.set(ylim=(len(kinds) - 0.5, -0.5), xlim=(-0.04, 1.04), yticks=[])
    axes.set_xlabel("share of the other networks,\na dot for each class", fontsize=8, color=SOFT)
