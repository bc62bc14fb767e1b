"""Plot brain maps: slices through peaks, a glass brain, and the best-matching layer at each voxel.

These figures do not use nilearn's plotting: a page needs dozens of panels, and one resampling per panel to a
millimeter grid costs only a few hundredths of a second. The template is nilearn's own MNI152, read offline.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from brainmap.errors import InputError
from brainmap.viz.rsa.color_scale import choose_limits, choose_score_colors, draw_color_bar, paint_scores
from brainmap.viz.style import INK, MUTED, SOFT, Picture, assign_layer_colors, strip_axes, with_style

Array = NDArray[np.floating]
Volume = tuple[NDArray[np.float32], NDArray[np.float64]]
_BOX = ((-77, 77), (-110, 78), (-72, 84))  # the part of MNI space that a panel shows [mm]
_PLANES = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}  # the axes of world space that run right and up in a view
_TALL = 200  # every panel of a row spans this many millimeters upward, so that all have one scale
_VIEWS = (("x", "left"), ("y", ""), ("z", ""), ("x", "right"))


@functools.cache
def _load_template() -> NDArray[np.float32]:
    """Load the MNI152 template at 1 mm, cut to the box; it is axis-aligned, so that a slice is an index."""
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    start = [round(low - at) for (low, _), at in zip(_BOX, image.affine[:3, 3], strict=True)]
    parts = tuple(slice(s, s + high - low) for s, (low, high) in zip(start, _BOX, strict=True))
    return np.asarray(image.dataobj, dtype=np.float32)[parts]


def read_volume(image: Any, what: str) -> Volume:
    """Load an image and check that it has three dimensions and one map; return it with its values."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    data = data.reshape([n for n in data.shape if n > 1] if data.ndim > 3 else data.shape)
    if data.ndim != 3:
        raise InputError(f"{what}: expected one volume, got shape {np.shape(image.dataobj)}; give a 3-D image")
    if not np.isfinite(data).any():
        raise InputError(f"{what}: the image holds no finite value")
    return data, np.linalg.inv(image.affine)


def _compute_plane(view: str, at: float) -> Array:
    """Return world coordinates `(3, height, width)` of a slice, a millimeter apart, top row first."""
    right, up = _PLANES[view]
    world = np.full((3, _BOX[up][1] - _BOX[up][0], _BOX[right][1] - _BOX[right][0]), float(at))
    world[right] = np.arange(*_BOX[right])[None, :]
    world[up] = np.arange(*_BOX[up])[::-1, None]
    return world


def _sample(volume: Volume, world: Array, *, order: int = 1) -> NDArray[np.float32]:
    """Sample a volume at world coordinates; NaN where there is no data, which does not spread to neighbors."""
    data, inverse = volume
    voxel = np.tensordot(inverse[:3, :3], world, axes=1) + inverse[:3, 3].reshape(-1, *[1] * (world.ndim - 1))
    if order == 0:
        return np.asarray(map_coordinates(data, voxel, order=0, cval=np.nan), dtype=np.float32)
    valid = np.isfinite(data)
    weight = map_coordinates(valid.astype(np.float32), voxel, order=1, cval=0.0)
    value = map_coordinates(np.where(valid, data, 0), voxel, order=1, cval=0.0)
    return np.where(weight > 0.5, value / np.maximum(weight, 1e-6), np.nan).astype(np.float32)


def _draw_paper(view: str, at: float) -> NDArray[np.float32]:
    """Return the template in light grays on a transparent ground, `(height, width, 4)`, so that colors stand out."""
    axis = "xyz".index(view)
    index = int(np.clip(round(at) - _BOX[axis][0], 0, _load_template().shape[axis] - 1))
    gray = np.take(_load_template(), index, axis=axis).T[::-1]
    shade = 0.58 + 0.40 * np.clip((gray - 0.2) / 0.7, 0, 1)
    return _shade_gray(shade, np.clip((gray - 0.1) / 0.12, 0, 1))


def _shade_gray(shade: Array, alpha: Array) -> NDArray[np.float32]:
    return np.stack([shade, shade, shade, alpha], axis=-1).clip(0, 1).astype(np.float32)


def _select_hemisphere(box: Array, side: str, step: int) -> Array:
    middle = -_BOX[0][0] // step
    return box[:middle] if side == "left" else box[middle:] if side == "right" else box


@functools.cache
def _render_xray(view: str, side: str) -> NDArray[np.float32]:
    """Render the template as a soft silhouette, darker where the cortex folds away from the viewer."""
    box = _select_hemisphere(_load_template(), side, 1)
    depth = gaussian_filter(np.where(box > 0.2, box, 0).mean(axis="xyz".index(view)).T[::-1], 0.8)
    depth = depth / depth.max()
    edge = np.hypot(*np.gradient(depth))
    return _shade_gray(0.955 - 2.4 * edge.clip(0, 0.085), np.clip(depth / 0.04, 0, 1))


