"""The figure of weights by delay."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.viz import plot_delays


def test_each_region_has_a_panel_with_a_line_for_each_layer() -> None:
    rows = [
        (layer, roi, d, w)
        for layer in ("conv1", "conv2")
        for roi in ("A1", "belt")
        for d, w in ((4.0, 0.7), (2.0, 0.3))
    ]
    table = pd.DataFrame(rows, columns=["layer", "roi", "delay", "weight"])
    figure = plot_delays(table, layers=["conv2", "conv1"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["A1", "belt"]
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["conv1"].get_xdata()) == [2.0, 4.0]
    np.testing.assert_allclose(lines["conv1"].get_ydata(), [0.3, 0.7])
    assert any(np.allclose(line.get_ydata(), 0.5) for line in figure.axes[0].get_lines())  # all delays alike
    with pytest.raises(InputError, match="expected the rows of one network"):
        plot_delays(table.assign(network=["a", "b"] * 4))
