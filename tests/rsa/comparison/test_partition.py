"""Variance partitioning: closed forms, regressions by hand, and a null that stays a null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rsatoolbox.rdm.rdms import RDMs
from scipy.optimize import nnls
from scipy.stats import rankdata

from brainmap.errors import InputError
from brainmap.rsa.comparison.partition import Partition, partition_variance
from brainmap.rsa.inference.partition import partition_statistics

N = 12
PAIRS = N * (N - 1) // 2


def rdms(vectors: Any, *, order: np.ndarray | None = None, **described: list[str]) -> RDMs:
    """RDMs over items i00 ... in this order, or in another."""
    vectors = np.atleast_2d(vectors)
    names = np.array([f"i{k:02d}" for k in range(N)])
    if order is not None:
        i, j = np.triu_indices(N, 1)
        square = np.zeros((len(vectors), N, N))
        square[:, i, j] = square[:, j, i] = vectors
        vectors, names = square[:, order][:, :, order][:, i, j], names[order]
    return RDMs(
        vectors,
        descriptors={"level": "stimulus"},
        rdm_descriptors=described,
        pattern_descriptors={"stimulus_id": names},
    )


def orthogonal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Centered vectors of unit length at right angles."""
    x = rng.normal(size=(PAIRS, n))
    return np.linalg.qr(x - x.mean(axis=0))[0].T


def explained(x: np.ndarray, y: np.ndarray) -> float:
    x = np.column_stack([x.T, np.ones(len(y))])
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - float(rest @ rest) / float(((y - y.mean()) ** 2).sum())


def shares(found: Partition) -> dict[str, float]:
    return dict(zip(found.names, found.shares[:, 0].tolist(), strict=True))


def test_orthogonal_sets_share_nothing_and_explain_their_own_parts() -> None:
    a, b, c, rest = orthogonal(np.random.default_rng(0), 4)
    data = 0.8 * a + 0.4 * b + 0.2 * c + 0.4 * rest
    found = partition_variance({"a": rdms(a), "b": rdms(b), "c": rdms(c)}, rdms(data), validation="none")
    got = shares(found)
    assert [got[f"{name} only"] for name in "abc"] == pytest.approx([0.64, 0.16, 0.04])
    assert [got[name] for name in ("a + b", "a + c", "b + c", "a + b + c")] == pytest.approx([0.0] * 4, abs=1e-12)


def test_two_sets_follow_the_textbook_formula() -> None:
    x, y, data = np.random.default_rng(1).normal(size=(3, PAIRS))
    data = data + x + y
    r2 = {"x": explained(x[None], data), "y": explained(y[None], data), "xy": explained(np.stack([x, y]), data)}
    got = shares(partition_variance({"x": rdms(x), "y": rdms(y)}, rdms(data), validation="none"))
    assert got["x only"] == pytest.approx(r2["xy"] - r2["y"])
    assert got["y only"] == pytest.approx(r2["xy"] - r2["x"])
    assert got["x + y"] == pytest.approx(r2["x"] + r2["y"] - r2["xy"])


def test_a_suppressor_gives_a_negative_commonality() -> None:
    signal, nuisance = orthogonal(np.random.default_rng(2), 2)
    sets = {"signal with nuisance": rdms(signal + nuisance), "nuisance": rdms(nuisance)}
    got = shares(partition_variance(sets, rdms(signal), validation="none"))
    # alone 1/2 and 0, together 1
    assert got["signal with nuisance only"] == pytest.approx(1.0)
    assert got["nuisance only"] == pytest.approx(0.5)
    assert got["signal with nuisance + nuisance"] == pytest.approx(-0.5)


