"""Read BIDS events tables and AFNI's stim_times files into one checked table per run."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.checks import check_each, check_file, check_one_each, list_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError
from brainmap.names import sound_names
from brainmap.tables import assign_conditions, cells, read_table, require_columns

Table = str | Path | pd.DataFrame
StimTimes = Mapping[str, str | Path]
EventSource = Table | Sequence[Table] | StimTimes

EARLIEST = -24.0  # [s]; nilearn's regressors do not look back further
_LONG = 20.0  # [s]; shorter durations are checked for milliseconds only if they exceed the run


def read_events(
    source: EventSource,
    *,
    run_seconds: Sequence[float],
    column: str = "trial_type",
    duration: float | Mapping[str, float] | None = None,
    leave_out: Sequence[str] = (),
    nuisance: Sequence[str] = (),
) -> list[pd.DataFrame]:
    """Read the events of every run and check them against the length of the run.

    Parameters
    ----------
    source : path, DataFrame, a list of these (one a run), or a mapping of condition to stim_times file
        A BIDS `events.tsv` (`onset`, `duration` [s], `trial_type`; other columns are kept) per run, or one table for
        all runs with a column `run`. AFNI's stim_times files have one row per run, `*` where a run has no event, and
        durations as `onset:duration` (dmBLOCK) or from `duration`. A file with one number per row and no `*` holds
        times from the start of the first run, as AFNI reads it.
    run_seconds : sequence of float [s]
        Time from the first volume of each run to the end of its last.
    column : str
        The column that names what is estimated: `trial_type`, `stimulus_id`, `stim_file`, ... Sound files are named by
        their path without its ending and without the folders that all share (`cat/0a7c_nohash_0`). A cell that is
        empty, n/a, NaN or NA is missing.
    duration : float or mapping of condition to float [s], optional
        Duration of events that have none: in stim_times files without durations, and in rows of a table whose
        `duration` is n/a. It never replaces a duration.
    leave_out : sequence of str
        Names that are not modelled (`rest`). A row without a value in `column` may be named by its `trial_type`.
    nuisance : sequence of str
        Names of events of no interest (`button`). A row without a value in `column` whose `trial_type` is among them
        gets this name; other rows without a value are left out. Here these names need not occur.

    Returns
    -------
    list of DataFrame
        One table per run, sorted by onset: `onset`, `duration` [s], `name`, `condition` (the `trial_type`, or the name
        if there is no `trial_type`).

    Raises
    ------
    InputError
        If a file or column is missing, a run has no events, onsets are not numbers, events lie after the end of a run
        or far before its start, durations are negative or in milliseconds, rows are repeated, one name has two
        conditions, or amplitudes are given.

    Warns
    -----
    BrainmapWarning
        If events of one name overlap, durations are 0 (but not those of `nuisance`) or come from `duration`, rows have
        no name, or there is a column `modulation`.

    Examples
    --------
    >>> table = pd.DataFrame({"onset": [4, 16.5], "duration": [2, 2], "trial_type": ["cat", "dog"]})
    >>> read_events(table, run_seconds=[30.0])[0]["name"].tolist()
    ['cat', 'dog']
    """
    runs, notes = read_noted_events(
        source, run_seconds=run_seconds, column=column, duration=duration, leave_out=leave_out, nuisance=nuisance
    )
    for note in notes:
        warnings.warn(note, BrainmapWarning, stacklevel=2)
    return runs


def read_noted_events(
    source: EventSource,
    *,
    run_seconds: Sequence[float],
    column: str = "trial_type",
    duration: float | Mapping[str, float] | None = None,
    leave_out: Sequence[str] = (),
    nuisance: Sequence[str] = (),
    refuse_absent: bool = True,
) -> tuple[list[pd.DataFrame], list[str]]:
    """Read events as `read_events` does, and return beside them notes of what was filled in or does not occur.

    Parameters
    ----------
    source, run_seconds, column, duration, leave_out, nuisance
        As in `read_events`.
    refuse_absent : bool
        Whether a name of `leave_out` that does not occur is refused; else such names are noted, as are those of
        `nuisance`.

    Raises
    ------
    InputError
        As in `read_events`.
    """
    notes: list[str] = []
    if isinstance(source, Mapping):
        named, seen = [name for name in source if name not in leave_out], set(source)
        tables = _read_stim_times({name: source[name] for name in named}, run_seconds, duration)
    else:
        given = _read_named_tables(source, len(run_seconds), column, aside=(*nuisance, *leave_out))
        seen = {name for table, _ in given for name in table["name"]}
        filled = [_fill_durations(table[~table["name"].isin(leave_out)], duration) for table, _ in given]
        if n_filled := sum(n for _, n in filled):
            n_all = sum(len(table) for table, _ in filled)
            by_name = isinstance(duration, Mapping)
            said = "taken from those given by name" if by_name else f"taken as the given {duration:g} s"
            notes.append(f"events: {n_filled} of {n_all} durations are n/a and are {said}")
        tables = [_convert_times(table, what) for (table, _), (_, what) in zip(filled, given, strict=True)]
    if refuse_absent:
        _refuse_absent(leave_out, seen)
    else:
        notes += [
            f"events: {name!r} ({what}) does not occur"
            for what, names in (("nuisance", nuisance), ("leave_out", leave_out))
            for name in names
            if name not in seen
        ]
    pairs = ((n, c) for table in tables for n, c in zip(table["name"], table["condition"], strict=True))
    condition = assign_conditions(pairs, "events")
    runs = []
    for k, (table, seconds) in enumerate(zip(tables, run_seconds, strict=True), start=1):
        kept = table.assign(condition=[condition[name] for name in table["name"]])
        kept = kept.sort_values("onset", kind="stable", ignore_index=True)
        _check_run(kept, seconds, f"events of run {k}")
        runs.append(kept)
    _warn_of_events(runs, nuisance)
    return runs, notes


def count_event_names(
    source: EventSource, *, n_runs: int, column: str = "trial_type", aside: Sequence[str] = ()
) -> list[dict[str, int]]:
    """Count the events of each name in every run, before any time is read.

    Parameters
    ----------
    source, column
        As in `read_events`.
    n_runs : int
    aside : sequence of str
        Names of `nuisance` and `leave_out`, by which rows without a value in `column` may be named.

    Returns
    -------
    list of dict
        One per run. Of stim_times files only the names are known: each is counted as one event of every run.

    Raises
    ------
    InputError
        If a table or its columns are missing, or there are not as many tables as runs.
    """
    if isinstance(source, Mapping):
        return [dict.fromkeys(map(str, source), 1)] * n_runs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # they are given where the events are read
        tables = _read_named_tables(source, n_runs, column, aside=aside)
    return [dict(Counter(table["name"])) for table, _ in tables]


def _read_named_tables(
    source: Table | Sequence[Table], n_runs: int, column: str, *, aside: Sequence[str]
) -> list[tuple[pd.DataFrame, str]]:
    given = [(_read_named_rows(t, what, column, aside), what) for t, what in _read_tables(source, n_runs)]
    if column == "stim_file":
        names = sound_names(dict.fromkeys(str(n) for table, _ in given for n in table.loc[table["valued"], "name"]))
        given = [
            (
                table.assign(name=[names[n] if v else n for n, v in zip(table["name"], table["valued"], strict=True)]),
                what,
            )
            for table, what in given
        ]
    return given


def refuse_unknown_nuisance(tables: Sequence[pd.DataFrame], nuisance: Sequence[str]) -> None:
    """Refuse a name of `nuisance` that no run has.

    Raises
    ------
    InputError
    """
    seen = {str(name) for table in tables for name in table["name"]}
    check_each(nuisance, sorted(seen), "nuisance: name of an event")


def _refuse_absent(leave_out: Sequence[str], seen: Collection[str]) -> None:
    unknown = [name for name in leave_out if name not in seen]
    if unknown:
        hint = suggest_word(unknown[0], seen)
        raise InputError(
            f"events: expected names of events to leave out ({list_some(sorted(seen))}), got {list_some(unknown)}{hint}"
        )


def _read_tables(source: Table | Sequence[Table], n_runs: int) -> list[tuple[pd.DataFrame, str]]:
    """Return each run's table as text, with its name for messages."""
    given = [source] if isinstance(source, str | Path | pd.DataFrame) else list(source)
    names = [f"events {t}" if not isinstance(t, pd.DataFrame) else f"events of run {k}" for k, t in enumerate(given, 1)]
    tables = [read_table(t, "events") for t in given]
    if len(tables) == n_runs and not (n_runs > 1 and len(given) == 1):
        return list(zip(tables, names, strict=True))
    if len(tables) == 1 and "run" in tables[0].columns:
        labels = sorted(
            tables[0]["run"].unique(), key=lambda t: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", str(t))]
        )
        if len(labels) == n_runs:
            return [(tables[0][tables[0]["run"] == label], f"{names[0]}, run {label}") for label in labels]
        raise InputError(
            f"events: expected {n_runs} runs, one per image, got {len(labels)} in the column 'run' of {names[0]}"
        )
    hint = "; one table for all runs needs a column 'run'" if len(tables) == 1 else ""
    found = "1 table" if len(tables) == 1 else f"{len(tables)} tables"
    raise InputError(f"events: expected a table for each of {n_runs} runs, got {found}{hint}")


