"""Tuning by tones and noise: what was planted, what the filters say, and what cannot be measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap import features
from brainmap.errors import InputError, RunError
from brainmap.features.sounds.cochlea import convert_to_erb
from brainmap.features.units.filters import layer_filters
from brainmap.features.units.tuning import TUNING_COLUMNS, TuningSettings, list_sweep_frequencies

RATE = 8000
X = np.zeros((1, 1, 2400), np.float32)
CENTERS = (300.0, 700.0, 1500.0, 2600.0)
QUICK = TuningSettings(lowest_hz=100, highest_hz=3700, per_step=12, levels_db=(0.0,), repeats=2)


def bank(kernels: np.ndarray, **given: object) -> nn.Conv1d:
    """A convolution with these taps `(n_units, n_taps)`."""
    conv = nn.Conv1d(1, len(kernels), kernels.shape[1], bias=False, **given)  # type: ignore[arg-type]
    conv.weight.data = torch.as_tensor(kernels[:, None], dtype=torch.float32)
    return conv


def gabors(centers: tuple[float, ...] = CENTERS, n_taps: int = 161) -> np.ndarray:
    """Band-pass filters with a Gaussian envelope."""
    time = (np.arange(n_taps) - n_taps // 2) / RATE
    return np.stack([np.exp(-0.5 * (time / 3e-3) ** 2) * np.cos(2 * np.pi * f * time) for f in centers])


@pytest.fixture(scope="module")
def cochlea() -> nn.Sequential:
    """A filter bank, a rectifier, pooling, a layer that picks channels 2, 0 and nothing, and one of their sums."""
    net = nn.Sequential(
        bank(gabors()), nn.ReLU(), nn.AvgPool1d(40), nn.Conv1d(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 56, 2)
    )
    pick = net[3]
    pick.weight.data.zero_()
    pick.bias.data = torch.tensor([0.0, 0.0, -1.0, 0.5])
    pick.weight.data[0, 2] = pick.weight.data[1, 0] = 1.0
    pick.weight.data[3, 1] = -1.0
    return net


@pytest.fixture(scope="module")
def heard(cochlea: nn.Sequential) -> features.Tuning:
    return features.measure_tuning(cochlea, X, settings=QUICK, rate=RATE)


def test_tones_give_the_size_of_the_filters_response(cochlea: nn.Sequential) -> None:
    settings = TuningSettings(lowest_hz=100, highest_hz=3700, levels_db=(-20.0, 0.0), measure="rms", reference_rms=0.1)
    found = features.measure_tuning(cochlea, X, layers="0", stage="before", settings=settings, rate=RATE)
    gain = layer_filters(cochlea, X, rate=RATE).gain(found.frequencies)
    for at, level in enumerate((0.01, 0.1)):
        np.testing.assert_allclose(found.responses["0"][:, at], level * gain, rtol=0.02, atol=0.01 * level * gain.max())
    assert found.frames == {"0": "inside"}


def test_tuning_by_tones_and_by_filters_agree(cochlea: nn.Sequential, heard: features.Tuning) -> None:
    by_tones = heard.table[heard.table["layer"] == "0"].set_index("unit")
    by_filter = layer_filters(cochlea, X, rate=RATE).table
    step = 2 ** (1 / 24)  # half the distance of two tones
    ratio = by_tones["best_hz"] / by_filter["best_hz"]
    assert ratio.between(1 / step, step).all()
    for edge in ("low_hz", "high_hz"):
        np.testing.assert_allclose(by_tones[edge], by_filter[edge], rtol=step - 1)
    np.testing.assert_allclose(by_filter["best_hz"], CENTERS, rtol=0.01)


def test_deeper_units_have_the_best_frequencies_that_were_planted(heard: features.Tuning) -> None:
    table = heard.table[heard.table["layer"] == "3"].reset_index(drop=True)
    step = 2 ** (1 / 24)
    assert 1500 / step < table.loc[0, "best_hz"] < 1500 * step
    assert 300 / step < table.loc[1, "best_hz"] < 300 * step
    assert table["shape"].tolist() == ["band-pass", "band-pass", "dead", "suppressed"]
    assert np.isnan(table.loc[2:, "best_hz"]).all()
    assert table["silence"].tolist() == [0, 0, 0, 0.5]
    assert heard.order("3").tolist()[:2] == [1, 0]
    assert set(table) == set(TUNING_COLUMNS)


def test_units_without_position_are_measured_whole_and_labelled(heard: features.Tuning) -> None:
    assert heard.frames == {"0": "inside", "3": "inside", "output": "whole"}
    assert heard.responses["output"].shape == (2, 1, len(heard.frequencies))


def test_noise_bands_find_the_same_best_frequencies(cochlea: nn.Sequential, heard: features.Tuning) -> None:
    settings = TuningSettings(stimulus="noise", lowest_hz=150, highest_hz=3000, per_step=6, levels_db=(0.0,), repeats=4)
    one, again = (
        features.measure_tuning(cochlea, X, layers="0", settings=settings, rate=RATE, rng=np.random.default_rng(3))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.responses["0"], again.responses["0"])
    octaves = np.abs(np.log2(one.table["best_hz"].to_numpy() / CENTERS))
    assert (octaves <= 1 / 4).all()
    assert (one.table["octaves"] > heard.table["octaves"][:4]).all()  # the band itself is a third of an octave


def test_stimuli_lie_in_the_middle_have_their_level_and_are_ramped() -> None:
    class Keep(nn.Module):
        """Hands the sounds on, and keeps them."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.seen = bank(np.ones((1, 1))), []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(x.clone())
            heard: Tensor = self.conv(x)
            return heard

    net = Keep()
    settings = TuningSettings(lowest_hz=500, highest_hz=1000, per_step=1, levels_db=(-6.0, 0.0), ramp_ms=10, repeats=1)
    features.measure_tuning(net, X, layers="output", settings=settings, rate=RATE, batch_size=3)
    waves = torch.cat(net.seen[-2:])[:, 0].numpy()  # after the looks at its layers
    assert not waves[0].any()
    assert not waves[:, :600].any()
    assert not waves[:, 1800:].any()
    steady = waves[1:, 680:1720]
    np.testing.assert_allclose(np.sqrt((steady**2).mean(axis=1)), np.repeat([0.05 * 10**-0.3, 0.05], 2), rtol=0.02)
    assert np.abs(waves[-1, 600:604]).max() < 0.002
    spectrum = np.abs(np.fft.rfft(waves[1:]))
    np.testing.assert_allclose(spectrum.argmax(axis=1) * RATE / 2400, [500, 1000, 500, 1000], atol=4)


