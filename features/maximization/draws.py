"""Draw random patterns of the prior, and keep the best one of each unit: what is reached without any ascent."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainmap.features.layers.running import run_side_by_side
from brainmap.features.maximization.task import Task, iterate_batches


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

    def draw() -> Iterator[Tensor]:
        left = task.settings.draws
        while left:
            n = min(left, task.settings.micro_batch)
            left -= n
            yield torch.tensor(np.stack([task.prior.start(rng) for _ in range(n)]), device=task.device)

    def compute(own: Task, free: Tensor, _: Callable[[int], None]) -> tuple[Tensor, NDArray[np.float64]]:
        with torch.no_grad():
            patterns = own.prior.decode(free)
            values = _compute_units(own, patterns, units)
            if silent:
                values[:, silent] = _compute_units(own, patterns, units, before=True)[:, silent]
        return free, values

    drawn = run_side_by_side(compute, task, draw(), modules=task.modules, threads=threads, advance=lambda _: None)
    for free, values in drawn:
        every = np.concatenate([best, values])
        order = np.argsort(-every, axis=0, kind="stable")[:most]
        best = np.take_along_axis(every, order, axis=0)
        pool = np.concatenate([starts, np.broadcast_to(free.cpu().numpy()[:, None], (len(free), *starts.shape[1:]))])
        starts = pool[order, np.arange(len(units))]
    with torch.no_grad():
        best_ones = [task.prior.decode(batch).cpu() for batch in iterate_batches(task, starts[0])]
    return Draws(torch.cat(best_ones).numpy(), starts)


def _compute_units(task: Task, patterns: Tensor, units: list[int], *, before: bool = False) -> NDArray[np.float64]:
    stage = "before" if before else task.settings.stage
    found = [task.compute_values(batch, stage)[:, units] for batch in iterate_batches(task, patterns)]
    values: NDArray[np.float64] = torch.cat(found).double().cpu().numpy()
    return values
