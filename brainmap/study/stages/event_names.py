"""Compare the names of events with the stimuli of a study and with the names that its GLM sets aside."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.rsa.glm.events import count_event_names
from brainmap.study.results.context import Context
from brainmap.study.settings.brain import Brain
from brainmap.study.settings.participant import Participant
from brainmap.study.stages.betas import choose_events, list_run_names
from brainmap.tables import match_by_folders

_MOST = 4  # names in a message


def check_set_aside(context: Context, brain: Brain) -> None:
    """Check that each name of `nuisance` and `leave_out` of a brain occurs in the events of at least one participant.

    Participants of other brains count too. Those whose events cannot be read have a problem of their own.

    Raises
    ------
    InputError
        If a name occurs nowhere.
    """
    if brain.kind != "bold":
        return
    wanted = {name: key for key in ("nuisance", "leave_out") for name in getattr(brain.glm, key)}
    seen: set[str] = set()
    others = [one for one in context.study.settings.brain if one is not brain and one.kind == "bold"]
    for its, label in [(one, label) for one in (brain, *others) for label in one.participants]:
        if wanted.keys() <= seen:
            return
        with contextlib.suppress(InputError):
            seen.update(*_count_names(context.study.participant(its, label), (*wanted,)))
    wrong = [name for name in wanted if name not in seen]
    if wrong and seen:
        known = sorted(seen - set(wanted))
        raise InputError(
            "\n".join(
                f"[brain] glm, {wanted[name]}: expected the name of an event of some participant "
                f"({list_some(known, _MOST)}), got {name!r}{suggest_word(name, known)}"
                for name in wrong
            )
        )


def check_event_names(person: Participant, stimuli: Mapping[str, str]) -> None:
    """Check that every event that gets a beta is a stimulus or a condition of the study.

    Raises
    ------
    InputError
        If a name is neither; it says the nearest one, and how events of no interest are named.
    """
    glm = person.brain.glm
    aside = (*glm.nuisance, *glm.leave_out)
    runs = _count_names(person, aside)
    every = sum((Counter(run) for run in runs), Counter[str]())
    counts = {name: n for name, n in every.items() if name not in aside}
    known = {*stimuli, *stimuli.values()}
    plain = {name: re.sub(r"#\d+$", "", name) for name in counts}
    called = match_by_folders(set(plain.values()) - known, stimuli)
    strange = [name for name in counts if plain[name] not in known and plain[name] not in called]
    if not strange:
        return
    ids_only = not (set(plain.values()) & (set(stimuli.values()) - set(stimuli)))
    kinds = "stimulus_id" if ids_only else "stimulus_id and no condition"
    if len(strange) == len(counts):
        raise InputError(
            f"events: none of the {len(counts)} names in the column {glm.column!r} "
            f"({list_some(sorted(strange), _MOST)}) is a stimulus_id or a condition of the "
            "stimuli table; glm = { column = ... } says which column of the events names stimuli"
        )
    several = len(runs) > 1
    names = list_run_names(person)
    said = []
    for name in strange[:_MOST]:
        where = [label for label, run in zip(names, runs, strict=True) if name in run]
        n = counts[name]
        place = f" in run {', '.join(where)}" if several and len(where) < len(runs) else ""
        said.append(f"{name!r} ({n} event{'s' if n > 1 else ''}{place})")
    more = f" and {len(strange) - _MOST} more" if len(strange) > _MOST else ""
    quoted = ", ".join(f'"{name}"' for name in strange[:_MOST])
    raise InputError(
        f"events: {', '.join(said)}{more} {'is' if len(strange) == 1 else 'are'} no {kinds} of the stimuli table"
        f"{suggest_word(strange[0], [*stimuli, *sorted(set(stimuli.values()))])}; for events of no interest take "
        f"glm = {{ nuisance = [{quoted}] }} (modelled without betas) or leave_out (not modelled)"
    )


def _count_names(person: Participant, aside: Sequence[str]) -> list[dict[str, int]]:
    column = person.brain.glm.column
    return count_event_names(choose_events(person), n_runs=len(person.found), column=column, aside=aside)
