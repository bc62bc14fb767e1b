"""Compute representational dissimilarity matrices (RDMs) from features, brain patterns or arrays.

The RDMs of a network and those of a brain are computed by separate calls with their own settings;
`brainmap.rsa.comparison.measures` then compares them, with the items matched by label.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.resources import require_memory
from brainmap.rsa.rdm.alignment import LABEL_OF
from brainmap.rsa.rdm.dissimilarity import DISSIMILARITIES, PRIOR
from brainmap.rsa.rdm.run_noise import RunNoise, noise_precision as estimate_noise
from brainmap.rsa.rdm.sources import (
    Source,
    build_array_source,
    build_dataset_sources,
    build_feature_sources,
    list_rois,
    select_roi,
)
from brainmap.rsa.rdm.windows import build_window_sources
from brainmap.types import Dataset, Dissimilarity, FeatureSet, Floats, Level, RDMs, RunPairing

Precision = NDArray[np.floating] | RunNoise | Literal["runs"] | Mapping[str, NDArray[np.floating] | RunNoise]

__all__ = ["DISSIMILARITIES", "compute_rdms"]


def compute_rdms(
    data: FeatureSet | Dataset | NDArray[np.floating],
    *,
    dissimilarity: Dissimilarity = "correlation",
    items: Level = "stimulus",
    units: Literal["zscore"] | None = None,
    layers: Sequence[str] | Literal["all"] | None = None,
    rois: Sequence[str] | Literal["all"] | None = None,
    runs: RunPairing = "between",
    noise_precision: Precision | None = None,
    prior_lambda: float = PRIOR[0],
    prior_weight: float = PRIOR[1],
    over: Literal["time"] | None = None,
    window_ms: float = 100.0,
    step_ms: float | None = None,
    descriptors: Mapping[str, Any] | None = None,
) -> RDMs:
    """Compute the RDMs of the layers of a network, of the ROIs of a participant, or of one array.

    Parameters
    ----------
    data : FeatureSet, rsatoolbox Dataset, or array (n_items, n_units)
        A feature set gives one RDM per layer. A Dataset (observations: stimulus_id, condition, run; channels:
        voxel, roi) gives one RDM, or one per ROI. An array gives one RDM and needs its labels in `descriptors`.
        Features on disk (zarr, memmap) are read in blocks and may be larger than memory.
    dissimilarity : {"correlation", "euclidean", "crossnobis", "mahalanobis", "cosine", "poisson", "poisson_cv"}
        Defined in `compute_dissimilarities`; euclidean ones are squared and divided by n_units. Correlation is 1 - r of
        one set of patterns, and of several runs what the notes say.
    items : {"stimulus", "condition"}
        The rows of the RDM. With "condition", the tokens of a condition are averaged within each run *before* the RDM
        is computed. The items of some feature sets (maximizing patterns) are classes or units; "condition" then means
        that they stand for the conditions of the same names.
    units : "zscore", optional
        z-score each unit over the items of the RDM (within each run for brain patterns); constant units are
        dropped and counted in a `BrainmapWarning`.
    layers, rois : names or "all"
        The layers of a feature set (default: all), or the ROIs of a Dataset (default: all voxels as one region).
    runs : {"between", "average"}
        "between": with two or more runs only products of different runs are used, so that noise that patterns share
        within a run does not bias the RDM. "average": patterns are averaged over runs first, as in rsatoolbox.
    noise_precision : "runs", RunNoise, array (n_units, n_units), (n_runs, n_units, n_units), or a mapping ROI -> these
        The noise precision for mahalanobis and crossnobis. "runs": it is estimated with shrinkage from how the
        patterns vary over runs, for each run from the other runs (three runs or more; `brainmap.rsa.noise_precision`
        has other estimators). Arrays must come from other data than the patterns, such as the residuals of a GLM: a
        precision estimated from the patterns that it weights biases products of different runs. With one precision per
        run, a pair of runs uses the inverse of the mean of its two covariances.
    prior_lambda, prior_weight : float
        The prior of poisson and poisson_cv: rates are `(x + lambda * weight) / (1 + weight)`.
    over : "time", optional
        Compute an RDM per layer and time window from features that keep time (`extract_activations(pooling="none")`).
        The frames whose centers lie in a window are averaged. The first window begins with the onset of the sounds.
    window_ms, step_ms : float [ms]
        Length of the windows, and the step from one to the next (default: half the length). A layer has no RDM in
        windows that hold none of its frames; a `BrainmapWarning` counts these windows.
    descriptors : mapping
        The labels `stimulus_id` and `condition` of an array's rows. All other entries (network, participant) become RDM
        descriptors.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        The items of feature sets and arrays keep their order; those of a Dataset are sorted by condition, then by
        stimulus. Pattern descriptors are `stimulus_id` and `condition` (only `condition` when averaged). RDM
        descriptors are `layer` or `roi` and those given, with `over="time"` also `time` (center of the window, in
        seconds). `descriptors["level"]` lets a comparison refuse RDMs of another level.

    Raises
    ------
    InputError
        There are fewer than three items, a layer or ROI is unknown, labels are missing or ambiguous, crossnobis has no
        runs, poisson has negative values, or the features of `over="time"` have no time axis.

    Notes
    -----
    Between runs the correlation distance of items i and j is (r_ii + r_jj) / 2 - r_ij, where r_ab is the Pearson
    correlation over voxels of pattern a in one run with pattern b in another, averaged over all ordered pairs of
    different runs that have both items. `compute_dissimilarities` has the formulas of the others.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(4, 20))
    >>> rdms = compute_rdms(x, descriptors={"stimulus_id": ["a", "b", "c", "d"], "network": "mel"})
    >>> rdms.dissimilarities.shape, rdms.descriptors["level"], rdms.rdm_descriptors["network"]
    ((1, 6), 'stimulus', ['mel'])
    """
    check_choice(dissimilarity, DISSIMILARITIES, "dissimilarity")
    check_choice(items, tuple(LABEL_OF), "items")
    check_choice(runs, ("between", "average"), "runs")
    if units is not None:
        check_choice(units, ("zscore",), "units")
    if over is not None:
        check_choice(over, ("time",), "over")
    given, zscore = dict(descriptors or {}), units == "zscore"
    if over == "time":
        window = (window_ms, step_ms)
        sets = build_window_sources(data, items=items, zscore=zscore, layers=layers, window=window, descriptors=given)
    elif hasattr(data, "measurements"):
        sets = build_dataset_sources(data, items=items, runs=runs, zscore=zscore, rois=rois, descriptors=given)
    elif hasattr(data, "layers"):
        sets = build_feature_sources(data, items=items, zscore=zscore, layers=layers, descriptors=given)
    else:
        sets = [build_array_source(data, items=items, zscore=zscore, descriptors=given)]
    _check_size(sets)
    vectors, notes = [], _Notes()
    noise = resolve_noise(noise_precision, data, None if rois is None else [one.name for one in sets])
    for one in sets:
        own = noise[check_choice(one.name, list(noise), "noise_precision for")] if isinstance(noise, Mapping) else noise
        found, notes.constants[one.name], notes.dropped[one.name] = one.vector(
            dissimilarity, zscore=zscore, precision=own, prior=(prior_lambda, prior_weight)
        )
        vectors.append(found)
    notes.warn(dissimilarity)
    level = getattr(data, "level", items) if items == "stimulus" else items  # maximizing patterns: classes or units
    rdms = _assemble_rdms(sets, np.stack(vectors), dissimilarity=dissimilarity, level=level)
    if over == "time":
        rdms.descriptors["window_ms"] = float(window_ms)
    return rdms


def _check_size(sets: Sequence[Source]) -> None:
    """Refuse RDMs of more items than memory allows: all vectors twice, and five square matrices on the way to one."""
    n = len(next(iter(sets[0].labels.values())))
    require_memory(
        8.0 * n**2 * (5 + len(sets)),
        what=f"compute_rdms: the matrices behind {len(sets)} RDM{'s' if len(sets) > 1 else ''} of {n:,} items",
        do="average tokens first (items='condition'), or compute RDMs of fewer items or of fewer layers at a time",
    )


class _Notes:
    """Collect the notes on dropped units and constant patterns, to issue one warning for all RDMs."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self.constants: dict[str, list[str]] = {}

    def warn(self, dissimilarity: str) -> None:
        told = [f"{n} in {name}" for name, n in self.dropped.items() if n]
        if told:
            warnings.warn(
                f"compute_rdms: constant units are dropped before z-scoring: {_join_notes(told)}",
                BrainmapWarning,
                stacklevel=3,
            )
        told = [
            f"{len(labels)} in {name} ({list_some(labels, 4)})" for name, labels in self.constants.items() if labels
        ]
        if told:
            warnings.warn(
                f"compute_rdms: {dissimilarity} is undefined for constant patterns, whose pairs are NaN: "
                f"{_join_notes(told)}",
                BrainmapWarning,
                stacklevel=3,
            )


