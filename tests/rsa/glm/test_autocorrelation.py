"""Noise in time: 3dREMLfit's definitions, planted parameters that come back, betas and RDMs that follow from them."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.stats import wilcoxon

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.arma import Arma, build_afni_grid
from brainmap.rsa.glm.estimators import fit_run
from brainmap.rsa.glm.plan import RunSettings, plan_betas
from brainmap.rsa.glm.reml import Likelihood, estimate_pooled_noise, estimate_run_noise, find_best_of_grid

pytestmark = [
    pytest.mark.filterwarnings("ignore:design. :brainmap.errors.BrainmapWarning"),
    pytest.mark.filterwarnings("ignore:noise. a parameter:brainmap.errors.BrainmapWarning"),  # tested below
]

AR, FMRI = Arma(0.5), Arma(0.9, -0.6)


def series(noise: Arma, n: int, voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Noise by its recursion, `x_t = a x_(t-1) + z_t + b z_(t-1)`, after 200 volumes that are thrown away."""
    found: np.ndarray = lfilter([1, noise.b], [1, -noise.a], rng.normal(size=(voxels, n + 200)), axis=1)[:, 200:]
    return found


def image(values: np.ndarray, t_r: float = 2.0) -> nib.Nifti1Image:
    found = nib.Nifti1Image((1000 + values).astype("f4").reshape(-1, 1, 1, values.shape[1]), np.eye(4))
    found.header.set_xyzt_units("mm", "sec")
    found.header.set_zooms((1, 1, 1, t_r))
    return found


def trials(n: int, gap: float) -> pd.DataFrame:
    names = [f"t{k:02d}" for k in range(n)]
    return pd.DataFrame({"onset": 4 + gap * np.arange(n), "duration": 1.0, "trial_type": names})


