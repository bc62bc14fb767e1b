"""Plot which real sounds drive units, and which sounds are neighbors in a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.checks import check_each
from brainmap.errors import InputError
from brainmap.viz.features.sounds import add_hertz_ticks, draw_spectrogram, draw_wave, read_waves
from brainmap.viz.features.spectrograms import add_kilohertz_ticks, draw_input, get_input, make_picture
from brainmap.viz.style import (
    INK,
    MUTED,
    SOFT,
    WARM,
    Picture,
    add_headline,
    assign_layer_colors,
    make_axes,
    strip_axes,
    with_style,
)

_SPECTROGRAM = 400  # samples; a spectrogram of a shorter crop shows nothing


@with_style
def plot_exemplars(
    exemplars: Any,
    *,
    units: Sequence[int] | None = None,
    most: int = 9,
    spectrograms: bool | None = None,
    title: str = "",
) -> Figure:
    """Plot the sound segments that drive units most, one row per unit, the strongest first.

    Every panel shows exactly the unit's receptive field, with its word and time. Gray parts of a waveform panel lie
    beyond the sound. Pictures (2-D networks) are drawn unchanged.

    Parameters
    ----------
    exemplars : Exemplars
        Result of `features.find_exemplars`.
    units : sequence of int, optional
        Units to show; by default the first eight that some sound drives.
    most : int
        Crops per unit.
    spectrograms : bool, optional
        Whether to add spectrograms under the waveforms; by default if crops have at least 400 samples.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a unit, or every unit, has no exemplars.
    """
    alive = [unit for unit in exemplars.units if unit not in exemplars.dead]
    chosen = list(units) if units is not None else alive[:8]
    if not chosen:
        raise InputError(f"plot_exemplars: no sound drives a unit of {exemplars.layer}; there is nothing to show")
    for unit in chosen:
        exemplars.of(unit)
    table = exemplars.table
    columns = min(most, int(table["rank"].max()))
    flat = exemplars.crops.ndim == 3
    both = flat and (exemplars.crops.shape[-1] >= _SPECTROGRAM if spectrograms is None else spectrograms)
    high = 1.28 if both else 0.85 if flat else 1.2
    axes = getattr(exemplars, "axes", None)
    heights = ([1, 2] if both else [1]) * len(chosen)
    size = (0.75 + 1.3 * columns, 0.6 + high * len(chosen))
    figure, rows = make_axes(size, len(heights), columns, height_ratios=heights)
    for panel in rows.ravel():
        strip_axes(panel)
    for at, unit in enumerate(chosen):
        mine = table[table["unit"] == unit]
        name = str(mine["label"].iloc[0])
        upper = rows[2 * at if both else at]
        upper[0].set_ylabel(
            name if not name.isdigit() else f"unit {name}",
            rotation=0,
            ha="right",
            va="center",
            color=INK,
            fontweight="bold",
            fontsize=8.5,
            labelpad=4 if flat or axes is None else 18,
        )
        for column, (index, row) in enumerate(mine.iloc[:columns].iterrows()):
            crop = exemplars.crops[index]
            if not flat:
                _draw_spectrogram_crop(upper[column], crop, row, exemplars)
            else:
                _draw_crop(upper[column], crop[0], row)
                if both:
                    hertz = draw_spectrogram(rows[2 * at + 1, column], crop[0], float(exemplars.rate or 1.0))
                    if column == 0:
                        add_hertz_ticks(rows[2 * at + 1, 0], hertz)
            upper[column].set_title(_compose_caption(row), fontsize=6.8, pad=2, fontweight="normal", loc="center")
    length = exemplars.crops.shape[-1]
    shown = f"{length} samples each"
    if not flat and axes is not None:
        frames = exemplars.crops.shape[axes.time_axis]
        shown = f"{1000 * frames / axes.rate_of(frames):.3g} ms each, frequencies in kHz"
    elif exemplars.rate:
        lasts = length / exemplars.rate
        shown = f"{lasts:.2g} s each" if lasts >= 1 else f"{1000 * lasts:.3g} ms each"
    some = "" if len(chosen) == len(alive) else f", {len(chosen)} of {len(alive)} units"
    head = title or f"What drives {exemplars.layer} most" + (f" ({shown}{some})" if flat or axes is not None else "")
    return add_headline(figure, head)


def _draw_spectrogram_crop(axes: Axes, crop: Any, row: Any, exemplars: Any) -> None:
    """Draw a crop of a spectrogram with the frequencies of its bands [kHz]; parts beyond the input are gray."""
    about = getattr(exemplars, "axes", None)
    picture = np.array(make_picture(crop, about), dtype=float)
    if about is None:
        draw_input(axes, picture, about)
        return
    begin = [int(part) for part in str(row["start"]).split(",")]
    whole = about.front_end.shape(about.n_samples, rate=about.rate)[-2:]
    if about.time_axis == -2:
        begin, whole = begin[::-1], whole[::-1]
    for axis, (start, length) in enumerate(zip(begin, whole, strict=True)):
        at = start + np.arange(picture.shape[axis])
        beyond = (at < 0) | (at >= length)
        picture[(slice(None),) * axis + (beyond,)] = np.nan
    draw_input(axes, picture, about)
    axes.set_facecolor("#e3e7ea")
    axes.patch.set_visible(True)
    add_kilohertz_ticks(axes, picture.shape[0], about, first=begin[0], label=False)
    axes.tick_params(axis="y", labelsize=5.5)


def _compose_caption(row: Any) -> str:
    when = f" {row['start_s']:.2f} s" if np.isfinite(row["start_s"]) and row["layer"] != "output" else ""
    return f"{row['condition']}{when}\n{row['value']:.3g}"


def _draw_crop(axes: Axes, wave: Any, row: Any) -> None:
    if len(wave) >= 64:
        draw_wave(axes, wave, bins=160)
    else:  # so few samples that each one is visible
        axes.plot(
            np.linspace(0, 1, len(wave)),
            wave / max(float(np.abs(wave).max()), 1e-12),
            color=INK,
            lw=1.0,
            marker="o",
            ms=2,
        )
        axes.set(xlim=(-0.03, 1.03), ylim=(-1.15, 1.15))
    if row["outside"]:
        before = max(0, -int(row["start"])) / len(wave)
        after = min(1.0, before + 1 - row["outside"])
        for low, high in ((0, before), (after, 1)):
            axes.axvspan(low, high, color="#eceff1", lw=0, zorder=0)


@with_style
def plot_neighbors(
    neighbors: Any,
    sounds: Any,
    *,
    spaces: Sequence[str] | None = None,
    items: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Plot how often a sound's neighbors share its condition in each space, and the neighbors of some sounds.

    Parameters
    ----------
    neighbors : Neighbors
        Result of `features.nearest_neighbors`.
    sounds : object with `waveforms` (n, 1, t) and `rate`
        Waveforms of the same items.
    spaces : sequence of str, optional
        Two spaces whose neighbors are shown; by default the first and the best.
    items : sequence of str, optional
        Items whose neighbors are shown; by default the first item of four conditions.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a space or item is unknown.
    """
    overall = neighbors.precision[neighbors.precision["condition"] == "all"].set_index("space")["precision"]
    best = str(overall.idxmax()) if overall.notna().any() else neighbors.spaces[-1]
    shown = list(dict.fromkeys([neighbors.spaces[0], best] if spaces is None else spaces))
    check_each(shown, list(neighbors.spaces), "plot_neighbors: space")
    apart = len(neighbors.items) // 4 or 1
    chosen = list(items) if items is not None else _spread_labels(neighbors, apart)
    check_each(chosen, list(neighbors.items), "plot_neighbors: item")
    k = min(neighbors.k, 5)
    figure = Picture(figsize=(10, 0.9 + 0.85 * max(len(chosen), 3)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 2.7])[0]
    _draw_precision(left.subplots(), neighbors)
    panels = right.subfigures(1, len(shown), squeeze=False)[0]
    for panel, space in zip(panels, shown, strict=True):
        _draw_neighbors(panel, neighbors, sounds, space, chosen, k)
    return add_headline(figure, title)


