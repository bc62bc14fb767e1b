"""Compute class activation maps, which show where in a sound the evidence for each class lies.

The maps of all classes take one forward pass. With activations A (channel k, position p) of a convolution and gradients
G = d logit_c / dA:

* `cam`: sum_k w_ck A_kp, where w is the linear layer after a global pooling (Zhou 2016); it needs no gradient.
* `grad-cam`: sum_k a_k A_kp, a_k = mean_p G_kp (Selvaraju 2017).
* `grad-cam++`: a_k = sum_p q_kp max(G_kp, 0), q = G^2 / (2 G^2 + G^3 sum_p A_kp) (Chattopadhay 2018). Its factor
  exp(logit), one number for a whole map, is left out because it overflows.
* `xgrad-cam`: a_k = sum_p G_kp A_kp / sum_p A_kp (Fu 2020).
* `layer-cam`: sum_k max(G_kp, 0) A_kp (Jiang 2021).
* `hires-cam`: sum_k G_kp A_kp (Draelos 2020); with a linear head the map sums to the logit minus the bias.
* `score-cam`: a_k = softmax over k of the logit for the sound masked by A_k (Wang 2020); it takes as many forward
  passes as there are channels, and no gradient.

Maps are signed: negative values are evidence against the class. Where a paper shows only the positive part, clip the
maps at zero.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from threading import Event
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_choice, list_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError, RunError
from brainmap.features.attribution.results import ClassActivationMaps
from brainmap.features.attribution.task import Classes, choose_classes
from brainmap.features.attribution.upsampling import can_upsample, upsample_maps
from brainmap.features.layers.ear import tap
from brainmap.features.layers.inputs import find_longest_lengths, fit_sounds, keep_real
from brainmap.features.layers.layer import FREQUENCY, OUTPUT, TIME, TOKEN, Layer
from brainmap.features.layers.listing import list_layers, say_taken_off
from brainmap.features.layers.running import (
    count_workers,
    evaluating,
    forward,
    run_side_by_side,
)
from brainmap.features.layers.selection import choose
from brainmap.features.layers.shortcuts import Shortcut, find_shortcuts, run_by_shortcuts
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors, number_batches
from brainmap.features.sounds.inputs import describe_input
from brainmap.progress import log, progress
from brainmap.types import CamMethod

_TINY = 1e-12
_TOGETHER = 1 << 20  # values of gradients that are held at once


def class_activation_maps(
    model: nn.Module,
    sounds: Sounds,
    *,
    method: CamMethod = "grad-cam",
    layer: str = "last-conv",
    classes: str | int | Sequence[str | int] = "all",
    class_names: Sequence[str] | None = None,
    batch_size: int = 8,
    upsample: bool | None = True,
    device: str = "cpu",
    threads: int | None = None,
) -> ClassActivationMaps:
    """Compute where in each sound the evidence for each class lies.

    The network runs once for all classes, in eval mode; only the part after the layer is differentiated. A softmax at
    the end is taken off, so that maps explain logits.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    method : {"cam", "grad-cam", "grad-cam++", "xgrad-cam", "layer-cam", "hires-cam", "score-cam"}
        The docstring of the module gives the formula of each method.
    layer : str
        A convolution by its name, "last-conv", or place or depth among the convolutions ("depth:0.5"), with its
        activations after the nonlinearity; or another module by its name. Where a pooling lies between the last
        convolution and the global pooling, CAM is exact at the former.
    classes : "all", a name or position, or a sequence of names and positions
    class_names : sequence of str, optional
        Class names in the order of the network's outputs; by default `model.class_names`, or else positions.
    batch_size : int
        Small batches stay in the cache of a CPU, where 8 was 1.6 times faster than 32.
    upsample : bool or None
        Interpolate to the samples of the sound, linearly between the centers of the frames' receptive fields. None does
        so where the positions of the layer can be placed in the input, and otherwise says that maps stay over them, as
        for a network on waveforms with a spectrogram inside.
    device : str
    threads : int, optional
        Number of batches that run side by side, by default the number of cores. The results do not depend on it, since
        each of several batches runs on one torch thread. On a GPU batches run in sequence.

    Returns
    -------
    ClassActivationMaps

    Raises
    ------
    InputError
        An unknown layer, class or method; CAM without a linear layer after a global pooling; a network whose outputs
        are probabilities.
    RunError
        A map or logit is not finite, or the layer has no influence on the logits.

    Warns
    -----
    BrainmapWarning
        Maps are zero everywhere.

    References
    ----------
    Zhou et al. 2016, doi:10.1109/CVPR.2016.319; Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74;
    Chattopadhay et al. 2018, doi:10.1109/WACV.2018.00097; Fu et al. 2020, doi:10.48550/arXiv.2008.02312;
    Jiang et al. 2021, doi:10.1109/TIP.2021.3089943; Draelos & Carin 2020, doi:10.48550/arXiv.2011.08891;
    Wang et al. 2020, doi:10.1109/CVPRW50498.2020.00020.

    Examples
    --------
    >>> head = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), *head)
    >>> x = np.random.default_rng(0).standard_normal((2, 1, 40), np.float32)
    >>> class_activation_maps(net, x, method="cam").maps.shape
    (2, 3, 40)
    """
    check_choice(method, get_args(CamMethod), "method")
    sounds = fit_sounds(model, sounds)
    items, conditions = get_labels(sounds)
    with evaluating(model, device), torch.no_grad(), ExitStack() as stack:
        target, last = _find_layers(model, sounds, layer)
        say_taken_off(last)
        names = class_names or getattr(model, "class_names", None)
        work = _Mapping(sounds, method, target, upsample, classes, names)
        step = stack.enter_context(progress("class activation maps", len(items)))
        batches = number_batches(iterate_tensors(sounds, batch_size, device=device))
        if len(items) > batch_size:
            work.find_shortcuts(model, next(iter(iterate_tensors(sounds, 1, device=device))))
            most = -(-len(items) // max(batch_size, 1))  # batches, which refuse a size of 0 themselves
            count = min(count_workers(device, threads, "class activation maps"), most)
            done = run_side_by_side(
                work.map_batch, model, batches, modules=[model], threads=count, advance=step.advance
            )
            deque(done, maxlen=0)  # maps lie where they belong
        else:  # one batch has all threads of torch
            work.map_batch(model, next(batches), step.advance)
    maps = work.maps
    _warn_of_zeros(work.zero, items, work.chosen.names)
    positions = _name_map_axes(target, sounds, maps.ndim - 2, whole=work.whole)
    if not work.whole and TIME in positions[:-1]:  # time comes last, as in every picture
        at = positions.index(TIME)
        maps, positions = np.moveaxis(maps, 2 + at, -1), (*positions[:at], *positions[at + 1 :], TIME)
    return ClassActivationMaps(maps, items, conditions, work.chosen.names, method, target.name, work.scores, positions)


class _Mapping:
    """Map batches of sounds, of which the first one tells what the maps of all look like; the others wait for it.

    Attributes
    ----------
    chosen : Classes
    whole : bool
        Whether maps lie over the samples of the sounds.
    maps : ndarray float32 (n_items, n_classes, ...)
    scores : ndarray float32 (n_items, n_classes)
    zero : ndarray of bool (n_items, n_classes)
        Maps that are zero everywhere.
    """

    def __init__(
        self,
        sounds: Sounds,
        method: str,
        target: Layer,
        upsample: bool | None,
        classes: str | int | Sequence[str | int],
        class_names: Sequence[str] | None,
    ) -> None:
        self.sounds, self.items, self.method, self.target = sounds, get_labels(sounds)[0], method, target
        self.asked, self.classes, self.class_names = upsample, classes, class_names
        self.whole, self.chosen = bool(upsample), Classes((), [])
        self.maps = self.scores = np.empty(0, np.float32)
        self.zero = np.empty(0, bool)
        self.fast: Mapping[int, Shortcut] = {}
        self._begun, self._failed = Event(), False

    def find_shortcuts(self, model: nn.Module, example: Tensor) -> None:
        """Find faster operations for what runs before the layer, whose results nobody hears."""
        if self.method in _BY_GRADIENT:
            with torch.no_grad(), tap(model, [self.target.name, OUTPUT], gradient=True, cut=True):
                self.fast = find_shortcuts(lambda: forward(model, example.clone()))

    def map_batch(self, model: nn.Module, item: tuple[int, Tensor], advance: Callable[[int], None]) -> None:
        """Map the sounds of a batch into their rows, by a network of this thread's own."""
        try:
            self._map_rows(model, item)
        finally:
            if not item[0]:  # an error of the first batch is that of all
                self._failed = not self._begun.is_set()
                self._begun.set()
        advance(len(item[1]))

    def _map_rows(self, model: nn.Module, item: tuple[int, Tensor]) -> None:
        start, batch = item
        rows, target = slice(start, start + len(batch)), self.target
        by_gradient = self.method in _BY_GRADIENT
        with torch.no_grad(), tap(model, [target.name, OUTPUT], gradient=by_gradient, cut=by_gradient) as heard:

            def logits_of(given: Tensor) -> Tensor:
                # a network may change its input in place
                run_by_shortcuts(lambda: forward(model, given.clone()), self.fast)
                return heard[OUTPUT]

            logits = logits_of(batch)
            activation = keep_real(model, target.arranged(heard[target.name], len(batch)), batch.shape[2:])
            if not start:
                self._begin(batch, logits, activation)
                self._begun.set()
            self._begun.wait()
            if self._failed:
                raise CancelledError
            chosen = self.chosen
            self.scores[rows] = logits.detach()[:, chosen.columns].cpu()
            _check_finite_maps(self.scores[rows], self.items[rows], chosen.names, "logit")
            if self.method == "cam":
                found = _compute_cam(model, activation, logits, chosen)
            elif self.method == "score-cam":
                found = _compute_score_cam(logits_of, batch, activation, target, chosen)
            else:
                tensor = heard[target.name]
                found = _map_by_gradient(model, self.method, tensor, logits, chosen, target, batch.shape[2:])
        _check_finite_maps(found, self.items[rows], chosen.names, f"{self.method} map at {target.name}")
        self.zero[rows] = (found == 0).reshape(*found.shape[:2], -1).all(axis=2)  # the upsampled maps are large
        if not self.whole and found.shape[2:] != self.maps.shape[2:]:
            raise InputError(
                "class activation maps: the sounds have several lengths, and so have their maps over frames; let "
                "all sounds be cut to one length (seconds), or maps be upsampled where the layer's positions are times"
            )
        place = self.maps[rows]
        if not self.whole:
            place[:] = found
        elif place.shape[2:] == batch.shape[2:]:
            upsample_maps(found, batch.shape[2:], target, out=place)
        else:  # after the end of a shorter sound maps are zero
            place[:] = 0
            place[..., : batch.shape[-1]] = upsample_maps(found, batch.shape[2:], target)

    def _begin(self, batch: Tensor, logits: Tensor, activation: Tensor) -> None:
        """Choose the classes, and make room for all maps."""
        self.chosen = choose_classes(logits, self.classes, self.class_names)
        if self.asked is None:
            self.whole = can_upsample(self.target, batch.ndim - 2)
            if not self.whole:
                _say_positions(self.target, activation)
        shape = find_longest_lengths(self.sounds, batch) if self.whole else tuple(activation.shape[2:])
        self.zero = np.zeros((len(self.items), len(self.chosen.names)), bool)
        self.scores = np.empty(self.zero.shape, np.float32)
        # numpy asks for huge pages, for which the system takes ten times as long where its memory is in pieces
        self.maps = torch.empty(*self.zero.shape, *shape, dtype=torch.float32).numpy()


