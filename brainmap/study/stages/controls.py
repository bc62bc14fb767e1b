"""Partial the RDMs in `[rsa] control_for` out of every comparison in regions.

Acoustic models and hypotheses are partialled out for all participants, and are no longer compared themselves; RDMs from
the order of events (`noise-only`, `elapsed-time`) are partialled out only for their own participant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.record import file_digest
from brainmap.rsa.comparison.ceilings import noise_ceilings
from brainmap.rsa.comparison.measures import compare_rdms
from brainmap.rsa.comparison.partial import compare_rdms_partial, describe_switch, partial_ceilings
from brainmap.rsa.comparison.splines import choose_form, count_columns, count_items_needed
from brainmap.rsa.glm.design_rdms import convert_to_geometry
from brainmap.rsa.rdm.alignment import LEVELS, align_vectors, find_level, stack_rdms
from brainmap.rsa.rdm.files import load_rdms
from brainmap.study.results.context import Context
from brainmap.study.settings.study import OF_DESIGN, Participant
from brainmap.study.stages.networks import Version, build_rdm_path, list_layer_names
from brainmap.types import Floats, RDMs

DESIGN_ENDING = "_designrdms.h5"


def design_file(context: Context, person: Participant) -> Path | None:
    """Return the file of a participant's design RDMs, which the GLM wrote with the betas; None where there is none."""
    if person.brain.kind == "bold":
        stage = f"sub-{person.label}_betas"
        return next((f for f in context.ledger.files(stage) if f.name.endswith(DESIGN_ENDING)), None)
    first = Path(person.found[0].image)
    own = re.sub(r"_run-[A-Za-z0-9]+", "", first.name).split("_betas")[0]
    beside = first.with_name(f"{own}{DESIGN_ENDING}")
    return beside if beside.is_file() else None


def _describe_missing_design(person: Participant, names: Sequence[str]) -> str:
    """Describe what to do where a study controls for a design that is not known."""
    return (
        f"[rsa] control_for: {list_some(names)} needs the order of the events, which betas alone do not tell, and no "
        f"*{DESIGN_ENDING} lies beside {Path(person.found[0].image).name}; take kind = 'bold', or betas that "
        "`brainmap rsa betas` made"
    )


def check_controls(context: Context, person: Participant) -> None:
    """Refuse betas whose design is controlled for but not known, or known at another level.

    Raises
    ------
    InputError
    """
    wanted, items = list_design_controls(context), context.study.settings.rsa.items
    if not wanted or person.brain.kind == "bold":  # for BOLD, the stage of the betas writes the design RDMs
        return
    file = design_file(context, person)
    if file is None:
        raise InputError(_describe_missing_design(person, wanted))
    if find_level(load_rdms(file)) != items:
        raise InputError(
            f"[rsa] control_for: {file.name} is of {LEVELS[find_level(load_rdms(file))]}, and [rsa] items = "
            f"{items!r}; make the betas again with --items {items}"
        )
    convert_to_geometry(load_rdms(file).subset("name", wanted), context.study.settings.rsa.dissimilarity)


def list_design_controls(context: Context) -> list[str]:
    """List what the study controls for that comes from each participant's design."""
    return [name for name in context.study.settings.rsa.control_for if name in OF_DESIGN]


def design_digests(context: Context, people: Iterable[Participant]) -> list[str]:
    """Compute the SHA-256 of the designs that the scores depend on; empty where no design is controlled for."""
    files = [design_file(context, person) for person in people] if list_design_controls(context) else []
    return [file_digest(file) for file in files if file is not None]


