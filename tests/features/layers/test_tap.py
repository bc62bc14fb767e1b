from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import InputError, RunError
from brainmap.features.layers.receptive_fields import Axis, upsample
from brainmap.features.layers.running import find_broken_module
from brainmap.features.layers.selection import select_layers
from brainmap.features.networks.zoo import build_network

FIELDS_OF_CH32 = [5, 19, 61, 187, 565, 1699, 5101, 15307]


class Residual(nn.Module):
    """Written as many people write networks: functions for nonlinearities, one pooling used twice, a skip, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 4, 7, stride=2, padding=3)
        self.bn = nn.BatchNorm1d(4)
        self.pool = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.bn(self.conv1(x)), inplace=True))
        y = torch.tanh(self.conv2(x))
        y += x
        return torch.softmax(self.fc(self.pool(y).mean(2)), dim=1)


@pytest.fixture
def residual() -> Residual:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Residual().eval()


def seen_by(net: nn.Module, layer: str, length: int, frame: int) -> tuple[int, int]:
    """First and last sample that a unit's gradient reaches, in a network of positive weights."""
    x = torch.ones(1, 1, length, requires_grad=True)
    with features.tap(net, layer, gradient=True) as heard:
        net(x)
        (gradient,) = torch.autograd.grad(heard[layer][0, :, frame].sum(), x)
    reached = gradient[0, 0].nonzero()[:, 0]
    return int(reached[0]), int(reached[-1])


def test_receptive_fields_and_centers_of_ch32_are_those_of_its_gradients() -> None:
    net = build_network("ch32", variant="bn").eval()
    layers = features.list_layers(net, torch.zeros(1, 1, 16000))
    assert [found.receptive_field for found in layers[:8]] == FIELDS_OF_CH32
    # averages reach every sample where a maximum reaches one
    smooth = nn.Sequential(*(nn.AvgPool1d(3) if isinstance(m, nn.MaxPool1d) else m for m in net)).eval()
    names = {name: str(i) for i, (name, _) in enumerate(net.named_children())}
    with torch.no_grad():
        for parameter in smooth.parameters():
            parameter.fill_(1e-2)
    for found in layers[:8]:
        assert isinstance(found.receptive_field, int)
        assert isinstance(found.stride, int)
        assert isinstance(found.center, float)
        frame = found.shape[1] // 2
        first, last = seen_by(smooth, names[found.name], 16000, frame)
        half = (found.receptive_field - 1) / 2
        middle = found.center + frame * found.stride
        assert (first, last) == (max(0, middle - half), min(15999, middle + half)), found.name


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("seed", range(5))
def test_centers_of_random_stacks_are_those_of_their_gradients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack: list[nn.Module] = []
    for _ in range(4):
        kernel, stride, dilation = (int(v) for v in rng.integers(1, [8, 4, 3]))
        stack += [nn.Conv1d(1, 1, kernel, stride, int(rng.integers(0, kernel)), dilation), nn.Softplus()]
    stack += [nn.AvgPool1d(2, 2), nn.Conv1d(1, 1, 4, padding="same"), nn.ConstantPad1d((3, 1), 0.0), nn.Conv1d(1, 1, 2)]
    net = nn.Sequential(*stack).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)
    last = features.list_layers(net, torch.zeros(1, 1, 4000))[-1]
    assert isinstance(last.receptive_field, int)
    assert isinstance(last.center, float)
    assert isinstance(last.stride, int)
    frame = last.shape[1] // 2
    middle, half = last.center + frame * last.stride, (last.receptive_field - 1) / 2
    assert seen_by(net, str(len(stack) - 1), 4000, frame) == (middle - half, middle + half)


def test_parameters_of_all_layers_are_those_of_the_network() -> None:
    for name, variant, expected in (("base", "plain", 1855056), ("ch32", "plain", 94768), ("ch128", "bn", 2071184)):
        net = build_network(name, variant=variant)  # type: ignore[arg-type]
        layers = features.list_layers(net, torch.zeros(1, 1, 16000))
        assert sum(found.parameters for found in layers) == expected
        assert layers[-1].name == "output"


def test_two_dimensional_layers_have_a_field_an_axis() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, (3, 5), padding=(1, 2)), nn.ReLU(), nn.MaxPool2d((1, 4)), nn.Conv2d(2, 2, 3))
    first, last = features.list_layers(net, torch.zeros(1, 1, 8, 40))
    assert first.receptive_field == (3, 5)
    assert last.receptive_field == (5, 5 + 3 + 8)
    assert last.stride == (1, 4)
    assert last.center == (1.0, 1.5 + 4)


