"""Tell how a network is fed, from its file and from what the user says beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.layers.running import evaluating, forward
from brainmap.features.networks.description import Checkpoint, read_description
from brainmap.features.networks.keras_files import find_keras_length, is_keras
from brainmap.features.sounds.files import Sounds, fit_length, set_level, sounds_from_array, trim_sound
from brainmap.features.sounds.front_ends import WAVEFORM, FrontEnd, read_front_end


def describe_feeding(
    path: str | Path,
    *,
    architecture: str | None = None,
    seconds: float | None = None,
    input: FrontEnd | str | Mapping[str, Any] | None = None,
    place: str = "in the call",
    ask: str = "rate (Hz) and seconds",
    **given: Any,
) -> Checkpoint:
    """Return how a network is fed: as its file says, which the user can complete but not contradict.

    Parameters
    ----------
    path : path
        The checkpoint.
    architecture : str, optional
    seconds : float, optional [s]
    input : FrontEnd, str or mapping, optional
        What the network takes, as `read_front_end` reads it.
    place : str
        Where the user says these things, for messages.
    ask : str
        What a user gives for a file that says nothing, for messages.
    **given
        `rate`, `level`, `align`, `classes`, and the further arguments of the architecture; None says nothing.

    Raises
    ------
    InputError
        The file says nothing of rate or length and the user neither, or both say different things.
    """
    said = {key: value for key, value in given.items() if value is not None}
    if input is not None:
        said["input"] = read_front_end(input)
    stored = read_description(path)
    if stored is None:
        seconds = _fit_length(Path(path), said, seconds)
        if "rate" not in said or seconds is None:
            raise InputError(f"{path} does not say how it was fed; give {ask} {place}")
        return Checkpoint(architecture=architecture or "", n_samples=round(seconds * said["rate"]), **said)
    if seconds is not None and stored.own_lengths:
        stored = stored.cut_to(seconds)
    own = {"input": stored.front_end, "seconds": stored.n_samples / stored.rate}
    if architecture is not None:
        said["architecture"] = architecture
    if seconds is not None and round(seconds * stored.rate) != stored.n_samples:
        said["seconds"] = seconds
    for key, value in said.items():
        kept = own[key] if key in own else getattr(stored, key)
        if value != kept:
            raise InputError(
                f"{key} is {_format_setting(value)} {place} and {_format_setting(kept)} in {path}, with which it was "
                "trained; leave it out"
            )
    named = architecture is not None or not stored.architecture.partition(":")[2]
    return replace(stored, own=stored.own or (named and ("input" in said or not stored.front_end.is_code)))


def _fit_length(path: Path, said: Mapping[str, Any], seconds: float | None) -> float | None:
    """Return the seconds that the user gives, or else those of a Keras file, which knows how many samples it takes.

    Raises
    ------
    InputError
        The user gives another length than the file.
    """
    taken = said.get("input", WAVEFORM)
    length = find_keras_length(path) if "rate" in said and taken.is_waveform and is_keras(path) else None
    if length is None:
        return seconds
    if seconds is not None and round(seconds * said["rate"]) != length:
        raise InputError(
            f"seconds: expected {length / said['rate']:g}, since {path} takes {length:,} samples and the rate is "
            f"{said['rate']:,} Hz, got {seconds:g}; leave it out, or give the rate with which it was trained"
        )
    return length / int(said["rate"])


def make_example(checkpoint: Checkpoint) -> Tensor:
    """Make noise in the shape of one item as a network takes it, `(1, c, t)` or `(1, c, h, w)`.

    For a network that takes sounds of any length it lasts at most one second.
    """
    if checkpoint.own_lengths:
        checkpoint = replace(checkpoint, n_samples=min(checkpoint.n_samples or checkpoint.rate, checkpoint.rate))
    return 0.05 * torch.randn(1, *checkpoint.input_shape(), generator=torch.Generator().manual_seed(0))


def feed_waveforms(
    waveforms: NDArray[np.floating],
    checkpoint: Checkpoint,
    *,
    rate: int,
    items: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
) -> Sounds:
    """Bring waveforms in memory to the rate, length, level and input of a network, as files of them would be.

    Parameters
    ----------
    waveforms : ndarray (n, 1, t)
    checkpoint : Checkpoint
        How the network is fed.
    rate : int [Hz]
        Rate of the waveforms.
    items, conditions : sequence of str, optional

    Raises
    ------
    InputError
        The waveforms have another shape or are not finite, or the front end is code of another.

    Examples
    --------
    >>> fed = feed_waveforms(np.ones((1, 1, 100)), Checkpoint(architecture="ch32", n_samples=150), rate=8_000)
    >>> fed.rate, fed.waveforms.shape
    (16000, (1, 1, 150))
    """
    checkpoint.check_own()
    given = sounds_from_array(waveforms, rate=rate, items=items, conditions=conditions)
    fed = []
    for sound in given.waveforms[:, 0]:
        mono = sound
        if rate != checkpoint.rate:
            mono = soxr.resample(sound, rate, checkpoint.rate, quality="HQ").astype(np.float32)
        n_samples = checkpoint.n_samples or len(mono)
        kept = set_level(trim_sound(mono, n_samples, align=checkpoint.align), checkpoint.level)
        fed.append(kept if checkpoint.own_lengths else fit_length(kept, n_samples, align=checkpoint.align))
    data = np.stack(fed)[:, None]
    return replace(
        given,
        rate=checkpoint.rate,
        n_samples=data.shape[2],
        front_end=checkpoint.front_end,
        own_lengths=checkpoint.own_lengths,
        _given=data,
    )


def takes_sounds(checkpoint: Checkpoint, sounds: Sounds) -> bool:
    """Tell whether a network takes sounds as they are.

    Examples
    --------
    >>> takes_sounds(Checkpoint(architecture="ch32"), sounds_from_array(np.zeros((1, 1, 8)), rate=16_000))
    False
    """
    longest = checkpoint.n_samples in (0, sounds.n_samples)
    length = longest if checkpoint.own_lengths else checkpoint.n_samples == sounds.n_samples
    return length and (checkpoint.rate, checkpoint.front_end, checkpoint.level) == (
        sounds.rate,
        sounds.front_end,
        sounds.level,
    )


def refeed_sounds(sounds: Sounds, checkpoint: Checkpoint) -> Sounds:
    """Read the same sounds as another network takes them: from their files, or from waveforms in memory.

    Parameters
    ----------
    sounds : Sounds
    checkpoint : Checkpoint
        How the other network is fed.

    Returns
    -------
    Sounds
        The sounds themselves, where the network takes them as they are.

    Examples
    --------
    >>> sounds = sounds_from_array(np.ones((1, 1, 8)), rate=16_000)
    >>> refeed_sounds(sounds, Checkpoint(architecture="ch32", n_samples=12)).waveforms.shape
    (1, 1, 12)
    """
    if takes_sounds(checkpoint, sounds):
        return sounds
    if sounds.in_memory is not None:
        named = {"items": sounds.items, "conditions": sounds.conditions}
        return feed_waveforms(sounds.in_memory, checkpoint, rate=sounds.rate, **named)
    other = sounds.fed(rate=checkpoint.rate, n_samples=checkpoint.n_samples or None, level=checkpoint.level)
    return replace(other, align=checkpoint.align, front_end=checkpoint.front_end, own_lengths=checkpoint.own_lengths)


def count_outputs(model: nn.Module, checkpoint: Checkpoint) -> int | None:
    """Count the outputs of a network that gives one value a class; None for a network that gives something else.

    Raises
    ------
    InputError
        The network refuses its input.
    """
    with evaluating(model), torch.no_grad():
        given = forward(model, make_example(checkpoint))
    return given.shape[1] if isinstance(given, Tensor) and given.ndim == 2 else None


def _format_setting(value: object) -> str:
    return repr(value.describe() if isinstance(value, FrontEnd) else value)
