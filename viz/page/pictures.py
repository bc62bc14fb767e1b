"""Draw the figures of the page once, embed them in it, and save them beside it as PNG and SVG."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from brainmap.names import file_name
from brainmap.record import atomic
from brainmap.viz.features.attention import plot_target_attention
from brainmap.viz.features.sounds import plot_cam, plot_maximization
from brainmap.viz.page.sheet import plot_sheet
from brainmap.viz.page.tables import select_network_rows
from brainmap.viz.rsa.profiles import plot_layer_profile, plot_layer_roi_table
from brainmap.viz.rsa.rdms import plot_correlation_matrix, plot_rdm_pair
from brainmap.viz.rsa.surface import plot_surface_maps
from brainmap.viz.rsa.volume import find_peaks, plot_best_layer, plot_brain, plot_glass_brain
from brainmap.viz.style import assign_layer_colors, encode_data_uri, render_png, render_svg, settle

if TYPE_CHECKING:
    from brainmap.viz.page.content import RdmPair, ReportContent

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Hold a figure of the page: its address, its description in words, and its width [CSS pixels]."""

    source: str
    words: str
    width: int


class Pictures:
    """Draw a report's figures and keep their files until they are saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, bytes] = {}

    def add(self, name: str, figure: Figure, words: str, *, painted: bool = False, dpi: int = 192) -> Picture:
        """Store a figure's PNG and SVG, and return what the page embeds.

        The page embeds the SVG. For a figure that is mostly pixels (`painted`), it embeds the PNG and no SVG is made.
        Two figures with the same name get two files.
        """
        started = time.process_time()
        settle(figure)
        stem, again = file_name(name.lower()), 1
        while f"{stem}.png" in self._files:
            stem, again = file_name(name.lower(), str(again + 1)), again + 1
        self._files[f"{stem}.png"] = content = render_png(figure, dpi=dpi)
        kind = "image/png"
        if not painted:
            self._files[f"{stem}.svg"] = content = render_svg(figure, dpi=150)
            kind = "image/svg+xml"
        _LOG.debug("figure %s: %.2f s of CPU to save", name, time.process_time() - started)
        return Picture(source=encode_data_uri(content, kind), words=words, width=round(figure.get_figwidth() * 96))

    def save(self) -> None:
        """Write the files; each file appears completely or not at all."""
        for name, content in self._files.items():
            with atomic(self.folder / name) as beside:
                beside.write_bytes(content)

    def draw_overview(self, content: ReportContent, layers: Sequence[str]) -> dict[str, Picture]:
        """Draw the figures that occur once on the page, by name."""
        made: dict[str, Picture] = {}
        planted = content.find_planted()
        if content.sheet:
            figure = plot_sheet(content.sheet, layers=layers)
            made["sheet"] = self.add(
                "sheet", figure, "What layers hear beside where the brain hears alike", painted=True
            )
        if content.layer_correlations is not None:
            figure = plot_correlation_matrix(content.layer_correlations, marked=sorted(set(planted.values())))
            made["correlations"] = self.add("layer-correlations", figure, "Correlations of the layers' RDMs")
        if content.best_layer_image is not None:
            figure = plot_best_layer(content.best_layer_image, layers)
            made["best_layer"] = self.add("best-layer", figure, "Best layer of every voxel", painted=True)
        if content.surface_maps:
            names = [name for name in layers if name in content.surface_maps]
            figure = plot_surface_maps(
                content.surface_maps,
                models=names,
                best=content.surface_best,
                mesh=content.surface_mesh,
                label=content.map_measure,
            )
            made["surface"] = self.add("surface-maps", figure, "Searchlight maps on the cortex", painted=True, dpi=144)
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

    def draw_profile(self, content: ReportContent, network: str, controls: Sequence[str]) -> Picture | None:
        """Draw the profile of a network beside its controls and baselines, and store its table as a separate file."""
        layers, planted = content.order_layers(network), content.find_planted(network)
        families = content.list_families()
        ending = "" if network == next(iter(families)) else f"-{network}"
        statistics = None if content.statistics is None else select_network_rows(content.statistics, network)
        if statistics is not None and len(statistics):
            figure = plot_layer_roi_table(statistics, layers=layers, planted=planted)
            self.add(f"layer-roi-table{ending}", figure, f"Layers of {network} by regions")
        if content.scores is None or not len(content.scores):
            return None
        networks = {name for main, its in families.items() for name in (main, *its)}
        baselines = (
            []
            if "network" not in content.scores
            else [str(name) for name in dict.fromkeys(content.scores["network"]) if name not in networks]
        )
        figure = plot_layer_profile(
            select_network_rows(content.scores, network, (*controls, *baselines)),
            content.ceilings,
            statistics=statistics,
            planted=planted,
            layers=layers,
            measure=content.measure,
            controls=controls,
        )
        return self.add(f"layer-profile{ending}", figure, f"Score against the depth of {network}, a panel a region")

    def draw_maps(self, content: ReportContent, layers: Sequence[str]) -> dict[str, list[Picture]]:
        """Draw a glass brain and slices for each layer, on one color scale so that layers can be compared."""
        names = [name for name in layers if name in content.maps]
        tops = [float(np.nanmax(np.asarray(content.maps[name].dataobj))) for name in names]
        top = max((t for t in tops if t > 0), default=None)
        made = {}
        for name in names:
            image, p = content.maps[name], content.p_maps.get(name)
            glass = plot_glass_brain(image, vmax=top, label=content.map_measure or content.measure)
            slices = plot_brain(
                image, outline=_mark_significant(p), vmax=top, label=content.map_measure or content.measure
            )
            made[name] = [
                self.add(f"glass-{name}", glass, f"Glass brain of {name}", painted=True, dpi=144),
                self.add(f"slices-{name}", slices, f"Slices through the peaks of {name}", painted=True, dpi=144),
            ]
        return made

    def draw_differences(self, content: ReportContent) -> dict[str, list[Picture]]:
        """Draw slices through the peaks of all differences that some voxel shows, on one color scale."""
        outlines = {name: _mark_significant(p) for name, p in content.difference_p_maps.items()}
        shown = [name for name, outline in outlines.items() if np.any(outline.dataobj)]
        values = {name: np.asarray(content.difference_maps[name].dataobj, dtype=np.float32) for name in shown}
        top = max((float(np.nanmax(np.abs(found))) for found in values.values()), default=None)
        label, made = f"Δ {content.map_measure or content.measure}", {}
        for name in shown:
            image = content.difference_maps[name]
            cuts = sorted(find_peaks(type(image)(np.abs(values[name]), image.affine), n=2))
            figure = plot_brain(image, cuts=cuts, outline=outlines[name], vmax=top, signed=True, label=label)
            words = f"Slices through the largest differences {name}"
            made[name] = [self.add(f"difference-{name}", figure, words, painted=True, dpi=144)]
        return made

    def draw_pairs(self, pairs: Sequence[RdmPair]) -> list[tuple[str, Picture]]:
        """Draw one RDM pair per region."""
        made = []
        for pair in pairs:
            figure = plot_rdm_pair(pair.model, pair.brain, titles=(pair.layer, pair.roi), note=pair.note)
            words = f"Dissimilarities of {pair.layer} beside those of {pair.roi}"
            made.append((pair.roi, self.add(f"rdms-{pair.roi}", figure, words, painted=True)))
        return made


def _mark_significant(p: Any) -> Any:
    """Return voxels with corrected p of at most .05 as an image of ones and zeros; None without p values."""
    if p is None:
        return None
    values = np.asarray(p.dataobj, dtype=np.float32)
    return type(p)(((values > 0) & (values <= np.float32(0.05))).astype(np.float32), p.affine)
