"""Plot brain maps: slices through peaks, a glass brain, and the best-matching layer at each voxel.

These figures do not use nilearn's plotting: a page needs dozens of panels, and one resampling per panel to a
millimeter grid costs only a few hundredths of a second. The template is nilearn's own MNI152, read offline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.viz.rsa.panels import (
    Array,
    Panels,
    Volume,
    choose_limits,
    choose_score_colors,
    compute_plane,
    draw_color_bar,
    make_panels,
    paint_scores,
    project,
    render_xray,
    resample_to_box,
    sample,
    shade_slice,
)
from brainmap.viz.style import SOFT, Picture, assign_layer_colors, convert_from_oklab, strip_axes, with_style

_NAMED = 12  # regions that have room for their names below a figure
_VIEWS = (("x", "left"), ("y", ""), ("z", ""), ("x", "right"))


def read_volume(image: Any, what: str) -> Volume:
    """Load an image and check that it has three dimensions and one map; return it with its values."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    data = data.reshape([n for n in data.shape if n > 1] if data.ndim > 3 else data.shape)
    if data.ndim != 3:
        raise InputError(f"{what}: expected one volume, got shape {np.shape(image.dataobj)}; give a 3-D image")
    if not np.isfinite(data).any():
        raise InputError(f"{what}: the image holds no finite value")
    return data, np.linalg.inv(image.affine)


def find_peaks(image: Any, *, n: int = 2, apart_mm: float = 30.0) -> list[tuple[float, float, float]]:
    """Find the highest places of a map that are at least `apart_mm` from each other.

    Parameters
    ----------
    image : Nifti1Image
        The map; NaN marks missing data.
    n : int
        Number of peaks.
    apart_mm : float [mm]
        Smallest distance between two peaks.

    Returns
    -------
    list of (x, y, z) [mm], the highest first

    Examples
    --------
    >>> import nibabel
    >>> data = np.zeros((5, 5, 5), dtype=np.float32); data[4, 2, 2] = 1
    >>> find_peaks(nibabel.Nifti1Image(data, np.diag([10.0, 10, 10, 1])), n=1)
    [(40.0, 20.0, 20.0)]
    """
    data, _ = read_volume(image, "find_peaks")
    flat = np.where(np.isfinite(data), data, -np.inf).ravel()
    best = np.argsort(flat)[::-1][: min(flat.size, 20_000)]
    world = np.column_stack(np.unravel_index(best, data.shape)) @ image.affine[:3, :3].T + image.affine[:3, 3]
    able = flat[best] > 0
    found: list[NDArray[np.float64]] = []
    while len(found) < n and able.any():
        found.append(world[able.argmax()])
        able &= np.linalg.norm(world - found[-1], axis=1) >= apart_mm
    return [(float(x), float(y), float(z)) for x, y, z in found]


def _draw_color_bar(figure: Figure, norm: Normalize, label: str, *, signed: bool) -> None:
    """Draw a color bar in the right margin."""
    wide, high = figure.get_size_inches()
    at = ((wide - 0.52) / wide, 0.5 - 0.55 / high, 0.09 / wide, 1.1 / high)
    draw_color_bar(figure, norm, label, signed, at=at, below=0.12)


def _draw_head(figure: Figure, title: str) -> None:
    if title:
        figure.text(0.005, 1 - 0.06 / figure.get_figheight(), title, fontsize=10, fontweight="bold", va="top")


def _paint_slices(
    panels: Panels, cuts: Sequence[float], color: Callable[[Array], Array], outline: Volume | None
) -> None:
    """Paint a slice of the template into each panel, its colors over it, and outline where a volume is above 0."""
    edge = None if outline is None else ((np.nan_to_num(outline[0]) > 0).astype(np.float32), outline[1])
    inside = np.zeros(panels.canvas.shape[:2], dtype=np.float32)
    for at, (view, cut) in enumerate(zip(panels.views, cuts, strict=False)):
        world = compute_plane(view, cut)
        panels.paint(at, shade_slice(view, cut))
        panels.paint(at, color(world))
        if edge is not None:
            panels.select(at, inside)[:] = np.nan_to_num(sample(edge, world))
        panels.caption(at, f"{view} = {round(cut)}".replace("-", "−"), sides=view != "x")
    panels.show()
    panels.encircle(inside)


