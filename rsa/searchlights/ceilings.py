"""Compute maps of noise ceilings, the range of scores that the best model can reach in each sphere."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_enough, check_one_each, count_threads, list_some, refuse_some
from brainmap.errors import InputError
from brainmap.rsa.comparison.ceilings import APPROXIMATE, compute_vector_ceiling
from brainmap.rsa.comparison.measures import RANKED
from brainmap.rsa.rdm.alignment import LABEL_OF
from brainmap.rsa.regions.rois import load_mask
from brainmap.rsa.searchlights.maps import build_volume
from brainmap.rsa.searchlights.noise import NoiseSource, group_in_bricks
from brainmap.rsa.searchlights.scoring import (
    CHUNK,
    SHARE,
    KeptRanks,
    Scoring,
    choose_rank_type,
    list_neighbors,
    run_on_threads,
    warn_of_singular,
)
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.rsa.searchlights.shared_mask import renumber_to_shared_mask
from brainmap.rsa.searchlights.volume import score_spheres
from brainmap.types import Dataset, Floats, Level, Measure, RDMs, RunPairing, SearchlightDissimilarity, Shrinkage

Patterns = Mapping[str, Dataset | NDArray[np.floating]] | Sequence[Dataset | NDArray[np.floating]]
Masks = nib.Nifti1Image | str | Path | Mapping[str, nib.Nifti1Image | str | Path]
Noises = Literal["runs"] | Mapping[str, NoiseSource | None] | Sequence[NoiseSource | None] | None

_MOST_BYTES = 1 << 26  # of RDMs of all participants, for each thread
_FEWEST_PARTS = 64  # so that all threads have work


@dataclass(frozen=True, eq=False)
class CeilingMaps:
    """Hold the noise ceilings of the sphere around every voxel.

    Attributes
    ----------
    lower_array, upper_array : ndarray (n_mask_voxels,)
        Ceilings in float64, with the voxels of the mask in C order; NaN where fewer than two participants have an RDM.
    participants : ndarray (n_mask_voxels,)
        Number of participants with an RDM.
    counts : ndarray (n_mask_voxels,)
        Number of voxels in each sphere, the smallest over these participants; 0 where nobody has an RDM.
    mask : Nifti1Image
    measure : str
    approximate : bool
        Whether `upper` may be too low (see `noise_ceiling`).
    """

    lower_array: Floats
    upper_array: Floats
    participants: NDArray[np.int32]
    counts: NDArray[np.int32]
    mask: nib.Nifti1Image
    measure: Measure
    approximate: bool

    @property
    def lower(self) -> nib.Nifti1Image:
        """Return the lower ceiling, each participant against the pooled others, averaged over participants."""
        return build_volume(self.mask, self.lower_array)

    @property
    def upper(self) -> nib.Nifti1Image:
        """Return the upper ceiling, each participant against the pool of all, averaged over participants."""
        return build_volume(self.mask, self.upper_array)

    @property
    def participant_count(self) -> nib.Nifti1Image:
        """Return the number of participants who have an RDM at each voxel; 0 outside the mask."""
        return build_volume(self.mask, self.participants, outside=0.0)

    @property
    def voxel_count(self) -> nib.Nifti1Image:
        """Return the smallest number of voxels in a participant's sphere; 0 outside the mask."""
        return build_volume(self.mask, self.counts, outside=0.0)


