"""Test encoding models of stories over the group: scores, best layers, controls, delays, and ceilings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from brainmap.features.sounds.word_times import SPEECH
from brainmap.progress import log
from brainmap.record import content_key, file_digest
from brainmap.rsa.encoding.group import GroupNull
from brainmap.rsa.encoding.participants import average_over_regions
from brainmap.rsa.encoding.story_ceilings import (
    LISTENER_COLUMNS,
    STORY_CEILING_COLUMNS,
    compare_listeners,
    story_ceilings,
)
from brainmap.rsa.inference.differences import score_differences
from brainmap.rsa.inference.seeds import Seeds, average_rows, list_means, measure_spread
from brainmap.study.results.context import Context, make_rng
from brainmap.study.results.pieces import Piece, Work
from brainmap.study.settings.stories import StoryModels
from brainmap.study.stages.bands import run_bands
from brainmap.study.stages.comparisons import add_seeds, list_seeds
from brainmap.study.stages.encoding_comparisons import BEST_COLUMNS, LAYER_COLUMNS, choose_best_layers, list_pairs
from brainmap.study.stages.encoding_pieces import (
    OrderPieces,
    join_permutations,
    run_with_pieces,
    write_test_table,
)
from brainmap.study.stages.group_encoding import (
    SCORE_COLUMNS,
    keep_shared_regions,
    list_trained_and_controls,
    run_score_tests,
)
from brainmap.study.stages.stories import get_story_models
from brainmap.study.stages.story_people import StoryPerson, yield_story_people
from brainmap.study.stages.story_rdms import run_story_rdms
from brainmap.study.stages.story_tables import DELAY_COLUMNS
from brainmap.types import Floats

VERSION = 3  # 2: several seeds of a network are one network; 3: participants are compared

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
    tested = run_score_tests(
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
    yield from write((_average_delays(context, seeds), ""), "stories_delays", columns=GROUP_DELAY_COLUMNS)
    networks = [*list_trained_and_controls(context), *seeds]
    best = choose_best_layers(context, fits, networks, splits=asked.splits, seeds=seeds)
    if best is not None:
        splits = best.table["splits"].iloc[0]
        test = f"chosen on one half of the stories and scored on the other, in {splits} splits; not tested"
        yield from write((best.table, test), "stories_best_layers", columns=BEST_COLUMNS)
    if len(people) < 2:
        log.warning("group: no ceiling between participants and no differences, because there is one participant")
        return
    yield from write((story_ceilings(fits), ""), "stories_ceilings", columns=STORY_CEILING_COLUMNS)
    yield from write((compare_listeners(fits), ""), "stories_participants", columns=LISTENER_COLUMNS)
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


def _average_delays(context: Context, seeds: Seeds) -> pd.DataFrame:
    """Average the weights of delays over participants, and over the seeds of a network in each."""
    each = pd.concat(context.read_person_tables("stories.tsv", desc="delays"), ignore_index=True)
    each = add_seeds(each, seeds, value="weight")
    grouped = each.groupby(["network", "layer", "roi", "delay"], sort=False)["weight"]
    return grouped.agg(["mean", "sem"]).reset_index().rename(columns={"mean": "weight", "sem": "standard_error"})
