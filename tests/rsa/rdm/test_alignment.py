"""RDMs as rsatoolbox makes them: any name of the items or none, no measure, descriptors that are None."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs, calc_rdm, compare, concat, load_rdm

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.rdm.alignment import align_vectors, list_labels, stack_rdms

N = 7
ORDER = np.random.default_rng(1).permutation(N)


def patterns(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, 12))


def named(x: np.ndarray, key: str | None) -> RDMs:
    """What rsatoolbox computes from a Dataset with those labels."""
    words = [f"w{k}" for k in range(len(x))]
    made = calc_rdm(Dataset(x, obs_descriptors={key: words} if key else {}), descriptor=key)
    assert isinstance(made, RDMs)
    return made


def shuffled(rdms: RDMs) -> RDMs:
    """The same RDMs with the items in another order, by rsatoolbox."""
    other = rdms.copy()
    other.reorder(ORDER)
    return other


@pytest.mark.parametrize("key", ["conds", "stim", "object", "stimulus_id", "condition"])
def test_items_are_matched_by_whatever_name_both_sides_share(key: str) -> None:
    model, data = named(patterns(0), key), concat([named(patterns(k), key) for k in (1, 2, 3)])
    wanted = compare(model, data, method="corr")  # rsatoolbox, items in one order
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(rsa.compare_rdms(model, data, measure="pearson"), wanted, atol=1e-12)
        np.testing.assert_allclose(rsa.compare_rdms(shuffled(model), data, measure="pearson"), wanted, atol=1e-12)
        again = rsa.compare_rdms(shuffled(model), data, measure="pearson", descriptor=key)
    np.testing.assert_allclose(again, wanted, atol=1e-12)
    assert list_labels(data) == [f"w{k}" for k in range(N)]


@pytest.mark.parametrize("bare", [True, False])
def test_without_any_name_position_is_used_and_said_once(bare: bool) -> None:
    made = [RDMs(named(patterns(k), None).dissimilarities) for k in range(3)]  # only `index`, no measure
    if bare:
        for one in made:
            one.pattern_descriptors = {}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = rsa.compare_rdms(made[0], made[1], measure="pearson")
    assert [str(one.message) for one in said if issubclass(one.category, BrainmapWarning)] == [
        "RDMs: neither side names its items, so they are matched by position; name them in pattern_descriptors to be "
        "safe"
    ]
    np.testing.assert_allclose(found, compare(made[0], made[1], method="corr"), atol=1e-12)
    with pytest.warns(BrainmapWarning, match="by position") as once:
        stacked = stack_rdms(made)
    assert len(once) == 1
    np.testing.assert_array_equal(stacked.dissimilarities, np.concatenate([one.dissimilarities for one in made]))
    with warnings.catch_warnings():  # asked for, it needs no word
        warnings.simplefilter("error")
        np.testing.assert_array_equal(rsa.compare_rdms(made[0], made[1], measure="pearson", descriptor="index"), found)


def test_the_numbers_of_rsatoolbox_stay_with_their_items() -> None:
    one, other = (RDMs(named(patterns(k), None).dissimilarities) for k in (0, 1))
    wanted = compare(one, other, method="corr")
    with pytest.warns(BrainmapWarning, match="by position"):
        np.testing.assert_allclose(rsa.compare_rdms(shuffled(one), other, measure="pearson"), wanted, atol=1e-12)
    with pytest.raises(InputError, match="the two sides differ; only in data: '6'"):
        align_vectors(other, one.subset_pattern("index", list(range(6))))


def test_what_names_the_items_is_never_guessed() -> None:
    x = patterns(0)
    upper = [f"V{k}" for k in range(N)]
    with pytest.raises(InputError, match="have 'conds', the data have 'stim'"):
        rsa.compare_rdms(named(x, "conds"), named(x, "stim"))
    with pytest.raises(InputError, match="have 'conds', the data have none"):
        rsa.compare_rdms(named(x, "conds"), named(x, None))
    rsa.compare_rdms(named(x, "conds"), named(x, None), descriptor="index")
    with pytest.raises(InputError, match="no 'cond', but 'conds', 'index'; did you mean 'conds'"):
        rsa.compare_rdms(named(x, "conds"), named(x, "conds"), descriptor="cond")
    two, moved = (
        RDMs(np.ones((1, N * (N - 1) // 2)), pattern_descriptors={"stim": upper, "object": other})
        for other in (upper, upper[::-1])
    )
    with pytest.raises(InputError, match="'stim', 'object' name the items of both sides and order them differently"):
        align_vectors(two, moved)
    align_vectors(two, moved, descriptor="stim")
    kinds = RDMs(np.ones((1, N * (N - 1) // 2)), pattern_descriptors={"kind": ["a"] * N})
    with pytest.raises(InputError, match="unique"):
        align_vectors(kinds, kinds)
    with pytest.raises(InputError, match="'kind' of the data are not unique"):
        align_vectors(kinds, kinds, descriptor="kind")


def test_a_category_that_repeats_does_not_hide_the_name_of_the_items() -> None:
    kinds = [str(k % 2) for k in range(N)]
    one, other = (
        RDMs(
            named(patterns(k), None).dissimilarities,
            pattern_descriptors={"condition": kinds, "stim": [f"s{j}" for j in range(N)]},
        )
        for k in (0, 1)
    )
    wanted = compare(one, other, method="corr")
    np.testing.assert_allclose(rsa.compare_rdms(shuffled(one), other, measure="pearson"), wanted, atol=1e-12)


def test_rdms_without_a_measure_and_with_descriptors_of_none_are_tested_and_saved(tmp_path: Path) -> None:
    words = [f"w{j}" for j in range(N)]
    people = [
        RDMs(
            named(patterns(k), None).dissimilarities,
            pattern_descriptors={"conds": words},
            descriptors={"session": None},
            rdm_descriptors={"subject": [f"p{k}"]},
        )
        for k in range(5)
    ]
    data = stack_rdms(people)
    model = named(patterns(9), "conds")
    scores = rsa.compare_rdms(shuffled(model), data, measure="pearson")
    np.testing.assert_allclose(scores, compare(model, data, method="corr"), atol=1e-12)
    tested = rsa.score_statistics(scores)
    assert tested["p"].between(0, 1).all()
    ceiling = rsa.noise_ceiling(data, measure="pearson")
    assert ceiling.lower < ceiling.upper
    rng = np.random.default_rng(0)
    families = {"one": shuffled(model)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # few resamples, few items
        assert rsa.permutation_test(shuffled(model), data, permutations=50, rng=rng)["p"].between(0, 1).all()
        assert np.isfinite(rsa.bootstrap(shuffled(model), data, n=20, rng=rng).scores).all()
        assert len(rsa.score_models(families, data, kind="fixed", rng=rng).scores)
        assert len(rsa.partition_variance(families, data).table())
        rsa.split_half_best_layer(stack_rdms([model, named(patterns(8), "conds")]), data, by="stimulus", rng=rng)
    with pytest.raises(InputError, match="choose by='stimulus'"):
        rsa.split_half_best_layer(stack_rdms([model, model]), data, by="condition", rng=rng)
    data.rdm_descriptors["session"] = [None, "a", None, "b", "c"]  # as rsatoolbox's concat leaves them
    data.descriptors["scanner"] = None
    data.dissimilarity_measure = None
    path = rsa.save_rdms(data, tmp_path / "people.h5")
    back = rsa.load_rdms(path)
    np.testing.assert_array_equal(back.dissimilarities, data.dissimilarities)
    assert back.dissimilarity_measure is None
    assert list(back.rdm_descriptors["session"]) == [None, "a", None, "b", "c"]
    assert list(back.pattern_descriptors["conds"]) == list(data.pattern_descriptors["conds"])
    np.testing.assert_array_equal(load_rdm(str(path)).dissimilarities, data.dissimilarities)  # rsatoolbox reads it
