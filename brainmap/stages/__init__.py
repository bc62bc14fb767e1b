"""The stages of a study: check, networks, betas, participants, group, explain, page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from brainmap.checks import some
from brainmap.errors import InputError
from brainmap.progress import heartbeat
from brainmap.record import clear_unfinished
from brainmap.stages.betas import run_betas
from brainmap.stages.checking import check_output, check_study
from brainmap.stages.context import Context, log
from brainmap.stages.description import run_description, run_maps_table
from brainmap.stages.explain import run_explain
from brainmap.stages.group import run_group
from brainmap.stages.networks import run_networks
from brainmap.stages.page import run_page
from brainmap.stages.participants import run_participants

__all__ = ["Context", "check_study", "make_report", "run_study"]


def run_study(context: Context, *, participants: Sequence[str] = ()) -> Path | None:
    """Run every stage whose inputs have changed; give the path of the page.

    Parameters
    ----------
    context : Context
    participants : sequence of str
        Only these; the group and the page then wait for a run with all of them.

    Returns
    -------
    Path or None
        The page, or None when only some participants were run.

    Raises
    ------
    InputError
        Anything a check finds; nothing is written then.
    """
    known = [label for brain in context.study.settings.brain for label in brain.participants]
    unknown = [p for p in participants if p not in known]
    if unknown:
        raise InputError(f"--participant: the study has no {some(unknown)}; it has {some(known, 20)}")
    with heartbeat("checking every input"):
        findings = check_study(context, participants=participants)
    findings.refuse()
    for note in findings.notes:
        log.warning("note: %s", note)
    if left := clear_unfinished(context.study.out):
        log.info("removed %d files that a run which was killed left half written", left)
    run_description(context)
    loaded = run_networks(context)
    run_maps_table(context)
    run_betas(context, participants)
    run_participants(context, participants)
    page = None
    if participants and set(participants) != set(known):
        log.info("participants %s done; run without --participant for the group and the page", some(participants))
    else:
        run_group(context)
        run_explain(context, loaded)
        page = run_page(context)
    if context.idle:
        log.info("nothing to do for %d stages, computed before from the same inputs", len(context.idle))
    return page


def make_report(context: Context) -> Path:
    """Make the page again from the results, whether or not anything has changed.

    Raises
    ------
    InputError
        The results are not there, or of another study.
    """
    check_output(context)
    if context.ledger.read("group_rois").get("key") is None:
        raise InputError(f"report: {context.study.out} holds no results of the group; run the study first")
    missing = [p for stage in context.ledger.stages() for p in context.ledger.damaged(stage)]
    missing = [p for p in missing if p not in context.ledger.files("report")]
    if missing:
        raise InputError(f"report: {missing[0]} is gone or changed; run the study, which makes it again")
    return run_page(replace(context, overwrite=True))
