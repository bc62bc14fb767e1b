"""The study file, and what a study leaves on disk."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.names import slug
from brainmap.study.settings.study import Study, StudySettings, load_study
from brainmap.study.settings.template import TEMPLATE


def test_the_template_parses_and_names_every_key() -> None:
    settings = StudySettings.model_validate(tomllib.loads(TEMPLATE))
    assert settings.network[0].controls == ("untrained",)

    def keys(model: Any) -> set[str]:
        found = set()
        for name, field in model.model_fields.items():
            found.add(field.alias or name)
            for home, inner in re.findall(r"(brainmap\.study\.settings\.\w+)\.(\w+)", str(field.annotation)):
                found |= keys(getattr(__import__(home, fromlist=[inner]), inner))
        return found

    absent = [key for key in keys(StudySettings) - {"truth"} if not re.search(rf"\b{key}\b", TEMPLATE)]
    assert absent == []


def test_defaults_said_in_the_template_are_the_defaults() -> None:
    said = dict(re.findall(r"^# (\w+) = (\"\w+\"|[\d.]+|false)", TEMPLATE, flags=re.MULTILINE))
    settings = StudySettings.model_validate(tomllib.loads(TEMPLATE))
    defaults = {**settings.study.model_dump(), **settings.brain[0].model_dump()}
    for key in ("simulated", "maps", "missing", "noise"):
        assert tomllib.loads(f"x = {said[key]}")["x"] == defaults[key]


def test_init_writes_a_file_that_runs_when_filled_in(
    tiny_study: Any, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    path = tiny_study.folder / "mine.toml"
    assert lines_of("init", path)[0] == 0
    text = path.read_text()
    for old, new in (
        ('"ch32.safetensors"', '"net.safetensors"'),
        ('participants = ["01", "02"]', 'participants = ["03"]'),
        ('image = "sub-{participant}/rois.nii.gz"', 'image = "rois.nii.gz"'),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    code, out, _ = lines_of("check", path)
    assert (code, out[-1].split(".")[0]) == (0, "Nothing is wrong")


def test_init_keeps_a_file_that_is_there(
    tiny_study: Any, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    before = tiny_study.file.read_text()
    code, _, said = lines_of("init", tiny_study.file)
    assert code == 2
    assert "exists" in said[0]
    assert tiny_study.file.read_text() == before


def test_labels_may_be_a_table_a_run(tiny_study: Any) -> None:
    tiny_study.edit(("mask = ", 'labels = "sub-{participant}_run-{run}.tsv"\nmask = '))
    person = next(iter(load_study(tiny_study.file).participants()))
    labels = [one.labels for one in person.found]
    assert [Path(name).name for name in labels] == [f"sub-01_run-{k}.tsv" for k in (1, 2, 3)]
    assert set(labels) <= set(person.inputs)


def test_words_that_yaml_would_change_stay_words(tiny_study: Any) -> None:
    tiny_study.edit(('layers = ["conv1", "conv3", "output"]', 'layers = ["no", "yes", "on", "off"]'))
    assert load_study(tiny_study.file).settings.network[0].layers == ("no", "yes", "on", "off")


@pytest.mark.parametrize(
    ("said", "wanted"), [("conv*", ("conv*",)), ("conv1, output", ("conv1", "output")), ("all", "all")]
)
def test_layers_are_patterns_as_on_the_command_line(tiny_study: Any, said: str, wanted: object) -> None:
    tiny_study.edit(('layers = ["conv1", "conv3", "output"]', f'layers = "{said}"'))
    assert load_study(tiny_study.file).settings.network[0].layers == wanted


def test_names_that_would_share_files_are_refused(tiny_study: Any) -> None:
    tiny_study.edit(('participants = ["03"]', 'participants = ["a-b", "ab"]'))
    with pytest.raises(InputError, match="alike in letters and digits"):
        load_study(tiny_study.file)
    assert slug("layer1.10.conv") != slug("layer11.0.conv")


def test_absolute_paths_of_a_study_file_stay(tiny_study: Any) -> None:
    study = load_study(tiny_study.file)
    assert isinstance(study, Study)
    assert study.resolve("/data/x+tlrc.HEAD[3]") == "/data/x+tlrc.HEAD[3]"
    assert study.resolve("x.nii") == f"{tiny_study.folder}/x.nii"


# What lies on disk -------------------------------------------------------------------------------------------


def results(study: Any, pattern: str = "*") -> list[Path]:
    """The results a person would look at: not the ledger, not the inside of arrays."""
    found = (p for p in study.out.rglob(pattern) if p.is_file())
    return sorted(p for p in found if ".zarr" not in str(p) and "/.brainmap/" not in str(p))


def test_names_parse_as_bids(tiny_results: Any) -> None:
    name = re.compile(
        r"(sub-[A-Za-z0-9]+_)?(task|network)-[A-Za-z0-9]+(_space-[A-Za-z0-9]+)?(_desc-[A-Za-z0-9]+)?"
        r"(_stat-[A-Za-z0-9]+)?_[a-z]+(\.nii\.gz|\.tsv|\.json|\.h5)"
    )
    plain = {"dataset_description.json", "maps.tsv", "maps.json", "report.html"}
    for path in results(tiny_results):
        if path.name in plain or path.suffix == ".wav":
            continue
        if path.parent.name == "group" and "_" not in re.sub("best_layers|layer_cor|residual_s", "", path.name):
            continue  # tables of the group have plain names
        assert name.fullmatch(path.name), path.name
        for entity in ("sub", "space"):
            if f"{entity}-" in path.name and entity == "sub":
                assert path.parent.parent.name == path.name.split("_")[0]


def test_every_table_has_a_sidecar_that_describes_each_column(tiny_results: Any) -> None:
    tables = results(tiny_results, "*.tsv")
    assert {p.name for p in tables} >= {"statistics.tsv", "ceilings.tsv", "best_layers.tsv", "scores.tsv", "maps.tsv"}
    for path in tables:
        about = json.loads(path.with_suffix(".json").read_text())
        table = pd.read_csv(path, sep="\t", na_values="n/a")
        for column in table.columns:
            assert about[column]["Description"], (path.name, column)
        assert about["Simulated"] is True
        assert about["GeneratedBy"]["CommandLine"] == "brainmap run study.toml"
        assert {"Versions", "Seed", "Parameters", "InputsSHA256"} <= set(about)


def test_every_map_and_rdm_carries_its_provenance(tiny_results: Any) -> None:
    found = [*results(tiny_results, "*.nii.gz"), *results(tiny_results, "*.h5")]
    assert len(found) == 3 * 4 + 13 + 2 + 4
    for path in found:
        about = json.loads(path.with_name(re.sub(r"(\.nii)?\.\w+$", ".json", path.name)).read_text())
        assert about["Simulated"] is True, path
        assert about["Seed"] == 0
        if path.parent.name == "func":
            assert len(about["InputsSHA256"]) >= 4
            assert not any(name.startswith("/") for name in about["InputsSHA256"])


def test_maps_say_inside_what_they_are(tiny_results: Any) -> None:
    from brainmap.rsa.images.files import image_info

    (path,) = tiny_results.out.glob("sub-01/func/*trainedconv3*statmap.nii.gz")
    info = image_info(path)
    assert info.labels == ("net conv3",)
    assert info.space == "MNI"
    assert "simulated data" in info.history


def test_maps_tsv_says_what_every_slug_is(tiny_results: Any) -> None:
    table = pd.read_csv(tiny_results.out / "maps.tsv", sep="\t", na_values="n/a")
    known = {entity: set(rows["slug"]) for entity, rows in table.groupby("entity")}
    for path in results(tiny_results, "*_statmap.nii.gz"):
        entities = dict(part.split("-", 1) for part in path.name.split("_")[:-1])
        assert entities["desc"] in known["desc"], path.name
        assert entities["stat"] in known["stat"], path.name
    row = table[table["slug"] == "nettrainedconv3"].iloc[0]
    assert (row["network"], row["control"], row["layer"]) == ("net", "trained", "conv3")


def test_the_description_is_that_of_a_bids_derivative(tiny_results: Any) -> None:
    about = json.loads((tiny_results.out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert re.fullmatch(r"1\.\d+\.\d+", about["BIDSVersion"])
    assert about["GeneratedBy"][0]["Name"] == "brainmap"
    assert about["Simulated"] is True
    assert (tiny_results.out / about["SourceDatasets"][0]["URL"]).resolve() == tiny_results.folder.resolve()
    assert (tiny_results.out / about["StudyFile"]).resolve() == tiny_results.file.resolve()


def test_rsatoolbox_reads_the_rdms(tiny_results: Any) -> None:
    from rsatoolbox.rdm import load_rdm

    (path,) = tiny_results.out.glob("sub-01/func/*_rdms.h5")
    rdms = load_rdm(str(path), file_type="hdf5")
    assert rdms.n_rdm == 3
    assert rdms.n_cond == 8


def test_maps_for_afni_hold_the_same_values(finished: Any) -> None:
    (nifti,) = finished.out.glob("group/*trainedconv1_stat-t_statmap.nii.gz")
    image = nib.load(nifti)
    wanted = as_ras(np.asarray(image.dataobj), image.affine)
    finished.edit(("seed = 0", 'seed = 0\nmaps = "afni"'))
    computed = finished.run()
    assert computed == {f"sub-0{k}_searchlight" for k in (1, 2, 3)} | {"group_maps", "group_ceilings", "report"}
    assert results(finished, "*.nii.gz") == []
    (head,) = finished.out.glob("group/*trainedconv1_stat-t_statmap+tlrc.HEAD")
    assert head.with_suffix(".BRIK").exists()
    assert head.with_name(head.name.replace("+tlrc.HEAD", ".json")).exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel deprecates a number of things on its way to an AFNI image
        found = nib.load(head)
        values = as_ras(np.asarray(found.dataobj).reshape(found.shape[:3]), found.affine)
    assert np.array_equal(values, wanted, equal_nan=True)
    assert finished.run() == set()


def as_ras(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.Nifti1Image(values, affine)).dataobj)


# The numbers ---------------------------------------------------------------------------------------------------


def read_patterns(study: Any, participant: str, run: int) -> tuple[np.ndarray, list[str]]:
    """Betas (x, y, z, n) and labels of one run, read with nibabel alone."""
    path = study.betas(participant, run)
    if path.suffix == ".BRIK":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = nib.load(path.with_suffix(".HEAD"))
            values = np.asarray(image.dataobj)
        labels = image.header.get_volume_labels()
    else:
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        text = image.header.extensions[0].get_content()
        text = text.decode() if isinstance(text, bytes) else str(text)
        labels = re.search(r'atr_name="BRICK_LABS"[^>]*>\s*"([^"]*)"', text)[1]  # type: ignore[index]
        labels = re.split("~|&#126;", labels)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(values, image.affine))
    return np.asarray(canonical.dataobj), [str(label) for label in labels][: values.shape[3]]


def roi_voxels(study: Any) -> dict[str, np.ndarray]:
    """Voxels of each region inside the mask, in RAS order."""
    image = nib.load(study.folder / "rois.nii.gz")
    labels = as_ras(np.asarray(image.dataobj), image.affine)
    mask = np.ones(labels.shape, bool)
    mask[..., -1] = False
    table = pd.read_csv(study.folder / "rois.tsv", sep="\t")
    return {name: (labels == index) & mask for index, name in zip(table["index"], table["name"], strict=True)}


def scores_by_rsatoolbox(
    study: Any, participant: str, *, method: str, measure: str, runs: tuple[int, ...]
) -> pd.DataFrame:
    """Layer x ROI scores with rsatoolbox alone, from the files of the study."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare, load_rdm

    models = load_rdm(str(next(study.out.glob("rdms/*_rdms.h5"))), file_type="hdf5")
    stimuli = [str(s) for s in models.pattern_descriptors["stimulus_id"]]
    rows = []
    for roi, inside in roi_voxels(study).items():
        loaded = [read_patterns(study, participant, run) for run in runs]
        measured = np.concatenate([values[inside].T for values, _ in loaded])
        names = [name for _, labels in loaded for name in labels]
        data = Dataset(measured.astype(float), obs_descriptors={"s": names, "run": np.repeat(runs, 8)})
        extra = {"cv_descriptor": "run"} if method == "crossnobis" else {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "invalid value encountered in cast", RuntimeWarning)
            rdm = calc_rdm(data, method=method, descriptor="s", **extra)
        rdm.reorder(np.array([list(rdm.pattern_descriptors["s"]).index(s) for s in stimuli]))
        scores = compare(models, rdm, method=measure)[:, 0]
        rows += [(roi, str(layer), score) for layer, score in zip(models.rdm_descriptors["layer"], scores, strict=True)]
    return pd.DataFrame(rows, columns=["roi", "layer", "score"]).set_index(["roi", "layer"]).sort_index()


