from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from torch import nn

from brainmap.errors import InputError
from brainmap.features.attribution.methods import attribute
from brainmap.features.attribution.results import Attributions
from brainmap.features.sounds.files import Sounds, sounds_from_array
from brainmap.viz.features.attribution import plot_attribution, plot_occlusion
from brainmap.viz.style import render_png

RATE = 8000
WORDS = ("yes", "no")


@pytest.fixture
def net() -> nn.Module:
    """Hears a 1 kHz tone between 100 and 150 ms as a yes."""
    time = np.arange(2000) / RATE
    template = np.sin(2 * np.pi * 1000 * time) * ((time >= 0.1) & (time < 0.15))
    net = nn.Sequential(nn.Flatten(), nn.Linear(2000, 2, bias=False))
    with torch.no_grad():
        net.get_parameter("1.weight").copy_(torch.as_tensor(np.stack([template, -template]), dtype=torch.float32))
    return net


@pytest.fixture
def sounds() -> Sounds:
    tone = np.sin(2 * np.pi * 1000 * np.arange(2000) / RATE)
    return sounds_from_array(np.stack([tone, -tone])[:, None], rate=RATE, items=["a", "b"], conditions=WORDS)


def by(net: nn.Module, sounds: Sounds, method: str, **given: object) -> Attributions:
    return attribute(net, sounds, method=method, classes="all", class_names=WORDS, **given)


def test_attributions_are_drawn_a_column_a_sound_and_a_row_a_method(net: nn.Module, sounds: Sounds) -> None:
    results = [by(net, sounds, "saliency"), by(net, sounds, "occlusion", window_ms=25)]
    figure = plot_attribution(sounds, results, title="two methods")
    grid = np.reshape(figure.axes, (4, 2))
    assert [axes.get_title(loc="left") or axes.get_title() for axes in grid[0]] == list(WORDS)
    assert [axes.get_ylabel() for axes in grid[2:, 0]] == ["saliency", "occlusion"]
    assert grid[2, 0].get_ylim()[0] > -0.1 * grid[2, 0].get_ylim()[1]  # a map without sign needs no lower half
    assert grid[3, 0].get_ylim() == grid[3, 1].get_ylim()
    assert render_png(figure, dpi=50).startswith(b"\x89PNG")


def test_a_sound_without_a_map_of_its_class_says_whose_map_it_is(net: nn.Module, sounds: Sounds) -> None:
    found = attribute(net, sounds, method="saliency", classes=["yes"], class_names=WORDS)
    axes = plot_attribution(sounds, [found], items=[1]).axes[0]
    assert (axes.get_title(loc="left") or axes.get_title()) == "no, map of “yes”"


def test_the_occlusion_map_is_darkest_where_the_logit_comes_from(net: nn.Module, sounds: Sounds) -> None:
    found = by(net, sounds, "occlusion", window_ms=25, step_ms=25, bands=[0, 500, 1500, 4000])
    figure = plot_occlusion(sounds, found, items=[0])
    (mesh,) = (c for axes in figure.axes for c in axes.collections if isinstance(c, QuadMesh) and axes.get_xlabel())
    values = np.asarray(mesh.get_array()).reshape(3, -1)
    time = (np.arange(values.shape[1]) + 0.5) / values.shape[1] * 0.25
    assert values.argmax() // values.shape[1] == 1
    loud = values[1] > values.max() / 2
    assert time[loud].min() > 0.09
    assert time[loud].max() < 0.16
    assert any("logit lost" in axes.get_ylabel() for axes in figure.axes)
    assert render_png(figure, dpi=50).startswith(b"\x89PNG")


def test_mistakes_get_one_line(net: nn.Module, sounds: Sounds) -> None:
    found = by(net, sounds, "saliency")
    with pytest.raises(InputError, match="expected attributions with bands"):
        plot_occlusion(sounds, found)
    with pytest.raises(InputError, match="expected attributions of waveforms"):
        plot_attribution(sounds, [])
    with pytest.raises(InputError, match="expected attributions of waveforms"):
        plot_attribution(sounds, [SimpleNamespace(maps=np.zeros((1, 1, 1, 4, 4)))])
    with pytest.raises(InputError, match="expected items from 0 to 1, got \\[2\\]"):
        plot_attribution(sounds, [found], items=[2])
    others = sounds_from_array(sounds.waveforms, rate=RATE, items=["c", "d"])
    with pytest.raises(InputError, match="saliency has no maps of 'c'; it has 'a', 'b'"):
        plot_attribution(others, [found])
