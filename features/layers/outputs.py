"""Find the tensors inside the output of a module or network, and the logits before its last operation.

An output may be a tuple, a dictionary or a dataclass. The logits lie before a final softmax, log-softmax or sigmoid.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

LOGITS = "logits"
_FIRST_OF_SEVERAL = (nn.MultiheadAttention, nn.RNNBase)  # they return their activations and something else


def find_tensors(value: Any, path: str = "") -> dict[str, Tensor]:
    """List the tensors inside a value by path: positions in tuples and lists, keys of mappings, fields of dataclasses.

    Examples
    --------
    >>> import torch
    >>> list(find_tensors({"logits": torch.zeros(1), "states": (torch.zeros(1), None)}))
    ['logits', 'states.0']
    """
    if isinstance(value, Tensor):
        return {path: value}
    if isinstance(value, Mapping):
        parts: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, tuple | list):
        parts = list(enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(one.name, getattr(value, one.name)) for one in dataclasses.fields(value)]
    else:
        return {}
    found: dict[str, Tensor] = {}
    for key, part in parts:
        found |= find_tensors(part, f"{path}.{key}" if path else str(key))
    return found


def replace_tensors(value: Any, new: Mapping[int, Tensor]) -> Any:
    """Copy a value and replace the tensors in it whose `id` is a key of `new`."""
    if isinstance(value, Tensor):
        return new.get(id(value), value)
    if isinstance(value, Mapping):
        copied: Any = copy.copy(value)
        for key, part in value.items():
            copied[key] = replace_tensors(part, new)
        return copied
    if isinstance(value, tuple | list):
        parts = [replace_tensors(part, new) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{one.name: replace_tensors(getattr(value, one.name), new) for one in dataclasses.fields(value)}
        )
    return value


def find_main_path(module: nn.Module, found: Mapping[str, Tensor]) -> str | None:
    """Return the path of the tensor that stands for a whole output; None where there are several and none is meant.

    It is the only one, the logits, or, of attention and recurrent layers, the activations of all time steps.
    """
    if len(found) == 1:
        return next(iter(found))
    if isinstance(module, _FIRST_OF_SEVERAL) and "0" in found:
        return "0"
    return LOGITS if LOGITS in found else None


ENDS = frozenset({"softmax", "log_softmax", "sigmoid", "logsigmoid", "hardsigmoid"})
SAME = {  # other names of these operations, as torch calls its functions
    "log_sigmoid": "logsigmoid", "special_expit": "sigmoid", "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
}  # fmt: skip
MOVES = frozenset({  # they move or choose values, and change none
    "squeeze", "unsqueeze", "flatten", "unflatten", "ravel", "view", "view_as", "reshape", "reshape_as", "contiguous",
    "clone", "detach", "float", "double", "half", "to", "type", "type_as", "cpu", "permute", "transpose", "t",
    "movedim", "moveaxis", "swapaxes", "swapdims", "getitem", "select", "narrow", "index_select",
})  # fmt: skip
_LOGS = {"log": ("softmax", "sigmoid"), "exp": ("log_softmax", "logsigmoid")}
_GUARDS = frozenset({"clamp", "clip", "clamp_min", "clamp_max"})
_ADDITIONS = frozenset({"add", "radd", "iadd"})
_SMALL = 1e-3  # a larger number that is added to probabilities is no guard of a logarithm


def passes_end_on(name: str, kind: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether an operation leaves the end of a network at the end: a move, a logarithm, or the guard of one.

    Examples
    --------
    >>> passes_end_on("log", "softmax", (), {}), passes_end_on("log", "log_softmax", (), {})
    (True, False)
    """
    if name in _ADDITIONS:
        other = args[1] if len(args) > 1 else kwargs.get("other")
        return isinstance(other, float) and abs(other) <= _SMALL
    return name in MOVES or name in _GUARDS or kind in _LOGS.get(name, ())


