"""Whole-brain searchlight RSA: every sphere of a brain against every model, in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import nearest, one_of, some
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa._kernels import CENTERED, CORRELATION, COSINE, EUCLIDEAN, PLAIN, RAW, score_patches
from brainmap.rsa.alignment import LABEL_OF, Level
from brainmap.rsa.regions import load_mask
from brainmap.rsa.searchlight_input import Models, Prepared, prepare_models, prepare_patterns
from brainmap.rsa.spheres import Spheres, spheres_in

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs

Floats = NDArray[np.float64]
Dissimilarity = Literal["correlation", "cosine", "euclidean", "crossnobis"]
Measure = Literal["spearman", "rho-a", "pearson", "cosine"]

_GEOMETRY = {"correlation": CORRELATION, "cosine": COSINE, "euclidean": EUCLIDEAN, "crossnobis": EUCLIDEAN}
_NORM = {"spearman": CENTERED, "rho-a": PLAIN, "pearson": CENTERED, "cosine": RAW}
# Centers a task: enough that copying the voxels around them costs little, few enough to share among threads.
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class SearchlightMaps(Mapping[str, nib.Nifti1Image]):
    """Maps of a searchlight: model name -> float32 image, NaN where there is no score.

    Attributes
    ----------
    names : tuple of str
        The models, in the order given.
    array : ndarray (n_models, n_mask_voxels)
        Scores in float64; the voxels of the mask in C order.
    counts : ndarray (n_mask_voxels,)
        Voxels in each sphere; 0 where the center itself is not usable.
    mask : Nifti1Image
    n_excluded : int
        Voxels of the mask that have no data, NaN, or one value throughout; no sphere holds them.
    n_unscored : int
        Spheres without a score: fewer than `minimum_voxels`, or a pattern constant within them.
    """

    names: tuple[str, ...]
    array: Floats
    counts: NDArray[np.int32]
    mask: nib.Nifti1Image
    n_excluded: int
    n_unscored: int

    def __getitem__(self, name: str) -> nib.Nifti1Image:
        if name not in self.names:
            raise KeyError(f"no map {name!r}{nearest(str(name), self.names)}; there are {some(self.names)}")
        return self.image(self.array[self.names.index(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, values: NDArray[Any], *, outside: float = np.nan) -> nib.Nifti1Image:
        """One value a mask voxel `(n_mask_voxels,)` as a float32 image."""
        inside = np.asarray(self.mask.dataobj) != 0
        volume = np.full(inside.shape, outside, dtype=np.float32)
        volume[inside] = values
        return nib.Nifti1Image(volume, self.mask.affine)

    @property
    def best(self) -> nib.Nifti1Image:
        """The best model of each voxel as its place in `names`, from 1; NaN where there is no score."""
        return self.image(np.where(self._scored, self._filled.argmax(axis=0) + 1.0, np.nan))

    @property
    def best_score(self) -> nib.Nifti1Image:
        """The score of the best model of each voxel."""
        return self.image(np.where(self._scored, self._filled.max(axis=0), np.nan))

    @property
    def voxel_count(self) -> nib.Nifti1Image:
        """Voxels in the sphere around each voxel; 0 outside the mask."""
        return self.image(self.counts, outside=0.0)

    @property
    def _scored(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.array).all(axis=0))

    @property
    def _filled(self) -> Floats:
        return np.where(np.isnan(self.array), -np.inf, self.array)


def searchlight(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    *,
    mask: nib.Nifti1Image | str | Path,
    radius_mm: float = 9.0,
    dissimilarity: Dissimilarity = "correlation",
    measure: Measure = "spearman",
    items: Level | None = None,
    runs: Literal["between", "average"] = "between",
    labels: Sequence[str] | None = None,
    noise: NDArray[np.floating] | None = None,
    minimum_voxels: int = 10,
    threads: int | None = None,
) -> SearchlightMaps:
    """Compare the RDM of the sphere around every voxel with model RDMs.

    Every sphere gives what `compute_rdms` and `compare_rdms` give for its voxels, without any RDM being kept.

    Parameters
    ----------
    data : rsatoolbox Dataset, or array (n_items, n_mask_voxels) or (n_runs, n_items, n_mask_voxels)
        A Dataset has observations `stimulus_id`, `condition`, `run` and a channel descriptor `voxel`: the
        voxel's number among the mask's voxels in C order (some may be missing). A row of NaN is a missing
        pattern; voxels that are NaN in other rows, or constant, belong to no sphere.
    model_rdms : rsatoolbox RDMs
        Aligned to the data by label. Named by their `layer` (and `network`, where layers repeat) or `name`.
    mask : image or path
    radius_mm : float [mm]
        Voxels at `<=` this distance belong to a sphere.
    dissimilarity : {"correlation", "cosine", "euclidean", "crossnobis"}
        euclidean and crossnobis are squared and divided by the number of voxels.
    measure : {"spearman", "rho-a", "pearson", "cosine"}
    items : {"stimulus", "condition"}, optional
        "condition" averages the tokens of a condition within each run first. Default: the finest level the
        data have. The models must be of the same level.
    runs : {"between", "average"}
        Between: with two or more runs only products of different runs enter. Average: over runs, before.
    labels : sequence of str
        Items of an array, by which it is aligned with the models.
    noise : array (n_channels,), optional
        Noise standard deviation of each voxel, for crossnobis: patterns are divided by it.
    minimum_voxels : int
        Smaller spheres have no score.
    threads : int, optional
        Default: the cores this process may use.

    Returns
    -------
    SearchlightMaps
        A mapping of model name to image, with `best`, `best_score`, `voxel_count` and `array`.

    Raises
    ------
    InputError
        Labels or levels that differ, a mask of another size, a radius under a voxel, crossnobis without runs.

    References
    ----------
    Kriegeskorte et al. 2006, doi:10.1073/pnas.0600244103

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
    one_of(dissimilarity, tuple(_GEOMETRY), "searchlight dissimilarity")
    one_of(measure, tuple(_NORM), "searchlight measure")
    one_of(runs, ("between", "average"), "searchlight runs")
    if items is not None:
        one_of(items, tuple(LABEL_OF), "searchlight items")
    if threads is not None and threads < 1:
        raise InputError(f"searchlight: found threads={threads}, wanted 1 or more")
    mask_image = load_mask(mask)
    inside = np.asarray(mask_image.dataobj) != 0
    n_mask_voxels = int(inside.sum())
    prepared = prepare_patterns(
        data, model_rdms, n_mask_voxels=n_mask_voxels, items=items, average=runs == "average", labels=labels
    )
    if dissimilarity == "crossnobis" and len(prepared.rows) < 2:
        raise InputError(
            "searchlight: crossnobis needs two or more runs, found one; fit one beta a run "
            "(AFNI: -stim_times_IM, or a fit per run), or choose 'euclidean' or 'correlation'"
        )
    if noise is not None:
        prepared = prepared.with_noise(noise, dissimilarity)
    models = prepare_models(model_rdms, prepared.pairs, measure)
    usable = np.zeros(inside.shape, dtype=bool)
    usable[inside] = prepared.usable
    spheres = spheres_in(usable, mask_image.affine, radius_mm)
    if spheres.n_most < minimum_voxels:
        raise InputError(
            f"searchlight: a sphere of {radius_mm:g} mm holds {spheres.n_most} voxels, fewer than "
            f"minimum_voxels={minimum_voxels}; take a larger radius_mm or a smaller minimum"
        )
    ranked = measure in ("spearman", "rho-a")
    settings = (_GEOMETRY[dissimilarity], ranked, _NORM[measure], max(minimum_voxels, 2))
    found = _score(prepared, models, spheres, settings, threads)
    scores = np.full((len(models.names), n_mask_voxels), np.nan)
    scores[:, prepared.usable] = found.T
    counts = np.zeros(n_mask_voxels, dtype=np.int32)
    counts[prepared.usable] = spheres.sizes()
    return SearchlightMaps(
        names=models.names,
        array=scores,
        counts=counts,
        mask=mask_image,
        n_excluded=int((~prepared.usable).sum()),
        n_unscored=int(np.isnan(found).all(axis=1).sum()),
    )


