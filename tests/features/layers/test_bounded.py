"""BLAS has one thread wherever a network runs, so that its threads do not fight those of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor, nn

from brainmap import features
from brainmap.features.maximization.comparison import gradient_share

SEEN: list[int] = []


class Watched(nn.Module):
    """A network that notes the threads of BLAS at every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv1d(1, 4, 9), nn.ReLU()
        self.pool, self.flat, self.output = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        SEEN.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
        found: Tensor = self.output(self.flat(self.pool(self.act(self.conv(x)))))
        return found


SOUNDS = np.random.default_rng(0).standard_normal((3, 1, 400), np.float32)
LOOPS: dict[str, Callable[[nn.Module], Any]] = {
    "layers": lambda net: features.list_layers(net, SOUNDS),
    "activations": lambda net: features.extract_activations(net, SOUNDS, threads=1),
    "maps": lambda net: features.class_activation_maps(net, SOUNDS),
    "attributions": lambda net: features.attribute(net, SOUNDS, method="saliency"),
    "faithfulness": lambda net: features.deletion_curves(
        net, SOUNDS, np.ones((3, 1, 400)), targets=np.zeros((3, 1), int), windows=4
    ),
    "patterns": lambda net: gradient_share(net, SOUNDS, layer="conv"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_over_sounds_bounds_blas_and_gives_its_threads_back(loop: str) -> None:
    torch.manual_seed(0)
    np.ones((2, 2)) @ np.ones((2, 2))
    SEEN.clear()
    with threadpool_limits(2, user_api="blas"):
        LOOPS[loop](Watched().eval())
        assert SEEN
        assert set(SEEN) == {1}
        assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {2}
