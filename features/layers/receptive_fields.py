"""Compute receptive fields, strides and frame centers, operation by operation.

Find the samples that the frames of a layer see, cut them out of a sound, and find the most active frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from brainmap.features.layers.axes import ITEMS, UNITS, UNKNOWN, AxisNames

# argument names in the order of torch's positional arguments
_WINDOWS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("conv1d", "conv2d"), ("input", "weight", "bias", "stride", "padding", "dilation")),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), ("input", "kernel_size", "stride", "padding", "dilation")),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), ("input", "kernel_size", "stride", "padding")),
    **dict.fromkeys(("lp_pool1d", "lp_pool2d"), ("input", "norm_type", "kernel_size", "stride")),
}
# these keep the shape and still mix positions, so that the receptive field is unknown after them
_MIXING = frozenset(
    {
        "matmul",
        "bmm",
        "baddbmm",
        "einsum",
        "scaled_dot_product_attention",
        "flip",
        "roll",
        "cumsum",
        "sort",
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "fft_fft",
        "fft_ifft",
        "multi_head_attention_forward",
        "transformer_encoder_layer_fwd",
    }
)
_FEW_FRAMES = 200
_KEPT = 4 << 20  # numbers in the largest weights that are kept from batch to batch
_CACHED = 1 << 18  # numbers that are interpolated at once


@dataclass(frozen=True)
class Axis:
    """Describe the frames of one axis: frame i is centered at `center + i * stride` and sees `size` samples.

    A `stride` of 0 means that a unit sees the whole axis and has no position. Behind an attention frames may have
    positions, and see the `whole` axis all the same.
    """

    size: int
    stride: int
    center: float
    whole: bool = False

    def window(self, kernel: int, *, stride: int, left: float, dilation: int = 1) -> Axis:
        """Compute the axis after a window of `kernel` taps that begins `left` frames before the first frame.

        Examples
        --------
        >>> Axis(1, 1, 0.0).window(5, stride=1, left=2).window(3, stride=3, left=0)
        Axis(size=7, stride=3, center=1.0, whole=False)
        """
        reach = dilation * (kernel - 1)
        return Axis(
            self.size if self.whole else self.size + reach * self.stride,
            self.stride * stride,
            self.center + (reach / 2 - left) * self.stride,
            self.whole,
        )


Place = tuple[Axis, ...] | None  # one axis for time, or two for height and width; None where the position is unknown


class Geometry:
    """Record the receptive fields of every tensor of one forward pass, operation by operation.

    Parameters
    ----------
    example : Tensor (n, c, t) or (n, c, h, w)
        The input of the network.
    axes : AxisNames
        It records every operation before the geometry does.
    """

    def __init__(self, example: Tensor, axes: AxisNames) -> None:
        self.axes = axes
        self.lengths = tuple(example.shape[2:])
        # the tensors are kept, so that Python never reuses an id
        self._known: dict[int, tuple[Tensor, Place]] = {}
        self._resampled: set[int] = set()  # tensors whose frames lie between those of what they were made of
        self.set(example, tuple(Axis(1, 1, 0.0) for _ in self.lengths))

    def set(self, tensor: Tensor, place: Place) -> None:
        self._known[id(tensor)] = (tensor, place)

    def of(self, tensor: Tensor) -> Place:
        """Return the receptive fields of a tensor; a tensor that no operation gave is taken to see everything."""
        return self._known[id(tensor)][1] if id(tensor) in self._known else self.whole

    @property
    def whole(self) -> tuple[Axis, ...]:
        return tuple(Axis(n, 0, (n - 1) / 2, whole=True) for n in self.lengths)

    def follow(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        """Record the receptive fields of the outputs of an operation."""
        inputs = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and id(a) in self._known]
        for a in args:  # torch.cat([x, y])
            if isinstance(a, list | tuple):
                inputs += [b for b in a if isinstance(b, Tensor) and id(b) in self._known]
        outputs = out if isinstance(out, tuple | list) else (out,)
        for tensor in outputs:
            if inputs and isinstance(tensor, Tensor):
                place = self._compute_axes(name, args, kwargs, inputs, tensor)
                if place != self.whole and (
                    (name == "interpolate" and place is None) or any(id(one) in self._resampled for one in inputs)
                ):
                    self._resampled.add(id(tensor))
                    place = None  # also beside a branch whose frames have positions, with which they do not agree
                self.set(tensor, place)

    def _compute_axes(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], inputs: Sequence[Tensor], out: Tensor
    ) -> Place:
        place, spatial = self.of(inputs[0]), self._list_lengths(out)
        along = self._has_positions_last(inputs[0]) and self._has_positions_last(out)
        if name in _WINDOWS and place is not None and len(spatial) == len(place) and along:
            return _apply_window(place, name, dict(zip(_WINDOWS[name], args, strict=False)) | dict(kwargs))
        if name == "pad" and place is not None and along:
            return _apply_padding(place, [int(n) for n in (args[1] if len(args) > 1 else kwargs["pad"])])
        if name == "interpolate" and place is not None and along and len(spatial) == len(place):
            return _apply_interpolation(place, self._list_lengths(inputs[0]), spatial, args, kwargs)
        if len(spatial) < len(self.lengths) or all(n == 1 for n in spatial):
            return self.whole
        if name == "getitem" and place is not None and len(spatial) == len(place) and len(args) > 1:
            return self._slice_fields(place, inputs[0], args[1])
        mixing = name in _MIXING or (name == "linear" and self._has_positions_last(inputs[0]))
        if mixing or len(spatial) != len(self.lengths):
            return None
        same = [self.of(i) for i in inputs if self._list_lengths(i) in (spatial, (1,) * len(spatial))]
        return _join_branches(same, self.lengths) if len(same) == len(inputs) else None

    def _slice_fields(self, place: tuple[Axis, ...], tensor: Tensor, index: Any) -> Place:
        """Compute the fields after slices along axes of positions, which may leave out frames at either end."""
        names = self.axes.of(tensor)
        parts = [one for one in (index if isinstance(index, tuple) else (index,)) if one is not None]
        if names is None or not all(one is ... or isinstance(one, slice | int) for one in parts):
            return None
        if ... in parts:
            at = parts.index(...)
            parts[at : at + 1] = [slice(None)] * (tensor.ndim - len(parts) + 1)
        parts += [slice(None)] * (tensor.ndim - len(parts))
        moved, axes = [], iter(place)
        for one, n, role in zip(parts, tensor.shape, names, strict=True):
            if role in (ITEMS, UNITS) or (role == UNKNOWN and n == 1):
                continue
            axis = next(axes, None)
            if axis is None or isinstance(one, int):
                return None
            start, _, step = one.indices(n)
            moved.append(replace(axis, stride=axis.stride * step, center=axis.center + start * axis.stride))
        return tuple(moved) if len(moved) == len(place) else None

    def _list_lengths(self, tensor: Tensor) -> tuple[int, ...]:
        """Return the lengths of the axes that hold positions; if the roles are unknown, all axes after the second."""
        names = self.axes.of(tensor)
        if names is None:
            return tuple(tensor.shape[2:])
        roles = zip(tensor.shape, names, strict=True)
        return tuple(n for n, role in roles if role not in (ITEMS, UNITS) and (n > 1 or role != UNKNOWN))

    def _has_positions_last(self, tensor: Tensor) -> bool:
        names = self.axes.of(tensor)
        return names is None or names[-1] != UNITS


def _repeat_value(value: Any, n: int) -> tuple[int, ...]:
    listed = tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)
    return listed * n if len(listed) == 1 else listed


def _apply_window(place: tuple[Axis, ...], name: str, given: dict[str, Any]) -> Place:
    n = len(place)
    kernel = tuple(given["weight"].shape[2:]) if name.startswith("conv") else _repeat_value(given["kernel_size"], n)
    default = 1 if name.startswith("conv") else kernel
    stride = given.get("stride")
    strides = _repeat_value(default if stride is None or stride == [] else stride, n)
    dilation = _repeat_value(given.get("dilation", 1), n)
    padding = given.get("padding", 0)
    if padding == "same":  # an odd remainder goes to the right
        left = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    else:
        left = _repeat_value(0 if padding == "valid" else padding, n)
    return tuple(
        axis.window(k, stride=s, left=p, dilation=d)
        for axis, k, s, p, d in zip(place, kernel, strides, left, dilation, strict=True)
    )


def _apply_padding(place: tuple[Axis, ...], pad: Sequence[int]) -> Place:
    lefts = list(pad[0::2])  # torch lists the last axis first
    if len(lefts) > len(place):
        return None
    lefts += [0] * (len(place) - len(lefts))
    return tuple(axis.window(1, stride=1, left=p) for axis, p in zip(place, reversed(lefts), strict=True))


def _apply_interpolation(
    place: tuple[Axis, ...],
    before: Sequence[int],
    after: Sequence[int],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Place:
    """Compute the fields after interpolation to more or fewer frames; None where no whole stride is left.

    The frames that are copied or mixed lie up to a frame before or behind a regular grid, by which fields grow.
    """
    given = dict(zip(("input", "size", "scale_factor", "mode", "align_corners"), args, strict=False)) | dict(kwargs)
    mode = given.get("mode", "nearest")
    if mode not in ("nearest", "nearest-exact", "linear", "bilinear") or given.get("align_corners"):
        return None
    axes = []
    for axis, n, m in zip(place, before, after, strict=True):
        if n == m:
            axes.append(axis)
            continue
        if (axis.stride * n) % m:
            return None
        share = n / m  # of a frame before, from one frame to the next
        moved = (share - 1) / 2 * axis.stride
        aside = abs(1 - share) * axis.stride if mode != "linear" and mode != "bilinear" else 2 * axis.stride
        size = axis.size if axis.whole else axis.size + round(aside)
        axes.append(Axis(size, axis.stride * n // m, axis.center + moved, axis.whole))
    return tuple(axes)


def _join_branches(places: Sequence[Place], lengths: Sequence[int]) -> Place:
    """Compute the receptive fields of a sum of branches: the union of their windows, if their strides agree.

    A branch that mixes positions sees the whole input; beside one whose frames have positions, as in a residual block
    around an attention, the frames of the sum keep these positions.
    """
    known = [p for p in places if p is not None]
    joined = []
    for k, axes in enumerate(zip(*known, strict=True)):
        moving = [a for a in axes if a.stride]
        if len({a.stride for a in moving}) > 1 or (len(known) < len(places) and not moving):
            return None
        if len(known) < len(places):
            joined.append(Axis(lengths[k], moving[0].stride, moving[0].center, whole=True))
            continue
        if any(a.whole for a in axes):
            sees_all = next(a for a in axes if a.whole)
            joined.append(replace(moving[0], size=sees_all.size, whole=True) if moving else sees_all)
            continue
        low = min(a.center - (a.size - 1) / 2 for a in moving)
        high = max(a.center + (a.size - 1) / 2 for a in moving)
        joined.append(Axis(round(high - low) + 1, moving[0].stride, (low + high) / 2))
    return tuple(joined) or None


def upsample(
    courses: NDArray[np.float32],
    length: int,
    *,
    center: float,
    stride: float,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Interpolate time courses over frames to the samples of the sound.

    The interpolation is linear between frame centers; before the first and after the last center the value is held.

    Parameters
    ----------
    courses : ndarray (..., n_frames)
    length : int [samples]
    center, stride : float [samples]
        Center of the first frame, and the step between centers.
    out : ndarray float32 (..., length), optional
        Array to write into, which is also returned; large results are then written once.

    Returns
    -------
    ndarray float32 (..., length)

    Examples
    --------
    >>> upsample(np.array([[0.0, 1.0]], np.float32), 5, center=1.0, stride=2.0).tolist()
    [[0.0, 0.0, 0.5, 1.0, 1.0]]
    """
    n_frames = courses.shape[-1]
    if n_frames > _FEW_FRAMES:
        low, high, share = _find_neighbors(n_frames, length, center, stride)
        lower = courses[..., low]
        between: NDArray[np.float32] = np.add(lower, (courses[..., high] - lower) * share, out=out)
        return between
    compute = _keep_weights if n_frames * length < _KEPT else _compute_weights
    weights = compute(n_frames, length, center, stride)
    if out is not None and not out.flags.c_contiguous:
        return np.asarray(np.matmul(courses, weights, out=out))
    whole = np.empty((*courses.shape[:-1], length), weights.dtype) if out is None else out
    rows, spread = courses.reshape(-1, n_frames), whole.reshape(-1, length)
    step = max(1, _CACHED // length)  # BLAS writes twice, the first time zeros: both times into the cache
    for first in range(0, len(rows), step):
        np.matmul(rows[first : first + step], weights, out=spread[first : first + step])
    return whole


def _find_neighbors(
    n_frames: int, length: int, center: float, stride: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Find the frames between which each sample lies, and the share of the later one."""
    place = np.clip((np.arange(length) - center) / stride, 0, n_frames - 1)
    low = np.minimum(place.astype(np.intp), max(n_frames - 2, 0))
    return low, np.minimum(low + 1, n_frames - 1), (place - low).astype(np.float32)


def _compute_weights(n_frames: int, length: int, center: float, stride: float) -> NDArray[np.float32]:
    """Compute the weight (n_frames, length) of each frame at each sample.

    A product with few frames is several times faster than indexing.
    """
    low, high, share = _find_neighbors(n_frames, length, center, stride)
    weights = np.zeros((n_frames, length), np.float32)
    np.add.at(weights, (low, np.arange(length)), 1 - share)
    np.add.at(weights, (high, np.arange(length)), share)
    return weights


_keep_weights = lru_cache(maxsize=2)(_compute_weights)  # every batch takes the same ones
