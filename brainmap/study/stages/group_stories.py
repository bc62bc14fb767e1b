"""Test encoding models of stories over the group: scores, best layers, controls, delays, and ceilings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainmap.features.sounds.word_times import SPEECH
from brainmap.record import content_key, file_digest
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.group import GroupNull
from brainmap.rsa.encoding.participants import average_over_regions
from brainmap.rsa.encoding.permutations import average_present
from brainmap.rsa.encoding.story_ceilings import STORY_CEILING_COLUMNS, story_ceilings
from brainmap.rsa.inference.differences import score_differences
from brainmap.rsa.inference.scores import score_statistics
from brainmap.rsa.inference.seeds import Seeds, average_rows, list_means, measure_spread
from brainmap.study.results.context import Context
from brainmap.study.results.pieces import Piece, Work, clear_pieces
from brainmap.study.results.tables import read_results_table
from brainmap.study.settings.stories import StoryModels
from brainmap.study.stages.bands import run_bands
from brainmap.study.stages.comparisons import add_seeds, list_seeds
from brainmap.study.stages.encoding_best import BEST_COLUMNS, choose_best_layers
from brainmap.study.stages.encoding_networks import LAYER_COLUMNS, list_pairs
from brainmap.study.stages.encoding_pieces import OrderPieces, join_permutations
from brainmap.study.stages.group_encoding import SCORE_COLUMNS, keep_shared_regions, list_trained_and_controls
from brainmap.study.stages.inference import make_rng
from brainmap.study.stages.stories import get_story_models
from brainmap.study.stages.story_people import StoryPerson, yield_story_people
from brainmap.study.stages.story_rdms import run_story_rdms
from brainmap.study.stages.story_tables import DELAY_COLUMNS
from brainmap.types import Floats

log = logging.getLogger("brainmap")
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
    works = [OrderPieces(one) for one in people]
    if context.backend == "dask" and not context.is_done("group_stories", key):
        compute([(work, work.pieces) for work in works])
    context.run_stage("group_stories", key, lambda: _write_tables(context, people, get_story_models(context)))
    for work in works:
        clear_pieces(work.folder)
    asked = get_story_models(context)
    run_bands(context, people, test=asked.test, correction=asked.correction, compute=compute)
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

    def write(name: str, table: pd.DataFrame, test: str, columns: Mapping[str, str]) -> Iterator[Path]:
        path = context.build_table_path(name)
        yield from context.save_table(table[list(columns)], path, columns=columns, about={"Test": test, **about})

    seeds = list_seeds(context.study.settings)
    null = join_permutations(people, fits).with_means(seeds)
    places = [own for _, own in list_means([(space.network, space.layer) for space in fits[0].spaces], seeds)]
    r = average_rows(average_over_regions(fits, regions), places)
    yield from write("stories", *_test_scores(context, fits, null, r, places), STORY_COLUMNS)
    yield from write("stories_delays", _average_delays(people, seeds), "", GROUP_DELAY_COLUMNS)
    networks = [*list_trained_and_controls(context), *seeds]
    chosen = choose_best_layers(context, fits, networks, splits=asked.splits, seeds=seeds)
    if chosen is not None:
        best = chosen.table
        splits = best["splits"].iloc[0]
        test = f"chosen on one half of the stories and scored on the other, in {splits} splits; not tested"
        yield from write("stories_best_layers", best, test, BEST_COLUMNS)
    if len(people) < 2:
        log.warning("group: no ceiling between participants and no differences, because there is one participant")
        return
    yield from write("stories_ceilings", story_ceilings(fits), "", STORY_CEILING_COLUMNS)
    pairs = [*list_pairs(context, null.rows), *_list_speech_pairs(context, null.rows)]
    if pairs:
        found = _test_pairs(context, null, r, pairs, asked)
        yield from write("stories_differences", *found, STORY_DIFFERENCE_COLUMNS)


def _test_scores(
    context: Context, fits: Sequence[Encoding], null: GroupNull, r: Floats, places: Sequence[Sequence[int]]
) -> tuple[pd.DataFrame, str]:
    """Test each layer and region by shared permutations of blocks within stories; beside it, over participants."""
    table, asked = null.test_layers(), get_story_models(context)
    test = table.attrs["note"]
    more: dict[str, Any] = {
        name: average_rows(average_over_regions(fits, null.regions, name), places).reshape(len(table), -1)
        for name in ("r_corrected", "reliability", "explainable_variance")
    }
    table = table.rename(columns={"r": "mean"}).assign(
        standard_error=np.nan,
        n_corrected=np.isfinite(more["r_corrected"]).sum(axis=1),
        **{name: average_present(values) for name, values in more.items()},
        **measure_spread(r[: len(fits[0].spaces)].mean(axis=2), places),
        **dict.fromkeys(_OF_STORIES, np.nan),
    )
    if len(fits) > 1:
        beside = score_statistics(
            r.reshape(len(table), -1),
            test=asked.test,
            correction=asked.correction,
            rng=make_rng(context, "story participants"),
        )
        table["standard_error"] = beside["standard_error"].to_numpy()
        for column, name in zip(_OF_STORIES, ("p", "p_corrected", "smallest_p"), strict=True):
            table[column] = beside[name].to_numpy()
        test += f"; beside it, {beside.attrs['note']}"
    return table, test


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
