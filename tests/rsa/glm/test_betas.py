"""BOLD to betas: equal to nilearn, to naive LSS, to planted truth; what is chosen, said and refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel, compute_regressor, make_first_level_design_matrix, run_glm

from brainmap import rsa
from brainmap.errors import BrainmapError, BrainmapWarning, InputError
from brainmap.rsa.glm.design import GlmSettings, build_event_regressors, find_dependent_columns
from brainmap.rsa.glm.drifts import compute_cosines
from brainmap.rsa.glm.plan import RunSettings, plan_betas
from brainmap.rsa.glm.reml import measure_lag1
from brainmap.rsa.glm.timing import Timing

# Runs are short here, so that any drift term takes much of them; the warning itself is tested below.
pytestmark = pytest.mark.filterwarnings("ignore:design. drift terms:brainmap.errors.BrainmapWarning")
SHAPE = (3, 4, 2)
N_VOXELS = int(np.prod(SHAPE))
NAMES = ("cat", "dog", "tree", "yes")


def table(n_each: int = 3, *, gap: float = 9.0, seed: int = 0, duration: float = 2.0) -> pd.DataFrame:
    """Events of four names in random order, a few seconds apart, off the grid of volumes."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.repeat(NAMES, n_each))
    onsets = 6.0 + gap * np.arange(len(names)) + rng.uniform(-1, 1, len(names)).round(2)
    return pd.DataFrame({"onset": onsets, "duration": duration, "trial_type": names})