def _say_positions(target: Layer, activation: Tensor) -> None:
    lengths = " x ".join(map(str, activation.shape[2:]))
    log.warning(
        "note: maps stay over the %s positions of layer %r (%s), which cannot be placed on the samples of the sounds",
        lengths,
        target.name,
        " x ".join(target.positions),
    )


def _name_map_axes(target: Layer, sounds: Sounds, n_axes: int, *, whole: bool) -> tuple[str, ...]:
    """Name the axes of maps: those of the input, or of the layer, whose positions may have been put in one row."""
    if not whole:
        return target.positions if len(target.positions) == n_axes else (TOKEN,) * n_axes
    axes = describe_input(sounds)
    names = (TIME, FREQUENCY) if axes is not None and axes.time_axis == -2 else (FREQUENCY, TIME)
    return names[2 - n_axes :] if n_axes < 3 else ()


def map_layer(model: nn.Module, sounds: Sounds, layer: str = "last-conv") -> Layer:
    """Find the one convolution or module that a name, kind, place or depth selects.

    Raises
    ------
    InputError
        There is no such layer, there are several, or it has no positions.
    """
    return _find_layers(model, sounds, layer)[0]


def _find_layers(model: nn.Module, sounds: Sounds, layer: str) -> tuple[Layer, Layer]:
    """Find the layer that is mapped, as `map_layer` does, and the output of the network."""
    named = layer in dict(model.named_modules())
    every = list_layers(model, sounds, also=[layer] if named else [])
    listed = [found for found in every if len(found.shape) > 1]
    names = [found.name for found in listed]
    if not names:
        raise InputError("class activation maps: the network has no convolution and so no map")
    if layer not in names and (named or layer == OUTPUT):
        hint = suggest_word(layer, names)
        raise InputError(f"layer: {layer!r} is no convolution of this network{hint}; it has {list_some(names, 24)}")
    found = choose(layer, listed, {})
    if len(found) > 1:
        raise InputError(
            f"layer: expected one layer for class activation maps, got {layer!r}, which means {list_some(found)}; "
            "name one"
        )
    return listed[names.index(found[0])], every[-1]


