"""The ascent by Adam is that of torch, and compiled kernels change no pattern."""

from __future__ import annotations

import numpy as np
import torch

from brainmap.features import build_network
from brainmap.features.maximization.ascent import ascend
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation


def test_adam_takes_the_steps_of_torch_to_the_last_bit() -> None:
    start = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    goal = torch.linspace(-2, 2, 50)
    settings = MaximizationSettings(optimizer="adam", steps=30, step_size=0.1, decay="linear")
    found, still = ascend(
        start,
        lambda free, _: free,
        lambda free, _, __: -((free - goal) ** 2).sum(dim=1),
        settings,
        model=torch.nn.Identity(),
        name_rows=str,
        advance=lambda _: None,
    )
    assert still == []
    free = start.clone().requires_grad_()
    adam = torch.optim.Adam([free], maximize=True)
    for step in range(30):
        free.grad = torch.autograd.grad(-((free - goal) ** 2).sum(), free)[0]
        adam.param_groups[0]["lr"] = 0.1 * (1 - step / 30)
        adam.step()
    assert torch.equal(found, free.detach())


def test_compiled_kernels_change_no_pattern() -> None:
    torch.manual_seed(0)
    net = build_network("ch32").eval()
    patterns = [
        maximize_activation(
            net,
            layer="conv4",
            units=[1, 5],
            settings=MaximizationSettings(steps=4, compiled=compiled),
            rng=np.random.default_rng(0),
        ).patterns
        for compiled in (True, False)
    ]
    np.testing.assert_allclose(patterns[0], patterns[1], rtol=1e-5, atol=1e-7)
    assert np.abs(patterns[0]).max() > 0