def ceiling_maps(
    data: Patterns,
    *,
    mask: Masks,
    radius_mm: float = 9.0,
    dissimilarity: SearchlightDissimilarity = "correlation",
    measure: Measure | str = "spearman",
    items: Level | None = None,
    runs: RunPairing = "between",
    labels: Sequence[str] | None = None,
    noise: Noises = None,
    shrinkage: Shrinkage = "diag",
    minimum_voxels: int = 10,
    threads: int | None = None,
) -> CeilingMaps:
    """Compute the noise ceiling of the sphere around every voxel, for searchlight maps of several participants.

    The ceiling of a sphere equals that of `noise_ceiling` for the participants' RDMs of its voxels. Participants share
    a grid. RDMs are computed for some spheres at a time, and none is stored.

    Parameters
    ----------
    data : mapping of participant to patterns, or a sequence of patterns
        Patterns as in `searchlight`, over the same items for all participants. A participant without data at the
        center of a sphere is left out there.
    mask : image or path, or a mapping of participant to these
        Masks may differ but share one grid. The maps then cover the union of the masks, and each participant's spheres
        contain the voxels of that participant's mask.
    radius_mm, dissimilarity, measure, items, runs, labels
        As in `searchlight`; use the settings of the maps.
    noise : "runs", or noise as in `searchlight` for each participant, optional
    shrinkage, minimum_voxels, threads
        As in `searchlight`; use the settings of the maps.

    Returns
    -------
    CeilingMaps
        It has the images `lower`, `upper`, `participant_count` and `voxel_count`.

    Raises
    ------
    InputError
        There are fewer than two participants, their items differ, or `searchlight` refuses the data.

    References
    ----------
    Nili et al. 2014, doi:10.1371/journal.pcbi.1003553

    Examples
    --------
    >>> rng, names = np.random.default_rng(0), ["a", "b", "c", "d", "e"]
    >>> truth = rng.normal(size=(5, 125))
    >>> people = [truth + 0.5 * rng.normal(size=(5, 125)) for _ in range(6)]
    >>> mask = nib.Nifti1Image(np.ones((5, 5, 5), dtype=np.float32), np.diag([3.0, 3, 3, 1]))
    >>> maps = ceiling_maps(people, mask=mask, labels=names, radius_mm=6.0, threads=1)
    >>> bool((maps.lower_array <= maps.upper_array + 1e-12).all()), maps.upper.shape
    (True, (5, 5, 5))
    """
    settings = SearchlightSettings(
        dissimilarity=dissimilarity,
        measure=measure,
        items=items,
        runs=runs,
        labels=labels,
        shrinkage=shrinkage,
        minimum=minimum_voxels,
    )
    return map_ceilings(data, settings, mask=mask, radius_mm=radius_mm, noise=noise, threads=threads)


def map_ceilings(
    data: Patterns,
    settings: SearchlightSettings,
    *,
    mask: Masks,
    radius_mm: float,
    noise: Noises,
    threads: int | None,
    kept: Mapping[str, KeptRanks] | None = None,
) -> CeilingMaps:
    """Compute `ceiling_maps` with the settings of the searchlight.

    Where it `kept` the ranks of all participants' RDMs, over the same pairs, these are not computed again.

    Raises
    ------
    InputError
        The same cases as in `ceiling_maps`.
    """
    named = dict(data) if isinstance(data, Mapping) else {str(k): one for k, one in enumerate(data, start=1)}
    noises, n_threads = _choose_noises(noise, list(named)), count_threads(threads, "ceiling maps")
    check_enough(len(named), 2, "ceiling maps", "participants")
    reference = _build_reference(named, settings.items, settings.labels)
    if isinstance(mask, Mapping):
        named, noises, mask = renumber_to_shared_mask(named, noises, mask)
    mask_image = load_mask(mask)
    people = [
        score_spheres(one, reference, settings, mask=mask_image, radius_mm=radius_mm, noise=noises[who])
        for who, one in named.items()
    ]
    ranks = [found for who in named if (found := (kept or {}).get(who)) is not None]
    return _map_ceilings(people, mask_image, n_threads, radius_mm, ranks)


