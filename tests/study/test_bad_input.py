"""Every mistake a user can make: one clear line each, exit code 2, nothing written, found before any computing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

Spoil = Callable[[Any], None]


def files_without_participant(study: Any) -> None:
    study.edit(('files = "sub-{participant}/betas_run-{run}+tlrc.HEAD"', 'files = "sub-01/betas_run-{run}+tlrc.HEAD"'))


def maximum_without_flips(study: Any) -> None:
    study.edit(("splits = 4", 'splits = 4, correction = "max-t"'))


def missing_audio(study: Any) -> None:
    (study.folder / "sounds" / "cat_anna.wav").unlink()


def corrupt_audio(study: Any) -> None:
    (study.folder / "sounds" / "cat_anna.wav").write_bytes(b"no sound at all")


def audio_cut_short(study: Any) -> None:
    path = study.folder / "sounds" / "cat_anna.wav"
    path.write_bytes(path.read_bytes()[:1000])


def two_bad_sounds(study: Any) -> None:
    missing_audio(study)
    (study.folder / "sounds" / "dog_ben.wav").write_bytes(b"")


def empty_folder_of_sounds(study: Any) -> None:
    (study.folder / "nothing").mkdir()
    study.edit(('table = "stimuli.tsv"', 'table = "nothing"'))


def missing_table_of_sounds(study: Any) -> None:
    study.edit(('table = "stimuli.tsv"', 'table = "stimulli.tsv"'))


def wrong_rate(study: Any) -> None:
    study.edit(('checkpoint = "net', 'rate = 8000\ncheckpoint = "net'))


def wrong_length(study: Any) -> None:
    study.edit(('checkpoint = "net', 'seconds = 1.0\ncheckpoint = "net'))


def missing_checkpoint(study: Any) -> None:
    (study.folder / "net.safetensors").unlink()


def checkpoint_of_other_shapes(study: Any) -> None:
    study.edit(('checkpoint = "net', 'architecture = "ch64"\ncheckpoint = "net'))


def checkpoint_cut_short(study: Any) -> None:
    path = study.folder / "net.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def unknown_layer(study: Any) -> None:
    study.edit(('"conv3", "output"', '"conv33", "output"'))


def unknown_cam_layer(study: Any) -> None:
    study.edit(("[explain]", '[explain]\ncam = { layer = "conv99" }'))


def truncated_brik(study: Any) -> None:
    path = study.betas("01", 2)
    path.write_bytes(path.read_bytes()[:-100])


def head_without_brik(study: Any) -> None:
    study.betas("01", 2).unlink()


def truncated_nifti(study: Any) -> None:
    path = study.betas("03", 2)
    path.write_bytes(path.read_bytes()[:-100])


def other_grid(study: Any) -> None:
    path = study.folder / "sub-03" / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((6, 7, 6), np.uint8), nib.load(path).affine), path)


def shifted_rois(study: Any) -> None:
    path = study.folder / "rois.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 1.5
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def mask_without_voxels(study: Any) -> None:
    path = study.folder / "sub-03" / "mask.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)


def missing_mask(study: Any) -> None:
    (study.folder / "sub-03" / "mask.nii.gz").unlink()


def label_absent_from_table(study: Any) -> None:
    (study.folder / "rois.tsv").write_text("index\tname\n1\tleft-a\n2\tright-a\n")


def missing_roi_table(study: Any) -> None:
    (study.folder / "rois.tsv").unlink()


def condition_missing_in_a_run(study: Any) -> None:
    path = study.betas("03", 2)
    image = nib.load(path)
    values = np.asarray(image.dataobj)[..., :7]
    labels = label_text(path)[:7]
    nib.save(nib.Nifti1Image(values, image.affine), path)
    table = pd.DataFrame({"stimulus_id": labels, "volume": range(7), "run": 2})
    whole = [
        pd.DataFrame({"stimulus_id": label_text(study.betas("03", run)), "volume": range(8), "run": run})
        for run in (1, 3)
    ]
    pd.concat([table, *whole]).to_csv(study.folder / "labels.tsv", sep="\t", index=False)
    text = study.file.read_text()
    first, second = text.split('participants = ["03"]')
    study.file.write_text(f'{first}participants = ["03"]\nlabels = "labels.tsv"{second}')


def label_text(path: Path) -> list[str]:
    from brainmap.rsa.images.files import sub_brick_labels

    return sub_brick_labels(path)


def different_levels(study: Any) -> None:
    relabel(study, lambda names: [name.split("_")[0] for name in names[::2]], volumes=[0, 2, 4, 6])


def relabel(study: Any, rename: Callable[[list[str]], list[str]], volumes: list[int]) -> None:
    """All betas of all participants with other labels, by a table a run."""
    order = sorted(label_text(study.betas("01", 1)))
    for participant in ("01", "02", "03"):
        for run in (1, 2, 3):
            at = [label_text(study.betas(participant, run)).index(order[k]) for k in volumes]
            table = pd.DataFrame({"stimulus_id": rename(order), "volume": at})
            table.to_csv(study.folder / f"labels_{participant}_{run}.tsv", sep="\t", index=False)
    study.edit(("mask = ", 'labels = "labels_{participant}_{run}.tsv"\nmask = '))


def patterns_of_other_items(study: Any) -> None:
    table = pd.read_csv(study.folder / "stimuli.tsv", sep="\t")
    row = pd.DataFrame({"stimulus_id": ["no_anna"], "condition": ["no"], "path": ["sounds/cat_anna.wav"]})
    pd.concat([table, row]).to_csv(study.folder / "stimuli.tsv", sep="\t", index=False)


def crossnobis_without_runs(study: Any) -> None:
    study.edit(("betas_run-{run}", "betas_run-1"))


def two_conditions(study: Any) -> None:
    table = pd.read_csv(study.folder / "stimuli.tsv", sep="\t")
    table["condition"] = ["cat"] * 4 + ["dog"] * 4
    table.to_csv(study.folder / "stimuli.tsv", sep="\t", index=False)
    study.edit(("[rsa]\n", '[rsa]\nitems = "condition"\n'))


def misspelt_key(study: Any) -> None:
    study.edit(("radius_mm", "radius_m"))


def misspelt_value(study: Any) -> None:
    study.edit(('measure = "rho-a"', 'measure = "rhoa"'))


def misspelt_section(study: Any) -> None:
    study.edit(("[searchlight]", "[searchligth]"))


def no_toml(study: Any) -> None:
    study.edit(("schema = 1", "schema = = 1"))


def not_text(study: Any) -> None:
    study.file.write_bytes(b"\xff\xfe\x00")


def participant_twice(study: Any) -> None:
    study.edit(('participants = ["03"]', 'participants = ["02"]'))


def missing_run_files(study: Any) -> None:
    study.edit(("betas_run-{run}.nii.gz", "betas_ran-{run}.nii.gz"))


def output_of_another_study(study: Any) -> None:
    study.out.mkdir()
    (study.out / "dataset_description.json").write_text(json.dumps({"Name": "x", "Study": "other"}))


def output_of_something_else(study: Any) -> None:
    study.out.mkdir()
    (study.out / "thesis.txt").write_text("years of work")


def sphere_below_a_voxel(study: Any) -> None:
    study.edit(("radius_mm = 6.0", "radius_mm = 2.0"))


def sphere_too_small(study: Any) -> None:
    study.edit(("radius_mm = 6.0", "radius_mm = 3.0"))


def one_space_two_grids(study: Any) -> None:
    for path in (study.folder / "sub-03").iterdir():
        image = nib.load(path)
        affine = image.affine.copy()
        affine[0, 3] += 30
        image.set_sform(affine)
        image.set_qform(affine)
        nib.save(image, path)
    shutil.copy(study.folder / "rois.nii.gz", study.folder / "rois03.nii.gz")
    image = nib.load(study.folder / "rois03.nii.gz")
    affine = image.affine.copy()
    affine[0, 3] += 30
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), study.folder / "rois03.nii.gz")
    first, second = study.file.read_text().split('participants = ["03"]')
    study.file.write_text(first + 'participants = ["03"]' + second.replace('"rois.nii.gz"', '"rois03.nii.gz"'))


ODD = """
from torch import nn


