"""Draw how well the layers of each network match each region: profiles, tables, and how alike the layers are.

Draw the section of encoding models: profiles of layers, tables, and RSA beside encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import EncodingContent, ReportContent
from brainmap.viz.page.pictures import Picture, Pictures
from brainmap.viz.page.tables import (
    HeatRow,
    Table,
    arrange_heat_rows,
    arrange_reference_rows,
    make_table,
    select_network_rows,
)
from brainmap.viz.rsa.encoding import plot_delays, plot_score_agreement
from brainmap.viz.rsa.profiles import plot_layer_profile
from brainmap.viz.rsa.rdms import plot_correlation_matrix
from brainmap.viz.style import assign_layer_colors


@dataclass(frozen=True, kw_only=True)
class Family:
    """Hold a network with its controls in the section of layers and regions."""

    name: str
    controls: tuple[str, ...]
    layers: list[str]
    colors: dict[str, str]
    planted: bool
    profile: Picture | None
    heat: list[HeatRow]
    references: list[HeatRow]
    rois: list[str]
    correlations: Picture | None


def draw_families(content: ReportContent, drawn: Pictures) -> list[Family]:
    """Draw every network of the page, the explained one first."""
    families = content.list_families()
    main = next(iter(families))
    return [
        _draw_family(content, drawn, name, controls, "" if name == main else f"-{name}")
        for name, controls in families.items()
    ]


def _draw_family(
    content: ReportContent, drawn: Pictures, network: str, controls: tuple[str, ...], ending: str
) -> Family:
    """Draw the profile of a network beside its controls and baselines, and its table of layers by regions."""
    layers, planted = content.order_layers(network), content.find_planted(network)
    rivals = content.rivals.get(network)
    heat: list[HeatRow] = []
    references: list[HeatRow] = []
    rois: list[str] = []
    if content.statistics is not None:
        mine = select_network_rows(content.statistics, network)
        rois = [str(roi) for roi in dict.fromkeys(mine["roi"])]
        heat = arrange_heat_rows(mine, layers, planted, rivals=rivals)
        if "network" in content.statistics:
            names = {control: control.removeprefix(f"{network}-") for control in controls}
            names |= dict.fromkeys(content.baselines, "acoustic")
            references = arrange_reference_rows(content.statistics, names, rois)
    correlations = None
    if network in content.layer_correlations:
        marked = sorted(set(planted.values()))
        plot = partial(plot_correlation_matrix, content.layer_correlations[network], marked=marked)
        words = _describe_likeness(content.layer_correlations[network].to_numpy(dtype=float))
        words = f"Correlations of the RDMs of layers of {network}, {words}"
        numbers = content.layer_correlations[network].rename_axis("layer").reset_index()
        correlations = drawn.add(f"layer-correlations{ending}", plot, words, data=numbers)
    return Family(
        name=network,
        controls=controls,
        layers=layers,
        colors=assign_layer_colors(layers),
        planted=bool(planted),
        profile=_draw_profile(content, drawn, network, controls, ending),
        heat=heat,
        references=references,
        rois=rois,
        correlations=correlations,
    )


def _draw_profile(
    content: ReportContent, drawn: Pictures, network: str, controls: tuple[str, ...], ending: str
) -> Picture | None:
    """Draw the profile of a network; networks that are neither its controls nor baselines are drawn on their own."""
    scores = content.scores
    if scores is None or not len(scores):
        return None
    several = "network" in scores
    families = content.list_families()
    known = {name for main, its in families.items() for name in (main, *its)} | set(content.baselines)
    others = [str(name) for name in dict.fromkeys(scores["network"]) if name not in known] if several else []
    plot = partial(
        plot_layer_profile,
        select_network_rows(scores, network, (*controls, *others, *content.baselines)),
        content.ceilings,
        statistics=None if content.statistics is None else select_network_rows(content.statistics, network),
        planted=content.find_planted(network),
        layers=content.order_layers(network),
        measure=content.measure,
        controls=controls,
        baselines=content.baselines if several else (),
        rivals=content.rivals.get(network),
    )
    words = _describe_profile(content, network)
    shown = select_network_rows(scores, network, (*controls, *content.baselines))
    return drawn.add(f"layer-profile{ending}", plot, words, data=shown)


def _describe_profile(content: ReportContent, network: str) -> str:
    """Say in which layer each region's profile peaks."""
    scores = content.scores
    assert scores is not None
    mean = select_network_rows(scores, network).groupby(["roi", "layer"], sort=False, observed=True)["score"].mean()
    peaks = [
        f"{layer} in {roi} ({format_decimals(float(mean[(roi, layer)]))})"
        for roi, layer in mean.dropna().groupby(level="roi", sort=False).idxmax()
    ]
    of = f" of {network}" if network else ""
    return f"{content.measure} of the layers{of}, a panel a region. The mean is highest for {', '.join(peaks)}"


