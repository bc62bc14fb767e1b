"""Representational dissimilarity matrices (RDMs) from features, brain patterns or arrays.

Network and brain keep geometries of their own: this module is called once for each with its own settings, and
`brainmap.rsa.compare` then brings both together by label.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import one_of, some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.alignment import LABEL_OF, Level
from brainmap.rsa.dissimilarity import DISSIMILARITIES, Dissimilarity, Floats, dissimilarities, unit_length
from brainmap.types import FeatureSet

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs

Precision = NDArray[np.floating] | Mapping[str, NDArray[np.floating]]

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
    descriptors: Mapping[str, Any] | None = None,
) -> RDMs:
    """RDMs of the layers of a network, of what explains them, of the ROIs of a participant, or of one array.

    Parameters
    ----------
    data : FeatureSet, rsatoolbox Dataset, or array (n_items, n_units)
        A feature set gives one RDM a layer. A Dataset (observations: stimulus_id, condition, run; channels:
        voxel, roi) gives one RDM, or one an ROI. An array gives one and needs its labels in `descriptors`.
    dissimilarity : {"correlation", "euclidean", "crossnobis", "mahalanobis", "cosine"}
        See `brainmap.rsa.dissimilarity.dissimilarities`; euclidean ones are squared and divided by n_units.
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
    noise_precision : array (n_units, n_units), (n_runs, n_units, n_units), or a mapping ROI -> such an array
        For mahalanobis and crossnobis.
    descriptors : mapping
        Labels `stimulus_id`, `condition` of an array's rows; any other entry describes the RDMs (network,
        participant).

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Feature sets and arrays keep their order of items; a Dataset's come sorted by condition, then by
        stimulus. Pattern descriptors `stimulus_id` and `condition` (only `condition` when averaged); RDM
        descriptors `layer` or `roi` and those given; `descriptors["level"]`, so that a comparison can refuse
        another level.

    Raises
    ------
    InputError
        Fewer than three items, unknown layer or ROI, labels missing or ambiguous, crossnobis without runs.

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
    given = dict(descriptors or {})
    if hasattr(data, "measurements"):
        sets = _from_dataset(data, items=items, runs=runs, rois=rois, descriptors=given)
    elif hasattr(data, "layers"):
        sets = _from_features(data, items=items, layers=layers, descriptors=given)
    else:
        sets = [_from_array(np.asarray(data), items=items, descriptors=given)]
    vectors, notes = [], _Notes()
    for one in sets:
        x = _zscored(one.patterns, one.name, notes) if units == "zscore" else one.patterns
        if dissimilarity in ("correlation", "cosine"):
            notes.constant(x, one, center=dissimilarity == "correlation")
        precision = _precision_for(one.name, noise_precision)
        vectors.append(dissimilarities(x, dissimilarity=dissimilarity, precision=precision))
    notes.warn(dissimilarity)
    level = getattr(data, "level", items) if items == "stimulus" else items  # patterns: of classes or units
    return _assemble(sets, np.stack(vectors), dissimilarity=dissimilarity, level=level)


@dataclass(frozen=True, kw_only=True)
class _Patterns:
    """Patterns ready for one RDM: `(n_items, n_units)` or `(n_runs, n_items, n_units)`, and what they are."""

    patterns: Floats
    labels: dict[str, list[str]]
    name: str
    rdm_descriptors: dict[str, Any]


def _from_features(
    data: Any, *, items: Level, layers: Sequence[str] | str | None, descriptors: dict[str, Any]
) -> list[_Patterns]:
    known = [str(layer) for layer in data.layers]
    wanted = known if layers in (None, "all") else [layers] if isinstance(layers, str) else list(layers or ())
    for layer in wanted:
        one_of(layer, known, "layer")
    stimuli, conditions = [str(s) for s in data.items], [str(c) for c in data.conditions]
    groups = _Groups(items, stimuli, conditions)
    return [
        _Patterns(
            patterns=groups.mean(_matrix(data[layer], f"layer {layer}")),
            labels=groups.labels,
            name=layer,
            rdm_descriptors={"layer": layer, **descriptors},
        )
        for layer in wanted
    ]


