"""Stage 2 of studies that begin with BOLD: a general linear model of every run, and betas as derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brainmap.checks import some
from brainmap.errors import InputError
from brainmap.record import content_key
from brainmap.rsa._design import GlmSettings
from brainmap.rsa._plan import Plan, plan_betas
from brainmap.rsa._timing import sidecars_of
from brainmap.rsa.alignment import labels_of, level_of
from brainmap.rsa.beta_files import coefficient_labels, save_betas
from brainmap.rsa.compare import compare_rdms
from brainmap.rsa.glm import fit_betas
from brainmap.rsa.images import check_same_grid, image_info
from brainmap.rsa.pattern_table import Pattern, Source, plan_patterns
from brainmap.rsa.patterns import planned_patterns
from brainmap.rsa.rdm_file import load_rdms
from brainmap.rsa.regions import grid_of
from brainmap.stages.brains import mask_of, pattern_arguments
from brainmap.stages.context import Context, log, ready
from brainmap.stages.networks import layer_names, model_rdms
from brainmap.study_inputs import Participant

VERSION = 1
_ALIKE = 0.1  # a correlation with a model RDM that is said
_IMAGES = ("_betas.nii.gz", "_betas+orig.HEAD", "_betas+tlrc.HEAD")


def run_betas(context: Context, only: Sequence[str] = ()) -> None:
    """The betas of all participants whose images are BOLD, or of some of them."""
    for person in context.study.participants():
        if person.brain.kind == "bold" and (not only or person.label in only):
            key = content_key(
                VERSION,
                [context.digest(name) for name in _inputs(person)],
                person.brain.glm.model_dump(),
                [person.brain.missing, person.brain.space, person.brain.noise == "residuals"],
                _run_names(person),
                context.study.settings.study.maps,
                context.study.settings.rsa.items,
            )
            context.stage(_stage(person), key, partial(_fit, context, person))
            _compare_design(context, person)


def _compare_design(context: Context, person: Participant) -> None:
    """Say which models the design alone resembles: order in time makes geometry, or hides it."""
    (path,) = (file for file in context.ledger.files(_stage(person)) if file.name.endswith("_designrdms.h5"))
    design, models = load_rdms(path), model_rdms(context)
    if level_of(design) != level_of(models) or set(labels_of(design)) != set(labels_of(models)):
        return  # single trials without names of their own are no items of the models
    scores = compare_rdms(models, design, measure="spearman")
    for k, what in enumerate(design.rdm_descriptors["name"]):
        worst = int(np.abs(scores[:, k]).argmax())
        if abs(scores[worst, k]) > _ALIKE and what not in context.study.settings.rsa.control_for:
            network, layer = layer_names(models)[worst]
            log.warning(
                "note: participant %s: the %s RDM of the design correlates %.2f (Spearman) with %s %s, and above %.1f "
                "with %d of %d models; between-run products (crossnobis) and other orders in other runs keep it out, "
                "[rsa] control_for = ['%s'] partials it out",
                person.label, what, scores[worst, k], network, layer, _ALIKE,
                int((np.abs(scores[:, k]) > _ALIKE).sum()), len(scores), what,
            )  # fmt: skip


def _fit(context: Context, person: Participant) -> Iterator[Path]:
    glm = person.brain.glm
    betas = fit_betas(
        list(person.files), _events(person), mask=mask_of(person), scale=glm.scale, model=glm.model, hrf=glm.hrf,
        noise=glm.noise, high_pass=_high_pass(person), polort=glm.polort, others=glm.others, nuisance=glm.nuisance,
        keep_residuals=person.brain.noise == "residuals", **_arguments(person),
    )  # fmt: skip
    prefix = str(ready(context.subject_file(person, "x"))).removesuffix("_x")
    about = context.about({"glm": glm.model_dump(), "runs": _run_names(person)}, _inputs(person))
    known = None if person.brain.space == "native" else "MNI" if person.brain.space.startswith("MNI") else None
    yield from save_betas(
        betas, prefix, format=context.study.settings.study.maps, residuals=betas.residuals is not None,
        space=known, items=context.study.settings.rsa.items, about=about, overwrite=True,
    )  # fmt: skip


def with_betas(context: Context, person: Participant) -> Participant:
    """The participant with the betas that the stage wrote in place of BOLD."""
    if person.brain.kind == "betas":
        return person
    images = [file for file in context.ledger.files(_stage(person)) if file.name.endswith(_IMAGES)]
    if len(images) != len(person.found):
        raise InputError(f"participant {person.label}: found betas of {len(images)} of {len(person.found)} runs; run "
                         "the study again")  # fmt: skip
    left = person.brain.noise == "residuals"
    found = [
        replace(
            one, kind="betas", image=str(image), labels="sub-brick", volumes=(), events=None, confounds=None,
            sidecars=(), residuals=str(image).replace("_betas", "_residuals") if left else None, run=name, session="",
        )
        for one, image, name in zip(person.found, images, _run_names(person), strict=True)
    ]  # fmt: skip
    return replace(person, found=tuple(found))


def planned(person: Participant, stimuli: dict[str, str] | None) -> tuple[list[Pattern], tuple[str, ...]]:
    """Which patterns there will be, from headers and tables alone; and what was chosen on the way.

    Raises
    ------
    InputError
        As `load_patterns`, and for BOLD as `fit_betas`, but for what only the values of images show.
    """
    if person.brain.kind == "betas":
        arguments = {k: v for k, v in pattern_arguments(person).items() if k not in ("mask", "participant")}
        return planned_patterns(**arguments, stimuli=stimuli), ()
    plan = plan_bold(person)
    sources = [
        Source(name, len(design.labels), tuple(coefficient_labels(list(design.labels))))
        for name, design in zip(person.files, plan.designs, strict=True)
    ]
    several = len(sources) > 1
    try:
        rows = plan_patterns(
            sources, runs=plan.run_names if several else None, stimuli=stimuli, missing=person.brain.missing
        )
    except InputError as error:
        raise InputError(f"{error}; glm's column, nuisance and leave_out say which events have betas") from None
    return rows, tuple(note for note in plan.notes if not note.startswith("noise: ") or ", but " in note)


def plan_bold(person: Participant) -> Plan:
    """The designs of a participant's BOLD runs, and whether images and masks lie on one grid.

    Raises
    ------
    InputError
        As `fit_betas`, but for what only the values of images show.
    """
    glm = person.brain.glm
    settings = GlmSettings(
        model=glm.model, hrf=glm.hrf, noise=glm.noise, high_pass=_high_pass(person), polort=glm.polort,
        others=glm.others, nuisance=glm.nuisance,
    )  # fmt: skip
    mask = mask_of(person)
    for name in person.files:
        info = image_info(name)
        check_same_grid(grid_of(info.shape, info.affine), mask, what=name, wanted="mask")
    return plan_betas(list(person.files), _events(person), settings=settings, **_arguments(person))


def _arguments(person: Participant) -> dict[str, Any]:
    glm = person.brain.glm
    return {
        "confounds": _confounds(person), "strategy": glm.strategy, "t_r": glm.t_r, "column": glm.column,
        "duration": glm.duration, "leave_out": glm.leave_out, "slice_time_ref": glm.slice_time_ref,
        "missing": person.brain.missing, "run_names": _run_names(person),
    }  # fmt: skip


def _high_pass(person: Participant) -> Any:
    chosen = person.brain.glm.high_pass
    return None if chosen == "none" else chosen


def _run_names(person: Participant) -> list[str]:
    return [one.label or str(k) for k, one in enumerate(person.found, start=1)]


def _events(person: Participant) -> Any:
    if person.stim_times:
        return person.stim_times
    lacking = [Path(one.image).name for one in person.found if one.events is None]
    if lacking:
        raise InputError(
            f"no events belong to {some(lacking, 2)}; name them in [brain] events, or the BIDS folder that holds them "
            "in [brain] raw"
        )
    tables = list(dict.fromkeys(one.events for one in person.found))
    return tables[0] if len(tables) == 1 else tables


def _confounds(person: Participant) -> Any:
    tables = [one.confounds for one in person.found]
    if person.brain.confounds is None and person.brain.glm.strategy is None:
        return None  # a layout may find fMRIPrep's, which nobody asked for
    if None in tables:
        raise InputError(f"strategy = {person.brain.glm.strategy!r}, and no confounds were found; name them in [brain] "
                         "confounds")  # fmt: skip
    return tables[0] if len(set(tables)) == 1 else tables


def _inputs(person: Participant) -> list[str]:
    """Every file that the betas depend on."""
    others = [name for one in person.found for name in (one.events, one.confounds, *one.sidecars) if name is not None]
    beside = [str(file) for name in person.files for file in sidecars_of(image_info(name).path)]
    return list(dict.fromkeys([*person.files, *person.masks, *others, *beside, *person.stim_times.values()]))


def _stage(person: Participant) -> str:
    return f"sub-{person.label}_betas"