class Loudness(nn.Module):
    def forward(self, x):
        return x.square().mean(2)


class Same(nn.Module):
    def forward(self, x):
        return 0 * x[:, 0, :5] + x.new_tensor([1.0, 2.0, 0.0, 4.0, 3.0])


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.loudness, self.same, self.square = Loudness(), Same(), nn.Unflatten(1, (8, 8))
        self.conv, self.grid, self.head = nn.Conv1d(1, 4, 9), nn.AdaptiveAvgPool1d(16), nn.Linear(64, 4)

    def forward(self, x):
        square = self.square(self.grid(self.conv(x)).flatten(1))
        return self.head(square.flatten(1)) + 0 * (self.loudness(x) + self.same(x).sum())


def build():
    return Odd()
"""


def layers_without_rdms(study: Any) -> None:
    import torch

    (study.folder / "odd_nets.py").write_text(ODD)
    sys.modules.pop("odd_nets", None)  # of another test
    (study.folder / "__pycache__").write_text("so that Python keeps no bytecode here")
    names: dict[str, Any] = {}
    exec(ODD, names)  # the same code as in the file
    torch.save(names["build"]().state_dict(), study.folder / "odd.pt")
    more = 'architecture = "odd_nets:build"\nrate = 16000\nseconds = 0.15\nlevel = "rms"\n'
    study.edit(('checkpoint = "net.safetensors"', f'checkpoint = "odd.pt"\n{more}'))
    text = study.file.read_text()
    start = text.index("layers = ")
    wanted = 'layers = ["conv", "square", "loudness", "same"]'
    study.file.write_text(text[:start] + wanted + text[text.index("\n", start) :])


def layers_whose_rdm_is_nan_or_constant(study: Any) -> None:
    layers_without_rdms(study)
    study.edit(('"conv", "square", ', '"conv", '))


def unknown_planted_region(study: Any) -> None:
    (study.folder / "truth.tsv").write_text("region\tlayer\nleft-b\tconv1\n")
    study.file.write_text(study.file.read_text() + '\n[truth]\ntable = "truth.tsv"\n')


ONE_EACH = [
    (layers_without_rdms, ["[network] net: layer 'square' (Unflatten) gives (1, 8, 8) for 1 item", "units_axis"]),
    (missing_audio, ["no file", "cat_anna.wav"]),
    (corrupt_audio, ["cat_anna.wav", "cannot be read"]),
    (audio_cut_short, ["cat_anna.wav"]),
    (empty_folder_of_sounds, ["nothing", "without class folders"]),
    (missing_table_of_sounds, ["stimulli.tsv", "did you mean 'stimuli.tsv'"]),
    (wrong_rate, ["rate is 8000", "16000"]),
    (wrong_length, ["seconds is 1.0", "0.15"]),
    (missing_checkpoint, ["checkpoint: no file", "net.safetensors"]),
    (checkpoint_of_other_shapes, ["does not fit architecture 'ch64'", "expected"]),
    (checkpoint_cut_short, ["net.safetensors", "no readable safetensors"]),
    (unknown_layer, ["[network] net", "'conv33'", "did you mean 'conv3'"]),
    (unknown_cam_layer, ["[explain.cam]", "'conv99'"]),
    (truncated_brik, ["participant 01", "betas_run-2+tlrc.BRIK is truncated", "expected", "bytes, got"]),
    (head_without_brik, ["participant 01", "betas_run-2+tlrc.HEAD has no", "BRIK"]),
    (truncated_nifti, ["participant 03", "betas_run-2.nii.gz"]),
    (mask_without_voxels, ["participant 03", "mask.nii.gz", "holds no voxel"]),
    (missing_mask, ["participant 03", "no file", "mask.nii.gz"]),
    (condition_missing_in_a_run, ["participant 03", "is missing in run 2", 'missing="nan"']),
    (misspelt_key, ["[searchlight] unknown key 'radius_m'", "expected one of", "did you mean 'radius_mm'"]),
    (misspelt_value, ["[rsa] measure: expected", "got 'rhoa'", "did you mean 'rho-a'"]),
    (misspelt_section, ["unknown key 'searchligth'", "did you mean 'searchlight'"]),
    (no_toml, ["no valid TOML", "line 1"]),
    (not_text, ["no valid TOML"]),
    (files_without_participant, ["for 2 participants", "write {participant}"]),
    (maximum_without_flips, ["correction = 'max-t' flips signs", "expected test = 'sign-flip'"]),
    (participant_twice, ["participant '02'", "more than once"]),
    (missing_run_files, ["participant 03: expected a file", "betas_ran-{run}.nii.gz", "betas_run-1.nii.gz"]),
    (output_of_another_study, ["holds the results of another study ('other', this one is 'tiny')"]),
    (output_of_something_else, ["expected an empty or new folder", "not brainmap's"]),
    (two_conditions, ["got 2 in the study ('cat', 'dog')", "at least 3"]),
    (one_space_two_grids, ["participant 03: mask (space = 'MNI152Lin')", "participant 01"]),
    (unknown_planted_region, ["[truth] table: no region 'left-b'", "did you mean 'left-a'"]),
]

SEVERAL = [
    (
        layers_whose_rdm_is_nan_or_constant,
        [
            "[network] net: expected dissimilarities in the RDM of layer 'loudness' (Loudness) with 1 unit, got NaN "
            "for every pair (correlation needs two units or more); leave the layer out",
            "RDM of layer 'same' (Same) with 5 units, got the same values for every sound; leave the layer out",
        ],
    ),
    (two_bad_sounds, ["cat_anna.wav", "dog_ben.wav"]),
    (other_grid, ["participant 03: mask: grid (6, 7, 6) differs from the data's grid (6, 7, 5)"]),
    (shifted_rois, ["participants 01, 02, 03: ROI image: grid"]),
    (label_absent_from_table, [f"participant 0{k}: ROI image" for k in (1, 2, 3)]),
    (missing_roi_table, [f"participant 0{k}: ROI table: no file" for k in (1, 2, 3)]),
    (different_levels, [f"participant 0{k}: RDMs over different items: the networks' over" for k in (1, 2, 3)]),
    (patterns_of_other_items, [f"participant 0{k}: RDMs over different items: no pattern of" for k in (1, 2, 3)]),
    (crossnobis_without_runs, [f"participant 0{k}: [rsa] dissimilarity = 'crossnobis' needs two" for k in (1, 2, 3)]),
    (sphere_below_a_voxel, [f"participant 0{k}: searchlight: the radius of 2 mm" for k in (1, 2, 3)]),
    (sphere_too_small, [f"participant 0{k}: searchlight: a sphere of 3 mm holds 7 voxels" for k in (1, 2, 3)]),
]


def listed(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def refused(study: Any, call: Callable[..., tuple[int, list[str], list[str]]]) -> list[str]:
    """What `check` and `run` both say; neither writes."""
    before = listed(study.folder)
    code, _, checked = call("check", study.file)
    assert code == 2, checked
    code, _, said = call("run", study.file)
    assert code == 2, said
    assert said == checked
    assert all(line.startswith("brainmap: ") for line in said), said
    assert listed(study.folder) == before
    return said


@pytest.mark.parametrize(("spoil", "fragments"), ONE_EACH, ids=[spoil.__name__ for spoil, _ in ONE_EACH])
def test_a_mistake_is_one_line(
    tiny_study: Any, lines_of: Callable[..., Any], spoil: Spoil, fragments: list[str]
) -> None:
    spoil(tiny_study)
    said = refused(tiny_study, lines_of)
    assert len(said) == 1, said
    assert all(fragment in said[0] for fragment in fragments), said[0]


@pytest.mark.parametrize(("spoil", "lines"), SEVERAL, ids=[spoil.__name__ for spoil, _ in SEVERAL])
def test_every_problem_has_its_own_line(
    tiny_study: Any, lines_of: Callable[..., Any], spoil: Spoil, lines: list[str]
) -> None:
    spoil(tiny_study)
    said = refused(tiny_study, lines_of)
    assert len(said) == len(lines), said
    for fragment in lines:
        assert any(fragment in line for line in said), (fragment, said)


def test_mistakes_of_all_kinds_are_told_together(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    for spoil in (missing_audio, checkpoint_of_other_shapes, truncated_brik, mask_without_voxels):
        spoil(tiny_study)
    said = refused(tiny_study, lines_of)
    assert len(said) == 4
    for fragment in ("cat_anna.wav", "ch64", "betas_run-2+tlrc.BRIK", "holds no voxel"):
        assert sum(fragment in line for line in said) == 1


def test_an_unknown_participant_is_refused(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    code, _, said = lines_of("run", tiny_study.file, "--participant", "04")
    assert code == 2
    assert len(said) == 1
    assert "expected some of '01', '02', '03', got '04'" in said[0]
    assert not tiny_study.out.exists()


def test_a_missing_study_file_names_the_nearest(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    code, _, said = lines_of("check", tiny_study.folder / "studdy.toml")
    assert code == 2
    assert len(said) == 1
    assert "did you mean 'study.toml'" in said[0]


def test_a_report_without_results_is_refused(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    code, _, said = lines_of("report", tiny_study.file)
    assert code == 2
    assert len(said) == 1
    assert "run the study first" in said[0]


def test_only_the_chosen_participants_files_are_looked_at(tiny_study: Any) -> None:
    from brainmap.study.run import Context, check_study
    from brainmap.study.settings.study import load_study

    truncated_brik(tiny_study)
    context = Context(load_study(tiny_study.file))
    assert check_study(context, participants=["03"]).problems == ()
    assert len(check_study(context).problems) == 1


def test_a_sound_study_has_no_problem_and_check_writes_nothing(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    before = listed(tiny_study.folder)
    code, out, _ = lines_of("check", tiny_study.file)
    assert code == 0
    assert "Nothing is wrong" in out[-1]
    assert [line.split()[0] for line in out if line.strip()[:2] in ("01", "02", "03")] == ["01", "02", "03"]
    assert listed(tiny_study.folder) == before


@pytest.mark.parametrize("command", ["check", "run", "merge", "report"])
def test_a_misspelt_study_file_is_refused_before_anything_slow_is_imported(tiny_study: Any, command: str) -> None:
    tiny_study.edit(("radius_mm = 6.0", 'radius_mm = 6.0\nmeasure = "sperman"'))
    code = (
        "import sys; from brainmap.cli import main\n"
        "slow = {'numpy', 'torch', 'pandas', 'rsatoolbox'}\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, str(tiny_study.file)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2 []\n"
    assert "did you mean 'spearman'?" in done.stderr


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        (("splits = 4", "tset = 't'"), "tset", "[rsa.inference] unknown key 'tset'"),
        (('files = "sub-{participant}/betas_run-{run}.nii.gz"', 'fiels = "x"'), "fiels", "[brain] unknown key 'fiels'"),
        (("[explain]", "[explian]"), "[explian]", "unknown key 'explian'"),
        (("seed = 0", "question = '''\nseed = -1\n'''\nseed = -2"), "seed = -2", "a number of 0 or more, got -2"),
        (
            ("steps = 2,", "steps = 2, classes = 'al',", "classes = 2, ", ""),
            "steps",
            "a whole number or 'all', got 'al'",
        ),
        (('layers = ["conv1", "conv3", "output"]', "layers = 3"), "layers", "expected 'all' or a list, got 3"),
        (
            ("simulated = true", "simulated = 'perhaps'"),
            "simulated",
            "simulated: expected true or false, got 'perhaps'",
        ),
        (('participants = ["03"]', "participants = '03'"), "'03'", "[brain] participants: expected a list, got '03'"),
        (("[[network]]", "[network]"), "[network]", "got a table; write [[network]] in place of [network], once for"),
        (
            ("[explain]", "[hypothesis]\ncategory = 'condition'\n[explain]"),
            "[hypothesis]",
            "hypothesis: expected a list, got a table; write [[hypothesis]] in place of [hypothesis]",
        ),
        *(
            (
                ("[explain]", f"{wrong}\ncategory = 'condition'\n[explain]"),
                wrong,
                "did you mean [[hypothesis]], once for",
            )
            for wrong in ("[hypotheses]", "[[hypotheses]]", "[hypothesys]")
        ),
        (("[explain]", "[networks]\nname = 'x'\n[explain]"), "[networks]", "did you mean [[network]], once for each"),
        (("[explain]", "[[brains]]\nkind = 'bold'\n[explain]"), "[[brains]]", "did you mean [[brain]], once for each"),
        (('participants = ["03"]', "participants = []"), "= []", "a list of 1 or more entries, got a list of 0"),
        (('participants = ["03"]', "participants = ['0 3']"), "'0 3'", "a letter or digit first, got '0 3'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_its_line(
    tiny_study: Any, lines_of: Callable[..., Any], change: tuple[str, ...], key: str, said: str
) -> None:
    tiny_study.edit(*zip(change[::2], change[1::2], strict=True))
    number = next(k for k, line in enumerate(tiny_study.file.read_text().splitlines(), start=1) if key in line)
    code, _, lines = lines_of("check", tiny_study.file)
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith(f"brainmap: {tiny_study.file}, line {number}: ")
    assert said in lines[0]


def test_what_is_noted_of_several_networks_alike_is_one_line(tiny_study: Any) -> None:
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study

    file = tiny_study.folder / "stimuli.tsv"
    table = pd.read_csv(file, sep="\t")
    table.assign(condition="no_" + table["condition"]).to_csv(file, sep="\t", index=False)
    text = tiny_study.file.read_text()
    start, stop = text.index("[[network]]"), text.index("[[brain]]")
    tiny_study.file.write_text(text[:stop] + text[start:stop].replace('"net"', '"twin"') + text[stop:])
    said = [
        note for note in check_study(Context(load_study(tiny_study.file))).notes if "condition of the sounds" in note
    ]
    assert len(said) == 1, said
    assert said[0].startswith("networks net, twin: no condition of the sounds is one of their classes ('no_")
    assert said[0].endswith("so what they call them cannot be checked")


def test_a_list_of_tables_that_lacks_is_named_with_its_brackets(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    tiny_study.edit(("[[network]]", "[[networks]]"))
    code, _, lines = lines_of("check", tiny_study.file)
    assert code == 2
    assert any("unknown key 'networks'" in line and "did you mean [[network]]" in line for line in lines)
    assert any(line.endswith(": lacks [[network]]; add it") for line in lines), lines


def test_own_lengths_are_tried_with_the_shortest_sound(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    import soundfile

    path = tiny_study.folder / "sounds" / "dog_ben.wav"
    wave, rate = soundfile.read(path)
    soundfile.write(path, wave[:1200], rate)
    padded = lines_of("check", tiny_study.file)
    assert padded[0] == 0, padded
    told = "1 of 8 is shorter than 0.15 s and padded with zeros, 6% of all that is heard (the shortest lasts 0.075 s)"
    assert any(told in line for line in padded[1] + padded[2]), padded
    tiny_study.edit(('checkpoint = "net.safetensors"', 'checkpoint = "net.safetensors"\nown_lengths = true'))
    said = refused(tiny_study, lines_of)
    assert "[network] net: the network refuses a sound of shape (1, 1, 1200) ('dog_ben'): " in said[0]


def test_a_level_that_nobody_says_is_noted(tiny_study: Any, lines_of: Callable[..., Any]) -> None:
    import torch

    from brainmap.features.networks.checkpoints import load_network

    torch.save(load_network(tiny_study.folder / "net.safetensors").state_dict(), tiny_study.folder / "net.pt")
    sys.modules.pop("level_nets", None)
    (tiny_study.folder / "level_nets.py").write_text(
        "from brainmap.features.networks.zoo import build_network\n"
        "def build():\n    return build_network('ch32', n_classes=4, n_samples=2400)\n"
    )
    fed = 'checkpoint = "net.pt"\narchitecture = "level_nets:build"\nrate = 16000\nseconds = 0.15'
    tiny_study.edit(('checkpoint = "net.safetensors"', fed))
    code, out, err = lines_of("check", tiny_study.file)
    assert code == 0, err
    assert any("network net: level: sounds keep the level of their files, since net.pt" in line for line in out + err)
    tiny_study.edit(("seconds = 0.15", "seconds = 0.15\nlevel = 'rms'"))
    code, out, err = lines_of("check", tiny_study.file)
    assert code == 0, err
    assert not any("level: sounds keep" in line for line in out + err)
