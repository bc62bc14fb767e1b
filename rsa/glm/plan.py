"""Plan a GLM before any voxel is read: timing, events, confounds and designs of its runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from brainmap.checks import check_choice, check_one_each, list_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.arma import LARGEST, Arma
from brainmap.rsa.glm.confounds import Confounds, Strategy, read_confounds
from brainmap.rsa.glm.design import GlmSettings, RunDesign, find_dependent_columns, make_designs
from brainmap.rsa.glm.estimators import FEW_PAIRS, FEWEST_FREE
from brainmap.rsa.glm.events import EventSource, read_noted_events, refuse_unknown_nuisance
from brainmap.rsa.glm.reml import RunNoise
from brainmap.rsa.glm.timing import Timing, read_timing
from brainmap.rsa.images.files import check_same_grid, image_info
from brainmap.rsa.regions.rois import Image, build_grid
from brainmap.types import Missing

log = logging.getLogger("brainmap")
NOISES = {"ar1": "AR(1)", "arma11": "ARMA(1,1)", "ols": "white noise"}
_FAST = 1.0  # [s]; a shorter TR needs noise models of higher order
RunConfounds = Confounds | Sequence[Confounds] | Sequence[Sequence[Confounds]]


@dataclass(frozen=True, eq=False)
class Plan:
    """Hold the designs of a fit, known from headers and tables alone.

    Attributes
    ----------
    designs : list of RunDesign
        One design per run.
    run_names : tuple of str
    notes : tuple of str
    """

    designs: list[RunDesign]
    run_names: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunSettings:
    """Hold what is known of the runs beside images and events.

    Attributes
    ----------
    confounds, strategy, t_r, column, duration, leave_out, slice_time_ref, frame_times, missing, run_names
        As in `fit_betas`.
    refuse_absent : bool
        Whether names of `leave_out` and `nuisance` that do not occur in any run are refused. A study, where other
        participants may have such events, notes them instead.
    """

    confounds: RunConfounds | None = None
    strategy: Strategy | None = None
    t_r: float | None = None
    column: str = "trial_type"
    duration: float | Mapping[str, float] | None = None
    leave_out: Sequence[str] = ()
    slice_time_ref: float | None = None
    frame_times: ArrayLike | Sequence[ArrayLike] | None = None
    missing: Missing = "error"
    run_names: Sequence[str] | None = None
    refuse_absent: bool = True

    def __post_init__(self) -> None:
        check_choice(self.missing, get_args(Missing), "missing")


def plan_betas(
    bold: Sequence[Image], events: EventSource, *, settings: GlmSettings, runs: RunSettings | None = None
) -> Plan:
    """Build the designs of all runs from headers and tables alone, with all checks of `fit_betas` that need no voxels.

    Raises
    ------
    InputError
        As in `fit_betas`.
    """
    runs = runs or RunSettings()
    names = tuple(runs.run_names or (str(k + 1) for k in range(len(bold))))
    if len(names) != len(bold) or len(set(names)) < len(names):
        raise InputError(f"run_names: expected a different name for each of {len(bold)} images, got {list_some(names)}")
    infos = [image_info(image) for image in bold]
    for info in infos[1:]:
        check_same_grid(
            build_grid(info.shape, info.affine),
            build_grid(infos[0].shape, infos[0].affine),
            what=f"BOLD {info.path or ''}".strip(),
            wanted="first run",
        )
    times = _split_times(runs.frame_times, len(bold))
    timings = [
        read_timing(
            info, name=str(info.path or f"run {k}"), t_r=runs.t_r, slice_time_ref=runs.slice_time_ref, frame_times=own
        )
        for k, (info, own) in enumerate(zip(infos, times, strict=True), start=1)
    ]
    tables, notes = read_noted_events(
        events,
        run_seconds=[t.seconds for t in timings],
        column=runs.column,
        duration=runs.duration,
        leave_out=runs.leave_out,
        nuisance=settings.nuisance,
        refuse_absent=runs.refuse_absent,
    )
    if runs.refuse_absent:
        refuse_unknown_nuisance(tables, settings.nuisance)
    regressors = _split_confounds(runs.confounds, runs.strategy, timings)
    designs, drifts = make_designs(tables, timings, regressors, settings)
    _check_missing(designs, names, runs.missing)
    _check_noise(designs, names, settings)
    said = list(dict.fromkeys(f"timing: {timing.said}" for timing in timings))
    return Plan(designs, names, (*said, *notes, drifts, _describe_noise_model(settings, timings)))


def _split_times(given: ArrayLike | Sequence[ArrayLike] | None, n_runs: int) -> list[Any]:
    if given is None:
        return [None] * n_runs
    runs: list[Any] = list(given)  # type: ignore[arg-type]
    if not runs or np.ndim(runs[0]) == 0:
        return [given] * n_runs
    if len(runs) != n_runs:
        raise InputError(f"frame_times: expected one list, or one for each of {n_runs} runs, got {len(runs)} lists")
    return runs


def _split_confounds(
    given: RunConfounds | None, strategy: Strategy | None, timings: Sequence[Timing]
) -> list[pd.DataFrame | None]:
    if given is None:
        if strategy is not None:
            raise InputError(
                f"strategy: {strategy!r} chooses columns of confounds, and there are none; give confounds="
            )
        return [None] * len(timings)
    lengths = [len(t.frame_times) for t in timings]
    runs: list[Any] = [given] if isinstance(given, str | Path | pd.DataFrame | np.ndarray) else list(given)
    if len(runs) == 1 and len(lengths) > 1:
        whole = read_confounds(runs[0], n_volumes=sum(lengths), strategy=strategy, what="all runs")
        log.info("confounds: one table for all runs, cut after %s volumes", list_some(np.cumsum(lengths)[:-1].tolist()))
        runs = np.split(whole.to_numpy(), np.cumsum(lengths)[:-1])
        runs, strategy = [pd.DataFrame(part, columns=whole.columns) for part in runs], None
    check_one_each(runs, len(lengths), "confounds", "runs")
    return [
        read_confounds(own, n_volumes=n, strategy=strategy, what=f"run {k}")
        for k, (own, n) in enumerate(zip(runs, lengths, strict=True), start=1)
    ]


def _check_missing(designs: Sequence[RunDesign], names: Sequence[str], missing: str) -> None:
    """Refuse a condition that is absent from a run, or warn about it if `missing` allows gaps."""
    of_run = [set(design.conditions) for design in designs]
    gaps = {c: [n for n, has in zip(names, of_run, strict=True) if c not in has] for c in sorted(set().union(*of_run))}
    lacking = [f"{condition!r} in run {', '.join(runs)}" for condition, runs in gaps.items() if runs]
    if lacking:
        said = f"events: these conditions have no event: {'; '.join(lacking[:4])}{' ...' if len(lacking) > 4 else ''}"
        if missing == "error":
            typo = _suggest_typo(gaps, names)
            goes_on = "" if typo else '; missing="nan" goes on without an absent condition'
            raise InputError(
                f"{said}{typo}; events of no interest are named in nuisance (modelled without betas) or leave_out (not "
                f"modelled){goes_on}"
            )
        warnings.warn(said, BrainmapWarning, stacklevel=5)


def _suggest_typo(gaps: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    """Return a question about a name that resembles another one and occurs only in the runs where that is absent."""
    partial = {name: lacking for name, lacking in gaps.items() if lacking}
    for name, lacking in sorted(partial.items(), key=lambda one: -len(one[1])):
        there = [run for run in names if run not in lacking]
        fits = [n for n, gap in partial.items() if list(gap) == there and n != name]
        if hint := suggest_word(name, [n for n in fits if len(there) < len(lacking) or len(partial) == 2]):
            return hint.replace("did you mean", f"is {name!r} a misspelt")
    return ""


def _check_noise(designs: Sequence[RunDesign], names: Sequence[str], settings: GlmSettings) -> None:
    """Check that each run has enough volumes to estimate the noise, and that its TR suits the noise model."""
    if settings.noise == "ols":
        return
    for design, name in zip(designs, names, strict=True):
        n, p = design.matrix.shape
        if settings.model == "lss":
            p -= len(find_dependent_columns(design.matrix.to_numpy()))
        if n - p < FEWEST_FREE and design.timing.pairs >= FEW_PAIRS:
            raise InputError(
                f"design of run {name}: expected at least {FEWEST_FREE} volumes beyond the regressors to estimate the "
                f"noise model {settings.noise!r}, got {max(n - p, 0)} of {n} volumes beside {p} regressors; leave out "
                "confounds, or choose the noise model 'ols'"
            )
    fastest = min(design.timing.t_r for design in designs)
    if fastest < _FAST:
        warnings.warn(
            f"noise: volumes {fastest:g} s apart have an autocorrelation that {NOISES[settings.noise]} does not "
            f"describe (a TR under {_FAST:g} s); variances of betas and noise-only are approximate",
            BrainmapWarning,
            stacklevel=5,
        )


def _describe_noise_model(settings: GlmSettings, timings: Sequence[Timing]) -> str:
    if settings.noise == "ols":
        return "noise: ordinary least squares"
    alone = sum(t.pairs < FEW_PAIRS for t in timings)
    model = NOISES[settings.noise]
    if alone:
        return f"noise: {model}, but ordinary least squares in {alone} runs, whose volumes are apart"
    if settings.afni_grid:
        return f"noise: {model} by REML, of each voxel on 3dREMLfit's grid {settings.afni_grid}"
    return f"noise: {model} by REML, pooled over the voxels of each run"


def describe_noise(found: Sequence[RunNoise], settings: GlmSettings) -> str:
    """Describe the noise of the runs in words: pooled parameters, voxelwise deviations, and parameters at a limit.

    Warns
    -----
    BrainmapWarning
        If a parameter is at the limit of its range.
    """
    known = [one for one in found if one.estimated]
    if not known:
        return "noise found: too few volumes follow one another (or are free) to tell; taken as independent"
    told = describe_parameters([one.pooled for one in known])
    if settings.noise == "ols":
        used = "not whitened"
    elif settings.afni_grid:
        used = "pooled; betas are whitened by each voxel's own"
    else:
        used = f"voxels keep {_format_range([one.own for one in known])} of what they deviate in lag-1 autocorrelation"
    limit = [one for one in known if max(abs(one.pooled.a), abs(one.pooled.b)) > LARGEST - 1e-3]
    if limit:
        warnings.warn(
            f"noise: a parameter is at the limit of its range ({LARGEST:g}) in {len(limit)} of {len(found)} runs "
            f"({told}); is there a drift that the high-pass filter leaves?",
            BrainmapWarning,
            stacklevel=6,
        )
    model = NOISES["arma11" if settings.noise == "ols" else settings.noise]
    return f"noise found: {model}, {told}; {used}"


def describe_parameters(found: Sequence[Arma]) -> str:
    """Describe the noise parameters of several runs in words, from the smallest to the largest.

    Examples
    --------
    >>> describe_parameters([Arma(0.81, -0.6), Arma(0.85, -0.6)])
    'a 0.81 to 0.85, b -0.60, lag-1 autocorrelation 0.28 to 0.36'
    """
    parts = [("a", [one.a for one in found]), ("b", [one.b for one in found])]
    parts = [part for part in parts if part[0] == "a" or any(part[1])]
    lag1 = ("lag-1 autocorrelation", [one.lag1 for one in found])
    return ", ".join(f"{name} {_format_range(values)}" for name, values in [*parts, lag1])


def _format_range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
