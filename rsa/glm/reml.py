"""Noise of a run: ARMA(1,1) or AR(1) parameters by REML, pooled over voxels, and the deviation of each voxel.

Residuals of a design with many regressors are less autocorrelated than the noise, so their lag-1 correlation
underestimates that of the noise. REML uses the likelihood of the data that the design does not explain, which corrects
this bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from brainmap.rsa.glm.arma import LARGEST, WHITE, Arma, Starts
from brainmap.types import ArmaKind, Floats

_ROUNDS = 20

_SETTLED = 2e-3

_CHANCE = 10.0  # twice the gain in log-likelihood over white noise that chance explains

_STEP = 0.02  # of a voxel's own lag-1 correlation; an error of .01 costs a ten-thousandth of the variance


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Evaluate the restricted likelihood of noise models for a given design.

    Attributes
    ----------
    basis : ndarray (n_volumes, rank)
        Orthonormal basis of the design.
    starts : ndarray (n_volumes,) of bool
        Volumes that follow a gap.
    """

    basis: Floats
    starts: Starts

    @property
    def dof(self) -> int:
        """Degrees of freedom: the number of volumes less the rank of the design."""
        return int(self.basis.shape[0] - self.basis.shape[1])

    def squares(self, noise: Arma, x: Floats) -> tuple[Floats, float]:
        """Compute the sums of squares of whitened residuals, `(n_columns,)`, and the sum of the log determinants.

        The determinants are those of X' R^-1 X and R. `dof * log(squares)` plus these is what 3dREMLfit minimizes:
        minus twice the logarithm of the restricted likelihood, up to a constant.
        """
        rank = self.basis.shape[1]
        both = noise.whiten(np.hstack([self.basis, x]), self.starts)
        design, left = both[:, :rank], both[:, rank:]
        triangle = np.linalg.cholesky(design.T @ design)
        explained = scipy.linalg.solve_triangular(triangle, design.T @ left, lower=True, check_finite=False)
        total = np.einsum("nv,nv->v", left, left) - np.einsum("nv,nv->v", explained, explained)
        determinants = 2 * float(np.log(np.diag(triangle)).sum()) + noise.log_determinant(self.starts)
        return np.maximum(total, np.finfo(float).tiny), determinants


def estimate_pooled_noise(residuals: Floats, likelihood: Likelihood, kind: ArmaKind) -> Arma:
    """Estimate the noise model that is most likely given all voxels together, with a separate variance for each voxel.

    Parameters
    ----------
    residuals : ndarray (n_volumes, n_voxels)
        Residuals of ordinary least squares.
    likelihood : Likelihood
    kind : {"ar1", "arma11"}
        "ar1": a from -.95 to .95 and b = 0. "arma11": a from 0 to .95 and b from -.95 to .95.

    Returns
    -------
    Arma

    Notes
    -----
    The sum over voxels of `dof * log(squares)` is at most `n_voxels * dof * log(mean(squares / squares at the last
    parameters))` plus a constant, with equality at the last parameters. Lowering this bound therefore lowers the sum,
    and the bound needs only one matrix for all voxels.
    """
    squares = np.einsum("nv,nv->v", residuals, residuals)
    residuals, scale = residuals[:, squares > 0], squares[squares > 0]
    if not scale.size:
        return WHITE
    found: Arma | None = None
    for _ in range(_ROUNDS):
        last, factor = found, _reduce_columns(residuals / np.sqrt(scale))

        def loss(noise: Arma, factor: Floats = factor) -> float:
            total, determinants = likelihood.squares(noise, factor)
            return float(likelihood.dof * np.log(total.sum()) + determinants)

        found = _find_least_loss(loss, kind, last)
        if last is None and (loss(WHITE) - loss(found)) * scale.size < _CHANCE:
            return WHITE
        if last is not None and abs(found.a - last.a) < _SETTLED and abs(found.b - last.b) < _SETTLED:
            break
        scale = likelihood.squares(found, residuals)[0]
    assert found is not None
    return found


def _reduce_columns(x: Floats) -> Floats:
    """Reduce the number of columns while keeping the products among rows to a relative error of 1e-10."""
    if x.shape[1] <= len(x):
        return x
    products = x @ x.T
    products[np.diag_indices(len(x))] += 1e-10 * np.trace(products) / len(x)
    return np.asarray(np.linalg.cholesky(products), np.float64)


def _find_least_loss(loss: Callable[[Arma], float], kind: ArmaKind, near: Arma | None) -> Arma:
    """Find the noise model with the smallest loss, from scratch or near the result of an earlier round."""
    from scipy.optimize import (
        minimize,  # slow to import
        minimize_scalar,  # slow to import
    )

    if kind == "ar1":
        bounds = (-LARGEST, LARGEST) if near is None else (near.a - 0.1, min(near.a + 0.1, LARGEST))
        return Arma(
            float(minimize_scalar(lambda a: loss(Arma(a)), bounds=bounds, method="bounded", options={"xatol": 2e-4}).x)
        )
    size = 0.05 if near is None else 0.01
    if near is None:
        near = min((Arma(a, b) for a in (0.1, 0.4, 0.7, 0.9) for b in (-0.8, -0.6, -0.4, -0.2, 0.0, 0.4)), key=loss)
    corner = (min(near.a, 0.9), min(near.b, 0.9))
    simplex = [corner, (corner[0] + size, corner[1]), (corner[0], corner[1] + size)]
    best = minimize(
        lambda p: loss(Arma(float(p[0]), float(p[1]))),
        corner,
        method="Nelder-Mead",
        bounds=((0.0, LARGEST), (-LARGEST, LARGEST)),
        options={"xatol": 5e-4, "fatol": 1e-6, "initial_simplex": simplex, "maxfev": 150},
    )
    return Arma(float(best.x[0]), float(best.x[1]))


