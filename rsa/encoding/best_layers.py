"""Choose the best layer of each region and voxel on one half of the sounds, and score it on the other half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
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
from brainmap.rsa.inference.differences import score_differences
from brainmap.rsa.inference.scores import correct_p
from brainmap.rsa.regions.labels import find_side, strip_side
from brainmap.rsa.regions.rois import Mask
from brainmap.types import Correction, Floats, Test

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
    layers: dict[str, list[str]] = {}
    for space in fit.spaces:
        layers.setdefault(space.network, []).append(space.layer)
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
    if splits < 1:
        raise InputError(f"best layers: expected 1 split or more, got splits={splits}")
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


POSITION_COLUMNS = {
    "roi": "region of interest",
    "other_roi": "region that it is compared with",
    "position": "mean position of the best layers over participants, from 0 (first) to 1 (last)",
    "other_position": "the same of the other region",
    "difference": "position less that of the other region, over participants who have both",
    "standard_error": "of that difference",
    "statistic": "test statistic",
    "p": "two-sided, over participants, uncorrected: of these sounds only",
    "p_corrected": "corrected over all pairs of regions",
    "n": "participants who have a position in both",
    "smallest_p": "smallest p that so many participants can reach",
    "p_sounds": "two-sided, over participants and sounds: t of the difference with the variance over participants plus "
    "that over halves of the sounds; n/a without several halves",
    "p_sounds_corrected": "corrected over all pairs of regions",
    "p_regions": "that the position is the same in all regions (means over hemispheres), by exchanging the regions "
    "within participants: of these sounds only",
    "p_hemispheres": "that it is the same in both hemispheres (means over regions), in the same way",
}
_TIE = 1e-12


@dataclass(frozen=True)
class Effect:
    """Hold the test of an effect on positions within participants.

    Attributes
    ----------
    p : float
        NaN where there is nothing to compare.
    n : int
        Participants without gaps, who are tested.
    """

    p: float
    n: int


def position_test(
    positions: NDArray[np.floating],
    regions: Sequence[str],
    *,
    test: Test = "sign-flip",
    correction: Correction = "fdr",
    permutations: int = 5000,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test whether best layers lie at another position in one region than in another, within participants.

    Parameters
    ----------
    positions : array (n_regions, n_participants) or (n_regions, n_participants, n_splits)
        Position of the best layers, from 0 to 1, as in `BestLayers.regions`; NaN where a region has none. With the
        position that each half of the sounds chooses (`BestLayers.splits`, of the same halves in all participants),
        pairs of regions are also tested over sounds.
    regions : sequence of str
        Names of the regions; `left-A1` and `right-A1` are the two sides of one.
    test, correction, permutations, rng
        Of the pairs of regions, as in `brainmap.rsa.score_differences`.

    Returns
    -------
    DataFrame
        A row for each pair of regions (see `POSITION_COLUMNS`).

        `p_sounds` generalizes to other participants and sounds. How much the difference varies over random halves of
        the sounds estimates its variance over sounds (the jackknife that leaves out half); the variance over
        participants is added, and t has the degrees of freedom of the fewer of participants and splits. In 60 simulated
        studies whose participants shared their responses, with best layers at the same depth, the test over
        participants alone rejected in 20 and this one in 1.

        `p_regions` and `p_hemispheres`, equal in all rows, test both effects: the statistic is the variance of the mean
        positions, and the null distribution comes from exchanging regions (or sides) within each participant. Sounds
        are taken as fixed in all tests but `p_sounds`.

    Raises
    ------
    InputError
        There are fewer than two regions or participants, or names do not fit.

    References
    ----------
    Shao and Wu 1989, doi:10.1214/aos/1176347263 (jackknife of many items)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> positions = np.array([[0.2], [0.6]]) + 0.1 * rng.normal(size=(2, 10))
    >>> table = position_test(positions, ["A1", "STG"], rng=rng)
    >>> bool(table["p_regions"][0] < 0.05), bool(np.isnan(table["p_hemispheres"][0]))
    (True, True)
    """
    each = np.asarray(positions, np.float64)
    x = each.mean(axis=2) if each.ndim == 3 else each
    if x.ndim != 2 or len(x) < 2 or x.shape[1] < 2 or len(regions) != len(x):
        raise InputError(
            "position_test: expected positions (n_regions, n_participants) of 2 regions and 2 participants or more, "
            f"with a name for each region, got {x.shape} and {len(regions)} names"
        )
    rng = rng or np.random.default_rng()
    table = score_differences(
        x[:, None],
        test=test,
        correction=correction,
        labels={"model": [str(k) for k in range(len(x))], "roi": ["all"]},
        permutations=permutations,
        rng=rng,
    ).drop(columns="roi")
    note = table.attrs.get("note", "")
    with np.errstate(invalid="ignore"):
        mean = np.nansum(x, axis=1) / np.where(np.isfinite(x).any(axis=1), np.isfinite(x).sum(axis=1), np.nan)
    for key, side in (("", "model"), ("other_", "other")):
        places = [int(k) for k in table[side]]
        table[f"{key}roi"], table[f"{key}position"] = [regions[k] for k in places], mean[places]
    pairs = [(int(one), int(other)) for one, other in zip(table["model"], table["other"], strict=True)]
    table["p_sounds"] = _test_over_sounds(each, pairs)
    table["p_sounds_corrected"] = correct_p(
        table["p_sounds"].to_numpy(), "bonferroni" if correction == "max-t" else correction
    )
    by_region, by_side = _average_sides(x, regions)
    effects = [exchange_within(one, permutations=permutations, rng=rng) for one in (by_region, by_side)]
    table["p_regions"], table["p_hemispheres"] = (effect.p for effect in effects)
    found = table[list(POSITION_COLUMNS)]
    found.attrs["note"] = (
        f"{note}; effects of region and of hemisphere by exchanging them within participants who have a position in "
        "all: of these sounds only; p_sounds by a t test with the variances over participants and over halves of the "
        "sounds"
    )
    return found


