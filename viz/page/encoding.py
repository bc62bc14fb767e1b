"""Draw the section of encoding models: profiles of layers, tables, and RSA beside encoding."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import EncodingContent, ReportContent
from brainmap.viz.page.layers import Family
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
from brainmap.viz.style import assign_layer_colors

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
class EncodingView:
    """Hold the pictures and tables of the section."""

    families: list[Family]
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
    acoustic = not networks | set(own.speech) >= set(own.scores["network"])
    return EncodingView(families=found, tables=tables, acoustic=acoustic)


def _draw_encoded_family(
    content: ReportContent, own: EncodingContent, drawn: Pictures, network: str, controls: tuple[str, ...]
) -> Family:
    """Draw the profile of a network beside its controls and the best baseline, and RSA beside encoding."""
    layers = [str(layer) for layer in dict.fromkeys(select_network_rows(own.scores, network)["layer"])]
    statistics, planted = select_network_rows(own.statistics, network), content.find_planted(network)
    networks = {name for main, its in content.list_families().items() for name in (main, *its)}
    known = networks | set(own.speech)
    baselines = [str(name) for name in dict.fromkeys(own.scores["network"]) if name not in known]
    rois = [str(roi) for roi in dict.fromkeys(statistics["roi"])]
    shown = select_network_rows(own.scores, network, (*controls, *baselines, *own.speech))
    plot = partial(
        plot_layer_profile,
        shown,
        own.ceilings if own.targets == "roi" else None,
        statistics=statistics,
        planted=planted,
        layers=layers,
        measure="r",
        controls=controls,
        baselines=baselines,
        ceiling="ceiling between participants",
    )
    words = f"r of encoding models of {network}, a panel a region. {_describe_peaks(statistics)}"
    profile = drawn.add(f"encoding-{network}", plot, words, data=shown)
    return Family(
        name=network,
        controls=controls,
        layers=layers,
        planted=bool(planted),
        profile=profile,
        heat=arrange_heat_rows(statistics, layers, planted),
        references=_arrange_references(own, network, controls, networks, rois),
        rois=rois,
        agreement=_draw_agreement(own, drawn, network, layers),
        delays=_draw_delays(own, drawn, network, layers),
    )


def _arrange_references(
    own: EncodingContent, network: str, controls: tuple[str, ...], networks: Set[str], rois: list[str]
) -> list[HeatRow]:
    """Arrange the highest r of each control and of the acoustic models, and that of each feature of speech."""
    table = own.statistics
    if "network" not in table:
        return []
    of_speech = table["layer"].isin(own.speech) & ~table["network"].isin(networks)
    table = table.assign(network=table["layer"].where(of_speech, table["network"]))
    names = {control: control.removeprefix(f"{network}-") for control in controls}
    names |= {name: "acoustic" for name in dict.fromkeys(table["network"]) if name not in {*networks, *own.speech}}
    return arrange_reference_rows(table, names | {name: name for name in own.speech}, rois)


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
    both = pd.merge(  # in the order of regions and layers that other figures have
        select_network_rows(own.statistics, network)[["layer", "roi", "mean"]],
        select_network_rows(own.similarity, network),
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
