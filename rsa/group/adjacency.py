"""Represent which places of a map are neighbors: voxels of a grid, vertices of a mesh, or nodes of any graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError

TOUCH = {6: "faces", 18: "faces or edges", 26: "faces, edges or corners"}


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Hold a graph of places as compressed sparse rows: the neighbors of k are `others[starts[k]:starts[k + 1]]`.

    Attributes
    ----------
    starts : ndarray of int32 (n_places + 1,)
    others : ndarray of int32 (n_neighbors,)
        The neighbors of all places; each pair occurs in both directions, and no place is its own neighbor.
    sizes : ndarray (n_places,)
        The contribution of each place to the extent of a cluster: 1 for a voxel, its area [mm2] for a vertex.

    Examples
    --------
    >>> line = edge_neighbors([[0, 1], [1, 2]], 4)
    >>> len(line), line.of(1).tolist(), line.within(np.array([True, False, True, True])).others.size
    (4, [0, 2], 0)
    """

    starts: NDArray[np.int32]
    others: NDArray[np.int32]
    sizes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, place: int) -> NDArray[np.int32]:
        """Return the neighbors of one place."""
        return self.others[self.starts[place] : self.starts[place + 1]]

    @cached_property
    def graph(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Return the arrays that the kernels take."""
        return self.starts, self.others, self.sizes

    def within(self, kept: NDArray[np.bool_]) -> Neighbors:
        """Return the subgraph of the kept places, renumbered in their order."""
        number = np.cumsum(kept, dtype=np.int32) - 1
        source = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))
        both = kept[source] & kept[self.others]
        return _build_rows(number[source[both]], number[self.others[both]], self.sizes[kept])


def _build_rows(source: NDArray[Any], others: NDArray[Any], sizes: NDArray[np.float64]) -> Neighbors:
    """Build compressed sparse rows from pairs with sorted sources."""
    counts = np.bincount(source, minlength=len(sizes))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return Neighbors(starts, np.ascontiguousarray(others, np.int32), np.ascontiguousarray(sizes, np.float64))


def grid_neighbors(mask: ArrayLike, connectivity: int = 6) -> Neighbors:
    """Build the graph of neighboring voxels of a mask, in C order.

    Parameters
    ----------
    mask : array_like of bool (x, y, z)
    connectivity : {6, 18, 26}
        Neighbors of a voxel: 6 share a face (NN1 in AFNI, nilearn), 18 at least an edge (NN2, SPM), 26 at least a
        corner (NN3, FSL).

    Returns
    -------
    Neighbors

    Raises
    ------
    InputError
        The connectivity is another number, or the mask is not 3-D.

    Examples
    --------
    >>> [len(grid_neighbors(np.ones((3, 3, 3)), c).of(13)) for c in (6, 18, 26)]
    [6, 18, 26]
    """
    inside = np.asarray(mask) != 0
    if connectivity not in TOUCH:
        raise InputError(f"neighbors: expected {list_some(TOUCH)} as the connectivity of voxels, got {connectivity}")
    if inside.ndim != 3:
        raise InputError(f"neighbors: expected a mask of shape (x, y, z), got {inside.shape}")
    number = np.full(np.add(inside.shape, 2), -1, np.int32)  # a border avoids checks at the edges of the grid
    number[1:-1, 1:-1, 1:-1][inside] = np.arange(inside.sum(), dtype=np.int32)
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    reach = np.abs(steps).sum(axis=1)
    steps = steps[(reach > 0) & (reach <= {6: 1, 18: 2, 26: 3}[connectivity])]
    flat, padded = number.ravel(), np.array(number.shape)
    centers = np.asarray(np.ravel_multi_index(tuple(np.argwhere(inside).T + 1), tuple(padded)))
    others = flat[centers[:, None] + steps @ [padded[1] * padded[2], padded[2], 1]]
    source = np.repeat(np.arange(len(centers)), len(steps))
    there = others.ravel() >= 0
    return _build_rows(source[there], others.ravel()[there], np.ones(len(centers)))


def edge_neighbors(edges: Any, n_places: int, *, sizes: ArrayLike | None = None) -> Neighbors:
    """Build a graph from edges, as returned by `mesh_edges`, or from a scipy sparse adjacency matrix.

    Parameters
    ----------
    edges : array_like of int (n_edges, 2), or sparse matrix (n_places, n_places)
        The direction of edges is ignored; duplicate edges count once.
    n_places : int
    sizes : array_like (n_places,), optional
        The extent of each place; 1 by default.

    Returns
    -------
    Neighbors

    Raises
    ------
    InputError
        Edges refer to places that do not exist, or have another shape.

    Examples
    --------
    >>> edge_neighbors([[0, 2], [2, 0], [1, 1]], 3).of(2).tolist()
    [0]
    """
    if hasattr(edges, "tocoo"):
        if edges.shape != (n_places, n_places):
            raise InputError(
                f"neighbors: expected a matrix of shape {(n_places, n_places)}, one row per place, got {edges.shape}"
            )
        whole = edges.tocoo()
        edges = np.stack([whole.row, whole.col], axis=1)[whole.data != 0]
    pairs = np.asarray(edges)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs.size and pairs.dtype.kind not in "iu"):
        raise InputError(
            f"neighbors: expected edges of whole numbers of shape (n_edges, 2), got {pairs.dtype} of shape "
            f"{pairs.shape}"
        )
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < n_places):
        raise InputError(
            f"neighbors: expected edges between places 0 and {n_places - 1}, got places {pairs.min()} to {pairs.max()}"
        )
    pairs = pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)
    keys = np.unique(np.concatenate([pairs, pairs[:, ::-1]]) @ np.array([n_places, 1]))
    extent = np.ones(n_places) if sizes is None else np.asarray(sizes, np.float64)
    if extent.shape != (n_places,) or not (np.isfinite(extent) & (extent >= 0)).all():
        raise InputError(f"neighbors: expected sizes of shape ({n_places},), all at least 0, got shape {extent.shape}")
    return _build_rows(keys // n_places, keys % n_places, extent)


def mesh_neighbors(mesh: Any) -> Neighbors:
    """Build the graph of the vertices of a mesh; the size of a vertex is a third of the area of its triangles [mm2].

    Parameters
    ----------
    mesh : Mesh, or anything `load_mesh` reads

    Returns
    -------
    Neighbors

    Examples
    --------
    >>> from brainmap.rsa.surface.meshes import Mesh
    >>> corners = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]])
    >>> square = Mesh(corners, np.array([[0, 1, 2], [1, 3, 2]]), (4, 0))
    >>> mesh_neighbors(square).sizes.round(3).tolist()
    [0.667, 1.333, 1.333, 0.667]
    """
    from brainmap.rsa.surface.meshes import load_mesh, mesh_edges

    loaded = load_mesh(mesh)
    corners = loaded.points[loaded.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    sizes = np.bincount(loaded.triangles.ravel(), np.repeat(area / 3, 3), minlength=len(loaded.points))
    return edge_neighbors(mesh_edges(loaded), len(loaded.points), sizes=sizes)
