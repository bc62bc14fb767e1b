"""Images of a participant's runs as a command line names them: by patterns, with their runs and tables of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainmap.checks import some
from brainmap.errors import InputError

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

_RUN = re.compile(r"(?:^|[_.+-])run-?([A-Za-z0-9]+)(?=[_.+\[-]|$)")
_SUB = re.compile(r"(?:^|[/_.+-])sub(?:-([A-Za-z0-9]+)|(\d+))(?=[/_.+\[-]|$)")


def expanded(names: Sequence[str], option: str) -> list[str]:
    """The files that quoted patterns (`*`, `?`) stand for, in the order of their numbers; other names as they are.

    Raises
    ------
    InputError
        A pattern that no file fits, or a file named twice.
    """
    from brainmap.rsa.inputs.runs import natural

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
            raise InputError(f"{option}: no file fits {name}")
        found += sorted(images, key=natural)
    twice = [name for k, name in enumerate(found) if name in found[:k]]
    if twice:
        raise InputError(f"{option}: {some(twice, 2)} is named more than once")
    return found


def runs_named(images: Sequence[str]) -> list[str] | None:
    """The run that each name tells (`..._run-2_...`); None where one is silent, or two tell the same.

    Examples
    --------
    >>> runs_named(["sub-01_run-1_betas.nii", "sub-01_run-02_betas.nii"]), runs_named(["a.nii", "b.nii"])
    (['1', '02'], None)
    """
    found = [match[1] if (match := _RUN.search(Path(name).name)) else "" for name in images]
    return found if all(found) and len(set(found)) == len(found) > 1 else None


def labels_of(labels: Sequence[str] | None, images: Sequence[str]) -> Any:
    """What `--labels` says of the images: one word or table for all, or one for each run.

    Raises
    ------
    InputError
        Not one table a run, tables in another order than the runs, a place other than `{run}`.
    """
    given = list(labels or ["sub-brick"])
    runs = runs_named(images)
    if len(given) == 1 and "{run}" in given[0]:
        return [given[0].replace("{run}", run) for run in runs or map(str, range(1, len(images) + 1))]
    if len(given) == 1:
        return given[0]
    if len(given) != len(images) or any("{" in name for name in given):
        raise InputError(
            f"--labels: {len(given)} files for {len(images)} images, wanted one for all, one for each (a run), or one "
            "name with {run}"
        )
    for table, image, one, other in zip(given, images, runs_named(given) or (), runs or (), strict=False):
        if one.lstrip("0") != other.lstrip("0"):
            raise InputError(f"--labels: {table} would be of {image}, and names another run; give both in one order")
    return given


def participant_of(name: str) -> str:
    """The participant that a file's name tells, else the folders around it; empty where none does.

    Examples
    --------
    >>> participant_of("maps/sub-01_trained.nii.gz"), participant_of("sub-02/map+tlrc"), participant_of("a.nii")
    ('01', '02', '')
    """
    for text in (Path(name).name, name):
        found = [str(match[1] or match[2]) for match in _SUB.finditer(text)]
        if found:
            return found[-1]
    return ""


def refuse_repeated(maps: Sequence[str], command: str) -> None:
    """Refuse two files of one participant, who would count as two people.

    Raises
    ------
    InputError
    """
    first: dict[str, str] = {}
    for name in maps:
        label = participant_of(name)
        for who in filter(None, (f"sub-{label}" if label else "", str(Path(name).resolve()))):
            if who in first:
                raise InputError(
                    f"{command}: {first[who]} and {name} are both of {who if label else 'one person'}, who would count "
                    "twice; give one map a participant"
                )
            first[who] = name


def load_data_rdms(files: Sequence[Path]) -> RDMs:
    """The RDMs of participants, as one object; a file or an RDM that comes twice would count as two people.

    Raises
    ------
    InputError
        A file given twice, or two RDMs of which everything that describes them is the same.
    """
    from brainmap.rsa.rdm.alignment import stack_rdms
    from brainmap.rsa.rdm.files import load_rdms

    seen: dict[Path, Path] = {}
    for file in files:
        if file.resolve() in seen:
            raise InputError(f"RDMs: {file} is given twice, and its participant would count as two; give it once")
        seen[file.resolve()] = file
    found = stack_rdms([load_rdms(file) for file in files])
    about = {key: [str(v) for v in values] for key, values in found.rdm_descriptors.items() if key != "index"}
    if "participant" in about:
        each = list(zip(*about.values(), strict=True))
        twice = next((k for k, one in enumerate(each) if one in each[:k]), None)
        if twice is not None:
            told = ", ".join(f"{key} {values[twice]}" for key, values in about.items())
            raise InputError(f"RDMs: two are of {told}, who would count twice; give one of them")
    return found