def _describe_likeness(alike: NDArray[np.float64]) -> str:
    """Say between which values the correlations of different layers lie."""
    others = alike[~np.eye(len(alike), dtype=bool)]
    return f"{format_decimals(float(np.nanmin(others)))} to {format_decimals(float(np.nanmax(others)))}"


_ENCODING_COLUMNS = {  # columns on the page; the file has all columns
    "statistics": (
        "network",
        "layer",
        "roi",
        "mean",
        "standard_error",
        "r_corrected",
        "n_corrected",
        "reliability",
        "explainable_variance",
        "dimensionality",
        "p_corrected",
        "p_these_sounds_corrected",
        "n",
    ),
    "best_layers": (
        "network",
        "roi",
        "layer",
        "participants_share",
        "r",
        "standard_error",
        "position",
        "position_standard_error",
        "n",
    ),
    "positions": (
        "network",
        "roi",
        "other_roi",
        "position",
        "other_position",
        "difference",
        "p_corrected",
        "p_sounds_corrected",
        "p_regions",
        "p_hemispheres",
        "n",
    ),
    "networks": (
        "network",
        "other_network",
        "roi",
        "r",
        "other_r",
        "difference",
        "p_corrected",
        "p_these_sounds_corrected",
        "n",
    ),
    "differences": (
        "network",
        "layer",
        "other_network",
        "other_layer",
        "roi",
        "difference",
        "standard_error",
        "p_corrected",
        "p_these_sounds_corrected",
        "n",
    ),
    "ceilings": ("roi", "lower", "upper", "n"),
    "delays": ("network", "layer", "roi", "delay", "weight", "standard_error"),
    "bands": ("band", "roi", "joint", "p_joint_corrected", "unique", "standard_error", "product", "preferred", "n"),
    "segments": (
        "network",
        "layer",
        "roi",
        "mean",
        "standard_error",
        "p_corrected",
        "p_these_sounds_corrected",
        "n",
    ),
    "agreement": ("network", "roi", "layers", "rho", "standard_error", "p_corrected", "n"),
}


@dataclass(frozen=True, kw_only=True)
class EncodedFamily:
    """Hold a network with its controls in the section of encoding models."""

    name: str
    controls: tuple[str, ...]
    colors: dict[str, str]
    planted: bool
    profile: Picture
    heat: list[HeatRow]
    rois: list[str]
    agreement: Picture | None
    delays: Picture | None


@dataclass(frozen=True, kw_only=True)
class EncodingView:
    """Hold the pictures and tables of the section."""

    families: list[EncodedFamily]
    tables: dict[str, Table]
    acoustic: bool


def draw_encoding(content: ReportContent, drawn: Pictures) -> EncodingView | None:
    """Draw the section of encoding models; None where the study has none."""
    own = content.encoding
    if own is None:
        return None
    families = content.list_families()
    colors = assign_layer_colors(content.order_layers())
    tables = {
        name: make_table(table, f"encoding_{name}.tsv", colors=colors, columns=_ENCODING_COLUMNS[name])
        for name in _ENCODING_COLUMNS
        if (table := getattr(own, name)) is not None and len(table)
    }
    found = [_draw_encoded_family(content, own, drawn, name, controls) for name, controls in families.items()]
    networks = {name for main, its in families.items() for name in (main, *its)}
    return EncodingView(families=found, tables=tables, acoustic=not networks >= set(own.scores["network"]))


