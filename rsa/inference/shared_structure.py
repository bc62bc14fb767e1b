"""Test whether participants share structure that a model does not explain."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import RANKED, find_measure, group_by_missing
from brainmap.rsa.comparison.partial import compute_rest
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.comparison.splines import build_spline_columns
from brainmap.rsa.inference.scores import correct_p
from brainmap.rsa.inference.sign_flips import TIE, draw_signs, list_signs
from brainmap.rsa.rdm.alignment import align_vectors, list_rdm_names
from brainmap.types import Correction, Floats, Measure, RDMs, SplineForm

FEWEST = 6
"""Smallest number of participants with which p can be below .05."""
SAYS = "participants share structure that this model lacks"

RESIDUAL_COLUMNS = {
    "network": "network, or a control of it",
    "layer": "layer",
    "model": "model",
    "roi": "region of interest",
    "shared": "mean correlation between two participants of what the model leaves of their RDMs",
    "p": f"one-sided, uncorrected, of: {SAYS} (noise that their designs share included)",
    "p_corrected": "corrected over all rows of the table: models x regions",
    "n": "participants",
    "smallest_p": f"smallest p that so many participants can reach; fewer than {FEWEST} are not tested",
}
"""Descriptions of the columns of `residual_structure`, for the sidecar."""


def residual_structure(
    model_rdms: RDMs,
    data_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    correction: Correction = "fdr",
    permutations: int = 5000,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test whether participants share structure that a model does not explain.

    A score below the lower noise ceiling does not show this: the ceiling compares a participant with the noisy mean of
    the others, and the true model itself may lie above or below it. Here each model is regressed out of each
    participant's RDM, and the residuals are compared between participants.

    Parameters
    ----------
    model_rdms : rsatoolbox RDMs
        One RDM per model, named by the RDM descriptor layer (with network where layers repeat) or name.
    data_rdms : rsatoolbox RDMs
        One RDM per participant and ROI (RDM descriptors `participant` and `roi`), over the same items in any order.
    measure : str
        The measure of the scores. For rank measures, the ranks of a participant's RDM are regressed on a cubic spline
        of the model's ranks (6 columns); for other measures, its values are regressed on the model's and a constant.
    correction : {"fdr", "bonferroni", "none"}
        The correction over all models and ROIs.
    permutations : int
        All distinct sign flips are used if there are at most this many; else this many are drawn.
    rng : numpy Generator, optional
        Used only when flips are drawn.

    Returns
    -------
    DataFrame
        One row per model and ROI: model, roi, shared (mean correlation of the residuals of two participants), p
        (one-sided), p_corrected, n (participants whose residual is not 0), smallest_p. p is NaN with fewer than 6
        participants. `attrs["note"]` describes the test in words.

    Raises
    ------
    InputError
        The RDMs differ in level or items, a participant has two RDMs of an ROI, or the correction is unknown.

    Notes
    -----
    With e_k the residual of participant k, scaled to unit length, the statistic is the sum over k != l of e_k . e_l.
    If the participants share nothing beyond the model, the sign of each e_k may be flipped. Flipping all signs changes
    nothing, so that n participants have 2^(n - 1) distinct flips and no p is below 1/2^(n - 1). Structure that
    participants share for other reasons than the stimuli (the same order of events, the same scanner) counts, too.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefghijkl")}
    >>> one, two = rng.normal(size=(2, 12, 5))
    >>> models = stack_rdms([compute_rdms(x, descriptors={**items, "layer": name}) for name, x in
    ...                      (("half", one), ("whole", np.hstack([one, two])))])
    >>> data = stack_rdms([compute_rdms(np.hstack([one, two]) + 0.5 * rng.normal(size=(12, 10)),
    ...                                 descriptors={**items, "participant": p}) for p in "12345678"])
    >>> (residual_structure(models, data)["p"] < 0.05).tolist()
    [True, False]
    """
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"))
    data, named = np.asarray(data_rdms.dissimilarities, dtype=np.float64), find_measure(measure)
    rois = [str(roi) for roi in data_rdms.rdm_descriptors.get("roi", ["all voxels"] * len(data))]
    people = [str(who) for who in data_rdms.rdm_descriptors.get("participant", range(len(data)))]
    (roi, who), count = Counter(zip(rois, people, strict=True)).most_common(1)[0]
    if count > 1:
        raise InputError(f"residual_structure: expected one RDM of {roi!r} from participant {who!r}, got {count}")
    correct_p(np.array([np.nan]), correction)  # report a mistake before the long computation
    rng = rng or np.random.default_rng()
    flips: dict[int, Floats] = {}
    rows = []
    for name, model in zip(list_rdm_names(model_rdms), models, strict=True):
        for roi in dict.fromkeys(rois):
            mine = data[[one == roi for one in rois]]
            rest = compute_rests_of_model(model, mine, named)
            n = len(rest)
            gram = rest @ rest.T
            row = {"model": name, "roi": roi, "shared": np.nan, "p": np.nan, "n": n, "smallest_p": np.nan}
            if n > 1:
                row["shared"] = (gram.sum() - np.trace(gram)) / (n * (n - 1))
            if n >= FEWEST:
                if n not in flips:
                    flips[n] = _draw_flips(n, permutations, rng)
                row["p"], row["smallest_p"] = _compute_share_as_high(gram, flips[n]), 1.0 / len(flips[n])
            rows.append(row)
    table = pd.DataFrame(rows)
    table.insert(4, "p_corrected", correct_p(table["p"], correction))
    table.attrs["note"] = _describe_flips(table, flips, correction)
    return table


