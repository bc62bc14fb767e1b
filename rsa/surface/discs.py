"""Discs on the cortex: the vertices within a distance of each vertex, measured along the surface.

There are two distance metrics. "dijkstra" follows edges: it is fast, but zigzag paths make it too long (by some 10 %
on fsaverage5). "geodesic" crosses triangles in straight lines and is exact for the mesh: a shortest path over
triangles is straight except at vertices (Mitchell, Mount & Papadimitriou 1987, doi:10.1137/0216045), so Dijkstra's
algorithm over all straight lines between vertices finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, count_threads
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa.surface.meshes import Mesh, measure_edges, mesh_edges
from brainmap.types import Floats, Metric

METRICS = ("dijkstra", "geodesic")
_CHUNK = 512  # centers per task
_Graph = tuple[NDArray[np.int64], NDArray[np.int32], Floats]


@dataclass(frozen=True, eq=False)
class Discs:
    """Hold the disc around every usable vertex; members are usable vertices only.

    Attributes
    ----------
    n_voxels : int
        Number of usable vertices, which correspond to the voxels of spheres. They are numbered in the given order, and
        each is the center of a disc.
    starts : ndarray (n_voxels + 1,)
        Start of each disc's members in `members`.
    members : ndarray of int32 (n_members,)
        Numbers of usable vertices, the nearest first, beginning with the center.
    distances : ndarray (n_members,) [mm]
        Distances of the members from the center.
    """

    starts: NDArray[np.int64]
    members: NDArray[np.int32]
    distances: Floats

    @property
    def n_voxels(self) -> int:
        """Number of usable vertices."""
        return len(self.starts) - 1

    @cached_property
    def n_most(self) -> int:
        """Number of vertices of the largest disc."""
        return int(self.sizes().max(initial=0))

    def sizes(self) -> NDArray[np.int32]:
        """Return the number of vertices of each disc."""
        return np.diff(self.starts).astype(np.int32)

    def patches(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the members `(stop - start, n_most)` of discs start .. stop - 1, padded with -1."""
        sizes = np.diff(self.starts[start : stop + 1])
        table = np.full((len(sizes), self.n_most), -1, dtype=np.int32)
        table[np.arange(self.n_most) < sizes[:, None]] = self.members[self.starts[start] : self.starts[stop]]
        return table


def discs_on(
    mesh: Mesh,
    *,
    radius_mm: float | None = None,
    n_vertices: int | None = None,
    metric: Metric = "dijkstra",
    vertices: NDArray[np.integer] | None = None,
    threads: int | None = None,
) -> Discs:
    """Find the disc around every usable vertex.

    A disc never reaches the other hemisphere. A path may pass through an unusable vertex (on the medial wall, or
    without data), because the cortex continues there, but no disc contains such a vertex.

    Parameters
    ----------
    mesh : Mesh
    radius_mm : float [mm]
        Vertices at a distance `<=` this radius belong to a disc.
    n_vertices : int
        Number of vertices per disc, in place of a radius: the center and its nearest vertices; at equal distance the
        smaller vertex number comes first.
    metric : {"dijkstra", "geodesic"}
        Measure distance along edges, or straight across triangles.
    vertices : ndarray of int, optional
        Usable vertices, in the order in which discs are numbered; by default all vertices.
    threads : int, optional
        Number of threads; by default the cores that this process may use.

    Returns
    -------
    Discs

    Raises
    ------
    InputError
        If both or none of radius and number are given, the radius is below the mean edge length, a hemisphere has too
        few vertices, an edge belongs to three triangles (geodesic), the metric is unknown, or there is less than one
        thread.

    Examples
    --------
    >>> corners = np.array([[0.0, 0, 0], [3, 0, 0], [3, 4, 0], [0, 4, 0]])
    >>> square = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), (4, 0))
    >>> discs_on(square, radius_mm=5.0).patches(0, 2).tolist()
    [[0, 1, 3, 2], [1, 0, 2, -1]]
    >>> discs_on(square, radius_mm=5.0, metric="geodesic").patches(1, 2).tolist()
    [[1, 0, 2, 3]]
    """
    from brainmap.rsa.surface.disc_kernels import find_nearest_vertices  # numba is slow to import

    check_choice(metric, METRICS, "discs: metric")
    n, n_threads = len(mesh.points), count_threads(threads, "discs")
    centers = np.arange(n, dtype=np.int32) if vertices is None else np.asarray(vertices, np.int32)
    _check_size(mesh, centers, radius_mm=radius_mm, n_vertices=n_vertices)
    number = np.full(n, -1, np.int32)
    number[centers] = np.arange(len(centers), dtype=np.int32)
    radius, most = (np.inf if radius_mm is None else float(radius_mm)), n_vertices or n
    graph = _build_edge_graph(mesh)

    def search_around(graph: _Graph, what: str) -> tuple[Any, Any, Any]:
        return _run_chunks(
            lambda run: find_nearest_vertices(graph, number, run, radius, most), centers, n_threads, what
        )

    if metric == "geodesic":
        # no straight path is longer than the path along edges, so these distances bound the search
        reach = radius if n_vertices is None else float(search_around(graph, "reach of discs")[2].max(initial=0.0))
        graph = _build_sight_graph(mesh, reach, n_threads)
    return Discs(*search_around(graph, "discs"))


