"""Estimators: a design becomes weights over volumes once, and the betas of all voxels are one product with them.

Least squares, separate (LSS): the beta of a trial comes from a model of that trial, all others together, and what
is of no interest. Those models share all but two regressors, so the shared part is factorized once for all trials,
and each trial costs a system of two unknowns instead of a refit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from brainmap.errors import InputError
from brainmap.rsa._design import GlmSettings, RunDesign, dependent_columns, orthogonal

Floats = NDArray[np.float64]

_BINS = 100  # autocorrelations are cut to hundredths, as in nilearn
FEW_PAIRS = 20  # fewer volumes in a row do not tell an autocorrelation
_CHUNK = 4096  # voxels at a time: 10 MB for 300 volumes
_SAME = 1e-7


def whitened(x: Floats, rho: float, starts: NDArray[np.bool_]) -> Floats:
    """Volumes less `rho` times the one before, but for those that follow a gap; `(n_volumes, ...)`."""
    if rho == 0:
        return x
    out = x.copy()
    follow = np.flatnonzero(~starts)
    out[follow] -= rho * x[follow - 1]
    return out


@dataclass(frozen=True, eq=False)
class Estimator:
    """What turns the (whitened) volumes of a run into betas and residuals.

    Attributes
    ----------
    weights : ndarray (n_volumes, n_betas)
        The betas are their products with the volumes.
    basis : ndarray (n_volumes, rank)
        What the model explains, orthonormal; the residuals are the rest.
    """

    weights: Floats
    basis: Floats

    @property
    def covariance(self) -> Floats:
        """Of the betas, in units of the variance of one volume's noise, `(n_betas, n_betas)`."""
        return np.asarray(self.weights.T @ self.weights)

    @property
    def dof(self) -> int:
        """Volumes less what the model explains."""
        return int(len(self.basis) - self.basis.shape[1])


def estimator(design: RunDesign, settings: GlmSettings, rho: float = 0.0) -> Estimator:
    """The estimator of a run whose noise has autocorrelation `rho`.

    For "condition" and "lsa" this is the pseudoinverse; for "lss" each trial has a model of its own, and the
    residuals are those of the model with a regressor a trial.

    References
    ----------
    Mumford et al. (2012), https://doi.org/10.1016/j.neuroimage.2011.08.076
    """
    starts = design.timing.starts
    x = whitened(design.matrix.to_numpy(float), rho, starts)
    if settings.model == "lss":
        keep = np.delete(np.arange(x.shape[1]), dependent_columns(x[:, ::-1]))  # the constant and drifts come first
        basis = np.linalg.qr(x[:, ::-1][:, keep])[0]
        return Estimator(_separate(design, settings, rho), basis)
    lengths = np.linalg.norm(x, axis=0)
    basis, r = np.linalg.qr(x / lengths)
    inverse = solve_triangular(r, np.eye(len(r)))[design.interest] / lengths[design.interest, None]
    return Estimator(basis @ inverse.T, basis)


def _separate(design: RunDesign, settings: GlmSettings, rho: float) -> Floats:
    """The weights of every trial's beta in its own model, `(n_volumes, n_betas)`."""
    starts, n_betas = design.timing.starts, len(design.labels)
    task = {k + j for k in design.interest.tolist() for j in range(design.n_kernels)}
    shared = [k for k in range(design.matrix.shape[1]) if k not in task]
    nuisance = np.linalg.qr(whitened(design.matrix.to_numpy(float)[:, shared], rho, starts))[0]
    own = np.stack([_models(design, settings, trial) for trial in range(n_betas)])  # (n_betas, n_volumes, few)
    flat = whitened(own.transpose(1, 0, 2).reshape(own.shape[1], -1), rho, starts)
    flat -= nuisance @ (nuisance.T @ flat)
    models = flat.reshape(len(flat), n_betas, -1).transpose(1, 0, 2)
    lengths = np.linalg.norm(models, axis=1, keepdims=True)
    scaled = models / np.where(lengths > _SAME * lengths.max(), lengths, np.inf)
    weights = np.linalg.pinv(scaled, rcond=1e-9)[:, 0] / lengths[:, :, 0]
    # Weights that do not give back the trial's own regressor belong to one that others explain.
    back = np.einsum("tn,nt->t", weights, models[:, :, 0].T)
    lost = np.flatnonzero(~(np.abs(back - 1) < 1e-6))
    if lost.size:
        raise InputError(
            f"design: the trial {design.labels[lost[0]]!r} cannot be told from the others or the confounds "
            f"({lost.size} such trials); put events apart or leave some out"
        )
    return np.asarray(weights.T)


