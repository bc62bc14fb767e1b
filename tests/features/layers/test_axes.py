"""Units are never averaged: which axis of an activation holds the items, the units and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from brainmap import features
from brainmap.errors import InputError

UNITS, LENGTH = 12, 320
SOUNDS: NDArray[np.float32] = np.random.default_rng(0).standard_normal((3, 1, LENGTH)).astype(np.float32)


class Tokens(nn.Module):
    """A convolution, then `middle` on tokens in some order of axes, then a mean over time and a head."""

    def __init__(self, middle: nn.Module, order: str, *, fixed: bool = False) -> None:
        super().__init__()
        self.conv, self.middle, self.order = nn.Conv1d(1, UNITS, 20, stride=10), middle, order
        self.place = nn.Parameter(torch.randn(1, UNITS, 31)) if fixed else None
        self.fc = nn.Linear(UNITS, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)  # (n, units, time)
        if self.place is not None:
            x = x + self.place  # at any other length it fails here
        x = {"nct": x, "ntc": x.transpose(1, 2), "tnc": x.permute(2, 0, 1)}[self.order]
        out: Any = self.middle(x)
        x = out[0] if isinstance(out, tuple) else out
        return torch.as_tensor(self.fc(x.mean({"nct": 2, "ntc": 1, "tnc": 0}[self.order])))


class Itself(nn.Module):
    """Self attention, with its weights beside."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(UNITS, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Any:
        return self.inner(x, x, x)


class Block(nn.Module):
    """Somebody's own block: normalization, a function, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(UNITS), nn.Linear(UNITS, 30), nn.Linear(30, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.down(functional.gelu(self.up(self.norm(x)))))


class Convs(nn.Module):
    """Convolutions with a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(UNITS, UNITS, 3, padding=1), nn.Conv1d(UNITS, UNITS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.two(torch.relu(self.one(x))))


def encoder(**given: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(UNITS, 2, 24, dropout=0.0, **given)


CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "linear": (lambda: nn.Linear(UNITS, UNITS), "ntc"),
    "layer-norm": (lambda: nn.LayerNorm(UNITS), "ntc"),
    "attention": (lambda: Itself(batch_first=True), "ntc"),
    "attention, time first": (lambda: Itself(batch_first=False), "tnc"),
    "encoder": (lambda: encoder(batch_first=True), "ntc"),
    "encoder, time first": (lambda: encoder(), "tnc"),
    "two encoders": (lambda: nn.TransformerEncoder(encoder(batch_first=True), 2, enable_nested_tensor=False), "ntc"),
    "gru": (lambda: nn.GRU(UNITS, UNITS, batch_first=True), "ntc"),
    "lstm, time first": (lambda: nn.LSTM(UNITS, UNITS), "tnc"),
    "block": (Block, "ntc"),
    "convs": (Convs, "nct"),
    "sequence": (lambda: nn.Sequential(nn.Conv1d(UNITS, UNITS, 1), nn.ReLU(), nn.Dropout(0.1)), "nct"),
    "sequence of linear": (lambda: nn.Sequential(nn.Linear(UNITS, UNITS), nn.GELU(), nn.Dropout(0.1)), "ntc"),
    "relu": (nn.ReLU, "ntc"),
    "relu of channels": (nn.ReLU, "nct"),
    "identity": (nn.Identity, "ntc"),
    "batch norm": (lambda: nn.BatchNorm1d(UNITS), "nct"),
    "pooling": (lambda: nn.AvgPool1d(3), "nct"),
}


def built(name: str, *, fixed: bool = False) -> tuple[Tokens, str]:
    make, order = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokens(make(), order, fixed=fixed).eval(), order


