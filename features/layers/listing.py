"""List the layers of anybody's network: their names, shapes, axes and receptive fields.

A sound runs through the network once, and its tensors are followed from operation to operation; where the axes of a
layer stay open, a longer sound follows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from brainmap.checks import list_some
from brainmap.features.layers.axes import (
    ITEMS,
    UNITS,
    AxisNames,
    name_positions,
    order_of,
)
from brainmap.features.layers.ear import (
    RECURRENT,
    WEIGHTED,
    Ear,
    Heard,
    HiddenState,
    attach_ear,
)
from brainmap.features.layers.layer import FREQUENCY, OTHER, OUTPUT, TIME, Layer
from brainmap.features.layers.names import find_owner, group_paths
from brainmap.features.layers.receptive_fields import Geometry, Place
from brainmap.features.layers.running import evaluating, forward, get_device
from brainmap.features.sounds.batches import Sounds, iterate_tensors
from brainmap.features.sounds.inputs import describe_input
from brainmap.progress import log

T = TypeVar("T")
LISTED = (*WEIGHTED, *RECURRENT, HiddenState)
"""Kinds of modules that are listed without being asked for."""
_UNITS_LAST = (nn.Linear, nn.LayerNorm, nn.TransformerEncoderLayer, HiddenState)
_Probed: TypeAlias = tuple[int, tuple[int, ...], tuple[int, ...]]  # items, axes of other lengths, shape


@runtime_checkable
class KnowsFrames(Protocol):
    """Describe a network that knows the frames of its layers, because its front end is no operation of torch."""

    def frames_of(
        self, lengths: tuple[int, ...], positions: tuple[int, ...]
    ) -> tuple[tuple[str, ...], int | None, float | None] | None:
        """Return the names of axes of positions, and the step and first center of frames [samples], where known."""


def list_layers(
    model: nn.Module,
    sounds: Sounds,
    *,
    also: Collection[str] = (),
    known: Callable[[Sequence[Layer]], Collection[str]] | None = None,
) -> tuple[Layer, ...]:
    """Find the layers of a model by running one sound through it.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n, c, t) or (n, c, h, w)
        Only the first sound is used.
    also : collection of str
        Other modules to list, for example a pooling, and tensors in outputs by path (`lstm.1.0`), where these exist.
        The module that gives the logits is then listed by its own name, too.
    known : callable, optional
        Chooses the names of the layers whose axes must be known; by default those of all layers are found.

    Returns
    -------
    tuple of Layer
        Convolutions and linear layers in the order in which they end; the last one is "output", the logits.
        A module that is called again gets a number: `conv`, `conv#2`.

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
    example = next(iterate_tensors(sounds, 1, device=get_device(model)))
    weighted = [n for n, module in model.named_modules() if n and (isinstance(module, LISTED) or n in also)]
    weighted += [name for name in also if name not in weighted]
    ear = _record_modules_once(model, example, weighted, followed=True, inputs=_name_input(sounds))
    _name_output(model, ear, also)
    axes, geometry = cast(AxisNames, ear.axes), cast(Geometry, ear.geometry)
    probed: dict[str, list[_Probed]] = {heard.name: [] for heard in ear.heard}
    unclear = {heard.name for heard in ear.heard if not _has_plain_axes(heard, axes)}
    if unclear and known is not None:
        unclear &= set(known([_describe_heard_layer(heard, axes, geometry, ()) for heard in ear.heard]))
    if unclear:
        for changed, probe in _resize_example(example, axes=len(example.shape) - 2):
            _record_shapes(model, probe, changed, (weighted, also), probed)
    listed = [_describe_heard_layer(heard, axes, geometry, probed[heard.name]) for heard in ear.heard]
    if isinstance(model, KnowsFrames):
        listed = [_apply_frames(one, model.frames_of(tuple(example.shape[2:]), one.shape[1:])) for one in listed]
    return (*listed[:-1], replace(listed[-1], without=ear.taken_off))


