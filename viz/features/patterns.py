"""Plot patterns that maximize units: waveform and spectrogram, what they reach, and who else recognizes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.checks import check_one_each
from brainmap.viz.features.sounds import (
    draw_pattern,
    draw_wave,
    get_unit_names,
    read_waves,
)
from brainmap.viz.style import (
    ACCENT,
    INK,
    MUTED,
    SOFT,
    WARM,
    Picture,
    with_style,
)

# inches
_LEFT, _CELL, _GAP, _TOP, _BLOCK, _TEXT, _WAVE, _SOUND, _BELOW = 0.56, 1.2, 0.1, 0.36, 0.22, 0.4, 0.26, 0.86, 0.12

_LAST = 0.36  # below the last row of a block, for the axis of time

_PRIORS = {
    "decoder": "by a decoder of speech",
    "audio": "made of noise",
    "none": "without a prior",
}


def describe_patterns(quality: pd.DataFrame | None, n: int) -> list[str]:
    """Say in a few words each what patterns reach, and how many other networks recognize them.

    Parameters
    ----------
    quality : DataFrame, optional
        One row per pattern, with `gain`, `transfer` and `recognized_by` where they were measured.
    n : int
        Number of patterns.

    Examples
    --------
    >>> table = pd.DataFrame({"gain": [4.8, 1.1], "transfer": [0.0, 1.0], "recognized_by": ["", "ch64, vgg"]})
    >>> describe_patterns(table, 2)
    ['gain 4.8, no other network', 'gain 1.1, 2 of 2 networks']
    """
    said: list[list[str]] = [[] for _ in range(n)]
    if quality is None or len(quality) != n:
        return [""] * n
    if "gain" in quality:
        for words, gain in zip(said, pd.to_numeric(quality["gain"], errors="coerce"), strict=True):
            if np.isfinite(gain):
                words.append(f"gain {gain:.2g}")
    if "transfer" in quality and "recognized_by" in quality:
        shares = pd.to_numeric(quality["transfer"], errors="coerce")
        for words, share, names in zip(said, shares, quality["recognized_by"], strict=True):
            count = len([name for name in str(names or "").split(",") if name.strip()])
            if share == 0:
                words.append("no other network")
            elif np.isfinite(share):
                words.append(f"{count} of {round(count / share)} networks")
    return [", ".join(words) for words in said]


@with_style
def plot_maximization(
    am: Any,
    *,
    labels: Sequence[str] | None = None,
    columns: int = 8,
    title: str = "",
    color: str = INK,
) -> Figure:
    """Plot the waveform and log-frequency spectrogram of the pattern that maximizes each unit.

    Below each name stand the gain over the best real sound and the number of other networks that recognize the pattern,
    where they were measured. Patterns of networks on spectrograms are drawn as the network takes them.

    Parameters
    ----------
    am : object with `patterns` (n_units, 1, t) or (n_units, c, h, w), `rate` [Hz] and `units`, or a list of them
        Result of `features.maximize_activation`, or any object with these attributes; patterns of the same units by
        several priors are drawn in blocks, one below the other.
    labels : sequence of str, optional
        One name per unit; by default its `units`.
    columns : int
        Patterns per row.
    title : str
        Title of the figure.
    color : str
        Color of the waveforms.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If patterns have another shape, or the numbers of labels and units differ.

    References
    ----------
    Olah C, Mordvintsev A, Schubert L (2017): doi:10.23915/distill.00007
    """
    blocks = list(am) if isinstance(am, list | tuple) else [am]
    names = [list(labels) if labels is not None else get_unit_names(one) for one in blocks]
    for one, called in zip(blocks, names, strict=True):
        n = len(np.asarray(one.patterns)) if np.ndim(one.patterns) == 4 else len(read_waves(one.patterns, _WHAT))
        check_one_each(called, n, f"{_WHAT}: labels", "patterns")
    columns = min(columns, max(map(len, names)))
    row = _TEXT + _WAVE + _SOUND + _BELOW
    heights = [_BLOCK * (len(blocks) > 1) + row * -(-len(called) // columns) + _LAST for called in names]
    width = max(_LEFT + (_CELL + _GAP) * columns, 2.4, 0.085 * len(title))
    height = _TOP * bool(title) + sum(heights) + 0.05
    figure = Picture(figsize=(width, height))
    top = height - 0.05
    if title:
        figure.text(0.08 / width, top / height, title, fontsize=10, fontweight="bold", va="top")
        top -= _TOP
    for one, called, tall in zip(blocks, names, heights, strict=True):
        start = top
        if len(blocks) > 1:
            said = _PRIORS.get(getattr(one, "prior", ""), "")
            figure.text(_LEFT / width, (start - 0.04) / height, said, fontsize=9, color=SOFT, va="top")
            start -= _BLOCK
        _draw_block(figure, one, called, start=start, columns=columns, color=color)
        top -= tall
    return figure


_WHAT = "plot_maximization"


def _draw_block(figure: Figure, am: Any, names: Sequence[str], *, start: float, columns: int, color: str) -> None:
    """Draw the patterns of one result from `start` [inches from the bottom] downward."""
    width, height = figure.get_size_inches()
    said = describe_patterns(getattr(am, "quality", None), len(names))
    pictures, about = np.ndim(am.patterns) == 4, getattr(am, "axes", None)
    sounds = np.asarray(am.patterns) if pictures else read_waves(am.patterns, _WHAT)

    def place(left: float, bottom: float, tall: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, _CELL / width, tall / height))

    for at, (sound, name, words) in enumerate(zip(sounds, names, said, strict=True)):
        left = _LEFT + (_CELL + _GAP) * (at % columns)
        top = start - (_TEXT + _WAVE + _SOUND + _BELOW) * (at // columns)
        tone = WARM if words.endswith("no other network") else ACCENT if "networks" in words else MUTED
        figure.text(left / width, (top - 0.25) / height, words, fontsize=6.8, color=tone, va="top")
        below = top - _TEXT
        first, last = at % columns == 0, at + columns >= len(names)
        axes = upper = place(left, below - _WAVE - _SOUND, _WAVE * pictures + _SOUND)
        if not pictures:
            upper = place(left, below - _WAVE, _WAVE)
            draw_wave(upper, sound, color=color, bins=120)
        # above the name there is room for a line of words
        upper.set_title(name, fontsize=8.5, fontweight="bold", loc="left", pad=72 * (_TEXT - 0.22))
        draw_pattern(axes, sound, about, float(am.rate), frequency=first, time=last, time_label=first)
