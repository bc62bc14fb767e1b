"""features layers and features convert: anybody's network, told once, then known by its file."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from brainmap import features

BUILDER = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )

def flat():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 64 * 19, 4))
"""
FED = ("--rate", 16_000, "--seconds", 0.15, "--level", "none")
INPUT = ("--input", "log-mel,mels=40,hop_ms=10,window_ms=25")


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """The weights of a log-mel network by somebody else, with its code in the current folder."""
    (tmp_path / "their_nets.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    from brainmap.features.networks.zoo import call_builder

    torch.manual_seed(0)
    torch.save(call_builder("their_nets:build").state_dict(), tmp_path / "theirs.pt")
    torch.save(call_builder("their_nets:flat").state_dict(), tmp_path / "flat.pt")
    return tmp_path


def test_layers_of_a_log_mel_network_come_with_field_and_stride_in_ms(theirs, brainmap_command):
    words = ("features", "layers", "--checkpoint", "theirs.pt", "--architecture", "their_nets:build", *FED, *INPUT)
    answer = brainmap_command(*words, "--json")
    assert answer.code == 0, answer.err
    about = json.loads(answer.out)
    assert about["input_shape"] == [1, 40, 15]
    first, second, last = about["layers"]
    assert (first["name"], first["kind"], first["shape"]) == ("0", "Conv2d", [4, 40, 15])
    assert first["receptive_field_ms"] == pytest.approx(2 * 10 + 25)  # three windows of 25 ms, 10 ms apart
    assert (second["stride"], second["stride_ms"]) == ([2, 2], 20)
    assert second["receptive_field_ms"] == pytest.approx(7 * 10 + 25)
    assert last["stride_ms"] is None
    told = brainmap_command(*words)
    assert "takes log-mel,mels=40,hop_ms=10.0,window_ms=25.0, 1 x 40 x 15, of 0.15 s at 16,000 Hz" in told.out
    every = json.loads(brainmap_command(*words, "--every", "--json").out)
    assert [one["kind"] for one in every["layers"]][1:3] == ["ReLU", "MaxPool2d"]


def test_layers_of_a_waveform_network_are_in_samples_and_ms(tiny_inputs, brainmap_command):
    answer = brainmap_command("features", "layers", "--checkpoint", tiny_inputs.folder / "net.safetensors", "--json")
    listed = json.loads(answer.out)["layers"]
    model = features.load_network(tiny_inputs.folder / "net.safetensors")
    wanted = features.list_layers(model, torch.zeros(1, 1, 2_400))
    assert [(one["name"], one["receptive_field"], one["stride"]) for one in listed] == [
        (one.name, one.receptive_field, one.stride) for one in wanted
    ]
    assert listed[1]["stride_ms"] == pytest.approx(listed[1]["stride"] / 16)


def test_a_checkpoint_without_its_option_is_told_where_it_goes(tmp_path, brainmap_command):
    answer = brainmap_command("features", "layers", "net.pt")
    assert answer.code == 2
    assert "layers: expected --checkpoint, got 'net.pt' without an option; say --checkpoint net.pt" in answer.err


@pytest.mark.slow
def test_a_receptive_field_of_attention_is_the_whole_sound(tmp_path, brainmap_command):
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    sizes = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 64), "hidden_size": 16}
    config = HubertConfig(
        **sizes,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(tmp_path / "hubert")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "hubert")
    answer = brainmap_command("features", "layers", "--checkpoint", tmp_path / "hubert")
    assert answer.code == 0, answer.err
    (hidden,) = [line for line in answer.out.splitlines() if line.startswith("hidden.1")]
    assert "16,000 (whole sound)" in hidden
    (first,) = [line for line in answer.out.splitlines() if line.startswith("feature_extractor.conv_layers.0.conv")]
    assert "10 (0.625 ms)" in first


