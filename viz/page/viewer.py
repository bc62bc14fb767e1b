"""Put the group's maps into the page, for a viewer that shows slices through any place of them, or the cortex."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from brainmap.viz.page.brain import BrainView, select_significant
from brainmap.viz.page.content import NetworkMaps, ReportContent
from brainmap.viz.rsa.panels import BOX, choose_score_colors, load_template
from brainmap.viz.rsa.surface import ShownMesh, choose_shown_mesh
from brainmap.viz.style import assign_layer_colors

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
        for one in _embed_network(content.maps[brain.name], brain, label, shown):
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


def _embed_network(its: NetworkMaps, brain: BrainView, label: str, shown: ShownMesh | None) -> Iterator[ViewerMap]:
    """Embed the maps of a network: the mean of each layer, differences of layers, and the best layer."""

    def embed(name: str, image: Any, about: Mapping[str, Any], p: Any = None) -> ViewerMap:
        significant = select_significant(p)
        if shown is None:
            return embed_map(name, image, about, significant=significant)
        return _pack(name, shown.take(image), about, None if significant is None else significant[shown.rows])

    means = {layer: its.means[layer] for layer in its.list_layers() if layer in its.means}
    top = max(map(find_top, means.values()), default=1.0)
    for layer, image in means.items():
        about = {"unit": label, "colors": "score", "top": top if top > 0 else 1.0}
        yield embed(layer, image, about, its.p.get(layer))
    differences = {name: its.differences[name] for name in brain.differences}
    top = max((float(np.nanmax(np.abs(get_values(image)))) for image in differences.values()), default=1.0)
    for name, image in differences.items():
        about = {"unit": f"Δ {label}", "colors": "signed", "top": top}
        yield embed(name.replace(" - ", " \N{MINUS SIGN} "), image, about, its.p_differences.get(name))
    if its.best_layer is not None:
        colors = assign_layer_colors(its.list_layers())
        yield embed("best layer", its.best_layer, {"unit": "best layer", "names": colors, "top": len(colors)})


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