@with_style
def plot_brain(
    image: Any,
    *,
    cuts: Sequence[tuple[float, float, float]] | None = None,
    peaks: int = 2,
    outline: Any = None,
    threshold: float | None = None,
    vmax: float | None = None,
    signed: bool = False,
    title: str = "",
    label: str = "score",
) -> Figure:
    """Plot a map over the MNI152 template: sagittal, coronal and axial slices through its peaks.

    Parameters
    ----------
    image : Nifti1Image
        A 3-D map in MNI space; NaN marks missing data. It is shown with linear interpolation.
    cuts : sequence of (x, y, z) [mm], optional
        Where to slice; by default through the `peaks` highest places, at least 30 mm apart, from left to right.
    peaks : int
        Number of peaks.
    outline : Nifti1Image, optional
        Voxels above 0 are outlined, such as significant voxels.
    threshold : float, optional
        Values below it are not shown; by default a third of the top, written at the lower end of the color scale.
    vmax : float, optional
        Top of the color scale.
    signed : bool
        Show both signs, in blue and orange.
    title, label : str
        Title of the figure, and name of the quantity.

    Returns
    -------
    matplotlib.figure.Figure
        The left side of the figure is the left hemisphere.

    Raises
    ------
    InputError
        If the image is not one volume, or no value is finite.
    """
    volume = read_volume(image, "plot_brain")
    places = list(cuts) if cuts is not None else sorted(find_peaks(image, n=peaks)) or [(0.0, -20.0, 8.0)]
    least, norm = choose_limits(volume[0], threshold, vmax, signed)
    marked = None if outline is None else read_volume(outline, "plot_brain: outline")
    pairs = min(2, len(places))
    rows = -(-len(places) // pairs)
    figure = Picture(figsize=(0.7 + 4.65 * pairs, 1))
    panels = make_panels(figure, "xyz" * pairs * rows, rows=rows, head=0.3 if title else 0.0, right=0.7)

    def color(world: Array) -> Array:
        return paint_scores(sample(volume, world), (least, norm), signed)

    _paint_slices(panels, [cut for place in places for cut in place], color, marked)
    for at in range(3 * len(places)):
        panels.mark(at, places[at // 3])
    _draw_head(figure, title)
    _draw_color_bar(figure, norm, label, signed=signed)
    return figure


@with_style
def plot_glass_brain(
    image: Any, *, threshold: float | None = None, vmax: float | None = None, title: str = "", label: str = "score"
) -> Figure:
    """Plot a map on a glass brain: the highest value along each line of sight, in four views.

    Parameters
    ----------
    image : Nifti1Image
        A 3-D map in MNI space; NaN marks missing data.
    threshold : float, optional
        Values below it are not shown; by default a third of the top.
    vmax : float, optional
        Top of the color scale.
    title, label : str
        Title of the figure, and name of the quantity.

    Returns
    -------
    matplotlib.figure.Figure
        The views are left hemisphere (its front is on the left), back, top, right hemisphere.

    Raises
    ------
    InputError
        If the image is not one volume, or no value is finite.
    """
    volume = read_volume(image, "plot_glass_brain")
    limits = choose_limits(volume[0], threshold, vmax, False)
    figure = Picture(figsize=(10, 1))
    panels = make_panels(figure, [view for view, _ in _VIEWS], head=0.3 if title else 0.0, right=0.7)
    _paint_glass(panels, volume, limits)
    _draw_head(figure, title)
    _draw_color_bar(figure, limits[1], label, signed=False)
    return figure


def draw_glass(axes: Axes, volume: Volume, limits: tuple[float, Normalize], *, small: bool = False) -> None:
    """Draw the four glass-brain views of a volume into given axes, with one scale.

    Views that are less than 3 cm wide (`small`) have short captions below them.
    """
    _paint_glass(Panels(axes, [view for view, _ in _VIEWS], len(_VIEWS)), volume, limits, small=small)


def _paint_glass(panels: Panels, volume: Volume, limits: tuple[float, Normalize], *, small: bool = False) -> None:
    box = resample_to_box(volume)
    for at, (view, side) in enumerate(_VIEWS):
        for layer in _render_glass(box, view, side, limits):
            panels.paint(at, layer)
        words = side or {"y": "from behind", "z": "from above"}[view]
        panels.caption(at, words.removeprefix("from ") if small else words, outside=small)
    panels.show()


def _render_glass(box: Array, view: str, side: str, limits: tuple[float, Normalize]) -> tuple[Array, Array]:
    """Return the head `(height, width, 4)` and the colors of a map before it, as one view of a glass brain."""
    least, norm = limits
    value = project(box, view, side)
    colored = choose_score_colors(False)(norm(value))
    colored[..., 3] = np.clip((value - max(least, 1e-9)) / (0.06 * float(norm.vmax or 1)) + 0.5, 0, 1)
    turn = slice(None, None, -1 if side == "left" else 1)  # seen from the left, the front is on the left
    return render_xray(view, side)[:, turn], colored[:, turn]


def paint_glass(volume: Volume, limits: tuple[float, Normalize]) -> Array:
    """Paint a volume on a glass brain, from the left, from above and from the right, without a figure.

    Returns
    -------
    ndarray (height, width, 3)
        Colors on white, a pixel a millimeter.
    """
    box = resample_to_box(volume)
    views = [_render_glass(box, view, side, limits) for view, side in (("x", "left"), ("z", ""), ("x", "right"))]
    tall = max(head.shape[0] for head, _ in views)
    parts = []
    for layers in views:
        picture = np.ones((*layers[0].shape[:2], 3))
        for layer in layers:
            picture += layer[..., 3:] * (layer[..., :3] - picture)
        above = (tall - len(picture)) // 2
        parts.append(np.pad(picture, ((above, tall - len(picture) - above), (0, 0), (0, 0)), constant_values=1.0))
    return np.concatenate(parts, axis=1)


@with_style
def plot_best_layer(
    image: Any, layer_names: Sequence[str], *, cuts: Sequence[float] | None = None, n_cuts: int = 4, title: str = ""
) -> Figure:
    """Plot the best-matching layer of every voxel in the layer's color, on axial slices and from both sides.

    Parameters
    ----------
    image : Nifti1Image
        Whole numbers: k means the k-th of `layer_names`, counted from 1; 0 or NaN means no layer.
    layer_names : sequence of str
        The layers, from shallow to deep.
    cuts : sequence of float [mm], optional
        Heights z of the axial slices; by default `n_cuts` heights spread over the colored voxels.
    n_cuts : int
        Number of slices.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        The left side of the figure is the left hemisphere.

    Raises
    ------
    InputError
        If values are not whole numbers from 0 to the number of layers.
    """
    data, inverse = read_volume(image, "plot_best_layer")
    data = np.nan_to_num(data)
    if (data != np.round(data)).any() or data.min() < 0 or data.max() > len(layer_names):
        raise InputError(
            f"plot_best_layer: expected whole numbers from 0 to {len(layer_names)}, got {data.min():g} to "
            f"{data.max():g}"
        )
    colors = assign_layer_colors(list(layer_names))
    figure = _plot_labels((data, inverse), list(colors.values()), cuts=cuts, n_cuts=n_cuts, title=title)
    _draw_key(figure, colors)
    _draw_head(figure, title)
    return figure


@with_style
def plot_regions(
    regions: Any, *, mask: Any = None, cuts: Sequence[float] | None = None, n_cuts: int = 4, title: str = ""
) -> Figure:
    """Plot regions in color over the MNI152 template, on axial slices and from both sides, with the edge of a mask.

    A mirrored or displaced image is seen at once.

    Parameters
    ----------
    regions : Rois
        As from `brainmap.rsa.load_rois`.
    mask : Nifti1Image, optional
        A line is drawn around what is above 0.
    cuts : sequence of float [mm], optional
        Heights z of the axial slices; by default `n_cuts` heights spread over the regions.
    n_cuts : int
        Number of slices.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        The left side of the figure is the left hemisphere. Up to 12 regions are named below it.
    """
    volume = np.asarray(regions.labels, dtype=np.float32), np.linalg.inv(regions.affine)
    outline = None if mask is None else read_volume(mask, "plot_regions: mask")
    colors = dict(zip(regions.names, _spread_hues(len(regions.names)), strict=True))
    figure = _plot_labels(volume, list(colors.values()), cuts=cuts, n_cuts=n_cuts, title=title, outline=outline)
    if len(colors) <= _NAMED:
        _draw_key(figure, colors)
    _draw_head(figure, title)
    return figure


def _spread_hues(n: int) -> list[str]:
    """Return colors of one lightness whose hues are far apart for neighbors in the list."""
    angles = np.arange(n) * np.pi * (3 - np.sqrt(5))
    lab = np.stack([np.full(n, 0.66), 0.14 * np.cos(angles), 0.14 * np.sin(angles)], axis=-1)
    return [to_hex(color) for color in convert_from_oklab(lab)]


def _plot_labels(
    volume: Volume,
    colors: Sequence[str],
    *,
    cuts: Sequence[float] | None,
    n_cuts: int,
    title: str,
    outline: Volume | None = None,
) -> Picture:
    """Plot a volume of whole numbers, k in the k-th color, on axial slices between a view from either side."""
    data, inverse = volume
    affine = np.linalg.inv(inverse)
    where = np.column_stack(np.nonzero(data)) @ affine[:3, :3].T + affine[:3, 3]
    heights = list(cuts) if cuts is not None else _spread_names(where[:, 2], n_cuts)
    sides = [
        float(np.median(where[where[:, 0] * s > 0, 0])) if (where[:, 0] * s > 0).any() else 50.0 * s for s in (-1, 1)
    ]
    views = [("x", sides[0]), *(("z", z) for z in heights), ("x", sides[1])]
    figure = Picture(figsize=(10, 1))
    panels = make_panels(figure, [view for view, _ in views], head=0.3 if title else 0.0, foot=0.5)
    palette = np.array([(0, 0, 0, 0), *((*to_rgb(c), 1) for c in colors)])

    def color(world: Array) -> Array:
        return np.asarray(palette[np.nan_to_num(sample(volume, world, order=0)).astype(int)])

    _paint_slices(panels, [cut for _, cut in views], color, outline)
    return figure


def _spread_names(heights: Array, n: int) -> list[float]:
    """Choose heights at even steps through the colored voxels, so that both thin and thick structures are shown."""
    if heights.size == 0:
        return [float(z) for z in np.linspace(-20, 40, n)]
    return [float(z) for z in np.linspace(np.quantile(heights, 0.04), np.quantile(heights, 0.96), n).round()]


def _draw_key(figure: Figure, colors: Mapping[str, str]) -> None:
    """Draw a strip with each name under its color, in order."""
    high = figure.get_figheight()
    wide = 0.6 if sum(map(len, colors)) < 70 else 0.96
    strip = strip_axes(figure.add_axes((0.5 - wide / 2, 0.24 / high, wide, 0.13 / high)))
    for at, (name, color) in enumerate(colors.items()):
        strip.barh(0, 0.96, left=at, height=1, color=color, lw=0)
        strip.text(at + 0.48, -0.8, name, ha="center", va="top", fontsize=8, color=SOFT)
    strip.set(xlim=(0, len(colors)), ylim=(-0.5, 0.5))
