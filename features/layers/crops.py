"""Find the samples that the frames of a layer see, cut them out of a sound, and find the most active frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.layers.layer import Layer


@dataclass(frozen=True)
class Fields:
    """Hold the receptive fields of a layer's frames, which are numbered in C order over their axes.

    Attributes
    ----------
    size, length : tuple of int [samples]
        Length of a receptive field, and of the sound.
    starts : ndarray (n_frames, n_axes) [samples]
        First sample of each field; negative where it begins before the sound.
    allowed : ndarray of int
        Frames that may be chosen.
    grid : tuple of int
        Number of frames along each axis.
    """

    size: tuple[int, ...]
    length: tuple[int, ...]
    starts: NDArray[np.intp]
    allowed: NDArray[np.intp]
    grid: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer, length: tuple[int, ...], *, inside: bool, grid: tuple[int, ...] | None = None) -> Fields:
        """Compute the receptive fields of a layer for inputs of a length; `inside` allows only fields within the input.

        The layer is that of such an input; where it is that of an input of another length, with the same fields, `grid`
        has the number of frames along each axis.

        Raises
        ------
        InputError
            The position of the fields is not known, or none lies inside.
        """
        size, stride, center = layer.receptive_field, layer.stride, layer.center
        if size is None or stride is None or center is None:
            raise InputError(
                f"exemplars: what a unit of {layer.name!r} sees is not known, an operation before it mixes positions; "
                "name an earlier layer"
            )
        grid = grid or layer.shape[1:] or (1,) * len(length)
        if len(grid) != len(length):
            raise InputError(f"exemplars: layer {layer.name!r} has shape {layer.shape}; name a convolution")
        sizes = make_pair(size)
        axes = zip(sizes, make_pair(stride), make_pair(center), grid, layer.whole or (False,) * len(sizes), strict=True)
        # frames that see all of the sound, as behind an attention, have a position, but see no more to one side
        first = [np.zeros(f) if whole else c - (n - 1) / 2 + np.arange(f) * s for n, s, c, f, whole in axes]
        starts = np.stack([axis.ravel() for axis in np.meshgrid(*first, indexing="ij")], axis=1).round().astype(np.intp)
        within = ((starts >= 0) & (starts + np.array(sizes) <= np.array(length))).all(axis=1)
        allowed = np.flatnonzero(within) if inside else np.arange(len(starts))
        if not len(allowed):
            raise InputError(
                f"exemplars: no receptive field of {layer.name!r} ({' x '.join(map(str, sizes))} samples) lies inside "
                f"the sound ({' x '.join(map(str, length))}); give longer sounds or leave out inside"
            )
        return cls(tuple(map(int, sizes)), length, starts, allowed, grid)

    def iterate_tops(
        self, values: NDArray[np.float32], n: int
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]:
        """Yield the highest value and its frame per sound and unit, `(b, n_units)`, then the next ones apart."""
        left = values[:, :, self.allowed] if len(self.allowed) < values.shape[2] else values
        starts = self.starts[self.allowed]
        for at in range(n):
            frame = left.argmax(axis=2)
            yield np.take_along_axis(left, frame[:, :, None], axis=2)[:, :, 0], self.allowed[frame]
            if at + 1 < n:
                distance = np.abs(starts - starts[frame][:, :, None])  # (b, n_units, n_frames, n_axes)
                near = (2 * distance < np.array(self.size)).all(axis=3) | (distance == 0).all(axis=3)
                left = np.where(near, -np.inf, left)

    def outside(self, frame: int) -> float:
        """Compute the share of a frame's receptive field that lies outside the sound."""
        low = np.maximum(self.starts[frame], 0)
        high = np.minimum(self.starts[frame] + self.size, self.length)
        return 1.0 - float(np.prod(np.maximum(high - low, 0) / np.array(self.size)))

    def crop(self, sound: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
        """Cut the receptive field of a frame out of a sound `(c, ...)`; samples outside the sound are zero."""
        out = np.zeros((len(sound), *self.size), np.float32)
        source, target = [slice(None)], [slice(None)]
        for start, size, length in zip(self.starts[frame].tolist(), self.size, self.length, strict=True):
            low, high = max(start, 0), min(start + size, length)
            source.append(slice(low, max(low, high)))
            target.append(slice(low - start, max(low, high) - start))
        out[tuple(target)] = sound[tuple(source)]
        return out


def make_pair(value: float | tuple[float, ...]) -> tuple[float, ...]:
    """Return a value for each axis, whether there is one axis or several."""
    return value if isinstance(value, tuple) else (value,)
