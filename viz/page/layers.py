"""Draw how well the layers of each network match each region: profiles, tables, and how alike the layers are.

Draw the section of encoding models: profiles of layers, tables, and RSA beside encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import ReportContent
from brainmap.viz.page.pictures import Picture, Pictures
from brainmap.viz.page.tables import (
    HeatRow,
    arrange_heat_rows,
    arrange_reference_rows,
    select_network_rows,
)
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
