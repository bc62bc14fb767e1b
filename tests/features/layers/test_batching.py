"""Batches that a network takes by default: as large as its activations allow, and without effect on the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap import features
from brainmap.features.layers.batching import LARGEST_BYTES, MOST_ITEMS, choose_batch_size


class Largest(torch.overrides.TorchFunctionMode):
    """Notes the bytes of the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.bytes = max(self.bytes, out.numel() * out.element_size())
        return out


@pytest.mark.parametrize("name", ["ch32", "ch64", "vgg"])
def test_no_activation_takes_32_mib_and_one_more_sound_would_take_it(name: Any) -> None:
    net = features.build_network(name).eval()
    sounds = np.zeros((MOST_ITEMS, 1, 16_000), np.float32)
    size = choose_batch_size(net, features.list_layers(net, sounds), sounds)
    assert 1 < size < MOST_ITEMS
    largest = []
    for n in (size, size + 1):
        with torch.no_grad(), Largest() as seen:
            net(torch.as_tensor(sounds[:n]))
        largest.append(seen.bytes)
    assert largest[0] <= LARGEST_BYTES < largest[1]


def test_numbers_of_double_precision_count_double_and_a_huge_activation_leaves_one_sound() -> None:
    net = nn.Conv1d(1, 32, 1)
    sounds = torch.zeros(1, 1, 16_000)
    size = choose_batch_size(net, features.list_layers(net, sounds), sounds)
    assert choose_batch_size(net.double(), features.list_layers(net, sounds), sounds) == size // 2
    wide = nn.Conv1d(1, 2000, 1)
    assert choose_batch_size(wide, features.list_layers(wide, sounds), sounds) == 1


class Counted:
    """Sounds that note the sizes of the batches in which they are read."""

    items = conditions = tuple(str(k) for k in range(40))

    def __init__(self) -> None:
        self.waves = np.random.default_rng(0).standard_normal((40, 1, 16_000), np.float32)
        self.sizes: list[int] = []

    def __len__(self) -> int:
        return 40

    def batches(self, size: int) -> Iterator[np.ndarray]:
        self.sizes.append(size)
        for start in range(0, 40, size):
            yield self.waves[start : start + size]


def test_activations_are_extracted_in_such_batches_and_are_those_of_other_batches() -> None:
    net, sounds = features.build_network("ch32").eval(), Counted()
    acts = features.extract_activations(net, sounds, layers=["conv1", "conv8"], threads=1, key="k")
    assert max(sounds.sizes) == 16
    other = features.extract_activations(net, sounds, layers=["conv1", "conv8"], threads=1, key="k", batch_size=32)
    for layer in acts.layers:
        np.testing.assert_allclose(acts[layer], other[layer], rtol=1e-5, atol=1e-6)