def _name_input(sounds: Sounds) -> tuple[str, ...] | None:
    """Name the axes of positions of an input whose time comes before its frequencies; None means the usual order."""
    axes = describe_input(sounds)
    return (TIME, FREQUENCY) if axes is not None and axes.time_axis == -2 else None


def _record_modules_once(
    model: nn.Module, batch: Tensor, names: Sequence[str], *, followed: bool, inputs: tuple[str, ...] | None = None
) -> Ear:
    """Record the given modules for one batch; if the network fails on the batch, return what was recorded before."""
    ear = Ear([], stage="after", gradient=False, cut=False)
    ear.hears_functions = True
    if followed:
        ear.axes = AxisNames(batch, inputs)
        ear.geometry = Geometry(batch, ear.axes)
    modules = dict(model.named_modules())
    with evaluating(model), torch.no_grad(), attach_ear(model, ear), ExitStack() as stack:
        for name, paths in group_paths(names, modules).items():
            stack.callback(modules[name].register_forward_hook(ear.hear(name, paths)).remove)
        if followed:
            forward(model, batch)
        else:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            with suppress(Exception):  # the user's network may fail at a length that it was not made for
                model(batch)
    return ear


def _name_output(model: nn.Module, ear: Ear, asked: Collection[str]) -> None:
    """Rename the layer that gives the logits to "output", or add the output as another layer; it comes last.

    A module that is asked for keeps its own name beside it. Of an output with several tensors each is added by its path
    (`output.embedding`), the logits as "output" too.
    """
    own = next((k for k, one in reversed(list(enumerate(ear.heard))) if _is_listed(one)), None)
    if len(ear.outputs) > 1:
        ear.heard += [Heard(name, model, tensor, tensor, False) for name, tensor in ear.outputs.items()]
        own = len(ear.heard) - 1
    logits = ear.logits
    if logits is None:
        return
    found = Heard(OUTPUT, model, logits, logits, False)
    if own is not None and ear.heard[own].tensor is logits and not isinstance(ear.heard[own].module, HiddenState):
        found = replace(ear.heard[own], name=OUTPUT)
        if ear.heard[own].name not in asked:
            del ear.heard[own]
    ear.heard.append(found)


def _is_listed(heard: Heard) -> bool:
    """Tell whether a layer is listed without being asked for."""
    return bool(heard.kinds) or (isinstance(heard.module, LISTED) and not heard.path)


def _has_plain_axes(heard: Heard, axes: AxisNames) -> bool:
    """Tell whether the axes of a layer are clear without other lengths: from its module and what came before it."""
    names = axes.of(heard.tensor)
    if heard.tensor.ndim == 2:
        return heard.tensor.shape[0] == 1
    if _is_last_state(heard) or (isinstance(heard.module, HiddenState) and heard.module.units_axis is not None):
        return True
    if names is None or names[0] != ITEMS:
        return False
    if isinstance(heard.module, nn.modules.conv._ConvNd) or "_ConvNd" in heard.kinds:
        return names[1] == UNITS
    followed = {ITEMS, TIME, FREQUENCY}.issuperset(names[:-1]) and names[-1] == UNITS
    return followed and (isinstance(heard.module, _UNITS_LAST) or "Linear" in heard.kinds)


