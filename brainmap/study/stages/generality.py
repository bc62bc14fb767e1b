"""Choose the test of the scores and differences of regions, and state whether it generalizes to other sounds.

A test over participants treats the sounds as fixed. In a region whose geometry all participants share, it finds a
network above 0, or two networks different, whenever these sounds happen to favor this result, so that it generalizes to
other participants but not to other sounds. Relabeling the sounds does not treat them as fixed, and neither does a
bootstrap over participants and sounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from brainmap.rsa.comparison.measures import find_measure
from brainmap.rsa.inference.exchange import Exchange, find_units
from brainmap.rsa.inference.relabeling import substitute_words
from brainmap.rsa.inference.resampling import can_weigh
from brainmap.study.settings.study import Rsa, StudySettings
from brainmap.types import RDMs, ZeroTest

THESE_SOUNDS = "these sounds only"

FEWEST = 16
"""Sounds (conditions, where sounds are their tokens) from which on differences are bootstrapped unless asked for."""

ALPHA = 0.05

SINGLE = "single sounds relabeled"
"""The test of hypotheses that no exchange of whole conditions changes, in the column `test` of tables."""
WORDS = {"relabeling": "sounds relabeled", "bootstrap": "bootstrap", "participants": THESE_SOUNDS}
"""The tests in the column `test` of tables."""


class _Items(NamedTuple):
    """Describe the items of RDMs that do not exist yet, with the names that RDMs have."""

    pattern_descriptors: dict[str, list[str]]
    n_cond: int
    descriptors: Mapping[str, str] = MappingProxyType({})
    rdm_descriptors: Mapping[str, str] = MappingProxyType({})


class Choice(NamedTuple):
    """Hold the test, and why it is not the preferred one; the reason is empty where it is, or where it was chosen."""

    kind: ZeroTest
    why: str = ""


def choose_zero(settings: Rsa, brains: RDMs) -> Choice:
    """Choose relabeling of the sounds, unless another test is requested or relabeling cannot be significant."""
    chosen = settings.inference
    if settings.control_for:
        return Choice("participants", "partial scores have no relabeling")
    if chosen.zero != "relabeling" or not chosen.permutations:
        return Choice(chosen.zero if chosen.zero != "relabeling" else "participants")
    exchange = Exchange.of(brains)
    if exchange.count * ALPHA < 1:
        return Choice("participants", f"{exchange.words}: {exchange.count} relabelings leave no p under {ALPHA:g}")
    return Choice("relabeling")


def choose_differences(settings: Rsa, brains: RDMs) -> Choice:
    """Choose a bootstrap over participants and sounds with 16 sounds or more, unless another test is requested."""
    chosen = settings.inference
    if settings.control_for:
        return Choice("participants", "partial scores have no bootstrap")
    if chosen.differences != "bootstrap" or not chosen.bootstrap:
        return Choice("participants")
    if chosen.asks_for_bootstrap:
        return Choice("bootstrap")
    units = find_units(brains)
    n = int(units.max()) + 1
    if n < FEWEST:
        what = "sounds" if n == len(units) else "conditions of several sounds"
        return Choice("participants", f"{n} {what} are fewer than the {FEWEST} that a bootstrap wants")
    if not can_weigh(find_measure(settings.measure)):
        return Choice(
            "participants",
            f"a bootstrap of {settings.measure} takes long; ask for it by bootstrap = {chosen.bootstrap}",
        )
    return Choice("bootstrap")


def choose_tests(settings: Rsa, stimuli: Mapping[str, str]) -> tuple[Choice, Choice]:
    """Choose the tests of scores and of differences for RDMs that do not exist yet."""
    like: Any = _describe_items(settings, stimuli)
    return choose_zero(settings, like), choose_differences(settings, like)


def _describe_items(settings: Rsa, stimuli: Mapping[str, str]) -> _Items:
    items: dict[str, list[str]] = {"condition": list(dict.fromkeys(stimuli.values()))}
    if settings.items == "stimulus":
        items = {"stimulus_id": list(stimuli), "condition": list(stimuli.values())}
    return _Items(items, len(next(iter(items.values()))))


def announce_tests(study: StudySettings, stimuli: Mapping[str, str], layers: Mapping[str, Sequence[str]]) -> str:
    """Say which tests scores and differences of regions will be given, before anything is computed.

    Parameters
    ----------
    study : StudySettings
    stimuli : mapping
        Condition of each stimulus.
    layers : mapping
        Layers of each network, by its name; controls, baselines and hypotheses are models too.
    """
    settings = study.rsa
    n_participants = sum(len(brain.participants) for brain in study.brain)
    n_models = sum(len(layers[network.name]) * (1 + len(network.controls)) for network in study.network)
    n_models += len(study.baselines.layers) if study.baselines else 0
    n_models += len(study.hypothesis)
    like: Any = _describe_items(settings, stimuli)
    zero, between = choose_tests(settings, stimuli)
    over = {"both": "participants and sounds", "conditions": "sounds"}.get(settings.inference.over, "participants")
    exchanged = "; ".join(filter(None, (Exchange.of(like).words, substitute_words(settings.measure))))
    found = [f"scores against 0: {_describe_choice(zero, over, exchanged)}"]
    if n_participants < 2:
        if zero.kind == "participants":
            found = ["scores of one participant are not tested" + (f" ({zero.why})" if zero.why else "")]
        if not settings.inference.asks_for_bootstrap and zero.kind != "bootstrap":
            return "tests of regions: " + found[0]
    if n_models > 1:
        found.append(f"differences: {_describe_choice(between, over)}")
    return "tests of regions: " + "; ".join(found)


def _describe_choice(choice: Choice, over: str, exchanged: str = "") -> str:
    why = choice.why or (exchanged if choice.kind == "relabeling" else "")
    names = {"participants": f"test over participants, {THESE_SOUNDS}", "bootstrap": f"bootstrap over {over}"}
    name = names.get(choice.kind, WORDS[choice.kind])
    return f"{name} ({why})" if why else name


def add_participant_test(first: pd.DataFrame, over_participants: pd.DataFrame, kind: ZeroTest) -> pd.DataFrame:
    """Add the test over participants of the same rows to a table of tests."""
    table = first.copy()
    table["test"] = WORDS[kind]
    for name in ("p", "p_corrected", "smallest_p"):
        column = {"p_corrected": "p_these_sounds_corrected"}.get(name, f"{name}_these_sounds")
        table[column] = over_participants[name].to_numpy()
    return table


def describe_participant_test(note: str, choice: Choice, *, of: str, selected: bool) -> dict[str, str]:
    """Describe in a sidecar the test over participants, why it is the only one, and what it generalizes to."""
    found = {"FirstTest": str(choice.kind), "TheseSoundsOnly": note}
    if choice.kind == "participants":
        why = f"{choice.why}, so that " if choice.why else ""
        nothing = ", with no claim about networks" if of == "differences" else ""
        found["Generalizes"] = f"{why}the test over participants stands alone: {THESE_SOUNDS}{nothing}"
    elif selected:
        found["Generalizes"] = (
            "the sounds were chosen to differ and are no sample of sounds: what is found holds for sounds so chosen"
        )
    return found
