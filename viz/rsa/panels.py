"""Place views of the brain beside each other in one set of axes, on one scale in millimeters.

A figure of six views as six sets of axes takes several times as long, since each draws and resamples its own images.
Here the views are painted over each other in one array, and matplotlib draws this array, outlines and captions once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.shipped import MNI152, find_in_nilearn
from brainmap.viz.labels import format_decimals
from brainmap.viz.style import INK, MUTED, SOFT, get_colormap, strip_axes


def choose_score_colors(signed: bool) -> Colormap:
    """Return the colormap of scores, starting where colors are visible on gray."""
    return get_colormap("signed") if signed else ListedColormap(get_colormap("score")(np.linspace(0.22, 1, 256)))


def choose_limits(
    values: NDArray[np.floating], threshold: float | None, vmax: float | None, signed: bool
) -> tuple[float, Normalize]:
    """Return the lowest value that is shown, by default a third of the top, and the scale of the colors."""
    top = vmax if vmax is not None else float(np.nanmax(np.abs(values) if signed else values))
    top = top if top > 0 else 1.0
    least = threshold if threshold is not None else top / 3
    least = least if 0 <= least < top else 0.0
    return least, Normalize(-top if signed else least, top)


def paint_scores(values: NDArray[np.floating], limits: tuple[float, Normalize], signed: bool) -> NDArray[np.float64]:
    """Return the color `(..., 4)` of each value, transparent where a value is missing or too low to be shown."""
    least, norm = limits
    painted: NDArray[np.float64] = choose_score_colors(signed)(norm(np.nan_to_num(values)))
    painted[..., 3] = np.isfinite(values) & ((np.abs(values) if signed else values) >= max(least, 1e-9))
    return painted


def draw_color_bar(
    figure: Figure, norm: Normalize, label: str, signed: bool, *, at: tuple[float, float, float, float], below: float
) -> None:
    """Draw a color bar with its ends, and the name of the quantity below it; the lower end is the lowest value shown.

    `at` is the rectangle of the bar in the figure, `below` the distance of the name in heights of the bar.
    """
    axes = strip_axes(figure.add_axes(at))
    shades = choose_score_colors(signed)(np.linspace(0, 1, 256))[:, None]
    axes.imshow(shades, origin="lower", aspect="auto", extent=(0, 1, 0, 1))
    for height, value in ((0, float(norm.vmin or 0)), (1, float(norm.vmax or 1))):
        axes.text(1.3, height, format_decimals(value), color=SOFT, fontsize=8, va="center")
    axes.text(0.5, -below, label, transform=axes.transAxes, color=MUTED, fontsize=8, ha="center", va="top")


Array = NDArray[np.floating]
Volume = tuple[NDArray[np.float32], NDArray[np.float64]]
BOX = ((-77, 77), (-110, 78), (-72, 84))  # the part of MNI space that a view shows [mm]
PLANES = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}  # the axes of world space that run right and up in a view
TALL = 200  # every row spans this many millimeters upward, so that all views have one scale
_COARSE = 2  # mm between the points of a glass brain


@functools.cache
def load_template() -> NDArray[np.float32]:
    """Load the MNI152 template at 1 mm, cut to the box; it is axis-aligned, so that a slice is an index."""
    data, affine = _read_template()
    start = [round(low - at) for (low, _), at in zip(BOX, affine[:3, 3], strict=True)]
    parts = tuple(slice(s, s + high - low) for s, (low, high) in zip(start, BOX, strict=True))
    return data[parts]


def _read_template() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read nilearn's template, from 0 to 1, and its affine; nilearn's own function takes seconds to import."""
    import nibabel as nib

    place = find_in_nilearn(MNI152)
    if place is not None:
        image = nib.nifti1.load(place)
        data = np.asarray(image.dataobj).astype(np.float32)
        return data / data.max(), image.affine
    from nilearn.datasets import load_mni152_template  # a version of nilearn that keeps the file elsewhere

    image = load_mni152_template(resolution=1)
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def compute_plane(view: str, at: float) -> Array:
    """Return world coordinates `(3, height, width)` of a slice, a millimeter apart, top row first."""
    right, up = PLANES[view]
    world = np.full((3, BOX[up][1] - BOX[up][0], BOX[right][1] - BOX[right][0]), float(at))
    world[right] = np.arange(*BOX[right])[None, :]
    world[up] = np.arange(*BOX[up])[::-1, None]
    return world


def sample(volume: Volume, world: Array, *, order: int = 1) -> NDArray[np.float32]:
    """Sample a volume at world coordinates; NaN where there is no data, which does not spread to neighbors."""
    data, inverse = volume
    voxel = _find_voxels(inverse, world)
    if order == 0:
        return np.asarray(scipy.ndimage.map_coordinates(data, voxel, order=0, cval=np.nan), dtype=np.float32)
    valid = np.isfinite(data)
    weight = scipy.ndimage.map_coordinates(valid.astype(np.float32), voxel, order=1, cval=0.0)
    value = scipy.ndimage.map_coordinates(np.where(valid, data, 0), voxel, order=1, cval=0.0)
    return np.where(weight > 0.5, value / np.maximum(weight, 1e-6), np.nan).astype(np.float32)


