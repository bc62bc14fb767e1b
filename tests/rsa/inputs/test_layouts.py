"""Inputs by layout: what belongs together is found together, what is ambiguous or missing is refused by name."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.afni import read_design

SHAPE = (4, 5, 3)
AFFINE = np.diag([3.0, 3, 3, 1])
MNI = "MNI152NLin2009cAsym"
WORDS = ("cat", "dog", "tree", "yes")


def image(path: Path, n: int | None = None, *, seed: int = 0, t_r: float | None = None, **saved: Any) -> Path:
    """A small image on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = SHAPE if n is None else (*SHAPE, n)
    made = nib.Nifti1Image(np.random.default_rng(seed).normal(size=shape).astype("f4"), AFFINE)
    if t_r is not None:
        made.header.set_zooms((3.0, 3.0, 3.0, t_r))
        made.header.set_xyzt_units("mm", "sec")
        nib.save(made, path)
        return path
    return rsa.save_image(made, path, **saved)


def mask(path: Path, *, lacking: int = 0, **saved: Any) -> Path:
    """A mask without its first voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.ones(SHAPE, np.uint8)
    values.ravel()[:lacking] = 0
    return rsa.save_image(nib.Nifti1Image(values, AFFINE), path, **saved)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def fmriprep(tmp_path: Path) -> Path:
    """A raw data set with derivatives of fMRIPrep's kind: two participants, two sessions, two runs, two spaces."""
    folder = tmp_path / "derivatives" / "fmriprep"
    text(tmp_path / "task-words_bold.json", json.dumps({"RepetitionTime": 2.0, "SliceTiming": [0, 1]}))
    for participant in ("01", "02"):
        for session in ("a", "b"):
            for run in ("1", "10", "2"):
                name = f"sub-{participant}_ses-{session}_task-words_run-{run}"
                own = folder / f"sub-{participant}" / f"ses-{session}" / "func"
                for space in (MNI, "T1w"):
                    image(own / f"{name}_space-{space}_desc-preproc_bold.nii.gz", 5, t_r=2.0)
                    mask(own / f"{name}_space-{space}_desc-brain_mask.nii.gz", lacking=int(run))
                text(own / f"{name}_space-{MNI}_desc-preproc_bold.json", json.dumps({"StartTime": 0.95}))
                text(own / f"{name}_desc-confounds_timeseries.tsv", "trans_x\n0\n")
                raw = tmp_path / f"sub-{participant}" / f"ses-{session}" / "func"
                text(raw / f"{name}_events.tsv", "onset\tduration\ttrial_type\n0\t1\tcat\n")
    return folder


def test_an_fmriprep_folder_gives_each_run_what_belongs_to_it(fmriprep: Path) -> None:
    found = rsa.find_inputs(fmriprep, layout="bids", kind="bold", space=MNI, task="words")
    assert [(one.participant, one.session, one.run) for one in found] == [
        (p, s, r) for p in ("01", "02") for s in ("a", "b") for r in ("1", "2", "10")
    ]
    second = found[1]
    stem = "sub-01_ses-a_task-words_run-2"
    assert Path(second.image).name == f"{stem}_space-{MNI}_desc-preproc_bold.nii.gz"
    assert [Path(m).name for m in second.masks] == [f"{stem}_space-{MNI}_desc-brain_mask.nii.gz"]
    assert Path(str(second.confounds)).name == f"{stem}_desc-confounds_timeseries.tsv"
    assert Path(str(second.events)) == fmriprep.parents[1] / "sub-01" / "ses-a" / "func" / f"{stem}_events.tsv"
    assert (second.t_r, second.start_time, second.label) == (2.0, 0.95, "a-2")
    row = rsa.inputs_table(found).loc[1, ["volumes", "grid", "voxel_mm", "t_r", "space"]]
    assert row.tolist() == [5, "4 x 5 x 3", "3 x 3 x 3", 2, MNI]


