"""The brain side of a study: kinds of regions, screens, normalization, noise; warped maps; regions without scores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.regions.rois import AUDITORY_CENTERS
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.study.run import Context, check_study, run_study
from brainmap.study.settings.study import load_study
from brainmap.study.stages.brains import (
    estimate_roi_precision,
    load_glm_residuals,
    load_normalized_patterns,
    load_regions,
    map_noise,
    narrow_patterns,
    screen_patterns,
)

CROSSNOBIS = SearchlightSettings(dissimilarity="crossnobis")
ROIS = 'rois = { image = "rois.nii.gz", table = "rois.tsv" }'
SILENT = ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", "")
ROIS_ONLY = ("[searchlight]\nradius_mm = 6.0\n", "")


def person_of(study: Any, label: str = "01") -> Any:
    return next(p for p in load_study(study.file).participants() if p.label == label)


def data_of(person: Any, study: Any) -> Any:
    context = Context(load_study(study.file))
    return load_normalized_patterns(person, context.stimuli, load_regions(person))


def replace_rois(study: Any, rois: str, **more: str) -> Any:
    """Other regions for all, and further keys."""
    text = study.file.read_text().replace(ROIS, "\n".join([rois, *(f"{k} = {v}" for k, v in more.items())]))
    study.file.write_text(text)
    return study


def test_patterns_are_narrowed_only_where_nothing_is_lost(tiny_study: Any) -> None:
    data = data_of(person_of(tiny_study), tiny_study)
    assert data.measurements.dtype == np.float64
    narrow = narrow_patterns(data)
    assert narrow.measurements.dtype == np.float32
    assert data.measurements.dtype == np.float64  # the data set itself is as it was
    np.testing.assert_array_equal(narrow.measurements, data.measurements)
    np.testing.assert_array_equal(narrow.channel_descriptors["voxel"], data.channel_descriptors["voxel"])
    divided = rsa.normalize_patterns(data, "zscore-runs")
    assert narrow_patterns(divided) is divided


def test_regions_may_be_masks_one_a_region(tiny_study: Any) -> None:
    whole = rsa.load_image(tiny_study.folder / "rois.nii.gz")
    for k, name in enumerate(("left", "right"), start=1):
        part = nib.Nifti1Image((np.asarray(whole.dataobj) == k).astype("u1"), whole.affine)
        rsa.save_image(part, tiny_study.folder / f"sub-01_{name}.nii.gz", space="MNI")
    replace_rois(
        tiny_study,
        'rois = { masks = { a-left = "sub-{participant}_left.nii.gz", a-right = "sub-{participant}_right.nii.gz" }, '
        'hemispheres = "pooled" }',
    )
    person = person_of(tiny_study)
    rois = load_regions(person)
    assert rois.names == ("a",)
    assert rois.sizes["a"] == int(((np.asarray(whole.dataobj) > 0) & (np.asarray(whole.dataobj) < 3)).sum())
    assert {Path(name).name for name in person.roi_files} == {"sub-01_left.nii.gz", "sub-01_right.nii.gz"}


def test_regions_may_be_spheres_in_the_space_of_the_images(tiny_study: Any) -> None:
    centers = "centers = { a = [-6, -3, -3], b = [6, 3, 0] }, radius_mm = 4, minimum_voxels = 3"
    replace_rois(tiny_study, f'rois = {{ {centers}, coordinates = "MNI" }}')
    rois = load_regions(person_of(tiny_study))
    expected = rsa.sphere_rois(
        {"a": (-6, -3, -3), "b": (6, 3, 0)},
        radius_mm=4,
        space="MNI",
        reference_space="MNI",
        reference=tiny_study.folder / "sub-01" / "mask+tlrc",
        mask=tiny_study.folder / "sub-01" / "mask+tlrc",
    )
    np.testing.assert_array_equal(rois.labels, expected.labels)
    tiny_study.edit(('coordinates = "MNI"', 'coordinates = "TT_N27"'))
    with pytest.raises(InputError, match="coordinates are in TT_N27"):
        load_regions(person_of(tiny_study))


def test_the_auditory_centers_are_those_of_the_table(tiny_study: Any) -> None:
    replace_rois(tiny_study, 'rois = { centers = "auditory", radius_mm = 8 }')
    with pytest.raises(InputError, match=r"center of 'left-heschl'.* lies outside the image"):
        load_regions(person_of(tiny_study))
    assert set(AUDITORY_CENTERS) == {f"{s}-{r}" for s in ("left", "right") for r in ("heschl", "pstg", "astg")}


@pytest.mark.parametrize(
    ("rois", "message"),
    [
        ('rois = { image = "rois.nii.gz", centers = "auditory" }', "got image and centers; give exactly one"),
        ("rois = { }", "expected one of image, masks and centers, got none of them"),
        ('rois = { centers = "auditory" }', "lacks the key 'radius_mm'"),
        ("rois = { centers = { a = [1, 2, 3] }, radius_mm = 3 }", "lacks the key 'coordinates'"),
    ],
)
def test_regions_of_no_kind_or_of_two_are_refused(tiny_study: Any, rois: str, message: str) -> None:
    replace_rois(tiny_study, rois)
    with pytest.raises(InputError) as error:
        load_study(tiny_study.file)
    assert message in str(error.value)


def test_screens_leave_out_voxels_and_the_table_says_why(tiny_study: Any) -> None:
    mask = rsa.load_image(tiny_study.folder / "sub-01" / "mask+tlrc")
    t = np.full(mask.shape, 5.0, "f4")
    t[0] = -5.0  # no answer to sound in the first slice
    rsa.save_image(nib.Nifti1Image(t, mask.affine), tiny_study.folder / "sound.nii.gz", stats=["Ttest(20)"])
    replace_rois(tiny_study, ROIS, screen='{ reliability = 0.2, sound = "sound.nii.gz" }')
    person = person_of(tiny_study)
    data = data_of(person, tiny_study)
    kept = screen_patterns(person, data)
    report = rsa.voxel_report(kept).set_index("roi")
    assert report.loc["mask", "dropped_unresponsive"] == 7 * 4
    assert report.loc["left-a", "dropped_unresponsive"] == 28
    assert report.loc["belt", "dropped_unresponsive"] == 0
    assert report.loc["mask", "dropped_unreliable"] > 0
    assert report.loc["mask", "kept"] == kept.n_channel
    expected = (rsa.voxel_reliability(data) >= 0.2) & (np.asarray(data.channel_descriptors["voxel"]) >= 28)
    np.testing.assert_array_equal(kept.measurements, data.measurements[:, expected])
    assert str(tiny_study.folder / "sound.nii.gz") in person.inputs


def test_commands_screen_normalize_and_tell_what_was_left_out(tiny_study: Any, lines_of: Any) -> None:
    own, out = tiny_study.folder / "sub-01", tiny_study.folder / "rdms.h5"
    betas = [own / f"betas_run-{run}+tlrc" for run in (1, 2, 3)]
    table = tiny_study.folder / "voxels.tsv"
    code, _, said = lines_of(
        "rsa",
        "rdm",
        "--betas",
        *betas,
        "--mask",
        own / "mask+tlrc",
        "--rois",
        tiny_study.folder / "rois.nii.gz",
        "--roi-table",
        tiny_study.folder / "rois.tsv",
        "--reliability",
        0.3,
        "--normalize",
        "demean-runs,zscore-runs",
        "--dissimilarity",
        "correlation",
        "--noise",
        "none",
        "--voxels",
        table,
        "--out",
        out,
    )
    assert code == 0, said
    data = rsa.screen_voxels(
        rsa.load_patterns(
            betas,
            mask=own / "mask+tlrc",
            rois=rsa.load_rois(
                tiny_study.folder / "rois.nii.gz", table=tiny_study.folder / "rois.tsv", mask=own / "mask+tlrc"
            ),
        ),
        minimum_reliability=0.3,
    )
    assert pd.read_csv(table, sep="\t")["kept"].tolist() == rsa.voxel_report(data)["kept"].tolist()
    data = rsa.normalize_patterns(rsa.normalize_patterns(data, "demean-runs"), "zscore-runs")
    expected = rsa.compute_rdms(data, rois="all", dissimilarity="correlation")
    np.testing.assert_allclose(rsa.load_rdms(out).dissimilarities, expected.dissimilarities)


def test_screens_that_cannot_work_are_refused(tiny_study: Any) -> None:
    mask = rsa.load_image(tiny_study.folder / "sub-01" / "mask+tlrc")
    plain = rsa.save_image(nib.Nifti1Image(np.ones(mask.shape, "f4"), mask.affine), tiny_study.folder / "plain.nii.gz")
    with pytest.raises(InputError, match="does not say what distribution"):
        rsa.responsive_voxels(plain)
    low = rsa.save_image(rsa.load_image(plain), tiny_study.folder / "low.nii.gz", stats=["Zscore()"])
    with pytest.raises(InputError, match=r"no voxel has p <= 0\.001"):
        rsa.responsive_voxels(low)
    data = data_of(person_of(tiny_study), tiny_study)
    with pytest.raises(InputError, match="expected minimum_reliability, sound, or both"):
        rsa.screen_voxels(data)
    with pytest.raises(InputError, match="needs the mask="):
        rsa.screen_voxels(data, sound=low, p=0.5)


@pytest.mark.parametrize(("stat", "value", "p"), [("Ttest(20)", 3.5518, 0.001), ("Zscore()", 1.6449, 0.05)])
def test_thresholds_are_those_of_tables(tmp_path: Path, stat: str, value: float, p: float) -> None:
    values = np.array([value - 1e-3, value + 1e-3, -value - 1], "f4").reshape(3, 1, 1)
    path = rsa.save_image(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), tmp_path / "x.nii", stats=[stat])
    assert rsa.responsive_voxels(path, p=p).get_fdata().ravel().tolist() == [0, 1, 0]


def test_normalization_and_residuals_are_applied_as_named(tiny_study: Any) -> None:
    rng = np.random.default_rng(2)
    mask = rsa.load_image(tiny_study.folder / "sub-01" / "mask+tlrc")
    noise = rng.normal(size=(*mask.shape, 40)).astype("f4")
    noise[..., 7] = 0  # a censored volume
    rsa.save_image(nib.Nifti1Image(noise, mask.affine), tiny_study.folder / "errts_01.nii.gz")
    replace_rois(
        tiny_study,
        ROIS,
        normalize='["demean-runs"]',
        noise='"residuals"',
        covariance='"diag"',
        residuals='"errts_{participant}.nii.gz"',
    )
    person = person_of(tiny_study)
    data = data_of(person, tiny_study)
    for run in ("1", "2", "3"):
        mine = np.asarray(data.obs_descriptors["run"]) == run
        np.testing.assert_allclose(data.measurements[mine].mean(axis=0), 0, atol=1e-9)
    (left,) = load_glm_residuals(person).parts
    assert left.shape == (39, data.n_channel)
    precision = estimate_roi_precision(person, data, ["belt"])
    assert precision is not None
    inside = np.asarray(data.channel_descriptors["roi"]) == "belt"
    np.testing.assert_allclose(1 / np.diag(precision["belt"]), left[:, inside].var(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(map_noise(person, data, CROSSNOBIS, "voxel"), left.std(axis=0, ddof=1), rtol=1e-9)
    (tiny_study.folder / "errts_01.json").write_text('{"ResidualDegreesOfFreedom": 19}')
    counted = estimate_roi_precision(person, data, ["belt"])
    assert counted is not None
    np.testing.assert_allclose(np.diag(counted["belt"]), np.diag(precision["belt"]) * 19 / 38, rtol=1e-9)
    np.testing.assert_allclose(
        map_noise(person, data, CROSSNOBIS, "voxel"), left.std(axis=0, ddof=1) * np.sqrt(2), rtol=1e-9
    )
    tiny_study.edit(("errts_{participant}", "none_{participant}"))
    problems = check_study(Context(load_study(tiny_study.file))).problems
    assert any("no file" in problem and "none_01" in problem for problem in problems)


def test_a_region_too_large_for_its_noise_precision_is_found_by_check(
    tiny_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainmap.study.check.MOST_CHANNELS", 50)
    found = check_study(Context(load_study(tiny_study.file))).problems
    assert any("voxels, got 56, whose noise precision would take" in problem for problem in found)


def test_a_region_without_a_score_is_left_out_and_said(
    tiny_study: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainmap.study.stages import participants

    tiny_study.edit(SILENT, ROIS_ONLY)
    truth = pd.DataFrame({"region": ["left-a", "right-a", "belt"], "layer": ["conv1", "conv3", ""]})
    truth.to_csv(tiny_study.folder / "truth.tsv", sep="\t", index=False)
    tiny_study.file.write_text(tiny_study.file.read_text() + '\n[truth]\ntable = "truth.tsv"\n')

    def without(*args: Any, **given: Any) -> Any:
        rdms = rsa.compute_rdms(*args, **given)
        rdms.dissimilarities[[roi == "belt" for roi in rdms.rdm_descriptors["roi"]]] = np.nan
        return rdms

    monkeypatch.setattr(participants, "compute_rdms", without)
    with caplog.at_level(logging.INFO, logger="brainmap"):
        tiny_study.run()
    read = {
        name: pd.read_csv(tiny_study.out / "group" / f"{name}.tsv", sep="\t")
        for name in ("best_layers", "statistics", "recovery", "scores")
    }
    assert read["best_layers"]["roi"].tolist() == ["left-a", "right-a"]
    assert read["recovery"]["region"].tolist() == ["left-a", "right-a"]
    assert read["statistics"].query("roi == 'belt'")["p"].isna().all()
    assert any("recovery is not told of 'belt'" in r.getMessage() for r in caplog.records)


# Warped maps ------------------------------------------------------------------------------------------------------


@pytest.fixture
def native(tiny_study: Any) -> Any:
    """The tiny study in native space, with warped maps asked for."""
    return tiny_study.edit(
        ('space = "MNI152Lin"\n\n[[brain]]', 'space = "native"\n\n[[brain]]'),
        ('space = "MNI152Lin"\n\n[rsa]', 'space = "native"\n\n[rsa]'),
        ("radius_mm = 6.0", 'radius_mm = 6.0\nwarped = "warped/{name}.nii.gz"\nwarped_space = "MNI152Lin"'),
        SILENT,
    )


def test_group_maps_wait_for_warped_ones_and_say_which(native: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="brainmap"):
        computed = native.run()
    assert "group_rois" in computed
    assert "group_maps" not in computed
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("group maps")]
    assert "9 warped maps are not there yet" in line
    first = next(iter(sorted(native.out.glob("sub-01/func/*trained*_statmap.nii.gz"))))
    assert f"{first}  ->  {native.folder / 'warped' / first.name}" in line
    (native.folder / "warped").mkdir()
    for path in native.out.glob("sub-*/func/*trained*_stat-spearman_statmap.nii.gz"):
        image = rsa.load_image(path)
        rsa.save_image(image, native.folder / "warped" / path.name, space="MNI")
    computed = native.run()
    assert "group_maps" in computed
    assert not any(stage.startswith("sub") for stage in computed)
    assert len(list(native.out.glob("group/*space-MNI152Lin*stat-mean*.nii.gz"))) == 3
    assert native.run() == set()


@pytest.mark.parametrize(
    ("warped", "message"),
    [
        ('warped = "w/{layer}.nii"\nwarped_space = "MNI"', "expected a name with {participant}"),
        ('warped = "w/{participant}.nii"\nwarped_space = "MNI"', "expected a name with {layer}"),
        ('warped = "w/{name}.nii"', "warped and warped_space go together"),
    ],
)
def test_a_pattern_that_gives_one_file_for_several_maps_is_refused(tiny_study: Any, warped: str, message: str) -> None:
    tiny_study.edit(("radius_mm = 6.0", f"radius_mm = 6.0\n{warped}"))
    with pytest.raises(InputError) as error:
        load_study(tiny_study.file)
    assert message in str(error.value)


def test_run_and_check_are_one(tiny_study: Any) -> None:
    tiny_study.edit(("rois.nii.gz", "nothing.nii.gz"))
    with pytest.raises(InputError, match=r"participant 01: .*nothing.nii.gz"):
        run_study(Context(load_study(tiny_study.file)))


def test_searchlights_take_the_noise_covariance_of_each_sphere(tiny_study: Any) -> None:
    light = 'radius_mm = 6.0\ndissimilarity = "crossnobis"\nnoise_per = "sphere"\nshrinkage = "eye"'
    tiny_study.edit(("radius_mm = 6.0", light), SILENT)
    tiny_study.run("03")
    person = person_of(tiny_study, "03")
    models = rsa.load_rdms(next(tiny_study.out.rglob("*net*rdms.h5")))
    wanted = rsa.searchlight(
        data_of(person, tiny_study),
        models,
        mask=person.masks[0],
        radius_mm=6.0,
        dissimilarity="crossnobis",
        noise="runs",
        shrinkage="eye",
    )
    maps = sorted(tiny_study.out.glob("sub-03/**/*conv1*stat-spearman*.nii.gz"))
    assert len(maps) == 1
    np.testing.assert_allclose(rsa.load_image(maps[0]).get_fdata(), wanted["conv1"].get_fdata(), rtol=1e-6)


@pytest.mark.parametrize(("noise", "wanted"), [("none", "noise_per = 'sphere' needs [brain] noise"), ("runs", None)])
def test_a_covariance_of_spheres_needs_noise_to_come_from(tiny_study: Any, noise: str, wanted: str | None) -> None:
    tiny_study.edit(
        ("radius_mm = 6.0", 'radius_mm = 6.0\nnoise_per = "sphere"'),
        SILENT,
        ('space = "MNI152Lin"', f'space = "MNI152Lin"\nnoise = "{noise}"'),
    )
    problems = check_study(Context(load_study(tiny_study.file))).problems
    assert bool(problems) == (wanted is not None)
    assert wanted is None or wanted in problems[0]
