"""Turn sounds into batches of tensors, and read the labels of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainmap.errors import InputError


@runtime_checkable
class SoundSource(Protocol):
    """Describe labelled sounds that may be read from disk batch by batch, as `load_sounds` returns them."""

    @property
    def items(self) -> Sequence[str]: ...

    @property
    def conditions(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]: ...


Sounds: TypeAlias = SoundSource | NDArray[np.floating[Any]] | Tensor


def iterate_tensors(sounds: Sounds, size: int, *, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Yield sounds in batches of `size`, as float32 tensors `(size, c, ...)` on `device`.

    Batches are copies, so that a network that writes into its input does not change the user's sounds.

    Raises
    ------
    InputError
        No sounds, not an array with channels, or a batch size below 1.

    Examples
    --------
    >>> [tuple(batch.shape) for batch in iterate_tensors(np.zeros((3, 1, 8)), 2)]
    [(2, 1, 8), (1, 1, 8)]
    """
    if size < 1:
        raise InputError(f"batch_size: expected 1 or more, got {size}")
    if isinstance(sounds, SoundSource):
        if not len(sounds):
            raise InputError("sounds: expected at least one sound, got none")
        batches: Iterator[Any] = sounds.batches(size)
    else:
        shape = tuple(getattr(sounds, "shape", ()))
        if len(shape) not in (3, 4) or 0 in shape:
            raise InputError(f"sounds: expected an array (n, c, t) or (n, c, h, w), got {_describe_sounds(sounds)}")
        batches = (sounds[i : i + size] for i in range(0, shape[0], size))
    for batch in batches:
        yield torch.as_tensor(batch).to(device=device, dtype=torch.float32, copy=True)


def number_batches(batches: Iterator[Tensor], done: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yield each batch with the number of items before it; `done` are before the first."""
    for batch in batches:
        yield done, batch
        done += len(batch)


def _describe_sounds(sounds: object) -> str:
    shape = getattr(sounds, "shape", None)
    return f"{type(sounds).__name__} of shape {tuple(shape)}" if shape is not None else type(sounds).__name__


def get_labels(sounds: Sounds) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids and conditions of sounds; for a plain array both are the positions.

    Examples
    --------
    >>> get_labels(np.zeros((2, 1, 8)))
    (('0', '1'), ('0', '1'))
    """
    if isinstance(sounds, SoundSource):
        return tuple(str(i) for i in sounds.items), tuple(str(c) for c in sounds.conditions)
    numbers = tuple(str(i) for i in range(len(sounds)))
    return numbers, numbers
