"""Score predictions within each test fold; correlations over several folds at once would be biased.

The training mean of a fold is low where its test responses are high, so that predictions of several folds, put
together, correlate negatively with responses even where nothing is predicted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

CONSTANT = 1e-12  # values that vary by less than this share of their mean are constant


def center(x: Floats) -> tuple[Floats, Floats]:
    """Subtract the mean over items `(n_items, n_targets)`; also return the sums of squares, 0 for constant targets."""
    mean = x.mean(axis=0)
    centered = x - mean
    squares = np.einsum("iv,iv->v", centered, centered)
    return centered, np.where(squares > CONSTANT**2 * len(x) * mean**2, squares, 0.0)


def correlate(x: Floats, y: Floats) -> Floats:
    """Correlate two sets of values over items `(n_items, n_targets)`; NaN where one of them is constant."""
    (x, xx), (y, yy) = center(x), center(y)
    scale = np.sqrt(xx * yy)
    return np.asarray(np.einsum("iv,iv->v", x, y) / np.where(scale > 0, scale, np.nan))


def score_fold(predicted: Floats, responses: Floats) -> tuple[Floats, Floats]:
    """Return r and R2 `(n_targets,)` of predictions of the items of one test fold `(n_items, n_targets)`.

    Both are about the means within the fold: R2 = 1 - sum((y - p)^2) / sum(y^2) of responses y and predictions p that
    are centered on their means over the items of the fold. r is NaN where predictions or responses are constant, R2
    where responses are.
    """
    (p, pp), (y, yy) = center(predicted), center(responses)
    py, scale = np.einsum("iv,iv->v", p, y), np.sqrt(yy * pp)
    r, r2 = py / np.where(scale > 0, scale, np.nan), (2 * py - pp) / np.where(yy > 0, yy, np.nan)
    return r, r2


def is_constant(x: Floats) -> NDArray[np.bool_]:
    """Tell which targets do not vary over items `(n_items, n_targets)`."""
    return np.asarray(center(x)[1] == 0)
