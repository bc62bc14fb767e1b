"""Plot what layers say of conditions: units of every layer, sounds as points, and acoustic models of one sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.viz.features.sounds import read_waves
from brainmap.viz.style import (
    INK,
    MUTED,
    SOFT,
    Picture,
    add_color_bar,
    add_headline,
    get_colormap,
    make_panels,
    strip_axes,
    with_style,
)


def sort_by_condition(values: NDArray[np.floating], conditions: list[str]) -> tuple[NDArray[np.float64], list[str]]:
    """Z-score the condition means of units `(n_items, n_units)`, sorted by the condition they prefer.

    Returns
    -------
    scores, names : array `(n_conditions, n_units)` and list of str
        Units with constant activation are left out.

    Examples
    --------
    >>> scores, names = sort_by_condition(np.array([[0.0, 3.0, 1.0], [2.0, 1.0, 1.0]]), ["a", "b"])
    >>> scores.tolist(), names
    ([[1.0, -1.0], [-1.0, 1.0]], ['a', 'b'])
    """
    names = list(dict.fromkeys(conditions))
    rows = np.asarray(conditions)
    flat = np.asarray(values, dtype=float).reshape(len(values), -1)
    means = np.stack([flat[rows == name].mean(axis=0) for name in names])
    spread = means.std(axis=0)
    alive = spread > 1e-12 * np.maximum(np.abs(means).max(axis=0), 1e-30)
    scores = (means[:, alive] - means[:, alive].mean(axis=0)) / spread[alive]
    best = scores.argmax(axis=0)
    return scores[:, np.lexsort((-scores.max(axis=0), best))], names


@with_style
def plot_activations(acts: Any, *, columns: int = 3, most: int = 2000, title: str = "") -> Figure:
    """Plot mean activation of every layer's units for every condition, z-scored over conditions.

    Units (from left to right) are sorted by the condition they prefer. A layer whose units distinguish the conditions
    shows a warm staircase on a pale ground; broad bands are units that respond to what many conditions share, such as
    their loudness.

    Parameters
    ----------
    acts : object with `layers`, `conditions`, `network` and arrays `acts[layer]` (n_items, ...)
        Activations as `features.extract_activations` returns them.
    columns : int
        Layers per row.
    most : int
        Largest number of units shown per layer; they are evenly spaced if the layer has more.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there is only one condition.
    """
    conditions = [str(c) for c in acts.conditions]
    n = len(set(conditions))
    if n < 2:
        raise InputError(f"plot_activations: expected two conditions or more to compare, got {n}")
    layers = list(acts.layers)
    height = 0.51 + 0.085 * min(max(n, 6), 30)
    figure, grid = make_panels(len(layers), columns, cell=(2.9, height), around=(0.9, 0.7))
    for axes, layer in zip(grid.ravel(), layers, strict=False):
        values = np.asarray(acts[layer]).reshape(len(conditions), -1)
        units = values.shape[1]
        if units > most:
            values = values[:, np.linspace(0, units - 1, most).astype(int)]
        scores, names = sort_by_condition(values, conditions)
        image = strip_axes(axes).imshow(
            scores, cmap=get_colormap("signed"), vmin=-3, vmax=3, aspect="auto", interpolation="nearest"
        )
        dead = values.shape[1] - scores.shape[1]
        axes.set_title(f"{layer}  ", fontsize=8.5, loc="left", pad=2)
        axes.set_title(
            f"{units} units" + (f", {dead} never differ" if dead else ""),
            fontsize=7,
            loc="right",
            pad=2,
            color=MUTED,
            fontweight="normal",
        )
    if n <= 24:
        for axes in grid[:, 0]:
            axes.set_yticks(range(n), names, fontsize=max(4.5, min(6.5, 70 / n)))
            axes.tick_params(length=0)
    label = "mean activation, z-scored over conditions"
    add_color_bar(figure, image, grid, label, shrink=0.6, aspect=24, pad=0.015)
    figure.supxlabel("units, sorted by the condition they prefer", fontsize=8.5, color=SOFT)
    return add_headline(figure, title or f"{acts.network}: what every layer says to every condition")


SHORTEST_S = 0.5


def _draw_picture(axes: Axes, values: NDArray[Any], seconds: float, label: str, *, quantity: str = "sound") -> Any:
    limit = float(np.abs(values).max())
    low, high = (-limit, limit) if quantity == "signed" else (None, None)
    image = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap=get_colormap(quantity),
        interpolation="nearest",
        extent=(0, seconds, -0.5, len(values) - 0.5),
        vmin=low,
        vmax=high,
    )
    axes.set_ylabel(label)
    return image


def _add_ticks(axes: Axes, centers: NDArray[np.float64], hertz: tuple[int, ...]) -> None:
    at = [float(np.interp(h, centers, np.arange(len(centers)))) for h in hertz]
    axes.set_yticks(at, [f"{h / 1000:g}k" if h >= 1000 else str(h) for h in hertz])


def _draw_modulation(axes: Axes, found: NDArray[np.float32]) -> Any:
    """Plot downward sweeps on the left and upward sweeps on the right."""
    from brainmap.features.sounds.cochlea import RATES, SCALES

    both = np.concatenate([found[0, ::-1], found[1]]).T
    image = axes.imshow(both, origin="lower", aspect="auto", cmap=get_colormap("sound"), vmin=0)
    rates = [f"{r:g}" for r in RATES]
    axes.set_xticks(range(len(both[0])), [*rates[::-1], *rates])
    axes.set_yticks(range(len(SCALES)), [f"{s:g}" for s in SCALES])
    axes.axvline(len(RATES) - 0.5, color="white", lw=2)
    axes.set(xlabel="falling  ←  rate [Hz]  →  rising", ylabel="scale [cycles/octave]")
    return image


@with_style
def plot_acoustics(wave: Any, *, rate: int, title: str = "") -> Figure:
    """Plot a sound's waveform envelope, mel spectrogram, MFCCs, cochleagram and modulation spectrum.

    Parameters
    ----------
    wave : array (t,) or (1, 1, t)
        The waveform, at least half a second long.
    rate : int [Hz]
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the input is not one waveform, or is too short.
    """
    from brainmap.features.activations import acoustics
    from brainmap.features.sounds import cochlea

    sound = read_waves(wave, "plot_acoustics")[:1]
    if sound.shape[1] < SHORTEST_S * rate:
        raise InputError(f"plot_acoustics: expected a sound of {SHORTEST_S:g} s or more, got {sound.shape[1]} samples")
    seconds = sound.shape[1] / rate
    figure = Picture(figsize=(10, 5.2), layout="constrained")
    (a, b, c), (d, e, f) = figure.subplots(2, 3)
    t = np.arange(sound.shape[1]) / rate
    peak = float(np.abs(sound).max()) or 1.0
    a.plot(t, sound[0] / peak, color="#b9c6cd", lw=0.4)
    a.set(xlim=(0, seconds), ylim=(-1.05, 1.05), yticks=[-1, 0, 1], title="waveform", ylabel="amplitude / peak")
    envelope = cochlea.compute_waveform_envelope(sound, rate=rate)[0, 0] / peak
    b.fill_between(np.arange(len(envelope)) / cochlea.ENVELOPE_HZ, envelope, color=INK, lw=0)
    b.set(xlim=(0, seconds), ylim=(0, None), title="waveform-envelope", ylabel="amplitude / peak")
    mel = acoustics.mel_spectrogram(sound, rate=rate)[0]
    image = _draw_picture(c, mel, seconds, "mel band")
    c.set_title("mel-spectrogram")
    figure.colorbar(image, ax=c, label="level [dB]", aspect=18)
    cepstrum = acoustics.mfcc(sound, rate=rate)[0, 1:]
    image = _draw_picture(d, cepstrum - cepstrum.mean(axis=1, keepdims=True), seconds, "coefficient", quantity="signed")
    d.set_yticks([0, 5, 11], ["1", "6", "12"])
    d.set_title("mfcc, less their mean")
    figure.colorbar(image, ax=d, label="weight [dB]", aspect=18)
    image = _draw_picture(e, cochlea.compute_subband_envelopes(sound, rate=rate)[0], seconds, "center [Hz]")
    _add_ticks(
        e, cochlea.compute_erb_centers(30, rate=rate), (100, 500, 2000) if rate < 12_000 else (100, 500, 2000, 6000)
    )
    e.set_title("cochleagram")
    figure.colorbar(image, ax=e, label="envelope$^{\\,0.3}$", aspect=18)
    image = _draw_modulation(f, cochlea.compute_modulation_spectrum(sound, rate=rate)[0])
    f.set_title("modulation")
    figure.colorbar(image, ax=f, label="RMS", aspect=18)
    for axes in (a, b, c, d, e):
        axes.set_xlabel("time [s]", color=SOFT)
    return add_headline(figure, title)


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
    figure, grid = make_panels(len(listed), columns, cell=(2.75, 2.85), around=(0.3, 0.75))
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
