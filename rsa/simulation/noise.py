"""Simulate noise of images: smooth in space, autocorrelated in time, with unit variance in every voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

if TYPE_CHECKING:
    from nibabel import Nifti1Image

Singles = NDArray[np.float32]

_FWHM_PER_SD = float(np.sqrt(8 * np.log(2)))


def draw_smooth_noise(n: int, *, mask: Nifti1Image, fwhm_mm: float, rng: np.random.Generator) -> Singles:
    """Draw spatially smooth Gaussian noise with unit variance in every voxel, `(n, n_mask_voxels)` in float32.

    Parameters
    ----------
    n : int
        Number of volumes.
    mask : Nifti1Image
    fwhm_mm : float [mm]
        Full width at half maximum of the smoothing Gaussian; voxels d mm apart then correlate about
        exp(-d^2 / (4 sd^2)), sd = fwhm_mm / 2.355.
    rng : numpy.random.Generator
    """
    from scipy.ndimage import gaussian_filter

    inside = np.asarray(mask.dataobj) != 0
    sd = fwhm_mm / _FWHM_PER_SD / np.linalg.norm(np.asarray(mask.affine)[:3, :3], axis=0)
    # Circular smoothing of a box around the brain keeps the variance constant at its edges; the margin prevents
    # correlations between opposite sides of the brain.
    margin = np.ceil(4 * sd).astype(int)
    corners = np.argwhere(inside)
    low, shape = corners.min(axis=0), np.ptp(corners, axis=0) + 1 + margin
    at = np.ravel_multi_index((corners - low).T, tuple(shape))
    white = rng.standard_normal((n, *shape), dtype=np.float32)
    if fwhm_mm == 0:
        return np.asarray(white.reshape(n, -1)[:, at])
    impulse = np.zeros(8 * margin + 1)
    impulse[tuple(4 * margin)] = 1.0
    gain = np.sqrt(np.sum(gaussian_filter(impulse, sd) ** 2))
    smooth = gaussian_filter(white, (0.0, *sd), mode="wrap")
    return np.asarray(smooth.reshape(n, -1)[:, at] / np.float32(gain))


def compute_smooth_weights(where: Floats, fwhm_mm: float) -> Floats:
    """Compute a matrix that gives white weights the correlations of noise smoothed to `fwhm_mm`, at unit variance."""
    if fwhm_mm == 0:
        return np.eye(len(where))
    squared = np.sum((where[:, None] - where[None]) ** 2, axis=-1)
    covariance = np.exp(-squared / (4 * (fwhm_mm / _FWHM_PER_SD) ** 2))
    # The covariance of a wide Gaussian is singular in double precision.
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)))


def filter_ar1(noise: Singles, ar: float) -> Singles:
    """Apply an AR(1) filter along the first axis, in place, with unit variance from the first sample on."""
    fresh = np.float32(np.sqrt(1 - ar**2))
    for now in range(1, len(noise)):
        noise[now] *= fresh
        noise[now] += np.float32(ar) * noise[now - 1]
    return noise
