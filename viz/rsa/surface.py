"""Plot maps on the inflated cortex: lateral and medial views of both hemispheres.

Triangles are drawn back to front, in one pass for all four views; a general 3-D plot would take seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.rsa.surface.data import SurfaceData
from brainmap.rsa.surface.fsaverage import read_fsaverage_depth, read_fsaverage_points, read_fsaverage_triangles
from brainmap.rsa.surface.meshes import Mesh
from brainmap.viz.rsa.panels import choose_limits, draw_color_bar, paint_scores
from brainmap.viz.style import MUTED, Picture, assign_layer_colors, strip_axes, with_style

Array = NDArray[np.floating]
_VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))
_MESHES = {10_242: "fsaverage5", 163_842: "fsaverage"}


class Part(NamedTuple):
    """Hold a hemisphere as it is drawn."""

    points: Array  # [mm]
    faces: NDArray[np.int64]
    depth: Array  # above 0 in a sulcus
    outward: bool = True  # whether all triangles have one orientation; those that face away are then not drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownMesh:
    """Hold both hemispheres of a cortex as they are drawn.

    Attributes
    ----------
    points : ndarray (n_vertices, 3) [mm]
        As drawn: inflated, or as the mesh is.
    own : ndarray (n_vertices, 3) [mm]
        Where the vertices of the map lie.
    triangles : ndarray of int (n_triangles, 3)
    sizes : tuple of int
        Vertices of the left and the right hemisphere.
    gyri : ndarray of bool (n_vertices,), optional
        Vertices on gyri; None where these are not known.
    rows : ndarray of int (n_vertices,)
        Rows of the map that are drawn.
    words : str
        What is drawn.
    """

    points: Array
    own: Array
    triangles: NDArray[np.int64]
    sizes: tuple[int, int]
    gyri: NDArray[np.bool_] | None
    rows: NDArray[np.int64]
    words: str

    def take(self, data: Any) -> Array:
        """Return the values of a map at the vertices that are drawn."""
        return np.asarray(data.values[self.rows, 0], float)


def choose_shown_mesh(data: SurfaceData, mesh: Mesh) -> ShownMesh:
    """Choose what a map on a mesh is drawn on, where a picture holds the mesh itself: fsaverage5, or the map's own.

    The vertices of fsaverage5 are the first ones of fsaverage, of which the others are left out.
    """
    points, triangles, sizes = np.asarray(mesh.points), np.asarray(mesh.triangles), (mesh.sizes[0], mesh.sizes[1])
    if not set(sizes) <= {0, *_MESHES}:
        rows = np.arange(len(points))
        words = "the mesh of the study"
        return ShownMesh(points=points, own=points, triangles=triangles, sizes=sizes, gyri=None, rows=rows, words=words)
    few = min(_MESHES)
    firsts = [first for first, size in zip((0, sizes[0]), sizes, strict=True) if size]
    parts = [_load_mesh(_MESHES[few], side) for side, size in zip(("left", "right"), sizes, strict=True) if size]
    rows = np.concatenate([first + np.arange(few) for first in firsts])
    words = "fsaverage5, inflated" + ("" if max(sizes) == few else ", whose vertices are every 16th of fsaverage")
    return ShownMesh(
        points=np.concatenate([one.points for one in parts]),
        own=points[rows],
        triangles=np.concatenate([one.faces + few * k for k, one in enumerate(parts)]),
        sizes=(few if sizes[0] else 0, few if sizes[1] else 0),
        gyri=np.concatenate([one.depth for one in parts]) < 0,
        rows=rows,
        words=words,
    )


@with_style
def plot_surface(
    data: SurfaceData,
    *,
    index: int = 0,
    layers: tuple[str, ...] | None = None,
    mesh: Mesh | None = None,
    threshold: float | None = None,
    vmax: float | None = None,
    signed: bool = False,
    title: str = "",
    label: str = "score",
) -> Figure:
    """Plot a map on the inflated cortex, with a lateral and a medial view of each hemisphere.

    Parameters
    ----------
    data : SurfaceData
        Values at the vertices; a hemisphere without vertices stays gray.
    index : int
        Index of the map to show.
    layers : tuple of str, optional
        Names of the values 1, 2, ... in a map of best layers.
    mesh : Mesh, optional
        The mesh of the data, drawn unchanged; by default data on fsaverage5 and fsaverage are drawn inflated.
    threshold, vmax, signed, title, label
        As in `plot_brain`.

    Returns
    -------
    matplotlib.figure.Figure
        Sulci are dark gray.

    Raises
    ------
    InputError
        If the data are on another mesh, there is no such map, or no value is finite.
    """
    values = _list_values_by_side(data, index)
    parts = _list_parts(values, mesh)
    finite = np.concatenate([v[np.isfinite(v)] for v in values.values()] or [np.empty(0)])
    if not finite.size:
        raise InputError(f"plot_surface: the map {index} holds no finite value")
    paint, norm = _make_painter(finite, layers, threshold, vmax, signed)
    head, high = (0.32, 1.98) if title else (0.04, 1.7)  # inches
    figure = Picture(figsize=(9.6, high))
    for k, (side, view) in enumerate(_VIEWS):
        axes = strip_axes(figure.add_axes((0.005 + 0.222 * k, 0.2 / high, 0.215, (high - head - 0.2) / high)))
        if side in parts:
            _draw_hemisphere(axes, parts[side], view == "lateral", side, values.get(side), paint)
        figure.text(0.1125 + 0.222 * k, 0.03, f"{side} {view}", fontsize=8, color=MUTED, ha="center")
    if title:
        figure.text(0.008, 0.985, title, fontsize=10, fontweight="bold", va="top")
    _draw_legend(figure, layers, norm, label, signed)
    return figure


@with_style
def plot_surface_maps(
    maps: Mapping[str, SurfaceData],
    *,
    models: Sequence[str] | None = None,
    best: SurfaceData | None = None,
    mesh: Mesh | None = None,
    threshold: float | None = None,
    vmax: float | None = None,
    title: str = "",
    label: str = "score",
) -> Figure:
    """Plot maps of several models on the cortex with one color scale, one row per model, then the best model.

    Parameters
    ----------
    maps : SurfaceMaps, or mapping of model to SurfaceData
    models : sequence of str, optional
        Models to show, one per row; by default all. The best model is chosen among these.
    best : SurfaceData, optional
        The last row, as numbers of the rows above, from 1; by default the model with the largest value.
    mesh : Mesh, optional
        As in `plot_surface`; by default the mesh of the maps, if they have one.
    threshold : float, optional
        Values below it are not shown in any row; by default a third of the top.
    vmax : float, optional
        Top of the color scale.
    title, label : str
        Title of the figure, and name of the quantity.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a model is unknown, the mesh is not that of the data, or no value is finite.
    """
    names = [
        check_choice(name, tuple(maps), "plot_surface_maps: model") for name in (maps if models is None else models)
    ]
    rows = [_list_values_by_side(maps[name], 0) for name in names]
    parts = _list_parts(rows[0], getattr(maps, "mesh", None) if mesh is None else mesh)
    finite = np.concatenate([v[np.isfinite(v)] for row in rows for v in row.values()] or [np.empty(0)])
    if not finite.size:
        raise InputError("plot_surface_maps: the maps hold no finite value")
    paint, norm = _make_painter(finite, None, threshold, vmax, False)
    paints, shown = [paint] * len(rows), list(names)
    if len(rows) > 1:
        chosen = {side: _find_best([row[side] for row in rows], float(norm.vmin)) for side in rows[0]}
        rows.append(chosen if best is None else _list_values_by_side(best, 0))
        paints.append(_make_painter(finite, tuple(names), None, None, False)[0])
        shown.append("best")
    head, foot, row_high = 0.4 if title else 0.08, 0.24, 1.42  # inches
    high = head + foot + row_high * len(rows)
    figure = Picture(figsize=(9.6, high))
    for r, (name, row, one) in enumerate(zip(shown, rows, paints, strict=True)):
        low = (foot + row_high * (len(rows) - 1 - r)) / high
        figure.text(0.012, low + 0.5 * row_high / high, name, rotation=90, fontsize=9, ha="center", va="center")
        for k, (side, view) in enumerate(_VIEWS):
            axes = strip_axes(figure.add_axes((0.025 + 0.218 * k, low, 0.211, (row_high - 0.06) / high)))
            if side in parts:
                _draw_hemisphere(axes, parts[side], view == "lateral", side, row.get(side), one)
    for k, (side, view) in enumerate(_VIEWS):
        figure.text(0.13 + 0.218 * k, 0.05 / high, f"{side} {view}", fontsize=8, color=MUTED, ha="center")
    if title:
        figure.text(0.008, 1 - 0.07 / high, title, fontsize=10, fontweight="bold", va="top")
    at = (0.925, 1 - (head + 1.25) / high, 0.011, 0.95 / high)
    draw_color_bar(figure, norm, label, False, at=at, below=0.1)
    if len(rows) > 1:
        for k, (name, color) in enumerate(assign_layer_colors(names).items()):
            y = (foot + row_high - 0.12 - (row_high - 0.2) * k / max(len(names), 7)) / high
            figure.text(0.905, y, f"■ {name}", color=color, fontsize=8, va="top")
    return figure


def _find_best(values: Sequence[Array], least: float) -> Array:
    """Return the number, from 1, of the largest value at each vertex; NaN if no value reaches `least`."""
    filled = np.where(np.isnan(values), -np.inf, values)
    return np.where(filled.max(axis=0) >= least, filled.argmax(axis=0) + 1.0, np.nan)


def _list_values_by_side(data: SurfaceData, index: int) -> dict[str, Array]:
    """Return one map of each hemisphere that has vertices."""
    sides = {side: np.asarray(getattr(data, side), float) for side in ("left", "right")}
    return {side: block[:, index] for side, block in sides.items() if len(block) and index < block.shape[1]}


def _list_parts(values: Mapping[str, Array], mesh: Mesh | None) -> dict[str, Part]:
    """Return points, triangles and sulcal depth of each hemisphere that is drawn.

    Raises
    ------
    InputError
        If the values are on another mesh.
    """
    names = {_MESHES.get(len(v), "") for v in values.values()}
    if len(names) == 1 and "" not in names and (mesh is None or set(mesh.sizes) <= {0, *_MESHES}):
        name = names.pop()
        return {side: _load_mesh(name, side) for side in ("left", "right")}
    if mesh is None:
        n = ", ".join(str(len(v)) for v in values.values())
        raise InputError(
            f"plot_surface: expected 10242 vertices (fsaverage5) or 163842 (fsaverage) in each hemisphere, got {n}; "
            "give the mesh"
        )
    points, triangles, left = np.asarray(mesh.points), np.asarray(mesh.triangles), mesh.sizes[0]
    parts: dict[str, Part] = {}
    for side, first, size in zip(("left", "right"), (0, left), mesh.sizes, strict=True):
        if side in values and len(values[side]) != size:
            raise InputError(
                f"plot_surface: expected {size} vertices in the {side} half, as the mesh has, got {len(values[side])}"
            )
        if size:
            mine = (triangles >= first).all(axis=1) & (triangles < first + size).all(axis=1)
            parts[side] = Part(points[first : first + size], triangles[mine] - first, np.zeros(size), outward=False)
    return parts


def _make_painter(
    finite: Array, layers: Any, threshold: float | None, vmax: float | None, signed: bool
) -> tuple[Any, Any]:
    """Return a function from values to colors `(n, 4)`, transparent where nothing is shown, and its scale."""
    if layers is not None:
        from matplotlib.colors import to_rgba_array

        table = to_rgba_array(list(assign_layer_colors(layers).values()))
        return (lambda v: _color_layers(v, table)), None
    limits = choose_limits(finite, threshold, vmax, signed)
    return (lambda v: paint_scores(v, limits, signed)), limits[1]


def _color_layers(values: Array, table: Array) -> Array:
    known = np.isfinite(values) & (values >= 1) & (values <= len(table))
    painted: Array = table[np.where(known, np.nan_to_num(values), 1).astype(int) - 1].copy()
    painted[:, 3] = known
    return painted


@functools.cache
def _load_mesh(name: str, side: str) -> Part:
    """Return points [mm] of the inflated surface, triangles, and sulcal depth (above 0 in a sulcus)."""
    points, triangles = read_fsaverage_points(name, "inflated")[side], read_fsaverage_triangles(name)[side]
    return Part(points, triangles, read_fsaverage_depth(name)[side])


def _draw_hemisphere(axes: Axes, part: Part, lateral: bool, side: str, values: Array | None, paint: Any) -> None:
    points, faces, depth, one_way = part
    outward = -1.0 if (side == "left") == lateral else 1.0  # the viewer is at this end of x
    right, up, toward = points[:, 1] * outward, points[:, 2], points[:, 0] * outward
    corners = np.stack([right, up, toward], axis=1)[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-9)
    ground = np.where(depth > 0, 0.62, 0.80)
    shade = ground[faces].mean(axis=1)
    color = np.stack([shade, shade, shade, np.ones_like(shade)], axis=1)
    if values is not None:
        over = _average_colors(values, faces, paint)
        color[:, :3] = over[:, 3:] * over[:, :3] + (1 - over[:, 3:]) * color[:, :3]
    if not one_way:
        normal *= np.where(normal[:, 2:] < 0, -1.0, 1.0)
    seen = np.flatnonzero(normal[:, 2] > 0)
    seen = seen[np.argsort(corners[seen, :, 2].mean(axis=1))]
    light = 0.80 + 0.20 * (0.35 * normal[seen, 1] + 0.94 * normal[seen, 2]).clip(0, 1)
    painted = (color[seen, :3] * light[:, None]).clip(0, 1)
    triangles = PolyCollection(
        list(corners[seen, :, :2]), facecolors=painted, edgecolors=painted, linewidths=0.25, rasterized=True
    )
    axes.add_collection(triangles)
    axes.set(xlim=(right.min() - 2, right.max() + 2), ylim=(up.min() - 2, up.max() + 2), aspect="equal")
    axes.patch.set_visible(False)


def _average_colors(values: Array, faces: NDArray[np.int64], paint: Any) -> Array:
    """Average the colors of a triangle's corners; corners that show nothing count as transparent."""
    corners = paint(values)[faces]
    weight = corners[..., 3:]
    shown = weight.mean(axis=1)
    mixed = (corners[..., :3] * weight).sum(axis=1) / weight.sum(axis=1).clip(1e-9)
    return np.concatenate([mixed, shown], axis=1)


def _draw_legend(figure: Figure, layers: Any, norm: Normalize | None, label: str, signed: bool) -> None:
    if norm is None:
        for k, (name, color) in enumerate(assign_layer_colors(layers).items()):
            figure.text(0.905, 0.82 - 0.68 * k / max(len(layers), 8), f"■ {name}", color=color, fontsize=8)
        return
    draw_color_bar(figure, norm, label, signed, at=(0.925, 0.26, 0.011, 0.5), below=0.1)
