"""Load regions of interest from label images with their tables, and from masks; `centers` builds spheres."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_file, list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.groups import group_pairs
from brainmap.rsa.images.afni import parse_label_table
from brainmap.rsa.images.files import check_same_grid, image_info, load_image
from brainmap.rsa.regions.centers import sphere_rois as sphere_rois
from brainmap.rsa.regions.rois import (
    AUDITORY_CENTERS as AUDITORY_CENTERS,
    Image,
    Mask,
    Rois as Rois,
    cut_rois,
    load_mask as load_mask,
)
from brainmap.tables import read_table, require_columns
from brainmap.types import Hemispheres

_BACKGROUND = re.compile(r"(?i)unknown|background|none|\?+|clear label|")
_SIDE = re.compile(
    r"(?i)^(?:ctx[-_])?(?P<first>left|right|lh|rh|l|r)[-_. ]+(?P<rest>.+)$"
    r"|^(?P<base>.+?)[-_. ]+(?P<last>left|right|lh|rh|l|r)$"
)


def load_rois(
    image: Image | Mapping[str, Image],
    *,
    table: str | Path | pd.DataFrame | None = None,
    mask: Mask | None = None,
    names: Sequence[str] | None = None,
    minimum_voxels: int = 10,
    hemispheres: Hemispheres = "separate",
) -> Rois:
    """Load regions from a label image, or from one mask per region.

    Parameters
    ----------
    image : path, Nifti1Image, or mapping of name to path or Nifti1Image
        A label image `(x, y, z)` of whole numbers, with 0 outside all regions; or a mask for each region.
    table : path or DataFrame, optional
        Columns `index` and `name`, as in a BIDS `dseg.tsv`; or AFNI's `.niml.lt`. By default the label table inside an
        AFNI image is used, else the `.tsv` beside a BIDS `_dseg` image; without either, regions are named by their
        labels.
    mask : path or Nifti1Image, optional
        Voxels to which the regions are restricted.
    names : sequence of str, optional
        Regions to load (names after pooling).
    minimum_voxels : int
        Smallest number of voxels; a smaller region is refused.
    hemispheres : {"separate", "pooled"}
        Keep left and right regions separate, or join regions whose names differ only in the side (`L_A1` and `R_A1`,
        `left-heschl` and `right-heschl`, `A1_lh` and `A1_rh`).

    Returns
    -------
    Rois
        Regions in order of their index. `absent` lists table entries without voxels, with a `BrainmapWarning`.

    Raises
    ------
    InputError
        If labels are not whole numbers or not in the table, the grid differs from the mask's, or regions overlap, have
        too few voxels or lie outside the mask.

    Examples
    --------
    >>> labels = nib.Nifti1Image(np.repeat(np.int16([0, 1, 2]), 12).reshape(3, 3, 4), np.eye(4))
    >>> load_rois(labels, table=pd.DataFrame({"index": [1, 2], "name": ["A1", "belt"]})).sizes
    {'A1': 12, 'belt': 12}
    """
    if isinstance(image, Mapping):
        rois = _build_from_masks(image)
        reference = load_image(next(iter(image.values())))
    else:
        reference = load_image(image)
        rois = _build_from_labels(reference, image, table)
    rois = narrow_rois(rois, names, hemispheres)
    if rois.absent:
        n = len(rois.absent)
        said = "1 region of the table has" if n == 1 else f"{n} regions of the table have"
        warnings.warn(
            f"ROI: {said} no voxel in the image: {list_some(rois.absent)}",
            BrainmapWarning,
            stacklevel=2,
        )
    return cut_rois(rois, reference, mask, minimum_voxels)


def _read_label_values(image: nib.Nifti1Image, what: str) -> NDArray[np.int32]:
    values = np.asarray(image.dataobj)
    if values.ndim != 3:
        raise InputError(
            f"{what}: expected one volume (x, y, z), got shape {values.shape}; select it, as in 'rois+tlrc[0]'"
        )
    whole = np.isfinite(values) & (values == np.round(values)) & (values >= 0)
    if not whole.all():
        bad = values[~whole][0]
        raise InputError(
            f"{what}: expected whole numbers from 0 as labels, got {np.count_nonzero(~whole)} voxels with other "
            f"values (for example {bad:g}); is it a probability map, or a label image resampled with interpolation?"
        )
    return values.astype(np.int32)


def _build_from_labels(image: nib.Nifti1Image, given: Image, table: str | Path | pd.DataFrame | None) -> Rois:
    info = image_info(given)
    what = f"ROI image {info.path}" if info.path else "ROI image"
    values = _read_label_values(image, what)
    found, counts = np.unique(values[values > 0], return_counts=True)
    if not found.size:
        raise InputError(f"{what}: the image holds no label (every value is 0)")
    if table is None and not info.label_table and info.path is not None:
        table = _find_table(info.path)
    known = _read_names(table) if table is not None else dict(info.label_table)
    known = {index: name for index, name in known.items() if index > 0}
    if not known:
        known = {int(label): str(label) for label in found}
    for label, count in zip(found, counts, strict=True):
        if int(label) not in known:
            where = "the table" if table is not None else "the label table of the image"
            raise InputError(
                f"{what}: label {label} ({count} voxels) is not in {where}, which names "
                f"{list_some(sorted(known))}; add it or remove the region"
            )
    names = tuple(known[int(label)] for label in found)
    absent = tuple(n for i, n in known.items() if i not in set(found.tolist()) and not _BACKGROUND.fullmatch(n))
    labels = np.searchsorted(np.concatenate([[0], found]), values).astype(np.int32)
    return Rois(names, labels, image.affine.copy(), info.space, absent)


def _find_table(path: Path) -> Path | None:
    """Find the TSV file of a BIDS segmentation, which has the name of the image."""
    beside = path.with_name(re.sub(r"(\+\w+)?\.(nii(\.gz)?|HEAD)$", ".tsv", path.name))
    return beside if beside != path and path.name.partition(".")[0].endswith("_dseg") and beside.is_file() else None


def _read_niml_table(path: Path) -> dict[int, str]:
    """Read the names in AFNI's `.niml.lt` file."""
    try:
        names = parse_label_table(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"ROI table: {path} cannot be read ({error})") from None
    if not names:
        raise InputError(f'ROI table: expected rows "1name" as AFNI writes them, got no label in {path}')
    return names


