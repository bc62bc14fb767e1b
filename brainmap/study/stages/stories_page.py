"""Write the page of a study of stories from the results on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from brainmap.features.sounds.word_times import SPEECH
from brainmap.record import content_key
from brainmap.study.results.context import Context
from brainmap.study.stages.comparisons import list_seeds, list_wholes
from brainmap.study.stages.content.better import Predicted, count_better, describe_better, find_better
from brainmap.study.stages.content.cautions import describe_outliers, list_story_cautions
from brainmap.study.stages.content.facts import list_notices, list_story_about, read_provenance
from brainmap.study.stages.content.story_people import (
    describe_story_people,
    read_agreement,
    select_best,
    tabulate_story_people,
)
from brainmap.study.stages.page import read_model_tables
from brainmap.study.stages.page_stage import build_page_path, write_files
from brainmap.study.stages.stories import get_story_models, measure_lengths
from brainmap.study.stages.story_people import StoryPerson, yield_story_people
from brainmap.study.stages.story_rdms import RDM_MEASURE
from brainmap.study.stages.wording import say_stories
from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import EncodingContent, PeopleContent, ReportContent, StoryFacts
from brainmap.viz.page.write import methods_paragraph

VERSION = 7
SIGNIFICANT = 0.05
ENERGY = "sound-energy"
"""The feature of speech that is an acoustic model."""
LOOK = (
    "which file is of which story in its data, at the silence and the scans that were cut off, and at its mask and "
    "regions"
)
"""What to look at in the data of a participant whose time courses agree with nobody's."""
_TABLES = {
    "statistics": "stories",
    "best_layers": "stories_best_layers",
    "differences": "stories_differences",
    "ceilings": "stories_ceilings",
    "delays": "stories_delays",
    "bands": "stories_bands",
    "segments": "stories_rsa",
}


def run_story_page(context: Context, *, svg: bool = False) -> Path:
    """Write the page, unless nothing on it has changed, and return its path; with `svg`, all figures as SVG, too."""
    keys = [context.ledger.read(stage)["key"] for stage in context.ledger.stages() if stage != "report"]
    key = content_key(VERSION, keys, context.study.settings.dump())
    write = partial(write_files, context, partial(read_story_content, context), svg=svg)
    context.run_stage("report", key, write, runs_networks=False)
    return build_page_path(context)


def read_story_content(context: Context) -> ReportContent:
    """Read everything that the page of a study of stories shows from the results."""
    about, networks = context.study.settings.study, context.study.settings.network
    families = {n.name: [f"{n.name}-{control}" for control in n.controls] for n in networks}
    wholes, seeds = list_wholes(context.study.settings), list_seeds(context.study.settings)
    shown = {name: its for name, its in wholes.items() if name in seeds} | families
    people = list(yield_story_people(context))
    fields = read_model_tables(context, "stories", _TABLES)
    statistics, main = fields["statistics"], networks[0].name
    sounds = [SPEECH, *([] if context.study.settings.baselines is None else [context.study.settings.baselines.name])]
    acoustic = len(sounds) > 1 or ENERGY in get_story_models(context).speech
    better = find_better(statistics, wholes, sounds)
    layers = [str(layer) for layer in dict.fromkeys(statistics[statistics["network"] == main]["layer"])]
    facts = _collect_facts(context, people)
    counts = pd.concat(context.read_person_tables("counts.tsv", desc="voxels"), ignore_index=True)
    listeners, persons = _describe_people(context, fields, list(wholes), counts)
    question = f"Which layer of {' or '.join(wholes)} predicts the time courses of each region while stories are heard?"
    return ReportContent(
        title=about.name,
        question=about.question or question,
        simulated=about.simulated,
        about=list_story_about(
            context,
            [len(one.files) for one in people],
            [str(roi) for roi in dict.fromkeys(statistics["roi"])],
            facts,
        ),
        cautions=[
            *describe_better(better),
            *describe_outliers(listeners, what="time courses", look=LOOK),
            *list_story_cautions(fields, families, get_story_models(context), acoustic=acoustic),
        ],
        key_results=_collect_key_results(statistics, wholes, better),
        network=main,
        networks=shown,
        layers=layers,
        encoding=_build_encoding(context, fields, facts),
        people=listeners,
        persons=persons,
        counts=counts,
        methods=methods_paragraph(_collect_methods(context, people, facts)),
        notices=list_notices(context),
        provenance=read_provenance(context),
    )


