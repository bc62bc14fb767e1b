"""brainmap rsa ...: from activations and betas to RDMs, scores, searchlight and group maps, as a script would."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm import load_rdm
from scipy.stats import spearmanr

from brainmap import rsa


@pytest.fixture
def betas(tiny_inputs):
    """The options that read a participant's betas, `--betas` followed by several files."""

    def options(participant):
        own = tiny_inputs.folder / f"sub-{participant}"
        files = sorted(own.glob("betas_run-*.HEAD")) or sorted(own.glob("betas_run-*.nii.gz"))
        mask = next(iter([*own.glob("mask*.HEAD"), *own.glob("mask.nii.gz")]))
        return ("--betas", *files, "--mask", mask, "--stimuli", tiny_inputs.folder / "stimuli.tsv")

    return options


@pytest.fixture
def rois(tiny_inputs):
    return ("--rois", tiny_inputs.folder / "rois.nii.gz", "--roi-table", tiny_inputs.folder / "rois.tsv")


@pytest.fixture
def models(tmp_path):
    """Two model RDMs over the stimuli of the tiny study, and their file."""
    items = [f"{word}_{voice}" for word in ("cat", "dog", "tree", "yes") for voice in ("anna", "ben")]
    rng = np.random.default_rng(0)
    both = [
        rsa.compute_rdms(rng.normal(size=(8, 30)), descriptors={"stimulus_id": items, "network": "net", "layer": layer})
        for layer in ("conv1", "conv3")
    ]
    return rsa.save_rdms(rsa.stack_rdms(both), tmp_path / "models.h5")


def test_rdms_of_patterns_and_maps_are_those_of_the_library(tmp_path, tiny_inputs, brainmap_command):
    from brainmap.features.representations.features import map_features, pattern_features
    from brainmap.features.representations.files import open_cams, open_maximizations
    from brainmap.features.sounds.files import load_sounds

    table = tiny_inputs.folder / "stimuli.tsv"
    given = ("--checkpoint", tiny_inputs.folder / "net.safetensors", "--sounds", table, "--out", tmp_path / "a.zarr")
    units, alone = ("--layer", "conv1", "--units", "0,1,2"), ("--judges", "none")
    for command, *more in (("maximize", "--steps", 1, *alone), ("maximize", "--steps", 1, *units, *alone), ("cam",)):
        assert brainmap_command("features", command, *given, *more).code == 0

    ask = ("rsa", "rdm", "--out")
    answer = brainmap_command(*ask, tmp_path / "am.h5", "--patterns", tmp_path / "a.zarr", "--layers", "output")
    assert answer.code == 0, answer.err
    assert "of 4 classes" in answer.out
    patterns = open_maximizations(tmp_path / "a.zarr")["output"]
    found = load_rdm(str(tmp_path / "am.h5"), file_type="hdf5")
    np.testing.assert_allclose(found.dissimilarities, rsa.compute_rdms(pattern_features(patterns)).dissimilarities)
    several = brainmap_command(*ask, tmp_path / "no.h5", "--patterns", tmp_path / "a.zarr")
    assert several.code == 2
    assert "name one" in several.err

    answer = brainmap_command(*ask, tmp_path / "cam.h5", "--cams", tmp_path / "a.zarr", "--sounds", table)
    assert answer.code == 0, answer.err
    stored = open_cams(tmp_path / "a.zarr")
    sounds = load_sounds(table, rate=16_000, seconds=0.15, level="rms")
    wanted = map_features(stored.cams, rate=16_000, sounds=sounds.waveforms)
    found = load_rdm(str(tmp_path / "cam.h5"), file_type="hdf5")
    np.testing.assert_allclose(found.dissimilarities, rsa.compute_rdms(wanted).dissimilarities, atol=1e-6)
    assert list(found.pattern_descriptors["stimulus_id"]) == list(sounds.items)


def test_rdms_of_activations_are_those_of_the_library(tmp_path, brainmap_command):
    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.networks.zoo import build_network

    sounds = np.random.default_rng(1).normal(size=(5, 1, 2400)).astype(np.float32)
    net = build_network("ch32", n_classes=4, n_samples=2400)
    extract_activations(net, sounds, layers=["conv1", "output"], store=tmp_path / "a.zarr", network="net").close()
    answer = brainmap_command(
        "rsa",
        "rdm",
        "--activations",
        tmp_path / "a.zarr",
        "--dissimilarity",
        "euclidean",
        "--units",
        "none",
        "--out",
        tmp_path / "net.h5",
    )
    assert answer.code == 0, answer.err
    found = load_rdm(str(tmp_path / "net.h5"), file_type="hdf5")
    x = np.asarray(extract_activations(net, sounds, layers="output")["output"], dtype=np.float64)
    wanted = ((x[:, None] - x[None]) ** 2).mean(axis=2)[np.triu_indices(5, 1)]
    np.testing.assert_allclose(found.dissimilarities[1], wanted, rtol=1e-5)
    assert json.loads((tmp_path / "net.json").read_text())["Parameters"]["dissimilarity"] == "euclidean"


