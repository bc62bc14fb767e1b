"""Figures of units: sorted as they say, dead units counted, every label where its data is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from brainmap import features, viz
from brainmap.errors import InputError
from brainmap.features.sounds.files import sounds_from_array
from brainmap.features.units.tuning import TuningSettings
from brainmap.viz.features.embedding import assign_styles

RATE = 8000


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(nn.Conv1d(1, 6, 9), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(6, 5, 7), nn.ReLU())
    made[0].weight.data[4] = 0.0
    made[3].bias.data.fill_(0.3)
    return made.eval()


@pytest.fixture(scope="module")
def sounds():
    waves = np.random.default_rng(0).normal(size=(9, 1, 800))
    return sounds_from_array(waves, rate=RATE, conditions=["a", "b", "c"] * 3)


def test_filters_are_drawn_in_their_order_without_the_dead(net, sounds) -> None:
    found = features.layer_filters(net, sounds)
    figure = viz.plot_filters(found)
    heat = figure.axes[0]
    assert heat.images[0].get_array().shape[1] == 5
    dots = heat.lines[0].get_ydata()
    np.testing.assert_allclose(dots, found.table["best_hz"].iloc[found.order[:5]] / 1000)
    assert (np.diff(dots) >= 0).all()
    assert "1 dead" in heat.get_title(loc="left")
    with pytest.raises(InputError, match="nothing to show"):
        viz.plot_filters(features.layer_filters(nn.Sequential(dead(), nn.ReLU()), sounds))


def dead() -> nn.Conv1d:
    conv = nn.Conv1d(1, 2, 3)
    conv.weight.data.zero_()
    return conv


def test_tuning_shows_driven_units_by_best_frequency_and_counts_the_others(net, sounds) -> None:
    settings = TuningSettings(lowest_hz=200, highest_hz=3500, per_step=4, levels_db=(-10.0, 0.0), repeats=1)
    found = features.measure_tuning(net, sounds, settings=settings)
    figure = viz.plot_tuning(found, layers=["0"])
    (image,) = figure.axes[0].images
    shown = np.asarray(image.get_array())
    best = found.frequencies[shown.argmax(axis=0)]
    assert (np.diff(best) >= 0).all()
    assert figure.axes[0].get_title(loc="left") == f"0, {6 - shown.shape[1]} not driven"
    np.testing.assert_allclose(shown.max(axis=0), 1)
    curves = viz.plot_tuning_curves(found, "0", units=[0, 4])
    titles = [axes.get_title(loc="left") for axes in curves.axes[:2]]
    assert titles[1].startswith("4: dead")
    with pytest.raises(InputError, match="units from 0 to 5 of 0, got 6"):
        viz.plot_tuning_curves(found, "0", units=[6])
    with pytest.raises(InputError, match="layer"):
        viz.plot_tuning(found, layers=["7"])


def test_exemplars_have_a_row_a_unit_and_say_when_they_were_heard(net, sounds) -> None:
    found = features.find_exemplars(net, sounds, layer="output", k=3)
    figure = viz.plot_exemplars(found, units=[0, 2])
    table = found.table[found.table["unit"] == 2]
    titles = [axes.get_title(loc="center") for axes in figure.axes]
    assert len(figure.axes) == 2 * 3
    assert [title.split()[0] for title in titles[3:]] == table["condition"].tolist()
    np.testing.assert_allclose([float(title.split()[-1]) for title in titles[3:]], table["value"], rtol=0.01)
    with pytest.raises(InputError, match="was not asked for"):
        viz.plot_exemplars(found, units=[9])


def test_neighbors_of_another_condition_stand_out(sounds) -> None:
    points = np.random.default_rng(1).normal(size=(9, 4))
    found = features.nearest_neighbors(points, sounds, k=2, conditions=sounds.conditions)
    found = SimpleNamespace(**{**found.__dict__, "items": tuple(sounds.items), "table": named(found.table, sounds)})
    figure = viz.plot_neighbors(found, sounds, spaces=["features"], items=[sounds.items[0]])
    panels = figure.axes[1:]
    mine = found.table[(found.table["space"] == "features") & (found.table["item"] == sounds.items[0])]
    assert [axes.get_title(loc="center") for axes in panels[1:]] == mine["neighbor_condition"].tolist()
    warm = [axes.title.get_color() != "#1c2530" for axes in panels[1:]]
    assert len(warm) == len(mine)
    with pytest.raises(InputError, match="'waveform'"):
        viz.plot_neighbors(found, sounds, spaces=["wave"])


def named(table: pd.DataFrame, sounds) -> pd.DataFrame:
    """Items by their ids in place of positions."""
    ids = {str(i): item for i, item in enumerate(sounds.items)}
    return table.assign(item=table["item"].map(ids), neighbor=table["neighbor"].map(ids))


def test_every_condition_has_its_own_color_and_mark() -> None:
    styles = assign_styles([f"w{i}" for i in range(64)])
    assert len(set(styles.values())) == 64
    assert len({color for color, _ in list(styles.values())[:8]}) == 8
    with pytest.raises(InputError, match="expected at most 64 conditions, got 65"):
        assign_styles([f"w{i}" for i in range(65)])


def test_embeddings_say_what_their_axes_are() -> None:
    values = np.random.default_rng(2).normal(size=(24, 6))
    words = ["a", "b", "c", "d"] * 6
    pca = features.embed(values, layer="conv1", conditions=words)
    figure = viz.plot_embedding([pca, pca])
    assert figure.axes[0].get_xlabel().startswith(f"component 1 ({pca.explained[0]:.0%} of variance)")
    points = np.concatenate([np.asarray(c.get_offsets()) for c in figure.axes[0].collections])
    assert len(points) == 24
    tsne = features.embed(values, layer="conv1", method="tsne", perplexity=5, conditions=words)
    assert viz.plot_embedding(tsne).axes[0].get_xlabel().startswith("no units; trustworthiness")
    with pytest.raises(InputError, match="expected two components, got one"):
        viz.plot_embedding(features.embed(values, layer="conv1", n_components=1))
    with pytest.raises(InputError, match="expected at least one embedding"):
        viz.plot_embedding([])


def test_spectra_have_a_column_a_pattern_by_peak() -> None:
    time = np.arange(RATE) / RATE
    tones = np.stack([np.sin(2 * np.pi * f * time) for f in (2000, 250, 900)])[:, None]
    figure = viz.plot_spectra(features.pattern_spectra(tones, rate=RATE, labels=["x", "y", "z"]))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["y", "z", "x"]
    assert (np.diff(figure.axes[0].lines[0].get_ydata()) > 0).all()
