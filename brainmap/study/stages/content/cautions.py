"""Say at the top of the page what limits the results: few participants, corrections out of reach, chance.

Say which participants have other runs than most, and whose noise is treated otherwise.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.errors import BrainmapWarning
from brainmap.features.networks.calls import NEAR_CHANCE
from brainmap.rsa.inference.scores import describe_fdr_reach
from brainmap.rsa.rdm.run_noise import FEWEST_RUNS
from brainmap.study.results.bids_names import build_sidecar_path
from brainmap.study.results.context import Context
from brainmap.study.settings.study import Participant, StudySettings
from brainmap.study.stages.betas import plan_rows
from brainmap.study.stages.categories import note_categories
from brainmap.study.stages.content.answers import Tables
from brainmap.study.stages.group_maps import SIGNIFICANT, find_common_space, group_map, list_tested_layers
from brainmap.study.stages.networks import Version, read_calls_line, read_fed
from brainmap.study.stages.participants import WHITENED
from brainmap.study.stages.wording import join_names
from brainmap.types import Correction

FEW = 6
"""Participants from which on a signed-rank test, and one of what they share, can be significant after a correction."""


PADDED = 0.1
"""Share of padding from which on it is said at the top."""


def list_cautions(
    context: Context,
    tables: Tables,
    families: Mapping[str, Sequence[str]],
    answers: pd.DataFrame | None,
    *,
    participants: int,
) -> list[str]:
    """List what a reader must know before the results, in whole sentences; `answers` as from `tabulate_answers`."""
    settings = context.study.settings
    return [
        *_describe_participants(participants),
        *list_unequal(settings, count_runs(list(context.study.participants()))),
        *_describe_categories(context),
        *_describe_reach(tables, settings.rsa.inference.correction),
        *_describe_maps(context),
        *_describe_chance(context),
        *_describe_padding(context),
        *_describe_lacking(families, acoustic=settings.baselines is not None),
        *_describe_unreliable(tables.get("ceilings")),
        *describe_uncertain(answers),
    ]


def list_story_cautions(tables: Tables, families: Mapping[str, Sequence[str]], *, acoustic: bool) -> list[str]:
    """List what a reader of a study of stories must know before the results, in whole sentences."""
    statistics = tables["statistics"]
    assert statistics is not None  # the stage of the group writes it
    least = 1 / (1 + float(statistics["permutations"].max()))
    return [
        *_describe_participants(int(statistics["n"].max())),
        *([_TOO_FEW.format(least=least)] if least > SIGNIFICANT else []),
        *_describe_lacking(families, acoustic=acoustic),
        *_describe_unreliable(tables.get("ceilings"), what="time course"),
    ]


_TOO_FEW = "Scores: so few permutations let no p be under {least:.3g}, so that nothing can be significant."


def _describe_participants(n: int) -> Iterator[str]:
    if n == 1:
        yield "There is one participant: nothing here speaks of other people, and there is no noise ceiling."
    elif n < FEW:
        yield (
            f"There are few participants ({n}): a test over participants cannot reach a p under {2.0**-n:.3g}, and "
            "noise ceilings are rough."
        )


def _describe_categories(context: Context) -> Iterator[str]:
    """Say that conditions look like categories, of which no sounds correspond."""
    table = Path(context.study.resolve(context.study.settings.stimuli.table))
    said = note_categories(context.study.settings, table, context.stimuli)
    if said:
        yield said


def _describe_reach(tables: Tables, correction: Correction) -> Iterator[str]:
    """Say where a correction can find nothing, or nothing but many results at once."""
    for name, what in (("statistics", "Scores against 0"), ("differences", "Differences")):
        table = tables.get(name)
        if table is None or not {"p", "smallest_p"} <= set(table):
            continue
        said = describe_reach(table, "fdr" if correction == "max-t" and name == "differences" else correction)
        if said:
            yield f"{what}: {said}."


def describe_reach(table: pd.DataFrame, correction: Correction) -> str:
    """Explain in words why no p of a table can be significant after its correction; empty where some can be.

    Examples
    --------
    >>> table = pd.DataFrame({"p": [0.01, 0.2], "smallest_p": 0.03, "test": "these sounds only"})
    >>> describe_reach(table, "bonferroni")
    'Bonferroni over 2 tests lets no p be under 0.06, so that it can find nothing'
    """
    relabeled = "test" in table and (table["test"] == "sounds relabeled").all()
    p, smallest = table["p"].to_numpy(dtype=float), table["smallest_p"].to_numpy(dtype=float)
    if not np.isfinite(p).any():
        return ""
    least = float(np.nanmin(smallest))
    if relabeled or correction in ("max-t", "none"):  # relabelings are corrected by their own maximum
        return f"no p can be under {least:.3g}, so that nothing can be significant" if least > SIGNIFICANT else ""
    if correction == "fdr":
        return describe_fdr_reach(p, smallest)
    tests = int(np.isfinite(p).sum())
    if least * tests <= SIGNIFICANT:
        return ""
    return (
        f"Bonferroni over {tests} tests lets no p be under {min(1.0, least * tests):.3g}, so that it can find nothing"
    )


def _describe_maps(context: Context) -> Iterator[str]:
    """Say where the test of the maps can find nothing, as its sidecar tells."""
    space = find_common_space(context, list(context.study.participants()))
    if context.study.settings.searchlight is None or space is None:
        return
    version, layer = list_tested_layers(context)[0]
    path = build_sidecar_path(group_map(context, version, layer, "mean", space))
    about = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    least = float(about.get("SmallestP", 0.0))
    if least > SIGNIFICANT:
        yield (
            f"Searchlight maps: with {about['Participants']} participants no p can be under {least:.3g}, so that "
            "nothing can be significant."
        )


def _describe_chance(context: Context) -> Iterator[str]:
    """Name the networks that call the sounds by their conditions no better than chance."""
    for network in context.study.settings.network:
        line = read_calls_line(context, network) or ""
        if NEAR_CHANCE in line:
            yield f"{line[0].upper()}{line[1:]}."


def _describe_padding(context: Context) -> Iterator[str]:
    """Name the networks that heard much silence, which their sounds were padded with."""
    for network in context.study.settings.network:
        fed = read_fed(context, Version(network, ""))
        if fed.get("padding", 0.0) >= PADDED:
            yield (
                f"Network {network.name} heard {fed['padded']} of {fed['sounds']} sounds padded with zeros to "
                f"{fed['seconds']:g} s: {fed['padding']:.0%} of all that it heard is padding, which counts in means "
                "over time, so that its RDMs hold differences of duration (own_lengths = true takes each sound at its "
                "own length, where the network can)."
            )


def _describe_lacking(families: Mapping[str, Sequence[str]], *, acoustic: bool) -> Iterator[str]:
    """Say which networks have no controls, and that there are no acoustic models: then a match may not be learned."""
    alone = [name for name, controls in families.items() if not controls]
    if alone:
        yield (
            f"{join_names(alone)} {'has' if len(alone) == 1 else 'have'} no control network: what "
            "the same network reaches untrained or with permuted weights is not known "
            '(controls = ["untrained", "permuted"]).'
        )
    if not acoustic:
        yield "There is no acoustic model to be ahead of: what sounds alone explain is not known ([baselines])."


def _describe_unreliable(ceilings: pd.DataFrame | None, *, what: str = "geometry") -> Iterator[str]:
    """Name the regions whose lower noise ceiling is not above 0."""
    if ceilings is None:
        return
    silent = ceilings.loc[~(ceilings["lower"] > 0), "roi"].astype(str).tolist()
    if silent:
        yield (
            f"Participants share no {what} in {join_names(silent)} (lower noise ceiling not above 0): no model can "
            "be told to match there."
        )


def describe_uncertain(answers: pd.DataFrame | None) -> Iterator[str]:
    """Name the regions whose best layer is the best in less than half of the halves of the sounds.

    Examples
    --------
    >>> row = {"roi": "HG", "best": True, "layer": "conv2", "chosen": "conv1", "chosen_share": 0.35}
    >>> next(describe_uncertain(pd.DataFrame([row])))
    'Which layer is best is uncertain in HG: no layer is the best in half of the halves of the sounds.'
    """
    if answers is None:
        return
    unsure = answers.loc[answers["best"] & (answers["chosen_share"] < 0.5), "roi"].astype(str).tolist()
    if unsure:
        yield (
            f"Which layer is best is uncertain in {join_names(unsure)}: no layer is the best in half of the halves of "
            "the sounds."
        )


_NOISE = {
    "runs": "weighted by the noise of the other runs",
    "residuals": "weighted by the noise of the residuals",
    "none": "not weighted by noise",
}


def count_runs(people: Sequence[Participant]) -> dict[str, int]:
    """Count the runs of each participant: files, or what a design, labels or a table tell of one file."""
    return {person.label: _count_own_runs(person) for person in people}


def _count_own_runs(person: Participant) -> int:
    if person.brain.kind != "betas" and not person.brain.on_table:
        return len(person.runs)
    if len(person.found) > 1:
        return len(person.runs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # the check has said them
        rows, _ = plan_rows(person, None)
    return len({row.run for row in rows if row.source >= 0})


def describe_runs(counts: Mapping[str, int]) -> str:
    """Describe the runs of all participants; who has others than most is named.

    Examples
    --------
    >>> describe_runs({"01": 4, "02": 4}), describe_runs({"01": 3, "02": 3, "03": 2}), describe_runs({"01": 1})
    ('4 each', '3 each, but 2 of 03', '')
    """
    most = _find_usual(counts)
    others = [f"{n} of {join_names(who, 6)}" for n, who in _group_others(counts, most).items()]
    if not counts or set(counts.values()) == {1}:
        return ""
    return ", but ".join([f"{most} each", *([" and ".join(others)] if others else [])])


def _find_usual(counts: Mapping[str, int]) -> int:
    """Return the number of runs that most participants have; of equals the larger."""
    each = Counter(counts.values())
    return max(each, key=lambda n: (each[n], n), default=0)


def _group_others(counts: Mapping[str, int], most: int) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for who, n in counts.items():
        if n != most:
            found.setdefault(n, []).append(who)
    return dict(sorted(found.items()))


def list_unequal(settings: StudySettings, counts: Mapping[str, int]) -> Iterator[str]:
    """Say at the top of the page who has other runs than most, and whose noise is treated otherwise, and why."""
    most = _find_usual(counts)
    for n, who in _group_others(counts, most).items():
        verb, whose = ("has", "its") if len(who) == 1 else ("have", "their")
        yield (
            f"{_name(who)} {verb} {n} run{'' if n == 1 else 's'} where others have {most}, so that {whose} RDMs are "
            f"{'noisier' if n < most else 'less noisy'}."
        )
    groups = group_noise(settings)
    if len(groups) > 1:
        said = [f"those of {join_names(who, 6)} are {_NOISE[noise]}" for noise, who in groups.items()]
        alone = groups.get("none", [])
        few = [who for who in alone if counts.get(who, FEWEST_RUNS) < FEWEST_RUNS]
        why = f" ({join_names(few, 6)}: fewer than {FEWEST_RUNS} runs are too few for noise = 'runs')" if few else ""
        yield (
            f"The noise of patterns is not treated alike: {', '.join(said)}{why}. Their distances are not of one kind, "
            "and means over participants mix them."
        )


def _name(who: Sequence[str]) -> str:
    return f"Participant{'' if len(who) == 1 else 's'} {join_names(who, 6)}"


def group_noise(settings: StudySettings) -> dict[str, list[str]]:
    """Group the participants by what their noise is estimated from; empty where no dissimilarity uses it."""
    light = settings.searchlight
    used = settings.rsa.dissimilarity in WHITENED or (
        light is not None and (light.dissimilarity in WHITENED or light.noise_per == "sphere")
    )
    found: dict[str, list[str]] = {}
    for brain in settings.brain if used else ():
        found.setdefault(brain.noise, []).extend(brain.participants)
    return found