def test_the_command_prints_a_row_a_run_and_what_they_share_once(fmriprep: Path, lines_of: Any) -> None:
    options = ("--space", MNI, "--participant", "sub-02", "--session", "b")
    code, out, _ = lines_of("rsa", "inputs", fmriprep, *options)
    assert (code, len(out)) == (0, 5)
    assert out[0].split()[:2] == ["participant", "run"]
    assert "session b" in out[4]  # what all rows share is said once
    assert "None" not in out[4]
    code, out, _ = lines_of("rsa", "inputs", fmriprep, *options, "--json")
    rows = json.loads("\n".join(out))
    assert [(row["participant"], row["run"]) for row in rows] == [("02", run) for run in ("1", "2", "10")]
    code, _, said = lines_of("rsa", "inputs", fmriprep)
    assert code == 2
    assert "images differ in" in said[0]


def test_native_means_the_space_of_the_scan_and_sessions_may_be_chosen(fmriprep: Path) -> None:
    found = rsa.find_inputs(fmriprep, layout="bids", kind="bold", space="native", participants=["02"], sessions=["b"])
    assert {(one.participant, one.session, one.space) for one in found} == {("02", "b", "T1w")}
    assert found[0].start_time is None  # said of the other space's images only
    assert found[0].t_r == 2.0  # inherited from the raw data set


def test_events_are_inherited_from_above_and_never_from_another_run(fmriprep: Path) -> None:
    raw = fmriprep.parents[1]
    own = raw / "sub-01" / "ses-a" / "func" / "sub-01_ses-a_task-words_run-1_events.tsv"
    own.unlink()
    text(raw / "task-words_events.tsv", "onset\tduration\ttrial_type\n0\t1\tdog\n")
    text(raw / "task-tones_events.tsv", "onset\tduration\ttrial_type\n0\t1\tdog\n")
    first, second, _ = rsa.find_inputs(fmriprep, layout="bids", kind="bold", space=MNI, participants=["01"])[:3]
    assert Path(str(first.events)) == raw / "task-words_events.tsv"
    assert Path(str(second.events)).name.endswith("run-2_events.tsv")


BAD_BIDS: list[tuple[dict[str, Any], str]] = [
    ({}, f"images differ in 'space-{MNI}', 'space-T1w'"),
    ({"space": "MNI152Nlin2009cAsym"}, f"did you mean '{MNI}'"),
    ({"space": MNI, "task": "tones"}, "expected a bold image with task-tones, got 'task-words'"),
    ({"space": MNI, "participants": ["03"]}, "participant 03: there is no folder"),
    ({"space": MNI, "sessions": ["c"]}, "expected an image of session 'c', got only 'a', 'b'"),
    ({"space": MNI, "kind": "betas"}, "no betas image"),
    ({"space": MNI, "layout": "bidss"}, "did you mean 'bids'"),
]


