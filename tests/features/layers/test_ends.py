"""A softmax, log-softmax or sigmoid at the end of a network is taken off everywhere, squeezed or not, and said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attribution.methods import METHODS
from brainmap.types import CamMethod

SOUNDS = np.random.default_rng(0).standard_normal((3, 1, 200)).astype(np.float32)


class Net(nn.Module):
    """A network whose last convolution gives `(n, classes, 1)`, with something at its end."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv1d(1, 6, 9, stride=4), nn.Conv1d(6, 4, 1)
        for parameter in self.head.parameters():
            parameter.data *= 40  # saturated: the largest of a softmax is 1 to rounding
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.head(torch.relu(self.conv(x)).mean(2, keepdim=True)))


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
    "softmax, all squeezed before": ("softmax", lambda x: x.squeeze().softmax(-1)),
    "softmax, squeezed and put back": ("softmax", lambda x: x.softmax(1).squeeze().view(-1, 4)),
    "softmax, indexed": ("softmax", lambda x: x.softmax(1)[..., 0]),
    "softmax, turned": ("softmax", lambda x: x.transpose(1, 2).softmax(-1).permute(0, 2, 1).flatten(1)),
    "softmax without gradient": ("softmax", lambda x: torch.no_grad()(torch.softmax)(x, 1).squeeze(-1)),
    "log of guarded softmax": ("softmax", lambda x: (x.softmax(1).flatten(1) + 1e-8).log()),
    "log of clamped softmax": ("softmax", lambda x: x.softmax(1).flatten(1).clamp(min=1e-8).log_()),
    "exp of log-softmax": ("log_softmax", lambda x: x.log_softmax(1).exp().flatten(1)),
    "softmax for images": ("softmax", lambda x: nn.Softmax2d()(x[..., None]).flatten(1)),
    "sigmoid in place": ("sigmoid", lambda x: x.flatten(1).sigmoid_()),
    "sigmoid in place, squeezed in place": ("sigmoid", lambda x: x.sigmoid_().squeeze_(-1)),
    "sigmoid module": ("sigmoid", lambda x: nn.Sigmoid()(x).view(len(x), -1)),
    "log of sigmoid": ("sigmoid", lambda x: x.sigmoid().log().flatten(1)),
    "log-sigmoid module": ("logsigmoid", lambda x: nn.LogSigmoid()(x).squeeze()),
    "hard sigmoid": ("hardsigmoid", lambda x: functional.hardsigmoid(x).flatten(1)),
    "hard sigmoid in place": ("hardsigmoid", lambda x: nn.Hardsigmoid(inplace=True)(x.flatten(1))),
    "nothing, squeezed": ("", lambda x: x.squeeze()),
}


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)


SETTINGS: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"steps": 4},
    "smoothgrad": {"samples": 3},
    "guided-grad-cam": {"layer": "conv"},
    "occlusion": {"rate": 1000, "window_ms": 50},
    "lime": {"samples": 12, "segments": 4},
}


