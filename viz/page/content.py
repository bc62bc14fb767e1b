"""The content of a study's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from brainmap.viz.page.listening import RegionPanel
from brainmap.viz.page.sheet import SheetRow
from brainmap.viz.page.tables import select_network_rows


@dataclass(frozen=True, kw_only=True)
class RdmPair:
    """Hold the RDM of a layer and of a region over the same items.

    Attributes
    ----------
    roi, layer : str
    model : rsatoolbox RDMs
        The RDM of the layer.
    brain : rsatoolbox RDMs
        The RDM of the region, or one for each participant.
    note : str
        What stands below the figure.
    network : str
        The network of the layer; empty where there is one.
    """

    roi: str
    layer: str
    model: Any
    brain: Any
    note: str = ""
    network: str = ""


@dataclass(frozen=True, kw_only=True)
class NetworkMaps:
    """Hold the searchlight maps of a network: images, or data on a surface where `mesh` is given.

    Attributes
    ----------
    means, p : mapping layer -> Nifti1Image or SurfaceData
        Mean scores, and corrected p values; voxels with p < .05 are outlined.
    best_layer : Nifti1Image or SurfaceData, optional
        Value k where the k-th of `layers` is best, 0 or NaN where no layer is significant.
    layers : sequence of str
        All layers by depth, of which `means` may hold some; by default those of `means`.
    differences, p_differences : mapping "conv4 - conv2" -> Nifti1Image
        Mean differences of two layers' scores; corrected p.
    mesh : Mesh, optional
        The surface.
    note : str
        Which layers are drawn, where these are not all.
    """

    means: Mapping[str, Any] = field(default_factory=dict)
    p: Mapping[str, Any] = field(default_factory=dict)
    best_layer: Any = None
    layers: Sequence[str] = ()
    differences: Mapping[str, Any] = field(default_factory=dict)
    p_differences: Mapping[str, Any] = field(default_factory=dict)
    mesh: Any = None
    note: str = ""

    def list_layers(self) -> list[str]:
        """Return all layers by depth."""
        return [str(name) for name in self.layers or self.means]


@dataclass(frozen=True, kw_only=True)
class PatternPanel:
    """Hold maximizing patterns of one layer's units; results of `features.maximize_activation` have the same fields.

    Attributes
    ----------
    title, layer : str
        Heading, and the layer that gives the color.
    patterns : array `(n_units, 1, t)` or `(n_units, c, h, w)`
        The sounds, or spectrograms.
    units : sequence of str
        One name per unit.
    rate : float [Hz]
        Samples per second.
    quality : DataFrame, optional
        One row per unit, shown below the patterns.
    wavs : sequence of Path
        Sound files to play in place of the patterns.
    axes : InputAxes, optional
        What the axes of spectrograms mean.
    prior : {"audio", "decoder", "none"}
        What held the patterns to sounds.
    """

    title: str
    layer: str
    patterns: Any
    units: Sequence[str]
    rate: float
    quality: pd.DataFrame | None = None
    wavs: Sequence[Path] = ()
    axes: Any = None
    prior: str = "audio"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Hold what the page shows of one participant.

    Attributes
    ----------
    label : str
    outlier : bool
    agreement : float
        With the others, as in the table of participants; NaN where it is not known.
    regions : DataFrame
        A row for each region: `roi`, and what is known of `agreement`, `reliability`, and voxels used and left out.
    rdms : mapping of region to ndarray (n_items, n_items)
        Dissimilarities; items of one condition lie side by side.
    """

    label: str
    outlier: bool
    agreement: float
    regions: pd.DataFrame
    rdms: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PeopleContent:
    """Hold what the page shows of participants, one by one.

    Attributes
    ----------
    persons : sequence of Person
        The least typical first.
    maps : mapping of participant to Nifti1Image
        Searchlight maps of one layer, in MNI space; each is loaded when it is drawn.
    shown : str
        The layer, and its network.
    """

    persons: Sequence[Person]
    maps: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""


