"""Profiles and tables show the means, errors and stars of the tables they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from brainmap.errors import InputError
from brainmap.viz import plot_layer_profile, plot_layer_roi_table
from brainmap.viz.page.tables import arrange_heat_rows, arrange_reference_rows, make_table

LAYERS = ["conv1", "conv2", "conv10"]
SCORES = pd.DataFrame(
    [
        {"network": network, "layer": layer, "roi": roi, "participant": p, "score": base + 0.1 * i + 0.01 * p}
        for network, base in (("trained", 0.1), ("untrained", 0.0))
        for roi in ("A1", "control")
        for i, layer in enumerate(LAYERS)
        for p in range(4)
    ]
)
STATISTICS = pd.DataFrame(
    [
        {
            "network": network,
            "layer": layer,
            "roi": roi,
            "mean": 0.1 * i,
            "standard_error": 0.01,
            "p": 0.01,
            "p_corrected": p,
        }
        for network in ("trained", "untrained")
        for roi, ps in (("A1", (0.2, 0.01, 0.02)), ("control", (0.3, 0.4, 0.5)))
        for i, (layer, p) in enumerate(zip(LAYERS, ps, strict=True))
    ]
)


def words(axes: Any) -> Any:
    return [t.get_text() for t in axes.texts]


def names(figure: Any) -> Any:
    """The names in the legend, none where there is no legend."""
    return [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def test_points_are_the_means_of_the_first_network_in_order_of_depth() -> None:
    figure = plot_layer_profile(SCORES, layers=LAYERS)
    axes = figure.axes[0]
    expected = [0.115, 0.215, 0.315]
    curve = next(line for line in axes.lines if np.size(line.get_xdata()) == 3 and line.get_linestyle() == "-")
    np.testing.assert_allclose(np.asarray(curve.get_ydata(), dtype=float), expected)
    assert [t.get_text() for t in axes.get_xticklabels()] == LAYERS
    assert names(figure) == ["untrained"]


def test_stars_stand_where_corrected_p_is_below_the_level() -> None:
    figure = plot_layer_profile(SCORES, statistics=STATISTICS)
    assert [words(axes).count("*") for axes in figure.axes] == [2, 0]


def test_the_best_layer_and_those_not_told_apart_are_marked_in_place_of_stars() -> None:
    rivals = {"A1": ["conv10", "conv2"]}
    figure = plot_layer_profile(SCORES, statistics=STATISTICS, rivals=rivals)
    first, second = figure.axes
    marks = [line for line in first.lines if line.get_marker() == "v"]
    assert [np.asarray(line.get_xdata()).tolist() for line in marks] == [[2]]
    bars = [np.mean(np.asarray(line.get_xdata(), dtype=float)) for line in first.lines if line.get_linewidth() == 1.8]
    assert bars == [1.0]
    assert names(figure) == ["untrained", "best layer", "not told apart from it"]
    assert not [line for line in second.lines if line.get_marker() == "v"], "nothing is significant there"
    assert "*" not in words(first)
    trained = STATISTICS[STATISTICS["network"] == "trained"]
    cells = {row.layer: row.cells[0] for row in arrange_heat_rows(trained, LAYERS, {}, rivals=rivals)}
    assert [(cells[layer].best, cells[layer].rival) for layer in LAYERS] == [
        (False, False),
        (False, True),
        (True, False),
    ]


def test_acoustic_models_are_a_band_from_the_lowest_to_the_highest_mean() -> None:
    models = pd.DataFrame(
        [
            {"network": "sounds", "layer": layer, "roi": "A1", "participant": p, "score": base + 0.01 * p}
            for layer, base in (("mfcc", 0.05), ("envelope", 0.15))
            for p in range(4)
        ]
    )
    both = pd.concat([SCORES, models])
    figure = plot_layer_profile(both, baselines=["sounds"])
    axes = figure.axes[0]
    spans = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(round(p.get_y(), 6), round(p.get_height(), 6)) for p in spans] == [(0.065, 0.1)]
    assert names(figure) == ["acoustic models", "untrained"]
    one = plot_layer_profile(both[both["layer"] != "envelope"], baselines=["sounds"])
    (band,) = (patch for patch in one.axes[0].patches if isinstance(patch, Rectangle))
    error = np.std([0.0, 0.01, 0.02, 0.03], ddof=1) / 2
    assert (band.get_y(), band.get_height()) == pytest.approx((0.065 - error, 2 * error))
    assert "mfcc" in names(one)


def test_controls_and_acoustic_models_have_rows_of_their_highest_means() -> None:
    rows = arrange_reference_rows(STATISTICS, {"untrained": "untrained"}, ["A1", "control", "belt"])
    assert [row.layer for row in rows] == ["untrained"]
    assert [cell.text for cell in rows[0].cells] == [".20", ".20", "–"]
    assert rows[0].cells[0].hint == "conv10: .200"


def test_band_and_planted_layer_are_drawn_and_named_once() -> None:
    ceilings = pd.DataFrame({"roi": ["A1", "control"], "lower": [0.3, -0.1], "upper": [0.5, 0.2]})
    figure = plot_layer_profile(SCORES, ceilings, planted={"A1": "conv2"})
    assert names(figure) == ["noise ceiling", "planted", "untrained"]
    assert figure.axes[0].get_ylim()[1] > 0.5


def test_the_legend_lies_above_the_panels_and_within_the_figure() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    ceilings = pd.DataFrame({"roi": ["A1", "control"], "lower": [0.3, -0.1], "upper": [0.5, 0.2]})
    for scores in (SCORES, SCORES[SCORES["roi"] == "A1"]):  # two panels, and a narrow figure of one
        figure = plot_layer_profile(scores, ceilings, planted={"A1": "conv2"}, rivals={"A1": ["conv10", "conv2"]})
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (legend,) = figure.legends
        box, whole = legend.get_window_extent(), figure.bbox
        assert whole.x0 <= box.x0, "it begins within the figure"
        assert box.x1 <= whole.x1, "and ends within it"
        titles = [axes.title.get_window_extent() for axes in figure.axes]
        titles += [axes._left_title.get_window_extent() for axes in figure.axes if hasattr(axes, "_left_title")]
        assert box.y0 >= max(title.y1 for title in titles) - 1, "titles lie below it"


def test_the_table_frames_the_best_layer_only_where_some_layer_is_significant() -> None:
    trained = STATISTICS[STATISTICS["network"] == "trained"]
    figure = plot_layer_roi_table(trained, layers=LAYERS, planted={"A1": "conv1"})
    frames = [p.get_xy() for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_width() == 1]
    assert frames == [(-0.5, 1.5)]
    assert ".20*" in words(figure.axes[0])
    cells = {row.layer: row.cells for row in arrange_heat_rows(trained, LAYERS, {"A1": "conv1"})}
    assert [cells[layer][0].best for layer in LAYERS] == [False, False, True]
    assert cells["conv1"][0].planted
    assert not any(cell.best or cell.starred for cell in (row[1] for row in cells.values()))


def test_the_download_keeps_every_digit_and_every_row() -> None:
    import base64

    table = pd.DataFrame({"layer": ["conv1"] * 100, "score": np.linspace(0, 1 / 3, 100)})
    made = make_table(table, "scores.tsv", most=10)
    text = base64.b64decode(made.download.split(",")[1]).decode().splitlines()
    assert len(text) == 101
    assert float(text[-1].split("\t")[1]) == 1 / 3
    assert len(made.rows) == 10


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InputError, match=r"; \['participant'\] is missing"):
        plot_layer_profile(SCORES.drop(columns="participant"))


def test_a_table_of_several_networks_is_never_drawn_for_the_first_one_alone() -> None:
    for draw in (plot_layer_roi_table, lambda table: arrange_heat_rows(table, LAYERS, {})):
        with pytest.raises(InputError, match="expected the rows of one network, got those of 'trained', 'untrained'"):
            draw(STATISTICS)


def test_a_control_is_gray_and_a_network_with_other_layers_is_refused() -> None:
    drawn = {
        name: plot_layer_profile(SCORES, controls=names).axes[0]
        for name, names in (("control", ["untrained"]), ("network", []))
    }
    colors = {
        name: {line.get_color() for line in axes.lines if line.get_linestyle() == "--"} for name, axes in drawn.items()
    }
    assert colors["control"] != colors["network"]
    other = SCORES.replace({"network": {"untrained": "vgg"}, "layer": {}}).copy()
    other.loc[other["network"] == "vgg", "layer"] = "stage " + other["layer"]
    with pytest.raises(InputError, match="vgg that the first network has too, got 'stage conv1'"):
        plot_layer_profile(other)
