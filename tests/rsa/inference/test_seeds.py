"""Several seeds of a network are one network: its scores are means, in every relabeling, resample and half."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import arrange_scores
from brainmap.rsa.inference.best_layers import BEST
from brainmap.rsa.inference.bootstrap import bootstrap_vectors
from brainmap.rsa.inference.exchange import Exchange, place_pairs
from brainmap.rsa.inference.seeds import list_rows

SOUNDS, PEOPLE, ROIS = 12, 6, ("R", "S")
SEEDS = {"a": ["a1", "a2"]}


def make(rng: np.random.Generator) -> tuple[RDMs, RDMs]:
    """Two seeds of a network and another network, of two layers each; R has the geometry that layer x of `a` holds."""
    items = {"stimulus_id": [f"s{k:02d}" for k in range(SOUNDS)]}
    truth = rng.random(SOUNDS * (SOUNDS - 1) // 2)
    rows = [(network, layer) for network in ("a1", "a2", "b") for layer in ("x", "y")]
    vectors = np.array([rng.random(truth.size) + (2 * truth if one == "x" and net != "b" else 0) for net, one in rows])
    of_models: dict[str, Any] = {"network": [row[0] for row in rows], "layer": [row[1] for row in rows]}
    data = np.array([rng.random(truth.size) + (truth if roi == "R" else 0) for roi in ROIS for _ in range(PEOPLE)])
    of_brains: dict[str, Any] = {
        "roi": np.repeat(ROIS, PEOPLE).tolist(),
        "participant": [f"{k:02d}" for _ in ROIS for k in range(PEOPLE)],
    }
    return (
        RDMs(vectors, pattern_descriptors=items, rdm_descriptors=of_models),
        RDMs(data, pattern_descriptors=items, rdm_descriptors=of_brains),
    )


def test_rows_of_the_whole_follow_those_of_the_models() -> None:
    models, _ = make(np.random.default_rng(0))
    rows = list_rows(models, SEEDS)
    assert rows.names == ["a1 x", "a1 y", "a2 x", "a2 y", "b x", "b y", "a x", "a y"]
    assert rows.owners[-2:] == ["a", "a"]
    assert rows.places[-2:] == [[0, 2], [1, 3]]
    pairs = rows.list_pairs()
    assert not {(0, 6), (1, 6)} & set(pairs), "a seed is part of the whole"
    assert {(0, 2), (4, 6), (6, 7)} <= set(pairs)
    assert len(list_rows(models).list_pairs()) == 6 * 5 // 2
    mixed = list_rows(models[[0, 2, 4, 1, 3, 5]], SEEDS)  # by layer, then by network
    assert len(mixed.list_pairs()) == len(pairs)
    assert rows.list_network_pairs() == [(0, 1), (0, 2), (1, 2), (2, 3)]
    assert list_rows(models).places == [[k] for k in range(6)]


def test_relabelings_move_all_seeds_alike_and_their_mean_is_compared() -> None:
    rng = np.random.default_rng(1)
    models, brains = make(rng)
    found = rsa.relabeling_test(
        models, brains, measure="pearson", permutations=199, rng=np.random.default_rng(2), seeds=SEEDS
    ).set_index(["model", "roi"])
    orders, _ = Exchange.of(brains).orders(199, np.random.default_rng(2))
    vectors, data = models.dissimilarities, brains.dissimilarities[:PEOPLE]
    scores = []
    for order in orders:  # by another route: every seed is relabeled, correlated and averaged
        moved = vectors[:, place_pairs(order[None])[0]]
        each = np.corrcoef(np.concatenate([moved, data]))[: len(moved), len(moved) :].mean(axis=1)
        scores.append([(each[0] + each[2]) / 2, (each[1] + each[3]) / 2])
    mean = np.array(scores)
    for k, layer in enumerate(("a x", "a y")):
        assert found.loc[(layer, "R"), "mean"] == pytest.approx(mean[0, k])
        assert found.loc[(layer, "R"), "chance"] == pytest.approx(mean[:, k].mean())
        z = (mean[:, k] - mean[:, k].mean()) / mean[:, k].std()
        assert found.loc[(layer, "R"), "p"] == pytest.approx((z >= z[0] - 1e-9).mean())
        assert found.loc[(layer, "R"), "smallest_p"] == pytest.approx(1 / len(orders))
    alone = rsa.relabeling_test(models, brains, measure="pearson", permutations=199, rng=np.random.default_rng(2))
    columns = ["mean", "chance", "statistic", "p"]
    np.testing.assert_array_equal(found[columns].iloc[: len(alone)], alone[columns])


def test_a_whole_with_a_constant_seed_has_no_p() -> None:
    models, brains = make(np.random.default_rng(3))
    models.dissimilarities[2] = 1.0
    found = rsa.relabeling_test(models, brains, permutations=99, rng=np.random.default_rng(0), seeds=SEEDS)
    assert found.set_index(["model", "roi"])["p"].isna().to_dict()[("a x", "R")]
    assert found.set_index(["model", "roi"])["p"].notna().to_dict()[("a y", "R")]


def test_a_bootstrap_averages_the_seeds_in_every_resample() -> None:
    models, brains = make(np.random.default_rng(4))
    found = rsa.bootstrap_rois(models, brains, n=60, measure="pearson", rng=np.random.default_rng(5), seeds=SEEDS)
    seed = int(np.random.default_rng(5).integers(2**63))
    rng = np.random.default_rng(seed)
    drawn = {name: rng.integers(0, size, size=(60, size)) for name, size in (("p", PEOPLE), ("c", SOUNDS))}
    whole = bootstrap_vectors(
        models.dissimilarities,
        brains.dissimilarities[:PEOPLE],
        measure="pearson",
        participants=drawn["p"],
        conditions=drawn["c"],
    )
    rows = found.models.set_index(["model", "roi"])
    mean = whole.samples[..., [0, 1]] / 2 + whole.samples[..., [2, 3]] / 2
    used = np.isfinite(whole.samples[0, :, 0])
    for k, layer in enumerate(("a x", "a y")):
        assert rows.loc[(layer, "R"), "mean"] == pytest.approx(mean[:, used, k].mean())
    n, c = PEOPLE, SOUNDS
    both, people, sounds = mean[:, used, 0].var(axis=1, ddof=1)
    first, second = n / (n - 1) * people, c / (c - 1) * sounds
    twofold = first + second - n * c / ((n - 1) * (c - 1)) * (both - people - sounds)
    error = np.sqrt(min(max(twofold, first, second), both))
    assert rows.loc[("a x", "R"), "standard_error"] == pytest.approx(error)
    pairs = set(zip(found.pairs["model"], found.pairs["other"], strict=True))
    assert not {("a1 x", "a x"), ("a1 x", "a y")} & pairs
    assert {("a1 x", "a2 y"), ("b x", "a x"), ("a x", "a y")} <= pairs
    best = found.best_layers.set_index(["model", "other", "roi"])
    assert set(best.index.droplevel("roi")) == {
        *((f"a1 {BEST}", f"{other} {BEST}") for other in ("a2", "b")),
        (f"a2 {BEST}", f"b {BEST}"),
        (f"b {BEST}", f"a {BEST}"),
    }
    assert best.loc[(f"b {BEST}", f"a {BEST}", "R"), "difference"] < -0.2
    plain = rsa.bootstrap_rois(models, brains, n=60, measure="pearson", rng=np.random.default_rng(5))
    same = rows.loc[list(zip(plain.models["model"], plain.models["roi"], strict=True)), ["mean", "standard_error", "p"]]
    np.testing.assert_allclose(same, plain.models[["mean", "standard_error", "p"]])


def test_layers_are_chosen_by_the_mean_over_seeds() -> None:
    models, brains = make(np.random.default_rng(6))
    both = models.subset("network", ["a1", "a2"])
    given: dict[str, Any] = {"measure": "pearson", "splits": 4, "by": "stimulus"}
    found = rsa.split_half_best_layer(both, brains, **given, rng=np.random.default_rng(7), seeds=SEEDS)
    assert found.set_index("roi").loc["R", ["layer", "chosen_share"]].tolist() == ["x", 1.0]
    one, other = (
        rsa.split_half_best_layer(models.subset("network", name), brains, **given, rng=np.random.default_rng(7))
        for name in ("a1", "a2")
    )
    each = [float(table.loc[table["roi"] == "R", "score"].iloc[0]) for table in (one, other, found)]
    assert min(each[:2]) <= each[2] <= max(each[:2])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"a": ["a1", "a3"]}, "as the seeds of a further one, got 'a': 'a1', 'a3'"),
        ({"a": []}, "got 'a': none"),
        ({"b": ["a1", "a2"]}, "and another name for the whole"),
    ],
)
def test_seeds_that_are_not_there_are_refused(seeds: dict[str, list[str]], message: str) -> None:
    models, brains = make(np.random.default_rng(8))
    with pytest.raises(InputError, match=message):
        rsa.relabeling_test(models, brains, seeds=seeds)


def test_seeds_of_other_layers_and_of_rdms_over_time_are_refused() -> None:
    models, brains = make(np.random.default_rng(9))
    models.rdm_descriptors["layer"] = ["x", "y", "x", "z", "x", "y"]
    with pytest.raises(InputError, match="expected the layers of a1 in a2, a seed of the same network"):
        rsa.bootstrap_rois(models, brains, rng=np.random.default_rng(0), seeds=SEEDS)
    models.rdm_descriptors["time"] = [0.1] * 6
    with pytest.raises(InputError, match="and none of time"):
        list_rows(models, SEEDS)


def test_the_table_over_participants_has_the_means_of_each_participant() -> None:
    from brainmap.rsa.inference.seeds import average_rows, measure_spread

    models, brains = make(np.random.default_rng(10))
    rows = list_rows(models, SEEDS)
    scores = rsa.compare_rdms(models, brains, measure="spearman")
    cube, _ = arrange_scores(average_rows(scores, rows.places), brains)
    plain, _ = arrange_scores(scores, brains)
    np.testing.assert_allclose(cube[6], (plain[0] + plain[2]) / 2)
    spread = pd.DataFrame(measure_spread(plain.mean(axis=2), rows.places))
    assert spread["seeds"].tolist() == [1] * 12 + [2] * 4
    apart = plain.mean(axis=2)[[0, 2]].std(axis=0, ddof=1)
    np.testing.assert_allclose(spread["seeds_deviation"][12:14], apart)
