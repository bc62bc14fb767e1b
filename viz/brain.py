"""Brain maps on paper: slices through peaks, a glass brain, and the layer each place matches best.

Drawn here rather than by nilearn's plotting: a page needs dozens of panels, and one resampling a panel to a
millimeter grid costs a few hundredths of a second. The template is nilearn's own MNI152, read offline.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from brainmap.errors import InputError
from brainmap.viz.style import INK, MUTED, SOFT, bare, colormap, layer_colors, styled

Array = NDArray[np.floating]
_BOX = ((-78.0, 78.0), (-112.0, 78.0), (-70.0, 86.0))  # what of MNI space a panel shows [mm]
_PLANES = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}  # axes of world space that run right and up in a view


@functools.cache
def _template() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    return np.asarray(image.dataobj, dtype=np.float32), np.linalg.inv(image.affine)


def _volume(image: Any, what: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    data = np.asarray(image.dataobj, dtype=np.float32)
    data = data.reshape([n for n in data.shape if n > 1] if data.ndim > 3 else data.shape)
    if data.ndim != 3:
        raise InputError(f"{what}: image of shape {np.shape(image.dataobj)} is not one volume; give a 3-D image")
    if not np.isfinite(data).any():
        raise InputError(f"{what}: image holds no finite value")
    return data, np.linalg.inv(image.affine)


def _plane(view: str, at: float) -> Array:
    """World coordinates `(3, height, width)` of a slice, a millimeter apart, top row first."""
    right, up = _PLANES[view]
    across = np.arange(_BOX[right][0], _BOX[right][1])
    along = np.arange(_BOX[up][1], _BOX[up][0], -1.0)
    world = np.full((3, len(along), len(across)), float(at))
    world[right], world[up] = across[None, :], along[:, None]
    return world


def _sample(volume: tuple[Array, Array], world: Array, *, order: int = 1) -> NDArray[np.float32]:
    """Values of a volume at world coordinates; NaN where there is no data, which never bleeds into its neighbors."""
    data, inverse = volume
    voxel = np.tensordot(inverse[:3, :3], world, axes=1) + inverse[:3, 3].reshape(-1, *[1] * (world.ndim - 1))
    valid = np.isfinite(data)
    if order == 0:
        return np.asarray(map_coordinates(data, voxel, order=0, cval=np.nan), dtype=np.float32)
    weight = map_coordinates(valid.astype(np.float32), voxel, order=1, cval=0.0)
    value = map_coordinates(np.where(valid, data, 0), voxel, order=1, cval=0.0)
    return np.where(weight > 0.5, value / np.maximum(weight, 1e-6), np.nan).astype(np.float32)


def _paper(world: Array) -> NDArray[np.float32]:
    """The template in light grays on nothing, `(height, width, 4)`: a ground that lets color speak."""
    gray = _sample(_template(), world)
    shade = 0.58 + 0.40 * np.clip((np.nan_to_num(gray) - 0.2) / 0.7, 0, 1)
    inside = np.clip((np.nan_to_num(gray) - 0.1) / 0.12, 0, 1)
    return np.stack([shade, shade, shade * 1.005, inside], axis=-1).clip(0, 1).astype(np.float32)


def _xray(view: str, side: str = "") -> NDArray[np.float32]:
    """The template seen through: a soft silhouette, darker where cortex folds away from the viewer."""
    depth = _projected(_template(), view, side, reduce=lambda v: np.nanmean(np.where(v > 0.2, v, 0), axis=0))
    depth = depth / depth.max()
    edge = np.hypot(*np.gradient(depth))
    shade = 0.95 - 1.1 * edge.clip(0, 0.12)
    return np.stack([shade, shade, shade * 1.005, (depth > 0.02).astype(float)], axis=-1).clip(0, 1).astype(np.float32)


def _projected(volume: tuple[Array, Array], view: str, side: str, *, reduce: Any, order: int = 1) -> Array:
    """A volume reduced along a direction of view, in 3 mm steps; `side` keeps one hemisphere."""
    normal = {"x": 0, "y": 1, "z": 2}[view]
    low, high = _BOX[normal]
    low, high = (low, 0.0) if side == "left" else (0.0, high) if side == "right" else (low, high)
    plane = _plane(view, 0.0)[:, ::2, ::2]
    steps = np.arange(low, high + 1, 3.0)
    world = np.repeat(plane[:, None], len(steps), axis=1)
    world[normal] = steps[:, None, None]
    return np.asarray(reduce(_sample(volume, world, order=order)))


@functools.cache
def _xray_cached(view: str, side: str) -> NDArray[np.float32]:
    return _xray(view, side)


def find_peaks(image: Any, *, n: int = 2, apart_mm: float = 30.0) -> list[tuple[float, float, float]]:
    """The highest places of a map, at least `apart_mm` from each other.

    Parameters
    ----------
    image : Nifti1Image
        A map; NaN is no data.
    n : int
        How many.
    apart_mm : float [mm]
        Least distance between two.

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
    data, _ = _volume(image, "find_peaks")
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


