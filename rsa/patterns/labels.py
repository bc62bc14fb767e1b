"""Say what the volumes of images show: by the labels of sub-bricks, by lists, or by tables."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from brainmap.checks import check_one_each, list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.afni import Regressor, find_stimuli, refuse_unsure_labels
from brainmap.tables import cells, read_table, require_columns

Conditions = str | Path | pd.DataFrame | Sequence[str] | Sequence[Sequence[str]]

_STATISTIC = re.compile(r"_(Tstat|Fstat|Zscore|zstat|R\^2)$")


@dataclass(frozen=True)
class Source:
    """Hold what the header of one image says.

    Attributes
    ----------
    name : str
    n_volumes : int
    labels : tuple of str
        Labels of the sub-bricks; empty if there are none.
    statistics : tuple of int
        Volumes whose code names a distribution (t, F, ...).
    regressors : tuple of Regressor
        Regressors that the history or the design of an AFNI bucket lists.
    """

    name: str
    n_volumes: int
    labels: tuple[str, ...] = ()
    statistics: tuple[int, ...] = ()
    regressors: tuple[Regressor, ...] = ()


def label_patterns(source: Source) -> list[tuple[int, str, str]]:
    """Return volume, stimulus and condition of every pattern that the sub-brick labels of an image name.

    In an AFNI statistics bucket, only the coefficients of stimuli are patterns, never t, F, contrasts or baseline
    terms (`find_stimuli` explains how they are distinguished). In other images, patterns are the volumes without a
    statistic code (or all volumes, if all have one).

    Examples
    --------
    >>> label_patterns(Source("stats+tlrc", 3, ("Full_Fstat", "yes#0_Coef", "yes#0_Tstat")))
    [(1, 'yes', 'yes')]
    >>> label_patterns(Source("betas.nii", 2, ("cat", "dog")))
    [(0, 'cat', 'cat'), (1, 'dog', 'dog')]

    Raises
    ------
    InputError
        If the image has no labels, only labels of statistics, or coefficients that could be stimuli or something else.
    """
    labels = source.labels
    if not any(label.strip() for label in labels):
        raise InputError(
            f"patterns: {source.name} has no sub-brick labels; name its volumes in a table: labels = in a study file, "
            "--labels of a command, or conditions= in Python"
        )
    check_one_each(labels, source.n_volumes, "patterns: labels", f"volumes of {source.name}")
    found = find_stimuli(labels, source.statistics, source.regressors, source.name)
    if found is not None:
        return found
    if any(_STATISTIC.search(label.strip()) for label in labels):
        raise InputError(
            f"patterns: expected '#n_Coef' sub-bricks in {source.name}, got statistics only ({list_some(labels)}); run "
            "3dDeconvolve without -nocoef/-nobucket, or name the volumes in a table (labels, or conditions= in Python)"
        )
    # A file with only t values is accepted, because t values can be the patterns.
    skip = source.statistics if len(source.statistics) < source.n_volumes else ()
    found = [(volume, label.strip(), label.strip()) for volume, label in enumerate(labels) if volume not in skip]
    refuse_unsure_labels([label for _, label, _ in found], source.regressors, source.name)
    return found


def list_rows(
    conditions: Conditions, k: int, sources: Sequence[Source], run: str | None, known: Mapping[str, str]
) -> list[tuple[int, str, str, str | None]]:
    """Return volume, stimulus, condition and run (if a table tells it) of every pattern of source k.

    Raises
    ------
    InputError
        Labels, lists or tables do not fit the volumes, or name nothing.
    """
    source, said = sources[k], _choose_conditions(conditions, k, sources)
    if isinstance(said, pd.DataFrame):
        return _read_conditions_table(said, source, run, known)
    if isinstance(said, list):
        check_one_each(said, source.n_volumes, "patterns: labels", f"volumes of {source.name}")
        return [(volume, label, label, None) for volume, label in enumerate(said)]
    return [(volume, stimulus, condition, None) for volume, stimulus, condition in label_patterns(source)]


def _choose_conditions(conditions: Conditions, k: int, sources: Sequence[Source]) -> object:
    """Return what `conditions` says about source k: 'sub-brick', a table, or one label per volume."""
    chosen: Any = conditions
    if not isinstance(conditions, (str, Path, pd.DataFrame)):
        given: list[Any] = list(conditions)
        tables = any(isinstance(one, pd.DataFrame) for one in given) or (given and all(map(_is_table_file, given)))
        if not tables and (not given or isinstance(given[0], str)):
            return [str(label) for label in given]
        if len(given) != len(sources):
            what = "conditions table" if tables else "list of labels"
            raise InputError(f"patterns: expected a {what} for each of {len(sources)} files, got {len(given)}")
        chosen = given[k]
        if not tables:
            return [str(label) for label in chosen]
    return "sub-brick" if isinstance(chosen, str) and chosen == "sub-brick" else read_table(chosen, "conditions")


def _is_table_file(name: object) -> bool:
    return isinstance(name, Path) or (isinstance(name, str) and name.endswith(".tsv"))


def _read_conditions_table(
    table: pd.DataFrame, source: Source, run: str | None, known: Mapping[str, str]
) -> list[tuple[int, str, str, str | None]]:
    """Return the rows of a conditions table for one image: volume, stimulus, condition, and run if given."""
    what = "conditions table"
    whole, table = table, _choose_run_rows(table, run)
    if table.empty and not whole.empty:
        has = sorted(set(whole["run"].map(format_plain)))
        raise InputError(f"{what}: there is no row for run {run!r} ({source.name}); its runs are {list_some(has)}")
    runs = [format_plain(r) for r in table["run"]] if "run" in table.columns else [None] * len(table)
    if "stimulus_id" in table.columns:
        stimuli = read_column(table, "stimulus_id", what)
        conditions = read_column(table, "condition", what) if "condition" in table.columns else stimuli
    else:
        stimuli = conditions = read_column(table, "condition", what)
    if "volume" not in table.columns and len(table) != source.n_volumes:
        raise InputError(
            f"{what}: expected a row for each of the {source.n_volumes} volumes of {source.name}, or a column "
            f"'volume' (0-based), got {len(table)} rows"
        )
    numbers = read_column(table, "volume", what) if "volume" in table.columns else [str(k) for k in range(len(table))]
    named = [k for k, stimulus in enumerate(stimuli) if stimulus]
    if len(named) < len(stimuli):
        said = f"{what}: {len(stimuli) - len(named)} of {len(stimuli)} rows ({source.name}) name nothing"
        warnings.warn(f"{said} and are left out", BrainmapWarning, stacklevel=6)
    volumes = [_parse_volume(numbers[k], source) for k in named]
    refuse_some(
        [volume for volume, count in Counter(volumes).items() if count > 1],
        f"{what}: volume ",
        f" of {source.name} is named more than once",
    )
    return [
        (volume, stimuli[k], known.get(stimuli[k], conditions[k]), runs[k])
        for volume, k in zip(volumes, named, strict=True)
    ]


def _choose_run_rows(table: pd.DataFrame, run: str | None) -> pd.DataFrame:
    """Return the rows of a conditions table that are of one run; all rows where the table or the image has no runs."""
    if run is None or "run" not in table.columns:
        return table
    return table[table["run"].map(format_plain).str.lstrip("0") == run.lstrip("0")]


def _parse_volume(text: str, source: Source) -> int:
    number = format_plain(text)
    if not number.isdigit():
        raise InputError(f"conditions table: expected a whole number from 0 as the volume, got {text!r}")
    if int(number) >= source.n_volumes:
        raise InputError(
            f"conditions table: expected a volume from 0 to {source.n_volumes - 1} of {source.name}, which has "
            f"{source.n_volumes} volumes, got {number}"
        )
    return int(number)


def read_column(table: pd.DataFrame, name: str, what: str) -> list[str]:
    """Return the texts of a column of a table.

    Raises
    ------
    InputError
        The table has no such column.
    """
    require_columns(table, [name], what)
    return cells(table[name])


def format_plain(run: object) -> str:
    """Return a number as text; a table with gaps turns 1 into 1.0, which becomes 1 again."""
    return re.sub(r"\.0$", "", str(run).strip())


def warn_of_one_for_all(conditions: Conditions, sources: Sequence[Source]) -> None:
    """Warn if a table without runs is used for several images: if their orders differ, patterns are mixed up."""
    if len(sources) < 2 or (isinstance(conditions, str) and conditions == "sub-brick"):
        return
    if isinstance(conditions, str | Path | pd.DataFrame) and "run" not in read_table(conditions, "conditions").columns:
        name = "table" if isinstance(conditions, pd.DataFrame) else str(conditions)
        warnings.warn(
            f"conditions: {name} has no column 'run' and serves all {len(sources)} images, as if the order of their "
            "volumes were the same; where it is not, give one table per run, or a column 'run'",
            BrainmapWarning,
            stacklevel=4,
        )


def warn_of_unlabeled(conditions: Conditions, sources: Sequence[Source], file_runs: Sequence[str | None]) -> None:
    """Warn of volumes that the table of a file does not name; tables in memory were made for their volumes."""
    unlabeled = []
    for k, (source, run) in enumerate(zip(sources, file_runs, strict=True)):
        file = name_table(conditions, k, len(sources))
        table = _choose_run_rows(read_table(file, "conditions"), run) if file else pd.DataFrame()
        if "volume" in table.columns:
            named = {format_plain(text) for text in table["volume"]}
            n = sum(str(volume) not in named for volume in range(source.n_volumes) if volume not in source.statistics)
            unlabeled += [(n, source)] if n else []
    if unlabeled:
        n, source = unlabeled[0]
        more = f", and so are volumes of {len(unlabeled) - 1} more images" if len(unlabeled) > 1 else ""
        warnings.warn(
            f"patterns: {n} of {source.n_volumes} volumes of {Path(source.name).name} have no label in the table and "
            f"are left out{more}",
            BrainmapWarning,
            stacklevel=4,
        )


def name_table(conditions: Conditions, k: int, n_sources: int) -> str:
    """Return the file whose table names the volumes of source k; empty where something else names them.

    Examples
    --------
    >>> name_table(["a.tsv", "b.tsv"], 1, 2), name_table("labels.tsv", 1, 2), name_table("sub-brick", 1, 2)
    ('b.tsv', 'labels.tsv', '')
    """
    if isinstance(conditions, str | Path):
        return "" if conditions == "sub-brick" else str(conditions)
    given: list[Any] = [] if isinstance(conditions, pd.DataFrame) else list(conditions)
    return str(given[k]) if all(map(_is_table_file, given)) and len(given) == n_sources else ""
