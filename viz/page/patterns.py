"""Arrange maximizing patterns for the page: those of one class by several priors side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from brainmap.viz.features.players import encode_wav
from brainmap.viz.labels import format_decimals
from brainmap.viz.page.cards import Card, make_pattern_cards
from brainmap.viz.page.content import PatternPanel
from brainmap.viz.page.sheet import SheetRow, find_sheet_top
from brainmap.viz.page.tables import Table, make_table
from brainmap.viz.style import encode_data_uri

_PRIORS = {
    "decoder": "with the speech prior",
    "audio": "without it, by the spectrum of the sounds alone",
    "none": "without any prior",
}


@dataclass(frozen=True, kw_only=True)
class PanelView:
    """Hold the patterns of a layer: cards in groups of one name, or all in one group without a name."""

    title: str
    layer: str
    groups: list[tuple[str, list[Card]]]
    quality: list[tuple[str, Table]]
    pictures: bool


def arrange_panels(panels: Sequence[PatternPanel], colors: Mapping[str, str]) -> list[PanelView]:
    """Make the cards of all patterns; panels of the same units of a layer, by different priors, become one."""
    together: dict[tuple[str, ...], list[PatternPanel]] = {}
    for panel in panels:
        together.setdefault((panel.layer, str(np.ndim(panel.patterns)), *panel.units), []).append(panel)
    return [_arrange(its, colors) for its in together.values()]


def _arrange(panels: Sequence[PatternPanel], colors: Mapping[str, str]) -> PanelView:
    first = panels[0]
    made = [make_pattern_cards(panel, colors) for panel in panels]
    several = len({panel.prior for panel in panels}) == len(panels) > 1
    if several:
        named = [[_name_prior(card, panel.prior) for card in cards] for panel, cards in zip(panels, made, strict=True)]
        groups = [(str(unit), [cards[k] for cards in named]) for k, unit in enumerate(first.units)]
        prior = "the speech prior" if any(panel.prior == "decoder" for panel in panels) else "a prior"
        title = f"{first.title.split(', ')[0]}, with and without {prior}"
    else:
        groups, title = [("", [card for cards in made for card in cards])], first.title
    return PanelView(
        title=title,
        layer=first.layer,
        groups=groups,
        quality=[
            (_PRIORS.get(panel.prior, "") if several else "", make_table(panel.quality, f"quality-{panel.layer}.tsv"))
            for panel in panels
            if panel.quality is not None
        ],
        pictures=np.ndim(first.patterns) == 4,
    )


def _name_prior(card: Card, prior: str) -> Card:
    said = _PRIORS.get(prior, prior)
    return replace(card, label=said, named=f"{card.label}, {said}")


def find_sheet_ends(rows: Sequence[SheetRow]) -> tuple[str, str]:
    """Return the ends of the color scale of the sheet, whose lowest third is not shown."""
    top = find_sheet_top(rows)
    return format_decimals(top / 3), format_decimals(top)


def make_sheet_cards(rows: Sequence[SheetRow]) -> list[Card]:
    """Make a player for each sound of the sheet of network and brain; spectrograms cannot be played."""
    return [
        Card(
            label=row.unit if row.unit.startswith(row.layer) else f"{row.layer}, {row.unit}",
            paths=[],
            spectrogram="",
            audio=encode_data_uri(encode_wav(np.ravel(row.pattern), float(row.rate)), "audio/wav"),
        )
        for row in rows
        if row.pattern is not None and np.ndim(row.pattern) == 1
    ]
