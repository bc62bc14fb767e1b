"""Speed up a forward pass on a CPU, with the same result but for rounding.

Batch normalization is merged into its convolution, max pooling is compiled or comes before the ReLU, and large maps are
processed item by item.

A gradient ascent runs one frozen network thousands of times. Most of that time is spent in pooling, in normalizations
that only scale, and in allocating memory for large maps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brainmap.features.layers.outputs import SAME

T = TypeVar("T")

# Bytes of a map beyond which a batch goes through a convolution item by item: an allocator returns pages of large maps
# at once, and allocating them again took four times as long as the convolution itself.
LARGE = 4 << 20

Shortcut: TypeAlias = tuple[str, Callable[..., Any]]  # the operation's name, and its replacement


class OtherOperations(Exception):
    """Signal that the network runs other operations than when it was recorded; this is control flow, not an error."""


def name_operation(func: Callable[..., Any]) -> str:
    """Return the name of an operation, which a method, a function and their forms in place share."""
    raw = getattr(func, "__name__", "").split(".")[0].strip("_")
    return SAME.get(raw, raw)


@dataclass
class Record(TorchFunctionMode):
    """Record every operation of a forward pass, and the number of the first one that ran with gradients."""

    operations: list[Operation] = field(default_factory=list)
    graded: int | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.graded is None and torch.is_grad_enabled():
            self.graded = len(self.operations)
        out = func(*args, **kwargs)
        first = args[0] if args else kwargs.get("input")
        first = first if isinstance(first, Tensor) else None
        self.operations.append(Operation(name_operation(func), first, out, args, kwargs))
        return out


class ByShortcuts(TorchFunctionMode):
    """Run a forward pass with other operations in place of some of its own.

    Raises
    ------
    OtherOperations
        The network does not run the operations that were recorded.
    """

    def __init__(self, fast: Mapping[int, Shortcut]) -> None:
        super().__init__()
        self.fast, self.done = fast, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        number, self.done = self.done, self.done + 1
        if number not in self.fast:
            return func(*args, **(kwargs or {}))
        name, instead = self.fast[number]
        if name_operation(func) != name:
            raise OtherOperations
        return instead(func, *args, **(kwargs or {}))


def find_shortcuts(run: Callable[[], object]) -> Mapping[int, Shortcut]:
    """Record a forward pass, and choose what can be replaced before its first operation with gradients.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.MaxPool1d(2)).eval()
    >>> with torch.no_grad():
    ...     found = find_shortcuts(lambda: net(torch.zeros(1, 1, 8)))
    >>> [name for name, _ in found.values()]  # nothing comes before it if there is no such operation
    []
    """
    record = Record()
    with record:
        run()
    before = record.graded or 0
    # what runs with gradients stays as it is, but counts as what takes a result
    known = [op if i < before else replace(op, name="") for i, op in enumerate(record.operations)]
    return choose_shortcuts(known, (), compiled=False)


def run_by_shortcuts(run: Callable[[], T], fast: Mapping[int, Shortcut]) -> T:
    """Run a forward pass by shortcuts, or as it is where it runs other operations than when it was recorded."""
    if fast:
        try:
            with ByShortcuts(fast):
                return run()
        except OtherOperations:
            pass
    return run()


def choose_shortcuts(
    operations: Sequence[Operation], keep: Collection[int], *, compiled: bool = True
) -> Mapping[int, Shortcut]:
    """Choose the operations of a forward pass that can be replaced by faster ones, by their numbers.

    Parameters
    ----------
    operations : sequence of Operation
        Operations of one pass in eval mode.
    keep : collection of int
        Operations whose results must stay unchanged.
    compiled : bool
        Whether poolings are replaced by compiled kernels.
    """
    found: dict[int, Shortcut] = {}
    kernels: dict[int, tuple[Tensor, Tensor | None]] = {}
    for i, op in enumerate(operations):
        if not (isinstance(op.out, Tensor) and op.out.device.type == "cpu" and op.out.dtype == torch.float32):
            continue
        before = _find_source(operations, i)
        before = None if before in keep else before
        if op.name in ("conv1d", "conv2d") and len(op.args) > 1:
            kernels[i] = _get_kernel(op)
            found[i] = (op.name, _convolve_by_item(op, *kernels[i]))
        elif op.name == "batch_norm" and before in kernels:
            folded = _fold_norm(kernels[before], op)
            if folded is not None:
                kernels[before] = folded
                found[before] = (operations[before].name, _convolve_by_item(operations[before], *folded))
                found[i] = (op.name, _pass_on)
        elif op.name == "max_pool1d" and (size := _get_pool_size(op)) is not None:
            gated = before is not None and operations[before].name == "relu"
            if gated and before is not None:
                found[before] = ("relu", _pass_on)
            head = _find_head(operations, found, before, keep)
            padding = _find_single_padding(operations[head]) if compiled and head in kernels else None
            if padding is not None:
                found[head] = (operations[head].name, _make_filter_pool(*kernels[head], padding, size, gated))
                found[i] = (op.name, _pass_on)
            elif head in kernels:  # maps are joined once they are small
                found[head] = (
                    operations[head].name,
                    _convolve_by_item(operations[head], *kernels[head], _make_pool(size, gated, compiled)),
                )
                found[i] = (op.name, _pass_on)
            else:
                found[i] = (op.name, _make_pool(size, gated, compiled))
    return found


def _find_head(
    operations: Sequence[Operation], found: Mapping[int, Shortcut], place: int | None, keep: Collection[int]
) -> int:
    """Find the operation whose result reaches a place through operations that do nothing; -1 where there is none."""
    while place is not None and place in found and found[place][1] is _pass_on:
        place = _find_source(operations, place)
        place = None if place in keep else place
    return -1 if place is None else place


def _pass_on(_: Any, first: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return first


def _find_source(operations: Sequence[Operation], place: int) -> int | None:
    """Find the operation that gave this one its input, if no other takes it, apart from reading its shape."""
    value = operations[place].first
    if value is None or operations[place].out is value:
        return None
    givers = [i for i, op in enumerate(operations[:place]) if op.out is value]
    takers = [
        i
        for i, op in enumerate(operations)
        if not isinstance(op.out, int | torch.Size) and any(value is x for x in op.given)
    ]
    return givers[0] if len(givers) == 1 and takers == [place] else None


def _read_arguments(op: Operation, names: Sequence[str], **defaults: Any) -> dict[str, Any]:
    """Return the arguments of an operation by name; a list of one value, as of the only axis, becomes that value."""
    said = {**defaults, **dict(zip(names, op.args, strict=False)), **op.kwargs}
    return {key: v[0] if isinstance(v, tuple | list) and len(v) == 1 else v for key, v in said.items()}


def _fold_norm(kernel: tuple[Tensor, Tensor | None], norm: Operation) -> tuple[Tensor, Tensor] | None:
    """Merge a normalization into weight and bias of a convolution; None where it uses statistics of the batch."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    said = _read_arguments(norm, names, weight=None, bias=None, training=False, eps=1e-5)
    mean, variance = said.get("running_mean"), said.get("running_var")
    if said["training"] or not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return None
    weight, bias = kernel
    with torch.no_grad():
        scale = (variance.double() + said["eps"]).rsqrt()
        if said["weight"] is not None:
            scale = scale * said["weight"].double()
        shift = (0 if bias is None else bias.double()) - mean.double()
        offset = shift * scale + (0 if said["bias"] is None else said["bias"].double())
        scaled = weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return scaled.to(weight.dtype), offset.to(weight.dtype)


