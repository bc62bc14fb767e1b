from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap.errors import InputError, RunError
from brainmap.features.attribution.lrp import COMPOSITES, Composite, Rule, relevance
from brainmap.features.networks.zoo import build_network

Array = NDArray[np.floating[Any]]
ALL = np.tile(np.arange(3), (4, 1))
Z, PLUS, EPSILON = Rule(name="z"), Rule(name="z+"), Rule(name="epsilon")


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A network in float64 with biases and running statistics that matter."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = make().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return net


def small(act: type[nn.Module] = nn.ReLU, *, bias: bool = True) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv1d(1, 5, 5, padding=2, bias=bias),
            act(),
            nn.MaxPool1d(3),
            nn.Conv1d(5, 6, 3, padding=1, bias=bias),
            act(),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(36, 7, bias=bias),
            act(),
            nn.Linear(7, 3, bias=bias),
        )
    )


def normed(act: type[nn.Module] = nn.ReLU) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv1d(1, 5, 5, padding=2),
            nn.BatchNorm1d(5),
            act(),
            nn.MaxPool1d(3),
            nn.Conv1d(5, 6, 3, padding=1, bias=False),
            nn.BatchNorm1d(6),
            act(),
            nn.AdaptiveMaxPool1d(4),
            nn.Flatten(),
            nn.Linear(24, 8),
            nn.BatchNorm1d(8),
            act(),
            nn.Linear(8, 3),
        )
    )


@pytest.fixture
def sounds() -> Array:
    return np.random.default_rng(0).standard_normal((4, 1, 36)).astype(np.float32)


def input_x_gradient(net: Callable[[Tensor], Tensor], sounds: Array) -> Array:
    """Input times gradient of each logit, by autograd: (n, classes, ...)."""
    x = torch.as_tensor(sounds, dtype=torch.float64)
    jacobian: Tensor = torch.func.jacrev(lambda a: net(a).sum(0))(x)
    return (jacobian.movedim(0, 1) * x[:, None]).detach().numpy()


def all_sums(found: Any) -> Array:
    total: Array = found.maps.reshape(*found.maps.shape[:2], -1).sum(2) + found.absorbed
    return total


