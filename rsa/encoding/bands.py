"""Predict responses from several bands of features at once, and say what each of them adds: banded ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges
from brainmap.errors import InputError
from brainmap.groups import group_pairs
from brainmap.progress import progress
from brainmap.rsa.encoding.fits import EncodingSettings, check_kernels
from brainmap.rsa.encoding.folds import Folds, Groups, Places, yield_inner_splits
from brainmap.rsa.encoding.noise import correct_r2_for_noise, measure_reliability
from brainmap.rsa.encoding.permutations import Null, Refit, draw_orders, tabulate_p
from brainmap.rsa.encoding.responses import (
    SURFACE_COLUMNS,
    TARGET_COLUMNS,
    Features,
    FeatureSpace,
    Responses,
    align_items,
    divide_items,
)
from brainmap.rsa.encoding.ridge import (
    Design,
    Scaler,
    check_alphas,
    find_device,
    move_to_device,
    move_to_numpy,
)
from brainmap.rsa.encoding.scores import center, score_fold
from brainmap.types import Dataset, Device, EncodingTarget, Floats, Level, PermutationCorrection

BAND_COLUMNS = {
    "band": "band of features",
    **TARGET_COLUMNS,
    **SURFACE_COLUMNS,
    "r": "correlation of predictions from all bands with responses within test folds, mean over folds",
    "joint": "R2 of all bands together, within test folds, mean over folds",
    "joint_corrected": "joint / reliability",
    "unique": "joint less the R2 of a model without this band; may be negative",
    "product": "share of this band in joint (product measure); the shares of all bands sum to joint",
    "joint_spread": "standard deviation of joint over the seeds of the random search",
    "unique_spread": "standard deviation of unique over the seeds of the random search",
    "product_spread": "standard deviation of product over the seeds of the random search",
}
BAND_ALPHAS = tuple(float(a) for a in np.logspace(-4, 4, 13))


@dataclass(frozen=True, kw_only=True, eq=False)
class BandSettings(EncodingSettings):
    """Hold how banded ridge regression is fitted: the settings of ridge regression, and the random search."""

    n_iter: int = 50
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, eq=False)
class BandedEncoding:
    """Hold a banded encoding model of one participant.

    Attributes
    ----------
    scores : DataFrame
        A row for each band and target (see `BAND_COLUMNS`), means over the seeds of the random search.
    bands : tuple of str
    spaces : tuple of tuples of FeatureSpace
        The layers of each band.
    responses : Responses
    folds : Folds
    settings : BandSettings
    """

    scores: pd.DataFrame
    bands: tuple[str, ...]
    spaces: tuple[tuple[FeatureSpace, ...], ...]
    responses: Responses
    folds: Folds
    settings: BandSettings

    def test(
        self,
        *,
        permutations: int = 1000,
        correction: PermutationCorrection = "fdr",
        rng: np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """Test whether all bands together predict each target, by permuting the sounds.

        The test fits ridge regression with equal weights of the bands, since a random search for each permutation would
        take hours; it is valid for the hypothesis that no band is related to the responses.

        Returns
        -------
        DataFrame
            A row for each target: `roi`, `voxel`, `r` (of equal weights), `p`, `p_corrected`, `permutations`,
            `smallest_p`.
        """
        check_choice(correction, get_args(PermutationCorrection), "correction")
        orders, words = draw_orders(
            self.responses.items,
            self.responses.conditions,
            self.folds,
            permutations=permutations,
            rng=rng or np.random.default_rng(),
        )
        designs = build_joint_designs(self.spaces, self.folds, self.settings.device)
        refit = Refit.from_designs(designs, self.folds, self.settings)
        null = Null.of(refit.yield_scores(self.responses.mean, orders))
        return tabulate_p(self.responses.targets.copy(), null, correction, words)

    def preference(self, tested: pd.DataFrame | None = None, *, alpha: float = 0.05) -> pd.DataFrame:
        """Return the band with the largest product share of each target, where joint is above 0.

        Parameters
        ----------
        tested : DataFrame, optional
            What `test` returns; targets with p_corrected above `alpha` then have no preference.
        alpha : float

        Returns
        -------
        DataFrame
            `roi`, `voxel`, `band` (None where there is no preference), `share` (its part of joint).
        """
        n = len(self.responses.targets)
        product = self.scores["product"].to_numpy().reshape(len(self.bands), n)
        joint = self.scores["joint"].to_numpy()[:n]
        known = joint > 0
        if tested is not None:
            known &= tested["p_corrected"].to_numpy() <= alpha
        best = np.where(np.isnan(product), -np.inf, product).argmax(axis=0)
        share = np.where(known, product.max(axis=0) / np.where(known, joint, 1.0), np.nan)
        band = [self.bands[k] if there else None for k, there in zip(best, known, strict=True)]
        return self.responses.targets.assign(band=pd.Series(band, dtype=object), share=share)


def encode_bands(
    bands: Features,
    data: Dataset,
    *,
    groups: Groups = "condition",
    items: Level = "stimulus",
    layers: Sequence[str] | str = "all",
    targets: EncodingTarget = "voxel",
    alphas: Sequence[float] | NDArray[np.floating] | None = None,
    folds: int = 5,
    inner_folds: int = 5,
    n_iter: int = 50,
    seeds: Sequence[int] = (0, 1, 2),
    few_items: bool = False,
    descriptors: Mapping[str, Sequence[str]] | None = None,
    device: Device = "auto",
    rng: np.random.Generator | None = None,
) -> BandedEncoding:
    """Predict responses from several bands of features at once, and tell what each band alone explains.

    Each band has a penalty of its own, found for each voxel by random search over weights of the bands (himalaya),
    with alphas chosen by cross-validation among the training items. `unique` is what the joint model loses
    without a band, which is fitted again for each band. `product` parts the joint R2 so that the parts sum to it. Both
    may be negative. Use it for a few bands (a network, acoustic baselines); to choose among layers, fit each by
    `brainmap.rsa.encode`.

    Parameters
    ----------
    bands : feature set, mapping of band to feature set, or mapping of band to array
        The layers of one feature set are the bands; of several named ones, each is a band with all its layers.
    data, groups, items, layers, targets
        As in `brainmap.rsa.encode`.
    alphas : sequence of float, optional
        Penalties for kernels that are divided by the number of units of a band; by default 13 from 1e-4 to 1e4.
    folds, inner_folds
        As in `brainmap.rsa.encode`.
    n_iter : int
        Number of weights of the bands that are tried; the first are equal weights.
    seeds : sequence of int
        Seeds of the random search. Scores are means over them, and `*_spread` their standard deviation.
    few_items, descriptors, device, rng
        As in `brainmap.rsa.encode`.

    Returns
    -------
    BandedEncoding
        `.scores`, `.test()`, `.preference()`.

    Raises
    ------
    InputError
        As in `brainmap.rsa.encode`, or there are no seeds, or `n_iter` is below 1.

    References
    ----------
    Dupré la Tour et al. 2022, doi:10.1016/j.neuroimage.2022.119728; Nunez-Elizalde et al. 2019,
    doi:10.1016/j.neuroimage.2019.04.012

    Examples
    --------
    >>> from rsatoolbox.data.dataset import Dataset
    >>> rng = np.random.default_rng(0)
    >>> x, names = rng.normal(size=(60, 10)), [f"sound{k}" for k in range(60)]
    >>> voxels = x[:, :5] @ rng.normal(size=(5, 3)) + rng.normal(size=(60, 3))
    >>> data = Dataset(voxels, obs_descriptors={"stimulus_id": names})
    >>> two = {"heard": x[:, :5], "other": x[:, 5:]}
    >>> fit = encode_bands(two, data, descriptors={"stimulus_id": names}, n_iter=10, seeds=(0,))
    >>> fit.preference()["band"].tolist()
    ['heard', 'heard', 'heard']
    """
    check_choice(targets, get_args(EncodingTarget), "targets")
    check_ranges(
        "encode_bands", ("n_iter of 1 or more", n_iter, n_iter >= 1), ("at least one seed", list(seeds), len(seeds) > 0)
    )
    spaces, responses = align_items(bands, data, items=items, layers=layers, targets=targets, descriptors=descriptors)
    divided = divide_items(responses, groups, folds=folds, few_items=few_items, rng=rng)
    settings = BandSettings(
        alphas=check_alphas(BAND_ALPHAS if alphas is None else alphas),
        inner_folds=inner_folds,
        device=find_device(device),
        n_iter=n_iter,
        seeds=tuple(int(seed) for seed in seeds),
    )
    return fit_by_items(name_bands(spaces), responses, divided, settings)


def fit_by_items(
    bands: Mapping[str, Sequence[FeatureSpace]], responses: Responses, folds: Folds, settings: BandSettings
) -> BandedEncoding:
    """Fit bands, by name, to aligned responses by weights of items, whose number does not depend on the units."""
    own, y = tuple(tuple(one) for one in bands.values()), responses.mean
    kernels = build_band_kernels(own, folds)
    table = score_bands(
        list(bands), lambda chosen, k: fit_subset(chosen, kernels, y, folds, settings, seed=k), responses, settings
    )
    return BandedEncoding(table, tuple(bands), own, responses, folds, settings)


def name_bands(spaces: Sequence[FeatureSpace]) -> dict[str, list[FeatureSpace]]:
    """Return the layers of each band: each network, or each layer of the only one."""
    several = len({space.network for space in spaces}) > 1
    return group_pairs((space.network if several else space.layer, space) for space in spaces)


def build_band_kernels(bands: Sequence[Sequence[FeatureSpace]], folds: Folds) -> list[Floats]:
    """Return the kernels of all bands `(n_bands, n_items, n_items)` for each fold.

    Units are z-scored by the training items, and kernels divided by the number of units that vary, so that the weights
    of large and small bands are comparable.

    Raises
    ------
    InputError
        All units of a band are constant.
    """
    trains = [folds.split(k)[0] for k in range(folds.n_folds)]
    n = len(folds.fold)
    check_kernels(n, len(bands) * len(trains))
    found = [np.zeros((len(bands), n, n)) for _ in trains]
    for b, band in enumerate(bands):
        varying = np.zeros(len(trains), np.intp)
        for space in band:
            for x in space.slabs():
                for k, train in enumerate(trains):
                    scaler = Scaler.of(x[train])
                    z = scaler(x)
                    found[k][b] += z @ z.T
                    varying[k] += x.shape[1] - scaler.n_constant
        if not varying.all():
            raise InputError(f"encoding: expected units that vary in the band of {band[0].name}, got constant ones")
        for k in range(len(trains)):
            found[k][b] /= varying[k]
    return found


def join_layers(band: Sequence[FeatureSpace]) -> Floats:
    """Return the units of all layers of a band `(n_items, n_units)`."""
    return np.concatenate([space.whole() for space in band], axis=1)


def scale_units(x: Floats, train: Places) -> Floats:
    """Z-score units by the training items, and divide them by the square root of how many vary.

    The products of a band with itself are then its kernel in `build_band_kernels`.

    Raises
    ------
    InputError
        All units are constant.
    """
    scaler = Scaler.of(x[train])
    varying = x.shape[1] - scaler.n_constant
    if not varying:
        raise InputError("encoding: expected units that vary in each band, got constant ones; leave that band out")
    return np.asarray(scaler(x) / np.sqrt(varying))


def build_joint_designs(bands: Sequence[Sequence[FeatureSpace]], folds: Folds, device: str | None) -> list[Design]:
    """Join the bands with equal weights for each fold: as units where these are fewer than items, else as kernels."""
    trains = [folds.split(k)[0] for k in range(folds.n_folds)]
    if sum(space.shape[1] for band in bands for space in band) >= min(map(len, trains)):
        kernels = [one.mean(axis=0) for one in build_band_kernels(bands, folds)]
        return [Design(move_to_device(one, device), kernel=True) for one in kernels]
    arrays = [join_layers(band) for band in bands]
    joined = [np.concatenate([scale_units(x, train) for x in arrays], axis=1) / len(bands) ** 0.5 for train in trains]
    return [Design(move_to_device(one, device), kernel=False) for one in joined]


Fit: TypeAlias = Callable[[Sequence[int], int], tuple[Floats, Floats, Floats]]


def score_bands(names: Sequence[str], fit: Fit, responses: Responses, settings: BandSettings) -> pd.DataFrame:
    """Fit the joint model and the models without one band for each seed, and tabulate means and spreads.

    `fit(bands, seed)` fits a model of some bands, by their places, and gives R2, r and the shares of the bands.
    """
    every = list(range(len(names)))
    joint, r, product, unique = [], [], [], []
    with progress("banded ridge", len(settings.seeds)) as step:
        for seed in settings.seeds:
            r2, own_r, shares = fit(every, seed)
            without = [fit([k for k in every if k != b], seed)[0] for b in every]
            joint.append(r2)
            r.append(own_r)
            product.append(shares)
            unique.append(r2 - np.stack(without))
            step.advance()
    reliability = measure_reliability(responses.values)
    several = len(settings.seeds) > 1

    def spread(values: Sequence[Floats]) -> Floats:
        return np.std(values, axis=0, ddof=1) if several else np.full(np.shape(values[0]), np.nan)

    mean = np.mean(joint, axis=0)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "band": name,
                    **responses.targets,
                    "r": np.mean(r, axis=0),
                    "joint": mean,
                    "joint_corrected": correct_r2_for_noise(mean, reliability),
                    "unique": np.mean(unique, axis=0)[b],
                    "product": np.mean(product, axis=0)[b],
                    "joint_spread": spread(joint),
                    "unique_spread": spread(unique)[b],
                    "product_spread": spread(product)[b],
                }
            )
            for b, name in enumerate(names)
        ],
        ignore_index=True,
    )


def fit_subset(
    bands: Sequence[int], kernels: Sequence[Floats], y: Floats, folds: Folds, settings: BandSettings, *, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Return R2 and r `(n_targets,)` of a model of some bands, and their product shares `(n_bands, n_targets)`."""

    def predict(k: int, train: Places, test: Places) -> Floats:
        inner = yield_inner_splits(folds.group[train], settings.inner_folds)
        return fit_bands(kernels[k][list(bands)], y, train, test, inner=inner, settings=settings, seed=seed)

    return score_bands_in_folds(len(bands), y, folds, predict)


