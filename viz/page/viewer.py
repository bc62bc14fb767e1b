"""Put the group's maps into the page, for a viewer that shows slices through any place of them."""

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
from brainmap.viz.rsa.color_scale import choose_score_colors
from brainmap.viz.rsa.panels import BOX, load_template
from brainmap.viz.style import assign_layer_colors

_LARGEST = 32_767  # a value is a whole number of steps that 16 bits hold
_ROOM = 6_000_000  # characters of all maps; those that have no room are named
_SHADES = 256


@dataclass(frozen=True, kw_only=True)
class ViewerMap:
    """Hold a map as the page embeds it: its name, what its numbers mean (JSON), and its voxels."""

    name: str
    about: str
    data: str


@dataclass(frozen=True, kw_only=True)
class ViewerView:
    """Hold the maps of each network, the template below them, and the names of the maps that have no room."""

    groups: dict[str, list[ViewerMap]]
    template: ViewerMap
    first: tuple[str, str]
    left_out: list[str] = field(default_factory=list)


def make_viewer(content: ReportContent, brains: Sequence[BrainView]) -> ViewerView | None:
    """Embed every map that the page draws; None where there is none in a volume.

    Values are kept as whole numbers of a step that is the map's largest absolute value over 32,767.
    """
    label = content.map_measure or content.measure
    groups: dict[str, list[ViewerMap]] = {}
    left_out: list[str] = []
    room = _ROOM
    for brain in brains:
        its = content.maps[brain.name]
        if its.mesh is not None:
            continue
        for one in _embed_network(its, brain, label):
            if len(one.data) > room:
                left_out.append(f"{one.name} of {brain.name}" if brain.name else one.name)
                continue
            room -= len(one.data)
            groups.setdefault(brain.name, []).append(one)
    if not groups:
        return None
    main = next(brain for brain in brains if brain.name in groups)
    first = list(main.maps)[main.highest] if main.maps else groups[main.name][0].name
    return ViewerView(groups=groups, template=_embed_template(), first=(main.name, first), left_out=left_out)


def _embed_network(its: NetworkMaps, brain: BrainView, label: str) -> Iterator[ViewerMap]:
    """Embed the maps of a network: the mean of each layer, differences of layers, and the best layer."""
    means = {layer: its.means[layer] for layer in brain.maps}
    top = max((float(np.nanmax(np.asarray(image.dataobj))) for image in means.values()), default=1.0)
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
    values = values.reshape(values.shape[:3])
    there = np.isfinite(values) & (values != 0) if "names" in about else np.isfinite(values)
    kept = values[there]
    step = 1.0 if "names" in about else (float(np.abs(kept).max(initial=0.0)) or 1.0) / _LARGEST
    parts = [np.packbits(there).tobytes()]
    if significant is not None:
        parts.append(np.packbits(significant.reshape(values.shape)[there]).tobytes())
    parts.append(np.round(kept / step).astype("<i2").tobytes())
    said = {
        **about,
        "shape": values.shape,
        "affine": np.asarray(image.affine[:3], dtype=float).tolist(),
        "inverse": np.linalg.inv(image.affine)[:3].tolist(),
        "step": step,
        "tested": significant is not None,
    }
    return ViewerMap(name=name, about=json.dumps(said), data=_compress(b"".join(parts)))


def _embed_template() -> ViewerMap:
    """Embed the template in steps of 2 mm and 64 grays, and the colors of the maps."""
    fine = load_template()
    coarse = fine.reshape(*(m for n in fine.shape for m in (n // 2, 2))).mean(axis=(1, 3, 5))
    gray = np.round(np.clip(coarse, 0, 1) * 63).astype(np.uint8)
    shades = np.linspace(0, 1, _SHADES)
    colors = {
        kind: [to_hex(color) for color in choose_score_colors(kind == "signed")(shades)] for kind in ("score", "signed")
    }
    about = {"box": BOX, "shape": gray.shape, "colors": colors}
    return ViewerMap(name="template", about=json.dumps(about), data=_compress(gray.tobytes()))


def _compress(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode("ascii")
