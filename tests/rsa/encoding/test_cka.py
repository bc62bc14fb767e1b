"""Debiased linear CKA: the average over quadruples of items, 0 for unrelated data, invariant to rotation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.encoding.cka import compute_cka, estimate_hsic


def test_hsic_is_the_mean_over_all_quadruples_of_different_items():
    rng = np.random.default_rng(0)
    k, m = (x @ x.T for x in rng.normal(size=(2, 7, 3)))
    every = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(7), 4)]
    assert estimate_hsic(k, m) == pytest.approx(np.mean(every), rel=1e-12)


def test_unrelated_data_have_0_on_average_where_the_usual_estimate_has_not():
    rng = np.random.default_rng(1)
    found, usual = [], []
    for _ in range(200):
        x, y = rng.normal(size=(24, 200)), rng.normal(size=(24, 150))
        k, m = x @ x.T, y @ y.T
        found.append(compute_cka(k, m))
        h = np.eye(24) - 1 / 24
        a, b = h @ k @ h, h @ m @ h
        usual.append((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    assert abs(np.mean(found)) <= 2 * np.std(found) / np.sqrt(200) + 0.005
    assert np.mean(usual) > 0.8


def test_rotation_scale_and_offset_of_units_change_nothing():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 6))
    y = x @ rng.normal(size=(6, 9)) + rng.normal(size=(30, 9))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    other = 5 * x @ rotation + 7
    assert compute_cka(other @ other.T, y @ y.T) == pytest.approx(compute_cka(x @ x.T, y @ y.T), abs=1e-10)


def test_planted_layers_are_closest_to_their_regions_in_whatever_order_items_come(world):
    rng = np.random.default_rng(3)
    acts = world.features(rng, n_items=96, n_units=20)
    signal = np.concatenate([world.plant(rng, acts[name], 30) for name in acts.layers], axis=1)
    data = world.responses(rng, signal, acts.items, roi=np.repeat(acts.layers, 30))
    table = rsa.linear_cka(acts, data)
    wide = table.set_index(["layer", "roi"])["cka"].unstack()
    assert (wide.idxmax() == wide.columns).all()
    assert wide.where(~np.eye(3, dtype=bool)).abs().max().max() < 0.05
    again = rsa.linear_cka(acts.take(rng.permutation(96)), data)
    np.testing.assert_allclose(again["cka"], table["cka"], atol=1e-10)
    assert set(table["voxels"]) == {30}


def test_fewer_than_four_items_are_refused():
    with pytest.raises(InputError, match="expected at least 4 items, got 3"):
        compute_cka(np.eye(3), np.eye(3))
