"""Run an exported program module by module, under the names that its modules had before it was exported.

`torch.export` keeps for every operation the modules that it lay in (`nn_module_stack`). The program is taken apart
along them, and convolutions, linear layers and batch normalizations become modules of torch again, so that everything
that knows these works on them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map, tree_unflatten

from brainmap.errors import InputError
from brainmap.features.layers.ear import HiddenState

_CONVOLUTIONS: dict[str, Any] = {"conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d}


class ExportedNetwork(nn.Module):
    """Wrap an exported program as a network whose mode can be set, although the program stays as it was exported.

    Parameters
    ----------
    program : torch.export.ExportedProgram
    """

    def __init__(self, program: Any) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own classes
            whole = torch.export.unflatten(program)
            signature = program.module_call_graph[0].signature
            self._outputs = tree_unflatten(range(signature.out_spec.num_leaves), signature.out_spec)
        self._takes = _find_limits(program)
        self._parameters, self._buffers = whole._parameters, whole._buffers
        self.graph, constants = whole.graph, set(vars(whole)) - set(vars(self))
        vars(self).update({name: vars(whole)[name] for name in constants if isinstance(vars(whole)[name], Tensor)})
        for name, child in whole.named_children():
            self.add_module(name, _restore(child))
        for module in self.modules():
            for node in getattr(module, "graph", fx.Graph()).nodes:
                node.meta = {}  # sizes and stacks of the export, which are not needed any more
        for module in self.modules():
            module.training = False

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Record the mode; the program's own dropout and normalization were fixed when it was exported."""
        self.training = mode
        return self

    def extra_repr(self) -> str:
        """Describe the operations of the program in a digest, because results depend on them."""
        graphs = [f"{name}: {module.graph}" for name, module in self.named_modules() if hasattr(module, "graph")]
        return f"operations={hashlib.sha256(' '.join(graphs).encode()).hexdigest()[:16]}"

    def forward(self, sounds: Tensor) -> Any:
        """Compute the output of sounds `(n, c, ...)`.

        Raises
        ------
        InputError
            The sizes differ from those for which it was exported.
        """
        shape = tuple(sounds.shape)
        fits = len(shape) == len(self._takes) and all(
            low <= n <= high for n, (low, high) in zip(shape, self._takes, strict=True)
        )
        if not fits:
            wanted = ", ".join(map(_format_limits, self._takes))
            raise InputError(
                f"network: refuses sounds of shape {shape}, since it was exported for ({wanted}); export it for this "
                "length with a dynamic first dimension: export(model, (x,), "
                "dynamic_shapes=({0: torch.export.Dim('n')},))"
            )
        found = _run_graph(self, sounds)
        return tree_map(lambda k: found[k], self._outputs)


class _Part(nn.Module):
    """Run a part of an exported program, which becomes a subclass of this and of its own class."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the operations; arguments come in the order of the graph, or by name."""
        names: Any = self.arg_names
        return _run_graph(self, *args, *(kwargs[name] for name in names[len(args) :] if name in kwargs))


def _run_graph(module: nn.Module, *args: Any) -> Any:
    """Run the operations of a program or a part of it; errors stay as they are, without the graph in their message."""
    graph: Any = module.graph
    interpreter = fx.Interpreter(module, graph=graph)
    interpreter.extra_traceback = False
    return interpreter.run(*args, enable_io_processing=False)


def _find_limits(program: Any) -> tuple[tuple[int, float], ...]:
    """Find the least and the greatest size of each axis of a program's input.

    Raises
    ------
    InputError
        The program has several inputs.
    """
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise InputError(f"network: expected a program with one input, the sounds, got {len(names)} inputs")
    node = next(one for one in program.graph.nodes if one.name == names[0])
    limits: list[tuple[int, float]] = []
    for size in node.meta["val"].shape:
        known = None if isinstance(size, int) else program.range_constraints.get(size.node.expr)
        if isinstance(size, int):
            limits.append((size, size))
        elif known is None:
            limits.append((1, float("inf")))
        else:  # torch counts from 2 where it might specialize on 1, and such programs run on 1
            limits.append((1 if int(known.lower) <= 2 else int(known.lower), float(known.upper)))
    return tuple(limits)


def _format_limits(limits: tuple[int, float]) -> str:
    """Write the sizes that an axis may have.

    Examples
    --------
    >>> _format_limits((4, 4)), _format_limits((1, float("inf"))), _format_limits((20, 400.0))
    ('4', 'any', '20 to 400')
    """
    low, high = limits
    if low == high:
        return str(low)
    return f"{low} to {high:.0f}" if high < float("inf") else "any" if low == 1 else f"at least {low}"


