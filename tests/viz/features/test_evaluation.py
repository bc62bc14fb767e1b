from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.features.evaluation.faithfulness import Curves
from brainmap.features.evaluation.localization import COLUMNS
from brainmap.features.evaluation.randomization import Randomization
from brainmap.features.sounds.files import sounds_from_array
from brainmap.viz.features.evaluation import plot_deletion, plot_localization, plot_randomization


def curves(order: str, score: str = "probability") -> Curves:
    falling = np.tile(np.linspace(1, 0, 5, dtype=np.float32), (3, 1, 1))
    one, chance = (falling**2, falling) if order == "deletion" else (1 - falling**2, 1 - falling)
    return Curves(
        scores=one,
        random=chance,
        fractions=np.linspace(0, 1, 5),
        targets=np.zeros((3, 1), np.intp),
        items=("a", "b", "c"),
        conditions=("a", "b", "c"),
        class_names=("x",),
        order=order,
        fill="zeros",
        score=score,
    )


def test_curves_are_drawn_as_means_with_their_areas() -> None:
    figure = plot_deletion({"cam": [curves("deletion"), curves("insertion")]})
    assert [axes.get_title(loc="left").split()[0] for axes in figure.axes] == ["Deletion", "Insertion"]
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    area = curves("deletion").auc.mean()
    np.testing.assert_allclose(lines[f"cam  {area:.2f}"], np.linspace(1, 0, 5) ** 2, atol=1e-6)
    np.testing.assert_allclose(lines["random order  0.50"], np.linspace(1, 0, 5), atol=1e-6)
    assert len(plot_deletion({"cam": curves("deletion")}).axes) == 1
    with pytest.raises(InputError, match="expected curves of one score and fill"):
        plot_deletion({"a": curves("deletion"), "b": curves("deletion", "logit")})
    with pytest.raises(InputError, match="methods, got 0"):
        plot_deletion({})


def randomized(method: str, layers: tuple[str, ...] = ("output", "conv1")) -> Randomization:
    return Randomization(
        layers=layers, correlations=np.array([[0.5, 0.7], [0.1, -0.1]])[: len(layers)], method=method, items=("a", "b")
    )


def test_randomization_begins_at_one_with_the_trained_network() -> None:
    figure = plot_randomization([randomized("cam"), randomized("saliency")], title="Sanity")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["trained", "output", "conv1"]
    (line,) = [line for line in axes.lines if line.get_label() == "cam"]
    np.testing.assert_allclose(line.get_ydata(), [1, 0.6, 0], atol=1e-12)
    with pytest.raises(InputError, match="got different ones"):
        plot_randomization([randomized("cam"), randomized("saliency", ("output",))])


def test_localization_shows_the_error_of_each_method() -> None:
    sounds = sounds_from_array(np.random.default_rng(0).standard_normal((2, 1, 100)), rate=100, items=["a", "b"])
    rows: list[dict[str, Any]] = []
    for network, method, hits in (("gap", "cam", (True, False)), ("none", "whole", (True, True))):
        rows += [
            dict.fromkeys(COLUMNS, 0.1)
            | {"network": network, "method": method, "stimulus_id": item, "hit": hit, "end_s": 0.5, "found_end_s": 0.6}
            for item, hit in zip("ab", hits, strict=True)
        ]
    figure = plot_localization(sounds, pd.DataFrame(rows), items=[0, 1])
    errors = figure.axes[-2]
    assert [bar.get_width() for bar in errors.patches] == [50, 0]
    assert [t.get_text() for t in errors.get_yticklabels()] == ["gap  cam", "whole"]
    with pytest.raises(InputError, match="no rows of 'b'"):
        plot_localization(sounds, pd.DataFrame(rows).query("stimulus_id == 'a'"), items=[1])
