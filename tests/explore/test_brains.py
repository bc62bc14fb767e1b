"""What the brain is said to hold equals what the study wrote."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.explore.commands import run_command
from brainmap.explore.sources import Source, open_source
from tests.conftest import TinyStudy

pytestmark = pytest.mark.slow  # the study with a control takes a minute
MM = "-3,0,-3"  # voxel 2, 3, 2
INDEX = (2, 3, 2)
SPACE = "space-MNI152Lin"


@pytest.fixture(scope="module")
def study(tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """The tiny study with a control and an acoustic model, run."""
    folder = tmp_path_factory.mktemp("brains") / "study"
    shutil.copytree(tiny_inputs.folder, folder)
    made = TinyStudy(folder).edit(
        ('layers = ["conv1", "conv3", "output"]', 'layers = ["conv1", "conv3", "output"]\ncontrols = ["untrained"]'),
        ("[rsa]", '[baselines]\nmodels = ["mel-spectrogram"]\n\n[rsa]'),
    )
    made.run()
    return made


@pytest.fixture(scope="module")
def source(study: TinyStudy) -> Source:
    return open_source(study=str(study.file))


def ask(source: Source, command: str, **given: str) -> dict[str, Any]:
    found = run_command(source, command, given)
    assert isinstance(found, dict)
    return found


def value_at(path: Path) -> float:
    return float(np.asarray(nib.load(path).dataobj)[INDEX])


def test_a_voxel_shows_every_layer_of_every_network_control_and_acoustic_model(
    source: Source, study: TinyStudy
) -> None:
    found = ask(source, "voxel", mm=MM)
    assert found["voxel"] == list(INDEX)
    assert found["mm"] == [-3, 0, -3]
    assert [(row["network"], row["kind"], row["layer"]) for row in found["rows"]] == [
        *[("net", "network", layer) for layer in ("conv1", "conv3", "output")],
        *[("net-untrained", "untrained", layer) for layer in ("conv1", "conv3", "output")],
        ("acoustics", "baseline", "mel-spectrogram"),
    ]
    for row in found["rows"]:
        name = row["network"].replace("-", "") if row["kind"] == "untrained" else row["network"]
        name = f"{name}trained" if row["kind"] == "network" else name
        slug = f"{name}{row['layer'].replace('-', '')}"
        paths = [
            study.out / f"sub-{p}/func/sub-{p}_task-tiny_{SPACE}_desc-{slug}_stat-spearman_statmap.nii.gz"
            for p in ("01", "02", "03")
        ]
        values = np.array([value_at(path) for path in paths])
        assert row["n"] == 3
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-6)
        assert row["error"] == pytest.approx(values.std(ddof=1) / np.sqrt(3), abs=1e-6)
        p = study.out / f"group/task-tiny_{SPACE}_desc-{slug}_stat-pfwe_statmap.nii.gz"
        assert row["p"] == (pytest.approx(value_at(p), abs=1e-6) if row["kind"] != "untrained" else None)
    bounds = [
        study.out / f"group/task-tiny_{SPACE}_desc-searchlight_stat-{bound}ceiling_statmap.nii.gz"
        for bound in ("lower", "upper")
    ]
    assert found["ceiling"] == pytest.approx([value_at(path) for path in bounds], abs=1e-6)


def test_a_voxel_knows_its_region(source: Source) -> None:
    assert ask(source, "voxel", mm=MM)["region"] == "belt"
    assert ask(source, "voxel", mm="-9,0,-3")["region"] == "left-a"
    assert ask(source, "voxel", mm="-3,9,-3")["region"] == ""
    assert ask(source, "brain")["places"].keys() == {"left-a", "right-a", "belt"}
    for name, place in ask(source, "brain")["places"].items():
        assert ask(source, "voxel", mm=",".join(map(str, place)))["region"] == name


@pytest.mark.parametrize("mm", ["-3,0,3", "900,0,0", "-900,-900,-900"])
def test_a_place_that_was_not_scored_says_so(source: Source, mm: str) -> None:
    found = ask(source, "voxel", mm=mm)
    assert found["rows"] == []
    assert "outside" in found["notes"][0]


def test_a_region_shows_the_scores_of_the_study(source: Source, study: TinyStudy) -> None:
    found = ask(source, "region", region="belt")
    scores = pd.read_csv(study.out / "group" / "scores.tsv", sep="\t", dtype={"participant": str})
    tested = pd.read_csv(study.out / "group" / "statistics.tsv", sep="\t")
    assert len(found["rows"]) == 7
    for row in found["rows"]:
        mine = (scores["roi"] == "belt") & (scores["network"] == row["network"]) & (scores["layer"] == row["layer"])
        values = scores[mine]["score"]
        assert row["mean"] == pytest.approx(values.mean())
        assert row["error"] == pytest.approx(values.sem())
        mine = (tested["roi"] == "belt") & (tested["network"] == row["network"]) & (tested["layer"] == row["layer"])
        assert row["p"] == pytest.approx(float(tested[mine]["p_corrected"].iloc[0]))
    ceilings = pd.read_csv(study.out / "group" / "ceilings.tsv", sep="\t").set_index("roi")
    assert found["ceiling"] == pytest.approx([ceilings.lower["belt"], ceilings.upper["belt"]])
    assert found["measure"] == "rho-a"


def test_rdms_of_a_layer_and_of_a_region_are_over_the_same_items(source: Source, study: TinyStudy) -> None:
    found = ask(source, "rdms", region="belt", network="net", layer="conv3")
    model = rsa.load_rdms(study.out / "rdms" / "network-net_rdms.h5").subset("layer", "conv3")
    assert found["labels"] == [str(one) for one in model.pattern_descriptors["stimulus_id"]]
    assert found["layer"] == pytest.approx(model.get_matrices()[0], abs=1e-6)
    brains = [
        rsa.load_rdms(study.out / f"sub-{p}/func/sub-{p}_task-tiny_{SPACE}_desc-rois_rdms.h5").subset("roi", "belt")
        for p in ("01", "02", "03")
    ]
    theirs = [str(one) for one in brains[0].pattern_descriptors["stimulus_id"]]
    order = [theirs.index(label) for label in found["labels"]]
    wanted = np.mean([one.get_matrices()[0][np.ix_(order, order)] for one in brains], axis=0)
    assert found["region"] == pytest.approx(wanted, abs=1e-6)
    score = rsa.compare_vectors(found["layer"][np.triu_indices(8, 1)][None], wanted[np.triu_indices(8, 1)][None])
    assert np.isfinite(score).all()


@pytest.mark.parametrize(("stat", "shown"), [("mean", lambda x: x), ("t", lambda x: x), ("pfwe", lambda x: 1 - x)])
def test_a_map_is_that_of_the_group(source: Source, study: TinyStudy, stat: str, shown: Any) -> None:
    body, _ = run_command(source, "brainmap", {"network": "net", "layer": "conv3", "stat": stat})
    assert isinstance(body, bytes)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(body))
    wanted = nib.load(study.out / f"group/task-tiny_{SPACE}_desc-nettrainedconv3_stat-{stat}_statmap.nii.gz")
    assert np.array_equal(image.affine, wanted.affine)
    assert np.allclose(image.get_fdata(), np.nan_to_num(shown(np.asarray(wanted.dataobj))), atol=1e-6)


def test_a_template_lies_behind_maps_in_its_space(source: Source) -> None:
    assert ask(source, "brain")["background"] == "template"
    body, _ = run_command(source, "background", {})
    assert isinstance(body, bytes)
    assert nib.Nifti1Image.from_bytes(gzip.decompress(body)).shape == (99, 117, 95)


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("voxel", {"mm": "1,2"}, "expected x,y,z in mm"),
        ("voxel", {"mm": "1,2,nan"}, "expected x,y,z in mm"),
        ("region", {"region": "bell"}, "did you mean 'belt'?"),
        ("rdms", {"region": "belt", "network": "nat", "layer": "conv1"}, "did you mean 'net'?"),
        ("brainmap", {"network": "net", "layer": "conv3", "stat": "best"}, "map: expected one of"),
        ("brainmap", {"network": "net", "layer": "../x", "stat": "t"}, "layer: expected one of"),
    ],
)
def test_a_mistake_about_the_brain_is_one_line(source: Source, command: str, given: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as error:
        run_command(source, command, given)
    assert said in str(error.value)


def test_controls_are_networks_to_look_at_and_the_studys_activations_are_used(source: Source, study: TinyStudy) -> None:
    assert ask(source, "describe")["networks"] == ["net", "net-untrained"]
    sound = {"sound": "cat_anna"}
    trained, untrained = (ask(source, "scores", network=name, **sound)["logits"] for name in ("net", "net-untrained"))
    assert not np.allclose(trained, untrained)
    from brainmap.features.activations.stored import open_activations

    for name in ("net", "net-untrained"):
        store = study.out / "features" / f"network-{name.replace('-', '')}_features.zarr"
        far = 1 - np.corrcoef(np.asarray(open_activations(store)["conv3"][:]))[0]
        found = ask(source, "neighbors", network=name, layer="conv3", **sound)["layer"]
        assert found[0]["distance"] == pytest.approx(np.sort(far)[1], abs=1e-5)


def test_what_the_study_maximized_is_played(source: Source) -> None:
    found = ask(source, "favorites", network="net", layer="output", unit="0")
    assert found["pattern"] == "cat"
    about = ask(source, "pattern", network="net", layer="output", unit="0")
    assert (about["stored"], about["label"]) == (True, "cat")
    sound, kind = run_command(source, "patternsound", {"network": "net", "layer": "output", "unit": "0"})
    assert (sound[:4], kind) == (b"RIFF", "audio/wav")


def test_nothing_is_written_to_the_results(source: Source, study: TinyStudy) -> None:
    before = study.files()
    for command, given in (
        ("describe", {}),
        ("brain", {}),
        ("voxel", {"mm": MM}),
        ("region", {"region": "belt"}),
        ("neighbors", {"network": "net", "sound": "cat_anna", "layer": "conv3"}),
        ("map", {"network": "net", "sound": "cat_anna", "method": "grad-cam", "classes": "cat"}),
    ):
        run_command(source, command, given)
    assert study.files() == before


def test_a_study_without_a_searchlight_has_regions_only(study: TinyStudy, tmp_path: Path) -> None:
    shutil.copytree(study.folder, tmp_path / "study", copy_function=shutil.copy2)
    other = TinyStudy(tmp_path / "study").edit(("[searchlight]\nradius_mm = 6.0\n", ""))
    source = open_source(study=str(other.file))
    found = ask(source, "brain")
    assert "no [searchlight]" in found["why"]
    assert found["maps"] == []
    assert len(ask(source, "region", region="belt")["rows"]) == 7
    with pytest.raises(InputError, match="none to see"):
        run_command(source, "voxel", {"mm": MM})


def test_a_network_and_sounds_have_no_brain(opening: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="explore the results of a study"):
        run_command(open_source(**opening), "brain", {})
