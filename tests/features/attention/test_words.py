import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attention.words import (
    CoverSettings,
    attention_cover,
    average_by_word,
    compute_cover,
    target_attention,
)
from brainmap.features.attribution.results import ClassActivationMaps, find_own_class

NAMES = ("bed", "cat", "dog", "six")
T = 60


def maps_of(maps: NDArray[np.floating], conditions: list[str], names: tuple[str, ...] = NAMES) -> ClassActivationMaps:
    items = tuple(f"s{i}" for i in range(len(maps)))
    logits = np.zeros(maps.shape[:2], np.float32)
    return ClassActivationMaps(maps.astype(np.float32), items, tuple(conditions), names, "cam", "conv8", logits)


def spoken(n_words: int, *, own: float, others: float, each: int = 3, seed: int = 0) -> ClassActivationMaps:
    """Bumps whose width is planted: of the word's own class, and of the other classes."""
    rng = np.random.default_rng(seed)
    names = tuple(f"word{i:02d}" for i in range(n_words))
    conditions = [name for name in names for _ in range(each)]
    t = np.arange(T)[None, None]
    is_own = np.array(conditions)[:, None] == np.array(names)
    width = np.where(is_own, own, others)[..., None] * rng.uniform(0.8, 1.25, (len(conditions), n_words, 1))
    center = rng.uniform(0.4 * T, 0.6 * T, width.shape)
    size = rng.uniform(0.1, 10, width.shape)
    return maps_of(size * np.exp(-0.5 * ((t - center) / width) ** 2), conditions, names)


def test_target_attention_is_the_mean_map_of_each_class_over_the_sounds_of_each_word() -> None:
    maps = np.random.default_rng(0).standard_normal((5, 4, T), np.float32)
    conditions = ["dog", "bed", "dog", "six", "bed"]
    with pytest.warns(BrainmapWarning, match="no exemplar of class 'cat'; its row"):
        found = target_attention(maps_of(maps, conditions))
    assert found.counts.tolist() == [2, 0, 2, 1]
    for word, rows in {"bed": [1, 4], "dog": [0, 2], "six": [3]}.items():
        np.testing.assert_allclose(found.maps[NAMES.index(word)], maps[rows].mean(0), rtol=1e-5, atol=1e-6)
    assert np.isnan(found.maps[1]).all()
    assert (found.class_names, found.method, found.layer) == (NAMES, "cam", "conv8")


def test_target_attention_of_two_dimensional_maps_keeps_height_and_width() -> None:
    maps = np.random.default_rng(0).standard_normal((4, 4, 3, 5))
    found = target_attention(maps_of(maps, list(NAMES)))
    np.testing.assert_allclose(found.maps, maps, rtol=1e-6)  # a sound a word


def test_items_may_come_in_any_order() -> None:
    cams = spoken(6, own=9, others=2)
    order = np.random.default_rng(1).permutation(len(cams.maps))
    mixed = maps_of(cams.maps[order], [cams.conditions[i] for i in order], cams.class_names)
    np.testing.assert_allclose(target_attention(mixed).maps, target_attention(cams).maps, rtol=1e-5)
    assert attention_cover(mixed).p == attention_cover(cams).p
    np.testing.assert_allclose(attention_cover(mixed).table["own"], attention_cover(cams).table["own"])


@pytest.mark.parametrize("measure", ["entropy", "area"])
def test_a_map_that_is_even_over_a_share_of_the_sound_covers_that_share(measure: str) -> None:
    for share in (6, 30, 60):
        course = np.full(T, -0.5)
        course[:share] = 2.0
        assert compute_cover(course, measure=measure) == pytest.approx(share / T)  # type: ignore[arg-type]
        assert compute_cover(7 * course, measure=measure) == pytest.approx(share / T)  # type: ignore[arg-type]
    assert compute_cover(np.full(T, -1.0), measure=measure) == 0  # type: ignore[arg-type]


def test_cover_equals_its_closed_forms() -> None:
    from scipy.stats import entropy

    maps = np.random.default_rng(0).standard_normal((3, 4, T))
    positive = np.clip(maps, 0, None)
    np.testing.assert_allclose(compute_cover(maps), np.exp(entropy(positive, axis=-1)) / T)
    t = np.arange(1001) - 500
    gauss = np.exp(-0.5 * (t / 40) ** 2)  # entropy of a normal distribution: log(sigma sqrt(2 pi e))
    assert compute_cover(gauss) == pytest.approx(40 * np.sqrt(2 * np.pi * np.exp(1)) / 1001, rel=1e-6)
    width = (abs(t) <= 40 * np.sqrt(2 * np.log(4))).sum()
    assert compute_cover(gauss, measure="area", threshold=0.25) == pytest.approx(width / 1001)
    assert compute_cover(gauss, measure="area", reference=np.array(4.0)) == 0


def test_own_attention_that_is_planted_broader_is_found_with_the_smallest_p_there_is() -> None:
    found = attention_cover(spoken(8, own=12, others=3))
    assert found.p == 2 / 2**8
    assert found.own > 2 * found.others
    assert found.difference == pytest.approx(found.own - found.others)
    assert found.effect > 3
    assert found.n_words == 8
    assert list(found.table["sounds"]) == [3] * 8
    greater = attention_cover(spoken(8, own=12, others=3), settings=CoverSettings(alternative="greater"))
    assert greater.p == 1 / 2**8
    less = attention_cover(spoken(8, own=12, others=3), settings=CoverSettings(alternative="less"))
    assert less.p == 1