@pytest.mark.parametrize("participant", ["01", "03"])
def test_rdms_of_betas_are_those_of_the_library(participant, betas, rois, tmp_path, tiny_inputs, brainmap_command):
    out = tmp_path / "brain.h5"
    words = ("rsa", "rdm", *betas(participant), *rois, "--participant", participant, "--noise", "none", "--out", out)
    answer = brainmap_command(*words)
    assert answer.code == 0, answer.err
    assert "3 RDMs (belt, left-a, right-a) of 8 stimuli, crossnobis" in answer.out
    found = rsa.load_rdms(out)
    _, *files = (str(word) for word in betas(participant)[: betas(participant).index("--mask")])
    mask = str(betas(participant)[betas(participant).index("--mask") + 1])
    regions = rsa.load_rois(rois[1], table=rois[3], mask=mask)
    data = rsa.load_patterns(files, mask=mask, rois=regions, stimuli=tiny_inputs.folder / "stimuli.tsv")
    wanted = rsa.compute_rdms(data, dissimilarity="crossnobis", rois="all")
    np.testing.assert_allclose(found.dissimilarities, wanted.dissimilarities)
    assert list(found.rdm_descriptors["participant"]) == [participant] * 3
    again = brainmap_command(*words)
    assert again.code == 2
    assert "exists" in again.err
    assert brainmap_command(*words, "--overwrite", "--items", "condition", "--dissimilarity", "correlation").code == 0
    assert rsa.load_rdms(out).n_cond == 4


def test_rdms_of_betas_hold_their_items_in_the_order_of_the_table(betas, tmp_path, tiny_inputs, brainmap_command):
    table = pd.read_csv(tiny_inputs.folder / "stimuli.tsv", sep="\t").iloc[[6, 0, 5, 2, 7, 1, 4, 3]]
    table.to_csv(tmp_path / "mixed.tsv", sep="\t", index=False)
    words = [tmp_path / "mixed.tsv" if str(word).endswith("stimuli.tsv") else word for word in betas("03")]
    for items, label in (("stimulus", "stimulus_id"), ("condition", "condition")):
        out = tmp_path / f"{items}.h5"
        assert brainmap_command("rsa", "rdm", *words, "--items", items, "--noise", "none", "--out", out).code == 0
        assert list(rsa.load_rdms(out).pattern_descriptors[label]) == list(dict.fromkeys(table[label]))


def test_compare_gives_scipys_correlations_and_described_tables(betas, rois, models, tmp_path, brainmap_command):
    files = []
    for participant in ("01", "02", "03"):
        files.append(tmp_path / f"sub-{participant}.h5")
        words = ("rsa", "rdm", *betas(participant), *rois, "--participant", participant, "--out", files[-1])
        assert brainmap_command(*words).code == 0
    out, ceilings, tests = (tmp_path / f"{name}.tsv" for name in ("scores", "ceilings", "tests"))
    words = ("rsa", "compare", models, *files, "--measure", "spearman")
    answer = brainmap_command(*words, "--out", out, "--ceilings", ceilings, "--statistics", tests)
    assert answer.code == 0, answer.err
    table = pd.read_csv(out, sep="\t", dtype={"participant": str})
    assert list(table.columns) == ["network", "layer", "participant", "roi", "score"]
    assert len(table) == 2 * 3 * 3
    one = table[(table["layer"] == "conv3") & (table["participant"] == "02") & (table["roi"] == "belt")]["score"].item()
    model, brain = rsa.load_rdms(models), rsa.load_rdms(files[1])
    order = [list(brain.pattern_descriptors["stimulus_id"]).index(s) for s in model.pattern_descriptors["stimulus_id"]]
    square = brain.subset("roi", "belt").get_matrices()[0][np.ix_(order, order)]
    assert one == pytest.approx(spearmanr(model.dissimilarities[1], square[np.triu_indices(8, 1)]).statistic)
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["Measure"] == "spearman"
    assert set(map(str, files)) < set(about["InputsSHA256"])
    bounds = pd.read_csv(ceilings, sep="\t")
    assert (bounds["lower"] < bounds["upper"]).all()
    tested = pd.read_csv(tests, sep="\t").set_index(["layer", "roi"])
    means = table.groupby(["layer", "roi"])["score"].mean()
    np.testing.assert_allclose(tested["mean"].loc[means.index], means)
    assert (tested["smallest_p"] == 0.125).all()
    rows = json.loads(brainmap_command(*words, "--json").out)
    assert len(rows) == 18
    assert rows[0]["score"] == pytest.approx(table["score"][0])


