"""Tests over participants at their nominal level, corrections, and the best layer on held-out halves."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from rsatoolbox.rdm.rdms import RDMs

from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.inference.halves import split_half_best_layer
from brainmap.rsa.inference.scores import correct_p, score_statistics
from brainmap.rsa.rdm.alignment import stack_rdms
from brainmap.rsa.rdm.compute import compute_rdms


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_signed_rank_equals_the_enumeration_of_signs(alternative: Any) -> None:
    x = np.random.default_rng(0).normal(0.3, 1, size=7)
    ranks = scipy.stats.rankdata(np.abs(x))
    null = np.array([np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=7)])
    seen = ranks[x > 0].sum()
    up, down = (null >= seen).mean(), (null <= seen).mean()
    expected = {"greater": up, "less": down, "two-sided": min(1.0, 2 * min(up, down))}[alternative]
    table: Any = score_statistics(x[None], alternative=alternative, correction="none")
    assert table.loc[0, "p"] == pytest.approx(expected, abs=1e-12)
    assert table.loc[0, "smallest_p"] == 2.0**-7 * (2 if alternative == "two-sided" else 1)


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_signed_rank_equals_scipy(alternative: Any) -> None:
    x = np.random.default_rng(14).normal(0.1, 1, size=(6, 30))
    expected = [scipy.stats.wilcoxon(row, alternative=alternative, method="exact").pvalue for row in x]
    found = score_statistics(x, alternative=alternative, correction="none")
    np.testing.assert_allclose(found["p"], expected, rtol=1e-10)


def test_signed_rank_stays_exact_with_ties_and_zeros() -> None:
    x = np.array([0.2, 0.2, -0.1, 0.3, 0.0, 0.2, -0.3])
    kept = x[x != 0]
    ranks = scipy.stats.rankdata(np.abs(kept))
    null = np.array([np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=6)])
    expected = (null >= ranks[kept > 0].sum()).mean()
    assert score_statistics(x[None], correction="none").loc[0, "p"] == pytest.approx(expected)


def test_t_equals_scipy_on_fisher_z_where_it_applies() -> None:
    scores = np.random.default_rng(1).uniform(-0.5, 0.9, size=(3, 2, 9))
    table: Any = score_statistics(scores, test="t", measure="corr", correction="none")
    expected = scipy.stats.ttest_1samp(np.arctanh(scores), 0, axis=-1, alternative="greater")
    np.testing.assert_allclose(table["p"], expected.pvalue.ravel())
    np.testing.assert_allclose(table["statistic"], expected.statistic.ravel())
    raw = score_statistics(scores, test="t", measure="rho-a", correction="none")
    expected = scipy.stats.ttest_1samp(scores, 0, axis=-1, alternative="greater")
    np.testing.assert_allclose(raw["p"], expected.pvalue.ravel())
    np.testing.assert_allclose(table["mean"], scores.mean(-1).ravel())
    np.testing.assert_allclose(table["standard_error"], scipy.stats.sem(scores, axis=-1).ravel())


def test_against_the_ceiling_and_differences_of_models() -> None:
    rng = np.random.default_rng(2)
    scores, ceiling = rng.normal(0.3, 0.1, size=(2, 3, 8)), np.array([0.1, 0.3, 0.5])[:, None]
    found = score_statistics(scores, against=ceiling, alternative="two-sided", correction="none")["p"]
    shifted = score_statistics(scores - ceiling, alternative="two-sided", correction="none")["p"]
    np.testing.assert_array_equal(found, shifted)


def test_fdr_equals_benjamini_and_hochberg_over_all_layers_and_rois() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(0.05, 0.1, size=(4, 5, 10))
    table: Any = score_statistics(scores, correction="fdr")
    p = table["p"].to_numpy()
    np.testing.assert_allclose(table["p_corrected"], scipy.stats.false_discovery_control(p))
    order = np.argsort(p)
    by_hand = np.empty(20)
    by_hand[order] = np.minimum.accumulate((p[order] * 20 / np.arange(1, 21))[::-1])[::-1]
    np.testing.assert_allclose(table["p_corrected"], by_hand)
    np.testing.assert_allclose(correct_p(p, "bonferroni"), np.minimum(1, 20 * p))


def test_rows_carry_their_labels_in_order() -> None:
    scores = np.random.default_rng(4).normal(size=(2, 3, 6))
    table: Any = score_statistics(scores, labels={"layer": ["conv1", "conv2"], "roi": ["HG", "pSTG", "V1"]})
    assert list(zip(table["layer"], table["roi"], strict=True))[3] == ("conv2", "HG")
    assert table.loc[3, "mean"] == pytest.approx(scores[1, 0].mean())
    assert "Wilcoxon" in table.attrs["note"]
    assert "0.0156" in table.attrs["note"], "six participants reach 1/64 and no less"


def test_a_missing_participant_is_left_out_of_that_test_and_counted() -> None:
    scores = np.random.default_rng(5).normal(0.5, 0.3, size=(2, 7))
    scores[1, 3] = np.nan
    table: Any = score_statistics(scores, correction="none")
    assert table["n"].tolist() == [7, 6]
    whole: Any = score_statistics(np.delete(scores, 3, axis=1), correction="none")
    assert table.loc[1, "p"] == whole.loc[1, "p"]
    assert table.loc[1, "smallest_p"] == 1 / 64


@pytest.mark.parametrize("test", ["signed-rank", "t"])
def test_false_positives_are_nominal(test: Any) -> None:
    """Independent noise, symmetric about 0: eight participants attain 3.9 % in the signed-rank test, t 5 %."""
    scores = np.random.default_rng(6).normal(size=(2000, 8))
    rate = (score_statistics(scores, test=test, correction="none")["p"] <= 0.05).mean()
    nominal = 0.0390625 if test == "signed-rank" else 0.05
    assert abs(rate - nominal) < 4 * np.sqrt(nominal * (1 - nominal) / 2000)


def test_max_t_is_family_wise_nominal_and_equals_enumeration() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        shared = rng.normal(size=(1, 8))  # layers correlate, as real ones do
        scores = 0.7 * shared + 0.7 * rng.normal(size=(5, 8))
        table: Any = score_statistics(scores, test="sign-flip", correction="max-t")
        hits += bool((table["p_corrected"] <= 0.05).any())
    assert hits / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))[:, None]
    flipped = signs * scores
    t = flipped.mean(-1) / (flipped.std(-1, ddof=1) / np.sqrt(8))
    seen = scores.mean(-1) / (scores.std(-1, ddof=1) / np.sqrt(8))
    expected = (t.max(1)[:, None] >= seen - 1e-9).mean(0)
    np.testing.assert_allclose(table["p_corrected"], expected)
    assert table.loc[0, "smallest_p"] == 1 / 256


def test_squaring_scores_before_a_test_finds_effects_in_noise() -> None:
    """Why scores are tested as they are: squares of pure noise are all above 0."""
    scores = np.random.default_rng(8).normal(0, 0.1, size=(100, 8))
    assert (score_statistics(scores**2, correction="none")["p"] <= 0.05).all()
    assert (score_statistics(scores, correction="none")["p"] <= 0.05).mean() < 0.12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": "wilcoxon"}, "test: expected one of 'signed-rank'"),
        ({"correction": "fdrr"}, "did you mean 'fdr'"),
        ({"correction": "max-t"}, "expected test='sign-flip'"),
        ({"labels": {"layer": ["conv1"]}}, r"axes \(2,\) of the scores, got \(1,\)"),
        ({"test": "t", "measure": "pearson"}, "no Fisher z"),
    ],
)
def test_bad_settings_are_refused(arguments: Any, message: Any) -> None:
    scores: Any = np.ones((2, 5))
    with pytest.raises(InputError, match=message):
        score_statistics(scores, **arguments)
    with pytest.raises(InputError, match="at least 2 participants"):
        score_statistics(scores[:, :1])


def test_no_difference_at_all_is_p_one() -> None:
    assert score_statistics(np.zeros((1, 6)), correction="none").loc[0, "p"] == 1.0


# The best layer on held-out halves


N_WORDS, TOKENS = 12, 2


def planted(rng: np.random.Generator, *, depth: int = 5, planted: int = 2, noise: float = 1.0) -> tuple[RDMs, RDMs]:
    """Layers that drift away from each other, and eight participants whose region copies one of them."""
    words = [f"w{k:02}" for k in range(N_WORDS) for _ in range(TOKENS)]
    items = {"stimulus_id": [f"{w}-{k % TOKENS}" for k, w in enumerate(words)], "condition": words}
    layer, layers = rng.normal(size=(len(words), 40)), []
    for _ in range(depth):
        layer = 0.6 * layer + 0.8 * rng.normal(size=layer.shape)
        layers.append(layer)
    models = [compute_rdms(x, descriptors={**items, "layer": f"conv{k + 1}"}) for k, x in enumerate(layers)]
    brains = []
    for roi, signal in (("HG", 1.0), ("control", 0.0)):
        brains += [
            compute_rdms(
                signal * layers[planted] + noise * rng.normal(size=layer.shape),
                descriptors={**items, "roi": roi, "participant": str(p)},
            )
            for p in range(8)
        ]
    return stack_rdms(models), stack_rdms(brains)


def test_the_planted_layer_is_chosen_and_scored_on_the_other_half() -> None:
    rng = np.random.default_rng(9)
    table: Any = split_half_best_layer(*planted(rng), measure="spearman", rng=rng).set_index("roi")
    assert table.loc["HG", "layer"] == "conv3"
    assert table.loc["HG", "chosen_share"] > 0.9
    assert table.loc["HG", "position"] == pytest.approx(0.5, abs=0.05)
    assert table.loc["HG", "score"] > 0.3
    assert table.loc["HG", "n"] == 8


def test_the_held_out_score_of_noise_is_not_flattered() -> None:
    """Choosing among many layers and scoring on the same data is biased upwards; the other half is not."""
    rng = np.random.default_rng(10)
    held_out, flattered = [], []
    for _ in range(15):
        models, brains = planted(rng, depth=8, noise=1.0)
        control = brains.subset("roi", "control")
        held_out.append(split_half_best_layer(models, control, rng=rng, splits=5)["score"][0])
        same = compare_vectors(models.dissimilarities, control.dissimilarities, measure="rho-a")
        flattered.append(same.mean(1).max())
    assert np.mean(flattered) > 3 * np.std(flattered) / np.sqrt(15)
    assert abs(np.mean(held_out)) < 3.5 * np.std(held_out) / np.sqrt(15)


def test_the_same_seed_gives_the_same_table_and_rois_do_not_change_each_other() -> None:
    models, brains = planted(np.random.default_rng(11))
    both = split_half_best_layer(models, brains, rng=np.random.default_rng(0))
    again = split_half_best_layer(models, brains, rng=np.random.default_rng(0))
    alone = split_half_best_layer(models, brains.subset("roi", "control"), rng=np.random.default_rng(0))
    assert both.equals(again)
    pd.testing.assert_series_equal(both.iloc[1], alone.iloc[0], check_names=False)


def test_a_best_layer_has_a_position_with_its_spread_and_none_where_nothing_is_explained() -> None:
    models, brains = planted(np.random.default_rng(14), depth=7)
    table: Any = split_half_best_layer(models, brains, rng=np.random.default_rng(0)).set_index("roi")
    assert table.loc["HG", "p"] < 0.05
    assert table.loc["control", "p"] > 0.05
    assert table.loc["control", ["position", "position_sd", "position_low", "position_high"]].isna().all()
    # two layers that are equally good, far apart: their mean is a layer between them, and the spread says so
    first, last = np.array(models.dissimilarities)[[0, 6]]
    rng = np.random.default_rng(1)
    both = np.array(brains.subset("roi", "HG").dissimilarities)
    both[:] = (first - first.mean()) / first.std() + (last - last.mean()) / last.std()
    both += rng.normal(size=both.shape)
    twice = RDMs(
        both,
        pattern_descriptors=dict(brains.pattern_descriptors),
        rdm_descriptors={"participant": [str(k) for k in range(len(both))], "roi": ["HG"] * len(both)},
        descriptors=dict(brains.descriptors),
    )
    row = split_half_best_layer(models, twice, rng=np.random.default_rng(2), splits=40).iloc[0]
    assert (row["position_low"], row["position_high"]) == (0.0, 1.0)
    assert 0.1 < row["position"] < 0.9
    assert row["position_sd"] > 0.3


def test_tokens_of_a_word_stay_on_one_side() -> None:
    from brainmap.rsa.inference.halves import _draw_halves

    _, brains = planted(np.random.default_rng(12))
    i, j = np.triu_indices(brains.n_cond, 1)
    words = np.array(brains.pattern_descriptors["condition"])
    for train, test in _draw_halves(brains, splits=5, by="condition", rng=np.random.default_rng(0)):
        sides = [set(words[np.r_[i[side], j[side]]]) for side in (train, test)]
        assert not sides[0] & sides[1]
        assert sides[0] | sides[1] == set(words)


def test_too_few_items_or_layers_are_refused() -> None:
    rng = np.random.default_rng(13)
    items = {"stimulus_id": list("abcdef"), "condition": list("xxyyzz")}
    rdms = stack_rdms([compute_rdms(rng.normal(size=(6, 9)), descriptors={**items, "layer": k}) for k in "12"])
    with pytest.raises(InputError, match=r"expected at least 6 groups by condition, .* got 3; choose by='stimulus'"):
        split_half_best_layer(rdms, rdms, rng=rng)
    with pytest.raises(InputError, match="expected at least 2 layers, got 1"):
        split_half_best_layer(rdms.subset("layer", "1"), rdms, rng=rng, by="stimulus")
    assert len(split_half_best_layer(rdms, rdms, rng=rng, by="stimulus", measure="cosine")) == 1


def test_sign_flips_test_the_participants_that_have_a_score() -> None:
    """The oracle enumerates the flips of the participants of each test by itself."""
    scores = np.random.default_rng(0).normal(0.4, 0.5, size=(3, 8))
    scores[1, 5:], scores[2, 1:] = np.nan, np.nan
    for alternative in ("greater", "two-sided"):
        table = score_statistics(scores, test="sign-flip", alternative=alternative, correction="none")
        for k, n in enumerate((8, 5)):
            own = scores[k, :n]
            sums = np.array([np.dot(signs, own) for signs in itertools.product((1, -1), repeat=n)])
            at_least = np.abs(sums) >= abs(own.sum()) - 1e-9 if alternative == "two-sided" else sums >= own.sum() - 1e-9
            assert table["p"][k] == pytest.approx(at_least.mean(), abs=1e-12)
            assert table["statistic"][k] == pytest.approx(scipy.stats.ttest_1samp(own, 0).statistic, abs=1e-9)
            assert table["smallest_p"][k] == (2 if alternative == "two-sided" else 1) / 2**n
        assert table["p"].isna()[2]
        assert table["smallest_p"].isna()[2]


def test_a_region_that_nobody_has_does_not_make_the_note_say_that_fdr_can_find_nothing() -> None:
    scores = np.random.default_rng(0).normal(0.0, 0.1, size=(2, 3, 8))
    scores[:, 1, 4:], scores[:, 2] = np.nan, np.nan
    table = score_statistics(scores)
    assert "nothing" not in table.attrs["note"]
    assert "over 4 tests" in table.attrs["note"]
    assert "0.00391 to 0.0625, by the number of participants" in table.attrs["note"]
    assert table["smallest_p"].isna().sum() == 2
