"""Prepare the patterns and labels for RDMs: layers of a feature set, ROIs of a participant, or an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_each, check_enough, check_one_each, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.rsa.rdm.alignment import LABEL_OF
from brainmap.rsa.rdm.blocks import Blocks, check_numeric, zscore_units
from brainmap.rsa.rdm.dissimilarity import WHITENED, compute_between_runs, compute_within
from brainmap.rsa.rdm.run_noise import RunNoise, list_normalizations
from brainmap.types import Dataset, Dissimilarity, Floats, Level

NO_ROI = ("", "nan", "None")
"""Labels of voxels that belong to no region."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Hold the patterns for one RDM and their labels.

    Patterns are blocks of `(n_items, n_units)`, or an array `(n_runs, n_items, n_units)`.
    """

    patterns: Blocks | Floats
    labels: dict[str, list[str]]
    name: str
    rdm_descriptors: dict[str, Any]
    runs: tuple[str, ...] = ()

    @property
    def between_runs(self) -> bool:
        """Tell whether only products of different runs are used."""
        return not isinstance(self.patterns, Blocks)

    def vector(
        self,
        dissimilarity: Dissimilarity,
        *,
        zscore: bool,
        precision: NDArray[np.floating] | RunNoise | None,
        prior: tuple[float, float],
    ) -> tuple[Floats, list[str], int]:
        """Compute the dissimilarities; also return the labels of constant patterns and the number of dropped units."""
        x, dropped, weights = self.patterns, 0, None
        if isinstance(precision, RunNoise):
            precision, weights = self._weigh_runs(precision, dissimilarity)
        if isinstance(x, Blocks):
            found, undirected = compute_within(x, dissimilarity, precision=precision, prior=prior)
            dropped = x.dropped
        else:
            if zscore:
                n_units = x.shape[-1]
                x, dropped = zscore_units(x)
                if dropped == n_units:
                    raise InputError(f"compute_rdms: all {n_units} units of {self.name} are constant over items")
            found, undirected = compute_between_runs(
                x, dissimilarity, precision=precision, prior=prior, weights=weights
            )
        labels = next(iter(self.labels.values()))
        return found, [labels[k] for k in np.flatnonzero(undirected)], dropped

    def _weigh_runs(
        self, noise: RunNoise, dissimilarity: Dissimilarity
    ) -> tuple[NDArray[np.floating] | None, Iterator[Floats] | None]:
        """Return one precision for patterns without runs, or an iterator over the weights of each run."""
        if dissimilarity not in WHITENED:
            raise InputError(
                f"{dissimilarity}: this dissimilarity takes no noise precision; leave it out, or choose 'crossnobis'"
            )
        if isinstance(self.patterns, Blocks):
            return noise.pooled(), None
        n_units = self.patterns.shape[-1]
        if n_units != noise.n_units:
            raise InputError(
                f"noise precision: expected the noise of {n_units} units, those of {self.name}, got "
                f"{noise.n_units}; take it from the same voxels as the patterns"
            )
        return None, (noise.weights(run) for run in self.runs)


def build_feature_sources(
    data: Any, *, items: Level, zscore: bool, layers: Sequence[str] | str | None, descriptors: dict[str, Any]
) -> list[Source]:
    """Return one source per layer, without reading the features yet."""
    groups = find_groups(data, items)
    return [
        Source(
            patterns=Blocks(
                check_rows(data[layer], layer, len(data.items)), f"layer {layer}", average=groups.mean, zscore=zscore
            ),
            labels=groups.labels,
            name=layer,
            rdm_descriptors={"layer": layer, **descriptors},
        )
        for layer in choose_layers(data, layers)
    ]


def choose_layers(
    data: Any, layers: Sequence[str] | str | None, network: str = "", *, who: str = "compute_rdms"
) -> list[str]:
    """Return the names of the layers that are asked for: all of a feature set, one, or several.

    Raises
    ------
    InputError
        The set lacks a layer, or none is asked for.
    """
    known = [str(layer) for layer in data.layers]
    wanted = known if layers in (None, "all") else [layers] if isinstance(layers, str) else list(layers or ())
    check_each(wanted, known, f"layer{f' of {network}' if network else ''}")
    if not wanted:
        raise InputError(f"{who}: expected the name of at least one layer, got none; there are {list_some(known, 24)}")
    return wanted


def find_groups(data: Any, items: Level) -> Groups:
    """Return which rows of a feature set belong to which item."""
    return Groups(items, [str(s) for s in data.items], [str(c) for c in data.conditions])


def check_rows(array: Any, layer: str, n_items: int, who: str = "compute_rdms") -> Any:
    """Check that a layer holds real numbers in a row for each item, and return it."""
    array = check_numeric(array, f"layer {layer}", who)
    if array.shape[0] != n_items:
        raise InputError(f"{who}: expected {n_items} rows in layer {layer}, one per item, got {array.shape[0]}")
    return array


def build_array_source(data: Any, *, items: Level, zscore: bool, descriptors: dict[str, Any]) -> Source:
    """Return the source of an array; its labels are removed from `descriptors`.

    Raises
    ------
    InputError
        There are no labels, or not one per row.
    """
    given = {key: [str(v) for v in descriptors.pop(key)] for key in LABEL_OF.values() if key in descriptors}
    if not given:
        raise InputError("compute_rdms: an array has no labels; give descriptors={'stimulus_id': [...]}")
    x = check_numeric(data, "array")
    for key, labels in given.items():
        check_one_each(labels, x.shape[0], f"compute_rdms: labels in {key!r}", "patterns")
    groups = Groups(items, given.get("stimulus_id"), given.get("condition"))
    blocks = Blocks(x, "array", average=groups.mean, zscore=zscore)
    return Source(patterns=blocks, labels=groups.labels, name="array", rdm_descriptors=descriptors)


def build_dataset_sources(
    data: Any,
    *,
    items: Level,
    runs: str,
    zscore: bool,
    rois: Sequence[str] | str | None,
    descriptors: dict[str, Any],
) -> list[Source]:
    """Return one source per ROI, or one of all voxels.

    Raises
    ------
    InputError
        An ROI is unknown, or the patterns have no ROI labels.
    """
    of_obs = {
        key: [str(v) for v in data.obs_descriptors[key]] for key in LABEL_OF.values() if key in data.obs_descriptors
    }
    groups = Groups(items, of_obs.get("stimulus_id"), of_obs.get("condition"), in_order=False)
    labels = _add_onsets(groups.labels, data) if items == "stimulus" else groups.labels
    x = np.asarray(check_numeric(data.measurements, "patterns"))
    run = np.asarray(data.obs_descriptors.get("run", np.zeros(len(x))))
    which = np.unique(run)
    between = runs == "between" and len(which) > 1
    if between:
        refuse_own_noise(data)
    if data.descriptors.get("participant"):
        descriptors.setdefault("participant", str(data.descriptors["participant"]))

    def source(name: str, voxels: slice | NDArray[np.bool_], more: dict[str, Any]) -> Source:
        what = "patterns" if rois is None else f"patterns of {name}"
        own = np.asarray(x[:, voxels], dtype=np.float64)  # convert the voxels of a region only, which are few
        patterns: Blocks | Floats
        if between:
            patterns = np.stack([_average_run(own[run == r], what, groups, run == r) for r in which])
        else:
            patterns = Blocks(own, what, average=groups.mean, zscore=zscore)
        return Source(
            patterns=patterns,
            labels=labels,
            name=name,
            rdm_descriptors={**more, **descriptors},
            runs=tuple(str(r) for r in which),
        )

    if rois is None:
        return [source("all voxels", slice(None), {})]
    if "roi" not in data.channel_descriptors:
        raise InputError("compute_rdms: the patterns hold no ROI labels; load them with rois=")
    of_voxel = np.array([str(v) for v in data.channel_descriptors["roi"]])
    known = list_rois(data, "all")
    return [source(roi, of_voxel == check_choice(roi, known, "roi"), {"roi": roi}) for roi in list_rois(data, rois)]


def list_rois(data: Any, rois: Sequence[str] | str) -> list[str]:
    """Return the names of the regions that are asked for: all that the voxels of a data set have, one, or several."""
    known = np.unique(np.asarray(data.channel_descriptors.get("roi", [])).astype(str)).tolist()
    every = [name for name in known if name not in NO_ROI]
    return every if rois == "all" else [rois] if isinstance(rois, str) else [str(roi) for roi in rois]


def _add_onsets(labels: dict[str, list[str]], data: Any) -> dict[str, list[str]]:
    """Add when the windows of stories begin, where items are windows."""
    if "onset" not in data.obs_descriptors or "stimulus_id" not in labels:
        return labels
    of_item = dict(zip(map(str, data.obs_descriptors["stimulus_id"]), data.obs_descriptors["onset"], strict=True))
    return {**labels, "onset": [f"{float(of_item[item]):g}" for item in labels["stimulus_id"]]}


def refuse_own_noise(data: Any) -> None:
    """Refuse between-run products of voxels that were divided by the noise of the same runs, as these are biased.

    Raises
    ------
    InputError
        The patterns were normalized in this way.
    """
    if "noise-runs" in list_normalizations(data):
        raise InputError(
            "patterns normalized by 'noise-runs': expected patterns averaged over runs, as the noise of all runs "
            "biases products of different runs, got several runs; leave 'noise-runs' out and take crossnobis with "
            "noise_precision(method='diag') (in a study: noise = 'runs', precision = 'diag'), or runs='average'"
        )


def _average_run(x: Floats, what: str, groups: Groups, chosen: NDArray[np.bool_]) -> Floats:
    return Blocks(x, what, average=lambda block: groups.mean(block, chosen)).whole()


class Groups:
    """Assign observations to items, and average them."""

    def __init__(
        self, level: Level, stimuli: list[str] | None, conditions: list[str] | None, *, in_order: bool = True
    ) -> None:
        own = stimuli if level == "stimulus" else conditions
        if own is None:
            other = "condition" if level == "stimulus" else "stimulus"
            raise InputError(
                f"compute_rdms: items={level!r} needs {LABEL_OF[level]!r} labels, and there are none; give them, or "
                f"choose items={other!r}"
            )
        condition_of = self._find_conditions(own, conditions)
        labels = list(dict.fromkeys(own))
        if not in_order:
            labels.sort(key=lambda label: (condition_of.get(label, ""), label))
        check_enough(
            len(labels), 3, "compute_rdms", "items", f" ({list_some(labels)}); an RDM of fewer has nothing to compare"
        )
        self.labels = {LABEL_OF[level]: labels}
        if level == "stimulus" and condition_of:
            self.labels["condition"] = [condition_of[label] for label in labels]
        position = {label: k for k, label in enumerate(labels)}
        self.index = np.array([position[label] for label in own])

    @staticmethod
    def _find_conditions(own: list[str], conditions: list[str] | None) -> dict[str, str]:
        condition_of: dict[str, str] = {}
        for label, condition in zip(own, conditions or (), strict=False):
            if condition_of.setdefault(label, condition) != condition:
                raise InputError(
                    f"compute_rdms: expected one condition of stimulus {label!r}, got {condition_of[label]!r} and "
                    f"{condition!r}; make stimulus_id unique"
                )
        return condition_of

    def mean(self, x: Floats, chosen: NDArray[np.bool_] | None = None) -> Floats:
        """Average the observations of each item that are not missing; NaN if all are missing."""
        index = self.index if chosen is None else self.index[chosen]
        items = np.arange(len(next(iter(self.labels.values()))))
        if np.array_equal(index, items):
            return x
        if np.array_equal(np.sort(index), items):
            return x[np.argsort(index)]  # there is nothing to average, so the numbers stay exact
        missing: NDArray[np.bool_] = np.isnan(x.sum(axis=1))
        belongs = (items[:, None] == index) & ~missing
        count = belongs.sum(axis=1)
        means: Floats = (belongs / np.maximum(count, 1)[:, None]) @ np.where(missing[:, None], 0.0, x)
        means[count == 0] = np.nan
        return means


def select_roi(dataset: Dataset, name: str) -> Dataset:
    """Select the patterns of one region.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset
        Patterns as `load_patterns` returns them, with regions.
    name : str
        A region.

    Returns
    -------
    rsatoolbox.data.Dataset

    Raises
    ------
    InputError
        There is no region of that name; the message suggests the most similar name.
    """
    of_voxel = np.asarray(dataset.channel_descriptors.get("roi", np.zeros(dataset.n_channel, "U1"))).astype(str)
    inside = of_voxel == name
    if not name or not inside.any():
        known = [roi for roi in dict.fromkeys(of_voxel.tolist()) if roi]
        raise InputError(
            f"ROI: expected one of {list_some(known) or 'no ROI'}, got {name!r}{suggest_word(name, known)}"
        )
    from rsatoolbox.data.dataset import Dataset

    return Dataset(
        dataset.measurements[:, inside],
        descriptors={**dataset.descriptors, "roi": name},
        obs_descriptors={key: np.asarray(value) for key, value in dataset.obs_descriptors.items()},
        channel_descriptors={key: np.asarray(value)[inside] for key, value in dataset.channel_descriptors.items()},
    )
