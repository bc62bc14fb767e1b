"""Metamers, the saturation of a softmax, and patterns compared across networks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap import features, viz
from brainmap.errors import InputError
from brainmap.features.layers.inputs import SpectrogramSounds
from brainmap.features.maximization.comparison import compare_patterns, gradient_share, measure_noise
from brainmap.features.maximization.maximize import MaximizationSettings
from brainmap.features.maximization.metamers import match_activation
from brainmap.features.maximization.saturation import softmax_saturation
from brainmap.features.networks.huggingface import load_folder
from brainmap.viz.style import render_png
from tests.features.networks.folders import make_folder

RATE = 16_000
Waveforms = NDArray[np.float32]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def sounds(rng: np.random.Generator) -> Waveforms:
    return np.asarray(0.05 * rng.standard_normal((5, 1, 400)), dtype=np.float32)


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


# --- metamers ----------------------------------------------------------------------------------------------------


def test_metamer_of_an_invertible_layer_is_the_sound(sounds: Waveforms, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(400, 400), nn.Flatten())
    net.get_parameter("1.weight").data[:] = torch.linalg.qr(torch.randn(400, 400))[0]
    settings = MaximizationSettings.of("metamer", steps=300, parameterization="pixels")
    found = match_activation(net, sounds, layer="1", items=[2], settings=settings, rng=rng)
    np.testing.assert_allclose(found.patterns[0], sounds[2], atol=0.01)
    assert found.table["waveform_correlation"][0] > 0.99
    assert found.distance[-1, 0] < 0.1 < found.distance[0, 0]


def test_metamers_numbers_can_be_computed_again_by_hand(sounds: Waveforms, rng: np.random.Generator) -> None:
    model = network()
    found = match_activation(
        model,
        sounds,
        layer="3",
        items=[1, 4],
        class_names=list("vwxyz"),
        rng=rng,
        settings=MaximizationSettings.of("metamer", steps=60),
    )
    model.eval()
    with torch.no_grad():
        real = model[:5](torch.tensor(sounds)).flatten(1).double().numpy()
        made = model[:5](torch.tensor(found.patterns)).flatten(1).double().numpy()
        called = [list("vwxyz")[k] for k in model(torch.tensor(found.patterns)).argmax(1)]
    for row, item in enumerate((1, 4)):
        others = [np.corrcoef(real[item], real[k])[0, 1] for k in range(5) if k != item]
        np.testing.assert_allclose(found.null[row], others, atol=1e-5)
        own = np.corrcoef(real[item], made[row])[0, 1]
        assert found.table["correlation"][row] == pytest.approx(own, abs=1e-5)
        assert found.table["null_highest"][row] == pytest.approx(max(others), abs=1e-5)
        left = np.linalg.norm(real[item] - made[row]) / np.linalg.norm(real[item])
        assert found.distance[-1, row] == pytest.approx(left, abs=0.05)
    assert list(found.table["label_of_metamer"]) == called
    assert (found.table["correlation"] > found.table["null_highest"]).all()
    assert found.items == ("1", "4")


def test_metamers_do_not_depend_on_how_they_are_batched(sounds: Waveforms) -> None:
    one, two = (
        match_activation(
            network(),
            sounds,
            layer="0",
            rng=np.random.default_rng(0),
            settings=MaximizationSettings.of("metamer", steps=3, micro_batch=size),
        )
        for size in (8, 2)
    )
    np.testing.assert_allclose(one.patterns, two.patterns, rtol=0.05, atol=2e-3)


def test_metamers_of_pictures_and_their_files(tmp_path: Path, sounds: Waveforms, rng: np.random.Generator) -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 18 * 18, 2))
    pictures = sounds.reshape(5, 1, 20, 20)
    few = MaximizationSettings.of("metamer", steps=2)
    assert match_activation(net, pictures, layer="0", settings=few).patterns.shape == (5, 1, 20, 20)
    found = match_activation(network(), sounds, layer="0", items=["3"], settings=few, rate=RATE)
    paths = found.save_wav(tmp_path)
    assert [p.name for p in paths] == ["0_3_original.wav", "0_3_metamer.wav"]
    assert soundfile.info(paths[1]).frames == 400
    assert render_png(viz.plot_metamers(found)).startswith(b"\x89PNG")
    drawn = viz.plot_metamers(match_activation(net, pictures, layer="0", settings=few))
    assert render_png(drawn).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "9"}, "no '9' in the network"),
        ({"items": [5]}, "items: expected ids or rows of the .* sounds, got 5"),
        ({"items": []}, "none"),
        ({"settings": MaximizationSettings.of("generative")}, "decoder"),
    ],
)
def test_metamers_refuse_what_makes_no_sense(arguments: dict[str, Any], message: str, sounds: Waveforms) -> None:
    with pytest.raises(InputError, match=message):
        match_activation(network(), sounds, **{"layer": "0", **arguments})


def test_a_shift_beyond_the_sound_is_cut_and_said(sounds: Waveforms, caplog: pytest.LogCaptureFixture) -> None:
    settings = MaximizationSettings.of("metamer", steps=2, jitter_ms=60.0)
    found = match_activation(network(), sounds, layer="0", items=[0], settings=settings, rate=RATE)
    assert "jitter cut from 960 samples to half of the pattern's 400" in caplog.text
    half = MaximizationSettings.of("metamer", steps=2, jitter_ms=12.5)
    np.testing.assert_array_equal(
        found.patterns, match_activation(network(), sounds, layer="0", items=[0], settings=half, rate=RATE).patterns
    )


# --- saturation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [(), (nn.Softmax(1),)])
def test_softmax_saturates_while_the_logit_climbs(tail: tuple[nn.Module, ...], sounds: Waveforms) -> None:
    net = network(*tail)
    net.get_parameter("7.weight").data *= 200
    settings = MaximizationSettings.of("source", steps=40)
    found = softmax_saturation(net, units=[0, 3], settings=settings, sounds=sounds, class_names=list("abcde"))
    assert found.class_names == ("a", "d")
    assert (found.probability[0, -1] > 0.999).all()
    assert (found.logit[1, -1] > 2 * found.logit[0, -1]).all()
    np.testing.assert_allclose(found.logit[0, 0], found.logit[1, 0], rtol=1e-4)  # the same noise to begin with
    assert found.table["last_logit_by_logit"].tolist() == found.logit[1, -1].tolist()
    assert found.patterns.shape == (2, 2, 1, 400)
    with torch.no_grad():
        ended = net[:-1] if tail else net
        logits = ended(torch.as_tensor(found.patterns[1])).numpy()
    assert (logits[[0, 1], [0, 3]] > 0.9 * found.logit[1, -1]).all()  # what the last step reached, or a step more
    figure = viz.plot_softmax_saturation(found)
    assert figure.axes[1].get_yscale() == "log"
    assert [axes.get_title("left") for axes in figure.axes[2:]] == [
        "a, maximizing the softmax",
        "a, maximizing the logit",
    ]
    assert figure.axes[3].get_xlabel() == "time [s]"
    assert render_png(figure).startswith(b"\x89PNG")


def test_saturation_needs_classes(sounds: Waveforms) -> None:
    with pytest.raises(InputError, match="one number for each class"):
        softmax_saturation(nn.Sequential(nn.Conv1d(1, 2, 3)), sounds=sounds)


# --- comparison --------------------------------------------------------------------------------------------------


def planted(rng: np.random.Generator, labels: tuple[str, ...], noise: float) -> SimpleNamespace:
    """A tone a class, of a frequency that its name tells, in noise."""
    t = np.arange(RATE // 2) / RATE
    tones = [np.sin(2 * np.pi * 400 * (1 + ord(name) - ord("a")) * t) for name in labels]
    waves = np.stack(tones)[:, None] + noise * rng.standard_normal((len(labels), 1, t.size))
    return SimpleNamespace(patterns=waves.astype(np.float32), labels=labels, rate=RATE)


def test_planted_classes_are_found_alike_and_the_noisy_network_noisy(rng: np.random.Generator) -> None:
    found = compare_patterns({"clear": planted(rng, ("a", "b", "c"), 0.02), "hiss": planted(rng, ("c", "a", "b"), 1.0)})
    assert found.class_names == ("a", "b", "c")
    pair = found.pairs.iloc[0]
    assert pair["same_class"] > pair["different_class"] + 0.5
    np.testing.assert_allclose(np.diag(found.similarity), 1.0)
    mean = found.table.groupby("network")[["flatness", "tonal_share", "above_4khz"]].mean()
    assert mean.loc["hiss", "flatness"] > 10 * mean.loc["clear", "flatness"]
    assert mean.loc["hiss", "above_4khz"] > 0.2 > mean.loc["clear", "above_4khz"]
    assert mean.loc["clear", "tonal_share"] > 0.9 > mean.loc["hiss", "tonal_share"]
    assert render_png(viz.plot_pattern_comparison(found)).startswith(b"\x89PNG")


def test_white_noise_is_flat_and_has_no_tones(rng: np.random.Generator) -> None:
    measures = measure_noise(rng.standard_normal((4, 1, RATE)), RATE)
    assert (measures["flatness"] > 0.9).all()
    assert (measures["tonal_share"] < 0.05).all()


def test_networks_that_share_nothing_are_not_compared(rng: np.random.Generator) -> None:
    one, other = planted(rng, ("a", "b"), 0.1), planted(rng, ("a", "d"), 0.1)
    with pytest.raises(InputError, match="at least two networks"):
        compare_patterns({"one": one})
    with pytest.raises(InputError, match="share two labels or more, got 'a'"):
        compare_patterns({"one": one, "other": other})
    other.rate = 8000
    with pytest.raises(InputError, match=r"expected patterns of one rate and length, .*8000 samples at 8000 Hz"):
        compare_patterns({"one": one, "other": other})


def test_gradient_share_of_spectrograms_is_that_along_time(rng: np.random.Generator) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, (3, 1), padding=(1, 0)))  # sees one frame: its gradient has no slope in time
    flat = gradient_share(net, np.ones((2, 1, 8, 64), np.float32), layer="0", rate=100, above_hz=25, rng=rng)
    assert 0.3 < flat < 0.7  # of white weights, half lies above a quarter of the rate


def test_gradient_share_of_a_filter_is_its_transfer_function(rng: np.random.Generator) -> None:
    net = nn.Sequential(nn.Conv1d(1, 1, 9, bias=False))
    power = np.abs(np.fft.rfft(net.get_parameter("0.weight").detach().numpy().ravel(), 4096)) ** 2
    wanted = power[np.fft.rfftfreq(4096, 1 / RATE) > 4000].sum() / power.sum()
    found = gradient_share(net, rng.standard_normal((8, 1, 2048)).astype(np.float32), layer="0", directions=8, rng=rng)
    assert found == pytest.approx(wanted, abs=0.02)


def test_padding_of_a_network_stays_in_metamers_and_does_not_count(tmp_path: Path) -> None:
    net = load_folder(make_folder(tmp_path, "whisper"))
    waves = np.random.default_rng(0).standard_normal((3, 1, 8000)).astype(np.float32)
    settings = MaximizationSettings.of("metamer", steps=3)
    found = match_activation(net, waves, layer="conv2", items=[1], settings=settings)
    spectrograms = SpectrogramSounds(net, waves)
    real, (frames, *_) = spectrograms.waveforms, spectrograms.sounding
    assert frames < real.shape[3]
    np.testing.assert_array_equal(found.patterns[0][..., frames:], real[1][..., frames:])
    assert not np.allclose(found.patterns[0][..., :frames], real[1][..., :frames])
    heard = [
        features.extract_activations(net, one, layers=["conv2"], pooling="none")["conv2"][:]
        for one in (real, found.patterns)
    ]
    share = -(-heard[0].shape[2] * frames // real.shape[3])
    rows = [one[..., :share].reshape(len(one), -1) for one in heard]
    assert found.table["correlation"].item() == pytest.approx(np.corrcoef(rows[1][0], rows[0][1])[0, 1], abs=1e-4)
    null = [np.corrcoef(rows[0][1], rows[0][k])[0, 1] for k in (0, 2)]
    np.testing.assert_allclose(sorted(found.null[0]), sorted(null), atol=1e-4)
