"""Plot what maps, patterns and networks are worth: deletion, randomization, localization, other networks as judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.checks import list_some, refuse_some
from brainmap.errors import InputError
from brainmap.viz.features.sounds import add_hertz_ticks, draw_spectrogram, draw_wave, read_waves
from brainmap.viz.features.spectrograms import add_seconds
from brainmap.viz.style import ACCENT, HAIRLINE, INK, MUTED, SOFT, WARM, Picture, add_headline, make_axes, with_style

_LINES = ("#0f6578", "#c04a22", "#7a5195", "#c79a1e", "#3f7fb5", "#5b8c3a", "#82182b", "#7b8794")
_BASE = {"whole": "#c9d0d6", "loudness": "#9aa5b1"}


def _assign_colors(names: Sequence[str], what: str) -> dict[str, str]:
    distinct = list(dict.fromkeys(names))
    if not 1 <= len(distinct) <= len(_LINES):
        raise InputError(f"{what}: expected 1 to {len(_LINES)} methods, got {len(distinct)}; leave some out")
    return dict(zip(distinct, _LINES, strict=False))


def _draw_course(
    axes: Axes, x: NDArray[Any], courses: NDArray[Any], color: str, label: str, dashed: bool = False
) -> None:
    middle = courses.mean(axis=0)
    spread = 1.96 * courses.std(axis=0, ddof=1) / np.sqrt(len(courses)) if len(courses) > 1 else 0 * middle
    axes.fill_between(x, middle - spread, middle + spread, color=color, alpha=0.15, lw=0)
    axes.plot(x, middle, color=color, lw=1.2 if dashed else 1.8, ls=(0, (3, 2)) if dashed else "-", label=label)


@with_style
def plot_deletion(results: Mapping[str, Any], *, title: str = "") -> Figure:
    """Plot deletion and insertion curves of several methods against random orders.

    With a faithful map, the class score falls early under deletion and rises early under insertion. Lines are means
    over sounds, bands are 95 % intervals, and the number after a name is the area under its curve.

    Parameters
    ----------
    results : mapping of str to Curves, or to a sequence of Curves
        Results of `features.deletion_curves` for each method, for one order or both.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there are no curves, too many methods to distinguish, or scores of different kinds in one panel.
    """
    listed = [
        (name, one)
        for name, found in results.items()
        for one in (found if isinstance(found, list | tuple) else [found])
    ]
    colors = _assign_colors([name for name, _ in listed], "plot_deletion")
    orders = [order for order in ("deletion", "insertion") if any(c.order == order for _, c in listed)]
    kinds = {(c.score, c.fill) for _, c in listed}
    if len(kinds) > 1:
        raise InputError(
            f"plot_deletion: expected curves of one score and fill, got {list_some(sorted(map(str, kinds)))}"
        )
    ((score, fill),) = kinds
    filled = {"zeros": "silence", "noise": "noise", "mean": "the local mean"}[fill]
    figure, grid = make_axes((0.6 + 4.1 * len(orders), 3.9), 1, len(orders), sharey=True)
    for axes, order in zip(grid[0], orders, strict=True):
        mine = [(name, c) for name, c in listed if c.order == order]
        random = np.mean([c.random.mean(axis=1) for _, c in mine], axis=0)
        _draw_course(
            axes, mine[0][1].fractions, random, MUTED, f"random order  {mine[0][1].random_auc.mean():.2f}", True
        )
        for name, curves in mine:
            _draw_course(
                axes, curves.fractions, curves.scores.mean(axis=1), colors[name], f"{name}  {curves.auc.mean():.2f}"
            )
        better = "lower is better" if order == "deletion" else "higher is better"
        axes.set_title(f"{order.capitalize()} ({better})", fontsize=9.5, loc="left")
        how = f"replaced by {filled}" if order == "deletion" else f"put back into {filled}"
        axes.set(xlabel=f"share {how}", xlim=(0, 1))
        if score == "probability":  # an interval may reach beyond 0 and 1, a probability cannot
            axes.set_ylim(0, 1)
        axes.legend(
            fontsize=7,
            frameon=False,
            title="area under the curve",
            title_fontsize=7,
            loc="upper right" if order == "deletion" else "lower right",
        )
    figure.axes[0].set_ylabel(f"{score} of the class")
    return add_headline(figure, title or "Do maps mark what the class depends on?")


@with_style
def plot_randomization(results: Sequence[Any], *, title: str = "") -> Figure:
    """Plot how similar maps remain while layers are randomized from the top to the bottom.

    A method whose line stays high reflects the sound more than the network. Bands reach from the 5th to the 95th
    percentile over sounds.

    Parameters
    ----------
    results : sequence of Randomization
        Results of `features.cascading_randomization` for one network, one per method.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there are no results, or they have different layers.
    """
    results = list(results)
    colors = _assign_colors([one.method for one in results], "plot_randomization")
    if len({one.layers for one in results}) > 1:
        raise InputError(
            "plot_randomization: expected networks with the same layers, got different ones; draw them one by one"
        )
    layers = ["trained", *results[0].layers]
    figure, [[axes]] = make_axes((max(5.0, 1.6 + 0.55 * len(layers)), 3.8))
    at = np.arange(len(layers))
    axes.axhline(0, color=SOFT, lw=0.6)
    for one in results:
        low, middle, high = (np.r_[1, one.table[column]] for column in ("low", "correlation", "high"))
        axes.fill_between(at, low, high, color=colors[one.method], alpha=0.12, lw=0)
        axes.plot(at, middle, "o-", ms=3.5, lw=1.6, color=colors[one.method], label=one.method)
    axes.set_xticks(at, layers, rotation=40, ha="right")
    axes.set(
        xlim=(-0.2, len(layers) - 0.8),
        ylim=(min(-0.25, axes.get_ylim()[0]), 1.03),
        xlabel="drawn anew, together with all layers to the left",
        ylabel="rank correlation with the\nmap of the trained network",
    )
    axes.legend(
        fontsize=7.5, frameon=False, loc="upper right", title="band: 5th to 95th percentile of sounds", title_fontsize=7
    )
    return add_headline(figure, title or "What is left of maps when the network forgets")


@with_style
def plot_localization(
    sounds: Any, table: pd.DataFrame, *, items: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """Plot where words are and where networks locate them: some sounds, and the errors of all sounds.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t), `rate` [Hz], `items`, `conditions`
    table : DataFrame
        Result of `features.localize` for these sounds.
    items : sequence of int, optional
        Sounds to show; by default four, spread over the set.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the table lacks a sound.
    """
    chosen = list(items) if items is not None else list(np.linspace(0, len(sounds.items) - 1, 4).astype(int))
    missing = [sounds.items[i] for i in chosen if sounds.items[i] not in set(table["stimulus_id"])]
    refuse_some(missing, "plot_localization: the table has no rows of ", most=4)
    pairs = list(table[["network", "method"]].drop_duplicates().itertuples(index=False, name=None))
    methods = [method for _, method in pairs if method not in _BASE]
    colors = _assign_colors(methods, "plot_localization") | _BASE
    names = [method if network == "none" else f"{network}  {method}" for network, method in pairs]
    audio = read_waves(sounds, "plot_localization")
    seconds = audio.shape[1] / sounds.rate
    rows = 0.19 * len(pairs)
    figure = Picture(figsize=(10, 1.9 + 2.1 * rows + 0.9), layout="constrained")
    grid = figure.add_gridspec(3, 12, height_ratios=[0.6, rows, 1.1 * rows + 0.4])
    span = 12 // max(len(chosen), 1)
    for column, item in enumerate(chosen):
        upper = figure.add_subplot(grid[0, column * span : (column + 1) * span])
        lower = figure.add_subplot(grid[1, column * span : (column + 1) * span])
        mine = table[table["stimulus_id"] == sounds.items[item]]
        truth = (float(mine["start_s"].iloc[0]), float(mine["end_s"].iloc[0]))
        draw_wave(upper, audio[item], color=INK)
        upper.axvspan(truth[0] / seconds, truth[1] / seconds, color="#f0d9b5", lw=0, zorder=0)
        upper.set_title(f"“{sounds.conditions[item]}”", fontsize=9)
        _draw_found(lower, mine, pairs, colors, truth, seconds)
        lower.set_yticks(range(len(pairs)), names if column == 0 else [""] * len(pairs), fontsize=7)
    _draw_errors(figure, grid, table, pairs, names, colors)
    return add_headline(figure, title)


def _draw_found(
    axes: Axes,
    mine: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    colors: Mapping[str, str],
    truth: tuple[float, float],
    seconds: float,
) -> None:
    axes.axvspan(*truth, color="#f0d9b5", lw=0, zorder=0)
    for row, (network, method) in enumerate(pairs):
        one = mine[(mine["network"] == network) & (mine["method"] == method)].iloc[0]
        width = one["found_end_s"] - one["found_start_s"]
        axes.barh(row, width, left=one["found_start_s"], height=0.62, color=colors[method], lw=0)
    axes.set(xlim=(0, seconds), ylim=(len(pairs) - 0.5, -0.5))
    axes.set_xlabel("time [s]", fontsize=7.5)
    axes.tick_params(labelsize=7)


def _draw_errors(
    figure: Figure,
    grid: Any,
    table: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    names: Sequence[str],
    colors: Mapping[str, str],
) -> None:
    parts = [table[(table["network"] == network) & (table["method"] == method)] for network, method in pairs]
    shades = [colors[method] for _, method in pairs]
    left, right = figure.add_subplot(grid[2, :6]), figure.add_subplot(grid[2, 6:])
    error = [100 * (1 - part["hit"].mean()) for part in parts]
    left.barh(range(len(pairs)), error, height=0.62, color=shades, lw=0)
    for row, value in enumerate(error):
        left.text(value + 1, row, f"{value:.0f}", va="center", fontsize=7, color=SOFT)
    left.set(xlim=(0, 108), ylim=(len(pairs) - 0.5, -0.5))
    left.set_yticks(range(len(pairs)), names, fontsize=7)
    left.set_xlabel("localization error [% of sounds with IoU below .5]", fontsize=8)
    drawn = right.boxplot(
        [part["error_ms"] for part in parts],
        orientation="horizontal",
        positions=range(len(pairs)),
        widths=0.6,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": INK},
        whiskerprops={"color": SOFT, "lw": 0.8},
        capprops={"color": SOFT, "lw": 0.8},
    )
    for box, shade in zip(drawn["boxes"], shades, strict=True):
        box.set(facecolor=shade, alpha=0.75, edgecolor=SOFT, lw=0.6)
    right.set(ylim=(len(pairs) - 0.5, -0.5), xlim=(0, None))
    right.set_yticks(range(len(pairs)), [""] * len(pairs))
    right.set_xlabel("distance of start and end from the true ones [ms]", fontsize=8)
    for axes in (left, right):
        axes.tick_params(labelsize=7)


@with_style
def plot_predicted_sounds(found: Any, sounds: Any, *, title: str = "") -> Figure:
    """Plot for each region the sound that it is predicted to want, the best real sound, and what judges say of them.

    Parameters
    ----------
    found : RegionSounds
        Result of `features.maximize_regions`.
    sounds : Sounds
        The real sounds.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        One row for each region. Bars are in standard deviations of predictions over the real sounds; the prediction of
        the climbed model is a line, because ascent climbs its errors too.
    """
    table = found.table
    waves = read_waves(found.am.patterns, "plot_predicted_sounds")
    figure, grid = make_axes((8.6, 0.75 + 1.45 * len(table)), len(table), 3, width_ratios=[1.6, 1.6, 1.5])
    places = {str(item): at for at, item in enumerate(sounds.items)}
    rate = float(found.am.rate)
    for row, (line, wave) in enumerate(zip(grid, waves, strict=True)):
        one = table.iloc[row]
        add_hertz_ticks(line[0], draw_spectrogram(line[0], wave, rate), "frequency [Hz]")
        line[0].set_title(f"{one['region']}: predicted sound", fontsize=8.5, loc="left")
        real = sounds.take([places[str(one["best_real_sound"])]])
        draw_spectrogram(line[1], read_waves(real, "plot_predicted_sounds")[0], float(real.rate))
        line[1].set_title(f"best real sound: {one['best_real_sound']}", fontsize=8.5, loc="left")
        draw_values(line[2], one)
        if row == len(table) - 1:
            add_seconds(line[0], wave.size / rate)
            add_seconds(line[1], real.n_samples / real.rate)
            line[2].set_xlabel("predicted response [SD over real sounds]", fontsize=7.5, color=SOFT)
    return add_headline(figure, title)


def draw_values(axes: Axes, one: Any) -> None:
    """Draw the judged value of the predicted sound, the best real and the best random one, and the prediction."""
    names = ("judged", "best_real", "best_random")
    values = [float(one[name]) for name in names]
    axes.barh(range(3), values, color=[WARM, ACCENT, MUTED], height=0.6)
    axes.set_yticks(range(3), ["predicted sound,\njudged", "best real", "best random"], fontsize=7)
    predicted = float(one["predicted"])
    top = max([*values, 0.5]) * 1.3
    if predicted <= top * 2:
        axes.plot([predicted] * 2, [-0.42, 0.42], color=INK, lw=1.8)
        top = max(top, predicted * 1.1)
    axes.text(1.0, 1.02, f"its own model: {predicted:.1f}", transform=axes.transAxes, fontsize=7, ha="right", color=INK)
    axes.set(ylim=(2.6, -0.6), xlim=(min([*values, 0.0]) * 1.2, top))
    axes.axvline(0, color=HAIRLINE, lw=0.8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=6.5, length=1.5, colors=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    if not np.isfinite(values).all():
        axes.text(0.5, 0.5, "not judged", transform=axes.transAxes)
