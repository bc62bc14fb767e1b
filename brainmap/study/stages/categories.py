"""Tell whether the conditions of a study look like categories, whose sounds do not correspond, and not like words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from brainmap.study.results.context import Context
from brainmap.tables import read_table


def describe_categories(stimuli: Mapping[str, str], columns: Mapping[str, Sequence[str]]) -> str:
    """Say that conditions look like categories, whose sounds do not correspond; empty where they look like words.

    Sounds correspond where a column of the table names each sound of a condition and has the same names in other
    conditions, such as `voice`, or where their ids do (`cat_anna`, `dog_anna`). Numbers and single letters in ids count
    only where there are no more of them than conditions.

    Parameters
    ----------
    stimuli : mapping
        Condition of each stimulus.
    columns : mapping
        Values of the stimuli in other columns of the table, by its name.

    Examples
    --------
    >>> describe_categories({f"{word}_{voice}": word for word in ("cat", "dog") for voice in ("anna", "ben")}, {})
    ''
    >>> sounds = {f"{kind}_{k}": kind for kind in ("music", "noise") for k in range(6)}
    >>> describe_categories(sounds, {})[:71]
    'The 2 conditions look like categories, as nothing tells which sounds of'
    >>> describe_categories(sounds, {"player": [*"abcdef", *"abcdef"]})
    ''
    """
    conditions = list(stimuli.values())
    n = len(set(conditions))
    sizes = Counter(conditions)
    if n < 2 or sum(size > 1 for size in sizes.values()) < 2:
        return ""
    rest = [re.sub(r"^[\W_]+|[\W_]+$", "", item.removeprefix(kind)) for item, kind in stimuli.items()]
    serial = all(re.fullmatch(r"\d+|[A-Za-z]", name) for name in rest)
    told = [*columns.values(), *([] if serial and max(sizes.values()) > n else [rest])]
    if any(_correspond(conditions, [str(name) for name in names]) for names in told):
        return ""
    return (
        f"The {n} conditions look like categories, as nothing tells which sounds of them correspond (a column such as "
        "voice, with the same names in each), and yet tests exchange and draw whole conditions, as suits tokens of "
        "words: give each sound a condition of its own (its stimulus_id) and name the category in another column."
    )


def _correspond(conditions: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether names are unique in each condition, and most of them occur in several."""
    pairs = set(zip(conditions, names, strict=True))
    many = Counter(name for _, name in pairs)
    return len(pairs) == len(names) and 2 * sum(many[name] > 1 for name in names) > len(names)


def note_categories(context: Context) -> Iterator[str]:
    """Note that conditions look like categories, as `describe_categories`; not where they are the items of RDMs."""
    if context.study.settings.rsa.items == "condition":
        return
    table = context.sounds_table
    found = read_table(table, "stimuli") if table.is_file() else pd.DataFrame()
    own = [str(name) for name in found if name not in ("stimulus_id", "condition", "path")]
    columns = {name: found[name].astype(str).tolist() for name in own}
    yield from filter(None, [describe_categories(context.stimuli, columns)])