def _models(design: RunDesign, settings: GlmSettings, trial: int) -> Floats:
    """The trial's own regressors, then those of all others together (or of the others of each condition)."""
    conditions = np.array(design.conditions)
    others = np.arange(len(conditions)) != trial
    groups = [others]
    if settings.others == "condition":
        groups = [others & (conditions == name) for name in dict.fromkeys(design.conditions)]
    blocks = [design.trials[:, trial], *(design.trials[:, group].sum(axis=1) for group in groups)]
    return np.hstack([orthogonal(block) if block.any() else block for block in blocks])


@dataclass(frozen=True, eq=False)
class RunFit:
    """What least squares found in one run, voxels last.

    Attributes
    ----------
    betas, variances : ndarray (n_betas, n_voxels) of float32
    residuals : ndarray (n_volumes, n_voxels) of float32
        Whitened where the noise model is AR(1).
    squares : ndarray (n_voxels,)
        Sum of the squared residuals.
    rho : ndarray (n_voxels,)
        Autocorrelation of the residuals of ordinary least squares.
    dof : int
    """

    betas: NDArray[np.float32]
    variances: NDArray[np.float32]
    residuals: NDArray[np.float32]
    squares: Floats
    rho: Floats
    dof: int


@dataclass(frozen=True, eq=False)
class _Estimators:
    """The estimators of a run, made when an autocorrelation is first met."""

    design: RunDesign
    settings: GlmSettings
    made: dict[float, Estimator] = field(default_factory=dict)

    def __getitem__(self, rho: float) -> Estimator:
        if rho not in self.made:
            self.made[rho] = estimator(self.design, self.settings, rho)
        return self.made[rho]


def fit_run(data: NDArray[np.float32], design: RunDesign, settings: GlmSettings) -> Iterator[int | RunFit]:
    """Fit one run a few thousand voxels at a time; gives the number of voxels after each, and at last the fit.

    Parameters
    ----------
    data : ndarray (n_voxels, n_volumes)
        Every voxel finite and not constant.
    design : RunDesign
    settings : GlmSettings
    """
    n_voxels, n_volumes = data.shape
    all_of = _Estimators(design, settings)
    first, starts = all_of[0.0], design.timing.starts
    if first.dof < 1:
        raise InputError(f"design: {n_volumes} volumes leave no degree of freedom; leave out confounds or trials")
    n_betas = len(design.labels)
    fit = RunFit(
        np.empty((n_betas, n_voxels), np.float32), np.empty((n_betas, n_voxels), np.float32),
        np.empty((n_volumes, n_voxels), np.float32), np.empty(n_voxels), np.empty(n_voxels), first.dof,
    )  # fmt: skip
    whiten = settings.noise == "ar1" and design.timing.pairs >= FEW_PAIRS
    for start in range(0, n_voxels, _CHUNK):
        part = slice(start, min(start + _CHUNK, n_voxels))
        y = np.ascontiguousarray(data[part].T, dtype=np.float64)
        residuals = y - first.basis @ (first.basis.T @ y)
        fit.rho[part] = autocorrelation(residuals, starts)
        cut = np.trunc(fit.rho[part] * _BINS) / _BINS if whiten else np.zeros(y.shape[1])
        for rho in np.unique(cut):
            here = np.flatnonzero(cut == rho)
            one = all_of[float(rho)]
            volumes = y if len(here) == y.shape[1] else y[:, here]
            if rho:
                volumes = whitened(volumes, float(rho), starts)
                left = volumes - one.basis @ (one.basis.T @ volumes)
            else:
                left = residuals if len(here) == y.shape[1] else residuals[:, here]
            at = here + start
            squares = np.einsum("nv,nv->v", left, left)
            fit.betas[:, at] = one.weights.T @ volumes
            fit.variances[:, at] = np.outer((one.weights**2).sum(axis=0), squares / one.dof)
            fit.residuals[:, at], fit.squares[at] = left, squares
        yield y.shape[1]
    yield fit


def autocorrelation(residuals: Floats, starts: NDArray[np.bool_]) -> Floats:
    """Lag-1 autocorrelation of each column, as nilearn's Yule-Walker has it, over volumes without a gap between."""
    follow = np.flatnonzero(~starts)
    if follow.size == 0:
        return np.zeros(residuals.shape[1])
    power = np.einsum("nv,nv->v", residuals, residuals) / len(residuals)
    if follow.size == len(residuals) - 1:
        lagged = np.einsum("nv,nv->v", residuals[1:], residuals[:-1])
    else:
        lagged = np.einsum("nv,nv->v", residuals[follow], residuals[follow - 1])
    found = np.divide(lagged / follow.size, power, out=np.zeros_like(power), where=power > 0)
    return np.asarray(np.clip(found, -0.99, 0.99))
