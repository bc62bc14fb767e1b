"""Bring features of continuous sounds to the times of scans: a low-pass filter, delays, and z-scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.types import Floats, ScanSampling

_LOBES = 3


def lanczos_weights(times: NDArray[np.floating], scans: NDArray[np.floating], lobes: int = _LOBES) -> Floats:
    """Compute the weights of samples in scans, `(n_scans, n_samples)`, of a low-pass filter below half a scan's rate.

    With x the time from sample to scan in scans, the weight is lobes sin(pi x) sin(pi x / lobes) / (pi x)^2 for
    |x| <= lobes, 1 for x = 0, and 0 elsewhere.

    Parameters
    ----------
    times : ndarray (n_samples,) [s]
    scans : ndarray (n_scans,) [s]
        Times of the scans, evenly spaced.
    lobes : int
        Width of the window.

    References
    ----------
    Duchon 1979, doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2

    Examples
    --------
    >>> lanczos_weights(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0])).round(3).tolist()
    [[1.0, 0.608, 0.0], [0.0, 0.608, 1.0]]
    """
    x = (scans[:, None] - times[None, :]) / np.diff(scans).mean()
    return np.asarray(np.where(np.abs(x) <= lobes, np.sinc(x) * np.sinc(x / lobes), 0.0))


def sample_scans(
    x: NDArray[np.floating],
    times: NDArray[np.floating],
    scans: NDArray[np.floating],
    sampling: ScanSampling = "lanczos",
) -> Floats:
    """Sample features `(n_samples, n_units)` at scans, `(n_scans, n_units)`.

    "lanczos" filters them, and divides by the sum of the weights, so that a constant remains a constant at the ends of
    a story, too. "mean" averages the samples of each scan, those after the scan before it up to the scan.

    Raises
    ------
    InputError
        A scan has no sample.
    """
    if sampling == "lanczos":
        weights = lanczos_weights(times, scans)
    else:
        step = float(np.diff(scans).mean())
        apart = scans[:, None] - times[None, :]
        weights = ((apart >= -1e-9) & (apart < step - 1e-9)).astype(np.float64)
    total = weights.sum(axis=1)
    empty = np.flatnonzero(np.abs(total) < 1e-6)
    if len(empty):
        raise InputError(
            f"stories: expected samples of features around each of {len(scans)} scans, got none at "
            f"{list_some([f'{scans[k]:g} s' for k in empty], 3)}; take windows with a shorter hop"
        )
    return np.asarray(weights @ np.asarray(x, dtype=np.float64) / total[:, None])


def delay_features(x: Floats, delays: Sequence[int]) -> Floats:
    """Return features of the scans before each scan, `(n_scans, n_units * n_delays)`; 0 before the story begins.

    Examples
    --------
    >>> delay_features(np.array([[1.0], [2.0], [3.0]]), [1, 2]).tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]]
    """
    found = [np.concatenate([np.zeros((min(d, len(x)), x.shape[1])), x[: max(len(x) - d, 0)]]) for d in delays]
    return np.concatenate(found, axis=1)


def zscore(x: Floats) -> Floats:
    """Subtract the mean of each column over scans and divide by its deviation; constant columns become 0."""
    centered = x - x.mean(axis=0)
    sd = np.sqrt(np.square(centered).mean(axis=0))
    flat = sd <= 1e-12 * np.abs(x).max(axis=0, initial=0.0)
    return np.asarray(np.where(flat, 0.0, centered / np.where(flat, 1.0, sd)))