@dataclass(frozen=True, kw_only=True)
class DesignedRun:
    """Hold the design of a run of BOLD.

    Attributes
    ----------
    participant, run : str
    matrix : DataFrame (n_volumes, n_regressors)
        The index holds the times of the volumes [s].
    kinds : sequence of {"event", "confound", "censored volume", "drift", "constant"}
        What each regressor is of.
    events : DataFrame, optional
        `onset`, `duration` [s] and `name`; None where the files of the events are gone.
    """

    participant: str
    run: str
    matrix: pd.DataFrame
    kinds: Sequence[str]
    events: pd.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class DesignContent:
    """Hold what the page shows of the models of BOLD: all runs, a table with a row for each, and notes on them."""

    runs: Sequence[DesignedRun]
    table: pd.DataFrame
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class StoryFacts:
    """Hold what the page says of stories and their scans.

    Attributes
    ----------
    stories, scans : int
        Number of stories, and of scans of all stories, heard once.
    seconds : float [s]
        Length of all stories.
    t_r, block : float [s]
        Time between scans, and length of the blocks that the test exchanges.
    repeats, confounds : bool
        Whether some participant heard a story several times, and whether confounds were removed.
    """

    stories: int
    scans: int
    seconds: float
    t_r: float
    block: float
    repeats: bool
    confounds: bool


