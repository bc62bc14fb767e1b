"""Find where in a network activation maximization reads activations: around a nonlinearity, never after a softmax.

A forward pass is a sequence of operations, functions as well as modules. A place is the result of the n-th operation,
and reading it ends the pass there: only layers below the place run, so that short inputs suffice for early layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.layers.ear import (
    NONLINEARITIES,
    NORMS,
    SOFTMAXES,
    WEIGHTED,
    Ear,
    attach_ear,
)
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.names import is_function_name
from brainmap.features.layers.outputs import ENDS, MOVES, passes_end_on
from brainmap.features.layers.running import evaluating
from brainmap.features.layers.selection import choose_layers
from brainmap.features.layers.shortcuts import (
    ByShortcuts,
    Operation,
    OtherOperations,
    Record,
    Shortcut,
    choose_shortcuts,
)

_POOLS = (
    "max_pool",
    "avg_pool",
    "adaptive_max_pool",
    "adaptive_avg_pool",
    "lp_pool",
    "dropout",
    "feature_dropout",
)
_WEIGHTINGS = frozenset(
    ("linear", "conv1d", "conv2d", "conv3d", "convolution", "matmul", "addmm", "mm", "bmm", "einsum")
)


@dataclass(frozen=True)
class Site:
    """Hold the numbers of the operations around a layer's nonlinearity.

    `before` and `after` are the same where there is none; `shape` is that of one item (units first); `order` lists the
    axes of the network's own tensors that are items, units and positions; `head` is true where no weighted layer
    follows; `texture` is the number of the last operation up to `after` whose result has positions, or None; `fast`
    maps operations to their replacements; `notes` lists what the user should be told.
    """

    layer: str
    before: int
    after: int
    shape: tuple[int, ...]
    head: bool
    order: tuple[int, ...]
    texture: int | None = None
    fast: Mapping[int, Shortcut] = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = ()

    def arrange(self, value: Tensor) -> Tensor:
        """Arrange the result of an operation of the site as (items, units, positions)."""
        plain = value.ndim != len(self.order) or self.order == tuple(range(value.ndim))
        return value if plain else value.permute(self.order)


class _Reached(Exception):
    """End a forward pass that need not go on; this is control flow, not an error."""


class _Until(ByShortcuts):
    """Keep the results of some operations of a forward pass, and end it at the last of them."""

    def __init__(self, places: Sequence[int], fast: Mapping[int, Shortcut]) -> None:
        super().__init__(fast)
        self.found: dict[int, Any] = dict.fromkeys(places)
        self.last = max(places)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        number = self.done
        out = super().__torch_function__(func, types, args, kwargs)
        if number in self.found:
            # a later operation may change its input in place
            kept = isinstance(out, Tensor) and number < self.last
            self.found[number] = out.clone() if kept else out
        if number == self.last:
            raise _Reached
        return out


@dataclass
class _Record(Record):
    """Record every operation of a forward pass, and the operations between which the wanted module lies."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)  # of results, which later operations may change
    given: list[tuple[int, Any]] = field(default_factory=list)  # number of operations done, value

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = super().__torch_function__(func, types, args, kwargs)
        self.shapes.append(tuple(out.shape) if isinstance(out, Tensor) else ())
        return out

    def hook(self, _: nn.Module, __: Any, out: Any) -> None:
        self.given.append((len(self.operations), out))

    def find_producer(self, value: Any, before: int) -> int | None:
        """Find the number of the operation below `before` that gave `value`."""
        found = [i for i, op in enumerate(self.operations[:before]) if op.out is value]
        return found[-1] if found else None

    def find_last_map(self, place: int) -> int | None:
        """Find the number of the last operation up to `place` that gave (n, channels, positions)."""
        found = [
            i
            for i, op in enumerate(self.operations[: place + 1])
            if isinstance(op.out, Tensor)
            and op.out.ndim >= 3
            and op.out.is_floating_point()
            and len(op.out) == 1
            and min(op.out.shape[1:]) > 1
        ]
        return found[-1] if found else None

    def find_consumer(self, place: int) -> int | None:
        """Find the number of the first operation that takes the result of `place`."""
        value = self.operations[place].out
        later = (i for i, op in enumerate(self.operations) if i > place and op.first is value and op.out is not None)
        return next((i for i in later if isinstance(self.operations[i].out, Tensor)), None)


