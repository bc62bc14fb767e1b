"""Activation maximization: the sound that drives a unit most, found by gradient ascent on the input."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import some
from brainmap.errors import InputError, RunError
from brainmap.features._am_quality import as_heard, measure_quality, scores
from brainmap.features._am_settings import MaximizationSettings as MaximizationSettings
from brainmap.features._am_task import LEVEL_WITHOUT_SOUNDS, Task, batches, find_input, plain_waveforms, plan
from brainmap.features._priors import penalty, root_mean_square, shifted
from brainmap.features._site import frozen
from brainmap.features.layers import Stage
from brainmap.progress import progress

if TYPE_CHECKING:
    from brainmap.features.sounds import Sounds


@dataclass(frozen=True, kw_only=True)
class Maximization:
    """Patterns that drive units of one layer most.

    `patterns` (n_units, c, t) is each unit's best, `trace` (n_steps, n_units) its objective at every step,
    `by_seed` (n_seeds, n_units, c, t) all starts, `quality` a row a unit. `dead` units were never positive
    on sounds and on noise and were maximized before the nonlinearity; `notes` says what else the caller
    should know.
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

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every pattern: the class, or layer and unit."""
        return self.class_names or tuple(f"{self.layer}-{unit}" for unit in self.units)

    def save_wav(self, folder: str | Path, *, seconds: float | None = None) -> list[Path]:
        """Write every pattern as a 16-bit WAV within full scale.

        Parameters
        ----------
        folder : path
        seconds : float, optional [s]
            Repeat shorter patterns until they last that long (that of an early layer is a click otherwise).

        Returns
        -------
        list of Path
            `<layer>_<class or unit>.wav`, in the order of the patterns.

        Raises
        ------
        InputError
            The network's input is not one channel of samples.
        """
        if self.patterns.ndim != 3 or self.patterns.shape[1] != 1:
            raise InputError(f"save_wav: patterns are {self.patterns.shape}, wanted (n_units, 1, t)")
        import soundfile

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        repeats = -(-round((seconds or 0) * self.rate) // self.patterns.shape[-1]) or 1
        paths = []
        names = self.class_names or tuple(map(str, self.units))
        for name, sound in zip(names, as_heard(self.patterns, None), strict=True):
            path = folder / f"{self.layer}_{name}.wav"
            beside = path.with_suffix(".part")
            soundfile.write(beside, np.tile(sound[0], repeats), self.rate, subtype="PCM_16", format="WAV")
            beside.replace(path)
            paths.append(path)
        return paths


def maximize_activation(
    model: nn.Module,
    *,
    layer: str = "output",
    units: Sequence[int] | Literal["all"] = "all",
    settings: MaximizationSettings | None = None,
    sounds: Sounds | NDArray[np.floating] | Tensor | None = None,
    rate: int | None = None,
    length: int | tuple[int, ...] | None = None,
    class_names: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Maximization:
    """Find the input that drives each unit of a layer most.

    Units are grown independently: a unit's pattern depends on `rng`, the layer and the unit, not on the
    other units.

    Parameters
    ----------
    model : torch.nn.Module
        Takes (n, c, t) or (n, c, h, w). Its mode, `requires_grad` and device are given back; weights are not
        touched.
    layer : str
        A module's name; "output" is the model's output, whose units are classes. A final softmax is
        unwrapped.
    units : sequence of int or "all"
    settings : MaximizationSettings, optional
    sounds : Sounds, array or tensor (n, c, t) or (n, c, h, w), optional
        Give the mean spectrum, the level and the best real clips that `quality` compares with.
    rate : int, optional [Hz]
        Default: the sounds' own, else 16000.
    length : int or tuple, optional [samples]
        Length of the pattern. Default: as `settings.extent` says, from the sounds' length, else one second.
    class_names : sequence of str, optional
        Names of all output units.
    rng : numpy.random.Generator, optional
        Default: one with seed 0.
    device : str
    threads : int, optional
        Torch threads meanwhile; the count is given back.

    Returns
    -------
    Maximization

    Raises
    ------
    InputError
        An unknown layer or unit, a softmax inside `forward`, sounds or a length the network refuses.
    RunError
        A gradient that is not finite (layer and step are named).

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
    settings = settings or MaximizationSettings()
    waveforms = plain_waveforms(sounds)
    rate = int(getattr(sounds, "rate", 16_000)) if rate is None else rate
    rng = rng or np.random.default_rng(0)
    with frozen(model, device) as net, _torch_threads(threads):
        full, site = find_input(net, layer, waveforms=waveforms, length=length, rate=rate, device=device)
        task = plan(
            net,
            site,
            settings,
            waveforms=waveforms,
            rate=rate,
            full=full,
            units=units,
            length=length,
            device=device,
        )
        return _maximize(task, waveforms, class_names, rng)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)


@dataclass(frozen=True)
class _Job:
    """One start of one unit."""

    unit: int
    seed: int
    stage: Stage


