"""Collect the facts of a study for its page: what stands at the top, in the methods, and under provenance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from brainmap.answers import keep_answer
from brainmap.features.networks.description import Checkpoint, describe_checkpoint
from brainmap.features.sounds.word_times import SPEECH
from brainmap.record import content_key
from brainmap.rsa.images.files import load_image
from brainmap.rsa.rdm.files import load_plain_rdms
from brainmap.study.results.context import Context
from brainmap.study.results.notices import CHECK, read_notices
from brainmap.study.settings.hypotheses import HYPOTHESES
from brainmap.study.stages.betas import read_noise
from brainmap.study.stages.ceilings import CEILINGS, build_ceiling_path, explain_no_ceilings
from brainmap.study.stages.content.cautions import count_runs, describe_runs
from brainmap.study.stages.hypotheses import describe_sources
from brainmap.study.stages.networks import (
    Version,
    build_rdm_path,
    complete_checkpoint,
    list_inputs,
    read_fed,
    yield_versions,
)
from brainmap.study.stages.wording import collect_test_facts, join_names, list_single
from brainmap.types import RDMs
from brainmap.viz.page.content import StoryFacts


def list_about(context: Context, scores: pd.DataFrame) -> list[tuple[str, str]]:
    """List what stands at the top of the page: date, participants, runs, sounds, networks, regions."""
    people, rsa = list(context.study.participants()), context.study.settings.rsa
    words, sounds = len(set(context.stimuli.values())), len(context.stimuli)
    items = "single sounds" if rsa.items == "stimulus" else "their means over the sounds of a condition"
    of = f" of {words} conditions" if words < sounds else ""
    found = [
        _write_date(),
        ("Participants", join_names([str(p) for p in dict.fromkeys(scores["participant"])], 6)),
        ("Runs", describe_runs(count_runs(people))),
        ("Sounds", f"{sounds}{of}; compared as {items}"),
        *_list_models(context),
        ("Removed from layers and brain", join_names(list(rsa.control_for or ()), 6)),
        ("Regions", join_names([str(r) for r in dict.fromkeys(scores["roi"])], 6)),
    ]
    n = scores["participant"].nunique()
    return [(name, f"{n}: {text}" if name == "Participants" else text) for name, text in found if text]


def list_story_about(
    context: Context, runs: Sequence[int], regions: Sequence[str], told: StoryFacts
) -> list[tuple[str, str]]:
    """List what stands at the top of the page of a study of stories; `runs` are those of each participant."""
    people, asked = [p.label for p in context.study.participants()], context.study.settings.stories
    assert asked is not None  # it is a study of stories
    heard = "heard once each"
    if set(runs) != {told.stories}:  # some are heard again, or not by all
        each = f"{min(runs)}" if min(runs) == max(runs) else f"{min(runs)} to {max(runs)}"
        heard = f"heard in {each} runs by each participant"
    found = [
        _write_date(),
        ("Participants", f"{len(people)}: {join_names(people, 6)}"),
        ("Stories", f"{told.stories} of {told.seconds / 60:.1f} min together, {heard}"),
        (
            "Scans",
            f"{told.scans}{' of all stories heard once' if told.repeats else ''}, {told.t_r:g} s from scan to scan",
        ),
        *_list_models(context),
        ("Features of speech", join_names(list(asked.speech), 6)),
        ("Regions", join_names(list(regions), 6)),
    ]
    return [(name, text) for name, text in found if text]


def _write_date() -> tuple[str, str]:
    today = date.today()
    return "Date", f"{today.day} {today:%B %Y}"


def _list_models(context: Context) -> list[tuple[str, str]]:
    """List the networks of a study with their controls, and its acoustic models and hypotheses."""
    settings = context.study.settings
    networks = [n.name + (f" ({' and '.join(n.controls)} control)" if n.controls else "") for n in settings.network]
    found = [("Networks", join_names(networks, 6))]
    if settings.baselines is not None:
        found.append(("Acoustic models", join_names(list(settings.baselines.models), 6)))
    if settings.hypotheses is not None:
        found.append(("Hypotheses", join_names(list(settings.hypotheses.layers), 6)))
    return found


def collect_facts(context: Context, brains: RDMs, scores: pd.DataFrame) -> dict[str, Any]:
    """Collect what the methods section says that the settings do not tell."""
    people = list(context.study.participants())
    networks = {}
    for network in context.study.settings.network:
        version = Version(network, "")
        checkpoint = complete_checkpoint(network, context.study.resolve(network.checkpoint))
        layers = load_plain_rdms(build_rdm_path(context, version)).n_rdm
        facts: dict[str, Any] = {"layers": layers, "fed": read_fed(context, version)}
        if checkpoint.architecture and ":" not in checkpoint.architecture:
            facts["parameters"] = _count_parameters(checkpoint)
        if checkpoint.training and "test_accuracy" in checkpoint.training:
            facts["accuracy"] = checkpoint.training["test_accuracy"]
        networks[network.name] = facts
    runs = count_runs(people)
    facts = {
        "stimuli": len(context.stimuli),
        "conditions": len(set(context.stimuli.values())),
        "participants": scores["participant"].nunique(),
        "runs": next(iter(runs.values())) if len(set(runs.values())) == 1 and max(runs.values()) > 1 else None,
        "unequal_runs": describe_runs(runs) if len(set(runs.values())) > 1 else "",
        "between_runs": brains.descriptors.get("products") == "between runs",
        "halved": context.build_table_path("best_layers").exists(),
        **collect_test_facts(context),
        "networks": networks,
        "hypotheses": describe_sources(context.study.settings.hypothesis),
        "single_sounds": list_single(context),
        "simulated": context.study.settings.study.simulated,
        "surface": people[0].brain.on_surface,
        "ceiling_maps": _find_highest_ceilings(context),
        "version": context.ledger.provenance(parameters={}, inputs={})["Versions"]["brainmap"],
    }
    if found := read_noise(context, people):
        facts["noise"] = found
    truth = context.study.settings.truth
    if truth is not None:
        table = pd.read_csv(context.study.resolve(truth.table), sep="\t", dtype=str, keep_default_na=False)
        facts["planted"] = {
            str(r): str(layer) for r, layer in zip(table["region"], table["layer"], strict=True) if layer
        }
    return facts


def _count_parameters(checkpoint: Checkpoint) -> int:
    """Count the parameters of a network that brainmap builds; it is built only once, which takes seconds."""

    def count() -> int:
        return sum(p.numel() for p in checkpoint.build().parameters())

    return int(keep_answer("parameters", content_key(describe_checkpoint(checkpoint)), count))


def _find_highest_ceilings(context: Context) -> dict[str, str] | None:
    """Return the highest value of each ceiling's map, where there are maps."""
    if context.study.settings.searchlight is None or explain_no_ceilings(context):
        return None
    paths = {stat: build_ceiling_path(context, stat) for stat in CEILINGS}
    if not all(path.exists() for path in paths.values()):
        return None
    most = {stat: float(np.nanmax(np.asarray(load_image(path).dataobj))) for stat, path in paths.items()}
    return {stat: f"{value:.2f}" for stat, value in most.items()}


