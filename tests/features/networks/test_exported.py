"""Programs of torch.export: their modules are layers again, with the maps of the network that was exported."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.activations.store import hash_weights
from brainmap.features.layers.listing import list_layers
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.controls import control_network

SOUNDS = np.random.default_rng(0).standard_normal((3, 1, 400), np.float32)


class Mixed(nn.Module):
    """Everything that programs change: weight norm, a module that is called twice, a function, a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 4, 9, stride=2), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(4))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3, padding="same"))
        self.relu = nn.ReLU()
        self.shared = nn.Linear(6, 6)
        self.lstm = nn.GRU(6, 5, batch_first=True)
        self.head = nn.Linear(5, 3)
        self.register_buffer("window", torch.hann_window(6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.relu(self.normed(self.body(x))) * self.window[:, None]
        steps, _ = self.lstm(self.relu(self.shared(self.shared(y.transpose(1, 2)))))
        return {"logits": self.head(steps.mean(1)).softmax(1), "steps": steps}


def plain_network() -> nn.Module:
    head = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3), nn.Softmax(1)
    return nn.Sequential(nn.Conv1d(1, 4, 9, stride=2), nn.ReLU(), nn.AvgPool1d(4), nn.Conv1d(4, 6, 5), nn.ReLU(), *head)


def export(model: nn.Module, path: Path, *, any_length: bool = False) -> nn.Module:
    """Write a network as a program that takes any number of sounds, and load it."""
    changing = {0: torch.export.Dim("n")} | ({2: torch.export.Dim("t", min=100, max=4000)} if any_length else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own recurrent layers
        program = torch.export.export(model, (torch.as_tensor(SOUNDS),), dynamic_shapes=(changing,))
        torch.export.save(program, path)
    return load_network(path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = Mixed()
    model(torch.randn(8, 1, 400))  # statistics of the normalization
    model.eval()
    return model, export(model, tmp_path_factory.mktemp("mixed") / "mixed.pt2")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    model = plain_network().eval()
    return model, export(model, tmp_path_factory.mktemp("plain") / "plain.pt2", any_length=True)


@pytest.mark.parametrize("name", ["mixed", "plain"])
def test_layers_are_those_of_the_network_that_was_exported(name: str, request: pytest.FixtureRequest) -> None:
    listed = [
        [(one.name, one.shape, one.receptive_field, one.stride, one.positions, one.without) for one in layers]
        for layers in (list_layers(model, SOUNDS) for model in request.getfixturevalue(name))
    ]
    assert listed[0] == listed[1]
    kinds = [one.kind for one in list_layers(request.getfixturevalue(name)[1], SOUNDS)]
    known = {
        "mixed": ["Conv1d", "Conv1d", "Linear", "Linear", "GRU", "Linear"],
        "plain": ["Conv1d", "Conv1d", "Linear"],
    }
    assert kinds[: len(known[name])] == known[name]


def test_activations_are_those_of_the_network_whatever_the_threads(mixed) -> None:
    layers = ["body.0", "normed", "shared", "shared#2", "lstm", "output.steps", "output"]
    own, exported, side_by_side = (
        features.extract_activations(model, SOUNDS, layers=layers, pooling="none", threads=threads, batch_size=size)
        for model, threads, size in ((mixed[0], 1, 3), (mixed[1], 1, 3), (mixed[1], 2, 1))
    )
    for layer in layers:
        np.testing.assert_allclose(exported[layer], own[layer], atol=1e-6)
        np.testing.assert_allclose(side_by_side[layer], own[layer], atol=1e-6)


@pytest.mark.parametrize("method", ["cam", "grad-cam", "layer-cam", "score-cam"])
def test_class_activation_maps_are_those_of_the_network(plain, method: str) -> None:
    own, exported = (features.class_activation_maps(model, SOUNDS, method=method) for model in plain)
    assert own.layer == exported.layer == "3"
    np.testing.assert_allclose(exported.maps, own.maps, atol=1e-6)
    assert np.ptp(own.maps) > 1e-3


@pytest.mark.parametrize(
    "method", ["saliency", "guided-backpropagation", "integrated-gradients", "lrp", "input-x-gradient"]
)
def test_attributions_are_those_of_the_network(plain, method: str) -> None:
    own, exported = (features.attribute(model, SOUNDS, method=method, classes="all") for model in plain)
    np.testing.assert_allclose(exported.maps, own.maps, atol=1e-6)
    assert np.ptp(own.maps) > 1e-4


def test_maximizing_patterns_are_those_of_the_network(plain) -> None:
    settings = features.MaximizationSettings(steps=8)
    own, exported = (
        features.maximize_activation(
            model, layer="3", units=[1, 4], settings=settings, sounds=SOUNDS, rng=np.random.default_rng(0)
        )
        for model in plain
    )
    np.testing.assert_allclose(exported.patterns, own.patterns, atol=1e-4)


def test_controls_measure_the_normalization_again_and_draw_weights(mixed, plain) -> None:
    shuffled = control_network(mixed[1], "permuted", rng=np.random.default_rng(0), sounds=SOUNDS)
    own = control_network(mixed[0], "permuted", rng=np.random.default_rng(0), sounds=SOUNDS)
    for model, source in ((shuffled, mixed[1]), (own, mixed[0])):
        assert not torch.equal(model.get_buffer("body.1.running_mean"), source.get_buffer("body.1.running_mean"))
    drawn = control_network(plain[1], rng=np.random.default_rng(0))
    assert not torch.equal(drawn.get_parameter("0.weight"), plain[1].get_parameter("0.weight"))
    with pytest.raises(InputError, match=r"lstm.* cannot draw new weights; use 'permuted'"):
        control_network(mixed[1], rng=np.random.default_rng(0), sounds=SOUNDS)


@pytest.mark.slow
def test_a_copy_shares_nothing(mixed) -> None:
    copied = copy.deepcopy(mixed[1])
    with torch.no_grad():
        before = copied(torch.as_tensor(SOUNDS))["logits"]
        for weight in copied.parameters():
            weight.zero_()
        assert torch.equal(mixed[1](torch.as_tensor(SOUNDS))["logits"], before)
        assert not torch.equal(copied(torch.as_tensor(SOUNDS))["logits"], before)


def test_programs_of_other_operations_have_another_hash(tmp_path: Path) -> None:
    found = []
    for k, act in enumerate((nn.ReLU(), nn.ELU(), nn.ReLU())):
        torch.manual_seed(0)
        found.append(hash_weights(export(nn.Sequential(nn.Conv1d(1, 2, 3), act).eval(), tmp_path / f"{k}.pt2")))
    assert found[0] == found[2] != found[1]


def test_sizes_for_which_it_was_not_exported_are_refused(plain, mixed) -> None:
    assert plain[1](torch.zeros(2, 1, 150)).shape == (2, 3)
    with pytest.raises(InputError, match=r"refuses sounds of shape \(2, 1, 5000\).*for \(any, 1, 100 to 4000\)"):
        plain[1](torch.zeros(2, 1, 5000))
    with pytest.raises(InputError, match=r"for \(any, 1, 400\).*with a dynamic first dimension"):
        mixed[1](torch.zeros(2, 1, 500))


def test_programs_with_several_inputs_are_refused(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    program = torch.export.export(Two(), (torch.zeros(2, 3), torch.zeros(2, 3)))
    torch.export.save(program, tmp_path / "two.pt2")
    with pytest.raises(InputError, match="one input, the sounds, got 2"):
        load_network(tmp_path / "two.pt2")
