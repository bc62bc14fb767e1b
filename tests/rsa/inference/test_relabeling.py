"""Relabeling of sounds, jointly for all participants: right by brute force, at its level on what participants share.

Noise brains are no test of it: the null here is a reliable geometry of all participants that no model explains.
"""

from __future__ import annotations

import warnings
from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import MEASURES, compare_vectors
from brainmap.rsa.inference.exchange import Exchange, find_units
from brainmap.rsa.inference.relabeling import _stay_missing
from brainmap.rsa.rdm.alignment import find_pair_positions
from brainmap.types import Measure


def distances(points: Any) -> Any:
    i, j = np.triu_indices(points.shape[-2], 1)
    return ((points[..., i, :] - points[..., j, :]) ** 2).mean(axis=-1)


def rdms(vectors: Any, words: Any = None, **descriptors: Any) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * np.shape(vectors)[1])) / 2)
    items: dict[str, Any] = {"stimulus_id": [f"s{k:02d}" for k in range(n)]}
    return RDMs(
        np.array(vectors),
        rdm_descriptors=descriptors,
        pattern_descriptors=items | ({} if words is None else {"condition": list(words)}),
    )


def by_brute_force(models: Any, data: Any, regions: Any, orders: Any, measure: Measure) -> tuple[Any, Any, Any]:
    """Scores, p and family-wise p from every relabeling written out, one comparison at a time."""
    names = list(dict.fromkeys(regions))
    scores = np.empty((len(orders), len(models), len(names)))
    for b, order in enumerate(orders):
        moved = models[:, find_pair_positions(np.array(order), len(order))]
        for r, name in enumerate(names):
            mine = data[[k for k, one in enumerate(regions) if one == name]]
            scores[b, :, r] = compare_vectors(moved, mine, measure=measure).mean(axis=1)
    z = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    p = (z >= z[0] - 1e-9).mean(axis=0)
    family = (z.max(axis=(1, 2))[:, None, None] >= z[0] - 1e-9).mean(axis=0)
    return scores, p.ravel(), family.ravel()


@pytest.mark.parametrize("measure", [m for m in MEASURES if m not in ("tau-a", "tau-b", "bures")])
@pytest.mark.parametrize("missing", [False, True])
def test_equals_every_relabeling_written_out(measure: Measure, missing: bool) -> None:
    rng = np.random.default_rng(0)
    models, data = rng.random((3, 10)), rng.random((4, 10))
    if missing:  # pairs that one participant lacks: the models are relabeled in place of the data
        data[1, :4] = np.nan
    regions = ["a", "a", "b", "b"]
    found = rsa.relabeling_test(rdms(models), rdms(data, roi=regions), measure=measure)
    scores, p, family = by_brute_force(models, data, regions, list(permutations(range(5))), measure)
    np.testing.assert_allclose(found["mean"], scores[0].ravel(), atol=1e-12)
    np.testing.assert_allclose(found["chance"], scores.mean(axis=0).ravel(), atol=1e-12)
    np.testing.assert_allclose(found["p"], p)
    np.testing.assert_allclose(found["p_corrected"], family)
    assert found.attrs["relabelings"] == 120
    assert found["smallest_p"].eq(1 / 120).all()


