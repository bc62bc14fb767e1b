"""Patterns from images: which volume is what, which voxels are left out, what is refused, and real data."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from rsatoolbox.data.dataset import Dataset, load_dataset
from rsatoolbox.data.noise import prec_from_residuals, prec_from_unbalanced
from rsatoolbox.rdm.calc import calc_rdm

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa import compute_rdms
from brainmap.rsa.images.files import save_image
from brainmap.rsa.patterns.normalize import average_patterns, normalize_patterns
from brainmap.rsa.patterns.screen import screen_voxels, voxel_reliability
from brainmap.rsa.patterns.volume import check_patterns, load_patterns, voxel_report
from brainmap.rsa.rdm.run_noise import noise_precision
from brainmap.rsa.rdm.sources import select_roi
from brainmap.rsa.regions.labels import Rois

SHAPE = (4, 3, 5)
AFFINE = np.diag([3.0, 3, 4, 1])
WORDS = ["no", "yes", "tree", "cat"]
DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def image(values: np.ndarray, *, affine: np.ndarray = AFFINE) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(values, np.float32), affine)


def betas(rng: np.random.Generator, *, n: int = 4, runs: int = 3) -> list[nib.Nifti1Image]:
    return [image(rng.normal(size=(*SHAPE, n))) for _ in range(runs)]


def half_mask() -> np.ndarray:
    inside = np.zeros(SHAPE)
    inside[1:3] = 1
    return inside


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_every_value_is_the_voxel_of_the_volume_it_is_labelled_with(rng: np.random.Generator) -> None:
    runs = betas(rng)
    data = load_patterns(runs, mask=image(half_mask()), conditions=WORDS, participant="01")
    where = np.argwhere(half_mask())
    for obs in range(data.n_obs):
        k, volume = int(data.obs_descriptors["run"][obs]) - 1, WORDS.index(data.obs_descriptors["condition"][obs])
        for channel, voxel in enumerate(data.channel_descriptors["voxel"]):
            assert data.measurements[obs, channel] == runs[k].get_fdata()[(*where[voxel], volume)]
    assert data.measurements.dtype == np.float64
    assert data.descriptors["participant"] == "01"


@pytest.mark.parametrize("suffix", [".nii.gz", "+orig.HEAD"])
def test_labels_written_in_the_files_give_the_same_as_a_list(
    rng: np.random.Generator, tmp_path: Path, suffix: str
) -> None:
    runs = betas(rng)
    orders = [rng.permutation(4) for _ in runs]
    files = []
    for k, (run, order) in enumerate(zip(runs, orders, strict=True)):
        files.append(tmp_path / f"run-{k}{suffix}")
        shuffled = image(run.get_fdata()[..., order])
        save_image(shuffled, files[-1], labels=[WORDS[i] for i in order])
    from_files = load_patterns(files, mask=image(half_mask()))
    from_lists = load_patterns(runs, mask=image(half_mask()), conditions=WORDS)
    assert list(from_files.obs_descriptors["condition"][:4]) == [WORDS[i] for i in orders[0]]
    by_label = [
        np.lexsort((d.obs_descriptors["condition"], d.obs_descriptors["run"])) for d in (from_files, from_lists)
    ]
    np.testing.assert_array_equal(from_files.measurements[by_label[0]], from_lists.measurements[by_label[1]])
    assert check_patterns(files, mask=image(half_mask())) == []


def test_of_a_statistics_bucket_only_coefficients_are_patterns(rng: np.random.Generator, tmp_path: Path) -> None:
    labels = ["Full_Fstat"] + [f"{w}#0_{kind}" for w in WORDS for kind in ("Coef", "Tstat")]
    bucket = image(rng.normal(size=(*SHAPE, 9)))
    save_image(bucket, tmp_path / "stats+tlrc", labels=labels, space="MNI")
    data = load_patterns(str(tmp_path / "stats+tlrc"), mask=image(half_mask()))
    assert list(data.obs_descriptors["condition"]) == WORDS
    np.testing.assert_array_equal(data.measurements, bucket.get_fdata()[half_mask() > 0].T[1::2])
    assert data.descriptors["volumes_left_out"] == 5
    with pytest.raises(InputError, match=r"expected '#n_Coef' sub-bricks .* statistics only"):
        load_patterns(str(tmp_path / "stats+tlrc[2,4,6,8]"), mask=image(half_mask()))


def test_single_trial_coefficients_are_tokens_of_their_condition(rng: np.random.Generator, tmp_path: Path) -> None:
    labels = [f"{w}#{n}_Coef" for w in WORDS[:3] for n in (0, 1)]
    history = "3dDeconvolve " + " ".join(
        f"-stim_times_IM {k} {w}.1D GAM -stim_label {k} {w}" for k, w in enumerate(WORDS[:3], 1)
    )
    save_image(image(rng.normal(size=(*SHAPE, 6))), tmp_path / "im+orig", labels=labels, history=history)
    stimuli = {f"{w}.wav": w for w in WORDS}
    data = load_patterns(tmp_path / "im+orig", mask=image(half_mask()), stimuli=stimuli)
    assert list(data.obs_descriptors["stimulus_id"][:2]) == ["no#0", "no#1"]
    assert list(data.obs_descriptors["condition"]) == ["no", "no", "yes", "yes", "tree", "tree"]


def test_a_table_says_volume_stimulus_condition_and_run(rng: np.random.Generator, tmp_path: Path) -> None:
    whole = image(rng.normal(size=(*SHAPE, 10)))
    table = pd.DataFrame(
        {
            "volume": [9, 1, 2, 4, 5, 6],
            "stimulus_id": ["no_a", "yes_a", "null_a"] * 2,
            "condition": ["no", "yes", "null"] * 2,
            "run": ["01"] * 3 + ["02"] * 3,
        }
    )
    table.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    for conditions in (tmp_path / "labels.tsv", str(tmp_path / "labels.tsv"), table):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            data = load_patterns(whole, mask=image(half_mask()), conditions=conditions)
        said = "patterns: 4 of 10 volumes of image in memory have no label in the table and are left out"
        assert [str(one.message) for one in told] == ([] if conditions is table else [said])
        assert list(data.obs_descriptors["condition"][:3]) == ["no", "yes", "null"]
        assert list(data.obs_descriptors["run"]) == ["01"] * 3 + ["02"] * 3
        np.testing.assert_array_equal(data.measurements, whole.get_fdata()[half_mask() > 0].T[table["volume"]])
        assert data.descriptors["volumes_left_out"] == 4


def test_volumes_without_a_label_are_counted_over_runs_and_statistics_are_none(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    whole = image(rng.normal(size=(*SHAPE, 6)))
    stats = [None, None, "Ttest(9)", None, None, None]
    for run in (1, 2, 3):
        save_image(whole, tmp_path / f"b{run}+orig", stats=stats, labels=[f"x{k}" for k in range(6)])
    rows = pd.DataFrame({"volume": [0, 1, 3] * 3, "condition": ["a", "b", "c"] * 3, "run": [1] * 3 + [2] * 3 + [3] * 3})
    rows.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    files = [tmp_path / f"b{run}+orig" for run in (1, 2, 3)]
    with pytest.warns(
        BrainmapWarning, match=r"2 of 6 volumes of b1\+orig have no label .*, and so are .* 2 more images"
    ):
        load_patterns(files, mask=image(half_mask()), conditions=tmp_path / "t.tsv")


def test_one_table_with_a_run_column_serves_a_file_a_run(rng: np.random.Generator) -> None:
    runs = betas(rng, runs=2)
    table = pd.DataFrame({"condition": WORDS + WORDS[::-1], "run": ["01"] * 4 + ["02"] * 4})
    data = load_patterns(runs, mask=image(half_mask()), conditions=table)
    assert list(data.obs_descriptors["condition"]) == WORDS + WORDS[::-1]
    np.testing.assert_array_equal(data.measurements[4:], runs[1].get_fdata()[half_mask() > 0].T)
    with pytest.raises(InputError, match="no row for run '3'"):
        load_patterns(runs, mask=image(half_mask()), conditions=table, runs=[1, 3])


def test_the_stimuli_table_gives_tokens_their_condition(rng: np.random.Generator, tmp_path: Path) -> None:
    stimuli = pd.DataFrame(
        {
            "stimulus_id": ["no_1", "no_2", "yes_1", "yes_2", "unheard"],
            "condition": ["no", "no", "yes", "yes", "cat"],
            "path": "x.wav",
        }
    )
    stimuli.to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    tokens = ["no_1", "no_2", "yes_1", "yes_2"]
    for given in (stimuli, tmp_path / "stimuli.tsv", dict(zip(stimuli.stimulus_id, stimuli.condition, strict=True))):
        data = load_patterns(betas(rng), mask=image(half_mask()), conditions=tokens, stimuli=given)
        assert list(data.obs_descriptors["stimulus_id"][:4]) == tokens
        assert list(data.obs_descriptors["condition"][:4]) == ["no", "no", "yes", "yes"]
    with pytest.raises(InputError, match=r"'no_3' \(volume 1.*did you mean 'no_2'"):
        load_patterns(
            betas(rng), mask=image(half_mask()), conditions=["no_1", "no_3", "yes_1", "yes_2"], stimuli=stimuli
        )


def test_a_misspelt_condition_is_told_from_the_conditions_and_by_the_table_that_has_it(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    stimuli = {f"{word}-tok{k}": word for word in ("Tone", "VowA", "VowI") for k in (1, 2)}
    pd.DataFrame({"volume": range(3), "condition": ["Tone", "vow_a", "VowI"]}).to_csv(
        tmp_path / "run1.tsv", sep="\t", index=False
    )
    run = betas(rng, n=3, runs=1)
    message = r"'vow_a' \(volume 1 of .*, by .*run1.tsv\) is no stimulus_id and no condition .*did you mean 'VowA'\?"
    with pytest.raises(InputError, match=message):
        load_patterns(run, mask=image(half_mask()), conditions=tmp_path / "run1.tsv", stimuli=stimuli)
    with pytest.raises(InputError, match=r"\(volume 1 of image in memory\) .*did you mean 'VowA'"):
        load_patterns(run, mask=image(half_mask()), conditions=["Tone", "vow_a", "VowI"], stimuli=stimuli)


def test_betas_in_one_image_take_labels_and_runs_of_volumes(rng: np.random.Generator) -> None:
    runs = betas(rng)
    whole = image(np.concatenate([run.get_fdata() for run in runs], axis=-1))
    one = load_patterns(whole, mask=image(half_mask()), conditions=WORDS * 3, runs=np.repeat([1, 2, 3], 4))
    many = load_patterns(runs, mask=image(half_mask()), conditions=WORDS)
    assert one == many


def broken_voxels(rng: np.random.Generator) -> tuple[list[nib.Nifti1Image], Rois]:
    """Of region a, one voxel is NaN once, one infinite once; of b, one is 0 throughout run 2."""
    values = [run.get_fdata() for run in betas(rng)]
    values[0][1, 0, 0, 2] = np.nan
    values[2][1, 0, 1, 0] = np.inf
    values[1][2, 0, 0] = 0
    labels = np.zeros(SHAPE, np.int32)
    labels[1], labels[2:, :2] = 1, 2
    return [image(v) for v in values], Rois(("a", "b"), labels, AFFINE)


def test_unusable_voxels_are_left_out_and_counted_by_region(rng: np.random.Generator) -> None:
    runs, rois = broken_voxels(rng)
    data = load_patterns(runs, mask=image(half_mask()), conditions=WORDS, rois=rois)
    report = voxel_report(data).set_index("roi")
    assert report.loc["mask"].to_dict() == {
        "voxels": 30,
        "outside_mask": 0,
        "dropped_nan": 2,
        "dropped_constant": 1,
        "kept": 27,
    }
    assert report.loc["a"].to_dict() == {
        "voxels": 15,
        "outside_mask": 0,
        "dropped_nan": 2,
        "dropped_constant": 0,
        "kept": 13,
    }
    assert report.loc["b"].to_dict() == {
        "voxels": 20,
        "outside_mask": 10,
        "dropped_nan": 0,
        "dropped_constant": 1,
        "kept": 9,
    }
    left_out = set(range(30)) - set(data.channel_descriptors["voxel"].tolist())
    assert left_out == {0, 1, 15}
    assert np.isfinite(data.measurements).all()


def test_one_region_has_its_own_voxels_only(rng: np.random.Generator) -> None:
    runs, rois = broken_voxels(rng)
    data = load_patterns(runs, mask=image(half_mask()), conditions=WORDS, rois=rois)
    b = select_roi(data, "b")
    inside = (rois.labels == 2)[half_mask() > 0]
    assert set(b.channel_descriptors["voxel"].tolist()) == set(np.flatnonzero(inside).tolist()) - {15}
    assert b.descriptors["roi"] == "b"
    everything = load_patterns(runs, mask=image((rois.labels == 2) & (half_mask() > 0)), conditions=WORDS)
    np.testing.assert_array_equal(b.measurements, everything.measurements)
    with pytest.raises(InputError, match="expected one of 'a', 'b', got 'c'"):
        select_roi(data, "c")


def test_patterns_survive_being_saved(rng: np.random.Generator, tmp_path: Path) -> None:
    runs, rois = broken_voxels(rng)
    data = load_patterns(runs, mask=image(half_mask()), conditions=WORDS, rois=rois)
    data.save(str(tmp_path / "patterns.h5"), file_type="hdf5")
    again = load_dataset(str(tmp_path / "patterns.h5"), file_type="hdf5")
    np.testing.assert_array_equal(again.measurements, data.measurements)
    for key in ("stimulus_id", "condition", "run"):
        assert list(again.obs_descriptors[key]) == list(data.obs_descriptors[key])
    assert list(again.channel_descriptors["roi"]) == list(data.channel_descriptors["roi"])
    pd.testing.assert_frame_equal(voxel_report(again), voxel_report(data))
    assert select_roi(again, "a").n_channel == 13


def gap_in_run_2(rng: np.random.Generator) -> dict[str, Any]:
    runs = betas(rng, runs=2)
    return {
        "files": [runs[0], image(runs[1].get_fdata()[..., :3])],
        "mask": image(half_mask()),
        "conditions": [WORDS, WORDS[:3]],
    }


def test_a_gap_kept_is_one_row_of_nan_and_costs_no_voxel(rng: np.random.Generator) -> None:
    data = load_patterns(**gap_in_run_2(rng), missing="nan")
    missing = np.isnan(data.measurements)
    assert missing.any(axis=1).tolist() == missing.all(axis=1).tolist() == [False] * 7 + [True]
    assert data.obs_descriptors["condition"][-1] == "cat"
    assert data.obs_descriptors["run"][-1] == "2"
    assert data.n_channel == 30


@pytest.mark.parametrize("filled", [0.0, np.nan])
def test_a_volume_without_any_value_is_a_gap(rng: np.random.Generator, filled: float) -> None:
    runs = betas(rng, runs=2)
    values = runs[1].get_fdata().copy()
    values[..., 3] = filled
    with pytest.raises(InputError, match=r"'cat' in run 2 \(volume 3 of image in memory\) is (0|NaN) in the whole"):
        load_patterns([runs[0], image(values)], mask=image(half_mask()), conditions=WORDS)
    data = load_patterns([runs[0], image(values)], mask=image(half_mask()), conditions=WORDS, missing="nan")
    assert np.isnan(data.measurements).all(axis=1).tolist() == [False] * 7 + [True]
    assert data.n_channel == 30


def test_tokens_of_one_run_only_need_no_other_run(rng: np.random.Generator) -> None:
    runs = betas(rng, runs=2)
    tokens = [[f"{w}_{k}" for w in WORDS] for k in (1, 2)]
    stimuli = {token: token.split("_")[0] for run in tokens for token in run}
    data = load_patterns(runs, mask=image(half_mask()), conditions=tokens, stimuli=stimuli)
    assert data.n_obs == 8
    tokens[1][0] = "yes_3"
    stimuli["yes_3"] = "yes"
    with pytest.raises(InputError, match="condition 'no' is missing in run 2"):
        load_patterns(runs, mask=image(half_mask()), conditions=tokens, stimuli=stimuli)
    kept = load_patterns(runs, mask=image(half_mask()), conditions=tokens, stimuli=stimuli, missing="nan")
    assert set(kept.obs_descriptors["stimulus_id"]) == {token for run in tokens for token in run}  # and no other
    gap = np.isnan(kept.measurements).all(axis=1)
    assert [
        (c, r) for c, r, g in zip(kept.obs_descriptors["condition"], kept.obs_descriptors["run"], gap, strict=True) if g
    ] == [("no", "2")]
    averaged = average_patterns(kept)
    assert np.isnan(averaged.measurements).all(axis=1).sum() == 1


Change = Callable[[dict[str, Any], np.random.Generator], object]


def _set(**changes: object) -> Change:
    return lambda arguments, rng: arguments.update(changes)


BAD: list[tuple[Change, str]] = [
    (_set(mask=image(np.zeros(SHAPE))), "holds no voxel"),
    (_set(mask=image(np.full(SHAPE, np.nan))), "60 voxels that are NaN"),
    (_set(mask=image(np.ones((4, 3, 6)))), r"grid \(4, 3, 5\) differs from the mask's grid \(4, 3, 6\)"),
    (_set(mask=image(np.ones(SHAPE), affine=np.diag([3.0, 3, 4.5, 1]))), "differs from the mask's grid"),
    (_set(runs=[1, 2]), "a run for each of 3 files, got 2"),
    (_set(runs=[1, 2, 2]), "run '2' is given to more than one file"),
    (_set(conditions=WORDS[:3]), "labels: expected one for each of 4 volumes .* got 3"),
    (_set(conditions=[WORDS, WORDS]), "a list of labels for each of 3 files, got 2"),
    (
        _set(conditions=["a", "b", "a", "b"]),
        "'a' occurs twice in run 1.* or add a column run that says the run of each volume",
    ),
    (_set(conditions="sub-brick"), "no sub-brick labels; name its volumes in a table: labels = in a study file"),
    (_set(conditions="labels.tsv"), "no file labels.tsv"),
    (_set(conditions=pd.DataFrame({"condition": WORDS[:3]})), "each of the 4 volumes .* got 3 rows"),
    (_set(conditions=pd.DataFrame({"word": WORDS})), "expected a column 'condition', got 'word'"),
    (_set(conditions=pd.DataFrame({"condition": WORDS, "volume": [0, 1, 2, 4]})), r"a volume from 0 to 3 .* got 4"),
    (_set(conditions=pd.DataFrame({"condition": WORDS, "volume": [0, 1, 2, 2]})), "named more than once"),
    (_set(conditions=pd.DataFrame({"condition": WORDS[:2], "volume": [0, 1]})), "at least 3 conditions .* got 2"),
    (_set(stimuli={"no": "no", "yes": "yes", "three": "x"}), "'tree'.*did you mean 'three'"),
    (_set(stimuli=pd.DataFrame({"stimulus_id": ["a", "a"], "condition": "x"})), "got more than once: 'a'"),
    (
        _set(rois=Rois(("out",), (np.indices(SHAPE)[0] == 0).astype(np.int32), AFFINE)),
        "'out': all of its 15 voxels lie outside the mask",
    ),
    (_set(rois=image(np.full(SHAPE, 0.5))), "60 voxels with other values"),
    (_set(rois=Rois(("a",), np.ones((4, 3, 6), np.int32), AFFINE)), "ROI image: grid"),
    (_set(missing="drop"), "missing: expected one of 'error', 'nan'"),
    (_set(files=[]), "expected at least one file, got none"),
    (_set(files=["nowhere.nii"]), "nowhere.nii"),
    (_set(files=["nowhere.nii"] * 3), "'nowhere.nii' is given more than once"),
    (
        lambda a, rng: a.update(gap_in_run_2(rng)),
        r"condition 'cat' is missing in run 2 \(image in memory\).*in each of 2 runs, got it in 1",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_gets_one_line_from_loading_and_from_checking(
    rng: np.random.Generator, change: Change, message: str
) -> None:
    arguments: dict[str, Any] = {"files": betas(rng), "mask": image(half_mask()), "conditions": WORDS}
    change(arguments, rng)
    with pytest.raises(InputError, match=message) as caught:
        load_patterns(**arguments)
    assert "\n" not in str(caught.value)
    problems = check_patterns(**arguments, participant="07")
    assert any(str(caught.value) in problem for problem in problems)
    assert all(problem.startswith("participant 07: ") for problem in problems)


def test_checking_finds_several_problems_at_once_and_reads_no_voxel(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a check read the images")

    monkeypatch.setattr("brainmap.rsa.patterns.volume.load_image", refuse)
    runs = [*betas(rng, runs=1), image(np.ones((4, 3, 6, 4))), image(np.ones((2, 2, 2, 4)))]
    problems = check_patterns(
        runs, mask=image(half_mask()), conditions=WORDS, rois=Rois(("a",), np.ones((3, 3, 3), np.int32), AFFINE)
    )
    assert len(problems) == 3


def made(rng: np.random.Generator, *, runs: int = 5, voxels: int = 6) -> Dataset:
    """Two tokens of four words a run, with run offsets and voxels of different noise."""
    n = 8 * runs
    return Dataset(
        rng.normal(size=(n, voxels)) * np.arange(1, voxels + 1) + np.repeat(rng.normal(size=runs), 8)[:, None],
        obs_descriptors={
            "stimulus_id": [f"{w}_{k}" for w in WORDS for k in (1, 2)] * runs,
            "condition": [w for w in WORDS for _ in (1, 2)] * runs,
            "run": np.repeat([str(r) for r in range(runs)], 8),
        },
    )


def test_tokens_are_averaged_within_runs(rng: np.random.Generator) -> None:
    data = made(rng)
    data.measurements[0] = np.nan
    average = average_patterns(data)
    assert list(average.obs_descriptors["condition"][:4]) == WORDS
    assert "stimulus_id" not in average.obs_descriptors
    np.testing.assert_array_equal(average.measurements[0], data.measurements[1])
    np.testing.assert_allclose(average.measurements[1:], data.measurements.reshape(-1, 2, 6).mean(axis=1)[1:])
    assert average.obs_descriptors["n_averaged"].tolist() == [1] + [2] * 19
    same = average_patterns(data, by="stimulus_id")
    np.testing.assert_array_equal(same.measurements, data.measurements)


def test_normalizations_are_what_their_names_say(rng: np.random.Generator) -> None:
    data = made(rng)
    x = data.measurements.reshape(5, 8, 6)
    demeaned = normalize_patterns(data, "demean-runs")
    np.testing.assert_allclose(demeaned.measurements.reshape(x.shape), x - x.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(normalize_patterns(data, "cocktail-blank").measurements, demeaned.measurements)
    z = normalize_patterns(data, "zscore-runs").measurements.reshape(x.shape)
    np.testing.assert_allclose(z.std(axis=1), 1)
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-12)
    residuals = x - x.mean(axis=0)
    sd = np.sqrt((residuals**2).sum(axis=(0, 1)) / (40 - 8))
    np.testing.assert_allclose(normalize_patterns(data, "noise-runs").measurements.reshape(x.shape), x / sd)
    assert demeaned.descriptors["normalization"] == "demean-runs"


def test_the_cocktail_blank_counts_conditions_and_not_tokens(rng: np.random.Generator) -> None:
    data = made(rng, runs=1).subset_obs("stimulus_id", ["no_1", "no_2", "yes_1", "tree_1"])
    x = data.measurements
    blank = np.mean([x[:2].mean(axis=0), x[2], x[3]], axis=0)
    np.testing.assert_allclose(normalize_patterns(data, "cocktail-blank").measurements, x - blank)


def test_demeaning_runs_leaves_crossnobis_as_it_is(rng: np.random.Generator) -> None:
    data = made(rng)
    options: dict[str, Any] = {"method": "crossnobis", "descriptor": "stimulus_id", "cv_descriptor": "run"}
    rdms: list[Any] = [calc_rdm(d, **options) for d in (data, normalize_patterns(data, "demean-runs"))]
    np.testing.assert_allclose(rdms[0].get_vectors(), rdms[1].get_vectors(), atol=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("diag", "diag"), ("shrinkage", "shrinkage_diag"), ("full", "full")])
def test_noise_precision_of_a_run_is_that_of_rsatoolbox_for_the_other_runs(
    rng: np.random.Generator, ours: Any, theirs: str
) -> None:
    data = made(rng)
    noise = noise_precision(data, method=ours)
    expected = prec_from_unbalanced(data, "stimulus_id", method=theirs)
    np.testing.assert_allclose(noise.pooled(), expected, rtol=1e-10)
    assert noise.runs == tuple(sorted({str(run) for run in data.obs_descriptors["run"]}))
    for run in noise.runs:
        others = data.subset_obs("run", [r for r in np.unique(data.obs_descriptors["run"]) if str(r) != run])
        expected = prec_from_unbalanced(others, "stimulus_id", method=theirs)
        np.testing.assert_allclose(noise.weights(run), np.diag(expected) if ours == "diag" else expected, rtol=1e-10)


def test_noise_precision_from_residuals_takes_the_voxels_that_were_kept(rng: np.random.Generator) -> None:
    runs, rois = broken_voxels(rng)
    data = load_patterns(runs, mask=image(half_mask()), conditions=WORDS, rois=rois)
    residuals = [rng.normal(size=(50, 30)) + 5 * k for k in range(3)]
    kept = np.concatenate([r - r.mean(axis=0) for r in residuals])[:, data.channel_descriptors["voxel"]]
    np.testing.assert_allclose(
        noise_precision(data, source=residuals), prec_from_residuals(kept, dof=147, method="shrinkage_diag")
    )
    a = select_roi(data, "a")
    np.testing.assert_allclose(
        noise_precision(a, source=residuals, method="full", dof=120),
        prec_from_residuals(kept[:, :13], dof=120, method="full"),
    )
    with pytest.raises(InputError, match=r"residuals of shape \(n_volumes, 13\) .* got \(50, 29\)"):
        noise_precision(a, source=residuals[0][:, :29])


def test_demeaned_runs_cost_their_degrees_of_freedom(rng: np.random.Generator) -> None:
    """White noise has a variance of 1 whatever was taken out before."""
    noise = Dataset(
        rng.normal(size=(24, 4000)),
        obs_descriptors={"condition": np.tile(list("abcdefgh"), 3), "run": np.repeat(["1", "2", "3"], 8)},
    )
    for data in (noise, normalize_patterns(noise, "demean-runs")):
        scaled = normalize_patterns(data, "noise-runs").measurements / data.measurements
        assert np.mean(scaled**-2) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: d.subset_obs("run", "0"), {}, "got none in 1 runs"),
        (
            lambda d: d,
            {"method": "full", "dof": 5, "source": np.ones((9, 1)) * np.arange(9)[:, None] * np.ones(6)},
            "6 voxels cannot be inverted from 5",
        ),
        (lambda d: d, {"dof": 5}, "dof=5 belongs to residuals"),
        (lambda d: d.subset_obs("run", ["0", "1"]), {}, "expected 3 runs or more, .* got 2.*residuals.*noise = 'none'"),
        (lambda d: d, {"method": "ledoit"}, "expected one of 'diag', 'shrinkage', 'shrinkage-eye', 'full'"),
        (lambda d: d, {"source": "residuals"}, "source of noise"),
        (lambda d: d, {"source": np.full((20, 6), np.nan)}, "hold NaN"),
        (
            lambda d: Dataset(np.tile(d.measurements[:8], (5, 1)), obs_descriptors=d.obs_descriptors),
            {},
            "6 of 6 voxels do not vary",
        ),
        (lambda d: Dataset(np.zeros((40, 7000)), obs_descriptors=d.obs_descriptors), {}, "got 7000, whose matrix"),
    ],
)
def test_noise_that_cannot_be_estimated_is_refused(
    rng: np.random.Generator, change: Callable[[Dataset], Dataset], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        noise_precision(change(made(rng)), **options)


@pytest.mark.parametrize("damage", ["truncated", "no BRIK"])
def test_damaged_files_are_found_from_the_header_and_the_size(
    rng: np.random.Generator, tmp_path: Path, damage: str
) -> None:
    files = [tmp_path / f"run-{k}+orig.HEAD" for k in (1, 2)]
    for run, file in zip(betas(rng, runs=2), files, strict=True):
        save_image(run, file, labels=WORDS)
    brik = tmp_path / "run-2+orig.BRIK"
    if damage == "truncated":
        brik.write_bytes(brik.read_bytes()[:-8])
    else:
        brik.unlink()
    problems = check_patterns(files, mask=image(half_mask()))
    assert len(problems) == 1
    assert {"truncated": "expected 960 bytes, got 952", "no BRIK": "has no run-2+orig.BRIK"}[damage] in problems[0]
    with pytest.raises(InputError, match="run-2"):
        load_patterns(files, mask=image(half_mask()))


def test_reliability_is_the_correlation_of_odd_with_even_runs(rng: np.random.Generator) -> None:
    data = made(rng)
    means = data.measurements.reshape(5, 4, 2, 6).mean(axis=2)
    halves = means[::2].mean(axis=0), means[1::2].mean(axis=0)
    expected = [np.corrcoef(halves[0][:, v], halves[1][:, v])[0, 1] for v in range(6)]
    np.testing.assert_allclose(voxel_reliability(data), expected)


def test_the_screen_keeps_the_voxels_with_signal_and_counts_the_others(rng: np.random.Generator) -> None:
    signal = rng.normal(size=(*SHAPE, 4))
    signal[:, 1:] = 0
    runs = [image(signal + 0.05 * rng.normal(size=signal.shape)) for _ in range(6)]
    labels = np.zeros(SHAPE, np.int32)
    labels[1] = 1
    data = load_patterns(runs, mask=image(half_mask()), conditions=WORDS, rois=Rois(("a",), labels, AFFINE))
    screened = screen_voxels(data, minimum_reliability=0.98)
    with_signal = np.flatnonzero((np.indices(SHAPE)[1] == 0)[half_mask() > 0])
    assert set(with_signal) <= set(screened.channel_descriptors["voxel"])
    assert screened.n_channel <= len(with_signal) + 6
    report = voxel_report(screened).set_index("roi")
    assert report.loc["mask", "kept"] == screened.n_channel
    assert report.loc["mask", "dropped_unreliable"] == 30 - screened.n_channel
    assert report.loc["a", "kept"] == select_roi(screened, "a").n_channel
    with pytest.raises(InputError, match="none of the 30 voxels of 'the mask'"):
        screen_voxels(data, minimum_reliability=1.0)


def haxby_blocks(folder: Path) -> tuple[Sequence[nib.Nifti1Image], pd.DataFrame]:
    """Block averages of each run, detrended and z-scored against rest; one image a run, and its labels."""
    from scipy.signal import detrend

    bold: Any = nib.load(folder / "bold.nii.gz")
    attributes = pd.read_csv(folder / "attributes_literal.txt", sep=" ", names=["condition", "run"])
    values = np.asarray(bold.dataobj, np.float64)
    images, labels = [], []
    for run, rows in attributes.groupby("run"):
        x = detrend(values[..., rows.index], axis=-1)
        rest = x[..., rows["condition"] == "rest"]
        names = sorted(set(rows["condition"]) - {"rest"})
        sd = rest.std(axis=-1)
        z = (x - rest.mean(axis=-1, keepdims=True)) / np.where(sd > 0, sd, 1)[..., None]
        blocks = np.stack([z[..., rows["condition"] == name].mean(axis=-1) for name in names], axis=-1)
        images.append(nib.Nifti1Image(blocks.astype(np.float32), bold.affine))
        labels += [{"condition": name, "run": str(run)} for name in names]
    return images, pd.DataFrame(labels)


@pytest.mark.skipif(not (DATA / "haxby").is_dir(), reason="the Haxby data are not here (see BRAINMAP_TEST_DATA)")
def test_real_patterns_identify_categories_across_halves_and_set_houses_apart() -> None:
    images, labels = haxby_blocks(DATA / "haxby")
    data = load_patterns(images, mask=DATA / "haxby" / "mask.nii.gz", conditions=labels, runs=list(range(12)))
    assert data.measurements.shape == (96, 530)

    demeaned = normalize_patterns(data, "demean-runs")
    names = np.unique(demeaned.obs_descriptors["condition"])
    odd = demeaned.obs_descriptors["run"].astype(int) % 2 == 1
    one, other = (
        np.array([demeaned.measurements[half & (demeaned.obs_descriptors["condition"] == n)].mean(0) for n in names])
        for half in (~odd, odd)
    )
    r = np.corrcoef(one, other)[:8, 8:]
    others = ~np.eye(8, dtype=bool)
    assert np.mean((np.diag(r)[:, None] > r)[others]) == pytest.approx(0.982, abs=0.001)
    assert np.diag(r).mean() == pytest.approx(0.450, abs=0.001)
    assert r[others].mean() == pytest.approx(-0.060, abs=0.001)

    def distances(noise: Any) -> pd.Series:
        rdm: Any = compute_rdms(data, dissimilarity="crossnobis", items="condition", noise_precision=noise)
        labels = rdm.pattern_descriptors["condition"]
        pairs = [f"{labels[i]}-{labels[j]}" for i in range(8) for j in range(i + 1, 8)]
        return pd.Series(rdm.dissimilarities[0], index=pairs).sort_values()

    # Each run weighted by the others. With one precision of all runs, as published, near pairs are twice as far apart
    # (bottle and shoe, .21, are then the nearest): the patterns' own deviations are in their weights.
    found, biased = distances("runs"), distances(noise_precision(data).pooled())
    assert (found > 0).all()
    assert set(found.index[:2]) == {"bottle-chair", "bottle-shoe"}
    assert found.iloc[:2].to_numpy() == pytest.approx(0.105, abs=0.002)
    assert biased.index[0] == "bottle-shoe"
    assert biased.iloc[0] == pytest.approx(0.211, abs=0.002)
    house = found.index.str.contains("house")
    assert house[-5:].all()
    assert (found[house].min(), found[house].max()) == pytest.approx((0.31, 0.61), abs=0.005)
    assert (found[house].mean(), found[~house].mean()) == pytest.approx((0.518, 0.229), abs=0.002)


@pytest.mark.parametrize("missing", ["n/a", "NaN", "NA", "", None, np.nan, pd.NA])
def test_a_row_of_a_table_without_a_name_is_left_out_and_said(
    rng: np.random.Generator, tmp_path: Path, missing: object
) -> None:
    whole = image(rng.normal(size=(*SHAPE, 4)))
    table = pd.DataFrame({"stimulus_id": pd.Series(["a", missing, "b", "c"], dtype="object")})
    file = table.assign(stimulus_id=["a", missing if isinstance(missing, str) else "n/a", "b", "c"])
    file.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    for conditions in (table, tmp_path / "t.tsv"):
        with pytest.warns(BrainmapWarning, match="1 of 4 rows .* name nothing"):
            data = load_patterns(whole, mask=image(half_mask()), conditions=conditions)
        assert data.obs_descriptors["stimulus_id"].tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(data.measurements, whole.get_fdata()[half_mask() > 0].T[[0, 2, 3]])


def test_one_stimulus_with_two_conditions_is_refused_in_a_table(rng: np.random.Generator) -> None:
    runs = betas(rng, runs=2)
    table = pd.DataFrame({"stimulus_id": list("abcd") * 2, "condition": list("xxyyxxyx"), "run": [1] * 4 + [2] * 4})
    with pytest.raises(InputError, match="expected one condition per name, got 'x', 'y' for 'd'"):
        load_patterns(runs, mask=image(half_mask()), conditions=table)


def test_ids_that_differ_in_folders_only_are_those_of_the_stimuli_table(rng: np.random.Generator) -> None:
    stimuli = {"cat/0a": "cat", "dog/0a": "dog", "dog/1b": "dog", "x": "cat"}
    labels = ["stimuli/cat/0a", "stimuli/dog/0a", "1b", "snd/x"]
    data = load_patterns(betas(rng, runs=1), mask=image(half_mask()), conditions=labels, stimuli=stimuli)
    assert data.obs_descriptors["stimulus_id"].tolist() == list(stimuli)
    with pytest.raises(InputError, match="'0a'"):  # of which folder?
        load_patterns(betas(rng, runs=1), mask=image(half_mask()), conditions=["0a", *labels[1:]], stimuli=stimuli)


@pytest.mark.parametrize(
    ("name", "warned"),
    [("TYPED_FITHRF_GLMDENOISE_RR_betas.nii", True), ("TYPEB_FITHRF_betas.nii", False), ("prototypes.nii", False)],
)
def test_betas_that_glmsingle_shared_over_runs_are_warned_of(tmp_path: Path, name: str, warned: bool) -> None:
    values = np.random.default_rng(0).normal(size=(*SHAPE, 8))
    nib.save(image(values), tmp_path / name)
    given = {"mask": image(np.ones(SHAPE)), "conditions": WORDS * 2}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_patterns(tmp_path / name, runs=[1] * 4 + [2] * 4, **given)
    assert any("betas of GLMsingle" in str(one.message) for one in told) == warned
    one_run = [f"{word}{k}" for k in range(2) for word in WORDS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_patterns(tmp_path / name, mask=given["mask"], conditions=one_run)
