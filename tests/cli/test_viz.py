"""brainmap viz ...: every figure of the report from files, in the format its name says, with the command inside."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from PIL import Image

from brainmap import rsa


@pytest.fixture
def rdms(tmp_path):
    """RDMs of three layers, and of one region in two participants, over six stimuli."""
    rng = np.random.default_rng(0)
    items = {"stimulus_id": list("abcdef"), "condition": ["x", "x", "y", "y", "z", "z"]}

    def made(name, **what):
        found = [
            rsa.compute_rdms(rng.normal(size=(6, 20)), descriptors={**items, key: value, **rest})
            for key, values in what.items()
            for value in values
            for rest in [{}]
        ]
        return rsa.save_rdms(rsa.stack_rdms(found), tmp_path / name)

    return made("net.h5", layer=["conv1", "conv2", "conv3"]), made("brain.h5", roi=["A1", "A1", "belt"])


@pytest.fixture
def tables(tmp_path):
    """Scores, ceilings and tests of two layers in two regions."""
    rng = np.random.default_rng(0)
    rows = [(p, layer, roi) for p in ("01", "02", "03") for layer in ("conv1", "conv2") for roi in ("A1", "belt")]
    scores = pd.DataFrame(rows, columns=["participant", "layer", "roi"]).assign(score=rng.random(len(rows)))
    tests = scores.groupby(["layer", "roi"], as_index=False)["score"].mean().rename(columns={"score": "mean"})
    ceilings = pd.DataFrame({"roi": ["A1", "belt"], "lower": 0.5, "upper": 0.7})
    found = []
    for name, table in (("scores", scores), ("ceilings", ceilings), ("tests", tests.assign(p_corrected=0.01))):
        found.append(tmp_path / f"{name}.tsv")
        table.to_csv(found[-1], sep="\t", index=False)
    return found


@pytest.fixture
def bucket(tmp_path):
    """A group's maps of two layers on a coarse grid over the brain."""
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = (-72, -104, -64)
    values = np.zeros((18, 22, 18, 2), np.float32)
    values[14, 10, 9, 0] = values[3, 10, 9, 1] = 0.3
    labels = ["conv1_mean", "conv2_mean"]
    rsa.save_image(nib.Nifti1Image(values, affine), tmp_path / "group.nii.gz", labels=labels, space="MNI")
    best = nib.Nifti1Image(values[..., 0] / np.float32(0.3) + 2 * (values[..., 1] > 0), affine)
    rsa.save_image(best, tmp_path / "best.nii.gz", space="MNI")
    return tmp_path / "group.nii.gz"


@pytest.fixture(scope="module")
def explained(tiny_inputs, tmp_path_factory):
    """A store with maximizing patterns and class activation maps."""
    from brainmap import features
    from brainmap.features.representations.files import save_cams, save_maximization

    store = tmp_path_factory.mktemp("explained") / "net.zarr"
    model = features.load_network(tiny_inputs.folder / "net.safetensors")
    sounds = features.load_sounds(tiny_inputs.folder / "stimuli.tsv", seconds=0.15)
    words = ("cat", "dog", "tree", "yes")
    for layer, units in (("output", [0, 1]), ("conv2", [3])):
        settings = features.MaximizationSettings(steps=1, extent="full")
        names = words if layer == "output" else None
        am = features.maximize_activation(
            model, layer=layer, units=units, settings=settings, sounds=sounds, class_names=names
        )
        save_maximization(am, store)
    save_cams(features.class_activation_maps(model, sounds, class_names=words), store, rate=16_000)
    return store


def drawn(path):
    """Whether a PNG shows anything, and that it says which command made it."""
    assert "brainmap viz" in Image.open(path).text["Description"]
    return float(imread(path)[..., :3].std()) > 0.01