def _from_array(data: NDArray[Any], *, items: Level, descriptors: dict[str, Any]) -> _Patterns:
    given = {key: [str(v) for v in descriptors.pop(key)] for key in LABEL_OF.values() if key in descriptors}
    if not given:
        raise InputError("compute_rdms: an array has no labels; give descriptors={'stimulus_id': [...]}")
    x = _matrix(data, "array")
    for key, labels in given.items():
        if len(labels) != len(x):
            raise InputError(f"compute_rdms: found {len(labels)} labels in {key!r} for {len(x)} patterns")
    groups = _Groups(items, given.get("stimulus_id"), given.get("condition"))
    return _Patterns(patterns=groups.mean(x), labels=groups.labels, name="array", rdm_descriptors=descriptors)


def _from_dataset(
    data: Any, *, items: Level, runs: str, rois: Sequence[str] | str | None, descriptors: dict[str, Any]
) -> list[_Patterns]:
    of_obs = {
        key: [str(v) for v in data.obs_descriptors[key]] for key in LABEL_OF.values() if key in data.obs_descriptors
    }
    groups = _Groups(items, of_obs.get("stimulus_id"), of_obs.get("condition"), in_order=False)
    x = _matrix(data.measurements, "patterns")
    run = np.asarray(data.obs_descriptors.get("run", np.zeros(len(x))))
    which = np.unique(run)
    if runs == "between" and len(which) > 1:
        patterns = np.stack([groups.mean(x[run == r], run == r) for r in which])
    else:
        patterns = groups.mean(x)
    if data.descriptors.get("participant"):
        descriptors.setdefault("participant", str(data.descriptors["participant"]))
    if rois is None:
        return [_Patterns(patterns=patterns, labels=groups.labels, name="all voxels", rdm_descriptors=descriptors)]
    if "roi" not in data.channel_descriptors:
        raise InputError("compute_rdms: the patterns hold no ROI labels; load them with rois=")
    of_voxel = np.array([str(v) for v in data.channel_descriptors["roi"]])
    known = [name for name in np.unique(of_voxel).tolist() if name not in ("", "nan", "None")]
    wanted = known if rois == "all" else [rois] if isinstance(rois, str) else [str(roi) for roi in rois]
    return [
        _Patterns(
            patterns=patterns[..., of_voxel == one_of(roi, known, "roi")],
            labels=groups.labels,
            name=roi,
            rdm_descriptors={"roi": roi, **descriptors},
        )
        for roi in wanted
    ]


class _Groups:
    """Which observations belong to which item, and their mean."""

    def __init__(
        self, level: Level, stimuli: list[str] | None, conditions: list[str] | None, *, in_order: bool = True
    ) -> None:
        own = stimuli if level == "stimulus" else conditions
        if own is None:
            other = "condition" if level == "stimulus" else "stimulus"
            raise InputError(
                f"compute_rdms: items={level!r} needs {LABEL_OF[level]!r} labels, found none; "
                f"give them, or choose items={other!r}"
            )
        condition_of = self._conditions(own, conditions)
        labels = list(dict.fromkeys(own))
        if not in_order:
            labels.sort(key=lambda label: (condition_of.get(label, ""), label))
        if len(labels) < 3:
            raise InputError(
                f"compute_rdms: found {len(labels)} items ({some(labels)}), wanted at least 3; "
                "an RDM of fewer has nothing to compare"
            )
        self.labels = {LABEL_OF[level]: labels}
        if level == "stimulus" and condition_of:
            self.labels["condition"] = [condition_of[label] for label in labels]
        position = {label: k for k, label in enumerate(labels)}
        self.index = np.array([position[label] for label in own])

    @staticmethod
    def _conditions(own: list[str], conditions: list[str] | None) -> dict[str, str]:
        condition_of: dict[str, str] = {}
        for label, condition in zip(own, conditions or (), strict=False):
            if condition_of.setdefault(label, condition) != condition:
                raise InputError(
                    f"compute_rdms: stimulus {label!r} has conditions {condition_of[label]!r} "
                    f"and {condition!r}, wanted one; make stimulus_id unique"
                )
        return condition_of

    def mean(self, x: Floats, chosen: NDArray[np.bool_] | None = None) -> Floats:
        """The mean pattern of each item over its observations that are not missing; NaN when all are."""
        index = self.index if chosen is None else self.index[chosen]
        n_items = len(next(iter(self.labels.values())))
        missing: NDArray[np.bool_] = np.isnan(x.sum(axis=1))
        belongs = (np.arange(n_items)[:, None] == index) & ~missing
        count = belongs.sum(axis=1)
        if len(index) == n_items and (count <= 1).all():
            return x[np.argsort(index, kind="stable")]  # nothing to average: keep the numbers as they are
        means: Floats = (belongs / np.maximum(count, 1)[:, None]) @ np.where(missing[:, None], 0.0, x)
        means[count == 0] = np.nan
        return means


