"""Collect the figures of the page, embed them in it, and save them beside it as PNG and SVG.

Tabulate the numbers of figures that show no table of the results, to be saved beside them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainmap.names import file_name
from brainmap.record import atomic
from brainmap.viz.features.attention import average_attention, plot_target_attention
from brainmap.viz.page.drawings import Drawing, Plot, draw_vector, read_memory, recall, remember
from brainmap.viz.page.helper import Helper
from brainmap.viz.page.listening import RegionPanel
from brainmap.viz.page.sheet import SheetRow, find_top, plot_sheet
from brainmap.viz.rsa.rdms import match_items, plot_rdm_pair
from brainmap.viz.rsa.volume import plot_regions
from brainmap.viz.style import encode_data_uri

if TYPE_CHECKING:
    from brainmap.viz.page.content import RdmPair, ReportContent

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
            plot = partial(plot_sheet, content.sheet, layers=layers, vmax=find_top(row.image for row in content.sheet))
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


def list_regions(rois: Any) -> pd.DataFrame:
    """List regions with their centers [mm] and numbers of voxels; `rois` has `names`, `labels` and `affine`."""
    rows = []
    for k, name in enumerate(rois.names, start=1):
        voxels = np.argwhere(np.asarray(rois.labels) == k)
        x, y, z = rois.affine[:3, :3] @ voxels.mean(axis=0) + rois.affine[:3, 3] if len(voxels) else [np.nan] * 3
        rows.append({"region": name, "x": round(x, 2), "y": round(y, 2), "z": round(z, 2), "voxels": len(voxels)})
    return pd.DataFrame(rows)


def list_sheet(rows: Sequence[SheetRow]) -> pd.DataFrame:
    """List the layers of a sheet, what each maximizes, and the highest place of its map [mm]."""
    found = []
    for row in rows:
        values = np.nan_to_num(np.asarray(row.image.dataobj, dtype=np.float32), nan=-np.inf)
        voxel = np.unravel_index(int(values.argmax()), values.shape)[:3]
        x, y, z = (row.image.affine[:3, :3] @ voxel + row.image.affine[:3, 3]).round(2)
        about = {"layer": row.layer, "unit": row.unit, "word": row.word, "where": row.where}
        found.append({**about, "highest": float(values.max()), "x": x, "y": y, "z": z})
    return pd.DataFrame(found)


def list_attention(sounds: Any, cams: Any, *, bins: int = 24) -> pd.DataFrame:
    """List the mean map of each class on the sounds of each word, by time bins of equal length."""
    mean, names = average_attention(sounds, cams, bins=bins), [str(name) for name in cams.class_names]
    n, _, steps = mean.shape
    word, of_class, at = (part.ravel() for part in np.indices((n, n, steps)))
    columns = {"word": np.array(names)[word], "class": np.array(names)[of_class], "bin": at + 1, "map": mean.ravel()}
    return pd.DataFrame(columns).dropna().astype({"map": np.float32})


def list_courses(panels: Sequence[RegionPanel]) -> pd.DataFrame:
    """List where in the first real sound of each region its encoding model reads, beside the level of the sound."""
    rows = []
    for one in panels:
        first = one.real[0]
        if first.seconds is None or first.course is None:
            continue
        energy = np.full(len(first.seconds), np.nan) if first.energy is None else first.energy
        values = {"second": first.seconds, "map": first.course, "energy_db": energy}
        rows.append(pd.DataFrame({"region": one.roi, "sound": first.name, **values}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
