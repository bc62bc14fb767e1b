"""Load response tables: matrices of items x voxels (x repetitions) with a list of items and a table of voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

from brainmap.checks import check_each, list_some, refuse_some
from brainmap.errors import InputError
from brainmap.rsa.images.files import list_images
from brainmap.rsa.images.names import ARRAY_ENDINGS
from brainmap.rsa.patterns.arrays import StoredArray, find_array, format_shape, is_response_table
from brainmap.rsa.patterns.labels import Source
from brainmap.rsa.patterns.region_tables import VoxelRois, read_voxel_rois
from brainmap.rsa.patterns.table import Pattern, PatternSettings, Runs, Stimuli, plan_patterns
from brainmap.rsa.patterns.volume import build_patterns
from brainmap.rsa.regions.rois import Image
from brainmap.tables import cells, read_table
from brainmap.types import Dataset, Floats, Missing, TableAxis

ItemList = str | Path | pd.DataFrame | Sequence[str]
Items = ItemList | Sequence[ItemList]


class _Table(NamedTuple):
    """Hold one response table before its values are read: `order` are its axes of items, voxels and repetitions."""

    name: str
    array: StoredArray
    order: tuple[int, ...]
    items: pd.DataFrame

    @property
    def n_repetitions(self) -> int:
        return self.array.shape[self.order[2]] if len(self.order) == 3 else 1


def load_response_table(
    files: str | Path | Sequence[str | Path],
    *,
    items: Items,
    voxels: str | Path | pd.DataFrame | VoxelRois | None = None,
    key: str | None = None,
    axes: Sequence[TableAxis] | None = None,
    runs: Runs | None = None,
    stimuli: Stimuli | None = None,
    participant: str | None = None,
    missing: Missing = "error",
) -> Dataset:
    """Read patterns of one participant from a matrix of items x voxels (x repetitions).

    Parameters
    ----------
    files : path or list of paths
        `.npy`, `.npz`, `.mat` (any version), `.h5`, `.hdf5` or `.nc` (NetCDF-4). Several files are runs.
    items : path of a TSV, DataFrame or list of str
        One row per item, with the columns `stimulus_id` and/or `condition`, and optionally `run`, in the order of the
        items of the matrix. Several files have one list each, or one for all. Items are matched to stimuli by id.
    voxels : path of a TSV, DataFrame or VoxelRois, optional
        One row per voxel of the matrix, as for `load_voxel_rois`. By default all voxels, without regions.
    key : str, optional
        Name of the array in the file; needed if there are several.
    axes : sequence of {"items", "voxels", "repetitions"}, optional
        What the axes of the matrix are, in their order. By default the lengths tell; where they do not, the matrix is
        refused.
    runs : sequence, optional
        The run of each file. By default files are runs 1, 2, ...; repetitions of one matrix are runs 1, 2, ...
    stimuli
        As in `load_patterns`.
    participant : str, optional
        Label of the participant, which chooses the rows of `voxels` if these have a column `participant`.
    missing
        As in `load_patterns`.

    Returns
    -------
    rsatoolbox.data.Dataset
        As from `load_patterns`; `voxel` is the index of the voxel in the matrix, from 0. Voxels that are NaN in any
        pattern or constant in a run are left out and counted (`voxel_report`).

    Raises
    ------
    InputError
        If the matrix has another number of items or voxels than the lists; its axes are ambiguous; an item occurs twice
        or is missing; the file holds several arrays and no `key`, or objects; an item has no response in a repetition
        (all voxels NaN or 0); and as `load_patterns`.

    Examples
    --------
    >>> import tempfile
    >>> values = np.random.default_rng(0).normal(size=(3, 5, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/responses.npy", values)
    ...     data = load_response_table(f"{folder}/responses.npy", items=["cat", "dog", "tree"],
    ...                                voxels=pd.DataFrame({"roi": ["A1", "A1", "A1", "", ""]}))
    >>> data.measurements.shape, data.obs_descriptors["run"].tolist()
    ((6, 5), ['1', '1', '1', '2', '2', '2'])
    >>> bool((data.measurements[3:] == values[:, :, 1]).all())
    True
    """
    cut = (
        voxels if isinstance(voxels, VoxelRois) or voxels is None else read_voxel_rois(voxels, participant=participant)
    )
    tables = _open_tables(files, items, key=key, axes=axes, runs=runs, n_voxels=None if cut is None else cut.n_columns)
    sources, settings = _describe_tables(tables, runs, stimuli, missing)
    plan = plan_patterns(sources, settings)
    n_voxels = tables[0].array.shape[tables[0].order[1]]
    columns = np.arange(n_voxels) if cut is None else cut.columns
    measured = np.full((len(plan), columns.size), np.nan)
    for k, table in enumerate(tables):
        values = _read_rows(table, columns)
        for i, row in enumerate(plan):
            if row.source == k:
                measured[i] = values[row.volume]
    if missing == "error":
        _refuse_without_response(measured, plan, tables)
    data = build_patterns(
        measured,
        plan,
        sources,
        inside=np.ones(columns.size, bool),
        rois=cut if cut is not None and cut.names else None,
        missing=missing,
        participant=participant,
    )
    data.channel_descriptors["voxel"] = columns[np.asarray(data.channel_descriptors["voxel"], int)]
    return data


def plan_response_table(
    files: str | Path | Sequence[str | Path],
    *,
    items: Items,
    voxels: VoxelRois | None = None,
    key: str | None = None,
    axes: Sequence[TableAxis] | None = None,
    runs: Runs | None = None,
    stimuli: Stimuli | None = None,
    missing: Missing = "error",
) -> list[Pattern]:
    """Return the rows that `load_response_table` would read, from headers and lists alone.

    Raises
    ------
    InputError
        As `load_response_table`, except for what only the values show.
    """
    n_voxels = voxels.n_columns if voxels is not None else None
    tables = _open_tables(files, items, key=key, axes=axes, runs=runs, n_voxels=n_voxels)
    return plan_patterns(*_describe_tables(tables, runs, stimuli, missing))


def list_table_files(files: Image | Sequence[Image]) -> list[str | Path]:
    """List one or several files of arrays.

    Raises
    ------
    InputError
        If there is none, one is named twice, or one is an image.
    """
    images = list_images(files)
    paths = [image for image in images if isinstance(image, str | Path) and is_response_table(image)]
    refuse_some(
        [str(image) for image in images if image not in paths],
        f"response tables: expected files of arrays ({', '.join(ARRAY_ENDINGS)}), got ",
        "; give files of one kind",
    )
    return paths


def match_axes(
    shape: tuple[int, ...], n_items: int, n_voxels: int | None, axes: Sequence[TableAxis] | None, what: str
) -> tuple[int, ...]:
    """Return which axes are items, voxels and, of three, repetitions; `n_voxels` is None if no table tells it.

    Raises
    ------
    InputError
        If no assignment of the axes fits the lengths, or several do.

    Examples
    --------
    >>> match_axes((240, 165, 3), 165, 240, None, "x.npy")
    (1, 0, 2)
    """
    known: tuple[TableAxis, ...] = get_args(TableAxis)[: len(shape)]
    orders = list(permutations(range(len(shape))))
    if axes is not None:
        check_each(axes, get_args(TableAxis), "axes")
        if sorted(axes) != sorted(known):
            raise InputError(
                f"{what}: expected axes that name {list_some(known)} once each, since its shape is "
                f"{format_shape(shape)}, got {list_some(axes) or 'none'}"
            )
        orders = [tuple(list(axes).index(axis) for axis in known)]
    fits = [
        order for order in orders if shape[order[0]] == n_items and (n_voxels is None or shape[order[1]] == n_voxels)
    ]
    if len(fits) == 1:
        return fits[0]
    wanted = f"{n_items} items" + ("" if n_voxels is None else f" and {n_voxels} voxels")
    if not fits:
        said = f" ({' x '.join(axes)})" if axes is not None else ""
        raise InputError(
            f"{what}: expected {wanted}, as the lists of items and voxels have, got an array of "
            f"{format_shape(shape)}{said}; give the lists of this array"
        )
    choices = [",".join(known[order.index(axis)] for axis in range(len(shape))) for order in fits]
    raise InputError(
        f"{what}: {wanted} fit more than one axis of {format_shape(shape)}; say which the axes are: axes = "
        + " or ".join(choices)
        + (", or give a voxel table" if n_voxels is None and len(shape) == 3 else "")
    )


def _open_tables(
    files: str | Path | Sequence[str | Path],
    items: Items,
    *,
    key: str | None,
    axes: Sequence[TableAxis] | None,
    runs: Runs | None,
    n_voxels: int | None,
) -> list[_Table]:
    """Find the array of each file and its axes, and check them against the lists."""
    paths = list_table_files(files)
    tables = []
    for k, path in enumerate(paths):
        listed = _read_items(items, k, len(paths), None if runs is None else str(runs[k]))
        array = find_array(str(path), key)
        what = f"{path} {array.name}".rstrip()
        order = match_axes(array.shape, len(listed), n_voxels, axes, what)
        table = _Table(what, array, order, listed)
        if len(order) == 3 and (len(paths) > 1 or "run" in listed.columns):
            other = f"{len(paths)} files" if len(paths) > 1 else "a column 'run' in the list of items"
            raise InputError(
                f"{what}: expected runs from one place, got repetitions ({format_shape(array.shape)}) and {other}; "
                "keep one of them"
            )
        _refuse_repeated_items(listed, what)
        tables.append(table)
    sizes = {table.name: table.array.shape[table.order[1]] for table in tables}
    if len(set(sizes.values())) > 1:
        raise InputError(f"response tables: expected as many voxels in each file, got {sizes}; give one participant's")
    return tables


def _read_items(items: Items, k: int, n_files: int, run: str | None) -> pd.DataFrame:
    """Return the list of items of file k, which has a row per item."""
    given: Any = items
    if not isinstance(items, str | Path | pd.DataFrame):
        listed: list[Any] = list(items)
        texts = all(isinstance(one, str) and not one.endswith(".tsv") for one in listed)
        if not texts and len(listed) != n_files:
            raise InputError(
                f"items: expected a list for each of {n_files} files, got {len(listed)}; give one for each"
            )
        given = pd.DataFrame({"stimulus_id": listed}) if texts else listed[k]
        if not isinstance(given, str | Path | pd.DataFrame):
            given = pd.DataFrame({"stimulus_id": list(given)})
    if isinstance(given, str) and given == "sub-brick":
        raise InputError("items: expected a list of the items of the response table, got none; give a TSV (labels)")
    table = read_table(given, "items")
    if "volume" in table.columns:
        raise InputError("items: expected a row per item of the matrix, got a column 'volume'; leave it out")
    if n_files > 1 and run is not None and "run" in table.columns:
        plain = run.lstrip("0")
        table = table[[text.lstrip("0") == plain for text in cells(table["run"])]].drop(columns="run")
    return table.reset_index(drop=True)


def _refuse_repeated_items(table: pd.DataFrame, what: str) -> None:
    column = next((name for name in ("stimulus_id", "condition") if name in table.columns), None)
    if column is None:
        return  # plan_patterns says which column is missing
    names = cells(table[column])
    runs = cells(table["run"]) if "run" in table.columns else [""] * len(names)
    counts = Counter((name, run) for name, run in zip(names, runs, strict=True) if name)
    twice = [name for (name, _), count in counts.items() if count > 1]
    if twice:
        rows = [k for k, name in enumerate(names, start=1) if name == twice[0]]
        raise InputError(
            f"{what}: expected each item once, got {list_some(twice, 4)} more than once (rows {list_some(rows, 4)}); "
            "give each its own stimulus_id, or a column 'run'"
        )


def _describe_tables(
    tables: Sequence[_Table], runs: Runs | None, stimuli: Stimuli | None, missing: Missing
) -> tuple[list[Source], PatternSettings]:
    """Describe the tables as sources, whose volumes are the items of the first repetition, of the second, ..."""
    sources = [Source(table.name, len(table.items) * table.n_repetitions) for table in tables]
    lists: Any = [table.items for table in tables]
    if len(tables) == 1 and tables[0].n_repetitions > 1:
        lists = [
            pd.concat(
                [lists[0].assign(run=str(k + 1)) for k in range(tables[0].n_repetitions)],
                ignore_index=True,
            )
        ]
    return sources, PatternSettings(
        conditions=lists[0] if len(lists) == 1 else lists,
        runs=runs if len(tables) > 1 else None,
        stimuli=stimuli,
        missing=missing,
    )


def _read_rows(table: _Table, columns: Any) -> Floats:
    """Read the rows of a table, `(n_repetitions * n_items, n_columns)`, repetition by repetition."""
    values = table.array.read_values(table.name)
    ordered = values.transpose(table.order)
    stacked = ordered[:, columns] if ordered.ndim == 2 else np.moveaxis(ordered[:, columns], 2, 0)
    return stacked.reshape(-1, len(columns))


def _refuse_without_response(measured: Floats, plan: Sequence[Pattern], tables: Sequence[_Table]) -> None:
    """Refuse an item without response, or a repetition without any."""
    lost = [bool(np.isnan(row).all() or not row.any()) for row in measured]
    if not any(lost):
        return
    first = plan[lost.index(True)]
    in_run = [gone for gone, row in zip(lost, plan, strict=True) if row.run == first.run]
    many = f" (and {sum(lost) - 1} more)" if sum(lost) > 1 else ""
    said = f"any item in repetition {first.run}" if all(in_run) else f"{first.stimulus_id!r} in run {first.run}{many}"
    raise InputError(
        f"{tables[first.source].name}: expected responses of every item, got NaN or 0 in every voxel for {said}; "
        'leave it out, or keep the gap as NaN with missing="nan"'
    )
