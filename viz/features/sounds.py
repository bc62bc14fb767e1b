"""Plot sounds: waveforms and spectrograms, and class activation maps over sounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.attribution.results import find_own_class
from brainmap.features.sounds.inputs import InputAxes, read_padded
from brainmap.viz.features.spectrograms import (
    add_kilohertz_ticks,
    add_second_ticks,
    add_seconds,
    draw_input,
    draw_map,
    get_input,
    has_pictures,
    make_picture,
)
from brainmap.viz.style import (
    ACCENT,
    INK,
    MUTED,
    SOFT,
    Picture,
    add_color_bar,
    add_headline,
    assign_layer_colors,
    get_colormap,
    make_axes,
    make_grid,
    strip_axes,
    with_style,
)

Array = NDArray[np.floating]
_POINTS = 2048  # of the transform of a frame, for spectrograms


def _convert_values(values: Any) -> NDArray[np.float32]:
    """Convert a numpy array, a lazy array or a tensor to an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)


def read_waves(patterns: Any, what: str) -> NDArray[np.float32]:
    """Return waveforms `(n, t)` from sounds, `(t,)`, `(n, t)` or `(n, 1, t)`; zeros follow shorter sounds."""
    array = _convert_values(read_padded(patterns))
    array = array[None] if array.ndim == 1 else array[:, 0] if array.ndim == 3 else array
    if array.ndim != 2 or array.shape[1] < 16:
        raise InputError(f"{what}: expected sounds (n, 1, t) or (t,) with t >= 16, got {np.shape(patterns)}")
    return array


def find_envelope(wave: Array, bins: int) -> tuple[Array, Array]:
    """Return the lowest and highest sample in each of `bins` spans of a waveform, for drawing.

    Examples
    --------
    >>> [part.tolist() for part in find_envelope(np.array([0.0, 1.0, -1.0, 0.5]), 2)]
    [[0.0, -1.0], [1.0, 0.5]]
    """
    bins = min(bins, wave.size)
    starts = np.linspace(0, wave.size, bins, endpoint=False).astype(int)
    return np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)


