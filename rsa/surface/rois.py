"""Load regions on the cortical surface from labels in GIFTI files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brainmap.checks import check_enough, list_some
from brainmap.errors import InputError
from brainmap.rsa.regions.labels import find_side, narrow_rois
from brainmap.rsa.regions.rois import Rois
from brainmap.rsa.surface.data import SurfaceData, ensure_surface
from brainmap.types import Hemispheres

Surface = SurfaceData | str | Path | Mapping[str, str | Path]


_BACKGROUND = re.compile(r"(?i)unknown|medial[ _]?wall|\?+|")


def load_surface_rois(
    labels: Surface,
    *,
    names: Sequence[str] | None = None,
    hemispheres: Hemispheres = "separate",
    minimum_vertices: int = 10,
) -> Rois:
    """Load regions from label files (`aparc_hemi-{hemi}.label.gii`), or from projected labels.

    Parameters
    ----------
    labels : SurfaceData, path or mapping
        A name with `{hemi}`, a CIFTI file (`.dlabel.nii`), or the file of each hemisphere.
    names : sequence of str, optional
        Regions to take; by default all.
    hemispheres : {"separate", "pooled"}
        Whether a region of both hemispheres is two regions or one.
    minimum_vertices : int
        Regions with fewer vertices are refused.

    Returns
    -------
    Rois
        Regions named `left-<name>` and `right-<name>`, unless the names give the side (`<name>` if pooled). `labels`
        has shape `(n_vertices,)` with the left hemisphere first. The label Unknown, the medial wall and vertices of -1
        are left out.

    Raises
    ------
    InputError
        If there is more than one map, values are not labels, a region has too few vertices, or a name is unknown.
    """
    data = ensure_surface(labels)
    values = data.values
    if values.shape[1] != 1:
        raise InputError(f"{data.name}: expected one map of labels, got {values.shape[1]} maps")
    flat = np.where(values[:, 0] == -1, 0, values[:, 0])  # FreeSurfer's value for vertices without a label
    if not (np.isfinite(flat) & (flat == np.round(flat)) & (flat >= 0)).all():
        raise InputError(f"{data.name}: expected labels (.label.gii), got values that are not whole numbers from 0")
    names_of, numbers = [], np.zeros(len(flat), np.int32)
    for side in ("left", "right"):
        mine = data.hemisphere == side
        found = [int(value) for value in np.unique(flat[mine]) if value > 0]
        known = dict(data.label_tables.get(side, {})) or {value: str(value) for value in found}
        lost = sorted(set(found) - set(known))
        if lost:
            there = list_some(sorted(known))
            raise InputError(
                f"{data.name}: the {side} labels {list_some(lost)} are not in its table, which names {there}"
            )
        for value in found:
            if not _BACKGROUND.fullmatch(known[value]):
                names_of.append(known[value] if find_side(known[value]) else f"{side}-{known[value]}")
                numbers[mine & (flat == value)] = len(names_of)
    rois = narrow_rois(Rois(tuple(names_of), numbers, np.eye(4), "surface"), names, hemispheres)
    for name, size in rois.sizes.items():
        check_enough(size, minimum_vertices, f"ROI {name!r}", "vertices", "; choose regions by names")
    if not len(rois):
        raise InputError(f"{data.name}: the data hold no region")
    return rois