def test_a_converted_file_needs_no_option_again(theirs, tiny_inputs, brainmap_command):
    told = ("--checkpoint", "theirs.pt", "--architecture", "their_nets:build", *FED, *INPUT)
    answer = brainmap_command(
        "features", "convert", *told, "--class-names", "cat,dog,tree,yes", "--out", "mine.safetensors"
    )
    assert answer.code == 0, answer.err
    sounds = ("--sounds", tiny_inputs.folder / "stimuli.tsv")
    one = brainmap_command("features", "activations", "--checkpoint", "mine.safetensors", *sounds, "--out", "a.zarr")
    other = brainmap_command("features", "activations", *told, *sounds, "--out", "b.zarr")
    assert (one.code, other.code) == (0, 0), one.err + other.err
    with features.open_activations("a.zarr") as mine, features.open_activations("b.zarr") as before:
        assert mine.layers == before.layers
        for layer in mine.layers:
            torch.testing.assert_close(torch.tensor(mine[layer][:]), torch.tensor(before[layer][:]))
    stored = features.load_checkpoint("mine.safetensors")
    assert (stored.classes, stored.level, stored.n_samples) == (("cat", "dog", "tree", "yes"), "none", 2_400)
    assert stored.front_end.describe() == "log-mel,mels=40,hop_ms=10.0,window_ms=25.0"
    again = brainmap_command("features", "convert", *told, "--out", "mine.safetensors")
    assert again.code == 2
    assert "--overwrite" in again.err


def test_what_contradicts_or_does_not_fit_is_refused_in_one_line(theirs, tiny_inputs, brainmap_command):
    told = ("--checkpoint", "theirs.pt", "--architecture", "their_nets:build")
    silent = brainmap_command("features", "layers", *told)
    assert (silent.code, silent.err.count("\n")) == (2, 1)
    assert "does not say how it was fed; give --rate (Hz) and --seconds" in silent.err
    names = brainmap_command(
        "features", "convert", *told, *FED, *INPUT, "--class-names", "cat,dog", "--out", "mine.safetensors"
    )
    assert "expected 4 names, one an output, got 2" in names.err
    flat = ("--checkpoint", "flat.pt", "--architecture", "their_nets:flat", *FED)
    shape = brainmap_command("features", "layers", *flat, *INPUT)
    assert "shape (1, 40, 15): module '2' (Linear) expects 2432 values along its last axis, got 1200" in shape.err
    assert brainmap_command("features", "layers", *flat, "--input", "log-mel").code == 0
    assert brainmap_command("features", "convert", *told, *FED, *INPUT, "--out", "mine.safetensors").code == 0
    for option, said in ((("--input", "log-mel,mels=41"), "input"), (("--rate", 8000), "rate is")):
        answer = brainmap_command("features", "layers", "--checkpoint", "mine.safetensors", *option)
        assert answer.code == 2
        assert said in answer.err


def test_a_front_end_that_the_file_of_another_names_does_not_run(theirs, monkeypatch, brainmap_command, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    stored = features.Checkpoint(architecture="ch32", input=features.read_front_end("os:getcwd"))
    features.save_checkpoint(features.build_network("ch32"), tmp_path / "a.safetensors", stored)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    answer = brainmap_command("features", "layers", "--checkpoint", "a.safetensors")
    assert answer.code == 2
    assert "names the code 'os:getcwd' as its front end" in answer.err


def test_modules_are_listed_as_they_end():
    from brainmap.features.layers.running import list_modules

    net = nn.Sequential(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()), nn.Flatten())
    assert list_modules(net.eval(), torch.zeros(1, 1, 8)) == ("0.0", "0.1", "0", "1")


def test_a_level_that_nobody_says_is_that_of_the_files_and_noted(theirs, tiny_inputs, brainmap_command):
    fed = ("--checkpoint", "theirs.pt", "--architecture", "their_nets:build", *FED[:4], *INPUT)
    sounds = ("--sounds", tiny_inputs.folder / "stimuli.tsv", "--layers", "0")
    told = "note: level: sounds keep the level of their files, since theirs.pt does not say at which one it was trained"
    for out, level in (("silent", ()), ("none", ("--level", "none")), ("rms", ("--level", "rms"))):
        answer = brainmap_command("features", "activations", *fed, *sounds, *level, "--out", f"{out}.zarr")
        assert answer.code == 0, answer.err
        assert (told in answer.err) == (out == "silent")
    assert (
        "give --level rms (each sound at an RMS of 0.05 of full scale), --level peak (a peak of 0.5), or --level none"
        in (brainmap_command("features", "activations", *fed, *sounds, "--out", "silent.zarr", "--overwrite").err)
    )
    assert told in brainmap_command("features", "convert", *fed, "--out", "none.safetensors").err
    assert features.load_checkpoint("none.safetensors").level == "none"
    rows = [features.open_activations(f"{out}.zarr")["0"][:] for out in ("silent", "none", "rms")]
    assert (rows[0] == rows[1]).all()
    assert abs(rows[0] - rows[2]).max() > 1e-3