def noise_image(n: int, *, seed: int = 0, ar: float = 0.3, t_r: float | None = 2.0) -> nib.Nifti1Image:
    """Autocorrelated noise on a baseline, a little different in every voxel."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(*SHAPE, n))
    for k in range(1, n):
        white[..., k] += ar * rng.uniform(0.5, 1.5, SHAPE) * white[..., k - 1]
    return image_of(1000 + 10 * white, t_r)


def image_of(values: np.ndarray, t_r: float | None = 2.0) -> nib.Nifti1Image:
    image = nib.Nifti1Image(values.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "unknown" if t_r is None else "sec")
    if t_r is not None and values.ndim == 4:
        image.header.set_zooms((3.0, 3.0, 3.0, t_r))
    return image


def voxels(image: nib.Nifti1Image) -> np.ndarray:
    """Volumes by voxels, in C order."""
    return np.asarray(image.dataobj, float).reshape(-1, image.shape[-1]).T


@pytest.mark.parametrize("hrf", ["glover", "spm", "spm + derivative", "glover + derivative + dispersion"])
def test_condition_betas_are_those_of_nilearn(hrf: str) -> None:
    bold, events = noise_image(70), table()
    found = rsa.fit_betas(bold, events, hrf=hrf, noise="ols", high_pass=100.0)
    mask = image_of(np.ones(SHAPE), None)
    model = FirstLevelModel(
        t_r=2.0,
        hrf_model=hrf,
        drift_model="cosine",
        high_pass=0.01,
        noise_model="ols",
        mask_img=mask,
        signal_scaling=False,
        minimize_memory=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(bold, events=events)
        theirs = [model.compute_contrast(name, output_type="effect_size") for name in NAMES]
        variances = [model.compute_contrast(name, output_type="effect_variance") for name in NAMES]
    assert found.labels == NAMES
    assert set(found.design[0]) == set(model.design_matrices_[0])
    np.testing.assert_allclose(found.design[0], model.design_matrices_[0][found.design[0].columns], atol=1e-9)
    expected = np.concatenate([voxels_of(image) for image in theirs])
    np.testing.assert_allclose(voxels(found.image), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(voxels(found.variance), np.concatenate([voxels_of(v) for v in variances]), rtol=1e-5)


@pytest.mark.parametrize(("t_r", "start"), [(2.0, 0.0), (0.72, 0.36), (3.3, 1.0)])
@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_responses_to_single_events_are_nilearn_s(t_r: float, start: float, hrf: str) -> None:
    rng = np.random.default_rng(0)
    times = start + t_r * np.arange(60)
    onset = np.r_[rng.uniform(-20, 60 * t_r - 1, 15).round(2), 0.0, 10.0, 60 * t_r - 0.5]
    events = pd.DataFrame({"onset": onset, "duration": np.r_[rng.uniform(0, 20, 15).round(1), 0.0, 0.0, 30.0]})
    found = build_event_regressors(events, Timing(times, t_r, np.arange(60) == 0, ""), hrf)
    for k, (begin, lasted) in enumerate(zip(events["onset"], events["duration"], strict=True)):
        expected = compute_regressor([[begin], [lasted], [1.0]], hrf, times)[0]
        np.testing.assert_allclose(found[:, k], expected, atol=1e-10)


def voxels_of(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj, float).reshape(1, -1)


def naive_lss(y: np.ndarray, events: pd.DataFrame, trial: int, others: str, hrf: str = "glover") -> np.ndarray:
    """The beta of one trial by a refit of its own with nilearn, ordinary least squares."""
    own = events.copy()
    rest = "rest" if others == "all" else events["trial_type"] + "-rest"
    own["trial_type"] = np.where(np.arange(len(own)) == trial, "this", rest)
    design = make_first_level_design_matrix(np.arange(len(y)) * 2.0, own, hrf_model=hrf, high_pass=0.01)
    labels, results = run_glm(y, design.to_numpy(), "ols")
    found: np.ndarray = results[labels[0]].theta[design.columns.get_loc("this")]
    return found


@pytest.mark.parametrize("others", ["all", "condition"])
@pytest.mark.parametrize("hrf", ["glover", "spm + derivative"])
def test_lss_is_a_refit_of_each_trial(others: str, hrf: str) -> None:
    bold, events = noise_image(75), table(n_each=4, gap=7.0)
    found = rsa.fit_betas(bold, events, model="lss", others=others, hrf=hrf, noise="ols", high_pass=100.0)
    expected = np.stack([naive_lss(voxels(bold), events, k, others, hrf) for k in range(len(events))])
    np.testing.assert_allclose(voxels(found.image), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert sorted(found.labels) == sorted(f"{name}#{k}" for name in NAMES for k in range(4))
    assert list(found.conditions) == events["trial_type"].tolist()


def test_lss_with_others_by_condition_is_lsa_where_every_trial_is_its_own_condition() -> None:
    bold, events = noise_image(75), table(n_each=4, gap=7.0)
    events["trial_type"] = [f"t{k:02d}" for k in range(len(events))]
    one = rsa.fit_betas(bold, events, model="lss", others="condition", noise="ols")
    other = rsa.fit_betas(bold, events, model="lsa", noise="ols")
    np.testing.assert_allclose(voxels(one.image), voxels(other.image), rtol=1e-4, atol=1e-3)
    assert one.labels == other.labels == tuple(events["trial_type"])


def test_a_simulated_participant_s_time_series_give_back_the_planted_patterns() -> None:
    from brainmap.rsa.simulation.bold import simulate_bold

    rng = np.random.default_rng(0)
    mask = image_of(np.ones((8, 8, 6)), None)
    region = np.zeros((8, 8, 6), bool)
    region[2:6, 2:6, 1:5] = True
    items = [f"s{k}" for k in range(12)]
    person = rsa.simulate_participant(
        {"a": rng.normal(size=(12, 20))}, {"a": region}, mask=mask, rng=rng, n_runs=3, signal=1.0
    )
    bold = simulate_bold(person, items, mask=mask, rng=rng)
    found = rsa.fit_betas(list(bold.images), list(bold.events), hrf="spm", mask=mask)
    data = rsa.load_patterns(found.image, mask=mask, conditions=found.labels, runs=found.runs)
    averaged = np.stack([data.measurements[data.obs_descriptors["stimulus_id"] == i].mean(axis=0) for i in items])
    direct = person.betas.mean(axis=0)
    inside = person.voxels["a"]
    planted = person.planted["a"] - person.planted["a"].mean(axis=0)

    def recovered(patterns: np.ndarray) -> float:
        own = patterns[:, inside] - patterns[:, inside].mean(axis=0)
        return float(np.corrcoef(own.ravel(), planted.ravel())[0, 1])

    assert recovered(averaged) > 0.85 * recovered(direct)


def test_lsa_is_nilearn_with_a_name_a_trial() -> None:
    bold, events = noise_image(75), table(n_each=4, gap=7.0)
    found = rsa.fit_betas(bold, events, model="lsa", noise="ols", high_pass=100.0)
    own = events.assign(trial_type=[f"t{k:02d}" for k in range(len(events))])
    x = make_first_level_design_matrix(np.arange(75) * 2.0, own, high_pass=0.01)
    expected = np.linalg.lstsq(x.to_numpy(), voxels(bold), rcond=None)[0][: len(events)]
    np.testing.assert_allclose(voxels(found.image), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("model", ["condition", "lsa", "lss"])
@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_planted_responses_come_back_from_every_model(model: str, noise: str) -> None:
    rng = np.random.default_rng(1)
    events = table(gap=16.0)
    x = make_first_level_design_matrix(np.arange(105) * 2.0, events, drift_model=None)[list(NAMES)].to_numpy()
    truth = rng.normal(size=(len(NAMES), N_VOXELS))
    slow = np.linspace(-1, 1, 105)[:, None] * rng.normal(size=N_VOXELS)
    y = 100 + x @ truth + slow + 1e-4 * rng.normal(size=(105, N_VOXELS))
    bold = image_of(y.T.reshape(*SHAPE, 105))
    found = rsa.fit_betas(bold, events, model=model, noise=noise, polort=1, others="condition")
    means = [voxels(found.image)[[c == name for c in found.conditions]].mean(axis=0) for name in NAMES]
    np.testing.assert_allclose(means, truth, atol=2e-3)


def test_runs_of_different_lengths_are_fitted_by_themselves() -> None:
    runs = [noise_image(70, seed=1), noise_image(90, seed=2)]
    events = [table(seed=1), table(seed=2)]
    both = rsa.fit_betas(runs, events, high_pass=100.0, run_names=["a", "b"])
    alone = [rsa.fit_betas(run, own, high_pass=100.0) for run, own in zip(runs, events, strict=True)]
    assert both.runs == ("a",) * 4 + ("b",) * 4
    np.testing.assert_array_equal(voxels(both.image), np.concatenate([voxels(one.image) for one in alone]))
    assert [len(r) for r in both.residuals] == [70, 90]
    assert both.dof == tuple(one.dof[0] for one in alone)


def test_residuals_give_the_noise_of_the_voxels() -> None:
    rng = np.random.default_rng(3)
    sd = np.linspace(1, 5, N_VOXELS)
    y = 1000 + rng.normal(size=(400, N_VOXELS)) * sd
    events = table(n_each=20)
    found = rsa.fit_betas(image_of(y.T.reshape(*SHAPE, 400)), events)
    data = rsa.load_patterns(found.image, mask=found.mask, conditions=found.labels, runs=found.runs)
    precision = rsa.noise_precision(data, source=list(found.residuals), method="diag", dof=sum(found.dof))
    np.testing.assert_allclose(np.diag(precision) ** -0.5, sd, rtol=0.12)
    z = voxels(found.image) / np.sqrt(voxels(found.variance))
    assert 0.8 < np.std(z) < 1.2


def test_scales_are_percent_of_the_mean_and_units_of_noise() -> None:
    bold, events = noise_image(70), table()
    plain, percent, noise = (rsa.fit_betas(bold, events, scale=s) for s in ("signal", "percent", "noise"))
    mean = voxels(bold).mean(axis=0)
    np.testing.assert_allclose(voxels(percent.image), 100 * voxels(plain.image) / mean, rtol=1e-5)
    sd = np.sqrt((plain.residuals[0] ** 2).sum(axis=0) / plain.dof[0])
    np.testing.assert_allclose(voxels(noise.image), voxels(plain.image) / sd, rtol=1e-4)
    assert f"pooled over runs '1' ({plain.dof[0]:g} degrees of freedom)" in noise.notes[-1]
    assert not any(note.startswith("scale") for note in plain.notes)
    low = np.asarray(bold.dataobj).copy()
    low[0, 0, 0] -= 2000
    with pytest.warns(BrainmapWarning, match="1 voxels .* have a mean of 0 or less"):
        found = rsa.fit_betas(image_of(low), events, scale="percent")
    assert np.isnan(np.asarray(found.image.dataobj)).any(axis=3).sum() == 1
    with pytest.raises(InputError, match="demeaned"):
        rsa.fit_betas(image_of(np.asarray(bold.dataobj) - 1000), events, scale="percent")


def test_voxels_without_a_signal_are_counted_and_nan() -> None:
    values = np.asarray(noise_image(70).dataobj).copy()
    values[0, 0, 0], values[1, 0, 0, 3] = 7.0, np.nan
    mask = image_of(np.ones(SHAPE), None)
    with pytest.warns(BrainmapWarning, match="2 of 24 voxels are constant or not finite"):
        found = rsa.fit_betas(image_of(values), table(), mask=mask)
    assert np.isnan(np.asarray(found.image.dataobj)).all(axis=3).sum() == 2
    data = rsa.load_patterns(found.image, mask=mask, conditions=found.labels, runs=found.runs)
    assert data.n_channel == 22
    assert rsa.noise_precision(data, source=list(found.residuals)).shape == (22, 22)
    without = rsa.fit_betas(image_of(values), table())
    assert int(np.asarray(without.mask.dataobj).sum()) == 22


def test_confounds_enter_the_design_and_those_that_say_nothing_are_left_out() -> None:
    bold, events = noise_image(70), table()
    rng = np.random.default_rng(0)
    moves = pd.DataFrame({"x": rng.normal(size=70), "y": rng.normal(size=70)})
    found = rsa.fit_betas(bold, events, confounds=moves, high_pass=100.0, noise="ols")
    own = make_first_level_design_matrix(np.arange(70) * 2.0, events, high_pass=0.01, add_regs=moves)
    expected = np.linalg.lstsq(own.to_numpy(), voxels(bold), rcond=None)[0][:4]
    np.testing.assert_allclose(voxels(found.image), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    with pytest.warns(BrainmapWarning, match="'z' are linear combinations"):
        again = rsa.fit_betas(bold, events, confounds=moves.assign(z=moves["x"] * 2), high_pass=100.0, noise="ols")
    np.testing.assert_allclose(voxels(again.image), voxels(found.image), rtol=1e-6)


def test_nuisance_events_are_modelled_and_left_out_events_are_not() -> None:
    bold, events = noise_image(70), table()
    found = rsa.fit_betas(bold, events, nuisance=["yes"])
    assert found.labels == ("cat", "dog", "tree")
    assert "yes" in found.design[0].columns
    # the same columns in another order: the decomposition rounds otherwise
    wanted = voxels(rsa.fit_betas(bold, events).image)[:3]
    np.testing.assert_allclose(voxels(found.image), wanted, rtol=1e-5, atol=1e-6)
    assert "yes" not in rsa.fit_betas(bold, events, leave_out=["yes"]).design[0].columns


def test_a_nuisance_name_needs_to_occur_in_some_runs_only_and_a_misspelt_condition_is_named() -> None:
    events = [table(), table().replace("yes", "cat"), table().replace("yes", "cat")]
    bold = [noise_image(70) for _ in events]
    found = rsa.fit_betas(bold, events, nuisance=["yes"])
    assert ["yes" in design.columns for design in found.design] == [True, False, False]
    for gap, said in (
        (events, r"'yes' in run 2, 3; .*nuisance.*leave_out.*missing=\"nan\""),
        ([table().replace("tree", "treee"), table(), table()], r"is 'treee' a misspelt 'tree'\?; .*\(not modelled\)$"),
    ):
        with pytest.raises(InputError, match=said):
            rsa.fit_betas(bold, gap)


class TestDrifts:
    def plan(self, n: int, events: pd.DataFrame, **settings: object) -> object:
        return plan_betas([noise_image(n)], events, settings=GlmSettings(**settings))

    def test_a_design_of_fast_repeats_keeps_the_usual_128_s(self) -> None:
        plan = self.plan(160, table(n_each=8, gap=9.0))
        assert plan.designs[0].order == int(2 * 320 / 128)
        assert plan.designs[0].shares().max() < 0.1
        assert "128 s" in plan.notes[1]

    def test_a_block_shown_once_a_run_gets_a_longer_cutoff_and_a_warning(self) -> None:
        blocks = pd.DataFrame({"onset": [15, 85, 155, 225], "duration": 24.0, "trial_type": NAMES})
        with pytest.warns(BrainmapWarning, match=r"drift terms take more than 10%"):
            plan = self.plan(150, blocks)
        assert 1 <= plan.designs[0].order < int(2 * 300 / 128)
        assert "128 s would take" in plan.notes[1]
        assert plan.designs[0].shares().max() < 0.26

    @pytest.mark.parametrize(("polort", "degree"), [("A", 3), (2, 2)])
    def test_polort_spans_what_nilearn_s_polynomials_span(self, polort: object, degree: int) -> None:
        bold, events = noise_image(150), table(n_each=8)
        found = rsa.fit_betas(bold, events, polort=polort, noise="ols")
        x = make_first_level_design_matrix(np.arange(150) * 2.0, events, drift_model="polynomial", drift_order=degree)
        assert list(found.design[0].columns) == list(x.columns)
        expected = np.linalg.lstsq(x.to_numpy(), voxels(bold), rcond=None)[0][:4]
        np.testing.assert_allclose(voxels(found.image), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())

    def test_none_leaves_only_the_constant(self) -> None:
        assert self.plan(70, table(), high_pass=None).designs[0].matrix.columns.tolist() == [*NAMES, "constant"]

    def test_contradictory_or_senseless_settings_are_refused(self) -> None:
        for settings, said in (
            ({"polort": 2, "high_pass": 90.0}, "one of high_pass and polort, .*got both"),
            ({"high_pass": -1.0}, "high_pass"),
            ({"polort": 99}, "degree"),
            ({"high_pass": 3.0}, "two volumes"),
            ({"hrf": "spn"}, "did you mean 'spm'"),
        ):
            with pytest.raises(InputError, match=said):
                self.plan(70, table(), **settings)


class TestTiming:
    def test_sparse_sampling_has_the_response_of_a_dense_one(self) -> None:
        """nilearn's own regressors are stretched where volumes are unevenly apart."""
        events = table(n_each=2, gap=20.0)
        times = np.sort(np.concatenate([np.arange(0, 190, 10.0), np.arange(2.0, 190, 10.0)]))
        plan = plan_betas(
            [noise_image(len(times), t_r=None)], events, settings=GlmSettings(), runs=RunSettings(frame_times=times)
        )
        fine = np.arange(0, 200, 0.5)
        dense = make_first_level_design_matrix(fine, events, drift_model=None, oversampling=10)
        for name in NAMES:
            expected = np.interp(times, fine, dense[name])
            np.testing.assert_allclose(plan.designs[0].matrix[name], expected, atol=0.02)

    def test_autocorrelation_does_not_reach_across_gaps(self) -> None:
        rng = np.random.default_rng(0)
        starts = np.arange(90) % 3 == 0
        x = rng.normal(size=(90, 500))
        for k in np.flatnonzero(~starts):
            x[k] = 0.6 * x[k - 1] + 0.8 * x[k]
        inside = np.median(measure_lag1(x, starts)) * 90 / 60
        across = np.median(measure_lag1(x, np.arange(90) == 0)) * 90 / 89
        assert abs(inside - 0.6) < 0.03
        assert across < 0.45

    def test_volumes_apart_are_fitted_by_ordinary_least_squares_and_that_is_said(self) -> None:
        times = np.sort(np.concatenate([np.arange(0, 400, 20.0), [1.0]]))
        bold = noise_image(len(times), t_r=None)
        events = table(n_each=2, gap=40.0)
        one, other = (rsa.fit_betas(bold, events, noise=n, frame_times=times) for n in ("ar1", "ols"))
        np.testing.assert_array_equal(voxels(one.image), voxels(other.image))
        assert "ordinary least squares in 1 runs" in one.notes[2]

    def test_a_pause_between_volumes_leaves_no_autocorrelation_to_use(self, tmp_path: Path) -> None:
        rsa.save_image(noise_image(70), tmp_path / "bold.nii.gz")
        (tmp_path / "bold.json").write_text('{"RepetitionTime": 2.0, "DelayTime": 1.2}')
        found = rsa.fit_betas(tmp_path / "bold.nii.gz", table())
        assert "a pause of 1.2 s" in found.notes[0]
        assert "ordinary least squares" in found.notes[2]
        times = np.cumsum(np.tile([1.0, 3.0], 35)).tolist()
        (tmp_path / "bold.json").write_text(json.dumps({"VolumeTiming": times}))
        np.testing.assert_allclose(rsa.fit_betas(tmp_path / "bold.nii.gz", table()).design[0].index, times)

    def test_start_time_of_fmriprep_s_sidecar_shifts_the_volumes(self, tmp_path: Path) -> None:
        path = tmp_path / "sub-01_task-x_desc-preproc_bold.nii.gz"
        rsa.save_image(noise_image(70), path)
        about = {"RepetitionTime": 2.0, "StartTime": 0.975, "SliceTimingCorrected": True}
        path.with_name("sub-01_task-x_desc-preproc_bold.json").write_text(json.dumps(about))
        found = rsa.fit_betas(path, table())
        np.testing.assert_allclose(found.design[0].index, 0.975 + 2 * np.arange(70))
        assert rsa.fit_betas(path, table(), slice_time_ref=0.5).design[0].index[0] == 1.0
        path.with_name("sub-01_task-x_desc-preproc_bold.json").write_text('{"RepetitionTime": 2.5}')
        with pytest.raises(InputError, match=r"header gives a TR of 2 s, the sidecar 2\.5 s; .*glm = \{ t_r = 2.5 \}"):
            rsa.fit_betas(path, table())

    def test_a_sidecar_above_is_inherited(self, tmp_path: Path) -> None:
        folder = tmp_path / "sub-01" / "func"
        folder.mkdir(parents=True)
        rsa.save_image(noise_image(70, t_r=None), folder / "sub-01_task-x_run-1_bold.nii.gz")
        (tmp_path / "task-x_bold.json").write_text('{"RepetitionTime": 2.0}')
        (tmp_path / "task-y_bold.json").write_text('{"RepetitionTime": 7.0}')
        found = rsa.fit_betas(folder / "sub-01_task-x_run-1_bold.nii.gz", table())
        assert found.design[0].index[1] == 2.0

    @pytest.mark.parametrize(
        ("image", "given", "said"),
        [
            (noise_image(70, t_r=None), {}, "neither the header"),
            (noise_image(70, t_r=2000.0), {}, "milliseconds"),
            (noise_image(70), {"t_r": -1.0}, "t_r"),
            (noise_image(70), {"slice_time_ref": 2.0}, "slice_time_ref"),
            (noise_image(70), {"frame_times": np.arange(60)}, "expected 70 frame times"),
            (noise_image(70), {"frame_times": np.r_[0, 0, np.arange(68)]}, "expected frame times that increase"),
            (image_of(np.ones(SHAPE)), {}, "time series"),
        ],
    )
    def test_impossible_times_are_refused(self, image: nib.Nifti1Image, given: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            rsa.fit_betas(image, table(), **given)

    def test_a_given_tr_is_taken_and_the_contradiction_said(self) -> None:
        with pytest.warns(BrainmapWarning, match="header says 2 s"):
            found = rsa.fit_betas(noise_image(70), table(gap=7.0), t_r=1.5)
        assert found.design[0].index[1] == 1.5

    def test_cosines_are_nilearn_s(self) -> None:
        from nilearn.signal import create_cosine_drift

        times = 1.0 + 2.5 * np.arange(121)
        timing = Timing(times, 2.5, np.arange(121) == 0, "")
        np.testing.assert_allclose(compute_cosines(timing, 4), create_cosine_drift(1 / 128, times)[:, :-1], atol=1e-12)


class TestRefusals:
    def test_regressors_that_cannot_be_told_apart_are_named(self) -> None:
        events = table()
        twins = pd.concat([events, events[events["trial_type"] == "cat"].assign(trial_type="twin")])
        with pytest.raises(InputError, match="'twin' cannot be separated from other regressors"):
            rsa.fit_betas(noise_image(70), twins)

    def test_an_event_whose_response_no_volume_shows_is_named(self) -> None:
        events = pd.concat([table(), pd.DataFrame({"onset": [139.9], "duration": [1.0], "trial_type": ["late"]})])
        with pytest.raises(InputError, match="no volume shows the response to 'late'"):
            rsa.fit_betas(noise_image(70), events)

    def test_a_condition_that_lacks_a_run_is_refused_or_said(self) -> None:
        events = [table(), table(seed=1)]
        events[1] = events[1][events[1]["trial_type"] != "dog"]
        runs = [noise_image(70), noise_image(70, seed=1)]
        with pytest.raises(InputError, match="'dog' in run 2"):
            rsa.fit_betas(runs, events)
        with pytest.warns(BrainmapWarning, match="'dog' in run 2"):
            found = rsa.fit_betas(runs, events, missing="nan")
        assert found.labels == (*NAMES, "cat", "tree", "yes")

    def test_more_regressors_than_volumes_are_refused(self) -> None:
        with pytest.raises(InputError, match="regressors for 70 volumes"):
            rsa.fit_betas(noise_image(70), table(), confounds=np.random.default_rng(0).normal(size=(70, 64)))

    def test_other_grids_masks_and_counts_are_refused(self) -> None:
        bold, events = noise_image(70), table()
        small = nib.Nifti1Image(np.ones((2, 2, 2), "f4"), np.eye(4))
        for call, said in (
            (lambda: rsa.fit_betas([bold, bold], [events]), "each of 2 runs, got 1 table"),
            (lambda: rsa.fit_betas(bold, events, mask=small), "grid"),
            (lambda: rsa.fit_betas([], events), "expected at least one file"),
            (lambda: rsa.fit_betas(bold, events, confounds=[np.ones((70, 1))] * 2), "each of 1 runs, got 2"),
            (lambda: rsa.fit_betas(bold, events, strategy="motion6"), "give confounds"),
            (lambda: rsa.fit_betas(bold, events, nuisance=["yess"]), "did you mean 'yes'"),
            (lambda: rsa.fit_betas(bold, events, model="lsz"), "model"),
            (lambda: rsa.fit_betas(["a.nii", "a.nii"], events), "more than once"),
            (lambda: rsa.fit_betas(image_of(np.ones((*SHAPE, 70))), events), "no voxel"),
        ):
            with pytest.raises(BrainmapError, match=said):
                call()

    def test_overlapping_trials_of_lsa_are_warned_of(self) -> None:
        with pytest.warns(BrainmapWarning, match="model='lss' suits"):
            rsa.fit_betas(noise_image(70), table(n_each=5, gap=2.1, duration=0.1), model="lsa")


def test_dependent_columns_are_those_that_earlier_ones_explain() -> None:
    x = np.random.default_rng(0).normal(size=(20, 4))
    assert find_dependent_columns(np.column_stack([x, x @ [1, 2, 0, 1], x[:, 0]])) == [4, 5]
    assert find_dependent_columns(x) == []


def test_the_design_s_rdms_are_expected_noise_and_time() -> None:
    """Against betas of many voxels of noise, and against onsets."""
    rng = np.random.default_rng(0)
    events = table(n_each=1, gap=8.0)
    y = 100 + rng.normal(size=(60, 40 * 50 * 20))
    bold = nib.Nifti1Image(y.T.reshape(40, 50, 20, 60).astype("f4"), np.eye(4))
    found = rsa.fit_betas(bold, events, t_r=1.0, noise="ols", keep_residuals=False)
    rdms = found.design_rdms(items="condition")
    betas = voxels(found.image)
    pairs = np.triu_indices(4, 1)
    measured = [((betas[i] - betas[j]) ** 2).mean() for i, j in zip(*pairs, strict=True)]
    np.testing.assert_allclose(rdms.dissimilarities[0], measured, rtol=0.03)
    onset = events.sort_values("trial_type")["onset"].to_numpy()
    np.testing.assert_allclose(rdms.dissimilarities[1], [abs(onset[i] - onset[j]) for i, j in zip(*pairs, strict=True)])
    assert rdms.rdm_descriptors["name"] == ["noise-only", "elapsed-time"]
    assert found.residuals is None
