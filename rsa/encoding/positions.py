"""Test whether the position of best layers in a network differs between regions, and between hemispheres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.groups import group_pairs
from brainmap.rsa.inference.differences import score_differences
from brainmap.rsa.inference.scores import correct_p
from brainmap.rsa.regions.labels import find_side, strip_side
from brainmap.types import Correction, Floats, Test

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
    places = group_pairs((strip_side(name), k) for k, name in enumerate(regions))
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
