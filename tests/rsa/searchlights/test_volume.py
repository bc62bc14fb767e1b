"""The searchlight against the same RDMs computed sphere by sphere, here and in rsatoolbox."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
import rsatoolbox
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata
from threadpoolctl import threadpool_info

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa import SearchlightMaps, compare_rdms, compute_rdms, searchlight, stack_rdms
from brainmap.rsa.images.files import image_info, save_image
from brainmap.rsa.searchlights import kernels as _kernels
from brainmap.rsa.searchlights.settings import MEASURES
from brainmap.rsa.searchlights.spheres import build_spheres, compute_sphere_offsets

SHEARED = np.array([[2.0, 0.3, 0.0, -9], [-0.3, 2.9, 0.4, 5], [0.0, -0.5, 3.6, 2], [0, 0, 0, 1]])
STEP = 4
LABELS = [f"b{k}" for k in range(1, 13)]  # 'b10' sorts before 'b2'


@pytest.fixture
def mask():
    inside = np.zeros((7, 6, 5), dtype=np.float32)
    inside[1:6, 1:6, 0:5] = 1
    inside[3, 3, 3] = inside[1, 1, 0] = 0
    return nib.Nifti1Image(inside, SHEARED)


def patterns_for(mask, runs=3, items=12, seed=0):
    n_voxels = int(np.asarray(mask.dataobj).sum())
    rng = np.random.default_rng(seed)
    return rng.normal(size=(1, items, n_voxels)) + rng.normal(size=(runs, items, n_voxels)) + 5


def models_for(seed=1, n=3, items=12):
    rng = np.random.default_rng(seed)
    order = rng.permutation(items)
    rdms = np.round(rng.random((n, items * (items - 1) // 2)), 1)  # with ties
    return rsatoolbox.rdm.RDMs(
        rdms,
        descriptors={"level": "stimulus"},
        rdm_descriptors={"layer": [f"conv{k + 1}" for k in range(n)]},
        pattern_descriptors={"stimulus_id": [LABELS[k] for k in order]},
    )


def dataset_of(x, labels=LABELS, channels=None, seed=2):
    """As patterns come: observations shuffled, a voxel's number in a channel descriptor."""
    runs, items, n_voxels = x.shape
    order = np.random.default_rng(seed).permutation(runs * items)
    return rsatoolbox.data.Dataset(
        x.reshape(-1, n_voxels)[order],
        obs_descriptors={
            "stimulus_id": np.tile(labels, runs)[order],
            "condition": np.tile([label[:2] for label in labels], runs)[order],
            "run": np.repeat(np.arange(runs), items)[order],
        },
        channel_descriptors={"voxel": np.arange(n_voxels) if channels is None else channels},
    )


def sphere_voxels(mask, radius):
    """By the definition: distances in mm between all voxels of the mask."""
    where = np.argwhere(np.asarray(mask.dataobj) != 0) @ mask.affine[:3, :3].T
    apart = np.linalg.norm(where[:, None] - where[None], axis=2)
    return apart <= radius + 1e-6


def rdms_one_by_one(data, mask, radius, **how):
    """Every `STEP`-th sphere by compute_rdms."""
    for near in sphere_voxels(mask, radius)[::STEP]:
        yield compute_rdms(data.subset_channel("voxel", np.flatnonzero(near)), **how)


def one_by_one(data, models, mask, radius, measure, **how):
    """Every `STEP`-th sphere by compute_rdms and compare_rdms."""
    rdms = rdms_one_by_one(data, mask, radius, **how)
    return np.array([compare_rdms(models, rdm, measure=measure)[:, 0] for rdm in rdms]).T


@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine", "euclidean", "crossnobis"])
def test_between_runs_equals_rdms_and_comparisons_of_each_sphere(mask, dissimilarity):
    data, models = dataset_of(patterns_for(mask)), models_for()
    rdms = stack_rdms(list(rdms_one_by_one(data, mask, 5.0, dissimilarity=dissimilarity)))
    for measure in MEASURES:
        wanted = compare_rdms(models, rdms, measure=measure)
        maps = searchlight(
            data,
            models,
            mask=mask,
            radius_mm=5.0,
            dissimilarity=dissimilarity,
            measure=measure,
            minimum_voxels=3,
            threads=1,
        )
        np.testing.assert_allclose(maps.array[:, ::STEP], wanted, rtol=0, atol=1e-10, err_msg=measure)


