"""A study of a waveform network and a spectrogram network by somebody else, side by side, run to its page."""

from __future__ import annotations

import pytest
import torch

from brainmap.features.representations.files import open_cams, open_maximizations
from brainmap.rsa.rdm.files import load_rdms
from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study

BUILDER = """
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""
SECOND = """
[[network]]
name = "square"
checkpoint = "square.pt"
architecture = "square_nets:build"
classes = ["cat", "dog", "tree", "yes"]
rate = 16000
seconds = 0.15
input = { kind = "log-mel", mels = 32, hop_ms = 5, window_ms = 25 }

[[brain]]"""


@pytest.fixture
def side_by_side(tiny_study, monkeypatch):
    folder = tiny_study.folder
    (folder / "square_nets.py").write_text(BUILDER)
    monkeypatch.chdir(folder)
    from brainmap.features.networks.zoo import call_builder

    torch.manual_seed(0)
    torch.save(call_builder("square_nets:build").state_dict(), folder / "square.pt")
    text = tiny_study.file.read_text().replace("[[brain]]", SECOND.lstrip(), 1)
    tiny_study.file.write_text(text)
    return tiny_study.edit(("[explain]", '[explain]\nnetwork = "square"'))


def problems(study):
    return check_study(Context(load_study(study.file))).problems


def test_a_front_end_is_checked_with_its_network(side_by_side):
    assert problems(side_by_side) == ()
    side_by_side.edit(("mels = 32,", "mels = 32, scaling = 'dB',"))
    assert ["scaling" in line and "'dB'" in line for line in problems(side_by_side)] == [True]


def test_notes_of_sounds_name_the_network_that_hears_them_so(side_by_side):
    def notes():
        return [note for note in check_study(Context(load_study(side_by_side.file))).notes if "padded with" in note]

    assert notes() == []
    side_by_side.edit(("seconds = 0.15\ninput", "seconds = 0.3\ninput"))
    (only,) = notes()
    assert only.startswith("network square: sounds: 8 of 8 are shorter than 0.3 s and padded with zeros"), only


def test_a_front_end_that_the_network_refuses_says_shape_wanted_and_got(side_by_side):
    side_by_side.edit(("mels = 32,", "mels = 32, layout = 'bands-as-channels',"))
    first = next(line for line in problems(side_by_side) if "square" in line)
    assert "log-mel,mels=32,hop_ms=5.0,window_ms=25.0,layout=bands-as-channels of shape (1, 32, 30)" in first
    assert "module '7' (Linear) expects 8 values along its last axis, got 1" in first


@pytest.mark.slow
def test_a_study_of_both_kinds_of_networks_runs_to_its_page(side_by_side):
    side_by_side.run(page=True)
    out = side_by_side.out
    assert load_rdms(out / "rdms" / "network-square_rdms.h5").n_rdm == 3
    store = out / "features" / "network-square_features.zarr"
    assert open_cams(store).cams.maps.shape == (8, 4, 32, 30)
    patterns = open_maximizations(store)
    assert patterns["output"].patterns.shape == (2, 1, 32, 30)
    assert len(patterns["output"].wavs) == 2
    page = (out / "report.html").read_text()
    assert page.count('<img src="data:image/png') >= 6
    assert "square" in page
