"""Compute whole-brain searchlight RSA, with spheres around every voxel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import count_threads
from brainmap.errors import InputError
from brainmap.rsa.regions.rois import load_mask
from brainmap.rsa.searchlights.device import choose_searchlight_device
from brainmap.rsa.searchlights.maps import SearchlightMaps, build_maps
from brainmap.rsa.searchlights.noise import NoiseSource, group_in_bricks
from brainmap.rsa.searchlights.scoring import (
    CHUNK,
    KeptRanks,
    Scoring,
    choose_rank_type,
    prepare_inputs,
    run_on_threads,
    warn_of_singular,
)
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.rsa.searchlights.spheres import build_spheres
from brainmap.types import (
    Dataset,
    Device,
    Floats,
    Level,
    Measure,
    RDMs,
    RunPairing,
    SearchlightDissimilarity,
    Shrinkage,
)

_MOST_PIECES = 64  # largest number of pieces of a searchlight, so that files are not tiny and tasks take some seconds


@dataclass(frozen=True, eq=False)
class SearchlightPlan:
    """Hold a searchlight that is ready to be computed, as a whole or in pieces, in this or in other processes.

    Attributes
    ----------
    mask : Nifti1Image
    scoring : Scoring
    sizes : ndarray (n_usable_voxels,)
        Number of voxels in each sphere.
    order : ndarray (n_mask_voxels,)
        Voxels of the mask in the order in which they are computed.
    brick : ndarray (n_mask_voxels,), optional
        If spheres have their own noise covariances, the number of the brick of each center, in that order; the spheres
        of a brick share computations.
    """

    mask: nib.Nifti1Image
    scoring: Scoring
    sizes: NDArray[np.int32]
    order: NDArray[np.intp]
    brick: NDArray[np.intp] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the models, in the order given."""
        return self.scoring.models.names

    def score(self, start: int, stop: int) -> tuple[Floats, NDArray[np.int32]]:
        """Compute scores `(n_models, stop - start)` and voxel counts of the spheres at these positions of `order`.

        They are NaN and 0 where a voxel is not usable. Pieces with the boundaries of `cut_pieces` give bitwise the same
        results as the whole. Callers with several threads should use `limit_blas`.
        """
        usable = self.scoring.prepared.usable
        used = usable[self.order[start:stop]]
        scores = np.full((len(self.names), stop - start), np.nan)
        counts = np.zeros(stop - start, dtype=np.int32)
        if used.any():
            centers = (np.cumsum(usable) - 1)[self.order[start:stop][used]]
            cuts = np.arange(self.scoring.step, len(centers), self.scoring.step)
            if self.brick is not None:
                cuts = np.flatnonzero(np.diff(self.brick[start:stop][used])) + 1
            found, singular = zip(*map(self.scoring.score, np.split(centers, cuts)), strict=True)
            warn_of_singular(sum(singular), "spheres")
            scores[:, used] = np.concatenate(found).T
            counts[used] = self.sizes[centers]
        return scores, counts

    def compute_pieces(
        self, pieces: Sequence[tuple[int, int]], *, threads: int | None = None, done: int = 0
    ) -> Iterator[tuple[tuple[int, int], Floats, NDArray[np.int32]]]:
        """Compute pieces on a pool of threads, and yield each with scores and counts when it is ready.

        `done` is the number of centers that were computed before, for the progress bar.
        """
        n_threads = 1 if self.scoring.device else count_threads(threads, "searchlight")
        parts = [range(*piece) for piece in pieces]
        scored = run_on_threads(lambda part: self.score(part.start, part.stop), parts, n_threads, done=done)
        for part, found in scored:
            yield (part.start, part.stop), *found

    def compute(self, *, threads: int | None = None) -> SearchlightMaps:
        """Compute all pieces on a pool of threads, and return their maps."""
        scores = np.full((len(self.names), len(self.order)), np.nan)
        counts = np.zeros(len(self.order), dtype=np.int32)
        for (start, stop), score, count in self.compute_pieces(cut_pieces(len(self.order)), threads=threads):
            scores[:, start:stop], counts[start:stop] = score, count
        return self.maps(scores, counts)

    @property
    def n_bytes_kept(self) -> int:
        """Return the size of the ranks of all RDMs; 0 where they cannot be kept."""
        how = self.scoring
        n_pairs = len(how.prepared.pairs)
        return how.hoods.n_voxels * n_pairs * choose_rank_type(n_pairs).itemsize if how.can_keep_ranks else 0

    def keep_ranks(self) -> SearchlightPlan:
        """Return the same plan, which keeps the ranks of all RDMs in `scoring.kept`."""
        kept = KeptRanks(self.scoring.hoods.n_voxels, len(self.scoring.prepared.pairs))
        return replace(self, scoring=replace(self.scoring, kept=kept))

    def maps(self, scores: Floats, counts: NDArray[np.int32]) -> SearchlightMaps:
        """Build the maps from the scores and counts of all pieces, concatenated in their order."""
        array, sizes = np.empty_like(scores), np.empty_like(counts)
        array[:, self.order], sizes[self.order] = scores, counts
        return build_maps(self.names, array, sizes, self.mask, times=self.scoring.models.times)