def _compute_cam(model: nn.Module, activation: Tensor, logits: Tensor, chosen: Classes) -> NDArray[np.float32]:
    """Weight the channels by a linear head: sum_k w_ck A_kp, for all classes at once."""
    weights = _find_head_weights(model, activation, logits)[chosen.columns]
    return np.asarray(torch.einsum("ck,nk...->nc...", weights, activation).float().cpu())


def _find_head_weights(model: nn.Module, activation: Tensor, logits: Tensor) -> Tensor:
    """Find the weights (n_classes, n_channels) of the linear layer after the global pooling by comparing values."""
    flat = activation.flatten(2)
    center = getattr(model, "center", None)  # a readout network subtracts the mean of the units first
    pooled = [flat.mean(2), flat.amax(2)]
    if isinstance(center, Tensor) and center.shape == pooled[0].shape[1:]:
        pooled += [one - center for one in pooled]
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.numel() != logits.shape[1] * flat.shape[1]:
            continue
        matrix = weight.detach().reshape(logits.shape[1], -1)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor) and len(bias) != logits.shape[1]:
            continue
        for vector in pooled:
            given = nn.functional.linear(vector, matrix, bias)
            near = max(1e-4, 8 * torch.finfo(given.dtype).eps)
            given = given.to(logits.dtype)
            if torch.allclose(given, logits, rtol=near, atol=0.1 * near * float(logits.abs().max())):
                return matrix
    raise InputError(
        "cam: the logits are not a linear layer on the mean or maximum of this layer over its positions; name the "
        "layer right before that pooling, give a network with such a head (gap, gmp), or use 'hires-cam' or 'grad-cam'"
    )


