"""Activation maximization against closed forms, planted truths and leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.errors import InputError, RunError
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.maximization.priors import Prior, compute_fourier_scale, compute_mean_spectrum
from brainmap.features.maximization.quality import compute_spectral_moments, measure_seed_agreement, simulate_playback
from brainmap.features.maximization.site import find_site

RATE = 16_000
Waveforms = NDArray[np.float32]
FAST = MaximizationSettings(steps=4, jitter_ms=1.0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def sounds(rng: np.random.Generator) -> Waveforms:
    """Noise with speech's slope: most power near 500 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal((6, 1, 1600)))
    frequency = np.fft.rfftfreq(1600, 1 / RATE)
    shaped = np.fft.irfft(spectrum * np.exp(-np.abs(np.log(np.maximum(frequency, 1) / 500))), n=1600)
    return np.asarray(0.05 * shaped / shaped.std(), dtype=np.float32)


def classifier(*tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    first, second = nn.Conv1d(1, 6, 9, padding=4, bias=False), nn.Conv1d(6, 8, 9, bias=False)
    return nn.Sequential(
        first,
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.MaxPool1d(4),
        second,
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(32, 5),
        *tail,
    )


class Functional(nn.Module):
    """The same idea with functions in place of modules."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2, self.output = nn.Conv1d(1, 6, 9), nn.Conv1d(6, 8, 9), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.conv1(x))
        x = torch.relu_(self.conv2(nn.functional.max_pool1d(x, 4)))
        return torch.log_softmax(self.output(x.mean(2)), 1)


# --- closed forms -----------------------------------------------------------------------------------------------


def test_linear_unit_under_fixed_rms_is_the_matched_filter(rng: np.random.Generator) -> None:
    weights = rng.standard_normal((3, 64)).astype(np.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    model.get_parameter("1.weight").data[:] = torch.tensor(weights)
    model.get_parameter("1.bias").data[:] = 0
    settings = MaximizationSettings(parameterization="pixels", jitter_ms=0, level=0.2, peak=None, steps=100)
    found = maximize_activation(model, settings=settings, length=64, rng=rng).patterns[:, 0]
    wanted = 0.2 * weights / np.sqrt((weights**2).mean(1, keepdims=True))
    np.testing.assert_allclose(found, wanted, atol=0.2 * 0.02)


def test_neuron_of_first_convolution_is_its_filter(rng: np.random.Generator) -> None:
    first = nn.Conv1d(1, 4, 25)
    model = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 40, 2))
    settings = MaximizationSettings(
        objective="neuron", parameterization="pixels", jitter_ms=0, steps=100, stage="before"
    )
    am = maximize_activation(model, layer="0", settings=settings, length=64, rng=rng)
    filters, middle = first.weight.detach().numpy()[:, 0], 40 // 2
    for row, kernel in zip(am.patterns[:, 0], filters, strict=True):
        assert np.corrcoef(row[middle : middle + 25], kernel)[0, 1] > 0.999


def test_start_has_the_mean_spectrum_of_the_sounds(sounds: Waveforms, rng: np.random.Generator) -> None:
    scale = compute_fourier_scale("spectrum", (1600,), rate=RATE, waveforms=sounds)
    prior = Prior(scale, (1, 1600), level=None, peak=None)
    starts = prior.decode(torch.tensor(np.stack([prior.start(rng) for _ in range(400)]))).numpy()
    got = np.sqrt((np.abs(np.fft.rfft(starts)) ** 2).mean((0, 1)))
    wanted = np.sqrt((np.abs(np.fft.rfft(sounds)) ** 2).mean((0, 1)))
    ratio = (got / wanted)[1:-1]
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=0.2)
    assert abs(np.median(ratio / ratio.mean()) - 1) < 0.02


def test_mean_spectrum_of_another_length_keeps_the_peak() -> None:
    tone = np.sin(2 * np.pi * 2000 * np.arange(1600) / RATE)[None, None]
    for length in (160, 800, 1600, 3200):
        peak = compute_mean_spectrum(tone, (length,)).argmax() * RATE / length
        assert abs(peak - 2000) <= RATE / length


@pytest.mark.parametrize("parameterization", ["spectrum", "pixels", "1/f"])
def test_level_peak_and_band_are_kept(parameterization: Any, sounds: Waveforms, rng: np.random.Generator) -> None:
    settings = MaximizationSettings(
        parameterization=parameterization, steps=5, level=0.3, peak=0.8, low_hz=300, high_hz=2000
    )
    am = maximize_activation(classifier(), settings=settings, sounds=sounds, rng=rng)
    assert np.abs(am.patterns).max() <= 0.8 + 1e-5
    level = np.sqrt((am.patterns**2).mean((1, 2)))
    touched = np.abs(am.patterns).max((1, 2)) > 0.8 - 1e-4
    assert (np.isclose(level, 0.3, rtol=1e-3) | touched).all()
    power = np.abs(np.fft.rfft(am.patterns[:, 0])) ** 2
    frequency = np.fft.rfftfreq(1600, 1 / RATE)
    outside = (frequency < 300) | (frequency > 2000)
    assert power[:, outside].sum() < 1e-6 * power.sum()


# --- the ascent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["gradient-rms", "adam"])
@pytest.mark.parametrize("layer", ["9", "0", "4"])
def test_objective_rises(optimizer: Any, layer: str, sounds: Waveforms, rng: np.random.Generator) -> None:
    step = 2.0 if optimizer == "gradient-rms" else 0.1
    settings = MaximizationSettings(steps=30, jitter_ms=0, optimizer=optimizer, step_size=step)
    am = maximize_activation(classifier(), layer=layer, settings=settings, sounds=sounds, rng=rng)
    assert (am.trace[-1] > am.trace[0]).all()
    start, top = am.trace[0], am.trace.max(axis=0)
    assert (am.trace[-1] - start > 0.9 * (top - start)).all()


def test_unit_does_not_depend_on_its_company(sounds: Waveforms) -> None:
    model = classifier()
    together = maximize_activation(model, settings=FAST, sounds=sounds, rng=np.random.default_rng(3))
    for units in ([4], [2, 0]):
        alone = maximize_activation(model, units=units, settings=FAST, sounds=sounds, rng=np.random.default_rng(3))
        np.testing.assert_allclose(alone.patterns, together.patterns[units], atol=1e-5)
        np.testing.assert_allclose(alone.trace, together.trace[:, units], atol=1e-4)
        numbers = together.quality.select_dtypes("number").iloc[units].to_numpy()
        np.testing.assert_allclose(alone.quality.select_dtypes("number").to_numpy(), numbers, rtol=1e-3, atol=1e-4)


def test_seed_of_the_generator_decides(sounds: Waveforms) -> None:
    one, same, other = (
        maximize_activation(classifier(), units=[1], settings=FAST, sounds=sounds, rng=np.random.default_rng(s))
        for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.patterns, same.patterns)
    assert not np.allclose(one.patterns, other.patterns)


def test_best_of_several_seeds_is_kept(sounds: Waveforms, rng: np.random.Generator) -> None:
    settings = MaximizationSettings(steps=3, seeds=3, jitter_ms=0)
    am = maximize_activation(classifier(), units=[0, 3], settings=settings, sounds=sounds, rng=rng)
    model = classifier().eval()
    with torch.no_grad():
        logits = torch.stack([model(torch.tensor(starts)) for starts in am.by_seed]).numpy()
    own = logits[:, [0, 1], [0, 3]]
    for unit, seed in enumerate(own.argmax(0)):
        np.testing.assert_array_equal(am.patterns[unit], am.by_seed[seed, unit])
    assert am.quality["seed_correlation"].between(-1, 1).all()


def test_jitter_makes_patterns_keep_their_effect_when_shifted(rng: np.random.Generator) -> None:
    kept = []
    for jitter in (0.0, 25.0):
        settings = MaximizationSettings(parameterization="pixels", steps=40, jitter_ms=jitter)
        am = maximize_activation(classifier(), settings=settings, length=1600, rng=rng)
        kept.append(am.quality["kept_after_25ms"].mean())
    assert kept[1] > kept[0] + 0.05


def test_dead_unit_is_reported_and_still_climbs(sounds: Waveforms, rng: np.random.Generator) -> None:
    model = classifier()
    model.get_parameter("1.bias").data[2] = -50.0
    am = maximize_activation(model, layer="0", settings=MaximizationSettings(steps=20), sounds=sounds, rng=rng)
    assert am.dead == (2,)
    assert am.quality.set_index("unit").loc[2, "stage"] == "before"
    assert am.trace[-1, 2] > am.trace[0, 2]
    assert am.quality["dead"].sum() == 1


def test_start_without_gradient_is_woken(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Conv1d(1, 1, 9), nn.ReLU(), nn.Flatten(), nn.Linear(56, 2))
    model.get_parameter("0.weight").data[:] = torch.sin(torch.arange(9.0))
    model.get_parameter("0.bias").data[:] = -0.8
    loud = 0.5 * np.tile(np.sin(np.arange(64.0)), (2, 1, 1))
    settings = MaximizationSettings(parameterization="pixels", steps=40, jitter_ms=0, level=0.12, peak=None)
    am = maximize_activation(model, layer="0", settings=settings, sounds=loud, length=64, rng=rng)
    assert am.dead == ()
    assert am.trace[0, 0] < 0 < am.trace[-1, 0]


def test_deep_dream_drives_the_whole_layer(sounds: Waveforms, rng: np.random.Generator) -> None:
    settings = MaximizationSettings(objective="layer", steps=20, jitter_ms=0)
    am = maximize_activation(classifier(), layer="4", settings=settings, sounds=sounds, rng=rng)
    assert am.patterns.shape[0] == 1
    assert am.quality["gain"][0] > 1


def test_two_dimensional_networks_work_too(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 8 * 10, 3))
    pictures = 0.1 * rng.standard_normal((5, 1, 20, 24)).astype(np.float32)
    am = maximize_activation(model, settings=MaximizationSettings(steps=20, jitter_ms=0), sounds=pictures, rng=rng)
    assert am.patterns.shape == (3, 1, 20, 24)
    assert (am.trace[-1] > am.trace[0]).all()
    assert (am.quality["objective"] > am.quality["best_clip"]).all()
    with pytest.raises(InputError, match="expected patterns \\(n_units, 1, t\\)"):
        am.save_wav("nowhere")


# --- where it listens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_softmax_head_is_unwrapped_to_logits_and_said(head: nn.Module, sounds: Waveforms) -> None:
    plain, wrapped = (
        maximize_activation(net, settings=FAST, sounds=sounds, rng=np.random.default_rng(0), layer=layer)
        for net, layer in ((classifier(), "9"), (classifier(head), "output"))
    )
    assert any("logits" in note for note in wrapped.notes)
    assert not plain.notes
    # layers of another name start from other noise; the site is what must agree
    bare, soft = classifier().eval(), classifier(head).eval()
    heard = torch.tensor(wrapped.patterns)
    torch.testing.assert_close(
        torch.tensor(wrapped.quality["objective"].to_numpy(np.float32)),
        bare(heard).diagonal().detach(),
        atol=1e-3,
        rtol=1e-2,
    )
    assert soft(heard).shape == bare(heard).shape


def test_softmax_out_of_sight_is_refused(sounds: Waveforms) -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = classifier()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            odds: torch.Tensor = self.body(x).exp()
            return odds / odds.sum(1, keepdim=True)

    with pytest.raises(InputError, match="expected logits, got a"):
        maximize_activation(Hidden(), settings=FAST, sounds=sounds)


def test_functions_and_in_place_operations_are_followed(sounds: Waveforms) -> None:
    model = Functional().eval()
    x = torch.tensor(sounds[:1])
    site = find_site(model, "conv2", x)
    assert site.before != site.after
    am = maximize_activation(model, layer="conv2", settings=FAST, sounds=sounds)
    assert am.notes == ()
    head = maximize_activation(model, settings=FAST, sounds=sounds)
    assert "log_softmax unwrapped" in head.notes[0]
    assert (head.quality["objective"] != 0).all()


def test_early_layers_get_their_receptive_field_and_room_for_jitter(sounds: Waveforms) -> None:
    model = classifier()
    for layer, field in (("0", 9), ("4", 44)):
        am = maximize_activation(model, layer=layer, units=[0], settings=FAST, sounds=sounds)
        assert am.patterns.shape[-1] == field + 2 * 16
    full = MaximizationSettings(steps=2, extent="full")
    assert maximize_activation(model, layer="0", units=[0], settings=full, sounds=sounds).patterns.shape[-1] == 1600


def test_model_comes_back_as_it_was(sounds: Waveforms) -> None:
    model = classifier().train()
    model[2].eval()
    model.get_parameter("0.weight").requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    maximize_activation(model, settings=FAST, sounds=sounds)
    with pytest.raises(InputError):
        maximize_activation(model, settings=FAST, sounds=np.zeros((1, 3, 1600), np.float32))
    with pytest.raises(InputError):
        maximize_activation(model, layer="nothing", settings=FAST, sounds=sounds)
    assert [m.training for m in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_thread_count_is_given_back(sounds: Waveforms) -> None:
    count = torch.get_num_threads()
    maximize_activation(classifier(), units=[0], settings=FAST, sounds=sounds, threads=count + 1)
    assert torch.get_num_threads() == count


# --- quality and files -------------------------------------------------------------------------------------------


def test_quality_numbers_can_be_computed_again_by_hand(sounds: Waveforms, rng: np.random.Generator) -> None:
    model = classifier()
    am = maximize_activation(
        model, settings=MaximizationSettings(steps=10, jitter_ms=0), sounds=sounds, class_names=list("abcde"), rng=rng
    )
    table = am.quality
    assert list(table["class_name"]) == list("abcde")
    model.eval()
    with torch.no_grad():
        real = model(torch.tensor(sounds)).max(0).values.numpy()
        heard = simulate_playback(am.patterns, float(np.median(np.sqrt((sounds**2).mean((1, 2))))))
        logits = model(torch.tensor(heard))
        softer = model(torch.tensor(heard) * 10 ** (-6 / 20)).diagonal().numpy()
    own = logits.diagonal().numpy()
    np.testing.assert_allclose(table["best_clip"], real, rtol=1e-4)
    np.testing.assert_allclose(table["objective"], own, rtol=1e-4)
    positive = real > 0
    np.testing.assert_allclose(table["gain"][positive], (own / real)[positive], rtol=1e-4)
    np.testing.assert_allclose(table["confidence"], logits.softmax(1).diagonal(), rtol=1e-4)
    np.testing.assert_allclose(table["kept_at_minus_6db"][own > 0], (softer / own)[own > 0], rtol=1e-3)


def test_spectral_moments_of_a_known_mixture() -> None:
    t = np.arange(RATE) / RATE
    mixture = np.sin(2 * np.pi * 1000 * t) + np.sin(2 * np.pi * 6000 * t)
    moments = compute_spectral_moments(mixture[None, None], RATE)
    assert moments["centroid_hz"][0] == pytest.approx(3500, abs=1)
    assert moments["bandwidth_hz"][0] == pytest.approx(2500, abs=1)
    assert moments["above_4khz"][0] == pytest.approx(0.5, abs=1e-3)


def test_seed_agreement_sees_a_shifted_copy(rng: np.random.Generator) -> None:
    wave = rng.standard_normal((1, 1, 1, 256))
    pair = np.concatenate([wave, np.roll(wave, 40, -1)])
    assert measure_seed_agreement(pair)["seed_correlation"][0] == pytest.approx(1)
    assert measure_seed_agreement(pair)["seed_spectrum_correlation"][0] == pytest.approx(1)
    other = np.concatenate([wave, rng.standard_normal((1, 1, 1, 256))])
    assert measure_seed_agreement(other)["seed_correlation"][0] < 0.5


def test_wav_files_hold_the_patterns_within_full_scale(
    tmp_path: Path, sounds: Waveforms, rng: np.random.Generator
) -> None:
    settings = MaximizationSettings(steps=3, level=2.0, peak=None)
    am = maximize_activation(classifier(), units=[1, 2], settings=settings, sounds=sounds, class_names=list("vwxyz"))
    paths = am.save_wav(tmp_path / "am")
    assert [p.name for p in paths] == ["output_w.wav", "output_x.wav"]
    for path, pattern in zip(paths, am.patterns, strict=True):
        assert soundfile.info(path).subtype == "PCM_16"
        data, rate = soundfile.read(path)
        assert rate == RATE
        assert np.abs(data).max() <= 1
        np.testing.assert_allclose(data, pattern[0] / np.abs(pattern).max(), atol=1e-4)
    long = am.save_wav(tmp_path / "long", seconds=0.25)
    assert soundfile.info(long[0]).frames == 4800
    assert sorted(p.name for p in (tmp_path / "am").iterdir()) == ["output_w.wav", "output_x.wav"]


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "convv"}, "no 'convv' in the network"),
        ({"units": [5]}, "0 to 4"),
        ({"units": []}, "expected different units"),
        ({"units": [1, 1]}, "expected different units"),
        ({"length": 3}, "refuses inputs \\(1, 3\\)"),
        ({"sounds": np.zeros((2, 1600))}, "expected sounds \\(n, c, t\\)"),
        ({"sounds": np.full((2, 1, 1600), np.nan)}, "NaN"),
        ({"sounds": np.zeros((2, 1, 1600))}, "silent"),
        ({"class_names": ["a"]}, "got 1"),
        ({"layer": "0", "settings": MaximizationSettings(objective="logit")}, "use 'channel'"),
        ({"settings": MaximizationSettings(low_hz=9000)}, "no frequency"),
        ({"device": "nonsense"}, "device"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: dict[str, Any], message: str, sounds: Waveforms) -> None:
    with pytest.raises(InputError, match=message) as caught:
        maximize_activation(classifier(), **{"sounds": sounds, "settings": FAST, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "chanel"},
        {"steps": 0},
        {"step_size": 0.0},
        {"level": -1.0},
        {"level": "loud"},
        {"jitter_ms": -1.0},
        {"low_hz": 500.0, "high_hz": 400.0},
        {"parameterization": "wavelet"},
    ],
)
def test_wrong_settings_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        MaximizationSettings(**wrong)


def test_gradient_that_is_not_finite_names_layer_and_step(sounds: Waveforms) -> None:
    model = classifier()
    model.get_parameter("9.weight").data[:] = torch.nan
    with pytest.raises(RunError, match=r"layer 'output', unit 0, .* step 0"):
        maximize_activation(model, settings=FAST, sounds=sounds)


def test_without_sounds_the_prior_is_speech_and_said(rng: np.random.Generator) -> None:
    am = maximize_activation(classifier(), settings=FAST, length=1600, rng=rng)
    assert "Byrne" in am.notes[0]
    assert am.quality["gain"].isna().all()
