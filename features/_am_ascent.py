"""Gradient ascent that every kind of pattern climbs by, and what to say where it breaks down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from brainmap.errors import InputError, RunError
from brainmap.features._am_settings import MaximizationSettings
from brainmap.features._priors import root_mean_square

Gain = Callable[[Tensor, int], Tensor]
Blame = Callable[[list[int], int], RunError]


def ascend(
    free: Tensor, gain: Gain, settings: MaximizationSettings, *, blame: Blame, advance: Callable[[int], None]
) -> tuple[Tensor, list[int]]:
    """Climb each row's own hill.

    Parameters
    ----------
    free : Tensor (b, ...)
        Where every row starts.
    gain : callable
        Gives what each row is to climb, (b,), from `free` and the step's number.
    settings : MaximizationSettings
    blame : callable
        Makes the error for rows whose gradient is not finite, and the step.
    advance : callable
        Told how many rows took a step.

    Returns
    -------
    free : Tensor (b, ...)
        Where they arrived.
    still : list of int
        Rows that no gradient ever reached.

    Raises
    ------
    InputError
        The network or decoder cuts the gradient off.
    RunError
        A gradient that is not finite.
    """
    free = free.detach().clone().requires_grad_()
    adam = torch.optim.Adam([free], maximize=True) if settings.optimizer == "adam" else None
    moved = torch.zeros(len(free), dtype=torch.bool, device=free.device)
    for step in range(settings.steps):
        gradient = _gradient(gain(free, step).sum(), free)
        size = root_mean_square(gradient)
        if not size.isfinite().all():
            raise blame([i for i, one in enumerate(size.flatten()) if not one.isfinite()], step)
        moved |= size.flatten() > 0
        length = settings.step_size * (1 - step / settings.steps if settings.decay == "linear" else 1)
        if adam is not None:
            adam.param_groups[0]["lr"] = length
            free.grad = gradient
            adam.step()
        else:
            with torch.no_grad():
                free += length * gradient / size.clamp_min(1e-30)
        advance(len(free))
    return free.detach(), (~moved).nonzero().flatten().tolist()


def _gradient(total: Tensor, free: Tensor) -> Tensor:
    gradient = torch.autograd.grad(total, free, allow_unused=True)[0] if total.requires_grad else None
    if gradient is None:
        raise InputError(
            "activation maximization: no gradient reaches the pattern; the network or the decoder cuts it off "
            "(torch.no_grad, detach, or a step through numpy)"
        )
    return gradient


def not_finite(model: nn.Module, patterns: Tensor, *, what: str, step: int) -> RunError:
    """The error for a gradient that is not finite: of what, at which step, and in which layer it begins."""
    return RunError(
        f"activation maximization: gradient of {what} is not finite at step {step}{_where_it_begins(model, patterns)}; "
        "take smaller steps, or a level"
    )


def _where_it_begins(model: nn.Module, patterns: Tensor) -> str:
    broken: list[str] = []

    def listen(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and not out.isfinite().all():
                broken.append(name)

        return hook

    if not patterns.isfinite().all():
        return ", as is the pattern itself"
    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if not any(True for _ in module.children()):
                stack.callback(module.register_forward_hook(listen(name)).remove)
        model(patterns)
    if not broken:
        return ": every layer's values are finite, a derivative is not (a root or logarithm at 0?)"
    return f": the values of layer {broken[0]!r} are the first that are not"


def rows_named(rows: Sequence[int], names: Sequence[str]) -> str:
    """Names of some rows, each once, for a message."""
    return ", ".join(dict.fromkeys(names[row] for row in rows))