def test_anybodys_network_is_followed_through_functions_shared_modules_and_skips(residual: Residual) -> None:
    layers = features.list_layers(residual, torch.zeros(2, 1, 32))
    assert [(found.name, found.shape, found.receptive_field) for found in layers] == [
        ("conv1", (4, 16), 7),
        ("conv2", (4, 8), 7 + 2 + 8),
        ("output", (3,), 32),
    ]
    x = torch.randn(2, 1, 32)
    with torch.no_grad():
        normed = residual.bn(residual.conv1(x))
        conv2 = residual.conv2(residual.pool(normed.relu()))
        logits = residual.fc(residual.pool(conv2.tanh() + residual.pool(normed.relu())).mean(2))
        with features.tap(residual, ["conv1", "conv2", "output"]) as heard:
            residual(x)
        torch.testing.assert_close(heard["conv1"], normed.relu())
        torch.testing.assert_close(heard["conv2"], conv2.tanh())  # not what `y += x` made of it
        torch.testing.assert_close(heard["output"], logits)  # not the softmax
        with features.tap(residual, ["conv1", "conv2"], stage="before") as heard:
            residual(x)
        torch.testing.assert_close(heard["conv1"], normed)
        torch.testing.assert_close(heard["conv2"], conv2)


def test_a_layer_is_what_it_was_before_another_view_of_it_changes_in_place() -> None:
    class Viewed(nn.Module):
        def __init__(self, change: Callable[[Tensor], None]) -> None:
            super().__init__()
            self.conv, self.change = nn.Conv1d(1, 2, 3), change

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            self.change(y)
            out: Tensor = y.mean(2)
            return out

    def set_items(y: Tensor) -> None:
        y[:, 0] = 0

    def turn(y: Tensor) -> None:
        y.unsqueeze_(0).squeeze_(0)

    x = torch.randn(1, 1, 9)
    for change in (set_items, turn, lambda y: y.flatten(1).mul_(3), lambda y: y[0].zero_()):
        net = Viewed(change)
        wanted = net.conv(x).detach()
        for gradient in (False, True):
            with torch.set_grad_enabled(gradient), features.tap(net, ["conv"], gradient=gradient) as heard:
                net(x)
            torch.testing.assert_close(heard["conv"].detach(), wanted)
        assert [found.name for found in features.list_layers(net, x)] == ["conv", "output"]


def test_a_module_called_twice_has_two_layers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.conv(torch.relu(self.conv(x)))).mean(2)

    net = Twice()
    assert [found.name for found in features.list_layers(net, torch.zeros(1, 1, 9))] == ["conv", "conv#2", "output"]
    x = torch.randn(1, 1, 9)
    with torch.no_grad(), features.tap(net, ["conv#2"]) as heard:
        net(x)
    torch.testing.assert_close(heard["conv#2"], torch.relu(net.conv(torch.relu(net.conv(x)))))


def test_both_calls_of_a_module_are_the_same_whether_asked_for_together_or_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv1d(1, 1, 3, padding=1), nn.ReLU(inplace=True), nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.relu(self.conv(x))
            y = self.conv(y)
            y += x
            return torch.as_tensor(self.head(self.relu(y).flatten(1)))

    net, x = Twice().eval(), np.random.default_rng(0).standard_normal((2, 1, 9)).astype(np.float32)
    with torch.no_grad():
        first = torch.relu(net.conv(torch.tensor(x)))
        second = net.conv(first)
    for asked in (["conv", "conv#2"], "all", ["conv#2"], ["conv"], ["conv#2", "relu", "conv"]):
        found = features.extract_activations(net, x, layers=asked, pooling="none")
        for name, wanted in (("conv", first), ("conv#2", second)):
            if asked == "all" or name in asked:
                np.testing.assert_allclose(found[name][:], wanted, atol=1e-6)
    with features.tap(net, ["conv#2", "conv"], gradient=True) as heard:
        net(torch.tensor(x))
        (grown,) = torch.autograd.grad(heard["conv#2"].sum(), heard["conv"])
    back = functional.conv_transpose1d(torch.ones(2, 1, 9), net.conv.weight, padding=1)
    torch.testing.assert_close(grown, back)
    for name, called in (("conv", 1), ("conv#2", 2)):
        am = features.maximize_activation(
            net, layer=name, units=[0], sounds=x, settings=features.MaximizationSettings(steps=1, jitter_ms=0)
        )
        assert am.layer == name, called
    with pytest.raises(InputError, match="'conv' is called 2 times"):
        features.maximize_activation(net, layer="conv#3", units=[0], sounds=x)


@pytest.mark.parametrize("cut", [False, True])
def test_gradients_of_a_tapped_layer_are_those_of_the_rest_of_the_network(residual: Residual, cut: bool) -> None:
    x = torch.randn(2, 1, 32)
    with features.tap(residual, ["conv2", "output"], gradient=True, cut=cut) as heard:
        residual(x)
        (found,) = torch.autograd.grad(heard["output"][:, 1].sum(), heard["conv2"])
    pooled = residual.pool(functional.relu(residual.bn(residual.conv1(x)))).detach()
    a = torch.tanh(residual.conv2(pooled)).detach().requires_grad_()
    logits = residual.fc(residual.pool(a + pooled).mean(2))
    torch.testing.assert_close(found, torch.autograd.grad(logits[:, 1].sum(), a)[0])
    assert torch.is_grad_enabled()


