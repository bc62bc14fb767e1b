"""brainmap rsa encode: the numbers of the library, and mistakes that are told before anything is read."""

from __future__ import annotations

import json
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A store of 48 sounds in two layers, two runs of betas in which conv1 is planted, a mask and two regions."""
    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.activations.stored import open_activations
    from brainmap.features.networks.zoo import build_network

    folder = tmp_path_factory.mktemp("encode")
    rng = np.random.default_rng(0)
    sounds = rng.normal(size=(48, 1, 2400)).astype(np.float32)
    net = build_network("ch32", n_classes=4, n_samples=2400)
    extract_activations(net, sounds, layers=["conv1", "conv4"], store=folder / "net.zarr", network="net").close()
    acts = open_activations(folder / "net.zarr")
    x = np.asarray(acts["conv1"], np.float64)
    z = (x - x.mean(0)) / x.std(0)
    signal = (z @ rng.normal(size=(x.shape[1], 12))).T.reshape(3, 2, 2, 48)
    for run in (1, 2):
        volumes = signal + 2 * rng.normal(size=signal.shape)
        nib.save(nib.Nifti1Image(volumes.astype("f4"), np.eye(4)), folder / f"betas_run-{run}.nii.gz")
    inside = np.ones((3, 2, 2), "f4")
    inside[0, 0, 0] = 0
    nib.save(nib.Nifti1Image(inside, np.eye(4)), folder / "mask.nii.gz")
    regions = np.zeros((3, 2, 2), "i2")
    regions[1], regions[2] = 1, 2
    nib.save(nib.Nifti1Image(regions, np.eye(4)), folder / "rois.nii.gz")
    (folder / "rois.tsv").write_text("index\tname\n1\tA\n2\tB\n")
    pd.DataFrame({"stimulus_id": acts.items}).to_csv(folder / "labels.tsv", sep="\t", index=False)
    return folder


@pytest.fixture
def given(study):
    return (
        *("rsa", "encode", "--activations", study / "net.zarr"),
        *("--betas", study / "betas_run-1.nii.gz", study / "betas_run-2.nii.gz", "--mask", study / "mask.nii.gz"),
        *("--labels", study / "labels.tsv", "--rois", study / "rois.nii.gz", "--roi-table", study / "rois.tsv"),
    )


def test_scores_counts_and_maps_are_those_of_the_library(given, study, tmp_path, brainmap_command):
    answer = brainmap_command(
        *given, "--out", tmp_path / "s.tsv", "--counts", tmp_path / "c.tsv", "--maps", tmp_path / "r.nii.gz"
    )
    assert answer.code == 0, answer.err
    assert "48 items in 5 test folds by condition, 2 runs" in answer.out
    from brainmap.features.activations.stored import open_activations

    regions = rsa.load_rois(
        study / "rois.nii.gz", table=study / "rois.tsv", mask=study / "mask.nii.gz", minimum_voxels=1
    )
    files = [study / f"betas_run-{run}.nii.gz" for run in (1, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # one table for both runs; alphas at an end
        data = rsa.load_patterns(files, mask=study / "mask.nii.gz", conditions=study / "labels.tsv", rois=regions)
        fit = rsa.encode(open_activations(study / "net.zarr"), data)
    table = pd.read_csv(tmp_path / "s.tsv", sep="\t", keep_default_na=False, na_values=["n/a"])
    assert list(table.columns[:6]) == ["network", "layer", "roi", "voxel", "r", "r_corrected"]
    np.testing.assert_allclose(table["r"], fit.scores["r"], atol=1e-9)
    assert table["roi"].value_counts().to_dict() == {"A": 8, "B": 8, "": 6}
    image = nib.load(tmp_path / "r.nii.gz")
    assert image.shape == (3, 2, 2, 2)
    volume = image.get_fdata()[..., 0]
    assert np.isnan(volume[0, 0, 0])
    inside = np.asarray(nib.load(study / "mask.nii.gz").dataobj) > 0
    np.testing.assert_allclose(volume[inside], fit.scores["r"][:11], atol=1e-6)
    about = json.loads((tmp_path / "s.json").read_text())
    assert about["Parameters"]["groups"] == "condition"
    assert about["FoldOfItem"] == dict(zip(fit.items, fit.folds.fold.tolist(), strict=True))
    assert pd.read_csv(tmp_path / "c.tsv", sep="\t")["targets"].tolist() == [11, 11]


def test_regions_and_one_layer_as_json(given, brainmap_command):
    answer = brainmap_command(*given, "--targets", "roi", "--layers", "conv1", "--alphas", "1,100,10000", "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert [(row["network"], row["layer"], row["roi"]) for row in rows] == [
        ("net", "conv1", "A"),
        ("net", "conv1", "B"),
    ]


def test_a_test_by_permutation_is_written_with_its_words(given, tmp_path, brainmap_command):
    more = ("--targets", "roi", "--tests", tmp_path / "p.tsv", "--permutations", 99, "--correction", "max")
    answer = brainmap_command(*given, *more)
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    assert table.loc[table["layer"] == "conv1", "p"].tolist() == [0.01, 0.01]
    assert "48 stimuli exchanged" in json.loads((tmp_path / "p.json").read_text())["Test"]


def test_best_layers_are_written_as_a_table_and_as_an_image(given, tmp_path, brainmap_command):
    more = ("--best", tmp_path / "best.tsv", "--best-maps", tmp_path / "best.nii.gz", "--splits", 3)
    answer = brainmap_command(*given, *more)
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "best.tsv", sep="\t", keep_default_na=False)
    assert table["roi"].tolist() == ["", "A", "B"]
    assert rsa.sub_brick_labels(tmp_path / "best.nii.gz") == ["layer", "position", "r"]
    best = nib.load(tmp_path / "best.nii.gz").get_fdata()[..., 0]
    assert set(np.unique(best[np.isfinite(best)])) <= {1.0, 2.0}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--layers", "cnv1"), "did you mean 'conv1'"),
        (("--groups", "conditions"), "did you mean 'condition'"),
        (("--alphas", "1,b"), "expected numbers parted by commas"),
        (("--targets", "roi", "--maps", "x.nii.gz"), "--maps: expected --targets voxel"),
        (("--folds", "7"), "at least 8 items in each of 7 test folds, got 6"),
        (("--device", "mps"), "mps has no float64"),
    ],
)
def test_mistakes_are_told_in_one_line(given, words, told, brainmap_command):
    answer = brainmap_command(*given, *words)
    assert answer.code == 2
    assert told in answer.err
    assert len(answer.err.strip().splitlines()) <= 2


def test_two_networks_need_two_names(given, study, brainmap_command):
    answer = brainmap_command(*given, "--activations", study / "net.zarr")
    assert answer.code == 2
    assert "say name=FILE" in answer.err
    named = (f"--activations=a={study / 'net.zarr'}", f"--activations=b={study / 'net.zarr'}")
    answer = brainmap_command(*given[:2], *named, *given[4:], "--json")
    assert answer.code == 0, answer.err
    assert {row["network"] for row in json.loads(answer.out)} == {"a", "b"}


def test_cka_is_that_of_the_library(given, study, tmp_path, brainmap_command):
    words = ("rsa", "cka", *given[2:])
    answer = brainmap_command(*words, "--out", tmp_path / "cka.tsv", "--layers", "conv1")
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "cka.tsv", sep="\t")
    assert table["roi"].tolist() == ["A", "B"]
    assert table["voxels"].tolist() == [4, 4]
    assert (table["cka"] > 0.05).all()
    bare = [word for word in words if word != "--betas"]
    assert brainmap_command(*bare[:4]).code == 2


def test_bands_are_stores_or_the_layers_of_one(given, study, tmp_path, brainmap_command):
    words = ("rsa", "bands", *given[2:], "--n-iter", 3, "--searches", 1)
    answer = brainmap_command(*words, "--out", tmp_path / "bands.tsv")
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "bands.tsv", sep="\t")
    assert table["band"].tolist() == ["conv1", "conv1", "conv4", "conv4"]
    sums = table.groupby("roi")["product"].sum()
    np.testing.assert_allclose(sums, table["joint"][:2], atol=1e-6)
    refused = brainmap_command(*[word for word in words if word not in ("--rois", study / "rois.nii.gz")])
    assert refused.code == 2


def test_bands_are_tested_and_mapped_where_all_together_are_significant(given, study, tmp_path, brainmap_command):
    words = ("rsa", "bands", *given[2:], "--n-iter", 3, "--searches", 1, "--targets", "voxel", "--permutations", 49)
    answer = brainmap_command(*words, "--tests", tmp_path / "p.tsv", "--maps", tmp_path / "m.nii.gz")
    assert answer.code == 0, answer.err
    tested = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    assert len(tested) == 11
    assert "48 stimuli exchanged" in json.loads((tmp_path / "p.json").read_text())["Test"]
    assert rsa.sub_brick_labels(tmp_path / "m.nii.gz") == ["preferred", "joint", "unique conv1", "unique conv4"]
    values = np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj).reshape(12, 4)[1:]  # one voxel is outside the mask
    known = (tested["p_corrected"] <= 0.05).to_numpy() & (values[:, 1] > 0)
    assert known.sum() > 5
    np.testing.assert_array_equal(np.isfinite(values[:, 0]), known)
    assert (values[known, 0] == 1).mean() > 0.8, "conv1 was planted"
    assert (values[known, 2] > values[known, 3]).mean() > 0.8
    regions = brainmap_command(*words[:-4], "--targets", "roi", "--maps", tmp_path / "x.nii.gz")
    assert regions.code == 2
    assert "--maps: expected --targets voxel, got regions" in regions.err


def test_vertices_are_predicted_and_mapped_as_voxels_are(study, tmp_path, brainmap_command):
    """The voxels of the study are the vertices of a surface, with the same numbers."""
    from brainmap.rsa.surface.data import SurfaceData, save_surface

    labels = pd.read_csv(study / "labels.tsv", sep="\t", dtype=str)["stimulus_id"].tolist()
    for run in (1, 2):
        values = nib.load(study / f"betas_run-{run}.nii.gz").get_fdata().reshape(12, 48).astype("f4")
        data = SurfaceData(values[:7], values[7:], tuple(labels))
        save_surface(data, tmp_path / f"betas_run-{run}_hemi-{{hemi}}.func.gii")
    answer = brainmap_command(
        *("rsa", "encode", "--activations", study / "net.zarr", "--labels", study / "labels.tsv"),
        *("--betas", *(tmp_path / f"betas_run-{run}_hemi-{{hemi}}.func.gii" for run in (1, 2))),
        *("--out", tmp_path / "s.tsv", "--maps", tmp_path / "r_hemi-{hemi}.func.gii"),
    )
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "s.tsv", sep="\t")
    assert table["hemisphere"].tolist() == (["left"] * 7 + ["right"] * 5) * 2
    found = rsa.load_surface(tmp_path / "r_hemi-{hemi}.func.gii")
    assert found.labels == ("net conv1", "net conv4")
    np.testing.assert_allclose(found.values.T.ravel(), table["r"], atol=1e-6)
    data = rsa.load_patterns(
        [study / f"betas_run-{run}.nii.gz" for run in (1, 2)],
        mask=nib.Nifti1Image(np.ones((3, 2, 2), "f4"), np.eye(4)),
        conditions=labels,
    )
    from brainmap.features.activations.stored import open_activations

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        fit = rsa.encode(open_activations(study / "net.zarr"), data)
    np.testing.assert_allclose(table["r"], fit.scores["r"], atol=1e-6)
