"""Plot how much weight encoding models of stories give to each delay between a sound and the response."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from brainmap.viz.labels import needs_columns, needs_one_network
from brainmap.viz.style import MUTED, Picture, assign_layer_colors, with_style


@with_style
def plot_delays(weights: pd.DataFrame, *, layers: Sequence[str] | None = None, columns: int = 4) -> Figure:
    """Plot the weight of each delay, a line for each layer and a panel for each region.

    Parameters
    ----------
    weights : DataFrame
        Columns `layer`, `roi`, `delay` [s] and `weight` (a share of the sum over delays) of one network.
    layers : sequence of str, optional
        Order of the layers by depth; by default the order in `weights`.
    columns : int
        Largest number of panels per row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        A column is missing, or the table has several networks.

    Notes
    -----
    The dashed line is where weights would lie if all delays were alike: a model that finds nothing has no peak.

    Examples
    --------
    >>> table = pd.DataFrame({"layer": "a", "roi": "A1", "delay": [2.0, 4.0], "weight": [0.3, 0.7]})
    >>> plot_delays(table).axes[0].get_xlabel()
    'delay [s]'
    """
    needs_columns(weights, ["layer", "roi", "delay", "weight"], "plot_delays: weights")
    needs_one_network(weights, "plot_delays: weights")
    order = [x for x in (layers or dict.fromkeys(weights["layer"])) if x in set(weights["layer"])]
    rois, colors = list(dict.fromkeys(weights["roi"])), assign_layer_colors(order)
    columns = min(columns, len(rois))
    rows = -(-len(rois) // columns)
    figure = Picture(figsize=(10 if columns > 2 else 3.4 * columns, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    delays = sorted(set(weights["delay"]))
    for axes, roi in zip(grid.ravel(), rois, strict=False):
        axes.axhline(1 / len(delays), color="#9aa5b1", lw=0.8, ls=(0, (4, 3)), zorder=1)
        for layer in order:
            here = weights[(weights["roi"] == roi) & (weights["layer"] == layer)].sort_values("delay")
            axes.plot(here["delay"], here["weight"], color=colors[layer], lw=1.4, marker="o", ms=3, label=layer)
        axes.set_title(roi)
        axes.tick_params(colors=MUTED)
    for axes in grid[-1]:
        axes.set_xlabel("delay [s]")
    for row in grid:
        row[0].set_ylabel("share of weight")
    grid[0, 0].set_ylim(bottom=0)
    for axes in grid.ravel()[len(rois) :]:
        axes.set_visible(False)
    if len(order) > 1:
        grid[0, 0].legend(ncols=2 if len(order) > 6 else 1, fontsize=6.5, handlelength=1, borderaxespad=0.2)
    return figure
