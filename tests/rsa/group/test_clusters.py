"""TFCE and cluster mass against brute force and nilearn, neighbors against scipy, the size and power of their tests."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage, sparse, stats

from brainmap.errors import InputError
from brainmap.rsa.group.adjacency import edge_neighbors, grid_neighbors, mesh_neighbors
from brainmap.rsa.group.enhancement import Enhancement, cluster_mass, compute_cluster_threshold, tfce
from brainmap.rsa.group.maps import group_test
from brainmap.rsa.inference.sign_flips import sign_flip_test
from brainmap.rsa.surface.meshes import Mesh

SHAPE = (7, 6, 5)
RANK = {6: 1, 18: 2, 26: 3}


def smooth(rng, *lead, shape=SHAPE, sd=1.0, inside=None):
    """Noise smoothed in space, one standard deviation a voxel; voxels outside are dropped."""
    raw = rng.normal(size=(*lead, *shape))
    found = ndimage.gaussian_filter(raw, [0] * len(lead) + [sd] * 3)
    found /= found.std()
    return found.reshape(*lead, -1) if inside is None else found[..., inside]


def brute_tfce(volume, connectivity, step=0.002, powers=(0.5, 2.0)):
    """Labels at many heights, midpoints of the steps."""
    structure, total = ndimage.generate_binary_structure(3, RANK[connectivity]), np.zeros(volume.shape)
    for height in np.arange(step / 2, volume.max(), step):
        labels, _ = ndimage.label(volume >= height, structure)
        extent = np.bincount(labels.ravel()).astype(float)
        extent[0] = 0
        total += extent[labels] ** powers[0] * height ** powers[1] * step
    return total


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_neighbors_of_voxels_are_scipys(connectivity):
    inside = np.random.default_rng(0).random(SHAPE) < 0.7
    found = grid_neighbors(inside, connectivity)
    structure = ndimage.generate_binary_structure(3, RANK[connectivity])
    where = np.argwhere(inside)
    apart = np.abs(where[:, None] - where[None])
    near = (apart.max(axis=2) <= 1) & (apart.sum(axis=2) > 0)
    wanted = near & structure[tuple((np.clip(where[:, None] - where[None], -1, 1) + 1).transpose(2, 0, 1))]
    for k in range(len(where)):
        np.testing.assert_array_equal(np.sort(found.of(k)), np.flatnonzero(wanted[k]))


def test_a_graph_is_the_same_from_edges_a_sparse_matrix_and_a_part_of_a_larger_one():
    edges = np.array([[0, 1], [1, 2], [3, 2], [0, 3], [1, 0], [4, 4]])
    one = edge_neighbors(edges, 5)
    matrix = sparse.coo_matrix((np.ones(6), edges.T), shape=(5, 5)).tocsr()
    other = edge_neighbors(matrix, 5)
    for k, wanted in enumerate(([1, 3], [0, 2], [1, 3], [0, 2], [])):
        assert one.of(k).tolist() == other.of(k).tolist() == wanted
    inside = np.random.default_rng(1).random(SHAPE) < 0.6
    part, direct = grid_neighbors(np.ones(SHAPE), 18).within(inside.ravel()), grid_neighbors(inside, 18)
    for k in range(len(direct)):
        assert sorted(part.of(k)) == sorted(direct.of(k))


@pytest.mark.parametrize("connectivity", [6, 26])
def test_tfce_is_the_integral_that_ever_smaller_steps_come_to(connectivity):
    rng = np.random.default_rng(connectivity)
    values = 3 * smooth(rng)
    found = tfce(values, grid_neighbors(np.ones(SHAPE), connectivity))
    volume = values.reshape(SHAPE)
    wanted = (brute_tfce(volume, connectivity) - brute_tfce(-volume, connectivity)).ravel()
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())
    other = tfce(values, grid_neighbors(np.ones(SHAPE), connectivity), extent=1.0, height=1.5)
    wanted = brute_tfce(volume, connectivity, powers=(1.0, 1.5))
    np.testing.assert_allclose(np.maximum(other, 0), wanted.ravel(), atol=2e-3 * wanted.max())


def test_tfce_of_a_large_map_is_the_integral_too():
    """Clusters that join often make long ways to the root of a cluster."""
    shape = (24, 25, 23)
    rng = np.random.default_rng(8)
    values = 2 * smooth(rng, shape=shape, sd=0.6) + 1.5 * smooth(rng, shape=shape, sd=3)
    found = tfce(np.maximum(values, 0), grid_neighbors(np.ones(shape)))
    wanted = brute_tfce(values.reshape(shape), 6, step=0.02).ravel()
    assert np.abs(found - wanted).max() < 0.01 * wanted.max()
    # never more than the integral over a cluster of everything
    assert (found <= np.sqrt(values.size) * np.maximum(values, 0) ** 3 / 3 * (1 + 1e-9)).all()


def test_tfce_with_equal_values_and_nan():
    line = edge_neighbors([[0, 1], [1, 2], [2, 3], [3, 4]], 5)
    flat = tfce([2.0, 2.0, np.nan, 2.0, 1.0], line)
    assert np.isnan(flat[2])
    np.testing.assert_allclose(flat[:2], np.sqrt(2) * 8 / 3)
    np.testing.assert_allclose(flat[3:], [np.sqrt(2) / 3 + 7 / 3, np.sqrt(2) / 3])


def test_tfce_is_that_of_nilearn_to_the_error_of_its_steps():
    calculate = pytest.importorskip("nilearn.mass_univariate._utils").calculate_tfce
    values = 2 * smooth(np.random.default_rng(3))
    steps = 1000  # the most it takes; it sums extent times height without the factor dh, at the end of each step
    dh = np.abs(values).max() / steps
    theirs = (
        calculate(values.reshape(*SHAPE, 1), ndimage.generate_binary_structure(3, 1), dh=dh, two_sided_test=True)[
            ..., 0
        ].ravel()
        * dh
    )
    ours = tfce(values, grid_neighbors(np.ones(SHAPE)))
    # the end of a step in place of its middle: no more than the height of the integrand times a step
    bound = dh * np.sqrt(values.size) * np.abs(values).max() ** 2
    assert np.abs(ours - theirs).max() < bound
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99999


@pytest.mark.parametrize("two_sided", [False, True])
def test_largest_cluster_mass_is_nilearns_and_each_cluster_has_its_own(two_sided):
    measures = pytest.importorskip("nilearn.mass_univariate._utils").calculate_cluster_measures
    values = 2 * smooth(np.random.default_rng(4))
    structure = ndimage.generate_binary_structure(3, 1)
    found = cluster_mass(values, grid_neighbors(np.ones(SHAPE)), threshold=1.3)
    _, largest = measures(values.reshape(*SHAPE, 1), 1.3, structure, two_sided_test=two_sided)
    np.testing.assert_allclose((np.abs(found) if two_sided else found).max(), largest[0], rtol=1e-12)
    for sign in (1, -1):
        labels, n = ndimage.label(sign * values.reshape(SHAPE) > 1.3, structure)
        mass = sign * ndimage.sum(sign * values.reshape(SHAPE) - 1.3, labels, np.arange(n + 1))
        mass[0] = 0
        np.testing.assert_allclose(found[labels.ravel() > 0], mass[labels.ravel()][labels.ravel() > 0], rtol=1e-12)
    assert (found[np.abs(values) <= 1.3] == 0).all()


def test_vertices_count_by_their_area():
    points = np.array([[0.0, 0, 0], [3, 0, 0], [0, 4, 0], [3, 4, 0], [9, 9, 9]])
    neighbors = mesh_neighbors(Mesh(points, np.array([[0, 1, 2], [1, 3, 2]]), (5, 0)))
    np.testing.assert_allclose(neighbors.sizes, [2, 4, 4, 2, 0])
    np.testing.assert_allclose(tfce([3.0, 3.0, 0.0, 3.0, 0.0], neighbors)[[0, 1, 3]], np.sqrt(8) * 9)
    assert cluster_mass([3.0, 3.0, 0.0, 3.0, 0.0], neighbors, threshold=1.0)[0] == 16


def brute_flips(x, statistic):
    """The largest statistic under every sign pattern, one after another, and the one of the data."""
    n = len(x)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    tops = [statistic(stats.ttest_1samp(s[:, None] * x, 0).statistic) for s in signs]
    return statistic(stats.ttest_1samp(x, 0).statistic, whole=True), np.array(tops)


@pytest.mark.parametrize("kind", ["tfce", "cluster-mass"])
@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_corrected_p_is_the_share_of_flips_whose_largest_is_as_large(kind, alternative):
    rng = np.random.default_rng(5)
    two_sided = alternative == "two-sided"
    neighbors = grid_neighbors(np.ones(SHAPE))
    x = smooth(rng, 6) + np.where(np.arange(210) < 25, 1.2, 0)
    height = compute_cluster_threshold(0.02, 6, two_sided=two_sided)

    def enhanced(t, whole=False):
        found = tfce(t, neighbors) if kind == "tfce" else cluster_mass(t, neighbors, threshold=height)
        found = np.abs(found) if two_sided else np.maximum(found, 0)
        return found if whole else found.max()

    observed, tops = brute_flips(x, enhanced)
    enhancement = Enhancement(kind=kind, neighbors=neighbors, cluster_p=0.02)
    found = sign_flip_test(x, alternative=alternative, enhancement=enhancement)
    wanted = (tops[:, None] >= observed * (1 - 1e-9) - 1e-9).mean(axis=0)
    np.testing.assert_allclose(found.p_corrected, wanted, atol=1e-15)
    np.testing.assert_allclose(np.abs(found.enhanced) if two_sided else found.enhanced, observed, atol=1e-9)
    np.testing.assert_allclose(found.max_statistic, np.sort(tops), atol=1e-9)
    assert found.p_corrected.min() < 0.1


@pytest.mark.bits
def test_models_are_corrected_together_and_threads_change_nothing():
    rng = np.random.default_rng(6)
    neighbors = grid_neighbors(np.ones(SHAPE))
    one, two = smooth(rng, 13) + 0.4, smooth(rng, 13)
    both = np.concatenate([one, two], axis=1)
    settings = {"permutations": 300, "enhancement": Enhancement(kind="tfce", neighbors=neighbors)}
    found = sign_flip_test(both, rng=np.random.default_rng(1), threads=1, **settings)
    again = sign_flip_test(both, rng=np.random.default_rng(1), threads=3, **settings)
    np.testing.assert_array_equal(found.p_corrected, again.p_corrected)
    alone = sign_flip_test(one, rng=np.random.default_rng(1), **settings)
    other = sign_flip_test(two, rng=np.random.default_rng(1), **settings)
    np.testing.assert_allclose(found.enhanced[:210], alone.enhanced, rtol=1e-12)
    assert (found.p_corrected[:210] >= alone.p_corrected).all()
    assert not found.enumerated
    top = np.sort(found.max_statistic)
    assert top[-1] == pytest.approx(max(alone.max_statistic[-1], other.max_statistic[-1]))


@pytest.mark.parametrize("kind", ["tfce", "cluster-mass"])
def test_same_family_wise_p_as_nilearn_to_monte_carlo_error(kind):
    pytest.importorskip("nilearn.mass_univariate")
    from nilearn.maskers import NiftiMasker
    from nilearn.mass_univariate import permuted_ols

    rng = np.random.default_rng(7)
    x = smooth(rng, 8) + np.where(np.arange(210) < 40, 1.2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nilearn's own calls
        masker = NiftiMasker(nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4)), standardize=None).fit()
        theirs = permuted_ols(
            np.ones((8, 1)),
            x,
            model_intercept=False,
            two_sided_test=False,
            n_perm=200,
            random_state=0,
            n_jobs=1,
            masker=masker,
            tfce=kind == "tfce",
            threshold=None if kind == "tfce" else 0.01,
            output_type="dict",
        )
    p = 10 ** -theirs["logp_max_tfce" if kind == "tfce" else "logp_max_mass"].ravel()
    neighbors = grid_neighbors(np.ones(SHAPE))
    ours = sign_flip_test(x, enhancement=Enhancement(kind=kind, neighbors=neighbors, cluster_p=0.01))
    wanted = ours.p_corrected
    if kind == "tfce":
        # it leaves out dh, a hundredth of each flip's own highest t: its statistic is TFCE in units of that
        def scaled(t, whole=False):
            found = np.maximum(tfce(t, neighbors), 0) / t.max()
            return found if whole else found.max()

        observed, tops = brute_flips(x, scaled)
        wanted = (tops[:, None] >= observed - 1e-9).mean(axis=0)
    inside = ours.enhanced > 0  # it gives places outside of clusters a p of their own
    error = np.sqrt(wanted * (1 - wanted) / 200)
    assert (np.abs(p - wanted.reshape(p.shape))[inside] < 4.5 * error[inside] + 0.01).all()
    assert ours.p_corrected[inside].min() < 0.1


def attainable(largest, n_flips):
    """The share of this data's own sign patterns that are significant at .05: how often a study without effect is."""
    ranks = np.searchsorted(np.sort(largest), largest * (1 - 1e-9) - 1e-9, side="left")
    return ((n_flips - ranks) / n_flips <= 0.05).mean()


