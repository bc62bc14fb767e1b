"""Plot sounds that regions are predicted to want, beside the best real sound and what other models say of both."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainmap.viz.features.sounds import add_hertz_ticks, draw_spectrogram, read_waves
from brainmap.viz.style import ACCENT, HAIRLINE, INK, MUTED, SOFT, WARM, Picture, add_headline, with_style


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
    figure = Picture(figsize=(8.6, 0.75 + 1.45 * len(table)), layout="constrained")
    grid = figure.subplots(len(table), 3, squeeze=False, width_ratios=[1.6, 1.6, 1.5])
    places = {str(item): at for at, item in enumerate(sounds.items)}
    rate = float(found.am.rate)
    for row, (line, wave) in enumerate(zip(grid, waves, strict=True)):
        one = table.iloc[row]
        hertz = draw_spectrogram(line[0], wave, rate)
        add_hertz_ticks(line[0], hertz)
        line[0].set_ylabel("frequency [Hz]", fontsize=7, color=SOFT)
        line[0].set_title(f"{one['region']}: predicted sound", fontsize=8.5, loc="left")
        real = sounds.take([places[str(one["best_real_sound"])]])
        draw_spectrogram(line[1], read_waves(real.waveforms, "plot_predicted_sounds")[0], float(real.rate))
        line[1].set_title(f"best real sound: {one['best_real_sound']}", fontsize=8.5, loc="left")
        draw_values(line[2], one)
        if row == len(table) - 1:
            for axes, seconds in ((line[0], wave.size / rate), (line[1], real.n_samples / real.rate)):
                axes.set_xticks([0, seconds], ["0", f"{seconds:.3g} s"], fontsize=6.5)
                axes.tick_params(axis="x", length=1.5, pad=1.5, colors=MUTED)
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
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if not np.isfinite(values).all():
        axes.text(0.5, 0.5, "not judged", transform=axes.transAxes)
