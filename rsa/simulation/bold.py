"""Simulate the BOLD time series and events of a participant, as input of a GLM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from nibabel import Nifti1Image
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.images.files import ImageLike, ensure_image
from brainmap.rsa.simulation.participants import SimulatedParticipant, draw_smooth_noise, filter_ar1
from brainmap.types import Floats

Singles = NDArray[np.float32]

# Noise of 1 % of the baseline, with integers that are small enough to compress well.
_BASELINE, _NOISE_SD = 1000.0, 10.0
_EARLY, _OVERSAMPLING = 24.0, 50  # of the grid on which nilearn convolves: seconds before the first scan, steps a scan


@dataclass(frozen=True, eq=False)
class SimulatedBold:
    """Hold the BOLD time series of one participant, with one image and one events table per run.

    Attributes
    ----------
    images : tuple of Nifti1Image, int16 (x, y, z, n_scans)
        Baseline 1000 in the mask, 0 outside.
    events : tuple of DataFrame
        `onset` [s], `duration` [s], `trial_type` (the stimulus id), in the order of presentation.
    t_r : float [s]
        Repetition time; scan k was taken at k * t_r.
    """

    images: tuple[Nifti1Image, ...]
    events: tuple[pd.DataFrame, ...]
    t_r: float


def simulate_bold(
    participant: SimulatedParticipant,
    items: Sequence[str],
    *,
    mask: ImageLike,
    rng: np.random.Generator,
    t_r: float = 2.0,
    spacing: float = 5.0,
    duration: float = 1.0,
    response: float = 1.0,
    fwhm_mm: float = 4.0,
    ar: float = 0.3,
) -> SimulatedBold:
    """Simulate BOLD time series whose GLM betas are similar to those of the participant.

    Every item is presented once per run, in the order of the run, and evokes the canonical (SPM) hemodynamic response.
    Amplitudes are scaled by the standard error of least squares with one regressor per trial under this design and
    noise, so that fitted betas have about the signal-to-noise ratio of `participant.betas`.

    Parameters
    ----------
    participant : SimulatedParticipant
        The source of the planted patterns and of the orders.
    items : sequence of str, n_items
        Stimulus ids, written as `trial_type`.
    mask : Nifti1Image or path
        The mask the participant was simulated in.
    rng : numpy.random.Generator
    t_r, spacing, duration : float [s]
        Repetition time, mean time from onset to onset (jittered by up to half a second), length of a sound.
    response : float [standard errors of a trial's beta]
        The common response to all sounds in the planted regions.
    fwhm_mm : float [mm]
    ar : float
        Correlation of the noise of successive scans.

    Returns
    -------
    SimulatedBold

    Raises
    ------
    InputError
        The number of items or voxels differs from that of the participant.
    """
    _, n_items, n_voxels = participant.betas.shape
    mask = ensure_image(mask, "simulate_bold: mask")
    inside = np.asarray(mask.dataobj) != 0
    if len(items) != n_items or inside.sum() != n_voxels:
        raise InputError(
            f"simulate_bold: expected {n_items} items and a mask of {n_voxels} voxels, as the participant has, got "
            f"{len(items)} and {inside.sum()}"
        )
    n_scans = int(np.ceil((n_items * spacing + 24.0) / t_r))
    scans = np.asarray(t_r * np.arange(n_scans), dtype=np.float64)
    amplitudes = participant.signal()
    for region in participant.planted:
        amplitudes[:, participant.voxels[region]] += response
    images, events = [], []
    for order in participant.orders:
        onsets = np.round(6.0 + spacing * np.arange(n_items) + rng.uniform(-0.5, 0.5, n_items), 1)
        design = _build_trial_regressors(onsets, duration, scans)
        noise = filter_ar1(draw_smooth_noise(n_scans, mask=mask, fwhm_mm=fwhm_mm, rng=rng), ar)
        noise += (_compute_standard_error(design, ar) * design).astype(np.float32) @ amplitudes[order]
        noise += _draw_drift(scans, n_voxels, rng)
        values = np.rint(_BASELINE + _NOISE_SD * noise).astype(np.int16)
        images.append(Nifti1Image(fill_volumes(values, inside), mask.affine))
        images[-1].header.set_zooms((*mask.header.get_zooms()[:3], t_r))
        images[-1].header.set_xyzt_units("mm", "sec")
        names = [str(items[item]) for item in order]
        events.append(pd.DataFrame({"onset": onsets, "duration": duration, "trial_type": names}))
    return SimulatedBold(images=tuple(images), events=tuple(events), t_r=t_r)


def fill_volumes(rows: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[Any]:
    """Put the values of the voxels of a mask in C order, `(n, n_mask_voxels)`, into volumes `(x, y, z, n)`, 0 outside.

    Volumes lie one after another in memory, as in the files that they are written to.

    Examples
    --------
    >>> fill_volumes(np.array([[1, 2]]), np.array([[[True], [False]], [[False], [True]]]))[..., 0].tolist()
    [[[1], [0]], [[0], [2]]]
    """
    x, y, z = np.nonzero(inside)
    place = np.ravel_multi_index((z, y, x), inside.shape[::-1])
    volumes = np.zeros((len(rows), inside.size), dtype=rows.dtype)
    volumes[:, place] = rows
    return volumes.reshape(len(rows), *inside.shape[::-1]).transpose(3, 2, 1, 0)


def _build_trial_regressors(onsets: Floats, duration: float, scans: Floats) -> Floats:
    """Build one regressor per trial, `(n_scans, n_trials)`, as nilearn does, whose import takes a second.

    A box as long as the sound is convolved with the HRF of SPM on a grid of 50 steps per scan, which begins 24 s early.
    """
    n, first, last = len(scans), scans[0] - _EARLY, scans[-1] * (1 + 1 / (len(scans) - 1))
    per_second = _OVERSAMPLING * (n - 1) / (scans[-1] - scans[0])
    grid = np.linspace(first, last, round(per_second * (last - first) + 1))
    response = compute_spm_response(float(np.diff(scans).min()) / _OVERSAMPLING)
    columns = []
    for onset in onsets:
        begin, end = np.minimum(np.searchsorted(grid, (onset, onset + duration)), len(grid) - 1)
        box = np.zeros(len(grid))
        box[begin : max(end, begin + 1)] = 1.0
        columns.append(np.interp(scans, grid, np.convolve(box, response)[: len(grid)]))
    return np.stack(columns, axis=1)


def compute_spm_response(step: float) -> Floats:
    """Compute the canonical hemodynamic response of SPM at every `step` [s] for 32 s, with sum 1.

    It is the difference of two gamma densities, a peak of delay 6 and a sixth of an undershoot of delay 16.

    Examples
    --------
    >>> response = compute_spm_response(0.1)
    >>> round(int(response.argmax()) * 0.1, 1), bool(response.min() < 0)
    (5.1, True)
    """
    since = np.maximum(np.linspace(0, 32.0, round(32.0 / step)) - step, 0.0)
    peak, undershoot = (since ** (delay - 1) * np.exp(-since) / math.gamma(delay) for delay in (6, 16))
    response = peak - 0.167 * undershoot
    return np.asarray(response / response.sum())


def _compute_standard_error(design: Floats, ar: float) -> float:
    """Compute the mean standard error of a trial's least-squares beta under AR(1) noise of unit variance."""
    lags = np.abs(np.subtract.outer(np.arange(len(design)), np.arange(len(design))))
    solve = np.linalg.pinv(np.column_stack([design, np.ones(len(design))]))
    variances = np.einsum("ij,jk,ik->i", solve, ar**lags, solve, optimize=True)
    return float(np.sqrt(variances[: design.shape[1]].mean()))


def _draw_drift(scans: Floats, n_voxels: int, rng: np.random.Generator) -> Singles:
    """Draw slow drifts; each voxel has its own mixture of the first three cosines of the run."""
    phase = np.pi * (np.arange(len(scans)) + 0.5) / len(scans)
    waves = np.stack([np.cos(k * phase) / k for k in (1, 2, 3)], axis=1).astype(np.float32)
    return np.asarray(waves @ rng.standard_normal((3, n_voxels), dtype=np.float32))