def collect_control_rdms(context: Context, brains: RDMs) -> RDMs | None:
    """Return the RDMs that the study controls for, if any: models for all participants, of designs for each one.

    Raises
    ------
    InputError
        The design of a participant is not known, or is over other items.
    """
    settings, named = context.study.settings, _list_shared_controls(context)
    shared: list[RDMs] = []
    for version in dict.fromkeys(version for version, _ in named):
        every = load_rdms(build_rdm_path(context, version))
        shared.append(every.subset("layer", [name for owner, name in named if owner == version]))
    wanted = list_design_controls(context)
    if not wanted:
        return _join_shared(shared) if shared else None
    owners, found = [""] * len(named), [align_vectors(one, brains, names=("controls", "data")) for one in shared]
    present = {str(who) for who in brains.rdm_descriptors["participant"]}
    for person in context.study.participants():
        if person.label in present:
            file = design_file(context, person)
            if file is None:
                raise InputError(f"participant {person.label}: {_describe_missing_design(person, wanted)}")
            design = convert_to_geometry(load_rdms(file).subset("name", wanted), settings.rsa.dissimilarity)
            found.append(align_vectors(design, brains, names=(file.name, "data")))
            owners += [person.label] * len(wanted)
    from rsatoolbox.rdm.rdms import RDMs

    return RDMs(
        np.concatenate(found),
        dissimilarity_measure="controls",
        descriptors={"level": find_level(brains)},
        rdm_descriptors={"participant": owners},
        pattern_descriptors={key: value for key, value in brains.pattern_descriptors.items() if key != "index"},
    )


def _list_shared_controls(context: Context) -> list[tuple[Version, str]]:
    """List the acoustic models and hypotheses that the study controls for, which all participants have in common."""
    settings = context.study.settings
    models = [one for one in (settings.baselines, settings.hypotheses) if one is not None]
    return [(Version(one, ""), name) for one in models for name in one.layers if name in settings.rsa.control_for]


def _join_shared(shared: Sequence[RDMs]) -> RDMs:
    """Join the RDMs of acoustic models and of hypotheses, whose dissimilarities may differ."""
    if len(shared) == 1:
        return shared[0]
    for one in shared:
        one.dissimilarity_measure = "controls"
    return stack_rdms(shared)


def count_items_to_halve(context: Context) -> int:
    """Return how many items are needed so that half of them has enough pairs to choose a layer without the controls."""
    settings = context.study.settings.rsa
    return 2 * (count_items_needed(settings.measure, len(settings.control_for)) if settings.control_for else 3)


def check_pairs(context: Context) -> Iterator[str]:
    """Describe what removing the controls changes, in one line each, where there are enough items.

    Raises
    ------
    InputError
        There are too few items for the columns of the controls.
    """
    settings, stimuli = context.study.settings.rsa, context.stimuli
    controls = len(settings.control_for)
    if not controls or not stimuli:
        return
    items = len(stimuli if settings.items == "stimulus" else set(stimuli.values()))
    needed, form, name = (
        count_items_needed(settings.measure, controls),
        choose_form(settings.measure, controls),
        settings.score,
    )
    if items < needed:
        way_out = "take more items or fewer controls" + (
            "" if form == "linear" else ", or measure = 'pearson', which removes straight lines only"
        )
        raise InputError(
            f"[rsa] control_for: expected at least {needed} items, as a {name} takes {count_columns(form, controls)} "
            f"columns, got {items}; {way_out}"
        )
    if form == "additive":
        yield f"[rsa] control_for: {describe_switch(settings.measure, controls)}"
    elif form == "linear":
        yield (
            "[rsa] control_for: pearson removes what the controls explain along straight lines; what layer and brain "
            "share along a curve stays, which measure = 'rho-a' removes too (two controls at most)"
        )
    if items < count_items_to_halve(context):
        yield (
            f"[rsa] control_for: best layers are not chosen, as half of {items} items is too few for the controls "
            f"({count_items_to_halve(context)} items are needed)"
        )


def leave_out_controls(context: Context, models: RDMs) -> RDMs | None:
    """Return the model RDMs other than those controlled for; None where no other is left."""
    shared = _list_shared_controls(context)
    if not shared:
        return models
    left_out = {(version.name, name) for version, name in shared}
    kept = [k for k, row in enumerate(list_layer_names(models)) if row not in left_out]
    return models[kept] if kept else None


def score_regions(context: Context, models: RDMs, brains: RDMs) -> Floats:
    """Score each model against each region, without what the controls explain."""
    measure, controls = context.study.settings.rsa.measure, collect_control_rdms(context, brains)
    if controls is None:
        return compare_rdms(models, brains, measure=measure)
    return compare_rdms_partial(models, brains, controls, measure=measure)


def compute_ceilings(context: Context, brains: RDMs) -> pd.DataFrame:
    """Compute the noise ceilings that belong to these scores."""
    measure, controls = context.study.settings.rsa.measure, collect_control_rdms(context, brains)
    if controls is None:
        return noise_ceilings(brains, measure=measure)
    return partial_ceilings(brains, controls, measure=measure)
