"""Positions of best layers: effects of region and of hemisphere are found where they are, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from brainmap import rsa
from brainmap.errors import InputError

Array = NDArray[Any]
REGIONS = ("left-A1", "left-STG", "right-A1", "right-STG")


def test_an_effect_of_region_is_none_of_hemisphere():
    rng = np.random.default_rng(0)
    positions = np.array([0.3, 0.6, 0.3, 0.6])[:, None] + 0.1 * rng.normal(size=(4, 12))
    table = rsa.position_test(positions, REGIONS, rng=rng)
    assert len(table) == 6
    assert table["p_regions"].iloc[0] < 0.01
    assert table["p_hemispheres"].iloc[0] > 0.05
    row = table.set_index(["roi", "other_roi"]).loc[("left-A1", "left-STG")]
    assert row["difference"] == pytest.approx(np.mean(positions[0] - positions[1]))
    assert row["p_corrected"] < 0.05
    turned = rsa.position_test(positions[[0, 2, 1, 3]], REGIONS, rng=np.random.default_rng(1))
    assert turned["p_hemispheres"].iloc[0] < 0.01
    assert turned["p_regions"].iloc[0] > 0.05


@pytest.mark.slow
def test_effects_keep_their_level_with_gaps():
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        positions = rng.normal(size=(4, 8)) + rng.normal(size=8)  # participants differ, regions do not
        positions[2, 3] = np.nan
        table = rsa.position_test(positions, REGIONS, permutations=99, rng=rng)
        p += [table["p_regions"].iloc[0], table["p_hemispheres"].iloc[0]]
        assert table["n"].tolist() == [8, 7, 8, 7, 8, 7]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(p))


def draw_halves(rng: np.random.Generator, shift: float, *, splits: int = 20, n: int = 60, people: int = 8) -> Array:
    """Positions that halves of the sounds choose, where each sound pulls both regions, in all participants alike."""
    pull = 0.4 * rng.normal(size=(2, 1, n)) + 0.3 * rng.normal(size=(2, people, n))
    pull[1] += shift
    halves = [rng.permutation(n)[: n // 2] for _ in range(splits)]
    return 0.5 + np.stack([pull[..., half].mean(axis=2) for half in halves], axis=2)


@pytest.mark.slow
def test_positions_are_compared_over_sounds_by_halves_of_them() -> None:
    found = {"p": [], "p_sounds": []}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        table = rsa.position_test(draw_halves(rng, 0.0), ["A1", "STG"], test="t", permutations=9, rng=rng)
        for key, values in found.items():
            values.append(table[key].iloc[0])
    reject = {key: np.mean(np.array(values) <= 0.05) for key, values in found.items()}
    assert reject["p"] > 0.2  # the sounds that all participants heard pull at all of them
    assert reject["p_sounds"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    rng = np.random.default_rng(1)
    halves = draw_halves(rng, 0.5)
    row = rsa.position_test(halves, ["A1", "STG"], test="t", rng=rng).iloc[0]
    assert row["p_sounds"] < 0.01
    difference = halves[0] - halves[1]
    variance = difference.mean(axis=1).var(ddof=1) / 8 + difference.mean(axis=0).var(ddof=1)
    assert row["p_sounds"] == pytest.approx(2 * stats.t.sf(abs(difference.mean()) / np.sqrt(variance), 7))
    assert row["p_sounds_corrected"] == row["p_sounds"]
    assert np.isnan(rsa.position_test(halves.mean(axis=2), ["A1", "STG"], rng=rng)["p_sounds"].iloc[0])
    assert np.isnan(rsa.position_test(halves[..., :1], ["A1", "STG"], rng=rng)["p_sounds"].iloc[0])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="expected positions"):
        rsa.position_test(np.zeros((1, 5)), ["A1"])
    with pytest.raises(InputError, match="2 names"):
        rsa.position_test(np.zeros((3, 5)), ["A1", "STG"])


def test_dimensionality_is_that_of_the_eigenvalues():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 9)) * np.arange(1, 10)
    names = {"stimulus_id": [str(k) for k in range(40)]}
    for units, z in (("zscore", (x - x.mean(0)) / x.std(0)), ("none", x - x.mean(0))):
        values = np.linalg.eigvalsh(np.cov(z.T))
        found = rsa.effective_dimensionality({"a": x}, units=units, descriptors=names)["dimensionality"][0]
        assert found == pytest.approx(values.sum() ** 2 / (values**2).sum())
    constant = rsa.effective_dimensionality({"a": np.ones((40, 3))}, descriptors=names)
    assert np.isnan(constant["dimensionality"][0])
    with pytest.raises(InputError, match="did you mean 'conv1'"):
        rsa.effective_dimensionality({"conv1": x}, layers=["cnv1"], descriptors=names)