@contextmanager
def freeze(model: nn.Module, device: torch.device | str) -> Iterator[nn.Module]:
    """Put the model on `device` in eval mode without parameter gradients, and restore it afterwards."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with evaluating(model, device):
        try:
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield model
        finally:
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)


def read(model: nn.Module, patterns: Tensor, *places: int, fast: Mapping[int, Shortcut] | None = None) -> list[Tensor]:
    """Read the results of operations `places` in a pass that ends at the last of them, by `fast` where given."""
    until = _Until(places, fast or {})
    try:
        with until:
            model(patterns)
    except OtherOperations:
        return read(model, patterns, *places)
    except _Reached:
        values = [until.found[place] for place in places]
        if all(isinstance(value, Tensor) for value in values):
            return values
    except (RuntimeError, ValueError, IndexError) as error:
        raise _explain_refusal(patterns, error) from error
    raise InputError("activation maximization: the network runs other operations for this input; give another length")


def _explain_refusal(patterns: Tensor, error: Exception) -> InputError:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    shape = tuple(patterns.shape[1:])
    return InputError(f"activation maximization: the network refuses inputs {shape}: {said}; give length=")


def find_site(model: nn.Module, layer: str, example: Tensor, *, compiled: bool = True) -> Site:
    """Find the operations around a layer's nonlinearity by recording one forward pass.

    Parameters
    ----------
    model : torch.nn.Module
        The network in eval mode.
    layer : str
        A module's dotted name, `conv#2` for its second call; "output" is the output of the network.
    example : Tensor (1, c, ...)
    compiled : bool
        Whether compiled kernels may take the place of poolings.

    Raises
    ------
    InputError
        There is no such layer or call of it, the network refuses the input, or a softmax cannot be taken off.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.Softmax(1))
    >>> site = find_site(net, "output", torch.zeros(1, 1, 8))
    >>> site.shape, site.notes
    ((4,), ('softmax unwrapped: the logits, its input, are maximized',))
    """
    modules = dict(model.named_modules())
    plain, _, number = layer.partition("#")
    if layer != OUTPUT and plain not in modules and not is_function_name(layer):
        names = [n for n in modules if n]
        raise InputError(
            f"layer: no {layer!r} in the network{suggest_word(layer, names)}; it has {list_some(names, most=24)}"
        )
    target = model if layer == OUTPUT else modules.get(plain)
    record = _watch(model, target, plain, example)
    call = int(number) if number.isdigit() else 1  # a module that is called again has the calls `c` and `c#2`
    if not 1 <= call <= len(record.given):
        raise InputError(
            f"layer {layer!r}: {plain!r} is called {len(record.given)} times in a forward pass (projections inside an "
            "attention are one operation with it and do not count); name another layer"
        )
    done, value = record.given[call - 1]
    squeezed = layer == OUTPUT and isinstance(value, Tensor) and value.ndim == 1  # for one item, all axes hold units
    if not isinstance(value, Tensor) or (value.ndim < 2 and not squeezed):
        raise InputError(
            f"layer {layer!r}: expected a tensor (n, units, ...), got {_describe_value(value)}; name another layer"
        )
    place = record.find_producer(value, done)
    if place is None:
        raise InputError(
            f"layer {layer!r}: its operations cannot be followed (compiled, scripted?); give the plain module"
        )
    notes: tuple[str, ...] = ()
    ends = ENDS if layer == OUTPUT else SOFTMAXES
    end = _find_end(record, place, ends)
    operation = record.operations[end]
    logits = record.find_producer(operation.first, end) if operation.name in ends else None
    _refuse_softmax(layer, value if logits is None else record.operations[logits].out)
    if logits is not None:
        place, notes = logits, (f"{operation.name} unwrapped: the logits, its input, are maximized",)
    if squeezed and record.operations[place].name == "squeeze":
        place = cast(int, record.find_producer(record.operations[place].first, place))
    order = _find_order(model, layer, example, record.operations[place].out, record.shapes[place])
    head = not any(op.name in _WEIGHTINGS for op in record.operations[place + 1 :])
    before, after = (
        (place, place)
        if head
        else _find_nonlinearity(record, place, follows=target is None or isinstance(target, WEIGHTED))
    )
    texture = record.find_last_map(after) if order == tuple(range(len(order))) else None  # channels are second then
    kept = {one for one in (before, after, texture) if one is not None}
    fast = choose_shortcuts(record.operations[: max(kept) + 1], kept, compiled=compiled)
    shape = tuple(record.shapes[place][k] for k in order[1:])
    return Site(layer, before, after, shape, head, order, texture, fast, notes)


def _find_end(record: _Record, place: int, ends: Collection[str]) -> int:
    """Find the number of the softmax or sigmoid whose values, at most moved or logarithms, are those of `place`.

    Raises
    ------
    InputError
        The probabilities are chosen from or reordered, so that units of the logits are other units than those of the
        output.
    """
    steps: list[Operation] = []
    end: int | None = place
    while end is not None and record.operations[end].name not in ends:
        steps.append(record.operations[end])
        end = record.find_producer(steps[-1].first, end)
    kind = "" if end is None else record.operations[end].name
    if end is None or not all(passes_end_on(op.name, kind, op.args, op.kwargs) for op in steps):
        return place
    for op in steps:
        if op.name in MOVES and not torch.equal(cast(Tensor, op.first).flatten(), op.out.flatten()):
            raise InputError(
                f"activation maximization: the network ends with {kind}, of which {op.name} then chooses or reorders "
                "values, so that it cannot be taken off; let the network return logits"
            )
    return end


def _find_order(
    model: nn.Module, layer: str, example: Tensor, value: Tensor, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Find the axes of a layer's tensor that are items, units and positions; raise an error if they are unknown."""
    (found,) = choose_layers(model, example, [layer])[1]
    if len(found.shape) == 1 and len(shape) > 2:  # logits that are squeezed only after a softmax
        units = [k for k in range(1, len(shape)) if shape[k] == found.shape[0]][:1]
        return (0, *units, *(k for k in range(1, len(shape)) if k not in units))
    found.arranged(value, len(example))
    return found.order


