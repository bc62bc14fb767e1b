"""Describe each participant of a study: how much its geometry agrees with the others', and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainmap.study.results.context import Context
from brainmap.study.results.tables import read_results_table
from brainmap.types import Floats

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

FAR = 3.0
"""Robust standard deviations below the median from which on a participant is an outlier."""


def tabulate_people(
    context: Context, brains: RDMs, scores: pd.DataFrame, counts: pd.DataFrame, answers: pd.DataFrame | None
) -> pd.DataFrame:
    """Build a table with a row for each participant, those that agree least with the others first.

    Parameters
    ----------
    context : Context
    brains : rsatoolbox RDMs
        RDMs of all participants and regions.
    scores : DataFrame
        participant, network, layer, roi, score.
    counts : DataFrame
        participant, roi, and numbers of voxels that were used and left out.
    answers : DataFrame, optional
        The best layers of all networks in all regions.

    Returns
    -------
    DataFrame
        participant, agreement (Spearman correlation of the participant's RDM with the mean ranks of the others', mean
        over regions; of several participants), lowest_region (where it is lowest), outlier, reliability (of RDMs over
        runs, mean over regions, where runs were compared), best_layers_score (mean over regions of the score of the
        region's best layer), voxels (used, of the mask), left_out (voxels of the mask that were not used).
    """
    rois = np.array([str(roi) for roi in brains.rdm_descriptors["roi"]])
    people = np.array([str(who) for who in brains.rdm_descriptors["participant"]])
    vectors = np.asarray(brains.dissimilarities, dtype=np.float64)
    parts = [
        pd.Series(compute_agreement(vectors[rois == roi]), index=people[rois == roi], name=roi)
        for roi in dict.fromkeys(rois)
    ]
    agreement = pd.concat(parts, axis=1)
    table = pd.DataFrame({"participant": agreement.index})
    if len(agreement) > 1:
        mean = agreement.mean(axis=1)
        table["agreement"] = mean.to_numpy()
        known = agreement.fillna(np.inf)
        table["lowest_region"] = known.idxmin(axis=1).to_numpy()
        table["outlier"] = find_outliers(mean.to_numpy())
    for name, found in (
        ("reliability", _read_reliability(context)),
        ("best_layers_score", _average_best(scores, answers)),
        *_count_voxels(counts).items(),
    ):
        if len(found):
            table[name] = table["participant"].map(found)
    return table.sort_values("agreement", kind="stable") if "agreement" in table else table


def compute_agreement(vectors: Floats) -> Floats:
    """Correlate the ranks of each RDM `(n_rdms, n_pairs)` with the mean ranks of the others; NaN pairs are left out.

    Examples
    --------
    >>> compute_agreement(np.array([[1.0, 2, 3], [1, 2, 4], [3, 2, 1]])).round(2)
    array([ 0.,  0., -1.])
    """
    from scipy.stats import rankdata

    there = np.isfinite(vectors).all(axis=0)
    if len(vectors) < 2 or there.sum() < 3:
        return np.full(len(vectors), np.nan)
    ranks = rankdata(vectors[:, there], axis=1)
    others = (ranks.sum(axis=0) - ranks) / (len(ranks) - 1)
    a, b = (one - one.mean(axis=1, keepdims=True) for one in (ranks, others))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(scale > 0, scale, np.inf))


def find_outliers(values: Floats) -> list[bool]:
    """Tell which values lie far below the median, by the median absolute deviation; none of fewer than five.

    Examples
    --------
    >>> find_outliers(np.array([0.5, 0.52, 0.49, 0.51, 0.1]))
    [False, False, False, False, True]
    """
    away = values - np.nanmedian(values)
    spread = 1.4826 * float(np.nanmedian(np.abs(away)))
    return [bool(len(values) > 4 and one < -FAR * max(spread, 1e-3)) for one in away]


def _read_reliability(context: Context) -> pd.Series[float]:
    """Read how well each participant's RDMs repeat over runs, as the mean over regions."""
    paths = [context.build_subject_path(p, "reliability.tsv", desc="rois") for p in context.study.participants()]
    found = [read_results_table(path) for path in paths if path.exists()]
    if not found:
        return pd.Series(dtype=float)
    return pd.concat(found).groupby("participant")["reliability"].mean()


def _average_best(scores: pd.DataFrame, answers: pd.DataFrame | None) -> pd.Series[float]:
    """Average each participant's scores of the best layers over the regions that have one."""
    if answers is None or not answers["best"].any():
        return pd.Series(dtype=float)
    best = answers.loc[answers["best"], ["roi", "network", "layer"]]
    mine = scores.assign(roi=scores["roi"].astype(str)).merge(best, on=["roi", "network", "layer"])
    return mine.groupby("participant")["score"].mean()


def _count_voxels(counts: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Return the voxels that were used of each participant's mask, and those left out; the first row is the mask."""
    if not {"voxels", "kept"} <= set(counts):
        return {}
    whole = counts.groupby("participant", sort=False)[["voxels", "kept"]].first()
    return {"voxels": whole["kept"], "left_out": whole["voxels"] - whole["kept"]}