@pytest.mark.slow
@pytest.mark.parametrize("correction", ["max-t", "cluster-mass", "tfce"])
@pytest.mark.parametrize("differences", [False, True])
def test_family_wise_error_is_at_its_attainable_size_under_smooth_symmetric_noise(correction, differences):
    """The null: each participant's map, or difference of maps, is symmetric smooth noise of her own variance."""
    rng = np.random.default_rng(["max-t", "cluster-mass", "tfce"].index(correction) + 10 * differences)
    neighbors, n = grid_neighbors(np.ones(SHAPE)), 1500
    enhancement = None if correction == "max-t" else Enhancement(kind=correction, neighbors=neighbors, cluster_p=0.02)
    alternative = "two-sided" if differences else "greater"
    hits, sizes = 0, []
    for _ in range(n):
        spread = rng.uniform(0.5, 2, size=(8, 1))
        x = spread * (smooth(rng, 8) + (smooth(rng, 8) if differences else 0))
        found = sign_flip_test(x, alternative=alternative, enhancement=enhancement, threads=1)
        hits += bool((found.p_corrected <= 0.05).any())
        sizes.append(attainable(found.max_statistic, 256))
    assert stats.binomtest(hits, n, float(np.mean(sizes))).pvalue > 0.001
    assert np.mean(sizes) <= 12 / 256 + 1e-12
    assert np.mean(sizes) > 0.03


