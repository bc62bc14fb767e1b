"""Load, save and resample brain images in NIfTI and AFNI formats, and check that they share a grid.

A loaded image is an in-memory float32 `nibabel.Nifti1Image` for every file format. Labels, statistics and space are
kept in its header as AFNI's extension, so they survive when the image is saved again.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from brainmap.checks import check_file, check_one_each, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.images import afni, nifti as _nifti
from brainmap.rsa.images.names import find_afni_base, find_pair, parse_value_range, pick_sub_bricks, split_name
from brainmap.rsa.images.volumes import (
    ImageInfo,
    Stat,
    Stored,
    check_float32,
    check_free,
    read_sub_bricks,
    write_in_place,
)

_NIFTI = (".nii", ".nii.gz", ".nii.bz2")
ImageLike = str | Path | nib.Nifti1Image


def load_image(path: ImageLike) -> nib.Nifti1Image:
    """Load a NIfTI or AFNI image into memory as float32; an image already in memory is converted to the same form.

    Parameters
    ----------
    path : str, Path or Nifti1Image
        A `.nii` or `.nii.gz` file, or an AFNI dataset in any spelling (`x+tlrc`, `x+tlrc.`, `x+tlrc.HEAD`, or
        `x+tlrc.BRIK` even if the file is a `.BRIK.gz`). As on AFNI's command line, a sub-brick selector may follow
        (`[3]`, `[label]`, `[0..4]`, `[0,2,5]`, `[1..$]`), and a range of values (`<lo..hi>`: all other voxels become
        0).

    Returns
    -------
    nibabel.Nifti1Image
        The image in float32 and native byte order: `(x, y, z)` for one sub-brick, else `(x, y, z, n)`. Scale factors
        are applied and NaN is kept. `image_info` and `sub_brick_labels` accept it like a path.

    Raises
    ------
    InputError
        If the file does not exist (the nearest name is suggested), is damaged or truncated, the selector selects
        nothing, values do not fit into float32, or the affine is not a valid coordinate system.
    """
    if not isinstance(path, str | Path):
        return _convert_to_loaded(path)
    stored, indices, keep = _find_stored(path)
    values = read_sub_bricks(stored, indices)
    _check_ranges(stored, indices, values)
    if keep is not None:
        for brick in range(values.shape[3]):
            volume = values[..., brick]
            volume[~((volume >= keep[0]) & (volume <= keep[1]))] = 0
    info = _select_info(stored.info, indices)
    return _nifti.build_image(values if len(indices) > 1 else values[..., 0], info)


def ensure_image(image: ImageLike, what: str = "image") -> nib.Nifti1Image:
    """Return an image as it is, or load the file of a path.

    Raises
    ------
    InputError
        As in `load_image`, or if it is neither a path nor an image.
    """
    if isinstance(image, str | Path):
        return load_image(image)
    _refuse_other_types(image, what)
    return image


def _refuse_other_types(image: object, what: str) -> None:
    if not isinstance(image, SpatialImage):
        raise InputError(f"{what}: expected a path or an image (Nifti1Image), got {type(image).__name__}")


def _convert_to_loaded(image: nib.Nifti1Image) -> nib.Nifti1Image:
    _refuse_other_types(image, "image")
    values = np.asanyarray(image.dataobj)
    if hasattr(image, "described") and values.dtype == np.float32:
        return image
    info = image_info(image)
    _check_affine(info.affine, "image")
    if values.dtype.kind not in "biuf":
        raise InputError(f"image: expected real numbers, got {values.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        small = values.astype(np.float32, copy=False)
    if values.dtype != np.float32:
        check_float32(values, small, True, "image")
    return _nifti.build_image(small.reshape(info.shape), info)


def image_info(image: ImageLike) -> ImageInfo:
    """Read what the header of an image says (labels, statistics, TR, space and more) without reading values.

    Parameters
    ----------
    image : path or Nifti1Image
        A NIfTI or AFNI file, also with a selector, or an image.

    Returns
    -------
    ImageInfo
    """
    if isinstance(image, str | Path):
        stored, indices, _ = _find_stored(image)
        return _select_info(stored.info, indices)
    _refuse_other_types(image, "image")
    return _nifti.describe_image(image)


def sub_brick_labels(image: ImageLike) -> list[str]:
    """Return the label of each sub-brick; these are `#0`, `#1`, ... if the image has no labels.

    Parameters
    ----------
    image : path or Nifti1Image
        A NIfTI or AFNI file, or an image.

    Returns
    -------
    list of str
    """
    return list(image_info(image).labels)


def list_images(images: ImageLike | Sequence[ImageLike], what: str = "patterns") -> list[ImageLike]:
    """List one or several images, each of which is a run; none, or a file that is named twice, is refused."""
    listed = [images] if isinstance(images, str | Path | nib.Nifti1Image) else list(images)
    if not listed:
        raise InputError(f"{what}: expected at least one file, got none")
    paths = [str(image) for image in listed if not isinstance(image, nib.Nifti1Image)]
    refuse_some(
        [path for path, count in Counter(paths).items() if count > 1],
        f"{what}: the file ",
        " is given more than once; two runs cannot be one file",
    )
    return listed


def _find_stored(path: str | Path) -> tuple[Stored, list[int], tuple[float, float] | None]:
    """Find the stored image, the sub-bricks and the value range that a name with selectors means."""
    try:
        return _open_stored(path)
    except OSError as error:
        raise InputError(f"image: {path} cannot be read ({error.strerror or error})") from error


def _open_stored(path: str | Path) -> tuple[Stored, list[int], tuple[float, float] | None]:
    parts = split_name(path)
    base = find_afni_base(parts.name)
    if base is not None:
        stored = afni.open_afni(*find_pair(base))
    else:
        file = check_file(parts.name, "image")
        if not file.name.lower().endswith(_NIFTI):
            raise InputError(
                f"image: expected a file that ends in {', '.join(_NIFTI)} or AFNI's .HEAD/.BRIK, got {file}"
            )
        stored = _nifti.open_nifti(file)
    _check_affine(stored.info.affine, str(parts.name))
    indices = list(range(len(stored.info.labels)))
    if parts.bricks is not None:
        indices = pick_sub_bricks(parts.bricks, stored.info.labels, parts.name)
    keep = None
    if parts.values is not None:
        keep = parse_value_range(parts.values, stored.info.label_table, parts.name)
    return stored, indices, keep


def _select_info(info: ImageInfo, indices: list[int]) -> ImageInfo:
    if indices == list(range(len(info.labels))):
        return info
    in_time = len(indices) > 1 and indices == list(range(indices[0], indices[0] + len(indices)))
    return replace(
        info,
        shape=(*info.shape[:3], len(indices)) if len(indices) > 1 else info.shape[:3],
        labels=tuple(info.labels[i] for i in indices),
        stats=tuple(info.stats[i] for i in indices),
        t_r=info.t_r if in_time else None,
    )


def _check_ranges(stored: Stored, indices: list[int], values: NDArray[np.float32]) -> None:
    """Warn if values leave the range in their header, which reveals a damaged scale factor or byte order."""
    if stored.ranges is None:
        return
    for position, brick in enumerate(indices):
        low, high = stored.ranges[brick]
        found = float(values[..., position].min()), float(values[..., position].max())
        off = max(abs(found[0] - low), abs(found[1] - high))
        if low <= high and (low, high) != (0, 0) and not off <= 1e-3 * max(abs(low), abs(high)):
            warnings.warn(
                f"{stored.file}, sub-brick {brick}: the values lie in {found[0]:.6g} to {found[1]:.6g}, the header "
                f"says {low:.6g} to {high:.6g}; check how the file was made",
                BrainmapWarning,
                stacklevel=3,
            )


def _check_affine(affine: NDArray[np.floating[Any]], what: str) -> None:
    with np.errstate(all="ignore"):
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        volume = abs(np.linalg.det(affine[:3, :3] / sides))
    if not np.isfinite(affine).all() or not 1e-4 <= sides.min() <= sides.max() <= 1e5 or not volume > 1e-3:
        rows = "; ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3])
        raise InputError(
            f"{what}: the affine [{rows}] is no coordinate system (it is zero, NaN or flat); repair the header"
        )


def save_image(
    image: ImageLike,
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    stats: Sequence[Stat | str | None] | None = None,
    space: str | None = None,
    history: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an image as NIfTI (`.nii`, `.nii.gz`) or for AFNI (`x+tlrc`, `x+orig.HEAD`, `x+tlrc.BRIK.gz`).

    The file appears completely or not at all. uint8, int16 and float32 values are kept; other types become float32.
    What is not given is taken from the image's own header.

    Parameters
    ----------
    image : Nifti1Image, `(x, y, z)` or `(x, y, z, n)`, or the path of one
    path : str or Path
    labels : sequence of str, optional
        One label per sub-brick.
    stats : sequence of Stat, str or None, optional
        One statistic per sub-brick, for example `"Ttest(23)"`; AFNI then thresholds by p.
    space : str, optional
        `"ORIG"`, `"MNI"`, `"TLRC"`, `"TT_N27"`, ...; a name with `+tlrc` requires a space that is not native.
    history : str, optional
        The command that produced the image.
    overwrite : bool
        Replace existing files of this name.

    Returns
    -------
    Path
        The `.nii` or `.nii.gz` file, or the `.HEAD`.

    Raises
    ------
    InputError
        If the file exists, its name implies no format or contradicts the space, or the number of labels or statistics
        does not match the number of sub-bricks.
    """
    target, image = Path(path), ensure_image(image, "save_image")
    info = _update_info(image, labels=labels, stats=stats, space=space, history=history)
    _check_affine(info.affine, "image to save")
    values = _convert_to_storable(np.asanyarray(image.dataobj).reshape(info.shape))
    base = find_afni_base(str(path))
    if base is not None:
        return afni.save_afni(values, info, base, str(path), overwrite)
    if not target.name.endswith((".nii", ".nii.gz")):
        raise InputError(
            f"save_image: expected a name that ends in .nii or .nii.gz, or x+orig, x+tlrc for AFNI, got {target}"
        )
    check_free([target], overwrite)
    with write_in_place(target) as stream:
        _nifti.build_image_for_file(values, info).to_stream(cast(Any, stream))
    return target


