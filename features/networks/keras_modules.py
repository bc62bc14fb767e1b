"""Modules of torch for what Keras does otherwise: its order of axes, its padding, and layers that run in Keras itself.

Keras has the axis of channels last, torch second. Between modules every tensor is kept in torch's order, `(n, c, t)` or
`(n, c, h, w)`; it is brought to Keras' order where a layer depends on it (flattening, dense layers over time).
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from brainmap.features.layers.ear import HiddenState


@dataclass(frozen=True)
class Layout:
    """Say where a Keras network has its channels, and move tensors between its order of axes and that of torch.

    Examples
    --------
    >>> layout = Layout(channels_last=True)
    >>> layout.move_second(torch.zeros(2, 80, 1)).shape, layout.move_last(torch.zeros(2, 8, 5, 7)).shape
    (torch.Size([2, 1, 80]), torch.Size([2, 5, 7, 8]))
    """

    channels_last: bool

    def moves(self, n_axes: int) -> bool:
        """Tell whether the two orders differ for a tensor."""
        return self.channels_last and n_axes > 2

    def move_second(self, x: Tensor) -> Tensor:
        """Bring a tensor from Keras' order to torch's."""
        return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1)) if self.moves(x.ndim) else x

    def move_last(self, x: Tensor) -> Tensor:
        """Bring a tensor from torch's order to Keras'."""
        return x.permute(0, *range(2, x.ndim), 1) if self.moves(x.ndim) else x

    def find_axis(self, axis: int, n_axes: int) -> int:
        """Find the axis in torch's order that is `axis` in Keras'."""
        axis %= n_axes
        if not self.moves(n_axes) or axis == 0:
            return axis
        return 1 if axis == n_axes - 1 else axis + 1

    def fits(self, layer: Any) -> bool:
        """Tell whether a layer has its channels where the network has them."""
        return bool((layer.data_format == "channels_last") == self.channels_last)


class MoveLast(nn.Module):
    """Bring a tensor to Keras' order of axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Move the second axis to the end."""
        return x.permute(0, *range(2, x.ndim), 1)


class MoveSecond(nn.Module):
    """Bring a tensor back to torch's order of axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Move the last axis to the second place."""
        return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


class SamePadding(nn.Module):
    """Pad as Keras does for `padding="same"`: ceil(length / stride) frames, an odd remainder at the end.

    Parameters
    ----------
    kernel, stride, dilation : sequence of int
        One number for each axis.
    value : float
        Value of the padding.
    """

    def __init__(
        self, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float = 0.0
    ) -> None:
        super().__init__()
        self.windows = tuple(zip(kernel, stride, dilation, strict=True))
        self.value = value

    def extra_repr(self) -> str:
        """Describe the windows."""
        return f"{self.windows}, value={self.value}"

    def forward(self, x: Tensor) -> Tensor:
        """Pad `(n, c, ...)`."""
        pad: list[int] = []
        for length, (kernel, stride, dilation) in zip(x.shape[2:], self.windows, strict=True):
            whole = max((-(-length // stride) - 1) * stride + dilation * (kernel - 1) + 1 - length, 0)
            pad = [whole // 2, whole - whole // 2, *pad]  # torch lists the last axis first
        return nn.functional.pad(x, pad, value=self.value)


class Merge(nn.Module):
    """Merge several tensors by an operation on two of them, which is repeated."""

    def __init__(self, operation: Callable[[Tensor, Tensor], Tensor], *, mean: bool = False) -> None:
        super().__init__()
        self.operation, self.mean = operation, mean

    def extra_repr(self) -> str:
        """Describe the operation."""
        return f"{self.operation.__name__}, mean={self.mean}"

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Merge tensors of one shape."""
        found = functools.reduce(self.operation, parts)
        return found / len(parts) if self.mean else found


class Concatenate(nn.Module):
    """Join several tensors along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def extra_repr(self) -> str:
        """Describe the axis."""
        return f"{self.axis}"

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Join tensors."""
        return torch.cat(list(parts), dim=self.axis)


class ChannelAxis(nn.Module):
    """Give a tensor an axis of one channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(n, t)` into `(n, 1, t)`."""
        return x.unsqueeze(1)


class _Held:
    """Hold an object of Keras, which copies of a module share, because weights are given to it in every call."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation

    def __deepcopy__(self, _: Any) -> _Held:
        return self


class KerasOperation(nn.Module):
    """Run an operation or a function of Keras that has no weights."""

    def __init__(self, operation: Any, layout: Layout) -> None:
        super().__init__()
        self.held, self.layout = _Held(operation), layout

    def extra_repr(self) -> str:
        """Describe the settings of a layer, on which its values depend."""
        settings = getattr(self.held.operation, "get_config", None)
        return json.dumps(settings(), default=str, sort_keys=True) if settings else self.held.operation.__name__

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the operation with tensors in Keras' order of axes."""
        import keras

        devices = (x.device for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor))
        device = next(devices, torch.device("cpu"))
        with keras.device(str(device).replace("cuda", "gpu")):
            args, kwargs = tree_map_only(Tensor, self.layout.move_last, (args, kwargs))
            out = self.call(*args, **kwargs)
        return tree_map_only(Tensor, self.layout.move_second, out)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the operation."""
        return self.held.operation(*args, **kwargs)


class KerasLayer(KerasOperation, HiddenState):
    """Run a layer of Keras with weights that are parameters of this module."""

    def __init__(self, layer: Any, layout: Layout) -> None:
        super().__init__(layer, layout)
        self.units_axis = None
        self.names: list[str] = []
        for k, variable in enumerate([*layer.trainable_variables, *layer.non_trainable_variables]):
            name = f"{variable.name.replace('.', '_')}_{k}"
            value = variable.value.detach().clone()
            if value.is_floating_point():
                self.register_parameter(name, nn.Parameter(value, requires_grad=k < len(layer.trainable_variables)))
            else:
                self.register_buffer(name, value)
            self.names.append(name)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer with the weights of this module, as for predictions."""
        layer, values = self.held.operation, [getattr(self, name) for name in self.names]
        n = len(layer.trainable_variables)
        return layer.stateless_call(values[:n], values[n:], *args, **kwargs, training=False)[0]

    def reset_parameters(self) -> None:
        """Draw all weights again by the layer's own initializers, from torch's random numbers."""
        layer = self.held.operation
        state = random.getstate()  # Keras seeds its initializers from it
        random.seed(int(torch.randint(2**31, ())))
        try:
            fresh = type(layer).from_config(_remove_seeds(layer.get_config()))
            fresh.build_from_config(layer.get_build_config())
        finally:
            random.setstate(state)
        drawn = [*fresh.trainable_variables, *fresh.non_trainable_variables]
        with torch.no_grad():
            for name, variable in zip(self.names, drawn, strict=True):
                getattr(self, name).copy_(variable.value)


def _remove_seeds(config: Any) -> Any:
    """Return a configuration in which no initializer has a seed, since a seed would draw the same weights each time."""
    if isinstance(config, dict):
        return {key: None if key == "seed" else _remove_seeds(value) for key, value in config.items()}
    return [_remove_seeds(one) for one in config] if isinstance(config, list) else config