def _maximize(
    task: Task,
    waveforms: NDArray[np.float32] | None,
    class_names: Sequence[str] | None,
    rng: np.random.Generator,
) -> Maximization:
    settings = task.settings
    names = _class_names(task, class_names)
    entropy = int(rng.integers(2**63))
    dead = _dead_units(task, waveforms, entropy)
    jobs = [
        _Job(unit, seed, "before" if unit in dead else settings.stage)
        for seed in range(settings.seeds)
        for unit in task.units
    ]
    found: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    with progress(f"maximizing {task.site.layer}", total=len(jobs) * settings.steps) as step:
        for stage in get_args(Stage):
            same = [job for job in jobs if job.stage == stage]
            for i in range(0, len(same), settings.micro_batch):
                batch = same[i : i + settings.micro_batch]
                patterns, trace = _ascend(task, batch, entropy, step.advance)
                for job, pattern, values in zip(batch, patterns, trace.T, strict=True):
                    found[job.unit, job.seed] = pattern, values
    by_seed = np.array([[found[u, s][0] for u in task.units] for s in range(settings.seeds)])
    best = np.array([scores(task, starts, dead) for starts in by_seed]).argmax(axis=0)
    trace = np.stack([found[u, int(s)][1] for u, s in zip(task.units, best, strict=True)], axis=1)
    quality = measure_quality(task, by_seed, best, waveforms, dead)
    if names:
        quality.insert(1, "class_name", list(names))
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
        notes=task.notes,
    )


def _starts(task: Task, batch: Sequence[_Job], entropy: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Free parameters of every start, and its shifts (n_steps, b), from a random state of its own."""
    layer = zlib.crc32(task.site.layer.encode())
    rngs = [
        np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(layer, job.unit, job.seed))) for job in batch
    ]
    free = torch.tensor(np.stack([task.prior.start(rng) for rng in rngs]), device=task.device)
    shifts = [rng.integers(-task.jitter, task.jitter + 1, task.settings.steps) for rng in rngs]
    return free, np.stack(shifts, axis=1)


def _class_names(task: Task, class_names: Sequence[str] | None) -> tuple[str, ...]:
    if class_names is None:
        return ()
    if len(class_names) != task.site.shape[0]:
        raise InputError(
            f"class_names: found {len(class_names)}, layer {task.site.layer!r} has {task.site.shape[0]} units"
        )
    return tuple(class_names[unit] for unit in task.units)


def _ascend(
    task: Task, batch: Sequence[_Job], entropy: int, advance: Callable[[int], None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grow the patterns (b, c, t) of one micro-batch; the trace is (n_steps, b)."""
    settings, stage = task.settings, batch[0].stage
    units = torch.tensor([job.unit for job in batch], device=task.device)
    free, shifts = _starts(task, batch, entropy)
    free.requires_grad_()
    adam = torch.optim.Adam([free], maximize=True) if settings.optimizer == "adam" else None
    trace = torch.empty(settings.steps, len(batch), device=task.device)
    for step in range(settings.steps):
        patterns = task.prior.decode(free)
        values = task.climb(shifted(patterns, shifts[step]), units, stage)
        trace[step] = values.detach()
        cost = penalty(patterns, l1=settings.l1, l2=settings.l2, total_variation=settings.total_variation)
        (gradient,) = torch.autograd.grad((values if cost is None else values - cost).sum(), free)
        size = root_mean_square(gradient)
        if not size.isfinite().all():
            wrong = [job.unit for job, s in zip(batch, size.flatten(), strict=True) if not s.isfinite()]
            raise RunError(
                f"activation maximization: gradient of layer {task.site.layer!r}, unit {some(wrong)} is not "
                f"finite at step {step}; take smaller steps, or a level"
            )
        size_of_step = settings.step_size * (1 - step / settings.steps if settings.decay == "linear" else 1)
        if adam is not None:
            adam.param_groups[0]["lr"] = size_of_step
            free.grad = gradient
            adam.step()
        else:
            with torch.no_grad():
                free += size_of_step * gradient / size.clamp_min(1e-30)
        advance(len(batch))
    with torch.no_grad():
        return task.prior.decode(free).cpu().numpy(), trace.cpu().numpy()


def _dead_units(task: Task, waveforms: NDArray[np.float32] | None, entropy: int) -> set[int]:
    """Units never positive behind their nonlinearity, on the sounds, on white noise and on a start of the
    ascent."""
    if task.site.before == task.site.after or task.settings.objective == "layer":
        return set()
    rng = np.random.default_rng(entropy)
    free = torch.tensor(np.stack([task.prior.start(rng) for _ in range(8)]), device=task.device)
    level = task.level or LEVEL_WITHOUT_SOUNDS
    noise = level * rng.standard_normal((8, *task.prior.shape), dtype=np.float32)
    heard = [*batches(task, task.prior.decode(free)), *batches(task, noise)]
    if waveforms is not None:
        heard += batches(task, waveforms)
    alive = torch.zeros(task.site.shape[0], dtype=torch.bool, device=task.device)
    with torch.no_grad():
        for batch in heard:
            alive |= (task.values(batch, "after").transpose(0, 1).flatten(1) > 0).any(1)
    return set(task.units) - set(alive.nonzero().flatten().tolist())
