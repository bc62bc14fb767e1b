"""brainmap features ...: the commands do what the library does, with the sounds the checkpoint wants."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from brainmap import features
from brainmap.cli.options import Several, build_provenance
from brainmap.features.activations.store import get_current_arrays, open_store
from brainmap.features.networks.zoo import build_network
from brainmap.features.representations.files import list_stored_layers, open_cams, open_maximizations
from brainmap.record import content_digest, content_key


@pytest.fixture
def given(tiny_inputs):
    return ("--checkpoint", tiny_inputs.folder / "net.safetensors", "--sounds", tiny_inputs.folder / "stimuli.tsv")


@pytest.fixture
def heard(tiny_inputs):
    """The network, and the sounds as its checkpoint says, read by hand."""
    model = features.load_network(tiny_inputs.folder / "net.safetensors")
    return model, features.load_sounds(tiny_inputs.folder / "stimuli.tsv", rate=16_000, seconds=0.15, level="rms")


def test_activations_are_the_librarys_on_sounds_as_the_checkpoint_says(given, heard, tmp_path, brainmap_command):
    out = tmp_path / "acts.zarr"
    answer = brainmap_command("features", "activations", *given, "--layers", "conv1,conv8", "--out", out, "--json")
    assert answer.code == 0, answer.err
    layers = {"conv1": [8, 32], "conv8": [8, 64]}
    assert json.loads(answer.out) == {"store": str(out), "network": "net", "items": 8, "layers": layers}
    wanted = features.extract_activations(*heard, layers=["conv1", "conv8"])
    with features.open_activations(out) as found:
        assert found.items == wanted.items
        np.testing.assert_array_equal(found["conv8"][:], wanted["conv8"][:])


def test_activations_are_never_replaced_silently(given, tmp_path, brainmap_command):
    words = ("features", "activations", *given, "--out", tmp_path / "a.zarr", "--layers")
    assert brainmap_command(*words, "conv1").code == 0
    again = brainmap_command(*words, "conv2")
    assert again.code == 2
    assert again.err.count("\n") == 1
    assert "--overwrite" in again.err
    assert list_stored_layers(tmp_path / "a.zarr", "activations") == ("conv1",)
    assert brainmap_command(*words, "conv2", "--overwrite").code == 0
    assert list_stored_layers(tmp_path / "a.zarr", "activations") == ("conv2",)


@pytest.mark.slow
def test_maximize_keeps_patterns_and_writes_wav_and_their_quality(given, tmp_path, brainmap_command):
    out, wav = tmp_path / "a.zarr", tmp_path / "am"
    words = ("features", "maximize", *given, "--steps", 2, "--out", out)
    answer = brainmap_command(*words, "--units", "dog,3", "--wav", wav)
    assert answer.code == 0, answer.err
    found = open_maximizations(out)["output"]
    assert found.labels == ("dog", "yes")
    assert found.patterns.shape == (2, 1, 2400)
    sound, rate = soundfile.read(wav / "output_dog.wav")
    assert rate == 16_000
    assert np.corrcoef(sound[:2400], found.patterns[0, 0])[0, 1] > 0.999
    table = pd.read_csv(wav / "output_quality.tsv", sep="\t", na_values="n/a")
    assert table["label"].tolist() == ["dog", "yes"]
    about = json.loads((wav / "output_quality.json").read_text())
    assert set(table.columns) < set(about)
    assert about["Parameters"]["steps"] == 2
    assert brainmap_command(*words, "--layer", "conv2", "--units", "5").code == 0
    assert list(open_maximizations(out)) == ["output", "conv2"]
    assert brainmap_command(*words, "--units", "0").code == 2


def test_a_folder_and_several_files_have_one_digest_each(tmp_path):
    (tmp_path / "whisper").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "whisper" / name).write_text(name)
    files = (tmp_path / "whisper" / "config.json", tmp_path / "whisper" / "model.safetensors")
    found = build_provenance({}, [tmp_path / "whisper", Several("both", files)])["InputsSHA256"]
    assert found[str(tmp_path / "whisper")] == content_digest(tmp_path / "whisper")
    assert found["both"] == content_key([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    files[1].write_text("other weights")
    again = build_provenance({}, [tmp_path / "whisper", Several("both", files)])["InputsSHA256"]
    assert all(again[name] != found[name] for name in found)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("activations", "--layers", "conv1"), "activations"),
        (("cam", "--layer", "conv4"), "cam"),
        (("attribute", "--method", "saliency"), "attribution"),
        (("maximize", "--steps", 1, "--units", "0", "--judges", "none", "--prior", "audio"), "am"),
    ],
)
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_arrays_say_by_digest_from_which_files_they_are(
    given, tiny_inputs, tmp_path, brainmap_command, words, kind, ending
):
    checkpoint, table = tiny_inputs.folder / "net.safetensors", tiny_inputs.folder / "stimuli.tsv"
    more = ()
    if ending == ".pt":
        checkpoint = tmp_path / "net.pt"
        torch.save(build_network("ch32", n_classes=4).state_dict(), checkpoint)
        more = ("--architecture", "ch32", "--rate", 16_000, "--seconds", 1, "--class-names", "cat,dog,tree,yes")
    out = tmp_path / "a.zarr"
    read = ("--checkpoint", checkpoint, "--sounds", table, *more)
    answer = brainmap_command("features", words[0], *read, "--out", out, *words[1:])
    assert answer.code == 0, answer.err
    (array,) = get_current_arrays(open_store(out, create=False), kind).values()
    about = array.attrs["provenance"]
    assert about["GeneratedBy"]["Name"] == "brainmap"
    digests = about["InputsSHA256"]
    for path in (checkpoint, table):
        assert digests[str(path)] == hashlib.sha256(path.read_bytes()).hexdigest()
    sounds = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in features.load_sounds(table).table["path"]]
    assert digests[f"8 sounds of {table}"] == content_key(sounds)
    assert len(digests) == 3


def test_maximize_gives_the_same_pattern_for_the_same_seed(given, tmp_path, brainmap_command):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("--layer", "conv1", "--units", 0, "--steps", 2, "--seed", seed, "--out", tmp_path / f"{name}.zarr")
        assert brainmap_command("features", "maximize", *given, *words).code == 0
    a, b, c = (open_maximizations(tmp_path / f"{name}.zarr")["conv1"].patterns for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


def test_cam_keeps_the_maps_of_the_library(given, heard, tmp_path, brainmap_command):
    out = tmp_path / "a.zarr"
    words = ("features", "cam", *given, "--method", "layer-cam", "--layer", "conv4", "--out", out, "--json")
    answer = brainmap_command(*words)
    assert answer.code == 0, answer.err
    wanted = features.class_activation_maps(*heard, method="layer-cam", layer="conv4")
    kept = open_cams(out)
    np.testing.assert_allclose(kept.cams.maps, wanted.maps, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(kept.cams.logits, wanted.logits, rtol=1e-5)
    assert (kept.rate, kept.align, kept.cams.method) == (16_000, "start", "layer-cam")
    said = json.loads(answer.out)
    assert said["classes"] == ["cat", "dog", "tree", "yes"]
    best = wanted.logits.argmax(axis=1)
    assert list(said["items"].values()) == [said["classes"][k] for k in best]
    assert brainmap_command(*words).code == 2


def test_a_network_trained_elsewhere_needs_to_be_told_how_it_is_fed(tiny_inputs, tmp_path, brainmap_command):
    weights = features.load_network(tiny_inputs.folder / "net.safetensors").state_dict()
    torch.save(weights, tmp_path / "net.pt")
    (tmp_path / "mine_for_the_command.py").write_text(
        "from brainmap.features import build_network\n"
        "def build():\n    return build_network('ch32', n_classes=4, n_samples=2400)\n"
    )
    sounds = ("--sounds", tiny_inputs.folder / "stimuli.tsv")
    words = ("features", "activations", "--checkpoint", tmp_path / "net.pt", *sounds)
    words = (*words, "--layers", "conv1", "--out", tmp_path / "a.zarr")
    assert "architecture" in brainmap_command(*words).err
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        words = (*words, "--architecture", "mine_for_the_command:build")
        without = brainmap_command(*words)
        assert without.code == 2
        assert "--rate" in without.err
        assert brainmap_command(*words, "--rate", 16000, "--seconds", 0.15).code == 0
    assert list_stored_layers(tmp_path / "a.zarr", "activations") == ("conv1",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("activations", "--rate", 8000), "16000"),
        (("activations", "--layers", "conv99"), "conv9"),
        (("activations", "--pooling", "men"), "did you mean 'mean'"),
        (("activations", "--device", "gpu"), "expected one of 'auto', 'cpu'"),
        (("maximize", "--units", "dgo"), "did you mean 'dog'"),
        (("maximize", "--units", "44"), "44"),
        (("maximize", "--objective", "best"), "'channel'"),
        (("cam", "--method", "gradcam"), "did you mean 'grad-cam'"),
        (("cam", "--layer", "output"), "no convolution"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2_and_nothing_is_written(words, said, given, tmp_path, brainmap_command):
    command, *options = words
    answer = brainmap_command("features", command, *given, "--out", tmp_path / "a.zarr", *options)
    assert answer.code == 2
    assert answer.err.startswith("brainmap: ")
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert not any(tmp_path.rglob("complete"))
    assert list_stored_layers(tmp_path / "a.zarr", "activations") == ()


def test_missing_files_are_named_with_the_nearest(given, tiny_inputs, tmp_path, brainmap_command):
    near = tiny_inputs.folder / "nett.safetensors"
    answer = brainmap_command("features", "activations", "--checkpoint", near, *given[2:], "--out", tmp_path / "a.zarr")
    assert answer.code == 2
    assert "did you mean 'net.safetensors'" in answer.err


def test_a_long_recording_is_cut_into_windows_with_onsets_and_nothing_is_left_out_silently(
    given, tmp_path, brainmap_command
):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "story.mp3", 0.1 * rng.standard_normal(32_000), 16_000, format="MP3")
    words = ("features", "activations", *given[:2], "--sounds", tmp_path / "story.mp3", "--layers", "conv1,output")
    out = tmp_path / "story.zarr"
    answer = brainmap_command(*words, "--window", 0.15, "--hop", 0.1, "--out", out)
    assert answer.code == 0, answer.err
    assert "1 recording of 2 s gives 19 windows of 0.15 s, one every 0.1 s" in answer.err
    assert "the end of 1 of 1 recording lies in no whole window and is left out: 'story (0.05 s)'" in answer.err
    assert "cut to it" not in answer.err
    assert f"{out}: activations of 19 windows in 2 layers" in answer.out
    with features.open_activations(out) as found:
        np.testing.assert_allclose(found.table["onset"], np.arange(19) / 10)
        assert found.items[12] == "story@1.2"
    rdms = brainmap_command("rsa", "rdm", "--activations", out, "--out", tmp_path / "rdms.h5")
    assert rdms.code == 0, rdms.err
    for options, said in (
        (("--hop", 0.1), "window: expected one with hop"),
        (("--window", 3.0), "window: expected at most the length of every sound, got 3 s for 'story (2 s)'"),
        (("--window", 0.15, "--hop", 0.0), "hop: expected 1 sample to 600 s"),
    ):
        refused = brainmap_command(*words, *options, "--out", tmp_path / "no.zarr")
        assert refused.code == 2
        assert said in refused.err
        assert not (tmp_path / "no.zarr").exists()


@pytest.mark.parametrize(("command", "out"), [("cam", "a.zarr"), ("attribute", "a.zarr"), ("faithfulness", "a.tsv")])
def test_what_the_network_calls_the_sounds_is_said_with_their_maps(command, out, given, tmp_path, brainmap_command):
    answer = brainmap_command("features", command, *given, "--out", tmp_path / out)
    assert answer.code == 0, answer.err
    said = answer.out + answer.err
    assert "network net calls " in said
    assert " of 8 sounds by their condition (chance " in said
    assert "near chance" in said  # it is not trained
