"""Turn the layers of a Keras network into modules of torch that compute the same.

Convolutions, normalizations, poolings and dense layers become those of torch itself, so that everything that knows
torch's modules works on them. A layer that has no counterpart runs in Keras, with its weights as parameters of torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from brainmap.features.networks.keras_modules import (
    ChannelAxis,
    Concatenate,
    KerasLayer,
    KerasOperation,
    Layout,
    Merge,
    MoveLast,
    MoveSecond,
    SamePadding,
)

Parts: TypeAlias = list[tuple[str, nn.Module]]
"""Modules that follow one another, each with what comes after the layer's name; "" is the layer itself."""


def convert_layer(layer: Any, layout: Layout, n_axes: int | None) -> Parts:
    """Turn a layer of Keras, or another operation, into modules of torch that follow one another.

    Parameters
    ----------
    layer : keras.Operation
    layout : Layout
    n_axes : int, optional
        Number of axes of its input; None where it has several inputs of different kinds.

    Returns
    -------
    list of (str, torch.nn.Module)
        The module named "" stands for the layer; its activation and what moves axes have names of their own.
    """
    kind = type(layer).__name__
    maker = _MAKERS.get(kind) if type(layer).__module__.startswith("keras.src.layers.") else None
    made = maker(layer, layout, n_axes) if maker is not None and n_axes is not None else None
    if made is not None:
        return made
    base = KerasLayer if getattr(layer, "variables", ()) else KerasOperation
    return [("", type(kind, (base,), {})(layer, layout))]


def _copy_value(variable: Any) -> Tensor:
    value: Tensor = variable.value if hasattr(variable, "value") else variable
    return value.detach().clone().cpu()


def _set_weights(module: nn.Module, weight: Any, bias: Any) -> nn.Module:
    """Copy weights into a module; those that Keras does not train are ones and zeros that stay."""
    for name, value in (("weight", weight), ("bias", bias)):
        parameter = getattr(module, name, None)
        if value is not None:
            setattr(module, name, nn.Parameter(value.contiguous()))
        elif parameter is not None:
            parameter.requires_grad_(False)
    return module


_ELEMENTWISE: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "elu": nn.ELU, "selu": nn.SELU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "silu": nn.SiLU,
    "softplus": nn.Softplus, "softsign": nn.Softsign, "gelu": nn.GELU, "relu6": nn.ReLU6, "mish": nn.Mish,
    "hard_sigmoid": nn.Hardsigmoid, "log_sigmoid": nn.LogSigmoid,
    "leaky_relu": functools.partial(nn.LeakyReLU, 0.2),
}  # fmt: skip


def _activate(function: Any, layout: Layout, *, axis: int, n_axes: int) -> Parts:
    """Turn an activation into a module; `axis` is that of a softmax."""
    name = getattr(function, "__name__", "activation")
    if function is None or name == "linear":
        return []
    if hasattr(function, "get_config") and not isinstance(function, type):  # a layer as the activation of another
        return [(f"_{function.name}{ending}", module) for ending, module in convert_layer(function, layout, n_axes)]
    if name in _ELEMENTWISE:
        return [(f"_{name}", _ELEMENTWISE[name]())]
    if name in ("softmax", "log_softmax"):
        return [(f"_{name}", nn.Softmax(axis) if name == "softmax" else nn.LogSoftmax(axis))]
    return [(f"_{name}", KerasOperation(function, layout))]


