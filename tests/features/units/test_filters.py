"""First-layer filters: the numbers scipy gives for the same taps, whatever the layer is made of; sorted spectra."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.units.filters import FILTER_COLUMNS, find_passbands

RATE = 8000
X = np.zeros((1, 1, 1000), np.float32)


def bank(kernels: np.ndarray, **given: object) -> nn.Conv1d:
    """A convolution with these taps `(n_units, n_taps)`."""
    conv = nn.Conv1d(1, len(kernels), kernels.shape[1], bias=False, **given)  # type: ignore[arg-type]
    conv.weight.data = torch.as_tensor(kernels[:, None], dtype=torch.float32)
    return conv


def gammatones(centers: list[float], n_taps: int = 400) -> np.ndarray:
    """Gammatone filters of order 4, one ERB wide."""
    time = np.arange(n_taps) / RATE
    width = 1.019 * 24.7 * (4.37e-3 * np.array(centers) + 1)
    return np.stack(
        [
            time**3 * np.exp(-2 * np.pi * b * time) * np.cos(2 * np.pi * f * time) * 1e7
            for f, b in zip(centers, width, strict=True)
        ]
    )


class Functional(nn.Module):
    """Normalization and nonlinearity as functions, in place; nothing that a list of modules would tell."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.front = conv
        self.mean, self.var = nn.Buffer(torch.tensor([0.3, -0.2])), nn.Buffer(torch.tensor([4.0, 0.25]))
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.batch_norm(self.front(x), self.mean, self.var)
        logits: Tensor = self.head(functional.relu(y, inplace=True).mean(2))
        return logits