def test_all_relabelings_of_eight_items_are_enumerated_and_p_is_exact() -> None:
    """Pearson correlations of one model and two participants over the rows of all 8! permuted matrices, by numpy."""
    rng = np.random.default_rng(3)
    model = rng.random((1, 28))
    data = model + 0.3 * rng.normal(size=(2, 28))
    i, j = np.triu_indices(8, 1)
    square = np.zeros((8, 8))
    square[i, j] = square[j, i] = model[0]
    every = np.array(list(permutations(range(8))))
    moved = square[every[:, i], every[:, j]]
    standard = (moved - moved.mean(axis=1, keepdims=True)) / moved.std(axis=1, keepdims=True)
    each = [standard @ (one - one.mean()) / one.std() / 28 for one in data]
    scores = np.mean(each, axis=0)
    p = np.mean(scores >= scores[0] - 1e-9)
    found = rsa.relabeling_test(rdms(model), rdms(data, roi=["a", "a"]), measure="pearson")
    assert (found.attrs["relabelings"], found.attrs["enumerated"]) == (40_320, True)
    assert found["p"].item() == p
    assert p < 1 / 2001, "draws could not tell it"
    np.testing.assert_allclose(found["chance"], scores.mean(), atol=1e-12)
    one = rsa.permutation_test(rdms(model), rdms(data[:1]), measure="pearson")
    assert one["p"].item() == np.mean(each[0] >= each[0][0] - 1e-10)
    assert one["smallest_p"].item() == 1 / 40_320
    few = rsa.relabeling_test(rdms(model), rdms(data, roi=["a", "a"]), measure="pearson", permutations=199, rng=rng)
    assert (few.attrs["relabelings"], few.attrs["enumerated"]) == (200, False)


def test_whole_conditions_change_places_and_their_tokens_alike_in_all() -> None:
    """Words of two tokens, and one of three that has nobody to change with: (3! x 2!) x 3! by hand."""
    words = ["cat", "dog", "cat", "eel", "dog", "eel", "fox", "fox", "fox"]
    data = rdms(np.random.default_rng(0).random((1, 36)), words)
    exchange = Exchange.of(data)
    orders, enumerated = exchange.orders(1000, np.random.default_rng(0))
    assert enumerated
    tokens = {"cat": (0, 2), "dog": (1, 4), "eel": (3, 5)}
    wanted = set()
    for names, two, three in product(permutations(tokens), permutations(range(2)), permutations((6, 7, 8))):
        order = [0] * 9
        for at, name in zip(tokens, names, strict=True):
            for place, token in zip(tokens[at], two, strict=True):
                order[place] = tokens[name][token]
        order[6:] = three
        wanted.add(tuple(order))
    assert {tuple(order) for order in orders.tolist()} == wanted
    assert len(orders) == exchange.count == 72
    assert orders[0].tolist() == list(range(9)), "the true labels come first"
    drawn, enumerated = exchange.orders(60, np.random.default_rng(1))
    assert not enumerated
    assert {tuple(order) for order in drawn.tolist()} <= wanted
    assert len({tuple(order) for order in drawn.tolist()}) > 30
    assert exchange.words == (
        "whole conditions exchanged with others of as many tokens (1 of 3 tokens, 3 of 2 tokens), tokens alike in all"
    )


