"""Prepare patterns and models for a searchlight: a common order of items, usable voxels, and scaled model vectors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_enough, check_one_each, list_some, refuse_some
from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import scale_vectors
from brainmap.rsa.rdm.alignment import LABEL_OF, LEVELS, find_level, list_labels, list_rdm_names
from brainmap.rsa.rdm.dissimilarity import scale_to_unit_length
from brainmap.rsa.rdm.run_noise import RunNoise
from brainmap.rsa.searchlights.rows import Rows, rows_of_runs, rows_of_weights
from brainmap.rsa.searchlights.shared_runs import SharedRuns, find_shared_runs
from brainmap.types import Dataset, Floats, Level, Measure, RDMs

Given = tuple[Floats, Floats, SharedRuns, int, Floats]
"""Inputs of the kernels: patterns, weights of each run, shared runs of pairs, number of standardized parts, and the sum
of squares of each voxel if the patterns are rows whose products are updated from neighborhood to neighborhood."""
NO_WEIGHTS: Floats = np.zeros((0, 0))
NO_POWER: Floats = np.zeros(0)
SQUARED = ("euclidean", "crossnobis")
_ONE_AT_A_TIME = threading.Lock()
_BLOCK = 1024  # number of voxels that are read at a time
WHITENED = ("corr_cov", "cosine_cov")


@dataclass(frozen=True, eq=False)
class Prepared:
    """Hold the patterns and the indices to read them; voxels are copied only in blocks when needed.

    Attributes
    ----------
    measurements : ndarray (n_rows, n_channels)
    rows : ndarray (n_runs, n_items)
        The row of each item in each run, with items in the order of the models; arbitrary where the item is missing.
    present : ndarray of bool (n_runs, n_items)
    shared : SharedRuns
        The runs that each pair of items shares.
    pairs : ndarray (n_pairs,)
        Condensed indices of the pairs that have a dissimilarity.
    usable : ndarray of bool (n_mask_voxels,)
    channels : ndarray (n_usable_voxels,)
        The channel of each usable voxel, in the mask's C order.
    noise : ndarray (n_usable_voxels,), optional
        The noise standard deviations by which patterns are divided.
    weights : ndarray (n_usable_voxels, n_runs), optional
        Weights of each run's products with other runs: the precision of each voxel, estimated without the run.
    """

    measurements: NDArray[np.floating]
    rows: NDArray[np.intp]
    present: NDArray[np.bool_]
    shared: SharedRuns
    pairs: NDArray[np.intp]
    usable: NDArray[np.bool_]
    channels: NDArray[np.intp]
    noise: Floats | None = None
    weights: Floats | None = None
    _kept: dict[str, Rows] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to other processes, without rows, which these make themselves."""
        return {**self.__dict__, "_kept": {}}

    def select_patterns(self, voxels: NDArray[np.intp], *, centered: bool) -> Floats:
        """Return the patterns of any usable voxels, `(n_voxels, n_runs, n_items)`; missing ones are 0.

        `centered` subtracts each run's mean over its items, which does not change Euclidean distances and preserves
        their precision if patterns have a large offset.
        """
        channels = self.channels[voxels]
        low, high = int(channels.min()), int(channels.max()) + 1
        if len(channels) == high - low and (np.diff(channels) == 1).all():
            x = self.measurements[:, low:high][self.rows]
        else:
            x = self.measurements[self.rows[..., None], channels]
        block = np.ascontiguousarray(x.transpose(2, 0, 1), dtype=np.float64)
        whole = self.present.all()
        if not whole:
            block[:, ~self.present] = 0.0
        if centered:
            block -= block.sum(axis=2, keepdims=True) / np.maximum(self.present.sum(axis=1), 1)[:, None]
            if not whole:
                block[:, ~self.present] = 0.0
        if self.noise is not None:
            block /= self.noise[voxels, None, None]
        return block

    @property
    def shares_all_runs(self) -> bool:
        """Tell whether all pairs of items that have a dissimilarity share all runs."""
        return len(self.shared.sets) == 1 and bool(self.shared.sets.all()) and not self.shared.rows.size

    def can_slide(self, dissimilarity: str) -> bool:
        """Tell whether the products of a neighborhood are sums over its voxels, for all pairs of items alike.

        Patterns of several runs that are standardized in each neighborhood have no such sums, and pairs of items that
        share different runs have different ones.
        """
        return self.shares_all_runs and (dissimilarity in SQUARED or len(self.rows) == 1)

    def give(self, voxels: slice | NDArray[np.intp], dissimilarity: str) -> Given:
        """Return the inputs of the kernels for these voxels, a range or in increasing order."""
        with _ONE_AT_A_TIME:
            if dissimilarity not in self._kept:
                self._kept[dissimilarity] = self._plan_rows(dissimilarity)
        kept = self._kept[dissimilarity]
        if isinstance(voxels, slice):
            rows, power = kept.take(voxels.start, voxels.stop)
        else:
            rows, power = kept.take_some(voxels)
        if self.can_slide(dissimilarity):
            return rows, NO_WEIGHTS, self.shared, 1, power
        return rows, NO_WEIGHTS if self.weights is None else self.weights[voxels], self.shared, 1, NO_POWER

    def _plan_rows(self, dissimilarity: str) -> Rows:
        """Return rows, or patterns where products are not updated, that are made when they are needed.

        One pattern is subtracted from those of all voxels for correlations, which do not change, and lose less
        precision to rounding.
        """
        shift, slides = None, self.can_slide(dissimilarity)
        if slides and dissimilarity == "correlation":
            n = len(self.channels)
            parts = (np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))
            shift = sum(self._make_rows(part, dissimilarity).sum(axis=0) for part in parts) / n

        def make(voxels: NDArray[np.intp]) -> Floats:
            if not slides:
                return self.select_patterns(voxels, centered=dissimilarity in SQUARED)
            rows = self._make_rows(voxels, dissimilarity)
            return rows if shift is None else np.asarray(rows - shift)

        first = make(np.arange(1))
        return Rows(make, len(self.channels), first.shape[1:])

    def _make_rows(self, voxels: NDArray[np.intp], dissimilarity: str) -> Floats:
        x = self.select_patterns(voxels, centered=dissimilarity in SQUARED)
        if x.shape[1] == 1:
            return x
        return rows_of_runs(x) if self.weights is None else rows_of_weights(x, self.weights[voxels])

    def with_noise(self, noise: NDArray[np.floating], dissimilarity: str) -> Prepared:
        """Return a copy whose patterns are divided by each channel's noise standard deviation."""
        _check_takes_noise(dissimilarity)
        given = np.asarray(noise, dtype=np.float64)
        if given.shape != self.measurements.shape[1:]:
            raise InputError(
                f"searchlight: expected noise of shape ({self.measurements.shape[1]},), one standard deviation per "
                f"channel, got {given.shape}"
            )
        if not (np.isfinite(given[self.channels]) & (given[self.channels] > 0)).all():
            raise InputError("searchlight: the noise is not above 0 and finite in every usable voxel")
        return replace(self, noise=given[self.channels])

    def with_weights(self, noise: RunNoise, runs: Sequence[str], dissimilarity: str) -> Prepared:
        """Return a copy that weights each run's products by the voxels' noise precision from the other runs."""
        _check_takes_noise(dissimilarity)
        if noise.n_units != self.measurements.shape[1]:
            raise InputError(
                f"searchlight: expected the noise of {self.measurements.shape[1]} channels, those of the data, got "
                f"{noise.n_units}"
            )
        weights = np.ascontiguousarray(np.stack([noise.weights(run)[self.channels] for run in runs], axis=1))
        if not np.isfinite(weights).all():
            raise InputError("searchlight: the noise is not above 0 and finite in every usable voxel")
        return replace(self, weights=weights)


