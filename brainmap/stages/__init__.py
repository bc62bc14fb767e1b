"""The stages of a study: check, networks, participants, group, explain, page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brainmap.checks import some
from brainmap.errors import InputError
from brainmap.stages.checking import check_study
from brainmap.stages.context import Context, log
from brainmap.stages.explain import run_explain
from brainmap.stages.group import run_group
from brainmap.stages.networks import run_networks
from brainmap.stages.page import run_page, write_description
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
    findings = check_study(context)
    findings.refuse()
    for note in findings.notes:
        log.warning("%s", note)
    write_description(context)
    loaded = run_networks(context)
    run_participants(context, participants)
    if participants and set(participants) != set(known):
        log.info("participants %s done; run without --participant for the group and the page", some(participants))
        return None
    run_group(context)
    run_explain(context, loaded)
    return run_page(context)


def make_report(context: Context) -> Path:
    """Make the page again from the results."""
    if not (context.study.out / "dataset_description.json").exists():
        raise InputError(f"report: {context.study.out} holds no results; run the study first")
    return run_page(context)
