"""Score predictions within each test fold, estimate the reliability of responses, and correct scores for noise.

Correlations over several folds at once would be biased: the training mean of a fold is low where its test responses are
high, so that predictions of several folds, put together, correlate negatively with responses even where nothing is
predicted.
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


def measure_influence(predicted: Floats, responses: Floats) -> Floats:
    """Return how much each item of a test fold moves its r `(n_items, n_targets)`; the sum over items is 0.

    It is the influence function of the correlation, z_p z_y - r (z_p^2 + z_y^2) / 2 of the z-scores of predictions and
    responses, divided by n, times sqrt(n / (n - 2)), so that the sum of squares estimates the variance of r of a given
    model. NaN where r is.

    References
    ----------
    Devlin, Gnanadesikan and Kettenring 1975, doi:10.1093/biomet/62.3.531

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=(4000, 1))
    >>> p = 0.6 * y + 0.8 * rng.normal(size=y.shape)
    >>> bool(np.isclose(np.square(measure_influence(p, y)).sum(), (1 - 0.36) ** 2 / 4000, rtol=0.1))
    True
    """
    (p, pp), (y, yy), n = center(predicted), center(responses), len(predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, y = p * np.sqrt(n / pp), y * np.sqrt(n / yy)
    r = (p * y).mean(axis=0)
    return np.asarray((p * y - r / 2 * (p**2 + y**2)) / n * np.sqrt(n / max(n - 2, 1)))


def is_constant(x: Floats) -> NDArray[np.bool_]:
    """Tell which targets do not vary over items `(n_items, n_targets)`."""
    return np.asarray(center(x)[1] == 0)
