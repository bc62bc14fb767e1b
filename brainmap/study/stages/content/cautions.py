"""Say at the top of the page what limits the results: few participants, corrections out of reach, chance.

Say which participants have other runs than most, and whose noise is treated otherwise.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from brainmap.errors import BrainmapWarning
from brainmap.features.networks.calls import NEAR_CHANCE
from brainmap.groups import group_pairs
from brainmap.rsa.inference.scores import describe_fdr_reach
from brainmap.rsa.rdm.run_noise import FEWEST_RUNS
from brainmap.study.results.context import Context
from brainmap.study.settings.hypotheses import HYPOTHESES
from brainmap.study.settings.stories import StoryModels
from brainmap.study.settings.study import Participant, StudySettings
from brainmap.study.stages.betas import plan_rows
from brainmap.study.stages.categories import note_categories
from brainmap.study.stages.content.answers import Tables
from brainmap.study.stages.generality import SINGLE, WORDS
from brainmap.study.stages.group_maps import SIGNIFICANT, find_common_space, group_map, list_tested_layers
from brainmap.study.stages.networks import Version, read_calls_line, read_fed
from brainmap.study.stages.participants import WHITENED
from brainmap.study.stages.spaces import describe_space
from brainmap.study.stages.stories import describe_latencies
from brainmap.study.stages.wording import join_names
from brainmap.types import Correction
from brainmap.viz.labels import format_decimals

FEW = 6
"""Participants from which on a signed-rank test, and one of what they share, can be significant after a correction."""


PADDED = 0.1
"""Share of padding from which on it is said at the top."""


def list_cautions(
    context: Context,
    tables: Tables,
    families: Mapping[str, Sequence[str]],
    answers: pd.DataFrame | None,
    people: pd.DataFrame,
) -> list[str]:
    """List what a reader must know before the results, in whole sentences.

    `answers` are those of `tabulate_answers`, `people` those of `tabulate_people`.
    """
    settings = context.study.settings
    return [
        *_describe_participants(len(people)),
        *describe_outliers(people),
        *describe_removed(settings.rsa.control_for, maps=settings.searchlight is not None),
        *list_unequal(settings, count_runs(list(context.study.participants()))),
        *note_categories(context),
        *_describe_reach(tables, settings.rsa.inference.correction),
        *describe_hypotheses(tables["statistics"]),
        *_describe_spaces(context),
        *_describe_maps(context),
        *_describe_chance(context),
        *_describe_padding(context),
        *_describe_lacking(families, acoustic=settings.baselines is not None),
        *describe_unreliable(tables.get("ceilings"), removed=settings.rsa.control_for or ()),
        *describe_uncertain(answers),
    ]


def list_story_cautions(
    tables: Tables, families: Mapping[str, Sequence[str]], asked: StoryModels, *, acoustic: bool
) -> list[str]:
    """List what a reader of a study of stories must know before the results, in whole sentences."""
    statistics = tables["statistics"]
    assert statistics is not None  # the stage of the group writes it
    least = 1 / (1 + float(statistics["permutations"].max()))
    return [
        *_describe_participants(int(statistics["n"].max())),
        *([_TOO_FEW.format(least=least)] if least > SIGNIFICANT else []),
        *describe_latencies(asked),
        *_describe_lacking(families, acoustic=acoustic),
        *describe_unreliable(tables.get("ceilings"), what="time course"),
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


LABELS = "the order of its labels in each run, at the files of its runs, and at its mask and regions"
"""What to look at in the data of a participant whose RDMs agree with nobody's."""


def describe_outliers(people: pd.DataFrame, *, what: str = "RDMs", look: str = LABELS) -> Iterator[str]:
    """Name the participants whose data look wrong, with the numbers that say so and where to `look`.

    Examples
    --------
    >>> rows = {"participant": ["03", "01", "02"], "agreement": [0.15, 0.6, 0.62], "outlier": [True, False, False]}
    >>> more = {"lowest_region": ["HG", "PT", "PT"], "reliability": [0.02, 0.5, 0.5]}
    >>> for line in describe_outliers(pd.DataFrame(rows | more)):
    ...     print(line[:112])
    Participant 03 looks wrong: its RDMs agree with those of the others by .15, where others reach .61 (median), and
    """
    if "outlier" not in people:
        return
    usual = people[~people["outlier"]]
    for row in people[people["outlier"]].to_dict("records"):
        said = (
            f"Participant {row['participant']} looks wrong: its {what} agree with those of the others by "
            f"{format_decimals(row['agreement'])}, where others reach {format_decimals(usual['agreement'].median())} "
            f"(median), and least of all in {row['lowest_region']}"
        )
        if np.isfinite(row.get("reliability", np.nan)):
            said += (
                f"; they repeat over its runs by {format_decimals(row['reliability'])}, where those of others do by "
                f"{format_decimals(usual['reliability'].median())}"
            )
        yield (f"{said}. Look at {look}, before a mean over participants is believed.")


