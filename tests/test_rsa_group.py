"""Group maps: planted clusters come back where they are, nothing else does, and grids must agree."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from brainmap.errors import InputError
from brainmap.rsa.group import CLUSTER_COLUMNS, group_test
from brainmap.rsa.signflip import sign_flip_test

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
        "model", "cluster", "peak", "x", "y", "z", "x_rai", "y_rai", "z_rai", "voxels", "volume", "mean", "statistic",
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
    with pytest.raises(InputError, match="found maps of 1 participants"):
        group_test(maps[:1])
    with pytest.raises(InputError, match="found the maps of one participant"):
        group_test({"a": maps[0], "b": maps[1]})
    with pytest.raises(InputError, match=r"different numbers of participants: {'a': 8, 'b': 7}"):
        group_test({"a": maps, "b": maps[1:]})
    with pytest.raises(InputError, match="participant 2 of the list has models 'b', the first 'a'"):
        group_test([{"a": maps[0]}, {"b": maps[1]}])
    with pytest.raises(InputError, match="wanted one of 'sign-flip'"):
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
