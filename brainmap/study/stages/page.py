"""Read what the page of a study shows from the results on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from brainmap.rsa.inference.best_layers import BEST
from brainmap.study.results.context import Context
from brainmap.study.settings.hypotheses import HYPOTHESES
from brainmap.study.settings.study import Network
from brainmap.study.stages.comparisons import add_seeds, list_seeds, list_wholes
from brainmap.study.stages.content.answers import ACOUSTIC, list_rivals, tabulate_answers
from brainmap.study.stages.content.cautions import list_cautions
from brainmap.study.stages.content.designs import read_designs
from brainmap.study.stages.content.explanations import (
    build_panels,
    build_sheet,
    describe_panels,
    find_cams,
    load_network_sounds,
    pair_rdms,
    split_correlations,
)
from brainmap.study.stages.content.facts import collect_facts, list_about, list_notices, read_provenance
from brainmap.study.stages.content.key_results import collect_key_results
from brainmap.study.stages.content.listening import describe_listening, read_region_panels
from brainmap.study.stages.content.maps import list_layers, read_maps, read_regions
from brainmap.study.stages.content.people import describe_people, tabulate_people
from brainmap.study.stages.explain import choose_explained
from brainmap.study.stages.group import join_brain_rdms
from brainmap.study.stages.networks import read_calls_line
from brainmap.study.stages.wording import describe_best_layers, describe_test, describe_tests, join_names, join_networks
from brainmap.types import Correction
from brainmap.viz.page.content import EncodingContent, ReportContent
from brainmap.viz.page.write import methods_paragraph

UNFINISHED = "What the layers respond to is still being computed; this page is written again when it is done."
TABLES = (
    "statistics",
    "bootstrap",
    "differences",
    "ceilings",
    "residual_structure",
    "reliability",
    "best_layers",
    "recovery",
    "clusters",
    "difference_clusters",
    "layer_correlations",
)


def read_page_content(context: Context, *, explained: bool = True) -> ReportContent:
    """Read everything that the page shows from the results; where layers are not `explained` yet, it says so."""
    settings = context.study.settings
    tables = {name: _find_table(context, name) for name in TABLES}
    version = choose_explained(context)
    scores = pd.concat(context.read_person_tables("scores.tsv", desc="rois"), ignore_index=True)
    families = {n.name: [f"{n.name}-{control}" for control in n.controls] for n in settings.network}
    wholes, seeds = list_wholes(settings), list_seeds(settings)
    shown = {name: its for name, its in wholes.items() if name in seeds} | families
    scores = add_seeds(scores, seeds)
    answers = _answer(context, tables, shown)
    supposed = tabulate_answers(tables, {HYPOTHESES: ()}) if settings.hypothesis else None
    maps, panels = read_maps(context, answers), build_panels(context, version) if explained else []
    sounds, cams, cam_notes = find_cams(context, version) if explained else (None, None, [])
    listening = read_region_panels(context, version) if explained else {}
    removed, planted = join_names(list(settings.rsa.control_for)), settings.network[0].name
    statistics, recovery = tables["statistics"], tables["recovery"]
    there = [p for p in context.study.participants() if context.build_subject_path(p, "rdms.h5", desc="rois").exists()]
    brains = join_brain_rdms(context, there, plain=True)
    counts = pd.concat(context.read_person_tables("counts.tsv", desc="voxels"), ignore_index=True)
    facts = collect_facts(context, brains, scores) | describe_panels(panels) | describe_listening(listening)
    table = tabulate_people(context, brains, scores, counts, answers)
    return ReportContent(
        title=settings.study.name,
        question=settings.study.question or _write_question(context),
        simulated=settings.study.simulated,
        unfinished="" if explained else UNFINISHED,
        about=list_about(context, scores),
        cautions=list_cautions(context, tables, families, answers, table),
        key_results=collect_key_results(
            tables, answers, list(wholes), maps, measure=settings.rsa.score, planted_from=planted, removed=removed
        ),
        removed=removed,
        answers=answers,
        answers_note=describe_best_layers(context),
        rivals=_list_rivals_of_all(tables, shown, settings.rsa.inference.correction),
        network=version.name,
        networks=shown,
        layers=list_layers(context, version),
        measure=settings.rsa.score,
        map_measure=settings.searchlight.measure if settings.searchlight else "",
        scores=scores,
        statistics=statistics,
        tested=describe_test(context),
        notes=describe_tests(context),
        bootstrap=tables["bootstrap"],
        differences=_sort_by_p(tables["differences"]),
        network_differences=_sort_by_p(tables["differences"], of_best=True),
        baselines=[settings.baselines.name] if settings.baselines else [],
        hypotheses=HYPOTHESES if settings.hypothesis else "",
        ceilings=tables["ceilings"],
        residual_structure=tables["residual_structure"],
        reliability=tables["reliability"],
        best_layers=tables["best_layers"],
        recovery=None if recovery is None else recovery.rename(columns={"region": "roi"}),
        planted_from=planted,
        layer_correlations=split_correlations(tables["layer_correlations"], families),
        encoding=read_encoding_content(context),
        **listening,
        maps=maps,
        clusters=_sort_by_size(tables["clusters"]),
        difference_clusters=_sort_by_size(tables["difference_clusters"]),
        sheet=build_sheet(answers, version, maps, panels) if explained else [],
        rdm_pairs=pair_rdms(
            context, brains, answers, explained=version.name, measure=settings.rsa.score, beside=supposed
        ),
        maximization=panels,
        sounds=sounds,
        cams=cams,
        people=table,
        persons=describe_people(context, brains, counts, table, answers),
        designs=read_designs(context),
        counts=counts,
        **read_regions(context),
        methods=methods_paragraph({**settings.dump(), "facts": facts}),
        sounds_notes=[*_list_sound_notes(context), *cam_notes],
        notices=list_notices(context),
        provenance=read_provenance(context),
    )


def _answer(
    context: Context, tables: Mapping[str, pd.DataFrame | None], shown: Mapping[str, Sequence[str]]
) -> pd.DataFrame | None:
    """Tabulate the answers for the networks that the page shows, as `tabulate_answers`."""
    settings = context.study.settings
    others = {} if settings.baselines is None else {settings.baselines.name: ACOUSTIC}
    others |= {HYPOTHESES: HYPOTHESES} if settings.hypothesis else {}
    seed_of = {one.name: one.seed_of for one in settings.network if one.seed_of}
    return tabulate_answers(tables, shown, others, seed_of=seed_of)


def _list_rivals_of_all(
    tables: Mapping[str, pd.DataFrame | None], networks: Iterable[str], correction: Correction
) -> dict[str, dict[str, list[str]]]:
    """List the layers that are not told apart from the best one in each region, for each network."""
    statistics = tables["statistics"]
    if statistics is None:
        return {}
    return {name: list_rivals(tables["differences"], statistics, name, correction) for name in networks}


def _list_sound_notes(context: Context) -> list[str]:
    """List the notes on the sounds, and how many each network classifies as their condition."""
    networks: tuple[Network, ...] = context.study.settings.network
    said = [line for one in networks for line in load_network_sounds(context, one).report.lines()]
    calls = [read_calls_line(context, one) for one in networks]
    return list(dict.fromkeys([*join_networks([line for line in calls if line]), *said]))


def _sort_by_p(differences: pd.DataFrame | None, *, of_best: bool = False) -> pd.DataFrame | None:
    """Sort pairs of layers, or pairs of best layers, by p, since the page shows only some of them."""
    if differences is None:
        return None
    mine = (differences["layer"] == BEST) == of_best
    return differences[mine].sort_values("p", kind="stable")


def _sort_by_size(clusters: pd.DataFrame | None) -> pd.DataFrame | None:
    if clusters is None:
        return None
    return clusters.sort_values("vertices" if "vertices" in clusters else "voxels", ascending=False, kind="stable")


def _find_table(context: Context, name: str) -> pd.DataFrame | None:
    settings = context.study.settings
    if (name == "recovery" and settings.truth is None) or (name.endswith("clusters") and settings.searchlight is None):
        return None  # it belongs to an earlier study file
    return context.read_group_table(name)


def _write_question(context: Context) -> str:
    n, names = len(context.stimuli), [network.name for network in context.study.settings.network]
    return f"Which layer of {' or '.join(names)} orders these {n} sounds as each region of the brain does?"


_ENCODING_TABLES = {
    "statistics": "encoding",
    "best_layers": "encoding_best_layers",
    "positions": "encoding_positions",
    "networks": "encoding_networks",
    "differences": "encoding_differences",
    "agreement": "encoding_agreement",
    "bands": "encoding_bands",
}
_ROW = ["network", "layer", "roi"]


def read_encoding_content(context: Context) -> EncodingContent | None:
    """Read the tables of encoding models; None where the study asks for none."""
    asked, similar = context.study.settings.encoding, context.read_group_table("scores")
    if asked is None or similar is None or not context.build_table_path("encoding").exists():
        return None
    similar = add_seeds(similar, list_seeds(context.study.settings))
    return EncodingContent(
        **read_model_tables(context, "encoding", _ENCODING_TABLES),
        similarity=similar.groupby(_ROW, sort=False, as_index=False)[["score"]].mean(),
        targets=asked.targets,
        groups=asked.groups,
        folds=asked.folds,
        measure=context.study.settings.rsa.score,
    )


def read_model_tables(context: Context, kind: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Read what the tables of encoding models say, as fields of `EncodingContent`.

    Parameters
    ----------
    context : Context
    kind : {"encoding", "stories"}
        First word of the names of the participants' tables.
    files : mapping of str to str
        Name of the table of the group for each field; `statistics` is there.
    """
    tables = {field: table for field, file in files.items() if (table := context.read_group_table(file)) is not None}
    tests = {field: str(context.read_group_sidecar(files[field]).get("Test", "")) for field in tables}
    for field in {"networks", "differences"} & set(tables):
        tables[field] = tables[field].sort_values("p", kind="stable")
    each = pd.concat(context.read_person_tables(f"{kind}.tsv", desc="rois"), ignore_index=True)
    mean = each.groupby([*_ROW, "participant"], sort=False, as_index=False)[["r"]].mean().rename(columns={"r": "score"})
    mean = add_seeds(mean, list_seeds(context.study.settings))
    return {
        **tables,
        "scores": select_best_baselines(context, mean[mean["roi"].isin(tables["statistics"]["roi"])]),
        "tested": tests["statistics"].split("; beside it")[0],
        "notes": {field: f"{said[0].upper()}{said[1:]}." for field, said in tests.items() if said},
    }


def select_best_baselines(context: Context, scores: pd.DataFrame) -> pd.DataFrame:
    """Select the scores of all networks, and of baselines those that are best in a region, which layers must exceed."""
    baselines = context.study.settings.baselines
    is_baseline = scores["network"] == (baselines.name if baselines else None)
    found = scores[is_baseline]
    if not len(found):
        return scores
    mean = found.groupby(["roi", "layer"], sort=False)["score"].mean()
    best = {str(roi): layer for roi, layer in mean.groupby("roi", sort=False).idxmax()}
    shown = found[found["layer"] == found["roi"].map(best)].assign(network="best acoustic model")
    return pd.concat([scores[~is_baseline], shown])
