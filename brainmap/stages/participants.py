"""Stage 2: each participant's patterns, the RDM of every ROI against every layer, and the searchlight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainmap.record import command_line, content_key, file_digest, write_table
from brainmap.rsa._searchlight import searchlight
from brainmap.rsa.compare import compare_rdms
from brainmap.rsa.images import save_image
from brainmap.rsa.normalize import noise_precision, run_residuals
from brainmap.rsa.patterns import load_patterns, select_roi, voxel_report
from brainmap.rsa.rdm import compute_rdms, save_rdms
from brainmap.rsa.rois import load_rois
from brainmap.stages.context import Context, ready
from brainmap.stages.networks import Version, model_rdms, rdm_path, versions_of
from brainmap.study import Participant

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs

    from brainmap.rsa.regions import Rois

VERSION = 1

SCORE_COLUMNS = {
    "participant": "label of the participant",
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "roi": "region of interest",
    "score": "similarity of the layer's and the region's RDM, in the measure named below",
}
COUNT_COLUMNS = {
    "participant": "label of the participant",
    "roi": "region; the first row is the whole mask",
    "voxels": "voxels of the region",
    "outside_mask": "of these, outside the mask",
    "dropped_nan": "left out: NaN or infinite in a pattern",
    "dropped_constant": "left out: constant over the patterns of a run",
    "kept": "voxels used",
}


@dataclass(frozen=True)
class _Person:
    """A participant's data, loaded when a stage first needs them and forgotten with the participant."""

    context: Context
    person: Participant
    models: RDMs

    @cached_property
    def rois(self) -> Rois:
        settings = self.person.brain.rois
        return load_rois(
            self.person.roi_image,
            table=self.person.roi_table,
            mask=self.person.mask,
            minimum_voxels=settings.minimum_voxels,
            hemispheres=settings.hemispheres,
        )

    @cached_property
    def data(self) -> Dataset:
        return load_patterns(**pattern_arguments(self.context, self.person), rois=self.rois)

    @cached_property
    def inputs(self) -> list[str]:
        """Every file the participant's results depend on."""
        person = self.person
        tables = [t for t in (person.roi_table, None if person.labels == "sub-brick" else person.labels) if t]
        return [*person.files, person.mask, person.roi_image, *tables]

    @cached_property
    def key(self) -> str:
        """What the participant's patterns and the models depend on."""
        context = self.context
        models = [file_digest(rdm_path(context, v)) for v in versions_of(context)]
        settings = self.person.brain.model_dump(include={"labels", "missing", "noise", "space", "rois"})
        return content_key(
            VERSION,
            models,
            [context.digest(i) for i in self.inputs],
            settings,
            self.person.runs,
            context.stimuli,
            context.study.settings.rsa.items,
        )


def pattern_arguments(context: Context, person: Participant) -> dict[str, Any]:
    """The arguments of `load_patterns` and `check_patterns` for a participant, but for the ROIs."""
    several = len(person.files) > 1
    return {
        "files": list(person.files) if several else person.files[0],
        "mask": person.mask,
        "conditions": person.labels,
        "runs": list(person.runs) if several else None,
        "stimuli": context.stimuli,
        "participant": person.label,
        "missing": person.brain.missing,
    }


def run_participants(context: Context, only: Sequence[str] = ()) -> None:
    """ROI scores and searchlight of all participants, or of some."""
    models = model_rdms(context)
    for person in context.study.participants():
        if only and person.label not in only:
            continue
        one = _Person(context, person, models)
        settings = context.study.settings
        key = content_key("rois", one.key, settings.rsa.dissimilarity, settings.rsa.measure)
        context.stage(f"sub-{person.label}_rois", key, lambda o=one: list(_score_rois(o)))
        if settings.searchlight is not None:
            key = content_key("searchlight", one.key, settings.searchlight.model_dump(exclude={"group"}))
            context.stage(f"sub-{person.label}_searchlight", key, lambda o=one: list(_map(o)))


