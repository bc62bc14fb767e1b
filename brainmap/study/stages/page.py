"""Write the page of a study (stage 5) from the results on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.features.attention.words import keep_known_words
from brainmap.features.networks.checkpoints import Checkpoint
from brainmap.features.representations.files import open_maximizations
from brainmap.places import resolve_inside
from brainmap.record import content_key
from brainmap.rsa.images.files import load_image
from brainmap.rsa.inference.best_layers import BEST
from brainmap.rsa.rdm.files import load_rdms, read_rdm_descriptors
from brainmap.study.results.context import Context
from brainmap.study.results.tables import read_results_table
from brainmap.study.settings.renamed import restore_first_keys
from brainmap.study.settings.study import Network, Participant
from brainmap.study.stages.betas import read_noise
from brainmap.study.stages.calls import read_calls_line
from brainmap.study.stages.ceilings import MEANINGS, build_ceiling_path, explain_no_ceilings
from brainmap.study.stages.encoding_page import read_encoding_content, select_best_baselines
from brainmap.study.stages.explain import build_wav_path, choose_explained, read_cams
from brainmap.study.stages.generality import THESE_SOUNDS
from brainmap.study.stages.group import join_brain_rdms
from brainmap.study.stages.group_maps import SIGNIFICANT, group_map, list_contrasts
from brainmap.study.stages.networks import build_rdm_path, complete_checkpoint, list_inputs, store_path, yield_versions
from brainmap.study.stages.spaces import find_common_space
from brainmap.study.stages.surfaces import group_mesh, is_written, load_map
from brainmap.study.stages.versions import Version
from brainmap.study.stages.wording import collect_test_facts, describe_test, describe_tests
from brainmap.viz.features.spectrograms import make_picture
from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import PatternPanel, RdmPair, ReportContent
from brainmap.viz.page.sheet import SheetRow
from brainmap.viz.page.write import methods_paragraph, write_report

VERSION = 7
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
)


def build_page_path(context: Context) -> Path:
    """Return the path of the page."""
    return context.study.out / "report.html"


def run_page(context: Context) -> Path:
    """Write the page, unless nothing on it has changed."""
    keys = [context.ledger.read(stage)["key"] for stage in context.ledger.stages() if stage != "report"]
    key = content_key(VERSION, keys, restore_first_keys(context.study.settings.model_dump(by_alias=True)))
    context.run_stage("report", key, lambda: _write_page(context))
    return build_page_path(context)


def _write_page(context: Context) -> list[Path]:
    """Write the page and its figures."""
    figures = build_page_path(context).parent / "figures"
    before = {p: p.stat().st_mtime_ns for p in figures.glob("*")}
    page = write_report(read_page_content(context), build_page_path(context), figures=figures)
    return [page, *(p for p in sorted(figures.glob("*")) if p.stat().st_mtime_ns != before.get(p))]


def read_page_content(context: Context) -> ReportContent:
    """Read everything that the page shows from the results."""
    about = context.study.settings.study
    tables = {name: _find_table(context, name) for name in TABLES}
    version = choose_explained(context)
    main = version.name
    layers = [str(layer) for layer in read_rdm_descriptors(build_rdm_path(context, version))["layer"]]
    maps, p_maps, best = _group_maps(context, version, layers)
    scores = _join_tables(context, "scores.tsv", "rois")
    one = {k: t if t is None or "network" not in t else t[t["network"] == main] for k, t in tables.items()}
    panels = _build_panels(context, version)
    sounds, cams, cam_notes = _find_cams(context, version)
    families = {n.name: [f"{n.name}-{control}" for control in n.controls] for n in context.study.settings.network}
    return ReportContent(
        title=about.name,
        question=about.question or _write_question(context),
        simulated=about.simulated,
        key_results=_collect_key_results(context, tables, families),
        network=main,
        networks=families,
        layers=layers,
        measure=context.study.settings.rsa.score,
        map_measure=context.study.settings.searchlight.measure if context.study.settings.searchlight else "",
        scores=select_best_baselines(context, scores),
        statistics=tables["statistics"],
        tested=describe_test(context),
        notes=describe_tests(context),
        bootstrap=tables["bootstrap"],
        differences=_sort_by_p(tables["differences"]),
        network_differences=_sort_by_p(tables["differences"], of_best=True),
        ceilings=tables["ceilings"],
        residual_structure=tables["residual_structure"],
        reliability=tables["reliability"],
        best_layers=tables["best_layers"],
        recovery=None if tables["recovery"] is None else tables["recovery"].rename(columns={"region": "roi"}),
        planted_from=context.study.settings.network[0].name,
        layer_correlations=_read_correlations(context, main),
        encoding=read_encoding_content(context),
        maps=maps,
        p_maps=p_maps,
        best_layer_image=best,
        clusters=_sort_by_size(tables["clusters"]),
        **_collect_differences(context, version, layers, tables["difference_clusters"]),
        **_collect_surface_maps(context, version, layers),
        sheet=_build_sheet(one, maps, panels),
        rdm_pairs=_pair_rdms(context, one, version),
        maximization=panels,
        sounds=sounds,
        cams=cams,
        counts=_join_tables(context, "counts.tsv", "voxels"),
        methods=methods_paragraph(
            {**context.study.settings.model_dump(by_alias=True), "facts": _collect_facts(context, scores, version)}
        ),
        sounds_notes=[*_list_sound_notes(context), *cam_notes],
        provenance=_read_provenance(context),
    )


def _list_sound_notes(context: Context) -> list[str]:
    """List the notes on the sounds, and how many each network classifies as their condition."""
    networks = context.study.settings.network
    said = [line for one in networks for line in _load_sounds(context, Version(one, "")).report.lines()]
    calls = [read_calls_line(context, one) for one in networks]
    return list(dict.fromkeys([*(line for line in calls if line), *said]))


def _sort_by_p(differences: pd.DataFrame | None, *, of_best: bool = False) -> pd.DataFrame | None:
    """Sort pairs of layers, or pairs of best layers, by p, since the page shows only some of them."""
    if differences is None:
        return None
    mine = (differences["layer"] == BEST) == of_best
    return differences[mine].sort_values("p", kind="stable")


def _sort_by_size(clusters: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if clusters is None else clusters.sort_values(_name_extent(clusters), ascending=False, kind="stable")


def _name_extent(clusters: pd.DataFrame) -> str:
    """Return the unit in which the sizes of clusters are counted."""
    return "vertices" if "vertices" in clusters else "voxels"


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


def _group_maps(context: Context, version: Version, layers: list[str]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    space = find_common_space(context, list(context.study.participants()))
    if space is None or context.study.settings.searchlight is None:
        return {}, {}, None
    path = group_map(context, version, "", "bestlayer", space)
    if not path.exists():
        return {}, {}, None
    best = load_image(path)
    means = {layer: load_image(group_map(context, version, layer, "mean", space)) for layer in layers}
    p_maps = {layer: load_image(group_map(context, version, layer, "pfwe", space)) for layer in layers}
    # Where no voxel is significant, there is no map of the best layer to draw.
    return means, p_maps, best if np.isfinite(np.asarray(best.dataobj)).any() else None


def _collect_surface_maps(context: Context, version: Version, layers: list[str]) -> dict[str, Any]:
    """Collect the group maps of a study whose data lie on the cortical surface."""
    people, settings = list(context.study.participants()), context.study.settings.searchlight
    space = find_common_space(context, people)
    if settings is None or space is None or not people[0].brain.on_surface:
        return {}
    best = group_map(context, version, "", "bestlayer", space)
    if not is_written(best):
        return {}
    return {
        "surface_maps": {layer: load_map(group_map(context, version, layer, "mean", space)) for layer in layers},
        "surface_best": load_map(best),
        "surface_mesh": group_mesh(people, settings),
    }


def _collect_differences(
    context: Context, version: Version, layers: list[str], clusters: pd.DataFrame | None
) -> dict[str, Any]:
    """Collect the maps of differences between layers and their clusters, where the study asks for them."""
    space = find_common_space(context, list(context.study.participants()))
    names = [" - ".join(pair) for pair in list_contrasts(context, layers)]
    if space is None or not all(group_map(context, version, name, "mean", space).exists() for name in names):
        return {}
    images = {
        stat: {name: load_image(group_map(context, version, name, stat, space)) for name in names}
        for stat in ("mean", "pfwe")
    }
    return {
        "difference_maps": images["mean"],
        "difference_p_maps": images["pfwe"],
        "difference_clusters": _sort_by_size(clusters),
    }


def _write_question(context: Context) -> str:
    n, names = len(context.stimuli), [network.name for network in context.study.settings.network]
    return f"Which layer of {' or '.join(names)} orders these {n} sounds as each region of the brain does?"


def _collect_key_results(
    context: Context, tables: Mapping[str, pd.DataFrame | None], families: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """Collect the key results; every number names its network and the result of its controls."""
    results: list[tuple[str, str]] = []
    recovery, statistics, clusters = tables["recovery"], tables["statistics"], tables["clusters"]
    if recovery is not None:
        planted = recovery[recovery["planted"].notna()]
        source = next(iter(families))
        within = int((planted["distance"] <= 1).sum())
        results.append(
            (
                f"{within} of {len(planted)}",
                f"planted regions whose best layer of {source} is the planted one or its neighbor",
            )
        )
        exact = int((planted["distance"] == 0).sum())
        results.append((f"{exact} of {len(planted)}", f"planted layers of {source} found exactly"))
    if statistics is not None:
        for network, controls in families.items():
            results += _summarize_network(context, statistics, network, controls)
    if clusters is not None and len(trained := clusters[clusters["network"].isin(families)]):
        extent = _name_extent(trained)
        sizes = trained.groupby(["network", "layer"], as_index=False)[[extent]].sum()
        most = sizes.sort_values(extent, ascending=False, kind="stable").iloc[0]
        which = f"{most['layer']} of {most['network']}"
        said = f"{extent} significant for {which}, the most of any layer (p < .05, corrected; {THESE_SOUNDS})"
        results.append((f"{int(most[extent]):,}", said))
    return results


def _summarize_network(
    context: Context, statistics: pd.DataFrame, network: str, controls: Sequence[str]
) -> list[tuple[str, str]]:
    """Count the regions that a network explains; add its highest score and that of its controls in the same region."""
    mine = statistics[statistics["network"] == network]
    if not mine["mean"].notna().any():
        return []
    hits = mine[mine["p_corrected"] <= SIGNIFICANT]
    top = mine.sort_values("mean", ascending=False, kind="stable").iloc[0]
    said = f"highest mean {context.study.settings.rsa.score} of {network}: {top['layer']} in {top['roi']}"
    for control in controls:
        best = statistics[(statistics["network"] == control) & (statistics["roi"] == top["roi"])]["mean"].max()
        said += f"; its {control.removeprefix(network + '-')} control reaches {format_decimals(best)} there"
    explained = f"regions that some layer of {network} explains, corrected over all layers and regions"
    if "test" in mine and (mine["test"] == THESE_SOUNDS).all():
        explained += f" ({THESE_SOUNDS})"
    return [(f"{hits['roi'].nunique()} of {mine['roi'].nunique()}", explained), (format_decimals(top["mean"]), said)]


def _read_correlations(context: Context, network: str) -> pd.DataFrame | None:
    """Read the correlations between the RDMs of the explained network's layers as a square table with layer names."""
    table = _find_table(context, "layer_correlations")
    if table is None:
        return None
    square = table.set_index("layer")
    mine = [n for n in square.index if str(n).split(" ", 1)[0] == network]
    names = [str(n).split(" ", 1)[1] for n in mine]
    return square.loc[mine, mine].set_axis(names, axis=0).set_axis(names, axis=1)


