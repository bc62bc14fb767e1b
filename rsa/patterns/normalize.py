"""Average and normalize patterns before RDMs are computed."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough
from brainmap.rsa.rdm.run_noise import (
    check_varying,
    compute_run_residuals,
    list_runs,
    read_descriptor,
)
from brainmap.types import Dataset, Floats, Normalization, NormalizationLevel


def average_patterns(dataset: Dataset, *, by: NormalizationLevel = "condition") -> Dataset:
    """Average the patterns of each condition (or stimulus) within each run.

    Tokens of a condition are averaged before any RDM is computed. Missing tokens (NaN rows) are left out of the mean;
    the row is NaN if a run has none.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset
        Patterns (n_patterns, n_voxels), as `load_patterns` returns them.
    by : {"condition", "stimulus_id"}
        The descriptor whose patterns are averaged.

    Returns
    -------
    rsatoolbox.data.Dataset
        obs_descriptors `condition` and `run` (and `stimulus_id` with `by="stimulus_id"`), and `n_averaged`.

    Raises
    ------
    InputError
        If the data set lacks the descriptor.

    Examples
    --------
    >>> from rsatoolbox.data import Dataset
    >>> data = Dataset(np.array([[1.0], [3.0], [5.0]]), obs_descriptors={
    ...     "condition": ["cat", "cat", "dog"], "run": ["1", "1", "1"]})
    >>> average_patterns(data).measurements.ravel().tolist()
    [2.0, 5.0]
    """
    check_choice(by, get_args(NormalizationLevel), "by")
    item, run = read_descriptor(dataset, by), list_runs(dataset)
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
        "condition": read_descriptor(dataset, "condition")[at],
        "run": run[at],
        "n_averaged": np.bincount(group, weights=there).astype(int),
    }
    if by == "stimulus_id":
        obs["stimulus_id"] = item[at]
    return _rebuild_dataset(dataset, means, obs=obs)


def normalize_patterns(dataset: Dataset, method: Normalization) -> Dataset:
    """Normalize each voxel within each run.

    Parameters
    ----------
    dataset : Dataset
    method : {"demean-runs", "cocktail-blank", "zscore-runs", "noise-runs"}
        "demean-runs" subtracts the mean over the run's patterns. "cocktail-blank" subtracts the mean over the run's
        condition means, so that each condition counts equally however many tokens it has (Walther et al. 2016); the
        two agree if every condition has the same number of tokens. "zscore-runs" demeans, then divides by the SD over
        the run's patterns (n in the denominator). "noise-runs" is univariate noise normalization: it divides by the
        voxel's noise SD over all runs (the residuals around each item's mean over runs). It is meant for patterns that
        are averaged over runs. Between-run products of them would be biased, so `compute_rdms` and the searchlights
        refuse these; use `noise_precision(method="diag")` there instead.

    Returns
    -------
    rsatoolbox.data.Dataset
        A copy; the given data are not changed.

    Raises
    ------
    InputError
        If a run has fewer than two patterns, or a voxel has no variance.

    Notes
    -----
    Demeaning changes correlation distances (patterns are then centered on 0) and leaves Euclidean and crossnobis
    distances unchanged.

    References
    ----------
    Walther et al. (2016), https://doi.org/10.1016/j.neuroimage.2015.12.012

    Examples
    --------
    >>> from rsatoolbox.data import Dataset
    >>> data = Dataset(np.array([[1.0], [3.0], [5.0], [9.0]]), obs_descriptors={
    ...     "condition": ["cat", "dog", "cat", "dog"], "run": ["1", "1", "2", "2"]})
    >>> normalize_patterns(data, "demean-runs").measurements.ravel().tolist()
    [-1.0, 1.0, -2.0, 2.0]
    """
    check_choice(method, get_args(Normalization), "normalization")
    if method == "noise-runs":
        residuals, dof = compute_run_residuals(dataset)
        sd = np.sqrt((residuals**2).sum(axis=0) / dof)
        scaled = dataset.measurements / check_varying(sd, dataset.measurements, "all runs")
    else:
        run = list_runs(dataset)
        scaled = dataset.measurements.copy()
        for r in np.unique(run):
            scaled[run == r] = _normalize_run(dataset, run == r, method, str(r))
    done = str(dataset.descriptors.get("normalization", ""))
    return _rebuild_dataset(dataset, scaled, normalization=f"{done}+{method}" if done else method)


def _normalize_run(dataset: Dataset, members: NDArray[np.bool_], method: str, run: str) -> Floats:
    x: Floats = dataset.measurements[members].astype(float)
    there = ~np.isnan(x).all(axis=1)
    check_enough(there.sum(), 2, method, f"patterns in run {run}")
    if method == "cocktail-blank":
        condition = read_descriptor(dataset, "condition")[members][there]
        center = np.mean([x[there][condition == c].mean(axis=0) for c in np.unique(condition)], axis=0)
    else:
        center = x[there].mean(axis=0)
    centered: Floats = x - center
    return centered / check_varying(x[there].std(axis=0), x, f"run {run}") if method == "zscore-runs" else centered


def _rebuild_dataset(
    dataset: Dataset,
    measurements: Floats,
    *,
    obs: dict[str, NDArray[np.generic]] | None = None,
    **descriptors: str,
) -> Dataset:
    from rsatoolbox.data.dataset import Dataset

    return Dataset(
        measurements,
        descriptors={**dataset.descriptors, **descriptors},
        obs_descriptors=dict(dataset.obs_descriptors) if obs is None else obs,
        channel_descriptors=dict(dataset.channel_descriptors),
    )
