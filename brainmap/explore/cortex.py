"""Load the mesh on which the maps of a study lie, and the one on which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.surface.data import HEMISPHERES, MESHES
from brainmap.rsa.surface.fsaverage import read_fsaverage_depth, read_fsaverage_points, read_fsaverage_triangles
from brainmap.rsa.surface.meshes import Mesh, join_hemispheres, load_mesh
from brainmap.study.settings.study import Participant, Searchlight
from brainmap.study.stages.surfaces import name_mesh


def name_maps_mesh(people: Sequence[Participant], settings: Searchlight, *, of_group: bool) -> str:
    """Return the name of the mesh of the maps: that of the participants, or the one to which they were warped."""
    warped = settings.warped_space if of_group and settings.warped is not None else None
    return warped if warped in MESHES else name_mesh(people[0], settings)


def load_shown_mesh(name: str) -> tuple[Mesh, NDArray[np.uint8] | None]:
    """Load the mesh that maps are drawn on: of fsaverage the inflated one, with its sulci, and otherwise their own.

    Returns
    -------
    mesh : Mesh
    gyri : ndarray uint8 (n_vertices,) or None
        1 on gyri, 0 in sulci; None where they are not known.
    """
    if name not in MESHES:
        return load_mesh(name), None
    points, triangles, depth = (
        read_fsaverage_points(name, "inflated"),
        read_fsaverage_triangles(name),
        read_fsaverage_depth(name),
    )
    mesh = join_hemispheres({side: (points[side], triangles[side]) for side in HEMISPHERES}, name=name)
    return mesh, (np.concatenate([depth[side] for side in HEMISPHERES]) < 0).astype(np.uint8)


def name_vertex(row: int, sizes: tuple[int, int]) -> str:
    """Name a vertex by its hemisphere and its number there.

    Examples
    --------
    >>> name_vertex(3, (3, 4)), find_vertex("right:0", (3, 4))
    ('right:0', 3)
    """
    return f"left:{row}" if row < sizes[0] else f"right:{row - sizes[0]}"


def find_vertex(text: str, sizes: tuple[int, int]) -> int:
    """Find the row of a vertex by its name.

    Raises
    ------
    InputError
        It names no vertex of the mesh.
    """
    side, _, number = text.partition(":")
    known = dict(zip(HEMISPHERES, sizes, strict=True))
    if side not in known or not number.isdecimal() or int(number) >= known[side]:
        raise InputError(
            f"vertex: expected left:0 to left:{sizes[0] - 1} or right:0 to right:{sizes[1] - 1}, got {text!r}"
        )
    return int(number) + (sizes[0] if side == "right" else 0)
