"""Split sounds into training, validation and testing parts, of which no two share a speaker."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainmap.checks import refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.sounds.files import Sounds, read_lists
from brainmap.types import Part

SPEAKER_COLUMNS = ("speaker", "voice", "participant")


def split_sounds(sounds: Sounds, folder: Path) -> dict[Part, Sounds]:
    """Split sounds into training, validation and testing by the data set's lists, or 80/10/10 by a hash of the speaker.

    The speaker is the value of a column `speaker`, `voice` or `participant`, otherwise, as in Speech Commands, the part
    of the file name before `_nohash_`; a split by hash puts no speaker into two parts. Warnings report that no file
    names a speaker, or that the lists put a speaker into two parts.
    """
    lists, base = read_lists(folder), folder.absolute()
    paths = [Path(p) for p in sounds.table["path"]]
    speakers = _find_speakers(sounds, paths, quiet=bool(lists))
    if lists:
        names = [p.relative_to(base).as_posix() if p.is_relative_to(base) else "" for p in paths]
        parts = [lists.get(name, "training") for name in names]
        homes = Counter(speaker for speaker, _ in set(zip(speakers, parts, strict=True)))
        leaked = sum(n > 1 for n in homes.values())
        if leaked:
            warnings.warn(
                f"train: the lists of {folder} put {leaked} of {len(homes)} speakers into two parts or more; "
                "accuracy is then not that of new speakers",
                BrainmapWarning,
                stacklevel=3,
            )
    else:
        parts = [_choose_part(speaker) for speaker in speakers]
    found: dict[Part, Sounds] = {}
    for part in ("training", "validation", "testing"):
        rows = np.flatnonzero([p == part for p in parts])
        if not len(rows):
            raise InputError(
                f"train: {folder} has {len(sounds)} sounds and none for {part}; more speakers or lists are needed"
            )
        found[part] = sounds.take(rows)
    return found


def _find_speakers(sounds: Sounds, paths: Sequence[Path], *, quiet: bool) -> list[str]:
    for column in SPEAKER_COLUMNS:
        if column in sounds.table:
            return [str(s) for s in sounds.table[column]]
    if not quiet and not any("_nohash_" in p.stem for p in paths):
        warnings.warn(
            "train: neither a column speaker nor file names (<speaker>_nohash_0.wav) say who speaks; the "
            "same person may be in two parts",
            BrainmapWarning,
            stacklevel=4,
        )
    return [p.stem.split("_nohash_")[0] for p in paths]


def _choose_part(speaker: str) -> str:
    share = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 1000 / 10
    return "validation" if share < 10 else "testing" if share < 20 else "training"


def check_known(sounds: Sounds, classes: Sequence[str], what: str) -> None:
    """Refuse sounds of words that are none of a network's classes."""
    known = ", ".join(classes) or "not named"
    unknown = sorted(set(sounds.conditions) - set(classes))
    refuse_some(unknown, f"{what} has the word ", f", which the network does not know; its classes are {known}")