@dataclass(frozen=True)
class End:
    """Describe a tensor behind a softmax or sigmoid.

    Attributes
    ----------
    tensor : Tensor
        The tensor itself, which is kept so that Python never reuses its id.
    logits : Tensor
        The values without the operation, in the same shape; the axis of the items is never dropped from them.
    kind : str
        Name of the operation, or an empty string where there is none.
    first : Tensor
        The result of the operation, before it was moved.
    alone : bool
        The tensor holds one item and has no axis of items.
    """

    tensor: Tensor
    logits: Tensor
    kind: str
    first: Tensor
    alone: bool = False


class Ends:
    """Record which logits lie behind the output of a network, operation by operation.

    `squeeze` without an axis drops the axis of the items where there is only one item, so the result is recorded with
    it.
    """

    def __init__(self) -> None:
        self._known: dict[int, End] = {}

    def keep(self, name: str, first: Any) -> Tensor | None:
        """Copy the logits before an operation that will overwrite them with probabilities."""
        if name not in ENDS or not isinstance(first, Tensor):
            return None
        with torch.set_grad_enabled(first.requires_grad):  # the end itself may run under no_grad
            return first.clone()

    def follow(
        self,
        func: Callable[..., Any],
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        out: Any,
        kept: Tensor | None = None,
    ) -> None:
        """Record what an operation does to logits; `kept` holds those that it overwrote."""
        first = args[0] if args else kwargs.get("input")
        if not isinstance(out, Tensor) or not isinstance(first, Tensor):
            return
        found = self.find(first)
        if name in ENDS:
            logits = kept if kept is not None else first if found.kind else found.logits
            self._known[id(out)] = End(out, logits, name, out, found.alone and not found.kind)
        elif name == "squeeze" and len(args) == 1 and not {"dim"} & kwargs.keys():
            if found.kind or len(found.logits) == 1:
                alone = len(found.logits) == 1
                self._known[id(out)] = End(out, _drop_unit_axes(found.logits), found.kind, found.first, alone)
        elif found.kind and name in MOVES:
            logits, alone = _move_end(func, args, kwargs, found)
            self._known[id(out)] = End(out, logits, found.kind, found.first, alone)
        elif found.kind and passes_end_on(name, found.kind, args, kwargs):
            self._known[id(out)] = replace(found, tensor=out)
        elif out is first:
            self._known.pop(id(first), None)  # the probabilities were changed in place

    def rename(self, old: Tensor, new: Tensor) -> None:
        """Record that one tensor replaces another from here on."""
        if id(old) in self._known:
            self._known[id(new)] = replace(self._known[id(old)], tensor=new)

    def find(self, tensor: Tensor) -> End:
        """Return what is known of a tensor; of one that no softmax or sigmoid gave, the tensor itself."""
        return self._known.get(id(tensor), End(tensor, tensor, "", tensor))

    def clear(self) -> None:
        self._known.clear()


def _drop_unit_axes(logits: Tensor) -> Tensor:
    """Drop the axes of length one, except that of the items."""
    gone = [k for k in range(1, logits.ndim) if logits.shape[k] == 1]
    with torch.set_grad_enabled(logits.requires_grad):  # the end itself may run under no_grad
        return logits.squeeze(tuple(gone)) if gone else logits


def _move_end(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], end: End
) -> tuple[Tensor, bool]:
    """Move logits as an operation moved the tensor behind the end; also tell whether the axis of items is still lost.

    The operation works on a copy, since in place it would change the shape of logits that a layer holds.
    """
    rest = {key: value for key, value in kwargs.items() if key != "input"}
    with torch.set_grad_enabled(end.logits.requires_grad):
        moved: Tensor = func((end.logits[0] if end.alone else end.logits).clone(), *args[1:], **rest)
        if end.alone and (moved.ndim < 2 or len(moved) != 1):
            return moved[None], True
    return moved, False
