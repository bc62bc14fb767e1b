"""Best layers of networks: equal to resamples by hand, at their level where no network explains a reliable region."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from rsatoolbox.rdm.rdms import RDMs
from scipy import stats

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.inference.best_layers import compare_best_layers, group_layers_by_name
from brainmap.rsa.inference.bootstrap import bootstrap_vectors
from brainmap.rsa.inference.scores import correct_p

NETWORKS = {"trained": [0, 1, 2], "control": [3, 4]}


def described(vectors: Any, **descriptors: Any) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[1])) / 2)
    return RDMs(
        vectors, rdm_descriptors=descriptors, pattern_descriptors={"stimulus_id": [f"s{k:02d}" for k in range(n)]}
    )


def layers(vectors: Any, sizes: tuple[int, ...]) -> RDMs:
    """RDMs of networks `a`, `b`, ... with so many layers."""
    names = [name for name, size in zip("abcd", sizes, strict=False) for _ in range(size)]
    return described(vectors, network=names, layer=[f"conv{k}" for size in sizes for k in range(size)])


def test_the_best_layer_is_chosen_again_in_every_resample_as_by_hand() -> None:
    """Resamples of participants, whose scores are means of single correlations: numpy and scipy do the rest."""
    rng = np.random.default_rng(0)
    models, data = rng.random((5, 45)), rng.random((6, 45))
    draws = rng.integers(6, size=(40, 6))
    found = compare_best_layers(bootstrap_vectors(models, data, measure="pearson", participants=draws), NETWORKS).iloc[
        0
    ]
    scores = np.array([[np.corrcoef(model, one)[0, 1] for one in data] for model in models])

    def difference(people: Any) -> float:
        means = scores[:, people].mean(axis=1)
        return float(means[:3].max() - means[3:].max())

    resampled = [difference(one) for one in draws]
    best = [int(scores[:3, one].mean(axis=1).argmax()) for one in draws]
    assert len(set(best)) > 1, "another layer is best in other resamples"
    wanted = 2 * difference(range(6)) - np.mean(resampled)
    error = np.sqrt(np.var(resampled, ddof=1) * 6 / 5)
    assert found[["difference", "standard_error"]].tolist() == pytest.approx([wanted, error])
    assert found["p"] == pytest.approx(2 * stats.t.sf(abs(wanted) / error, 5))
    assert found[["model", "other"]].tolist() == ["trained best layer", "control best layer"]


def test_networks_of_one_layer_vary_as_their_layers_do() -> None:
    rng = np.random.default_rng(1)
    boot = rsa.bootstrap(
        described(rng.random((2, 45)), layer=["x", "y"]), described(rng.random((5, 45))), n=50, rng=rng
    )
    alone = compare_best_layers(boot, {"a": [0], "b": [1]})
    assert alone["standard_error"][0] == pytest.approx(boot.pairs()["standard_error"][0])


def test_regions_have_rows_of_best_layers_which_are_a_family_of_their_own() -> None:
    rng = np.random.default_rng(2)
    models = layers(rng.random((5, 36)), (2, 2, 1))
    data = described(rng.random((8, 36)), roi=["A1", "belt"] * 4, participant=np.repeat(list("1234"), 2).tolist())
    found = rsa.bootstrap_rois(models, data, n=50, measure="pearson", rng=np.random.default_rng(3))
    seed = int(np.random.default_rng(3).integers(2**63))
    alone = compare_best_layers(
        rsa.bootstrap(models, data.subset("roi", "belt"), n=50, measure="pearson", rng=np.random.default_rng(seed)),
        group_layers_by_name(models),
    )
    best = found.best_layers
    assert list(best) == list(found.pairs)
    assert best["model"].tolist() == ["a best layer", "a best layer", "b best layer"] * 2
    np.testing.assert_allclose(best.loc[best["roi"] == "belt", "p"], alone["p"])
    np.testing.assert_allclose(best["p_corrected"], correct_p(best["p"], "fdr"))
    np.testing.assert_allclose(found.pairs["p_corrected"], correct_p(found.pairs["p"], "fdr"))
    one = rsa.bootstrap_rois(layers(rng.random((2, 36)), (2,)), data, n=20, rng=rng)
    assert list(one.best_layers) == list(one.pairs)
    assert not len(one.best_layers), "one network"


@pytest.mark.parametrize(
    ("descriptors", "wanted"),
    [
        ({"network": list("aab"), "layer": list("xyx")}, {"a": [0, 1], "b": [2]}),
        ({"network": list("aaa"), "layer": list("xyz")}, {}),
        ({"network": list("abc"), "layer": list("xxx")}, {}),
        ({"layer": list("xyz")}, {}),
        ({"network": list("aab"), "layer": list("xxx"), "time": [0.1, 0.2, 0.1]}, {}),
    ],
)
def test_layers_belong_to_networks_where_there_is_something_to_choose(descriptors: Any, wanted: Any) -> None:
    assert group_layers_by_name(described(np.ones((3, 3)), **descriptors)) == wanted


def test_a_network_is_ahead_over_participants_where_a_layer_is_ahead_of_all_of_the_other() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0.2, 0.1, size=(5, 2, 8))
    scores[1, 0] += 0.1
    scores[:, 1, 3] = np.nan
    labels = {"model": list("vwxyz"), "roi": ["A1", "belt"]}
    found = rsa.best_layer_differences(scores, NETWORKS, labels=labels, test="t")
    for k in range(2):
        there = ~np.isnan(scores[0, k])
        x = scores[:, k, there]

        def ahead(ours: list[int], others: list[int], x: Any = x) -> float:
            each = [[stats.ttest_rel(x[a], x[b], alternative="greater").pvalue for b in others] for a in ours]
            return float(len(ours) * min(max(row) for row in each))

        wanted = min(1.0, 2 * min(ahead([0, 1, 2], [3, 4]), ahead([3, 4], [0, 1, 2])))
        assert found["p"][k] == pytest.approx(wanted)
        means = x.mean(axis=1)
        assert found["difference"][k] == pytest.approx(means[:3].max() - means[3:].max())
    assert found["n"].tolist() == [8, 7]
    assert found["roi"].tolist() == ["A1", "belt"]
    np.testing.assert_allclose(found["p_corrected"], correct_p(found["p"], "fdr"))
    exact = rsa.best_layer_differences(scores, NETWORKS, labels=labels)
    np.testing.assert_allclose(exact["smallest_p"], [2 * 2 / 2**8, 2 * 2 / 2**7])
    for networks in ({"trained": [0]}, {"trained": [0], "control": []}):
        with pytest.raises(InputError, match="expected at least 2 networks with at least 1 layer"):
            rsa.best_layer_differences(scores, networks)


def test_participants_without_an_rdm_are_left_out_of_their_regions_and_named() -> None:
    rng = np.random.default_rng(6)
    models, vectors = layers(rng.random((3, 36)), (2, 1)), rng.random((8, 36))
    rois, people = ["A1", "belt"] * 4, np.repeat(list("1234"), 2)
    vectors[4] = np.nan  # participant 3 has no A1
    data = described(vectors, roi=rois, participant=people.tolist())
    with pytest.warns(BrainmapWarning, match="participants without an RDM are left out: '3' of 'A1'$"):
        found = rsa.bootstrap_rois(models, data, n=40, rng=np.random.default_rng(7))
    assert found.left_out == {"A1": ["3"]}
    for table in (found.models, found.pairs, found.best_layers):
        assert table.loc[table["roi"] == "A1", "n"].eq(3).all()
        assert table.loc[table["roi"] == "belt", "n"].eq(4).all()
    for roi in ("A1", "belt"):
        there = [k for k, one in enumerate(rois) if one == roi and k != 4]
        alone = rsa.bootstrap_rois(models, data[there], n=40, rng=np.random.default_rng(7))
        for whole, one in ((found.models, alone.models), (found.best_layers, alone.best_layers)):
            np.testing.assert_allclose(whole.loc[whole["roi"] == roi, "p"], one["p"], atol=1e-10)
    with pytest.warns(BrainmapWarning, match="'3' of 'A1'"):
        single = rsa.bootstrap(models, data.subset("roi", "A1"), n=40, rng=rng)
    assert single.n_participants == 3


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ([0, 2, 4, 6], "no participant has an RDM of 'A1'"),
        ([0, 2, 4], "expected at least 2 participants with an RDM of 'A1', got 1"),
    ],
)
def test_regions_of_too_few_participants_are_refused_by_name(absent: list[int], message: str) -> None:
    vectors = np.random.default_rng(8).random((8, 36))
    vectors[absent] = np.nan
    data = described(vectors, roi=["A1", "belt"] * 4, participant=np.repeat(list("1234"), 2).tolist())
    models = layers(np.random.default_rng(9).random((3, 36)), (2, 1))
    for given, named in ((data, True), (data.subset("roi", "A1"), len(absent) < 4)):
        said = pytest.warns(BrainmapWarning, match="left out: .* of 'A1'") if named else nullcontext()
        with pytest.raises(InputError, match=message), said:
            rsa.bootstrap_rois(models, given, n=20, rng=np.random.default_rng(0))


def distances(points: Any) -> Any:
    i, j = np.triu_indices(points.shape[-2], 1)
    return ((points[..., i, :] - points[..., j, :]) ** 2).mean(axis=-1)


def studies(n_sounds: int, shares: tuple[list[float], ...], simulations: int, *, alike: float = 0.8) -> Any:
    """Share of studies in which two networks differ by their best layers, and in which their first layers differ.

    Each layer has a share of the geometry that 12 participants have in common; neighboring layers are alike.
    """
    rng, found = np.random.default_rng(n_sounds), np.zeros(2)
    for _ in range(simulations):
        truth, points = rng.normal(size=(n_sounds, 20)), []
        for network in shares:
            own = rng.normal(size=truth.shape)
            for share in network:
                points.append(share * truth + np.sqrt(1 - share**2) * own)
                own = np.sqrt(alike) * own + np.sqrt(1 - alike) * rng.normal(size=truth.shape)
        models = layers(distances(np.array(points)), tuple(len(network) for network in shares))
        data = described(distances(truth + 0.7 * rng.normal(size=(12, n_sounds, 20))))
        boot = rsa.bootstrap_rois(models, data, n=100, correction="none", rng=rng)
        pairs = boot.pairs.set_index(["model", "other"])["p"]
        found += boot.best_layers["p"][0] <= 0.05, pairs["a conv0", "b conv0"] <= 0.05
    return found / simulations


def limit(simulations: int) -> float:
    return 0.06 + 2 * float(np.sqrt(0.06 * 0.94 / simulations))


@pytest.mark.slow
@pytest.mark.parametrize(("n_sounds", "simulations"), [(16, 200), (48, 100)])
@pytest.mark.parametrize(("sizes", "alike"), [((9, 9), 0.8), ((9, 1), 0.5)])
def test_exchangeable_networks_do_not_differ_by_their_best_layers(
    n_sounds: int, simulations: int, sizes: tuple[int, int], alike: float
) -> None:
    """Null: a reliable region that no network explains. Nine unlike layers against one is where a maximum flatters."""
    found = studies(n_sounds, tuple([0.0] * size for size in sizes), simulations, alike=alike)
    assert found[0] <= limit(simulations), found


@pytest.mark.slow
@pytest.mark.parametrize(("other", "n_sounds", "wanted"), [(0.0, 16, 0.8), (0.6, 48, 0.8)])
def test_a_true_difference_is_found(other: float, n_sounds: int, wanted: float) -> None:
    """A score of about .5 against 0 at 16 sounds, and against about .2 at 48; of layers, and of networks."""
    found = studies(n_sounds, ([0.87, 0.6, 0.3], [other, other / 2, 0.0]), 100)
    assert (found >= wanted).all(), found


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(9, 9), (9, 1)])
def test_best_layers_keep_the_level_over_participants(sizes: tuple[int, int]) -> None:
    """Null: noise of each participant. Planted: a layer of 2.5 standard deviations above all of the other network."""
    rng, n, split = np.random.default_rng(0), 400, sizes[0]
    scores = rng.normal(size=(sum(sizes), n, 12))
    networks = {"one": list(range(split)), "other": list(range(split, sum(sizes)))}
    p = rsa.best_layer_differences(scores, networks, correction="none", test="t")["p"]
    assert (p <= 0.05).mean() <= limit(n)
    planted = scores.copy()
    planted[0] += 2.0
    planted[split:] -= 0.5
    found = rsa.best_layer_differences(planted, networks, correction="none", test="t")["p"]
    assert (found <= 0.05).mean() > 0.8
