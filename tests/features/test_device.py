"""What runs on a GPU, on a stand-in for one that refuses to mix its tensors with those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features
from brainmap.features.layers.running import evaluating
from tests.features.standin import standin_device


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return features.build_network("ch32", variant="bn", n_samples=2400).eval()


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((5, 1, 2400), np.float32)


def test_the_stand_in_computes_and_refuses_to_mix_devices() -> None:
    with standin_device() as device:
        x = torch.arange(6.0, device=device).reshape(2, 3)
        assert x.device.type == device
        assert (x * 2).sum(1).cpu().tolist() == [6.0, 24.0]
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            x + torch.ones(2, 3)
        y = x.clone().requires_grad_()
        (y**2).sum().backward()
        assert y.grad is not None
        assert y.grad.cpu().tolist() == (2 * x).cpu().tolist()


@pytest.mark.parametrize("pooling", ["mean", "none"])
def test_activations_on_a_device_are_those_of_the_cpu(network: nn.Module, sounds: np.ndarray, pooling: str) -> None:
    here = features.extract_activations(network, sounds, pooling=pooling, threads=1)
    with standin_device() as device:
        there = features.extract_activations(network, sounds, pooling=pooling, device=device)
    assert here.layers == there.layers
    for layer in here.layers:
        np.testing.assert_allclose(there[layer][:], here[layer][:], rtol=0, atol=1e-6)
    assert {p.device.type for p in network.parameters()} == {"cpu"}


@pytest.mark.parametrize(("layer", "units", "steps"), [("output", [0, 3], 1), ("conv3", [1, 2], 5)])
def test_patterns_that_are_maximized_on_a_device_are_those_of_the_cpu(
    network: nn.Module, sounds: np.ndarray, layer: str, units: list[int], steps: int
) -> None:
    """Of the output one step, since each further one magnifies the rounding where a maximum changes its place."""
    settings = features.MaximizationSettings(steps=steps)
    here = features.maximize_activation(network, layer=layer, units=units, settings=settings, sounds=sounds, threads=1)
    with standin_device() as device:
        there = features.maximize_activation(
            network, layer=layer, units=units, settings=settings, sounds=sounds, device=device
        )
    np.testing.assert_allclose(there.patterns, here.patterns, rtol=0, atol=1e-5)
    np.testing.assert_allclose(there.trace, here.trace, rtol=0, atol=1e-5)


def test_convolutions_keep_the_precision_of_float32(network: nn.Module) -> None:
    before = torch.backends.cudnn.allow_tf32
    with evaluating(network):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
