"""Find the inputs of a study in different folder layouts: name patterns, BIDS, afni_proc results, SPM models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import pandas as pd

from brainmap.checks import check_literals, list_some
from brainmap.errors import InputError
from brainmap.groups import group_pairs
from brainmap.rsa.images.files import image_info
from brainmap.rsa.inputs import afni_proc as _afni_proc, bids as _bids, spm as _spm
from brainmap.rsa.inputs.runs import RunInputs as RunInputs, fill_pattern, match_files, match_images, sort_runs
from brainmap.rsa.patterns.volume import load_patterns
from brainmap.types import Dataset, InputKind, Layout


def find_inputs(
    where: str | Path,
    *,
    layout: Layout = "files",
    participants: Sequence[str] | None = None,
    kind: InputKind = "betas",
    task: str | None = None,
    space: str | None = None,
    desc: str | None = None,
    sessions: Sequence[str] | None = None,
    entities: Mapping[str, str] | None = None,
    raw: str | Path | None = None,
    mask: str | None = None,
    labels: str | None = None,
    events: str | None = None,
    confounds: str | None = None,
) -> list[RunInputs]:
    """Find the images of every participant, session and run, with their companion files.

    Parameters
    ----------
    where : str or Path
        "files": a pattern of image names in which `{participant}`, `{session}`, `{task}` and `{run}` stand for labels
        of letters and digits. "bids": a folder of derivatives (fMRIPrep's, or a GLM's). "afni_proc": a folder that
        contains `stats.<participant>+tlrc` or `+orig` files at some depth. "spm": a pattern of first-level folders,
        `sub-{participant}/first_level`, each with `SPM.mat`, or with betas whose headers name their regressors.
    layout : {"files", "bids", "afni_proc", "spm"}
    participants : sequence of str, optional
        Labels of the participants, without `sub-`. By default all participants that are found.
    kind : {"betas", "bold"}
    task, space, desc : str, optional
        Required values of these entities. In BIDS, `space="native"` means no space or T1w, and `desc` is by default
        "preproc" if there is such an image. With afni_proc, `desc` is the fit: "REML" (the default if it exists) or
        "OLS".
    sessions : sequence of str, optional
        Sessions to include; by default all.
    entities : mapping of str to str, optional
        Required values of further BIDS entities: `{"res": "2"}`.
    raw : path, optional
        The BIDS folder that holds `events.tsv`. By default it is the one that `dataset_description.json` names, or the
        folder around `derivatives`.
    mask, labels, events, confounds : str, optional
        Patterns of files that belong to each image; they take precedence over files that the layout finds.

    Returns
    -------
    list of RunInputs
        Runs in order of participant, session, task and run (2 before 10). Of SPM, an entry per beta: only the
        regressors `Sn(k) NAME*bf(1)` of conditions are patterns, k is their run, and `note` counts what is left out
        (parametric modulators, derivatives of the response, regressors of no interest, constants).

    Raises
    ------
    InputError
        If nothing is found, two images match one run, or images differ in an entity that was not specified.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for run in (1, 2, 10):
    ...         Path(folder, f"sub-01_run-{run}.nii").touch()
    ...     [one.run for one in find_inputs(f"{folder}/sub-{{participant}}_run-{{run}}.nii")]
    ['1', '2', '10']
    """
    check_literals((layout, Layout, "layout"), (kind, InputKind, "kind"))
    if layout == "files":
        found = _find_by_pattern(str(where), participants, kind, task, sessions)
    elif layout == "spm":
        found = _find_in_spm(str(where), participants, kind, sessions)
    else:
        folder = Path(where)
        if not folder.is_dir():
            raise InputError(f"layout {layout}: there is no folder {folder}")
        found = (
            _find_in_bids(
                folder,
                participants,
                kind=kind,
                task=task,
                space=space,
                desc=desc,
                sessions=sessions,
                entities=dict(entities or {}),
                raw=None if raw is None else Path(raw),
            )
            if layout == "bids"
            else _find_in_afni_proc(folder, participants, kind, desc, space)
        )
    given = {"masks": mask, "labels": labels, "events": events, "confounds": confounds}
    return sort_runs(
        _add_files(one, {key: value for key, value in given.items() if value is not None}) for one in found
    )


def _find_by_pattern(
    pattern: str, participants: Sequence[str] | None, kind: InputKind, task: str | None, sessions: Sequence[str] | None
) -> list[RunInputs]:
    found = []
    if re.search(r"[*?]", re.split(r"[\[<]", pattern)[0]):
        raise InputError(
            f"files: expected a name in which {{run}} stands for the label of a run, got {pattern!r} with * or ? of a "
            "shell; write {run} in its place, or for SPM's beta_*.nii take layout = 'spm' and folder = for files"
        )
    for participant in participants or [""]:
        known = {"participant": participant, "task": task or ""}
        who = f"participant {participant}: " if participant else ""
        filled = fill_pattern(pattern, known)
        try:
            matches = match_images(filled)
        except InputError as error:
            raise InputError(f"{who}{error}") from None
        here = [
            RunInputs(**{**_drop_empty(known), **places}, kind=kind, image=image)  # type: ignore[arg-type]
            for places, image in matches
            if sessions is None or places.get("session", "") in ("", *sessions)
        ]
        if not here:
            raise InputError(f"{who}there is no file {filled} of session {list_some(sessions or ())}")
        if here[0].run and len(here) > 1 and _spm.is_beta(here[0].image):
            raise InputError(
                f"{who}expected an image a run, got {list_some([Path(one.image).name for one in here], 3)}, which SPM "
                "wrote as a beta each; take layout = 'spm' and folder = in place of files"
            )
        tasks = sorted({one.task for one in here})
        if len(tasks) > 1:
            raise InputError(f"{who}{pattern} finds the tasks {list_some(tasks)}; say which you mean (task)")
        found += here
    return found


def _drop_empty(labels: Mapping[str, str]) -> dict[str, str]:
    return {place: label for place, label in labels.items() if label}


def _find_in_bids(folder: Path, participants: Sequence[str] | None, **options: Any) -> list[RunInputs]:
    labels = participants or _bids.list_participants(folder)
    if not labels:
        raise InputError(f"layout bids: there is no folder sub-* in {folder}")
    return [run for label in labels for run in _bids.find_runs(folder, label, **options)]


def _find_in_afni_proc(
    folder: Path, participants: Sequence[str] | None, kind: InputKind, desc: str | None, space: str | None
) -> list[RunInputs]:
    if kind == "bold":
        raise InputError(
            "layout afni_proc: this layout gives betas, not BOLD; for BOLD give files = "
            "'pb04.{participant}.r{run}.scale+tlrc'"
        )
    stats = _afni_proc.find_stats(folder)
    labels = participants or sorted(stats)
    if not labels:
        raise InputError(
            f"layout afni_proc: there is no stats.* below {folder}; is it a folder of afni_proc.py results?"
        )
    return [run for label in labels for run in _afni_proc.find_runs(folder, label, stats, fit=desc, space=space)]


def _find_in_spm(
    pattern: str, participants: Sequence[str] | None, kind: InputKind, sessions: Sequence[str] | None
) -> list[RunInputs]:
    if kind == "bold":
        raise InputError("layout spm: this layout gives betas, not BOLD; for BOLD give files = with {run}")
    found = []
    for participant in participants or [""]:
        filled = fill_pattern(pattern, {"participant": participant})
        for places, folder in match_files(filled):
            who = places.get("participant", participant)
            if sessions is None or places.get("session", "") in sessions:
                of_folder = {place: places.get(place, "") for place in ("session", "run")}
                found += _spm.find_runs(Path(folder), who, **of_folder)
    if not found:
        raise InputError(f"layout spm: there is no folder {pattern} of session {list_some(sessions or ())}")
    return found


def _add_files(one: RunInputs, patterns: Mapping[str, str]) -> RunInputs:
    """Return the run with the files that further patterns name."""
    places = _drop_empty({place: getattr(one, place) for place in ("participant", "session", "task", "run")})
    changes: dict[str, Any] = {}
    for what, pattern in patterns.items():
        if pattern == "sub-brick":
            changes |= {"labels": pattern, "volumes": ()}
            continue
        name = fill_pattern(pattern, places)
        if "{" in name and what != "masks":
            raise InputError(
                f"{what} {pattern}: the images {one.image} do not tell the value of {name[name.index('{') :]}"
            )
        changes |= {"masks": (name,)} if what == "masks" else {what: name}
        changes |= {"volumes": ()} if what == "labels" else {}
    return replace(one, **changes)


def inputs_table(inputs: Sequence[RunInputs]) -> pd.DataFrame:
    """Tabulate the inputs that were found, one row per run, from names and headers alone.

    Several images of one run, such as SPM's betas, have one row.

    Parameters
    ----------
    inputs : sequence of RunInputs
        As `find_inputs` returns them.

    Returns
    -------
    DataFrame
        `participant`, `session`, `task`, `run`, `image` (name of the first), `volumes` (of all images), `grid`,
        `voxel_mm`, `t_r` [s] and `space` (from the header or the sidecar), `mask`, `labels`, `events`, `confounds`
        (names, empty if there is none).

    Raises
    ------
    InputError
        If an image cannot be read.
    """
    rows = []
    of_run = group_pairs(((one.participant, one.session, one.task, one.run), one) for one in inputs)
    for one, *others in of_run.values():
        info = image_info(one.image)
        sides = nib.affines.voxel_sizes(info.affine)
        names = {
            what: Path(value).name if value else ""
            for what, value in {
                "mask": next(iter(one.masks), ""),
                "labels": "" if one.volumes else one.labels,
                "events": one.events,
                "confounds": one.confounds,
            }.items()
        }
        if one.volumes:
            names["labels"] = f"{sum(len(each.volumes) for each in (one, *others))} betas by the design"
        rows.append(
            {
                "participant": one.participant,
                "session": one.session,
                "task": one.task,
                "run": one.run,
                "image": Path(one.image).name + (f" and {len(others)} more" if others else ""),
                "volumes": sum(len(image_info(each.image).labels) for each in (one, *others)),
                "grid": " x ".join(map(str, info.shape[:3])),
                "voxel_mm": " x ".join(f"{side:.3g}" for side in sides),
                "t_r": read_repetition_time(one),
                "space": one.space or info.space,
                **names,
            }
        )
    return pd.DataFrame(rows)


def read_repetition_time(one: RunInputs) -> float | None:
    """Return the repetition time [s] of a run, from its sidecar or its header.

    Raises
    ------
    InputError
        If the two contradict each other.
    """
    header = image_info(one.image).t_r
    if header and one.t_r and abs(header - one.t_r) > 1e-3 * one.t_r:
        raise InputError(
            f"{one.image}: the header says a TR of {header:g} s, its sidecar {one.t_r:g} s; correct the wrong one"
        )
    return one.t_r or header


def load_inputs(inputs: Sequence[RunInputs], **given: Any) -> Dataset:
    """Load the patterns of one participant's inputs; `given` is passed on to `load_patterns` (`rois`, `stimuli`, ...).

    Parameters
    ----------
    inputs : sequence of RunInputs
        The runs of one participant, as `find_inputs` returns them.
    **given
        Further arguments of `load_patterns` (`rois`, `stimuli`, ...).

    Returns
    -------
    rsatoolbox.data.Dataset
        As `load_patterns` returns it.

    Raises
    ------
    InputError
        As `load_patterns`, and if the inputs belong to several participants, are BOLD, or have no mask.
    """
    arguments: dict[str, Any] = {**build_pattern_arguments(inputs), **given}
    if arguments.get("mask") is None:
        raise InputError(f"participant {inputs[0].participant}: no brain mask was found; give mask=")
    data: Dataset = load_patterns(**arguments)
    return data


def build_pattern_arguments(inputs: Sequence[RunInputs]) -> dict[str, Any]:
    """Return the arguments of `load_patterns` that one participant's inputs determine."""
    people = sorted({one.participant for one in inputs})
    if len(people) != 1:
        raise InputError(
            f"inputs: expected those of one participant, got {len(people)} participants ({list_some(people)})"
        )
    if any(one.kind == "bold" for one in inputs):
        raise InputError(f"participant {people[0]}: expected betas, got BOLD runs; fit them first (rsa.fit_betas)")
    several = len(inputs) > 1
    masks = list(dict.fromkeys(mask for one in inputs for mask in one.masks))
    labels: list[Any] = [build_volume_table(one) if one.volumes else one.labels for one in inputs]
    alike = not any(one.volumes for one in inputs) and len(set(labels)) == 1
    return {
        "files": [one.image for one in inputs] if several else inputs[0].image,
        "mask": None if not masks else masks if len(masks) > 1 else masks[0],
        "conditions": labels[0] if alike or not several else labels,
        "runs": [one.label for one in inputs] if several else None,
        "participant": people[0],
    }


def build_volume_table(one: RunInputs) -> pd.DataFrame:
    """Return the table for `load_patterns` that lists what each volume shows."""
    return pd.DataFrame(one.volumes, columns=["volume", "stimulus_id", "condition", "run"])
