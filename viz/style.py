"""One style for all figures: colors, colormaps, the style sheet, and the conversion of figures to files.

Three quantities have one color family each on the whole page: scores are warm, dissimilarities are in ink (dark means
similar), and signed values run from blue through white to orange. Layers are colored by depth.
"""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.checks import check_choice

STYLE = Path(__file__).with_name("brainmap.mplstyle")
INK, SOFT, MUTED, HAIRLINE, PAPER = "#1c2530", "#3e4c59", "#7b8794", "#e1e6eb", "#f6f7f5"
ACCENT, WARM = "#0f6578", "#c04a22"

_ANCHORS = {
    "score": ["#fdf1da", "#f7c873", "#e98a3d", "#c04a22", "#82182b", "#4a0d2b"],
    "dissimilarity": ["#0f2338", "#1f5673", "#6ba3b4", "#c2dade", "#fafbf8"],
    "sound": ["#fcfcf9", "#c9dfe2", "#6ba3b4", "#1f5673", "#0f2338"],
    "signed": ["#123f73", "#3f7fb5", "#a9cbe2", "#f6f5f1", "#f2b98a", "#cf6a2c", "#842f0f"],
}
_STYLED: ContextVar[bool] = ContextVar("styled", default=False)
_P = ParamSpec("_P")
_R = TypeVar("_R")

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def convert_to_oklab(rgb: NDArray[np.floating]) -> NDArray[np.floating]:
    """Convert sRGB colors `(..., 3)` in 0..1 to Oklab, in which equal steps look equal.

    Examples
    --------
    >>> convert_to_oklab(np.ones(3)).round(3) + 0.0
    array([1., 0., 0.])
    """
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T)


