"""Draw the searchlight maps of each network for the page.

Put the group's maps into the page, for a viewer that shows slices through any place of them, or the cortex.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import NetworkMaps, ReportContent
from brainmap.viz.page.pictures import Picture, Pictures
from brainmap.viz.rsa.panels import BOX, choose_score_colors, load_template
from brainmap.viz.rsa.surface import ShownMesh, choose_shown_mesh, plot_surface_maps
from brainmap.viz.rsa.volume import find_peaks, plot_best_layer, plot_brain, plot_glass_brain
from brainmap.viz.style import assign_layer_colors


@dataclass(frozen=True, kw_only=True)
class BrainView:
    """Hold the pictures of a network's maps; `highest` is the place of the map with the highest value."""

    name: str
    colors: dict[str, str]
    best_layer: Picture | None
    surface: Picture | None
    maps: dict[str, list[Picture]]
    highest: int
    differences: dict[str, list[Picture]]
    silent: list[str]
    note: str


def draw_brains(content: ReportContent, drawn: Pictures) -> list[BrainView]:
    """Draw the maps of every network that has some."""
    main = next(iter(content.list_families()))
    label = content.map_measure or content.measure
    ordered = sorted(content.maps.items(), key=lambda item: item[0] != main)
    return [_draw_network(name, its, drawn, label, "" if name == main else f"-{name}") for name, its in ordered]


def _draw_network(name: str, its: NetworkMaps, drawn: Pictures, label: str, ending: str) -> BrainView:
    layers = its.list_layers()
    best, surface = None, None
    maps: dict[str, list[Picture]] = {}
    highest = 0
    if its.mesh is not None:
        shown = {layer: its.means[layer] for layer in layers if layer in its.means}
        models = list(shown)
        plot = partial(plot_surface_maps, shown, models=models, best=its.best_layer, mesh=its.mesh, label=label)
        names = models if its.best_layer is None else [*models, "best layer"]
        words = _describe_surface(shown, label)
        surface = drawn.add(f"surface-maps{ending}", plot, words, painted=True, group=name, maps=names)
    else:
        if its.best_layer is not None:
            plot = partial(plot_best_layer, its.best_layer, layers)
            words = _describe_best(name, its)
            best = drawn.add(f"best-layer{ending}", plot, words, painted=True, group=name, maps=["best layer"])
        maps, highest = _draw_layers(name, its, drawn, label, ending)
    differences, silent = _draw_differences(name, its, drawn, label, ending)
    return BrainView(
        name=name,
        colors=assign_layer_colors(layers),
        best_layer=best,
        surface=surface,
        maps=maps,
        highest=highest,
        differences=differences,
        silent=silent,
        note=its.note,
    )


def _draw_layers(
    name: str, its: NetworkMaps, drawn: Pictures, label: str, ending: str
) -> tuple[dict[str, list[Picture]], int]:
    """Draw a glass brain and slices for each layer, on one color scale so that layers can be compared."""
    shown = {layer: its.means[layer] for layer in its.list_layers() if layer in its.means}
    if not shown:
        return {}, 0
    tops = [float(np.nanmax(np.asarray(image.dataobj))) for image in shown.values()]
    top = max((t for t in tops if t > 0), default=None)
    made = {}
    for layer, image in shown.items():
        peak = _describe_peak(image)
        glass = partial(plot_glass_brain, image, vmax=top, label=label)
        slices = partial(plot_brain, image, outline=_mark_significant(its.p.get(layer)), vmax=top, label=label)
        made[layer] = [
            drawn.add(
                f"{kind}-{layer}{ending}",
                plot,
                f"{words} of {layer}: {label} {peak}",
                painted=True,
                group=name,
                maps=[layer],
            )
            for kind, plot, words in (("glass", glass, "Glass brain"), ("slices", slices, "Slices"))
        ]
    return made, int(np.argmax(tops))


