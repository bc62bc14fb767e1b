"""Estimate noise precisions from how patterns vary over runs, for each run from the other runs only.

A precision from all runs depends on the noise of each run: where two runs agree by chance, the estimated noise is small
and the weight large, so that products of different runs are above 0 on average even for pure noise. Therefore each
run is weighted by a precision that is estimated without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, list_some
from brainmap.errors import InputError
from brainmap.rsa.rdm.shrinkage import shrink_to_diagonal
from brainmap.types import Dataset, Floats, NoiseMethod

MOST_CHANNELS = 6_000  # 288 MB per matrix, and the shrinkage estimate holds four of them

_ESTIMATOR = {"diag": "diag", "shrinkage-eye": "shrinkage_eye", "full": "full"}
_MOST_INFLATION = 1e12  # of a variance, beyond which an inverse has no digits left
_BLOCK = 8192  # number of voxels whose variances are computed at a time
FEWEST_RUNS = 3
"""Smallest number of runs for a precision from runs: the run that is weighted, and two others that differ."""


@dataclass(frozen=True, eq=False)
class RunNoise:
    """Estimate a noise precision for each run from how patterns vary over the other runs.

    `compute_rdms`, `rdm_reliability` and the searchlights accept it as noise precision. The patterns of a run are
    weighted by a precision that does not depend on their own deviations, so that the mean distance of pure noise is 0
    for any noise. It cannot be converted to an array, since a single precision of all runs would be biased again.

    Attributes
    ----------
    dataset : rsatoolbox.data.Dataset
        The patterns; of one region if the method uses whole covariances.
    method : {"diag", "shrinkage", "shrinkage-eye", "full"}
    kept : dict of run to weights, optional
        Cached weights, for repeated use; by default none are cached.
    """

    dataset: Dataset = field(repr=False)
    method: NoiseMethod = "shrinkage"
    kept: dict[str, Floats] | None = field(default=None, repr=False)

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the sorted names of the runs that have patterns."""
        return tuple(np.unique(list_runs(self.dataset)[find_present(self.dataset)]).tolist())

    @property
    def n_units(self) -> int:
        """Return the number of voxels of the patterns."""
        return int(self.dataset.n_channel)

    def weights(self, run: str) -> Floats:
        """Return the precision without this run, `(n_voxels, n_voxels)`; with "diag" its diagonal, `(n_voxels,)`.

        Raises
        ------
        InputError
            The run does not exist, there are too few other runs, or a voxel does not vary over them.
        """
        known = np.unique(list_runs(self.dataset)).tolist()
        if run not in known:
            raise InputError(
                f"noise from runs: expected one of the runs {list_some(known)}, whose patterns estimate the noise, got "
                f"{run!r}; take the noise from the patterns of the RDM"
            )
        if self.kept is None:
            return self._estimate_precision(run)
        if run not in self.kept:
            self.kept[run] = self._estimate_precision(run)
        return self.kept[run]

    def keep_weights(self) -> RunNoise:
        """Return a copy that caches the weights of each run once they are computed (`n_runs` matrices)."""
        return replace(self, kept={})

    def pooled(self) -> Floats:
        """Return the precision from all runs, for patterns that are averaged over runs; use `weights` for others."""
        return self._estimate_precision(None)

    def check(self) -> RunNoise:
        """Check that there are enough runs to leave one out, and return the object itself.

        Raises
        ------
        InputError
            No item repeats over runs, there are fewer than three runs, or no degree of freedom is left without some
            run.
        """
        self.check_runs()
        for one in self.runs:
            check_varying(self._variances[one] ** 0.5, self.dataset.measurements, f"the runs but {one}")
        return self

    def check_runs(self) -> list[str]:
        """Check that there are enough runs to leave any of them out, and return their names.

        Raises
        ------
        InputError
            The same cases as in `check`, except for voxels that do not vary.
        """
        labels, there = find_repeated(self.dataset)
        if len(self.runs) < FEWEST_RUNS:
            raise InputError(
                f"noise from runs: expected {FEWEST_RUNS} runs or more, as the noise of a run must come from others, "
                f"got {len(self.runs)}; take the noise from residuals of the GLM (noise = 'residuals', --noise "
                "residuals, source=...), or none (noise = 'none', --noise none)"
            )
        run = list_runs(self.dataset)
        for one in self.runs:
            freedom = _count_freedom(self.dataset, labels, there & (run != one))
            if freedom < 1:
                raise InputError(
                    f"noise from runs: expected 1 degree of freedom or more, got {freedom} from the patterns without "
                    f"run {one}; take residuals of the GLM, or no noise"
                )
            check_freedom(self.method, freedom, self.n_units)
        return run_names(self.dataset)

    def _estimate_precision(self, without: str | None) -> Floats:
        if self.method == "diag" and without is not None:
            return np.asarray(1.0 / self._variances[without])
        residuals, freedom = compute_run_residuals(self.dataset, without=without)
        return estimate_precision(residuals, freedom, self.method)

    @cached_property
    def _variances(self) -> dict[str, Floats]:
        """Compute the variance of each voxel `(n_voxels,)` without each run, in one pass over the patterns.

        If k of the n patterns of an item, with deviations e from its mean, are left out, its sum of squares decreases
        by sum(e^2) + (sum e)^2 / (n - k).
        """
        labels, there = find_repeated(self.dataset)
        run, names = list_runs(self.dataset)[there], labels[there]
        found = {one: np.empty(self.n_units) for one in np.unique(list_runs(self.dataset)).tolist()}
        rest = {
            one: {label: np.count_nonzero((names == label) & (run != one)) for label in set(names[run == one])}
            for one in found
        }
        for start in range(0, self.n_units, _BLOCK):
            block = slice(start, start + _BLOCK)
            residuals = _demean_items(self.dataset.measurements[:, block][there].astype(float), names)
            total = (residuals**2).sum(axis=0)
            for one, squares in found.items():
                gone = residuals[run == one]
                squares[block] = total - (gone**2).sum(axis=0)
                for label, n in sorted(rest[one].items()):
                    if n:
                        squares[block] -= gone[names[run == one] == label].sum(axis=0) ** 2 / n
        for one, squares in found.items():
            freedom = _count_freedom(self.dataset, labels, there & (list_runs(self.dataset) != one))
            squares /= freedom if freedom > 0 else np.nan
        return found

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise InputError(
            "noise from runs: it is one precision per run, each from the other runs, and no single matrix; give it to "
            "compute_rdms, rdm_reliability or a searchlight as it is, or take .pooled() where the patterns are "
            "averaged over runs"
        )


