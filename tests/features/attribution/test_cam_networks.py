"""Class activation maps of real networks: identities of pooled heads on the trained ones, and the 2-D counterpart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import InputError, RunError
from brainmap.features.attribution.cam import map_layer
from brainmap.features.networks.zoo import build_network, initialize
from brainmap.features.sounds.spectrogram import log_mel
from brainmap.types import CamMethod

Array = NDArray[np.float32]
NETWORKS = Path(__file__).resolve().parents[3] / "data" / "networks"
WORDS = NETWORKS.parent / "words" / "stimuli.tsv"
METHODS: tuple[CamMethod, ...] = ("grad-cam", "grad-cam++", "xgrad-cam", "layer-cam", "hires-cam", "score-cam")


@pytest.fixture(scope="module")
def words() -> features.Sounds:
    sounds = features.load_sounds(WORDS)
    return sounds.take(list(range(0, len(sounds), 24)))  # eight of them


def last_activation(net: nn.Module, sounds: Array) -> tuple[Array, Array, Array]:
    """Activations before the pooling of a zoo network, and the weights and bias behind it, by hand."""
    kept: list[Tensor] = []
    handle = net.get_submodule("act8").register_forward_hook(lambda _, __, out: kept.append(out))
    with torch.no_grad():
        net(torch.as_tensor(sounds))
    handle.remove()
    return (
        kept[0].numpy(),
        net.get_parameter("output.weight").detach().numpy(),
        net.get_parameter("output.bias").detach().numpy(),
    )


@pytest.mark.parametrize("head", ["gap", "gmp"])
def test_cam_of_the_trained_networks_is_exact(head: str, words: features.Sounds) -> None:
    net = features.load_network(NETWORKS / f"ch32-{head}.safetensors").eval()
    cams = features.class_activation_maps(net, words, method="cam", upsample=False)
    activation, weight, bias = last_activation(net, words.waveforms)
    with torch.no_grad():
        logits = net(torch.as_tensor(words.waveforms)).numpy()
    np.testing.assert_allclose(cams.logits, logits, rtol=1e-4, atol=1e-4)
    scale = float(np.abs(logits).max())
    if head == "gap":
        np.testing.assert_allclose(cams.maps.mean(2) + bias, logits, atol=2e-5 * scale)
    else:
        np.testing.assert_allclose(activation.max(2) @ weight.T + bias, logits, atol=2e-5 * scale)
        assert np.abs(cams.maps.mean(2) + bias - logits).max() > 0.1 * scale  # there is no mean identity
    naive = np.zeros_like(cams.maps)
    for channel in range(weight.shape[1]):
        naive += weight[:, channel][None, :, None] * activation[:, channel][:, None]
    better = np.tensordot(activation, weight, axes=(1, 1)).transpose(0, 2, 1)
    exact = functional.conv1d(torch.as_tensor(activation), torch.as_tensor(weight)[..., None]).numpy()
    for other in (naive, better, exact):
        np.testing.assert_allclose(cams.maps, other, rtol=1e-3, atol=1e-5 * scale)


def test_a_trained_network_with_a_flatten_head_is_refused_for_cam_and_exact_for_hires_cam(
    words: features.Sounds,
) -> None:
    net = features.load_network(NETWORKS / "ch32.safetensors").eval()
    with pytest.raises(InputError, match="not a linear layer on the mean or maximum") as caught:
        features.class_activation_maps(net, words, method="cam")
    assert "\n" not in str(caught.value)
    cams = features.class_activation_maps(net, words, method="hires-cam", upsample=False)
    bias = net.get_parameter("output.bias").detach().numpy()
    np.testing.assert_allclose(cams.maps.sum(2) + bias, cams.logits, atol=2e-5 * float(np.abs(cams.logits).max()))


@pytest.fixture(scope="module")
def square() -> nn.Sequential:
    net = build_network("base-2d", head="gap", variant="bn", n_classes=3, n_samples=4_000)
    initialize(net, torch.Generator().manual_seed(0))
    return net.eval()


@pytest.fixture(scope="module")
def pictures() -> Array:
    rng = np.random.default_rng(0)
    return log_mel(rng.standard_normal((3, 1, 4_000)) * np.linspace(0.02, 1, 4_000))


def test_cam_of_the_two_dimensional_counterpart_has_the_logit_as_its_mean(
    square: nn.Sequential, pictures: Array
) -> None:
    with pytest.raises(InputError, match="name the layer right before that pooling"):  # pool5 lies between
        features.class_activation_maps(square, pictures, method="cam")
    cams = features.class_activation_maps(square, pictures, method="cam", layer="pool5", upsample=False)
    assert cams.maps.shape == (3, 3, 2, 1)
    bias = square.get_parameter("output.bias").detach().numpy()
    np.testing.assert_allclose(cams.maps.mean((2, 3)) + bias, cams.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_finite_maps_over_height_and_width(
    square: nn.Sequential, pictures: Array, method: CamMethod
) -> None:
    cams = features.class_activation_maps(square, pictures, method=method, layer="conv3", classes=[2, 0])
    assert cams.maps.shape == (3, 2, 64, 32)
    assert cams.class_names == ("2", "0")
    one = features.class_activation_maps(square, pictures[1:2], method=method, layer="conv3", classes=[2, 0])
    np.testing.assert_allclose(one.maps[0], cams.maps[1], rtol=1e-3, atol=1e-5 * float(np.abs(cams.maps).max()))


def test_grad_cam_in_two_dimensions_equals_captum(square: nn.Sequential, pictures: Array) -> None:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed (extra 'attribution')")
    oracle = attr.LayerGradCam(square, square.get_submodule("act4"))
    found = features.class_activation_maps(square, pictures, layer="conv4", upsample=False).maps
    for column in range(3):
        theirs = oracle.attribute(torch.as_tensor(pictures), target=column, relu_attributions=False)
        np.testing.assert_allclose(found[:, column], theirs[:, 0].detach(), rtol=1e-4, atol=1e-7)


def test_a_network_with_its_spectrogram_inside_gives_maps_over_frames_and_says_so() -> None:
    class Heard(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.output = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            picture = x.unfold(2, 16, 8).abs().transpose(2, 3)
            return torch.as_tensor(self.output(torch.relu(self.conv(picture)).mean((2, 3))))

    x = np.random.default_rng(0).standard_normal((2, 1, 200), np.float32)
    cams = features.class_activation_maps(Heard(), x, method="cam", upsample=False)
    assert cams.maps.shape == (2, 2, 14, 22)
    with pytest.raises(InputError, match="layer 'conv' has 2 axes of positions and the sounds have 1"):
        features.class_activation_maps(Heard(), x)


def test_the_layer_may_be_a_place_or_depth_and_must_be_one() -> None:
    net, x = build_network("ch32", n_samples=2187), np.zeros((1, 1, 2187), np.float32)
    assert [map_layer(net, x, name).name for name in ("last-conv", "depth:0", "2:3", "depth:0.5")] == [
        "conv8",
        "conv1",
        "conv3",
        "conv4",
    ]
    with pytest.raises(InputError, match=r"expected one layer .*got 'conv\*', which means 'conv1', 'conv2'"):
        map_layer(net, x, "conv*")
    pool = map_layer(net, x, "pool3")  # right after conv3, one frame for three
    assert (pool.shape, pool.stride, pool.center) == ((32, 81), 27, 13)
    with pytest.raises(InputError, match="'flatten' is no convolution"):
        map_layer(net, x, "flatten")
    with pytest.raises(InputError, match="did you mean 'conv8'"):
        map_layer(net, x, "conv88")


@pytest.mark.parametrize("method", ["cam", *METHODS])
def test_no_hook_is_left_and_modes_are_given_back_whatever_breaks(
    square: nn.Sequential, pictures: Array, method: CamMethod
) -> None:
    broken = pictures.copy()
    broken[1, 0, 5, 5] = np.inf
    square.train()
    square.get_submodule("norm2").eval()
    try:
        for given in ({"layer": "conv9"}, {"classes": ["yes"]}, {"batch_size": 0}):
            with pytest.raises(InputError):
                features.class_activation_maps(square, pictures, method=method, **given)  # type: ignore[arg-type]
        with pytest.raises(RunError, match="item '1'"):
            features.class_activation_maps(square, broken, method=method)
        assert [name for name, m in square.named_modules() if not m.training] == ["norm2"]
        assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in square.modules())
        assert all(p.requires_grad and p.grad is None for p in square.parameters())
        assert torch.is_grad_enabled()
        assert torch._C._len_torch_function_stack() == 0
    finally:
        square.eval()
