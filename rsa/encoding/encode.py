"""Predict responses to new items from the features of networks: `brainmap.rsa.encode`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, count_threads, list_some
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa.encoding.counts import count_layer, warn_of_counts
from brainmap.rsa.encoding.fits import EncodingSettings, LayerWeights, check_kernels, fit_folds, fit_weights_of_layer
from brainmap.rsa.encoding.folds import Folds, Groups
from brainmap.rsa.encoding.noise import (
    correct_for_noise,
    correct_r2_for_noise,
    measure_prediction_reliability,
    measure_reliability,
)
from brainmap.rsa.encoding.responses import (
    SURFACE_COLUMNS,
    TARGET_COLUMNS,
    Features,
    FeatureSpace,
    Responses,
    align_items,
    divide_items,
)
from brainmap.rsa.encoding.ridge import check_alphas, find_device
from brainmap.rsa.encoding.scores import score_fold
from brainmap.threads import limit_blas
from brainmap.types import Dataset, Device, EncodingTarget, Floats, Level

_Fitted: TypeAlias = tuple[pd.DataFrame, dict[str, Any], Floats]
ENCODING_COLUMNS = {
    "network": "network",
    "layer": "layer",
    **TARGET_COLUMNS,
    **SURFACE_COLUMNS,
    "r": "correlation of predictions and responses within test folds, mean over folds",
    "r_corrected": "r / sqrt(reliability); n/a where the reliability is at or below the floor",
    "r2": "share of the variance within test folds that predictions explain, mean over folds",
    "r2_corrected": "r2 / reliability",
    "reliability": "reliability of the mean response over repetitions (Spearman-Brown)",
    "alpha": "penalty of the ridge regression, geometric mean over folds",
    "r_corrected_both": "r / sqrt(reliability of responses x reliability of predictions)",
}


@dataclass(frozen=True, eq=False)
class Encoding:
    """Hold encoding models of one participant, and their scores on test items.

    Attributes
    ----------
    scores : DataFrame
        A row for each layer and target: `network`, `layer`, `roi`, `voxel`, `r`, `r_corrected`, `r2`, `r2_corrected`,
        `reliability`, `alpha` (see `ENCODING_COLUMNS`), and `r_corrected_both` where it was asked for.
    counts : DataFrame
        A row for each layer: what has no score and why, and the share of targets whose alpha is at an end of its range.
    fold_scores : ndarray (n_spaces, n_folds, n_targets)
        r within each test fold.
    spaces : tuple of FeatureSpace
        The layers, in the order of the rows.
    responses : Responses
    folds : Folds
    settings : EncodingSettings
    """

    scores: pd.DataFrame
    counts: pd.DataFrame
    fold_scores: Floats
    spaces: tuple[FeatureSpace, ...]
    responses: Responses
    folds: Folds
    settings: EncodingSettings

    @cached_property
    def items(self) -> tuple[str, ...]:
        """Return the labels of the items, the rows of predictions."""
        return self.responses.items

    @property
    def participant(self) -> str:
        """Return the label of the participant, or an empty text."""
        return self.responses.participant

    def select(self, layer: str, network: str | None = None) -> FeatureSpace:
        """Return the layer of that name; the network is needed where several have it.

        Raises
        ------
        InputError
            There is no such layer, or several networks have it.
        """
        check_choice(layer, list(dict.fromkeys(space.layer for space in self.spaces)), "layer")
        found = [space for space in self.spaces if space.layer == layer and network in (None, space.network)]
        if not found:
            check_choice(str(network), sorted({space.network for space in self.spaces}), "network")
        if len(found) != 1:
            raise InputError(
                f"encoding: expected one layer {layer!r}, got {len(found)} "
                f"({list_some(space.name for space in found)}); name the network"
            )
        return found[0]

    def predictions(self, layer: str, network: str | None = None) -> Floats:
        """Predict each item by the model of the fold in which it is tested `(n_items, n_targets)`.

        Correlate them with responses within folds only (`folds.fold`): over all items the correlation is biased.
        """
        return fit_folds(self.select(layer, network), self.responses.mean, self.folds, self.settings).predicted

    def weights(self, layer: str, network: str | None = None) -> LayerWeights:
        """Fit a layer to all items, with alphas chosen by inner cross-validation, and return its weights."""
        return fit_weights_of_layer(self.select(layer, network), self.responses, self.folds.group, self.settings)


def encode(
    acts: Features,
    data: Dataset,
    *,
    groups: Groups = "condition",
    items: Level = "stimulus",
    layers: Sequence[str] | str = "all",
    targets: EncodingTarget = "voxel",
    alphas: Sequence[float] | NDArray[np.floating] | None = None,
    folds: int = 5,
    inner_folds: int = 5,
    components: int | None = None,
    reliability_floor: float = 0.0,
    prediction_reliability: bool = False,
    few_items: bool = False,
    descriptors: Mapping[str, Sequence[str]] | None = None,
    device: Device = "auto",
    threads: int | None = 1,
    rng: np.random.Generator | None = None,
) -> Encoding:
    """Predict each voxel's responses to new sounds from each layer by ridge regression, cross-validated.

    Everything that learns (means and deviations of units, components, alphas, weights) sees training items only. The
    penalty is chosen for each voxel by cross-validation among the training items. Scores are means over test folds of
    scores within a fold.

    Parameters
    ----------
    acts : feature set, mapping of network to feature set, or mapping of layer to array
        Features of the items, as `features.extract_activations` returns them. Items are matched with those of the data
        by their labels.
    data : rsatoolbox Dataset
        Patterns of one participant, as `brainmap.rsa.load_patterns` returns them; runs are repetitions.
    groups : {"condition", "stimulus", "run"} or mapping of stimulus to group
        What a fold never divides. "condition" keeps all tokens of a word together, so that words are new in the test.
        "stimulus" separates them, which lets a layer that merely tells words apart predict well. "run" is possible
        where no sound occurs in two runs.
    items : {"stimulus", "condition"}
        With "condition", tokens are averaged first: features over the tokens that were heard, responses within runs.
    layers : names or "all"
    targets : {"voxel", "roi"}
        Predict each voxel (or vertex), or the mean over the voxels of each region.
    alphas : sequence of float, optional
        Penalties to choose from, for z-scored units; by default 13 from 0.1 to 1e8.
    folds, inner_folds : int
        Test folds, and folds of the choice of alpha (at most one for each group, which leaves one out). Scores depend
        on the number of test folds and are compared only where it is equal.
    components : int, optional
        Reduce units to principal components of the training items.
    reliability_floor : float
        Corrected scores are NaN at or below this reliability.
    prediction_reliability : bool
        Also fit each run alone, and give `r_corrected_both`: r / sqrt(reliability of responses x that of predictions),
        the form of Kell et al. and Tuckute et al.
    few_items : bool
        Allow fewer than 40 items.
    descriptors : mapping
        Labels `stimulus_id` and `condition` of the rows of arrays.
    device : {"auto", "cpu", "cuda"}
        auto takes a GPU with float64 if there is one.
    threads : int or None
        Layers that are fitted side by side, each on one core; None for as many as there are cores. 1 fits one after the
        other, with all cores for each.
    rng : numpy Generator, optional
        Draws the folds; by default they are those of a study, and of `brainmap rsa encode`, with seed 0.

    Returns
    -------
    Encoding
        `.scores`, `.counts`, `.predictions(layer)`, `.weights(layer)`.

    Raises
    ------
    InputError
        Items occur on one side only or twice, a response is missing, there are fewer than 40 items or 8 a fold, or
        folds by run would share sounds.

    References
    ----------
    Tuckute et al. 2023, doi:10.1371/journal.pbio.3002366; Kell et al. 2018, doi:10.1016/j.neuron.2018.03.044; Dupré la
    Tour et al. 2022, doi:10.1016/j.neuroimage.2022.119728

    Examples
    --------
    >>> from rsatoolbox.data.dataset import Dataset
    >>> rng = np.random.default_rng(0)
    >>> x, names = rng.normal(size=(60, 5)), [f"sound{k}" for k in range(60)]
    >>> voxels = np.tile(x @ rng.normal(size=(5, 3)), (2, 1)) + 2 * rng.normal(size=(120, 3))
    >>> data = Dataset(voxels, obs_descriptors={"stimulus_id": names * 2, "run": ["1"] * 60 + ["2"] * 60})
    >>> fit = encode({"conv1": x}, data, descriptors={"stimulus_id": names})
    >>> bool((fit.scores["r"] > 0.4).all())
    True
    """
    check_choice(targets, get_args(EncodingTarget), "targets")
    spaces, responses = align_items(acts, data, items=items, layers=layers, targets=targets, descriptors=descriptors)
    divided = divide_items(responses, groups, folds=folds, few_items=few_items, rng=rng)
    settings = EncodingSettings(
        alphas=check_alphas(alphas), inner_folds=inner_folds, components=components, device=find_device(device)
    )
    return fit_encoding(
        spaces,
        responses,
        divided,
        settings,
        floor=reliability_floor,
        prediction_reliability=prediction_reliability,
        threads=count_threads(threads, "encode"),
    )


def fit_encoding(
    spaces: Sequence[FeatureSpace],
    responses: Responses,
    folds: Folds,
    settings: EncodingSettings,
    *,
    floor: float = 0.0,
    prediction_reliability: bool = False,
    threads: int = 1,
) -> Encoding:
    """Fit all layers to aligned responses in the same folds, score them, and warn of what has no score."""
    scores, counts, fold_scores = fit_layers(
        spaces,
        responses,
        folds,
        settings,
        floor=floor,
        prediction_reliability=prediction_reliability,
        threads=threads,
    )
    warn_of_counts(counts)
    return Encoding(scores, counts, fold_scores, tuple(spaces), responses, folds, settings)


def fit_layers(
    spaces: Sequence[FeatureSpace],
    responses: Responses,
    folds: Folds,
    settings: EncodingSettings,
    *,
    floor: float = 0.0,
    prediction_reliability: bool = False,
    threads: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame, Floats]:
    """Fit and score some layers; return the scores, the counts, and r within folds `(n_spaces, n_folds, n_targets)`."""
    fewest = min(len(folds.split(k)[0]) for k in range(folds.n_folds))
    at_once = min(threads, len(spaces))
    check_kernels(len(folds.fold), at_once * folds.n_folds if any(space.shape[1] >= fewest for space in spaces) else 0)
    y = responses.mean
    reliability = measure_reliability(responses.values)
    if prediction_reliability and (len(responses.runs) < 2 or not responses.present.all()):
        raise InputError(
            "encoding: the reliability of predictions needs two runs or more that hold all items, got "
            f"{len(responses.runs)} runs with {int((~responses.present).sum())} gaps; leave prediction_reliability out"
        )
    single = responses.values if prediction_reliability else np.empty((0, *y.shape))
    stacked = np.concatenate([y, *single], axis=1)

    def fit(space: FeatureSpace) -> _Fitted:
        fitted = fit_folds(space, stacked, folds, settings)
        predicted = fitted.predicted[:, : y.shape[1]]
        r, r2 = score_folds(predicted, y, folds)
        best = fitted.best[:, : y.shape[1]]
        columns = {
            "network": space.network,
            "layer": space.layer,
            **responses.targets,
            "r": r.mean(axis=0),
            "r_corrected": correct_for_noise(r.mean(axis=0), reliability, floor),
            "r2": r2.mean(axis=0),
            "r2_corrected": correct_r2_for_noise(r2.mean(axis=0), reliability, floor),
            "reliability": reliability,
            "alpha": np.exp(np.log(settings.alphas)[best].mean(axis=0)),
        }
        if prediction_reliability:
            runs = np.stack(np.split(fitted.predicted[:, y.shape[1] :], len(single), axis=1))
            both = measure_prediction_reliability(runs, folds.fold) * reliability
            usable = (reliability > floor) & (both > 0)
            columns["r_corrected_both"] = correct_for_noise(columns["r"], np.where(usable, both, np.nan))
        counted = count_layer(
            space,
            fitted,
            predicted,
            y,
            reliability=reliability,
            fold=folds.fold,
            n_alphas=len(settings.alphas),
            floor=floor,
        )
        return pd.DataFrame(columns), counted, r

    found = []
    with progress("encoding layers", len(spaces)) as step:
        for space, one in zip(spaces, _map_layers(fit, spaces, threads), strict=True):
            found.append(one)
            step.advance(note=space.name)
    tables, counts, fold_scores = zip(*found, strict=True)
    return pd.concat(tables, ignore_index=True), pd.DataFrame(list(counts)), np.stack(fold_scores)


def _map_layers(
    fit: Callable[[FeatureSpace], _Fitted], spaces: Sequence[FeatureSpace], threads: int
) -> Iterator[_Fitted]:
    """Fit layers side by side, each on one thread; or one after the other, each on all threads of BLAS."""
    if threads == 1 or len(spaces) == 1:
        yield from map(fit, spaces)
        return
    with limit_blas(), ThreadPoolExecutor(min(threads, len(spaces))) as pool:
        yield from pool.map(fit, spaces)


def score_folds(predicted: Floats, y: Floats, folds: Folds) -> tuple[Floats, Floats]:
    """Return r and R2 `(n_folds, n_targets)` within each test fold."""
    found = [score_fold(predicted[test], y[test]) for _, test in map(folds.split, range(folds.n_folds))]
    return np.stack([r for r, _ in found]), np.stack([r2 for _, r2 in found])
