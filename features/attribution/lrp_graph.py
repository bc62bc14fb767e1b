"""Run a forward pass whose gradient is relevance: each operation gets the backward pass of its rule.

Autograd then propagates relevance instead of gradients. Operations that only move values keep their own gradient, which
moves relevance back in the same way, and so does a maximum, whose gradient goes to the winner. Nonlinearities that map
zero to zero pass relevance on unchanged, and linear operations follow their rule. Any other operation is refused by
name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brainmap.errors import InputError
from brainmap.features.attribution.lrp_rules import Composite, Rule, split_contributions
from brainmap.features.layers.outputs import ENDS, SAME, Ends, passes_end_on
from brainmap.features.layers.running import watch_modules

Linear = Callable[[Tensor, Tensor], Tensor]

_MOVES = frozenset({
    "flatten", "unflatten", "reshape", "reshape_as", "view", "view_as", "permute", "transpose", "movedim", "moveaxis",
    "swapaxes", "swapdims", "t", "T", "mT", "squeeze", "unsqueeze", "getitem", "narrow", "select", "index_select",
    "cat", "concat", "concatenate", "stack", "split", "tensor_split", "chunk", "unbind", "expand", "expand_as",
    "broadcast_to", "repeat", "flip", "roll", "contiguous", "clone", "to", "float", "double", "type_as",
})  # fmt: skip
_DROPOUTS = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"})
_ARITHMETIC = {
    "iadd": "add",
    "radd": "add",
    "isub": "sub",
    "subtract": "sub",
    "imul": "mul",
    "rmul": "mul",
    "multiply": "mul",
    "idiv": "div",
    "itruediv": "div",
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "negative": "neg",
}
# these return numbers or masks that control the network, and carry no relevance
_ASIDE = frozenset({"gt", "lt", "ge", "le", "eq", "ne", "isnan", "isfinite", "zeros_like", "ones_like", "bool"})
# these take values out of the tensors that can be followed
_TAKES_OUT = frozenset({"item", "tolist", "numpy", "__float__", "__int__", "__setitem__", "__array__"})


def pull_back(out: Tensor, gradient: Tensor, given: Tensor) -> Tensor:
    """Return the gradient at `given` of `out`, whose own gradient is `gradient`; the graph is kept.

    Handed to `torch.autograd.grad`, the gradient would have torch import sympy: half a second and 45 MB.
    """
    with torch.enable_grad():
        total = (out * gradient).sum()
    (found,) = torch.autograd.grad(total, given, retain_graph=True)
    return found


@dataclass
class Ledger:
    """Sum up the relevance that did not reach the input in one backward pass; both are `(n_items,)`, float64."""

    absorbed: Tensor
    lost: Tensor

    def clear(self) -> None:
        """Reset the sums of the last backward pass."""
        self.absorbed.zero_()
        self.lost.zero_()

    def sum_by_item(self, shares: Tensor) -> Tensor:
        """Sum over all axes but the items; where a network folds frames into its items, the frames follow the items."""
        if shares.numel() % len(self.lost):
            raise InputError(
                "lrp: sounds of a batch meet inside the network (a mean over all of them?); LRP explains each by itself"
            )
        return shares.reshape(len(self.lost), -1).sum(1, dtype=torch.float64)


@dataclass
class Affine:
    """Represent one linear operation of a forward pass with its rule; `source` propagates relevance further."""

    rule: Rule
    source: Tensor
    weight: Tensor
    bias: Tensor | None
    apply: Linear
    ledger: Ledger = field(repr=False)

    @cached_property
    def _shares(self) -> _Shares:
        """Compute the part of the rule that does not depend on the incoming relevance and serves every class."""
        shares = _Shares([], torch.ones(()), torch.zeros(()))
        for part in split_contributions(self.rule, self.source.detach(), self.weight, self.bias):
            terms = []
            for given, weight in part.pairs:
                if bool(given.any()) and bool(weight.any()):
                    with torch.enable_grad():
                        handle = given.detach().requires_grad_()
                        terms.append((given, handle, self.apply(handle, weight)))
            total = sum((out.detach() for _, _, out in terms), start=self.source.new_zeros(()))
            total = total if part.bias is None else total + part.bias
            whole = total + part.epsilon * torch.where(total < 0, -1, 1)
            ratio = torch.where(whole != 0, part.share / torch.where(whole != 0, whole, 1), 0)
            shares.parts.append((ratio, terms))
            shares.lost = shares.lost - ratio * total
            if part.bias is not None:
                shares.absorbed = shares.absorbed + ratio * part.bias
        return shares

    def hand_down(self, relevance: Tensor) -> Tensor:
        """Turn relevance of the output into relevance of the input; the remainder goes into the ledger."""
        shares, arrived = self._shares, torch.zeros_like(self.source)
        for ratio, terms in shares.parts:
            ratio = ratio * relevance
            for given, handle, out in terms:
                arrived.addcmul_(given, pull_back(out, ratio, handle))
        self.ledger.lost += self.ledger.sum_by_item(relevance * shares.lost)
        if self.bias is not None:
            self.ledger.absorbed += self.ledger.sum_by_item(relevance * shares.absorbed)
        return arrived


@dataclass
class _Shares:
    """Hold for each part the factor of its relevance and (contributor, tensor for the gradient, output).

    It also holds the shares of relevance that find no contribution, and those that biases absorb.
    """

    parts: list[tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]]
    lost: Tensor
    absorbed: Tensor


class _HandDown(torch.autograd.Function):
    """Return a value that was computed already, with the backward pass of a rule."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor, back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.back = back
        return value

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(relevance[0]), None, None