def _matrix(data: Any, what: str) -> Floats:
    """An array of features as float64 `(n_items, n_units)`; a row is whole, or missing (NaN) as a whole."""
    x = np.asarray(data, dtype=np.float64)
    x = x.reshape(len(x), -1) if x.ndim else x
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"compute_rdms: {what} has shape {x.shape}, wanted (n_items, n_units)")
    if not np.isfinite(x).all():
        if np.isinf(x).any():
            raise InputError(f"compute_rdms: {what} holds infinite values; find where they come from")
        torn = int((np.isnan(x).any(axis=1) & ~np.isnan(x).all(axis=1)).sum())
        if torn:
            raise InputError(
                f"compute_rdms: {torn} patterns of {what} are NaN in some units only; leave "
                "those units out (a missing pattern is NaN in all units)"
            )
    return x


def _zscored(x: Floats, name: str, notes: _Notes) -> Floats:
    """Each unit z-scored over items (population SD), run by run; units constant in any run are dropped."""
    present = ~np.isnan(x[..., :1])
    n = present.sum(axis=-2, keepdims=True)
    filled = np.where(present, x, 0.0)
    mean = filled.sum(axis=-2, keepdims=True) / n
    centered = np.where(present, filled - mean, 0.0)
    sd = np.sqrt((centered**2).sum(axis=-2, keepdims=True) / n)
    varies = (sd > 1e-13 * np.abs(filled).max(axis=-2, keepdims=True)).reshape(-1, x.shape[-1]).all(axis=0)
    if not varies.any():
        raise InputError(f"compute_rdms: all {x.shape[-1]} units of {name} are constant over items")
    notes.dropped[name] = int((~varies).sum())
    return np.where(present, centered[..., varies] / sd[..., varies], np.nan)


class _Notes:
    """What changed numbers on the way, gathered to be said once."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self.constants: dict[str, list[str]] = {}

    def constant(self, x: Floats, one: _Patterns, *, center: bool) -> None:
        bad = np.isnan(unit_length(x, center=center)[..., 0]) & ~np.isnan(x[..., 0])
        if bad.any():
            labels = next(iter(one.labels.values()))
            which = np.flatnonzero(bad.reshape(-1, len(labels)).any(axis=0))
            self.constants[one.name] = [labels[k] for k in which]

    def warn(self, dissimilarity: str) -> None:
        told = [f"{n} in {name}" for name, n in self.dropped.items() if n]
        if told:
            warnings.warn(
                f"compute_rdms: constant units dropped before z-scoring: {', '.join(told)}",
                BrainmapWarning,
                stacklevel=3,
            )
        told = [f"{len(labels)} in {name} ({some(labels, 4)})" for name, labels in self.constants.items()]
        if told:
            warnings.warn(
                f"compute_rdms: {dissimilarity} of a constant pattern is not defined, its pairs "
                f"are NaN: {'; '.join(told)}",
                BrainmapWarning,
                stacklevel=3,
            )


def _precision_for(name: str, given: Precision | None) -> NDArray[np.floating] | None:
    if isinstance(given, Mapping):
        return given[one_of(name, list(given), "noise_precision for")]
    return given


def _assemble(sets: Sequence[_Patterns], vectors: Floats, *, dissimilarity: str, level: str) -> RDMs:
    from rsatoolbox.rdm.rdms import RDMs

    between = sets[0].patterns.ndim == 3
    return RDMs(
        vectors,
        dissimilarity_measure=dissimilarity,
        descriptors={"level": level, "products": "between runs" if between else "within"},
        rdm_descriptors={key: [one.rdm_descriptors[key] for one in sets] for key in sets[0].rdm_descriptors},
        pattern_descriptors={key: np.array(labels) for key, labels in sets[0].labels.items()},
    )
