"""Define what all units of one activation maximization share: the site in the network, the prior and the objective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap.features.maximization.priors import LatentPrior, Prior
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.maximization.site import Site, read
from brainmap.types import Stage

LEVEL_WITHOUT_SOUNDS = 0.1  # RMS
_LEAST_COSINE = 0.1  # without this bound, a pattern that turns away from its direction would gain by being weak


@dataclass(frozen=True)
class Task:
    """Hold everything that the units of one call share.

    `directions` (n_directions, n_units) are unit vectors; where they are given, they replace the units. `lengths` are
    those of real sounds, where they have several.
    """

    model: nn.Module
    site: Site
    settings: MaximizationSettings
    prior: Prior
    units: tuple[int, ...]
    rate: int
    jitter: int  # samples
    level: float | None
    device: str
    notes: tuple[str, ...]
    directions: Tensor | None = None
    lengths: NDArray[np.intp] | None = None

    @property
    def modules(self) -> list[nn.Module]:
        """List the network, and the decoder that makes its patterns where there is one."""
        return [self.model, *([self.prior.decoder] if isinstance(self.prior, LatentPrior) else [])]

    @property
    def whole(self) -> bool:
        """Tell whether the layer is driven as a whole."""
        return self.settings.objective == "layer"

    @property
    def silent_kind(self) -> bool:
        """Tell whether units can be silent, because a nonlinearity lies between their input and their output."""
        return self.site.before != self.site.after and self.settings.objective not in ("layer", "direction")

    def compute_values(self, patterns: Tensor, stage: Stage) -> Tensor:
        """Compute the activations of the layer for patterns, (b, n_units, ...)."""
        place = self.site.before if stage == "before" else self.site.after
        return self.site.arrange(read(self.model, patterns, place, fast=self.site.fast)[0])

    def score(self, patterns: Tensor, units: Tensor, stage: Stage) -> Tensor:
        """Compute the objective of each pattern for its own unit, (b,)."""
        return self._select_own(self.compute_values(patterns, stage), units)

    def climb(self, patterns: Tensor, units: Tensor, stage: Stage) -> tuple[Tensor, Tensor | None]:
        """Compute the objective for the ascent, and the penalty for the similarity of patterns of the same unit.

        A silent unit, which has no gradient, counts at the position where it is nearest to being active."""
        place = self.site.before if stage == "before" else self.site.after
        diverse = self.settings.diversity > 0
        texture = [self.site.texture] if diverse and self.site.texture is not None else []
        if stage == "before" or not self.silent_kind:
            found = read(self.model, patterns, place, *texture, fast=self.site.fast)
            own = self.site.arrange(found[0])
            values = self._select_own(own, units)
        else:
            found = read(self.model, patterns, place, self.site.before, *texture, fast=self.site.fast)
            own = self.site.arrange(found[0])
            values = self._choose_stage_values(own, self.site.arrange(found[1]), units)
        if not diverse:
            return values, None
        features = found[-1] if texture else own.unsqueeze(2)
        return values, self.settings.diversity * values.detach().abs() * measure_likeness(features, units)

    def score_best_stretch(self, values: Tensor, frames: tuple[int, ...]) -> Tensor:
        """Compute the objective of every sound for every unit, (b, n_units), at its best stretch of `frames` frames."""
        if self.whole:
            return values.flatten(1).square().mean(1, keepdim=True)
        if self.settings.objective == "neuron":
            return values.flatten(2).amax(2) if values.ndim > 2 else values
        if values.ndim == 3 and frames and frames[0] < values.shape[2]:
            values = functional.avg_pool1d(values, frames[0], stride=1)
            return self._project(values).amax(2) if self.directions is not None else values.amax(2)
        pooled = values.flatten(2).mean(2, keepdim=True) if values.ndim > 2 else values.unsqueeze(2)
        return (self._project(pooled) if self.directions is not None else pooled)[..., 0]

    def _choose_stage_values(self, after: Tensor, before: Tensor, units: Tensor) -> Tensor:
        values = self._select_own(after, units)
        own = _select_units(after.detach(), units)
        awake = (own.flatten(1) > 0).any(1) if own.ndim > 1 else own > 0
        if bool(awake.all()):
            return values
        asleep = _select_units(before, units)
        return torch.where(awake, values, asleep.flatten(1).amax(1) if asleep.ndim > 1 else asleep)

    def _select_own(self, values: Tensor, units: Tensor) -> Tensor:
        if self.whole:
            return values.flatten(1).square().mean(1)
        if self.directions is not None:
            pooled = values.flatten(2).mean(2, keepdim=True) if values.ndim > 2 else values.unsqueeze(2)
            return _select_units(self._project(pooled)[..., 0], units)
        own = _select_units(values, units)
        if self.settings.objective == "neuron" and own.ndim > 1:
            center = np.ravel_multi_index([n // 2 for n in own.shape[1:]], own.shape[1:])
            return own.flatten(1)[:, int(center)]
        return own.flatten(1).mean(1) if own.ndim > 1 else own

    def _project(self, pooled: Tensor) -> Tensor:
        """Compute the components along the directions, (b, n_directions, n), of the layer's vectors (b, n_units, n)."""
        assert self.directions is not None
        along: Tensor = self.directions @ pooled
        if self.settings.cosine_power:
            cosine = along / pooled.norm(dim=1, keepdim=True).clamp_min(1e-12)
            along = along * cosine.clamp_min(_LEAST_COSINE).pow(self.settings.cosine_power)
        return along

    def compute_latent_pull(self, free: Tensor, values: Tensor) -> Tensor | None:
        """Compute the penalty of the latents, relative to the objective's size, (b,); None without a decoder."""
        if not isinstance(self.prior, LatentPrior) or not self.settings.latent_l2:
            return None
        return self.settings.latent_l2 * values.detach().abs() * free.square().flatten(1).mean(1)


