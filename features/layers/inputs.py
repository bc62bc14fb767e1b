"""Give sounds to networks that take them in a way of their own: without padding, at one rate, or as spectrograms.

Such a network says so by attributes: `own_lengths` (sounds are not padded), `rate` [Hz], `real_positions` (which
positions of a layer are padding of the network itself), and `spectrograms` (its input where gradients end).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors

Shape: TypeAlias = tuple[int, ...]


@runtime_checkable
class PadsInside(Protocol):
    """Describe a network that pads sounds itself, and knows which positions of its layers are padding."""

    def real_positions(self, lengths: Shape, positions: Shape) -> Tensor | None:
        """Return which positions hold sound, shaped as `positions`; None means all of them."""


@runtime_checkable
class TakesSpectrograms(Protocol):
    """Describe a network whose gradients end at the spectrograms that its front end computes."""

    needs_spectrograms: bool
    frame_rate: float

    def spectrograms(self, sounds: Tensor) -> Tensor:
        """Compute the spectrograms `(n, c, bands, frames)` of sounds `(n, 1, t)`."""

    def sounding_frames(self, n_samples: int) -> int:
        """Count the frames of a spectrogram that hold sound and no padding."""


class SpectrogramSounds:
    """Hold sounds as the spectrograms that a network computes of them, batch by batch; a `SoundSource`.

    Attributes
    ----------
    items, conditions : tuple of str
    rate : float
        Frames per second.
    sounding : list of int
        Number of frames that hold sound, for each item of the batches that were read last.
    """

    def __init__(self, network: TakesSpectrograms, sounds: Sounds) -> None:
        self._network, self._sounds = network, sounds
        self.items, self.conditions = get_labels(sounds)
        self.rate = network.frame_rate
        self.sounding: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    @property
    def waveforms(self) -> NDArray[np.float32]:
        """Compute all spectrograms at once, `(n, c, bands, frames)`."""
        return np.concatenate(list(self.batches(len(self))))

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield spectrograms `(size, c, bands, frames)` in order."""
        self.sounding = []
        for batch in iterate_tensors(self._sounds, size):
            self.sounding += [self._network.sounding_frames(batch.shape[2])] * len(batch)
            yield np.asarray(self._network.spectrograms(batch), dtype=np.float32)


def fit_sounds(model: nn.Module, sounds: Sounds) -> Sounds:
    """Return sounds as a network takes them: unpadded where it takes no padding.

    Raises
    ------
    InputError
        Sounds at another rate than the network's.
    """
    if not getattr(model, "own_lengths", False):
        return sounds
    rate, wanted = getattr(sounds, "rate", None), getattr(model, "rate", None)
    if rate is not None and wanted is not None and rate != wanted and not isinstance(sounds, SpectrogramSounds):
        raise InputError(f"sounds: expected a rate of {wanted:,} Hz, as the network takes them, got {rate:,} Hz")
    unpadded: Any = getattr(sounds, "without_padding", None)
    return sounds if unpadded is None else unpadded()


def make_differentiable(model: nn.Module, sounds: Sounds) -> Sounds:
    """Return sounds in the form that gradients reach: as spectrograms where the network's front end has no gradient."""
    fitted = fit_sounds(model, sounds)
    if not isinstance(model, TakesSpectrograms) or not model.needs_spectrograms:
        return fitted
    if isinstance(fitted, SpectrogramSounds) or getattr(fitted, "ndim", 3) == 4:
        return fitted
    return SpectrogramSounds(model, fitted)


def keep_real(model: nn.Module, activation: Tensor, lengths: Sequence[int]) -> Tensor:
    """Take the padding that a network adds itself out of an activation.

    Parameters
    ----------
    model : torch.nn.Module
    activation : Tensor (n, units, ...)
        Arranged with the positions last.
    lengths : sequence of int
        Shape of the network's input without items and channels.

    Returns
    -------
    Tensor (n, units, ...)
        The padding lies in whole columns of the last axis, which are left out; otherwise the positions that hold sound
        come in one row.
    """
    if activation.ndim < 3 or not hasattr(model, "real_positions") or not isinstance(model, PadsInside):
        return activation
    real = model.real_positions(tuple(lengths), tuple(activation.shape[2:]))
    if real is None or bool(real.all()):
        return activation
    rows = real.reshape(-1, real.shape[-1]).to(activation.device)
    if bool((rows == rows[0]).all()):
        return activation[..., rows[0]]
    return activation.flatten(2)[:, :, rows.flatten()]


def clear_padding(sounds: Sounds, maps: NDArray[np.float32]) -> None:
    """Set maps `(n_items, ..., frames)` over spectrograms to zero, in place, where these hold padding."""
    if isinstance(sounds, SpectrogramSounds):
        for row, n_frames in zip(maps, sounds.sounding, strict=True):
            row[..., n_frames:] = 0.0


def find_longest_lengths(sounds: Sounds, batch: Tensor) -> Shape:
    """Return the lengths of the axes of positions of the longest sound, given one batch."""
    if getattr(sounds, "own_lengths", False):
        return (int(getattr(sounds, "n_samples", batch.shape[2])),)
    return tuple(batch.shape[2:])


def find_longest_input(model: nn.Module) -> Shape | None:
    """Return the shape `(c, bands, frames)` of a whole spectrogram of a network that takes these; otherwise None."""
    if not isinstance(model, TakesSpectrograms) or not model.needs_spectrograms:
        return None
    with torch.no_grad():
        return tuple(model.spectrograms(torch.zeros(1, 1, int(getattr(model, "rate", 16_000)) // 2)).shape[1:])
