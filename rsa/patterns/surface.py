"""Patterns and regions on the cortical surface, for the same RDMs as from volumes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rsatoolbox.data.dataset import Dataset

from brainmap.checks import one_of, some
from brainmap.errors import InputError
from brainmap.rsa.patterns.table import Conditions, Pattern, Runs, Source, Stimuli, plan_patterns
from brainmap.rsa.patterns.volume import Missing, patterns_in
from brainmap.rsa.regions.labels import choose_rois, pool_hemispheres, side_of
from brainmap.rsa.regions.rois import Rois
from brainmap.rsa.surface.data import SurfaceData, as_surface, same_mesh

Surface = SurfaceData | str | Path | Mapping[str, str | Path]
_BACKGROUND = re.compile(r"(?i)unknown|medial[ _]?wall|\?+|")


def load_surface_rois(
    labels: Surface,
    *,
    names: Sequence[str] | None = None,
    hemispheres: Literal["separate", "pooled"] = "separate",
    minimum_vertices: int = 10,
) -> Rois:
    """Read regions from label files (`aparc_hemi-{hemi}.label.gii`), or from labels that were projected.

    Returns
    -------
    Rois
        `left-<name>` and `right-<name>` unless the names tell the side (`<name>` where pooled); `labels`
        `(n_vertices,)` with the left hemisphere first. Unknown, the medial wall and vertices of -1 are left out.

    Raises
    ------
    InputError
        More than one map, values that are no labels, a region with too few vertices, an unknown name.
    """
    one_of(hemispheres, ("separate", "pooled"), "hemispheres")
    data = as_surface(labels)
    values = data.values
    if values.shape[1] != 1:
        raise InputError(f"{data.name}: {values.shape[1]} maps, wanted one map of labels")
    flat = np.where(values[:, 0] == -1, 0, values[:, 0])  # FreeSurfer's vertices without a label
    if not (np.isfinite(flat) & (flat == np.round(flat)) & (flat >= 0)).all():
        raise InputError(f"{data.name}: values that are no whole numbers from 0; wanted labels (.label.gii)")
    names_of, numbers = [], np.zeros(len(flat), np.int32)
    for side in ("left", "right"):
        mine = data.hemisphere == side
        found = [int(value) for value in np.unique(flat[mine]) if value > 0]
        known = dict(data.label_tables.get(side, {})) or {value: str(value) for value in found}
        lost = sorted(set(found) - set(known))
        if lost:
            there = some(sorted(known))
            raise InputError(f"{data.name}: {side} labels {some(lost)} are not in its table, which names {there}")
        for value in found:
            if not _BACKGROUND.fullmatch(known[value]):
                names_of.append(known[value] if side_of(known[value]) else f"{side}-{known[value]}")
                numbers[mine & (flat == value)] = len(names_of)
    rois = Rois(tuple(names_of), numbers, np.eye(4), "surface")
    if hemispheres == "pooled":
        rois = pool_hemispheres(rois)
    if names is not None:
        rois = choose_rois(rois, names)
    for name, size in rois.sizes.items():
        if size < minimum_vertices:
            raise InputError(f"ROI {name!r}: {size} vertices, wanted at least {minimum_vertices}; choose by names")
    if not len(rois):
        raise InputError(f"{data.name}: no region in it")
    return rois


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
        One a run, as `load_surface` takes them; a map a condition.
    conditions : "sub-brick", path, DataFrame or list
        "sub-brick": the names of the arrays. Else as in `load_patterns`.
    rois : Rois or label files, optional
        As `load_surface_rois` gives them.
    mask : surface data of one map, optional
        Vertices above 0 are read; all by default.
    runs, stimuli, participant, missing
        As in `load_patterns`.

    Returns
    -------
    rsatoolbox.data.Dataset
        As from `load_patterns`, with the channel descriptors `hemisphere`, `vertex` (from 0 in its hemisphere),
        `voxel` (its number in the mask, left before right) and `roi`, and the descriptor `mesh_vertices`. Vertices that
        are NaN or constant in a run, as on the medial wall, are left out and counted.

    Raises
    ------
    InputError
        As `load_patterns`; meshes that differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> run = [SurfaceData(rng.normal(size=(5, 3)).astype("f4"), rng.normal(size=(4, 3)).astype("f4"), tuple("abc"))
    ...        for _ in range(2)]
    >>> data = load_surface_patterns(run)
    >>> data.measurements.shape, data.channel_descriptors["vertex"].tolist()
    ((6, 9), [0, 1, 2, 3, 4, 0, 1, 2, 3])
    """
    read, sources = _read(files)
    plan = plan_patterns(sources, conditions=conditions, runs=runs, stimuli=stimuli, missing=missing)
    inside = np.ones(len(read[0].values), bool)
    if mask is not None:
        chosen = as_surface(mask)
        same_mesh(chosen, read[0])
        inside = np.nan_to_num(chosen.values[:, 0]) > 0
    regions = rois if isinstance(rois, Rois) or rois is None else load_surface_rois(rois)
    if regions is not None and regions.labels.shape != inside.shape:
        raise InputError(f"ROIs of {regions.labels.size} vertices, patterns of {inside.size}; wanted one mesh")
    measured = np.full((len(plan), int(inside.sum())), np.nan)
    for i, row in enumerate(plan):
        if row.source >= 0:
            measured[i] = read[row.source].values[inside, row.volume]
    data = patterns_in(
        measured, plan, sources, inside=inside, rois=regions, missing=missing, participant=participant
    )  # fmt: skip
    voxel = np.asarray(data.channel_descriptors["voxel"], int)
    data.channel_descriptors["hemisphere"] = read[0].hemisphere[inside][voxel]
    data.channel_descriptors["vertex"] = read[0].vertex[inside][voxel]
    data.descriptors["mesh_vertices"] = "{}+{}".format(*read[0].sizes)  # a str, as rsatoolbox hashes descriptors
    return data


def planned_surface_patterns(
    files: Surface | Sequence[Surface],
    *,
    conditions: Conditions = "sub-brick",
    runs: Runs | None = None,
    stimuli: Stimuli | None = None,
    missing: Missing = "error",
) -> list[Pattern]:
    """Which map shows what: the rows that `load_surface_patterns` would give.

    Raises
    ------
    InputError
        As `load_surface_patterns`, but for what the values show.
    """
    return plan_patterns(_read(files)[1], conditions=conditions, runs=runs, stimuli=stimuli, missing=missing)


def _read(files: Surface | Sequence[Surface]) -> tuple[list[SurfaceData], list[Source]]:
    """The data of each file, all on one mesh, and what their names say of their maps."""
    listed = list(files) if isinstance(files, Sequence) and not isinstance(files, str) else [files]
    read = [as_surface(one) for one in listed]
    for one in read[1:]:
        same_mesh(one, read[0])
    return read, [Source(one.name, one.values.shape[1], _named(one.labels)) for one in read]


def _named(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, or none where they only count."""
    return () if all(label == f"#{k}" for k, label in enumerate(labels)) else tuple(labels)