def _warm(signed: bool) -> Colormap:
    """Score colors from where they are visible on gray."""
    return colormap("signed") if signed else ListedColormap(colormap("score")(np.linspace(0.22, 1, 256)))


def _show(axes: Axes, view: str, picture: NDArray[np.float32], **options: Any) -> None:
    right, up = _PLANES[view]
    axes.imshow(picture, extent=(*_BOX[right], *_BOX[up]), interpolation="bilinear", **options)


def _frame(axes: Axes, view: str, tall: float) -> None:
    """The same millimeters per inch in every panel of a row, whatever the view."""
    right, up = _PLANES[view]
    middle = (_BOX[up][0] + _BOX[up][1]) / 2
    bare(axes).set(xlim=_BOX[right], ylim=(middle - tall / 2, middle + tall / 2), aspect="equal")


def _color_bar(figure: Figure, axes: list[Axes], norm: Normalize, label: str, *, signed: bool) -> None:
    bar = figure.colorbar(
        ScalarMappable(norm, _warm(signed)), ax=axes, shrink=0.62, aspect=14, pad=0.012, fraction=0.03
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_ticks([norm.vmin, norm.vmax], labels=[f"{norm.vmin:.2f}", f"{norm.vmax:.2f}"])  # type: ignore[list-item]
    bar.ax.tick_params(length=0)
    bar.set_label(label, color=MUTED, fontsize=8, labelpad=-8)


def _limits(data: Array, threshold: float | None, vmax: float | None, signed: bool) -> tuple[float, Normalize]:
    top = vmax if vmax is not None else float(np.nanmax(np.abs(data) if signed else data))
    top = top if top > 0 else 1.0
    least = threshold if threshold is not None else top / 3
    if not 0 <= least < top:
        least = 0.0
    return least, Normalize(-top if signed else least, top)


@styled
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
    """A map over the MNI152 template: sagittal, coronal and axial slices through its peaks.

    Parameters
    ----------
    image : Nifti1Image
        A 3-D map in MNI space; NaN is no data. Shown with linear interpolation.
    cuts : sequence of (x, y, z) [mm], optional
        Where to slice; by default the highest `peaks` places, at least 30 mm apart.
    peaks : int
        How many places.
    outline : Nifti1Image, optional
        Voxels above 0 are encircled, such as the significant ones.
    threshold : float, optional
        Values below it are not shown; a third of the top by default, written at the color scale's foot.
    vmax : float, optional
        Top of the color scale.
    signed : bool
        Show both signs, blue and orange.
    title, label : str
        Title of the figure, name of the quantity.

    Returns
    -------
    matplotlib.figure.Figure
        Left is left.

    Raises
    ------
    InputError
        Not one volume, or no finite value.
    """
    volume = _volume(image, "plot_brain")
    places = list(cuts) if cuts is not None else find_peaks(image, n=peaks) or [(0.0, -20.0, 8.0)]
    least, norm = _limits(volume[0], threshold, vmax, signed)
    rows = -(-len(places) // 2)
    pairs = min(2, len(places))
    tall = 190.0
    figure = Figure(figsize=(5 * pairs, 0.3 + 1.95 * rows), layout="constrained")
    grid = figure.subplots(rows, 3 * pairs, squeeze=False, width_ratios=[190, 156, 156] * pairs)
    figure.get_layout_engine().set(w_pad=0, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr]
    circle = _volume(outline, "plot_brain: outline") if outline is not None else None
    for at, axes in enumerate(grid.ravel()):
        if at // 3 >= len(places):
            axes.set_visible(False)
            continue
        place, view = places[at // 3], "xyz"[at % 3]
        cut = place["xyz".index(view)]
        _slice(axes, view, cut, volume, least, norm, signed=signed)
        if circle is not None:
            _encircle(axes, view, cut, circle)
        right, up = _PLANES[view]
        axes.plot(place[right], place[up], "+", color=INK, ms=7, mew=0.7, alpha=0.6)
        _frame(axes, view, tall)
        _caption(axes, view, cut)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
    _color_bar(figure, list(grid.ravel()), norm, label, signed=signed)
    return figure


def _caption(axes: Axes, view: str, cut: float) -> None:
    axes.text(0.02, 0.02, f"{view} = {round(cut)}".replace("-", "−"), transform=axes.transAxes, fontsize=7.5, color=MUTED)
    if view != "x":
        axes.text(0.02, 0.9, "L", transform=axes.transAxes, fontsize=7.5, color=SOFT)
        axes.text(0.98, 0.9, "R", transform=axes.transAxes, fontsize=7.5, color=SOFT, ha="right")


def _slice(
    axes: Axes, view: str, cut: float, volume: tuple[Array, Array], least: float, norm: Normalize, *, signed: bool
) -> None:
    world = _plane(view, cut)
    _show(axes, view, _paper(world))
    value = _sample(volume, world)
    colored = _warm(signed)(norm(np.nan_to_num(value)))
    colored[..., 3] = np.isfinite(value) & ((np.abs(value) if signed else value) >= max(least, 1e-9))
    _show(axes, view, colored.astype(np.float32))


def _encircle(axes: Axes, view: str, cut: float, circle: tuple[Array, Array]) -> None:
    world = _plane(view, cut)
    inside = np.nan_to_num(_sample((np.nan_to_num(circle[0]) > 0, circle[1]), world))
    if inside.max() > 0.5 > inside.min():
        right, up = _PLANES[view]
        axes.contour(world[right], world[up], inside, levels=[0.5], colors=[INK], linewidths=0.8)


_VIEWS = (("x", "left"), ("y", ""), ("z", ""), ("x", "right"))


@styled
def plot_glass_brain(
    image: Any, *, threshold: float | None = None, vmax: float | None = None, title: str = "", label: str = "score"
) -> Figure:
    """A map seen through the head: the highest value along each line of sight, in four views.

    Parameters
    ----------
    image : Nifti1Image
        A 3-D map in MNI space; NaN is no data.
    threshold : float, optional
        Values below it are not shown; a third of the top by default.
    vmax : float, optional
        Top of the color scale.
    title, label : str
        Title of the figure, name of the quantity.

    Returns
    -------
    matplotlib.figure.Figure
        Left hemisphere, from behind, from above, right hemisphere.

    Raises
    ------
    InputError
        Not one volume, or no finite value.
    """
    volume = _volume(image, "plot_glass_brain")
    least, norm = _limits(volume[0], threshold, vmax, False)
    figure = Figure(figsize=(10, 2.45), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr]
    grid = figure.subplots(1, 4, width_ratios=[190, 156, 156, 190])
    draw_glass(list(grid), volume, least, norm)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
    _color_bar(figure, list(grid), norm, label, signed=False)
    return figure


def draw_glass(
    grid: Sequence[Axes],
    volume: tuple[Array, Array],
    least: float,
    norm: Normalize,
    views: Sequence[tuple[str, str]] = _VIEWS,
) -> None:
    """Glass-brain views of a volume into given axes, the same millimeters per inch in each."""
    filled = (np.where(np.isfinite(volume[0]), volume[0], -1e6), volume[1])
    for axes, (view, side) in zip(grid, views, strict=True):
        _show(axes, view, _xray_cached(view, side))
        value = _projected(filled, view, side, reduce=lambda v: np.nanmax(v, axis=0))
        colored = _warm(False)(norm(value))
        colored[..., 3] = value >= max(least, 1e-9)
        _show(axes, view, colored.astype(np.float32))
        _frame(axes, view, 192.0)
        name = side or {"y": "from behind", "z": "from above"}.get(view, "")
        axes.text(0.02, 0.02, name, transform=axes.transAxes, fontsize=7.5, color=MUTED)


@styled
def plot_best_layer(
    image: Any, layer_names: Sequence[str], *, cuts: Sequence[float] | None = None, n_cuts: int = 5, title: str = ""
) -> Figure:
    """Where each layer matches best: every voxel in the color of its layer, on axial slices and from both sides.

    Parameters
    ----------
    image : Nifti1Image
        Whole numbers: k is the k-th of `layer_names`, counted from 1; 0 or NaN is no layer.
    layer_names : sequence of str
        The layers, by depth.
    cuts : sequence of float [mm], optional
        Heights z of the axial slices; by default `n_cuts` spread over the colored voxels.
    n_cuts : int
        How many slices.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Left is left.

    Raises
    ------
    InputError
        Values that are not whole numbers from 0 to the number of layers.
    """
    data, inverse = _volume(image, "plot_best_layer")
    data = np.nan_to_num(data)
    if (data != np.round(data)).any() or data.min() < 0 or data.max() > len(layer_names):
        raise InputError(
            f"plot_best_layer: values {data.min():g} to {data.max():g}; wanted whole numbers 0 to {len(layer_names)}"
        )
    where = np.column_stack(np.nonzero(data)) @ image.affine[:3, :3].T + image.affine[:3, 3]
    heights = list(cuts) if cuts is not None else _spread(where[:, 2], n_cuts)
    sides = [float(np.median(where[where[:, 0] * s > 0, 0])) if (where[:, 0] * s > 0).any() else 50.0 * s for s in (-1, 1)]
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    figure.get_layout_engine().set(w_pad=0, h_pad=0.01, wspace=0, hspace=0.02)  # type: ignore[union-attr]
    grid = figure.subplots(1, len(heights) + 2, width_ratios=[190] + [156] * len(heights) + [190])
    panels = [("x", sides[0]), *(("z", z) for z in heights), ("x", sides[1])]
    names = list(layer_names)
    palette = np.array([(0, 0, 0, 0), *((*to_rgb(c), 1) for c in layer_colors(names).values())])
    for axes, (view, cut) in zip(grid, panels, strict=True):
        world = _plane(view, cut)
        _show(axes, view, _paper(world))
        index = np.nan_to_num(_sample((data, inverse), world, order=0)).astype(int)
        _show(axes, view, palette[index].astype(np.float32))
        _frame(axes, view, 192.0)
        _caption(axes, view, cut)
    _layer_key(figure, names)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
    return figure


def _spread(heights: Array, n: int) -> list[float]:
    """Heights at even steps through what is colored, so that thin structures and thick ones are all met."""
    if heights.size == 0:
        return [float(z) for z in np.linspace(-20, 40, n)]
    return [float(z) for z in np.linspace(np.quantile(heights, 0.04), np.quantile(heights, 0.96), n).round()]


def _layer_key(figure: Figure, names: Sequence[str]) -> None:
    """A strip that names each layer under its color, from shallow to deep."""
    strip = bare(figure.add_axes((0.25, 0.055, 0.5, 0.05)))
    strip.set_in_layout(False)
    figure.get_layout_engine().set(rect=(0, 0.14, 1, 0.86))  # type: ignore[union-attr]
    for at, (name, color) in enumerate(layer_colors(names).items()):
        strip.barh(0, 0.96, left=at, height=1, color=color, lw=0)
        strip.text(at + 0.48, -0.75, name, ha="center", va="top", fontsize=8, color=SOFT)
    strip.set(xlim=(0, len(names)), ylim=(-0.5, 0.5))
