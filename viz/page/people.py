"""Show participants one by one: a small map, small RDMs, and a table of regions; drawn without figures, for speed.

Show the models of BOLD: the design matrix and the events of each run, drawn without figures, for speed.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from PIL import Image

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import DesignContent, DesignedRun, PeopleContent, Person
from brainmap.viz.page.tables import Table, make_table
from brainmap.viz.rsa.rdms import rank_pairs
from brainmap.viz.rsa.volume import paint_glass, read_volume
from brainmap.viz.style import encode_data_uri, get_colormap

MOST_RDMS = 8  # of one participant, those of the regions where it agrees least with the others
MOST_PEOPLE = 60
_WIDE = 64  # pixels of an RDM; of more items, neighbors are averaged
_SHADES = 64
_NONE = (0.89, 0.906, 0.918)  # no pair of items


@dataclass(frozen=True, kw_only=True)
class SmallRdm:
    """Hold the RDM of a region as a picture, and the agreement with the other participants' in words."""

    roi: str
    source: str
    words: str


@dataclass(frozen=True, kw_only=True)
class PersonView:
    """Hold what is shown of a participant: facts in words, a map, RDMs, and a table of regions."""

    label: str
    outlier: bool
    facts: str
    map: str
    map_words: str
    rdms: list[SmallRdm]
    table: Table


@dataclass(frozen=True, kw_only=True)
class PeopleView:
    """Hold the participants that are shown, whose maps these are, the ends of their color scale, and what is not."""

    persons: list[PersonView]
    shown: str
    ends: tuple[str, str]
    left_out: int
    regions: int
    averaged: int


def show_people(content: PeopleContent | None) -> PeopleView | None:
    """Draw the participants, the least typical first, their maps on one color scale."""
    if content is None or not content.persons:
        return None
    shown = content.persons[:MOST_PEOPLE]
    top = _find_top(content, shown)
    first = next((rdm for person in shown for rdm in person.rdms.values()), np.zeros((1, 1)))
    return PeopleView(
        persons=[_show_person(person, content, top) for person in shown],
        shown=content.shown if content.maps else "",
        ends=(format_decimals(top / 3), format_decimals(top)),
        left_out=len(content.persons) - len(shown),
        regions=max(len(person.rdms) for person in shown),
        averaged=_count_averaged(len(first)),
    )


def _find_top(content: PeopleContent, shown: Sequence[Person]) -> float:
    """Return the highest value of the participants' maps."""
    tops = [float(np.nanmax(np.asarray(content.maps[p.label].dataobj))) for p in shown if p.label in content.maps]
    return max((top for top in tops if top > 0), default=1.0)


def _show_person(person: Person, content: PeopleContent, top: float) -> PersonView:
    agreement = dict(zip(person.regions["roi"], person.regions.get("agreement", []), strict=False))
    chosen = sorted(person.rdms, key=lambda roi: np.nan_to_num(agreement.get(roi, 0.0), nan=2.0))[:MOST_RDMS]
    drawn, words = "", ""
    if person.label in content.maps:
        image = content.maps[person.label]
        drawn = _draw_map(image, top)
        high = format_decimals(float(np.nanmax(np.asarray(image.dataobj))))
        words = f"Glass brain of participant {person.label}, {content.shown}: highest value {high}"
    rdms = []
    for roi in (roi for roi in person.rdms if roi in chosen):
        known = agreement.get(roi)
        said = "" if known is None else f"agreement {format_decimals(float(known))}"
        rdms.append(SmallRdm(roi=roi, source=draw_small_rdm(person.rdms[roi]), words=said))
    table = person.regions.dropna(axis=1, how="all")
    return PersonView(
        label=person.label,
        outlier=person.outlier,
        facts=_describe(person),
        map=drawn,
        map_words=words,
        rdms=rdms,
        table=make_table(table, f"participant-{person.label}.tsv"),
    )


def _describe(person: Person) -> str:
    """Say how far a participant agrees with others, how far its RDMs repeat, and how many voxels are left out."""
    regions, said = person.regions, []
    if np.isfinite(person.agreement):
        said.append(f"mean agreement {format_decimals(person.agreement)}")
    if "reliability" in regions and regions["reliability"].notna().any():
        said.append(f"mean reliability {format_decimals(float(regions['reliability'].mean()))}")
    if {"voxels", "kept"} <= set(regions):
        whole = regions[regions["roi"] == "mask"] if (regions["roi"] == "mask").any() else regions
        lost = int((whole["voxels"] - whole["kept"]).sum())
        said.append(f"{lost:,} voxels left out" if lost else "no voxel left out")
    return ", ".join(said)


