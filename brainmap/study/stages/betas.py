"""Estimate betas from BOLD (stage 2) with a general linear model of every run, and write them as derivatives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.record import content_key
from brainmap.rsa.glm.afni import OWN, read_regressors
from brainmap.rsa.glm.arma import Arma
from brainmap.rsa.glm.betas import fit_runs
from brainmap.rsa.glm.design import GlmSettings
from brainmap.rsa.glm.design_rdms import convert_to_geometry, predict_design_rdms
from brainmap.rsa.glm.events import read_noted_events
from brainmap.rsa.glm.files import format_coefficient_labels, save_betas
from brainmap.rsa.glm.plan import Plan, RunSettings, describe_parameters, plan_betas
from brainmap.rsa.glm.timing import find_sidecars
from brainmap.rsa.images.files import check_same_grid, image_info
from brainmap.rsa.patterns.labels import Source
from brainmap.rsa.patterns.surface import plan_any_patterns
from brainmap.rsa.patterns.table import Pattern, PatternSettings, plan_patterns
from brainmap.rsa.rdm.files import load_rdms
from brainmap.rsa.regions.rois import build_grid
from brainmap.study.results.context import Context, make_parent
from brainmap.study.settings.participant import Participant
from brainmap.study.settings.renamed import restore_first_keys
from brainmap.study.stages.brains import collect_pattern_arguments, load_brain_mask, plan_table_rows
from brainmap.study.stages.controls import design_file
from brainmap.study.stages.networks import join_model_rdms, list_layer_names
from brainmap.study.stages.order import Likeness, describe_likenesses, find_likenesses, yield_known_models
from brainmap.types import RDMs

VERSION = 3
_IMAGES = ("_betas.nii.gz", "_betas+orig.HEAD", "_betas+tlrc.HEAD")


def run_betas(context: Context, only: Sequence[str] = ()) -> None:
    """Estimate the betas of all participants whose images are BOLD, or of some of them."""
    for person in context.study.participants():
        if person.brain.kind == "bold" and (not only or person.label in only):
            key = content_key(
                VERSION,
                [context.digest(name) for name in _list_inputs(person)],
                restore_first_keys(person.brain.glm.model_dump(), "brain.glm"),
                [person.brain.missing, person.brain.space, person.brain.noise == "residuals"],
                list_run_names(person),
                context.study.settings.study.maps,
                context.study.settings.rsa.items,
            )
            context.run_stage(_name_stage(person), key, partial(_fit_betas, context, person))
            _compare_design(context, person)


def check_order(context: Context, people: Sequence[Participant]) -> list[str]:
    """List the models that the order of the events resembles, as far as this is known before the computation.

    Raises
    ------
    InputError
        As for `plan_bold`.
    """
    controlled = context.study.settings.rsa.control_for
    designs = [(person.label, _read_design_files(context, person)) for person in people]
    if all(design is None for _, design in designs):
        return []
    found: list[tuple[str, Likeness]] = []
    for models, names in yield_known_models(context):
        for who, design in designs:
            if design is not None:
                found += [(who, one) for one in find_likenesses(models, names, design, controlled=controlled)]
    return describe_likenesses(found)


def _read_design_files(context: Context, person: Participant) -> RDMs | None:
    """Compute the RDMs of a design before its fit; None where betas do not depend on order, or are too few."""
    items = context.study.settings.rsa.items
    if person.brain.kind != "bold":
        file = design_file(context, person)
        return None if file is None else convert_to_geometry(load_rdms(file), context.study.settings.rsa.dissimilarity)
    plan = plan_bold(person)
    there = {x for design in plan.designs for x in (design.labels if items == "stimulus" else design.conditions)}
    few = 3
    if len(there) < few:
        return None
    design = predict_design_rdms(plan, build_glm_settings(person), items=items)
    return convert_to_geometry(design, context.study.settings.rsa.dissimilarity)


def _compare_design(context: Context, person: Participant) -> None:
    """Report which models the design alone resembles, since the order in time can create or hide geometry."""
    (path,) = list_beta_files(context, person, "_designrdms.h5")
    models = join_model_rdms(context)
    names = [f"{network} {layer}" for network, layer in list_layer_names(models)]
    design = convert_to_geometry(load_rdms(path), context.study.settings.rsa.dissimilarity)
    for one in find_likenesses(models, names, design, controlled=context.study.settings.rsa.control_for):
        log.warning("note: participant %s: %s", person.label, one)


def _fit_betas(context: Context, person: Participant) -> Iterator[Path]:
    glm = person.brain.glm
    betas = fit_runs(
        list(person.files),
        choose_events(person),
        settings=build_glm_settings(person),
        runs=_run_settings(person),
        mask=load_brain_mask(person),
        scale=glm.scale,
        keep_residuals=person.brain.noise == "residuals",
    )
    named = tuple(context.stimuli.get(label, own) for label, own in zip(betas.labels, betas.conditions, strict=True))
    betas = replace(betas, conditions=named)  # events name stimuli, and the table of sounds their conditions
    prefix = str(make_parent(context.build_subject_path(person, "x"))).removesuffix("_x")
    about = context.build_provenance({"glm": glm.model_dump(), "runs": list_run_names(person)}, _list_inputs(person))
    known = None if person.brain.space == "native" else "MNI" if person.brain.space.startswith("MNI") else None
    yield from save_betas(
        betas,
        prefix,
        format=context.study.settings.study.maps,
        residuals=betas.residuals is not None,
        space=known,
        items=context.study.settings.rsa.items,
        about=about,
        overwrite=True,
    )


def list_beta_files(context: Context, person: Participant, ending: str) -> list[Path]:
    """List the files that the estimation of a participant's betas wrote, by the ending of their names."""
    return [file for file in context.ledger.files(_name_stage(person)) if file.name.endswith(ending)]


