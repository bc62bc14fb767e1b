"""Show the answer of a study: for each region the best layer of the best network, and what it is ahead of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import ReportContent
from brainmap.viz.page.tables import Table, format_value, make_table
from brainmap.viz.style import assign_layer_colors

ALPHA = 0.05
_NAMES = {"acoustic": "acoustic models", "hypotheses": "best hypothesis"}
_ONE = {"acoustic": "the acoustic model", "hypotheses": "the hypothesis"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Hold a difference in words: `kind` is "ahead", "behind", "level" (not told apart) or "untested".

    `model` names the best of several models that the network is compared with, and its score.
    """

    text: str
    note: str
    kind: str
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Hold a region's row; without a network where none explains the region.

    `certainty` says how often halves of the sounds choose the layer, `rivals` which layers are not told apart from it.
    `beaten` names what is significantly ahead of the layer, which is then not the best account of the region.
    """

    roi: str
    network: str
    layer: str
    color: str
    certainty: str
    rivals: str
    score: str
    ceiling: str
    share: str
    against: Sequence[Comparison]
    others: str
    beaten: str = ""


@dataclass(frozen=True, kw_only=True)
class AnswersView:
    """Hold the table at the top of the page: what is compared, a row a region, and every network to download."""

    opponents: Sequence[str]
    rows: Sequence[Answer]
    several: bool
    held_out: bool
    table: Table


def show_answers(content: ReportContent) -> AnswersView | None:
    """Arrange the answers of a study; None where nothing was tested."""
    table = content.answers
    if table is None or not len(table):
        return None
    whole = table[table["seed_of"] == ""] if "seed_of" in table else table
    kinds = [str(c).removeprefix("over_") for c in table if str(c).startswith("over_") and c != "over_best"]
    colors = {name: assign_layer_colors(content.order_layers(name)) for name in content.list_families()}
    rows = [
        _arrange_row(str(roi), here, kinds, colors, content.rivals) for roi, here in whole.groupby("roi", sort=False)
    ]
    return AnswersView(
        opponents=[_NAMES.get(kind, kind) for kind in kinds],
        rows=rows,
        several=whole["network"].nunique() > 1,
        held_out=bool(table.loc[table["best"], "held_out"].all()),
        table=make_table(table, "answers.tsv"),
    )


def _arrange_row(
    roi: str,
    here: pd.DataFrame,
    kinds: Sequence[str],
    colors: Mapping[str, Mapping[str, str]],
    rivals: Mapping[str, Mapping[str, Sequence[str]]],
) -> Answer:
    best = here[here["best"]]
    row = (best if len(best) else here).iloc[0].to_dict()
    low, high, share = row["ceiling_lower"], row["ceiling_upper"], row["of_ceiling"]
    ceiling = f"{format_decimals(low)} to {format_decimals(high)}" if np.isfinite(low) else "–"
    if not len(best):
        nothing = [Comparison(text="", note="", kind="untested", model=_name_model(row, kind)) for kind in kinds]
        blank = dict.fromkeys(("network", "layer", "color", "certainty", "rivals", "score", "share", "others"), "")
        return Answer(roi=roi, ceiling=ceiling, against=nothing, **blank)
    against = [replace(compare(row[f"over_{kind}"], row[f"p_{kind}"]), model=_name_model(row, kind)) for kind in kinds]
    near = list(rivals.get(str(row["network"]), {}).get(roi, ()))[1:]
    return Answer(
        roi=roi,
        network=str(row["network"]),
        layer=str(row["layer"]),
        color=colors.get(str(row["network"]), {}).get(str(row["layer"]), "#7b8794"),
        certainty=describe_certainty(str(row["layer"]), str(row["chosen"]), float(row["chosen_share"])),
        rivals=_describe_rivals(near),
        score=format_decimals(row["score"]),
        ceiling=ceiling,
        share=_place_score(row["score"], low, high, share),
        against=against,
        others=_describe_others(here[~here["best"]]),
        beaten=", ".join(
            f"{_ONE[kind]} {one.model}" if kind in _ONE and one.model else f"its {kind} control"
            for kind, one in zip(kinds, against, strict=True)
            if one.kind == "behind"
        ),
    )


def _name_model(row: Mapping[Any, Any], kind: str) -> str:
    """Name the best model of a kind in a region and its score; empty for controls."""
    name, score = row.get(f"model_{kind}", ""), float(row.get(f"score_{kind}", np.nan))
    if not name or not np.isfinite(score):
        return ""
    return f"{name} ({format_decimals(score)}{'' if row[f'explains_{kind}'] else ', not significant'})"


def describe_certainty(layer: str, chosen: str, share: float) -> str:
    """Say how often halves of the sounds choose a layer; empty where none was chosen.

    Examples
    --------
    >>> describe_certainty("conv4", "conv4", 0.92)
    'best in 92 % of the halves'
    >>> describe_certainty("conv4", "conv3", 0.35)
    'halves choose conv3 most often, in 35 %'
    """
    if not np.isfinite(share):
        return ""
    if layer == chosen:
        return f"best in {100 * share:.0f} % of the halves"
    return f"halves choose {chosen} most often, in {100 * share:.0f} %"


def _describe_rivals(layers: Sequence[str]) -> str:
    """Name the layers that are not told apart from the best one, at most three of them."""
    if not layers:
        return ""
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    return f"not told apart from {', '.join(layers[:3])}{more}"


def _place_score(score: float, low: float, high: float, share: float) -> str:
    """Say whether a score lies within the noise ceiling, above it, or how far below."""
    if not np.isfinite(low):
        return ""
    if not np.isfinite(share):
        return "not above 0"
    if score > high:
        return "score above"
    return "score within" if score >= low else f"score {100 * share:.0f} % of lower"


def compare(difference: float, p: float) -> Comparison:
    """Describe a difference and its corrected p; a difference that is not significant is never called equal.

    Examples
    --------
    >>> compare(0.12, 0.004)
    Comparison(text='+.12', note='p = .004', kind='ahead', model='')
    >>> compare(-0.02, 0.4).note
    'not told apart, p = .400'
    """
    if not np.isfinite(difference):
        return Comparison(text="–", note="", kind="untested")
    text = ("+" if difference >= 0 else "") + format_decimals(difference)
    if not np.isfinite(p):
        return Comparison(text=text, note="not tested", kind="untested")
    said = format_value(float(p), "p")
    said = f"p {said}" if said.startswith("<") else f"p = {said}"
    if p > ALPHA:
        return Comparison(text=text, note=f"not told apart, {said}", kind="level")
    return Comparison(text=text, note=said, kind="ahead" if difference > 0 else "behind")


def _describe_others(others: pd.DataFrame) -> str:
    """Say which other networks explain the region and are not told apart from the best, and which are behind it."""
    found: dict[str, list[str]] = {"level": [], "ahead": [], "behind": [], "untested": [], "silent": []}
    for row in others.to_dict("records"):
        one: dict[Any, Any] = row
        if not one["explains"]:
            found["silent"].append(str(one["network"]))
            continue
        kind = compare(float(one.get("over_best", np.nan)), float(one.get("p_best", np.nan))).kind
        found[kind].append(f"{one['layer']} of {one['network']} ({format_decimals(float(one['score']))})")
    words = {
        "ahead": "ahead by the test of all sounds: ",
        "level": "not told apart: ",
        "behind": "behind: ",
        "untested": "not compared: ",
        "silent": "not significant: ",
    }
    return "; ".join(f"{words[kind]}{', '.join(found[kind])}" for kind in words if found[kind])
