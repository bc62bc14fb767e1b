"""Compute what a network does with one sound: its scores, its maps, and the activations of its layers.

Describe a waveform as a page draws it: its envelope and its spectrogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.explore.sources import FEW, Heard, Source
from brainmap.features.attribution.cam import class_activation_maps
from brainmap.features.attribution.lrp import COMPOSITES
from brainmap.features.attribution.methods import METHODS, attribute
from brainmap.features.attribution.task import compute_logits
from brainmap.features.layers.ear import tap
from brainmap.features.layers.inputs import fit_sounds, make_differentiable
from brainmap.features.layers.layer import FREQUENCY, TIME, Layer
from brainmap.features.layers.running import evaluating, forward
from brainmap.features.maximization.maximize import Maximization
from brainmap.features.sounds.batches import iterate_tensors
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.inputs import compute_input_rate, describe_input, make_waveforms
from brainmap.record import content_key
from brainmap.types import CamMethod
from brainmap.viz.features.sounds import average_in_bins, compute_log_spectrogram, find_envelope
from brainmap.viz.features.spectrograms import get_input, make_picture

CAMS: tuple[str, ...] = get_args(CamMethod)
ROWS = 96
"""Rows of a strip; a layer with more units shows the largest value of several units in a row."""
COLUMNS = 400


def describe_sound(source: Source, heard: Heard, key: str) -> dict[str, Any]:
    """Describe a sound as the network takes it: its waveform, its spectrogram, and what was done to it."""
    sounds = source.sound(heard, key)
    wave, notes = sounds.waveforms[0, 0], _note_changes(sounds)
    if sounds.front_end.is_waveform:
        return {**describe_wave(wave, sounds.rate), "notes": notes}
    picture, axes = get_input(sounds, 0)
    return {
        **describe_envelope(wave, sounds.rate),
        "picture": shade(picture),
        "hertz": None if axes is None else axes.hertz(),
        "what": f"the input of the network ({sounds.front_end.describe()})",
        "notes": notes,
    }


def _note_changes(sounds: Sounds) -> list[str]:
    """Say what was done to a sound so that the network takes it, and what may be wrong with it."""
    report = sounds.report
    said = [
        f"The sound lasts {lasts:.3g} s, and the network takes {report.seconds:g} s: {done}."
        for done, changed in (("it is cut", report.cut), ("the rest is zeros", report.padded))
        for _, lasts in changed
    ]
    return [*said, *replace(report, cut=(), padded=()).lines()]


def compute_class_scores(source: Source, heard: Heard, key: str) -> NDArray[np.float32]:
    """Compute the logits `(n_classes,)` of a sound."""
    sounds = source.sound(heard, key)

    def compute() -> NDArray[np.float32]:
        with evaluating(heard.model, source.device), torch.no_grad():
            fitted = make_differentiable(heard.model, sounds)
            batch = next(iterate_tensors(fitted, 1, device=source.device))
            return np.asarray(compute_logits(heard.model, batch)[0].float().cpu())

    return source.memory.remember(content_key("scores", heard.digest, sounds.digest), compute)


def compute_maps(
    source: Source, heard: Heard, key: str, *, method: str, layer: str, classes: Sequence[str], rules: str
) -> dict[str, Any]:
    """Compute the maps of some classes by one method.

    Class activation maps of all classes take one pass, and are kept; an attribution is computed class by class.
    """
    check_choice(method, (*CAMS, *METHODS), "method")
    unknown = [name for name in classes if name not in heard.classes]
    if unknown or not classes:
        check_choice(unknown[0] if unknown else "", heard.classes, "class")
    sounds = source.sound(heard, key)
    if method in CAMS:
        return _map_cams(source, heard, sounds, method, layer, classes)
    found = [_attribute_class(source, heard, sounds, method, name, rules) for name in classes]
    flat = found[0]["values"].ndim == 1
    return {
        "kind": "time" if flat else "positions" if sounds.front_end.is_waveform else "picture",
        "layer": found[0]["layer"],
        "limit": max(_find_limit(one["values"]) for one in found),
        "scale": "this map" if len(found) == 1 else "these maps",
        "maps": found,
    }


def _map_cams(
    source: Source, heard: Heard, sounds: Sounds, method: str, layer: str, classes: Sequence[str]
) -> dict[str, Any]:
    def compute() -> Any:
        return class_activation_maps(
            heard.model,
            sounds,
            method=method,  # type: ignore[arg-type]
            layer=layer,
            class_names=heard.classes,
            device=source.device,
            upsample=None,
        )

    cams = source.memory.remember(content_key("cam", heard.digest, sounds.digest, method, layer), compute)
    axes = describe_input(sounds)
    whole = [cams.maps[0, k] for k in range(len(cams.class_names))]
    if cams.maps.shape[2:] != next(sounds.batches(1)).shape[2:]:
        kind = "positions"
    elif whole[0].ndim == 1:
        kind = "time"
    else:
        kind, whole = "picture", [make_picture(one, axes) for one in whole]
    chosen = [cams.class_names.index(name) for name in classes]
    return {
        "kind": kind,
        "layer": cams.layer,
        "positions": list(cams.positions),
        "limit": _find_limit(np.stack(whole)),
        "scale": "the maps of all classes of this sound",
        "maps": [_describe_map(whole[k], classes[i], float(cams.logits[0, k])) for i, k in enumerate(chosen)],
    }


def _attribute_class(
    source: Source, heard: Heard, sounds: Sounds, method: str, name: str, rules: str
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if method == "lrp" and rules:
        settings["rules"] = check_choice(rules, tuple(COMPOSITES), "rules")

    def compute() -> Any:
        return attribute(
            heard.model,
            sounds,
            method=method,
            classes=[name],
            class_names=heard.classes,
            batch_size=FEW,
            device=source.device,
            **settings,
        )

    key = content_key("attribution", heard.digest, sounds.digest, method, name, settings)
    found = source.memory.remember(key, compute)
    whole = found.maps[0, 0]
    values = whole.sum(axis=0) if sounds.front_end.is_waveform else make_picture(whole, describe_input(sounds))
    about = _describe_map(values, name, float(found.logits[0, found.targets[0, 0]]))
    for what in ("delta", "fidelity"):
        part = getattr(found, what)
        about[what] = None if part is None else float(part[0, 0])
    return {**about, "layer": found.layer}


def _describe_map(whole: NDArray[np.floating[Any]], name: str, logit: float) -> dict[str, Any]:
    """Describe a map: over time by the mean, lowest and highest value of each point of the page, else as a picture."""
    found: dict[str, Any] = {"class": name, "logit": logit, "sum": float(whole.sum(dtype=np.float64))}
    if whole.ndim > 1:
        return {**found, "values": whole.astype(np.float32)}
    low, high = find_envelope(whole, BINS)
    return {
        **found,
        "values": average_in_bins(whole, BINS).astype(np.float32),
        "low": low.astype(np.float32),
        "high": high.astype(np.float32),
        "samples": int(whole.size),
    }


def _find_limit(values: NDArray[np.floating[Any]]) -> float:
    """Return the largest absolute value, the end of the color scale; 1 where all are 0."""
    return float(np.abs(values).max()) or 1.0


def compute_strips(source: Source, heard: Heard, key: str) -> dict[str, Any]:
    """Compute the activations of every layer to one sound, units by time."""
    sounds = source.sound(heard, key)
    layers = [layer for layer in heard.layers if layer.order]
    left_out = [layer.name for layer in heard.layers if not layer.order]

    def compute() -> list[dict[str, Any]]:
        values, rate = _hear_layers(source, heard, sounds, layers)
        return [_describe_strip(layer, one, rate) for layer, one in zip(layers, values, strict=True)]

    strips = source.memory.remember(content_key("strips", heard.digest, sounds.digest), compute)
    notes = [f"layers whose axes are not known are left out: {', '.join(left_out)}"] if left_out else []
    return {"layers": strips, "seconds": sounds.waveforms.shape[2] / sounds.rate, "notes": notes}


def _hear_layers(
    source: Source, heard: Heard, sounds: Sounds, layers: Sequence[Layer]
) -> tuple[list[NDArray[np.float32]], float | None]:
    """Return what layers make of one sound, units first, and the rate of the input [Hz], where it has one."""
    fitted = fit_sounds(heard.model, sounds)
    with (
        evaluating(heard.model, source.device),
        torch.no_grad(),
        tap(heard.model, [layer.name for layer in layers]) as got,
    ):
        batch = next(iterate_tensors(fitted, 1, device=source.device))
        forward(heard.model, batch)
        values = [layer.arranged(got[layer.name], 1)[0].float().cpu().numpy() for layer in layers]
    return values, compute_input_rate(fitted, tuple(batch.shape[1:]))


def _describe_strip(layer: Layer, values: NDArray[np.float32], rate: float | None) -> dict[str, Any]:
    """Describe the activations `(units, ...)` of a layer as a picture of rows by columns, and what these are."""
    names = layer.positions if len(layer.positions) == values.ndim - 1 else ("",) * (values.ndim - 1)
    averaged = [name for name in names if name == FREQUENCY and len(names) > 1]
    for axis in reversed([1 + k for k, name in enumerate(names) if name in averaged]):
        values = values.mean(axis=axis)
    names = tuple(name for name in names if name not in averaged)
    columns = values.reshape(len(values), -1)
    start, step = _place_frames(layer, names, rate)
    rows_of, columns_of = -(-len(columns) // ROWS), -(-columns.shape[1] // COLUMNS)
    shown = _take_largest(_take_largest(columns, rows_of, axis=0), columns_of, axis=1)
    least, most = float(min(columns.min(), 0)), float(columns.max())
    shades = np.clip((shown - least) / max(most - least, 1e-12), 0, 1) * 255
    return {
        "name": layer.name,
        "kind": layer.kind,
        "units": int(values.shape[0]),
        "frames": int(columns.shape[1]),
        "picture": shades.round().astype(np.uint8),
        "least": least,
        "most": most,
        "rows_of": rows_of,
        "columns_of": columns_of,
        "averaged": averaged,
        "start": start,
        "step": step,
        "positions": list(names),
    }


def _place_frames(layer: Layer, names: Sequence[str], rate: float | None) -> tuple[float | None, float | None]:
    """Return the center of the first frame and the step between frames [s]; None where frames are no times."""
    if list(names) != [TIME] or rate is None:
        return None, None
    at = layer.positions.index(TIME) if TIME in layer.positions else 0
    center, stride = (one[at] if isinstance(one, tuple) else one for one in (layer.center, layer.stride))
    return (None, None) if center is None or not stride else (center / rate, stride / rate)


def _take_largest(values: NDArray[np.float32], size: int, *, axis: int) -> NDArray[np.float32]:
    """Take the largest of every `size` values along an axis."""
    return np.maximum.reduceat(values, np.arange(0, values.shape[axis], size), axis=axis) if size > 1 else values


def describe_unit(source: Source, heard: Heard, key: str, *, layer: str, unit: int) -> dict[str, Any]:
    """Describe the activation of one unit to one sound over time."""
    found = heard.check_unit(layer, unit)
    (every,), rate = _hear_layers(source, heard, source.sound(heard, key), [found])
    values = every[unit]
    names = found.positions if len(found.positions) == values.ndim else ("",) * values.ndim
    if FREQUENCY in names and len(names) > 1:
        values = values.mean(axis=names.index(FREQUENCY))
        names = tuple(name for name in names if name != FREQUENCY)
    start, step = _place_frames(found, names, rate)
    return {"values": np.atleast_1d(values).ravel(), "start": start, "step": step, "largest": float(values.max())}


BINS = 800
"""Points of a curve on the page; longer ones are drawn as the lowest and highest value of each point."""
_BANDS = 96


def describe_envelope(wave: NDArray[np.floating[Any]], rate: int) -> dict[str, Any]:
    """Describe a waveform `(n_samples,)` by its length [s], peak, and lowest and highest value of each point."""
    low, high = find_envelope(wave, BINS)
    return {
        "seconds": wave.size / rate,
        "rate": rate,
        "low": low.astype(np.float32),
        "high": high.astype(np.float32),
        "peak": float(np.abs(wave).max()),
    }


def describe_wave(wave: NDArray[np.floating[Any]], rate: int) -> dict[str, Any]:
    """Describe a waveform `(n_samples,)` by its envelope and its spectrogram on a logarithmic axis of frequency."""
    picture, hertz = compute_log_spectrogram(wave, rate=rate, bands=_BANDS)
    return {
        **describe_envelope(wave, rate),
        "picture": shade(picture),
        "hertz": hertz,
        "what": "loudness, from 50 dB below the loudest point up to it",
    }


def shade(picture: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Scale a picture to 0 (its lowest percent) to 255 (its largest value)."""
    least, most = float(np.nanquantile(picture, 0.01)), float(np.nanmax(picture))
    scaled = np.clip((picture - least) / max(most - least, 1e-12), 0, 1) * 255
    return np.asarray(scaled.round(), dtype=np.uint8)


def take_wave(am: Maximization, what: str) -> tuple[NDArray[np.float32], int]:
    """Return the waveform of the first pattern, and its rate [Hz]; that of a spectrogram is inverted.

    Raises
    ------
    InputError
        The network takes pictures that no sound makes.
    """
    if not am.can_be_heard:
        raise InputError(f"{what} is no sound; the network takes pictures")
    waves, rate = make_waveforms(am.patterns, am.axes, am.rate)
    return waves[0, 0], rate
