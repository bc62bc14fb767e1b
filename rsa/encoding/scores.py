"""Score predictions within each test fold; correlations over several folds at once would be biased.

The training mean of a fold is low where its test responses are high, so that predictions of several folds, put
together, correlate negatively with responses even where nothing is predicted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

CONSTANT = 1e-12  # predictions that vary by less than this share of their size are constant


def center(x: Floats) -> Floats:
    """Subtract the mean over items, and set targets that do not vary to 0 exactly."""
    size = np.abs(x).max(axis=-2, keepdims=True)
    centered = x - x.mean(axis=-2, keepdims=True)
    return np.where(np.abs(centered).max(axis=-2, keepdims=True) > CONSTANT * size, centered, 0.0)


def score_fold(predicted: Floats, responses: Floats) -> tuple[Floats, Floats]:
    """Return r and R2 `(n_targets,)` of predictions of the items of one test fold `(n_items, n_targets)`.

    Both are about the means within the fold: R2 = 1 - sum((y - p)^2) / sum(y^2) of responses y and predictions p that
    are centered on their means over the items of the fold. r is NaN where predictions or responses are constant, R2
    where responses are.
    """
    p, y = center(predicted), center(responses)
    yy, pp, py = (np.einsum("iv,iv->v", a, b) for a, b in ((y, y), (p, p), (p, y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        r, r2 = py / np.sqrt(yy * pp), (2 * py - pp) / yy
    return np.where((yy > 0) & (pp > 0), r, np.nan), np.where(yy > 0, r2, np.nan)


def is_constant(x: Floats) -> NDArray[np.bool_]:
    """Tell which targets do not vary over items `(n_items, n_targets)`."""
    return np.asarray(~center(x).any(axis=0))
