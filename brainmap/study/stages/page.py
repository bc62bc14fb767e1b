"""Read what the page of a study shows from the results on disk.

Read what the page of a study shows of encoding models from the results on disk.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from brainmap.rsa.inference.best_layers import BEST
from brainmap.study.results.context import Context
from brainmap.study.settings.study import Network
from brainmap.study.stages.comparisons import add_seeds, list_seeds, list_wholes
from brainmap.study.stages.content.answers import list_rivals, tabulate_answers
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
from brainmap.study.stages.encoding_pieces import build_scores_path
from brainmap.study.stages.explain import choose_explained
from brainmap.study.stages.group import join_brain_rdms
from brainmap.study.stages.networks import read_calls_line
from brainmap.study.stages.wording import describe_best_layers, describe_test, describe_tests
from brainmap.tables import read_results_table
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
    scores = _join_tables(context, "scores.tsv", "rois")
    families = {n.name: [f"{n.name}-{control}" for control in n.controls] for n in settings.network}
    wholes, seeds = list_wholes(settings), list_seeds(settings)
    shown = {name: its for name, its in wholes.items() if name in seeds} | families
    scores = add_seeds(scores, seeds)
    baselines = settings.baselines.name if settings.baselines else ""
    answers = tabulate_answers(
        tables, shown, baselines, seed_of={n.name: n.seed_of for n in settings.network if n.seed_of}
    )
    maps, panels = read_maps(context, answers), build_panels(context, version) if explained else []
    sounds, cams, cam_notes = find_cams(context, version) if explained else (None, None, [])
    listening = read_region_panels(context, version) if explained else {}
    statistics, recovery = tables["statistics"], tables["recovery"]
    people = scores["participant"].nunique()
    there = [p for p in context.study.participants() if context.build_subject_path(p, "rdms.h5", desc="rois").exists()]
    brains, counts = join_brain_rdms(context, there, plain=True), _join_tables(context, "counts.tsv", "voxels")
    facts = collect_facts(context, brains, scores) | describe_panels(panels) | describe_listening(listening)
    table = tabulate_people(context, brains, scores, counts, answers)
    return ReportContent(
        title=settings.study.name,
        question=settings.study.question or _write_question(context),
        simulated=settings.study.simulated,
        unfinished="" if explained else UNFINISHED,
        about=list_about(context, scores),
        cautions=list_cautions(context, tables, families, answers, participants=people),
        key_results=collect_key_results(
            tables, answers, list(wholes), maps, measure=settings.rsa.score, planted_from=settings.network[0].name
        ),
        answers=answers,
        answers_note=describe_best_layers(context),
        rivals={}
        if statistics is None
        else {
            name: list_rivals(tables["differences"], statistics, name, settings.rsa.inference.correction)
            for name in shown
        },
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
        baselines=[baselines] if baselines else [],
        ceilings=tables["ceilings"],
        residual_structure=tables["residual_structure"],
        reliability=tables["reliability"],
        best_layers=tables["best_layers"],
        recovery=None if recovery is None else recovery.rename(columns={"region": "roi"}),
        planted_from=settings.network[0].name,
        layer_correlations=split_correlations(tables["layer_correlations"], families),
        encoding=read_encoding_content(context),
        **listening,
        maps=maps,
        clusters=_sort_by_size(tables["clusters"]),
        difference_clusters=_sort_by_size(tables["difference_clusters"]),
        sheet=build_sheet(answers, version, maps, panels) if explained else [],
        rdm_pairs=pair_rdms(context, brains, answers, explained=version.name, measure=settings.rsa.score),
        maximization=panels,
        sounds=sounds,
        cams=cams,
        people=table,
        persons=describe_people(context, brains, counts, table, answers),
        designs=read_designs(context),
        counts=counts,
        **read_regions(context),
        methods=methods_paragraph({**settings.model_dump(by_alias=True), "facts": facts}),
        sounds_notes=[*_list_sound_notes(context), *cam_notes],
        notices=list_notices(context),
        provenance=read_provenance(context),
    )


def _list_sound_notes(context: Context) -> list[str]:
    """List the notes on the sounds, and how many each network classifies as their condition."""
    networks: tuple[Network, ...] = context.study.settings.network
    said = [line for one in networks for line in load_network_sounds(context, one).report.lines()]
    calls = [read_calls_line(context, one) for one in networks]
    return list(dict.fromkeys([*(line for line in calls if line), *said]))


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
    path = context.build_table_path(name)
    return read_results_table(path) if path.exists() else None


def _join_tables(context: Context, ending: str, desc: str) -> pd.DataFrame:
    """Join one table of all participants whose results exist."""
    paths = [context.build_subject_path(p, ending, desc=desc) for p in context.study.participants()]
    found = [read_results_table(p) for p in paths if p.exists()]
    return pd.concat(found, ignore_index=True)


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
    asked, paths = (
        context.study.settings.encoding,
        {k: context.build_table_path(v) for k, v in _ENCODING_TABLES.items()},
    )
    if asked is None or not paths["statistics"].exists():
        return None
    files = [build_scores_path(context, person, "encoding") for person in context.study.participants()]
    each = pd.concat([read_results_table(file) for file in files], ignore_index=True)
    statistics = read_results_table(paths["statistics"])
    mean = each.groupby([*_ROW, "participant"], sort=False, as_index=False)[["r"]].mean().rename(columns={"r": "score"})
    seeds = list_seeds(context.study.settings)
    mean = add_seeds(mean, seeds)
    mean = mean[mean["roi"].isin(statistics["roi"])]
    tables = {key: read_results_table(path) for key, path in paths.items() if path.exists()}
    notes = {key: read_test(path.with_suffix(".json")) for key, path in paths.items() if path.exists()}
    scores = add_seeds(read_results_table(context.build_table_path("scores")), seeds)
    differences = tables.get("differences")
    return EncodingContent(
        scores=select_best_baselines(context, mean),
        statistics=statistics,
        similarity=scores.groupby(_ROW, sort=False, as_index=False)[["score"]].mean(),
        best_layers=tables.get("best_layers"),
        positions=tables.get("positions"),
        networks=None if (networks := tables.get("networks")) is None else networks.sort_values("p", kind="stable"),
        differences=None if differences is None else differences.sort_values("p", kind="stable"),
        agreement=tables.get("agreement"),
        bands=tables.get("bands"),
        tested=notes["statistics"].split("; beside it")[0],
        notes={key: f"{said[0].upper()}{said[1:]}." for key, said in notes.items() if said},
        targets=asked.targets,
        groups=asked.groups,
        folds=asked.folds,
        measure=context.study.settings.rsa.score,
    )


def read_test(path: Path) -> str:
    """Read from a sidecar how a table was tested."""
    return str(json.loads(path.read_text(encoding="utf-8")).get("Test", ""))


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
