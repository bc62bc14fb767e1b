"""Fit ridge regression to many permuted time courses from products within stories, which all folds share.

Every training and test set is a union of whole stories. Products of the units with the responses are summed within each
story once; the fits, their errors and their correlations in all folds follow from these sums alone, so that no fold
touches scans again. Where scans outnumber units many times, this takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import TypeVar

import numpy as np

from brainmap.rsa.encoding.fits import EncodingSettings
from brainmap.rsa.encoding.folds import Folds, Places, yield_inner_splits
from brainmap.rsa.encoding.ridge import Scaler, choose_alphas
from brainmap.rsa.encoding.scores import CONSTANT, measure_influence
from brainmap.types import Floats

_FLAT = 1e-11  # share of a sum of squares below which a variance is rounding


@dataclass(frozen=True, eq=False)
class _Units:
    """Hold sums of the units over the items of one or several stories: n, sum `(n_units,)` and products."""

    n: int
    x: Floats
    xx: Floats

    def center(self, mean: Floats) -> Floats:
        """Return the products of units less a mean."""
        cross = np.outer(self.x, mean)
        return np.asarray(self.xx - cross - cross.T + self.n * np.outer(mean, mean))


@dataclass(frozen=True, eq=False)
class _Responses:
    """Hold sums of the responses over the items of one or several stories, and their products with the units."""

    y: Floats
    yy: Floats
    xy: Floats


_Sums = TypeVar("_Sums", _Units, _Responses)


def _add_stories(sums: Sequence[_Sums], stories: Sequence[int]) -> _Sums:
    """Add up the sums of some stories."""
    kind = type(sums[0])
    return kind(*(reduce(add, [getattr(sums[k], one.name) for k in stories]) for one in fields(kind)))


@dataclass(frozen=True, eq=False)
class _Fit:
    """Hold what a fit to some stories (the training) and its errors in others need of the units alone.

    Attributes
    ----------
    train, test : tuple of int
        The stories.
    units, tested : _Units
    vectors : ndarray (n_units, rank)
        Eigenvectors of the centered and scaled units, times the scale.
    values : ndarray (rank,)
    products : ndarray (rank, rank)
        Products of the test units, less the training mean, in the coordinates of the eigenvectors.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    units: _Units
    tested: _Units
    vectors: Floats
    values: Floats
    products: Floats

    def project(self, sums: Sequence[_Responses]) -> tuple[_Responses, _Responses, Floats]:
        """Return the sums over training and test, and the products of centered units and responses of training."""
        own, other = (_add_stories(sums, part) for part in (self.train, self.test))
        mean = self.units.x / self.units.n
        return own, other, np.asarray(self.vectors.T @ (own.xy - np.outer(mean, own.y)))

    def measure_losses(self, sums: Sequence[_Responses], alphas: Floats) -> Floats:
        """Return the mean squared error of the test items `(n_alphas, n_targets)`."""
        own, other, c = self.project(sums)
        m, mean, n = self.units.x / self.units.n, own.y / self.units.n, self.tested.n
        e = self.vectors.T @ (other.xy - np.outer(m, other.y) - np.outer(self.tested.x - n * m, mean))
        rest, cross = other.yy - 2 * mean * other.y + n * mean**2, e * c
        found = np.empty((len(alphas), len(mean)))
        for k, alpha in enumerate(alphas):
            shrink = 1 / (self.values + alpha)
            scaled = shrink[:, None] * c
            found[k] = rest - 2 * shrink @ cross + np.einsum("kv,kv->v", scaled, self.products @ scaled)
        return found / n