def _select_units(values: Tensor, units: Tensor) -> Tensor:
    return values[torch.arange(len(values), device=values.device), units]


def measure_likeness(features: Tensor, units: Tensor) -> Tensor:
    """Compute the mean cosine between each row's Gram matrix and those of the other rows of its unit, (b,).

    Channels are first centered over positions, where there are several, because otherwise the mean, which all sounds
    have in common, would make every pair similar.

    Parameters
    ----------
    features : Tensor (b, n_channels, ...)
    units : Tensor (b,)
        Rows with the same number belong together; a single row gets 0.

    Examples
    --------
    >>> alike = torch.arange(12.0).reshape(1, 3, 4).expand(2, 3, 4)
    >>> [measure_likeness(alike, torch.tensor([0, unit])).round(decimals=3).tolist() for unit in (0, 1)]
    [[1.0, 1.0], [0.0, 0.0]]
    """
    flat = features.flatten(2)
    if flat.shape[2] > 1:
        flat = flat - flat.mean(2, keepdim=True)
    gram = functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
    others = (units[:, None] == units[None]).fill_diagonal_(False)
    return ((gram @ gram.T) * others).sum(1) / others.sum(1).clamp_min(1)


def iterate_batches(task: Task, patterns: NDArray[np.float32] | Tensor) -> Iterator[Tensor]:
    """Yield the patterns in micro-batches, on the task's device."""
    for i in range(0, len(patterns), task.settings.micro_batch):
        yield torch.as_tensor(patterns[i : i + task.settings.micro_batch], device=task.device)


def iterate_sounds(task: Task, waveforms: NDArray[np.float32]) -> Iterator[Tensor]:
    """Yield real sounds in micro-batches, each sound at its own length."""
    if task.lengths is None:
        yield from iterate_batches(task, waveforms)
        return
    for length in np.unique(task.lengths):
        yield from iterate_batches(task, waveforms[task.lengths == length, ..., :length])
