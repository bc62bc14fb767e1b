"""Read BIDS folders as far as fMRI inputs need them: names, inherited files, and the runs of a participant.

References
----------
Gorgolewski et al. (2016), https://doi.org/10.1038/sdata.2016.44
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainmap.checks import list_some, refuse_some, suggest_word
from brainmap.errors import InputError
from brainmap.rsa.glm.timing import merge_sidecars
from brainmap.rsa.inputs.runs import RunInputs, make_natural_key
from brainmap.types import InputKind

_IMAGES = ("nii", "nii.gz", "HEAD")
_NATIVE = ("", "T1w", "boldref", "func")  # values of `space` for which "native" stands
_BETAS = ("statmap", "betas", "beta")
_EFFECTS = ("", "effect", "beta", "betas")


@dataclass(frozen=True)
class BidsFile:
    """Hold a file by the parts of its name: entities in order, suffix, and extension (all after the first dot)."""

    path: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str

    def get(self, entity: str) -> str:
        """Return the value of an entity; empty if the name lacks it."""
        return self.entities.get(entity, "")


def parse_name(path: str | Path) -> BidsFile | None:
    """Parse a BIDS name; return None for any other name.

    Examples
    --------
    >>> file = parse_name("sub-01_task-words_run-2_space-T1w_desc-preproc_bold.nii.gz")
    >>> file.entities["run"], file.suffix, file.extension
    ('2', 'bold', 'nii.gz')
    >>> parse_name("notes on sub-01.txt") is None
    True
    """
    path = Path(path)
    stem, _, extension = path.name.partition(".")
    *pairs, suffix = stem.split("_")
    found = [re.fullmatch(r"([a-zA-Z]+)-([A-Za-z0-9+]+)", pair) for pair in pairs]
    entities = {m[1]: m[2] for m in found if m}
    if not extension or len(entities) != len(pairs) or "-" in suffix:
        return None
    return BidsFile(path, entities, re.sub(r"\+(orig|acpc|tlrc)$", "", suffix), extension)


def list_files(folder: Path) -> list[BidsFile]:
    """List the files of a folder that have BIDS names."""
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for path in there if path.is_file() and (file := parse_name(path))]


def list_participants(folder: Path) -> list[str]:
    """List the labels of the participants of a BIDS folder."""
    return sorted((p.name.removeprefix("sub-") for p in folder.glob("sub-*") if p.is_dir()), key=make_natural_key)


def find_raw(folder: Path) -> Path | None:
    """Find the raw data set of derivatives: from their description, else the enclosing folder."""
    try:
        about = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
        links = [about.get("DatasetLinks", {}).get("raw"), *(s.get("URL") for s in about.get("SourceDatasets", []))]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        links = []
    for link in (str(link).removeprefix("file://") for link in links if link):
        if (folder / link).is_dir() and list_participants(folder / link):
            return (folder / link).resolve()
    above = [parent.parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.name == "derivatives"]
    return next((parent for parent in above if list_participants(parent)), None)


def find_inherited(roots: Sequence[Path], image: BidsFile, suffix: str, extension: str) -> list[Path]:
    """Find files that apply to an image by BIDS inheritance: in its folder or above, with no entity that it lacks.

    The most general file comes first.
    """
    found: list[tuple[int, int, Path]] = []
    for root in roots:
        levels = [root, root / f"sub-{image.get('sub')}"]
        levels += [levels[-1] / f"ses-{image.get('ses')}"] if image.get("ses") else []
        for depth, folder in enumerate((*levels, levels[-1] / "func")):
            for file in list_files(folder):
                own = {key: value for key, value in file.entities.items() if key not in ("desc", "space", "res")}
                holds = all(image.get(key) == value for key, value in own.items())
                described = all(image.get(key) == file.get(key) for key in ("desc", "space", "res") if file.get(key))
                if holds and described and (file.suffix, file.extension) == (suffix, extension):
                    found.append((depth, len(file.entities), file.path))
    return [path for _, _, path in sorted(found)]


def find_runs(
    folder: Path,
    participant: str,
    *,
    kind: InputKind,
    task: str | None,
    space: str | None,
    desc: str | None,
    sessions: Sequence[str] | None,
    entities: Mapping[str, str],
    raw: Path | None,
) -> list[RunInputs]:
    """Find the runs of one participant with their companion files; options as in `layouts.find_inputs`."""
    own = folder / f"sub-{participant}"
    if not own.is_dir():
        there = list_participants(folder)
        hint = f"; found {list_some(there)}{suggest_word(participant, there)}" if there else ", nor that of any other"
        raise InputError(f"participant {participant}: there is no folder {own}{hint}")
    files = [file for place in (own, *sorted(own.glob("ses-*"))) for file in list_files(place / "func")]
    wanted = {"task": task, "space": space, "desc": desc, **entities}
    chosen = _choose_images(files, participant, kind, wanted, sessions)
    roots = [root for root in (raw or find_raw(folder), folder) if root is not None]
    return [_build_run(file, files, roots, participant, kind) for file in chosen]


def _choose_images(
    files: Sequence[BidsFile],
    participant: str,
    kind: InputKind,
    wanted: Mapping[str, str | None],
    sessions: Sequence[str] | None,
) -> list[BidsFile]:
    """Choose one image per session and run (and contrast) that fits the request; all agree in every other entity."""
    images = [file for file in files if file.extension in _IMAGES and _is_kind(file, kind)]
    if wanted.get("desc") is None and any(file.get("desc") == "preproc" for file in images):
        wanted = {**wanted, "desc": "preproc"}  # the output of fMRIPrep, whatever else lies beside it
    left = images
    for entity, value in wanted.items():
        if value is None:
            continue
        fits = _NATIVE if entity == "space" and value == "native" else (value,)
        found = [file for file in left if file.get(entity) in fits]
        if not found:
            there = sorted({file.get(entity) for file in left})
            named = list_some([f"{entity}-{v}" if v else f"no {entity}" for v in there]) or f"no {kind} image at all"
            hint = suggest_word(value, there)
            raise InputError(
                f"participant {participant}: expected a {kind} image with {entity}-{value}, got {named}{hint}"
            )
        left = found
    if sessions is not None:
        absent = [s for s in sessions if s not in {file.get("ses") for file in left}]
        if absent:
            there = sorted({file.get("ses") for file in left})
            raise InputError(
                f"participant {participant}: expected an image of session {list_some(absent)}, got only "
                f"{list_some(there)}"
            )
        left = [file for file in left if file.get("ses") in sessions]
    if not left:
        folders = list_some(sorted({str(file.path.parent) for file in files}))
        where = folders or "its func folders, which are empty or absent"
        raise InputError(f"participant {participant}: there is no {kind} image in {where}")
    _check_alike(left, participant)
    return left


def _is_kind(file: BidsFile, kind: InputKind) -> bool:
    if kind == "bold":
        return file.suffix == "bold"
    return file.suffix in _BETAS and file.get("stat") in _EFFECTS


def _check_alike(images: Sequence[BidsFile], participant: str) -> None:
    """Refuse two images for one run, and runs that differ in entities other than session and run."""
    for entity in dict.fromkeys(key for file in images for key in file.entities):
        values = sorted({file.get(entity) for file in images})
        if entity not in ("sub", "ses", "run", "contrast") and len(values) > 1:
            said = list_some([f"{entity}-{value}" if value else f"no {entity}" for value in values])
            key = entity if entity in ("task", "space", "desc") else f"entities = {{ {entity} = ... }}; one"
            raise InputError(f"participant {participant}: the images differ in {said}; say which you mean ({key})")
    runs = [(file.get("ses"), file.get("run"), file.get("contrast")) for file in images]
    refuse_some(
        [file.path.name for file, run in zip(images, runs, strict=True) if runs.count(run) > 1],
        f"participant {participant}: there is more than one image for a run: ",
        "; remove one",
    )


def _build_run(
    image: BidsFile, files: Sequence[BidsFile], roots: Sequence[Path], participant: str, kind: InputKind
) -> RunInputs:
    """Return an image with its mask, confounds, events, labels and sidecars."""
    sidecars = find_inherited(roots, image, image.suffix, "json")
    said = merge_sidecars(sidecars)
    events = find_inherited(roots, image, "events", "tsv")
    beside = image.path.with_name(re.sub(r"(\+\w+)?\.\w+(\.gz)?$", ".tsv", image.path.name))
    labels = str(beside) if kind == "betas" and beside.is_file() else "sub-brick"
    left = list(_find_companions(image, files, ("residuals",), image.get("desc"), _IMAGES)) if kind == "betas" else []
    made = RunInputs(
        participant=participant,
        session=image.get("ses"),
        task=image.get("task"),
        run=image.get("run"),
        kind=kind,
        image=str(image.path),
        masks=tuple(str(path) for path in _find_companions(image, files, ("mask",), "brain", _IMAGES)),
        labels=labels,
        events=str(events[-1]) if events and kind == "bold" else None,
        confounds=next(
            (str(p) for p in _find_companions(image, files, ("timeseries", "regressors"), "confounds")), None
        ),
        sidecars=tuple(map(str, sidecars)),
        residuals=str(left[0]) if left else None,
        space=image.get("space"),
        t_r=_read_seconds(said, "RepetitionTime", sidecars),
        start_time=_read_seconds(said, "StartTime", sidecars),
    )
    contrast = image.get("contrast")  # one image per condition, as nilearn and fitlins write them
    return replace(made, volumes=((0, contrast, contrast, made.label),)) if contrast and kind == "betas" else made


def _find_companions(
    image: BidsFile, files: Sequence[BidsFile], suffixes: Sequence[str], desc: str, kinds: Sequence[str] = ("tsv",)
) -> Iterator[Path]:
    """Find files of the same run (images: on the same grid) with another suffix."""
    same = ["ses", "task", "acq", "ce", "rec", "dir", "run"] + (["space", "res", "den"] if kinds == _IMAGES else [])
    for file in files:
        right = file.suffix in suffixes and file.get("desc") == desc and file.extension in kinds
        if right and all(file.get(entity) == image.get(entity) for entity in same):
            yield file.path


def _read_seconds(said: Mapping[str, Any], key: str, paths: Sequence[Path]) -> float | None:
    value = said.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < 1000 or (key == "RepetitionTime" and value == 0):
        raise InputError(f"{list_some([str(p) for p in paths[-2:]])}: expected seconds for {key}, got {value!r}")
    return float(value)
