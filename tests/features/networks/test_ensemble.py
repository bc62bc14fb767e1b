"""An ensemble answers with the mean of its members, matched by class, and is climbed as one network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainmap.errors import InputError
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.networks.readout import Ensemble


def net(seed: int, n: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(1, 4, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, n)).eval()


def test_classes_are_matched_by_name() -> None:
    both = Ensemble([net(0), net(1)], [("a", "b", "c"), ("c", "a", "b")])
    x = torch.randn(2, 1, 50)
    with torch.no_grad():
        np.testing.assert_allclose(both(x), (net(0)(x) + net(1)(x)[:, [1, 2, 0]]) / 2, atol=1e-6)
    with pytest.raises(InputError, match="'d'"):
        Ensemble([net(0), net(1)], [("a", "b", "c"), ("a", "b", "d")])
    with pytest.raises(InputError, match="at least 2 networks"):
        Ensemble([net(0)])
    with pytest.raises(InputError, match="outputs of one shape"):
        Ensemble([net(0), net(1, 2)])(x)


def test_ascent_raises_the_mean_logit() -> None:
    rng = np.random.default_rng(0)
    sounds = (0.1 * rng.standard_normal((5, 1, 400))).astype(np.float32)
    settings = MaximizationSettings(steps=30, jitter_ms=0.0)
    both = Ensemble([net(0), net(1)])
    am = maximize_activation(both, settings=settings, sounds=sounds)
    alone = maximize_activation(net(0), settings=settings, sounds=sounds)
    with torch.no_grad():
        mine, others = (both(torch.as_tensor(one.patterns)).diagonal() for one in (am, alone))
    assert (mine >= others).all()
    np.testing.assert_allclose(am.quality["objective"], mine, rtol=0.02)
