"""Build the design matrix of each run: events through nilearn's HRFs, confounds, and drifts chosen from the design."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_literals, check_ranges, list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.drifts import USUAL, choose_drift_orders, compute_cosines, compute_legendre, explain_variance
from brainmap.rsa.glm.events import EARLIEST
from brainmap.rsa.glm.timing import Timing
from brainmap.types import Floats, GlmModel, Hrf, NoiseModel, Others

_SAME = 1e-7  # a column whose new part is below this share of its length is rounding error
_OVERSAMPLING = 50  # steps per volume on the grid of the regressors, as in nilearn
_FINE = 0.05  # [s]; step of that grid if volumes are unevenly spaced
_INFLATED = 10.0  # variance inflation factor above which a warning is given


@dataclass(frozen=True, kw_only=True)
class GlmSettings:
    """Hold how BOLD becomes betas: the arguments of `fit_betas` with the same names, `noise` with "auto" resolved."""

    model: GlmModel = "condition"
    hrf: Hrf = "glover"
    noise: NoiseModel = "auto"
    afni_grid: int | None = None
    high_pass: float | Literal["design"] | None = "design"
    polort: int | Literal["A"] | None = None
    others: Others = "all"
    nuisance: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_literals(
            (self.model, GlmModel, "model"),
            (self.hrf, Hrf, "hrf"),
            (self.noise, NoiseModel, "noise"),
            (self.others, Others, "others"),
        )
        if self.noise == "auto":
            object.__setattr__(self, "noise", "ar1" if self.model == "condition" and not self.afni_grid else "arma11")
        period, degree = self.high_pass, self.polort
        check_ranges(
            "glm",
            ("the noise 'arma11' beside afni_grid", self.noise, self.afni_grid is None or self.noise == "arma11"),
            ("an afni_grid from 3 (as 3dREMLfit) to 7", self.afni_grid, self.afni_grid in (None, 3, 4, 5, 6, 7)),
            (
                "as high_pass a period in seconds, 'design' or None",
                period,
                period in (None, "design") or (not isinstance(period, str) and period > 0),
            ),
            ("one of high_pass and polort, as both describe drifts", "both", degree is None or period == "design"),
            (
                "as polort a degree from 0 to 20, or 'A'",
                degree,
                degree in (None, "A") or (not isinstance(degree, str) and 0 <= degree <= 20),
            ),
        )


@dataclass(frozen=True, eq=False)
class RunDesign:
    """Hold the design of one run.

    Attributes
    ----------
    matrix : DataFrame (n_volumes, n_regressors)
        The index holds frame times [s]. `lss` has the same matrix as `lsa`, with one regressor per trial.
    labels, conditions : tuple of str
        One entry per beta.
    interest : ndarray of int
        Columns of the matrix that hold the regressors of the betas.
    onsets : ndarray (n_betas,) [s]
        Mean onset of each beta's events.
    trials : ndarray (n_volumes, n_betas, n_kernels)
        Regressors of the betas before derivatives are orthogonalized.
    timing : Timing
    order : int
        Number of drift terms.
    """

    matrix: pd.DataFrame
    labels: tuple[str, ...]
    conditions: tuple[str, ...]
    interest: NDArray[np.intp]
    onsets: Floats
    trials: Floats
    timing: Timing
    order: int

    @property
    def n_kernels(self) -> int:
        """Number of basis functions: 1, plus 1 for each derivative of the HRF."""
        return int(self.trials.shape[2])

    def shares(self) -> Floats:
        """Return the share of each beta's regressor variance that the drift terms explain, `(n_betas,)`."""
        return explain_variance(self.trials[:, :, 0], self.matrix.filter(regex=r"^drift_\d+$").to_numpy())

    def inflation(self) -> Floats:
        """Return the variance inflation factor of each beta; it is 1 if no other column resembles its regressor.

        For a regressor x this is `|x - mean(x)|^2` times its diagonal entry of `(X' X)^-1`, which is 1 / (1 - R^2).
        """
        x = self.matrix.to_numpy()
        lengths = np.linalg.norm(x, axis=0)
        rows = np.linalg.pinv(x / lengths)[self.interest] / lengths[self.interest, None]
        columns = x[:, self.interest]
        return np.asarray(((columns - columns.mean(axis=0)) ** 2).sum(axis=0) * (rows**2).sum(axis=1))


