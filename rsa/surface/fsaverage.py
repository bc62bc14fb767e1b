"""Read the meshes of fsaverage: those of nilearn's wheel without importing nilearn, the others through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.rsa.surface.data import HEMISPHERES
from brainmap.shipped import find_in_nilearn
from brainmap.types import Floats

_FILES = {"pial": "pial", "white_matter": "white", "inflated": "infl", "sulcal": "sulc"}


def read_fsaverage_points(name: str, kind: str) -> Mapping[str, Floats]:
    """Read the points of a mesh of fsaverage.

    Parameters
    ----------
    name : {"fsaverage5", "fsaverage"}
    kind : {"pial", "white_matter", "inflated"}

    Returns
    -------
    mapping of "left" and "right" to ndarray (n_vertices, 3) [mm]
    """
    return {side: np.asarray(part[0], float) for side, part in _read(name, kind).items()}


def read_fsaverage_triangles(name: str) -> Mapping[str, NDArray[np.int64]]:
    """Read the triangles of fsaverage, which all of its meshes share.

    Returns
    -------
    mapping of "left" and "right" to ndarray of int (n_triangles, 3)
    """
    return {side: np.asarray(part[1], np.int64) for side, part in _read(name, "pial").items()}


def read_fsaverage_depth(name: str) -> Mapping[str, Floats]:
    """Read the sulcal depth of fsaverage, above 0 in a sulcus.

    Returns
    -------
    mapping of "left" and "right" to ndarray (n_vertices,)
    """
    return {side: np.asarray(part[0], float).ravel() for side, part in _read(name, "sulcal").items()}


def _read(name: str, kind: str) -> dict[str, tuple[Any, ...]]:
    """Read the arrays of both hemispheres: points and triangles, or values."""
    found = {}
    for side in HEMISPHERES:
        path = find_in_nilearn(f"datasets/data/{name}/{_FILES[kind]}_{side}.gii.gz")
        if path is None:
            return _ask_nilearn(name, kind)
        image: Any = nib.load(path)
        found[side] = tuple(array.data for array in image.darrays)
    return found


def _ask_nilearn(name: str, kind: str) -> dict[str, tuple[Any, ...]]:
    """Have nilearn load what its wheel does not hold where expected; it downloads large meshes once."""
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    if kind == "sulcal":
        parts: Any = load_fsaverage_data(name, mesh_type="inflated", data_type="sulcal").data.parts
        return {side: (parts[side],) for side in HEMISPHERES}
    meshes: Any = load_fsaverage(name)[kind].parts
    return {side: (meshes[side].coordinates, meshes[side].faces) for side in HEMISPHERES}
