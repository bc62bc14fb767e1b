"""First-level folders of SPM: betas of stimuli are found by SPM.mat or by headers, and everything else is counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.inputs.spm import classify_regressor
from brainmap.rsa.inputs.spm_design import read_spm_design
from brainmap.study.check import check_study
from brainmap.study.results.context import Context
from brainmap.study.settings.study import load_study

SHAPE = (4, 5, 3)
AFFINE = np.diag([3.0, 3, 3, 1])
WORDS = ["Tone", "SweepUp", "boxing", "Vow A"]
Trials = list[list[str]]  # of a session: the condition and its parametric modulators


def list_regressors(sessions: list[Trials], n_basis: int = 1) -> list[str]:
    """Name the columns of a design as SPM does: session by session, the constants last."""
    names = []
    for k, trials in enumerate(sessions, start=1):
        names += [f"Sn({k}) {name}*bf({basis})" for one in trials for name in one for basis in range(1, n_basis + 1)]
        names += [f"Sn({k}) R{motion}" for motion in range(1, 7)]
    return [*names, *(f"Sn({k}) constant" for k in range(1, len(sessions) + 1))]


def write_betas(folder: Path, names: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Write a beta for each regressor, NaN outside the mask, and the mask; the header is that of SPM, 80 characters."""
    folder.mkdir(parents=True, exist_ok=True)
    inside = np.ones(SHAPE, bool)
    inside.ravel()[:7] = False
    betas = {}
    for k, name in enumerate(names, start=1):
        values = np.random.default_rng([seed, k]).normal(size=SHAPE).astype("f4")
        betas[name] = np.where(inside, values, np.nan)
        made = nib.Nifti1Image(betas[name], AFFINE)
        made.header["descrip"] = f"spm_spm:beta ({k:04d}) - {name}".encode()[:80]
        nib.save(made, folder / f"beta_{k:04d}.nii")
    nib.save(nib.Nifti1Image(inside.astype("u1"), AFFINE), folder / "mask.nii")
    return betas


def make_structs(rows: list[dict[str, Any]]) -> np.ndarray:
    """An array of structs, as savemat takes it; a list of dicts would become a cell."""
    made = np.empty((1, len(rows)), [(field, object) for field in rows[0]])
    for k, row in enumerate(rows):
        made[0, k] = tuple(row.values())
    return made


def make_cell(texts: list[str]) -> np.ndarray:
    made = np.empty((1, len(texts)), object)
    made[0, :] = texts
    return made


def write_mat(folder: Path, names: list[str], sessions: list[Trials], basis: str = "hrf") -> None:
    """SPM.mat as MATLAB's `save -v6` and `-v7` write it."""
    trials = [make_structs([{"name": make_cell(one), "P": np.zeros((0, 0))} for one in each]) for each in sessions]
    betas = [{"fname": f"beta_{k:04d}.nii", "descrip": name} for k, name in enumerate(names, start=1)]
    spm = {
        "xX": {"name": make_cell(names), "X": np.zeros((5, len(names)))},
        "xBF": {"name": basis},
        "Sess": make_structs([{"U": one, "row": np.arange(5.0)} for one in trials]),
        "Vbeta": make_structs(betas),
    }
    savemat(folder / "SPM.mat", {"SPM": spm}, do_compression=True)