@dataclass
class _Known:
    """Describe a tensor that carries relevance; the tensor is kept, so that Python never reuses its id."""

    tensor: Tensor
    raw: bool  # the input itself, at most moved or scaled
    affine: Affine | None  # the convolution or linear layer that gave it, with which a normalization can be merged


@dataclass
class Call:
    """Describe one operation: its function, its plain name and its arguments."""

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def get_arguments(self, *order: str) -> dict[str, Any]:
        """Return the arguments by name; `order` is the order of the positional arguments."""
        return dict(zip(order, self.args, strict=False)) | self.kwargs

    def apply_to(self, heard: Tensor) -> Any:
        """Apply the operation to another value in place of its first argument."""
        rest = {k: v for k, v in self.kwargs.items() if k != "input"}
        return self.func(heard, *self.args[1:], **rest)


class Follow(TorchFunctionMode):
    """Intercept every operation of one forward pass and replace its backward pass by that of its rule.

    Parameters
    ----------
    composite : Composite
    rules : mapping of str to callable
        Handler for each operation, by name; it receives this object and the `Call`, and returns the operation's result.
    batch : Tensor (n, c, ...)
    """

    def __init__(self, composite: Composite, rules: Mapping[str, Callable[[Follow, Call], Any]], batch: Tensor) -> None:
        super().__init__()
        self.composite, self.rules = composite, rules
        empty = torch.zeros(2, len(batch), dtype=torch.float64, device=batch.device)
        self.ledger = Ledger(empty[0], empty[1])
        self.path: list[tuple[str, nn.Module]] = []
        self._known: dict[int, _Known] = {}
        self._now: dict[int, tuple[Tensor, Tensor]] = {}  # the result of an in-place operation, by the id of its tensor
        self._ends = Ends()
        self._late: dict[int, InputError] = {}  # the error if a softmax or sigmoid turns out not to be the end
        self.input = batch.detach().clone().requires_grad_()
        self.know(self.input, raw=True)

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Follow the operations of the model, and record which of its modules is running."""
        below = {name: module for name, module in model.named_modules() if name}
        entering = watch_modules(
            below, before=lambda name, module, _: self.path.append((name, module)), after=self._leave_module
        )
        with entering, self:
            yield

    def _leave_module(self, *_: Any) -> None:
        self.path.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raw = getattr(func, "__name__", "").split(".")[0]  # relu.default is the relu of an exported program
        if raw == "__get__":
            raw = getattr(getattr(func, "__self__", None), "__name__", raw)
        plain = raw.strip("_")
        plain = SAME.get(plain, plain)
        call = Call(
            func, _ARITHMETIC.get(plain, plain), self._renew_inputs(tuple(args)), self._renew_inputs(kwargs or {})
        )
        inside = list(find_tensors((call.args, call.kwargs)))
        in_place = (raw.endswith("_") and not raw.endswith("__")) or (raw.startswith("__i") and plain in _ARITHMETIC)
        in_place = in_place or bool(call.kwargs.get("inplace"))
        behind = [t for t in inside if self._ends.find(t).kind]
        if behind:
            return self._follow_behind_end(raw, call, behind[0], in_place=in_place)
        if not any(self.carries(t) for t in inside):
            return func(*call.args, **call.kwargs)
        if raw in _TAKES_OUT:
            raise self.make_refusal(plain)
        with torch.enable_grad():
            out = self._follow_call(call, [t for t in inside if self.carries(t)])
        if in_place:
            self._rename(call.get_arguments("input")["input"], out)
        return out

    def _follow_behind_end(self, raw: str, call: Call, end: Tensor, *, in_place: bool) -> Any:
        """Follow an operation on the values of a softmax or sigmoid, which may only move them or take their log."""
        found = self._ends.find(end)
        on = call.get_arguments("input").get("input") is end and call.name not in ENDS
        if not (on and passes_end_on(call.name, found.kind, call.args, call.kwargs)):
            with torch.no_grad():
                out = call.func(*call.args, **call.kwargs)
            if raw in _TAKES_OUT or any(True for _ in find_tensors(out)):
                raise self._late[id(found.first)]
            return out  # a shape or a type
        with torch.no_grad():
            out = call.apply_to(end.detach().clone())
        self._move_logits(call, (end, *call.args[1:]), out)
        if in_place:
            self._rename(end, out)
        return out

    def _move_logits(self, call: Call, args: Sequence[Any], out: Any) -> None:
        """Move the logits behind an end, or those of one item without its axis, as an operation moved its values."""
        self._ends.follow(call.func, call.name, args, call.kwargs, out)
        if isinstance(out, Tensor):
            self.know(self._ends.find(out).logits)

    def _follow_call(self, call: Call, carried: Sequence[Tensor]) -> Any:
        if call.name in ENDS:
            with torch.no_grad():
                out = call.apply_to(carried[0].detach().clone())  # it may work in place
            self._ends.follow(call.func, call.name, (carried[0],), {}, out)
            self._late[id(out)] = self.make_refusal(f"{call.name} before the end")
            return out
        if call.name in _MOVES:
            out = call.func(*call.args, **call.kwargs)
            self._move_logits(call, call.args, out)
            return self.know(out, raw=all(self.is_raw(t) for t in carried))
        if call.name in _DROPOUTS:
            given = call.get_arguments("input", "p", "training", "inplace")
            if given.get("training", True):
                raise self.make_refusal(f"{call.name} that goes on in evaluation")
            return given["input"]
        if call.name in self.rules:
            return self.rules[call.name](self, call)
        with torch.no_grad():
            out = call.func(*call.args, **call.kwargs)
        if call.name in _ASIDE or not any(True for _ in find_tensors(out)):  # a shape or a type
            return out
        raise self.make_refusal(call.name)

    def _renew_inputs(self, given: Any) -> Any:
        if isinstance(given, Tensor):
            return self._now.get(id(given), (given, given))[1]
        if type(given) in (list, tuple):
            return type(given)(self._renew_inputs(g) for g in given)
        return {k: self._renew_inputs(v) for k, v in given.items()} if type(given) is dict else given

    def _rename(self, changed: Tensor, out: Tensor) -> None:
        """Record the result of an in-place operation, which replaces the tensor for everyone who holds it."""
        for old, (kept, now) in list(self._now.items()):
            if now is changed:
                self._now[old] = (kept, out)
        self._now[id(changed)] = (changed, out)

    def carries(self, tensor: object) -> bool:
        """Tell whether a tensor depends on the input."""
        return id(tensor) in self._known

    def is_raw(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is the input itself, at most moved or scaled."""
        return self._known[id(tensor)].raw

    def find_affine(self, tensor: Tensor) -> Affine | None:
        """Return the convolution or linear layer that gave a tensor."""
        return self._known[id(tensor)].affine

    def know(self, out: Any, *, raw: bool = False, affine: Affine | None = None) -> Any:
        """Record that a result carries relevance."""
        for tensor in find_tensors(out):
            if tensor.is_floating_point():
                self._known[id(tensor)] = _Known(tensor, raw, affine)
        return out

    def hand_down(
        self,
        source: Tensor,
        value: Tensor,
        back: Callable[[Tensor], Tensor],
        *,
        raw: bool = False,
        affine: Affine | None = None,
    ) -> Tensor:
        """Return a result with its own backward pass."""
        out = cast(Tensor, _HandDown.apply(source, value.detach(), back))  # type: ignore[no-untyped-call]
        self.know(out, raw=raw, affine=affine)
        return out

    def apply_affine(
        self,
        rule: Rule,
        source: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        apply: Linear,
        value: Tensor | None = None,
        raw: bool = False,
        joins: bool = False,
    ) -> Tensor:
        """Apply a linear operation with its rule; `value` is the result where it differs from the sum."""
        rule.check_input(source.detach(), self.place)
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        step = Affine(rule, source, weight, bias, apply, self.ledger)
        if value is None:
            with torch.no_grad():
                value = apply(source.detach(), weight)
                value = value if bias is None else value + bias
        return self.hand_down(source, value, step.hand_down, raw=raw, affine=step if joins else None)

    @property
    def layer(self) -> str:
        """Return the dotted name of the module that is running."""
        return self.path[-1][0] if self.path else ""

    @property
    def place(self) -> str:
        """Describe the module that is running, for a message."""
        if not self.path:
            return "the network itself"
        return f"layer {self.layer!r} ({type(self.path[-1][1]).__name__})"

    def make_refusal(self, name: str) -> InputError:
        """Build the error for an operation without a rule."""
        return InputError(
            f"lrp: {self.place} calls {name}, for which there is no rule; take another method "
            "(saliency, occlusion), or a network without it"
        )

    def get_logits(self, out: Any) -> Tensor:
        """Return the output of the network without its softmax or sigmoid.

        Raises
        ------
        InputError
            The output is not one tensor, or no followed operation led to it.
        """
        if not isinstance(out, Tensor):
            raise InputError(
                f"lrp: expected a network that returns one tensor of logits, got {type(out).__name__}; wrap it"
            )
        out = self._ends.find(self._renew_inputs(out)).logits
        if not self.carries(out):
            raise InputError(
                "lrp: the logits could not be followed back to the input (a compiled or detached part?); "
                "give a network of torch operations"
            )
        return cast(Tensor, out)


def find_tensors(given: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for one in given:
            yield from find_tensors(one)
    elif isinstance(given, dict):
        yield from find_tensors(list(given.values()))
