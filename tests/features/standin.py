"""A device that stands in for a GPU: its tensors lie on the CPU, and torch refuses to mix them with others.

It bears the name "meta", which every torch knows. What is made on it or moved to it holds its numbers in a tensor of
the CPU, with which every operation is computed; an operation of it with an ordinary tensor fails as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = "meta"
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Away(Tensor):
    """A tensor on the device."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> Away:
        out = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(DEVICE),
        )
        out.raw = raw
        return out

    def tolist(self) -> Any:
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _compute(func, args, kwargs or {})


def _is_here(device: object) -> bool:
    return bool(torch.device(str(device)) == torch.device(DEVICE))


def _compute(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU; it is of the device where its tensors are, or where it is asked to be."""
    given: list[Tensor] = []
    tree_map(lambda x: given.append(x) if isinstance(x, Tensor) else None, (args, kwargs))
    there = [x for x in given if isinstance(x, Away)]
    if there and func not in _COPIES and any(x.dim() > 0 for x in given if not isinstance(x, Away)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    goal = kwargs.get("device")
    away = bool(there) if goal is None else _is_here(goal)
    if func is torch.ops.aten.copy_.default:
        away = isinstance(args[0], Away)
    plain = tree_map(lambda x: x.raw if isinstance(x, Away) else x, (args, kwargs))
    out = func(*plain[0], **(plain[1] if goal is None else {**plain[1], "device": torch.device("cpu")}))

    def back(x: Any) -> Any:
        if not isinstance(x, Tensor) or not away:
            return x
        same = [one for one in there if one.raw is x]
        return same[0] if same else Away(x)

    return tree_map(back, out)


class _Moves(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Makes(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None and _is_here(kwargs["device"]):
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        return func(*args, **kwargs)


@contextmanager
def standin_device() -> Iterator[str]:
    """Have the device within the block, and give its name."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Makes(), _Moves():
            yield DEVICE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