def write_mat73(folder: Path, names: list[str], sessions: list[Trials], basis: str = "hrf") -> None:
    """SPM.mat as MATLAB's `save -v7.3` writes it: cells are references, and so are the fields of arrays of structs."""
    with h5py.File(folder / "SPM.mat", "w", userblock_size=512) as out:
        count = iter(range(100_000))

        def write_text(text: str) -> Any:
            made = out.create_dataset(f"#refs#/{next(count)}", data=np.array([[ord(one)] for one in text], "u2"))
            made.attrs["MATLAB_class"] = np.bytes_("char")
            return made.ref

        def write_cell(texts: list[str], where: str | None = None) -> Any:
            refs = np.array([[write_text(text)] for text in texts], h5py.ref_dtype)
            made = out.create_dataset(where or f"#refs#/{next(count)}", data=refs, dtype=h5py.ref_dtype)
            made.attrs["MATLAB_class"] = np.bytes_("cell")
            return made.ref

        def write_field(where: str, refs: list[Any]) -> None:
            data = np.array([[ref] for ref in refs], h5py.ref_dtype)
            out.create_dataset(where, data=data, dtype=h5py.ref_dtype)

        def write_trials(trials: Trials, where: str) -> Any:
            """An array of one struct is stored as the struct itself."""
            group = out.create_group(where)
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            if len(trials) == 1:
                write_cell(trials[0], f"{where}/name")
            else:
                write_field(f"{where}/name", [write_cell(one) for one in trials])
            return group.ref

        write_cell(names, "SPM/xX/name")
        text = out.create_dataset("SPM/xBF/name", data=np.array([[ord(one)] for one in basis], "u2"))
        text.attrs["MATLAB_class"] = np.bytes_("char")
        write_field("SPM/Vbeta/fname", [write_text(f"beta_{k:04d}.nii") for k in range(1, len(names) + 1)])
        if len(sessions) == 1:
            write_trials(sessions[0], "SPM/Sess/U")
        else:
            write_field("SPM/Sess/U", [write_trials(one, f"#refs#/u{k}") for k, one in enumerate(sessions)])
    with (folder / "SPM.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def write_no_mat(folder: Path, names: list[str], sessions: list[Trials], basis: str = "hrf") -> None:
    """Nothing: the betas' headers must do."""


WRITERS = [write_mat, write_mat73, write_no_mat]
Write = Callable[..., None]


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_gives_the_patterns_and_rdms_of_the_same_betas_in_an_image_a_run(tmp_path: Path, write: Write) -> None:
    sessions = [[[name] for name in WORDS] for _ in range(3)]
    names = list_regressors(sessions)
    folder = tmp_path / "sub-VP01" / "first_level"
    betas = write_betas(folder, names)
    write(folder, names, sessions)
    found = rsa.find_inputs(str(tmp_path / "sub-{participant}" / "first_level"), layout="spm")
    data = rsa.load_inputs(found)

    tables: Any = [pd.DataFrame({"volume": range(4), "condition": WORDS})] * 3
    runs = []
    for k in (1, 2, 3):
        stacked = np.stack([betas[f"Sn({k}) {name}*bf(1)"] for name in WORDS], axis=-1)
        runs.append(nib.Nifti1Image(stacked, AFFINE))
    of_run: Any = {"runs": ["1", "2", "3"], "participant": "VP01"}
    wanted = rsa.load_patterns(runs, mask=folder / "mask.nii", conditions=tables, **of_run)
    assert np.array_equal(data.measurements, wanted.measurements)
    for key in ("stimulus_id", "condition", "run"):
        assert data.obs_descriptors[key].tolist() == wanted.obs_descriptors[key].tolist()
    assert data.descriptors == wanted.descriptors
    for kind in ("crossnobis", "correlation"):
        ours, theirs = (rsa.compute_rdms(one, dissimilarity=kind) for one in (data, wanted))
        assert np.array_equal(ours.dissimilarities, theirs.dissimilarities)
        assert list(ours.pattern_descriptors["stimulus_id"]) == list(theirs.pattern_descriptors["stimulus_id"])


@pytest.mark.parametrize("write", WRITERS)
def test_modulators_derivatives_and_regressors_of_no_interest_are_left_out_and_named(
    tmp_path: Path, write: Write
) -> None:
    sessions = [[["Tone", "TonexPitch^1", "TonexPitch^2"], ["boxing"], ["Vow A"]], [["Tone"], ["boxing"], ["Vow A"]]]
    names = list_regressors(sessions, n_basis=3)
    write_betas(tmp_path / "01", names)
    write(tmp_path / "01", names, sessions, "hrf (with time and dispersion derivatives)")
    found = rsa.find_inputs(tmp_path / "01", layout="spm")
    assert [(one.run, one.volumes[0][1]) for one in found] == [
        (run, name) for run in ("1", "2") for name in ("Tone", "boxing", "Vow A")
    ]
    assert {one.note for one in found} == {
        "SPM: 6 of 38 betas are patterns (3 names in sessions 1, 2); left out: 6 parametric modulators "
        "('TonexPitch^1', 'TonexPitch^2'), 12 derivatives of the response ('Tone', 'boxing', 'Vow A'), "
        "12 regressors of no interest ('R1', 'R2', 'R3', 'R4' and 2 more), 2 constants"
    }
    table = rsa.inputs_table(found)
    assert table[["run", "image", "volumes"]].to_numpy().tolist() == [
        ["1", "beta_0001.nii and 2 more", 3],
        ["2", "beta_0022.nii and 2 more", 3],
    ]


@pytest.mark.parametrize("write", [write_mat, write_mat73])
def test_what_is_a_modulator_is_known_from_the_design_and_not_from_its_name(tmp_path: Path, write: Write) -> None:
    sessions = [[["a"], ["boxing^2"], ["b", "bxloud^1"]]]
    names = list_regressors(sessions)
    write_betas(tmp_path, names)
    write(tmp_path, names, sessions)
    found = rsa.find_inputs(tmp_path, layout="spm")
    assert [one.volumes[0][1] for one in found] == ["a", "boxing^2", "b"]
    design = read_spm_design(tmp_path / "SPM.mat")
    assert design.conditions == (frozenset({"a", "boxing^2", "b"}),)
    assert design.modulators == (frozenset({"bxloud^1"}),)


def test_names_longer_than_a_header_need_the_design(tmp_path: Path) -> None:
    long = ["a_sound_of_a_church_bell_in_the_distance_at_noon_number_one", *WORDS]
    sessions = [[[name] for name in long]]
    names = list_regressors(sessions)
    write_betas(tmp_path, names)
    with pytest.raises(InputError, match=r"beta_0001.nii: the name of its regressor is cut off .*; copy SPM.mat"):
        rsa.find_inputs(tmp_path, layout="spm")
    write_mat(tmp_path, names, sessions)
    assert [one.volumes[0][1] for one in rsa.find_inputs(tmp_path, layout="spm")] == long


def test_a_cut_that_ends_in_a_space_is_noticed_too(tmp_path: Path) -> None:
    head = "spm_spm:beta (0001) - Sn(1) "
    name = "a" * (79 - len(head)) + " bell"
    write_betas(tmp_path, list_regressors([[[name], ["b"], ["c"], ["d"]]]))
    with pytest.raises(InputError, match="is cut off in the header"):
        rsa.find_inputs(tmp_path, layout="spm")


def test_interactions_and_other_basis_functions_are_no_patterns() -> None:
    assert classify_regressor("Sn(1) Tone*bf(1)xVow*bf(1)")[0] == "interaction"
    with pytest.raises(InputError, match=r"got 'Sn\(1\) Tone\*bf\(4\)', one of several basis functions, of which none"):
        classify_regressor("Sn(1) Tone*bf(4)")


def test_a_design_of_finite_impulse_responses_is_refused_from_its_second_bin_on(tmp_path: Path) -> None:
    sessions = [[[name] for name in WORDS]]
    names = list_regressors(sessions, n_basis=2)
    write_betas(tmp_path, names)
    write_mat(tmp_path, names, sessions, "Finite Impulse Response")
    with pytest.raises(InputError, match=r"one of several basis functions \(Finite Impulse Response\)"):
        rsa.find_inputs(tmp_path, layout="spm")


def test_folders_of_sessions_and_of_runs_are_told_by_their_names(tmp_path: Path) -> None:
    sessions = [[[name] for name in WORDS]]
    for session in ("a", "b"):
        for run in ("1", "2"):
            folder = tmp_path / "01" / f"ses-{session}" / f"run-{run}"
            write_betas(folder, list_regressors(sessions))
    pattern = str(tmp_path / "{participant}" / "ses-{session}" / "run-{run}")
    found = rsa.find_inputs(pattern, layout="spm", participants=["01"])
    assert list(dict.fromkeys(one.label for one in found)) == ["a-1", "a-2", "b-1", "b-2"]
    assert rsa.load_inputs(found).obs_descriptors["run"].tolist() == [
        run for run in ("a-1", "a-2", "b-1", "b-2") for _ in WORDS
    ]
    only = rsa.find_inputs(pattern, layout="spm", participants=["01"], sessions=["b"])
    assert {one.session for one in only} == {"b"}


def spoil_file(folder: Path) -> None:
    (folder / "beta_0002.nii").unlink()


def spoil_order(folder: Path) -> None:
    (folder / "beta_0002.nii").rename(folder / "x.nii")
    (folder / "beta_0003.nii").rename(folder / "beta_0002.nii")
    (folder / "x.nii").rename(folder / "beta_0003.nii")


def spoil_design(folder: Path) -> None:
    content = (folder / "SPM.mat").read_bytes()
    (folder / "SPM.mat").write_bytes(content[: len(content) // 2])


def spoil_estimate(folder: Path) -> None:
    spm = {"xX": {"name": make_cell(["Sn(1) Tone*bf(1)"])}}
    savemat(folder / "SPM.mat", {"SPM": spm})


def spoil_level(folder: Path) -> None:
    spm = {"xX": {"name": make_cell(["mean"])}, "Vbeta": make_structs([{"fname": "beta_0001.nii"}])}
    savemat(folder / "SPM.mat", {"SPM": spm})


def spoil_headers(folder: Path) -> None:
    (folder / "SPM.mat").unlink()
    made = nib.load(folder / "beta_0001.nii")
    made.header["descrip"] = b"spm - 3D normalized"
    nib.save(nib.Nifti1Image(np.asarray(made.dataobj), AFFINE, made.header), folder / "beta_0001.nii")


def spoil_all(folder: Path) -> None:
    for file in folder.iterdir():
        if file.name != "mask.nii":
            file.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_file, r"expected beta_0002.nii, the beta of 'Sn\(1\) SweepUp\*bf\(1\)' by SPM.mat, got no such file"),
        (spoil_order, r"SPM.mat says that this is 'Sn\(1\) SweepUp.*its header says 'Sn\(1\) boxing"),
        (spoil_design, "SPM.mat: expected the design of an SPM model, got a damaged file"),
        (spoil_estimate, "expected an estimated model, got a design without betas; estimate it"),
        (spoil_level, r"expected regressors of conditions, such as Sn\(1\) NAME\*bf\(1\), got 'mean'"),
        (spoil_headers, "expected a header such as .*, got 'spm - 3D normalized'; copy SPM.mat into the folder"),
        (spoil_all, "expected SPM.mat or beta_0001.nii of SPM's first level, got 'mask.nii'; correct folder"),
    ],
)
@pytest.mark.parametrize("write", [write_mat, write_mat73])
def test_what_a_folder_lacks_is_said(tmp_path: Path, write: Write, spoil: Any, message: str) -> None:
    sessions = [[[name] for name in WORDS]]
    names = list_regressors(sessions)
    write_betas(tmp_path / "VP01", names)
    write(tmp_path / "VP01", names, sessions)
    spoil(tmp_path / "VP01")
    with pytest.raises(InputError, match=f"^participant VP01: .*{message}") as error:
        rsa.find_inputs(str(tmp_path / "{participant}"), layout="spm", participants=["VP01"])
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_said_with_its_neighbors(tmp_path: Path) -> None:
    write_betas(tmp_path / "VP1", list_regressors([[[name] for name in WORDS]]))
    with pytest.raises(InputError, match=r"participant VP01: expected the folder .*VP01, got 'VP1' in"):
        rsa.find_inputs(str(tmp_path / "{participant}"), layout="spm", participants=["VP01"])
    with pytest.raises(InputError, match="layout spm: this layout gives betas"):
        rsa.find_inputs(str(tmp_path / "{participant}"), layout="spm", kind="bold")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("beta_*.nii", r"expected a name in which \{run\} stands for .* got '.*beta_\*.nii' with \* or \? of a shell"),
        ("beta_{run}.nii", "expected an image a run, got 'beta_0001.nii', .*take layout = 'spm'"),
    ],
)
def test_betas_of_spm_are_no_runs(tmp_path: Path, files: str, message: str) -> None:
    write_betas(tmp_path, list_regressors([[[name] for name in WORDS]]))
    with pytest.raises(InputError, match=message):
        rsa.find_inputs(str(tmp_path / files), participants=["01"])


