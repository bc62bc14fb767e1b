"""Plot power over participants: one panel per comparison and number of conditions, one line per number of runs."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.rsa.simulation.power import WANTED, PowerAnalysis
from brainmap.viz.labels import format_decimals
from brainmap.viz.style import INK, MUTED, add_headline, assign_layer_colors, label_edges, make_axes, with_style


@with_style
def plot_power(found: PowerAnalysis) -> Figure:
    """Plot power against the number of participants, with the designs that reach .8.

    Parameters
    ----------
    found : PowerAnalysis
        Result of `brainmap.rsa.power_analysis`.

    Returns
    -------
    matplotlib.figure.Figure

    Notes
    -----
    Rows are comparisons, columns are numbers of conditions, and lines are numbers of runs. The band is the 95 %
    interval of the simulation; more simulations make it narrower. The dashed line is a power of .8, and the ring marks
    the design that reaches it with the fewest trials. The dotted line is alpha, the rejection rate without any effect.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, power_analysis
    >>> rng = np.random.default_rng(0)
    >>> layer = compute_rdms(rng.normal(size=(8, 9)), descriptors={"stimulus_id": list("abcdefgh"), "layer": "conv1"})
    >>> figure = plot_power(power_analysis(layer, a="conv1", participants=(4, 8), simulations=5, rng=rng))
    >>> figure.axes[0].get_title(loc="left")
    'conv1 > 0'
    """
    table = found.table
    rows, columns = found.comparisons, sorted(set(table["conditions"]))
    runs = sorted(set(table["runs"]))
    colors = assign_layer_colors([str(n) for n in runs])
    width = max(4.4, 2.7 * len(columns) + 0.9)
    figure, grid = make_axes((width, 2.25 * len(rows) + 0.8), len(rows), len(columns), sharex=True, sharey=True)
    for at, comparison in enumerate(rows):
        best = found.smallest(comparison)
        for axes, n_conditions in zip(grid[at], columns, strict=True):
            here = table[(table["comparison"] == comparison) & (table["conditions"] == n_conditions)]
            _draw_lines(axes, here, colors)
            axes.axhline(found.alpha, color=MUTED, lw=0.7, ls=":", zorder=1)
            if best is not None and best["conditions"] == n_conditions:
                axes.plot(
                    best["participants"],
                    best["power"],
                    "o",
                    ms=11,
                    mfc="none",
                    mec=INK,
                    mew=1.1,
                    zorder=5,
                    clip_on=False,
                )
            title = comparison if len(columns) == 1 else f"{comparison}, {n_conditions} conditions"
            axes.set_title(title)
    label_edges(grid, x="participants", y="power")
    _set_up_axes(grid[0][0], table, found)
    if len(runs) > 1:
        handles, labels = grid[-1][-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=8, labelcolor="linecolor")
    told = f"band: 95 % interval of {found.simulations} simulations; ring: fewest trials with a power of .8; dotted: α"
    counts = zip(found.pilot, ("participants", "runs", "conditions"), strict=True)
    many = ", ".join(f"{n}\N{NO-BREAK SPACE}{what}" for n, what in counts)
    words = f"Power to find {found.planted}: lower ceiling {format_decimals(found.ceiling)} with {many}"
    figure.supxlabel(textwrap.fill(told, int(15 * width)), fontsize=7.5, color=MUTED)
    return add_headline(figure, textwrap.fill(words, int(10 * width)))


def _draw_lines(axes: Axes, table: pd.DataFrame, colors: dict[str, str]) -> None:
    for n_runs, line in table.groupby("runs"):
        color = colors[str(n_runs)]
        x = line["participants"].to_numpy(dtype=float)
        axes.fill_between(x, line["low"].to_numpy(), line["high"].to_numpy(), color=color, alpha=0.16, lw=0, zorder=2)
        label = f"{n_runs} run" + ("s" if n_runs != 1 else "")
        axes.plot(x, line["power"].to_numpy(), "-o", ms=3.6, lw=1.4, color=color, label=label, zorder=3)
    axes.axhline(WANTED, color=MUTED, lw=0.9, ls=(0, (5, 3)), zorder=1)


def _set_up_axes(axes: Axes, table: pd.DataFrame, found: PowerAnalysis) -> None:
    """Set up the axes as in all panels."""
    participants = sorted(set(table["participants"]))
    margin = 0.06 * (participants[-1] - participants[0] or 1)
    axes.set(xlim=(participants[0] - margin, participants[-1] + margin), xticks=participants, ylim=(0, 1.04))
    axes.set_yticks(np.array([0, 0.2, 0.4, 0.6, WANTED, 1.0]), ["0", ".2", ".4", ".6", ".8", "1"])