def test_what_a_set_explains_alone_is_flagged_under_suppression_and_not_without() -> None:
    """Of a = [a, u] and b = [b, u], b alone has nothing to do with a brain that has a only."""
    rng, people = np.random.default_rng(12), [f"{k:02d}" for k in range(12)] * 2
    a, b, u = orthogonal(rng, 3)
    brain = 0.7 * a + 0.3 * rng.normal(size=(24, PAIRS)) * np.sqrt(np.mean(a**2)) * 3
    brain[12:] += 0.7 * b - 0.5 * a
    sets = {"a": rdms(a + u), "b": rdms(0.3 * b + u)}
    of_a = rdms(brain, participant=people, roi=["of a"] * 12 + ["of both"] * 12)
    found = partition_variance(sets, of_a)
    assert {key: by for key, by in found.suppression().items() if key[0] == "of a"} == {
        ("of a", "a only"): "a + b",
        ("of a", "b only"): "a + b",
    }
    table = partition_statistics(found)
    assert table["sets"].tolist() == ["a only", "a only", "b only", "b only"]
    b_only = table[(table["sets"] == "b only") & (table["roi"] == "of a")].iloc[0]
    assert b_only["p_corrected"] < 0.05  # significant, for a set that alone explains nothing
    assert b_only["suppressed_by"] == "a + b"
    alone = found.r2[1, :12]
    assert alone.mean() < 0.02
    independent = partition_variance({"a": rdms(a), "b": rdms(b)}, of_a)
    assert independent.suppression() == {}
    assert set(independent.table()["suppressed_by"]) == {"none"}


def test_common_shares_are_tested_on_request_and_say_that_models_are_alike() -> None:
    rng = np.random.default_rng(13)
    a, other, _ = orthogonal(rng, 3)
    like_a = 0.6 * a + 0.8 * other  # unrelated to the brain but for being like a
    brain = a + rng.normal(size=(10, PAIRS)) * np.sqrt(np.mean(a**2))
    found = partition_variance({"a": rdms(a), "like a": rdms(like_a)}, rdms(brain, participant=list("abcdefghij")))
    every = partition_statistics(found, shares="all").set_index("sets")
    assert every.loc["a + like a", "p_corrected"] < 0.05
    assert every.loc["a + like a", "mean"] == pytest.approx(0.36 * found.r2[0].mean(), abs=0.05)
    assert every.loc["like a only", "p_corrected"] > 0.05
    assert "a common share is above 0 for a set unrelated to the data" in every.attrs["note"]
    assert "a + like a" not in set(partition_statistics(found)["sets"])
    with pytest.raises(InputError, match="shares"):
        partition_statistics(found, shares="common")  # type: ignore[arg-type]


@pytest.mark.parametrize("fit", ["ols", "nnls"])
@pytest.mark.parametrize("validation", ["none", "participants"])
@pytest.mark.parametrize("n_sets", [1, 2, 3, 4])
def test_shares_sum_to_what_all_sets_explain(n_sets: int, validation: Any, fit: Any) -> None:
    rng = np.random.default_rng(3)
    sets = {f"s{k}": rdms(rng.gamma(2.0, size=(2, PAIRS))) for k in range(n_sets)}
    people = rdms(rng.gamma(2.0, size=(3, PAIRS)), participant=["1", "2", "3"])
    found = partition_variance(sets, people, fit=fit, validation=validation)
    assert len(found.subsets) == 2**n_sets - 1
    np.testing.assert_allclose(found.shares.sum(axis=0), found.r2[-1], atol=1e-12)


def test_neither_the_order_of_sets_nor_of_items_matters() -> None:
    rng = np.random.default_rng(4)
    vectors, data = rng.gamma(2.0, size=(3, PAIRS)), rng.gamma(2.0, size=(4, PAIRS))
    who = {"participant": list("1234")}
    one = partition_variance(dict(zip("abc", map(rdms, vectors), strict=True)), rdms(data, **who))
    order = rng.permutation(N)
    other = {name: rdms(v, order=order) for name, v in zip("cab", vectors[[2, 0, 1]], strict=True)}
    two = partition_variance(other, rdms(data, order=rng.permutation(N), **who))
    expected = {frozenset(s): row for s, row in zip(one.subsets, one.shares, strict=True)}
    for members, row in zip(two.subsets, two.shares, strict=True):
        np.testing.assert_allclose(row, expected[frozenset(members)], atol=1e-12)


def test_validated_variance_is_that_of_weights_from_the_mean_of_the_others() -> None:
    rng = np.random.default_rng(5)
    models, data = rng.gamma(2.0, size=(3, PAIRS)), rng.gamma(2.0, size=(3, PAIRS))
    data[1, 7] = np.nan
    models[2, 30] = np.nan
    found = partition_variance({"two": rdms(models[:2]), "one": rdms(models[2])}, rdms(data, participant=list("abc")))

    def z(x: np.ndarray) -> np.ndarray:
        return np.asarray((x - np.nanmean(x)) / np.nanstd(x))

    for k in range(3):
        others = np.nanmean([z(data[m]) for m in range(3) if m != k], axis=0)
        train, test = ~np.isnan(models[2]), ~np.isnan(models[2]) & ~np.isnan(data[k])
        x = np.stack([z(m[train]) for m in models])
        weights = np.linalg.lstsq(x.T, others[train] - others[train].mean(), rcond=None)[0]
        y = z(data[k, test])
        rest = y - weights @ np.stack([z(m[test]) for m in models])
        assert found.r2[-1, k] == pytest.approx(1 - (rest @ rest) / (y @ y))


