"""Compute layer-wise relevance propagation, which distributes a logit, layer by layer, over the samples of a sound.

The rules are those of `brainmap.features.attribution.lrp_rules`; a composite assigns rules to layers. During the pass,
a batch normalization is merged with the convolution or linear layer before it; the network itself is not changed.

Define how each kind of operation propagates relevance: `RULES`, by the operation's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError, RunError
from brainmap.features.attribution.lrp_graph import Follow, pull_back
from brainmap.features.attribution.lrp_operations import RULES
from brainmap.features.attribution.lrp_rules import (
    COMPOSITES as COMPOSITES,
    Composite as Composite,
    Rule,
    make_composite,
)
from brainmap.features.attribution.task import check_logits
from brainmap.features.layers.running import evaluating, forward
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors, number_batches
from brainmap.progress import progress


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
    check_logits(logits)
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
