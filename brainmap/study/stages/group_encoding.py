"""Test encoding models over the group (stage 3): scores, differences from controls, and agreement with RSA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.record import content_key, file_digest
from brainmap.rsa.encoding.agreement import LEAST_LAYERS, correlate_profiles
from brainmap.rsa.encoding.counts import warn_of_participants
from brainmap.rsa.encoding.dimensionality import tabulate_dimensionality
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.group import GroupNull
from brainmap.rsa.encoding.participants import average_over_regions
from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS, average_present
from brainmap.rsa.encoding.responses import keep_targets
from brainmap.rsa.inference.scores import score_statistics
from brainmap.rsa.inference.seeds import SEED_COLUMNS, Seeds, average_rows, list_means, measure_spread
from brainmap.study.results.context import Context, make_rng
from brainmap.study.results.pieces import Piece, Work
from brainmap.study.settings.stories import StoryModels
from brainmap.study.settings.study import Inference
from brainmap.study.stages.bands import run_bands
from brainmap.study.stages.comparisons import add_test_beside, describe_test_beside, list_comparisons, list_seeds
from brainmap.study.stages.encoding import EncodedPerson, read_counts, yield_encoded
from brainmap.study.stages.encoding_comparisons import (
    BEST_COLUMNS,
    LAYER_COLUMNS,
    NETWORK_COLUMNS,
    PARTICIPANTS,
    POSITION_COLUMNS,
    choose_best_layers,
    compare_layers,
    compare_networks,
    compare_positions,
    list_pairs,
)
from brainmap.study.stages.encoding_pieces import OrderPieces, join_permutations, run_with_pieces, write_test_table
from brainmap.study.stages.generality import THESE_SOUNDS
from brainmap.study.stages.inference import list_shared_regions
from brainmap.study.stages.networks import yield_heard
from brainmap.tables import read_results_table
from brainmap.types import Floats

VERSION = 4  # 2: best layers; 3: networks are compared, and seeds of one; 4: positions over sounds
_ROW = ("network", "layer", "roi")
SCORE_COLUMNS = {
    **{key: text for key, text in ENCODING_TEST_COLUMNS.items() if key in _ROW},
    "mean": "r: correlation of predicted and measured responses within test folds, mean over folds, the voxels of the "
    "region, and participants",
    "standard_error": "of that mean, over participants",
    "r_corrected": "r / sqrt(reliability), mean over the voxels of the region and over participants",
    "n_corrected": "participants with a corrected score",
    "reliability": "reliability of the mean response over repetitions, mean over voxels and participants",
    "dimensionality": "effective dimensionality of the layer's z-scored units over the sounds (participation ratio)",
    **SEED_COLUMNS,
    **{key: text for key, text in ENCODING_TEST_COLUMNS.items() if key in ("p", "p_corrected", "n", "permutations")},
    "smallest_p": ENCODING_TEST_COLUMNS["smallest_p"],
    **PARTICIPANTS,
}
AGREEMENT_COLUMNS = {
    "network": "network, or a control of it",
    "roi": "region of interest",
    "layers": "number of layers",
    "rho": "Spearman correlation over layers of RSA scores and encoding r of a participant, mean over participants",
    "standard_error": "of that mean, over participants",
    "statistic": "test statistic",
    "p": f"that the mean is above 0, over participants, uncorrected: {THESE_SOUNDS}",
    "p_corrected": "corrected over all rows of the table",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
}


def run_group_encoding(context: Context, compute: Callable[[Sequence[tuple[Work, Sequence[Piece]]]], None]) -> None:
    """Test the encoding models of a study whose participants are complete.

    `compute` computes pieces on Dask workers, where these are asked for.
    """
    if context.study.settings.encoding is None:
        return
    people = list(yield_encoded(context))
    key = compute_group_key(context, people)
    works = [OrderPieces(one) for one in people]
    run_with_pieces(
        context, "group_encoding", key, works, write=lambda: _write_tables(context, people), compute=compute
    )
    run_bands(context, people, context.study.settings.rsa.inference, compute)


def is_group_encoded(context: Context) -> bool:
    """Tell whether the tables of the group exist, for which all participants must be fitted."""
    if context.ledger.read("group_encoding")["key"] is None or not context.build_table_path("scores").exists():
        return False
    try:
        people = list(yield_encoded(context))
    except InputError:  # betas of other participants are not there
        return False
    there = all(one.path.exists() for one in people)
    return there and context.is_done("group_encoding", compute_group_key(context, people))


def compute_group_key(context: Context, people: Sequence[EncodedPerson]) -> str:
    """Compute the key of everything that the tables of the group depend on."""
    asked, inference = context.study.settings.encoding, context.study.settings.rsa.inference
    assert asked is not None  # the stage runs only with encoding models
    return content_key(
        VERSION,
        [[one.label, one.key, file_digest(one.path)] for one in people],
        file_digest(context.build_table_path("scores")),
        [asked.permutations, inference.test, inference.correction, inference.splits, context.study.settings.study.seed],
        list_seeds(context.study.settings),
    )


def _write_tables(context: Context, people: Sequence[EncodedPerson]) -> Iterator[Path]:
    fits, asked = keep_shared_regions([one.restore() for one in people]), people[0].asked
    seeds = list_seeds(context.study.settings)
    warn_of_participants(read_counts(people))
    inputs = [str(one.path) for one in people]
    about = context.build_provenance({"encoding": asked.model_dump()}, inputs)
    inference = context.study.settings.rsa.inference
    null = join_permutations(people, fits).with_means(seeds)
    places = [own for _, own in list_means([(space.network, space.layer) for space in fits[0].spaces], seeds)]
    r = average_rows(average_over_regions(fits, null.regions), places)
    tested = run_score_tests(
        context,
        fits,
        null,
        r,
        places,
        names=("r_corrected", "reliability"),
        asked=inference,
        purpose="encoding participants",
        **describe_layers(fits[0], r, places),
    )
    yield from write_test_table(context, tested, "encoding", columns=SCORE_COLUMNS, about=about)
    names = [*list_trained_and_controls(context), *seeds]
    best = choose_best_layers(context, fits, names, splits=inference.splits, seeds=seeds)
    if best is not None:
        test = (
            f"chosen on one half of the sounds and scored on the other, in {best.table['splits'].iloc[0]} splits; not "
            "tested"
        )
        yield from write_test_table(
            context, (best.table, test), "encoding_best_layers", columns=BEST_COLUMNS, about=about
        )
        positions = compare_positions(context, best)
        if positions is not None:
            tested = positions, str(positions.attrs["note"])
            yield from write_test_table(context, tested, "encoding_positions", columns=POSITION_COLUMNS, about=about)
    pairs, networks = list_pairs(context, null.rows), list_comparisons(context.study.settings, null.networks)
    if pairs:
        tested = compare_layers(context, null, r, pairs)
        yield from write_test_table(context, tested, "encoding_differences", columns=LAYER_COLUMNS, about=about)
    if networks:
        tested = compare_networks(context, null, networks)
        yield from write_test_table(context, tested, "encoding_networks", columns=NETWORK_COLUMNS, about=about)
    if len(people) < 2:
        log.warning("group: encoding models are not tested over participants, because there is one")
        return
    agreement = _compare_with_rsa(context, fits, null.regions, r, null.rows, seeds)
    if agreement is not None:
        yield from write_test_table(context, agreement, "encoding_agreement", columns=AGREEMENT_COLUMNS, about=about)


def list_trained_and_controls(context: Context) -> list[str]:
    """List the names of networks, each followed by its controls; baselines have no depth."""
    baselines = context.study.settings.baselines
    return [version.name for version in yield_heard(context) if version.network is not baselines]


def keep_shared_regions(fits: Sequence[Encoding]) -> list[Encoding]:
    """Keep the regions that all participants have, and report those that are left out.

    Raises
    ------
    InputError
        No region is common to all.
    """
    own = [fit.responses.targets["roi"] for fit in fits]
    shared = list_shared_regions(own, "encoding", "encoding models of ")
    return [
        replace(
            fit,
            responses=keep_targets(fit.responses, fit.responses.targets["roi"].isin(shared).to_numpy()),
            scores=fit.scores[fit.scores["roi"].isin(shared)].reset_index(drop=True),
        )
        for fit in fits
    ]


def run_score_tests(
    context: Context,
    fits: Sequence[Encoding],
    null: GroupNull,
    r: Floats,
    places: Sequence[Sequence[int]],
    *,
    names: Sequence[Literal["r_corrected", "reliability", "explainable_variance"]],
    asked: Inference | StoryModels,
    purpose: str,
    **described: Any,
) -> tuple[pd.DataFrame, str]:
    """Test each layer and region by shared permutations; beside it, over participants.

    `names` are further scores that are averaged, `purpose` is that of random numbers, and `described` holds columns.
    """
    table = null.test_layers()
    more = {
        name: average_rows(average_over_regions(fits, null.regions, name), places).reshape(len(table), -1)
        for name in names
    }
    found = table.rename(columns={"r": "mean"}).assign(
        n_corrected=np.isfinite(more["r_corrected"]).sum(axis=1),
        **{name: average_present(values) for name, values in more.items()},
        **described,
    )
    beside = None
    if len(fits) > 1:
        own, rng = r.reshape(len(table), -1), make_rng(context, purpose)
        beside = score_statistics(own, test=asked.test, correction=asked.correction, rng=rng)
    return add_test_beside(found, beside), describe_test_beside(table.attrs["note"], beside)


def describe_layers(fit: Encoding, r: Floats, places: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """Return the effective dimensionality of each row of the scores, how many seeds it has, and how far they lie apart.

    `r` `(n_rows, n_regions, n_participants)` begins with the layers as they are.
    """
    size = tabulate_dimensionality(fit.spaces)["dimensionality"].to_numpy()
    mean = r[: len(fit.spaces)].mean(axis=2)
    return {"dimensionality": np.repeat(average_rows(size, places), mean.shape[1]), **measure_spread(mean, places)}


def _compare_with_rsa(
    context: Context,
    fits: Sequence[Encoding],
    regions: Sequence[str],
    r: Floats,
    rows: Sequence[tuple[str, str]],
    seeds: Seeds,
) -> tuple[pd.DataFrame, str] | None:
    """Correlate the layer profiles of RSA and encoding models in regions that both have; None without such profiles."""
    scores = read_results_table(context.build_table_path("scores")).set_index([*_ROW, "participant"])["score"]
    inference = context.study.settings.rsa.inference
    names = [*list_trained_and_controls(context), *seeds]
    profiles, layers = {}, {}
    for name in names:
        own = [k for k, (network, _) in enumerate(rows) if network == name]
        if len(own) < LEAST_LAYERS:
            continue
        members, shape = seeds.get(name, [name]), (-1, len(own), len(regions), len(fits))
        wanted = pd.MultiIndex.from_product(
            [members, [rows[k][1] for k in own], regions, [fit.participant for fit in fits]]
        )
        rsa = scores.reindex(wanted).to_numpy().reshape(shape).mean(axis=0)
        profiles[name], layers[name] = correlate_profiles(rsa, r[own]), len(own)
    few = [name for name in names if name not in profiles]
    if few:
        log.info("group: profiles of %s have under %d layers and no agreement with RSA", list_some(few), LEAST_LAYERS)
    if not profiles:
        return None
    table = score_statistics(
        np.stack(list(profiles.values())),
        test=inference.test,
        correction=inference.correction,
        labels={"network": list(profiles), "roi": list(regions)},
        rng=make_rng(context, "encoding agreement"),
    )
    found = table.rename(columns={"mean": "rho"}).assign(layers=[layers[name] for name in table["network"]])
    return found, str(table.attrs["note"])