def test_planted_filters_come_back_with_centers_and_bandwidths_of_scipy() -> None:
    centers = [300.0, 700.0, 1500.0, 3000.0]
    kernels = gammatones(centers)[[2, 0, 3, 1]]
    net = nn.Sequential(bank(kernels), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    found = features.layer_filters(net, X, rate=RATE)
    np.testing.assert_allclose(found.kernels, kernels, rtol=1e-5, atol=1e-6)
    assert found.order.tolist() == [1, 3, 0, 2]
    table = found.table.iloc[found.order]
    np.testing.assert_allclose(table["best_hz"], centers, rtol=0.02)
    for row in table.itertuples():
        hertz, response = signal.freqz(kernels[row.unit], worN=20_000, fs=RATE)
        inside = hertz[np.abs(response) >= np.abs(response).max() * np.sqrt(0.5)]
        assert row.low_hz == pytest.approx(inside.min(), abs=1.5)
        assert row.high_hz == pytest.approx(inside.max(), abs=1.5)
        assert row.q == pytest.approx(row.best_hz / (row.high_hz - row.low_hz))
    assert set(table["shape"]) == {"band-pass"}
    assert set(found.table) == set(FILTER_COLUMNS)


def test_gain_is_the_size_of_scipys_response_at_any_frequency() -> None:
    kernels = np.random.default_rng(0).normal(size=(3, 9))
    found = features.layer_filters(nn.Sequential(bank(kernels), nn.ReLU(), nn.Flatten()), X, rate=RATE)
    hertz = np.array([0.0, 123.4, 1999.0, 4000.0])
    for kernel, gain in zip(kernels, found.gain(hertz), strict=True):
        np.testing.assert_allclose(gain, np.abs(signal.freqz(kernel, worN=hertz, fs=RATE)[1]), rtol=1e-4)


@pytest.mark.parametrize("options", [{"stride": 3}, {"padding": 4}, {"dilation": 2}, {"stride": 2, "padding": 7}])
def test_stride_padding_and_dilation_are_honored(options: dict[str, int]) -> None:
    kernels = np.random.default_rng(1).normal(size=(2, 5))
    net = nn.Sequential(bank(kernels, **options), nn.ELU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(2, 2))
    found = features.layer_filters(net, X, rate=RATE)
    spread = np.zeros((2, 4 * options.get("dilation", 1) + 1))
    spread[:, :: options.get("dilation", 1)] = kernels
    np.testing.assert_allclose(found.kernels, spread, rtol=1e-5)
    assert found.stride == options.get("stride", 1)


def test_a_normalization_is_part_of_the_filter_and_its_offset() -> None:
    kernels = np.random.default_rng(2).normal(size=(2, 5))
    found = features.layer_filters(Functional(bank(kernels)), X, rate=RATE)
    scale = 1 / np.sqrt(np.array([4.0, 0.25]) + 1e-5)
    np.testing.assert_allclose(found.kernels, kernels * scale[:, None], rtol=1e-5)
    np.testing.assert_allclose(found.offsets, -np.array([0.3, -0.2]) * scale, rtol=1e-5)


def test_batch_norm_modules_count_in_eval_mode_and_the_network_is_given_back_as_it_was() -> None:
    net = nn.Sequential(bank(np.ones((2, 3))), nn.BatchNorm1d(2), nn.ReLU(), nn.Conv1d(2, 2, 3), nn.ReLU())
    net[1].running_var.fill_(9.0)
    net.train()
    net[2].eval()
    net[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = features.layer_filters(net, X, rate=RATE)
    np.testing.assert_allclose(found.kernels, 1 / 3, rtol=1e-5)
    with pytest.raises(InputError, match="layer '3' is not linear up to its nonlinearity"):
        features.layer_filters(net, X, rate=RATE, layer="3")
    assert [module.training for module in net] == [True, True, False, True, True]
    assert not net[0].weight.requires_grad
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_dead_and_one_sided_filters_say_so() -> None:
    kernels = np.array([[0.0, 0, 0], [1, 1, 1], [1, -2, 1], [0, 1, 0]])
    found = features.layer_filters(nn.Sequential(bank(kernels), nn.ReLU()), X, rate=RATE)
    assert found.table["shape"].tolist() == ["dead", "low-pass", "high-pass", "flat"]
    assert found.order[-1] == 0
    assert np.isnan(found.table.loc[0, "best_hz"])
    assert found.table.loc[1, ["best_hz", "low_hz"]].tolist() == [0, 0]
    assert found.table.loc[2, "high_hz"] == RATE / 2


def test_bands_are_counted_and_edges_lie_between_frequencies() -> None:
    hertz = np.array([100.0, 200, 300, 400, 500, 600])
    table = find_passbands(
        np.array([[0, 4.0, 0, 0, 3, 0], [0, 0, 0, 0, 0, 0], [-1, -2, -1, -3, -1, -1]]), hertz, height=0.5
    )
    first = table.iloc[0]
    assert (first["best_hz"], first["low_hz"], first["high_hz"], first["bands"]) == (200, 150, 250, 2)
    assert first["octaves"] == pytest.approx(np.log2(250 / 150))
    assert table["shape"].tolist() == ["band-pass", "none", "none"]


def test_spectra_are_sorted_by_the_peak_that_was_planted() -> None:
    time = np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * f * time) for f in (2000, 250, 900)]
    am = SimpleNamespace(patterns=np.stack([*tones, 0 * time])[:, None], rate=RATE, labels=("a", "b", "c", "none"))
    found = features.pattern_spectra(am)
    assert [found.labels[i] for i in found.order] == ["b", "c", "a", "none"]
    np.testing.assert_allclose(found.table["best_hz"][:3], [2000, 250, 900], rtol=2 ** (1 / 12) - 1)
    assert found.table["shape"].iloc[3] == "none"
    assert found.level_db[:3].max(axis=1).tolist() == [0, 0, 0]
    noise = np.random.default_rng(0).normal(size=(20, 1, RATE))
    level = features.pattern_spectra(noise, rate=RATE).level_db
    assert np.ptp(np.median(level, axis=0)[30:]) < 4  # white noise is flat: power per Hz, not per band


@pytest.mark.parametrize(
    ("sounds", "options", "said"),
    [
        (np.zeros((1, 2, 100)), {"rate": 8000}, r"expected waveforms .*got inputs of shape \(2, 100\)"),
        (np.zeros((1, 1, 10, 100)), {"rate": 8000}, "expected waveforms"),
        (X, {}, "says nothing of its rate"),
        (X, {"rate": 0}, "expected a rate of more than 0 Hz"),
        (X, {"rate": 8000, "layer": "cnv"}, "got 'cnv'; did you mean 'conv'"),
        (X, {"rate": 8000, "layer": "output"}, "no convolution"),
    ],
)
def test_a_mistake_is_one_line(sounds: np.ndarray, options: dict[str, object], said: str) -> None:
    net = nn.Sequential()
    net.add_module("conv", bank(np.ones((2, 5))))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(2 * 996, 2))
    with pytest.raises(InputError, match=said) as caught:
        features.layer_filters(net, sounds, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_rate_that_contradicts_the_sounds_is_refused() -> None:
    from brainmap.features.sounds.files import sounds_from_array

    with pytest.raises(InputError, match="expected a rate of 16000 Hz, got 8000"):
        features.layer_filters(nn.Sequential(bank(np.ones((1, 3)))), sounds_from_array(X, rate=16_000), rate=8000)