def _make_convolution(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    if not layout.fits(layer) or layer.quantization_mode or layer.rank > 2:
        return None
    kernel = _copy_value(layer.kernel)  # (*window, channels / groups, units)
    weight = kernel.permute(layer.rank + 1, layer.rank, *range(layer.rank))
    bias = _copy_value(layer.bias) if layer.use_bias else None
    return [
        *_convolve(layer, weight, bias, groups=layer.groups, ending=""),
        *_activate(layer.activation, layout, axis=layout.find_axis(-1, n_axes), n_axes=n_axes),
    ]


def _convolve(layer: Any, weight: Tensor, bias: Tensor | None, *, groups: int, ending: str) -> Parts:
    """Make a convolution of the settings of a layer, and the padding before it."""
    windows = [(k, s, d) for k, s, d in zip(layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)]
    reach = [d * (k - 1) for k, _, d in windows]
    before: Parts = []
    even = layer.padding == "same" and all(s == 1 for _, s, _ in windows) and all(r % 2 == 0 for r in reach)
    if layer.padding == "causal":
        before = [(f"{ending}_pad", nn.ConstantPad1d((reach[0], 0), 0.0))]
    elif layer.padding == "same" and not even:
        kernel, stride, dilation = ([one[k] for one in windows] for k in range(3))
        before = [(f"{ending}_pad", SamePadding(kernel, stride, dilation))]
    kinds: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d}
    made = kinds[layer.rank](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(k for k, _, _ in windows),
        stride=tuple(s for _, s, _ in windows),
        dilation=tuple(d for _, _, d in windows),
        padding=tuple(r // 2 for r in reach) if even else 0,
        groups=groups,
        bias=bias is not None,
    )
    return [*before, (ending, _set_weights(made, weight, bias))]


def _make_depthwise(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    """Make a depthwise convolution, or a separable one, whose pointwise half is the layer itself."""
    if not layout.fits(layer) or layer.rank > 2 or getattr(layer, "quantization_mode", None):
        return None
    separable = hasattr(layer, "pointwise_kernel")
    kernel = _copy_value(layer.depthwise_kernel if separable else layer.kernel)  # (*window, channels, multiplier)
    weight = kernel.permute(*range(layer.rank, layer.rank + 2), *range(layer.rank)).flatten(0, 1)[:, None]
    bias = _copy_value(layer.bias) if layer.use_bias else None
    ending = "_depthwise" if separable else ""
    made = _convolve(layer, weight, None if separable else bias, groups=kernel.shape[-2], ending=ending)
    if separable:
        point = _copy_value(layer.pointwise_kernel)
        point = point.permute(layer.rank + 1, layer.rank, *range(layer.rank))
        one = {1: nn.Conv1d, 2: nn.Conv2d}[layer.rank](point.shape[1], point.shape[0], 1, bias=bias is not None)
        made.append(("", _set_weights(one, point, bias)))
    return [*made, *_activate(layer.activation, layout, axis=layout.find_axis(-1, n_axes), n_axes=n_axes)]


def _make_dense(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    if layer.quantization_mode:
        return None
    kernel = _copy_value(layer.kernel)
    linear = nn.Linear(kernel.shape[0], kernel.shape[1], bias=layer.use_bias)
    _set_weights(linear, kernel.T, _copy_value(layer.bias) if layer.use_bias else None)
    acting = _activate(layer.activation, Layout(channels_last=False), axis=-1, n_axes=n_axes)
    return _work_on_last([("", linear), *acting], layout, n_axes)


def _work_on_last(parts: Parts, layout: Layout, n_axes: int) -> Parts:
    """Let modules work on the axis of channels where they want it last."""
    return [("_in", MoveLast()), *parts, ("_out", MoveSecond())] if layout.moves(n_axes) else parts


def _make_batch_norm(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    if n_axes not in (2, 3, 4) or layout.find_axis(axis, n_axes) != 1:
        return None
    mean, variance = _copy_value(layer.moving_mean), _copy_value(layer.moving_variance)
    made = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[n_axes](
        len(mean), eps=layer.epsilon, momentum=1 - layer.momentum
    )
    made.running_mean, made.running_var = mean, variance
    gamma = _copy_value(layer.gamma) if layer.scale else None
    return [("", _set_weights(made, gamma, _copy_value(layer.beta) if layer.center else None))]


def _make_layer_norm(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    if [axis % n_axes for axis in axes] != [n_axes - 1] or getattr(layer, "rms_scaling", False):
        return None
    gamma = _copy_value(layer.gamma) if layer.scale else None
    beta = _copy_value(layer.beta) if layer.center else None
    size = next((len(one) for one in (gamma, beta) if one is not None), 0)
    if not size:
        return None
    return _work_on_last([("", _set_weights(nn.LayerNorm(size, eps=layer.epsilon), gamma, beta))], layout, n_axes)


def _make_pooling(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    n, largest = n_axes - 2, type(layer).__name__.startswith("Max")
    if not layout.fits(layer) or n > 2 or (layer.padding == "same" and not largest):
        return None
    sizes, strides = ((one,) * n if isinstance(one, int) else tuple(one) for one in (layer.pool_size, layer.strides))
    kinds: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d} if largest else {1: nn.AvgPool1d, 2: nn.AvgPool2d}
    pad: Parts = [("_pad", SamePadding(sizes, strides, (1,) * n, -torch.inf))] if layer.padding == "same" else []
    return [*pad, ("", kinds[n](sizes, strides))]


def _make_global_pooling(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    n, largest = n_axes - 2, "Max" in type(layer).__name__
    if not layout.fits(layer) or n > 2:
        return None
    kinds: dict[int, Any] = (
        {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d}
        if largest
        else {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}
    )
    return [("", kinds[n](1)), *([] if layer.keepdims else [("_flat", nn.Flatten())])]


def _make_flatten(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    if layer.data_format == "channels_first" and layout.moves(n_axes):
        return None
    if layer.data_format == "channels_last" and not layout.channels_last and n_axes > 2:
        return [("", nn.Flatten())]
    return [*([("_in", MoveLast())] if layout.moves(n_axes) else []), ("", nn.Flatten())]


def _make_reshape(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    """Make a reshape that adds or drops one channel, which keeps the axis of time known."""
    shape = tuple(layer.target_shape)
    if layout.channels_last and n_axes == 2 and len(shape) == 2 and shape[1] == 1:
        return [("", ChannelAxis())]
    return None


def _make_relu(layer: Any, _: Layout, __: int) -> Parts | None:
    plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
    return [("", nn.ReLU())] if plain else None


def _make_softmax(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    return [("", nn.Softmax(layout.find_axis(layer.axis, n_axes)))] if isinstance(layer.axis, int) else None


def _make_activation(layer: Any, layout: Layout, n_axes: int) -> Parts:
    found = _activate(layer.activation, layout, axis=layout.find_axis(-1, n_axes), n_axes=n_axes)
    return [("", found[0][1]), *found[1:]] if found else [("", nn.Identity())]


def _make_padding(layer: Any, layout: Layout, n_axes: int) -> Parts | None:
    if not layout.fits(layer) or n_axes > 4:
        return None
    if n_axes == 3:
        return [("", nn.ConstantPad1d(tuple(layer.padding), 0.0))]
    return [("", nn.ConstantPad2d((*layer.padding[1], *layer.padding[0]), 0.0))]


def _make_concatenation(layer: Any, layout: Layout, n_axes: int) -> Parts:
    return [("", Concatenate(layout.find_axis(layer.axis, n_axes)))]


def _always(make: Callable[[Any], nn.Module]) -> Callable[[Any, Layout, int], Parts]:
    return lambda layer, _, __: [("", make(layer))]


_MAKERS: dict[str, Callable[[Any, Layout, int], Parts | None]] = {
    "InputLayer": _always(lambda _: nn.Identity()),
    "Conv1D": _make_convolution,
    "Conv2D": _make_convolution,
    "DepthwiseConv1D": _make_depthwise,
    "DepthwiseConv2D": _make_depthwise,
    "SeparableConv1D": _make_depthwise,
    "SeparableConv2D": _make_depthwise,
    "Dense": _make_dense,
    "BatchNormalization": _make_batch_norm,
    "LayerNormalization": _make_layer_norm,
    "MaxPooling1D": _make_pooling,
    "MaxPooling2D": _make_pooling,
    "AveragePooling1D": _make_pooling,
    "AveragePooling2D": _make_pooling,
    "GlobalAveragePooling1D": _make_global_pooling,
    "GlobalAveragePooling2D": _make_global_pooling,
    "GlobalMaxPooling1D": _make_global_pooling,
    "GlobalMaxPooling2D": _make_global_pooling,
    "Flatten": _make_flatten,
    "Reshape": _make_reshape,
    "ReLU": _make_relu,
    "LeakyReLU": _always(lambda layer: nn.LeakyReLU(layer.negative_slope)),
    "ELU": _always(lambda layer: nn.ELU(layer.alpha)),
    "Softmax": _make_softmax,
    "Activation": _make_activation,
    "Dropout": _always(lambda layer: nn.Dropout(layer.rate)),
    **dict.fromkeys(
        ("SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
        _always(lambda _: nn.Identity()),
    ),
    "ZeroPadding1D": _make_padding,
    "ZeroPadding2D": _make_padding,
    "Add": _always(lambda _: Merge(torch.add)),
    "Subtract": _always(lambda _: Merge(torch.sub)),
    "Multiply": _always(lambda _: Merge(torch.mul)),
    "Maximum": _always(lambda _: Merge(torch.maximum)),
    "Minimum": _always(lambda _: Merge(torch.minimum)),
    "Average": _always(lambda _: Merge(torch.add, mean=True)),
    "Concatenate": _make_concatenation,
}
