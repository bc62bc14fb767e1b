import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError, RunError
from brainmap.features.attribution import cam
from brainmap.features.layers.shortcuts import Shortcut, run_by_shortcuts as run_by
from brainmap.types import CamMethod

Array = NDArray[np.float32]
GRADIENT_METHODS: tuple[CamMethod, ...] = ("grad-cam", "grad-cam++", "xgrad-cam", "layer-cam", "hires-cam")


def network(head: str = "flatten", act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    pooled: dict[str, list[nn.Module]] = {
        "flatten": [nn.Flatten(), nn.Linear(6 * 12, 4)],
        "gap": [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 4)],
        "gmp": [nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(6, 4)],
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv1d(1, 5, 5, padding=2),
            nn.BatchNorm1d(5),
            act(),
            nn.MaxPool1d(3),
            nn.Conv1d(5, 6, 3, padding=1),
            act(),
            *pooled[head],
        ).eval()


@pytest.fixture
def sounds() -> Array:
    return np.random.default_rng(0).standard_normal((5, 1, 36), np.float32)


def linear(net: nn.Sequential) -> tuple[Array, Array]:
    """Weights and bias of the last layer."""
    last = net[-1]
    assert isinstance(last, nn.Linear)
    return last.weight.detach().numpy(), last.bias.detach().numpy()


def at_last_convolution(net: nn.Sequential, sounds: Array) -> tuple[Tensor, Tensor]:
    """Activations after the last nonlinearity, and the full Jacobian of the logits there, by hand."""
    with torch.no_grad():
        activation = net[:6](torch.as_tensor(sounds))
    jacobian: Tensor = torch.func.jacrev(lambda a: net[6:](a).sum(0))(activation)
    return activation, jacobian.detach().movedim(0, 1)  # (n, k, p), (n, classes, k, p)


def test_cam_with_global_average_pooling_has_the_logit_as_its_mean(sounds: Array) -> None:
    net = network("gap")
    cams = features.class_activation_maps(net, sounds, method="cam", upsample=False)
    np.testing.assert_allclose(cams.maps.mean(2) + linear(net)[1], cams.logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cams.logits, net(torch.as_tensor(sounds)).detach(), rtol=1e-5, atol=1e-6)


def test_cam_with_global_max_pooling_has_the_logit_at_each_channels_maximum(sounds: Array) -> None:
    net = network("gmp")
    cams = features.class_activation_maps(net, sounds, method="cam", upsample=False)
    activation, _ = at_last_convolution(net, sounds)
    weight, bias = linear(net)
    np.testing.assert_allclose(cams.logits, activation.numpy().max(2) @ weight.T + bias, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cams.maps, np.einsum("ck,nkp->ncp", weight, activation), rtol=1e-5, atol=1e-6)


@pytest.mark.bits
@pytest.mark.parametrize("method", ["cam", "grad-cam", "score-cam"])
def test_threads_do_not_change_a_bit_of_a_map(sounds: Array, method: CamMethod) -> None:
    net, many = network("gap"), np.concatenate([sounds, sounds[::-1], 2 * sounds])
    alone = features.class_activation_maps(net, many, method=method, batch_size=2, threads=1)
    before = torch.get_num_threads()
    for threads in (2, 3):
        beside = features.class_activation_maps(net, many, method=method, batch_size=2, threads=threads)
        np.testing.assert_array_equal(beside.maps, alone.maps)
        np.testing.assert_array_equal(beside.logits, alone.logits)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_the_sound_of_a_later_batch_that_cannot_be_mapped_is_named(sounds: Array, threads: int) -> None:
    many = np.concatenate([sounds, sounds, sounds])
    many[7, 0, 3] = np.nan
    with pytest.raises(RunError, match="of item '7'"):
        features.class_activation_maps(network(), many, batch_size=2, threads=threads)


@pytest.mark.parametrize("act", [nn.ReLU, nn.ELU])
def test_hires_cam_with_a_flatten_head_sums_to_the_logit(sounds: Array, act: type[nn.Module]) -> None:
    net = network("flatten", act)
    cams = features.class_activation_maps(net, sounds, method="hires-cam", upsample=False)
    np.testing.assert_allclose(cams.maps.sum(2) + linear(net)[1], cams.logits, rtol=1e-4, atol=1e-6)


