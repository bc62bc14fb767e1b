"""Plot units sorted by best frequency: first-layer filters, tuning curves of any layer, spectra of patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from brainmap.checks import check_each
from brainmap.errors import InputError
from brainmap.viz.style import (
    INK,
    MUTED,
    SOFT,
    WARM,
    Picture,
    add_color_bar,
    add_headline,
    assign_layer_colors,
    get_colormap,
    label_edges,
    make_axes,
    make_grid,
    with_style,
)

RANGE_DB = 24.0
_MARKS = (50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)


def _format_kilohertz(hertz: float) -> str:
    return f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz:g}"


def add_log_hertz_ticks(axes: Axes, hertz: NDArray[np.float64]) -> None:
    """Add ticks in Hz to the vertical axis of a picture that has one row for each of evenly spaced log frequencies."""
    position = np.interp(np.log(np.array(_MARKS)), np.log(hertz), np.arange(len(hertz)), left=np.nan, right=np.nan)
    shown = [(at, _format_kilohertz(mark)) for at, mark in zip(position, _MARKS, strict=True) if np.isfinite(at)]
    axes.set_yticks([at for at, _ in shown], labels=[text for _, text in shown])


def _trim_frame(axes: Axes) -> None:
    axes.tick_params(length=2)
    axes.spines[:].set_visible(False)


@with_style
def plot_filters(filters: Any, *, shapes: int = 8, title: str = "") -> Figure:
    """Plot frequency responses of first-layer filters, sorted by best frequency, and the shapes of some filters.

    Filters of networks on spectrograms (`features.picture_filters`) are drawn over frequency and time, sorted by
    their temporal modulation.

    Each column is a filter, dark where it passes frequencies, relative to its own largest gain; dots mark best
    frequencies. Below are the impulse responses of filters from the left, middle and right of the picture.

    Parameters
    ----------
    filters : Filters
        Result of `features.layer_filters`.
    shapes : int
        Number of filters to draw, evenly taken from the sorted filters.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If every filter is dead.
    """
    order = np.asarray(filters.order)
    alive = order[(filters.table["shape"].iloc[order] != "dead").to_numpy()]
    if filters.kernels.ndim == 3 and len(alive):
        return _plot_picture_filters(filters, alive[:48], title)
    if not len(alive):
        raise InputError(f"plot_filters: all filters of {filters.layer} are zero; there is nothing to show")
    gains = filters.gain(np.linspace(0, filters.rate / 2, 513))[alive]
    level = 20 * np.log10(np.maximum(gains / gains.max(axis=1, keepdims=True), 1e-6))
    shapes = min(shapes, len(alive))
    figure = Picture(figsize=(7.4, 4.6), layout="constrained")
    top, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.6, 1])[:, 0]
    axes = top.subplots()
    image = axes.imshow(
        level.T,
        origin="lower",
        aspect="auto",
        cmap=get_colormap("sound"),
        vmin=-RANGE_DB,
        vmax=0,
        extent=(-0.5, len(alive) - 0.5, 0, filters.rate / 2000),
        interpolation="nearest",
    )
    best = filters.table["best_hz"].to_numpy()[alive] / 1000
    axes.plot(np.arange(len(alive)), best, "o", color=WARM, ms=3, mec="white", mew=0.4, clip_on=False)
    axes.set(ylabel="frequency [kHz]", xlabel=f"filters of {filters.layer}, by best frequency (dots)")
    _trim_frame(axes)
    add_color_bar(top, image, axes, "gain re own peak [dB]", shrink=0.75, aspect=22, pad=0.015)
    dead = len(order) - len(alive)
    axes.set_title((title or f"{len(alive)} filters of {filters.layer}") + (f"; {dead} dead, left out" if dead else ""))
    _draw_shapes(below, filters, alive[np.linspace(0, len(alive) - 1, shapes).round().astype(int)])
    return figure


def _plot_picture_filters(filters: Any, units: NDArray[np.intp], title: str) -> Figure:
    """Plot filters over frequency and time, each relative to its own largest weight."""
    figure, grid = make_grid(len(units), 8, panel=(1.2, 1.35), margin=(1.2, 0.9))
    bands, frames = filters.kernels.shape[1:]
    step = 1000 / filters.frame_rate if filters.frame_rate else 1.0
    for axes, unit in zip(grid.ravel(), units, strict=False):
        kernel = filters.kernels[unit] / np.abs(filters.kernels[unit]).max()
        image = axes.imshow(
            kernel,
            origin="lower",
            aspect="auto",
            cmap=get_colormap("signed"),
            vmin=-1,
            vmax=1,
            extent=(0, frames * step, -0.5, bands - 0.5),
            interpolation="nearest",
        )
        hertz = filters.table["rate_hz"].iloc[unit]
        told = f"\n{hertz:.0f} Hz" if np.isfinite(hertz) else ""
        axes.set_title(f"unit {unit}{told}", fontsize=7.5, pad=2, fontweight="normal", loc="center")
        axes.set_xticks([0, frames * step], ["0", f"{frames * step:.3g}"], fontsize=6.5)
        axes.set_yticks([0, bands - 1], ["0", f"{bands - 1}"], fontsize=6.5)
        _trim_frame(axes)
    add_color_bar(figure, image, list(grid.ravel()), "weight re own largest", shrink=0.75, aspect=22, pad=0.015)
    figure.supxlabel("time [ms]" if filters.frame_rate else "frames", fontsize=8, color=SOFT)
    figure.supylabel("band", fontsize=8, color=SOFT)
    dead = len(filters.kernels) - len(units)
    more = f"; {dead} dead or further ones are left out" if dead else ""
    return add_headline(figure, (title or f"{len(units)} filters of {filters.layer}, by temporal modulation") + more)


def _draw_shapes(figure: Any, filters: Any, units: NDArray[np.intp]) -> None:
    n_taps = filters.kernels.shape[1]
    milliseconds = np.arange(n_taps) / filters.rate * 1000
    for axes, unit in zip(np.atleast_1d(figure.subplots(1, len(units))), units, strict=True):
        kernel = filters.kernels[unit] / np.abs(filters.kernels[unit]).max()
        axes.axhline(0, color="#d3d9de", lw=0.6)
        axes.plot(milliseconds, kernel, color=INK, lw=1.1, marker="o" if n_taps <= 40 else "", ms=2.4)
        hertz = filters.table["best_hz"].iloc[unit]
        axes.set_title(f"unit {unit}\n{hertz:.0f} Hz", fontsize=7.5, pad=2, fontweight="normal", loc="center")
        axes.set(ylim=(-1.15, 1.15), yticks=[], xticks=[0, milliseconds[-1]])
        axes.set_xticklabels(["0", f"{milliseconds[-1]:.2g}"], fontsize=6.5)
        _trim_frame(axes)
    figure.supxlabel("time [ms]", fontsize=8, color=SOFT)


@with_style
def plot_tuning(
    tuning: Any,
    *,
    layers: Sequence[str] | None = None,
    level_db: float | None = None,
    columns: int = 4,
    title: str = "",
) -> Figure:
    """Plot tuning curves of the units of layers, sorted by best frequency.

    Each column is a unit, dark where it responds, relative to its own largest response above silence. Units that no
    stimulus drives are left out and counted in the title.

    Parameters
    ----------
    tuning : Tuning
        Result of `features.measure_tuning`.
    layers : sequence of str, optional
    level_db : float, optional [dB]
        Sound level to show; by default the highest level that was played.
    columns : int
        Layers per row.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a layer or level was not measured.
    """
    names = list(layers) if layers is not None else list(tuning.layers)
    check_each(names, list(tuning.layers), "plot_tuning: layer")
    level = max(tuning.settings.levels_db) if level_db is None else level_db
    # The smallest width leaves room for the title.
    figure, grid = make_grid(len(names), columns, panel=(2.05, 2.1), margin=(1.0, 0.5), narrowest=4.4)
    image = None
    for at, (axes, name) in enumerate(zip(grid.ravel(), names, strict=False)):
        image = _draw_tuning(axes, tuning, name, level) or image
        if at % grid.shape[1]:
            axes.set_yticklabels([])
    label_edges(grid, y="frequency [Hz]")
    figure.supxlabel("units, by best frequency", fontsize=9, color=SOFT)
    if image is not None:
        add_color_bar(figure, image, grid, "response re own peak", shrink=0.75, aspect=22, pad=0.015)
    played = f"{'tones' if tuning.settings.stimulus == 'tone' else 'noise bands'} at {level:g} dB"
    return add_headline(figure, title or f"What frequencies units answer to ({played})")


def _draw_tuning(axes: Axes, tuning: Any, name: str, level: float) -> AxesImage | None:
    curves = tuning.curves(name, level_db=level)
    table = tuning.table[(tuning.table["layer"] == name) & (tuning.table["level_db"] == level)]
    order = np.argsort(table["best_hz"].to_numpy(), kind="stable")
    driven = order[np.isfinite(table["best_hz"].to_numpy()[order])]
    left_out = len(order) - len(driven)
    axes.set_title(name + (f", {left_out} not driven" if left_out else ""), fontsize=8.5, pad=3)
    _trim_frame(axes)
    add_log_hertz_ticks(axes, tuning.frequencies)
    ends = sorted({0, max(len(driven) - 1, 0)})
    axes.set_xticks(ends, [str(end + 1) for end in ends])
    if not len(driven):
        axes.set(xlim=(-0.5, 0.5), ylim=(-0.5, len(tuning.frequencies) - 0.5))
        return None
    shown = np.clip(curves[driven] / curves[driven].max(axis=1, keepdims=True), -1, 1)
    return axes.imshow(shown.T, origin="lower", aspect="auto", cmap=get_colormap("signed"), vmin=-1, vmax=1)


@with_style
def plot_tuning_curves(tuning: Any, layer: str, *, units: Sequence[int] | None = None, columns: int = 8) -> Figure:
    """Plot tuning curves of single units, one line per level, with the bandwidth at the highest level.

    Parameters
    ----------
    tuning : Tuning
    layer : str
    units : sequence of int, optional
        Units to show; by default 16 from low to high best frequency.
    columns : int
        Units per row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the layer was not measured, or a unit is out of range.
    """
    levels = sorted(tuning.settings.levels_db)
    by_level = {level: tuning.curves(layer, level_db=level) for level in levels}
    n_units = len(by_level[levels[0]])
    if units is None:
        order = tuning.order(layer)
        units = order[np.linspace(0, n_units - 1, min(16, n_units)).round().astype(int)].tolist()
    outside = [u for u in units if not 0 <= u < n_units]
    if outside:
        raise InputError(f"plot_tuning_curves: expected units from 0 to {n_units - 1} of {layer}, got {outside[0]}")
    table = tuning.table[(tuning.table["layer"] == layer) & (tuning.table["level_db"] == levels[-1])].set_index("unit")
    colors = assign_layer_colors([f"{level:g} dB" for level in levels[::-1]])
    figure, grid = make_grid(len(units), columns, panel=(1.25, 1.25), margin=(0.6, 0.75), sharex=True)
    for axes, unit in zip(grid.ravel(), units, strict=False):
        row = table.loc[unit]
        axes.axhline(0, color="#d3d9de", lw=0.6)
        if np.isfinite(row["low_hz"]):
            axes.axvspan(row["low_hz"], row["high_hz"], color="#f2ede2", lw=0)
        scale = max(float(np.abs(curve[unit]).max()) for curve in by_level.values()) or 1.0
        for level, curve in by_level.items():
            axes.plot(tuning.frequencies, curve[unit] / scale, color=colors[f"{level:g} dB"], lw=1.1)
        says = f"{row['best_hz']:.0f} Hz" if np.isfinite(row["best_hz"]) else row["shape"]
        axes.set_title(f"{unit}: {says}", fontsize=7.5, pad=2, fontweight="normal")
        axes.set(xscale="log", yticks=[], xlim=(tuning.frequencies[0], tuning.frequencies[-1]))
        marks = [m for m in (100, 1000, 4000) if tuning.frequencies[0] <= m <= tuning.frequencies[-1]]
        axes.set_xticks(marks, [_format_kilohertz(m) for m in marks], fontsize=6.5)
        axes.set_xticks([], minor=True)
        _trim_frame(axes)
    handles = [axes.plot([], [], color=color, label=level)[0] for level, color in colors.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=8)
    figure.supxlabel("frequency [Hz]", fontsize=9, color=SOFT)
    figure.supylabel("response beyond silence", fontsize=9, color=SOFT)
    return add_headline(figure, f"Tuning of {layer}")


@with_style
def plot_spectra(spectra: Any, *, title: str = "", named: int = 40) -> Figure:
    """Plot spectra of maximizing patterns, sorted by the frequency of their peaks.

    Parameters
    ----------
    spectra : Spectra
        Result of `features.pattern_spectra`.
    title : str
    named : int
        Largest number of columns that are labelled.

    Returns
    -------
    matplotlib.figure.Figure
    """
    order = spectra.order
    width = min(max(4.0, 1.6 + 0.2 * len(order)), 10.0)
    figure, [[axes]] = make_axes((width, 3.6))
    level = np.where(np.isfinite(spectra.level_db), spectra.level_db, -RANGE_DB)[order]
    image = axes.imshow(level.T, origin="lower", aspect="auto", cmap=get_colormap("sound"), vmin=-RANGE_DB, vmax=0)
    best = spectra.table["best_hz"].to_numpy()[order]
    at = np.interp(np.log(best), np.log(spectra.frequencies), np.arange(len(spectra.frequencies)))
    axes.plot(np.arange(len(order)), at, "o", color=WARM, ms=3, mec="white", mew=0.4)
    add_log_hertz_ticks(axes, spectra.frequencies)
    if len(order) <= named:
        axes.set_xticks(np.arange(len(order)), [spectra.labels[i] for i in order], rotation=90)
    else:
        axes.set_xlabel("patterns, by peak frequency (dots)")
    axes.set_ylabel("frequency [Hz]")
    axes.tick_params(axis="x", length=0)
    _trim_frame(axes)
    add_color_bar(figure, image, axes, "level re own peak [dB]", shrink=0.75, aspect=22, pad=0.015)
    axes.set_title(title or "Spectra of maximizing patterns, by their peaks (dots)", color=INK)
    axes.tick_params(colors=MUTED)
    return figure
