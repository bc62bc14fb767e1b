"""Networks that cannot be looked into end in one line, never in a traceback."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap import features
from brainmap.errors import BrainmapError, InputError

SOUNDS = np.random.default_rng(0).standard_normal((2, 1, 800)).astype(np.float32)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.fc = nn.Conv1d(1, 4, 9), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(torch.tanh(self.conv(x)).mean(2)))


class WithoutGradient(Plain):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class Spectrogram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stft(x[:, 0], 64, window=torch.hann_window(64), return_complex=True).abs()[:, None]
        return torch.as_tensor(self.fc(torch.tanh(self.conv(y)).mean((2, 3))))


DOES: dict[str, Callable[[nn.Module], Any]] = {
    "activations": lambda net: features.extract_activations(net, SOUNDS),
    "cam": lambda net: features.class_activation_maps(net, SOUNDS),
    "saliency": lambda net: features.attribute(net, SOUNDS, method="saliency"),
    "filters": lambda net: features.layer_filters(net, SOUNDS, rate=16_000),
    "exemplars": lambda net: features.find_exemplars(net, SOUNDS, layer="last-conv"),
    "maximization": lambda net: features.maximize_activation(
        net, layer="output", sounds=SOUNDS, rate=16_000, settings=features.MaximizationSettings(steps=1)
    ),
}


@pytest.mark.parametrize("make", [WithoutGradient, Spectrogram, Plain])
@pytest.mark.parametrize("what", DOES)
def test_a_network_is_heard_or_refused_in_one_line(what: str, make: Callable[[], nn.Module]) -> None:
    try:
        DOES[what](make().eval())
    except BrainmapError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("what", DOES)
def test_a_scripted_network_is_refused_with_the_way_out(what: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own scripts old
        scripted = torch.jit.trace(Plain().eval(), torch.tensor(SOUNDS))
    with pytest.raises(InputError, match=r"is scripted .* give the plain module"):
        DOES[what](scripted)


def test_maps_of_a_forward_pass_under_no_grad_are_those_of_the_plain_one() -> None:
    one, other = (features.class_activation_maps(net.eval(), SOUNDS).maps for net in (WithoutGradient(), Plain()))
    np.testing.assert_allclose(one, other, atol=1e-6)