@pytest.mark.parametrize(("options", "message"), BAD_BIDS)
def test_what_a_bids_folder_does_not_have_is_said_with_what_it_has(
    fmriprep: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        rsa.find_inputs(fmriprep, **{"layout": "bids", "kind": "bold", **options})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_two_images_for_one_run_and_contradicting_times_are_refused(fmriprep: Path) -> None:
    own = fmriprep / "sub-01" / "ses-a" / "func"
    name = f"sub-01_ses-a_task-words_run-1_space-{MNI}_res-2_desc-preproc_bold.nii.gz"
    image(own / name, 5, t_r=2.0)
    with pytest.raises(InputError, match=r"images differ in 'no res', 'res-2'; say which you mean"):
        rsa.find_inputs(fmriprep, layout="bids", kind="bold", space=MNI)
    (found,) = rsa.find_inputs(
        fmriprep, layout="bids", kind="bold", space=MNI, entities={"res": "2"}, participants=["01"]
    )
    assert Path(found.image).name == name
    text(own / name.replace("nii.gz", "json"), json.dumps({"RepetitionTime": 1.5}))
    (found,) = rsa.find_inputs(
        fmriprep, layout="bids", kind="bold", space=MNI, entities={"res": "2"}, participants=["01"]
    )
    with pytest.raises(InputError, match=r"header says a TR of 2 s, its sidecar 1.5 s"):
        rsa.inputs_table([found])
    text(own / name.replace("nii.gz", "json"), json.dumps({"RepetitionTime": "fast"}))
    with pytest.raises(InputError, match=r"expected seconds for RepetitionTime, got 'fast'"):
        rsa.find_inputs(fmriprep, layout="bids", kind="bold", space=MNI, entities={"res": "2"}, participants=["01"])
    text(own / name.replace("nii.gz", "json"), "{")
    with pytest.raises(InputError, match="expected JSON"):
        rsa.find_inputs(fmriprep, layout="bids", kind="bold", space=MNI, entities={"res": "2"}, participants=["01"])


def test_betas_of_a_bids_folder_become_patterns_of_the_voxels_that_all_runs_have(tmp_path: Path) -> None:
    for run in (1, 2):
        name = tmp_path / "sub-01" / "func" / f"sub-01_task-words_run-{run}"
        image(Path(f"{name}_stat-effect_statmap.nii.gz"), 4, seed=run)
        image(Path(f"{name}_stat-t_statmap.nii.gz"), 4)
        text(Path(f"{name}_stat-effect_statmap.tsv"), "condition\n" + "\n".join(WORDS) + "\n")
        mask(Path(f"{name}_desc-brain_mask.nii.gz"), lacking=3 * run)
    data = rsa.load_inputs(rsa.find_inputs(tmp_path, layout="bids"))
    assert data.measurements.shape == (8, 60 - 6)
    assert data.obs_descriptors["run"].tolist() == ["1"] * 4 + ["2"] * 4
    assert data.obs_descriptors["condition"].tolist() == [*WORDS, *WORDS]
    expected = rsa.load_image(tmp_path / "sub-01" / "func" / "sub-01_task-words_run-2_stat-effect_statmap.nii.gz")
    np.testing.assert_allclose(data.measurements[5], np.asarray(expected.dataobj)[..., 1].ravel()[6:])


def test_an_image_a_contrast_and_run_makes_the_patterns_of_that_run(tmp_path: Path) -> None:
    seed = 0
    for run in ("1", "2"):
        for word in WORDS:
            name = f"sub-01_task-words_run-{run}_contrast-{word}_stat-effect_statmap.nii.gz"
            image(tmp_path / "sub-01" / "func" / name, seed=(seed := seed + 1))
            image(tmp_path / "sub-01" / "func" / name.replace("effect", "z"))
    found = rsa.find_inputs(tmp_path, layout="bids", mask=str(mask(tmp_path / "mask.nii")))
    assert len(found) == 8
    data = rsa.load_inputs(found)
    assert data.obs_descriptors["run"].tolist() == ["1"] * 4 + ["2"] * 4
    assert data.obs_descriptors["condition"].tolist() == [*WORDS, *WORDS]
    third = rsa.load_image(tmp_path / "sub-01/func/sub-01_task-words_run-1_contrast-tree_stat-effect_statmap.nii.gz")
    np.testing.assert_allclose(data.measurements[2], third.get_fdata().ravel())


# AFNI -----------------------------------------------------------------------------------------------------------


def design(
    path: Path, columns: dict[str, int], *, starts: tuple[int, ...] = (0, 20), rows: int = 40, censored: int = 0
) -> None:
    """An X.xmat.1D in which each stimulus column is 1 from its volume on, three volumes long."""
    names = ["Run#1Pol#0", "Run#2Pol#0", *columns, "roll#0"]
    matrix = np.zeros((rows, len(names)))
    matrix[:, 0], matrix[:, 1] = np.arange(rows) < starts[-1], np.arange(rows) >= starts[-1]
    for k, at in enumerate(columns.values(), start=2):
        matrix[at : at + 3, k] = 1
    words = list(dict.fromkeys(name.split("#")[0] for name in columns))
    stimuli, trials = " ; ".join(words), len(columns) > len(words)
    bases = "\n".join(
        f'#  BasisOption_{k:06d} = "-stim_times{"_IM" * trials}"\n#  BasisName_{k:06d} = "{word}"\n'
        f'#  BasisFormula_{k:06d} = "GAM"'
        for k, word in enumerate(words, start=1)
    )
    body = "\n".join(" ".join(f"{v:g}" for v in row) for row in matrix[censored:])
    text(
        path,
        f"""# <matrix
#  ni_type = "{len(names)}*double"
#  ni_dimen = "{rows - censored}"
#  ColumnLabels = "{" ; ".join(names)}"
#  ColumnGroups = "-1,-1,1,0"
#  RowTR = "2"
#  GoodList = "{censored}..{rows - 1}"
#  NRowFull = "{rows}"
#  RunStart = "{",".join(map(str, starts))}"
#  Nstim = "1"
#  StimLabels = "{stimuli}"
{bases}
#  GltLabels = "cat-dog"
#  CommandLine = "3dDeconvolve -input x+tlrc"
# >
{body}
# </matrix>
""",
    )


BUCKET = ["Full_Fstat"] + [f"{w}#0_{kind}" for w in (*WORDS, "cat-dog_GLT") for kind in ("Coef", "Tstat")]
STATS = ["Ftest(5,30)"] + [None, "Ttest(30)"] * 5


def results(
    folder: Path, who: str, *, name: str = "", view: str = "tlrc", labels: Any = None, stats: Any = None
) -> Path:
    """The bucket and the mask of a result folder of afni_proc."""
    labels, stats = labels or BUCKET, stats or STATS
    space = "MNI" if view == "tlrc" else "ORIG"
    image(folder / f"stats.{who}{name}+{view}.HEAD", len(labels), labels=labels, stats=stats, space=space)
    if not (folder / f"full_mask.{who}+{view}.HEAD").exists():
        mask(folder / f"full_mask.{who}+{view}.HEAD", space=space)
    return folder


def test_an_afni_proc_folder_gives_coefficients_and_never_statistics_or_contrasts(tmp_path: Path) -> None:
    for who in ("sub-01", "sub-02"):
        folder = results(tmp_path / who / f"{who}.results", who)
        design(folder / "X.xmat.1D", {f"{word}#0": 5 for word in WORDS})
    found = rsa.find_inputs(tmp_path, layout="afni_proc")
    assert [one.participant for one in found] == ["01", "02"]
    assert [row[0] for row in found[0].volumes] == [1, 3, 5, 7]
    assert [row[1] for row in found[0].volumes] == list(WORDS)
    data = rsa.load_inputs(found[:1])
    bucket = rsa.load_image(tmp_path / "sub-01" / "sub-01.results" / "stats.sub-01+tlrc").get_fdata()
    np.testing.assert_allclose(data.measurements, bucket.reshape(60, -1)[:, 1:8:2].T)
    assert set(data.obs_descriptors["run"]) == {"1"}


@pytest.mark.parametrize("censored", [0, 4])
def test_single_trials_get_their_run_from_the_design(tmp_path: Path, censored: int) -> None:
    at = [6, 12, 18, 25]  # the third begins in the first run; its response is cut at the run's end below
    labels, columns = ["Full_Fstat"], {}
    stats: list[str | None] = ["Ftest(3,30)"]
    for word in WORDS[:3]:
        for k, volume in enumerate(at):
            labels += [f"{word}#{k}_Coef", f"{word}#{k}_Tstat"]
            stats += [None, "Ttest(30)"]
            columns[f"{word}#{k}"] = volume - (1 if volume == 18 else 0)
    folder = results(tmp_path / "01.results", "01", labels=labels, stats=stats)
    design(folder / "X.xmat.1D", columns, censored=censored)
    (found,) = rsa.find_inputs(tmp_path, layout="afni_proc", participants=["01"])
    assert [row[3] for row in found.volumes] == ["1", "1", "1", "2"] * 3
    data = rsa.load_inputs([found], stimuli={word: f"{word}s" for word in WORDS[:3]})
    assert data.obs_descriptors["stimulus_id"].tolist() == [word for word in WORDS[:3] for _ in range(4)]
    rdms = rsa.compute_rdms(data, dissimilarity="crossnobis")  # trials of a stimulus are averaged within runs
    assert list(rdms.pattern_descriptors["stimulus_id"]) == sorted(WORDS[:3])
    precise = read_design(folder / "X.xmat.1D")
    assert precise.stimuli == WORDS[:3]
    assert len(precise.rows) == 40 - censored


def test_one_fit_a_run_is_taken_as_runs_and_reml_before_ols(tmp_path: Path) -> None:
    for run in (1, 2):
        folder = results(tmp_path, "01", name=f".r0{run}")
        results(tmp_path, "01", name=f".r0{run}_REML")
    with pytest.warns(BrainmapWarning, match="those of REML are used"):
        found = rsa.find_inputs(folder, layout="afni_proc")
    assert [(one.run, "REML" in one.image) for one in found] == [("01", True), ("02", True)]
    found = rsa.find_inputs(folder, layout="afni_proc", desc="OLS")
    assert not any("REML" in one.image for one in found)
    data = rsa.load_inputs(found)
    assert sorted(set(data.obs_descriptors["run"])) == ["01", "02"]


def test_without_a_design_the_bucket_itself_says_which_are_betas_of_conditions(tmp_path: Path) -> None:
    results(tmp_path, "01")
    made = rsa.load_image(tmp_path / "stats.01+tlrc")
    rsa.save_image(
        made,
        tmp_path / "stats.01+tlrc.HEAD",
        overwrite=True,
        history="3dDeconvolve -num_glt 1 -gltsym 'SYM: cat -dog' -glt_label 1 cat-dog_GLT -bucket stats",
    )
    data = rsa.load_inputs(rsa.find_inputs(tmp_path, layout="afni_proc"))
    assert data.obs_descriptors["condition"].tolist() == list(WORDS)


def test_statistics_are_left_out_by_their_code_whatever_they_are_called(tmp_path: Path) -> None:
    labels = [part for word in WORDS for part in (word, f"{word}_t")]
    image(tmp_path / "x.nii.gz", 8, labels=labels, stats=[None, "Ttest(20)"] * 4)
    data = rsa.load_patterns(tmp_path / "x.nii.gz", mask=mask(tmp_path / "mask.nii"))
    assert data.obs_descriptors["condition"].tolist() == list(WORDS)


def spoiled_design(folder: Path) -> None:
    design(folder / "X.xmat.1D", {"word#0": 5})
    path = folder / "X.xmat.1D"
    path.write_text(path.read_text().replace('GoodList = "0..39"', 'GoodList = "0..12"').replace("</matrix>", "x"))
    path.write_text(path.read_text().replace("1 0 0 0", "1 0 0", 1))


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda f: None, {"participants": ["07"]}, "participant 07: expected stats.07+tlrc"),
        (spoiled_design, {}, "expected a design matrix of 3dDeconvolve, got another file"),
        (lambda f: results(f / "again", "01"), {}, "expected one result, got"),
        (lambda f: results(f, "01", view="orig"), {}, "results in the views 'orig', 'tlrc'; choose one by space"),
        (lambda f: None, {"desc": "remls"}, "did you mean 'REML'"),
        (lambda f: None, {"desc": "REML"}, "expected statistics of REML, got 'stats.01+tlrc.HEAD'"),
        (lambda f: None, {"kind": "bold"}, "layout afni_proc: this layout gives betas"),
    ],
)
def test_what_an_afni_folder_lacks_is_said(tmp_path: Path, spoil: Any, options: dict[str, Any], message: str) -> None:
    spoil(results(tmp_path / "01.results", "01"))
    with pytest.raises(InputError) as error:
        rsa.find_inputs(tmp_path, layout="afni_proc", **options)
    assert message in str(error.value)


