"""Attribute logits by gradients, which some methods modify at the ReLUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.overrides import TorchFunctionMode

from brainmap.checks import check_choice, check_enough
from brainmap.errors import InputError
from brainmap.features.attribution.cam import class_activation_maps
from brainmap.features.attribution.task import SILENCE, Explainer, Found, Task
from brainmap.features.attribution.upsampling import can_upsample, upsample_maps
from brainmap.features.layers.ear import NONLINEARITIES, SOFTMAXES
from brainmap.features.layers.inputs import find_longest_lengths
from brainmap.features.layers.listing import list_layers
from brainmap.features.layers.outputs import ENDS, SAME, Ends
from brainmap.features.layers.running import forward
from brainmap.types import Backward, IntegrationRule

_BENT = (NONLINEARITIES - {"relu"}) | {"glu", "lstm", "gru", "rnn_tanh", "maximum", "minimum"}


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """Compute how strongly the logit responds to each sample: |d logit / dx|.

    Parameters
    ----------
    absolute : bool
        False keeps the sign, which gives the direction in which a change of the sample raises the logit.

    References
    ----------
    Simonyan, Vedaldi & Zisserman 2013, doi:10.48550/arXiv.1312.6034
    """

    absolute: bool = True

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""

        def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
            gradient, _logits = task.compute_gradients(batch, targets)
            return Found(maps=gradient.abs() if self.absolute else gradient)

        return Explainer(passes=1, run=run)


@dataclass(frozen=True, kw_only=True)
class InputXGradient:
    """Compute gradient times input, x * d logit / dx, the contribution of each sample if the network were linear.

    References
    ----------
    Shrikumar et al. 2016, doi:10.48550/arXiv.1605.01713
    """

    products: ClassVar[bool] = True

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""

        def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
            gradient, _logits = task.compute_gradients(batch, targets)
            return Found(maps=gradient * batch[:, None])

        return Explainer(passes=1, run=run)


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients:
    """Integrate gradients along the straight path from a baseline b to the sound x.

    The map is (x - b) times the mean over a in [0, 1] of the gradient at b + a (x - b). It sums to the difference of
    the logits of sound and baseline; `delta` is the error caused by the finite number of steps.

    Parameters
    ----------
    baseline : "silence", float or array (c, t) or (c, h, w)
        Start of the path; silence by default.
    steps : int
        Number of points on the path.
    rule : {"gauss-legendre", "trapezoid"}
        Quadrature rule that fixes the points and their weights.

    References
    ----------
    Sundararajan, Taly & Yan 2017, doi:10.48550/arXiv.1703.01365
    """

    baseline: float | ArrayLike | Literal["silence"] = SILENCE
    steps: int = 50
    rule: IntegrationRule = "gauss-legendre"

    @property
    def products(self) -> bool:
        """Tell whether a map is a product of samples and gradients, as it is from silence on."""
        return isinstance(self.baseline, str)

    def __post_init__(self) -> None:
        check_choice(self.rule, get_args(IntegrationRule), "rule")
        least = 2 if self.rule == "trapezoid" else 1
        check_enough(self.steps, least, "steps", f"for the {self.rule} rule")

    def points(self) -> tuple[Tensor, Tensor]:
        """Return the points on the path, 0 to 1, and weights that sum to 1.

        Examples
        --------
        >>> [part.tolist() for part in IntegratedGradients(steps=3, rule="trapezoid").points()]
        [[0.0, 0.5, 1.0], [0.25, 0.5, 0.25]]
        """
        if self.rule == "trapezoid":
            weights = torch.full((self.steps,), 1 / (self.steps - 1))
            weights[[0, -1]] /= 2
            return torch.linspace(0, 1, self.steps), weights
        at, weight = np.polynomial.legendre.leggauss(self.steps)
        return torch.as_tensor((at + 1) / 2, dtype=torch.float32), torch.as_tensor(weight / 2, dtype=torch.float32)

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        task.get_baseline(self.baseline)  # one that does not fit is told before anything runs
        places, weights = (part.to(task.device) for part in self.points())

        def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
            base = task.get_baseline(self.baseline, batch)  # sounds may keep their own lengths
            ends = (slice(None), None) + (None,) * base.ndim
            way = batch - base
            total = torch.zeros(*targets.shape, *base.shape, device=batch.device)
            for part in task.split_copies(self.steps, len(batch)):
                points = base + places[part][ends] * way
                gradient, _logits = task.compute_gradients(points.flatten(0, 1), targets.repeat(len(points), 1))
                total += torch.einsum("s,sn...->n...", weights[part], gradient.reshape(len(points), *total.shape))
            maps = total * way[:, None]
            both = task.compute_scores(torch.stack([base.expand_as(batch), batch]), targets)
            return Found(maps=maps, delta=maps.flatten(2).sum(2) - (both[1] - both[0]))

        return Explainer(passes=self.steps + 2, run=run)


@dataclass(frozen=True, kw_only=True)
class SmoothGrad:
    """Average the gradient over noisy copies of a sound, which removes its rapid fluctuations.

    Every item receives the same noise, scaled to its own range, so that results depend neither on the order of the
    items nor on batches.

    Parameters
    ----------
    samples : int
        Number of noisy copies.
    noise : float
        Standard deviation of the noise, as a share of the range (largest less smallest sample) of each sound.

    References
    ----------
    Smilkov et al. 2017, doi:10.48550/arXiv.1706.03825
    """

    samples: int = 25
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_enough(self.samples, 1, "samples", "sample")
        if not 0 <= self.noise < np.inf:
            raise InputError(f"noise: expected a share of the range, such as 0.1, got {self.noise}")

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        shape = (self.samples, *task.example.shape[:2], *find_longest_lengths(task.sounds, task.example))
        drawn = task.rng.standard_normal(shape, np.float32) * np.float32(self.noise)

        def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
            flat = batch.flatten(1)
            span = (flat.amax(1) - flat.amin(1)).reshape(-1, *(1,) * (batch.ndim - 1))
            total = torch.zeros(*targets.shape, *batch.shape[1:], device=batch.device)
            for part in task.split_copies(self.samples, len(batch)):
                noisy = batch + span * torch.as_tensor(drawn[part][..., : batch.shape[-1]], device=batch.device)
                gradient, _logits = task.compute_gradients(noisy.flatten(0, 1), targets.repeat(len(noisy), 1))
                total += gradient.reshape(len(noisy), *total.shape).sum(0)
            return Found(maps=total / self.samples)

        return Explainer(passes=self.samples, run=run)


@dataclass(frozen=True, kw_only=True)
class Deconvolution:
    """Propagate back through the network with every ReLU passing only positive signals, whatever its input was.

    The method is for networks whose only nonlinearity is the ReLU; others are refused.

    References
    ----------
    Zeiler & Fergus 2014, doi:10.1007/978-3-319-10590-1_53
    """

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        return _explain_through_relus(task, "deconvolution")


@dataclass(frozen=True, kw_only=True)
class GuidedBackpropagation:
    """Compute the gradient with every ReLU passing only positive signals, and only where its input was positive.

    The method is for networks whose only nonlinearity is the ReLU; others are refused.

    References
    ----------
    Springenberg et al. 2014, doi:10.48550/arXiv.1412.6806
    """

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        return _explain_through_relus(task, "guided")


@dataclass(frozen=True, kw_only=True)
class GuidedGradCam:
    """Multiply guided backpropagation by the positive part of Grad-CAM: fine in time, and specific to a class.

    References
    ----------
    Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74
    """

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        guided = _explain_through_relus(task, "guided")
        columns = sorted(set(task.targets.flatten().tolist()))
        cams = class_activation_maps(
            task.model,
            task.sounds,
            layer=task.layer or "last-conv",
            classes=columns,
            batch_size=task.batch_size,
            upsample=False,
            device=task.device,
        )
        layer = next(found for found in list_layers(task.model, task.example) if found.name == cams.layer)
        if not can_upsample(layer, task.example.ndim - 2):
            raise InputError(
                f"guided-grad-cam: the positions of layer {layer.name!r} ({' x '.join(layer.positions)}) cannot be "
                "placed on the samples of the sounds; name another layer, or compute Grad-CAM over its positions "
                "('grad-cam' of class activation maps) and 'guided-backpropagation' by themselves"
            )
        place = {column: at for at, column in enumerate(columns)}

        def run(batch: Tensor, targets: Tensor, rows: slice) -> Found:
            own = np.array([[place[int(c)] for c in row] for row in targets.cpu()])
            coarse = cams.maps[rows][np.arange(len(batch))[:, None], own]
            fine = upsample_maps(coarse.clip(min=0), batch.shape[2:], layer)
            maps = guided.run(batch, targets, rows).maps
            return Found(maps=maps * torch.as_tensor(fine, device=maps.device)[:, :, None])

        return Explainer(passes=guided.passes, run=run, layer=cams.layer)


def _explain_through_relus(task: Task, backward: Backward) -> Explainer:
    with replace_relus(backward) as seen, torch.no_grad():
        out = forward(task.model, task.example.clone())
    seen.check(out)

    def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
        with replace_relus(backward):
            return Found(maps=task.compute_gradients(batch, targets)[0])

    return Explainer(passes=1, run=run)


class _Rectified(torch.autograd.Function):
    """Apply a ReLU whose backward pass lets only positive signals through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, backward: Backward) -> Tensor:
        """Apply the ReLU."""
        if backward == "guided":
            ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        """Keep the positive part of the signal; the guided rule also requires that the input was positive."""
        positive = signals[0].clamp(min=0)
        return (positive * ctx.saved_tensors[0] if ctx.saved_tensors else positive), None


