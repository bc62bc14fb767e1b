"""brainmap features attribute: the command does what the library does, by several methods at once."""

from __future__ import annotations

import json

import numpy as np
import pytest

from brainmap import features
from brainmap.features.representations.files import list_stored_layers, open_attributions


@pytest.fixture
def given(tiny_inputs):
    return ("--checkpoint", tiny_inputs.folder / "net.safetensors", "--sounds", tiny_inputs.folder / "stimuli.tsv")


@pytest.fixture
def heard(tiny_inputs):
    """The network, and the sounds as its checkpoint says, read by hand."""
    model = features.load_network(tiny_inputs.folder / "net.safetensors")
    return model, features.load_sounds(tiny_inputs.folder / "stimuli.tsv", rate=16_000, seconds=0.15, level="rms")


@pytest.mark.slow
def test_attributions_are_the_librarys_and_leave_a_figure(given, heard, tmp_path, brainmap_command):
    out, figure = tmp_path / "a.zarr", tmp_path / "a.png"
    words = ("features", "attribute", *given, "--out", out, "--figure", figure)
    answer = brainmap_command(
        *words,
        "--method",
        "integrated-gradients,lrp,smoothgrad",
        "--steps",
        4,
        "--samples",
        3,
        "--classes",
        "true",
        "--seed",
        5,
        "--json",
    )
    assert answer.code == 0, answer.err
    about = json.loads(answer.out)
    assert [one["maps"] for one in about["methods"]] == [[8, 1, 1, 2400]] * 3
    assert about["methods"][0]["items"]["cat_anna"] == ["cat"]
    assert about["methods"][1]["largest_delta"] < 1e-4
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert list_stored_layers(out, "attribution") == ("integrated-gradients", "lrp", "smoothgrad")
    names = ("cat", "dog", "tree", "yes")
    wanted = features.attribute(
        *heard, method="smoothgrad", classes="true", class_names=names, samples=3, rng=np.random.default_rng(5)
    )
    stored = open_attributions(out)
    found = stored.attributions
    np.testing.assert_allclose(found.maps, wanted.maps, atol=1e-6 * np.abs(wanted.maps).max())
    assert stored.align == "start"
    assert (found.method, found.rate, found.class_names) == ("smoothgrad", 16_000, names)
    rdm = ("rsa", "rdm", "--attributions", out, "--out", tmp_path / "a.h5")
    several = brainmap_command(*rdm)
    assert several.code == 2
    assert "expected one attribution for an RDM, got 'integrated-gradients', 'lrp', 'smoothgrad'" in several.err
    assert "1 RDM (lrp) of 8 stimuli" in brainmap_command(*rdm, "--layers", "lrp").out
    assert "did you mean 'lrp'" in brainmap_command(*rdm, "--layers", "lrpp", "--overwrite").err
    again = brainmap_command(*words[:-2], "--method", "lrp")
    assert again.code == 2
    assert "holds attributions of lrp already; say --overwrite" in again.err


def test_occlusion_in_bands_prints_and_draws_itself(given, tmp_path, brainmap_command):
    out = tmp_path / "a.zarr"
    answer = brainmap_command(
        "features",
        "attribute",
        *given,
        "--out",
        out,
        "--figure",
        tmp_path / "a.svg",
        "--method",
        "occlusion",
        "--window-ms",
        0,
        "--bands",
        "0,1000,8000",
        "--classes",
        "dog,yes",
    )
    assert answer.code == 0, answer.err
    assert "8 sounds x 2 classes" in answer.out
    assert f"Wrote {tmp_path / 'a.svg'}" in answer.out
    found = open_attributions(out, method="occlusion").attributions
    assert found.effects.shape == (8, 2, 1, 2)
    assert "logit lost" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "saliancy"), "did you mean 'saliency'"),
        (("--method", "saliency", "--steps", 3), "--steps: not a setting of saliency"),
        (("--method", "occlusion", "--bands", "low"), "--bands: expected mel, octave, or edges in Hz"),
        (("--method", "occlusion", "--bands", "0,9000"), "9000 Hz is above half the rate"),
        (("--method", "occlusion", "--window-ms", 900), "14400 samples, but the sound has 2400"),
        (("--method", "saliency", "--layer", "conv1"), "only guided-grad-cam takes a layer"),
        (("--method", "saliency", "--classes", "dgo"), "did you mean 'dog'"),
        (("--method", "saliency", "--figure", "x.gif"), "expected a name that ends in .png"),
        (("--method", "saliency,occlusion", "--window-ms", 900), "14400 samples, but the sound has 2400"),
    ],
)
def test_a_mistake_gets_one_line_and_writes_nothing(given, words, message, tmp_path, brainmap_command):
    answer = brainmap_command("features", "attribute", *given, "--out", tmp_path / "a.zarr", *words)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert list_stored_layers(tmp_path / "a.zarr", "attribution") == ()


def test_channels_and_classes_are_targets(given, tmp_path, brainmap_command):
    words = ("features", "attribute", *given, "--method", "saliency,deconvolution", "--out", tmp_path / "a.zarr")
    answer = brainmap_command(*words, "--target", "conv2:3,conv2:1", "--figure", tmp_path / "a.png")
    assert answer.code == 0, answer.err
    found = open_attributions(tmp_path / "a.zarr", method="deconvolution").attributions
    assert found.class_names == ("conv2:3", "conv2:1")
    assert "the figure shows 3 of 8 sounds" in answer.err, answer.err
    for given_too, said in (
        (("--target", "conv2:3", "--classes", "true"), "leave one of them out"),
        (("--target", "conv2:999"), "no unit 999"),
        (("--target", "roi:A1"), "without an encoding model"),
        (("--view", "waveform"), "name it with --figure"),
        (("--view", "waveform", "--figure", tmp_path / "b.png"), "shows one method"),
    ):
        wrong = brainmap_command(*words, *given_too, "--overwrite")
        assert wrong.code == 2
        assert said in wrong.err


@pytest.mark.parametrize("view", ["waveform", pytest.param("spectrogram", marks=pytest.mark.slow)])
def test_relevance_is_seen_and_heard(view, given, tmp_path, brainmap_command):
    wav, figure = tmp_path / "wav", tmp_path / "r.png"
    words = ("features", "attribute", *given, "--method", "lrp", "--rules", "epsilon", "--out", tmp_path / "a.zarr")
    answer = brainmap_command(
        *words, "--view", view, "--colormap", "seismic", "--items", "all", "--figure", figure, "--wav", wav
    )
    assert answer.code == 0, answer.err
    assert figure.stat().st_size > 20_000
    found = open_attributions(tmp_path / "a.zarr").attributions
    assert found.products
    assert len(list(wav.glob("lrp_*.wav"))) == len(found.items)
    again = brainmap_command(*words, "--wav", wav, "--overwrite")
    assert again.code == 0
    wrong = brainmap_command(*words, "--overwrite", "--view", view, "--figure", figure, "--colormap", "seismik")
    assert "did you mean 'seismic'" in wrong.err
