"""Find runs and participants with equal data, which are copies and no measurements of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from brainmap.checks import list_some
from brainmap.rsa.images.copies import find_copies
from brainmap.rsa.images.names import CIFTI_ENDINGS, find_hemisphere_files
from brainmap.study.settings.study import Participant


class Measured(NamedTuple):
    """Name one file of data: whose it is, which run or story, and where it lies."""

    participant: str
    part: str
    file: str


def list_measured(people: Sequence[Participant]) -> list[Measured]:
    """List every image of participants; tables of voxels, which may hold several participants, are left out."""
    return [
        Measured(person.label, f"run {one.label}" if one.label else "", file)
        for person in people
        if not person.brain.on_table
        for one in person.found
        for file in list_files(person, one.image)
    ]


def list_files(person: Participant, image: str) -> list[str]:
    """List the files of an image, of which a surface has one for each hemisphere."""
    if not person.brain.on_surface or image.endswith(CIFTI_ENDINGS):
        return [image]
    return [str(file) for file in find_hemisphere_files(image).values()]


def check_copies(measured: Sequence[Measured]) -> list[str]:
    """Describe each group of files whose data are equal, in one line.

    Examples
    --------
    >>> check_copies([Measured("01", "run 1", "a.nii"), Measured("01", "run 2", "b.nii")])
    []
    """
    return [_describe([measured[k] for k in group]) for group in find_copies([one.file for one in measured])]


def _describe(equal: Sequence[Measured]) -> str:
    """Name the runs and participants of one group of equal data, and what to do."""
    people = list(dict.fromkeys(one.participant for one in equal))
    files = list_some([Path(one.file).name for one in equal], 4)
    do = "they are copies and no measurements of their own; give each its own data, or leave the copies out"
    if len(people) == 1:
        parts = list(dict.fromkeys(one.part or Path(one.file).name for one in equal))
        return f"participant {people[0]}: {' and '.join(parts)} have equal data ({files}): {do}"
    named = " and ".join(f"{one.participant}{f' ({one.part})' if one.part else ''}" for one in equal)
    return f"participants {named} have equal data ({files}): {do}"
