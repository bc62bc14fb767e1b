"""The core of every searchlight: patterns, models, and neighborhoods of any shape in; scores out.

A searchlight says which voxels are neighbors (spheres in a volume, discs on a cortex) and what its maps are; the
rest is here, once: what it accepts (`prepare`), and scores chunk by chunk on a pool of threads
(`score_neighborhoods`). No RDM is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import one_of, threads_of
from brainmap.errors import BrainmapWarning, InputError
from brainmap.progress import progress
from brainmap.rsa.comparison.measures import ALIASES, RANKED, Measure as Measure, _compare
from brainmap.rsa.rdm.alignment import LABEL_OF, Level
from brainmap.rsa.rdm.run_noise import RunNoise, run_names
from brainmap.rsa.rdm.sources import refuse_own_noise
from brainmap.rsa.searchlights.kernels import (
    CENTERED,
    CORRELATION,
    COSINE,
    EUCLIDEAN,
    PLAIN,
    RAW,
    WHITE,
    WHITE_CENTERED,
    patch_rdms,
    score_patches,
)
from brainmap.rsa.searchlights.preparation import Given, Models, Prepared, prepare_models, prepare_patterns

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs

    from brainmap.rsa.searchlights.noise import NoiseSource, Shrinkage, SphereNoise

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Dissimilarity = Literal["correlation", "cosine", "euclidean", "crossnobis"]

MEASURES = ("spearman", "rho-a", "tau-a", "tau-b", "pearson", "cosine", "corr_cov", "cosine_cov")
GEOMETRY: dict[str, int] = {
    "correlation": CORRELATION,
    "cosine": COSINE,
    "euclidean": EUCLIDEAN,
    "crossnobis": EUCLIDEAN,
}
NORM = {
    "spearman": CENTERED,
    "rho-a": PLAIN,
    "pearson": CENTERED,
    "cosine": RAW,
    "corr_cov": WHITE_CENTERED,
    "cosine_cov": WHITE,
}
# Centers a task: enough that copying the voxels around them costs little, few enough to share among threads.
CHUNK = 1024
SHARE = 256  # centers a task where there are few, so that a few threads have work; never by the number of threads
_FEW = 256  # centers that may lie in so small a part of the brain that their voxels are better copied one by one
_MOST_NUMBERS = 2_000_000  # of RDMs that are kept at a time, where they are: 16 MB


class Neighborhoods(Protocol):
    """The neighbors of every usable voxel; voxels are numbered as in `Prepared`, and each is a center."""

    @property
    def n_voxels(self) -> int:
        """Usable voxels."""

    @property
    def n_most(self) -> int:
        """Voxels of the largest neighborhood."""

    def patches(self, start: int, stop: int) -> Ints:
        """Neighbors `(stop - start, n_most)` of the voxels start .. stop - 1; -1 where there is none."""


def prepare(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    *,
    n_voxels: int,
    dissimilarity: str,
    measure: str,
    items: Level | None,
    runs: str,
    labels: Sequence[str] | None,
) -> tuple[Prepared, Models]:
    """Check what every searchlight is given, and bring patterns and models into one order of items.

    Parameters
    ----------
    data, model_rdms, dissimilarity, measure, items, runs, labels
        As in `brainmap.rsa.searchlight`.
    n_voxels : int
        Voxels of the mask, or vertices of the mesh.

    Raises
    ------
    InputError
        Settings that are unknown, labels, levels or voxels that do not fit, crossnobis of one run.
    """
    one_of(dissimilarity, get_args(Dissimilarity), "searchlight dissimilarity")
    searched(measure)
    one_of(runs, ("between", "average"), "searchlight runs")
    if items is not None:
        one_of(items, tuple(LABEL_OF), "searchlight items")
    if runs == "between" and len(run_names(data)) > 1:
        refuse_own_noise(data)
    prepared = prepare_patterns(
        data, model_rdms, n_mask_voxels=n_voxels, items=items, average=runs == "average", labels=labels
    )
    if dissimilarity == "crossnobis" and len(prepared.rows) < 2:
        raise InputError(
            "searchlight: crossnobis needs two or more runs, found one; fit one beta a run "
            "(AFNI: -stim_times_IM, or a fit per run), or choose 'euclidean' or 'correlation'"
        )
    return prepared, prepare_models(model_rdms, prepared.pairs, searched(measure))


def searched(measure: str) -> Measure:
    """The measure of that name or alias, if a searchlight can take it: bures looks for the best rotation each time.

    Raises
    ------
    InputError
    """
    return cast(Measure, one_of(ALIASES.get(measure, measure), MEASURES, "searchlight measure"))


def noise_of(
    noise: NoiseSource | None, data: Any, prepared: Prepared, *, dissimilarity: str, shrinkage: Shrinkage, pooled: bool
) -> tuple[Prepared, SphereNoise | None]:
    """Patterns divided by each voxel's noise, or the noise of which each neighborhood gets a covariance of its own.

    Raises
    ------
    InputError
        Noise of other voxels, or that the dissimilarity takes no account of; noise from fewer than three runs.
    """
    if noise is None:
        return prepared, None
    if isinstance(noise, RunNoise) and noise.method == "diag":
        return prepared.with_weights(noise, run_names(data), dissimilarity), None
    if isinstance(noise, np.ndarray) and noise.ndim < 2:
        return prepared.with_noise(noise, dissimilarity), None
    if GEOMETRY[dissimilarity] != EUCLIDEAN and not pooled:
        raise InputError(f"searchlight: one precision a run is for crossnobis, not {dissimilarity}; pool the runs")
    from brainmap.rsa.searchlights.noise import sphere_noise  # heavier than most searchlights need

    return prepared, sphere_noise(noise, data, prepared, shrinkage=shrinkage, pooled=pooled)


@dataclass(frozen=True, eq=False)
class Scoring:
    """Everything that scores need: patterns, models, neighborhoods, and how they are compared.

    Attributes
    ----------
    prepared, models
        As `prepare` gives them.
    hoods : Neighborhoods
        Spheres, discs, or any other.
    dissimilarity, measure : str
        As in `brainmap.rsa.searchlight`.
    minimum : int
        Voxels a neighborhood must have.
    noise : SphereNoise, optional
        Whitens the patterns of each neighborhood by a noise covariance of its own before its RDM is made.
    groups : sequence of array, optional
        Centers that are scored together where there is such noise (bricks of a volume), each center once.
    """

    prepared: Prepared
    models: Models
    hoods: Neighborhoods
    dissimilarity: str
    measure: Measure
    minimum: int = 2
    noise: SphereNoise | None = None
    groups: Sequence[NDArray[np.intp]] | None = None

    def score(self, centers: NDArray[np.intp]) -> tuple[Floats, int]:
        """Scores `(n_centers, n_models)` of these usable voxels, which lie close by, and how many noise covariances
        are singular; NaN where there is no score."""
        scores = np.full((len(centers), len(self.models.names)), np.nan)
        done, n_singular = 0, 0
        for given, table, bad in self._patterns(centers):
            self._fill(given, table, scores[done : done + len(table)])
            done, n_singular = done + len(table), n_singular + bad
        return scores, n_singular

    def _fill(self, given: Given, table: Ints, scores: Floats) -> None:
        """Scores of some neighborhoods, `(n_patches, n_models)`, in place."""
        models, how = self.models, self.prepared
        geometry, minimum = GEOMETRY[self.dissimilarity], max(self.minimum, 2)
        if models.compiled(self.measure):
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
            )
            scores *= models.factor
            return
        # RDMs of a few neighborhoods at a time
        n_items = how.present.shape[1]
        use = np.isin(np.arange(n_items * (n_items - 1) // 2), how.pairs)
        step = max(1, _MOST_NUMBERS // len(use))
        for start in range(0, len(table), step):
            rdms = self._rdms(given, table[start : start + step])
            found = np.flatnonzero(~np.isnan(rdms[:, 0]))
            if len(found):
                scores[start + found] = compared(models.plain, rdms[found], use, self.measure).T

    def rdms(self, centers: NDArray[np.intp]) -> tuple[Floats, int]:
        """RDMs `(n_centers, n_pairs)` of these usable voxels, which lie close by, over the pairs of `prepared`, and how
        many noise covariances are singular; NaN where there is none."""
        found = [(self._rdms(given, table), bad) for given, table, bad in self._patterns(centers)]
        return np.concatenate([rdms for rdms, _ in found]), sum(bad for _, bad in found)

    def _rdms(self, given: Given, table: Ints) -> Floats:
        how = self.prepared
        rdms = np.full((len(table), len(how.pairs)), np.nan)
        geometry, minimum = GEOMETRY[self.dissimilarity], max(self.minimum, 2)
        patch_rdms(given, table, how.pairs, geometry, minimum, rdms)
        return rdms

    def tasks(self) -> Iterator[NDArray[np.intp]]:
        """Centers that are scored together: all of them, in the same parts for any number of threads."""
        if self.groups is not None:
            return iter(self.groups)
        n = self.hoods.n_voxels
        return (np.arange(start, min(start + SHARE, n)) for start in range(0, n, SHARE))

    def _patterns(self, centers: NDArray[np.intp]) -> Iterator[tuple[Given, Ints, int]]:
        """What kernels are given of the patterns, neighborhoods as rows of these, and how many are left out because
        their noise is singular."""
        table, geometry = neighbors_of(self.hoods, centers), GEOMETRY[self.dissimilarity]
        if self.noise is None:
            yield *gathered(self.prepared, table, centered=geometry == EUCLIDEAN), 0
            return
        yield from self.noise.whitened(
            self.prepared,
            table,
            minimum=max(self.minimum, 2),
            centered=geometry == EUCLIDEAN,
            symmetric=geometry == CORRELATION,
        )


def compared(models: Floats, rdms: Floats, use: NDArray[np.bool_], measure: Measure) -> Floats:
    """`compare_rdms` of vectors without missing pairs `(n_models, n_used)`, `(n_rdms, n_used)`; it never warns."""
    whole = [np.zeros((len(rows), len(use))) for rows in (models, rdms)]
    for full, rows in zip(whole, (models, rdms), strict=True):
        full[:, use] = rows
    return _compare(whole[0], whole[1], use, measure, None)


def score_neighborhoods(scoring: Scoring, *, threads: int | None = None) -> Floats:
    """Scores `(n_usable_voxels, n_models)` of the neighborhood of every usable voxel; NaN where there is none.

    Parameters
    ----------
    scoring : Scoring
    threads : int, optional
        Default: the cores this process may use.
    """
    scores = np.full((scoring.hoods.n_voxels, len(scoring.models.names)), np.nan)
    n_threads = threads_of(threads, "searchlight")
    singular: list[int] = []

    def task(centers: NDArray[np.intp]) -> int:
        scores[centers], bad = scoring.score(centers)
        singular.append(bad)
        return len(centers)

    on_threads([partial(task, centers) for centers in scoring.tasks()], n_threads, total=len(scores))
    warn_of_singular(sum(singular))
    return scores


def warn_of_singular(n: int, what: str = "neighborhoods") -> None:
    """Say how many neighborhoods have no score because their noise covariance is singular."""
    if n:
        warnings.warn(
            f"searchlight: the noise covariance of {n} {what} is singular, and they have no score; shrinkage='diag' or "
            "'eye' scores them",
            BrainmapWarning,
            stacklevel=3,
        )


def neighbors_of(hoods: Neighborhoods, centers: NDArray[np.intp]) -> Ints:
    """Neighbors `(n_centers, n_most)` of any centers."""
    runs = np.split(centers, np.flatnonzero(np.diff(centers) != 1) + 1)
    return np.concatenate([hoods.patches(int(run[0]), int(run[-1]) + 1) for run in runs])


def gathered(prepared: Prepared, table: Ints, *, centered: bool) -> tuple[Given, Ints]:
    """What kernels are given of some voxels' patterns, and neighborhoods as their rows.

    Only voxels that these reach are copied; a neighborhood's lie close by in C order.
    """
    held = table >= 0
    first, last = int(table.min(where=held, initial=np.iinfo(np.int32).max)), int(table.max()) + 1
    if len(table) < _FEW:  # many reach nearly all voxels between, and a run of them is copied faster than single ones
        reached, place = np.unique(table[held], return_inverse=True)
        if 2 * len(reached) < last - first:
            near = np.full(table.shape, -1, dtype=np.int32)
            near[held] = place
            voxels = reached.astype(np.intp)
            return prepared.given(prepared.at(voxels, centered=centered), voxels), near
    near = table - np.int32(first)
    near[~held] = -1
    return prepared.given(prepared.block(first, last, centered=centered), slice(first, last)), near


def on_threads(tasks: Sequence[Callable[[], int]], n_threads: int, *, total: int, title: str = "searchlight") -> None:
    """Run tasks on a pool of threads with a progress bar; each gives the number of centers it has done."""
    with one_blas_thread(), progress(title, total) as shown:
        pool = ThreadPoolExecutor(n_threads)
        try:
            for done in as_completed([pool.submit(task) for task in tasks]):
                shown.advance(done.result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def one_blas_thread() -> Any:
    """The pool's threads are the only ones: BLAS gets none for a neighborhood's small product."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

    return threadpool_limits(1, user_api="blas")
