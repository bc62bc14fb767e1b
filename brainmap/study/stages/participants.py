"""Analyze each participant (stage 2): patterns, the RDM of every ROI against every layer, and the searchlight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.names import slug
from brainmap.record import content_key, file_digest
from brainmap.resources import find_available_memory
from brainmap.rsa.comparison.reliability import RELIABILITY_COLUMNS, rdm_reliability
from brainmap.rsa.patterns.table import VOXEL_COLUMNS
from brainmap.rsa.patterns.volume import voxel_report
from brainmap.rsa.rdm.alignment import list_rdm_names, sort_items
from brainmap.rsa.rdm.compute import Precision, compute_rdms
from brainmap.rsa.rdm.files import save_rdms
from brainmap.rsa.regions.rois import Rois
from brainmap.rsa.searchlights.maps import SearchlightMaps, build_maps
from brainmap.rsa.searchlights.surface import SurfaceMaps, search_discs
from brainmap.rsa.searchlights.volume import SearchlightPlan, cut_pieces, plan_searchlight
from brainmap.study.results.context import Context, make_parent, make_rng
from brainmap.study.results.pieces import Piece, clear_pieces, compute_here, join_scores
from brainmap.study.settings.renamed import restore_first_keys
from brainmap.study.settings.study import Participant
from brainmap.study.stages.betas import use_betas
from brainmap.study.stages.brains import (
    build_searchlight_settings,
    estimate_roi_precision,
    load_brain_mask,
    load_normalized_patterns,
    load_regions,
    map_noise,
    narrow_patterns,
    screen_patterns,
)
from brainmap.study.stages.controls import design_digests, leave_out_controls, score_regions
from brainmap.study.stages.costs import MOST_HELD
from brainmap.study.stages.networks import Version, build_rdm_path, join_model_rdms, list_layer_names, yield_versions
from brainmap.study.stages.surfaces import list_mesh_files, load_participant_mesh
from brainmap.types import Dataset, Device, RDMs

VERSION = 2
_ORDERED = 1  # 1: items of RDMs are in the order of the table of stimuli, as those of networks
HALVINGS = 20  # of a participant's runs, for the reliability of the RDMs; all halvings where there are fewer
WHITENED = ("crossnobis", "mahalanobis")  # dissimilarities that use a noise precision

SCORE_COLUMNS = {
    "participant": "label of the participant",
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "roi": "region of interest",
    "score": "similarity of the layer's and the region's RDM, in the measure named below",
}
COUNT_COLUMNS = {"participant": "label of the participant", **VOXEL_COLUMNS}


@dataclass(frozen=True)
class Spheres:
    """Compute spheres of a searchlight."""

    plan: SearchlightPlan

    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Compute the spheres start .. stop - 1."""
        scores, counts = self.plan.score(start, stop)
        return {"voxels": self.plan.order[start:stop], "scores": scores, "counts": counts}


