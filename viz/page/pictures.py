"""Draw the figures of the page once, embed them in it, and save them beside it as PNG and SVG."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainmap.names import file_name
from brainmap.record import atomic
from brainmap.viz.features.attention import plot_target_attention
from brainmap.viz.features.patterns import plot_maximization
from brainmap.viz.features.sounds import plot_cam
from brainmap.viz.page.sheet import plot_sheet
from brainmap.viz.rsa.rdms import match_items, plot_rdm_pair
from brainmap.viz.rsa.volume import plot_regions
from brainmap.viz.style import assign_layer_colors, encode_data_uri, render_png, render_svg, settle

if TYPE_CHECKING:
    from brainmap.viz.page.content import RdmPair, ReportContent

_LOG = logging.getLogger(__name__)
_EMBEDDED = 200_000  # bytes of numbers that the page embeds; those of larger figures are in the results only


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Hold a figure of the page: its address, description in words, width [CSS pixels], and the stem of its file.

    `data` is the address of its numbers as TSV, where it has some that are short enough to be embedded.
    """

    source: str
    words: str
    width: int
    name: str = ""
    data: str = ""


class Pictures:
    """Draw a report's figures and keep their files until they are saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, bytes] = {}

    def add(
        self, name: str, figure: Figure, words: str, *, painted: bool = False, data: pd.DataFrame | None = None
    ) -> Picture:
        """Store a figure's PNG and SVG, and return what the page embeds, with its numbers as TSV.

        The page embeds the SVG. For a figure that is mostly pixels (`painted`), it embeds the PNG, with fewer pixels,
        and no SVG is made.
        Two figures with the same name get two files.
        """
        started = time.process_time()
        settle(figure)
        stem, again = file_name(name.lower()), 1
        while f"{stem}.png" in self._files:
            stem, again = file_name(name.lower(), str(again + 1)), again + 1
        self._files[f"{stem}.png"] = content = render_png(figure, dpi=144 if painted else 192)
        kind = "image/png"
        if not painted:
            self._files[f"{stem}.svg"] = content = render_svg(figure, dpi=150)
            kind = "image/svg+xml"
        _LOG.debug("figure %s: %.2f s of CPU to save", name, time.process_time() - started)
        table = b"" if data is None else data.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n").encode()
        return Picture(
            source=encode_data_uri(content, kind),
            words=words,
            width=round(figure.get_figwidth() * 96),
            name=stem,
            data=encode_data_uri(table, "text/tab-separated-values") if 0 < len(table) <= _EMBEDDED else "",
        )

    def save(self) -> None:
        """Write the files; each file appears completely or not at all."""
        for name, content in self._files.items():
            with atomic(self.folder / name) as beside:
                beside.write_bytes(content)

    def draw_overview(self, content: ReportContent, layers: Sequence[str]) -> dict[str, Picture]:
        """Draw the figures of the explained network that occur once on the page, by name."""
        made: dict[str, Picture] = {}
        if content.sheet:
            figure = plot_sheet(content.sheet, layers=layers)
            words = "; ".join(f"{row.layer}: {row.where or row.unit}" for row in content.sheet)
            made["sheet"] = self.add("sheet", figure, words, painted=True)
        if content.regions is not None:
            figure = plot_regions(content.regions, mask=content.mask)
            words = f"{len(content.regions.names)} regions and the mask on the template"
            made["regions"] = self.add("regions", figure, words, painted=True)
        if content.sounds is not None and content.cams is not None:
            self.add("cam", plot_cam(content.sounds, content.cams), "Class activation maps", painted=True)
            figure = plot_target_attention(content.sounds, content.cams)
            made["attention"] = self.add(
                "target-attention", figure, "Mean map of each class on each word", painted=True
            )
        for panel in content.maximization:
            color = assign_layer_colors(layers).get(panel.layer, "#1c2530")
            self.add(f"maximization-{panel.title}", plot_maximization(panel, color=color), panel.title, painted=True)
        return made

    def draw_pairs(self, pairs: Sequence[RdmPair]) -> dict[str, list[tuple[str, Picture]]]:
        """Draw the RDM pairs of each region, one for each network that is shown there."""
        made: dict[str, list[tuple[str, Picture]]] = {}
        for pair in pairs:
            first = pair.roi not in made
            named = f"{pair.layer} of {pair.network}" if pair.network else pair.layer
            figure = plot_rdm_pair(pair.model, pair.brain, titles=(pair.layer, pair.roi), note=pair.note)
            words = f"Dissimilarities of {named} beside those of {pair.roi}, and pair by pair"
            words += f": {pair.note}" if pair.note else ""
            name = f"rdms-{pair.roi}" if first else f"rdms-{pair.roi}-{pair.network}"
            picture = self.add(name, figure, words, painted=True, data=_list_pairs(pair))
            made.setdefault(pair.roi, []).append((named, picture))
        return made


def _list_pairs(pair: RdmPair) -> pd.DataFrame | None:
    """List the dissimilarities of all pairs of items, of the layer and of the region; None for RDMs without labels."""
    if not (hasattr(pair.model, "pattern_descriptors") and hasattr(pair.brain, "pattern_descriptors")):
        return None
    order, model = match_items(pair.model, pair.brain), pair.model.get_matrices()[0]
    brain = np.nanmean(pair.brain.get_matrices(), axis=0) if pair.brain.n_rdm > 1 else pair.brain.get_matrices()[0]
    brain = brain if order is None else brain[np.ix_(order, order)]
    found = pair.model.pattern_descriptors
    names = [str(name) for name in found.get("stimulus_id", found.get("condition", range(len(model))))]
    i, j = np.triu_indices(len(names), 1)
    return pd.DataFrame(
        {
            "item": [names[k] for k in i],
            "other": [names[k] for k in j],
            pair.layer: model[i, j],
            pair.roi: brain[i, j],
        }
    )
