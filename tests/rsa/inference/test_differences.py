"""Model against model: scipy's paired tests, pair by pair, and the bootstrap of every region."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from rsatoolbox.rdm.rdms import RDMs

from brainmap import rsa
from brainmap.errors import InputError


def test_every_pair_is_the_paired_test_of_scipy() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0.1, 0.1, size=(3, 2, 9))
    labels = {"layer": ["a", "b", "c"], "roi": ["HG", "V1"]}
    table = rsa.score_differences(scores, labels=labels)
    assert table[["model", "other", "roi"]].values.tolist() == [
        ["a", "b", "HG"],
        ["a", "b", "V1"],
        ["a", "c", "HG"],
        ["a", "c", "V1"],
        ["b", "c", "HG"],
        ["b", "c", "V1"],
    ]
    t = rsa.score_differences(scores, labels=labels, test="t", correction="bonferroni", measure="pearson")
    places = {"a": 0, "b": 1, "c": 2, "HG": 0, "V1": 1}
    for (_, row), (_, of_t) in zip(table.iterrows(), t.iterrows(), strict=True):
        x, y = (scores[places[str(row[side])], places[str(row["roi"])]] for side in ("model", "other"))
        assert row["p"] == pytest.approx(scipy.stats.wilcoxon(x, y, method="exact").pvalue)
        z = scipy.stats.ttest_rel(np.arctanh(x), np.arctanh(y))
        assert of_t["p"] == pytest.approx(z.pvalue)
        assert of_t["p_corrected"] == pytest.approx(min(1.0, 6 * z.pvalue))
        assert row["difference"] == pytest.approx((x - y).mean())
        assert row["standard_error"] == pytest.approx(scipy.stats.sem(x - y))
    flipped = rsa.score_differences(scores, labels=labels, test="sign-flip", correction="max-t")
    assert (flipped["p_corrected"] >= flipped["p"]).all()
    with pytest.raises(InputError, match="of at least 2 models"):
        rsa.score_differences(scores[:1])


def test_chosen_pairs_are_rows_of_all_pairs_and_corrected_among_themselves() -> None:
    scores = np.random.default_rng(2).normal(size=(4, 2, 9))
    every = rsa.score_differences(scores).set_index(["model", "other", "roi"])
    found = rsa.score_differences(scores, pairs=[(2, 0), (1, 3)])
    assert list(zip(found["model"], found["other"], strict=True)) == [("2", "0")] * 2 + [("1", "3")] * 2
    for row in found.itertuples():
        turned = (row.other, row.model, row.roi)
        same = every.loc[turned if row.model == "2" else (row.model, row.other, row.roi)]
        assert row.p == same["p"]
        assert row.difference == pytest.approx(same["difference"] * (-1 if row.model == "2" else 1), abs=1e-12)
    np.testing.assert_allclose(found["p_corrected"], scipy.stats.false_discovery_control(found["p"]))


def test_regions_are_bootstrapped_with_the_same_draws_and_corrected_together() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(45)
    data = np.concatenate([truth + 0.3 * rng.random((5, 45)), rng.random((5, 45))])
    items = {"stimulus_id": [f"s{k}" for k in range(10)]}
    models = RDMs(
        np.stack([truth, rng.random(45)]), rdm_descriptors={"name": ["true", "other"]}, pattern_descriptors=items
    )
    brains = RDMs(
        data,
        rdm_descriptors={"roi": ["HG"] * 5 + ["V1"] * 5, "participant": list("12345") * 2},
        pattern_descriptors=items,
    )
    found = rsa.bootstrap_rois(models, brains, n=40, measure="pearson", rng=np.random.default_rng(2))
    seed = int(np.random.default_rng(2).integers(2**63))
    for roi in ("HG", "V1"):
        rng = np.random.default_rng(seed)
        alone = rsa.bootstrap(models, brains.subset("roi", roi), n=40, measure="pearson", rng=rng)
        mine = found.models[found.models["roi"] == roi]
        np.testing.assert_allclose(mine["p"], alone.table("none")["p"])
        reach = scipy.stats.t.ppf(0.975, alone.df) * mine["standard_error"]
        np.testing.assert_allclose(mine["ci_high"] - mine["mean"], reach)
    np.testing.assert_allclose(found.models["p_corrected"], scipy.stats.false_discovery_control(found.models["p"]))
    assert found.pairs[["model", "other", "roi"]].values.tolist() == [["true", "other", "HG"], ["true", "other", "V1"]]
