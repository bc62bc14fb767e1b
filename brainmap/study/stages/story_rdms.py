"""Compare RDMs of segments of stories with those of layers, from the features and responses of encoding models."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.record import content_key
from brainmap.rsa.comparison.measures import arrange_scores, compare_rdms
from brainmap.rsa.encoding.segments import join_windows
from brainmap.rsa.encoding.story_patterns import story_patterns
from brainmap.rsa.inference.relabeling import relabeling_test
from brainmap.rsa.inference.scores import score_statistics
from brainmap.rsa.inference.seeds import SEED_COLUMNS, average_rows, list_rows, measure_spread
from brainmap.rsa.rdm.alignment import stack_rdms
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.rsa.rdm.pairs import leave_out_pairs_within
from brainmap.study.results.context import Context
from brainmap.study.stages.comparisons import list_seeds
from brainmap.study.stages.inference import make_rng
from brainmap.study.stages.networks import store_path, yield_versions
from brainmap.study.stages.stories import get_story_models
from brainmap.study.stages.story_people import StoryPerson
from brainmap.types import Measure

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

log = logging.getLogger("brainmap")
VERSION = 1
STAGE, TABLE = "group_story_rdms", "stories_rsa"
MEASURE: Measure = "spearman"
COLUMNS = {
    "network": "network, or a control of it",
    "layer": "layer",
    "roi": "region of interest",
    "mean": "Spearman correlation of the RDMs of the layer and of the region over pairs of segments of different "
    "stories, mean over participants",
    "standard_error": "of that mean, over participants",
    "chance": "its mean over the relabelings",
    "statistic": "mean less chance, in standard deviations over the relabelings",
    "p": "share of relabelings with a statistic as high, uncorrected: whole stories exchanged with others of as many "
    "segments, segments rotated alike in all",
    "p_corrected": "corrected over all rows, by the highest statistic of each relabeling",
    "n": "participants",
    "smallest_p": "smallest p that relabelings can reach",
    **SEED_COLUMNS,
    "p_these_sounds": "p over participants, uncorrected: of these stories only, which are taken as fixed",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
}


def run_story_rdms(context: Context, people: Sequence[StoryPerson]) -> None:
    """Compare the RDMs of a study that asks for them; without segments, remove an earlier table of them."""
    asked = get_story_models(context)
    if asked.segment is None:
        if context.build_table_path(TABLE).exists():
            context.run_stage(STAGE, content_key(VERSION, "none"), list)
        return
    key = content_key(
        VERSION,
        [one.key for one in people],
        [asked.segment, asked.lag, asked.permutations, asked.test, asked.correction],
        [list_seeds(context.study.settings), context.study.settings.study.seed],
    )
    context.run_stage(STAGE, key, lambda: _write_table(context, people))


def _write_table(context: Context, people: Sequence[StoryPerson]) -> Iterator[Path]:
    asked, seeds = get_story_models(context), list_seeds(context.study.settings)
    models, brains = _compute_rdms(context, people)
    rows = list_rows(models, seeds)
    scores = average_rows(compare_rdms(models, brains, measure=MEASURE), rows.places)
    cube, rois = arrange_scores(scores, brains)
    tested = relabeling_test(
        models,
        brains,
        measure=MEASURE,
        permutations=asked.permutations,
        rng=make_rng(context, "story rdms"),
        seeds=seeds,
    )
    layers = [str(layer) for layer in models.rdm_descriptors["layer"]]
    mean = cube.mean(axis=2)
    table = tested.assign(
        network=np.repeat(rows.owners, len(rois)),
        layer=np.repeat([layers[own[0]] for own in rows.places], len(rois)),
        standard_error=np.nan,
        p_these_sounds=np.nan,
        p_these_sounds_corrected=np.nan,
        **measure_spread(mean[: len(layers)], rows.places),
    )
    said = str(tested.attrs["note"])
    if len(people) > 1:
        beside = score_statistics(
            cube, test=asked.test, correction=asked.correction, rng=make_rng(context, "story rdms participants")
        )
        table["standard_error"] = beside["standard_error"].to_numpy()
        table["p_these_sounds"] = beside["p"].to_numpy()
        table["p_these_sounds_corrected"] = beside["p_corrected"].to_numpy()
        said += f"; beside it, {beside.attrs['note']}"
    about: dict[str, Any] = {"stories": asked.model_dump()}
    provenance = context.build_provenance(about, [name for one in people for name in one.inputs])
    path = context.build_table_path(TABLE)
    yield from context.save_table(table[list(COLUMNS)], path, columns=COLUMNS, about={"Test": said, **provenance})


def _compute_rdms(context: Context, people: Sequence[StoryPerson]) -> tuple[RDMs, RDMs]:
    """Compute the RDMs of all layers, and of the regions that all participants have, over the same segments.

    Raises
    ------
    InputError
        A region that all participants have is lacking.
    """
    from brainmap.features.activations.stored import open_activations

    asked = get_story_models(context)
    assert asked.segment is not None
    stores = {version.name: open_activations(store_path(context, version)) for version in yield_versions(context)}
    segments = {name: join_windows(acts, asked.segment) for name, acts in stores.items()}
    first = next(iter(segments.values()))
    shared = [item for item in first.items if all(item in one.items for one in segments.values())]
    models = [compute_rdms(one, units="zscore", descriptors={"network": name}) for name, one in segments.items()]
    brains = []
    for one in people:
        data = replace(one, asked=asked.model_copy(update={"targets": "voxel"})).data  # patterns, not means of regions
        patterns = story_patterns(
            first,
            data.responses,
            **data.settings,
            lag=asked.lag,
            silence=asked.silence,
            high_pass=None if asked.high_pass == "none" else asked.high_pass,
            participant=one.label,
        )
        brains.append(leave_out_pairs_within(compute_rdms(patterns, rois="all", dissimilarity="correlation")))
    names = [list(map(str, own.rdm_descriptors["roi"])) for own in brains]
    regions = [roi for roi in names[0] if all(roi in own for own in names)]
    lost = sorted({roi for own in names for roi in own} - set(regions))
    if not regions:
        raise InputError(f"RDMs of stories: no region is common to all participants (there are {list_some(lost)})")
    if lost:
        log.warning("group: RDMs of %s are left out, which some participants lack", list_some(lost))
    kept = [own.subset("roi", regions).subset_pattern("stimulus_id", shared) for own in brains]
    return stack_rdms([one.subset_pattern("stimulus_id", shared) for one in models]), stack_rdms(kept)
