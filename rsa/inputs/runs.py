"""What one run of one participant is made of on disk, and patterns of file names that find it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from brainmap.checks import nearest, some
from brainmap.errors import InputError

Kind = Literal["betas", "bold"]
PLACES = ("participant", "session", "task", "run")
_PLACE = re.compile(r"\{(\w*)\}")
_VALUE = "[A-Za-z0-9]+"


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """The files of one run, or of one image that holds all runs.

    Attributes
    ----------
    participant, session, task, run : str
        Labels, empty where the names do not say.
    kind : {"betas", "bold"}
    image : str
        As `load_image` takes it.
    masks : tuple of str
        The brain mask of this run.
    labels : str
        "sub-brick", or the TSV that names the volumes.
    volumes : tuple of (volume, stimulus_id, condition, run)
        Which volume shows what, where the layout knows; then `labels` is not looked at.
    events, confounds : str or None
        TSV files of a BOLD run.
    sidecars : tuple of str
        JSON files that describe the image, the most general first.
    residuals : str or None
        What the model of the betas left over.
    space : str
        As the names say; empty where they do not.
    t_r, start_time : float or None [s]
        As the sidecars say.
    """

    participant: str
    session: str = ""
    task: str = ""
    run: str = ""
    kind: Kind = "betas"
    image: str = ""
    masks: tuple[str, ...] = ()
    labels: str = "sub-brick"
    volumes: tuple[tuple[int, str, str, str], ...] = ()
    events: str | None = None
    confounds: str | None = None
    sidecars: tuple[str, ...] = ()
    residuals: str | None = None
    space: str = ""
    t_r: float | None = None
    start_time: float | None = None

    @property
    def label(self) -> str:
        """The run among all of the participant: its session goes in front.

        Examples
        --------
        >>> RunInputs(participant="01", session="a", run="2").label, RunInputs(participant="01", run="2").label
        ('a-2', '2')
        """
        return "-".join(part for part in (self.session, self.run) if part)


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10.

    Examples
    --------
    >>> sorted(["10", "2", "pre"], key=natural)
    ['2', '10', 'pre']
    """
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdigit() else (1 << 62, part) for part in parts]


def in_order(runs: Iterable[RunInputs]) -> list[RunInputs]:
    """By participant, session, task and run."""
    return sorted(runs, key=lambda one: [natural(getattr(one, place)) for place in PLACES])


def fill(pattern: str, known: Mapping[str, str]) -> str:
    """Put labels in their places, and leave the places of which nothing is known.

    Raises
    ------
    InputError
        A place that does not exist.

    Examples
    --------
    >>> fill("sub-{participant}/run-{run}.nii", {"participant": "01", "run": ""})
    'sub-01/run-{run}.nii'
    """
    for place in _PLACE.findall(pattern):
        if place not in (*PLACES, "hemi"):  # files of a surface keep {hemi}: the two of them are one image
            wanted = ", ".join(f"{{{p}}}" for p in PLACES)
            raise InputError(f"{pattern}: {{{place}}} stands for nothing; wanted {wanted}{nearest(place, PLACES)}")
    return _PLACE.sub(lambda place: known.get(place[1]) or place[0], pattern)


def match_files(pattern: str) -> list[tuple[dict[str, str], str]]:
    """What the places of a pattern stand for, and the name this gives, for every file on disk that fits it.

    A place that comes twice stands for the same both times. AFNI names may leave out their ending and carry
    selectors. A pattern without places is given back whether or not there is such a file.

    Raises
    ------
    InputError
        No file fits; what lies where they were looked for.
    """
    if not _PLACE.search(pattern):
        return [({}, pattern)]
    selected = re.search(r"[\[<][^/]*$", pattern)  # an AFNI selector is no part of the file's name
    selector = selected.group() if selected else ""
    parts = Path(pattern.removesuffix(selector)).parts
    found: list[tuple[dict[str, str], Path]] = [({}, Path(parts[0]))]
    for depth, part in enumerate(parts[1:], start=2):
        last = depth == len(parts)
        if not _PLACE.search(part) and not last:
            found = [(known, path / part) for known, path in found]
            continue
        step: list[tuple[dict[str, str], Path]] = []
        for known, path in found:
            form = _form(part, known, ending=last)
            there = sorted(path.iterdir()) if path.is_dir() else []
            step += [(known | m.groupdict(), p) for p in there if (m := form.fullmatch(p.name))]
        if not step:
            raise InputError(f"no file {pattern}; found {_beside([path for _, path in found])}")
        found = step
    return [(known, f"{path}{selector}") for known, path in found]


def _form(part: str, known: Mapping[str, str], *, ending: bool) -> re.Pattern[str]:
    """The expression of one folder or file name."""
    text, seen = "", set()
    for k, piece in enumerate(_PLACE.split(part)):  # text and names of places take turns
        if k % 2 == 0 or piece in known:
            text += re.escape(known[piece] if k % 2 else piece)
        elif piece in seen:
            text += f"(?P={piece})"
        else:
            seen.add(piece)
            text += f"(?P<{piece}>{_VALUE})"
    if ending and re.search(r"\\\+(orig|acpc|tlrc)(\\\.)?$", text):  # AFNI users leave the ending out
        text = text.removesuffix(r"\.") + r"\.HEAD"
    return re.compile(text)


def _beside(folders: Sequence[Path]) -> str:
    if len(folders) == 1 and not folders[0].is_dir():
        return f"no folder {folders[0]}"
    return some([p.name for folder in folders for p in sorted(folder.glob("*"))], 4) or "an empty folder"