def use_spm(study: Any, people: tuple[str, ...]) -> None:
    """The betas of participants of the tiny study as SPM would have written them, the others left out."""
    for participant in people:
        own = study.folder / f"sub-{participant}"
        folder = own / "first_level"
        folder.mkdir()
        names: list[str] = []
        sessions = []
        for run in (1, 2, 3):
            betas = rsa.load_image(own / f"betas_run-{run}+tlrc")
            labels = rsa.sub_brick_labels(own / f"betas_run-{run}+tlrc")
            volumes = dict(zip(labels, nib.four_to_three(betas), strict=True))
            sessions.append([[label] for label in volumes])
            for label, volume in volumes.items():
                names.append(f"Sn({run}) {label}*bf(1)")
                plain = nib.Nifti1Image(np.asarray(volume.dataobj), betas.affine)
                nib.save(plain, folder / f"beta_{len(names):04d}.nii")
        write_mat(folder, names, sessions)
        mask = rsa.load_image(own / "mask+tlrc")
        nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), mask.affine), folder / "mask.nii")
    head, tail = study.file.read_text().split('[[brain]]\nparticipants = ["03"]')
    study.file.write_text(head + tail[tail.index("[rsa]") :])
    study.edit(
        (
            'files = "sub-{participant}/betas_run-{run}+tlrc.HEAD"\nmask = "sub-{participant}/mask+tlrc.HEAD"',
            'layout = "spm"\nfolder = "sub-{participant}/first_level"',
        ),
        ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", ""),
    )