def searchlight(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    *,
    mask: nib.Nifti1Image | str | Path,
    radius_mm: float = 9.0,
    dissimilarity: SearchlightDissimilarity = "correlation",
    measure: Measure | str = "spearman",
    items: Level | None = None,
    runs: RunPairing = "between",
    labels: Sequence[str] | None = None,
    noise: NoiseSource | None = None,
    shrinkage: Shrinkage = "diag",
    pooled: bool = True,
    minimum_voxels: int = 10,
    threads: int | None = None,
    device: Device = "cpu",
) -> SearchlightMaps:
    """Compare the RDM of the sphere around every voxel with model RDMs.

    The score of a sphere equals that of `compute_rdms` and `compare_rdms` for its voxels; no RDM is stored.

    Parameters
    ----------
    data : rsatoolbox Dataset, or array (n_items, n_mask_voxels) or (n_runs, n_items, n_mask_voxels)
        A Dataset has observation descriptors `stimulus_id`, `condition`, `run` and a channel descriptor `voxel`, the
        number of the voxel among the mask's voxels in C order (some may be missing). A row of NaN is a missing
        pattern; voxels that are NaN in other rows, or constant, belong to no sphere.
    model_rdms : rsatoolbox RDMs
        Models, aligned to the data by label. They are named by `layer` (and `network`, where layers repeat) or `name`;
        models over time (`compute_rdms(over="time")`) are named `layer@seconds`, for `over_time` and `best_time`.
    mask : image or path
    radius_mm : float [mm]
        Voxels at `<=` this distance belong to a sphere.
    dissimilarity : {"correlation", "cosine", "euclidean", "crossnobis"}
        As in `compute_dissimilarities`; euclidean and crossnobis are squared and divided by the number of voxels.
        Correlation is 1 - r of one set of patterns; between runs it is (r_ii + r_jj) / 2 - r_ij, where r_ab is the mean
        correlation of pattern a in one run with pattern b in another.
    measure : {"spearman", "rho-a", "tau-a", "tau-b", "pearson", "cosine", "corr_cov", "cosine_cov"}
        As in `compare_rdms`; the whitened measures assume patterns with equal variances and no covariance. Kendall's
        tau takes about 0.1 ms per sphere and model (64 items); the time of the others is negligible.
    items : {"stimulus", "condition"}, optional
        "condition" averages the tokens of a condition within each run first. The default is the finest level of the
        data. The models must have the same level.
    runs : {"between", "average"}
        "between": with two or more runs only products of different runs are used. "average": patterns are averaged over
        runs first.
    labels : sequence of str
        Labels of the items of an array, by which it is aligned with the models.
    noise : array (n_channels,), (n_volumes, n_channels) or a sequence of these, Residuals, RunNoise, "runs", optional
        An array (n_channels,) is the noise standard deviation of each voxel, by which patterns are divided for
        crossnobis. It must come from other data than the patterns, such as the residuals of the GLM;
        `noise_precision(data, method="diag")` estimates it from the runs instead, for each run from the others.
        With residuals of the GLM (one array per run; columns are the data's channels, or all voxels of the mask), every
        sphere is whitened by the noise precision of its own voxels, as in `noise_precision`. "runs" does the same with
        the patterns' deviations from each item's mean over runs, for each run from the others (three runs or more).
        Euclidean distances then are Mahalanobis distances; correlation uses the symmetric root of the precision, which
        keeps whitened voxels as close as possible to the original ones.
    shrinkage : {"diag", "eye", "none"}
        Shrinkage of a sphere's covariance to its diagonal (Schäfer and Strimmer 2005) or to the identity (Ledoit and
        Wolf 2004), as in `shrinkage_diag` and `shrinkage_eye` of rsatoolbox; "none" needs more degrees of freedom than
        voxels.
    pooled : bool
        Whether residuals give one covariance from all runs (each demeaned separately), or one per run; a pair of runs
        then uses the inverse of the mean of its two. The latter is for crossnobis and euclidean. Residuals must be in
        the sorted order of the runs.
    minimum_voxels : int
        Spheres with fewer voxels have no score.
    threads : int, optional
        Number of threads; by default the number of cores that this process may use.
    device : {"cpu", "cuda", "auto"}
        "cuda" multiplies and compares on a graphics card with torch, in float64, and "auto" does where there is one.
        Scores equal those of the CPU but for rounding. Noise covariances of single spheres and patterns that are
        missing in some runs are computed on the CPU alone: "cuda" refuses them, "auto" says so. Kendall's tau is
        compared on the CPU.

    Returns
    -------
    SearchlightMaps
        A mapping of model name to image, with `best`, `best_score`, `voxel_count` and `array`.

    Raises
    ------
    InputError
        Labels or levels differ, the mask has another size, the radius is below a voxel, crossnobis has no runs, or the
        noise has other voxels or too few degrees of freedom.

    References
    ----------
    Kriegeskorte et al. 2006, doi:10.1073/pnas.0600244103; Walther et al. 2016,
    doi:10.1016/j.neuroimage.2015.12.012 (noise precision); Schäfer and Strimmer 2005, doi:10.2202/1544-6115.1175,
    and Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4 (shrinkage)

    Examples
    --------
    >>> rng, names = np.random.default_rng(0), ["a", "b", "c", "d"]
    >>> x = rng.normal(size=(4, 125))
    >>> from brainmap.rsa import compute_rdms
    >>> model = compute_rdms(x[:, :60], descriptors={"stimulus_id": names, "layer": "conv1"})
    >>> mask = nib.Nifti1Image(np.ones((5, 5, 5), dtype=np.float32), np.diag([3.0, 3, 3, 1]))
    >>> maps = searchlight(x, model, mask=mask, labels=names, radius_mm=6.0, threads=1)
    >>> list(maps), maps["conv1"].shape, int(maps.voxel_count.get_fdata().max())
    (['conv1'], (5, 5, 5), 33)
    """
    settings = SearchlightSettings(
        dissimilarity=dissimilarity,
        measure=measure,
        items=items,
        runs=runs,
        labels=labels,
        shrinkage=shrinkage,
        pooled=pooled,
        minimum=minimum_voxels,
        device=device,
    )
    n_threads = count_threads(threads, "searchlight")
    plan = plan_searchlight(data, model_rdms, settings, mask=mask, radius_mm=radius_mm, noise=noise)
    return plan.compute(threads=n_threads)


