"""Resample images to the grid of another image."""

from __future__ import annotations

import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np

from brainmap.checks import check_choice, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.images import nifti as _nifti
from brainmap.rsa.images.files import ImageLike, ensure_image, image_info
from brainmap.types import Interpolation


def resample(image: ImageLike, reference: ImageLike, *, interpolation: Interpolation) -> nib.Nifti1Image:
    """Resample an image to the grid of another; voxels outside the image become 0.

    Parameters
    ----------
    image : Nifti1Image or path
        A volume, or several (x, y, z, n).
    reference : Nifti1Image or path
        An image on the wanted grid.
    interpolation : "continuous" or "label"
        "continuous": cubic splines, for maps. "label": the nearest voxel, for masks and ROI labels, whose values are
        kept.

    Returns
    -------
    Nifti1Image
        On the grid of the reference.

    Raises
    ------
    InputError
        If something is neither a path nor an image, if a continuous image contains NaN (splines would spread it), or if
        values of a label image are not integers.

    Warns
    -----
    BrainmapWarning
        If the new grid has no voxel with some label.
    """
    check_choice(interpolation, ("continuous", "label"), "interpolation")
    from scipy.ndimage import affine_transform

    image, reference = ensure_image(image, "resample: image"), ensure_image(reference, "resample: reference")
    info = image_info(image)
    values = np.asanyarray(image.dataobj).reshape((*info.shape, 1)[:4])
    if interpolation == "continuous" and not np.isfinite(values).all():
        raise InputError(
            f"resample: {np.count_nonzero(~np.isfinite(values))} values are NaN or infinite; mask them first"
        )
    if interpolation == "label" and not np.array_equal(values, np.rint(values)):
        raise InputError(
            "resample: expected integers for the interpolation 'label', got other values; use 'continuous' for maps"
        )
    grid = tuple(reference.shape[:3])
    to_voxel = np.linalg.inv(image.affine) @ reference.affine
    # Integers from oblique matrices come out as 0.9999999; without rounding, a label could fall off the edge.
    to_voxel = np.round(to_voxel, 9)
    moved = np.empty((*grid, values.shape[3]), np.float32, order="F")
    for brick in range(values.shape[3]):
        moved[..., brick] = affine_transform(
            values[..., brick].astype(np.float64),
            to_voxel[:3, :3],
            to_voxel[:3, 3],
            grid,
            order=0 if interpolation == "label" else 3,
        )
    if interpolation == "label" and (lost := np.setdiff1d(values, moved)).size:
        names = [f"{int(v)} {info.label_table.get(int(v), '')}".strip() for v in lost]
        warnings.warn(
            f"resample: labels {list_some(names)} have no voxel on the new grid", BrainmapWarning, stacklevel=2
        )
    shape = grid if len(info.shape) == 3 else moved.shape
    other = image_info(reference)
    kept = replace(info, shape=shape, affine=np.array(reference.affine, float), space=other.space, view=other.view)
    return _nifti.build_image(moved.reshape(shape, order="F"), kept)