def _resize_example(example: Tensor, *, axes: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Yield three copies of the example with each of its axes half as long, and then with all of them twice as long."""
    several = example.expand(3, *example.shape[1:])
    for axis in range(axes):
        yield (axis,), several.narrow(2 + axis, 0, max(1, example.shape[2 + axis] // 2)).clone()
    yield tuple(range(axes)), several.repeat(1, 1, *(2,) * axes)


def _record_shapes(
    model: nn.Module,
    batch: Tensor,
    changed: tuple[int, ...],
    names: tuple[Sequence[str], Collection[str]],
    probed: dict[str, list[_Probed]],
) -> None:
    """Record the shapes of those layers that the network reaches at another length of the input."""
    if all(len(found) >= batch.ndim - 2 for found in probed.values()):
        return  # every layer accepts the shorter lengths
    ear = _record_modules_once(model, batch, names[0], followed=False)
    if ear.logits is not None or ear.outputs:
        _name_output(model, ear, names[1])
    for heard in ear.heard:
        if heard.name in probed:
            probed[heard.name].append((len(batch), changed, tuple(heard.tensor.shape)))


def _describe_heard_layer(heard: Heard, axes: AxisNames, geometry: Geometry, probed: Sequence[_Probed]) -> Layer:
    place: Place = geometry.of(heard.tensor)
    names, whole = axes.of(heard.tensor), tuple(heard.tensor.shape)
    order = order_of(whole, names, [(n, shape) for n, _, shape in probed])
    if isinstance(heard.module, HiddenState) and heard.module.units_axis is not None:
        units = heard.module.units_axis
        order = (0, units, *(k for k in range(1, len(whole)) if k != units))
    if _is_last_state(heard):
        order, names = (1, 2, 0), (OTHER, ITEMS, UNITS)
    classes = heard.kinds or tuple(one.__name__ for one in type(heard.module).__mro__ if issubclass(one, nn.Module))
    shape = [whole[k] for k in order] if order else list(whole)
    return Layer(
        name=heard.name,
        kind=classes[1] if parametrize.is_parametrized(heard.module) else classes[0],
        shape=tuple(shape[1:]),
        receptive_field=None if place is None else _simplify([a.size for a in place]),
        stride=None if place is None else _simplify([a.stride for a in place]),
        center=None if place is None else _simplify([a.center for a in place]),
        parameters=sum(p.numel() for p in heard.parameters if p.requires_grad),
        order=order,
        whole=() if place is None else tuple(a.whole for a in place),
        classes=classes,
        positions=name_positions(
            whole, order, names, [(changed, other) for _, changed, other in probed], inputs=axes.inputs
        ),
    )


def _is_last_state(heard: Heard) -> bool:
    """Tell whether a tensor is the last state of a recurrent layer, `(layers, n, units)`."""
    return isinstance(heard.module, RECURRENT) and heard.path.startswith("1") and heard.tensor.ndim == 3


def _apply_frames(layer: Layer, known: tuple[tuple[str, ...], int | None, float | None] | None) -> Layer:
    """Apply what a network knows of its frames to a layer."""
    if known is None or not layer.order:
        return layer
    names, stride, center = known
    return replace(layer, positions=names, receptive_field=None, stride=stride, center=center, whole=())


def _simplify(values: list[T]) -> T | tuple[T, ...]:
    return values[0] if len(values) == 1 else tuple(values)


def say_taken_off(output: Layer) -> None:
    """Say that a network ends with a softmax or sigmoid that is taken off."""
    if output.without:
        log.warning(
            "note: the %s at the end of the network is taken off: 'output' means the logits before it", output.without
        )


def leave_out_unknown_axes(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Leave out the layers whose axis of units is not known, and say which; all layers if it is known of none.

    Such a layer is refused where it is asked for by name.
    """
    unknown = [layer.name for layer in layers if not layer.order]
    if not unknown or len(unknown) == len(layers):
        return tuple(layers)
    log.warning(
        "note: %d of %d layers are left out, since it is not known which of their axes holds units: %s; say it with "
        "units_axis (--units-axis) to have them",
        len(unknown),
        len(layers),
        list_some(unknown),
    )
    return tuple(layer for layer in layers if layer.order)


def list_asked_names(names: str | Sequence[str], model: nn.Module) -> tuple[str, ...]:
    """List the names that are modules, or paths of tensors in their outputs, without the number of a call."""
    known = dict(model.named_modules())
    owners = [find_owner(name, known) for name in ([names] if isinstance(names, str) else names)]
    return tuple(f"{module}.{path}".rstrip(".") for module, path in owners if module)