def _find_best_layers(tables: Mapping[str, pd.DataFrame | None]) -> dict[str, tuple[str, float]]:
    """Return for each region the layer chosen on held-out stimuli, and its score there."""
    table = tables["best_layers"]
    if table is None:
        return {}
    scores = table["score"].astype(float)
    rows = zip(table["roi"], table["layer"], scores, strict=True)
    return {str(roi): (str(layer), score) for roi, layer, score in rows}


def _pair_rdms(context: Context, tables: Mapping[str, pd.DataFrame | None], version: Version) -> list[RdmPair]:
    models = load_rdms(build_rdm_path(context, version))
    people = [p for p in context.study.participants() if context.build_subject_path(p, "rdms.h5", desc="rois").exists()]
    brains = join_brain_rdms(context, people)
    return [
        RdmPair(roi=roi, layer=layer, model=models.subset("layer", layer), brain=brains.subset("roi", roi))
        for roi, (layer, _) in _find_best_layers(tables).items()
    ]


def _build_panels(context: Context, version: Version) -> list[PatternPanel]:
    if context.study.settings.explain is None:
        return []
    panels = []
    for layer, kept in open_maximizations(store_path(context, version)).items():
        said = (
            "What each word sounds like to the network" if layer == "output" else f"What channels of {layer} respond to"
        )
        panels.append(
            PatternPanel(
                title=said,
                layer=layer,
                patterns=kept.patterns,
                units=list(kept.labels),
                rate=kept.rate,
                quality=kept.quality,
                wavs=[resolve_inside(build_wav_path(context, version), name) for name in kept.wavs],
                axes=kept.axes,
            )
        )
    return panels