@pytest.mark.slow
def test_clusters_find_a_wide_weak_blob_that_the_largest_t_misses():
    """Power beside the size: a weak effect over 45 of 210 voxels, 8 participants, 100 studies."""
    blob = np.zeros(SHAPE)
    blob[1:4, 1:4, 0:5] = 0.9
    found = {}
    for correction in ("max-t", "cluster-mass", "tfce"):
        rng = np.random.default_rng(20)
        hits = []
        for _ in range(100):
            maps = [nib.Nifti1Image((blob.ravel() + one).reshape(SHAPE), np.eye(4)) for one in smooth(rng, 8)]
            p = np.asarray(group_test(maps, correction=correction, cluster_p=0.02, threads=1).p_corrected.dataobj)
            hits.append((p[blob > 0] <= 0.05).any())
        found[correction] = np.mean(hits)
    assert found["max-t"] > 0.2
    assert found["tfce"] > found["max-t"]
    assert found["cluster-mass"] > found["max-t"] - 0.1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda g: grid_neighbors(np.ones(SHAPE), 8), "expected 6, 18, 26 as the connectivity of voxels, got 8"),
        (lambda g: grid_neighbors(np.ones(9)), r"mask of shape \(x, y, z\), got \(9,\)"),
        (lambda g: edge_neighbors([[0, 9]], 3), "between places 0 and 2, got places 0 to 9"),
        (lambda g: edge_neighbors([[0.5, 1]], 3), "expected edges of whole numbers"),
        (lambda g: edge_neighbors(sparse.eye(4), 3), r"shape \(3, 3\), .* got \(4, 4\)"),
        (lambda g: edge_neighbors([[0, 1]], 3, sizes=[1, 1]), r"expected sizes of shape \(3,\)"),
        (lambda g: tfce(np.ones(3), g), r"expected shape \(2,\), .* got \(3,\)"),
        (lambda g: tfce([np.inf, 1], g), "expected finite values or NaN, got 1"),
        (lambda g: tfce([1, 1], g, height=-1), "expected a height of 0 or more, got -1"),
        (lambda g: cluster_mass([1, 1], g, threshold=-1), "at least 0, got -1"),
        (lambda g: compute_cluster_threshold(0.7, 8, two_sided=False), "cluster_p between 0 and .5, got 0.7"),
        (lambda g: sign_flip_test(np.ones((4, 3)), enhancement=Enhancement(kind="tfce", neighbors=g)), "maps of 2"),
        (
            lambda g: sign_flip_test([[1, 2], [1, 3], [-1, 1]], enhancement=Enhancement(kind="tfce", neighbors=g)),
            "1 tests have one value in all participants",
        ),
    ],
)
def test_bad_input_is_one_clear_line(make, said):
    with pytest.raises(InputError, match=said):
        make(edge_neighbors([[0, 1]], 2))
