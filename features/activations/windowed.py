"""Cut sounds into windows where activations are asked for windows, and describe the time of every item of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.activations import store as stores
from brainmap.features.layers.layer import PLACES, TIME, Layer
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.files import Sounds as LabelledSounds, sounds_from_array
from brainmap.features.sounds.windows import Windows, cut_windows
from brainmap.progress import log
from brainmap.types import LastWindow


def cut_asked_windows(
    sounds: Sounds, *, window: float | None, hop: float | None, last: LastWindow, rate: float | None
) -> Sounds:
    """Return sounds as they are where no window is asked for, and their windows otherwise.

    Raises
    ------
    InputError
        A hop without a window; sounds that are no waveforms, or an array without its rate.
    """
    if window is None:
        if hop is not None or last != "drop":
            raise InputError("window: expected one with hop or last, got none; give the length of a window in seconds")
        return sounds
    if isinstance(sounds, Windows):
        raise InputError("window: expected sounds, got windows of sounds; leave out window and hop")
    if not isinstance(sounds, LabelledSounds):
        shape = tuple(getattr(sounds, "shape", ()))
        if len(shape) != 3 or shape[1] != 1 or rate is None:
            raise InputError(
                f"window: expected sounds of `load_sounds`, or waveforms (n, 1, t) and their rate, got "
                f"{type(sounds).__name__} of shape {shape} at {rate} Hz; give those"
            )
        sounds = sounds_from_array(np.asarray(sounds), rate=round(rate), items=[str(k) for k in range(shape[0])])
    return cut_windows(sounds, window=window, hop=hop, last=last)


def get_window_columns(sounds: Sounds) -> dict[str, list[Any]]:
    """Return the sound, onset [s] and duration [s] of every window, for the store; nothing for whole sounds."""
    if not isinstance(sounds, Windows):
        return {}
    return {name: sounds.table[name].tolist() for name in ("sound", "onset", "duration")}


def make_item_table(about: Mapping[str, Any]) -> pd.DataFrame:
    """Make the table of the items of a store; a whole sound begins at 0, and its duration is not known."""
    items = about["items"]
    whole = {"sound": items, "onset": np.zeros(len(items)), "duration": np.full(len(items), np.nan)}
    columns = about.get("windows") or whole
    return pd.DataFrame({"stimulus_id": items, "condition": about["conditions"], **columns})


def say_wide_layers(layers: Iterable[Layer], sounds: Sounds) -> None:
    """Name the layers whose units see more than a window, and so padding beyond it."""
    if not isinstance(sounds, Windows):
        return
    wide = []
    for layer in layers:
        seen, step = (_take_last(value) for value in (layer.receptive_field, layer.stride))
        if seen is not None and step and seen > sounds.n_samples:
            wide.append((seen / sounds.rate, layer.name))
    if wide:
        log.warning(
            "note: units of %s see more than a window of %g s, and the network's padding beyond it; a window of %.3g s "
            "holds all that they see",
            list_some([f"{name} ({seconds:.3g} s)" for seconds, name in wide], 4),
            sounds.n_samples / sounds.rate,
            max(wide)[0],
        )


def _take_last(value: int | tuple[int, ...] | None) -> int | None:
    return value[-1] if isinstance(value, tuple) else value


def note_times(root: stores.Group, keys: Mapping[str, str], layers: Mapping[str, Layer], *, rate: float | None) -> None:
    """Store with each array the times of its frames, where these are known."""
    if rate is None:
        return
    for name, layer in layers.items():
        if layer.stride is None or layer.center is None or not {TIME, PLACES} & set(layer.positions):
            continue
        at = layer.positions.index(TIME) if TIME in layer.positions else -1
        step = layer.stride if isinstance(layer.stride, int) else layer.stride[at]
        first = layer.center if isinstance(layer.center, float | int) else layer.center[at]
        if step and len(layer.shape) > 1:  # with a step of 0 each unit sees the whole sound
            time = {"first": first / rate, "step": step / rate}
            stores.note(root, "activations", name, keys[name], {"time": time})


def number_batches(batches: Iterator[Tensor], done: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yield each batch with the number of items before it; `done` are before the first."""
    for batch in batches:
        yield done, batch
        done += len(batch)


def skip_windows(sounds: Sounds, start: int) -> Sounds:
    """Return the windows from one on; sounds that are no windows are returned as they are."""
    return sounds.take(np.arange(start, len(sounds))) if start and isinstance(sounds, Windows) else sounds