def _watch(model: nn.Module, target: nn.Module | None, name: str, example: Tensor) -> _Record:
    """Record a forward pass and the calls of a module, or else of the function of that name."""
    record = _Record()

    def note_function(called: str, out: Tensor) -> None:
        if called.partition("#")[0] == name:
            record.given.append((len(record.operations), out))

    with torch.no_grad(), ExitStack() as stack:
        if target is not None:
            stack.callback(target.register_forward_hook(record.hook).remove)
        else:
            ear = Ear([], stage="before", gradient=False, cut=False)
            ear.hears_functions, ear.opens_attentions, ear.note_function = True, False, note_function
            stack.enter_context(attach_ear(model, ear))
        try:
            with record:
                model(example)
        except (RuntimeError, ValueError, IndexError) as error:
            raise _explain_refusal(example, error) from error
    if target is not None and not record.given and isinstance(target, WEIGHTED):
        return _watch(model, None, name, example)  # its weights may be used by a function
    return record


def _find_nonlinearity(record: _Record, place: int, *, follows: bool) -> tuple[int, int]:
    """Find the operations before and after the nonlinearity of a layer whose own result is `place`.

    The layer either contains its nonlinearity (followed by pooling and dropout at most), or the nonlinearity follows
    after normalizations at most, which only counts for a convolution or linear module.
    """
    back: int | None = place
    while back is not None and record.operations[back].name.startswith(_POOLS):
        back = record.find_producer(record.operations[back].first, back)
    if back is not None and record.operations[back].name in NONLINEARITIES:
        source = record.find_producer(record.operations[back].first, back)
        return (place, place) if source is None else (source, place)
    ahead: int | None = place
    while follows and ahead is not None:
        behind = record.find_consumer(ahead)
        if behind is None or record.operations[behind].name not in NORMS | NONLINEARITIES:
            break
        if record.operations[behind].name in NONLINEARITIES:
            return ahead, behind
        ahead = behind
    return place, place


def _refuse_softmax(layer: str, value: Any) -> None:
    if not isinstance(value, Tensor) or value.ndim != 2 or value.shape[1] < 2 or not value.isfinite().all():
        return
    one = torch.ones(len(value), device=value.device, dtype=value.dtype)
    soft = bool((value >= 0).all()) and torch.allclose(value.sum(1), one, atol=1e-4)
    log_soft = bool((value <= 0).all()) and torch.allclose(value.exp().sum(1), one, atol=1e-4)
    if soft or log_soft:
        raise InputError(
            f"layer {layer!r}: expected logits, got a {'softmax' if soft else 'log-softmax'}, which saturates and "
            "cannot be taken off; name the layer before it, or let the network return logits"
        )


def _describe_value(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