@dataclass(frozen=True)
class Person:
    """Hold a participant's data, which are loaded when a stage first needs them."""

    context: Context
    person: Participant
    most_kept: int = 0  # bytes of ranks that its searchlight may keep for noise ceilings

    @cached_property
    def models(self) -> RDMs:
        return join_model_rdms(self.context)

    @cached_property
    def rois(self) -> Rois:
        return load_regions(self.person)

    @cached_property
    def data(self) -> Dataset:
        return self.load_patterns()

    def load_patterns(self) -> Dataset:
        """Load the patterns anew, for a stage that does not keep them as they are."""
        return load_normalized_patterns(self.person, self.context.stimuli, self.rois)

    @cached_property
    def inputs(self) -> list[str]:
        """List every file that the participant's regions depend on."""
        return [*self.person.inputs, *self.person.roi_files]

    @property
    def _light_device(self) -> Device:
        """Return auto where the run was told to use cuda, so that what cuda does not compute is computed on the CPU."""
        return "auto" if self.context.device_wanted == "cuda" and self.context.backend == "threads" else "cpu"

    @cached_property
    def plan(self) -> SearchlightPlan:
        """Prepare the searchlight for computation."""
        settings = self.context.study.settings.light
        chosen = build_searchlight_settings(settings, self.context.study.settings.rsa.items, self._light_device)
        plan = plan_searchlight(
            self.data,
            self.models,
            chosen,
            mask=load_brain_mask(self.person),
            radius_mm=settings.radius_mm,
            noise=map_noise(self.person, self.data, chosen, settings.noise_per),
        )
        return plan.keep_ranks() if 0 < plan.n_bytes_kept <= self.most_kept else plan

    @cached_property
    def pieces(self) -> list[Piece]:
        """List the pieces of the searchlight; the list is empty without a searchlight, or on a surface."""
        if self.context.study.settings.searchlight is None:
            return []
        label, folder, key = self.person.label, self.folder, self.searchlight_key
        return [Piece(label, start, stop, folder, key) for start, stop in cut_spans(self.person)]

    @property
    def folder(self) -> Path:
        """Return the folder of the searchlight's pieces, which is used until its maps are written."""
        return build_chunk_folder(self.context) / f"sub-{slug(self.person.label)}"

    def key(self, inputs: Sequence[str], dissimilarity: str, *settings: object) -> str:
        """Compute the key of a stage from models, patterns and its own settings."""
        context, brain = self.context, self.person.brain
        if brain.on_table:
            settings = (*settings, brain.key, brain.axes)
        models = [file_digest(build_rdm_path(context, v)) for v in yield_versions(context)]
        return content_key(
            VERSION,
            models,
            [context.digest(i) for i in inputs],
            [[one.labels == "sub-brick" for one in self.person.found], brain.missing, brain.space, self.person.runs],
            [brain.noise, brain.covariance] if dissimilarity in WHITENED else "none",
            brain.normalize,
            context.stimuli,
            context.study.settings.rsa.items,
            dissimilarity,
            settings,
        )

    @cached_property
    def rois_key(self) -> str:
        """Return the key of everything that the scores of the regions depend on."""
        rsa, brain = self.context.study.settings.rsa, self.person.brain
        cut = [brain.rois.model_dump(), brain.screen.model_dump()]
        designs = design_digests(self.context, [self.person])
        own = [rsa.score, *rsa.control_for, *designs, HALVINGS, _ORDERED]
        return self.key(self.inputs, rsa.dissimilarity, own, cut)

    @cached_property
    def searchlight_key(self) -> str:
        """Return the key of everything that the maps depend on."""
        settings = self.context.study.settings.light
        own = restore_first_keys(settings.model_dump(exclude={"group", "ceilings"}), "searchlight")
        inputs = list(self.person.inputs)
        if self.person.brain.on_surface:
            inputs += list_mesh_files(self.person, settings)
        noise = self.person.brain.noise if settings.noise_per == "sphere" else ""
        return self.key(inputs, settings.dissimilarity, own, self.context.study.settings.study.maps, noise)

    @property
    def mapped(self) -> bool:
        """Tell whether the maps exist, or the study does not ask for them."""
        if self.context.study.settings.searchlight is None:
            return True
        return self.context.is_done(f"sub-{self.person.label}_searchlight", self.searchlight_key)

    @property
    def scored(self) -> bool:
        """Tell whether the scores of the regions exist."""
        return self.context.is_done(f"sub-{self.person.label}_rois", self.rois_key)

    def prepare(self) -> Spheres:
        """Load the data of the searchlight."""
        return Spheres(self.plan)

    def to_send(self) -> Person:
        """Return a copy without loaded data, for another process."""
        return Person(self.context.to_send(), self.person)

    def surface_maps(self) -> SurfaceMaps:
        """Run the searchlight over the vertices of the participant's mesh."""
        settings = self.context.study.settings.light
        chosen = build_searchlight_settings(settings, self.context.study.settings.rsa.items, self._light_device)
        return search_discs(
            self.data,
            self.models,
            chosen,
            mesh=load_participant_mesh(self.person, settings),
            radius_mm=settings.radius_mm,
            metric=settings.metric,
            noise=map_noise(self.person, self.data, chosen, settings.noise_per),
            threads=self.context.threads,
        )

    def score_rois(self) -> None:
        """Run the stage of the regions."""
        self.context.run_stage(f"sub-{self.person.label}_rois", self.rois_key, partial(_score_rois, self))


def yield_people(
    context: Context,
    only: Sequence[str] = (),
    *,
    missing: Literal["error", "left out"] = "error",
    most_kept: int = 0,
) -> Iterator[Person]:
    """Return all or some participants with their betas; participants without betas raise an error or are left out."""
    for person in context.study.participants():
        if only and person.label not in only:
            continue
        try:
            ready = use_betas(context, person)
        except InputError:
            if missing == "error":
                raise
            continue
        yield Person(context, ready, most_kept)


def cut_spans(person: Participant) -> list[tuple[int, int]]:
    """Cut a participant's searchlight by the brain mask alone; on a surface it is not cut, since it takes seconds."""
    if person.brain.on_surface:
        return []
    return cut_pieces(int(np.count_nonzero(np.asarray(load_brain_mask(person).dataobj))))


def build_chunk_folder(context: Context) -> Path:
    """Return the folder of all participants' searchlight pieces, which is used until the maps are written."""
    return context.study.out / ".brainmap" / "chunks"


