"""Say beforehand which corrections over participants can find nothing, or nothing but many results at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from brainmap.study.settings.study import StudySettings
from brainmap.study.stages.content.cautions import describe_reach
from brainmap.study.stages.generality import ALPHA, choose_tests

SMALL = 0.1
"""Share of the tests up to which it is no obstacle that fdr finds so many together or none."""


def announce_reach(
    study: StudySettings, stimuli: Mapping[str, str], layers: Mapping[str, Sequence[str]], *, regions: int
) -> Iterator[str]:
    """Say where so few participants and so many tests together leave nothing to find, or many results at once only.

    Parameters
    ----------
    study : StudySettings
    stimuli : mapping
        Condition of each stimulus.
    layers : mapping
        Layers of each network, by its name.
    regions : int
    """
    settings, n_people = study.rsa, sum(len(brain.participants) for brain in study.brain)
    if n_people < 2 or settings.inference.test == "t" or not regions:  # t tests have no smallest p
        return
    n_models = _count_models(study, layers)
    zero, between = choose_tests(settings, stimuli)
    families = (
        ("scores against 0", zero.kind, n_models, 2.0**-n_people),
        ("differences", between.kind, n_models * (n_models - 1) // 2, 2.0 ** (1 - n_people)),
    )
    for what, kind, n_each, smallest in families:
        n_tests = n_each * regions
        if kind != "participants" or not n_tests:
            continue
        correction = settings.inference.correction
        correction = "fdr" if correction == "max-t" and what == "differences" else correction
        if correction == "fdr" and smallest <= SMALL * ALPHA:
            continue
        said = describe_reach(pd.DataFrame({"p": np.ones(n_tests), "smallest_p": smallest}), correction)
        if said:
            way_out = (
                "fewer layers or regions, or more participants" if correction == "bonferroni" else "more participants"
            )
            yield (
                f"tests of regions: {what} over {n_people} participants, {n_tests:,} tests together: "
                f"{said.removesuffix('; here none')}; {way_out} would change this"
            )


def _count_models(study: StudySettings, layers: Mapping[str, Sequence[str]]) -> int:
    """Count the models that are tested: layers also of controls, acoustic models and hypotheses not partialled out."""
    n = sum(len(layers[network.name]) * (1 + len(network.controls)) for network in study.network)
    others = [one.layers for one in (study.baselines, study.hypotheses) if one is not None]
    return n + sum(name not in study.rsa.control_for for names in others for name in names)