def by_hand(net: Tokens, layer: str, order: str) -> NDArray[np.float32]:
    """What a plain hook hears, as (items, units, time)."""
    kept: list[Tensor] = []
    hook = dict(net.named_modules())[layer].register_forward_hook(
        lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        net(torch.tensor(SOUNDS))
    hook.remove()
    x: NDArray[np.float32] = kept[0].permute({"nct": (0, 1, 2), "ntc": (0, 2, 1), "tnc": (1, 2, 0)}[order]).numpy()
    return x


@pytest.mark.parametrize("fixed", [False, True], ids=["any length", "one length"])
@pytest.mark.parametrize("name", CASES)
def test_pooling_is_over_time_whatever_the_order_of_axes(name: str, fixed: bool) -> None:
    net, order = built(name, fixed=fixed)
    layer = "middle.inner" if name.startswith("attention") else "middle"
    wanted = by_hand(net, layer, order)
    for pooling, of in (
        ("mean", wanted.mean(2)),
        ("max", wanted.max(2)),
        ("rms", np.sqrt((wanted**2).mean(2))),
        ("none", wanted),
    ):
        found = features.extract_activations(net, SOUNDS, layers=[layer], pooling=pooling, batch_size=2)  # type: ignore[arg-type]
        np.testing.assert_allclose(found[layer][:], of, atol=2e-5)


@pytest.mark.parametrize("name", ["block", "encoder", "sequence of linear", "two encoders"])
def test_layers_within_blocks_are_pooled_over_time_too(name: str) -> None:
    net, order = built(name)
    found = features.extract_activations(net, SOUNDS, layers="linear")
    modules = [one for one in found.layers if one != "output" and "self_attn" not in one]  # those are functions
    assert modules
    for layer in modules:
        listed = {one.name: one for one in features.list_layers(net, SOUNDS)}[layer]
        wanted = by_hand(net, layer, order)
        kept = functional.gelu(torch.tensor(wanted)).numpy() if layer.endswith(("up", "middle.0")) else wanted
        kept = np.maximum(wanted, 0) if layer.endswith("linear1") else kept  # with the nonlinearity that follows
        assert listed.shape == wanted.shape[1:]
        np.testing.assert_allclose(found[layer][:], kept.mean(2), atol=2e-5)


class Opaque(nn.Module):
    """Attention maps between moments: no axis of theirs holds units."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.maps, self.fc = nn.Conv1d(1, 6, 20, stride=10), Outer(), nn.Linear(31, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(self.maps(self.conv(x)).mean(1)))


class Outer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x.transpose(1, 2), x)


def test_a_layer_whose_axes_are_not_known_is_refused_by_name_unless_they_are_said() -> None:
    net = Opaque().eval()
    said = r"'maps' \(Outer\) gives .*units is not known; name a layer inside.*units_axis"
    with pytest.raises(InputError, match=said):
        features.extract_activations(net, SOUNDS, layers=["maps"])
    with torch.no_grad():
        wanted = net.maps(net.conv(torch.tensor(SOUNDS))).numpy()
    for axis in (-1, 2, {"maps": 2}):
        found = features.extract_activations(net, SOUNDS, layers=["maps", "conv"], units_axis=axis)  # type: ignore[arg-type]
        np.testing.assert_allclose(found["maps"][:], wanted.mean(1), atol=1e-4)
        assert found["conv"].shape == (3, 6)  # known, and so left alone
    for axis, why in ((0, "which holds the items"), (3, "which has 3 axes; give 1 to 2, or -1")):
        with pytest.raises(InputError, match=f"expected an axis of units, got {axis} for layer 'maps' .*, {why}"):
            features.extract_activations(net, SOUNDS, layers=["maps"], units_axis=axis)
    with pytest.raises(InputError, match=r"units_axis: layer: expected one of .*, got 'map'"):
        features.extract_activations(net, SOUNDS, layers=["maps"], units_axis={"map": 1})


class Spectrum(nn.Module):
    """Magnitudes (n, 1, bands, frames), computed by no operation whose axes are known."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(torch.eye(9), x[:, 0].unfold(1, 16, 8).transpose(1, 2)[:, :9]).abs()[:, None]


class Inside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front, self.conv, self.head = Spectrum(), nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
        self.cube = nn.Unflatten(1, (2, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv(self.front(x)).mean((2, 3))
        return torch.as_tensor(self.head(self.cube(found).flatten(1)))


@pytest.mark.parametrize("axis", [None, 1, 2, -1, {"front": 1}, {"front": 2}])
def test_frequency_is_never_pooled_whichever_axis_is_said_to_hold_units(
    axis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    net = Inside().eval()
    with torch.no_grad():
        wanted = net.front(torch.tensor(SOUNDS)).numpy().mean(3)[:, 0]
    found = features.extract_activations(net, SOUNDS, layers=["front"], units_axis=axis)
    np.testing.assert_allclose(found["front"][:], wanted, atol=1e-6)
    told = "units_axis: layer 'front' (Spectrum): units on axis 2 (9), other on axis 1 (1), time on axis 3"
    assert (told in caplog.text) == (axis == {"front": 2})


def test_an_axis_of_time_or_one_beside_several_unknown_ones_is_no_axis_of_units() -> None:
    net = Inside().eval()
    with pytest.raises(InputError, match=r"got -1 for layer 'front' \(Spectrum\), which holds time, since its length"):
        features.extract_activations(net, SOUNDS, layers=["front"], units_axis={"front": -1})
    said = r"got 1 for layer 'cube' \(Unflatten\), of whose axes 2, 3 it is not known which holds time"
    with pytest.raises(InputError, match=said):
        features.extract_activations(net, SOUNDS, layers=["cube"], units_axis=1)
    assert features.extract_activations(net, SOUNDS, layers=["cube"], pooling="flatten")["cube"].shape == (3, 4)


def test_all_layers_are_those_whose_units_are_known_and_the_others_are_named(caplog: pytest.LogCaptureFixture) -> None:
    class Listed(Opaque):
        def forward(self, x: Tensor) -> Any:
            maps = self.maps(self.conv(x))
            return {"maps": maps, "logits": self.fc(maps.mean(1))}

    net = Listed().eval()
    found = features.extract_activations(net, SOUNDS, layers="all")
    assert found.layers == ("conv", "fc", "output")
    assert (
        "1 of 4 layers are left out, since it is not known which of their axes holds units: 'output.maps'"
        in caplog.text
    )
    assert "output.maps" in features.extract_activations(net, SOUNDS, layers="all", units_axis=-1).layers


def test_items_and_time_in_one_axis_are_refused() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv1d(1, 6, 20, stride=10), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).transpose(1, 2)
            return torch.as_tensor(self.fc(y.reshape(-1, 6))).reshape(len(x), -1, 2).mean(1)

    with pytest.raises(InputError, match=r"'fc' \(Linear\) gives .* units is not known"):
        features.extract_activations(Folded().eval(), SOUNDS, layers=["fc"])


def test_everything_that_uses_units_agrees_on_them() -> None:
    net, order = built("sequence of linear")
    wanted = functional.gelu(torch.tensor(by_hand(net, "middle.0", order))).numpy()
    layer = {one.name: one for one in features.list_layers(net, SOUNDS)}["middle.0"]
    assert layer.shape == (UNITS, 31)
    assert (layer.receptive_field, layer.stride, layer.center) == (20, 10, 9.5)  # of the convolution before it
    found = features.find_exemplars(net, SOUNDS, layer="middle.0", k=1, rate=1000)
    np.testing.assert_allclose(found.table["value"], wanted.max(axis=(0, 2)), atol=2e-5)
    np.testing.assert_array_equal(found.table["frame"], [int(wanted[:, u].max(0).argmax()) for u in range(UNITS)])
    quick = features.TuningSettings(lowest_hz=50, highest_hz=400, per_step=1, levels_db=[0], ramp_ms=1)
    assert (
        features.measure_tuning(net, SOUNDS, layers=["middle.0"], settings=quick, rate=1000)
        .responses["middle.0"]
        .shape[0]
        == UNITS
    )
    few = features.MaximizationSettings(steps=2, jitter_ms=0)
    am = features.maximize_activation(net, layer="middle.0", units="all", sounds=SOUNDS, rate=1000, settings=few)
    assert len(am.labels) == UNITS
    with torch.no_grad(), features.tap(net, "middle.0") as heard:
        net(torch.tensor(am.patterns))
        own = heard["middle.0"].mean(1).diagonal()
    np.testing.assert_allclose(am.quality["objective"], own, atol=1e-4)
    cams = features.class_activation_maps(net, SOUNDS, layer="middle.1", method="hires-cam", upsample=False)
    with torch.no_grad():
        bias = net.fc.bias.numpy()
    np.testing.assert_allclose(cams.maps.sum(2), cams.logits - bias, atol=1e-4)  # a linear head: maps add up to it


def test_kinds_find_subclasses_and_parametrized_modules() -> None:
    class Own(nn.Conv1d):
        """Somebody's own convolution."""

    class Narrow(nn.Linear):
        """Somebody's own linear layer."""

    net = nn.Sequential(
        nn.Conv1d(1, 4, 5),
        parametrizations.weight_norm(nn.Conv1d(4, 4, 5)),
        nn.ReLU(),
        nn.LazyConv1d(3, 5),
        Own(3, 6, 5),
        nn.Tanh(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        parametrizations.weight_norm(nn.Linear(6, 6)),
        nn.Tanh(),
        Narrow(6, 2),
    ).eval()
    assert features.extract_activations(net, SOUNDS, layers="conv").layers == ("0", "1", "3", "4")
    assert features.extract_activations(net, SOUNDS, layers="last-conv").layers == ("4",)
    assert features.extract_activations(net, SOUNDS, layers="Conv1d").layers == ("0", "1", "3", "4")
    assert features.extract_activations(net, SOUNDS, layers="Own").layers == ("4",)
    assert features.extract_activations(net, SOUNDS, layers="linear").layers == ("8", "output")
    assert [one.kind for one in features.list_layers(net, SOUNDS)] == [
        "Conv1d",
        "Conv1d",
        "Conv1d",
        "Own",
        "Linear",
        "Narrow",
    ]
    assert features.class_activation_maps(net, SOUNDS).layer == "4"
