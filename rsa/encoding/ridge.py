"""Solve ridge regression for many targets and penalties at once, in the primal or in the kernel form.

Both forms give predictions A diag(1 / (l + alpha)) U'(Y - mean Y) + mean Y of test items, where l are the squared
singular values of the centered training features Z = U S V', and A = Z_test V S. The kernel form takes U and l from the
eigenvectors of Z Z', and A = Z_test Z' U, so that it never holds more than items x items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.resources import find_float64_device
from brainmap.rsa.encoding.folds import Places
from brainmap.types import Device, Floats

ALPHAS = tuple(float(a) for a in np.logspace(-1, 8, 13))
_TARGETS = 4096  # targets whose residuals under all alphas are in memory at once
_FLAT = 1e-13  # a unit that varies by less than this share of its size is constant


@dataclass(frozen=True, eq=False)
class Scaler:
    """Hold mean and standard deviation of each unit over training items; constant units have the deviation 0."""

    mean: Floats
    sd: Floats

    @classmethod
    def of(cls, x: Floats) -> Scaler:
        """Measure the units of training items `(n_items, n_units)`."""
        mean = x.mean(axis=0)
        sd = np.sqrt(np.square(x - mean).mean(axis=0))
        return cls(mean, np.where(sd > _FLAT * np.abs(x).max(axis=0, initial=0.0), sd, 0.0))

    def __call__(self, x: Floats) -> Floats:
        """Z-score units; constant ones become 0."""
        varies = self.sd > 0
        scaled = (x - self.mean) / np.where(varies, self.sd, 1.0)
        return scaled if varies.all() else scaled * varies

    @property
    def n_constant(self) -> int:
        """Count the constant units."""
        return int((self.sd == 0).sum())


@dataclass(frozen=True, eq=False)
class Design:
    """Hold features of all items, scaled by those of training, as features or as their kernel.

    Attributes
    ----------
    array : ndarray (n_items, n_units) or (n_items, n_items)
    kernel : bool
        Whether the array is the kernel.
    components : int, optional
        Keep this number of principal components, which are those of the training items of each call.
    """

    array: Any
    kernel: bool
    components: int | None = None

    def factor(self, train: Places, test: Places) -> tuple[Any, Any, Any]:
        """Return A `(n_test, rank)`, U `(n_train, rank)` and l `(rank,)` of predictions from train to test."""
        xp = find_array_module(self.array)
        if not self.kernel:
            mean = self.array[train].mean(0)
            u, s, vt = xp.linalg.svd(self.array[train] - mean, full_matrices=False)
            if self.components is not None:
                u, s, vt = u[:, : self.components], s[: self.components], vt[: self.components]
            return (self.array[test] - mean) @ vt.T * s, u, s**2
        own, cross = self.array[train][:, train], self.array[test][:, train]
        row, whole = own.mean(0), own.mean()
        own = own - row - row[:, None] + whole
        values, u = xp.linalg.eigh(own)
        kept = values > len(train) * np.finfo(np.float64).eps * values.max()  # others are rounding
        if self.components is not None:
            kept[: max(0, len(train) - self.components)] = False
        u, values = u[:, kept], values[kept]
        return (cross - row - cross.mean(1)[:, None] + whole) @ u, u, values


def find_array_module(array: Any) -> Any:
    """Return the module that computes with an array: numpy, or torch for tensors."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def find_device(device: Device) -> str | None:
    """Return the torch device on which ridge regression runs in float64, or None for numpy on the CPU.

    Raises
    ------
    InputError
        cuda is asked for and there is none, or mps is, which has no float64.
    """
    return find_float64_device(device, "encoding")


def move_to_device(array: NDArray[Any], device: str | None) -> Any:
    """Return an array as a float64 tensor on the device, or as it is if there is none."""
    if device is None:
        return array
    import torch

    return torch.as_tensor(np.ascontiguousarray(array), device=device)


