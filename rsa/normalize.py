"""What is done to patterns between images and RDMs: averaging tokens, normalizing, noise precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rsatoolbox.data.dataset import Dataset
from rsatoolbox.data.noise import prec_from_residuals

from brainmap.checks import one_of
from brainmap.errors import InputError

Floats = NDArray[np.float64]
Level = Literal["condition", "stimulus_id"]
Normalization = Literal["demean-runs", "cocktail-blank", "zscore-runs", "noise-runs"]
NoiseMethod = Literal["diag", "shrinkage", "shrinkage-eye", "full"]

_ESTIMATOR = {"diag": "diag", "shrinkage": "shrinkage_diag", "shrinkage-eye": "shrinkage_eye", "full": "full"}
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
    item, run = _described(dataset, by), _runs(dataset)
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
        "condition": _described(dataset, "condition")[at],
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
        over all runs (the residuals around each item's mean over runs), univariate noise normalization.

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
        scaled = dataset.measurements / _varying(sd, dataset.measurements, "all runs")
    else:
        run = _runs(dataset)
        scaled = dataset.measurements.copy()
        for r in np.unique(run):
            scaled[run == r] = _normalized(dataset, run == r, method, str(r))
    done = str(dataset.descriptors.get("normalization", ""))
    return _replaced(dataset, scaled, normalization=f"{done}+{method}" if done else method)


def noise_precision(
    dataset: Dataset,
    *,
    method: NoiseMethod = "shrinkage",
    source: Literal["runs"] | Floats | Sequence[Floats] = "runs",
    dof: int | None = None,
) -> Floats:
    """The inverse of the noise covariance between voxels, for crossnobis and Mahalanobis distances.

    Parameters
    ----------
    dataset : Dataset
        One region (`select_roi`): the matrix is voxels x voxels.
    method : {"diag", "shrinkage", "shrinkage-eye", "full"}
        Variances alone; covariance shrunk to its diagonal (Schäfer and Strimmer 2005, rsatoolbox's
        `shrinkage_diag`) or to the identity (Ledoit and Wolf 2004, its `shrinkage_eye`); the sample covariance.
    source : "runs", array (n_volumes, n_voxels) or a list of these (a run each)
        "runs": how much each item's pattern varies around its mean over runs. Arrays: residuals of the GLM,
        over the data set's voxels or over all voxels of its mask; each run is demeaned by itself.
    dof : int, optional
        Degrees of freedom of the residuals. Default for runs: patterns less items (less a mean a run when the
        patterns were demeaned run by run). For GLM residuals: volumes less runs; give volumes less regressors
        to count those too.

    Returns
    -------
    ndarray, (n_voxels, n_voxels)

    Raises
    ------
    InputError
        Fewer than two runs, residuals of another number of voxels, a voxel without variance, too many voxels
        for the memory, or `method="full"` with fewer degrees of freedom than voxels.

    References
    ----------
    Schäfer and Strimmer (2005), https://doi.org/10.2202/1544-6115.1175; Ledoit and Wolf (2004),
    https://doi.org/10.1016/S0047-259X(03)00096-4

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> data = Dataset(rng.normal(size=(4000, 3)) * [1, 2, 4], obs_descriptors={
    ...     "condition": ["a", "b", "c", "d"] * 1000, "run": np.repeat(np.arange(1000), 4)})
    >>> np.round(np.diag(noise_precision(data, method="diag")) ** -0.5, 1).tolist()
    [1.0, 2.0, 4.0]
    """
    one_of(method, get_args(NoiseMethod), "noise precision")
    if dataset.n_channel > MOST_CHANNELS:
        raise InputError(
            f"noise precision: {dataset.n_channel} voxels make a matrix of "
            f'{dataset.n_channel**2 * 8e-9:.1f} GB, wanted at most '
            f'{MOST_CHANNELS}; select a region, or use normalize_patterns(..., "noise-runs")'
        )
    if isinstance(source, str):
        one_of(source, ("runs",), "source of noise")
        residuals, natural = run_residuals(dataset)
    else:
        residuals, natural = _glm_residuals(dataset, source)
    freedom = natural if dof is None else dof
    _varying(residuals.std(axis=0), dataset.measurements, "the residuals")
    if freedom < 1:
        raise InputError(f"noise precision: {freedom} degrees of freedom, wanted at least 1")
    if method == "full" and freedom < dataset.n_channel:
        raise InputError(
            f"noise precision: the full covariance of {dataset.n_channel} voxels cannot be inverted from "
            f'{freedom} degrees of freedom; use "shrinkage" or "diag"'
        )
    precision: Floats = prec_from_residuals(residuals, dof=freedom, method=_ESTIMATOR[method])
    return precision


def run_residuals(dataset: Dataset) -> tuple[Floats, int]:
    """How each pattern differs from its item's mean over runs, `(n_patterns, n_voxels)`; degrees of freedom.

    Items are stimuli where stimuli come in two runs or more, else conditions; patterns that are missing (NaN)
    are left out.

    Raises
    ------
    InputError
        No item comes in two runs.
    """
    run = _runs(dataset)
    there = ~np.isnan(dataset.measurements).all(axis=1)
    for key in ("stimulus_id", "condition"):
        if key not in dataset.obs_descriptors:
            continue
        names, item = np.unique(_described(dataset, key)[there], return_inverse=True)
        if len(set(zip(item.tolist(), run[there].tolist(), strict=True))) > len(names):
            break
    else:
        raise InputError(
            f"noise from runs: nothing is repeated over runs (found {len(np.unique(run))} runs); wanted two "
            "runs or more, or residuals of the GLM"
        )
    x = dataset.measurements[there].astype(float)
    means = np.stack([x[item == k].mean(axis=0) for k in range(len(names))])
    demeaned = {"demean-runs", "cocktail-blank", "zscore-runs"} & set(
        str(dataset.descriptors.get("normalization", "")).split("+")
    )
    n_runs = len(np.unique(run[there]))
    return x - means[item], len(x) - len(names) - (n_runs - 1 if demeaned else 0)


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
        condition = _described(dataset, "condition")[members][there]
        center = np.mean([x[there][condition == c].mean(axis=0) for c in np.unique(condition)], axis=0)
    else:
        center = x[there].mean(axis=0)
    centered: Floats = x - center
    return centered / _varying(x[there].std(axis=0), x, f"run {run}") if method == "zscore-runs" else centered


def _varying(sd: Floats, measurements: Floats, where: str) -> Floats:
    """The standard deviations, none of which may be 0 but for rounding."""
    vanishing = ~(sd > 1e-12 * np.nanmax(np.abs(measurements), axis=0))
    if vanishing.any():
        raise InputError(
            f"noise: {np.count_nonzero(vanishing)} of {sd.size} voxels do not vary in {where}; load the "
            "patterns with load_patterns, which leaves such voxels out, or take out runs that are copies"
        )
    return sd


def _described(dataset: Dataset, key: str) -> NDArray[np.str_]:
    if key not in dataset.obs_descriptors:
        raise InputError(
            f"patterns: no {key!r} descriptor; found {', '.join(map(repr, dataset.obs_descriptors))}"
        )
    return np.asarray(dataset.obs_descriptors[key]).astype(str)


def _runs(dataset: Dataset) -> NDArray[np.str_]:
    """Without a run descriptor, all patterns are of one run."""
    return np.asarray(dataset.obs_descriptors.get("run", np.full(dataset.n_obs, "1"))).astype(str)


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
