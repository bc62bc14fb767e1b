"""Bring the features of networks and the responses of a brain to the same items, matched by their labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import list_some, refuse_some
from brainmap.errors import InputError
from brainmap.groups import group_pairs
from brainmap.rsa.encoding.folds import Folds, Groups, group_items, make_fold_rng, make_folds
from brainmap.rsa.encoding.ridge import Scaler
from brainmap.rsa.rdm.blocks import yield_slabs
from brainmap.rsa.rdm.sources import NO_ROI, check_rows, choose_layers
from brainmap.types import Dataset, EncodingTarget, FeatureSet, Floats, Level, Scaling

Features = FeatureSet | Mapping[str, Any]
TARGET_COLUMNS = {
    "roi": "region of interest",
    "voxel": "index among the voxels of the mask, in C order; n/a for the mean of a region",
}
SURFACE_COLUMNS = {"hemisphere": "left or right", "vertex": "vertex, counted from 0 in its hemisphere"}


@dataclass(frozen=True, eq=False)
class Responses:
    """Hold the responses of targets (voxels, vertices or means of regions) to items, one repetition per run.

    Attributes
    ----------
    values : ndarray (n_runs, n_items, n_targets)
        NaN where an item was not presented in a run.
    items, conditions : tuples of str (n_items,)
    runs : tuple of str (n_runs,)
    targets : DataFrame (n_targets,)
        `roi` ('' where none) and `voxel` (index among the voxels of the mask; missing for the mean of a region); for
        vertices also `hemisphere` and `vertex`.
    participant : str
    mesh : tuple of int
        Numbers of vertices of the left and the right hemisphere; empty for voxels and means of regions.
    """

    values: Floats
    items: tuple[str, ...]
    conditions: tuple[str, ...]
    runs: tuple[str, ...]
    targets: pd.DataFrame
    participant: str = ""
    mesh: tuple[int, ...] = ()

    @property
    def present(self) -> NDArray[np.bool_]:
        """Tell which items were presented in which run `(n_runs, n_items)`."""
        return np.asarray(~np.isnan(self.values[:, :, 0]))

    @property
    def mean(self) -> Floats:
        """Return the mean over the repetitions of each item `(n_items, n_targets)`."""
        if len(self.values) == 1:
            return np.asarray(self.values[0])
        present = self.present
        filled = np.where(present[:, :, None], self.values, 0.0)
        return np.asarray(filled.sum(axis=0) / present.sum(axis=0)[:, None])

    @property
    def runs_of(self) -> dict[str, list[str]]:
        """Return the runs in which each item was presented."""
        return {
            item: [run for run, there in zip(self.runs, column, strict=True) if there]
            for item, column in zip(self.items, self.present.T, strict=True)
        }


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Hold one layer of one network, read only when needed, with its rows in the order of the items.

    `members[k]` are the rows of the array that are averaged for item k.
    """

    network: str
    layer: str
    array: Any
    members: tuple[NDArray[np.intp], ...]

    @property
    def name(self) -> str:
        """Return the layer, with its network where it has one."""
        return f"{self.network} {self.layer}".strip()

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of items and of units."""
        return len(self.members), math.prod(self.array.shape[1:])

    def slabs(self) -> Iterator[Floats]:
        """Yield units `(n_items, k)` in float64, as many at once as fit into memory.

        Raises
        ------
        InputError
            A value is NaN or infinite.
        """
        single = all(len(rows) == 1 for rows in self.members)
        places = np.concatenate(self.members)
        starts = np.cumsum([0, *map(len, self.members)])[:-1]
        for slab in yield_slabs(self.array, self.name):
            x = np.asarray(slab, dtype=np.float64)[places]
            if not np.isfinite(x).all():
                bad = int((~np.isfinite(x)).any(axis=1).sum())
                raise InputError(
                    f"encoding: expected numbers in {self.name}, got NaN or infinity in {bad} items; find where they "
                    "come from, or leave the layer out"
                )
            yield x if single else np.add.reduceat(x, starts) / np.array([len(m) for m in self.members])[:, None]

    def gram(self, units: Scaling) -> Floats:
        """Return the products of all pairs of items `(n_items, n_items)`, of units that are z-scored or centered."""
        found = np.zeros((len(self.members),) * 2)
        for x in self.slabs():
            scaler = Scaler.of(x)
            z = scaler(x) if units == "zscore" else x - scaler.mean
            found += z @ z.T
        return found

    def whole(self) -> Floats:
        """Return all units at once `(n_items, n_units)`."""
        return np.concatenate(list(self.slabs()), axis=1)


@dataclass(frozen=True, eq=False)
class _LabelledArrays:
    """Make a feature set of arrays by layer and the labels of their rows."""

    arrays: Mapping[str, Any]
    items: tuple[str, ...]
    conditions: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.arrays)

    def __getitem__(self, layer: str) -> Any:
        return self.arrays[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)


def align_items(
    acts: Features,
    data: Dataset,
    *,
    items: Level = "stimulus",
    layers: Sequence[str] | str = "all",
    targets: EncodingTarget = "voxel",
    descriptors: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[FeatureSpace], Responses]:
    """Return the layers and the responses of a participant, with the same items in the same order.

    Raises
    ------
    InputError
        As in `brainmap.rsa.encode`.
    """
    networks = name_networks(acts, descriptors)
    known = {str(i): str(c) for one in networks.values() for i, c in zip(one.items, one.conditions, strict=True)}
    responses = read_responses(data, known, items=items, targets=targets)
    heard = [str(name) for name in data.obs_descriptors.get("stimulus_id", ())]
    return align_features(networks, responses, items=items, layers=layers, heard=heard), responses


def divide_items(
    responses: Responses, groups: Groups, *, folds: int, few_items: bool, rng: np.random.Generator | None
) -> Folds:
    """Divide the items of responses into folds; without `rng`, the same items always have the same folds."""
    group, by = group_items(responses.items, responses.conditions, responses.runs_of, groups)
    return make_folds(group, by, n_folds=folds, rng=rng or make_fold_rng(), few_items=few_items)


def name_networks(acts: Features, descriptors: Mapping[str, Sequence[str]] | None) -> dict[str, FeatureSet]:
    """Return feature sets by the name of their network; a single one has its own name, or none.

    Raises
    ------
    InputError
        Arrays come without labels, or something is no feature set.
    """
    if isinstance(acts, FeatureSet):
        return {str(getattr(acts, "network", "") or ""): acts}
    if not isinstance(acts, Mapping) or not acts:
        raise InputError(f"encoding: expected a feature set, or a mapping of names to them, got {type(acts).__name__}")
    if all(isinstance(one, FeatureSet) for one in acts.values()):
        return {str(name): one for name, one in acts.items()}
    refuse_some(
        [name for name, one in acts.items() if not (isinstance(one, np.ndarray) or hasattr(one, "dtype"))],
        "encoding: expected feature sets by network, or arrays by layer, got a mapping in which ",
        " is neither",
    )
    given = {key: tuple(str(v) for v in values) for key, values in (descriptors or {}).items()}
    items = given.get("stimulus_id", given.get("condition"))
    if items is None:
        raise InputError("encoding: arrays have no labels; give descriptors={'stimulus_id': [...], 'condition': [...]}")
    conditions = given.get("condition", items)
    for name, array in acts.items():
        if len(array) != len(items) or len(conditions) != len(items):
            raise InputError(f"encoding: expected a row in {name!r} for each of {len(items)} labels, got {len(array)}")
    return {"": _LabelledArrays({str(k): v for k, v in acts.items()}, items, conditions)}


def read_responses(data: Dataset, known: Mapping[str, str], *, items: Level, targets: EncodingTarget) -> Responses:
    """Arrange the patterns of a participant by run and item; tokens of a condition are averaged within each run.

    Parameters
    ----------
    data : rsatoolbox Dataset
        Patterns with `stimulus_id` or `condition`, and `run`, as `brainmap.rsa.load_patterns` returns them.
    known : mapping of str to str
        The condition of each stimulus, as the feature set says; it is used where the data know no conditions.
    items, targets
        As in `brainmap.rsa.encode`.

    Raises
    ------
    InputError
        Labels are missing or contradict each other, values are NaN in some voxels only, an item has no repetition, or
        means of regions are asked for and there are none.
    """
    obs = {key: [str(v) for v in values] for key, values in data.obs_descriptors.items()}
    stimuli = obs.get("stimulus_id", obs.get("condition"))
    if stimuli is None:
        raise InputError("encoding: expected patterns with stimulus_id or condition, got neither; name the items")
    conditions = _agree_on_conditions(stimuli, obs.get("condition", stimuli), known)
    own = stimuli if items == "stimulus" else [conditions[stimulus] for stimulus in stimuli]
    labels, run = list(dict.fromkeys(own)), obs.get("run", ["1"] * len(own))
    runs = list(dict.fromkeys(run))
    x, described = _choose_targets(data, targets)
    torn = np.isnan(x).any(axis=1) & ~np.isnan(x).all(axis=1)
    if torn.any() or np.isinf(x).any():
        raise InputError(
            f"encoding: {int(torn.sum())} patterns are NaN in some voxels only, or infinite; leave those voxels out (a "
            "missing pattern is NaN in all voxels)"
        )
    values, count = np.zeros((len(runs), len(labels), x.shape[1])), np.zeros((len(runs), len(labels)))
    place, of_run = ({name: k for k, name in enumerate(names)} for names in (labels, runs))
    for row, name, which in zip(x, own, run, strict=True):
        if not np.isnan(row[0]):
            values[of_run[which], place[name]] += row
            count[of_run[which], place[name]] += 1
    refuse_some(
        [name for name, n in zip(labels, count.sum(axis=0), strict=True) if n == 0],
        "encoding: expected a response to each item, got none to ",
        "; leave them out",
    )
    values /= np.maximum(count, 1)[:, :, None]
    values[count == 0] = np.nan
    of_item = {name: conditions[stimulus] for name, stimulus in zip(own, stimuli, strict=True)}
    return Responses(
        values,
        items=tuple(labels),
        conditions=tuple(of_item[name] for name in labels),
        runs=tuple(runs),
        targets=described,
        participant=str(data.descriptors.get("participant") or ""),
        mesh=tuple(map(int, str(data.descriptors["mesh_vertices"]).split("+"))) if "vertex" in described else (),
    )


def _agree_on_conditions(stimuli: Sequence[str], said: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the condition of each stimulus; names that repeat the stimulus say nothing, a contradiction is refused."""
    found: dict[str, str] = {}
    for stimulus, condition in zip(stimuli, said, strict=True):
        other = known.get(stimulus, stimulus)
        if stimulus not in (condition, other) and condition != other:
            raise InputError(
                f"encoding: {stimulus!r} has the condition {condition!r} in the responses and {other!r} in the "
                "features; make the tables agree"
            )
        found[stimulus] = other if condition == stimulus else condition
    return found


