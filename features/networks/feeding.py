"""Tell how a network is fed, from its file and from what the user says beside it.

Open a network without loading it: what was found out from its files before is kept in the user's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainmap.errors import InputError
from brainmap.features.networks.description import Checkpoint, read_description
from brainmap.features.sounds.front_ends import WAVEFORM, FrontEnd, read_front_end

if TYPE_CHECKING:
    from torch import Tensor, nn


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

    Where neither says a level, sounds keep that of their files, for which `description.note_default_level` has words.

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
        `rate`, `level`, `align`, `classes`, `own_lengths` and the further arguments of the architecture; None says
        nothing. Sounds may keep their own lengths where a file says that they are padded, but not the other way round.

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
        beside, n_samples = str(Path(path).parent), round(seconds * said["rate"])
        said = {"level": "none", **said}
        return Checkpoint(architecture=architecture or "", n_samples=n_samples, beside=beside, **said)
    if said.get("own_lengths"):
        stored = replace(stored, own_lengths=True)
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
    if "rate" not in said or not said.get("input", WAVEFORM).is_waveform:
        return seconds
    from brainmap.features.networks.keras_files import find_keras_length, is_keras  # imports torch

    length = find_keras_length(path) if is_keras(path) else None
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
    import torch

    shape = shorten_input(checkpoint).input_shape()
    return 0.05 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def shorten_input(checkpoint: Checkpoint) -> Checkpoint:
    """Return how a network is fed with an example, which lasts at most one second where it takes any length."""
    if not checkpoint.own_lengths:
        return checkpoint
    return replace(checkpoint, n_samples=min(checkpoint.n_samples or checkpoint.rate, checkpoint.rate))


def count_outputs(model: nn.Module, checkpoint: Checkpoint) -> int | None:
    """Count the outputs of a network that gives one value a class; None for a network that gives something else.

    Raises
    ------
    InputError
        The network refuses its input.
    """
    import torch

    from brainmap.features.layers.running import evaluating, forward

    with evaluating(model), torch.no_grad():
        given = forward(model, make_example(checkpoint))
    return given.shape[1] if isinstance(given, torch.Tensor) and given.ndim == 2 else None


def _format_setting(value: object) -> str:
    return repr(value.describe() if isinstance(value, FrontEnd) else value)