def compute_run_residuals(dataset: Dataset, *, without: str | None = None) -> tuple[Floats, int]:
    """Compute the deviation of each pattern from its item's mean over runs, and the degrees of freedom.

    The deviations are `(n_patterns, n_voxels)`. Items are stimuli where stimuli occur in two runs or more, else
    conditions. Missing patterns (NaN) and those of the run `without` are left out.

    Raises
    ------
    InputError
        No item occurs in two runs.
    """
    labels, there = find_repeated(dataset)
    if without is not None:
        there = there & (list_runs(dataset) != without)
    x = _demean_items(dataset.measurements[there].astype(float), labels[there])
    return x, _count_freedom(dataset, labels, there)


def _demean_items(x: Floats, labels: NDArray[np.str_]) -> Floats:
    """Subtract the mean of each item from its patterns `(n_patterns, n_voxels)`, in place."""
    names, item = np.unique(labels, return_inverse=True)
    for k in range(len(names)):
        x[item == k] -= x[item == k].mean(axis=0)
    return x


def prepare_deviations(dataset: Dataset, *, without: str | None = None) -> tuple[NDArray[np.intp], Floats, int]:
    """Return what is needed to compute the residuals of `compute_run_residuals` for some voxels later.

    The values are the indices of the patterns that are used, the matrix `(n_patterns, n_patterns)` that subtracts the
    means of their items, and the degrees of freedom.
    """
    labels, there = find_repeated(dataset)
    if without is not None:
        there = there & (list_runs(dataset) != without)
    same = labels[there][:, None] == labels[there]
    return np.flatnonzero(there), np.eye(len(same)) - same / same.sum(axis=1), _count_freedom(dataset, labels, there)