def _read_names(table: str | Path | pd.DataFrame) -> dict[int, str]:
    if isinstance(table, str | Path) and str(table).endswith(".lt"):
        return _read_niml_table(check_file(table, "ROI table"))
    read = read_table(table, "ROI table")
    require_columns(read, ("index", "name"), "ROI table")
    known: dict[int, str] = {}
    for text, name in zip(read["index"], read["name"], strict=True):
        number = re.sub(r"\.0+$", "", text.strip())
        if not number.isdigit():
            raise InputError(f"ROI table: expected a whole number from 0 as the index of {name!r}, got {text!r}")
        if int(number) in known:
            raise InputError(f"ROI table: the index {number} is given to both {known[int(number)]!r} and {name!r}")
        known[int(number)] = name.strip()
    refuse_some(
        [name for name, n in Counter(n for i, n in known.items() if i > 0).items() if n > 1],
        "ROI table: the name ",
        ' is given to more than one index; names must differ (hemispheres="pooled" joins left and right)',
    )
    return known


def _build_from_masks(masks: Mapping[str, Image]) -> Rois:
    if not masks:
        raise InputError("ROI: expected at least one mask, got none")
    first = load_mask(next(iter(masks.values())))
    labels = np.zeros(first.shape, np.int32)
    for k, (name, given) in enumerate(masks.items(), start=1):
        mask = load_mask(given)
        check_same_grid(mask, first, what=f"ROI mask {name!r}", wanted="the first ROI mask")
        inside = np.asarray(mask.dataobj) > 0
        shared = inside & (labels > 0)
        if shared.any():
            other = tuple(masks)[labels[shared][0] - 1]
            raise InputError(
                f"ROI: masks {other!r} and {name!r} share {shared.sum()} voxels, and a voxel belongs to one region; "
                "load them one by one, or cut one of them"
            )
        labels[inside] = k
    return Rois(tuple(masks), labels, first.affine.copy(), image_info(next(iter(masks.values()))).space)


def strip_side(name: str) -> str:
    """Return the name without its side.

    Examples
    --------
    >>> [strip_side(n) for n in ("L_A1_ROI", "left-heschl", "ctx-lh-bankssts", "A1_rh", "lateral")]
    ['A1_ROI', 'heschl', 'bankssts', 'A1', 'lateral']
    """
    match = _SIDE.match(name)
    return name if match is None else match["rest"] or match["base"]


def find_side(name: str) -> str:
    """Return the side that a name gives: l, r, or an empty string.

    Examples
    --------
    >>> find_side("L_A1_ROI"), find_side("belt")
    ('l', '')
    """
    match = _SIDE.match(name)
    return "" if match is None else (match["first"] or match["last"])[0].lower()


def pool_hemispheres(rois: Rois) -> Rois:
    """Join regions whose names differ only in the side; a region without a counterpart keeps its name.

    Raises
    ------
    InputError
        If two regions of one side would be joined.

    Examples
    --------
    >>> pool_hemispheres(Rois(("left-a", "right-a"), np.array([[[1, 2, 0]]], np.int32), np.eye(4))).sizes
    {'a': 2}
    """
    groups = group_pairs((strip_side(name), name) for name in rois.names)
    for base, members in groups.items():
        if len(members) > 1 and sorted(map(find_side, members)) != ["l", "r"]:
            raise InputError(
                f"ROI: expected one left and one right region to pool, got {list_some(members)}, which would all "
                f"become {base!r}; rename them in the table"
            )
    names = tuple(base if len(members) == 2 else members[0] for base, members in groups.items())
    new = np.zeros(len(rois.names) + 1, np.int32)
    for k, members in enumerate(groups.values(), start=1):
        new[[rois.names.index(member) + 1 for member in members]] = k
    return Rois(names, new[rois.labels], rois.affine, rois.space, rois.absent)


def narrow_rois(rois: Rois, names: Iterable[str] | None, hemispheres: Hemispheres) -> Rois:
    """Join the hemispheres of regions if they are pooled, then keep the named ones.

    Raises
    ------
    InputError
        If `hemispheres` is misspelt, regions cannot be pooled, or there is no region of a name.
    """
    check_choice(hemispheres, get_args(Hemispheres), "hemispheres")
    joined = pool_hemispheres(rois) if hemispheres == "pooled" else rois
    return joined if names is None else choose_rois(joined, names)


def choose_rois(rois: Rois, names: Iterable[str]) -> Rois:
    """Select regions by name, in the given order.

    Raises
    ------
    InputError
        If there is no region of that name, or the region has no voxel.
    """
    chosen = tuple(names)
    new = np.zeros(len(rois.names) + 1, np.int32)
    for k, name in enumerate(chosen, start=1):
        if name in rois.absent:
            raise InputError(f"ROI: {name!r} is in the table but has no voxel in the image")
        check_choice(name, rois.names, "ROI")
        new[rois.names.index(name) + 1] = k
    return Rois(chosen, new[rois.labels], rois.affine, rois.space)
