"""Choose the networks that a study compares by their best layers: each with its controls, baselines and other networks.

Several seeds of a network are compared as one network, in RSA and in encoding models.

All other pairs, such as the controls of two networks, answer no question of a study, and would only make the correction
over pairs more severe.

Choose the test of the scores and differences of regions, and state whether it generalizes to other sounds.

A test over participants treats the sounds as fixed. In a region whose geometry all participants share, it finds a
network above 0, or two networks different, whenever these sounds happen to favor this result, so that it generalizes to
other participants but not to other sounds. Relabeling the sounds does not treat them as fixed, and neither does a
bootstrap over participants and sounds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from brainmap.rsa.comparison.measures import find_measure
from brainmap.rsa.inference.differences import BEST
from brainmap.rsa.inference.exchange import Exchange, find_units
from brainmap.rsa.inference.relabeling import substitute_words
from brainmap.rsa.inference.resampling import can_weigh
from brainmap.rsa.inference.scores import correct_p
from brainmap.study.settings.study import Rsa, StudySettings
from brainmap.types import Correction, ZeroTest

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

FAMILY = (
    "each network was compared with each of its controls, with the acoustic models and with every other network, in "
    "every region: {} tests"
)


def list_seeds(settings: StudySettings) -> dict[str, list[str]]:
    """List the seeds of networks that have several, by the name of the whole, and those of controls that all have."""
    found: dict[str, list[str]] = {}
    for whole in dict.fromkeys(network.seed_of for network in settings.network if network.seed_of):
        own = [network for network in settings.network if network.seed_of == whole]
        found[whole] = [network.name for network in own]
        for control in own[0].controls:
            if all(control in network.controls for network in own):
                found[f"{whole}-{control}"] = [f"{network.name}-{control}" for network in own]
    return found


def list_wholes(settings: StudySettings) -> dict[str, list[str]]:
    """List the networks that a study compares, with the names of their controls; several seeds are one network."""
    seeds, found = list_seeds(settings), dict[str, list[str]]()
    for network in settings.network:
        main = network.seed_of or network.name
        own = [f"{main}-{control}" for control in network.controls]
        found.setdefault(main, [name for name in own if not network.seed_of or name in seeds])
    return found


def list_comparisons(settings: StudySettings, known: Collection[str]) -> list[tuple[str, str]]:
    """List the pairs of networks that a study compares, of those known: trained networks come first in each pair.

    Several seeds of a network are one network here, so that the seeds are not compared on their own.
    """
    wholes = list_wholes(settings)
    pairs = [(main, control) for main, controls in wholes.items() for control in controls]
    pairs += combinations(wholes, 2)
    if settings.baselines is not None:
        pairs += [(name, settings.baselines.name) for name in wholes]
    return [pair for pair in pairs if set(pair) <= set(known)]


def add_seeds(scores: pd.DataFrame, seeds: Mapping[str, Sequence[str]], *, value: str = "score") -> pd.DataFrame:
    """Add to the scores of participants the means over the seeds of a network.

    Parameters
    ----------
    scores : DataFrame
        A row per network and whatever else the columns tell (layer, roi, participant), with a value.
    seeds : mapping of str to sequence of str
        As from `list_seeds`.
    value : str
        The column of the values.

    Examples
    --------
    >>> row = {"network": ["a1", "a2"], "layer": "fc", "roi": "A1", "participant": "01", "score": [0.1, 0.3]}
    >>> add_seeds(pd.DataFrame(row), {"a": ["a1", "a2"]})[["network", "score"]].values.tolist()
    [['a1', 0.1], ['a2', 0.3], ['a', 0.2]]
    """
    row = [str(column) for column in scores if column != value]
    whole = [scores[scores["network"].isin(own)].assign(network=name) for name, own in seeds.items()]
    means = [one.groupby(row, sort=False, as_index=False, dropna=False)[[value]].mean() for one in whole]
    return pd.concat([scores, *means], ignore_index=True)


def keep_comparisons(best: pd.DataFrame, settings: StudySettings, correction: Correction) -> pd.DataFrame:
    """Keep those pairs of best layers that a study compares, in their order, and correct p over them.

    Pairs whose networks come the other way round are turned.

    Parameters
    ----------
    best : DataFrame
        A row per pair of networks and region: model, other ("<network> best layer"), roi, difference, p, p_corrected.
    settings : StudySettings
    correction : {"fdr", "bonferroni", "none"}
    """
    ends = f" {BEST}"
    sides = [best[side].astype(str).str.removesuffix(ends) for side in ("model", "other")]
    order = {pair: k for k, pair in enumerate(list_comparisons(settings, {*sides[0], *sides[1]}))}
    pairs = list(zip(*sides, strict=True))
    turned = np.array([(b, a) in order for a, b in pairs], dtype=bool)
    place = np.array([order.get(pair, order.get(pair[::-1], -1)) for pair in pairs], dtype=np.intp)
    best = best.assign(
        model=best["model"].where(~turned, best["other"]), other=best["other"].where(~turned, best["model"])
    )
    best = best.assign(**{name: best[name].where(~turned, -best[name]) for name in ("difference", "t") if name in best})
    rows = np.flatnonzero(place >= 0)
    kept = best.iloc[rows[np.argsort(place[rows], kind="stable")]].reset_index(drop=True)
    return kept.assign(p_corrected=correct_p(kept["p"], correction))


THESE_SOUNDS = "these sounds only"
FEWEST = 16
"""Sounds (conditions, where sounds are their tokens) from which on differences are bootstrapped unless asked for."""
ALPHA = 0.05
WORDS = {"relabeling": "sounds relabeled", "bootstrap": "bootstrap", "participants": THESE_SOUNDS}
"""The tests in the column `test` of tables."""
TEST_COLUMNS = {
    "test": "test that p and p_corrected are of: sounds relabeled, bootstrap, or a test over participants, which takes "
    "the sounds as fixed (these sounds only)",
    "p_these_sounds": "p over participants, uncorrected: of these sounds only, which are taken as fixed",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
    "smallest_p_these_sounds": "smallest p that so many participants can reach",
}


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


def announce_tests(study: StudySettings, stimuli: Mapping[str, str], layers: Mapping[str, Sequence[str]]) -> str:
    """Say which tests scores and differences of regions will be given, before anything is computed.

    Parameters
    ----------
    study : StudySettings
    stimuli : mapping
        Condition of each stimulus.
    layers : mapping
        Layers of each network, by its name; controls and baselines are models too.
    """
    settings = study.rsa
    n_participants = sum(len(brain.participants) for brain in study.brain)
    n_models = sum(len(layers[network.name]) * (1 + len(network.controls)) for network in study.network)
    n_models += len(study.baselines.layers) if study.baselines else 0
    items: dict[str, list[str]] = {"condition": list(dict.fromkeys(stimuli.values()))}
    if settings.items == "stimulus":
        items = {"stimulus_id": list(stimuli), "condition": list(stimuli.values())}
    n = len(next(iter(items.values())))
    like: Any = _Items(items, n)
    zero, between = choose_zero(settings, like), choose_differences(settings, like)
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


_BESIDE = {
    "standard_error": "standard_error",
    "p_these_sounds": "p",
    "p_these_sounds_corrected": "p_corrected",
    "smallest_p_these_sounds": "smallest_p",
}


def add_test_beside(table: pd.DataFrame, beside: pd.DataFrame | None) -> pd.DataFrame:
    """Add the columns of a test over participants, which takes the sounds as fixed; NaN where there is none."""
    return table.assign(**{new: np.nan if beside is None else beside[old].to_numpy() for new, old in _BESIDE.items()})


def describe_test_beside(note: str, beside: pd.DataFrame | None) -> str:
    """Describe a test, and that over participants beside it."""
    return note if beside is None else f"{note}; beside it, {beside.attrs['note']}"


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
