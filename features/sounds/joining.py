"""Join sounds, and batches of sounds, to arrays: of equal lengths, or with zeros after the end of shorter ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError


def join_equal_lengths(sounds: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Join consecutive sounds of one length to batches `(n, 1, n_samples)` of at most `size`."""
    held: list[NDArray[np.float32]] = []
    for sound in sounds:
        if held and (len(held) == size or len(sound) != len(held[0])):
            yield np.stack(held)[:, None]
            held = []
        held.append(sound)
    if held:
        yield np.stack(held)[:, None]


def join_batches(parts: Sequence[NDArray[np.float32]], *, rate: float | None) -> NDArray[np.float32]:
    """Join batches of sounds to one array `(n, 1, n_samples)`, or of what a network takes of them.

    Raises
    ------
    InputError
        Sounds that keep their own lengths have several.
    """
    lengths = sorted({part.shape[2:] for part in parts})
    if len(lengths) > 1:
        (least, most), unit = (lengths[0][-1], lengths[-1][-1]), "samples"
        if rate and parts[0].ndim == 3:
            least, most, unit = least / rate, most / rate, "seconds"
        raise InputError(
            f"sounds: expected one length, got {least:.4g} to {most:.4g} {unit}, and the network takes no padding; "
            f"give at most {least:.4g} {unit}, to which all are cut"
        )
    return np.concatenate(parts)


def pad_batches(parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Join batches of sounds to one array `(n, 1, n_samples)`, with zeros after the end of shorter ones."""
    found = list(parts)
    longest = max(part.shape[2] for part in found)
    return np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, longest - part.shape[2]))) for part in found])