@dataclass(frozen=True, eq=False)
class StoryRefit:
    """Hold the units of a layer, to fit responses in permuted orders; alphas are chosen again for each.

    Units are scaled in each fold by its training stories, as everywhere.

    Attributes
    ----------
    x : ndarray (n_items, n_units)
    folds : Folds
    alphas : ndarray (n_alphas,)
    outer : list of _Fit
        The fit of each fold.
    inner : list of lists of _Fit
        The fits among its training stories that choose alpha.
    """

    x: Floats
    folds: Folds
    alphas: Floats
    outer: list[_Fit]
    inner: list[list[_Fit]]

    @classmethod
    def of(cls, x: Floats, folds: Folds, settings: EncodingSettings) -> StoryRefit:
        """Factor the units `(n_items, n_units)` in each fold."""
        places = folds.members
        units = [_Units(len(own), x[own].sum(axis=0), x[own].T @ x[own]) for own in places]
        outer: list[_Fit] = []
        inner: list[list[_Fit]] = []
        for k in range(folds.n_folds):
            train, test = folds.split(k)
            sd = Scaler.of(x[train]).sd
            scale = np.where(sd > 0, 1 / np.where(sd > 0, sd, 1.0), 0.0)
            group = folds.group[train]

            def fit(one: Places, other: Places, scale: Floats = scale) -> _Fit:
                return _factor(units, np.unique(one).tolist(), np.unique(other).tolist(), scale, settings.components)

            outer.append(fit(group, folds.group[test]))
            inner.append([fit(group[a], group[b]) for a, b in yield_inner_splits(group, settings.inner_folds)])
        return cls(x, folds, settings.alphas, outer, inner)

    def score_folds(self, y: Floats) -> tuple[Floats, Floats]:
        """Return what `Refit.score_folds` returns, for responses `(n_items, n_targets)`."""
        sums = self._sum_stories(y)
        r, share = (np.empty((self.folds.n_folds, y.shape[1])) for _ in range(2))
        for k, fit in enumerate(self.outer):
            losses = self._measure_losses(k, sums)
            own, other, weights, intercept = self._solve(fit, sums, losses)
            r[k] = _correlate(fit.tested, other, weights, intercept)
            variance = own.yy / fit.units.n - np.square(own.y / fit.units.n)
            share[k] = 1 - losses.min(axis=0) / np.where(variance > 0, variance, np.nan)
        return r, share

    def measure_influence(self, y: Floats) -> Floats:
        """Return how much each item moves the mean r over folds, as `Refit.measure_influence` does."""
        sums, found = self._sum_stories(y), np.empty(y.shape)
        for k, fit in enumerate(self.outer):
            _, test = self.folds.split(k)
            _, _, weights, intercept = self._solve(fit, sums, self._measure_losses(k, sums))
            found[test] = measure_influence(self.x[test] @ weights + intercept, y[test]) / self.folds.n_folds
        return found

    def _sum_stories(self, y: Floats) -> list[_Responses]:
        """Sum over the items of each story."""
        own = ((self.x[places], y[places]) for places in self.folds.members)
        return [_Responses(b.sum(axis=0), np.einsum("iv,iv->v", b, b), a.T @ b) for a, b in own]

    def _measure_losses(self, k: int, sums: Sequence[_Responses]) -> Floats:
        """Return the cross-validated mean squared error `(n_alphas, n_targets)` that chooses alpha in a fold."""
        return np.asarray(np.mean([fit.measure_losses(sums, self.alphas) for fit in self.inner[k]], axis=0))

    def _solve(
        self, fit: _Fit, sums: Sequence[_Responses], losses: Floats
    ) -> tuple[_Responses, _Responses, Floats, Floats]:
        """Return the sums over training and test, the weights `(n_units, n_targets)`, and the intercepts."""
        own, other, c = fit.project(sums)
        weights = fit.vectors @ (c / (fit.values[:, None] + self.alphas[choose_alphas(losses)]))
        return own, other, weights, own.y / fit.units.n - fit.units.x / fit.units.n @ weights


def _factor(
    units: Sequence[_Units], train: Sequence[int], test: Sequence[int], scale: Floats, components: int | None
) -> _Fit:
    """Factor the scaled units of training stories, with the products of those of test stories."""
    own, other = (_add_stories(units, part) for part in (train, test))
    mean, both = own.x / own.n, np.outer(scale, scale)
    values, vectors = np.linalg.eigh(own.center(mean) * both)
    kept = values > own.n * np.finfo(np.float64).eps * values.max(initial=0.0)  # others are rounding
    if components is not None:
        kept[: max(0, len(values) - components)] = False
    scaled = scale[:, None] * vectors[:, kept]
    products = scaled.T @ other.center(mean) @ scaled
    return _Fit(tuple(train), tuple(test), own, other, scaled, values[kept], products)


def _correlate(tested: _Units, other: _Responses, weights: Floats, intercept: Floats) -> Floats:
    """Correlate predictions and responses within a test fold; NaN where one of them is constant."""
    n, mean = tested.n, tested.x / tested.n
    pp, size = np.einsum("kv,kv->v", weights, tested.center(mean) @ weights), np.square(weights).T @ np.diag(tested.xx)
    level = mean @ weights + intercept
    pp = np.where(pp > np.maximum(CONSTANT**2 * n * level**2, _FLAT * size), pp, 0.0)
    yy = other.yy - other.y**2 / n
    yy = np.where(yy > np.maximum(CONSTANT**2 * other.y**2 / n, _FLAT * other.yy), yy, 0.0)
    py, scale = np.einsum("kv,kv->v", weights, other.xy - np.outer(mean, other.y)), np.sqrt(pp * yy)
    return np.asarray(py / np.where(scale > 0, scale, np.nan))