def test_only_centers_count_where_no_receptive_field_fits_into_a_stimulus() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 2001, padding=1000), nn.ReLU())
    found = features.measure_tuning(net, X, settings=QUICK, rate=RATE)
    assert found.frames == {"output": "centered"}


def test_a_flat_unit_is_untuned_and_one_that_needs_level_is_unresponsive_below_it() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 1), nn.ReLU(), nn.AvgPool1d(8))
    net[0].weight.data.fill_(1.0)
    net[0].bias.data = torch.tensor([0.0, -0.05])
    settings = TuningSettings(lowest_hz=100, highest_hz=3700, per_step=3, levels_db=(-20.0, 0.0))
    table = features.measure_tuning(net, X, layers="0", settings=settings, rate=RATE).table
    assert table["shape"].tolist() == ["untuned", "unresponsive", "untuned", "untuned"]


def test_frequencies_are_evenly_spaced_in_octaves_or_erbs_and_leave_room_for_noise() -> None:
    octaves = list_sweep_frequencies(TuningSettings(lowest_hz=125, highest_hz=4000, per_step=3), 16_000)
    np.testing.assert_allclose(octaves, 125 * 2 ** (np.arange(16) / 3))
    erbs = list_sweep_frequencies(TuningSettings(spacing="erb", per_step=2), 16_000)
    np.testing.assert_allclose(np.diff(convert_to_erb(erbs)), 0.5)
    noise = list_sweep_frequencies(TuningSettings(stimulus="noise", noise_octaves=1.0, highest_hz=9000), 16_000)
    assert noise[-1] * 2**0.5 < 8000