def _resample_to_box(volume: Volume) -> NDArray[np.float32]:
    """Resample a volume to the box's own grid in 2 mm steps, 0 where there is no data, for a glass brain."""
    world = np.stack(np.meshgrid(*[np.arange(low, high, 2.0) for low, high in _BOX], indexing="ij"))
    data, inverse = volume
    voxel = np.tensordot(inverse[:3, :3], world, axes=1) + inverse[:3, 3].reshape(-1, 1, 1, 1)
    return np.asarray(map_coordinates(np.nan_to_num(data), voxel, order=1, cval=0.0), dtype=np.float32)


def _make_panels(
    figure: Figure, views: Sequence[str], *, rows: int = 1, head: float = 0.0, foot: float = 0.0, right: float = 0.0
) -> list[Axes]:
    """Create rows of axes with one scale in millimeters; this sets the figure's height. Margins are in inches."""
    columns = len(views) // rows
    widths = [_BOX[_PLANES[v][0]][1] - _BOX[_PLANES[v][0]][0] for v in views[:columns]]
    inch = (figure.get_figwidth() - right) / sum(widths)
    high = head + foot + rows * _TALL * inch
    figure.set_figheight(high)
    grid = []
    for at, view in enumerate(views):
        left, wide = sum(widths[: at % columns]) * inch, widths[at % columns] * inch
        bottom = high - head - (at // columns + 1) * _TALL * inch
        size = figure.get_figwidth()
        axes = figure.add_axes((left / size, bottom / high, wide / size, _TALL * inch / high))
        grid.append(_set_limits(axes, view))
    return grid


def _set_limits(axes: Axes, view: str) -> Axes:
    """Set the limits of a panel [mm]: the view's own width, and the common height around its middle."""
    right, up = _PLANES[view]
    middle = (_BOX[up][0] + _BOX[up][1]) / 2
    strip_axes(axes).set(xlim=_BOX[right], ylim=(middle - _TALL / 2, middle + _TALL / 2), aspect="equal")
    axes.patch.set_visible(False)
    return axes


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
    found: list[NDArray[np.float64]] = []
    for place, value in zip(world, flat[best], strict=True):
        if len(found) == n or not value > 0:
            break
        if all(np.linalg.norm(place - other) >= apart_mm for other in found):
            found.append(place)
    return [(float(x), float(y), float(z)) for x, y, z in found]


def _show(axes: Axes, view: str, picture: NDArray[np.float32]) -> None:
    right, up = _PLANES[view]
    limits = axes.axis()
    axes.imshow(picture, extent=(*_BOX[right], *_BOX[up]), interpolation="bilinear", aspect="equal")
    axes.axis(limits)


def _draw_color_bar(figure: Figure, norm: Normalize, label: str, *, signed: bool) -> None:
    """Draw a color bar in the right margin."""
    wide, high = figure.get_size_inches()
    at = ((wide - 0.52) / wide, 0.5 - 0.55 / high, 0.09 / wide, 1.1 / high)
    draw_color_bar(figure, norm, label, signed, at=at, below=0.12)


def _draw_head(figure: Figure, title: str) -> None:
    if title:
        figure.text(0.005, 1 - 0.06 / figure.get_figheight(), title, fontsize=10, fontweight="bold", va="top")


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
    circle = read_volume(outline, "plot_brain: outline") if outline is not None else None
    pairs = min(2, len(places))
    rows = -(-len(places) // pairs)
    figure = Picture(figsize=(0.7 + 4.65 * pairs, 1))
    grid = _make_panels(figure, "xyz" * pairs * rows, rows=rows, head=0.3 if title else 0.0, right=0.7)
    for at, axes in enumerate(grid):
        if at // 3 >= len(places):
            axes.set_visible(False)
            continue
        place, view = places[at // 3], "xyz"[at % 3]
        cut = place["xyz".index(view)]
        _draw_slice(axes, view, cut, volume, (least, norm), signed=signed)
        if circle is not None:
            _encircle(axes, view, cut, circle)
        right, up = _PLANES[view]
        axes.plot(place[right], place[up], "+", color=INK, ms=7, mew=0.7, alpha=0.6)
        _draw_caption(axes, view, f"{view} = {round(cut)}".replace("-", "−"))
    _draw_head(figure, title)
    _draw_color_bar(figure, norm, label, signed=signed)
    return figure


def _draw_caption(axes: Axes, view: str, words: str, *, sides: bool = True) -> None:
    axes.text(0.03, 0.015, words, transform=axes.transAxes, fontsize=7.5, color=MUTED)
    if view != "x" and sides:
        axes.text(0.03, 0.86, "L", transform=axes.transAxes, fontsize=7.5, color=SOFT)
        axes.text(0.97, 0.86, "R", transform=axes.transAxes, fontsize=7.5, color=SOFT, ha="right")


def _draw_slice(
    axes: Axes, view: str, cut: float, volume: Volume, limits: tuple[float, Normalize], *, signed: bool
) -> None:
    _show(axes, view, _draw_paper(view, cut))
    value = _sample(volume, _compute_plane(view, cut))
    _show(axes, view, paint_scores(value, limits, signed).astype(np.float32))


def _encircle(axes: Axes, view: str, cut: float, circle: Volume) -> None:
    world = _compute_plane(view, cut)
    inside = np.nan_to_num(_sample(((np.nan_to_num(circle[0]) > 0).astype(np.float32), circle[1]), world))
    if inside.max() > 0.5 > inside.min():
        right, up = _PLANES[view]
        axes.contour(world[right], world[up], inside, levels=[0.5], colors=[INK], linewidths=0.8)


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
        The views are left hemisphere, back, top, right hemisphere.

    Raises
    ------
    InputError
        If the image is not one volume, or no value is finite.
    """
    volume = read_volume(image, "plot_glass_brain")
    limits = choose_limits(volume[0], threshold, vmax, False)
    figure = Picture(figsize=(10, 1))
    grid = _make_panels(figure, [view for view, _ in _VIEWS], head=0.3 if title else 0.0, right=0.7)
    draw_glass(grid, volume, limits)
    _draw_head(figure, title)
    _draw_color_bar(figure, limits[1], label, signed=False)
    return figure


def draw_glass(grid: Sequence[Axes], volume: Volume, limits: tuple[float, Normalize]) -> None:
    """Draw the four glass-brain views of a volume into given axes, with one scale."""
    least, norm = limits
    box = _resample_to_box(volume)
    for axes, (view, side) in zip(grid, _VIEWS, strict=True):
        _set_limits(axes, view)
        _show(axes, view, _render_xray(view, side))
        value = _select_hemisphere(box, side, 2).max(axis="xyz".index(view)).T[::-1]
        colored = choose_score_colors(False)(norm(value))
        colored[..., 3] = np.clip((value - max(least, 1e-9)) / (0.06 * float(norm.vmax or 1)) + 0.5, 0, 1)
        _show(axes, view, colored.astype(np.float32))
        _draw_caption(axes, view, side or {"y": "from behind", "z": "from above"}[view], sides=False)


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
    where = np.column_stack(np.nonzero(data)) @ image.affine[:3, :3].T + image.affine[:3, 3]
    heights = list(cuts) if cuts is not None else _spread_names(where[:, 2], n_cuts)
    sides = [
        float(np.median(where[where[:, 0] * s > 0, 0])) if (where[:, 0] * s > 0).any() else 50.0 * s for s in (-1, 1)
    ]
    views = [("x", sides[0]), *(("z", z) for z in heights), ("x", sides[1])]
    figure = Picture(figsize=(10, 1))
    grid = _make_panels(figure, [view for view, _ in views], head=0.3 if title else 0.0, foot=0.5)
    names = list(layer_names)
    palette = np.array([(0, 0, 0, 0), *((*to_rgb(c), 1) for c in assign_layer_colors(names).values())])
    for axes, (view, cut) in zip(grid, views, strict=True):
        _show(axes, view, _draw_paper(view, cut))
        index = np.nan_to_num(_sample((data, inverse), _compute_plane(view, cut), order=0)).astype(int)
        right, up = _PLANES[view]
        axes.imshow(palette[index], extent=(*_BOX[right], *_BOX[up]), interpolation="nearest", aspect="equal")
        _set_limits(axes, view)
        _draw_caption(axes, view, f"{view} = {round(cut)}".replace("-", "−"))
    _draw_layer_key(figure, names)
    _draw_head(figure, title)
    return figure


def _spread_names(heights: Array, n: int) -> list[float]:
    """Choose heights at even steps through the colored voxels, so that both thin and thick structures are shown."""
    if heights.size == 0:
        return [float(z) for z in np.linspace(-20, 40, n)]
    return [float(z) for z in np.linspace(np.quantile(heights, 0.04), np.quantile(heights, 0.96), n).round()]


def _draw_layer_key(figure: Figure, names: Sequence[str]) -> None:
    """Draw a strip that names each layer under its color, from shallow to deep."""
    high = figure.get_figheight()
    strip = strip_axes(figure.add_axes((0.2, 0.24 / high, 0.6, 0.13 / high)))
    for at, (name, color) in enumerate(assign_layer_colors(names).items()):
        strip.barh(0, 0.96, left=at, height=1, color=color, lw=0)
        strip.text(at + 0.48, -0.8, name, ha="center", va="top", fontsize=8, color=SOFT)
    strip.set(xlim=(0, len(names)), ylim=(-0.5, 0.5))
