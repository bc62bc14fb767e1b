"""Run the gradient ascent that all kinds of patterns share: its starts, its steps, and where it fails.

Random patterns of the prior are drawn first, and the best one of each unit is kept: what is reached without any ascent.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError, RunError
from brainmap.features.layers.running import find_broken_module, run_side_by_side
from brainmap.features.maximization.jitter import draw_shifts
from brainmap.features.maximization.priors import Prior, normalize_gradient
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.maximization.task import Task, iterate_batches
from brainmap.types import Stage

Gain = Callable[[Tensor, Tensor, int], Tensor]

_DECAYS, _SMALL = (0.9, 0.999), 1e-8  # of Adam


def ascend(
    free: Tensor,
    decode: Callable[[Tensor, int], Tensor],
    gain: Gain,
    settings: MaximizationSettings,
    *,
    model: nn.Module,
    name_rows: Callable[[list[int]], str],
    advance: Callable[[int], None],
    floor: float = 0.0,
) -> tuple[Tensor, list[int]]:
    """Maximize the objective of each row by gradient ascent.

    Parameters
    ----------
    free : Tensor (b, ...)
        Starting point of every row.
    decode : callable
        Makes patterns of `free`, given the number of the step; that of the end is `settings.steps`.
    gain : callable
        Objective of each row, (b,), given `free`, the patterns and the number of the step.
    settings : MaximizationSettings
    model : torch.nn.Module
        The network that is driven, in which the origin of a gradient that is not finite is looked for.
    name_rows : callable
        Names rows in an error.
    advance : callable
        It is called with the number of rows that took a step.
    floor : float
        A gradient with a smaller root mean square is not normalized to 1, but divided by this value.

    Returns
    -------
    patterns : Tensor (b, ...)
        Pattern at the end point of every row.
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
        patterns = decode(free, step)
        gradient = _compute_gradient(gain(free, patterns, step).sum(), free)
        unit, size = normalize_gradient(gradient, floor)
        if not size.isfinite().all():
            rows = [i for i, one in enumerate(size.flatten()) if not one.isfinite()]
            raise _explain_not_finite(model, patterns.detach(), what=name_rows(rows), step=step)
        moved |= size.flatten() > 0
        length = settings.step_size * (1 - step / settings.steps if settings.decay == "linear" else 1)
        with torch.no_grad():
            if adam is not None:
                adam.climb(free, gradient, length)
            else:
                free += length * unit
        advance(len(free))
    with torch.no_grad():
        return decode(free.detach(), settings.steps), (~moved).nonzero().flatten().tolist()


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


def _explain_not_finite(model: nn.Module, patterns: Tensor, *, what: str, step: int) -> RunError:
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


@dataclass(frozen=True)
class Starts:
    """Hold where ascents begin, and what is drawn anew at each of their steps.

    `free` (b, ...) are the parameters, `shifts` (n_steps, b) those of the jitter, and `noises` (n_steps + 1, b) what
    patterns are made of, the last one at the end.
    """

    free: Tensor
    shifts: NDArray[np.int64]
    noises: NDArray[np.int64]
    prior: Prior

    def decode(self, free: Tensor, step: int) -> Tensor:
        """Make the patterns of a step."""
        return self.prior.decode(free, self.noises[step])


def draw_starts(task: Task, batch: Sequence[Job], entropy: int) -> Starts:
    """Draw where every ascent begins, and what changes at its steps, each from its own random state."""
    layer = zlib.crc32(task.site.layer.encode())
    rngs = [
        np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(layer, job.unit, job.seed))) for job in batch
    ]
    free = torch.tensor(np.stack([task.prior.start(rng) for rng in rngs]), device=task.device)
    steps = task.settings.steps
    shifts = np.stack([draw_shifts(rng, task.jitter, steps) for rng in rngs], axis=1)
    noises = np.stack([task.prior.draw_noises(rng, steps + 1) for rng in rngs], axis=1)
    return Starts(free, shifts, noises, task.prior)


@dataclass(frozen=True)
class Draws:
    """Hold the best random patterns of the prior, and the free parameters of the best ones.

    `patterns` (n_units, c, t) is the best one of each unit; `starts` (n_seeds, n_units, ...) the parameters of the
    best ones in order.
    """

    patterns: NDArray[np.float32]
    starts: NDArray[np.float32]


def find_best_draws(task: Task, dead: set[int], entropy: int, *, threads: int = 1) -> Draws:
    """Find the best of `settings.draws` random patterns of the prior for each unit.

    All units choose among the same patterns: decoded standard normal latents where the prior is a decoder, else noise
    with the spectrum of the prior. Micro-batches run side by side in `threads`, on which no result depends.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(zlib.crc32(b"draws"),)))
    units = list(task.units)
    silent = [at for at, unit in enumerate(units) if unit in dead]
    most = min(task.settings.seeds, task.settings.draws)
    best = np.full((most, len(units)), -np.inf)
    starts = np.zeros((most, len(units), *task.prior.start(np.random.default_rng(0)).shape), np.float32)
    made_of = np.zeros((most, len(units)), np.int64)

    def draw() -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        left = task.settings.draws
        while left:
            n = min(left, task.settings.micro_batch)
            left -= n
            free = torch.tensor(np.stack([task.prior.start(rng) for _ in range(n)]), device=task.device)
            yield free, task.prior.draw_noises(rng, n)

    def compute(
        own: Task, random: tuple[Tensor, NDArray[np.int64]], _: Callable[[int], None]
    ) -> tuple[Tensor, NDArray[np.int64], NDArray[np.float64]]:
        with torch.no_grad():
            patterns = own.prior.decode(*random)
            values = _compute_units(own, patterns, units)
            if silent:
                values[:, silent] = _compute_units(own, patterns, units, before=True)[:, silent]
        return *random, values

    drawn = run_side_by_side(compute, task, draw(), modules=task.modules, threads=threads, advance=lambda _: None)
    for free, noises, values in drawn:
        every = np.concatenate([best, values])
        order = np.argsort(-every, axis=0, kind="stable")[:most]
        best = np.take_along_axis(every, order, axis=0)
        pool = np.concatenate([starts, np.broadcast_to(free.cpu().numpy()[:, None], (len(free), *starts.shape[1:]))])
        starts = pool[order, np.arange(len(units))]
        numbers = np.concatenate([made_of, np.broadcast_to(noises[:, None], (len(noises), len(units)))])
        made_of = numbers[order, np.arange(len(units))]
    size = task.settings.micro_batch
    with torch.no_grad():
        best_ones = [
            task.prior.decode(batch, made_of[0, i * size : (i + 1) * size]).cpu()
            for i, batch in enumerate(iterate_batches(task, starts[0]))
        ]
    return Draws(torch.cat(best_ones).numpy(), starts)


def _compute_units(task: Task, patterns: Tensor, units: list[int], *, before: bool = False) -> NDArray[np.float64]:
    stage = "before" if before else task.settings.stage
    found = [task.compute_values(batch, stage)[:, units] for batch in iterate_batches(task, patterns)]
    return torch.cat(found).double().cpu().numpy()
