"""Functions that are layers: a convolution called as a function is the layer that a module would be."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.layers.ear import tap
from brainmap.features.layers.listing import list_layers
from brainmap.features.layers.selection import select_layers
from brainmap.features.networks.huggingface import load_folder
from tests.features.networks.folders import make_folder

SOUNDS = np.random.default_rng(0).standard_normal((3, 1, 200), np.float32)


class Sinc(nn.Module):
    """A convolution whose filters are computed of their cut-off frequencies, as in SincNet."""

    def __init__(self) -> None:
        super().__init__()
        self.cutoff = nn.Parameter(torch.linspace(0.05, 0.4, 4)[:, None])

    def filters(self) -> Tensor:
        at = torch.arange(-10, 11.0)
        return (2 * self.cutoff * torch.sinc(2 * self.cutoff * at))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv1d(x, self.filters(), stride=2)


class Functional(nn.Module):
    """A network in which only one convolution is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.sinc, self.norm, self.conv = Sinc(), nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3)
        self.kernel = nn.Parameter(torch.randn(6, 6, 3) * 0.3)
        self.weight, self.bias = nn.Parameter(torch.randn(3, 6) * 0.3), nn.Parameter(torch.randn(3) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm(self.sinc(x)))
        y = functional.relu(functional.conv1d(functional.relu(self.conv(y)), weight=self.kernel))
        y = functional.relu(functional.conv1d(y, self.kernel, padding=1))
        return functional.linear(y.mean(2), self.weight, self.bias).softmax(1)


def modules_of(net: Functional) -> nn.Module:
    """The same network of modules alone."""
    first, second, third = (
        nn.Conv1d(1, 4, 21, stride=2, bias=False),
        nn.Conv1d(6, 6, 3, bias=False),
        nn.Conv1d(6, 6, 3, padding=1, bias=False),
    )
    head = nn.Linear(6, 3)
    first.weight.data, head.weight, head.bias = net.sinc.filters().data, net.weight, net.bias
    second.weight = third.weight = net.kernel
    pooled = nn.AdaptiveAvgPool1d(1), nn.Flatten(), head, nn.Softmax(1)
    relus = [nn.ReLU() for _ in range(4)]
    parts = (first, net.norm, relus[0], net.conv, relus[1], second, relus[2], third, relus[3], *pooled)
    names = ("0", "1", "2", "3", "4", "conv1d", *map(str, range(6, len(parts))))  # random numbers depend on names
    return nn.Sequential(OrderedDict(zip(names, parts, strict=True))).eval()


@pytest.fixture(scope="module")
def net() -> Functional:
    torch.manual_seed(0)
    model = Functional()
    model(torch.as_tensor(SOUNDS))  # statistics of the normalization
    return model.eval()


NAMES = {"sinc.conv1d": "0", "conv": "3", "conv1d": "conv1d", "conv1d#2": "7", "output": "output"}


def test_functions_are_listed_as_modules_would_be(net: Functional) -> None:
    found, wanted = list_layers(net, SOUNDS), list_layers(modules_of(net), SOUNDS)
    assert [one.name for one in found] == list(NAMES)
    assert [one.kind for one in found] == ["conv1d", "Conv1d", "conv1d", "conv1d", "linear"]
    for ours, theirs in zip(found, wanted, strict=True):
        for what in ("shape", "receptive_field", "stride", "center", "order", "positions", "without", "is_convolution"):
            assert getattr(ours, what) == getattr(theirs, what), (ours.name, what)
    assert [one.parameters for one in found] == [8, 78, 108, 108, 21]  # the cut-offs are no weights of the convolution


@pytest.mark.parametrize("stage", ["before", "after"])
def test_activations_are_those_of_modules(net: Functional, stage: str) -> None:
    ours = features.extract_activations(net, SOUNDS, layers=list(NAMES), stage=stage, pooling="none")
    theirs = features.extract_activations(
        modules_of(net), SOUNDS, layers=list(NAMES.values()), stage=stage, pooling="none"
    )
    for name, other in NAMES.items():
        np.testing.assert_allclose(ours[name], theirs[other], atol=1e-6)
    with torch.no_grad():
        first = net.norm(functional.conv1d(torch.as_tensor(SOUNDS), net.sinc.filters(), stride=2))
    np.testing.assert_allclose(ours["sinc.conv1d"], first.relu() if stage == "after" else first, atol=1e-6)


def test_kinds_patterns_and_places_select_functions(net: Functional) -> None:
    assert select_layers(net, SOUNDS, "Conv1d") == ("sinc.conv1d", "conv", "conv1d", "conv1d#2")
    assert select_layers(net, SOUNDS, "last-conv") == ("conv1d#2",)
    assert select_layers(net, SOUNDS, "sinc.*") == ("sinc.conv1d",)
    with pytest.raises(InputError, match=r"nothing fits 'sinc\.conv2d'; did you mean 'sinc\.conv1d'"):
        select_layers(net, SOUNDS, "sinc.conv2d")


@pytest.mark.parametrize("layer", ["sinc.conv1d", "conv1d", "last-conv"])
@pytest.mark.parametrize("method", ["grad-cam", "hires-cam"])
def test_maps_at_functions_are_those_at_modules(net: Functional, layer: str, method: str) -> None:
    ours = features.class_activation_maps(net, SOUNDS, method=method, layer=layer)
    theirs = features.class_activation_maps(modules_of(net), SOUNDS, method=method, layer=NAMES.get(layer, layer))
    np.testing.assert_allclose(ours.maps, theirs.maps, atol=1e-6)
    assert np.ptp(ours.maps) > 1e-3


