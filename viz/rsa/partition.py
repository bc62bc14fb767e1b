"""Plot variance partitioning: bars for the unique and shared variance of sets of models."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.rsa.comparison.partition import Partition
from brainmap.viz.labels import format_decimals, needs_columns
from brainmap.viz.style import ACCENT, HAIRLINE, INK, MUTED, SOFT, WARM, make_axes, with_style

ROW = 0.3
"""Height of a bar with its gap [inch]."""


@with_style
def plot_partition(
    partition: Partition, statistics: pd.DataFrame | None = None, *, columns: int = 3, alpha: float = 0.05
) -> Figure:
    """Plot shares of explained variance, one panel per region.

    Parameters
    ----------
    partition : Partition
        Result of `brainmap.rsa.partition_variance`.
    statistics : DataFrame, optional
        Table of `brainmap.rsa.partition_statistics`: shares with `p_corrected < alpha` get a star. It tests only what
        a set explains alone, because a common share is also above 0 for a set that is unrelated to the brain but
        similar to a related set.
    columns : int
        Largest number of panels per row.
    alpha : float
        Significance level of the stars.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the table lacks a column.

    Notes
    -----
    Filled dots at the left show the sets to which a share belongs: one dot marks what that set alone explains, several
    dots mark what these sets have in common. Bars are means over participants with their standard error, small points
    are participants. A bar to the left of 0 is a negative share: the sets explain more together than the sum of their
    separate contributions (suppression), or, if weights come from other participants, they explain nothing that
    generalizes. A dagger marks what a set explains alone beside such a common share: the set may be unrelated to the
    brain. The shares sum to the last row.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, partition_variance
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    >>> a, b, brain = (compute_rdms(rng.normal(size=(8, 5)), descriptors=items) for _ in range(3))
    >>> figure = plot_partition(partition_variance({"a": a, "b": b}, brain, validation="none"))
    >>> [text.get_text() for text in figure.axes[-1].get_xticklabels()]
    ['a', 'b']
    """
    if statistics is not None:
        needs_columns(statistics, ["sets", "roi", "p_corrected"], "plot_partition: statistics")
    rois = list(dict.fromkeys(partition.data["roi"]))
    columns = min(columns, len(rois)) if len(rois) != 4 else 2
    rows, n_bars = -(-len(rois) // columns), len(partition.subsets) + 1
    names = max(len(name) for name in partition.sets)
    left, foot, top = 0.15 + 0.26 * len(partition.sets), max(0.32, 0.12 + 0.062 * names), 0.32
    gap, width = foot + top, left + 2.5 * columns + 0.3
    flags = partition.suppression()
    words = (0.3 if columns > 1 else 0.42) + (0.14 if flags else 0)  # height of the lines at the bottom
    height = rows * (n_bars * ROW + gap) + words
    figure, grid = make_axes((width, height), rows, columns, layout=None, sharex=True, sharey=True)
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.12 / width,
        top=1 - top / height,
        bottom=(foot + words) / height,
        wspace=0.1,
        hspace=gap / (n_bars * ROW),
    )
    for row in grid:
        box = row[0].get_position()
        legend = figure.add_axes((0.06 / width, box.y0, (left - 0.12) / width, box.height), sharey=row[0])
        _draw_membership(legend, partition)
    for axes, roi in zip(grid.ravel(), rois, strict=False):
        here = (partition.data["roi"] == roi).to_numpy()
        values = np.concatenate([partition.shares[:, here], partition.r2[-1:, here]])
        starred: set[str] = set()
        if statistics is not None:
            found = statistics[(statistics["roi"] == roi) & (statistics["p_corrected"] < alpha)]
            starred = set(found["sets"])
        marks = [" †" * ((str(roi), name) in flags) + " *" * (name in starred) for name in partition.names]
        _draw_bars(axes, values, marks)
        axes.set_title(roi)
        axes.tick_params(labelbottom=True)
    told = "weights from other participants" if partition.validation == "participants" else "fit to each RDM itself"
    told = f"share of explained variance{' ' if columns > 1 else chr(10)}(R², {told})"
    if flags:
        told += f"{chr(10)}† beside a negative common share (suppression)"
    for axes in grid.ravel()[len(rois) :]:
        axes.set_visible(False)
    figure.text((left + (width - left) / 2) / width, 0.08 / height, told, ha="center", color=MUTED, fontsize=8)
    return figure


def _draw_bars(axes: Axes, values: NDArray[np.float64], marks: list[str]) -> None:
    """Draw one bar per share with its marks, and the total below a line."""
    axes.axvline(0, color="#9aa5b1", lw=0.8, zorder=1)
    axes.axhline(len(values) - 1.5, color=HAIRLINE, lw=1.0, zorder=0)
    count = np.isfinite(values).sum(axis=1)
    mean = np.nansum(values, axis=1) / np.where(count > 0, count, np.nan)
    for at, (one, middle) in enumerate(zip(values, mean, strict=True)):
        whole = at == len(values) - 1
        color = SOFT if whole else WARM if middle >= 0 else "#3f7fb5"
        axes.barh(at, middle, height=0.62, color=color, alpha=0.85, lw=0, zorder=2)
        one = one[np.isfinite(one)]
        end = [middle]
        if len(one) > 1:
            error = float(one.std(ddof=1) / np.sqrt(len(one)))
            axes.plot([middle - error, middle + error], [at, at], color=INK, lw=1.3, zorder=4)
            spread = np.linspace(-0.2, 0.2, len(one))
            axes.scatter(one, at + spread, s=6, color=INK, alpha=0.35, lw=0, zorder=3)
            end = [middle + error, float(one.max())]
        star = "" if whole else marks[at]
        axes.annotate(
            format_decimals(float(middle)) + star,
            (max(0.0, *end), at),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=INK if star or whole else MUTED,
        )
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.margins(x=0.16)
    axes.tick_params(left=False, labelleft=False)
    axes.spines["left"].set_visible(False)


def _draw_membership(axes: Axes, partition: Partition) -> None:
    """Draw the sets of each share as dots joined by a line."""
    n_sets = len(partition.sets)
    for at, members in enumerate([*partition.subsets, partition.sets]):
        whole = at == len(partition.subsets)
        inside = [k for k, name in enumerate(partition.sets) if name in members]
        if whole:
            axes.text((n_sets - 1) / 2, at, "all sets", ha="center", va="center", fontsize=7.5, color=INK)
            continue
        axes.scatter(range(n_sets), [at] * n_sets, s=26, color=HAIRLINE, lw=0, zorder=1)
        axes.plot(inside, [at] * len(inside), color=ACCENT, lw=1.6, zorder=2)
        axes.scatter(inside, [at] * len(inside), s=26, color=ACCENT, lw=0, zorder=3)
    axes.set_xlim(-0.6, n_sets - 0.4)
    axes.set_xticks(range(n_sets), list(partition.sets), rotation=90, color=SOFT)
    axes.tick_params(length=0, labelleft=False)
    axes.spines[:].set_visible(False)
