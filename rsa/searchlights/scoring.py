"""Score neighborhoods of any shape against models, the common part of all searchlights.

Each searchlight defines its neighborhoods (spheres in a volume, discs on a surface) and its maps. This module checks
and aligns the inputs (`prepare_inputs`) and scores chunks of neighborhoods on a pool of threads
(`score_neighborhoods`). No RDM is stored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import count_threads
from brainmap.errors import BrainmapWarning, InputError
from brainmap.progress import progress
from brainmap.resources import require_memory
from brainmap.rsa.comparison.measures import RANKED, _compare_rows
from brainmap.rsa.rdm.run_noise import RunNoise, run_names
from brainmap.rsa.rdm.sources import refuse_own_noise
from brainmap.rsa.searchlights.device import DeviceProducts
from brainmap.rsa.searchlights.noise import NoiseSource, SphereNoise, prepare_noise
from brainmap.rsa.searchlights.preparation import SQUARED, Given, Models, Prepared, prepare_models, prepare_patterns
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.threads import limit_blas
from brainmap.types import Dataset, Floats, Measure, RDMs

Ints = NDArray[np.int32]
_Centers = TypeVar("_Centers", NDArray[np.intp], range)
_Found = TypeVar("_Found")

# Number of centers per task: enough to make copying their voxels cheap, few enough to share among threads.
CHUNK = 1024
SHARE = 256  # number of centers per task if there are few, independent of the number of threads
_FEW = 256  # below this number of centers, it may be faster to copy their voxels one by one
_MOST_NUMBERS = 2_000_000  # number of RDM values in memory at a time, for measures without a kernel: 16 MB


class Neighborhoods(Protocol):
    """Define the neighbors of every usable voxel; voxels are numbered as in `Prepared`, and each is a center."""

    @property
    def n_voxels(self) -> int:
        """Return the number of usable voxels."""

    @property
    def n_most(self) -> int:
        """Return the number of voxels of the largest neighborhood."""

    def sizes(self) -> Ints:
        """Return the number of voxels of each neighborhood, `(n_voxels,)`."""

    def patches(self, start: int, stop: int) -> Ints:
        """Return the neighbors `(stop - start, n_most)` of the voxels start .. stop - 1, padded with -1."""


def prepare_inputs(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    settings: SearchlightSettings,
    *,
    n_voxels: int,
    noise: NoiseSource | None,
) -> tuple[Prepared, Models, SphereNoise | None]:
    """Check the inputs of a searchlight, and align the items of patterns and models.

    Patterns are divided by each voxel's noise; noise from which each neighborhood gets a covariance is returned.

    Parameters
    ----------
    data, model_rdms, noise
        As in `brainmap.rsa.searchlight`.
    settings : SearchlightSettings
    n_voxels : int
        Number of voxels of the mask, or of vertices of the mesh.

    Raises
    ------
    InputError
        Labels, levels or voxels do not fit, crossnobis has only one run, or the noise has other voxels, comes from
        fewer than three runs, or is not used by the dissimilarity.
    """
    _check_size(model_rdms, settings)
    if settings.runs == "between" and len(run_names(data)) > 1:
        refuse_own_noise(data)
    prepared = prepare_patterns(
        data,
        model_rdms,
        n_mask_voxels=n_voxels,
        items=settings.items,
        average=settings.runs == "average",
        labels=settings.labels,
    )
    dissimilarity = settings.dissimilarity
    if dissimilarity == "crossnobis" and len(prepared.rows) < 2:
        raise InputError(
            "searchlight: expected two runs or more for crossnobis, got one; fit one beta per run (AFNI: "
            "-stim_times_IM, or a fit per run), or choose 'euclidean' or 'correlation'"
        )
    models = prepare_models(model_rdms, prepared.pairs, settings.scale)
    if noise is None:
        return prepared, models, None
    if isinstance(noise, RunNoise) and noise.method == "diag":
        return prepared.with_weights(noise, run_names(data), dissimilarity), models, None
    if isinstance(noise, np.ndarray) and noise.ndim < 2:
        return prepared.with_noise(noise, dissimilarity), models, None
    if dissimilarity not in SQUARED and not settings.pooled:
        raise InputError(
            f"searchlight: one noise precision per run is for crossnobis, not for {dissimilarity}; pool the runs"
        )
    own = prepare_noise(noise, data, prepared, shrinkage=settings.shrinkage, pooled=settings.pooled)
    return prepared, models, own


def _check_size(model_rdms: RDMs, settings: SearchlightSettings) -> None:
    """Refuse RDMs of more items than memory allows: three copies of the models, and what each thread works in."""
    n, n_models = model_rdms.n_cond, model_rdms.n_rdm
    n_pairs, n_threads = n * (n - 1) / 2, count_threads(None, "searchlight")
    each = 5 * 8 + 5 * 4 if settings.scale in RANKED else 2 * 8  # distances, ranks, and the order of what is ranked
    require_memory(
        n_pairs * (3 * 8 * n_models + each * n_threads) + 8.0 * n**2 * n_threads,
        what=f"searchlight: RDMs of {n:,} items for {n_models} models and {n_threads} threads",
        do="average tokens first (items='condition'), or take fewer items, models or threads",
    )


class KeptRanks:
    """Keep the ranks of the RDM of every neighborhood that is scored, from which noise ceilings are computed.

    Parameters
    ----------
    n_voxels, n_pairs : int

    Attributes
    ----------
    ranks : ndarray int16 or int32 (n_voxels, n_pairs)
        Twice the distance of each rank from the mean rank.
    there : ndarray of bool (n_voxels,)
        Whether a neighborhood has an RDM.
    """

    def __init__(self, n_voxels: int, n_pairs: int) -> None:
        self.ranks = np.empty((n_voxels, n_pairs), choose_rank_type(n_pairs))
        self.there = np.zeros(n_voxels, dtype=bool)
        self._done = np.zeros(n_voxels, dtype=bool)

    @property
    def is_complete(self) -> bool:
        """Tell whether all neighborhoods were scored, and none taken from files."""
        return bool(self._done.all())

    def make_room(self, n: int) -> NDArray[np.signedinteger]:
        """Make the ranks of n neighborhoods, none of which has an RDM."""
        return np.full((n, self.ranks.shape[1]), np.iinfo(self.ranks.dtype).min, self.ranks.dtype)

    def keep(self, centers: NDArray[np.intp], ranks: NDArray[np.signedinteger]) -> None:
        """Keep the ranks of some neighborhoods."""
        self.ranks[centers] = ranks
        self.there[centers] = ranks[:, 0] > np.iinfo(ranks.dtype).min  # which no rank reaches
        self._done[centers] = True


def choose_rank_type(n_pairs: int) -> np.dtype[np.signedinteger]:
    """Choose the type of doubled ranks, whose distance from their mean is below the number of pairs."""
    return np.dtype(np.int16 if n_pairs <= np.iinfo(np.int16).max else np.int32)


_NO_RANKS = np.empty((0, 0), np.int16)


@dataclass(frozen=True, eq=False)
class Scoring:
    """Hold everything that determines the scores: patterns, models, neighborhoods and settings.

    Attributes
    ----------
    prepared, models
        The results of `prepare_inputs`.
    hoods : Neighborhoods
        Spheres, discs, or any other neighborhoods.
    dissimilarity, measure : str
        As in `brainmap.rsa.searchlight`.
    minimum : int
        Smallest number of voxels of a neighborhood.
    noise : SphereNoise, optional
        Whitens the patterns of each neighborhood by its own noise covariance before the RDM is computed.
    device : str, optional
        The torch device that computes RDMs and scores; by default, the kernels of the CPU do.
    groups : sequence of array, optional
        Centers that are scored together if there is such noise (bricks of a volume); each center occurs once.
    kept : KeptRanks, optional
        Where the ranks of all RDMs are kept, if `can_keep_ranks`.
    """

    prepared: Prepared
    models: Models
    hoods: Neighborhoods
    dissimilarity: str
    measure: Measure
    minimum: int = 2
    noise: SphereNoise | None = None
    groups: Sequence[NDArray[np.intp]] | None = None
    device: str | None = None
    kept: KeptRanks | None = None

    @property
    def can_keep_ranks(self) -> bool:
        """Tell whether ranks are compared, by the kernel, of RDMs that do not depend on what is scored before."""
        kernel = self.measure in RANKED and self.models.has_kernel(self.measure)
        return kernel and self.device is None and not self.prepared.can_slide(self.dissimilarity)

    def score(self, centers: NDArray[np.intp]) -> tuple[Floats, int]:
        """Score the neighborhoods of these usable voxels, which lie close together.

        Return scores `(n_centers, n_models)`, NaN where there is none, and the number of singular noise covariances.
        """
        scores = np.full((len(centers), len(self.models.names)), np.nan)
        n_singular = 0
        for part, given, table, bad in self._iterate_patterns(centers):
            ranks = _NO_RANKS if self.kept is None else self.kept.make_room(len(table))
            self._fill(given, table, scores[part], ranks)
            if self.kept is not None:
                self.kept.keep(centers[part], ranks)
            n_singular += bad
        return scores, n_singular

    def _fill(self, given: Given, table: Ints, scores: Floats, ranks: NDArray[np.signedinteger]) -> None:
        """Write the scores of some neighborhoods, `(n_patches, n_models)`, and any wanted ranks in place."""
        from brainmap.rsa.searchlights.kernels import GEOMETRY, NORM, score_patches  # numba is slow to import

        models, how = self.models, self.prepared
        if self.on_device is not None and models.has_kernel(self.measure):
            scores[:] = self.on_device.score(given, table, models, self.measure)
            return
        geometry, minimum = GEOMETRY[self.dissimilarity], max(self.minimum, 2)
        if models.has_kernel(self.measure):
            score_patches(
                given,
                table,
                how.pairs,
                models.items,
                models.vectors,
                geometry,
                self.measure in RANKED,
                NORM[self.measure],
                minimum,
                scores,
                ranks,
            )
            scores *= models.factor
            return
        # compute RDMs of a few neighborhoods at a time
        n_items = how.present.shape[1]
        use = np.isin(np.arange(n_items * (n_items - 1) // 2), how.pairs)
        step = max(1, _MOST_NUMBERS // len(use))
        for start in range(0, len(table), step):
            rdms = self._compute_rdms(given, table[start : start + step])
            found = np.flatnonzero(~np.isnan(rdms[:, 0]))
            if len(found):
                scores[start + found] = compare_quietly(models.plain, rdms[found], use, self.measure).T

    def rdms(self, centers: NDArray[np.intp]) -> tuple[Floats, int]:
        """Compute the RDMs of the neighborhoods of these usable voxels, which lie close together.

        Return RDMs `(n_centers, n_pairs)` over the pairs of `prepared`, NaN where there is none, and the number of
        singular noise covariances.
        """
        found = [(self._compute_rdms(given, table), bad) for _, given, table, bad in self._iterate_patterns(centers)]
        return np.concatenate([rdms for rdms, _ in found]), sum(bad for _, bad in found)

    def _compute_rdms(self, given: Given, table: Ints) -> Floats:
        if self.on_device is not None:
            return self.on_device.compute_rdms(given, table)
        from brainmap.rsa.searchlights.kernels import GEOMETRY, compute_patch_rdms

        how = self.prepared
        rdms = np.full((len(table), len(how.pairs)), np.nan)
        geometry, minimum = GEOMETRY[self.dissimilarity], max(self.minimum, 2)
        compute_patch_rdms(given, table, how.pairs, geometry, minimum, rdms)
        return rdms

    def rank_rdms(self, centers: NDArray[np.intp], ranks: NDArray[np.integer]) -> tuple[NDArray[np.bool_], int]:
        """Write the ranks of the RDMs of these neighborhoods into `ranks` (n_centers, n_pairs), doubled and centered.

        Return which of them have an RDM, and the number of singular noise covariances.
        """
        from brainmap.rsa.searchlights.ceiling_kernels import rank_patch_rdms
        from brainmap.rsa.searchlights.kernels import GEOMETRY

        there, n_singular = np.zeros(len(centers), dtype=bool), 0
        geometry, minimum = GEOMETRY[self.dissimilarity], max(self.minimum, 2)
        for part, given, table, bad in self._iterate_patterns(centers):
            rank_patch_rdms(given, table, self.prepared.pairs, geometry, minimum, ranks[part], there[part])
            n_singular += bad
        return there, n_singular

    @cached_property
    def on_device(self) -> DeviceProducts | None:
        """Return what computes on the device; None if the kernels of the CPU do."""
        if self.device is None:
            return None
        return DeviceProducts(self.device, self.prepared, self.dissimilarity, max(self.minimum, 2))

    @property
    def step(self) -> int:
        """Return the number of centers whose patterns are copied together.

        Rows that are updated from center to center are dearer to make, and a larger range of them is shared by more
        centers.
        """
        return 8 * CHUNK if self.noise is None and self.prepared.can_slide(self.dissimilarity) else CHUNK

    def tasks(self) -> Iterator[NDArray[np.intp]]:
        """Yield the centers in groups that are scored together, which do not depend on the number of threads."""
        if self.groups is not None:
            return iter(self.groups)
        n = self.hoods.n_voxels
        return (np.arange(start, min(start + SHARE, n)) for start in range(0, n, SHARE))

    def _iterate_patterns(self, centers: NDArray[np.intp]) -> Iterator[tuple[slice, Given, Ints, int]]:
        """Yield some of the centers, the kernels' inputs, each one's rows, and the number of singular covariances."""
        table = list_neighbors(self.hoods, centers)
        if self.noise is None:
            yield slice(None), *gather_patterns(self.prepared, table, self.dissimilarity), 0
            return
        done = 0
        for given, rows, n_singular in self.noise.whiten_patches(
            self.prepared,
            table,
            minimum=max(self.minimum, 2),
            centered=self.dissimilarity in SQUARED,
            symmetric=self.dissimilarity == "correlation",
        ):
            yield slice(done, done + len(rows)), given, rows, n_singular
            done += len(rows)


def compare_quietly(models: Floats, rdms: Floats, use: NDArray[np.bool_], measure: Measure) -> Floats:
    """Compare vectors without missing pairs `(n_models, n_used)` and `(n_rdms, n_used)`, without any warning."""
    whole = [np.zeros((len(rows), len(use))) for rows in (models, rdms)]
    for full, rows in zip(whole, (models, rdms), strict=True):
        full[:, use] = rows
    return _compare_rows(whole[0], whole[1], use, measure, None)


def score_neighborhoods(scoring: Scoring, *, threads: int | None = None) -> Floats:
    """Score the neighborhood of every usable voxel, `(n_usable_voxels, n_models)`; NaN where there is no score.

    Parameters
    ----------
    scoring : Scoring
    threads : int, optional
        Number of threads; by default the number of cores that this process may use.
    """
    scores = np.full((scoring.hoods.n_voxels, len(scoring.models.names)), np.nan)
    n_threads = 1 if scoring.device else count_threads(threads, "searchlight")
    n_singular = 0
    for centers, (found, bad) in run_on_threads(scoring.score, list(scoring.tasks()), n_threads):
        scores[centers] = found
        n_singular += bad
    warn_of_singular(n_singular)
    return scores


def warn_of_singular(n: int, what: str = "neighborhoods") -> None:
    """Warn of neighborhoods without a score because their noise covariance is singular."""
    if n:
        warnings.warn(
            f"searchlight: the noise covariance of {n} {what} is singular, and they have no score; shrinkage='diag' or "
            "'eye' scores them",
            BrainmapWarning,
            stacklevel=3,
        )


def list_neighbors(hoods: Neighborhoods, centers: NDArray[np.intp]) -> Ints:
    """Return the neighbors `(n_centers, n_most)` of any centers, in increasing order after a padding of -1."""
    runs = np.split(centers, np.flatnonzero(np.diff(centers) != 1) + 1)
    return np.sort(np.concatenate([hoods.patches(int(run[0]), int(run[-1]) + 1) for run in runs]), axis=1)


def gather_patterns(prepared: Prepared, table: Ints, dissimilarity: str) -> tuple[Given, Ints]:
    """Gather the patterns of some neighborhoods, and return the kernels' inputs and the rows of each neighborhood.

    Only voxels of these neighborhoods are copied, or the range between them, as they lie close together in C order.
    """
    held = table >= 0
    first, last = int(table.min(where=held, initial=np.iinfo(np.int32).max)), int(table.max()) + 1
    if len(table) < _FEW:  # many neighborhoods cover nearly the whole range, which is faster to copy than single voxels
        reached, place = np.unique(table[held], return_inverse=True)
        if 2 * len(reached) < last - first:
            near = np.full(table.shape, -1, dtype=np.int32)
            near[held] = place
            return prepared.give(reached.astype(np.intp), dissimilarity), near
    near = table - np.int32(first)
    near[~held] = -1
    return prepared.give(slice(first, last), dissimilarity), near


def run_on_threads(
    task: Callable[[_Centers], _Found],
    parts: Sequence[_Centers],
    n_threads: int,
    *,
    done: int = 0,
    title: str = "searchlight",
) -> Iterator[tuple[_Centers, _Found]]:
    """Yield the parts of the centers with what the task finds, as threads finish them, with a progress bar.

    `done` is the number of centers that were finished before.
    """
    with limit_blas(), progress(title, done + sum(map(len, parts)), done=done) as shown:
        pool = ThreadPoolExecutor(n_threads)
        try:
            running = {pool.submit(task, part): part for part in parts}
            for ready in as_completed(running):
                part = running.pop(ready)
                yield part, ready.result()
                shown.advance(len(part))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
