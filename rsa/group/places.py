"""Define the places of maps, and which of them are neighbors, in volumes and on surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.group.adjacency import Neighbors, edge_neighbors, grid_neighbors, mesh_neighbors
from brainmap.rsa.images.files import check_same_grid, load_image
from brainmap.rsa.regions.rois import Rois, build_grid
from brainmap.rsa.surface.data import SurfaceData, is_surface, load_surface
from brainmap.types import Floats


def read_places(given: Any) -> Places:
    """Return the space of the first map: an image, surface data (or a file of either), or an array."""
    if isinstance(given, SurfaceData) or (isinstance(given, str | Path) and is_surface(str(given))):
        return Vertices(given if isinstance(given, SurfaceData) else load_surface(given))
    if isinstance(given, str | Path) or hasattr(given, "dataobj"):
        return Voxels(load_image(given))
    return Entries(np.asarray(given))


class Voxels:
    """Represent the voxels of a grid."""

    whole = "voxels"

    def __init__(self, first: nib.Nifti1Image) -> None:
        self.first = first

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape `(x, y, z)`."""
        return tuple(int(n) for n in self.first.shape[:3])

    def read(self, given: Any, what: str) -> NDArray[np.float32]:
        """Read one volume on the same grid."""
        if not (isinstance(given, str | Path) or hasattr(given, "dataobj")):
            raise InputError(f"{what}: expected an image like the first map, got {type(given).__name__}")
        image = load_image(given) if isinstance(given, str | Path) else given
        check_same_grid(image, self.first, what=what, wanted="first map")
        values = np.asarray(image.dataobj, dtype=np.float32)
        if values.ndim > 3 and values.size > np.prod(values.shape[:3]):
            raise InputError(f"{what}: expected one volume, got shape {values.shape}; select a sub-brick first")
        return values.ravel()

    def build(self, values: NDArray[Any]) -> nib.Nifti1Image:
        """Build a float32 image."""
        return nib.Nifti1Image(values.reshape(self.shape).astype(np.float32), self.first.affine)

    def build_neighbors(self, neighbors: Any) -> Neighbors:
        """Return the graph of voxels with 6 (default), 18 or 26 neighbors."""
        if neighbors is not None and not isinstance(neighbors, int | np.integer):
            raise InputError(
                "group_test: expected 6, 18 or 26 neighbors (of a voxel), as the maps are volumes, got "
                f"{type(neighbors).__name__}"
            )
        return grid_neighbors(np.ones(self.shape, bool), 6 if neighbors is None else int(neighbors))

    def point(self, place: int) -> Floats:
        """Return the RAS+ coordinates [mm]."""
        affine = np.asarray(self.first.affine, np.float64)
        return np.asarray(affine[:3, :3] @ np.array(np.unravel_index(place, self.shape)) + affine[:3, 3])

    def peak(self, place: int) -> dict[str, Any]:
        """Return the coordinates in RAS+ and in AFNI's RAI order, in which left and posterior are positive."""
        x, y, z = self.point(place)  # adding 0 keeps -0 out of tables
        return {"x": x, "y": y, "z": z, "x_rai": -x + 0.0, "y_rai": -y + 0.0, "z_rai": z}

    def extent(self, size: float) -> dict[str, float]:
        """Return the volume [mm3]."""
        return {"volume": round(size * float(abs(np.linalg.det(self.first.affine[:3, :3]))), 6)}  # det rounds

    def regions(self, rois: Any) -> Rois:
        """Return regions on the same grid."""
        from brainmap.rsa.regions.labels import load_rois

        found = rois if isinstance(rois, Rois) else load_rois(rois, minimum_voxels=1)
        grid = build_grid(found.labels.shape, found.affine)
        check_same_grid(grid, self.first, what="group_test: ROI image", wanted="maps")
        return found