def describe_removed(removed: Sequence[str], *, maps: bool) -> Iterator[str]:
    """Say which models were removed from scores, and that maps are not without them.

    Examples
    --------
    >>> next(describe_removed(["category"], maps=False))
    'Scores, noise ceilings and tests of regions are of what is left without category ([rsa] control_for).'
    """
    if removed:
        but = "; maps of searchlights are of the whole geometry" if maps else ""
        yield (
            f"Scores, noise ceilings and tests of regions are of what is left without {join_names(list(removed))} "
            f"([rsa] control_for){but}."
        )


def _describe_reach(tables: Tables, correction: Correction) -> Iterator[str]:
    """Say where a correction can find nothing, or nothing but many results at once."""
    for name, what in (("statistics", "Scores against 0"), ("differences", "Differences")):
        table = tables.get(name)
        if table is None or not {"p", "smallest_p"} <= set(table):
            continue
        said = describe_reach(table, "fdr" if correction == "max-t" and name == "differences" else correction)
        if said:
            yield f"{what}: {said}."


def describe_hypotheses(statistics: pd.DataFrame | None) -> Iterator[str]:
    """Say which hypotheses are tested by the exchange of single sounds, and which relabelings cannot test.

    Examples
    --------
    >>> rows = {"network": "hypotheses", "layer": ["word", "kind"], "test": [SINGLE, WORDS["relabeling"]]}
    >>> for line in describe_hypotheses(pd.DataFrame({**rows, "smallest_p": [0.01, 0.33]})):
    ...     print(line[:72])
    The hypothesis word is the same after every exchange of whole conditions
    The hypothesis kind can reach no p under .05 (.33), as too few condition
    """
    if statistics is None or not {"network", "test", "smallest_p"} <= set(statistics):
        return
    ours = statistics[statistics["network"] == HYPOTHESES].groupby("layer", sort=False).first()
    for name, test, smallest in zip(ours.index, ours["test"], ours["smallest_p"], strict=True):
        if test == SINGLE:
            yield (
                f"The hypothesis {name} is the same after every exchange of whole conditions, so that single sounds "
                "were exchanged: p says whether a region tells these sounds apart at all, and is corrected apart from "
                "the p of other models."
            )
        elif test == WORDS["relabeling"] and smallest > SIGNIFICANT:
            yield (
                f"The hypothesis {name} can reach no p under {format_decimals(SIGNIFICANT)} "
                f"({format_decimals(smallest)}), as too few conditions can change places; to exchange single sounds "
                "would take it for evidence that a region tells conditions apart."
            )


def describe_reach(table: pd.DataFrame, correction: Correction) -> str:
    """Explain in words why no p of a table can be significant after its correction; empty where some can be.

    Examples
    --------
    >>> table = pd.DataFrame({"p": [0.01, 0.2], "smallest_p": 0.03, "test": "these sounds only"})
    >>> describe_reach(table, "bonferroni")
    'Bonferroni over 2 tests lets no p be under 0.06, so that it can find nothing'
    """
    relabeled = "test" in table and table["test"].isin((WORDS["relabeling"], SINGLE)).all()
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


def _describe_spaces(context: Context) -> Iterator[str]:
    """Say where places are drawn on the template of another space, or not at all."""
    settings = context.study.settings
    in_volumes = [brain for brain in settings.brain if not (brain.on_surface or brain.on_table)]
    warped = settings.searchlight.warped_space if settings.searchlight is not None else None
    spaces = [*(brain.space for brain in in_volumes), *([warped] if warped and in_volumes else [])]
    yield from filter(None, dict.fromkeys(map(describe_space, spaces)))


def _describe_maps(context: Context) -> Iterator[str]:
    """Say where the test of the maps can find nothing, as its sidecar tells."""
    space = find_common_space(context, list(context.study.participants()))
    if context.study.settings.searchlight is None or space is None:
        return
    version, layer = list_tested_layers(context)[0]
    about = context.read_sidecar(group_map(context, version, layer, "mean", space))
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
        yield "There is no acoustic model to be ahead of: what the sounds alone reach is not known ([baselines])."


def describe_unreliable(
    ceilings: pd.DataFrame | None, *, what: str = "geometry", removed: Sequence[str] = ()
) -> Iterator[str]:
    """Name the regions whose lower noise ceiling is not above 0, and what was removed before it."""
    was = "was" if len(removed) == 1 else "were"
    beyond = f" beyond {join_names(removed)}, which {was} removed," if removed else ""
    if ceilings is None:
        return
    silent = ceilings.loc[~(ceilings["lower"] > 0), "roi"].astype(str).tolist()
    if silent:
        yield (
            f"Participants share no {what}{beyond} in {join_names(silent)} (lower noise ceiling not above 0): no model "
            "can be told to match there."
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
    return dict(sorted(group_pairs((n, who) for who, n in counts.items() if n != most).items()))


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
    brains = settings.brain if used else ()
    return group_pairs((str(brain.noise), label) for brain in brains for label in brain.participants)
