"""Fit one layer in all folds, or to all items; what is learned comes from training items only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.resources import require_memory
from brainmap.rsa.encoding.folds import Folds, Places, yield_inner_splits
from brainmap.rsa.encoding.responses import FeatureSpace, Responses
from brainmap.rsa.encoding.ridge import (
    Design,
    Scaler,
    build_error_operator,
    choose_alphas,
    choose_and_predict,
    measure_losses,
    move_like,
    move_to_device,
    move_to_numpy,
    solve_dual,
)
from brainmap.types import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodingSettings:
    """Hold how ridge regression is fitted: penalties, inner folds, components, and the device."""

    alphas: Floats
    inner_folds: int = 5
    components: int | None = None
    device: str | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """Hold what a layer predicts in all folds.

    Attributes
    ----------
    predicted : ndarray (n_items, n_targets)
        Each item is predicted by the model of the fold in which it is tested.
    best : int array (n_folds, n_targets)
        The place of the chosen alpha.
    constant_units : int
        Largest number of units that are constant over the training items of a fold.
    """

    predicted: Floats
    best: Places
    constant_units: int


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """Hold the weights of a layer that is fitted to all items, for z-scored units.

    A response is predicted as ((x - mean) / sd) @ weights + intercept; units with sd 0 are constant and have weight 0.

    Attributes
    ----------
    weights : ndarray (n_units, n_targets)
    mean, sd : ndarray (n_units,)
    intercept : ndarray (n_targets,)
    alpha : ndarray (n_targets,)
    targets : DataFrame (n_targets,)
        `roi` and `voxel` of each target.
    """

    weights: Floats
    mean: Floats
    sd: Floats
    intercept: Floats
    alpha: Floats
    targets: pd.DataFrame

    def predict(self, x: NDArray[np.floating]) -> Floats:
        """Predict responses `(n_items, n_targets)` from features `(n_items, n_units)`."""
        scaler = Scaler(self.mean, self.sd)
        return scaler(np.asarray(x, np.float64).reshape(len(x), -1)) @ self.weights + self.intercept


def check_kernels(n_items: int, n_kernels: int) -> None:
    """Refuse kernels of more items than memory allows, and the four more that are made of one on the way to a fit.

    Raises
    ------
    InputError
        Less memory is available.
    """
    if n_kernels:
        require_memory(
            8.0 * n_items**2 * (n_kernels + 4),
            what=f"encoding: {n_kernels} kernels of {n_items:,} items",
            do="reduce the units below the number of items (features activations --reduce), average tokens first "
            "(items='condition'), or take fewer folds",
        )


def build_designs(
    space: FeatureSpace, trains: Sequence[Places], settings: EncodingSettings
) -> tuple[list[Design], int]:
    """Scale the units of a layer by each set of training items; also count the units that are constant in one of them.

    Where units outnumber training items, only the kernels are kept, summed over parts of the units.
    """
    n_items, n_units = space.shape
    kernel = n_units >= min(map(len, trains))
    check_kernels(n_items, len(trains) if kernel else 0)
    constant = np.zeros(len(trains), np.intp)
    if kernel:
        arrays = [np.zeros((n_items, n_items)) for _ in trains]
        for x in space.slabs():
            for k, train in enumerate(trains):
                scaler = Scaler.of(x[train])
                z = scaler(x)
                arrays[k] += z @ z.T
                constant[k] += scaler.n_constant
    else:
        x = space.whole()
        scalers = [Scaler.of(x[train]) for train in trains]
        arrays = [scaler(x) for scaler in scalers]
        constant += [scaler.n_constant for scaler in scalers]
    if constant.min() == n_units:
        raise InputError(
            f"encoding: expected units that vary, got {n_units} constant ones in {space.name}; leave it out"
        )
    designs = [Design(move_to_device(array, settings.device), kernel, settings.components) for array in arrays]
    return designs, int(constant.max())


def fit_folds(space: FeatureSpace, y: Floats, folds: Folds, settings: EncodingSettings) -> Fitted:
    """Fit a layer to responses `(n_items, n_targets)` in each fold, and predict the test items."""
    splits = [folds.split(k) for k in range(folds.n_folds)]
    designs, constant = build_designs(space, [train for train, _ in splits], settings)
    there = move_to_device(y, settings.device)
    predicted, best = np.empty(y.shape), np.empty((folds.n_folds, y.shape[1]), np.intp)
    for k, ((train, test), design) in enumerate(zip(splits, designs, strict=True)):
        inner = yield_inner_splits(folds.group[train], settings.inner_folds)
        operators = build_error_operator(design, train, inner, settings.alphas)
        _, chosen, predicted[test] = choose_and_predict(
            operators, design.factor(train, test), there[train], settings.alphas
        )
        best[k] = move_to_numpy(chosen)
    return Fitted(predicted, best, constant)


def fit_weights_of_layer(
    space: FeatureSpace, responses: Responses, group: Places, settings: EncodingSettings
) -> LayerWeights:
    """Fit a layer to all items, and return the weights of its units."""
    every = np.arange(len(responses.items))
    (design,), _ = build_designs(space, [every], settings)
    y = move_to_device(responses.mean, settings.device)
    inner = yield_inner_splits(group, settings.inner_folds)
    chosen = choose_alphas(measure_losses(build_error_operator(design, every, inner, settings.alphas), y))
    dual = move_to_numpy(solve_dual(design, every, y, move_like(settings.alphas, y)[chosen]))
    scalers, weights = [], []
    for x in space.slabs():
        scaler = Scaler.of(x)
        scalers.append(scaler)
        weights.append(scaler(x).T @ dual)
    return LayerWeights(
        np.concatenate(weights),
        np.concatenate([scaler.mean for scaler in scalers]),
        np.concatenate([scaler.sd for scaler in scalers]),
        responses.mean.mean(axis=0),
        settings.alphas[move_to_numpy(chosen)],
        responses.targets,
    )
