"""Read the RDM of a hypothesis from a file of any common form, and match it to the items of a study by label.

HDF5 files are those of brainmap and rsatoolbox; CSV, TSV and npy files hold a matrix, whose labels stand in its first
row and column, or in a file of their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainmap.checks import check_file, check_one_each, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.rsa.rdm.alignment import count_items_of_pairs, find_pair_positions, list_rdm_names
from brainmap.rsa.rdm.files import load_plain_rdms
from brainmap.rsa.rdm.hypotheses import parse_square, read_model_rdms
from brainmap.tables import check_columns, is_number
from brainmap.types import Floats, RDMs, TableLayout

HDF5 = (".h5", ".hdf5")
TABLES = (".csv", ".tsv", ".txt")
ENDINGS = (*HDF5, *TABLES, ".npy")
_SHOWN = 6


class FoundRdm(NamedTuple):
    """Hold the dissimilarities of a file in the order of the items of a study.

    Attributes
    ----------
    vector : ndarray (n_pairs,)
    others : tuple of str
        Items of the file that the study does not have.
    """

    vector: Floats
    others: tuple[str, ...]


def read_hypothesis(path: str | Path, name: str, *, items: Sequence[str], labels: str | Path | None = None) -> FoundRdm:
    """Read one RDM from a file, and bring its items into the order of those of a study.

    Parameters
    ----------
    path : path
        HDF5 of `save_rdms` or rsatoolbox; a matrix as CSV (commas or semicolons), TSV or text with labels in its first
        row and column; a table of pairs (`stimulus_id_1`, `stimulus_id_2` and dissimilarities); or npy, a matrix or the
        vector of its pairs, row by row above the diagonal.
    name : str
        The RDM that is taken, where the file holds several.
    items : sequence of str
        The labels that are wanted, in their order. Further items of the file are left out.
    labels : path, optional
        A text file with one label a line, for a matrix without labels.

    Returns
    -------
    FoundRdm

    Raises
    ------
    InputError
        The file has another form, no RDM of this name, or no unique labels; a label is missing; the matrix is not
        square or symmetric, its diagonal is not 0, or a dissimilarity is missing or not finite.
    """
    path = check_file(path, "RDM")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"expected a file that ends in {', '.join(ENDINGS)}, got {path.name}; save it as one of these")
    if labels is not None and ending in HDF5:
        raise InputError(f"labels: {path.name} names its items itself; leave labels out")
    if ending in HDF5:
        return _match_items(*_choose_rdm(load_plain_rdms(path), name, items), items)
    if labels is not None:
        return _match_items(*_read_bare_matrix(path, read_labels(labels)), items)
    if ending == ".npy":
        raise InputError(f"{path.name} holds no labels; name its rows in a text file, one a line: labels = 'order.txt'")
    rdms = _read_labelled_table(path)
    return _match_items(*_choose_rdm(rdms, name, items), items)


def read_labels(path: str | Path) -> list[str]:
    """Read a text file with one label a line; empty lines at the end do not count.

    Raises
    ------
    InputError
        The file is missing or no UTF-8 text, or a label is empty or occurs twice.
    """
    path = check_file(path, "labels")
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError:
        raise InputError(f"labels: {path.name} is no UTF-8 text; write one label a line") from None
    twice = sorted({label for label in found if found.count(label) > 1})
    if twice or not all(found):
        raise InputError(
            f"labels: expected one label a line of {path.name}, each once, got {list_some(twice) or 'an empty line'}"
        )
    return found


def _choose_rdm(rdms: RDMs, name: str, items: Sequence[str]) -> tuple[Floats, list[str]]:
    """Return the vector of one of several RDMs, and the labels of its items that know most of the study's."""
    row = 0
    if rdms.n_rdm > 1:
        names = list_rdm_names(rdms)
        if name not in names:
            raise InputError(
                f"expected an RDM named {name!r} among the {rdms.n_rdm} of the file, got {list_some(names)}"
                f"{suggest_word(name, names)}; give [[hypothesis]] the name of one of them"
            )
        row = names.index(name)
    named = {
        str(key): [str(value) for value in values]
        for key, values in rdms.pattern_descriptors.items()
        if key != "index" and len(values) == rdms.n_cond
    }
    unique = {key: values for key, values in named.items() if len(set(values)) == len(values)}
    if not unique:
        raise InputError(
            f"expected a pattern descriptor that names each item once, got {list_some(named) or 'none'} with repeated "
            "names; name the items by stimulus_id, or by condition where [rsa] items = 'condition'"
        )
    wanted = set(items)
    best = max(unique, key=lambda key: len(wanted & set(unique[key])))
    return np.asarray(rdms.dissimilarities, dtype=np.float64)[row], unique[best]


