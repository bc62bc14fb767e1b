"""Where in a sound an encoding model reads: the map adds up to the prediction, and finds what was planted."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.attention.encoders import measure_levels, tabulate_maps
from brainmap.features.networks.readout import ReadoutNetwork
from brainmap.features.sounds.files import Sounds, sounds_from_array

RATE = 16_000


def fit_readout(
    model: nn.Module, sounds: Sounds, layer: str, y: NDArray[np.float64], names: list[str], ridge: float = 1.0
) -> ReadoutNetwork:
    units = np.asarray(features.extract_activations(model, sounds, layers=[layer])[layer], dtype=np.float64)
    units = units.reshape(len(units), -1)
    mean, sd = units.mean(0), units.std(0)
    z = (units - mean) / np.where(sd > 0, sd, 1)
    weights = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    return features.readout_network(
        model, sounds, layer=layer, weights=weights, mean=mean, sd=sd, intercept=y.mean(0), names=names
    )


@pytest.fixture(scope="module")
def noises() -> Sounds:
    rng = np.random.default_rng(0)
    waves = 0.1 * rng.standard_normal((20, 1, 1600)) * rng.uniform(0.1, 1, (20, 1, 1600 // 200)).repeat(200, axis=2)
    return sounds_from_array(waves, rate=RATE)


def convolutions(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv1d(1, 6, 25, stride=5),
        nn.ReLU(),
        nn.Conv1d(6, 9, 9, stride=2, padding=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(9, 2),
    ).eval()


@pytest.mark.parametrize("layer", ["0", "2"])
def test_mean_of_the_map_and_intercept_are_the_prediction(noises: Sounds, layer: str) -> None:
    y = np.random.default_rng(1).standard_normal((20, 3))
    model = fit_readout(convolutions(), noises, layer, y, ["A", "B", "C"])
    found = features.map_encoder(model, noises, regions=["C", "A"])
    assert found.regions == ("C", "A")
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        predicted = exact(torch.as_tensor(noises.waveforms, dtype=torch.float64)).numpy()[:, [2, 0]]
    np.testing.assert_allclose(found.maps.mean(axis=2) + found.intercept, predicted, atol=1e-6 * np.abs(y).max())
    np.testing.assert_allclose(found.predictions, predicted, atol=1e-5)
    np.testing.assert_allclose(found.less_mean.mean(axis=0), 0, atol=1e-10)
    some = found.take([3, 1])
    np.testing.assert_array_equal(some.less_mean, found.less_mean[[3, 1]])  # the mean stays that of all sounds


def test_frames_lie_at_the_centers_of_their_receptive_fields(noises: Sounds) -> None:
    model = fit_readout(convolutions(), noises, "2", np.random.default_rng(1).standard_normal((20, 1)), ["A"])
    found = features.map_encoder(model, noises)
    assert found.seconds[0] == pytest.approx(12 / RATE)  # the center of the first window of 25 samples
    np.testing.assert_allclose(np.diff(found.seconds), 10 / RATE)
    level = measure_levels(noises.waveforms[:, 0], found.seconds, width=10 / RATE, rate=RATE)
    np.testing.assert_allclose(found.energy, level)
    middle = round(found.seconds[40] * RATE)
    part = noises.waveforms[7, 0, middle - 5 : middle + 5].astype(np.float64)
    assert found.energy[7, 40] == pytest.approx(10 * np.log10(np.mean(part**2)), abs=1e-6)


def test_networks_on_spectrograms_have_courses_of_time(noises: Sounds) -> None:
    from brainmap.features.sounds.front_ends import read_front_end

    pictures = replace(noises, front_end=read_front_end("log-mel,mels=8,hop_ms=5,window_ms=10"))
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), *head).eval()
    responses = np.random.default_rng(1).standard_normal((20, 2))
    found = features.map_encoder(fit_readout(model, pictures, "0", responses, ["A", "B"], 3.0), pictures)
    assert found.maps.shape == (20, 2, len(found.seconds))
    np.testing.assert_allclose(found.maps.mean(axis=2) + found.intercept, found.predictions, atol=1e-4)
    np.testing.assert_allclose(np.diff(found.seconds), 0.005)


def test_table_is_the_mean_of_close_frames(noises: Sounds) -> None:
    model = fit_readout(convolutions(), noises, "0", np.random.default_rng(1).standard_normal((20, 1)), ["A"])
    found = features.map_encoder(model, noises).take([4])
    table = tabulate_maps(found)  # frames are 5 samples apart: 32 of them are 10 ms
    steps = found.average_in_steps()
    np.testing.assert_array_equal(steps.energy[0], table["energy"])
    assert table["map"].iloc[1] == pytest.approx(found.maps[0, 0, 32:64].mean())
    assert table["time"].iloc[0] == pytest.approx(found.seconds[:32].mean())
    assert table["map_less_mean"].iloc[-1] == pytest.approx(found.less_mean[0, 0, len(table) * 32 - 32 :].mean())


def test_what_has_no_course_of_time_is_refused(noises: Sounds) -> None:
    y = np.random.default_rng(1).standard_normal((20, 1))
    model = fit_readout(convolutions(), noises, "0", y, ["left-A1"])
    for given, said in (
        ((convolutions(), noises), "expected an encoding model"),
        ((model, noises.waveforms), "with their rate"),
    ):
        with pytest.raises(InputError, match=said):
            features.map_encoder(*given)
    with pytest.raises(InputError, match="did you mean 'left-A1'"):
        features.map_encoder(model, noises, regions=["left-A2"])
    model.pooling = "max"
    with pytest.raises(InputError, match="no mean over time"):
        features.map_encoder(model, noises)


@pytest.mark.slow
def test_map_finds_the_band_that_a_voxel_answers_better_than_energy_does() -> None:
    from brainmap.data import folder

    network = features.load_network(folder() / "networks" / "ch32.safetensors")
    sounds = features.load_sounds(folder() / "words" / "stimuli.tsv")
    spectrum = np.fft.rfft(sounds.waveforms[:, 0])
    hertz = np.fft.rfftfreq(sounds.n_samples, 1 / RATE)
    band = np.fft.irfft(spectrum * ((hertz >= 3000) & (hertz <= 6000)), n=sounds.n_samples)
    noise = np.random.default_rng(0).standard_normal((len(sounds), 1))
    middles = (np.arange(100) + 0.5) / 100
    response = 10 ** (measure_levels(band, middles, width=0.01, rate=RATE) / 20)  # amplitude, which the voxel averages
    response = response.mean(axis=1, keepdims=True)
    y = (response - response.mean()) / response.std() + noise
    model = fit_readout(network, sounds, "conv3", y, ["voxel"], ridge=100.0)
    found = features.map_encoder(model, sounds).average_in_steps()
    step = float(np.diff(found.seconds)[0])
    true, loud = (
        10 ** (measure_levels(w, found.seconds, width=step, rate=RATE) / 20) for w in (band, sounds.waveforms[:, 0])
    )
    true, loud = true - true.mean(axis=0), loud - loud.mean(axis=0)
    by_map = float(np.nanmean(found.compare_with(true)))
    by_energy = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(loud, true, strict=True)])
    assert by_map > 0.63  # .81; the energy: .45
    assert by_energy < 0.5