def _check_takes_noise(dissimilarity: str) -> None:
    if dissimilarity != "crossnobis":
        raise InputError(f"searchlight: {dissimilarity} takes no noise; choose 'crossnobis'")


@dataclass(frozen=True, eq=False)
class Models:
    """Hold model vectors that are ready for a product with the RDM of each neighborhood.

    Attributes
    ----------
    names : tuple of str
    vectors : ndarray (n_models, n_pairs)
        The models on the scale of the measure.
    factor : float
        The factor by which products are multiplied.
    items : ndarray of int32 (n_pairs, 2)
        The items of each pair, numbered over the items that occur.
    plain : ndarray (n_models, n_pairs)
        The original dissimilarities.
    times : tuple of float [s], optional
        For models over time, the center of each model's window.
    """

    names: tuple[str, ...]
    vectors: Floats
    factor: float
    items: NDArray[np.int32]
    plain: Floats
    times: tuple[float, ...] | None = None

    def has_kernel(self, measure: Measure) -> bool:
        """Tell whether a kernel supports the measure: not Kendall's tau, and no whitened one with missing pairs."""
        n = int(self.items.max()) + 1
        whole = len(self.items) == n * (n - 1) // 2
        return measure not in ("tau-a", "tau-b") and (measure not in WHITENED or whole)


