"""Find the nearest neighbors of sounds in the space of a layer, in comparison with those of the waveforms.

Waveforms of two recordings of one word are no more similar than those of two words; in a late layer they are neighbors.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges, list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.sounds.inputs import read_padded
from brainmap.features.units.embedding import _get_labels
from brainmap.progress import progress
from brainmap.types import FeatureSet, SoundMetric

WAVEFORM = "waveform"

_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """Hold the nearest neighbors of every item in one or several spaces.

    Attributes
    ----------
    table : DataFrame
        One row per space, item and rank: see `NEIGHBOR_COLUMNS`.
    precision : DataFrame
        One row per space and condition, and one for "all": see `PRECISION_COLUMNS`.
    items, conditions : tuple of str
    spaces : tuple of str
    k : int
    metric : str
    """

    table: pd.DataFrame = field(repr=False)
    precision: pd.DataFrame = field(repr=False)
    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    spaces: tuple[str, ...]
    k: int
    metric: str


NEIGHBOR_COLUMNS = {
    "space": "layer, or waveform",
    "item": "stimulus id",
    "condition": "its word or category",
    "rank": "1 is the nearest; equal distances: the earlier item",
    "neighbor": "stimulus id of the neighbor",
    "neighbor_condition": "its word or category",
    "distance": "1 - Pearson correlation, or Euclidean distance",
    "same": "whether both have one condition",
}

PRECISION_COLUMNS = {
    "space": "layer, or waveform",
    "condition": "word or category; all for the mean over items",
    "n_items": "items of it",
    "precision": "mean share of the k neighbors that have the item's condition",
    "first": "share of items whose nearest neighbor has their condition",
    "chance": "that share for neighbors drawn at random",
}


def nearest_neighbors(
    features: FeatureSet | NDArray[np.floating[Any]],
    sounds: Any = None,
    *,
    layers: str | Sequence[str] = "all",
    k: int = 5,
    metric: SoundMetric = "correlation",
    conditions: Sequence[str] | None = None,
) -> Neighbors:
    """Find the nearest neighbors of every item, and the share of them that has its own condition.

    Parameters
    ----------
    features : FeatureSet or ndarray (n_items, n_units)
        Features, for example from `extract_activations`; further axes are flattened. An array is a space called
        "features".
    sounds : Sounds or ndarray (n_items, c, t), optional
        The same items; their samples form another space, "waveform".
    layers : str or sequence of str
        "all", or names.
    k : int
        Number of neighbors of an item.
    metric : {"correlation", "euclidean"}
    conditions : sequence of str, optional
        Conditions of the items of an array.

    Returns
    -------
    Neighbors

    Raises
    ------
    InputError
        An unknown layer, fewer items than neighbors, sounds of other items, NaN, or an item without variance under
        correlation.

    Warns
    -----
    BrainmapWarning
        A condition has a single item, so that no neighbor can share it.

    References
    ----------
    Krizhevsky, Sutskever & Hinton 2012: doi:10.1145/3065386

    Examples
    --------
    >>> points = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 6.0]])
    >>> near = nearest_neighbors(points, k=1, metric="euclidean", conditions=["a", "a", "b", "b"])
    >>> near.table["neighbor"].tolist(), float(near.precision["precision"].iloc[-1])
    (['1', '0', '3', '2'], 1.0)
    """
    check_choice(metric, get_args(SoundMetric), "metric")
    spaces, items, words = _collect_spaces(features, sounds, layers, conditions)
    check_ranges("neighbors", (f"k from 1 to {len(items) - 1} for {len(items)} items", k, 1 <= k < len(items)))
    word = np.array(words)
    counts = {name: int((word == name).sum()) for name in dict.fromkeys(words)}
    alone = [name for name, count in counts.items() if count == 1]
    if alone:
        warnings.warn(
            f"neighbors: {list_some(alone)} have one item each, so none of its neighbors can be of its condition; "
            "their precision is NaN and the mean leaves them out",
            BrainmapWarning,
            stacklevel=2,
        )
    tables, precisions = [], []
    with progress("nearest neighbors", len(spaces)) as step:
        for name, values in spaces.items():
            index, distance = _find_nearest(_prepare_points(values, items, metric, name), k, metric)
            tables.append(_tabulate_neighbors(name, index, distance, items, word))
            precisions.append(_tabulate_precision(name, word[index] == word[:, None], word, counts))
            step.advance()
    return Neighbors(
        table=pd.concat(tables, ignore_index=True),
        precision=pd.concat(precisions, ignore_index=True),
        items=items,
        conditions=words,
        spaces=tuple(spaces),
        k=k,
        metric=metric,
    )


def _collect_spaces(
    features: Any, sounds: Any, layers: str | Sequence[str], conditions: Sequence[str] | None
) -> tuple[Mapping[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Return arrays by name, ids and conditions."""
    items, words = _get_labels(features, conditions, "neighbors")
    spaces: dict[str, Any] = {}
    if sounds is not None:
        spaces[WAVEFORM] = read_padded(sounds)
    if isinstance(features, FeatureSet):
        asked = [layers] if isinstance(layers, str) else list(layers)
        wanted = list(features.layers) if asked == ["all"] else asked
        spaces |= {check_choice(name, list(features.layers), "neighbors: layer"): features[name] for name in wanted}
    else:
        spaces["features"] = features
    there = getattr(sounds, "items", None)
    if there is not None and isinstance(features, FeatureSet) and tuple(there) != items:
        raise InputError("neighbors: the sounds are not the items of the features in their order; give the same sounds")
    if sounds is not None and len(spaces[WAVEFORM]) != len(items):
        raise InputError(f"neighbors: {len(spaces[WAVEFORM])} sounds for {len(items)} items; give the same sounds")
    return spaces, items, words