def _choose_targets(data: Dataset, targets: EncodingTarget) -> tuple[Floats, pd.DataFrame]:
    """Return the patterns of the targets `(n_patterns, n_targets)` and their description."""
    x = np.asarray(data.measurements, dtype=np.float64)
    channels = data.channel_descriptors
    roi = [str(name) for name in channels.get("roi", [""] * x.shape[1])]
    roi = ["" if name in NO_ROI else name for name in roi]
    voxel = np.asarray(channels.get("voxel", np.arange(x.shape[1])), dtype=np.int64)
    if targets == "voxel":
        table = pd.DataFrame({"roi": roi, "voxel": pd.array(voxel, dtype="Int64")})
        on_surface = "vertex" in channels and "mesh_vertices" in data.descriptors
        return x, table.assign(**{key: list(channels[key]) for key in SURFACE_COLUMNS}) if on_surface else table
    names = [name for name in dict.fromkeys(roi) if name]
    if not names:
        raise InputError("encoding: means of regions need regions, got none; load the patterns with rois=")
    of_voxel = np.array(roi)
    means = np.stack([x[:, of_voxel == name].mean(axis=1) for name in names], axis=1)
    return means, pd.DataFrame({"roi": names, "voxel": pd.array([pd.NA] * len(names), dtype="Int64")})