@pytest.mark.parametrize(("run", "item"), [([0, 1, 2], [4, 4, 4]), ([0, 1, 1, 2], [2, 2, 5, 5])])
def test_every_measure_leaves_out_missing_pairs(mask, run, item):
    """A whole item, and a pair that shares no two runs."""
    x = patterns_for(mask)
    x[run, item] = np.nan
    data, models = dataset_of(x), models_for()
    rdms = stack_rdms(list(rdms_one_by_one(data, mask, 5.0, dissimilarity="crossnobis")))
    assert np.isnan(rdms.dissimilarities[0]).any()
    for measure in MEASURES:
        maps = searchlight(
            data,
            models,
            mask=mask,
            radius_mm=5.0,
            dissimilarity="crossnobis",
            measure=measure,
            minimum_voxels=3,
            threads=2,
        )
        wanted = compare_rdms(models, rdms, measure=measure)
        np.testing.assert_allclose(maps.array[:, ::STEP], wanted, rtol=0, atol=1e-10, err_msg=measure)


@pytest.mark.parametrize("measure", ["spearman", "rho-a", "corr", "cosine"])
@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
def test_average_of_runs_equals_rsatoolbox(mask, dissimilarity, measure):
    x, models = patterns_for(mask), models_for()
    maps = searchlight(
        dataset_of(x),
        models,
        mask=mask,
        radius_mm=5.0,
        dissimilarity=dissimilarity,
        measure="pearson" if measure == "corr" else measure,
        runs="average",
        minimum_voxels=3,
    )
    ids = list(models.pattern_descriptors["stimulus_id"])
    rows = x.mean(axis=0)[[LABELS.index(label) for label in ids]]
    for voxel, near in enumerate(sphere_voxels(mask, 5.0)):
        rdm = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(rows[:, near]), method=dissimilarity)
        wanted = rsatoolbox.rdm.compare(models, rdm, method=measure)[:, 0]
        np.testing.assert_allclose(maps.array[:, voxel], wanted, rtol=0, atol=1e-10)


def test_missing_patterns_leave_out_their_pairs_only(mask):
    x = patterns_for(mask)
    x[0, 2] = x[1, 2] = x[2, 5] = np.nan  # item 2 is left in one run, item 5 in two
    data, models = dataset_of(x), models_for()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        wanted = one_by_one(data, models, mask, 5.0, "spearman", dissimilarity="correlation")
    maps = searchlight(data, models, mask=mask, radius_mm=5.0, minimum_voxels=3)
    np.testing.assert_allclose(maps.array[:, ::STEP], wanted, rtol=0, atol=1e-10)
    rows = np.flatnonzero(~np.isnan(data.measurements[:, 0]))
    kept = rsatoolbox.data.Dataset(
        data.measurements[rows],
        obs_descriptors={k: np.asarray(v)[rows] for k, v in data.obs_descriptors.items()},
        channel_descriptors=data.channel_descriptors,
    )
    absent = searchlight(kept, models, mask=mask, radius_mm=5.0, minimum_voxels=3)
    np.testing.assert_array_equal(absent.array, maps.array)


def test_conditions_average_their_tokens_within_runs(mask):
    labels = [f"{'abcd'[k % 4]}{k // 4}" for k in range(12)]
    data = dataset_of(patterns_for(mask), labels=labels)
    data.obs_descriptors["condition"] = np.array([label[0] for label in data.obs_descriptors["stimulus_id"]])
    models = compute_rdms(
        np.random.default_rng(0).normal(size=(4, 30)),
        items="condition",
        descriptors={"condition": ["d", "b", "a", "c"]},
    )
    maps = searchlight(data, models, mask=mask, radius_mm=5.0, items="condition", minimum_voxels=3)
    wanted = one_by_one(data, models, mask, 5.0, "spearman", dissimilarity="correlation", items="condition")
    np.testing.assert_allclose(maps.array[:, ::STEP], wanted, rtol=0, atol=1e-10)
    with pytest.raises(InputError, match="over 12 stimuli, the models over 4 conditions"):
        searchlight(data, models, mask=mask, radius_mm=5.0)