def convert_from_oklab(lab: NDArray[np.floating]) -> NDArray[np.floating]:
    """Convert Oklab colors `(..., 3)` to sRGB, clipped to the gamut."""
    linear = np.clip(((lab @ np.linalg.inv(_TO_LAB).T) ** 3) @ np.linalg.inv(_TO_LMS).T, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


def _sample_evenly(anchors: NDArray[np.floating], steps: int) -> NDArray[np.floating]:
    """Sample a path through Oklab colors at even distances."""
    fine = np.linspace(0, len(anchors) - 1, 2000)
    path = np.stack([np.interp(fine, np.arange(len(anchors)), anchors[:, i]) for i in range(3)], axis=1)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    even = np.linspace(0, along[-1], steps)
    return np.stack([np.interp(even, along, path[:, i]) for i in range(3)], axis=1)


@functools.cache
def get_colormap(quantity: str) -> Colormap:
    """Return the colormap of a quantity, with equal perceptual steps along it.

    Parameters
    ----------
    quantity : {"score", "dissimilarity", "sound", "signed"}
        "score" is warm, from paper to plum; "dissimilarity" runs from ink (similar) to paper; "sound" runs from paper
        to ink (loud); "signed" runs from blue to orange.

    Raises
    ------
    InputError
        If there is no such quantity.

    References
    ----------
    Crameri F, Shephard GE, Heron PJ (2020), on perceptually uniform maps: doi:10.1038/s41467-020-19160-7

    Examples
    --------
    >>> get_colormap("score").name
    'brainmap-score'
    """
    anchors = convert_to_oklab(
        np.array([to_rgb(c) for c in _ANCHORS[check_choice(quantity, list(_ANCHORS), "colormap")]])
    )
    middle = len(anchors) // 2
    # Each half of a signed map is sampled on its own, so that zero falls on the neutral middle.
    halves = [anchors[: middle + 1], anchors[middle:]] if quantity == "signed" else [anchors]
    lab = np.concatenate([_sample_evenly(half, 256 // len(halves)) for half in halves])
    return LinearSegmentedColormap.from_list(f"brainmap-{quantity}", convert_from_oklab(lab), bad=(0, 0, 0, 0))


def assign_layer_colors(layers: Sequence[str]) -> dict[str, str]:
    """Assign a color to each layer by depth, from violet (first) to green (last); it is the same in every figure.

    Parameters
    ----------
    layers : sequence of str
        Layer names in the order of the network.

    Examples
    --------
    >>> assign_layer_colors(["conv1", "conv2"])
    {'conv1': '#440154', 'conv2': '#7ad151'}
    """
    names = list(dict.fromkeys(layers))
    depth = np.linspace(0, 0.8, len(names)) if len(names) > 1 else np.full(len(names), 0.4)
    return dict(zip(names, map(to_hex, mpl.colormaps["viridis"](depth)), strict=True))


def with_style(make: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a figure function under the brainmap style sheet and restore matplotlib's settings afterwards.

    A function that another one calls finds the style in force, since setting and restoring it takes as long as a small
    figure.
    """

    @functools.wraps(make)
    def within(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if _STYLED.get():
            return make(*args, **kwargs)
        token = _STYLED.set(True)
        try:
            with mpl.rc_context(_read_style()):
                return make(*args, **kwargs)
        finally:
            _STYLED.reset(token)

    return within


@functools.cache
def _read_style() -> mpl.RcParams:
    return mpl.rc_params_from_file(STYLE, use_default_template=False)


class Picture(Figure):
    """Be a matplotlib `Figure` that shows itself in notebooks, pages and the gallery; every figure of `viz` is one."""

    def describe(self) -> str:
        """Return the title of the figure, else those of its axes, as a description in words."""
        bold = [text.get_text() for text in self.texts if text.get_fontweight() == "bold"]
        titles = [self.get_suptitle(), *bold, *[axes.get_title(at) for axes in self.axes for at in ("left", "center")]]
        words = list(dict.fromkeys(" ".join(title.split()) for title in titles if title.strip()))
        return ", ".join(words[:1] if self.get_suptitle() else words[:6])

    def _repr_html_(self) -> str:
        source, width = encode_data_uri(render_png(self), "image/png"), round(96 * self.get_figwidth())
        alt = html.escape(self.describe() or "figure", quote=True)
        return f'<img src="{source}" alt="{alt}" style="width: {width}px; max-width: 100%">'


@with_style
def make_axes(
    size: tuple[float, float],
    rows: int = 1,
    columns: int = 1,
    *,
    layout: Literal["constrained"] | None = "constrained",
    **shared: Any,
) -> tuple[Picture, NDArray[Any]]:
    """Make a figure of a size [inch] with axes in rows and columns.

    Parameters
    ----------
    size : tuple of two floats [inch]
    rows, columns : int
    layout : {"constrained"} or None
    **shared
        Of `Figure.subplots`: `sharex`, `sharey`, `width_ratios`, `height_ratios`.

    Returns
    -------
    figure : Picture
    grid : array of Axes (rows, columns)
    """
    figure = Picture(figsize=size, layout=layout)
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False, **shared))


@with_style
def make_grid(
    n: int,
    columns: int,
    *,
    panel: tuple[float, float],
    margin: tuple[float, float] = (0.0, 0.0),
    narrowest: float = 0.0,
    widest: float = np.inf,
    layout: Literal["constrained"] | None = "constrained",
    **shared: Any,
) -> tuple[Picture, NDArray[Any]]:
    """Make a figure of n panels in rows of at most so many columns; places that are left over are hidden.

    Parameters
    ----------
    n, columns : int
    panel, margin : tuple of two floats [inch]
        Width and height of a panel, and of what is around all of them.
    narrowest, widest : float [inch]
        Least and greatest width of the figure.
    layout : {"constrained"} or None
    **shared
        Of `Figure.subplots`: `sharex`, `sharey`.

    Returns
    -------
    figure : Picture
    grid : array of Axes (n_rows, n_columns)
    """
    columns = min(columns, n)
    rows = -(-n // columns)
    width = max(narrowest, min(widest, margin[0] + panel[0] * columns))
    figure, grid = make_axes((width, margin[1] + panel[1] * rows), rows, columns, layout=layout, **shared)
    for axes in grid.ravel()[n:]:
        axes.set_visible(False)
    return figure, grid


def label_edges(grid: NDArray[Any], *, x: str = "", y: str = "") -> None:
    """Label the axes of the panels at the lower and at the left edge of a grid."""
    for axes in grid[-1]:
        axes.set_xlabel(x)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


def settle(figure: Figure) -> Figure:
    """Compute the layout of a figure once, so that saving the figure twice does not repeat it."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


@with_style
def render_png(figure: Figure, *, dpi: int = 192) -> bytes:
    """Render a figure as PNG bytes; 192 dots per inch give two image pixels per CSS pixel."""
    from PIL import Image

    raw, out = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="rgba", dpi=dpi)
    size = int(figure.get_figwidth() * dpi), int(figure.get_figheight() * dpi)
    image = Image.frombytes("RGBA", size, raw.getvalue())
    if image.getchannel("A").getextrema() == (
        255,
        255,
    ):  # as small as with transparency at a higher level, in half of the time
        image = image.convert("RGB")
    image.save(out, format="png", compress_level=3, dpi=(dpi, dpi))
    return out.getvalue()


@with_style
def render_svg(figure: Figure, *, dpi: int = 192) -> bytes:
    """Render a figure as SVG bytes in which text stays text; the same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def encode_data_uri(content: bytes, kind: str) -> str:
    """Encode bytes as a `data:` address, so that a page can embed them.

    Examples
    --------
    >>> encode_data_uri(b"hi", "text/plain")
    'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def add_headline(figure: Figure, words: str) -> Figure:
    """Add a title at the left edge of a whole figure; an empty string adds none."""
    if words:
        figure.suptitle(words, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def add_color_bar(
    figure: Any,
    image: Any,
    axes: Any,
    label: str,
    *,
    fontsize: float | None = None,
    color: str = SOFT,
    **place: Any,
) -> Any:
    """Add a color bar without a frame and marks; `place` are arguments of `Figure.colorbar`."""
    bar = figure.colorbar(image, ax=axes, **place)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label(label, **{"color": color} | ({} if fontsize is None else {"fontsize": fontsize}))
    return bar


def strip_axes(axes: Axes) -> Axes:
    """Remove ticks and frame from axes that show a picture."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def choose_ink(color: Any) -> str:
    """Return ink, white or black, the first that has a contrast of 4.5 with a background color; one always has.

    References
    ----------
    W3C (2018), WCAG 2.1, contrast (minimum): https://www.w3.org/TR/WCAG21/#contrast-minimum

    Examples
    --------
    >>> choose_ink("#ffffff"), choose_ink("#000000"), choose_ink("#c95827")
    ('#1c2530', '#ffffff', '#000000')
    """
    light = _measure_luminance(color)
    if (light + 0.05) / (_measure_luminance(INK) + 0.05) >= _CONTRAST:
        return INK
    return "#ffffff" if 1.05 / (light + 0.05) >= _CONTRAST else "#000000"


_CONTRAST = 4.5


def _measure_luminance(color: Any) -> float:
    rgb = np.asarray(to_rgb(color), dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
