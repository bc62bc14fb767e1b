"""Draw the figures of a page once all of them are known, and none of them again that is drawn already.

A figure depends on what it shows, on the code that draws it and on the libraries below. All of these are part of its
key, so that files of an earlier page are taken only where drawing them again would give the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainmap.caches import yield_files
from brainmap.record import atomic
from brainmap.viz.style import render_png, render_svg, settle, with_style

Plot = Callable[[], Figure]  # a `functools.partial` of a function that plots
_PACKAGES = ("matplotlib", "numpy", "scipy", "pandas", "pillow", "contourpy", "nilearn", "nibabel")
_SCALARS = (str, bytes, bool, int, float, type(None))


class UnknownError(TypeError):
    """Report content of a kind whose equality cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Hold a figure as the page embeds it: its width [CSS pixels], and its PNG and, unless it is painted, its SVG."""

    width: int
    files: Mapping[str, bytes]  # by suffix

    @property
    def kind(self) -> str:
        """Return the media type of the file that the page embeds."""
        return "image/svg+xml" if ".svg" in self.files else "image/png"

    @property
    def content(self) -> bytes:
        """Return the file that the page embeds."""
        return self.files.get(".svg", self.files[".png"])


@dataclass(eq=False)
class Drawing:
    """Hold a figure that is to be drawn: how, whether it is mostly pixels, and the result once it is drawn."""

    plot: Plot
    painted: bool = False
    rendered: Rendered | None = None

    @functools.cached_property
    def key(self) -> str | None:
        """Return the key of everything that the figure depends on; None where its content is of an unknown kind."""
        digest = hashlib.sha256(f"{_digest_code()} {_list_changed_settings()} {self.painted} ".encode())
        try:
            _feed(digest, self.plot)
        except UnknownError:
            return None
        return digest.hexdigest()

    def draw(self) -> Rendered:
        """Draw the figure, unless this was done."""
        if self.rendered is None:
            self.rendered = render(self.plot, painted=self.painted)
        return self.rendered


@with_style
def render(plot: Plot, *, painted: bool) -> Rendered:
    """Draw a figure as PNG and, unless it is mostly pixels (`painted`), as SVG."""
    figure = settle(plot())
    files = {".png": render_png(figure, dpi=144 if painted else 192)}
    if not painted:
        files[".svg"] = render_svg(figure, dpi=150)
    return Rendered(width=round(figure.get_figwidth() * 96), files=files)


@with_style
def draw_vector(plot: Plot) -> bytes:
    """Draw a figure that is mostly pixels as SVG: text and lines as such, and maps as pixels."""
    return render_svg(settle(plot()), dpi=150)


@functools.cache
def _digest_code() -> str:
    """Compute the digest of the code of brainmap, and of the versions of the libraries that draw."""
    digest = hashlib.sha256(repr([(name, metadata.version(name)) for name in _PACKAGES]).encode())
    for path in yield_files(Path(__file__).parents[2], (".py", ".mplstyle")):
        digest.update(f"{path.name} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _list_changed_settings() -> list[tuple[str, str]]:
    """List the settings of matplotlib that differ from its own, as a user's matplotlibrc may change fonts."""
    changed = dict.items(mpl.rcParams)  # asking for the backend would import one
    return sorted((k, repr(v)) for k, v in changed if "backend" not in k and v != dict.get(mpl.rcParamsDefault, k))


def _feed(digest: Any, value: Any) -> None:
    """Add to a digest everything that a figure can show of a value; equal content gives equal digests."""
    if isinstance(value, np.generic):
        value = value.item()
    digest.update(f"({type(value).__name__} ".encode())
    if isinstance(value, _SCALARS):
        digest.update(repr(value).encode())
    elif isinstance(value, functools.partial):
        digest.update(f"{value.func.__module__} {value.func.__qualname__} ".encode())
        _feed(digest, (value.args, value.keywords))
    elif isinstance(value, np.ndarray):
        _feed_array(digest, value)
    elif isinstance(value, Mapping):
        for pair in value.items():  # in their order, which is that of layers or rows
            _feed(digest, pair)
    elif isinstance(value, tuple | list):
        for one in value:
            _feed(digest, one)
    elif isinstance(value, set | frozenset):
        _feed(digest, sorted(value))
    elif isinstance(value, pd.DataFrame):
        _feed(digest, [value.index, *((name, column) for name, column in value.items())])
    elif isinstance(value, pd.Series | pd.Index):
        _feed(digest, [value.name, getattr(value.dtype, "categories", str(value.dtype)), value.to_numpy(dtype=object)])
    elif hasattr(value, "dataobj") and hasattr(value, "affine"):  # an image
        _feed(digest, (np.asarray(value.dataobj), value.affine))
    elif hasattr(value, "dissimilarities") and hasattr(value, "pattern_descriptors"):  # RDMs
        found = (value.descriptors, value.rdm_descriptors, value.pattern_descriptors, value.dissimilarity_measure)
        _feed(digest, (value.dissimilarities, *found))
    elif is_dataclass(value) and not isinstance(value, type) and not hasattr(value, "iterate_waveforms"):
        # sounds, which iterate over waveforms, read them from files: what they show is not in their fields
        _feed(digest, {field.name: getattr(value, field.name) for field in fields(value)})
    elif value is pd.NA or value is pd.NaT:
        digest.update(b"n/a")
    else:
        raise UnknownError(f"expected content of figures, got {type(value).__qualname__}")
    digest.update(b")")


def _feed_array(digest: Any, array: np.ndarray[Any, Any]) -> None:
    if array.dtype == object:
        _feed(digest, [list(array.shape), *array.ravel().tolist()])
        return
    digest.update(f"{array.dtype} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).tobytes())


def read_memory(memory: Path) -> dict[str, Any]:
    """Read what an earlier page remembers of its figures, by their stems; empty where there is nothing to read."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def recall(stem: str, drawing: Drawing, folder: Path, known: Mapping[str, Any]) -> None:
    """Take a figure from its files if an earlier page drew it with the same key; changed files are not taken."""
    said = known.get(stem)
    if drawing.key is None or not isinstance(said, dict) or said.get("key") != drawing.key:
        return
    suffixes = (".png",) if drawing.painted else (".png", ".svg")
    try:
        files = {suffix: (folder / f"{stem}{suffix}").read_bytes() for suffix in suffixes}
    except OSError:
        return
    if said.get("files") == _digest_files(files) and isinstance(said.get("width"), int):
        drawing.rendered = Rendered(width=said["width"], files=files)


def remember(drawings: Mapping[str, Drawing], memory: Path) -> None:
    """Write the keys of all figures, and the digests of their files."""
    found = {
        stem: {"key": one.key, "width": one.rendered.width, "files": _digest_files(one.rendered.files)}
        for stem, one in drawings.items()
        if one.rendered is not None and one.key is not None
    }
    with atomic(memory) as beside:
        beside.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _digest_files(files: Mapping[str, bytes]) -> dict[str, str]:
    return {suffix: hashlib.sha256(content).hexdigest() for suffix, content in files.items()}
