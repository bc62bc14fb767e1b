"""Support studies whose data are response tables: their rows, their problems, and their description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.patterns.response_tables import load_response_table, plan_response_table
from brainmap.rsa.patterns.table import Pattern
from brainmap.rsa.patterns.voxel_tables import VoxelRois
from brainmap.study.settings.study import Participant
from brainmap.study.stages.brains import collect_pattern_arguments, load_regions


def plan_table_rows(person: Participant, stimuli: dict[str, str] | None) -> list[Pattern]:
    """Return the rows of a participant's patterns from headers and lists alone.

    Raises
    ------
    InputError
        As for `plan_response_table`.
    """
    known = collect_pattern_arguments(person)
    given = {name: known[name] for name in ("key", "axes", "runs", "missing")}
    return plan_response_table(
        known["files"], items=known["conditions"], voxels=_load_voxels(person), stimuli=stimuli, **given
    )


def list_table_problems(person: Participant, stimuli: dict[str, str] | None) -> list[str]:
    """List the problems of a participant's patterns, which are read for this."""
    try:
        known = collect_pattern_arguments(person)
        del known["mask"]
        items = known.pop("conditions")
        load_response_table(items=items, voxels=_load_voxels(person), stimuli=stimuli, **known)
    except InputError as error:
        return [f"participant {person.label}: {line}" for line in str(error).splitlines()]
    return []


def list_lost_repetitions(people: Sequence[Participant], plans: Mapping[str, Sequence[Pattern]]) -> list[str]:
    """List the participants whose tables lack repetitions that others have, where the study refuses gaps."""
    problems = []
    runs = {
        person.label: len({row.run for row in plans[person.label]})
        for person in people
        if person.brain.on_table and person.brain.missing == "error" and plans[person.label]
    }
    most = max(runs.values(), default=0)
    short = [label for label, n in runs.items() if n < most]
    if short:
        problems.append(
            f"participants {list_some(short)}: expected {most} repetitions, as other participants have, got "
            f"{list_some(runs[label] for label in short)}; complete the tables, or say missing = 'nan' in [brain]"
        )
    return problems


def describe_table(person: Participant) -> dict[str, object]:
    """Describe a participant's data for the table of the check."""
    return {"grid": "table", "voxels": f"{_load_voxels(person).columns.size:,}"}


def _load_voxels(person: Participant) -> VoxelRois:
    rois = load_regions(person, whole=True)
    assert isinstance(rois, VoxelRois)  # the data are a table
    return rois
