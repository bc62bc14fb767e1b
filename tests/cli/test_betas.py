"""`brainmap rsa betas`: the Haxby data come out as they should, as NIfTI and as BRIK; mistakes are one line."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa

DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
needs_haxby = pytest.mark.skipif(not (DATA / "haxby").is_dir(), reason=f"real data not found at {DATA}")
T_R, RUNS = 2.5, 12


@pytest.fixture(scope="session")
def haxby(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve runs of Haxby 2001, with blocks as events, one event a category and run."""
    folder = tmp_path_factory.mktemp("haxby")
    bold: Any = nib.load(DATA / "haxby" / "bold.nii.gz")
    shown = pd.read_csv(DATA / "haxby" / "attributes_literal.txt", sep=" ", names=["category", "run"])
    for run in range(RUNS):
        at = np.flatnonzero(shown["run"] == run)
        category = shown["category"].to_numpy()[at]
        begin = np.flatnonzero(np.r_[True, category[1:] != category[:-1]])
        length = np.diff(np.r_[begin, len(category)])
        events = pd.DataFrame({"onset": T_R * begin, "duration": T_R * length, "trial_type": category[begin]})
        stem = folder / f"sub-01_task-objects_run-{run + 1}"
        events.to_csv(f"{stem}_events.tsv", sep="\t", index=False)
        image = nib.Nifti1Image(np.asarray(bold.dataobj)[..., at], bold.affine, bold.header)
        rsa.save_image(image, f"{stem}_bold.nii.gz")
    shutil.copy(DATA / "haxby" / "mask.nii.gz", folder / "mask.nii.gz")
    return folder


def words(folder: Path, out: Path) -> list[str]:
    stems = [f"{folder}/sub-01_task-objects_run-{run}" for run in range(1, RUNS + 1)]
    events = [word for stem in stems for word in ("--events", f"{stem}_events.tsv")]
    given = [*(f"{stem}_bold.nii.gz" for stem in stems), *events, "--leave-out", "rest"]
    return ["rsa", "betas", *given, "--mask", f"{folder}/mask.nii.gz", "--out", f"{out}/sub-01_task-objects"]


def identification(patterns: np.ndarray, half: tuple[int, ...]) -> float:
    """How often a category's pattern in one half is nearer to itself in the other than to another category."""
    rest = [run for run in range(len(patterns)) if run not in half]
    one, other = patterns[list(half)].mean(axis=0), patterns[rest].mean(axis=0)
    n = len(one)
    r = np.corrcoef(one - one.mean(axis=0), other - other.mean(axis=0))[:n, n:]
    return float(np.mean([r[i, i] > r[i, j] for i in range(n) for j in range(n) if i != j]))


