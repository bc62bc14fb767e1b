"""Plot voiced and unvoiced sound: its kind at every moment under a network's attention, and a test for each word."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.viz.features.sounds import (
    draw_spectrogram,
    draw_wave,
    read_waves,
)
from brainmap.viz.features.spectrograms import add_seconds
from brainmap.viz.style import (
    ACCENT,
    INK,
    MUTED,
    SOFT,
    WARM,
    Picture,
    add_headline,
    strip_axes,
    with_style,
)

COLORS = {"voiced": "#7fb3bf", "unvoiced": "#efb27a", "silent": "#e9edf0"}

_ALPHA = 0.05


def _find_stretches(kinds: NDArray[np.int8]) -> list[tuple[int, int, int]]:
    """Return first frame, frame after the last, and kind of every stretch of one kind."""
    edges = np.r_[0, np.flatnonzero(np.diff(kinds)) + 1, len(kinds)]
    return [(int(a), int(b), int(kinds[a])) for a, b in itertools.pairwise(edges)]


def draw_kinds(axes: Axes, voicing: Any, item: int) -> None:
    """Draw a strip that shows the kind of sound at each moment, over time from 0 to 1."""
    kinds = voicing.kinds[item]
    for first, after, kind in _find_stretches(kinds):
        axes.axvspan(first / len(kinds), after / len(kinds), color=COLORS[voicing.names[kind]], lw=0)
    strip_axes(axes).set(xlim=(0, 1), ylim=(0, 1))


def _draw_example(figure: Any, sounds: Any, found: Any, item: int, *, first: bool) -> None:
    wave = read_waves(sounds, "plot_voiced_attention")[item]
    rows = figure.subplots(4, 1, height_ratios=[0.7, 1.3, 0.25, 0.9], gridspec_kw={"hspace": 0.06})
    upper, middle, strip, lower = rows
    draw_wave(upper, wave)
    upper.set_title(str(found.voicing.conditions[item]), fontsize=9, pad=2)
    draw_spectrogram(middle, wave, float(found.voicing.rate))
    draw_kinds(strip, found.voicing, item)
    mass = found.mass[item] / max(float(found.mass[item].max()), 1e-30)
    for start, after, kind in _find_stretches(found.voicing.kinds[item]):
        at = np.arange(start, after + 1) / len(mass)
        lower.fill_between(
            at, np.r_[mass[start:after], mass[after - 1]], step="post", lw=0, color=COLORS[found.voicing.names[kind]]
        )
    lower.step((np.arange(len(mass) + 1)) / len(mass), np.r_[mass, mass[-1]], where="post", color=INK, lw=0.8)
    strip_axes(lower).set(xlim=(0, 1), ylim=(0, 1.05))
    add_seconds(lower, found.voicing.n_samples / found.voicing.rate, width=1.0)
    if first:
        for axes, text in zip(rows, ("wave", "spectrum", "kind", "map"), strict=True):
            axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=7.5, color=SOFT)


def _draw_effects(axes: Axes, found: Any) -> None:
    table = found.words[found.words["n"] > 0].sort_values("effect", ascending=False)
    at = np.arange(len(table))
    axes.axhline(0, color=MUTED, lw=0.8)
    sure = table["p_corrected"].to_numpy() < _ALPHA
    shade = np.where(table["effect"] > 0, WARM, ACCENT)
    axes.vlines(at, table["low"], table["high"], color=shade, lw=1.6, alpha=0.75)
    inside = np.where(sure, shade, "white")
    axes.scatter(at, table["effect"], s=26, c=inside, edgecolors=shade.tolist(), linewidths=1.3, zorder=3)
    names = [f"{word}\n{n}" for word, n in zip(table["word"], table["n"], strict=True)]
    axes.set_xticks([*at, len(at) + 0.5], [*names, "all\nwords"])
    edge = WARM if found.effect > 0 else ACCENT
    axes.scatter(
        [len(at) + 0.5],
        [found.effect],
        s=44,
        marker="D",
        c=edge if found.p < _ALPHA else "white",
        edgecolors=edge,
        linewidths=1.3,
        zorder=3,
    )
    expected = "energy predicts" if found.energy else "as many frames hold"
    axes.set(xlim=(-0.7, len(at) + 1.2), ylabel=f"share on {found.kind} sound\nless what {expected}")
    axes.set_xlabel("word, and clips that took part", color=SOFT)
    axes.set_title(f"{found.source}: over all words {found.effect:+.3f}, p = {found.p:.2g}", loc="left")
    axes.text(
        1,
        1.02,
        "filled: p < .05, corrected over words; bars: 95 % over clips",
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=7.5,
        color=MUTED,
    )


@with_style
def plot_voiced_attention(sounds: Any, found: Any, *, items: Sequence[int] | None = None, title: str = "") -> Figure:
    """Plot where a network attends in words, by voiced and unvoiced sound, and the tested effect for every word.

    The upper part shows waveform, spectrogram, kind of sound and the map's positive part in each frame. The lower part
    shows the share of the map on a kind of sound minus the expected share; above zero, the network attends to this
    kind more than expected.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t)
    found : VoicedAttention
        Result for the same sounds.
    items : sequence of int, optional
        Rows to show; by default one of each of up to 5 words, chosen by the number of frames of the kind.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the numbers of sounds and maps differ.
    """
    n = len(read_waves(sounds, "plot_voiced_attention"))
    if n != len(found.mass):
        raise InputError(f"plot_voiced_attention: expected {len(found.mass)} sounds, one per map, got {n}")
    chosen = list(items) if items is not None else _choose_examples(found)
    figure = Picture(figsize=(10, 6.2 if title else 5.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.15, 1], squeeze=False).ravel()
    widths = [1.25] + [1] * (len(chosen) - 1)  # the first panel has labels
    cells = above.subfigures(1, len(chosen), squeeze=False, width_ratios=widths).ravel()
    for number, (cell, item) in enumerate(zip(cells, chosen, strict=True)):
        _draw_example(cell, sounds, found, item, first=number == 0)
    patches = [Patch(color=color, label=name) for name, color in COLORS.items()]
    above.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    _draw_effects(below.subplots(), found)
    return add_headline(figure, title)


def _choose_examples(found: Any, most: int = 5) -> list[int]:
    """Return one clip of each word that was tested, words with most frames of the kind first."""
    count = found.voicing.of(found.kind).sum(axis=1)
    took_part = found.clips["effect"].notna().to_numpy()
    best: dict[str, int] = {}
    for item in np.argsort(-count, kind="stable"):
        if took_part[item]:
            best.setdefault(found.voicing.conditions[item], int(item))
    return list(best.values())[:most]
