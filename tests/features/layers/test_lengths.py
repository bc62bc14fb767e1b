"""A sound that is too short for a network: which layer refuses it, and how long a sound it needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations
from brainmap.features.layers.running import find_shortest_accepted


class Pooled(nn.Module):
    """Unpadded convolutions, as wav2vec 2.0 begins with, and a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 4, 10, 5), nn.ReLU(), nn.Conv1d(4, 4, 3, 2), nn.Conv1d(4, 4, 3, 2))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x).mean(-1))
        return logits


NEEDED = 10 + (3 - 1) * 5 + (3 - 1) * 10  # the receptive field


@pytest.mark.parametrize(("length", "layer"), [(5, "body.0"), (14, "body.2"), (NEEDED - 1, "body.3")])
def test_the_layer_and_the_length_that_it_needs_are_found(length: int, layer: str) -> None:
    net = Pooled().eval()
    assert find_shortest_accepted(net, torch.zeros(3, 1, length)) == (layer, NEEDED)
    net(torch.zeros(1, 1, NEEDED))
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 1, NEEDED - 1))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_network_of_one_length_or_of_more_channels_is_not_called_too_short() -> None:
    fixed = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 98, 3)).eval()
    assert find_shortest_accepted(fixed, torch.zeros(1, 1, 90)) is None
    assert find_shortest_accepted(nn.Conv1d(2, 2, 3), torch.zeros(1, 1, 90)) is None
    assert find_shortest_accepted(Pooled(), torch.zeros(1, 1, NEEDED)) is None


def test_time_is_the_last_axis_of_spectrograms() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, (4, 8)), nn.AdaptiveAvgPool2d(1))
    assert find_shortest_accepted(net, torch.zeros(1, 1, 16, 5)) == ("0", 8)


def test_extraction_names_them() -> None:
    said = (
        rf"layer 'body.3' needs more: expected at least {NEEDED} samples, got 32; give longer sounds or a longer window"
    )
    with pytest.raises(InputError, match=said) as found:
        extract_activations(Pooled(), np.zeros((2, 1, 320), np.float32), rate=1_000, window=0.032)
    assert "\n" not in str(found.value)