def test_compare_refuses_what_cannot_be_compared(betas, models, tmp_path, brainmap_command):
    brain = tmp_path / "brain.h5"
    assert brainmap_command("rsa", "rdm", *betas("03"), "--items", "condition", "--out", brain).code == 0
    levels = brainmap_command("rsa", "compare", models, brain)
    assert levels.code == 2
    assert "8 stimuli" in levels.err
    assert "4 conditions" in levels.err
    alone = brainmap_command("rsa", "compare", models, models, "--statistics", tmp_path / "tests.tsv")
    assert alone.code == 2
    assert "--participant" in alone.err
    assert not (tmp_path / "tests.tsv").exists()
    itself = json.loads(brainmap_command("rsa", "compare", models, models, "--json").out)
    assert [row["score"] for row in itself if row["model_layer"] == row["data_layer"]] == [1, 1]


@pytest.fixture
def maps(betas, models, tmp_path, brainmap_command):
    """A searchlight a participant, two for AFNI and one as NIfTI."""
    found = []
    for participant, name in (("01", "one+tlrc"), ("02", "two+tlrc"), ("03", "three.nii.gz")):
        out = tmp_path / name
        answer = brainmap_command(
            "rsa",
            "searchlight",
            "--models",
            models,
            *betas(participant),
            "--radius",
            6,
            "--jobs",
            1,
            "--out",
            out,
            "--best",
            tmp_path / f"best{participant}.nii.gz",
            "--counts",
            tmp_path / f"counts{participant}.nii.gz",
        )
        assert answer.code == 0, answer.err
        found.append(f"{out}.HEAD" if "+" in name else out)
    return found


def test_searchlight_writes_a_labeled_sub_brick_a_model_with_its_command(maps, betas, models, tmp_path, tiny_inputs):
    for image in maps:
        info = rsa.image_info(image)
        assert info.labels == ("conv1", "conv3")
        assert info.space == "MNI"
        assert "rsa searchlight --models" in info.history
    values = np.asarray(rsa.load_image(maps[2]).dataobj)
    own = tiny_inputs.folder / "sub-03"
    data = rsa.load_patterns(
        [own / f"betas_run-{run}.nii.gz" for run in (1, 2, 3)],
        mask=own / "mask.nii.gz",
        stimuli=tiny_inputs.folder / "stimuli.tsv",
    )
    wanted = rsa.searchlight(data, rsa.load_rdms(models), mask=own / "mask.nii.gz", radius_mm=6.0)
    np.testing.assert_allclose(values[..., 1], np.asarray(wanted["conv3"].dataobj))
    best = np.asarray(rsa.load_image(tmp_path / "best03.nii.gz").dataobj)
    np.testing.assert_array_equal(best, np.asarray(wanted.best.dataobj))
    counts = np.asarray(rsa.load_image(tmp_path / "counts03.nii.gz").dataobj)
    assert counts[3, 3, 2] == 32  # offsets within 2 voxels: 1 + 6 + 12 + 8 + 6, less one above the mask


def test_searchlight_whitens_each_sphere_by_residuals_of_files_or_the_runs(
    betas, models, tmp_path, tiny_inputs, brainmap_command
):
    own, rng = tiny_inputs.folder / "sub-03", np.random.default_rng(4)
    mask, affine = own / "mask.nii.gz", nib.load(own / "mask.nii.gz").affine
    left = [rng.normal(size=(6, 7, 5, 30)).astype(np.float32) for _ in range(2)]
    for k, one in enumerate(left):
        nib.save(nib.Nifti1Image(one, affine), tmp_path / f"left{k}.nii.gz")
    data = rsa.load_patterns(
        [own / f"betas_run-{run}.nii.gz" for run in (1, 2, 3)], mask=mask, stimuli=tiny_inputs.folder / "stimuli.tsv"
    )
    inside = np.asarray(nib.load(mask).dataobj) > 0
    files = ("--noise", "residuals", *(word for k in (0, 1) for word in ("--residuals", tmp_path / f"left{k}.nii.gz")))
    for name, words, how in (
        ("runs", (), {"noise": "runs"}),
        ("left", (*files, "--shrinkage", "eye"), {"noise": [one[inside].T for one in left], "shrinkage": "eye"}),
    ):
        answer = brainmap_command(
            "rsa",
            "searchlight",
            "--models",
            models,
            *betas("03"),
            "--radius",
            6,
            "--jobs",
            1,
            "--dissimilarity",
            "crossnobis",
            "--precision" if name == "left" else "--noise-per",  # the option's old name
            "sphere",
            *words,
            "--out",
            tmp_path / f"{name}.nii.gz",
        )
        assert answer.code == 0, answer.err
        assert ("note: --precision is now called --noise-per; brainmap 0.2 will" in answer.err) == (name == "left")
        found = np.asarray(rsa.load_image(tmp_path / f"{name}.nii.gz").dataobj)
        wanted = rsa.searchlight(
            data, rsa.load_rdms(models), mask=mask, radius_mm=6.0, dissimilarity="crossnobis", **how
        )
        np.testing.assert_allclose(found[..., 1], np.asarray(wanted["conv3"].dataobj), rtol=1e-6)