def _read_named_rows(table: pd.DataFrame, what: str, column: str, aside: Sequence[str]) -> pd.DataFrame:
    """Return name and condition of every named row, with its onset and duration still as text.

    A row without a value in `column` is named by its `trial_type` where this is among `aside`; `valued` tells the
    others.
    """
    require_columns(table, ("onset", "duration", column), what)
    if table.empty:
        raise InputError(f"{what}: expected a row per event, got an empty table")
    if "modulation" in table.columns:
        warnings.warn(
            f"{what}: the column 'modulation' is not used; every event counts as 1", BrainmapWarning, stacklevel=4
        )
    names = cells(table[column])
    conditions = cells(table["trial_type"]) if "trial_type" in table.columns else names
    valued = [name != "" for name in names]
    names = [name or (kind if kind in aside else "") for name, kind in zip(names, conditions, strict=True)]
    nameless = names.count("")
    if nameless:
        kinds = sorted({kind for name, kind in zip(names, conditions, strict=True) if not name and kind})
        hint = f" (trial_type {list_some(kinds, 4)}); list these in nuisance to model them" if kinds else ""
        warnings.warn(
            f"{what}: {nameless} of {len(table)} rows have no {column} and are left out{hint}",
            BrainmapWarning,
            stacklevel=4,
        )
    times = {key: cells(table[key]) for key in ("onset", "duration")}
    made = pd.DataFrame({**times, "name": names, "condition": conditions}, dtype=object).assign(valued=valued)
    return made[made["name"] != ""].reset_index(drop=True)


