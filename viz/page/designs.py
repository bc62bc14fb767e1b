"""Show the models of BOLD: the design matrix and the events of each run, drawn without figures, for speed."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from brainmap.groups import group_pairs
from brainmap.viz.page.content import DesignContent, DesignedRun
from brainmap.viz.page.tables import Table, make_table
from brainmap.viz.style import encode_data_uri, get_colormap

MOST_RUNS = 48

_ROW = 6  # CSS pixels for the events of one name

_TIME_WIDE = 480  # units of time's axis


@dataclass(frozen=True, kw_only=True)
class RunView:
    """Hold what is shown of a run: its design matrix, its regressors in words, and the SVG path of each event."""

    label: str
    matrix: str
    words: str
    volumes: int
    seconds: str
    events: dict[str, str]
    height: int
    gone: bool


@dataclass(frozen=True, kw_only=True)
class DesignView:
    """Hold the runs that are shown by participant, the table of all runs, notes, and how many runs are not shown."""

    people: dict[str, list[RunView]]
    table: Table
    notes: list[str]
    left_out: int


_SHADES = 64


def show_designs(content: DesignContent | None) -> DesignView | None:
    """Draw the designs of the runs."""
    if content is None:
        return None
    shown = content.runs[:MOST_RUNS]
    return DesignView(
        people=group_pairs((run.participant, _show_run(run)) for run in shown),
        table=make_table(content.table, "designs.tsv", most=max(60, len(shown))),
        notes=list(content.notes),
        left_out=len(content.runs) - len(shown),
    )


def _show_run(run: DesignedRun) -> RunView:
    times = run.matrix.index.to_numpy(dtype=float)
    last = float(times[-1] + np.diff(times).max(initial=0.0))
    rows = {} if run.events is None else trace_events(run.events, last)
    return RunView(
        label=run.run,
        matrix=_draw_matrix(run.matrix),
        words=_describe_regressors(run),
        volumes=len(times),
        seconds=f"{last:.0f}",
        events=rows,
        height=_ROW * len(rows),
        gone=run.events is None,
    )


def _describe_regressors(run: DesignedRun) -> str:
    """Count the regressors by what they are of, in the order of their columns, and name the confounds."""
    said = []
    for kind, n in Counter(run.kinds).items():
        named = [str(name) for name, its in zip(run.matrix.columns, run.kinds, strict=True) if its == kind]
        words = {"event": "regressor{s} of events", "constant": "constant"}.get(kind, f"{kind}{{s}}")
        listed = f" ({', '.join(named)})" if kind == "confound" else ""
        said.append(f"{n} {words.format(s='s' if n > 1 else '')}{listed}")
    return ", ".join(said)


def _draw_matrix(matrix: pd.DataFrame) -> str:
    """Draw a design matrix, a pixel a regressor and volume, each regressor over its largest absolute value."""
    values = matrix.to_numpy(dtype=float)
    scaled = values / np.maximum(np.abs(values).max(axis=0), np.finfo(float).tiny)
    colors = get_colormap("signed")(np.linspace(0, 1, _SHADES))[:, :3]
    image = Image.fromarray(np.round((scaled + 1) / 2 * (_SHADES - 1)).astype(np.uint8), mode="P")
    image.putpalette(np.round(255 * colors).astype(np.uint8).tobytes())
    out = io.BytesIO()
    image.save(out, format="png")
    return encode_data_uri(out.getvalue(), "image/png")


def trace_events(events: pd.DataFrame, seconds: float) -> dict[str, str]:
    """Draw the events of each name as bars from onset to end in an SVG path, `seconds` being the end of the run.

    Examples
    --------
    >>> table = pd.DataFrame({"onset": [0.0, 5.0], "duration": [1.0, 1.0], "name": ["cat", "cat"]})
    >>> trace_events(table, 10.0)
    {'cat': 'M0.0,0h48.0v5h-48.0zM240.0,0h48.0v5h-48.0z'}
    """
    scale = _TIME_WIDE / seconds
    rows: dict[str, str] = {}
    for onset, duration, name in zip(events["onset"], events["duration"], events["name"].astype(str), strict=True):
        top, wide = _ROW * list(rows).index(name) if name in rows else _ROW * len(rows), max(scale * duration, 1.0)
        rows[name] = rows.get(name, "") + f"M{scale * onset:.1f},{top}h{wide:.1f}v{_ROW - 1}h-{wide:.1f}z"
    return rows
