"""The files of one run of one participant, and the file-name patterns that find them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.types import InputKind

PLACES = ("participant", "session", "task", "run")
_PLACE = re.compile(r"\{(\w*)\}")
_VALUE = "[A-Za-z0-9]+"


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """Hold the files of one run, of one image that contains all runs, or of one of several images of a run.

    Attributes
    ----------
    participant, session, task, run : str
        Labels, empty if the file names do not give them.
    kind : {"betas", "bold"}
    image : str
        Name that `load_image` accepts.
    masks : tuple of str
        The brain mask of this run.
    labels : str
        "sub-brick", or the TSV that names the volumes.
    volumes : tuple of (volume, stimulus_id, condition, run)
        What each volume shows, if the layout knows it; `labels` is then ignored.
    events, confounds : str or None
        TSV files of a BOLD run.
    sidecars : tuple of str
        JSON files that describe the image, the most general first.
    residuals : str or None
        Residuals of the model that estimated the betas.
    space : str
        Space from the file names; empty if they give none.
    t_r, start_time : float or None [s]
        Repetition time and start time from the sidecars.
    note : str
        What a layout took from the participant's folder and left out, in words; empty if there is nothing to say.
    """

    participant: str
    session: str = ""
    task: str = ""
    run: str = ""
    kind: InputKind = "betas"
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
    note: str = ""

    @property
    def label(self) -> str:
        """Label of the run among all runs of the participant; the session, if any, comes first.

        Examples
        --------
        >>> RunInputs(participant="01", session="a", run="2").label, RunInputs(participant="01", run="2").label
        ('a-2', '2')
        """
        return "-".join(part for part in (self.session, self.run) if part)


def make_natural_key(text: str) -> list[tuple[int, str]]:
    """Return a sort key that puts 2 before 10.

    Examples
    --------
    >>> sorted(["10", "2", "pre"], key=make_natural_key)
    ['2', '10', 'pre']
    """
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdigit() else (1 << 62, part) for part in parts]


def sort_runs(runs: Iterable[RunInputs]) -> list[RunInputs]:
    """Sort runs by participant, session, task and run."""
    return sorted(runs, key=lambda one: [make_natural_key(getattr(one, place)) for place in PLACES])


def fill_pattern(pattern: str, known: Mapping[str, str]) -> str:
    """Fill known labels into the placeholders of a pattern, and leave the other placeholders.

    Raises
    ------
    InputError
        If a placeholder is unknown.

    Examples
    --------
    >>> fill_pattern("sub-{participant}/run-{run}.nii", {"participant": "01", "run": ""})
    'sub-01/run-{run}.nii'
    """
    for place in _PLACE.findall(pattern):
        if place not in (*PLACES, "hemi"):  # surface files keep {hemi}, because the two files are one image
            wanted = ", ".join(f"{{{p}}}" for p in PLACES)
            raise InputError(
                f"{pattern}: expected the placeholders {wanted}, got {{{place}}}{suggest_word(place, PLACES)}"
            )
    return _PLACE.sub(lambda place: known.get(place[1]) or place[0], pattern)


def match_files(pattern: str) -> list[tuple[dict[str, str], str]]:
    """Find every file or folder on disk that fits a pattern, and return the values of its placeholders with its name.

    A placeholder that occurs twice has the same value both times. AFNI names may omit their ending and carry
    selectors. A pattern without placeholders is returned whether or not such a file exists.

    Raises
    ------
    InputError
        If no file fits; the message lists what lies in the folder.
    """
    if not _PLACE.search(pattern):
        return [({}, pattern)]
    selected = re.search(r"[\[<][^/]*$", pattern)  # an AFNI selector is not part of the file name
    selector = selected.group() if selected else ""
    whole = Path(pattern.removesuffix(selector))
    parts = whole.relative_to(whole.anchor).parts
    found: list[tuple[dict[str, str], Path]] = [({}, Path(whole.anchor))]
    for depth, part in enumerate(parts, start=1):
        last = depth == len(parts)
        if not _PLACE.search(part) and not last:
            found = [(known, path / part) for known, path in found]
            continue
        step: list[tuple[dict[str, str], Path]] = []
        for known, path in found:
            form = _build_expression(part, known, ending=last)
            there = sorted(path.iterdir()) if path.is_dir() else []
            step += [(known | m.groupdict(), p) for p in there if (m := form.fullmatch(p.name))]
        if not step:
            raise InputError(f"expected a file {pattern}, got {_suggest_files([path for _, path in found])}")
        found = step
    return [(known, f"{path}{selector}") for known, path in found]


def match_images(pattern: str) -> list[tuple[dict[str, str], str]]:
    """Match files as `match_files` does, but take the two files of a name with `{hemi}` as one image."""
    matches = match_files(pattern)
    if "{hemi}" not in pattern:
        return matches
    places = [{place: label for place, label in found.items() if place != "hemi"} for found, _ in matches]
    return [(one, fill_pattern(pattern, one)) for k, one in enumerate(places) if one not in places[:k]]


def _build_expression(part: str, known: Mapping[str, str], *, ending: bool) -> re.Pattern[str]:
    """Return the regular expression of one folder or file name."""
    text, seen = "", set()
    for k, piece in enumerate(_PLACE.split(part)):  # text and placeholder names alternate
        if k % 2 == 0 or piece in known:
            text += re.escape(known[piece] if k % 2 else piece)
        elif piece in seen:
            text += f"(?P={piece})"
        else:
            seen.add(piece)
            text += f"(?P<{piece}>{_VALUE})"
    if ending and re.search(r"\\\+(orig|acpc|tlrc)(\\\.)?$", text):  # AFNI users omit the ending
        text = text.removesuffix(r"\.") + r"\.HEAD"
    return re.compile(text)


def _suggest_files(folders: Sequence[Path]) -> str:
    if len(folders) == 1 and not folders[0].is_dir():
        return f"no folder {folders[0]}"
    return list_some([p.name for folder in folders for p in sorted(folder.glob("*"))], 4) or "an empty folder"