def _build_sheet(
    tables: Mapping[str, pd.DataFrame | None], maps: Mapping[str, Any], panels: list[PatternPanel]
) -> list[SheetRow]:
    """Build one row per layer that is best in an explained region: a maximizing pattern beside its map."""
    where: dict[str, list[str]] = {}
    tested = tables["statistics"]
    explained = None if tested is None else set(tested[tested["p_corrected"] <= SIGNIFICANT]["roi"].astype(str))
    for roi, (layer, score) in _find_best_layers(tables).items():
        if explained is not None and roi not in explained:
            continue
        where.setdefault(layer, []).append(f"{roi} ({score:.2f})")
    rows = []
    for panel in panels:
        if panel.layer in maps and panel.layer in where:
            rows.append(
                SheetRow(
                    layer=panel.layer,
                    image=maps[panel.layer],
                    pattern=_take_first_pattern(panel),
                    rate=panel.rate,
                    unit=str(panel.units[0]),
                    where="best in " + ", ".join(where[panel.layer]),
                )
            )
    return rows


def _take_first_pattern(panel: PatternPanel) -> Any:
    """Return the first pattern of a panel, `(t,)` or `(bands, frames)`."""
    first = np.asarray(panel.patterns)[0]
    return first[0] if first.ndim == 2 else make_picture(first, panel.axes)


