"""Colors a reader can trust, and a style that leaves nothing behind."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from brainmap.errors import InputError
from brainmap.viz import style
from brainmap.viz.style import (
    assign_layer_colors,
    convert_from_oklab,
    convert_to_oklab,
    get_colormap,
    render_svg,
    with_style,
)

# Machado, Oliveira and Fernandes 2009 (doi:10.1109/TVCG.2009.113), full severity, in linear light
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def as_seen_by_a_deuteranope(rgb: np.ndarray) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ DEUTERANOPIA.T, 0, 1)
    return np.asarray(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("name", ["score", "dissimilarity", "sound", "signed"])
def test_equal_steps_of_a_colormap_look_equal(name: Any) -> None:
    lab = convert_to_oklab(get_colormap(name)(np.linspace(0, 1, 64))[:, :3])
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    steps = np.delete(steps, 31) if name == "signed" else steps  # the step over the turning point is short
    assert steps.max() < 1.4 * steps.min()


@pytest.mark.parametrize("name", ["score", "dissimilarity", "sound"])
def test_a_sequential_colormap_runs_one_way_in_lightness_also_for_a_deuteranope(name: Any) -> None:
    rgb = get_colormap(name)(np.linspace(0, 1, 64))[:, :3]
    for seen in (rgb, as_seen_by_a_deuteranope(rgb)):
        lightness = np.diff(convert_to_oklab(seen)[:, 0])
        assert (lightness > 0).all() or (lightness < 0).all()


def test_the_signs_of_the_diverging_colormap_differ_for_a_deuteranope() -> None:
    ends = convert_to_oklab(as_seen_by_a_deuteranope(get_colormap("signed")(np.array([0.15, 0.85]))[:, :3]))
    assert np.linalg.norm(ends[0] - ends[1]) > 0.2


def test_zero_is_neutral_on_the_diverging_colormap() -> None:
    lab = convert_to_oklab(get_colormap("signed")(np.linspace(0, 1, 256))[:, :3])
    assert abs(lab[:, 0].argmax() - 127.5) <= 1
    assert np.linalg.norm(lab[127, 1:]) < 0.02 < np.linalg.norm(lab[90, 1:])


def test_oklab_goes_there_and_back() -> None:
    rgb = np.random.default_rng(0).uniform(size=(50, 3))
    np.testing.assert_allclose(convert_from_oklab(convert_to_oklab(rgb)), rgb, atol=1e-5)


def test_deeper_layers_are_lighter_and_names_keep_their_colors() -> None:
    colors = assign_layer_colors([f"conv{i}" for i in range(1, 9)])
    assert (np.diff([convert_to_oklab(np.array(to_rgb(c)))[0] for c in colors.values()]) > 0).all()
    assert assign_layer_colors(["a", "b", "a"]) == assign_layer_colors(["a", "b"])


def test_a_colormap_that_does_not_exist_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match="expected one of 'score', 'dissimilarity', 'sound', 'signed'"):
        get_colormap("scores")


def test_settings_of_matplotlib_come_back_also_after_an_error() -> None:
    before = dict(mpl.rcParams)

    @with_style
    def fails() -> None:
        assert mpl.rcParams["axes.spines.top"] is False
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fails()
    assert dict(mpl.rcParams) == before


def test_the_same_figure_gives_the_same_svg() -> None:
    def draw() -> bytes:
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1], [1, 0])
        return render_svg(figure)

    assert draw() == draw()
    assert b"<text" in draw()  # words stay words


def test_every_figure_that_viz_makes_shows_itself() -> None:
    """A plain Figure would be a line of text in a notebook, and missing from the gallery."""
    folder = Path(style.__file__).parent
    plain = [
        f"{file.relative_to(folder)}:{node.lineno}"
        for file in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Figure", "plt.figure", "plt.subplots")
    ]
    assert plain == []