def read_run_events(person: Participant, run_seconds: Sequence[float]) -> list[pd.DataFrame]:
    """Read the events of every run as the model of a participant's BOLD takes them.

    Raises
    ------
    InputError
        As for `read_events`.
    """
    glm = person.brain.glm
    return read_noted_events(
        choose_events(person),
        run_seconds=run_seconds,
        column=glm.column,
        duration=glm.duration,
        leave_out=glm.leave_out,
        nuisance=glm.nuisance,
        refuse_absent=False,
    )[0]


def use_betas(context: Context, person: Participant) -> Participant:
    """Return the participant with the estimated betas in place of BOLD."""
    if person.brain.kind != "bold":
        return person
    images = [file for file in context.ledger.files(_name_stage(person)) if file.name.endswith(_IMAGES)]
    if len(images) != len(person.found):
        raise InputError(
            f"participant {person.label}: expected betas of {len(person.found)} runs, got {len(images)}; run the "
            "study again"
        )
    left = person.brain.noise == "residuals"
    found = [
        replace(
            one,
            kind="betas",
            image=str(image),
            labels="sub-brick",
            volumes=(),
            events=None,
            confounds=None,
            sidecars=(),
            residuals=str(image).replace("_betas", "_residuals") if left else None,
            run=name,
            session="",
        )
        for one, image, name in zip(person.found, images, list_run_names(person), strict=True)
    ]
    return replace(person, found=tuple(found))


def read_noise(context: Context, people: Sequence[Participant]) -> str:
    """Describe the pooled noise parameters of all runs, from the sidecars of the betas; the text may be empty."""
    found: list[Arma] = []
    for person in people:
        if person.brain.kind == "bold":
            sidecar = list_beta_files(context, person, "_betas.json")[0]
            runs = json.loads(sidecar.read_text(encoding="utf-8"))["NoiseParameters"]
            found += [Arma(run["a"], run["b"]) for run in runs]
    return describe_parameters(found) if found else ""