def test_three_implementations_of_cam_agree(sounds: Array) -> None:
    net = network("gap")
    found = features.class_activation_maps(net, sounds, method="cam", upsample=False).maps
    activation, _ = at_last_convolution(net, sounds)
    weight, _ = linear(net)
    naive = np.zeros_like(found)
    for item in range(5):
        for name in range(4):
            for channel in range(6):
                naive[item, name] += float(weight[name, channel]) * activation[item, channel].numpy()
    better = np.tensordot(activation.numpy(), weight, axes=(1, 1)).transpose(0, 2, 1)
    moved = torch.as_tensor(weight)[:, :, None]  # the linear layer, moved before the pooling
    exact = functional.conv1d(activation, moved).numpy()
    for other in (naive, better, exact):
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("together", [1, 3 * 2 * 6 * 12, 1 << 20])  # one class at once, three of four, all
def test_gradient_methods_equal_their_definitions_class_by_class(
    sounds: Array, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cam, "_TOGETHER", together)
    net = network("flatten", nn.ELU)
    activation, gradient = (a.double() for a in at_last_convolution(net, sounds))
    a = activation[:, None]
    total = a.sum(-1, keepdim=True)
    share = gradient**2 / (2 * gradient**2 + total * gradient**3)
    expected = {
        "grad-cam": (gradient.mean(-1, keepdim=True) * a).sum(2),
        "grad-cam++": ((share * gradient.relu()).sum(-1, keepdim=True) * a).sum(2),
        "xgrad-cam": ((gradient * a / total).sum(-1, keepdim=True) * a).sum(2),
        "layer-cam": (gradient.relu() * a).sum(2),
        "hires-cam": (gradient * a).sum(2),
    }
    for method in GRADIENT_METHODS:
        found = features.class_activation_maps(net, sounds, method=method, upsample=False, batch_size=2).maps
        np.testing.assert_allclose(found, expected[method], rtol=1e-3, atol=1e-5, err_msg=method)


def test_grad_cam_with_global_average_pooling_is_cam_divided_by_the_number_of_frames(sounds: Array) -> None:
    net = network("gap")
    cam = features.class_activation_maps(net, sounds, method="cam").maps
    grad_cam = features.class_activation_maps(net, sounds).maps
    np.testing.assert_allclose(grad_cam, cam / 12, rtol=1e-4, atol=1e-6)


def test_score_cam_weighs_channels_by_the_logit_of_the_masked_sound(sounds: Array) -> None:
    net = network("flatten")
    found = features.class_activation_maps(net, sounds, method="score-cam", upsample=False).maps
    activation, _ = at_last_convolution(net, sounds)
    position = np.clip((np.arange(36) - 1) / 3, 0, 11)
    for item in range(5):
        heard = []
        for channel in range(6):
            mask = np.interp(position, np.arange(12), activation[item, channel])
            mask = (mask - mask.min()) / max(mask.max() - mask.min(), 1e-12)
            masked = torch.as_tensor(sounds[item : item + 1] * mask, dtype=torch.float32)
            heard.append(net(masked)[0].detach().double().numpy())
        weight = np.exp(heard) / np.exp(heard).sum(0)
        np.testing.assert_allclose(found[item], weight.T @ activation[item].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["0", "4"])
def test_grad_cam_equals_captum(sounds: Array, layer: str) -> None:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed (extra 'attribution')")
    net = network("flatten", nn.ELU)
    found = features.class_activation_maps(net, sounds, layer=layer, upsample=False).maps
    oracle = attr.LayerGradCam(net, net[2] if layer == "0" else net[5])
    for column in range(4):
        theirs = oracle.attribute(torch.as_tensor(sounds), target=column, relu_attributions=False)
        np.testing.assert_allclose(found[:, column], theirs[:, 0].detach(), rtol=1e-4, atol=1e-6)


def test_upsampled_maps_pass_through_the_frames_at_their_receptive_field_centers(sounds: Array) -> None:
    net = network("flatten")
    coarse = features.class_activation_maps(net, sounds, upsample=False).maps
    fine = features.class_activation_maps(net, sounds).maps
    assert fine.shape == (5, 4, 36)
    np.testing.assert_allclose(fine[..., 1::3], coarse, rtol=1e-5, atol=1e-7)  # frames at 1, 4, 7, ...
    np.testing.assert_array_equal(fine[..., 0], fine[..., 1])  # held at the edge
    between = coarse[..., 0] * 2 / 3 + coarse[..., 1] / 3
    np.testing.assert_allclose(fine[..., 2], between, rtol=1e-4, atol=1e-7)