def test_ranks_and_weights_that_are_not_negative() -> None:
    rng = np.random.default_rng(6)
    models, data = rng.gamma(2.0, size=(2, PAIRS)), rng.gamma(2.0, size=PAIRS)
    models[1] -= data  # against the data
    one = partition_variance({"a": rdms(models)}, rdms(data), ranks=True, validation="none")
    ranked = np.stack([rankdata(m) for m in models])
    assert one.r2[0, 0] == pytest.approx(explained(ranked, rankdata(data)))
    two = partition_variance({"a": rdms(models)}, rdms(data), fit="nnls", validation="none")
    x, y = ((v - v.mean(-1, keepdims=True)) / v.std(-1, keepdims=True) for v in (models, data))
    assert two.r2[0, 0] == pytest.approx(1 - nnls(x.T, y)[1] ** 2 / (y @ y))
    assert two.r2[0, 0] < explained(models, data) - 0.01


def test_nothing_to_explain_is_not_significant_and_a_planted_share_is() -> None:
    rng = np.random.default_rng(7)
    network, acoustics = rng.normal(size=(2, 2, PAIRS))
    noise = rng.normal(size=(16, PAIRS))
    people = [str(k) for k in range(8)] * 2
    rois = ["planted"] * 8 + ["noise"] * 8
    noise[:8] += 0.6 * network[0]
    found = partition_variance(
        {"network": rdms(network), "acoustics": rdms(acoustics)}, rdms(noise, participant=people, roi=rois)
    )
    table = partition_statistics(found).set_index(["roi", "sets"])
    assert table.loc[("planted", "network only"), "p_corrected"] < 0.05
    assert table.loc[("planted", "network only"), "mean"] == pytest.approx(0.36 / 1.36, abs=0.08)
    assert (table["p_corrected"].drop(("planted", "network only")) > 0.05).all()
    assert table.loc[("noise", "network only"), "n"] == 8
    rows = found.table()
    assert list(rows) == ["roi", "participant", "sets", "share", "r2", "suppressed_by"]
    chosen = rows[(rows["roi"] == "noise") & (rows["participant"] == "3") & (rows["sets"] == "acoustics only")]
    assert chosen["share"].item() == found.shares[1, 11]


def test_shares_of_one_and_the_same_rdm_are_not_tested() -> None:
    rng = np.random.default_rng(8)
    found = partition_variance(
        {"a": rdms(rng.normal(size=PAIRS))}, rdms(rng.normal(size=(3, PAIRS))), validation="none"
    )
    with pytest.raises(InputError, match="exceed 0 by chance alone"):
        partition_statistics(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sets": {}}, "expected 1 to 4 sets, got 0"),
        ({"sets": dict.fromkeys("abcde", None)}, "expected 1 to 4 sets, got 5"),
        ({"sets": {"a": rdms(np.ones(PAIRS))}}, "no variance"),
        (
            {"sets": {"a": rdms(np.random.default_rng(0).normal(size=(PAIRS, PAIRS)))}},
            "expected fewer model RDMs .* got 66 for 66 pairs",
        ),
        ({"data_rdms": rdms(np.arange(PAIRS))}, "expected at least 2"),
        ({"data_rdms": rdms(np.ones((2, PAIRS)), participant=["x", "x"])}, "got several of participant 'x'"),
        ({"fit": "ridge"}, "expected one of 'ols', 'nnls'"),
        ({"validation": "items"}, "expected one of 'participants', 'none'"),
    ],
)
def test_bad_input_is_said(change: dict[str, Any], words: str) -> None:
    rng = np.random.default_rng(9)
    given = {
        "sets": {"a": rdms(rng.normal(size=PAIRS))},
        "data_rdms": rdms(rng.normal(size=(3, PAIRS)), participant=list("123")),
    } | change
    with pytest.raises(InputError, match=words):
        partition_variance(given.pop("sets"), given.pop("data_rdms"), **given)
