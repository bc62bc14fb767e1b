"""Show why logits are maximized: a softmax saturates at 1, where its gradient vanishes, while the logit still rises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.layers.inputs import make_differentiable
from brainmap.features.layers.running import count_workers, run_side_by_side, use_one_thread
from brainmap.features.maximization.ascent import Job, ascend, draw_starts
from brainmap.features.maximization.jitter import roll_patterns
from brainmap.features.maximization.plan import describe_wish, find_input, plan
from brainmap.features.maximization.priors import compute_penalty
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.maximization.site import freeze
from brainmap.features.maximization.task import Task
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.inputs import InputAxes, describe_input
from brainmap.progress import progress

CLIMBED = ("softmax", "logit")
SATURATED = 0.999
# usual recipes add this to the gradient's RMS; without it, a saturated softmax would be driven by rounding errors
FLOOR = 1e-5


@dataclass(frozen=True, kw_only=True)
class SoftmaxSaturation:
    """Hold two maximizations of the same classes from the same noise: by probability, and by logit.

    Attributes
    ----------
    class_names : tuple of str
    probability, logit : ndarray (2, n_steps, n_classes)
        Values at every step; the first axis is the ascent on the softmax, then the ascent on the logit.
    table : DataFrame
        One row per class: the step at which the probability of each ascent first reaches .999 (NaN: never), the logit
        of the softmax ascent at that step, and the logit at the end of each.
    settings : MaximizationSettings
    patterns : ndarray (2, n_classes, c, t) or (2, n_classes, c, h, w)
        What each ascent ends at.
    rate : int [Hz]
        Rate of the last axis of patterns, 0 where it is not known.
    axes : InputAxes, optional
        What the axes of the input mean, where sounds say so.
    """

    class_names: tuple[str, ...]
    probability: NDArray[np.float32]
    logit: NDArray[np.float32]
    table: pd.DataFrame
    settings: MaximizationSettings
    patterns: NDArray[np.float32]
    rate: int
    axes: InputAxes | None = None


def softmax_saturation(
    model: nn.Module,
    *,
    units: int | Sequence[int] | Literal["all"] = "all",
    settings: MaximizationSettings | None = None,
    sounds: Sounds | None = None,
    rate: int | None = None,
    length: int | tuple[int, ...] | None = None,
    class_names: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> SoftmaxSaturation:
    """Maximize classes by their softmax probability and by their logit, and keep both traces of both.

    Parameters
    ----------
    model : torch.nn.Module
        A network with or without a softmax at its end.
    units
        As in `maximize_activation`.
    settings : MaximizationSettings, optional
        Default: settings of the source study, whose level is free. A gradient with an RMS below 1e-5 counts as small.
    sounds, rate, length, class_names, rng, device, threads
        As in `maximize_activation`.

    Returns
    -------
    SoftmaxSaturation

    Raises
    ------
    InputError
        As for `maximize_activation`; or the output of the network is not a vector of classes.

    Examples
    --------
    >>> from brainmap.features import build_network
    >>> few = MaximizationSettings.of("source", steps=2)
    >>> softmax_saturation(build_network("ch32"), units=[3], settings=few).logit.shape
    (2, 2, 1)
    """
    settings = settings or MaximizationSettings.source_study()
    rng = rng or np.random.default_rng(0)
    sounds = None if sounds is None else make_differentiable(model, sounds)
    wish = describe_wish(sounds, rate=rate, units=units, length=length, device=device)
    with freeze(model, device) as net, use_one_thread():
        full, site = find_input(net, "output", wish, compiled=settings.compiled)
        if len(site.shape) != 1:
            raise InputError(
                f"softmax saturation: expected a network that returns one number for each class, got {site.shape}"
            )
        task, _ = plan(net, site, settings, full=full, wish=wish)
        entropy = int(rng.integers(2**63))
        with progress("softmax against logit", total=2 * len(task.units) * settings.steps) as step:
            both = [
                _climb_units(
                    task, climbed, entropy, step.advance, count_workers(device, threads, "activation maximization")
                )
                for climbed in CLIMBED
            ]
    probability, logit, patterns = (np.stack([one[i] for one in both]) for i in range(3))
    if class_names is not None and len(class_names) != site.shape[0]:
        raise InputError(f"class_names: expected {site.shape[0]} names, one for each class, got {len(class_names)}")
    names = tuple(class_names[u] if class_names is not None else str(u) for u in task.units)
    return SoftmaxSaturation(
        class_names=names,
        probability=probability,
        logit=logit,
        settings=task.settings,
        table=_tabulate_steps(names, probability, logit),
        patterns=patterns,
        rate=task.rate,
        axes=describe_input(sounds),
    )


def _climb_units(
    task: Task, climbed: str, entropy: int, advance: Callable[[int], None], threads: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Record probability and logit (n_steps, n_classes) at every step of one ascent, and the patterns at its end."""
    size = task.settings.micro_batch
    parts = [[Job(unit, 0, "after") for unit in task.units[i : i + size]] for i in range(0, len(task.units), size)]
    grown = run_side_by_side(
        lambda own, part, told: _climb_batch(own, climbed, part, entropy, told),
        task,
        parts,
        modules=task.modules,
        threads=min(threads, len(parts)),
        advance=advance,
    )
    traces, patterns = zip(*grown, strict=True)
    probability, logit = np.concatenate(traces, axis=2)
    return probability, logit, np.concatenate(patterns)


def _climb_batch(
    task: Task, climbed: str, batch: Sequence[Job], entropy: int, advance: Callable[[int], None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    starts = draw_starts(task, batch, entropy)
    rows, units = (torch.tensor(n, device=task.device) for n in (range(len(batch)), [job.unit for job in batch]))
    trace = torch.empty(2, task.settings.steps, len(batch), device=task.device)

    def gain(_: Tensor, patterns: Tensor, step: int) -> Tensor:
        logits = task.compute_values(roll_patterns(patterns, starts.shifts[step]), "after")
        both = torch.stack([logits.softmax(1)[rows, units], logits[rows, units]])
        trace[:, step] = both.detach()
        cost = compute_penalty(patterns, task.settings)
        return both[CLIMBED.index(climbed)] - (0.0 if cost is None else cost)

    def name_rows(wrong: list[int]) -> str:
        return f"the {climbed} of unit {list_some(batch[row].unit for row in wrong)}"

    patterns, _ = ascend(
        starts.free,
        starts.decode,
        gain,
        task.settings,
        model=task.model,
        name_rows=name_rows,
        advance=advance,
        floor=FLOOR,
    )
    return trace.cpu().numpy(), patterns.cpu().numpy()


def _tabulate_steps(names: Sequence[str], probability: NDArray[np.float32], logit: NDArray[np.float32]) -> pd.DataFrame:
    full = probability >= SATURATED
    first = np.where(full.any(1), full.argmax(1), -1)  # (2, n_classes)
    columns = np.arange(len(names))
    return pd.DataFrame(
        {
            "class_name": list(names),
            "softmax_full_at_step": np.where(first[0] >= 0, first[0], np.nan),
            "logit_full_at_step": np.where(first[1] >= 0, first[1], np.nan),
            "logit_where_softmax_is_full": np.where(first[0] >= 0, logit[0, first[0], columns], np.nan),
            "last_logit_by_softmax": logit[0, -1],
            "last_logit_by_logit": logit[1, -1],
        }
    )