@dataclass(frozen=True, kw_only=True)
class EncodingContent:
    """Hold what the page shows of encoding models.

    Attributes
    ----------
    scores : DataFrame
        `network`, `layer`, `roi`, `participant`, `score` (r) of all networks, their controls, and baselines.
    statistics : DataFrame
        `network`, `layer`, `roi`, `mean`, `standard_error`, `r_corrected`, `p_corrected`, over participants.
    similarity : DataFrame
        `network`, `layer`, `roi`, `score`: mean scores of RSA, by `measure`.
    best_layers, positions, networks, differences, agreement : DataFrame
        Best layers, chosen and scored on different halves of the sounds, and tests of their positions; networks against
        each other, controls and baselines, and layers; the agreement of RSA and encoding models.
    segments : DataFrame
        `network`, `layer`, `roi`, `mean`, `p_corrected`: RDMs of segments of stories; they are none of sounds.
    bands : DataFrame
        `band`, `roi`, `joint`, `unique`, `product`: what each of several feature spaces adds to the others.
    tested : str
        The test behind `statistics` in words.
    notes : mapping of table to str
        Sentences below the tables.
    ceilings : DataFrame
        `roi`, `lower`, `upper`: how well the other participants predict a participant's time courses.
    delays : DataFrame
        `network`, `layer`, `roi`, `delay`, `weight`: weights of the models of stories by delay.
    stories : StoryFacts
        None where items are sounds.
    speech : sequence of str
        Names of features of speech, which are networks in `scores`, and layers of one network in `statistics`.
    targets, groups, folds, measure
        Settings that the text names.
    """

    scores: pd.DataFrame
    statistics: pd.DataFrame
    similarity: pd.DataFrame
    best_layers: pd.DataFrame | None = None
    positions: pd.DataFrame | None = None
    networks: pd.DataFrame | None = None
    differences: pd.DataFrame | None = None
    agreement: pd.DataFrame | None = None
    segments: pd.DataFrame | None = None
    bands: pd.DataFrame | None = None
    ceilings: pd.DataFrame | None = None
    delays: pd.DataFrame | None = None
    stories: StoryFacts | None = None
    speech: Sequence[str] = ()
    tested: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    targets: str = "roi"
    groups: str = "condition"
    folds: int = 5
    measure: str = "score"


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Hold everything that a report can show; a section whose content is missing or empty is left out.

    Attributes
    ----------
    title, question : str
        Name of the study and the question it asks.
    simulated : bool
        Whether the brain data are simulated; if so, every section says this.
    unfinished : str
        What the page does not show yet, where it is written again later.
    about : sequence of (name, text)
        What stands at the top: date, participants, runs, sounds.
    cautions : sequence of str
        What a reader must know before the results: few participants, corrections that can find nothing, networks at
        chance.
    key_results : sequence of (figure, sentence)
        Headline facts, such as `("6 of 6", "planted layers found again")`.
    answers : DataFrame
        A row for each region and network: `roi`, `network`, `layer`, `score`, `held_out`, `ceiling_lower`,
        `ceiling_upper`, `of_ceiling`, `explains`, `best`, and `over_<what>` and `p_<what>` for each control, for
        "acoustic" models, and for the "best" network of the region; `model_<what>`, `score_<what>` and
        `explains_<what>` where opponents are several models; `seed_of` names the network of which one is a seed.
    answers_note : str
        The tests behind `answers`, and the family of their correction.
    removed : str
        Names of the models that were partialled out of all scores of regions, which the lead of the answer says.
    rivals : mapping network -> roi -> layers
        The best layer of a region where some layer is significant, then the layers not told apart from it.
    network : str
        The network to which patterns and class activation maps belong; by default the first network.
    networks : mapping network -> names of its controls
        Every network of the study, and networks of several seeds; by default each network of `scores`, without
        controls. Each has its own profiles and its own table of layers by regions.
    layers : sequence of str
        Layers of `network` by depth; by default in the order of `scores`.
    measure : str
        Measure that compared RDMs, such as "rho-a".
    map_measure : str
        The same for `maps`; by default `measure`.
    scores : DataFrame
        `network`, `layer`, `roi`, `participant`, `score` of all networks, their controls, and baselines.
    statistics : DataFrame
        `network`, `layer`, `roi`, `mean`, `standard_error`, `p`, `p_corrected`.
    tested : str
        The test behind `statistics` in words, which explains the stars.
    notes : mapping "statistics" or "differences" -> str
        Sentences below these tables about their tests and the population to which they generalize.
    bootstrap, differences : DataFrame
        Tables of `brainmap.rsa.bootstrap_rois` and `brainmap.rsa.score_differences`, with `network` and `layer`.
    network_differences : DataFrame
        The rows of such a table that compare the best layers of two networks.
    baselines : sequence of str
        Names in `scores` of acoustic models, which profiles show as a band.
    hypotheses : str
        Name in `scores` of all hypotheses together, which are layers there; empty without any.
    ceilings : DataFrame
        `roi`, `lower`, `upper`.
    residual_structure : DataFrame
        Table of `brainmap.rsa.residual_structure`, with `network` and `layer`.
    reliability : DataFrame
        Table of `brainmap.rsa.rdm_reliability`.
    best_layers : DataFrame
        `roi`, `layer` and scores on held-out items.
    recovery : DataFrame
        `roi`, `planted`, `recovered` (empty where nothing is significant), and further columns.
    planted_from : str
        The network whose layers were planted; by default `network`.
    layer_correlations : mapping network -> DataFrame `(n_layers, n_layers)`
        Correlations of the layers' RDMs.
    encoding : EncodingContent
    listening : sequence of RegionPanel
        Sounds that regions answered, and sounds that they are predicted to want.
    listening_table : DataFrame
        Their table, one row a region.
    maps : mapping network -> NetworkMaps
    clusters : DataFrame
        Peaks of the maps.
    difference_clusters : DataFrame
        Peaks of the difference maps.
    sheet : sequence of SheetRow
        Rows that show the network beside the brain.
    rdm_pairs : sequence of RdmPair
    maximization : sequence of PatternPanel
    sounds, cams
        `waveforms`, `rate`, `items`, `conditions`; `maps` (n_items, n_classes, t), `class_names`.
    people : DataFrame
        A row for each participant: `participant`, `agreement` with the others, `outlier`, and what was left out.
    persons : PeopleContent
        What is shown of each of them.
    designs : DesignContent
        The models of BOLD.
    regions, mask : Rois, Nifti1Image
        The regions of the study, and the mask, to be drawn on the template.
    regions_note : str
        Whose they are.
    counts : DataFrame
        Voxels used and left out, one row per region and participant.
    sounds_notes : sequence of str
        Notes about the sounds and their class names, one per line.
    methods : str
        Paragraphs separated by an empty line; `methods_paragraph` writes them from settings.
    notices : sequence of (stage, lines)
        What the stages of the run warned of.
    provenance : mapping
        Command, versions, seed, SHA-256 of inputs; values may be mappings.
    """

    title: str
    question: str = ""
    simulated: bool = False
    unfinished: str = ""
    about: Sequence[tuple[str, str]] = ()
    cautions: Sequence[str] = ()
    key_results: Sequence[tuple[str, str]] = ()
    answers: pd.DataFrame | None = None
    answers_note: str = ""
    removed: str = ""
    rivals: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
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
    network_differences: pd.DataFrame | None = None
    baselines: Sequence[str] = ()
    hypotheses: str = ""
    ceilings: pd.DataFrame | None = None
    residual_structure: pd.DataFrame | None = None
    reliability: pd.DataFrame | None = None
    best_layers: pd.DataFrame | None = None
    recovery: pd.DataFrame | None = None
    planted_from: str = ""
    layer_correlations: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    encoding: EncodingContent | None = None
    listening: Sequence[RegionPanel] = ()
    listening_table: pd.DataFrame | None = None
    maps: Mapping[str, NetworkMaps] = field(default_factory=dict)
    clusters: pd.DataFrame | None = None
    difference_clusters: pd.DataFrame | None = None
    sheet: Sequence[SheetRow] = ()
    rdm_pairs: Sequence[RdmPair] = ()
    maximization: Sequence[PatternPanel] = ()
    sounds: Any = None
    cams: Any = None
    people: pd.DataFrame | None = None
    persons: PeopleContent | None = None
    designs: DesignContent | None = None
    regions: Any = None
    mask: Any = None
    regions_note: str = ""
    counts: pd.DataFrame | None = None
    sounds_notes: Sequence[str] = ()
    methods: str = ""
    notices: Sequence[tuple[str, Sequence[str]]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def list_families(self) -> dict[str, tuple[str, ...]]:
        """Return the networks of the page with their controls, the explained network first."""
        found = {name: tuple(controls) for name, controls in self.networks.items()}
        beside = (*self.baselines, self.hypotheses)
        for table in (self.scores, self.statistics):
            if not found and table is not None and "network" in table:
                found = {str(name): () for name in dict.fromkeys(table["network"]) if name not in beside}
        found = found or dict.fromkeys(self.maps, ())
        return dict(sorted(found.items(), key=lambda item: item[0] != self.network)) or {self.network: ()}

    def order_layers(self, network: str | None = None) -> list[str]:
        """Return a network's layers by depth: from `layers` for the explained network, else from tables or maps."""
        main = next(iter(self.list_families()))
        network = network or main
        if self.layers and network == main:
            return list(self.layers)
        for table in (self.scores, self.statistics):
            if table is not None:
                return [str(name) for name in dict.fromkeys(select_network_rows(table, network)["layer"])]
        return self.maps[network].list_layers() if network in self.maps else []

    def find_planted(self, network: str | None = None) -> dict[str, str]:
        """Return the planted layer of each region that has one, for the network whose layers were planted."""
        main = next(iter(self.list_families()))
        network = network or main
        if self.recovery is None or network != (self.planted_from or main):
            return {}
        known = set(self.order_layers(network))
        pairs = zip(self.recovery["roi"], self.recovery["planted"], strict=True)
        return {str(roi): str(layer) for roi, layer in pairs if str(layer) in known}