def test_voxels_lacking_or_without_data_belong_to_no_sphere(mask):
    x, models = patterns_for(mask), models_for()
    n = x.shape[-1]
    bad = [3, 40]
    kept = np.setdiff1d(np.arange(n), [*bad, 77])
    x[1, 4, 3], x[:, :, 40] = np.nan, 2.5
    order = np.random.default_rng(3).permutation(n - 1)
    channels = np.setdiff1d(np.arange(n), [77])[order]
    maps = searchlight(
        dataset_of(x[..., channels], channels=channels), models, mask=mask, radius_mm=5.0, minimum_voxels=3
    )
    assert maps.n_excluded == 3
    assert np.isnan(maps.array[:, [*bad, 77]]).all()
    near = sphere_voxels(mask, 5.0)[np.ix_(kept, kept)]
    np.testing.assert_array_equal(maps.counts[kept], near.sum(axis=1))
    smaller = nib.Nifti1Image(np.asarray(mask.dataobj).copy(), mask.affine)
    inside = np.argwhere(np.asarray(mask.dataobj) != 0)
    for voxel in (*bad, 77):
        np.asarray(smaller.dataobj)[tuple(inside[voxel])] = 0
    alone = searchlight(dataset_of(x[..., kept]), models, mask=smaller, radius_mm=5.0, minimum_voxels=3)
    np.testing.assert_allclose(maps.array[:, kept], alone.array, rtol=0, atol=1e-12)


def test_a_pattern_constant_within_a_sphere_is_nan_there_and_nowhere_else(mask):
    x, models = patterns_for(mask), models_for()
    whole = searchlight(dataset_of(x), models, mask=mask, radius_mm=5.0, minimum_voxels=3)
    near = sphere_voxels(mask, 5.0)
    center = int(near.sum(axis=1).argmax())
    x[2, 7, near[center]] = 1e6 / 3
    maps = searchlight(dataset_of(x), models, mask=mask, radius_mm=5.0, minimum_voxels=3)
    constant = (near <= near[center]).all(axis=1)
    touched = (near & near[center]).any(axis=1)
    assert constant.any()
    np.testing.assert_array_equal(np.isnan(maps.array[0]), constant)
    assert maps.n_unscored == constant.sum()
    np.testing.assert_array_equal(maps.array[:, ~touched], whole.array[:, ~touched])


def test_a_pattern_constant_everywhere_leaves_no_score_and_is_said(mask):
    x, models = patterns_for(mask), models_for()
    x[0, 4] = 2.5
    with pytest.warns(BrainmapWarning, match="none of .* spheres has a score"):
        maps = searchlight(dataset_of(x), models, mask=mask, radius_mm=5.0, minimum_voxels=3)
    assert np.isnan(maps.array).all()


def test_small_spheres_have_no_score(mask):
    x, models = patterns_for(mask), models_for()
    maps = searchlight(dataset_of(x), models, mask=mask, radius_mm=5.0, minimum_voxels=14)
    np.testing.assert_array_equal(np.isnan(maps.array[0]), maps.counts < 14)
    assert 0 < maps.n_unscored < maps.counts.size


@pytest.mark.parametrize("affine", [np.diag([3.0, 3, 3, 1]), np.diag([-2.0, 3, 4, 1]), SHEARED])
@pytest.mark.parametrize("radius", [4.0, 6.0, 9.0])
def test_spheres_hold_the_voxels_within_the_radius_in_mm(affine, radius):
    rng = np.random.default_rng(0)
    usable = rng.random((9, 8, 7)) < 0.7
    single = affine.astype(np.float32)
    where = np.argwhere(usable) @ affine[:3, :3].T
    near = np.linalg.norm(where[:, None] - where[None], axis=2) <= radius + 1e-4
    patches = build_spheres(usable, single, radius).patches(0, len(where))
    found = np.zeros_like(near)
    for center, patch in enumerate(patches):
        found[center, patch[patch >= 0]] = True
    np.testing.assert_array_equal(found, near)


def test_a_sphere_is_the_same_wherever_it_is():
    # 3 x 2.2 mm is beyond a radius of 6.6 mm by rounding alone
    offsets = compute_sphere_offsets(np.diag([2.2, 2.2, 2.2, 1]).astype(np.float32), 6.6)
    assert {(3, 0, 0), (-3, 0, 0), (0, 0, 3), (2, 2, 1)} <= {tuple(row) for row in offsets}
    assert len(offsets) == 123


