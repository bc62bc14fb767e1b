"""Layers as people mean them, and how to listen to them without leaving a trace in the model.

`conv3` is a convolution with its normalization and nonlinearity, before pooling and dropout, whoever wrote
the network and whether its nonlinearity is a module or a function: while a model runs, tensors are followed
from operation to operation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brainmap.checks import nearest, one_of, some
from brainmap.errors import InputError, RunError
from brainmap.features.geometry import Geometry, Place
from brainmap.features.running import Sounds, device_of, evaluating, forward, tensors
from brainmap.features.selection import choose

Stage = Literal["after", "before"]
OUTPUT = "output"
T = TypeVar("T")

_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_NORMS = frozenset({
    "batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "dropout",
})  # fmt: skip
_NONLINEARITIES = frozenset({
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish",
    "softplus", "softsign", "tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid", "logsigmoid",
    "tanhshrink", "softshrink", "hardshrink", "threshold",
})  # fmt: skip
_SOFTMAXES = frozenset({"softmax", "log_softmax"})


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes
    ----------
    name : str
        Dotted name of the convolution or linear module; "output" is what the network gives, the logits.
    kind : str
        Class of that module.
    shape : tuple of int
        Of one item: `(channels, frames)`, `(channels, height, width)` or `(units,)`.
    receptive_field : int [samples], or a tuple (height, width)
        How much of the input a unit sees, parts beyond its ends included; None where an operation has no
        rule.
    stride : int [samples], or a tuple
        Step between frames; 0 where units have no position (they see everything).
    center : float [samples], or a tuple
        Center of the first frame; frame i lies at `center + i * stride`.
    parameters : int
        Trainable ones, those of the normalization and the nonlinearity included.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    receptive_field: int | tuple[int, ...] | None
    stride: int | tuple[int, ...] | None
    center: float | tuple[float, ...] | None
    parameters: int


@dataclass
class _Heard:
    """A tapped layer on its way through one forward pass."""

    name: str
    module: nn.Module
    tensor: Tensor
    passed: Tensor  # what the network goes on with: the same, or its copy
    moving: bool  # a normalization or nonlinearity may still follow
    parameters: set[nn.Parameter] = field(default_factory=set)


class _Follow(TorchFunctionMode):
    """Sees every operation of one forward pass."""

    def __init__(self, ear: _Ear) -> None:
        super().__init__()
        self.ear = ear

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.ear.operation(func, args, kwargs or {})


class _Ear:
    """Listens to the named modules of one model during its forward passes."""

    def __init__(self, names: Collection[str], *, stage: Stage, gradient: bool, cut: bool) -> None:
        self.names, self.stage, self.gradient, self.cut = names, stage, gradient, cut
        self.values: dict[str, Tensor] = {}
        self.geometry: Geometry | None = None
        self.heard: list[_Heard] = []
        self.logits: Tensor | None = None
        self._calls: dict[str, int] = {}
        self._softmax: dict[int, tuple[Tensor, Tensor]] = {}
        self._watch: _Follow | None = None

    def start(self, *_: Any) -> None:
        self.values.clear()
        self.heard.clear()
        self._calls.clear()
        if self.cut:
            torch.set_grad_enabled(False)
        self._watch = _Follow(self)
        self._watch.__enter__()  # type: ignore[no-untyped-call]

    def stop(self, *_: Any) -> None:
        self._softmax.clear()
        if self._watch is not None:
            self._watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._watch = None

    def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        raw = getattr(func, "__name__", "").split(".")[0]
        name = raw.strip("_")
        first = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("input")
        mine = [h for h in self.heard if h.passed is first] if first is not None else []
        changes = raw == f"{name}_" or raw.startswith("__i") or kwargs.get("inplace")
        moving = [h for h in mine if h.moving and self._carries(name)]
        for h in mine if changes else ():
            if h not in moving:
                h.moving = False
                if not self.gradient:  # with gradient the network goes on with a copy already
                    kept = h.tensor.clone()
                    if self.geometry is not None:
                        self.geometry.set(kept, self.geometry.of(h.tensor))
                    h.tensor = kept
        out = func(*args, **kwargs)
        if self.geometry is not None:
            self.geometry.follow(name, args, kwargs, out)
        if name in _SOFTMAXES and first is not None:
            self._softmax[id(out)] = (out, first)
        for h in moving:
            h.tensor = h.passed = out
            h.moving = name in _NORMS
            h.parameters.update(p for p in (*args, *kwargs.values()) if isinstance(p, nn.Parameter))
        if moving and self.gradient:
            out = self._rooted(moving)
        return out

    def _carries(self, name: str) -> bool:
        return name in _NORMS or (name in _NONLINEARITIES and self.stage == "after")

    def _rooted(self, heard: Sequence[_Heard]) -> Tensor:
        """Keep a tensor that a gradient can be taken for; pass on a copy: an in-place change may follow."""
        tensor = heard[0].tensor
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
            if self.cut:
                torch.set_grad_enabled(True)
        passed = tensor.clone()
        for h in heard:
            h.tensor, h.passed = tensor, passed
        return passed

    def hear(self, name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def hook(module: nn.Module, _: Any, out: Any) -> Tensor | None:
            if not isinstance(out, Tensor):
                kind = type(out).__name__
                raise InputError(f"layer {name!r} gives {kind}, wanted one tensor; name another layer")
            count = self._calls[name] = self._calls.get(name, 0) + 1
            called = name if count == 1 else f"{name}#{count}"
            weighted = isinstance(module, _WEIGHTED)
            self.heard.append(_Heard(called, module, out, out, weighted, set(module.parameters())))
            return self._rooted(self.heard[-1:]) if self.gradient else None

        return hook

    def finish(self, _: nn.Module, __: Any, out: Any) -> None:
        if not isinstance(out, Tensor):
            raise InputError(f"network gives {type(out).__name__}, wanted one tensor of logits; wrap it")
        self.logits = self._softmax[id(out)][1] if id(out) in self._softmax else out
        self.values.update({h.name: h.tensor for h in self.heard})
        if OUTPUT in self.names:
            self.values[OUTPUT] = self.logits
        missing = [name for name in self.names if name not in self.values]
        if missing:
            raise RunError(f"layers {some(missing)} took no part in this forward pass; leave them out")


@contextmanager
def _listening(model: nn.Module, ear: _Ear) -> Iterator[None]:
    modules = dict(model.named_modules())
    with ExitStack() as stack:
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        stack.callback(ear.stop)
        stack.callback(model.register_forward_pre_hook(ear.start).remove)
        for plain in dict.fromkeys(name.partition("#")[0] for name in ear.names if name != OUTPUT):
            stack.callback(modules[plain].register_forward_hook(ear.hear(plain)).remove)  # once, or calls count double
        stack.callback(model.register_forward_hook(ear.finish).remove)
        # called even when the forward pass fails, so that nothing goes on watching
        stack.callback(model.register_forward_hook(ear.stop, always_call=True).remove)
        yield


@contextmanager
def tap(
    model: nn.Module,
    names: str | Sequence[str],
    *,
    stage: Stage = "after",
    gradient: bool = False,
    cut: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Listen to layers of a model; when the block ends no hook is left, even after an error.

    Parameters
    ----------
    model : torch.nn.Module
    names : str or sequence of str
        Dotted module names; "output" means the logits: what the network gives, without its softmax. A
        convolution or linear module stands for itself with its normalization and nonlinearity, any other
        module for its own output.
    stage : {"after", "before"}
        The nonlinearity that follows.
    gradient : bool
        Keep tensors that a gradient can be taken for; where nothing before them needs one, the graph begins
        there.
    cut : bool
        With `gradient`: run everything below the first tapped layer without gradient, so that only the rest
        of the network is differentiated.

    Yields
    ------
    dict of str to Tensor
        Filled anew by every forward pass of the model.

    Raises
    ------
    InputError
        No such layer.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.MaxPool1d(2))
    >>> with tap(net, "0") as heard, torch.no_grad():
    ...     _ = net(torch.zeros(1, 1, 8))
    >>> heard["0"].shape, bool((heard["0"] >= 0).all())
    (torch.Size([1, 2, 6]), True)
    """
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    one_of(stage, get_args(Stage), "stage")
    known = [name for name, _ in model.named_modules() if name]
    for name in wanted:
        if name != OUTPUT and name.partition("#")[0] not in known:
            hint = nearest(name, known)
            raise InputError(f"layer: no {name!r} in the network{hint}; it has {some(known, 24)}")
    ear = _Ear(wanted, stage=stage, gradient=gradient, cut=cut)
    with _listening(model, ear):
        yield ear.values


