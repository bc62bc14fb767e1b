"""Draw the section of the brain beside sound: its figure, a row of cards for each region, and its table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from brainmap.viz.features.players import encode_wav
from brainmap.viz.page.cards import Card, color_bars, draw_spectrogram, trace_outline
from brainmap.viz.page.content import ReportContent
from brainmap.viz.page.listening import RegionPanel, plot_brain_beside_sound
from brainmap.viz.page.pictures import Picture, Pictures, list_courses
from brainmap.viz.page.tables import Table, make_table
from brainmap.viz.style import ACCENT, SOFT, assign_layer_colors, encode_data_uri

_COLUMNS = (
    "region",
    "layer",
    "r",
    "p_corrected",
    "predicted",
    "judged",
    "best_real",
    "best_random",
    "distance",
    "judges",
    "judged_on",
)


@dataclass(frozen=True, kw_only=True)
class ListeningView:
    """Hold the section: its picture, the cards of each region, and the table."""

    picture: Picture
    panels: list[tuple[RegionPanel, list[Card]]]
    table: Table
    same_data: bool
    measured: bool


def draw_listening(content: ReportContent, drawn: Pictures) -> ListeningView | None:
    """Draw the section; None where no region has sounds."""
    panels, table = content.listening, content.listening_table
    if not panels or table is None:
        return None
    plot = partial(plot_brain_beside_sound, panels, regions=content.regions)
    words = "; ".join(f"{one.roi}: {one.real[0].name} and a predicted sound" for one in panels)
    return ListeningView(
        picture=drawn.add("brain-beside-sound", plot, words, painted=True, data=list_courses(panels)),
        panels=[(one, make_region_cards(one)) for one in panels],
        table=make_table(table, "regions.tsv", colors=assign_layer_colors(content.order_layers()), columns=_COLUMNS),
        same_data=any(one.values["judged_on"] == "same data" for one in panels),
        measured=any(np.isfinite(sound.measured) for one in panels for sound in one.real),
    )


def make_region_cards(one: RegionPanel) -> list[Card]:
    """Make the cards of a region: the predicted sound, and the real ones in the color of the map over them."""
    judged, best = float(one.values["judged"]), float(one.values["best_real"])
    first = Card(
        label="predicted sound",
        paths=[(trace_outline(one.predicted), ACCENT)],
        **draw_spectrogram(one.predicted, one.rate),
        audio=encode_data_uri(one.wav.read_bytes(), "audio/wav"),
        words=f"judged {_format(judged)} SD, the best real sound {_format(best)}"
        + ("" if judged > best else ": the judges do not confirm it"),
    )
    courses = [sound.course for sound in one.real if sound.course is not None]
    limit = float(np.quantile(np.abs(np.concatenate(courses)), 0.98)) if courses else 1.0
    cards = [first]
    for sound in one.real:
        course = sound.course
        if course is not None and sound.seconds is not None:
            course = np.interp(np.arange(sound.wave.size) / sound.rate, sound.seconds, course)
        said = [f"measured {_format(sound.measured)} SD"] if np.isfinite(sound.measured) else []
        cards.append(
            Card(
                label=sound.name,
                paths=[(trace_outline(sound.wave), SOFT)]
                if course is None
                else color_bars(sound.wave, course, limit or 1.0),
                **draw_spectrogram(sound.wave, sound.rate),
                audio=encode_data_uri(encode_wav(sound.wave, int(sound.rate)), "audio/wav"),
                words="; ".join([*said, f"judged {_format(sound.judged)}"]),
            )
        )
    return cards


def _format(value: float) -> str:
    """Format a value with one decimal, a minus sign, and no negative zero."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "\N{MINUS SIGN}")
