"""Any network can be given each sound at its own length, if it takes sounds of several lengths."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from brainmap import features, viz
from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations
from brainmap.features.activations.stored import open_activations
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.networks.checkpoints import load_network, save_checkpoint
from brainmap.features.networks.description import Checkpoint, load_checkpoint
from brainmap.features.networks.feeding import describe_feeding, make_example
from brainmap.features.networks.zoo import build_network
from brainmap.viz.features.sounds import read_waves
from brainmap.viz.style import render_png

RATE, SECONDS = 8_000, (0.05, 0.1, 0.1, 0.2, 0.3)  # the last one is longer than the network's 0.2 s

CODE = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv1d(1, 3, 9, stride=4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2)
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five sounds of other lengths, a network that takes any length and says 0.2 s, and its weights alone."""
    rng = np.random.default_rng(0)
    rows = ["stimulus_id\tcondition\tpath"]
    for k, seconds in enumerate(SECONDS):
        soundfile.write(tmp_path / f"{k}.wav", 0.2 * rng.normal(size=round(seconds * RATE)), RATE, subtype="FLOAT")
        rows.append(f"s{k}\tc\t{k}.wav")
    (tmp_path / "stimuli.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "own_length_nets.py").write_text(CODE)
    sys.modules.pop("own_length_nets", None)  # of another test
    torch.manual_seed(0)
    about = Checkpoint(
        architecture="own_length_nets:build",
        classes=("a", "b"),
        rate=RATE,
        n_samples=1600,
        level="none",
        beside=str(tmp_path),
    )
    model = about.build()
    save_checkpoint(model, tmp_path / "net.safetensors", about)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    return tmp_path


def by_hand(folder: Path) -> np.ndarray:
    """Mean over time of the first layer for every sound, read and run one by one without padding."""
    conv: Any = load_network(folder / "net.pt", architecture="own_length_nets:build")[0]  # type: ignore[index]
    rows = []
    for k in range(len(SECONDS)):
        wave = soundfile.read(folder / f"{k}.wav", dtype="float32")[0][:1600]
        with torch.no_grad():
            heard = nn.functional.conv1d(torch.tensor(wave)[None, None], conv.weight, conv.bias, stride=4)
        rows.append(heard.clamp(min=0).mean(2)[0].numpy())
    return np.stack(rows)


def test_means_over_time_are_those_of_the_sounds_alone(folder: Path) -> None:
    model = load_network(folder / "net.safetensors")
    fed = describe_feeding(folder / "net.safetensors", own_lengths=True)
    sounds = fed.load_sounds(folder / "stimuli.tsv")
    found = extract_activations(model, sounds, layers="0")
    np.testing.assert_allclose(found["0"][:], by_hand(folder), rtol=1e-5, atol=1e-7)
    assert sounds.report.padded == ()
    assert sounds.report.cut == (("s4", 0.3),)
    padded = load_checkpoint(folder / "net.safetensors").load_sounds(folder / "stimuli.tsv")
    assert padded.report.padding == pytest.approx((0.15 + 0.1 + 0.1) / (5 * 0.2))
    assert sounds.digest != padded.digest
    assert make_example(fed).shape == (1, 1, 1600)


def test_commands_have_the_option_and_a_converted_file_keeps_it(folder: Path, brainmap_command: Any) -> None:
    own = ("--checkpoint", folder / "net.pt", "--architecture", "own_length_nets:build", "--rate", RATE)
    fed = (*own, "--seconds", 0.2, "--level", "none", "--own-lengths")
    sounds = ("--sounds", folder / "stimuli.tsv", "--layers", "0")
    answer = brainmap_command("features", "activations", *fed, *sounds, "--out", folder / "a.zarr")
    assert answer.code == 0, answer.err
    assert "padded" not in answer.err
    saved = brainmap_command("features", "convert", *fed, "--class-names", "a,b", "--out", folder / "own.safetensors")
    assert saved.code == 0, saved.err
    assert load_checkpoint(folder / "own.safetensors").own_lengths
    kept = ("--checkpoint", folder / "own.safetensors")
    assert brainmap_command("features", "activations", *kept, *sounds, "--out", folder / "b.zarr").code == 0
    for store in ("a.zarr", "b.zarr"):
        with open_activations(folder / store) as found:
            np.testing.assert_allclose(found["0"][:], by_hand(folder), rtol=1e-5, atol=1e-7)


def test_a_file_that_says_own_lengths_is_not_contradicted_and_one_length_is_refused(folder: Path) -> None:
    said = replace(load_checkpoint(folder / "net.safetensors"), own_lengths=True)
    save_checkpoint(load_network(folder / "net.safetensors"), folder / "own.safetensors", said)
    with pytest.raises(InputError, match="own_lengths is False in the call and True in"):
        describe_feeding(folder / "own.safetensors", own_lengths=False)
    assert describe_feeding(folder / "own.safetensors").own_lengths
    flat = build_network("ch32", n_classes=2, n_samples=2400)
    sounds = replace(said, level="rms").load_sounds(folder / "stimuli.tsv")
    with pytest.raises(InputError, match=r"refuses sounds of shape \(1, 400\)"):
        extract_activations(flat, sounds)


@pytest.fixture
def heard(folder: Path) -> tuple[nn.Module, Any]:
    said = replace(load_checkpoint(folder / "net.safetensors"), own_lengths=True)
    return load_network(folder / "net.safetensors"), said.load_sounds(folder / "stimuli.tsv")


@pytest.mark.parametrize("method", ["saliency", "input-x-gradient", "integrated-gradients", "smoothgrad", "lrp"])
def test_maps_are_those_of_each_sound_alone_and_zero_after_its_end(heard: tuple[nn.Module, Any], method: Any) -> None:
    model, sounds = heard
    settings: dict[str, Any] = {"noise": 0.0} if method == "smoothgrad" else {}
    found = features.attribute(model, sounds, method=method, classes=["0"], **settings)
    for row in range(len(SECONDS)):
        one = features.attribute(model, sounds.take([row]), method=method, classes=["0"], **settings)
        length = one.maps.shape[-1]
        np.testing.assert_allclose(found.maps[row, ..., :length], one.maps[0], rtol=1e-4, atol=1e-7)
        assert not found.maps[row, ..., length:].any()
        if method == "integrated-gradients":
            np.testing.assert_allclose(found.delta[row], one.delta[0], atol=1e-6)


def test_noise_of_smoothgrad_is_the_same_for_all_lengths(heard: tuple[nn.Module, Any]) -> None:
    model, sounds = heard
    found = features.attribute(model, sounds, method="smoothgrad", classes=["0"], samples=3)
    backwards = features.attribute(model, sounds.take([4, 3, 2, 1, 0]), method="smoothgrad", classes=["0"], samples=3)
    np.testing.assert_allclose(backwards.maps[::-1], found.maps, rtol=1e-4, atol=1e-7)


def test_exemplars_are_found_beyond_the_length_of_the_first_sound(heard: tuple[nn.Module, Any]) -> None:
    model, sounds = heard
    conv: Any = model[0]  # type: ignore[index]
    found = features.find_exemplars(model, sounds, layer="0", k=5, stage="before")
    waves = [soundfile.read(path, dtype="float32")[0][:1600] for path in sounds.table["path"]]
    for unit in range(3):
        with torch.no_grad():
            courses = [conv(torch.tensor(wave)[None, None])[0, unit].numpy() for wave in waves]
        order = np.argsort([-course.max() for course in courses], kind="stable")
        table = found.table[found.table["unit"] == unit]
        assert list(table["item"]) == [sounds.items[k] for k in order]
        assert list(table["start"]) == [4 * courses[k].argmax() for k in order]
        np.testing.assert_allclose(table["value"], [courses[k].max() for k in order], rtol=1e-5)
        for crop, start, k in zip(found.crops[table.index], table["start"], order, strict=True):
            np.testing.assert_array_equal(crop[0], waves[k][start : start + 9])
    assert found.table["start"].max() > SECONDS[0] * RATE


def test_a_unit_that_sees_all_of_a_sound_sees_all_of_any(heard: tuple[nn.Module, Any]) -> None:
    model, sounds = heard
    found = features.find_exemplars(model, sounds, layer="output", k=5)
    lengths = dict(zip(sounds.items, [400, 800, 800, 1600, 1600], strict=True))
    assert list(found.table["start"]) == [0] * 10
    assert list(found.table["stop"]) == [lengths[item] for item in found.table["item"]]
    assert not found.table["outside"].any()
    assert found.crops.shape == (10, 1, 1600)


def test_pictures_have_silence_after_the_end_of_a_sound(heard: tuple[nn.Module, Any]) -> None:
    model, sounds = heard
    waves = read_waves(sounds, "test")
    assert waves.shape == (5, 1600)
    assert not waves[0, 400:].any()
    assert np.abs(waves[0, :400]).min() > 0
    found = features.attribute(model, sounds, method="saliency", classes=["0"])
    cams = features.class_activation_maps(model, sounds)
    for figure in (
        viz.plot_attribution(sounds, [found]),
        viz.plot_relevance(sounds, found, view="waveform", scores="probability"),
        viz.plot_class_maps(sounds, cams, items=[0, 1]),
    ):
        assert render_png(figure)
    masked, _ = features.hear_relevance(sounds, found)
    assert masked.shape == (5, 1, 1600)
    assert np.abs(masked[0, 0, 400:]).max() < 1e-9
    assert features.find_voicing(sounds).kinds.shape[0] == 5


@pytest.mark.parametrize("layer", ["0", "output"])
def test_patterns_are_compared_with_each_sound_at_its_own_length(heard: tuple[nn.Module, Any], layer: str) -> None:
    model, sounds = heard
    few = MaximizationSettings(steps=2, jitter_ms=0.0, extent="full")
    found = features.maximize_activation(model, sounds=sounds, layer=layer, settings=few, length=1600)
    alone = [
        features.maximize_activation(
            model, sounds=sounds.take([row]), layer=layer, settings=few, length=sounds.take([row]).waveforms.shape[2]
        )
        for row in range(5)
    ]
    best = np.max([one.quality["best_clip"] for one in alone], axis=0)
    np.testing.assert_allclose(found.quality["best_clip"], best, rtol=1e-4)
    assert found.patterns.shape[2] == 1600
    assert any("sounds of 400 to 1600 samples" in note for note in found.notes)


@pytest.mark.parametrize(
    ("command", "more", "ending"), [("metamers", ("--layer", "0"), "zarr"), ("faithfulness", (), "tsv")]
)
def test_what_needs_one_length_is_refused_in_one_line(
    folder: Path, command: str, more: tuple[str, ...], ending: str, brainmap_command: Any
) -> None:
    own = ("--checkpoint", folder / "net.safetensors", "--own-lengths", "--sounds", folder / "stimuli.tsv", *more)
    answer = brainmap_command("features", command, *own, "--out", folder / f"out.{ending}")
    assert answer.code == 2
    assert "expected one length, got 0.05 to 0.2 seconds" in answer.err
    assert "give at most 0.05 seconds" in answer.err
