"""Find the sound that activates a unit most, by gradient ascent on the input (activation maximization)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_one_each, list_some
from brainmap.errors import InputError
from brainmap.features.layers.inputs import make_differentiable
from brainmap.features.layers.running import count_workers, run_side_by_side, use_one_thread
from brainmap.features.maximization.ascent import Job, ascend, draw_starts, find_best_draws
from brainmap.features.maximization.jitter import roll_patterns
from brainmap.features.maximization.plan import Directions, describe_wish, find_input, plan
from brainmap.features.maximization.priors import LatentPrior, compute_penalty
from brainmap.features.maximization.quality import compute_scores, measure_quality, save_waveforms
from brainmap.features.maximization.settings import MaximizationSettings as MaximizationSettings
from brainmap.features.maximization.site import freeze
from brainmap.features.maximization.task import LEVEL_WITHOUT_SOUNDS, Task, iterate_batches, iterate_sounds
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.inputs import InputAxes, check_invertible, describe_input, make_waveforms
from brainmap.progress import progress
from brainmap.types import PatternPrior, Stage


@dataclass(frozen=True, kw_only=True)
class Maximization:
    """Hold the patterns that activate the units of one layer most.

    Attributes
    ----------
    layer : str
    units : tuple of int
    class_names : tuple of str
        Names of the classes or directions that the units are; empty for other units.
    patterns : ndarray (n_units, c, t) or (n_units, c, h, w)
        The best pattern of each unit.
    trace : ndarray (n_steps, n_units)
        The objective at every step.
    by_seed : ndarray (n_seeds, n_units, c, t)
        The patterns of all starts.
    quality : DataFrame
        One row per unit.
    rate : int [Hz]
        Rate of the last axis, rounded; 0 where the input is 2-D and no rate was given.
    settings : MaximizationSettings
    dead : tuple of int
        Units that were never positive on sounds and on noise, and were maximized before the nonlinearity.
    notes : tuple of str
        What else the caller should know.
    axes : Axes, optional
        What the axes of the input mean, where sounds say so.
    random : ndarray (n_units, c, t), optional
        The best of `settings.draws` random patterns of the prior for each unit; None where none were drawn.
    """

    layer: str
    units: tuple[int, ...]
    class_names: tuple[str, ...]
    patterns: NDArray[np.float32]
    trace: NDArray[np.float32]
    by_seed: NDArray[np.float32]
    quality: pd.DataFrame
    rate: int
    settings: MaximizationSettings
    dead: tuple[int, ...]
    notes: tuple[str, ...]
    axes: InputAxes | None = None
    random: NDArray[np.float32] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Name every pattern: by its class, or by layer and unit."""
        return self.class_names or tuple(f"{self.layer}-{unit}" for unit in self.units)

    @property
    def prior(self) -> PatternPrior:
        """Name what held patterns to sounds: a decoder, noise with the spectrum of sounds (audio), or nothing."""
        kinds: dict[str, PatternPrior] = {"decoder": "decoder", "pixels": "none"}
        return kinds.get(self.settings.parameterization, "audio")

    @property
    def can_be_heard(self) -> bool:
        """Tell whether patterns are waveforms of one channel, or whole log-mel spectrograms."""
        if self.patterns.ndim == 3:
            return bool(self.patterns.shape[1] == 1)
        try:
            check_invertible(self.axes, self.patterns.shape[1:])
        except InputError:
            return False
        return True

    def save_wav(self, folder: str | Path, *, seconds: float | None = None, name: str | None = None) -> list[Path]:
        """Write every pattern as a 16-bit WAV within full scale.

        A whole log-mel spectrogram becomes a sound as `brainmap.features.sounds.inputs` describes, whose phases are
        guessed.

        Parameters
        ----------
        folder : path
        seconds : float, optional [s]
            Repeat shorter patterns until they last that long (the pattern of an early layer alone is only a click).
        name : str, optional
            In place of the layer's name, for patterns of the same units by another prior.

        Returns
        -------
        list of Path
            `<layer>_<class or unit>.wav`, in the order of the patterns; `brainmap.names.names_in` reads the names.

        Raises
        ------
        InputError
            The network's input is not one channel of samples.
        """
        names = [(name or self.layer, str(unit)) for unit in self.class_names or self.units]
        waves, rate = make_waveforms(self.patterns, self.axes, self.rate)
        return save_waveforms(waves, folder, names, rate=rate, seconds=seconds)


