"""brainmap rsa encode-stories: the numbers of the library, a planted layer and delay, and mistakes told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import soundfile

from brainmap import rsa
from brainmap.rsa.encoding.scans import delay_features, sample_scans, zscore

T_R, SCANS, RATE = 2.0, 60, 4_000
STORIES = ("alice", "fox_2", "wolf")
pytestmark = pytest.mark.filterwarnings("ignore:encoding. (there are no repetitions|the (largest|smallest) alpha)")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stories of 2 minutes, a network of two layers, two runs a story; region A hears conv "0" 4 s before."""
    import torch
    from torch import nn

    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.activations.stored import open_activations
    from brainmap.features.sounds.files import load_sounds

    folder = tmp_path_factory.mktemp("stories")
    rng = np.random.default_rng(0)
    for name in STORIES:
        loud = np.interp(np.arange(RATE * 120), np.arange(0, RATE * 121, RATE), rng.uniform(0.05, 1, 121))
        noise = np.convolve(rng.normal(size=RATE * 120), np.hanning(2 + int(rng.integers(3, 30))), "same")
        soundfile.write(folder / f"{name}.wav", (0.1 * loud * noise / noise.std()).astype("f4"), RATE)
    table = pd.DataFrame({"stimulus_id": STORIES, "condition": STORIES, "path": [f"{k}.wav" for k in STORIES]})
    table.to_csv(folder / "stories.tsv", sep="\t", index=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv1d(1, 4, 9, stride=4), nn.ReLU(), nn.Conv1d(4, 4, 9, stride=8), nn.ReLU())
    sounds = load_sounds(str(folder / "stories.tsv"), rate=RATE, seconds=1.0, level="none")
    extract_activations(
        net, sounds, layers=["0", "2"], window=1.0, hop=0.5, store=folder / "net.zarr", network="net"
    ).close()
    acts = open_activations(folder / "net.zarr")
    weights = rng.normal(size=(4, 12))
    for name in STORIES:
        rows = (acts.table["sound"] == name).to_numpy()
        ends = (acts.table["onset"] + acts.table["duration"]).to_numpy()[rows]
        x = np.zeros((SCANS, 4))
        x[1:] = zscore(sample_scans(acts["0"][:][rows], ends, T_R * np.arange(1, SCANS)))
        signal = zscore(delay_features(x, [2]) @ weights).T.reshape(3, 2, 2, SCANS)
        for run in (1, 2):
            scans = 1000 + 10 * (signal + rng.normal(size=signal.shape))
            scans[0, 0, 1] = 1000.0  # a constant voxel
            scans[2] = 1000 + rng.normal(size=scans[2].shape)  # region B hears nothing
            image = nib.Nifti1Image(scans.astype("f4"), np.eye(4))
            image.header.set_zooms((1, 1, 1, T_R))
            image.header.set_xyzt_units("mm", "sec")
            nib.save(image, folder / f"{name}_run-{run}_bold.nii.gz")
    inside = np.ones((3, 2, 2), "f4")
    inside[0, 0, 0] = 0
    nib.save(nib.Nifti1Image(inside, np.eye(4)), folder / "mask.nii.gz")
    regions = np.zeros((3, 2, 2), "i2")
    regions[1], regions[2] = 1, 2
    nib.save(nib.Nifti1Image(regions, np.eye(4)), folder / "rois.nii.gz")
    (folder / "rois.tsv").write_text("index\tname\n1\tA\n2\tB\n")
    return folder


@pytest.fixture
def given(study: Path) -> tuple[Any, ...]:
    return (
        *("rsa", "encode-stories", "--activations", study / "net.zarr"),
        *("--bold", f"{study}/{{sound}}_run-{{run}}_bold.nii.gz", "--mask", study / "mask.nii.gz"),
        *("--rois", study / "rois.nii.gz", "--roi-table", study / "rois.tsv"),
    )


