"""Group maps: planted clusters come back where they are, nothing else does, and grids must agree."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from brainmap.errors import InputError
from brainmap.rsa.group.maps import CLUSTER_COLUMNS, group_test, threshold_map
from brainmap.rsa.inference.sign_flips import sign_flip_test
from brainmap.rsa.regions.rois import Rois
from brainmap.rsa.surface.data import SurfaceData
from brainmap.rsa.surface.meshes import Mesh

# stored right to left, as AFNI and many scanners do
AFFINE = np.array([[-3.0, 0, 0, 12], [0, 3, 0, -9], [0, 0, 4, -6], [0, 0, 0, 1]])
SHAPE = (9, 8, 7)


def maps_with(signal, n=8, seed=0, sd=0.05):
    rng = np.random.default_rng(seed)
    return [nib.Nifti1Image((signal + rng.normal(0, sd, SHAPE)).astype(np.float32), AFFINE) for _ in range(n)]


def planted(at=((1, 1, 1), (6, 5, 4)), size=2, height=0.4):
    signal = np.zeros(SHAPE)
    for x, y, z in at:
        signal[x : x + size, y : y + size, z : z + size] = height
    return signal


def values_of(image):
    return np.asarray(image.dataobj)


def test_planted_clusters_come_back_with_their_peaks_in_both_orientations():
    signal = planted()
    signal[6, 5, 4:7] = 0.4  # the second is larger
    result = group_test(maps_with(signal))
    assert result.enumerated
    assert result.n_flips == 256
    significant = values_of(result.p_corrected) <= 0.05
    np.testing.assert_array_equal(significant, signal > 0)
    table = result.clusters
    assert list(table.columns) == [
        "model",
        "cluster",
        "peak",
        "x",
        "y",
        "z",
        "x_rai",
        "y_rai",
        "z_rai",
        "voxels",
        "volume",
        "mean",
        "statistic",
        "p_corrected",
    ]
    assert set(table.columns) <= CLUSTER_COLUMNS.keys()
    assert table["cluster"].tolist() == [1, 2]
    assert table["voxels"].tolist() == [9, 8]
    assert table["volume"].tolist() == [9 * 36, 8 * 36]
    for _, row in table.iterrows():
        voxel = tuple(np.rint(np.linalg.inv(AFFINE) @ [row.x, row.y, row.z, 1]).astype(int)[:3])
        assert signal[voxel] > 0
        assert row.statistic == pytest.approx(values_of(result.statistic)[voxel], rel=1e-6)
        assert (row.x_rai, row.y_rai, row.z_rai) == (-row.x, -row.y, row.z)
    assert table.statistic.min() >= result.critical


def test_statistic_is_t_and_p_is_that_of_the_sign_flip_test():
    maps = maps_with(planted(height=0.03))
    result = group_test(maps)
    stacked = np.stack([values_of(m) for m in maps]).astype(float)
    np.testing.assert_allclose(values_of(result.statistic), stats.ttest_1samp(stacked, 0).statistic, rtol=1e-5)
    np.testing.assert_allclose(values_of(result.mean), stacked.mean(axis=0), rtol=1e-5)
    wanted = sign_flip_test(stacked.reshape(8, -1))
    np.testing.assert_allclose(values_of(result.p).ravel(), wanted.p, rtol=1e-6)
    np.testing.assert_allclose(values_of(result.p_corrected).ravel(), wanted.p_corrected, rtol=1e-6)


def test_several_models_are_corrected_together_and_the_best_is_shown_where_significant():
    first, second = planted(at=[(1, 1, 1)]), planted(at=[(6, 5, 4)])
    lists = {"conv1": maps_with(first), "conv2": maps_with(second, seed=1)}
    result = group_test(lists)
    together = np.concatenate([np.stack([values_of(m).ravel() for m in maps]) for maps in lists.values()], axis=1)
    wanted = sign_flip_test(together).p_corrected.reshape(2, *SHAPE)
    for name, p in zip(lists, wanted, strict=True):
        np.testing.assert_allclose(values_of(result.p_corrected[name]), p, rtol=1e-6)
    best = values_of(result.best)
    np.testing.assert_array_equal(best[first > 0], 1)
    np.testing.assert_array_equal(best[second > 0], 2)
    assert np.isnan(best[(first + second) == 0]).all()
    assert result.clusters["model"].tolist() == ["conv1", "conv2"]
    by_participant = [dict(zip(lists, pair, strict=True)) for pair in zip(*lists.values(), strict=True)]
    again = group_test(by_participant)
    np.testing.assert_array_equal(values_of(again.p["conv2"]), values_of(result.p["conv2"]))


def test_voxels_that_a_participant_lacks_are_left_out_and_counted():
    maps = maps_with(planted())
    outside = np.zeros(SHAPE, dtype=bool)
    outside[:, :, 6] = True
    for image in maps:
        values_of(image)[outside] = np.nan
    values_of(maps[3])[0, 0, :2] = np.nan
    values_of(maps[5])[0, 0, 0] = 0  # written as 0 by tools that know no NaN
    result = group_test(maps)
    assert result.n_excluded == 2
    assert result.n_voxels == outside.size - outside.sum() - 2
    assert np.isnan(values_of(result.statistic)[outside]).all()
    assert np.isnan(values_of(result.p)[0, 0, :2]).all()


def test_two_sided_finds_both_signs_as_clusters_of_their_own():
    signal = planted(at=[(1, 1, 1)])
    signal[3:5, 1:3, 1:3] = -0.4  # touches the other
    table = group_test(maps_with(signal), alternative="two-sided").clusters
    assert sorted(np.sign(table["statistic"])) == [-1, 1]
    assert table["voxels"].tolist() == [8, 8]


def test_a_mask_restricts_the_family():
    maps = maps_with(planted(height=0.12), sd=0.1)
    inside = np.zeros(SHAPE, dtype=np.float32)
    inside[1:3, 1:3, 1:3] = 1
    result = group_test(maps, mask=nib.Nifti1Image(inside, AFFINE))
    assert result.n_voxels == 8
    whole = group_test(maps)
    chosen = inside > 0
    assert (values_of(result.p_corrected)[chosen] <= values_of(whole.p_corrected)[chosen]).all()
    np.testing.assert_array_equal(values_of(result.p)[chosen], values_of(whole.p)[chosen])


def test_where_fdr_finds_nothing_for_want_of_participants_it_is_said():
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(10, 10, 5)) for _ in range(8)]
    maps = [nib.Nifti1Image(one, np.eye(4)) for one in values]
    found = group_test(maps, correction="fdr")
    wanted = "no p is under 0.00391, so that fdr finds at least 40 of the 500 tests (8 %) together or none; here none"
    assert found.reach == wanted
    assert group_test(maps).reach == ""
    assert group_test([nib.Nifti1Image(one + 3, np.eye(4)) for one in values], correction="fdr").reach == ""


def test_fdr_is_benjamini_hochberg_over_the_same_tests():
    result = group_test(maps_with(planted()), correction="fdr")
    p = values_of(result.p).ravel().astype(float)
    wanted = stats.false_discovery_control(p)
    np.testing.assert_allclose(values_of(result.p_corrected).ravel(), wanted, rtol=1e-5)


def test_no_cluster_gives_an_empty_table():
    result = group_test(maps_with(np.zeros(SHAPE), n=4))
    assert list(result.clusters.columns) == list(group_test(maps_with(planted())).clusters.columns)
    assert len(result.clusters) == 0
    assert result.smallest_p == 1 / 16
    assert np.isnan(values_of(result.best)).all()
    assert result.critical == np.inf


def test_bad_input_is_one_clear_line(tmp_path):
    maps = maps_with(planted())
    moved = nib.Nifti1Image(values_of(maps[0]), AFFINE + np.diag([1, 0, 0, 0]))
    with pytest.raises(InputError, match=r"map 8: grid .* differs from the first map's grid"):
        group_test([*maps[:7], moved])
    with pytest.raises(InputError, match=r"expected at least 2 participants with maps .* got 1"):
        group_test(maps[:1])
    with pytest.raises(InputError, match="got the maps of one participant"):
        group_test({"a": maps[0], "b": maps[1]})
    with pytest.raises(InputError, match=r"different numbers of participants: {'a': 8, 'b': 7}"):
        group_test({"a": maps, "b": maps[1:]})
    with pytest.raises(InputError, match="the first participant, 'a', got 'b' of participant 2 of the list"):
        group_test([{"a": maps[0]}, {"b": maps[1]}])
    with pytest.raises(InputError, match="expected one of 'sign-flip'"):
        group_test(maps, test="t")
    empty = [nib.Nifti1Image(np.full(SHAPE, np.nan, dtype=np.float32), AFFINE)] * 3
    with pytest.raises(InputError, match="no voxel has a value in every participant"):
        group_test(empty)


def test_paths_are_read(tmp_path):
    maps = maps_with(planted(), n=5)
    files = [tmp_path / f"sub-{k}.nii.gz" for k in range(5)]
    for image, file in zip(maps, files, strict=True):
        nib.save(image, file)
    np.testing.assert_array_equal(values_of(group_test(files).p), values_of(group_test(maps).p))


def smooth_maps(signal, n=8, seed=0, sd=0.1):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(n, *SHAPE)), (0, 1, 1, 1))
    return [nib.Nifti1Image((signal + sd * one / noise.std()).astype(np.float32), AFFINE) for one in noise]


@pytest.mark.parametrize("correction", ["tfce", "cluster-mass"])
def test_a_planted_blob_is_a_significant_cluster_and_stays_in_the_thresholded_map(correction):
    signal = planted(at=[(3, 3, 2)], size=4, height=0.3)
    result = group_test(smooth_maps(signal), correction=correction, cluster_p=0.01)
    p, enhanced = values_of(result.p_corrected), values_of(result.enhanced)
    assert (p[signal > 0] <= 0.05).all()
    row = result.clusters.iloc[0]
    voxel = tuple(np.rint(np.linalg.inv(AFFINE) @ [row.x, row.y, row.z, 1]).astype(int)[:3])
    assert signal[voxel] > 0
    column = {"tfce": "tfce", "cluster-mass": "mass"}[correction]
    assert row[column] == pytest.approx(enhanced[voxel])
    np.testing.assert_array_equal(p <= 0.05, enhanced >= np.float32(result.critical))
    kept = values_of(result.thresholded)
    np.testing.assert_array_equal(kept[p <= 0.05], values_of(result.mean)[p <= 0.05])
    assert np.isnan(kept[p > 0.05]).all()
    assert np.isnan(result.cluster_t) == (correction == "tfce")
    if correction == "cluster-mass":
        assert ((enhanced > 0) == (values_of(result.statistic) > result.cluster_t)).all()
        assert (p[enhanced == 0] == 1).all()


@pytest.mark.parametrize("correction", ["max-t", "tfce"])
def test_differences_are_a_paired_two_sided_test_of_a_family_of_their_own(correction):
    common = smooth_maps(np.zeros(SHAPE), sd=0.3)  # a participant's own, shared by models: pairing takes it out
    lists = {
        "conv2": [
            nib.Nifti1Image(values_of(a) + values_of(b), AFFINE)
            for a, b in zip(common, smooth_maps(planted(at=[(6, 5, 4)]), seed=1, sd=0.03), strict=True)
        ],
        "conv4": [
            nib.Nifti1Image(values_of(a) + values_of(b), AFFINE)
            for a, b in zip(common, smooth_maps(planted(at=[(1, 1, 1)]), seed=2, sd=0.03), strict=True)
        ],
        "conv7": smooth_maps(np.zeros(SHAPE), seed=3),
    }
    result = group_test(lists, correction=correction, contrasts=[("conv4", "conv2")])
    differences = result.differences
    assert differences.names == ("conv4 - conv2",)
    paired = [
        nib.Nifti1Image(values_of(a) - values_of(b), AFFINE)
        for a, b in zip(lists["conv4"], lists["conv2"], strict=True)
    ]
    alone = group_test(paired, correction=correction, alternative="two-sided")
    np.testing.assert_allclose(
        values_of(differences.p_corrected["conv4 - conv2"]), values_of(alone.p_corrected), rtol=1e-6
    )
    table = differences.clusters
    assert set(np.sign(table["statistic"])) == {-1, 1}
    first = table[table["statistic"] > 0].iloc[0]
    voxel = np.rint(np.linalg.inv(AFFINE) @ [first.x, first.y, first.z, 1]).astype(int)[:3]
    assert ((voxel >= 1) & (voxel <= 2)).all()
    plain = group_test(lists, correction=correction)
    np.testing.assert_array_equal(values_of(plain.p["conv7"]), values_of(result.p["conv7"]))
    assert plain.differences is None
    every = group_test(lists, correction=correction, contrasts="all-pairs").differences
    assert every.names == ("conv4 - conv2", "conv7 - conv2", "conv7 - conv4")
    together = values_of(every.p_corrected["conv4 - conv2"])
    assert (together >= values_of(differences.p_corrected["conv4 - conv2"]) - 1e-7).all()


def test_a_voxel_where_two_models_are_equal_in_everyone_is_left_out_of_their_difference():
    one, other = maps_with(planted()), maps_with(planted(), seed=1)
    for a, b in zip(one, other, strict=True):
        values_of(a)[0, 0, 0] = values_of(b)[0, 0, 0] = 0.2
    result = group_test({"a": one, "b": other}, contrasts=[("a", "b")])
    assert np.isnan(values_of(result.differences.statistic["a - b"])[0, 0, 0])
    assert np.isfinite(values_of(result.differences.statistic["a - b"])).sum() == np.prod(SHAPE) - 1


def test_clusters_are_given_the_names_of_their_regions():
    signal = planted()
    signal[6, 5, 4:7] = 0.4
    labels = np.zeros(SHAPE, np.int32)
    labels[1, 1:3, 1:3], labels[2, 1:3, 1:3] = 1, 2
    rois = Rois(("left-a", "left-b"), labels, AFFINE)
    table = group_test(maps_with(signal), rois=rois).clusters
    assert table["rois"].fillna("").tolist() == ["", "left-a 50 %, left-b 50 %"]
    assert table["peak_roi"].isna().tolist() == [True, False]
    assert table["peak_roi"].tolist()[1] in ("left-a", "left-b")
    again = group_test(maps_with(signal), rois=nib.Nifti1Image(labels, AFFINE)).clusters
    assert again["rois"].fillna("").tolist() == ["", "1 50 %, 2 50 %"]


def test_further_maxima_of_a_cluster_are_listed_where_a_distance_is_given():
    signal = np.zeros(SHAPE)
    signal[1:8, 3, 3] = 0.2
    signal[1, 3, 3], signal[7, 3, 3] = 0.6, 0.5
    table = group_test(maps_with(signal, sd=0.01), peak_distance=9.0).clusters
    first = table[table["cluster"] == 1]
    assert first["peak"].tolist() == list(range(1, len(first) + 1))
    assert len(first) >= 2
    assert (np.diff(first["statistic"]) <= 0).all()
    points = first[["x", "y", "z"]].to_numpy()
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert apart[~np.eye(len(first), dtype=bool)].min() >= 9
    assert len(group_test(maps_with(signal, sd=0.01)).clusters) == table["cluster"].nunique()


@pytest.mark.parametrize("neighbors", [6, 26])
def test_more_neighbors_join_clusters_that_meet_at_corners(neighbors):
    signal = np.zeros(SHAPE)
    signal[2:4, 2:4, 2:4] = signal[4:6, 4:6, 4:6] = 0.5
    table = group_test(maps_with(signal), neighbors=neighbors).clusters
    assert table["voxels"].tolist() == ([8, 8] if neighbors == 6 else [16])


def test_arrays_with_edges_give_what_volumes_give():
    maps = smooth_maps(planted(height=0.3))
    index = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    edges = np.concatenate(
        [
            np.stack([index[1:].ravel(), index[:-1].ravel()], axis=1),
            np.stack([index[:, 1:].ravel(), index[:, :-1].ravel()], axis=1),
            np.stack([index[:, :, 1:].ravel(), index[:, :, :-1].ravel()], axis=1),
        ]
    )
    wanted = group_test(maps, correction="tfce")
    found = group_test([values_of(m).ravel() for m in maps], correction="tfce", neighbors=edges)
    np.testing.assert_array_equal(found.p_corrected, values_of(wanted.p_corrected).ravel())
    assert found.clusters["places"].tolist() == wanted.clusters["voxels"].tolist()
    assert list(found.clusters.columns[:4]) == ["model", "cluster", "peak", "place"]


def strip(n=40):
    """A band of triangles, n vertices a hemisphere, 2 mm apart."""
    x, y = np.repeat(np.arange(n // 2) * 2.0, 2), np.tile([0.0, 2.0], n // 2)
    points = np.stack([x, y, np.zeros(n)], axis=1)
    k = np.arange(n - 2)
    triangles = np.stack([k, k + 1, k + 2], axis=1)
    both = np.concatenate([triangles, triangles + n])
    return Mesh(np.concatenate([points, np.add(points, [0, 100, 0])]), both, (n, n))


def test_surface_maps_have_clusters_with_vertices_areas_and_hemispheres():
    rng, mesh = np.random.default_rng(4), strip()
    signal = np.zeros(80, np.float32)
    signal[50:60] = 0.5  # of the right hemisphere
    maps = []
    for _ in range(8):
        values = (signal + rng.normal(0, 0.05, 80)).astype(np.float32)[:, None]
        maps.append(SurfaceData(values[:40], values[40:]))
    labels = np.zeros(80, np.int32)
    labels[50:55] = 1
    for correction in ("max-t", "tfce"):
        result = group_test(
            maps, correction=correction, neighbors=mesh, rois=Rois(("right-a",), labels, np.eye(4), "surface")
        )
        table = result.clusters[result.clusters["vertices"] >= 8]
        assert table["hemisphere"].tolist() == ["right"]
        assert 10 <= table["vertex"].iloc[0] < 20
        assert table["area"].iloc[0] == pytest.approx(2.0 * table["vertices"].iloc[0])
        np.testing.assert_allclose(table[["x", "y", "z"]].iloc[0], mesh.points[40 + table["vertex"].iloc[0]])
        assert "right-a" in table["rois"].iloc[0]
        assert isinstance(result.thresholded, SurfaceData)
        assert np.isfinite(result.thresholded.right[10:20]).all()
    with pytest.raises(InputError, match=r"pass neighbors=.fsaverage5."):
        group_test(maps)
    with pytest.raises(InputError, match=r"expected a mesh of \(40, 40\) vertices .* got \(40, 0\)"):
        group_test(maps, neighbors=mesh.side("left"))
    with pytest.raises(InputError, match=r"map 8: expected \(40, 40\) vertices .* got \(40, 0\)"):
        group_test([*maps[:7], SurfaceData(maps[7].left, maps[7].right[:0])], neighbors=mesh)


def test_threshold_map_keeps_what_is_at_or_below_p():
    values = nib.Nifti1Image(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4))
    p = nib.Nifti1Image(np.array([0.05, 0.051, 0.01, 1, np.nan, 0, 0.2, 0.05], np.float32).reshape(2, 2, 2), np.eye(4))
    kept = values_of(threshold_map(values, p)).ravel()
    np.testing.assert_array_equal(kept, [0, np.nan, 2, np.nan, np.nan, 5, np.nan, 7])
    moved = nib.Nifti1Image(values_of(p), np.diag([2, 1, 1, 1]))
    with pytest.raises(InputError, match=r"p: grid .* differs"):
        threshold_map(values, moved)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"correction": "tcfe"}, "did you mean 'tfce'"),
        ({"contrasts": [("conv4", "conv22")]}, "did you mean 'conv2'"),
        ({"contrasts": [("conv4", "conv4")]}, "expected two models"),
        ({"contrasts": "all"}, "expected one of 'all-pairs'"),
        ({"contrasts": [("conv4", "conv2"), ("conv2", "conv4")]}, "compared twice"),
        ({"cluster_p": 0.9, "correction": "cluster-mass"}, "cluster_p between 0 and .5, got 0.9"),
        ({"neighbors": 7}, "expected 6, 18, 26 as the connectivity of voxels, got 7"),
        (
            {"neighbors": np.zeros((3, 2), int)},
            r"expected 6, 18 or 26 neighbors \(of a voxel\), as the maps are volumes",
        ),
        ({"threshold": 5}, r"expected a threshold between 0 and 1 \(a p\), got 5"),
        ({"threads": 0}, "threads=0"),
        ({"rois": nib.Nifti1Image(np.ones((3, 3, 3), np.int16), np.eye(4))}, r"ROI image: grid .* differs"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_any_work(settings, said):
    lists = {"conv2": maps_with(planted()), "conv4": maps_with(planted(), seed=1)}
    with pytest.raises(InputError, match=said):
        group_test(lists, **settings)
