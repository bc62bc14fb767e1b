import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError, RunError
from brainmap.features.attribution import lrp
from brainmap.features.attribution.cam import class_activation_maps
from brainmap.features.attribution.lime import fit_linear
from brainmap.features.attribution.methods import METHODS, attribute
from brainmap.features.attribution.results import Attributions
from brainmap.features.representations.files import list_stored_layers, open_attributions, save_attributions
from brainmap.features.sounds.files import sounds_from_array

Array = NDArray[np.float32]
RELU_ONLY = ("deconvolution", "guided-backpropagation", "guided-grad-cam")
SHORT: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"steps": 5},
    "smoothgrad": {"samples": 4},
    "occlusion": {"window": 9, "step": 4},
    "lime": {"segments": 5, "samples": 30},
}


def seeded(make: Callable[[], nn.Sequential]) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().eval()


def network(act: type[nn.Module] = nn.ReLU, **given: Any) -> nn.Sequential:
    """Two convolutions for waveforms (n, 2, 36)."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv1d(2, 5, 5, padding=2),
            nn.BatchNorm1d(5),
            act(**given),
            nn.MaxPool1d(3),
            nn.Conv1d(5, 6, 3, padding=1),
            act(**given),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(72, 4),
        )
    )


def network_2d(act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """For spectrograms (n, 1, 12, 9)."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            act(),
            nn.AvgPool2d((2, 1)),
            nn.Conv2d(3, 4, 3),
            act(),
            nn.Flatten(),
            nn.Linear(112, 3),
        )
    )


