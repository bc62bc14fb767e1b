"""Record the activations of layers without changing the model.

`conv3` is a convolution with its normalization and nonlinearity, before pooling and dropout, regardless of who wrote
the network and of whether its nonlinearity is a module or a function: while a model runs, tensors are followed from
operation to operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

from torch import Tensor, nn

from brainmap.checks import check_choice, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.layers.ear import Ear, attach_ear, is_function_name
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.outputs import find_owner
from brainmap.types import Stage


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