def plan_searchlight(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    settings: SearchlightSettings,
    *,
    mask: nib.Nifti1Image | str | Path,
    radius_mm: float = 9.0,
    noise: NoiseSource | None = None,
) -> SearchlightPlan:
    """Check, align and prepare the inputs of a `searchlight` once for all pieces, without computing it.

    Raises
    ------
    InputError
        The same cases as in `searchlight`.
    """
    mask_image = load_mask(mask)
    scoring = score_spheres(data, model_rdms, settings, mask=mask_image, radius_mm=radius_mm, noise=noise)
    hoods = scoring.hoods
    if scoring.noise is None:
        return SearchlightPlan(mask_image, scoring, hoods.sizes(), np.arange(len(scoring.prepared.usable)))

    where = np.argwhere(np.asarray(mask_image.dataobj) != 0) @ np.asarray(mask_image.affine)[:3, :3].T
    groups = group_in_bricks(where, n_most=hoods.n_most, radius_mm=radius_mm)
    brick = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return SearchlightPlan(mask_image, scoring, hoods.sizes(), np.concatenate(groups), brick)


def score_spheres(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    settings: SearchlightSettings,
    *,
    mask: nib.Nifti1Image,
    radius_mm: float,
    noise: NoiseSource | None,
) -> Scoring:
    """Prepare the scoring of the spheres around the usable voxels of a mask.

    Raises
    ------
    InputError
        The same cases as in `searchlight`.
    """
    inside = np.asarray(mask.dataobj) != 0
    prepared, models, own = prepare_inputs(data, model_rdms, settings, n_voxels=int(inside.sum()), noise=noise)
    usable = np.zeros(inside.shape, dtype=bool)
    usable[inside] = prepared.usable
    spheres = build_spheres(usable, mask.affine, radius_mm)
    if spheres.n_most < settings.minimum:
        raise InputError(
            f"searchlight: a sphere of {radius_mm:g} mm holds {spheres.n_most} voxels, fewer than "
            f"minimum_voxels={settings.minimum}; take a larger radius_mm or a smaller minimum"
        )
    if own is not None:
        own.check_size(spheres.n_most)
    device = choose_searchlight_device(settings.device, prepared, own_noise=own is not None)
    return Scoring(
        prepared, models, spheres, settings.dissimilarity, settings.scale, settings.minimum, own, device=device
    )


def cut_pieces(n_mask_voxels: int) -> list[tuple[int, int]]:
    """Split the voxels of a mask into pieces `start, stop`, which do not depend on the number of threads.

    Examples
    --------
    >>> cut_pieces(2500), len(cut_pieces(1_000_000))
    ([(0, 1024), (1024, 2048), (2048, 2500)], 62)
    """
    step = CHUNK * max(1, -(-n_mask_voxels // (CHUNK * _MOST_PIECES)))
    return [(start, min(start + step, n_mask_voxels)) for start in range(0, n_mask_voxels, step)]
