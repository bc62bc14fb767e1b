"""Meshes and discs: edges, distances along edges and across triangles, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import Delaunay

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.surface.discs import Discs, discs_on
from brainmap.rsa.surface.meshes import Mesh, join_hemispheres, load_mesh, measure_edges, mesh_edges


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def flat(rng: np.random.Generator, n: int = 300) -> Mesh:
    """A flat mesh of random triangles over a square of 20 mm."""
    inside = rng.uniform(0, 20, (n, 2))
    rim = np.linspace(0, 20, 9)
    border = [np.array([[x, y] for x in rim for y in rim if 0 in (x, y) or 20 in (x, y)])]
    points = np.concatenate([*border, inside])
    return Mesh(np.c_[points, np.zeros(len(points))], Delaunay(points).simplices, (len(points), 0), "flat")


def ball(n_splits: int) -> Mesh:
    """An icosahedron, split and blown up to a sphere of 10 mm."""
    t = (1 + 5**0.5) / 2
    points = np.array([(s * a, r * b, 0) for a, b in ((1, t),) for s in (1, -1) for r in (1, -1)], float)
    points = np.concatenate([points, points[:, [2, 0, 1]], points[:, [1, 2, 0]]])
    near = np.linalg.norm(points[:, None] - points, axis=2)
    pairs = np.isclose(near, 2)
    triangles = np.array(
        [
            (i, j, k)
            for i in range(12)
            for j in range(i)
            for k in range(j)
            if pairs[i, j] and pairs[j, k] and pairs[i, k]
        ]
    )
    for _ in range(n_splits):
        mesh = Mesh(points, triangles, (len(points), 0))
        edges = mesh_edges(mesh)
        middle = {tuple(edge): len(points) + k for k, edge in enumerate(edges.tolist())}
        points = np.concatenate([points, points[edges].mean(axis=1)])
        new = []
        for triangle in triangles.tolist():
            a, b, c = triangle
            ab, bc, ca = (middle[min(p, q), max(p, q)] for p, q in ((a, b), (b, c), (c, a)))
            new += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        triangles = np.array(new)
        points *= 10 / np.linalg.norm(points, axis=1, keepdims=True)
    return Mesh(points, triangles, (len(points), 0), "ball")


def square_of(discs: Discs, n: int) -> np.ndarray:
    """Distances `(n_voxels, n)`, infinite where the disc ends."""
    table = np.full((discs.n_voxels, n), np.inf)
    for c in range(discs.n_voxels):
        own = slice(discs.starts[c], discs.starts[c + 1])
        table[c, discs.members[own]] = discs.distances[own]
    return table


def by_scipy(mesh: Mesh, limit: float = np.inf) -> np.ndarray:
    edges, n = mesh_edges(mesh), len(mesh.points)
    graph = coo_matrix((measure_edges(mesh), edges.T), shape=(n, n)).tocsr()
    return np.asarray(dijkstra(graph, directed=False, limit=limit))


# Distances ----------------------------------------------------------------------------------------------------------


def test_distances_along_edges_are_those_of_scipy() -> None:
    mesh = load_mesh("fsaverage5").side("right")
    some = np.arange(0, 10_242, 31)
    discs = discs_on(mesh, radius_mm=10)
    edges = mesh_edges(mesh)
    graph = coo_matrix((measure_edges(mesh), edges.T), shape=(10_242,) * 2).tocsr()
    theirs = dijkstra(graph, directed=False, limit=10, indices=some)
    for row, center in zip(theirs, some, strict=True):
        own = slice(discs.starts[center], discs.starts[center + 1])
        assert set(discs.members[own].tolist()) == set(np.flatnonzero(np.isfinite(row)).tolist())
        np.testing.assert_allclose(discs.distances[own], row[discs.members[own]], rtol=1e-12)
        assert (np.diff(discs.distances[own]) >= 0).all()


def test_on_a_flat_mesh_geodesics_are_straight(rng: np.random.Generator) -> None:
    mesh = flat(rng)
    straight = np.linalg.norm(mesh.points[:, None] - mesh.points, axis=2)
    exact = square_of(discs_on(mesh, radius_mm=6, metric="geodesic"), len(straight))
    np.testing.assert_array_equal(np.isfinite(exact), straight <= 6)
    near = np.isfinite(exact)
    np.testing.assert_allclose(exact[near], straight[near], atol=1e-10)
    along = square_of(discs_on(mesh, radius_mm=6), len(straight))
    both = np.isfinite(along) & (straight > 3)
    assert 1.04 < (along[both] / straight[both]).mean() < 1.2


def test_on_a_sphere_geodesics_are_great_circles() -> None:
    mesh = ball(4)
    unit = mesh.points / 10
    circle = 10 * np.arccos(np.clip(unit @ unit.T, -1, 1))
    exact = square_of(discs_on(mesh, radius_mm=6, metric="geodesic"), len(unit))
    far = np.isfinite(exact) & (circle > 1)
    error = exact[far] / circle[far] - 1
    assert np.abs(error).max() < 0.005
    along = square_of(discs_on(mesh, radius_mm=6), len(unit))
    both = np.isfinite(along) & (circle > 1)
    assert (along[both] / circle[both]).mean() > 1.05
    assert (along[both] >= exact[both] - 1e-9).all()


def test_a_geodesic_bends_around_the_corner_of_a_hole() -> None:
    grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(7.0), indexing="ij"), -1).reshape(-1, 2)
    cells = [(i * 7 + j) for i in range(6) for j in range(6) if not (i in (2, 3) and j < 4)]  # a slit from one side
    triangles = np.array([t for c in cells for t in ((c, c + 1, c + 8), (c, c + 8, c + 7))])
    mesh = Mesh(np.c_[grid, np.zeros(49)], triangles, (49, 0))
    far = square_of(discs_on(mesh, radius_mm=20, metric="geodesic"), 49)
    one, other = 0, 6 * 7  # (0, 0) and (6, 0), with the slit's corners (2, 4) and (4, 4) between
    assert far[one, other] == pytest.approx(2 * np.hypot(2, 4) + 2)
    np.testing.assert_allclose(far, far.T, atol=1e-12)


def test_a_geodesic_over_the_ridge_of_a_roof_is_the_unfolded_line() -> None:
    y = np.arange(0.0, 9)
    points = np.array([(x, v, 3 - abs(x)) for x in (-3.0, -1.5, 0, 1.5, 3) for v in y])
    triangles = np.array(
        [t for i in range(4) for j in range(8) for c in [i * 9 + j] for t in ((c, c + 1, c + 10), (c, c + 10, c + 9))]
    )
    mesh = Mesh(points, triangles, (len(points), 0))
    far = square_of(discs_on(mesh, radius_mm=30, metric="geodesic"), len(points))
    unfolded = np.c_[points[:, 0] * 2**0.5, points[:, 1]]
    np.testing.assert_allclose(far, np.linalg.norm(unfolded[:, None] - unfolded, axis=2), atol=1e-10)


@pytest.mark.parametrize("metric", ["dijkstra", "geodesic"])
def test_discs_of_a_fixed_number_hold_the_nearest(rng: np.random.Generator, metric: Any) -> None:
    mesh = flat(rng, 150)
    usable = rng.random(len(mesh.points)) > 0.3
    discs = discs_on(mesh, n_vertices=20, metric=metric, vertices=np.flatnonzero(usable))
    assert (discs.sizes() == 20).all()
    whole = square_of(discs_on(mesh, radius_mm=60, metric=metric), len(usable))
    for center, row in enumerate(whole[usable][:, usable]):
        np.testing.assert_allclose(discs.distances[discs.starts[center] :][:20], np.sort(row)[:20], atol=1e-10)


def test_paths_lead_through_vertices_that_no_disc_holds(rng: np.random.Generator) -> None:
    mesh = flat(rng, 150)
    usable = rng.random(len(mesh.points)) > 0.5
    discs = discs_on(mesh, radius_mm=7, vertices=np.flatnonzero(usable))
    assert discs.n_voxels == usable.sum()
    cut = by_scipy(mesh, 7)[np.ix_(usable, usable)]
    np.testing.assert_allclose(square_of(discs, discs.n_voxels), cut, rtol=1e-12)


@pytest.mark.parametrize("metric", ["dijkstra", "geodesic"])
def test_discs_stay_in_their_hemisphere_and_do_not_depend_on_threads(rng: np.random.Generator, metric: Any) -> None:
    one, other = flat(rng, 100), flat(rng, 80)
    both = join_hemispheres(
        {"left": (one.points, one.triangles), "right": (other.points, other.triangles)}, name="both"
    )
    assert both.sizes == (len(one.points), len(other.points))
    together = discs_on(both, radius_mm=6, metric=metric, threads=2)
    parts = [discs_on(both.side(side), radius_mm=6, metric=metric) for side in ("left", "right")]
    shifted = np.concatenate([parts[0].members, parts[1].members + len(one.points)])
    np.testing.assert_array_equal(together.members, shifted)
    np.testing.assert_array_equal(together.distances, np.concatenate([p.distances for p in parts]))


def test_discs_are_numbered_as_their_vertices_are_given(rng: np.random.Generator) -> None:
    mesh = flat(rng, 80)
    order = rng.permutation(len(mesh.points))[:70]
    discs = discs_on(mesh, radius_mm=6, vertices=order)
    np.testing.assert_allclose(square_of(discs, 70), by_scipy(mesh, 6)[np.ix_(order, order)], rtol=1e-12)


def test_patches_are_the_members_padded(rng: np.random.Generator) -> None:
    discs = discs_on(flat(rng, 60), radius_mm=5)
    table = discs.patches(10, 30)
    for row, center in zip(table, range(10, 30), strict=True):
        own = discs.members[discs.starts[center] : discs.starts[center + 1]]
        assert row[row >= 0].tolist() == own.tolist()
        assert row[0] == center
    assert discs.n_most == discs.sizes().max() >= table.shape[1]


# Meshes -------------------------------------------------------------------------------------------------------------


def test_edges_are_neighbors_of_either_hemisphere() -> None:
    mesh = load_mesh("fsaverage5")
    edges = mesh_edges(mesh)
    assert len(edges) == 2 * (10_242 + 20_480 - 2)  # Euler: a closed surface a hemisphere
    assert (edges[:, 0] < edges[:, 1]).all()
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert ((edges < 10_242).sum(axis=1) != 1).all()
    assert 2.5 < mesh.spacing < 3.2


def save_mesh(path: Path, mesh: Mesh, side: str = "") -> Path:
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": side} if side else {})
    arrays = [
        nib.gifti.GiftiDataArray(mesh.points.astype("f4"), intent="NIFTI_INTENT_POINTSET", meta=meta),
        nib.gifti.GiftiDataArray(mesh.triangles.astype("i4"), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.GiftiImage(darrays=arrays), path)
    return path


def test_meshes_are_read_from_gifti_and_freesurfer(tmp_path: Path, rng: np.random.Generator) -> None:
    one, other = flat(rng, 30), flat(rng, 40)
    save_mesh(tmp_path / "L.pial.surf.gii", one, "CortexLeft")
    save_mesh(tmp_path / "R.pial.surf.gii", other, "CortexRight")
    both = rsa.load_mesh(str(tmp_path / "{hemi}.pial.surf.gii"))
    assert both.sizes == (len(one.points), len(other.points))
    again = rsa.load_mesh({"L": tmp_path / "L.pial.surf.gii", "right": tmp_path / "R.pial.surf.gii"})
    np.testing.assert_array_equal(both.points, again.points)
    np.testing.assert_array_equal(both.side("right").triangles, other.triangles)
    alone = rsa.load_mesh(tmp_path / "R.pial.surf.gii")
    assert alone.sizes == (0, len(other.points))
    nib.freesurfer.write_geometry(tmp_path / "lh.pial", one.points, one.triangles)
    assert rsa.load_mesh(tmp_path / "lh.pial").sizes == (len(one.points), 0)


def no_mesh(folder: Path) -> Any:
    values = nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(np.zeros(5, "f4"))])
    nib.save(values, folder / "x.func.gii")
    return {"L": folder / "x.func.gii"}


def wrong_side(folder: Path) -> Any:
    return {"L": save_mesh(folder / "x.surf.gii", flat(np.random.default_rng(0), 5), "CortexRight")}


def unsaid(folder: Path) -> Any:
    return save_mesh(folder / "x.surf.gii", flat(np.random.default_rng(0), 5))


def cut_short(folder: Path) -> Any:
    path = save_mesh(folder / "x.surf.gii", flat(np.random.default_rng(0), 5), "CortexLeft")
    path.write_bytes(path.read_bytes()[:400])
    return path


def no_points(folder: Path) -> Any:
    mesh = flat(np.random.default_rng(0), 5)
    return save_mesh(folder / "x.surf.gii", Mesh(mesh.points[:4], mesh.triangles, (4, 0)), "CortexLeft")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "fsaverage6", "did you mean 'fsaverage"),
        (lambda folder: str(folder / "{hemi}.gii"), "no file"),
        (lambda folder: {"X": "x.gii"}, "hemisphere: expected one of"),
        (lambda folder: {}, "expected a file for L, R or both, got none"),
        (lambda folder: {"L": folder / "none.surf.gii"}, "no file"),
        (no_mesh, "got no mesh"),
        (wrong_side, "given as the left hemisphere, but says that it is the right"),
        (unsaid, "does not say its hemisphere"),
        (cut_short, "got a file that cannot be read"),
        (no_points, "but there are 4 points"),
    ],
)
def test_what_is_no_mesh_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        rsa.load_mesh(make(tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of radius_mm and n_vertices"),
        ({"radius_mm": 5, "n_vertices": 10}, "exactly one of radius_mm and n_vertices"),
        ({"radius_mm": 0.3}, "smaller than the mean edge of flat"),
        ({"radius_mm": float("nan")}, "smaller than the mean edge"),
        ({"n_vertices": 1}, "from 2 to 92"),
        ({"n_vertices": 93}, "from 2 to 92"),
        ({"radius_mm": 5, "metric": "geodesics"}, "did you mean 'geodesic'"),
    ],
)
def test_sizes_that_no_disc_can_have_are_refused(rng: np.random.Generator, settings: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        discs_on(flat(rng, 60), **settings)
    assert message in str(error.value)


def test_three_triangles_at_an_edge_are_no_surface_and_degenerate_ones_do_no_harm(rng: np.random.Generator) -> None:
    points = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 2]])
    fins = Mesh(points, np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]), (5, 0), "fins")
    assert discs_on(fins, radius_mm=4).n_most == 5
    with pytest.raises(InputError, match="three triangles of fins share the edge between vertices 0 and 1"):
        discs_on(fins, radius_mm=4, metric="geodesic")
    mesh = flat(rng, 60)
    sound = square_of(discs_on(mesh, radius_mm=6, metric="geodesic"), len(mesh.points))
    twice = Mesh(
        np.concatenate([mesh.points, mesh.points[:1]]),
        np.concatenate([mesh.triangles, [[0, 0, 1]]]),
        (len(mesh.points) + 1, 0),
    )
    found = square_of(discs_on(twice, radius_mm=6, metric="geodesic"), len(twice.points))
    np.testing.assert_allclose(found[:-1, :-1], sound, atol=1e-10)
