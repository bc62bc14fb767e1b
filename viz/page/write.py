"""The page: one HTML file that carries its pictures, sounds and tables in itself, and opens without a network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from brainmap.errors import RunError
from brainmap.places import room_for
from brainmap.record import unfinished
from brainmap.viz.page.cards import Card, cam_cards, pattern_cards
from brainmap.viz.page.methods import methods_paragraph
from brainmap.viz.page.pictures import Picture, Pictures
from brainmap.viz.page.sheet import SheetRow
from brainmap.viz.page.tables import HeatRow, Table, heat_rows, make_table, of_network
from brainmap.viz.style import layer_colors

__all__ = ["PatternPanel", "RdmPair", "ReportContent", "SheetRow", "methods_paragraph", "write_report"]

_SHOWN = {"clusters": 12, "difference_clusters": 12, "counts": 18}  # rows on the page; the file has all
_PEAKS = ("network", "layer", "hemisphere", "x", "y", "z", "voxels", "vertices", "mean", "statistic", "p_corrected",
          "peak_roi", "rois")  # fmt: skip
_COLUMNS = {  # columns on the page; the file has all
    "bootstrap": ("network", "layer", "roi", "mean", "ci_low", "ci_high", "p_corrected", "below_ceiling"),
    "statistics": ("network", "layer", "time", "roi", "mean", "chance", "standard_error", "statistic", "p_corrected",
                   "p_these_sounds_corrected", "test", "n"),
    "differences": ("network", "layer", "other_network", "other_layer", "roi", "difference", "standard_error",
                    "p_corrected", "p_these_sounds_corrected", "test"),
    "best_layers": ("network", "roi", "layer", "chosen_share", "score", "standard_error", "p", "position",
                    "position_sd", "n"),
    "recovery": ("roi", "planted", "recovered", "score", "ceiling_lower", "ceiling_upper"),  # fits beside the matrix
    "clusters": _PEAKS,
    "difference_clusters": _PEAKS,
}
TEMPLATES = Path(__file__).with_name("templates")


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


@dataclass(frozen=True, kw_only=True)
class _Family:
    """A network with its controls in the section of layers and regions."""

    name: str
    controls: tuple[str, ...]
    layers: list[str]
    colors: dict[str, str]
    planted: bool
    profile: Picture | None
    heat: list[HeatRow]
    rois: list[str]


@dataclass(frozen=True, kw_only=True)
class _View:
    """What the template is given: everything already a picture, a table or text."""

    content: ReportContent
    layers: list[str]
    colors: dict[str, str]
    pictures: dict[str, Picture]
    maps: dict[str, list[Picture]]
    differing: dict[str, list[Picture]]
    highest: int
    pairs: list[tuple[str, Picture]]
    families: list[_Family]
    tables: dict[str, Table]
    panels: list[tuple[PatternPanel, list[Card], Table | None]]
    cams: list[Card]
    sounds_notes: list[str]
    methods: list[Markup]
    provenance: list[tuple[str, Any]]


def write_report(content: ReportContent, path: str | Path, *, figures: str | Path | None = None) -> Path:
    """Write the page, and every figure on it as PNG and SVG beside it.

    Parameters
    ----------
    content : ReportContent
        What to show.
    path : path
        The page; replaced whole when it exists.
    figures : path, optional
        Folder of the figures; `figures/` beside the page by default.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        A table or picture that does not fit what its figure needs.
    RunError
        The page cannot be written there.
    """
    path = Path(path)
    drawn = Pictures(Path(figures) if figures is not None else path.parent / "figures")
    html = _environment().get_template("report.html.j2").render(view=_view(content, drawn))
    beside = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.save()
        with room_for(path.name, path.parent):
            beside.write_text(html, encoding="utf-8")
            beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise RunError(f"report: cannot write {path}: {error.strerror or error}") from error
    return path


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.undefined = jinja2.StrictUndefined
    made.globals["source"] = lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8"))
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    made.globals["script"], made.globals["policy"] = Markup(script), _policy(script)
    made.filters["minus"] = lambda name: name.replace(" - ", " \N{MINUS SIGN} ")
    made.filters["number"] = lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return made


def _policy(script: str) -> str:
    """What a browser lets the page do: run this script and no other, show what it carries in itself, load nothing.

    Colors stand in `style` attributes, which have no hash; a style can load nothing here.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
            "media-src data:; base-uri 'none'; form-action 'none'")


def _view(content: ReportContent, drawn: Pictures) -> _View:
    layers = content.layer_order()
    tables = {
        name: make_table(table, f"{name}.tsv", colors=layer_colors(layers), most=_SHOWN.get(name, 60),
                         columns=_COLUMNS.get(name))
        for name in ("scores", "statistics", "bootstrap", "differences", "ceilings", "residual_structure",
                     "reliability", "best_layers", "recovery", "clusters", "difference_clusters", "counts")
        if (table := getattr(content, name)) is not None and len(table)
    }
    cards = cam_cards(content.sounds, content.cams) if content.cams is not None and content.sounds is not None else []
    return _View(
        content=content,
        layers=layers,
        colors=layer_colors(layers),
        pictures=drawn.overview(content, layers),
        maps=drawn.maps(content, layers),
        differing=drawn.differences(content),
        highest=_highest(content, layers),
        pairs=drawn.pairs(content.rdm_pairs),
        families=[_family(content, drawn, name, controls) for name, controls in content.families().items()],
        tables=tables,
        panels=[(panel, pattern_cards(panel, layer_colors(layers)), _quality(panel)) for panel in content.maximization],
        cams=cards,
        sounds_notes=list(content.sounds_notes),
        methods=[_linked(part) for part in content.methods.split("\n\n") if part.strip()],
        provenance=list(content.provenance.items()),
    )


def _family(content: ReportContent, drawn: Pictures, network: str, controls: tuple[str, ...]) -> _Family:
    """The profile of a network beside its controls and the baselines, and its layers by regions."""
    layers, planted = content.layer_order(network), content.planted(network)
    statistics = None if content.statistics is None else of_network(content.statistics, network)
    rows = heat_rows(statistics, layers, planted) if statistics is not None else []
    return _Family(
        name=network,
        controls=controls,
        layers=layers,
        colors=layer_colors(layers),
        planted=bool(planted),
        profile=drawn.profile(content, network, controls),
        heat=rows,
        rois=list(dict.fromkeys(statistics["roi"])) if statistics is not None else [],
    )


def _highest(content: ReportContent, layers: Sequence[str]) -> int:
    """Which of the maps, in order of depth, has the highest value: the one a reader sees first."""
    tops = [float(np.nanmax(np.asarray(content.maps[name].dataobj))) for name in layers if name in content.maps]
    return int(np.argmax(tops)) if tops else 0


def _quality(panel: PatternPanel) -> Table | None:
    return make_table(panel.quality, f"quality-{panel.layer}.tsv") if panel.quality is not None else None


def _linked(paragraph: str) -> Markup:
    """A paragraph whose DOIs can be followed."""
    words = []
    for word in paragraph.split():
        core = word.removeprefix("(").rstrip(".,;:)")
        if core.startswith("doi:10."):
            before, after = word.split(core, 1)
            link = Markup('<a href="https://doi.org/{0}">doi:{0}</a>').format(core.removeprefix("doi:"))
            words.append(escape(before) + link + escape(after))
        else:
            words.append(escape(word))
    return Markup(" ").join(words)