class Residual(nn.Module):
    """Branches, functions, in-place operations, a scale, a constant and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(1, 4, 5), nn.Conv1d(4, 4, 3)
        self.norm, self.out = nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu_(self.one(functional.pad((x - 0.1) / 2.0, (4, 0))))
        y = functional.pad(x, (1, 1))
        y = self.norm(self.two(y))
        y += x
        y.relu_()
        z = functional.max_pool1d(y, 2).mean(-1)
        return functional.softmax(self.out(z * 1.5 + 0.2), dim=1)

    def logits(self, x: Tensor) -> Tensor:
        y = functional.relu(self.one(functional.pad((x - 0.1) / 2.0, (4, 0))))
        y = functional.relu(self.norm(self.two(functional.pad(y, (1, 1)))) + y)
        out: Tensor = self.out(functional.max_pool1d(y, 2).mean(-1) * 1.5 + 0.2)
        return out


@pytest.mark.parametrize("make", [small, normed, lambda: seeded(Residual)])
def test_lrp_zero_on_a_relu_network_is_input_times_gradient(make: Callable[[], nn.Module], sounds: Array) -> None:
    net = make().eval()
    found = relevance(net, sounds, targets=ALL, rules="z")
    expected = input_x_gradient(net.logits if isinstance(net, Residual) else net, sounds)
    np.testing.assert_allclose(found.maps, expected, atol=1e-12)
    np.testing.assert_allclose(all_sums(found), found.logits, atol=1e-10)


@pytest.mark.parametrize("rules", ["z", "epsilon", "epsilon-plus", "epsilon-plus-flat"])
@pytest.mark.parametrize("act", [nn.ReLU, nn.ELU, nn.Tanh])
@pytest.mark.parametrize("make", [small, normed])
def test_relevance_and_what_biases_take_sum_to_the_logit(
    make: Callable[..., nn.Module], act: type[nn.Module], rules: str, sounds: Array
) -> None:
    found = relevance(make(act), sounds, targets=ALL, rules=rules)
    np.testing.assert_allclose(all_sums(found) + found.lost, found.logits, atol=1e-8)
    if rules == "z":
        np.testing.assert_allclose(found.lost, 0, atol=1e-8)
    elif act is nn.ReLU:  # what epsilon takes is small; of ELU and tanh, z+ also loses what only negative values gave
        np.testing.assert_allclose(found.lost, 0, atol=1e-4)


@pytest.mark.parametrize("rules", ["epsilon-gamma-box", "epsilon-alpha2-beta1-flat"])
def test_rules_for_relu_networks_sum_to_the_logit_too(rules: str, sounds: Array) -> None:
    found = relevance(small(), sounds / 4, targets=ALL, rules=rules)
    np.testing.assert_allclose(all_sums(found) + found.lost, found.logits, atol=1e-8)


def test_a_linear_network_gives_each_sample_its_weighted_value(sounds: Array) -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
    weight, bias = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    found = relevance(net, sounds, targets=ALL, rules="z")
    np.testing.assert_allclose(found.maps[:, :, 0], sounds * weight, atol=1e-14)
    np.testing.assert_allclose(found.absorbed, np.tile(bias, (4, 1)), atol=1e-12)


def dense(rule: Rule, a: Array, w: Array, b: Array, relevance_out: Array) -> Array:
    """One dense layer by the definitions, unit by unit."""
    arrived = np.zeros_like(a)
    for j in range(len(b)):
        for share, contributions, offset in contributions_of(rule, a, w[j], b[j]):
            total = contributions.sum() + offset
            total += rule.epsilon * (1 if total >= 0 else -1) if rule.name in ("epsilon", "gamma", "box") else 0
            if total != 0:
                arrived += share * relevance_out[j] * contributions / total
    return arrived


def contributions_of(rule: Rule, a: Array, w: Array, b: float) -> list[tuple[float, Array, float]]:
    z = a * w
    if rule.name == "z+":
        return [(1.0, z * (z > 0), max(b, 0))]
    if rule.name == "alpha-beta":
        return [(rule.alpha, z * (z > 0), max(b, 0)), (-rule.beta, z * (z < 0), min(b, 0))]
    if rule.name == "gamma":
        return [(1.0, a * (w + rule.gamma * w * (w > 0)), b + rule.gamma * max(b, 0))]
    if rule.name == "flat":
        return [(1.0, np.ones_like(w), 0.0)]
    if rule.name == "w2":
        return [(1.0, w**2, 0.0)]
    if rule.name == "box":
        return [(1.0, z - rule.low * np.maximum(w, 0) - rule.high * np.minimum(w, 0), 0.0)]
    return [(1.0, z, b)]


@pytest.mark.parametrize(
    "second", [EPSILON, Z, PLUS, Rule(name="gamma"), Rule(name="alpha-beta"), Rule(name="alpha-beta", alpha=3, beta=2)]
)
@pytest.mark.parametrize("first", [EPSILON, PLUS, Rule(name="flat"), Rule(name="w2"), Rule(name="box", low=-5, high=5)])
def test_two_dense_layers_equal_the_definitions(first: Rule, second: Rule, sounds: Array) -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3)))
    composite = Composite(convolution=EPSILON, dense=second, first=first)
    found = relevance(net, sounds, targets=ALL, rules=composite)
    (w1, b1, w2, b2) = (p.detach().numpy() for p in net.parameters())
    for item in range(4):
        x = sounds[item, 0].astype(float)
        hidden = np.maximum(w1 @ x + b1, 0)
        logits = w2 @ hidden + b2
        for k in range(3):
            between = dense(second, hidden, w2, b2, np.eye(3)[k] * logits)
            np.testing.assert_allclose(found.maps[item, k, 0], dense(first, x, w1, b1, between), atol=1e-10)


@pytest.mark.parametrize("name", ["z+", "flat", "w2", "epsilon"])
def test_a_convolution_is_the_dense_layer_of_its_matrix(name: Any, sounds: Array) -> None:
    convolution = seeded(lambda: nn.Sequential(nn.Conv1d(1, 3, 5, padding=2, stride=2), nn.Flatten(), nn.Linear(54, 3)))
    matrix = torch.func.jacrev(lambda a: convolution[0](a))(torch.zeros(1, 1, 36).double()).reshape(54, 36)
    spread = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 54), nn.Linear(54, 3)))
    with torch.no_grad():
        spread[1].weight.copy_(matrix)
        spread[1].bias.copy_(convolution[0].bias.repeat_interleave(18))
    spread[2] = convolution[2]
    rule = Rule(name=name)
    found, expected = (
        relevance(net, sounds, targets=ALL, rules=Composite(convolution=rule, dense=EPSILON, first=rule)).maps
        for net in (convolution, spread)
    )
    if name == "flat":  # the matrix has zeros outside of the window, which flat would count
        inside = (matrix != 0).double()
        hidden = matrix @ torch.as_tensor(sounds).double().reshape(4, 36).T + spread[1].bias[:, None]
        for k in range(3):
            contribution = (spread[2].weight[k][:, None] * hidden).detach()
            logit = contribution.sum(0) + spread[2].bias[k].detach()
            between = contribution * logit / (logit + 1e-6 * logit.sign())
            expected[:, k, 0] = ((inside / inside.sum(1, keepdim=True)).T @ between).T.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_two_dimensions_equal_one(sounds: Array) -> None:
    flat = small()
    wide = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 5, (1, 5), padding=(0, 2)),
            nn.ReLU(),
            nn.MaxPool2d((1, 3)),
            nn.Conv2d(5, 6, (1, 3), padding=(0, 1)),
            nn.ReLU(),
            nn.AvgPool2d((1, 2)),
            nn.Flatten(),
            nn.Linear(36, 7),
            nn.ReLU(),
            nn.Linear(7, 3),
        )
    )
    for ours, theirs in zip(wide.parameters(), flat.parameters(), strict=True):
        ours.data = theirs.data.reshape(ours.shape)
    found = relevance(wide, sounds[:, :, None], targets=ALL)
    np.testing.assert_allclose(found.maps[:, :, :, 0], relevance(flat, sounds, targets=ALL).maps, atol=1e-12)


def test_a_normalization_joined_by_hand_gives_the_same(sounds: Array) -> None:
    net = normed().eval()
    joined = nn.Sequential(
        *(
            nn.utils.fuse_conv_bn_eval(net[i], net[i + 1])
            if i in (0, 4)
            else nn.utils.fuse_linear_bn_eval(net[9], net[10])
            if i == 9
            else net[i]
            for i in range(len(net))
            if i not in (1, 5, 10)
        )
    )
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = relevance(net, sounds, targets=ALL)
    np.testing.assert_allclose(found.maps, relevance(joined, sounds, targets=ALL).maps, atol=1e-9)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_pooling_by_maximum_gives_all_to_the_winner_or_shares(sounds: Array) -> None:
    net = seeded(lambda: nn.Sequential(nn.MaxPool1d(4), nn.Flatten(), nn.Linear(9, 3)))
    heard = np.abs(sounds)
    windows = heard.reshape(4, 9, 4).astype(float)
    weight = net[2].weight.detach().numpy()
    between = weight * windows.max(2)[:, None]
    won = (windows == windows.max(2, keepdims=True))[:, None] * between[..., None]
    shared = (windows / windows.sum(2, keepdims=True))[:, None] * between[..., None]
    even = np.repeat(between[..., None] / 4, 4, axis=3)
    for maximum, expected in ((Rule(name="winner"), won), (Z, shared), (Rule(name="flat"), even)):
        rules = replace(COMPOSITES["z"], maximum=maximum)
        found = relevance(net, heard, targets=ALL, rules=rules)
        np.testing.assert_allclose(found.maps.reshape(4, 3, 9, 4), expected, atol=1e-9, err_msg=maximum.name)


def test_named_layers_take_their_own_rule(sounds: Array) -> None:
    net = seeded(lambda: build_network("ch32", variant="bn", n_classes=3, n_samples=2187))
    x, one = np.random.default_rng(1).standard_normal((1, 1, 2187)).astype(np.float32), ALL[:1, :1]
    mapped = relevance(net, x, targets=one, rules={"conv1": "flat", "conv*": "z+", "output": EPSILON})
    named = relevance(net, x, targets=one, rules="epsilon-plus-flat")
    np.testing.assert_array_equal(mapped.maps, named.maps)
    assert not np.allclose(named.maps, relevance(net, x, targets=one).maps)


@pytest.mark.parametrize(("name", "act"), [("base", "tanh"), ("ch32", "elu"), ("vgg", "relu")])
def test_every_network_of_the_zoo_keeps_the_logit(name: str, act: Any) -> None:
    samples = 9_000 if name == "base" else 2_187
    net = build_network(name, variant="do+bn", n_classes=3, n_samples=samples, activation=act)
    x = np.random.default_rng(1).standard_normal((1, 1, samples)).astype(np.float32)
    found = relevance(net, x, targets=ALL[:1, 1:])
    assert found.maps.dtype == np.float32
    np.testing.assert_allclose(all_sums(found) + found.lost, found.logits, rtol=1e-3, atol=1e-4)


def test_each_sound_has_its_own_targets_whatever_the_batch(sounds: Array) -> None:
    net = small()
    whole = relevance(net, sounds, targets=ALL)
    targets = np.array([[2, 0], [1, 1], [0, 2], [2, 1]])
    found = relevance(net, sounds, targets=targets, batch_size=3)
    for item in range(4):
        np.testing.assert_allclose(found.maps[item], whole.maps[item, targets[item]], atol=1e-12)
        np.testing.assert_allclose(found.absorbed[item], whole.absorbed[item, targets[item]], atol=1e-12)


@pytest.mark.parametrize("name", ["gamma", "alpha-beta"])
def test_rules_that_explode_on_negative_values_refuse_them(name: Any, sounds: Array) -> None:
    rules = replace(COMPOSITES["epsilon-plus"], convolution=Rule(name=name))
    relevance(small(), sounds, targets=ALL, rules=rules)
    with pytest.raises(InputError, match=r"layer '3' \(Conv1d\) hears negative values .* explodes .* give"):
        relevance(small(nn.ELU), sounds, targets=ALL, rules=rules)
    with pytest.raises(InputError, match="layer '0'"):  # a waveform is signed
        relevance(small(), sounds, targets=ALL, rules=replace(rules, first=None))


def test_a_box_smaller_than_the_sound_is_refused(sounds: Array) -> None:
    with pytest.raises(InputError, match="outside the box -1 to 1"):
        relevance(small(), sounds, targets=ALL, rules="epsilon-gamma-box")


class Around(nn.Module):
    """Something without a rule between two layers."""

    def __init__(self, inner: nn.Module | Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.inner, self.out = nn.Conv1d(1, 4, 5, padding=2), inner, nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.conv(x))
        y = y[0] if isinstance(y, tuple) else y
        out: Tensor = self.out(y.flatten(1))
        return out


def gated(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def changed(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = 0
    return x


REFUSED = [
    (lambda: nn.LSTM(36, 36, batch_first=True), r"layer 'inner' \(LSTM\) calls lstm"),
    (lambda: nn.MultiheadAttention(36, 2, batch_first=True), "inner"),
    (lambda: nn.GroupNorm(2, 4), r"layer 'inner' \(GroupNorm\) calls group_norm"),
    (lambda: nn.Sigmoid(), r"layer 'inner' \(Sigmoid\) calls sigmoid"),
    (lambda: nn.Hardtanh(0.5, 2.0), "hardtanh that makes 0.5 of zero"),
    (lambda: nn.Softmax(dim=1), "softmax before the end"),
    (lambda: nn.BatchNorm1d(4, track_running_stats=False), "without running statistics"),
    (lambda: gated, "the network itself calls sigmoid"),
    (lambda: lambda x: x * x, "mul by something that depends on the sound"),
    (lambda: lambda x: x.detach(), "calls detach"),
    (lambda: lambda x: x / float(x.max()), "the network itself calls float"),
    (lambda: lambda x: functional.dropout(x, 0.5), "dropout that goes on"),
    (lambda: lambda x: torch.fft.fft(x).abs(), "calls fft_fft"),
    (lambda: changed, "setitem"),
    (lambda: lambda x: x - x.mean(), "sounds of a batch meet"),
]


class _Attention(nn.Module):
    """Attention takes three arguments."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x, x, x)[0]
        return out


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_an_operation_without_a_rule_is_refused_by_name_and_leaves_no_trace(
    make: Callable[[], Any], words: str, sounds: Array
) -> None:
    inner = make()
    net = Around(_Attention(inner) if isinstance(inner, nn.MultiheadAttention) else inner)
    net.train()
    net.conv.eval()
    net.out.weight.requires_grad_(False)
    with pytest.raises(InputError, match=words):
        relevance(net, sounds, targets=ALL, rules="z")
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert net.training
    assert not net.conv.training
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
    assert torch.is_grad_enabled()


