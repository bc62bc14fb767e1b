"""A softmax, log-softmax or sigmoid at the end of a network is taken off everywhere, squeezed or not, and said."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import InputError

SOUNDS = np.random.default_rng(0).standard_normal((3, 1, 200)).astype(np.float32)


class Net(nn.Module):
    """A network whose last convolution gives `(n, classes, 1)`, with something at its end."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv1d(1, 6, 9, stride=4), nn.Conv1d(6, 4, 1)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(40 * self.head(torch.relu(self.conv(x)).mean(2, keepdim=True)))


ENDS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "softmax, squeezed": ("softmax", lambda x: x.softmax(1).squeeze()),
    "softmax, last axis squeezed": ("softmax", lambda x: torch.softmax(x, dim=1).squeeze(-1)),
    "softmax after a squeeze": ("softmax", lambda x: functional.softmax(x.squeeze(-1), dim=-1)),
    "softmax module": ("softmax", lambda x: nn.Sequential(nn.Flatten(), nn.Softmax(1))(x)),
    "softmax, flat": ("softmax", lambda x: x.softmax(1).flatten(1)),
    "log of softmax": ("softmax", lambda x: x.softmax(1).squeeze(-1).log()),
    "log-softmax": ("log_softmax", lambda x: functional.log_softmax(x.flatten(1), 1)),
    "log-softmax, squeezed": ("log_softmax", lambda x: x.log_softmax(1).squeeze()),
    "sigmoid": ("sigmoid", lambda x: x.flatten(1).sigmoid()),
    "sigmoid, squeezed": ("sigmoid", lambda x: torch.sigmoid(x).squeeze()),
    "log-sigmoid": ("logsigmoid", lambda x: functional.logsigmoid(x.flatten(1))),
    "expit": ("sigmoid", lambda x: torch.special.expit(x.flatten(1))),
    "special log-softmax": ("log_softmax", lambda x: torch.special.log_softmax(x.flatten(1), 1)),
    "nothing, squeezed": ("", lambda x: x.squeeze()),
}


@pytest.fixture
def plain() -> Net:
    return Net(lambda x: x.flatten(1)).eval()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ENDS)
def test_what_is_taken_off_is_taken_off_alike(plain: Net, name: str, n: int, caplog: pytest.LogCaptureFixture) -> None:
    kind, end = ENDS[name]
    net, sounds = Net(end).eval(), SOUNDS[:n]
    with torch.no_grad():
        logits = plain(torch.tensor(sounds)).numpy()  # saturated: the largest of a softmax is 1 to rounding
    with caplog.at_level(logging.INFO, logger="brainmap"):
        found = features.extract_activations(net, sounds, layers="output")
    assert [r.args for r in caplog.records if "taken off" in r.message] == ([(kind,)] if kind else [])
    np.testing.assert_allclose(found["output"][:], logits, atol=1e-4)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="brainmap"):
        cams = features.class_activation_maps(net, sounds, layer="conv")
    assert any("taken off" in r.message for r in caplog.records) == bool(kind)
    np.testing.assert_allclose(cams.logits, logits, atol=1e-4)
    np.testing.assert_allclose(cams.maps, features.class_activation_maps(plain, sounds, layer="conv").maps, atol=1e-4)
    for method in ("saliency", "occlusion"):
        given = {"rate": 1000, "window_ms": 50} if method == "occlusion" else {}
        one, other = (
            features.attribute(each, sounds, method=method, classes="all", **given).maps for each in (net, plain)
        )
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in ENDS if name != "log of softmax"])
def test_maximization_climbs_the_logits_and_says_so(plain: Net, name: str) -> None:
    settings = features.MaximizationSettings(steps=3, jitter_ms=0)
    one, other = (
        features.maximize_activation(
            net, layer="output", units=[1], sounds=SOUNDS, settings=settings, rng=np.random.default_rng(0)
        )
        for net in (Net(ENDS[name][1]).eval(), plain)
    )
    np.testing.assert_allclose(one.trace, other.trace, rtol=1e-3)
    assert any("unwrapped" in note for note in one.notes) == bool(ENDS[name][0])


def test_log_probabilities_out_of_sight_are_refused() -> None:
    def hidden(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return flat - flat.exp().sum(1, keepdim=True).log()

    net = Net(lambda x: hidden(x / 40)).eval()
    with pytest.raises(InputError, match="log-probabilities"):
        features.class_activation_maps(net, SOUNDS, layer="conv")
