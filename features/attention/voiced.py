"""Measure the attention of a network to unvoiced sound, with maps whose resolution in time is fine enough."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_choice
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attention.voiced_shares import VoicedAttention, voiced_attention
from brainmap.features.attribution.cam import class_activation_maps
from brainmap.features.attribution.results import find_own_class
from brainmap.features.layers.layer import Layer
from brainmap.features.layers.selection import choose_layers
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.inputs import compute_input_rate, compute_time_courses, describe_input
from brainmap.features.sounds.voicing import find_voicing
from brainmap.types import CamMethod, VoicingMethod

COARSEST_MS = 20.0  # largest step between frames of a map that can separate a consonant from its vowel
WIDEST_MS = 60.0  # wider windows mix consonant and vowel


def attention_to_voicing(
    model: nn.Module,
    sounds: Sounds,
    *,
    layer: str = "conv4",
    method: VoicingMethod = "layer-cam",
    class_names: Sequence[str] | None = None,
    window_ms: float = 20.0,
    device: str = "cpu",
    **settings: Any,
) -> VoicedAttention:
    """Test whether a network's maps of the spoken words lie on unvoiced sound, with maps and voicing in one call.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds
        Waveforms whose conditions are classes of the network.
    layer : str
        Layer of class activation maps; its frames must be fine enough to separate voicing (`check_resolution`).
    method : {"cam", "grad-cam", "grad-cam++", "xgrad-cam", "layer-cam", "hires-cam", "score-cam", "occlusion"}
    class_names : sequence of str, optional
        Class names, as in `class_activation_maps`.
    window_ms : float [ms]
        Window of occlusion; at most 60.
    device : str
    **settings
        Settings of `voiced_attention`.

    Returns
    -------
    VoicedAttention

    Raises
    ------
    InputError
        A layer is too coarse, a window too wide, or sounds are not labelled waveforms.
    """
    if not isinstance(sounds, Sounds):
        raise InputError(
            "voiced attention: expected sounds with their words and rate, got an array; wrap it with "
            "brainmap.features.sounds.files.sounds_from_array(..., rate=..., conditions=...)"
        )
    check_choice(method, get_args(VoicingMethod), "method")
    told = find_voicing(sounds)
    if method == "occlusion":
        from brainmap.features.attribution.methods import attribute

        if window_ms > WIDEST_MS:
            raise InputError(
                f"window_ms: expected at most {WIDEST_MS:g} ms to tell voiced from unvoiced sound, got {window_ms:g} ms"
            )
        maps: Any = attribute(
            model, sounds, method=method, classes="true", class_names=class_names, window_ms=window_ms, device=device
        )
        if not sounds.front_end.is_waveform:
            maps = compute_time_courses(maps.courses[:, 0], describe_input(sounds))
        return voiced_attention(maps, told, **settings)
    (found,) = choose_layers(model, sounds, layer)[1]
    shape = next(iter(sounds.take([0]).batches(1))).shape
    rate = compute_input_rate(sounds, shape[1:]) or sounds.rate
    check_resolution(found, rate=rate, time_axis=sounds.front_end.time_axis)
    courses = _map_spoken_words(model, sounds, method, found.name, class_names, device)
    return replace(voiced_attention(courses, told, **settings), source=f"{method} at {found.name}")


def _map_spoken_words(
    model: nn.Module, sounds: Sounds, method: CamMethod, layer: str, class_names: Sequence[str] | None, device: str
) -> NDArray[np.float32]:
    """Compute maps of the spoken class, one word at a time, because maps of all classes would take much more memory."""
    known = class_names or getattr(model, "class_names", None)
    if known is not None:
        find_own_class(sounds.conditions, known)
    courses = np.empty((len(sounds), sounds.n_samples), np.float32)
    axes = describe_input(sounds)
    for word in sounds.class_names:
        rows = np.flatnonzero([c == word for c in sounds.conditions])
        maps = class_activation_maps(
            model,
            sounds.take(rows),
            method=method,
            layer=layer,
            classes=[word],
            class_names=class_names,
            device=device,
        ).maps[:, 0]
        courses[rows] = compute_time_courses(maps, axes)
    return courses


def check_resolution(layer: Layer, *, rate: float, time_axis: int = -1) -> None:
    """Refuse a layer whose frames are too coarse to separate unvoiced from voiced sound.

    Parameters
    ----------
    layer : Layer
        A layer from `list_layers`.
    rate : float [Hz]
        Samples, or frames of a spectrogram, per second.
    time_axis : int
        Axis of the input that holds time.

    Raises
    ------
    InputError
        The step between frames is above 20 ms, or frames have no position in time.

    Warns
    -----
    BrainmapWarning
        The receptive field is above 60 ms, or not known.
    """
    field_, step, _ = layer.along(time_axis)
    if step == 0 or len(layer.shape) < 2:
        raise InputError(f"layer {layer.name!r} has no frames in time; take an earlier convolution")
    step_ms = None if step is None else 1000 * step / rate
    if step_ms is not None and step_ms > COARSEST_MS:
        raise InputError(
            f"layer {layer.name!r}: expected frames at most {COARSEST_MS:g} ms apart, since unvoiced stretches last "
            f"50 to 150 ms, got {step_ms:.3g} ms (a frame sees {1000 * (field_ or 0) / rate:.4g} ms); take an earlier "
            "layer, or the method occlusion"
        )
    if field_ is None or 1000 * field_ / rate > WIDEST_MS:
        seen = "an unknown time" if field_ is None else f"{1000 * field_ / rate:.4g} ms"
        warnings.warn(
            f"layer {layer.name!r}: a frame sees {seen} of sound, which blurs voicing; an earlier layer tells more",
            BrainmapWarning,
            stacklevel=2,
        )