def _describe_people(
    context: Context, fields: Mapping[str, Any], networks: Sequence[str], counts: pd.DataFrame
) -> tuple[pd.DataFrame, PeopleContent]:
    """Return the table of participants, and what is shown of each of them."""
    each = pd.concat(context.read_person_tables("stories.tsv", desc="rois"), ignore_index=True)
    reliability = each.groupby(["participant", "roi"], sort=False, as_index=False)[["reliability"]].mean()
    scores = fields["scores"][fields["scores"]["network"].isin(networks)]
    agreement = read_agreement(context, [str(label) for label in dict.fromkeys(each["participant"])])
    best = select_best(fields["statistics"], networks)
    table = tabulate_story_people(agreement, scores, reliability, best, counts)
    return table, describe_story_people(agreement, scores, reliability, counts, table)


def _collect_facts(context: Context, people: list[StoryPerson]) -> StoryFacts:
    """Collect what the page says of the stories and their scans."""
    asked, files, lengths = get_story_models(context), people[0].files, measure_lengths(context)
    return StoryFacts(
        stories=len(lengths),
        seconds=sum(lengths.values()),
        scans=sum({file.sound: file.n_scans for file in files}.values()),
        t_r=files[0].t_r,
        block=asked.block,
        repeats=any(len(one.files) > len(lengths) for one in people),
        confounds=any(one.person.story_confounds is not None for one in people),
    )


def _build_encoding(context: Context, fields: Mapping[str, Any], facts: StoryFacts) -> EncodingContent:
    """Build the section of encoding models."""
    asked = get_story_models(context)
    return EncodingContent(
        **{
            **fields,
            "scores": _name_speech(fields["scores"]),
            "notes": {name: say_stories(note) for name, note in fields["notes"].items()},
        },
        speech=asked.speech,
        similarity=_select_similarity(fields.get("segments")),
        measure=RDM_MEASURE,
        targets=asked.targets,
        folds=asked.folds or facts.stories,
        stories=facts,
    )


def _select_similarity(segments: pd.DataFrame | None) -> pd.DataFrame:
    """Select the scores of RDMs, which are drawn beside those of encoding models; none where there are none."""
    if segments is None:
        return pd.DataFrame(columns=["network", "layer", "roi", "score"])
    return segments.rename(columns={"mean": "score"})[["network", "layer", "roi", "score"]]


def _name_speech(scores: pd.DataFrame) -> pd.DataFrame:
    """Make each feature of speech a network of its own, which the figure shows as a line across."""
    named = scores["layer"].where(scores["network"] == SPEECH, scores["network"])
    return scores.assign(network=named)


def _collect_key_results(
    statistics: pd.DataFrame, families: Mapping[str, list[str]], better: Sequence[Predicted]
) -> list[tuple[str, str]]:
    """Count the regions that each network predicts, and those where nothing is better; add its highest r."""
    results: list[tuple[str, str]] = []
    for network, controls in families.items():
        mine = statistics[statistics["network"] == network]
        if not mine["mean"].notna().any():
            continue
        hits = mine[mine["p_corrected"] <= SIGNIFICANT]
        top = mine.sort_values("mean", ascending=False, kind="stable").iloc[0]
        said = f"highest mean r of {network}: {top['layer']} in {top['roi']}"
        for control in controls:
            best = statistics[(statistics["network"] == control) & (statistics["roi"] == top["roi"])]["mean"].max()
            said += f"; its {control.removeprefix(network + '-')} control reaches {format_decimals(best)} there"
        predicted = (
            f"regions that some layer of {network} predicts in stories left out, corrected over layers and regions"
        )
        results += [
            (f"{hits['roi'].nunique()} of {mine['roi'].nunique()}", predicted),
            *count_better([one for one in better if one.network == network]),
            (format_decimals(top["mean"]), said),
        ]
    return results


def _collect_methods(context: Context, people: list[StoryPerson], facts: StoryFacts) -> dict[str, Any]:
    """Collect the settings that the methods name; those of RDMs are none of a study of stories."""
    settings = context.study.settings.model_dump(by_alias=True, exclude={"rsa"})
    settings["network"] = [{**one, "units": None, "dissimilarity": None} for one in settings["network"]]
    version = context.ledger.provenance(parameters={}, inputs={})["Versions"]["brainmap"]
    simulated = context.study.settings.study.simulated
    return {
        **settings,
        "facts": {"participants": len(people), "simulated": simulated, "version": version, "told": facts},
    }