def _find_voxels(inverse: Array, world: Array) -> Array:
    return np.asarray(
        np.tensordot(inverse[:3, :3], world, axes=1) + inverse[:3, 3].reshape(-1, *[1] * (world.ndim - 1))
    )


def resample_to_box(volume: Volume) -> NDArray[np.float32]:
    """Resample a volume to the box's own grid in 2 mm steps, 0 where there is no data, for a glass brain."""
    data, inverse = volume
    grid = [np.arange(low, high, float(_COARSE)) for low, high in BOX]
    turn = inverse[:3, :3]
    if np.count_nonzero(np.abs(turn) > 1e-9) == 3:  # axes run along those of the box: few points are far from data
        return _resample_along_axes(np.nan_to_num(data), inverse, grid)
    world = np.stack(np.meshgrid(*grid, indexing="ij"))
    return np.asarray(
        scipy.ndimage.map_coordinates(np.nan_to_num(data), _find_voxels(inverse, world), order=1, cval=0.0), np.float32
    )


def _resample_along_axes(data: Array, inverse: Array, grid: Sequence[Array]) -> NDArray[np.float32]:
    """Interpolate linearly along one axis after the other, with 0 beyond the ends."""
    turn = inverse[:3, :3]
    data = np.moveaxis(data, [int(np.abs(turn[:, k]).argmax()) for k in range(3)], range(3))
    for axis, points in enumerate(grid):
        row = int(np.abs(turn[:, axis]).argmax())
        place = turn[row, axis] * points + inverse[row, 3]
        low = np.floor(place).astype(int)
        part = (place - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        n = data.shape[axis]
        inside = (place >= 0) & (place <= n - 1)  # as map_coordinates, which is constant outside the grid
        below = np.take(data, np.clip(low, 0, n - 1), axis=axis)
        above = np.take(data, np.clip(low + 1, 0, n - 1), axis=axis)
        data = (below * (1 - part) + above * part) * inside.reshape(part.shape)
    return np.asarray(data, dtype=np.float32)


@functools.lru_cache(maxsize=256)
def shade_slice(view: str, at: float) -> NDArray[np.float32]:
    """Return the template in light grays on a transparent ground, `(height, width, 4)`, so that colors stand out."""
    axis = "xyz".index(view)
    index = int(np.clip(round(at) - BOX[axis][0], 0, load_template().shape[axis] - 1))
    gray = np.take(load_template(), index, axis=axis).T[::-1]
    shade = 0.58 + 0.40 * np.clip((gray - 0.2) / 0.7, 0, 1)
    return _shade_gray(shade, np.clip((gray - 0.1) / 0.12, 0, 1))


def _shade_gray(shade: Array, alpha: Array) -> NDArray[np.float32]:
    return np.stack([shade, shade, shade, alpha], axis=-1).clip(0, 1).astype(np.float32)


def select_hemisphere(box: Array, side: str, step: int = 1) -> Array:
    """Return the part of a box on one side; the whole box where no side is named."""
    middle = -BOX[0][0] // step
    return box[:middle] if side == "left" else box[middle:] if side == "right" else box


@functools.cache
def render_xray(view: str, side: str) -> NDArray[np.float32]:
    """Render the template as a soft silhouette, darker where the cortex folds away from the viewer."""
    box = select_hemisphere(load_template(), side)
    depth = scipy.ndimage.gaussian_filter(np.where(box > 0.2, box, 0).mean(axis="xyz".index(view)).T[::-1], 0.8)
    depth = depth / depth.max()
    edge = np.hypot(*np.gradient(depth))
    return _shade_gray(0.955 - 2.4 * edge.clip(0, 0.085), np.clip(depth / 0.04, 0, 1))


def project(box: Array, view: str, side: str) -> NDArray[np.float32]:
    """Return the highest value along each line of sight, `(height, width)` in 1 mm, top row first."""
    coarse = select_hemisphere(box, side, _COARSE).max(axis="xyz".index(view)).T[::-1]
    right, up = PLANES[view]
    rows, columns = (BOX[axis][1] - BOX[axis][0] for axis in (up, right))
    # a coarse point covers the 2 mm around it, as pixels of a picture do
    places = np.meshgrid(
        (np.arange(rows) + 0.5) * len(coarse) / rows - 0.5,
        (np.arange(columns) + 0.5) * coarse.shape[1] / columns - 0.5,
        indexing="ij",
    )
    return np.asarray(scipy.ndimage.map_coordinates(coarse, places, order=1, mode="nearest"), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Panels:
    """Hold views in one set of axes, row by row, and the picture that is painted in them.

    Attributes
    ----------
    axes : Axes
        Millimeters from the left edge of a row, and from the top of the first row downward (negative).
    views : sequence of "x", "y" or "z"
    columns : int
        Views in a row.
    """

    axes: Axes
    views: Sequence[str]
    columns: int
    canvas: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        rows = -(-len(self.views) // self.columns)
        wide = sum(measure_width(view) for view in self.views[: self.columns])
        object.__setattr__(self, "canvas", np.zeros((rows * TALL, wide, 4), dtype=np.float32))
        strip_axes(self.axes).set(xlim=(0, wide), ylim=(-rows * TALL, 0), aspect="equal")
        self.axes.patch.set_visible(False)

    def find_corner(self, at: int) -> tuple[int, int]:
        """Return the top left corner of the box of a view on the canvas: row and column."""
        first = at - at % self.columns
        up = PLANES[self.views[at]][1]
        margin = (TALL - (BOX[up][1] - BOX[up][0])) // 2
        return first // self.columns * TALL + margin, sum(measure_width(v) for v in self.views[first:at])

    def select(self, at: int, canvas: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the part of the canvas, or of an array of its size, that a view covers."""
        right, up = PLANES[self.views[at]]
        top, left = self.find_corner(at)
        whole = self.canvas if canvas is None else canvas
        return whole[top : top + BOX[up][1] - BOX[up][0], left : left + BOX[right][1] - BOX[right][0]]

    def paint(self, at: int, picture: NDArray[np.floating]) -> None:
        """Paint a picture `(height, width, 4)` in 1 mm over what a view shows."""
        below = self.select(at)
        alpha = picture[..., 3:]
        total = alpha + below[..., 3:] * (1 - alpha)
        mixed = picture[..., :3] * alpha + below[..., :3] * below[..., 3:] * (1 - alpha)
        below[..., :3] = mixed / np.maximum(total, 1e-6)
        below[..., 3:] = total

    def locate(self, at: int, place: Sequence[float]) -> tuple[float, float]:
        """Return where a place [mm] lies in the axes."""
        right, up = PLANES[self.views[at]]
        top, left = self.find_corner(at)
        return left + place[right] - BOX[right][0], -(top + BOX[up][1] - place[up])

    def mark(self, at: int, place: Sequence[float]) -> None:
        """Mark a place by a cross that is visible on light and on dark ground."""
        where = self.locate(at, place)
        self.axes.plot(*where, "+", color="white", ms=9, mew=2.4)
        self.axes.plot(*where, "+", color=INK, ms=8, mew=1.0)

    def encircle(self, inside: NDArray[np.float32]) -> None:
        """Draw a line around what is above .5 in an array of the canvas's size."""
        if inside.max() > 0.5 > inside.min():
            rows, columns = (np.arange(n) + 0.5 for n in inside.shape)
            self.axes.contour(columns, -rows, inside, levels=[0.5], colors=[INK], linewidths=0.8)

    def caption(self, at: int, words: str, *, sides: bool = False, outside: bool = False) -> None:
        """Write into the lower edge of a view (or below it), and L and R beside it where it has two sides."""
        top, left = self.find_corner(at)[0] // TALL * TALL, self.find_corner(at)[1]
        wide = measure_width(self.views[at])
        low, align = (1.02, "top") if outside else (0.985, "bottom")
        self.axes.text(left + 0.03 * wide, -top - low * TALL, words, fontsize=7.5, color=MUTED, va=align)
        for share, side, align in ((0.03, "L", "left"), (0.97, "R", "right")) if sides else ():
            x, y = left + share * wide, -top - 0.14 * TALL
            self.axes.text(x, y, side, fontsize=7.5, color=SOFT, ha=align, va="bottom")

    def show(self) -> None:
        """Draw what was painted."""
        rows, wide = self.canvas.shape[:2]
        limits = self.axes.axis()
        self.axes.imshow(self.canvas, extent=(0, wide, -rows, 0), interpolation="bilinear", aspect="equal", zorder=0)
        self.axes.axis(limits)


def measure_width(view: str) -> int:
    """Return the width of a view [mm]."""
    low, high = BOX[PLANES[view][0]]
    return high - low


def make_panels(
    figure: Figure, views: Sequence[str], *, rows: int = 1, head: float = 0.0, foot: float = 0.0, right: float = 0.0
) -> Panels:
    """Create rows of views as wide as the figure, and set its height. Margins are in inches."""
    columns = len(views) // rows
    wide = figure.get_figwidth()
    inch = (wide - right) / sum(measure_width(v) for v in views[:columns])
    high = head + foot + rows * TALL * inch
    figure.set_figheight(high)
    axes = figure.add_axes((0, foot / high, (wide - right) / wide, rows * TALL * inch / high))
    return Panels(axes, views, columns)