def test_scores_tests_and_maps_are_those_of_the_library(given, study, tmp_path, brainmap_command) -> None:
    answer = brainmap_command(
        *given, "--out", tmp_path / "s.tsv", "--counts", tmp_path / "c.tsv", "--maps", tmp_path / "r.nii.gz",
        *("--tests", tmp_path / "p.tsv", "--permutations", "19", "--correction", "max"),
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "180 scans of 2 s in 3 stories, 3 test folds of whole stories, 2 repetitions" in answer.out
    assert "voxels: 10 of 11 used; left out: 1 constant in a run, 0 with NaN" in answer.out
    from brainmap.features.activations.stored import open_activations

    mask = np.asarray(nib.load(study / "mask.nii.gz").dataobj) > 0
    bold = {
        name: [np.asarray(nib.load(study / f"{name}_run-{run}_bold.nii.gz").dataobj)[mask].T[:, 1:] for run in (1, 2)]
        for name in STORIES
    }
    fit = rsa.encode_stories(open_activations(study / "net.zarr"), bold, t_r=T_R)
    found = pd.read_csv(tmp_path / "s.tsv", sep="\t", dtype={"layer": str})
    for column in ("r", "r_corrected", "reliability", "alpha"):
        np.testing.assert_allclose(found[column], fit.scores[column], rtol=1e-6, err_msg=column)
    tested = pd.read_csv(tmp_path / "p.tsv", sep="\t", dtype={"layer": str})
    note = json.loads((tmp_path / "p.json").read_text())["Test"]
    assert "permutation of scans (blocks of 10 scans or more exchanged within each story)" in note
    np.testing.assert_allclose(tested["r"], fit.scores["r"], rtol=1e-6)
    heard = tested[(tested["layer"] == "0") & (tested["roi"] == "A")]
    assert (heard["p"] == 1 / 20).all()
    image = nib.load(tmp_path / "r.nii.gz")
    assert image.shape == (3, 2, 2, 2)
    mine = found[found["layer"] == "0"]
    np.testing.assert_allclose(np.asarray(image.dataobj)[..., 0][mask][1:], mine["r"], rtol=1e-5)


def test_best_layers_are_chosen_on_other_stories_and_written_as_a_table_and_an_image(given, tmp_path, brainmap_command):
    more = ("--best", tmp_path / "best.tsv", "--best-maps", tmp_path / "best.nii.gz", "--splits", 3)
    answer = brainmap_command(*given, *more)
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "best.tsv", sep="\t", dtype={"layer": str}, keep_default_na=False).set_index("roi")
    assert table.loc["A", "layer"] == "0"
    assert float(table.loc["A", "r"]) > 0.5 > abs(float(table.loc["B", "r"]))
    assert rsa.sub_brick_labels(tmp_path / "best.nii.gz") == ["layer", "position", "r"]
    best = np.asarray(nib.load(tmp_path / "best.nii.gz").dataobj)[1, :, :, 0]
    assert (best == 1).mean() >= 0.75


def test_the_planted_layer_and_delay_are_best_in_its_region_alone(given, tmp_path, brainmap_command) -> None:
    r = {}
    for delay in ("2", "4", "6"):
        answer = brainmap_command(*given, "--targets", "roi", "--delays", delay, "--high-pass", "0", "--json")
        assert answer.code == 0, answer.err
        r[delay] = {(row["layer"], row["roi"]): row["r"] for row in json.loads(answer.out)}
    assert max(r, key=lambda delay: r[delay]["0", "A"]) == "4"
    assert r["4"]["0", "A"] > max(0.6, r["4"]["2", "A"])
    assert abs(r["4"]["0", "B"]) < 0.35