def test_a_study_of_spm_folders_is_checked_and_scores_as_the_same_betas_by_pattern(
    tiny_study: Any, tiny_results: Any, lines_of: Any
) -> None:
    use_spm(tiny_study, ("01", "02"))
    code, out, _ = lines_of("check", tiny_study.file)
    assert code == 0, out
    assert "1, 2, 3" in out[1]
    (said,) = (line for line in out if "SPM: " in line)
    assert said.startswith("note: participants 01, 02: SPM: 24 of 24 betas are patterns (8 names in sessions 1, 2, 3)")
    tiny_study.run("01", "02")
    for participant in ("01", "02"):
        (ours,) = tiny_study.out.glob(f"sub-{participant}/func/*_scores.tsv")
        (theirs,) = tiny_results.out.glob(f"sub-{participant}/func/*_scores.tsv")
        assert ours.read_text() == theirs.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('layout = "spm"', 'layout = "spm"\nlabels = "x.tsv"'), "labels does not go with layout = 'spm'"),
        (('layout = "spm"', 'layout = "spm"\nkind = "bold"'), "kind = 'bold' does not go with layout = 'spm'"),
        (("sub-{participant}/first", "sub-01/first"), "folder: expected a name with {participant} for 2 participants"),
        (("folder =", "files ="), "lacks the key 'folder', which layout = 'spm' needs"),
    ],
)
def test_keys_that_do_not_go_with_spm_are_refused(tiny_study: Any, change: tuple[str, str], message: str) -> None:
    use_spm(tiny_study, ("01", "02"))
    tiny_study.edit(change)
    with pytest.raises(InputError) as error:
        load_study(tiny_study.file)
    assert message in str(error.value)


