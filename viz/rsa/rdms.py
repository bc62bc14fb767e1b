"""Plot representational dissimilarity matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.comparison.ranks import rank_by_sorting
from brainmap.viz.style import (
    INK,
    MUTED,
    SOFT,
    Picture,
    assign_layer_colors,
    choose_ink,
    get_colormap,
    make_grid,
    strip_axes,
    with_style,
)


def _convert_to_squares(rdms: Any, labels: Sequence[str] | None) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Convert RDMs, square or condensed arrays to `(n_rdms, n, n)`, with one label per item and one title per RDM."""
    if hasattr(rdms, "get_matrices"):
        squares = np.asarray(rdms.get_matrices(), dtype=float)
        found = rdms.pattern_descriptors
        named = found.get("condition", found.get("stimulus_id", list(range(squares.shape[1]))))
        keys = [k for k in ("network", "layer", "roi", "participant") if k in rdms.rdm_descriptors]
        titles = [" · ".join(str(rdms.rdm_descriptors[k][i]) for k in keys) for i in range(len(squares))]
        if "time" in rdms.rdm_descriptors:
            when = rdms.rdm_descriptors["time"]
            titles = [f"{title} · {float(t):g} s" for title, t in zip(titles, when, strict=True)]
        return squares, [str(n) for n in (labels if labels is not None else named)], titles
    array = np.asarray(rdms, dtype=float)
    if array.ndim >= 2 and array.shape[-1] == array.shape[-2]:
        squares = array[None] if array.ndim == 2 else array
    else:
        rows = np.atleast_2d(array)
        n = round((1 + np.sqrt(1 + 8 * rows.shape[-1])) / 2)
        if rows.ndim != 2 or n * (n - 1) // 2 != rows.shape[1]:
            raise InputError(
                f"plot_rdm: expected RDMs of shape (n, n), (k, n, n) or condensed (k, pairs), got {array.shape}"
            )
        squares, pairs = np.zeros((len(rows), n, n)), np.triu_indices(n, 1)
        squares[:, *pairs] = squares[:, *pairs[::-1]] = rows
    named = labels if labels is not None else [str(i) for i in range(squares.shape[1])]
    return squares, [str(n) for n in named], [""] * len(squares)


