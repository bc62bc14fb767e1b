"""Representational dissimilarity matrices (RDMs) from features, brain patterns or arrays.

Network and brain keep geometries of their own: this module is called once for each with its own settings, and
`brainmap.rsa.comparison.measures` then brings both together by label.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import one_of, some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.rdm.alignment import LABEL_OF, Level
from brainmap.rsa.rdm.dissimilarity import DISSIMILARITIES, PRIOR, Dissimilarity, Floats
from brainmap.rsa.rdm.run_noise import RunNoise
from brainmap.rsa.rdm.sources import NO_ROI, Source, from_array, from_dataset, from_features
from brainmap.rsa.rdm.windows import from_windows
from brainmap.types import FeatureSet

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs

Precision = NDArray[np.floating] | RunNoise | Literal["runs"] | Mapping[str, NDArray[np.floating] | RunNoise]

__all__ = ["DISSIMILARITIES", "Dissimilarity", "Level", "compute_rdms"]


def compute_rdms(
    data: FeatureSet | Dataset | NDArray[np.floating],
    *,
    dissimilarity: Dissimilarity = "correlation",
    items: Level = "stimulus",
    units: Literal["zscore"] | None = None,
    layers: Sequence[str] | Literal["all"] | None = None,
    rois: Sequence[str] | Literal["all"] | None = None,
    runs: Literal["between", "average"] = "between",
    noise_precision: Precision | None = None,
    prior_lambda: float = PRIOR[0],
    prior_weight: float = PRIOR[1],
    over: Literal["time"] | None = None,
    window_ms: float = 100.0,
    step_ms: float | None = None,
    descriptors: Mapping[str, Any] | None = None,
) -> RDMs:
    """RDMs of the layers of a network, of what explains them, of the ROIs of a participant, or of one array.

    Parameters
    ----------
    data : FeatureSet, rsatoolbox Dataset, or array (n_items, n_units)
        A feature set gives one RDM a layer. A Dataset (observations: stimulus_id, condition, run; channels:
        voxel, roi) gives one RDM, or one an ROI. An array gives one and needs its labels in `descriptors`. Features
        on disk (zarr, memmap) are read in blocks and may be larger than memory.
    dissimilarity : {"correlation", "euclidean", "crossnobis", "mahalanobis", "cosine", "poisson", "poisson_cv"}
        See `brainmap.rsa.rdm.dissimilarity.dissimilarities`; euclidean ones are squared and divided by n_units.
    items : {"stimulus", "condition"}
        What the rows of the RDM are. Tokens of a condition are averaged *before* the RDM, within each run. The items
        of a feature set that says so are classes or units (maximizing patterns); "condition" then says that they
        stand for the conditions of their names.
    units : "zscore", optional
        z-score each unit over the items of the RDM (within each run for brain patterns); constant units are
        dropped and counted in a `BrainmapWarning`.
    layers, rois : names or "all"
        Which layers of a feature set (default all), which ROIs of a Dataset (default: all voxels as one).
    runs : {"between", "average"}
        Between: with two or more runs only products of different runs enter, so that noise which neighbors in
        time share makes no geometry. Average: patterns are averaged over runs first, as in rsatoolbox.
    noise_precision : "runs", RunNoise, array (n_units, n_units), (n_runs, n_units, n_units), or a mapping ROI -> these
        For mahalanobis and crossnobis. "runs": from how the patterns vary over runs, shrunk, each run weighted by what
        the other runs tell (three runs or more; `brainmap.rsa.noise_precision` makes it of other kinds). Arrays are
        of other data than the patterns, the residuals of a GLM: whatever the patterns themselves say of their noise
        biases products of different runs where a run weights itself. With one a run, a pair of runs uses the
        inverse of the mean of its two covariances.
    prior_lambda, prior_weight : float
        For poisson and poisson_cv: rates are `(x + lambda * weight) / (1 + weight)`.
    over : "time", optional
        An RDM a layer and window of time, from features that keep time (`extract_activations(pooling="none")`); the
        frames whose centers lie in a window are averaged. Windows begin with the sounds.
    window_ms, step_ms : float [ms]
        Length of the windows, and the step from one to the next (default: half of it). A layer whose frames are
        further apart than a window is long has no RDM where a window holds none, which a `BrainmapWarning` counts.
    descriptors : mapping
        Labels `stimulus_id`, `condition` of an array's rows; any other entry describes the RDMs (network,
        participant).

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Feature sets and arrays keep their order of items; a Dataset's come sorted by condition, then by
        stimulus. Pattern descriptors `stimulus_id` and `condition` (only `condition` when averaged); RDM
        descriptors `layer` or `roi` and those given, over time also `time` (center of the window, seconds);
        `descriptors["level"]`, so that a comparison can refuse another level.

    Raises
    ------
    InputError
        Fewer than three items, unknown layer or ROI, labels missing or ambiguous, crossnobis without runs, negative
        values for poisson, features without time.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(4, 20))
    >>> rdms = compute_rdms(x, descriptors={"stimulus_id": ["a", "b", "c", "d"], "network": "mel"})
    >>> rdms.dissimilarities.shape, rdms.descriptors["level"], rdms.rdm_descriptors["network"]
    ((1, 6), 'stimulus', ['mel'])
    """
    one_of(dissimilarity, DISSIMILARITIES, "dissimilarity")
    one_of(items, tuple(LABEL_OF), "items")
    one_of(runs, ("between", "average"), "runs")
    if units is not None:
        one_of(units, ("zscore",), "units")
    if over is not None:
        one_of(over, ("time",), "over")
    given, zscore = dict(descriptors or {}), units == "zscore"
    if over == "time":
        window = (window_ms, step_ms)
        sets = from_windows(data, items=items, zscore=zscore, layers=layers, window=window, descriptors=given)
    elif hasattr(data, "measurements"):
        sets = from_dataset(data, items=items, runs=runs, zscore=zscore, rois=rois, descriptors=given)
    elif hasattr(data, "layers"):
        sets = from_features(data, items=items, zscore=zscore, layers=layers, descriptors=given)
    else:
        sets = [from_array(data, items=items, zscore=zscore, descriptors=given)]
    vectors, notes = [], _Notes()
    noise = resolved(noise_precision, data, None if rois is None else [one.name for one in sets])
    for one in sets:
        precision = _precision_for(one.name, noise)
        found, notes.constants[one.name], notes.dropped[one.name] = one.vector(
            dissimilarity, zscore=zscore, precision=precision, prior=(prior_lambda, prior_weight)
        )
        vectors.append(found)
    notes.warn(dissimilarity)
    level = getattr(data, "level", items) if items == "stimulus" else items  # patterns: of classes or units
    rdms = _assemble(sets, np.stack(vectors), dissimilarity=dissimilarity, level=level)
    if over == "time":
        rdms.descriptors["window_ms"] = float(window_ms)
    return rdms


class _Notes:
    """What changed numbers on the way, gathered to be said once."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self.constants: dict[str, list[str]] = {}

    def warn(self, dissimilarity: str) -> None:
        told = [f"{n} in {name}" for name, n in self.dropped.items() if n]
        if told:
            warnings.warn(
                f"compute_rdms: constant units dropped before z-scoring: {_some(told)}",
                BrainmapWarning,
                stacklevel=3,
            )
        told = [f"{len(labels)} in {name} ({some(labels, 4)})" for name, labels in self.constants.items() if labels]
        if told:
            warnings.warn(
                f"compute_rdms: {dissimilarity} of a constant pattern is not defined, its pairs are NaN: {_some(told)}",
                BrainmapWarning,
                stacklevel=3,
            )


