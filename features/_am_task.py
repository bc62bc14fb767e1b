"""What all units of one activation maximization share: the place in the network, the prior, the input's
shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import one_of, some
from brainmap.errors import InputError
from brainmap.features._am_settings import MaximizationSettings
from brainmap.features._priors import Prior, fourier_scale
from brainmap.features._site import Site, find_site, read
from brainmap.features.layers import Stage, list_layers

if TYPE_CHECKING:
    from brainmap.features.sounds import Sounds

LEVEL_WITHOUT_SOUNDS = 0.1  # RMS


@dataclass(frozen=True)
class Task:
    """Everything that the units of one call share."""

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

    def values(self, patterns: Tensor, stage: Stage) -> Tensor:
        """What the layer gives for patterns: (b, n_units, ...)."""
        return read(self.model, patterns, self.site.before if stage == "before" else self.site.after)[0]

    def score(self, patterns: Tensor, units: Tensor, stage: Stage) -> Tensor:
        """Objective of each pattern for its own unit: (b,)."""
        return self._objective(self.values(patterns, stage), units)

    def climb(self, patterns: Tensor, units: Tensor, stage: Stage) -> Tensor:
        """The same to ascend by: a silent unit, without a gradient, counts where it is nearest to speaking."""
        if stage == "before" or self.site.before == self.site.after or self.settings.objective == "layer":
            return self.score(patterns, units, stage)
        before, after = read(self.model, patterns, self.site.before, self.site.after)
        values = self._objective(after, units)
        own = after.detach()[torch.arange(len(after), device=after.device), units]
        awake = (own.flatten(1) > 0).any(1) if own.ndim > 1 else own > 0
        if bool(awake.all()):
            return values
        asleep = before[torch.arange(len(before), device=before.device), units]
        return torch.where(awake, values, asleep.flatten(1).amax(1) if asleep.ndim > 1 else asleep)

    def _objective(self, values: Tensor, units: Tensor) -> Tensor:
        if self.settings.objective == "layer":
            return values.flatten(1).square().mean(1)
        own = values[torch.arange(len(values), device=values.device), units]
        if self.settings.objective == "neuron" and own.ndim > 1:
            center = np.ravel_multi_index([n // 2 for n in own.shape[1:]], own.shape[1:])
            return own.flatten(1)[:, int(center)]
        return own.flatten(1).mean(1) if own.ndim > 1 else own


def plain_waveforms(sounds: Sounds | NDArray[np.floating] | Tensor | None) -> NDArray[np.float32] | None:
    """Sounds as one float32 array (n, c, ...)."""
    if sounds is None:
        return None
    given: Any = getattr(sounds, "waveforms", sounds)
    values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if values.ndim not in (3, 4) or not len(values):
        raise InputError(
            f"activation maximization: sounds are {values.shape}, wanted (n, c, t) or (n, c, h, w) with n > 0"
        )
    if not np.isfinite(values).all():
        raise InputError("activation maximization: sounds hold NaN or infinite samples; check the files")
    return values.astype(np.float32, copy=False)


def find_input(
    model: nn.Module,
    layer: str,
    *,
    waveforms: NDArray[np.float32] | None,
    length: int | tuple[int, ...] | None,
    rate: int,
    device: str,
) -> tuple[tuple[int, ...], Site]:
    """Shape (c, t) or (c, h, w) of a whole input, and the layer's site in it.

    The sounds tell the shape; without them it is `length` where the network takes that, else one second.
    """
    asked = [] if length is None else [(1, *(length if isinstance(length, tuple) else (length,)))]
    shapes = [*asked, (1, rate)] if waveforms is None else [waveforms.shape[1:]]
    for shape in shapes[:-1]:
        try:
            return shape, find_site(model, layer, torch.zeros(1, *shape, device=device))
        except InputError:
            continue  # shorter than the whole input, as an early layer's pattern may be
    return shapes[-1], find_site(model, layer, torch.zeros(1, *shapes[-1], device=device))


def plan(
    model: nn.Module,
    site: Site,
    settings: MaximizationSettings,
    *,
    waveforms: NDArray[np.float32] | None,
    rate: int,
    full: tuple[int, ...],
    units: Sequence[int] | Literal["all"],
    length: int | tuple[int, ...] | None,
    device: str,
) -> Task:
    """What is maximized, on which input and starting from what, once everything is checked."""
    objective = settings.objective
    if objective == "auto":
        objective = "logit" if len(site.shape) == 1 else "channel"
    if objective == "logit" and len(site.shape) != 1:
        raise InputError(
            f"objective 'logit': layer {site.layer!r} gives maps {site.shape}, wanted one number a unit; use 'channel'"
        )
    settings = replace(settings, objective=objective)
    chosen = _units(site, objective, units)
    jitter = round(rate * settings.jitter_ms / 1000)
    shape, notes = _pattern_shape(model, site, settings, full, length, jitter, device)
    if jitter >= shape[-1]:
        notes += (f"jitter cut from {jitter} samples to half of the pattern's {shape[-1]}",)
        jitter = shape[-1] // 2
    level = settings.level
    if level == "sounds":
        level = LEVEL_WITHOUT_SOUNDS if waveforms is None else loudest_level(waveforms, shape)
    if waveforms is None and settings.parameterization == "spectrum" and len(shape) == 2:
        notes += ("no sounds given: the long-term average spectrum of speech (Byrne 1994) is the prior",)
    scale = fourier_scale(
        settings.parameterization,
        shape[1:],
        rate=rate,
        waveforms=waveforms,
        band=(settings.low_hz, settings.high_hz),
    )
    prior = Prior(scale, shape, level=level, peak=settings.peak, device=device)
    return Task(model, site, settings, prior, chosen, rate, jitter, level, device, site.notes + notes)


def _units(site: Site, objective: str, units: Sequence[int] | Literal["all"]) -> tuple[int, ...]:
    if objective == "layer":
        if not (isinstance(units, str) and units == "all"):
            raise InputError("objective 'layer' drives the whole layer; leave units='all'")
        return (0,)
    if isinstance(units, str):
        one_of(units, ("all",), "units")
        return tuple(range(site.shape[0]))
    chosen = tuple(int(u) for u in units)
    wrong = [u for u in chosen if not 0 <= u < site.shape[0]]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        raise InputError(
            f"units: found {some(wrong or chosen) or 'none'}, wanted different ones of layer {site.layer!r}, "
            f"0 to {site.shape[0] - 1}"
        )
    return chosen


def _pattern_shape(
    model: nn.Module, site: Site, settings: MaximizationSettings, full: tuple[int, ...],
    length: int | tuple[int, ...] | None, jitter: int, device: str,
) -> tuple[tuple[int, ...], tuple[str, ...]]:  # fmt: skip
    """Shape of a pattern: what the caller asked for, else the receptive field and room for the jitter, else
    all."""
    if length is not None:
        asked = length if isinstance(length, tuple) else (length,)
        if len(asked) != len(full) - 1 or min(asked) < 1:
            raise InputError(f"length: found {length}, wanted {len(full) - 1} number(s) of 1 or more")
        shape = (full[0], *asked)
        return shape, ()
    if settings.extent == "full" or len(site.shape) == 1 or len(full) != 2:
        return full, ()
    fields = {found.name: found.receptive_field for found in list_layers(model, torch.zeros(1, *full, device=device))}
    field = fields.get(site.layer)
    if not isinstance(field, int):
        return full, (f"receptive field of {site.layer!r} is not known: patterns have the whole length",)
    return (full[0], min(field + 2 * jitter, full[-1])), ()


def loudest_level(waveforms: NDArray[np.float32], shape: tuple[int, ...]) -> float:
    """Median over sounds of the RMS of their loudest stretch as long as the pattern."""
    power = np.mean(waveforms.astype(np.float64) ** 2, axis=1)
    if len(shape) == 2 and shape[-1] < power.shape[-1]:
        total = np.cumsum(np.pad(power, ((0, 0), (1, 0))), axis=1)
        loudest = (total[:, shape[-1] :] - total[:, : -shape[-1]]).max(axis=1) / shape[-1]
    else:
        loudest = power.reshape(len(power), -1).mean(axis=1)
    level = float(np.median(np.sqrt(loudest)))
    if level <= 0:
        raise InputError("activation maximization: half of the sounds are silent; give sounds with a level, or level=")
    return level


def batches(task: Task, patterns: NDArray[np.float32] | Tensor) -> Iterator[Tensor]:
    """The patterns in micro-batches, on the task's device."""
    for i in range(0, len(patterns), task.settings.micro_batch):
        yield torch.as_tensor(patterns[i : i + task.settings.micro_batch], device=task.device)