def transform_frames(wave: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Compute the short-time Fourier transform `(1025, frames)` of a waveform of 16 samples or more.

    Hann windows of at most 512 samples begin a quarter of their length apart. The first one has its center before the
    first sample and the last one behind the last sample, so that every sample is in four windows.
    """
    size = min(512, 2 ** int(np.log2(wave.size)))
    half, hop = size // 2, size // 4
    n_frames = -(-(wave.size + half) // hop) + 1
    padded = np.zeros((n_frames - 1) * hop + size)
    padded[half + hop : half + hop + wave.size] = wave
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    return np.asarray(np.fft.rfft(frames, _POINTS).T)


def compute_log_spectrogram(
    wave: Array, *, rate: float, bands: int = 72, lowest: float = 60.0, range_db: float = 50.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute loudness on a logarithmic frequency axis, from 0 (50 dB below the peak) to 1 (the peak).

    Parameters
    ----------
    wave : array `(t,)`
        A waveform.
    rate : float [Hz]
        Samples per second.
    bands : int
        Number of frequencies, evenly spaced in octaves from `lowest` to half the rate.
    lowest : float [Hz]
        Lowest frequency.
    range_db : float [dB]
        Range of loudness shown.

    Returns
    -------
    loudness, frequencies : arrays `(bands, frames)` and `(bands,)` [Hz]

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    >>> loud, hertz = compute_log_spectrogram(tone, rate=16_000)
    >>> bool(abs(np.log2(hertz[loud.mean(axis=1).argmax()] / 1000)) < 0.1)
    True
    """
    bins = np.fft.rfftfreq(_POINTS, 1 / rate)
    power = np.abs(transform_frames(np.asarray(wave, dtype=float))) ** 2
    hertz = np.geomspace(lowest, rate / 2, bands)
    rows = np.stack([np.interp(hertz, bins, frame) for frame in power.T], axis=1)
    # A band wider than a frequency bin shows its loudest bin; otherwise a pure tone could fall between two bands.
    edges = np.sqrt(hertz[:-1] * hertz[1:])
    starts = np.searchsorted(bins, np.r_[hertz[0], edges])
    rows = np.maximum(rows, np.maximum.reduceat(power, np.minimum(starts, len(power) - 1), axis=0))
    level = 10 * np.log10(np.maximum(rows, 1e-20))
    return np.clip(1 + (level - level.max()) / range_db, 0, 1), hertz


def draw_wave(axes: Axes, wave: Array, *, color: Any = INK, bins: int = 220) -> None:
    """Draw a waveform as the filled span between its lowest and highest samples."""
    low, high = find_envelope(wave / max(float(np.abs(wave).max()), 1e-12), bins)
    axes.fill_between(np.linspace(0, 1, len(low)), low, high, color=color, lw=0.3)
    strip_axes(axes).set(xlim=(0, 1), ylim=(-1.05, 1.05))


def draw_spectrogram(axes: Axes, wave: Array, rate: float) -> NDArray[np.float64]:
    """Draw a log-frequency spectrogram, dark where loud; return the frequencies [Hz]."""
    loud, hertz = compute_log_spectrogram(wave, rate=rate)
    seconds = wave.size / rate
    axes.imshow(
        loud,
        origin="lower",
        aspect="auto",
        cmap=get_colormap("sound"),
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        extent=(0, seconds, 0, 1),
    )
    strip_axes(axes)
    return hertz


def add_hertz_ticks(axes: Axes, hertz: NDArray[np.float64], label: str = "", **text: Any) -> None:
    """Mark 100 Hz, 1 kHz and 4 kHz on the log-frequency axis of a spectrogram, and label it in small soft letters."""
    marks = [f for f in (100, 1000, 4000) if hertz[0] <= f <= hertz[-1]]
    at = [np.log(f / hertz[0]) / np.log(hertz[-1] / hertz[0]) for f in marks]
    axes.set_yticks(at, [f"{f / 1000:g}k" if f >= 1000 else f"{f}" for f in marks], fontsize=6.5)
    axes.tick_params(length=1.5, pad=1.5, colors=MUTED)
    if label:
        axes.set_ylabel(label, **{"fontsize": 7, "color": SOFT, **text})


def draw_pattern(
    axes: Axes,
    pattern: Array,
    about: InputAxes | None,
    rate: float,
    *,
    frequency: bool = True,
    time: bool = True,
    time_label: bool = True,
) -> None:
    """Draw a waveform (t,) or (1, t) as its spectrogram, or any other input (c, h, w) as a picture.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    pattern : ndarray
    about : InputAxes, optional
        The axes of a picture.
    rate : float [Hz]
        Of a waveform.
    frequency, time, time_label : bool
        Whether the axes of frequency and time are marked, and that of time is named.
    """
    if pattern.ndim == 3:
        picture = make_picture(pattern, about)
        draw_input(axes, picture, about)
        if frequency:
            add_kilohertz_ticks(axes, len(picture), about)
        if time:
            add_second_ticks(axes, picture.shape[1], about, label=time_label)
        return
    hertz = draw_spectrogram(axes, pattern.ravel(), rate)
    if frequency:
        add_hertz_ticks(axes, hertz, "frequency [Hz]", labelpad=2)
    if time:
        add_seconds(axes, pattern.size / rate, label="time [s]" if time_label else "")


@with_style
def plot_sound(wave: Any, *, rate: float, title: str = "") -> Figure:
    """Plot a sound's waveform over its log-frequency spectrogram.

    Parameters
    ----------
    wave : array `(t,)` or `(1, 1, t)`
        The sound.
    rate : float [Hz]
        Samples per second.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the input is not one waveform.
    """
    sound = read_waves(wave, "plot_sound")[0]
    figure, ((top,), (below,)) = make_axes((5, 3), 2, 1, height_ratios=[1, 2])
    draw_wave(top, sound)
    top.set_title(title)
    add_hertz_ticks(below, draw_spectrogram(below, sound, rate), "frequency [Hz]")
    add_seconds(below, sound.size / rate)
    return figure


def get_unit_names(am: Any) -> list[str]:
    """Return the names of the units of a maximization result: its `names` if it has them, else its `units`."""
    return [str(u) for u in (getattr(am, "names", None) or am.units)]


def average_in_bins(course: Array, bins: int) -> NDArray[np.float64]:
    """Average a time course in each of `bins` equal spans of its last axis."""
    starts = np.linspace(0, course.shape[-1], min(bins, course.shape[-1]), endpoint=False).astype(int)
    sizes = np.diff(np.r_[starts, course.shape[-1]])
    return np.asarray(np.add.reduceat(course.astype(float), starts, axis=-1) / sizes)


def map_scale(maps: Array) -> float:
    """Return a common color limit for signed maps: the 98th percentile of absolute values, which ignores peaks."""
    return float(np.quantile(np.abs(maps[..., :: max(1, maps.shape[-1] // 200)]), 0.98)) or 1.0


def draw_cam(axes: Axes, wave: Array, course: Array, limit: float, *, bins: int = 160) -> None:
    """Draw a waveform colored by how much each moment is evidence for (orange) or against (blue) a class."""
    low, high = find_envelope(wave / max(float(np.abs(wave).max()), 1e-12), bins)
    low, high = np.minimum(low, -0.02), np.maximum(high, 0.02)
    edges = np.linspace(0, 1, len(low) + 1)
    spans = [[(a, lo), (b, lo), (b, hi), (a, hi)] for a, b, lo, hi in zip(edges, edges[1:], low, high, strict=False)]
    shade = get_colormap("signed")(Normalize(-limit, limit)(average_in_bins(course, len(low))))
    axes.axhline(0, color="#d3d9de", lw=0.5, zorder=0)
    axes.add_collection(PolyCollection(spans, facecolors=shade * [0.94, 0.94, 0.94, 1], linewidths=0))
    strip_axes(axes).set(xlim=(0, 1), ylim=(-1.05, 1.05))


def choose_items(sounds: Any, items: Sequence[int] | None, most: int, what: str) -> list[int]:
    """Return the rows of sounds to show, by default the first ones; refuse rows that do not exist."""
    chosen = list(range(min(most, len(sounds.items)))) if items is None else list(items)
    if not chosen or not all(0 <= i < len(sounds.items) for i in chosen):
        raise InputError(f"{what}: expected items from 0 to {len(sounds.items) - 1}, got {chosen}")
    return chosen


def choose_one_of_each(sounds: Any, most: int) -> list[int]:
    """Return the first item of each condition, at most `most` items."""
    _, first = np.unique([str(condition) for condition in sounds.conditions], return_index=True)
    return [int(row) for row in np.sort(first)[:most]]


@with_style
def plot_cam(
    sounds: Any, cams: Any, *, items: Sequence[int] | None = None, columns: int = 4, title: str = ""
) -> Figure:
    """Plot waveforms colored by the map of their own class: orange is evidence for that class, blue against it.

    Maps of networks on spectrograms lie over the spectrogram as the network takes it. Maps that stayed over the
    frequencies and frames of a layer are drawn below the spectrogram of the sound.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t), `rate` [Hz], `items`, `conditions`
        Sounds as `features.load_sounds` returns them.
    cams : object with `maps` (n, n_classes, t) or (n, n_classes, h, w), signed, and `class_names`
        Maps as `features.class_activation_maps` returns them.
    items : sequence of int, optional
        Rows to show; by default the first item of each condition, at most 16.
    columns : int
        Sounds per row.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        All panels share one color scale.

    Raises
    ------
    InputError
        If a condition is not one of the classes.

    References
    ----------
    Zhou B et al. (2016): doi:10.1109/CVPR.2016.319; Selvaraju RR et al. (2017): doi:10.1109/ICCV.2017.74
    """
    own = find_own_class(sounds.conditions, cams.class_names)
    chosen = list(items) if items is not None else choose_one_of_each(sounds, 16)
    if np.ndim(cams.maps) == 4 and not has_pictures(sounds, cams.maps[:, :, None]):
        return _plot_cam_frames(sounds, cams, chosen, own, columns=columns, title=title)
    if getattr(cams, "positions", ())[-1:] == ("token",):
        raise InputError(
            f"plot_cam: the positions of layer {cams.layer!r} are tokens, of which none is a place in time, so that "
            "there is nothing to draw over a sound; name a convolution"
        )
    if np.ndim(cams.maps) == 4:
        return _plot_cam_pictures(sounds, cams, chosen, own, columns=columns, title=title)
    audio = read_waves(sounds, "plot_cam")
    maps = np.stack([_convert_values(cams.maps[i])[own[i]] for i in chosen])
    limit = map_scale(maps)
    rows = -(-len(chosen) // columns)
    foot, head = 0.3, 0.32 if title else 0.06  # inches; a layout engine takes as long as the drawing
    height = head + foot + 0.95 * rows
    figure = Picture(figsize=(10, height))
    wide, row = 0.905 / columns, 0.95 / height
    grid = [
        figure.add_axes(
            (0.005 + wide * (at % columns), 1 - head / height - row * (at // columns + 1), 0.96 * wide, 0.74 * row)
        )
        for at in range(len(chosen))
    ]
    for axes, item, course in zip(grid, chosen, maps, strict=True):
        draw_cam(axes, audio[item], course, limit)
        axes.set_title(str(sounds.conditions[item]), fontsize=8.5, pad=1)
    _draw_evidence_bar(figure, grid, limit, at=(0.925, 0.22, 0.01, 0.56))
    seconds = audio.shape[-1] / sounds.rate
    figure.text(
        0.46,
        0.05 / height,
        f"time, 0 to {seconds:g} s in every panel",
        fontsize=8,
        color=SOFT,
        ha="center",
        va="bottom",
    )
    return add_headline(figure, title)


def _draw_evidence_bar(
    figure: Figure, grid: Any, limit: float, *, at: tuple[float, float, float, float] | None = None
) -> None:
    """Draw the color bar of maps beside a grid of axes, or in a rectangle of the figure."""
    shades = ScalarMappable(Normalize(-limit, limit), get_colormap("signed"))
    place = {"shrink": 0.6, "aspect": 18, "pad": 0.01} if at is None else {"cax": figure.add_axes(at)}
    size = None if at is None else 7  # a single row of sounds is low
    label = "evidence for its own class"
    bar = add_color_bar(figure, shades, list(grid) if at is None else None, label, fontsize=size, **place)
    bar.set_ticks([-limit, 0, limit], labels=["against", "0", "for"])


def _plot_cam_pictures(
    sounds: Any, cams: Any, chosen: Sequence[int], own: NDArray[np.intp], *, columns: int, title: str
) -> Figure:
    """Plot spectrograms under the maps of their own class."""
    drawn = [get_input(sounds, item) for item in chosen]
    maps = [
        make_picture(_convert_values(cams.maps[item])[own[item]], about)
        for item, (_, about) in zip(chosen, drawn, strict=True)
    ]
    limit = float(np.quantile(np.abs(maps), 0.98)) or 1.0
    figure, grid = make_grid(len(chosen), columns, panel=(2.6, 1.75), margin=(0, 0.9), narrowest=4.5)
    columns = grid.shape[1]
    for at, (axes, item, (picture, about), values) in enumerate(zip(grid.ravel(), chosen, drawn, maps, strict=False)):
        draw_map(axes, picture, values, about, limit)
        axes.set_title(str(sounds.conditions[item]), fontsize=8.5, pad=1)
        if at % columns == 0:
            add_kilohertz_ticks(axes, picture.shape[0], about)
        if at + columns >= len(chosen):
            add_second_ticks(axes, picture.shape[1], about)
    _draw_evidence_bar(figure, grid.ravel(), limit)
    return add_headline(figure, title)


def _plot_cam_frames(
    sounds: Any, cams: Any, chosen: Sequence[int], own: NDArray[np.intp], *, columns: int, title: str
) -> Figure:
    """Plot spectrograms, and below them the maps over the frequencies and frames of a layer."""
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    audio = read_waves(sounds, "plot_cam")
    seconds = audio.shape[1] / sounds.rate
    maps = np.stack([_convert_values(cams.maps[i])[own[i]] for i in chosen])
    limit = float(np.quantile(np.abs(maps), 0.98)) or 1.0
    figure, grid = make_axes((max(2.6 * columns, 4.5), 0.9 + 2.3 * rows), 2 * rows, columns)
    for at, (item, values) in enumerate(zip(chosen, maps, strict=True)):
        line, column = 2 * (at // columns), at % columns
        above, below = grid[line, column], grid[line + 1, column]
        hertz = draw_spectrogram(above, audio[item], float(sounds.rate))
        above.set_title(str(sounds.conditions[item]), fontsize=8.5, pad=1)
        below.imshow(
            values,
            origin="lower",
            aspect="auto",
            cmap=get_colormap("signed"),
            norm=Normalize(-limit, limit),
            extent=(0, seconds, -0.5, len(values) - 0.5),
            interpolation="nearest",
        )
        strip_axes(below)
        if column == 0:
            add_hertz_ticks(above, hertz, "frequency [Hz]", fontsize=7.5)
            add_kilohertz_ticks(below, len(values), None)
            below.set_ylabel(f"{(cams.positions or ('row',))[0]} in {cams.layer}", fontsize=7.5, color=SOFT)
        if at + columns >= len(chosen):
            add_seconds(below, seconds)
    for axes in grid[:, len(chosen) % columns :][2 * (rows - 1) :].ravel() if len(chosen) % columns else ():
        axes.set_visible(False)
    _draw_evidence_bar(figure, grid[1::2].ravel(), limit)
    return add_headline(figure, title)


def get_accent(layer: str, layers: Sequence[str]) -> str:
    """Return the color of a layer, or the page's accent color if it is not one of the layers."""
    return assign_layer_colors(layers).get(layer, ACCENT)
