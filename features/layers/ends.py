"""Find a softmax, log-softmax or sigmoid at the end of a network, and the logits before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

ENDS = frozenset({"softmax", "log_softmax", "sigmoid", "logsigmoid"})
SAME = {  # other names of these operations, as torch calls its functions
    "log_sigmoid": "logsigmoid", "special_expit": "sigmoid", "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
}  # fmt: skip
RESHAPES = frozenset({"squeeze", "unsqueeze", "flatten", "view", "reshape", "contiguous", "clone", "float", "double"})


class Ends:
    """Record which logits lie behind the output of a network, operation by operation.

    `squeeze` without an axis drops the axis of the items where there is only one item, so the result is recorded with
    it.
    """

    def __init__(self) -> None:
        # the tensors are kept, so that Python never reuses an id
        self._known: dict[int, tuple[Tensor, Tensor, str]] = {}

    def follow(
        self, func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        """Record what an operation does to logits."""
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
        """Record that one tensor replaces another from here on."""
        if id(old) in self._known:
            self._known[id(new)] = (new, *self._known[id(old)][1:])

    def of(self, tensor: Tensor) -> tuple[Tensor, str]:
        """Return the logits and the name of the operation taken off, or the tensor itself and an empty string."""
        found = self._known.get(id(tensor))
        return (tensor, "") if found is None else found[1:]

    def clear(self) -> None:
        self._known.clear()
