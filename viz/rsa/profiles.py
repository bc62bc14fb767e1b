"""Plot how well each layer matches each region: profiles over depth, and the table of layers by regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.viz.labels import format_decimals, needs_columns, needs_one_network
from brainmap.viz.style import (
    ACCENT,
    INK,
    MUTED,
    SOFT,
    WARM,
    Picture,
    add_color_bar,
    assign_layer_colors,
    choose_ink,
    get_colormap,
    label_edges,
    make_grid,
    strip_axes,
    with_style,
)

_DASHES = ((0, (4, 2)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
"""Of the lines of other networks, one after the other."""
_MOST_LINES = 4
"""Hypotheses that are lines in the panels of a network."""


def _draw_ceiling_band(axes: Axes, ceiling: pd.DataFrame, *, name: str) -> None:
    lower, upper = float(ceiling["lower"].iloc[0]), float(ceiling["upper"].iloc[0])
    axes.axhspan(lower, upper, color="#dfe5ea", lw=0, zorder=0, label=name)


def _draw_participants(axes: Axes, wide: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """Draw a faint point per participant and layer, with jitter so that equal scores stay visible."""
    spread = np.linspace(-0.16, 0.16, len(wide)) if len(wide) > 1 else np.zeros(1)
    places = np.arange(wide.shape[1])[None, :] + spread[:, None]
    shades = [colors[layer] for _ in range(len(wide)) for layer in wide.columns]
    axes.scatter(places.ravel(), wide.to_numpy(dtype=float).ravel(), s=7, c=shades, alpha=0.35, lw=0, zorder=2)


def _draw_curve(
    axes: Axes, wide: pd.DataFrame, colors: Mapping[str, str], starred: set[str], *, joined: bool
) -> NDArray[np.float64]:
    mean = wide.mean(axis=0).to_numpy(dtype=float)
    error = (wide.std(axis=0, ddof=1) / np.sqrt(wide.notna().sum(axis=0))).to_numpy(dtype=float)
    depth = np.arange(len(mean))
    if joined:
        axes.plot(depth, mean, color="#b8c2cc", lw=1.4, zorder=2.5)
    shades = [colors[layer] for layer in wide.columns]
    known = np.nan_to_num(error)  # one participant has no standard error
    axes.vlines(depth, mean - known, mean + known, colors=shades, lw=1.5, zorder=3)
    faces = [shade if layer in starred else "white" for layer, shade in zip(wide.columns, shades, strict=True)]
    axes.scatter(depth, mean, s=6.5**2, facecolors=faces, edgecolors=shades, linewidths=1.6, zorder=4)
    return mean


@with_style
def plot_layer_profile(
    scores: pd.DataFrame,
    ceilings: pd.DataFrame | None = None,
    *,
    statistics: pd.DataFrame | None = None,
    planted: Mapping[str, str] | None = None,
    layers: Sequence[str] | None = None,
    measure: str = "RDM correlation",
    controls: Sequence[str] = (),
    baselines: Sequence[str] = (),
    hypotheses: str = "",
    joined: bool = True,
    rivals: Mapping[str, Sequence[str]] | None = None,
    columns: int = 4,
    alpha: float = 0.05,
    ceiling: str = "noise ceiling",
) -> Figure:
    """Plot score against layer depth, one small panel per region.

    Parameters
    ----------
    scores : DataFrame
        Columns `layer`, `roi`, `participant`, `score`, and `network` if there are several networks. The first network
        is drawn in full, the others as thin lines that the legend names. A line with layers that the first network
        lacks is refused. A model with one layer, such as an acoustic baseline, is a horizontal line.
    ceilings : DataFrame, optional
        Columns `roi`, `lower`, `upper`; each region gets a band.
    statistics : DataFrame, optional
        Columns `layer`, `roi`, `p_corrected`: points with `p_corrected < alpha` are filled, and starred unless `rivals`
        are given.
    planted : mapping roi -> layer, optional
        The layer that a simulation planted in each region, marked by a dotted line.
    layers : sequence of str, optional
        Order of the layers by depth; by default the order in `scores`.
    measure : str
        Name of the vertical axis.
    controls : sequence of str
        Networks of `scores` that are controls of the first network; their lines are gray.
    baselines : sequence of str
        Networks of `scores` whose layers are acoustic models. They are a band from the lowest to the highest of their
        means; a single model is a band of one standard error around its mean.
    hypotheses : str
        Network of `scores` whose layers are hypotheses: each is a horizontal line at its mean, those with the highest
        scores where there are more than four.
    joined : bool
        Whether a line joins the points of the layers, which hypotheses, in no order of depth, do not have.
    rivals : mapping roi -> layers, optional
        The best layer of a region, then the layers that are not told apart from it; these are marked above the points.
    columns : int
        Largest number of panels per row.
    alpha : float
        Significance level of the stars.
    ceiling : str
        Name of the band.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a table lacks a column.

    Notes
    -----
    The band spans the lower and upper noise ceiling for visual comparison. A model of everything that participants
    share would score near it, above or below (`brainmap.rsa.residual_structure` tests what a model lacks).

    References
    ----------
    Nili H et al. (2014): doi:10.1371/journal.pcbi.1003553

    Examples
    --------
    >>> table = pd.DataFrame({"layer": ["a", "b"] * 2, "roi": "A1", "participant": ["1", "1", "2", "2"],
    ...                       "score": [0.1, 0.2, 0.2, 0.3]})
    >>> plot_layer_profile(table).axes[0].get_title(loc="left")
    'A1'
    """
    needs_columns(scores, ["layer", "roi", "participant", "score"], "plot_layer_profile: scores")
    if ceilings is not None:
        needs_columns(ceilings, ["roi", "lower", "upper"], "plot_layer_profile: ceilings")
    if statistics is not None:
        needs_columns(statistics, ["layer", "roi", "p_corrected"], "plot_layer_profile: statistics")
    beside = (*baselines, hypotheses)
    networks = [n for n in dict.fromkeys(scores["network"]) if n not in beside] if "network" in scores else []
    main = scores[scores["network"] == networks[0]] if networks else scores
    order = list(layers) if layers is not None else list(dict.fromkeys(main["layer"]))
    order = [layer for layer in order if layer in set(main["layer"])]
    rois, colors = list(dict.fromkeys(main["roi"])), assign_layer_colors(order)
    columns = columns if len(rois) != 5 else 5
    figure, grid = make_grid(len(rois), columns, panel=(3.4, 2.75), widest=10, layout=None, sharey=True)
    highest = float(scores["score"].max())
    if ceilings is not None and len(ceilings):
        highest = max(highest, float(ceilings["upper"].max()))
    for axes, roi in zip(grid.ravel(), rois, strict=False):
        wide = (
            main[main["roi"] == roi]
            .pivot_table(index="participant", columns="layer", values="score", observed=True)
            .reindex(columns=order)
        )
        starred = _find_starred(statistics, roi, networks[:1], alpha)
        axes.axhline(0, color="#9aa5b1", lw=0.8, zorder=1)
        if ceilings is not None and (ceilings["roi"] == roi).any():
            _draw_ceiling_band(axes, ceilings[ceilings["roi"] == roi], name=ceiling)
        if baselines:
            _draw_baselines(axes, scores[scores["network"].isin(baselines)], roi)
        if planted and planted.get(roi) in order:
            axes.axvline(order.index(planted[roi]), color=WARM, lw=1.1, ls=(0, (1, 2)), zorder=1.5, label="planted")
        for other, dashes in zip(networks[1:], cycle(_DASHES)):
            here_too = scores[(scores["network"] == other) & (scores["roi"] == roi)]
            line: dict[str, Any] = {"color": MUTED if other in controls else ACCENT, "ls": dashes}
            _draw_other(axes, here_too, order, other, **line)
        if hypotheses:
            _draw_hypotheses(axes, scores[scores["network"] == hypotheses], roi)
        _draw_participants(axes, wide, colors)
        _draw_curve(axes, wide, colors, starred, joined=joined)
        if rivals is not None:
            _mark_rivals(axes, [order.index(x) for x in rivals.get(roi, ()) if x in order], highest * 1.08)
        for layer in [x for x in order if x in starred] if rivals is None else ():
            axes.text(order.index(layer), highest * 1.06, "*", ha="center", va="center", color=INK, fontsize=11)
        axes.set_xticks(range(len(order)), order, rotation=90)
        axes.set(title=roi, xlim=(-0.6, len(order) - 0.4))
    grid[0, 0].set_ylim(top=highest * 1.13)
    label_edges(grid, y=measure)
    _arrange(figure, len(grid), foot=0.18 + 0.06 * max((len(str(layer)) for layer in order), default=4))
    return figure


def _arrange(figure: Figure, rows: int, *, foot: float) -> None:
    """Set the margins in inches, with a legend above the panels; a layout engine takes seconds for so many ticks."""
    width, height = figure.get_size_inches()
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    top, gap = 0.3, foot + 0.26
    if named:
        across = max(1, min(len(named), int((width - 0.5) / (0.45 + 0.062 * max(map(len, named))))))
        head = 0.06 + 0.16 * -(-len(named) // across)
        height, top = height + head, top + head
        figure.set_size_inches(width, height)
        figure.legend(
            named.values(),
            named.keys(),
            loc="upper left",
            bbox_to_anchor=(0.45 / width, 1),
            borderaxespad=0.2,
            ncols=across,
            fontsize=7.5,
            frameon=False,
            labelcolor=SOFT,
            handlelength=1.8,
            columnspacing=1.4,
            labelspacing=0.25,
        )
    panel = (height - top - foot - (rows - 1) * gap) / rows
    figure.subplots_adjust(
        left=0.55 / width,
        right=1 - 0.06 / width,
        top=1 - top / height,
        bottom=foot / height,
        wspace=0.09,
        hspace=gap / panel,
    )


def _draw_baselines(axes: Axes, found: pd.DataFrame, roi: str) -> None:
    """Draw a band over the means of acoustic models, or of one standard error around a single one."""
    here = found[found["roi"] == roi]
    by_model = here.groupby("layer", observed=True)["score"]
    low, high = float(by_model.mean().min()), float(by_model.mean().max())
    if len(by_model) == 1:
        error = float(np.nan_to_num(by_model.sem().iloc[0]))
        low, high = low - error, high + error
    if not np.isfinite(low):
        return
    one = found["layer"].nunique() == 1  # otherwise each region has its own, under the name of all
    name = "acoustic models" if len(by_model) > 1 else str(here["layer" if one else "network"].iloc[0])
    axes.axhspan(low, high, color=ACCENT, alpha=0.35, lw=0, zorder=0.5, label=name)
    axes.axhline(high, color=ACCENT, alpha=0.6, lw=0.8, zorder=0.6)


def _draw_hypotheses(axes: Axes, found: pd.DataFrame, roi: str) -> None:
    """Draw each hypothesis as a horizontal line at its mean, the four highest of all regions where there are more."""
    names = list(dict.fromkeys(found["layer"]))
    highest = found.groupby("layer", observed=True)["score"].mean().sort_values(ascending=False).index[:_MOST_LINES]
    here = found[found["roi"] == roi].groupby("layer", observed=True)["score"].mean()
    for name, dashes in zip([name for name in names if name in set(highest)], cycle(_DASHES)):
        if name in here.index and np.isfinite(here[name]):
            axes.axhline(float(here[name]), color=WARM, lw=1.1, ls=dashes, zorder=1.7, label=str(name))


def _mark_rivals(axes: Axes, places: Sequence[int], height: float) -> None:
    """Mark the best layer by a triangle that points at it, and layers not told apart from it by a bar."""
    if not places:
        return
    axes.plot(places[0], height, "v", color=INK, ms=5.5, mew=0, zorder=4, label="best layer")
    for at in places[1:]:
        bar: dict[str, Any] = {"color": INK, "lw": 1.8, "solid_capstyle": "butt", "zorder": 4}
        axes.plot([at - 0.32, at + 0.32], [height, height], label="not told apart from it", **bar)


def _find_starred(statistics: pd.DataFrame | None, roi: str, network: Sequence[str], alpha: float) -> set[str]:
    if statistics is None:
        return set()
    here = statistics[(statistics["roi"] == roi) & (statistics["p_corrected"] < alpha)]
    if network and "network" in here:
        here = here[here["network"] == network[0]]
    return set(here["layer"])


def _draw_other(axes: Axes, here: pd.DataFrame, order: Sequence[str], name: str, **line: Any) -> None:
    """Draw the profile of another network, or a horizontal line of a model with one layer."""
    mean = here.groupby("layer", observed=True)["score"].mean()
    known = [layer for layer in order if layer in mean.index]
    if known:
        axes.plot([order.index(k) for k in known], mean[known], lw=1, zorder=1.8, label=name, **line)
        return
    if len(mean) > 1:
        raise InputError(
            f"plot_layer_profile: expected layers of {name} that the first network has too, got "
            f"{list_some(map(str, mean.index))}; draw each network on its own"
        )
    axes.axhline(float(here["score"].mean()), lw=1, zorder=1.8, label=name, **line)


@with_style
def plot_layer_roi_table(
    statistics: pd.DataFrame,
    *,
    layers: Sequence[str] | None = None,
    planted: Mapping[str, str] | None = None,
    measure: str = "mean score",
    alpha: float = 0.05,
) -> Figure:
    """Plot layers by regions: the mean score in every cell, bold with a star if it is significant.

    Parameters
    ----------
    statistics : DataFrame
        Columns `layer`, `roi`, `mean`, and `p_corrected` for the stars.
    layers : sequence of str, optional
        Order by depth; the first layer is the top row.
    planted : mapping roi -> layer, optional
        The layer that a simulation planted in each region, marked by a corner; the best layer of a region is framed.
    measure : str
        Name of the color scale.
    alpha : float
        Significance level of the stars.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a column is missing, or the table has several networks.
    """
    needs_columns(statistics, ["layer", "roi", "mean"], "plot_layer_roi_table: statistics")
    needs_one_network(statistics, "plot_layer_roi_table: statistics")
    order = [x for x in (layers or dict.fromkeys(statistics["layer"])) if x in set(statistics["layer"])]
    rois = list(dict.fromkeys(statistics["roi"]))
    mean = statistics.pivot(index="layer", columns="roi", values="mean").reindex(index=order, columns=rois)
    p = None
    if "p_corrected" in statistics:
        p = statistics.pivot(index="layer", columns="roi", values="p_corrected").reindex(index=order, columns=rois)
    # Margins in inches: a layout engine takes longer than the drawing.
    left, right, head = 0.15 + 0.075 * max(map(len, order), default=4), 0.75, 0.5
    width, height = left + 1.15 * len(rois) + right, head + 0.34 * len(order) + 0.08
    figure = Picture(figsize=(width, height))
    inner = (left / width, 0.08 / height, 1 - (left + right) / width, 1 - (head + 0.08) / height)
    axes = strip_axes(figure.add_axes(inner))
    values = mean.to_numpy(dtype=float)
    top = max(float(np.nanmax(values)), 1e-9)
    image = axes.imshow(np.clip(values, 0, None), cmap=get_colormap("score"), vmin=0, vmax=top * 1.15, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        star = p is not None and bool(p.to_numpy(dtype=float)[i, j] < alpha)
        shade = choose_ink(tuple(image.to_rgba(np.array([max(value, 0.0)]))[0][:3])) if np.isfinite(value) else MUTED
        axes.text(
            j,
            i,
            format_decimals(value) + ("*" if star else ""),
            ha="center",
            va="center",
            color=shade,
            fontsize=8.5,
            fontweight="bold" if star else "normal",
        )
    for j, roi in enumerate(rois):
        if np.isfinite(values[:, j]).any() and (p is None or (p[roi] < alpha).any()):
            i = int(np.nanargmax(values[:, j]))
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec=INK, lw=1.8, clip_on=False, zorder=4))
        if planted and planted.get(roi) in order:
            i = order.index(planted[roi])
            corner = [(j + 0.5, i - 0.5), (j + 0.5, i - 0.1), (j + 0.38, i - 0.5)]
            axes.fill(*zip(*corner, strict=True), color=ACCENT, lw=0, zorder=5)
    for edge in np.arange(0.5, len(rois) - 0.5):
        axes.axvline(edge, color="white", lw=2)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(rois)), [r.replace(" ", "\n", 1) for r in rois], color=SOFT)
    axes.set_yticks(range(len(order)), order, color=SOFT)
    scale = figure.add_axes((1 - (right - 0.12) / width, inner[1] + 0.2 * inner[3], 0.1 / width, 0.6 * inner[3]))
    add_color_bar(figure, image, None, measure, fontsize=8, color=MUTED, cax=scale)
    return figure
