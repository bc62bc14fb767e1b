"""Compute the split-half reliability of RDMs, over the runs of a participant or over participants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, list_some
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa.comparison.ceilings import pool_others
from brainmap.rsa.comparison.measures import compare_vectors, find_measure
from brainmap.rsa.rdm.alignment import check_items, find_pair_positions, group_by_region, list_labels
from brainmap.rsa.rdm.compute import Precision, compute_rdms, resolve_noise
from brainmap.rsa.rdm.run_noise import RunNoise
from brainmap.rsa.rdm.sources import NO_ROI, list_rois
from brainmap.types import Dataset, Floats, Measure, RDMs

RELIABILITY_COLUMNS = {
    "participant": "label of the participant",
    "roi": "region of interest",
    "over": "what was halved: the runs of a participant, or the participants",
    "n": "runs or participants that were halved",
    "splits": "halvings",
    "enumerated": "whether these are all there are",
    "halves": "similarity of the RDMs of two halves, mean over the halvings",
    "reliability": "of the RDM of the whole, from that mean by Spearman and Brown",
}


def rdm_reliability(
    data: Dataset | RDMs,
    *,
    measure: Measure | str = "rho-a",
    splits: int = 100,
    noise_precision: Precision | None = None,
    rng: np.random.Generator | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Compute the split-half reliability of RDMs, over the runs of one participant or over participants.

    Parameters
    ----------
    data : rsatoolbox Dataset or RDMs
        Patterns of one participant with the observation descriptor `run`: the runs are split into halves, and an RDM is
        computed from each half. Or one RDM per participant (and ROI): the participants are split into halves, and the
        RDMs of each half are pooled.
    measure : str
        As in `brainmap.rsa.compare_rdms`, except bures, for which no formula extrapolates from halves to the whole.
    splits : int
        All distinct splits are used if there are at most this many; else this many are drawn.
    noise_precision
        The noise precision of patterns, as in `brainmap.rsa.compute_rdms`; with one per run, each half uses those of
        its runs. "runs" weights each run by a precision from all other runs, including those of the other half.
    rng : numpy Generator, optional
        Used only when splits are drawn.
    **settings
        Settings for patterns: dissimilarity, items, units and rois, as in `brainmap.rsa.compute_rdms`.

    Returns
    -------
    DataFrame
        One row per ROI: participant (if the patterns have one), roi, over ("runs" or "participants"), n, splits,
        enumerated, halves (mean similarity of the halves over splits), reliability.

    Raises
    ------
    InputError
        There are fewer than two runs or participants, crossnobis has fewer than four runs, the halves share fewer than
        three items, settings are given with RDMs, or `compute_rdms` refuses the data.

    Notes
    -----
    With four runs or more each half uses only products of different runs, as the RDM of all runs does by default. With
    two or three, the runs of a half are averaged, so that noise within a run affects its RDM.
    reliability = 2 r / (1 + |r|) (Spearman-Brown), with r the mean over splits. With an odd number one half is smaller,
    but the formula assumes equal halves. It also assumes that twice the data halve the error variance. Where runs are
    mostly noise, between-run products gain more than that, and the value is too low.

    References
    ----------
    Spearman 1910, doi:10.1111/j.2044-8295.1910.tb00206.x; Brown 1910, doi:10.1111/j.2044-8295.1910.tb00207.x

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    >>> truth = rng.normal(size=(8, 40))
    >>> rdms = stack_rdms([compute_rdms(truth + rng.normal(size=(8, 40)), descriptors=items) for _ in range(6)])
    >>> rdm_reliability(rdms, measure="spearman")[["over", "n", "splits"]].values.tolist()
    [['participants', 6, 10]]
    """
    named = find_measure(measure)
    if named == "bures":
        raise InputError(
            "rdm_reliability: the bures similarity of halves does not give that of the whole; choose another measure"
        )
    check_enough(splits, 1, "rdm_reliability", "split")
    rng = rng or np.random.default_rng()
    if hasattr(data, "measurements"):
        return _split_runs(data, named, splits, rng, noise_precision, settings)
    if settings or noise_precision is not None:
        raise InputError(
            f"rdm_reliability: {list_some([*settings] or ['noise_precision'])} is for patterns, but these are RDMs; "
            "leave it out"
        )
    return _halve_participants(data, named, splits, rng)