def list_notices(context: Context) -> list[tuple[str, list[str]]]:
    """List the warnings of the check, then of each stage of the study in the order in which stages were computed."""
    stages = [stage for stage in context.ledger.stages() if _is_of_study(context, stage)]
    stages.sort(key=lambda stage: (context.ledger.place(stage, ".json").stat().st_mtime_ns, stage))
    found = [(stage, read_notices(context.ledger, stage)) for stage in (CHECK, *stages)]
    return [(stage.replace("_", ": ", 1), lines) for stage, lines in found if lines]


def _is_of_study(context: Context, stage: str) -> bool:
    """Tell whether the study file as it is now asks for a stage, since the ledger keeps those of earlier files."""
    settings = context.study.settings
    if stage.startswith("network-"):
        known = [version.name for version in yield_versions(context)]
        known += [SPEECH] if settings.stories is not None and settings.stories.speech else []
        return stage.removeprefix("network-") in known
    asked = {
        HYPOTHESES: settings.hypotheses,
        "group_maps": settings.searchlight,
        "group_ceilings": settings.searchlight,
        "group_recovery": settings.truth,
        "group_encoding": settings.encoding,
        "group_stories": settings.stories,
        "group_story_rdms": None if settings.stories is None else settings.stories.segment,
        "explain_cam": settings.explain,
        "explain_maximization": settings.explain,
        "explain_regions": None if settings.encoding is None else settings.explain,
    }
    if not stage.startswith("sub-"):
        return stage != "report" and asked.get(stage, True) is not None
    label, _, what = stage.removeprefix("sub-").rpartition("_")
    of = {"searchlight": settings.searchlight, "encoding": settings.encoding, "stories": settings.stories}
    return label in [p.label for p in context.study.participants()] and of.get(what, True) is not None


def read_provenance(context: Context) -> dict[str, Any]:
    """Read the command, seed, versions and checksums of the inputs."""
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