def test_p_is_the_share_of_sign_flips_that_are_as_far_from_zero() -> None:
    found = attention_cover(spoken(7, own=4, others=3.5))
    difference = found.table["difference"].to_numpy()
    flips = np.array(list(itertools.product([1, -1], repeat=7))) @ difference / 7
    reached = (np.abs(flips) >= abs(difference.mean()) * (1 - 1e-12)).mean()
    assert found.p == pytest.approx(reached)


def test_maps_without_a_difference_are_called_different_at_the_nominal_rate() -> None:
    p = [attention_cover(spoken(6, own=4, others=4, seed=seed)).p for seed in range(60)]
    rejected = np.mean(np.array(p) <= 0.1)
    assert rejected <= 0.22  # three standard errors


def test_permuting_which_class_is_which_moves_the_matrix_with_it() -> None:
    cams = spoken(5, own=9, others=2)
    order = [3, 0, 4, 1, 2]
    mixed = maps_of(cams.maps[:, order], list(cams.conditions), tuple(cams.class_names[i] for i in order))
    np.testing.assert_allclose(attention_cover(mixed).matrix, attention_cover(cams).matrix[np.ix_(order, order)])


def test_a_common_scale_lets_weak_maps_cover_little() -> None:
    flat = np.ones((4, 4, T))
    flat[~np.eye(4, dtype=bool)] = 0.1  # as even as its own class's, a tenth as strong
    each = attention_cover(maps_of(flat, list(NAMES)), settings=CoverSettings(measure="area"))
    common = attention_cover(maps_of(flat, list(NAMES)), settings=CoverSettings(measure="area", scale="sound"))
    assert (each.own, each.others, each.p) == (1, 1, 1)
    assert (common.own, common.others) == (1, 0)


def test_maps_that_are_nowhere_positive_cover_nothing_or_are_left_out_and_are_counted() -> None:
    maps = np.ones((4, 4, T))
    maps[0, 1:3] = -1  # on "bed", two of the three others
    zero = attention_cover(maps_of(maps, list(NAMES)))
    left = attention_cover(maps_of(maps, list(NAMES)), settings=CoverSettings(empty="leave-out"))
    assert zero.table["others"].tolist() == pytest.approx([1 / 3, 1, 1, 1])
    assert left.table["others"].tolist() == pytest.approx([1, 1, 1, 1])
    assert zero.table["others_empty"].tolist() == pytest.approx([2 / 3, 0, 0, 0])
    maps[0, 0] = -1  # and its own: nothing is left to compare
    with pytest.warns(BrainmapWarning, match="'bed'; it takes no part"):
        left = attention_cover(maps_of(maps, list(NAMES)), settings=CoverSettings(empty="leave-out"))
    assert left.n_words == 3


def test_two_dimensional_maps_have_a_cover_too() -> None:
    maps = np.full((2, 2, 4, 5), -1.0)
    maps[:, :, :2, :] = 1
    found = attention_cover(maps_of(maps, ["bed", "cat"], ("bed", "cat")))
    np.testing.assert_allclose(found.covers, 0.5)


def test_means_by_word_equal_pandas() -> None:
    import pandas as pd

    rng = np.random.default_rng(0)
    values = np.where(rng.random((9, 3)) < 0.2, np.nan, rng.standard_normal((9, 3)))
    own = np.array([2, 0, 0, 2, 1, 1, 0, 2, 1])
    np.testing.assert_allclose(average_by_word(values, own), pd.DataFrame(values).groupby(own).mean())


def test_more_words_than_can_be_enumerated_take_a_generator() -> None:
    cams = spoken(21, own=9, others=2, each=1)
    with pytest.raises(InputError, match="give rng"):
        attention_cover(cams)
    assert attention_cover(cams, rng=np.random.default_rng(0)).p == pytest.approx(2e-5, rel=0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"measure": "entropie"}, "did you mean 'entropy'"),
        ({"scale": "sounds"}, "did you mean 'sound'"),
        ({"scale": "sound"}, "'entropy' knows no common scale"),
        ({"empty": "nan"}, "expected one of 'zero', 'leave-out'"),
        ({"threshold": 0.0}, "expected a threshold above 0 and at most 1, as a share of the maximum, got 0.0"),
        ({"alternative": "more"}, "expected one of 'greater'"),
    ],
)
def test_a_mistake_gets_one_line(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        attention_cover(spoken(3, own=9, others=2), settings=CoverSettings(**given))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_conditions_that_are_no_classes_and_lonely_words_are_refused() -> None:
    maps = np.ones((2, 4, T))
    with pytest.raises(InputError, match=r"conditions 'dogs' are none of the classes .*; did you mean 'dog'"):
        target_attention(maps_of(maps, ["dogs", "cat"]))
    with pytest.raises(InputError, match="got them for 1 of 4 words"):
        attention_cover(maps_of(maps, ["dog", "dog"]))
    maps[0, 0, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        attention_cover(maps_of(maps, ["dog", "cat"]))
    assert find_own_class(["cat"], NAMES).tolist() == [1]


def test_the_names_are_at_the_front_door() -> None:
    assert features.target_attention is target_attention
    assert features.attention_cover is attention_cover
