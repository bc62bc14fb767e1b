"""Fit several bands of features to aligned responses, by weights of units or of items, and permute the joint model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brainmap.rsa.encoding.bands import (
    BandedEncoding,
    BandSettings,
    build_joint_designs,
    draw_weights,
    fit_by_items,
    himalaya_backend,
    join_layers,
    scale_units,
    score_bands,
    score_bands_in_folds,
)
from brainmap.rsa.encoding.folds import Folds, Places, yield_inner_splits
from brainmap.rsa.encoding.permutations import Refit, average_regions
from brainmap.rsa.encoding.responses import FeatureSpace, Responses
from brainmap.rsa.encoding.ridge import move_to_numpy
from brainmap.types import Floats


def fit_bands(
    bands: Mapping[str, Sequence[FeatureSpace]], responses: Responses, folds: Folds, settings: BandSettings
) -> BandedEncoding:
    """Fit bands, by name, to aligned responses.

    Where units are fewer than the training items, weights of units are fitted, else those of items; the predictions are
    the same.
    """
    units = sum(space.shape[1] for band in bands.values() for space in band)
    if units >= min(len(folds.split(k)[0]) for k in range(folds.n_folds)) * (1 - 1 / settings.inner_folds):
        return fit_by_items(bands, responses, folds, settings)
    own, y = tuple(tuple(one) for one in bands.values()), responses.mean
    arrays = [join_layers(band) for band in own]

    def fit(chosen: Sequence[int], seed: int) -> tuple[Floats, Floats, Floats]:
        return _fit_units([arrays[k] for k in chosen], y, folds, settings, seed)

    table = score_bands(list(bands), fit, responses, settings)
    return BandedEncoding(table, tuple(bands), own, responses, folds, settings)


def permute_bands(fit: BandedEncoding, orders: Places, regions: Sequence[str]) -> Floats:
    """Score the joint model of equal weights with the items in some orders `(n_orders, n_items)`, the true one first.

    Returns
    -------
    ndarray (n_orders, n_regions)
        Mean r over the targets of each region.
    """
    designs = build_joint_designs(fit.spaces, fit.folds, fit.settings.device)
    refit, roi = Refit.from_designs(designs, fit.folds, fit.settings), fit.responses.targets["roi"].to_numpy()
    return np.concatenate([average_regions(r, roi, regions) for r in refit.yield_scores(fit.responses.mean, orders)])


def _fit_units(
    arrays: Sequence[Floats], y: Floats, folds: Folds, settings: BandSettings, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Return R2 and r `(n_targets,)` of a model of some bands, and their product shares, by weights of units.

    Units are z-scored by the training items and divided by the square root of the number of those that vary, so that
    the products of a band with itself are its kernel in `build_band_kernels`.
    """
    from himalaya.ridge import solve_group_ridge_random_search

    def predict(_: int, train: Places, test: Places) -> Floats:
        scaled = [scale_units(x, train) for x in arrays]
        means = [x[train].mean(axis=0) for x in scaled]
        offset = y[train].mean(axis=0)
        with himalaya_backend(settings.device) as backend:
            _, weights, *_ = solve_group_ridge_random_search(
                [backend.asarray(x[train] - mean) for x, mean in zip(scaled, means, strict=True)],
                backend.asarray(y[train] - offset),
                n_iter=draw_weights(len(arrays), settings.n_iter, seed),
                alphas=backend.asarray(settings.alphas),
                cv=yield_inner_splits(folds.group[train], settings.inner_folds),
                fit_intercept=True,
                return_weights=True,
                progress_bar=False,
                warn=False,
            )
            every = move_to_numpy(backend.to_cpu(weights))
        own = np.split(every, np.cumsum([x.shape[1] for x in scaled])[:-1])
        return np.stack([(x[test] - mean) @ part for x, mean, part in zip(scaled, means, own, strict=True)])

    return score_bands_in_folds(len(arrays), y, folds, predict)
