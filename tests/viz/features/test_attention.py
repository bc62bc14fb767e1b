"""Attention as pictures: what is drawn is what was computed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from brainmap import viz
from brainmap.errors import InputError
from brainmap.features.attention.words import attention_cover
from brainmap.features.attribution.results import ClassActivationMaps
from brainmap.viz.features.attention import average_attention

NAMES = ("bed", "cat", "dog")


def cams_of(maps: np.ndarray, conditions: tuple[str, ...]) -> ClassActivationMaps:
    items = tuple(map(str, range(len(maps))))
    return ClassActivationMaps(
        maps.astype(np.float32), items, conditions, NAMES, "grad-cam", "conv8", np.zeros(maps.shape[:2], np.float32)
    )


def planted() -> ClassActivationMaps:
    maps = np.full((6, 3, 40), -1.0)
    for item in range(6):
        maps[item, item // 2, : 10 * (1 + item // 2)] = 1  # "dog" is covered most
    return cams_of(maps, ("bed", "bed", "cat", "cat", "dog", "dog"))


def test_cover_shows_each_word_with_both_sides_sorted_by_their_difference() -> None:
    found = attention_cover(planted())
    figure = viz.plot_cover(found)
    left, right = figure.axes[:2]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["bed", "cat", "dog"]
    own, others = (np.asarray(drawn.get_offsets())[:, 0] for drawn in left.collections[1:3])
    np.testing.assert_allclose(own, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(others, 0)
    np.testing.assert_allclose(np.asarray(right.images[0].get_array()), found.matrix)
    assert "p = 0.25" in left.get_title(loc="left") + left.get_title()
    assert "grad-cam at conv8" in figure.get_suptitle()


def test_two_dimensional_maps_are_averaged_over_height() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 3, 4, 48))
    sounds = SimpleNamespace(conditions=list(NAMES), rate=16_000)
    mean = average_attention(sounds, cams_of(maps, NAMES), bins=12)
    np.testing.assert_allclose(mean, maps.mean(axis=2).reshape(3, 3, 12, 4).mean(axis=3), atol=1e-6)


def test_a_word_without_a_sound_says_so_and_a_condition_that_is_no_class_is_refused() -> None:
    cams = planted()
    rows = [0, 4]
    some = cams_of(cams.maps[rows], ("bed", "dog"))
    figure = viz.plot_target_attention(SimpleNamespace(conditions=["bed", "dog"]), some, bins=10)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no sound"]
    assert np.isnan(np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)[1]).all()
    with pytest.raises(InputError, match="conditions 'cow' are none"):
        viz.plot_target_attention(SimpleNamespace(conditions=["cow", "dog"]), some)