def _draw_differences(
    network: str, its: NetworkMaps, drawn: Pictures, label: str, ending: str
) -> tuple[dict[str, list[Picture]], list[str]]:
    """Draw slices through the peaks of all differences that some voxel shows, on one color scale; name the others."""
    outlines = {name: _mark_significant(its.p_differences[name]) for name in its.differences}
    shown = [name for name, outline in outlines.items() if np.any(outline.dataobj)]
    images = {name: its.differences[name] for name in shown}
    values = {name: np.asarray(image.dataobj, dtype=np.float32) for name, image in images.items()}
    top = max((float(np.nanmax(np.abs(found))) for found in values.values()), default=None)
    made = {}
    for name, image in images.items():
        cuts = sorted(find_peaks(type(image)(np.abs(values[name]), image.affine), n=2))
        plot = partial(plot_brain, image, cuts=cuts, outline=outlines[name], vmax=top, signed=True, label=f"Δ {label}")
        words = f"Slices through the largest differences {name}"
        shown_as = name.replace(" - ", " \N{MINUS SIGN} ")
        made[name] = [
            drawn.add(f"difference-{name}{ending}", plot, words, painted=True, group=network, maps=[shown_as])
        ]
    return made, [name for name in outlines if name not in shown]


def _describe_surface(shown: Mapping[str, Any], label: str) -> str:
    """Say which map on the cortex is highest, and at which vertex."""
    tops = {layer: float(np.nanmax(data.values[:, 0])) for layer, data in shown.items()}
    layer = max(tops, key=lambda name: tops[name])
    row, left = int(np.nanargmax(shown[layer].values[:, 0])), len(shown[layer].left)
    vertex = f"left:{row}" if row < left else f"right:{row - left}"
    peak = f"{format_decimals(tops[layer])} at vertex {vertex}"
    return f"Searchlight maps on the cortex: {label} is highest for {layer}, {peak}"


def _describe_peak(image: Any) -> str:
    """Say where a map is highest."""
    values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32), nan=-np.inf)
    voxel = np.unravel_index(int(values.argmax()), values.shape)
    x, y, z = (round(float(at)) for at in image.affine[:3, :3] @ voxel[:3] + image.affine[:3, 3])
    return f"is highest at ({x}, {y}, {z}) mm, {format_decimals(float(values[voxel]))}".replace("-", "−")


def _describe_best(name: str, its: NetworkMaps) -> str:
    """Say in how many voxels each layer is best."""
    layers = its.list_layers()
    numbers = np.nan_to_num(np.asarray(its.best_layer.dataobj)).astype(int).ravel()
    counts = np.bincount(numbers, minlength=len(layers) + 1)
    shown = [f"{layer} in {n:,}" for layer, n in zip(layers, counts[1:], strict=False) if n]
    return f"Best layer of {name} at every significant voxel: {', '.join(shown) or 'none'}"


def select_significant(p: Any) -> NDArray[np.bool_] | None:
    """Return which voxels (vertices) have a corrected p of at most .05; None without p values."""
    if p is None:
        return None
    values = np.asarray(p.dataobj if hasattr(p, "dataobj") else p.values[:, 0], dtype=np.float32)
    return (values > 0) & (values <= np.float32(0.05))


def _mark_significant(p: Any) -> Any:
    """Return significant voxels as an image of ones and zeros; None without p values."""
    found = select_significant(p)
    return None if found is None else type(p)(found.astype(np.float32), p.affine)


_LARGEST = 32_767  # a value is a whole number of steps that 16 bits hold
_ROOM = 6_000_000  # characters of all maps; those that have no room are named
_SHADES = 256
_STEP = 0.01  # mm between the numbers of coordinates


@dataclass(frozen=True, kw_only=True)
class ViewerMap:
    """Hold a map as the page embeds it: its name, what its numbers mean (JSON), and its voxels or vertices."""

    name: str
    about: str
    data: str


@dataclass(frozen=True, kw_only=True)
class ViewerView:
    """Hold the maps of each network, what they are drawn on, and the names of the maps that have no room.

    Attributes
    ----------
    kind : {"slices", "cortex"}
    groups : dict of network to list of ViewerMap
    template : ViewerMap
        The template below slices, or the mesh of the cortex.
    first : tuple of str
        Network and name of the map that is shown first.
    left_out : list of str
    note : str
        What the mesh is that is drawn.
    """

    kind: str
    groups: dict[str, list[ViewerMap]]
    template: ViewerMap
    first: tuple[str, str]
    left_out: list[str] = field(default_factory=list)
    note: str = ""


