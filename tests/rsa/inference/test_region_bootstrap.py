"""The bootstrap of all regions at once: the numbers of each region alone, its level where no network explains it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rsatoolbox.rdm.rdms import RDMs

from brainmap import rsa
from brainmap.rsa.inference import roi_bootstrap
from brainmap.types import Over


def distances(points: Any) -> Any:
    i, j = np.triu_indices(points.shape[-2], 1)
    return ((points[..., i, :] - points[..., j, :]) ** 2).mean(axis=-1)


def group(vectors: Any, words: Any, **descriptors: Any) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[1])) / 2)
    items = {"stimulus_id": [f"s{k}" for k in range(n)], "condition": list(words or range(n))}
    return RDMs(vectors, rdm_descriptors=descriptors, pattern_descriptors=items)


@pytest.mark.parametrize("over", ["both", "participants", "conditions"])
@pytest.mark.parametrize("measure", ["rho-a", "spearman", "pearson", "cosine"])
@pytest.mark.parametrize("words", [None, "aabbbcdde"])
def test_shared_resamples_give_each_region_the_numbers_of_its_own_bootstrap(
    over: Over, measure: str, words: str | None
) -> None:
    rng = np.random.default_rng(0)
    models = group(rng.random((3, 36)), words, layer=list("xyz"))
    data = group(rng.random((8, 36)), words, roi=["a", "b"] * 4, participant=np.repeat(list("1234"), 2).tolist())
    found = rsa.bootstrap_rois(
        models, data, over=over, n=30, measure=measure, correction="none", rng=np.random.default_rng(1)
    )
    seed = int(np.random.default_rng(1).integers(2**63))
    for roi in "ab":
        alone = rsa.bootstrap(
            models, data.subset("roi", roi), over=over, n=30, measure=measure, rng=np.random.default_rng(seed)
        )
        for ours, wanted in ((found.models, alone.table("none")), (found.pairs, alone.pairs("none"))):
            here = ours[ours["roi"] == roi].drop(columns="roi").reset_index(drop=True)
            numbers = wanted.select_dtypes("number").columns
            np.testing.assert_allclose(here[numbers], wanted[numbers], atol=1e-10)


def test_regions_that_cannot_share_resamples_are_bootstrapped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tau counts pairs of pairs, and a region may lack a pair."""
    rng = np.random.default_rng(0)
    vectors = rng.random((6, 36))
    models, people = group(rng.random((2, 36)), None, layer=["x", "y"]), ["1", "2", "3"] * 2

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("shared")

    monkeypatch.setattr(roi_bootstrap, "bootstrap_regions", refuse)
    rois = ["a"] * 3 + ["b"] * 3
    whole = group(vectors, None, roi=rois, participant=people)
    with pytest.raises(AssertionError, match="shared"):
        rsa.bootstrap_rois(models, whole, n=5, rng=np.random.default_rng(0))
    assert len(rsa.bootstrap_rois(models, whole, n=5, measure="tau-a", rng=np.random.default_rng(0)).models) == 4
    vectors[0, 3] = np.nan
    lacking = group(vectors, None, roi=rois, participant=people)
    assert len(rsa.bootstrap_rois(models, lacking, n=5, rng=np.random.default_rng(0)).models) == 4


def different(n: int, simulations: int, *, words: int | None = None) -> tuple[float, float]:
    """Share of studies in which two networks that have nothing of a reliable region are called different: by the
    bootstrap over both, and over participants."""
    rng, found = np.random.default_rng(n), np.zeros(2)

    def points(*shape: int) -> Any:
        if words is None:
            return rng.normal(size=(*shape, n, 20))
        return np.repeat(rng.normal(size=(*shape, words, 20)), n // words, axis=-2) + 0.3 * rng.normal(
            size=(*shape, n, 20)
        )

    labels = None if words is None else np.repeat(np.arange(words), n // words).tolist()
    for _ in range(simulations):
        models = group(distances(points(2)), labels, layer=["trained", "untrained"])
        data = group(distances(points() + 0.7 * rng.normal(size=(12, n, 20))), labels)
        found[0] += rsa.bootstrap_rois(models, data, n=100, rng=rng).pairs["p"][0] <= 0.05
        found[1] += rsa.score_differences(rsa.compare_rdms(models, data))["p"][0] <= 0.05
    return float(found[0] / simulations), float(found[1] / simulations)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "words"), [(16, None), (48, None), (32, 16)])
def test_networks_that_explain_nothing_of_a_reliable_region_do_not_differ(n: int, words: int | None) -> None:
    both, over_participants = different(n, 200, words=words)
    assert both <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 200), (both, over_participants)
    assert over_participants > 0.3, "of these sounds only: that is why it makes no claim about networks"
