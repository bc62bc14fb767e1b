"""Read tables as text: missing cells are the same in a file, in a DataFrame, in pandas 2 and in pandas 3."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from brainmap.checks import MISSING, check_file, list_some, suggest_word
from brainmap.errors import InputError


def cells(column: pd.Series) -> list[str]:
    """Return the text of each cell, empty where it is missing; a column of whole numbers with gaps has no decimals.

    Examples
    --------
    >>> cells(pd.Series([1, None, 3])), cells(pd.Series(["NA", "no", " n/a"], dtype="object"))
    (['1', '', '3'], ['', 'no', ''])
    >>> cells(pd.Series(["1.5", "2.0"]))
    ['1.5', '2.0']
    """
    given = ["" if absent else str(value).strip() for value, absent in zip(column, column.isna(), strict=True)]
    texts = ["" if text in MISSING else text for text in given]
    whole = all(re.fullmatch(r"-?\d+\.0+", text) for text in texts if text)
    return [text.split(".")[0] for text in texts] if whole else texts


def is_number(text: str) -> bool:
    """Tell whether a cell holds a number.

    Examples
    --------
    >>> is_number("1e-3"), is_number("cat")
    (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def require_columns(table: pd.DataFrame, names: Iterable[str], what: str) -> None:
    """Refuse a table that lacks one of these columns.

    Examples
    --------
    >>> require_columns(pd.DataFrame({"onsets": [1.0]}), ["onset"], "events")
    Traceback (most recent call last):
    brainmap.errors.InputError: events: expected a column 'onset', got 'onsets'; did you mean 'onsets'?
    """
    known = [str(column) for column in table.columns]
    for name in names:
        if name not in known:
            hint = suggest_word(name, known)
            raise InputError(f"{what}: expected a column {name!r}, got {list_some(known) or 'none'}{hint}")


def assign_conditions(pairs: Iterable[tuple[str, str]], what: str) -> dict[str, str]:
    """Return the condition of each name; a name without a condition is its own condition.

    Raises
    ------
    InputError
        If a name has two conditions.

    Examples
    --------
    >>> assign_conditions([("cat_anna", ""), ("cat_anna", "cat"), ("beep", "")], "events")
    {'cat_anna': 'cat', 'beep': 'beep'}
    """
    found: dict[str, set[str]] = {}
    for name, condition in pairs:
        found.setdefault(name, set()).update([condition] if condition else [])
    several = {name: sorted(conditions) for name, conditions in found.items() if len(conditions) > 1}
    if several:
        name, conditions = next(iter(several.items()))
        raise InputError(
            f"{what}: expected one condition per name, got {list_some(conditions, 3)} for {name!r}"
            + (f" (and several for {len(several) - 1} more names)" if len(several) > 1 else "")
            + "; give stimuli of different conditions different names"
        )
    return {name: next(iter(conditions), name) for name, conditions in found.items()}


def match_by_folders(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Map names to known ids that differ only in leading folders, or in how Unicode composes their letters (NFC, NFD).

    Ambiguous names are left out.

    Examples
    --------
    >>> match_by_folders(["cat/0a", "snd/dog/1b", "0a"], ["0a", "dog/1b", "cat/2c"]) == {"snd/dog/1b": "dog/1b"}
    True
    >>> match_by_folders(["2c"], ["0a", "dog/1b", "cat/2c"])
    {'2c': 'cat/2c'}
    """
    ids = set(known)
    ends: dict[str, set[str]] = {}
    for one in ids:
        for end in _list_tails(unicodedata.normalize("NFC", one)):
            ends.setdefault(end, set()).add(one)
    found: dict[str, str] = {}
    for name in names:
        tails = _list_tails(unicodedata.normalize("NFC", name))
        fits = next((ends[tail] for tail in tails if tail in ends), set())
        if len(fits) == 1:
            found[name] = next(iter(fits))
    called = list(found.values())
    return {name: to for name, to in found.items() if called.count(to) == 1 and name != to}


def _list_tails(name: str) -> list[str]:
    """Return a path, and what is left of it when its first folders are removed one by one."""
    return [name, *(name[match.end() :] for match in re.finditer("/", name))]


def read_table(table: str | Path | pd.DataFrame, what: str, *, empty_ends: bool = False) -> pd.DataFrame:
    """Read a TSV as strings without any conversion; `cells` tells which are missing.

    In a table of one column, an empty line is a row whose cell is empty; in a wider one it is no row.

    Parameters
    ----------
    table : path of a TSV or DataFrame
    what : str
        Name of the table in messages.
    empty_ends : bool
        Whether empty lines after the last value of a table of one column are rows too. Editors leave such lines at
        the end of a file; in a table of voxels they are voxels.

    Raises
    ------
    InputError
        If the file is missing, empty, or not a table of tab-separated text, or if a column occurs twice.
    """
    if isinstance(table, pd.DataFrame):
        _refuse_twice([str(name) for name in table.columns], what)
        return table.astype(object).where(table.notna(), "").map(str)
    path = check_file(table, what)
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (
        ValueError,
        pd.errors.ParserError,
    ) as error:  # UnicodeDecodeError and EmptyDataError are ValueErrors
        raise InputError(f"{what}: expected a tab-separated table, got {path} ({error}); write it again") from error
    if not isinstance(table.index, pd.RangeIndex):
        # pandas then takes the first field as an index, and all columns would be shifted by one
        raise InputError(
            f"{what}: expected as many fields in each row of {path} as in its header, got more; mend the table"
        )
    check_columns(path, what)
    return table if table.shape[1] > 1 else _read_lines(path, str(table.columns[0]), empty_ends)


NAMES = (
    *("participant", "session", "run", "roi", "other_roi", "peak_roi", "region", "network", "other_network", "layer"),
    *("other_layer", "model", "other", "name", "stimulus_id", "condition", "story", "planted", "recovered"),
)


def read_results_table(path: str | Path) -> pd.DataFrame:
    """Read a table that brainmap wrote: names are text (run 01 is not 1), and a region may be called NA.

    Parameters
    ----------
    path : path of a TSV

    Returns
    -------
    DataFrame
        Columns of names (`NAMES`) hold text; n/a is missing in every column, and nothing else is.
    """
    return pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False, dtype=dict.fromkeys(NAMES, str))


def _read_lines(path: Path, name: str, empty_ends: bool) -> pd.DataFrame:
    """Read a table of one column, whose empty lines pandas would leave out."""
    lines = pd.read_csv(
        path,
        sep="\t",
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        header=None,
        names=[name],
        skip_blank_lines=False,
    )
    said = (lines[name].str.strip() != "").to_numpy().nonzero()[0]
    return lines.iloc[said[0] + 1 : len(lines) if empty_ends else said[-1] + 1].reset_index(drop=True)


def check_columns(path: Path, what: str, separator: str = "\t") -> None:
    """Refuse a column that occurs twice, since pandas renames the second one `name.1`.

    Raises
    ------
    InputError
    """
    header = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, na_filter=False, encoding="utf-8-sig")
    _refuse_twice(header.iloc[0].tolist(), f"{what}: {path}")


def _refuse_twice(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InputError(
            f"{what}: expected each column once, got {list_some(twice, 3)} more than once; keep one of each"
        )