def _draw_encoded_family(
    content: ReportContent, own: EncodingContent, drawn: Pictures, network: str, controls: tuple[str, ...]
) -> EncodedFamily:
    """Draw the profile of a network beside its controls and the best baseline, and RSA beside encoding."""
    networks = {name for main, its in content.list_families().items() for name in (main, *its)}
    baselines = [str(name) for name in dict.fromkeys(own.scores["network"]) if name not in networks]
    layers = [str(layer) for layer in dict.fromkeys(select_network_rows(own.scores, network)["layer"])]
    statistics, planted = select_network_rows(own.statistics, network), content.find_planted(network)
    plot = partial(
        plot_layer_profile,
        select_network_rows(own.scores, network, (*controls, *baselines)),
        own.ceilings if own.targets == "roi" else None,
        statistics=statistics,
        planted=planted,
        layers=layers,
        measure="r",
        controls=controls,
        baselines=baselines,
        ceiling="ceiling between participants",
    )
    shown = select_network_rows(own.scores, network, (*controls, *baselines))
    words = f"r of encoding models of {network}, a panel a region. {_describe_peaks(statistics)}"
    profile = drawn.add(f"encoding-{network}", plot, words, data=shown)
    return EncodedFamily(
        name=network,
        controls=controls,
        colors=assign_layer_colors(layers),
        planted=bool(planted),
        profile=profile,
        heat=arrange_heat_rows(statistics, layers, planted),
        rois=[str(roi) for roi in dict.fromkeys(statistics["roi"])],
        agreement=_draw_agreement(own, drawn, network, layers),
        delays=_draw_delays(own, drawn, network, layers),
    )


def _draw_delays(own: EncodingContent, drawn: Pictures, network: str, layers: list[str]) -> Picture | None:
    """Draw the weights of a network by delay; None where items are sounds."""
    if own.delays is None:
        return None
    mine = select_network_rows(own.delays, network)
    plot = partial(plot_delays, mine, layers=layers)
    mean = mine.groupby(["roi", "delay"], sort=False)["weight"].mean()
    peaks = [f"{delay:g} s in {roi}" for roi, delay in mean.dropna().groupby(level="roi", sort=False).idxmax()]
    words = f"Weights of {network} by delay; the mean over layers is highest at {', '.join(peaks)}"
    return drawn.add(f"delays-{network}", plot, words, data=mine)


def _draw_agreement(own: EncodingContent, drawn: Pictures, network: str, layers: list[str]) -> Picture | None:
    """Draw the r of each layer against its RSA score; None where no region has both."""
    both = pd.merge(
        select_network_rows(own.similarity, network),
        select_network_rows(own.statistics, network)[["layer", "roi", "mean"]],
        on=["layer", "roi"],
    )
    if not len(both):
        return None
    rho = {}
    if own.agreement is not None:
        mine = select_network_rows(own.agreement, network)
        rho = dict(zip(mine["roi"].astype(str), mine["rho"].astype(float), strict=True))
    plot = partial(
        plot_score_agreement,
        both,
        names={"score": f"RSA ({own.measure})", "mean": "encoding (r)"},
        rho=rho,
        layers=layers,
    )
    agrees = [f"{format_decimals(value)} in {roi}" for roi, value in rho.items() if np.isfinite(value)]
    words = f"RSA beside encoding models of {network}, a point a layer"
    words += f"; rank correlation over layers {', '.join(agrees)}" if agrees else ""
    return drawn.add(f"rsa-beside-encoding-{network}", plot, words, data=both)


def _describe_peaks(statistics: pd.DataFrame) -> str:
    """Say in which layer each region's profile peaks."""
    best = statistics.dropna(subset="mean").sort_values("mean", ascending=False, kind="stable")
    best = best.drop_duplicates("roi").sort_index()
    columns = zip(best["layer"], best["roi"], best["mean"].astype(float), strict=True)
    peaks = [f"{layer} in {roi} ({format_decimals(mean)})" for layer, roi, mean in columns]
    return f"The mean is highest for {', '.join(peaks)}" if peaks else "No score is known"
