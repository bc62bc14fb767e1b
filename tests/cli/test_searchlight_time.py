"""brainmap rsa searchlight with models over time: an image a layer with its time axis, and when the best was best."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.rsa.images.files import image_info


@pytest.fixture
def asked(tiny_inputs, tmp_path):
    """A command up to its output, with RDMs of two layers over three windows."""
    items = [f"{word}_{voice}" for word in ("cat", "dog", "tree", "yes") for voice in ("anna", "ben")]
    rng = np.random.default_rng(0)
    every = [
        rsa.compute_rdms(rng.normal(size=(8, 30)), descriptors={"stimulus_id": items, "layer": layer, "time": time})
        for layer in ("conv1", "conv3")
        for time in (0.1, 0.15, 0.2)
    ]
    models = rsa.save_rdms(rsa.stack_rdms(every), tmp_path / "models.h5")
    own = tiny_inputs.folder / "sub-03"
    return [
        "rsa",
        "searchlight",
        "--models",
        models,
        "--betas",
        *sorted(own.glob("betas_run-*.nii.gz")),
        "--mask",
        own / "mask.nii.gz",
        "--stimuli",
        tiny_inputs.folder / "stimuli.tsv",
        "--radius",
        6,
        "--jobs",
        1,
    ]


def test_every_layer_has_an_image_with_a_time_axis(asked, tmp_path, brainmap_command):
    answer = brainmap_command(*asked, "--out", tmp_path / "scores_{layer}.nii.gz", "--best", tmp_path / "best.nii.gz")
    assert answer.code == 0, answer.err
    for layer in ("conv1", "conv3"):
        info = image_info(tmp_path / f"scores_{layer}.nii.gz")
        assert info.labels == tuple(f"{layer}@{time}" for time in ("0.1", "0.15", "0.2"))
        assert [info.t_r, info.start] == pytest.approx([0.05, 0.1])
        assert "rsa searchlight" in info.history
    best = nib.load(tmp_path / "best.nii.gz")
    assert rsa.sub_brick_labels(tmp_path / "best.nii.gz") == ["best", "seconds"]
    which, when = np.moveaxis(np.asarray(best.dataobj), 3, 0)
    there = np.isfinite(which)
    assert set(np.unique(which[there])) <= {1, 2}
    files = [tmp_path / f"scores_{layer}.nii.gz" for layer in ("conv1", "conv3")]
    scores = np.stack([np.asarray(nib.load(file).dataobj) for file in files])
    highest = np.moveaxis(scores, -1, 1).reshape(6, *there.shape)[:, there].argmax(axis=0)
    np.testing.assert_array_equal(which[there], highest // 3 + 1)
    np.testing.assert_allclose(when[there], 0.1 + 0.05 * (highest % 3), atol=1e-6)


def test_layers_over_time_need_a_name_each(asked, tmp_path, brainmap_command):
    answer = brainmap_command(*asked, "--out", tmp_path / "scores.nii.gz")
    assert answer.code == 2
    assert "expected {layer} in the name, got none" in answer.err
