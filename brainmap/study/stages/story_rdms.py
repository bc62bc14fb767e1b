"""Compare RDMs of segments of stories with those of layers, from the features and responses of encoding models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brainmap.record import content_key
from brainmap.rsa.comparison.measures import arrange_scores, compare_rdms
from brainmap.rsa.encoding.story_patterns import join_windows, story_patterns
from brainmap.rsa.inference.relabeling import relabeling_test
from brainmap.rsa.inference.scores import score_statistics
from brainmap.rsa.inference.seeds import SEED_COLUMNS, average_rows, list_rows, measure_spread
from brainmap.rsa.rdm.alignment import leave_out_pairs_within, stack_rdms
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.study.results.context import Context, make_rng
from brainmap.study.stages.comparisons import add_test_beside, describe_test_beside, list_seeds
from brainmap.study.stages.encoding_pieces import (
    write_test_table,
)
from brainmap.study.stages.inference import list_shared_regions
from brainmap.study.stages.networks import store_path, yield_versions
from brainmap.study.stages.stories import get_story_models
from brainmap.study.stages.story_people import StoryPerson
from brainmap.types import Measure, RDMs

RDM_VERSION = 1

RDM_STAGE, RDM_TABLE = "group_story_rdms", "stories_rsa"

RDM_MEASURE: Measure = "spearman"

RDM_COLUMNS = {
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
        if context.build_table_path(RDM_TABLE).exists():
            context.run_stage(RDM_STAGE, content_key(RDM_VERSION, "none"), list)
        return
    key = content_key(
        RDM_VERSION,
        [one.key for one in people],
        [asked.segment, asked.lag, asked.permutations, asked.test, asked.correction],
        [list_seeds(context.study.settings), context.study.settings.study.seed],
    )
    context.run_stage(RDM_STAGE, key, lambda: _write_rdm_table(context, people))


def _write_rdm_table(context: Context, people: Sequence[StoryPerson]) -> Iterator[Path]:
    asked, seeds = get_story_models(context), list_seeds(context.study.settings)
    models, brains = _compute_rdms(context, people)
    rows = list_rows(models, seeds)
    scores = average_rows(compare_rdms(models, brains, measure=RDM_MEASURE), rows.places)
    cube, rois = arrange_scores(scores, brains)
    tested = relabeling_test(
        models,
        brains,
        measure=RDM_MEASURE,
        permutations=asked.permutations,
        rng=make_rng(context, "story rdms"),
        seeds=seeds,
    )
    layers = [str(layer) for layer in models.rdm_descriptors["layer"]]
    mean = cube.mean(axis=2)
    table = tested.assign(
        network=np.repeat(rows.owners, len(rois)),
        layer=np.repeat([layers[own[0]] for own in rows.places], len(rois)),
        **measure_spread(mean[: len(layers)], rows.places),
    )
    beside = None
    if len(people) > 1:
        beside = score_statistics(
            cube, test=asked.test, correction=asked.correction, rng=make_rng(context, "story rdms participants")
        )
    said = describe_test_beside(str(tested.attrs["note"]), beside)
    about = context.build_provenance({"stories": asked.model_dump()}, [name for one in people for name in one.inputs])
    table = add_test_beside(table, beside)
    yield from write_test_table(context, (table, said), RDM_TABLE, columns=RDM_COLUMNS, about=about)


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
    regions = list_shared_regions([own.rdm_descriptors["roi"] for own in brains], "RDMs of stories", "RDMs of ")
    kept = [own.subset("roi", regions).subset_pattern("stimulus_id", shared) for own in brains]
    return stack_rdms([one.subset_pattern("stimulus_id", shared) for one in models]), stack_rdms(kept)
