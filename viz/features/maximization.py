"""Plot patterns that maximize units, and how they differ: saturation, patterns across networks, and metamers."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.errors import InputError
from brainmap.viz.features.sounds import draw_pattern, draw_wave
from brainmap.viz.style import (
    ACCENT,
    HAIRLINE,
    INK,
    MUTED,
    SOFT,
    WARM,
    Picture,
    add_color_bar,
    add_headline,
    get_colormap,
    strip_axes,
    with_style,
)

NETWORKS = (INK, ACCENT, WARM, "#8a6d1f", "#6b4c8a", "#4d7c4f")


@with_style
def plot_softmax_saturation(found: Any, *, title: str = "") -> Figure:
    """Plot ascents on the softmax and on the logit, and the patterns at which they end.

    The ascent on the softmax stops when the probability reaches 1; the logit, on a logarithmic axis, climbs on.

    Parameters
    ----------
    found : SoftmaxSaturation
        Result of `features.softmax_saturation`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Thin lines are classes, the thick line is their mean (of logits, the geometric mean of those above 0.1). Right,
        the two patterns of the first class.
    """
    figure = Picture(figsize=(10.8, 3.4), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=[1.15, 1.15, 1])
    left, right = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[:, 1])
    kinds = (("maximizing the softmax", WARM), ("maximizing the logit", ACCENT))
    for axes, values, name in ((left, found.probability, "probability of the class"), (right, found.logit, "logit")):
        steps = np.arange(1, values.shape[1] + 1)
        for trace, (kind, color) in zip(values, kinds, strict=True):
            shown = np.maximum(trace, _LOWEST_LOGIT) if axes is right else trace
            if trace.shape[1] > 1:
                axes.plot(steps, shown, color=color, lw=0.5, alpha=0.35)
            mean = np.exp(np.log(shown).mean(axis=1)) if axes is right else shown.mean(axis=1)
            axes.plot(steps, mean, color=color, lw=2, label=kind)
        axes.set(xlabel="step", ylabel=name, xlim=(1, max(2, steps[-1])))
    left.set_ylim(-0.02, 1.04)
    right.set_yscale("log")
    for row, (kind, color) in enumerate(kinds):
        _draw_ended(figure.add_subplot(grid[row, 2]), found, row, f"{found.class_names[0]}, {kind}", color)
    full, ends = int((found.probability[0, -1] >= 0.999).sum()), found.logit[:, -1].mean(axis=1)
    left.set_title(f"by softmax, {full} of {len(found.class_names)} classes end at 1", fontsize=9)
    right.set_title(f"logit at the end: {ends[0]:,.0f} by softmax, {ends[1]:,.0f} by logit", fontsize=9)
    right.legend(loc="lower right", frameon=False)
    return add_headline(figure, title)


_LOWEST_LOGIT = 0.1  # lower logits lie at the foot of the logarithmic axis


def _draw_ended(axes: Axes, found: Any, row: int, words: str, color: str) -> None:
    """Draw the pattern of the first class at which one ascent ends, with its axes of time and frequency."""
    draw_pattern(axes, np.asarray(found.patterns[row, 0]), found.axes, float(found.rate), time_label=row == 1)
    axes.set_title(words, fontsize=8, color=color)


@with_style
def plot_pattern_comparison(found: Any, *, title: str = "") -> Figure:
    """Plot patterns of the same classes across networks: their similarity, spectra and noisiness.

    Parameters
    ----------
    found : PatternComparison
        Result of `features.compare_patterns`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        The matrix has one block per pair of networks; a dark diagonal in a block means that both networks prefer the
        same spectrum for the same class. Dots are classes, bars are their means.
    """
    n = len(found.class_names)
    figure = Picture(figsize=(10.4, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 4, width_ratios=[2.9, 1, 1, 1], height_ratios=[1.25, 1])
    _draw_similarity(figure, figure.add_subplot(grid[:, 0]), found, n)
    _draw_spectra(figure.add_subplot(grid[0, 1:]), found)
    measures = (
        ("flatness", "flatness\n(1: white noise)"),
        ("above_4khz", "power above\n4 kHz"),
        ("tonal_share", "power in\ntonal lines"),
    )
    for column, (name, label) in enumerate(measures, start=1):
        _draw_strip(figure.add_subplot(grid[1, column]), found, name, label)
    return add_headline(figure, title)


def _draw_similarity(figure: Figure, axes: Axes, found: Any, n: int) -> None:
    image = strip_axes(axes).imshow(found.similarity, cmap=get_colormap("signed"), vmin=-1, vmax=1)
    for edge in range(n, n * len(found.networks), n):
        axes.axhline(edge - 0.5, color="white", lw=2)
        axes.axvline(edge - 0.5, color="white", lw=2)
    centers = np.arange(len(found.networks)) * n + (n - 1) / 2
    axes.set_xticks(centers, found.networks)
    axes.set_yticks(centers, found.networks, rotation=90, va="center")
    axes.tick_params(length=0)
    said = ", ".join(f"{r.one}-{r.other} {r.same_class:.2f}" for r in found.pairs.itertuples())
    axes.set_title(f"similarity of spectra, {n} classes a network", fontsize=9)
    axes.set_xlabel(f"same class: {said}", color=SOFT, fontsize=7.5)
    add_color_bar(
        figure,
        image,
        axes,
        "correlation of band levels",
        fontsize=7.5,
        location="bottom",
        shrink=0.6,
        aspect=24,
        pad=0.02,
    )


def _draw_spectra(axes: Axes, found: Any) -> None:
    for color, name, profiles in zip(NETWORKS * 3, found.networks, found.profiles, strict=False):
        mean, spread = profiles.mean(axis=0), profiles.std(axis=0)
        axes.fill_between(found.frequencies, mean - spread, mean + spread, color=color, alpha=0.12, lw=0)
        axes.plot(found.frequencies, mean, color=color, lw=1.8, label=name)
    axes.set_xscale("log")
    marks = [m for m in (100, 300, 1000, 3000, 7000) if found.frequencies[0] <= m <= found.frequencies[-1]]
    axes.set_xticks(marks, [f"{m / 1000:g}k" if m >= 1000 else str(m) for m in marks])
    axes.minorticks_off()
    axes.set(
        xlim=(found.frequencies[0], found.frequencies[-1]), xlabel="frequency [Hz]", ylabel="level [dB re. own mean]"
    )
    axes.set_title("mean spectrum of a network's patterns (band: SD over classes)", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_strip(axes: Axes, found: Any, measure: str, label: str) -> None:
    for at, (color, name) in enumerate(zip(NETWORKS * 3, found.networks, strict=False)):
        values = found.table.loc[found.table["network"] == name, measure].to_numpy(dtype=float)
        aside = np.linspace(-0.22, 0.22, len(values))
        axes.scatter(at + aside, values, s=9, color=color, alpha=0.55, lw=0)
        axes.plot([at - 0.3, at + 0.3], [np.nanmean(values)] * 2, color=color, lw=2)
    axes.set_xticks(range(len(found.networks)), found.networks)
    axes.set(xlim=(-0.6, len(found.networks) - 0.4), ylim=(0, None))
    axes.set_title(label.replace("\n", " "), fontsize=8.5)


@with_style
def plot_metamers(found: Any, *, columns: int = 6, title: str = "") -> Figure:
    """Plot sounds over their metamers, and how similar a layer finds them compared with all other sounds.

    Parameters
    ----------
    found : Metamers
        Result of `features.match_activation`.
    columns : int
        Largest number of sounds shown.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the sounds are not waveforms.
    """
    if found.patterns.ndim not in (3, 4):
        raise InputError(f"plot_metamers: expected sounds (n, 1, t) or spectrograms, got {found.patterns.shape}")
    shown, with_wave = min(columns, len(found.items)), found.patterns.ndim == 3
    width = max(1.5 * shown, 4.5) if with_wave else max(1.9 * shown, 4.8)
    figure = Picture(figsize=(width, 5.4), layout="constrained")
    heights = [0.35, 1, 0.35, 1, 1.1] if with_wave else [1, 1, 0.9]
    grid = figure.add_gridspec(len(heights), shown, height_ratios=heights)
    kinds = (("sound", found.references, "label", INK), ("metamer", found.patterns, "label_of_metamer", WARM))
    for at in range(shown):
        for k, (kind, sounds, label, color) in enumerate(kinds):
            panels = [figure.add_subplot(grid[row, at]) for row in ((2 * k, 2 * k + 1) if with_wave else (k,))]
            upper, lower = panels[0], panels[-1]
            if with_wave:
                draw_wave(upper, np.asarray(sounds[at, 0]), color=color, bins=120)
            upper.set_title(f"heard as {found.table[label].iloc[at]}", fontsize=7.5, fontweight="normal", pad=1)
            about = getattr(found, "axes", None)
            draw_pattern(lower, sounds[at], about, found.rate, frequency=at == 0, time=k == 1 and not with_wave)
            if at == 0:
                lower.set_ylabel(f"{kind}\n{lower.get_ylabel()}", fontsize=8, color=color)
    _draw_null(figure.add_subplot(grid[-1, :]), found)
    return add_headline(figure, title)


def _draw_null(axes: Axes, found: Any) -> None:
    for at, (null, own) in enumerate(zip(found.null, found.table["correlation"], strict=True)):
        names = ("other sounds", "metamer") if at == 0 else (None, None)
        axes.scatter(np.full(len(null), at), null, s=5, color=MUTED, alpha=0.4, lw=0, label=names[0])
        axes.scatter([at], [own], s=34, color=WARM, marker="D", lw=0, label=names[1])
    axes.axhline(0, color=HAIRLINE, lw=0.8, zorder=0)
    axes.set_xticks(
        range(len(found.items)),
        [str(i) for i in found.items],
        rotation=30 if len(found.items) > 4 else 0,
        ha="right" if len(found.items) > 4 else "center",
    )
    axes.set(xlim=(-0.6, len(found.items) - 0.4), ylim=(None, 1.06), ylabel=f"correlation of\n{found.layer}")
    kept = int(found.table["matched"].sum())
    said = f"{kept} of {len(found.items)} metamers are nearer than any other sound and keep their label"
    axes.set_title(fill(said, max(36, 16 * len(found.items))), fontsize=8.5)
    axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
