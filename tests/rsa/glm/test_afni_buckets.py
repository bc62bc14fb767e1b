"""What is a stimulus in an AFNI bucket: with the history of 3dDeconvolve and 3dREMLfit, with another's, and without."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.glm.afni import find_stimuli, read_regressors

SHAPE = (3, 3, 3)
WORDS = ["cat", "dog", "tree"]
DESIGN = """# <matrix
#  ni_type = "{n}*double"
#  ni_dimen = "4"
#  ColumnLabels = "{columns}"
#  GoodList = "0..3"
#  RunStart = "0"
#  StimLabels = "{stimuli}"
#  Nglt = "1"
#  GltLabels = "V-A"
#  BasisNstim = "1"
#  BasisOption_000001 = "{option}"
#  BasisName_000001 = "cat"
#  BasisFormula_000001 = "{model}"
# >
{rows}
# </matrix>
"""


def write(path: Path, labels: Sequence[str], history: str = "") -> np.ndarray[Any, Any]:
    """A bucket with these labels, and its values (n_volumes, n_voxels)."""
    values = np.random.default_rng(1).normal(size=(*SHAPE, len(labels))).astype("f4")
    image = nib.Nifti1Image(values, np.eye(4))
    kinds = {"Tstat": "Ttest(9)", "Fstat": "Ftest(2,9)"}
    stats = [kinds.get(name[-5:]) for name in labels]
    rsa.save_image(image, path, labels=labels, stats=stats, space="MNI", history=history)
    mask = path.parent / "mask.nii"
    if not mask.exists():
        rsa.save_image(nib.Nifti1Image(np.ones(SHAPE, "f4"), np.eye(4)), mask, space="MNI")
    return values.reshape(-1, len(labels)).T


def read(path: Path | str, **given: Any) -> tuple[list[str], np.ndarray[Any, Any]]:
    folder = Path(str(path).split("[")[0]).parent
    data = rsa.load_patterns(path, mask=folder / "mask.nii", **given)
    return data.obs_descriptors["stimulus_id"].tolist(), data.measurements


def timed(option: str = "-stim_times", model: str = "BLOCK(1,1)", names: Sequence[str] = WORDS, more: str = "") -> str:
    stims = " ".join(f"{option} {k} {n}.1D '{model}' -stim_label {k} {n}" for k, n in enumerate(names, 1))
    return f"[me@here: Mon Jan 5] 3dDeconvolve -num_stimts {len(names)} {stims} {more} -tout -bucket stats"


def chosen(labels: Sequence[str], history: str = "") -> list[str]:
    found = find_stimuli(
        labels, [k for k, name in enumerate(labels) if "stat" in name], read_regressors(history), "stats"
    )
    return [] if found is None else [stimulus for _, stimulus, _ in found]


PLAIN = [f"{word}#0_Coef" for word in WORDS]
REML = "3dREMLfit -matrix elsewhere/X.xmat.1D -input all_runs+tlrc -fout -Rbuck stats_REML"


@pytest.mark.parametrize("ending", ["stats+tlrc.HEAD", "stats.nii.gz"])
@pytest.mark.parametrize(
    "history",
    [
        "",
        timed(more="-num_glt 1 -gltsym 'SYM: cat -dog' -glt_label 1 cat-dog"),
        REML,
        "3dcopy old+tlrc new",
        timed() + "\n[me@here: Tue Jan 6] 3dbucket -prefix stats old+tlrc",
    ],
    ids=["none", "3dDeconvolve", "3dREMLfit", "3dcopy", "3dbucket"],
)
def test_contrasts_and_statistics_are_no_stimuli_whatever_the_history(
    tmp_path: Path, ending: str, history: str
) -> None:
    labels = ["Full_Fstat"]
    for name in (*WORDS, "cat-dog_GLT"):
        labels += [f"{name}#0_Coef", f"{name}#0_Tstat", f"{name}_R^2", f"{name}_Fstat"]
    values = write(tmp_path / ending, labels, history)
    items, found = read(tmp_path / ending)
    assert items == WORDS
    np.testing.assert_array_equal(found, values[[1, 5, 9]])


@pytest.mark.parametrize(
    ("name", "history"),
    [
        ("V-A", timed(more="-glt_label 1 V-A")),  # as AFNI wrote it before contrasts were marked
        ("mean.VA", REML + " -gltsym 'SYM: 0.5*cat +0.5*dog' mean.VA"),
        ("all words", timed(more="-glt_label 1 'all words'")),
        ("cat_GLT", timed()),
        ("GLT#1_GLT", ""),
    ],
)
def test_a_contrast_that_the_history_names_is_none_without_a_mark(name: str, history: str) -> None:
    assert chosen([*PLAIN, f"{name}#0_Coef", f"{name}#0_Tstat"], history) == WORDS


def test_a_stimulus_and_a_contrast_may_share_a_name() -> None:
    assert chosen([*PLAIN, "cat_GLT#0_Coef"], timed(more="-glt_label 1 cat")) == WORDS


@pytest.mark.parametrize("name", ["V-A", "cat-dog", "cat_vs_dog", "catVdog", "cat>dog", "mean.VA", "cat minus tree"])
@pytest.mark.parametrize("history", ["", REML, timed(names=["other"])])
def test_what_could_be_a_contrast_is_listed_and_a_choice_is_asked_for(name: str, history: str) -> None:
    with pytest.raises(InputError) as error:
        chosen([*PLAIN, f"{name}#0_Coef"], history)
    said = str(error.value)
    assert f"{name!r} (1 coefficient) could be a stimulus or a contrast" in said
    assert "table (labels: columns volume, stimulus_id, condition, and run where a stimulus occurs again)" in said
    assert "'stats[0,1,2]'" in said


@pytest.mark.parametrize(
    "name",
    [
        "happy_vs_sad",
        "happyVsSad",
        "happy-minus-sad",
        "HAPPY.VS.SAD",
        "main effect",
        "avgAll",
        "x>y",
        "0.5*x",
        "faces diff",
    ],
)
def test_a_contrast_is_asked_for_even_where_no_name_beside_it_is_plain(name: str) -> None:
    others = ["left_vs_right", "cat-anna", "dog-anna"]
    with pytest.raises(
        InputError, match=rf"{re.escape(repr(name))} \(1 coefficient\) could be a stimulus or a contrast"
    ):
        chosen([f"{each}#0_Coef" for each in (name, *others)])
    with pytest.raises(InputError, match="in question: 'V-A', 'A-B'"):
        chosen([f"{each}#0_Coef" for each in ("V-A", "A-B", "cat-anna")])


@pytest.mark.parametrize(
    "name",
    ["csf", "WMe", "WM", "global", "GSR", "global_signal", "Motion", "rot.y", "x_rotation", "framewise_displacement",
     "csf_mean", "a_comp_cor_00", "aCompCor1", "FD", "vent", "drift", "white_matter", "std_dvars", "rp1", "resp",
     "cosine00", "FSvent"],
)  # fmt: skip
def test_a_regressor_of_no_interest_is_asked_for_without_a_history(name: str) -> None:
    with pytest.raises(InputError) as error:
        chosen([*PLAIN, f"{name}#0_Coef"])
    said = str(error.value)
    assert f"{name!r} (1 coefficient) could be a stimulus or " in said
    assert f"in question: {name!r}; say which sub-bricks are stimuli in a table" in said
    assert "'stats[0,1,2]' takes 'cat#0'" in said
    assert chosen([*PLAIN, f"{name}#0_Coef"], timed(names=[*WORDS, name])) == [*WORDS, name]  # it was timed as a sound


def test_plain_labels_of_contrasts_are_asked_for_and_words_are_not(tmp_path: Path) -> None:
    write(tmp_path / "plain.nii.gz", [*WORDS, "cat_vs_dog", "csf"])
    with pytest.raises(InputError, match=r"in question: 'cat_vs_dog', 'csf'.*\[0,1,2\]' takes 'cat', 'dog', 'tree'"):
        read(tmp_path / "plain.nii.gz")
    assert read(f"{tmp_path / 'plain.nii.gz'}[0..2]")[0] == WORDS
    table = pd.DataFrame({"volume": [0, 1, 3], "stimulus_id": ["cat", "dog", "cat_vs_dog"]})
    assert read(tmp_path / "plain.nii.gz", conditions=table)[0] == ["cat", "dog", "cat_vs_dog"]
    names = ["pitch", "ice-cream", "r1", "t1", "cat_1", "heart", "meaning"]
    write(tmp_path / "words.nii.gz", names)
    assert read(tmp_path / "words.nii.gz")[0] == names


def test_long_names_are_read_quickly() -> None:
    began = time.monotonic()
    for name in ("global" + "_1" * 5000 + "!", "rot" + "1" * 20000 + "!", "transmean" * 3000, "-" * 20000):
        with contextlib.suppress(InputError):
            chosen([*PLAIN, f"{name}#0_Coef"])
    assert time.monotonic() - began < 5


def test_names_that_all_carry_a_sign_are_names_and_one_that_a_whole_history_lacks_is_asked_for() -> None:
    tokens = ["cat-anna", "dog-anna", "cat-ben", "s1", "s10", "s101"][:3]
    assert chosen([f"{t}#0_Coef" for t in tokens]) == tokens
    assert chosen([f"s{k}#0_Coef" for k in (1, 10, 101, 11)]) == ["s1", "s10", "s101", "s11"]
    with pytest.raises(InputError, match=r"'anything'.*its history does not name it"):
        chosen([*PLAIN, "anything#0_Coef"], timed())
    # A command cut short knows only some of its stimuli.
    assert chosen(PLAIN, "3dDeconvolve -num_stimts 3 -stim_times 1 cat.1D GAM -stim_label 1 cat") == WORDS


@pytest.mark.parametrize(
    ("model", "terms"),
    [("SPMG2(1)", 2), ("SPMG3", 3), ("TENT(0,12,7)", 7), ("CSPLINzero(0,12,7)", 5), ("BLOCK(1,1)", 2)],
)
@pytest.mark.parametrize("ending", ["stats+tlrc.HEAD", "stats.nii.gz"])
def test_basis_functions_are_refused_and_one_may_be_chosen(tmp_path: Path, ending: str, model: str, terms: int) -> None:
    option = "-stim_times_AM2" if model.startswith("BLOCK") else "-stim_times"
    labels = ["Full_Fstat"] + [f"{w}#{k}_{kind}" for w in WORDS for k in range(terms) for kind in ("Coef", "Tstat")]
    values = write(tmp_path / ending, labels, timed(option, model))
    name = str(tmp_path / ending).removesuffix(".HEAD")
    with pytest.raises(InputError) as error:
        read(name)
    said = str(error.value)
    assert f"'cat' has {terms} coefficients, which are basis functions or modulations" in said
    assert model in said
    volumes = [1 + 2 * terms * k for k in range(3)]
    offered = f"{name}[{','.join(map(str, volumes))}]"
    assert f"'{offered}' takes 'cat#0', 'dog#0', 'tree#0'" in said
    items, found = read(offered)
    assert items == WORDS
    np.testing.assert_array_equal(found, values[volumes])
    by_label = f"{name}[{','.join(f'{w}#1_Coef' for w in WORDS)}]"
    np.testing.assert_array_equal(read(by_label)[1], values[[v + 2 for v in volumes]])
    table = pd.DataFrame({"volume": volumes, "stimulus_id": WORDS})
    np.testing.assert_array_equal(read(name, conditions=table)[1], values[volumes])
    with pytest.raises(InputError, match=r"cat#0 and dog#1 are different basis functions"):
        read(f"{name}[cat#0_Coef,dog#1_Coef,tree#0_Coef]")


def test_one_condition_with_basis_functions_among_others_without_is_refused() -> None:
    history = timed(names=["cat", "dog"]) + "\n[x: y] " + timed(model="SPMG2", names=["tree"])
    with pytest.raises(InputError, match=r"'tree' has 2 coefficients.*SPMG2"):
        chosen([*PLAIN, "tree#1_Coef"], history)


def test_single_trials_are_known_by_the_history_and_asked_for_without(tmp_path: Path) -> None:
    names, n = ["word", "noise", "tone"], 24
    labels = [f"{name}#{k}_Coef" for name in names for k in range(n)]
    trials = [f"{name}#{k}" for name in names for k in range(n)]
    values = write(tmp_path / "im+tlrc", labels, timed("-stim_times_IM", "GAM", names))
    items, found = read(tmp_path / "im+tlrc")
    assert items == trials
    np.testing.assert_array_equal(found, values)
    for name, history in (("none+tlrc", ""), ("reml+tlrc", REML), ("copy.nii", "3dTcat -prefix copy a+tlrc")):
        write(tmp_path / name, labels, history)
        with pytest.raises(InputError, match=r"'word' \(24 coefficients\) could be single trials \(-stim_tim"):
            read(tmp_path / name)
        table = pd.DataFrame({"volume": range(72), "stimulus_id": trials, "condition": np.repeat(names, n)})
        assert read(tmp_path / name, conditions=table)[0] == trials


def test_trials_of_a_model_with_several_parameters_are_refused() -> None:
    labels = [f"{w}#{k}_Coef" for w in WORDS for k in range(4)]
    with pytest.raises(InputError, match=r"modulations of each trial's response \(SPMG2\)"):
        chosen(labels, timed("-stim_times_IM", "SPMG2"))


@pytest.mark.parametrize("coef", ["", "_Coef"])
def test_drifts_and_motion_are_never_stimuli(coef: str) -> None:
    drifts = [f"Run#{r}Pol#{p}{coef}" for r in (1, 2) for p in range(3)]
    motion = [f"{m}#0{coef}" for m in ("roll", "pitch", "yaw", "dS", "dL", "dP")]
    more = [f"mot_demean_r01[{k}]#0{coef}" for k in range(6)] + [f"roll_02#0{coef}", f"motion_deriv#0{coef}"]
    labels = [*drifts, *(f"{w}#0{coef}" for w in WORDS), *motion, *more]
    assert chosen(labels) == WORDS
    assert chosen(labels, REML) == WORDS
    files = " ".join(f"-stim_file {k} mot.1D'[{k}]' -stim_label {k} {m}" for k, m in enumerate(("roll", "nod"), 4))
    assert chosen([*PLAIN, "roll#0_Coef", "nod#0_Coef"], timed() + f" {files} -stim_base 5") == WORDS
    with pytest.raises(InputError, match="got contrasts and baseline terms only"):
        chosen([*drifts, *motion])


def test_words_that_are_also_names_of_movements_are_asked_for_unless_they_were_timed() -> None:
    labels = [*PLAIN, "roll#0_Coef", "pitch#0_Coef"]
    with pytest.raises(InputError, match=r"'roll' .* could be a stimulus or motion.*in question: 'roll', 'pitch'"):
        chosen(labels)
    assert chosen(labels, timed(names=[*WORDS, "roll", "pitch"])) == [*WORDS, "roll", "pitch"]


def test_names_with_blanks_and_number_signs_are_kept() -> None:
    names = ["big cat", "Stim#1", "a#2b"]
    quoted = "[u@h: d] 3dDeconvolve -num_stimts 3 " + " ".join(
        f"-stim_times {k} {k}.1D 'GAM' -stim_label {k} '{name}'" for k, name in enumerate(names, 1)
    )
    labels = [f"{name}#0_Coef" for name in names]
    assert chosen(labels, quoted) == chosen(labels) == names
    escaped = quoted.replace("'", "&apos;")
    assert chosen([*labels, "x-y#0_Coef"], escaped + " -glt_label 1 x-y") == names


def test_an_earlier_fit_in_the_history_does_not_speak_for_this_one() -> None:
    nuisance = timed("-stim_file", "", ["roll", "pitch"])
    assert chosen(PLAIN, nuisance + "\n[u@h: d] " + REML) == WORDS
    before = timed("-stim_times_IM", "GAM")
    with pytest.raises(InputError, match="'cat' has 2 coefficients, which are basis functions"):
        chosen([f"{w}#{k}_Coef" for w in WORDS for k in (0, 1)], before + "\n[u@h: d] " + timed(model="SPMG2"))


@pytest.mark.parametrize(("option", "model"), [("-stim_times_IM", "GAM"), ("-stim_times", "SPMG2")])
def test_the_design_beside_a_bucket_of_3dremlfit_tells_its_regressors(tmp_path: Path, option: str, model: str) -> None:
    columns = ["Run#1Pol#0", "cat#0", "cat#1", "cat#2", "nod#0"]
    rows = "\n".join(" ".join("1" for _ in columns) for _ in range(4))
    text = DESIGN.format(n=5, columns=" ; ".join(columns), stimuli="cat", option=option, model=model, rows=rows)
    (tmp_path / "X.xmat.1D").write_text(text)
    labels = ["Full_Fstat", *(f"{c}_Coef" for c in columns[1:]), "V-A#0_Coef", "V-A_GLT#0_Coef"]
    write(tmp_path / "stats+tlrc", labels, "3dREMLfit -matrix somewhere/X.xmat.1D -Rbuck stats")
    if model == "GAM":
        assert read(tmp_path / "stats+tlrc")[0] == ["cat#0", "cat#1", "cat#2"]
    else:
        with pytest.raises(InputError, match=r"'cat' has 3 coefficients.*\(SPMG2\)"):
            read(tmp_path / "stats+tlrc")


def test_betas_of_ours_say_themselves_that_they_are_trials(tmp_path: Path) -> None:
    labels = [f"{word}#{k}_Coef" for word in ("roll", "V-A", "cat") for k in (0, 1)]
    write(tmp_path / "betas.nii.gz", labels, "brainmap betas: lsa")
    assert read(tmp_path / "betas.nii.gz")[0] == [label.removesuffix("_Coef") for label in labels]
