"""Look at every input of a study before anything is computed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from brainmap.checks import some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.layers import select_layers
from brainmap.features.running import evaluating
from brainmap.rsa.patterns import check_patterns
from brainmap.rsa.rois import load_rois
from brainmap.stages.context import Context
from brainmap.stages.networks import Loaded, check_items, load
from brainmap.stages.participants import pattern_arguments
from brainmap.study import Participant


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a check found.

    Attributes
    ----------
    table : DataFrame
        A row a participant: format, runs, ROIs, problems.
    problems : tuple of str
        One line each; the study runs only without any.
    notes : tuple of str
        Things that change numbers and are allowed.
    """

    table: pd.DataFrame
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def refuse(self) -> None:
        """Raise an `InputError` with every problem, where there is one."""
        if self.problems:
            raise InputError("\n".join(self.problems))


def check_study(context: Context) -> Findings:
    """Check sounds, networks, images, masks, ROIs, labels, runs and the output folder; nothing is written.

    Returns
    -------
    Findings
    """
    problems: list[str] = []
    rows = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BrainmapWarning)
        _gather(problems, lambda: check_output(context))
        for network in context.study.settings.network:
            _gather(problems, lambda n=network: _check_network(context, load(context, n)))
        people: list[Participant] = []
        _gather(problems, lambda: people.extend(context.study.participants()))
        truth = context.study.settings.truth
        if truth is not None:
            _gather(problems, lambda: context.digest(context.study.resolve(truth.table)))
        if not any(p.startswith("sounds") for p in problems):
            for person in people:
                found = _check_person(context, person)
                problems += found
                rows.append(
                    {
                        "participant": person.label,
                        "files": len(person.files),
                        "first file": person.files[0].rsplit("/", 1)[-1],
                        "runs": ", ".join(person.runs) or "one",
                        "space": person.brain.space,
                        "problems": len(found) or "none",
                    }
                )
    notes = tuple(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, BrainmapWarning)))
    return Findings(table=pd.DataFrame(rows), problems=tuple(dict.fromkeys(problems)), notes=notes)


def _gather(problems: list[str], check: Callable[[], object]) -> None:
    try:
        check()
    except InputError as error:
        problems += str(error).splitlines()


def check_output(context: Context) -> None:
    """Refuse an output folder that holds another study, or something that is no study of ours."""
    out, name = context.study.out, context.study.settings.study.name
    if out.is_file():
        raise InputError(f"[study] out: {out} is a file, wanted a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    description = out / "dataset_description.json"
    try:
        found = json.loads(description.read_text()).get("Study")
    except (FileNotFoundError, json.JSONDecodeError, AttributeError):
        raise InputError(
            f"[study] out: {out} holds files that are no results of brainmap; name an empty or new folder"
        ) from None
    if found != name:
        raise InputError(
            f"[study] out: {out} holds the results of another study ({found!r}, this one is {name!r}); name another folder"
        )


def _check_network(context: Context, loaded: Loaded) -> None:
    """The sounds can all be read, the layers exist, and one sound goes through."""
    where = f"[network] {loaded.settings.name}"
    check_items(context, loaded)
    loaded.sounds.digest  # noqa: B018  # reads every sound to its end
    first = loaded.sounds.take([0])
    with evaluating(loaded.model), torch.no_grad():
        try:
            loaded.model(torch.from_numpy(np.array(first.waveforms)))
        except RuntimeError as error:
            raise InputError(
                f"{where}: the network refuses a sound of shape {first.waveforms.shape}: "
                f"{str(error).splitlines()[0]}; check rate and seconds"
            ) from None
    layers = loaded.settings.layers
    select_layers(loaded.model, first, layers if isinstance(layers, str) else list(layers))


def _check_person(context: Context, person: Participant) -> list[str]:
    """What is wrong with a participant's files, from headers, tables, mask and ROIs."""
    problems: list[str] = []
    regions, who = person.brain.rois, f"participant {person.label}: "
    try:
        load_rois(
            person.roi_image,
            table=person.roi_table,
            mask=person.mask,
            minimum_voxels=regions.minimum_voxels,
            hemispheres=regions.hemispheres,
        )
    except InputError as error:
        problems.append(f"{who}{error}")
    problems += check_patterns(**pattern_arguments(context, person))
    settings = context.study.settings
    cross_validated = [
        s
        for s, d in (
            ("[rsa]", settings.rsa.dissimilarity),
            ("[searchlight]", settings.searchlight and settings.searchlight.dissimilarity),
        )
        if d == "crossnobis"
    ]
    if cross_validated and len(person.files) < 2 and not _runs_inside(person):
        problems.append(
            f"{who}{some(cross_validated)} dissimilarity = 'crossnobis' needs two or more runs, found one file {person.files[0]}; "
            "give betas a run ({run} in files; AFNI: -stim_times_IM, or a fit per run), or choose 'correlation' or 'euclidean'"
        )
    return problems


def _runs_inside(person: Participant) -> bool:
    """Whether a table of labels puts the volumes of the one file into several runs."""
    if person.labels == "sub-brick":
        return False
    try:
        table = pd.read_csv(person.labels, sep="\t", dtype=str)
    except (OSError, ValueError):
        return True  # the table's own problem is already listed
    return "run" in table and table["run"].nunique() > 1