def make_designs(
    events: Sequence[pd.DataFrame],
    timings: Sequence[Timing],
    confounds: Sequence[pd.DataFrame | None],
    settings: GlmSettings,
) -> tuple[list[RunDesign], str]:
    """Build the design of every run, and a note about the drift terms.

    Raises
    ------
    InputError
        If regressors are collinear (they are named), or if there are more regressors than volumes.

    Warns
    -----
    BrainmapWarning
        If drift terms take more than 10 % of a condition's variance, if confounds add nothing new, or if the design
        inflates the variance of a beta tenfold.
    """
    parts = [_build_task(table, timing, settings) for table, timing in zip(events, timings, strict=True)]
    mains = [part.trials[:, :, 0] for part in parts]
    orders, said = choose_drift_orders(mains, timings, high_pass=settings.high_pass, polort=settings.polort)
    designs = []
    for k, (part, timing, order) in enumerate(zip(parts, timings, orders, strict=True)):
        drift = compute_legendre(timing, order) if settings.polort is not None else compute_cosines(timing, order)
        designs.append(_assemble_matrix(part, timing, confounds[k], drift, settings, f"run {k + 1}"))
    _warn_of_shares(designs)
    _warn_of_inflation(designs, settings)
    return designs, said


@dataclass(frozen=True)
class _Task:
    """Hold the regressors of the events of a run."""

    labels: tuple[str, ...]
    conditions: tuple[str, ...]
    onsets: Floats
    trials: Floats  # (n_volumes, n_betas, n_kernels)
    nuisance: dict[str, Floats]


def _build_task(events: pd.DataFrame, timing: Timing, settings: GlmSettings) -> _Task:
    single = build_event_regressors(events, timing, settings.hrf)
    name = events["name"].to_numpy(str)
    wanted = ~np.isin(name, settings.nuisance)
    if not wanted.any():
        raise InputError("events: every event is nuisance, so that there is no beta to estimate")
    onset, condition = events["onset"].to_numpy(float), events["condition"].to_numpy(str)
    if settings.model == "condition":
        labels = tuple(np.unique(name[wanted]).tolist())
        groups = [np.flatnonzero(name == label) for label in labels]
    else:
        groups = [np.array([k]) for k in np.flatnonzero(wanted)]
        labels = label_trials(name[wanted].tolist())
    trials = np.stack([single[:, members].sum(axis=1) for members in groups], axis=1)
    nuisance = {str(n): single[:, name == n].sum(axis=1) for n in settings.nuisance if (name == n).any()}
    conditions = tuple(str(condition[members[0]]) for members in groups)
    return _Task(labels, conditions, np.array([onset[m].mean() for m in groups]), trials, nuisance)


def label_trials(names: Sequence[str]) -> tuple[str, ...]:
    """Label every trial with its name, numbered as in AFNI if the name occurs more than once in the run.

    Examples
    --------
    >>> label_trials(["cat", "dog", "cat"])
    ('cat#0', 'dog', 'cat#1')
    """
    given = pd.Series(names, dtype=object)
    repeated, number = given.duplicated(keep=False), given.groupby(given).cumcount()
    return tuple(f"{name}#{n}" if again else name for name, again, n in zip(names, repeated, number, strict=True))


