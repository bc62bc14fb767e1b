"""A study that begins with BOLD: an fMRIPrep-like folder, AFNI's stim_times, and what is wrong with them."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix
from rsatoolbox.rdm.rdms import RDMs
from scipy.stats import spearmanr

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.design_rdms import predict_design_rdms
from brainmap.rsa.glm.plan import RunSettings, plan_betas
from brainmap.rsa.rdm.alignment import align_vectors
from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study
from brainmap.study.stages.betas import read_noise
from brainmap.study.stages.content.designs import read_designs
from tests.conftest import RUNS, SHAPE, TinyStudy, affine, sound_ids

T_R, N = 2.0, 110
STUDY = """\
schema = 1

[study]
name = "tiny"
out = "out"
seed = 0

[stimuli]
table = "stimuli.tsv"

[[network]]
name = "net"
checkpoint = "net.safetensors"
layers = ["conv1", "conv3"]

[[brain]]
participants = ["01", "02"]
kind = "bold"
layout = "bids"
folder = "bids/derivatives/fmriprep"
space = "MNI152Lin"
rois = { image = "rois.nii.gz", table = "rois.tsv" }
glm = { strategy = "motion6", noise_model = "ols" }

[rsa]
dissimilarity = "crossnobis"
measure = "rho-a"
inference = { splits = 2 }
"""


def write_participant(folder: Path, label: str) -> None:
    """Raw events and derivatives of three runs, with the truth at half the noise."""
    rng = np.random.default_rng(int(label))
    raw, func = folder / "bids", folder / "bids" / "derivatives" / "fmriprep" / f"sub-{label}" / "func"
    (raw / f"sub-{label}" / "func").mkdir(parents=True)
    func.mkdir(parents=True)
    truth = np.random.default_rng(3).normal(size=(len(sound_ids()), *SHAPE))
    for run in RUNS:
        stem = f"sub-{label}_task-words_run-{run}"
        names = rng.permutation(np.repeat(sound_ids(), 2))
        onsets = 4.0 + 12.5 * np.arange(len(names))
        events = pd.DataFrame({"onset": onsets, "duration": 1.0, "trial_type": names})
        events.to_csv(raw / f"sub-{label}" / "func" / f"{stem}_events.tsv", sep="\t", index=False)
        x = make_first_level_design_matrix(np.arange(N) * T_R + 0.5, events, drift_model=None)[sound_ids()]
        motion = rng.normal(size=(N, 6)).cumsum(axis=0)
        values = np.tensordot(truth, x.to_numpy(), (0, 1)) + 0.05 * rng.normal(size=(*SHAPE, N)) + motion[:, 0]
        image = nib.Nifti1Image((500 + 10 * values).astype("f4"), affine())
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((3, 3, 3, T_R))
        stem = f"{stem}_space-MNI152Lin"
        rsa.save_image(image, func / f"{stem}_desc-preproc_bold.nii.gz", space="MNI")
        about = {"RepetitionTime": T_R, "StartTime": 0.5, "SliceTimingCorrected": True, "TaskName": "words"}
        (func / f"{stem}_desc-preproc_bold.json").write_text(json.dumps(about))
        mask = np.ones(SHAPE, np.uint8)
        mask[..., -1] = 0
        rsa.save_image(nib.Nifti1Image(mask, affine()), func / f"{stem}_desc-brain_mask.nii.gz", space="MNI")
        columns = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
        table = pd.DataFrame(motion, columns=columns).assign(framewise_displacement=0.1, csf=rng.normal(size=N))
        table.loc[0, "framewise_displacement"] = np.nan
        table.to_csv(
            func / f"sub-{label}_task-words_run-{run}_desc-confounds_timeseries.tsv",
            sep="\t",
            index=False,
            na_rep="n/a",
        )


@pytest.fixture(scope="session")
def bold_inputs(tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bold_study(tiny_inputs, tmp_path_factory.mktemp("bold") / "study")


def write_bold_study(inputs: TinyStudy, folder: Path) -> Path:
    """A study of two participants whose betas are fitted to BOLD, with the sounds and the network of the tiny one."""
    folder.mkdir()
    for name in ("stimuli.tsv", "net.safetensors", "rois.nii.gz", "rois.tsv"):
        shutil.copy(inputs.folder / name, folder)
    shutil.copytree(inputs.folder / "sounds", folder / "sounds")
    for label in ("01", "02"):
        write_participant(folder, label)
    for place in (folder / "bids", folder / "bids" / "derivatives" / "fmriprep"):
        kind = "raw" if place.name == "bids" else "derivative"
        about = {"Name": "tiny", "BIDSVersion": "1.10.0", "DatasetType": kind}
        (place / "dataset_description.json").write_text(json.dumps(about))
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture
def bold_study(bold_inputs: Path, tmp_path: Path) -> TinyStudy:
    shutil.copytree(bold_inputs, tmp_path / "study")
    return TinyStudy(tmp_path / "study")


def problems(study: TinyStudy) -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        return check_study(Context(load_study(study.file))).problems


def func(study: TinyStudy) -> Path:
    return study.folder / "bids" / "derivatives" / "fmriprep" / "sub-01" / "func"


def test_an_fmriprep_folder_becomes_betas_and_scores(bold_study: TinyStudy) -> None:
    for path in sorted((bold_study.folder / "bids").rglob("*_run-*")):
        path.rename(path.with_name(path.name.replace("_run-", "_run-0")))  # names, not numbers: run 01 is not run 1
    findings = check_study(Context(load_study(bold_study.file)))
    assert findings.problems == ()
    assert findings.table["patterns"].tolist() == [24, 24]
    assert any(note.startswith("participant 01: drifts: high-pass at") for note in findings.notes)
    assert any(note.startswith("participants 01, 02: timing: ") and "StartTime" in note for note in findings.notes)
    done = bold_study.run()
    assert {"sub-01_betas", "sub-02_betas", "sub-01_rois", "group_rois"} <= done

    written = sorted((bold_study.out / "sub-01" / "func").glob("*_betas.nii.gz"))
    assert [p.name for p in written] == [
        f"sub-01_task-tiny_space-MNI152Lin_run-0{run}_desc-condition_betas.nii.gz" for run in RUNS
    ]
    (labels,) = (bold_study.out / "sub-01" / "func").glob("*_labels.tsv")
    told = pd.read_csv(labels, sep="\t")
    assert told["condition"].tolist() == [name.split("_")[0] for name in told["stimulus_id"]]
    mask = func(bold_study) / "sub-01_task-words_run-01_space-MNI152Lin_desc-brain_mask.nii.gz"
    data = rsa.load_patterns([str(p) for p in written], mask=mask)
    truth = np.random.default_rng(3).normal(size=(len(sound_ids()), *SHAPE))[..., :-1].reshape(len(sound_ids()), -1)
    order = [sound_ids().index(str(name)) for name in data.obs_descriptors["stimulus_id"]]
    assert np.corrcoef(data.measurements.ravel(), truth[order].ravel())[0, 1] > 0.98
    about = json.loads(written[0].with_name(written[0].name.replace(".nii.gz", ".json")).read_text())
    assert any(name.endswith("run-01_events.tsv") for name in about["InputsSHA256"])
    assert rsa.image_info(written[0]).space.startswith("MNI")

    shown = read_designs(Context(load_study(bold_study.file)))
    assert shown is not None
    assert [(run.participant, run.run) for run in shown.runs] == [(who, f"0{k}") for who in ("01", "02") for k in RUNS]
    assert shown.table[["volumes", "events", "regressors", "confounds"]].to_numpy().tolist() == [[N, 16, 8, 6]] * 6
    assert (shown.table["inflation"] > 1).all()
    design = pd.read_csv(next((bold_study.out / "sub-02" / "func").glob("*run-03*_design.tsv")), sep="\t")
    assert shown.table["drifts"].iloc[5] == design.columns.str.startswith("drift_").sum() > 0
    assert shown.table["free"].iloc[5] == N - (design.shape[1] - 1)
    np.testing.assert_allclose(shown.runs[5].matrix.to_numpy(), design.drop(columns="frame_time"))
    events = shown.runs[5].events
    raw = pd.read_csv(bold_study.folder / "bids/sub-02/func/sub-02_task-words_run-03_events.tsv", sep="\t")
    assert events is not None
    assert events["name"].tolist() == raw["trial_type"].tolist()
    assert any("drifts: high-pass" in note and "(participants 0" in note for note in shown.notes)

    assert not {stage for stage in bold_study.run() if stage.startswith("sub-")}
    events = bold_study.folder / "bids" / "sub-01" / "func" / "sub-01_task-words_run-02_events.tsv"
    events.write_text(events.read_text().replace("\t1.0\t", "\t1.5\t"))
    again = bold_study.run()
    assert "sub-01_betas" in again
    assert "sub-01_rois" in again
    assert "sub-02_betas" not in again


def test_residuals_of_the_fit_give_the_noise(bold_study: TinyStudy) -> None:
    bold_study.edit(
        ('glm = { strategy = "motion6", noise_model = "ols" }', 'glm = { model = "lss" }\nnoise = "residuals"')
    )
    bold_study.run("01")
    left = sorted((bold_study.out / "sub-01" / "func").glob("*_desc-lss_residuals.nii.gz"))
    assert len(left) == len(RUNS)
    assert rsa.load_image(left[0]).shape == (*SHAPE, N)
    assert (bold_study.out / "sub-01" / "func" / "sub-01_task-tiny_space-MNI152Lin_desc-rois_scores.tsv").exists()


def test_stim_times_and_afni_s_names_are_taken_by_pattern(bold_study: TinyStudy) -> None:
    own = bold_study.folder / "afni"
    own.mkdir()
    for run in RUNS:
        name = f"sub-01_task-words_run-{run}_space-MNI152Lin_desc-preproc_bold.nii.gz"
        rsa.save_image(rsa.load_image(func(bold_study) / name), own / f"pb04.01.r0{run}+tlrc.HEAD", space="MNI")
    tables = [
        pd.read_csv(bold_study.folder / f"bids/sub-01/func/sub-01_task-words_run-{run}_events.tsv", sep="\t")
        for run in RUNS
    ]
    files = []
    for name in sound_ids():
        rows = [" ".join(f"{t:g}:1" for t in table["onset"][table["trial_type"] == name]) for table in tables]
        (own / f"{name}.1D").write_text("\n".join(rows) + "\n")
        files.append(f'"{name}" = "afni/{name}.1D"')
    shutil.copy(func(bold_study) / "sub-01_task-words_run-1_space-MNI152Lin_desc-brain_mask.nii.gz", own / "m.nii.gz")
    where = f"""files = "afni/pb04.{{participant}}.r{{run}}+tlrc.HEAD"
