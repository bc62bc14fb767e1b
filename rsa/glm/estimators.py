"""Estimators turn a design into weights over volumes once; the betas of all voxels are one matrix product with them.

Least squares, separate (LSS): the beta of a trial comes from a model with that trial, all other trials together, and
the nuisance regressors. These models share all but two regressors, so the shared part is factorized once for all
trials, and each trial costs a system of two unknowns instead of a refit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.glm.arma import MOST_POOLED, WHITE, Arma, build_afni_grid
from brainmap.rsa.glm.design import GlmSettings, RunDesign, find_dependent_columns, orthogonalize_derivatives
from brainmap.rsa.glm.reml import Likelihood, RunNoise, estimate_run_noise, find_best_of_grid
from brainmap.types import ArmaKind, Floats

FEW_PAIRS = 20  # with fewer consecutive pairs of volumes no autocorrelation is estimated
FEWEST_FREE = 8  # smallest number of degrees of freedom from which a noise model is estimated
Singles = NDArray[np.float32]
_CHUNK = 4096  # voxels at a time: 10 MB for 300 volumes
_SAME = 1e-7


@dataclass(frozen=True, eq=False)
class Estimator:
    """Hold the weights that turn the (whitened) volumes of a run into betas and residuals.

    Attributes
    ----------
    weights : ndarray (n_volumes, n_betas)
        Betas are the products of these weights with the whitened volumes.
    basis : ndarray (n_volumes, rank)
        Orthonormal basis of the whitened design; the residuals are orthogonal to it.
    noise : Arma
        The noise model that whitens the volumes.
    starts : ndarray (n_volumes,) of bool
    """

    weights: Floats
    basis: Floats

    noise: Arma
    starts: NDArray[np.bool_]

    def covariance(self, noise: Arma | None = None) -> Floats:
        """Compute the covariance of the betas in units of the noise variance of one volume, `(n_betas, n_betas)`.

        With weights W of the unwhitened volumes and noise correlations R, the covariance is `W' R W`.

        Parameters
        ----------
        noise : Arma, optional
            The true noise; by default the noise model of the estimator.
        """
        if noise is None or noise == self.noise:
            return np.asarray(self.weights.T @ self.weights)
        whitening = self.noise.whiten(np.eye(len(self.starts)), self.starts)
        weights = whitening.T @ self.weights
        return np.asarray(weights.T @ noise.matrix(self.starts) @ weights)

    @property
    def dof(self) -> int:
        """Degrees of freedom: the number of volumes less the rank of the model."""
        return int(len(self.basis) - self.basis.shape[1])


def build_estimator(design: RunDesign, settings: GlmSettings, noise: Arma = WHITE) -> Estimator:
    """Build the estimator of a run by generalized least squares for a given noise model.

    For "condition" and "lsa" the betas are `(X' R^-1 X)^-1 X' R^-1 y`, where X is the design, R the correlation matrix
    of the noise and y the time series of a voxel; whitening makes this an ordinary pseudoinverse. For "lss" each trial
    has its own model, and the residuals are those of the model with one regressor per trial.

    References
    ----------
    Mumford et al. (2012), https://doi.org/10.1016/j.neuroimage.2011.08.076
    """
    starts = design.timing.starts
    x = noise.whiten(design.matrix.to_numpy(float), starts)
    if settings.model == "lss":
        reverse = x[:, ::-1]  # the constant and drifts come first
        keep = np.delete(np.arange(x.shape[1]), find_dependent_columns(reverse))
        basis = np.linalg.qr(reverse[:, keep])[0]
        return Estimator(_weigh_separate_models(design, settings, noise), basis, noise, starts)
    lengths = np.linalg.norm(x, axis=0)
    basis, r = np.linalg.qr(x / lengths)
    inverse = scipy.linalg.solve_triangular(r, np.eye(len(r)))[design.interest] / lengths[design.interest, None]
    return Estimator(basis @ inverse.T, basis, noise, starts)


def _weigh_separate_models(design: RunDesign, settings: GlmSettings, noise: Arma) -> Floats:
    """Compute the weights of every trial's beta in its own model, `(n_volumes, n_betas)`."""
    starts, n_betas = design.timing.starts, len(design.labels)
    task = {k + j for k in design.interest.tolist() for j in range(design.n_kernels)}
    shared = [k for k in range(design.matrix.shape[1]) if k not in task]
    nuisance = np.linalg.qr(noise.whiten(design.matrix.to_numpy(float)[:, shared], starts))[0]
    # one model per trial: (n_betas, n_volumes, n_regressors)
    own = np.stack([_build_separate_models(design, settings, trial) for trial in range(n_betas)])
    flat = noise.whiten(own.transpose(1, 0, 2).reshape(own.shape[1], -1), starts)
    flat = flat - nuisance @ (nuisance.T @ flat)
    models = flat.reshape(len(flat), n_betas, -1).transpose(1, 0, 2)
    lengths = np.linalg.norm(models, axis=1, keepdims=True)
    scaled = models / np.where(lengths > _SAME * lengths.max(), lengths, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):  # a trial that confounds explain is refused below
        weights = np.linalg.pinv(scaled, rcond=1e-9)[:, 0] / lengths[:, :, 0]
    # Weights that do not recover the trial's own regressor mean that other regressors explain it.
    back = np.einsum("tn,nt->t", weights, models[:, :, 0].T)
    lost = np.flatnonzero(~(np.abs(back - 1) < 1e-6))
    if lost.size:
        raise InputError(
            f"design: the trial {design.labels[lost[0]]!r} cannot be separated from the others or the confounds "
            f"({lost.size} such trials); put events further apart or leave some out"
        )
    return np.asarray(weights.T)


