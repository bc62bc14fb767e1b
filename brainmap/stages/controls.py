"""What `[rsa] control_for` changes: acoustic models that are partialled out, and no longer compared themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainmap.rsa.ceiling import noise_ceilings
from brainmap.rsa.compare import compare_rdms
from brainmap.rsa.dissimilarity import Floats
from brainmap.rsa.partial import compare_rdms_partial, partial_ceilings
from brainmap.rsa.rdm_file import load_rdms
from brainmap.stages.context import Context
from brainmap.stages.networks import Version, layer_names, rdm_path

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs


def control_rdms(context: Context) -> RDMs | None:
    """The RDMs of the baselines that the study controls for, if any."""
    settings = context.study.settings
    if not settings.rsa.control_for or settings.baselines is None:
        return None
    every = load_rdms(rdm_path(context, Version(settings.baselines, "")))
    chosen: RDMs = every.subset("layer", list(settings.rsa.control_for))
    return chosen


def least_to_halve(context: Context) -> int:
    """How many items there must be, so that a half of them has pairs enough to choose a layer without the controls."""
    half = 3
    while half * (half - 1) // 2 <= len(context.study.settings.rsa.control_for) + 1:
        half += 1
    return 2 * half


def compared(context: Context, models: RDMs) -> RDMs | None:
    """The model RDMs without those that are controlled for; None where there is no other."""
    settings = context.study.settings
    if not settings.rsa.control_for or settings.baselines is None:
        return models
    own = settings.baselines.name
    kept = [k for k, (network, layer) in enumerate(layer_names(models))
            if network != own or layer not in settings.rsa.control_for]  # fmt: skip
    return models[kept] if kept else None


def scores_of(context: Context, models: RDMs, brains: RDMs) -> Floats:
    """Each model against each region, without what the controls explain."""
    measure, controls = context.study.settings.rsa.measure, control_rdms(context)
    if controls is None:
        return compare_rdms(models, brains, measure=measure)
    return compare_rdms_partial(models, brains, controls, measure=measure)


def ceilings_of(context: Context, brains: RDMs) -> pd.DataFrame:
    """The noise ceilings that belong to these scores."""
    measure, controls = context.study.settings.rsa.measure, control_rdms(context)
    if controls is None:
        return noise_ceilings(brains, measure=measure)
    return partial_ceilings(brains, controls, measure=measure)
