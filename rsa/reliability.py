"""Which voxels carry signal that repeats: split-half reliability over runs, and a screen by it."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray
from rsatoolbox.data.dataset import Dataset

from brainmap.errors import InputError
from brainmap.rsa.normalize import average_patterns

Floats = NDArray[np.float64]


def voxel_reliability(dataset: Dataset) -> Floats:
    """Correlation of each voxel's responses to the conditions between odd and even runs, `(n_voxels,)`.

    Runs are numbered in the order they come in; the responses of a half are averaged over its runs, and
    conditions missing (NaN) from a half are left out. NaN where a voxel does not vary in a half.

    Raises
    ------
    InputError
        Fewer than two runs, or fewer than three conditions that both halves have.

    Notes
    -----
    The correlation is that of half the data; r_full = 2 r / (1 + r) by Spearman and Brown.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(8, 1)) * [1.0, 0.0]
    >>> data = Dataset(np.tile(signal, (4, 1)) + 0.3 * rng.normal(size=(32, 2)), obs_descriptors={
    ...     "condition": list("abcdefgh") * 4, "run": np.repeat(["1", "2", "3", "4"], 8)})
    >>> [bool(r > 0.8) for r in voxel_reliability(data)]
    [True, False]
    """
    averaged = average_patterns(dataset)
    run, names = (np.asarray(averaged.obs_descriptors[key]) for key in ("run", "condition"))
    order = list(dict.fromkeys(run.tolist()))
    if len(order) < 2:
        raise InputError(f"voxel reliability: found {len(order)} runs, wanted 2 or more")
    odd = np.isin(run, order[::2])
    there = ~np.isnan(averaged.measurements).all(axis=1)
    both = [c for c in dict.fromkeys(names.tolist()) if c in names[there & odd] and c in names[there & ~odd]]
    if len(both) < 3:
        raise InputError(f"voxel reliability: {len(both)} conditions come in both halves of the runs, wanted 3 or more")
    halves = [
        np.stack([averaged.measurements[there & half & (names == c)].mean(axis=0) for c in both])
        for half in (odd, ~odd)
    ]
    a, b = (x - x.mean(axis=0) for x in halves)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Floats = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return r


def screen_voxels(dataset: Dataset, *, minimum_reliability: float) -> Dataset:
    """Leave out voxels whose split-half reliability is below a minimum; `voxel_report` counts them.

    Choosing voxels by how well they repeat favors no model, but it raises noise ceilings: say so where it is
    used.

    Parameters
    ----------
    dataset : Dataset
        As `load_patterns` gives it.
    minimum_reliability : float
        Smallest correlation between odd and even runs that is kept (`>=`); NaN never is.

    Raises
    ------
    InputError
        A region would be left without voxels.
    """
    keep = np.nan_to_num(voxel_reliability(dataset), nan=-np.inf) >= minimum_reliability
    of_voxel = np.asarray(dataset.channel_descriptors.get("roi", np.zeros(dataset.n_channel, "U1"))).astype(str)
    for roi in dict.fromkeys(["", *of_voxel.tolist()]):
        chosen = (of_voxel == roi) if roi else np.ones(len(keep), bool)
        if not keep[chosen].any():
            raise InputError(
                f"voxel screen: none of the {chosen.sum()} voxels of {roi or 'the mask'!r} reaches a reliability of "
                f"{minimum_reliability:g}; lower minimum_reliability"
            )
    counts = json.loads(str(dataset.descriptors.get("voxel_counts", "[]")))
    for row in counts:
        lost = int((~keep[(of_voxel == row["roi"]) | (row["roi"] == "mask")]).sum())
        row["dropped_unreliable"] = row.get("dropped_unreliable", 0) + lost
        row["kept"] -= lost
    return Dataset(
        dataset.measurements[:, keep],
        descriptors={**dataset.descriptors, "voxel_counts": json.dumps(counts)},
        obs_descriptors=dict(dataset.obs_descriptors),
        channel_descriptors={k: np.asarray(v)[keep] for k, v in dataset.channel_descriptors.items()},
    )