def ranks_by_kernel(values):
    n = values.size
    padded = np.r_[[-np.inf] * 4, np.zeros(n), [np.inf] * 4]
    out = np.empty(n)
    keys, starts = np.empty(n, np.int32), np.empty(2 * n + 2, np.int32)
    _kernels._rank_rows(values, keys, starts, padded, np.empty(n), out)
    return out


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e9, 1e9, allow_subnormal=False)),
    st.integers(1, 12),
)
def test_ranks_equal_scipy_for_any_values(values, repeats):
    np.testing.assert_array_equal(ranks_by_kernel(values), rankdata(values))
    tied = np.tile(values, repeats)
    np.testing.assert_array_equal(ranks_by_kernel(tied), rankdata(tied))


@pytest.mark.parametrize("scale", [5e-324, 2.3e-308, 1e-300, 1e-280, 1e300])
def test_ranks_equal_scipy_for_values_that_hardly_differ_and_for_huge_ones(scale):
    values = np.random.default_rng(0).integers(-50, 50, size=200) * scale
    np.testing.assert_array_equal(ranks_by_kernel(values), rankdata(values))


@pytest.mark.parametrize("measure", ["spearman", "pearson"])
def test_distances_that_overflow_are_no_score(mask, measure):
    x, models = patterns_for(mask), models_for()
    near = sphere_voxels(mask, 5.0)
    x[:, :, 60] *= 1e200
    maps = searchlight(
        x, models, mask=mask, labels=LABELS, radius_mm=5.0, dissimilarity="euclidean", measure=measure, minimum_voxels=3
    )
    np.testing.assert_array_equal(np.isnan(maps.array[0]), near[60])


@pytest.mark.parametrize("power", [1, 9, 41])
def test_ranks_equal_scipy_for_skewed_values_and_outliers(power):
    values = np.random.default_rng(0).normal(size=5000) ** power
    values[:50] = values[50:100]
    np.testing.assert_array_equal(ranks_by_kernel(values), rankdata(values))


def test_planted_model_wins_in_its_region_only():
    rng = np.random.default_rng(0)
    inside = np.ones((12, 8, 8), dtype=np.float32)
    mask = nib.Nifti1Image(inside, np.diag([4.0, 4, 4, 1]))
    layers = rng.normal(size=(2, 12, 40))
    models = rsatoolbox.rdm.concat(
        [
            compute_rdms(layer, descriptors={"stimulus_id": LABELS, "layer": f"conv{k}"})
            for k, layer in enumerate(layers, 1)
        ]
    )
    first = np.indices(inside.shape)[0]
    betas = rng.normal(size=(4, 12, inside.size))
    betas[..., (first < 4).ravel()] += layers[0] @ rng.normal(size=(40, (first < 4).sum())) * 0.3
    betas[..., (first >= 8).ravel()] += layers[1] @ rng.normal(size=(40, (first >= 8).sum())) * 0.3
    maps = searchlight(betas, models, mask=mask, labels=LABELS, radius_mm=9.0)
    best = np.asarray(maps.best.dataobj)
    assert (best[first < 3] == 1).mean() > 0.95
    assert (best[first > 8] == 2).mean() > 0.95
    quiet = np.asarray(maps["conv1"].dataobj)[(first > 4) & (first < 7)]
    assert abs(quiet.mean()) < 0.08


def test_maps_are_float32_images_with_nan_outside(mask):
    data = dataset_of(patterns_for(mask))
    maps = searchlight(data, models_for(), mask=mask, radius_mm=5.0, minimum_voxels=3)
    inside = np.asarray(mask.dataobj) != 0
    assert isinstance(maps, SearchlightMaps)
    assert list(maps) == ["conv1", "conv2", "conv3"]
    for k, image in enumerate(maps.values()):
        values = np.asarray(image.dataobj)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(values), ~inside)
        np.testing.assert_array_equal(values[inside], maps.array[k].astype(np.float32))
        np.testing.assert_array_equal(image.affine, mask.affine)
    np.testing.assert_array_equal(np.asarray(maps.best.dataobj)[inside], maps.array.argmax(axis=0) + 1)
    np.testing.assert_array_equal(
        np.asarray(maps.best_score.dataobj)[inside], maps.array.max(axis=0).astype(np.float32)
    )
    assert np.asarray(maps.voxel_count.dataobj)[~inside].max() == 0
    with pytest.raises(KeyError, match="did you mean 'conv1'"):
        maps["con1"]


