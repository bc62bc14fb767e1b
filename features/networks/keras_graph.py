"""Run the graph of a Keras network with modules of torch, so that layers have names, hooks and gradients."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from brainmap.errors import InputError
from brainmap.features.networks.keras_layers import convert_layer
from brainmap.features.networks.keras_modules import Layout

_BACKEND = "KERAS_BACKEND"

_Call: TypeAlias = tuple[Any, Any, Any, tuple[int, ...]]


@dataclass(frozen=True)
class _Slot:
    """Stand for a tensor of the graph."""

    number: int
    n_axes: int


@dataclass(frozen=True)
class _Step:
    """Describe one call of a layer: its modules, what they receive, and the tensors that they give."""

    modules: tuple[str, ...]
    args: Any
    kwargs: Any
    outputs: tuple[int, ...]


class KerasGraph(nn.Module):
    """Run the graph of a Keras network with modules of torch, named as its layers.

    Parameters
    ----------
    network : keras.Model
        A sequential or functional model.
    layout : Layout
    """

    def __init__(self, network: Any, layout: Layout) -> None:
        super().__init__()
        calls, self._inputs, self._outputs = _record_calls(network)
        self._steps: list[_Step] = []
        named: dict[int, tuple[str, ...]] = {}
        for operation, args, kwargs, given in calls:
            if id(operation) not in named:
                name = self._find_free_name(operation.name)
                parts = _convert(operation, layout, args, kwargs)
                named[id(operation)] = tuple(f"{name}{ending}" for ending, _ in parts)
                for (_, module), one in zip(parts, named[id(operation)], strict=True):
                    self.add_module(one, module)
            self._steps.append(_Step(named[id(operation)], args, kwargs, given))

    def extra_repr(self) -> str:
        """Describe which layer is called on what, in a digest, because results depend on it."""
        return f"calls={hashlib.sha256(repr(self._steps).encode()).hexdigest()[:16]}"

    def _find_free_name(self, name: str) -> str:
        name = plain = re.sub(r"[./]", "_", name)
        while name in self._modules or hasattr(type(self), name):
            name = f"{name}_{plain}"
        return name

    def forward(self, *inputs: Any) -> Any:
        """Compute the output of tensors in torch's order of axes; several outputs come as a tuple."""
        given = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else inputs
        known = dict(zip(self._inputs, given, strict=True))
        for step in self._steps:
            first, *rest = (self.get_submodule(name) for name in step.modules)
            args, kwargs = tree_map_only(_Slot, lambda slot: known[slot.number], (step.args, step.kwargs))
            out = first(*args, **kwargs)
            for module in rest:
                out = module(out)
            known.update(zip(step.outputs, out if isinstance(out, list | tuple) else [out], strict=False))
        found = tuple(known[number] for number in self._outputs)
        return found[0] if len(found) == 1 else found


class KerasNetwork(KerasGraph):
    """Run a Keras network on sounds as any network here takes them, `(n, c, t)` or `(n, c, h, w)`.

    The axis of channels, which Keras has last, comes second, and so it does in every layer. A network on vectors
    `(n, t)` takes `(n, 1, t)`.

    Raises
    ------
    InputError
        The network has several inputs.
    """

    def __init__(self, network: Any, layout: Layout) -> None:
        super().__init__(network, layout)
        shape = tuple(network.inputs[0].shape[1:])
        self.takes = (shape[-1], *shape[:-1]) if layout.moves(len(shape) + 1) else shape

    def forward(self, sounds: Any) -> Any:
        """Compute the output of sounds; several outputs come as a tuple.

        Raises
        ------
        InputError
            Sounds with other axes or another number of channels than the network takes.
        """
        x = sounds[:, 0] if len(self.takes) == 1 and sounds.ndim == 3 and sounds.shape[1] == 1 else sounds
        known = self.takes[:1] if len(self.takes) > 1 else ()  # the channels; the layers refuse a wrong length
        if x.ndim != len(self.takes) + 1 or any(n not in (None, x.shape[1]) for n in known):
            wanted = ", ".join("any" if n is None else str(n) for n in ((1, *self.takes)[-max(2, len(self.takes)) :]))
            raise InputError(
                f"network: expected sounds (n, {wanted}), as its Keras file says, got {tuple(sounds.shape)}; give the "
                "input with which it was trained"
            )
        return super().forward(x)


def import_keras() -> Any:
    """Import Keras on its torch backend.

    Raises
    ------
    InputError
        Keras is not installed, or was imported on another backend before.
    """
    if sys.modules.get("keras") is None:
        before = os.environ.get(_BACKEND)
        os.environ[_BACKEND] = "torch"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module("keras")
        except ImportError:
            raise InputError("checkpoint: a Keras file needs Keras 3; pip install 'brainmap[keras]'") from None
        finally:
            del os.environ[_BACKEND]
            os.environ |= {} if before is None else {_BACKEND: before}
    keras: Any = sys.modules["keras"]
    if keras.backend.backend() != "torch":
        raise InputError(
            f"checkpoint: expected Keras on torch, but this program imported it on {keras.backend.backend()!r}; set "
            f"{_BACKEND}=torch before Keras is imported"
        )
    return keras


def _record_calls(network: Any) -> tuple[list[_Call], list[int], list[int]]:
    """Record which layers a network calls on which tensors, and return the numbers of its inputs and outputs too."""
    keras = import_keras()
    whole = keras.Model(network.inputs, network.outputs)  # a sequential model has no graph that could be followed
    calls: list[_Call] = []
    numbers: dict[int, int] = {}
    kept: list[Any] = []  # so that Python never reuses an id

    def number(tensor: Any) -> int:
        kept.append(tensor)
        return numbers.setdefault(id(tensor), len(numbers))

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        out = operation(*args, **kwargs)
        given = {key: value for key, value in kwargs.items() if value is not None and key != "training"}
        args, given = tree_map_only(keras.KerasTensor, lambda one: _Slot(number(one), one.ndim), (args, given))
        calls.append((operation, args, given, tuple(number(one) for one in keras.tree.flatten(out))))
        return out

    made = keras.models.clone_model(whole, clone_function=lambda layer: layer, call_function=call)
    return calls, [number(one) for one in made.inputs], [number(one) for one in made.outputs]


def _convert(operation: Any, layout: Layout, args: Any, kwargs: Any) -> list[tuple[str, nn.Module]]:
    """Turn what a graph calls into modules; a network within a network becomes a graph again."""
    keras = import_keras()
    if "mask" in kwargs:
        raise InputError(
            f"checkpoint: the Keras layer {operation.name!r} receives a mask, by which steps are left out; build the "
            "network without Masking and mask_zero"
        )
    if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
        return [("", KerasGraph(operation, layout))]
    axes = {one.n_axes for one in tree_leaves((args, kwargs)) if isinstance(one, _Slot)}
    return convert_layer(operation, layout, axes.pop() if len(axes) == 1 else None)
