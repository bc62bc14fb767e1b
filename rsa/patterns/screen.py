"""Select voxels whose signal repeats over runs, or that respond to sound."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_enough
from brainmap.errors import InputError
from brainmap.rsa.images.files import check_same_grid, image_info, load_image
from brainmap.rsa.patterns.normalize import average_patterns
from brainmap.rsa.regions.rois import Image, Mask, load_mask
from brainmap.types import Dataset, Floats


def voxel_reliability(dataset: Dataset) -> Floats:
    """Correlate each voxel's responses to the conditions between odd and even runs, `(n_voxels,)`.

    Runs are numbered in the order in which they come. Responses are averaged over the runs of each half, and
    conditions that are missing (NaN) from a half are left out. The result is NaN if a voxel does not vary in a half.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset
        Patterns as `load_patterns` returns them.

    Returns
    -------
    ndarray (n_voxels,)

    Raises
    ------
    InputError
        If there are fewer than two runs, or fewer than three conditions that both halves have.

    Notes
    -----
    The correlation refers to half of the data. The Spearman-Brown formula r_full = 2 r / (1 + r) extends it to all
    data.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(8, 1)) * [1.0, 0.0]
    >>> from rsatoolbox.data import Dataset
    >>> data = Dataset(np.tile(signal, (4, 1)) + 0.3 * rng.normal(size=(32, 2)), obs_descriptors={
    ...     "condition": list("abcdefgh") * 4, "run": np.repeat(["1", "2", "3", "4"], 8)})
    >>> [bool(r > 0.8) for r in voxel_reliability(data)]
    [True, False]
    """
    averaged = average_patterns(dataset)
    run, names = (np.asarray(averaged.obs_descriptors[key]) for key in ("run", "condition"))
    order = list(dict.fromkeys(run.tolist()))
    check_enough(len(order), 2, "voxel reliability", "runs")
    odd = np.isin(run, order[::2])
    there = ~np.isnan(averaged.measurements).all(axis=1)
    both = [c for c in dict.fromkeys(names.tolist()) if c in names[there & odd] and c in names[there & ~odd]]
    check_enough(len(both), 3, "voxel reliability", "conditions in both halves of the runs")
    halves = [
        np.stack([averaged.measurements[there & half & (names == c)].mean(axis=0) for c in both])
        for half in (odd, ~odd)
    ]
    a, b = (x - x.mean(axis=0) for x in halves)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Floats = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return r


def responsive_voxels(statistic: Image, *, p: float = 0.001) -> nib.Nifti1Image:
    """Return the mask of voxels where a statistic (sound > silence) is significantly above 0, as an image of 0 and 1.

    Parameters
    ----------
    statistic : path or Nifti1Image
        One volume whose header names its distribution: an AFNI sub-brick `stats+tlrc[sound#0_Tstat]`, or a NIfTI image
        with an intent. F and chi square have no sign, so both directions count.
    p : float
        Largest p value of a voxel that is kept, one-sided and uncorrected.

    Returns
    -------
    Nifti1Image

    Raises
    ------
    InputError
        If there are several volumes, the image names no distribution, or no voxel passes.

    Examples
    --------
    >>> import tempfile
    >>> from brainmap.rsa import save_image
    >>> z = nib.Nifti1Image(np.array([[[0.0, 4.0, -4.0]]], "f4"), np.diag([2.0, 2, 2, 1]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_image(z, f"{folder}/z.nii", stats=["Zscore()"], space="ORIG")
    ...     responsive_voxels(path, p=0.01).get_fdata().ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    from scipy import stats

    info, values = image_info(statistic), np.asarray(load_image(statistic).dataobj, float)
    what = str(statistic) if isinstance(statistic, str | Path) else "statistic image"
    if values.ndim != 3:
        raise InputError(
            f"{what}: expected one volume, got {values.shape[3]}; select it, as in 'stats+tlrc[sound#0_Tstat]'"
        )
    if info.stats[0] is None:
        raise InputError(
            f"{what}: expected a t, z or F image of AFNI, or a NIfTI image with its intent code, got "
            f"{info.labels[0]!r}, which does not say what distribution it follows"
        )
    kind, parameters = info.stats[0].kind, info.stats[0].parameters
    tails = {"Ttest": stats.t.sf, "Ftest": stats.f.sf, "Zscore": stats.norm.sf, "Chisq": stats.chi2.sf}
    if kind not in tails:
        raise InputError(f"{what}: expected one of {', '.join(tails)}, got {kind}")
    passed = np.nan_to_num(tails[kind](values, *parameters), nan=1.0) <= p
    passed &= values > 0
    if not passed.any():
        raise InputError(f"{what}: no voxel has p <= {p:g}; does it test sound > silence? take a larger p")
    image = load_image(statistic)
    return nib.Nifti1Image(passed.astype(np.float32), image.affine, image.header)


def screen_voxels(
    dataset: Dataset,
    *,
    minimum_reliability: float | None = None,
    sound: Image | None = None,
    p: float = 0.001,
    mask: Mask | None = None,
) -> Dataset:
    """Remove voxels that are unreliable or do not respond to sound; `voxel_report` counts them.

    This selection favors no model, but it raises noise ceilings: report it where the results are used.

    Parameters
    ----------
    dataset : Dataset
        Patterns as `load_patterns` returns them.
    minimum_reliability : float, optional
        Smallest correlation between odd and even runs that is kept (`>=`); NaN is never kept.
    sound : path or Nifti1Image, optional
        The statistic of sound > silence, as for `responsive_voxels`, with its `p`.
    p : float
        One-sided threshold for `sound`.
    mask : path, Nifti1Image or list of these
        The mask with which the patterns were read; `sound` requires it.

    Returns
    -------
    rsatoolbox.data.Dataset
        The patterns of the voxels that are kept.

    Raises
    ------
    InputError
        If a region would be left without voxels, the statistic is on another grid than the mask, or no criterion is
        given.
    """
    if minimum_reliability is None and sound is None:
        raise InputError("voxel screen: expected minimum_reliability, sound, or both, got neither")
    lost: dict[str, NDArray[np.bool_]] = {}
    if sound is not None:
        lost["dropped_unresponsive"] = ~_find_responsive(dataset, sound, p, mask)
    if minimum_reliability is not None:
        lost["dropped_unreliable"] = ~(np.nan_to_num(voxel_reliability(dataset), nan=-np.inf) >= minimum_reliability)
    counts = json.loads(str(dataset.descriptors.get("voxel_counts", "[]")))
    of_voxel = np.asarray(dataset.channel_descriptors.get("roi", np.zeros(dataset.n_channel, "U1"))).astype(str)
    keep = np.ones(dataset.n_channel, bool)
    for reason, gone in lost.items():
        for row in counts:
            n = int((gone & keep)[(of_voxel == row["roi"]) | (row["roi"] == "mask")].sum())
            row[reason] = row.get(reason, 0) + n
            row["kept"] -= n
        keep &= ~gone
    _refuse_emptied(keep, of_voxel, minimum_reliability, p)
    from rsatoolbox.data.dataset import Dataset

    return Dataset(
        dataset.measurements[:, keep],
        descriptors={**dataset.descriptors, "voxel_counts": json.dumps(counts)},
        obs_descriptors=dict(dataset.obs_descriptors),
        channel_descriptors={k: np.asarray(v)[keep] for k, v in dataset.channel_descriptors.items()},
    )


def _find_responsive(dataset: Dataset, sound: Image, p: float, mask: Mask | None) -> NDArray[np.bool_]:
    """Return which channels respond to sound."""
    if mask is None or "voxel" not in dataset.channel_descriptors:
        raise InputError("voxel screen: sound= needs the mask= with which the patterns were read (load_patterns)")
    passed, inside = responsive_voxels(sound, p=p), load_mask(mask)
    check_same_grid(passed, inside, what="sound > silence image", wanted="mask")
    in_mask = np.asarray(passed.dataobj)[np.asarray(inside.dataobj) > 0] > 0
    if in_mask.size != int(dataset.descriptors.get("mask_voxels", in_mask.size)):
        raise InputError(
            f"voxel screen: expected a mask of {dataset.descriptors['mask_voxels']} voxels, as the patterns were read "
            f"with, got {in_mask.size}; give the same mask"
        )
    return np.asarray(in_mask[np.asarray(dataset.channel_descriptors["voxel"], int)])


def _refuse_emptied(
    keep: NDArray[np.bool_], of_voxel: NDArray[np.str_], minimum_reliability: float | None, p: float
) -> None:
    for roi in dict.fromkeys(["", *of_voxel.tolist()]):
        chosen = (of_voxel == roi) if roi else np.ones(len(keep), bool)
        if not keep[chosen].any():
            wanted = "p for sound" if minimum_reliability is None else f"reliability of {minimum_reliability:g}"
            raise InputError(
                f"voxel screen: none of the {chosen.sum()} voxels of {roi or 'the mask'!r} reaches a {wanted}; "
                f"lower minimum_reliability or raise p (now {p:g})"
            )
