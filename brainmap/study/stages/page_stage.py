"""Write the page of a study (stage 5), unless nothing on it has changed; what draws it is imported only then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainmap.checks import count_threads
from brainmap.record import content_key
from brainmap.study.results.context import Context
from brainmap.study.settings.renamed import restore_first_keys
from brainmap.study.stages.group_maps import list_tested_layers

if TYPE_CHECKING:
    from brainmap.viz.page.content import ReportContent
    from brainmap.viz.page.helper import Helper

VERSION = 15
_MANY = 5  # layers with maps, from which on a second process saves more time than its imports take
EXPLAINING = ("explain_cam", "explain_maximization", "explain_regions")


def build_page_path(context: Context) -> Path:
    """Return the path of the page."""
    return context.study.out / "report.html"


def run_page(context: Context, *, svg: bool = False) -> Path:
    """Write the page, unless nothing on it has changed; with `svg`, all of its figures as SVG, too."""
    context.run_stage("report", _compute_key(context), lambda: _write_page(context, svg=svg), runs_networks=False)
    return build_page_path(context)


def run_first_page(context: Context, *, busy: bool = False) -> Path:
    """Write the page without what explains the layers, in this process alone where the other cores are `busy`."""
    key = content_key(_compute_key(context, without=EXPLAINING), "first")
    context.run_stage("report", key, lambda: _write_page(context, explained=False, busy=busy), runs_networks=False)
    return build_page_path(context)


def _compute_key(context: Context, *, without: Sequence[str] = ()) -> str:
    """Return the key of everything that the page shows."""
    stages = [stage for stage in context.ledger.stages() if stage != "report" and stage not in without]
    keys = [context.ledger.read(stage)["key"] for stage in stages]
    return content_key(VERSION, keys, restore_first_keys(context.study.settings.dump()))


def _write_page(context: Context, *, explained: bool = True, svg: bool = False, busy: bool = False) -> list[Path]:
    """Write the page and its figures."""
    from brainmap.study.stages.page import read_page_content

    return write_files(context, lambda: read_page_content(context, explained=explained), svg=svg, busy=busy)


def write_files(
    context: Context, read: Callable[[], ReportContent], *, svg: bool = False, busy: bool = False
) -> list[Path]:
    """Write a page of what `read` returns, and return it with its figures."""
    figures = build_page_path(context).parent / "figures"
    before = {p: p.stat().st_mtime_ns for p in figures.glob("*")}
    memory = context.ledger.place("report", ".figures")  # from which a later page knows what it need not draw
    with _start_helper(context, drawn=busy or (bool(before) and memory.is_file())) as helper:
        from brainmap.viz.page.write import write_report  # while the helper imports the same

        how: dict[str, Any] = {"figures": figures, "memory": memory, "helper": helper, "svg": svg}
        page = write_report(read(), build_page_path(context), **how)
    return [page, *(p for p in sorted(figures.glob("*")) if p.stat().st_mtime_ns != before.get(p))]


def _start_helper(context: Context, *, drawn: bool) -> AbstractContextManager[Helper | None]:
    """Start a process that draws beside this one, where a second core is free and there is much to draw."""
    light = context.study.settings.searchlight
    layers = 0 if light is None else len(list_tested_layers(context))
    if drawn or layers < _MANY or count_threads(context.threads, "page") < 2:
        return nullcontext()
    from brainmap.viz.page.helper import start_helper

    return start_helper()
