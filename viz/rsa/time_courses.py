"""Plot the similarity of a network's and the brain's geometry over time windows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.errors import InputError
from brainmap.viz.labels import format_decimals, needs_columns
from brainmap.viz.style import INK, MUTED, assign_layer_colors, label_edges, make_grid, with_style


@with_style
def plot_time_course(
    scores: pd.DataFrame,
    ceilings: pd.DataFrame | None = None,
    *,
    measure: str = "RDM correlation",
    columns: int = 3,
) -> Figure:
    """Plot score against time, one line per layer and one panel per region.

    Parameters
    ----------
    scores : DataFrame
        Columns `layer`, `time` (center of the window, seconds) and `score`, and `roi` and `participant` if there are
        several. Lines are means over participants, bands their standard errors.
    ceilings : DataFrame, optional
        Columns `roi`, `lower`, `upper`; each region gets a band (a single row serves every panel).
    measure : str
        Name of the vertical axis.
    columns : int
        Largest number of panels per row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a column is missing, or there is no score.

    Notes
    -----
    A point is the layer's response to one window of the *sound*. Overlapping windows share frames, so neighboring
    points are similar. A late layer responds to a wide stretch around each window: its receptive field, not the
    window, limits its temporal resolution. If sounds differ in duration, late windows reveal which sounds are still
    playing.

    Examples
    --------
    >>> table = pd.DataFrame({"layer": "conv1", "time": [0.1, 0.2, 0.3], "score": [0.1, 0.4, 0.2]})
    >>> plot_time_course(table).axes[0].get_title(loc="left")
    'conv1 is nearest at 0.2 s (.40)'
    """
    needs_columns(scores, ["layer", "time", "score"], "plot_time_course: scores")
    if ceilings is not None:
        needs_columns(ceilings, ["lower", "upper"], "plot_time_course: ceilings")
    if scores["score"].notna().sum() == 0:
        raise InputError("plot_time_course: expected at least one score, got none")
    rois = list(dict.fromkeys(scores["roi"])) if "roi" in scores else [None]
    layers = list(dict.fromkeys(scores["layer"]))
    panel = (4.6 if min(columns, len(rois)) == 1 else 3.3, 2.5)
    figure, grid = make_grid(len(rois), columns, panel=panel, margin=(1.2, 0.5), sharex=True, sharey=True)
    for axes, roi in zip(grid.ravel(), rois, strict=False):
        here = scores if roi is None else scores[scores["roi"] == roi]
        axes.axhline(0, color="#9aa5b1", lw=0.8, zorder=1)
        if ceilings is not None:
            _draw_ceiling(axes, ceilings, roi)
        best = _draw_courses(axes, here, assign_layer_colors(layers))
        axes.set_title(f"{roi}: {best}" if roi is not None else best)
    label_edges(grid, y=measure)
    for axes in grid.ravel()[max(0, len(rois) - grid.shape[1]) : len(rois)]:
        axes.set_xlabel("center of the window in the sound [s]")
        axes.tick_params(labelbottom=True)
    lines = {line.get_label(): line for axes in grid.ravel()[: len(rois)] for line in axes.get_lines()}
    figure.legend([lines[layer] for layer in layers], layers, loc="outside right upper", fontsize=8, handlelength=1.2)
    return figure


def _draw_courses(axes: Axes, here: pd.DataFrame, colors: dict[str, str]) -> str:
    """Draw one line per layer with its band; return where the highest point is."""
    highest = ("", 0.0, -np.inf)
    for layer in dict.fromkeys(here["layer"]):
        by_time = here[here["layer"] == layer].groupby("time")["score"]
        mean = by_time.mean()
        error = by_time.sem(ddof=1).fillna(0.0)
        time = mean.index.to_numpy(dtype=float)
        axes.fill_between(time, mean - error, mean + error, color=colors[layer], alpha=0.15, lw=0, zorder=2)
        few = "o" if len(time) < 8 else None  # a coarse layer has few windows
        axes.plot(time, mean, color=colors[layer], lw=1.6, marker=few, ms=3.5, label=layer, zorder=3)
        if mean.max() > highest[2]:
            highest = (str(layer), float(mean.idxmax()), float(mean.max()))
    layer, when, score = highest
    axes.plot([when], [score], "o", ms=6.5, mfc="white", mec=colors.get(layer, INK), mew=1.6, zorder=4)
    return f"{layer} is nearest at {when:g} s ({format_decimals(score)})"


def _draw_ceiling(axes: Axes, ceilings: pd.DataFrame, roi: str | None) -> None:
    own = ceilings if roi is None or "roi" not in ceilings else ceilings[ceilings["roi"] == roi]
    if not len(own) and len(ceilings) == 1:
        own = ceilings
    if not len(own) or not np.isfinite(own[["lower", "upper"]].to_numpy(dtype=float)[0]).all():
        return
    lower, upper = float(own["lower"].iloc[0]), float(own["upper"].iloc[0])
    axes.axhspan(lower, upper, color="#dfe5ea", lw=0, zorder=0)
    axes.text(
        0.995,
        upper,
        "noise ceiling",
        color=MUTED,
        fontsize=7.5,
        va="bottom",
        ha="right",
        transform=axes.get_yaxis_transform(),
    )
