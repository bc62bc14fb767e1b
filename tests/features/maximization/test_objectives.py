"""Directions, diversity, decoders, norms and bands of activation maximization; and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import InputError, RunError
from brainmap.features.maximization.directions import condition_direction
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.maximization.priors import compute_mean_spectrum, compute_power_mean
from brainmap.features.maximization.task import measure_likeness

RATE = 16_000
Waveforms = NDArray[np.float32]
FAST = MaximizationSettings(steps=4, jitter_ms=1.0)
PLAIN = {"parameterization": "pixels", "jitter_ms": 0.0, "peak": None}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def sounds(rng: np.random.Generator) -> Waveforms:
    return np.asarray(0.05 * rng.standard_normal((6, 1, 800)), dtype=np.float32)


def network(*tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(1, 6, 9, padding=4),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Conv1d(6, 8, 9),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(32, 5),
        *tail,
    )


class Decoder(nn.Module):
    """Latents to sounds, linearly; in training mode it would fail."""

    latent_shape = (3,)

    def __init__(self, length: int = 800) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.dropout, self.linear = nn.Dropout(0.9), nn.Linear(3, length)

    def forward(self, latent: Tensor) -> Tensor:
        sound: Tensor = self.linear(self.dropout(latent))
        return sound[:, None]


# --- directions --------------------------------------------------------------------------------------------------


def test_direction_along_one_unit_is_that_unit(sounds: Waveforms) -> None:
    settings = MaximizationSettings(steps=6, jitter_ms=0.0)
    unit = maximize_activation(network(), layer="0", units=[2], settings=settings, sounds=sounds)
    axis = 3.0 * np.eye(6)[2]
    named = maximize_activation(network(), layer="0", directions={"two": axis}, settings=settings, sounds=sounds)
    assert (unit.settings.objective, named.settings.objective, named.labels) == ("channel", "direction", ("two",))
    np.testing.assert_allclose(named.quality["best_clip"], unit.quality["best_clip"], rtol=1e-5)
    model = network().eval()
    with torch.no_grad():
        reached = model[:2](torch.tensor(named.patterns)).mean(2)[0, 2]
    np.testing.assert_allclose(named.quality["objective"], reached, rtol=2e-3)


def test_linear_direction_is_the_matched_filter(rng: np.random.Generator) -> None:
    weights, toward = rng.standard_normal((3, 64)).astype(np.float32), np.array([1.0, -2.0, 0.5])
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    model.get_parameter("1.weight").data[:] = torch.tensor(weights)
    settings = MaximizationSettings(level=0.2, steps=100, **PLAIN)
    found = maximize_activation(model, directions=toward, settings=settings, length=64, rng=rng).patterns[0, 0]
    wanted = toward @ weights
    np.testing.assert_allclose(found, 0.2 * wanted / np.sqrt((wanted**2).mean()), atol=0.004)


def test_cosine_power_turns_the_layer_toward_the_direction(sounds: Waveforms, rng: np.random.Generator) -> None:
    goal, cosines = rng.standard_normal(8), []
    for power in (0.0, 4.0):
        settings = MaximizationSettings(steps=60, jitter_ms=0.0, cosine_power=power, optimizer="adam", step_size=0.1)
        am = maximize_activation(network(), layer="3", directions=goal, settings=settings, sounds=sounds)
        with torch.no_grad():
            vector = network().eval()[:5](torch.tensor(am.patterns)).mean(2)[0].double().numpy()
        cosines.append(vector @ goal / np.linalg.norm(vector) / np.linalg.norm(goal))
    assert cosines[1] > cosines[0] + 0.02


def test_condition_direction_is_the_difference_of_means(sounds: Waveforms) -> None:
    model, conditions = network(), ["a", "b", "b", "c", "a", "c"]
    found = condition_direction(model, sounds, layer="3", toward="a", away=["b"], conditions=conditions)
    with torch.no_grad():
        mean = model.eval()[:5](torch.tensor(sounds)).mean(2).double().numpy()
    np.testing.assert_allclose(found, mean[[0, 4]].mean(0) - mean[[1, 2]].mean(0), rtol=1e-5, atol=1e-7)
    rest = condition_direction(model, sounds, layer="3", toward="a", conditions=conditions)
    np.testing.assert_allclose(rest, mean[[0, 4]].mean(0) - mean[[1, 2, 3, 5]].mean(0), rtol=1e-5, atol=1e-7)
    for wrong in ({"toward": "A"}, {"toward": "a", "away": "a"}, {"toward": []}):
        with pytest.raises(InputError, match="direction"):
            condition_direction(model, sounds, layer="3", conditions=conditions, **wrong)


# --- diversity ---------------------------------------------------------------------------------------------------


def test_likeness_is_the_mean_cosine_of_gram_matrices(rng: np.random.Generator) -> None:
    maps, units = rng.standard_normal((4, 3, 7)), [0, 0, 1, 0]
    found = measure_likeness(torch.tensor(maps + 5.0), torch.tensor(units))
    maps -= maps.mean(2, keepdims=True)
    gram = np.stack([(m @ m.T).ravel() / np.linalg.norm(m @ m.T) for m in maps])
    wanted = [
        np.mean([gram[i] @ gram[j] for j in range(4) if j != i and units[j] == units[i]] or [0.0]) for i in range(4)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_diversity_makes_the_patterns_of_a_unit_differ(sounds: Waveforms) -> None:
    found = []
    for weight in (0.0, 3.0):
        settings = MaximizationSettings(steps=50, seeds=3, diversity=weight, jitter_ms=0.0)
        am = maximize_activation(network(), layer="3", units=[1, 4], settings=settings, sounds=sounds)
        with torch.no_grad():
            for unit in range(2):
                maps = network().eval()[:5](torch.tensor(am.by_seed[:, unit]))
                found.append((weight, float(measure_likeness(maps, torch.zeros(3)).mean())))
    near, far = ([v for w, v in found if w == weight] for weight in (0.0, 3.0))
    assert all(f < n - 0.05 for n, f in zip(near, far, strict=True))


def test_diverse_units_do_not_depend_on_their_company(sounds: Waveforms) -> None:
    settings = MaximizationSettings(steps=4, seeds=2, diversity=1.0, micro_batch=3)
    both, one = (
        maximize_activation(network(), units=units, settings=settings, sounds=sounds, rng=np.random.default_rng(1))
        for units in ([0, 3], [3])
    )
    np.testing.assert_allclose(both.by_seed[:, 1:], one.by_seed, atol=1e-5)


# --- a generative prior ------------------------------------------------------------------------------------------


def test_pattern_is_what_the_decoder_makes_of_the_best_latent(sounds: Waveforms) -> None:
    model, decoder = network(), Decoder().train()
    settings = MaximizationSettings.of("generative", steps=30, level=None, peak=None, jitter_ms=0.0)
    am = maximize_activation(model, sounds=sounds, decoder=decoder, settings=settings)
    assert am.settings.parameterization == "decoder"
    assert (am.trace[-1] > am.trace[0]).all()
    basis = np.c_[decoder.linear.weight.detach().numpy(), decoder.linear.bias.detach().numpy()]
    for pattern in am.patterns[:, 0]:
        left = pattern - basis @ np.linalg.lstsq(basis, pattern, rcond=None)[0]
        assert np.linalg.norm(left) < 1e-4 * np.linalg.norm(pattern)
    assert decoder.training
    assert decoder.dropout.training
    assert all(p.requires_grad for p in decoder.parameters())


def test_latent_pull_keeps_latents_small(sounds: Waveforms) -> None:
    sizes = []
    for pull in (0.0, 1.0):
        settings = MaximizationSettings.of("generative", steps=60, latent_l2=pull, level=None, peak=None)
        am = maximize_activation(network(), sounds=sounds, decoder=Decoder(), settings=settings)
        sizes.append(np.square(am.patterns).mean())
    assert sizes[1] < 0.5 * sizes[0]


def test_band_limits_hold_behind_a_decoder(sounds: Waveforms) -> None:
    settings = MaximizationSettings.of("generative", steps=3, low_hz=1000.0, high_hz=2000.0)
    am = maximize_activation(network(), units=[0], sounds=sounds, decoder=Decoder(), settings=settings)
    power = np.abs(np.fft.rfft(am.patterns[0, 0])) ** 2
    frequency = np.fft.rfftfreq(800, 1 / RATE)
    assert power[(frequency < 1000) | (frequency > 2000)].sum() < 1e-8 * power.sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder": Decoder(700)}, r"shape \(1, 700\) from latents \(3,\), the network takes \(1, 800\)"),
        ({"decoder": nn.Identity()}, "give latent="),
        ({"decoder": Decoder(), "latent": 4}, r"refuses latents \(4,\)"),
        ({"latent": 3}, "give decoder= too"),
        ({"settings": MaximizationSettings.of("generative")}, "no decoder was given"),
        ({"settings": MaximizationSettings(high_hz=8001.0)}, "8001 Hz lies above 8000 Hz, half the rate"),
        ({"settings": MaximizationSettings(objective="direction")}, "needs directions="),
        ({"directions": np.ones(4)}, r"expected \(n, 5\), .*got \(1, 4\)"),
        ({"directions": {"nowhere": np.zeros(5)}}, "got 'nowhere', which is 0"),
        ({"directions": np.ones(5), "units": [1]}, "leave units='all'"),
        ({"directions": np.ones(5), "settings": MaximizationSettings(objective="logit")}, "use 'direction' or 'auto'"),
        ({"layer": "3", "length": 40}, "shorter than the receptive field of layer '3', 44 samples"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(arguments: dict[str, Any], message: str, sounds: Waveforms) -> None:
    model = network().train()
    with pytest.raises(InputError, match=message) as caught:
        maximize_activation(model, **{"sounds": sounds, "settings": None, **arguments})
    assert "\n" not in str(caught.value)
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"lp_power": 0.5},
        {"lp": -1.0},
        {"diversity": 1.0},
        {"latent_l2": np.nan},
        {"peak": 0.0},
        {"peak": "high"},
        {"step_size": np.inf},
    ],
)
def test_wrong_settings_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^maximization: expected .*{next(iter(wrong))}"):
        MaximizationSettings(**wrong)


def test_presets_are_named_and_changed() -> None:
    source = MaximizationSettings.of("source", steps=5)
    assert (source.parameterization, source.step_size, source.jitter_ms, source.level) == ("pixels", 2.0, 0.0, None)
    assert MaximizationSettings.of("source") == MaximizationSettings.source_study()
    assert (source.steps, MaximizationSettings.of("audio")) == (5, MaximizationSettings())
    with pytest.raises(InputError, match="did you mean 'source'"):
        MaximizationSettings.of("sourse")  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [1.0, 2.0, 6.0, 40.0])
def test_power_mean_is_the_norm_and_nears_the_peak(power: float, rng: np.random.Generator) -> None:
    x = 1e-3 * rng.standard_normal((3, 1, 50))
    wanted = (np.abs(x[:, 0]) ** power).mean(1) ** (1 / power)
    np.testing.assert_allclose(compute_power_mean(torch.tensor(x), power), wanted, rtol=1e-9)
    assert torch.isfinite(compute_power_mean(torch.zeros(1, 1, 8), power)).all()


def test_lp_lowers_the_peaks(sounds: Waveforms) -> None:
    crest = []
    for weight in (0.0, 100.0):
        settings = MaximizationSettings(steps=40, lp=weight, lp_power=20.0, level=0.1, **PLAIN)
        am = maximize_activation(network(), units=[0], sounds=sounds, settings=settings)
        crest.append(np.abs(am.patterns).max() / np.sqrt((am.patterns**2).mean()))
    assert crest[1] < 0.8 * crest[0]


# --- other networks ----------------------------------------------------------------------------------------------


def picture_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 6 * 8, 3),
    )


def test_pictures_have_no_band_and_no_jitter_without_a_frame_rate(rng: np.random.Generator) -> None:
    pictures = 30 * rng.standard_normal((5, 1, 20, 24)).astype(np.float32) - 60
    am = maximize_activation(picture_network(), settings=MaximizationSettings(steps=3), sounds=pictures, rng=rng)
    assert any("no jitter" in note for note in am.notes)
    assert am.rate == 0
    assert np.sqrt((am.patterns**2).mean()) == pytest.approx(np.sqrt((pictures**2).mean()), rel=0.05)
    framed = maximize_activation(picture_network(), settings=MaximizationSettings(steps=3), sounds=pictures, rate=100)
    assert (framed.notes, framed.rate) == ((), 100)
    with pytest.raises(InputError, match="a band in Hz needs a waveform"):
        maximize_activation(picture_network(), settings=MaximizationSettings(low_hz=100.0), sounds=pictures)


def test_early_layers_of_pictures_get_their_receptive_field(rng: np.random.Generator) -> None:
    pictures = rng.standard_normal((5, 1, 20, 24)).astype(np.float32)
    for layer, shape in (("0", (1, 5, 9)), ("3", (1, 10, 14))):
        settings = MaximizationSettings(steps=20, jitter_ms=20.0)
        am = maximize_activation(picture_network(), layer=layer, settings=settings, sounds=pictures, rate=100)
        assert am.patterns.shape[1:] == shape
        assert (am.trace[-5:].mean(0) > am.trace[0]).mean() > 0.7


def test_mean_spectrum_of_smaller_pictures_keeps_its_peak() -> None:
    rows, columns = np.mgrid[:32, :48]
    wave = np.sin(2 * np.pi * (rows / 8 + columns / 6))[None, None]
    for shape in ((32, 48), (16, 24), (32, 24)):
        found = compute_mean_spectrum(wave, shape)
        assert divmod(int(found.argmax()), found.shape[1]) == (shape[0] // 8, shape[1] // 6)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.output = nn.Conv1d(1, 1, 9), nn.Linear(56, 2)
        self.conv.weight.data[:] = torch.sin(torch.arange(9.0))
        self.conv.bias.data[:] = -0.8  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.output(torch.relu_(self.conv(x)).flatten(1))
        return out


def test_silent_unit_before_an_in_place_activation_is_woken(rng: np.random.Generator) -> None:
    loud = 0.5 * np.tile(np.sin(np.arange(64.0)), (2, 1, 1))
    settings = MaximizationSettings(steps=40, level=0.12, **PLAIN)
    am = maximize_activation(InPlace(), layer="conv", settings=settings, sounds=loud, length=64, rng=rng)
    assert am.dead == ()
    assert am.trace[0, 0] < 0 < am.trace[-1, 0]


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x - x)


def test_gradient_that_breaks_is_traced_to_its_layer(sounds: Waveforms) -> None:
    model = network()
    model.get_parameter("3.weight").data[0] = torch.inf
    with pytest.raises(RunError, match=r"layer 'output', unit 0.* step 0: the values of layer '3' are the first"):
        maximize_activation(model, settings=FAST, sounds=sounds)
    with pytest.raises(RunError, match="every layer's values are finite, a derivative is not"):
        maximize_activation(network(Root()), settings=FAST, sounds=sounds)
    assert not any(m._forward_hooks for m in model.modules())


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach().mean(2)


def test_cut_gradient_is_said(sounds: Waveforms) -> None:
    with pytest.raises(InputError, match="no gradient reaches the pattern"):
        maximize_activation(nn.Sequential(nn.Conv1d(1, 2, 3), Detached()), settings=FAST, sounds=sounds)


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (0.0 * x).mean(2)


def test_pattern_that_never_moved_is_said(sounds: Waveforms) -> None:
    am = maximize_activation(nn.Sequential(nn.Conv1d(1, 2, 3), Flat()), settings=FAST, sounds=sounds)
    assert any("no gradient ever reached" in note for note in am.notes)