def test_a_network_that_is_followed_leaves_no_trace_and_no_gradient(sounds: Array) -> None:
    net = small().train()
    relevance(net, sounds, targets=ALL)
    assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_what_cannot_be_followed_is_found_out(sounds: Array) -> None:
    def through_a_view(x: Tensor) -> Tensor:
        x = x * 1.0
        x[:, :2].relu_()
        return x

    with pytest.raises(InputError, match="gives other logits"):
        relevance(Around(through_a_view), sounds, targets=ALL)
    with pytest.raises(InputError, match="returns one tensor of logits, got tuple"):
        relevance(nn.MaxPool1d(2, return_indices=True), sounds, targets=ALL)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.array([[0], [1], [2], [3]]), "expected classes from 0 to 2, got 0 to 3"),
        (np.array([0, 1, 2, 0]), r"expected integers \(4, n_chosen\)"),
        (np.zeros((4, 1)), "float64"),
    ],
)
def test_targets_must_fit(targets: Any, words: str, sounds: Array) -> None:
    with pytest.raises(InputError, match=words):
        relevance(small(), sounds, targets=targets)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("epsilon-puls", "did you mean 'epsilon-plus'"),
        ({"cov1": "flat"}, "nothing fits 'cov1'"),
        ({"0": "w3"}, "rule: expected one of"),
        ({"0": "winner"}, "'winner' is for pooling by maximum"),
    ],
)
def test_rules_must_exist(rules: Any, words: str, sounds: Array) -> None:
    with pytest.raises(InputError, match=words):
        relevance(small(), sounds, targets=ALL, rules=rules)