def make_viewer(content: ReportContent, brains: Sequence[BrainView]) -> ViewerView | None:
    """Embed every map that the page draws; None where there is none, or where the mesh has no room.

    Values are kept as whole numbers of a step that is the map's largest absolute value over 32,767.
    """
    label = content.map_measure or content.measure
    main = next((brain for brain in brains if content.maps[brain.name].list_layers()), None)
    if main is None:
        return None
    of_main = content.maps[main.name]
    shown = None if of_main.mesh is None else choose_shown_mesh(next(iter(of_main.means.values())), of_main.mesh)
    template = _embed_template() if shown is None else _embed_mesh(shown)
    if shown is not None and len(template.data) > _ROOM:
        return None
    groups: dict[str, list[ViewerMap]] = {}
    left_out: list[str] = []
    room = _ROOM
    for brain in brains:
        its = content.maps[brain.name]
        for one in _embed_network(its, brain, label) if shown is None else _embed_vertices(its, shown, label):
            if len(one.data) > room:
                left_out.append(f"{one.name} of {brain.name}" if brain.name else one.name)
                continue
            room -= len(one.data)
            groups.setdefault(brain.name, []).append(one)
    if main.name not in groups:
        return None
    return ViewerView(
        kind="slices" if shown is None else "cortex",
        groups=groups,
        template=template,
        first=(main.name, _choose_first(main, of_main, groups[main.name])),
        left_out=left_out,
        note="" if shown is None else shown.words,
    )


def _choose_first(brain: BrainView, its: NetworkMaps, embedded: Sequence[ViewerMap]) -> str:
    """Choose the layer whose map is highest."""
    if brain.maps:
        return list(brain.maps)[brain.highest]
    names = [one.name for one in embedded if one.name in its.means]
    tops = [find_top(its.means[name]) for name in names]
    return names[int(np.argmax(tops))] if names else embedded[0].name


def get_values(image: Any) -> NDArray[np.floating[Any]]:
    """Return the values of an image, or of data on the surface, the left hemisphere first."""
    return np.asarray(image.dataobj if hasattr(image, "dataobj") else image.values[:, 0])


def find_top(image: Any) -> float:
    """Return the highest value of a map; 0 where it has none."""
    values = get_values(image)
    return float(np.nanmax(values)) if np.isfinite(values).any() else 0.0


def _embed_network(its: NetworkMaps, brain: BrainView, label: str) -> Iterator[ViewerMap]:
    """Embed the maps of a network: the mean of each layer, differences of layers, and the best layer."""
    means = {layer: its.means[layer] for layer in brain.maps}
    top = max(map(find_top, means.values()), default=1.0)
    for layer, image in means.items():
        about = {"unit": label, "colors": "score", "top": top if top > 0 else 1.0}
        yield embed_map(layer, image, about, significant=select_significant(its.p.get(layer)))
    differences = {name: its.differences[name] for name in brain.differences}
    top = max((float(np.nanmax(np.abs(np.asarray(image.dataobj)))) for image in differences.values()), default=1.0)
    for name, image in differences.items():
        about = {"unit": f"Δ {label}", "colors": "signed", "top": top}
        shown = name.replace(" - ", " \N{MINUS SIGN} ")
        yield embed_map(shown, image, about, significant=select_significant(its.p_differences.get(name)))
    if its.best_layer is not None:
        colors = assign_layer_colors(its.list_layers())
        yield embed_map("best layer", its.best_layer, {"unit": "best layer", "names": colors, "top": len(colors)})


def _embed_vertices(its: NetworkMaps, shown: ShownMesh, label: str) -> Iterator[ViewerMap]:
    """Embed the maps of a network on the cortex: the mean of each layer, and the best layer."""
    layers = [layer for layer in its.list_layers() if layer in its.means]
    top = max((find_top(its.means[layer]) for layer in layers), default=1.0)
    about: dict[str, Any] = {"unit": label, "colors": "score", "top": top if top > 0 else 1.0}
    for layer in layers:
        p = select_significant(its.p.get(layer))
        yield _pack(layer, shown.take(its.means[layer]), about, None if p is None else p[shown.rows])
    if its.best_layer is not None:
        colors = assign_layer_colors(its.list_layers())
        about = {"unit": "best layer", "names": colors, "top": len(colors)}
        yield _pack("best layer", shown.take(its.best_layer), about, None)