def move_to_numpy(array: Any) -> NDArray[Any]:
    """Return an array or a tensor as an array."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.cpu())


def check_alphas(alphas: Sequence[float] | NDArray[np.floating] | float | None) -> Floats:
    """Return the penalties in increasing order.

    Raises
    ------
    InputError
        There are none, or one is not above 0.
    """
    found = np.unique(np.atleast_1d(np.asarray(ALPHAS if alphas is None else alphas, dtype=np.float64)))
    if not found.size or not np.isfinite(found).all() or found[0] <= 0:
        raise InputError(f"encoding: expected alphas above 0, got {np.asarray(alphas).tolist()}")
    return found


@dataclass(frozen=True, eq=False)
class FactoredErrors:
    """Hold the errors of one inner split as factors, which are cheaper where items outnumber units many times.

    The squared error of residuals r = y - mean of the validation items and predictions A D c, with c = U' y and
    D = diag(1 / (l + alpha)), is r'r - 2 (A'r)' D c + (D c)' A'A D c, so that no product has items x items x targets.

    Attributes
    ----------
    a : ndarray (n_validation, rank)
    u : ndarray (n_inner, rank)
    shrink : ndarray (n_alphas, rank)
        1 / (l + alpha).
    inner, held : int arrays
        Places among the training items.
    weight : float
        1 / (n_validation n_splits).
    """

    a: Any
    u: Any
    shrink: Any
    inner: Places
    held: Places
    weight: float

    def measure(self, y: Any) -> Any:
        """Return the squared errors `(n_alphas, n_targets)` of training responses `(n_train, n_targets)`."""
        xp = find_array_module(y)
        mean = y[self.inner].mean(0)
        c, r = self.u.T @ (y[self.inner] - mean), y[self.held] - mean
        whole, cross, gram = xp.einsum("iv,iv->v", r, r), (self.a.T @ r) * c, self.a.T @ self.a
        found = []
        for shrink in self.shrink:
            scaled = shrink[:, None] * c
            found.append(whole - 2 * shrink @ cross + xp.einsum("kv,kv->v", scaled, gram @ scaled))
        return xp.stack(found) * self.weight


def is_cheaper_factored(n_alphas: int, n_held: int, n_inner: int, rank: int) -> bool:
    """Tell whether factors cost much less per target than an operator of validation x training items.

    Examples
    --------
    >>> is_cheaper_factored(13, 540, 2160, 256), is_cheaper_factored(13, 26, 106, 64)
    (True, False)
    """
    factored = rank * (n_inner + n_held + n_alphas * rank)
    return 4 * factored < n_alphas * n_held * (n_inner + n_held)


def build_error_operator(
    design: Design, train: Places, splits: Iterable[tuple[Places, Places]], alphas: Floats
) -> Iterable[Any]:
    """Yield the operators that map training responses to validation errors, one for each inner split.

    The operator of a split is `(n_alphas, n_validation, n_train)`: its product with responses `(n_train, n_targets)` is
    the error of the responses to the validation items, divided by sqrt(n_validation n_splits), so that the sum of
    squares over all operators is the mean over splits of the mean squared error. Where it would be large, it is
    given as `FactoredErrors`.
    """
    splits = list(splits)
    for inner, held in splits:
        a, u, values = design.factor(train[inner], train[held])
        xp = find_array_module(a)
        penalty = move_like(alphas, a)
        if is_cheaper_factored(len(alphas), len(held), len(inner), len(values)):
            yield FactoredErrors(a, u, 1 / (values + penalty[:, None]), inner, held, 1 / (len(held) * len(splits)))
            continue
        hat = (a[None] / (values + penalty[:, None, None])) @ u.T
        hat = hat + (1.0 - hat.sum(2))[:, :, None] / len(inner)  # the mean of training is added to predictions
        operator = xp.zeros((len(alphas), len(held), len(train)), **_like(a))
        operator[:, :, inner] = -hat
        operator[:, np.arange(len(held)), held] += 1.0
        yield operator / (len(held) * len(splits)) ** 0.5


def move_like(array: NDArray[Any], other: Any) -> Any:
    """Return an array where another array or tensor is."""
    return array if isinstance(other, np.ndarray) else move_to_device(array, str(other.device))


def _like(array: Any) -> dict[str, Any]:
    """Return the arguments that make an array of the same kind."""
    return {"dtype": array.dtype} if isinstance(array, np.ndarray) else {"dtype": array.dtype, "device": array.device}


def measure_losses(operators: Iterable[Any], y: Any) -> Any:
    """Compute the cross-validated mean squared error `(n_alphas, n_targets)` of responses `(n_train, n_targets)`."""
    xp, total = find_array_module(y), None
    for operator in operators:
        if isinstance(operator, FactoredErrors):
            loss = xp.concatenate([operator.measure(y[:, k : k + _TARGETS]) for k in range(0, y.shape[1], _TARGETS)], 1)
            total = loss if total is None else total + loss
            continue
        n_alphas, n_held, n_train = operator.shape
        flat = operator.reshape(-1, n_train)
        parts = []
        for start in range(0, y.shape[1], _TARGETS):
            error = (flat @ y[:, start : start + _TARGETS]).reshape(n_alphas, n_held, -1)
            parts.append(xp.einsum("aiv,aiv->av", error, error))
        loss = xp.concatenate(parts, 1)
        total = loss if total is None else total + loss
    return total


def choose_alphas(losses: Any) -> Any:
    """Return the place of the best alpha of each target `(n_targets,)`; of equals, the largest is taken."""
    return len(losses) - 1 - find_array_module(losses).flip(losses, (0,)).argmin(0)


def predict(factors: tuple[Any, Any, Any], y: Any, alphas: Any) -> Any:
    """Predict test items `(n_test, n_targets)` from responses `(n_train, n_targets)` with one alpha per target."""
    a, u, values = factors
    mean = y.mean(0)
    return a @ ((u.T @ (y - mean)) / (values[:, None] + alphas[None, :])) + mean


def solve_dual(design: Design, train: Places, y: Any, alphas: Any) -> Any:
    """Return dual weights D `(n_train, n_targets)`; the weights of centered training features Z are Z' D."""
    _, u, values = design.factor(train, train[:1])
    scaled = (u.T @ (y - y.mean(0))) / (values[:, None] + alphas[None, :])
    return u @ scaled


def choose_and_predict(
    operators: Iterable[Any], factors: tuple[Any, Any, Any], y: Any, alphas: Floats
) -> tuple[Any, Any, Floats]:
    """Predict test items with the best alpha of each target.

    Parameters
    ----------
    operators : iterable
        Of `build_error_operator`, for the training items.
    factors : tuple
        Of `Design.factor`, for training and test items.
    y : array (n_train, n_targets)
    alphas : ndarray (n_alphas,)

    Returns
    -------
    losses : array (n_alphas, n_targets)
    chosen : array (n_targets,)
        The place of each target's alpha.
    predicted : ndarray (n_test, n_targets)
    """
    losses = measure_losses(operators, y)
    chosen = choose_alphas(losses)
    return losses, chosen, move_to_numpy(predict(factors, y, move_like(alphas, y)[chosen]))


def explain_training(losses: Any, y: Floats) -> Floats:
    """Return the share of the variance of training items that is predicted in the cross-validation of the alphas."""
    variance = y.var(axis=0)
    return np.asarray(1 - move_to_numpy(losses).min(axis=0) / np.where(variance > 0, variance, np.nan))
