"""Run the gradient ascent that all kinds of patterns share, and describe where it fails."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError, RunError
from brainmap.features.layers.running import find_broken_module
from brainmap.features.maximization.jitter import draw_shifts
from brainmap.features.maximization.priors import normalize_gradient
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.maximization.task import Task
from brainmap.types import Stage

Gain = Callable[[Tensor, int], Tensor]
Blame = Callable[[list[int], int], RunError]

_DECAYS, _SMALL = (0.9, 0.999), 1e-8  # of Adam


def ascend(
    free: Tensor,
    gain: Gain,
    settings: MaximizationSettings,
    *,
    blame: Blame,
    advance: Callable[[int], None],
    floor: float = 0.0,
) -> tuple[Tensor, list[int]]:
    """Maximize the objective of each row by gradient ascent.

    Parameters
    ----------
    free : Tensor (b, ...)
        Starting point of every row.
    gain : callable
        Objective of each row, (b,), given `free` and the number of the step.
    settings : MaximizationSettings
    blame : callable
        Builds the error for rows whose gradient is not finite, given these rows and the step.
    advance : callable
        It is called with the number of rows that took a step.
    floor : float
        A gradient with a smaller root mean square is not normalized to 1, but divided by this value.

    Returns
    -------
    free : Tensor (b, ...)
        End point of every row.
    still : list of int
        Rows that never received a gradient.

    Raises
    ------
    InputError
        The network or decoder blocks the gradient.
    RunError
        A gradient is not finite.
    """
    free = free.detach().clone().requires_grad_()
    adam = _Adam(free) if settings.optimizer == "adam" else None
    moved = torch.zeros(len(free), dtype=torch.bool, device=free.device)
    for step in range(settings.steps):
        gradient = _compute_gradient(gain(free, step).sum(), free)
        unit, size = normalize_gradient(gradient, floor)
        if not size.isfinite().all():
            raise blame([i for i, one in enumerate(size.flatten()) if not one.isfinite()], step)
        moved |= size.flatten() > 0
        length = settings.step_size * (1 - step / settings.steps if settings.decay == "linear" else 1)
        with torch.no_grad():
            if adam is not None:
                adam.climb(free, gradient, length)
            else:
                free += length * unit
        advance(len(free))
    return free.detach(), (~moved).nonzero().flatten().tolist()


class _Adam:
    """Climb by Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980), with the arithmetic of torch.optim.Adam.

    That of torch imports its compiler and sympy at its first use: two seconds and 110 MB.
    """

    def __init__(self, free: Tensor) -> None:
        self.mean, self.square, self.done = torch.zeros_like(free), torch.zeros_like(free), 0

    def climb(self, free: Tensor, gradient: Tensor, length: float) -> None:
        """Take a step upward, in place."""
        down, self.done = -gradient, self.done + 1
        self.mean.lerp_(down, 1 - _DECAYS[0])
        self.square.mul_(_DECAYS[1]).addcmul_(down, down, value=1 - _DECAYS[1])
        first, second = (1 - decay**self.done for decay in _DECAYS)
        spread = (self.square.sqrt() / second**0.5).add_(_SMALL)
        free.addcdiv_(self.mean, spread, value=-length / first)


def _compute_gradient(total: Tensor, free: Tensor) -> Tensor:
    gradient = torch.autograd.grad(total, free, allow_unused=True)[0] if total.requires_grad else None
    if gradient is None:
        raise InputError(
            "activation maximization: no gradient reaches the pattern; the network or the decoder cuts it off "
            "(torch.no_grad, detach, or a step through numpy)"
        )
    return gradient


def explain_not_finite(model: nn.Module, patterns: Tensor, *, what: str, step: int) -> RunError:
    """Build the error for a gradient that is not finite; it names input, step, and the layer where this begins."""
    return RunError(
        f"activation maximization: gradient of {what} is not finite at step {step}"
        f"{_find_first_not_finite(model, patterns)}; "
        "take smaller steps, or a level"
    )


def _find_first_not_finite(model: nn.Module, patterns: Tensor) -> str:
    if not patterns.isfinite().all():
        return ", as is the pattern itself"
    broken = find_broken_module(model, patterns)
    if broken is None:
        return ": every layer's values are finite, a derivative is not (a root or logarithm at 0?)"
    return f": the values of layer {broken!r} are the first that are not"


@dataclass(frozen=True)
class Job:
    """Describe one start of one unit, and the side of the nonlinearity at which its activation is read."""

    unit: int
    seed: int
    stage: Stage


def draw_starts(task: Task, batch: Sequence[Job], entropy: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Draw the free parameters of every start, and its shifts (n_steps, b), each from its own random state."""
    layer = zlib.crc32(task.site.layer.encode())
    rngs = [
        np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(layer, job.unit, job.seed))) for job in batch
    ]
    free = torch.tensor(np.stack([task.prior.start(rng) for rng in rngs]), device=task.device)
    shifts = [draw_shifts(rng, task.jitter, task.settings.steps) for rng in rngs]
    return free, np.stack(shifts, axis=1)
