"""Compute noise ceilings, the range of scores that the best model can reach given the noise of the participants."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_enough, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import RANKED, compare_vectors, find_measure, group_by_missing, scale_vectors
from brainmap.rsa.rdm.alignment import check_items, group_by_region
from brainmap.types import Floats, Measure, RDMs

CEILING_COLUMNS = {
    "roi": "region of interest",
    "lower": "lower noise ceiling: each participant against the others' mean",
    "upper": "upper noise ceiling: each participant against the mean of all",
    "n": "participants",
    "approximate": "whether the upper bound is approximate (tau-a, tau-b, bures, partial scores)",
}


APPROXIMATE = ("tau-a", "tau-b", "bures")
"""Measures for which the mean RDM is not the best predictor, so that the upper ceiling is approximate."""


@dataclass(frozen=True, eq=False)
class NoiseCeiling:
    """Hold the lower and upper noise ceiling, between which the score of the true model is expected.

    Attributes
    ----------
    lower, upper : float
        Mean similarity over participants of each participant's RDM to the pooled RDM of the others (lower) or of all
        (upper).
    measure : str
        The measure of both, which must be that of the scores.
    lower_per_participant, upper_per_participant : array (n_participants,)
    approximate : bool
        True for tau-a, tau-b and bures: the averaged ranks (geometries) are close to the best predictor but not equal
        to it, so `upper` may be too low.
    """

    lower: float
    upper: float
    measure: Measure
    lower_per_participant: Floats
    upper_per_participant: Floats
    approximate: bool


def noise_ceiling(
    data_rdms: RDMs, *, measure: Measure | str = "rho-a", sigma_k: NDArray[np.floating] | None = None
) -> NoiseCeiling:
    """Compute the noise ceiling of the RDMs of several participants.

    Parameters
    ----------
    data_rdms : rsatoolbox RDMs
        One RDM per participant (of one ROI).
    measure : str
        As in `brainmap.rsa.compare_rdms`; use the measure of the scores.
    sigma_k : array, optional
        Covariance of the patterns for the whitened measures.

    Returns
    -------
    NoiseCeiling

    Raises
    ------
    InputError
        There are fewer than two participants, fewer than three items, or RDMs of several ROIs.

    Notes
    -----
    RDMs are averaged on the scale of the measure: at unit length for cosine, as z-scores for pearson, as ranks for
    spearman, rho-a and tau, at unit whitened length for the whitened measures, and with unit trace of the inner
    products for bures. Pairs that a participant lacks are averaged over the others.

    References
    ----------
    Nili et al. 2014, doi:10.1371/journal.pcbi.1003553

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng = np.random.default_rng(0)
    >>> truth, items = rng.normal(size=(8, 40)), {"stimulus_id": list("abcdefgh")}
    >>> noisy = [compute_rdms(truth + rng.normal(size=(8, 40)), descriptors=items) for _ in range(6)]
    >>> ceiling = noise_ceiling(stack_rdms(noisy), measure="spearman")
    >>> 0 < ceiling.lower < ceiling.upper < 1
    True
    """
    check_items(data_rdms, "noise_ceiling")
    rois = sorted({str(value) for value in data_rdms.rdm_descriptors.get("roi", ())})
    if len(rois) > 1:
        raise InputError(
            f"noise_ceiling: expected RDMs of one ROI, got {len(rois)} ROIs ({list_some(rois, 3)}); take one with "
            ".subset('roi', name), or all with noise_ceilings"
        )
    return compute_vector_ceiling(np.asarray(data_rdms.dissimilarities), measure=measure, sigma_k=sigma_k)


def compute_vector_ceiling(
    vectors: NDArray[np.floating],
    *,
    measure: Measure | str = "rho-a",
    sigma_k: NDArray[np.floating] | None = None,
) -> NoiseCeiling:
    """Compute the `noise_ceiling` of condensed vectors `(n_participants, n_pairs)`.

    Examples
    --------
    >>> round(compute_vector_ceiling(np.array([[1.0, 2, 3, 4], [2.0, 1, 3, 4]]), measure="spearman").lower, 6)
    0.8
    """
    measure = find_measure(measure)
    x = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    check_enough(len(x), 2, "noise_ceiling", "participants", "; a ceiling says how well participants agree")
    pooled, others = pool_others(x, measure, sigma_k)
    upper = compare_vectors(pooled, x, measure=measure, sigma_k=sigma_k)[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "bures", BrainmapWarning)  # the RDMs were already counted above
        lower = np.array(
            [
                compare_vectors(pool, one, measure=measure, sigma_k=sigma_k)[0, 0]
                for pool, one in zip(others, x, strict=True)
            ]
        )
    upper = np.where(np.isnan(lower), np.nan, upper)  # with nobody to compare with, the pool is the participant's own
    return NoiseCeiling(
        lower=average_defined(lower),
        upper=average_defined(upper),
        measure=measure,
        lower_per_participant=lower,
        upper_per_participant=upper,
        approximate=measure in APPROXIMATE,
    )


def noise_ceilings(
    data_rdms: RDMs, *, measure: Measure | str = "rho-a", sigma_k: NDArray[np.floating] | None = None
) -> pd.DataFrame:
    """Compute the noise ceiling of each ROI: roi, lower, upper, n (participants with an RDM there), approximate.

    Parameters
    ----------
    data_rdms : rsatoolbox RDMs
        One RDM for each region and participant, with the RDM descriptor `roi`.
    measure : str
        As for `compare_rdms`; take that of the scores.
    sigma_k : array (n_items,) or (n_items, n_items), optional
        Covariance of the patterns for the whitened measures.

    Returns
    -------
    DataFrame
        A row a region, as `noise_ceiling` computes it.
    """
    check_items(data_rdms, "noise_ceilings")
    vectors = np.asarray(data_rdms.dissimilarities)
    rows = []
    for roi, mine in group_by_region(data_rdms).items():
        found = compute_vector_ceiling(vectors[mine], measure=measure, sigma_k=sigma_k)
        rows.append(
            {
                "roi": roi,
                "lower": found.lower,
                "upper": found.upper,
                "n": int(np.isfinite(found.lower_per_participant).sum()),
                "approximate": found.approximate,
            }
        )
    return pd.DataFrame(rows)


def pool_others(x: Floats, measure: Measure, sigma_k: NDArray[np.floating] | None = None) -> tuple[Floats, Floats]:
    """Average all RDMs on the scale of the measure, `(n_pairs,)`, and for each RDM the others."""
    own = _scale_rdms(x, measure, sigma_k)
    weight = (~np.isnan(own)).astype(np.float64)
    own = np.nan_to_num(own)
    total, count = own.sum(axis=0), weight.sum(axis=0)
    whole, others = _compute_ratio(total, count), _compute_ratio(total - own, count - weight)
    if measure in RANKED:  # equal means of ranks must stay equal in spite of rounding
        whole, others = whole.round(9), others.round(9)
    return whole, others


def _scale_rdms(x: Floats, measure: Measure, sigma_k: NDArray[np.floating] | None) -> Floats:
    """Bring each RDM to the scale of the measure; RDMs with missing pairs are scaled to have the same weight."""
    sigma = None if sigma_k is None else np.asarray(sigma_k, dtype=np.float64)
    known = (~np.isnan(x)).any(axis=0).mean()
    result = np.full(x.shape, np.nan)
    for rows, use in group_by_missing(x):
        if use.any():
            share = use.mean() / known
            part = scale_vectors(x[np.ix_(rows, use)], measure, use=use, sigma_k=sigma)
            result[np.ix_(rows, use)] = part / share if measure in RANKED else part * np.sqrt(share)
    return result


def _compute_ratio(total: Floats, count: Floats) -> Floats:
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def average_defined(values: Floats) -> float:
    """Average the defined scores; `compare_vectors` has counted the undefined ones."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