def rank_pairs(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert dissimilarities to ranks from 0 to 1; the diagonal and missing pairs are unchanged."""
    rows, columns = np.triu_indices(len(square), 1)
    values = square[rows, columns]
    finite = np.isfinite(values)
    ranks = np.full(values.shape, np.nan)
    if finite.sum() > 1:
        ranks[finite] = (rank_by_sorting(values[None, finite])[0] - 1) / (finite.sum() - 1)
    out = np.zeros_like(square)
    out[rows, columns] = out[columns, rows] = ranks
    return out


def _draw_square(
    axes: Axes, square: NDArray[np.float64], labels: Sequence[str], *, rank: bool, named: str = "xy"
) -> AxesImage:
    """Draw one matrix with items grouped by label; a thin line separates groups, whose names are along `named` axes."""
    if len(labels) != len(square):
        raise InputError(f"plot_rdm: expected {len(square)} labels, one per item, got {len(labels)}")
    names = list(dict.fromkeys(labels))
    order = np.array(sorted(range(len(labels)), key=lambda i: names.index(labels[i])))
    shown = rank_pairs(square) if rank else square.copy()
    np.fill_diagonal(shown, np.nan)  # an item is not compared with itself
    off = shown[np.isfinite(shown)]
    low, high = (0.0, 1.0) if rank else (float(off.min()), float(off.max())) if off.size else (0.0, 1.0)
    axes.set_facecolor("#e3e7ea")
    image = axes.imshow(shown[np.ix_(order, order)], cmap=get_colormap("dissimilarity"), vmin=low, vmax=high)
    sizes = np.array([list(labels).count(name) for name in names])
    ends = np.cumsum(sizes)
    if sizes.max() > 1:
        span = axes.axis()
        axes.hlines(ends[:-1] - 0.5, *span[:2], color="white", lw=0.6)
        axes.vlines(ends[:-1] - 0.5, *span[2:], color="white", lw=0.6)
        axes.axis(span)
    strip_axes(axes)
    axes.tick_params(length=0, pad=2)
    size = 7.5 if len(names) <= 20 else max(3.5, 150 / len(names))
    if "x" in named:
        axes.set_xticks(ends - sizes / 2 - 0.5, names, rotation=90, fontsize=size)
    if "y" in named:
        axes.set_yticks(ends - sizes / 2 - 0.5, names, fontsize=size)
    return image


def _label_ends(bar: Colorbar, image: AxesImage, *, rank: bool) -> None:
    """Label only the ends of a dissimilarity scale."""
    bar.outline.set_visible(False)
    low, high = image.get_clim()
    bar.set_ticks([low, high], labels=["alike", "unlike"] if rank else [f"{low:.2f}", f"{high:.2f}"])
    bar.ax.tick_params(length=0, labelsize=8)


def _choose_scale(figure: Figure, image: AxesImage, axes: Sequence[Axes], *, rank: bool) -> None:
    bar = figure.colorbar(image, ax=list(axes), shrink=0.5, aspect=16, pad=0.02)
    _label_ends(bar, image, rank=rank)
    bar.set_label("dissimilarity, ranked" if rank else "dissimilarity", color=MUTED, fontsize=8)


@with_style
def plot_rdm(
    rdms: Any,
    *,
    labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    rank: bool = False,
    columns: int = 4,
) -> Figure:
    """Plot dissimilarity matrices side by side, items grouped by condition; dark means similar.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs or array
        RDMs, or an array `(n, n)`, `(k, n, n)` or condensed `(k, n (n - 1) / 2)`.
    labels : sequence of str, optional
        One label per item; by default the RDMs' descriptor `condition`, else `stimulus_id`.
    titles : sequence of str, optional
        One title per RDM; by default from the descriptors network, layer, roi, participant.
    rank : bool
        Show ranks (which Spearman, rho-a and tau-a compare) in place of values. Each RDM is ranked separately.
    columns : int
        RDMs per row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the array is not an RDM, or the numbers of labels and items differ.

    Notes
    -----
    A dark square on the diagonal is a group of items that the layer or region does not distinguish.

    References
    ----------
    Kriegeskorte N, Mur M, Bandettini P (2008): doi:10.3389/neuro.06.004.2008

    Examples
    --------
    >>> figure = plot_rdm([[0, 1, 2], [1, 0, 2], [2, 2, 0]], labels=["one", "two", "bird"])
    >>> len(figure.axes)  # the matrix and its scale
    2
    """
    squares, named, found = _convert_to_squares(rdms, labels)
    figure, axes_of = make_grid(len(squares), columns, panel=(3.1, 3.3), margin=(1.0, 0.0))
    grid = axes_of.ravel()
    heads = list(titles) if titles is not None else found
    for axes, square, head in zip(grid, squares, heads, strict=False):
        image = _draw_square(axes, square, named, rank=rank)
        axes.set_title(head)
    if rank or len(squares) == 1:
        _choose_scale(figure, image, list(grid[: len(squares)]), rank=rank)
    return figure


@with_style
def plot_rdm_pair(
    model: Any,
    brain: Any,
    *,
    labels: Sequence[str] | None = None,
    titles: tuple[str, str] | None = None,
    rank: bool = True,
    note: str = "",
) -> Figure:
    """Plot a layer's and a region's RDM side by side over the same items, and the agreement of their dissimilarities.

    Parameters
    ----------
    model, brain : rsatoolbox.rdm.RDMs or array
        One RDM each; several RDMs in `brain` (participants) are averaged. If both have labels, the brain's items are
        aligned to the model's by `stimulus_id` (or `condition`, if it names each item once).
    labels : sequence of str, optional
        One label per item.
    titles : (str, str), optional
        Titles of the two RDMs.
    rank : bool
        Show ranks, which rank measures compare.
    note : str
        A line of text under the scatter plot, such as the score.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the two have different numbers of items, or labels that do not match.
    """
    a, named, model_titles = _convert_to_squares(model, labels)
    b, _, brain_titles = _convert_to_squares(brain, labels)
    if (order := match_items(model, brain)) is not None:
        b = b[:, order][:, :, order]
    if a.shape[1:] != b.shape[1:]:
        raise InputError(
            f"plot_rdm_pair: expected RDMs over equal numbers of items, got {a.shape[1]} in the model and "
            f"{b.shape[1]} in the brain; compare RDMs of one level"
        )
    left, right = a[0], b[0] if len(b) == 1 else np.mean(b, axis=0)
    heads = titles or (model_titles[0] or "network", brain_titles[0] if len(b) == 1 else "brain")
    figure = Picture(figsize=(10, 3.75))
    grid = [figure.add_axes((x, 0.03, 0.3225, 0.86)) for x in (0.052, 0.385)]
    grid.append(figure.add_axes((0.81, 0.19, 0.185, 0.7)))
    image = _draw_square(grid[0], left, named, rank=rank, named="y")  # rows are items in both, and columns too
    _draw_square(grid[1], right, named, rank=rank, named="")
    for axes, head in zip(grid, (*heads, "Pair by pair"), strict=True):
        axes.set_title(head)
    bar = figure.colorbar(image, cax=figure.add_axes((0.715, 0.03, 0.009, 0.3)))
    _label_ends(bar, image, rank=rank)
    _draw_agreement(grid[2], rank_pairs(left) if rank else left, rank_pairs(right) if rank else right, rank=rank)
    if note:
        figure.text(0.81, 0.02, note, color=SOFT, fontsize=8.5)
    return figure


def match_items(model: Any, brain: Any) -> list[int] | None:
    """Find each item of the model in the brain's RDMs, if both have labels that name items once."""
    if not (hasattr(model, "pattern_descriptors") and hasattr(brain, "pattern_descriptors")):
        return None
    for key in ("stimulus_id", "condition"):
        if key not in model.pattern_descriptors or key not in brain.pattern_descriptors:
            continue
        wanted = [str(v) for v in model.pattern_descriptors[key]]
        found = [str(v) for v in brain.pattern_descriptors[key]]
        if len(set(wanted)) < len(wanted):
            continue
        if sorted(wanted) != sorted(found):
            raise InputError(
                f"plot_rdm_pair: the {key} differs between model ({len(wanted)}) and brain ({len(found)} items); "
                "compare RDMs over the same items"
            )
        return [found.index(w) for w in wanted]
    return None


def _draw_agreement(axes: Axes, left: NDArray[np.float64], right: NDArray[np.float64], *, rank: bool) -> None:
    """Draw the density of pairs: model dissimilarity along x, brain along y, with the mean of y in tenths of x."""
    upper = np.triu_indices(len(left), 1)
    x, y = left[upper], right[upper]
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    how = ", ranked" if rank else ""
    axes.set(xlabel=f"network dissimilarity{how}", ylabel=f"brain dissimilarity{how}")
    if x.size < 3:
        return
    axes.scatter(x, y, s=4 if x.size > 300 else 14, color=MUTED, alpha=0.25, lw=0, rasterized=True)
    bins = np.array_split(np.argsort(x, kind="stable"), min(10, x.size))
    at = np.array([[x[b].mean(), y[b].mean()] for b in bins])
    axes.plot(*at.T, "o-", color=INK, ms=3.5, lw=1.2)
    if rank:
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


@with_style
def plot_correlation_matrix(correlations: pd.DataFrame, *, marked: Sequence[str] = (), title: str = "") -> Figure:
    """Plot the correlation of the RDMs of every pair of layers.

    Parameters
    ----------
    correlations : DataFrame `(n_layers, n_layers)`
        Layer names as index and columns.
    marked : sequence of str
        Layers to outline on the diagonal, such as the planted ones.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the table is not square, or index and columns differ.
    """
    if list(correlations.index) != list(correlations.columns):
        raise InputError(
            "plot_correlation_matrix: expected equal index and columns, got different ones; give a square table of "
            "layer names"
        )
    names = [str(n) for n in correlations.columns]
    values = correlations.to_numpy(dtype=float)
    # Margins in inches: a layout engine takes longer than the drawing.
    side, head, square = 0.2 + 0.075 * max(map(len, names), default=4), 0.35 if title else 0.06, 0.42 * len(names)
    width, height = side + square + 0.06, side + square + head
    figure = Picture(figsize=(width, height))
    axes = strip_axes(figure.add_axes((side / width, side / height, square / width, square / height)))
    least = min(0.0, float(np.nanmin(values)))
    image = axes.imshow(values, cmap=get_colormap("sound"), vmin=least, vmax=1)
    for (i, j), value in np.ndenumerate(values):
        if i != j and np.isfinite(value):
            shade = choose_ink(image.to_rgba(np.array([value]))[0][:3])
            axes.text(j, i, f"{value:.2f}".replace("0.", ".", 1), ha="center", va="center", fontsize=7, color=shade)
    for name in marked:
        if name in names:
            at = names.index(name) - 0.5
            axes.add_patch(Rectangle((at, at), 1, 1, fill=False, ec="#c04a22", lw=2, clip_on=False))
    axes.tick_params(length=0)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for at, color in enumerate(assign_layer_colors(names).values()):
        axes.plot([-0.62] * 2, [at - 0.5, at + 0.5], color=color, lw=3, solid_capstyle="butt", clip_on=False)
    axes.set(xlim=(-0.75, len(names) - 0.5), title=title)
    return figure