def _check_size(mesh: Mesh, centers: NDArray[np.int32], *, radius_mm: float | None, n_vertices: int | None) -> None:
    """Refuse a size that no disc on this mesh can have."""
    if (radius_mm is None) == (n_vertices is None):
        raise InputError("discs: expected exactly one of radius_mm and n_vertices, got both or none")
    if radius_mm is not None and not mesh.spacing <= radius_mm < np.inf:
        raise InputError(
            f"discs: the radius of {radius_mm:g} mm is smaller than the mean edge of {mesh.name} ({mesh.spacing:.2f} "
            "mm), so that many discs would hold their center only; take a larger radius_mm"
        )
    n_left = int((centers < mesh.sizes[0]).sum())
    for side, n in (("left", n_left), ("right", len(centers) - n_left)):
        if n_vertices is not None and n and not 2 <= n_vertices <= n:
            raise InputError(
                f"discs: expected n_vertices from 2 to {n}, the usable vertices of the {side} hemisphere, got "
                f"{n_vertices}"
            )


def _run_chunks(
    work: Callable[[NDArray[np.int32]], Any], centers: NDArray[np.int32], threads: int, what: str
) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats]:
    """Compute members and distances for all centers, in chunks on a pool of threads."""
    runs = [centers[k : k + _CHUNK] for k in range(0, len(centers), _CHUNK)]

    def count_runs() -> Iterator[Any]:
        with progress(what, len(centers)) as shown, ThreadPoolExecutor(threads) as pool:
            for run, found in zip(runs, pool.map(work, runs), strict=True):
                shown.advance(len(run))
                yield found

    parts = list(count_runs())
    sizes = np.concatenate([np.diff(part[0]) for part in parts]) if parts else np.empty(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    members, distances = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
    return starts, members, distances


def _build_edge_graph(mesh: Mesh) -> _Graph:
    """Build the graph of edges at each vertex, the shortest first."""
    edges, length = mesh_edges(mesh), measure_edges(mesh)
    source, target, lengths = np.concatenate([edges[:, 0], edges[:, 1]]), edges[:, ::-1].T.ravel(), np.tile(length, 2)
    order = np.lexsort((lengths, source))
    starts = np.searchsorted(source[order], np.arange(len(mesh.points) + 1)).astype(np.int64)
    return starts, target[order].astype(np.int32), lengths[order]


def _build_sight_graph(mesh: Mesh, reach: float, threads: int) -> _Graph:
    """Build the graph of straight lines from each vertex to the vertices within `reach`, the shortest first."""
    n = len(mesh.points)
    corners = np.asarray(mesh.triangles, np.int32)
    corners = corners[(corners != np.roll(corners, 1, axis=1)).all(axis=1)]  # drops triangles that name a vertex twice
    ends = np.stack([np.roll(corners, -1, axis=1), np.roll(corners, -2, axis=1)], axis=2)  # of the opposite edges
    one, two = mesh.points[ends[..., 0]], mesh.points[ends[..., 1]]
    across, up = two - one, mesh.points[corners] - one
    power = (across**2).sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (up * across).sum(axis=2) / power
        high = np.linalg.norm(up - along[..., None] * across, axis=2) / np.sqrt(power)
    faces = corners, _find_corners_beyond(mesh, ends, power), along, high, np.sqrt(power)
    order = np.argsort(corners.ravel(), kind="stable")
    starts = np.searchsorted(corners.ravel()[order], np.arange(n + 1)).astype(np.int64)
    around = starts, order.astype(np.int32)
    every = np.arange(n, dtype=np.int32)
    from brainmap.rsa.surface.disc_kernels import trace_lines_of_sight

    rows, met, lengths = _run_chunks(
        lambda run: trace_lines_of_sight(faces, around, run, reach), every, threads, "straight lines"
    )
    order = np.lexsort((lengths, np.repeat(every, np.diff(rows))))
    return rows, met[order], lengths[order]


def _find_corners_beyond(mesh: Mesh, ends: NDArray[np.int32], power: Floats) -> NDArray[np.int32]:
    """Find the corner beyond the edge opposite each corner, -1 if there is none."""
    low, high = ends.min(axis=2).ravel().astype(np.int64), ends.max(axis=2).ravel()
    key = low * len(mesh.points) + high
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    same = ordered[1:] == ordered[:-1]
    if (same[1:] & same[:-1]).any():
        a, b = divmod(int(ordered[2:][same[1:] & same[:-1]][0]), len(mesh.points))
        raise InputError(
            f"discs: three triangles of {mesh.name} share the edge between vertices {a} and {b}, so that it is no "
            "surface for metric='geodesic'; mend the mesh, or take 'dijkstra'"
        )
    beyond = np.full(key.size, -1, np.int32)
    first, second = order[:-1][same], order[1:][same]
    beyond[first], beyond[second] = second, first
    beyond[(power == 0).ravel()] = -1  # an edge of length zero has no other side
    return beyond.reshape(-1, 3)
