"""Load brain patterns (conditions x runs x voxels) from images, and count every voxel that is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.resources import require_memory
from brainmap.rsa.glm.afni import read_regressors
from brainmap.rsa.images.files import check_same_grid, image_info, list_images, load_image
from brainmap.rsa.patterns.labels import Conditions, Source
from brainmap.rsa.patterns.table import Pattern, PatternSettings, Runs, Stimuli, plan_patterns
from brainmap.rsa.regions.labels import load_rois
from brainmap.rsa.regions.rois import Image, Mask, Rois, build_grid, load_mask
from brainmap.types import Dataset, FloatType, Missing

Booleans = NDArray[np.bool_]
_Found = TypeVar("_Found")


def load_patterns(
    files: Image | Sequence[Image],
    *,
    mask: Mask,
    conditions: Conditions = "sub-brick",
    rois: Rois | Image | Mapping[str, Image] | None = None,
    runs: Runs | None = None,
    stimuli: Stimuli | None = None,
    participant: str | None = None,
    missing: Missing = "error",
    dtype: FloatType = "float64",
) -> Dataset:
    """Read patterns (betas, contrasts, block averages) of one participant inside a mask.

    Parameters
    ----------
    files : path, Nifti1Image, or list of these
        One image per run, or one image with all patterns, as NIfTI or AFNI names that `load_image` accepts.
    mask : path, Nifti1Image or list of these
        Voxels to read, on the grid of the images; with several masks, the voxels that all of them include.
    conditions : "sub-brick", path, DataFrame, list of str, or a list of these with one entry a file
        "sub-brick" uses the labels of the volumes; in an AFNI statistics bucket only `name#n_Coef`, as `name`. A TSV
        or DataFrame has columns `stimulus_id` and/or `condition`, and optionally `volume` (from 0; other volumes are
        left out) and `run`. A list has one label per volume.
    rois : Rois, path, Nifti1Image or mapping of name to mask, optional
        Regions that label the voxels.
    runs : sequence or array, optional
        The run of each file, or of each volume if there is one file. By default files are runs 1, 2, ...
    stimuli : mapping or DataFrame or path of `stimuli.tsv`, optional
        The condition of each stimulus_id; labels are then stimulus ids, or all of them conditions.
    participant : str, optional
    missing : {"error", "nan"}
        What to do if a condition (or a stimulus, where runs share stimuli) is absent from a run, or if its volume is
        all NaN or all 0: refuse, or keep it as a row of NaN.
    dtype : {"float64", "float32"}
        Precision of the patterns. Images are read in single precision, so "float32" loses nothing and takes half of
        the memory; searchlights compute in double precision from either.

    Returns
    -------
    rsatoolbox.data.Dataset
        measurements : (n_patterns, n_voxels_kept).
        obs_descriptors : `stimulus_id`, `condition`, `run`, all str.
        channel_descriptors : `voxel` (index among the mask's voxels in C order), `roi` ('' where none).
        descriptors : `participant`, `mask_voxels`, `volumes_left_out`, and the counts that `voxel_report` shows.
        Voxels that are NaN or infinite in any pattern, or constant over the patterns of any run, are left out.

    Raises
    ------
    InputError
        If grids differ; the mask is empty or contains NaN; an ROI has no voxels in the mask; labels, volumes, runs and
        files do not fit each other; a stimulus is unknown, occurs twice in a run or is missing; or there are fewer
        than 3 stimuli.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> run = [nib.Nifti1Image(rng.normal(size=(2, 2, 2, 3)).astype("f4"), np.eye(4)) for _ in range(2)]
    >>> mask = nib.Nifti1Image(np.ones((2, 2, 2), "f4"), np.eye(4))
    >>> data = load_patterns(run, mask=mask, conditions=["cat", "dog", "tree"])
    >>> data.measurements.shape, data.obs_descriptors["run"].tolist()
    ((6, 8), ['1', '1', '1', '2', '2', '2'])
    """
    settings = PatternSettings(conditions=conditions, runs=runs, stimuli=stimuli, missing=missing)
    check_choice(dtype, get_args(FloatType), "load_patterns dtype")
    images = list_images(files)
    inside_image = load_mask(mask)
    sources = [describe_source(image, inside_image) for image in images]
    plan = plan_patterns(sources, settings)
    inside = np.asarray(inside_image.dataobj) > 0
    labels = _cut_roi_labels(rois, inside_image)
    measured = _read_volumes(images, plan, inside, dtype)
    return build_patterns(measured, plan, sources, inside=inside, rois=labels, missing=missing, participant=participant)


def build_patterns(
    measured: NDArray[Any],
    plan: Sequence[Pattern],
    sources: Sequence[Source],
    *,
    inside: Booleans,
    rois: Rois | None,
    missing: Missing,
    participant: str | None,
) -> Dataset:
    """Build the data set of patterns `(n_patterns, n_inside)` that were read where `inside` is True.

    The patterns are changed in place, so that no second copy of them is held.
    """
    absent = _find_absent(measured, plan, sources, missing)
    run = np.array([row.run for row in plan])
    nan, constant = _find_unusable(measured, ~absent, run)
    keep = ~(nan | constant)
    counts = tabulate_counts(rois, inside, nan, constant)
    refuse_empty(counts)
    names = np.array(["", *(rois.names if rois else ())])
    of_voxel = names[rois.labels[inside]] if rois else np.zeros(inside.sum(), "U1")
    descriptors = {
        "participant": participant or "",
        "mask_voxels": int(inside.sum()),
        "volumes_left_out": sum(s.n_volumes for s in sources) - sum(row.source >= 0 for row in plan),
        "voxel_counts": json.dumps(counts),  # a str, because rsatoolbox hashes descriptors when it merges data sets
    }
    from rsatoolbox.data.dataset import Dataset

    return Dataset(
        _keep_voxels(measured, keep),
        descriptors=descriptors,
        obs_descriptors={
            "stimulus_id": np.array([row.stimulus_id for row in plan]),
            "condition": np.array([row.condition for row in plan]),
            "run": run,
        },
        channel_descriptors={"voxel": np.flatnonzero(keep), "roi": of_voxel[keep]},
    )


def check_patterns(
    files: Image | Sequence[Image],
    *,
    mask: Mask,
    conditions: Conditions = "sub-brick",
    rois: Rois | Image | Mapping[str, Image] | None = None,
    runs: Runs | None = None,
    stimuli: Stimuli | None = None,
    participant: str | None = None,
    missing: Missing = "error",
) -> list[str]:
    """Check the arguments of `load_patterns` from headers, tables, mask and ROI images alone.

    Parameters
    ----------
    files, mask, conditions, rois, runs, stimuli, participant, missing
        Arguments of `load_patterns`.

    Returns
    -------
    list of str
        One line per problem; empty if there is none.
    """
    problems: list[str] = []
    who = f"participant {participant}: " if participant else ""

    def attempt(step: Callable[[], _Found]) -> _Found | None:
        try:
            return step()
        except InputError as error:
            problems.append(f"{who}{error}")
            return None

    settings = attempt(lambda: PatternSettings(conditions=conditions, runs=runs, stimuli=stimuli, missing=missing))
    inside_image = attempt(lambda: load_mask(mask))
    images = attempt(lambda: list_images(files)) or []
    sources = [source for image in images if (source := attempt(partial(describe_source, image, inside_image)))]
    # If a file is missing, the run count is wrong for that reason alone.
    if sources and len(sources) == len(images) and settings is not None:
        attempt(lambda: plan_patterns(sources, settings))
    if inside_image is not None:
        attempt(lambda: _cut_roi_labels(rois, inside_image))
    return problems


def voxel_report(dataset: Dataset) -> pd.DataFrame:
    """Count the voxels of each region, and the voxels left out by reason.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset
        Patterns as `load_patterns` returns them.

    Returns
    -------
    DataFrame
        A row "mask" and one row per ROI: `roi`, `voxels`, `outside_mask`, `dropped_nan` (NaN or infinite in any
        pattern), `dropped_constant` (constant over the patterns of any run), `kept`; after `screen_voxels` also
        `dropped_unreliable`.

    Raises
    ------
    InputError
        If the data set was not made by `load_patterns`.
    """
    if "voxel_counts" not in dataset.descriptors:
        raise InputError("voxel report: the data set carries no voxel counts; make it with load_patterns")
    return pd.DataFrame(json.loads(str(dataset.descriptors["voxel_counts"])))


def describe_source(image: Image, mask: nib.Nifti1Image | None = None) -> Source:
    """Describe the volumes of an image from its header; the image must be on the grid of the mask."""
    info = image_info(image)
    name = str(info.path or "image in memory") if isinstance(image, nib.Nifti1Image) else str(image)
    if mask is not None:
        check_same_grid(build_grid(info.shape, info.affine), mask, what=name, wanted="mask")
    n = info.shape[3] if len(info.shape) > 3 else 1
    unnamed = all(label == f"#{k}" for k, label in enumerate(info.labels))
    statistics = tuple(volume for volume, stat in enumerate(info.stats) if stat is not None)
    regressors = read_regressors(info.history, None if info.path is None else info.path.parent)
    return Source(name, n, () if unnamed else info.labels, statistics, regressors)


def _cut_roi_labels(rois: Rois | Image | Mapping[str, Image] | None, mask: nib.Nifti1Image) -> Rois | None:
    """Return the regions on the mask's grid, each with at least one voxel in it."""
    if rois is None:
        return None
    read = rois if isinstance(rois, Rois) else load_rois(rois)
    check_same_grid(build_grid(read.labels.shape, read.affine), mask, what="ROI image", wanted="mask")
    inside = np.bincount(read.labels[np.asarray(mask.dataobj) > 0], minlength=len(read) + 1)[1:]
    for (name, size), n in zip(read.sizes.items(), inside, strict=True):
        if n == 0:
            raise InputError(f"ROI {name!r}: all of its {size} voxels lie outside the mask")
    return read


def _read_volumes(images: Sequence[Image], plan: Sequence[Pattern], inside: Booleans, dtype: FloatType) -> NDArray[Any]:
    """Read patterns (n_patterns, n_mask_voxels), NaN where there is no volume, one image at a time."""
    n_voxels = int(np.count_nonzero(inside))
    require_memory(
        float(len(plan)) * n_voxels * np.dtype(dtype).itemsize,
        what=f"patterns: {len(plan):,} volumes of {n_voxels:,} voxels",
        do="take a smaller mask, fewer runs at a time, or dtype='float32'",
    )
    measured = np.full((len(plan), n_voxels), np.nan, dtype=dtype)
    for k, image in enumerate(images):
        rows = [i for i, row in enumerate(plan) if row.source == k]
        values = np.asarray(load_image(image).dataobj)
        values = values.reshape(*inside.shape, -1)
        order: Literal["F", "C"] = "F" if values.flags.f_contiguous else "C"  # that of the memory, which is faster
        where = np.ravel_multi_index(np.nonzero(inside), inside.shape, order=order)
        for i in rows:
            measured[i] = values[..., plan[i].volume].ravel(order=order)[where]
        del values  # before the next image is read
    return measured


def _find_absent(
    measured: NDArray[Any], plan: Sequence[Pattern], sources: Sequence[Source], missing: Missing
) -> Booleans:
    """Find rows without a pattern: gaps of the plan, and volumes that are NaN or 0 everywhere (set to NaN)."""
    absent = np.array([bool(np.isnan(row).all() or (row == 0).all()) for row in measured], dtype=bool)
    for i in np.flatnonzero(absent).tolist():
        row = plan[i]
        if missing == "error":
            raise InputError(
                f"patterns: {row.stimulus_id!r} in run {row.run} (volume {row.volume} of "
                f"{sources[row.source].name}) is {'0' if measured[i, 0] == 0 else 'NaN'} in the whole mask: "
                'no pattern was estimated; missing="nan" keeps the gap as NaN'
            )
    measured[absent] = np.nan
    return absent


def _find_unusable(measured: NDArray[Any], present: Booleans, run: NDArray[np.str_]) -> tuple[Booleans, Booleans]:
    """Find voxels that are not finite in some pattern, and voxels that are constant over the patterns of some run."""
    rows = np.flatnonzero(present)
    nan = np.zeros(measured.shape[1], bool)
    for i in rows:
        nan |= ~np.isfinite(measured[i])
    constant = np.zeros(measured.shape[1], bool)
    groups = [rows[run[rows] == r] for r in np.unique(run[rows])]
    if all(len(group) < 2 for group in groups):
        groups = [rows]
    for first, *others in filter(len, groups):
        same = np.full(measured.shape[1], bool(others))
        for i in others:
            same &= measured[i] == measured[first]
        constant |= same
    return nan, constant & ~nan


def _keep_voxels(measured: NDArray[Any], keep: Booleans) -> NDArray[Any]:
    """Return the columns to keep, `(n_patterns, n_kept)`, in the memory of all columns, which is given up."""
    if keep.all():
        return measured
    n = int(keep.sum())
    flat = measured.reshape(-1)  # a view; row i moves to its new place, which no later row has reached
    for i in range(len(measured)):
        flat[i * n : (i + 1) * n] = measured[i, keep]
    return flat[: len(measured) * n].reshape(len(measured), n)


def tabulate_counts(
    rois: Rois | None, inside: Booleans, nan: Booleans, constant: Booleans
) -> list[dict[str, str | int]]:
    """Count the voxels of the mask and of each region, and those that are left out by reason."""

    def row(name: str, voxels: int, chosen: Booleans) -> dict[str, str | int]:
        n, n_nan, n_constant = int(chosen.sum()), int(nan[chosen].sum()), int(constant[chosen].sum())
        return {
            "roi": name,
            "voxels": voxels,
            "outside_mask": voxels - n,
            "dropped_nan": n_nan,
            "dropped_constant": n_constant,
            "kept": n - n_nan - n_constant,
        }

    everything = np.ones(nan.size, bool)
    counts = [row("mask", nan.size, everything)]
    if rois is not None:
        of_voxel = rois.labels[inside]
        counts += [row(name, size, of_voxel == k) for k, (name, size) in enumerate(rois.sizes.items(), start=1)]
    return counts


def refuse_empty(counts: Sequence[Mapping[str, str | int]]) -> None:
    """Refuse a mask or region of which no voxel is left."""
    for row in counts:
        if row["kept"] == 0:
            raise InputError(
                f"patterns: no voxel in {row['roi']!r} can be used: of {row['voxels']}, {row['outside_mask']} lie "
                f"outside the mask, {row['dropped_nan']} are NaN, {row['dropped_constant']} are constant in a run; "
                "check the images and the mask"
            )