class _ReLUs(TorchFunctionMode):
    """Change the backward pass of every ReLU in the block: module, function, method or clamp, in place or not."""

    def __init__(self, backward: Backward) -> None:
        super().__init__()
        self.backward = backward
        self.relus = 0
        self.others: list[tuple[str, Any]] = []
        self.ends = Ends()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        raw = getattr(func, "__name__", "").split(".")[0]
        name = raw.strip("_")
        name = SAME.get(name, name)
        x = args[0] if args else given.get("input")
        if isinstance(x, Tensor) and (name == "relu" or _is_relu(name, args[1:], given)):
            self.relus += 1
            in_place = raw == f"{name}_" or given.get("inplace") or (name == "relu" and True in args[1:])
            if not in_place:
                return _Rectified.apply(x, self.backward)  # type: ignore[no-untyped-call]
            return x.copy_(_Rectified.apply(x.clone(), self.backward))  # type: ignore[no-untyped-call]
        out = func(*args, **given)
        self.ends.follow(func, name, args, given, out)
        if name in _BENT or name in SOFTMAXES:
            self.others.append((name, out))
        return out

    def check(self, out: Tensor) -> None:
        """Refuse a network with another nonlinearity than ReLUs, or without any; the end that is taken off is none."""
        name = "guided backpropagation" if self.backward == "guided" else "deconvolution"
        for other, given in self.others:
            if not (other in ENDS and given is self.ends.find(out).first):
                raise InputError(
                    f"{name}: the network uses {other}, and the method says only what a ReLU does on the way back; "
                    "elsewhere it would silently be the plain gradient: use 'integrated-gradients' or 'lrp'"
                )
        if not self.relus:
            raise InputError(f"{name}: the network has no ReLU, so that this is the plain gradient: use 'saliency'")


def _is_relu(name: str, rest: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Tell whether a clamp is a ReLU: from 0, without an upper bound."""
    if name not in ("clamp", "clip", "clamp_min"):
        return False
    low = rest[0] if rest else given.get("min")
    high = rest[1] if len(rest) > 1 else given.get("max")
    return high is None and not isinstance(low, Tensor) and low == 0


@contextmanager
def replace_relus(backward: Backward) -> Iterator[_ReLUs]:
    """Give every ReLU within the block another backward rule, without changing the network.

    Examples
    --------
    >>> x = torch.tensor([1.0, -1.0, 2.0], requires_grad=True)
    >>> with replace_relus("guided"):
    ...     y = torch.relu(x)
    >>> torch.autograd.grad((y * torch.tensor([1.0, 1.0, -1.0])).sum(), x)[0].tolist()
    [1.0, 0.0, 0.0]
    """
    mode = _ReLUs(backward)
    with mode:
        yield mode
