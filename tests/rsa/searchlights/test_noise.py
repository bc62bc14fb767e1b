"""Searchlights with a noise precision a sphere, against the same RDM of each sphere, here and in rsatoolbox."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
import rsatoolbox
from rsatoolbox.data.noise import cov_from_residuals, prec_from_residuals
from scipy.linalg import sqrtm

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa import compare_rdms, compute_rdms, noise_precision, searchlight
from brainmap.rsa.patterns.residuals import Residuals
from brainmap.rsa.searchlights import noise as _sphere_precision

SHEARED = np.array([[2.0, 0.3, 0.0, -9], [-0.3, 2.9, 0.4, 5], [0.0, -0.5, 3.6, 2], [0, 0, 0, 1]])
LABELS = [f"b{k}" for k in range(1, 10)]
RADIUS = 5.0
STEP = 5
VOLUMES = (40, 37, 44)


@pytest.fixture
def mask():
    inside = np.zeros((7, 6, 5), dtype=np.float32)
    inside[1:6, 1:6, 0:5] = 1
    inside[3, 3, 3] = inside[1, 1, 0] = 0
    return nib.Nifti1Image(inside, SHEARED)


@pytest.fixture
def patterns(mask):
    """Three runs of nine items."""
    rng = np.random.default_rng(0)
    n_voxels = int(np.asarray(mask.dataobj).sum())
    return rng.normal(size=(1, 9, n_voxels)) + rng.normal(size=(3, 9, n_voxels)) + 5


@pytest.fixture
def residuals(patterns):
    """A run each: voxels that differ in variance and share noise with their neighbors."""
    rng = np.random.default_rng(3)
    n = patterns.shape[-1]
    near = np.exp(-np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / 4.0)
    mix = np.linalg.cholesky(near) * rng.uniform(0.5, 3, n)[:, None]
    return [rng.normal(size=(v, n)) @ mix.T + rng.normal(size=n) for v in VOLUMES]


@pytest.fixture
def models():
    rng = np.random.default_rng(1)
    return rsatoolbox.rdm.RDMs(
        rng.random((3, 36)),
        descriptors={"level": "stimulus"},
        rdm_descriptors={"layer": ["conv1", "conv2", "conv3"]},
        pattern_descriptors={"stimulus_id": list(rng.permutation(LABELS))},
    )


def dataset_of(x, channels=None, **described):
    runs, items, n_voxels = x.shape
    return rsatoolbox.data.Dataset(
        x.reshape(-1, n_voxels),
        descriptors=described,
        obs_descriptors={
            "stimulus_id": np.tile(LABELS, runs),
            "condition": np.tile([label[:1] for label in LABELS], runs),
            "run": np.repeat(np.arange(runs), items),
        },
        channel_descriptors={"voxel": np.arange(n_voxels) if channels is None else channels},
    )


def sphere_voxels(mask):
    where = np.argwhere(np.asarray(mask.dataobj) != 0) @ mask.affine[:3, :3].T
    return np.linalg.norm(where[:, None] - where[None], axis=2) <= RADIUS + 1e-6


def search(data, models, mask, **how):
    how = {"dissimilarity": "crossnobis", "measure": "pearson", "minimum_voxels": 3, "threads": 1, **how}
    return searchlight(data, models, mask=mask, radius_mm=RADIUS, **how)


def one_by_one(data, models, mask, precision_of, dissimilarity="crossnobis", measure="pearson", **how):
    """Every `STEP`-th sphere by compute_rdms with a precision of its own."""
    scores = []
    for near in sphere_voxels(mask)[::STEP]:
        part = data.subset_channel("voxel", np.flatnonzero(near))
        precision = precision_of(near, part)
        rdm = compute_rdms(part, dissimilarity=dissimilarity, noise_precision=precision, **how)
        scores.append(compare_rdms(models, rdm, measure=measure)[:, 0])
    return np.array(scores).T


def demeaned(parts):
    return np.concatenate([part - part.mean(axis=0) for part in parts])


@pytest.mark.parametrize("measure", ["pearson", "spearman"])
@pytest.mark.parametrize("shrinkage", ["diag", "eye", "none"])
def test_spheres_are_whitened_as_rsatoolbox_shrinks_residuals(mask, patterns, residuals, models, shrinkage, measure):
    data = dataset_of(patterns)
    found = search(data, models, mask, noise=residuals, shrinkage=shrinkage, measure=measure)
    method = "full" if shrinkage == "none" else f"shrinkage_{shrinkage}"
    wanted = one_by_one(
        data,
        models,
        mask,
        measure=measure,
        precision_of=lambda near, _: prec_from_residuals(
            demeaned(residuals)[:, near], dof=sum(VOLUMES) - 3, method=method
        ),
    )
    np.testing.assert_allclose(found.array[:, ::STEP], wanted, rtol=0, atol=1e-10)
    assert np.abs(found.array - search(data, models, mask, measure=measure).array).max() > 0.01


@pytest.mark.parametrize("shrinkage", ["diag", "eye"])
def test_a_precision_a_run_is_that_of_compute_rdms_and_of_rsatoolbox(mask, patterns, residuals, models, shrinkage):
    data = dataset_of(patterns)
    found = search(data, models, mask, noise=residuals, shrinkage=shrinkage, pooled=False)

    def precision(near, part):
        return np.array(prec_from_residuals([r[:, near] for r in residuals], method=f"shrinkage_{shrinkage}"))

    wanted = one_by_one(data, models, mask, precision)
    np.testing.assert_allclose(found.array[:, ::STEP], wanted, rtol=0, atol=1e-10)
    near = sphere_voxels(mask)[0]
    part = data.subset_channel("voxel", np.flatnonzero(near))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what it tells about itself, not of the distances
        theirs = rsatoolbox.rdm.calc_rdm(
            part, method="crossnobis", descriptor="stimulus_id", cv_descriptor="run", noise=list(precision(near, part))
        )
    scores = compare_rdms(models, theirs, measure="pearson")[:, 0]
    np.testing.assert_allclose(found.array[:, 0], scores, atol=1e-10)
    pooled = search(data, models, mask, noise=residuals, shrinkage=shrinkage)
    assert np.abs(found.array - pooled.array).max() > 1e-3


def test_noise_of_the_runs_is_that_of_noise_precision_with_missing_patterns_too(mask, patterns, models):
    patterns[0, 2] = patterns[2, 5] = np.nan
    data = dataset_of(patterns)
    found = search(data, models, mask, noise="runs")
    wanted = one_by_one(data, models, mask, lambda _, part: noise_precision(part, source="runs"))
    np.testing.assert_allclose(found.array[:, ::STEP], wanted, rtol=0, atol=1e-10)
    array = search(patterns, models, mask, labels=LABELS, noise="runs").array
    np.testing.assert_allclose(array, found.array, atol=1e-12)


def test_noise_precision_shrinks_to_the_identity_as_well(patterns, residuals):
    data = dataset_of(patterns[..., :12])
    found = noise_precision(data, source=[r[:, :12] for r in residuals], method="shrinkage-eye", dof=100)
    wanted = prec_from_residuals(demeaned(residuals)[:, :12], dof=100, method="shrinkage_eye")
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_degrees_of_freedom_of_the_residuals_count(mask, patterns, residuals, models):
    data = dataset_of(patterns)
    found = search(data, models, mask, noise=Residuals(residuals, 60))
    wanted = one_by_one(
        data,
        models,
        mask,
        lambda near, _: prec_from_residuals(demeaned(residuals)[:, near], dof=60, method="shrinkage_diag"),
    )
    np.testing.assert_allclose(found.array[:, ::STEP], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("runs", ["between", "average"])
def test_euclidean_with_noise_is_mahalanobis(mask, patterns, residuals, models, runs):
    data = dataset_of(patterns)
    found = search(data, models, mask, noise=residuals, dissimilarity="euclidean", runs=runs)
    wanted = one_by_one(
        data,
        models,
        mask,
        lambda near, part: noise_precision(part, source=[r[:, near] for r in residuals]),
        dissimilarity="mahalanobis",
        runs=runs,
    )
    np.testing.assert_allclose(found.array[:, ::STEP], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine"])
def test_angles_are_those_of_patterns_whitened_by_the_symmetric_root(mask, patterns, residuals, models, dissimilarity):
    data = dataset_of(patterns)
    found = search(data, models, mask, noise=residuals, dissimilarity=dissimilarity)
    for voxel in range(0, patterns.shape[-1], STEP):
        near = sphere_voxels(mask)[voxel]
        covariance = cov_from_residuals(demeaned(residuals)[:, near], dof=sum(VOLUMES) - 3, method="shrinkage_diag")
        white = patterns[..., near] @ np.linalg.inv(sqrtm(covariance).real)
        rdm = compute_rdms(dataset_of(white), dissimilarity=dissimilarity)
        wanted = compare_rdms(models, rdm, measure="pearson")[:, 0]
        np.testing.assert_allclose(found.array[:, voxel], wanted, rtol=0, atol=1e-10)


@pytest.mark.bits
def test_bricks_and_threads_change_nothing(mask, patterns, residuals, models, monkeypatch):
    data = dataset_of(patterns)
    whole = search(data, models, mask, noise=residuals).array
    np.testing.assert_array_equal(search(data, models, mask, noise=residuals, threads=3).array, whole)
    monkeypatch.setattr(_sphere_precision, "_MOST_NUMBERS", 1)
    monkeypatch.setattr(_sphere_precision, "_MOST_VOXELS", 1)
    np.testing.assert_allclose(search(data, models, mask, noise=residuals).array, whole, atol=1e-12)


def test_residuals_are_those_of_the_channels_or_of_the_mask(mask, patterns, residuals, models):
    kept = np.delete(np.arange(patterns.shape[-1]), [3, 50])
    shuffled = np.random.default_rng(8).permutation(kept)
    data = dataset_of(patterns[..., shuffled], shuffled)
    found = search(data, models, mask, noise=residuals)
    ours = search(data, models, mask, noise=[r[:, shuffled] for r in residuals])
    files = search(data, models, mask, noise=Residuals(residuals, None))
    np.testing.assert_allclose(found.array, ours.array, atol=1e-12)
    np.testing.assert_array_equal(found.array, files.array)
    assert np.isnan(found.array[:, [3, 50]]).all()
    assert not np.isnan(found.array[:, kept]).any()


def test_one_array_of_residuals_is_a_list_of_one(mask, patterns, residuals, models):
    data = dataset_of(patterns)
    one, listed = (search(data, models, mask, noise=n).array for n in (residuals[0], [residuals[0]]))
    np.testing.assert_array_equal(one, listed)
    stacked = np.stack([r[:37] for r in residuals])
    np.testing.assert_array_equal(
        search(data, models, mask, noise=stacked, pooled=False).array,
        search(data, models, mask, noise=list(stacked), pooled=False).array,
    )


def test_a_sphere_whose_covariance_is_singular_has_no_score_and_is_counted(mask, patterns, residuals, models):
    for part in residuals:
        part[:, 1] = 2 * part[:, 0]  # two voxels of one noise
    data = dataset_of(patterns)
    both = sphere_voxels(mask)[:, :2].all(axis=1)
    with pytest.warns(BrainmapWarning, match=f"noise covariance of {both.sum()} spheres is singular"):
        found = search(data, models, mask, noise=residuals, shrinkage="none")
    assert np.isnan(found.array[:, both]).all()
    assert not np.isnan(found.array[:, ~both]).any()
    assert found.n_unscored == both.sum() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.isnan(search(data, models, mask, noise=residuals).array).any()


def test_whitening_finds_what_shared_noise_hides(mask, models):
    """Patterns with a small planted geometry under noise that all voxels of a sphere share."""
    rng = np.random.default_rng(11)
    n = int(np.asarray(mask.dataobj).sum())
    truth = rng.normal(size=(9, 2)) @ rng.normal(size=(2, n))
    model = compute_rdms(truth, dissimilarity="euclidean", descriptors={"stimulus_id": LABELS, "layer": "truth"})
    noise = [rng.normal(size=(300, n)) + 12 * rng.normal(size=(300, 1)) for _ in range(4)]
    x = np.stack([truth + rng.normal(size=(9, n)) + 12 * rng.normal(size=(9, 1)) for _ in range(4)])
    how = {"labels": LABELS, "measure": "pearson"}
    plain = np.nanmean(search(x, model, mask, **how).array)
    by_voxel = np.nanmean(search(x, model, mask, noise=np.std(np.concatenate(noise), axis=0), **how).array)
    white = np.nanmean(search(x, model, mask, noise=noise, **how).array)
    assert white > 0.5 > max(plain, by_voxel) + 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": np.ones((40, 7))}, r"of the data or .* of the mask, got 7 voxels"),
        ({"noise": np.ones((1, 123))}, "two volumes or more"),
        ({"noise": []}, "expected residuals"),
        ({"noise": "residual"}, "expected one of 'runs'"),
        ({"noise": "runs", "pooled": False}, "got the runs' own deviations"),
        ({"shrinkage": "oas"}, "expected one of 'diag', 'eye', 'none'"),
        ({"pooled": False, "drop": 1}, "residuals of 2 for 3 runs"),
        ({"pooled": False, "dissimilarity": "correlation"}, "one noise precision per run is for"),
        ({"pooled": False, "runs": "average", "dissimilarity": "euclidean"}, "for 1 runs"),
        ({"volumes": 5, "shrinkage": "none"}, "cannot be inverted from 12 degrees of freedom; choose shrinkage='diag'"),
        ({"flat": True}, "1 of 123 usable voxels do not vary"),
        ({"nan": True}, "1 usable voxels hold NaN"),
    ],
)
def test_noise_that_does_not_fit_is_named(mask, patterns, residuals, models, options, message):
    options = dict(options)
    residuals = residuals[options.pop("drop", 0) :]
    residuals = [r[: options.get("volumes", len(r))] for r in residuals]
    options.pop("volumes", None)
    if options.pop("flat", False):
        for r in residuals:
            r[:, 9] = 3
    if options.pop("nan", False):
        residuals[0][2, 2] = np.nan
    with pytest.raises(InputError, match=message):
        search(dataset_of(patterns), models, mask, **{"noise": residuals, **options})
