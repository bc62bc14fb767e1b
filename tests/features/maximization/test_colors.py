"""Patterns of networks on pictures have the colors of the pictures (decorrelated color of Olah et al. 2017)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.features.maximization import plan as planning
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.maximization.priors import compute_color_mixing

SIZE = 12


BLOB = np.array([1.5, 0.9, 0.3])  # orange


def make_pictures(n: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Make grayish noise: class 0 with an orange blob at a random place, class 1 without."""
    gray = rng.standard_normal((n, 1, SIZE, SIZE)) + 0.3 * rng.standard_normal((n, 3, SIZE, SIZE))
    labels = rng.integers(0, 2, n)
    row, column = rng.uniform(3, 9, (2, n))
    y, x = np.mgrid[:SIZE, :SIZE]
    blob = np.exp(-((y - row[:, None, None]) ** 2 + (x - column[:, None, None]) ** 2) / 6)
    shown = (labels == 0)[:, None, None, None] * BLOB[:, None, None] * blob[:, None]
    return (gray + 1.5 * shown).astype(np.float32), labels


def train(seed: int, pictures: NDArray[np.float32], labels: NDArray[np.int64]) -> nn.Module:
    torch.manual_seed(seed)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2)
    net = nn.Sequential(nn.Conv2d(3, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), *head)
    steps = torch.optim.Adam(net.parameters(), 0.01)
    x, y = torch.as_tensor(pictures), torch.as_tensor(labels)
    for _ in range(60):
        steps.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        steps.step()
    return net.eval()


def find_color(pictures: NDArray[np.floating]) -> NDArray[np.float64]:
    """Find the color (3,) along which pictures (n, 3, h, w) vary most, of length 1."""
    covariance = np.mean([np.cov(one.reshape(3, -1)) for one in pictures], axis=0)
    color = np.linalg.eigh(covariance)[1][:, -1]
    return np.asarray(color * np.sign(color.sum() or 1.0))


def test_mixing_gives_noise_the_covariance_of_the_pictures() -> None:
    pictures, _ = make_pictures(200, np.random.default_rng(0))
    mixing = compute_color_mixing(pictures)
    noise = np.einsum("dc,ncx->ndx", mixing, np.random.default_rng(1).standard_normal((50, 3, 4000)))
    wanted = np.cov(np.moveaxis(pictures, 1, 0).reshape(3, -1))
    made = np.cov(np.moveaxis(noise, 1, 0).reshape(3, -1))
    np.testing.assert_allclose(made * np.trace(wanted) / np.trace(made), wanted, atol=0.02)
    assert np.trace(made) == pytest.approx(3, rel=0.02)
    np.testing.assert_array_equal(compute_color_mixing(np.ones((2, 3, 4, 4))), np.eye(3))


@pytest.mark.slow
def test_patterns_have_the_colors_of_the_pictures_and_another_network_knows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures, labels = make_pictures(300, np.random.default_rng(0))
    net, judge = train(0, pictures, labels), train(1, *make_pictures(300, np.random.default_rng(5)))
    settings = MaximizationSettings(steps=40, seeds=2, level=None)  # at a fixed level both end at one optimum
    found = maximize_activation(net, settings=settings, sounds=pictures)
    monkeypatch.setattr(planning, "compute_color_mixing", lambda _: None)
    free = maximize_activation(net, settings=replace(settings), sounds=pictures)
    own, plain = (find_color(one.by_seed[:, 0]) for one in (found, free))
    blob = BLOB / np.linalg.norm(BLOB)
    assert own @ blob > 0.98
    assert plain @ blob < 0.85  # colors that no picture has
    with torch.no_grad():
        called = judge(torch.as_tensor(found.by_seed.reshape(-1, 3, SIZE, SIZE))).argmax(1)
    assert called.tolist() == [0, 1] * 2
