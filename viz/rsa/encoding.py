"""Draw what encoding models tell: the weights of delays, and the agreement with representational similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from brainmap.errors import InputError
from brainmap.viz.labels import format_decimals, needs_columns, needs_one_network
from brainmap.viz.style import INK, MUTED, assign_layer_colors, label_edges, make_grid, with_style


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
    figure, grid = make_grid(len(rois), columns, panel=(3.4, 2.5), widest=10, sharex=True, sharey=True)
    delays = sorted(set(weights["delay"]))
    for axes, roi in zip(grid.ravel(), rois, strict=False):
        axes.axhline(1 / len(delays), color="#9aa5b1", lw=0.8, ls=(0, (4, 3)), zorder=1)
        for layer in order:
            here = weights[(weights["roi"] == roi) & (weights["layer"] == layer)].sort_values("delay")
            axes.plot(here["delay"], here["weight"], color=colors[layer], lw=1.4, marker="o", ms=3, label=layer)
        axes.set_title(roi)
        axes.tick_params(colors=MUTED)
    label_edges(grid, x="delay [s]", y="share of weight")
    grid[0, 0].set_ylim(bottom=0)
    if len(order) > 1:
        grid[0, 0].legend(ncols=2 if len(order) > 6 else 1, fontsize=6.5, handlelength=1, borderaxespad=0.2)
    return figure


@with_style
def plot_score_agreement(
    scores: pd.DataFrame,
    *,
    names: Mapping[str, str],
    rho: Mapping[str, float] | None = None,
    layers: Sequence[str] | None = None,
    columns: int = 4,
) -> Figure:
    """Plot one score of each layer against another, a panel for each region.

    Layers are points in the colors that they have in other figures, joined by a line from the first to the last.

    Parameters
    ----------
    scores : DataFrame
        Columns `layer`, `roi`, and those of `names`: mean scores of one network.
    names : mapping column -> name
        The two scores: the first is on the horizontal axis.
    rho : mapping roi -> float, optional
        Agreement that is written into each panel.
    layers : sequence of str, optional
        Order of the layers by depth; by default the order in `scores`.
    columns : int
        Largest number of panels per row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        A column is missing, the table has several networks, or `names` has not two entries.

    Examples
    --------
    >>> table = pd.DataFrame({"layer": ["a", "b"], "roi": "A1", "score": [0.1, 0.2], "r": [0.3, 0.5]})
    >>> plot_score_agreement(table, names={"score": "RSA", "r": "encoding"}).axes[0].get_xlabel()
    'RSA'
    """
    if len(names) != 2:
        raise InputError(f"plot_score_agreement: expected names of two columns, got {list(names)}")
    needs_columns(scores, ["layer", "roi", *names], "plot_score_agreement: scores")
    needs_one_network(scores, "plot_score_agreement: scores")
    order = [x for x in (layers or dict.fromkeys(scores["layer"])) if x in set(scores["layer"])]
    rois, colors, (across, up) = list(dict.fromkeys(scores["roi"])), assign_layer_colors(order), names
    figure, grid = make_grid(len(rois), columns, panel=(3.4, 2.75), widest=10, sharex=True, sharey=True)
    for axes, roi in zip(grid.ravel(), rois, strict=False):
        here = scores[scores["roi"] == roi].set_index("layer").reindex(order)
        axes.plot(here[across], here[up], color="#b8c2cc", lw=1.1, zorder=2)
        axes.scatter(here[across], here[up], c=[colors[layer] for layer in order], s=34, lw=0, zorder=3)
        axes.set_title(roi)
        said = (rho or {}).get(roi)
        if said is not None:
            axes.text(
                0.03,
                0.97,
                f"ρ = {format_decimals(said)}",
                transform=axes.transAxes,
                va="top",
                color=INK,
                fontsize=9,
            )
    label_edges(grid, x=names[across], y=names[up])
    for axes in grid.ravel():
        axes.axhline(0, color="#9aa5b1", lw=0.8, zorder=1)
        axes.tick_params(colors=MUTED)
        axes.locator_params(axis="x", nbins=4)  # more of them would touch
    return figure
