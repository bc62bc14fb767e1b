"""Group maps: where a model's score is above 0 over participants, corrected over all voxels and models at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import one_of, some
from brainmap.errors import InputError
from brainmap.rsa.images import check_same_grid, load_image
from brainmap.rsa.signflip import Alternative, sign_flip_test

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Image = nib.Nifti1Image | str | Path
Maps = Sequence[Image] | Mapping[str, Sequence[Image]] | Sequence[Mapping[str, Image]]

CLUSTER_COLUMNS = {
    "model": "name of the map",
    "cluster": "number within the map, the largest first",
    "x": "peak, right is positive (RAS) [mm]",
    "y": "peak, anterior is positive (RAS) [mm]",
    "z": "peak, superior is positive (RAS) [mm]",
    "x_rai": "peak in AFNI's default order, left is positive (RAI) [mm]",
    "y_rai": "peak in AFNI's default order, posterior is positive (RAI) [mm]",
    "z_rai": "peak in AFNI's default order, superior is positive (RAI) [mm]",
    "voxels": "size, voxels that touch by a face",
    "volume": "size [mm3]",
    "mean": "mean over participants at the peak",
    "statistic": "t over participants at the peak",
    "p_corrected": "corrected p at the peak",
}


@dataclass(frozen=True, eq=False)
class GroupResult:
    """A group test of maps. Images are float32, NaN where not tested.

    `mean`, `statistic`, `p` and `p_corrected` follow the input: one image for a list of images, else a
    mapping of model to image.

    Attributes
    ----------
    names : tuple of str
        The models; ("map",) for a list of images.
    mean, statistic, p, p_corrected : Nifti1Image or dict of str to Nifti1Image
        Mean and t over participants, p of each voxel alone, p over all voxels and models.
    best : Nifti1Image
        Place in `names`, from 1, of the model with the highest mean where any model is significant; else NaN.
    clusters : DataFrame
        One row a cluster of significant voxels, its columns explained in `CLUSTER_COLUMNS`.
    critical : float
        The t that a significant voxel reaches (max-t only, else NaN).
    n_participants, n_voxels, n_excluded : int
        Excluded voxels have a value in some participants or models and lack it in others.
    n_flips : int
    enumerated : bool
        Whether all 2^n sign patterns were used.
    """

    names: tuple[str, ...]
    mean: Any
    statistic: Any
    p: Any
    p_corrected: Any
    best: nib.Nifti1Image
    clusters: pd.DataFrame
    critical: float
    n_participants: int
    n_voxels: int
    n_excluded: int
    n_flips: int
    enumerated: bool


def group_test(
    maps_by_participant: Maps,
    *,
    test: Literal["sign-flip"] = "sign-flip",
    correction: Literal["max-t", "fdr"] = "max-t",
    permutations: int = 5000,
    alternative: Alternative = "greater",
    mask: Image | None = None,
    threshold: float = 0.05,
    rng: np.random.Generator | None = None,
) -> GroupResult:
    """Test participants' maps against 0.

    Parameters
    ----------
    maps_by_participant : list of images, mapping of model to such a list, or list of SearchlightMaps
        One image a participant (or a path), all on one grid. Several models are corrected together.
    test : "sign-flip"
        See `brainmap.rsa.signflip.sign_flip_test`.
    correction : {"max-t", "fdr"}
        Family-wise over voxels and models by the largest t; or Benjamini-Hochberg over the same tests.
    permutations : int
        All 2^n sign patterns when they are no more than this, else so many drawn ones.
    alternative : {"greater", "two-sided"}
        One-sided for scores, two-sided for differences.
    mask : image or path, optional
        Test only where it is not 0.
    threshold : float
        Corrected p at or below which a voxel is significant, for `best` and `clusters`.
    rng : numpy.random.Generator, optional
        Used only when sign patterns are drawn.

    Returns
    -------
    GroupResult

    Raises
    ------
    InputError
        Grids that differ (nothing is resampled silently), models that differ between participants, fewer than
        two participants, no voxel that all participants have.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> maps = [nib.Nifti1Image(rng.normal(0.1, 0.1, (4, 4, 4)), np.eye(4)) for _ in range(8)]
    >>> result = group_test(maps)
    >>> result.n_flips, result.statistic.shape, list(result.clusters.columns[:2])
    (256, (4, 4, 4), ['model', 'cluster'])
    """
    one_of(test, ("sign-flip",), "group_test test")
    one_of(correction, ("max-t", "fdr"), "group_test correction")
    if not 0 < threshold < 1:
        raise InputError(f"group_test: found threshold={threshold}, wanted a p between 0 and 1")
    single, by_model = _by_model(maps_by_participant)
    names = tuple(by_model)
    scores, tested, n_excluded, affine = _stack(by_model, mask)
    n_models, n, n_voxels = scores.shape
    flat = scores.transpose(1, 0, 2).reshape(n, -1)
    found = sign_flip_test(flat, alternative=alternative, permutations=permutations, rng=rng)
    p_corrected = found.p_corrected if correction == "max-t" else _fdr(found.p)
    results = {
        "mean": scores.mean(axis=1),
        "statistic": found.statistic.reshape(n_models, n_voxels),
        "p": found.p.reshape(n_models, n_voxels),
        "p_corrected": p_corrected.reshape(n_models, n_voxels),
    }

    def image(values: NDArray[Any]) -> nib.Nifti1Image:
        volume = np.full(tested.shape, np.nan, dtype=np.float32)
        volume[tested] = values
        return nib.Nifti1Image(volume, affine)

    images: dict[str, Any] = {
        key: image(rows[0]) if single else {name: image(row) for name, row in zip(names, rows, strict=True)}
        for key, rows in results.items()
    }
    significant = results["p_corrected"] <= threshold
    best = np.where(significant.any(axis=0), results["mean"].argmax(axis=0) + 1.0, np.nan)
    return GroupResult(
        names=names,
        best=image(best),
        clusters=_clusters(names, results, significant, tested, affine),
        critical=found.critical(threshold) if correction == "max-t" else float("nan"),
        n_participants=n,
        n_voxels=n_voxels,
        n_excluded=n_excluded,
        n_flips=found.n_flips,
        enumerated=found.enumerated,
        **images,
    )


def _by_model(given: Maps) -> tuple[bool, dict[str, list[Any]]]:
    """Images of each model over participants, and whether there was only one, unnamed."""
    if isinstance(given, Mapping):
        if any(isinstance(one, str | Path) or hasattr(one, "dataobj") for one in given.values()):
            raise InputError("group_test: found the maps of one participant, wanted a list of participants' maps")
        by_model = {str(name): list(images) for name, images in given.items()}
        counts = {name: len(images) for name, images in by_model.items()}
        if not by_model:
            raise InputError("group_test: found no model, wanted at least one")
        if len(set(counts.values())) > 1:
            raise InputError(f"group_test: models have maps of different numbers of participants: {counts}")
        return False, by_model
    listed = list(given)
    named = [one for one in listed if isinstance(one, Mapping)]
    if not named:
        return True, {"map": listed}
    if len(named) < len(listed):
        raise InputError("group_test: found images among mappings of model to image, wanted one kind")
    names = list(named[0])
    for k, maps in enumerate(named, 1):
        if set(maps) != set(names):
            raise InputError(
                f"group_test: participant {k} of the list has models {some(maps)}, the first {some(names)}; "
                "use the same models for all"
            )
    return False, {name: [maps[name] for maps in named] for name in names}


def _stack(
    by_model: Mapping[str, Sequence[Any]], mask: Image | None
) -> tuple[Floats, NDArray[np.bool_], int, NDArray[np.floating]]:
    """Scores `(n_models, n_participants, n_voxels)` where all have one, that mask, how many lack one, the affine."""
    n = len(next(iter(by_model.values())))
    if n < 2:
        raise InputError(f"group_test: found maps of {n} participants, wanted 2 or more (5 or more can reach p < .05)")
    reference: Any = None
    volumes = []
    for name, images in by_model.items():
        for k, given in enumerate(images, 1):
            image = load_image(given) if isinstance(given, str | Path) else given
            reference = image if reference is None else reference
            what = f"group_test: map {k}" + ("" if len(by_model) == 1 else f" of {name!r}")
            check_same_grid(image, reference, what=what, wanted="first map")
            values = np.asarray(image.dataobj, dtype=np.float32)
            if values.ndim > 3 and values.size > np.prod(values.shape[:3]):
                raise InputError(f"{what}: shape {values.shape}, wanted one volume; select a sub-brick first")
            volumes.append(values.reshape(values.shape[:3]))
    present = [np.isfinite(volume) & (volume != 0) for volume in volumes]
    if mask is None:
        asked = np.logical_or.reduce(present)
    else:
        chosen = load_image(mask) if isinstance(mask, str | Path) else mask
        check_same_grid(chosen, reference, what="group_test: mask", wanted="maps")
        asked = np.asarray(chosen.dataobj) != 0
    tested = asked & np.logical_and.reduce(present)
    if not tested.any():
        raise InputError("group_test: no voxel has a value in every participant; are the maps in one space?")
    stacked = np.stack([volume[tested] for volume in volumes]).astype(np.float64)
    scores = stacked.reshape(len(by_model), n, -1)
    return scores, tested, int((asked & ~tested).sum()), reference.affine


def _fdr(p: Floats) -> Floats:
    from scipy.stats import false_discovery_control

    corrected = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    corrected[known] = false_discovery_control(p[known])
    return corrected


def _clusters(
    names: Sequence[str],
    results: Mapping[str, Floats],
    significant: NDArray[np.bool_],
    tested: NDArray[np.bool_],
    affine: NDArray[np.floating],
) -> pd.DataFrame:
    """One row a cluster of significant voxels of one sign that touch by faces, the largest first."""
    import pandas as pd
    from scipy import ndimage

    volume = float(abs(np.linalg.det(affine[:3, :3])))
    where = np.argwhere(tested)
    rows: list[dict[str, Any]] = []
    for m, name in enumerate(names):
        sets: list[NDArray[np.intp]] = []
        for sign in (1, -1):
            grid = np.zeros(tested.shape, dtype=bool)
            grid[tested] = significant[m] & (sign * results["statistic"][m] > 0)
            labels = ndimage.label(grid)[0][tested]
            order = np.argsort(labels, kind="stable")
            sets += np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)[1 if (labels == 0).any() else 0 :]
        sets = sorted((s for s in sets if s.size), key=len, reverse=True)
        for number, members in enumerate(sets, 1):
            peak = members[np.abs(results["statistic"][m, members]).argmax()]
            x, y, z = affine[:3, :3] @ where[peak] + affine[:3, 3]
            # RAI is left and posterior positive; adding 0 keeps -0 out of tables
            rows.append(
                {"model": name, "cluster": number, "x": x, "y": y, "z": z}
                | {"x_rai": -x + 0.0, "y_rai": -y + 0.0, "z_rai": z}
                | {"voxels": members.size, "volume": members.size * volume}
                | {key: float(results[key][m, peak]) for key in ("mean", "statistic", "p_corrected")}
            )
    return pd.DataFrame(rows, columns=list(CLUSTER_COLUMNS))
