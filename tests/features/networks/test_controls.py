import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.networks.controls import control_network
from brainmap.features.networks.zoo import build_network
from brainmap.types import Control

Array = NDArray[np.float32]


@pytest.fixture
def trained() -> nn.Module:
    """A network whose statistics belong to loud sounds, as those of a trained one belong to its training set."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_network("ch32", variant="bn", n_samples=2187)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if "norm" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        net.train()
        net(torch.randn(8, 1, 2187) * 3)
        return net.eval()


@pytest.fixture
def sounds() -> Array:
    return np.random.default_rng(0).standard_normal((9, 1, 2187), np.float32) * np.float32(0.1)


@pytest.mark.parametrize("kind", ["untrained", "permuted"])
def test_every_tensor_changes_and_the_original_does_not(trained: nn.Module, sounds: Array, kind: Control) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    control = control_network(trained, kind, rng=np.random.default_rng(0), sounds=sounds)
    for name, parameter in control.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        if kind == "permuted":
            torch.testing.assert_close(parameter.flatten().sort().values, before[name].flatten().sort().values)
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())


def test_no_channel_is_dead_after_recalibration(trained: nn.Module, sounds: Array) -> None:
    control = control_network(trained, rng=np.random.default_rng(0), sounds=sounds, batch_size=4)
    peaks = np.asarray(features.extract_activations(control, sounds, pooling="max", layers="conv*")["conv8"])
    assert (peaks.max(0) > 0).all()
    before = np.asarray(
        features.extract_activations(control, sounds, pooling="none", stage="before", layers=["conv1"])["conv1"]
    )
    weight, bias = (control.get_parameter(f"norm1.{p}").detach().numpy() for p in ("weight", "bias"))
    np.testing.assert_allclose(before.mean((0, 2)), bias, atol=1e-3)
    np.testing.assert_allclose(before.std((0, 2)), np.abs(weight), rtol=0.02)


def test_the_same_seed_gives_the_same_control_and_torchs_own_state_is_untouched(
    trained: nn.Module, sounds: Array
) -> None:
    state = torch.random.get_rng_state()
    one, two, other = (
        control_network(trained, rng=np.random.default_rng(seed), sounds=sounds).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_batch_normalization_without_sounds_and_homemade_parameters_are_refused(trained: nn.Module) -> None:
    with pytest.raises(InputError, match="give sounds"):
        control_network(trained, rng=np.random.default_rng(0))

    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain[:, None]

    with pytest.raises(InputError, match="'1' cannot draw new weights; use 'permuted'"):
        control_network(nn.Sequential(nn.Conv1d(1, 2, 3), Gain()), rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["untrained", "permuted"])
def test_two_dimensional_networks_are_controlled_too_and_every_statistic_is_that_of_the_sounds(kind: Control) -> None:
    net = build_network("base-2d", variant="bn", head="gap", n_classes=3, n_samples=4_000).eval()
    pictures = np.random.default_rng(0).standard_normal((6, 1, 64, 32), np.float32)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    control = control_network(net, kind, rng=np.random.default_rng(0), sounds=pictures, batch_size=6)
    for name, parameter in control.named_parameters():
        assert not torch.equal(parameter, net.get_parameter(name)), name
    x = torch.as_tensor(pictures)
    with torch.no_grad():
        for module in control.children():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                torch.testing.assert_close(module.running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(module.running_var, x.var((0, 2, 3)), rtol=1e-3, atol=1e-6)
                x = nn.functional.batch_norm(x, None, None, module.weight, module.bias, training=True)
            else:
                x = module(x)