def build_event_regressors(events: pd.DataFrame, timing: Timing, hrf: Hrf) -> Floats:
    """Compute the response to each event alone, `(n_volumes, n_events, n_kernels)`; nilearn's designs sum these.

    nilearn convolves a box with the HRF for every event. The convolution equals the difference of two shifts of the
    integrated HRF, which is looked up here. If volumes are unevenly spaced, nilearn stretches the HRF; here it keeps
    its length.
    """
    times = timing.frame_times
    # This is nilearn's grid to the last digit; otherwise events would begin one step earlier or later than in nilearn.
    step = timing.t_r / (_OVERSAMPLING if timing.regular else math.ceil(timing.t_r / _FINE))
    first, last = times[0] + EARLIEST, times[-1] + (times[-1] / (len(times) - 1) if timing.regular else timing.t_r)
    grid = np.linspace(first, last, int(np.rint((last - first) / step + 1)))
    n_fine = len(grid)
    begin = np.minimum(np.searchsorted(grid, events["onset"].to_numpy(float)), n_fine - 1)
    end = np.minimum(np.searchsorted(grid, (events["onset"] + events["duration"]).to_numpy(float)), n_fine - 1)
    end += (end == begin) & (end < n_fine - 1)  # an event without duration lasts one step
    where = (times - first) / (grid[1] - grid[0])
    below = np.minimum(where.astype(int), n_fine - 2)
    share = (where - below)[:, None]

    def at(index: NDArray[np.intp], integral: Floats, shift: NDArray[np.intp]) -> Floats:
        since = index[:, None] - shift
        return np.asarray(np.where(since < 0, 0.0, integral[np.clip(since, 0, len(integral) - 1)]))

    found = np.empty((len(times), len(events), len(_list_hrf_kernels(hrf))))
    for k, kernel in enumerate(_list_hrf_kernels(hrf)):
        integral = np.cumsum(kernel(step, 1))
        low, high = (at(i, integral, begin) - at(i, integral, end) for i in (below, below + 1))
        found[:, :, k] = (1 - share) * low + share * high
    return found


def _list_hrf_kernels(hrf: Hrf) -> list[Callable[..., Any]]:
    from nilearn.glm.first_level import hemodynamic_models

    name, *derivatives = hrf.split(" + ")
    endings = {"derivative": "time_derivative", "dispersion": "dispersion_derivative"}
    return [getattr(hemodynamic_models, f"{name}_{ending}") for ending in ("hrf", *(endings[d] for d in derivatives))]


def orthogonalize_derivatives(columns: Floats) -> Floats:
    """Orthogonalize the derivatives of a regressor with respect to the regressor, as nilearn does; `(n, n_kernels)`."""
    if columns.shape[1] == 1:
        return columns
    from nilearn.glm.first_level.hemodynamic_models import orthogonalize

    return np.asarray(orthogonalize(columns.copy()))


def _assemble_matrix(
    task: _Task, timing: Timing, confounds: pd.DataFrame | None, drift: Floats, settings: GlmSettings, what: str
) -> RunDesign:
    """Assemble the matrix of a run in nilearn's order: events, confounds, drifts, constant."""
    kernels = task.trials.shape[2]
    endings = ("", "_derivative", "_dispersion")[:kernels]
    n = len(timing.frame_times)
    blocks = [orthogonalize_derivatives(task.trials[:, k]) for k in range(task.trials.shape[1])]
    blocks += [orthogonalize_derivatives(columns) for columns in task.nuisance.values()]
    names = [f"{label}{ending}" for label in (*task.labels, *task.nuisance) for ending in endings]
    n_events = len(names)
    extra = pd.DataFrame(index=range(n)) if confounds is None else confounds
    names += [*extra.columns, *(f"drift_{k}" for k in range(1, drift.shape[1] + 1)), "constant"]
    refuse_some(
        sorted({name for name in names if names.count(name) > 1}),
        f"design of {what}: ",
        " names more than one event or confound; rename one",
    )
    matrix = pd.DataFrame(
        np.hstack([*blocks, extra.to_numpy(float), drift, np.ones((n, 1))]), columns=names, index=timing.frame_times
    )
    if matrix.shape[1] >= n and settings.model != "lss":
        raise InputError(
            f"design of {what}: expected fewer regressors than volumes, got {matrix.shape[1]} regressors for {n} "
            "volumes; leave out confounds, or use model='lss' for single trials"
        )
    matrix = _remove_dependent(matrix, n_events, extra.shape[1], settings.model == "lss", what)
    interest = np.arange(len(task.labels)) * kernels
    return RunDesign(matrix, task.labels, task.conditions, interest, task.onsets, task.trials, timing, drift.shape[1])


