"""Units, channels, directions, classes and regions as the outputs that every method explains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.maximization.directions import condition_direction
from brainmap.features.networks.targets import find_targets, read_target
from brainmap.features.sounds.files import sounds_from_array

METHODS = (
    "saliency",
    "input-x-gradient",
    "integrated-gradients",
    "smoothgrad",
    "deconvolution",
    "guided-backpropagation",
    "guided-grad-cam",
    "lrp",
    "occlusion",
    "lime",
)
GIVEN: dict[str, dict[str, float]] = {
    "smoothgrad": {"samples": 8},
    "lime": {"samples": 60, "segments": 6},
    "occlusion": {"window_ms": 5.0},
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2 = nn.Conv1d(1, 4, 9, padding=4, bias=False), nn.Conv1d(4, 6, 9, padding=4, bias=False)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.pool, self.fc = nn.AdaptiveAvgPool1d(5), nn.Linear(30, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        found: torch.Tensor = self.fc(self.pool(x).flatten(1))
        return found


@pytest.fixture(scope="module")
def sounds():
    rng = np.random.default_rng(0)
    waves = 0.1 * rng.standard_normal((6, 1, 400))
    return sounds_from_array(waves, rate=16_000, conditions=["dog", "dog", "cat", "cat", "left-up", "left-up"])


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


def units_of(net: Net, x: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net.relu2(net.conv2(net.relu1(net.conv1(torch.as_tensor(x)))))
    return found


def test_grammar() -> None:
    assert read_target("features.3.conv:7").layer == "features.3.conv"
    assert (read_target("roi:a:b").unit, read_target("conv#2:1:max").pooling) == ("a:b", "max")
    for text in ("conv3", "conv3:", ":3", ""):
        with pytest.raises(InputError, match="expected LAYER:UNIT"):
            read_target(text)


def test_targets_are_the_numbers_they_name(net, sounds) -> None:
    x = sounds.waveforms
    units = units_of(net, x)
    for text, expected in (("conv2:3", units.mean(2)[:, 3]), ("conv2:3:max", units.amax(2)[:, 3])):
        found = find_targets(net, sounds, text)
        with torch.no_grad():
            np.testing.assert_allclose(found.model(torch.as_tensor(x))[:, 0], expected, atol=1e-6)
    names = ("a", "b", "c")
    found = find_targets(net, sounds, ["output:b", "output:2"], class_names=names)
    assert (found.model is net, found.chosen, found.class_names) == (True, ("b", "c"), names)
    direct = find_targets(
        net,
        sounds,
        "conv2:dog-left-up",
        direct=lambda layer, one, other: condition_direction(net, sounds, layer=layer, toward=one, away=other),
    )
    means = units.mean(2).double()
    vector = means[:2].mean(0) - means[4:].mean(0)
    with torch.no_grad():
        along = direct.model(torch.as_tensor(x))[:, 0]
    np.testing.assert_allclose(along, means @ (vector / vector.norm()), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_a_channel(method, net, sounds) -> None:
    found = find_targets(net, sounds, ["conv2:3", "conv2:1"])
    result = features.attribute(
        found.model,
        sounds.take([0, 1]),
        method=method,
        classes=list(found.chosen),
        class_names=found.class_names,
        layer=found.name_layer("conv1") if method == "guided-grad-cam" else None,
        **GIVEN.get(method, {}),
    )
    assert result.class_names == ("conv2:3", "conv2:1")
    assert result.maps.any()
    np.testing.assert_allclose(result.logits, units_of(net, sounds.waveforms[:2]).mean(2)[:, [3, 1]], atol=1e-6)
    if method == "input-x-gradient":
        x = torch.as_tensor(sounds.waveforms[:2]).requires_grad_()
        net.relu2(net.conv2(net.relu1(net.conv1(x)))).mean(2)[:, 3].sum().backward()
        np.testing.assert_allclose(result.maps[:, 0], (x.grad * x).detach(), atol=1e-7)


def test_the_map_of_a_channel_at_its_layer_is_the_channel(net, sounds) -> None:
    found = find_targets(net, sounds, "conv2:3")
    cams = features.class_activation_maps(
        found.model,
        sounds,
        layer=found.name_layer("conv2"),
        method="hires-cam",
        upsample=False,
        class_names=found.class_names,
    )
    units = units_of(net, sounds.waveforms)[:, 3].numpy()
    np.testing.assert_allclose(cams.maps[:, 0], units / units.shape[1], atol=1e-7)


def test_what_does_not_exist_is_named_with_the_nearest(net, sounds) -> None:
    for text, words in (
        ("conv3:1", "conv2"),
        ("conv2:6", "0 to 5"),
        ("output:bb", "did you mean 'b'"),
        ("conv2:dog-cet", "did you mean 'cat'"),
        ("conv2:dog", "parted by a minus"),
        ("roi:pSTG", "features.readout_network"),
        ("output:b:max", "has no positions"),
    ):
        with pytest.raises(InputError, match=words):
            find_targets(net, sounds, text, class_names=("a", "b", "c"), direct=lambda *_: np.ones(6))
    with pytest.raises(InputError, match="targets of one layer"):
        find_targets(net, sounds, ["conv1:1", "conv2:1"])
    with pytest.raises(InputError, match="as means or all as maxima"):
        find_targets(net, sounds, ["conv1:1", "conv1:2:max"])


def test_a_region_is_an_output_of_a_readout_network(net, sounds) -> None:
    voxels = features.readout_network(
        net, sounds, layer="conv2", weights=np.eye(6)[:, :2], mean=np.zeros(6), sd=np.ones(6), names=["A1", "left-pSTG"]
    )
    found = find_targets(voxels, sounds, "roi:left-pSTG")
    assert found.chosen == ("left-pSTG",)
    with pytest.raises(InputError, match="did you mean 'left-pSTG'"):
        find_targets(voxels, sounds, "roi:left-pSTGG")