def _some(told: Sequence[str]) -> str:
    return "; ".join([*told[:8], *([f"and {len(told) - 8} RDMs more"] if len(told) > 8 else [])])


def resolved(
    given: Precision | None, data: Any, rois: Sequence[str] | str | None
) -> NDArray[np.floating] | RunNoise | Mapping[str, NDArray[np.floating] | RunNoise] | None:
    """Noise precisions as given, or from the patterns' runs: of each region that is named, or of all voxels.

    Raises
    ------
    InputError
        Another word than "runs", data without runs, and what `brainmap.rsa.noise_precision` refuses.
    """
    if not isinstance(given, str):
        return given
    from brainmap.rsa.rdm.run_noise import noise_precision
    from brainmap.rsa.rdm.sources import select_roi

    one_of(given, ("runs",), "noise_precision")
    if not hasattr(data, "measurements"):
        raise InputError("compute_rdms: noise_precision='runs' is for patterns with runs, found none; leave it out")
    if rois is None:
        return noise_precision(data)
    known = np.unique(np.asarray(data.channel_descriptors.get("roi", [])).astype(str))
    every = [str(name) for name in known if name not in NO_ROI]
    names = every if rois == "all" else [rois] if isinstance(rois, str) else rois
    return {name: noise_precision(select_roi(data, name)) for name in names}


def _precision_for(
    name: str, given: NDArray[np.floating] | RunNoise | Mapping[str, NDArray[np.floating] | RunNoise] | None
) -> NDArray[np.floating] | RunNoise | None:
    if isinstance(given, Mapping):
        return given[one_of(name, list(given), "noise_precision for")]
    return given


def _assemble(sets: Sequence[Source], vectors: Floats, *, dissimilarity: str, level: str) -> RDMs:
    from rsatoolbox.rdm.rdms import RDMs

    return RDMs(
        vectors,
        dissimilarity_measure=dissimilarity,
        descriptors={"level": level, "products": "between runs" if sets[0].between_runs else "within"},
        rdm_descriptors={key: [one.rdm_descriptors[key] for one in sets] for key in sets[0].rdm_descriptors},
        pattern_descriptors={key: np.array(labels) for key, labels in sets[0].labels.items()},
    )