def _prepare_points(values: Any, items: Sequence[str], metric: SoundMetric, space: str) -> NDArray[np.float64]:
    """Prepare rows for comparison, `(n_items, n_units)`: for correlation, centered and of unit length."""
    points = np.asarray(values[:], dtype=np.float64).reshape(len(items), -1)
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise InputError(f"neighbors: {space} of item {items[int(finite.argmin())]!r} holds NaN or infinite values")
    if metric == "euclidean":
        return points
    points = points - points.mean(axis=1, keepdims=True)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    refuse_some(
        [items[i] for i in np.flatnonzero(length[:, 0] == 0).tolist()],
        f"neighbors: {space} is constant for items ",
        ", they have no correlation; leave them out, or take metric='euclidean'",
    )
    return np.asarray(points / length)


def _find_nearest(
    points: NDArray[np.float64], k: int, metric: SoundMetric
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find neighbors and their distances `(n_items, k)`, a block of rows at a time."""
    squares = np.einsum("ij,ij->i", points, points)
    index = np.empty((len(points), k), np.intp)
    distance = np.empty((len(points), k))
    for start in range(0, len(points), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(points)))
        product = points[rows] @ points.T
        far = 1.0 - product
        if metric == "euclidean":
            far = np.sqrt(np.maximum(squares[rows, None] + squares - 2 * product, 0))
        far[np.arange(len(far)), np.arange(rows.start, rows.stop)] = np.inf  # an item is not its own neighbor
        index[rows] = np.argsort(far, axis=1, kind="stable")[:, :k]
        distance[rows] = np.take_along_axis(far, index[rows], axis=1)
    return index, distance


def _tabulate_neighbors(
    space: str, index: NDArray[np.intp], distance: NDArray[np.float64], items: Sequence[str], word: NDArray[np.str_]
) -> pd.DataFrame:
    n, k = index.shape
    name = np.array(items)
    return pd.DataFrame(
        {
            "space": space,
            "item": np.repeat(name, k),
            "condition": np.repeat(word, k),
            "rank": np.tile(np.arange(k) + 1, n),
            "neighbor": name[index].ravel(),
            "neighbor_condition": word[index].ravel(),
            "distance": distance.ravel(),
            "same": (word[index] == word[:, None]).ravel(),
        }
    )


def _tabulate_precision(
    space: str, same: NDArray[np.bool_], word: NDArray[np.str_], counts: Mapping[str, int]
) -> pd.DataFrame:
    rows = []
    for name, count in counts.items():
        mine, several = same[word == name], count > 1
        rows.append(
            (
                space,
                name,
                count,
                mine.mean() if several else np.nan,
                mine[:, 0].mean() if several else np.nan,
                (count - 1) / (len(word) - 1) if several else np.nan,
            )
        )
    numbers = np.array([row[3:] for row in rows])
    weights = np.where(np.isfinite(numbers[:, 0]), [row[2] for row in rows], 0)
    mean = weights @ np.nan_to_num(numbers) / weights.sum() if weights.any() else np.full(3, np.nan)
    return pd.DataFrame([*rows, (space, "all", len(word), *mean)], columns=list(PRECISION_COLUMNS))