def score_bands_in_folds(
    n_bands: int, y: Floats, folds: Folds, predict: Callable[[int, Places, Places], Floats]
) -> tuple[Floats, Floats, Floats]:
    """Return means over folds of R2, r `(n_targets,)` and product shares `(n_bands, n_targets)`.

    `predict` takes the number of a fold, its training and its test items, and returns the part of each band in the
    predictions `(n_bands, n_test, n_targets)`.
    """
    if not n_bands:
        return np.zeros(y.shape[1]), np.full(y.shape[1], np.nan), np.zeros((0, y.shape[1]))
    splits = [folds.split(k) for k in range(folds.n_folds)]
    found = [score_parts(predict(k, train, test), y[test]) for k, (train, test) in enumerate(splits)]
    r2, r, shares = (np.mean(values, axis=0) for values in zip(*found, strict=True))
    return r2, r, shares


def fit_bands(
    kernels: Floats,
    y: Floats,
    train: Places,
    test: Places,
    *,
    inner: Sequence[tuple[Places, Places]],
    settings: BandSettings,
    seed: int,
) -> Floats:
    """Fit kernels `(n_bands, n_items, n_items)` by random search, and return what each predicts of the test items.

    Returns
    -------
    ndarray (n_bands, n_test, n_targets)
        The prediction is their sum and the mean of the training responses.
    """
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    centered = [_center_kernel(kernel, train) for kernel in kernels]
    own = np.stack([kernel[np.ix_(train, train)] for kernel in centered])
    offset = y[train].mean(axis=0)
    with himalaya_backend(settings.device) as backend:
        deltas, dual, *_ = solve_multiple_kernel_ridge_random_search(
            backend.asarray(own),
            backend.asarray(y[train] - offset),
            n_iter=draw_weights(len(kernels), settings.n_iter, seed),
            alphas=backend.asarray(settings.alphas),
            cv=inner,
            fit_intercept=True,
            return_weights="dual",
            progress_bar=False,
        )
        weights, dual = (move_to_numpy(backend.to_cpu(values)) for values in (deltas, dual))
    return np.stack(
        [np.exp(w) * (kernel[np.ix_(test, train)] @ dual) for w, kernel in zip(weights, centered, strict=True)]
    )