def test_a_study_by_headers_alone_is_told_of_what_was_left_out(tiny_study: Any) -> None:
    use_spm(tiny_study, ("01",))
    folder = tiny_study.folder / "sub-01" / "first_level"
    design = read_spm_design(folder / "SPM.mat")
    (folder / "SPM.mat").unlink()
    reference = nib.load(folder / "mask.nii")
    for k, name in enumerate((*design.names, "Sn(1) R1", "Sn(1) constant"), start=1):
        file = folder / f"beta_{k:04d}.nii"
        made = nib.load(file, mmap=False) if file.exists() else reference  # the file is written over
        again = nib.Nifti1Image(np.asarray(made.dataobj), made.affine)
        again.header["descrip"] = f"spm_spm:beta ({k:04d}) - {name}".encode()
        nib.save(again, file)
    tiny_study.edit(('participants = ["01", "02"]', 'participants = ["01"]'))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        found = check_study(Context(load_study(tiny_study.file)))
    assert found.problems == ()
    assert any("24 of 26 betas are patterns" in note and "1 constant" in note for note in found.notes)


@pytest.mark.parametrize("named", ["01", "01/beta_0001.nii"])
def test_commands_that_take_images_say_where_folders_of_spm_are_read(tmp_path: Path, named: str, lines_of: Any) -> None:
    write_betas(tmp_path / "01", list_regressors([[[name] for name in WORDS]]))
    betas, mask = tmp_path / named, tmp_path / "01" / "mask.nii"
    code, _, said = lines_of("rsa", "rdm", "--betas", betas, "--mask", mask, "--out", tmp_path / "x.h5")
    assert code == 2
    assert f"expected an image a run, got {betas}; folders of SPM are read in a study file (layout = 'spm'" in said[0]