def test_a_tap_with_gradient_stays_connected_to_an_input_that_needs_one(residual: Residual) -> None:
    x = torch.randn(1, 1, 32, requires_grad=True)
    with features.tap(residual, "conv1", gradient=True) as heard:
        residual(x)
        (found,) = torch.autograd.grad(heard["conv1"].sum(), x)
    by_hand = functional.relu(residual.bn(residual.conv1(x))).sum()
    torch.testing.assert_close(found, torch.autograd.grad(by_hand, x)[0])


def test_nothing_is_left_after_an_error_and_the_next_forward_pass_is_unwatched(residual: Residual) -> None:
    with pytest.raises(RuntimeError), features.tap(residual, ["conv1"], gradient=True, cut=True):
        residual(torch.zeros(1, 2, 32))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in residual.modules())
    assert torch.is_grad_enabled()
    assert torch._C._len_torch_function_stack() == 0
    assert residual(torch.zeros(1, 1, 32)).requires_grad


def test_a_layer_that_takes_no_part_is_told(residual: Residual) -> None:
    residual.add_module("spare", nn.Linear(2, 2))
    with pytest.raises(RunError, match="'spare' took no part"), features.tap(residual, "spare"):
        residual(torch.zeros(1, 1, 32))
    assert "spare" not in [found.name for found in features.list_layers(residual, torch.zeros(1, 1, 32))]
    with pytest.raises(InputError, match="no 'conv3' in the network; did you mean"), features.tap(residual, "conv3"):
        pass


def test_layers_are_selected_by_name_glob_and_last_conv_in_the_order_of_the_network(residual: Residual) -> None:
    x = torch.zeros(1, 1, 32)
    assert select_layers(residual, x, "all") == ("conv1", "conv2", "output")
    assert select_layers(residual, x, ["output", "conv*"]) == ("conv1", "conv2", "output")
    assert select_layers(residual, x, "last-conv") == ("conv2",)
    assert select_layers(residual, x, ["pool"]) == ("pool",)
    with pytest.raises(InputError, match="nothing fits 'conv9\\*'"):
        select_layers(residual, x, "conv9*")


def test_an_operation_without_a_rule_makes_the_field_unknown_not_wrong() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.conv(x.reshape(len(x), 2, -1)))

    found = features.list_layers(Folded(), torch.zeros(1, 1, 20))[-1]
    assert found.receptive_field is None
    assert found.center is None


def test_a_gate_over_the_whole_sound_widens_the_field_and_keeps_the_positions() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 5, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return torch.as_tensor(y * torch.sigmoid(y.mean(2, keepdim=True)))

    found = features.list_layers(Gated(), torch.zeros(1, 1, 21))[-1]
    assert (found.name, found.receptive_field, found.stride, found.center) == ("output", 21, 2, 2.0)


def test_branches_join_to_the_union_of_their_windows() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.short, self.long = nn.Conv1d(1, 2, 3, padding=1), nn.Conv1d(1, 2, 9, padding=4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.short(x), self.long(x)], dim=1)

    assert features.list_layers(Branches(), torch.zeros(1, 1, 21))[-1].receptive_field == 9


@pytest.mark.parametrize("n_frames", [1, 7, 300])
def test_upsampling_is_interpolation_between_centers_with_held_edges(n_frames: int) -> None:
    rng = np.random.default_rng(0)
    course = rng.standard_normal((2, n_frames), np.float32)
    axis = Axis(1, 1, 0.0).window(5, stride=1, left=2).window(3, stride=3, left=0)
    found = upsample(course, 1000, center=axis.center, stride=axis.stride)
    place = np.full((4, 1000), np.nan, np.float32)
    for out in (place[:2], place[::2]):  # in one piece, and not
        assert upsample(course, 1000, center=axis.center, stride=axis.stride, out=out) is out
    assert np.isnan(place[3]).all()
    for row in range(2):
        expected = np.interp(np.arange(1000), axis.center + axis.stride * np.arange(n_frames), course[row])
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
        np.testing.assert_allclose(place[2 * row], expected, atol=1e-5)


def test_the_module_where_numbers_break_is_found_and_no_hook_is_left() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 2, 3)).eval()
    net[2].weight.data.fill_(torch.inf)
    assert find_broken_module(net, torch.ones(1, 1, 8)) == "2"
    net[2].weight.data.fill_(1.0)
    assert find_broken_module(net, torch.ones(1, 1, 8)) is None
    assert not any(module._forward_hooks for module in net.modules())
