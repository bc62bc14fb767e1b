"""Read CIFTI-2 files of dense data: maps, time series and labels at the vertices of both hemispheres."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_file
from brainmap.errors import BrainmapWarning, InputError

CORTEX = {"CIFTI_STRUCTURE_CORTEX_LEFT": "left", "CIFTI_STRUCTURE_CORTEX_RIGHT": "right"}


class CiftiMaps(NamedTuple):
    """Hold what a CIFTI file says of the cortex, by side: values `(n_vertices, n_maps)`, names of maps, and labels."""

    values: dict[str, NDArray[np.float32]]
    labels: tuple[str, ...]
    label_tables: dict[str, dict[int, str]]


def read_cifti(path: str | Path) -> CiftiMaps:
    """Read the cortex of a CIFTI file (`.dscalar.nii`, `.dtseries.nii`, `.dlabel.nii`).

    Vertices without data (the medial wall) are NaN, or 0 in label files. Subcortical voxels are left out with a
    warning.

    Raises
    ------
    InputError
        If the file does not exist, is damaged, is no dense CIFTI file, holds no cortex, or gives its maps different
        tables of labels.
    """
    file = check_file(path, "surface")
    try:
        image: Any = nib.load(file)
        axes = [image.header.get_axis(k) for k in range(image.ndim)] if isinstance(image, nib.Cifti2Image) else []
        rows = np.asarray(image.dataobj, np.float32) if axes else np.empty(0, np.float32)
    except Exception as error:  # nibabel raises many types of error for damaged files
        raise InputError(f"{file}: damaged CIFTI ({str(error) or type(error).__name__}); write it again") from None
    if len(axes) != 2 or not isinstance(axes[1], nib.cifti2.BrainModelAxis):
        raise InputError(
            f"{file}: expected a CIFTI file of maps at vertices (.dscalar.nii, .dtseries.nii, .dlabel.nii), got another"
        )
    maps, models = axes
    labelled = isinstance(maps, nib.cifti2.LabelAxis)
    found: dict[str, NDArray[np.float32]] = {}
    left_out = 0
    for name, columns, model in models.iter_structures():
        if name not in CORTEX:
            left_out += len(model)
            continue
        n_vertices = models.nvertices[name]
        values = np.full((n_vertices, len(rows)), 0 if labelled else np.nan, np.float32)
        values[model.vertex] = rows[:, columns].T
        found[CORTEX[name]] = values
    if not found:
        raise InputError(f"{file}: expected data of the cortex, got subcortical voxels only; take them as a volume")
    if left_out:
        warnings.warn(
            f"{file}: {left_out:,} voxels of subcortical structures are left out; surface data are the cortex",
            BrainmapWarning,
            stacklevel=3,
        )
    return CiftiMaps(found, _list_map_names(maps), _read_tables(maps, list(found), file) if labelled else {})


def _list_map_names(maps: Any) -> tuple[str, ...]:
    """List the names of the maps; a time series has numbers."""
    names = list(getattr(maps, "name", [""] * len(maps)))
    return tuple(str(name).strip() or f"#{k}" for k, name in enumerate(names))


def _read_tables(maps: Any, sides: list[str], file: Path) -> dict[str, dict[int, str]]:
    tables = [{int(value): str(label) for value, (label, _) in table.items()} for table in maps.label]
    if any(table != tables[0] for table in tables):
        raise InputError(f"{file}: expected one table of labels, got another for each map; write one map a file")
    return dict.fromkeys(sides, tables[0])