def draw_small_rdm(square: NDArray[np.floating]) -> str:
    """Draw the ranks of an RDM `(n_items, n_items)` as a small picture, dark where items are alike."""
    ranks = rank_pairs(np.asarray(square, dtype=np.float64))
    np.fill_diagonal(ranks, np.nan)  # an item is not compared with itself
    step = _count_averaged(len(ranks))
    edges = np.arange(0, len(ranks), step)
    known = np.isfinite(ranks)
    total, count = (
        np.add.reduceat(np.add.reduceat(one, edges, axis=0), edges, axis=1)
        for one in (np.where(known, ranks, 0.0), known.astype(float))
    )
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return _encode(np.where(count[..., None] > 0, get_colormap("dissimilarity")(mean)[..., :3], _NONE))


def _count_averaged(n: int) -> int:
    """Return how many neighbors of `n` items share a pixel."""
    return -(-n // _WIDE)


def _draw_map(image: Any, top: float) -> str:
    return _encode(paint_glass(read_volume(image, "report: map of a participant"), (top / 3, Normalize(top / 3, top))))


def _encode(picture: NDArray[np.floating]) -> str:
    """Encode a picture `(height, width, 3)` as a PNG of few colors, which is a third of the size."""
    out = io.BytesIO()
    whole = Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    few = whole.quantize(_SHADES, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.array(few.getpalette(), dtype=np.uint8).reshape(-1, 3)
    few.putpalette(np.where((palette > 249).all(axis=1, keepdims=True), 255, palette).astype(np.uint8).tobytes())
    few.save(out, format="png")
    return encode_data_uri(out.getvalue(), "image/png")


MOST_RUNS = 48
_ROW = 6  # CSS pixels for the events of one name
_TIME_WIDE = 480  # units of time's axis


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """Hold the events of one name as an SVG path."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class RunView:
    """Hold what is shown of a run: its design matrix, its regressors in words, and its events."""

    label: str
    matrix: str
    words: str
    volumes: int
    seconds: str
    events: list[EventRow]
    height: int
    gone: bool


@dataclass(frozen=True, kw_only=True)
class DesignView:
    """Hold the runs that are shown by participant, the table of all runs, notes, and how many runs are not shown."""

    people: dict[str, list[RunView]]
    table: Table
    notes: list[str]
    left_out: int


def show_designs(content: DesignContent | None) -> DesignView | None:
    """Draw the designs of the runs."""
    if content is None:
        return None
    shown = content.runs[:MOST_RUNS]
    people: dict[str, list[RunView]] = {}
    for run in shown:
        people.setdefault(run.participant, []).append(_show_run(run))
    return DesignView(
        people=people,
        table=make_table(content.table, "designs.tsv", most=max(60, len(shown))),
        notes=list(content.notes),
        left_out=len(content.runs) - len(shown),
    )


def _show_run(run: DesignedRun) -> RunView:
    times = run.matrix.index.to_numpy(dtype=float)
    last = float(times[-1] + np.diff(times).max(initial=0.0))
    rows = [] if run.events is None else trace_events(run.events, last)
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


def trace_events(events: pd.DataFrame, seconds: float) -> list[EventRow]:
    """Draw the events of each name as bars from onset to end, `seconds` being the end of the run.

    Examples
    --------
    >>> table = pd.DataFrame({"onset": [0.0, 5.0], "duration": [1.0, 1.0], "name": ["cat", "cat"]})
    >>> trace_events(table, 10.0)
    [EventRow(name='cat', path='M0.0,0h48.0v5h-48.0zM240.0,0h48.0v5h-48.0z')]
    """
    scale = _TIME_WIDE / seconds
    rows: dict[str, str] = {}
    for onset, duration, name in zip(events["onset"], events["duration"], events["name"].astype(str), strict=True):
        top, wide = _ROW * list(rows).index(name) if name in rows else _ROW * len(rows), max(scale * duration, 1.0)
        rows[name] = rows.get(name, "") + f"M{scale * onset:.1f},{top}h{wide:.1f}v{_ROW - 1}h-{wide:.1f}z"
    return [EventRow(name=name, path=path) for name, path in rows.items()]