def test_patterns_that_maximize_functions_are_those_of_modules(net: Functional) -> None:
    found = [
        features.maximize_activation(
            model,
            layer=layer,
            units=[1, 3],
            settings=features.MaximizationSettings(steps=8),
            sounds=SOUNDS,
            rate=8000,
            rng=np.random.default_rng(0),
        )
        for model, layer in ((net, "conv1d"), (modules_of(net), "conv1d"))
    ]
    np.testing.assert_allclose(found[0].trace, found[1].trace, atol=1e-4)
    assert (found[0].trace[-1] > found[0].trace[0]).all()


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.attention, self.head = (
            nn.Conv1d(1, 6, 9, stride=4),
            nn.MultiheadAttention(6, 2, batch_first=True),
            nn.Linear(6, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).transpose(1, 2)
        logits: Tensor = self.head((y + self.attention(y, y, y)[0]).mean(1))
        return logits


def test_the_projections_of_an_attention_are_layers() -> None:
    torch.manual_seed(0)
    model = Attending().eval()
    names = [one.name for one in list_layers(model, SOUNDS)]
    assert names == ["conv", "attention.linear", "attention.out_proj", "output"]
    found = features.extract_activations(model, SOUNDS, layers=names[1:3], pooling="none", batch_size=2)
    with torch.no_grad():
        y = model.conv(torch.as_tensor(SOUNDS)).transpose(1, 2)
        whole, attention = model.attention(y, y, y)[0], model.attention
        projected = functional.linear(y, attention.in_proj_weight, attention.in_proj_bias)
    np.testing.assert_allclose(found["attention.linear"], projected.transpose(1, 2), atol=1e-6)
    np.testing.assert_allclose(found["attention.out_proj"], whole.transpose(1, 2), atol=1e-6)


def test_gradients_reach_the_projections_of_an_attention() -> None:
    torch.manual_seed(0)
    model, x = Attending().eval(), torch.as_tensor(SOUNDS)
    with tap(model, ["attention.linear", "attention.out_proj", "output"], gradient=True) as heard:
        model(x)
        inner, outer = torch.autograd.grad(
            heard["output"][:, 1].sum(), [heard["attention.linear"], heard["attention.out_proj"]]
        )
    n_frames = outer.shape[0]
    torch.testing.assert_close(outer[0, 0], model.head.weight[1] / n_frames)  # linear in the output of the attention
    y = model.conv(x).transpose(1, 2)
    qkv = functional.linear(y, model.attention.in_proj_weight, model.attention.in_proj_bias).detach().requires_grad_()
    q, k, v = (part.unflatten(2, (2, 3)).transpose(1, 2) for part in qkv.chunk(3, 2))
    mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    logits = model.head((y.detach() + model.attention.out_proj(mixed)).mean(1))
    (wanted,) = torch.autograd.grad(logits[:, 1].sum(), qkv)
    torch.testing.assert_close(inner.transpose(0, 1), wanted, atol=1e-6, rtol=1e-4)


def test_the_projections_of_wavlm_are_those_of_its_weights(tmp_path: Path) -> None:
    """They are weights of modules that are never called."""
    torch.manual_seed(0)
    model = load_folder(make_folder(tmp_path, "wavlm"))
    attention = model.get_submodule("encoder.layers.1.attention")
    seen: dict[str, Tensor] = {}
    attention.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(given=[*args, *kwargs.values()][0]), with_kwargs=True
    )
    attention.register_forward_hook(lambda _, __, out: seen.update(out=out[0]))
    sounds = np.random.default_rng(0).standard_normal((2, 1, 8000), np.float32)
    names = [f"encoder.layers.1.attention.{part}_proj" for part in ("q", "k", "v", "out")]
    with torch.no_grad(), tap(model, names) as heard:
        model(torch.as_tensor(sounds))
    for name in names[:3]:
        projection = model.get_submodule(name)
        torch.testing.assert_close(heard[name].transpose(0, 1), projection(seen["given"]).detach())
    torch.testing.assert_close(heard[names[3]].transpose(0, 1), seen["out"])
    listed = [one for one in list_layers(model, sounds) if one.name in names]
    assert [(one.kind, one.shape[0], one.positions) for one in listed] == [("linear", 24, ("time",))] * 4
    found = features.extract_activations(model, sounds, layers=names)
    np.testing.assert_allclose(found[names[0]], heard[names[0]].mean(0), atol=1e-5)


def test_modules_are_listed_once_and_nothing_is_left_behind(net: Functional) -> None:
    plain = nn.Sequential(
        nn.Conv1d(1, 2, 3), nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 3)), nn.LSTM(196, 4)
    )
    assert [one.name for one in list_layers(plain[:2], SOUNDS)] == ["0", "output"]
    with pytest.raises(InputError), tap(net, ["sinc.conv1d"]):
        raise InputError("stop")
    with pytest.raises(RuntimeError), tap(net, ["conv1d"]):
        net(torch.zeros(1, 2, 200))
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert net(torch.as_tensor(SOUNDS)).shape == (3, 3)
