"""Record layers with hooks at modules, and with every operation of a forward pass between them.

Record the activations of layers without changing the model. `conv3` is a convolution with its normalization and
nonlinearity, before pooling and dropout, regardless of who wrote the network and of whether its nonlinearity is a
module or a function: while a model runs, tensors are followed from operation to operation.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brainmap.checks import check_choice, list_some, suggest_word
from brainmap.errors import InputError, RunError
from brainmap.features.layers.axes import AxisNames
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.names import FUNCTIONS, find_owner, group_paths, is_function_name, name_call, name_inside
from brainmap.features.layers.outputs import (
    MOVES,
    SAME,
    Ends,
    find_main_path,
    find_tensors,
    replace_tensors,
)
from brainmap.features.layers.receptive_fields import Geometry
from brainmap.types import Stage

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
NORMS = frozenset(
    {
        "batch_norm",
        "layer_norm",
        "group_norm",
        "instance_norm",
        "local_response_norm",
        "dropout",
    }
)
NONLINEARITIES = frozenset({
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish",
    "softplus", "softsign", "tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid", "logsigmoid",
    "tanhshrink", "softshrink", "hardshrink", "threshold",
})  # fmt: skip
_NOTHING = object()
_ATTENTION = "multi_head_attention_forward"  # the projections of an attention, none of which is called as a module
SOFTMAXES = frozenset({"softmax", "log_softmax"})


class HiddenState(nn.Identity):
    """Mark a hidden state of a network as a layer; it passes the state on unchanged.

    Parameters
    ----------
    units_axis : int, optional
        The axis that holds the units, where it is known.
    """

    def __init__(self, units_axis: int | None = None) -> None:
        super().__init__()
        self.units_axis = units_axis


@dataclass
class Heard:
    """Hold the state of a tapped layer during one forward pass."""

    name: str
    module: nn.Module
    tensor: Tensor
    passed: Tensor  # the tensor that the network continues with: the same, or a copy
    moving: bool  # a normalization or nonlinearity may still follow
    parameters: set[nn.Parameter] = field(default_factory=set)
    path: str = ""  # of the tensor in the output of the module
    kinds: tuple[str, ...] = ()  # of a function; otherwise the module has them

    @property
    def is_weighted(self) -> bool:
        """Tell whether it is a convolution or linear layer, to which its normalization and nonlinearity belong."""
        return bool(self.kinds) or isinstance(self.module, WEIGHTED)


class _Follow(TorchFunctionMode):
    """Intercept every operation of one forward pass."""

    def __init__(self, ear: Ear) -> None:
        super().__init__()
        self.ear = ear

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.ear.follow_operation(func, args, kwargs or {})


class Ear:
    """Record the outputs of the named modules of one model during its forward passes."""

    def __init__(self, names: Collection[str], *, stage: Stage, gradient: bool, cut: bool) -> None:
        self.names, self.stage, self.gradient, self.cut = names, stage, gradient, cut
        self.values: dict[str, Tensor] = {}
        self.geometry: Geometry | None = None
        self.axes: AxisNames | None = None
        self.heard: list[Heard] = []
        self.logits: Tensor | None = None
        self.outputs: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}
        self.taken_off = ""
        self.follows = True
        self._ends = Ends()
        self._watch: _Follow | None = None
        self.hears_functions = any(is_function_name(name) for name in names)
        """True where calls of functions are wanted by name, or all of them (`names` is empty)."""
        self.opens_attentions = True
        self.note_function: Callable[[str, Tensor], None] | None = None
        self._owners: dict[int, str] = {}
        self._last: Any = _NOTHING
        self._inside: list[tuple[str, nn.Module]] = []

    def start(self, *_: Any) -> None:
        self.values.clear()
        self.heard.clear()
        self._calls.clear()
        self._inside.clear()
        self._last = _NOTHING
        self.outputs, self.logits = {}, None  # those of the pass before, which may be large
        if self.cut:
            torch.set_grad_enabled(False)
        if not self.follows:
            return
        self._watch = _Follow(self)
        self._watch.__enter__()  # type: ignore[no-untyped-call]

    def stop(self, *_: Any) -> None:
        self._ends.clear()
        if self._watch is not None:
            self._watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._watch = None

    def follow_operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        raw = getattr(func, "__name__", "").split(".")[0]
        name = raw.strip("_")
        name = SAME.get(name, name)
        first = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("input")
        mine = [h for h in self.heard if h.passed is first] if first is not None else []
        changes = raw == f"{name}_" or raw == "__setitem__" or raw.startswith("__i") or bool(kwargs.get("inplace"))
        changes = changes and name not in ("requires_grad", "detach")
        moving = [h for h in mine if h.moving and self._carries(name)]
        seen = args
        overwritten = None
        if changes and isinstance(first, Tensor):
            self._save_from(first, moving)
            overwritten = self._ends.keep(name, first)
            if name in MOVES and args:  # the operation changes the shape of its argument
                seen = (self._copy_roles(first, first.view_as(first)), *args[1:])
        out = self._call(name, func, args, kwargs)
        if self.axes is not None:
            self.axes.follow(name, seen, kwargs, out)
        if self.geometry is not None:
            self.geometry.follow(name, seen, kwargs, out)
        self._ends.follow(func, name, args, kwargs, out, overwritten)
        for h in moving:
            h.tensor = h.passed = out
            h.moving = name in NORMS
            h.parameters.update(p for p in (*args, *kwargs.values()) if isinstance(p, nn.Parameter))
        if moving and self.gradient:
            passed = self._store_root(moving)
            self._ends.rename(out, passed)
            out = passed
        return self._hear_function(name, args, kwargs, out) if name in FUNCTIONS and self._owners else out

    def _call(self, name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call an operation; inside an attention, follow the projections whose weights belong to wanted layers."""
        if name != _ATTENTION or not self.opens_attentions:
            return func(*args, **kwargs)
        weights = (id(one) for one in (*args, *kwargs.values()) if isinstance(one, nn.Parameter))
        if not (self.hears_functions or any(one in self._owners for one in weights)):
            return func(*args, **kwargs)
        given = inspect.signature(_open_attention()).bind(*args, **kwargs).arguments
        last, self._last = self._last, given["out_proj_weight"]  # what it gives has items and positions in one row
        with _Follow(self):
            out, shares = _open_attention()(*args, **kwargs)
        self._last = last
        projection = (None, given["out_proj_weight"], given.get("out_proj_bias"))
        return self._hear_function("linear", projection, {}, out), shares

    def _hear_function(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Any:
        """Record a convolution or linear layer that is a function, under its module or under that of its weights."""
        where, module = self._inside[-1] if self._inside else ("", None)
        weight = args[1] if len(args) > 1 else kwargs.get("weight")
        if isinstance(module, (*WEIGHTED, *RECURRENT, HiddenState)) or weight is self._last:
            return out
        called = name_call(self._owners.get(id(weight)) or name_inside(where, name), self._calls)
        if self.note_function is not None:
            self.note_function(called, out)
        if self.names and called not in self.names:
            return out
        heard = Heard(called, nn.Module(), out, out, True, kinds=FUNCTIONS[name])
        heard.parameters.update(one for one in (*args, *kwargs.values()) if isinstance(one, nn.Parameter))
        self.heard.append(heard)
        if not self.gradient:
            return out
        passed = self._store_root([heard])
        self._ends.rename(out, passed)
        return passed

    def watch_modules(self, modules: Mapping[str, nn.Module]) -> Iterator[Callable[[], None]]:
        """Hook modules so that functions are recorded under the module that calls them; yield what removes each hook.

        Where no function is wanted by name, only convolutions and linear layers are hooked, whose weights a function
        may use in their place, as an attention does.
        """
        weighted = {name: one for name, one in modules.items() if isinstance(one, WEIGHTED)}
        if not self.hears_functions and not any(name.partition("#")[0] in weighted for name in self.names):
            return
        self._owners = {id(one.weight): name for name, one in reversed(weighted.items()) if name} or {0: ""}
        for name, module in (modules if self.hears_functions else weighted).items():
            yield module.register_forward_pre_hook(self._enter(name), prepend=True).remove
            yield module.register_forward_hook(self._leave, always_call=True).remove

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, _: self._inside.append((name, module))

    def _leave(self, *_: Any) -> None:
        if self._inside:
            self._inside.pop()

    def _save_from(self, changed: Tensor, moving: Sequence[Heard]) -> None:
        """Keep layers as they are before a change in place, whether of their own tensor or of another view of it."""
        for h in self.heard:
            if h in moving or not (h.passed is changed or _share_memory(h.tensor, changed)):
                continue
            h.moving = False
            if not self.gradient:  # with gradient the network already continues with a copy
                h.tensor = self._copy_roles(h.tensor, h.tensor.clone())

    def _copy_roles(self, old: Tensor, new: Tensor) -> Tensor:
        """Give a copy the axes, the places and the logits of its original."""
        self._ends.rename(old, new)
        if self.geometry is not None:
            self.geometry.set(new, self.geometry.of(old))
        if self.axes is not None:
            self.axes.set(new, self.axes.of(old))
        return new

    def _carries(self, name: str) -> bool:
        return name in NORMS or (name in NONLINEARITIES and self.stage == "after")

    def _store_root(self, heard: Sequence[Heard]) -> Tensor:
        """Store the tensor for which gradients are taken, and pass on a copy, since an in-place change may follow."""
        tensor = heard[0].tensor
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
            if self.cut:
                torch.set_grad_enabled(True)
        passed = tensor.clone()
        for h in heard:
            h.tensor, h.passed = tensor, passed
        return passed

    def hear(self, name: str, paths: Collection[str] = ("",)) -> Callable[[nn.Module, Any, Any], Any]:
        """Make the hook that records a module; each path is that of a tensor in its output, and "" stands for it."""

        def hook(module: nn.Module, _: Any, out: Any) -> Any:
            called = name_call(name, self._calls)
            found = find_tensors(out)
            passed: dict[int, Tensor] = {}
            for path in paths:
                place = path or find_main_path(module, found)
                if place is None or (not path and not found):
                    raise self._several(called, module, out, found)
                if place not in found:
                    continue  # that it took no part is said at the end
                tensor = found[place]
                whole = name_inside(called, path)
                weighted = isinstance(module, WEIGHTED)
                self.heard.append(Heard(whole, module, tensor, tensor, weighted, set(module.parameters()), path))
                if not self.follows:  # nobody would tell of a change in place
                    self.heard[-1].tensor = tensor.clone()
                if self.gradient:
                    passed[id(tensor)] = self._store_root([h for h in self.heard if h.passed is tensor])
            return replace_tensors(out, passed) if passed else None

        return hook

    def _several(self, name: str, module: nn.Module, out: Any, found: Mapping[str, Tensor]) -> InputError:
        who = f"layer {name!r} ({type(module).__name__})" if name else "network"
        kind = f"{type(out).__name__} of {len(found)} tensors" if found else type(out).__name__
        inside = [f"{name or OUTPUT}.{path}" for path in found]
        return InputError(f"{who}: expected one tensor, got {kind}; name {list_some(inside, 6) or 'another layer'}")

    def finish(self, module: nn.Module, __: Any, out: Any) -> None:
        """Find the logits in the output of the network, and hand over what was recorded."""
        found = find_tensors(out)
        main = find_main_path(module, found)
        if not found or (main is None and OUTPUT in self.names):
            raise self._several("", module, out, found)
        self.outputs = {} if isinstance(out, Tensor) else {f"{OUTPUT}.{path}": one for path, one in found.items()}
        self.logits = None
        if main is not None:
            end = self._ends.find(found[main])
            self.logits, self.taken_off = end.logits, end.kind
            for h in self.heard if end.kind else ():
                own = self._ends.find(h.tensor)
                if h.is_weighted and own.first is end.first:  # it would hold its nonlinearity, the end
                    h.tensor = own.logits
        self.values.update(self.outputs)
        self.values.update({h.name: h.tensor for h in self.heard})
        if OUTPUT in self.names and self.logits is not None:
            narrow = self.logits.dtype in (torch.float16, torch.bfloat16)
            self.values[OUTPUT] = self.logits.float() if narrow else self.logits
        missing = [name for name in self.names if name not in self.values]
        if missing:
            raise RunError(f"layers {list_some(missing)} took no part in this forward pass; leave them out")


def _share_memory(one: Tensor, other: Tensor) -> bool:
    try:
        return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() != 0
    except (NotImplementedError, RuntimeError):  # a sparse tensor has no storage
        return False


@functools.cache
def _open_attention() -> Callable[..., Any]:
    """Copy torch's attention without the lines that hand it over as one operation, so that its parts are followed."""
    function = nn.functional.multi_head_attention_forward
    known = {**vars(nn.functional), "has_torch_function": lambda *_: False}
    return types.FunctionType(function.__code__, known, function.__name__, function.__defaults__, function.__closure__)


@contextmanager
def attach_ear(model: nn.Module, ear: Ear) -> Iterator[None]:
    """Attach an ear to a model for every forward pass; no hook is left when the block ends."""
    modules = dict(model.named_modules())
    plain = not ear.gradient and ear.axes is None and ear.geometry is None
    if plain and all(isinstance(modules.get(name), HiddenState) for name in ear.names) and ear.names:
        ear.follows = False  # hidden states are what their modules give, whatever operations follow
    with ExitStack() as stack:
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        stack.callback(ear.stop)
        stack.callback(model.register_forward_pre_hook(ear.start, prepend=True).remove)
        for remove in ear.watch_modules(modules) if ear.follows else ():
            stack.callback(remove)
        for name, paths in group_paths(ear.names, modules).items():
            stack.callback(modules[name].register_forward_hook(ear.hear(name, paths)).remove)  # once, or calls double
        stack.callback(model.register_forward_hook(ear.finish, prepend=True).remove)
        # called even when the forward pass fails, so that no operation is intercepted afterwards
        stack.callback(model.register_forward_hook(ear.stop, always_call=True).remove)
        yield


@contextmanager
def tap(
    model: nn.Module,
    names: str | Sequence[str],
    *,
    stage: Stage = "after",
    gradient: bool = False,
    cut: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Record layers of a model; when the block ends no hook is left, even after an error.

    Parameters
    ----------
    model : torch.nn.Module
    names : str or sequence of str
        Dotted module names; "output" means the logits: the output of the network before its softmax. A convolution or
        linear module stands for itself with its normalization and nonlinearity, any other module for its own output.
    stage : {"after", "before"}
        Record before or after the nonlinearity that follows.
    gradient : bool
        Keep tensors for which gradients can be taken; where nothing before them requires a gradient, the graph begins
        at them.
    cut : bool
        With `gradient`: run everything below the first tapped layer without gradient, so that only the rest
        of the network is differentiated.

    Yields
    ------
    dict of str to Tensor
        It is filled anew by every forward pass of the model.

    Raises
    ------
    InputError
        No such layer.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.MaxPool1d(2))
    >>> with tap(net, "0") as heard, torch.no_grad():
    ...     _ = net(torch.zeros(1, 1, 8))
    >>> heard["0"].shape, bool((heard["0"] >= 0).all())
    (torch.Size([1, 2, 6]), True)
    """
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    check_choice(stage, get_args(Stage), "stage")
    known = [name for name, _ in model.named_modules() if name]
    for name in wanted:
        outer = name == OUTPUT or name.startswith(f"{OUTPUT}.") or is_function_name(name)
        if not outer and not find_owner(name, known)[0]:
            hint = suggest_word(name, known)
            raise InputError(f"layer: no {name!r} in the network{hint}; it has {list_some(known, 24)}")
    ear = Ear(wanted, stage=stage, gradient=gradient, cut=cut)
    with attach_ear(model, ear):
        yield ear.values
