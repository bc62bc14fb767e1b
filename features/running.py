"""How a network is fed and run: sounds in batches, eval mode, one-line errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError, RunError


@runtime_checkable
class SoundSource(Protocol):
    """What `load_sounds` gives: labelled sounds that may be read from disk batch by batch."""

    @property
    def items(self) -> Sequence[str]: ...

    @property
    def conditions(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]: ...


Sounds: TypeAlias = SoundSource | NDArray[np.floating[Any]] | Tensor


def tensors(sounds: Sounds, size: int, *, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Go through sounds in batches of `size`, as float32 tensors `(size, c, ...)` on `device`.

    Batches are copies: a network that writes into its input does not write into the user's sounds.

    Raises
    ------
    InputError
        No sounds, not an array with channels, or a batch size below 1.

    Examples
    --------
    >>> [tuple(batch.shape) for batch in tensors(np.zeros((3, 1, 8)), 2)]
    [(2, 1, 8), (1, 1, 8)]
    """
    if size < 1:
        raise InputError(f"batch_size: found {size}, wanted at least 1")
    if isinstance(sounds, SoundSource):
        if not len(sounds):
            raise InputError("sounds: found none, wanted at least one")
        batches: Iterator[Any] = sounds.batches(size)
    else:
        shape = tuple(getattr(sounds, "shape", ()))
        if len(shape) not in (3, 4) or 0 in shape:
            raise InputError(f"sounds: found {_described(sounds)}, wanted an array (n, c, t) or (n, c, h, w)")
        batches = (sounds[i : i + size] for i in range(0, shape[0], size))
    for batch in batches:
        yield torch.as_tensor(batch).to(device=device, dtype=torch.float32, copy=True)


def _described(sounds: object) -> str:
    shape = getattr(sounds, "shape", None)
    return f"{type(sounds).__name__} of shape {tuple(shape)}" if shape is not None else type(sounds).__name__


def labels(sounds: Sounds) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids and conditions of sounds; those of a plain array are its positions.

    Examples
    --------
    >>> labels(np.zeros((2, 1, 8)))
    (('0', '1'), ('0', '1'))
    """
    if isinstance(sounds, SoundSource):
        return tuple(str(i) for i in sounds.items), tuple(str(c) for c in sounds.conditions)
    numbers = tuple(str(i) for i in range(len(sounds)))
    return numbers, numbers


def device_of(model: nn.Module) -> torch.device:
    """Where the weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def check_device(device: torch.device | str) -> None:
    """Raise an `InputError` where this machine lacks the device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(f"device: {str(device)!r} cannot be used here ({said}); try 'cpu'") from error


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None = None) -> Iterator[None]:
    """The model in eval mode on `device`; afterwards it is where it was, each submodule in its own mode.

    Raises
    ------
    InputError
        A device that this machine does not have.
    """
    flags = [(module, module.training) for module in model.modules()]
    home = device_of(model)
    if device is not None:
        check_device(device)
    try:
        model.eval()
        if device is not None and torch.device(device) != home:
            model.to(device)
        yield
    finally:
        if device is not None and torch.device(device) != home:
            model.to(home)
        for module, flag in flags:
            module.training = flag


def forward(model: nn.Module, batch: Tensor) -> Tensor:
    """Run a batch; what torch says about a misfitting input becomes one line."""
    try:
        return cast(Tensor, model(batch))
    except (RuntimeError, ValueError, IndexError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "out of memory" in said:
            raise RunError(f"network: {said}; give a smaller batch_size") from error
        raise InputError(f"network: refuses sounds of shape {tuple(batch.shape[1:])}: {said}") from error


def broken_module(model: nn.Module, batch: Tensor) -> str | None:
    """The first module without children whose output is not finite for a batch.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()).eval()
    >>> broken_module(net, torch.full((1, 1, 8), torch.inf))
    '0'
    """
    broken: list[str] = []

    def listen(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and not out.isfinite().all():
                broken.append(name)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if next(module.children(), None) is None:
                stack.callback(module.register_forward_hook(listen(name)).remove)
        forward(model, batch.clone())
    return broken[0] if broken else None
