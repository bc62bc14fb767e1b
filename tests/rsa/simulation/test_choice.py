"""Choosing the sounds that tell two layers apart, and the studies that use them."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs
from scipy.spatial.distance import squareform

from brainmap import features
from brainmap.errors import InputError
from brainmap.rsa import choose_items, compute_rdms, load_rdms, power_analysis, save_rdms, stack_rdms
from brainmap.rsa.simulation.rdms import Measurement, draw_group, embed_rdm
from brainmap.rsa.simulation.subsets import (
    build_terms,
    compute_unlikeness,
    draw_items,
    measure_items,
    search_items,
    share_items,
)

DATA = Path(__file__).parents[3] / "data"


def candidates(n_words: int = 6, n_tokens: int = 4, *, seed: int = 3, **change: Any) -> RDMs:
    """Two layers of tokens of words, which share the words and a part of the tokens."""
    rng, n = np.random.default_rng(seed), n_words * n_tokens
    words = [f"w{k}" for k in range(n_words) for _ in range(n_tokens)]
    items = {"stimulus_id": [f"s{k:02d}" for k in range(n)], "condition": words} | change
    items = {key: value for key, value in items.items() if value is not None}
    common = np.repeat(rng.normal(size=(n_words, 20)), n_tokens, axis=0) + rng.normal(size=(n, 20))
    return stack_rdms(
        [
            compute_rdms(common + rng.normal(size=(n, 20)), descriptors={**items, "layer": name})
            for name in ("conv2", "conv4")
        ]
    )


def criterion(models: RDMs, items: Any) -> float:
    """The criterion by its definition: full matrices, the covariance of distances, and nothing of the search."""
    a, b = (m[np.ix_(items, items)][np.triu_indices(len(items), 1)] for m in map(squareform, models.dissimilarities))
    spread = min(
        x.std() / every.std()
        for x, every in zip((a, b), (models.dissimilarities[0], models.dissimilarities[1]), strict=True)
    )
    w = (a - a.mean()) / a.std() - (b - b.mean()) / b.std()
    pairs = list(combinations(range(len(items)), 2))
    shared = np.array([[len(set(p) & set(q)) for q in pairs] for p in pairs])
    covariance = np.select([shared == 2, shared == 1], [1.0, 0.25])
    r = np.corrcoef(a, b)[0, 1]
    return float(spread * (1 - r) * np.sqrt(len(pairs)) / np.sqrt(w @ covariance @ w))


def positions(models: RDMs, labels: Any) -> list[int]:
    known = list(models.pattern_descriptors["stimulus_id"])
    return [known.index(label) for label in labels]


def test_d_is_the_criterion_with_the_covariance_of_distances() -> None:
    models = candidates()
    found = choose_items(models, a="conv4", b="conv2", n=12, rng=np.random.default_rng(0))
    table = found.table.set_index("choice")
    assert table.loc["by d", "d"] == pytest.approx(criterion(models, positions(models, found.items)), rel=1e-9)
    assert table.loc["by d", "d"] == found.starts.max() == table.loc["by d", "high"]
    assert table.loc["random", "high"] < table.loc["by d", "d"]
    assert table.loc["least correlated", "r"] < table.loc["by d", "r"] < table.loc["random", "r"]
    assert table.loc["least correlated, not balanced", "r"] <= table.loc["least correlated", "r"]
    assert table.loc["by d", "participants"] == pytest.approx((table.loc["random", "d"] / table.loc["by d", "d"]) ** 2)


def test_the_search_finds_the_best_of_all_choices() -> None:
    models = candidates(3, 3)
    for balance, sets in (
        ("none", list(combinations(range(9), 6))),
        ("condition", [s for s in combinations(range(9), 6) if np.bincount(np.array(s) // 3).tolist() == [2, 2, 2]]),
    ):
        best = max(sets, key=lambda items: criterion(models, items))
        chosen: Any = balance
        found = choose_items(models, a="conv4", b="conv2", n=6, balance=chosen, rng=np.random.default_rng(0))
        assert positions(models, found.items) == list(best), balance


def test_words_are_balanced_and_a_seed_gives_the_same_choice() -> None:
    models = candidates()
    one, two = (choose_items(models, a="conv4", b="conv2", n=12, rng=np.random.default_rng(4)) for _ in range(2))
    assert pd.Series(one.conditions).value_counts().tolist() == [2] * 6
    assert one.items == two.items
    free = choose_items(models, a="conv4", b="conv2", n=13, balance="none", rng=np.random.default_rng(4))
    assert len(set(free.items)) == 13
    assert list(free.table["choice"]) == ["by d", "random", "least correlated"]


def test_d_predicts_cohens_d_of_simulated_participants_at_a_weak_signal() -> None:
    models = candidates(6, 6)
    gram = embed_rdm(models.dissimilarities[1]).gram
    how = Measurement(n_runs=2, n_voxels=400, specific=0.0, variation=0.0)
    n, rng, ratios = 12, np.random.default_rng(1), []
    best = positions(models, choose_items(models, a="conv4", b="conv2", n=n, rng=rng).items)
    usual = [2 * k + j for k in range(0, 18, 3) for j in (0, 1)]
    for items in (best, usual):
        at = np.array(items)
        _, data = draw_group(gram, signal=0.02, measurement=how, n_participants=20_000, n_conditions=at, rng=rng)
        part = [squareform(m)[np.ix_(at, at)][np.triu_indices(n, 1)] for m in models.dissimilarities]
        w = np.subtract(*((x - x.mean()) / x.std() for x in part[::-1]))
        scores = data @ w
        sd = part[1].std() / models.dissimilarities[1].std()
        lower = min(sd, part[0].std() / models.dissimilarities[0].std())
        ratios.append(scores.mean() / scores.std() / (criterion(models, items) * sd / lower))
    assert ratios[0] == pytest.approx(ratios[1], rel=0.08)


def test_studies_have_the_chosen_items_and_the_signal_of_the_pilot() -> None:
    models = candidates()
    found = choose_items(models, a="conv4", b="conv2", n=12, rng=np.random.default_rng(0))
    settings: dict[str, Any] = {"a": "conv4", "b": "conv2", "participants": (6,), "simulations": 30}
    settings |= {"ceiling": 0.2, "pilot": (6, 4, 12)}
    drawn = power_analysis(models, conditions=(12,), **settings, rng=np.random.default_rng(2))
    chosen = power_analysis(models, items=found.items, **settings, rng=np.random.default_rng(2))
    assert chosen.signal == drawn.signal
    assert chosen.items == found.items
    assert chosen.table["conditions"].tolist() == [12, 12]
    assert chosen.table["d"][1] > drawn.table["d"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "conv3"}, "layer: expected one of"),
        ({"b": "conv4"}, "two different layers to tell apart, got 'conv4' twice"),
        ({"n": 24}, "n from 4 to 23, fewer than the 24 candidates (choose fewer items"),
        ({"n": 3}, "n from 4 to 23"),
        (
            {"n": 14},
            "a multiple of the 6 conditions for balance='condition', got 14; choose 12 or 18, or balance='none'",
        ),
        ({"n": 5}, "got 5; choose 6, or balance='none'"),
        ({"balance": "word"}, "balance: expected one of"),
        ({"n_starts": 0}, "n_starts of 1 or more, got 0"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"a": "conv4", "b": "conv2", "n": 12, **change}
    with pytest.raises(InputError) as caught:
        choose_items(candidates(), **settings, rng=np.random.default_rng(0))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_candidates_that_cannot_be_chosen_from_are_named() -> None:
    rng, settings = np.random.default_rng(0), {"a": "conv4", "b": "conv2", "n": 12}
    uneven = candidates(condition=["w0"] + [f"w{1 + k % 5}" for k in range(23)])
    with pytest.raises(InputError, match=r"2 candidates or more of each condition for n=12, got fewer of .*w0 \(1\)"):
        choose_items(uneven, **settings, rng=rng)
    with pytest.raises(InputError, match="RDMs with the descriptor 'condition'"):
        choose_items(candidates(condition=None), **settings, rng=rng)
    torn, flat = candidates(), candidates()
    torn.dissimilarities[1, 4] = np.nan
    with pytest.raises(InputError, match="'conv4' has 1 missing pairs"):
        choose_items(torn, **settings, rng=rng)
    flat.dissimilarities[0] = 0.5
    with pytest.raises(InputError, match="equally far apart in 'conv2'"):
        choose_items(flat, **settings, rng=rng)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": ["s00", "s01", "s01"]}, "each item once, got 's01' more than once"),
        ({"items": ["s00", "s01", "s99"]}, "got 's99'"),
        ({"items": ["s00", "s01"]}, "conditions of 3 or more"),
        ({"items": ["s00", "s01", "s02"], "conditions": (3,)}, "items or conditions, got both"),
    ],
)
def test_items_that_no_study_can_have_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        power_analysis(candidates(), a="conv4", b="conv2", **change, rng=np.random.default_rng(0))


def test_the_command_writes_stimuli_that_power_takes(brainmap_command: Any, tmp_path: Path) -> None:
    models = candidates()
    save_rdms(models, tmp_path / "layers.h5")
    (tmp_path / "chosen").mkdir()
    every = pd.DataFrame({key: list(models.pattern_descriptors[key]) for key in ("stimulus_id", "condition")})
    every.assign(path=every["stimulus_id"] + ".wav", voice="v01").to_csv(tmp_path / "all.tsv", sep="\t", index=False)
    words = ["rsa", "choose", tmp_path / "layers.h5", "--a", "conv4", "--b", "conv2", "--n", "12"]
    out = tmp_path / "chosen" / "stimuli.tsv"
    answer = brainmap_command(*words, "--stimuli", tmp_path / "all.tsv", "--out", out)
    assert answer.code == 0, answer.err
    for part in ("specific to conv4 and conv2", "at an equal noise ceiling", "no sample of sounds", "selected = true"):
        assert part in answer.out
    table, said = pd.read_csv(out, sep="\t"), json.loads(out.with_suffix(".json").read_text())
    found = choose_items(load_rdms(tmp_path / "layers.h5"), a="conv4", b="conv2", n=12, rng=np.random.default_rng(0))
    assert table["stimulus_id"].tolist() == list(found.items)
    assert table["path"].tolist() == [f"../{item}.wav" for item in found.items]
    assert set(table.columns) <= set(said)
    assert len(said["Starts"]) == 10
    power = ["rsa", "power", tmp_path / "layers.h5", "--a", "conv4", "--b", "conv2", "--participants", "4"]
    simulated = brainmap_command(*power, "--simulations", "4", "--items", out)
    assert simulated.code == 0, simulated.err
    assert "All studies have the 12 chosen items" in simulated.out
    assert brainmap_command(*words, "--out", out).code == 2
    every.iloc[:3].to_csv(tmp_path / "few.tsv", sep="\t", index=False)
    lacking = brainmap_command(*words, "--stimuli", tmp_path / "few.tsv", "--json")
    assert (lacking.code, lacking.err.count("\n")) == (2, 1)
    assert "expected a row for each chosen item" in lacking.err


def test_two_networks_are_told_apart(brainmap_command: Any, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        save_rdms(candidates(network=name, seed=seed), tmp_path / f"{name}.h5")
    files = [tmp_path / "one.h5", tmp_path / "two.h5"]
    answer = brainmap_command("rsa", "choose", *files, "--a", "one conv4", "--b", "two conv4", "--n", "12", "--json")
    assert answer.code == 0, answer.err
    assert len(json.loads(answer.out)["items"]) == 12


@pytest.mark.slow
def test_chosen_words_need_fewer_participants_than_random_ones_and_uncorrelated_rdms_more() -> None:
    sounds = features.load_sounds(DATA / "words" / "stimuli.tsv", rate=16_000, seconds=1.0)
    network = features.load_network(DATA / "networks" / "ch32.safetensors")
    acts = features.extract_activations(network, sounds, layers=["conv2", "conv4"], pooling="mean")
    rdms, rng = compute_rdms(acts, units="zscore"), np.random.default_rng(0)
    labels, words = (list(rdms.pattern_descriptors[key]) for key in ("stimulus_id", "condition"))
    terms = build_terms(rdms.dissimilarities[::-1], len(labels), ("conv4", "conv2"))
    balanced = share_items(32, words, len(labels), "condition")
    free = share_items(32, words, len(labels), "none")
    unlike = [search_items(terms, free, compute_unlikeness, rng) for _ in range(3)]
    least = min(unlike, key=lambda items: float(measure_items(terms, items).r))
    random = [draw_items(balanced, rng) for _ in range(4)]
    best = choose_items(rdms, a="conv4", b="conv2", n=32, n_starts=4, rng=rng)

    def power(items: Any) -> Any:
        """The power with 8, 16 and 24 participants, at the same signal, of which the layer explains a third."""
        found = power_analysis(
            rdms,
            a="conv4",
            b="conv2",
            items=items,
            ceiling=0.2,
            pilot=(12, 4, 32),
            explained=0.35,
            participants=(8, 16, 24),
            simulations=200,
            rng=np.random.default_rng(5),
        ).table
        return found[found["comparison"] == "conv4 > conv2"]["power"].to_numpy()

    drawn = [[labels[k] for k in items] for items in random]
    chosen, usual = power(best.items), np.mean([power(items) for items in drawn], axis=0)
    obvious = power([labels[k] for k in least])
    assert chosen[0] > 0.75 > usual[0] + 0.15, (chosen, usual)
    assert usual[1] > 0.75 > obvious[1] + 0.1, (usual, obvious)
    assert usual[0] > obvious[0] + 0.15, (usual, obvious)
