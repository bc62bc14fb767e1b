"""Comparison and noise ceilings against rsatoolbox over random shapes, ties, missing pairs, orders of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
from rsatoolbox.rdm.compare import compare as rsatoolbox_compare
from rsatoolbox.rdm.rdms import RDMs

from brainmap.rsa.comparison.ceilings import noise_ceiling, noise_ceilings
from brainmap.rsa.comparison.measures import MEASURES, compare_rdms
from brainmap.rsa.rdm.alignment import stack_rdms
from brainmap.types import Measure

THEIRS = {"pearson": "corr", "tau-b": "kendall"}
DIFFERENTLY_POOLED = ("corr_cov", "cosine_cov", "bures")  # rsatoolbox takes plain lengths, or nothing
pytestmark = [
    pytest.mark.filterwarnings("ignore:Noise ceiling for tau"),
    pytest.mark.filterwarnings("ignore:compare. .* is not defined:brainmap.errors.BrainmapWarning"),
]


@dataclass(frozen=True)
class Case:
    """Models and data over the same items, each in an order of its own, with ties and missing values."""

    models: np.ndarray  # (n_models, n_items, n_items), in the order of `labels`
    data: np.ndarray
    labels: list[str]
    orders: tuple[np.ndarray, np.ndarray]
    gone: tuple[int, ...]  # an item of some data RDMs
    torn: tuple[int, ...]  # data RDMs that lack single pairs


@st.composite
def cases(draw: st.DrawFn, *, torn: bool = True, people: tuple[int, int] = (1, 5)) -> Case:
    """Squared distances of random points: rounded for ties, as every measure (bures, too) can take them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_items, n_models = draw(st.integers(6, 14)), draw(st.integers(1, 4))
    n_data, decimals = draw(st.integers(*people)), draw(st.sampled_from([0, 1, 9]))
    points = rng.normal(size=(n_models + n_data, n_items, draw(st.integers(2, 8)))).round(decimals) + 0.0
    points += 0.5 * points[:1] + 10.0 * np.eye(n_items, points.shape[2])  # never all alike
    square = ((points[:, :, None] - points[:, None]) ** 2).sum(axis=-1)
    data = square[n_models:]
    gone = tuple(k for k in range(n_data) if draw(st.booleans())) if draw(st.booleans()) else ()
    for k in gone:
        data[k, n_items // 2], data[k, :, n_items // 2] = np.nan, np.nan
    holed = tuple(k for k in range(n_data) if draw(st.booleans())) if torn and draw(st.booleans()) else ()
    for k in holed:
        data[k, 0, 1] = data[k, 1, 0] = data[k, 2, 4] = data[k, 4, 2] = np.nan
    labels = [f"b{k}" for k in range(1, n_items + 1)]  # 'b10' sorts before 'b9'
    orders = rng.permutation(n_items), rng.permutation(n_items)
    return Case(square[:n_models], data, labels, orders, gone, holed)


def as_rdms(square: np.ndarray, order: np.ndarray, labels: list[str], **described: Any) -> RDMs:
    """RDMs with the items in an order of their own."""
    i, j = np.triu_indices(len(labels), 1)
    return RDMs(
        square[:, order][:, :, order][:, i, j],
        rdm_descriptors=described,
        pattern_descriptors={"stimulus_id": [labels[k] for k in order]},
    )


def by_rsatoolbox(model: np.ndarray, one: np.ndarray, measure: str, gone: bool, torn: bool) -> float:
    """One model and one data RDM, the items both have written out by hand."""
    if gone:
        model, one = (np.delete(np.delete(x, len(x) // 2, 0), len(x) // 2, 1) for x in (model, one))
    i, j = np.triu_indices(len(model), 1)
    x, y = model[i, j][None], one[i, j][None]
    if torn:  # the same pairs on both sides, as it wants
        x = np.where(np.isnan(y), np.nan, x)
    return float(rsatoolbox_compare(x, y, method=THEIRS.get(measure, measure))[0, 0])


@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_comparison_is_that_of_rsatoolbox(measure: Measure, data: Any) -> None:
    case = data.draw(cases(torn=measure != "bures"))
    found = compare_rdms(
        as_rdms(case.models, case.orders[0], case.labels),
        as_rdms(case.data, case.orders[1], case.labels),
        measure=measure,
    )
    wanted = [
        [by_rsatoolbox(model, one, measure, k in case.gone, k in case.torn) for k, one in enumerate(case.data)]
        for model in case.models
    ]
    # eigenvalues that are 0 but for rounding leave rsatoolbox's bures an error of their root
    np.testing.assert_allclose(found, wanted, atol=1e-6 if measure == "bures" else 1e-10, rtol=0)


@pytest.mark.parametrize("measure", [m for m in MEASURES if m not in DIFFERENTLY_POOLED])
@settings(max_examples=15, deadline=None)
@given(data=st.data(), missing=st.booleans())
def test_every_noise_ceiling_is_that_of_rsatoolbox(measure: Measure, data: Any, missing: bool) -> None:
    """rsatoolbox pools participants that lack the same pairs; those that lack others are tested by themselves."""
    case = data.draw(cases(torn=False, people=(2, 5)).filter(lambda case: not case.gone))
    square = case.data.copy()
    if missing:
        square[:, 0, 3] = square[:, 3, 0] = np.nan
    mixed = [as_rdms(one[None], np.roll(case.orders[0], k), case.labels) for k, one in enumerate(square)]
    found = noise_ceiling(stack_rdms(mixed), measure=measure)
    theirs = boot_noise_ceiling(
        as_rdms(square, np.arange(len(case.labels)), case.labels), method=THEIRS.get(measure, measure)
    )
    np.testing.assert_allclose((found.lower, found.upper), theirs, atol=1e-10, rtol=0)


@pytest.mark.filterwarnings("ignore:bures")  # the mean of RDMs of different items is of no points
@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=10, deadline=None)
@given(case=cases(torn=False, people=(2, 5)))
def test_ceilings_do_not_change_with_the_order_of_labels_or_participants(measure: Measure, case: Case) -> None:
    rng = np.random.default_rng(0)
    both = [as_rdms(case.data, case.orders[0], case.labels, roi=["HG"] * len(case.data))]
    shuffled = case.data[rng.permutation(len(case.data))]
    both.append(as_rdms(shuffled, case.orders[1], case.labels, roi=["HG"] * len(shuffled)))
    one, other = (noise_ceilings(rdms, measure=measure) for rdms in both)
    np.testing.assert_allclose(one[["lower", "upper"]], other[["lower", "upper"]], atol=1e-9)
    assert one["lower"][0] <= one["upper"][0] + 1e-9 or measure in ("tau-a", "tau-b", "bures") or case.gone


@pytest.mark.parametrize("measure", ["corr_cov", "cosine_cov"])
@settings(max_examples=15, deadline=None)
@given(case=cases(torn=False), seed=st.integers(0, 2**32 - 1))
def test_whitened_measures_equal_the_written_out_covariance_of_dissimilarities(
    measure: Measure, case: Case, seed: int
) -> None:
    """x' V^-1 y with V of all pairs, solved densely: rsatoolbox's own solver stops at about 1e-5."""
    n = len(case.labels)
    sigma = np.cov(np.random.default_rng(seed).normal(size=(n, 3 * n)))
    place = case.orders[1]
    found = compare_rdms(
        as_rdms(case.models, case.orders[0], case.labels),
        as_rdms(case.data, place, case.labels),
        measure=measure,
        sigma_k=sigma[np.ix_(place, place)],
    )
    for k, one in enumerate(case.data):
        kept = np.delete(np.arange(n), [n // 2] if k in case.gone else [])
        i, j = np.triu_indices(len(kept), 1)
        contrasts = np.eye(len(kept))[i] - np.eye(len(kept))[j]
        inverse = np.linalg.inv((contrasts @ sigma[np.ix_(kept, kept)] @ contrasts.T) ** 2)
        y = one[np.ix_(kept, kept)][i, j]
        for m, model in enumerate(case.models):
            x = model[np.ix_(kept, kept)][i, j]
            a, b = (v - v.mean() if measure == "corr_cov" else v for v in (x, y))
            wanted = a @ inverse @ b / np.sqrt((a @ inverse @ a) * (b @ inverse @ b))
            assert found[m, k] == pytest.approx(wanted, abs=1e-8)