def test_group_tests_the_participants_maps_as_the_library_does(maps, tmp_path, brainmap_command):
    out, clusters = tmp_path / "group+tlrc", tmp_path / "clusters.tsv"
    words = ("rsa", "group", *maps, "--out", out, "--threshold", 0.9, "--clusters", clusters)
    answer = brainmap_command(*words, "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert (said["participants"], said["flips"], said["enumerated"]) == (3, 8, True)
    info = rsa.image_info(f"{out}.HEAD")
    assert info.labels == ("conv1_mean", "conv1_t", "conv1_pfwe", "conv3_mean", "conv3_t", "conv3_pfwe")
    assert str(info.stats[1]) == "Ttest(2)"
    scores = np.stack([np.asarray(rsa.load_image(f"{image}[conv3]").dataobj) for image in maps])
    mean = np.asarray(rsa.load_image(f"{out}.HEAD[conv3_mean]").dataobj)
    inside = np.isfinite(scores).all(axis=0)
    np.testing.assert_allclose(mean[inside], scores.mean(axis=0)[inside], rtol=1e-5)
    assert len(pd.read_csv(clusters, sep="\t")) == said["clusters"] > 0
    again = brainmap_command(*words)
    assert again.code == 2
    assert "exists" in again.err


def test_group_with_tfce_writes_differences_thresholded_maps_and_names_of_regions(
    maps, tmp_path, tiny_inputs, brainmap_command
):
    out, clusters, kept = tmp_path / "group.nii.gz", tmp_path / "clusters.tsv", tmp_path / "kept.nii.gz"
    answer = brainmap_command(
        "rsa",
        "group",
        *maps,
        "--out",
        out,
        "--correction",
        "tfce",
        "--difference",
        "conv3,conv1",
        "--threshold",
        0.9,
        "--rois",
        tiny_inputs.folder / "rois.nii.gz",
        "--clusters",
        clusters,
        "--thresholded",
        kept,
        "--jobs",
        1,
        "--json",
    )
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert said["differences"]["differences"] == ["conv3 - conv1"]
    assert said["smallest_p"] == 1 / 8
    assert said["differences"]["smallest_p"] == 2 / 8
    kinds = ("mean", "t", "tfce", "pfwe")
    labels = rsa.image_info(out).labels
    assert labels == tuple(f"{model}_{kind}" for model in ("conv1", "conv3", "conv3-conv1") for kind in kinds)
    values = np.asarray(rsa.load_image(out).dataobj)
    np.testing.assert_allclose(values[..., 8], values[..., 4] - values[..., 0], atol=1e-6)
    found = pd.read_csv(clusters, sep="\t", na_values="n/a")
    assert len(found) == said["clusters"] + said["differences"]["clusters"]
    assert {"tfce", "peak_roi", "rois", "x_rai"} <= set(found.columns)
    thresholded = np.asarray(rsa.load_image(kept).dataobj)
    np.testing.assert_array_equal(np.isfinite(thresholded[..., 1]), values[..., 7] <= np.float32(0.9))


def test_group_tests_maps_on_the_surface_with_their_mesh(tmp_path, brainmap_command):
    rng = np.random.default_rng(0)
    points = np.stack([np.repeat(np.arange(20.0), 2), np.tile([0.0, 1.0], 20), np.zeros(40)], axis=1)
    k = np.arange(38)
    triangles = np.stack([k, k + 1, k + 2], axis=1)
    for side, structure in (("L", "CortexLeft"), ("R", "CortexRight")):
        mesh = nib.GiftiImage(
            darrays=[
                nib.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
                nib.gifti.GiftiDataArray(triangles.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
            ],
            meta=nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure}),
        )
        nib.save(mesh, tmp_path / f"{side}.surf.gii")
    names = []
    for n in range(6):
        values = rng.normal(0, 0.05, (80, 2)).astype(np.float32)
        values[10:20, 0] += 0.5
        names.append(tmp_path / f"sub-{n}_hemi-{{hemi}}.func.gii")
        rsa.save_surface(rsa.SurfaceData(values[:40], values[40:], ("conv1", "conv2")), names[-1])
    out, clusters = tmp_path / "group_hemi-{hemi}.func.gii", tmp_path / "clusters.tsv"
    words = ("rsa", "group", *names, "--out", out, "--difference", "all")
    bare = brainmap_command(*words)
    assert (bare.code, bare.err.count("\n")) == (2, 1)
    assert "--mesh" in bare.err
    answer = brainmap_command(*words, "--mesh", tmp_path / "{hemi}.surf.gii", "--clusters", clusters)
    assert answer.code == 0, answer.err
    assert "80 vertices" in answer.out
    data = rsa.load_surface(out)
    assert data.labels == tuple(f"{m}_{k}" for m in ("conv1", "conv2", "conv2-conv1") for k in ("mean", "t", "pfwe"))
    assert (data.left[10:20, 2] <= 0.05).all()
    found = pd.read_csv(clusters, sep="\t")
    assert found["hemisphere"].tolist()[0] == "left"
    assert found["vertices"].tolist()[0] == 10


