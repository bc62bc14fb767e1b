"""Plot the design of a GLM: its matrix, and the RDMs that the design alone produces."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.glm.betas import Betas
from brainmap.viz.style import SOFT, Picture, get_colormap, strip_axes, with_style

_MOST_LABELS = 48
_MOST_NAMED = 24  # largest number of items whose names remain readable in an RDM


@with_style
def plot_design(betas: Betas, *, run: str | None = None) -> Figure:
    """Plot the design matrix of a run beside the RDMs of noise alone and of elapsed time.

    Parameters
    ----------
    betas : Betas
    run : str, optional
        Run whose matrix is shown; by default the first.

    Returns
    -------
    Figure
        The left panel has one column per regressor, each scaled to its largest absolute value, with time running
        downward. The other panels show the RDM that the design produces from pure noise, and the time between items,
        over all runs; dark means similar. A brain RDM that resembles one of these may reflect nothing else.

    Raises
    ------
    InputError
        If there is no such run.
    """
    runs = list(dict.fromkeys(betas.runs))
    if run is not None and run not in runs:
        raise InputError(f"plot_design: expected one of the runs {list_some(runs)}, got {run!r}")
    chosen = runs[0] if run is None else run
    matrix = betas.design[runs.index(chosen)]
    enough = len(set(betas.labels)) >= 3
    width = min(3.2 + 0.16 * matrix.shape[1], 11.0)
    figure = Picture(figsize=(width + (4.2 if enough else 0), 5.8), layout="constrained")
    grid = figure.add_gridspec(2, 2 if enough else 1, width_ratios=[width, 3.9] if enough else None)
    axes = figure.add_subplot(grid[:, 0])
    scaled = matrix.to_numpy() / np.abs(matrix.to_numpy()).max(axis=0)
    image = axes.imshow(
        scaled,
        aspect="auto",
        cmap=get_colormap("signed"),
        vmin=-1,
        vmax=1,
        interpolation="nearest",
        extent=(-0.5, matrix.shape[1] - 0.5, float(matrix.index[-1]), float(matrix.index[0])),
    )
    _name_columns(axes, [str(name) for name in matrix.columns])
    axes.set_ylabel("time in the run [s]")
    axes.set_title(f"Design of run {chosen}, {matrix.shape[1]} regressors", loc="left")
    bar = figure.colorbar(image, ax=axes, shrink=0.4, aspect=16, anchor=(0, 1))
    bar.set_label("of the largest value", color=SOFT)
    if enough:
        rdms = betas.design_rdms()
        names = [str(name) for name in rdms.pattern_descriptors["stimulus_id"]]
        shown = (("RDM of noise alone", "noise variances"), ("RDM of elapsed time", "seconds"))
        for k, (title, unit) in enumerate(shown):
            _draw_rdm(figure, figure.add_subplot(grid[k, 1]), rdms.get_matrices()[k], names, unit).set_title(title)
    return figure


def _draw_rdm(figure: Figure, axes: Axes, square: NDArray[np.float64], names: list[str], unit: str) -> Axes:
    shown = square.copy()
    np.fill_diagonal(shown, np.nan)
    axes.set_facecolor("#e3e7ea")  # an item is not compared with itself
    image = axes.imshow(shown, cmap=get_colormap("dissimilarity"), interpolation="nearest")
    strip_axes(axes)
    if len(names) <= _MOST_NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6.5)
        axes.set_yticks(range(len(names)), names, fontsize=6.5)
        axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=16)
    bar.set_label(unit, color=SOFT, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return axes


def _name_columns(axes: Axes, names: list[str]) -> None:
    step = 1 + len(names) // _MOST_LABELS
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=6.5 if len(names) > 30 else 8)
    axes.tick_params(length=0)