def compute_spearman_brown(halves: Floats) -> Floats:
    """Compute the Spearman-Brown reliability 2 r / (1 + |r|) of the whole from the correlation r of its halves.

    Examples
    --------
    >>> compute_spearman_brown(np.array([0.5, 0.0, -0.5])).round(3)
    array([ 0.667,  0.   , -0.667])
    """
    return np.asarray(2 * halves / (1 + np.abs(halves)))


def _split_runs(
    data: Any,
    measure: Measure,
    splits: int,
    rng: np.random.Generator,
    precision: Precision | None,
    settings: dict[str, Any],
) -> pd.DataFrame:
    from rsatoolbox.data.dataset import Dataset

    run = np.asarray(data.obs_descriptors.get("run", np.zeros(data.n_obs)))
    every = np.unique(run)
    n = len(every)
    check_enough(
        n, 2, "rdm_reliability", "runs with patterns", "; give patterns per run, or RDMs of several participants"
    )
    if n < 4 and settings.get("dissimilarity") == "crossnobis":
        raise InputError(
            f"rdm_reliability: expected at least 4 runs, as crossnobis takes two per half, got {n}; choose "
            "'correlation' or 'mahalanobis'"
        )
    settings = {"runs": "between" if n >= 4 else "average", **settings}
    precision = resolve_noise(precision, data, settings.get("rois"))
    voxels = np.ones(data.n_channel, dtype=bool)
    if settings.get("rois") is not None and "roi" in data.channel_descriptors:  # skip the copying of others
        voxels = ~np.isin(np.asarray(data.channel_descriptors["roi"]).astype(str), NO_ROI)
    measurements = np.asarray(data.measurements)[:, voxels]
    channels = {key: np.asarray(v)[voxels] for key, v in data.channel_descriptors.items()}

    def compute_half(chosen: NDArray[np.bool_], rois: Any, precision: Any) -> RDMs:
        kept = chosen[np.searchsorted(every, run)]
        part = Dataset(
            measurements[kept],
            descriptors=dict(data.descriptors),
            channel_descriptors=channels,
            obs_descriptors={key: np.asarray(v)[kept] for key, v in data.obs_descriptors.items()},
        )
        own = (
            {name: _select_precisions(one, chosen) for name, one in precision.items()}
            if isinstance(precision, Mapping)
            else (_select_precisions(precision, chosen))
        )
        return compute_rdms(part, noise_precision=own, rois=rois, **settings)

    chosen, enumerated = _draw_halvings(n, splits, rng)
    parts = list(_yield_regions(settings.pop("rois", None), precision, data))
    scores: list[list[list[float]]] = []
    described: dict[str, list[str]] = {}
    with progress("reliability", len(parts) * len(chosen)) as step:
        for rois, own in parts:
            scores.append([])
            for first in chosen:
                one, other = compute_half(first, rois, own), compute_half(~first, rois, own)
                x, y = _share_items(one, other)
                scores[-1].append([compare_vectors(a, b, measure=measure)[0, 0] for a, b in zip(x, y, strict=True)])
                step.advance()
            for key in ("participant", "roi"):
                if key in one.rdm_descriptors:
                    described.setdefault(key, []).extend(str(v) for v in one.rdm_descriptors[key])
    described.setdefault("roi", ["all voxels"] * one.n_rdm)
    return _build_table(described, np.concatenate([np.array(rows) for rows in scores], axis=1), "runs", n, enumerated)