mask = "afni/m.nii.gz"
events = {{ {", ".join(files)} }}
"""
    bold_study.edit(
        ('participants = ["01", "02"]', 'participants = ["01"]'),
        ('layout = "bids"\nfolder = "bids/derivatives/fmriprep"\n', where),
        ('{ strategy = "motion6", noise_model = "ols" }', '{ polort = "A", slice_time_ref = 0.25, scale = "percent" }'),
        ('name = "tiny"', 'name = "tiny"\nmaps = "afni"'),
    )
    bold_study.run()
    written = sorted((bold_study.out / "sub-01" / "func").glob("*_betas+tlrc.HEAD"))
    assert len(written) == len(RUNS)
    sidecar = written[0].with_name(written[0].name.replace("+tlrc.HEAD", ".json"))
    assert json.loads(sidecar.read_text())["Scale"] == "percent"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"motion6"', '"motion7"'), "did you mean 'motion"),
        (('strategy = "motion6"', 'colum = "trial_type"'), "unknown key 'colum'"),
        (('noise_model = "ols"', 'nuisance = ["catt"]'), "got 'catt'"),
        (('noise_model = "ols"', 'column = "word"'), "expected a column 'word'"),
        (('noise_model = "ols"', "t_r = 200.0"), "seconds, got 200"),
        (('kind = "bold"', 'kind = "bold"\nlabels = "sub-brick"'), "labels: expected kind = 'betas'"),
        (('kind = "bold"', 'kind = "betas"'), "glm: expected kind = 'bold'"),
        (('layout = "bids"\nfolder', 'layout = "files"\nmask = "m"\nfiles'), "lacks the key 'events'"),
        (('noise_model = "ols"', 'leave_out = ["cat_anna"]'), "no pattern of 'cat_anna'"),
    ],
)
def test_mistakes_in_the_study_file_are_one_line(bold_study: TinyStudy, change: tuple[str, str], said: str) -> None:
    bold_study.edit(change)
    try:
        found: Any = problems(bold_study)
    except InputError as error:
        found = str(error).splitlines()
    assert any(said in line for line in found), found


def test_what_is_wrong_with_the_files_is_found_before_anything_is_computed(bold_study: TinyStudy) -> None:
    late = bold_study.folder / "bids" / "sub-01" / "func" / "sub-01_task-words_run-2_events.tsv"
    late.write_text(late.read_text() + "300.0\t1.0\tcat_anna\n")
    gone = bold_study.folder / "bids" / "sub-02" / "func" / "sub-02_task-words_run-3_events.tsv"
    gone.unlink()
    found = problems(bold_study)
    assert any(line.startswith("participant 01: events of run 2: 1 of 17 events begin after the end") for line in found)
    assert any(line.startswith("participant 02: no events belong to 'sub-02_task-words_run-3") for line in found)
    assert not bold_study.out.exists()


def test_an_event_that_is_no_stimulus_is_named_with_what_to_do(bold_study: TinyStudy) -> None:
    path = bold_study.folder / "bids" / "sub-01" / "func" / "sub-01_task-words_run-1_events.tsv"
    table = pd.read_csv(path, sep="\t")
    table["trial_type"] = table["trial_type"].str.split("_").str[0]
    table.loc[len(table)] = [50.0, 1.0, "button"]
    table.to_csv(path, sep="\t", index=False)
    for run in RUNS[1:]:
        table.to_csv(path.with_name(path.name.replace("run-1", f"run-{run}")), sep="\t", index=False)
    found = [line for line in problems(bold_study) if line.startswith("participant 01")]
    assert any("'button'" in line and "no condition" in line and "nuisance" in line for line in found), found


def events_of(study: TinyStudy, participant: str, run: str) -> Path:
    return study.folder / f"bids/sub-{participant}/func/sub-{participant}_task-words_run-{run}_events.tsv"


def press_button(study: TinyStudy, participant: str, run: str, name: str = "button") -> None:
    with events_of(study, participant, run).open("a") as file:
        file.write(f"50.0\t1.0\t{name}\n")


def test_events_of_no_interest_may_be_absent_for_some_participants_and_runs(bold_study: TinyStudy) -> None:
    press_button(bold_study, "01", "2")
    press_button(bold_study, "02", "1", "rest")
    aside = 'noise_model = "ols", nuisance = ["button"], leave_out = ["rest"]'
    bold_study.edit(('noise_model = "ols"', aside))
    findings = check_study(Context(load_study(bold_study.file)))
    assert findings.problems == ()
    absent = [note for note in findings.notes if "does not occur" in note]
    assert absent == [
        "participant 01: events: 'rest' (leave_out) does not occur",
        "participant 02: events: 'button' (nuisance) does not occur",
    ]
    (brain,) = re.findall(r"\[\[brain\]\].*?\n\n", bold_study.file.read_text(), flags=re.DOTALL)
    own = [brain.replace('"01", "02"', f'"{who}"') for who in ("01", "02")]
    bold_study.edit((brain, "".join(own)))  # what occurs in the other brain only is no mistake either
    assert check_study(Context(load_study(bold_study.file))).problems == ()
    bold_study.edit(("".join(own), brain.replace('["button"]', '["buton"]')))
    (line,) = (line for line in problems(bold_study) if "buton" in line)
    assert line.startswith("[brain] glm, nuisance: expected the name of an event of some participant")
    assert line.endswith("got 'buton'; did you mean 'button'?")


def test_an_event_that_is_no_sound_is_said_first_and_never_an_absent_condition(bold_study: TinyStudy) -> None:
    press_button(bold_study, "01", "2")
    press_button(bold_study, "02", "3", f"{sound_ids()[0]}h")
    first, second = problems(bold_study)
    assert first.startswith(
        "participant 01: events: 'button' (1 event in run 2) is no stimulus_id of the stimuli table;"
    )
    assert 'nuisance = ["button"]' in first
    assert f"did you mean {sound_ids()[0]!r}?" in second
    assert not any('missing="nan"' in line for line in (first, second))


def test_durations_that_the_events_lack_are_those_of_the_study_file(bold_study: TinyStudy) -> None:
    path = events_of(bold_study, "02", "1")
    path.write_text(path.read_text().replace("\t1.0\t", "\tn/a\t"))
    (line,) = problems(bold_study)
    assert "got 16 of 16 cells without a number" in line
    assert "glm = { duration = 1.5 }" in line
    bold_study.edit(('noise_model = "ols"', 'noise_model = "ols", duration = 1.0'))
    findings = check_study(Context(load_study(bold_study.file)))
    assert findings.problems == ()
    assert "participant 02: events: 16 of 48 durations are n/a and are taken as the given 1 s" in findings.notes


@pytest.mark.slow
def test_bold_knows_its_order_of_events(bold_study: TinyStudy) -> None:
    bold_study.edit(
        ("[rsa]\n", '[rsa]\ncontrol_for = ["noise-only", "elapsed-time"]\n'),
        ('measure = "rho-a"', 'measure = "pearson"'),
    )
    assert check_study(Context(load_study(bold_study.file))).problems == ()
    bold_study.run()
    models = rsa.load_rdms(bold_study.out / "rdms" / "network-net_rdms.h5")
    brains = rsa.stack_rdms([rsa.load_rdms(p) for p in sorted(bold_study.out.glob("sub-*/**/*desc-rois_rdms.h5"))])
    designs = [rsa.load_rdms(p) for p in sorted(bold_study.out.glob("sub-*/**/*designrdms.h5"))]
    assert len(designs) == 2
    own = RDMs(
        np.concatenate([align_vectors(one, brains) for one in designs]),
        rdm_descriptors={"participant": ["01", "01", "02", "02"]},
        pattern_descriptors={"stimulus_id": brains.pattern_descriptors["stimulus_id"]},
    )
    expected = rsa.compare_rdms_partial(models, brains, own, measure="pearson")
    table = pd.read_csv(bold_study.out / "group" / "scores.tsv", sep="\t")
    np.testing.assert_allclose(table["score"], expected.ravel())
    bounds = pd.read_csv(bold_study.out / "group" / "ceilings.tsv", sep="\t")
    np.testing.assert_allclose(bounds["lower"], rsa.partial_ceilings(brains, own, measure="pearson")["lower"])

    # The page's methods text says the noise that the sidecars of the betas say.
    context = Context(load_study(bold_study.file))
    sidecars = [json.loads(p.read_text()) for p in bold_study.out.glob("sub-*/**/*run-*_betas.json")]
    a = [run["a"] for one in sidecars for run in one["NoiseParameters"]]
    assert len(a) == len(sidecars) * len(RUNS) > 0
    assert f"{min(a):.2f}" in read_noise(context, context.study.participants()).split(",")[0]


def in_table_order(study: TinyStudy) -> None:
    """Every run presents the stimuli as the table lists them: words lie next to each other in time."""
    for path in (study.folder / "bids").glob("sub-*/func/*_events.tsv"):
        table = pd.read_csv(path, sep="\t")
        table["trial_type"] = np.repeat(sound_ids(), 2)
        table.to_csv(path, sep="\t", index=False)


def order_notes(study: TinyStudy) -> list[str]:
    return [note for note in check_study(Context(load_study(study.file))).notes if "RDM of the design" in note]


def test_an_order_that_makes_the_geometry_of_a_model_is_said_before_anything_is_computed(
    bold_study: TinyStudy, brainmap_command: Any
) -> None:
    in_table_order(bold_study)
    answer = brainmap_command("check", bold_study.file)
    assert answer.code == 0
    (line,) = (line for line in answer.out.splitlines() if "the elapsed-time RDM of the design" in line)
    assert line.startswith("note: participants 01, 02, at worst: ")
    assert "with which stimuli are of one condition; " in line
    assert "[rsa] control_for = ['elapsed-time'] partials it out" in line
    time = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))[np.triu_indices(8, 1)]
    other_word = 1.0 - np.equal.outer(np.arange(8) // 2, np.arange(8) // 2)[np.triu_indices(8, 1)]
    rho = float(spearmanr(time, other_word).statistic)
    assert f"correlates {rho:.2f} (Spearman)" in line
    assert not bold_study.out.exists()

    bold_study.edit(("[rsa]\n", '[rsa]\ncontrol_for = ["noise-only", "elapsed-time"]\n'))
    assert order_notes(bold_study) == []


def test_layers_of_an_earlier_run_are_compared_with_the_order_too(bold_study: TinyStudy) -> None:
    in_table_order(bold_study)
    order = np.arange(8.0)
    models = rsa.compute_rdms(
        np.stack([order, order**2], axis=1),
        dissimilarity="euclidean",
        descriptors={"stimulus_id": sound_ids(), "network": "net", "layer": "conv1"},
    )
    (bold_study.out / "rdms").mkdir(parents=True)
    (bold_study.out / ".brainmap").mkdir()
    rsa.save_rdms(models, bold_study.out / "rdms" / "network-net_rdms.h5")
    assert any("elapsed-time" in note and "with net conv1" in note for note in order_notes(bold_study))


@pytest.mark.parametrize("noise", ["ols", "ar1"])
@pytest.mark.parametrize("items", ["stimulus", "condition"])
def test_a_design_says_its_rdms_before_its_fit(noise: Any, items: Any) -> None:
    rng = np.random.default_rng(0)
    names = [rng.permutation(np.repeat(["a", "b", "c", "d"], 3)) for _ in range(2)]
    events = [pd.DataFrame({"onset": 3 + 7.0 * np.arange(12), "duration": 1.0, "trial_type": run}) for run in names]
    bold = [nib.Nifti1Image(rng.normal(100, 1, (3, 3, 2, 50)).astype("f4"), np.eye(4)) for _ in range(2)]
    betas = rsa.fit_betas(bold, events, t_r=2.0, noise=noise)
    plan = plan_betas(bold, events, settings=betas.settings, runs=RunSettings(t_r=2.0))
    rho = float(np.mean(np.maximum(betas.autocorrelation, 0)))
    found = predict_design_rdms(plan, betas.settings, items=items, autocorrelation=rho)
    wanted = betas.design_rdms(items=items)
    np.testing.assert_allclose(found.dissimilarities, wanted.dissimilarities, rtol=0.05)
    np.testing.assert_array_equal(found.dissimilarities[1], wanted.dissimilarities[1])
