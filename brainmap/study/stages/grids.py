"""Find the image that is out of place among those of a participant: it is the mask where all others agree."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from nibabel import Nifti1Image

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.images.files import check_same_grid, image_info
from brainmap.rsa.regions.rois import build_grid
from brainmap.study.settings.study import Participant

_ACCUSED = "differs from the mask's grid"
_COUNTS = re.compile(r" \(\d+ of data[^()]*\)")
_FILE = re.compile(r"\S*/\S*|\S+\.(?:nii|HEAD|BRIK|gii)\S*")


def accuse_odd_mask(person: Participant, problems: Sequence[str], files: Sequence[str] = ()) -> list[str]:
    """Replace the problems of images that are on another grid than the mask by one, where only the mask is odd.

    The line begins with `participant LABEL: mask: `, and is the same for all participants whose masks are odd alike.
    `files` are the images of data, where those of the participant are patterns of names.
    """
    if not any(_ACCUSED in line for line in problems) or len(person.masks) != 1:
        return list(problems)
    rois, files = person.brain.rois, files or person.files
    regions = [name for name in (rois.image, *rois.masks.values()) if name is not None]
    try:
        mask = _read_grid(person.masks[0])
        others = [_read_grid(name) for name in (*files, *map(person.fill, regions))]
    except InputError:
        return list(problems)
    if len(others) < 2 or _compare(mask, others[0]) == "" or any(_compare(one, others[0]) for one in others):
        return list(problems)
    and_regions = f" and {len(regions)} of regions" if regions else ""
    line = (
        f"participant {person.label}: mask: {_compare(mask, others[0])}; all other images of the participant agree "
        f"({len(files)} of data{and_regions}), so that {Path(person.masks[0]).name} is out of place: resample "
        "or correct it (brainmap.rsa.resample)"
    )
    return [line, *(one for one in problems if _ACCUSED not in one)]


def join_masks(problems: Sequence[str]) -> list[str]:
    """Join the lines on masks and their grids that differ in their participants alone, also in names of files.

    Examples
    --------
    >>> join_masks(["participant 01: mask: x", "participant 02: mask: x", "y"])
    ['participants 01, 02: mask: x', 'y']
    >>> join_masks(["participant 1: mask: (1, 2), a/sub-1_m.nii", "participant 2: mask: (1, 2), a/sub-2_m.nii"])
    ['participants 1, 2: mask: (1, 2), a/sub-{participant}_m.nii']
    """
    groups: dict[str, list[tuple[str, str, str]]] = {}  # participant, what is said in general, line
    for line in filter(_is_of_mask, problems):
        who, _, said = line.removeprefix("participant ").partition(": ")
        general = _generalize(said, who)
        groups.setdefault(_COUNTS.sub("", general), []).append((who, general, line))
    joined = []
    for shared, own in groups.items():
        people = list(dict.fromkeys(who for who, _, _ in own))
        words = {general for _, general, _ in own}
        said = words.pop() if len(words) == 1 else shared  # the numbers of images may differ
        joined.append(f"participants {', '.join(people)}: {said}" if len(people) > 1 else own[0][2])
    return [*joined, *(line for line in problems if not _is_of_mask(line))]


def _generalize(said: str, participant: str) -> str:
    """Write {participant} in place of a label in names of files."""
    label = re.compile(rf"(?<![A-Za-z0-9]){re.escape(participant)}(?![A-Za-z0-9])")
    return _FILE.sub(lambda found: label.sub("{participant}", found[0]), said)


def _is_of_mask(line: str) -> bool:
    return line.startswith("participant ") and (": mask: " in line or _ACCUSED in line)


def _read_grid(image: str) -> Nifti1Image:
    info = image_info(image)
    return build_grid(info.shape, info.affine)


def _compare(image: Nifti1Image, other: Nifti1Image) -> str:
    """Say how a grid differs from another one; empty where they count as equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        try:
            check_same_grid(image, other, what="mask", wanted="data")
        except InputError as error:
            return str(error).removeprefix("mask: ").partition("; resample")[0]
    return ""
