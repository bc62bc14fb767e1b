"""Load patterns and regions on the cortical surface, for the same RDM analyses as in volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainmap.errors import InputError
from brainmap.rsa.images.files import list_images
from brainmap.rsa.patterns.arrays import is_response_table
from brainmap.rsa.patterns.labels import Conditions, Source
from brainmap.rsa.patterns.response_tables import list_table_files, load_response_table
from brainmap.rsa.patterns.table import Pattern, PatternSettings, Runs, Stimuli, plan_patterns
from brainmap.rsa.patterns.volume import build_patterns, describe_source, load_patterns
from brainmap.rsa.regions.rois import Image, Rois
from brainmap.rsa.surface.data import SurfaceData, check_same_mesh, ensure_surface, is_surface
from brainmap.rsa.surface.rois import Surface, load_surface_rois
from brainmap.types import Dataset, Missing, TableAxis


def load_surface_patterns(
    files: Surface | Sequence[Surface],
    *,
    conditions: Conditions = "sub-brick",
    rois: Rois | Surface | None = None,
    mask: Surface | None = None,
    runs: Runs | None = None,
    stimuli: Stimuli | None = None,
    participant: str | None = None,
    missing: Missing = "error",
) -> Dataset:
    """Read patterns (betas, contrasts) of one participant at the vertices of the cortex.

    Parameters
    ----------
    files : name with `{hemi}`, mapping of side to path, SurfaceData, or list of these
        One file per run, as for `load_surface`, with one map per condition.
    conditions : "sub-brick", path, DataFrame or list
        "sub-brick" uses the names of the arrays. Other values are as in `load_patterns`.
    rois : Rois or label files, optional
        Regions as `load_surface_rois` returns them.
    mask : surface data of one map, optional
        Vertices above 0 are read; by default all vertices.
    runs, stimuli, participant, missing
        As in `load_patterns`.

    Returns
    -------
    rsatoolbox.data.Dataset
        As from `load_patterns`, with the channel descriptors `hemisphere`, `vertex` (counted from 0 in its
        hemisphere), `voxel` (its index in the mask, left before right) and `roi`, and the descriptor `mesh_vertices`.
        Vertices that are NaN or constant in a run, as on the medial wall, are left out and counted.

    Raises
    ------
    InputError
        As `load_patterns`, and if meshes differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> run = [SurfaceData(rng.normal(size=(5, 3)).astype("f4"), rng.normal(size=(4, 3)).astype("f4"), tuple("abc"))
    ...        for _ in range(2)]
    >>> data = load_surface_patterns(run)
    >>> data.measurements.shape, data.channel_descriptors["vertex"].tolist()
    ((6, 9), [0, 1, 2, 3, 4, 0, 1, 2, 3])
    """
    read, sources = _read_vertices(files)
    settings = PatternSettings(conditions=conditions, runs=runs, stimuli=stimuli, missing=missing)
    plan = plan_patterns(sources, settings)
    inside = np.ones(len(read[0].values), bool)
    if mask is not None:
        chosen = ensure_surface(mask)
        check_same_mesh(chosen, read[0])
        inside = np.nan_to_num(chosen.values[:, 0]) > 0
    regions = rois if isinstance(rois, Rois) or rois is None else load_surface_rois(rois)
    if regions is not None and regions.labels.shape != inside.shape:
        raise InputError(
            f"ROIs: expected {inside.size} vertices, as the patterns have, got {regions.labels.size}; use one mesh "
            "for both"
        )
    measured = np.full((len(plan), int(inside.sum())), np.nan)
    for i, row in enumerate(plan):
        if row.source >= 0:
            measured[i] = read[row.source].values[inside, row.volume]
    data = build_patterns(
        measured, plan, sources, inside=inside, rois=regions, missing=missing, participant=participant
    )
    voxel = np.asarray(data.channel_descriptors["voxel"], int)
    data.channel_descriptors["hemisphere"] = read[0].hemisphere[inside][voxel]
    data.channel_descriptors["vertex"] = read[0].vertex[inside][voxel]
    data.descriptors["mesh_vertices"] = "{}+{}".format(*read[0].sizes)  # a str, as rsatoolbox hashes descriptors
    return data


def load_any_patterns(
    files: Image | Sequence[Image],
    *,
    mask: Any,
    key: str | None = None,
    axes: Sequence[TableAxis] | None = None,
    **given: Any,
) -> Dataset:
    """Load patterns with `load_patterns`, `load_surface_patterns` (GIFTI) or `load_response_table` (arrays).

    Raises
    ------
    InputError
        As in these functions.
    """
    images = list_images(files)
    if any(is_response_table(image) for image in images):
        if mask is not None:
            raise InputError("mask: expected none, since a response table has no grid, got one; leave it out")
        items, voxels = given.pop("conditions"), given.pop("rois", None)
        return load_response_table(list_table_files(images), items=items, voxels=voxels, key=key, axes=axes, **given)
    if key is not None or axes is not None:
        raise InputError(f"key and axes are of response tables (.npy, .mat, ...): got {images[0]}; leave them out")
    load: Any = load_surface_patterns if _is_on_surface(images) else load_patterns
    data: Dataset = load(images if len(images) > 1 else images[0], mask=mask, **given)
    return data


def plan_any_patterns(files: Image | Sequence[Image], settings: PatternSettings) -> list[Pattern]:
    """Return the rows that `load_any_patterns` would read, from headers and tables alone.

    Raises
    ------
    InputError
        As in `load_patterns`, except for what only the values of images show.
    """
    images = list_images(files)
    if _is_on_surface(images):
        return plan_patterns(_read_vertices([str(image) for image in images])[1], settings)
    return plan_patterns([describe_source(image) for image in images], settings)


def _is_on_surface(images: Sequence[Image]) -> bool:
    return any(is_surface(str(image)) for image in images if isinstance(image, str | Path))


def _read_vertices(files: Surface | Sequence[Surface]) -> tuple[list[SurfaceData], list[Source]]:
    """Read the data of each file, all on one mesh, and describe their maps."""
    listed = list(files) if isinstance(files, Sequence) and not isinstance(files, str) else [files]
    read = [ensure_surface(one) for one in listed]
    for one in read[1:]:
        check_same_mesh(one, read[0])
    return read, [Source(one.name, one.values.shape[1], _keep_names(one.labels)) for one in read]


def _keep_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels, or none if they are only numbers."""
    return () if all(label == f"#{k}" for k, label in enumerate(labels)) else tuple(labels)