def test_tables_of_scans_give_the_scores_of_images_and_confounds_are_removed(
    given, study, tmp_path, brainmap_command
) -> None:
    mask = np.asarray(nib.load(study / "mask.nii.gz").dataobj) > 0
    rng = np.random.default_rng(1)
    for name in STORIES:
        for run in (1, 2):
            x = np.asarray(nib.load(study / f"{name}_run-{run}_bold.nii.gz").dataobj)[mask].T
            motion = rng.normal(size=(SCANS, 2)).cumsum(axis=0)
            np.save(tmp_path / f"{name}_run-{run}.npy", x + 50 * motion @ rng.normal(size=(2, x.shape[1])))
            pd.DataFrame(motion, columns=["a", "b"]).to_csv(tmp_path / f"{name}_{run}.tsv", sep="\t", index=False)
    names = np.array(["", "A", "B"])[np.asarray(nib.load(study / "rois.nii.gz").dataobj)[mask].astype(int)]
    pd.DataFrame({"roi": names}).to_csv(tmp_path / "voxels.tsv", sep="\t", index=False)
    tables = (
        *("rsa", "encode-stories", "--activations", study / "net.zarr", "--rois", tmp_path / "voxels.tsv"),
        *("--bold", f"{tmp_path}/{{sound}}_run-{{run}}.npy", "--t-r", "2", "--targets", "roi", "--json"),
    )
    clean = json.loads(brainmap_command(*given, "--targets", "roi", "--json").out)
    dirty = json.loads(brainmap_command(*tables).out)
    answer = brainmap_command(*tables, "--confounds", f"{tmp_path}/{{sound}}_{{run}}.tsv")
    assert answer.code == 0, answer.err
    mended = json.loads(answer.out)
    assert mended[0]["r"] == pytest.approx(clean[0]["r"], abs=0.1)
    assert mended[0]["r"] > dirty[0]["r"] + 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("--t-r", "1.5"),
            "expected 80.0 scans of 1.5 s for 'alice' (120 s of sound), got 60 (90 s); no silence would make them fit; "
            "was the scan",
        ),
        (("--t-r", "1.5"), "or is the time between scans 2 s, at which they would fit?"),
        (("--silence", "10,8"), "(120 s of sound and 18 s of silence), got 60 (120 s)"),
        (("--delays", "3"), "delays: expected multiples of the time between scans (2 s), got '3 s'"),
        (("--delays", "2,130"), "--delays: expected 0 to 32 s, after which a hemodynamic response is over, got 130 s"),
        (("--trim", "30,25"), "expected 'alice' to be longer than the delays (4 scans), got 5 scans"),
        (("--block", "4"), "block: expected 20 s or more, got 4 s"),
        (("--bold", "bold.nii.gz"), "expected a name with {sound}"),
        (("--bold", "{subject}_{sound}.nii.gz"), "got {subject}"),
        (("--silence", "4"), "--silence: expected 2 numbers, as in 10,8, got '4'"),
        (("--layers", "9"), "--layers: layer of net: expected one of '0', '2'"),
        (("--folds", "4"), "expected 2 to 3 folds of whole stories, got 4"),
        (("--targets", "roi", "--best-maps", "x.nii.gz"), "--best-maps: expected --targets voxel, got regions"),
        (("--tests", "p.tsv", "--trim", "0,41"), "expected two blocks of 10 scans or more in each story"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    given, change, message, brainmap_command, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = given if change[0] != "--bold" else [one for k, one in enumerate(given) if k not in (4, 5)]
    answer = brainmap_command(*kept, *change)
    assert answer.code == 2
    assert message in answer.err


def test_a_story_without_bold_names_the_files_there(study, brainmap_command, tmp_path) -> None:
    for file in study.glob("*_run-1_bold.nii.gz"):
        if not file.name.startswith("wolf"):
            (tmp_path / file.name).symlink_to(file)
    answer = brainmap_command(
        *("rsa", "encode-stories", "--activations", study / "net.zarr", "--mask", study / "mask.nii.gz"),
        *("--bold", f"{tmp_path}/{{sound}}_run-{{run}}_bold.nii.gz"),
    )
    assert answer.code == 2
    assert "wolf_run-{run}_bold.nii.gz, got" in answer.err
    assert "alice_run-1_bold.nii.gz" in answer.err
