"""RDMs that the design alone produces: the noise that neighboring events share, and the time between events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainmap.checks import check_choice, check_enough
from brainmap.errors import InputError
from brainmap.rsa.glm.arma import WHITE, Arma
from brainmap.rsa.glm.design import GlmSettings
from brainmap.rsa.glm.estimators import FEW_PAIRS, build_estimator
from brainmap.rsa.glm.plan import Plan
from brainmap.types import Floats, Level, RDMs

TYPICAL_AUTOCORRELATION = 0.3
"""Assumed lag-1 autocorrelation of the noise before any data are available."""


ANGULAR = ("correlation", "cosine")
"""Dissimilarities that divide each pattern, and with it the noise, by the length of the pattern."""


def convert_to_geometry(design: RDMs, dissimilarity: str) -> RDMs:
    """Convert `noise-only` among the RDMs of a design to the dissimilarity of the brain RDMs.

    For "correlation" and "cosine", items with noise variances v_i and v_j and a squared distance d of their noise get
    `1 - (v_i + v_j - d) / (2 sqrt(v_i v_j))`.

    Parameters
    ----------
    design : rsatoolbox.rdm.RDMs
        RDMs as `design_rdms` returns them by default.
    dissimilarity : str
        "correlation" and "cosine" give one minus the correlation of the estimates; others leave the RDM unchanged.

    Raises
    ------
    InputError
        If the RDMs lack the descriptor for the noise variance of each item.
    """
    if dissimilarity not in ANGULAR or "noise-only" not in design.rdm_descriptors["name"]:
        return design
    if "noise_variance" not in design.pattern_descriptors:
        raise InputError("noise-only: these design RDMs do not hold the noise of each item; make the betas again")
    variance = np.asarray(design.pattern_descriptors["noise_variance"], float)
    i, j = np.triu_indices(len(variance), 1)
    found = design.copy()
    own = np.flatnonzero(np.array(found.rdm_descriptors["name"]) == "noise-only")
    covariance = (variance[i] + variance[j] - found.dissimilarities[own]) / 2
    found.dissimilarities[own] = 1 - covariance / np.sqrt(variance[i] * variance[j])
    return found


def predict_design_rdms(
    plan: Plan,
    settings: GlmSettings,
    *,
    items: Level = "stimulus",
    autocorrelation: float = TYPICAL_AUTOCORRELATION,
) -> RDMs:
    """Compute `design_rdms` from the events alone, before any volume is read, for an assumed autocorrelation.

    Raises
    ------
    InputError
        If there are fewer than 3 items.
    """
    labels = [label for design in plan.designs for label in design.labels]
    conditions = [condition for design in plan.designs for condition in design.conditions]
    runs = [name for name, design in zip(plan.run_names, plan.designs, strict=True) for _ in design.labels]
    onsets = np.concatenate([design.onsets for design in plan.designs])
    noise = Arma(autocorrelation)
    covariances = [
        build_estimator(
            design, settings, WHITE if settings.noise == "ols" or design.timing.pairs < FEW_PAIRS else noise
        ).covariance(noise)
        for design in plan.designs
    ]
    return build_design_rdms(labels, conditions, runs, onsets, covariances, items=items)


def build_design_rdms(
    labels: Sequence[str],
    conditions: Sequence[str],
    runs: Sequence[str],
    onsets: Floats,
    covariances: Sequence[Floats],
    *,
    items: Level,
) -> RDMs:
    """Build the noise-only and the elapsed-time RDM from the labels, onsets and beta covariances of all runs.

    Parameters
    ----------
    labels, conditions, runs : sequence of str, one a beta
    onsets : array (n_betas,) [s]
    covariances : sequence of array (n_betas of the run, n_betas of the run), one a run
    items : {"stimulus", "condition"}

    Raises
    ------
    InputError
        If there are fewer than 3 items.
    """
    from rsatoolbox.rdm.rdms import RDMs

    check_choice(items, ("stimulus", "condition"), "items")
    of_beta = np.array(labels if items == "stimulus" else conditions)
    names = list(dict.fromkeys(of_beta.tolist()))
    check_enough(len(names), 3, "design RDMs", "items")
    n = len(names)
    of_run = np.array(runs)
    covariance, seen = np.zeros((n, n)), np.zeros(n)
    elapsed, together = np.zeros((n, n)), np.zeros((n, n))
    for run, noise_of_run in zip(dict.fromkeys(runs), covariances, strict=True):
        members = np.equal.outer(np.array(names), of_beta[of_run == run]).astype(float)
        count = members.sum(axis=1)
        there = count > 0
        average = members / np.where(there, count, 1)[:, None]
        covariance += average @ noise_of_run @ average.T
        seen += there
        when = average @ onsets[of_run == run]
        both = np.outer(there, there)
        elapsed += np.where(both, np.abs(np.subtract.outer(when, when)), 0)
        together += both
    covariance /= np.outer(seen, seen)
    noise = np.diag(covariance)[:, None] + np.diag(covariance) - 2 * covariance
    with np.errstate(invalid="ignore"):
        time = np.where(together > 0, elapsed / together, np.nan)
    pairs = np.triu_indices(n, 1)
    described = {"condition": np.array(names), "noise_variance": np.diag(covariance)}
    if items == "stimulus":
        condition = dict(zip(labels, conditions, strict=True))
        described |= {"stimulus_id": np.array(names), "condition": np.array([condition[name] for name in names])}
    return RDMs(
        np.stack([noise[pairs], time[pairs]]),
        dissimilarity_measure="expected from the design",
        descriptors={"level": items},
        rdm_descriptors={"name": ["noise-only", "elapsed-time"]},
        pattern_descriptors=described,
    )