def compute_rests_of_model(model: Floats, data: Floats, measure: Measure) -> Floats:
    """Compute the unit-length residuals of RDMs `(n_participants, n_pairs)` on a model; missing pairs are 0.

    RDMs without any residual are left out. All are left out if the model has no variance, or if there are no more pairs
    than columns of the regression.
    """
    form: SplineForm = "ranks" if measure in RANKED else "linear"
    result: Floats = np.zeros(data.shape)
    for rows, there in group_by_missing(data):
        use = there & ~np.isnan(model)
        if not use.any() or np.ptp(model[use]) == 0:
            continue
        columns = build_spline_columns(model[None, use], form)
        if len(columns) > columns.shape[1] + 1:
            x = data[np.ix_(rows, use)]
            left = compute_rest(rank_rows(x) if form == "ranks" else x, columns)
            result[np.ix_(rows, use)] = np.nan_to_num(left)
    return result[result.any(axis=1)]


def _draw_flips(n: int, permutations: int, rng: np.random.Generator) -> Floats:
    """Return signs `(n_flips, n)` with the identity first; if they are enumerated, no two rows are opposite."""
    if 2 ** (n - 1) <= permutations:
        return np.column_stack([np.ones(2 ** (n - 1)), list_signs(n - 1)])
    return np.concatenate([np.ones((1, n)), draw_signs(n, permutations, rng)])


def _compute_share_as_high(gram: Floats, signs: Floats) -> float:
    """Compute the share of flips whose sum of products between participants is at least that of the true signs."""
    sums = np.einsum("fk,fk->f", signs @ gram, signs)
    return float((sums >= sums[0] - TIE * np.abs(gram).sum()).mean())


def _describe_flips(table: pd.DataFrame, flips: dict[int, Floats], correction: str) -> str:
    how = {"fdr": "false discovery rate (Benjamini-Hochberg)", "bonferroni": "Bonferroni", "none": "not corrected"}
    n_tests, nothing = int(table["p"].notna().sum()), int((table["n"] == 0).sum())
    said = f"{SAYS}: sign flips of whole RDMs less the model (one-sided), {how[correction]} over {n_tests} tests"
    if flips:
        said += f"; the smallest p it can reach is {table['smallest_p'].max():.3g}"
    if nothing:
        said += f"; {nothing} are not tested, as the model is constant, has too few pairs, or leaves nothing of any RDM"
    if table["n"].between(1, FEWEST - 1).any():
        said += f"; fewer than {FEWEST} participants are not tested (5 reach no p below .0625)"
    return said
