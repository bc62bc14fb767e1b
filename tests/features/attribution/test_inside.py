"""Networks on waveforms with a spectrogram inside: maps stay over its frames and have pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.representations.files import open_cams
from brainmap.features.sounds.files import sounds_from_array

SOUNDS = np.random.default_rng(0).standard_normal((3, 1, 4000), np.float32)
CODE = """
import torch
from torch import nn


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(256))
        self.first, self.second = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        z = torch.stft(x[:, 0], 256, 128, window=self.window, return_complex=True).abs().log1p()[:, None]
        z = torch.relu(self.second(nn.functional.max_pool2d(torch.relu(self.first(z)), 2)))
        return self.head(z.mean((2, 3)))


def build():
    return Inside()
"""


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    known: dict[str, object] = {}
    exec(CODE, known)
    model: nn.Module = known["build"]()  # type: ignore[operator]
    return model.eval()


def test_maps_stay_over_the_frames_and_sum_to_the_logits(net: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    found = features.class_activation_maps(net, SOUNDS, method="cam", layer="second", upsample=None)
    assert found.maps.shape == (3, 4, 64, 16)
    assert found.positions == ("frequency", "time")
    bias = net.head.bias.detach().numpy()
    np.testing.assert_allclose(found.maps.mean((2, 3)) + bias, found.logits, atol=1e-5)
    assert "maps stay over the 64 x 16 positions of layer 'second' (frequency x time)" in caplog.text
    same = features.class_activation_maps(net, SOUNDS, method="cam", layer="second", upsample=False)
    np.testing.assert_array_equal(same.maps, found.maps)
    with pytest.raises(InputError, match="2 axes of positions"):
        features.class_activation_maps(net, SOUNDS, layer="second")


def test_where_positions_can_be_placed_maps_are_over_samples() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv1d(1, 4, 9, stride=4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    either, whole = (features.class_activation_maps(plain, SOUNDS, upsample=how) for how in (None, True))
    np.testing.assert_array_equal(either.maps, whole.maps)
    assert either.positions == ("time",)


def test_time_comes_last_whatever_the_order_in_the_network(net: nn.Module) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, x: Tensor) -> Tensor:
            z = torch.stft(x[:, 0], 256, 128, window=self.inner.window, return_complex=True).abs().log1p()[:, None]
            z = torch.relu(self.inner.first(z.transpose(2, 3)))
            return torch.nn.functional.linear(torch.cat([z, z[:, :2]], 1).mean((2, 3)), self.inner.head.weight)

    found = features.class_activation_maps(Turned(), SOUNDS, layer="inner.first", upsample=None)
    assert found.maps.shape[2:] == (129, 32)
    assert found.positions[-1] == "time"


def test_guided_grad_cam_says_what_to_do(net: nn.Module) -> None:
    with pytest.raises(InputError, match=r"'second' \(frequency x time\) cannot be placed on the samples"):
        features.attribute(net, SOUNDS, method="guided-grad-cam")


def test_some_sounds_can_be_taken(net: nn.Module) -> None:
    whole = features.class_activation_maps(net, SOUNDS, upsample=None)
    part = whole.take([2, 0])
    assert part.items == (whole.items[2], whole.items[0])
    np.testing.assert_array_equal(part.maps, whole.maps[[2, 0]])
    np.testing.assert_array_equal(part.logits, whole.logits[[2, 0]])


def test_pictures_show_map_and_spectrogram_over_the_same_time(net: nn.Module) -> None:
    from brainmap.viz import plot_cam

    sounds = sounds_from_array(SOUNDS, rate=8000, conditions=["a", "b", "c"])
    cams = features.class_activation_maps(net, sounds, class_names=["a", "b", "c", "d"], upsample=None)
    figure = plot_cam(sounds, cams)
    shown = [axes for axes in figure.axes if axes.images]
    maps = [axes.images[0] for axes in shown if axes.images[0].get_array().shape == (64, 16)]
    for own, image in enumerate(maps):
        np.testing.assert_array_equal(image.get_array(), cams.maps[own, own])
        assert tuple(image.get_extent())[:2] == (0, 0.5)
    assert len(maps) == 3
    assert "frequency in second" in [axes.get_ylabel() for axes in figure.axes]


def test_the_commands_draw_maps_and_leave_out_what_is_no_class(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brainmap_command
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inside_nets.py").write_text(CODE)
    torch.save(net.state_dict(), "net.pt")
    for k, word in enumerate(("a", "b", "other")):
        Path("sounds", word).mkdir(parents=True)
        soundfile.write(f"sounds/{word}/{word}.wav", 0.1 * SOUNDS[k, 0], 8000)
    network = ("--checkpoint", "net.pt", "--architecture", "inside_nets:build", "--rate", 8000, "--seconds", 0.5)
    network = (*network, "--class-names", "a,b,c,d", "--sounds", "sounds")
    answer = brainmap_command("features", "cam", *network, "--out", "cam.zarr", "--figure", "cam.png", "--json")
    assert answer.code == 0, answer.err
    assert "the figure leaves out sounds whose condition is no class: 'other'" in answer.err
    assert json.loads(answer.out)["layer"] == "second"
    stored = open_cams("cam.zarr")
    assert stored.cams.maps.shape == (3, 4, 64, 16)
    assert stored.cams.positions == ("frequency", "time")
    assert stored.axes.n_samples == 4000
    answer = brainmap_command("viz", "cam", "cam.zarr", "--sounds", "sounds", "--out", "again.png")
    assert answer.code == 0, answer.err
    words = ("features", "attribute", *network, "--method", "saliency", "--out", "at.zarr", "--figure", "at.png")
    answer = brainmap_command(*words)
    assert answer.code == 0, answer.err
    assert all(Path(name).stat().st_size > 5000 for name in ("cam.png", "again.png", "at.png"))
    words = ("features", "faithfulness", *network, "--windows", 4, "--out", "faith.tsv")
    refused = brainmap_command(*words, "--method", "grad-cam")
    assert refused.code == 2
    assert "take a method whose maps lie on the sounds (saliency, occlusion), or another layer" in refused.err
    answer = brainmap_command(*words, "--method", "saliency,occlusion")
    assert answer.code == 0, answer.err