def _map_by_gradient(
    model: nn.Module,
    method: str,
    tensor: Tensor,
    logits: Tensor,
    chosen: Classes,
    target: Layer,
    lengths: Sequence[int],
) -> NDArray[np.float32]:
    n, columns = len(logits), chosen.columns
    activation = keep_real(model, target.arranged(tensor.detach(), n), lengths)
    combine, kept = _BY_GRADIENT[method], activation.flatten(2)
    maps = kept.new_empty(n, len(columns), kept.shape[2])
    together = max(1, _TOGETHER // tensor.numel())  # classes whose gradients are combined at once
    for first in range(0, len(columns), together):
        some = columns[first : first + together]
        gradients = [target.arranged(_compute_gradient(logits, column, tensor), n) for column in some]
        own = keep_real(model, gradients[0] if len(some) == 1 else torch.cat(gradients), lengths)  # may be large
        repeated = kept.expand(len(some), *kept.shape).flatten(0, 1)
        found = combine(repeated, own.flatten(2))
        maps[:, first : first + together] = found.reshape(len(some), n, -1).transpose(0, 1)
    return np.asarray(maps.reshape(*maps.shape[:2], *activation.shape[2:]).float().cpu())


def _compute_gradient(logits: Tensor, column: int, tensor: Tensor) -> Tensor:
    """Compute the gradient of the logit of a class; items are independent in eval mode, so one pass serves all."""
    gradient = None
    if logits.requires_grad:
        with torch.enable_grad():
            total = logits[:, column].sum()  # a number: torch imports sympy for the gradients of more
        (gradient,) = torch.autograd.grad(total, tensor, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise RunError("class activation maps: the layer does not influence the logits; name another")
    return gradient


def _compute_grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    """Compute sum_k a_k A_kp with a_k = sum_p q_kp max(G_kp, 0), q = G^2 / (2 G^2 + G^3 sum_p A_kp)."""
    squared = gradient.square()
    below = 2 * squared + squared * gradient * activation.sum(2, keepdim=True)
    share = torch.where(below != 0, squared / torch.where(below != 0, below, 1), 0)
    return torch.einsum("nk,nkp->np", (share * gradient.clamp(min=0)).sum(2), activation)


def _compute_xgrad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Compute sum_k a_k A_kp with a_k = sum_p G_kp A_kp / sum_p A_kp."""
    total = activation.sum(2)
    weights = torch.where(total != 0, (gradient * activation).sum(2) / torch.where(total != 0, total, 1), 0)
    return torch.einsum("nk,nkp->np", weights, activation)


_BY_GRADIENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # from activations A_kp and their gradients G_kp, of channels k at positions p
    "grad-cam": lambda a, g: torch.einsum("nk,nkp->np", g.mean(2), a),  # sum_k a_k A_kp with a_k = mean_p G_kp
    "grad-cam++": _compute_grad_cam_plus_plus,
    "xgrad-cam": _compute_xgrad_cam,
    "layer-cam": lambda a, g: (g.clamp(min=0) * a).sum(1),  # sum_k max(G_kp, 0) A_kp
    "hires-cam": lambda a, g: (g * a).sum(1),  # sum_k G_kp A_kp
}


def _compute_score_cam(
    logits_of: Callable[[Tensor], Tensor], batch: Tensor, activation: Tensor, target: Layer, chosen: Classes
) -> NDArray[np.float32]:
    """Compute sum_k a_k A_kp, where a is the softmax over k of the logit for the sound masked by A_k."""
    upsampled = upsample_maps(np.asarray(activation.float().cpu()), batch.shape[2:], target)
    masks = torch.as_tensor(upsampled, device=batch.device)
    spatial = tuple(range(2, masks.ndim))
    masks -= masks.amin(spatial, keepdim=True)
    masks /= masks.amax(spatial, keepdim=True).clamp(min=_TINY)
    heard = [logits_of(batch * masks[:, k : k + 1])[:, chosen.columns] for k in range(masks.shape[1])]
    weights = torch.stack(heard, dim=2).softmax(dim=2)
    return np.asarray(torch.einsum("nck,nk...->nc...", weights, activation.to(weights.dtype)).float().cpu())


def _check_finite_maps(values: NDArray[np.float32], items: Sequence[str], names: Sequence[str], what: str) -> None:
    finite = np.isfinite(values).reshape(*values.shape[:2], -1).all(axis=2)
    if not finite.all():
        item, name = np.argwhere(~finite)[0]
        raise RunError(
            f"class activation maps: the {what} of item {items[item]!r}, class {names[name]!r} is not "
            "finite; look at that sound and the weights"
        )


def _warn_of_zeros(zero: NDArray[np.bool_], items: Sequence[str], names: Sequence[str]) -> None:
    found = np.argwhere(zero)
    if len(found):
        item, name = found[0]
        warnings.warn(
            f"class activation maps: {len(found)} of {zero.size} are zero everywhere, the first for item "
            f"{items[item]!r}, class {names[name]!r}; the layer may be dead for them",
            BrainmapWarning,
            stacklevel=3,
        )
