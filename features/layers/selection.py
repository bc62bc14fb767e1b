"""Select layers by name, pattern, kind, place or depth.

| written as | means |
|---|---|
| `all` | every layer listed |
| `conv3`, `body.0.conv` | the layer or module of that name; a name takes precedence over any other meaning |
| `last-conv` | the last convolution |
| `conv`, `linear` | every convolution, or every linear layer |
| `Conv1d`, `MaxPool1d` | every layer of that class, or, where none is listed, every module of it |
| `lstm.1.0`, `relu#2` | a tensor in the output of a module, and the second call of a module |
| `conv*`, `conv[1-3]` | every name that matches, as file names do |
| `2:5`, `:3`, `-2:` | by place, counted from 0, as a Python slice |
| `depth:0.5` | the layer nearest to that relative depth, from the first (0) to the last (1); the earlier one of two |
| `depth:0.25-0.75` | all layers between these relative depths |

Layers are in the order in which the forward pass ends them, however they are asked for: a block comes after the modules
inside it, and the output last.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from brainmap.checks import check_choice, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.layers.layer import Layer
from brainmap.features.layers.listing import list_asked_names, list_layers
from brainmap.features.layers.names import find_owner
from brainmap.features.sounds.batches import Sounds

_SHARE = r"(?:0(?:\.\d*)?|\.\d+|1(?:\.0*)?)"
_DEPTH = re.compile(rf"depth:({_SHARE})(?:-({_SHARE}))?")
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?[1-9]\d*))?")


def choose(patterns: str | Sequence[str], listed: Sequence[Layer], modules: Mapping[str, Any]) -> tuple[str, ...]:
    """List the names of the layers that any of the patterns selects, in network order.

    Parameters
    ----------
    patterns : str or sequence of str
        Patterns as in the table of the module.
    listed : sequence of Layer
        As `list_layers` gives them.
    modules : mapping of str to Module
        As `model.named_modules()` gives them; a module that is not a listed layer comes last, as does what may be a
        tensor in its output.

    Raises
    ------
    InputError
        A pattern that fits nothing.
    """
    names = [layer.name for layer in listed]
    chosen: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = _match_pattern(pattern, listed, names, modules)
        if not found:
            raise _report_nothing(pattern, listed, modules)
        chosen |= dict.fromkeys(found)
    return tuple(sorted(chosen, key=lambda name: names.index(name) if name in names else len(names)))


def _report_nothing(pattern: str, listed: Sequence[Layer], modules: Mapping[str, Any]) -> InputError:
    names, kinds = [layer.name for layer in listed], dict.fromkeys([layer.kind for layer in listed])
    hint = suggest_word(pattern, [*names, *filter(None, modules), *kinds, "last-conv", "linear", "all"])
    return InputError(
        f"layers: nothing fits {pattern!r}{hint}; the network has {list_some(names, 24)}; "
        "or say a pattern (conv*), kind (conv, linear, Conv1d), place (1:4) or depth (depth:0.5)"
    )


def _match_pattern(
    pattern: str, listed: Sequence[Layer], names: Sequence[str], modules: Mapping[str, Any]
) -> Sequence[str]:
    convolutions = [layer.name for layer in listed if layer.is_convolution]
    groups = {
        "all": names,
        "last-conv": convolutions[-1:],
        "conv": convolutions,
        "linear": [layer.name for layer in listed if "Linear" in layer.classes],
    }
    if pattern in names or (pattern and pattern in modules):
        return [pattern]
    if pattern in groups:
        return groups[pattern]
    if (depth := _DEPTH.fullmatch(pattern)) is not None:
        return _select_depth(names, float(depth[1]), None if depth[2] is None else float(depth[2]))
    if (places := _SLICE.fullmatch(pattern)) is not None:
        return names[slice(*(int(part) if part else None for part in places.groups()))]
    if any(mark in pattern for mark in "*?["):
        return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    of_kind = [layer.name for layer in listed if pattern in layer.classes]
    found = of_kind or [
        name
        for name, module in modules.items()
        if name and pattern in [one.__name__ for one in type(module).__mro__[:-2]]
    ]
    return found or [pattern] * bool(find_owner(pattern, modules)[0])


def _select_depth(names: Sequence[str], low: float, high: float | None) -> Sequence[str]:
    last = max(len(names) - 1, 1)
    if high is None:
        return [min(names, key=lambda name: round(abs(names.index(name) / last - low), 9))]  # the earlier one of two
    return [name for place, name in enumerate(names) if low - 1e-9 <= place / last <= high + 1e-9]


def choose_layers(
    model: nn.Module, sounds: Sounds, layers: str | Sequence[str], *, only: bool = False
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """List the layers of a model, and those that names, globs, kinds, places or depths select.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n, c, t) or (n, c, h, w)
        Only the first sound is used.
    layers : str or sequence of str
        As in the table of `brainmap.features.layers.selection`.
    only : bool
        The axes of layers that are not selected may stay unknown, which saves forward passes.

    Returns
    -------
    tuple of (tuple of Layer, tuple of Layer)
        What `list_layers` gives, and the selected layers, in the order in which the forward pass ends them.

    Raises
    ------
    InputError
        A pattern that fits no layer, or a module that takes no part in the forward pass.
    """
    modules = dict(model.named_modules())
    listed = list_layers(model, sounds, known=(lambda found: choose(layers, found, modules)) if only else None)
    names = choose(layers, listed, modules)
    whole = listed
    if not {layer.name for layer in listed}.issuperset(names):
        whole = list_layers(model, sounds, also=list_asked_names(names, model))
    chosen = tuple(layer for layer in whole if layer.name in names)
    known = {layer.name for layer in chosen}
    for name in [layers] if isinstance(layers, str) else layers:
        if name in modules and name in names and name not in known:
            raise InputError(
                f"layers: expected modules that take part in the forward pass, got {name!r} "
                f"({type(modules[name]).__name__}), which is not called or gives no tensor; leave it out"
            )
        if not chosen or (name in names and name not in known):
            raise _report_nothing(name, listed, modules)
    return listed, chosen


def select_layers(model: nn.Module, sounds: Sounds, layers: str | Sequence[str]) -> tuple[str, ...]:
    """List the names of the layers selected by names, globs, kinds, places or depths, in network order.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n, c, t) or (n, c, h, w)
        Only the first sound is used.
    layers : str or sequence of str
        "all", "last-conv", "conv3", "conv*", "conv", "Conv1d", "1:4", "depth:0.5" and more: see
        `brainmap.features.layers.selection`.

    Returns
    -------
    tuple of str
        In the order in which the forward pass ends the layers: a block comes after the modules inside it.

    Raises
    ------
    InputError
        A pattern that fits no layer, or a module that takes no part in the forward pass.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(8, 3))
    >>> select_layers(net, torch.zeros(1, 1, 8), "all")
    ('0', '1', 'output')
    >>> select_layers(net, torch.zeros(1, 1, 8), ["depth:0.5", "linear", "2"])
    ('1', '2', 'output')
    """
    return tuple(layer.name for layer in choose_layers(model, sounds, layers)[1])


def list_asked(model: nn.Module, sounds: Sounds, layers: str | Sequence[str]) -> tuple[Layer, ...]:
    """List the layers of a model, with the tensors in outputs that are asked for by path (`lstm.1.0`)."""
    modules = dict(model.named_modules())
    return list_layers(model, sounds, also=[name for name in list_asked_names(layers, model) if name not in modules])


def find_layer(listed: tuple[Layer, ...], name: str, what: str) -> Layer:
    """Find the layer of that name.

    Raises
    ------
    InputError
        There is no such layer; the message gives the nearest name.
    """
    names = [one.name for one in listed]
    return listed[names.index(check_choice(name, names, f"{what}: layer"))]