def _get_kernel(convolution: Operation) -> tuple[Tensor, Tensor | None]:
    """Return the weight and bias of a convolution."""
    args = convolution.args
    return args[1], args[2] if len(args) > 2 else convolution.kwargs.get("bias")


def _convolve_by_item(
    convolution: Operation, weight: Tensor, bias: Tensor | None, then: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Apply the convolution with these weights, and what follows it, item by item where maps would be large."""
    item = convolution.out.numel() * convolution.out.element_size()
    own = convolution.args[1]

    def convolve(func: Any, first: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(own, nn.Parameter) and args[0] is not own:  # a network chooses its filters by its input
            raise OtherOperations
        rest = {k: v for k, v in kwargs.items() if k not in ("weight", "bias")}
        parts = torch.split(first, 1) if len(first) > 1 and len(first) * item > LARGE else (first,)
        made = [func(part, weight, bias, *args[2:], **rest) for part in parts]
        made = made if then is None else [then(None, part) for part in made]
        return torch.cat(made) if len(made) > 1 else made[0]

    return convolve


def _get_pool_size(op: Operation) -> int | None:
    """Return the size of a pooling over adjacent windows without padding; None for any other."""
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    said = _read_arguments(op, names, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False)
    size = said["kernel_size"]
    plain = (
        isinstance(size, int) and 2 <= size <= 100 and said["stride"] in (None, size, [], ()) and said["padding"] == 0
    )
    first = op.first
    fits = first is not None and first.ndim == 3 and first.dtype == torch.float32
    return (
        size if plain and fits and said["dilation"] == 1 and not (said["ceil_mode"] or said["return_indices"]) else None
    )


def _find_single_padding(convolution: Operation) -> int | None:
    """Return the padding of a convolution that filters single channels at every sample; None for any other."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    said = _read_arguments(convolution, names, bias=None, stride=1, padding=0, dilation=1, groups=1)
    first, weight = convolution.first, said["weight"]
    if convolution.name != "conv1d" or first is None or first.ndim != 3 or weight.shape[1] != 1:
        return None
    plain = (said["stride"], said["dilation"], said["groups"]) == (1, 1, 1) and isinstance(said["padding"], int)
    return said["padding"] if plain else None


def _make_filter_pool(weight: Tensor, bias: Tensor | None, padding: int, size: int, gated: bool) -> Callable[..., Any]:
    """Apply the convolution with these weights to single channels, and the pooling that follows it."""
    filters = weight.detach().reshape(len(weight), -1).contiguous()
    offset = filters.new_zeros(len(filters)) if bias is None else bias.detach().contiguous()

    def filter_pool(_: Any, first: Tensor, *args: Any, **kwargs: Any) -> Any:
        return _FilterPool.apply(first, filters, offset, padding, size, gated)  # type: ignore[no-untyped-call]

    return filter_pool


def _make_pool(size: int, gated: bool, compiled: bool) -> Callable[..., Any]:
    def pool(_: Any, first: Tensor, *args: Any, **kwargs: Any) -> Any:
        if compiled:
            return _Pool.apply(first, size, gated)  # type: ignore[no-untyped-call]
        largest = torch.max_pool1d(first, size)
        return largest.relu_() if gated else largest

    return pool


class _Pool(torch.autograd.Function):
    """Pool maxima of adjacent windows, above 0 where `gated`; the gradient goes to the first maximum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, size: int, gated: bool) -> Tensor:
        pool, _ = _compile_kernels()
        frames = values.shape[-1] // size
        out = torch.empty(*values.shape[:-1], frames)
        place = torch.empty(*values.shape[:-1], frames, dtype=torch.int8)
        flat = values.detach().contiguous().reshape(-1, values.shape[-1]).numpy()
        pool(flat, size, gated, out.view(-1, frames).numpy(), place.view(-1, frames).numpy())
        ctx.save_for_backward(place)
        ctx.size, ctx.shape = size, values.shape
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _, spread = _compile_kernels()
        (place,) = ctx.saved_tensors
        frames, length = place.shape[-1], ctx.shape[-1]
        out = torch.empty(ctx.shape)
        given = gradients[0].contiguous().reshape(-1, frames).numpy()
        spread(given, place.view(-1, frames).numpy(), ctx.size, out.view(-1, length).numpy())
        return out, None, None


class _FilterPool(torch.autograd.Function):
    """Filter sounds of one channel and pool the maxima, as a convolution and `_Pool` do; filters get no gradient."""

    @staticmethod
    def forward(
        ctx: Any, sounds: Tensor, filters: Tensor, offset: Tensor, padding: int, size: int, gated: bool
    ) -> Tensor:
        from brainmap.features.layers.pool_kernels import filter_pool

        n, length = len(sounds), sounds.shape[-1]
        padded = torch.nn.functional.pad(sounds.detach().reshape(n, length), (padding, padding))
        frames = (padded.shape[1] - filters.shape[1] + 1) // size
        out = torch.empty(n, len(filters), frames)
        place = torch.empty(n, len(filters), frames, dtype=torch.int8)
        filter_pool(padded.numpy(), filters.numpy(), offset.numpy(), size, gated, out.numpy(), place.numpy())
        ctx.save_for_backward(place, filters)
        ctx.size, ctx.padding, ctx.shape = size, padding, sounds.shape
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        from brainmap.features.layers.pool_kernels import spread_filtered

        place, filters = ctx.saved_tensors
        length, padding = ctx.shape[-1], ctx.padding
        out = torch.empty(len(place), length + 2 * padding)
        spread_filtered(gradients[0].contiguous().numpy(), place.numpy(), filters.numpy(), ctx.size, out.numpy())
        return out[:, padding : padding + length].reshape(ctx.shape), None, None, None, None, None


_COMPILED: list[tuple[Callable[..., None], Callable[..., None]]] = []


def _compile_kernels() -> tuple[Callable[..., None], Callable[..., None]]:
    """Compile the kernels at their first use, since importing numba takes longer than a small maximization."""
    if not _COMPILED:
        from brainmap.features.layers.pool_kernels import pool, spread

        _COMPILED.append((pool, spread))
    return _COMPILED[0]


@dataclass(frozen=True)
class Operation:
    """Describe one operation of a forward pass: its name, its arguments and its result."""

    name: str
    first: Tensor | None
    out: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> list[Any]:
        """List all arguments, including those in lists of tensors."""
        every = [*self.args, *self.kwargs.values()]
        return [x for one in every for x in (one if isinstance(one, tuple | list) else (one,))]