def _test_over_sounds(each: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Test differences of regions `(n_regions, n_participants, n_splits)` over participants and sounds, two-sided."""
    found = np.full(len(pairs), np.nan)
    for k, (one, other) in enumerate(pairs):
        difference = each[one] - each[other] if each.ndim == 3 else np.empty((0, 0))
        difference = difference[np.isfinite(difference).all(axis=1)]
        n, splits = difference.shape
        if min(n, splits) < 2:
            continue
        mean = difference.mean(axis=1)
        variance = mean.var(ddof=1) / n + difference.mean(axis=0).var(ddof=1)
        t = abs(mean.mean()) / np.sqrt(variance) if variance > 0 else np.inf * abs(mean.mean())
        found[k] = 1.0 if mean.mean() == 0 else 2 * scipy.special.stdtr(min(n, splits) - 1, -t)
    return found


def _average_sides(x: Floats, regions: Sequence[str]) -> tuple[Floats, Floats]:
    """Return positions by region, means over both sides, and by side, means over the regions that have both."""
    places: dict[str, list[int]] = {}
    for k, name in enumerate(regions):
        places.setdefault(strip_side(name), []).append(k)
    both = [own for own in places.values() if sorted(find_side(regions[k]) for k in own) == ["l", "r"]]
    single = [k for own in places.values() if own not in both for k in own]
    rows = [x[own].mean(axis=0) for own in both] + [x[k] for k in single]
    if not both:
        return np.array(rows), np.empty((0, x.shape[1]))
    sides = [[next(k for k in own if find_side(regions[k]) == side) for own in both] for side in ("l", "r")]
    return np.array(rows), np.stack([x[own].mean(axis=0) for own in sides])


def exchange_within(x: NDArray[np.floating], *, permutations: int, rng: np.random.Generator) -> Effect:
    """Test whether rows `(n_rows, n_participants)` differ, by exchanging them within each participant.

    The statistic is the variance of the rows' means over participants; participants with gaps are left out. p is
    (k + 1) / (N + 1), where k of N random exchanges have a variance as large.

    Examples
    --------
    >>> x = np.arange(3.0)[:, None] + np.zeros((3, 6))
    >>> exchange_within(x, permutations=99, rng=np.random.default_rng(0))
    Effect(p=0.01, n=6)
    """
    whole = np.asarray(x, np.float64)[:, np.isfinite(x).all(axis=0)]
    if len(whole) < 2 or whole.shape[1] < 2:
        return Effect(np.nan, whole.shape[1])
    observed, hits = whole.mean(axis=1).var(), 1
    for _ in range(permutations):
        hits += bool(rng.permuted(whole, axis=0).mean(axis=1).var() >= observed - _TIE)
    return Effect(hits / (permutations + 1), whole.shape[1])
