"""Compute layer-wise relevance propagation, which distributes a logit, layer by layer, over the samples of a sound.

The rules are those of `brainmap.features.attribution.lrp_rules`; a composite assigns rules to layers. During the pass,
a batch normalization is merged with the convolution or linear layer before it; the network itself is not changed.

Define how each kind of operation propagates relevance: `RULES`, by the operation's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap.errors import InputError, RunError
from brainmap.features.attribution.lrp_graph import Call, Follow, find_tensors, pull_back
from brainmap.features.attribution.lrp_rules import (
    COMPOSITES as COMPOSITES,
    Composite as Composite,
    Rule,
    make_composite,
)
from brainmap.features.layers.running import evaluating, forward
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors, number_batches
from brainmap.progress import progress

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


def _follow_product(follow: Follow, call: Call) -> Tensor:
    """Pass relevance through a product with, or a division by, a constant."""
    given = call.get_arguments("input", "other")
    left, right = given["input"], given["other"]
    if follow.carries(right) and (follow.carries(left) or call.name == "div"):
        raise follow.make_refusal(f"{call.name} by something that depends on the sound")
    if call.name == "div":
        right = 1 / right
    out: Tensor = (
        _scale_relevance(follow, left, right) if follow.carries(left) else _scale_relevance(follow, right, left)
    )
    return out


def _follow_negative(follow: Follow, call: Call) -> Tensor:
    out: Tensor = _scale_relevance(follow, call.args[0], -1)
    return out


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


@dataclass(frozen=True)
class Relevance:
    """Hold the relevance of every sample for chosen logits.

    For every rule, `maps.sum(over the sample axes) + absorbed + lost` is the logit.

    Attributes
    ----------
    maps : ndarray (n_items, n_chosen, c, t) or (n_items, n_chosen, c, h, w)
        In the network's own precision, usually float32; signed, in units of the logit.
    absorbed : ndarray float64 (n_items, n_chosen)
        Relevance absorbed by the biases.
    lost : ndarray float64 (n_items, n_chosen)
        Relevance absorbed by the rules' epsilon, or without a contribution to go to; negative where alpha-beta
        distributed more than it received.
    logits : ndarray (n_items, n_chosen)
    """

    maps: NDArray[np.floating[Any]] = field(repr=False)
    absorbed: NDArray[np.float64] = field(repr=False)
    lost: NDArray[np.float64] = field(repr=False)
    logits: NDArray[np.floating[Any]] = field(repr=False)


def relevance(
    model: nn.Module,
    sounds: Sounds,
    *,
    targets: NDArray[np.integer[Any]],
    rules: str | Composite | Mapping[str, str | Rule] = "epsilon-plus",
    batch_size: int = 8,
    device: str = "cpu",
) -> Relevance:
    """Propagate chosen logits to the samples of each sound (layer-wise relevance propagation).

    Any module is accepted whose operations have rules: convolutions and linear layers, pooling, batch normalization,
    nonlinearities that map zero to zero (ReLU, ELU, tanh, ...), sums of branches, padding, reshaping, products with
    constants; as modules or as functions. A softmax at the end is taken off.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    targets : ndarray of int (n_items, n_chosen)
        Positions of the logits to explain, for each sound.
    rules : str, Composite, or mapping of layer names or globs to rules
        "epsilon-plus": z+ in convolutions and pooling, epsilon in linear layers, and w2 in the first layer because a
        waveform is signed. Also "epsilon-plus-flat", "epsilon-gamma-box", "epsilon-alpha2-beta1-flat" (these two for
        ReLU networks only), "epsilon" and "z" (both in all layers). A mapping overrides layers of "epsilon-plus".
    batch_size : int
    device : str

    Returns
    -------
    Relevance

    Raises
    ------
    InputError
        An operation without a rule, by name; a rule on inputs for which it is not defined; a name that fits no layer;
        targets that do not fit the sounds and the network.
    RunError
        Relevance is not finite, or its parts do not sum to the logit.

    References
    ----------
    Bach et al. 2015, doi:10.1371/journal.pone.0130140; Montavon et al. 2017 (w2, box),
    doi:10.1016/j.patcog.2016.11.008; Montavon et al. 2019 (gamma, composites), doi:10.1007/978-3-030-28954-6_10.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    >>> x = np.random.default_rng(0).standard_normal((2, 1, 40), np.float32)
    >>> found = relevance(net, x, targets=np.array([[0], [2]]))
    >>> bool(np.allclose(found.maps.sum((2, 3)) + found.absorbed + found.lost, found.logits, atol=1e-5))
    True
    """
    composite = make_composite(rules)
    composite.check_layers([name for name, _ in model.named_modules() if name])
    items, _ = get_labels(sounds)
    wanted = np.asarray(targets)
    if wanted.ndim != 2 or len(wanted) != len(items) or not np.issubdtype(wanted.dtype, np.integer):
        raise InputError(
            f"targets: expected integers ({len(items)}, n_chosen), got {wanted.dtype} of shape {wanted.shape}"
        )
    found: list[tuple[NDArray[Any], ...]] = []
    precision = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if precision in (torch.float16, torch.bfloat16):
        raise InputError(
            f"lrp: expected a network of float32 or float64, since relevance must sum to the logit, got "
            f"{str(precision).removeprefix('torch.')}; convert it with model.float(), or take another method "
            "(saliency, occlusion)"
        )
    with evaluating(model, device), ExitStack() as stack:
        # a caller that goes batch by batch shows its own progress bar
        step = stack.enter_context(progress("relevance", len(items))) if len(items) > batch_size else None
        for done, batch in number_batches(iterate_tensors(sounds, batch_size, device=device)):
            rows = slice(done, done + len(batch))
            found.append(_explain_batch(model, batch.to(precision), composite, wanted[rows], items[rows]))
            if step is not None:
                step.advance(len(batch))
    return Relevance(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _explain_batch(
    model: nn.Module, batch: Tensor, composite: Composite, targets: NDArray[np.integer[Any]], items: tuple[str, ...]
) -> tuple[NDArray[Any], ...]:
    with torch.no_grad():
        plain = forward(model, batch.clone())  # a network may change its input in place
    follow = Follow(composite, RULES, batch)
    with follow.watch(model):
        out = forward(model, follow.input)
    logits = follow.get_logits(out)
    _check_outputs(plain, out, logits, targets)
    chosen = torch.as_tensor(targets, device=logits.device, dtype=torch.long)
    scores = logits.detach().gather(1, chosen)
    maps = batch.new_empty(*targets.shape, *batch.shape[1:])
    spent = np.empty((2, *targets.shape))
    for k in range(targets.shape[1]):
        follow.ledger.clear()
        seed = torch.zeros_like(logits).scatter_(1, chosen[:, k : k + 1], scores[:, k : k + 1])
        found = pull_back(logits, seed, follow.input)
        maps[:, k] = found
        spent[0, :, k], spent[1, :, k] = follow.ledger.absorbed.cpu(), follow.ledger.lost.cpu()
    result = tuple(np.asarray(t.cpu()) for t in (maps, scores))
    _check_sums(result[0], spent, result[1], items)
    return result[0], spent[0], spent[1], result[1]


def _check_outputs(plain: Tensor, out: Tensor, logits: Tensor, targets: NDArray[np.integer[Any]]) -> None:
    if logits.ndim != 2:
        raise InputError(
            f"network: expected logits (n_items, n_classes), got {tuple(logits.shape)}; let it return logits"
        )
    if targets.size and not 0 <= targets.min() <= targets.max() < logits.shape[1]:
        raise InputError(
            f"targets: expected classes from 0 to {logits.shape[1] - 1}, got {targets.min()} to {targets.max()}"
        )
    if not bool(torch.isfinite(plain).all()):
        raise RunError("lrp: a logit is not finite; look at the weights of the network")
    room = 1e-4 * float(plain.abs().max()) + 1e-6
    if not torch.allclose(plain, out.detach(), rtol=1e-3, atol=room):
        raise InputError(
            "lrp: followed operation by operation the network gives other logits than by itself (random, "
            "or values changed in place through a view?); LRP cannot explain it"
        )


def _check_sums(maps: NDArray[Any], spent: NDArray[np.float64], scores: NDArray[Any], items: tuple[str, ...]) -> None:
    flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    if not np.isfinite(flat).all() or not np.isfinite(spent).all():
        item = np.argwhere(~(np.isfinite(flat).all(2) & np.isfinite(spent).all(0)))[0][0]
        raise RunError(
            f"lrp: the relevance of item {items[item]!r} is not finite; take a larger epsilon or other rules"
        )
    apart = np.abs(flat.sum(2) + spent.sum(0) - scores)
    room = 1e-3 * (np.abs(flat).sum(2) + np.abs(spent).sum(0) + np.abs(scores)) + 1e-6
    if (apart > room).any():
        item, k = np.argwhere(apart > room)[0]
        raise RunError(
            f"lrp: the relevance of item {items[item]!r} and what biases took miss its logit by "
            f"{apart[item, k]:.3g}; sounds seem to meet inside the network"
        )
