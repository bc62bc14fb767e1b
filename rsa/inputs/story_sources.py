"""Read the time courses of one participant from files of one kind: volumes, surfaces, arrays or tables of regions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.images.files import check_same_grid, load_image
from brainmap.rsa.patterns.arrays import find_array, format_shape, is_response_table
from brainmap.rsa.patterns.region_tables import VoxelRois, is_region_table, load_column_rois, read_region_table
from brainmap.rsa.regions.rois import Mask, Rois, build_grid, load_mask
from brainmap.rsa.surface.data import check_same_mesh, is_surface, load_surface
from brainmap.rsa.surface.series import read_series_info

_SUBCORTICAL = ".*voxels of subcortical structures are left out"


@dataclass(frozen=True, eq=False)
class StorySource:
    """Hold how the files of a participant are read.

    Attributes
    ----------
    read : callable
        Reads a file as `(n_scans, n_voxels)`.
    rois : Rois or None
    inside : bool array
        Which places of `rois.labels` are read; None where they are all.
    places : mapping of str to ndarray (n_voxels,)
        `hemisphere` and `vertex` on a surface.
    mesh : tuple of int
        Numbers of vertices of both hemispheres on a surface.
    """

    read: Callable[[str], NDArray[Any]]
    rois: Rois | None
    inside: NDArray[np.bool_] | None = None
    places: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    mesh: tuple[int, ...] = ()


def open_story_source(file: str, *, mask: Mask | None, rois: Rois | None, key: str | None) -> StorySource:
    """Choose how files of the kind of the first one are read.

    Raises
    ------
    InputError
        Regions or mask are of another grid or mesh, or do not go with the kind of file.
    """
    if is_surface(file):
        return _open_surface(file, mask, rois)
    if is_region_table(file) or is_response_table(file):
        if mask is not None:
            raise InputError(f"mask: expected none, since {file} has no grid, got one; leave it out")
        return _open_region_table(file, rois) if is_region_table(file) else _open_array(rois, key)
    assert mask is not None  # images without a mask were refused
    image = load_mask(mask)
    inside = np.asarray(image.dataobj) > 0
    if rois is not None:
        check_same_grid(build_grid(rois.labels.shape, rois.affine), image, what="ROI image", wanted="mask")

    def read(name: str) -> NDArray[Any]:
        values = np.asarray(load_image(name).dataobj)
        return np.ascontiguousarray(values.reshape(*inside.shape, -1)[inside].T)

    return StorySource(read, rois, inside)


def count_story_voxels(file: str, *, mask: Mask | None, rois: Rois | None, key: str | None) -> int:
    """Count the voxels, vertices or columns that `open_story_source` would read, from headers and masks alone.

    Raises
    ------
    InputError
        Regions or mask are of another grid, mesh or number of voxels.
    """
    if is_surface(file):
        n = read_series_info(file).shape[0]
        inside = None if mask is None else _read_surface_mask(mask)
        for what, other in (("ROIs", None if rois is None else rois.labels), ("mask", inside)):
            if other is not None and other.size != n:
                raise InputError(
                    f"{what}: expected {n} vertices, as {file} has, got {other.size}; use one mesh for both"
                )
        return n if inside is None else int(inside.sum())
    if is_region_table(file):
        return len(read_region_table(file).columns)
    if is_response_table(file):
        n = find_array(file, key).shape[1]
        if isinstance(rois, VoxelRois) and rois.n_columns != n:
            raise InputError(f"{file}: expected scans x {rois.n_columns} voxels, as the voxel table has, got {n}")
        return len(rois.columns) if isinstance(rois, VoxelRois) else n
    assert mask is not None  # volumes without a mask were refused
    return int(np.count_nonzero(load_mask(mask).dataobj))


def _read_surface_mask(mask: Mask) -> NDArray[np.bool_]:
    """Read a mask of vertices, from data of one map."""
    given = mask[0] if isinstance(mask, list | tuple) and len(mask) == 1 else mask
    if not is_surface(str(given)):
        raise InputError(f"mask: expected data on the surface (.shape.gii, .label.gii), got {given}; change it")
    return np.asarray(np.nan_to_num(load_surface(str(given)).values[:, 0]) > 0)


def _open_array(rois: Rois | None, key: str | None) -> StorySource:
    """Read arrays of scans x voxels, whose voxels are those of the voxel table."""
    columns, n_rows = (rois.columns, rois.n_columns) if isinstance(rois, VoxelRois) else (slice(None), None)

    def read(name: str) -> NDArray[Any]:
        values = find_array(name, key).read_values(name)
        n = values.shape[1] if n_rows is None else n_rows
        if values.shape[1] != n:
            turned = "; it seems to be voxels x scans: transpose it" if values.shape[0] == n else ""
            raise InputError(f"{name}: expected scans x {n} voxels, got {format_shape(values.shape)}{turned}")
        return values[:, columns]

    return StorySource(read, rois)


def _open_region_table(first: str, rois: Rois | None) -> StorySource:
    """Read tables of regions, whose columns are the same in every file."""
    names = read_region_table(first).columns.tolist()
    if rois is not None and rois.labels.size != len(names):
        raise InputError(f"{first}: expected regions of {len(names)} columns, got those of {rois.labels.size}")

    def read(name: str) -> NDArray[Any]:
        table = read_region_table(name)
        if table.columns.tolist() != names:
            differ = sorted(set(names) ^ set(table.columns)) or ["their order"]
            raise InputError(f"{name}: expected the columns of {first}, got others: {list_some(differ, 4)}")
        return table.to_numpy(dtype=np.float64)

    return StorySource(read, load_column_rois(first) if rois is None else rois)


def _open_surface(first: str, mask: Mask | None, rois: Rois | None) -> StorySource:
    """Read vertices of both hemispheres, all on one mesh; what CIFTI files hold beside the cortex is told once."""
    count_story_voxels(first, mask=mask, rois=rois, key=None)  # refuses another mesh
    surface = load_surface(first)
    inside = np.ones(len(surface.values), bool) if mask is None else _read_surface_mask(mask)
    held, empty = {first: surface}, replace(surface, left=surface.left[:, :0], right=surface.right[:, :0])

    def read(name: str) -> NDArray[Any]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_SUBCORTICAL, category=BrainmapWarning)
            found = held.pop(name) if name in held else load_surface(name)
        check_same_mesh(found, empty)
        return np.ascontiguousarray(found.values[inside].T)

    places = {"hemisphere": surface.hemisphere[inside], "vertex": surface.vertex[inside]}
    return StorySource(read, rois, inside, places, surface.sizes)