@needs_haxby
@pytest.mark.slow
def test_haxby_s_categories_are_told_apart_with_default_settings(
    haxby: Path, tmp_path: Path, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    more = ("--residuals", "--items", "condition", "--figure", tmp_path / "design.png")
    code, out, err = lines_of(*words(haxby, tmp_path), *more)
    assert code == 0, err
    assert out[0] == "96 betas in 12 runs, condition, signal units"
    assert any(line.startswith("drifts: high-pass at 302 s") and "128 s would take" in line for line in err)
    assert any("drift terms take more than 10%" in line for line in err)
    stem = f"{tmp_path}/sub-01_task-objects_run-"
    files = [f"{stem}{run}_desc-condition_betas.nii.gz" for run in range(1, RUNS + 1)]
    data = rsa.load_patterns(files, mask=haxby / "mask.nii.gz")
    inside = rsa.load_image(haxby / "mask.nii.gz").get_fdata() > 0
    residuals = [rsa.load_image(f.replace("betas", "residuals")).get_fdata()[inside].T for f in files]
    assert data.measurements.shape == (96, 530)

    patterns = data.measurements.reshape(RUNS, 8, -1)  # load_patterns keeps the volumes' order, alike in all runs
    normalized = patterns / np.sqrt(np.mean([(r**2).mean(axis=0) for r in residuals], axis=0))
    assert identification(normalized, tuple(range(0, RUNS, 2))) >= 0.92
    splits = [half for half in itertools.combinations(range(RUNS), RUNS // 2) if 0 in half][::11]  # 42 of 462
    assert np.mean([identification(normalized, half) for half in splits]) >= 0.92
    whitened = patterns @ np.linalg.cholesky(rsa.noise_precision(data, source=residuals))
    assert identification(whitened, tuple(range(0, RUNS, 2))) >= 0.95

    given = ("--betas", *files, "--mask", haxby / "mask.nii.gz", "--out", tmp_path / "rdm.h5")
    assert lines_of("rsa", "rdm", *given)[0] == 0
    rdms = rsa.load_rdms(tmp_path / "rdm.h5")
    names, square = [str(n) for n in rdms.pattern_descriptors["condition"]], rdms.get_matrices()[0]
    pairs = {frozenset((a, b)): square[i, j] for (i, a), (j, b) in itertools.combinations(enumerate(names), 2)}
    assert min(pairs.values()) > 0
    assert names[int(square.sum(axis=0).argmax())] == "house"
    assert min(pairs, key=lambda pair: pairs[pair]) == {"bottle", "shoe"}
    assert max(pairs, key=lambda pair: pairs[pair]) & {"house"}

    # The residuals that were written are a source of noise, with the degrees of freedom their sidecars say.
    left = [word for f in files for word in ("--residuals", f.replace("betas", "residuals"))]
    given = ("--betas", *files, "--mask", haxby / "mask.nii.gz", "--out", tmp_path / "left.h5", "--noise", "residuals")
    assert lines_of("rsa", "rdm", *given, *left)[0] == 0
    dof = sum(
        json.loads(Path(f.replace("betas.nii.gz", "residuals.json")).read_text())["ResidualDegreesOfFreedom"]
        for f in files
    )
    wanted = rsa.compute_rdms(
        data,
        dissimilarity="crossnobis",
        items="condition",
        noise_precision=rsa.noise_precision(data, source=residuals, dof=dof),
    )
    found = rsa.load_rdms(tmp_path / "left.h5")
    np.testing.assert_allclose(found.dissimilarities, wanted.dissimilarities, rtol=1e-6)

    design = rsa.load_rdms(tmp_path / "sub-01_task-objects_desc-condition_designrdms.h5")
    assert list(design.rdm_descriptors["name"]) == ["noise-only", "elapsed-time"]
    assert design.descriptors["level"] == "condition"
    assert (tmp_path / "design.png").stat().st_size > 10_000

    # The same betas as BRIK give the same RDM, bit for bit.
    (tmp_path / "afni").mkdir()
    assert lines_of(*words(haxby, tmp_path / "afni"), "--format", "afni")[0] == 0
    briks = [f.replace(str(tmp_path), f"{tmp_path}/afni").replace(".nii.gz", "+orig.HEAD") for f in files]
    again = rsa.load_patterns(briks, mask=haxby / "mask.nii.gz")
    assert rsa.sub_brick_labels(briks[0])[:2] == ["bottle#0_Coef", "cat#0_Coef"]
    np.testing.assert_array_equal(again.measurements, data.measurements)
    first, second = (
        rsa.compute_rdms(d, dissimilarity="crossnobis", noise_precision=rsa.noise_precision(d)) for d in (data, again)
    )
    np.testing.assert_array_equal(first.dissimilarities, second.dissimilarities)
    if shutil.which("3dinfo"):
        said = subprocess.run(["3dinfo", "-label", briks[0]], capture_output=True, text=True, check=True).stdout
        assert said.startswith("bottle#0_Coef|cat#0_Coef")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two short runs of noise with stim_times and events, and motion of both runs in one file."""
    rng = np.random.default_rng(0)
    for run in (1, 2):
        image = nib.Nifti1Image((1000 + rng.normal(size=(3, 3, 2, 60))).astype("f4"), np.diag([3.0, 3, 3, 1]))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((3, 3, 3, 2.0))
        rsa.save_image(image, tmp_path / f"r{run}+orig.HEAD")
    for k, name in enumerate(("cat", "dog", "yes")):
        rows = [" ".join(f"{8 * (3 * i + k) + 4 + run:g}:2" for i in range(4)) for run in (0, 1)]
        (tmp_path / f"{name}.1D").write_text("\n".join(rows) + "\n")
    np.savetxt(tmp_path / "dfile_rall.1D", rng.normal(size=(120, 6)))
    return tmp_path


def afni_words(folder: Path, *more: str) -> list[str]:
    events = [w for name in ("cat", "dog", "yes") for w in ("--events", f"{name}={folder}/{name}.1D")]
    return ["rsa", "betas", f"{folder}/r1+orig", f"{folder}/r2+orig", *events, "--out", f"{folder}/out", *more]


def test_afni_s_files_become_single_trial_betas_that_are_read_back(
    small: Path, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    more = ("--confounds", f"{small}/dfile_rall.1D", "--model", "lss", "--polort", "A", "--format", "afni", "--json")
    code, out, err = lines_of(*afni_words(small, *more))
    assert code == 0, err
    said = json.loads("\n".join(out))
    assert said["betas"] == 24
    assert said["labels"][:3] == ["cat#0", "dog#0", "yes#0"]
    data = rsa.load_patterns(
        [f"{small}/out_run-{r}_desc-lss_betas+orig" for r in (1, 2)],
        mask=nib.Nifti1Image(np.ones((3, 3, 2), "f4"), np.diag([3.0, 3, 3, 1])),
    )
    assert set(data.obs_descriptors["condition"]) == {"cat", "dog", "yes"}
    assert sorted(set(data.obs_descriptors["stimulus_id"]))[:2] == ["cat#0", "cat#1"]
    design = pd.read_csv(small / "out_run-1_desc-lss_design.tsv", sep="\t")
    assert [c for c in design if c.startswith("dfile_rall")] == [f"dfile_rall[{k}]" for k in range(6)]
    table = pd.read_csv(small / "out_desc-lss_labels.tsv", sep="\t")
    assert table["run"].tolist() == [1] * 12 + [2] * 12
    sidecar = json.loads((small / "out_run-2_desc-lss_betas.json").read_text())
    assert sidecar["Model"] == "lss"
    assert any(name.endswith("cat.1D") for name in sidecar["InputsSHA256"])
    assert sidecar["NoiseModel"] == said["noise"] == "arma11"
    stated = [[run["a"], run["b"]] for run in sidecar["NoiseParameters"]]
    np.testing.assert_allclose(stated, said["parameters"], atol=1e-4)
    assert said["notes"][-2:] == sidecar["Notes"][-2:]
    assert said["notes"][-1].startswith("noise found: ARMA(1,1), a ")


@pytest.mark.parametrize("ending", [".nii.gz", "+orig.HEAD"])
def test_the_mask_of_voxels_with_betas_in_every_run_is_written_and_named_last(
    small: Path, ending: str, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    """One voxel is constant in one of the runs."""
    run = rsa.load_image(small / "r2+orig")
    values = np.asarray(run.dataobj).copy()
    values[1, 2, 0] = 5.0
    rsa.save_image(nib.Nifti1Image(values, run.affine, run.header), small / "r2+orig.HEAD", overwrite=True)
    whole = nib.Nifti1Image(np.ones((3, 3, 2), "f4"), np.diag([3.0, 3, 3, 1]))
    rsa.save_image(whole, small / "whole.nii.gz")
    more = ("--mask", small / "whole.nii.gz", "--format", "nifti" if ending == ".nii.gz" else "afni")
    code, out, err = lines_of(*afni_words(small, *map(str, more)))
    assert code == 0, err
    assert any(line.startswith("noise found: AR(1), a ") for line in err)
    mask = f"{small}/out_desc-condition_mask{ending}"
    assert out[-1] == f"For commands that read these betas, give --mask {mask}"
    wanted = np.ones((3, 3, 2))
    wanted[1, 2, 0] = 0
    np.testing.assert_array_equal(rsa.load_image(mask).get_fdata(), wanted)
    betas = [f"{small}/out_run-{k}_desc-condition_betas{ending}" for k in (1, 2)]
    asked = ("rsa", "rdm", *(word for name in betas for word in ("--betas", name)), "--mask", mask, "--noise", "none")
    code, _, err = lines_of(*asked, "--out", f"{small}/rdm.h5")
    assert code == 0, err
    assert rsa.load_rdms(small / "rdm.h5").n_cond == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--model", "lsz"), "did you mean"),
        (("--high-pass", "fast"), "--high-pass: expected seconds, 'design' or 'none', got 'fast'"),
        (("--polort", "B"), "--polort: expected a degree, or A, got 'B'"),
        (("--events", "events.tsv"), "expected tables or name=file, got both"),
        (("--events", "cat=x.1D"), "expected each name once"),
        (("--tr", "2000"), "seconds, got 2000"),
        (("--format", "nii"), "format: expected one of"),
    ],
)
def test_mistakes_are_one_line(
    small: Path, more: tuple[str, ...], said: str, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    code, _, err = lines_of(*afni_words(small, *more))
    assert code == 2
    assert said in err[-1]
    assert err[-1].startswith("brainmap: ")


def test_betas_make_a_folder_of_bids_derivatives(
    small: Path, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    for _ in range(2):  # the second time the description is there, and stays
        words = afni_words(small, "--overwrite")
        words[words.index("--out") + 1] = f"{small}/derivatives/sub-01/func/sub-01_task-words"
        code, _, err = lines_of(*words)
        assert code == 0, err
    about = json.loads((small / "derivatives" / "dataset_description.json").read_text())
    assert (about["DatasetType"], about["GeneratedBy"][0]["Name"]) == ("derivative", "brainmap")
    assert (small / "derivatives/sub-01/func/sub-01_task-words_run-1_desc-condition_betas.nii.gz").exists()


def test_files_are_never_replaced_unasked(
    small: Path, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    assert lines_of(*afni_words(small))[0] == 0
    code, _, err = lines_of(*afni_words(small))
    assert (code, "exists" in err[-1]) == (2, True)
    assert lines_of(*afni_words(small, "--overwrite"))[0] == 0
