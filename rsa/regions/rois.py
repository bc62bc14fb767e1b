"""Define regions of interest as named voxels of one grid, masks that restrict them, and spheres around coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.rsa.images.files import check_same_grid, load_image
from brainmap.rsa.images.nifti import get_code_of_space

Image = str | Path | nib.Nifti1Image
Mask = Image | Sequence[Image]


@dataclass(frozen=True)
class Rois:
    """Hold regions that do not overlap, on one grid.

    Attributes
    ----------
    names : tuple of str
        One name per region.
    labels : ndarray of int, (x, y, z)
        0 outside all regions, k in the region `names[k - 1]`.
    affine : ndarray, (4, 4) [mm]
        Matrix from voxel indices to RAS+ coordinates.
    space : str
        `ORIG`, `MNI`, `TLRC`, ..., as named by the image.
    absent : tuple of str
        Names in the table that have no voxel in the image.

    Examples
    --------
    >>> rois = Rois(("left", "right"), np.array([[[1, 1, 0, 2]]]), np.eye(4))
    >>> rois.sizes, rois["left"].sum().item()
    ({'left': 2, 'right': 1}, 2)
    """

    names: tuple[str, ...]
    labels: NDArray[np.int32]
    affine: NDArray[np.float64]
    space: str = ""
    absent: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of voxels of each region."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names) + 1)
        return {name: int(counts[k]) for k, name in enumerate(self.names, start=1)}

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """Return the mask of one region, `(x, y, z)`."""
        check_choice(name, self.names, "ROI")
        mask: NDArray[np.bool_] = self.labels == self.names.index(name) + 1
        return mask

    def image(self) -> nib.Nifti1Image:
        """Return the labels as an int16 image (int32 above 32,767 regions)."""
        kind = np.int16 if len(self.names) < 2**15 else np.int32
        image = nib.Nifti1Image(self.labels.astype(kind), self.affine)
        image.set_sform(self.affine, get_code_of_space(self.space) if self.space else 0)
        return image

    def table(self) -> pd.DataFrame:
        """Return the table of `image()` as in a BIDS `dseg.tsv`: index and name."""
        return pd.DataFrame({"index": range(1, len(self.names) + 1), "name": list(self.names)})


def load_mask(mask: Mask) -> nib.Nifti1Image:
    """Load a mask as an image of 0 and 1; with several masks (one per run), keep the voxels that all include.

    Parameters
    ----------
    mask : path, Nifti1Image or sequence of these
        One mask, or one for each run.

    Returns
    -------
    Nifti1Image
        uint8, 0 and 1, on the grid of the first mask.

    Raises
    ------
    InputError
        If a mask has more than one volume, contains NaN, looks like a probability map or is empty, or if several masks
        share no voxel or have different grids.
    """
    if isinstance(mask, str | Path | nib.Nifti1Image):
        return _load_one(mask)
    if not mask:
        raise InputError("mask: expected at least one mask, got none")
    first, *others = [_load_one(one) for one in mask]
    inside = np.asarray(first.dataobj).copy()
    for given, other in zip(mask[1:], others, strict=True):
        what = f"mask {given}" if isinstance(given, str | Path) else "mask"
        check_same_grid(other, first, what=what, wanted="first mask")
        inside *= np.asarray(other.dataobj)
    if not inside.any():
        raise InputError(f"mask: no voxel lies in all of the {len(mask)} masks; are they of one participant?")
    return nib.Nifti1Image(inside, first.affine, first.header)


def _load_one(mask: Image) -> nib.Nifti1Image:
    image = load_image(mask)
    values = np.asarray(image.dataobj)
    name = "mask" if isinstance(mask, nib.Nifti1Image) else f"mask {mask}"
    if values.ndim != 3:
        raise InputError(f"{name}: expected one volume (x, y, z), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(
            f"{name}: expected 0 and 1, got {np.count_nonzero(~np.isfinite(values))} voxels that are NaN or infinite"
        )
    if (values != np.round(values)).any():
        raise InputError(f"{name}: expected whole numbers, got fractions, as in a probability map; threshold it first")
    if not values.any():
        raise InputError(f"{name}: the mask holds no voxel (every value is 0)")
    return nib.Nifti1Image((values != 0).astype(np.float32), image.affine, image.header)


def find_space_family(space: str) -> str:
    """Return the family of a space: MNI for all MNI templates, ORIG for native spaces, else the space itself."""
    upper = space.upper()
    if upper.startswith("MNI"):
        return "MNI"
    return "ORIG" if upper in ("ORIG", "NATIVE", "ACPC", "SCANNER", "T1W", "INDIVIDUAL") else upper


def build_grid(shape: Sequence[int], affine: NDArray[np.floating]) -> nib.Nifti1Image:
    """Build an image that has a grid but no data in memory, to compare grids."""
    return nib.Nifti1Image(np.broadcast_to(np.int8(0), tuple(shape[:3])), affine)


def cut_rois(rois: Rois, image: nib.Nifti1Image, mask: Mask | None, minimum_voxels: int) -> Rois:
    """Restrict the regions to the mask, then refuse regions that are too small."""
    before = rois.sizes
    if mask is not None:
        inside = load_mask(mask)
        check_same_grid(image, inside, what="ROI image", wanted="mask")
        rois = Rois(
            rois.names,
            np.where(np.asarray(inside.dataobj) > 0, rois.labels, 0).astype(np.int32),
            rois.affine,
            rois.space,
            rois.absent,
        )
    for name, size in rois.sizes.items():
        if size == 0 and before[name]:
            raise InputError(f"ROI {name!r}: all of its {before[name]} voxels lie outside the mask")
        if size < max(1, minimum_voxels):
            raise InputError(
                f"ROI {name!r}: expected at least {minimum_voxels} voxels, got "
                f"{size}{' inside the mask' if mask is not None else ''}; leave the region out, or lower "
                "minimum_voxels"
            )
    return rois


"""Voxels beyond the radius by no more than this count as inside, because affines are stored in single precision."""

AUDITORY_CENTERS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "left-heschl": (-45.0, -21.0, 7.0),
        "right-heschl": (46.0, -18.0, 6.0),
        "left-pstg": (-59.0, -29.0, 4.0),
        "right-pstg": (61.0, -23.0, 3.0),
        "left-astg": (-57.0, -5.0, -7.0),
        "right-astg": (59.0, -1.0, -9.0),
    }
)
"""Centers of Heschl's gyrus, posterior and anterior STG in the Harvard-Oxford maps: LPI [mm], MNI."""
