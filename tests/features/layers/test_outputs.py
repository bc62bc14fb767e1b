"""Outputs of any kind: the tensors in tuples, dictionaries and dataclasses are layers by path."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.layers.ear import tap
from brainmap.features.layers.outputs import find_tensors, replace_tensors

SOUNDS = np.random.default_rng(0).standard_normal((3, 1, 160)).astype(np.float32)


@dataclass
class Given:
    """An output as a dataclass."""

    logits: Tensor
    embedding: Tensor
    attentions: tuple[Tensor, ...] | None = None


class Block(nn.Module):
    """A convolution that gives its activations twice, plain and squared."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 6, 8, stride=4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.conv(x)
        return found, found.square()


class Crnn(nn.Module):
    """A convolution, an LSTM over time and two heads, with an output of a kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.block = kind, Block()
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.head, self.embed = nn.Linear(5, 4), nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Any:
        plain, squared = self.block(x)
        found, _ = self.lstm((plain + squared).transpose(1, 2))
        last = found[:, -1]
        logits, embedding = self.head(last), self.embed(last)
        given = {"logits": logits, "embedding": embedding}
        kinds = {"dict": given, "dataclass": Given(logits, embedding, (plain,)), "tuple": (logits, embedding)}
        return kinds.get(self.kind, given)


def by_hand(net: Crnn) -> dict[str, Tensor]:
    """What the layers give, by calling them one by one."""
    with torch.no_grad():
        plain, squared = net.block(torch.tensor(SOUNDS))
        steps, (last, cell) = net.lstm((plain + squared).transpose(1, 2))
        return {
            "block.0": plain.mean(2), "block.1": squared.mean(2), "lstm": steps.mean(1), "lstm.0": steps.mean(1),
            "lstm.1.0": last[0], "lstm.1.1": cell[0], "logits": net.head(last[0]), "embedding": net.embed(last[0]),
        }  # fmt: skip


@pytest.mark.parametrize("kind", ["dict", "dataclass"])
def test_find_tensors_outputs_are_layers_by_path(kind: str) -> None:
    net = Crnn(kind).eval()
    wanted = by_hand(net)
    listed = [one.name for one in features.list_layers(net, SOUNDS)]
    assert {"block.conv", "lstm", "output.embedding", "output.logits", "output"} <= set(listed)
    asked = ["block.0", "block.1", "lstm", "lstm.0", "lstm.1.0", "lstm.1.1", "output", "output.embedding"]
    found = features.extract_activations(net, SOUNDS, layers=asked)
    for name in asked:
        key = {"output": "logits", "output.embedding": "embedding"}.get(name, name)
        np.testing.assert_allclose(found[name][:], wanted[key], atol=1e-6, err_msg=name)


def test_several_tensors_without_logits_are_never_guessed() -> None:
    net = Crnn("tuple").eval()
    found = features.extract_activations(net, SOUNDS, layers=["output.1"])
    np.testing.assert_allclose(found["output.1"][:], by_hand(net)["embedding"], atol=1e-6)
    with (
        pytest.raises(InputError, match=r"network: expected one tensor, got tuple of 2 tensors; name .*output\.0"),
        tap(net, "output"),
        torch.no_grad(),
    ):
        net(torch.tensor(SOUNDS))
    with pytest.raises(InputError, match=r"'block' \(Block\): expected one tensor, got tuple of 2.*block\.0"):
        features.extract_activations(net, SOUNDS, layers=["block"])
    with pytest.raises(InputError, match=r"nothing fits 'lstm\.7'"):
        features.extract_activations(net, SOUNDS, layers=["lstm.7"])


def test_gradients_reach_a_tensor_inside_an_output() -> None:
    net = Crnn("dict").eval()
    with tap(net, ["block.1", "output"], gradient=True) as heard:
        net(torch.tensor(SOUNDS))
    (gradient,) = torch.autograd.grad(heard["output"][:, 0].sum(), heard["block.1"])
    with tap(net, ["block.0", "output"], gradient=True) as heard:
        net(torch.tensor(SOUNDS))
    (plain,) = torch.autograd.grad(heard["output"][:, 0].sum(), heard["block.0"])
    wanted = gradient * (1 + 2 * heard["block.0"].detach())  # the squares are made of it, and both are added
    torch.testing.assert_close(plain, wanted)
    assert gradient.abs().sum() > 0
    cams = features.class_activation_maps(net, SOUNDS, layer="block.conv")
    assert cams.maps.shape == (3, 4, 160)


def test_values_are_rebuilt_in_their_own_kind() -> None:
    one, two, new = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    for value in ((one, [two]), {"a": one, "b": (two,)}, OrderedDict(a=one, b=two), Given(one, two, (two,))):
        found = replace_tensors(value, {id(two): new})
        assert type(found) is type(value)
        assert find_tensors(found).keys() == find_tensors(value).keys()
        assert [t.item() for t in find_tensors(found).values()][:2] == [0.0, 2.0]
        assert two.item() == 1.0


def test_layers_of_spectrograms_know_time_whatever_its_place_in_the_input() -> None:
    from brainmap.features.sounds.files import sounds_from_array
    from brainmap.features.sounds.front_ends import read_front_end

    waves = np.random.default_rng(0).standard_normal((2, 1, 4000)).astype(np.float32)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, (3, 5), padding=(1, 2))).eval()
    for layout, last in (("bands-frames", 3), ("frames-bands", 2)):
        front_end = read_front_end(f"log-mel,mels=12,hop_ms=10,window_ms=25,layout={layout}")
        sounds = sounds_from_array(waves, rate=16_000)
        sounds = replace(sounds, front_end=front_end)
        given = torch.tensor(front_end.compute(waves, rate=16_000))
        with torch.no_grad():
            wanted = torch.relu(net[0](given)).mean(last).flatten(1)
        found = features.extract_activations(net, sounds, layers=["0"])
        np.testing.assert_allclose(found["0"][:], wanted, atol=1e-5)
        whole = features.extract_activations(net, sounds, layers=["0"], pooling="none").to_xarray("0")
        assert whole.dims == ("item", "unit", *{2: ("time", "frequency"), 3: ("frequency", "time")}[last])
        np.testing.assert_allclose(np.diff(whole["time"]), 0.01)
        assert len(whole["time"]) == given.shape[last]
