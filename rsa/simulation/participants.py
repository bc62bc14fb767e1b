"""Simulate participants with a known ground truth: the layer whose geometry each region has.

If raw activations were planted and analyzed with another dissimilarity, an analysis could recover the wrong layer,
because the two geometries differ. Here the geometry is matched: the expected squared Euclidean distances between the
planted patterns are twice the correlation distances of the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nibabel import Nifti1Image
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import check_enough, check_ranges
from brainmap.errors import InputError
from brainmap.rsa.images.files import ImageLike, ensure_image
from brainmap.types import Floats

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


Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SimulatedParticipant:
    """Hold the betas of one participant and their ground truth.

    Attributes
    ----------
    betas : ndarray (n_runs, n_items, n_voxels) of float32 [noise standard deviations]
        The betas, with items in the order of the features and voxels of the mask in C order.
    orders : ndarray (n_runs, n_items)
        `orders[run, trial]` is the item that was presented; each run has its own random order.
    planted : dict of str to ndarray (n_items, n_region_voxels)
        The noise-free patterns of each region with a signal.
    voxels : dict of str to ndarray (n_region_voxels,)
        The indices of each region's voxels among the voxels of the mask, including control regions.
    """

    betas: Singles
    orders: Indices
    planted: dict[str, Singles]
    voxels: dict[str, Indices]

    def signal(self) -> Singles:
        """Return the noise-free pattern of every voxel, `(n_items, n_voxels)`; 0 outside the planted regions."""
        signal = np.zeros(self.betas.shape[1:], dtype=np.float32)
        for region, patterns in self.planted.items():
            signal[:, self.voxels[region]] = patterns
        return signal


def matched_geometry(features: ArrayLike) -> Floats:
    """Compute points whose squared Euclidean distances are exactly 2 (1 - r), with r between z-scored items.

    Units are z-scored over items (constant units are left out), each item's mean over units is subtracted,
    and each item is scaled to unit length.

    Parameters
    ----------
    features : array_like (n_items, n_units)

    Returns
    -------
    ndarray (n_items, n_varying_units)

    Raises
    ------
    InputError
        Features are not 2-D or not finite, there are fewer than 3 items or fewer than 2 units that vary, or an item has
        no variance.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(4, 6))
    >>> points = matched_geometry(features)
    >>> squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    >>> z = (features - features.mean(0)) / features.std(0)
    >>> np.allclose(squared, 2 * (1 - np.corrcoef(z)))
    True
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < 3:
        raise InputError(f"features to plant: expected 3 items or more by units, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise InputError("features to plant: expected finite values, got NaN or infinity")
    x = x[:, np.ptp(x, axis=0) > 0]
    check_enough(x.shape[1], 2, "features to plant", "units that vary over items")
    points = (x - x.mean(axis=0)) / x.std(axis=0)
    points -= points.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    if np.any(lengths < 1e-12):
        raise InputError("features to plant: an item is the same in every unit, so that its correlations are undefined")
    return np.asarray(points / lengths)


def plant_patterns(
    features: ArrayLike,
    *,
    n_voxels: int,
    rng: np.random.Generator,
    specific: float = 0.3,
    participant_rng: np.random.Generator | None = None,
) -> Floats:
    """Simulate patterns over voxels with a layer's geometry and a part that is specific to the participant.

    The squared Euclidean distance of two items, divided by the number of voxels, is in expectation
    `(1 - specific) 2 (1 - r_ij) + specific 2 (1 - r_kl)`, where k and l are the items i and j after a random
    relabeling. The participant's own geometry has the spread of the layer's geometry but is unrelated to it.

    Parameters
    ----------
    features : array_like (n_items, n_units)
        One layer's features.
    n_voxels : int
    rng : numpy.random.Generator
        Draws the weights from units to voxels.
    specific : float in [0, 1)
        Share of the participant's own geometry.
    participant_rng : numpy.random.Generator, optional
        Draws the participant's own geometry; the default is `rng`. Generators with the same seed give two regions of
        one participant the same geometry.

    Returns
    -------
    ndarray (n_items, n_voxels)

    Raises
    ------
    InputError
        The share is outside [0, 1), there is no voxel, or features have no geometry (see `matched_geometry`).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(5, 8))
    >>> patterns = plant_patterns(features, n_voxels=200_000, rng=rng, specific=0.0)
    >>> planted = ((patterns[0] - patterns[1]) ** 2).mean()
    >>> z = (features - features.mean(0)) / features.std(0)
    >>> bool(abs(planted - 2 * (1 - np.corrcoef(z)[0, 1])) < 0.02)
    True
    """
    if not 0 <= specific < 1:
        raise InputError(f"plant_patterns: expected specific, a share, from 0 to below 1, got {specific}")
    check_enough(n_voxels, 1, "plant_patterns", "voxel")
    shared = matched_geometry(features)
    own = shared[(participant_rng or rng).permutation(len(shared))]
    points = np.hstack([np.sqrt(1 - specific) * shared, np.sqrt(specific) * own])
    return np.asarray(points @ rng.standard_normal((points.shape[1], n_voxels)))


def simulate_participant(
    planted: Mapping[str, ArrayLike | None],
    regions: Mapping[str, ArrayLike],
    *,
    mask: ImageLike,
    rng: np.random.Generator,
    n_runs: int = 4,
    signal: float | Mapping[str, float] = 0.09,
    fwhm_mm: float = 4.0,
    ar: float = 0.3,
    specific: float = 0.3,
) -> SimulatedParticipant:
    """Simulate the betas of one participant, with planted geometries in regions and smooth autocorrelated noise.

    Weights from units to voxels are as smooth within a region as the noise. Every run has its own random order of
    items, and noise is autocorrelated in that order.

    Parameters
    ----------
    planted : mapping of str to array_like (n_items, n_units), or None for a control
        The features whose geometry each region carries.
    regions : mapping of str to array_like of bool, shaped as the mask
        The mask of each region of `planted`; voxels outside the brain mask are not used.
    mask : Nifti1Image or path
        Voxels of the brain (not 0), with the affine that gives their size.
    rng : numpy.random.Generator
        One generator per participant.
    n_runs : int
    signal : float, or mapping of region to float [noise variances]
        Standard deviation, over pairs of items, of the planted squared distances per voxel. It refers to distances
        rather than amplitudes, because layers differ in spread and the geometry of each should be recoverable. For
        white noise (`ar` and `fwhm_mm` 0), the descriptor `signal` of `brainmap.rsa.simulate_rdms(..., variation=0)`
        is the value that gives a chosen noise ceiling.
    fwhm_mm : float [mm]
        Full width at half maximum of the Gaussian that smoothed noise and weights; 0 for none.
    ar : float
        Correlation of the noise of successive trials in a run.
    specific : float
        Share of the participant's own geometry.

    Returns
    -------
    SimulatedParticipant

    Raises
    ------
    InputError
        Names differ between `planted` and `regions`, regions overlap or lie outside the mask, layers have different
        numbers of items, or settings are out of range.
    """
    mask = ensure_image(mask, "simulate_participant: mask")
    inside = np.asarray(mask.dataobj) != 0
    voxels = _find_region_voxels(regions, planted, inside)
    check_ranges(
        "simulate_participant",
        ("1 run or more", n_runs, n_runs >= 1),
        ("fwhm_mm of 0 or more", fwhm_mm, fwhm_mm >= 0),
        ("ar between -1 and 1", ar, -1 < ar < 1),
    )
    features = {region: np.asarray(layer) for region, layer in planted.items() if layer is not None}
    counts = {len(layer) for layer in features.values()}
    if len(counts) != 1:
        raise InputError(
            "simulate_participant: expected at least one planted region and the same number of items in all, got "
            f"{sorted(counts)} items"
        )
    n_items = counts.pop()
    where = np.argwhere(inside) @ np.asarray(mask.affine)[:3, :3].T
    patterns: dict[str, Singles] = {}
    for region, layer in features.items():
        strength = signal[region] if isinstance(signal, Mapping) else signal
        weighted = plant_patterns(layer, n_voxels=len(voxels[region]), rng=rng, specific=specific)
        weighted *= np.sqrt(strength / _measure_spread(layer))
        patterns[region] = (weighted @ compute_smooth_weights(where[voxels[region]], fwhm_mm).T).astype(np.float32)

    orders = np.stack([rng.permutation(n_items) for _ in range(n_runs)])
    betas = np.empty((n_runs, n_items, len(where)), dtype=np.float32)
    for run, order in enumerate(orders):
        noise = draw_smooth_noise(n_items, mask=mask, fwhm_mm=fwhm_mm, rng=rng)
        betas[run, order] = filter_ar1(noise, ar)
        for region, own in patterns.items():
            betas[run][:, voxels[region]] += own
    return SimulatedParticipant(betas=betas, orders=orders, planted=patterns, voxels=voxels)


def _find_region_voxels(
    regions: Mapping[str, ArrayLike], planted: Mapping[str, object], inside: Mask
) -> dict[str, Indices]:
    """Check the regions, and return the positions of their voxels among those of the mask."""
    if set(regions) != set(planted):
        raise InputError(
            f"simulate_participant: expected the same names in regions and planted, got {sorted(regions)} and "
            f"{sorted(planted)}; name every region in both (None plants nothing)"
        )
    voxels: dict[str, Indices] = {}
    taken = np.zeros(int(inside.sum()), dtype=int)
    for region, where in regions.items():
        region_mask = np.asarray(where)
        if region_mask.shape != inside.shape:
            raise InputError(f"region {region!r}: expected the mask's grid {inside.shape}, got {region_mask.shape}")
        voxels[region] = np.flatnonzero(region_mask[inside])
        if voxels[region].size == 0:
            raise InputError(f"region {region!r}: expected at least one voxel inside the mask, got none")
        taken[voxels[region]] += 1
    if np.any(taken > 1):
        raise InputError(
            f"regions: expected regions that share no voxel, got {np.count_nonzero(taken > 1)} shared voxels; give "
            "these to the nearer center"
        )
    return voxels


def _measure_spread(features: ArrayLike) -> float:
    """Compute the standard deviation over pairs of the squared distances that `plant_patterns` plants."""
    points = matched_geometry(features)
    squared = 2 * (1 - points @ points.T)[np.triu_indices(len(points), 1)]
    if squared.std() < 1e-9:
        raise InputError("features to plant: all items are equally far apart, so that no geometry can be recovered")
    return float(squared.std())