@dataclass(frozen=True, eq=False)
class _Shared:
    """Hold what all chunks of spheres share, the patterns and spheres of each participant."""

    people: Sequence[Scoring]
    numbers: Sequence[NDArray[np.intp]]  # the index of each mask voxel among a participant's usable voxels
    compiled: bool  # whether all participants have the same pairs and a kernel supports the measure
    turn: Any  # a lock, since code that is not compiled filters warnings for all threads
    kept: Sequence[KeptRanks] = ()  # of each participant, where the searchlight kept the ranks of all

    def __post_init__(self) -> None:
        shapes = [(int(one.prepared.usable.sum()), self.n_pairs) for one in self.people]
        fits = shapes == [one.ranks.shape for one in self.kept] and all(one.is_complete for one in self.kept)
        if not (fits and self.number.kind == "i"):
            object.__setattr__(self, "kept", ())

    @property
    def n_pairs(self) -> int:
        """Return the number of pairs of the RDMs: the common pairs for the kernel, else all pairs."""
        n_items = self.people[0].prepared.present.shape[1]
        return len(self.people[0].prepared.pairs) if self.compiled else n_items * (n_items - 1) // 2

    @property
    def number(self) -> np.dtype[Any]:
        """Return the type of the numbers of an RDM: ranks are integers."""
        if not (self.compiled and self.people[0].measure in RANKED):
            return np.dtype(np.float64)
        return choose_rank_type(self.n_pairs)

    def measure(self, voxels: NDArray[np.intp]) -> tuple[Floats, Floats, NDArray[np.intp], NDArray[np.int32], int]:
        """Compute lower and upper ceilings, participants, voxels and the number of singular covariances of spheres."""
        rdms, there, n_singular = self.collect(voxels)
        return *self.bounds(rdms, there), there.sum(axis=0), self.count_voxels(voxels, there), n_singular

    def collect(self, voxels: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.bool_], int]:
        """Compute RDMs `(n_participants, n_voxels, n_pairs)`, or their ranks, and which participants have one.

        The last value counts singular noise covariances.
        """
        shape, ranked = (len(self.people), len(voxels), self.n_pairs), self.number.kind == "i"
        found = np.zeros(shape, self.number) if ranked else np.full(shape, np.nan)
        there, n_singular = np.zeros(shape[:2], dtype=bool), 0
        for k, one in enumerate(self.people):
            here = np.flatnonzero(one.prepared.usable[voxels])
            if not len(here):
                continue
            centers = self.numbers[k][voxels[here]]
            if self.kept:
                found[k, here], there[k, here], bad = self.kept[k].ranks[centers], self.kept[k].there[centers], 0
            elif not ranked:
                rdms, bad = one.rdms(centers)
                columns = np.arange(self.n_pairs) if self.compiled else one.prepared.pairs
                found[k][np.ix_(here, columns)] = rdms
                there[k, here] = ~np.isnan(rdms).all(axis=1)
            elif len(here) == len(voxels):
                there[k], bad = one.rank_rdms(centers, found[k])
            else:
                ranks = np.zeros((len(here), self.n_pairs), self.number)
                there[k, here], bad = one.rank_rdms(centers, ranks)
                found[k, here] = ranks
            n_singular += bad
        return found, there, n_singular

    def count_voxels(self, voxels: NDArray[np.intp], there: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Count the voxels of the smallest sphere of those who have an RDM; 0 where nobody has one."""
        sizes = np.full(len(voxels), np.iinfo(np.int32).max, dtype=np.int32)
        for k, one in enumerate(self.people):
            here = np.flatnonzero(there[k])
            if len(here):
                neighbors = list_neighbors(one.hoods, self.numbers[k][voxels[here]])
                sizes[here] = np.minimum(sizes[here], (neighbors >= 0).sum(axis=1))
        return np.where(there.any(axis=0), sizes, 0).astype(np.int32)

    def bounds(self, rdms: NDArray[Any], there: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Compute the lower and upper ceiling of each sphere."""
        lower, upper = np.full((2, rdms.shape[1]), np.nan)
        first = self.people[0]
        if self.compiled:
            from brainmap.rsa.searchlights.ceiling_kernels import compute_ceilings, compute_ranked_ceilings
            from brainmap.rsa.searchlights.kernels import NORM

            if self.number.kind == "i":
                compute_ranked_ceilings(rdms, there, NORM[first.measure], lower, upper)
            else:
                compute_ceilings(rdms, first.models.items, NORM[first.measure], lower, upper)
            return lower, upper
        with self.turn:
            for k in np.flatnonzero(there.sum(axis=0) > 1):
                found = compute_vector_ceiling(rdms[there[:, k], k], measure=first.measure)
                lower[k], upper[k] = found.lower, found.upper
        return lower, upper


def _map_ceilings(
    people: Sequence[Scoring], mask: nib.Nifti1Image, n_threads: int, radius_mm: float, kept: Sequence[KeptRanks] = ()
) -> CeilingMaps:
    """Compute the ceilings of all spheres, some at a time on a pool of threads."""
    first, inside = people[0], np.asarray(mask.dataobj) != 0
    n = int(inside.sum())
    lower, upper = np.full((2, n), np.nan)
    present, counts = np.zeros((2, n), dtype=np.int32)
    alike = all(np.array_equal(one.prepared.pairs, first.prepared.pairs) for one in people)
    shared = _Shared(
        people,
        [np.cumsum(one.prepared.usable) - 1 for one in people],
        alike and first.models.has_kernel(first.measure),
        threading.Lock(),
        kept,
    )
    # a large part shares the rows that are made for the voxels around it, and RDMs of all participants lie in memory
    share = min(CHUNK, max(SHARE, n // _FEWEST_PARTS))
    most = max(1, min(share, _MOST_BYTES // (len(people) * shared.n_pairs * shared.number.itemsize)))
    groups = [np.arange(n)]
    if first.noise is not None:
        where = np.argwhere(inside) @ np.asarray(mask.affine)[:3, :3].T
        groups = group_in_bricks(where, n_most=first.hoods.n_most, radius_mm=radius_mm)
    parts = [part for group in groups for part in np.split(group, np.arange(most, len(group), most))]
    n_singular = 0
    for voxels, found in run_on_threads(shared.measure, parts, n_threads, title="ceilings"):
        lower[voxels], upper[voxels], present[voxels], counts[voxels], bad = found
        n_singular += bad
    warn_of_singular(n_singular, "spheres")
    return CeilingMaps(lower, upper, present, counts, mask, first.measure, first.measure in APPROXIMATE)


def _choose_noises(noise: Any, people: Sequence[str]) -> dict[str, Any]:
    """Return the noise of each participant."""
    if noise is None or isinstance(noise, str):
        return dict.fromkeys(people, noise)
    if isinstance(noise, Mapping):
        lacking = [who for who in people if who not in noise]
        refuse_some(lacking, "ceiling maps: expected the noise of every participant, got none of ")
        return {who: noise[who] for who in people}
    check_one_each(noise, len(people), "ceiling maps: noise", "participants")
    return dict(zip(people, noise, strict=True))


def _build_reference(data: Mapping[str, Any], items: Level | None, labels: Sequence[str] | None) -> RDMs:
    """Return RDMs that only define the common items of all participants."""
    from rsatoolbox.rdm.rdms import RDMs

    described = [getattr(one, "obs_descriptors", None) for one in data.values()]
    level = items or (
        "condition" if any(d is not None and LABEL_OF["stimulus"] not in d for d in described) else "stimulus"
    )
    given: dict[str, list[str]] = {}
    for who, about in zip(data, described, strict=True):
        found = labels if about is None else about.get(LABEL_OF[level])
        if found is None:
            raise InputError(
                f"ceiling maps: the patterns of participant {who} have no "
                f"{'labels; give labels=[...]' if about is None else repr(LABEL_OF[level])}"
            )
        given[who] = list(dict.fromkeys(str(label) for label in found))
    first, *others = given
    for who in others:
        more, less = sorted(set(given[who]) - set(given[first])), sorted(set(given[first]) - set(given[who]))
        if more or less:
            told = [f"only in {one}: {list_some(x)}" for one, x in ((who, more), (first, less)) if x]
            raise InputError(f"ceiling maps: participants {first} and {who} have different items: {'; '.join(told)}")
    n = len(given[first])
    return RDMs(
        np.arange(n * (n - 1) / 2.0)[None],
        descriptors={"level": level},
        rdm_descriptors={"name": ["reference"]},
        pattern_descriptors={LABEL_OF[level]: given[first]},
    )
