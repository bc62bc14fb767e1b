"""A softmax, log-softmax or sigmoid at the end of a network, and the logits before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

ENDS = frozenset({"softmax", "log_softmax", "sigmoid", "logsigmoid"})
RESHAPES = frozenset({"squeeze", "unsqueeze", "flatten", "view", "reshape", "contiguous", "clone", "float", "double"})


class Ends:
    """The logits behind what a network gives, told operation by operation.

    A squeeze of everything would drop the items where there is one: what it gives is known with its items.
    """

    def __init__(self) -> None:
        # the tensors are kept, so that an id is never used twice
        self._known: dict[int, tuple[Tensor, Tensor, str]] = {}

    def follow(
        self, func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        """Note what an operation makes of logits."""
        first = args[0] if args else kwargs.get("input")
        if not isinstance(out, Tensor) or not isinstance(first, Tensor) or out is first:
            return
        logits, kind = self.of(first)
        if name in ENDS:
            self._known[id(out)] = (out, first, name)
        elif (kind == "softmax" and name == "log") or (kind == "log_softmax" and name == "exp"):
            self._known[id(out)] = (out, logits, kind)
        elif name == "squeeze" and len(args) == 1 and not {"dim"} & kwargs.keys():
            gone = [k for k in range(1, logits.ndim) if logits.shape[k] == 1]
            if kind or first.shape[0] == 1:
                self._known[id(out)] = (out, logits.squeeze(tuple(gone)) if gone else logits, kind)
        elif kind and name in RESHAPES:
            self._known[id(out)] = (out, func(logits, *args[1:], **kwargs), kind)

    def rename(self, old: Tensor, new: Tensor) -> None:
        """Another tensor stands for one from here on."""
        if id(old) in self._known:
            self._known[id(new)] = (new, *self._known[id(old)][1:])

    def of(self, tensor: Tensor) -> tuple[Tensor, str]:
        """The logits, and what is taken off to have them; the tensor itself and nothing where it ends plainly."""
        found = self._known.get(id(tensor))
        return (tensor, "") if found is None else found[1:]

    def clear(self) -> None:
        self._known.clear()
