"""Draw how well the layers of each network match each region: profiles, tables, and how alike the layers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
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
    """Hold a network with its controls, in the section of layers and regions or in that of encoding models.

    `references` and `correlations` of layers are in the first, `agreement` with RSA and weights of `delays` in the
    second.
    """

    name: str
    controls: tuple[str, ...]
    layers: list[str]
    planted: bool
    profile: Picture | None
    heat: list[HeatRow]
    rois: list[str]
    references: Sequence[HeatRow] = ()
    correlations: Picture | None = None
    agreement: Picture | None = None
    delays: Picture | None = None

    @property
    def colors(self) -> dict[str, str]:
        """Return the color of each layer."""
        return assign_layer_colors(self.layers)


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
            names |= {content.hypotheses: "hypothesis"} if content.hypotheses else {}
            references = arrange_reference_rows(content.statistics, names, rois)
    correlations = None
    if network in content.layer_correlations:
        found = content.layer_correlations[network]
        plot = partial(plot_correlation_matrix, found, marked=sorted(set(planted.values())))
        alike = _describe_likeness(found.to_numpy(dtype=float))
        words = f"Correlations of the RDMs of layers of {network}, {alike}"
        numbers = found.rename_axis("layer").reset_index()
        correlations = drawn.add(f"layer-correlations{ending}", plot, words, data=numbers)
    return Family(
        name=network,
        controls=controls,
        layers=layers,
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
    known = {name for main, its in families.items() for name in (main, *its)} | {*content.baselines, content.hypotheses}
    others = [str(name) for name in dict.fromkeys(scores["network"]) if name not in known] if several else []
    plot = partial(
        plot_layer_profile,
        select_network_rows(scores, network, (*controls, *others, *content.baselines, content.hypotheses)),
        content.ceilings,
        statistics=None if content.statistics is None else select_network_rows(content.statistics, network),
        planted=content.find_planted(network),
        layers=content.order_layers(network),
        measure=content.measure,
        controls=controls,
        baselines=content.baselines if several else (),
        hypotheses=content.hypotheses,
        rivals=content.rivals.get(network),
    )
    of = f" of {network}" if network else ""
    peaks = _list_peaks(select_network_rows(scores, network))
    words = f"{content.measure} of the layers{of}, a panel a region. The mean is highest for {peaks}"
    shown = select_network_rows(scores, network, (*controls, *content.baselines, content.hypotheses))
    return drawn.add(f"layer-profile{ending}", plot, words, data=shown)


def draw_hypotheses(content: ReportContent, drawn: Pictures) -> Family | None:
    """Draw the scores of all hypotheses, and their table beside the best layers of networks; None where there are none.

    Hypotheses take the place of layers, in no order of depth.
    """
    name, scores, statistics = content.hypotheses, content.scores, content.statistics
    if not name or scores is None or name not in set(scores["network"]):
        return None
    mine = select_network_rows(scores, name)
    names = content.order_layers(name)
    tested = None if statistics is None else select_network_rows(statistics, name)
    plot = partial(
        plot_layer_profile,
        mine,
        content.ceilings,
        statistics=tested,
        layers=names,
        measure=content.measure,
        joined=False,
    )
    words = f"{content.measure} of the hypotheses, a panel a region. The mean is highest for {_list_peaks(mine)}"
    rois = [str(roi) for roi in dict.fromkeys(mine["roi"])]
    beside = {one: f"{one}, best layer" for one in content.list_families() if one}
    beside |= dict.fromkeys(content.baselines, "acoustic")
    return Family(
        name=name,
        controls=(),
        layers=names,
        planted=False,
        profile=drawn.add("hypotheses", plot, words, data=mine),
        heat=[] if tested is None else arrange_heat_rows(tested, names, {}),
        references=[] if statistics is None else arrange_reference_rows(statistics, beside, rois),
        rois=rois,
    )


def _list_peaks(scores: pd.DataFrame) -> str:
    """List the layer in which each region's mean over participants is highest."""
    mean = scores.groupby(["roi", "layer"], sort=False, observed=True)["score"].mean().dropna()
    peaks = mean.groupby(level="roi", sort=False).idxmax()
    return ", ".join(f"{layer} in {roi} ({format_decimals(float(mean[(roi, layer)]))})" for roi, layer in peaks)


def _describe_likeness(alike: NDArray[np.float64]) -> str:
    """Say between which values the correlations of different layers lie."""
    others = alike[~np.eye(len(alike), dtype=bool)]
    return f"{format_decimals(float(np.nanmin(others)))} to {format_decimals(float(np.nanmax(others)))}"