# Patterns ---------------------------------------------------------------------------------------------------------


def test_patterns_find_sessions_and_runs_wherever_they_stand(tmp_path: Path) -> None:
    for session in ("pre", "post"):
        for run in (1, 2, 10):
            (tmp_path / f"sub-01/ses-{session}/run{run}").mkdir(parents=True)
            (tmp_path / f"sub-01/ses-{session}/run{run}/ses-{session}_task-x_betas+tlrc.HEAD").touch()
    pattern = str(tmp_path / "sub-{participant}/ses-{session}/run{run}/ses-{session}_task-{task}_betas+tlrc[1..$]")
    found = rsa.find_inputs(pattern, participants=["01"], labels="{session}_{run}.tsv", mask="m_{participant}.nii")
    assert [(one.session, one.run, one.task) for one in found] == [
        (s, r, "x") for s in ("post", "pre") for r in ("1", "2", "10")
    ]
    assert found[0].image.endswith("ses-post/run1/ses-post_task-x_betas+tlrc.HEAD[1..$]")
    assert (found[2].labels, found[2].masks) == ("post_10.tsv", ("m_01.nii",))


def test_a_pattern_may_begin_with_the_participant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("01", "02"):
        (tmp_path / f"sub-{who}").mkdir()
        (tmp_path / f"sub-{who}" / "b_1.nii").touch()
    monkeypatch.chdir(tmp_path)
    found = rsa.find_inputs("sub-{participant}/b_{run}.nii")
    assert [(one.participant, one.image) for one in found] == [("01", "sub-01/b_1.nii"), ("02", "sub-02/b_1.nii")]