def _join_notes(told: Sequence[str]) -> str:
    return "; ".join([*told[:8], *([f"and {len(told) - 8} RDMs more"] if len(told) > 8 else [])])


def resolve_noise(
    given: Precision | None, data: Any, rois: Sequence[str] | str | None
) -> NDArray[np.floating] | RunNoise | Mapping[str, NDArray[np.floating] | RunNoise] | None:
    """Return the noise precisions as given, or estimate them from the runs, for each named region or for all voxels.

    Raises
    ------
    InputError
        The word is not "runs", the data have no runs, or `brainmap.rsa.noise_precision` refuses them.
    """
    if not isinstance(given, str):
        return given
    check_choice(given, ("runs",), "noise_precision")
    if not hasattr(data, "measurements"):
        raise InputError(
            "compute_rdms: noise_precision='runs' needs patterns with runs, and these have none; leave it out"
        )
    if rois is None:
        return estimate_noise(data)
    return {name: estimate_noise(select_roi(data, name)) for name in list_rois(data, rois)}


def _assemble_rdms(sets: Sequence[Source], vectors: Floats, *, dissimilarity: str, level: str) -> RDMs:
    from rsatoolbox.rdm.rdms import RDMs

    return RDMs(
        vectors,
        dissimilarity_measure=dissimilarity,
        descriptors={"level": level, "products": "between runs" if sets[0].between_runs else "within"},
        rdm_descriptors={key: [one.rdm_descriptors[key] for one in sets] for key in sets[0].rdm_descriptors},
        pattern_descriptors={key: np.array(labels) for key, labels in sets[0].labels.items()},
    )