def keep_targets(responses: Responses, kept: NDArray[np.bool_]) -> Responses:
    """Return the responses of some targets, by a mask `(n_targets,)`."""
    return replace(
        responses, values=responses.values[:, :, kept], targets=responses.targets[kept].reset_index(drop=True)
    )


def align_features(
    networks: Mapping[str, FeatureSet],
    responses: Responses,
    *,
    items: Level,
    layers: Sequence[str] | str,
    heard: Sequence[str],
) -> list[FeatureSpace]:
    """Return the layers of all networks, with rows in the order of the items of the responses.

    With items="condition", the features of the tokens that the participant heard are averaged, or those of all tokens
    if the responses name conditions only.

    Raises
    ------
    InputError
        A stimulus occurs twice, items occur on one side only, or a layer is unknown.
    """
    spaces = []
    for network, acts in networks.items():
        rows = _find_rows(acts, network, items, heard)
        answered = set(responses.items)
        more, less = [x for x in rows if x not in answered], [x for x in responses.items if x not in rows]
        if more or less:
            told = [f"{list_some(x)} only in the {who}" for who, x in (("features", more), ("responses", less)) if x]
            named = set(less) <= {str(name) for name in acts.conditions} and items == "stimulus" and bool(less)
            way = "the responses name conditions: take items='condition'" if named else "leave out what one side lacks"
            raise InputError(
                f"encoding: expected the same items in features{f' of {network}' if network else ''} and responses, "
                f"got {', '.join(told)}; {way}"
            )
        members = tuple(np.array(rows[name], dtype=np.intp) for name in responses.items)
        for layer in choose_layers(acts, layers, network, who="encoding"):
            array = check_rows(acts[layer], layer, len(acts.items), "encoding")
            spaces.append(FeatureSpace(network, layer, array, members))
    return spaces


def _find_rows(acts: FeatureSet, network: str, items: Level, heard: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of each item of a feature set."""
    ids, conditions = [str(name) for name in acts.items], [str(name) for name in acts.conditions]
    refuse_some(
        [name for name, count in Counter(ids).items() if count > 1],
        f"encoding: expected each stimulus once in the features{f' of {network}' if network else ''}, got ",
        " more than once; make stimulus_id unique",
    )
    if items == "stimulus":
        return {name: [k] for k, name in enumerate(ids)}
    tokens = set(heard) & set(ids)
    if tokens and tokens != set(heard):
        lost = [name for name in dict.fromkeys(heard) if name not in tokens]
        raise InputError(f"encoding: expected features of each sound that was heard, got none of {list_some(lost)}")
    return group_pairs((conditions[k], k) for k, name in enumerate(ids) if not tokens or name in tokens)