def test_the_network_is_given_back_as_it_was_even_after_an_error(cochlea: nn.Sequential) -> None:
    cochlea.train()
    kept = cochlea[3].weight.data.clone()
    cochlea[3].weight.data.fill_(float("nan"))
    try:
        with pytest.raises(RunError, match="layer '3' is not finite for a tone"):
            features.measure_tuning(cochlea, X, settings=QUICK, rate=RATE)
        assert all(module.training for module in cochlea.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in cochlea.modules())
        assert all(p.requires_grad for p in cochlea.parameters())
    finally:
        cochlea[3].weight.data.copy_(kept)
        cochlea.eval()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stimulus": "tones"}, "did you mean 'tone'"),
        ({"measure": "men"}, "did you mean 'mean'"),
        ({"lowest_hz": 0}, "expected frequencies with 0 < lowest < highest"),
        ({"repeats": 0}, "1 repeat"),
        ({"height": 1.0}, "between 0 and 1"),
        ({"ramp_ms": -1}, "ramps of 0 ms or more"),
        ({"seconds": 2.0}, "at most 0.3 s"),
        ({"ramp_ms": 80.0}, "longer than both ramps"),
        ({"lowest_hz": 5.0}, "begin at 13 Hz"),
        ({"lowest_hz": 5000.0}, "no frequency from 5000 Hz up"),
        ({"stimulus": "noise", "lowest_hz": 15.0, "noise_octaves": 0.05}, "make the band wider"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(given: dict[str, object], said: str, cochlea: nn.Sequential) -> None:
    with pytest.raises(InputError, match=said) as caught:
        features.measure_tuning(cochlea, X, settings=TuningSettings(**given), rate=RATE)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_unknown_layers_levels_and_inputs_are_refused(cochlea: nn.Sequential, heard: features.Tuning) -> None:
    with pytest.raises(InputError, match="did you mean 'output'"):
        features.measure_tuning(cochlea, X, layers="outptu", settings=QUICK, rate=RATE)
    with pytest.raises(InputError, match=r"expected one of the levels 0\.0 dB, got -10 dB"):
        heard.curves("0", level_db=-10.0)
    with pytest.raises(InputError, match="did you mean 'output'"):
        heard.curves("outptu")
    for shape in ((1, 2, 2400), (1, 1, 8, 300)):
        with pytest.raises(InputError, match=r"expected waveforms .*in which a tone has no place"):
            features.measure_tuning(cochlea, np.zeros(shape), settings=QUICK, rate=RATE)


@pytest.mark.slow
def test_the_shipped_network_hears_through_its_filters() -> None:
    from importlib.resources import files

    model = features.load_network(str(files("brainmap.data") / "networks" / "ch32.safetensors"))
    wave = np.zeros((1, 1, 16_000), np.float32)
    settings = TuningSettings(levels_db=(0.0,))
    found = features.measure_tuning(model, wave, layers="conv1", settings=settings, rate=16_000)
    gain = layer_filters(model, wave, rate=16_000).gain(found.frequencies)
    by_tones = np.searchsorted(found.frequencies, found.table["best_hz"].to_numpy())
    share = gain[np.arange(len(gain)), by_tones] / gain.max(axis=1)
    assert (share > 0.995).all()  # flat low-pass filters have no sharp best frequency
    one_sided = found.table["shape"].to_numpy() == "low-pass"
    assert (by_tones == gain.argmax(axis=1))[~one_sided].all()
