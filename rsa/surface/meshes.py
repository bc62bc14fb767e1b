"""Meshes of the cortex: both hemispheres as one graph of vertices, edges and triangles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_file, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.rsa.images.names import SIDES, find_hemisphere_files
from brainmap.rsa.surface.data import HEMISPHERES, MESHES
from brainmap.rsa.surface.fsaverage import read_fsaverage_points, read_fsaverage_triangles
from brainmap.types import Floats

Integers = NDArray[np.int64]
_POINTS, _TRIANGLES = 1008, 1009  # GIFTI intents


@dataclass(frozen=True, eq=False)
class Mesh:
    """Hold the triangles of one or both hemispheres; no edge connects the two.

    Attributes
    ----------
    points : ndarray (n_vertices, 3) [mm]
        Coordinates of the vertices, the left hemisphere first.
    triangles : ndarray of int (n_triangles, 3)
        Row indices into `points`.
    sizes : tuple of int
        Numbers of vertices of the left and the right hemisphere; one of them may be 0.
    name : str
        Source of the mesh.

    Examples
    --------
    >>> mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]), (3, 0))
    >>> round(mesh.spacing, 3), mesh.side("right").sizes
    (1.414, (0, 0))
    """

    points: Floats
    triangles: Integers
    sizes: tuple[int, int]
    name: str = "mesh"

    @property
    def spacing(self) -> float:
        """Mean edge length [mm]."""
        return float(measure_edges(self).mean()) if len(self.triangles) else float("nan")

    def side(self, side: str) -> Mesh:
        """Return one hemisphere alone."""
        left, right = self.sizes
        first = check_choice(side, HEMISPHERES, "hemisphere") == "left"
        points = self.points[:left] if first else self.points[left:]
        mine = (self.triangles < left).all(axis=1) == first
        return Mesh(
            points,
            self.triangles[mine] - (0 if first else left),
            (left, 0) if first else (0, right),
            f"{self.name} ({side})",
        )


MeshLike = Mesh | str | Path | Mapping[str, str | Path]


def load_mesh(mesh: MeshLike) -> Mesh:
    """Load the mesh of a cortex from files, or one that nilearn provides.

    Parameters
    ----------
    mesh : "fsaverage5", "fsaverage", name with `{hemi}`, path, or mapping of side to path
        "fsaverage5" and "fsaverage" are surfaces halfway between white matter and pial surface. Files are GIFTI
        (`.surf.gii`, in mm) or FreeSurfer's (`lh.pial`); sides are L and R, lh and rh, or left and right. One path
        without `{hemi}` is a single hemisphere, which the file itself must name.

    Returns
    -------
    Mesh

    Raises
    ------
    InputError
        If a file does not exist, is damaged or holds values in place of a mesh; if triangles name missing vertices; if
        a left mesh is given as right; or if the name is unknown.

    Examples
    --------
    >>> load_mesh("fsaverage5").sizes
    (10242, 10242)
    """
    if isinstance(mesh, Mesh):
        return mesh
    if isinstance(mesh, Mapping):
        files = {SIDES[check_choice(side, tuple(SIDES), "mesh: hemisphere")]: Path(file) for side, file in mesh.items()}
        if not files:
            raise InputError("mesh: expected a file for L, R or both, got none")
    elif str(mesh) in MESHES:
        return _load_fsaverage(str(mesh))
    elif "{hemi}" in str(mesh):
        files = find_hemisphere_files(str(mesh))
    elif Path(mesh).is_file():
        files = {"": Path(mesh)}
    else:
        names = suggest_word(str(mesh), MESHES) or f"; meshes that are known by name are {list_some(MESHES)}"
        raise InputError(f"mesh: there is no file {mesh}{names}")
    parts: dict[str, tuple[Floats, Integers]] = {}
    for side, file in files.items():
        points, triangles, said = _read_mesh(file)
        if side and said and side != said:
            raise InputError(f"{file}: the file is given as the {side} hemisphere, but says that it is the {said}")
        if not side and not said:
            raise InputError(
                f"{file}: the file does not say its hemisphere; give {{'L': ...}}, or a name with {{hemi}}"
            )
        parts[side or said] = points, triangles
    return join_hemispheres(
        parts, name=str(mesh if not isinstance(mesh, Mapping) else list_some(map(str, files.values())))
    )


def join_hemispheres(parts: Mapping[str, tuple[Any, Any]], *, name: str) -> Mesh:
    """Join the points and triangles of "left", "right" or both into one mesh."""
    left, right = (parts.get(side, (np.empty((0, 3)), np.empty((0, 3), int))) for side in HEMISPHERES)
    for points, triangles in (left, right):
        _check_triangles(np.asarray(points), np.asarray(triangles), name)
    points = np.concatenate([left[0], right[0]]).astype(np.float64)
    triangles = np.concatenate([left[1], np.asarray(right[1]) + len(left[0])]).astype(np.int64)
    return Mesh(points, triangles, (len(left[0]), len(right[0])), name)


def _check_triangles(points: NDArray[Any], triangles: NDArray[Any], name: str) -> None:
    if points.ndim != 2 or points.shape[1:] != (3,) or triangles.ndim != 2 or triangles.shape[1:] != (3,):
        raise InputError(
            f"{name}: expected points and triangles of shape (n, 3), got {points.shape} and {triangles.shape}"
        )
    if not np.isfinite(points).all():
        raise InputError(f"{name}: {np.count_nonzero(~np.isfinite(points).all(axis=1))} points are not finite")
    if triangles.size and not (triangles.min() >= 0 and triangles.max() < len(points)):
        raise InputError(
            f"{name}: the triangles name vertices up to {triangles.max()}, but there are {len(points)} points"
        )


def _load_fsaverage(name: str) -> Mesh:
    """Load the surface halfway between white matter and pial surface."""
    triangles = read_fsaverage_triangles(name)
    pial, white = (read_fsaverage_points(name, kind) for kind in ("pial", "white_matter"))
    parts = {side: ((pial[side] + white[side]) / 2, triangles[side]) for side in HEMISPHERES}
    return join_hemispheres(parts, name=name)


def _read_mesh(file: Path) -> tuple[Floats, Integers, str]:
    """Read points, triangles, and the side that the file names."""
    check_file(file, "mesh")
    try:
        if not file.name.endswith((".gii", ".gii.gz")):
            points, triangles = nib.freesurfer.read_geometry(file)[:2]
            return points, triangles, SIDES.get(file.name.split(".")[0], "")
        image: Any = nib.load(file)
        arrays = {array.intent: array for array in image.darrays}
        if not {_POINTS, _TRIANGLES} <= arrays.keys():
            raise InputError(f"{file}: expected points and triangles (.surf.gii), got no mesh")
        metas = [image.meta, *(array.meta for array in image.darrays)]
        said = {str(meta.get("AnatomicalStructurePrimary", "")) for meta in metas}
        side = "left" if "CortexLeft" in said else "right" if "CortexRight" in said else ""
        return np.asarray(arrays[_POINTS].data, float), np.asarray(arrays[_TRIANGLES].data), side
    except InputError:
        raise
    except Exception as error:  # nibabel and expat raise many types of error: KeyError, ValueError, zlib.error, ...
        said_so = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{file}: expected a mesh in .surf.gii or FreeSurfer's format, got a file that cannot be read ({said_so})"
        ) from None


def mesh_edges(mesh: Mesh) -> Integers:
    """List the edges of a mesh, each once.

    Parameters
    ----------
    mesh : Mesh
        As `load_mesh` returns it.

    Returns
    -------
    ndarray (n_edges, 2)
        Pairs of neighboring vertices for clusters and discs, sorted, with the smaller number first.

    Examples
    --------
    >>> mesh_edges(Mesh(np.eye(3), np.array([[0, 1, 2], [2, 1, 0]]), (3, 0))).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    triangles = np.asarray(mesh.triangles, np.int64)
    pairs = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]  # drops triangles that name a vertex twice
    n = max(len(mesh.points), 1)
    keys = np.unique(pairs[:, 0] * n + pairs[:, 1])
    return np.stack([keys // n, keys % n], axis=1)


def measure_edges(mesh: Mesh) -> Floats:
    """Compute the length of each row of `mesh_edges` [mm]."""
    edges = mesh_edges(mesh)
    return np.asarray(np.linalg.norm(mesh.points[edges[:, 0]] - mesh.points[edges[:, 1]], axis=1))