def written_scores(study: Any, participant: str) -> pd.DataFrame:
    (path,) = study.out.glob(f"sub-{participant}/func/*_scores.tsv")
    table = pd.read_csv(path, sep="\t", dtype={"participant": str})
    return table[["roi", "layer", "score"]].set_index(["roi", "layer"]).sort_index()


def test_crossnobis_scores_are_those_of_rsatoolbox(tiny_study: Any) -> None:
    tiny_study.edit(("space = ", 'noise = "none"\nspace = '), ("[searchlight]\nradius_mm = 6.0\n", ""))
    tiny_study.run("01", "03")
    for participant in ("01", "03"):
        wanted = scores_by_rsatoolbox(tiny_study, participant, method="crossnobis", measure="rho-a", runs=(1, 2, 3))
        pd.testing.assert_frame_equal(written_scores(tiny_study, participant), wanted, atol=1e-10, rtol=0)


def test_correlation_scores_of_one_run_are_those_of_rsatoolbox(tiny_study: Any) -> None:
    tiny_study.edit(
        ("betas_run-{run}", "betas_run-2"),
        ('"crossnobis"', '"correlation"'),
        ('"rho-a"', '"spearman"'),
        ("[searchlight]\nradius_mm = 6.0\n", ""),
    )
    tiny_study.run("01", "03")
    for participant in ("01", "03"):
        wanted = scores_by_rsatoolbox(tiny_study, participant, method="correlation", measure="spearman", runs=(2,))
        pd.testing.assert_frame_equal(written_scores(tiny_study, participant), wanted, atol=1e-10, rtol=0)


