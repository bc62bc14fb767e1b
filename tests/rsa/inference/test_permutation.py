"""Condition permutation: exact where it can be, honest about the smallest p, at its level under the null."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from rsatoolbox.rdm.rdms import RDMs
from scipy.spatial.distance import squareform

from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import MEASURES, compare_vectors
from brainmap.rsa.inference.permutation import permutation_test
from brainmap.types import Measure


def labelled(vectors: Any, names: Any = None, **descriptors: Any) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[1])) / 2)
    return RDMs(
        vectors,
        rdm_descriptors=descriptors,
        pattern_descriptors={"stimulus_id": list(names or [f"s{k}" for k in range(n)])},
    )


def by_brute_force(models: Any, data: Any, measure: Measure, side: Any = lambda x: x) -> tuple[Any, Any]:
    """p and family-wise p over every one of the n! permutations, matrices permuted by rows and columns."""
    n = len(squareform(models[0]))
    null = []
    for order in itertools.permutations(range(n)):
        moved = np.array([squareform(squareform(model)[np.ix_(order, order)]) for model in models])
        null.append(side(compare_vectors(moved, data, measure=measure)))
    seen = side(compare_vectors(models, data, measure=measure))
    alone = (np.array(null) >= seen - 1e-10).mean(axis=0)
    return alone, (np.array(null).max(axis=1)[:, None] >= seen - 1e-10).mean(axis=0)


@pytest.mark.filterwarnings("ignore:bures")  # these dissimilarities are of no points
@pytest.mark.parametrize("measure", MEASURES)
def test_equals_the_enumeration_of_all_permutations(measure: Measure) -> None:
    rng = np.random.default_rng(0)
    models, data = rng.random((2, 10)).round(1), rng.random((2, 10)) + 0.1
    models[1] = [0, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    found = permutation_test(labelled(models), labelled(data), measure=measure)
    p, corrected = by_brute_force(models, data, measure)
    np.testing.assert_allclose(found["p"].to_numpy().reshape(2, 2).T, p, atol=1e-12)
    np.testing.assert_allclose(found["p_corrected"].to_numpy().reshape(2, 2).T, corrected, atol=1e-12)
    assert found["enumerated"].all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(3, 5),
    levels=st.integers(2, 4),
    alternative=st.sampled_from(["greater", "less", "two-sided"]),
)
def test_enumeration_over_what_models_distinguish_is_exact(seed: int, n: int, levels: int, alternative: Any) -> None:
    rng = np.random.default_rng(seed)
    pairs = n * (n - 1) // 2
    models, data = rng.integers(0, levels, size=(2, pairs)) * 1.0, rng.random((1, pairs))
    models[:, 0], models[:, 1] = 0.0, 1.0
    side = {"greater": lambda x: x, "less": np.negative, "two-sided": np.abs}[alternative]
    found = permutation_test(labelled(models), labelled(data), measure="spearman", alternative=alternative)
    p, corrected = by_brute_force(models, data, "spearman", side)
    np.testing.assert_allclose(found["p"], p[:, 0], atol=1e-12)
    np.testing.assert_allclose(found["p_corrected"], corrected[:, 0], atol=1e-12)
    assert (found["p"] >= found["smallest_p"] - 1e-12).all()


def test_one_condition_against_the_rest_has_as_many_relabelings_as_conditions() -> None:
    i, j = np.triu_indices(8, 1)
    model = ((i == 3) != (j == 3)).astype(float)[None]
    found = permutation_test(labelled(model), labelled(model + 0.01 * np.arange(28)))
    assert found.loc[0, ["p", "n", "distinct", "smallest_p"]].tolist() == [0.125, 8, 8, 0.125]
    assert "smallest p it can reach is 0.125; no data can make that significant" in found.attrs["note"]


def test_two_categories_of_one_size_swap_for_nothing() -> None:
    i, j = np.triu_indices(8, 1)
    model = ((i < 4) != (j < 4)).astype(float)[None]
    found = permutation_test(labelled(model), labelled(model))
    assert found.loc[0, ["n", "distinct"]].tolist() == [70, 35]
    assert found.loc[0, "p"] == found.loc[0, "smallest_p"] == 1 / 35


def test_many_conditions_are_drawn_and_the_true_labels_count() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((1, 190))
    models = np.vstack([truth, rng.random((1, 190))])
    found = permutation_test(
        labelled(models, layer=["a", "b"]),
        labelled(truth + 0.1 * rng.random((1, 190))),
        permutations=199,
        rng=np.random.default_rng(0),
    )
    assert found["p"].tolist()[0] == found["p_corrected"].tolist()[0] == found["smallest_p"].tolist()[0] == 1 / 200
    assert found["p"][1] > 0.05
    assert not found["enumerated"].any()
    again = permutation_test(labelled(models), labelled(truth), permutations=199, rng=np.random.default_rng(0))
    assert again["p"][0] == found["p"][0]


def test_a_missing_condition_is_left_out_for_that_participant_alone() -> None:
    rng = np.random.default_rng(2)
    models, data = rng.random((2, 21)), rng.random((3, 21))
    i, j = np.triu_indices(7, 1)
    data[1, (i == 2) | (j == 2)] = np.nan
    people = labelled(data, participant=["01", "02", "03"], roi=["HG"] * 3)
    found = permutation_test(labelled(models, layer=["a", "b"]), people)
    assert found["participant"].tolist() == ["01", "01", "02", "02", "03", "03"]
    assert found["n"].tolist() == [5040, 5040, 720, 720, 5040, 5040]
    whole = permutation_test(labelled(models), labelled(data[[0, 2]]))
    np.testing.assert_array_equal(found["p"][[0, 1, 4, 5]], whole["p"])
    kept = ~np.isnan(data[1])
    alone = permutation_test(labelled(models[:, kept]), labelled(data[[1]][:, kept]))
    np.testing.assert_array_equal(found["p"][[2, 3]], alone["p"])


def test_conditions_are_matched_by_label() -> None:
    rng = np.random.default_rng(3)
    matrix, data = squareform(rng.random(15)), rng.random((1, 15))
    order = rng.permutation(6)
    mixed = labelled(squareform(matrix[np.ix_(order, order)])[None], [f"s{k}" for k in order])
    one, two = (permutation_test(m, labelled(data)) for m in (labelled(squareform(matrix)[None]), mixed))
    assert one["p"][0] == two["p"][0]
    assert one["score"][0] == pytest.approx(two["score"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": 2}, "expected at least 3 conditions, got 2"),
        ({"measure": "sperman"}, "did you mean 'spearman'"),
        ({"alternative": "more"}, "alternative: expected one of"),
        ({"permutations": 0}, "expected at least 1 permutation, got 0"),
        ({"names": list("abcdef")}, "the items of the two sides differ"),
        ({"constant": "models"}, "models 'model 1': all dissimilarities are equal"),
        ({"constant": "data"}, "data RDMs 1: all dissimilarities are equal"),
        ({"missing": True}, "1 single pairs of conditions are missing"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    n = change.get("items", 6)
    models, data = (np.random.default_rng(k).random((1, n * (n - 1) // 2)) for k in (4, 5))
    if "constant" in change:
        {"models": models, "data": data}[change["constant"]][:] = 0.5
    if "missing" in change:
        data[0, 3] = np.nan
    options = {k: v for k, v in change.items() if k in ("measure", "alternative", "permutations")}
    with pytest.raises(InputError, match=message):
        permutation_test(labelled(models, change.get("names")), labelled(data), **options)


def test_hundreds_of_conditions_have_more_relabelings_than_a_float_can_count() -> None:
    x = np.random.default_rng(7).random((2, 180 * 179 // 2))
    found = permutation_test(labelled(x[:1]), labelled(x[1:]), permutations=19, rng=np.random.default_rng(0))
    assert np.isfinite(found["distinct"][0])
    assert found["smallest_p"][0] == 1 / 20


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [6, 14])
def test_rejects_at_its_attainable_level_under_the_null_and_family_wise(n_items: int) -> None:
    """Null: data RDMs of random patterns, independent of four models; enumerated with 6 conditions, else drawn."""
    rng, simulations = np.random.default_rng(6), 2000
    i, j = np.triu_indices(n_items, 1)

    def distances(points: Any) -> Any:
        return ((points[..., i, :] - points[..., j, :]) ** 2).sum(axis=-1)

    models, data = (distances(rng.normal(size=(n, n_items, 5))) for n in (4, simulations))
    found = permutation_test(
        labelled(models), labelled(data), permutations=999, measure="spearman", rng=np.random.default_rng(0)
    )
    n = int(found["n"].iloc[0])
    level = np.floor(0.05 * n) / n if n_items == 6 else 0.05
    error = 4 * np.sqrt(level / simulations)
    rejected = (found["p"] <= 0.05).to_numpy().reshape(simulations, 4).mean(axis=0)
    np.testing.assert_allclose(rejected, level, atol=error)
    any_of_four = (found["p_corrected"] <= 0.05).to_numpy().reshape(simulations, 4).any(axis=1).mean()
    assert any_of_four == pytest.approx(level, abs=error)
    alike = labelled(distances(rng.normal(size=(200, n_items, 5)) + 3 * rng.normal(size=(n_items, 5))))
    truth = labelled(alike.dissimilarities.mean(axis=0)[None])
    assert (permutation_test(truth, alike, permutations=999, rng=rng)["p"] <= 0.05).mean() > 0.8
