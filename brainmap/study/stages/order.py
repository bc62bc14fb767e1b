"""Test whether the order of the events makes a geometry like that of a model (Cai et al. 2019, Alink et al. 2015).

Betas of events that are close in time share noise, so the design alone has an RDM. `brainmap check` compares it with
the models that are known before the computation; the run compares it with every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.groups import group_pairs
from brainmap.rsa.comparison.measures import compare_rdms
from brainmap.rsa.rdm.alignment import find_level, list_labels
from brainmap.rsa.rdm.hypotheses import category_rdm
from brainmap.study.results.context import Context
from brainmap.study.stages.hypotheses import compute_hypotheses
from brainmap.study.stages.networks import build_rdm_path, join_model_rdms, list_layer_names, yield_heard
from brainmap.types import RDMs

ALIKE = 0.1
"""A correlation of a model with the design alone that is said."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Describe a model that the design alone resembles.

    Attributes
    ----------
    what : {"noise-only", "elapsed-time"}
    model : str
        The most similar model.
    rho : float
        Spearman correlation.
    alike, n_models : int
        Number of models above `ALIKE`, and number of all models.
    """

    what: str
    model: str
    rho: float
    alike: int
    n_models: int

    def __str__(self) -> str:
        others = f", and above {ALIKE} with {self.alike} of {self.n_models} models" if self.n_models > 1 else ""
        return (
            f"the {self.what} RDM of the design correlates {self.rho:.2f} (Spearman) with {self.model}{others}; "
            "between-run products (crossnobis) and other orders in other runs keep it out, "
            f"[rsa] control_for = ['{self.what}'] partials it out"
        )


def find_likenesses(
    models: RDMs, names: Sequence[str], design: RDMs, *, controlled: Sequence[str]
) -> Iterator[Likeness]:
    """Find the models that each RDM of the design resembles, unless the study controls for it.

    Designs over other items than the models (single trials without their own names) are not compared.
    """
    if find_level(design) != find_level(models) or set(list_labels(design)) != set(list_labels(models)):
        return
    scores = np.nan_to_num(compare_rdms(models, design, measure="spearman"))
    for what, found in zip(design.rdm_descriptors["name"], scores.T, strict=True):
        worst, alike = int(np.abs(found).argmax()), int((np.abs(found) > ALIKE).sum())
        if alike and what not in controlled:
            yield Likeness(
                what=str(what), model=names[worst], rho=float(found[worst]), alike=alike, n_models=len(found)
            )


def describe_likenesses(found: Sequence[tuple[str, Likeness]]) -> list[str]:
    """Write a line per RDM of the design and kind of model, with the participants and the highest correlation."""
    lines = []
    for members in group_pairs(((one.what, one.n_models), (who, one)) for who, one in found).values():
        people = [who for who, _ in members]
        worst = max((one for _, one in members), key=lambda one: abs(one.rho))
        several = f"participants {list_some(people, 6)}, at worst".replace("'", "")
        lines.append(f"{several if len(people) > 1 else f'participant {people[0]}'}: {worst}")
    return lines


def yield_known_models(context: Context) -> Iterator[tuple[RDMs, list[str]]]:
    """Yield models that exist before a run, with their names: layers of an earlier run, and the words themselves."""
    stimuli = context.stimuli
    hypotheses = context.study.settings.hypotheses
    if hypotheses is not None:
        with suppress(InputError):  # the check lists it
            yield compute_hypotheses(context, hypotheses), [f"the hypothesis {name}" for name in hypotheses.layers]
    there = [version for version in yield_heard(context) if build_rdm_path(context, version).is_file()]
    if there:
        layers = join_model_rdms(context, there)
        yield layers, [f"{network} {layer}" for network, layer in list_layer_names(layers)]
    if context.study.settings.rsa.items == "stimulus" and stimuli:
        words = list(stimuli.values())
        if 1 < len(set(words)) < len(words) > 2:
            yield category_rdm(list(stimuli), words, level="stimulus"), ["which stimuli are of one condition"]