def embed_map(
    name: str, image: Any, about: Mapping[str, Any], *, significant: NDArray[np.bool_] | None = None
) -> ViewerMap:
    """Embed an image, compressed.

    Parameters
    ----------
    name : str
    image : Nifti1Image
        A 3-D map in MNI space; NaN marks missing data, and no voxel of a map of names is 0.
    about : mapping
        `unit`, `top` (largest value of the color scale), and `colors` ("score" or "signed") or `names` with colors.
    significant : ndarray of bool, optional
        Voxels with a small corrected p.

    Returns
    -------
    ViewerMap
        Its data are the bits of the voxels that have a value, in C order; the bits of those of them that are
        significant, where this is known; and their values, each as 16 bits, little-endian.
    """
    values = np.asarray(image.dataobj, dtype=np.float64)
    affine = np.asarray(image.affine, dtype=float)
    places = {"affine": affine[:3].tolist(), "inverse": np.linalg.inv(affine)[:3].tolist()}
    return _pack(name, values.reshape(values.shape[:3]), {**about, **places}, significant)


def _pack(
    name: str, values: NDArray[np.floating[Any]], about: Mapping[str, Any], significant: NDArray[np.bool_] | None
) -> ViewerMap:
    """Pack values of any shape, as `embed_map` describes."""
    there = np.isfinite(values) & (values != 0) if "names" in about else np.isfinite(values)
    kept = values[there]
    step = 1.0 if "names" in about else (float(np.abs(kept).max(initial=0.0)) or 1.0) / _LARGEST
    parts = [np.packbits(there).tobytes()]
    if significant is not None:
        parts.append(np.packbits(significant.reshape(values.shape)[there]).tobytes())
    parts.append(np.round(kept / step).astype("<i2").tobytes())
    said = {**about, "shape": values.shape, "step": step, "tested": significant is not None}
    return ViewerMap(name=name, about=json.dumps(said), data=_compress(b"".join(parts)))


def _embed_template() -> ViewerMap:
    """Embed the template in steps of 2 mm and 64 grays, and the colors of the maps."""
    fine = load_template()
    coarse = fine.reshape(*(m for n in fine.shape for m in (n // 2, 2))).mean(axis=(1, 3, 5))
    gray = np.round(np.clip(coarse, 0, 1) * 63).astype(np.uint8)
    about = {"box": BOX, "shape": gray.shape, "colors": _list_colors()}
    return ViewerMap(name="template", about=json.dumps(about), data=_compress(gray.tobytes()))


def _embed_mesh(shown: ShownMesh) -> ViewerMap:
    """Embed a mesh: columns of whole numbers, each as its first and the differences of those that follow, in 32 bits.

    They are the coordinates of the vertices as they are drawn, the triangles, and, where it is inflated, the
    coordinates of the map's own vertices and the bits of those on gyri.
    """
    columns = [_in_steps(shown.points), shown.triangles]
    if shown.gyri is not None:
        columns.append(_in_steps(shown.own))
    parts = [np.diff(one, axis=0, prepend=0).T.astype("<i4").tobytes() for one in columns]
    if shown.gyri is not None:
        parts.append(np.packbits(shown.gyri).tobytes())
    about = {
        "sizes": shown.sizes,
        "triangles": len(shown.triangles),
        "step": _STEP,
        "inflated": shown.gyri is not None,
        "colors": _list_colors(),
    }
    return ViewerMap(name="mesh", about=json.dumps(about), data=_compress(b"".join(parts)))


def _in_steps(points: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    return np.round(points / _STEP).astype(np.int64)


def _list_colors() -> dict[str, list[str]]:
    """List the shades of the color scales of scores and of differences."""
    along = np.linspace(0, 1, _SHADES)
    return {kind: [to_hex(one) for one in choose_score_colors(kind == "signed")(along)] for kind in ("score", "signed")}


def _compress(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode("ascii")
