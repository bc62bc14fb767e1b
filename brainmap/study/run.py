"""Run the stages of a study: check, networks, betas, participants, group, explain, page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.progress import heartbeat, log
from brainmap.record import clear_unfinished
from brainmap.study.check import check_study
from brainmap.study.description import run_description, run_maps_table
from brainmap.study.parallel.beside import Beside, explain_beside
from brainmap.study.parallel.dask import compute_on_dask
from brainmap.study.parallel.shares import Share, compute_share, list_units, refuse_incomplete, yield_modeled
from brainmap.study.results.context import Context, apply_grid_tolerance, check_output, restrict_threads
from brainmap.study.results.notices import CHECK, keep_notices
from brainmap.study.results.pieces import clear_pieces
from brainmap.study.stages.betas import run_betas
from brainmap.study.stages.ceilings import explain_no_ceilings, run_ceiling_maps
from brainmap.study.stages.encoding import run_encoding
from brainmap.study.stages.encoding_pieces import ModelPieces
from brainmap.study.stages.explain import find_layer_patterns, plan_explain, run_explain
from brainmap.study.stages.group import run_group
from brainmap.study.stages.group_encoding import run_group_encoding
from brainmap.study.stages.group_stories import run_group_stories
from brainmap.study.stages.hypotheses import run_hypotheses
from brainmap.study.stages.networks import Loaded, run_networks
from brainmap.study.stages.page_stage import build_page_path, run_first_page, run_page
from brainmap.study.stages.participants import build_chunk_folder, run_participants, yield_people
from brainmap.study.stages.region_sounds import plan_region_sounds
from brainmap.study.stages.stories import run_story_networks
from brainmap.study.stages.story_tables import run_stories
from brainmap.threads import limit_blas

__all__ = ["Context", "check_study", "make_report", "merge_study", "run_chunk", "run_study"]


@apply_grid_tolerance
@limit_blas()
def run_study(
    context: Context,
    *,
    participants: Sequence[str] = (),
    announce: Callable[[], None] | None = None,
    spare: Beside | None = None,
) -> Path | None:
    """Run every stage whose inputs have changed, and return the path of the page.

    Parameters
    ----------
    context : Context
    participants : sequence of str
        Run only these; the group and the page then wait for a run with all participants.
    announce : callable, optional
        Called as soon as the group's tables and maps exist, before the ceilings of the maps and before layers are
        explained, which take longest.
    spare : Beside, optional
        A second process that was started before, which explains layers where this saves time.

    Returns
    -------
    Path or None
        The page, or None when only some participants were run.

    Raises
    ------
    InputError
        A check finds a problem; nothing is written then.
    """
    known = [label for brain in context.study.settings.brain for label in brain.participants]
    unknown = [p for p in participants if p not in known]
    if unknown:
        raise InputError(
            f"--participant: expected some of {list_some(known, 20)}, got "
            f"{list_some(unknown)}{suggest_word(unknown[0], known)}"
        )
    _begin(context, participants)
    whole = not participants or set(participants) == set(known)
    with explain_beside(context, spare) if whole and not _is_of_stories(context) else nullcontext() as beside:
        loaded = _run_first_stages(context, participants)
        _run_people(context, participants)
        if not whole:
            log.info(
                "participants %s are done; run without --participant for the group and the page",
                list_some(participants),
            )
            page = None
        else:
            page = _run_last_stages(context, loaded, announce, beside)
    if context.idle:
        log.info("%d stages need nothing, because they were computed before from the same inputs", len(context.idle))
    return page


@apply_grid_tolerance
@restrict_threads()
def run_chunk(context: Context, share: str) -> None:
    """Compute one of N shares of all participants' regions and searchlights; `merge_study` joins them.

    Shares run in any order, at the same time, on any machines that see the same files; no two write the same file.

    Parameters
    ----------
    context : Context
    share : str
        `i/N`, with i from 1 to N.

    Raises
    ------
    InputError
        A check finds a problem with this share's participants.
    """
    mine = Share.parse(share)
    if context.overwrite:
        raise InputError(
            "--chunk computes what is missing, and --overwrite would delete the chunks of others; leave --overwrite "
            f"out, or remove {context.study.out / '.brainmap'} to compute everything again"
        )
    context = replace(context, shared=True)
    units = mine.take(list_units(context))
    if not units:
        log.info("chunk %s is empty: the study has fewer chunks", mine)
        return
    labels = list(dict.fromkeys(unit.participant for unit in units))
    _begin(context, labels)
    _run_first_stages(context, labels)
    compute_share(context, units, mine)


@apply_grid_tolerance
@limit_blas()
def merge_study(context: Context) -> Path:
    """Merge the computed shares, and continue with the group and the page.

    Raises
    ------
    InputError
        Shares are missing, or belong to another study.
    """
    if not any(stage.startswith("network-") for stage in context.ledger.stages()):
        raise InputError(
            f"merge: expected chunks in {context.study.out}, got none; compute them: brainmap run "
            f"{context.study.path.name} --chunk 1/N, ..., --chunk N/N"
        )
    context = replace(context, shared=True)
    _begin(context)
    loaded = _run_first_stages(context)
    refuse_incomplete(context)
    _run_people(context)
    return _run_last_stages(context, loaded)


def _begin(context: Context, participants: Sequence[str] = ()) -> None:
    """Check every input, say and keep what is noticed, clear what killed runs left, and describe the results."""
    with heartbeat("checking every input"):
        findings = check_study(context, participants=participants)
    findings.refuse()
    for note in findings.notes:
        log.warning("note: %s", note)
    if left := clear_unfinished(context.study.out):
        log.info("removed %d unfinished files of a run that was killed", left)
    if context.overwrite:
        clear_pieces(build_chunk_folder(context))
    run_description(context)
    if not participants:  # a run of some participants has not looked at the others
        keep_notices(context.ledger, CHECK, findings.notes)


def _run_first_stages(context: Context, participants: Sequence[str] = ()) -> dict[str, Loaded]:
    """Run everything before the participants' scores: the networks, the betas."""
    if _is_of_stories(context):
        run_story_networks(context)
        return {}
    loaded = run_networks(context)
    run_hypotheses(context)
    run_maps_table(context)
    run_betas(context, participants)
    return loaded