def _yield_regions(rois: Any, precision: Any, data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the regions whose RDMs are computed together, with their noise.

    If the weights of each run are cached for all splits, regions are yielded one by one, so that only the weights of
    one region are in memory at a time.
    """
    if isinstance(precision, RunNoise):
        yield rois, _keep_runs(precision)
    elif rois is not None and isinstance(precision, Mapping):
        for name in list_rois(data, rois):
            yield [name], {name: _keep_runs(precision[check_choice(name, list(precision), "noise_precision for")])}
    else:
        yield rois, precision


def _keep_runs(precision: Any) -> Any:
    return precision.keep_weights() if isinstance(precision, RunNoise) else precision


def _select_precisions(precision: Any, chosen: NDArray[np.bool_]) -> Any:
    """Select the precisions of a half's runs, if there is one per run; a `RunNoise` finds its runs by name."""
    if precision is None or isinstance(precision, RunNoise):
        return precision
    return precision[chosen] if np.ndim(precision) == 3 else precision


def _share_items(one: RDMs, other: RDMs) -> tuple[Floats, Floats]:
    """Return the RDMs of both halves over the items that both have."""
    labels = [list_labels(side) for side in (one, other)]
    kept = [label for label in labels[0] if label in set(labels[1])]
    check_enough(len(kept), 3, "rdm_reliability", "items in both halves of the runs")
    x, y = (
        np.asarray(side.dissimilarities)[:, find_pair_positions(np.array([own.index(k) for k in kept]), len(own))]
        for side, own in zip((one, other), labels, strict=True)
    )
    return x, y


def _halve_participants(data: Any, measure: Measure, splits: int, rng: np.random.Generator) -> pd.DataFrame:
    check_items(data, "rdm_reliability")
    vectors = np.asarray(data.dissimilarities, dtype=np.float64)
    halvings: dict[int, tuple[NDArray[np.bool_], bool]] = {}
    tables = []
    for roi, mine in group_by_region(data).items():
        x = vectors[mine]
        if len(x) < 2:
            raise InputError(
                f"rdm_reliability: expected an RDM of {roi!r} from at least 2 participants, got {len(x)}; give "
                "patterns with runs for the reliability of one"
            )
        if len(x) not in halvings:  # the splits are the same for all ROIs with as many participants
            halvings[len(x)] = _draw_halvings(len(x), splits, rng)
        chosen, enumerated = halvings[len(x)]
        scores = [
            [
                compare_vectors(pool_others(x[first], measure)[0], pool_others(x[~first], measure)[0], measure=measure)[
                    0, 0
                ]
            ]
            for first in chosen
        ]
        tables.append(_build_table({"roi": [roi]}, np.array(scores), "participants", len(x), enumerated))
    return pd.concat(tables, ignore_index=True)


def _build_table(described: dict[str, list[str]], scores: Floats, over: str, n: int, enumerated: bool) -> pd.DataFrame:
    """Build the table from scores `(n_splits, n_rdms)`; splits without a score do not count."""
    count = np.isfinite(scores).sum(axis=0)
    halves = np.nansum(scores, axis=0) / np.where(count > 0, count, np.nan)
    return pd.DataFrame(
        {
            **described,
            "over": over,
            "n": n,
            "splits": len(scores),
            "enumerated": enumerated,
            "halves": halves,
            "reliability": compute_spearman_brown(halves),
        }
    )


def _draw_halvings(n: int, splits: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], bool]:
    """Return the first halves `(n_splits, n)` of n runs or participants, and whether they are enumerated."""
    size = n // 2
    total = math.comb(n, size) // (2 if n % 2 == 0 else 1)
    if total <= splits:
        return np.array(list(_list_halvings(n, size))), True
    drawn = np.zeros((splits, n), dtype=bool)
    drawn[:, :size] = True
    return rng.permuted(drawn, axis=1), False


def _list_halvings(n: int, size: int) -> Iterator[NDArray[np.bool_]]:
    for members in combinations(range(n), size):
        if n % 2 or 0 in members:  # with even n each split would occur twice
            yield np.isin(np.arange(n), members)