def run_participants(context: Context, only: Sequence[str] = (), *, hold: bool = False) -> None:
    """Compute ROI scores and searchlights of all participants, or of some.

    With `hold`, patterns that were read and ranks of their RDMs stay in memory for noise ceilings, as far as either
    take no more than 1 GB, and ranks no more than an eighth of what is available.
    """
    available = find_available_memory()  # 0 where nothing is left, None where the system does not tell
    most = MOST_HELD if available is None else min(MOST_HELD, available // 8)
    most //= len(list(context.study.participants()))
    for one in yield_people(context, only, most_kept=most if hold else 0):
        one.score_rois()
        if context.study.settings.searchlight is not None:
            context.run_stage(f"sub-{one.person.label}_searchlight", one.searchlight_key, partial(_write_maps, one))
            clear_pieces(one.folder)
        if hold and "data" in vars(one):
            patterns = narrow_patterns(one.data)
            if sum(other.measurements.nbytes for other in (patterns, *context.held.values())) <= MOST_HELD:
                context.held[one.person.label] = patterns
        if "plan" in vars(one) and (kept := one.plan.scoring.kept) is not None:
            context.ranks[one.person.label] = kept


def _estimate_reliability(
    one: Person, data: Dataset, names: list[str], precision: Precision | None
) -> pd.DataFrame | None:
    """Estimate how reliable the RDMs of the regions are between halves of the runs; None with too few runs."""
    settings = one.context.study.settings
    n_runs = len(set(map(str, data.obs_descriptors.get("run", ["1"]))))
    if n_runs < (4 if settings.rsa.dissimilarity == "crossnobis" else 2):
        return None
    return rdm_reliability(
        data,
        measure=settings.rsa.measure,
        splits=HALVINGS,
        noise_precision=precision,
        rng=make_rng(one.context, f"reliability{one.person.label}"),
        dissimilarity=settings.rsa.dissimilarity,
        items=settings.rsa.items,
        rois=names,
    )


def _score_rois(one: Person) -> Iterator[Path]:
    context, settings, label = one.context, one.context.study.settings.rsa, one.person.label
    data, names = screen_patterns(one.person, one.data), list(one.rois.names)
    precision = estimate_roi_precision(one.person, data, names) if settings.dissimilarity in WHITENED else None
    rdms = compute_rdms(
        data,
        dissimilarity=settings.dissimilarity,
        items=settings.items,
        rois=names,
        noise_precision=precision,
        descriptors={"participant": label},
    )
    rdms = sort_items(rdms, list(context.stimuli if settings.items == "stimulus" else context.stimuli.values()))
    models = leave_out_controls(context, one.models)
    assert models is not None  # a study has a network beside the baselines
    scores = score_regions(context, models, rdms)
    about = context.build_provenance(
        {"rsa": settings.model_dump(), "brain": one.person.brain.model_dump(), "runs": one.person.runs}, one.inputs
    )
    path = save_rdms(rdms, make_parent(context.build_subject_path(one.person, "rdms.h5", desc="rois")))
    yield from (path, context.write_sidecar(path, about))
    table = pd.DataFrame(
        [
            {"participant": label, "network": network, "layer": layer, "roi": roi, "score": scores[i, j]}
            for i, (network, layer) in enumerate(list_layer_names(models))
            for j, roi in enumerate(rdms.rdm_descriptors["roi"])
        ]
    )
    said = {"Measure": settings.score, **about}
    yield from context.save_person_table(
        table, one.person, "scores.tsv", desc="rois", columns=SCORE_COLUMNS, about=said
    )
    repeats = _estimate_reliability(one, data, names, precision)
    if repeats is not None:
        repeats["participant"] = label
        said = {"Measure": settings.measure, **about}
        yield from context.save_person_table(
            repeats, one.person, "reliability.tsv", desc="rois", columns=RELIABILITY_COLUMNS, about=said
        )
    counts = voxel_report(data)
    counts.insert(0, "participant", label)
    yield from context.save_person_table(
        counts, one.person, "counts.tsv", desc="voxels", columns=COUNT_COLUMNS, about=about
    )


def _write_maps(one: Person) -> Iterator[Path]:
    context = one.context
    settings = context.study.settings.light
    maps: Any = one.surface_maps() if one.person.brain.on_surface else _join_volume_maps(one)
    about = context.build_provenance(
        {"searchlight": settings.model_dump(exclude={"group", "ceilings"})}, one.person.inputs
    )
    space = one.person.brain.space
    described = {"VoxelsExcluded": maps.n_excluded, "SpheresWithoutScore": maps.n_unscored}
    for k, ((network, layer), version) in enumerate(
        zip(list_layer_names(one.models), _list_model_versions(context, one.models), strict=True)
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
        maps.vertex_count if one.person.brain.on_surface else maps.voxel_count,
        context.build_subject_path(one.person, context.choose_map_ending(space), desc="searchlight", stat="voxels"),
        label="voxels in sphere",
        space=space,
        about={"Description": "voxels in each sphere (vertices in each disc)", **about},
    )


def _join_volume_maps(one: Person) -> SearchlightMaps:
    """Join the maps of the pieces; missing pieces are computed here."""
    compute_here(one.pieces, lambda: one.plan, threads=one.context.threads)
    scores, counts = join_scores(one.pieces)
    return build_maps(list_rdm_names(one.models), scores, counts, load_brain_mask(one.person))


def _list_model_versions(context: Context, models: RDMs) -> list[Version]:
    by_name = {v.name: v for v in yield_versions(context)}
    return [by_name[network] for network, _ in list_layer_names(models)]


def map_path(context: Context, person: Participant, version: Version, layer: str) -> Path:
    """Return the path of the searchlight map of a layer."""
    ending, measure = context.choose_map_ending(person.brain.space), context.study.settings.light.measure
    return context.build_subject_path(person, ending, desc=version.slug(layer), stat=measure)
