"""Scale betas: to the units of the image, percent of the mean, or standard deviations of the noise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.estimators import RunFit, Singles
from brainmap.types import Floats, Scale


def scale_factors(
    fits: Sequence[tuple[RunFit, NDArray[np.bool_]]], baselines: Sequence[Floats], scale: Scale
) -> list[Singles]:
    """Compute the factors that scale the betas of each run, `(n_mask_voxels,)` per run."""
    if scale == "percent":
        for mean, (fit, there) in zip(baselines, fits, strict=True):
            sd = np.sqrt(fit.squares / fit.dof)
            if np.median(mean[there] / sd) < 2:
                raise InputError(
                    "scale='percent': the voxels' means are no baseline (half of them lie below 2 standard deviations "
                    "of the noise); were the data demeaned? use 'signal' or 'noise'"
                )
        low = sum(np.count_nonzero(~(mean[there] > 0)) for mean, (_, there) in zip(baselines, fits, strict=True))
        if low:
            warnings.warn(
                f"scale='percent': {low} voxels (over all runs) have a mean of 0 or less and no betas (NaN)",
                BrainmapWarning,
                stacklevel=5,
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            return [np.where(mean > 0, 100 / mean, np.nan).astype(np.float32) for mean in baselines]
    n = len(baselines[0])
    if scale == "signal":
        return [np.ones(n, np.float32) for _ in fits]
    squares, dof = np.zeros(n), np.zeros(n)
    for fit, there in fits:
        squares[there] += fit.squares
        dof[there] += fit.dof
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = np.where(squares > 0, np.sqrt(dof / squares), np.nan)
    return [pooled.astype(np.float32) for _ in fits]