def test_evidence_lies_where_the_event_is() -> None:
    """A detector of one loud sample points at it, wherever it is."""
    net = nn.Sequential(
        nn.Conv1d(1, 1, 5, padding=2, bias=False),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Conv1d(1, 1, 1),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(1, 1),
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    for at in (10, 50, 90):
        x = np.zeros((1, 1, 100), np.float32)
        x[0, 0, at] = 5
        for method in ("cam", "grad-cam", "layer-cam", "hires-cam"):
            course = features.class_activation_maps(net, x, method=method).maps[0, 0]
            assert abs(int(course.argmax()) - at) <= 4


def test_two_dimensional_maps_have_height_and_width() -> None:
    body = nn.Conv2d(1, 3, 3), nn.ELU(), nn.MaxPool2d((2, 1)), nn.Conv2d(3, 3, 3), nn.ELU()
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    x = np.random.default_rng(0).standard_normal((2, 1, 12, 9), np.float32)
    coarse = features.class_activation_maps(net, x, method="cam", upsample=False)
    mean = coarse.maps.mean((2, 3)) + linear(net)[1]
    np.testing.assert_allclose(mean, coarse.logits, rtol=1e-4, atol=1e-6)
    assert features.class_activation_maps(net, x, method="cam").maps.shape == (2, 2, 12, 9)


def test_a_softmax_head_is_taken_off(sounds: Array) -> None:
    net = network("flatten")
    plain = features.class_activation_maps(net, sounds)
    softmax = features.class_activation_maps(nn.Sequential(*net, nn.Softmax(1)), sounds)
    np.testing.assert_allclose(softmax.maps, plain.maps, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(softmax.logits, plain.logits, rtol=1e-5)


def test_probabilities_from_elsewhere_are_refused(sounds: Array) -> None:
    class Probabilities(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network("flatten")

        def forward(self, x: Tensor) -> Tensor:
            y = torch.exp(self.net(x))
            return y / y.sum(1, keepdim=True)

    with pytest.raises(InputError, match="gives probabilities"):
        features.class_activation_maps(Probabilities(), sounds)


@pytest.mark.bits
def test_classes_may_be_chosen_by_name_or_position(sounds: Array) -> None:
    net = network("flatten")
    names = ["no", "yes", "on", "off"]
    every = features.class_activation_maps(net, sounds, class_names=names)
    some = features.class_activation_maps(net, sounds, class_names=names, classes=["on", 0])
    assert some.class_names == ("on", "no")
    # as many rows as classes are brought to samples in one product, and another shape may add up in another order
    close = {"rtol": 1e-5, "atol": 1e-6 * np.abs(every.maps).max()}
    np.testing.assert_allclose(some.maps, every.maps[:, [2, 0]], **close)
    np.testing.assert_allclose(some.of("no"), every.maps[:, 0], **close)


def test_permuting_items_permutes_maps_and_batches_do_not_matter(sounds: Array) -> None:
    net = network("flatten")
    order = np.array([3, 0, 4, 2, 1])
    whole = features.class_activation_maps(net, sounds, method="grad-cam++").maps
    mixed = features.class_activation_maps(net, sounds[order], method="grad-cam++", batch_size=2).maps
    np.testing.assert_allclose(mixed, whole[order], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["cam", "grad-cam", "score-cam"])
def test_the_model_is_as_it_was(sounds: Array, method: CamMethod) -> None:
    net = network("gap").train()
    net[1].eval()
    next(net.parameters()).requires_grad_(False)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    features.class_activation_maps(net, sounds, method=method)
    sounds[2] = np.nan
    with pytest.raises(RunError, match="logit of item '2', class '0' is not finite"):
        features.class_activation_maps(net, sounds, method=method)
    assert [m.training for m in net] == [True, False] + [True] * (len(net) - 2)
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * (len(list(net.parameters())) - 1)
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.is_grad_enabled()


def test_in_place_nonlinearities_change_nothing(sounds: Array) -> None:
    net = network("flatten")
    twin = nn.Sequential(*(nn.ReLU(inplace=True) if isinstance(m, nn.ReLU) else m for m in net)).eval()
    for layer in ("0", "4"):
        np.testing.assert_array_equal(
            features.class_activation_maps(twin, sounds, layer=layer).maps,
            features.class_activation_maps(net, sounds, layer=layer).maps,
        )


def test_a_map_of_zeros_is_told(sounds: Array) -> None:
    net = network("flatten")
    with torch.no_grad():
        net.get_parameter("4.bias").fill_(-1e3)
    with pytest.warns(BrainmapWarning, match="20 of 20 are zero everywhere"):
        features.class_activation_maps(net, sounds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features.class_activation_maps(network("flatten"), sounds)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "gradcam"}, "did you mean 'grad-cam'"),
        ({"method": "cam"}, "not a linear layer on the mean or maximum"),
        ({"layer": "output"}, "no convolution of this network"),
        ({"layer": "7"}, "no convolution of this network"),
        ({"classes": ["zero"]}, "classes: expected one of .* got 'zero'"),
        ({"classes": [4]}, "expected names, or numbers from 0 to 3, got 4"),
        ({"class_names": ["a"]}, "class_names: expected one for each of 4 outputs, got 1"),
    ],
)
def test_a_mistake_gets_one_line(sounds: Array, given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        features.class_activation_maps(network("flatten"), sounds, **given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_cam_refuses_a_hidden_layer_behind_the_pooling(sounds: Array) -> None:
    hidden = nn.Sequential(*list(network("gap"))[:9], nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    with pytest.raises(InputError, match="not a linear layer"):
        features.class_activation_maps(hidden, sounds, method="cam")


def test_a_network_that_writes_into_its_input_leaves_the_users_sounds_alone(sounds: Array) -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x -= 1  # in place
            logits: torch.Tensor = self.net(x)
            return logits

    class Plain(Writes):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.net(x - 1)
            return logits

    writes, plain = Writes(), Plain()
    plain.load_state_dict(writes.state_dict())
    before = sounds.copy()
    for method in ("grad-cam", "score-cam"):
        found = features.class_activation_maps(writes, sounds, method=method)
        np.testing.assert_array_equal(sounds, before)
        wanted = features.class_activation_maps(plain, sounds, method=method)
        np.testing.assert_allclose(found.maps, wanted.maps, atol=1e-6)


@pytest.mark.filterwarnings("ignore:class activation maps")
@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize("layer", ["0", "4"])
def test_maps_by_shortcuts_are_those_of_the_plain_network(
    sounds: Array, method: CamMethod, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network("gap")
    net[1].running_mean, net[1].running_var = torch.linspace(-0.3, 0.3, 5), torch.linspace(0.5, 2, 5)
    plain = features.class_activation_maps(net, sounds, method=method, layer=layer, upsample=False, batch_size=5)
    used: list[list[str]] = []

    def watch(run: Callable[[], Tensor], fast: Mapping[int, Shortcut]) -> Tensor:
        used.append([name for name, _ in fast.values()])
        return run_by(run, fast)

    monkeypatch.setattr(cam, "run_by_shortcuts", watch)
    quick = features.class_activation_maps(
        net, sounds, method=method, layer=layer, upsample=False, batch_size=2, threads=2
    )
    np.testing.assert_allclose(quick.maps, plain.maps, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(quick.logits, plain.logits, rtol=1e-5, atol=1e-6)
    # what comes after the layer runs as it is
    assert used == 3 * [["conv1d", "batch_norm", "relu", "max_pool1d", "conv1d"] if layer == "4" else ["conv1d"]]


class Chooser(nn.Module):
    """It takes other filters for loud sounds."""

    def __init__(self) -> None:
        super().__init__()
        self.soft, self.loud = nn.Conv1d(1, 5, 5), nn.Conv1d(1, 5, 5)
        self.norm, self.last, self.head = nn.BatchNorm1d(5), nn.Conv1d(5, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.loud if bool(x.abs().max() > 10) else self.soft
        out: Tensor = self.head(self.last(torch.relu(self.norm(first(x)))).mean(2))
        return out


def test_a_network_that_chooses_its_filters_runs_as_it_is(sounds: Array) -> None:
    torch.manual_seed(0)
    net = Chooser().eval()
    net.norm.running_mean = torch.randn(5)
    many = np.concatenate([sounds[:4], 20 * sounds[:4]])
    found = features.class_activation_maps(net, many, layer="last", upsample=False, batch_size=2)
    alone = [
        features.class_activation_maps(net, many[i : i + 2], layer="last", upsample=False).maps for i in range(0, 8, 2)
    ]
    np.testing.assert_allclose(found.maps, np.concatenate(alone), rtol=1e-4, atol=1e-6)
