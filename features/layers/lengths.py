"""Find out why a network refuses a sound: which module refuses it, and from which length on it would not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_DOUBLINGS = 10
_LONGEST = 1 << 19  # samples; about half a minute at 16 kHz


def find_shortest_accepted(model: nn.Module, batch: Tensor) -> tuple[str, int] | None:
    """Find the module that refuses a batch because it is too short, and the length from which on it does not.

    Parameters
    ----------
    model : torch.nn.Module
    batch : Tensor (n, c, t) or (n, c, h, w)
        Input that the model refuses; its last axis is time.

    Returns
    -------
    tuple of (str, int), or None
        Dotted name of the innermost module that fails, and a length t that the model accepts while it refuses t - 1;
        None where longer input is refused as well, as by a network that takes one length.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.Conv1d(2, 2, 7))
    >>> find_shortest_accepted(net, torch.zeros(1, 1, 8))
    ('1', 11)
    """
    first = batch[:1]
    refused = first.shape[-1]
    name = _find_failing_module(model, first)
    if name is None:
        return None
    accepted = 0
    for doubling in range(1, _DOUBLINGS + 1):
        length = first.shape[-1] << doubling
        if length > _LONGEST:
            return None
        if _find_failing_module(model, _resize_batch(first, length)) is None:
            accepted = length
            break
        refused = length
    if not accepted:
        return None
    while accepted - refused > 1:
        between = (accepted + refused) // 2
        if _find_failing_module(model, _resize_batch(first, between)) is None:
            accepted = between
        else:
            refused = between
    return name, accepted


def _resize_batch(batch: Tensor, length: int) -> Tensor:
    return batch.new_zeros((*batch.shape[:-1], length))


def _find_failing_module(model: nn.Module, batch: Tensor) -> str | None:
    """Return the dotted name of the innermost module that fails on a batch; None where none does."""
    with _record_modules(model) as entered, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model(batch.clone())
        except Exception:  # a network of others may fail in any way
            return entered[-1] if entered else ""
    return None


@contextmanager
def _record_modules(model: nn.Module) -> Iterator[list[str]]:
    """List the modules that are running; after an error the last one is the innermost that did not end."""
    entered: list[str] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(_enter(entered, name)).remove)
            stack.callback(module.register_forward_hook(_leave(entered)).remove)
        yield entered


def _enter(entered: list[str], name: str) -> Callable[[nn.Module, Any], None]:
    return lambda _, __: entered.append(name)


def _leave(entered: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    def leave(_: nn.Module, __: Any, ___: Any) -> None:
        entered.pop()

    return leave