def _load_sounds(context: Context, version: Version) -> Any:
    return context.load_sounds_for(_read_checkpoint(context, version))


def _read_checkpoint(context: Context, version: Version) -> Checkpoint:
    assert isinstance(version.network, Network)  # acoustic baselines take the sounds of the first network
    return complete_checkpoint(version.network, context.study.resolve(version.network.checkpoint))


def _find_cams(context: Context, version: Version) -> tuple[Any, Any, list[str]]:
    """Read the maps of sounds whose condition is a class of the network, these sounds, and a note on the others."""
    sounds = _load_sounds(context, version)
    cams = read_cams(context, version) if context.study.settings.explain is not None else None
    if cams is None:
        return sounds, None, []
    known, kept, strange = keep_known_words(sounds, cams)
    if not strange:
        return sounds, cams, []
    what = f"sounds of {len(strange)} conditions have no map of their own class and are left out of the maps"
    return known, kept, [f"network {version.name}: {what} ({list_some(strange, 4)} are no classes of it)"]


def _collect_facts(context: Context, scores: pd.DataFrame, version: Version) -> dict[str, Any]:
    people = list(context.study.participants())
    checkpoints = {
        v.network.name: _read_checkpoint(context, v) for v in yield_versions(context) if isinstance(v.network, Network)
    }
    brains = join_brain_rdms(context, people)
    networks = {}
    for name, checkpoint in checkpoints.items():
        mine = next(v for v in yield_versions(context) if v.network.name == name)
        model = checkpoint.build() if checkpoint.architecture and ":" not in checkpoint.architecture else None
        layers = load_rdms(build_rdm_path(context, mine)).n_rdm
        facts: dict[str, Any] = {"layers": layers}
        if model is not None:
            facts["parameters"] = sum(p.numel() for p in model.parameters())
        if checkpoint.training and "test_accuracy" in checkpoint.training:
            facts["accuracy"] = checkpoint.training["test_accuracy"]
        networks[name] = facts
    facts = {
        "stimuli": len(context.stimuli),
        "conditions": len(set(context.stimuli.values())),
        "participants": scores["participant"].nunique(),
        "runs": _count_runs(people),
        "between_runs": brains.descriptors.get("products") == "between runs",
        "halved": context.build_table_path("best_layers").exists(),
        **collect_test_facts(context),
        "networks": networks,
        "simulated": context.study.settings.study.simulated,
        "surface": people[0].brain.on_surface,
        "ceiling_maps": _find_highest_ceilings(context),
        "version": context.ledger.provenance(parameters={}, inputs={})["Versions"]["brainmap"],
    }
    if found := read_noise(context, people):
        facts["noise"] = found
    truth = context.study.settings.truth
    if truth is not None:
        table = pd.read_csv(context.study.resolve(truth.table), sep="\t", keep_default_na=False)
        facts["planted"] = {
            str(r): str(layer) for r, layer in zip(table["region"], table["layer"], strict=True) if layer
        }
    return facts


def _find_highest_ceilings(context: Context) -> dict[str, str] | None:
    """Return the highest value of each ceiling's map, where there are maps."""
    if context.study.settings.searchlight is None or explain_no_ceilings(context):
        return None
    paths = {stat: build_ceiling_path(context, stat) for stat in MEANINGS}
    if not all(path.exists() for path in paths.values()):
        return None
    most = {stat: float(np.nanmax(np.asarray(load_image(path).dataobj))) for stat, path in paths.items()}
    return {stat: f"{value:.2f}" for stat, value in most.items()}


def _count_runs(people: list[Participant]) -> int | None:
    """Return the number of runs of each participant, where files tell and all have the same number."""
    found = {len(person.runs) for person in people if person.runs != ("",)}
    return found.pop() if len(found) == 1 and all(person.runs != ("",) for person in people) else None


def _read_provenance(context: Context) -> dict[str, Any]:
    about = context.build_provenance(
        {},
        [
            str(context.study.path),
            *dict.fromkeys(f for version in yield_versions(context) for f in list_inputs(context, version)),
        ],
    )
    return {
        "Command": about["GeneratedBy"]["CommandLine"],
        "Seed": about["Seed"],
        "Versions": about["Versions"],
        "SHA-256 of inputs": about["InputsSHA256"],
    }
