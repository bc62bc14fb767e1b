"""Noise ceilings: how well any model could do, given how much participants agree."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import RANKED, Measure, by_missing, compare_vectors, measure_named, scaled
from brainmap.rsa.rdm.alignment import check_items
from brainmap.rsa.rdm.dissimilarity import Floats

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

CEILING_COLUMNS = {
    "roi": "region of interest",
    "lower": "lower noise ceiling: each participant against the others' mean",
    "upper": "upper noise ceiling: each participant against the mean of all",
    "n": "participants",
    "approximate": "whether the upper bound is approximate (tau-a, tau-b, bures, partial scores)",
}


APPROXIMATE = ("tau-a", "tau-b", "bures")
"""Measures whose best pool is no mean."""


@dataclass(frozen=True, eq=False)
class NoiseCeiling:
    """The band in which the true model would score.

    Attributes
    ----------
    lower, upper : float
        Means over participants of: each one against the pooled others; each one against the pool of all.
    measure : str
        The measure both are in, the same as the score's.
    lower_per_participant, upper_per_participant : array (n_participants,)
    approximate : bool
        True for tau-a, tau-b and bures: averaged ranks (geometries) are near, and not at, the best pool for them, so
        `upper` may be too low.
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
    """The noise ceiling of the RDMs of several participants, on the full data.

    Parameters
    ----------
    data_rdms : rsatoolbox RDMs
        One RDM a participant (of one ROI).
    measure : str
        As in `brainmap.rsa.compare_rdms`: take the one the scores are in.
    sigma_k : array, optional
        Covariance of the patterns for the whitened measures.

    Returns
    -------
    NoiseCeiling

    Raises
    ------
    InputError
        Fewer than two participants, fewer than three items, or RDMs of several ROIs at once.

    Notes
    -----
    RDMs are pooled on the measure's own scale: unit length for cosine, z-scores for pearson, ranks for spearman, rho-a
    and tau, whitened length for the whitened measures, one size of the geometry for bures. Pairs that a participant
    lacks are pooled over the others.

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
            f"noise_ceiling: found RDMs of {len(rois)} ROIs ({some(rois, 3)}), wanted one; take "
            "it with .subset('roi', name), or all with noise_ceilings"
        )
    return noise_ceiling_of_vectors(np.asarray(data_rdms.dissimilarities), measure=measure, sigma_k=sigma_k)


def noise_ceiling_of_vectors(
    vectors: NDArray[np.floating],
    *,
    measure: Measure | str = "rho-a",
    sigma_k: NDArray[np.floating] | None = None,
) -> NoiseCeiling:
    """`noise_ceiling` of condensed vectors `(n_participants, n_pairs)`.

    Examples
    --------
    >>> round(noise_ceiling_of_vectors(np.array([[1.0, 2, 3, 4], [2.0, 1, 3, 4]]), measure="spearman").lower, 6)
    0.8
    """
    measure = measure_named(measure)
    x = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    if len(x) < 2:
        raise InputError(
            f"noise_ceiling: found {len(x)} participant, wanted at least 2; a ceiling says how well participants agree"
        )
    pooled, others = pools(x, measure, sigma_k)
    upper = compare_vectors(pooled, x, measure=measure, sigma_k=sigma_k)[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "bures", BrainmapWarning)  # the RDMs were counted a line above
        lower = np.array(
            [
                compare_vectors(pool, one, measure=measure, sigma_k=sigma_k)[0, 0]
                for pool, one in zip(others, x, strict=True)
            ]
        )
    return NoiseCeiling(
        lower=_mean(lower),
        upper=_mean(upper),
        measure=measure,
        lower_per_participant=lower,
        upper_per_participant=upper,
        approximate=measure in APPROXIMATE,
    )


def noise_ceilings(
    data_rdms: RDMs, *, measure: Measure | str = "rho-a", sigma_k: NDArray[np.floating] | None = None
) -> pd.DataFrame:
    """A noise ceiling an ROI, as a table: roi, lower, upper, n (participants), approximate."""
    check_items(data_rdms, "noise_ceilings")
    names = [str(roi) for roi in data_rdms.rdm_descriptors.get("roi", ["all voxels"] * data_rdms.n_rdm)]
    vectors = np.asarray(data_rdms.dissimilarities)
    rows = []
    for roi in dict.fromkeys(names):
        chosen = vectors[[name == roi for name in names]]
        found = noise_ceiling_of_vectors(chosen, measure=measure, sigma_k=sigma_k)
        rows.append(
            {"roi": roi, "lower": found.lower, "upper": found.upper, "n": len(chosen), "approximate": found.approximate}
        )
    return pd.DataFrame(rows)


def pools(x: Floats, measure: Measure, sigma_k: NDArray[np.floating] | None = None) -> tuple[Floats, Floats]:
    """The mean `(n_pairs,)` of all RDMs on the scale of the measure, and for each RDM the mean of the others."""
    own = _on_scale(x, measure, sigma_k)
    weight = (~np.isnan(own)).astype(np.float64)
    own = np.nan_to_num(own)
    total, count = own.sum(axis=0), weight.sum(axis=0)
    whole, others = _ratio(total, count), _ratio(total - own, count - weight)
    if measure in RANKED:  # means of ranks that are equal must stay so, in whatever order they were added
        whole, others = whole.round(9), others.round(9)
    return whole, others


def _on_scale(x: Floats, measure: Measure, sigma_k: NDArray[np.floating] | None) -> Floats:
    """Each RDM on the scale where averaging is fair; one that lacks pairs others have is scaled to weigh as theirs."""
    sigma = None if sigma_k is None else np.asarray(sigma_k, dtype=np.float64)
    known = (~np.isnan(x)).any(axis=0).mean()
    result = np.full(x.shape, np.nan)
    for rows, use in by_missing(x):
        if use.any():
            share = use.mean() / known
            part = scaled(x[np.ix_(rows, use)], measure, use=use, sigma_k=sigma)
            result[np.ix_(rows, use)] = part / share if measure in RANKED else part * np.sqrt(share)
    return result


def _ratio(total: Floats, count: Floats) -> Floats:
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _mean(values: Floats) -> float:
    """The mean of the participants whose score is defined (`compare_vectors` has counted the others)."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