@pytest.mark.parametrize("typed", ["b_run-{run}+tlrc", "b_run-{run}+tlrc.", "b_run-{run}+tlrc.HEAD"])
def test_afni_names_find_their_runs_as_people_type_them(tmp_path: Path, typed: str) -> None:
    for run in ("1", "10", "2"):
        (tmp_path / f"b_run-{run}+tlrc.HEAD").touch()
        (tmp_path / f"b_run-{run}+tlrc.BRIK.gz").touch()
    found = rsa.find_inputs(str(tmp_path / typed), participants=["01"])
    assert [(one.run, Path(one.image).name) for one in found] == [
        (run, f"b_run-{run}+tlrc.HEAD") for run in ("1", "2", "10")
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("sub-{participant}/x_{run}.nii", "participant 01: expected a file"),
        ("x_{runs}.nii", "expected the placeholders {participant}, {session}, {task}, {run}, got {runs}; did you mean"),
        ("{task}_{run}.nii", "finds the tasks 'a', 'b'"),
    ],
)
def test_patterns_that_find_nothing_or_too_much_are_refused(tmp_path: Path, pattern: str, message: str) -> None:
    for name in ("a_1.nii", "b_1.nii"):
        (tmp_path / name).touch()
    with pytest.raises(InputError) as error:
        rsa.find_inputs(str(tmp_path / pattern), participants=["01"])
    assert message in str(error.value)