def test_rdm_draws_all_some_a_pair_and_how_alike_they_are(rdms, tmp_path, brainmap_command):
    net, brain = rdms
    for k, words in enumerate(
        [
            (),
            ("--layers", "conv1,conv3", "--rank"),
            ("--correlations",),
            ("--layers", "conv2", "--brain", brain, "--rois", "A1"),
        ]
    ):
        out = tmp_path / f"{k}.png"
        answer = brainmap_command("viz", "rdm", net, *words, "--out", out, "--dpi", 60)
        assert answer.code == 0, answer.err
        assert drawn(out)
    both = brainmap_command("viz", "rdm", net, "--layers", "conv2", "--brain", brain, "--out", tmp_path / "x.png")
    assert both.code == 2
    assert "A1, belt" in both.err


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_name_says_the_format_and_nothing_is_overwritten(ending, begins, rdms, tmp_path, brainmap_command):
    out = tmp_path / f"figure.{ending}"
    words = ("viz", "rdm", rdms[0], "--layers", "conv1", "--out", out, "--dpi", 60)
    assert brainmap_command(*words).code == 0
    written = out.read_bytes()
    assert written.startswith(begins)
    again = brainmap_command(*words)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert out.read_bytes() == written
    assert brainmap_command(*words, "--overwrite").code == 0


def test_profile_draws_curves_with_ceilings_and_the_table(tables, tmp_path, brainmap_command):
    scores, ceilings, tests = tables
    words = ("--ceilings", ceilings, "--statistics", tests, "--rois", "belt", "--dpi", 60, "--out", tmp_path / "a.png")
    assert brainmap_command("viz", "profile", scores, *words).code == 0
    assert drawn(tmp_path / "a.png")
    assert brainmap_command("viz", "profile", tests, "--table", "--dpi", 60, "--out", tmp_path / "b.png").code == 0
    assert drawn(tmp_path / "b.png")
    wrong = brainmap_command("viz", "profile", ceilings, "--out", tmp_path / "c.png")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)


def test_brain_draws_slices_glass_and_best_layers(bucket, tmp_path, brainmap_command):
    views = {
        "slices": (f"{bucket}[conv1_mean]", "--outline", f"{bucket}[conv1_mean]"),
        "glass": (f"{bucket}[1]", "--view", "glass"),
        "best": (bucket.parent / "best.nii.gz", "--view", "best", "--layers", "conv1,conv2"),
    }
    for name, words in views.items():
        answer = brainmap_command("viz", "brain", *words, "--dpi", 60, "--out", tmp_path / f"{name}.png")
        assert answer.code == 0, answer.err
        assert drawn(tmp_path / f"{name}.png")
    several = brainmap_command("viz", "brain", bucket, "--out", tmp_path / "no.png")
    assert several.code == 2
    assert "'conv1_mean', 'conv2_mean'" in several.err
    assert not (tmp_path / "no.png").exists()


def test_maximization_cam_and_sheet_draw_what_a_store_holds(explained, bucket, tiny_inputs, tmp_path, brainmap_command):
    sounds = ("--sounds", tiny_inputs.folder / "stimuli.tsv")
    figures = {
        "am": ("maximization", explained),
        "am2": ("maximization", explained, "--layer", "conv2"),
        "cam": ("cam", explained, *sounds, "--items", "dog_ben,yes_anna"),
        "attention": ("cam", explained, *sounds, "--view", "attention"),
        "sheet": ("sheet", explained, "--maps", bucket),
    }
    for name, words in figures.items():
        answer = brainmap_command("viz", *words, "--dpi", 60, "--out", tmp_path / f"{name}.png")
        assert answer.code == 0, answer.err
        assert drawn(tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("maximization", "STORE", "--layer", "outptu"), "did you mean 'output'"),
        (("maximization", "no.zarr"), "no.zarr"),
        (("cam", "STORE", "--sounds", "SOUNDS", "--items", "dog_bne"), "did you mean 'dog_ben'"),
        (("cam", "STORE", "--sounds", "SOUNDS", "--view", "each"), "'attention'"),
        (("brain", "no.nii.gz"), "no.nii.gz"),
        (("brain", "no.nii.gz", "--view", "best"), "--layers"),
        (("profile", "no.tsv"), "no.tsv"),
        (("rdm", "no.h5"), "no.h5"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(
    words, said, explained, tiny_inputs, tmp_path, brainmap_command, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    there = {"STORE": explained, "SOUNDS": tiny_inputs.folder / "stimuli.tsv"}
    answer = brainmap_command("viz", *(there.get(word, word) for word in words), "--out", "figure.png")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []
    wrong = brainmap_command("viz", *(there.get(word, word) for word in words[:2]), "--out", "figure.gif")
    assert wrong.code == 2