@pytest.mark.bits
def test_threads_change_no_number_and_give_blas_its_threads_back(mask):
    data, models = dataset_of(patterns_for(mask)), models_for()
    before = [pool["num_threads"] for pool in threadpool_info()]
    one = searchlight(data, models, mask=mask, radius_mm=5.0, minimum_voxels=3, threads=1)
    three = searchlight(data, models, mask=mask, radius_mm=5.0, minimum_voxels=3, threads=3)
    np.testing.assert_array_equal(one.array, three.array)
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_arrays_need_labels_and_equal_the_dataset(mask):
    x, models = patterns_for(mask), models_for()
    by_dataset = searchlight(dataset_of(x), models, mask=mask, radius_mm=5.0, minimum_voxels=3)
    by_array = searchlight(x, models, mask=mask, labels=LABELS, radius_mm=5.0, minimum_voxels=3)
    np.testing.assert_array_equal(by_array.array, by_dataset.array)
    with pytest.raises(InputError, match="an array has no labels"):
        searchlight(x, models, mask=mask, radius_mm=5.0)


def test_crossnobis_divides_by_the_noise_of_each_voxel(mask):
    x, models = patterns_for(mask), models_for()
    noise = np.random.default_rng(5).uniform(0.5, 3, x.shape[-1])
    how = {"mask": mask, "labels": LABELS, "radius_mm": 5.0, "dissimilarity": "crossnobis", "minimum_voxels": 3}
    scaled = searchlight(x / noise, models, **how)
    found = searchlight(x, models, noise=noise, **how)
    np.testing.assert_allclose(found.array, scaled.array, rtol=0, atol=1e-12)


def test_euclidean_keeps_its_digits_on_a_large_baseline(mask):
    x, models = patterns_for(mask, runs=1), models_for()
    near = searchlight(
        x,
        models,
        mask=mask,
        labels=LABELS,
        radius_mm=5.0,
        dissimilarity="euclidean",
        measure="pearson",
        minimum_voxels=3,
    )
    far = searchlight(
        x + 2.0**20,
        models,
        mask=mask,
        labels=LABELS,
        radius_mm=5.0,
        dissimilarity="euclidean",
        measure="pearson",
        minimum_voxels=3,
    )
    np.testing.assert_allclose(far.array, near.array, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"radius_mm": 1.5}, "smaller than a voxel"),
        ({"minimum_voxels": 500}, "fewer than minimum_voxels=500"),
        ({"dissimilarity": "corelation"}, "did you mean 'correlation'"),
        ({"measure": "sperman"}, "did you mean 'spearman'"),
        ({"measure": "bures"}, "searchlight measure"),
        ({"runs": "each"}, "'between', 'average'"),
        ({"threads": 0}, "threads=0"),
        ({"noise": np.ones(3)}, "takes no noise"),
        ({"noise": np.ones(3), "dissimilarity": "crossnobis"}, "one standard deviation per channel"),
        ({"dissimilarity": "crossnobis", "runs": "average"}, "expected two runs or more for crossnobis, got one"),
        ({"items": "condition"}, "over 3 conditions, the models over 12 stimuli"),
    ],
)
def test_bad_settings_are_one_clear_line(mask, change, said):
    data = dataset_of(patterns_for(mask))
    ids = data.obs_descriptors["stimulus_id"]
    data.obs_descriptors["condition"] = np.array([str(int(label[1:]) % 3) for label in ids])
    with pytest.raises(InputError, match=said):
        searchlight(data, models_for(), mask=mask, **{"radius_mm": 5.0, "minimum_voxels": 3, **change})


def test_items_and_voxels_that_differ_are_named(mask):
    x, models = patterns_for(mask), models_for()
    with pytest.raises(InputError, match="only in the data: 'owl'; only in the models: 'b12'"):
        searchlight(dataset_of(x, labels=[*LABELS[:11], "owl"]), models, mask=mask)
    with pytest.raises(InputError, match="use the mask with which the data were read"):
        searchlight(x[..., :-1], models, mask=mask, labels=LABELS)
    with pytest.raises(InputError, match="more than once in the data's channels"):
        searchlight(dataset_of(x[..., :2], channels=[4, 4]), models, mask=mask)
    models.rdm_descriptors["layer"] = ["conv1", "conv2", "conv1"]
    with pytest.raises(InputError, match="models: 'conv1' occur twice"):
        searchlight(dataset_of(x), models, mask=mask, radius_mm=5.0)
    models = models_for()
    models.dissimilarities[1] = 0.5
    with pytest.raises(InputError, match="models 'conv2' are equal"):
        searchlight(dataset_of(x), models, mask=mask, radius_mm=5.0)