def draw_weights(n_bands: int, n_iter: int, seed: int) -> Floats:
    """Draw weights of bands `(n_iter, n_bands)`; the first are equal, the others alternate between even and sparse."""
    if n_bands == 1:
        return np.ones((1, 1))
    rng = np.random.default_rng(seed)
    drawn = [rng.dirichlet(np.full(n_bands, 1.0 if k % 2 else 0.1)) for k in range(n_iter - 1)]
    return np.vstack([np.full(n_bands, 1 / n_bands), *drawn])


def _center_kernel(kernel: Floats, train: Places) -> Floats:
    """Center the features behind a kernel on their mean over training items."""
    row = kernel[train].mean(axis=0)
    return np.asarray(kernel - row - row[:, None] + kernel[np.ix_(train, train)].mean())


@contextmanager
def himalaya_backend(device: str | None) -> Iterator[Any]:
    """Let himalaya compute with numpy or on the device, and give its global setting back."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend().name
    try:
        yield set_backend("numpy" if device is None else "torch_cuda" if device == "cuda" else "torch")
    finally:
        set_backend(before)


def score_parts(parts: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return R2 and r of the sum of predictions, and the share of each in R2 by the product measure.

    The share of p_k in the R2 of p = sum(p_k) is sum(p_k (2 y - p)) / sum(y^2), all centered within the fold.

    Parameters
    ----------
    parts : ndarray (n_bands, n_items, n_targets)
    y : ndarray (n_items, n_targets)
    """
    whole = parts.sum(axis=0)
    r, r2 = score_fold(whole, y)
    responses, squares = center(y)
    rest = 2 * responses - center(whole)[0]
    shares = np.stack([np.einsum("iv,iv->v", center(part)[0], rest) for part in parts])
    return r2, r, shares / np.where(squares > 0, squares, np.nan)
