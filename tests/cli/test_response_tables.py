"""Commands take a response table where they take images, and give the same numbers."""

from __future__ import annotations

import json

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A store of 48 sounds, four runs of betas as images, and the same as one table with its lists."""
    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.activations.stored import open_activations
    from brainmap.features.networks.zoo import build_network

    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    sounds = rng.normal(size=(48, 1, 2400)).astype(np.float32)
    net = build_network("ch32", n_classes=4, n_samples=2400)
    extract_activations(net, sounds, layers=["conv1", "conv4"], store=folder / "net.zarr", network="net").close()
    items = list(open_activations(folder / "net.zarr").items)
    signal = rng.normal(size=(48, 24))
    runs = [(signal + 0.5 * rng.normal(size=signal.shape)).astype("f4") for _ in range(4)]
    for k, run in enumerate(runs, start=1):
        nib.save(nib.Nifti1Image(run.T.reshape(4, 3, 2, 48), np.eye(4)), folder / f"betas_run-{k}.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 3, 2), "f4"), np.eye(4)), folder / "mask.nii.gz")
    regions = np.zeros((4, 3, 2), "i2")
    regions[:2], regions[2:] = 1, 2
    nib.save(nib.Nifti1Image(regions, np.eye(4)), folder / "rois.nii.gz")
    (folder / "rois.tsv").write_text("index\tname\n1\tA\n2\tB\n")
    pd.DataFrame({"stimulus_id": items}).to_csv(folder / "labels.tsv", sep="\t", index=False)
    order = rng.permutation(48)  # the table has its own order
    pd.DataFrame({"stimulus_id": [items[k] for k in order]}).to_csv(folder / "items.tsv", sep="\t", index=False)
    names = [{1: "A", 2: "B"}[value] for value in regions.ravel()]
    other = pd.DataFrame({"participant": "02", "roi": ["A"] * 5})
    voxels = pd.concat([other, pd.DataFrame({"participant": "01", "roi": names})])
    voxels.to_csv(folder / "voxels.tsv", sep="\t", index=False)
    cube = np.concatenate([rng.normal(size=(48, 5, 4)), np.stack(runs, axis=2)], axis=1)[order]
    with h5py.File(folder / "all.h5", "w") as file:
        file["betas"], file["noise"] = cube, cube + 1
    return folder


@pytest.fixture
def image(study):
    return (
        *("--betas", *(study / f"betas_run-{k}.nii.gz" for k in range(1, 5)), "--mask", study / "mask.nii.gz"),
        *("--labels", study / "labels.tsv", "--rois", study / "rois.nii.gz", "--roi-table", study / "rois.tsv"),
        *("--participant", "01"),
    )


@pytest.fixture
def table(study):
    return (
        *("--betas", study / "all.h5", "--key", "betas", "--participant", "01"),
        *("--labels", study / "items.tsv", "--rois", study / "voxels.tsv"),
    )


def _read_rows(answer):
    assert answer.code == 0, answer.err
    return pd.DataFrame(json.loads(answer.out))


@pytest.mark.parametrize(
    "command",
    [
        ("encode", "--layers", "conv1", "--alphas", "1,100,10000", "--targets", "roi"),
        ("cka",),
        ("bands", "--layers", "conv1,conv4", "--targets", "roi", "--n-iter", 2, "--searches", 1),
        ("reliability", "--splits", 3),
    ],
    ids=lambda command: command[0],
)
def test_a_table_gives_the_numbers_of_the_images(command, image, table, study, brainmap_command):
    name, *settings = command
    store = () if name == "reliability" else ("--activations", study / "net.zarr")
    wanted, found = (
        _read_rows(brainmap_command("rsa", name, *store, *given, *settings, "--json")) for given in (image, table)
    )
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-6)


def test_rdms_of_a_table_are_those_of_the_images(image, table, tmp_path, brainmap_command):
    found = []
    for name, given in (("a", image), ("b", table)):
        answer = brainmap_command("rsa", "rdm", *given, "--out", tmp_path / f"{name}.h5", "--minimum-voxels", 1)
        assert answer.code == 0, answer.err
        found.append(rsa.load_rdms(tmp_path / f"{name}.h5"))
    wanted, mine = found
    assert list(mine.rdm_descriptors["roi"]) == ["A", "B"]
    items = list(wanted.pattern_descriptors["stimulus_id"])
    order = [list(mine.pattern_descriptors["stimulus_id"]).index(item) for item in items]
    matrices = mine.get_matrices()[:, order][:, :, order]
    np.testing.assert_allclose(matrices, wanted.get_matrices(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rdm", "--out", "x.h5", "--minimum-voxels", 1), ""),
        (("searchlight", "--models", "x.h5", "--out", "x.nii.gz"), "make images of it ('From a matrix to maps' in"),
        (("encode", "--activations", "net.zarr", "--maps", "r.nii.gz"), "--maps: expected images"),
    ],
)
def test_commands_of_positions_refuse_a_table_in_one_line(words, said, table, study, monkeypatch, brainmap_command):
    monkeypatch.chdir(study)
    if not said:
        answer = brainmap_command("rsa", *words, *table[:2], *table[4:])
        said = "got 2: betas (48 x 29 x 4), noise (48 x 29 x 4); name one as key"
    elif words[0] == "searchlight":
        answer = brainmap_command("rsa", *words, *table[:2])
    else:
        answer = brainmap_command("rsa", *words, *table)
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.strip().count("\n") == 0


def test_a_mask_and_a_key_without_a_table_are_refused(image, table, study, tmp_path, brainmap_command):
    out = ("--out", tmp_path / "x.h5", "--minimum-voxels", 1)
    answer = brainmap_command("rsa", "rdm", *table, "--mask", study / "mask.nii.gz", *out)
    assert (answer.code, "a response table has no grid" in answer.err) == (2, True)
    answer = brainmap_command("rsa", "rdm", *image, "--key", "betas", *out)
    assert (answer.code, "key and axes are of response tables" in answer.err) == (2, True)