@pytest.mark.parametrize("given", [{"alpha": 2.0, "beta": 0.5}, {"epsilon": -1.0}, {"low": 1.0, "high": 0.0}])
def test_numbers_of_a_rule_must_make_sense(given: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Rule(name="alpha-beta", **given)


def test_relevance_that_is_not_finite_is_said(sounds: Array) -> None:
    net = small()
    with torch.no_grad():
        net[8].weight[0, 0] = float("nan")
    with pytest.raises(RunError, match="a logit is not finite"):
        relevance(net, sounds, targets=ALL)
    canceling = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 1), nn.Linear(1, 3)))
    with torch.no_grad():
        canceling[1].weight[0] = 1e300 * (-1.0) ** torch.arange(36, dtype=torch.float64)
        canceling[1].bias.fill_(1.0)
        canceling[2].weight.fill_(1e10)
    with pytest.raises(RunError, match="relevance of item '0' is not finite"):
        relevance(canceling, np.ones((4, 1, 36), np.float32), targets=ALL, rules="z")


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_networks_of_narrow_precision_are_refused_by_name(precision: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).to(precision)
    with pytest.raises(InputError, match=rf"lrp: expected a network of float32 or float64.*got {str(precision)[6:]}"):
        relevance(net, np.zeros((1, 1, 20), np.float32), targets=np.array([[0]]))