def over_time(seed=3, windows=6):
    """Two layers, each an RDM a window of 50 ms, and the geometry of each."""
    rng = np.random.default_rng(seed)
    patterns = rng.normal(size=(2, windows, 12, 40))
    rdms = stack_rdms(
        [
            compute_rdms(
                patterns[k, t], descriptors={"stimulus_id": LABELS, "layer": f"conv{k + 1}", "time": 0.1 + 0.05 * t}
            )
            for k in range(2)
            for t in range(windows)
        ]
    )
    return rdms, patterns


def test_regions_that_follow_different_times_are_found_at_their_times():
    """The first region follows conv1 at 150 ms, the second conv2 at 300 ms."""
    rng = np.random.default_rng(0)
    inside = np.ones((12, 8, 8), dtype=np.float32)
    mask = nib.Nifti1Image(inside, np.diag([4.0, 4, 4, 1]))
    models, patterns = over_time()
    first = np.indices(inside.shape)[0]
    betas = rng.normal(size=(4, 12, inside.size))
    for near, planted in ((first < 4, patterns[0, 1]), (first >= 8, patterns[1, 4])):
        betas[..., near.ravel()] += planted @ rng.normal(size=(40, near.sum())) * 0.3
    maps = searchlight(betas, models, mask=mask, labels=LABELS, radius_mm=9.0)
    assert maps.layers == ("conv1", "conv2")
    assert list(maps)[:2] == ["conv1@0.1", "conv1@0.15"]
    when, best = np.asarray(maps.best_time.dataobj), np.asarray(maps.best.dataobj)
    for near, layer, time in ((first < 3, 1, 0.15), (first > 8, 2, 0.3)):
        assert (np.isclose(when, time) & (best == layer))[near].mean() > 0.95
    image = maps.over_time("conv2")
    assert image.shape == (12, 8, 8, 6)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 4], np.asarray(maps["conv2@0.3"].dataobj))
    assert image.header.get_zooms()[3] == pytest.approx(0.05)
    assert float(image.header["toffset"]) == pytest.approx(0.1)
    assert image.header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize("name", ["course.nii.gz", "course+orig.HEAD"])
def test_the_time_axis_is_kept_in_files(mask, tmp_path, name):
    models, _ = over_time()
    maps = searchlight(patterns_for(mask), models, mask=mask, labels=LABELS, radius_mm=5.0, minimum_voxels=3)
    path = save_image(maps.over_time("conv1"), tmp_path / name)
    info = image_info(path)
    assert [info.t_r, info.start] == pytest.approx([0.05, 0.1])
    assert info.shape[3] == 6


def test_times_that_have_no_axis_are_refused(mask):
    models, _ = over_time()
    maps = searchlight(patterns_for(mask), models, mask=mask, labels=LABELS, radius_mm=5.0, minimum_voxels=3)
    with pytest.raises(InputError, match="did you mean 'conv1'"):
        maps.over_time("cnv1")
    few = models.subset("index", [0, 1, 3])
    maps = searchlight(patterns_for(mask), few, mask=mask, labels=LABELS, radius_mm=5.0, minimum_voxels=3)
    with pytest.raises(InputError, match="not evenly spaced"):
        maps.over_time("conv1")
    still = searchlight(patterns_for(mask), models_for(), mask=mask, labels=LABELS, radius_mm=5.0, minimum_voxels=3)
    with pytest.raises(InputError, match="not over time"):
        still.over_time("conv1")


def test_two_items_have_no_geometry(mask):
    x = patterns_for(mask, items=2)
    few = rsatoolbox.rdm.RDMs(np.ones((1, 1)), pattern_descriptors={"stimulus_id": ["a", "b"]})
    with pytest.raises(InputError, match=r"expected at least 3 items, got 2"):
        searchlight(x, few, mask=mask, labels=["a", "b"], radius_mm=5.0)