def _remove_dependent(matrix: pd.DataFrame, n_events: int, n_confounds: int, single: bool, what: str) -> pd.DataFrame:
    """Remove confounds that are linear combinations of other columns; refuse event regressors that are."""
    x = matrix.to_numpy()
    if (np.abs(x[:, :n_events]).max(axis=0, initial=0.0) < 1e-12).any():
        silent = [str(c) for c, v in zip(matrix.columns, np.abs(x).max(axis=0), strict=True) if v < 1e-12]
        raise InputError(
            f"design of {what}: no volume shows the response to {list_some(silent, 4)}; correct the onset, or leave "
            "the event out"
        )
    events, rest = list(range(n_events)), list(range(n_events, x.shape[1]))
    confounds, drifts = rest[:n_confounds], rest[n_confounds:]
    order = [*reversed(drifts), *confounds, *events]
    dependent = {order[k] for k in find_dependent_columns(x[:, order])}
    idle = [matrix.columns[k] for k in confounds if k in dependent]
    if idle:
        warnings.warn(
            f"design of {what}: the confounds {list_some(idle, 4)} are linear combinations of drifts and other "
            "confounds, and are left out",
            BrainmapWarning,
            stacklevel=7,
        )
    lost = [str(matrix.columns[k]) for k in sorted(dependent & set(events))]
    if lost and not single:
        raise InputError(
            f"design of {what}: {list_some(lost, 4)} cannot be separated from other regressors (rank "
            f"{x.shape[1] - len(dependent)} of {x.shape[1]}); put events further apart or leave some out"
        )
    return matrix.drop(columns=idle)


def find_dependent_columns(x: Floats) -> list[int]:
    """Find the columns that are linear combinations of earlier columns, by Gram-Schmidt orthogonalization."""
    basis = np.empty((len(x), 0))
    found = []
    for k, column in enumerate((x / np.maximum(np.linalg.norm(x, axis=0), np.finfo(float).tiny)).T):
        new = column - basis @ (basis.T @ column)
        new -= basis @ (basis.T @ new)
        length = np.linalg.norm(new)
        if length < _SAME or basis.shape[1] == len(x):
            found.append(k)
        else:
            basis = np.column_stack([basis, new / length])
    return found


def _warn_of_shares(designs: Sequence[RunDesign]) -> None:
    taken = [
        (share, label, run)
        for run, d in enumerate(designs, 1)
        for share, label in zip(d.shares(), d.labels, strict=True)
    ]
    high = [one for one in taken if one[0] > USUAL]
    if high:
        share, label, run = max(high)
        warnings.warn(
            f"design: drift terms take more than {USUAL:.0%} of the variance of {len(high)} of {len(taken)} "
            f"regressors, up to {share:.0%} ({label!r} in run {run})",
            BrainmapWarning,
            stacklevel=6,
        )


def _warn_of_inflation(designs: Sequence[RunDesign], settings: GlmSettings) -> None:
    if settings.model == "lss":
        return  # LSS is made for designs whose trials overlap
    worst = max(
        (v, label, run) for run, d in enumerate(designs, 1) for v, label in zip(d.inflation(), d.labels, strict=True)
    )
    if worst[0] > _INFLATED:
        hint = "; model='lss' suits trials that overlap" if settings.model == "lsa" else ""
        warnings.warn(
            f"design: regressors are collinear: the variance of {worst[1]!r} in run {worst[2]} is {worst[0]:.0f} "
            f"times what it would be alone{hint}",
            BrainmapWarning,
            stacklevel=6,
        )
