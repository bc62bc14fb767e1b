"""Collect the figures of the page, embed them in it, and save them beside it as PNG and SVG."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainmap.names import file_name
from brainmap.record import atomic
from brainmap.viz.features.attention import plot_target_attention
from brainmap.viz.page.drawings import Drawing, Plot, draw_vector, read_memory, recall, remember
from brainmap.viz.page.helper import Helper
from brainmap.viz.page.numbers import list_attention, list_regions, list_sheet
from brainmap.viz.page.sheet import find_sheet_top, plot_sheet
from brainmap.viz.rsa.rdms import match_items, plot_rdm_pair
from brainmap.viz.rsa.volume import plot_regions
from brainmap.viz.style import encode_data_uri

if TYPE_CHECKING:
    from brainmap.viz.page.content import RdmPair, ReportContent

_LOG = logging.getLogger(__name__)
_EMBEDDED = 200_000  # bytes of numbers that the page embeds; those of larger figures are in the results only


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Hold a figure of the page: its description in words, and the stem of its file.

    `data` is the address of its numbers as TSV, where it has some that are short enough to be embedded. `maps` names
    the maps of the network `group` that it shows, whose numbers the page's viewer holds.
    """

    drawing: Drawing
    words: str
    name: str
    data: str = ""
    group: str = ""
    maps: tuple[str, ...] = ()

    @property
    def names_of_maps(self) -> str:
        """Return the names of the maps as the page's script reads them."""
        return json.dumps(self.maps)

    @property
    def source(self) -> str:
        """Return the address of the picture, which embeds it."""
        drawn = self.drawing.draw()
        return encode_data_uri(drawn.content, drawn.kind)

    @property
    def width(self) -> int:
        """Return the width [CSS pixels]."""
        return self.drawing.draw().width


class Pictures:
    """Collect the figures of a page, draw them once all are known, and keep their files until they are saved.

    Parameters
    ----------
    folder : path
        Folder of their files.
    memory : path, optional
        File with the keys of the figures in the folder; figures with equal keys are not drawn again.
    helper : Helper, optional
        A process that draws some of them, from when they are added.
    """

    def __init__(self, folder: Path, memory: Path | None = None, helper: Helper | None = None) -> None:
        self.folder = folder
        self.memory = memory
        self.helper = helper
        self._known = {} if memory is None else read_memory(memory)
        self._drawings: dict[str, Drawing] = {}

    def add(
        self,
        name: str,
        plot: Plot,
        words: str,
        *,
        painted: bool = False,
        data: pd.DataFrame | None = None,
        group: str = "",
        maps: Sequence[str] = (),
    ) -> Picture:
        """Add a figure, given as a `functools.partial` of the function that plots it, with its numbers as TSV.

        The numbers of maps are those that the viewer holds; they are named as there, with the network as their group.

        The page embeds its SVG. For a figure that is mostly pixels (`painted`), it embeds the PNG, with fewer pixels,
        and no SVG is made.
        Two figures with the same name get two files.
        """
        stem, again = file_name(name.lower()), 1
        while stem in self._drawings:
            stem, again = file_name(name.lower(), str(again + 1)), again + 1
        self._drawings[stem] = drawing = Drawing(plot, painted)
        recall(stem, drawing, self.folder, self._known)
        if self.helper is not None and drawing.rendered is None and drawing.key is not None:
            self.helper.offer(drawing)
        table = b"" if data is None else data.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n").encode()
        return Picture(
            drawing=drawing,
            words=words,
            name=stem,
            data=encode_data_uri(table, "text/tab-separated-values") if 0 < len(table) <= _EMBEDDED else "",
            group=group,
            maps=tuple(maps),
        )

    def draw(self) -> None:
        """Draw all figures that are not drawn already."""
        if self.helper is not None:
            while (drawing := self.helper.take()) is not None:
                drawing.draw()
            self.helper.finish()
        for drawing in self._drawings.values():
            drawing.draw()

    def save(self) -> None:
        """Write the files; each file appears completely or not at all."""
        for stem, drawing in self._drawings.items():
            for suffix, content in drawing.draw().files.items():
                with atomic(self.folder / f"{stem}{suffix}") as beside:
                    beside.write_bytes(content)
        if self.memory is not None:
            remember(self._drawings, self.memory)

    def save_vectors(self) -> None:
        """Write an SVG of each figure of which the page embeds pixels."""
        for stem, drawing in self._drawings.items():
            if drawing.painted:
                with atomic(self.folder / f"{stem}.svg") as beside:
                    beside.write_bytes(draw_vector(drawing.plot))

    def draw_overview(self, content: ReportContent, layers: Sequence[str]) -> dict[str, Picture]:
        """Draw the figures of the explained network that occur once on the page, by name."""
        made: dict[str, Picture] = {}
        if content.sheet:
            plot = partial(plot_sheet, content.sheet, layers=layers, vmax=find_sheet_top(content.sheet))
            words = "; ".join(f"{row.layer}: {row.where or row.unit}" for row in content.sheet)
            made["sheet"] = self.add("sheet", plot, words, painted=True, data=list_sheet(content.sheet))
        if content.regions is not None:
            plot = partial(plot_regions, content.regions, mask=content.mask)
            words = f"{len(content.regions.names)} regions and the mask on the template"
            made["regions"] = self.add("regions", plot, words, painted=True, data=list_regions(content.regions))
        if content.sounds is not None and content.cams is not None:
            plot = partial(plot_target_attention, content.sounds, content.cams)
            data = list_attention(content.sounds, content.cams)
            words = "Mean map of each class on each word"
            made["attention"] = self.add("target-attention", plot, words, painted=True, data=data)
        return made

    def draw_pairs(self, pairs: Sequence[RdmPair]) -> dict[str, list[tuple[str, Picture]]]:
        """Draw the RDM pairs of each region, one for each network that is shown there."""
        made: dict[str, list[tuple[str, Picture]]] = {}
        for pair in pairs:
            first = pair.roi not in made
            named = f"{pair.layer} of {pair.network}" if pair.network else pair.layer
            plot = partial(plot_rdm_pair, pair.model, pair.brain, titles=(pair.layer, pair.roi), note=pair.note)
            words = f"Dissimilarities of {named} beside those of {pair.roi}, and pair by pair"
            words += f": {pair.note}" if pair.note else ""
            name = f"rdms-{pair.roi}" if first else f"rdms-{pair.roi}-{pair.network}"
            picture = self.add(name, plot, words, painted=True, data=_list_pairs(pair))
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