def list_layers(model: nn.Module, sounds: Sounds, *, also: Collection[str] = ()) -> tuple[Layer, ...]:
    """Find the layers of a model by running one sound through it.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n, c, t) or (n, c, h, w)
        Only the first is used.
    also : collection of str
        Other modules to list: a pooling, say.

    Returns
    -------
    tuple of Layer
        Convolutions and linear layers in the order of their calls; the last one is "output", the logits.
        A module called again has a number: `conv`, `conv#2`.

    Raises
    ------
    InputError
        A sound that the network refuses.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.ReLU(), nn.MaxPool1d(3), nn.Conv1d(2, 4, 5))
    >>> [(one.name, one.shape, one.receptive_field) for one in list_layers(net, torch.zeros(1, 1, 40))]
    [('0', (2, 36), 5), ('output', (4, 8), 19)]
    """
    example = next(tensors(sounds, 1, device=device_of(model)))
    weighted = [n for n, module in model.named_modules() if n and (isinstance(module, _WEIGHTED) or n in also)]
    ear = _Ear([], stage="after", gradient=False, cut=False)
    ear.geometry = Geometry(example)
    with evaluating(model), torch.no_grad(), _listening(model, ear), ExitStack() as stack:
        modules = dict(model.named_modules())
        for name in weighted:
            stack.callback(modules[name].register_forward_hook(ear.hear(name)).remove)
        forward(model, example)
    logits = cast(Tensor, ear.logits)
    if ear.heard and ear.heard[-1].tensor is logits:
        ear.heard[-1].name = OUTPUT
    else:
        ear.heard.append(_Heard(OUTPUT, model, logits, logits, False))
    return tuple(_layer(heard, ear.geometry) for heard in ear.heard)