def test_the_groups_scores_are_the_participants(tiny_results: Any) -> None:
    group = pd.read_csv(tiny_results.out / "group" / "scores.tsv", sep="\t", dtype={"participant": str})
    for participant in ("01", "02", "03"):
        mine = group[group["participant"] == participant][["roi", "layer", "score"]].set_index(["roi", "layer"])
        pd.testing.assert_frame_equal(mine.sort_index(), written_scores(tiny_results, participant), atol=1e-12)


def test_model_rdms_are_those_of_rsatoolbox_over_the_stored_activations(tiny_results: Any) -> None:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, load_rdm

    from brainmap.features.activations.stored import open_activations

    models = load_rdm(str(next(tiny_results.out.glob("rdms/*_rdms.h5"))), file_type="hdf5")
    activations = open_activations(next(tiny_results.out.glob("features/*.zarr")))
    assert [str(s) for s in models.pattern_descriptors["stimulus_id"]] == list(activations.items)
    for layer, found in zip(models.rdm_descriptors["layer"], models.dissimilarities, strict=True):
        x = np.asarray(activations[str(layer)][:], dtype=np.float64)
        x = x[:, x.std(axis=0) > 0]
        wanted = calc_rdm(Dataset((x - x.mean(axis=0)) / x.std(axis=0)), method="correlation").dissimilarities[0]
        np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_a_simulated_study_says_so_everywhere(tiny_results: Any) -> None:
    for path in results(tiny_results, "*.json"):
        assert json.loads(path.read_text())["Simulated"] is True, path


def test_a_study_that_is_not_simulated_never_says_so(tiny_inputs: Any, tmp_path: Path) -> None:
    study = type(tiny_inputs)(shutil.copytree(tiny_inputs.folder, tmp_path / "study"))
    study.edit(("simulated = true\n", ""))
    study.run("01")
    for path in results(study, "*.json"):
        assert json.loads(path.read_text()).get("Simulated") in (None, False), path
