"""Define how each kind of operation propagates relevance: `RULES`, by the operation's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from brainmap.features.attribution.lrp_graph import Call, Follow, find_tensors
from brainmap.features.attribution.lrp_rules import (
    COMPOSITES as COMPOSITES,
    Composite as Composite,
    Rule,
)

_MEANS = {  # pooling by maximum, and the mean over the same windows
    "max_pool1d": functional.avg_pool1d,
    "max_pool2d": functional.avg_pool2d,
    "adaptive_max_pool1d": functional.adaptive_avg_pool1d,
    "adaptive_max_pool2d": functional.adaptive_avg_pool2d,
    "amax": torch.mean,
}


def _keeps_zero(follow: Follow, call: Call) -> Tensor:
    """Pass relevance through a nonlinearity, unless it maps zero to another value."""
    heard: Tensor = call.get_arguments("input")["input"]
    with torch.no_grad():
        # on copies, since the operation may work in place
        value, at_zero = call.apply_to(heard.detach().clone()), call.apply_to(torch.zeros_like(heard[:1]))
    if bool(at_zero.any()):
        raise follow.make_refusal(f"{call.name} that makes {float(at_zero.max()):.3g} of zero")
    return follow.hand_down(heard, value, lambda relevance: relevance)


def _follow_weighted(follow: Follow, call: Call) -> Tensor:
    given = call.get_arguments("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    heard, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
    if follow.carries(weight) or follow.carries(bias):
        raise follow.make_refusal(f"{call.name} with weights that depend on the sound")
    kind = "dense" if call.name == "linear" else "convolution"
    if bias is not None:
        bias = bias.reshape(-1, *(1,) * (weight.ndim - 2))
    rule = follow.composite.rule(follow.layer, kind, first=follow.is_raw(heard))
    return follow.apply_affine(
        rule, heard, weight, bias, joins=weight.ndim == heard.ndim, apply=lambda a, w: call.func(a, w, None, **given)
    )


def _follow_matrix(follow: Follow, call: Call) -> Tensor:
    heard, weight = list(find_tensors((call.args, call.kwargs)))
    if follow.carries(weight) or not follow.carries(heard):
        raise follow.make_refusal(f"{call.name} of two tensors that depend on the sound")
    rule = follow.composite.rule(follow.layer, "dense", first=follow.is_raw(heard))
    return follow.apply_affine(rule, heard, weight, apply=call.func)


def _follow_mean(follow: Follow, call: Call) -> Tensor:
    heard: Tensor = call.get_arguments("input")["input"]
    rule = follow.composite.rule(follow.layer, "pooling")
    return follow.apply_affine(rule, heard, heard.new_ones(()), apply=lambda a, w: call.apply_to(a) * w)


def _follow_maximum(follow: Follow, call: Call) -> Any:
    rule = follow.composite.rule(follow.layer, "maximum")
    if len(list(find_tensors((call.args, call.kwargs)))) > 1:
        raise follow.make_refusal(f"{call.name} of two tensors")
    if rule.name == "winner":
        return follow.know(call.func(*call.args, **call.kwargs))
    heard: Tensor = call.get_arguments("input")["input"]
    with torch.no_grad():
        value = call.apply_to(heard.detach())
    if call.name in ("max_pool1d", "max_pool2d"):
        order = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        given = {"stride": None, "padding": 0, "ceil_mode": False} | call.get_arguments(*order)
        spread = given.get("dilation", 1) not in (1, (1,), (1, 1), [1], [1, 1])
        rest = {k: given[k] for k in ("kernel_size", "stride", "padding", "ceil_mode")}
        over = Call(_MEANS[call.name], call.name, (), rest)
    else:
        spread, over = False, Call(_MEANS.get(call.name), call.name, call.args, call.kwargs)
    if spread or not isinstance(value, Tensor) or over.func is None:
        raise follow.make_refusal(f"{call.name} with dilation or positions and the rule {rule.name!r}")
    return follow.apply_affine(rule, heard, heard.new_ones(()), value=value, apply=lambda a, w: over.apply_to(a) * w)


def _follow_batch_norm(follow: Follow, call: Call) -> Tensor:
    """Merge a batch normalization with the convolution or linear layer before it, or treat it as scale and bias."""
    given = call.get_arguments("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    heard, mean, variance = given["input"], given["running_mean"], given["running_var"]
    if given.get("training") or mean is None:
        raise follow.make_refusal("batch_norm without running statistics, which lets sounds hear each other,")
    scale = (variance + given.get("eps", 1e-5)).rsqrt()
    scale = scale if given.get("weight") is None else scale * given["weight"]
    shift = -mean * scale if given.get("bias") is None else given["bias"] - mean * scale
    along = (-1, *(1,) * (heard.ndim - 2))
    before = follow.find_affine(heard)
    if before is None:
        return follow.apply_affine(
            _choose_scale_rule(follow),
            heard,
            scale.reshape(along),
            shift.reshape(along),
            apply=torch.mul,
            raw=follow.is_raw(heard),
        )
    weight = before.weight * scale.reshape(-1, *(1,) * (before.weight.ndim - 1))
    bias = shift.reshape(along)
    if before.bias is not None:
        bias = bias + before.bias * scale.reshape(along)
    return follow.apply_affine(before.rule, before.source, weight, bias, apply=before.apply)


def _follow_sum(follow: Follow, call: Call) -> Tensor:
    """Distribute the relevance of `add` and `sub` by the contributions of the branches; a constant is a bias."""
    given = call.get_arguments("input", "other")
    left, right, factor = given["input"], given["other"], given.get("alpha", 1)
    if call.name == "rsub":
        left, right = right, left
    right = _scale_relevance(follow, right, factor if call.name == "add" else -factor)
    if follow.carries(left) and follow.carries(right):
        stacked = torch.stack(_broadcast_both(left, right))
        rule = follow.composite.rule(follow.layer, "pooling")
        return follow.apply_affine(rule, stacked, stacked.new_ones(()), apply=lambda a, w: a.sum(0) * w)
    heard, constant = (left, right) if follow.carries(left) else (right, left)
    raw = follow.is_raw(heard)
    heard, bias = _broadcast_both(heard, constant)
    return follow.apply_affine(_choose_scale_rule(follow), heard, heard.new_ones(()), bias, apply=torch.mul, raw=raw)


def _choose_scale_rule(follow: Follow) -> Rule:
    """Return the rule of a scale and a bias, whose input is often signed: epsilon, or z where the composite uses it."""
    rule = follow.composite.rule(follow.layer, "pooling")
    return rule if rule.name in ("epsilon", "z") else Rule(name="epsilon")


def _broadcast_both(left: Tensor, right: Any) -> tuple[Tensor, Tensor]:
    """Broadcast both to their common shape."""
    other = torch.as_tensor(right, dtype=left.dtype, device=left.device)
    shape = np.broadcast_shapes(left.shape, other.shape)
    return left.expand(shape), other.expand(shape)


def _scale_relevance(follow: Follow, heard: Any, factor: Any) -> Any:
    if not follow.carries(heard):
        return heard * factor
    raw = follow.is_raw(heard)
    heard, scale = _broadcast_both(heard, factor)

    def back(relevance: Tensor) -> Tensor:
        dropped = scale == 0
        follow.ledger.lost += follow.ledger.sum_by_item(relevance * dropped)
        return relevance * ~dropped

    return follow.hand_down(heard, heard.detach() * scale, back, raw=raw)


def _follow_product(follow: Follow, call: Call) -> Any:
    """Pass relevance through a product with, or a division by, a constant."""
    given = call.get_arguments("input", "other")
    left, right = given["input"], given["other"]
    if follow.carries(right) and (follow.carries(left) or call.name == "div"):
        raise follow.make_refusal(f"{call.name} by something that depends on the sound")
    if call.name == "div":
        right = 1 / right
    return _scale_relevance(follow, left, right) if follow.carries(left) else _scale_relevance(follow, right, left)


def _follow_negative(follow: Follow, call: Call) -> Any:
    return _scale_relevance(follow, call.args[0], -1)


def _follow_pad(follow: Follow, call: Call) -> Tensor:
    """Pad, and count relevance of added samples as lost; with mirror padding these are samples themselves."""
    given = call.get_arguments("input", "pad", "mode")
    heard: Tensor = given["input"]
    padded: Tensor = call.apply_to(heard)
    inside = torch.ones_like(heard)
    kept = functional.pad(inside, given["pad"]) if given.get("mode", "constant") == "constant" else 1.0

    def back(relevance: Tensor) -> Tensor:
        follow.ledger.lost += follow.ledger.sum_by_item(relevance * (1 - kept))
        return relevance

    return follow.hand_down(padded, padded, back, raw=follow.is_raw(heard))


RULES: Mapping[str, Callable[[Follow, Call], Any]] = MappingProxyType({
    **dict.fromkeys((
        "relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish", "tanh", "softsign",
        "hardtanh", "hardswish", "tanhshrink", "softshrink", "hardshrink", "clamp", "clip", "clamp_min", "threshold",
    ), _keeps_zero),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "linear"), _follow_weighted),
    **dict.fromkeys(("matmul", "mm"), _follow_matrix),
    **dict.fromkeys((
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean", "sum",
    ), _follow_mean),
    **dict.fromkeys((
        "max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "max",
        "max_pool1d_with_indices", "max_pool2d_with_indices",
    ), _follow_maximum),
    "batch_norm": _follow_batch_norm,
    **dict.fromkeys(("add", "sub", "rsub"), _follow_sum),
    **dict.fromkeys(("mul", "div"), _follow_product),
    "neg": _follow_negative,
    "pad": _follow_pad,
})  # fmt: skip