def maps_of(net: nn.Module, sounds: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the maps of every method, and the logits that it explains."""
    found: dict[str, NDArray[np.float32]] = {}
    for method in METHODS:
        one = features.attribute(net, sounds, method=method, classes="all", **SETTINGS.get(method, {}))
        found[method], found[f"{method}, logits"] = one.maps, one.logits
    for method in get_args(CamMethod):
        cams = features.class_activation_maps(net, sounds, method=method, layer="conv")
        found[method], found[f"{method}, logits"] = cams.maps, cams.logits
    return found


@pytest.fixture
def plain() -> Net:
    return Net(flat).eval()


@pytest.fixture(scope="module")
def expected() -> dict[int, dict[str, NDArray[np.float32]]]:
    return {n: maps_of(Net(flat).eval(), SOUNDS[:n]) for n in (1, 3)}


@pytest.mark.parametrize(  # one sound alone is another case where a squeeze takes its axis, too
    ("name", "n"), [(name, n) for name in ENDS for n in (1, 3) if n == 3 or "squeeze" in name or "module" in name]
)
def test_what_is_taken_off_is_taken_off_in_every_method(
    plain: Net,
    expected: dict[int, dict[str, NDArray[np.float32]]],
    name: str,
    n: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind, end = ENDS[name]
    net, sounds = Net(end).eval(), SOUNDS[:n]
    with torch.no_grad():
        logits = plain(torch.tensor(sounds)).numpy()
    with caplog.at_level(logging.INFO, logger="brainmap"):
        found = features.extract_activations(net, sounds, layers="output")
    assert [r.args for r in caplog.records if "taken off" in r.message] == ([(kind,)] if kind else [])
    np.testing.assert_allclose(found["output"][:], logits, atol=1e-4)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="brainmap"):
        maps = maps_of(net, sounds)
    said = [r.args for r in caplog.records if "taken off" in r.message]
    assert set(said) == ({(kind,)} if kind else set())
    assert len(said) >= (len(METHODS) + len(get_args(CamMethod)) if kind else 0)
    for method, wanted in expected[n].items():
        np.testing.assert_allclose(maps[method], wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max(), err_msg=method)
        assert method in ("deconvolution",) or np.abs(wanted).max() > 0


@pytest.mark.parametrize("end", [torch.tanh, nn.Tanh(), lambda x: x.clone().tanh_()])
def test_a_tanh_at_the_end_is_part_of_the_score_in_every_method(plain: Net, end: Callable[[Tensor], Tensor]) -> None:
    net = Net(lambda x: end(x.flatten(1) / 40)).eval()
    with torch.no_grad():
        score = net(torch.tensor(SOUNDS)).numpy()
    np.testing.assert_allclose(
        features.extract_activations(net, SOUNDS, layers="output")["output"][:], score, atol=1e-6
    )
    slope = ((1 - score**2) / 40)[..., None, None]
    for method in ("saliency", "input-x-gradient"):
        one, other = (features.attribute(each, SOUNDS, method=method, classes="all") for each in (net, plain))
        np.testing.assert_allclose(one.logits, score, atol=1e-6)
        np.testing.assert_allclose(one.maps, slope * other.maps, rtol=1e-3, atol=1e-6)
    one, other = (features.attribute(each, SOUNDS, method="lrp", classes="all") for each in (net, plain))
    ratio = (score / other.logits)[..., None, None]  # relevance is in proportion to the score
    np.testing.assert_allclose(one.maps, ratio * other.maps, rtol=1e-3, atol=1e-6)
    cams, others = (features.class_activation_maps(each, SOUNDS, layer="conv") for each in (net, plain))
    np.testing.assert_allclose(cams.maps, slope[..., 0] * others.maps, rtol=1e-3, atol=1e-6)
    for method in ("guided-backpropagation", "deconvolution", "guided-grad-cam"):
        with pytest.raises(InputError, match="the network uses tanh"):
            features.attribute(net, SOUNDS, method=method, **SETTINGS.get(method, {}))


@pytest.mark.parametrize("end", [lambda x: torch.tanh(flat(x) * 100), lambda x: flat(x).sigmoid() * 100])
def test_a_saturated_end_that_stays_is_said(end: Callable[[Tensor], Tensor]) -> None:
    with pytest.warns(BrainmapWarning, match="saturated at its end"):
        features.attribute(Net(end).eval(), 100 * SOUNDS, method="saliency", classes="all")


HIDDEN: dict[str, Callable[[Tensor], Tensor]] = {
    "softmin": lambda x: functional.softmin(flat(x), 1),
    "written out": lambda x: (flat(x) / 40).exp() / (flat(x) / 40).exp().sum(1, keepdim=True),
    "twice": lambda x: flat(x).softmax(1).softmax(1),
    "guarded too late": lambda x: flat(x / 40).softmax(1) * 1.0,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_probabilities_that_cannot_be_taken_off_are_refused_by_every_method(name: str) -> None:
    net = Net(HIDDEN[name]).eval()
    for method in METHODS:
        with pytest.raises(InputError, match="probabilities"):
            features.attribute(net, SOUNDS, method=method, classes="all", **SETTINGS.get(method, {}))
    for method in get_args(CamMethod):
        with pytest.raises(InputError, match="probabilities"):
            features.class_activation_maps(net, SOUNDS, method=method, layer="conv")
    with pytest.raises(InputError, match="cannot be taken off"):
        features.maximize_activation(net, layer="output", units=[1], sounds=SOUNDS)


def test_a_choice_among_probabilities_is_refused_where_units_are_numbered_by_logits(plain: Net) -> None:
    net = Net(lambda x: flat(x).softmax(1)[:, 1:]).eval()
    np.testing.assert_allclose(
        features.class_activation_maps(net, SOUNDS, layer="conv").maps,
        features.class_activation_maps(plain, SOUNDS, layer="conv").maps[:, 1:],
        rtol=1e-4,
        atol=1e-5,
    )
    with pytest.raises(InputError, match="getitem then chooses or reorders"):
        features.maximize_activation(net, layer="output", units=[1], sounds=SOUNDS)


def test_layers_and_the_output_agree_on_what_is_taken_off(plain: Net) -> None:
    wanted = features.extract_activations(plain, SOUNDS, layers=["head", "output"], pooling="none")
    for name, (kind, end) in ENDS.items():
        found = features.extract_activations(Net(end).eval(), SOUNDS, layers=["head", "output"], pooling="none")
        for layer in ("head", "output"):
            values = found[layer][:].reshape(3, 4)
            said = f"{name}, {layer}, {kind}"
            np.testing.assert_allclose(values, wanted[layer][:].reshape(3, 4), atol=1e-4, err_msg=said)


@pytest.mark.parametrize("name", ENDS)
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