def test_windows_of_stories_keep_their_neighbors() -> None:
    names = [f"{story}@{10 * k}" for story in ("fox", "hen", "owl") for k in range(12 if story != "owl" else 11)]
    onsets = [name.split("@")[1] for name in names]  # as text, whose order is another one
    named: dict[str, Any] = {"stimulus_id": names, "condition": [name[:3] for name in names], "onset": onsets}
    data = RDMs(np.ones((1, 35 * 34 // 2)), pattern_descriptors=named)
    exchange = Exchange.of(data)
    said = "whole stories exchanged with others of as many windows (2 of 12 windows, 1 of 11 windows), windows rotated"
    assert exchange.words == f"{said} alike in all"
    assert exchange.count == 2 * 12 * 11
    every, enumerated = exchange.orders(300, np.random.default_rng(0))
    assert enumerated
    assert len({tuple(order) for order in every}) == 2 * 12 * 11
    assert (every[0] == np.arange(35)).all()
    drawn, enumerated = exchange.orders(100, np.random.default_rng(0))
    assert not enumerated
    assert {tuple(order) for order in drawn} <= {tuple(order) for order in every}
    for order in drawn:
        for own in (slice(0, 12), slice(12, 24), slice(24, 35)):
            n = own.stop - own.start
            assert set(np.diff(np.append(order[own], order[own][0]))) <= {1, 1 - n}
        assert (order[12:24] - order[:12]).std() == 0, "alike in all of one size"


@pytest.mark.parametrize("measure", ["spearman", "pearson", "rho-a", "cosine"])
def test_pairs_that_all_lack_count_as_if_they_did_not_exist(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainmap.rsa.inference import relabeling

    rng = np.random.default_rng(0)
    words = [f"w{k // 3}" for k in range(15)]
    models, data = (
        rdms(rng.random((2, 105)), words, layer=["a", "b"]),
        rdms(rng.random((6, 105)), words, roi=["R", "S"] * 3),
    )
    data = rsa.leave_out_pairs_within(data)
    given: dict[str, Any] = {"measure": measure, "permutations": 200}
    fast = rsa.relabeling_test(models, data, **given, rng=np.random.default_rng(1))
    monkeypatch.setattr(relabeling, "_stay_missing", lambda *_: False)
    slow = rsa.relabeling_test(models, data, **given, rng=np.random.default_rng(1))
    pd.testing.assert_frame_equal(fast, slow, rtol=1e-9)
    missing, orders = np.zeros((2, 105), bool), Exchange.of(data).orders(50, rng)[0]
    missing[:, 7] = True  # of two conditions
    assert not _stay_missing(missing, orders, measure)
    assert not _stay_missing(np.isnan(data.dissimilarities), orders, "corr_cov")


def test_items_that_are_conditions_or_share_none_are_units_of_their_own() -> None:
    x = np.random.default_rng(0).random((1, 6))
    assert find_units(rdms(x)).tolist() == [0, 1, 2, 3]
    assert find_units(rdms(x, ["a", "b", "a", "b"])).tolist() == [0, 1, 0, 1]
    conditions = RDMs(x, pattern_descriptors={"condition": list("abcd")}, descriptors={"level": "condition"})
    assert find_units(conditions).tolist() == [0, 1, 2, 3]
    assert Exchange.of(conditions).words == "4 conditions exchanged"


def test_permutations_of_one_participant_exchange_whole_conditions_too() -> None:
    rng = np.random.default_rng(3)
    words = np.repeat(list("abcd"), 2)
    models, data = rdms(rng.random((2, 28)), words, layer=["x", "y"]), rdms(rng.random((1, 28)), words)
    one, joint = rsa.permutation_test(models, data), rsa.relabeling_test(models, data)
    np.testing.assert_allclose(one["p"], joint["p"])
    assert one["n"].eq(48).all()
    assert "4 whole conditions exchanged, their 2 tokens alike in all" in one.attrs["note"]


def test_a_hypothesis_about_conditions_is_tested_by_exchanging_single_stimuli() -> None:
    rng, kinds = np.random.default_rng(4), np.repeat(list("abc"), 3)
    i, j = np.triu_indices(9, 1)
    category = (kinds[i] != kinds[j]).astype(float)
    data = rdms(category + rng.normal(0, 0.3, (5, 36)), kinds)
    models = rdms([category, rng.random(36)], kinds, layer=["category", "any"])
    whole = rsa.relabeling_test(models, data)
    assert whole["p"][0] == whole["smallest_p"][0] == 1
    assert "; 1 of 2 models can reach no p under .05: exchanging whole conditions leaves" in whole.attrs["note"]
    assert "by='stimulus' (--by stimulus)" in whole.attrs["note"]
    single = rsa.relabeling_test(models, data, by="stimulus", permutations=500_000)
    assert single["smallest_p"][0] == pytest.approx(single["p"][0]) == pytest.approx(6 * 6**3 / 362_880)
    assert single["p_corrected"][1] > 0.05
    assert "(9 stimuli exchanged)" in single.attrs["note"]
    assert "--by" not in single.attrs["note"]
    alone = [
        rsa.permutation_test(models, data.subset("index", 0), by=by, permutations=2000)
        for by in ("condition", "stimulus")
    ]
    assert "--by stimulus" in alone[0].attrs["note"]
    assert alone[1]["p"][0] < 0.01 < alone[0]["p"][0] == 1
    with pytest.raises(InputError, match="expected one of 'condition', 'stimulus'"):
        rsa.relabeling_test(models, data, by="voice")  # type: ignore[arg-type]


def test_a_model_with_ties_cannot_reach_what_others_can() -> None:
    i, j = np.triu_indices(8, 1)
    rng = np.random.default_rng(2)
    apart = ((i == 0) != (j == 0)).astype(float)
    found = rsa.relabeling_test(
        rdms([apart, rng.random(28)], layer=["apart", "any"]), rdms(rng.random((3, 28))), permutations=50_000
    )
    np.testing.assert_allclose(found["smallest_p"], [1 / 8, 1 / 40320])
    assert found["p"][0] >= 1 / 8


def test_what_is_constant_or_lacks_pairs_has_no_p_and_costs_the_others_nothing() -> None:
    rng = np.random.default_rng(4)
    models, data = rng.random((3, 15)), rng.random((5, 15))
    alone = rsa.relabeling_test(rdms(models[:1], layer=["a"]), rdms(data[:4]))
    models[1], models[2, 3], data[4] = 0.5, np.nan, 1.0
    found = rsa.relabeling_test(rdms(models, layer=["a", "b", "c"]), rdms(data))
    np.testing.assert_allclose(found["p_corrected"], [alone["p_corrected"][0], np.nan, np.nan])
    assert found["n"].eq(4).all()
    assert "2 models are constant or lack pairs" in found.attrs["note"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"permutations": 0}, "expected at least 1 permutation, got 0"),
        ({"alternative": "less"}, "alternative: expected one of"),
        ({"measure": "sperman"}, "did you mean 'spearman'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    x = np.random.default_rng(0).random((2, 10))
    with pytest.raises(InputError, match=message):
        rsa.relabeling_test(rdms(x), rdms(x), **change)


@pytest.mark.parametrize(("asked", "used"), [("tau-a", "rho-a"), ("tau-b", "spearman"), ("kendall", "spearman")])
def test_a_substitute_for_the_measure_is_said(asked: str, used: Measure) -> None:
    x = np.random.default_rng(0).random((4, 15))
    found, same = (rsa.relabeling_test(rdms(x[:2]), rdms(x[2:]), measure=one) for one in (asked, used))
    pd.testing.assert_frame_equal(found, same)
    name = {"kendall": "tau-b"}.get(asked, asked)
    assert f"relabelings are compared by {used} in place of {name}" in found.attrs["note"]
    assert "in place of" not in same.attrs["note"]


def test_nothing_to_test_is_refused() -> None:
    x = np.random.default_rng(0).random((2, 10))
    with pytest.raises(InputError, match="constant or lacks pairs"):
        rsa.relabeling_test(rdms(np.ones((1, 10))), rdms(x))
    with pytest.raises(InputError, match="expected at least 3 items, got 2"):
        rsa.relabeling_test(rdms(x[:, :1]), rdms(x[:, :1]))


def shared_geometry(
    rng: np.random.Generator, n: int, *, words: int | None = None, layers: int = 4, of_truth: float = 0.0
) -> tuple[Any, Any, Any]:
    """Layers and brains: the brains share a reliable geometry, of which the first layer has the part `of_truth`.

    With words, items are their tokens, and both sides merely tell the words apart.
    """

    def points(*shape: int) -> Any:
        if words is None:
            return rng.normal(size=(*shape, n, 20))
        return np.repeat(rng.normal(size=(*shape, words, 20)), n // words, axis=-2) + 0.3 * rng.normal(
            size=(*shape, n, 20)
        )

    truth, models = points(), points(layers)
    models[0] = of_truth * truth + np.sqrt(1 - of_truth**2) * models[0]
    labels = None if words is None else np.repeat([f"w{k:02d}" for k in range(words)], n // words)
    return distances(models), distances(truth + 0.7 * rng.normal(size=(12, n, 20))), labels


def rejected(n: int, simulations: int, *, relabelings: int = 199, **given: Any) -> float:
    """Share of simulated studies in which some layer (the first, where it has a part of the truth) is found."""
    rng = np.random.default_rng(n)
    found = 0
    for _ in range(simulations):
        models, data, words = shared_geometry(rng, n, **given)
        tested = rsa.relabeling_test(rdms(models, words), rdms(data, words), permutations=relabelings, rng=rng)
        p = tested["p_corrected"]
        found += bool((p[0] if given.get("of_truth") else p.min()) <= 0.05)
    return found / simulations


def limit(simulations: int) -> float:
    return 0.06 + 2 * float(np.sqrt(0.06 * 0.94 / simulations))


def test_a_geometry_that_participants_share_and_no_model_explains_is_not_taken_for_one() -> None:
    assert rejected(16, 100) <= limit(100)


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 16, 48])
def test_the_level_holds_on_unrelated_reliable_geometry(n: int) -> None:
    assert rejected(n, 400 if n < 48 else 200) <= limit(400 if n < 48 else 200)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "words"), [(24, 8), (32, 16), (24, 12)])
def test_geometries_that_merely_tell_the_same_words_apart_are_not_alike(n: int, words: int) -> None:
    assert rejected(n, 300, words=words) <= limit(300)


@pytest.mark.slow
def test_speakers_who_are_told_apart_in_both_are_no_evidence() -> None:
    """Tokens of four speakers that both sides tell apart in directions of their own."""
    rng, found, simulations = np.random.default_rng(5), 0, 300
    words = np.repeat([f"w{k:02d}" for k in range(8)], 4)
    for _ in range(simulations):

        def points(*shape: int) -> Any:
            speaker = np.tile(rng.normal(size=(*shape, 4, 20)), (8, 1))
            return speaker + 0.5 * rng.normal(size=(*shape, 32, 20))

        models, truth = distances(points(3)), points()
        data = distances(truth + 0.5 * rng.normal(size=(8, 32, 20)))
        p = rsa.relabeling_test(rdms(models, words), rdms(data, words), permutations=199, rng=rng)["p_corrected"]
        found += bool(p.min() <= 0.05)
    assert found / simulations <= limit(simulations)


@pytest.mark.slow
def test_a_layer_whose_true_score_is_a_half_is_found_in_sixteen_sounds() -> None:
    assert (
        0.4
        < np.mean(
            [
                rsa.compare_rdms(rdms(m[:1]), rdms(d)).mean()
                for m, d, _ in (shared_geometry(np.random.default_rng(seed), 16, of_truth=0.87) for seed in range(20))
            ]
        )
        < 0.6
    )
    assert rejected(16, 100, of_truth=0.87) >= 0.8


@pytest.mark.parametrize("names", [None, {"index": range(8)}, {"conds": list("abcdefgh"), "names": list("hgfedcba")}])
def test_items_that_are_their_own_units_need_no_labels(names: dict[str, Any] | None) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.random((5, 28))

    def named(values: Any, given: dict[str, Any] | None) -> RDMs:
        return RDMs(values, pattern_descriptors=None if given is None else {k: list(v) for k, v in given.items()})

    same = {"conds": list("abcdefgh")}
    wanted = rsa.relabeling_test(
        named(vectors[:1], same), named(vectors[1:], same), permutations=99, rng=np.random.default_rng(1)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # items without names are matched by position
        got = rsa.relabeling_test(
            named(vectors[:1], names), named(vectors[1:], names), permutations=99, rng=np.random.default_rng(1)
        )
    assert got["p"].tolist() == wanted["p"].tolist()
    assert got["mean"].tolist() == wanted["mean"].tolist()
