"""Words of the command line: an option of one value is given once, files come in the order of their numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer

from brainmap import cli, rsa
from brainmap.cli import once
from brainmap.errors import InputError

cli.load_commands()
WORDS = ["cat", "dog", "tree", "yes"]
SHAPE = (4, 4, 4)


def commands(command: Any, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    below = getattr(command, "commands", {})
    return [(words, command)] + [found for name, one in below.items() for found in commands(one, (*words, name))]


def test_every_option_of_one_value_is_refused_when_given_twice_under_any_of_its_names() -> None:
    tried = 0
    for words, command in commands(typer.main.get_command(cli.app)):
        for param in command.params:
            if param.param_type_name != "option" or param.multiple:
                continue
            value = [] if param.is_flag else ["1"]
            said = " or ".join(param.opts) + ": expected once, got 2 times; leave out all but one"
            with pytest.raises(InputError) as error:
                command.make_context(" ".join(words), [param.opts[0], *value, param.opts[-1], *value])
            assert str(error.value) == said
            tried += 1
    assert tried > 250


def test_a_repeated_option_is_refused_before_anything_heavy_is_loaded() -> None:
    program = (
        "import sys\nsys.argv = ['brainmap', 'rsa', 'rdm', '--mask', 'a', '--out', 'x.h5', '--mask=b']\n"
        "from brainmap.cli import main\ntry:\n    main()\nexcept SystemExit as e:\n    print(e.code)\n"
        "print([m for m in ('numpy', 'pandas', 'torch', 'nibabel') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n[]\n"
    assert done.stderr == "brainmap: --mask: expected once, got 2 times; leave out all but one\n"


def test_every_misspelt_choice_is_refused_with_the_nearest_one() -> None:
    tried = 0
    for words, command in commands(typer.main.get_command(cli.app)):
        for param in command.params:
            choices = once._list_choices(param.type_descriptor.annotation)
            if choices:
                with pytest.raises(InputError) as error:
                    command.make_context(" ".join(words), [param.opts[0], f"{choices[-1]}x"])
                said = str(error.value)
                assert said.startswith(f"{param.opts[0]}: expected one of {choices[0]!r}")
                assert f", got '{choices[-1]}x'" in said
                assert len(choices[-1]) < 3 or said.endswith(f"; did you mean {choices[-1]!r}?")
                tried += 1
    assert tried > 70


def test_a_misspelt_choice_is_one_line_before_files_are_looked_at_or_anything_heavy_is_loaded() -> None:
    program = (
        "import sys\nsys.argv = ['brainmap', 'rsa', 'compare', 'no.h5', 'no.h5', '--measure', 'spearmann']\n"
        "from brainmap.cli import main\ntry:\n    main()\nexcept SystemExit as e:\n    print(e.code)\n"
        "print([m for m in ('numpy', 'pandas', 'torch', 'nibabel') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n[]\n"
    assert done.stderr.startswith("brainmap: --measure: expected one of 'spearman', 'rho-a'")
    assert done.stderr.endswith(", got 'spearmann'; did you mean 'spearman'?\n")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Twelve unpadded runs of which each has its own order, with tables; planted distances between the words."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4, *SHAPE)) * 3
    for run in range(1, 13):
        order = rng.permutation(4)
        values = np.stack([truth[k] + rng.normal(size=SHAPE) for k in order], axis=-1).astype("f4")
        rsa.save_image(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"run-{run}_betas.nii.gz")
        table = pd.DataFrame({"stimulus_id": [WORDS[k] for k in order]})
        table.to_csv(tmp_path / f"run-{run}_labels.tsv", sep="\t", index=False)
        left = rng.normal(size=(*SHAPE, 30)).astype("f4") * run
        rsa.save_image(nib.Nifti1Image(left, np.eye(4)), tmp_path / f"run-{run}_res.nii.gz")
    rsa.save_image(nib.Nifti1Image(np.ones(SHAPE, "f4"), np.eye(4)), tmp_path / "mask.nii.gz")
    return tmp_path


def wanted(folder: Path, n: int = 12) -> np.ndarray[Any, Any]:
    files = [str(folder / f"run-{k}_betas.nii.gz") for k in range(1, n + 1)]
    tables = [str(folder / f"run-{k}_labels.tsv") for k in range(1, n + 1)]
    data = rsa.load_patterns(files, mask=folder / "mask.nii.gz", conditions=tables)
    precision = rsa.noise_precision(data)
    return np.asarray(rsa.compute_rdms(data, noise_precision=precision, dissimilarity="crossnobis").dissimilarities)


def spread(folder: Path, what: str) -> list[str]:
    """As a shell spreads `run-*_what`: sorted as text."""
    return sorted(str(file) for file in folder.glob(f"run-*_{what}"))


@pytest.mark.parametrize("how", ["spread", "quoted", "place", "numbers"])
def test_a_table_of_labels_for_each_run_belongs_to_its_run(runs: Path, brainmap_command: Any, how: str) -> None:
    numbered = [str(runs / f"run-{k}_labels.tsv") for k in range(1, 13)]
    labels: list[Any] = {
        "spread": [w for t in spread(runs, "labels.tsv") for w in ("--labels", t)],
        "quoted": ["--labels", runs / "run-*_labels.tsv"],
        "place": ["--labels", runs / "run-{run}_labels.tsv"],
        "numbers": [w for t in numbered for w in ("--labels", t)],
    }[how]
    betas: list[Any] = [runs / "run-*_betas.nii.gz"] if how == "quoted" else spread(runs, "betas.nii.gz")
    answer = brainmap_command(
        "rsa", "rdm", "--betas", *betas, "--mask", runs / "mask.nii.gz", *labels, "--out", runs / f"{how}.h5"
    )
    assert answer.code == 0, answer.err
    np.testing.assert_allclose(rsa.load_rdms(runs / f"{how}.h5").dissimilarities, wanted(runs), rtol=1e-12)
    assert ("--betas: files are taken in numeric order" in answer.err) == (how != "quoted")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            [1, 2],
            "--labels: expected one file for each of 3 images, got 2; give one for each, one for all, or one name "
            "with {run}",
        ),
        ([2, 1, 3], "give tables and images in one order"),
    ],
)
def test_other_numbers_or_orders_of_tables_are_refused(
    runs: Path, lines_of: Any, tables: list[int], message: str
) -> None:
    labels = [w for k in tables for w in ("--labels", runs / f"run-{k}_labels.tsv")]
    betas = [runs / f"run-{k}_betas.nii.gz" for k in (1, 2, 3)]
    code, _, said = lines_of(
        "rsa", "rdm", "--betas", *betas, "--mask", runs / "mask.nii.gz", *labels, "--out", runs / "x.h5"
    )
    assert (code, len(said)) == (2, 1)
    assert message in said[0]


def test_one_table_without_runs_that_serves_several_runs_is_said(runs: Path, brainmap_command: Any) -> None:
    betas = [runs / f"run-{k}_betas.nii.gz" for k in (1, 2, 3)]
    words = ["rsa", "rdm", "--betas", *betas, "--mask", runs / "mask.nii.gz", "--labels", runs / "run-1_labels.tsv"]
    answer = brainmap_command(*words, "--out", runs / "x.h5")
    assert answer.code == 0
    assert "run-1_labels.tsv has no column 'run' and serves all 3 images" in answer.err


def test_runs_are_called_as_their_files_say(runs: Path, brainmap_command: Any) -> None:
    table = pd.concat([pd.read_csv(runs / f"run-{k}_labels.tsv", sep="\t").assign(run=k) for k in range(1, 13)])
    table.to_csv(runs / "all.tsv", sep="\t", index=False)
    betas = [runs / f"run-{k}_betas.nii.gz" for k in (5, 7, 11)]  # not the first three of the table
    answer = brainmap_command(
        "rsa",
        "rdm",
        "--betas",
        *betas,
        "--mask",
        runs / "mask.nii.gz",
        "--labels",
        runs / "all.tsv",
        "--out",
        runs / "x.h5",
    )
    assert answer.code == 0, answer.err
    tables = [str(runs / f"run-{k}_labels.tsv") for k in (5, 7, 11)]
    data = rsa.load_patterns([str(b) for b in betas], mask=runs / "mask.nii.gz", conditions=tables)
    right = rsa.compute_rdms(data, noise_precision=rsa.noise_precision(data), dissimilarity="crossnobis")
    np.testing.assert_allclose(rsa.load_rdms(runs / "x.h5").dissimilarities, right.dissimilarities, rtol=1e-12)


@pytest.mark.parametrize("how", ["spread", "quoted", "repeated"])
def test_residuals_are_several_files_or_a_pattern_and_never_betas(runs: Path, brainmap_command: Any, how: str) -> None:
    files = spread(runs, "res.nii.gz")
    residuals: list[Any] = {
        "spread": ["--residuals", *files],
        "quoted": ["--residuals", runs / "run-*_res.nii.gz"],
        "repeated": [w for f in files for w in ("--residuals", f)],
    }[how]
    answer = brainmap_command(
        "rsa",
        "rdm",
        "--betas",
        *spread(runs, "betas.nii.gz"),
        "--mask",
        runs / "mask.nii.gz",
        "--labels",
        runs / "run-{run}_labels.tsv",
        "--noise",
        "residuals",
        *residuals,
        "--out",
        runs / "x.h5",
    )
    assert answer.code == 0, answer.err
    from brainmap.rsa.patterns.residuals import load_residuals

    order = [str(runs / f"run-{k}_res.nii.gz") for k in range(1, 13)]
    left = load_residuals(order, mask=rsa.load_image(runs / "mask.nii.gz"))
    tables = [str(runs / f"run-{k}_labels.tsv") for k in range(1, 13)]
    betas = [str(runs / f"run-{k}_betas.nii.gz") for k in range(1, 13)]
    data = rsa.load_patterns(betas, mask=runs / "mask.nii.gz", conditions=tables)
    precision = rsa.noise_precision(data, source=left.parts, dof=left.dof)
    right = rsa.compute_rdms(data, noise_precision=precision, dissimilarity="crossnobis")
    np.testing.assert_allclose(rsa.load_rdms(runs / "x.h5").dissimilarities, right.dissimilarities, rtol=1e-9)


def test_a_pattern_that_no_file_fits_is_refused(runs: Path, lines_of: Any) -> None:
    code, _, said = lines_of(
        "rsa", "rdm", "--betas", runs / "ron-*.nii", "--mask", runs / "mask.nii.gz", "--out", runs / "x.h5"
    )
    assert (code, said) == (
        2,
        [f"brainmap: --betas: expected files that fit {runs / 'ron-*.nii'}, got none; check the pattern"],
    )


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("sub-01_trained.nii.gz", "sub-01_untrained.nii.gz", True),
        ("sub-01/map.nii.gz", "sub-01/other.nii.gz", True),
        ("sub-01_ses-1.nii.gz", "sub-01_ses-2.nii.gz", True),
        ("sub-01_map.nii.gz", "sub-1_map.nii.gz", False),
        ("sub-01/map.nii.gz", "sub-02/map.nii.gz", False),
    ],
)
def test_group_maps_refuse_two_maps_of_one_participant(
    tmp_path: Path, lines_of: Any, first: str, second: str, refused: bool
) -> None:
    rng = np.random.default_rng(3)
    names = [first, second, *(f"sub-{k}/map.nii.gz" for k in range(11, 15))]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        rsa.save_image(nib.Nifti1Image(rng.normal(size=SHAPE).astype("f4"), np.eye(4)), tmp_path / name, space="MNI")
    code, out, said = lines_of("rsa", "group", *(tmp_path / name for name in names), "--out", tmp_path / "g.nii.gz")
    assert code == (2 if refused else 0)
    if refused:
        assert len(said) == 1
        assert "of sub-01, who would count twice; leave one out" in said[0]
    else:
        assert out[0].startswith("6 participants")
