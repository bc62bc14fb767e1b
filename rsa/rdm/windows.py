"""Average features with a time axis in time windows, for one RDM per layer and window."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_one_each, check_ranges, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.progress import progress
from brainmap.rsa.rdm.blocks import DECODED_BYTES, Blocks, check_numeric, count_rows_at_once
from brainmap.rsa.rdm.sources import (
    Source,
    choose_layers,
    find_groups,
)
from brainmap.types import Floats, Level

_SLACK = 1e-6  # s; tolerance for frames on the edge of a window


def build_window_sources(
    data: Any,
    *,
    items: Level,
    zscore: bool,
    layers: Sequence[str] | str | None,
    window: tuple[float, float | None],
    descriptors: dict[str, Any],
) -> list[Source]:
    """Return one source per layer and time window; the frames of a window are averaged.

    Parameters
    ----------
    data : TimedFeatureSet
    window : (length, step or None) [ms]
        The default step is half the length, so that windows overlap by half.

    Raises
    ------
    InputError
        The features have no time axis, a named layer has none, or the windows do not fit.
    """
    if not hasattr(data, "layers"):
        raise InputError(
            f"compute_rdms: expected features of layers that keep time for over='time', got {type(data).__name__}; "
            "extract them with pooling='none'"
        )
    times = _read_frame_times(data, choose_layers(data, layers), named=layers not in (None, "all"))
    length, step = _check_windows(*window)
    centers = _compute_centers(times, length, step)
    groups = find_groups(data, items)
    sources: list[Source] = []
    empty: dict[str, str] = {}
    still: dict[str, int] = {}
    with progress("windows of time", total=len(times)) as bar:
        for layer, when in times.items():
            frames = [_find_frames(when, center, length) for center in centers]
            used = [k for k, (start, stop) in enumerate(frames) if stop > start]
            if len(used) < len(centers):
                stride = f"a frame every {_measure_stride(when) * 1000:.0f} ms" if len(when) > 1 else "one frame"
                empty[layer] = f"{len(centers) - len(used)} of {layer} ({stride})"
            means = _average_windows(check_numeric(data[layer], f"layer {layer}"), [frames[k] for k in used])
            for k, one in zip(used, means, strict=True):
                if not (one != one[:1]).any():  # all items are equal, as in the silence that pads the sounds
                    still[layer] = still.get(layer, 0) + 1
                    continue
                described = {"layer": layer, "time": round(float(centers[k]), 9), **descriptors}
                name = f"{layer} at {centers[k]:.3g} s"
                blocks = Blocks(one, f"layer {name}", average=groups.mean, zscore=zscore)
                sources.append(Source(patterns=blocks, labels=groups.labels, name=name, rdm_descriptors=described))
            bar.advance(note=layer)
    if not sources:
        raise InputError(f"compute_rdms: the sounds differ in none of {len(centers)} windows; look at the sounds")
    said = f"compute_rdms: of {len(centers)} windows, these have no RDM, because"
    if empty:
        told = f"{said} they hold no frame: {', '.join(empty.values())}; take longer windows to have all"
        warnings.warn(told, BrainmapWarning, stacklevel=3)
    if still:
        told = f"{said} all sounds are alike in them: {', '.join(f'{n} of {layer}' for layer, n in still.items())}"
        warnings.warn(told, BrainmapWarning, stacklevel=3)
    return sources


def _read_frame_times(data: Any, wanted: Sequence[str], *, named: bool) -> dict[str, Floats]:
    """Return the center of each frame [s] for the layers that have a time axis."""
    known = getattr(data, "frame_times", None)
    found = {layer: None if known is None else known(layer) for layer in wanted}
    times = {layer: np.asarray(when, np.float64) for layer, when in found.items() if when is not None}
    without = [layer for layer in wanted if layer not in times]
    if not times or (without and named):
        raise InputError(
            f"compute_rdms: expected layers that keep time for over='time', got {list_some(without)} without time; "
            "extract them with pooling='none' (--pooling none) from sounds with a rate"
        )
    if without:
        warnings.warn(
            f"compute_rdms: {list_some(without)} are left out, because they keep no time", BrainmapWarning, stacklevel=4
        )
    for layer, when in times.items():
        frames = data[layer].shape[-1]
        check_one_each(when, frames, "compute_rdms: times", f"frames of layer {layer}")
    return times


def _check_windows(length: float, step: float | None) -> tuple[float, float]:
    """Check the length and step of the windows and return them [s]."""
    step = length / 2 if step is None else step
    check_ranges(
        "compute_rdms",
        ("window_ms above 0 milliseconds", length, 0 < length < np.inf),
        ("step_ms above 0 milliseconds", step, 0 < step < np.inf),
    )
    return length / 1000, step / 1000


def _compute_centers(times: dict[str, Floats], length: float, step: float) -> Floats:
    """Return the centers of the windows [s], from the onset of the sounds; the last window ends before they do."""
    end = max(float(when[-1]) for when in times.values()) + min(_measure_stride(when) for when in times.values()) / 2
    room = end - length
    if room < -_SLACK - 0.01 * length:
        raise InputError(
            f"compute_rdms: windows of {length * 1000:g} ms do not fit into sounds of "
            f"{end * 1000:.0f} ms; take a smaller window_ms"
        )
    n = 1 + max(0, int(np.floor((room + 0.01 * step) / step)))
    return np.asarray(length / 2 + step * np.arange(n))


def _measure_stride(when: Floats) -> float:
    return float(when[1] - when[0]) if len(when) > 1 else 0.0


def _find_frames(when: Floats, center: float, length: float) -> tuple[int, int]:
    """Return the first frame whose center lies in the window, and the first frame after the window."""
    start, stop = np.searchsorted(when, np.array([center - length / 2, center + length / 2]) - _SLACK)
    return int(start), int(stop)


def _average_windows(array: Any, frames: Sequence[tuple[int, int]]) -> list[NDArray[np.float64]]:
    """Average the frames of each window, `(n_items, n_units)`; items are read once, a few chunks at a time."""
    n = array.shape[0]
    n_units = int(np.prod(array.shape[1:-1]))
    means = [np.empty((n, n_units)) for _ in frames]
    rows = count_rows_at_once(array, DECODED_BYTES)
    for first in range(0, n, rows):
        part = np.asarray(array[first : first + rows])
        for mean, (start, stop) in zip(means, frames, strict=True):
            here = part[..., start:stop].mean(axis=-1, dtype=np.float64)
            mean[first : first + rows] = here.reshape(len(part), n_units)
    return means