def _layer(heard: _Heard, geometry: Geometry) -> Layer:
    place: Place = geometry.of(heard.tensor)
    return Layer(
        name=heard.name,
        kind=type(heard.module).__name__,
        shape=tuple(heard.tensor.shape[1:]),
        receptive_field=None if place is None else _one_or_all([a.size for a in place]),
        stride=None if place is None else _one_or_all([a.stride for a in place]),
        center=None if place is None else _one_or_all([a.center for a in place]),
        parameters=sum(p.numel() for p in heard.parameters if p.requires_grad),
    )


def _one_or_all(values: list[T]) -> T | tuple[T, ...]:
    return values[0] if len(values) == 1 else tuple(values)


def select_layers(model: nn.Module, sounds: Sounds, layers: str | Sequence[str]) -> tuple[str, ...]:
    """Names of the layers meant by names, globs, kinds, places or depths, in network order.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n, c, t) or (n, c, h, w)
        Only the first is used.
    layers : str or sequence of str
        "all", "last-conv", "conv3", "conv*", "conv", "Conv1d", "1:4", "depth:0.5" and more: see
        `brainmap.features.selection`.

    Raises
    ------
    InputError
        Something that fits no layer.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(8, 3))
    >>> select_layers(net, torch.zeros(1, 1, 8), "all")
    ('0', '1', 'output')
    >>> select_layers(net, torch.zeros(1, 1, 8), ["depth:0.5", "linear"])
    ('1', 'output')
    """
    return choose(layers, list_layers(model, sounds), dict(model.named_modules()))
