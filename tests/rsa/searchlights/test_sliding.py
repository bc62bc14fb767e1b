"""Inner products that are updated from sphere to sphere, against every sphere summed by itself."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import rsatoolbox

from brainmap.rsa import noise_precision, searchlight
from brainmap.rsa.searchlights import sliding_kernels
from brainmap.rsa.searchlights.preparation import Prepared
from brainmap.rsa.searchlights.rows import Rows, rows_of_runs, rows_of_weights
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.rsa.searchlights.spheres import build_spheres
from brainmap.rsa.searchlights.volume import plan_searchlight

ITEMS, RADIUS = 9, 3.2
LABELS = [f"s{k}" for k in range(ITEMS)]
PAIRS = np.triu_indices(ITEMS, 1)


@pytest.fixture(scope="module")
def mask():
    inside = np.ones((9, 8, 14), dtype=np.float32)
    inside[4, 4, 5:7] = inside[0, :, 3] = 0
    return nib.Nifti1Image(inside, np.eye(4))


@pytest.fixture(scope="module")
def models():
    return rsatoolbox.rdm.RDMs(
        np.random.default_rng(1).random((2, len(PAIRS[0]))),
        rdm_descriptors={"name": ["a", "b"]},
        pattern_descriptors={"stimulus_id": LABELS},
    )


def n_voxels(mask):
    return int(np.asarray(mask.dataobj).sum())


def spheres_of(mask):
    spheres = build_spheres(np.asarray(mask.dataobj) > 0, mask.affine, RADIUS)
    return [row[row >= 0] for row in spheres.patches(0, spheres.n_voxels)]


def rdms_of(data, models, mask, noise=None, **settings):
    """Compute the RDM of every sphere as the searchlight does."""
    plan = plan_searchlight(
        data,
        models,
        SearchlightSettings(labels=LABELS, minimum=2, **settings),
        mask=mask,
        radius_mm=RADIUS,
        noise=noise,
    )
    return plan.scoring.rdms(np.arange(plan.scoring.hoods.n_voxels))[0]


def crossnobis(x, weights=None):
    """Compute one RDM from patterns (n_runs, n_items, n_voxels), pair by pair and run by run."""
    runs, _, n = x.shape
    w = np.ones((n, runs)) if weights is None else weights
    difference = np.stack([run[PAIRS[0]] - run[PAIRS[1]] for run in x])
    total = sum(
        (difference[m] * w[:, m] * difference[other]).sum(axis=1)
        for m in range(runs)
        for other in range(runs)
        if m != other
    )
    return total / (runs * (runs - 1) * n)


@pytest.mark.parametrize("artifact", [None, 1e5])
@pytest.mark.parametrize("runs", [1, 2, 5])
def test_distances_equal_those_of_single_spheres_after_an_artifact_too(mask, models, runs, artifact):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(runs, ITEMS, n_voxels(mask))) + 100.0
    if artifact:
        x[:, :, [17, 300, 301, 700]] *= artifact
    dissimilarity = "crossnobis" if runs > 1 else "euclidean"
    found = rdms_of(x if runs > 1 else x[0], models, mask, dissimilarity=dissimilarity)
    for near, rdm in zip(spheres_of(mask), found, strict=True):
        one = x[0][:, near]
        wanted = (
            crossnobis(x[:, :, near]) if runs > 1 else ((one[PAIRS[0]] - one[PAIRS[1]]) ** 2).sum(axis=1) / len(near)
        )
        scale = np.abs(x[:, :, near] - x[:, :, near].mean(axis=1, keepdims=True)).max() ** 2
        np.testing.assert_allclose(rdm, wanted, rtol=0, atol=1e-12 * scale)


def test_distances_with_a_weight_for_each_run_and_voxel(mask, models):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, ITEMS, n_voxels(mask))) * rng.uniform(0.1, 30.0, n_voxels(mask)) + 5.0
    data = rsatoolbox.data.Dataset(
        x.reshape(-1, x.shape[2]),
        obs_descriptors={"stimulus_id": LABELS * 4, "run": np.repeat(list("1234"), ITEMS)},
        channel_descriptors={"voxel": np.arange(x.shape[2])},
    )
    noise = noise_precision(data, source="runs", method="diag")
    found = rdms_of(data, models, mask, noise, dissimilarity="crossnobis")
    weights = np.stack([noise.weights(run) for run in "1234"], axis=1)
    for near, rdm in zip(spheres_of(mask), found, strict=True):
        wanted = crossnobis(x[:, :, near], weights[near])
        np.testing.assert_allclose(rdm, wanted, rtol=0, atol=1e-11 * np.abs(wanted).max())


@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine"])
def test_correlations_of_patterns_with_a_large_common_value(mask, models, dissimilarity):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ITEMS, n_voxels(mask)))
    x += 1e5 if dissimilarity == "correlation" else 0.0
    x[:, 200] += 1e4 * rng.normal(size=ITEMS)  # an artifact
    found = rdms_of(x, models, mask, dissimilarity=dissimilarity)
    for near, rdm in zip(spheres_of(mask), found, strict=True):
        one = x[:, near].astype(np.longdouble)
        one -= one.mean(axis=1, keepdims=True) if dissimilarity == "correlation" else 0.0
        one /= np.sqrt((one**2).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(rdm, 1 - (one @ one.T)[PAIRS].astype(float), rtol=0, atol=1e-10)


def test_a_pattern_that_is_constant_in_some_spheres_has_no_score_there_and_does_no_harm_elsewhere(mask, models):
    x = np.random.default_rng(5).normal(size=(ITEMS, n_voxels(mask))) + 3.0
    x[4, 90:990] = 0.1
    found = rdms_of(x, models, mask, dissimilarity="correlation")
    for near, rdm in zip(spheres_of(mask), found, strict=True):
        if np.ptp(x[4, near]) == 0:
            assert np.isnan(rdm).all()
        else:
            np.testing.assert_allclose(rdm, 1 - np.corrcoef(x[:, near])[PAIRS], rtol=0, atol=1e-10)
    assert 0 < np.isnan(found[:, 0]).sum() < len(found)


def test_products_are_summed_anew_when_an_artifact_has_left(mask, models, monkeypatch):
    """Without that rule, its rounding errors would stay; so this test fails if the rule does not act."""
    x = np.random.default_rng(6).normal(size=(3, ITEMS, n_voxels(mask)))
    x[:, :, 700] *= 1e8
    near, found = spheres_of(mask), rdms_of(x, models, mask, dissimilarity="crossnobis")
    clean = [k for k, voxels in enumerate(near) if 700 not in voxels and 690 < k < 712]
    assert clean
    for k in clean:
        np.testing.assert_allclose(found[k], crossnobis(x[:, :, near[k]]), rtol=0, atol=1e-11)


def test_rows_have_the_products_of_runs_with_and_without_weights():
    rng = np.random.default_rng(7)
    x, weights = rng.normal(size=(6, 5, ITEMS)), rng.uniform(0.01, 100.0, size=(6, 5))
    for rows, w in ((rows_of_runs(x), np.ones((6, 5))), (rows_of_weights(x, weights), weights)):
        signs = np.where(np.arange(rows.shape[1]) == 0, 1.0, -1.0)
        found = np.einsum("r,vri,vrj->vij", signs, rows, rows)
        one_sided = np.einsum("vm,vmi,vlj->vij", w, x, x) - np.einsum("vm,vmi,vmj->vij", w, x, x)
        np.testing.assert_allclose(found, (one_sided + one_sided.transpose(0, 2, 1)) / 2, rtol=1e-10, atol=1e-9)


def test_most_spheres_are_updated_and_not_summed_anew(mask, models, monkeypatch):
    """The speed comes from this, so it is counted: a third of the voxels or less are moved."""
    spheres = spheres_of(mask)
    rows = np.random.default_rng(8).normal(size=(n_voxels(mask), 1, ITEMS))
    power = np.einsum("vri,vri->v", rows, rows)
    most = max(map(len, spheres))
    before, state = np.empty(most, np.int32), np.zeros(3)
    gram, sums = np.zeros((ITEMS, ITEMS)), np.zeros(ITEMS)
    moved = 0
    for near in spheres:
        last = before[: int(state[0])].copy()
        space = np.empty(most * ITEMS)
        sliding_kernels.slide(rows, power, near.copy(), before, state, space, space.copy(), gram, sums)
        changed = len(np.setxor1d(last, near))
        moved += min(changed, len(near))
        one = rows[near, 0]
        np.testing.assert_allclose(np.triu(gram), np.triu(one.T @ one), rtol=0, atol=1e-11)
        np.testing.assert_allclose(sums, one.sum(axis=0), rtol=0, atol=1e-11)
    assert moved < 0.5 * sum(map(len, spheres))


def test_only_products_that_are_sums_over_voxels_are_updated(mask):
    x = np.random.default_rng(9).normal(size=(3, ITEMS, n_voxels(mask)))
    model = rsatoolbox.rdm.RDMs(np.arange(36.0)[None], pattern_descriptors={"stimulus_id": LABELS})

    def can_slide(data, dissimilarity):
        settings = SearchlightSettings(labels=LABELS, dissimilarity=dissimilarity)
        plan = plan_searchlight(data, model, settings, mask=mask, radius_mm=RADIUS)
        prepared: Prepared = plan.scoring.prepared
        return prepared.can_slide(dissimilarity)

    gap = x.copy()
    gap[1, 2] = np.nan
    assert can_slide(x, "crossnobis")
    assert can_slide(x[0], "correlation")
    assert not can_slide(x, "correlation")
    assert not can_slide(gap, "crossnobis")


@pytest.mark.bits
def test_scores_do_not_depend_on_threads(mask, models):
    x = np.random.default_rng(10).normal(size=(3, ITEMS, n_voxels(mask)))
    maps = [
        searchlight(x, models, mask=mask, labels=LABELS, radius_mm=RADIUS, dissimilarity="crossnobis", threads=k).array
        for k in (1, 3)
    ]
    np.testing.assert_array_equal(*maps)


@pytest.mark.bits
@pytest.mark.parametrize("dissimilarity", ["crossnobis", "correlation"])
def test_rows_that_are_given_back_are_the_same_again(mask, models, dissimilarity, monkeypatch):
    x = np.random.default_rng(11).normal(size=(3, ITEMS, n_voxels(mask)))
    data = x if dissimilarity == "crossnobis" else x[0]
    settings = {"mask": mask, "labels": LABELS, "radius_mm": RADIUS, "dissimilarity": dissimilarity}
    whole = searchlight(data, models, **settings, threads=1).array
    monkeypatch.setattr("brainmap.rsa.searchlights.rows.MOST_KEPT", 0)
    monkeypatch.setattr("brainmap.rsa.searchlights.rows._BLOCK", 512)
    monkeypatch.setattr("brainmap.rsa.searchlights.scoring.CHUNK", 64)
    monkeypatch.setattr("brainmap.rsa.searchlights.volume.CHUNK", 64)
    plan = plan_searchlight(
        data, models, SearchlightSettings(labels=LABELS, dissimilarity=dissimilarity), mask=mask, radius_mm=RADIUS
    )
    for threads in (1, 3):
        np.testing.assert_allclose(plan.compute(threads=threads).array, whole, rtol=0, atol=1e-12)


def test_rows_are_made_once_in_order_and_given_back_when_nobody_uses_them(monkeypatch):
    monkeypatch.setattr("brainmap.rsa.searchlights.rows.MOST_KEPT", 0)
    made = []

    def make(voxels):
        made.append(int(voxels[0]))
        return np.tile(voxels[:, None, None] + 1.0, (1, 2, 4))

    rows = Rows(make, 5000, (2, 4))
    first, power = rows.take(0, 2500)
    assert made == [0, 1024, 2048]
    assert (first[:, 0, 0] == np.arange(2500) + 1.0).all()
    assert (power == 8 * (np.arange(2500) + 1.0) ** 2).all()
    second, _ = rows.take(1500, 4000)
    assert made == [0, 1024, 2048, 3072]
    del first
    third, _ = rows.take(3000, 5000)
    assert rows.made.tolist() == [False, True, True, True, True]
    assert (rows.rows[:1024] == 0.0).all()  # its memory was given back
    assert (second[:, 1, 3] == np.arange(1500, 4000) + 1.0).all()
    del second, third
    again, _ = rows.take(100, 101)
    assert made[-2:] == [4096, 0]
    assert again[0, 0, 0] == 101.0
    some, power = rows.take_some(np.array([3, 4999]))
    assert some[:, 0, 0].tolist() == [4.0, 5000.0]
    assert power.tolist() == [8 * 16.0, 8 * 25e6]


def weights_from_other_runs(x):
    """Return the precision of each voxel for each run, from how the other runs deviate from their mean."""
    runs = range(len(x))
    rest = [x[[other for other in runs if other != run]] for run in runs]
    spread = np.stack([((one - one.mean(axis=0)) ** 2).sum(axis=(0, 1)) for one in rest], axis=1)
    return (len(x) - 2) * x.shape[1] / spread


@pytest.mark.parametrize("noise", ["none", "residuals", "runs"])
def test_spheres_after_artifacts_of_1e5_equal_numpy_to_1e_10_of_their_own_scale(mask, models, noise):
    """Artifacts lie in some voxels of all runs, of one run, and of one item; the first sphere of many is after one."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(4, ITEMS, n_voxels(mask)))
    x[:, :, [17, 300, 301]] *= 1e5
    x[2, :, 700] += 1e5 * rng.normal(size=ITEMS)
    x[1, 4, 500] = 1e5
    artifacts = [17, 300, 301, 500, 700]
    data = rsatoolbox.data.Dataset(
        x.reshape(-1, x.shape[2]),
        obs_descriptors={"stimulus_id": LABELS * 4, "run": np.repeat(list("1234"), ITEMS)},
        channel_descriptors={"voxel": np.arange(x.shape[2])},
    )
    scaled, weights, given = x, None, None
    if noise == "residuals":  # of the voxels without the artifact of their patterns
        given = rng.uniform(0.5, 2.0, x.shape[2])
        scaled = x / given
    elif noise == "runs":
        given = SearchlightSettings(dissimilarity="crossnobis").choose_noise(data, source="runs")
        weights = weights_from_other_runs(x)
    found = rdms_of(data, models, mask, given, dissimilarity="crossnobis")
    n_clean = 0
    for near, rdm in zip(spheres_of(mask), found, strict=True):
        clean = not set(artifacts) & set(near.tolist())
        one = scaled[:, :, near] * (1.0 if weights is None else np.sqrt(weights[near].max(axis=1)))
        scale = 2.0 * (one**2).mean() if clean else 2.0 * (one**2).max()
        wanted = crossnobis(scaled[:, :, near], None if weights is None else weights[near])
        np.testing.assert_allclose(rdm, wanted, rtol=0, atol=1e-10 * scale)
        n_clean += clean
    assert n_clean > 0.4 * len(found)
