"""What a page can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from brainmap.viz.page.sheet import SheetRow
from brainmap.viz.page.tables import of_network


@dataclass(frozen=True, kw_only=True)
class RdmPair:
    """A layer's RDM and a region's, over the same items; `brain` may hold one RDM a participant."""

    roi: str
    layer: str
    model: Any
    brain: Any
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PatternPanel:
    """Maximizing patterns of one layer's units; what `features.maximize_activation` gives has the same fields.

    Attributes
    ----------
    title, layer : str
        Heading, and the layer that gives the color.
    patterns : array `(n_units, 1, t)`
        The sounds.
    units : sequence of str
        A name a unit.
    rate : float [Hz]
        Samples a second.
    quality : DataFrame, optional
        A row a unit, shown below the patterns.
    wavs : sequence of Path
        Files to play in place of the patterns.
    """

    title: str
    layer: str
    patterns: Any
    units: Sequence[str]
    rate: float
    quality: pd.DataFrame | None = None
    wavs: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All a report can show; what is missing or empty leaves its section out.

    Attributes
    ----------
    title, question : str
        Name of the study and what it asks.
    simulated : bool
        Whether the brain data are simulated, which every section then says.
    key_results : sequence of (figure, sentence)
        Headline facts, such as `("6 of 6", "planted layers found again")`.
    network : str
        The network that maps, patterns, RDMs and class activation maps are of; by default the first one.
    networks : mapping network -> names of its controls
        Every network of the study; by default each network of `scores`, without controls. Profiles and the table of
        layers by regions are drawn for each.
    layers : sequence of str
        Layers of `network` by depth; by default in the order of `scores`.
    measure : str
        How RDMs were compared, such as "rho-a".
    map_measure : str
        The same for `maps`; by default `measure`.
    scores : DataFrame
        `network`, `layer`, `roi`, `participant`, `score`: of all networks, of their controls, and of baselines.
    statistics : DataFrame
        `network`, `layer`, `roi`, `mean`, `standard_error`, `p`, `p_corrected`.
    tested : str
        The test behind `statistics` in words: what a star means.
    notes : mapping "statistics" or "differences" -> str
        Sentences below these tables: their tests, and to what they generalize.
    bootstrap, differences : DataFrame
        Of `brainmap.rsa.bootstrap_rois` or `brainmap.rsa.score_differences`, with `network` and `layer`.
    ceilings : DataFrame
        `roi`, `lower`, `upper`.
    residual_structure : DataFrame
        Of `brainmap.rsa.residual_structure`, with `network` and `layer`.
    reliability : DataFrame
        Of `brainmap.rsa.rdm_reliability`.
    best_layers : DataFrame
        `roi`, `layer` and what was scored on held-out items.
    recovery : DataFrame
        `roi`, `planted`, `recovered`, and further columns.
    planted_from : str
        The network whose layers were planted; by default `network`.
    layer_correlations : DataFrame `(n_layers, n_layers)`
        Correlations of the layers' RDMs.
    maps, p_maps : mapping layer -> Nifti1Image
        Mean scores; corrected p, of which p < .05 is encircled.
    surface_maps, surface_best, surface_mesh : mapping layer -> SurfaceData, SurfaceData, Mesh
        The same of studies on the cortical surface: mean maps, the best layer where any is significant, and the mesh.
    best_layer_image : Nifti1Image
        k where the k-th layer is best, 0 where none.
    clusters : DataFrame
        Peaks of the maps.
    difference_maps, difference_p_maps : mapping "conv4 - conv2" -> Nifti1Image
        Mean differences of two layers' scores; corrected p.
    difference_clusters : DataFrame
        Their peaks.
    sheet : sequence of SheetRow
        Network beside brain.
    rdm_pairs : sequence of RdmPair
    maximization : sequence of PatternPanel
    sounds, cams
        `waveforms`, `rate`, `items`, `conditions`; `maps` (n_items, n_classes, t), `class_names`.
    counts : DataFrame
        Voxels used and left out, a row a region and participant.
    sounds_notes : sequence of str
        What is said of the sounds and of what networks call them, a line each.
    methods : str
        Paragraphs, parted by an empty line; `methods_paragraph` writes them from settings.
    provenance : mapping
        Command, versions, seed, SHA-256 of inputs; values may be mappings.
    """

    title: str
    question: str = ""
    simulated: bool = False
    key_results: Sequence[tuple[str, str]] = ()
    network: str = ""
    networks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    layers: Sequence[str] = ()
    measure: str = "score"
    map_measure: str = ""
    scores: pd.DataFrame | None = None
    statistics: pd.DataFrame | None = None
    tested: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    bootstrap: pd.DataFrame | None = None
    differences: pd.DataFrame | None = None
    ceilings: pd.DataFrame | None = None
    residual_structure: pd.DataFrame | None = None
    reliability: pd.DataFrame | None = None
    best_layers: pd.DataFrame | None = None
    recovery: pd.DataFrame | None = None
    planted_from: str = ""
    layer_correlations: pd.DataFrame | None = None
    maps: Mapping[str, Any] = field(default_factory=dict)
    p_maps: Mapping[str, Any] = field(default_factory=dict)
    best_layer_image: Any = None
    surface_maps: Mapping[str, Any] = field(default_factory=dict)
    surface_best: Any = None
    surface_mesh: Any = None
    clusters: pd.DataFrame | None = None
    difference_maps: Mapping[str, Any] = field(default_factory=dict)
    difference_p_maps: Mapping[str, Any] = field(default_factory=dict)
    difference_clusters: pd.DataFrame | None = None
    sheet: Sequence[SheetRow] = ()
    rdm_pairs: Sequence[RdmPair] = ()
    maximization: Sequence[PatternPanel] = ()
    sounds: Any = None
    cams: Any = None
    counts: pd.DataFrame | None = None
    sounds_notes: Sequence[str] = ()
    methods: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def families(self) -> dict[str, tuple[str, ...]]:
        """The controls of every network that the page answers for, the explained network first."""
        found = {name: tuple(controls) for name, controls in self.networks.items()}
        for table in (self.scores, self.statistics):
            if not found and table is not None and "network" in table:
                found = {str(name): () for name in dict.fromkeys(table["network"])}
        return dict(sorted(found.items(), key=lambda item: item[0] != self.network)) or {self.network: ()}

    def layer_order(self, network: str | None = None) -> list[str]:
        """The layers of a network by depth: of the explained one from `layers`, else from the tables and maps."""
        main = next(iter(self.families()))
        network = network or main
        if self.layers and network == main:
            return list(self.layers)
        for table in (self.scores, self.statistics):
            if table is not None:
                return [str(name) for name in dict.fromkeys(of_network(table, network)["layer"])]
        return [str(name) for name in self.maps]

    def planted(self, network: str | None = None) -> dict[str, str]:
        """The planted layer of each region that has one, for the network whose layers were planted."""
        main = next(iter(self.families()))
        network = network or main
        if self.recovery is None or network != (self.planted_from or main):
            return {}
        known = set(self.layer_order(network))
        pairs = zip(self.recovery["roi"], self.recovery["planted"], strict=True)
        return {str(roi): str(layer) for roi, layer in pairs if str(layer) in known}