def find_repeated(dataset: Dataset) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return the item of each pattern, and which patterns are not missing.

    Items are stimuli where these occur in two runs or more, else conditions.

    Raises
    ------
    InputError
        No item occurs in two runs.
    """
    run, there = list_runs(dataset), find_present(dataset)
    for key in ("stimulus_id", "condition"):
        if key not in dataset.obs_descriptors:
            continue
        names = read_descriptor(dataset, key)
        if len(set(zip(names[there], run[there], strict=True))) > len(set(names[there])):
            return names, there
    raise InputError(
        f"noise from runs: expected conditions that repeat over {FEWEST_RUNS} runs or more, got none in "
        f"{len(np.unique(run))} runs; give more runs, or residuals of the GLM"
    )


def _count_freedom(dataset: Dataset, labels: NDArray[np.str_], there: NDArray[np.bool_]) -> int:
    """Count the degrees of freedom of deviations from item means, reduced where runs were demeaned.

    They are n_patterns - n_items, minus n_runs - 1 if the patterns were demeaned run by run.
    """
    demeaned = {"demean-runs", "cocktail-blank", "zscore-runs"} & list_normalizations(dataset)
    n_runs = len(np.unique(list_runs(dataset)[there]))
    return int(there.sum()) - len(np.unique(labels[there])) - (n_runs - 1 if demeaned else 0)


def estimate_precision(residuals: Floats, dof: int, method: NoiseMethod) -> Floats:
    """Estimate the inverse of the covariance of residuals, `(n_voxels, n_voxels)`.

    Raises
    ------
    InputError
        A covariance that shrinkage leaves singular, as with one or two degrees of freedom.
    """
    from rsatoolbox.data.noise import prec_from_residuals

    precision: Floats
    try:
        if method == "shrinkage":
            precision = np.asarray(np.linalg.inv(shrink_to_diagonal(residuals, dof)), dtype=np.float64)
        else:
            precision = np.asarray(prec_from_residuals(residuals, dof=dof, method=_ESTIMATOR[method]))
        # what a voxel's variance is inflated by, given the others: without bound where they determine it
        inflation = np.diagonal(precision) * (residuals**2).sum(axis=0) / dof
        lost = not bool(((inflation > 0) & (inflation < _MOST_INFLATION)).all())
    except np.linalg.LinAlgError:
        lost = True
    if lost:
        raise InputError(
            f"noise precision: the covariance of {residuals.shape[1]} voxels from {dof} degrees of freedom is singular "
            f'even with method={method!r}; take method="diag", more runs, or residuals of the GLM'
        )
    return precision


def check_freedom(method: NoiseMethod, dof: int, n_units: int) -> None:
    """Refuse a covariance that has no inverse.

    Raises
    ------
    InputError
        There are too few degrees of freedom for the method.
    """
    check_enough(dof, 1, "noise precision", "degree of freedom")
    if method == "full" and dof < n_units:
        raise InputError(
            f"noise precision: the full covariance of {n_units} voxels cannot be inverted from "
            f'{dof} degrees of freedom; use "shrinkage" or "diag"'
        )


def check_varying(sd: Floats, measurements: Floats, where: str) -> Floats:
    """Check that no standard deviation is 0 up to rounding, and return them.

    Raises
    ------
    InputError
        A voxel does not vary.
    """
    largest = np.zeros(measurements.shape[1])
    for row in measurements:
        np.fmax(largest, np.abs(row), out=largest)
    vanishing = ~(sd > 1e-12 * largest)
    if vanishing.any():
        raise InputError(
            f"noise: {np.count_nonzero(vanishing)} of {sd.size} voxels do not vary in {where}; load the "
            "patterns with load_patterns, which leaves such voxels out, or take out runs that are copies"
        )
    return sd


def list_normalizations(dataset: Dataset) -> set[str]:
    """Return the steps that `normalize_patterns` has applied to the patterns."""
    return set(str(getattr(dataset, "descriptors", {}).get("normalization", "")).split("+")) - {""}


def find_present(dataset: Dataset) -> NDArray[np.bool_]:
    """Return a mask of the patterns that are not missing."""
    return np.array([not np.isnan(row).all() for row in dataset.measurements], dtype=bool)


def read_descriptor(dataset: Dataset, key: str) -> NDArray[np.str_]:
    """Return the labels of the patterns under the descriptor `key`.

    Raises
    ------
    InputError
        The patterns have no such descriptor.
    """
    if key not in dataset.obs_descriptors:
        raise InputError(
            f"patterns: expected a descriptor {key!r}, got {', '.join(map(repr, dataset.obs_descriptors))}"
        )
    return np.asarray(dataset.obs_descriptors[key]).astype(str)


def list_runs(dataset: Dataset) -> NDArray[np.str_]:
    """Return the run of each pattern; without a run descriptor all patterns belong to one run."""
    return np.asarray(dataset.obs_descriptors.get("run", np.full(dataset.n_obs, "1"))).astype(str)


def run_names(data: Any) -> list[str]:
    """Return the sorted names of the runs of a data set; those of an array `(n_runs, n_items, n_units)` are numbers."""
    if hasattr(data, "measurements"):
        return [str(name) for name in np.unique(list_runs(data))]
    return sorted(str(k) for k in range(len(data) if np.ndim(data) == 3 else 1))


@overload
def noise_precision(
    dataset: Dataset, *, method: NoiseMethod = ..., source: Literal["runs"] = ..., dof: None = ...
) -> RunNoise: ...


@overload
def noise_precision(
    dataset: Dataset, *, method: NoiseMethod = ..., source: Floats | Sequence[Floats], dof: int | None = ...
) -> Floats: ...


def noise_precision(
    dataset: Dataset,
    *,
    method: NoiseMethod = "shrinkage",
    source: Literal["runs"] | Floats | Sequence[Floats] = "runs",
    dof: int | None = None,
) -> Floats | RunNoise:
    """Estimate the inverse of the noise covariance between voxels, for crossnobis and Mahalanobis distances.

    Parameters
    ----------
    dataset : Dataset
        The patterns of one region (`select_roi`), since a matrix has n_voxels x n_voxels entries.
    method : {"diag", "shrinkage", "shrinkage-eye", "full"}
        "diag": variances only. "shrinkage": the covariance shrunk to its diagonal (Schäfer and Strimmer 2005,
        `shrinkage_diag` of rsatoolbox). "shrinkage-eye": the covariance shrunk to the identity (Ledoit and Wolf 2004,
        `shrinkage_eye` of rsatoolbox). "full": the sample covariance.
    source : "runs", array (n_volumes, n_voxels) or a list of these (one per run)
        "runs": the variation of each item's pattern around its mean over runs, for each run from the other runs
        (three runs or more). Arrays: residuals of the GLM, over the data set's voxels or over all voxels of its mask;
        each run is demeaned separately.
    dof : int, optional
        Degrees of freedom of the residuals of a GLM. The default is n_volumes - n_runs; give n_volumes - n_regressors
        to account for the regressors, too. With source="runs" they are computed: n_patterns - n_items, minus
        n_runs - 1 if the patterns were demeaned run by run.

    Returns
    -------
    ndarray (n_voxels, n_voxels), or RunNoise
        With source="runs" it is a `RunNoise`, which holds for each run a precision from the other runs. `compute_rdms`,
        `rdm_reliability` and the searchlights accept it in place of a matrix.

    Raises
    ------
    InputError
        There are fewer than three runs, the residuals have another number of voxels, a voxel has no variance, there
        are too many voxels for the memory, or `method="full"` has fewer degrees of freedom than voxels.

    Notes
    -----
    A precision from the same patterns that it weights biases between-run products upwards, more so for larger noise:
    by .33 noise variances at 2 runs and .045 at 4 (16 items, variances only), and by far more with covariances, so
    that distances depend on how noisy the items are. Leaving a run out costs little except at 3 runs: in simulations
    the correlation of a shrunk crossnobis RDM with the truth was .81 at 3 runs, against .93 with the biased precision
    of all runs; .945 against .957 at 4 runs, and .981 against .980 at 8. Residuals of the GLM have neither problem.

    References
    ----------
    Schäfer and Strimmer (2005), https://doi.org/10.2202/1544-6115.1175; Ledoit and Wolf (2004),
    https://doi.org/10.1016/S0047-259X(03)00096-4

    Examples
    --------
    >>> from rsatoolbox.data import Dataset
    >>> rng = np.random.default_rng(0)
    >>> data = Dataset(rng.normal(size=(400, 3)) * [1, 2, 4], obs_descriptors={
    ...     "condition": ["a", "b", "c", "d"] * 100, "run": np.repeat(np.arange(100), 4)})
    >>> np.round(noise_precision(data, method="diag").weights("7") ** -0.5, 1).tolist()
    [1.0, 1.9, 3.9]
    >>> residuals = rng.normal(size=(4000, 3)) * [1, 2, 4]
    >>> np.round(np.diag(noise_precision(data, method="diag", source=residuals)) ** -0.5, 1).tolist()
    [1.0, 2.0, 4.0]
    """
    check_choice(method, get_args(NoiseMethod), "noise precision")
    if dataset.n_channel > MOST_CHANNELS and not (isinstance(source, str) and method == "diag"):
        raise InputError(
            f"noise precision: expected at most {MOST_CHANNELS} voxels, got {dataset.n_channel}, whose matrix takes "
            f'{dataset.n_channel**2 * 8e-9:.1f} GB; select a region, or take method="diag" from runs'
        )
    if isinstance(source, str):
        check_choice(source, ("runs",), "source of noise")
        if dof is not None:
            raise InputError(
                f"noise precision: dof={dof} belongs to residuals; runs count their own degrees of freedom, so leave "
                "it out"
            )
        return RunNoise(dataset, method).check()
    residuals, natural = _select_residuals(dataset, source)
    freedom = natural if dof is None else dof
    check_varying(residuals.std(axis=0), dataset.measurements, "the residuals")
    check_freedom(method, freedom, dataset.n_channel)
    return estimate_precision(residuals, freedom, method)


def _select_residuals(dataset: Dataset, source: Floats | Sequence[Floats]) -> tuple[Floats, int]:
    arrays = [source] if isinstance(source, np.ndarray) and source.ndim == 2 else list(source)
    chosen = []
    for array in arrays:
        x = np.asarray(array, float)
        if x.ndim == 2 and x.shape[1] == int(dataset.descriptors.get("mask_voxels", -1)) != dataset.n_channel:
            x = x[:, np.asarray(dataset.channel_descriptors["voxel"], int)]
        if x.ndim != 2 or x.shape[1] != dataset.n_channel:
            raise InputError(
                f"noise precision: expected residuals of shape (n_volumes, {dataset.n_channel}) or of all voxels of "
                f"the mask, got {x.shape}"
            )
        if not np.isfinite(x).all():
            raise InputError("noise precision: the residuals hold NaN or infinite values; leave those volumes out")
        chosen.append(x - x.mean(axis=0))
    residuals = np.concatenate(chosen)
    return residuals, len(residuals) - len(chosen)