def _update_info(
    image: nib.Nifti1Image,
    *,
    labels: Sequence[str] | None,
    stats: Sequence[Stat | str | None] | None,
    space: str | None,
    history: str | None,
) -> ImageInfo:
    info = image_info(image)
    n = len(info.labels)
    if labels is not None:
        check_one_each(labels, n, "save_image: labels", "sub-bricks")
        refuse_some(
            [label for label in labels if not label or "~" in label or not label.isprintable()],
            "save_image: expected labels of printable text without '~', which AFNI can keep, got ",
        )
        info = replace(info, labels=tuple(labels))
    if stats is not None:
        check_one_each(stats, n, "save_image: statistics (or None)", "sub-bricks")
        wrong = [s for s in stats if not isinstance(s, str | Stat | None)]
        if wrong:
            raise InputError(f"save_image: expected a statistic like 'Ttest(24)', or None, got {wrong[0]!r}")
        info = replace(info, stats=tuple(Stat.parse(s) if isinstance(s, str) else s for s in stats))
    if space is not None:
        info = replace(info, space=space, view=_nifti.get_view_of_code(_nifti.get_code_of_space(space)))
    return info if history is None else replace(info, history=history)


def _convert_to_storable(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "c":
        raise InputError("save_image: expected real numbers, got complex values; take the magnitude or one part")
    if values.dtype.str[1:] in ("u1", "i2", "f4"):
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        small = values.astype(np.uint8 if values.dtype.kind == "b" else np.float32)
    if values.dtype.kind in "iu" and (small.astype(np.float64) != values).any():
        raise InputError("save_image: integers beyond 16777216 have no exact float32; renumber the labels")
    return small


GRID_TOLERANCE = 0.01  # [voxels]
_NUMERICAL = 1e-3  # [mm]; rounding makes the headers of one grid differ by less than this
_in_force: ContextVar[float | None] = ContextVar("grid tolerance", default=None)  # of this thread


@contextmanager
def grid_tolerance(voxels: float | None) -> Iterator[None]:
    """Set how far grids may lie apart and still count as equal within this block; the previous value is restored after.

    Parameters
    ----------
    voxels : float or None [voxels]
        Tolerance as a share of the smallest voxel side. The default outside any block is 0.01. None changes nothing.

    Yields
    ------
    None

    Raises
    ------
    InputError
        If the number is below 0, or at least 0.5, where voxels no longer correspond.

    Examples
    --------
    >>> with grid_tolerance(0.05):
    ...     pass
    """
    if voxels is None:
        yield
        return
    if not 0 <= voxels < 0.5:
        raise InputError(
            f"grid tolerance: expected 0 to less than 0.5 of a voxel, got {voxels:g}; resample the image instead"
        )
    before = _in_force.get()
    _in_force.set(voxels)
    try:
        yield
    finally:
        _in_force.set(before)


def get_grid_tolerance() -> float | None:
    """The tolerance of the innermost `grid_tolerance` block around the call [voxels]; None outside of any."""
    return _in_force.get()


def check_same_grid(
    image: ImageLike,
    reference: ImageLike,
    *,
    what: str = "image",
    wanted: str = "reference",
    tolerance: float | None = None,
) -> None:
    """Check that both images have the same voxels in the same places.

    Parameters
    ----------
    image, reference : Nifti1Image or path
    what, wanted : str
        The names of the two images in messages.
    tolerance : float, optional [voxels]
        How far the corners of the two grids may be apart, as a share of the smallest voxel side. By default the value
        set by `grid_tolerance`, else 0.01.

    Raises
    ------
    InputError
        If shapes differ, or corners lie further apart than the tolerance.

    Warns
    -----
    BrainmapWarning
        If the grids differ by more than rounding and less than the tolerance; they then count as equal.
    """
    image, reference = ensure_image(image, what), ensure_image(reference, wanted)
    one, other = tuple(image.shape[:3]), tuple(reference.shape[:3])
    off = _nifti.measure_corner_distance(image.affine, reference.affine, other)
    side = float(np.linalg.norm(reference.affine[:3, :3], axis=0).min())
    most = _in_force.get() if tolerance is None else tolerance
    most = GRID_TOLERANCE if most is None else most
    if one == other and off <= _NUMERICAL:
        return
    if one == other and off < most * side:
        warnings.warn(  # identical words for all images of a program run, so that the warning appears once
            f"grids that lie less than {most:g} of a voxel apart count as equal (here {off:.1g} mm from the "
            f"{wanted}'s)",
            BrainmapWarning,
            stacklevel=2,
        )
        return
    mirrored = np.linalg.det(image.affine[:3, :3]) * np.linalg.det(reference.affine[:3, :3]) < 0
    flip = " (one is stored mirrored, left/right)" if mirrored else ""
    apart = f"corners up to {off:.4g} mm apart" if off > _NUMERICAL else "their affines are the same"
    raise InputError(
        f"{what}: grid {one} differs from the {wanted}'s grid {other}, {apart}{flip}"
        f"; resample it first (brainmap.rsa.resample)"
    )
