"""Arrange the patterns of a neighborhood in sets, each of which is whitened by one noise covariance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from brainmap.rsa.searchlights.preparation import NO_POWER, NO_WEIGHTS, Given, Prepared
from brainmap.rsa.searchlights.shared_runs import SharedRuns, find_shared_runs
from brainmap.types import Floats


@dataclass(frozen=True, eq=False)
class Sets:
    """Hold patterns `(n_sets, n_voxels, n_columns)` and the indices of the two covariances that whiten each set.

    The other fields are the numbers of runs and items of the columns, the shared runs, and further inputs of the
    kernels; weights `(n_sets, n_runs)` are those of a set's rows.
    """

    patterns: Floats
    pairs: NDArray[np.int64]
    shape: tuple[int, int]
    shared: SharedRuns
    weights: Floats | None = None
    parts: int = 1


def arrange_sets(x: Floats, prepared: Prepared, *, n_covariances: int, left_out: bool, euclidean: bool) -> Sets:
    """Arrange patterns in sets that are whitened by different covariances.

    The kernels treat the voxels of all sets as if they were different voxels.
    """
    n_voxels, n_runs, n_items = x.shape
    shared, whole = prepared.shared, bool(prepared.present.all())
    if n_covariances == 1:
        return Sets(x.reshape(1, n_voxels, -1), np.zeros((1, 2), dtype=np.int64), (n_runs, n_items), shared)
    two = find_shared_runs(np.ones((2, n_items), dtype=bool))
    own = np.repeat(np.arange(n_runs)[:, None], 2, axis=1)
    if left_out and euclidean and whole:  # each run is paired with the mean of all other runs
        others = (x.sum(axis=1, keepdims=True) - x) / (n_runs - 1)
        both = np.stack([x, others], axis=2).transpose(1, 0, 2, 3).reshape(n_runs, n_voxels, 2 * n_items)
        return Sets(np.ascontiguousarray(both), own, (2, n_items), two)
    if left_out:  # each set holds all runs and has a weight for one of them
        all_runs = np.repeat(x.reshape(1, n_voxels, -1), n_runs, axis=0)
        weights = np.eye(n_runs) * (n_runs if euclidean else 1)
        return Sets(all_runs, own, (n_runs, n_items), shared, weights, 1 if euclidean else n_runs)
    pairs = np.array(list(combinations(range(n_runs), 2)))
    if whole:
        both = x[:, pairs].transpose(1, 0, 2, 3).reshape(len(pairs), n_voxels, 2 * n_items)
        return Sets(np.ascontiguousarray(both), pairs, (2, n_items), two)
    of_pair = np.zeros((len(pairs), n_voxels, n_runs, n_items))
    for k, pair in enumerate(pairs):
        of_pair[k][:, pair] = x[:, pair] * np.sqrt(len(pairs))
    return Sets(of_pair.reshape(len(pairs), n_voxels, -1), pairs, (n_runs, n_items), shared)


def list_row_sets(table: NDArray[np.int32], n_sets: int) -> NDArray[np.intp]:
    """Return the set of each whitened row, for all neighborhoods in sequence."""
    sizes = (table >= 0).sum(axis=1) // n_sets
    found = np.repeat(np.tile(np.arange(n_sets), len(table)), np.repeat(sizes, n_sets))
    whole = np.zeros(table.size, dtype=np.intp)
    whole[: len(found)] = found
    return whole


def yield_symmetric_sets(
    x: Floats,
    patches: NDArray[np.int32],
    noise: tuple[Floats, Floats, Floats],
    *,
    sd: Floats,
    minimum: int,
    shared: SharedRuns,
) -> Iterator[tuple[Given, NDArray[np.int32], int]]:
    """Yield neighborhoods one by one, whitened by the symmetric root of the precision (Walther et al. 2016).

    With one covariance per run (from the other runs), the patterns of all runs are whitened by each covariance. The
    results are sets of voxels, each with a weight for one run.
    """
    covariance, kept, ridge = noise
    n_sets = len(covariance)
    for row, patch in enumerate(patches):
        near = patch[patch >= 0]
        table = np.full((1, n_sets * patches.shape[1]), -1, dtype=np.int32)
        weights = NO_WEIGHTS if n_sets == 1 else np.repeat(np.eye(n_sets), len(near), axis=0)
        if len(near) < minimum:
            yield (x[:0], weights[:0], shared, n_sets, NO_POWER), table, 0
            continue
        roots = [
            _compute_root(kept[k, row] * covariance[k][np.ix_(near, near)] + np.diag(ridge[k, row, near]), sd[near])
            for k in range(n_sets)
        ]
        sound = [root for root in roots if root is not None]
        if len(sound) < n_sets:
            yield (x[:0], weights[:0], shared, n_sets, NO_POWER), table, 1
            continue
        table[0, : n_sets * len(near)] = np.arange(n_sets * len(near))
        scaled = x[near] * sd[near, None, None]
        white = np.concatenate([np.tensordot(root, scaled, axes=1) for root in sound])
        yield (np.ascontiguousarray(white), weights, shared, n_sets, NO_POWER), table, 0


def _compute_root(covariance: Floats, sd: Floats) -> Floats | None:
    """Compute the symmetric root of the precision; None if the covariance is singular."""
    values, vectors = np.linalg.eigh(covariance * np.outer(sd, sd))
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T) if values[0] > 1e-12 * values[-1] else None