def values(found: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(found.dataobj, float)[:, 0, 0].T


def basis_of(found: rsa.Betas) -> np.ndarray:
    return np.asarray(np.linalg.qr(found.design[0].to_numpy())[0])


def dense(noise: Arma, starts: np.ndarray) -> np.ndarray:
    """Correlations as 3dREMLfit's help writes them, one pair of volumes after the other."""
    a, b = noise.a, noise.b
    lam = (b + a) * (1 + a * b) / (1 + 2 * a * b + b * b)
    block = np.cumsum(starts)
    found = np.eye(len(starts))
    for i, j in itertools.permutations(range(len(starts)), 2):
        found[i, j] = lam * a ** (abs(i - j) - 1) if block[i] == block[j] else 0.0
    return found


def reml(noise: Arma, basis: np.ndarray, starts: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The function of each column that 3dREMLfit minimizes, by dense inverses."""
    r = dense(noise, starts)
    inner = basis.T @ np.linalg.solve(r, basis)
    p = np.linalg.inv(r) - np.linalg.solve(r, basis) @ np.linalg.solve(inner, basis.T @ np.linalg.inv(r))
    squares = np.einsum("nv,nm,mv->v", x, p, x)
    logs = np.linalg.slogdet(inner)[1] + np.linalg.slogdet(r)[1]
    return np.asarray((basis.shape[0] - basis.shape[1]) * np.log(squares) + logs)


@pytest.mark.parametrize("noise", [AR, FMRI, Arma(0.3, 0.4), Arma(-0.4), Arma(0.0, 0.3)])
@pytest.mark.parametrize("every", [60, 25, 3])
def test_whitening_is_the_inverse_cholesky_factor_of_3dremlfit_s_correlations(noise: Arma, every: int) -> None:
    starts = np.arange(60) % every == 0
    x = np.random.default_rng(0).normal(size=(60, 4))
    r = dense(noise, starts)
    np.testing.assert_allclose(noise.matrix(starts), r, atol=1e-12)
    np.testing.assert_allclose(noise.whiten(x, starts), np.linalg.solve(np.linalg.cholesky(r), x), atol=1e-10)
    assert noise.log_determinant(starts) == pytest.approx(np.linalg.slogdet(r)[1])


def test_simulated_noise_has_the_stated_correlations() -> None:
    x = series(FMRI, 400, 4000, np.random.default_rng(0))
    found = [np.mean(x[:, k:] * x[:, : 400 - k]) / np.mean(x**2) for k in range(5)]
    np.testing.assert_allclose(found, FMRI.correlations(5), atol=0.02)


def test_the_grid_is_3dremlfit_s() -> None:
    steps = [(i / 10, j / 10) for i in range(9) for j in range(-8, 9)]
    lam = {(a, b): (b + a) * (1 + a * b) / (1 + 2 * a * b + b * b) for a, b in steps}
    wanted = {(0.0, 0.0)} | {pair for pair, value in lam.items() if value >= 0.001}
    assert {(round(noise.a, 6), round(noise.b, 6)) for noise in build_afni_grid(3)} == wanted
    assert max(np.diff(sorted({noise.a for noise in build_afni_grid(5)}))) == pytest.approx(0.025)


def test_a_voxel_s_place_on_the_grid_is_where_3dremlfit_s_function_is_least() -> None:
    rng = np.random.default_rng(0)
    starts = np.arange(50) % 30 == 0
    basis = np.linalg.qr(rng.normal(size=(50, 6)))[0]
    x = series(AR, 50, 12, rng).T
    residuals = x - basis @ (basis.T @ x)
    grid = build_afni_grid(3)
    wanted = np.argmin([reml(noise, basis, starts, x) for noise in grid], axis=0)
    np.testing.assert_array_equal(find_best_of_grid(residuals, Likelihood(basis, starts), grid), wanted)


@pytest.mark.parametrize("true", [AR, FMRI])
def test_pooled_parameters_are_where_the_summed_likelihood_of_all_voxels_is_greatest(true: Arma) -> None:
    """Voxels have variances of their own, a hundredfold apart."""
    rng = np.random.default_rng(1)
    starts = np.arange(80) % 50 == 0
    basis = np.linalg.qr(np.column_stack([np.ones(80), rng.normal(size=(80, 20))]))[0]
    x = series(true, 80, 300, rng).T * rng.lognormal(sigma=2.0, size=300)
    found = estimate_pooled_noise(x - basis @ (basis.T @ x), Likelihood(basis, starts), "arma11")
    least = reml(found, basis, starts, x).sum()
    for step in ((0.03, 0), (-0.03, 0), (0, 0.03), (0, -0.03), (0.03, -0.03), (-0.03, 0.03)):
        assert reml(Arma(found.a + step[0], found.b + step[1]), basis, starts, x).sum() > least
    one = estimate_pooled_noise(x - basis @ (basis.T @ x), Likelihood(basis, starts), "ar1")
    for step in (0.02, -0.02):
        assert reml(Arma(one.a + step), basis, starts, x).sum() > reml(one, basis, starts, x).sum()


@pytest.mark.parametrize("model", ["lsa", "lss"])
@pytest.mark.parametrize("noise", ["ar1", "arma11"])
def test_planted_autocorrelation_comes_back_from_twenty_trials_four_seconds_apart(model: Any, noise: Any) -> None:
    """Residuals of these 27 regressors in 50 volumes have a lag-1 correlation below 0."""
    y = series(AR, 50, 3000, np.random.default_rng(0))
    found = rsa.fit_betas(image(y), trials(20, 4.0), model=model, noise=noise)
    assert abs(found.autocorrelation[0] - 0.5) < 0.05
    basis = basis_of(rsa.fit_betas(image(y), trials(20, 4.0), model="lsa", noise="ols"))
    left = y.T - basis @ (basis.T @ y.T)
    assert (left[1:] * left[:-1]).sum() / (left**2).sum() < 0


@pytest.mark.parametrize("true", [AR, FMRI])
@pytest.mark.parametrize(("model", "noise"), [("lsa", "auto"), ("lss", "auto"), ("lsa", "ols"), ("lss", "ols")])
def test_noise_only_is_the_mean_rdm_of_pure_noise_and_no_beta_varies_more_than_it_must(
    true: Arma, model: Any, noise: Any
) -> None:
    y = series(true, 50, 6000, np.random.default_rng(2))
    found = rsa.fit_betas(image(y), trials(20, 4.0), model=model, noise=noise)
    betas = values(found.image)
    i, j = np.triu_indices(20, 1)
    measured = ((betas[i] - betas[j]) ** 2).mean(axis=1)
    expected = found.design_rdms().dissimilarities[0]
    assert np.corrcoef(measured, expected)[0, 1] > 0.95
    if true == AR:  # in units of a volume's variance, which fifty volumes of slow noise and drift terms do not tell
        assert np.median(measured / expected) == pytest.approx(y.var(), rel=0.06)
    if noise == "auto":
        z = betas / np.sqrt(values(found.variance))
        assert 0.95 < z.std() < 1.1
    if (model, noise) == ("lsa", "auto"):
        x, r = found.design[0].to_numpy(), dense(true, np.arange(50) == 0)
        best = np.diag(np.linalg.inv(x.T @ np.linalg.solve(r, x)))[:20]
        assert np.mean((betas**2).mean(axis=1) / y.var() / best) < 1.05


@pytest.mark.parametrize("model", ["condition", "lsa"])
def test_betas_and_variances_are_generalized_least_squares_for_the_stated_noise(model: Any) -> None:
    y = series(FMRI, 90, 200, np.random.default_rng(0))
    events = trials(12, 12.0).assign(trial_type=list("abc") * 4)
    found = rsa.fit_betas(image(y), events, model=model)
    assert found.settings.noise == ("ar1" if model == "condition" else "arma11")
    starts = np.arange(90) == 0
    ols = basis_of(found)
    models, which = estimate_run_noise(
        y.T - ols @ (ols.T @ y.T), Likelihood(ols, starts), found.settings.noise
    ).choose_models((1000 + y).astype("f4").T - ols @ (ols.T @ (1000 + y).astype("f4").T))  # type: ignore[arg-type]
    x = found.design[0].to_numpy()
    n_betas = len(found.labels)
    for voxel in range(0, 200, 23):
        r = dense(models[which[voxel]], starts)
        inverse = np.linalg.inv(x.T @ np.linalg.solve(r, x))
        series_of = (1000 + y[voxel]).astype("f4").astype(float)
        beta = inverse @ x.T @ np.linalg.solve(r, series_of)
        left = series_of - x @ beta
        variance = np.diag(inverse) * (left @ np.linalg.solve(r, left)) / (90 - x.shape[1])
        np.testing.assert_allclose(values(found.image)[:, voxel], beta[:n_betas], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(values(found.variance)[:, voxel], variance[:n_betas], rtol=1e-3)


def test_lss_under_noise_is_generalized_least_squares_of_each_trial_s_own_model() -> None:
    y = series(FMRI, 75, 60, np.random.default_rng(0))
    events = trials(12, 9.0)
    found = rsa.fit_betas(image(y), events, model="lss", noise="arma11", afni_grid=3)
    plan = plan_betas([image(y)], events, settings=found.settings)
    shared = plan.designs[0].matrix.iloc[:, 12:].to_numpy()
    single = plan.designs[0].trials[:, :, 0]
    starts, data = np.arange(75) == 0, (1000 + y).astype("f4").T.astype(float)
    lsa = np.linalg.qr(plan.designs[0].matrix.to_numpy())[0]
    which = find_best_of_grid(data - lsa @ (lsa.T @ data), Likelihood(lsa, starts), build_afni_grid(3))
    for trial, voxel in itertools.product((0, 5, 11), range(0, 60, 9)):
        x = np.column_stack([single[:, trial], np.delete(single, trial, axis=1).sum(axis=1), shared])
        r = dense(build_afni_grid(3)[which[voxel]], starts)
        beta = np.linalg.solve(x.T @ np.linalg.solve(r, x), x.T @ np.linalg.solve(r, data[:, voxel]))
        assert values(found.image)[trial, voxel] == pytest.approx(beta[0], rel=1e-4, abs=1e-4)


def test_voxels_keep_of_their_own_what_exceeds_chance() -> None:
    rng = np.random.default_rng(0)
    starts, basis = np.arange(300) == 0, np.ones((300, 1)) / np.sqrt(300)
    same = series(Arma(0.4), 300, 600, rng).T
    assert estimate_run_noise(same - same.mean(axis=0), Likelihood(basis, starts), "ar1").own < 0.25
    two = np.column_stack([series(Arma(0.1), 300, 300, rng).T, series(Arma(0.6), 300, 300, rng).T])
    two -= two.mean(axis=0)
    found = estimate_run_noise(two, Likelihood(basis, starts), "ar1")
    assert found.own > 0.9
    models, which = found.choose_models(two)
    a = np.array([models[k].a for k in which])
    np.testing.assert_allclose([a[:300].mean(), a[300:].mean()], [0.1, 0.6], atol=0.03)


def test_white_noise_is_found_white_and_fitted_by_ordinary_least_squares() -> None:
    y = np.random.default_rng(3).normal(size=(500, 80))
    one, other = (rsa.fit_betas(image(y), trials(16, 9.0), model="lsa", noise=n) for n in ("arma11", "ols"))
    assert one.noise == ((0.0, 0.0),)
    np.testing.assert_allclose(values(one.image), values(other.image), atol=0.2)


def test_noise_does_not_reach_across_gaps_nor_is_it_estimated_across_them() -> None:
    rng = np.random.default_rng(0)
    times = np.concatenate([60.0 * k + 2.0 * np.arange(20) for k in range(6)])
    y = np.hstack([series(AR, 20, 800, rng) for _ in range(6)])
    events = pd.DataFrame({"onset": 60.0 * np.arange(6) + 6, "duration": 2.0, "trial_type": list("ababab")})
    found = rsa.fit_betas(image(y), events, frame_times=times)
    assert abs(found.autocorrelation[0] - 0.5) < 0.03
    plan = plan_betas([image(y)], events, settings=found.settings, runs=RunSettings(frame_times=times))
    assert plan.designs[0].timing.starts.sum() == 6
    *_, fit = fit_run((1000 + y).astype("f4"), plan.designs[0], found.settings)
    assert fit.noise.pooled == Arma(*found.noise[0])


def test_runs_have_noise_of_their_own_and_it_is_said() -> None:
    rng = np.random.default_rng(0)
    runs = [image(series(noise, 100, 800, rng)) for noise in (Arma(0.2), Arma(0.6))]
    events = trials(12, 14.0).assign(trial_type=list("abc") * 4)
    found = rsa.fit_betas(runs, [events, events])
    np.testing.assert_allclose(found.autocorrelation, [0.2, 0.6], atol=0.05)
    assert found.notes[-2] == "noise: AR(1) by REML, pooled over the voxels of each run"
    assert found.notes[-1].startswith("noise found: AR(1), a 0.")
    assert " to 0." in found.notes[-1]


def test_what_cannot_be_told_is_refused_and_what_is_doubtful_is_said() -> None:
    rng = np.random.default_rng(0)
    few, moves = image(rng.normal(size=(5, 60))), rng.normal(size=(60, 34))
    with pytest.raises(InputError, match=r"'arma1'.*did you mean 'arma11'"):
        rsa.fit_betas(few, trials(8, 9.0), noise="arma1")  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"expected at least 8 volumes .* the noise model 'arma11', got 4 .*model 'ols'"
    ):
        rsa.fit_betas(few, trials(20, 5.0), model="lss", confounds=moves)
    with pytest.raises(InputError, match=r"cannot be separated from the others or the confounds"):
        rsa.fit_betas(few, trials(20, 5.0), model="lss", confounds=np.eye(60)[:, 20:54])
    for settings, said in (
        ({"afni_grid": 2}, "to 7, got 2"),
        ({"afni_grid": 3, "noise": "ar1"}, "the noise 'arma11' beside"),
    ):
        with pytest.raises(InputError, match=said):
            rsa.fit_betas(few, trials(8, 9.0), **settings)  # type: ignore[arg-type]
    with pytest.warns(BrainmapWarning, match=r"volumes 0\.72 s apart have an autocorrelation that AR\(1\) does not"):
        rsa.fit_betas(image(rng.normal(size=(5, 200)), t_r=0.72), trials(8, 9.0))
    drifting = series(Arma(0.995), 120, 400, rng)
    with pytest.warns(BrainmapWarning, match="a parameter is at the limit of its range"):
        rsa.fit_betas(image(drifting), trials(12, 16.0), model="lsa", high_pass=None)


def test_the_noise_of_an_afni_grid_is_each_voxel_s_own_and_noise_only_is_propagated_through_it() -> None:
    y = series(FMRI, 50, 4000, np.random.default_rng(2))
    found = rsa.fit_betas(image(y), trials(20, 4.0), model="lsa", afni_grid=3)
    assert found.settings.noise == "arma11"
    betas = values(found.image)
    i, j = np.triu_indices(20, 1)
    measured = ((betas[i] - betas[j]) ** 2).mean(axis=1)
    assert np.corrcoef(measured, found.design_rdms().dissimilarities[0])[0, 1] > 0.95


@pytest.mark.parametrize("true", [AR, FMRI])
def test_noise_only_takes_the_form_of_correlation_distances(true: Arma) -> None:
    y = series(true, 50, 6000, np.random.default_rng(4))
    found = rsa.fit_betas(image(y), trials(20, 4.0), model="lsa")
    measured = 1 - np.corrcoef(values(found.image))[np.triu_indices(20, 1)]
    noise_only, elapsed = found.design_rdms(dissimilarity="correlation").dissimilarities
    assert np.corrcoef(measured, noise_only)[0, 1] > 0.95
    assert np.abs(measured - noise_only).max() < 0.15
    np.testing.assert_array_equal(elapsed, found.design_rdms().dissimilarities[1])
    covariance = found.covariances[0]
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(noise_only, (1 - covariance / np.outer(sd, sd))[np.triu_indices(20, 1)], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("true", [AR, FMRI])
def test_controlling_for_noise_only_keeps_the_level_of_a_blocked_model_in_one_run(true: Arma) -> None:
    """Sixteen trials in blocks of four conditions, eight participants of pure noise: the model is the blocks.

    The partial correlation is Pearson's, participants are tested by a one-sided signed-rank test.
    """
    rng = np.random.default_rng(0)
    model = rsa.category_rdm([f"t{k:02d}" for k in range(16)], np.repeat(list("abcd"), 4).tolist(), level="stimulus")
    events = trials(16, 6.0)
    kinds = ("euclidean", "correlation")
    hits = dict.fromkeys(itertools.product(("without", "with"), kinds), 0)
    n_studies, n_participants = 30, 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(n_studies):
            scores: dict[tuple[str, str], list[float]] = {key: [] for key in hits}
            for _ in range(n_participants):
                found = rsa.fit_betas(image(series(true, 56, 150, rng)), events, model="lsa", keep_residuals=False)
                for kind in kinds:
                    brain = rsa.compute_rdms(
                        values(found.image), dissimilarity=kind, descriptors={"stimulus_id": list(found.labels)}
                    )
                    control = found.design_rdms(dissimilarity=kind).subset("name", "noise-only")
                    without = rsa.compare_rdms(model, brain, measure="pearson")
                    partial = rsa.compare_rdms_partial(model, brain, control, measure="pearson")
                    scores["without", kind].append(float(without[0, 0]))
                    scores["with", kind].append(float(partial[0, 0]))
            for key, of_people in scores.items():
                hits[key] += wilcoxon(of_people, alternative="greater").pvalue < 0.05
    for kind in kinds:
        assert hits["without", kind] / n_studies > 0.5
        assert hits["with", kind] / n_studies <= 0.15