def _match_items(vector: Floats, labels: Sequence[str], items: Sequence[str]) -> FoundRdm:
    """Bring the pairs of a file into the order of the items of a study."""
    place = {label: k for k, label in enumerate(labels)}
    missing = [item for item in items if item not in place]
    if missing:
        hint = suggest_word(missing[0], set(labels) - set(items))  # a label of another item is no misspelt one
        raise InputError(
            f"expected the labels of all {len(items)} items of the study, got no {list_some(missing, _SHOWN)} among "
            f"{list_some(labels, _SHOWN)}; items are matched by stimulus_id, or by condition where "
            f"[rsa] items = 'condition'{hint}"
        )
    order = np.array([place[item] for item in items])
    found = vector[find_pair_positions(order, len(labels))]
    lost = np.flatnonzero(~np.isfinite(found))
    if len(lost):
        i, j = (side[lost[0]] for side in np.triu_indices(len(items), 1))
        raise InputError(
            f"expected a number for every pair, got {found[lost[0]]:g} for {items[i]!r} and {items[j]!r}"
            f"{f', and for {len(lost) - 1} more pairs' if len(lost) > 1 else ''}; fill in every pair"
        )
    wanted = set(items)
    return FoundRdm(found, tuple(label for label in labels if label not in wanted))


def _read_labelled_table(path: Path) -> RDMs:
    """Read a matrix with labels in its first row and column, or a table of pairs."""
    table = _read_cells(path, header=0)
    first = [str(column) for column in table.columns[:2]]
    if len(first) == 2 and all(column.endswith(f"_{k}") for k, column in enumerate(first, start=1)):
        return _read_model(table, path, None)
    if table.shape[1] < 2 or is_number(first[0]):
        raise InputError(
            f"expected labels in the first row and column of {path.name}, got numbers; write the labels there, or one "
            "a line in a text file: labels = 'order.txt'"
        )
    n_rows, n_columns = len(table), table.shape[1] - 1
    if n_rows != n_columns:
        raise InputError(
            f"expected a square matrix with its labels in {path.name}, got {n_rows} rows and {n_columns} columns of "
            "values; is this a table of features? put them into the table of sounds, and name them in features"
        )
    table = table.set_axis(["stimulus_id", *(str(column).strip() for column in table.columns[1:])], axis=1)
    table["stimulus_id"] = table["stimulus_id"].str.strip()
    return _read_model(table, path, "square")


def _read_model(table: pd.DataFrame, path: Path, layout: TableLayout | None) -> RDMs:
    """Read a table of dissimilarities, whose problems are told with the name of its file."""
    try:
        return read_model_rdms(table, layout=layout)
    except InputError as error:
        raise InputError(str(error).replace("model table", path.name, 1)) from None


def _read_bare_matrix(path: Path, labels: list[str]) -> tuple[Floats, list[str]]:
    """Read a matrix without labels, or from npy the vector of its pairs."""
    if path.suffix.lower() == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path.name} cannot be read as an array ({error}); save it again") from None
    else:
        cells = _read_cells(path, header=None)
        numbers = cells.apply(pd.to_numeric, errors="coerce")
        wrong = np.argwhere((numbers.isna() & ~cells.isin(["nan", "NaN", "n/a", ""])).to_numpy())
        if len(wrong):
            raise InputError(
                f"expected numbers only in {path.name}, whose rows are named in labels, got "
                f"{cells.iloc[tuple(wrong[0])]!r}; leave labels out where the file has its own"
            )
        values = numbers.to_numpy(dtype=np.float64)
    if values.dtype.kind not in "fiu":
        raise InputError(f"expected numbers in {path.name}, got {values.dtype}; save the matrix as numbers")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        n = count_items_of_pairs(len(values))
        if n * (n - 1) // 2 != len(values):
            raise InputError(f"expected the pairs of some items in {path.name}, got {len(values)} values")
    elif values.ndim == 2 and values.shape[0] == values.shape[1]:
        n = len(values)
    else:
        raise InputError(f"expected a square matrix in {path.name}, got the shape {values.shape}")
    check_one_each(labels, n, "labels", f"rows of {path.name}")
    return (values if values.ndim == 1 else parse_square(values, labels, labels, path.name)), labels


def _read_cells(path: Path, *, header: int | None) -> pd.DataFrame:
    """Read the cells of a table as text, separated as its first line is."""
    try:
        first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = max(("\t", ",", ";"), key=first.count)
        separator = separator if separator in first else r"\s+"  # as numpy.savetxt writes
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more cells than the header
            found = pd.read_csv(
                path,
                sep=separator,
                dtype=str,
                keep_default_na=False,
                header=header,
                encoding="utf-8-sig",
                index_col=False,
            )
    except pd.errors.ParserWarning:
        raise InputError(
            f"expected as many cells in the first row of {path.name} as in the others, got fewer; begin it with an "
            "empty cell, above the labels of the rows (in R: col.names = NA)"
        ) from None
    except ValueError as error:  # UnicodeDecodeError, EmptyDataError and ParserError are ValueErrors
        why = str(error).strip().splitlines()[0]
        raise InputError(f"{path.name} cannot be read as a table: {why}; write it again") from None
    if header is not None:
        check_columns(path, "matrix", separator)  # pandas renames a label that occurs twice
    return found
