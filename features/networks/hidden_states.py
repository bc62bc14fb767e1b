"""Find where in a Hugging Face network its hidden states arise, and let them pass through modules named `hidden.k`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from brainmap.features.layers.ear import HiddenState


class Passing:
    """Let one tensor that a module receives or gives pass through a hidden state; this is a hook of that module.

    `shape` holds the height and width where the hidden state is an image `(n, units, height, width)` and the module
    works on its tokens `(n, height * width, units)`.
    """

    def __init__(self, state: HiddenState, shape: tuple[int, ...] = ()) -> None:
        self.state, self.shape = state, shape

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace the first argument of a module."""
        if args:
            return (self._pass_tensor(args[0]), *args[1:]), kwargs
        name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
        return args, {**kwargs, name: self._pass_tensor(kwargs[name])}

    def after(self, _: nn.Module, __: Any, out: Any) -> Any:
        """Replace the output of a module, or the first of its outputs."""
        if isinstance(out, Tensor):
            return self._pass_tensor(out)
        parts = (self._pass_tensor(out[0]), *out[1:])
        return parts if isinstance(out, tuple) else list(parts)

    def _pass_tensor(self, tensor: Tensor) -> Tensor:
        if not self.shape:
            passed: Tensor = self.state(tensor)
            return passed
        image = tensor.reshape(len(tensor), *self.shape, tensor.shape[2]).permute(0, 3, 1, 2)
        found: Tensor = self.state(image).permute(0, 2, 3, 1).flatten(1, 2)
        return found


def attach_hidden_states(
    network: nn.Module, arguments: Mapping[str, Any], *, width: int | None = None
) -> list[HiddenState]:
    """Run a network once, and hook a `HiddenState` to where each of its hidden states arises.

    A hidden state is found by identity: it is the very tensor that a module gives or receives, or a view of it.

    Parameters
    ----------
    network : torch.nn.Module
        A model of transformers in eval mode.
    arguments : mapping
        Arguments of one forward pass; they ask for hidden states.
    width : int, optional
        Number of units of a hidden state `(n, tokens, units)`.

    Returns
    -------
    list of HiddenState
        The hidden states that were found, in the order of the network; the list is empty where it has none.
    """
    seen: list[tuple[nn.Module, str, Tensor]] = []
    with ExitStack() as stack, torch.no_grad():

        def note_input(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            values = args[:1] or [value for value in kwargs.values() if isinstance(value, Tensor)][:1]
            seen.extend((module, "before", value) for value in values if isinstance(value, Tensor))

        def note_output(module: nn.Module, _: Any, out: Any) -> None:
            first = out[0] if isinstance(out, tuple | list) and out else out
            if isinstance(first, Tensor):
                seen.append((module, "after", first))

        for module in network.modules():
            if module is not network:
                stack.callback(module.register_forward_pre_hook(note_input, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(note_output).remove)
        states = getattr(network(**arguments), "hidden_states", None) or ()
    found = []
    for tensor in states:
        place = next((one for one in seen if one[2] is tensor), None)
        shape: tuple[int, ...] = ()
        if place is None and tensor.ndim == 4:
            shape = tuple(tensor.shape[2:])
            place = next((one for one in seen if _has_same_tokens(one[2], tensor)), None)
        if place is None:
            continue
        state = HiddenState(1 if shape else 2 if tensor.ndim == 3 and tensor.shape[2] == width else None)
        passing = Passing(state, shape)
        if place[1] == "after":
            place[0].register_forward_hook(passing.after)
        else:
            place[0].register_forward_pre_hook(passing.before, with_kwargs=True)
        found.append(state)
    return found if len(found) == len(states) else []


def _has_same_tokens(tokens: Tensor, image: Tensor) -> bool:
    """Tell whether an image `(n, c, h, w)` is a view of tokens `(n, h * w, c)`."""
    n, c, h, w = image.shape
    return tuple(tokens.shape) == (n, h * w, c) and tokens.data_ptr() == image.data_ptr()
