"""Sounds on the page: one card per sound, with a small picture and the embedded audio.

Arrange maximizing patterns for the page: those of one class by several priors side by side.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import Normalize, to_hex
from matplotlib.image import imsave
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.attribution.results import find_own_class
from brainmap.features.sounds.inputs import InputAxes
from brainmap.groups import group_pairs
from brainmap.viz.features.patterns import describe_patterns
from brainmap.viz.features.players import encode_wav
from brainmap.viz.features.sounds import (
    average_in_bins,
    choose_one_of_each,
    compute_log_spectrogram,
    find_envelope,
    get_unit_names,
    map_scale,
    read_waves,
)
from brainmap.viz.features.spectrograms import get_input, has_pictures, make_picture
from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import PatternPanel
from brainmap.viz.page.sheet import SheetRow, find_top
from brainmap.viz.page.tables import Table, make_table
from brainmap.viz.style import ACCENT, encode_data_uri, get_colormap

Array = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Card:
    """Hold a sound of the page: its name, a drawing of its waveform (SVG paths), its spectrogram and its audio.

    Drawing, spectrogram and audio are empty where there is none. `words` say more below the name, where there is more.
    `named` is its whole name, where `label` is a part of it. `marks` are frequencies [kHz] and their distances from
    the top of the spectrogram, and `seconds` is how long it lasts.
    """

    label: str
    paths: Sequence[tuple[str, str]] = ()
    spectrogram: str = ""
    audio: str
    words: str = ""
    named: str = ""
    marks: Sequence[tuple[str, str]] = ()
    seconds: str = ""


_MARKS = (0.1, 0.3, 1.0, 3.0, 8.0)  # kHz
_APART = 0.13  # of the height, between two marks


def place_marks(hertz: Array | None, bands: int) -> list[tuple[str, str]]:
    """Place frequencies beside a spectrogram of so many bands; none where bands have no frequencies.

    Examples
    --------
    >>> place_marks(np.array([100.0, 550, 1000, 1450]), 4)
    [('0.1', '87.5%'), ('1', '37.5%')]
    """
    if hertz is None or len(hertz) != bands:
        return []
    places = np.interp(np.multiply(1000, _MARKS), hertz, np.arange(bands), left=np.nan, right=np.nan)
    marks: list[tuple[str, str]] = []
    last = -np.inf
    for mark, place in zip(_MARKS, places, strict=True):
        if np.isfinite(place) and place - last >= _APART * bands:
            marks.append((f"{mark:g}", f"{100 * (1 - (place + 0.5) / bands):.1f}%"))
            last = place
    return marks


def _describe_axes(picture: Array, about: InputAxes | None) -> dict[str, Any]:
    """Describe the axes of a picture `(bands, frames)` over the input of a network; empty where they have no units."""
    if about is None:
        return {}
    bands, frames = picture.shape
    return {"marks": place_marks(about.hertz(), bands), "seconds": _write_seconds(frames / about.rate_of(frames))}


def _write_seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def draw_spectrogram(wave: Array, rate: float) -> dict[str, Any]:
    """Draw the log spectrogram of a waveform, and place its marks."""
    loud, hertz = compute_log_spectrogram(wave, rate=rate, bands=64)
    return {
        "spectrogram": _encode_png(loud[::-1], cmap=get_colormap("sound"), vmin=0, vmax=1),
        "marks": place_marks(hertz, len(hertz)),
        "seconds": _write_seconds(wave.size / rate),
    }


def trace_outline(wave: Array, bins: int = 120) -> str:
    """Draw the waveform as one closed SVG path in a box of `bins` by 40."""
    low, high = find_envelope(wave / max(float(np.abs(wave).max()), 1e-12), bins)
    upper = [f"{i},{20 - 19 * h:.1f}" for i, h in enumerate(high)]
    lower = [f"{i},{20 - 19 * v:.1f}" for i, v in reversed(list(enumerate(low)))]
    return "M" + "L".join([*upper, *lower]) + "Z"


def make_pattern_cards(panel: Any, colors: Mapping[str, str]) -> list[Card]:
    """Make one card per maximizing pattern, in the color of its layer.

    Parameters
    ----------
    panel : object with `patterns` (n_units, 1, t), `units`, `rate` [Hz]; `layer` and `wavs` where it has them
        Patterns `(n_units, c, h, w)` are shown as pictures, and are heard where there are files.
        The patterns to show.
    colors : mapping layer -> color

    Returns
    -------
    list of Card

    Raises
    ------
    InputError
        If the numbers of units, patterns and sound files differ, or a file is missing.
    """
    pictures = np.ndim(panel.patterns) == 4
    sounds = np.asarray(panel.patterns) if pictures else read_waves(panel.patterns, "report: patterns")
    names = get_unit_names(panel)
    files = [Path(f) for f in getattr(panel, "wavs", ())]
    if len(names) != len(sounds) or (files and len(files) != len(sounds)):
        raise InputError(
            f"report: expected a unit and a sound file for each of {len(sounds)} patterns, got {len(names)} units and "
            f"{len(files)} sound files"
        )
    if absent := [f for f in files if not f.is_file()]:
        raise InputError(f"report: there is no sound file {absent[0]}")
    color = colors.get(getattr(panel, "layer", ""), ACCENT)
    words = describe_patterns(getattr(panel, "quality", None), len(sounds))
    if pictures:
        heard = [encode_data_uri(file.read_bytes(), "audio/wav") for file in files] or [""] * len(sounds)
        about = getattr(panel, "axes", None)
        shown = [make_picture(one, about) for one in sounds]
        return [
            Card(
                label=name,
                spectrogram=_picture(picture),
                audio=audio,
                words=said,
                **_describe_axes(picture, about),
            )
            for name, picture, audio, said in zip(names, shown, heard, words, strict=True)
        ]
    return [
        Card(
            label=name,
            paths=[(trace_outline(sound), color)],
            **draw_spectrogram(sound, float(panel.rate)),
            audio=encode_data_uri(files[i].read_bytes() if files else encode_wav(sound, panel.rate), "audio/wav"),
            words=words[i],
        )
        for i, (sound, name) in enumerate(zip(sounds, names, strict=True))
    ]


def make_cam_cards(sounds: Any, cams: Any, *, most: int = 16) -> list[Card]:
    """Make one card per word: its waveform colored by the map of its own class, with one color scale for all.

    Parameters
    ----------
    sounds : object with `waveforms` (n, 1, t), `rate` [Hz], `conditions`
    cams : object with `maps` (n, n_classes, t), `class_names`
    most : int
        Largest number of cards; each shows the first sound of a condition.

    Returns
    -------
    list of Card

    Raises
    ------
    InputError
        If a condition is not one of the classes.
    """
    own, audio = find_own_class(sounds.conditions, cams.class_names), read_waves(sounds, "report: sounds")
    chosen = choose_one_of_each(sounds, most)
    waves, maps = [audio[item] for item in chosen], [np.asarray(cams.maps[item])[own[item]] for item in chosen]
    if np.ndim(cams.maps) != 4:
        drawn = _color_waves(waves, maps, sounds.rate)
    elif has_pictures(sounds, cams.maps[:, :, None]):
        drawn = _paint_inputs([get_input(sounds, item) for item in chosen], maps)
    else:
        drawn = _stack_maps(waves, maps, sounds.rate)
    return [
        Card(
            label=str(sounds.conditions[item]),
            audio=encode_data_uri(encode_wav(wave, sounds.rate), "audio/wav"),
            **shown,
        )
        for item, wave, shown in zip(chosen, waves, drawn, strict=True)
    ]


def describe_cam_cards(sounds: Any, cams: Any) -> str:
    """Say what the cards of `make_cam_cards` show."""
    if np.ndim(cams.maps) != 4:
        return "Each waveform is a sound, colored by the class activation map of its own class."
    if has_pictures(sounds, cams.maps[:, :, None]):
        return "Each picture is a sound as the network takes it, under the class activation map of its own class."
    return (
        "Above is the spectrogram of a sound; below it, over the same time, lies the class activation map of its own "
        "class over the frequencies and frames of the layer."
    )


def _picture(picture: Array, overlay: Array | None = None, limit: float = 1.0) -> str:
    """Draw a spectrogram, dark where it is large, with a signed map over it."""
    low, high = np.quantile(picture, [0.01, 1.0])
    share = (picture - low) / max(float(high - low), 1e-12)
    image = get_colormap("sound")(np.clip(share, 0, 1) * (1.0 if overlay is None else 0.45))[..., :3]
    if overlay is not None:
        opacity = 0.85 * np.clip(np.abs(overlay) / limit, 0, 1)[..., None] ** 0.6
        image = (1 - opacity) * image + opacity * get_colormap("signed")(Normalize(-limit, limit)(overlay))[..., :3]
    return _encode_png(image[::-1])


def _encode_png(image: Array, **how: Any) -> str:
    out = io.BytesIO()
    imsave(out, image, format="png", **how)
    return encode_data_uri(out.getvalue(), "image/png")


def _color_waves(waves: Sequence[Array], maps: Sequence[Array], rate: float) -> list[dict[str, Any]]:
    """Color each waveform by a map over its time."""
    limit = map_scale(np.stack(maps))
    return [
        {"paths": color_bars(wave, course, limit), "seconds": _write_seconds(wave.size / rate)}
        for wave, course in zip(waves, maps, strict=True)
    ]


def _paint_inputs(inputs: Sequence[tuple[Array, InputAxes | None]], maps: Sequence[Array]) -> list[dict[str, Any]]:
    """Draw each spectrogram as the network takes it under a map."""
    shown = [make_picture(one, about) for one, (_, about) in zip(maps, inputs, strict=True)]
    limit = float(np.quantile(np.abs(shown), 0.98)) or 1.0
    return [
        {"spectrogram": _picture(picture, values, limit), **_describe_axes(picture, about)}
        for values, (picture, about) in zip(shown, inputs, strict=True)
    ]


_MAP_ROWS, _GAP = 32, 2  # rows of a map below a spectrogram, and of the gap between them


def _stack_maps(waves: Sequence[Array], maps: Sequence[Array], rate: float) -> list[dict[str, Any]]:
    """Draw the spectrogram of each sound, and below it a map over the frequencies and frames of a layer."""
    limit = float(np.quantile(np.abs(maps), 0.98)) or 1.0
    return [
        {"seconds": _write_seconds(wave.size / rate), **_stack_map(wave, rate, values, limit)}
        for wave, values in zip(waves, maps, strict=True)
    ]


def _stack_map(wave: Array, rate: float, values: Array, limit: float) -> dict[str, Any]:
    """Draw the log spectrogram of a waveform with a map `(h, w)` below it, and place the marks of the spectrogram."""
    loud, hertz = compute_log_spectrogram(wave, rate=rate, bands=64)
    bands, frames = loud.shape
    rows, columns = (np.arange(n) * size // n for n, size in zip((_MAP_ROWS, frames), values.shape, strict=True))
    below = get_colormap("signed")(Normalize(-limit, limit, clip=True)(values[::-1][np.ix_(rows, columns)]))[..., :3]
    above = get_colormap("sound")(np.clip(loud[::-1], 0, 1))[..., :3]
    image = np.concatenate([above, np.ones((_GAP, frames, 3)), below])
    height = bands / (bands + _GAP + _MAP_ROWS)
    marks = [(name, f"{float(place.rstrip('%')) * height:.1f}%") for name, place in place_marks(hertz, bands)]
    return {"spectrogram": _encode_png(image), "marks": marks}


def color_bars(wave: Array, course: Array, limit: float, bins: int = 120) -> list[tuple[str, str]]:
    """Draw the waveform as bars, each in the color of the map at that time; bars of one color share a path.

    Bars overlap slightly, because otherwise the white page would show between them.
    """
    low, high = find_envelope(wave / max(float(np.abs(wave).max()), 1e-12), bins)
    low, high = np.minimum(low, -0.03), np.maximum(high, 0.03)
    level = np.round(Normalize(-limit, limit, clip=True)(average_in_bins(course, len(low))) * 40) / 40
    shades = map(to_hex, 0.95 * get_colormap("signed")(np.asarray(level))[:, :3])
    bars = [
        f"M{i},{20 - 19 * h:.1f}h1.08V{20 - 19 * v:.1f}h-1.08Z" for i, (v, h) in enumerate(zip(low, high, strict=True))
    ]
    return [("".join(its), shade) for shade, its in group_pairs(zip(shades, bars, strict=True)).items()]


_PRIORS = {
    "decoder": "with the speech prior",
    "audio": "without it, from noise",
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
    together = group_pairs(((panel.layer, np.ndim(panel.patterns), *panel.units), panel) for panel in panels)
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
    top = find_top(row.image for row in rows)
    return format_decimals(top / 3), format_decimals(top)


def make_sheet_cards(rows: Sequence[SheetRow]) -> list[Card]:
    """Make a player for each sound of the sheet of network and brain; spectrograms cannot be played."""
    return [
        Card(
            label=row.unit if row.unit.startswith(row.layer) else f"{row.layer}, {row.unit}",
            audio=encode_data_uri(encode_wav(np.ravel(row.pattern), float(row.rate)), "audio/wav"),
        )
        for row in rows
        if row.pattern is not None and np.ndim(row.pattern) == 1
    ]
