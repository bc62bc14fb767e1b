"""Draw the searchlight maps of each network for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import NetworkMaps, ReportContent
from brainmap.viz.page.pictures import Picture, Pictures
from brainmap.viz.rsa.surface import plot_surface_maps
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