def test_patterns_of_several_participants_or_of_bold_are_refused(fmriprep: Path) -> None:
    found = rsa.find_inputs(fmriprep, layout="bids", kind="bold", space=MNI)
    with pytest.raises(InputError, match="one participant, got 2 participants"):
        rsa.load_inputs(found)
    with pytest.raises(InputError, match="expected betas, got BOLD runs"):
        rsa.load_inputs(found[:2])


# Studies ----------------------------------------------------------------------------------------------------------


def as_bids(study: Any, participant: str) -> None:
    """The participant's betas and mask moved into a folder of derivatives."""
    own = study.folder / "glm" / f"sub-{participant}" / "func"
    own.mkdir(parents=True, exist_ok=True)
    for run in (1, 2, 3):
        made = rsa.load_image(study.folder / f"sub-{participant}" / f"betas_run-{run}+tlrc")
        stem = f"sub-{participant}_task-tiny_run-{run}_space-MNI152Lin"
        rsa.save_image(made, own / f"{stem}_stat-effect_statmap.nii.gz")
        whole = rsa.load_image(study.folder / f"sub-{participant}" / "mask+tlrc")
        rsa.save_image(whole, own / f"{stem}_desc-brain_mask.nii.gz")


@pytest.fixture
def bids_study(tiny_study: Any) -> Any:
    """The first two participants of the tiny study in a BIDS folder, the third left out."""
    for participant in ("01", "02"):
        as_bids(tiny_study, participant)
    head, tail = tiny_study.file.read_text().split('[[brain]]\nparticipants = ["03"]')
    tiny_study.file.write_text(head + tail[tail.index("[rsa]") :])
    return tiny_study.edit(
        (
            'files = "sub-{participant}/betas_run-{run}+tlrc.HEAD"\nmask = "sub-{participant}/mask+tlrc.HEAD"',
            'layout = "bids"\nfolder = "glm"',
        ),
        ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", ""),
    )


