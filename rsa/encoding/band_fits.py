"""Fit several bands of features to aligned responses, by weights of units or of items, and permute the joint model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.encoding.bands import (
    BAND_ALPHAS,
    BandedEncoding,
    BandSettings,
    Fit,
    build_band_kernels,
    build_joint_designs,
    draw_weights,
    fit_subset,
    himalaya_backend,
    join_layers,
    name_bands,
    scale_units,
    score_bands,
    score_bands_in_folds,
)
from brainmap.rsa.encoding.folds import Folds, Places, yield_inner_splits
from brainmap.rsa.encoding.permutations import Refit, average_regions
from brainmap.rsa.encoding.responses import Features, FeatureSpace, Responses
from brainmap.rsa.encoding.ridge import check_alphas, find_device, move_to_numpy
from brainmap.rsa.encoding.stories import align_stories
from brainmap.types import Device, Floats


def fit_bands(
    bands: Mapping[str, Sequence[FeatureSpace]], responses: Responses, folds: Folds, settings: BandSettings
) -> BandedEncoding:
    """Fit bands, by name, to aligned responses.

    Where units are fewer than the training items, weights of units are fitted, else those of items; the predictions are
    the same.
    """
    own, y = tuple(tuple(one) for one in bands.values()), responses.mean
    units = sum(space.shape[1] for band in own for space in band)
    fit: Fit
    if units < min(len(folds.split(k)[0]) for k in range(folds.n_folds)) * (1 - 1 / settings.inner_folds):
        arrays = [join_layers(band) for band in own]

        def fit(chosen: Sequence[int], seed: int) -> tuple[Floats, Floats, Floats]:
            return _fit_units([arrays[k] for k in chosen], y, folds, settings, seed)

    else:
        kernels = build_band_kernels(own, folds)

        def fit(chosen: Sequence[int], seed: int) -> tuple[Floats, Floats, Floats]:
            return fit_subset(chosen, kernels, y, folds, settings, seed=seed)

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


def encode_story_bands(
    bands: Features,
    responses: Mapping[str, NDArray[np.floating] | Sequence[NDArray[np.floating]]],
    *,
    t_r: float,
    alphas: Sequence[float] | NDArray[np.floating] | None = None,
    inner_folds: int = 5,
    n_iter: int = 20,
    seeds: Sequence[int] = (0,),
    device: Device = "auto",
    **settings: Any,
) -> BandedEncoding:
    """Predict time courses from several bands of windows at once, and tell what each band alone explains.

    The layers of a network and simple features of speech (`brainmap.features.speech_features`) are bands with a
    penalty each, as in `encode_bands`; stories are as in `encode_stories`. Where units (times delays) are fewer than
    the training scans, weights of units are fitted, else those of scans; the predictions are the same.

    Parameters
    ----------
    bands : mapping of band to feature set, or feature set
        Of several feature sets each is a band with all its layers; of one, each layer is a band.
    responses, t_r
        As in `encode_stories`.
    alphas
        As in `encode_bands`.
    inner_folds
        As in `encode_stories`.
    n_iter, seeds
        As in `encode_bands`.
    device, **settings
        As in `encode_stories`.

    Returns
    -------
    BandedEncoding
        `.scores`, `.test()`, `.preference()`; items are scans.

    Raises
    ------
    InputError
        As in `encode_stories`, or there are no seeds, or `n_iter` is below 1.

    References
    ----------
    Dupré la Tour et al. 2022, doi:10.1016/j.neuroimage.2022.119728
    """
    if n_iter < 1 or not seeds:
        raise InputError(
            f"encode_story_bands: expected n_iter and at least one seed, got n_iter={n_iter}, seeds={list(seeds)}"
        )
    found = align_stories(bands, responses, t_r=t_r, **settings)
    asked = BandSettings(
        alphas=check_alphas(BAND_ALPHAS if alphas is None else alphas),
        inner_folds=inner_folds,
        device=find_device(device),
        n_iter=n_iter,
        seeds=tuple(int(seed) for seed in seeds),
    )
    return fit_bands(name_bands(found.spaces), found.responses, found.folds, asked)
