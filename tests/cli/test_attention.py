"""brainmap features cam, attention and activations: figures, tables and the options that reduce and control."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from brainmap import features
from brainmap.features.attention.words import CoverSettings
from brainmap.features.representations.files import list_stored_layers, open_cams


@pytest.fixture
def given(tiny_inputs):
    return ("--checkpoint", tiny_inputs.folder / "net.safetensors", "--sounds", tiny_inputs.folder / "stimuli.tsv")


@pytest.fixture
def heard(tiny_inputs):
    """The network, and the sounds as its checkpoint says, read by hand."""
    model = features.load_network(tiny_inputs.folder / "net.safetensors")
    return model, features.load_sounds(tiny_inputs.folder / "stimuli.tsv", rate=16_000, seconds=0.15, level="rms")


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("view", ["sounds", "attention"])
def test_cam_leaves_a_figure(view, given, tmp_path, brainmap_command):
    words = ("--layer", "depth:0.5", "--view", view, "--figure", tmp_path / "a.png", "--out", tmp_path / "a.zarr")
    answer = brainmap_command("features", "cam", *given, *words)
    assert answer.code == 0, answer.err
    assert list_stored_layers(tmp_path / "a.zarr", "cam") == ("conv4",)
    assert is_png(tmp_path / "a.png")
    assert brainmap_command("features", "cam", *given, *words).code == 2


def test_attention_prints_keeps_and_draws_the_cover_of_the_library(given, heard, tmp_path, brainmap_command):
    words = ("--method", "layer-cam", "--layer", "conv3", "--measure", "area", "--scale", "sound")
    files = ("--out", tmp_path / "cover.tsv", "--figure", tmp_path / "cover.png")
    answer = brainmap_command("features", "attention", *given, *words, *files, "--json")
    assert answer.code == 0, answer.err
    model, sounds = heard
    cams = features.class_activation_maps(
        model, sounds, method="layer-cam", layer="conv3", class_names=["cat", "dog", "tree", "yes"]
    )
    wanted = features.attention_cover(cams, settings=CoverSettings(measure="area", scale="sound"))
    said = json.loads(answer.out)
    assert said["p"] == pytest.approx(wanted.p)
    assert (said["layer"], said["words"]) == ("conv3", 4)
    table = pd.read_csv(tmp_path / "cover.tsv", sep="\t")
    assert table["word"].tolist() == ["cat", "dog", "tree", "yes"]
    np.testing.assert_allclose(table["own"], wanted.table["own"], rtol=1e-4)
    about = json.loads((tmp_path / "cover.json").read_text())
    assert set(table.columns) < set(about)
    assert about["OverWords"]["p"] == pytest.approx(wanted.p)
    assert is_png(tmp_path / "cover.png")
    again = brainmap_command("features", "attention", *given, *words, *files)
    assert again.code == 2
    assert "--overwrite" in again.err


def test_activations_are_reduced_controlled_and_drawn(given, heard, tmp_path, brainmap_command):
    words = (
        "--layers",
        "conv1,linear",
        "--pooling",
        "flatten",
        "--reduce",
        "sparse-projection",
        "--dimensions",
        40,
        "--control",
        "permuted",
        "--seed",
        3,
        "--dtype",
        "float16",
    )
    files = ("--out", tmp_path / "a.zarr", "--figure", tmp_path / "a.png")
    answer = brainmap_command("features", "activations", *given, *words, *files)
    assert answer.code == 0, answer.err
    assert "8 x 40  of 76800 units" in answer.out
    model, sounds = heard
    control = features.control_network(model, "permuted", rng=np.random.default_rng(3), sounds=sounds)
    wanted = features.extract_activations(
        control,
        sounds,
        layers=["conv1", "output"],
        pooling="flatten",
        dtype="float16",
        reduce=features.Reduction(dimensions=40, seed=3),
    )
    with features.open_activations(tmp_path / "a.zarr") as found:
        assert found.network == "net-permuted"
        assert found["conv1"].dtype == np.float16
        for layer in ("conv1", "output"):
            np.testing.assert_array_equal(np.asarray(found[layer]), np.asarray(wanted[layer]))
    assert is_png(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("activations", "--reduce", "pcs"), "did you mean 'pca'"),
        (("activations", "--dimensions", 3), "--reduce sparse-projection"),
        (("activations", "--reduce", "pca", "--dimensions", 9, "--layers", "conv1"), "9 principal components of 8"),
        (("activations", "--control", "shuffled"), "'none', 'untrained', 'permuted'"),
        (("activations", "--dtype", "int8"), "float16"),
        (("activations", "--figure", "a.txt"), "got a.txt"),
        (("cam", "--method", "cam", "--layer", "conv4"), "not a linear layer on the mean or maximum"),
        (("cam", "--layer", "conv"), "expected one layer for class activation maps"),
        (("cam", "--view", "sound"), "did you mean 'sounds'"),
    ],
)
def test_a_mistake_is_one_line(words, said, given, tmp_path, monkeypatch, brainmap_command):
    monkeypatch.chdir(tmp_path)
    command, *options = words
    answer = brainmap_command("features", command, *given, "--out", tmp_path / "a.zarr", *options)
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert len([line for line in answer.err.splitlines() if line.startswith("brainmap:")]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--measure", "share"), "expected one of 'entropy', 'area'"),
        (("--scale", "sound"), "'entropy' knows no common scale"),
        (("--layer", "fc"), "nothing fits 'fc'"),
    ],
)
def test_a_mistake_of_attention_is_one_line(words, said, given, brainmap_command):
    answer = brainmap_command("features", "attention", *given, *words)
    assert answer.code == 2
    assert said in answer.err


def test_a_recording_without_a_label_has_its_top_classes(given, tiny_inputs, tmp_path, brainmap_command):
    sound = tmp_path / "some.wav"
    rng = np.random.default_rng(0)
    soundfile.write(sound, 0.1 * rng.standard_normal(3_000), 16_000)
    words = ("features", "cam", given[0], given[1], "--sounds", sound, "--out", tmp_path / "a.zarr")
    for view in ((), ("--view", "all")):
        answer = brainmap_command(*words, *view, "--figure", tmp_path / "a.png", "--overwrite")
        assert answer.code == 0, answer.err
        assert (tmp_path / "a.png").stat().st_size > 10_000
    wrong = brainmap_command(*words, "--view", "sounds", "--figure", tmp_path / "b.png", "--overwrite")
    assert wrong.code == 2
    assert "say --view top" in wrong.err
    assert "class activation maps" not in wrong.err  # nothing was computed
    unit = brainmap_command(
        *words, "--target", "conv2:1", "--layer", "conv2", "--figure", tmp_path / "u.png", "--overwrite"
    )
    assert unit.code == 0, unit.err
    assert open_cams(tmp_path / "a.zarr").cams.class_names == ("conv2:1",)