def _score_rois(one: _Person) -> Iterator[Path]:
    context, settings, label = one.context, one.context.study.settings.rsa, one.person.label
    precision = None
    if settings.dissimilarity in ("crossnobis", "mahalanobis") and one.person.brain.noise == "runs":
        precision = {name: noise_precision(select_roi(one.data, name), method="shrinkage") for name in one.rois.names}
    rdms = compute_rdms(
        one.data,
        dissimilarity=settings.dissimilarity,
        items=settings.items,
        rois=list(one.rois.names),
        noise_precision=precision,
        descriptors={"participant": label},
    )
    scores = compare_rdms(one.models, rdms, measure=settings.measure)
    about = context.about(
        {"rsa": settings.model_dump(), "brain": one.person.brain.model_dump(), "runs": one.person.runs}, one.inputs
    )
    path = save_rdms(rdms, ready(context.subject_file(one.person, "rdms.h5", desc="rois")))
    yield from (path, context.sidecar(path, about))
    path = context.subject_file(one.person, "scores.tsv", desc="rois")
    table = pd.DataFrame(
        [
            {"participant": label, "network": network, "layer": layer, "roi": roi, "score": scores[i, j]}
            for i, (network, layer) in enumerate(_names(one.models))
            for j, roi in enumerate(rdms.rdm_descriptors["roi"])
        ]
    )
    yield write_table(table, path, columns=SCORE_COLUMNS, about={"Measure": settings.measure, **about})
    yield path.with_suffix(".json")
    path = context.subject_file(one.person, "counts.tsv", desc="voxels")
    counts = voxel_report(one.data)
    counts.insert(0, "participant", label)
    yield write_table(counts, path, columns=COUNT_COLUMNS, about=about)


def _names(models: RDMs) -> list[tuple[str, str]]:
    found = models.rdm_descriptors
    return [(str(n), str(layer)) for n, layer in zip(found["network"], found["layer"], strict=True)]


def _map(one: _Person) -> Iterator[Path]:
    context = one.context
    settings = context.study.settings.searchlight
    assert settings is not None  # the caller asked for the stage because it is there
    noise = None
    if settings.dissimilarity == "crossnobis" and one.person.brain.noise == "runs":
        residuals, freedom = run_residuals(one.data)
        noise = np.sqrt((residuals**2).sum(axis=0) / freedom)
    maps = searchlight(
        one.data,
        one.models,
        mask=one.person.mask,
        radius_mm=settings.radius_mm,
        measure=settings.measure,
        dissimilarity=settings.dissimilarity,
        items=context.study.settings.rsa.items,
        noise=noise,
        minimum_voxels=settings.minimum_voxels,
        threads=context.threads,
    )
    about = context.about({"searchlight": settings.model_dump(exclude={"group"})}, one.inputs)
    space = one.person.brain.space
    described = {"VoxelsExcluded": maps.n_excluded, "SpheresWithoutScore": maps.n_unscored}
    for k, ((network, layer), version) in enumerate(
        zip(_names(one.models), _versions(context, one.models), strict=True)
    ):
        path = map_path(context, one.person, version, layer)
        save_map(maps.image(maps.array[k]), path, label=f"{network} {layer}", space=space)
        yield path
        yield context.sidecar(
            path, {"Network": network, "Layer": layer, "Measure": settings.measure, **described, **about}
        )
    path = context.subject_file(one.person, "statmap.nii.gz", desc="searchlight", stat="voxels")
    save_map(maps.voxel_count, path, label="voxels in sphere", space=space)
    yield from (path, context.sidecar(path, {"Description": "voxels in each sphere", **about}))


def _versions(context: Context, models: RDMs) -> list[Version]:
    by_name = {v.name: v for v in versions_of(context)}
    return [by_name[network] for network, _ in _names(models)]


def save_map(image: Nifti1Image, path: Path, *, label: str, space: str) -> Path:
    """Write a map with its label, space and the command that made it inside, as AFNI users expect."""
    known = None if space == "native" else "MNI" if space.startswith("MNI") else space  # AFNI's names
    return save_image(image, ready(path), labels=[label], space=known, history=command_line(), overwrite=True)


def map_path(context: Context, person: Participant, version: Version, layer: str) -> Path:
    """Where the searchlight map of a layer lies."""
    settings = context.study.settings.searchlight
    assert settings is not None
    return context.subject_file(person, "statmap.nii.gz", desc=version.slug(layer), stat=settings.measure)