class Functional(nn.Module):
    """The same as `network()`, with its ReLUs written as people write them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = network(), kind

    def relu(self, x: Tensor) -> Tensor:
        if self.kind == "statement":
            functional.relu(x, inplace=True)
            return x
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "functional": functional.relu,
            "torch": torch.relu,
            "method": Tensor.relu,
            "in-place": Tensor.relu_,
            "functional in-place": lambda x: functional.relu(x, True),
            "clamp": lambda x: x.clamp(min=0),
            "clamp in-place": lambda x: torch.clamp_(x, 0),
        }
        return ways[self.kind](x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.net[:2](x))
        x = self.relu(self.net[3:5](x))
        out: Tensor = self.net[6:](x)
        return out


def linear(n_samples: int = 36) -> nn.Sequential:
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(2 * n_samples, 4)))


@pytest.fixture
def sounds() -> Array:
    return np.random.default_rng(0).standard_normal((5, 2, 36), np.float32)


@pytest.fixture
def images() -> Array:
    return np.random.default_rng(1).standard_normal((3, 1, 12, 9), np.float32)


@pytest.fixture
def captum() -> Iterator[Any]:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed (extra 'attribution')")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU|Setting forward, backward hooks")
        warnings.filterwarnings("ignore", "Input Tensor .* did not already require gradients")
        yield attr


def close(found: Array, expected: Any, tolerance: float = 1e-5) -> None:
    wanted = expected.detach().numpy() if isinstance(expected, Tensor) else np.asarray(expected)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=tolerance * float(np.abs(wanted).max()))


def both(sounds: Array, images: Array, act: type[nn.Module] = nn.ReLU) -> list[tuple[nn.Sequential, Array]]:
    return [(network(act), sounds), (network_2d(act), images)]


# captum as an oracle


@pytest.mark.parametrize("act", [nn.ReLU, nn.ELU])
def test_gradients_equal_captum(sounds: Array, images: Array, captum: Any, act: type[nn.Module]) -> None:
    for net, x in both(sounds, images, act):
        saliency = attribute(net, x, method="saliency", classes="all").maps
        signed = attribute(net, x, method="saliency", classes="all", absolute=False).maps
        product = attribute(net, x, method="input-x-gradient", classes="all").maps
        for c in range(saliency.shape[1]):
            close(saliency[:, c], captum.Saliency(net).attribute(torch.as_tensor(x), target=c))
            close(signed[:, c], captum.Saliency(net).attribute(torch.as_tensor(x), target=c, abs=False))
            close(product[:, c], captum.InputXGradient(net).attribute(torch.as_tensor(x), target=c))


def test_integrated_gradients_equal_captum(sounds: Array, images: Array, captum: Any) -> None:
    for net, x in both(sounds, images, nn.ELU):
        base = np.random.default_rng(2).standard_normal(x.shape[1:], np.float32)
        found = attribute(net, x, method="integrated-gradients", classes=[1], steps=12, baseline=base)
        maps, delta = captum.IntegratedGradients(net).attribute(
            torch.as_tensor(x), torch.as_tensor(base)[None], target=1, n_steps=12, return_convergence_delta=True
        )
        close(found.maps[:, 0], maps)
        assert found.delta is not None
        np.testing.assert_allclose(found.delta[:, 0], delta, atol=1e-5)


def test_smoothgrad_equals_the_mean_of_captum_saliency_over_the_same_noise(sounds: Array, captum: Any) -> None:
    net = network(nn.ELU)
    found = attribute(net, sounds, method="smoothgrad", classes=[2], samples=6, noise=0.2, rng=np.random.default_rng(4))
    noise = np.random.default_rng(4).standard_normal((6, 1, 2, 36), np.float32)
    span = np.ptp(sounds, axis=(1, 2))[:, None, None]
    copies = [torch.as_tensor(sounds + np.float32(0.2) * span * one) for one in noise]
    expected = sum(captum.Saliency(net).attribute(x, target=2, abs=False) for x in copies) / 6
    close(found.maps[:, 0], expected)


def test_occlusion_equals_captum(sounds: Array, images: Array, captum: Any) -> None:
    for net, x, window, step in ((network(), sounds, 9, 4), (network_2d(), images, (5, 4), (2, 3))):
        for base in (0.0, 0.3):
            found = attribute(net, x, method="occlusion", classes="all", window=window, step=step, baseline=base).maps
            sizes = (x.shape[1], *tuple(np.atleast_1d(window)))
            steps = (x.shape[1], *tuple(np.atleast_1d(step)))
            for c in range(found.shape[1]):
                theirs = captum.Occlusion(net).attribute(
                    torch.as_tensor(x), sizes, strides=steps, target=c, baselines=base
                )
                close(np.broadcast_to(found[:, c], x.shape), theirs)


def test_guided_methods_equal_captum(sounds: Array, images: Array, captum: Any) -> None:
    for net, x in both(sounds, images):
        guided = attribute(net, x, method="guided-backpropagation", classes="all").maps
        back = attribute(net, x, method="deconvolution", classes="all").maps
        for c in range(guided.shape[1]):
            close(guided[:, c], captum.GuidedBackprop(copy.deepcopy(net)).attribute(torch.as_tensor(x), target=c))
            close(back[:, c], captum.Deconvolution(copy.deepcopy(net)).attribute(torch.as_tensor(x), target=c))


@pytest.mark.filterwarnings("ignore:guided-grad-cam")
def test_guided_grad_cam_equals_captum_where_frames_are_samples(sounds: Array, captum: Any) -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv1d(2, 5, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(5, 6, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(216, 4),
        )
    )
    found = attribute(net, sounds, method="guided-grad-cam", classes="all", batch_size=2)
    assert found.layer == "2"
    oracle = captum.GuidedGradCam(copy.deepcopy(net), net[3])
    theirs = copy.deepcopy(net)
    oracle = captum.GuidedGradCam(theirs, theirs[3])
    for c in range(4):
        close(found.maps[:, c], oracle.attribute(torch.as_tensor(sounds), target=c))


def test_guided_grad_cam_is_guided_backpropagation_under_a_positive_cam(sounds: Array) -> None:
    net = network()
    found = attribute(net, sounds, method="guided-grad-cam", layer="0").maps
    guided = attribute(net, sounds, method="guided-backpropagation")
    cam = features.class_activation_maps(net, sounds, layer="0").maps[np.arange(5), guided.targets[:, 0]]
    close(found[:, 0], guided.maps[:, 0] * cam.clip(min=0)[:, None])


def test_lime_equals_captum_with_the_same_samples(sounds: Array, captum: Any) -> None:
    from captum._utils.models.linear_model import SkLearnRidge

    net, heard = network(), np.ones((40, 6), np.float32)
    heard[1:] = np.random.default_rng(5).random((39, 6)) < 0.5
    found = attribute(net, sounds, method="lime", classes=[3], segments=6, samples=40, rng=np.random.default_rng(5))
    at = torch.arange(36).div(6, rounding_mode="floor").expand(1, 2, 36)

    def drawn(*_: Any, **__: Any) -> Iterator[Tensor]:
        yield from torch.as_tensor(heard)[:, None]

    def nearness(original: Tensor, changed: Tensor, sample: Tensor, **_: Any) -> Tensor:
        cosine = torch.cosine_similarity(sample.float(), torch.ones_like(sample).float())
        return torch.exp(-((1 - cosine) ** 2) / 0.25**2)

    for item in range(2):
        oracle = captum.Lime(net, SkLearnRidge(alpha=1.0), similarity_func=nearness, perturb_func=drawn)
        theirs = oracle.attribute(torch.as_tensor(sounds[item : item + 1]), target=3, feature_mask=at, n_samples=40)
        close(found.maps[item, 0], theirs[0])


# what captum misses


@pytest.mark.parametrize(
    "kind",
    [
        "functional",
        "torch",
        "method",
        "in-place",
        "statement",
        "functional in-place",
        "clamp",
        "clamp in-place",
    ],
)
def test_every_way_to_write_a_relu_is_changed(sounds: Array, kind: str) -> None:
    written = Functional(kind).eval()
    for method in RELU_ONLY:
        expected = attribute(network(), sounds, method=method, classes="all", layer="0" if "cam" in method else None)
        layer = "net.0" if "cam" in method else None
        found = attribute(written, sounds, method=method, classes="all", layer=layer)
        if method == "guided-grad-cam" and "clamp" in kind:
            continue  # `tap` takes a clamp for what follows the layer, not for its nonlinearity
        close(found.maps, expected.maps)
        plain = attribute(written, sounds, method="saliency", classes="all", absolute=False).maps
        assert np.abs(found.maps - plain).max() > 1e-3


@pytest.mark.parametrize("method", RELU_ONLY)
def test_relu_methods_refuse_other_networks_with_the_reason(sounds: Array, method: str) -> None:
    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(torch.tanh(x))
            return out

    for net, name in (
        (network(nn.ELU), "elu"),
        (network(nn.LeakyReLU), "leaky_relu"),
        (Bent(), "tanh"),
        (nn.Sequential(nn.Softmax(2), network()), "softmax"),
    ):
        with pytest.raises(InputError, match=f"uses {name}, and the method says only what a ReLU does"):
            attribute(net, sounds, method=method)
    with pytest.raises(InputError, match="the network has no ReLU, so that this is the plain gradient"):
        attribute(linear(), sounds, method=method)


@pytest.mark.filterwarnings("ignore:guided-grad-cam")
def test_in_place_nonlinearities_change_nothing(sounds: Array) -> None:
    for method in METHODS:
        given = {"classes": "all", **SHORT.get(method, {})}
        twin = attribute(network(nn.ReLU, inplace=True), sounds, method=method, **given)
        np.testing.assert_array_equal(twin.maps, attribute(network(), sounds, method=method, **given).maps)


# identities and closed forms


def test_integrated_gradients_add_up_to_what_the_logit_gains(sounds: Array) -> None:
    net = network(nn.ELU)
    gain = net(torch.as_tensor(sounds)) - net(torch.zeros(1, 2, 36))
    for rule, tolerance in (("gauss-legendre", 2e-3), ("trapezoid", 5e-3)):
        found = attribute(net, sounds, method="integrated-gradients", classes="all", steps=60, rule=rule)
        sums = found.maps.sum((2, 3))
        np.testing.assert_allclose(sums, gain.detach(), atol=tolerance)
        assert found.delta is not None
        np.testing.assert_allclose(found.delta, sums - gain.detach().numpy(), atol=1e-5)


def test_a_linear_network_has_its_weights_as_attribution(sounds: Array) -> None:
    net = linear()
    weight = net.get_parameter("1.weight").detach().numpy().reshape(1, 4, 2, 36)
    product = weight * sounds[:, None]

    def maps(method: str, **given: Any) -> Attributions:
        return attribute(net, sounds, method=method, classes="all", **given)

    close(maps("saliency").maps, np.broadcast_to(np.abs(weight), (5, 4, 2, 36)))
    close(maps("smoothgrad", samples=3).maps, np.broadcast_to(weight, (5, 4, 2, 36)))
    close(maps("input-x-gradient").maps, product)
    close(maps("integrated-gradients", steps=1).maps, product)
    by_window = product.reshape(5, 4, 2, 9, 4).sum((2, 4))
    occluded = maps("occlusion", window=4, step=4)
    close(occluded.effects[..., 0], by_window, 1e-4)
    close(occluded.maps, np.repeat(by_window, 4, axis=2)[:, :, None], 1e-4)
    lime = maps("lime", segments=9, samples=60, alpha=0.0)
    close(lime.effects[..., 0], by_window, 1e-4)
    np.testing.assert_allclose(lime.fidelity, 1, atol=1e-6)


def test_relevance_and_what_biases_absorb_add_up_to_the_logit(sounds: Array) -> None:
    found = attribute(network(), sounds, method="lrp", classes="all", rules="epsilon")
    oracle = lrp.relevance(network(), sounds, targets=np.tile(np.arange(4), (5, 1)), rules="epsilon")
    close(found.maps, oracle.maps)
    close(found.maps.sum((2, 3)) + oracle.absorbed, found.logits, 1e-4)
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


@pytest.mark.parametrize("bands", ["mel", "octave", [0, 90, 300, 500]])
def test_windows_and_bands_of_a_linear_network_add_up_to_the_logit(sounds: Array, bands: Any) -> None:
    net = linear()
    found = attribute(
        net, sounds, method="occlusion", classes="all", rate=1000, window_ms=12, step_ms=12, bands=bands, n_bands=4
    )
    assert found.effects.shape == (5, 4, 3, len(found.bands))
    assert found.maps.shape == (5, 4, len(found.bands), 36)
    bias = net.get_parameter("1.bias").detach().numpy()
    np.testing.assert_allclose(found.effects.sum((2, 3)) + bias, found.logits, atol=1e-5)


def test_occlusion_finds_the_time_and_the_band_of_what_is_heard() -> None:
    """A detector of a 1 kHz tone burst at 300 to 400 ms, beside a 3 kHz one elsewhere that it does not hear."""
    rate = 8000
    time = np.arange(rate) / rate
    burst = np.sin(2 * np.pi * 1000 * time) * ((time >= 0.3) & (time < 0.4))
    other = np.sin(2 * np.pi * 3000 * time) * ((time >= 0.6) & (time < 0.8))
    net = nn.Sequential(nn.Flatten(), nn.Linear(rate, 1, bias=False))
    with torch.no_grad():
        net.get_parameter("1.weight").copy_(torch.as_tensor(burst, dtype=torch.float32)[None])
    sound = sounds_from_array((burst + other)[None, None], rate=rate)
    found = attribute(net, sound, method="occlusion", window_ms=50, step_ms=50, bands=[0, 500, 1500, 4000])
    effects = found.effects[0, 0] / found.logits[0, 0]
    np.testing.assert_allclose(effects[6:8, 1], 0.5, atol=0.02)
    rest = effects.copy()
    rest[6:8, 1] = 0
    assert np.abs(rest).max() < 0.05
    by_band = attribute(net, sound, method="occlusion", window_ms=None, bands="octave")
    assert by_band.effects.shape == (1, 1, 1, 6)
    assert by_band.bands[by_band.effects[0, 0, 0].argmax()].tolist() in ([500, 1000], [1000, 2000])


def test_lime_weights_equal_ridge_regression_of_sklearn() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    heard, scores = (rng.random((80, 7)) < 0.5).astype(np.float32), rng.standard_normal((80, 3)).astype(np.float32)
    weights, fidelity = fit_linear(torch.as_tensor(heard), torch.as_tensor(scores), kernel_width=0.3, alpha=0.7)
    near = np.exp(-(((1 - np.sqrt(heard.mean(1))) / 0.3) ** 2))
    for k in range(3):
        model = sklearn.Ridge(alpha=0.7).fit(heard, scores[:, k], sample_weight=near)
        np.testing.assert_allclose(weights[k], model.coef_, atol=1e-5)
        np.testing.assert_allclose(fidelity[k], model.score(heard, scores[:, k], sample_weight=near), atol=1e-5)


def test_lime_takes_given_boundaries(sounds: Array) -> None:
    found = attribute(linear(), sounds, method="lime", boundaries_ms=[4, 30], rate=1000, samples=50)
    assert found.windows[:, 0].tolist() == [[0, 4], [4, 30], [30, 36]]
    course = found.maps[0, 0, 0]
    assert len(np.unique(course)) == 3
    assert course[3] != course[4] == course[29] != course[30]


# habits of every method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:guided-grad-cam")
def test_permuting_items_permutes_maps_and_batches_do_not_matter(sounds: Array, images: Array, method: str) -> None:
    order = np.array([3, 0, 4, 2, 1])
    for net, x in both(sounds, images):
        given = dict(SHORT.get(method, {}))
        if method == "occlusion" and x.ndim == 4:
            given = {"window": (4, 4)}
        rows = order[order < len(x)]
        whole = attribute(net, x, method=method, batch_size=64, **given)
        mixed = attribute(net, x[rows], method=method, batch_size=2, **given)
        alone = attribute(net, x[1:2], method=method, batch_size=1, **given)
        close(mixed.maps, whole.maps[rows])
        close(alone.maps, whole.maps[1:2])
        np.testing.assert_array_equal(mixed.targets, whole.targets[rows])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:guided-grad-cam")
def test_the_model_is_as_it_was(sounds: Array, method: str) -> None:
    net = network().train()
    net[1].eval()
    next(net.parameters()).requires_grad_(False)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    given = SHORT.get(method, {})
    attribute(net, sounds, method=method, **given)
    sounds[2] = np.nan
    with pytest.raises(RunError, match="a logit of item '2' is not finite"):
        attribute(net, sounds, method=method, **given)
    assert [m.training for m in net] == [True, False] + [True] * 7
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * (len(list(net.parameters())) - 1)
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    assert torch.is_grad_enabled()
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    assert torch.autograd.grad(-torch.relu(x).sum(), x)[0].tolist() == [-1, -1]  # no changed ReLU is left


def test_it_works_within_no_grad_and_on_a_network_that_changes_its_input(sounds: Array) -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            x /= 2
            out: Tensor = self.net(x * 2)
            return out

    before = sounds.copy()
    expected = attribute(network(), sounds, method="saliency").maps
    with torch.no_grad():
        close(attribute(Changing().eval(), sounds, method="saliency").maps, expected)
    np.testing.assert_array_equal(sounds, before)


@pytest.mark.parametrize("one", [2, np.int64(2), "2", torch.tensor(2)])
def test_one_class_may_stand_by_itself(sounds: Array, one: Any) -> None:
    net = network()
    listed = attribute(net, sounds, method="saliency", classes=[2])
    alone = attribute(net, sounds, method="saliency", classes=one)
    assert alone.targets.tolist() == [[2]] * len(sounds)
    close(alone.maps, listed.maps)
    cams = class_activation_maps(net, sounds, layer="0", classes=one)
    assert cams.class_names == ("2",)
    close(cams.maps, class_activation_maps(net, sounds, layer="0", classes=[2]).maps)


@pytest.mark.parametrize("wrong", [1.5, [1.5], None, True, [[1]], 4, -1, [None], np.array(0.5), ()])
def test_what_is_no_class_is_refused_in_one_line(sounds: Array, wrong: Any) -> None:
    for ask in (
        lambda: attribute(network(), sounds, method="saliency", classes=wrong),
        lambda: class_activation_maps(network(), sounds, layer="0", classes=wrong),
    ):
        with pytest.raises(InputError, match="classes: expected") as said:
            ask()
        assert "\n" not in str(said.value)


def test_a_softmax_head_is_taken_off_and_probabilities_are_refused(sounds: Array) -> None:
    net = network()
    for method in ("saliency", "occlusion", "guided-backpropagation"):
        given = SHORT.get(method, {})
        plain = attribute(net, sounds, method=method, classes="all", **given)
        softmax = attribute(nn.Sequential(net, nn.Softmax(1)), sounds, method=method, classes="all", **given)
        close(softmax.maps, plain.maps)

    class Probabilities(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.exp(net(x))
            return y / y.sum(1, keepdim=True)

    with pytest.raises(InputError, match="gives probabilities"):
        attribute(Probabilities(), sounds, method="saliency")


@pytest.mark.bits
def test_classes_may_be_predicted_true_all_or_named(sounds: Array) -> None:
    net, names = network(), ["no", "yes", "on", "off"]
    labelled = sounds_from_array(sounds[:, :1], rate=1000, conditions=["on", "no", "on", "yes", "off"])
    mono = seeded(lambda: nn.Sequential(nn.Conv1d(1, 2, 1), *network()))
    every = attribute(net, sounds, method="saliency", classes="all", class_names=names)
    assert every.maps.shape == (5, 4, 2, 36)
    predicted = attribute(net, sounds, method="saliency", class_names=names)
    np.testing.assert_array_equal(predicted.targets[:, 0], every.logits.argmax(1))
    # the classes asked for make the shapes, and another shape may add up in another order
    close(predicted.maps[:, 0], every.maps[np.arange(5), every.logits.argmax(1)])
    some = attribute(net, sounds, method="saliency", classes=["on", 0], class_names=names)
    assert some.names(3) == ("on", "no")
    close(some.maps, every.maps[:, [2, 0]])
    close(some.of("no"), every.maps[:, 0])
    true = attribute(mono, labelled, method="saliency", classes="true", class_names=names)
    assert true.targets[:, 0].tolist() == [2, 0, 2, 1, 3]
    assert true.rate == 1000
    assert true.courses.shape == (5, 1, 36)


def test_smoothgrad_and_lime_depend_on_the_seed_alone(sounds: Array) -> None:
    for method in ("smoothgrad", "lime"):
        first, again, other = [
            attribute(network(), sounds, method=method, rng=np.random.default_rng(seed), **SHORT[method]).maps
            for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_a_gradient_that_is_not_finite_names_where_it_begins(sounds: Array) -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(x * 0)

    layers = list(network())
    net = nn.Sequential(*layers[:5], Root(), *layers[6:]).eval()
    with pytest.raises(RunError, match="map of item '0' is not finite, beginning with the gradient at '4'"):
        attribute(net, sounds, method="saliency")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_logits_without_a_gradient_are_told(sounds: Array) -> None:
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.detach() > 0).float().sum((1, 2))[:, None] * torch.ones(3)

    with pytest.raises(RunError, match="no gradient leads from the logits to the sounds; use 'occlusion'"):
        attribute(Steps(), sounds, method="saliency")
    assert attribute(Steps(), sounds, method="occlusion", window=9).maps.any()


def test_a_map_of_zeros_is_told(sounds: Array) -> None:
    net = network()
    with torch.no_grad():
        net.get_parameter("4.bias").fill_(-1e3)
    with pytest.warns(BrainmapWarning, match="20 of 20 maps are zero everywhere, the first for item '0', class '0'"):
        attribute(net, sounds, method="saliency", classes="all")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "saliancy"}, "did you mean 'saliency'"),
        ({"method": "occlusion", "windw_ms": 5}, "no setting 'windw_ms'; did you mean 'window_ms'"),
        ({"method": "input-x-gradient", "steps": 5}, "it takes none"),
        ({"method": "saliency", "layer": "0"}, "layer: saliency takes none"),
        ({"method": "guided-grad-cam", "layer": "7"}, "no convolution of this network"),
        (
            {"method": "integrated-gradients", "steps": 0},
            "steps: expected at least 1 for the gauss",
        ),
        ({"method": "integrated-gradients", "steps": 1, "rule": "trapezoid"}, "expected at least 2"),
        ({"method": "integrated-gradients", "rule": "trapezium"}, "did you mean 'trapezoid'"),
        (
            {"method": "integrated-gradients", "baseline": np.zeros(7)},
            "expected 'silence', a number or an array of shape",
        ),
        ({"method": "integrated-gradients", "baseline": np.nan}, "baseline: holds NaN"),
        ({"method": "smoothgrad", "samples": 0}, "samples: expected at least 1 sample, got 0"),
        ({"method": "smoothgrad", "noise": -1.0}, "got -1.0"),
        ({"method": "occlusion"}, "window_ms: the sounds are an array without a rate"),
        ({"method": "occlusion", "window": 37}, "window: 37 samples, but the sound has 36"),
        ({"method": "occlusion", "rate": 1000}, "window: 50 samples, but the sound has 36"),
        ({"method": "occlusion", "window": 4, "step": 5}, "step: expected 1 to 4 samples for a window of 4, got 5"),
        ({"method": "occlusion", "window": (4, 4)}, "expected 1 whole number of samples"),
        ({"method": "occlusion", "window": 0}, "window: expected 1 whole number of samples, at least 1, got 0"),
        ({"method": "occlusion", "rate": 1000, "window_ms": -3}, "expected more than 0 ms, got -3"),
        ({"method": "occlusion", "window": 4, "bands": "mel"}, "bands: the sounds are an array without a rate"),
        ({"method": "occlusion", "window": 4, "rate": 1000, "bands": "bark"}, "bands: expected one of"),
        ({"method": "occlusion", "window": 4, "rate": 1000, "bands": [0, 600]}, "600 Hz is above half the rate, 500"),
        ({"method": "occlusion", "window": 4, "rate": 1000, "bands": [200, 100]}, "two or more rising edges"),
        ({"method": "occlusion", "window": 4, "rate": 1000, "bands": [1, 2, 500]}, "1 to 2 Hz holds no frequency"),
        (
            {"method": "occlusion", "window": 4, "rate": 1000, "bands": "mel", "n_bands": 0},
            "n_bands: expected at least 1",
        ),
        ({"method": "lime", "segments": 0}, "segments: expected 1 to 36, the samples of a sound, got 0"),
        ({"method": "lime", "segments": 20, "samples": 21}, "expected at least 22 for 20 segments, got 21"),
        ({"method": "lime", "boundaries_ms": [20, 10], "rate": 1000}, "expected rising times between 0 and 36 ms"),
        ({"method": "lime", "kernel_width": 0}, "expected a kernel_width above 0, got 0"),
        ({"method": "lime", "alpha": -1}, "expected an alpha of 0 or more, got -1"),
        ({"method": "saliency", "classes": "zero"}, "classes: expected one of .* got 'zero'"),
        ({"method": "saliency", "classes": [4]}, "expected names, or numbers from 0 to 3, got 4"),
        ({"method": "saliency", "classes": []}, "classes: expected 'all' or at least one class, got none"),
        ({"method": "saliency", "classes": "true"}, "'true' needs sounds that say their conditions"),
        ({"method": "saliency", "class_names": ["a"]}, "class_names: expected one for each of 4 outputs, got 1"),
        ({"method": "saliency", "device": "cdua"}, "device: 'cdua' cannot be used here"),
        ({"method": "saliency", "batch_size": 0}, "batch_size: expected 1 or more, got 0"),
    ],
)
def test_a_mistake_gets_one_line(sounds: Array, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        attribute(network(), sounds, **given)
    assert "\n" not in str(caught.value)


def test_mistakes_with_labels_and_images_get_one_line(sounds: Array, images: Array) -> None:
    labelled = sounds_from_array(sounds[:, :1], rate=1000, conditions=["onn", "no", "on", "yes", "off"])
    mono = nn.Sequential(nn.Conv1d(1, 2, 1), *network())
    with pytest.raises(InputError, match=r"conditions 'onn' are none of the classes .*; did you mean 'on'"):
        attribute(mono, labelled, method="saliency", classes="true", class_names=["no", "yes", "on", "off"])
    with pytest.raises(InputError, match="which has no ms; give window="):
        attribute(network_2d(), images, method="occlusion", rate=100)
    with pytest.raises(InputError, match="expected waveforms"):
        attribute(network_2d(), images, method="occlusion", rate=100, window=(4, 4), bands="mel")
    with pytest.raises(InputError, match="has no map of class '2', only of '1'"):
        attribute(network(), sounds, method="saliency", classes=["1"]).of("2")
    with pytest.raises(InputError, match=r"class: expected one of .* got '7'"):
        attribute(network(), sounds, method="saliency").of("7")


@pytest.mark.filterwarnings("ignore:guided-grad-cam")
def test_attributions_come_back_from_a_store_as_they_were(sounds: Array, tmp_path: Path) -> None:
    for method in ("occlusion", "guided-grad-cam", "integrated-gradients", "lime"):
        bands = {"window_ms": 12, "bands": "mel", "n_bands": 3}
        given: dict[str, Any] = bands if method == "occlusion" else SHORT.get(method, {})
        kept = attribute(network(), sounds, method=method, rate=1000, classes=["2", 0], **given)
        save_attributions(kept, tmp_path / "store.zarr", align="center")
        found = open_attributions(tmp_path / "store.zarr").attributions
        for field in dataclasses.fields(kept):
            wanted, got = getattr(kept, field.name), getattr(found, field.name)
            if isinstance(wanted, np.ndarray):
                np.testing.assert_array_equal(got, wanted, strict=True)
            else:
                assert got == wanted
    assert open_attributions(tmp_path / "store.zarr", method="occlusion").attributions.bands.shape == (3, 2)
    assert open_attributions(tmp_path / "store.zarr").align == "center"
    assert list_stored_layers(tmp_path / "store.zarr", "attribution")[-1] == "lime"
    with pytest.raises(InputError, match=r"method of attribution: expected one of .*, got 'lrp'"):
        open_attributions(tmp_path / "store.zarr", method="lrp")
    with pytest.raises(InputError, match="no zarr arrays at"):
        open_attributions(tmp_path / "none.zarr")