def maximize_activation(
    model: nn.Module,
    *,
    layer: str = "output",
    units: int | Sequence[int] | Literal["all"] = "all",
    settings: MaximizationSettings | None = None,
    sounds: Sounds | None = None,
    rate: int | None = None,
    length: int | tuple[int, ...] | None = None,
    class_names: Sequence[str] | None = None,
    directions: Directions | None = None,
    decoder: nn.Module | None = None,
    latent: int | tuple[int, ...] | None = None,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Maximization:
    """Find the input that activates each unit of a layer most.

    Units are optimized independently: the pattern of a unit depends on `rng`, the layer and the unit, not on the other
    units, except for rounding where these change the size of its micro-batch.

    Parameters
    ----------
    model : torch.nn.Module
        It takes (n, c, t) or (n, c, h, w). Its mode, `requires_grad` and device are restored; weights are not changed.
    layer : str
        A module's name; "output" is the model's output, whose units are classes. A final softmax is taken off.
    units : int, sequence of int, or "all"
    settings : MaximizationSettings, optional
    sounds : Sounds, array or tensor (n, c, t) or (n, c, h, w), optional
        They give the mean spectrum, the level and the best real clips with which `quality` compares.
    rate : int, optional [Hz]
        Default: the rate of the sounds, else 16000. For 2-D inputs: frames per second along the last axis.
    length : int or tuple, optional [samples]
        Length of the pattern. Default: as `settings.extent` says, from the length of the sounds, else one second.
    class_names : sequence of str, optional
        Names of all output units.
    directions : mapping of str to array (n_units,), or array (n, n_units), optional
        Vectors in the layer's channel space that are driven in place of units, each normalized to length 1; for example
        the difference between two conditions (`condition_direction`).
    decoder : torch.nn.Module, optional
        A generative prior, which decodes latents `(n, *latent)` to sounds as the network takes them. The latent is
        optimized. The decoder runs in eval mode and is restored afterwards. Without `settings`, those of
        `MaximizationSettings.of("generative")` are used.
    latent : int or tuple, optional
        Shape of one latent; by default the decoder's own `latent_shape`.
    rng : numpy.random.Generator, optional
        Random numbers; by default a generator with seed 0.
    device : str
    threads : int, optional
        Number of micro-batches that run side by side, by default the number of cores. The results do not depend on it,
        since each runs on one torch thread. On a GPU micro-batches run in sequence.

    Returns
    -------
    Maximization

    Raises
    ------
    InputError
        An unknown layer or unit; a softmax inside `forward`; sounds or a length that the network refuses; a length
        below the receptive field; a band above half the rate; a decoder whose sounds have another shape.
    RunError
        A gradient is not finite; the message names the layer where this begins, and the step.

    References
    ----------
    Erhan et al. (2009); Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007

    Examples
    --------
    >>> from brainmap.features import build_network
    >>> am = maximize_activation(build_network("ch32"), layer="conv1", units=[0, 3],
    ...                          settings=MaximizationSettings(steps=3))
    >>> am.patterns.shape, am.trace.shape, am.labels
    ((2, 1, 805), (3, 2), ('conv1-0', 'conv1-3'))
    """
    settings = settings or (MaximizationSettings() if decoder is None else MaximizationSettings.of("generative"))
    sounds = None if sounds is None else make_differentiable(model, sounds)
    wish = describe_wish(
        sounds,
        rate=rate,
        units=units,
        length=length,
        directions=directions,
        decoder=decoder,
        latent=latent,
        device=device,
    )
    rng = rng or np.random.default_rng(0)
    frozen = nullcontext() if decoder is None else freeze(decoder, device)
    with freeze(model, device) as net, frozen, use_one_thread():
        full, site = find_input(net, layer, wish, compiled=settings.compiled)
        task, named = plan(net, site, settings, full=full, wish=wish)
        names = named or _check_class_names(task, class_names)
        found = _run_task(
            task, wish.waveforms, names, rng, threads=count_workers(device, threads, "activation maximization")
        )
    return replace(found, axes=describe_input(sounds))


def _run_task(
    task: Task,
    waveforms: NDArray[np.float32] | None,
    names: tuple[str, ...],
    rng: np.random.Generator,
    *,
    threads: int,
) -> Maximization:
    settings = task.settings
    entropy = int(rng.integers(2**63))
    dead = _find_dead_units(task, waveforms, entropy)
    drawn = settings.draws and settings.objective == "logit"
    draws = find_best_draws(task, dead, entropy, threads=threads) if drawn else None
    starts = draws.starts if draws is not None and isinstance(task.prior, LatentPrior) else None
    found: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    still: set[int] = set()
    with progress(f"maximizing {task.site.layer}", total=len(task.units) * settings.seeds * settings.steps) as step:
        micro_batches = list(_group_starts(task, dead))
        grown = run_side_by_side(
            lambda own, batch, advance: _ascend_batch(own, batch, entropy, advance, starts),
            task,
            micro_batches,
            modules=task.modules,
            threads=min(threads, len(micro_batches)),
            advance=step.advance,
        )
        for batch, (patterns, trace, unmoved) in zip(micro_batches, grown, strict=True):
            still |= {batch[row].unit for row in unmoved}
            for job, pattern, values in zip(batch, patterns, trace.T, strict=True):
                found[job.unit, job.seed] = pattern, values
    by_seed = np.array([[found[u, s][0] for u in task.units] for s in range(settings.seeds)])
    best = np.array([compute_scores(task, patterns, dead) for patterns in by_seed]).argmax(axis=0)
    trace = np.stack([found[u, int(s)][1] for u, s in zip(task.units, best, strict=True)], axis=1)
    random = None if draws is None else draws.patterns
    if settings.draws and draws is None:
        left_out = f"no random patterns were drawn: the units of {task.site.layer!r} are no single numbers"
        task = replace(task, notes=(*task.notes, left_out))
    quality = measure_quality(task, by_seed, best, waveforms, dead, random=random)
    if names:
        quality.insert(1, "class_name", list(names))
    notes = (f"no gradient ever reached a pattern of {list_some(sorted(still))}: it is the noise it started from",)
    return Maximization(
        layer=task.site.layer,
        units=task.units,
        class_names=names,
        patterns=by_seed[best, np.arange(len(task.units))],
        trace=trace,
        by_seed=by_seed,
        quality=quality,
        rate=task.rate,
        settings=settings,
        dead=tuple(sorted(dead)),
        notes=task.notes + (notes if still else ()),
        random=random,
    )


def _group_starts(task: Task, dead: set[int]) -> Iterator[list[Job]]:
    """Yield the starts that go through the network together; with diversity these are all seeds of a unit."""
    settings, seeds = task.settings, range(task.settings.seeds)
    size = (
        max(settings.micro_batch // settings.seeds, 1) * settings.seeds
        if settings.diversity
        else (settings.micro_batch)
    )
    for stage in get_args(Stage):
        mine = [unit for unit in task.units if ("before" if unit in dead else settings.stage) == stage]
        pairs = [(u, s) for u in mine for s in seeds] if settings.diversity else [(u, s) for s in seeds for u in mine]
        jobs = [Job(unit, seed, stage) for unit, seed in pairs]
        yield from (jobs[i : i + size] for i in range(0, len(jobs), size))


def _check_class_names(task: Task, class_names: Sequence[str] | None) -> tuple[str, ...]:
    if class_names is None:
        return ()
    check_one_each(class_names, task.site.shape[0], "class_names", f"units of layer {task.site.layer!r}")
    return tuple(class_names[unit] for unit in task.units)


def _ascend_batch(
    task: Task,
    batch: Sequence[Job],
    entropy: int,
    advance: Callable[[int], None],
    starts: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    """Optimize the patterns (b, c, t) of one micro-batch; return also the trace (n_steps, b) and unmoved rows.

    Starts of the first seeds are `starts` (n_seeds, n_units, ...), where they are given.
    """
    settings, stage = task.settings, batch[0].stage
    units = torch.tensor([job.unit for job in batch], device=task.device)
    drawn = draw_starts(task, batch, entropy)
    for row, job in enumerate(batch):
        if starts is not None and job.seed < len(starts):
            drawn.free[row] = torch.as_tensor(starts[job.seed, task.units.index(job.unit)])
    trace = torch.empty(settings.steps, len(batch), device=task.device)

    def gain(free: Tensor, patterns: Tensor, step: int) -> Tensor:
        values, alike = task.climb(roll_patterns(patterns, drawn.shifts[step]), units, stage)
        trace[step] = values.detach()
        costs = (compute_penalty(patterns, settings), task.compute_latent_pull(free, values), alike)
        return values - sum(cost for cost in costs if cost is not None)

    def name_rows(rows: list[int]) -> str:
        return f"layer {task.site.layer!r}, unit {list_some(batch[row].unit for row in rows)}"

    patterns, unmoved = ascend(
        drawn.free, drawn.decode, gain, settings, model=task.model, name_rows=name_rows, advance=advance
    )
    return patterns.cpu().numpy(), trace.cpu().numpy(), unmoved


def _find_dead_units(task: Task, waveforms: NDArray[np.float32] | None, entropy: int) -> set[int]:
    """Find units that are never positive after their nonlinearity: on sounds, white noise and a start of the ascent."""
    if not task.silent_kind:
        return set()
    rng = np.random.default_rng(entropy)
    free = torch.tensor(np.stack([task.prior.start(rng) for _ in range(8)]), device=task.device)
    level = task.level or LEVEL_WITHOUT_SOUNDS
    noise = level * rng.standard_normal((8, *task.prior.shape), dtype=np.float32)
    heard = [*iterate_batches(task, task.prior.decode(free)), *iterate_batches(task, noise)]
    if waveforms is not None:
        heard += iterate_sounds(task, waveforms)
    alive = torch.zeros(task.site.shape[0], dtype=torch.bool, device=task.device)
    with torch.no_grad():
        for batch in heard:
            alive |= (task.compute_values(batch, "after").transpose(0, 1).flatten(1) > 0).any(1)
    return set(task.units) - set(alive.nonzero().flatten().tolist())
