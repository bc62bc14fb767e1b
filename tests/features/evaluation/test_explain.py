"""Logits by the shortcuts of an ascent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap.features.evaluation.explain import compute_all_logits, compute_logits_by_shortcuts
from brainmap.features.networks.zoo import build_network


class Chosen(nn.Module):
    """Its probabilities are reordered, so that no ascent can take its softmax off."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, sounds: Tensor) -> Tensor:
        shares: Tensor = self.linear(sounds[:, 0]).softmax(1)
        return shares.flip(1)


class Growing(nn.Module):
    """It runs another operation as soon as a sound is loud."""

    def forward(self, sounds: Tensor) -> Tensor:
        doubled = sounds * 2 if float(sounds.abs().max()) > 1 else sounds.abs().sqrt().cumsum(-1)
        return doubled[:, 0, :3]


@pytest.mark.parametrize("variant", ["bn", "do"])
def test_shortcuts_give_the_logits_of_the_plain_network(variant: str) -> None:
    torch.manual_seed(0)
    net = build_network("ch32", variant=variant).eval()
    with torch.no_grad():
        for name, buffer in net.named_buffers():  # normalizations that change what they get
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    sounds = np.random.default_rng(0).standard_normal((5, 1, 16_000)).astype(np.float32)
    plain = compute_all_logits(nn.Sequential(net, nn.Softmax(1)), sounds)
    quick = compute_logits_by_shortcuts(nn.Sequential(net, nn.Softmax(1)), sounds, batch_size=2)
    assert quick.shape == (5, 16)
    np.testing.assert_allclose(quick, plain, atol=1e-5 * np.abs(plain).max())
    assert quick.std(axis=0).max() > 1e3 * np.abs(quick - plain).max()  # sounds differ more than both ways


@pytest.mark.parametrize("net", [Chosen(), Growing()])
def test_networks_that_cannot_be_followed_are_run_as_they_are(net: nn.Module) -> None:
    sounds = np.random.default_rng(0).standard_normal((4, 1, 8)).astype(np.float32) * 0.1
    sounds[2:] += 5
    np.testing.assert_array_equal(
        compute_logits_by_shortcuts(net, sounds, batch_size=2), compute_all_logits(net, sounds, batch_size=2)
    )
