"""Load regions of interest from tables: of voxels, and of time courses with a column for each region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, list_some
from brainmap.errors import InputError
from brainmap.rsa.images.names import REGION_TABLE_ENDING
from brainmap.rsa.regions.labels import narrow_rois
from brainmap.rsa.regions.rois import Rois
from brainmap.tables import cells, is_number, read_table
from brainmap.types import Floats, Hemispheres

REGION_COLUMNS = ("roi", "region")


@dataclass(frozen=True)
class VoxelRois(Rois):
    """Hold the regions of the voxels of one participant, `labels` of shape `(n_voxels,)`.

    Attributes
    ----------
    names, labels, affine, space, absent
        As in `Rois`.
    columns : ndarray of int, (n_voxels,)
        Rows of the voxel table that belong to the participant, which are columns of the response table, from 0.
    n_columns : int
        Number of rows of the voxel table.
    """

    columns: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    n_columns: int = 0


def load_voxel_rois(
    voxels: str | Path | pd.DataFrame,
    *,
    participant: str | None = None,
    names: Sequence[str] | None = None,
    hemispheres: Hemispheres = "separate",
    minimum_voxels: int = 1,
) -> VoxelRois:
    """Load the regions of a voxel table, for `load_response_table`.

    Parameters
    ----------
    voxels : path of a TSV or DataFrame
        One row per voxel, in the order of the voxels of the response table. The column `roi` (or `region`) names the
        region and is empty outside of all regions. A column `participant` tells whose voxel it is. Other columns
        (coordinates, vertex) are not used.
    participant : str, optional
        The participant whose voxels are taken; needed if the table lists several.
    names : sequence of str, optional
        Regions to take, in this order; by default all, in the order of the table.
    hemispheres : {"separate", "pooled"}
        Whether regions whose names differ only in the side are joined.
    minimum_voxels : int
        A region with fewer voxels is refused.

    Returns
    -------
    VoxelRois

    Raises
    ------
    InputError
        If the table names no region, both columns, or not this participant; or a region is unknown or too small.

    Examples
    --------
    >>> table = pd.DataFrame({"participant": ["01", "01", "02"], "roi": ["A1", "", "A1"]})
    >>> rois = load_voxel_rois(table, participant="01")
    >>> rois.sizes, rois.columns.tolist()
    ({'A1': 1}, [0, 1])
    """
    found = read_voxel_rois(voxels, participant=participant)
    if not found.names:
        raise InputError(
            f"voxel table: expected a column {' or '.join(REGION_COLUMNS)} that names regions, got no region; add it"
        )
    rois = narrow_rois(found, names, hemispheres)
    for name, size in rois.sizes.items():
        check_enough(size, minimum_voxels, f"ROI {name!r}", "voxels", "; leave the region out, or lower minimum_voxels")
    return VoxelRois(rois.names, rois.labels, rois.affine, rois.space, columns=found.columns, n_columns=found.n_columns)


def read_voxel_rois(voxels: str | Path | pd.DataFrame, *, participant: str | None = None) -> VoxelRois:
    """Read a voxel table, whose regions may be missing; see `load_voxel_rois`."""
    table = read_table(voxels, "voxel table", empty_ends=True)
    named = [column for column in REGION_COLUMNS if column in table.columns]
    if len(named) > 1:
        raise InputError(f"voxel table: expected one of the columns {list_some(REGION_COLUMNS)}, got both; drop one")
    regions = np.array(cells(table[named[0]]) if named else [""] * len(table))
    columns = _choose_rows(table, participant)
    mine = regions[columns]
    names = tuple(name for name in dict.fromkeys(mine.tolist()) if name)
    number = {"": 0, **{name: k for k, name in enumerate(names, start=1)}}
    labels = np.array([number[name] for name in mine.tolist()], np.int32)
    absent = tuple(name for name in dict.fromkeys(regions.tolist()) if name and name not in names)
    return VoxelRois(names, labels, np.eye(4), "table", absent, columns=columns, n_columns=len(table))


def _choose_rows(table: pd.DataFrame, participant: str | None) -> NDArray[np.intp]:
    """Return the rows of one participant; all rows if the table tells no participants."""
    if "participant" not in table.columns:
        return np.arange(len(table))
    of_row = [text.removeprefix("sub-") for text in cells(table["participant"])]
    if "" in of_row:
        raise InputError(
            f"voxel table: expected a participant in every row, got none in row {of_row.index('') + 1}; add it"
        )
    known = list(dict.fromkeys(of_row))
    if participant is None and len(known) != 1:
        raise InputError(
            f"voxel table: expected the voxels of one participant, got those of {len(known)} ({list_some(known)}); "
            "say whose to take (participant)"
        )
    wanted = known[0] if participant is None else participant.removeprefix("sub-")
    check_choice(wanted, known, "voxel table: participant")
    return np.flatnonzero(np.array(of_row) == wanted)


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
    columns = read_region_table(file).columns.tolist()
    labels = np.arange(1, len(columns) + 1, dtype=np.int32)
    rois = narrow_rois(Rois(tuple(columns), labels, np.eye(4), "table"), names, hemispheres)
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
    if not names or all(is_number(name) for name in names):
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
            wrong = next(text for text in texts if text and not is_number(text))
            raise InputError(f"{file}: expected numbers in the column {name!r}, got {wrong!r}; leave it out") from None
    return pd.DataFrame(found)
