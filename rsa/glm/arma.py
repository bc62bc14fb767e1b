"""Model noise as an ARMA(1,1) process, and estimate it in each voxel by restricted maximum likelihood.

Residuals of a design with many regressors are less autocorrelated than the noise, so their lag-1 correlation
underestimates that of the noise. REML uses the likelihood of the data that the design does not explain, which corrects
this bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainmap.types import Floats

Starts = NDArray[np.bool_]

LARGEST = 0.95
"""Largest absolute value of a and b that the search considers."""


@dataclass(frozen=True, order=True)
class Arma:
    """Describe ARMA(1,1) noise; it is AR(1) if b is 0, and white if a and b are both 0.

    Volumes k apart correlate `lag1 * a ** (k - 1)`, where `lag1 = (b + a) (1 + a b) / (1 + 2 a b + b^2)`.

    Noise before and after a gap between volumes is independent.

    Attributes
    ----------
    a : float
        The autoregressive parameter: the factor by which correlations decay from one lag to the next.
    b : float
        The moving-average parameter.

    Examples
    --------
    >>> Arma(0.5).correlations(4)
    array([1.   , 0.5  , 0.25 , 0.125])
    >>> round(Arma(0.9, -0.6).lag1, 3)
    0.493
    """

    a: float = 0.0
    b: float = 0.0

    @property
    def lag1(self) -> float:
        """Correlation of neighboring volumes, called lam in 3dREMLfit: `(b + a) (1 + a b) / (1 + 2 a b + b^2)`."""
        a, b = self.a, self.b
        return (b + a) * (1 + a * b) / (1 + 2 * a * b + b * b)

    def correlations(self, n: int) -> Floats:
        """Return the autocorrelation at lags 0 to n - 1, `(n,)`."""
        found = np.ones(n)
        found[1:] = self.lag1 * self.a ** np.arange(n - 1)
        return found

    def matrix(self, starts: Starts) -> Floats:
        """Return the correlation matrix of all volumes, `(n_volumes, n_volumes)`."""
        n, block = len(starts), np.cumsum(starts)
        lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        return np.where(np.equal.outer(block, block), self.correlations(n)[lags], 0.0)

    def _compute_innovations(self, starts: Starts) -> tuple[Floats, Floats]:
        """Return the share of the last innovation in each volume, and the standard deviation of its own."""
        a, b = self.a, self.b
        share = (1 - a * a) / (1 + 2 * a * b + b * b)
        gains, variances = np.zeros(len(starts)), np.ones(len(starts))
        for t in np.flatnonzero(~starts):
            gains[t] = share * b / variances[t - 1]
            variances[t] = share * (1 + b * b) - gains[t] ** 2 * variances[t - 1]
        return gains, np.sqrt(variances)

    def whiten(self, x: Floats, starts: Starts) -> Floats:
        """Whiten time series `(n_volumes, ...)`: return the innovation of each volume, scaled to unit variance.

        This is the product with the inverse Cholesky factor of `matrix(starts)`, computed by the innovations
        algorithm.
        """
        if not self.a and not self.b:
            return x
        gains, sds = self._compute_innovations(starts)
        out = x.copy()
        follow = np.flatnonzero(~starts)
        out[follow] -= self.a * x[follow - 1]
        if self.b:
            for t in follow:
                out[t] -= gains[t] * out[t - 1]
        out /= sds.reshape(-1, *[1] * (x.ndim - 1))
        return out

    def log_determinant(self, starts: Starts) -> float:
        """Return the log determinant of `matrix(starts)`."""
        return float(2 * np.log(self._compute_innovations(starts)[1]).sum())

    def replace_lag1(self, lag1: float) -> Arma:
        """Return noise with the same decay `a` and another lag-1 correlation, as far as |b| stays within its limits.

        Examples
        --------
        >>> Arma(0.9, -0.6).replace_lag1(0.9)
        Arma(a=0.9, b=0.0)
        """
        a = self.a
        low, high = Arma(a, -LARGEST).lag1, Arma(a, LARGEST).lag1
        lag1 = min(max(lag1, low), high)
        if abs(lag1 - a) < 1e-12:
            return Arma(a)
        c = (1 + a * a - 2 * lag1 * a) / (a - lag1)  # b solves b^2 + c b + 1 = 0
        return Arma(a, (-c + math.copysign(math.sqrt(max(c * c - 4, 0.0)), c)) / 2)


WHITE = Arma()


def build_afni_grid(steps: int) -> list[Arma]:
    """Return the grid that 3dREMLfit searches with -Grid `steps`, -MAXa .8, -MAXb .8 and without -NEGcor.

    a takes 2^steps steps from 0 to .8, and b as many from -.8 to 0 and from 0 to .8. Models are kept if neighboring
    volumes correlate at least .001 (3dREMLfit's -CORcut). White noise comes first.
    """
    n = 2**steps
    a, b = 0.8 * np.arange(n + 1) / n, 0.8 * np.arange(-n, n + 1) / n
    every = [Arma(float(one), float(other)) for one in a for other in b]
    return [WHITE, *(noise for noise in every if noise.lag1 >= 0.001)]


MOST_POOLED = 10_000  # voxels, evenly spread over the mask; more of them would not change the third digit
