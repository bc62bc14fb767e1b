"""Place maps over the positions of a layer on the samples of the sounds, or on the axes of a spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.layers.layer import TOKEN, Layer
from brainmap.features.layers.receptive_fields import upsample as upsample_courses

_ELSEWHERE = (
    "take a method whose maps lie on the sounds (saliency, occlusion), or another layer; maps over the positions of "
    "this one come from `brainmap features cam`, and in Python from class_activation_maps with upsample=False"
)


def can_upsample(target: Layer, n_axes: int) -> bool:
    """Tell whether the positions of a layer can be placed in an input with so many axes of positions."""
    return TOKEN not in target.positions and len(target.shape) - 1 == n_axes


def upsample_maps(
    maps: NDArray[np.float32], lengths: Sequence[int], target: Layer, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Interpolate maps from the frames of the layer to the samples of the sound, axis by axis, into `out` if given."""
    n = len(lengths)
    if TOKEN in target.positions:
        raise InputError(
            f"class activation maps: the positions of layer {target.name!r} are tokens, of which none is a place in "
            f"time; {_ELSEWHERE}"
        )
    centers, strides = _repeat_size(target.center, n), _repeat_size(target.stride, n)
    if maps.ndim - 2 != n:
        raise InputError(
            f"class activation maps: layer {target.name!r} has {maps.ndim - 2} axes of positions and the sounds have "
            f"{n}; {_ELSEWHERE}"
        )
    for axis, length in enumerate(lengths):
        frames = maps.shape[2 + axis]
        # where the receptive field is not known, frames are taken to divide the sound evenly
        stride = strides[axis] or length / frames
        center = centers[axis] if strides[axis] else (length / frames - 1) / 2
        last = out if axis == n - 1 else None
        moved = np.moveaxis(maps, 2 + axis, -1)
        found = upsample_courses(moved, length, center=center or 0.0, stride=stride, out=last)
        maps = np.moveaxis(found, -1, 2 + axis)
    return maps


def _repeat_size(value: Any, n: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * n
