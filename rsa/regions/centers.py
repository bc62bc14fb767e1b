"""Regions as spheres around coordinates, with their orientation and space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges
from brainmap.errors import InputError
from brainmap.rsa.images.files import image_info, load_image
from brainmap.rsa.images.names import find_afni_base, split_name
from brainmap.rsa.regions.rois import Image, Mask, Rois, cut_rois, find_space_family
from brainmap.types import Orientation, Overlap

TOLERANCE_MM = 1e-3


def sphere_rois(
    centers: Mapping[str, Sequence[float]],
    *,
    radius_mm: float,
    reference: Image,
    space: str,
    orientation: Orientation = "LPI",
    mask: Mask | None = None,
    reference_space: str | None = None,
    overlap: Overlap = "error",
    minimum_voxels: int = 1,
) -> Rois:
    """Build spherical regions around coordinates, on the grid of an image.

    Parameters
    ----------
    centers : mapping of str to (x, y, z) [mm]
        For example `AUDITORY_CENTERS`.
    radius_mm : float [mm]
        A voxel belongs to a sphere if its center lies within the radius (`<=`), measured in millimeters through the
        affine.
    reference : path or Nifti1Image
        Image that gives the grid, and the space that its header names.
    space : str
        The space of the coordinates: "MNI", "TLRC" (Talairach), "TT_N27", or "ORIG" for a native space.
    orientation : {"LPI", "RAI"}
        "LPI": x grows to the right, y to the front, as in papers and nilearn. "RAI": the signs of x and y are
        reversed, as AFNI displays coordinates.
    mask : path or Nifti1Image, optional
        Voxels to which the spheres are restricted.
    reference_space : str, optional
        The space of `reference`, if its header does not name it or names it wrongly. A NIfTI header whose form code is
        0 or 2 ("unknown", "aligned") names no space; coordinates of any space are then accepted.
    overlap : {"error", "nearest"}
        What to do with voxels of two spheres: refuse them, or assign them to the nearer center.
    minimum_voxels : int
        Smallest number of voxels; a smaller sphere is refused.

    Returns
    -------
    Rois

    Raises
    ------
    InputError
        If the spaces of coordinates and image differ, a center lies outside the image, or spheres overlap or are
        empty.

    Examples
    --------
    >>> grid = nib.Nifti1Image(np.zeros((5, 5, 5), np.float32), np.diag([2, 2, 2, 1.0]))
    >>> sphere_rois({"a": (4, 4, 4)}, radius_mm=2, reference=grid, space="ORIG").sizes
    {'a': 7}
    """
    check_choice(orientation, ("LPI", "RAI"), "orientation of coordinates")
    check_choice(overlap, ("error", "nearest"), "overlap")
    check_ranges(
        "spheres", ("a radius above 0 mm", radius_mm, radius_mm > 0), ("at least one center", "none", len(centers) > 0)
    )
    image, found = load_image(reference), reference_space or _read_space(reference)
    in_memory = isinstance(reference, nib.Nifti1Image)
    _check_space(space, found, "the reference image" if in_memory else str(reference))
    shape = image.shape[:3]
    flip = np.array([-1.0, -1.0, 1.0]) if orientation == "RAI" else np.ones(3)
    voxels = np.indices(shape).reshape(3, -1).T
    positions = nib.affines.apply_affine(image.affine, voxels)
    nearest_mm = np.full(len(voxels), np.inf)
    labels = np.zeros(len(voxels), np.int32)
    for k, (name, center) in enumerate(centers.items(), start=1):
        point = flip * _check_center(center, name)
        _check_inside(point, image.affine, shape, name, orientation)
        distance = np.linalg.norm(positions - point, axis=1)
        inside = distance <= radius_mm + TOLERANCE_MM
        shared = inside & (labels > 0)
        if shared.any() and overlap == "error":
            other = list(centers)[labels[shared][0] - 1]
            raise InputError(
                f"spheres: {other!r} and {name!r} share {shared.sum()} voxels at {radius_mm:g} mm; take a "
                'smaller radius, or overlap="nearest"'
            )
        won = inside & (distance < nearest_mm)
        labels[won], nearest_mm[won] = k, distance[won]
    rois = Rois(tuple(centers), labels.reshape(shape), image.affine.copy(), found)
    return cut_rois(rois, image, mask, minimum_voxels)


def _check_center(center: Sequence[float], name: str) -> NDArray[np.float64]:
    point = np.asarray(center, float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(f"spheres: expected three coordinates in mm for the center of {name!r}, got {center!r}")
    return point


def _check_inside(
    point: NDArray[np.float64], affine: NDArray[np.float64], shape: Sequence[int], name: str, orientation: str
) -> None:
    index = nib.affines.apply_affine(np.linalg.inv(affine), point)
    if (index < -0.5).any() or (index > np.array(shape) - 0.5).any():
        where = ", ".join(f"{c:g}" for c in point)
        raise InputError(
            f"spheres: the center of {name!r} (LPI {where} mm, given as {orientation}) lies outside the image; check "
            "its orientation and space"
        )


def _read_space(reference: Image) -> str:
    """Return the space that an image's header names; empty if it names none."""
    said = image_info(reference).space
    if isinstance(reference, nib.Nifti1Image):
        header: Any = reference.header
    elif find_afni_base(name := split_name(reference).name) is not None:
        return said
    else:
        header = nib.load(name).header
    code = int(header["sform_code"]) or int(header["qform_code"])
    described = any(extension.get_code() == 4 for extension in header.extensions)
    return said if described or code not in (0, 2) else ""


def _check_space(wanted: str, found: str, image: str) -> None:
    """Refuse coordinates in another space; an image that names no space cannot be checked."""
    if found and find_space_family(wanted) != find_space_family(found):
        raise InputError(
            f"spheres: the coordinates are in {wanted}, but {image} is in {found}; transform the coordinates, or say "
            "in what space the image is (reference_space=, 3drefit -space, or the sform code)"
        )
