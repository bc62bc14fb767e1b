"""Compute what a unit is like: favorite sounds, filter, tuning, and the sound that drives it most."""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.explore.looking import describe_wave, take_wave
from brainmap.explore.sources import FEW, Heard, Source
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.maximization.decoder import choose_priors
from brainmap.features.maximization.maximize import Maximization, maximize_activation
from brainmap.features.representations.files import StoredPatterns, list_stored_layers, open_maximizations
from brainmap.features.units.exemplars import Exemplars, find_exemplars
from brainmap.features.units.filters import layer_filters
from brainmap.features.units.tuning import Tuning, TuningSettings, measure_tuning
from brainmap.record import content_key
from brainmap.types import Stimulus

_Pattern: TypeAlias = tuple[NDArray[np.float32], int, dict[str, Any]]
EXEMPLARS = 6
_HERTZ = 160
_PER_OCTAVE = 6  # frequencies of a tuning curve
_LEVELS = (-20.0, -10.0, 0.0)  # dB


def find_favorites(source: Source, heard: Heard, *, layer: str, unit: int) -> dict[str, Any]:
    """Find the stretches of sounds that activate a unit most, its filter, and whether the study maximized it."""
    found = _find_exemplars(source, heard, layer, unit)
    columns = {"item": "id", "condition": "condition", "value": "value", "start_s": "start", "end_s": "end"}
    rows = found.table[[*columns, "outside"]].rename(columns=columns).to_dict("records")
    pattern = _find_stored(source, heard, layer, unit)
    return {
        "exemplars": rows,
        "plays": found.crops.ndim == 3 and found.crops.shape[1] == 1 and found.rate is not None,
        "filter": _describe_filter(source, heard, layer, unit),
        "pattern": None if pattern is None else pattern[2]["label"],
    }


def _find_exemplars(source: Source, heard: Heard, layer: str, unit: int) -> Exemplars:
    def compute() -> Exemplars:
        return find_exemplars(
            heard.model,
            heard.sounds,
            layer=layer,
            units=[unit],
            k=EXEMPLARS,
            class_names=heard.classes if layer == OUTPUT else None,
            batch_size=FEW,
            device=source.device,
        )

    return source.memory.remember(content_key("exemplars", heard.digest, heard.sounds.digest, layer, unit), compute)


def _describe_filter(source: Source, heard: Heard, layer: str, unit: int) -> dict[str, Any] | None:
    """Describe the filter of a unit of the first layer of a network on waveforms; None for other units."""
    if layer != heard.layers[0].name or not heard.sounds.front_end.is_waveform:
        return None
    try:
        filters = layer_filters(heard.model, heard.sounds.take([0]), layer=layer, device=source.device)
    except InputError:  # a first layer that is not linear has no filter
        return None
    hertz = np.geomspace(60.0, filters.rate / 2, _HERTZ)
    row = filters.table.iloc[unit]
    return {
        "kernel": filters.kernels[unit].astype(np.float32),
        "rate": filters.rate,
        "hertz": hertz.astype(np.float32),
        "gain": filters.gain(hertz)[unit].astype(np.float32),
        "best": float(row["best_hz"]),
        "shape": str(row["shape"]),
    }


def measure_unit(source: Source, heard: Heard, *, layer: str, unit: int, stimulus: str) -> dict[str, Any]:
    """Measure the tuning of a unit with tones or bands of noise; all units of its layer are measured, and kept."""
    check_choice(stimulus, get_args(Stimulus), "stimulus")
    heard.check_unit(layer, unit)
    settings = TuningSettings(stimulus=stimulus, per_step=_PER_OCTAVE, levels_db=_LEVELS)  # type: ignore[arg-type]

    def compute() -> Tuning:
        return measure_tuning(
            heard.model,
            heard.sounds.take([0]),
            layers=[layer],
            settings=settings,
            batch_size=FEW,
            device=source.device,
        )

    key = content_key("tuning", heard.digest, heard.sounds.rate, heard.sounds.n_samples, layer, stimulus)
    found = source.memory.remember(key, compute)
    row = found.table[(found.table["unit"] == unit) & (found.table["level_db"] == max(_LEVELS))].iloc[0]
    return {
        "hertz": found.frequencies.astype(np.float32),
        "curves": np.stack([found.curves(layer, level_db=level)[unit] for level in _LEVELS]).astype(np.float32),
        "levels": list(_LEVELS),
        "silence": float(found.silence[layer][unit]),
        "best": float(row["best_hz"]),
        "shape": str(row["shape"]),
        "frames": found.frames[layer],
    }