@pytest.mark.slow
def test_a_study_of_a_bids_folder_gives_the_scores_of_the_same_files_by_pattern(
    bids_study: Any, tiny_results: Any, lines_of: Any
) -> None:
    code, out, _ = lines_of("check", bids_study.file)
    assert code == 0, out
    header, first, *_ = out
    for word in ("participant", "sessions", "runs", "conditions", "voxels", "ROIs", "space", "TR [s]"):
        assert word in header
    assert "1, 2, 3" in first
    assert "168" in first  # voxels
    bids_study.run("01", "02")
    for participant in ("01", "02"):
        (ours,) = bids_study.out.glob(f"sub-{participant}/func/*_scores.tsv")
        (theirs,) = tiny_results.out.glob(f"sub-{participant}/func/*_scores.tsv")
        assert ours.read_text() == theirs.read_text()


def test_a_study_says_what_a_layout_lacks(bids_study: Any, lines_of: Any) -> None:
    bids_study.edit(('folder = "glm"', 'folder = "glm2"'))
    code, _, said = lines_of("check", bids_study.file)
    assert code == 2
    assert "no folder" in said[0]
    bids_study.edit(('folder = "glm2"\n', ""))
    _, _, said = lines_of("check", bids_study.file)
    assert "lacks the key 'folder', which layout = 'bids' needs" in said[0]


def test_a_study_of_trials_by_afni_proc_has_the_runs_of_their_design(tiny_study: Any) -> None:
    from brainmap.study.run import Context, check_study
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.brains import collect_pattern_arguments

    sounds = [f"{word}_{voice}" for word in WORDS for voice in ("anna", "ben")]
    labels, columns = ["Full_Fstat"], {}
    for sound in sounds:
        for k, at in enumerate((2, 12, 22, 32)):
            labels += [f"{sound}#{k}_Coef", f"{sound}#{k}_Tstat"]
            columns[f"{sound}#{k}"] = at
    folder = tiny_study.folder / "afni" / "01.results"
    stats = ["Ftest(3,9)"] + [None, "Ttest(9)"] * (len(labels) // 2)
    values = np.random.default_rng(0).normal(size=(6, 7, 5, len(labels))).astype("f4")
    reference = rsa.load_image(tiny_study.folder / "sub-01" / "mask+tlrc")
    folder.mkdir(parents=True)
    made = nib.Nifti1Image(values, reference.affine)
    rsa.save_image(made, folder / "stats.01+tlrc", labels=labels, stats=stats, space="MNI")
    rsa.save_image(reference, folder / "full_mask.01+tlrc")
    design(folder / "X.xmat.1D", columns)
    head, tail = tiny_study.file.read_text().split('[[brain]]\nparticipants = ["03"]')
    tiny_study.file.write_text(head + tail[tail.index("[rsa]") :])
    tiny_study.edit(
        ('participants = ["01", "02"]', 'participants = ["01"]'),
        (
            'files = "sub-{participant}/betas_run-{run}+tlrc.HEAD"\nmask = "sub-{participant}/mask+tlrc.HEAD"',
            'layout = "afni_proc"\nfolder = "afni"',
        ),
        ("[rsa]\n", '[rsa]\nitems = "condition"\n'),
    )
    context = Context(load_study(tiny_study.file))
    (person,) = context.study.participants()
    assert person.runs == ("1", "2")
    assert str(folder / "X.xmat.1D") in person.inputs
    table = collect_pattern_arguments(person)["conditions"]
    assert table["run"].value_counts().to_dict() == {"1": 16, "2": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        (problem,) = check_study(context).problems
    assert "noise = 'runs' needs 3 or more runs, got 2" in problem
    assert "noise = 'residuals' (of the GLM), or noise = 'none'" in problem
    tiny_study.edit(('folder = "afni"', 'folder = "afni"\nnoise = "none"'))
    assert check_study(Context(load_study(tiny_study.file))).problems == ()