def _fill_durations(table: pd.DataFrame, duration: float | Mapping[str, float] | None) -> tuple[pd.DataFrame, int]:
    """Fill missing durations with those given for all or by name, and count them."""
    known = [
        (duration.get(n, duration.get(c)) if isinstance(duration, Mapping) else duration)
        for n, c in zip(table["name"], table["condition"], strict=True)
    ]
    fills = [text == "" and value is not None for text, value in zip(table["duration"], known, strict=True)]
    filled = [str(v) if fill else text for text, v, fill in zip(table["duration"], known, fills, strict=True)]
    return table.assign(duration=pd.Series(filled, index=table.index, dtype=object)), sum(fills)


def _convert_times(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Convert the times to numbers."""
    return table.drop(columns="valued").assign(
        **{key: _convert_numbers(table, key, what) for key in ("onset", "duration")}
    )


def _convert_numbers(table: pd.DataFrame, key: str, what: str) -> np.ndarray:
    values = pd.to_numeric(table[key], errors="coerce").to_numpy(float)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        first = table.iloc[wrong[0]]
        other = "duration" if key == "onset" else "onset"
        fill = "; say how many seconds such events last, duration = 1.5 (in a study glm = { duration = 1.5 })"
        hint = fill if key == "duration" and not any(table[key].iloc[wrong]) else ""
        raise InputError(
            f"{what}, column {key!r}: expected seconds, got {wrong.size} of {len(values)} cells without a number "
            f"(first: {first[key] or 'n/a'!r}, of {first['name']!r}, {other} {first[other] or 'n/a'}){hint}"
        )
    return values


def _check_run(table: pd.DataFrame, seconds: float, what: str) -> None:
    if table.empty:
        raise InputError(f"{what}: no event is left to model")
    onset, duration = table["onset"].to_numpy(), table["duration"].to_numpy()

    def refuse(wrong: np.ndarray, said: str) -> None:
        if wrong.any():
            first = table[wrong].iloc[0]
            raise InputError(
                f"{what}: {int(wrong.sum())} of {len(table)} {said} (first: {first['name']!r}, onset "
                f"{first['onset']:g} s, duration {first['duration']:g} s)"
            )

    refuse(duration < 0, "events have a negative duration")
    unit = "; are the onsets milliseconds?" if len(onset) and np.median(onset) > 20 * seconds else ""
    refuse(onset >= seconds, f"events begin after the end of the run at {seconds:g} s{unit}")
    refuse(onset < EARLIEST, f"events begin more than {-EARLIEST:g} s before the first volume")
    refuse(duration > seconds, f"events last longer than the run, {seconds:g} s; are the durations milliseconds?")
    steps = np.diff(np.unique(onset))
    many = len(steps) > 0 and np.median(duration) > max(_LONG, 2 * float(np.median(steps)))
    refuse(np.full(len(table), many), "events last far into those that follow; are the durations milliseconds?")
    twice = table.duplicated(["name", "onset", "duration"]).to_numpy()
    refuse(twice, "rows repeat another row, and their responses would add up; remove them")


def _warn_of_events(runs: Sequence[pd.DataFrame], nuisance: Sequence[str]) -> None:
    """Warn once about everything that is allowed but changes numbers."""
    overlapping: dict[str, int] = {}
    for table in runs:
        for name, own in table.groupby("name", sort=False):
            onset, end = own["onset"].to_numpy(), (own["onset"] + own["duration"]).to_numpy()
            n = int((onset[1:] < np.maximum.accumulate(end)[:-1] - 1e-6).sum() if len(onset) > 1 else 0)
            if n:
                overlapping[str(name)] = overlapping.get(str(name), 0) + n
    if overlapping:
        listed = list_some([f"{name} ({n})" for name, n in overlapping.items()])
        warnings.warn(
            f"events: events of one name overlap, and their responses add up: {listed}", BrainmapWarning, stacklevel=4
        )
    zero = {str(name) for table in runs for name in table["name"][table["duration"] == 0]} - set(nuisance)
    if zero:
        warnings.warn(
            f"events: the duration 0 of {list_some(sorted(zero))} is modelled as an impulse of a fiftieth of the TR, "
            "so these betas are large and comparable among themselves only; give the real durations",
            BrainmapWarning,
            stacklevel=4,
        )


def _read_stim_times(
    files: StimTimes, run_seconds: Sequence[float], duration: float | Mapping[str, float] | None
) -> list[pd.DataFrame]:
    """Read AFNI's files, one per condition, into one table per run."""
    if not files:
        raise InputError("events: expected at least one stim_times file, got none")
    rows: list[list[tuple[float, float, str, str]]] = [[] for _ in run_seconds]
    for name, path in files.items():
        default = duration.get(name) if isinstance(duration, Mapping) else duration
        for run, onset, own in _parse_stim_rows(check_file(path, f"stim_times of {name!r}"), run_seconds):
            lasted = default if own is None else own
            if lasted is None:
                raise InputError(
                    f"stim_times {path}: the file gives no durations; write onset:duration, or say how long {name!r} "
                    "lasts (duration=, --duration)"
                )
            rows[run].append((onset, float(lasted), str(name), str(name)))
    return [pd.DataFrame(run, columns=["onset", "duration", "name", "condition"]) for run in rows]


def _parse_stim_rows(path: Path, run_seconds: Sequence[float]) -> list[tuple[int, float, float | None]]:
    """Return run, onset and duration (None if the file gives none) of every event in a stim_times file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"stim_times {path}: the file cannot be read ({error})") from None
    rows = [line.split("#")[0].replace(",", " , ").split() for line in lines]
    rows = [row for row in rows if row]
    n_runs, starred = len(run_seconds), any("*" in row for row in rows)
    if n_runs > 1 and not starred and all(len(row) == 1 for row in rows):
        if len(rows) == n_runs:
            raise InputError(
                f"stim_times {path}: {n_runs} rows of one time for {n_runs} runs could be times of each run, or from "
                "the start of the first (as AFNI reads it); write '*' after the first time if they are of each run"
            )
        starts = np.concatenate([[0.0], np.cumsum(run_seconds)[:-1]])
        times = [_parse_event(row[0], path) for row in rows]
        runs = [int(np.searchsorted(starts, onset, side="right")) - 1 for onset, _ in times]
        return [(max(run, 0), t - starts[max(run, 0)], d) for run, (t, d) in zip(runs, times, strict=True)]
    if n_runs == 1 and len(rows) > 1 and all(len(row) == 1 for row in rows):
        rows = [[row[0] for row in rows]]
    check_one_each(rows, n_runs, f"stim_times {path}: rows", "runs ('*': no event)")
    none = [run for run, row in enumerate(rows) if {text.split(":")[0] for text in row} - {"*"} == {"-1"}]
    if none:
        said = list_some([run + 1 for run in none])
        warnings.warn(
            f"stim_times {path}: -1 alone in the row of run {said} is read as no event ('*')",
            BrainmapWarning,
            stacklevel=5,
        )
    return [
        (run, *_parse_event(text, path))
        for run, row in enumerate(rows)
        if run not in none
        for text in row
        if text != "*"
    ]


def _parse_event(text: str, path: Path) -> tuple[float, float | None]:
    """Parse onset and duration from `12.5`, or from a married time `12.5:3`.

    Examples
    --------
    >>> _parse_event("12.5:3", Path("a.1D"))
    (12.5, 3.0)
    """
    if "*" in text or "," in text:
        raise InputError(
            f"stim_times {path}: expected onset or onset:duration, got {text!r} with an amplitude, which cannot be "
            "modelled here"
        )
    match = re.fullmatch(r"([-+.\deE]+)(?::([-+.\deE]+))?", text)
    try:
        if match:
            return float(match[1]), None if match[2] is None else float(match[2])
    except ValueError:
        pass
    raise InputError(f"stim_times {path}: expected onset or onset:duration in seconds, got {text!r}")
