"""Check the truth of a simulated study before anything is computed."""

from __future__ import annotations

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.study.results.context import Context
from brainmap.study.settings.participant import Participant
from brainmap.study.stages.brains import load_regions
from brainmap.tables import read_table


def check_truth(context: Context, person: Participant, layers: dict[str, tuple[str, ...]]) -> None:
    """Check that the planted regions and layers exist."""
    truth = context.study.settings.truth
    if truth is None:
        return
    table = read_table(context.study.resolve(truth.table), "[truth] table")
    for column in ("region", "layer"):
        if column not in table:
            raise InputError(
                f"[truth] table: expected a column {column!r}, got {list_some(map(str, table.columns))}; add it"
            )
    try:
        known = load_regions(person, whole=True).names
    except InputError:
        return  # it is listed with the participant
    first = layers.get(context.study.settings.network[0].name)
    for column, names in (("region", known), ("layer", first)):
        unknown = [name for name in table[column] if name and names is not None and name not in names]
        if unknown:
            raise InputError(f"[truth] table: no {column} {unknown[0]!r}{suggest_word(unknown[0], names or ())}")