def prepare_patterns(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    *,
    n_mask_voxels: int,
    items: Level | None,
    average: bool,
    labels: Sequence[str] | None,
) -> Prepared:
    """Align patterns with the models' items and find the voxels that can be used.

    Raises
    ------
    InputError
        Levels, items or voxels do not fit.
    """
    if hasattr(data, "measurements"):
        measurements, own, run, voxels = _read_dataset(data, model_rdms, items)
    else:
        measurements, own, run, voxels = _read_array(np.asarray(data), model_rdms, items, labels)
    wanted = list_labels(model_rdms)
    _check_items(own, wanted)
    whole = not hasattr(data, "measurements")  # the voxels of an array are numbered by their position
    if voxels.min(initial=0) < 0 or voxels.max(initial=-1) >= n_mask_voxels or (whole and len(voxels) != n_mask_voxels):
        raise InputError(
            f"searchlight: the data have {len(voxels)} voxels, numbered up to {voxels.max(initial=-1)}, but the mask "
            f"has {n_mask_voxels}; use the mask with which the data were read"
        )
    if len(np.unique(voxels)) < len(voxels):
        raise InputError("searchlight: a voxel occurs more than once in the data's channels")
    there, sound = _survey_rows(measurements)
    measurements, rows, present = _arrange_rows(measurements, own, run, wanted, there, average)
    usable = np.zeros(n_mask_voxels, dtype=bool)
    usable[voxels[sound]] = True
    if not usable.any():
        raise InputError("searchlight: every voxel of the data is NaN or constant")
    channels = np.flatnonzero(sound)[np.argsort(voxels[sound])]
    shared = find_shared_runs(present)
    return Prepared(measurements, rows, present, shared, np.flatnonzero(shared.inverse > 0), usable, channels)


def _read_dataset(data: Any, model_rdms: RDMs, items: Level | None) -> tuple[Any, list[str], list[Any], Any]:
    described = data.obs_descriptors
    level = items or ("stimulus" if LABEL_OF["stimulus"] in described else "condition")
    _check_level(level, described.get(LABEL_OF[level]), model_rdms)
    if LABEL_OF[level] not in described:
        raise InputError(
            f"searchlight: expected {LABEL_OF[level]!r} among the descriptors of the data, got {list_some(described)}"
        )
    if "voxel" not in data.channel_descriptors:
        raise InputError(
            "searchlight: the data's channels have no 'voxel' (its number among the mask's voxels in C order)"
        )
    own = [str(label) for label in described[LABEL_OF[level]]]
    run = list(described.get("run", np.zeros(len(own))))
    voxels = np.asarray(data.channel_descriptors["voxel"]).astype(np.intp)
    return np.asarray(data.measurements), own, run, voxels


def _read_array(
    data: NDArray[Any], model_rdms: RDMs, items: Level | None, labels: Sequence[str] | None
) -> tuple[Any, list[str], list[Any], Any]:
    if data.ndim not in (2, 3):
        raise InputError(
            f"searchlight: expected data of shape (n_items, n_voxels) or (n_runs, n_items, n_voxels), got {data.shape}"
        )
    if labels is None:
        raise InputError("searchlight: an array has no labels; give labels=[...] to align it with the models")
    check_one_each(labels, data.shape[-2], "searchlight: labels", "items")
    if items is not None:
        _check_level(items, labels, model_rdms)
    n_runs = 1 if data.ndim == 2 else len(data)
    own = [str(label) for _ in range(n_runs) for label in labels]
    run = np.repeat(np.arange(n_runs), len(labels)).tolist()
    return data.reshape(-1, data.shape[-1]), own, run, np.arange(data.shape[-1])


def _check_level(level: str, labels: Sequence[Any] | None, model_rdms: RDMs) -> None:
    other = find_level(model_rdms)
    if other == level:
        return
    have = "" if labels is None else f"{len(set(labels))} "
    way = f", or read the data with items={other!r}" if other in LABEL_OF else ""
    raise InputError(
        f"searchlight: the data are over {have}{LEVELS[level]}, the models over {model_rdms.n_cond} "
        f"{LEVELS.get(other, other)}; make the models with items={level!r}{way}"
    )


def _check_items(own: Sequence[str], wanted: Sequence[str]) -> None:
    more, less = sorted(set(own) - set(wanted)), sorted(set(wanted) - set(own))
    if more or less:
        told = [f"only in {who}: {list_some(x)}" for who, x in (("the data", more), ("the models", less)) if x]
        raise InputError(f"searchlight: data and models are over different items; {'; '.join(told)}")
    check_enough(len(wanted), 3, "searchlight", "items", f" ({list_some(wanted)})")


