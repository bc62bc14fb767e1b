"""Say which participants have other runs than most, and whose noise is treated otherwise."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from brainmap.errors import BrainmapWarning
from brainmap.rsa.rdm.run_noise import FEWEST_RUNS
from brainmap.study.settings.study import Participant, StudySettings
from brainmap.study.stages.betas import plan_rows
from brainmap.study.stages.participants import WHITENED
from brainmap.study.stages.wording import join_names

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
