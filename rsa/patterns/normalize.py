"""What is done to patterns between images and RDMs: averaging tokens, normalizing, noise precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray
from rsatoolbox.data.dataset import Dataset

from brainmap.checks import one_of
from brainmap.errors import InputError
from brainmap.rsa.rdm.run_noise import (
    NoiseMethod,
    RunNoise,
    check_freedom,
    described,
    estimated,
    run_residuals,
    runs_of,
    varying,
)

Floats = NDArray[np.float64]
Level = Literal["condition", "stimulus_id"]
Normalization = Literal["demean-runs", "cocktail-blank", "zscore-runs", "noise-runs"]
MOST_CHANNELS = 6_000  # 288 MB a matrix, of which the shrinkage estimate holds four


def average_patterns(dataset: Dataset, *, by: Level = "condition") -> Dataset:
    """Average the patterns of each condition (or stimulus) within each run.

    A condition's tokens are averaged before any RDM is made; missing tokens (NaN rows) are left out of the
    mean, and the row is NaN where a run has none.

    Returns
    -------
    rsatoolbox.data.Dataset
        obs_descriptors `condition` and `run` (and `stimulus_id` with `by="stimulus_id"`), and `n_averaged`.

    Raises
    ------
    InputError
        The data set has no such descriptor.

    Examples
    --------
    >>> data = Dataset(np.array([[1.0], [3.0], [5.0]]), obs_descriptors={
    ...     "condition": ["cat", "cat", "dog"], "run": ["1", "1", "1"]})
    >>> average_patterns(data).measurements.ravel().tolist()
    [2.0, 5.0]
    """
    one_of(by, get_args(Level), "by")
    item, run = described(dataset, by), runs_of(dataset)
    first: dict[tuple[str, str], int] = {}
    group = np.array([first.setdefault(key, len(first)) for key in zip(run, item, strict=True)])
    there = ~np.isnan(dataset.measurements).all(axis=1)
    means = np.full((len(first), dataset.n_channel), np.nan)
    for k in range(len(first)):
        members = (group == k) & there
        if members.any():
            means[k] = dataset.measurements[members].mean(axis=0)
    at = np.unique(group, return_index=True)[1]
    obs = {
        "condition": described(dataset, "condition")[at],
        "run": run[at],
        "n_averaged": np.bincount(group, weights=there).astype(int),
    }
    if by == "stimulus_id":
        obs["stimulus_id"] = item[at]
    return _replaced(dataset, means, obs=obs)


def normalize_patterns(dataset: Dataset, method: Normalization) -> Dataset:
    """Normalize each voxel within each run.

    Parameters
    ----------
    dataset : Dataset
    method : {"demean-runs", "cocktail-blank", "zscore-runs", "noise-runs"}
        "demean-runs": subtract the mean over the run's patterns. "cocktail-blank": subtract the mean over the
        run's condition means, so that each condition counts the same whatever its tokens (Walther et al.
        2016); the two agree where every condition has as many tokens. "zscore-runs": demean, then divide by
        the SD over the run's patterns (n in the denominator). "noise-runs": divide by the voxel's noise SD
        over all runs (the residuals around each item's mean over runs), univariate noise normalization. For patterns
        that are averaged over runs: between-run products of them would be biased, so `compute_rdms` and the
        searchlights refuse to take any, and `noise_precision(method="diag")` does it for them.

    Notes
    -----
    Demeaning changes correlation distances (patterns then spread around 0) and leaves Euclidean and
    crossnobis distances as they are.

    Raises
    ------
    InputError
        A run with fewer than two patterns, or a voxel without variance.

    References
    ----------
    Walther et al. (2016), https://doi.org/10.1016/j.neuroimage.2015.12.012

    Examples
    --------
    >>> data = Dataset(np.array([[1.0], [3.0], [5.0], [9.0]]), obs_descriptors={
    ...     "condition": ["cat", "dog", "cat", "dog"], "run": ["1", "1", "2", "2"]})
    >>> normalize_patterns(data, "demean-runs").measurements.ravel().tolist()
    [-1.0, 1.0, -2.0, 2.0]
    """
    one_of(method, get_args(Normalization), "normalization")
    if method == "noise-runs":
        residuals, dof = run_residuals(dataset)
        sd = np.sqrt((residuals**2).sum(axis=0) / dof)
        scaled = dataset.measurements / varying(sd, dataset.measurements, "all runs")
    else:
        run = runs_of(dataset)
        scaled = dataset.measurements.copy()
        for r in np.unique(run):
            scaled[run == r] = _normalized(dataset, run == r, method, str(r))
    done = str(dataset.descriptors.get("normalization", ""))
    return _replaced(dataset, scaled, normalization=f"{done}+{method}" if done else method)


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
    """The inverse of the noise covariance between voxels, for crossnobis and Mahalanobis distances.

    Parameters
    ----------
    dataset : Dataset
        One region (`select_roi`): a matrix is voxels x voxels.
    method : {"diag", "shrinkage", "shrinkage-eye", "full"}
        Variances alone; covariance shrunk to its diagonal (Schäfer and Strimmer 2005, rsatoolbox's
        `shrinkage_diag`) or to the identity (Ledoit and Wolf 2004, its `shrinkage_eye`); the sample covariance.
    source : "runs", array (n_volumes, n_voxels) or a list of these (a run each)
        "runs": how much each item's pattern varies around its mean over runs, for each run from the other runs
        (three runs or more). Arrays: residuals of the GLM, over the data set's voxels or over all voxels of its mask;
        each run is demeaned by itself.
    dof : int, optional
        Degrees of freedom of the residuals of a GLM. Default: volumes less runs; give volumes less regressors to count
        those too. Runs count their own: patterns less items (less a mean a run when they were demeaned run by run).

    Returns
    -------
    ndarray (n_voxels, n_voxels), or RunNoise
        From runs a `RunNoise`: a precision for each run that leaves its own deviations out, which `compute_rdms`,
        `rdm_reliability` and the searchlights take in place of a matrix.

    Raises
    ------
    InputError
        Fewer than three runs, residuals of another number of voxels, a voxel without variance, too many voxels
        for the memory, or `method="full"` with fewer degrees of freedom than voxels.

    Notes
    -----
    A precision from the same patterns that it weights biases between-run products upwards, more where the noise is
    larger: by .33 noise variances at 2 runs, .045 at 4 (16 items, voxel by voxel), far more with covariances, and
    distances then tell noisy items from others. Leaving a run out costs little but at 3 runs: there the correlation of
    a shrunk crossnobis RDM with the truth was .81 in simulations, against .93 with the biased precision of all runs;
    .945 against .957 at 4 runs, .981 against .980 at 8. Residuals of the GLM cost nothing.

    References
    ----------
    Schäfer and Strimmer (2005), https://doi.org/10.2202/1544-6115.1175; Ledoit and Wolf (2004),
    https://doi.org/10.1016/S0047-259X(03)00096-4

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> data = Dataset(rng.normal(size=(400, 3)) * [1, 2, 4], obs_descriptors={
    ...     "condition": ["a", "b", "c", "d"] * 100, "run": np.repeat(np.arange(100), 4)})
    >>> np.round(noise_precision(data, method="diag").weights("7") ** -0.5, 1).tolist()
    [1.0, 2.0, 4.0]
    >>> residuals = rng.normal(size=(4000, 3)) * [1, 2, 4]
    >>> np.round(np.diag(noise_precision(data, method="diag", source=residuals)) ** -0.5, 1).tolist()
    [1.0, 2.0, 4.0]
    """
    one_of(method, get_args(NoiseMethod), "noise precision")
    if dataset.n_channel > MOST_CHANNELS and not (isinstance(source, str) and method == "diag"):
        raise InputError(
            f"noise precision: {dataset.n_channel} voxels make a matrix of "
            f'{dataset.n_channel**2 * 8e-9:.1f} GB, wanted at most '
            f'{MOST_CHANNELS}; select a region, or take method="diag" from runs'
        )
    if isinstance(source, str):
        one_of(source, ("runs",), "source of noise")
        if dof is not None:
            raise InputError(f"noise precision: dof={dof} is of residuals; runs count their own, so leave it out")
        return RunNoise(dataset, method).check()
    residuals, natural = _glm_residuals(dataset, source)
    freedom = natural if dof is None else dof
    varying(residuals.std(axis=0), dataset.measurements, "the residuals")
    check_freedom(method, freedom, dataset.n_channel)
    return estimated(residuals, freedom, method)


def _glm_residuals(dataset: Dataset, source: Floats | Sequence[Floats]) -> tuple[Floats, int]:
    arrays = [source] if isinstance(source, np.ndarray) and source.ndim == 2 else list(source)
    chosen = []
    for array in arrays:
        x = np.asarray(array, float)
        if x.ndim == 2 and x.shape[1] == int(dataset.descriptors.get("mask_voxels", -1)) != dataset.n_channel:
            x = x[:, np.asarray(dataset.channel_descriptors["voxel"], int)]
        if x.ndim != 2 or x.shape[1] != dataset.n_channel:
            raise InputError(
                f"noise precision: residuals of shape {x.shape}, wanted (n_volumes, {dataset.n_channel}) "
                "or all voxels of the mask"
            )
        if not np.isfinite(x).all():
            raise InputError(
                "noise precision: the residuals hold NaN or infinite values; leave those volumes out"
            )
        chosen.append(x - x.mean(axis=0))
    residuals = np.concatenate(chosen)
    return residuals, len(residuals) - len(chosen)


def _normalized(dataset: Dataset, members: NDArray[np.bool_], method: str, run: str) -> Floats:
    x: Floats = dataset.measurements[members].astype(float)
    there = ~np.isnan(x).all(axis=1)
    if there.sum() < 2:
        raise InputError(f"{method}: run {run} has {there.sum()} patterns, wanted at least 2")
    if method == "cocktail-blank":
        condition = described(dataset, "condition")[members][there]
        center = np.mean([x[there][condition == c].mean(axis=0) for c in np.unique(condition)], axis=0)
    else:
        center = x[there].mean(axis=0)
    centered: Floats = x - center
    return centered / varying(x[there].std(axis=0), x, f"run {run}") if method == "zscore-runs" else centered


def _replaced(
    dataset: Dataset,
    measurements: Floats,
    *,
    obs: dict[str, NDArray[np.generic]] | None = None,
    **descriptors: str,
) -> Dataset:
    return Dataset(
        measurements,
        descriptors={**dataset.descriptors, **descriptors},
        obs_descriptors=dict(dataset.obs_descriptors) if obs is None else obs,
        channel_descriptors=dict(dataset.channel_descriptors),
    )
