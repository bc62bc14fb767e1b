"""Read names of images on the command line: quoted patterns, runs, tables of labels and participants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainmap import rsa
from brainmap.checks import refuse_some
from brainmap.errors import InputError
from brainmap.types import RDMs

_RUN = re.compile(r"(?:^|[_.+-])run-?([A-Za-z0-9]+)(?=[_.+\[-]|$)")
_SUB = re.compile(r"(?:^|[/_.+-])sub(?:-([A-Za-z0-9]+)|(\d+))(?=[/_.+\[-]|$)")


def expand_patterns(names: Sequence[str], option: str) -> list[str]:
    """List the files that quoted patterns (`*`, `?`) stand for, in the order of their numbers; keep other names.

    Raises
    ------
    InputError
        No file fits a pattern, or a file is named twice.
    """
    from brainmap.rsa.inputs.runs import make_natural_key

    found: list[str] = []
    for name in names:
        if not re.search(r"[*?]", name):
            found.append(name)
            continue
        bare = re.search(r"\+(orig|acpc|tlrc)\.?$", name)  # AFNI users leave the ending out
        pattern = Path(f"{name.removesuffix('.')}.HEAD" if bare else name)
        root = Path(pattern.anchor)
        fits = [str(path) for path in root.glob(str(pattern.relative_to(root)))]
        beside = r"\.BRIK(\.\w+)?$" if pattern.suffix == ".json" else r"\.(BRIK(\.\w+)?|json)$"
        images = [file for file in fits if not re.search(beside, file)]
        if not images:
            raise InputError(f"{option}: expected files that fit {name}, got none; check the pattern")
        found += sorted(images, key=make_natural_key)
    twice = [name for k, name in enumerate(found) if name in found[:k]]
    refuse_some(twice, f"{option}: expected each file once, got ", " more than once; name it once", most=2)
    return found


def read_run_names(images: Sequence[str]) -> list[str] | None:
    """Read the run in each name (`..._run-2_...`); return None if a name has no run, or two names have the same.

    Examples
    --------
    >>> read_run_names(["sub-01_run-1_betas.nii", "sub-01_run-02_betas.nii"]), read_run_names(["a.nii", "b.nii"])
    (['1', '02'], None)
    """
    found = [match[1] if (match := _RUN.search(Path(name).name)) else "" for name in images]
    return found if all(found) and len(set(found)) == len(found) > 1 else None


def choose_labels(labels: Sequence[str] | None, images: Sequence[str]) -> Any:
    """Return what `--labels` says about the images: one word or table for all of them, or one for each run.

    Raises
    ------
    InputError
        There is not one table for each run, the tables are in another order than the runs, or a name has a place other
        than `{run}`.
    """
    given = list(labels or ["sub-brick"])
    runs = read_run_names(images)
    if len(given) == 1 and "{run}" in given[0]:
        return [given[0].replace("{run}", run) for run in runs or map(str, range(1, len(images) + 1))]
    if len(given) == 1:
        return given[0]
    if len(given) != len(images) or any("{" in name for name in given):
        raise InputError(
            f"--labels: expected one file for each of {len(images)} images, got {len(given)}; give one for each, one "
            "for all, or one name with {run}"
        )
    for table, image, one, other in zip(given, images, read_run_names(given) or (), runs or (), strict=False):
        if one.lstrip("0") != other.lstrip("0"):
            raise InputError(
                f"--labels: expected a table of the run of {image}, got {table}; give tables and images in one order"
            )
    return given


def read_participant(name: str) -> str:
    """Read the participant in the name of a file, or else in the folders around it; empty if none of them has one.

    Examples
    --------
    >>> read_participant("maps/sub-01_trained.nii.gz"), read_participant("sub-02/map+tlrc"), read_participant("a.nii")
    ('01', '02', '')
    """
    for text in (Path(name).name, name):
        found = [str(match[1] or match[2]) for match in _SUB.finditer(text)]
        if found:
            return found[-1]
    return ""


def refuse_repeated(maps: Sequence[str], command: str) -> None:
    """Refuse two files of one participant, who would count as two participants.

    Raises
    ------
    InputError
    """
    first: dict[str, str] = {}
    for name in maps:
        label = read_participant(name)
        for who in filter(None, (f"sub-{label}" if label else "", str(Path(name).resolve()))):
            if who in first:
                raise InputError(
                    f"{command}: expected one map of each participant, got {first[who]} and {name} of "
                    f"{who if label else 'one participant'}, who would count twice; leave one out"
                )
            first[who] = name


def load_data_rdms(files: Sequence[Path], *, plain: bool = False) -> RDMs:
    """Load the RDMs of participants into one object; refuse a file or an RDM that occurs twice.

    `plain` ones are for comparisons only, and need no import of rsatoolbox.

    Raises
    ------
    InputError
        A file is given twice, or two RDMs have the same descriptors; their participant would count twice.
    """
    from brainmap.rsa.rdm.files import load_plain_rdms

    seen: dict[Path, Path] = {}
    for file in files:
        if file.resolve() in seen:
            raise InputError(
                f"RDMs: expected each file once, got {file} twice, whose participant would count twice; give it once"
            )
        seen[file.resolve()] = file
    found = rsa.stack_rdms([(load_plain_rdms if plain else rsa.load_rdms)(file) for file in files])
    about = {key: [str(v) for v in values] for key, values in found.rdm_descriptors.items() if key != "index"}
    if "participant" in about:
        each = list(zip(*about.values(), strict=True))
        twice = next((k for k, one in enumerate(each) if one in each[:k]), None)
        if twice is not None:
            told = ", ".join(f"{key} {values[twice]}" for key, values in about.items())
            raise InputError(
                f"RDMs: expected one of each participant, got two of {told}, who would count twice; give one of them"
            )
    return found