def find_pattern(source: Source, heard: Heard, *, layer: str, unit: int) -> dict[str, Any]:
    """Describe the sound that drives a unit most: the study's where it has one, else one that is grown now and kept."""
    wave, rate, about = _get_pattern(source, heard, layer, unit)
    return {**describe_wave(wave, rate), **about}


def _get_pattern(source: Source, heard: Heard, layer: str, unit: int) -> _Pattern:
    """Return the sound that drives a unit, its rate [Hz], and what is known of it."""
    heard.check_unit(layer, unit)
    stored = _find_stored(source, heard, layer, unit)
    if stored is not None:
        return stored
    key = content_key("pattern", heard.digest, heard.sounds.digest, layer, unit)
    return source.memory.remember(key, lambda: _grow_pattern(source, heard, layer, unit))


def _find_stored(source: Source, heard: Heard, layer: str, unit: int) -> _Pattern | None:
    """Find the sound that the study made to maximize a unit; None where there is none, or where it is a picture."""
    if source.context is None or heard.version is None:
        return None
    from brainmap.study.stages.networks import store_path

    path = store_path(source.context, heard.version)
    if not list_stored_layers(path, "am"):
        return None
    found = open_maximizations(path).get(layer)
    if found is None or unit not in found.units or found.patterns.ndim != 3:
        return None
    at = found.units.index(unit)
    return _make_pattern(found.patterns[at, 0], found.rate, found, at, stored=True)


def _grow_pattern(source: Source, heard: Heard, layer: str, unit: int) -> _Pattern:
    fed, of_classes = heard.checkpoint, layer == OUTPUT
    chosen = choose_priors(
        None if of_classes else "audio",
        class_names=heard.classes if of_classes else (),
        rate=fed.rate,
        n_samples=heard.sounds.n_samples,
        on_waveforms=fed.front_end.is_waveform,
    )[0]
    am = maximize_activation(
        heard.model,
        layer=layer,
        units=[unit],
        sounds=heard.sounds,
        decoder=chosen.decoder,
        settings=chosen.settings(compiled=False, micro_batch=FEW),
        device=source.device,
    )
    wave, rate = take_wave(am, f"pattern: what drives unit {unit} of {layer!r}")
    return _make_pattern(wave, rate, am, 0, stored=False)


def _make_pattern(
    wave: NDArray[np.float32], rate: int, found: StoredPatterns | Maximization, at: int, *, stored: bool
) -> _Pattern:
    names = ["gain", "objective", "best_clip"]
    numbers = dict(zip(names, found.quality.iloc[at].reindex(names).astype(float), strict=True))
    return wave, rate, {"label": found.labels[at], "prior": found.prior, "stored": stored, **numbers}


def read_crop(source: Source, heard: Heard, *, layer: str, unit: int, rank: int) -> tuple[NDArray[np.float32], int]:
    """Return an exemplar as a sound, and its rate [Hz]; a short one is repeated for half a second.

    Raises
    ------
    InputError
        There is no such exemplar, or it is a picture.
    """
    found = _find_exemplars(source, heard, layer, unit)
    if not 0 <= rank < len(found.crops) or found.crops.ndim != 3 or found.rate is None:
        raise InputError(f"exemplars: expected one of {len(found.crops)} that are sounds, got {rank}")
    wave = found.crops[rank, 0]
    return np.tile(wave, -(-found.rate // (2 * max(1, wave.size)))), found.rate


def read_pattern(source: Source, heard: Heard, *, layer: str, unit: int) -> tuple[NDArray[np.float32], int]:
    """Return the sound that drives a unit, and its rate [Hz]; a short one is repeated for half a second."""
    wave, rate, _ = _get_pattern(source, heard, layer, unit)
    return np.tile(wave, -(-rate // (2 * max(1, wave.size)))), rate