def _run_people(context: Context, only: Sequence[str] = ()) -> None:
    """Compare the participants with the networks, and fit their encoding models: of all, or of some."""
    of_stories, on_dask = _is_of_stories(context), context.backend == "dask"
    if not of_stories:
        if on_dask:
            compute_on_dask(context, [(one, one.pieces) for one in yield_people(context, only) if not one.mapped])
        mapped = context.study.settings.searchlight is not None and not explain_no_ceilings(context)
        run_participants(context, only, hold=mapped and not only)
    if on_dask:
        models = [ModelPieces(one) for one in yield_modeled(context, only) if not one.done]
        compute_on_dask(context, [(work, work.pieces) for work in models])
    (run_stories if of_stories else run_encoding)(context, only)


def _run_last_stages(
    context: Context,
    loaded: dict[str, Loaded],
    announce: Callable[[], None] | None = None,
    beside: Beside | None = None,
) -> Path:
    """Run everything after the participants' scores; a page without explanations is there before these are made."""
    if _is_of_stories(context):
        from brainmap.study.stages.stories_page import run_story_page  # imports what draws pages

        run_group_stories(context, partial(compute_on_dask, context))
        return run_story_page(context)
    run_group(context)
    if announce is not None:
        announce()
    plan = plan_explain(context, loaded)
    if beside is not None:
        beside.compute(plan)
    run_ceiling_maps(context)  # they take longest of all that the group needs
    run_group_encoding(context, partial(compute_on_dask, context))
    plan += plan_region_sounds(context, loaded)
    if beside is not None and beside.climbs_classes:
        find_layer_patterns(context, loaded)
        beside.give(context.patterns)
    if not build_page_path(context).is_file() and not all(context.is_done(one.name, one.key) for one in plan):
        page = run_first_page(context, busy=beside is not None and beside.is_running)
        log.info("a first page: %s; it is written again when layers are explained", page)
    if beside is not None:
        beside.finish()
    run_explain(context, plan)
    return run_page(context)


@apply_grid_tolerance
@limit_blas()
def make_report(context: Context, *, svg: bool = False) -> Path:
    """Write the page again from the results, whether or not anything has changed; with `svg`, all figures as SVG.

    Raises
    ------
    InputError
        The results do not exist, or belong to another study.
    """
    check_output(context)
    if context.ledger.read("group_stories" if _is_of_stories(context) else "group_rois")["key"] is None:
        raise InputError(f"report: expected results of the group in {context.study.out}, got none; run the study first")
    missing = [p for stage in context.ledger.stages() for p in context.ledger.damaged(stage)]
    missing = [p for p in missing if p not in context.ledger.files("report")]
    if missing:
        raise InputError(f"report: {missing[0]} is gone or changed; run the study, which makes it again")
    again = replace(context, overwrite=True)
    if not _is_of_stories(context):
        return run_page(again, svg=svg)
    from brainmap.study.stages.stories_page import run_story_page

    return run_story_page(again, svg=svg)


def _is_of_stories(context: Context) -> bool:
    return context.study.settings.stories is not None
