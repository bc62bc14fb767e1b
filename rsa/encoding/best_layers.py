"""Choose the best layer of each region and voxel on one half of the sounds, and score it on the other half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough
from brainmap.errors import InputError
from brainmap.groups import group_pairs
from brainmap.progress import progress
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.fits import EncodingSettings, build_designs
from brainmap.rsa.encoding.folds import LEAST_TESTED, Places, yield_inner_splits
from brainmap.rsa.encoding.maps import BrainMap, place_in_brain
from brainmap.rsa.encoding.permutations import average_regions
from brainmap.rsa.encoding.responses import SURFACE_COLUMNS, TARGET_COLUMNS, FeatureSpace, Responses
from brainmap.rsa.encoding.ridge import (
    build_error_operator,
    choose_and_predict,
    explain_training,
    move_to_device,
)
from brainmap.rsa.encoding.scores import score_fold
from brainmap.rsa.regions.rois import Mask
from brainmap.types import Floats

BEST_LAYER_COLUMNS = {
    "network": "network",
    **TARGET_COLUMNS,
    **SURFACE_COLUMNS,
    "layer": "layer that is best on most training halves",
    "chosen_share": "share of splits in which it is the best",
    "r": "score of the chosen layers on test halves, median over splits",
    "position": "place of the chosen layers, from 0 (first) to 1 (last), mean over splits; n/a where r is not above 0",
    "position_sd": "spread of the position over splits",
    "splits": "splits into halves",
}


@dataclass(frozen=True, eq=False)
class BestLayers:
    """Hold the best layers of regions and of voxels.

    Attributes
    ----------
    regions, voxels : DataFrame
        A row for each network and region (or voxel): `layer` (chosen most often) and its `chosen_share`, `r` (median
        over splits, on halves not used to choose), `position` from 0 to 1 (mean over splits; NaN where r is not above
        0) and its spread `position_sd`.
    layers : dict of str to list of str
        The layers of each network, in order.
    responses : Responses
    splits : DataFrame
        `network`, `roi`, `split` and `position` of the layer that each half of the sounds chooses for a region.
    """

    regions: pd.DataFrame
    voxels: pd.DataFrame
    layers: dict[str, list[str]]
    responses: Responses
    splits: pd.DataFrame

    def maps(self, mask: Mask | None = None, network: str | None = None) -> dict[str, BrainMap]:
        """Return maps of the best layer (from 1), its position (0 to 1) and its r; NaN where there is no score.

        Maps are images, for which the mask of the patterns is needed, or surface data.

        Raises
        ------
        InputError
            There are several networks and none is named, or the models are of means of regions.
        """
        if network is None and len(self.layers) > 1:
            raise InputError(f"best layers: expected the name of one of {len(self.layers)} networks, got none; name it")
        network = next(iter(self.layers)) if network is None else check_choice(network, list(self.layers), "network")
        own = self.voxels[self.voxels["network"] == network]
        number = own["layer"].map({name: k + 1 for k, name in enumerate(self.layers[network])}).to_numpy(float)
        values = {
            "layer": np.where(own["position"].notna(), number, np.nan),
            "position": own["position"].to_numpy(),
            "r": own["r"].to_numpy(),
        }
        return {name: place_in_brain(value, self.responses, mask, name) for name, value in values.items()}


def best_encoding_layers(fit: Encoding, *, splits: int = 10, rng: np.random.Generator | None = None) -> BestLayers:
    """Find the best layer of each region and voxel on half of the sounds, and score it on the other half.

    In each split, every layer is fitted to one half only. The best layer of a voxel has the smallest error in the
    cross-validation that chooses alpha within that half; that of a region has the largest mean over voxels of the share
    of variance it predicts there. The chosen layer, fitted to this half, predicts the other half, which had no part in
    fit or choice. (A choice among folds of one cross-validation is inflated: models that are scored in one fold were
    trained on the others.) Groups of sounds are not divided.

    Parameters
    ----------
    fit : Encoding
        Its layers, responses, groups and settings are used.
    splits : int
        Number of random halvings, the same for all layers.
    rng : numpy Generator, optional
        By default the same sounds are always halved in the same way.

    Returns
    -------
    BestLayers
        The table of chosen layers, how often each was chosen, its score and its position from 0 to 1.

    Raises
    ------
    InputError
        A network has fewer than two layers, or a half has fewer than 8 items.

    References
    ----------
    Tuckute et al. 2023, doi:10.1371/journal.pbio.3002366
    """
    layers = group_pairs((space.network, space.layer) for space in fit.spaces)
    single = [name for name, own in layers.items() if len(own) < 2]
    if single:
        raise InputError(f"best layers: expected two layers or more of network {single[0]!r}, got one; fit more layers")
    halves = _halve_groups(fit.folds.group, splits, rng or np.random.default_rng(0))
    y = fit.responses.mean
    held, r = np.empty((len(fit.spaces), splits, y.shape[1])), np.empty((len(fit.spaces), splits, y.shape[1]))
    with progress("choosing layers", len(fit.spaces)) as step:
        for k, space in enumerate(fit.spaces):
            held[k], r[k] = _score_halves(space, y, fit.folds.group, halves, fit.settings)
            step.advance(note=space.name)
    roi = fit.responses.targets["roi"].to_numpy()
    regions, voxels, each = [], [], []
    for network, own in layers.items():
        rows = [k for k, space in enumerate(fit.spaces) if space.network == network]
        voxels.append(_summarize(held[rows], r[rows], fit.responses.targets, network, own))
        names = list(dict.fromkeys(roi))
        shares, scores = (average_regions(x[rows], roi, names) for x in (held, r))
        regions.append(_summarize(shares, scores, pd.DataFrame({"roi": names}), network, own))
        places = _choose(shares, scores).place
        each += [
            pd.DataFrame({"network": network, "roi": roi, "split": np.arange(splits), "position": place})
            for roi, place in zip(names, places.T, strict=True)
        ]
    found = [pd.concat(rows, ignore_index=True) for rows in (regions, voxels, each)]
    return BestLayers(found[0], found[1], layers, fit.responses, found[2])


def _halve_groups(group: Places, splits: int, rng: np.random.Generator) -> list[tuple[Places, Places]]:
    """Return training and test half of each split; groups are not divided."""
    check_enough(splits, 1, "best layers", "split")
    n_groups, halves = int(group.max()) + 1, []
    for _ in range(splits):
        first = np.isin(group, rng.permutation(n_groups)[: (n_groups + 1) // 2])
        fewest = min(int(first.sum()), int((~first).sum()))
        if fewest < LEAST_TESTED:
            raise InputError(
                f"best layers: expected at least {LEAST_TESTED} items in each half, got {fewest} ({n_groups} groups); "
                "give more sounds, or smaller groups"
            )
        halves.append((np.flatnonzero(first), np.flatnonzero(~first)))
    return halves


def _score_halves(
    space: FeatureSpace, y: Floats, group: Places, halves: list[tuple[Places, Places]], settings: EncodingSettings
) -> tuple[Floats, Floats]:
    """Return the share of variance predicted within training halves, and r on test halves `(n_splits, n_targets)`."""
    designs, _ = build_designs(space, [train for train, _ in halves], settings)
    there = move_to_device(y, settings.device)
    share, r = np.empty((len(halves), y.shape[1])), np.empty((len(halves), y.shape[1]))
    for k, ((train, test), design) in enumerate(zip(halves, designs, strict=True)):
        inner = yield_inner_splits(group[train], settings.inner_folds)
        operators = build_error_operator(design, train, inner, settings.alphas)
        losses, _, predicted = choose_and_predict(operators, design.factor(train, test), there[train], settings.alphas)
        share[k] = explain_training(losses, y[train])
        r[k] = score_fold(predicted, y[test])[0]
    return share, r


class _Chosen(NamedTuple):
    """Hold the layers that are chosen in each split `(n_splits, n_targets)`, their depth from 0 to 1, and median r."""

    layer: NDArray[np.intp]
    place: Floats
    r: Floats


def _choose(held: Floats, r: Floats) -> _Chosen:
    """Choose layers in each split by `held` `(n_layers, n_splits, n_targets)`; depth is NaN where r is not above 0."""
    usable = np.isfinite(held) & np.isfinite(r)
    chosen = np.where(usable, held, -np.inf).argmax(axis=0)
    scores = np.take_along_axis(r, chosen[None], axis=0)[0]
    known = usable.any(axis=0).all(axis=0)
    median = np.where(known, np.median(np.where(known, scores, 0.0), axis=0), np.nan)
    return _Chosen(chosen, np.where(median > 0, chosen / (len(held) - 1), np.nan), median)


def _summarize(held: Floats, r: Floats, targets: pd.DataFrame, network: str, layers: list[str]) -> pd.DataFrame:
    """Summarize over splits what was chosen by `held` and scored by `r`, both `(n_layers, n_splits, n_targets)`."""
    chosen, place, median = _choose(held, r)
    counts = np.stack([(chosen == k).mean(axis=0) for k in range(len(layers))])
    return pd.DataFrame(
        {
            "network": network,
            **targets,
            "layer": [layers[k] for k in counts.argmax(axis=0)],
            "chosen_share": counts.max(axis=0),
            "r": median,
            "position": place.mean(axis=0),
            "position_sd": place.std(axis=0, ddof=1) if len(place) > 1 else np.nan,
            "splits": len(chosen),
        }
    )
