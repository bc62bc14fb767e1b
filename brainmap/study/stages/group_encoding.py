"""Test encoding models over the group (stage 3): scores, differences from controls, and agreement with RSA."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.record import content_key, file_digest
from brainmap.rsa.encoding.agreement import LEAST_LAYERS, correlate_profiles
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.participants import average_over_regions
from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS, average_present, encoding_group_test
from brainmap.rsa.inference.differences import score_differences
from brainmap.rsa.inference.scores import score_statistics
from brainmap.study.results.context import Context
from brainmap.study.results.tables import read_results_table
from brainmap.study.stages.encoding import EncodedPerson, keep_targets, yield_encoded
from brainmap.study.stages.encoding_best import BEST_COLUMNS, choose_best_layers
from brainmap.study.stages.generality import THESE_SOUNDS
from brainmap.study.stages.inference import make_rng
from brainmap.study.stages.networks import yield_versions
from brainmap.types import Floats

log = logging.getLogger("brainmap")
VERSION = 2  # 2: best layers
_ROW = ("network", "layer", "roi")
_PARTICIPANTS = {
    "p_these_sounds": "p over participants, uncorrected: of these sounds only, which are taken as fixed",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
    "smallest_p_these_sounds": "smallest p that so many participants can reach",
}
SCORE_COLUMNS = {
    **{key: text for key, text in ENCODING_TEST_COLUMNS.items() if key in _ROW},
    "mean": "r: correlation of predicted and measured responses within test folds, mean over folds, the voxels of the "
    "region, and participants",
    "standard_error": "of that mean, over participants",
    "r_corrected": "r / sqrt(reliability), mean over the voxels of the region and over participants",
    "n_corrected": "participants with a corrected score",
    "reliability": "reliability of the mean response over repetitions, mean over voxels and participants",
    **{key: text for key, text in ENCODING_TEST_COLUMNS.items() if key in ("p", "p_corrected", "n", "permutations")},
    "smallest_p": ENCODING_TEST_COLUMNS["smallest_p"],
    **_PARTICIPANTS,
}
DIFFERENCE_COLUMNS = {
    "network": "network",
    "layer": "layer",
    "other_network": "a control of the network, or the acoustic baselines",
    "other_layer": "the same layer of the control, or an acoustic model",
    "roi": "region of interest",
    "difference": "mean r of the layer less that of the other, over participants",
    "standard_error": "of that difference",
    "statistic": "test statistic",
    "p": f"two-sided, over participants, uncorrected: {THESE_SOUNDS}",
    "p_corrected": "corrected over all rows of the table",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
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


def run_group_encoding(context: Context) -> None:
    """Test the encoding models of a study whose participants are complete."""
    people = list(yield_encoded(context))
    asked = context.study.settings.encoding
    if asked is None:
        return
    inference = context.study.settings.rsa.inference
    key = content_key(
        VERSION,
        [[one.label, one.key, file_digest(one.path)] for one in people],
        file_digest(context.build_table_path("scores")),
        [asked.permutations, inference.test, inference.correction, inference.splits, context.study.settings.study.seed],
    )
    context.run_stage("group_encoding", key, lambda: _write_tables(context, people))


def _write_tables(context: Context, people: Sequence[EncodedPerson]) -> Iterator[Path]:
    fits = keep_shared_regions([one.restore() for one in people])
    regions = list(dict.fromkeys(fits[0].responses.targets["roi"]))
    inputs = [str(one.path) for one in people]
    about = context.build_provenance({"encoding": people[0].asked.model_dump()}, inputs)
    r = average_over_regions(fits, regions)
    yield from _write(context, "encoding", *_test_scores(context, fits, regions, r), SCORE_COLUMNS, about)
    splits = context.study.settings.rsa.inference.splits
    best = choose_best_layers(context, fits, list_trained_and_controls(context), splits=splits)
    if best is not None:
        test = (
            f"chosen on one half of the sounds and scored on the other, in {best['splits'].iloc[0]} splits; not tested"
        )
        yield from _write(context, "encoding_best_layers", best, test, BEST_COLUMNS, about)
    if len(people) < 2:
        log.warning("group: differences of encoding models are not tested, because there is one participant")
        return
    pairs = list_pairs(context, fits[0])
    if pairs:
        yield from _write(
            context,
            "encoding_differences",
            *_test_pairs(context, fits[0], regions, r, pairs),
            DIFFERENCE_COLUMNS,
            about,
        )
    found = _compare_with_rsa(context, fits, regions, r)
    if found is not None:
        yield from _write(context, "encoding_agreement", *found, AGREEMENT_COLUMNS, about)


def list_trained_and_controls(context: Context) -> list[str]:
    """List the names of networks, each followed by its controls; baselines have no depth."""
    baselines = context.study.settings.baselines
    return [version.name for version in yield_versions(context) if version.network is not baselines]


def _write(
    context: Context, name: str, table: pd.DataFrame, test: str, columns: Mapping[str, str], about: Mapping[str, Any]
) -> Iterator[Path]:
    path = context.build_table_path(name)
    yield from context.save_table(table[list(columns)], path, columns=columns, about={"Test": test, **about})


def keep_shared_regions(fits: Sequence[Encoding]) -> list[Encoding]:
    """Keep the regions that all participants have, and report those that are left out.

    Raises
    ------
    InputError
        No region is common to all.
    """
    own = [list(dict.fromkeys(fit.responses.targets["roi"])) for fit in fits]
    shared = [roi for roi in own[0] if all(roi in names for names in own)]
    lost = sorted({roi for names in own for roi in names} - set(shared))
    if not shared:
        raise InputError(f"encoding: no region is common to all participants (there are {list_some(lost)})")
    if not lost:
        return list(fits)
    log.warning("group: encoding models of %s are left out, which some participants lack", list_some(lost))
    return [
        replace(
            fit,
            responses=keep_targets(fit.responses, fit.responses.targets["roi"].isin(shared)),
            scores=fit.scores[fit.scores["roi"].isin(shared)].reset_index(drop=True),
        )
        for fit in fits
    ]


def _test_scores(
    context: Context, fits: Sequence[Encoding], regions: Sequence[str], r: Floats
) -> tuple[pd.DataFrame, str]:
    """Test each layer and region by shared permutations of the sounds; beside it, over participants."""
    asked, inference = context.study.settings.encoding, context.study.settings.rsa.inference
    assert asked is not None  # the stage runs only with encoding models
    table = encoding_group_test(fits, permutations=asked.permutations, rng=make_rng(context, "encoding test"))
    test = table.attrs["note"]
    corrected = average_over_regions(fits, regions, "r_corrected").reshape(len(table), -1)
    reliability = average_over_regions(fits, regions, "reliability").reshape(len(table), -1)
    own = r.reshape(len(table), -1)
    table = table.rename(columns={"r": "mean"}).assign(
        standard_error=np.nan,
        r_corrected=average_present(corrected),
        n_corrected=np.isfinite(corrected).sum(axis=1),
        reliability=average_present(reliability),
        **dict.fromkeys(_PARTICIPANTS, np.nan),
    )
    if len(fits) > 1:
        beside = score_statistics(
            own,
            test=inference.test,
            correction=inference.correction,
            rng=make_rng(context, "encoding participants"),
        )
        table["standard_error"] = beside["standard_error"].to_numpy()
        for column, name in zip(_PARTICIPANTS, ("p", "p_corrected", "smallest_p"), strict=True):
            table[column] = beside[name].to_numpy()
        test += f"; beside it, {beside.attrs['note']}"
    return table, test


def list_pairs(context: Context, fit: Encoding) -> list[tuple[int, int]]:
    """List the layers of networks that are compared: with the same layer of controls, and with acoustic models."""
    settings, places = context.study.settings, {(s.network, s.layer): k for k, s in enumerate(fit.spaces)}
    acoustic = (
        [] if settings.baselines is None else [k for key, k in places.items() if key[0] == settings.baselines.name]
    )
    found: list[tuple[int, int]] = []
    for network in settings.network:
        for (name, layer), k in places.items():
            if name == network.name:
                controls = (places.get((f"{name}-{control}", layer)) for control in network.controls)
                found += [(k, other) for other in (*controls, *acoustic) if other is not None]
    return found


def _test_pairs(
    context: Context, fit: Encoding, regions: Sequence[str], r: Floats, pairs: Sequence[tuple[int, int]]
) -> tuple[pd.DataFrame, str]:
    """Test layers against their controls and the acoustic models, paired over participants."""
    inference = context.study.settings.rsa.inference
    table = score_differences(
        r,
        test=inference.test,
        correction=inference.correction,
        labels={"model": [str(k) for k in range(len(fit.spaces))], "roi": list(regions)},
        pairs=pairs,
        rng=make_rng(context, "encoding differences"),
    )
    for key, side in (("", "model"), ("other_", "other")):
        named = [fit.spaces[int(k)] for k in table[side]]
        table[f"{key}network"], table[f"{key}layer"] = [s.network for s in named], [s.layer for s in named]
    return table, f"{table.attrs['note']}; it makes no claim about networks"


def _compare_with_rsa(
    context: Context, fits: Sequence[Encoding], regions: Sequence[str], r: Floats
) -> tuple[pd.DataFrame, str] | None:
    """Correlate the layer profiles of RSA and encoding models in regions that both have; None without such profiles."""
    scores = read_results_table(context.build_table_path("scores")).set_index([*_ROW, "participant"])["score"]
    inference = context.study.settings.rsa.inference
    names = list_trained_and_controls(context)
    profiles, layers = {}, {}
    for name in names:
        own = [k for k, space in enumerate(fits[0].spaces) if space.network == name]
        if len(own) < LEAST_LAYERS:
            continue
        wanted = pd.MultiIndex.from_product(
            [[name], [fits[0].spaces[k].layer for k in own], regions, [fit.participant for fit in fits]]
        )
        rsa = scores.reindex(wanted).to_numpy().reshape(len(own), len(regions), len(fits))
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
