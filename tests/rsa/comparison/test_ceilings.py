"""Noise ceilings against rsatoolbox, with missing pairs, and what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
from rsatoolbox.rdm.rdms import RDMs

from brainmap.errors import InputError
from brainmap.rsa.comparison.ceilings import compute_vector_ceiling, noise_ceiling, noise_ceilings
from brainmap.rsa.comparison.measures import MEASURES, compare_vectors
from brainmap.rsa.rdm.alignment import stack_rdms
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.types import Measure


def participants(rng: np.random.Generator, n: int = 7, noise: float = 1.0) -> np.ndarray:
    truth = rng.normal(size=(8, 30))
    return np.array([compute_dissimilarities(truth + noise * rng.normal(size=truth.shape)) for _ in range(n)])


@pytest.mark.parametrize("measure", ["spearman", "rho-a", "tau-a", "pearson", "cosine"])
@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
def test_equals_rsatoolbox(measure: Measure) -> None:
    x = participants(np.random.default_rng(0)).round(2)
    found = compute_vector_ceiling(x, measure=measure)
    theirs: Any = boot_noise_ceiling(RDMs(x), method={"pearson": "corr"}.get(measure, measure))
    np.testing.assert_allclose((found.lower, found.upper), theirs, atol=1e-10)
    assert found.approximate == (measure == "tau-a")
    np.testing.assert_allclose(found.lower_per_participant.mean(), found.lower)


@pytest.mark.parametrize("measure", ["pearson", "cosine", "spearman", "corr_cov", "cosine_cov"])
def test_no_model_beats_the_upper_bound(measure: Measure) -> None:
    """Pooling on the measure's own scale gives the one RDM with the highest mean score; plain averaging does not."""
    rng = np.random.default_rng(1)
    x = participants(rng) * rng.uniform(0.1, 20, size=(7, 1))
    upper = compute_vector_ceiling(x, measure=measure).upper
    tries = np.vstack([x.mean(0), x, rng.normal(size=(200, 28)) * 0.02 + (x / x.mean(1, keepdims=True)).mean(0)])
    best = compare_vectors(tries, x, measure=measure).mean(1).max()
    assert best <= upper + 1e-12
    assert compare_vectors(x.mean(0), x, measure=measure).mean() < upper


@pytest.mark.parametrize("measure", MEASURES)
def test_missing_pairs_count_for_nobody_else(measure: Measure) -> None:
    x = participants(np.random.default_rng(2), noise=0.5)
    i, j = np.triu_indices(8, 1)
    whole = compute_vector_ceiling(x, measure=measure)
    x[3, (i == 2) | (j == 2)] = np.nan
    found = compute_vector_ceiling(x, measure=measure)
    assert np.isfinite([found.lower, found.upper]).all()
    assert found.lower_per_participant[3] != whole.lower_per_participant[3]
    np.testing.assert_allclose(found.lower, whole.lower, atol=0.1)
    np.testing.assert_allclose(found.upper, whole.upper, atol=0.1)


def test_the_true_model_lies_within_the_band() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(20):
        truth = rng.normal(size=(10, 30))
        x = np.array([compute_dissimilarities(truth + rng.normal(size=truth.shape)) for _ in range(12)])
        found = compute_vector_ceiling(x, measure="spearman")
        inside += (
            found.lower <= compare_vectors(compute_dissimilarities(truth), x, measure="spearman").mean() <= found.upper
        )
    assert inside >= 17


def test_rois_have_ceilings_of_their_own() -> None:
    rng = np.random.default_rng(4)
    items = {"stimulus_id": list("abcdefgh")}
    rdms = []
    for roi, noise in (("HG", 0.3), ("V1", 3.0)):
        truth = rng.normal(size=(8, 30))
        rdms += [
            compute_rdms(truth + noise * rng.normal(size=(8, 30)), descriptors={**items, "roi": roi, "participant": p})
            for p in "1234"
        ]
    both = stack_rdms(rdms)
    with pytest.raises(InputError, match=r"expected RDMs of one ROI, got 2 ROIs \('HG', 'V1'\)"):
        noise_ceiling(both)
    table: Any = noise_ceilings(both, measure="spearman").set_index("roi")
    alone = noise_ceiling(both.subset("roi", "HG"), measure="spearman")
    assert table.loc["HG", "lower"] == alone.lower
    assert table.loc["HG", "lower"] > 0.7 > table.loc["V1", "lower"]
    with pytest.raises(InputError, match="expected at least 2 participants, got 1"):
        noise_ceiling(both.subset("participant", "1").subset("roi", "HG"))


@pytest.mark.filterwarnings("ignore:compare")
def test_a_participant_alone_has_no_ceiling_and_those_without_an_rdm_do_not_count() -> None:
    data = np.random.default_rng(0).normal(size=(4, 15)) + np.arange(15)
    data[[1, 3]] = np.nan
    items = {"stimulus_id": list("abcdef")}
    people = {"participant": list("1212"), "roi": list("AABB")}
    alone = noise_ceilings(RDMs(data, pattern_descriptors=items, rdm_descriptors=people))
    assert alone["n"].tolist() == [0, 0]
    assert alone[["lower", "upper"]].isna().all(axis=None)
    both = noise_ceilings(RDMs(data, pattern_descriptors=items, rdm_descriptors={"participant": list("1234")}))
    assert both["n"].tolist() == [2]
    assert 0 < both["lower"][0] < both["upper"][0] < 1