class Vertices:
    """Represent the vertices of both hemispheres."""

    whole = "vertices"

    def __init__(self, first: SurfaceData) -> None:
        self.first = first
        self.mesh: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape `(n_vertices,)`."""
        return (sum(self.first.sizes),)

    def read(self, given: Any, what: str) -> NDArray[np.float32]:
        """Read one map on the same mesh."""
        if isinstance(given, str | Path) and is_surface(str(given)):
            given = load_surface(given)
        if not isinstance(given, SurfaceData):
            raise InputError(f"{what}: expected surface data like the first map, got {type(given).__name__}")
        if given.sizes != self.first.sizes:
            raise InputError(
                f"{what}: expected {self.first.sizes} vertices (left, right) as in the first map, got {given.sizes}; "
                "bring all participants to one mesh"
            )
        if given.values.shape[1] != 1:
            raise InputError(f"{what}: expected one map, got {given.values.shape[1]}; select one first")
        return given.values[:, 0]

    def build(self, values: NDArray[Any]) -> SurfaceData:
        """Build surface data of one map."""
        left = self.first.sizes[0]
        column = values.astype(np.float32)[:, None]
        return SurfaceData(column[:left], column[left:])

    def build_neighbors(self, neighbors: Any) -> Neighbors:
        """Return the graph of the edges of a mesh, with vertex areas from its triangles."""
        from brainmap.rsa.surface.meshes import Mesh, load_mesh

        if neighbors is None or isinstance(neighbors, int | np.integer):
            raise InputError(
                'group_test: expected a mesh, as the maps lie on a surface; pass neighbors="fsaverage5", or their mesh'
            )
        if isinstance(neighbors, Neighbors | np.ndarray) or not isinstance(neighbors, Mesh | str | Path | Mapping):
            return _build_graph(neighbors, self.shape[0])
        self.mesh = load_mesh(neighbors)
        if self.mesh.sizes != self.first.sizes:
            raise InputError(
                f"group_test: expected a mesh of {self.first.sizes} vertices (left, right), as in the maps, got "
                f"{self.mesh.sizes}"
            )
        return mesh_neighbors(self.mesh)

    def point(self, place: int) -> Floats | None:
        """Return the coordinates on the mesh, if there is one."""
        return None if self.mesh is None else np.asarray(self.mesh.points[place])

    def peak(self, place: int) -> dict[str, Any]:
        """Return hemisphere, vertex and coordinates."""
        point = self.point(place)
        said = {} if point is None else {axis: float(at) for axis, at in zip("xyz", point, strict=True)}
        return {"hemisphere": str(self.first.hemisphere[place]), "vertex": int(self.first.vertex[place]), **said}

    def extent(self, size: float) -> dict[str, float]:
        """Return the area [mm2], if the mesh is known."""
        return {} if self.mesh is None else {"area": size}

    def regions(self, rois: Any) -> Rois:
        """Return regions of the same vertices."""
        from brainmap.rsa.surface.rois import load_surface_rois

        found = rois if isinstance(rois, Rois) else load_surface_rois(rois, minimum_vertices=1)
        return _check_regions(found, self.shape)


class Entries:
    """Represent the entries of an array, whose neighbors are given by a graph."""

    whole = "places"

    def __init__(self, first: NDArray[Any]) -> None:
        if first.ndim != 1 or first.dtype.kind not in "iuf":
            raise InputError(
                f"group_test: expected an image, surface data or array (n_places,), got a map of shape {first.shape}"
            )
        self.shape: tuple[int, ...] = (int(first.size),)

    def read(self, given: Any, what: str) -> NDArray[np.float32]:
        """Read an array of the same shape."""
        values = np.asarray(given)
        if values.dtype.kind not in "iuf" or values.shape != self.shape:
            raise InputError(f"{what}: expected shape {self.shape} as of the first map, got {values.shape}")
        return values.astype(np.float32)

    def build(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Build an array."""
        return values.astype(np.float32)

    def build_neighbors(self, neighbors: Any) -> Neighbors:
        """Return the graph from edges, a sparse matrix or `Neighbors`."""
        if neighbors is None or isinstance(neighbors, int | np.integer):
            raise InputError(
                "group_test: expected edges between places, as the maps are arrays; pass neighbors=edges (n_edges, 2)"
            )
        return _build_graph(neighbors, self.shape[0])

    def point(self, place: int) -> Floats | None:
        """Return None, since entries have no coordinates."""
        return None

    def peak(self, place: int) -> dict[str, Any]:
        """Return the number of the place."""
        return {"place": place}

    def extent(self, size: float) -> dict[str, float]:
        """Return nothing, since the extent has no unit."""
        return {}

    def regions(self, rois: Any) -> Rois:
        """Return regions of the same places."""
        if not isinstance(rois, Rois):
            raise InputError(f"group_test: expected Rois with labels (n_places,), got {type(rois).__name__}")
        return _check_regions(rois, self.shape)


Places: TypeAlias = Voxels | Vertices | Entries
"""The places of a map, numbered from 0; maps are read as flat values and built from them."""


def _build_graph(neighbors: Any, n: int) -> Neighbors:
    found = neighbors if isinstance(neighbors, Neighbors) else edge_neighbors(neighbors, n)
    if len(found) != n:
        raise InputError(f"group_test: expected neighbors of {n} places, as many as the maps have, got {len(found)}")
    return found


def _check_regions(rois: Rois, shape: tuple[int, ...]) -> Rois:
    if rois.labels.shape != shape:
        raise InputError(
            f"group_test: expected regions over {shape} places, as many as the maps have, got {rois.labels.shape}"
        )
    return rois
