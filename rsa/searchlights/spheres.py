"""Find the voxels of spheres with a radius in millimeters around the voxels of a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.regions.centers import TOLERANCE_MM


def compute_sphere_offsets(
    affine: NDArray[np.floating], radius_mm: float, *, shape: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Compute the voxel offsets `(n_offsets, 3)` from a center to every voxel at `<=` radius, for any affine.

    The offsets are computed once for a grid, so that spheres do not differ by rounding.

    Parameters
    ----------
    affine : ndarray (4, 4) [mm]
        The affine of the grid; voxels may be anisotropic, and the grid oblique.
    radius_mm : float [mm]
    shape : sequence of int, optional
        Numbers of voxels of the grid; offsets that lead out of it from every voxel are left out.

    Raises
    ------
    InputError
        The radius is too small to reach a neighbor.

    Examples
    --------
    >>> fine, coarse = np.diag([2.0, 2, 4, 1]), np.diag([3.0, 3, 3, 1])
    >>> len(compute_sphere_offsets(coarse, 6.0)), len(compute_sphere_offsets(fine, 4.0))
    (33, 15)
    """
    steps = np.asarray(affine, dtype=np.float64)[:3, :3]
    size = float(np.linalg.norm(steps, axis=0).min())
    if not size <= radius_mm + TOLERANCE_MM < np.inf:
        raise InputError(
            f"searchlight: the radius of {radius_mm:g} mm is smaller than a voxel ({size:g} mm), so that a sphere "
            "would hold its center only; take a larger radius_mm"
        )
    reach = radius_mm + TOLERANCE_MM
    # Along voxel axis k the extent of a sphere is the radius times the norm of row k of the inverse.
    most = np.floor(reach * np.linalg.norm(np.linalg.inv(steps), axis=1)).astype(np.int64)
    if shape is not None:  # a sphere larger than the brain would hold millions of offsets
        most = np.minimum(most, np.asarray(shape[:3]) - 1)
    box = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(box[np.linalg.norm(box @ steps.T, axis=1) <= reach])


@dataclass(frozen=True, eq=False)
class Spheres:
    """Hold the neighbors of every usable voxel of a mask, restricted to the usable voxels.

    Attributes
    ----------
    n_voxels : int
        Number of usable voxels; they are numbered in C order, and each is the center of a sphere.
    n_most : int
        Number of voxels of a complete sphere.
    """

    n_voxels: int
    n_most: int
    _number: NDArray[np.int32]  # padded grid, flat: the number of a usable voxel, else -1
    _center: NDArray[np.int64]  # the position of each usable voxel in the padded grid
    _step: NDArray[np.int64]  # flat offsets to the neighbors

    def patches(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the neighbors `(stop - start, n_most)` of the voxels start .. stop - 1, padded with -1."""
        return np.take(self._number, self._center[start:stop, None] + self._step)

    def sizes(self, step: int = 4096) -> NDArray[np.int32]:
        """Count the usable voxels in each sphere."""
        counts = np.empty(self.n_voxels, dtype=np.int32)
        for start in range(0, self.n_voxels, step):
            counts[start : start + step] = (self.patches(start, start + step) >= 0).sum(axis=1)
        return counts


def build_spheres(usable: NDArray[np.bool_], affine: NDArray[np.floating], radius_mm: float) -> Spheres:
    """Build spheres around the True voxels of `usable` (x, y, z) that contain only True voxels.

    Examples
    --------
    >>> spheres = build_spheres(np.ones((3, 3, 3), dtype=bool), np.diag([2.0, 2, 2, 1]), 2.0)
    >>> spheres.sizes()[[0, 13]].tolist(), sorted(spheres.patches(13, 14)[0].tolist())
    ([4, 7], [4, 10, 12, 13, 14, 16, 22])
    """
    offsets = compute_sphere_offsets(affine, radius_mm, shape=usable.shape)
    # With a border as wide as the radius, every neighbor is found by an addition, without checks at the edges.
    border = np.abs(offsets).max(axis=0)
    grid = tuple(int(n) for n in np.array(usable.shape) + 2 * border)
    where = np.ravel_multi_index(tuple((np.argwhere(usable) + border).T), grid)
    number = np.full(int(np.prod(grid)), -1, dtype=np.int32)
    number[where] = np.arange(len(where), dtype=np.int32)
    strides = np.array([grid[1] * grid[2], grid[2], 1])
    return Spheres(len(where), len(offsets), number, where.astype(np.int64), offsets @ strides)