def _build_separate_models(design: RunDesign, settings: GlmSettings, trial: int) -> Floats:
    """Return the trial's own regressors, then those of all other trials together (or of each condition)."""
    conditions = np.array(design.conditions)
    others = np.arange(len(conditions)) != trial
    groups = [others]
    if settings.others == "condition":
        groups = [others & (conditions == name) for name in dict.fromkeys(design.conditions)]
    blocks = [design.trials[:, trial], *(design.trials[:, group].sum(axis=1) for group in groups)]
    return np.hstack([orthogonalize_derivatives(block) if block.any() else block for block in blocks])


@dataclass(frozen=True, eq=False)
class RunFit:
    """Hold the least-squares results of one run, with voxels last.

    Attributes
    ----------
    betas, variances : ndarray (n_betas, n_voxels) of float32
    residuals : ndarray (n_volumes, n_voxels) of float32
        Residuals whitened by the noise model, so that volumes are (nearly) independent and keep their variance.
    squares : ndarray (n_voxels,)
        Sum of the squared residuals.
    dof : int
    noise : RunNoise
        The estimated noise, whether or not the volumes were whitened with it.
    covariance : ndarray (n_betas, n_betas)
        Covariance of the betas under noise alone, in units of the noise variance, averaged over voxels.
    """

    betas: NDArray[np.float32]
    variances: NDArray[np.float32]
    residuals: NDArray[np.float32]
    squares: Floats
    dof: int
    noise: RunNoise
    covariance: Floats


def fit_run(data: NDArray[np.float32], design: RunDesign, settings: GlmSettings) -> Iterator[int | RunFit]:
    """Fit one run in chunks of voxels; yield the number of voxels after each chunk, and finally the fit.

    Parameters
    ----------
    data : ndarray (n_voxels, n_volumes)
        Every voxel must be finite and not constant.
    design : RunDesign
    settings : GlmSettings
    """
    n_voxels, n_volumes = data.shape
    made = {WHITE: build_estimator(design, settings)}
    first = made[WHITE]
    if first.dof < 1:
        raise InputError(f"design: {n_volumes} volumes leave no degree of freedom; leave out confounds or trials")
    n_betas = len(design.labels)
    noise = _estimate_noise(data, first, settings)
    grid = build_afni_grid(settings.afni_grid) if settings.afni_grid and noise.estimated else None
    counts: Counter[Arma] = Counter()
    fit = RunFit(
        np.empty((n_betas, n_voxels), np.float32),
        np.empty((n_betas, n_voxels), np.float32),
        np.empty((n_volumes, n_voxels), np.float32),
        np.empty(n_voxels),
        first.dof,
        noise,
        np.zeros((n_betas, n_betas)),
    )
    for start in range(0, n_voxels, _CHUNK):
        y = np.ascontiguousarray(data[start : start + _CHUNK].T, dtype=np.float64)
        residuals = y - first.basis @ (first.basis.T @ y)
        models, which = [WHITE], np.zeros(y.shape[1], np.intp)
        if grid is not None:
            models, which = grid, find_best_of_grid(residuals, Likelihood(first.basis, first.starts), grid)
        elif settings.noise != "ols":
            models, which = noise.choose_models(residuals)
        for k in np.unique(which):
            here = np.flatnonzero(which == k)
            if models[k] not in made:
                made[models[k]] = build_estimator(design, settings, models[k])
            one = made[models[k]]
            volumes = one.noise.whiten(y if len(here) == y.shape[1] else y[:, here], one.starts)
            left = volumes - one.basis @ (one.basis.T @ volumes)
            at = here + start
            squares = np.einsum("nv,nv->v", left, left)
            fit.betas[:, at] = one.weights.T @ volumes
            fit.variances[:, at] = np.outer((one.weights**2).sum(axis=0), squares / one.dof)
            fit.residuals[:, at], fit.squares[at] = left, squares
            counts[one.noise] += len(here)
        yield y.shape[1]
    # Noise that was not modelled, or was estimated per voxel from few volumes, is described by the pooled estimate.
    true = noise.pooled if grid is not None or settings.noise == "ols" else None
    for model, count in counts.items():
        fit.covariance[:] += count / n_voxels * made[model].covariance(true)
    yield fit


def _estimate_noise(data: NDArray[np.float32], first: Estimator, settings: GlmSettings) -> RunNoise:
    """Estimate the noise of a run from voxels spread over the mask; white if there are too few volumes."""
    if int((~first.starts).sum()) < FEW_PAIRS or first.dof < FEWEST_FREE:
        return RunNoise(WHITE)
    y = np.asarray(data[:: -(-len(data) // MOST_POOLED)].T, np.float64)
    kind: ArmaKind = "ar1" if settings.noise == "ar1" else "arma11"
    return estimate_run_noise(y - first.basis @ (first.basis.T @ y), Likelihood(first.basis, first.starts), kind)