def _restore(module: nn.Module) -> nn.Module:
    """Turn a part of an unflattened program into a module of torch; otherwise give it the name of the module's class.

    A part with weights that is none of these, a recurrent layer for example, is listed as a layer of its class.
    """
    graph = getattr(module, "graph", None)
    if graph is None:
        return module  # it calls several parts in turn
    for name, child in list(module.named_children()):
        setattr(module, name, _restore(child))
    made = _rebuild(module, list(graph.nodes))
    if made is not None:
        return made
    weighted = bool(module._parameters) and not module._modules
    module.__class__ = type(_find_kind(module), (_Part, type(module), *((HiddenState,) if weighted else ())), {})
    module.units_axis = None  # type: ignore[assignment]
    return module


def _find_kind(module: Any) -> str:
    """Find the name of the class that a part of a program had before it was exported."""
    return str(module.type_name() or type(module).__name__).rpartition(".")[2]


def _rebuild(module: nn.Module, nodes: Sequence[fx.Node]) -> nn.Module | None:
    """Build the convolution, linear layer or batch normalization that a part consists of; None where it is none."""
    given = [node for node in nodes if node.op == "placeholder"]
    last = nodes[-2] if len(nodes) > 2 else None
    if last is None or len(given) != 1 or last.op != "call_function" or nodes[-1].args[0] is not last:
        return None
    operation = str(last.target).removeprefix("aten.").partition(".")[0]
    if last.args[0] is not given[0] or last.kwargs:
        return None
    if any(given[0] in node.all_input_nodes for node in nodes if node is not last):
        return None
    if operation == "batch_norm":
        return _make_norm(_find_kind(module), [_evaluate(module, one) for one in last.args[1:]])
    if operation != "linear" and operation not in _CONVOLUTIONS:
        return None
    weight, *rest = (_evaluate(module, one) for one in last.args[1:])  # weight norm, say, becomes the weight
    with torch.device("meta"):  # nothing is drawn
        made = _make_linear(weight, *rest) if operation == "linear" else _make_convolution(operation, weight, *rest)
    made.weight = _as_parameter(weight)
    if made.bias is not None:
        made.bias = _as_parameter(rest[0])
    return made


def _evaluate(module: nn.Module, value: Any) -> Any:
    """Compute what a node of a graph gives that depends on weights alone."""
    if isinstance(value, list | tuple):
        return [_evaluate(module, one) for one in value]
    if not isinstance(value, fx.Node):
        return value
    if value.op == "get_attr":
        found: Any = module
        for part in str(value.target).split("."):
            found = getattr(found, part)
        return found
    function: Any = module.get_submodule(str(value.target)) if value.op == "call_module" else value.target
    with torch.no_grad():
        return function(*_evaluate(module, value.args), **{k: _evaluate(module, v) for k, v in value.kwargs.items()})


def _as_parameter(value: Tensor) -> nn.Parameter:
    return value if isinstance(value, nn.Parameter) else nn.Parameter(value.detach().clone())


def _make_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    return nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)


def _make_convolution(
    operation: str,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> nn.modules.conv._ConvNd:
    n = weight.ndim - 2
    made = _CONVOLUTIONS[operation](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=_repeat(stride, n),
        padding=padding if isinstance(padding, str) else _repeat(padding, n),
        dilation=_repeat(dilation, n),
        groups=groups,
        bias=bias is not None,
    )
    return cast(nn.modules.conv._ConvNd, made)


def _repeat(sizes: Sequence[int], n: int) -> tuple[int, ...]:
    return tuple(sizes) * (n if len(sizes) == 1 else 1)


def _make_norm(kind: str, values: Sequence[Any]) -> nn.Module | None:
    weight, bias, mean, variance, training, momentum, eps = values[:7]
    if training or mean is None or variance is None:
        return None
    kinds: dict[str, Any] = {"BatchNorm2d": nn.BatchNorm2d, "BatchNorm3d": nn.BatchNorm3d}
    made: nn.Module = kinds.get(kind, nn.BatchNorm1d)(len(mean), eps=eps, momentum=momentum, affine=weight is not None)
    if weight is not None:
        made.weight, made.bias = _as_parameter(weight), _as_parameter(bias)
    made.running_mean, made.running_var = mean, variance
    return made.eval()
