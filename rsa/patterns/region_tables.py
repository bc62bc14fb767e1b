"""Read time courses of regions from tables with a row for each scan and a named column for each region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, list_some
from brainmap.errors import InputError
from brainmap.rsa.images.names import REGION_TABLE_ENDING
from brainmap.rsa.patterns.voxel_tables import VoxelRois
from brainmap.rsa.regions.labels import choose_rois, pool_hemispheres
from brainmap.rsa.regions.rois import Rois
from brainmap.tables import cells, read_table
from brainmap.types import Floats, Hemispheres


def is_region_table(name: object) -> bool:
    """Tell whether a name is that of a table of time courses.

    Examples
    --------
    >>> is_region_table("sub-01_task-alice_timeseries.tsv"), is_region_table("sub-01.npy")
    (True, False)
    """
    return isinstance(name, str | Path) and Path(name).suffix.lower() == REGION_TABLE_ENDING


def load_column_rois(
    file: str | Path, *, names: Sequence[str] | None = None, hemispheres: Hemispheres = "separate"
) -> VoxelRois:
    """Make a region of each column of a table of time courses.

    Parameters
    ----------
    file : str or Path
    names : sequence of str, optional
        Columns to take, in this order; by default all.
    hemispheres : {"separate", "pooled"}
        Whether columns whose names differ only in the side are joined.

    Returns
    -------
    VoxelRois

    Raises
    ------
    InputError
        The table has no names of regions, or not these.
    """
    check_choice(hemispheres, ("separate", "pooled"), "hemispheres")
    columns = read_region_table(file).columns.tolist()
    labels = np.arange(1, len(columns) + 1, dtype=np.int32)
    rois: Rois = Rois(tuple(columns), labels, np.eye(4), "table")
    rois = pool_hemispheres(rois) if hemispheres == "pooled" else rois
    rois = rois if names is None else choose_rois(rois, names)
    places = np.arange(len(columns))
    return VoxelRois(rois.names, rois.labels, rois.affine, "table", columns=places, n_columns=len(columns))


def read_region_table(file: str | Path) -> pd.DataFrame:
    """Read a table of time courses `(n_scans, n_regions)` in double precision; `n/a` is NaN.

    Raises
    ------
    InputError
        The first line does not name regions, or a value is no number.
    """
    table = read_table(file, "time courses")
    names = [str(name) for name in table.columns]
    if not names or all(_is_number(name) for name in names):
        raise InputError(
            f"{file}: expected the names of regions in the first line, got {list_some(names, 3) or 'none'}; add a line "
            "of names"
        )
    found: dict[str, Floats] = {}
    for name in names:
        texts = cells(table[name])
        try:
            found[name] = np.array([float(text) if text else np.nan for text in texts])
        except ValueError:
            wrong = next(text for text in texts if text and not _is_number(text))
            raise InputError(f"{file}: expected numbers in the column {name!r}, got {wrong!r}; leave it out") from None
    return pd.DataFrame(found)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
