"""docs/guides/betas.md, followed to the letter by somebody who has patterns in NIfTI and in a matrix."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import scipy.io

from brainmap import data
from tests.docs.blocks import ROOT, join_lines, list_blocks
from tests.docs.shell import Shell

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:conditions. .* has no column 'run'")]
GUIDE = ROOT / "docs" / "guides" / "betas.md"
STUDY = """schema = 1
[study]
name = "words"
out = "derivatives/brainmap"
[stimuli]
table = "stimuli.tsv"
[[network]]
name = "ch32"
checkpoint = "ch32.safetensors"
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What the guide's user has: 24 sounds, three participants of four runs, two regions, tables, and a matrix."""
    rng, affine = np.random.default_rng(0), np.diag([4.0, 4, 4, 1])
    words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t").iloc[::8].reset_index(drop=True)
    words["path"] = [str(data.folder() / "words" / name) for name in words["path"]]
    words[["stimulus_id", "condition", "path"]].to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    shutil.copy(data.folder() / "networks" / "ch32.safetensors", tmp_path)
    labels = np.zeros((8, 8, 8), np.int16)
    labels[1:4, 1:4, 1:4], labels[4:7, 4:7, 4:7] = 1, 2
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "rois.nii.gz")
    pd.DataFrame({"index": [1, 2], "name": ["A1", "belt"]}).to_csv(tmp_path / "rois.tsv", sep="\t", index=False)
    names = pd.DataFrame({"volume": range(len(words)), "stimulus_id": words["stimulus_id"]})
    names.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    mask = np.ones((8, 8, 8), np.uint8)
    mask[7], mask[:, 7, 5:] = 0, 0  # not the same from front to back as from left to right
    for person in ("01", "02", "03"):
        folder = tmp_path / f"sub-{person}"
        folder.mkdir()
        nib.save(nib.Nifti1Image(mask, affine), folder / "mask.nii.gz")
        truth = rng.normal(size=(8, 8, 8, len(words)))
        for run in (1, 2, 3, 4):
            image = nib.Nifti1Image((truth + rng.normal(size=truth.shape)).astype(np.float32), affine)
            nib.save(image, folder / f"betas_run-{run}.nii.gz")
        write_first_level(folder / "first_level", list(words["stimulus_id"]), affine)
    scipy.io.savemat(tmp_path / "responses.mat", {"betas": rng.normal(size=(len(words), 60, 4))})
    words[["stimulus_id"]].to_csv(tmp_path / "items.tsv", sep="\t", index=False)
    pd.DataFrame({"roi": ["A1"] * 30 + ["belt"] * 30}).to_csv(tmp_path / "voxels.tsv", sep="\t", index=False)
    return tmp_path


def write_first_level(folder: Path, names: list[str], affine: np.ndarray) -> None:
    """The betas of the folder above as SPM writes them, with the motion and the constant of each session."""
    folder.mkdir()
    images = [nib.load(folder.parent / f"betas_run-{run}.nii.gz") for run in (1, 2, 3, 4)]
    betas = [
        (f"Sn({k}) {name}*bf(1)", values)
        for k, image in enumerate(images, start=1)
        for name, values in zip(names, np.moveaxis(np.asarray(image.dataobj), 3, 0), strict=True)
    ]
    betas += [(f"Sn({k}) {name}", np.zeros((8, 8, 8), "f4")) for k in (1, 2, 3, 4) for name in ("R1", "constant")]
    for k, (name, values) in enumerate(betas, start=1):
        made = nib.Nifti1Image(values, affine)
        made.header["descrip"] = f"spm_spm:beta ({k:04d}) - {name}".encode()
        nib.save(made, folder / f"beta_{k:04d}.nii")
    shutil.copy(folder.parent / "mask.nii.gz", folder)


def test_betas_of_ones_own_go_through_the_guide_s_study_file_code_and_commands(
    files: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    brain, of_spm = list_blocks(GUIDE, "toml")
    (files / "study.toml").write_text(STUDY + brain + '[rsa]\ndissimilarity = "crossnobis"\n')
    lines = [line for block in list_blocks(GUIDE, "console") for line in join_lines(block)]
    assert len(lines) == 2
    (files / "spm.toml").write_text(STUDY + of_spm + '[rsa]\ndissimilarity = "crossnobis"\n')
    assert shell.run(["brainmap check study.toml", "brainmap check spm.toml", *lines], files) == []
    code = list_blocks(GUIDE, "python")[0]
    monkeypatch.chdir(files)
    names: dict[str, Any] = {}
    exec(compile(code, GUIDE.name, "exec"), names)
    assert list(names["rdms"].rdm_descriptors["roi"]) == ["A1", "belt"]
    reliable = names["rdms"].dissimilarities
    assert (reliable > 0).mean() > 0.99  # patterns that repeat over runs are apart


def test_a_matrix_from_matlab_lands_in_the_voxels_of_its_mask(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB's `find` counts down the first axis, as a loop over the other axes does here."""
    mask = np.asarray(nib.load(files / "sub-01" / "mask.nii.gz").dataobj) > 0
    images = [np.asarray(nib.load(files / "sub-01" / f"betas_run-{run}.nii.gz").dataobj) for run in (1, 2, 3, 4)]
    places = [(x, y, z) for z in range(8) for y in range(8) for x in range(8) if mask[x, y, z]]
    numbers = [1 + x + 8 * y + 64 * z for x, y, z in places]
    betas = np.stack([[one[place] for place in places] for one in images]).transpose(2, 1, 0)
    saved = {"betas": betas, "voxels": np.array(numbers, float)[:, None]}
    scipy.io.savemat(files / "sub-01" / "responses.mat", saved)
    code = list_blocks(GUIDE, "python")[1]
    monkeypatch.chdir(files)
    exec(compile(code, GUIDE.name, "exec"), {})
    for run, image in enumerate(images, start=1):
        found = nib.load(files / "sub-01" / f"responses_run-{run}.nii.gz")
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.where(mask[..., None], image, np.nan))
        np.testing.assert_array_equal(found.affine, nib.load(files / "sub-01" / "mask.nii.gz").affine)
    with pytest.raises(AssertionError, match="not the voxels of this mask"):
        exec(compile(code.replace(', order="F"', ""), GUIDE.name, "exec"), {})
    by_coordinates = code.replace(
        'np.unravel_index(saved["voxels"].ravel().astype(int) - 1, mask.shape, order="F")',
        'tuple(saved["XYZ"].astype(int) - 1)',
    )
    scipy.io.savemat(files / "sub-01" / "responses.mat", {**saved, "XYZ": np.array(places, float).T + 1})
    exec(compile(by_coordinates, GUIDE.name, "exec"), {})
    again = np.asarray(nib.load(files / "sub-01" / "responses_run-4.nii.gz").dataobj)
    np.testing.assert_array_equal(again, np.where(mask[..., None], images[3], np.nan))
