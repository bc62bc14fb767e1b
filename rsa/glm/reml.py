"""The noise of a run: ARMA(1,1) or AR(1) parameters by REML, pooled over voxels, and what each voxel has of its own.

Residuals of a design with many regressors are less autocorrelated than the noise they come from, so their lag-1
correlation is not the noise's. REML takes the likelihood of what the design leaves, which corrects for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import minimize, minimize_scalar

from brainmap.rsa.glm.arma import LARGEST, WHITE, Arma, Floats, Starts

Kind = Literal["ar1", "arma11"]

MOST_POOLED = 10_000  # voxels, evenly spread over the mask: more of them change the third digit of nothing
_ROUNDS = 20
_SETTLED = 2e-3
_CHANCE = 10.0  # twice the gain in log-likelihood over white noise that is chance
_STEP = 0.02  # of the lag-1 correlation of a voxel's own; a hundredth off costs a ten-thousandth of the variance


@dataclass(frozen=True, eq=False)
class Likelihood:
    """The restricted likelihood of noise models, given what a design explains.

    Attributes
    ----------
    basis : ndarray (n_volumes, rank)
        What the design explains, orthonormal.
    starts : ndarray (n_volumes,) of bool
        Volumes that follow a gap.
    """

    basis: Floats
    starts: Starts

    @property
    def dof(self) -> int:
        """Volumes less what the design explains."""
        return int(self.basis.shape[0] - self.basis.shape[1])

    def squares(self, noise: Arma, x: Floats) -> tuple[Floats, float]:
        """Sums of squares of the whitened residuals of columns `(n_columns,)`, and the logarithms of determinants.

        The determinants are those of X' R^-1 X and R: `dof * log(squares)` plus these is what 3dREMLfit minimizes
        (minus twice the logarithm of the restricted likelihood, but for a constant).
        """
        rank = self.basis.shape[1]
        both = noise.whitened(np.hstack([self.basis, x]), self.starts)
        design, left = both[:, :rank], both[:, rank:]
        triangle = np.linalg.cholesky(design.T @ design)
        explained = solve_triangular(triangle, design.T @ left, lower=True, check_finite=False)
        total = np.einsum("nv,nv->v", left, left) - np.einsum("nv,nv->v", explained, explained)
        determinants = 2 * float(np.log(np.diag(triangle)).sum()) + noise.log_determinant(self.starts)
        return np.maximum(total, np.finfo(float).tiny), determinants


def pooled_noise(residuals: Floats, likelihood: Likelihood, kind: Kind) -> Arma:
    """The noise model of which the residuals of all voxels together are likeliest, each voxel with its own variance.

    Parameters
    ----------
    residuals : ndarray (n_volumes, n_voxels)
        Of ordinary least squares.
    likelihood : Likelihood
    kind : {"ar1", "arma11"}
        a from -.95 to .95 and b = 0; or a from 0 and b from -.95 to .95.

    Returns
    -------
    Arma

    Notes
    -----
    The sum over voxels of `dof * log(squares)` is at most `n_voxels * dof * log(mean(squares / squares at the last
    parameters))` and a constant, with equality there, so that lowering the latter lowers the former; the latter
    needs only one matrix of all voxels.
    """
    squares = np.einsum("nv,nv->v", residuals, residuals)
    residuals, scale = residuals[:, squares > 0], squares[squares > 0]
    if not scale.size:
        return WHITE
    found: Arma | None = None
    for _ in range(_ROUNDS):
        last, factor = found, _factor(residuals / np.sqrt(scale))

        def loss(noise: Arma, factor: Floats = factor) -> float:
            total, determinants = likelihood.squares(noise, factor)
            return float(likelihood.dof * np.log(total.sum()) + determinants)

        found = _least(loss, kind, last)
        if last is None and (loss(WHITE) - loss(found)) * scale.size < _CHANCE:
            return WHITE
        if last is not None and abs(found.a - last.a) < _SETTLED and abs(found.b - last.b) < _SETTLED:
            break
        scale = likelihood.squares(found, residuals)[0]
    assert found is not None
    return found


def _factor(x: Floats) -> Floats:
    """Fewer columns with the same products among rows, but for 1e-10 of them."""
    if x.shape[1] <= len(x):
        return x
    products = x @ x.T
    products[np.diag_indices(len(x))] += 1e-10 * np.trace(products) / len(x)
    return np.asarray(np.linalg.cholesky(products), np.float64)


def _least(loss: Callable[[Arma], float], kind: Kind, near: Arma | None) -> Arma:
    """Where the loss is least; from the start, or near the place of an earlier round."""
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
    """The noise of a run: the pooled model, and the rule by which voxels have their own.

    Attributes
    ----------
    pooled : Arma
    own : float
        Which share of a voxel's deviation from the pooled lag-1 correlation is its own, and is kept: 1 less the
        sampling variance over the observed one. The rest is chance of a short run.
    """

    pooled: Arma
    kind: Kind = "ar1"
    own: float = 0.0
    starts: Starts | None = None
    expected: Floats | None = None  # lag-1 correlation of residuals, where that of the noise is one of `lag1s`
    lag1s: Floats | None = None

    @property
    def estimated(self) -> bool:
        """Whether there were volumes enough to tell the noise."""
        return self.starts is not None

    def of_voxels(self, residuals: Floats) -> tuple[list[Arma], NDArray[np.intp]]:
        """The noise models of some voxels, and which of them each voxel has `(n_voxels,)`."""
        if self.own == 0 or self.starts is None or self.expected is None or self.lag1s is None:
            return [self.pooled], np.zeros(residuals.shape[1], np.intp)
        centre = np.interp(self.pooled.lag1, self.lag1s, self.expected)
        shrunken = (1 - self.own) * centre + self.own * lag1_of_residuals(residuals, self.starts)
        rounded = np.round(np.interp(shrunken, self.expected, self.lag1s) / _STEP) * _STEP
        values, which = np.unique(rounded, return_inverse=True)
        return [_with(self.pooled, self.kind, float(value)) for value in values], which


def _with(pooled: Arma, kind: Kind, lag1: float) -> Arma:
    """The pooled noise with another lag-1 correlation: of AR(1) the parameter, of ARMA(1,1) at the same decay."""
    alone = kind == "ar1" or pooled == WHITE
    return Arma(min(max(lag1, -LARGEST), LARGEST)) if alone else pooled.with_lag1(lag1)


def run_noise(residuals: Floats, likelihood: Likelihood, kind: Kind) -> RunNoise:
    """The pooled noise of a run, and how much of its own each voxel keeps.

    Parameters
    ----------
    residuals : ndarray (n_volumes, n_voxels)
        Of ordinary least squares, of all voxels or of some that are spread over the mask.
    likelihood : Likelihood
    kind : {"ar1", "arma11"}
    """
    starts = likelihood.starts
    pooled = pooled_noise(residuals, likelihood, kind)
    found = lag1_of_residuals(residuals, starts)
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
    low, high = _with(pooled, kind, -1.0).lag1, _with(pooled, kind, 1.0).lag1
    lag1s = np.linspace(low, high, 96)
    above, below = (_lag_sums(x, starts) for x in (product, m))
    models = [_with(pooled, kind, float(one)).correlations(n) for one in lag1s]
    expected = np.maximum.accumulate([float(above @ r / (below @ r)) for r in models])
    return RunNoise(pooled, kind, own, starts, expected, lag1s)


def lag1_of_residuals(residuals: Floats, starts: Starts) -> Floats:
    """Products of neighboring volumes over squares of all, `(n_voxels,)`; 0 of a voxel without residuals."""
    follow = np.flatnonzero(~starts)
    power = np.einsum("nv,nv->v", residuals, residuals)
    lagged = np.einsum("nv,nv->v", residuals[follow], residuals[follow - 1])
    return np.asarray(np.divide(lagged, power, out=np.zeros_like(power), where=power > 0))


def _lag_sums(x: Floats, starts: Starts) -> Floats:
    """Sums along the diagonals of a symmetric matrix, both sides, within stretches without a gap; `(n_volumes,)`."""
    block = np.cumsum(starts)
    sums: Floats = np.array([np.diagonal(x, k)[block[k:] == block[: len(block) - k]].sum() for k in range(len(x))])
    sums[1:] *= 2
    return np.asarray(sums, np.float64)


def best_of_grid(residuals: Floats, likelihood: Likelihood, grid: Sequence[Arma]) -> NDArray[np.intp]:
    """Which noise model of a grid each voxel's residuals make likeliest, as 3dREMLfit asks it, `(n_voxels,)`."""
    best = np.zeros(residuals.shape[1], np.intp)
    least = np.full(residuals.shape[1], np.inf)
    for k, noise in enumerate(grid):
        squares, determinants = likelihood.squares(noise, residuals)
        loss = likelihood.dof * np.log(squares) + determinants
        better = loss < least
        best[better], least[better] = k, loss[better]
    return best
