"""Find the tensors inside the output of a module or network, which may be a tuple, a dictionary or a dataclass."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

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


def find_owner(name: str, modules: Collection[str]) -> tuple[str, str]:
    """Split the name of a layer into its module, without the number of a call, and the path in the module's output.

    The module is empty where there is none.

    Examples
    --------
    >>> find_owner("body.lstm#2.1.0", ["body", "body.lstm"])
    ('body.lstm', '1.0')
    """
    plain = name
    if "#" in name:
        before, _, after = name.partition("#")
        plain = f"{before}.{after.partition('.')[2]}".rstrip(".")
    if plain in modules:
        return plain, ""
    parts = plain.split(".")
    for n in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:n]) in modules:
            return ".".join(parts[:n]), ".".join(parts[n:])
    return "", plain
