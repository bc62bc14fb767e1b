"""Regressors of no interest: fMRIPrep's columns by the names of strategies, AFNI's 1D files, arrays."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_enough, check_file, check_one_each, list_some, refuse_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.timing import merge_sidecars
from brainmap.tables import read_table

Confounds = str | Path | pd.DataFrame | NDArray[np.floating]
Strategy = str | Sequence[str]

_MOTION = tuple(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")
_SUFFIXES = {"6": ("",), "12": ("", "_derivative1"), "24": ("", "_derivative1", "_power2", "_derivative1_power2")}
_FIXED = {
    **{f"motion{n}": tuple(m + suffix for suffix in suffixes for m in _MOTION) for n, suffixes in _SUFFIXES.items()},
    "csf-wm": ("csf", "white_matter"),
    "global": ("global_signal",),
    "cosine": ("cosine*",),
    "aroma": ("aroma_motion_*",),
    "non-steady": ("non_steady_state_outlier*",),
}
STRATEGIES = (*_FIXED, "acompcor", "tcompcor", "scrub")
_COMPONENTS = 5  # number of components of each CompCor if none is given (Behzadi et al. 2007 kept about as many)
_DISPLACEMENT = 0.5  # [mm]; plain `scrub` censors volumes with a larger framewise displacement


def read_confounds(
    source: Confounds | Sequence[Confounds], *, n_volumes: int, strategy: Strategy | None = None, what: str = "run 1"
) -> pd.DataFrame:
    """Read the confound regressors of one run.

    Parameters
    ----------
    source : path, DataFrame, array (n_volumes, n_regressors), or a list of these (side by side)
        fMRIPrep's `confounds_timeseries.tsv`, another TSV, or an AFNI `.1D` file. A `.1D` file with `censor` in its
        name (1: kept, 0: censored) becomes a regressor for every censored volume.
    n_volumes : int
    strategy : str or sequence of str, optional
        Columns to use from a table, joined by `+` or given as a list: `motion6`, `motion12` (with derivatives),
        `motion24` (with squares), `csf-wm`, `global`, `acompcor` (the first 5 components; `acompcor10`: 10),
        `tcompcor`, `aroma`, `cosine`, `non-steady`, `scrub` (one regressor for each volume with a framewise
        displacement above 0.5 mm; `scrub0.9`: 0.9 mm), or column names with `*`. By default every column is used,
        which is too many for fMRIPrep's tables.
    what : str
        The name of the run in messages.

    Returns
    -------
    DataFrame, (n_volumes, n_regressors)
        Standardized columns (which changes no beta); regressors of single volumes stay 0 and 1.

    Raises
    ------
    InputError
        If the number of rows differs from the number of volumes, if a column or strategy is unknown, or if NaN occurs
        outside the first row.

    Warns
    -----
    BrainmapWarning
        If NaN in the first row (where derivatives are undefined) is set to 0, or if constant columns are left out.

    Examples
    --------
    >>> table = pd.DataFrame({"trans_x": [0.0, 1.0, 2.0, 1.0], "csf": [3.0, 1.0, 2.0, 2.0]})
    >>> read_confounds(table, n_volumes=4, strategy="csf").columns.tolist()
    ['csf']
    """
    parts = [source] if isinstance(source, str | Path | pd.DataFrame | np.ndarray) else list(source)
    tables = [_read_source(part, n_volumes, strategy, what) for part in parts]
    joined = pd.concat(tables, axis=1)
    twice = joined.columns[joined.columns.duplicated()]
    refuse_some(twice, f"confounds of {what}: the columns ", " occur in more than one file; remove them from one")
    return _standardize_confounds(_fill_first_row(joined, what), what)


def _read_source(source: Confounds, n_volumes: int, strategy: Strategy | None, what: str) -> pd.DataFrame:
    if isinstance(source, np.ndarray):
        values = source.reshape(len(source), -1)
        table = pd.DataFrame(values, columns=[f"confound{k}" for k in range(values.shape[1])])
        name, path = "array", None
    elif isinstance(source, pd.DataFrame):
        table, name, path = source.rename(columns=str).reset_index(drop=True), "table", None
    else:
        path = check_file(source, f"confounds of {what}")
        name = str(path)
        table = _read_tsv(path) if path.suffix.lower() == ".tsv" else read_one_d(path)
    check_one_each(table, n_volumes, f"confounds of {what}: rows", "volumes of the run", f" in {name}")
    if path is not None and path.suffix.lower() != ".tsv":
        return _read_censored(table, path) if "censor" in path.name.lower() else table
    if strategy is None:
        if {"framewise_displacement", "trans_x"} <= set(table.columns):
            raise InputError(
                f"confounds of {what}: {name} comes from fMRIPrep and has {table.shape[1]} columns; choose some: "
                f"strategy= (--strategy) takes {', '.join(STRATEGIES)}, or names of columns"
            )
        return table
    chosen = [_select_columns(table, word, path, what) for word in _split_strategy(strategy)]
    picked = pd.concat(chosen, axis=1)
    return picked.loc[:, ~picked.columns.duplicated()]


def _read_tsv(path: Path) -> pd.DataFrame:
    table = read_table(path, "confounds")
    read = {}
    for column in table.columns:
        text = table[column].str.strip().replace({"n/a": "nan", "": "nan"})
        values = pd.to_numeric(text, errors="coerce")
        if (values.isna() & (text.str.lower() != "nan")).all():
            continue  # a column of words, such as labels; asking for it reports that it is missing
        read[column] = values
    return pd.DataFrame(read)


def read_one_d(path: Path) -> pd.DataFrame:
    """Read the columns of an AFNI `.1D` file, or of any text file of numbers with rows of equal length."""
    try:
        lines = [line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines()]
        values = np.array([[float(v) for v in line] for line in lines if line])
    except (ValueError, OSError) as error:  # not a number, not text, or rows of different lengths
        raise InputError(
            f"confounds {path}: expected a table of numbers, as a .1D file holds, got other text ({error})"
        ) from None
    if values.ndim != 2 or not values.size:
        raise InputError(f"confounds {path}: expected numbers, got an empty file")
    stem = path.name.removesuffix(path.suffix)
    return pd.DataFrame(values, columns=[f"{stem}[{k}]" for k in range(values.shape[1])])


def _read_censored(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    values = table.to_numpy()
    if values.shape[1] != 1 or not np.isin(values, (0, 1)).all():
        raise InputError(
            f"confounds {path}: expected one column of 0 (censored) and 1 (kept) in a censor file, got other values"
        )
    return _build_spikes(values[:, 0] == 0)


def _build_spikes(out: NDArray[np.bool_]) -> pd.DataFrame:
    """Build one regressor for every volume that is censored."""
    at = np.flatnonzero(out)
    return pd.DataFrame(np.eye(len(out))[:, at], columns=[f"volume{k}" for k in at])


def _split_strategy(strategy: Strategy) -> list[str]:
    parts = [strategy] if isinstance(strategy, str) else list(strategy)
    words = [word.strip() for part in parts for word in re.split(r"[+,]", part)]
    if not all(words) or not words:
        raise InputError(f"strategy: expected names joined by '+', as in motion6+csf-wm, got {strategy!r}")
    return words


def _select_columns(table: pd.DataFrame, word: str, path: Path | None, what: str) -> pd.DataFrame:
    """Select the columns that a strategy or a column name means."""
    components = re.fullmatch(r"([at])compcor(\d*)", word)
    scrub = re.fullmatch(r"scrub(\d+(?:\.\d+)?)?", word)
    if components:
        return _select_components(table, components[1], int(components[2] or _COMPONENTS), path, what)
    if scrub:
        if "framewise_displacement" not in table.columns:
            raise InputError(
                f"confounds of {what}: the strategy {word!r} needs a column 'framewise_displacement', and there is none"
            )
        moved = table["framewise_displacement"].to_numpy(float)
        return _build_spikes(moved > float(scrub[1] or _DISPLACEMENT))
    patterns = _FIXED.get(word, (word,))
    columns = [c for pattern in patterns for c in fnmatch.filter(table.columns, pattern)]
    lacking = [p for p in patterns if "*" not in p and p not in table.columns]
    if word in ("non-steady", "cosine") and not columns:
        return table[[]]  # a run may have none
    if lacking or not columns:
        hint = "" if word in _FIXED else suggest_word(word, [*STRATEGIES, *table.columns])
        wants = f"the columns {list_some(lacking or patterns)}" if word in _FIXED else "a strategy or a column"
        raise InputError(
            f"confounds of {what}: expected {wants} for {word!r}, got none; strategies are {', '.join(STRATEGIES)}; "
            f"columns are {list_some(map(str, table.columns), 6)}{hint}"
        )
    return table[list(dict.fromkeys(columns))]


def _select_components(table: pd.DataFrame, kind: str, n: int, path: Path | None, what: str) -> pd.DataFrame:
    """Select the first CompCor components; of anatomical components only those of the combined mask, if it is known."""
    numbered = [c for c in table.columns if re.fullmatch(rf"{kind}_comp_cor_\d+", c)]
    names = sorted(numbered, key=lambda name: int(name.rsplit("_", 1)[1]))  # 99 comes before 100
    beside = path.with_suffix(".json") if path is not None else None
    if kind == "a" and beside is not None and beside.is_file():
        about = merge_sidecars([beside])
        combined = [c for c in names if isinstance(about.get(c), dict) and about[c].get("Mask") == "combined"]
        names = combined or names
    check_enough(len(names), n, f"confounds of {what}", f"columns {kind}_comp_cor_*")
    return table[names[:n]]


def _fill_first_row(table: pd.DataFrame, what: str) -> pd.DataFrame:
    values = table.to_numpy(float)
    bad = ~np.isfinite(values)
    if bad[1:].any():
        row, column = np.argwhere(bad[1:])[0]
        raise InputError(
            f"confounds of {what}: expected numbers (NaN only in the first row, as derivatives have), got NaN or "
            f"infinity in {table.columns[column]!r}, volume {row + 1}"
        )
    if bad.any():
        warnings.warn(
            f"confounds of {what}: {int(bad.sum())} columns have no value in the first volume (derivatives) and are "
            f"set to 0 there: {list_some(table.columns[bad[0]], 3)}",
            BrainmapWarning,
            stacklevel=5,
        )
    return pd.DataFrame(np.where(bad, 0.0, values), columns=table.columns)


def _standardize_confounds(table: pd.DataFrame, what: str) -> pd.DataFrame:
    values = table.to_numpy(float)
    spike = ((values == 0).sum(axis=0) == len(values) - 1) & ((values == 1).sum(axis=0) == 1)
    sd = values.std(axis=0)
    flat = ~(sd > 1e-12 * np.abs(values).max(axis=0, initial=0.0))
    if flat.any():
        warnings.warn(
            f"confounds of {what}: {list_some(table.columns[flat], 4)} do not vary and are left out",
            BrainmapWarning,
            stacklevel=5,
        )
    scaled = (values - np.where(spike, 0.0, values.mean(axis=0))) / np.where(spike | flat, 1.0, sd)
    return pd.DataFrame(scaled[:, ~flat], columns=table.columns[~flat])
