"""Read what explains the networks of a study: RDMs beside those of regions, maximizing patterns, activation maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.features.attention.words import keep_known_words
from brainmap.features.representations.files import open_maximizations
from brainmap.groups import group_pairs
from brainmap.places import resolve_inside
from brainmap.rsa.rdm.files import load_plain_rdms
from brainmap.study.results.context import Context
from brainmap.study.settings.study import Network
from brainmap.study.stages.explain import read_cams
from brainmap.study.stages.networks import (
    Version,
    build_features_path,
    build_rdm_path,
    complete_checkpoint,
    store_path,
    yield_versions,
)
from brainmap.types import RDMs
from brainmap.viz.features.spectrograms import make_picture
from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import NetworkMaps, PatternPanel, RdmPair
from brainmap.viz.page.sheet import SheetRow

MOST = 3  # networks whose RDMs are drawn beside that of a region


def split_correlations(table: pd.DataFrame | None, networks: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Split correlations between the RDMs of all layers into a square table with layer names for each network."""
    if table is None:
        return {}
    square = table.set_index("layer")
    owners = {str(name): str(name).split(" ", 1) for name in square.index}
    found = {}
    for network in networks:
        mine = [name for name, parts in owners.items() if parts[0] == network]
        names = [owners[name][1] for name in mine]
        if len(mine) > 1:
            found[network] = square.loc[mine, mine].set_axis(names, axis=0).set_axis(names, axis=1)
    return found


def pair_rdms(
    context: Context,
    brains: RDMs,
    answers: pd.DataFrame | None,
    *,
    explained: str,
    measure: str,
    beside: pd.DataFrame | None = None,
) -> list[RdmPair]:
    """Pair each region's RDM with those of the best layers of its best networks, and of the explained network.

    `beside` are answers of models that are shown in every region, such as its best hypothesis.
    """
    if answers is None:
        return []
    models = {v.name: load_plain_rdms(build_rdm_path(context, v)) for v in yield_versions(context) if not v.control}
    pairs = []
    for roi, here in answers[answers["network"].isin(models)].groupby("roi", sort=False):
        ranked = here.sort_values(["best", "score"], ascending=False, kind="stable")
        shown = ranked.head(MOST)["network"].tolist()
        shown = shown if explained in shown else [*shown[: MOST - 1], explained]
        always = [] if beside is None else beside[beside["roi"] == roi].to_dict("records")
        for row in [*ranked[ranked["network"].isin(shown)].to_dict("records"), *always]:
            low, high = (format_decimals(row[f"ceiling_{side}"]) for side in ("lower", "upper"))
            ceiling = f", noise ceiling {low} to {high}" if np.isfinite(row["ceiling_lower"]) else ""
            pairs.append(
                RdmPair(
                    roi=str(roi),
                    network=str(row["network"]),
                    layer=str(row["layer"]),
                    model=models[row["network"]].subset("layer", row["layer"]),
                    brain=brains.subset("roi", roi),
                    note=f"{measure} = {format_decimals(row['layer_score'])}{ceiling}",
                )
            )
    return pairs


_BY_PRIOR = {
    "decoder": "as a decoder of speech can say it",
    "audio": "made of noise with the spectrum of the sounds",
    "none": "without any prior",
}


def build_panels(context: Context, version: Version) -> list[PatternPanel]:
    """Build a panel of maximizing patterns for each layer that has some."""
    if context.study.settings.explain is None:
        return []
    panels = []
    for kept in open_maximizations(store_path(context, version)).values():
        layer = kept.layer
        said = (
            f"What each class sounds like to the network, {_BY_PRIOR[kept.prior]}"
            if layer == "output"
            else f"What channels of {layer} respond to"
        )
        panels.append(
            PatternPanel(
                title=said,
                layer=layer,
                patterns=kept.patterns,
                units=list(kept.labels),
                rate=kept.rate,
                quality=kept.quality,
                wavs=[
                    resolve_inside(build_features_path(context, version.name, "maximization"), name)
                    for name in kept.wavs
                ],
                axes=kept.axes,
                prior=kept.prior,
            )
        )
    return panels


def describe_panels(panels: Sequence[PatternPanel]) -> dict[str, Any]:
    """Tell by which priors classes were maximized, and whether other networks judged them."""
    of_classes = [panel for panel in panels if panel.layer == "output"]
    judged = [panel for panel in of_classes if panel.quality is not None and "transfer" in panel.quality]
    return {"pattern_priors": [panel.prior for panel in of_classes], "patterns_judged": bool(judged)}


def build_sheet(
    answers: pd.DataFrame | None, version: Version, maps: Mapping[str, NetworkMaps], panels: list[PatternPanel]
) -> list[SheetRow]:
    """Build one row per layer that is best in an explained region: a maximizing pattern, if any, beside its map."""
    means = maps[version.name].means if version.name in maps and maps[version.name].mesh is None else {}
    if answers is None:
        return []
    mine = answers[(answers["network"] == version.name) & answers["explains"] & answers["layer"].isin(list(means))]
    rows = mine.to_dict("records")
    where = group_pairs((str(row["layer"]), f"{row['roi']} ({row['layer_score']:.2f})") for row in rows)
    by_layer = {panel.layer: panel for panel in panels}
    lacking = "no sound was made of this layer" if any(layer in by_layer for layer in where) else ""
    return [
        _make_row(layer, by_layer.get(layer), means[layer], where[layer], lacking) for layer in means if layer in where
    ]


def _make_row(layer: str, panel: PatternPanel | None, image: Any, where: list[str], lacking: str) -> SheetRow:
    """Make a row; `lacking` stands in the place of a pattern that was not made."""
    said = "best in " + ", ".join(where)
    if panel is None:
        return SheetRow(layer=layer, image=image, unit=lacking, where=said)
    return SheetRow(
        layer=layer,
        image=image,
        pattern=_take_first_pattern(panel),
        rate=panel.rate,
        unit=str(panel.units[0]),
        where=said,
    )


def _take_first_pattern(panel: PatternPanel) -> Any:
    """Return the first pattern of a panel, `(t,)` or `(bands, frames)`."""
    first = np.asarray(panel.patterns)[0]
    return first[0] if first.ndim == 2 else make_picture(first, panel.axes)


def load_network_sounds(context: Context, network: Network) -> Any:
    """Load the study's sounds as a network takes them."""
    return context.load_sounds_for(complete_checkpoint(network, context.study.resolve(network.checkpoint)))


def find_cams(context: Context, version: Version) -> tuple[Any, Any, list[str]]:
    """Read the maps of sounds whose condition is a class of the network, these sounds, and a note on the others."""
    assert isinstance(version.network, Network)
    sounds = load_network_sounds(context, version.network)
    cams = read_cams(context, version) if context.study.settings.explain is not None else None
    if cams is None:
        return sounds, None, []
    known, kept, strange = keep_known_words(sounds, cams)
    if not strange:
        return sounds, cams, []
    what = f"sounds of {len(strange)} conditions have no map of their own class and are left out of the maps"
    return known, kept, [f"network {version.name}: {what} ({list_some(strange, 4)} are no classes of it)"]
