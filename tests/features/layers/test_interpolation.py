"""Frames behind an interpolation: their fields hold all that reaches them, or their positions are not known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.features.layers.listing import list_layers


class TwoRates(nn.Module):
    """A fast and a slow convolution, joined at the rate of the fast one, or at the slow one's."""

    def __init__(self, mode: str, *, slow_wins: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fast, self.slow = nn.Conv1d(1, 4, 9, stride=2, padding=4), nn.Conv1d(4, 4, 5, stride=4, padding=2)
        self.fuse, self.mode, self.slow_wins = nn.Conv1d(8, 4, 3, padding=1), mode, slow_wins

    def forward(self, x: Tensor) -> Tensor:
        fast = torch.relu(self.fast(x))
        slow = torch.relu(self.slow(fast))
        size = (slow if self.slow_wins else fast).shape[-1]
        both = [functional.interpolate(one, size=size, mode=self.mode) for one in (fast, slow)]
        found: Tensor = self.fuse(torch.cat(both, 1)).mean(2)
        return found


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("slow_wins", [False, True])
def test_fields_hold_all_that_reaches_a_frame(mode: str, slow_wins: bool) -> None:
    net = TwoRates(mode, slow_wins=slow_wins).eval()
    x = torch.randn(1, 1, 640, requires_grad=True)
    (layer,) = (one for one in list_layers(net, x.detach()) if one.name == "fuse")
    assert isinstance(layer.receptive_field, int)
    assert isinstance(layer.center, float)
    assert layer.stride == (8 if slow_wins else 2)
    assert layer.receptive_field < 60
    with features.tap(net, "fuse", gradient=True) as heard:
        net(x)
        for frame in range(20, 26):
            (gradient,) = torch.autograd.grad(heard["fuse"][0, :, frame].sum(), x, retain_graph=True)
            seen = gradient[0, 0].nonzero().flatten()
            low = layer.center + frame * layer.stride - (layer.receptive_field - 1) / 2
            assert low <= seen.min() <= seen.max() <= low + layer.receptive_field - 1


def test_positions_that_agree_with_no_grid_are_not_known() -> None:
    (layer,) = (one for one in list_layers(TwoRates("nearest").eval(), torch.zeros(1, 1, 650)) if one.name == "fuse")
    assert (layer.receptive_field, layer.stride, layer.center) == (None, None, None)