def _score(
    prepared: Prepared,
    models: Models,
    spheres: Spheres,
    settings: tuple[int, bool, int, int],
    threads: int | None,
) -> Floats:
    """Scores `(n_usable_voxels, n_models)`, chunk by chunk on a pool of threads."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

    scores = np.full((spheres.n_voxels, len(models.names)), np.nan)
    geometry, ranked, norm, minimum = settings

    def one(start: int, stop: int) -> int:
        patches = spheres.patches(start, stop)
        # A sphere's voxels lie close by in C order: a task copies only the voxels its spheres can reach.
        first, last = int(patches[patches >= 0].min()), int(patches.max()) + 1
        patches[patches >= 0] -= first
        patterns = prepared.block(first, last, centered=geometry == EUCLIDEAN)
        score_patches(
            patterns, prepared.present, prepared.weight, patches, prepared.pairs, models.vectors,
            geometry, ranked, norm, minimum, scores[start:stop],
        )  # fmt: skip
        return stop - start

    n_threads = threads or _cores()
    step = max(1, min(_CHUNK, -(-spheres.n_voxels // n_threads)))
    # The pool's threads are the only ones: BLAS gets none for a sphere's small product.
    with threadpool_limits(1, user_api="blas"), progress("searchlight", spheres.n_voxels) as shown:
        pool = ThreadPoolExecutor(n_threads)
        try:
            for done in as_completed([pool.submit(one, *chunk) for chunk in spheres.chunks(step)]):
                shown.advance(done.result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return scores * models.factor


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