def _survey_rows(measurements: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the rows that are not entirely missing, and of channels that are finite and vary over them."""
    there = np.array([bool(np.isfinite(row).any()) for row in measurements])
    low = np.full(measurements.shape[1], np.inf)
    high = np.full(measurements.shape[1], -np.inf)
    finite = np.ones(measurements.shape[1], dtype=bool)
    for row in measurements[there] if not there.all() else measurements:
        finite &= np.isfinite(row)
        np.fmin(low, row, out=low)
        np.fmax(high, row, out=high)
    return there, finite & (high > low)


def _arrange_rows(
    measurements: NDArray[Any],
    own: Sequence[str],
    run: Sequence[Any],
    wanted: Sequence[str],
    there: NDArray[np.bool_],
    average: bool,
) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.bool_]]:
    """Assign rows to items and runs; average rows where several belong to one item and run."""
    place = {label: k for k, label in enumerate(wanted)}
    _, which = np.unique(np.array([str(r) for r in run]), return_inverse=True)
    which = np.zeros_like(which) if average else which
    n_runs, n_items = int(which.max()) + 1, len(wanted)
    cell = which * n_items + np.array([place[label] for label in own])
    cell, source = cell[there], np.flatnonzero(there)
    count = np.bincount(cell, minlength=n_runs * n_items)
    if (count > 1).any():
        means = np.zeros((count.size, measurements.shape[1]))
        np.add.at(means, cell, measurements[source])
        measurements = means / np.maximum(count, 1)[:, None]
        cell, source = np.arange(count.size), np.arange(count.size)
    rows = np.zeros(n_runs * n_items, dtype=np.intp)
    rows[cell] = source
    return measurements, rows.reshape(n_runs, n_items), (count > 0).reshape(n_runs, n_items)


def prepare_models(model_rdms: RDMs, pairs: NDArray[np.intp], measure: Measure) -> Models:
    """Prepare model vectors on the scale of the measure, over the pairs that the data have.

    Raises
    ------
    InputError
        Models have NaN pairs where the data have patterns, a model is constant, or names repeat.
    """
    names = list_rdm_names(model_rdms)
    vectors = np.asarray(model_rdms.dissimilarities, dtype=np.float64)[:, pairs]
    check_enough(len(pairs), 2, "searchlight", "pairs of items with patterns in two runs")
    rows = list(zip(names, vectors, strict=True))
    refuse_some(
        [name for name, row in rows if not np.isfinite(row).any()],
        "searchlight: expected dissimilarities, got NaN for every pair of models ",
        " (the correlation of a single unit, say); leave these models out",
    )
    refuse_some(
        [name for name, row in rows if not np.isfinite(row).all()],
        "searchlight: models ",
        " have NaN pairs; leave the items out on both sides",
    )
    if measure not in ("cosine", "cosine_cov"):
        flat = [name for name, row in rows if not row.max() > row.min()]
        refuse_some(flat, "searchlight: all dissimilarities of models ", " are equal; leave them out")
    n = float(len(pairs))
    models = Models(
        names=names,
        vectors=np.ascontiguousarray(vectors),
        factor=12.0 / (n**3 - n) if measure == "rho-a" else 1.0,
        items=_list_pair_items(pairs, model_rdms.n_cond),
        plain=vectors,
        times=read_times(model_rdms),
    )
    if not models.has_kernel(measure):
        return models
    ready = scale_vectors(vectors, measure, use=np.isin(np.arange(_count_pairs(model_rdms.n_cond)), pairs))
    if measure == "spearman":
        ready = scale_to_unit_length(ready, center=False)
    elif measure in WHITENED:
        ready = np.array([_multiply_inverse_covariance(row, models.items) for row in ready])
    return replace(models, vectors=np.ascontiguousarray(ready))


def read_times(model_rdms: RDMs) -> tuple[float, ...] | None:
    """Return the center [s] of each model's time window; None if the models are not over time."""
    described = model_rdms.rdm_descriptors
    if "time" not in described or "layer" not in described:
        return None
    return tuple(float(time) for time in described["time"])


def _count_pairs(n_items: int) -> int:
    return n_items * (n_items - 1) // 2


def _list_pair_items(pairs: NDArray[np.intp], n_items: int) -> NDArray[np.int32]:
    """Return the two items of each pair, numbered over the items that occur."""
    both = np.stack(np.triu_indices(n_items, 1), axis=1)[pairs]
    _, place = np.unique(both, return_inverse=True)
    return np.ascontiguousarray(place.reshape(both.shape), dtype=np.int32)


def _multiply_inverse_covariance(vector: Floats, items: NDArray[np.int32]) -> Floats:
    """Multiply a vector by the inverse covariance of dissimilarities, up to vectors that do not affect products.

    For independent patterns of equal variance, H D H / 2, with D the matrix of the dissimilarities and H the centering
    matrix, has the same products with other vectors as the inverse covariance times the vector.
    """
    i, j = items.T
    n = int(items.max()) + 1
    matrix = np.zeros((n, n))
    matrix[i, j] = matrix[j, i] = vector
    rows = matrix.mean(axis=0)
    return np.asarray((vector - rows[i] - rows[j] + rows.mean()) / 2.0)
