"""Read the designs of BOLD runs, for participants whose betas the study estimated itself."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd

from brainmap.errors import BrainmapWarning, InputError
from brainmap.study.results.context import Context
from brainmap.study.settings.participant import Participant
from brainmap.study.stages.betas import list_beta_files, list_run_names, read_run_events
from brainmap.tables import read_results_table
from brainmap.viz.page.content import DesignContent, DesignedRun

_ENDINGS = ("", "_derivative", "_dispersion")


def read_designs(context: Context) -> DesignContent | None:
    """Read the design of every run; None where no participant begins with BOLD.

    Returns
    -------
    DesignContent
        Its table has participant, run, volumes, events, regressors (of events), confounds, censored_volumes, drifts,
        free (degrees of freedom of the residuals), drift_share (largest share of a beta's regressor that drifts
        explain) and inflation (largest variance inflation factor of a beta).
    """
    runs: list[DesignedRun] = []
    rows: list[dict[str, Any]] = []
    notes: dict[str, list[str]] = {}
    for person in context.study.participants():
        if person.brain.kind != "bold" or not (files := list_beta_files(context, person, "_design.tsv")):
            continue
        labels = read_results_table(list_beta_files(context, person, "_labels.tsv")[0])
        about = json.loads(list_beta_files(context, person, "_betas.json")[0].read_text(encoding="utf-8"))
        designs = [pd.read_csv(file, sep="\t").set_index("frame_time") for file in files]
        events = _read_events(person, designs)
        for k, (run, matrix) in enumerate(zip(list_run_names(person), designs, strict=True)):
            mine = labels[labels["run"].astype(str) == run]
            kinds = name_kinds(matrix, [*mine["stimulus_id"].astype(str), *person.brain.glm.nuisance])
            its = DesignedRun(
                participant=person.label,
                run=run,
                matrix=matrix,
                kinds=kinds,
                events=None if events is None else events[k],
            )
            runs.append(its)
            rows.append({**_count(its), "free": about["DegreesOfFreedom"][k], **mine[_WORST].max()})
        for line in about["Notes"]:
            notes.setdefault(str(line), []).append(person.label)
    if not runs:
        return None
    several = len({row["participant"] for row in rows}) > 1
    said = [f"{line} (participants {', '.join(who)})" if several else line for line, who in notes.items()]
    return DesignContent(runs=runs, table=pd.DataFrame(rows), notes=said)


_WORST = ["drift_share", "inflation"]


def _read_events(person: Participant, designs: list[pd.DataFrame]) -> list[pd.DataFrame] | None:
    """Read the events again, whose warnings were given when betas were estimated; None where they are gone."""
    seconds = [float(one.index[-1] + np.diff(one.index).max(initial=0.0)) for one in designs]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)
            return read_run_events(person, seconds)
    except InputError:
        return None


def name_kinds(matrix: pd.DataFrame, events: list[str]) -> list[str]:
    """Name what each regressor is of; a confound that is not 0 in one volume only leaves this volume out.

    Examples
    --------
    >>> matrix = pd.DataFrame({"cat": [0.0, 1, 2], "x": [1.0, 3, 2], "motion_outlier00": [0.0, 1, 0]})
    >>> name_kinds(matrix.assign(drift_1=[1.0, 0, -1], constant=1.0), ["cat"])
    ['event', 'confound', 'censored volume', 'drift', 'constant']
    """
    known = {f"{name}{ending}" for name in events for ending in _ENDINGS}
    kinds = []
    for name in map(str, matrix.columns):
        if name in known:
            kinds.append("event")
        elif re.fullmatch(r"drift_\d+", name):
            kinds.append("drift")
        elif name == "constant":
            kinds.append("constant")
        else:
            kinds.append("censored volume" if np.count_nonzero(matrix[name]) == 1 else "confound")
    return kinds


def _count(run: DesignedRun) -> dict[str, Any]:
    count = list(run.kinds).count
    return {
        "participant": run.participant,
        "run": run.run,
        "volumes": len(run.matrix),
        "events": pd.NA if run.events is None else len(run.events),
        "regressors": count("event"),
        "confounds": count("confound"),
        "censored_volumes": count("censored volume"),
        "drifts": count("drift"),
    }