def test_group_refuses_one_participant_and_other_models(maps, tmp_path, brainmap_command):
    one = brainmap_command("rsa", "group", maps[0], "--out", tmp_path / "g.nii.gz")
    assert (one.code, one.err.count("\n")) == (2, 1)
    other = brainmap_command("rsa", "group", maps[0], f"{maps[1]}[conv1]", "--out", tmp_path / "g.nii.gz")
    assert (other.code, other.err.count("\n")) == (2, 1)
    for option, value, said in (
        ("--difference", "conv1,conv33", "did you mean 'conv3'"),
        ("--difference", "conv1", "expected two models"),
        ("--correction", "tfc", "did you mean 'tfce'"),
        ("--mesh", "fsaverage5", "these are volumes"),
        ("--connectivity", "7", "expected 6, 18, 26"),
        ("--roi-table", "t.tsv", "--rois"),
    ):
        wrong = brainmap_command("rsa", "group", *maps, "--out", tmp_path / "g.nii.gz", option, value)
        assert (wrong.code, wrong.err.count("\n")) == (2, 1)
        assert said in wrong.err
    assert not (tmp_path / "g.nii.gz").exists()


LIGHT = ("searchlight", "--models", "no.h5", "--betas", "b.nii", "--mask", "m.nii")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rdm",), "--activations, --patterns, --cams, --attributions and --betas"),
        (("rdm", "--betas", "no.nii.gz"), "--mask"),
        (("rdm", "--betas", "no.nii.gz", "--mask", "no.nii.gz"), "no.nii.gz"),
        (("rdm", "--activations", "no.zarr"), "no.zarr"),
        (("rdm", "--betas", "b.nii", "--mask", "m.nii", "--noise", "residue"), "did you mean 'residuals'"),
        (("rdm", "--activations", "no.zarr", "--units", "zscored"), "did you mean 'zscore'"),
        (("searchlight", "--models", "no.h5"), "--betas and --mask"),
        (LIGHT, "no.h5"),
        ((*LIGHT, "--noise-per", "spheres"), "did you mean 'sphere'"),
        ((*LIGHT, "--noise-per", "voxel", "--precision", "sphere"), "its old name --precision, got both"),
        ((*LIGHT, "--shrinkage", "eye"), "give --noise-per sphere too"),
        ((*LIGHT, "--noise-per", "sphere", "--noise", "none"), "give --noise runs or"),
        (("group", "no.nii.gz", "neither.nii.gz"), "no.nii.gz"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(words, said, tmp_path, brainmap_command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, *options = words
    answer = brainmap_command("rsa", command, *options, "--out", "out.h5" if command == "rdm" else "out.nii.gz")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []


def test_crossnobis_without_runs_names_the_way_out(betas, tmp_path, brainmap_command):
    words = betas("03")
    single = (*words[:2], *words[words.index("--mask") :])
    answer = brainmap_command("rsa", "rdm", *single, "--out", tmp_path / "one.h5")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "runs" in answer.err
    assert nib.load(words[1]).shape == (6, 7, 5, 8)