def _spread_labels(neighbors: Any, apart: int) -> list[str]:
    _, first = np.unique(neighbors.conditions, return_index=True)
    ones = [neighbors.items[row] for row in np.sort(first)]
    return [ones[i] for i in np.linspace(0, len(ones) - 1, min(4, len(ones))).round().astype(int)]


def _draw_precision(axes: Axes, neighbors: Any) -> None:
    table = neighbors.precision[neighbors.precision["condition"] == "all"]
    colors = assign_layer_colors([space for space in neighbors.spaces if space != "waveform"])
    axes.barh(
        np.arange(len(table)), table["precision"], color=[colors.get(s, MUTED) for s in table["space"]], height=0.7
    )
    chance = float(table["chance"].iloc[0])
    axes.axvline(chance, color=WARM, lw=1, ls=(0, (3, 2)))
    axes.text(chance + 0.02, -0.5, "chance", color=WARM, fontsize=7.5, va="bottom")
    for at, value in enumerate(table["precision"]):
        if np.isfinite(value):
            axes.text(value + 0.015, at, f"{value:.0%}", va="center", fontsize=7.5, color=SOFT)
    axes.set_yticks(np.arange(len(table)), [_shorten_name(str(space)) for space in table["space"]])
    axes.set(
        xlim=(0, 1.12),
        ylim=(len(table) - 0.4, -0.9),
        xticks=[0, 0.5, 1],
        xlabel=f"share of {neighbors.k} neighbors\nof the same condition",
    )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_neighbors(panel: Any, neighbors: Any, sounds: Any, space: str, items: Sequence[str], k: int) -> None:
    grid = panel.subplots(len(items), k + 1, squeeze=False)
    where = {item: at for at, item in enumerate(neighbors.items)}
    taken = getattr(sounds, "front_end", None)
    waves = read_waves(sounds, "plot_neighbors") if taken is None or taken.is_waveform else None

    def draw(axes: Axes, at: int, color: str = INK) -> None:
        if waves is not None:
            draw_wave(axes, waves[at], bins=100, color=color)
            return
        draw_input(axes, *get_input(sounds, at))
        axes.spines[["left", "bottom"]].set(visible=color != INK, color=color, linewidth=2)

    table = neighbors.table[neighbors.table["space"] == space]
    for row, item in zip(grid, items, strict=True):
        found = table[table["item"] == item]
        draw(row[0], where[item])
        row[0].set_title(neighbors.conditions[where[item]], fontsize=7.5, pad=1, loc="center")
        row[0].patch.set_facecolor("#f2ede2")
        for axes, one in zip(row[1:], found.itertuples(), strict=False):
            draw(axes, where[one.neighbor], INK if one.same else WARM)
            axes.set_title(
                str(one.neighbor_condition),
                fontsize=7.5,
                pad=1,
                loc="center",
                fontweight="normal",
                color=INK if one.same else WARM,
            )
    panel.suptitle(f"neighbors in {_shorten_name(space, 36)}", fontsize=8.5, fontweight="bold")


def _shorten_name(name: str, most: int = 20) -> str:
    """Keep the end of a layer's name, where names of one network differ.

    Examples
    --------
    >>> _shorten_name("encoder.layers.11.attention.q_proj")
    '…attention.q_proj'
    """
    if len(name) <= most:
        return name
    kept = name[-most + 1 :]
    return "…" + kept[kept.find(".") + 1 :]
