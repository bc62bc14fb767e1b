"""Stage 2: each participant's patterns, the RDM of every ROI against every layer, and the searchlight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainmap.record import content_key, file_digest
from brainmap.rsa._searchlight import searchlight
from brainmap.rsa.columns import VOXEL_COLUMNS
from brainmap.rsa.patterns import voxel_report
from brainmap.rsa.rdm import compute_rdms
from brainmap.rsa.rdm_file import save_rdms
from brainmap.stages.betas import with_betas
from brainmap.stages.brains import mask_of, patterns_of, regions_of, roi_precision, screened, voxel_noise
from brainmap.stages.context import Context, ready
from brainmap.stages.controls import compared, scores_of
from brainmap.stages.networks import Version, layer_names, model_rdms, rdm_path, versions_of
from brainmap.study import Participant

if TYPE_CHECKING:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs

    from brainmap.rsa.regions import Rois

VERSION = 1
WHITENED = ("crossnobis", "mahalanobis")  # dissimilarities that take a noise precision

SCORE_COLUMNS = {
    "participant": "label of the participant",
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "roi": "region of interest",
    "score": "similarity of the layer's and the region's RDM, in the measure named below",
}
COUNT_COLUMNS = {"participant": "label of the participant", **VOXEL_COLUMNS}


@dataclass(frozen=True)
class _Person:
    """A participant's data, loaded when a stage first needs them and forgotten with the participant."""

    context: Context
    person: Participant

    @cached_property
    def models(self) -> RDMs:
        return model_rdms(self.context)

    @cached_property
    def rois(self) -> Rois:
        return regions_of(self.person)

    @cached_property
    def data(self) -> Dataset:
        return patterns_of(self.person, self.context.stimuli, self.rois)

    @cached_property
    def inputs(self) -> list[str]:
        """Every file the participant's regions depend on."""
        return [*self.person.inputs, *self.person.roi_files]

    def key(self, inputs: Sequence[str], dissimilarity: str, *settings: object) -> str:
        """What a stage depends on: models, patterns, and its own settings."""
        context, brain = self.context, self.person.brain
        models = [file_digest(rdm_path(context, v)) for v in versions_of(context)]
        return content_key(
            VERSION,
            models,
            [context.digest(i) for i in inputs],
            [[one.labels == "sub-brick" for one in self.person.found], brain.missing, brain.space, self.person.runs],
            [brain.noise, brain.precision] if dissimilarity in WHITENED else "none",
            brain.normalize,
            context.stimuli,
            context.study.settings.rsa.items,
            dissimilarity,
            settings,
        )


def run_participants(context: Context, only: Sequence[str] = ()) -> None:
    """ROI scores and searchlight of all participants, or of some."""
    settings = context.study.settings
    for person in context.study.participants():
        if only and person.label not in only:
            continue
        one = _Person(context, with_betas(context, person))
        cut = [person.brain.rois.model_dump(), person.brain.screen.model_dump()]
        key = one.key(one.inputs, settings.rsa.dissimilarity, [settings.rsa.measure, *settings.rsa.control_for], cut)
        context.stage(f"sub-{person.label}_rois", key, partial(_score_rois, one))
        light = settings.searchlight
        if light is not None:
            own = light.model_dump(exclude={"group"})
            key = one.key(one.person.inputs, light.dissimilarity, own, settings.study.maps)
            context.stage(f"sub-{person.label}_searchlight", key, partial(_map, one))


def _score_rois(one: _Person) -> Iterator[Path]:
    context, settings, label = one.context, one.context.study.settings.rsa, one.person.label
    data, names = screened(one.person, one.data), list(one.rois.names)
    precision = roi_precision(one.person, data, names) if settings.dissimilarity in WHITENED else None
    rdms = compute_rdms(
        data,
        dissimilarity=settings.dissimilarity,
        items=settings.items,
        rois=names,
        noise_precision=precision,
        descriptors={"participant": label},
    )
    models = compared(context, one.models)
    assert models is not None  # a study has a network beside the baselines
    scores = scores_of(context, models, rdms)
    about = context.about(
        {"rsa": settings.model_dump(), "brain": one.person.brain.model_dump(), "runs": one.person.runs}, one.inputs
    )
    path = save_rdms(rdms, ready(context.subject_file(one.person, "rdms.h5", desc="rois")))
    yield from (path, context.sidecar(path, about))
    path = context.subject_file(one.person, "scores.tsv", desc="rois")
    table = pd.DataFrame(
        [
            {"participant": label, "network": network, "layer": layer, "roi": roi, "score": scores[i, j]}
            for i, (network, layer) in enumerate(layer_names(models))
            for j, roi in enumerate(rdms.rdm_descriptors["roi"])
        ]
    )
    yield from context.save_table(table, path, columns=SCORE_COLUMNS, about={"Measure": settings.score, **about})
    path = context.subject_file(one.person, "counts.tsv", desc="voxels")
    counts = voxel_report(data)
    counts.insert(0, "participant", label)
    yield from context.save_table(counts, path, columns=COUNT_COLUMNS, about=about)


def _map(one: _Person) -> Iterator[Path]:
    context = one.context
    settings = context.study.settings.searchlight
    assert settings is not None  # the caller asked for the stage because it is there
    noise = voxel_noise(one.person, one.data) if settings.dissimilarity == "crossnobis" else None
    maps = searchlight(
        one.data,
        one.models,
        mask=mask_of(one.person),
        radius_mm=settings.radius_mm,
        measure=settings.measure,
        dissimilarity=settings.dissimilarity,
        items=context.study.settings.rsa.items,
        noise=noise,
        minimum_voxels=settings.minimum_voxels,
        threads=context.threads,
    )
    about = context.about({"searchlight": settings.model_dump(exclude={"group"})}, one.person.inputs)
    space = one.person.brain.space
    described = {"VoxelsExcluded": maps.n_excluded, "SpheresWithoutScore": maps.n_unscored}
    for k, ((network, layer), version) in enumerate(
        zip(layer_names(one.models), _versions(context, one.models), strict=True)
    ):
        said = {"Network": network, "Layer": layer, "Measure": settings.measure, **described, **about}
        yield from context.save_map(
            maps.image(maps.array[k]),
            map_path(context, one.person, version, layer),
            label=f"{network} {layer}",
            space=space,
            about=said,
        )
    yield from context.save_map(
        maps.voxel_count,
        context.subject_file(one.person, context.map_ending(space), desc="searchlight", stat="voxels"),
        label="voxels in sphere",
        space=space,
        about={"Description": "voxels in each sphere", **about},
    )


def _versions(context: Context, models: RDMs) -> list[Version]:
    by_name = {v.name: v for v in versions_of(context)}
    return [by_name[network] for network, _ in layer_names(models)]


def map_path(context: Context, person: Participant, version: Version, layer: str) -> Path:
    """Where the searchlight map of a layer lies."""
    settings = context.study.settings.searchlight
    assert settings is not None
    ending = context.map_ending(person.brain.space)
    return context.subject_file(person, ending, desc=version.slug(layer), stat=settings.measure)