@dataclass(frozen=True, eq=False)
class RunNoise:
    """Describe the noise of a run: the pooled model, and the rule that gives each voxel its own model.

    Attributes
    ----------
    pooled : Arma
    own : float
        Share of a voxel's deviation from the pooled lag-1 correlation that the voxel keeps: 1 minus the sampling
        variance divided by the observed variance. The rest is chance in a short run.
    """

    pooled: Arma
    kind: ArmaKind = "ar1"
    own: float = 0.0
    starts: Starts | None = None
    expected: Floats | None = None  # lag-1 correlation of residuals at each noise lag-1 correlation in `lag1s`
    lag1s: Floats | None = None

    @property
    def estimated(self) -> bool:
        """Tell whether there were enough volumes to estimate the noise."""
        return self.starts is not None

    def choose_models(self, residuals: Floats) -> tuple[list[Arma], NDArray[np.intp]]:
        """Return the noise models in use, and the index of each voxel's model `(n_voxels,)`."""
        if self.own == 0 or self.starts is None or self.expected is None or self.lag1s is None:
            return [self.pooled], np.zeros(residuals.shape[1], np.intp)
        centre = np.interp(self.pooled.lag1, self.lag1s, self.expected)
        shrunken = (1 - self.own) * centre + self.own * measure_lag1(residuals, self.starts)
        rounded = np.round(np.interp(shrunken, self.expected, self.lag1s) / _STEP) * _STEP
        values, which = np.unique(rounded, return_inverse=True)
        return [_replace_lag1(self.pooled, self.kind, float(value)) for value in values], which


def _replace_lag1(pooled: Arma, kind: ArmaKind, lag1: float) -> Arma:
    """Return the pooled noise with another lag-1 correlation; ARMA(1,1) keeps its decay a."""
    alone = kind == "ar1" or pooled == WHITE
    return Arma(min(max(lag1, -LARGEST), LARGEST)) if alone else pooled.replace_lag1(lag1)


def estimate_run_noise(residuals: Floats, likelihood: Likelihood, kind: ArmaKind) -> RunNoise:
    """Estimate the pooled noise of a run, and the share of its own noise that each voxel keeps.

    Parameters
    ----------
    residuals : ndarray (n_volumes, n_voxels)
        Residuals of ordinary least squares, of all voxels or of voxels spread over the mask.
    likelihood : Likelihood
    kind : {"ar1", "arma11"}
    """
    starts = likelihood.starts
    pooled = estimate_pooled_noise(residuals, likelihood, kind)
    found = measure_lag1(residuals, starts)
    n = len(starts)
    m = np.eye(n) - likelihood.basis @ likelihood.basis.T
    neighbors = np.zeros((n, n))
    follow = np.flatnonzero(~starts)
    neighbors[follow, follow - 1] = neighbors[follow - 1, follow] = 0.5
    correlations = pooled.matrix(starts)
    product = m @ neighbors @ m
    centre = float((product * correlations).sum() / (m * correlations).sum())
    deviation = (product - centre * m) @ correlations
    sampling = 2 * float((deviation * deviation.T).sum()) / float((m * correlations).sum()) ** 2
    observed = float(np.var(found, ddof=1)) if len(found) > 1 else 0.0
    own = max(0.0, 1 - sampling / observed) if observed > 0 else 0.0
    low, high = _replace_lag1(pooled, kind, -1.0).lag1, _replace_lag1(pooled, kind, 1.0).lag1
    lag1s = np.linspace(low, high, 96)
    above, below = (_sum_lags(x, starts) for x in (product, m))
    models = [_replace_lag1(pooled, kind, float(one)).correlations(n) for one in lag1s]
    expected = np.maximum.accumulate([float(above @ r / (below @ r)) for r in models])
    return RunNoise(pooled, kind, own, starts, expected, lag1s)


def measure_lag1(residuals: Floats, starts: Starts) -> Floats:
    """Compute the lag-1 autocorrelation of residuals, `(n_voxels,)`; it is 0 for a voxel without residuals."""
    follow = np.flatnonzero(~starts)
    power = np.einsum("nv,nv->v", residuals, residuals)
    lagged = np.einsum("nv,nv->v", residuals[follow], residuals[follow - 1])
    return np.asarray(np.divide(lagged, power, out=np.zeros_like(power), where=power > 0))


def _sum_lags(x: Floats, starts: Starts) -> Floats:
    """Sum the diagonals of a symmetric matrix on both sides, within stretches without a gap; `(n_volumes,)`."""
    block = np.cumsum(starts)
    sums: Floats = np.array([np.diagonal(x, k)[block[k:] == block[: len(block) - k]].sum() for k in range(len(x))])
    sums[1:] *= 2
    return np.asarray(sums, np.float64)


def find_best_of_grid(residuals: Floats, likelihood: Likelihood, grid: Sequence[Arma]) -> NDArray[np.intp]:
    """Find the most likely noise model of a grid for each voxel's residuals, as 3dREMLfit does, `(n_voxels,)`."""
    best = np.zeros(residuals.shape[1], np.intp)
    least = np.full(residuals.shape[1], np.inf)
    for k, noise in enumerate(grid):
        squares, determinants = likelihood.squares(noise, residuals)
        loss = likelihood.dof * np.log(squares) + determinants
        better = loss < least
        best[better], least[better] = k, loss[better]
    return best
