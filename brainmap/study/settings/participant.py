"""Find the files of a participant where the study file says they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from brainmap.errors import InputError
from brainmap.rsa.inputs.runs import RunInputs, fill_pattern
from brainmap.study.settings.brain import Brain


@dataclass(frozen=True, kw_only=True)
class Participant:
    """Hold the files of one participant.

    Attributes
    ----------
    label : str
    found : tuple of RunInputs
        One entry per image, in natural order of sessions and runs.
    """

    label: str
    brain: Brain
    found: tuple[RunInputs, ...]
    resolve: Callable[[str], str]

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the labels of the runs; a single empty string where there are no labels."""
        trials = tuple(dict.fromkeys(row[3] for row in self.found[0].volumes))
        by_trial = len(self.found) == 1 and len(trials) > 1
        return trials if by_trial else tuple(dict.fromkeys(one.label for one in self.found))

    @property
    def files(self) -> tuple[str, ...]:
        """List the images, in the order of `found`."""
        return tuple(one.image for one in self.found)

    @property
    def masks(self) -> list[str]:
        """List the brain masks, whose shared voxels are used."""
        return list(dict.fromkeys(mask for one in self.found for mask in one.masks))

    @property
    def roi_files(self) -> list[str]:
        """List every file of the regions."""
        rois = self.brain.rois
        return [self.fill(name) for name in (rois.image, rois.table, *rois.masks.values()) if name is not None]

    @property
    def residuals(self) -> list[str]:
        """List the residuals of the models of the betas, where the study uses them."""
        if self.brain.noise != "residuals":
            return []
        given = self.brain.residuals
        named = [one.residuals if given is None else self.fill(given, one) for one in self.found]
        return [name for name in dict.fromkeys(named) if name is not None]

    @property
    def sound(self) -> str | None:
        """Return the statistic image of the voxel screen."""
        return None if self.brain.screen.sound is None else self.fill(self.brain.screen.sound)

    @property
    def inputs(self) -> list[str]:
        """List every file that the participant's patterns depend on, images first."""
        others = [name for one in self.found for name in (*_list_tables(one), *one.sidecars)]
        sound = [self.sound] if self.sound else []
        times = self.stim_times.values()
        return list(dict.fromkeys([*self.files, *self.masks, *others, *times, *self.residuals, *sound]))

    @property
    def stim_times(self) -> dict[str, str]:
        """Return AFNI's files of event times by condition, empty where events are tables."""
        events = self.brain.events
        return {name: self.fill(file) for name, file in events.items()} if isinstance(events, dict) else {}

    @property
    def story_confounds(self) -> str | None:
        """Return the name of the confounds of stories, with `{sound}` and what else tells repetitions."""
        given = self.brain.confounds
        return None if given is None else self.resolve(_name(given, self.label))

    def fill(self, pattern: str, one: RunInputs | None = None) -> str:
        """Replace the placeholders in a path of the study file by labels of this participant (and of a run)."""
        places = {"participant": self.label}
        if one is not None:
            places |= {"session": one.session, "task": one.task, "run": one.run}
        return self.resolve(fill_pattern(pattern, places))


def _list_tables(one: RunInputs) -> list[str]:
    named = [one.events, one.confounds, None if one.labels == "sub-brick" else one.labels]
    return [name for name in named if name is not None]


def find_participant(brain: Brain, label: str, resolve: Callable[[str], str]) -> Participant:
    """Find one participant of a group, with the files of its layout.

    Raises
    ------
    InputError
        A pattern or layout matches no file, or more than one image for a run; or there is no brain mask.
    """
    if brain.of_stories:  # files are found by the stories
        masks = () if brain.mask is None else (resolve(fill_pattern(brain.mask, {"participant": label})),)
        one = RunInputs(participant=label, kind="bold", image=resolve(_name(brain.files, label)), masks=masks)
        return Participant(label=label, brain=brain, found=(one,), resolve=resolve)
    from brainmap.rsa.inputs.layouts import find_inputs  # needs numpy, and a misspelt study file is refused without

    where = brain.files if brain.layout == "files" else brain.folder
    assert where is not None  # the settings were checked

    def given(name: str | None) -> str | None:
        return None if name is None else resolve(name)

    labels = brain.labels if "labels" in brain.model_fields_set and isinstance(brain.labels, str) else None
    found = find_inputs(
        resolve(where),
        layout=brain.layout,
        participants=[label],
        kind="bold" if brain.kind == "bold" else "betas",
        task=brain.task,
        space=brain.space if brain.layout == "bids" or brain.space != "native" else None,
        desc=brain.desc,
        sessions=brain.sessions,
        entities=brain.entities,
        mask=given(brain.mask),
        raw=given(brain.raw),
        events=given(brain.events) if isinstance(brain.events, str) else None,
        confounds=given(brain.confounds),
        labels=labels if labels == "sub-brick" else given(labels),
    )
    person = Participant(label=label, brain=brain, found=tuple(found), resolve=resolve)
    if not isinstance(brain.labels, str):
        if len(brain.labels) != len(found):
            raise InputError(
                f"participant {label}: expected one file of labels for each of {len(found)} images, got "
                f"{len(brain.labels)}; name one for each, one for all, or a name with {{run}}"
            )
        named = [person.fill(name, one) for one, name in zip(found, brain.labels, strict=True)]
        found = [replace(one, labels=name, volumes=()) for one, name in zip(found, named, strict=True)]
        person = replace(person, found=tuple(found))
    if not (person.masks or brain.on_surface or brain.on_table):
        raise InputError(
            f"participant {label}: expected a brain mask beside {Path(found[0].image).name}, got none; name it in "
            "[brain] mask"
        )
    return person


def _name(pattern: str | None, label: str) -> str:
    """Write the label of a participant into a name that keeps its other placeholders."""
    return str(pattern).replace("{participant}", label)
