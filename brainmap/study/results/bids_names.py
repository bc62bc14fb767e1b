"""Build the names of the result files, as in BIDS derivatives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainmap.names import slug
from brainmap.study.settings.study import Participant, Study


@dataclass(frozen=True)
class ResultNames:
    """Build the paths of the results of a study below its `out` folder.

    Examples
    --------
    A map of participant 01 lies at `sub-01/func/sub-01_task-<study>_space-<space>_desc-<layer>_statmap.nii.gz`, one of
    the group at `group/task-<study>_space-<space>_desc-<layer>_statmap.nii.gz`.
    """

    study: Study

    def build_subject_path(self, person: Participant, ending: str, **entities: str) -> Path:
        """Build `sub-01/func/sub-01_task-<study>_space-<space>_<entities>_<ending>`."""
        label = f"sub-{slug(person.label)}"
        name = f"{label}_{self._build_stem(person.brain.space, ending)}{_join_entities(entities)}_{ending}"
        return self.study.out / label / "func" / name

    def build_group_path(self, ending: str, *, space: str | None = None, **entities: str) -> Path:
        """Build `group/task-<study>_..._<ending>`."""
        return self.study.out / "group" / f"{self._build_stem(space, ending)}{_join_entities(entities)}_{ending}"

    def build_table_path(self, name: str) -> Path:
        """Build the path of a table of the group, under its plain name."""
        return self.study.out / "group" / f"{name}.tsv"

    def choose_map_ending(self, space: str) -> str:
        """Choose the ending of the names of maps in a space."""
        if self.study.settings.brain[0].on_surface:
            return "statmap.func.gii"
        if self.study.settings.study.maps == "nifti":
            return "statmap.nii.gz"
        return f"statmap+{'orig' if space == 'native' else 'tlrc'}.HEAD"

    def _build_stem(self, space: str | None, ending: str) -> str:
        task = f"task-{slug(self.study.settings.study.name)}"
        task += "_hemi-{hemi}" if ending.endswith(".gii") else ""
        return task if space is None else f"{task}_space-{slug(space)}"


def build_sidecar_path(path: Path) -> Path:
    """Build the path of the JSON file beside a result; one file describes both hemispheres.

    Examples
    --------
    >>> build_sidecar_path(Path("task-x_hemi-{hemi}_statmap.func.gii")).name
    'task-x_statmap.json'
    >>> build_sidecar_path(Path("task-x_statmap+tlrc.HEAD")).name
    'task-x_statmap.json'
    """
    stem = re.sub(r"(\+\w+)?(\.nii|\.func)?\.[A-Za-z0-9]+$", "", path.name).replace("_hemi-{hemi}", "")
    return path.with_name(stem + ".json")


def _join_entities(entities: Mapping[str, str]) -> str:
    return "".join(f"_{key}-{slug(value)}" for key, value in entities.items())
