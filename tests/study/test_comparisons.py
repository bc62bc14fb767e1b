"""Networks are compared with their controls, with acoustic models and with each other, at the level of the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.inference.best_layers import BEST
from brainmap.rsa.inference.scores import correct_p
from brainmap.study.stages.comparisons import keep_comparisons, list_comparisons, list_seeds, list_wholes

NAMES = ["a", "a-untrained", "a-permuted", "b", "b-untrained", "sounds"]
SETTINGS: Any = SimpleNamespace(
    network=[
        SimpleNamespace(name="a", controls=("untrained", "permuted"), seed_of=None),
        SimpleNamespace(name="b", controls=("untrained",), seed_of=None),
    ],
    baselines=SimpleNamespace(name="sounds"),
    hypothesis=(),
)
COMPARED = [
    ("a", "a-untrained"),
    ("a", "a-permuted"),
    ("b", "b-untrained"),
    ("a", "b"),
    ("a", "sounds"),
    ("b", "sounds"),
]


def test_only_pairs_that_answer_a_question_are_compared_and_corrected_over() -> None:
    assert list_comparisons(SETTINGS, NAMES) == COMPARED
    assert list_comparisons(SETTINGS, ["a", "b"]) == [("a", "b")], "what is controlled for is not compared"
    every = [(one, other) for k, one in enumerate(NAMES) for other in NAMES[k + 1 :]]
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {
                "model": f"{one} {BEST}",
                "other": f"{other} {BEST}",
                "roi": roi,
                "p": rng.random() ** 4,
                "p_corrected": 1.0,
            }
            for roi in ("R", "S")
            for one, other in every
        ]
    )
    kept = keep_comparisons(table, SETTINGS, "fdr")
    found = list(zip(kept["model"].str.split().str[0], kept["other"].str.split().str[0], kept["roi"], strict=True))
    assert found == [(*pair, roi) for pair in COMPARED for roi in ("R", "S")]
    np.testing.assert_allclose(kept["p_corrected"], correct_p(kept["p"], "fdr"))
    assert len(keep_comparisons(table.iloc[:0], SETTINGS, "fdr")) == 0
    other = table.assign(model=table["other"], other=table["model"], difference=0.1, t=2.0)  # the other way round
    turned = keep_comparisons(other, SETTINGS, "fdr")
    pd.testing.assert_frame_equal(turned[kept.columns.tolist()], kept)
    assert set(turned["difference"]) == {-0.1}
    assert set(turned["t"]) == {-2.0}


def test_several_seeds_are_compared_as_one_network() -> None:
    settings: Any = SimpleNamespace(
        network=[
            SimpleNamespace(name="a1", controls=("untrained", "permuted"), seed_of="a"),
            SimpleNamespace(name="a2", controls=("untrained",), seed_of="a"),
            SimpleNamespace(name="b", controls=("untrained",), seed_of=None),
        ],
        baselines=SimpleNamespace(name="sounds"),
        hypothesis=(),
    )
    assert list_seeds(settings) == {"a": ["a1", "a2"], "a-untrained": ["a1-untrained", "a2-untrained"]}
    assert list_wholes(settings) == {"a": ["a-untrained"], "b": ["b-untrained"]}, "not all seeds have permuted ones"
    known = [
        "a1",
        "a2",
        "a1-untrained",
        "a2-untrained",
        "a1-permuted",
        "b",
        "b-untrained",
        "sounds",
        "a",
        "a-untrained",
    ]
    assert list_comparisons(settings, known) == [
        ("a", "a-untrained"),
        ("b", "b-untrained"),
        ("a", "b"),
        ("a", "sounds"),
        ("b", "sounds"),
    ]


def test_pairs_over_participants_are_those_of_all_pairs_corrected_over_fewer() -> None:
    rng = np.random.default_rng(1)
    scores, networks = rng.normal(0.1, 0.1, size=(6, 2, 9)), {"a": [0, 1], "b": [2, 3], "c": [4, 5]}
    labels = {"model": list("uvwxyz"), "roi": ["R", "S"]}
    every = rsa.best_layer_differences(scores, networks, labels=labels)
    some = rsa.best_layer_differences(scores, networks, labels=labels, pairs=[("a", "c")])
    there = (every["model"] == f"a {BEST}") & (every["other"] == f"c {BEST}")
    np.testing.assert_array_equal(some["p"], every.loc[there, "p"])
    np.testing.assert_allclose(some["p_corrected"], correct_p(some["p"], "fdr"))
    with pytest.raises(InputError, match="expected names of 'a', 'b', 'c', got 'd'"):
        rsa.best_layer_differences(scores, networks, pairs=[("a", "d")])


def measure(points: Any) -> Any:
    i, j = np.triu_indices(points.shape[-2], 1)
    return ((points[..., i, :] - points[..., j, :]) ** 2).mean(axis=-1)


def simulate(rng: np.random.Generator, share: float, *, sounds: int, people: int) -> tuple[RDMs, RDMs]:
    """Simulate a network of 6 layers, its two controls and two acoustic models, of one law, and three regions."""
    truth = rng.normal(size=(sounds, 20))
    sizes = {"a": 6, "a-untrained": 6, "a-permuted": 6, "sounds": 2}
    points = []
    for n in sizes.values():
        own = rng.normal(size=truth.shape)
        for _ in range(n):
            points.append(share * truth + np.sqrt(1 - share**2) * own)
            own = np.sqrt(0.8) * own + np.sqrt(0.2) * rng.normal(size=truth.shape)
    items = {"stimulus_id": [f"s{k:02d}" for k in range(sounds)]}
    of_models: dict[str, list[str]] = {
        "network": [name for name, n in sizes.items() for _ in range(n)],
        "layer": [f"conv{k}" for n in sizes.values() for k in range(n)],
    }
    models = RDMs(measure(np.array(points)), pattern_descriptors=items, rdm_descriptors=of_models)
    brains = truth + 0.8 * rng.normal(size=(3, people, sounds, 20))
    of_brains = {
        "roi": np.repeat(["R", "S", "T"], people).tolist(),
        "participant": [f"{k:02d}" for _ in range(3) for k in range(people)],
    }
    data = RDMs(measure(brains).reshape(3 * people, -1), pattern_descriptors=items, rdm_descriptors=of_brains)
    return models, data


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_exchangeable_trained_and_untrained_networks_are_told_apart_in_one_study_of_twenty(share: float) -> None:
    """Null: trained, controls and acoustic models of one law, whether they explain the regions or not.

    A test counts as a rejection; so does a study where any corrected p of the family of comparisons is significant.
    """
    settings: Any = SimpleNamespace(
        network=[SimpleNamespace(name="a", controls=("untrained", "permuted"), seed_of=None)],
        baselines=SimpleNamespace(name="sounds"),
        hypothesis=(),
    )
    rng, simulations = np.random.default_rng(int(10 * share)), 150
    each, family = [], 0
    for _ in range(simulations):
        models, data = simulate(rng, share, sounds=24, people=12)
        best = rsa.bootstrap_rois(models, data, n=200, correction="none", rng=rng).best_layers
        kept = keep_comparisons(best, settings, "fdr")
        assert len(kept) == 3 * 3
        each.append((kept["p"] <= 0.05).mean())
        family += bool((kept["p_corrected"] <= 0.05).any())
    error = 2 * np.sqrt(0.06 * 0.94 / simulations)
    assert np.mean(each) <= 0.06, np.mean(each)
    assert family / simulations <= 0.06 + error, family
