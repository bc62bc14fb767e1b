"""Analyze the group (stage 3): scores with ceilings and tests, group maps, and recovery of planted layers.

Check the truth of a simulated study before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nibabel import Nifti1Image

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.record import content_key, file_digest
from brainmap.rsa.comparison.ceilings import CEILING_COLUMNS
from brainmap.rsa.comparison.measures import compare_rdms
from brainmap.rsa.images.files import load_image
from brainmap.rsa.inference.halves import BEST_COLUMNS, split_half_best_layer
from brainmap.rsa.rdm.alignment import stack_rdms
from brainmap.rsa.rdm.files import load_plain_rdms, load_rdms
from brainmap.rsa.simulation.recovery import RECOVERY_COLUMNS, recovery_table
from brainmap.study.results.context import Context, make_rng
from brainmap.study.settings.renamed import restore_first_keys
from brainmap.study.settings.study import Participant
from brainmap.study.stages.brains import load_regions
from brainmap.study.stages.comparisons import list_seeds
from brainmap.study.stages.controls import (
    collect_control_rdms,
    compute_ceilings,
    count_items_to_halve,
    design_digests,
    leave_out_controls,
    score_regions,
)
from brainmap.study.stages.group_maps import (
    describe_transforms,
    find_common_space,
    group_map,
    list_tested_layers,
    run_group_maps,
)
from brainmap.study.stages.inference import list_shared_regions, yield_inference_tables
from brainmap.study.stages.networks import Version, build_rdm_path, join_model_rdms, list_layer_names, yield_versions
from brainmap.study.stages.participants import SCORE_COLUMNS
from brainmap.tables import read_table
from brainmap.types import Level, RDMs

VERSION = 8  # 8: all relabelings of 8 items and fewer; 7: of the pairs of best layers, those that a study compares


def run_group(context: Context) -> None:
    """Run the group stages of a study whose participants are complete, without the ceilings of its maps."""
    people = list(context.study.participants())
    key = content_key(
        VERSION,
        [*map(file_digest, _list_rdm_paths(context, people)), *design_digests(context, people)],
        restore_first_keys(context.study.settings.rsa.model_dump(), "rsa"),
        context.study.settings.study.seed,
        *([seeds] if (seeds := list_seeds(context.study.settings)) else []),  # without any, keys are as before
    )
    context.run_stage("group_rois", key, lambda: _write_tables(context, people))
    settings = context.study.settings.searchlight
    space = find_common_space(context, people)
    lacking = describe_transforms(context, people, list_tested_layers(context)) if settings is not None else ""
    if lacking:
        log.warning(lacking)
    elif settings is not None and space is not None and len(people) > 1:
        key = content_key(key, run_group_maps(context, people, space))
    truth = context.study.settings.truth
    if truth is not None and len(people) > 1:
        planted = [context.digest(f) for f in (context.study.resolve(truth.table), *people[0].roi_files)]
        context.run_stage("group_recovery", content_key(key, planted), lambda: _write_recovery(context, people))


def _list_rdm_paths(context: Context, people: list[Participant]) -> list[str]:
    brains = [context.build_subject_path(p, "rdms.h5", desc="rois") for p in people]
    return [str(f) for f in (*brains, *(build_rdm_path(context, v) for v in yield_versions(context)))]


def join_brain_rdms(context: Context, people: list[Participant], *, plain: bool = False) -> RDMs:
    """Join the ROI RDMs of all participants; report and leave out regions that some participants lack.

    `plain` ones are for comparisons and figures only, and need no import of rsatoolbox.
    """
    load = load_plain_rdms if plain else load_rdms
    found: list[Any] = [load(context.build_subject_path(p, "rdms.h5", desc="rois")) for p in people]
    if not found:
        raise InputError(
            f"group: no participant's RDMs of regions are left in {context.study.out}; run the study again"
        )
    shared = list_shared_regions([one.rdm_descriptors["roi"] for one in found], "group")
    return stack_rdms([one.subset("roi", shared) for one in found])


def _write_tables(context: Context, people: list[Participant]) -> Iterator[Path]:
    settings = context.study.settings.rsa
    every, brains = join_model_rdms(context), join_brain_rdms(context, people)
    models = leave_out_controls(context, every)
    assert models is not None  # a study has a network beside the baselines
    scores = score_regions(context, models, brains)
    about = context.build_provenance({"rsa": settings.model_dump()}, _list_rdm_paths(context, people))
    rows = [
        {"participant": str(who), "network": network, "layer": layer, "roi": str(roi), "score": scores[i, j]}
        for i, (network, layer) in enumerate(list_layer_names(models))
        for j, (who, roi) in enumerate(
            zip(brains.rdm_descriptors["participant"], brains.rdm_descriptors["roi"], strict=True)
        )
    ]
    about_scores = {"Measure": settings.score, **about}
    yield from _write_table(context, "scores", pd.DataFrame(rows), SCORE_COLUMNS, about_scores)
    for found in yield_inference_tables(context, models, brains, scores):
        yield from _write_table(context, found.name, found.table, found.columns, {**found.about, **about})
    if len(people) > 1:
        yield from _write_table(context, "ceilings", compute_ceilings(context, brains), CEILING_COLUMNS, about)
    best, halved = [], count_items_to_halve(context)
    every_seed = list_seeds(context.study.settings)
    for name, members in _list_networks(context):
        mine = leave_out_controls(context, join_model_rdms(context, members))
        if mine is not None and mine.n_rdm > len(members) and brains.n_cond >= halved:
            whole = settings.items == "condition" or len(set(brains.pattern_descriptors["condition"])) >= halved
            by: Level = "condition" if whole else "stimulus"
            table = split_half_best_layer(
                mine,
                brains,
                measure=settings.measure,
                splits=settings.inference.splits,
                rng=make_rng(context, "halves"),  # the same splits for every network
                by=by,
                control_rdms=collect_control_rdms(context, brains),
                seeds={name: every_seed[name]} if name in every_seed else None,
            )
            table.insert(0, "network", name)
            best.append(table)
    if brains.n_cond < halved:
        log.warning(
            "group: best layers are not chosen, because %d items are too few to halve (%d are needed)",
            brains.n_cond,
            halved,
        )
    if any(len(table) for table in best):
        yield from _write_table(context, "best_layers", pd.concat(best, ignore_index=True), BEST_COLUMNS, about)
    yield from _write_layer_correlations(context, every, about)


def _list_networks(context: Context) -> list[tuple[str, list[Version]]]:
    """List all networks, controls and baselines by name, then those of several seeds, each with its seeds."""
    every = {version.name: version for version in yield_versions(context)}
    seeds = list_seeds(context.study.settings)
    found = {name: [name] for name in every} | seeds
    return [(name, [every[one] for one in members]) for name, members in found.items()]


def _write_layer_correlations(context: Context, models: RDMs, about: dict[str, Any]) -> Iterator[Path]:
    """Write Spearman correlations between the RDMs of layers, which show how hard neighbors are to separate."""
    names = [" ".join(name) for name in list_layer_names(models)]
    table = pd.DataFrame(compare_rdms(models, models, measure="spearman"), columns=names)
    table.insert(0, "layer", names)
    columns = {"layer": "network and layer"} | {n: f"Spearman correlation with the RDM of {n}" for n in names}
    yield from _write_table(context, "layer_correlations", table, columns, about)


def _write_table(
    context: Context, name: str, table: pd.DataFrame, columns: dict[str, str], about: dict[str, Any]
) -> Iterator[Path]:
    yield from context.save_table(table, context.build_table_path(name), columns=columns, about=about)


def _write_recovery(context: Context, people: list[Participant]) -> Iterator[Path]:
    """Compare planted with recovered layers, for the first network, from which the truth was planted."""
    truth = context.study.settings.truth
    assert truth is not None
    table = pd.read_csv(context.study.resolve(truth.table), sep="\t", dtype=str, keep_default_na=False)
    planted = {str(r): (str(layer) or None) for r, layer in zip(table["region"], table["layer"], strict=True)}
    version = next(yield_versions(context))
    models, brains = join_model_rdms(context, [version]), join_brain_rdms(context, people)
    layers = [str(layer) for layer in models.rdm_descriptors["layer"]]
    scores = score_regions(context, models, brains)
    roi_of = np.array([str(r) for r in brains.rdm_descriptors["roi"]])
    planted = _select_scored(planted, scores, roi_of)
    if not planted:
        return
    cube = np.stack([scores[:, roi_of == roi].T for roi in planted], axis=2)
    bounds = compute_ceilings(context, brains).set_index("roi")
    found = recovery_table(
        cube,
        layers=layers,
        planted=planted,
        ceilings={r: (bounds.lower[r], bounds.upper[r]) for r in planted},
        rng=make_rng(context, "recovery"),
        **_collect_searchlight(context, people, version, layers),
    )
    inputs = [context.study.resolve(truth.table), *_list_rdm_paths(context, people)]
    about = context.build_provenance({"truth": planted}, inputs)
    yield from _write_table(context, "recovery", found, dict(RECOVERY_COLUMNS), about)


def _select_scored(planted: dict[str, str | None], scores: Any, roi_of: Any) -> dict[str, str | None]:
    """Select the planted regions with a score of every layer in every participant, and report the others."""
    whole = {roi: layer for roi, layer in planted.items() if np.isfinite(scores[:, roi_of == roi]).all()}
    lost = [roi for roi in planted if roi not in whole]
    if lost:
        log.warning("group: recovery is not told of %s, where scores are missing", list_some(lost))
    return whole


def _collect_searchlight(
    context: Context, people: list[Participant], version: Version, layers: list[str]
) -> dict[str, Any]:
    """Return the part of the recovery table from the searchlight, where there is one."""
    space, settings = find_common_space(context, people), context.study.settings.searchlight
    if settings is None or space is None or settings.warped is not None:  # regions are not on the warped grid
        return {}
    best: Nifti1Image = load_image(group_map(context, version, "", "bestlayer", space))
    values = np.nan_to_num(np.asarray(best.dataobj))
    rois = load_regions(people[0], whole=True)
    return {
        "mean_maps": {layer: load_image(group_map(context, version, layer, "mean", space)) for layer in layers},
        "significant": best.__class__(values, best.affine),
        "regions": {name: rois[name] for name in rois.names},
    }


def check_truth(context: Context, person: Participant, layers: dict[str, tuple[str, ...]]) -> None:
    """Check that the planted regions and layers exist."""
    truth = context.study.settings.truth
    if truth is None:
        return
    table = read_table(context.study.resolve(truth.table), "[truth] table")
    for column in ("region", "layer"):
        if column not in table:
            raise InputError(
                f"[truth] table: expected a column {column!r}, got {list_some(map(str, table.columns))}; add it"
            )
    try:
        known = load_regions(person, whole=True).names
    except InputError:
        return  # it is listed with the participant
    first = layers.get(context.study.settings.network[0].name)
    for column, names in (("region", known), ("layer", first)):
        unknown = [name for name in table[column] if name and names is not None and name not in names]
        if unknown:
            raise InputError(f"[truth] table: no {column} {unknown[0]!r}{suggest_word(unknown[0], names or ())}")
