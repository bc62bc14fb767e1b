"""Match volumes to patterns: labels, tables and runs give one row per pattern before any image is read.

This module reads no voxels, so that `check_patterns` finds the mistakes of a study from headers alone.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, list_some, refuse_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.patterns.labels import (
    Conditions,
    Source,
    format_plain,
    list_rows,
    name_table,
    read_column,
    warn_of_one_for_all,
    warn_of_unlabeled,
)
from brainmap.tables import assign_conditions, match_by_folders, read_table
from brainmap.types import Missing

VOXEL_COLUMNS = {
    "roi": "region; the first row is the whole mask",
    "voxels": "voxels of the region",
    "outside_mask": "of these, outside the mask",
    "dropped_nan": "left out: NaN or infinite in a pattern",
    "dropped_constant": "left out: constant over the patterns of a run",
    "dropped_unresponsive": "left out: no answer to sound",
    "dropped_unreliable": "left out: responses of odd and even runs do not correlate enough",
    "kept": "voxels used",
}

Stimuli = Mapping[str, str] | pd.DataFrame | str | Path
Runs = Sequence[object] | NDArray[Any]

_GLMSINGLE = re.compile(r"type[cd]_|glmdenoise|fithrf_rr|fracridge", re.IGNORECASE)  # outputs that share runs


class Pattern(NamedTuple):
    """Identify one pattern: volume `volume` of source `source` shows `stimulus_id` in `run`.

    A missing pattern has source and volume -1.
    """

    source: int
    volume: int
    stimulus_id: str
    condition: str
    run: str


@dataclass(frozen=True, kw_only=True, eq=False)
class PatternSettings:
    """Hold what is known of the volumes of images before any is read.

    Attributes
    ----------
    conditions, runs, stimuli, missing
        As in `load_patterns`.
    """

    conditions: Conditions = "sub-brick"
    runs: Runs | None = None
    stimuli: Stimuli | None = None
    missing: Missing = "error"

    def __post_init__(self) -> None:
        check_choice(self.missing, get_args(Missing), "missing")


def read_conditions(stimuli: Stimuli | None) -> dict[str, str]:
    """Return the condition of every stimulus id, from a mapping, a table or the path of a `stimuli.tsv`.

    Examples
    --------
    >>> read_conditions({"cat_anna": "cat"})
    {'cat_anna': 'cat'}
    """
    if stimuli is None:
        return {}
    if isinstance(stimuli, Mapping):
        return {str(stimulus): str(condition) for stimulus, condition in stimuli.items()}
    table = read_table(stimuli, "stimuli")
    ids = read_column(table, "stimulus_id", "stimuli")
    conditions = read_column(table, "condition", "stimuli")
    for column, texts in (("stimulus_id", ids), ("condition", conditions)):
        if "" in texts:
            raise InputError(f"stimuli: expected a {column} in every row, got none in row {texts.index('') + 1}")
    refuse_some(
        [stimulus for stimulus, count in Counter(ids).items() if count > 1],
        "stimuli: expected each stimulus_id once, got more than once: ",
    )
    return dict(zip(ids, conditions, strict=True))


def _assign_runs(sources: Sequence[Source], runs: Runs | None) -> tuple[list[str | None], list[str]]:
    """Return the run of each file, and the run of each volume if one file holds several runs."""
    if runs is None:
        return ([None], []) if len(sources) == 1 else ([str(k + 1) for k in range(len(sources))], [])
    names = [format_plain(run) for run in runs]
    if len(names) == len(sources):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice and any(source.n_volumes > 1 for source in sources):  # files with one condition each share a run
            raise InputError(f"patterns: run {list_some(twice)} is given to more than one file; each file is a run")
        return list(names), []
    if len(sources) == 1 and len(names) == sources[0].n_volumes:
        return [None], names
    raise InputError(
        f"patterns: expected a run for each of {len(sources)} files"
        + (f" or for each of its {sources[0].n_volumes} volumes" if len(sources) == 1 else "")
        + f", got {len(names)}"
    )


def plan_patterns(sources: Sequence[Source], settings: PatternSettings | None = None) -> list[Pattern]:
    """Plan one row per pattern, sorted by run and volume; gaps are refused or kept as rows without a volume.

    Parameters
    ----------
    sources : sequence of Source
        Headers, in place of images.
    settings : PatternSettings, optional

    Examples
    --------
    >>> run = Source("run-1.nii.gz", 3, ("cat", "dog", "tree"))
    >>> [p.stimulus_id for p in plan_patterns([run])]
    ['cat', 'dog', 'tree']

    Raises
    ------
    InputError
        If labels, tables, runs and volumes do not fit each other, a stimulus is unknown, occurs twice in a run or is
        missing from a run (with `missing="error"`), or there are fewer than 3 stimuli.
    """
    settings = settings or PatternSettings()
    known = read_conditions(settings.stimuli)
    file_runs, volume_runs = _assign_runs(sources, settings.runs)
    rows: list[Pattern] = []
    for k in range(len(sources)):
        for volume, stimulus, condition, run in list_rows(settings.conditions, k, sources, file_runs[k], known):
            said = volume_runs[volume] if volume_runs else file_runs[k] or run or "1"
            rows.append(Pattern(k, volume, stimulus, condition, said))
    condition_of = assign_conditions(((row.stimulus_id, row.condition) for row in rows), "conditions")
    rows = [row._replace(condition=condition_of[row.stimulus_id]) for row in rows]
    called = match_by_folders(
        {_strip_trial(row) for row in rows if row.stimulus_id not in known} - set(known.values()), known
    )
    rows = [row._replace(stimulus_id=_rename_rows(row, called)) for row in rows]
    _refuse_repeats(rows, sources)
    rows = _fill_conditions(rows, known, sources, settings.conditions)
    distinct = list(dict.fromkeys(row.stimulus_id for row in rows))
    check_enough(len(distinct), 3, "patterns", "conditions for an RDM", f" ({list_some(distinct)})")
    gaps = _find_gaps(rows)
    if gaps and settings.missing == "error":
        raise InputError(_describe_gaps(gaps, rows, sources))
    warn_of_one_for_all(settings.conditions, sources)
    warn_of_unlabeled(settings.conditions, sources, file_runs)
    _warn_of_glmsingle(sources, rows)
    return rows + gaps


def _warn_of_glmsingle(sources: Sequence[Source], rows: Sequence[Pattern]) -> None:
    """Warn of betas of several runs that GLMsingle denoised and regularized by cross-validation over runs."""
    named = [source.name for source in sources if _GLMSINGLE.search(Path(source.name).name)]
    if named and len({row.run for row in rows}) > 1:
        warnings.warn(
            f"patterns: {named[0]} is named as betas of GLMsingle, whose denoising and ridge regression are chosen by "
            "cross-validation over runs; runs are then not independent, and reliabilities, crossnobis distances and "
            "noise-corrected scores are too high; take the betas of type B (FITHRF), or fit each run alone",
            BrainmapWarning,
            stacklevel=4,
        )


def _fill_conditions(
    rows: list[Pattern], known: Mapping[str, str], sources: Sequence[Source], conditions: Conditions
) -> list[Pattern]:
    """Take the condition of each stimulus from the stimuli table, unless all rows are named by condition.

    Single trials `cat_anna#0`, `cat_anna#1` then become the stimulus `cat_anna`, twice.
    """
    by_condition = set(known.values()) - set(known)
    if not known or all(_strip_trial(row) in by_condition for row in rows):
        return rows
    rows = [row if row.stimulus_id in known else row._replace(stimulus_id=_strip_trial(row)) for row in rows]
    unknown = [row for row in rows if row.stimulus_id not in known]
    if unknown:
        # If other volumes are named by condition, the name that is neither is reported, not the first condition.
        strange = [row for row in unknown if row.stimulus_id not in by_condition]
        row = (strange or unknown)[0]
        table = name_table(conditions, row.source, len(sources))
        raise InputError(
            f"patterns: {row.stimulus_id!r} (volume {row.volume} of {sources[row.source].name}"
            f"{f', by {table}' if table else ''}) is no stimulus_id "
            f"{'and no condition ' if len(strange) < len(unknown) and strange else ''}of the stimuli table"
            f"{suggest_word(row.stimulus_id, [*known, *sorted(by_condition)])}"
        )
    return [row._replace(condition=known[row.stimulus_id]) for row in rows]


def _strip_trial(row: Pattern) -> str:
    """Return the name without its trial number."""
    return re.sub(r"#\d+$", "", row.stimulus_id)


def _rename_rows(row: Pattern, called: Mapping[str, str]) -> str:
    name = _strip_trial(row)
    return called.get(name, name) + row.stimulus_id[len(name) :]


def _refuse_repeats(rows: Sequence[Pattern], sources: Sequence[Source]) -> None:
    first: dict[tuple[str, str], Pattern] = {}
    for row in rows:
        before = first.setdefault((row.stimulus_id, row.run), row)
        if before is not row:
            raise InputError(
                f"patterns: {row.stimulus_id!r} occurs twice in run {row.run} (volume {before.volume} of "
                f"{sources[before.source].name} and volume {row.volume} of {sources[row.source].name}); give each "
                "token its own stimulus_id in the table of labels, or add a column run that says the run of each volume"
            )


def _find_gaps(rows: Sequence[Pattern]) -> list[Pattern]:
    """Find what is missing: a condition absent from a run, or a stimulus if runs share stimuli.

    If no stimulus occurs in two runs (each trial has its own token), only whole conditions can be missing.
    """
    runs = list(dict.fromkeys(row.run for row in rows))
    condition_of = {row.stimulus_id: row.condition for row in rows}
    there = {(row.stimulus_id, row.run) for row in rows}
    if len(there) > len(condition_of) or len(runs) == 1:
        return [
            Pattern(-1, -1, stimulus, condition, run)
            for run in runs
            for stimulus, condition in condition_of.items()
            if (stimulus, run) not in there
        ]
    has = {(row.condition, row.run) for row in rows}
    token = {condition: stimulus for stimulus, condition in reversed(condition_of.items())}  # any token that exists
    return [
        Pattern(-1, -1, token[condition], condition, run)
        for run in runs
        for condition in dict.fromkeys(condition_of.values())
        if (condition, run) not in has
    ]


def _describe_gaps(gaps: Sequence[Pattern], rows: Sequence[Pattern], sources: Sequence[Source]) -> str:
    gap = gaps[0]
    of_run = {row.run: sources[row.source].name for row in rows}
    whole = not any((row.condition, row.run) == (gap.condition, gap.run) for row in rows)
    named = f"condition {gap.condition!r}" if whole else f"stimulus {gap.stimulus_id!r} ({gap.condition!r})"
    same = [row.condition == gap.condition if whole else row.stimulus_id == gap.stimulus_id for row in rows]
    n_found = len({row.run for row, found in zip(rows, same, strict=True) if found})
    more = f" (and {len(gaps) - 1} more gaps)" if len(gaps) > 1 else ""
    return (
        f"patterns: {named} is missing in run {gap.run} ({of_run[gap.run]}){more}; expected it in each of "
        f'{len(of_run)} runs, got it in {n_found}; missing="nan" keeps the gap as NaN'
    )