def plan_rows(person: Participant, stimuli: dict[str, str] | None) -> tuple[list[Pattern], tuple[str, ...]]:
    """List the patterns that will exist, from headers and tables alone, and the choices made on the way.

    Raises
    ------
    InputError
        As for `load_patterns`, and with BOLD for `fit_betas`, except for problems that only image values reveal.
    """
    if person.brain.on_table:
        return plan_table_rows(person, stimuli), ()
    if person.brain.kind != "bold":
        known = collect_pattern_arguments(person)
        said = {key: known[key] for key in ("conditions", "runs", "missing")}
        return plan_any_patterns(known["files"], PatternSettings(**said, stimuli=stimuli)), ()
    plan = plan_bold(person)
    sources = [
        Source(
            name,
            len(design.labels),
            tuple(format_coefficient_labels(list(design.labels))),
            regressors=read_regressors(OWN),
        )
        for name, design in zip(person.files, plan.designs, strict=True)
    ]
    runs = plan.run_names if len(sources) > 1 else None
    try:
        rows = plan_patterns(sources, PatternSettings(runs=runs, stimuli=stimuli, missing=person.brain.missing))
    except InputError as error:
        raise InputError(f"{error}; glm's column, nuisance and leave_out say which events have betas") from None
    return rows, tuple(note for note in plan.notes if not note.startswith("noise: ") or ", but " in note)


def plan_bold(person: Participant) -> Plan:
    """Plan the designs of a participant's BOLD runs, and check that images and masks lie on one grid.

    Raises
    ------
    InputError
        As for `fit_betas`, except for problems that only image values reveal.
    """
    mask = load_brain_mask(person)
    for name in person.files:
        info = image_info(name)
        check_same_grid(build_grid(info.shape, info.affine), mask, what=name, wanted="mask")
    return plan_betas(
        list(person.files), choose_events(person), settings=build_glm_settings(person), runs=_run_settings(person)
    )


def build_glm_settings(person: Participant) -> GlmSettings:
    """Return the settings of the general linear model of a participant's runs."""
    glm = person.brain.glm
    return GlmSettings(
        model=glm.model,
        hrf=glm.hrf,
        noise=glm.noise_model,
        afni_grid=glm.afni_grid,
        high_pass=None if glm.high_pass == "none" else glm.high_pass,
        polort=glm.polort,
        others=glm.others,
        nuisance=glm.nuisance,
    )


def _run_settings(person: Participant) -> RunSettings:
    glm = person.brain.glm
    return RunSettings(
        confounds=_choose_confounds(person),
        strategy=glm.strategy,
        t_r=glm.t_r,
        column=glm.column,
        duration=glm.duration,
        leave_out=glm.leave_out,
        refuse_absent=False,  # other participants may have such events; the check refuses what nobody has
        slice_time_ref=glm.slice_time_ref,
        missing=person.brain.missing,
        run_names=list_run_names(person),
    )


def list_run_names(person: Participant) -> list[str]:
    """List the names of a participant's runs; runs without a name are counted from 1."""
    return [one.label or str(k) for k, one in enumerate(person.found, start=1)]


def choose_events(person: Participant) -> Any:
    """Return the events of a participant's runs: tables, or stim_times files by name.

    Raises
    ------
    InputError
        If a run has no events.
    """
    if person.stim_times:
        return person.stim_times
    lacking = [Path(one.image).name for one in person.found if one.events is None]
    if lacking:
        raise InputError(
            f"no events belong to {list_some(lacking, 2)}; name them in [brain] events, or the BIDS folder that holds "
            "them in [brain] raw"
        )
    tables = list(dict.fromkeys(one.events for one in person.found))
    return tables[0] if len(tables) == 1 else tables


def _choose_confounds(person: Participant) -> Any:
    tables = [one.confounds for one in person.found]
    if person.brain.confounds is None and person.brain.glm.strategy is None:
        return None  # a layout may find fMRIPrep's confounds without a request
    if None in tables:
        raise InputError(
            f"strategy: expected confounds for {person.brain.glm.strategy!r}, got none; name them in [brain] confounds"
        )
    return tables[0] if len(set(tables)) == 1 else tables


def _list_inputs(person: Participant) -> list[str]:
    """List every file that the betas depend on."""
    others = [name for one in person.found for name in (one.events, one.confounds, *one.sidecars) if name is not None]
    beside = [str(file) for name in person.files for file in find_sidecars(image_info(name).path)]
    return list(dict.fromkeys([*person.files, *person.masks, *others, *beside, *person.stim_times.values()]))


def _name_stage(person: Participant) -> str:
    return f"sub-{person.label}_betas"
