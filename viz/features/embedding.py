"""Plot sounds as points: layers side by side, in colors and markers that remain distinct for color-blind readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brainmap.errors import InputError
from brainmap.viz.style import (
    INK,
    MUTED,
    add_headline,
    make_grid,
    strip_axes,
    with_style,
)

# Eight colors that remain distinct for readers without red, green or blue cones (Okabe & Ito), darkened where they
# would be hard to see on white. With eight markers, they distinguish 64 conditions.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#b8860b", "#cc79a7", "#56b4e9", "#3a3f44", "#8c4a1d")

MARKS = ("o", "^", "s", "D", "v", "P", "X", "*")


def assign_styles(conditions: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Assign a color and a marker to each condition, in the order of first occurrence.

    Raises
    ------
    InputError
        If there are more than 64 conditions.

    Examples
    --------
    >>> assign_styles(["cat", "dog", "cat"])
    {'cat': ('#0072b2', 'o'), 'dog': ('#d55e00', 'o')}
    """
    names = list(dict.fromkeys(conditions))
    if len(names) > len(COLORS) * len(MARKS):
        most = len(COLORS) * len(MARKS)
        raise InputError(f"plot_embedding: expected at most {most} conditions, got {len(names)}; group them")
    return {name: (COLORS[i % len(COLORS)], MARKS[i // len(COLORS)]) for i, name in enumerate(names)}


@with_style
def plot_embedding(embeddings: Any, *, columns: int = 4, label: bool | None = None, title: str = "") -> Figure:
    """Plot sounds as points in the plane of each layer, side by side.

    A condition has the same color and marker in all panels, and its name at the median of its points. Distances
    between principal components are accurate only to the extent of their share of the variance. The axes of t-SNE have
    no units and its large distances no meaning; the panels say so.

    Parameters
    ----------
    embeddings : Embedding or sequence of them
        Results of `features.embed` for the same items.
    columns : int
        Panels per row.
    label : bool, optional
        Whether to write names at the medians of conditions; by default for up to 20 conditions with several items
        each. A name that would overlap another is left out.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there is no embedding, one has a single component, or there are more than 64 conditions.

    References
    ----------
    Okabe M, Ito K (2008), Color Universal Design; Wattenberg M et al. (2016), how to read t-SNE:
    doi:10.23915/distill.00002
    """
    listed = list(embeddings) if isinstance(embeddings, Sequence) else [embeddings]
    if not listed:
        raise InputError("plot_embedding: expected at least one embedding, got none")
    for one in listed:
        if one.points.shape[1] < 2:
            raise InputError(
                f"plot_embedding: expected two components, got one of {one.layer}; embed with n_components=2"
            )
    styles = assign_styles([c for one in listed for c in one.conditions])
    several = len(listed[0].conditions) > len(styles)
    named = (several and len(styles) <= 20) if label is None else label
    figure, grid = make_grid(len(listed), columns, panel=(2.75, 2.85), margin=(0.3, 0.75))
    for axes, one in zip(grid.ravel(), listed, strict=False):
        _draw_points(axes, one, styles, named)
    marks = [
        Line2D([], [], color=color, marker=mark, ls="", ms=4, label=name) for name, (color, mark) in styles.items()
    ]
    if len(styles) <= len(COLORS) * 4:
        figure.legend(
            handles=marks,
            loc="outside lower center",
            ncols=min(len(styles), 4 * grid.shape[1]),
            fontsize=7,
            handletextpad=0.1,
            columnspacing=0.9,
        )
    head = (
        title
        or {"pca": "Sounds by their principal components", "tsne": "Sounds by their neighborhoods (t-SNE)"}[
            listed[0].method
        ]
    )
    return add_headline(figure, head)


def _draw_points(axes: Axes, one: Any, styles: dict[str, tuple[str, str]], named: bool) -> None:
    conditions = np.array(one.conditions)
    for name, (color, mark) in styles.items():
        x, y = one.points[conditions == name, :2].T
        axes.scatter(x, y, s=15, color=color, marker=mark, lw=0.3, edgecolors="white", alpha=0.9)
    if named:
        _draw_names(axes, one.points[:, :2], conditions, styles)
    strip_axes(axes).set_facecolor("#fafaf7")
    axes.set_title(one.layer, color=INK, fontsize=9, pad=3)
    if one.explained is None:
        axes.set_xlabel(f"no units; trustworthiness {one.trustworthiness:.2f}", fontsize=7, color=MUTED)
    else:
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xlabel(f"{one.axes[0]}\ntrustworthiness {one.trustworthiness:.2f}", fontsize=7, color=MUTED)
        axes.set_ylabel(one.axes[1], fontsize=7, color=MUTED)


def _draw_names(axes: Axes, points: Any, conditions: Any, styles: dict[str, tuple[str, str]]) -> None:
    """Write names at the medians of their points; a name that would overlap another appears only in the legend."""
    span = np.ptp(points, axis=0) + 1e-12
    placed: list[Any] = []
    for name, (color, _) in styles.items():
        mine = points[conditions == name]
        if not len(mine):
            continue
        middle = np.median(mine, axis=0)
        if any((np.abs(middle - other) / span < (0.14, 0.055)).all() for other in placed):
            continue
        placed.append(middle)
        text = axes.text(
            middle[0], middle[1], name, color=color, fontsize=7, ha="center", va="center", fontweight="bold"
        )
        text.set_path_effects([effects.withStroke(linewidth=1.8, foreground="white")])
