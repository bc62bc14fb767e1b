"""Write the tables of encoding models of stories of each participant, from pieces that may be computed elsewhere.

Test encoding models of stories over the group: scores, best layers, controls, delays, and ceilings.

Compare RDMs of segments of stories with those of layers, from the features and responses of encoding models.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainmap.features.sounds.word_times import SPEECH
from brainmap.record import content_key, file_digest
from brainmap.rsa.comparison.measures import arrange_scores, compare_rdms
from brainmap.rsa.encoding.counts import COUNT_COLUMNS, warn_of_counts
from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
from brainmap.rsa.encoding.group import GroupNull
from brainmap.rsa.encoding.participants import average_over_regions
from brainmap.rsa.encoding.scores import measure_explainable_variance
from brainmap.rsa.encoding.stories import count_delays
from brainmap.rsa.encoding.story_ceilings import STORY_CEILING_COLUMNS, story_ceilings
from brainmap.rsa.encoding.story_patterns import join_windows, story_patterns
from brainmap.rsa.inference.differences import score_differences
from brainmap.rsa.inference.relabeling import relabeling_test
from brainmap.rsa.inference.scores import score_statistics
from brainmap.rsa.inference.seeds import SEED_COLUMNS, Seeds, average_rows, list_means, list_rows, measure_spread
from brainmap.rsa.patterns.table import VOXEL_COLUMNS
from brainmap.rsa.rdm.alignment import leave_out_pairs_within, stack_rdms
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.study.results.context import Context, make_parent, make_rng, read_results_table
from brainmap.study.results.pieces import Piece, Work, clear_pieces
from brainmap.study.settings.encoding import StoryModels
from brainmap.study.stages.bands import run_bands
from brainmap.study.stages.comparisons import add_seeds, add_test_beside, describe_test_beside, list_seeds
from brainmap.study.stages.encoding_comparisons import BEST_COLUMNS, LAYER_COLUMNS, choose_best_layers, list_pairs
from brainmap.study.stages.encoding_pieces import (
    PARTICIPANT,
    ModelPieces,
    OrderPieces,
    join_permutations,
    run_with_pieces,
    write_test_table,
)
from brainmap.study.stages.group_encoding import (
    SCORE_COLUMNS,
    keep_shared_regions,
    list_trained_and_controls,
    test_scores,
)
from brainmap.study.stages.inference import list_shared_regions
from brainmap.study.stages.networks import store_path, yield_versions
from brainmap.study.stages.stories import StoryPerson, get_story_models, yield_story_people
from brainmap.types import Floats, Measure

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_COLUMNS = {
    **PARTICIPANT,
    **ENCODING_COLUMNS,
    "explainable_variance": "share of the variance of one repetition that repeats, bias-corrected; n/a without repeats",
}
_COUNTS = PARTICIPANT | COUNT_COLUMNS
_VOXELS = PARTICIPANT | VOXEL_COLUMNS
DELAY_COLUMNS = {
    **PARTICIPANT,
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "roi": "region of interest",
    "delay": "time from a feature to the response [s]",
    "weight": "root mean square of the weights of this delay over units, as a share of the sum over delays; mean over "
    "the targets of the region",
}


def run_stories(context: Context, only: Sequence[str] = ()) -> None:
    """Fit the encoding models of all participants, or of some."""
    for one in yield_story_people(context, only):
        work = ModelPieces(one)
        context.run_stage(one.stage, one.key, partial(_write_scores, one, work))
        clear_pieces(work.folder)


def _write_scores(one: StoryPerson, work: ModelPieces) -> Iterator[Path]:
    context, data = one.context, one.data
    scores, counts, more = work.join()
    warn_of_counts(counts)
    asked = {"stories": one.asked.model_dump(), "brain": one.person.brain.model_dump()}
    about = {
        "Scans": len(one.responses.items),
        "Stories": list(dict.fromkeys(one.responses.conditions)),
        "RepetitionTime": data.t_r,
        "SliceTimeReference": data.slice_time_ref,
        "Folds": one.folds.n_folds,
        "Alphas": one.settings.alphas.tolist(),
        **context.build_provenance(asked, one.inputs),
    }
    variance = measure_explainable_variance(one.responses.values)
    scores = scores.assign(explainable_variance=np.tile(variance, len(one.spaces)))
    tables = (
        (scores, make_parent(one.path), _COLUMNS),
        (counts, context.build_subject_path(one.person, "counts.tsv", desc="stories"), _COUNTS),
        (data.counts, context.build_subject_path(one.person, "counts.tsv", desc="voxels"), _VOXELS),
        (_tabulate_delays(one, more["delays"]), one.delay_path, DELAY_COLUMNS),
    )
    for table, path, columns in tables:
        table = table.copy()
        table.insert(0, "participant", one.label)
        yield from context.save_table(table, path, columns=columns, about=about)


def _tabulate_delays(one: StoryPerson, shares: Sequence[Floats]) -> pd.DataFrame:
    """Tabulate how much weight each delay has in the model of each layer and region, fitted to all stories.

    `shares` are `(n_targets, n_delays)` of each layer.
    """
    delays = count_delays(one.asked.delays, one.data.t_r)
    roi = one.responses.targets["roi"].to_numpy()
    rows = [
        (space.network, space.layer, name, delay * one.data.t_r, float(share[roi == name, k].mean()))
        for space, share in zip(one.spaces, shares, strict=True)
        for name in dict.fromkeys(roi)
        for k, delay in enumerate(delays)
    ]
    return pd.DataFrame(rows, columns=list(DELAY_COLUMNS)[1:])


log = logging.getLogger("brainmap")
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


VERSION = 2  # 2: several seeds of a network are one network
_OF_STORIES = {
    "p_these_sounds": "p over participants, uncorrected: of these stories only, which are taken as fixed",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
    "smallest_p_these_sounds": "smallest p that so many participants can reach",
}
STORY_COLUMNS = {
    **{name: text for name, text in SCORE_COLUMNS.items() if name != "dimensionality"},
    "mean": "r: correlation of predicted and measured time courses within test folds of whole stories, mean over "
    "folds, the targets of the region, and participants",
    "p": "(k + 1) / (N + 1), where k of N permutations of blocks of scans within stories, shared by all participants "
    "and refitted, have a mean as high",
    "permutations": "permutations of blocks, beside the true order",
    **_OF_STORIES,
    "explainable_variance": "share of the variance of one repetition that repeats, bias-corrected, mean over targets "
    "and participants; n/a without repeats",
}
STORY_DIFFERENCE_COLUMNS = {
    **{name: LAYER_COLUMNS[name] for name in ("network", "layer", "roi", "difference")},
    "other_network": "a control of the network, the acoustic baselines, or speech",
    "other_layer": "the same layer of the control, an acoustic model, or a feature of speech",
    "standard_error": "of that difference",
    "statistic": "test statistic",
    "p": "two-sided, over participants, uncorrected: of these stories only",
    "p_corrected": "corrected over all rows of the table",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
}
GROUP_DELAY_COLUMNS = {
    **{name: text for name, text in DELAY_COLUMNS.items() if name != "participant"},
    "weight": f"{DELAY_COLUMNS['weight']} and participants",
    "standard_error": "of that mean, over participants",
}


def run_group_stories(context: Context, compute: Callable[[Sequence[tuple[Work, Sequence[Piece]]]], None]) -> None:
    """Test the encoding models of a study of stories whose participants are complete.

    `compute` computes pieces on Dask workers, where these are asked for.
    """
    people = list(yield_story_people(context))
    key = _compute_key(context, people)
    works, asked = [OrderPieces(one) for one in people], get_story_models(context)
    run_with_pieces(
        context, "group_stories", key, works, write=lambda: _write_tables(context, people, asked), compute=compute
    )
    run_bands(context, people, asked, compute)
    run_story_rdms(context, people)


def are_group_stories_done(context: Context) -> bool:
    """Tell whether the tables of the group exist, for which all participants must be fitted."""
    if context.ledger.read("group_stories")["key"] is None:
        return False
    people = list(yield_story_people(context))
    there = all(one.path.exists() for one in people)
    return there and context.is_done("group_stories", _compute_key(context, people))


def _compute_key(context: Context, people: Sequence[StoryPerson]) -> str:
    """Compute the key of everything that the tables of the group depend on."""
    asked = get_story_models(context)
    return content_key(
        VERSION,
        [[one.label, one.key, file_digest(one.path)] for one in people],
        [asked.permutations, asked.block, asked.test, asked.correction, asked.splits],
        context.study.settings.study.seed,
        list_seeds(context.study.settings),
    )


def _write_tables(context: Context, people: Sequence[StoryPerson], asked: StoryModels) -> Iterator[Path]:
    fits = keep_shared_regions([one.restore() for one in people])
    regions = list(dict.fromkeys(fits[0].responses.targets["roi"]))
    about = context.build_provenance({"stories": asked.model_dump()}, [str(one.path) for one in people])

    write = partial(write_test_table, context, about=about)
    seeds = list_seeds(context.study.settings)
    null = join_permutations(people, fits).with_means(seeds)
    places = [own for _, own in list_means([(space.network, space.layer) for space in fits[0].spaces], seeds)]
    r = average_rows(average_over_regions(fits, regions), places)
    tested = test_scores(
        context,
        fits,
        null,
        r,
        places,
        names=("r_corrected", "reliability", "explainable_variance"),
        asked=asked,
        purpose="story participants",
        **measure_spread(r[: len(fits[0].spaces)].mean(axis=2), places),
    )
    yield from write(tested, "stories", columns=STORY_COLUMNS)
    yield from write((_average_delays(people, seeds), ""), "stories_delays", columns=GROUP_DELAY_COLUMNS)
    networks = [*list_trained_and_controls(context), *seeds]
    chosen = choose_best_layers(context, fits, networks, splits=asked.splits, seeds=seeds)
    if chosen is not None:
        best = chosen.table
        splits = best["splits"].iloc[0]
        test = f"chosen on one half of the stories and scored on the other, in {splits} splits; not tested"
        yield from write((best, test), "stories_best_layers", columns=BEST_COLUMNS)
    if len(people) < 2:
        log.warning("group: no ceiling between participants and no differences, because there is one participant")
        return
    yield from write((story_ceilings(fits), ""), "stories_ceilings", columns=STORY_CEILING_COLUMNS)
    pairs = [*list_pairs(context, null.rows), *_list_speech_pairs(context, null.rows)]
    if pairs:
        tested = _test_pairs(context, null, r, pairs, asked)
        yield from write(tested, "stories_differences", columns=STORY_DIFFERENCE_COLUMNS)


def _list_speech_pairs(context: Context, rows: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """List the layers of networks, and of networks of several seeds, with each feature of speech."""
    trained = {name for network in context.study.settings.network for name in (network.name, network.seed_of)}
    speech = [k for k, (network, _) in enumerate(rows) if network == SPEECH]
    return [(k, other) for k, (network, _) in enumerate(rows) if network in trained for other in speech]


def _test_pairs(
    context: Context, null: GroupNull, r: Floats, pairs: Sequence[tuple[int, int]], asked: StoryModels
) -> tuple[pd.DataFrame, str]:
    """Test layers against their controls, acoustic models and features of speech, paired over participants."""
    table = score_differences(
        r,
        test=asked.test,
        correction=asked.correction,
        labels={"model": [str(k) for k in range(len(r))], "roi": null.regions},
        pairs=pairs,
        rng=make_rng(context, "story differences"),
    )
    for key, side in (("", "model"), ("other_", "other")):
        named = [null.rows[int(k)] for k in table[side]]
        table[f"{key}network"], table[f"{key}layer"] = [row[0] for row in named], [row[1] for row in named]
    return table, f"{table.attrs['note']}; of these stories only, with no claim about networks"


def _average_delays(people: Sequence[StoryPerson], seeds: Seeds) -> pd.DataFrame:
    """Average the weights of delays over participants, and over the seeds of a network in each."""
    each = pd.concat([read_results_table(one.delay_path) for one in people], ignore_index=True)
    each = add_seeds(each, seeds, value="weight")
    grouped = each.groupby(["network", "layer", "roi", "delay"], sort=False)["weight"]
    return grouped.agg(["mean", "sem"]).reset_index().rename(columns={"mean": "weight", "sem": "standard_error"})
